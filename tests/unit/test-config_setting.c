/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_setting.c - the values that each setting takes and refuses.  That values come out of
 * files and levels is for test-service.c and test-config.c. */
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

#include "core/base/scope.h"
#include "core/config_setting.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static int apply(const char *name, const char *value, bool is_parameter, struct fetch_settings *s,
		 struct err *e)
{
	struct config_level level = { .folder = "/here", .is_parameter = is_parameter };
	int i = config_setting_find(name);

	if (i < 0)
		fail_msg("no setting '%s'", name);
	return config_setting_apply(&level, (size_t)i, value, s, e);
}

static const struct {
	const char *name, *value, *result;
} texts[] = {
	{ "cache-dir", "/c", "/c" },
	{ "cache-dir", "c", "/here/c" },
	{ "cache-dir", "./none", "/here/./none" },
	{ "cache-dir", "none", NULL },
	{ "cainfo", "ca.pem", "/here/ca.pem" },
	{ "client-cert", "c.pem", "/here/c.pem" },
	{ "client-key", "/k.pem", "/k.pem" },
	{ "credentials", "auth.json", "/here/auth.json" },
	{ "credentials", "me@home.json", "/here/me@home.json" },
	{ "credentials", "http://localhost:19876/auth?a=b", "http://localhost:19876/auth?a=b" },
	{ "credentials", "https://helper", "https://helper" },
	{ "credentials", "unix:/run/helper.sock", "unix:/run/helper.sock" },
	{ "credentials", "unix:///run/helper.sock", "unix:///run/helper.sock" },
	{ "password", "a b\xff:@", "a b\xff:@" },
	{ "platform", "linux/arm64", "linux/arm64" },
	{ "platform", "linux/arm/v7", "linux/arm/v7" },
	{ "proxy", "proxy:3128", "proxy:3128" },
	{ "proxy", "https://p", "https://p" },
	{ "proxy", "socks4://p", "socks4://p" },
	{ "proxy", "socks4a://p", "socks4a://p" },
	{ "proxy", "socks5://p", "socks5://p" },
	{ "proxy", "http://p/!~", "http://p/!~" },
	{ "platform", "a.-_0/z9", "a.-_0/z9" },
	{ "proxy", "http://proxy:3128/", "http://proxy:3128/" },
	{ "proxy", "socks5h://[::1]:1080", "socks5h://[::1]:1080" },
	{ "stats", "-", "-" },
	{ "stats", "s.prom", "/here/s.prom" },
	{ "trace-file", "t.trace", "/here/t.trace" },
	{ "user", "robot$me", "robot$me" },
	{ "user-agent", "us/1.0 (them)", "us/1.0 (them)" },
	{ "user-agent", " ~", " ~" },
};

static const char *text_of(const struct fetch_settings *s, const char *name)
{
	const struct {
		const char *name, *value;
	} fields[] = {
		{ "cache-dir", s->cache_dir },
		{ "cainfo", s->cainfo },
		{ "client-cert", s->client_cert },
		{ "client-key", s->client_key },
		{ "credentials", s->credentials },
		{ "password", s->password },
		{ "platform", s->platform },
		{ "proxy", s->proxy },
		{ "stats", s->stats },
		{ "trace-file", s->trace.file },
		{ "user", s->user },
		{ "user-agent", s->user_agent },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return fields[i].value;
	fail_msg("no text '%s'", name);
	return NULL;
}

static void texts_are_taken(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(texts); i++) {
		struct fetch_settings s = { 0 };
		const char *got;
		struct err e;

		/* What is replaced is freed. */
		s.cache_dir = strdup("old");
		s.proxy = strdup("old");
		if (apply(texts[i].name, texts[i].value, true, &s, &e) < 0)
			fail_msg("%s=%s: %s", texts[i].name, texts[i].value, e.msg);
		got = text_of(&s, texts[i].name);
		if (!got != !texts[i].result || (got && strcmp(got, texts[i].result) != 0))
			fail_msg("%s=%s: %s", texts[i].name, texts[i].value, got);
		fetch_settings_release(&s);
	}
}

static void sizes_are_taken(void **state)
{
	static const struct {
		const char *value;
		uint64_t size;
	} rows[] = {
		{ "0", 0 },
		{ "none", 0 },
		{ "4096", 4096 },
		{ "1K", 1024 },
		{ "3k", 3072 },
		{ "512M", 512 << 20 },
		{ "10G", (uint64_t)10 << 30 },
		{ "2t", (uint64_t)2 << 40 },
		{ "9223372036854775807", INT64_MAX },
		{ "8388607T", (uint64_t)8388607 << 40 },
	};
	struct fetch_settings s = { 0 };
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		s.cache_limit = 1;
		if (apply("cache-limit", rows[i].value, true, &s, &e) < 0)
			fail_msg("%s", e.msg);
		if (s.cache_limit != rows[i].size)
			fail_msg("%s: %" PRIu64, rows[i].value, s.cache_limit);
	}
}

static void numbers_and_switches_are_taken(void **state)
{
	struct fetch_settings s = { 0 };

	assert_int_equal(apply("connections", "1", true, &s, NULL), 0);
	assert_int_equal(s.connections, 1);
	assert_int_equal(apply("connections", "1024", true, &s, NULL), 0);
	assert_int_equal(s.connections, 1024);
	assert_int_equal(apply("timeout", "1000000", true, &s, NULL), 0);
	assert_int_equal(s.timeout, 1000000);
	assert_int_equal(apply("timeout", "0", true, &s, NULL), 0);
	assert_int_equal(s.timeout, 0);
	assert_int_equal(apply("insecure", "true", true, &s, NULL), 0);
	assert_true(s.insecure);
	assert_int_equal(apply("insecure", "false", true, &s, NULL), 0);
	assert_false(s.insecure);
	assert_int_equal(apply("download", "true", true, &s, NULL), 0);
	assert_true(s.download.enable);
	assert_int_equal(apply("trace-seconds", "1", true, &s, NULL), 0);
	assert_int_equal(s.trace.seconds, 1);
	assert_int_equal(apply("trace-idle", "3600", true, &s, NULL), 0);
	assert_int_equal(s.trace.idle, 3600);
	assert_int_equal(apply("verify-cache", "1000000", true, &s, NULL), 0);
	assert_int_equal(s.verify_cache, 1000000);
	assert_int_equal(apply("verify-cache", "once", true, &s, NULL), 0);
	assert_int_equal(s.verify_cache, FETCH_VERIFY_ONCE);
	assert_int_equal(apply("verify-cache", "1", true, &s, NULL), 0);
	assert_int_equal(s.verify_cache, 1);
	assert_int_equal(apply("verify-cache", "always", true, &s, NULL), 0);
	assert_int_equal(s.verify_cache, 0);
}

#define SIZE "' is neither a size such as 512M or 10G nor 'none'"
#define PLATFORM "' is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64"
#define MIRROR "an address with http:// or https://, a host, and neither '?' nor '#' is needed"
#define PROXY                                                                                      \
	"an address such as http://HOST:PORT is needed; there are http, https, socks4, socks4a, "  \
	"socks5 and socks5h"
#define CREDENTIALS                                                                                \
	"a file, or an address such as http://HOST, https://HOST or unix:/PATH is needed"
#define VERIFY(value)                                                                              \
	"'" value "' is neither 'always', 'once' nor a number of seconds up to 1000000"
#define CONTROL "it holds a line break or another control character"

static const struct {
	const char *name, *value, *message;
} bad[] = {
	{ "cache-limit", "-1", "'-1" SIZE },
	{ "cache-limit", "G", "'G" SIZE },
	{ "cache-limit", "10GB", "'10GB" SIZE },
	{ "cache-limit", "1.5G", "'1.5G" SIZE },
	{ "cache-limit", "10 G", "'10 G" SIZE },
	{ "cache-limit", "10 ", "'10 " SIZE },
	{ "cache-limit", "9223372036854775808", "'9223372036854775808" SIZE },
	{ "cache-limit", "8388608T", "'8388608T" SIZE },
	{ "cache-limit", "99999999999999999999", "'99999999999999999999" SIZE },
	{ "connections", "0", "'0' is not a whole number from 1 to 1024" },
	{ "connections", "1025", "'1025' is not a whole number from 1 to 1024" },
	{ "connections", " 1", "' 1' is not a whole number from 1 to 1024" },
	{ "connections", "18446744073709551617",
	  "'18446744073709551617' is not a whole number from 1 to 1024" },
	{ "timeout", "60s", "'60s' is not a whole number of seconds from 0 to 1000000" },
	{ "timeout", "1000001", "'1000001' is not a whole number of seconds from 0 to 1000000" },
	{ "verify-cache", "ever", VERIFY("ever") },
	{ "verify-cache", "", "it is empty" },
	{ "verify-cache", "-1", VERIFY("-1") },
	{ "verify-cache", "5s", VERIFY("5s") },
	{ "verify-cache", "1000001", VERIFY("1000001") },
	{ "insecure", "yes", "'yes' is neither true nor false" },
	{ "download", "1", "'1' is neither true nor false" },
	{ "platform", "linux", "'linux" PLATFORM },
	{ "platform", "linux/", "'linux/" PLATFORM },
	{ "platform", "/arm64", "'/arm64" PLATFORM },
	{ "platform", "linux/arm/v7/x", "'linux/arm/v7/x" PLATFORM },
	{ "platform", "linux/ARM", "'linux/ARM" PLATFORM },
	{ "platform", "linux//v7", "'linux//v7" PLATFORM },
	{ "mirror", "mirror.example.com", MIRROR },
	{ "mirror", "ftp://mirror", MIRROR },
	{ "mirror", "http://", MIRROR },
	{ "mirror", "http:///v2/", MIRROR },
	{ "mirror", "http://:5000/", MIRROR },
	{ "mirror", "http://me:hush@", MIRROR },
	{ "mirror", "http://me:hush@/v2/", MIRROR },
	{ "mirror", "http://a/b c", MIRROR },
	{ "mirror", "http://a/?b=hush", MIRROR },
	{ "mirror", "http://a#hush", MIRROR },
	{ "mirror", "http://\xc3\xa4/", MIRROR },
	{ "proxy", "ftp://me:hush@proxy", PROXY },
	{ "proxy", "socks://p", PROXY },
	{ "proxy", "socks6://p", PROXY },
	{ "proxy", "socks5hh://p", PROXY },
	{ "proxy", "HTTP://p", PROXY },
	{ "proxy", "http://p /", PROXY },
	{ "proxy", "http://p/\x7f", PROXY },
	{ "proxy", "://proxy", PROXY },
	{ "proxy", "http://", PROXY },
	{ "proxy", ":3128", PROXY },
	{ "proxy", "me:hush@proxy\nx", PROXY },
	{ "credentials", "unix:run/x", CREDENTIALS },
	{ "credentials", "ftp://me:hush@x", CREDENTIALS },
	{ "credentials", "http://", CREDENTIALS },
	{ "user", "me:hush", "a name holds neither ':' nor a control character" },
	{ "user", "me\n", "a name holds neither ':' nor a control character" },
	{ "password", "hush\n", CONTROL },
	{ "password", "hush\x7f", CONTROL },
	{ "password", "\thush", CONTROL },
	{ "user-agent", "a\x7f", "only printable ASCII characters can be sent" },
	{ "user-agent", "a\x1f", "only printable ASCII characters can be sent" },
	{ "password", "hush\x1f", CONTROL },
	{ "trace", "autos", "'autos' is neither auto nor record nor replay nor off" },
	{ "prefetch", "a/b", "'a/b' is no absolute path of a file or folder in the image" },
	{ "trace-seconds", "0", "'0' is not a whole number of seconds from 1 to 3600" },
	{ "trace-seconds", "3601", "'3601' is not a whole number of seconds from 1 to 3600" },
	{ "trace-idle", "0", "'0' is not a whole number of seconds from 1 to 3600" },
	{ "user-agent", "a\r\nCookie: hush", "only printable ASCII characters can be sent" },
	{ "user-agent", "\xc3\xa4", "only printable ASCII characters can be sent" },
};

static void bad_values_are_refused(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(bad); i++) {
		struct fetch_settings s = { 0 };
		struct err e = { "" };

		if (apply(bad[i].name, bad[i].value, false, &s, &e) != -EINVAL)
			fail_msg("%s=%s is taken", bad[i].name, bad[i].value);
		if (strcmp(e.msg, bad[i].message) != 0)
			fail_msg("%s=%s: %s", bad[i].name, bad[i].value, e.msg);
		assert_null(strstr(e.msg, "hush"));
		fetch_settings_release(&s);
	}
}

static void passwords_in_addresses_are_for_files(void **state)
{
	static const struct {
		const char *name, *value;
	} rows[] = {
		{ "proxy", "http://me:hush@proxy:3128" },
		{ "proxy", "me:hush@proxy" },
		{ "proxy", "http://me:hu/sh@proxy" },
		{ "mirror", "https://me:hush@mirror" },
		{ "mirror", "https://me@mirror" },
		{ "credentials", "https://me:hush@helper" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct fetch_settings s = { 0 };
		struct err e;

		assert_int_equal(apply(rows[i].name, rows[i].value, true, &s, &e), -EINVAL);
		assert_non_null(strstr(e.msg, "process list"));
		assert_null(strstr(e.msg, "hu"));
		/* This one is no address; in a file all others are fine. */
		if (!strstr(rows[i].value, "hu/sh"))
			assert_int_equal(apply(rows[i].name, rows[i].value, false, &s, &e), 0);
		fetch_settings_release(&s);
	}
}

/* Every setting: nothing, and too much. */
static void lengths_are_limited(void **state)
{
	AUTO_FREE char *text = malloc(FETCH_PASSWORD_MAX + 2);
	struct fetch_settings s = { 0 };
	char message[64];
	struct err e;
	size_t i;

	assert_non_null(text);
	memset(text, 'x', FETCH_PASSWORD_MAX + 1);
	text[FETCH_PASSWORD_MAX + 1] = '\0';
	for (i = 0; i < CONFIG_SETTING_COUNT; i++) {
		const char *name = config_setting_name(i);

		assert_int_equal(config_setting_find(name), i);
		assert_int_equal(apply(name, "", false, &s, &e), -EINVAL);
		assert_string_equal(e.msg, "it is empty");
		assert_int_equal(apply(name, text, false, &s, &e), -EINVAL);
		assert_non_null(strstr(e.msg, "65537 bytes, more than the limit of "));
	}
	text[FETCH_PASSWORD_MAX] = '\0';
	assert_int_equal(apply("password", text, false, &s, &e), 0);
	text[CONFIG_SETTING_MAX + 1] = '\0';
	assert_int_equal(apply("user", text, false, &s, &e), -EINVAL);
	snprintf(message, sizeof message, "%d bytes, more than the limit of %d",
		 CONFIG_SETTING_MAX + 1, CONFIG_SETTING_MAX);
	assert_string_equal(e.msg, message);
	text[CONFIG_SETTING_MAX] = '\0';
	assert_int_equal(apply("user", text, false, &s, &e), 0);
	fetch_settings_release(&s);
	assert_int_equal(config_setting_find("cache"), -1);
}

static void mirrors_are_counted(void **state)
{
	struct config_level level = { 0 };
	size_t mirror = (size_t)config_setting_find("mirror");
	struct fetch_settings s = { 0 };
	struct err e;
	int i;

	for (i = 0; i < CONFIG_SETTING_MIRRORS; i++)
		assert_int_equal(config_setting_apply(&level, mirror, "http://a", &s, &e), 0);
	assert_int_equal(config_setting_apply(&level, mirror, "http://a", &s, &e), -EINVAL);
	assert_string_equal(e.msg, "more than 64 mirrors");
	/* Those of the next level take their place. */
	level = (struct config_level){ 0 };
	assert_int_equal(config_setting_apply(&level, mirror, "http://b", &s, &e), 0);
	assert_int_equal(s.mirror_count, 1);
	assert_string_equal(s.mirrors[0], "http://b");
	fetch_settings_release(&s);
}

/* Without a folder and a working directory, a relative path leads nowhere. */
static void a_path_is_somewhere(void **state)
{
	char gone[] = "/tmp/test-config.XXXXXX", *cwd = getcwd(NULL, 0);
	struct config_level level = { .is_parameter = true };
	struct fetch_settings s = { 0 };
	struct err e;

	assert_non_null(mkdtemp(gone));
	assert_int_equal(chdir(gone), 0);
	assert_int_equal(rmdir(gone), 0);
	assert_int_equal(
		config_setting_apply(&level, (size_t)config_setting_find("cainfo"), "x", &s, &e),
		-ENOENT);
	assert_string_equal(e.msg, "'x': its absolute path: No such file or directory");
	assert_null(s.cainfo);
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
}

static void paths_are_counted(void **state)
{
	struct config_level level = { 0 };
	size_t prefetch = (size_t)config_setting_find("prefetch");
	struct fetch_settings s = { 0 };
	char message[64];
	struct err e;
	int i;

	for (i = 0; i < CONFIG_SETTING_PATHS; i++)
		assert_int_equal(config_setting_apply(&level, prefetch, "/a", &s, &e), 0);
	assert_int_equal(config_setting_apply(&level, prefetch, "/a", &s, &e), -EINVAL);
	snprintf(message, sizeof message, "more than %d paths", CONFIG_SETTING_PATHS);
	assert_string_equal(e.msg, message);
	fetch_settings_release(&s);
}

static char wiped[512]; /* the texts that were, a blank behind each */

void __real_explicit_bzero(void *p, size_t n);
void __wrap_explicit_bzero(void *p, size_t n);
void __wrap_explicit_bzero(void *p, size_t n)
{
	size_t used = strlen(wiped);

	snprintf(wiped + used, sizeof wiped - used, "%.*s ", (int)n, (const char *)p);
	__real_explicit_bzero(p, n);
}

/* What is replaced may hold a password. */
static void what_is_replaced_is_wiped(void **state)
{
	struct config_level level = { 0 }, next = { 0 };
	size_t mirror = (size_t)config_setting_find("mirror");
	struct fetch_settings s = { 0 };

	wiped[0] = '\0';
	assert_int_equal(apply("password", "one", false, &s, NULL), 0);
	assert_int_equal(apply("password", "two", false, &s, NULL), 0);
	assert_int_equal(apply("proxy", "me:pw@p", false, &s, NULL), 0);
	assert_int_equal(apply("proxy", "p", false, &s, NULL), 0);
	assert_string_equal(wiped, "one me:pw@p ");
	assert_int_equal(config_setting_apply(&level, mirror, "http://a:b@c", &s, NULL), 0);
	assert_int_equal(config_setting_apply(&level, mirror, "http://d:e@f", &s, NULL), 0);
	wiped[0] = '\0';
	assert_int_equal(config_setting_apply(&next, mirror, "http://g", &s, NULL), 0);
	assert_string_equal(wiped, "http://d:e@f http://a:b@c ");
	fetch_settings_release(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_taken),
		cmocka_unit_test(sizes_are_taken),
		cmocka_unit_test(numbers_and_switches_are_taken),
		cmocka_unit_test(bad_values_are_refused),
		cmocka_unit_test(passwords_in_addresses_are_for_files),
		cmocka_unit_test(lengths_are_limited),
		cmocka_unit_test(mirrors_are_counted),
		cmocka_unit_test(a_path_is_somewhere),
		cmocka_unit_test(paths_are_counted),
		cmocka_unit_test(what_is_replaced_is_wiped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
