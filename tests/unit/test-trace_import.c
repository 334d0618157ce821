/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_import.c - traces as text, and what is made of a file of any form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/identity.h"
#include "prefetch/trace_import.h"
#include "prefetch/trace_layers.h"
#include "prefetch/trace_text.h"
#include "tests/unit/alloc.h"
#include "tests/unit/guard.h"
#include "tests/unit/loops.h"
#include "tests/unit/stack.h"

#define IDENTITY "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

enum { SECTORS = 1000 };

static struct stack stack;
static struct image *image;
static char identity[DIGEST_TEXT];

static struct trace make(size_t count)
{
	struct trace t = { .disk_size = SECTORS * SECTOR, .count = count };
	size_t i;

	memcpy(t.identity, identity, sizeof t.identity);
	t.reads = malloc((count + 1) * sizeof *t.reads);
	for (i = 0; i < count; i++) {
		uint64_t lba = loops_random() % SECTORS;

		t.reads[i] = (struct trace_read){
			.lba = lba,
			.sectors = 1 + (uint32_t)(loops_random() % (SECTORS - lba)),
			.us = (uint32_t)loops_random() % 4000000000u,
		};
	}
	return t;
}

static void assert_same(const struct trace *a, const struct trace *b)
{
	assert_string_equal(a->identity, b->identity);
	assert_true(a->disk_size == b->disk_size && a->count == b->count);
	if (a->count > 0)
		assert_memory_equal(a->reads, b->reads, a->count * sizeof *a->reads);
}

static int import(const void *bytes, size_t n, struct trace *out, struct err *e)
{
	void *copy = guard_copy(bytes, n);
	int r = trace_import(copy, n, image, NULL, out, e);

	guard_free(copy, n);
	return r;
}

static void text_round_trips(void **state)
{
	unsigned i, loops = loops_count(2000);

	for (i = 0; i < loops; i++) {
		struct trace t = make(loops_random() % 50), back;
		struct trace_read *reads = t.reads;
		struct err e = { "" };
		char *text;
		size_t n;

		t.reads = guard_copy(reads, t.count * sizeof *reads);
		assert_int_equal(trace_text_format(&t, &text, &n, NULL), 0);
		guard_free(t.reads, t.count * sizeof *reads);
		t.reads = reads;
		assert_int_equal(strlen(text), n);
		if (trace_text_parse(text, n, &back, &e) < 0)
			fail_msg("%s in:\n%s", e.msg, text);
		assert_same(&t, &back);
		trace_release(&back);
		assert_int_equal(trace_form_of(text, n), TRACE_FORM_TEXT);
		assert_int_equal(import(text, n, &back, NULL), 0);
		assert_same(&t, &back);
		trace_release(&back);
		trace_release(&t);
		free(text);
	}
}

static void longest_line_fits(void **state)
{
	struct trace_read read = { (UINT64_C(1) << 54) - UINT32_MAX, UINT32_MAX, UINT32_MAX };
	struct trace t = { IDENTITY, UINT64_C(1) << 63, &read, 1 };
	struct trace_read *got;
	struct trace back;
	char *text;
	size_t n;

	assert_int_equal(trace_text_format(&t, &text, &n, NULL), 0);
	assert_non_null(strstr(text, "\n18014394214514689 4294967295 4294967.295\n"));
	assert_int_equal(trace_text_parse(text, n, &back, NULL), 0);
	got = back.reads;
	assert_true(got->lba == read.lba && got->sectors == read.sectors && got->us == read.us);
	trace_release(&back);
	free(text);
}

static void text_may_be_short(void **state)
{
	static const char text[] = "# by hand\n\n  5 3\r\n7\t1 2.5\n8 1 3";
	struct trace t;

	assert_int_equal(trace_text_parse(text, sizeof text - 1, &t, NULL), 0);
	assert_string_equal(t.identity, "");
	assert_int_equal(t.count, 3);
	assert_true(t.reads[0].lba == 5 && t.reads[0].sectors == 3 && t.reads[0].us == 0);
	assert_true(t.reads[1].us == 2500 && t.reads[2].us == 3000);
	trace_release(&t);
	assert_int_equal(import(text, sizeof text - 1, &t, NULL), 0);
	assert_string_equal(t.identity, identity);
	assert_int_equal(t.disk_size, SECTORS * SECTOR);
	trace_release(&t);
}

static void text_is_checked(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "5", "line 1: not" },
		{ "5 1\n5 0", "line 2: not" },
		{ "5 1 1.2345", "line 1: not" },
		{ "5 1 x", "line 1: not" },
		{ "5 1 1 1", "line 1: not" },
		{ "5 1 4294968", "line 1: not" },
		{ "5 1 4294967.296", "line 1: not" },
		{ "5 4294967296", "line 1: not" },
		{ "5 -1", "line 1: not" },
		{ "18446744073709551616 1", "line 1: not" },
		{ "18014398509481985 1", "line 1: not" },
		{ "18014398509481984 1", "on a disk of 18014398509481984" },
		{ "image sha256:12\n", "line 1: not" },
		{ "image", "line 1: not" },
		{ "image ", "line 1: not" },
		{ "disk 511\n", "line 1: not" },
		{ "disk 512\n1 1", "a read of 1 sectors at 1, on a disk of 1" },
		{ "image " IDENTITY " x", "line 1: not" },
		{ "images " IDENTITY, "line 1: not" },
		{ "disk 9223372036854775808\ndisk 9223372036854776320", "line 2: not" },
		{ "disks 512", "line 1: not" },
		{ "5.5 1", "line 1: not" },
		{ "5 1 .5", "line 1: not" },
		{ "5 1 2,5", "line 1: not" },
	};
	struct trace t = { .count = 77 };
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(trace_text_parse(rows[i].text, strlen(rows[i].text), &t, &e),
				 -EBADMSG);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("row %zu: %s", i, e.msg);
	}
	assert_int_equal(t.count, 77);
	assert_int_equal(import("image " IDENTITY "\n0 1\n", 6 + 71 + 5, &t, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "of another image: " IDENTITY));
	assert_int_equal(import("999 2", 5, &t, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "beyond the image's disk of 1000"));
}

/* A text ends where it is said to, whatever lies behind. */
static void text_has_an_end(void **state)
{
	static const char text[] = "disk 512000\nimage " IDENTITY "\n"
				   "# what\n12 34 5.678\r\n\t 9 1 2 \n100 20 300.04";
	size_t n, i;

	for (n = 0; n < sizeof text; n++) {
		struct trace t = { .count = 77 }, alone = { .count = 77 };
		struct err e = { "" }, of_alone = { "" };
		char *copy = calloc(1, n + 1); /* what stands behind is no text */
		int r = trace_text_parse(text, n, &t, &e);

		memcpy(copy, text, n);
		assert_int_equal(r, trace_text_parse(copy, n, &alone, &of_alone));
		assert_string_equal(e.msg, of_alone.msg);
		assert_int_equal(t.count, alone.count);
		if (r == 0) {
			assert_string_equal(t.identity, alone.identity);
			assert_int_equal(t.disk_size, alone.disk_size);
			for (i = 0; i < t.count; i++)
				assert_memory_equal(&t.reads[i], &alone.reads[i], sizeof *t.reads);
			trace_release(&t);
			trace_release(&alone);
		}
		free(copy);
	}
}

/* Times have up to three decimals. */
static void times_are_exact(void **state)
{
	static const struct {
		const char *text;
		uint32_t us;
	} rows[] = {
		{ "0 1 0", 0 },
		{ "0 1 0.", 0 },
		{ "0 1 1.5", 1500 },
		{ "0 1 1.05", 1050 },
		{ "0 1 1.005", 1005 },
		{ "0 1 0.999", 999 },
		{ "0 1 10.1", 10100 },
		{ "0 1 4294967", 4294967000u },
		{ "0 1 4294967.295", UINT32_MAX },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct trace t;

		assert_int_equal(trace_text_parse(rows[i].text, strlen(rows[i].text), &t, NULL), 0);
		assert_int_equal(t.count, 1);
		assert_int_equal(t.reads[0].us, rows[i].us);
		trace_release(&t);
	}
}

static void text_may_reach_the_end(void **state)
{
	static const char *const rows[] = { "999 1", "0 1000", "1 999" };
	struct trace t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(import(rows[i], strlen(rows[i]), &t, NULL), 0);
		assert_int_equal(t.count, 1);
		trace_release(&t);
	}
	assert_int_equal(import("disk 2048\n3 1", 13, &t, NULL), 0);
	assert_int_equal(t.disk_size, 2048);
	trace_release(&t);
	assert_int_equal(import("disk 1024000\n", 13, &t, NULL), -EINVAL); /* twice as large */
}

static void text_has_a_limit(void **state)
{
	size_t n = 4 * (TRACE_READS_MAX + 1), i;
	char *text = malloc(n);
	struct trace t;
	struct err e;

	for (i = 0; i < n; i += 4)
		memcpy(text + i, "0 1\n", 4);
	assert_int_equal(trace_text_parse(text, n, &t, &e), -EBADMSG);
	assert_string_equal(e.msg, "line 1048577: more than 1048576 reads");
	assert_int_equal(trace_text_parse(text, n - 4, &t, &e), 0);
	assert_int_equal(t.count, TRACE_READS_MAX);
	trace_release(&t);
	free(text);
}

static void imports_our_own(void **state)
{
	struct trace t = make(9), back;
	struct err e;
	void *bytes;
	size_t n;

	assert_int_equal(trace_format(&t, &bytes, &n, NULL), 0);
	assert_int_equal(import(bytes, n, &back, NULL), 0);
	assert_same(&t, &back);
	trace_release(&back);
	assert_int_equal(import(bytes, n - 1, &back, &e), -EBADMSG);
	free(bytes);
	memcpy(t.identity, IDENTITY, sizeof t.identity);
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), 0);
	assert_int_equal(import(bytes, n, &back, &e), -EINVAL);
	free(bytes);
	trace_release(&t);
}

static char noted[256];

static void take_note(void *arg, const char *text)
{
	strncpy(noted, text, sizeof noted - 1);
}

static void imports_layers(void **state)
{
	struct trace_layer_read reads[] = { { .n = 512, .layer = 9 },
					    { .n = image_layer(image, 0)->layer.data->size } };
	struct trace_layers layers = { reads, 2 };
	struct trace_notes notes = { .line = take_note };
	struct trace t;
	void *bytes;
	size_t n;

	assert_int_equal(trace_layers_format(&layers, &bytes, &n, NULL), 0);
	assert_int_equal(trace_import(bytes, n, image, &notes, &t, NULL), 0);
	assert_true(t.count > 0);
	assert_non_null(strstr(noted, "1 records of layers that the image does not have"));
	trace_release(&t);
	free(bytes);
	noted[0] = '\0';
	layers.reads++; /* the other one alone */
	layers.count = 1;
	assert_int_equal(trace_layers_format(&layers, &bytes, &n, NULL), 0);
	assert_int_equal(trace_import(bytes, n, image, &notes, &t, NULL), 0);
	assert_string_equal(noted, "");
	trace_release(&t);
	free(bytes);
}

/* As many records as a file of layers may have, and one more. */
static void layers_have_a_limit(void **state)
{
	size_t size = 24 * (size_t)TRACE_LAYERS_MAX, n;
	uint8_t *raw = malloc(24 + size + 24);
	struct trace_layers t = { .count = TRACE_LAYERS_MAX + 1 };
	struct err e = { "" };
	void *bytes;

	memset(raw, 'W', 24 + size + 24);
	le32_put(raw, 0xC2EF1820);
	le64_put(raw + 8, size);
	le32_put(raw + 16, crc32c_raw(0, raw + 24, size));
	assert_int_equal(trace_layers_parse(raw, 24 + size, &t, &e), 0);
	assert_int_equal(t.count, 0);
	trace_layers_release(&t);
	le64_put(raw + 8, size + 24);
	t.count = 77;
	assert_int_equal(trace_layers_parse(raw, 24 + size + 24, &t, &e), -EBADMSG);
	assert_string_equal(e.msg, "trace of layers of 100663320 bytes of records: no multiple of "
				   "24, or more than 4194304 of them");
	free(raw);
	t.count = TRACE_LAYERS_MAX + 1;
	assert_int_equal(trace_layers_format(&t, &bytes, &n, &e), -EINVAL);
	assert_string_equal(e.msg, "trace of layers of 4194305 records, more than 4194304");
	t.count--;
	t.reads = calloc(t.count, sizeof *t.reads);
	assert_int_equal(trace_layers_format(&t, &bytes, &n, &e), 0);
	assert_int_equal(n, 24 + size);
	free(bytes);
	trace_layers_release(&t);
}

static char logged[256];

static void take_line(enum log_level level, const char *line)
{
	assert_int_equal(level, LOG_WARNING);
	strncpy(logged, line, sizeof logged - 1);
}

/* Who takes no notes finds them in the log. */
static void notes_are_logged(void **state)
{
	struct trace_layer_read read = { .n = 512, .layer = 9 };
	struct trace_layers layers = { &read, 1 };
	struct trace t;
	void *bytes;
	size_t n;

	assert_int_equal(trace_layers_format(&layers, &bytes, &n, NULL), 0);
	log_set_sink(take_line);
	assert_int_equal(trace_import(bytes, n, image, NULL, &t, NULL), 0);
	log_set_sink(NULL);
	assert_string_equal(logged, "1 records of layers that the image does not have, or behind "
				    "their end, are skipped");
	assert_int_equal(t.count, 0);
	trace_release(&t);
	free(bytes);
}

/* More records than there is room for reads. */
static void says_what_was_left_out(void **state)
{
	struct trace_layer_read whole = { .n = image_layer(image, 0)->layer.data->size };
	struct trace_layers layers = { &whole, 1 };
	struct trace_notes notes = { .line = take_note };
	size_t n, i, fit, more;
	struct trace t;
	void *bytes;

	assert_int_equal(trace_layers_format(&layers, &bytes, &n, NULL), 0);
	assert_int_equal(import(bytes, n, &t, NULL), 0);
	assert_true(t.count > 0);
	fit = TRACE_READS_MAX / t.count;
	trace_release(&t);
	free(bytes);
	layers.reads = malloc((fit + 3) * sizeof *layers.reads);
	for (i = 0; i < fit + 3; i++)
		layers.reads[i] = whole;
	for (more = 0; more <= 3; more += more + 1) { /* 0, 1, 3 */
		char want[100] = "";

		noted[0] = '\0';
		layers.count = fit + more;
		assert_int_equal(trace_layers_format(&layers, &bytes, &n, NULL), 0);
		assert_int_equal(trace_import(bytes, n, image, &notes, &t, NULL), 0);
		if (more > 0)
			snprintf(want, sizeof want,
				 "%zu records at the end are left out: more than 1048576 reads",
				 more);
		assert_string_equal(noted, want);
		trace_release(&t);
		free(bytes);
	}
	free(layers.reads);
}

static void knows_forms(void **state)
{
	static const struct {
		const char *text;
		enum trace_form form;
	} rows[] = {
		{ "", TRACE_FORM_UNKNOWN },	      { "#", TRACE_FORM_UNKNOWN },
		{ "# /a\n", TRACE_FORM_UNKNOWN },     { "lowers:\n", TRACE_FORM_UNKNOWN },
		{ "OBDTRAC", TRACE_FORM_UNKNOWN },    { "OBDTRACE", TRACE_FORM_OURS },
		{ "# a\n\n /b\n", TRACE_FORM_PATHS }, { "/b", TRACE_FORM_PATHS },
		{ "#\n9 1", TRACE_FORM_TEXT },	      { "image x", TRACE_FORM_TEXT },
		{ "OBDTRACX", TRACE_FORM_UNKNOWN },   { "0 1", TRACE_FORM_TEXT },
		{ "disk 512", TRACE_FORM_TEXT },      { "\t\r\n /b", TRACE_FORM_PATHS },
		{ "#x\n#y\n\n5", TRACE_FORM_TEXT },   { "#x\n#5", TRACE_FORM_UNKNOWN },
		{ ":1", TRACE_FORM_UNKNOWN },	      { "-1", TRACE_FORM_UNKNOWN },
	};
	struct trace t;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		if (trace_form_of(rows[i].text, strlen(rows[i].text)) != rows[i].form)
			fail_msg("row %zu", i);
	assert_int_equal(import("lowers:", 7, &t, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "neither a trace nor a list"));
	assert_int_equal(import("/etc/passwd\n", 12, &t, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "no ext4 file system"));
	/* And what lies behind the end says nothing. */
	assert_int_equal(trace_form_of("   5", 3), TRACE_FORM_UNKNOWN);
	assert_int_equal(trace_form_of("OBDTRACE", 7), TRACE_FORM_UNKNOWN);
	assert_int_equal(trace_form_of("#\n5", 2), TRACE_FORM_UNKNOWN);
	assert_int_equal(trace_import_file("/nowhere/x", image, NULL, &t, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nowhere/x: "));
}

/* Each allocation is refused once. */
static void out_of_memory(void **state)
{
	static const char text[] = "0 1\n5 3\n";
	struct trace t;
	char *written;
	size_t n;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_import(text, sizeof text - 1, image, NULL, &t, NULL);
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 1);
	alloc_left = 0;
	assert_int_equal(trace_text_format(&t, &written, &n, NULL), -ENOMEM);
	alloc_left = -1;
	trace_release(&t);
}

static int set_up(void **state)
{
	loops_seed();
	stack_init(&stack);
	stack_add_random(&stack, SECTORS);
	image = stack_open(&stack);
	return image_identity(image, identity, NULL);
}

static int tear_down(void **state)
{
	image_close(image);
	stack_release(&stack);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_round_trips),	  cmocka_unit_test(longest_line_fits),
		cmocka_unit_test(text_may_be_short),	  cmocka_unit_test(text_is_checked),
		cmocka_unit_test(text_has_an_end),	  cmocka_unit_test(times_are_exact),
		cmocka_unit_test(text_may_reach_the_end), cmocka_unit_test(text_has_a_limit),
		cmocka_unit_test(imports_our_own),	  cmocka_unit_test(layers_have_a_limit),
		cmocka_unit_test(notes_are_logged),	  cmocka_unit_test(says_what_was_left_out),
		cmocka_unit_test(imports_layers),	  cmocka_unit_test(knows_forms),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
