/* SPDX-License-Identifier: Apache-2.0 */
/* test-layer_damage.c - each single byte of a sealed, compressed layer of the reference is changed,
 * to each other value: it is found when the layer is opened or read, or harms nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/source.h"
#include "core/chain.h"
#include "core/layer.h"
#include "tests/testlib.h"
#include "tests/unit/loops.h"

enum { VALUES = 255, HEADER = 512 };

/* What a disk would be of it. */
struct view {
	struct format_header header;
	struct mapping_run run;
	uint8_t *data; /* of all mappings, one after the other */
	size_t n;
};

struct counts {
	unsigned long found, harmless, silent;
};

static int read_data(struct layer *l, struct view *v, struct err *e)
{
	size_t i, at = 0, size = 0;
	int r = 0;

	for (i = 0; i < l->run.count; i++)
		if (!mapping_zeroed(l->run.maps[i]))
			size += mapping_sectors(l->run.maps[i]) * SECTOR;
	v->data = malloc(size + 1);
	v->n = size;
	assert_non_null(v->data);
	for (i = 0; r == 0 && i < l->run.count; i++) {
		struct mapping m = l->run.maps[i];
		size_t n = mapping_zeroed(m) ? 0 : mapping_sectors(m) * SECTOR;

		if (n > 0)
			r = source_pread(l->data, v->data + at, n, mapping_moffset(m) * SECTOR, e);
		at += n;
	}
	return r;
}

static void release(struct view *v)
{
	free(v->run.maps);
	free(v->data);
}

/* Opens and reads it all. */
static int look(const uint8_t *bytes, size_t n, struct view *v, struct err *e)
{
	struct source *s;
	struct layer layer;
	struct chain c;
	int r;

	*v = (struct view){ 0 };
	assert_int_equal(source_open_memory(bytes, n, &s, e), 0);
	chain_begin(s, &c);
	r = chain_enter_tar(&c, e);
	if (r == 0)
		r = chain_enter_zfile(&c, e);
	if (r == 0)
		r = chain_enter_layer(&c, e);
	if (r == 0)
		r = layer_open(c.top, 0, &layer, e);
	if (r < 0) {
		chain_close(&c);
		return r;
	}
	v->header = layer.header;
	r = read_data(&layer, v, e);
	v->run = layer.run;
	layer.run.maps = NULL;
	layer_close(&layer);
	if (r < 0)
		release(v);
	return r;
}

static bool is_same(const struct view *a, const struct view *b)
{
	return a->header.virtual_size == b->header.virtual_size && a->run.count == b->run.count &&
	       memcmp(a->run.maps, b->run.maps, a->run.count * sizeof *a->run.maps) == 0 &&
	       a->n == b->n && memcmp(a->data, b->data, a->n) == 0;
}

static void change(uint8_t *bytes, size_t n, const struct view *good, struct counts *counts)
{
	struct view now;
	struct err e;
	int r = look(bytes, n, &now, &e);

	if (r < 0) {
		assert_int_equal(r, -EBADMSG);
		assert_true(e.msg[0] != '\0');
		counts->found++;
		return;
	}
	if (is_same(&now, good))
		counts->harmless++;
	else
		counts->silent++;
	release(&now);
}

static void tell(const char *name, const char *part, const struct counts *c)
{
	print_message("%s, %s: %lu found, %lu harmless, %lu silent\n", name, part, c->found,
		      c->harmless, c->silent);
}

static void each_byte(const char *name)
{
	struct counts head = { 0 }, rest = { 0 };
	unsigned i, tries = loops_count(VALUES);
	struct view good;
	struct err e;
	uint8_t *bytes, old;
	size_t n, at;
	char path[64];

	snprintf(path, sizeof path, "%s/layer0.obd", name);
	bytes = testlib_golden(path, &n);
	assert_int_equal(look(bytes, n, &good, &e), 0);
	assert_true(good.n > 0);
	for (at = 0; at < n; at++) {
		old = bytes[at];
		for (i = 1; i <= tries; i++) {
			bytes[at] = (uint8_t)(old +
					      (tries == VALUES ? i : 1 + loops_random() % VALUES));
			change(bytes, n, &good, at < HEADER ? &head : &rest);
		}
		bytes[at] = old;
	}
	tell(name, "header", &head);
	tell(name, "the rest", &rest);
	assert_int_equal(head.silent + rest.silent, 0);
	assert_true(head.found > 0 && rest.found > 0);
	release(&good);
	free(bytes);
}

static void lz4(void **state)
{
	each_byte("lz4-64k");
}

static void zstd(void **state)
{
	each_byte("zstd-8k");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lz4),
		cmocka_unit_test(zstd),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
