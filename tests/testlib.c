/* SPDX-License-Identifier: Apache-2.0 */
/* testlib.c - see testlib.h. */
#include "tests/testlib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"

struct memory_sink {
	struct sink sink;
	struct testlib_output *out;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "testlib: %s: %s\n", what, why);
	abort();
}

uint8_t *testlib_golden(const char *name, size_t *n)
{
	const char *folder = getenv("GOLDEN");
	struct err e;
	char *path, *bytes;

	if (!folder)
		die("$GOLDEN", "not set");
	if (asprintf(&path, "%s/%s", folder, name) < 0)
		die(name, "out of memory");
	if (io_read_file(path, 1 << 30, &bytes, n, &e) < 0)
		die(path, e.msg);
	free(path);
	return (uint8_t *)bytes;
}

static int memory_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	struct testlib_output *o = ((struct memory_sink *)s)->out;

	if (n > o->room - o->n) {
		size_t room = 2 * (o->n + n);
		uint8_t *bytes = realloc(o->bytes, room);

		if (!bytes)
			return err_set(e, ENOMEM, "out of memory");
		o->bytes = bytes;
		o->room = room;
	}
	memcpy(o->bytes + o->n, buf, n);
	o->n += n;
	return 0;
}

static int memory_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(((struct memory_sink *)s)->out->bytes + off, buf, n);
	return 0;
}

static int memory_finish(struct sink *s, struct err *e)
{
	(void)e;
	((struct memory_sink *)s)->out->finished = true;
	return 0;
}

static void memory_close(struct sink *s)
{
	free(s);
}

struct sink *testlib_open_sink(struct testlib_output *o)
{
	static const struct sink_ops ops = {
		.name = "memory",
		.write = memory_write,
		.patch = memory_patch,
		.finish = memory_finish,
		.close = memory_close,
	};
	struct memory_sink *m = calloc(1, sizeof *m);

	if (!m)
		die("memory sink", "out of memory");
	m->sink.ops = &ops;
	m->out = o;
	return &m->sink;
}

uint64_t testlib_random(uint64_t *state)
{
	uint64_t v = *state += UINT64_C(0x9e3779b97f4a7c15);

	v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
	return v ^ v >> 31;
}

void testlib_fill(void *buf, size_t n, unsigned repeat, uint64_t *state)
{
	uint8_t *p = buf;
	size_t i;

	for (i = 0; i < n; i++) {
		uint64_t v = testlib_random(state);

		p[i] = i > 0 && (v & 0xff) < repeat ? p[i - 1] : (uint8_t)(v >> 8);
	}
}
