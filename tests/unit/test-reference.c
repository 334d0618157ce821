/* SPDX-License-Identifier: Apache-2.0 */
/* test-reference.c - image names and blob addresses: what each form means, what is refused and how.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/reference.h"
#include "tests/unit/allocs.h"

#define HEX16 "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16
#define LONG "sha512:" HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16
#define A16 "aaaaaaaaaaaaaaaa"
#define A32 A16 A16
#define A64 A32 A32
#define A128 A64 A64
#define A256 A128 A128

static const struct {
	const char *text;
	enum reference_scheme scheme;
	const char *host, *repository, *tag, *digest, *canonical;
} good[] = {
	/* docker's defaults */
	{ "debian", REFERENCE_DEFAULT, "docker.io", "library/debian", "latest", "",
	  "docker.io/library/debian:latest" },
	{ "debian:12", REFERENCE_DEFAULT, "docker.io", "library/debian", "12", "",
	  "docker.io/library/debian:12" },
	{ "user/app", REFERENCE_DEFAULT, "docker.io", "user/app", "latest", "",
	  "docker.io/user/app:latest" },
	{ "a/b/c:x", REFERENCE_DEFAULT, "docker.io", "a/b/c", "x", "", "docker.io/a/b/c:x" },
	{ "docker.io/debian", REFERENCE_DEFAULT, "docker.io", "library/debian", "latest", "",
	  "docker.io/library/debian:latest" },
	{ "index.docker.io/debian", REFERENCE_DEFAULT, "docker.io", "library/debian", "latest", "",
	  "docker.io/library/debian:latest" },
	{ "https://registry-1.docker.io/user/app", REFERENCE_HTTPS, "docker.io", "user/app",
	  "latest", "", "docker.io/user/app:latest" },
	{ "localhost:5000", REFERENCE_DEFAULT, "docker.io", "library/localhost", "5000", "",
	  "docker.io/library/localhost:5000" },
	{ "localhosts/app", REFERENCE_DEFAULT, "docker.io", "localhosts/app", "latest", "",
	  "docker.io/localhosts/app:latest" },
	/* what is a host */
	{ "localhost/app", REFERENCE_DEFAULT, "localhost", "app", "latest", "",
	  "localhost/app:latest" },
	{ "localhost:5000/app:obd", REFERENCE_DEFAULT, "localhost:5000", "app", "obd", "",
	  "localhost:5000/app:obd" },
	{ "reg.example.com/a/b:v1.0_x-y", REFERENCE_DEFAULT, "reg.example.com", "a/b", "v1.0_x-y",
	  "", "reg.example.com/a/b:v1.0_x-y" },
	{ "REG/app", REFERENCE_DEFAULT, "reg", "app", "latest", "", "reg/app:latest" },
	{ "127.0.0.1:65535/app", REFERENCE_DEFAULT, "127.0.0.1:65535", "app", "latest", "",
	  "127.0.0.1:65535/app:latest" },
	{ "[::1]:5000/app", REFERENCE_DEFAULT, "[::1]:5000", "app", "latest", "",
	  "[::1]:5000/app:latest" },
	{ "[2001:DB8::2]/app", REFERENCE_DEFAULT, "[2001:db8::2]", "app", "latest", "",
	  "[2001:db8::2]/app:latest" },
	{ "a-b.c-d.io/app", REFERENCE_DEFAULT, "a-b.c-d.io", "app", "latest", "",
	  "a-b.c-d.io/app:latest" },
	/* schemes */
	{ "http://reg/app", REFERENCE_HTTP, "reg", "app", "latest", "", "reg/app:latest" },
	{ "HTTPS://reg:5000/app", REFERENCE_HTTPS, "reg:5000", "app", "latest", "",
	  "reg:5000/app:latest" },
	/* digests */
	{ "reg.io/app@" DIGEST, REFERENCE_DEFAULT, "reg.io", "app", NULL, DIGEST,
	  "reg.io/app@" DIGEST },
	{ "reg.io:1/app:tag@" DIGEST, REFERENCE_DEFAULT, "reg.io:1", "app", NULL, DIGEST,
	  "reg.io:1/app@" DIGEST },
	{ "debian@" DIGEST, REFERENCE_DEFAULT, "docker.io", "library/debian", NULL, DIGEST,
	  "docker.io/library/debian@" DIGEST },
	{ "reg.io/app@" LONG, REFERENCE_DEFAULT, "reg.io", "app", NULL, LONG, "reg.io/app@" LONG },
	/* names */
	{ "reg.io/a.b/c_d/e__f/g---h/0", REFERENCE_DEFAULT, "reg.io", "a.b/c_d/e__f/g---h/0",
	  "latest", "", "reg.io/a.b/c_d/e__f/g---h/0:latest" },
	{ "x:" A128, REFERENCE_DEFAULT, "docker.io", "library/x", A128, "",
	  "docker.io/library/x:" A128 },
	{ A128 A64 A32 A16 "aaaaaaa", REFERENCE_DEFAULT, "docker.io",
	  "library/" A128 A64 A32 A16 "aaaaaaa", "latest", "",
	  "docker.io/library/" A128 A64 A32 A16 "aaaaaaa:latest" },
	{ "x:_A", REFERENCE_DEFAULT, "docker.io", "library/x", "_A", "", "docker.io/library/x:_A" },
};

static void expect_text(const char *what, const char *got, const char *wanted)
{
	if (!got != !wanted || (got && strcmp(got, wanted) != 0))
		fail_msg("%s: '%s', not '%s'", what, got ? got : "NULL", wanted ? wanted : "NULL");
}

static void good_references_are_read(void **state)
{
	size_t i;

	for (i = 0; i < sizeof good / sizeof *good; i++) {
		bool hub = strcmp(good[i].host, "docker.io") == 0;
		struct reference ref;
		struct err e = { "" };

		if (reference_parse(good[i].text, &ref, &e) != 0)
			fail_msg("%s: %s", good[i].text, e.msg);
		assert_int_equal(ref.scheme, good[i].scheme);
		expect_text(good[i].text, ref.host, good[i].host);
		expect_text(good[i].text, ref.api_host,
			    hub ? "registry-1.docker.io" : good[i].host);
		expect_text(good[i].text, ref.repository, good[i].repository);
		expect_text(good[i].text, ref.tag, good[i].tag);
		expect_text(good[i].text, ref.digest, good[i].digest);
		expect_text(good[i].text, ref.text, good[i].canonical);
		reference_release(&ref);
		assert_null(ref.host);
	}
}

#define BAD_HOST "the host is neither a domain name nor an address"
#define BAD_NAME "a repository's name has small letters"
#define BAD_TAG "a tag has at most 128"
#define BAD_DIGEST "'@' must be followed by a digest ('sha256:' and 64"

static const struct {
	const char *text, *quoted, *why;
} bad[] = {
	{ "", "''", BAD_NAME },
	{ "App", "'App'", BAD_NAME },
	{ "a//b", "'a//b'", BAD_NAME },
	{ "/a", "'/a'", BAD_NAME },
	{ "a/", "'a/'", BAD_NAME },
	{ "a..b", "'a..b'", BAD_NAME },
	{ "a___b", "'a___b'", BAD_NAME },
	{ "a._b", "'a._b'", BAD_NAME },
	{ "-a", "'-a'", BAD_NAME },
	{ "a-", "'a-'", BAD_NAME },
	{ "a b", "'a b'", BAD_NAME },
	{ "a\nb", "'a\nb'", BAD_NAME },
	{ "reg.io/a/../b", "'reg.io/a/../b'", BAD_NAME },
	{ "reg.io/", "'reg.io/'", BAD_NAME },
	{ "reg.io/a?b", "'reg.io/a?b'", BAD_NAME },
	{ "reg.io/a%2fb", "'reg.io/a%2fb'", BAD_NAME },
	{ "http://reg", "'http://reg'", BAD_NAME },
	{ "http://", "'http://'", BAD_HOST },
	{ "reg.io/" A256, "'reg.io/" A64, "the repository's name is longer than 255 bytes" },
	{ A128 A64 A32 A16 "aaaaaaaa", "'" A128, "the repository's name is longer than 255 bytes" },
	{ "x:", "'x:'", BAD_TAG },
	{ "x:.a", "'x:.a'", BAD_TAG },
	{ "x:-a", "'x:-a'", BAD_TAG },
	{ "x:a:b", "'x:a:b'", BAD_TAG },
	{ "x:a/b", "'x:a/b'", BAD_HOST },
	{ "x:\xc3\xa9", "'x:\xc3\xa9'", BAD_TAG },
	{ "x:" A128 "a", "'x:" A128, BAD_TAG },
	{ "x:bad!@" DIGEST, "'x:bad!@" DIGEST "'", BAD_TAG },
	{ "reg.io:/a", "'reg.io:/a'", BAD_HOST },
	{ "reg.io:0/a", "'reg.io:0/a'", BAD_HOST },
	{ "reg.io:65536/a", "'reg.io:65536/a'", BAD_HOST },
	{ "reg.io:00080/a", "'reg.io:00080/a'", BAD_HOST },
	{ "reg.io:8x/a", "'reg.io:8x/a'", BAD_HOST },
	{ "reg_a.io/a", "'reg_a.io/a'", BAD_HOST },
	{ "-reg.io/a", "'-reg.io/a'", BAD_HOST },
	{ "reg-.io/a", "'reg-.io/a'", BAD_HOST },
	{ "reg..io/a", "'reg..io/a'", BAD_HOST },
	{ ".io/a", "'.io/a'", BAD_HOST },
	{ "reg.io./a", "'reg.io./a'", BAD_HOST },
	{ "r\xc3\xa9g.io/a", "'r\xc3\xa9g.io/a'", BAD_HOST },
	{ "[::1/a", "'[::1/a'", BAD_HOST },
	{ "[::1]x/a", "'[::1]x/a'", BAD_HOST },
	{ "[1.2.3.4]/a", "'[1.2.3.4]/a'", BAD_HOST },
	{ "[:]/a", "'[:]/a'", BAD_HOST },
	{ A256 ".io/a", "'" A256, BAD_HOST },
	{ "ftp://reg.io/a", "'ftp://reg.io/a'", "no scheme but http:// and https:// is known" },
	{ "http://http://a/b", "'http://http://a/b'", "no scheme but http://" },
	{ "a@", "'...@'", BAD_DIGEST },
	{ "a@sha256:12", "'a@sha256:12'", BAD_DIGEST },
	{ "a@sha512:" HEX16, "'a@sha512:" HEX16 "'", BAD_DIGEST },
	{ "a@" DIGEST "0", "'a@" DIGEST "0'", BAD_DIGEST },
	{ "a@" DIGEST "@" DIGEST, "'a@" DIGEST "@" DIGEST "'", BAD_DIGEST },
	/* a password is not repeated */
	{ "https://me:secret@reg.io/a", "'...@reg.io/a'", "names and passwords have no place" },
	{ "me:secret@reg.io", "'...@reg.io'", "names and passwords have no place" },
	{ "me:sec@ret@reg.io/a@" DIGEST, "'...@" DIGEST "'", "names and passwords have no place" },
};

static void bad_references_are_refused(void **state)
{
	char expected[1024];
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct reference ref = { 0 };
		struct err e = { "" };

		assert_int_equal(reference_parse(bad[i].text, &ref, NULL), -EINVAL);
		if (reference_parse(bad[i].text, &ref, &e) != -EINVAL)
			fail_msg("%s: not refused", bad[i].text);
		assert_null(ref.host);
		snprintf(expected, sizeof expected, "image reference %s", bad[i].quoted);
		if (strncmp(e.msg, expected, strlen(expected)) != 0 || !strstr(e.msg, bad[i].why) ||
		    strstr(e.msg, "secret"))
			fail_msg("%s: %s", bad[i].text, e.msg);
	}
}

/* Of a long text 300 bytes are quoted, from its beginning or from its last '@' on. */
static void long_texts_are_quoted_in_part(void **state)
{
	struct reference ref;
	char text[400], expected[400];
	struct err e;

	memset(text, 'A', sizeof text);
	text[399] = '\0';
	assert_int_equal(reference_parse(text, &ref, &e), -EINVAL);
	snprintf(expected, sizeof expected, "image reference '%.300s': " BAD_NAME, text);
	assert_int_equal(strncmp(e.msg, expected, strlen(expected)), 0);
	text[10] = '@';
	assert_int_equal(reference_parse(text, &ref, &e), -EINVAL);
	snprintf(expected, sizeof expected, "image reference '...%.300s': " BAD_DIGEST, text + 10);
	assert_int_equal(strncmp(e.msg, expected, strlen(expected)), 0);
}

/* 255 bytes, the port among them. */
static void hosts_have_a_length(void **state)
{
	struct reference ref;
	char text[300];
	struct err e;
	int n;

	for (n = 249; n <= 250; n++) {
		memset(text, 'a', sizeof text);
		strcpy(text + n, ":65535/app");
		assert_int_equal(reference_parse(text, &ref, &e), n == 249 ? 0 : -EINVAL);
		if (n == 249)
			reference_release(&ref);
		else
			assert_non_null(strstr(e.msg, BAD_HOST));
	}
}

static const struct {
	const char *url;
	enum reference_scheme scheme;
	const char *host, *api_host, *repository;
} good_urls[] = {
	{ "https://reg.io/v2/a/b/blobs", REFERENCE_HTTPS, "reg.io", "reg.io", "a/b" },
	{ "http://Reg.io:5000/v2/a/blobs/", REFERENCE_HTTP, "reg.io:5000", "reg.io:5000", "a" },
	{ "https://registry-1.docker.io/v2/library/debian/blobs", REFERENCE_HTTPS, "docker.io",
	  "registry-1.docker.io", "library/debian" },
	{ "https://docker.io/v2/debian/blobs", REFERENCE_HTTPS, "docker.io", "registry-1.docker.io",
	  "debian" },
	{ "https://reg.io/v2/v2/blobs/blobs", REFERENCE_HTTPS, "reg.io", "reg.io", "v2/blobs" },
};

static const struct {
	const char *url, *why;
} bad_urls[] = {
	{ "", "not of the form https://HOST/v2/REPOSITORY/blobs" },
	{ "/", "not of the form" },
	{ "reg.io/v2/a/blobs", "not of the form" },
	{ "https://reg.io", "not of the form" },
	{ "https://reg.io/v2/blobs", "not of the form" },
	{ "https://reg.io/v2//blobs", BAD_NAME },
	{ "https://reg.io/v1/a/blobs", "not of the form" },
	{ "https://reg.io/v2/a", "not of the form" },
	{ "https://reg.io/v2/a/blobs//", "not of the form" },
	{ "https://reg.io/v2/a/blobs?x=1", "not of the form" },
	{ "https://reg.io/v2/a?b/blobs", BAD_NAME },
	{ "https://reg.io/v2/A/blobs", BAD_NAME },
	{ "https:///v2/a/blobs", BAD_HOST },
	{ "https://reg.io:x/v2/a/blobs", BAD_HOST },
	{ "https://me:secret@reg.io/v2/a/blobs", "names and passwords have no place here" },
};

static void blob_urls_are_read(void **state)
{
	struct reference ref = { 0 };
	struct err e;
	size_t i;

	for (i = 0; i < sizeof good_urls / sizeof *good_urls; i++) {
		if (reference_parse_blob_url(good_urls[i].url, &ref, &e) != 0)
			fail_msg("%s: %s", good_urls[i].url, e.msg);
		assert_int_equal(ref.scheme, good_urls[i].scheme);
		expect_text(good_urls[i].url, ref.host, good_urls[i].host);
		expect_text(good_urls[i].url, ref.api_host, good_urls[i].api_host);
		expect_text(good_urls[i].url, ref.repository, good_urls[i].repository);
		assert_null(ref.tag);
		assert_int_equal(ref.digest[0], '\0');
		assert_int_equal(strncmp(ref.text, ref.host, strlen(ref.host)), 0);
		expect_text(good_urls[i].url, ref.text + strlen(ref.host) + 1, ref.repository);
		reference_release(&ref);
	}
	for (i = 0; i < sizeof bad_urls / sizeof *bad_urls; i++) {
		if (reference_parse_blob_url(bad_urls[i].url, &ref, &e) != -EINVAL)
			fail_msg("%s: not refused", bad_urls[i].url);
		if (strncmp(e.msg, "blob address '", 14) != 0 || !strstr(e.msg, bad_urls[i].why) ||
		    strstr(e.msg, "secret"))
			fail_msg("%s: %s", bad_urls[i].url, e.msg);
		assert_null(ref.host);
	}
}

static void this_machine_is_known(void **state)
{
	static const char *const local[] = { "localhost",   "LOCALHOST:5000",
					     "a.localhost", "a.b.localhost:80",
					     "127.0.0.1",   "127.255.1.2:5000",
					     "[::1]",	    "[::1]:5000",
					     "[0:0::1]" };
	static const char *const remote[] = {
		"",
		"localhost.io",
		"notlocalhost",
		"128.0.0.1",
		"127.0.0.1.io",
		"127.1",
		"[::2]",
		"[::1",
		"::1",
		"docker.io",
		"reg:127.0.0.1",
		"[127.0.0.1]",
		".localhosts",
		A256 ".localhost",
		"10.127.0.0.1",
		"[::1]evil.io",
		"[::1]:x",
	};
	size_t i;

	for (i = 0; i < sizeof local / sizeof *local; i++)
		if (!reference_is_local(local[i]))
			fail_msg("%s is local", local[i]);
	for (i = 0; i < sizeof remote / sizeof *remote; i++)
		if (reference_is_local(remote[i]))
			fail_msg("%s is not local", remote[i]);
}

static int parse_either(bool url, struct reference *ref, struct err *e)
{
	return url ? reference_parse_blob_url("https://reg.io/v2/a/blobs", ref, e)
		   : reference_parse("debian", ref, e);
}

static void allocations_fail_one_by_one(void **state)
{
	struct reference ref;
	struct err e;
	int i, r;
	long k;

	for (i = 0; i < 2; i++) {
		memset(&ref, 0, sizeof ref);
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			allocs_left = k;
			r = parse_either(i == 1, &ref, &e);
			allocs_left = -1;
			if (r == -ENOMEM) {
				assert_string_equal(e.msg, "out of memory");
				assert_null(ref.host);
			}
		}
		assert_int_equal(r, 0);
		assert_true(k > 5);
		reference_release(&ref);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_references_are_read),
		cmocka_unit_test(bad_references_are_refused),
		cmocka_unit_test(long_texts_are_quoted_in_part),
		cmocka_unit_test(hosts_have_a_length),
		cmocka_unit_test(blob_urls_are_read),
		cmocka_unit_test(this_machine_is_known),
		cmocka_unit_test(allocations_fail_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
