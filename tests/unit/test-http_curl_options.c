/* SPDX-License-Identifier: Apache-2.0 */
/* test-http_curl_options.c - what libcurl is told, what its codes mean, and what becomes of engines
 * and exchanges that lack memory. */
#include "tests/unit/exchanging.h"

static void codes_have_meanings(void **state)
{
	static const struct {
		CURLcode code;
		int e;
	} rows[] = { { CURLE_COULDNT_RESOLVE_HOST, EHOSTUNREACH },
		     { CURLE_COULDNT_RESOLVE_PROXY, EHOSTUNREACH },
		     { CURLE_COULDNT_CONNECT, ECONNREFUSED },
		     { CURLE_SSL_CONNECT_ERROR, ECONNREFUSED },
		     { CURLE_OPERATION_TIMEDOUT, ETIMEDOUT },
		     { CURLE_PEER_FAILED_VERIFICATION, ENOTUNIQ },
		     { CURLE_SSL_CACERT_BADFILE, ENOTUNIQ },
		     { CURLE_SSL_CERTPROBLEM, ENOTUNIQ },
		     { CURLE_OUT_OF_MEMORY, EPROTO },
		     { CURLE_WEIRD_SERVER_REPLY, EPROTO },
		     { CURLE_UNSUPPORTED_PROTOCOL, EPROTO },
		     { CURLE_URL_MALFORMAT, EPROTO },
		     { CURLE_HTTP2, EPROTO },
		     { CURLE_HTTP2_STREAM, EPROTO },
		     { CURLE_RECV_ERROR, ECONNRESET },
		     { CURLE_SEND_ERROR, ECONNRESET },
		     { CURLE_PARTIAL_FILE, ECONNRESET },
		     { CURLE_GOT_NOTHING, ECONNRESET } };
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++)
		assert_int_equal(http_curl_errno((int)rows[i].code), rows[i].e);
}

/* What cannot be seen on the wire, or only with TLS. */
static void options_that_libcurl_is_told(void **state)
{
	static const struct http_route safe = { .cert = "/c", .key = "/k" };
	static const struct http_route unchecked = { .cert = "/c", .unchecked = true };
	struct asked *a = new_asked("GET", "https://127.0.0.1:1/");

	memset(told.was_set, 0, sizeof told.was_set);
	a->x.route = &safe;
	run(a);
	assert_false(told.was_set[CURLOPT_SSL_VERIFYPEER]); /* libcurl checks */
	assert_false(told.was_set[CURLOPT_SSL_VERIFYHOST]);
	assert_string_equal((char *)told.values[CURLOPT_SSLCERT], "/c");
	assert_string_equal((char *)told.values[CURLOPT_SSLKEY], "/k");
	assert_false(told.was_set[CURLOPT_CAINFO]); /* the system's */
	assert_false(told.was_set[CURLOPT_PROXY]); /* the environment's */
	assert_int_equal(told.values[CURLOPT_PIPEWAIT], 1);
	assert_int_equal(told.values[CURLOPT_NOSIGNAL], 1);
	assert_int_equal(told.values[CURLOPT_NETRC], CURL_NETRC_IGNORED);
	assert_int_equal(told.values[CURLOPT_SUPPRESS_CONNECT_HEADERS], 1);
	assert_true(told.was_set[CURLOPT_CONNECTTIMEOUT]);
	assert_int_equal(told.values[CURLOPT_CONNECTTIMEOUT], 0);
	assert_int_equal(told.values[CURLOPT_TCP_KEEPALIVE], 1);
	assert_int_equal(told.values[CURLOPT_BUFFERSIZE], 256 * 1024);
	assert_int_equal(told.values[CURLOPT_HTTP_VERSION], CURL_HTTP_VERSION_2TLS);
	done(a);
	a = new_asked("GET", "http://127.0.0.1:1/");
	a->x.route = &unchecked;
	run(a);
	assert_true(told.was_set[CURLOPT_SSL_VERIFYPEER] && told.was_set[CURLOPT_SSL_VERIFYHOST]);
	assert_int_equal(told.values[CURLOPT_SSL_VERIFYPEER], 0);
	assert_int_equal(told.values[CURLOPT_SSL_VERIFYHOST], 0);
	assert_string_equal((char *)told.values[CURLOPT_SSLKEY], "/c"); /* it is in there too */
	assert_int_equal(told.values[CURLOPT_PIPEWAIT], 0);
	done(a);
}

/* Of each kind of question. */
static void options_of_methods(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT" };
	struct source *source;
	uint8_t *body = make_body(&source);
	size_t i;

	for (i = 0; i < COUNT_OF(methods); i++) {
		struct asked *a = new_asked(methods[i], "http://127.0.0.1:1/");

		memset(&told.was_set, 0, sizeof told.was_set);
		a->x.body = i == 3 ? source : NULL;
		run(a);
		assert_int_equal(told.was_set[CURLOPT_NOBODY], i == 1);
		assert_int_equal(told.was_set[CURLOPT_POSTFIELDSIZE], i == 2);
		assert_int_equal(told.was_set[CURLOPT_UPLOAD], i == 3);
		assert_int_equal(told.values[CURLOPT_CUSTOMREQUEST] == 0, i == 1);
		done(a);
	}
	assert_int_equal(told.values[CURLOPT_NOBODY], 1);
	assert_int_equal(told.values[CURLOPT_POSTFIELDSIZE], 0);
	assert_int_equal(told.values[CURLOPT_UPLOAD], 1);
	assert_int_equal(told.connections, 256);
	assert_int_equal(told.pipelining, CURLPIPE_MULTIPLEX);
	source_close(source);
	free(body);
}

/* ---- lack of memory ---- */

static void engines_that_cannot_be(void **state)
{
	struct http *h;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = http_open(&h, &e);
		allocs_left = -1;
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 3);
	/* Without memory for new connections the old ones stay. */
	told.no_multi = true;
	assert_int_equal(http_start(h, &e), 0);
	http_stop(h);
	http_close(h);
	assert_int_equal(http_open(&h, &e), -ENOMEM);
	assert_string_equal(e.msg, "http: out of memory");
	told.no_multi = false;
}

static int ask_without_thread(struct asked *a)
{
	http_begin(http, &a->x);
	(void)http_step(http);
	if (a->x.link)
		http_cancel(&a->x);
	return a->r;
}

/* Whatever an exchange needs and does not get, it has not begun. */
static void exchanges_that_cannot_be(void **state)
{
	struct http_route route = { .proxy = "http://127.0.0.1:1",
				    .ca = "/c",
				    .cert = "/c",
				    .key = "/k",
				    .unix_socket = "/s",
				    .unchecked = true };
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT" };
	struct source *source;
	uint8_t *body = make_body(&source);
	size_t i;
	long k;

	http_stop(http);
	for (i = 0; i < COUNT_OF(methods); i++) {
		struct asked *a = new_asked(methods[i], "http://127.0.0.1:1/");
		int r;

		a->x.route = &route;
		a->x.body = i == 3 ? source : NULL;
		a->x.ranged = true;
		a->x.accept = a->x.authorization = a->x.if_none_match = "x";
		a->x.referer = a->x.content_type = "x";
		for (told.fail_at = 0, r = -ENOMEM; r == -ENOMEM; told.fail_at++) {
			told.calls = a->r = 0;
			r = ask_without_thread(a);
			if (r == -ENOMEM)
				assert_string_equal(a->e.msg, "http: libcurl takes no request");
		}
		if (told.fail_at <= 30)
			fail_msg("%s: only %ld options", methods[i], told.fail_at);
		told.fail_at = -1;
		for (k = 0, allocs_refused = true; allocs_refused; k++) {
			allocs_refused = false;
			allocs_left = k;
			a->r = 0;
			r = ask_without_thread(a);
			allocs_left = -1;
			assert_int_equal(r == -ENOMEM, allocs_refused);
		}
		told.no_easy = true;
		a->r = 0;
		assert_int_equal(ask_without_thread(a), -ENOMEM);
		told.no_easy = false;
		told.no_add = true;
		a->r = 0;
		assert_int_equal(ask_without_thread(a), -ENOMEM);
		told.no_add = false;
		done(a);
	}
	source_close(source);
	free(body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(codes_have_meanings),	TEST(options_that_libcurl_is_told),
		TEST(options_of_methods),	TEST(engines_that_cannot_be),
		TEST(exchanges_that_cannot_be),
	};

	forget_proxies();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
