/* SPDX-License-Identifier: Apache-2.0 */
/* test-exports.c - the plugin without nbdkit: parameters, the folder of exports, the table of open
 * images.
 */
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
#include "nbdkit-plugin/params.h"
#include "tests/unit/loglib.h"

/* What the machine's own file says must not matter. */
static const struct config_options no_service = { .service = "none" };

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- parameters ---- */

static void test_reference(void **state)
{
	static const struct {
		const char *text;
		bool is;
	} rows[] = {
		{ "reg.example.com/app:v1", true },
		{ "reg.example.com/app", true },
		{ "reg:5000/a/b", true },
		{ "localhost/app", true },
		{ "app:v1", true },
		{ "library/app@sha256:00", true },
		{ "localhosts/app", false },
		{ "local/app", false },
		{ "image", false },
		{ "/reg.example.com/app:v1", false },
		{ "./app:v1", false },
		{ "../app:v1", false },
		{ "images.d/web.yaml", false },
		{ "images.d/config.v1.json", false },
		{ "", false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++)
		if (params_is_reference(rows[i].text) != rows[i].is)
			fail_msg("'%s'", rows[i].text);
}

/* In place of nbdkit's: what is read is what follows the first character. */
static int read_password(const char *value, char **password)
{
	if (strcmp(value, "+gone") == 0)
		return -1;
	*password = strdup(value + 1);
	return *password ? 0 : -1;
}

static void takes(struct params *p, const char *key, const char *value)
{
	struct err e;

	if (params_set(p, key, value, read_password, &e) != 0)
		fail_msg("%s=%s: %s", key, value, e.msg);
}

static void refuses(struct params *p, const char *key, const char *value, const char *message)
{
	struct err e;

	assert_int_equal(params_set(p, key, value, read_password, &e), -EINVAL);
	assert_string_equal(e.msg, message);
}

static void test_params(void **state)
{
	struct params p = { 0 };
	struct err e;

	assert_int_equal(params_complete(&p, &e), -EINVAL);
	takes(&p, "config", "/image.yaml");
	assert_int_equal(params_complete(&p, &e), 0);
	refuses(&p, "config", "/other.yaml", "config= is given twice");
	assert_string_equal(p.config, "/image.yaml");
	takes(&p, "dir", "images");
	assert_true(p.dir[0] == '/');
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	refuses(&p, "dri", "x", "unknown parameter 'dri'; nbdkit overlaybd --help lists them");
	refuses(&p, "cofnig", "x", "unknown parameter 'cofnig' (did you mean 'config'?)");
	refuses(&p, "mirrors", "x", "unknown parameter 'mirrors' (did you mean 'mirror'?)");
	params_release(&p);
	assert_null(p.config);
	params_release(&p);
}

static void test_upper_params(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	char want[4096];
	struct params p = { 0 };
	struct err e;

	refuses(&p, "upper", "", "upper= is empty");
	refuses(&p, "upper", "u.data",
		"upper=u.data: the name is without '.data' and '.index', which both its files "
		"have");
	refuses(&p, "upper-garbage", "", "upper-garbage=: '' is not a percentage, 0 to 100");
	refuses(&p, "upper-garbage", "-1", "upper-garbage=: '-1' is not a percentage, 0 to 100");
	takes(&p, "upper", "u");
	takes(&p, "upper-garbage", "100");
	refuses(&p, "upper", "v", "upper= is given twice");
	refuses(&p, "upper-garbage", "0", "upper-garbage= is given twice");
	snprintf(want, sizeof want, "%s/u", cwd);
	assert_string_equal(p.options.upper, want);
	assert_string_equal(p.options.upper_garbage, "100");
	takes(&p, "dir", "x");
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_string_equal(e.msg,
			    "dir= and upper= exclude each other: each image has its own upper");
	params_release(&p);
}

/* What each says when it is given twice, empty, or with what cannot be meant. */
static void test_each_param(void **state)
{
	static const struct {
		const char *key, *value, *bad, *message;
	} rows[] = {
		{ "config", "a.yaml", "", "config= is empty" },
		{ "dir", "d", "", "dir= is empty" },
		{ "control", "c", "", "control= is empty" },
		{ "digest",
		  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "sha256:0",
		  "digest=: not 'sha256:' and 64 hex digits in lower case, nor 'sha512:' and 128" },
		{ "image", "r/a:b", "",
		  "image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of printable ASCII "
		  "characters" },
		{ "upper-garbage", "7", "101",
		  "upper-garbage=: '101' is not a percentage, 0 to 100" },
		{ "service", "s", "", "service= is empty" },
		{ "service", "none", "", "service= is empty" },
		{ "upper", "u", "u.index",
		  "upper=u.index: the name is without '.data' and '.index', which both its files "
		  "have" },
		{ "acceleration-paths", "true", "yes",
		  "acceleration-paths=: 'yes' is neither true nor false" },
		{ "user-agent", "x", "", "user-agent=: it is empty" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		const char *key = rows[i].key;
		struct params p = { 0 };
		char message[64];

		refuses(&p, key, rows[i].bad, rows[i].message);
		takes(&p, key, rows[i].value);
		snprintf(message, sizeof message, "%s= is given twice", key);
		refuses(&p, key, rows[i].value, message);
		refuses(&p, key, "none", message);
		params_release(&p);
	}
}

/* What options say is what config_load gets. */
static void test_options(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	char path[4200];
	struct params p = { 0 };

	takes(&p, "control", "c");
	snprintf(path, sizeof path, "%s/c", cwd);
	assert_string_equal(p.options.control, path);
	takes(&p, "service", "s");
	snprintf(path, sizeof path, "%s/s", cwd);
	assert_string_equal(p.options.service, path);
	assert_null(p.options.folder);
	takes(&p, "acceleration-paths", "true");
	takes(&p, "user-agent", "x");
	takes(&p, "mirror", "http://a");
	takes(&p, "mirror", "http://b");
	takes(&p, "prefetch", "/a");
	takes(&p, "prefetch", "/b");
	assert_string_equal(p.options.folder, cwd);
	assert_int_equal(p.options.setting_count, 6);
	assert_string_equal(p.options.settings[0].name, "acceleration-paths");
	assert_string_equal(p.options.settings[0].value, "true");
	assert_string_equal(p.options.settings[3].name, "mirror");
	assert_string_equal(p.options.settings[3].value, "http://b");
	params_release(&p);
	takes(&p, "service", "none");
	assert_string_equal(p.options.service, "none");
	params_release(&p);
}

static void test_exclusions(void **state)
{
	static const struct {
		const char *pairs[6], *message;
	} rows[] = {
		{ { "config", "a" }, NULL },
		{ { "dir", "a" }, NULL },
		{ { "image", "r/a:b" }, NULL },
		{ { "config", "a", "digest",
		    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		  NULL },
		{ { "config", "a", "control", "c", "upper", "u" }, NULL },
		{ { "config", "a", "trace-file", "t" }, NULL },
		{ { "dir", "a", "trace", "off" }, NULL },
		{ { "config", "a", "dir", "b" }, "config=, dir= and image= exclude each other" },
		{ { "config", "a", "image", "r/a:b" },
		  "config=, dir= and image= exclude each other" },
		{ { "dir", "a", "image", "r/a:b" }, "config=, dir= and image= exclude each other" },
		{ { "dir", "a", "digest",
		    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		  "dir= and digest= exclude each other" },
		{ { "dir", "a", "control", "c" },
		  "dir= and control= exclude each other: name a socket for each image in its "
		  "config" },
		{ { "dir", "a", "upper", "u" },
		  "dir= and upper= exclude each other: each image has its own upper" },
		{ { "dir", "a", "trace", "off", "trace-file", "t" },
		  "dir= and trace-file= exclude each other: its images would share one trace" },
		{ { "trace", "off" },
		  "nothing to serve: config=FILE, dir=DIR or image=REF is needed" },
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct params p = { 0 };
		struct err e;
		int r;

		for (k = 0; k < 6 && rows[i].pairs[k]; k += 2)
			takes(&p, rows[i].pairs[k], rows[i].pairs[k + 1]);
		r = params_complete(&p, &e);
		if (r != (rows[i].message ? -EINVAL : 0))
			fail_msg("row %zu: %d", i, r);
		if (rows[i].message)
			assert_string_equal(e.msg, rows[i].message);
		params_release(&p);
	}
}

static void test_image_params(void **state)
{
	struct params p = { 0 };
	struct err e;

	refuses(&p, "image", "",
		"image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of printable ASCII "
		"characters");
	refuses(&p, "image", "me:hush@reg/app",
		"image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, without user and "
		"password");
	takes(&p, "image", "reg/app:v1");
	refuses(&p, "image", "reg/app:v2", "image= is given twice");
	assert_int_equal(params_complete(&p, &e), 0);
	takes(&p, "dir", "/x");
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_string_equal(e.msg, "config=, dir= and image= exclude each other");
	params_release(&p);
}

static void test_setting_params(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	struct params p = { 0 };
	const struct config_options *o = &p.options;

	refuses(&p, "connections", "0", "connections=: '0' is not a whole number from 1 to 1024");
	refuses(&p, "stats", "", "stats=: it is empty");
	assert_int_equal(o->setting_count, 0);
	takes(&p, "connections", "8");
	refuses(&p, "connections", "9", "connections= is given twice");
	takes(&p, "mirror", "http://a");
	takes(&p, "stats", "out.json");
	takes(&p, "mirror", "http://b");
	assert_int_equal(o->setting_count, 4);
	assert_string_equal(o->settings[0].name, "connections");
	assert_string_equal(o->settings[0].value, "8");
	assert_string_equal(o->settings[1].value, "http://a");
	assert_string_equal(o->settings[3].value, "http://b");
	assert_string_equal(o->folder, cwd);
	assert_null(o->service);
	takes(&p, "service", "none");
	assert_string_equal(o->service, "none");
	refuses(&p, "service", "x", "service= is given twice");
	params_release(&p);
	takes(&p, "service", "x");
	assert_int_equal(o->service[0], '/');
	refuses(&p, "service", "none", "service= is given twice");
	params_release(&p);
}

static void test_password_params(void **state)
{
	static const char *const literal[] = { "hush", "-hush", "-1hush", "+", "" };
	struct params p = { 0 };
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(literal); i++)
		refuses(&p, "password", literal[i],
			"password= would show it in the process list: use password=+FILE, or "
			"password=- to be asked");
	assert_int_equal(params_set(&p, "password", "+gone", read_password, &e), 1);
	refuses(&p, "password", "+hu\tsh",
		"password=: it holds a line break or another control character");
	refuses(&p, "password", "-", "password=: it is empty");
	refuses(&p, "proxy", "http://me:hush@proxy",
		"proxy=: an address with '@' in it would show a user or password in the process "
		"list: say it in a config file");
	takes(&p, "password", "+hush");
	refuses(&p, "password", "-7", "password= is given twice");
	assert_string_equal(p.options.settings[0].value, "hush");
	params_release(&p);
}

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
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_image_params),
		cmocka_unit_test(test_each_param),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_exclusions),
		cmocka_unit_test(test_upper_params),
		cmocka_unit_test(test_setting_params),
		cmocka_unit_test(test_password_params),
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
