/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_file.c - what the append log asks of the system: every sync is one, at the system's
 * edge; errors are passed on; no name leads to a file of somebody else's. */
#include "tests/unit/upperlib.h"

#include "core/base/log.h"
#include "core/index.h"
#include "core/upper_compact.h"
#include "core/upper_dense.h"
#include "core/upper_names.h"
#include "core/upper_resize.h"
#include "core/upper_seal.h"

enum { SIZE = 1 << 20, NOBODY = 65534 };

static unsigned datasyncs, syncs, interrupted, lines;
static bool no_sync, writes_nothing, no_holes;

int __real_fdatasync(int fd);
int __real_fsync(int fd);
ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t off);
off_t __real_lseek64(int fd, off_t off, int whence);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off);
off_t __wrap_lseek64(int fd, off_t off, int whence);

static int sync_result(void)
{
	if (interrupted > 0) {
		interrupted--;
		errno = EINTR;
		return -1;
	}
	errno = EIO;
	return no_sync ? -1 : 0;
}

int __wrap_fdatasync(int fd)
{
	datasyncs++;
	return sync_result() < 0 ? -1 : __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
	syncs++;
	return sync_result() < 0 ? -1 : __real_fsync(fd);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off)
{
	return writes_nothing ? 0 : __real_pwrite64(fd, buf, n, off);
}

/* A file system that knows no holes says that all is data. */
off_t __wrap_lseek64(int fd, off_t off, int whence)
{
	struct stat st;

	if (!no_holes || (whence != SEEK_HOLE && whence != SEEK_DATA))
		return __real_lseek64(fd, off, whence);
	assert_int_equal(fstat(fd, &st), 0);
	return whence == SEEK_HOLE ? st.st_size : off;
}

static void count_line(enum log_level level, const char *line)
{
	if (level == LOG_WARNING && lines++ == 0)
		printf("%s\n", line);
}

/* ---- the system's operations ---- */

static void syncs_reach_the_system(void **state)
{
	const struct file_ops *ops = &file_ops_system;
	int fd;

	upper_clear(NULL);
	fd = ops->open(upper_data, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	datasyncs = syncs = 0;
	assert_int_equal(ops->datasync(fd), 0);
	assert_int_equal(datasyncs, 1);
	assert_int_equal(ops->sync_folder(upper_data), 0);
	assert_int_equal(syncs, 1);
	/* An interruption is no failure; a failure is never tried again. */
	interrupted = 2;
	assert_int_equal(ops->datasync(fd), 0);
	assert_int_equal(datasyncs, 4);
	interrupted = 2;
	assert_int_equal(ops->sync_folder(upper_data), 0);
	assert_int_equal(syncs, 4);
	no_sync = true;
	assert_int_equal(ops->datasync(fd), -EIO);
	assert_int_equal(ops->sync_folder(upper_data), -EIO);
	no_sync = false;
	assert_int_equal(datasyncs, 5);
	assert_int_equal(syncs, 5);
	ops->close(fd);
}

/* A whole life of a log: how often it syncs what is part of its promise, and it has nothing to say.
 */
static void a_good_run_syncs_and_says_nothing(void **state)
{
	struct upper_log *u;
	struct err e;

	upper_clear(NULL);
	lines = datasyncs = syncs = 0;
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, SIZE, NULL, NULL, &e), 0);
	assert_int_equal(datasyncs, 2);
	assert_int_equal(syncs, 2);
	u = upper_open_with(NULL);
	assert_int_equal(datasyncs, 3);
	assert_int_equal(syncs, 3);
	assert_int_equal(upper_log_flush(u, NULL), 0); /* of what others may have written */
	assert_int_equal(datasyncs, 5);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	assert_int_equal(datasyncs, 5);
	assert_int_equal(upper_log_pwrite(u, "y", 1, 1024, UPPER_FUA, NULL), 0);
	assert_int_equal(datasyncs, 7);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(datasyncs, 7);
	upper_close(u);
	upper_close(upper_open_with(NULL));
	assert_int_equal(lines, 0);
}

static void files_are_opened_with_care(void **state)
{
	const struct file_ops *ops = &file_ops_system;
	char link[80], fifo[80];
	uint64_t size;
	int fd;

	upper_clear(NULL);
	snprintf(link, sizeof link, "%s/link", upper_folder);
	snprintf(fifo, sizeof fifo, "%s/fifo", upper_folder);
	assert_int_equal(io_replace_file(upper_data, "x", 1, NULL), 0);
	fd = ops->open(upper_data, O_RDONLY, 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	ops->close(fd);
	assert_int_equal(symlink("u.data", link), 0);
	assert_int_equal(ops->open(link, O_RDWR, 0), -ELOOP);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	alarm(20);
	fd = ops->open(fifo, O_RDONLY, 0); /* waits for nobody */
	alarm(0);
	assert_true(fd >= 0);
	assert_int_equal(ops->size(fd, &size), -EINVAL);
	ops->close(fd);
	unlink(link);
	unlink(fifo);
	fd = ops->open(upper_data, O_RDWR, 0);
	writes_nothing = true;
	assert_int_equal(upper_file_write(ops, fd, "y", 1, 0, NULL), -EIO);
	writes_nothing = false;
	ops->close(fd);
}

static void temporary_files(void **state)
{
	const struct file_ops *ops = &file_ops_system;
	char *first, *second;
	struct stat st;
	int like, fd;

	upper_clear(NULL);
	like = open(upper_data, O_RDWR | O_CREAT, 0640);
	assert_int_equal(fchmod(like, 0640), 0);
	fd = upper_file_temporary(ops, upper_index, like, &first, NULL);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	close(fd);
	fd = upper_file_temporary(ops, upper_index, -1, &second, NULL);
	assert_true(fd >= 0);
	close(fd);
	assert_string_not_equal(first, second);
	assert_memory_equal(first, upper_index, strlen(upper_index));
	assert_true(upper_file_is_temporary(first));
	assert_false(upper_file_is_temporary(upper_index));
	assert_false(upper_file_is_temporary("u.index.tmp"));
	assert_false(upper_file_is_temporary("u.index.tmp.0123456789abcdeX"));
	assert_false(upper_file_is_temporary("u.index.tmp-0123456789abcdef"));
	assert_int_equal(unlink(first), 0);
	assert_int_equal(unlink(second), 0);
	free(first);
	free(second);
	close(like);
}

static void a_sparse_file_that_shows_no_holes_is_refused(void **state)
{
	struct format_header h;
	uint8_t raw[FORMAT_SPACE];
	struct layer layer;
	struct err e;

	upper_clear(NULL);
	assert_int_equal(upper_log_make_header(&h, SIZE, NULL, NULL, NULL), 0);
	h.flags |= FORMAT_SPARSE;
	format_encode_header(&h, raw);
	assert_int_equal(io_replace_file(upper_data, raw, sizeof raw, NULL), 0);
	assert_int_equal(truncate(upper_data, FORMAT_SPACE + SIZE), 0);
	assert_int_equal(io_replace_file(upper_index, "", 0, NULL), 0);
	assert_int_equal(upper_open_read_only(upper_data, upper_index, 0, &layer, NULL, &e), 0);
	assert_int_equal(layer.run.count, 0);
	layer_close(&layer);
	no_holes = true;
	assert_int_equal(upper_open_read_only(upper_data, upper_index, 0, &layer, NULL, &e),
			 -EOPNOTSUPP);
	no_holes = false;
	assert_non_null(strstr(e.msg, "shows no holes"));
}

static void a_uuid_is_a_random_one(void **state)
{
	struct format_header h;
	unsigned i;

	for (i = 0; i < 50; i++) {
		assert_int_equal(upper_log_make_header(&h, SIZE, NULL, NULL, NULL), 0);
		assert_true(format_is_uuid(h.uuid));
		assert_int_equal(h.uuid[14], '4');
		assert_non_null(strchr("89AB", h.uuid[19]));
	}
}

/* ---- with one operation replaced ---- */

static struct file_ops ops;
static char events[256]; /* d: datasync of the data file, i: of the index, t: truncate, r: rename */
static bool index_is_full, pending_is_bad;

static bool is_file(int fd, const char *path)
{
	return file_ops_system.is_named(fd, path) == 1;
}

static void note(char event)
{
	size_t n = strlen(events);

	assert_true(n + 1 < sizeof events);
	events[n] = event;
	events[n + 1] = '\0';
}

static int noted_datasync(int fd)
{
	note(is_file(fd, upper_data) ? 'd' : is_file(fd, upper_index) ? 'i' : 'n');
	return file_ops_system.datasync(fd);
}

static int noted_truncate(int fd, uint64_t size)
{
	if (is_file(fd, upper_index))
		note('t');
	return file_ops_system.truncate(fd, size);
}

static int noted_rename(const char *from, const char *to)
{
	if (strcmp(to, upper_index) == 0)
		note('r');
	return file_ops_system.rename(from, to);
}

static ssize_t full_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	if (index_is_full && is_file(fd, upper_index))
		return -ENOSPC;
	return file_ops_system.pwrite(fd, buf, n, off);
}

static ssize_t bad_pread(int fd, void *buf, size_t n, uint64_t off)
{
	return pending_is_bad && is_file(fd, upper_pending)
		       ? -EIO
		       : file_ops_system.pread(fd, buf, n, off);
}

static const struct upper_log_options noted = {
	.ops = &ops, .garbage = 50, .garbage_records = 10, .room_records = 1
};

static void replace_ops(void)
{
	ops = file_ops_system;
	ops.datasync = noted_datasync;
	ops.truncate = noted_truncate;
	ops.rename = noted_rename;
	ops.pwrite = full_pwrite;
	ops.pread = bad_pread;
	events[0] = '\0';
}

/* A part of an append must not come back under a later one. */
static void an_append_without_room_is_taken_back_for_good(void **state)
{
	struct upper_log *u;

	replace_ops();
	u = upper_new(SIZE, &noted);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "y", 1, 512, 0, NULL), 0);
	events[0] = '\0';
	index_is_full = true;
	assert_int_equal(upper_log_flush(u, NULL), -ENOSPC);
	index_is_full = false;
	/* What had room would get it again, but there is none: cut twice. */
	assert_string_equal(events, "dtti");
	events[0] = '\0';
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_string_equal(events, "di");
	upper_close(u);
}

/* Another program may have written the log and synced nothing. */
static void an_index_is_rewritten_over_durable_data(void **state)
{
	struct upper_log *u;
	unsigned i;

	replace_ops();
	u = upper_new(SIZE, NULL);
	for (i = 0; i < 40; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 4 * 1024, 0, NULL), 0);
	upper_close(u);
	u = upper_open_with(&noted);
	events[0] = '\0';
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_string_equal(events, "dnr");
	upper_close(u);
}

/* What was acknowledged may be there: that it cannot be read is no reason to go on without it. */
static void a_pending_file_that_cannot_be_read_is_an_error(void **state)
{
	struct upper_findings found;
	struct upper_log *u;
	struct err e;

	replace_ops();
	upper_close(upper_new(SIZE, NULL));
	write_and_die(NULL);
	pending_is_bad = true;
	assert_int_equal(upper_log_open(upper_data, upper_index, &noted, &u, NULL, &e), -EIO);
	pending_is_bad = false;
	assert_int_equal(upper_log_open(upper_data, upper_index, &noted, &u, &found, &e), 0);
	assert_true(found.pending_records >= 2);
	upper_close(u);
}

/* ---- sizes, parts ---- */

/* Nobody but the layers below says how large the disk was when a process died. */
static void what_is_pending_counts_for_the_end(void **state)
{
	struct upper_log_options below = { .size_below = SIZE };
	struct upper_resize how = { .size = SIZE / 2 };
	uint64_t before;
	struct upper_log *u;
	struct err e;
	pid_t child;

	upper_close(upper_new(0, &below));
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, &below, &u, NULL, NULL) < 0 ||
		    upper_log_pwrite(u, "x", 1, SIZE - 1, 0, NULL) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	assert_true(waitpid(child, &(int){ 0 }, 0) > 0);
	assert_int_equal(upper_resize_files(&how, upper_data, upper_index, &before, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "would lose"));
}

static void what_a_killed_creation_left_is_taken_over(void **state)
{
	struct mapping_run none = { 0 };
	struct format_header h;
	struct upper_dense d = { .header = &h, .maps = &none };
	char data_part[80], index_part[80];
	uint8_t raw[FORMAT_SPACE];
	struct err e;
	unsigned i;

	assert_int_equal(upper_log_make_header(&h, SIZE, NULL, NULL, NULL), 0);
	format_encode_header(&h, raw);
	snprintf(data_part, sizeof data_part, "%s.part", upper_data);
	snprintf(index_part, sizeof index_part, "%s.part", upper_index);
	for (i = 0; i < 4; i++) {
		const char *left = i % 2 ? index_part : data_part;

		upper_clear(NULL);
		assert_int_equal(i < 2 ? io_replace_file(left, raw, sizeof raw, NULL)
				       : io_replace_file(left, "a letter", 8, NULL),
				 0);
		assert_int_equal(upper_dense_create(&d, upper_data, upper_index, &e),
				 i < 2 ? 0 : -EEXIST);
		assert_int_equal(access(left, F_OK), i < 2 ? -1 : 0);
		assert_int_equal(access(upper_index, F_OK), i < 2 ? 0 : -1);
		unlink(data_part);
		unlink(index_part);
	}
}

/* ---- names ---- */

static void names_that_a_log_needs_are_refused(void **state)
{
	static const struct {
		const char *name;
		int r;
	} cases[] = {
		{ "u.pending", -EINVAL },
		{ "u-2.pending", -EINVAL },
		{ "u-17.intent", -EINVAL },
		{ "u.data.new", -EINVAL },
		{ "u-1.index.part", -EINVAL },
		{ "u-3.index.tmp.0123456789abcdef", -EINVAL },
		{ "u.upper-pending", -EINVAL },
		{ "u-.pending", 0 },
		{ "v.pending", 0 },
		{ "u-2.obd", 0 },
		{ "upper.pending", 0 },
		{ "u-3.index.tmp", 0 },
	};
	char path[128];
	struct err e;
	size_t i;

	upper_close(upper_new(SIZE, NULL));
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", upper_folder, cases[i].name);
		if (upper_names_refuse_kept(upper_data, path, &e) != cases[i].r)
			fail_msg("%s", cases[i].name);
		snprintf(path, sizeof path, "/tmp/%s", cases[i].name);
		assert_int_equal(upper_names_refuse_kept(upper_data, path, &e), 0);
	}
}

/* Logs whose names differ in the ending alone, and one that has two names. */
static void no_two_names_lose_what_was_acknowledged(void **state)
{
	char plain[80], plain_index[80], second[80];
	struct upper_findings found;
	struct upper_log *u, *other;
	struct err e;
	pid_t child;

	snprintf(plain, sizeof plain, "%s/u", upper_folder);
	snprintf(plain_index, sizeof plain_index, "%s/plain.index", upper_folder);
	snprintf(second, sizeof second, "%s/second.data", upper_folder);
	upper_close(upper_new(SIZE, NULL));
	assert_int_equal(upper_log_create(NULL, plain, plain_index, SIZE, NULL, NULL, NULL), 0);
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, NULL, &u, NULL, NULL) < 0 ||
		    upper_log_open(plain, plain_index, NULL, &other, NULL, NULL) < 0 ||
		    upper_log_pwrite(u, "u", 1, 0, 0, NULL) < 0 ||
		    upper_log_pwrite(other, "v", 1, 0, 0, NULL) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	assert_true(waitpid(child, &(int){ 0 }, 0) > 0);
	assert_int_equal(upper_log_open(plain, plain_index, NULL, &other, &found, &e), 0);
	assert_int_equal(found.pending_records, 1);
	upper_close(other);
	/* By its second name nobody knows what was acknowledged by the first. */
	assert_int_equal(link(upper_data, second), 0);
	assert_int_equal(upper_log_open(second, upper_index, NULL, &u, NULL, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "by another name"));
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.pending_records, 1);
	upper_close(u);
	assert_int_equal(upper_log_open(second, upper_index, NULL, &u, NULL, &e), 0);
	upper_close(u);
	unlink(plain);
	unlink(plain_index);
	unlink(second);
}

/* What has the name that a log would invent, and is not its own, stays. */
static void files_of_others_stay(void **state)
{
	static const char *const mine[] = { "u.data.new", "u.index.new", "u.index.tmp",
					    "u.pending.tmp", "u.index.tmp.0123456789abcdef" };
	struct upper_log_options options = { .garbage = 10, .garbage_records = 10 };
	struct upper_compact compact = { 0 };
	char path[128];
	struct upper_log *u;
	struct err e;
	size_t i, n;
	char *text;

	u = upper_new(SIZE, &options);
	for (i = 0; i < sizeof mine / sizeof mine[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", upper_folder, mine[i]);
		assert_int_equal(io_replace_file(path, "mine", 4, NULL), 0);
	}
	for (i = 0; i < 100; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 4 * 1024, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	upper_close(u);
	upper_close(upper_open_with(&options));
	assert_int_equal(upper_compact_files(&compact, upper_data, upper_index, &e), -EEXIST);
	assert_non_null(strstr(e.msg, "u.data.new"));
	for (i = 0; i < sizeof mine / sizeof mine[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", upper_folder, mine[i]);
		assert_int_equal(io_read_file(path, 100, &text, &n, NULL), 0);
		assert_string_equal(text, "mine");
		free(text);
		unlink(path);
	}
	assert_int_equal(upper_compact_files(&compact, upper_data, upper_index, &e), 0);
}

/* Whoever owns the folder, and is not root, makes root write nowhere else. */
static void links_of_another_user_are_not_followed(void **state)
{
	static const char *const planted[] = { "u.pending",   "u.intent",     "u.data.new",
					       "u.index.new", "u.data.part",  "u.index.part",
					       "u.index.tmp", "u.pending.tmp" };
	struct upper_resize how = { .size = 2 * SIZE };
	struct upper_compact compact = { 0 };
	struct mapping_run none = { 0 };
	struct format_header h;
	struct upper_dense d = { .header = &h, .maps = &none };
	char victim[] = "/tmp/test-upper-victim.XXXXXX", path[128];
	uint64_t before;
	struct upper_log *u;
	struct stat st;
	struct err e;
	size_t i, n;
	char *text;

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	close(mkstemp(victim));
	assert_int_equal(io_replace_file(victim, "root's", 6, NULL), 0);
	assert_int_equal(chmod(victim, 0600), 0);
	assert_int_equal(upper_log_make_header(&h, SIZE, NULL, NULL, NULL), 0);
	upper_close(upper_new(SIZE, NULL));
	assert_int_equal(chown(upper_folder, NOBODY, NOBODY), 0);
	assert_int_equal(chown(upper_data, NOBODY, NOBODY), 0);
	assert_int_equal(chown(upper_index, NOBODY, NOBODY), 0);
	for (i = 0; i < sizeof planted / sizeof planted[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", upper_folder, planted[i]);
		assert_int_equal(symlink(victim, path), 0);
		assert_int_equal(lchown(path, NOBODY, NOBODY), 0);
		if (upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e) == 0) {
			assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
			assert_int_equal(upper_log_close(u, &e), 0);
		}
		(void)upper_compact_files(&compact, upper_data, upper_index, &e);
		(void)upper_resize_files(&how, upper_data, upper_index, &before, &e);
		(void)upper_dense_create(&d, upper_disk, upper_pending, &e);
		unlink(upper_disk);
		unlink(path);
	}
	/* The two files themselves. */
	assert_int_equal(unlink(upper_index), 0);
	assert_int_equal(symlink(victim, upper_index), 0);
	assert_int_equal(lchown(upper_index, NOBODY, NOBODY), 0);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e), -ELOOP);
	assert_non_null(strstr(e.msg, "another user"));
	assert_int_equal(unlink(upper_data), 0);
	assert_int_equal(symlink(victim, upper_data), 0);
	assert_int_equal(lchown(upper_data, NOBODY, NOBODY), 0);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e), -ELOOP);
	assert_int_equal(io_read_file(victim, 100, &text, &n, NULL), 0);
	assert_string_equal(text, "root's");
	free(text);
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	unlink(victim);
	assert_int_equal(chown(upper_folder, 0, 0), 0);
}

/* What is made beside the log is its owner's, with its mode. */
static void what_is_made_is_like_the_data(void **state)
{
	struct upper_log *u;
	struct stat st;

	u = upper_new(SIZE, NULL);
	upper_close(u);
	assert_int_equal(chmod(upper_data, 0600), 0);
	u = upper_open_with(NULL);
	assert_int_equal(stat(upper_pending, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	upper_close(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syncs_reach_the_system),
		cmocka_unit_test(a_good_run_syncs_and_says_nothing),
		cmocka_unit_test(files_are_opened_with_care),
		cmocka_unit_test(temporary_files),
		cmocka_unit_test(a_sparse_file_that_shows_no_holes_is_refused),
		cmocka_unit_test(a_uuid_is_a_random_one),
		cmocka_unit_test(an_append_without_room_is_taken_back_for_good),
		cmocka_unit_test(an_index_is_rewritten_over_durable_data),
		cmocka_unit_test(a_pending_file_that_cannot_be_read_is_an_error),
		cmocka_unit_test(what_is_pending_counts_for_the_end),
		cmocka_unit_test(what_a_killed_creation_left_is_taken_over),
		cmocka_unit_test(names_that_a_log_needs_are_refused),
		cmocka_unit_test(no_two_names_lose_what_was_acknowledged),
		cmocka_unit_test(files_of_others_stay),
		cmocka_unit_test(links_of_another_user_are_not_followed),
		cmocka_unit_test(what_is_made_is_like_the_data),
	};

	loops_seed();
	log_set_sink(count_line);
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
