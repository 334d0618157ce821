/* SPDX-License-Identifier: Apache-2.0 */
/* test-service.c - the reference's service file, and which level's value of a setting counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/config.h"
#include "core/service.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define PATH "/svc/overlaybd.json"

static char folder[] = "/tmp/test-service.XXXXXX";

static char *path_in(const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	return path;
}

static void write_text(const char *name, const char *text)
{
	AUTO_FREE char *path = path_in(name);

	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

static const char *show_list(char *const *list, size_t count, char out[256])
{
	size_t i, n = 0;

	out[0] = '\0';
	for (i = 0; i < count; i++)
		n += (size_t)snprintf(out + n, 256 - n, "%s%s", i > 0 ? " " : "", list[i]);
	return out;
}

/* The value of a setting as one text. */
static const char *show(const struct fetch_settings *s, const char *name, char out[256])
{
	const struct {
		const char *name, *text;
	} fields[] = {
		{ "cache-dir", s->cache_dir },
		{ "cainfo", s->cainfo },
		{ "client-cert", s->client_cert },
		{ "client-key", s->client_key },
		{ "credentials", s->credentials },
		{ "helper", s->service.helper },
		{ "helper-ca", s->service.ca },
		{ "helper-cert", s->service.cert },
		{ "helper-key", s->service.key },
		{ "fault", s->service.fault },
		{ "password", s->password },
		{ "platform", s->platform },
		{ "proxy", s->proxy },
		{ "stats", s->stats },
		{ "trace-file", s->trace.file },
		{ "user", s->user },
		{ "user-agent", s->user_agent },
	};
	const struct {
		const char *name;
		uint64_t number;
	} numbers[] = {
		{ "cache-keep-free", s->cache_keep_free },
		{ "verify-cache", s->verify_cache },
		{ "cache-limit", s->cache_limit },
		{ "connections", s->connections },
		{ "download", s->download.enable },
		{ "insecure", s->insecure },
		{ "acceleration-paths", s->trace.follows_paths },
		{ "timeout", s->timeout },
		{ "trace", s->trace.mode },
		{ "trace-idle", s->trace.idle },
		{ "trace-seconds", s->trace.seconds },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return fields[i].text ? fields[i].text : "";
	for (i = 0; i < COUNT_OF(numbers); i++)
		if (strcmp(numbers[i].name, name) == 0) {
			snprintf(out, 256, "%" PRIu64, numbers[i].number);
			return out;
		}
	if (strcmp(name, "prefetch") == 0)
		return show_list(s->prefetch, s->prefetch_count, out);
	assert_string_equal(name, "mirror");
	return show_list(s->mirrors, s->mirror_count, out);
}

/* ---- precedence ---- */

enum { SERVICE, IMAGE, OPTIONS, LEVELS };

#define FOLDERS "18446744073709551615" /* FETCH_FOLDERS */

/* What each level says of each setting, and how that is shown.  In a shown text @ stands for the
 * folder.  A row a setting: one without is found out. */
static const struct {
	const char *name;
	const char *said[LEVELS];
	const char *shown[1 + LEVELS]; /* the first: the built-in default */
} rows[] = {
	{ "acceleration-paths", { "true", "false", "true" }, { "0", "1", "0", "1" } },
	{ "cache-dir", { "a", "b", "c" }, { "/cache/overlaybd", "@/svc/a", "@/img/b", "/w/c" } },
	{ "cache-keep-free", { "1K", "0", "3K" }, { FOLDERS, "1024", "0", "3072" } },
	{ "cache-limit", { "1K", "2K", "none" }, { FOLDERS, "1024", "2048", "0" } },
	{ "cainfo", { "a", "b", "/c" }, { "", "@/svc/a", "@/img/b", "/c" } },
	{ "client-cert", { "a", "b", "c" }, { "", "@/svc/a", "@/img/b", "/w/c" } },
	{ "client-key", { "a", "b", "c" }, { "", "@/svc/a", "@/img/b", "/w/c" } },
	{ "connections", { "1", "2", "3" }, { "16", "1", "2", "3" } },
	{ "credentials", { "a", "http://b", "c" }, { "", "@/svc/a", "http://b", "/w/c" } },
	{ "download", { "true", "false", "true" }, { "0", "1", "0", "1" } },
	{ "insecure", { "true", "false", "true" }, { "0", "1", "0", "1" } },
	{ "mirror",
	  { "http://a", "http://b", "http://c" },
	  { "", "http://a", "http://b", "http://c" } },
	{ "password", { "a", "b", "c" }, { "", "a", "b", "c" } },
	{ "platform", { "a/a", "b/b", "c/c" }, { "", "a/a", "b/b", "c/c" } },
	{ "prefetch", { "/a", "/b", "/c" }, { "", "/a", "/b", "/c" } },
	{ "proxy", { "a", "b", "c" }, { "", "a", "b", "c" } },
	{ "stats", { "'-'", "b", "c" }, { "", "-", "@/img/b", "/w/c" } },
	{ "timeout", { "1", "2", "0" }, { "60", "1", "2", "0" } },
	{ "trace", { "record", "replay", "off" }, { "0", "1", "2", "3" } },
	{ "trace-file", { "a", "b", "c" }, { "", "@/svc/a", "@/img/b", "/w/c" } },
	{ "trace-idle", { "1", "2", "3" }, { "15", "1", "2", "3" } },
	{ "trace-seconds", { "1", "2", "3600" }, { "120", "1", "2", "3600" } },
	{ "user", { "a", "b", "c" }, { "", "a", "b", "c" } },
	{ "user-agent", { "a", "b", "c" }, { "", "a", "b", "c" } },
	{ "verify-cache", { "always", "once", "3" }, { "60", "0", "4294967295", "3" } },
};

/* What the setting needs beside it to be complete; said at the lowest level. */
static const char *companion(const char *name)
{
	return strcmp(name, "user") == 0	 ? "password: x\n"
	       : strcmp(name, "password") == 0	 ? "user: x\n"
	       : strcmp(name, "client-key") == 0 ? "client-cert: /x\n"
						 : "";
}

/* Loads an image with the setting said at the levels in `mask` alone. */
static void check_levels(size_t row, unsigned mask)
{
	AUTO_FREE char *service = path_in("svc/service.yaml");
	AUTO_FREE char *image = path_in("img/image.yaml");
	char text[512], expected[256], got[256], value[64];
	const char *name = rows[row].name, *shown = rows[row].shown[0];
	struct config_setting setting = { name, value };
	struct config_options options = { .settings = &setting,
					  .setting_count = mask >> OPTIONS & 1,
					  .folder = "/w",
					  /* or the image's config names it */
					  .service = row % 2 == 0 ? service : NULL };
	struct image_config *c;
	struct err e;
	int level;

	for (level = SERVICE; level < LEVELS; level++)
		if (mask & 1u << level)
			shown = rows[row].shown[1 + level];
	snprintf(expected, sizeof expected, "%s%s", shown[0] == '@' ? folder : "",
		 shown[0] == '@' ? shown + 1 : shown);
	snprintf(value, sizeof value, "%s", rows[row].said[OPTIONS]);
	snprintf(text, sizeof text, "service: %s\nlowers: [{file: a}]\n%s: %s\n",
		 options.service ? "none" : service, mask & 1u << IMAGE ? name : "description",
		 mask & 1u << IMAGE ? rows[row].said[IMAGE] : "d");
	write_text("img/image.yaml", text);
	snprintf(text, sizeof text, "%s%s: %s\n", mask ? companion(name) : "",
		 mask & 1u << SERVICE ? name : "other",
		 mask & 1u << SERVICE ? rows[row].said[SERVICE] : "x");
	write_text("svc/service.yaml", text);
	if (config_load(image, &options, &c, &e) < 0)
		fail_msg("%s, levels %x: %s", name, mask, e.msg);
	if (strcmp(show(&c->fetch, name, got), expected) != 0)
		fail_msg("%s, levels %x: '%s', not '%s'", name, mask, show(&c->fetch, name, got),
			 expected);
	config_free(c);
}

static void the_highest_level_counts(void **state)
{
	unsigned mask;
	size_t i;

	assert_int_equal(COUNT_OF(rows), CONFIG_SETTING_COUNT);
	for (i = 0; i < COUNT_OF(rows); i++) {
		assert_string_equal(rows[i].name, config_setting_name(i));
		for (mask = 0; mask < 1u << LEVELS; mask++)
			check_levels(i, mask);
	}
}

static struct image_config *load(const char *image, const char *service)
{
	AUTO_FREE char *path = path_in("img/image.yaml"), *named = path_in("svc/service.yaml");
	const struct config_options options = { .service = named };
	struct image_config *c;
	struct err e;

	write_text("img/image.yaml", image);
	write_text("svc/service.yaml", service);
	if (config_load(path, &options, &c, &e) < 0)
		fail_msg("%s", e.msg);
	return c;
}

static void expect_mirrors(const char *image, const char *service, const char *mirrors)
{
	struct image_config *c = load(image, service);
	char got[256];

	assert_string_equal(show(&c->fetch, "mirror", got), mirrors);
	config_free(c);
}

#define LOWER "lowers: [{file: a}]\n"
#define P2P "p2pConfig: {enable: true, address: 'p2p:1/x'}\n"

static void expect_prefetch(const char *image, const char *service, const char *paths)
{
	struct image_config *c = load(image, service);
	char got[256];

	assert_string_equal(show(&c->fetch, "prefetch", got), paths);
	config_free(c);
}

static void lists_are_replaced_as_a_whole(void **state)
{
	expect_prefetch(LOWER, "prefetch: [/a, /b/]\n", "/a /b/");
	expect_prefetch(LOWER "prefetch: [/c]\n", "prefetch: [/a, /b/]\n", "/c");
	expect_prefetch(LOWER "prefetch: []\n", "prefetch: /a\n", "");
	expect_mirrors(LOWER, "mirror: [http://a, http://b]\n", "http://a http://b");
	expect_mirrors(LOWER "mirror: [http://c]\n", "mirror: [http://a, http://b]\n", "http://c");
	expect_mirrors(LOWER "mirror: []\n", "mirror: [http://a]\n", "");
	expect_mirrors(LOWER, "mirror: http://a\n" P2P, "http://p2p:1/x http://a");
	expect_mirrors(LOWER "mirror: [http://c, http://d]\n", P2P, "http://c http://d");
}

static void a_download_map_says_some_of_it(void **state)
{
	struct image_config *c = load(LOWER "download: {delay: 7}\n",
				      "download: {enable: true, delay: 5, maxMBps: 3}\n");
	const struct fetch_download *d = &c->fetch.download;

	assert_true(d->enable);
	assert_int_equal(d->delay, 7);
	assert_int_equal(d->delay_extra, 30);
	assert_int_equal(d->max_mbps, 3);
	config_free(c);
}

/* ---- the reference's file ---- */

static const struct {
	const char *text, *name, *shown;
} good[] = {
	{ "{credentialFilePath: /opt/cred.json}", "credentials", "/opt/cred.json" },
	{ "{credentialFilePath: cred.json}", "credentials", "/svc/cred.json" },
	{ "{credentialFilePath: ''}", "credentials", "" },
	{ "{credentialConfig: {mode: file, path: c.json}, credentialFilePath: d.json}",
	  "credentials", "/svc/c.json" },
	{ "{credentialConfig: {path: c.json, timeout: 3}}", "credentials", "/svc/c.json" },
	{ "{credentialConfig: {mode: http, path: 'localhost:19876/auth'}}", "credentials",
	  "http://localhost:19876/auth" },
	{ "{credentialConfig: {mode: http, path: 'https://h/auth'}}", "credentials",
	  "https://h/auth" },
	{ "{credentialConfig: {mode: http, path: 'unix:///run/h'}}", "credentials",
	  "unix:///run/h" },
	{ "{credentialConfig: {mode: http, path: 'unix:/run/h'}}", "credentials", "unix:/run/h" },
	{ "{credentialConfig: {mode: http, path: 'unixhost:1/auth'}}", "credentials",
	  "http://unixhost:1/auth" },
	{ "{credentialConfig: {mode: file, path: ''}, credentialFilePath: d}", "credentials",
	  "/svc/d" },
	{ "{credentialConfig: {mode: uds, path: /run/h.sock}}", "credentials", "unix:/run/h.sock" },
	{ "{credentialConfig: {mode: uds, path: h.sock}}", "credentials", "unix:/svc/h.sock" },
	{ "{credentialConfig: {mode: uds}, credentialFilePath: d}", "credentials", "/svc/d" },
	{ "{credentialConfig: {mode: https, path: 'h:1/auth'}}", "credentials",
	  "https://h:1/auth" },
	{ "{credentialConfig: {mode: https, path: 'h:1/auth'}}", "helper", "https://h:1/auth" },
	{ "{credentialConfig: {mode: https, path: 'https://h'}}", "helper-ca", "" },
	{ "{credentialConfig: {mode: https, path: h, server_ca_path: ca.pem}}", "helper-ca",
	  "/svc/ca.pem" },
	{ "{credentialConfig: {mode: https, path: h, client_cert_path: /c.pem}}", "helper-cert",
	  "/c.pem" },
	{ "{credentialConfig: {mode: https, path: h, client_key_path: k.pem}}", "helper-key",
	  "/svc/k.pem" },
	{ "{credentialConfig: {mode: http, path: h, server_ca_path: ca.pem}}", "helper-ca", "" },
	/* an unknown mode is no fault of those who need no login */
	{ "{credentialConfig: {mode: ftp, path: x}, credentialFilePath: d}", "credentials", "" },
	{ "{credentialConfig: {mode: ftp, path: x}}", "fault",
	  PATH ":1: credentialConfig: mode 'ftp' is not known; there are the modes file, http, "
	       "https and uds" },
	{ "{credentialConfig: {mode: ftp, path: x}, credentials: ours}", "credentials",
	  "/svc/ours" },
	{ "{credentialConfig: {mode: file, path: c}, credentials: ours}", "credentials",
	  "/svc/ours" },
	{ "{registryCacheDir: /old}", "cache-dir", "/old" },
	{ "{cacheConfig: {cacheType: file, cacheDir: /new}, registryCacheDir: /old}", "cache-dir",
	  "/new" },
	{ "{cacheConfig: {cacheDir: /new}, cache-dir: none}", "cache-dir", "" },
	{ "{registryCacheSizeGB: 1}", "cache-limit", "1073741824" },
	{ "{cacheConfig: {cacheSizeGB: 4}, registryCacheSizeGB: 1}", "cache-limit", "4294967296" },
	{ "{cache-limit: 7, cacheConfig: {cacheSizeGB: 4}}", "cache-limit", "7" },
	{ "{p2pConfig: {enable: true, address: 'localhost:19145/dadip2p'}}", "mirror",
	  "http://localhost:19145/dadip2p" },
	{ "{p2pConfig: {enable: true, address: 'https://h/x'}}", "mirror", "https://h/x" },
	{ "{p2pConfig: {enable: false, address: 'h'}}", "mirror", "" },
	{ "{p2pConfig: {address: 'h/x'}}", "mirror", "" },
	{ "{p2pConfig: {enable: true, address: ''}}", "mirror",
	  "http://localhost:9731/accelerator" },
	{ "{p2pConfig: {enable: true}}", "mirror", "http://localhost:9731/accelerator" },
	{ "{p2pConfig: {enable: false}}", "mirror", "" },
	{ "{certConfig: {certFile: c, keyFile: k}}", "client-cert", "/svc/c" },
	{ "{certConfig: {certFile: c, keyFile: k}}", "client-key", "/svc/k" },
	{ "{certConfig: {certFile: '', keyFile: ''}}", "client-key", "" },
	{ "{userAgent: them/1}", "user-agent", "them/1" },
	{ "{download: {enable: true, delay: 1, delayExtra: 2, maxMBps: 3, tryCnt: 4}}", "download",
	  "1" },
	{ "{user: u, password: 'p w', proxy: 'http://me:pw@h'}", "password", "p w" },
	{ "{}", "connections", "16" },
};

static void the_reference_is_understood(void **state)
{
	int twice;
	size_t i;

	for (i = 0; i < COUNT_OF(good); i++) {
		struct fetch_settings s;
		char got[256];
		struct err e;

		assert_int_equal(fetch_settings_init(&s, NULL), 0);
		for (twice = 0; twice < 2; twice++) /* what was said before is replaced */
			if (service_parse(PATH, good[i].text, strlen(good[i].text), &s, &e) < 0)
				fail_msg("%s: %s", good[i].text, e.msg);
		if (strcmp(show(&s, good[i].name, got), good[i].shown) != 0)
			fail_msg("%s: %s", good[i].text, show(&s, good[i].name, got));
		fetch_settings_release(&s);
	}
}

/* Every allocation fails, and all that follow. */
static void memory_runs_out(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(good); i++) {
		char got[256];
		int r = -ENOMEM;
		long k;

		for (k = 0; r == -ENOMEM; k++) {
			struct fetch_settings s;
			struct err e = { "" };

			assert_int_equal(fetch_settings_init(&s, NULL), 0);
			allocs_left = k;
			r = service_parse(PATH, good[i].text, strlen(good[i].text), &s, &e);
			allocs_left = -1;
			if (r == -ENOMEM && (strncmp(e.msg, PATH ":", sizeof PATH) != 0 ||
					     !strstr(e.msg, "out of memory")))
				fail_msg("%s, allocation %ld: %s", good[i].text, k, e.msg);
			if (r == 0)
				assert_string_equal(show(&s, good[i].name, got), good[i].shown);
			fetch_settings_release(&s);
		}
		assert_int_equal(r, 0);
		assert_true(k > 3);
	}
}

static const struct {
	const char *text, *message;
} bad[] = {
	{ "", "1: the file is empty" },
	{ "[]", "1: a service file is a map of keys such as 'cacheConfig'" },
	{ "a: 1\na: 2\n", "2: duplicate key 'a', first in line 1" },
	{ "cacheConfig: x\n", "1: 'cacheConfig' must be a map of keys" },
	{ "registryCacheSizeGB: big\n", "1: 'registryCacheSizeGB' must be a whole number" },
	{ "registryCacheSizeGB: 8589934592\n", "1: cache-limit: '8589934592G' is neither a size" },
	{ "cacheConfig:\n  cacheSizeGB: 18446744073709551615\n",
	  "2: cacheConfig: cache-limit: '18446744073709551615G' is neither a size" },
	{ "credentialConfig: {mode: http, path: 'a b'}\n",
	  "1: credentialConfig: credentials: a file, or an address" },
	{ "p2pConfig: {enable: 1}\n", "1: p2pConfig: 'enable' must be true or false" },
	{ "p2pConfig: {enable: true, address: 'http://h:1/'}\n",
	  "1: p2pConfig: 'address' has no path, as in localhost:9731/accelerator" },
	{ "p2pConfig: {enable: true, address: 'h:1'}\n",
	  "1: p2pConfig: 'address' has no path, as in localhost:9731/accelerator" },
	{ "p2pConfig: {enable: true, address: 'h:1//'}\n",
	  "1: p2pConfig: 'address' has no path, as in localhost:9731/accelerator" },
	{ "p2pConfig: {enable: true, address: 'http://h'}\n",
	  "1: p2pConfig: 'address' has no path, as in localhost:9731/accelerator" },
	{ "credentialConfig: {mode: ftp}\nuserAgent: \"a\\nb\"\n",
	  "2: user-agent: only printable" },
	{ "p2pConfig: {enable: true, address: 'ftp://me:hush@h/x'}\n",
	  "1: p2pConfig: mirror: an address with http:// or https://" },
	{ "userAgent: \"a\\nb\"\n", "1: user-agent: only printable ASCII" },
	{ "x: 1\npassword: \"hush\\n\"\n", "2: password: it holds a line break" },
	{ "download: {delay: -1}\n", "1: download: 'delay' must be a whole number" },
};

static void bad_files_are_refused(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(bad); i++) {
		struct fetch_settings s = { 0 };
		struct err e = { "" };
		char expected[256];

		assert_int_equal(service_parse(PATH, bad[i].text, strlen(bad[i].text), &s, &e),
				 -EINVAL);
		snprintf(expected, sizeof expected, PATH ":%s", bad[i].message);
		if (strncmp(e.msg, expected, strlen(expected)) != 0)
			fail_msg("%s: %s", bad[i].text, e.msg);
		assert_null(strstr(e.msg, "hush"));
		fetch_settings_release(&s);
	}
}

static char logged[1024];

static void note(enum log_level level, const char *line)
{
	size_t n = strlen(logged);

	snprintf(logged + n, sizeof logged - n, "%s%s\n",
		 level == LOG_DEBUG ? "" : "not debug: ", line);
}

static void unknown_keys_are_logged(void **state)
{
	static const char text[] = "registryFsVersion: v2\n"
				   "cacheConfig: {cacheDir: /c, refillSize: 1}\n"
				   "logConfig: {logLevel: 1}\n"
				   "lowers: []\n"
				   "timeout: 5\n";
	struct fetch_settings s = { 0 };
	struct err e;

	log_set_sink(note);
	assert_int_equal(service_parse(PATH, text, sizeof text - 1, &s, &e), 0);
	log_set_sink(leftovers_sink);
	assert_int_equal(s.timeout, 5);
	assert_string_equal(s.cache_dir, "/c");
	assert_string_equal(logged, PATH ":1: unknown key 'registryFsVersion' is ignored\n" PATH
					 ":3: unknown key 'logConfig' is ignored\n" PATH
					 ":4: unknown key 'lowers' is ignored\n" PATH
					 ":2: unknown key 'refillSize' is ignored\n");
	fetch_settings_release(&s);
}

static void a_named_file_must_exist(void **state)
{
	AUTO_FREE char *gone = path_in("svc/gone"), *image = path_in("img/image.yaml");
	struct config_options options = { .service = gone };
	struct image_config *c = NULL;
	struct fetch_settings s = { 0 };
	struct err e;

	assert_int_equal(service_load(gone, &s, &e), -ENOENT);
	assert_int_equal(strncmp(e.msg, "service file /tmp/", 18), 0);
	assert_non_null(strstr(e.msg, "svc/gone: No such file or directory"));
	assert_int_equal(service_load("none", &s, &e), 0);
	write_text("img/image.yaml", LOWER "service: ../svc/gone\n");
	assert_int_equal(config_load(image, NULL, &c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/img/../svc/gone: No such file or directory"));
	assert_int_equal(config_load(image, &options, &c, &e), -ENOENT);
	assert_int_equal(config_from_image("app", &options, &c, &e), -ENOENT);
	assert_null(c);
	options.service = "none";
	assert_int_equal(config_load(image, &options, &c, &e), 0);
	config_free(c);
	write_text("img/image.yaml", LOWER "service: none\n");
	assert_int_equal(config_load(image, NULL, &c, &e), 0);
	config_free(c);
	if (access(SERVICE_DEFAULT, F_OK) < 0)
		assert_int_equal(service_load(NULL, &s, &e), 0);
}

/* Without a working directory, a relative name leads nowhere. */
static void a_file_is_somewhere(void **state)
{
	char gone[] = "/tmp/test-service.XXXXXX", *cwd = getcwd(NULL, 0);
	struct fetch_settings s = { 0 };
	struct err e;

	assert_non_null(mkdtemp(gone));
	assert_int_equal(chdir(gone), 0);
	assert_int_equal(rmdir(gone), 0);
	assert_int_equal(service_load("x", &s, &e), -ENOENT);
	assert_string_equal(e.msg, "service file x: No such file or directory");
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
}

static void the_example_loads(void **state)
{
	AUTO_FREE char *path = NULL;
	struct fetch_settings s = { 0 };
	char mirrors[256];
	struct err e;

	assert_true(asprintf(&path, "%s/../../examples/overlaybd.json", getenv("GOLDEN")) > 0);
	if (service_load(path, &s, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(show(&s, "mirror", mirrors),
			    "http://localhost:9731/accelerator https://mirror.example.com");
	fetch_settings_release(&s);
}

static int make_folder(void **state)
{
	char command[128];

	if (!mkdtemp(folder) || setenv("XDG_CACHE_HOME", "/cache", 1) < 0)
		return -1;
	snprintf(command, sizeof command, "mkdir %s/svc %s/img", folder, folder);
	return system(command);
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
		cmocka_unit_test(the_highest_level_counts),
		cmocka_unit_test(lists_are_replaced_as_a_whole),
		cmocka_unit_test(a_download_map_says_some_of_it),
		cmocka_unit_test(the_reference_is_understood),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(bad_files_are_refused),
		cmocka_unit_test(unknown_keys_are_logged),
		cmocka_unit_test(a_named_file_must_exist),
		cmocka_unit_test(a_file_is_somewhere),
		cmocka_unit_test(the_example_loads),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
