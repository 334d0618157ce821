/* SPDX-License-Identifier: Apache-2.0 */
/* test-credentials_curl.c - a credential helper behind an address: what is asked of libcurl for it,
 * option by option, and what each of its answers means. */
#define CURL_DISABLE_TYPECHECK

#include <curl/curl.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/credentials.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define BLOB "https://reg.io/v2/a/blobs/sha256:0"

/* ---- libcurl ---- */

typedef size_t write_function(char *bytes, size_t size, size_t count, void *arg);

static struct {
	bool no_handle;
	CURLoption fails; /* with CURLE_UNKNOWN_OPTION; 0: none */
	CURLcode result;
	long status;
	const char *answer;
	size_t size, count; /* of its pieces; 0: all at once */

	char options[1024]; /* that were set, by name */
	write_function *write;
	void *arg;
	unsigned performed, handles;
} world;

CURL *__real_curl_easy_init(void);
void __real_curl_easy_cleanup(CURL *curl);
CURL *__wrap_curl_easy_init(void);
void __wrap_curl_easy_cleanup(CURL *curl);
CURLcode __wrap_curl_easy_setopt(CURL *curl, CURLoption option, ...);
CURLcode __wrap_curl_easy_perform(CURL *curl);
CURLcode __wrap_curl_easy_getinfo(CURL *curl, CURLINFO info, ...);

CURL *__wrap_curl_easy_init(void)
{
	if (world.no_handle)
		return NULL;
	world.handles++;
	return __real_curl_easy_init();
}

void __wrap_curl_easy_cleanup(CURL *curl)
{
	world.handles--;
	__real_curl_easy_cleanup(curl);
}

static const char *name_of(CURLoption option)
{
	const struct curl_easyoption *o = curl_easy_option_by_id(option);

	return o ? o->name : "?";
}

CURLcode __wrap_curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
	size_t n = strlen(world.options), room = sizeof world.options - n;
	va_list ap;

	va_start(ap, option);
	if (option == world.fails) {
		va_end(ap);
		return CURLE_UNKNOWN_OPTION;
	}
	if (option == CURLOPT_WRITEFUNCTION)
		world.write = va_arg(ap, write_function *);
	else if (option == CURLOPT_WRITEDATA)
		world.arg = va_arg(ap, void *);
	else if (option < CURLOPTTYPE_OBJECTPOINT)
		snprintf(world.options + n, room, "%s=%ld\n", name_of(option), va_arg(ap, long));
	else
		snprintf(world.options + n, room, "%s=%s\n", name_of(option), va_arg(ap, char *));
	va_end(ap);
	return CURLE_OK;
}

CURLcode __wrap_curl_easy_perform(CURL *curl)
{
	size_t n = world.answer ? strlen(world.answer) : 0, at, size;
	char *answer = world.answer ? __real_strdup(world.answer) : NULL;
	CURLcode r = world.result;

	world.performed++;
	for (at = 0; at < n && r == CURLE_OK; at += size * world.count) {
		size = world.size ? world.size : n;
		if (world.write(answer + at, size, world.count, world.arg) != size * world.count)
			r = CURLE_WRITE_ERROR;
	}
	free(answer);
	return r;
}

CURLcode __wrap_curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
	va_list ap;

	assert_int_equal(info, CURLINFO_RESPONSE_CODE);
	va_start(ap, info);
	*va_arg(ap, long *) = world.status;
	va_end(ap);
	return CURLE_OK;
}

static int find(const struct credentials_source *source, struct credentials *c, struct err *e)
{
	int r;

	world.options[0] = '\0';
	world.performed = 0;
	r = credentials_find(source, "reg.io", "a", BLOB, c, e);
	assert_int_equal(world.handles, 0);
	return r;
}

static void say(const char *answer)
{
	memset(&world, 0, sizeof world);
	world.status = 200;
	world.answer = answer;
	world.count = 1;
}

/* ---- what is asked ---- */

#define QUERY "remote_url=https://reg.io/v2/a/blobs/sha256:0\n"
#define ALWAYS "PROXY=\nPROTOCOLS_STR=http,https\nTIMEOUT=10\nNOSIGNAL=1\nFOLLOWLOCATION=0\n"

static const struct {
	struct credentials_source source;
	const char *options;
} asked[] = {
	{ { .place = "http://h" }, "URL=http://h?" QUERY ALWAYS },
	{ { .place = "HTTPS://h/a?b=c" }, "URL=HTTPS://h/a?b=c&" QUERY ALWAYS },
	{ { .place = "unix:/s" },
	  "URL=http://localhost/auth?" QUERY "UNIX_SOCKET_PATH=/s\n" ALWAYS },
	{ { .place = "https://h", .ca = "/ca" }, "URL=https://h?" QUERY "CAINFO=/ca\n" ALWAYS },
	{ { .place = "https://h", .cert = "/cert" },
	  "URL=https://h?" QUERY "SSLCERT=/cert\nSSLKEY=/cert\n" ALWAYS },
	{ { .place = "https://h", .ca = "/ca", .cert = "/cert", .key = "/key" },
	  "URL=https://h?" QUERY "CAINFO=/ca\nSSLCERT=/cert\nSSLKEY=/key\n" ALWAYS },
	{ { .place = "https://h", .key = "/key" }, "URL=https://h?" QUERY ALWAYS },
};

static void options_are_set(void **state)
{
	struct credentials c;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(asked); i++) {
		say("{\"success\":true}");
		assert_int_equal(find(&asked[i].source, &c, &e), 1);
		assert_string_equal(world.options, asked[i].options);
		assert_int_equal(world.performed, 1);
	}
}

/* What stands in a query as it is, and what does not. */
static void addresses_are_quoted(void **state)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~:/";
	const struct credentials_source source = { .place = "http://h" };
	char url[] = "https://?", expected[64];
	struct credentials c;
	struct err e;
	int byte;

	for (byte = 1; byte < 256; byte++) {
		say("{\"success\":true}");
		url[8] = (char)byte;
		world.options[0] = '\0';
		assert_int_equal(credentials_find(&source, "reg.io", "a", url, &c, &e), 1);
		snprintf(expected, sizeof expected, "URL=http://h?remote_url=https://%s%02X\n", "%",
			 (unsigned)byte);
		if (strchr(plain, byte))
			snprintf(expected, sizeof expected, "URL=http://h?remote_url=https://%c\n",
				 byte);
		if (strncmp(world.options, expected, strlen(expected)) != 0)
			fail_msg("byte %d: %s", byte, world.options);
	}
}

/* One that libcurl does not take ends it before anybody is asked; the others are as they are. */
static void options_are_refused(void **state)
{
	static const CURLoption options[] = {
		CURLOPT_URL,	       CURLOPT_UNIX_SOCKET_PATH, CURLOPT_CAINFO,
		CURLOPT_SSLCERT,       CURLOPT_SSLKEY,		 CURLOPT_PROXY,
		CURLOPT_PROTOCOLS_STR,
	};
	const struct credentials_source source = {
		.place = "unix:/s", .ca = "/ca", .cert = "/cert", .key = "/key"
	};
	struct credentials c;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(options); i++) {
		say("{\"success\":true}");
		world.fails = options[i];
		assert_int_equal(find(&source, &c, &e), -EIO);
		assert_int_equal(world.performed, 0);
		assert_int_equal(strncmp(e.msg, "credential helper unix:/s: ", 27), 0);
		assert_string_equal(e.msg + 27, curl_easy_strerror(CURLE_UNKNOWN_OPTION));
	}
}

/* ---- what comes ---- */

static const struct {
	const char *place;
	CURLcode result;
	long status;
	int r;
	const char *text;
} answers[] = {
	{ "http://h", CURLE_OUT_OF_MEMORY, 200, -ENOMEM, "credential helper at h: out of memory" },
	{ "http://h", CURLE_OPERATION_TIMEDOUT, 200, -ETIMEDOUT,
	  "credential helper at h: no answer in 10 s" },
	{ "http://h", CURLE_WRITE_ERROR, 200, -EFBIG,
	  "credential helper at h: an answer of more than 1048576 bytes" },
	{ "http://h", CURLE_COULDNT_CONNECT, 200, -EIO, NULL },
	{ "http://h", CURLE_OK, 201, -EIO, "credential helper at h: answered 201" },
	{ "http://h", CURLE_OK, 199, -EIO, "credential helper at h: answered 199" },
	{ "http://h", CURLE_OK, 0, -EIO, "credential helper at h: answered 0" },
	/* of an address only the host is named */
	{ "http://me:secret@h:1/secret", CURLE_OK, 500, -EIO,
	  "credential helper at h:1: answered 500" },
	{ "https://secret@secret@h?secret", CURLE_OK, 500, -EIO,
	  "credential helper at h: answered 500" },
	{ "https://h#secret@x", CURLE_OK, 500, -EIO, "credential helper at h: answered 500" },
	{ "https://h/secret@x", CURLE_OK, 500, -EIO, "credential helper at h: answered 500" },
	{ "https://@h", CURLE_OK, 500, -EIO, "credential helper at h: answered 500" },
	{ "unix:/a@b", CURLE_OK, 500, -EIO, "credential helper unix:/a@b: answered 500" },
};

static void answers_have_a_meaning(void **state)
{
	char text[128];
	size_t i;

	for (i = 0; i < COUNT_OF(answers); i++) {
		const struct credentials_source source = { .place = answers[i].place };
		struct credentials c;
		struct err e = { "" };

		say("{\"success\":true}");
		world.result = answers[i].result;
		world.status = answers[i].status;
		assert_int_equal(find(&source, &c, &e), answers[i].r);
		snprintf(text, sizeof text, "credential helper at h: %s",
			 curl_easy_strerror(answers[i].result));
		assert_string_equal(e.msg, answers[i].text ? answers[i].text : text);
	}
}

static void no_handle_is_no_memory(void **state)
{
	const struct credentials_source source = { .place = "http://h" };
	struct credentials c;
	struct err e;

	say("{}");
	world.no_handle = true;
	assert_int_equal(find(&source, &c, &e), -ENOMEM);
	assert_string_equal(e.msg, "credential helper at h: out of memory");
}

/* It comes in pieces of any form, and a mebibyte is the most. */
static void pieces_are_put_together(void **state)
{
	static const char good[] =
		"{\"success\":true,\"data\":{\"auths\":{\"reg.io\":{\"username\":"
		"\"me\",\"password\":\"secret1\"}}}} "; /* 84 bytes */
	static const size_t sizes[][2] = { { 1, 1 }, { 2, 3 }, { 3, 2 }, { 42, 1 }, { 1, 42 } };
	const struct credentials_source source = { .place = "http://h" };
	char *large = malloc((1 << 20) + 2);
	struct credentials c;
	struct err e = { "" };
	size_t i;

	assert_int_equal(sizeof good - 1, 84);
	for (i = 0; i < COUNT_OF(sizes); i++) {
		say(good);
		world.size = sizes[i][0];
		world.count = sizes[i][1];
		if (find(&source, &c, &e) != 0)
			fail_msg("%s", e.msg);
		assert_string_equal(c.user, "me");
		assert_string_equal(c.password, "secret1");
		credentials_release(&c);
	}
	memset(large, ' ', (1 << 20) + 1);
	large[(1 << 20) + 1] = '\0';
	memcpy(large, good, sizeof good - 1);
	say(large + 1);
	large[1] = '{'; /* wrong, but as large as it may be */
	assert_int_equal(find(&source, &c, &e), -EINVAL);
	say(large);
	assert_int_equal(find(&source, &c, &e), -EFBIG);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_set),	  cmocka_unit_test(addresses_are_quoted),
		cmocka_unit_test(options_are_refused),	  cmocka_unit_test(answers_have_a_meaning),
		cmocka_unit_test(no_handle_is_no_memory), cmocka_unit_test(pieces_are_put_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
