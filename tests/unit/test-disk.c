/* SPDX-License-Identifier: Apache-2.0 */
/* test-disk.c - from a config to a disk that is served: what clients are told of it, what fails the
 * opening and what is only told of, where statistics are written.
 *
 * Linked with the calls that may fail wrapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "nbdkit-plugin/disk.h"
#include "nbdkit-plugin/report.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const struct config_options no_service = { .service = "none" };
static char folder[64];

/* ---- wrapped calls ---- */

static char calls[1024]; /* their names, a line each */
static const char *failing = ""; /* the one that fails */

static int call(const char *name, struct err *e)
{
	size_t n = strlen(calls);

	snprintf(calls + n, sizeof calls - n, "%s\n", name);
	return strcmp(failing, name) == 0 ? err_set(e, EPERM, "no %s", name) : 0;
}

int __real_image_after_fork(struct image *image, struct err *e);
int __wrap_image_after_fork(struct image *image, struct err *e);
int __wrap_image_after_fork(struct image *image, struct err *e)
{
	int r = call("after_fork", e);

	return r < 0 ? r : __real_image_after_fork(image, e);
}

int __wrap_image_start_download(struct image *image, struct err *e);
int __wrap_image_start_download(struct image *image, struct err *e)
{
	return call("download", e);
}

void __real_image_shut(struct image *image);
void __wrap_image_shut(struct image *image);
void __wrap_image_shut(struct image *image)
{
	(void)call("shut", NULL);
	__real_image_shut(image);
}

int __real_launch_open(const struct image_config *config, struct image *image, struct launch **out,
		       struct err *e);
int __wrap_launch_open(const struct image_config *config, struct image *image, struct launch **out,
		       struct err *e);
int __wrap_launch_open(const struct image_config *config, struct image *image, struct launch **out,
		       struct err *e)
{
	int r = call("launch_open", e);

	return r < 0 ? r : __real_launch_open(config, image, out, e);
}

void __real_launch_start(struct launch *l);
void __wrap_launch_start(struct launch *l);
void __wrap_launch_start(struct launch *l)
{
	(void)call("launch_start", NULL);
	__real_launch_start(l);
}

void __real_launch_close(struct launch *l);
void __wrap_launch_close(struct launch *l);
void __wrap_launch_close(struct launch *l)
{
	(void)call("launch_close", NULL);
	__real_launch_close(l);
}

int __real_control_open(const char *path, struct disk *d, struct control **out, struct err *e);
int __wrap_control_open(const char *path, struct disk *d, struct control **out, struct err *e);
int __wrap_control_open(const char *path, struct disk *d, struct control **out, struct err *e)
{
	int r = call("control_open", e);

	return r < 0 ? r : __real_control_open(path, d, out, e);
}

int __real_control_start(struct control *c, struct err *e);
int __wrap_control_start(struct control *c, struct err *e);
int __wrap_control_start(struct control *c, struct err *e)
{
	int r = call("control_start", e);

	return r < 0 ? r : __real_control_start(c, e);
}

void __real_control_close(struct control *c);
void __wrap_control_close(struct control *c);
void __wrap_control_close(struct control *c)
{
	(void)call("control_close", NULL);
	__real_control_close(c);
}

static char written[1024]; /* "PATH:IMAGES " of each stats_write */

int __wrap_stats_write(struct stats_group *const *groups, size_t count, const char *path,
		       struct err *e);
int __wrap_stats_write(struct stats_group *const *groups, size_t count, const char *path,
		       struct err *e)
{
	size_t n = strlen(written);

	snprintf(written + n, sizeof written - n, "%s:%zu ", path, count);
	return call("stats_write", e);
}

/* ---- images ---- */

static int set_up(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/test-disk.XXXXXX");
	calls[0] = written[0] = '\0';
	failing = "";
	loglib_listen();
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	loglib_expect_none();
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

/* The config of so many golden layers and these keys; the caller frees its path. */
static char *write_config(size_t layers, const char *keys)
{
	const char *golden = getenv("GOLDEN");
	char *path, text[16384];
	size_t n, i;

	assert_non_null(golden);
	assert_true(asprintf(&path, "%s/image.yaml", folder) > 0);
	n = (size_t)snprintf(text, sizeof text, "%s\nlowers:\n", keys);
	for (i = 0; i < layers; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
				      "- {file: \"%s/raw-5/layer%zu.obd\"}\n", golden, i);
	assert_int_equal(io_replace_file(path, text, n, NULL), 0);
	return path;
}

static struct disk *open_disk(size_t layers, const char *keys)
{
	AUTO_FREE char *path = write_config(layers, keys);
	struct disk *d;
	struct err e;

	if (disk_open(path, &no_service, NULL, &d, &e) < 0)
		fail_msg("%s", e.msg);
	return d;
}

/* ---- what clients are told ---- */

static void a_description_is_made_up(void **state)
{
	struct disk *d = open_disk(1, "");

	assert_string_equal(d->description, "overlaybd image, 1 layer");
	disk_close(d);
	d = open_disk(2, "");
	assert_string_equal(d->description, "overlaybd image, 2 layers");
	disk_close(d);
}

/* A string of the protocol has at most 4096 bytes, escapes included, and none is cut in half. */
static void a_description_fits_the_protocol(void **state)
{
	char keys[8192];
	struct disk *d;
	size_t n;

	n = (size_t)snprintf(keys, sizeof keys, "description: \"");
	memset(keys + n, 'd', 4096);
	strcpy(keys + n + 4096, "\"");
	d = open_disk(1, keys);
	assert_int_equal(strlen(d->description), 4096);
	assert_int_equal(strspn(d->description, "d"), 4096);
	disk_close(d);
	memcpy(keys + n + 4090, "\\n\\n\\n", 6); /* three line breaks are twelve bytes */
	d = open_disk(1, keys);
	assert_int_equal(strlen(d->description), 4090 + 4);
	assert_string_equal(d->description + 4090, "\\x0a");
	disk_close(d);
}

/* ---- opening ---- */

static void what_fails_the_opening_leaves_nothing(void **state)
{
	static const struct {
		const char *failing, *message;
	} rows[] = {
		{ "launch_open", "no launch_open" },
		{ "control_open", "image.yaml: no control_open" },
	};
	AUTO_FREE char *path = write_config(1, "control: c");
	char socket[128];
	struct disk *d = NULL;
	struct err e;
	size_t i;

	snprintf(socket, sizeof socket, "%s/c", folder);
	for (i = 0; i < COUNT_OF(rows); i++) {
		failing = rows[i].failing;
		assert_int_equal(disk_open(path, &no_service, NULL, &d, &e), -EPERM);
		assert_non_null(strstr(e.msg, rows[i].message));
		assert_null(d);
		assert_int_equal(access(socket, F_OK), -1);
	}
	/* Without a message to fill it is the same. */
	assert_int_equal(disk_open(path, &no_service, NULL, &d, NULL), -EPERM);
	failing = "";
	assert_int_equal(disk_open(path, &no_service, NULL, &d, &e), 0);
	assert_int_equal(access(socket, F_OK), 0);
	disk_close(d);
	assert_int_equal(access(socket, F_OK), -1);
}

static const char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* Opens the image of this text, and says what its result file `res` holds then, which held "old".
 */
static int open_text(const char *text, char **result, struct err *e)
{
	AUTO_FREE char *path = strdup(in_folder("image.yaml"));
	struct disk *d = NULL;
	size_t n;
	int r;

	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
	assert_int_equal(io_replace_file(in_folder("res"), "old", 3, NULL), 0);
	r = disk_open(path, &no_service, NULL, &d, e);
	assert_true((r == 0) == (d != NULL));
	disk_close(d);
	assert_int_equal(io_read_file(in_folder("res"), 1 << 16, result, &n, NULL), 0);
	return r;
}

static void the_result_is_told_whole(void **state)
{
	enum { LONG = 1500 };
	AUTO_FREE char *result = NULL, *text = NULL;
	char odd[4 * LONG + 1], escaped[4 * sizeof((struct err *)NULL)->msg];
	struct err e;
	size_t i;

	assert_true(asprintf(&text, "lowers: [{file: '%s/raw-5/layer0.obd'}]\nresultFile: res\n",
			     getenv("GOLDEN")) > 0);
	assert_int_equal(open_text(text, &result, &e), 0);
	assert_string_equal(result, "success");
	free(result);
	free(text);
	/* The longest message of characters that have to be escaped. */
	for (i = 0; i < LONG; i++)
		memcpy(odd + 4 * i, "\\x01", 4);
	odd[4 * i] = '\0';
	assert_true(asprintf(&text, "lowers: [{file: \"/%s\"}]\nresultFile: res\n", odd) > 0);
	assert_int_equal(open_text(text, &result, &e), -ENAMETOOLONG);
	assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
	assert_int_equal(strncmp(result, "failed:", 7), 0);
	assert_string_equal(result + 7, text_escape(e.msg, escaped, sizeof escaped));
}

/* It fails an image that opens; one that does not has its own cause first, and its code. */
static void a_result_that_cannot_be_written_is_told(void **state)
{
	AUTO_FREE char *result = NULL, *text = NULL, *expected = NULL;
	struct err e;

	assert_true(asprintf(&text, "lowers: [{file: '%s/raw-5/layer0.obd'}]\nresultFile: none/r\n",
			     getenv("GOLDEN")) > 0);
	assert_int_equal(open_text(text, &result, &e), -ENOENT);
	assert_true(asprintf(&expected, "%s/image.yaml: result file %s/none/r: ", folder, folder) >
		    0);
	if (strncmp(e.msg, expected, strlen(expected)) != 0)
		fail_msg("%s", e.msg);
	free(result);
	free(expected);
	assert_int_equal(
		open_text("lowers: [{file: image.yaml}]\nresultFile: none/r\n", &result, &e),
		-EBADMSG);
	assert_true(asprintf(&expected, "%s/image.yaml: layer 0 (", folder) > 0);
	if (strncmp(e.msg, expected, strlen(expected)) != 0)
		fail_msg("%s", e.msg);
	free(expected);
	assert_true(asprintf(&expected, "; result file %s/none/r: ", folder) > 0);
	assert_non_null(strstr(e.msg, expected));
	free(result);
	free(expected);
	assert_int_equal(open_text("lowers: [{file: a}]\nresultFile: image.yaml\n", &result, &e),
			 -EINVAL);
	assert_true(asprintf(&expected,
			     "%s/image.yaml: result file: '%s/image.yaml' is a file of the image: "
			     "%s/image.yaml",
			     folder, folder, folder) > 0);
	assert_string_equal(e.msg, expected);
}

static void a_config_that_cannot_be_had_is_named(void **state)
{
	struct disk *d;
	struct err e;

	assert_int_equal(disk_open("/no/such.yaml", &no_service, NULL, &d, &e), -ENOENT);
	assert_string_equal(e.msg, "/no/such.yaml: No such file or directory");
	assert_int_equal(disk_open_image("a b", &no_service, NULL, &d, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "image: a name is HOST/REPOSITORY:TAG"));
	disk_close(NULL);
}

static void no_socket_is_made_unasked(void **state)
{
	struct disk *d = open_disk(1, "");

	assert_null(d->control);
	assert_null(strstr(calls, "control_open"));
	disk_start(d);
	assert_null(strstr(calls, "control_start"));
	disk_close(d);
	loglib_expect("");
}

/* ---- what runs beside the reads ---- */

static void what_cannot_run_beside_the_reads_is_a_warning(void **state)
{
	static const struct {
		const char *failing, *warning; /* behind the config's path, if it begins with ':' */
	} rows[] = {
		{ "", "" },
		{ "after_fork", "no after_fork\n" },
		{ "control_start", ": no control_start\n" },
		{ "download", ": no background download: no download\n" },
	};
	char expected[256];
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct disk *d = open_disk(1, "control: c");
		bool named = rows[i].warning[0] == ':';

		calls[0] = '\0';
		failing = rows[i].failing;
		disk_start(d);
		failing = "";
		/* One that fails keeps no other from its start. */
		assert_string_equal(calls, "after_fork\nlaunch_start\ncontrol_start\ndownload\n");
		snprintf(expected, sizeof expected, "%s%s%s", named ? folder : "",
			 named ? "/image.yaml" : "", rows[i].warning);
		loglib_expect(expected);
		calls[0] = '\0';
		disk_close(d);
		/* Nobody asks any more; reads that wait are let go before they are waited for. */
		assert_non_null(strstr(calls, "control_close\nshut\nlaunch_close\n"));
	}
}

/* ---- statistics ---- */

static struct disk *disk_with(const char *stats)
{
	char keys[128] = "";

	if (stats)
		snprintf(keys, sizeof keys, "stats: '%s'", stats);
	return open_disk(1, keys);
}

static void each_file_is_written_once(void **state)
{
	struct disk *disks[] = { disk_with("/a"), disk_with(NULL), disk_with("-"),
				 disk_with("/b"), disk_with("/a"), disk_with("-") };
	size_t i;

	report_write(disks, 0, true);
	assert_string_equal(written, "");
	report_write(disks, COUNT_OF(disks), false);
	assert_string_equal(written, "/a:2 /b:1 ");
	written[0] = '\0';
	report_write(disks, COUNT_OF(disks), true);
	assert_string_equal(written, "/a:2 -:2 /b:1 ");
	written[0] = '\0';
	report_write(disks + 1, 1, true);
	assert_string_equal(written, "");
	loglib_expect("");
	failing = "stats_write";
	report_write(disks, 1, true);
	loglib_expect("statistics: no stats_write\n");
	for (i = 0; i < COUNT_OF(disks); i++)
		disk_close(disks[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_description_is_made_up),
		TEST(a_description_fits_the_protocol),
		TEST(what_fails_the_opening_leaves_nothing),
		TEST(the_result_is_told_whole),
		TEST(a_result_that_cannot_be_written_is_told),
		TEST(a_config_that_cannot_be_had_is_named),
		TEST(no_socket_is_made_unasked),
		TEST(what_cannot_run_beside_the_reads_is_a_warning),
		TEST(each_file_is_written_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
