/* SPDX-License-Identifier: Apache-2.0 */
/* test-stats.c - nothing is lost when threads count at once, and both written forms: to the byte
 * for a small example, through strict readers for names that try to break out of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/counters.h"
#include "fetch/stats.h"
#include "tests/unit/alloc.h"
#include "tests/unit/loops.h"
#include "tests/unit/prometheus.h"

static char folder[] = "/tmp/test-stats.XXXXXX";

FILE *__real_open_memstream(char **text, size_t *n);
FILE *__wrap_open_memstream(char **text, size_t *n);

static bool stream_fills_up;

FILE *__wrap_open_memstream(char **text, size_t *n)
{
	if (stream_fills_up)
		return fopen("/dev/full", "w");
	return alloc_refused() ? NULL : __real_open_memstream(text, n);
}

static struct stats_group *open_group(const char *name)
{
	struct stats_group *g = NULL;
	struct err e = { "" };

	if (stats_group_open(name, &g, &e) < 0)
		fail_msg("%s", e.msg);
	return g;
}

static struct stats *add_layer(struct stats_group *g, const char *name)
{
	struct stats *s = NULL;
	struct err e = { "" };

	if (stats_group_add_layer(g, name, &s, &e) < 0)
		fail_msg("%s", e.msg);
	return s;
}

/* Inlined, gcc 12 takes what it returns for the address of `text`. */
__attribute__((noinline)) static char *format(struct stats_group *const *groups, size_t count,
					      bool prometheus)
{
	char *text = NULL;
	struct err e = { "" };
	size_t n = 0;

	if (stats_format(groups, count, prometheus, &text, &n, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(strlen(text), n);
	return text;
}

/* ---- counting ---- */

enum { THREADS = 8, LAYERS = 3 };

struct counting {
	struct stats_group *g;
	struct stats *layers[LAYERS];
	unsigned loops;
	atomic_uint left; /* threads that still count */
};

/* Each loop counts 1 of everything, at the image and at each layer. */
static void *count(void *arg)
{
	struct counting *c = arg;
	unsigned i, k;

	for (i = 0; i < c->loops; i++) {
		stats_add(stats_group_image(c->g), STATS_READS, 1);
		stats_request(stats_group_image(c->g), 200);
		for (k = 0; k < LAYERS; k++) {
			stats_add(c->layers[k], STATS_READS, 1);
			stats_add(c->layers[k], STATS_FETCHED_BYTES, 1);
			stats_request(c->layers[k], 206);
			stats_demand(c->layers[k], i % 2 == 0 ? 500 : 60000001);
		}
	}
	atomic_fetch_sub(&c->left, 1);
	return NULL;
}

/* What has `key` anywhere below images[0] along the path of keys, which NULL ends. */
static json_int_t value_of(const char *text, ...)
{
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *at;
	const char *key;
	json_int_t n;
	va_list keys;

	at = json_array_get(json_object_get(root, "images"), 0);
	va_start(keys, text);
	for (key = va_arg(keys, const char *); key; key = va_arg(keys, const char *))
		at = json_is_array(at) ? json_array_get(at, (size_t)atoll(key))
				       : json_object_get(at, key);
	va_end(keys);
	assert_true(json_is_integer(at));
	n = json_integer_value(at);
	json_decref(root);
	return n;
}

static void check_sums(struct counting *c)
{
	AUTO_FREE char *text = format(&c->g, 1, false);
	json_int_t all = (json_int_t)THREADS * c->loops;

	assert_int_equal(value_of(text, "counters", "reads", NULL), all);
	assert_int_equal(value_of(text, "counters", "fetched_bytes", NULL), LAYERS * all);
	assert_int_equal(value_of(text, "requests", "200", NULL), all);
	assert_int_equal(value_of(text, "requests", "206", NULL), LAYERS * all);
	assert_int_equal(value_of(text, "demand_reads", "count", NULL), LAYERS * all);
	assert_int_equal(value_of(text, "demand_reads", "buckets", "0", "count", NULL),
			 LAYERS * all / 2);
	assert_int_equal(value_of(text, "layers", "2", "counters", "reads", NULL), all);
	assert_int_equal(
		value_of(text, "layers", "2", "demand_reads", "buckets", "15", "count", NULL),
		all / 2);
}

static void threads_lose_no_count(void **state)
{
	struct counting c = { .g = open_group("i"), .loops = 2 * loops_count(200000) };
	pthread_t threads[THREADS];
	size_t i;

	for (i = 0; i < LAYERS; i++)
		c.layers[i] = add_layer(c.g, "l");
	atomic_init(&c.left, THREADS);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, &c), 0);
	while (atomic_load(&c.left) > 0) { /* what is written meanwhile agrees with itself */
		AUTO_FREE char *text = format(&c.g, 1, true);
		const char *wrong = prometheus_check(text);

		if (wrong)
			fail_msg("%s in %s", wrong, text);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	check_sums(&c);
	stats_group_close(c.g);
}

static void layers_share_no_cache_line(void **state)
{
	struct stats_group *g = open_group("i");
	struct stats *a = add_layer(g, "a"), *b = add_layer(g, "b");

	assert_int_equal((uintptr_t)stats_group_image(g) % 64, 0);
	assert_int_equal((uintptr_t)a % 64, 0);
	assert_int_equal((uintptr_t)b % 64, 0);
	assert_int_equal(sizeof(struct stats) % 64, 0);
	stats_group_close(g);
}

static void null_counts_nothing(void **state)
{
	stats_add(NULL, STATS_READS, 1);
	stats_set(NULL, STATS_READS, 1);
	stats_request(NULL, 200);
	stats_demand(NULL, 1);
	assert_int_equal(stats_get(NULL, STATS_READS), 0);
	stats_group_close(NULL);
}

static void answers_are_counted_by_status(void **state)
{
	static const struct {
		unsigned status;
		const char *key;
	} rows[] = {
		{ 206, "206" },	      { 504, "504" },	    { 0, "none" },
		{ 100, "other_1xx" }, { 299, "other_2xx" }, { 300, "other_3xx" },
		{ 451, "other_4xx" }, { 599, "other_5xx" }, { 999, "other_5xx" },
		{ 7, "other_1xx" },   { ~0u, "other_5xx" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct stats_group *g = open_group("i");
		AUTO_FREE char *text = NULL;

		stats_request(stats_group_image(g), rows[i].status);
		text = format(&g, 1, false);
		assert_int_equal(value_of(text, "requests", rows[i].key, NULL), 1);
		stats_group_close(g);
	}
}

/* ---- both forms ---- */

/* An image that sent one request itself, and its layer. */
static struct stats_group *open_example(void)
{
	struct stats_group *g = open_group("/i/a.yaml");
	struct stats *image = stats_group_image(g), *layer = add_layer(g, "sha256:00");

	stats_add(image, STATS_READS, 3);
	stats_add(image, STATS_READ_BYTES, 12288);
	stats_add(image, STATS_FETCHED_BYTES, 100);
	stats_request(image, 200);
	stats_add(layer, STATS_READS, 4);
	stats_add(layer, STATS_READ_BYTES, 16384);
	stats_add(layer, STATS_CACHE_HITS, 1);
	stats_add(layer, STATS_CACHE_MISSES, 2);
	stats_add(layer, STATS_FETCHED_BYTES, 32768);
	stats_add(layer, STATS_RETRIES, 5);
	stats_add(layer, STATS_CRC_DROPS, 6);
	stats_add(layer, STATS_CACHE_DROPS, 7);
	stats_set(layer, STATS_CACHE_ENABLED, 1);
	stats_set(layer, STATS_DOWNLOAD_BYTES, 8);
	stats_set(layer, STATS_DOWNLOAD_BYTES, 9);
	stats_set(layer, STATS_DOWNLOAD_TOTAL, UINT64_MAX);
	stats_request(layer, 206);
	stats_request(layer, 206);
	stats_request(layer, 0);
	stats_demand(layer, 500);
	stats_demand(layer, 25001);
	stats_demand(layer, 61000000);
	assert_int_equal(stats_get(image, STATS_FETCHED_BYTES), 100);
	assert_int_equal(stats_get(layer, STATS_DOWNLOAD_BYTES), 9);
	return g;
}

#define JSON_DEMAND                                                                                \
	"{\"count\":3,\"sum_seconds\":61.025501,\"buckets\":["                                     \
	"{\"le\":0.0005,\"count\":1},{\"le\":0.001,\"count\":1},{\"le\":0.0025,\"count\":1},"      \
	"{\"le\":0.005,\"count\":1},{\"le\":0.01,\"count\":1},{\"le\":0.025,\"count\":1},"         \
	"{\"le\":0.05,\"count\":2},{\"le\":0.1,\"count\":2},{\"le\":0.25,\"count\":2},"            \
	"{\"le\":0.5,\"count\":2},{\"le\":1.0,\"count\":2},{\"le\":2.5,\"count\":2},"              \
	"{\"le\":5.0,\"count\":2},{\"le\":10.0,\"count\":2},{\"le\":30.0,\"count\":2},"            \
	"{\"le\":60.0,\"count\":2}]}"

static const char example_json[] =
	"{\"images\":[{\"name\":\"/i/a.yaml\",\"counters\":{\"reads\":3,\"read_bytes\":12288,"
	"\"cache_hits\":1,\"cache_misses\":2,\"fetched_bytes\":32868,\"retries\":5,"
	"\"crc_drops\":6,\"cache_drops\":7,\"cache_enabled\":1,\"download_bytes\":9,"
	"\"download_total_bytes\":9223372036854775807},"
	"\"requests\":{\"200\":1,\"206\":2,\"none\":1},\"demand_reads\":" JSON_DEMAND ","
	"\"layers\":[{\"name\":\"sha256:00\",\"counters\":{\"reads\":4,\"read_bytes\":16384,"
	"\"cache_hits\":1,\"cache_misses\":2,\"fetched_bytes\":32768,\"retries\":5,"
	"\"crc_drops\":6,\"cache_drops\":7,\"cache_enabled\":1,\"download_bytes\":9,"
	"\"download_total_bytes\":9223372036854775807},"
	"\"requests\":{\"206\":2,\"none\":1},\"demand_reads\":" JSON_DEMAND "}]}]}\n";

#define HEAD(name, type, help)                                                                     \
	"# HELP overlaybd_" name " " help "\n# TYPE overlaybd_" name " " type "\n"
#define ROW(name, labels, value) "overlaybd_" name "{" labels "} " value "\n"
#define ONE(name, type, help, labels, value) HEAD(name, type, help) ROW(name, labels, value)

#define PROMETHEUS(level, labels, reads, bytes, fetched, more)                                     \
	ONE(level "reads_total", "counter", "Reads asked for.", labels, reads)                     \
	ONE(level "read_bytes_total", "counter", "Bytes asked for.", labels, bytes)                \
	ONE(level "cache_hits_total", "counter", "Reads that did not wait for the network.",       \
	    labels, "1")                                                                           \
	ONE(level "cache_misses_total", "counter", "Reads that waited for the network.", labels,   \
	    "2")                                                                                   \
	ONE(level "fetched_bytes_total", "counter", "Bytes of answers that arrived.", labels,      \
	    fetched)                                                                               \
	ONE(level "retries_total", "counter", "Tries beyond the first of a request.", labels, "5") \
	ONE(level "crc_drops_total", "counter", "Ranges that failed a checksum of the layer.",     \
	    labels, "6")                                                                           \
	ONE(level "cache_drops_total", "counter",                                                  \
	    "Chunks of the cache that failed its own checksum.", labels, "7")                      \
	ONE(level "cache_enabled", "gauge", "Layers of which fetched bytes are kept.", labels,     \
	    "1")                                                                                   \
	ONE(level "download_bytes", "gauge", "Bytes that background download has.", labels, "9")   \
	ONE(level "download_total_bytes", "gauge",                                                 \
	    "Bytes that background download wants; 0 when it is off.", labels,                     \
	    "18446744073709551615")                                                                \
	HEAD(level "requests_total", "counter",                                                    \
	     "Finished requests by HTTP status; none when no answer came.")                        \
	more ROW(level "requests_total", labels ",status=\"206\"", "2") ROW(                       \
		level "requests_total", labels ",status=\"none\"",                                 \
		"1") HEAD(level "demand_read_seconds", "histogram",                                \
			  "How long reads waited for the network.") BUCKET(level, labels,          \
									   "0.0005", "1")          \
		BUCKET(level, labels, "0.001", "1") BUCKET(level, labels, "0.0025", "1") BUCKET(   \
			level, labels, "0.005", "1") BUCKET(level, labels, "0.01", "1")            \
			BUCKET(level, labels, "0.025", "1") BUCKET(                                \
				level, labels, "0.05", "2") BUCKET(level, labels, "0.1", "2")      \
				BUCKET(level, labels, "0.25", "2") BUCKET(                         \
					level, labels, "0.5", "2") BUCKET(level, labels, "1", "2") \
					BUCKET(level, labels, "2.5",                               \
					       "2") BUCKET(level, labels, "5",                     \
							   "2") BUCKET(level, labels, "10", "2")   \
						BUCKET(level, labels, "30",                        \
						       "2") BUCKET(level, labels, "60", "2")       \
							BUCKET(level, labels, "+Inf", "3") ROW(    \
								level "demand_read_seconds_sum",   \
								labels, "61.025501")               \
								ROW(level                          \
								    "demand_read_seconds_count",   \
								    labels, "3")
#define BUCKET(level, labels, le, n)                                                               \
	ROW(level "demand_read_seconds_bucket", labels ",le=\"" le "\"", n)

static const char example_prometheus[] =
	PROMETHEUS("", "image=\"/i/a.yaml\"", "3", "12288", "32868",
		   ROW("requests_total", "image=\"/i/a.yaml\",status=\"200\"", "1"))
		PROMETHEUS("layer_", "image=\"/i/a.yaml\",layer=\"0\",digest=\"sha256:00\"", "4",
			   "16384", "32768", "");

static void a_small_example_to_the_byte(void **state)
{
	struct stats_group *g = open_example();
	AUTO_FREE char *json = format(&g, 1, false), *prometheus = format(&g, 1, true);

	assert_string_equal(json, example_json);
	assert_string_equal(prometheus, example_prometheus);
	stats_group_close(g);
}

static void several_images_and_none(void **state)
{
	struct stats_group *g[] = { open_example(), open_group("b"), open_group("c") };
	AUTO_FREE char *none = format(NULL, 0, false), *none_prometheus = format(NULL, 0, true);
	AUTO_FREE char *json = NULL, *prometheus = NULL;
	size_t i;

	assert_string_equal(none, "{\"images\":[]}\n");
	assert_null(prometheus_check(none_prometheus));
	for (i = 0; i < 12; i++)
		stats_add(add_layer(g[2], "same"), STATS_RETRIES, i);
	json = format(g, 3, false);
	prometheus = format(g, 3, true);
	assert_null(prometheus_check(prometheus));
	assert_non_null(strstr(prometheus, "\noverlaybd_retries_total{image=\"c\"} 66\n"));
	assert_non_null(strstr(prometheus, "\noverlaybd_layer_retries_total{image=\"c\","
					   "layer=\"11\",digest=\"same\"} 11\n"));
	assert_non_null(strstr(json, "},{\"name\":\"b\",\"counters\":{\"reads\":0,"));
	for (i = 0; i < 3; i++)
		stats_group_close(g[i]);
}

static void the_reader_is_strict(void **state)
{
#define GOOD HEAD("x_total", "counter", "h")
#define HISTOGRAM "# HELP h h\n# TYPE h histogram\n"
	static const struct {
		const char *text, *wrong;
	} rows[] = {
		{ GOOD ROW("x_total", "a=\"\\\\\\\"\\n\"", "1"), NULL },
		{ "overlaybd_x_total{a=\"1\"} 1\n", "a line of no metric" },
		{ GOOD GOOD, "a metric twice" },
		{ GOOD "y_total{a=\"1\"} 1\n", "a line of no metric" },
		{ GOOD ROW("x_total_count", "a=\"1\"", "1"), "a line of no metric" },
		{ GOOD ROW("x_total", "a=\"1\"", "1") ROW("x_total", "a=\"1\"", "2"),
		  "a line twice" },
		{ GOOD ROW("x_total", "a=\"1\",a=\"2\"", "1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"\"\"", "1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"\\x\"", "1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"1\n\"", "1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "1a=\"\"", "1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"1\"", "1 x"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"1\"", "-1"), "wrong labels or value" },
		{ GOOD ROW("x_total", "a=\"\xff\"", "1"), "not UTF-8" },
		{ GOOD "overlaybd_x_total{a=\"1\"} 1", "no newline at the end" },
		{ HEAD("x", "counter", "h"), "not _total" },
		{ HEAD("x", "summary", "h"), "no type" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"1\",le=\"2\"} 1\n",
		  "buckets do not ascend" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"1\",le=\"0.5\"} 2\n",
		  "buckets do not ascend" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"1\"} 2\nh_sum{a=\"1\"} 1\n",
		  "a histogram without +Inf before its end" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"+Inf\"} 2\nh_sum{a=\"1\"} 1\n"
			    "h_count{a=\"1\"} 3\n",
		  "_count is not the bucket +Inf" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"+Inf\"} 2\nh_sum{a=\"1\"} 1\n",
		  "a histogram without an end" },
		{ HISTOGRAM "h_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"2\",le=\"+Inf\"} 2\n",
		  "a histogram between another's lines" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *wrong = prometheus_check(rows[i].text);

		if (!wrong != !rows[i].wrong || (wrong && strcmp(wrong, rows[i].wrong) != 0))
			fail_msg("row %zu: %s", i, wrong);
	}
}

static void hostile_names_stay_names(void **state)
{
	static const struct {
		const char *name, *written; /* NULL: as it is */
	} rows[] = {
		{ "", NULL },
		{ "a\\b\"c\nd", NULL },
		{ "\\n\\", NULL },
		{ "\"} 1\noverlaybd_reads_total{image=\"", NULL },
		{ "x\",layer=\"7", NULL },
		{ "#{}=,", NULL },
		{ "caf\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x80\xae", NULL },
		{ "\r\t\x1b[2J\x7f\x01", NULL },
		{ "caf\xe9", "caf\\xe9" },
		{ "\xff\xfe\xc3", "\\xff\\xfe\\xc3" },
		{ "\xed\xa0\x80\xc0\x80", "\\xed\\xa0\\x80\\xc0\\x80" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *name = rows[i].name;
		const char *written = rows[i].written ? rows[i].written : name, *at;
		struct stats_group *g = open_group(name);
		AUTO_FREE char *json = NULL, *prometheus = NULL;
		json_t *root, *image;
		char value[256];

		add_layer(g, name);
		json = format(&g, 1, false);
		root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
		image = json_array_get(json_object_get(root, "images"), 0);
		assert_string_equal(json_string_value(json_object_get(image, "name")), written);
		json_decref(root);
		for (at = json; *at != '\n'; at++)
			assert_in_range(*at, 0x20, 0x7f);

		prometheus = format(&g, 1, true);
		at = prometheus_check(prometheus);
		if (at)
			fail_msg("row %zu: %s in %s", i, at, prometheus);
		at = strstr(strstr(prometheus, "overlaybd_layer_reads_total{"), "digest=");
		assert_non_null(prometheus_quoted(at + 7, value, sizeof value));
		assert_string_equal(value, written);
		stats_group_close(g);
	}
}

static void a_long_name_is_kept(void **state)
{
	enum { LENGTH = 100000 };
	AUTO_FREE char *name = malloc(LENGTH + 1), *json = NULL;
	struct stats_group *g;

	memset(name, '\xff', LENGTH);
	name[LENGTH] = '\0';
	g = open_group(name);
	json = format(&g, 1, false);
	assert_true(strlen(json) > 5 * LENGTH);
	stats_group_close(g);
}

/* ---- files ---- */

static void expect_file(const char *path, const char *text)
{
	AUTO_FREE char *found = NULL;
	struct err e = { "" };
	size_t n;

	if (io_read_file(path, 1 << 20, &found, &n, &e) < 0)
		fail_msg("%s: %s", path, e.msg);
	assert_string_equal(found, text);
}

static void files_are_replaced(void **state)
{
	static const struct {
		const char *name, *text;
	} rows[] = {
		{ "s.prom", example_prometheus },
		{ "s.json", example_json },
		{ "prom", example_json },
		{ "s.prom.json", example_json },
	};
	struct stats_group *g = open_example();
	struct err e = { "" };
	char path[256];
	size_t i;

	for (i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, rows[i / 2].name);
		if (stats_write(&g, 1, path, &e) < 0)
			fail_msg("%s", e.msg);
		expect_file(path, rows[i / 2].text);
	}
	snprintf(path, sizeof path, "%s/none/s.json", folder);
	assert_int_equal(stats_write(&g, 1, path, &e), -ENOENT);
	assert_non_null(strstr(e.msg, path));
	stats_group_close(g);
}

/* What stats_write to "-" returns while standard output is this file. */
static int write_to(struct stats_group *g, const char *path, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT, 0666), saved = -1;
	int r;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDOUT_FILENO);
	r = stats_write(&g, 1, "-", e);
	__fpurge(stdout); /* what could not be written */
	clearerr(stdout);
	dup2(saved, STDOUT_FILENO);
	return r;
}

static void a_dash_is_standard_output(void **state)
{
	struct stats_group *g = open_example();
	struct err e = { "" };
	char path[256];

	snprintf(path, sizeof path, "%s/output", folder);
	assert_int_equal(write_to(g, path, &e), 0);
	expect_file(path, example_json);
	assert_int_equal(write_to(g, "/dev/full", &e), -ENOSPC);
	assert_string_equal(e.msg, "standard output: No space left on device");
	stats_group_close(g);
}

/* ---- out of memory ---- */

static void groups_run_out_of_memory(void **state)
{
	struct stats_group *g = NULL;
	struct stats *layer = NULL;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = stats_group_open("i", &g, &e);
		alloc_left = -1;
		if (r < 0)
			assert_string_equal(e.msg, "i: out of memory");
	}
	assert_int_equal(k, 3);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = stats_group_add_layer(g, "l", &layer, &e);
		alloc_left = -1;
		if (r < 0)
			assert_string_equal(e.msg, "l: out of memory");
	}
	assert_int_equal(k, 3);
	stats_add(layer, STATS_RETRIES, 1);
	stats_group_close(g);
}

static void writing_runs_out_of_memory(void **state)
{
	struct stats_group *g = open_example();
	char *text = NULL;
	struct err e;
	size_t n;
	long k;
	int r, prometheus;

	for (prometheus = 0; prometheus < 2; prometheus++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			alloc_left = k;
			r = stats_format(&g, 1, prometheus, &text, &n, &e);
			alloc_left = -1;
			if (r < 0 && (text || strcmp(e.msg, "statistics: out of memory") != 0))
				fail_msg("allocation %ld: %s", k, e.msg);
		}
		assert_int_equal(r, 0);
		assert_true(prometheus || k > 300);
		assert_string_equal(text, prometheus ? example_prometheus : example_json);
		free(TAKE_PTR(text));

		stream_fills_up = true;
		assert_int_equal(stats_format(&g, 1, prometheus, &text, &n, &e), -ENOMEM);
		stream_fills_up = false;
	}
	stats_group_close(g);
}

static int set_up(void **state)
{
	loops_seed();
	json_set_alloc_funcs(__wrap_malloc, free);
	return mkdtemp(folder) ? 0 : -1;
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
		cmocka_unit_test(threads_lose_no_count),
		cmocka_unit_test(layers_share_no_cache_line),
		cmocka_unit_test(null_counts_nothing),
		cmocka_unit_test(answers_are_counted_by_status),
		cmocka_unit_test(a_small_example_to_the_byte),
		cmocka_unit_test(several_images_and_none),
		cmocka_unit_test(the_reader_is_strict),
		cmocka_unit_test(hostile_names_stay_names),
		cmocka_unit_test(a_long_name_is_kept),
		cmocka_unit_test(files_are_replaced),
		cmocka_unit_test(a_dash_is_standard_output),
		cmocka_unit_test(groups_run_out_of_memory),
		cmocka_unit_test(writing_runs_out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, remove_folder);
}
