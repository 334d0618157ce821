/* SPDX-License-Identifier: Apache-2.0 */
/* test-http_answer.c - an answer's lines, one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/http_answer.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static int64_t today = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */

static int64_t date(void)
{
	return today;
}

/* All that an answer says, as one text. */
static const char *show(const struct http_answer *a)
{
	static char text[1024];
	size_t n = (size_t)snprintf(text, sizeof text, "%u", a->status);

#define SAY(...) (n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__))
	if (a->has_length)
		SAY(" length=%" PRIu64, a->length);
	if (a->has_range && a->total == UINT64_MAX)
		SAY(" range=%" PRIu64 "-%" PRIu64 "/*", a->first, a->last);
	else if (a->has_range)
		SAY(" range=%" PRIu64 "-%" PRIu64 "/%" PRIu64, a->first, a->last, a->total);
	if (a->encoded)
		SAY(" encoded");
	if (a->has_retry_after)
		SAY(" retry=%u", a->retry_after);
	if (a->location)
		SAY(" location=%s", a->location);
	if (a->etag)
		SAY(" etag=%s", a->etag);
	if (a->digest)
		SAY(" digest=%s", a->digest);
	if (a->link)
		SAY(" link=%s", a->link);
	if (a->challenge.scheme != CHALLENGE_NONE)
		SAY(" challenge=%d", (int)a->challenge.scheme);
	return text;
}

static const struct {
	const char *lines, *answer; /* "! ..." is the error */
} rows[] = {
	{ "HTTP/1.1 206 Partial Content\r\n", "206" },
	{ "HTTP/2 200\r\n", "200" },
	{ "HTTP/1.0 404\r\n", "404" },
	{ "http/1.1  200 \r\n", "200" },
	{ "HTTP/1.1 999 x\n", "999" },
	{ "HTTP/1.1 1000 x\n", "0" },
	{ "HTTP/1.1 x\n", "0" },
	{ "HTTP/1.1\n", "0" },
	/* a status line begins anew */
	{ "HTTP/1.1 100 Continue\r\nContent-Length: 5\nLocation: x\nWWW-Authenticate: Basic\n"
	  "HTTP/1.1 201 Created\r\n",
	  "201" },
	{ "Content-Length: 0\r\n", "0 length=0" },
	{ "content-length:12", "0 length=12" },
	{ "CONTENT-LENGTH: \t 12 \t \r\n", "0 length=12" },
	{ "Content-Length: 922337203685477579\n", "0 length=922337203685477579" },
	{ "Content-Length: 9223372036854775799\n", "0 length=9223372036854775799" },
	{ "Content-Length: 9223372036854775800\n", "! header 'Content-Length:" },
	{ "Content-Length: 9223372036854775807\n", "! header 'Content-Length: 9223372036854775807'"
						   " makes no sense" },
	{ "Content-Length: 99999999999999999999\n", "! header 'Content-Length:" },
	{ "Content-Length: -1\n", "! header 'Content-Length: -1' makes no sense" },
	{ "Content-Length: 1 2\n", "! header 'Content-Length: 1 2' makes no sense" },
	{ "Content-Length:\n", "! header 'Content-Length: ' makes no sense" },
	{ "Content-Range: bytes 0-16383/1474560\n", "0 range=0-16383/1474560" },
	{ "content-range: BYTES 5-5/*\n", "0 range=5-5/*" },
	{ "Content-Range: bytes */7\n", "0" },
	{ "Content-Range: bytes 5-4/7\n", "! header 'Content-Range: bytes 5-4/7' makes no sense" },
	{ "Content-Range: bytes 1-2\n", "! header 'Content-Range: bytes 1-2' makes no sense" },
	{ "Content-Range: bytes 1-2/3x\n", "! header" },
	{ "Content-Range: bytes -2/3\n", "! header" },
	{ "Content-Range: bytes 1-/3\n", "! header" },
	{ "Content-Range: bytes 1-2/\n", "! header" },
	{ "Content-Range: items 1-2/3\n", "! header" },
	{ "Content-Range: bytes 1 2/3\n", "! header" },
	/* what a store repeats of an upload is no coding */
	{ "Content-Encoding: identity\n", "0" },
	{ "Content-Encoding: aws-chunked\n", "0" },
	{ "Content-Encoding:\n", "0" },
	{ "Content-Encoding: binary, UTF-8,,\n", "0" },
	{ "Content-Encoding: gzi\n", "0" },
	{ "Content-Encoding: gzipped\n", "0" },
	{ "Content-Encoding: GZIP\n", "0 encoded" },
	{ "Content-Encoding: aws-chunked,zstd\n", "0 encoded" },
	{ "Content-Encoding: br ,\tidentity\n", "0 encoded" },
	{ "Content-Encoding: x-gzip\nContent-Encoding: identity\n", "0 encoded" },
	{ "Content-Encoding: deflate\nHTTP/1.1 200\n", "200" },
	{ "Retry-After: 7\n", "0 retry=7" },
	{ "Retry-After: 86401\n", "0 retry=86400" },
	{ "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\n", "0 retry=60" },
	{ "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n", "0 retry=0" },
	{ "Retry-After: Sun, 06 Nov 1994 08:49:36 GMT\n", "0 retry=0" },
	{ "Retry-After: Mon, 07 Nov 1994 08:49:38 GMT\n", "0 retry=86400" },
	{ "Retry-After: Mon, 07 Nov 1994 08:49:36 GMT\n", "0 retry=86399" },
	{ "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\n", "0 retry=0" },
	{ "Retry-After: 7s\n", "0" },
	{ "Retry-After: soon\n", "0" },
	{ "Retry-After: 5\nRetry-After: soon\n", "0" },
	{ "Location: /a b\nLocation: /c d \r\n", "0 location=/c d" },
	{ "ETag: \"x\"\nDocker-Content-Digest: d\nLink: <l>\n", "0 etag=\"x\" digest=d link=<l>" },
	{ "WWW-Authenticate: Basic\nWWW-Authenticate: Bearer realm=\"http://a\"\n",
	  "0 challenge=2" },
	{ "WWW-Authenticate: Negotiate\n", "0" },
	{ "X-Location: x\nLocationn: y\nLocation : z\nLocation\n: v\n\r\n", "0" },
};

static void lines_are_read(void **state)
{
	struct clock_ops ops = clock_system;
	size_t i;

	ops.date = date;
	clock_use(&ops);
	for (i = 0; i < COUNT_OF(rows); i++) {
		struct http_answer a = { 0 };
		struct err e = { "" };
		const char *p = rows[i].lines, *want = rows[i].answer;
		int r = 0;

		for (; r == 0 && *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n')
			r = http_answer_take(&a, p, strcspn(p, "\n") + (strchr(p, '\n') ? 1 : 0),
					     &e);
		if (want[0] == '!') {
			if (r != -EPROTO || strncmp(e.msg, want + 2, strlen(want + 2)) != 0)
				fail_msg("%s: %d, %s", rows[i].lines, r, e.msg);
		} else if (r != 0 || strcmp(show(&a), want) != 0) {
			fail_msg("%s: %d, %s", rows[i].lines, r, show(&a));
		}
		http_answer_release(&a);
		assert_string_equal(show(&a), "0");
	}
	clock_use(NULL);
}

/* Each of the codings, alone, in any case, and none that one of them begins or ends. */
static void codings_are_known(void **state)
{
	static const char *const codings[] = { "aes128gcm",    "br",	     "compress", "dcb",
					       "dcz",	       "deflate",    "exi",	 "gzip",
					       "pack200-gzip", "x-compress", "x-gzip",	 "zstd" };
	static const char *const around[][2] = {
		{ "", "" }, { "a, ", ",b" }, { "x", "" }, { "", "x" }
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(codings); i++) {
		for (k = 0; k < COUNT_OF(around); k++) {
			struct http_answer a = { 0 };
			char line[64];

			snprintf(line, sizeof line, "Content-Encoding: %s%s%s", around[k][0],
				 codings[i], around[k][1]);
			assert_int_equal(http_answer_take(&a, line, strlen(line), NULL), 0);
			assert_int_equal(a.encoded, k < 2);
			http_answer_release(&a);
		}
	}
}

static void allocations_fail_one_by_one(void **state)
{
	static const char *const lines[] = { "Location: x\n", "ETag: x\n", "Link: x\n",
					     "Docker-Content-Digest: x\n" };
	struct http_answer a = { 0 };
	struct err e;
	size_t i;
	long k;
	int r;

	for (i = 0; i < COUNT_OF(lines); i++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			allocs_left = k;
			r = http_answer_take(&a, lines[i], strlen(lines[i]), &e);
			allocs_left = -1;
		}
		assert_int_equal(r, 0);
		assert_true(k > 2);
	}
	http_answer_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_read),
		cmocka_unit_test(codings_are_known),
		cmocka_unit_test(allocations_fail_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
