/* SPDX-License-Identifier: Apache-2.0 */
/* upperlib.h - a folder with an append log in it, for tests on real files. */
#ifndef OVERLAYBD_TESTS_UPPERLIB_H
#define OVERLAYBD_TESTS_UPPERLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/upper.h"
#include "core/upper_log.h"
#include "tests/unit/loops.h"

static char upper_folder[] = "/tmp/test-upper.XXXXXX";
static char upper_data[64], upper_index[64], upper_pending[64], upper_disk[64];

/* Holes are punched at once. */
static const struct upper_log_options upper_plain = { .garbage_bytes = 1 };

static inline int upper_make_folder(void **state)
{
	if (!mkdtemp(upper_folder))
		return -1;
	snprintf(upper_data, sizeof upper_data, "%s/u.data", upper_folder);
	snprintf(upper_index, sizeof upper_index, "%s/u.index", upper_folder);
	snprintf(upper_pending, sizeof upper_pending, "%s/u.pending", upper_folder);
	snprintf(upper_disk, sizeof upper_disk, "%s/disk", upper_folder);
	return 0;
}

static inline int upper_clear(void **state)
{
	unlink(upper_data);
	unlink(upper_index);
	unlink(upper_pending);
	unlink(upper_disk);
	return 0;
}

static inline int upper_remove_folder(void **state)
{
	upper_clear(state);
	return rmdir(upper_folder);
}

static inline struct upper_log *upper_open_with(const struct upper_log_options *options)
{
	struct upper_log *u;
	struct err e;

	if (upper_log_open(upper_data, upper_index, options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	return u;
}

static inline struct upper_log *upper_new(uint64_t size, const struct upper_log_options *options)
{
	struct err e;

	upper_clear(NULL);
	if (upper_log_create(NULL, upper_data, upper_index, size, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	return upper_open_with(options);
}

/* Writes in another process, which is then killed. */
static inline void write_and_die(const struct upper_log_options *options)
{
	struct upper_log *u;
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, options, &u, NULL, NULL) < 0 ||
		    upper_log_pwrite(u, "flushed", 7, 100, UPPER_FUA, NULL) < 0 ||
		    upper_log_pwrite(u, "acknowledged", 12, 2000, 0, NULL) < 0 ||
		    upper_log_trim(u, 4096, 4096, 0, NULL) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
}

static inline void upper_close(struct upper_log *u)
{
	struct err e;

	if (upper_log_close(u, &e) < 0)
		fail_msg("%s", e.msg);
}

static inline uint64_t upper_file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* What upper_open_read_only says that is on the disk. */
static inline uint8_t *upper_read_only(uint64_t size)
{
	uint8_t *disk = calloc(1, (size_t)size + 1);
	struct layer layer;
	struct err e;
	size_t i;

	if (upper_open_read_only(upper_data, upper_index, 0, &layer, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	for (i = 0; i < layer.run.count; i++) {
		struct mapping map = layer.run.maps[i];

		if (!mapping_zeroed(map))
			assert_int_equal(source_pread(layer.data,
						      disk + mapping_start(map) * SECTOR,
						      mapping_sectors(map) * SECTOR,
						      mapping_moffset(map) * SECTOR, NULL),
					 0);
	}
	layer_close(&layer);
	return disk;
}

/* The log, which nobody has open and nothing is below of, holds exactly this disk: for our reader,
 * and for a checker that shares no code with it. */
static inline void upper_check_files(const uint8_t *disk, uint64_t size)
{
	uint8_t *read = upper_read_only(size);
	char command[512];

	assert_memory_equal(read, disk, (size_t)size);
	free(read);
	assert_int_equal(io_replace_file(upper_disk, disk, (size_t)size, NULL), 0);
	snprintf(command, sizeof command, "python3 %s/../check-upper.py %s %s %s > %s/out 2>&1",
		 getenv("GOLDEN"), upper_data, upper_index, upper_disk, upper_folder);
	if (system(command) != 0) {
		snprintf(command, sizeof command, "cat %s/out", upper_folder);
		(void)!system(command);
		fail_msg("check-upper.py refuses the log");
	}
	snprintf(command, sizeof command, "%s/out", upper_folder);
	unlink(command);
}

#endif
