/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_memory.c - every allocation of what is done to an upper fails once: an error that says
 * so, the disk is what it was, and the next try works.  On real files; in test-upper_hostile.c and
 * test-upper_offline.c everything else fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/format.h"
#include "core/layer.h"
#include "core/upper.h"
#include "core/upper_compact.h"
#include "core/upper_dense.h"
#include "core/upper_intent.h"
#include "core/upper_log.h"
#include "core/upper_repair.h"
#include "core/upper_resize.h"
#include "core/upper_seal.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SECTORS = 64,
	BYTES = SECTORS * SECTOR,
	ROUNDS = 2000, /* nothing allocates so often */
	STRETCHES = 9, /* of data in a sparse layer */
};

static char folder[] = "/tmp/test-upper_memory.XXXXXX", data[64], index_path[64], pending[64];

static int remove_files(void **state)
{
	unlink(data);
	unlink(index_path);
	unlink(pending);
	return 0;
}

static int remove_folder(void **state)
{
	remove_files(NULL);
	return rmdir(folder);
}

/* A process that writes and is killed: 'a' is flushed, 'b' was acknowledged only. */
static void be_killed(void)
{
	char sectors[2 * SECTOR];
	struct upper_log *u;

	if (upper_log_open(data, index_path, NULL, &u, NULL, NULL) < 0)
		_exit(1);
	memset(sectors, 'a', sizeof sectors);
	if (upper_log_pwrite(u, sectors, sizeof sectors, SECTOR, 0, NULL) < 0 ||
	    upper_log_zero(u, 5 * SECTOR, SECTOR, 0, NULL) < 0 || upper_log_flush(u, NULL) < 0)
		_exit(1);
	memset(sectors, 'b', sizeof sectors);
	_exit(upper_log_pwrite(u, sectors, SECTOR, 2 * SECTOR, 0, NULL) < 0);
}

static void write_log(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		be_killed();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void make_log(void)
{
	assert_int_equal(upper_log_create(NULL, data, index_path, BYTES, NULL, NULL, NULL), 0);
	write_log();
}

static void expect_letters(const char *bytes)
{
	static const char letters[] = { 0, 'a', 'b', 0, 0, 0 };
	size_t i;

	for (i = 0; i < sizeof letters; i++)
		if (bytes[i * SECTOR] != letters[i] || bytes[i * SECTOR + 511] != letters[i])
			fail_msg("sector %zu is %d", i, bytes[i * SECTOR]);
}

static void expect_disk(void)
{
	char bytes[BYTES];
	struct upper_log *u;

	assert_int_equal(upper_log_open(data, index_path, NULL, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_pread(u, bytes, sizeof bytes, 0, NULL), 0);
	expect_letters(bytes);
	assert_int_equal(upper_log_close(u, NULL), 0);
}

/* ---- what is done ---- */

static int create(struct err *e)
{
	remove_files(NULL);
	return upper_log_create(NULL, data, index_path, BYTES, NULL, NULL, e);
}

static int create_dense(struct err *e)
{
	struct mapping_run none = { 0 };
	struct format_header h;
	struct upper_dense dense = { .header = &h, .maps = &none };
	int r;

	remove_files(NULL);
	r = upper_log_make_header(&h, BYTES, NULL, NULL, e);
	return r < 0 ? r : upper_dense_create(&dense, data, index_path, e);
}

static int open_and_close(struct err *e)
{
	struct upper_log *u;
	int r = upper_log_open(data, index_path, NULL, &u, NULL, e);

	return r < 0 ? r : upper_log_close(u, e);
}

static int change(struct err *e)
{
	struct mapping_run maps = { 0 };
	struct upper_log *u;
	char sector[SECTOR];
	long left = allocs_left;
	int r;

	allocs_left = -1;
	assert_int_equal(upper_log_open(data, index_path, NULL, &u, NULL, NULL), 0);
	allocs_left = left;
	memset(sector, 'b', sizeof sector);
	r = upper_log_pwrite(u, sector, SECTOR, 2 * SECTOR, 0, e);
	if (r == 0)
		r = upper_log_zero(u, 5 * SECTOR, SECTOR, 0, e);
	if (r == 0)
		r = upper_log_trim(u, 9 * SECTOR, SECTOR, 0, e);
	if (r == 0)
		r = upper_log_flush(u, e);
	if (r == 0)
		r = upper_log_mappings(u, &maps, e);
	if (r == 0)
		r = upper_log_tidy(u, e);
	free(maps.maps);
	allocs_left = -1;
	assert_int_equal(upper_log_close(u, NULL), 0);
	return r;
}

static int open_read_only(struct err *e)
{
	struct layer layer = { 0 };
	int r = upper_open_read_only(data, index_path, 0, &layer, NULL, e);

	if (r == 0) {
		assert_int_equal(layer.run.count, 3);
		layer_close(&layer);
	}
	return r;
}

/* The sparse form, of more stretches of data than are allocated for at first. */
static void make_sparse(void)
{
	enum { FAR = 1 << 20, BLOCK = 4096 };
	char block[BLOCK] = "x";
	uint8_t raw[FORMAT_SPACE];
	struct format_header h;
	int fd = open(data, O_RDWR | O_CREAT | O_TRUNC, 0600);
	off_t i;

	assert_true(fd >= 0);
	assert_int_equal(upper_log_make_header(&h, STRETCHES * FAR, NULL, NULL, NULL), 0);
	h.flags |= FORMAT_SPARSE;
	format_encode_header(&h, raw);
	assert_int_equal(pwrite(fd, raw, sizeof raw, 0), sizeof raw);
	for (i = 0; i < STRETCHES; i++)
		assert_int_equal(pwrite(fd, block, BLOCK, FORMAT_SPACE + i * FAR + FAR / 2), BLOCK);
	assert_int_equal(ftruncate(fd, FORMAT_SPACE + STRETCHES * FAR), 0);
	close(fd);
	fd = open(index_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static int open_sparse(struct err *e)
{
	struct layer layer = { 0 };
	int r = upper_open_read_only(data, index_path, 0, &layer, NULL, e);

	if (r == 0) {
		assert_int_equal(layer.run.count, STRETCHES);
		assert_int_equal(layer.entries, STRETCHES);
		layer_close(&layer);
	}
	return r;
}

static int look(struct err *e)
{
	uint64_t size, end;
	int r = upper_resize_look(&file_ops_system, data, index_path, &size, &end, e);

	if (r == 0) {
		assert_int_equal(size, BYTES);
		assert_int_equal(end, 6);
	}
	return r;
}

static int grow(struct err *e)
{
	struct upper_resize how = { .size = 2 * BYTES };
	uint64_t before;

	return upper_resize_files(&how, data, index_path, &before, e);
}

static int shrink(struct err *e)
{
	struct upper_resize how = { .size = BYTES };
	uint64_t before;

	return upper_resize_files(&how, data, index_path, &before, e);
}

static int compact(struct err *e)
{
	struct upper_compact how = { 0 };
	int r = upper_compact_files(&how, data, index_path, e);

	if (r == 0) /* two headers, two sectors of data, two records and two entries of room */
		assert_int_equal(how.after, 2 * FORMAT_SPACE + 2 * SECTOR + 4 * FORMAT_ENTRY);
	return r;
}

static int repair(struct err *e)
{
	struct upper_repair done;
	int r = upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_JUDGE, &done, e);

	if (r == 0)
		assert_int_equal(done.kept, 2);
	return r;
}

static const struct {
	const char *name;
	int (*run)(struct err *e);
	bool makes; /* the log is an empty one then */
} operations[] = {
	{ "create", create, true },	 { "open", open_and_close, false },
	{ "change", change, false },	 { "open read-only", open_read_only, false },
	{ "look", look, false },	 { "grow", grow, false },
	{ "shrink", shrink, false },	 { "compact", compact, false },
	{ "dense", create_dense, true }, { "repair", repair, false },
};

static void run_out(const char *name, int (*run)(struct err *e))
{
	struct err e;
	int r = -ENOMEM;
	long k;

	for (k = 0; r != 0; k++) {
		e.msg[0] = '\0';
		allocs_left = k;
		r = run(&e);
		allocs_left = -1;
		if (r != 0 && (k >= ROUNDS || r != -ENOMEM || !strstr(e.msg, "emory")))
			fail_msg("%s, allocation %ld: %d %s", name, k, r, e.msg);
	}
	assert_true(k > 1); /* some failed */
}

static void nothing_is_lost(void **state)
{
	size_t i;

	loglib_listen();
	for (i = 0; i < COUNT_OF(operations); i++) {
		remove_files(NULL);
		if (!operations[i].makes)
			make_log();
		run_out(operations[i].name, operations[i].run);
		if (operations[i].makes)
			write_log();
		expect_disk();
	}
}

static void a_sparse_layer_is_read_whole_or_not(void **state)
{
	make_sparse();
	run_out("open sparse", open_sparse);
}

/* A change of the size that was stopped is carried out, and not forgotten. */
static void what_was_begun_is_finished(void **state)
{
	struct upper_intent intent = { .kind = UPPER_INTENT_RESIZE, .virtual_size = 2 * BYTES };
	struct format_header h;
	struct source *file;
	uint64_t size, end;
	struct err e;
	int fd;

	make_log();
	assert_int_equal(source_open_file(data, &file, NULL), 0);
	assert_int_equal(format_read_header(&h, file, 0, FORMAT_PART_LOG_DATA, NULL), 0);
	source_close(file);
	memcpy(intent.uuid, h.uuid, sizeof intent.uuid);
	fd = open(data, O_RDWR);
	assert_int_equal(upper_intent_write(&file_ops_system, data, fd, &intent, &e), 0);
	close(fd);
	loglib_listen();
	run_out("finish", open_and_close);
	loglib_expect_none();
	assert_int_equal(upper_resize_look(&file_ops_system, data, index_path, &size, &end, &e), 0);
	assert_int_equal(size, 2 * BYTES);
}

static int seal(struct err *e)
{
	uint64_t size;

	return upper_seal_files(NULL, data, index_path, &size, e);
}

static void a_layer_is_what_the_log_was(void **state)
{
	struct source *file;
	struct layer layer = { 0 };
	char sector[SECTOR];
	struct err e;

	make_log();
	run_out("seal", seal);
	assert_int_equal(access(index_path, F_OK), -1);
	assert_int_equal(access(pending, F_OK), -1);
	assert_int_equal(source_open_file(data, &file, NULL), 0);
	assert_int_equal(layer_open(file, 0, &layer, NULL), 0);
	assert_int_equal(layer.run.count, 3);
	assert_int_equal(mapping_start(layer.run.maps[1]), 2);
	assert_int_equal(source_pread(file, sector, SECTOR,
				      mapping_moffset(layer.run.maps[1]) * SECTOR, NULL),
			 0);
	assert_int_equal(sector[0], 'b');
	layer_close(&layer);
	/* Again, and without its data. */
	assert_int_equal(seal(&e), -EINVAL);
	assert_non_null(strstr(e.msg, "u.data: is sealed already"));
	unlink(data);
	assert_int_equal(seal(&e), -ENOENT);
	assert_non_null(strstr(e.msg, "No such file"));
}

/* The index of a log is gone, but that was no seal. */
static void a_log_without_its_index_is_no_layer(void **state)
{
	struct err e;

	make_log();
	unlink(index_path);
	assert_int_equal(seal(&e), -ENOENT);
	assert_non_null(strstr(e.msg, "u.index"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nothing_is_lost, remove_files),
		cmocka_unit_test_teardown(a_sparse_layer_is_read_whole_or_not, remove_files),
		cmocka_unit_test_teardown(what_was_begun_is_finished, remove_files),
		cmocka_unit_test_teardown(a_layer_is_what_the_log_was, remove_files),
		cmocka_unit_test_teardown(a_log_without_its_index_is_no_layer, remove_files),
	};

	if (!mkdtemp(folder))
		return 1;
	snprintf(data, sizeof data, "%s/u.data", folder);
	snprintf(index_path, sizeof index_path, "%s/u.index", folder);
	snprintf(pending, sizeof pending, "%s/u.pending", folder);
	return cmocka_run_group_tests(tests, NULL, remove_folder);
}
