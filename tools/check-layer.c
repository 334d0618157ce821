/* SPDX-License-Identifier: Apache-2.0 */
/* check-layer.c - a layer file from the outside in, see check-layer.h.
 *
 * A stage that cannot be opened ends the way in; what lies outside of it was checked. */
#include "tools/check-layer.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/digest.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/chain.h"
#include "tools/check-index.h"
#include "tools/spans.h"
#include "zfile/zfile.h"

/* The digest of the blob, computed beside the rest. */
struct digest_job {
	struct job job; /* first: the pool hands it back */
	struct source *blob;
	const char *expected; /* what the config says, NULL: nothing */
	char digest[DIGEST_ANY_TEXT];
	int r;
	struct err e;
};

static void run_digest(struct job *job)
{
	struct digest_job *d = (struct digest_job *)job;

	d->r = digest_source_like(d->expected, d->blob, d->digest, &d->e);
}

static void check_digest(const struct digest_job *d, struct findings *f)
{
	if (d->r < 0)
		findings_add(f, FINDING_ERROR, "computing its digest: %s", d->e.msg);
	else if (strcmp(d->digest, d->expected) != 0)
		findings_add(f, FINDING_ERROR, "its digest is %s, the config says %s", d->digest,
			     d->expected);
}

/* Where the bytes of a layer are read from. */
struct content {
	struct source *source;
	uint32_t block_size; /* of the ZFile, 0: none */
	uint64_t file_size; /* what the layer counts in the progress line */
	uint64_t reported; /* of that */
	struct findings *findings;
};

/* Counts in bytes of the file how far reading has got in what it holds. */
static void report_progress(struct content *c, uint64_t position)
{
	double share = (double)position / (double)c->source->size;
	uint64_t reached = min_u64((uint64_t)(share * (double)c->file_size), c->file_size);

	if (reached > c->reported) {
		progress_add(&c->findings->progress, reached - c->reported);
		c->reported = reached;
	}
}

/* Tells which blocks of a span are bad. */
static void find_bad_blocks(const struct content *c, const struct span *span)
{
	uint64_t errors = c->findings->errors, off;

	for (off = span->off; off < span->off + span->n; off += c->block_size) {
		size_t n = (size_t)min_u64(c->block_size, span->off + span->n - off);
		struct err e;

		if (source_pread(c->source, span->buffer, n, off, &e) < 0)
			findings_add(c->findings, FINDING_ERROR, "%s", e.msg);
	}
	if (c->findings->errors == errors) /* a fault that comes and goes */
		findings_add(c->findings, FINDING_ERROR, "%s", span->err.msg);
}

static int check_span(void *arg, const struct span *span, struct err *e)
{
	struct content *c = arg;

	(void)e;
	if (span->r < 0 && c->block_size > 0)
		find_bad_blocks(c, span);
	else if (span->r < 0)
		findings_add(c->findings, FINDING_ERROR, "%s", span->err.msg);
	report_progress(c, span->off + span->n);
	return 0;
}

static void check_content(struct chain *c, struct workers *pool, struct findings *f)
{
	struct content content = { .source = c->top,
				   .block_size = c->in_zfile ? c->zfile.block_size : 0,
				   .file_size = c->file_size,
				   .findings = f };
	struct err e;

	if (spans_read(c->top, pool, check_span, &content, &e) < 0)
		findings_add(f, FINDING_ERROR, "%s", e.msg);
}

/* Goes as far in as it can.  False when the payload was not reached. */
static bool check_wrapping(struct chain *c, struct findings *f)
{
	struct err e;

	if (chain_enter_tar(c, &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return false;
	}
	if (c->in_tar && !c->tar.end_blocks)
		findings_add(f, FINDING_WARNING, "tar: the two zero blocks at the end are missing");
	if (chain_enter_zfile(c, &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return false;
	}
	if (c->in_zfile && zfile_check_trailer(c->top, &e) < 0)
		findings_add(f, FINDING_ERROR, "%s", e.msg);
	if (c->in_zfile && zfile_count_large(c->top) > 0)
		findings_add(f, FINDING_WARNING,
			     "%" PRIu64 " blocks of 64 KiB do not shrink: overlaybd itself cannot "
			     "read them",
			     zfile_count_large(c->top));
	return true;
}

static bool holds_layer(struct chain *c, bool must, struct findings *f)
{
	struct err e;
	int r = chain_find_layer(c, &e);

	if (r == 0)
		return true;
	if (r > 0 && c->in_zfile && !must)
		findings_add(f, FINDING_WARNING,
			     "it holds no layer (no LSMT magic): only its wrapping was checked");
	else
		findings_add(f, FINDING_ERROR, "%s", e.msg);
	return false;
}

/* Everything but the digest.  The chain is at the file's bytes. */
static bool check_stages(struct chain *c, bool skip_content, size_t number, bool must_hold_layer,
			 struct workers *pool, struct findings *f, struct layer *out)
{
	uint64_t errors = f->errors;
	struct err e;

	if (!check_wrapping(c, f))
		return false;
	if (c->in_zfile || !skip_content)
		check_content(c, pool, f);
	if (!holds_layer(c, must_hold_layer, f))
		return false;
	check_index(c->top, f);
	if (f->errors > errors)
		return false;
	if (layer_open(c->top, number, out, &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return false;
	}
	c->top = NULL; /* the layer's now */
	if (out->entries > FORMAT_REFERENCE_ENTRIES)
		findings_add(f, FINDING_WARNING,
			     "%" PRIu64 " mappings: overlaybd itself reads no layer of more than "
			     "%" PRIu64,
			     out->entries, FORMAT_REFERENCE_ENTRIES);
	return true;
}

bool check_layer(const struct layer_claim *claim, size_t number, bool must_hold_layer,
		 struct workers *pool, struct findings *f, struct layer *out)
{
	struct digest_job digest = { .job.run = run_digest, .expected = claim->digest };
	struct chain c;
	struct err e;
	bool opened;

	if (claim->bytes) {
		chain_begin(claim->bytes, &c);
	} else if (chain_open(claim->file, &c, &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return false;
	}
	if (claim->size != 0 && claim->size != c.file_size)
		findings_add(f, FINDING_WARNING,
			     "its size is %" PRIu64 ", the config says %" PRIu64, c.file_size,
			     claim->size);
	digest.blob = c.top;
	if (claim->digest)
		workers_submit(pool, &digest.job);
	/* The digest reads all bytes: what has no checksums need not be read twice. */
	opened = check_stages(&c, claim->digest != NULL, number, must_hold_layer, pool, f, out);
	if (claim->digest) {
		workers_wait(pool, &digest.job);
		check_digest(&digest, f);
	}
	chain_close(&c);
	return opened;
}
