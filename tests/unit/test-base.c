/* SPDX-License-Identifier: Apache-2.0 */
/* test-base.c - errors, whole reads and writes, sources, sinks, digests, workers, arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/array.h"
#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/sink.h"
#include "core/base/source.h"
#include "core/base/workers.h"

static char folder[] = "/tmp/test-base.XXXXXX";
static char path[64];

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/file", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(folder); /* fails when a test left something behind */
}

static void errors_read_from_the_outside_in(void **state)
{
	struct err e;
	char long_name[2000];

	assert_int_equal(err_set(&e, EBADMSG, "block %d", 812), -EBADMSG);
	assert_int_equal(err_wrap(&e, -EBADMSG, "layer %d", 2), -EBADMSG);
	assert_string_equal(e.msg, "layer 2: block 812");
	assert_int_equal(err_set(NULL, EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EIO, "x"), -EIO);

	memset(long_name, 'n', sizeof long_name);
	long_name[sizeof long_name - 1] = '\0';
	err_wrap(&e, -EBADMSG, "%s", long_name);
	assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
	assert_non_null(strstr(e.msg, ": layer 2: block 812"));
	err_set(&e, EIO, "%s", long_name);
	err_wrap(&e, -EIO, "outer");
	assert_int_equal(e.msg[0], 'n');
}

static void ranges_do_not_wrap(void **state)
{
	assert_true(range_fits(0, 0, 0));
	assert_true(range_fits(5, 5, 10));
	assert_false(range_fits(5, 6, 10));
	assert_false(range_fits(11, 0, 10));
	assert_false(range_fits(UINT64_MAX, 2, 10));
	assert_false(range_fits(2, UINT64_MAX, 10));
}

static void sources(void **state)
{
	struct source *memory, *slice, *file;
	struct err e;
	char buf[8];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(source_open_memory("0123456789", 10, &memory, &e), 0);
	assert_int_equal(source_open_slice(memory, 2, 9, &slice, &e), -EINVAL);
	assert_int_equal(source_open_slice(memory, 2, 8, &slice, &e), 0);
	assert_int_equal(source_pread(slice, buf, 3, 5, &e), 0);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(source_pread(slice, buf, 4, 5, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "beyond its end at 8"));
	assert_int_equal(source_pread(slice, buf, 0, 8, &e), 0);
	source_prefetch(slice, 0, UINT64_MAX);
	source_drop(slice, 7, UINT64_MAX);
	source_close(slice);

	assert_int_equal(io_pwrite(fd, "abcdef", 6, 0, &e), 0);
	assert_int_equal(source_open_file(path, &file, &e), 0);
	assert_int_equal(file->size, 6);
	assert_int_equal(source_pread(file, buf, 6, 0, &e), 0);
	assert_memory_equal(buf, "abcdef", 6);
	assert_int_equal(ftruncate(fd, 3), 0);
	assert_int_equal(source_pread(file, buf, 6, 0, &e), -EIO);
	assert_non_null(strstr(e.msg, "the file ends at 3"));
	assert_int_equal(source_pread(file, buf, 1, 5, &e), -EIO);
	assert_non_null(strstr(e.msg, "reading 1 bytes at 5: the file ends at 3"));
	assert_int_equal(source_pread(file, buf, 3, 0, &e), 0);
	source_close(file);
	close(fd);
	assert_int_equal(source_open_file("/nonexistent", &file, &e), -ENOENT);
	assert_int_equal(source_open_file("/", &file, &e), -EISDIR);
	assert_int_equal(source_open_file("/dev/null", &file, &e), -EINVAL);
}

static size_t files_in_folder(void)
{
	char pattern[80];
	glob_t found;
	size_t n;

	snprintf(pattern, sizeof pattern, "%s/*", folder);
	n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return n;
}

static void file_sink_appears_whole_or_not_at_all(void **state)
{
	char *big = malloc(1 << 20), *text;
	struct sink *s;
	struct err e;
	size_t n;

	unlink(path);
	memset(big, 'b', 1 << 20);
	assert_int_equal(sink_open_file(path, &s, &e), 0);
	assert_int_equal(sink_write(s, "head", 4, &e), 0);
	assert_int_equal(sink_write(s, big, 1 << 20, &e), 0);
	sink_close(s);
	assert_int_equal(files_in_folder(), 0);

	assert_int_equal(sink_open_file(path, &s, &e), 0);
	assert_int_equal(sink_write(s, "head", 4, &e), 0);
	assert_int_equal(sink_patch(s, "H", 1, 4, &e), -EINVAL);
	assert_int_equal(sink_patch(s, "H", 1, 0, &e), 0);
	assert_int_equal(sink_write(s, big, 1 << 20, &e), 0);
	assert_int_equal(sink_write_zeroes(s, 5000, &e), 0);
	assert_int_equal(sink_patch(s, "D", 1, 3, &e), 0);
	assert_int_equal(s->written, 4 + (1 << 20) + 5000);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(sink_finish(s, &e), 0);
	sink_close(s);
	assert_int_equal(files_in_folder(), 1);
	assert_int_equal(io_read_file(path, 1 << 22, &text, &n, &e), 0);
	assert_int_equal(n, 4 + (1 << 20) + 5000);
	assert_memory_equal(text, "HeaDbbbb", 8);
	assert_int_equal(text[n - 5001], 'b');
	assert_int_equal(text[n - 5000], 0);
	free(text);
	assert_int_equal(io_read_file(path, 100, &text, &n, &e), -EFBIG);

	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	assert_int_equal(io_read_file(path, 100, &text, &n, &e), 0);
	assert_string_equal(text, "new");
	free(text);
	assert_int_equal(sink_open_file("/dev/null", &s, &e), -EINVAL);
	assert_int_equal(sink_open_file("/nonexistent/x", &s, &e), -ENOENT);
	assert_int_equal(sink_open_file("", &s, &e), -EINVAL);
	free(big);
}

static void sink_follows_a_link(void **state)
{
	char link_path[80];
	struct stat st;
	struct err e;

	snprintf(link_path, sizeof link_path, "%s/link", folder);
	assert_int_equal(io_replace_file(path, "old", 3, &e), 0);
	assert_int_equal(symlink("file", link_path), 0);
	assert_int_equal(io_replace_file(link_path, "by link", 7, &e), 0);
	assert_int_equal(lstat(link_path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 7);
	unlink(path);
	assert_int_equal(io_replace_file(link_path, "nowhere", 7, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "leads nowhere"));
	assert_int_equal(access(path, F_OK), -1);
	unlink(link_path);
}

static void sink_keeps_mode_and_owner(void **state)
{
	struct stat st;
	int status;
	pid_t child;
	struct err e;

	unlink(path);
	assert_int_equal(io_replace_file(path, "old", 3, &e), 0);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(chmod(path, 04755), 0);
	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(path, 1, 2), 0);
	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(st.st_uid, 1);
	assert_int_equal(st.st_gid, 2);
	/* What the file's group may do is for no other group. */
	assert_int_equal(chmod(path, 0664), 0);
	assert_int_equal(chmod(folder, 0777), 0);
	child = fork();
	if (child == 0)
		_exit(setgroups(0, NULL) < 0 || setgid(1) < 0 || setuid(1) < 0 ||
		      io_replace_file(path, "new", 3, NULL) < 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(folder, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_gid, 1);
	assert_int_equal(st.st_mode & 07777, 0604);
}

/* A temporary name may be left over from a process that had our number. */
static void sink_passes_by_names_that_are_taken(void **state)
{
	char taken[96];
	struct err e;

	snprintf(taken, sizeof taken, "%s.tmp.%d.0", path, (int)getpid());
	close(open(taken, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	assert_int_equal(access(taken, F_OK), 0);
	unlink(taken);
}

/* The longest name there can be: a temporary one may not be longer. */
static void sink_writes_under_a_long_name(void **state)
{
	char name[320];
	size_t n = (size_t)snprintf(name, sizeof name, "%s/", folder);
	struct err e = { "" };

	memset(name + n, 'n', 255);
	name[n + 255] = '\0';
	if (io_replace_file(name, "new", 3, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(unlink(name), 0);
}

static void absolute_paths(void **state)
{
	char *p = io_absolute_path("/a/b", "c.obd");

	assert_string_equal(p, "/a/b/c.obd");
	free(p);
	p = io_absolute_path("/", "c");
	assert_string_equal(p, "/c");
	free(p);
	p = io_absolute_path("/a", "/c");
	assert_string_equal(p, "/c");
	free(p);
	p = io_absolute_path(NULL, "c");
	assert_int_equal(p[0], '/');
	free(p);
}

static void digests(void **state)
{
	static const char abc[] =
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char empty[] =
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char text[DIGEST_TEXT];
	struct digest d;
	struct source *s;

	assert_int_equal(source_open_memory("abc", 3, &s, NULL), 0);
	assert_int_equal(digest_source(s, text, NULL), 0);
	assert_string_equal(text, abc);
	source_close(s);
	assert_int_equal(digest_bytes("abc", 3, text, NULL), 0);
	assert_string_equal(text, abc);
	assert_int_equal(digest_open(&d, NULL), 0);
	assert_int_equal(digest_update(&d, "a", 1, NULL), 0);
	assert_int_equal(digest_update(&d, NULL, 0, NULL), 0);
	assert_int_equal(digest_update(&d, "bc", 2, NULL), 0);
	assert_int_equal(digest_finish(&d, text, NULL), 0);
	assert_string_equal(text, abc);
	digest_close(&d);
	assert_int_equal(digest_bytes(NULL, 0, text, NULL), 0);
	assert_string_equal(text, empty);
	assert_true(digest_is_valid(abc));
	assert_false(digest_is_valid("sha256:BA7816"));
	assert_false(digest_is_valid("md5:00"));
	assert_true(digest_is_any(abc));
	text[70] = '\0';
	assert_false(digest_is_valid(text));
	assert_false(digest_is_any(text));
}

static void sha512_digests(void **state)
{
	static const char abc[] =
		"sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
		"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
	char text[DIGEST_ANY_TEXT];
	struct source *s;

	assert_int_equal(source_open_memory("abc", 3, &s, NULL), 0);
	assert_int_equal(digest_source_like(abc, s, text, NULL), 0);
	assert_string_equal(text, abc);
	assert_int_equal(digest_source_like("sha256:", s, text, NULL), 0);
	assert_true(digest_is_valid(text));
	assert_int_equal(digest_bytes_like(abc, "abc", 3, text, NULL), 0);
	assert_string_equal(text, abc);
	memset(text, 'x', sizeof text);
	digest_copy(text, abc);
	assert_string_equal(text, abc);
	assert_string_equal(digest_in_name("r/a@sha512:12"), "12");
	assert_string_equal(digest_in_name("r/a@sha256:34"), "34");
	assert_null(digest_in_name("r/a:sha512"));
	source_close(s);
	assert_true(digest_is_any(abc));
	assert_false(digest_is_valid(abc)); /* buffers of DIGEST_TEXT would be too small */
	memcpy(text, abc, sizeof text);
	text[DIGEST_ANY_TEXT - 2] = '\0';
	assert_false(digest_is_any(text));
	text[DIGEST_ANY_TEXT - 2] = 'F';
	assert_false(digest_is_any(text));
	memcpy(text, abc, DIGEST_TEXT);
	text[DIGEST_TEXT - 1] = '\0';
	assert_false(digest_is_any(text));
}

struct count_job {
	struct job job;
	unsigned n;
};

static void count(struct job *j)
{
	((struct count_job *)j)->n++;
}

static void workers_run_every_job_once(void **state)
{
	enum { JOBS = 200 };
	struct count_job jobs[JOBS];
	unsigned threads, i, round;

	for (threads = 0; threads < 6; threads++) {
		struct workers *w;

		memset(jobs, 0, sizeof jobs);
		assert_int_equal(workers_open(threads, &w, NULL), 0);
		for (round = 1; round < 4; round++) {
			for (i = 0; i < JOBS; i++) {
				jobs[i].job.run = count;
				workers_submit(w, &jobs[i].job);
			}
			for (i = 0; i < JOBS; i++) {
				workers_wait(w, &jobs[i].job);
				assert_int_equal(jobs[i].n, round);
			}
		}
		workers_close(w);
	}
	assert_true(workers_cpus() >= 1);
}

static void numbers_have_an_order(void **state)
{
	static const uint64_t numbers[] = { 0, 1, 2, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX };
	size_t i, k, n = sizeof numbers / sizeof *numbers;

	for (i = 0; i < n; i++)
		for (k = 0; k < n; k++) {
			int r = order_u64(numbers[i], numbers[k]);

			assert_int_equal(r, i < k ? -1 : i > k);
		}
}

/* Memory for just as many as it says, whenever one more is to be added; what was there stays. */
static void arrays_grow_when_they_are_full(void **state)
{
	uint64_t *array = NULL;
	size_t count, room = 0, i, wanted = 0;

	for (count = 0; count < 1000; count++) {
		array = array_grow(array, count, &room, sizeof *array);
		assert_non_null(array);
		if (count == wanted)
			wanted = wanted > 0 ? 2 * wanted : 64;
		assert_int_equal(room, wanted);
		assert_true(malloc_usable_size(array) >= room * sizeof *array);
		assert_true(malloc_usable_size(array) < 2 * room * sizeof *array);
		array[count] = count;
	}
	for (i = 0; i < count; i++)
		assert_int_equal(array[i], i);
	assert_ptr_equal(array_grow(array, count, &room, sizeof *array), array);
	free(array);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_read_from_the_outside_in),
		cmocka_unit_test(ranges_do_not_wrap),
		cmocka_unit_test(sources),
		cmocka_unit_test(file_sink_appears_whole_or_not_at_all),
		cmocka_unit_test(sink_follows_a_link),
		cmocka_unit_test(sink_keeps_mode_and_owner),
		cmocka_unit_test(sink_passes_by_names_that_are_taken),
		cmocka_unit_test(sink_writes_under_a_long_name),
		cmocka_unit_test(absolute_paths),
		cmocka_unit_test(digests),
		cmocka_unit_test(sha512_digests),
		cmocka_unit_test(workers_run_every_job_once),
		cmocka_unit_test(numbers_have_an_order),
		cmocka_unit_test(arrays_grow_when_they_are_full),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
