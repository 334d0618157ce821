/* SPDX-License-Identifier: Apache-2.0 */
/* test-exports.c - the plugin without nbdkit: the folder of exports, the table of open images. */
#include <errno.h>
#include <pthread.h>
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
#include "core/base/scope.h"
#include "nbdkit-plugin/exports.h"
#include "tests/unit/loglib.h"

/* What the machine's own file says must not matter. */
static const struct config_options no_service = { .service = "none" };

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- exports ---- */

static char *path_in(const char *folder, const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	return path;
}

static void write_text(const char *folder, const char *name, const char *text)
{
	AUTO_FREE char *path = path_in(folder, name);

	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

/* An image of one golden layer. */
static void add_image(const char *folder, const char *name)
{
	AUTO_FREE char *text = NULL;
	const char *golden = getenv("GOLDEN");

	assert_non_null(golden);
	assert_true(asprintf(&text, "lowers: [{file: \"%s/raw-5/layer0.obd\"}]\n", golden) > 0);
	write_text(folder, name, text);
}

/* An image of an upper alone. */
static void add_writable(const char *folder, const char *name, const char *upper)
{
	AUTO_FREE char *path = path_in(folder, upper);
	AUTO_FREE char *data = NULL;
	AUTO_FREE char *index = NULL;
	AUTO_FREE char *text = NULL;

	assert_true(asprintf(&data, "%s.data", path) > 0);
	assert_true(asprintf(&index, "%s.index", path) > 0);
	assert_true(asprintf(&text, "upper: {data: \"%s\", index: \"%s\"}\n", data, index) > 0);
	assert_int_equal(upper_log_create(NULL, data, index, 1 << 20, NULL, NULL, NULL), 0);
	write_text(folder, name, text);
}

static int make_folder(void **state)
{
	char name[] = "/tmp/test-exports.XXXXXX";

	if (!mkdtemp(name))
		return -1;
	*state = strdup(name);
	loglib_listen();
	return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
	AUTO_FREE char *command = NULL;
	int status = -1;

	loglib_expect_none();
	if (asprintf(&command, "rm -rf '%s'", (char *)*state) > 0)
		status = system(command);
	free(*state);
	return status;
}

static void test_folder(void **state)
{
	char name[102];
	struct exports *x;
	struct export_names names;
	struct disk *d;
	struct err e;

	assert_int_equal(exports_open("/no/such/folder", &no_service, NULL, &x, &e), -ENOENT);
	assert_string_equal(e.msg, "/no/such/folder: No such file or directory");
	assert_int_equal(exports_open(*state, &no_service, NULL, &x, &e), 0);
	assert_int_equal(exports_acquire(x, "", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no image (*.yaml) in this folder"));
	add_image(*state, "b.yaml");
	add_image(*state, "a.yaml");
	write_text(*state, "a.yml", "");
	write_text(*state, ".hidden.yaml", "");
	assert_int_equal(exports_list(x, &names, &e), 0);
	assert_int_equal(names.count, 2);
	assert_string_equal(names.names[0], "a");
	assert_string_equal(names.names[1], "b");
	export_names_release(&names);
	assert_int_equal(exports_acquire(x, "", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no default export among several: a, b"));
	assert_int_equal(exports_acquire(x, "../a", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no export '../a'; there is: a, b"));
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_int_equal(exports_acquire(x, name, &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "xx...'; there is: a, b"));
	assert_null(strstr(e.msg, name));
	exports_close(x);
}

static void test_sharing(void **state)
{
	AUTO_FREE char *path = path_in(*state, "one.yaml");
	struct disk *first, *second, *third;
	struct exports *x;
	struct err e;

	add_image(*state, "one.yaml");
	assert_int_equal(exports_open(*state, &no_service, NULL, &x, &e), 0);
	assert_int_equal(exports_acquire(x, "one", &first, &e), 0);
	assert_int_equal(exports_acquire(x, "", &second, &e), 0);
	assert_ptr_equal(first, second);
	assert_string_equal(first->config->path, path);
	exports_release(x, first);
	/* What was removed stays open for those who have it. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(exports_acquire(x, "one", &third, &e), -ENOENT);
	assert_int_equal(image_size(second->image), 16777216);
	exports_release(x, second);
	/* A failed open is tried again. */
	write_text(*state, "one.yaml", "lowers: [{file: none}]");
	assert_int_equal(exports_acquire(x, "one", &third, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "one.yaml:1: layer 0: "));
	add_image(*state, "one.yaml");
	assert_int_equal(exports_acquire(x, "one", &third, &e), 0);
	exports_release(x, third);
	exports_close(x);
}

static void read_text(const char *folder, const char *name, char *out, size_t room)
{
	AUTO_FREE char *path = path_in(folder, name);
	AUTO_FREE char *text = NULL;
	size_t n;

	assert_int_equal(io_read_file(path, room - 1, &text, &n, NULL), 0);
	snprintf(out, room, "%s", text);
}

/* Opens the config of that name, and says what is then in the file `res`. */
static int open_with_result(const char *folder, const char *text, char *result, size_t room,
			    struct err *e)
{
	AUTO_FREE char *path = path_in(folder, "c.yaml");
	struct disk *d = NULL;
	int r;

	write_text(folder, "c.yaml", text);
	write_text(folder, "res", "success");
	r = disk_open(path, &no_service, NULL, &d, e);
	disk_close(d);
	read_text(folder, "res", result, room);
	return r;
}

static void test_result_file(void **state)
{
	char result[512];
	struct err e;

	add_image(*state, "good.yaml");
	write_text(*state, "x\ny\033.obd", "no layer");
	assert_int_equal(open_with_result(*state, "lowers: [{file: gone}]\nresultFile: res\n",
					  result, sizeof result, &e),
			 -ENOENT);
	assert_non_null(strstr(result, "failed:/"));
	assert_non_null(strstr(result, "/c.yaml:1: layer 0: "));
	assert_int_equal(open_with_result(*state,
					  "lowers: [{file: \"x\\ny\\e.obd\"}]\nresultFile: res\n",
					  result, sizeof result, &e),
			 -EBADMSG);
	assert_non_null(strstr(result, "/x\\x0ay\\x1b.obd): not an overlaybd layer"));
	assert_null(strpbrk(result, "\n\033"));
}

/* A result file that is one of the image's own is left as it is. */
static void test_own_result_file(void **state)
{
	static const char *const texts[] = {
		"lowers: [{file: res}]\nresultFile: res\n",
		"lowers: [{file: res}]\nresultFile: link\n",
		"lowers: [{file: gone, dir: d}]\nresultFile: d/.commit\n",
		"lowers: [{file: a}]\nresultFile: c.yaml\n",
		"upper: {data: res, index: b}\nresultFile: res\n",
		"upper: {data: b, index: ./res}\nresultFile: res\n",
	};
	AUTO_FREE char *folder = path_in(*state, "d");
	AUTO_FREE char *link_path = path_in(*state, "link");
	char result[512];
	struct err e;
	size_t i;

	assert_int_equal(mkdir(folder, 0777), 0);
	write_text(*state, "d/.commit", "kept");
	assert_int_equal(symlink("res", link_path), 0);
	for (i = 0; i < COUNT_OF(texts); i++) {
		assert_int_equal(open_with_result(*state, texts[i], result, sizeof result, &e),
				 -EINVAL);
		assert_non_null(strstr(e.msg, "' is a file of the image: /"));
		assert_string_equal(result, "success");
	}
	read_text(*state, "d/.commit", result, sizeof result);
	assert_string_equal(result, "kept");
	read_text(*state, "c.yaml", result, sizeof result);
	assert_string_equal(result, texts[COUNT_OF(texts) - 1]);
}

static void test_description(void **state)
{
	AUTO_FREE char *path = path_in(*state, "c.yaml");
	AUTO_FREE char *text = NULL;
	struct disk *d;

	assert_true(asprintf(&text,
			     "lowers: [{file: \"%s/raw-5/layer0.obd\"}]\n"
			     "description: \"a\\nb \\u20ac \\e[31m\"\n",
			     getenv("GOLDEN")) > 0);
	write_text(*state, "c.yaml", text);
	assert_int_equal(disk_open(path, &no_service, NULL, &d, NULL), 0);
	assert_string_equal(d->description, "a\\x0ab \xe2\x82\xac \\x1b[31m");
	disk_close(d);
}

/* An entry whose file cannot be looked at keeps nobody from the others. */
static void test_broken_neighbour(void **state)
{
	AUTO_FREE char *link_path = path_in(*state, "loop.yaml");
	struct exports *x;
	struct disk *d;
	struct err e;

	add_image(*state, "good.yaml");
	assert_int_equal(symlink("loop.yaml", link_path), 0);
	assert_int_equal(exports_open(*state, &no_service, NULL, &x, &e), 0);
	assert_int_equal(exports_acquire(x, "good", &d, &e), 0);
	exports_release(x, d);
	assert_int_equal(exports_acquire(x, "loop", &d, &e), -ENOENT);
	assert_int_equal(exports_acquire(x, "", &d, &e), 0);
	exports_release(x, d);
	exports_close(x);
}

enum { THREADS = 12, ROUNDS = 40 };

struct client {
	struct exports *exports;
	pthread_barrier_t *start;
	char name[8];
	bool good;
	unsigned faults;
	useconds_t pause; /* us between two rounds of come_and_go */
};

static void *run_client(void *arg)
{
	struct client *c = arg;
	struct disk *d;
	struct err e;
	int i, r;

	for (i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(c->start);
		r = exports_acquire(c->exports, c->name, &d, &e);
		c->faults += (r == 0) != c->good;
		if (r == 0) {
			char sector[512];

			c->faults += image_pread(d->image, sector, sizeof sector, 0, &e) < 0;
			exports_release(c->exports, d);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct client clients[THREADS];
	pthread_barrier_t start;
	pthread_t threads[THREADS];
	struct exports *x;
	struct err e;
	int i;

	add_image(*state, "good0.yaml");
	add_image(*state, "good1.yaml");
	write_text(*state, "bad0.yaml", "lowers: [{file: none}]");
	write_text(*state, "bad1.yaml", "{{{");
	assert_int_equal(exports_open(*state, &no_service, NULL, &x, &e), 0);
	pthread_barrier_init(&start, NULL, THREADS);
	for (i = 0; i < THREADS; i++) {
		struct client *c = &clients[i];

		*c = (struct client){ .exports = x, .start = &start, .good = i % 3 != 0 };
		snprintf(c->name, sizeof c->name, "%s%d", c->good ? "good" : "bad", i / 3 % 2);
		assert_int_equal(pthread_create(&threads[i], NULL, run_client, c), 0);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(clients[i].faults, 0);
	}
	pthread_barrier_destroy(&start);
	exports_close(x);
}

static void *come_and_go(void *arg)
{
	struct client *c = arg;
	struct disk *d;
	struct err e;
	int i;

	for (i = 0; i < 10 * ROUNDS; i++) {
		if (exports_acquire(c->exports, "written", &d, &e) < 0) {
			c->faults++;
			continue;
		}
		c->faults += image_pwrite(d->image, "x", 1, 0, 0, &e) < 0;
		exports_release(c->exports, d);
		usleep(c->pause);
	}
	return NULL;
}

/* A writable layer can be had again only when its last user has closed it: who comes then waits. */
static void test_coming_back(void **state)
{
	struct client clients[THREADS] = { 0 };
	pthread_t threads[THREADS];
	struct exports *x;
	unsigned faults = 0;
	struct err e;
	int i;

	add_writable(*state, "written.yaml", "written");
	assert_int_equal(exports_open(*state, &no_service, NULL, &x, &e), 0);
	for (i = 0; i < THREADS; i++) {
		clients[i].exports = x;
		clients[i].pause = (useconds_t)i * 37;
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &clients[i]), 0);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		faults += clients[i].faults;
	}
	assert_int_equal(faults, 0);
	exports_close(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_folder, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_sharing, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_result_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_own_result_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_description, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_broken_neighbour, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_threads, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_coming_back, make_folder, remove_folder),
	};

	return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
