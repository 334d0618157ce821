/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_plot.c - pictures of traces: of any size and form, never large, no hostile text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "tests/unit/loops.h"
#include "tests/unit/stack.h"
#include "tools/trace-plot.h"

#define IDENTITY "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

enum { LARGEST = 300 << 10 };

/* Every < opens or closes an element, and each that is opened is closed. */
static void assert_well_formed(const char *svg)
{
	const char *open[64];
	size_t depth = 0;
	const char *p = svg;

	while ((p = strchr(p, '<')) != NULL) {
		const char *end = strchr(p, '>'), *name = p + 1 + (p[1] == '/');
		size_t n = strcspn(name, " />");

		assert_non_null(end);
		assert_true(n > 0 && n < 10);
		if (p[1] == '/') {
			assert_true(depth > 0);
			assert_true(strncmp(open[--depth], name, n) == 0);
		} else if (end[-1] != '/') {
			assert_true(depth < 64);
			open[depth++] = name;
		}
		p = end;
	}
	assert_int_equal(depth, 0);
	assert_null(strstr(svg, "nan"));
	assert_null(strstr(svg, "inf"));
}

static char *draw(const struct trace *t, struct image *image, const char *name)
{
	char *svg;
	struct err e;
	size_t n;

	if (trace_plot(t, image, name, &svg, &n, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(strlen(svg), n);
	assert_true(n < LARGEST);
	assert_well_formed(svg);
	return svg;
}

static void nothing_and_one(void **state)
{
	struct trace_read read = { .lba = 7, .sectors = 1 };
	struct trace t = { IDENTITY, 1 << 20, &read, 0 };
	char *svg = draw(&t, NULL, NULL);

	assert_non_null(strstr(svg, "Reads of image"));
	assert_non_null(strstr(svg, ">001122334455<"));
	free(svg);
	t.count = 1;
	svg = draw(&t, NULL, NULL);
	assert_non_null(strstr(svg, "order of the reads"));
	assert_non_null(strstr(svg, ">512 B<"));
	free(svg);
	/* The first sector twice: the second mark is in the last column of the lowest row. */
	svg = draw(&(struct trace){ IDENTITY, 1 << 20,
				    (struct trace_read[]){ { 0, 1, 0 }, { 0, 1, 5000 } }, 2 },
		   NULL, NULL);
	assert_non_null(strstr(svg, " d=\"M0 119h1"));
	assert_non_null(strstr(svg, " d=\"M189 119h1"));
	free(svg);
	t.disk_size = UINT64_C(1) << 63;
	read = (struct trace_read){ (UINT64_C(1) << 54) - UINT32_MAX, UINT32_MAX, UINT32_MAX };
	svg = draw(&t, NULL, NULL);
	assert_non_null(strstr(svg, "time since the first read"));
	free(svg);
}

static void names_are_escaped(void **state)
{
	struct trace t = { IDENTITY, 1 << 20, NULL, 0 };
	char *svg = draw(&t, NULL, "<script>&\x1b[31m\xff");

	assert_non_null(strstr(svg, "Reads of &lt;script>&amp;\\x1b[31m\\xff"));
	free(svg);
}

/* The worst picture: as many reads as there may be, everywhere, of as many layers as there are. */
static void many_reads(void **state)
{
	struct trace t = { IDENTITY, UINT64_C(1) << 30, NULL, TRACE_READS_MAX };
	uint64_t sectors = t.disk_size / SECTOR, began;
	struct image *image;
	struct stack s;
	char *svg;
	size_t i;

	stack_init(&s);
	for (i = 0; i < STACK_LAYERS; i++)
		stack_add_random(&s, 20000);
	image = stack_open(&s);
	t.disk_size = image_size(image);
	sectors = t.disk_size / SECTOR;
	t.reads = malloc(t.count * sizeof *t.reads);
	for (i = 0; i < t.count; i++)
		t.reads[i] = (struct trace_read){ .lba = loops_random() % sectors,
						  .sectors = 1,
						  .us = (uint32_t)(loops_random() % 60000000) };
	began = clock_ms();
	svg = draw(&t, image, "many");
	print_message("%zu bytes in %zu ms\n", strlen(svg), (size_t)(clock_ms() - began));
	assert_non_null(strstr(svg, ">layer 7<"));
	assert_non_null(strstr(svg, "1 other layers"));
	assert_non_null(strstr(svg, "read again"));
	assert_non_null(strstr(svg, ">60 s<"));
	free(svg);

	/* The whole disk, again and again. */
	for (i = 0; i < t.count; i++)
		t.reads[i] = (struct trace_read){ .sectors = (uint32_t)sectors, .us = (uint32_t)i };
	svg = draw(&t, image, "whole");
	assert_non_null(strstr(svg, ">100.0 %<"));
	free(svg);

	t.disk_size *= 2;
	t.reads[3].lba = sectors;
	assert_int_equal(trace_plot(&t, image, NULL, &svg, &i, NULL), -EINVAL);
	free(t.reads);
	image_close(image);
	stack_release(&s);
}

/* Any trace of any image, small or large. */
static void random_traces(void **state)
{
	unsigned loop, loops = loops_count(400);

	for (loop = 0; loop < loops; loop++) {
		uint64_t sectors = 1 + loops_random() % 3000, i;
		struct trace t = { IDENTITY, sectors * SECTOR, NULL, loops_random() % 200 };
		uint32_t latest = UINT32_C(1) << loops_random() % 32;
		struct image *image;
		struct stack s;

		stack_init(&s);
		stack_add_random(&s, sectors);
		image = stack_open(&s);
		t.reads = malloc((t.count + 1) * sizeof *t.reads);
		for (i = 0; i < t.count; i++) {
			uint64_t lba = loops_random() % sectors;

			t.reads[i] = (struct trace_read){
				.lba = lba,
				.sectors = 1 + (uint32_t)(loops_random() % (sectors - lba)),
				.us = (uint32_t)loops_random() % latest,
			};
		}
		free(draw(&t, image, "random"));
		free(draw(&t, NULL, NULL));
		free(t.reads);
		image_close(image);
		stack_release(&s);
	}
}

static int set_up(void **state)
{
	loops_seed();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_and_one),
		cmocka_unit_test(names_are_escaped),
		cmocka_unit_test(many_reads),
		cmocka_unit_test(random_traces),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
