/* SPDX-License-Identifier: Apache-2.0 */
/* test-config.c - what a config says, where layer files are found, and each message of what is
 * refused.  Linked with malloc and its kin wrapped, so that each allocation can be made to fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/config.h"

#define HEX16 "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16
#define LOWER "lowers: [{file: a}]\n"

/* What the machine's own file says must not matter. */
static const struct config_options no_service = { .service = "none" };

static char folder[] = "/tmp/test-config.XXXXXX";

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static long countdown = -1; /* allocations that still succeed; negative: all do */

static int refuse(void)
{
	if (countdown < 0 || countdown-- > 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *__wrap_malloc(size_t n)
{
	return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
	return refuse() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return refuse() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return refuse() ? NULL : __real_strdup(s);
}

static struct image_config *parse(const char *text)
{
	struct image_config *c = NULL;
	struct err e = { "" };

	if (config_parse("/img/c.yaml", text, strlen(text), &no_service, &c, &e) < 0)
		fail_msg("%.60s: %s", text, e.msg);
	return c;
}

static const struct {
	const char *what, *text, *message;
} bad[] = {
	/* the file as a whole */
	{ "empty", "", "1: the file is empty" },
	{ "a list", "- a\n", "1: an image config is a map of keys such as 'lowers'" },
	{ "a text", "\nlowers\n", "2: an image config is a map of keys such as 'lowers'" },
	{ "null", "~", "1: an image config is a map of keys such as 'lowers'" },
	{ "empty map", "\n{}", "2: no layer in 'lowers', no 'image' and no 'upper'" },
	{ "no layer", "description: x\n", "1: no layer in 'lowers', no 'image' and no 'upper'" },
	{ "no lower", "lowers: []\nupper: {}\n",
	  "1: no layer in 'lowers', no 'image' and no 'upper'" },
	{ "broken", "lowers: [\n", "2: did not find expected node content" },
	{ "alias", "lowers: &l []\n", "1: anchors are not supported" },
	/* unknown and duplicate keys */
	{ "plural", LOWER "lower: []\n", "2: unknown key 'lower' (did you mean 'lowers'?)" },
	{ "case", LOWER "resultfile: x\n",
	  "2: unknown key 'resultfile' (did you mean 'resultFile'?)" },
	{ "case and letters", LOWER "repobloburi: x\n",
	  "2: unknown key 'repobloburi' (did you mean 'repoBlobUrl'?)" },
	{ "near a later key", LOWER "imag: x\n", "2: unknown key 'imag' (did you mean 'image'?)" },
	{ "far", LOWER "colour: red\n", "2: unknown key 'colour'" },
	{ "empty value", LOWER "colour:\n", "2: unknown key 'colour'" },
	{ "empty key", LOWER "? \n: 1\n", "2: unknown key ''" },
	{ "known key and a NUL", LOWER "\"upper\\0x\": {}\n",
	  "2: unknown key 'upper' (did you mean 'upper'?)" },
	{ "key of two lines", LOWER "\"a\\nb\": 1\n", "2: unknown key 'a\nb'" },
	{ "long key",
	  LOWER "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 1\n",
	  "2: unknown key 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'" },
	{ "in a lower", "lowers:\n  - file: a\n  - fil: b\n",
	  "3: layer 1: unknown key 'fil' (did you mean 'file'?)" },
	{ "digset", "lowers: [{digset: x}]\n", "1: layer 0: unknown key 'digset'" },
	{ "diges", "lowers: [{diges: x}]\n",
	  "1: layer 0: unknown key 'diges' (did you mean 'digest'?)" },
	{ "in upper", LOWER "upper:\n  data: x\n  indx: y\n",
	  "4: upper: unknown key 'indx' (did you mean 'index'?)" },
	{ "in download", LOWER "download:\n  enabled: true\n",
	  "3: download: unknown key 'enabled' (did you mean 'enable'?)" },
	{ "key of an outer map", "lowers: [{upper: x}]\n", "1: layer 0: unknown key 'upper'" },
	{ "twice", LOWER "upper: {}\nlowers: []\n", "3: duplicate key 'lowers', first in line 1" },
	{ "twice in a lower", "lowers:\n- file: a\n  file: b\n",
	  "3: duplicate key 'file', first in line 2" },
	/* types */
	{ "lowers: map", "lowers: {file: a}\n", "1: 'lowers' must be a list" },
	{ "lowers: text", "\nlowers: a\n", "2: 'lowers' must be a list" },
	{ "upper: text", LOWER "upper: a\n", "2: 'upper' must be a map of keys" },
	{ "upper: list", LOWER "upper:\n  - a\n", "2: 'upper' must be a map of keys" },
	{ "download: list", LOWER "download: []\n",
	  "2: 'download' must be a text, a number, true or false" },
	{ "download: text", LOWER "download: yes\n",
	  "2: download: 'yes' is neither true nor false" },
	{ "connections: list", LOWER "connections: [1]\n",
	  "2: 'connections' must be a text, a number, true or false" },
	{ "proxy: map", LOWER "proxy: {}\n", "2: 'proxy' must be a text, a number, true or false" },
	{ "mirror: list in a list", LOWER "mirror:\n- http://a\n- [http://b]\n",
	  "4: 'mirror' must be a text, a number, true or false" },
	{ "mirror: empty element", LOWER "mirror: [http://a, '']\n", "2: mirror: it is empty" },
	{ "image: number", "image: 1.5\n", "1: 'image' must be text" },
	{ "service: number", LOWER "service: 1\n", "2: 'service' must be text" },
	{ "resultFile: list", LOWER "resultFile: [a]\n",
	  "2: 'resultFile' must be text (in quotes" },
	{ "resultFile: number", LOWER "resultFile: 12\n",
	  "2: 'resultFile' must be text (in quotes" },
	{ "description: bool", LOWER "description: true\n", "2: 'description' must be text" },
	{ "repoBlobUrl: map", LOWER "repoBlobUrl: {}\n", "2: 'repoBlobUrl' must be text" },
	{ "accelerationLayer: text", LOWER "accelerationLayer: \"false\"\n",
	  "2: 'accelerationLayer' must be true or false" },
	{ "lower: text", "lowers:\n  - file: a\n  - b\n",
	  "3: layer 1: must be a map of keys such as 'file'" },
	{ "lower: null", "lowers:\n  - file: a\n  -\n",
	  "3: layer 1: must be a map of keys such as 'file'" },
	{ "file: number", "lowers: [{file: 1.5}]\n", "1: layer 0: 'file' must be text" },
	{ "size: text", "lowers: [{file: a, size: \"12\"}]\n",
	  "1: layer 0: 'size' must be a whole number, not negative and below 2^64" },
	{ "size: negative", "lowers: [{file: a, size: -1}]\n",
	  "1: layer 0: 'size' must be a whole" },
	{ "size: fraction", "lowers: [{file: a, size: 1.0}]\n",
	  "1: layer 0: 'size' must be a whole" },
	{ "size: unit", "lowers: [{file: a, size: 1M}]\n", "1: layer 0: 'size' must be a whole" },
	{ "size: 2^64", "lowers: [{file: a, size: 18446744073709551616}]\n",
	  "1: layer 0: 'size' must be a whole" },
	{ "size: list", "lowers: [{file: a, size: []}]\n", "1: layer 0: 'size' must be a whole" },
	{ "enable: number", LOWER "download: {enable: 1}\n",
	  "2: download: 'enable' must be true or false" },
	{ "delay: text", LOWER "download: {delay: soon}\n",
	  "2: download: 'delay' must be a whole" },
	{ "delayExtra: negative", LOWER "download: {delayExtra: -1}\n",
	  "2: download: 'delayExtra' must be a whole" },
	{ "maxMBps: bool", LOWER "download: {maxMBps: true}\n",
	  "2: download: 'maxMBps' must be a whole" },
	{ "tryCnt: map", LOWER "download: {tryCnt: {}}\n",
	  "2: download: 'tryCnt' must be a whole" },
	{ "blockSize: text", LOWER "download: {blockSize: 256K}\n",
	  "2: download: 'blockSize' must be a whole" },
	{ "behind a download", LOWER "download: {delay: 1}\ninsecure: 3\n",
	  "3: insecure: '3' is neither true nor false" },
	{ "delay: huge", LOWER "download: {enable: true,\n delay: 1000001}\n",
	  "3: download: 'delay' is 1000001, more than the limit of 1000000" },
	{ "blockSize: huge", LOWER "download: {blockSize: 1073741825}\n",
	  "2: download: 'blockSize' is 1073741825, more than the limit of 1073741824" },
	{ "upper.data: number", LOWER "upper: {data: 1, index: b}\n",
	  "2: upper: 'data' must be text" },
	/* NULs */
	{ "file: NUL", "lowers: [{file: \"a\\0b\"}]\n", "1: layer 0: 'file' holds a NUL" },
	{ "dir: NUL", "lowers: [{dir: \"\\0\"}]\n", "1: layer 0: 'dir' holds a NUL" },
	{ "digest: NUL", "lowers: [{digest: \"" DIGEST "\\0\"}]\n",
	  "1: layer 0: 'digest' holds a NUL" },
	{ "resultFile: NUL", LOWER "resultFile: \"a\\0\"\n", "2: 'resultFile' holds a NUL" },
	{ "upper: NUL", LOWER "upper: {data: \"a\\0\", index: b}\n",
	  "2: upper: 'data' holds a NUL" },
	{ "password: NUL", LOWER "user: u\npassword: \"a\\0\"\n", "3: 'password' holds a NUL" },
	{ "mirror: NUL", LOWER "mirror: [\"http://a\\0\"]\n", "2: 'mirror' holds a NUL" },
	{ "description: NUL", LOWER "description: \"a\\0\"\n", "2: 'description' holds a NUL" },
	/* what a layer needs */
	{ "nothing", "lowers: [{}]\n", "1: layer 0: has neither 'file' nor 'dir' nor 'digest'" },
	{ "only a size", "lowers:\n- file: a\n- size: 1\n",
	  "3: layer 1: has neither 'file' nor 'dir' nor 'digest'" },
	{ "empty file", "lowers: [{file: \"\"}]\n",
	  "1: layer 0: has neither 'file' nor 'dir' nor 'digest'" },
	{ "short digest", "lowers: [{digest: sha256:12}]\n",
	  "1: layer 0: digest 'sha256:12' is not 'sha256:' and 64 hex digits in lower case" },
	{ "upper-case digest",
	  "lowers:\n - file: a\n   digest:\n     sha256:" HEX16 HEX16 HEX16 "0123456789ABCDEF\n",
	  "4: layer 0: digest 'sha256:" HEX16 HEX16 HEX16 "0123456789ABCDEF' is not" },
	{ "long digest", "lowers: [{digest: " DIGEST "0}]\n",
	  "1: layer 0: digest '" DIGEST "0' is" },
	{ "sha512", "lowers: [{digest: sha512:" HEX16 HEX16 HEX16 HEX16 "}]\n",
	  "1: layer 0: digest 'sha512:" },
	{ "long sha512",
	  "lowers: [{digest: sha512:" HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 "0}]\n",
	  "1: layer 0: digest 'sha512:" },
	{ "only data", LOWER "upper: {data: a}\n", "2: upper: needs both 'data' and 'index'" },
	{ "only index", LOWER "upper:\n  index: a\n  data: ''\n",
	  "2: upper: needs both 'data' and 'index'" },
	{ "accelerationLayer alone", LOWER "accelerationLayer: true\n",
	  "1: no layer in 'lowers', no 'image' and no 'upper'" },
	{ "accelerationLayer of nothing", "upper: {data: a, index: b}\naccelerationLayer: true\n",
	  "2: 'accelerationLayer: true', but no layer in 'lowers'" },
	/* an image of a registry */
	{ "image and lowers", LOWER "image: r/a:b\n",
	  "2: 'image' and 'lowers' exclude each other" },
	{ "image and repoBlobUrl", "repoBlobUrl: http://r/v2/a/blobs\nimage: r/a:b\n",
	  "2: 'image' and 'repoBlobUrl' exclude each other" },
	{ "image with a blank", "image: r/a b\n",
	  "1: image: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of printable ASCII" },
	{ "image with a password", "\nimage: https://me:hush@r/a\n",
	  "2: image: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, without user and" },
	/* settings: config_setting.h's table has a test of its own */
	{ "setting near", LOWER "cache-dri: x\n",
	  "2: unknown key 'cache-dri' (did you mean 'cache-dir'?)" },
	{ "setting's value", LOWER "connections: 0\n",
	  "2: connections: '0' is not a whole number from 1 to 1024" },
	{ "mirror in a list", LOWER "mirror: [http://a,\n 'ftp://b']\n",
	  "3: mirror: an address with http:// or https://" },
	{ "line break in a password", LOWER "user: u\npassword: |\n  hush\n",
	  "3: password: it holds a line break or another control character" },
	{ "upper-garbage: text", LOWER "upper-garbage: x\n",
	  "2: 'upper-garbage' must be a whole number, not negative and below 2^64" },
	{ "upper-garbage: too much", LOWER "upper-garbage: 101\n",
	  "2: upper-garbage: '101' is not a percentage, 0 to 100" },
	{ "control: list", LOWER "control: [a]\n", "2: 'control' must be text" },
	{ "control: long",
	  LOWER
	  "control: /0123456789012345678901234567890123456789012345678901234567890123456789012"
	  "34567890123456789012345678901234567\n",
	  "2: control: '/01234567890123456789012345678901234567890123456789012345678901234567890123"
	  "4567890123456789012345678901234567' is too long for a socket, which may have 107 "
	  "bytes" },
	/* what later versions bring */
	{ "targetFile", "lowers: [{file: a, targetFile: b}]\n",
	  "1: layer 0: 'targetFile': TurboOCI layers are not in this version" },
	{ "targetDigest", "lowers: [{file: a, targetDigest: b}]\n",
	  "1: layer 0: 'targetDigest': TurboOCI layers are not in this version" },
	{ "gzipIndex", "lowers: [{file: a, gzipIndex: b}]\n",
	  "1: layer 0: 'gzipIndex': TurboOCI layers are not in this version" },
	{ "upper.target", LOWER "upper: {target: a}\n",
	  "2: upper: 'target': TurboOCI layers are not in this version" },
	{ "upper.gzipIndex", LOWER "upper: {gzipIndex: a}\n",
	  "2: upper: 'gzipIndex': TurboOCI layers are not in this version" },
	{ "relative path to prefetch", LOWER "prefetch: [/a,\n b]\n",
	  "3: prefetch: 'b' is no absolute path" },
};

static void expect_bad(const char *what, const char *text, const char *message)
{
	struct image_config *c = NULL;
	struct err e = { "" };
	char expected[1024];
	int r = config_parse("img/c.yaml", text, strlen(text), &no_service, &c, &e);

	snprintf(expected, sizeof expected, "img/c.yaml:%s", message);
	if (r != -EINVAL || c)
		fail_msg("%s: not refused", what);
	if (strncmp(e.msg, expected, strlen(expected)) != 0)
		fail_msg("%s: %s", what, e.msg);
	if (strstr(e.msg, "hush"))
		fail_msg("%s tells a secret: %s", what, e.msg);
	assert_int_equal(config_parse("img/c.yaml", text, strlen(text), &no_service, &c, NULL),
			 -EINVAL);
}

static void bad_configs_are_refused(void **state)
{
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++)
		expect_bad(bad[i].what, bad[i].text, bad[i].message);
}

static void a_message_without_suggestion_ends_there(void **state)
{
	struct image_config *c;
	struct err e;

	config_parse("c", "colour: 1\n", 10, &no_service, &c, &e);
	assert_string_equal(e.msg, "c:1: unknown key 'colour'");
}

static void upper_and_control(void **state)
{
	struct config_options options = no_service;
	struct image_config *c = parse(LOWER "upper: {data: d, index: i}\n");
	struct err e;

	assert_int_equal(c->upper_garbage, CONFIG_GARBAGE);
	assert_null(c->control);
	config_free(c);
	c = parse(LOWER "upper: {data: d, index: i}\nupper-garbage: 0\ncontrol: s\n");
	assert_int_equal(c->upper_garbage, 0);
	assert_string_equal(c->control, "/img/s");
	assert_false(c->upper_is_option);
	config_free(c);
	options.upper = "/u/x";
	options.upper_garbage = "100";
	options.control = "/c";
	assert_int_equal(config_parse("/img/c", LOWER "upper: {data: d, index: i}\ncontrol: s\n",
				      strlen(LOWER) + 38, &options, &c, &e),
			 0);
	assert_string_equal(c->upper_data, "/u/x.data");
	assert_string_equal(c->upper_index, "/u/x.index");
	assert_true(c->upper_is_option);
	assert_int_equal(c->upper_garbage, 100);
	assert_string_equal(c->control, "/c");
	config_free(c);
	assert_int_equal(config_from_image("reg/a", &options, &c, &e), 0);
	assert_string_equal(c->upper_data, "/u/x.data");
	config_free(c);
	options.upper_garbage = "101";
	assert_int_equal(config_from_image("reg/a", &options, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "reg/a: upper-garbage: '101' is not a percentage, 0 to 100");
}

static void everything_is_read(void **state)
{
	struct image_config *c = parse(
		"repoBlobUrl: https://registry.example.com/v2/app/blobs\n"
		"lowers:\n"
		"  - file: a/base\n"
		"  - {file: /abs/olute, digest: " DIGEST ", size: 18446744073709551615}\n"
		"  - digest: " DIGEST "\n"
		"    dir: d\n"
		"    size: 0\n"
		"    targetFile: ''\n"
		"upper: {data: u/data, index: ../index, target: '', gzipIndex: }\n"
		"download: {enable: true, delay: 300, delayExtra: 30, maxMBps: 100, tryCnt: 5,\n"
		"           blockSize: 262144}\n"
		"accelerationLayer: false\n"
		"recordTracePath: ''\n"
		"resultFile: result\n"
		"description: |\n"
		"  two\n"
		"  lines\n");

	assert_string_equal(c->path, "/img/c.yaml");
	assert_int_equal(c->lower_count, 3);
	assert_string_equal(c->lowers[0].file, "/img/a/base");
	assert_null(c->lowers[0].digest);
	assert_int_equal(c->lowers[0].size, 0);
	assert_string_equal(c->lowers[1].file, "/abs/olute");
	assert_string_equal(c->lowers[1].digest, DIGEST);
	assert_true(c->lowers[1].size == UINT64_MAX);
	assert_null(c->lowers[2].file);
	assert_string_equal(c->lowers[2].dir, "/img/d");
	assert_null(c->lowers[1].dir);
	assert_int_equal(c->lowers[0].line, 3);
	assert_int_equal(c->lowers[2].line, 5);
	assert_string_equal(c->lowers[2].digest, DIGEST);
	assert_string_equal(c->upper_data, "/img/u/data");
	assert_string_equal(c->upper_index, "/img/../index");
	assert_string_equal(c->result_file, "/img/result");
	assert_string_equal(c->description, "two\nlines\n");
	assert_string_equal(c->repo_blob_url, "https://registry.example.com/v2/app/blobs");
	assert_ptr_equal(c->lowers[2].repo_blob_url, c->repo_blob_url);
	assert_null(c->image);
	assert_false(c->acceleration_layer);
	assert_null(c->acceleration_dir);
	assert_true(c->fetch.download.enable);
	config_free(c);
}

static void absent_means_absent(void **state)
{
	/* As the reference's snapshotter writes them: nil lists and empty structs. */
	struct image_config *c = parse("{\"repoBlobUrl\":\"\",\"lowers\":null,\"upper\":"
				       "{\"index\":\"i\",\"data\":\"d\"},\"resultFile\":\"\"}");

	assert_int_equal(c->lower_count, 0);
	assert_string_equal(c->upper_data, "/img/d");
	assert_null(c->result_file);
	assert_null(c->description);
	config_free(c);

	c = parse("{\"lowers\":[{\"file\":\"a\",\"dir\":\"\",\"digest\":\"\",\"size\":0}],"
		  "\"upper\":{},\"download\":{},\"resultFile\":null}");
	assert_int_equal(c->lower_count, 1);
	assert_null(c->lowers[0].digest);
	assert_null(c->upper_data);
	assert_null(c->upper_index);
	config_free(c);

	c = parse("lowers: []\nupper: {data: d, index: i}\n");
	assert_int_equal(c->lower_count, 0);
	config_free(c);

	c = parse(LOWER "upper: {data: '', index: ~}\nresultFile:\ndescription: ''\n");
	assert_null(c->upper_data);
	assert_null(c->result_file);
	assert_null(c->description);
	config_free(c);
	config_free(NULL);
}

static void a_description_fits_the_protocol(void **state)
{
	char text[5000], *end = text + sprintf(text, LOWER "description: ");

	memset(end, 'x', 4096);
	end[4096] = '\0';
	config_free(parse(text));
	end[4096] = 'x';
	end[4097] = '\0';
	expect_bad("description", text, "2: 'description' has 4097 bytes, limit is 4096");
}

static void expect_folder(const char *path, const char *file)
{
	struct image_config *c = NULL;
	struct err e = { "" };

	if (config_parse(path, LOWER, sizeof LOWER - 1, &no_service, &c, &e) < 0)
		fail_msg("%s: %s", path, e.msg);
	assert_string_equal(c->lowers[0].file, file);
	assert_int_equal(c->path[0], '/');
	config_free(c);
}

static void paths_count_from_the_configs_folder(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	char file[4200];

	expect_folder("/c.yaml", "/a");
	expect_folder("/x/c.yaml", "/x/a");
	expect_folder("/x/../c.yaml", "/x/../a");
	snprintf(file, sizeof file, "%s/a", cwd);
	expect_folder("c.yaml", file);
	snprintf(file, sizeof file, "%s/x/a", cwd);
	expect_folder("x/c.yaml", file);
}

/* An empty file at this path below the folder, with the folders on the way. */
static void make_file(const char *name)
{
	char path[256], *slash;
	int fd;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	for (slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		assert_true(mkdir(path, 0777) == 0 || errno == EEXIST);
	}
	fd = open(path, O_CREAT | O_WRONLY, 0666);
	assert_true(fd >= 0);
	close(fd);
}

/* Ends a lower, and says where blobs are. */
#define REMOTE "}]\nrepoBlobUrl: \"http://r/v2/a/blobs\"\nupper: {"

static const struct {
	const char *what, *lower;
	int code; /* an errno, 0 or 1 */
	/* The file that is found, or the message; in both, @ stands for the folder. */
	const char *result;
} places[] = {
	{ "file", "file: here", 0, "@/here" },
	{ "absolute file", "file: @/here", 0, "@/here" },
	{ "file before dir", "file: here, dir: all", 0, "@/here" },
	{ "dir when the file is absent", "file: gone, dir: all", 0, "@/all/overlaybd.commit" },
	{ "all in dir", "dir: all", 0, "@/all/overlaybd.commit" },
	{ "committed and sealed in dir", "dir: two", 0, "@/two/.commit" },
	{ "sealed in dir", "dir: one", 0, "@/one/overlaybd.sealed" },
	{ "with a digest", "digest: " DIGEST ", size: 5, dir: one", 0, "@/one/overlaybd.sealed" },
	{ "absent file", "file: gone", ENOENT, "@/gone: No such file or directory" },
	{ "a folder on the way is a file", "file: here/x", ENOENT,
	  "@/here/x: No such file or directory" },
	{ "absent file, a digest", "file: gone, digest: " DIGEST, ENOENT,
	  "no local file (tried @/gone), and no 'repoBlobUrl' to fetch it from" },
	{ "empty dir", "dir: none", ENOENT,
	  "no local file (tried @/none/overlaybd.commit, @/none/.commit, "
	  "@/none/overlaybd.sealed)" },
	{ "neither", "file: gone, dir: none, digest: " DIGEST, ENOENT,
	  "no local file (tried @/gone, @/none/overlaybd.commit, "
	  "@/none/.commit, @/none/overlaybd.sealed), and no 'repoBlobUrl' to fetch it from" },
	{ "only a digest", "digest: " DIGEST, ENOENT,
	  "no local file, and no 'repoBlobUrl' to fetch it from" },
	{ "remote, but there", "file: here, digest: " DIGEST REMOTE, 0, "@/here" },
	{ "remote, in dir", "file: gone, dir: one, digest: " DIGEST REMOTE, 0,
	  "@/one/overlaybd.sealed" },
	{ "remote", "digest: " DIGEST REMOTE, 1, NULL },
	{ "remote, not in dir", "dir: none, digest: " DIGEST REMOTE, 1, NULL },
	{ "remote without a digest", "file: gone" REMOTE, ENOENT,
	  "no local file (tried @/gone), and no 'digest' to fetch it by" },
	{ "remote, and a fault on this machine", "file: loop, digest: " DIGEST REMOTE, ELOOP,
	  "@/loop: Too many levels of symbolic links" },
	{ "link to itself", "file: loop", ELOOP, "@/loop: Too many levels of symbolic links" },
	{ "two lines in a path", "file: \"a\\nb\"", ENOENT, "@/a\nb: No such file or directory" },
};

/* Puts the folder's name for each @. */
static char *expand(const char *text)
{
	size_t room = strlen(text) + 1, n = 0;
	char *out;

	for (const char *p = text; *p; p++)
		room += *p == '@' ? sizeof folder : 0;
	out = malloc(room);
	assert_non_null(out);
	for (out[0] = '\0'; *text; text++)
		n += (size_t)sprintf(out + n, *text == '@' ? "%s" : "%.1s",
				     *text == '@' ? folder : text);
	return out;
}

static void layer_files_are_found(void **state)
{
	size_t i;

	for (i = 0; i < sizeof places / sizeof *places; i++) {
		AUTO_FREE char *lower = expand(places[i].lower);
		AUTO_FREE char *result = expand(places[i].result ? places[i].result : "");
		AUTO_FREE char *path = expand("@/c.yaml");
		AUTO_FREE char *found = NULL;
		struct image_config *c = NULL;
		struct err e = { "" };
		char text[512];
		int r, n;

		n = snprintf(text, sizeof text, "lowers: [{file: here},\n{%s}%s\n", lower,
			     strstr(lower, "upper: {") ? "" : "]");
		assert_int_equal(io_replace_file(path, text, (size_t)n, &e), 0);
		assert_int_equal(config_load(path, &no_service, &c, &e), 0);
		assert_int_equal(c->lowers[1].line, 2);
		r = config_find_lower(&c->lowers[1], &found, &e);
		if (r != (places[i].code == 1 ? 1 : -places[i].code))
			fail_msg("%s: %d, %s", places[i].what, r, e.msg);
		if (r == 1)
			assert_null(found);
		else if (strcmp(r == 0 ? found : e.msg, result) != 0)
			fail_msg("%s: %s", places[i].what, r == 0 ? found : e.msg);
		config_free(c);
	}
}

static void a_config_that_cannot_be_read_is_named(void **state)
{
	AUTO_FREE char *gone = expand("@/gone.yaml");
	AUTO_FREE char *message = expand("@/gone.yaml: No such file or directory");
	AUTO_FREE char *large = expand("@/large.yaml");
	struct image_config *c = NULL;
	struct err e;

	assert_int_equal(config_load(gone, &no_service, &c, &e), -ENOENT);
	assert_string_equal(e.msg, message);
	assert_int_equal(config_load(folder, &no_service, &c, &e), -EISDIR);
	assert_int_equal(strncmp(e.msg, folder, strlen(folder)), 0);
	assert_int_equal(config_load("", &no_service, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "the name of the config file is empty");
	assert_int_equal(config_load("/dev/null", &no_service, &c, &e), -EINVAL);
	assert_int_equal(config_load("no\nfile", &no_service, &c, &e), -ENOENT);
	assert_string_equal(e.msg, "no\nfile: No such file or directory");

	make_file("large.yaml");
	assert_int_equal(truncate(large, 16 * 1024 * 1024 + 1), 0);
	assert_int_equal(config_load(large, &no_service, &c, &e), -EFBIG);
	assert_null(c);
}

/* A long list of tried places must not push the end of the message out. */
static void a_long_path_leaves_room_for_the_cause(void **state)
{
	char dir[3001], digest[] = DIGEST, *found = NULL, *end = dir;
	struct lower_config lower = { .dir = dir, .digest = digest };
	char tried[3100], expected[1024];
	struct err e;

	while (end < dir + sizeof dir - 1)
		end += sprintf(end, "/ab");
	snprintf(tried, sizeof tried, " (tried %s", dir);
	assert_int_equal(config_find_lower(&lower, &found, &e), -ENOENT);
	assert_null(found);
	snprintf(expected, sizeof expected,
		 "no local file%.639s), and no 'repoBlobUrl' to fetch it from", tried);
	assert_string_equal(e.msg, expected);
}

static void many_layers_load(void **state)
{
	static const unsigned counts[] = { 1000, 10000, 65534, 65535 };
	size_t i;

	for (i = 0; i < sizeof counts / sizeof *counts; i++) {
		AUTO_FREE char *text = malloc((size_t)counts[i] * 160 + 100);
		struct image_config *c = NULL;
		struct err e;
		size_t n;
		unsigned k;
		int r;

		assert_non_null(text);
		n = (size_t)sprintf(text, "lowers:\n");
		for (k = 0; k < counts[i]; k++)
			n += (size_t)sprintf(text + n,
					     "- {file: layers/%u, digest: %s, size: %u}\n", k,
					     DIGEST, k);
		r = config_parse("/i/c", text, n, &no_service, &c, &e);
		if (counts[i] > 65534) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(e.msg,
					    "/i/c:1: 65535 layers, more than the limit of 65534");
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(c->lower_count, counts[i]);
		assert_int_equal(c->lowers[counts[i] - 1].size, counts[i] - 1);
		assert_int_equal(strncmp(c->lowers[counts[i] - 1].file, "/i/layers/", 10), 0);
		config_free(c);
	}
}

static void allocations_fail_one_by_one(void **state)
{
	static const char text[] = "lowers:\n- {file: /dev/null, dir: /x, digest: " DIGEST "}\n"
				   "- {file: /, dir: /}\nupper: {data: /u, index: /v}\n"
				   "resultFile: /r\ndescription: d\n"
				   "repoBlobUrl: u\naccelerationLayer: true\nservice: none\n"
				   "mirror: [http://a, http://b]\nproxy: p\nstats: s\n"
				   "credentials: c\ncache-dir: none\nuser: u\npassword: p\n"
				   "control: c\nupper-garbage: 5\n";
	char proxy[] = "http://p";
	const struct config_setting settings[] = { { "proxy", proxy }, { "stats", proxy } };
	const struct config_options options = {
		.settings = settings, .setting_count = 2, .upper = "/u", .control = "/c"
	};
	struct image_config *c;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		c = NULL;
		countdown = k;
		r = config_parse("/c", text, sizeof text - 1, &options, &c, &e);
		countdown = -1;
		if (r == -ENOMEM && (c || strncmp(e.msg, "/c:", 3) != 0))
			fail_msg("allocation %ld: %s", k, e.msg);
	}
	assert_int_equal(r, 0);
	assert_true(k > 25);
	assert_int_equal(c->fetch.mirror_count, 2);
	config_free(c);
}

static void finding_a_layer_runs_out_of_memory(void **state)
{
	char gone[] = "/gone", null[] = "/dev/null", none[] = "/none";
	const struct lower_config lowers[] = {
		{ .file = null, .dir = none },
		{ .file = gone, .dir = none },
	};
	char *found = NULL;
	struct err e;
	size_t i;
	long k;
	int r;

	for (i = 0; i < 2; i++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			countdown = k;
			r = config_find_lower(&lowers[i], &found, &e);
			countdown = -1;
			if (r == -ENOMEM)
				assert_string_equal(e.msg, "out of memory");
		}
		assert_int_equal(r, i == 0 ? 0 : -ENOENT);
		assert_true(k > 1);
	}
	assert_string_equal(found, null);
	free(found);
}

/* Loads every file that matches; `there`: the layers' files are to be found too. */
static void load_all(const char *where, const char *pattern, bool there, size_t at_least)
{
	const char *golden = getenv("GOLDEN");
	char path[4096];
	glob_t found;
	size_t i;

	assert_non_null(golden);
	snprintf(path, sizeof path, "%s/%s/%s", golden, where, pattern);
	assert_int_equal(glob(path, 0, NULL, &found), 0);
	assert_true(found.gl_pathc >= at_least);
	for (i = 0; i < found.gl_pathc; i++) {
		AUTO_FREE char *text = NULL;
		struct image_config *c = NULL;
		struct err e = { "" };
		size_t n;

		assert_int_equal(io_read_file(found.gl_pathv[i], 1 << 20, &text, &n, &e), 0);
		if (config_parse(found.gl_pathv[i], text, n, &no_service, &c, &e) < 0)
			fail_msg("%s", e.msg);
		assert_true(c->lower_count > 0 || c->image);
		for (size_t k = 0; there && k < c->lower_count; k++) {
			AUTO_FREE char *file = NULL;

			if (config_find_lower(&c->lowers[k], &file, &e) < 0)
				fail_msg("%s: %s", found.gl_pathv[i], e.msg);
		}
		if (strstr(where, "examples"))
			assert_true(c->description || c->upper_data);
		config_free(c);
	}
	globfree(&found);
}

static void golden_configs_load(void **state)
{
	load_all("*", "config.v1.json", true, 19);
}

static void examples_load(void **state)
{
	load_all("../../examples", "*.yaml", false, 4);
	load_all("../../examples", "config*.json", false, 1);
}

static int make_folder(void **state)
{
	static const char *const files[] = {
		"here",
		"all/overlaybd.commit",
		"all/.commit",
		"all/overlaybd.sealed",
		"two/.commit",
		"two/overlaybd.sealed",
		"one/overlaybd.sealed",
	};
	AUTO_FREE char *loop = NULL;
	size_t i;

	if (!mkdtemp(folder))
		return -1;
	for (i = 0; i < sizeof files / sizeof *files; i++)
		make_file(files[i]);
	make_file("none/other");
	loop = expand("@/loop");
	return symlink("loop", loop);
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configs_are_refused),
		cmocka_unit_test(a_message_without_suggestion_ends_there),
		cmocka_unit_test(upper_and_control),
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(absent_means_absent),
		cmocka_unit_test(a_description_fits_the_protocol),
		cmocka_unit_test(paths_count_from_the_configs_folder),
		cmocka_unit_test(layer_files_are_found),
		cmocka_unit_test(a_config_that_cannot_be_read_is_named),
		cmocka_unit_test(a_long_path_leaves_room_for_the_cause),
		cmocka_unit_test(many_layers_load),
		cmocka_unit_test(allocations_fail_one_by_one),
		cmocka_unit_test(finding_a_layer_runs_out_of_memory),
		cmocka_unit_test(golden_configs_load),
		cmocka_unit_test(examples_load),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
