/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-push.c - `overlaybd push`: makes an image of layers in a registry. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/chain.h"
#include "core/layer.h"
#include "core/lowers.h"
#include "fetch/image_manifest.h"
#include "fetch/push.h"
#include "prefetch/trace_import.h"
#include "tools/progress.h"
#include "tools/settings.h"
#include "tools/show.h"
#include "tools/tool.h"
#include "zfile/tar.h"

enum { OPT_ACCELERATION, OPT_FS_TYPE, OPT_PLATFORM, OPT_SETTINGS };

static const struct tool_option options[] = {
	[OPT_ACCELERATION] = { "acceleration", 0, "FILE",
			       "add a trace for overlaybd's own daemon, made by trace export" },
	[OPT_FS_TYPE] = { "fs-type", 0, "NAME", "note the file system on the disk (ext4)" },
	[OPT_PLATFORM] = { "platform", 0, "OS/ARCH",
			   "what the image is for (default: this machine)" },
	[OPT_SETTINGS] = SETTINGS_REACH,
};

/* One layer on its way. */
struct parcel {
	const char *name; /* of its file; the digest of a remote one */
	struct source *bytes;
	struct image_manifest_layer described;
};

struct push {
	struct fetcher *fetcher;
	struct image_config *target; /* reference and settings */
	struct reference ref;
	struct remote *remote;
	struct image_config *config; /* that names the layers, NULL: files do */
	struct lowers lowers; /* of it */
	void *acceleration; /* the acceleration layer's bytes, NULL: none */
	struct parcel *parcels;
	size_t count;
	struct progress progress;
};

/* ---- what is to be pushed ---- */

/* The size of the disk, as the layer's trailer says; and that it is a layer at all. */
static int read_layer(const char *path, uint64_t *virtual_size, struct err *e)
{
	struct format_header trailer;
	struct chain c;
	int r = chain_open(path, &c, e);

	if (r < 0)
		return r;
	r = chain_enter_layer(&c, e);
	if (r == 0)
		r = layer_read_trailer(c.top, NULL, &trailer, e);
	if (r == 0)
		*virtual_size = trailer.virtual_size;
	chain_close(&c);
	return r;
}

/* Opens the file of a layer and computes its digest. */
static int take_file(struct parcel *p, const char *path, struct err *e)
{
	int r = read_layer(path, &p->described.vsize, e);

	p->name = path;
	if (r == 0)
		r = source_open_file(path, &p->bytes, e);
	if (r == 0)
		r = digest_source(p->bytes, p->described.digest, e);
	if (r == 0)
		p->described.size = p->bytes->size;
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

static int take_files(struct push *x, char **paths, size_t count, struct err *e)
{
	int r = 0;

	for (; r == 0 && x->count < count; x->count++)
		r = take_file(&x->parcels[x->count], paths[x->count], e);
	return r;
}

static int compare_digest(const char *expected, struct source *bytes, struct err *e)
{
	char digest[DIGEST_ANY_TEXT];
	int r = digest_source_like(expected, bytes, digest, e);

	if (r < 0 || strcmp(digest, expected) == 0)
		return r;
	return err_set(e, EBADMSG, "its digest is %s, the config says %s", digest, expected);
}

/* A layer of a config: a file, or a blob of another repository that goes from there to here. */
static int take_lower(struct push *x, size_t i, struct err *e)
{
	struct parcel *p = &x->parcels[i];
	struct stats *stats;
	int r = lowers_open_layer(&x->lowers, i, &p->bytes, &p->name, &stats, e);

	if (r < 0)
		return p->name ? err_wrap(e, r, "%s: layer %zu (%s)", x->config->path, i, p->name)
			       : r;
	p->described.size = p->bytes->size;
	if (p->name == x->lowers.list[i].digest && digest_is_valid(p->name)) {
		memcpy(p->described.digest, p->name, DIGEST_TEXT);
		return 0;
	}
	if (p->name != x->lowers.list[i].digest)
		r = read_layer(p->name, &p->described.vsize, e);
	if (r == 0)
		r = digest_source(p->bytes, p->described.digest, e);
	if (r == 0 && x->lowers.list[i].digest)
		r = compare_digest(x->lowers.list[i].digest, p->bytes, e);
	return r < 0 ? err_wrap(e, r, "%s: layer %zu (%s)", x->config->path, i, p->name) : 0;
}

static int take_config(struct push *x, const char *path, const struct config_options *settings,
		       struct err *e)
{
	int r = config_load(path, settings, &x->config, e);

	if (r < 0)
		return r;
	if (x->config->upper_data)
		return err_set(e, EINVAL, "%s: it has a writable layer: commit that first", path);
	/* With an engine of its own: ours waits for these bytes while it sends them. */
	r = lowers_open(x->config, NULL, &x->lowers, e);
	if (r < 0)
		return r;
	free(x->parcels);
	x->parcels = calloc(x->lowers.count + 1, sizeof *x->parcels);
	if (!x->parcels)
		return err_set(e, ENOMEM, "out of memory");
	for (; r == 0 && x->count < x->lowers.count; x->count++)
		r = take_lower(x, x->count, e);
	lowers_opened(&x->lowers);
	return r;
}

/* One operand may be a config; layers may be any number. */
static int take_all(struct push *x, const struct tool_args *args, const struct settings *settings,
		    struct err *e)
{
	size_t count = args->operand_count - 1;
	int is_layer = count == 1 ? chain_is_layer(args->operands[0], e) : 1;

	if (is_layer < 0)
		return err_wrap(e, is_layer, "%s", args->operands[0]);
	x->parcels = calloc(count + 1, sizeof *x->parcels);
	if (!x->parcels)
		return err_set(e, ENOMEM, "out of memory");
	return is_layer ? take_files(x, args->operands, count, e)
			: take_config(x, args->operands[0], &settings->options, e);
}

/* The topmost layer, which is none of the disk's: an archive with a trace. */
static int take_acceleration(struct push *x, const char *path, struct err *e)
{
	struct parcel *p, *grown;
	AUTO_FREE char *trace = NULL;
	size_t n, packed;
	int r = io_read_file(path, TRACE_IMPORT_MAX, &trace, &n, e);

	if (r < 0)
		return err_wrap(e, r, "%s", path);
	if (trace_form_of(trace, n) != TRACE_FORM_LAYERS)
		return err_set(e, EINVAL,
			       "%s: not a trace of overlaybd's own form: overlaybd trace export "
			       "makes one",
			       path);
	grown = reallocarray(x->parcels, x->count + 1, sizeof *grown);
	if (!grown)
		return err_set(e, ENOMEM, "out of memory");
	x->parcels = grown;
	p = &grown[x->count];
	*p = (struct parcel){ .name = path, .described.acceleration = true };
	r = tar_pack("trace", trace, n, &x->acceleration, &packed, e);
	if (r == 0)
		r = source_open_memory(x->acceleration, packed, &p->bytes, e);
	if (r < 0)
		return r;
	x->count++;
	p->described.size = packed;
	return digest_source(p->bytes, p->described.digest, e);
}

/* ---- pushing it ---- */

static int open_target(struct push *x, const char *reference, const struct settings *settings,
		       struct err *e)
{
	int r = config_from_image(reference, &settings->options, &x->target, e);

	if (r == 0)
		r = reference_parse(reference, &x->ref, e);
	if (r == 0 && !x->ref.tag)
		r = err_set(e, EINVAL, "%s: push to a tag: the digest comes out of it", reference);
	if (r == 0)
		r = remote_open(x->fetcher, &x->target->fetch, &x->ref, NULL, true, &x->remote, e);
	return r;
}

static int push_layers(struct push *x, struct err *e)
{
	uint64_t total = 0;
	size_t i;
	int r;

	for (i = 0; i < x->count; i++)
		total += x->parcels[i].described.size;
	progress_init(&x->progress, "pushing", total);
	for (i = 0; i < x->count; i++) {
		const struct parcel *p = &x->parcels[i];

		r = push_blob(x->remote, p->described.digest, p->bytes, e);
		progress_clear(&x->progress);
		if (r < 0)
			return err_wrap(e, r, "%s", p->name);
		show_line(stdout, "%s %s (%" PRIu64 " bytes)%s", p->described.digest, p->name,
			  p->described.size, r > 0 ? ", was there" : "");
		progress_add(&x->progress, p->described.size);
	}
	progress_clear(&x->progress);
	return 0;
}

static int push_document(struct push *x, const struct image_document *d, struct err *e)
{
	struct source *bytes;
	int r = source_open_memory(d->text, d->n, &bytes, e);

	if (r < 0)
		return r;
	r = push_blob(x->remote, d->digest, bytes, e);
	source_close(bytes);
	return r;
}

static int push_manifests(struct push *x, const char *fs_type, struct err *e)
{
	const char *platform = x->target->fetch.platform;
	struct image_manifest_layer *layers = calloc(x->count + 1, sizeof *layers);
	struct image_manifest m = { 0 };
	size_t i;
	int r;

	if (!layers)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; i < x->count; i++)
		layers[i] = x->parcels[i].described;
	r = image_manifest_build(layers, x->count, platform ? platform : manifest_platform(),
				 fs_type, &m, e);
	free(layers);
	if (r == 0)
		r = push_document(x, &m.config, e);
	if (r >= 0)
		r = push_manifest(x->remote, x->ref.tag, IMAGE_MANIFEST_TYPE, m.manifest.text,
				  m.manifest.n, e);
	if (r == 0)
		show_line(stdout, "%s %s", m.manifest.digest, x->ref.text);
	image_manifest_release(&m);
	return r;
}

static void close_all(struct push *x)
{
	size_t i;

	lowers_shut(&x->lowers);
	for (i = 0; i < x->count; i++)
		source_close(x->parcels[i].bytes);
	free(x->parcels);
	free(x->acceleration);
	lowers_close(&x->lowers);
	config_free(x->config);
	remote_close(x->remote);
	reference_release(&x->ref);
	config_free(x->target);
	fetcher_close(x->fetcher);
}

static int run(const struct tool_args *args, struct err *e)
{
	const char *reference = args->operands[args->operand_count - 1];
	struct push x = { 0 };
	struct settings settings;
	int r;

	settings_take(&cmd_push, args, &settings);
	r = fetcher_open(&x.fetcher, e);
	if (r == 0)
		r = open_target(&x, reference, &settings, e);
	if (r == 0)
		r = take_all(&x, args, &settings, e);
	if (r == 0 && args->values[OPT_ACCELERATION])
		r = take_acceleration(&x, args->values[OPT_ACCELERATION], e);
	if (r == 0) {
		r = push_layers(&x, e);
		if (r == 0)
			r = push_manifests(&x, args->values[OPT_FS_TYPE], e);
		if (r < 0)
			(void)err_wrap(e, r, "%s", x.ref.text);
	}
	close_all(&x);
	return r;
}

const struct tool_command cmd_push = {
	.name = "push",
	.operand = "CONFIG|LAYER... REF",
	.min_operands = 2,
	.max_operands = 65536,
	.summary = "Upload layers to a registry, and make an image of them",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.changes_last = true,
	.run = run,
};
