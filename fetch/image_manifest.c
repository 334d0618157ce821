/* SPDX-License-Identifier: Apache-2.0 */
/* image_manifest.c - writing an image's config and manifest, see image_manifest.h.
 *
 * All text is checked before it reaches jansson: what fails there is out of memory. */
#include "fetch/image_manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/manifest.h"

#define CONFIG_TYPE "application/vnd.oci.image.config.v1+json"
#define LAYER_TYPE "application/vnd.oci.image.layer.v1.tar"
#define OVERLAYBD "containerd.io/snapshot/overlaybd/"
#define WORD "abcdefghijklmnopqrstuvwxyz0123456789._-"

static const uint64_t gib = 1024 * 1024 * 1024;

struct platform {
	char *os, *architecture, *variant; /* the last may be NULL */
};

static bool is_word(const char *text)
{
	return text[0] != '\0' && text[strspn(text, WORD)] == '\0';
}

/* Cuts `text` into the parts of a platform. */
static bool split_platform(char *text, struct platform *out)
{
	out->os = strsep(&text, "/");
	out->architecture = strsep(&text, "/");
	out->variant = strsep(&text, "/");
	return !text && is_word(out->os) && out->architecture && is_word(out->architecture) &&
	       (!out->variant || is_word(out->variant));
}

static int check_layers(const struct image_manifest_layer *layers, size_t count, struct err *e)
{
	size_t i;

	if (count == 0)
		return err_set(e, EINVAL, "an image needs a layer");
	for (i = 0; i < count; i++) {
		if (!digest_is_valid(layers[i].digest))
			return err_set(e, EINVAL, "layer %zu: '%.*s' is no sha256 digest", i,
				       DIGEST_TEXT, layers[i].digest);
		if (layers[i].size == 0 || layers[i].size > INT64_MAX)
			return err_set(e, EINVAL, "layer %zu: a blob of %" PRIu64 " bytes", i,
				       layers[i].size);
	}
	return 0;
}

/* Takes over `o`, NULL when it could not be made.  Into memory that is large enough: json_dumps
 * leaves a key out when its own runs out. */
static int write_document(json_t *o, struct image_document *out, struct err *e)
{
	size_t n = json_dumpb(o, NULL, 0, JSON_COMPACT);

	out->text = n > 0 ? malloc(n + 1) : NULL;
	out->n = out->text ? json_dumpb(o, out->text, n, JSON_COMPACT) : 0;
	json_decref(o);
	if (n == 0 || out->n != n)
		return err_set(e, ENOMEM, "out of memory");
	out->text[n] = '\0';
	return digest_bytes(out->text, n, out->digest, e);
}

/* Sets a key that may have no value (NULL).  json_pack's own "s*" takes running out of memory for
 * that. */
static int set_optional(json_t *o, const char *key, const char *value)
{
	return value ? json_object_set_new(o, key, json_string(value)) : 0;
}

/* `o`, or NULL when putting it together failed. */
static json_t *unless(int failed, json_t *o)
{
	if (!failed)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *digests_json(const struct image_manifest_layer *layers, size_t count)
{
	json_t *list = json_array();
	int r = 0;
	size_t i;

	for (i = 0; i < count; i++)
		r |= json_array_append_new(list, json_string(layers[i].digest));
	return unless(r, list);
}

static int write_config(const struct image_manifest_layer *layers, size_t count,
			const struct platform *platform, struct image_document *out, struct err *e)
{
	json_t *o = json_pack("{s:s, s:s, s:{s:s, s:o}}", "architecture", platform->architecture,
			      "os", platform->os, "rootfs", "type", "layers", "diff_ids",
			      digests_json(layers, count));

	return write_document(unless(set_optional(o, "variant", platform->variant), o), out, e);
}

static json_t *annotations_json(const struct image_manifest_layer *layer, const char *fs_type)
{
	char size[sizeof "9223372036854775807"], vsize[sizeof size];
	json_t *o;
	int r;

	snprintf(size, sizeof size, "%" PRIu64, layer->size);
	/* The reference counts the disk in whole GiB. */
	snprintf(vsize, sizeof vsize, "%" PRIu64, layer->vsize / gib + (layer->vsize % gib > 0));
	o = json_pack("{s:s, s:s, s:s}", OVERLAYBD "blob-digest", layer->digest,
		      OVERLAYBD "blob-size", size, OVERLAYBD "version", "0.1.0");
	r = set_optional(o, OVERLAYBD "blob-fs-type", layer->acceleration ? NULL : fs_type);
	r |= set_optional(o, OVERLAYBD "acceleration-layer", layer->acceleration ? "yes" : NULL);
	r |= set_optional(o, OVERLAYBD "vsize", layer->vsize > 0 ? vsize : NULL);
	return unless(r, o);
}

static json_t *layers_json(const struct image_manifest_layer *layers, size_t count,
			   const char *fs_type)
{
	json_t *list = json_array();
	int r = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		json_t *o = json_pack("{s:s, s:s, s:I, s:o}", "mediaType", LAYER_TYPE, "digest",
				      layers[i].digest, "size", (json_int_t)layers[i].size,
				      "annotations", annotations_json(&layers[i], fs_type));

		r |= json_array_append_new(list, o);
	}
	return unless(r, list);
}

static int write_manifest(const struct image_manifest_layer *layers, size_t count,
			  const char *fs_type, struct image_manifest *m, struct err *e)
{
	int r = write_document(json_pack("{s:i, s:s, s:{s:s, s:s, s:I}, s:o}", "schemaVersion", 2,
					 "mediaType", IMAGE_MANIFEST_TYPE, "config", "mediaType",
					 CONFIG_TYPE, "digest", m->config.digest, "size",
					 (json_int_t)m->config.n, "layers",
					 layers_json(layers, count, fs_type)),
			       &m->manifest, e);

	if (r == 0 && m->manifest.n > MANIFEST_MAX)
		r = err_set(e, EFBIG,
			    "the manifest of %zu layers has %zu bytes, registries take %d", count,
			    m->manifest.n, MANIFEST_MAX);
	return r;
}

int image_manifest_build(const struct image_manifest_layer *layers, size_t count,
			 const char *platform, const char *fs_type, struct image_manifest *out,
			 struct err *e)
{
	AUTO_FREE char *parts = strdup(platform);
	struct image_manifest m = { 0 };
	struct platform p;
	int r;

	if (!parts)
		return err_set(e, ENOMEM, "out of memory");
	if (!split_platform(parts, &p))
		return err_set(e, EINVAL, "platform '%s' is not OS/ARCHITECTURE[/VARIANT]",
			       platform);
	if (fs_type && !is_word(fs_type))
		return err_set(e, EINVAL, "'%s' is no name of a file system", fs_type);
	r = check_layers(layers, count, e);
	if (r == 0)
		r = write_config(layers, count, &p, &m.config, e);
	if (r == 0)
		r = write_manifest(layers, count, fs_type, &m, e);
	if (r < 0) {
		image_manifest_release(&m);
		return r;
	}
	*out = m;
	return 0;
}

void image_manifest_release(struct image_manifest *m)
{
	free(m->config.text);
	free(m->manifest.text);
	*m = (struct image_manifest){ 0 };
}
