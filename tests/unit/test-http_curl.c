/* SPDX-License-Identifier: Apache-2.0 */
/* test-http_curl.c - what goes over the wire, and what becomes of it: the engine's thread and
 * libcurl against a server in this program. */
#include "tests/fault.h"
#include "tests/unit/exchanging.h"
#include "tests/unit/visitor.h"

/* ---- questions ---- */

static void a_plain_question(void **state)
{
	struct asked *a = new_asked("GET", url_of("/v2/x?y=1"));
	char host[64];

	server_say(&server, OK_5, false);
	run(a);
	assert_int_equal(a->r, 0);
	assert_string_equal(a->got, "hello");
	assert_int_equal(a->status, 200);
	assert_int_equal(a->told_headers, 1);
	assert_int_equal(a->x.received, 5);
	assert_true(a->x.first_byte_us > 0 && a->x.first_byte_us <= (a->took_ms + 1) * 1000);
	assert_memory_equal(server.heard, "GET /v2/x?y=1 HTTP/1.1\r\n", 24);
	snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", server.port);
	assert_heard(host);
	assert_heard("\r\nUser-Agent: nbdkit-overlaybd/" PROJECT_VERSION "\r\n");
	assert_heard("\r\nAccept: */*\r\n");
	assert_not_heard("Range:");
	assert_not_heard("Authorization:");
	assert_not_heard("If-None-Match:");
	assert_not_heard("Referer:");
	assert_not_heard("Content-");
	assert_not_heard("Cookie:");
	done(a);
}

static void a_question_with_everything(void **state)
{
	static const struct http_route route = { .user_agent = "me/1" };
	struct asked *a = new_asked("GET", url_of("/b"));

	server_say(&server, "HTTP/1.1 304 x\r\n\r\n", false);
	a->x.route = &route;
	a->x.ranged = true;
	a->x.first = UINT64_C(1) << 40;
	a->x.last = (UINT64_C(1) << 40) + 9;
	a->x.accept = "a/b, c/d";
	a->x.authorization = "Basic bWU6c2VjcmV0";
	a->x.if_none_match = "\"tag\"";
	a->x.referer = "http://other/";
	run(a);
	assert_int_equal(a->r, 0);
	assert_int_equal(a->status, 304);
	assert_heard("\r\nUser-Agent: me/1\r\n");
	assert_heard("\r\nAccept: a/b, c/d\r\n");
	assert_heard("\r\nRange: bytes=1099511627776-1099511627785\r\n");
	assert_heard("\r\nAuthorization: Basic bWU6c2VjcmV0\r\n");
	assert_heard("\r\nIf-None-Match: \"tag\"\r\n");
	assert_heard("\r\nReferer: http://other/\r\n");
	done(a);
}

static void a_head_has_no_body(void **state)
{
	struct asked *a = new_asked("HEAD", url_of("/h"));

	server_say(&server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false);
	run(a);
	assert_int_equal(a->r, 0);
	assert_int_equal(a->length, 5);
	assert_int_equal(a->n, 0);
	assert_memory_equal(server.heard, "HEAD /h ", 8);
	done(a);
}

static void an_empty_post(void **state)
{
	struct asked *a = new_asked("POST", url_of("/uploads/"));

	server_say(&server, "HTTP/1.1 202 x\r\nContent-Length: 0\r\n\r\n", false);
	run(a);
	assert_int_equal(a->r, 0);
	assert_int_equal(a->status, 202);
	assert_memory_equal(server.heard, "POST /uploads/ ", 15);
	assert_heard("\r\nContent-Length: 0\r\n");
	done(a);
}

static void assert_body_heard(const uint8_t *body)
{
	const char *end = strstr(server.heard, "\r\n\r\n");

	assert_non_null(end);
	assert_int_equal(server.heard + server.heard_bytes - (end + 4), BODY);
	assert_memory_equal(end + 4, body, BODY);
}

static void a_body_is_sent(void **state)
{
	struct asked *a = new_asked("PUT", url_of("/blob"));
	struct source *source;
	uint8_t *body = make_body(&source);

	server_say(&server, "HTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n", false);
	a->x.body = source;
	a->x.content_type = "application/x";
	run(a);
	assert_int_equal(a->r, 0);
	assert_int_equal(a->status, 201);
	assert_memory_equal(server.heard, "PUT /blob ", 10);
	assert_heard("\r\nContent-Length: 300000\r\n");
	assert_heard("\r\nContent-Type: application/x\r\n");
	assert_not_heard("Expect:");
	assert_body_heard(body);
	done(a);
	a = new_asked("POST", url_of("/form"));
	a->x.body = source;
	run(a);
	assert_int_equal(a->r, 0);
	assert_memory_equal(server.heard, "POST /form ", 11);
	assert_body_heard(body);
	done(a);
	source_close(source);
	free(body);
}

/* A connection that was kept is closed by the server just then: all is sent again over another. */
static void a_body_is_sent_again(void **state)
{
	struct asked *a = new_asked("GET", url_of("/"));
	struct source *source;
	uint8_t *body = make_body(&source);

	server.unanswered = 2;
	server_say(&server, OK_5, false);
	run(a);
	done(a);
	a = new_asked("PUT", url_of("/blob"));
	a->x.body = source;
	run(a);
	assert_int_equal(a->r, 0);
	assert_string_equal(a->got, "hello");
	assert_int_equal(server_count(&server, &server.requests), 3);
	assert_int_equal(server_count(&server, &server.connections), 2);
	assert_body_heard(body);
	done(a);
	source_close(source);
	free(body);
}

static void a_body_that_cannot_be_read(void **state)
{
	struct fault f = { .fail_at = 2 };
	struct asked *a = new_asked("PUT", url_of("/blob"));
	struct source *below, *source;
	uint8_t *body = make_body(&below);

	fault_open_source(below, &f, &source);
	server_say(&server, OK_5, false);
	a->x.body = source;
	run(a);
	assert_int_equal(a->r, -EIO);
	assert_string_equal(a->e.msg, "injected fault at call 2");
	assert_int_equal(f.calls, 3); /* and nothing after it */
	done(a);
	source_close(source);
	free(body);
}

/* ---- answers ---- */

static void answers_that_are_none(void **state)
{
	static char endless[200000] = "HTTP/1.1 200 OK\r\nX: ";
	static const struct {
		const char *answer;
		int r;
		const char *text;
		size_t got;
	} rows[] = {
		{ "", -ECONNRESET, "the answer was cut short", 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", -ECONNRESET,
		  "the answer was cut short", 5 },
		{ "SSH-2.0-x\r\n", -EPROTO, "", 0 },
		{ endless, -EPROTO, "header lines that are too long", 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: x\r\n\r\nhello", -EPROTO,
		  "", 0 },
	};
	size_t i;

	memset(endless + 20, 'x', sizeof endless - 21);
	for (i = 0; i < COUNT_OF(rows); i++) {
		struct asked *a = new_asked("GET", url_of("/"));

		server_say(&server, rows[i].answer, true);
		run(a);
		if (a->r != rows[i].r || !strstr(a->e.msg, rows[i].text))
			fail_msg("row %zu: %d %s", i, a->r, a->e.msg);
		assert_int_equal(a->n, rows[i].got);
		done(a);
	}
}

static void what_the_caller_will_not_have(void **state)
{
	struct asked *a = new_asked("GET", url_of("/"));

	server_say(&server, OK_5, false);
	a->headers_result = -EBADMSG;
	run(a);
	assert_int_equal(a->r, -EBADMSG);
	assert_string_equal(a->e.msg, "no such headers");
	assert_int_equal(a->n, 0);
	done(a);
	a = new_asked("GET", url_of("/"));
	a->bytes_result = -ENOSPC;
	run(a);
	assert_int_equal(a->r, -ENOSPC);
	assert_string_equal(a->e.msg, "no such bytes");
	done(a);
}

static void servers_that_are_none(void **state)
{
	static const struct http_route no_ca = { .ca = "/nonexistent/ca" };
	static const struct http_route no_cert = { .cert = "/nonexistent/cert" };
	static const struct http_route unchecked = { .unchecked = true };
	struct asked *a;
	char url[64];

	a = new_asked("GET", "http://127.0.0.1:1/");
	run(a);
	assert_int_equal(a->r, -ECONNREFUSED);
	assert_non_null(strstr(a->e.msg, "127.0.0.1 port 1"));
	done(a);
	a = new_asked("GET", "ftp://127.0.0.1/");
	run(a);
	assert_int_equal(a->r, -EPROTO);
	done(a);
	a = new_asked("GET", "file:///etc/passwd");
	run(a);
	assert_int_equal(a->r, -EPROTO);
	assert_int_equal(a->n, 0);
	done(a);
	snprintf(url, sizeof url, "https://127.0.0.1:%u/", server.port);
	a = new_asked("GET", url);
	a->x.route = &no_ca;
	run(a);
	assert_int_equal(a->r, -ENOTUNIQ);
	done(a);
	a = new_asked("GET", url);
	a->x.route = &no_cert;
	run(a);
	assert_int_equal(a->r, -ENOTUNIQ);
	done(a);
	server_say(&server, "HTTP/1.1 400 plain\r\n\r\n", true);
	a = new_asked("GET", url);
	a->x.route = &unchecked;
	a->x.silence = 1; /* the server waits for the end of the headers */
	run(a);
	assert_int_equal(a->r, -ETIMEDOUT);
	done(a);
}

/* ---- routes ---- */

static void a_socket_of_the_file_system(void **state)
{
	char path[] = "/tmp/test-http_curl.XXXXXX", name[64];
	struct http_route route = { .unix_socket = name };
	struct server local;
	struct asked *a = new_asked("GET", "http://reg.io/x");

	assert_non_null(mkdtemp(path));
	snprintf(name, sizeof name, "%s/socket", path);
	server_start(&local, name);
	server_say(&local, OK_5, true);
	a->x.route = &route;
	a->x.companions = 3; /* there is no need for them here */
	run(a);
	assert_int_equal(a->r, 0);
	assert_string_equal(a->got, "hello");
	assert_int_equal(server_count(&local, &local.requests), 1);
	assert_non_null(strstr(local.heard, "\r\nHost: reg.io\r\n"));
	run(a);
	assert_int_equal(server_count(&local, &local.connections), 2);
	done(a);
	server_stop(&local);
	unlink(name);
	rmdir(path);
}

static void a_proxy(void **state)
{
	char proxy[64];
	struct http_route route = { .proxy = proxy };
	struct asked *a = new_asked("GET", "http://reg.invalid/x");

	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", server.port);
	server_say(&server, OK_5, false);
	a->x.route = &route;
	run(a);
	assert_int_equal(a->r, 0);
	assert_memory_equal(server.heard, "GET http://reg.invalid/x HTTP/1.1\r\n", 35);
	done(a);
}

/* ---- connections ---- */

static void connections_are_kept_until_the_engine_stops(void **state)
{
	struct asked *a = new_asked("GET", url_of("/"));
	int i;

	server_say(&server, OK_5, false);
	for (i = 0; i < 3; i++)
		run(a);
	assert_int_equal(server_count(&server, &server.connections), 1);
	assert_int_equal(server_count(&server, &server.ended), 0);
	http_stop(http);
	server_await(&server, &server.ended, 1); /* none is shared with the next process */
	assert_int_equal(http_start(http, NULL), 0);
	run(a);
	assert_int_equal(server_count(&server, &server.connections), 2);
	done(a);
}

static void companions_are_connected_and_used(void **state)
{
	struct asked *a = new_asked("GET", url_of("/")), *b = new_asked("GET", url_of("/"));

	server_say(&server, OK_5, true);
	a->x.companions = 2;
	run(a);
	assert_int_equal(a->r, 0);
	server_await(&server, &server.connections, 3);
	a->x.companions = 0;
	begin(a);
	begin(b);
	end(a);
	end(b);
	assert_int_equal(a->r | b->r, 0);
	assert_int_equal(server_count(&server, &server.connections), 3);
	run(a); /* they are used up */
	assert_int_equal(a->r, 0);
	assert_int_equal(server_count(&server, &server.connections), 4);
	/* What nobody uses is closed when the engine stops. */
	a->x.companions = 1;
	run(a);
	server_await(&server, &server.connections, 6);
	http_close(http);
	http = NULL;
	server_await(&server, &server.ended, 6);
	done(a);
	done(b);
}

/* Those of an engine that is closed before it was ever started. */
static void companions_without_a_thread(void **state)
{
	struct asked *a = new_asked("GET", url_of("/"));
	struct http *h;

	assert_int_equal(http_open(&h, NULL), 0);
	a->x.companions = 2;
	http_begin(h, &a->x);
	while (server_count(&server, &server.connections) < 3)
		(void)http_step(h);
	http_cancel(&a->x);
	http_close(h);
	server_await(&server, &server.ended, 3);
	done(a);
}

static void names_that_do_not_exist(void **state)
{
	static const struct {
		int code;
		bool none;
	} rows[] = { { EAI_NONAME, true },
		     { EAI_NODATA, true },
		     { EAI_AGAIN, false },
		     { EAI_FAIL, false },
		     { 0, false } };
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		lookup_code = rows[i].code;
		assert_int_equal(http_is_no_name(http, "reg.io"), rows[i].none);
		assert_string_equal(looked_up, "reg.io");
	}
}

/* ---- for TSan ---- */

static void *transport_state;

static void wake_transport(void)
{
	http_transport_curl.wakeup(transport_state);
}

/* Other threads wake it while it is renewed, and must not wake what is freed. */
static void a_renewal_and_who_wakes(void **state)
{
	struct visitor v;

	assert_int_equal(http_transport_curl.open(NULL, &transport_state, NULL), 0);
	visitor_begin(&v, wake_transport);
	visitor_visit(&v);
	http_transport_curl.renew(transport_state);
	visitor_visit(&v);
	http_transport_curl.renew(transport_state);
	visitor_end(&v);
	http_transport_curl.close(transport_state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_plain_question),
		TEST(a_question_with_everything),
		TEST(a_head_has_no_body),
		TEST(an_empty_post),
		TEST(a_body_is_sent),
		TEST(a_body_is_sent_again),
		TEST(a_body_that_cannot_be_read),
		TEST(answers_that_are_none),
		TEST(what_the_caller_will_not_have),
		TEST(servers_that_are_none),
		TEST(a_socket_of_the_file_system),
		TEST(a_proxy),
		TEST(connections_are_kept_until_the_engine_stops),
		TEST(companions_are_connected_and_used),
		TEST(companions_without_a_thread),
		TEST(names_that_do_not_exist),
		TEST(a_renewal_and_who_wakes),
	};

	forget_proxies();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
