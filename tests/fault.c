/* SPDX-License-Identifier: Apache-2.0 */
/* fault.c - the failing source and sink, see fault.h. */
#include "tests/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/le.h"

struct fault_source {
	struct source source;
	struct source *below;
	struct fault *fault;
};

struct fault_sink {
	struct sink sink;
	struct sink *below;
	struct fault *fault;
};

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

/* Counts a call; -EIO when it is the one. */
static int count(struct fault *f, struct err *e)
{
	uint64_t call = atomic_fetch_add(&f->calls, 1);

	if (call != f->fail_at)
		return 0;
	f->fired = true;
	return err_set(e, EIO, "injected fault at call %" PRIu64, call);
}

static int fault_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct fault_source *s_ = (struct fault_source *)s;
	struct fault *f = s_->fault;
	int r = count(f, e);

	if (r == 0)
		r = source_pread(s_->below, buf, n, off, e);
	if (r == 0 && f->flips > 0 && f->flip_off >= off && f->flip_off - off < n)
		((uint8_t *)buf)[f->flip_off - off] ^= 0xff;
	return r;
}

static void fault_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	struct fault_source *s_ = (struct fault_source *)s;

	s_->fault->prefetches++;
	s_->fault->last_off = off;
	s_->fault->last_n = n;
	source_prefetch(s_->below, off, n);
}

static void fault_drop(struct source *s, uint64_t off, uint64_t n)
{
	struct fault_source *s_ = (struct fault_source *)s;
	struct fault *f = s_->fault;

	f->drops++;
	f->last_off = off;
	f->last_n = n;
	if (f->flips > 0 && f->flip_off >= off && f->flip_off - off < n)
		f->flips--;
	source_drop(s_->below, off, n);
}

static void fault_close_source(struct source *s)
{
	struct fault_source *s_ = (struct fault_source *)s;

	s_->fault->closes++;
	source_close(s_->below);
	free(s_);
}

void fault_open_source(struct source *below, struct fault *f, struct source **out)
{
	static const struct source_ops ops = {
		.name = "fault",
		.pread = fault_pread,
		.prefetch = fault_prefetch,
		.drop = fault_drop,
		.close = fault_close_source,
	};
	struct fault_source *s = need(calloc(1, sizeof *s));

	s->source = (struct source){ .ops = &ops, .size = below->size };
	s->below = below;
	s->fault = f;
	*out = &s->source;
}

static int fault_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	struct fault_sink *s_ = (struct fault_sink *)s;
	int r = count(s_->fault, e);

	return r < 0 ? r : sink_write(s_->below, buf, n, e);
}

static int fault_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e)
{
	struct fault_sink *s_ = (struct fault_sink *)s;
	int r = count(s_->fault, e);

	return r < 0 ? r : sink_patch(s_->below, buf, n, off, e);
}

static int fault_finish(struct sink *s, struct err *e)
{
	struct fault_sink *s_ = (struct fault_sink *)s;
	int r = count(s_->fault, e);

	return r < 0 ? r : sink_finish(s_->below, e);
}

static void fault_close_sink(struct sink *s)
{
	struct fault_sink *s_ = (struct fault_sink *)s;

	s_->fault->closes++;
	sink_close(s_->below);
	free(s_);
}

void fault_open_sink(struct sink *below, struct fault *f, struct sink **out)
{
	static const struct sink_ops ops = {
		.name = "fault",
		.write = fault_write,
		.patch = fault_patch,
		.finish = fault_finish,
		.close = fault_close_sink,
	};
	struct fault_sink *s = need(calloc(1, sizeof *s));

	s->sink.ops = &ops;
	s->below = below;
	s->fault = f;
	*out = &s->sink;
}
