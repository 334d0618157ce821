/* SPDX-License-Identifier: Apache-2.0 */
/* test-http_curl.c - what goes over the wire, and what becomes of it: the engine's thread and
 * libcurl against a server in this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/http.h"
#include "fetch/http_transport.h"
#include "tests/fault.h"
#include "tests/unit/allocs.h"
#include "tests/unit/curllib.h"
#include "tests/unit/httpserver.h"
#include "tests/unit/visitor.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define OK_5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

/* ---- an exchange ---- */

static struct http *http;
static struct server server;

struct asked {
	struct http_exchange x;
	struct http_call begin;
	sem_t over;
	int headers_result, bytes_result;
	unsigned told_headers;
	char got[1 << 16];
	size_t n;
	int r;
	struct err e;
	unsigned status;
	uint64_t length, took_ms;
};

static int take_headers(struct http_exchange *x, struct err *e)
{
	struct asked *a = (struct asked *)x;

	a->told_headers++;
	return a->headers_result < 0 ? err_set(e, -a->headers_result, "no such headers") : 0;
}

static int take_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct asked *a = (struct asked *)x;

	assert_true(a->n + n < sizeof a->got);
	memcpy(a->got + a->n, buf, n);
	a->n += n;
	a->got[a->n] = '\0';
	return a->bytes_result < 0 ? err_set(e, -a->bytes_result, "no such bytes") : 0;
}

static void on_done(struct http_exchange *x, int r, const struct err *e)
{
	struct asked *a = (struct asked *)x;

	a->r = r;
	a->e = *e;
	a->status = x->answer.status;
	a->length = x->answer.length;
	sem_post(&a->over);
}

static void begin_on_engine(struct http_call *c)
{
	struct asked *a = (struct asked *)((char *)c - offsetof(struct asked, begin));

	http_begin(http, &a->x);
}

static const struct http_route plain_route;

static struct asked *new_asked(const char *method, const char *url)
{
	struct asked *a = calloc(1, sizeof *a);

	a->x = (struct http_exchange){
		.route = &plain_route,
		.method = method,
		.url = url,
		.headers = take_headers,
		.bytes = take_bytes,
		.done = on_done,
	};
	a->begin.run = begin_on_engine;
	sem_init(&a->over, 0, 0);
	return a;
}

static void begin(struct asked *a)
{
	a->took_ms = clock_ms();
	http_post(http, &a->begin);
}

static void end(struct asked *a)
{
	while (sem_wait(&a->over) < 0)
		assert_int_equal(errno, EINTR);
	a->took_ms = clock_ms() - a->took_ms;
	http_answer_release(&a->x.answer);
	(void)server_count(&server, &server.requests); /* by its lock: `heard` can be looked at */
}

static void run(struct asked *a)
{
	begin(a);
	end(a);
}

static void done(struct asked *a)
{
	sem_destroy(&a->over);
	free(a);
}

/* An address of the server. */
static const char *url_of(const char *path)
{
	static char url[256];

	snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
	return url;
}

static void assert_heard(const char *text)
{
	if (!strstr(server.heard, text))
		fail_msg("not '%s' in: %s", text, server.heard);
}

static void assert_not_heard(const char *text)
{
	if (strstr(server.heard, text))
		fail_msg("'%s' in: %s", text, server.heard);
}

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

enum { BODY = 300000 };

static void assert_body_heard(const uint8_t *body)
{
	const char *end = strstr(server.heard, "\r\n\r\n");

	assert_non_null(end);
	assert_int_equal(server.heard + server.heard_bytes - (end + 4), BODY);
	assert_memory_equal(end + 4, body, BODY);
}

static uint8_t *make_body(struct source **out)
{
	uint8_t *body = malloc(BODY);
	size_t i;

	for (i = 0; i < BODY; i++)
		body[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(source_open_memory(body, BODY, out, NULL), 0);
	return body;
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

/* ---- all of it ---- */

static int set_up(void **state)
{
	struct err e;

	server_start(&server, NULL);
	return http_open(&http, &e) < 0 || http_start(http, &e) < 0;
}

static int tear_down(void **state)
{
	http_close(http);
	server_stop(&server);
	return 0;
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
		TEST(codes_have_meanings),
		TEST(a_socket_of_the_file_system),
		TEST(a_proxy),
		TEST(options_that_libcurl_is_told),
		TEST(options_of_methods),
		TEST(connections_are_kept_until_the_engine_stops),
		TEST(companions_are_connected_and_used),
		TEST(names_that_do_not_exist),
		TEST(engines_that_cannot_be),
		TEST(exchanges_that_cannot_be),
		TEST(a_renewal_and_who_wakes),
	};
	static const char *const proxies[] = { "http_proxy", "https_proxy", "all_proxy",
					       "HTTPS_PROXY", "ALL_PROXY" };
	size_t i;

	for (i = 0; i < COUNT_OF(proxies); i++)
		unsetenv(proxies[i]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
