/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.c - manifests and indexes, see manifest.h.
 *
 * A document is an index when it has `manifests`, an image when it has `layers`; one with both, or
 * with a media type that says otherwise, could mean two things to two readers and is refused. */
#include "fetch/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/answer.h"

#define MARK "containerd.io/snapshot/overlaybd/"
#define NATIVE "application/vnd.containerd.overlaybd.native.v1+json"

enum {
	LAYERS_MAX = 65534, /* one less than an image may have: there may be an upper on top */
	WORD = 32, /* of a platform, with the NUL; a longer one matches nothing */
};

/* ---- images ---- */

static int read_digest(const char *text, char out[DIGEST_ANY_TEXT], struct err *e)
{
	if (!text)
		return err_set(e, EINVAL, "has no digest");
	if (!digest_is_any(text))
		return err_set(e, EINVAL, "digest '%.96s' is not " DIGEST_FORM, text);
	digest_copy(out, text);
	return 0;
}

/* A decimal number from 1 to 2^63 - 1. */
static bool read_size(const char *text, uint64_t *out)
{
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 19 || text[n] != '\0')
		return false;
	*out = strtoull(text, NULL, 10);
	return *out > 0 && *out <= INT64_MAX;
}

static int read_layer(const json_t *descriptor, struct manifest_layer *out, struct err *e)
{
	const json_t *notes = json_object_get(descriptor, "annotations");
	const json_t *size = json_object_get(descriptor, "size");
	const char *digest = answer_text(notes, MARK "blob-digest");
	const char *text = answer_text(notes, MARK "blob-size"), *own;
	int r = read_digest(digest, out->digest, e);

	if (r < 0)
		return r;
	if (text) {
		if (!read_size(text, &out->size))
			return err_set(e, EINVAL, "size '%.32s' is not a number from 1 to 2^63-1",
				       text);
		return 0;
	}
	own = answer_text(descriptor, "digest");
	if (!own || strcmp(own, digest) != 0 || json_integer_value(size) <= 0)
		return err_set(e, EINVAL, "its blob has no size");
	out->size = (uint64_t)json_integer_value(size);
	return 0;
}

static bool is_turbo(const json_t *notes)
{
	return json_object_get(notes, MARK "turbo-oci/target-digest") ||
	       json_object_get(notes, MARK "fastoci/target-digest");
}

static int add_layer(struct manifest *m, const json_t *descriptor, struct err *e)
{
	const json_t *notes = json_object_get(descriptor, "annotations");
	const char *acceleration = answer_text(notes, MARK "acceleration-layer");

	if (is_turbo(notes))
		return err_set(e, EINVAL, "TurboOCI layers are not in this version");
	if (!acceleration || strcmp(acceleration, "yes") != 0)
		return read_layer(descriptor, &m->layers[m->layer_count++], e);
	if (m->acceleration.digest[0] != '\0')
		return err_set(e, EINVAL, "a second acceleration layer");
	return read_layer(descriptor, &m->acceleration, e);
}

static int read_image(const json_t *layers, struct manifest *m, struct err *e)
{
	static const char not_ours[] = "not an overlaybd image";
	size_t n = json_array_size(layers), i;
	const json_t *descriptor;
	int r;

	if (n > LAYERS_MAX)
		return err_set(e, EINVAL, "%zu layers, more than the limit of %d", n, LAYERS_MAX);
	m->layers = calloc(n + 1, sizeof *m->layers);
	if (!m->layers)
		return err_set(e, ENOMEM, "out of memory");
	json_array_foreach(layers, i, descriptor)
	{
		const json_t *notes = json_object_get(descriptor, "annotations");

		if (!answer_text(notes, MARK "blob-digest"))
			return err_set(e, EINVAL,
				       "%s: layer %zu has no overlaybd annotation; convert it "
				       "first",
				       not_ours, i);
		r = add_layer(m, descriptor, e);
		if (r < 0)
			return err_wrap(e, r, "layer %zu", i);
	}
	return m->layer_count > 0 ? 0 : err_set(e, EINVAL, "%s: it has no layer", not_ours);
}

/* ---- indexes ---- */

struct platform {
	char os[WORD], arch[WORD], variant[WORD];
};

/* "os/arch[/variant]" */
static bool parse_platform(const char *text, struct platform *p)
{
	int end = 0;

	*p = (struct platform){ 0 };
	if (sscanf(text, "%31[^/]/%31[^/]%n", p->os, p->arch, &end) != 2)
		return false;
	if (text[end] == '\0')
		return true;
	if (text[end] != '/')
		return false;
	text += end + 1;
	return sscanf(text, "%31[^/]%n", p->variant, &end) == 1 && text[end] == '\0';
}

/* A variant that an architecture has anyway is as good as none. */
static const char *variant_of(const char *arch, const char *variant)
{
	static const struct {
		const char *arch, *variant;
	} usual[] = { { "arm64", "v8" }, { "arm", "v7" }, { "amd64", "v1" } };
	size_t i;

	for (i = 0; i < sizeof usual / sizeof *usual; i++)
		if (strcmp(arch, usual[i].arch) == 0 && strcmp(variant, usual[i].variant) == 0)
			return "";
	return variant;
}

static const char *word(const json_t *object, const char *key)
{
	const char *text = answer_text(object, key);

	return text ? text : "";
}

static bool is_overlaybd(const json_t *entry)
{
	json_t *notes = json_object_get(entry, "annotations");
	const char *key;
	json_t *value;

	if (strcmp(word(entry, "artifactType"), NATIVE) == 0)
		return true;
	json_object_foreach(notes, key,
			    value) if (strncmp(key, MARK, strlen(MARK)) == 0) return true;
	return false;
}

/* How well an entry of an index fits: 0 not at all, 1 it names no platform, 2 its platform is the
 * one that is wanted, 3 and it says that it is of our kind. */
static int fit(const json_t *entry, const struct platform *want)
{
	const json_t *has = json_object_get(entry, "platform");
	const char *arch = word(has, "architecture");

	if (!has || json_is_null(has))
		return 1;
	if (strcmp(word(has, "os"), want->os) != 0 || strcmp(arch, want->arch) != 0 ||
	    strcmp(variant_of(arch, word(has, "variant")), variant_of(arch, want->variant)) != 0)
		return 0;
	return is_overlaybd(entry) ? 3 : 2;
}

/* Appends "os/arch[/variant]" to a list, unless the list has it, or no room, or the entry is no
 * image (build attestations say unknown/unknown). */
static void list_platform(const json_t *entry, char *list, size_t room)
{
	const json_t *has = json_object_get(entry, "platform");
	const char *variant = word(has, "variant"), *at;
	char text[sizeof "//" + WORD + WORD + WORD];
	size_t used = strlen(list), n;

	n = (size_t)snprintf(text, sizeof text, "%.*s/%.*s%s%.*s", WORD, word(has, "os"), WORD,
			     word(has, "architecture"), variant[0] != '\0' ? "/" : "", WORD,
			     variant);
	if (n == 1 || strcmp(text, "unknown/unknown") == 0 || n + 3 > room - used)
		return;
	for (at = list; (at = strstr(at, text)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == '\0' || at[n] == ','))
			return;
	snprintf(list + used, room - used, "%s%s", used > 0 ? ", " : "", text);
}

static int choose(const json_t *entries, const char *platform, char chosen[DIGEST_ANY_TEXT],
		  struct err *e)
{
	char list[600] = "";
	struct platform want;
	const json_t *entry;
	size_t i, best = 0;
	int most = 0, r;

	if (!parse_platform(platform, &want))
		return err_set(e, EINVAL, "platform '%.100s' is not of the form os/arch[/variant]",
			       platform);
	json_array_foreach(entries, i, entry)
	{
		r = fit(entry, &want);
		if (r > most) {
			most = r;
			best = i;
		}
		list_platform(entry, list, sizeof list);
	}
	if (most == 0)
		return err_set(e, EINVAL, "no manifest for platform %s; there is: %s%s", platform,
			       list[0] != '\0' ? list : "none",
			       list[0] != '\0' ? "; choose one with platform=" : "");
	r = read_digest(answer_text(json_array_get(entries, best), "digest"), chosen, e);
	return r < 0 ? err_wrap(e, r, "manifest %zu of the index", best) : 0;
}

const char *manifest_platform(void)
{
#if defined __x86_64__
	return "linux/amd64";
#elif defined __i386__
	return "linux/386";
#elif defined __aarch64__
	return "linux/arm64";
#elif defined __arm__ && __ARM_ARCH >= 7
	return "linux/arm/v7";
#elif defined __arm__
	return "linux/arm/v6";
#elif defined __powerpc64__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return "linux/ppc64le";
#elif defined __s390x__
	return "linux/s390x";
#elif defined __riscv && __riscv_xlen == 64
	return "linux/riscv64";
#elif defined __loongarch64
	return "linux/loong64";
#else
	return "linux/unknown";
#endif
}

/* ---- the document ---- */

static bool says_index(const char *type)
{
	return strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
	       strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0;
}

static bool says_image(const char *type)
{
	return strcmp(type, "application/vnd.oci.image.manifest.v1+json") == 0 ||
	       strcmp(type, "application/vnd.docker.distribution.manifest.v2+json") == 0;
}

static int read_document(const json_t *root, const char *platform, struct manifest *m,
			 char chosen[DIGEST_ANY_TEXT], struct err *e)
{
	const json_t *layers = json_object_get(root, "layers");
	const json_t *entries = json_object_get(root, "manifests");
	const char *type = word(root, "mediaType");
	int r;

	if (json_object_get(root, "fsLayers"))
		return err_set(e, EINVAL, "docker's schema 1 is not supported");
	if ((layers && entries) || (layers && says_index(type)) || (entries && says_image(type)))
		return err_set(e, EINVAL, "both an image and an index");
	if (json_is_array(layers))
		return read_image(layers, m, e); /* MANIFEST_IMAGE is 0 */
	if (!json_is_array(entries))
		return err_set(e, EINVAL,
			       "neither an image (a list 'layers') nor an index (a list "
			       "'manifests')");
	r = choose(entries, platform ? platform : manifest_platform(), chosen, e);
	return r < 0 ? r : MANIFEST_INDEX;
}

int manifest_parse(const char *text, size_t n, const char *platform, struct manifest *out,
		   char chosen[DIGEST_ANY_TEXT], struct err *e)
{
	struct manifest m = { 0 };
	json_t *root;
	int r = answer_parse(text, n, ANSWER_PUBLIC, &root, e);

	*out = m;
	if (r < 0)
		return r;
	r = read_document(root, platform, &m, chosen, e);
	json_decref(root);
	if (r < 0)
		manifest_release(&m);
	*out = m;
	return r;
}

void manifest_release(struct manifest *m)
{
	free(m->layers);
	*m = (struct manifest){ 0 };
}
