/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_write.c - a writable image against a plain model: changes over lowers and beyond their
 * end, extents, snapshots one after the other under threads that read and write. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/base/sink.h"
#include "core/image.h"
#include "core/layer_writer.h"
#include "core/upper_log.h"
#include "tests/testlib.h"
#include "tests/unit/loops.h"

enum { DISK = 512 * SECTOR, LOWER = 300 * SECTOR, MAX = 20000, THREADS = 4 };

static const struct config_options no_service = { .service = "none" };
static char folder[] = "/tmp/test-image-write-XXXXXX";
static uint8_t model[DISK], buffer[DISK];

/* What goes wrong in the calls of our own objects. */
static atomic_bool no_files_after_rename; /* none can be opened */
static atomic_bool no_sync_after_rename; /* EIO, and none can be opened */
static atomic_bool slow_datasync;
static atomic_bool edit_config; /* by somebody else, at the next sync */
static atomic_bool broken_datasync; /* EIO */
static atomic_uint folder_syncs, lines;

int __real_rename(const char *from, const char *to);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

static void set_file_limit(rlim_t limit)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = limit ? limit : l.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
}

static char *in_folder(const char *name)
{
	static char paths[8][128];
	static atomic_uint next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

int __wrap_rename(const char *from, const char *to)
{
	int r = __real_rename(from, to);

	if (strstr(to, "/c") && (no_files_after_rename || no_sync_after_rename))
		set_file_limit(3);
	return r;
}

int __wrap_fsync(int fd)
{
	struct rlimit l;
	struct stat st;

	if (no_sync_after_rename && getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur == 3) {
		errno = EIO;
		return -1;
	}
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		folder_syncs++;
	return __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
	if (slow_datasync)
		nanosleep(&(struct timespec){ .tv_nsec = 210 * 1000000L }, NULL);
	if (broken_datasync) {
		errno = EIO;
		return -1;
	}
	if (atomic_exchange(&edit_config, false)) {
		FILE *f = fopen(in_folder("c"), "a");

		fputs("# edited\n", f);
		fclose(f);
	}
	return __real_fdatasync(fd);
}

static void count_line(enum log_level level, const char *line)
{
	if (level == LOG_WARNING && lines++ == 0)
		printf("%s\n", line);
}

static int set_up(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

/* A layer of random sectors, a third of them. */
static void write_lower(void)
{
	struct layer_writer_options options = { .virtual_size = LOWER };
	struct layer_writer *w;
	struct sink *s;
	size_t i, k;

	memset(model, 0, sizeof model);
	assert_int_equal(sink_open_file(in_folder("lower"), &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	for (i = 0; i < LOWER / SECTOR; i += 1 + (size_t)loops_random() % 5) {
		for (k = 0; k < SECTOR; k++)
			model[i * SECTOR + k] = (uint8_t)loops_random();
		assert_int_equal(layer_writer_data(w, i, model + i * SECTOR, 1, NULL), 0);
	}
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

static void make_config(void)
{
	static const char text[] = "# a disk\nlowers:\n  - file: lower # the base\nupper:\n"
				   "  data: u.data\n  index: u.index\n";

	assert_int_equal(io_replace_file(in_folder("c"), text, sizeof text - 1, NULL), 0);
}

static void make_upper(void)
{
	assert_int_equal(upper_log_create(NULL, in_folder("u.data"), in_folder("u.index"), DISK,
					  NULL, NULL, NULL),
			 0);
	make_config();
}

struct opened {
	struct image_config *config;
	struct image *image;
};

static struct opened open_disk(bool writable)
{
	struct image_options options = { .writable = writable };
	struct opened o;
	struct err e;

	if (config_load(in_folder("c"), &no_service, &o.config, &e) < 0 ||
	    image_open(o.config, &options, &o.image, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(image_size(o.image), DISK);
	return o;
}

static void close_disk(struct opened *o)
{
	image_close(o->image);
	config_free(o->config);
}

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s/*", folder);
	assert_int_equal(system(command), 0);
}

static void compare(struct image *image)
{
	struct err e;

	if (image_pread(image, buffer, DISK, 0, &e) < 0)
		fail_msg("%s", e.msg);
	assert_memory_equal(buffer, model, DISK);
}

struct checked {
	uint64_t at;
	size_t layers;
};

static int check_extent(void *arg, const struct image_extent *x)
{
	struct checked *c = arg;
	uint64_t i;

	assert_int_equal(x->off, c->at);
	assert_true(x->n > 0);
	assert_true(x->kind == EXTENT_HOLE || x->layer < c->layers);
	for (i = x->off; x->kind != EXTENT_DATA && i < x->off + x->n; i++)
		assert_int_equal(model[i], 0);
	c->at += x->n;
	return 0;
}

static void check_extents(struct image *image)
{
	struct checked c = { .layers = image_layer_count(image) };

	assert_int_equal(image_extents(image, 0, DISK, loops_random() % 2, check_extent, &c), 0);
	assert_int_equal(c.at, DISK);
}

static void change(struct image *image, uint64_t from, uint64_t to)
{
	uint64_t off = from + loops_random() % (to - from), i;
	size_t n = 1 + (size_t)loops_random() % (size_t)(to - off < MAX ? to - off : MAX);
	uint8_t bytes[MAX];
	struct err e;
	int r;

	switch (loops_random() % 4) {
	case 0:
		r = image_zero(image, off, n, 0, &e);
		memset(model + off, 0, n);
		break;
	case 1:
		r = image_trim(image, off, n, 0, &e);
		for (i = (off + SECTOR - 1) / SECTOR; i < (off + n) / SECTOR; i++)
			memset(model + i * SECTOR, 0, SECTOR);
		break;
	default:
		memset(bytes, (int)(loops_random() % 255) + 1, n);
		r = image_pwrite(image, bytes, n, off, loops_random() % 10 == 0 ? UPPER_FUA : 0,
				 &e);
		memcpy(model + off, bytes, n);
	}
	if (r < 0)
		fail_msg("%s", e.msg);
}

static void changes_over_lowers(void **state)
{
	unsigned round = loops_count(1000);
	struct opened o;
	struct err e;

	write_lower();
	make_upper();
	while (round-- > 0) {
		o = open_disk(true);
		assert_true(image_is_writable(o.image));
		assert_int_equal(image_layer_count(o.image), 2);
		change(o.image, 0, DISK);
		change(o.image, 0, DISK);
		compare(o.image);
		check_extents(o.image);
		assert_int_equal(image_pwrite(o.image, model, 2, DISK - 1, 0, &e), -EINVAL);
		assert_int_equal(image_flush(o.image, &e), 0);
		close_disk(&o);
	}
	o = open_disk(false);
	assert_false(image_is_writable(o.image));
	compare(o.image);
	check_extents(o.image);
	assert_int_equal(image_pwrite(o.image, model, 1, 0, 0, &e), -EROFS);
	close_disk(&o);
	clean();
}

/* Each thread has a part of the disk, of which it knows what it holds. */
struct part {
	struct image *image;
	uint64_t from, to;
	atomic_bool *stop;
	unsigned seed;
};

static void *use_part(void *arg)
{
	struct part *p = arg;
	uint8_t bytes[4 * SECTOR], got[4 * SECTOR];

	while (!atomic_load(p->stop)) {
		uint64_t off = p->from + (uint64_t)rand_r(&p->seed) % (p->to - p->from - 1);
		size_t n = 1 + (size_t)rand_r(&p->seed) % (size_t)(p->to - off < sizeof bytes
									   ? p->to - off
									   : sizeof bytes);

		assert_int_equal(image_pread(p->image, got, n, off, NULL), 0);
		if (memcmp(got, model + off, n) != 0)
			abort();
		memset(bytes, rand_r(&p->seed), n);
		assert_int_equal(image_pwrite(p->image, bytes, n, off, 0, NULL), 0);
		memcpy(model + off, bytes, n);
		if (rand_r(&p->seed) % 16 == 0)
			assert_int_equal(image_flush(p->image, NULL), 0);
		assert_true(image_layer_count(p->image) >= 2);
		if (rand_r(&p->seed) % 64 == 0)
			assert_int_equal(image_tidy(p->image, NULL), 0);
	}
	return NULL;
}

static void snapshots_under_threads(void **state)
{
	unsigned count = loops_count(200), i;
	struct part parts[THREADS];
	pthread_t threads[THREADS];
	atomic_bool stop = false;
	struct opened o;
	struct err e;
	uint64_t blocked;
	char name[32];

	write_lower();
	make_upper();
	o = open_disk(true);
	for (i = 0; i < THREADS; i++) {
		parts[i] = (struct part){ .image = o.image,
					  .from = DISK / THREADS * i,
					  .to = DISK / THREADS * (i + 1),
					  .stop = &stop,
					  .seed = (unsigned)loops_random() };
		assert_int_equal(pthread_create(&threads[i], NULL, use_part, &parts[i]), 0);
	}
	for (i = 0; i < count; i++) {
		snprintf(name, sizeof name, "layer-%u", i);
		if (image_snapshot(o.image, in_folder(name), &blocked, &e) < 0)
			fail_msg("%u: %s", i, e.msg);
	}
	atomic_store(&stop, true);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(image_layer_count(o.image), count + 2);
	compare(o.image);
	check_extents(o.image);
	close_disk(&o);
	o = open_disk(true);
	assert_int_equal(image_layer_count(o.image), count + 2);
	compare(o.image);
	change(o.image, 0, DISK);
	close_disk(&o);
	o = open_disk(false);
	compare(o.image);
	close_disk(&o);
	clean();
}

/* The disk is as it should be, also after a restart. */
static void compare_and_reopen(struct opened *o)
{
	compare(o->image);
	close_disk(o);
	*o = open_disk(true);
	compare(o->image);
	close_disk(o);
}

static void expect_refused(struct image *image, const char *layer, int code, const char *text)
{
	uint64_t blocked;
	struct err e;

	assert_int_equal(image_snapshot(image, layer, &blocked, &e), -code);
	if (!strstr(e.msg, text))
		fail_msg("%s", e.msg);
	compare(image);
}

/* A snapshot writes the config file anew: that must name what is served. */
static void no_snapshot_of_what_the_command_line_names(void **state)
{
	static const char text[] = "lowers: [{file: lower}]\n";
	struct config_options options = { .service = "none" };
	struct image_options writable = { .writable = true };
	struct opened o;
	char upper[64];
	struct err e;
	unsigned k;

	write_lower();
	make_upper();
	snprintf(upper, sizeof upper, "%s", in_folder("u"));
	for (k = 0; k < 2; k++) {
		if (k == 0) {
			options.upper = upper;
			assert_int_equal(
				io_replace_file(in_folder("c"), text, sizeof text - 1, NULL), 0);
			assert_int_equal(config_load(in_folder("c"), &options, &o.config, &e), 0);
		} else {
			options.upper = NULL;
			make_config();
			assert_int_equal(config_load(in_folder("c"), &options, &o.config, &e), 0);
			o.config->path[0] = 'x'; /* as the name of an image */
		}
		if (image_open(o.config, &writable, &o.image, &e) < 0)
			fail_msg("%s", e.msg);
		expect_refused(o.image, in_folder("l.obd"), EINVAL,
			       k == 0 ? "the upper came from the command line"
				      : "the image came from the command line");
		close_disk(&o);
	}
	clean();
}

static void refused_snapshots_change_nothing(void **state)
{
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *after = NULL;
	struct opened o;
	struct err e;
	size_t n, m;
	uint64_t blocked;

	write_lower();
	make_upper();
	assert_int_equal(io_read_file(in_folder("c"), 4096, &before, &n, NULL), 0);
	o = open_disk(true);
	change(o.image, 0, DISK);
	expect_refused(o.image, "relative", EINVAL, "'relative' is not an absolute path");
	expect_refused(o.image, in_folder("lower"), EEXIST, "File exists");
	expect_refused(o.image, in_folder("u.data"), EEXIST, "File exists");
	expect_refused(o.image, in_folder("./u.data"), EEXIST, "File exists");
	assert_int_equal(link(in_folder("u.data"), in_folder("second")), 0);
	expect_refused(o.image, in_folder(".//u.data"), EEXIST, "File exists");
	assert_int_equal(unlink(in_folder("second")), 0);
	assert_int_equal(access(in_folder("u.data"), F_OK), 0);
	expect_refused(o.image, in_folder("no/x"), ENOENT, "No such file");
	expect_refused(o.image, "/proc/x", EXDEV, "has to lie on the file system of");
	assert_int_equal(io_replace_file(in_folder("c"), "lowers: [{file: lower}]\n", 24, NULL), 0);
	expect_refused(o.image, in_folder("l.obd"), EINVAL,
		       "it does not name the upper that is served");
	assert_int_equal(io_replace_file(in_folder("c"), before, n, NULL), 0);
	assert_int_equal(access(in_folder("l.obd"), F_OK), -1);
	assert_int_equal(access(in_folder("u-1.data"), F_OK), -1);
	/* What one that was cut short has left is no obstacle; what is somebody's is. */
	assert_int_equal(link(in_folder("u.data"), in_folder("l.obd")), 0);
	assert_int_equal(upper_log_create(NULL, in_folder("u-1.data"), in_folder("u-1.index"), DISK,
					  NULL, image_layer(o.image, 1)->layer.header.uuid, NULL),
			 0);
	assert_int_equal(upper_log_create(NULL, in_folder("u-2.data"), in_folder("u-2.index"), DISK,
					  NULL, NULL, NULL),
			 0);
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	change(o.image, 0, DISK);
	if (image_snapshot(o.image, in_folder("l2.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(io_read_file(in_folder("c"), 4096, &after, &m, NULL), 0);
	assert_string_equal(after,
			    "# a disk\nlowers:\n  - file: lower # the base\n  - file: l.obd\n"
			    "  - file: l2.obd\nupper:\n  data: u-3.data\n  index: u-3.index\n");
	assert_int_equal(access(in_folder("u-1.data"), F_OK), -1);
	assert_int_equal(access(in_folder("u.data"), F_OK), -1);
	compare_and_reopen(&o);
	clean();
}

/* The layer is a name of the file, not of the link that the config knows. */
static void an_upper_behind_links_becomes_a_layer(void **state)
{
	struct opened o;
	struct stat st;
	uint64_t blocked;
	struct err e;

	write_lower();
	make_upper();
	assert_int_equal(rename(in_folder("u.data"), in_folder("true.data")), 0);
	assert_int_equal(rename(in_folder("u.index"), in_folder("true.index")), 0);
	assert_int_equal(symlink("true.data", in_folder("u.data")), 0);
	assert_int_equal(symlink("true.index", in_folder("u.index")), 0);
	o = open_disk(true);
	change(o.image, 0, DISK);
	expect_refused(o.image, in_folder("true.data"), EEXIST, "File exists");
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(lstat(in_folder("l.obd"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	compare_and_reopen(&o);
	unlink(in_folder("u.data"));
	unlink(in_folder("u.index"));
	clean();
}

/* Neither the disk nor the next snapshot suffers when the process runs out of files at the worst
 * time; nor is what only some could read for all to read then. */
static void a_snapshot_without_files_is_finished_later(void **state)
{
	uint64_t blocked;
	struct opened o;
	struct stat st;
	struct err e;

	write_lower();
	make_upper();
	assert_int_equal(chmod(in_folder("u.data"), 0600), 0);
	o = open_disk(true);
	change(o.image, 0, DISK);
	no_files_after_rename = true;
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	expect_refused(o.image, in_folder("l2.obd"), EMFILE,
		       "the last snapshot could not be finished");
	no_files_after_rename = false;
	set_file_limit(0);
	change(o.image, 0, DISK);
	if (image_snapshot(o.image, in_folder("l2.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(stat(in_folder("u-2.data"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	compare_and_reopen(&o);
	clean();
}

/* The config may name the old files or the new ones: all are there, and nothing more is promised.
 */
static void a_snapshot_that_may_have_been_keeps_all_files(void **state)
{
	uint8_t byte = 1;
	uint64_t blocked;
	struct opened o;
	struct err e;

	write_lower();
	make_upper();
	o = open_disk(true);
	change(o.image, 0, DISK);
	no_sync_after_rename = true;
	assert_int_equal(image_snapshot(o.image, in_folder("l.obd"), &blocked, &e), -EIO);
	no_sync_after_rename = false;
	set_file_limit(0);
	compare(o.image);
	assert_int_equal(image_pwrite(o.image, &byte, 1, 0, 0, &e), -EIO);
	assert_int_equal(access(in_folder("u.data"), F_OK), 0);
	assert_int_equal(access(in_folder("u.index"), F_OK), 0);
	close_disk(&o);
	o = open_disk(true);
	compare(o.image);
	close_disk(&o);
	clean();
}

/* It fails when the layer is there already under its name, and sealed: all is as it was. */
static void a_snapshot_that_fails_late_is_undone(void **state)
{
	struct format_header trailer;
	struct source *data;
	uint64_t blocked;
	struct opened o;
	struct err e;

	write_lower();
	make_upper();
	o = open_disk(true);
	change(o.image, 0, DISK);
	edit_config = true;
	expect_refused(o.image, in_folder("l.obd"), EBUSY, "somebody changes it");
	assert_false(edit_config);
	assert_int_equal(access(in_folder("l.obd"), F_OK), -1);
	assert_int_equal(access(in_folder("u-1.data"), F_OK), -1);
	assert_int_equal(access(in_folder("u-1.index"), F_OK), -1);
	assert_int_equal(source_open_file(in_folder("u.data"), &data, NULL), 0);
	assert_true(layer_read_trailer(data, NULL, &trailer, NULL) < 0);
	source_close(data);
	change(o.image, 0, DISK);
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	compare_and_reopen(&o);
	clean();
}

/* The names of the fresh pair, the layer, the config and what is gone: each is synced before the
 * next step relies on it.  And there is nothing to tell. */
static void a_good_snapshot_syncs_its_folder_and_says_nothing(void **state)
{
	enum {
		PAIR = 2, /* one each */
		OPENING = 1,
		LAYER = 1,
		CONFIG = 1,
		OLD = 1,
	};
	uint64_t blocked;
	struct opened o;
	struct err e;

	write_lower();
	make_upper();
	o = open_disk(true);
	change(o.image, 0, DISK);
	folder_syncs = lines = 0;
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(folder_syncs, PAIR + OPENING + LAYER + CONFIG + OLD);
	assert_string_equal(image_layer(o.image, 1)->path, in_folder("l.obd"));
	compare_and_reopen(&o);
	assert_int_equal(lines, 0);
	clean();
}

/* Clients that come after a failed sync are told that they cannot write. */
static void an_upper_that_failed_is_read_only(void **state)
{
	uint8_t byte = 1;
	struct opened o;
	struct err e;

	write_lower();
	make_upper();
	o = open_disk(true);
	change(o.image, 0, DISK);
	assert_true(image_is_writable(o.image));
	broken_datasync = true;
	assert_int_equal(image_pwrite(o.image, &byte, 1, 0, UPPER_FUA, &e), -EIO);
	broken_datasync = false;
	assert_false(image_is_writable(o.image));
	assert_true(image_has_upper(o.image));
	close_disk(&o);
	o = open_disk(true);
	assert_true(image_is_writable(o.image));
	close_disk(&o);
	clean();
}

static void *write_durably(void *arg)
{
	const struct part *p = arg;
	uint64_t i;
	struct err e;

	for (i = p->from; !atomic_load(p->stop); i = i + SECTOR < p->to ? i + SECTOR : p->from)
		if (image_pwrite(p->image, buffer, SECTOR, i, UPPER_FUA, &e) < 0)
			fail_msg("%s", e.msg);
	return NULL;
}

/* However long the disk below takes for a sync. */
static void a_snapshot_waits_for_no_sync(void **state)
{
	struct part parts[THREADS];
	pthread_t threads[THREADS];
	atomic_bool stop = false;
	uint64_t blocked;
	struct opened o;
	struct err e;
	unsigned i;

	write_lower();
	make_upper();
	o = open_disk(true);
	slow_datasync = true;
	for (i = 0; i < THREADS; i++) {
		parts[i] = (struct part){ .image = o.image,
					  .from = DISK / THREADS * i,
					  .to = DISK / THREADS * (i + 1),
					  .stop = &stop };
		assert_int_equal(pthread_create(&threads[i], NULL, write_durably, &parts[i]), 0);
	}
	if (image_snapshot(o.image, in_folder("l.obd"), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	atomic_store(&stop, true);
	slow_datasync = false;
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	close_disk(&o);
	clean();
}

enum { EACH = 3 }; /* snapshots of each thread */

static void *snapshot_some(void *arg)
{
	const struct part *p = arg;
	char path[256];
	uint64_t blocked;
	struct err e;
	unsigned i;

	for (i = 0; i < EACH; i++) {
		snprintf(path, sizeof path, "%s/l-%u-%u.obd", folder, (unsigned)p->from, i);
		if (image_snapshot(p->image, path, &blocked, &e) < 0)
			fail_msg("%s", e.msg);
	}
	return NULL;
}

/* One waits for the other: each makes a layer, and all are in the config. */
static void two_snapshots_at_once(void **state)
{
	struct part parts[2];
	pthread_t threads[2];
	struct opened o;
	unsigned i;

	write_lower();
	make_upper();
	o = open_disk(true);
	change(o.image, 0, DISK);
	for (i = 0; i < 2; i++) {
		parts[i] = (struct part){ .image = o.image, .from = i };
		assert_int_equal(pthread_create(&threads[i], NULL, snapshot_some, &parts[i]), 0);
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 2 * EACH; i++)
		assert_non_null(strstr(image_layer(o.image, 1 + i)->path, "/l-"));
	compare_and_reopen(&o);
	clean();
}

static void read_only_images_have_no_snapshots(void **state)
{
	struct opened o;

	write_lower();
	make_upper();
	o = open_disk(false);
	expect_refused(o.image, in_folder("l.obd"), EROFS, "no upper that is written to");
	close_disk(&o);
	clean();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_over_lowers),
		cmocka_unit_test(snapshots_under_threads),
		cmocka_unit_test(no_snapshot_of_what_the_command_line_names),
		cmocka_unit_test(refused_snapshots_change_nothing),
		cmocka_unit_test(an_upper_behind_links_becomes_a_layer),
		cmocka_unit_test(a_snapshot_without_files_is_finished_later),
		cmocka_unit_test(a_snapshot_that_may_have_been_keeps_all_files),
		cmocka_unit_test(a_snapshot_that_fails_late_is_undone),
		cmocka_unit_test(a_good_snapshot_syncs_its_folder_and_says_nothing),
		cmocka_unit_test(an_upper_that_failed_is_read_only),
		cmocka_unit_test(a_snapshot_waits_for_no_sync),
		cmocka_unit_test(two_snapshots_at_once),
		cmocka_unit_test(read_only_images_have_no_snapshots),
	};

	loops_seed();
	log_set_sink(count_line);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
