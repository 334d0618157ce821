/* SPDX-License-Identifier: Apache-2.0 */
/* test-tool.c - the parts of `overlaybd` that its subcommands share: escaping, sizes, option
 * tables, spans in order whatever goes wrong, files that are replaced. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "tests/fault.h"
#include "tools/args.h"
#include "tools/settings.h"
#include "tools/live.h"
#include "tools/spans.h"
#include "tools/show.h"

static void escapes(void **state)
{
	static const struct {
		const char *text, *printed;
	} rows[] = {
		{ "plain text", "plain text" },
		{ "a\nb\\", "a\\x0ab\\x5c" },
		{ "\xe2\x82\xac\xff\xe2\x82", "\xe2\x82\xac\\xff\\xe2\\x82" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char printed[64] = "";
		FILE *out = fmemopen(printed, sizeof printed, "w");

		assert_non_null(out);
		show_text(out, rows[i].text);
		fclose(out);
		assert_string_equal(printed, rows[i].printed);
	}
}

static void json_strings(void **state)
{
	json_t *bad = show_string("a\xff\xe2\x82"), *good = show_string("\xe2\x82\xac\x1b"),
	       *none = show_string(NULL);

	assert_string_equal(json_string_value(bad), "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	assert_string_equal(json_string_value(good), "\xe2\x82\xac\x1b");
	assert_true(json_is_null(none));
	json_decref(bad);
	json_decref(good);
}

static void sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ UINT64_C(1) << 30, "1 GiB" },
		{ UINT64_MAX, "15.9 EiB" },
	};
	char text[SHOW_SIZE];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_string_equal(show_size(rows[i].bytes, text), rows[i].text);
}

static void numbers(void **state)
{
	uint64_t number = 7;
	uint32_t size = 7;
	struct err e;

	assert_int_equal(args_number("0", 9, "x", &number, &e), 0);
	assert_int_equal(number, 0);
	assert_int_equal(args_number("18446744073709551615", UINT64_MAX, "x", &number, &e), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(args_number("18446744073709551616", UINT64_MAX, "x", &number, &e),
			 -EINVAL);
	assert_int_equal(args_number("10", 9, "x", &number, &e), -EINVAL);
	assert_string_equal(e.msg, "x '10' is not a number from 0 to 9");
	assert_int_equal(args_number("+1", 9, "x", &number, &e), -EINVAL);
	assert_int_equal(args_number(" 1", 9, "x", &number, &e), -EINVAL);
	assert_int_equal(args_size("3g", "x", &number, &e), 0);
	assert_true(number == UINT64_C(3) << 30);
	assert_int_equal(args_size("0", "x", &number, &e), 0);
	assert_true(number == 0);
	assert_int_equal(args_size("16777216T", "x", &number, &e), -EINVAL);
	assert_string_equal(e.msg, "x '16777216T' is not a size such as 1073741824, 1024M or 1G");
	assert_int_equal(args_size("", "x", &number, &e), -EINVAL);
	assert_int_equal(args_size("G", "x", &number, &e), -EINVAL);
	assert_int_equal(args_size("1GB", "x", &number, &e), -EINVAL);
	assert_int_equal(args_size("1 G", "x", &number, &e), -EINVAL);
	assert_int_equal(args_block_size("64K", &size, &e), 0);
	assert_int_equal(size, 65536);
	assert_int_equal(args_block_size("4096", &size, &e), 0);
	assert_int_equal(size, 4096);
	assert_int_equal(args_block_size("65536K", &size, &e), -EINVAL);
	assert_int_equal(args_block_size("4 K", &size, &e), -EINVAL);
	assert_int_equal(size, 4096);
}

/* Parses a command line of words parted by spaces; `line` keeps them. */
static int parse(const struct tool_command *command, char *line, struct tool_args *args,
		 struct err *e)
{
	char *argv[16];
	int argc = 0;

	for (argv[0] = strtok(line, " "); argv[argc]; argv[argc] = strtok(NULL, " "))
		assert_true(++argc < 16);
	return args_parse(command, argc, argv, args, e);
}

static void option_tables(void **state)
{
	static const struct tool_option options[] = {
		{ "alpha", 'a', NULL, "" },
		{ "beta", 0, "N", "" },
	};
	static const struct tool_command command = {
		.name = "test",
		.operand = "FILE...",
		.min_operands = 1,
		.max_operands = 2,
		.options = options,
		.option_count = 2,
	};
	char good[] = "test --beta=1 name -a --beta 2", help[] = "test -h",
	     unknown[] = "test -ax name", two[] = "test one -a two", none[] = "test -a",
	     three[] = "test a b c";
	struct tool_args args;
	struct err e;

	assert_int_equal(parse(&command, good, &args, &e), 0);
	assert_int_equal(args.operand_count, 1);
	assert_string_equal(args.operands[0], "name");
	assert_non_null(args.values[0]);
	assert_string_equal(args.values[1], "2"); /* the last one counts */
	assert_int_equal(parse(&command, help, &args, &e), 1);
	assert_int_equal(parse(&command, unknown, &args, &e), -EINVAL);
	assert_string_equal(e.msg, "test: unknown option '-x'; see overlaybd test --help");
	assert_int_equal(parse(&command, two, &args, &e), 0);
	assert_int_equal(args.operand_count, 2);
	assert_string_equal(args.operands[1], "two");
	assert_int_equal(parse(&command, none, &args, &e), -EINVAL);
	assert_string_equal(e.msg, "test: FILE... is missing; see overlaybd test --help");
	assert_int_equal(parse(&command, three, &args, &e), -EINVAL);
	assert_string_equal(e.msg, "test: unexpected argument 'c'");
}

/* What an option sets is handed on as it was written.  What none sets is left to others: a limit of
 * the cache that a subcommand made up would be the folder's from then on, and prune it. */
static void settings_are_what_was_given(void **state)
{
	static const struct tool_option options[] = {
		{ "cache-limit", 0, "SIZE", "" },
		{ "cache-keep-free", 0, "SIZE", "" },
		{ "foreground", 'f', NULL, "" }, /* of the subcommand alone */
		SETTINGS_REACH,
	};
	static const struct tool_command command = {
		.name = "test",
		.options = options,
		.option_count = sizeof options / sizeof *options,
	};
	char none[] = "test -f",
	     some[] = "test --insecure --service=s.json -f --cache-keep-free 2G --cache-limit 20M";
	struct settings settings;
	struct tool_args args;
	struct err e;

	assert_int_equal(parse(&command, none, &args, &e), 0);
	settings_take(&command, &args, &settings);
	assert_int_equal(settings.options.setting_count, 0);
	assert_null(settings.options.service);
	assert_int_equal(parse(&command, some, &args, &e), 0);
	settings_take(&command, &args, &settings);
	assert_string_equal(settings.options.service, "s.json");
	assert_ptr_equal(settings.options.settings, settings.items);
	assert_int_equal(settings.options.setting_count, 3); /* in the table's order */
	assert_string_equal(settings.items[0].name, "cache-limit");
	assert_string_equal(settings.items[0].value, "20M");
	assert_string_equal(settings.items[1].name, "cache-keep-free");
	assert_string_equal(settings.items[1].value, "2G");
	assert_string_equal(settings.items[2].name, "insecure");
	assert_string_equal(settings.items[2].value, "true");
}

/* What the spans of one run were. */
struct seen {
	const uint8_t *bytes;
	uint64_t end; /* of the last span */
	unsigned count, failed;
	unsigned stop_at; /* the count at which `each` refuses; 0: never */
};

static int see(void *arg, const struct span *span, struct err *e)
{
	struct seen *seen = arg;

	assert_true(span->off == seen->end);
	seen->end += span->n;
	if (span->r < 0)
		seen->failed++;
	else
		assert_memory_equal(span->buffer, seen->bytes + span->off, span->n);
	return ++seen->count == seen->stop_at ? err_set(e, ENOSPC, "enough") : 0;
}

static void spans_in_order(void **state)
{
	enum { SIZE = 20 * SPANS_PIECE + 5 };
	uint8_t *bytes = malloc(SIZE);
	unsigned threads, stop_at, i;

	assert_non_null(bytes);
	for (i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
	for (threads = 0; threads < 4; threads++) {
		for (stop_at = 0; stop_at <= 21; stop_at += 7) {
			struct seen seen = { .bytes = bytes, .stop_at = stop_at };
			struct workers *pool;
			struct source *s;
			struct err e;
			int r;

			assert_int_equal(workers_open(threads, &pool, &e), 0);
			assert_int_equal(source_open_memory(bytes, SIZE, &s, &e), 0);
			r = spans_read(s, pool, see, &seen, &e);
			assert_int_equal(r, stop_at ? -ENOSPC : 0);
			assert_int_equal(seen.count, stop_at ? stop_at : 21);
			source_close(s);
			workers_close(pool);
		}
	}
	free(bytes);
}

static void spans_of_nothing(void **state)
{
	struct seen seen = { 0 };
	struct workers *pool;
	struct source *s;
	struct err e;

	assert_int_equal(workers_open(2, &pool, &e), 0);
	assert_int_equal(source_open_memory("", 0, &s, &e), 0);
	assert_int_equal(spans_read(s, pool, see, &seen, &e), 0);
	assert_int_equal(seen.count, 0);
	source_close(s);
	workers_close(pool);
}

/* A span that cannot be read is handed out as such, and the others come all the same. */
static void spans_that_fail(void **state)
{
	enum { SIZE = 3 * SPANS_PIECE };
	uint8_t *bytes = calloc(1, SIZE);
	uint64_t k;

	assert_non_null(bytes);
	for (k = 0; k < 4; k++) {
		struct fault fault = { .fail_at = k };
		struct seen seen = { .bytes = bytes };
		struct source *memory, *s;
		struct workers *pool;
		struct err e;

		assert_int_equal(workers_open(0, &pool, &e), 0);
		assert_int_equal(source_open_memory(bytes, SIZE, &memory, &e), 0);
		fault_open_source(memory, &fault, &s);
		assert_int_equal(spans_read(s, pool, see, &seen, &e), 0);
		assert_int_equal(seen.count, 3);
		assert_int_equal(seen.failed, k < 3);
		source_close(s);
		workers_close(pool);
	}
	free(bytes);
}

/* A tool reads an image once more when its config is another file than it was, and only then: else
 * what is missing would be looked for a hundred times. */
static void replaced_files_are_told(void **state)
{
	char folder[] = "/tmp/test-tool.XXXXXX", path[64], other[64];
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 7, .tv_nsec = 7 } };
	struct live_file before, none;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/image.yaml", folder);
	snprintf(other, sizeof other, "%s/other", folder);
	live_look(path, &none);
	assert_false(none.known);
	assert_false(live_was_replaced(path, &none));
	assert_int_equal(io_replace_file(path, "old", 3, NULL), 0);
	assert_true(live_was_replaced(path, &none)); /* it has come meanwhile */
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	live_look(path, &before);
	assert_false(live_was_replaced(path, &before));
	/* Another file, though it has the old one's times. */
	assert_int_equal(rename(path, other), 0);
	assert_false(live_was_replaced(path, &before)); /* it is gone: no use to read it again */
	assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_true(live_was_replaced(path, &before));
	/* The same file, edited in place: a number may be given anew, its times tell. */
	assert_int_equal(rename(other, path), 0);
	assert_false(live_was_replaced(path, &before));
	times[1].tv_nsec = 8;
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_true(live_was_replaced(path, &before));
	times[1] = (struct timespec){ .tv_sec = 8, .tv_nsec = 7 };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_true(live_was_replaced(path, &before));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes),	   cmocka_unit_test(json_strings),
		cmocka_unit_test(sizes),	   cmocka_unit_test(numbers),
		cmocka_unit_test(option_tables),   cmocka_unit_test(settings_are_what_was_given),
		cmocka_unit_test(spans_in_order),  cmocka_unit_test(spans_of_nothing),
		cmocka_unit_test(spans_that_fail), cmocka_unit_test(replaced_files_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
