/* SPDX-License-Identifier: Apache-2.0 */
/* http_curl.c - exchanges over libcurl's multi interface: the transport that servers are reached
 * by, see http_transport.h. */
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "fetch/http_transport.h"
#include "fetch/warm.h"

#define USER_AGENT "nbdkit-overlaybd/" PROJECT_VERSION

enum {
	BUFFER = 256 * 1024, /* bytes that libcurl reads at once */
	KEPT_CONNECTIONS = 256,
};

struct curl_state {
	CURLM *multi; /* curl_multi_wakeup is allowed from any thread */
	/* Held to replace `multi`, and to wake it. */
	pthread_mutex_t lock;
	struct warm warm;
};

/* One exchange's. */
struct curl_transfer {
	struct http_exchange *x;
	struct curl_state *state;
	CURL *easy;
	struct curl_slist *header_list;
	uint64_t sent; /* of the request's body */
	unsigned companions; /* still to be connected */
	int warm_fd; /* the socket that it got from warm.h, -1: none */
	char error_text[CURL_ERROR_SIZE];
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_result;

static void init_curl(void)
{
	curl_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- what libcurl calls ---- */

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct curl_transfer *t = arg;

	return http_heard_header(t->x, line, size * count) ? size * count : 0;
}

static size_t on_body(char *buf, size_t size, size_t count, void *arg)
{
	struct curl_transfer *t = arg;

	return http_heard_bytes(t->x, buf, size * count) ? size * count : CURL_WRITEFUNC_ERROR;
}

static size_t send_body(char *buf, size_t size, size_t count, void *arg)
{
	struct curl_transfer *t = arg;
	struct source *body = t->x->body;
	size_t n = (size_t)min_u64(size * count, body->size - t->sent);
	struct err e;
	int r = n > 0 ? source_pread(body, buf, n, t->sent, &e) : 0;

	http_heard_life(t->x);
	if (r < 0) {
		http_heard_failure(t->x, r, &e);
		return CURL_READFUNC_ABORT;
	}
	t->sent += n;
	return n;
}

static int rewind_body(void *arg, curl_off_t offset, int origin)
{
	struct curl_transfer *t = arg;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* libcurl wants a socket for a new connection. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct curl_transfer *t = arg;
	struct warm *warm = &t->state->warm;

	t->warm_fd = warm_take(warm, &to->addr, to->addrlen);
	if (t->warm_fd >= 0)
		return t->warm_fd;
	if (t->companions > 0 && to->family != AF_UNIX) {
		warm_connect(warm, to->family, to->socktype, to->protocol, &to->addr, to->addrlen,
			     t->companions);
		t->companions = 0;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static int tell_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct curl_transfer *t = arg;

	return fd == t->warm_fd ? CURL_SOCKOPT_ALREADY_CONNECTED : CURL_SOCKOPT_OK;
}

/* ---- an exchange's options ---- */

static bool add_header(struct curl_transfer *t, const char *name, const char *value)
{
	struct curl_slist *list;
	char *line = NULL;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return false;
	list = curl_slist_append(t->header_list, line);
	explicit_bzero(line, strlen(line));
	free(line);
	if (!list)
		return false;
	t->header_list = list;
	return true;
}

/* curl_easy_setopt wants its own macro for each option; a failure is lack of memory or a libcurl
 * without the feature, and the exchange cannot be done as wanted. */
#define SET(option, value) (ok = ok && curl_easy_setopt(t->easy, option, value) == CURLE_OK)

static bool set_route(struct curl_transfer *t)
{
	const struct http_route *r = t->x->route;
	bool ok = true;

	SET(CURLOPT_USERAGENT, r->user_agent ? r->user_agent : USER_AGENT);
	if (r->proxy)
		SET(CURLOPT_PROXY, r->proxy);
	if (r->ca)
		SET(CURLOPT_CAINFO, r->ca);
	if (r->cert) {
		SET(CURLOPT_SSLCERT, r->cert);
		SET(CURLOPT_SSLKEY, r->key ? r->key : r->cert);
	}
	if (r->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
	if (r->unchecked) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
	return ok;
}

static bool set_method(struct curl_transfer *t)
{
	const struct http_exchange *x = t->x;
	bool ok = true;

	if (x->body) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_READFUNCTION, send_body);
		SET(CURLOPT_READDATA, t);
		SET(CURLOPT_SEEKFUNCTION, rewind_body);
		SET(CURLOPT_SEEKDATA, t);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body->size);
	} else if (strcmp(x->method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (strcmp(x->method, "GET") != 0) {
		SET(CURLOPT_POSTFIELDS, "");
		SET(CURLOPT_POSTFIELDSIZE, 0L);
	}
	SET(CURLOPT_CUSTOMREQUEST, strcmp(x->method, "HEAD") == 0 ? NULL : x->method);
	return ok;
}

static bool set_headers(struct curl_transfer *t)
{
	const struct http_exchange *x = t->x;
	bool ok = add_header(t, "Accept", x->accept ? x->accept : "*/*");
	char range[64];

	ok = ok && (!x->body || add_header(t, "Expect", ""));
	ok = ok && (!x->authorization || add_header(t, "Authorization", x->authorization));
	ok = ok && (!x->if_none_match || add_header(t, "If-None-Match", x->if_none_match));
	ok = ok && (!x->referer || add_header(t, "Referer", x->referer));
	ok = ok && (!x->content_type || add_header(t, "Content-Type", x->content_type));
	if (x->ranged) {
		snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, x->first, x->last);
		ok = ok && add_header(t, "Range", range);
	}
	SET(CURLOPT_HTTPHEADER, t->header_list);
	return ok;
}

static bool set_rest(struct curl_transfer *t)
{
	const struct http_exchange *x = t->x;
	bool ok = true;

	SET(CURLOPT_URL, x->url);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->error_text);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, strncmp(x->url, "https", 5) == 0 ? 1L : 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_CONNECTTIMEOUT, 0L); /* the engine sees to it */
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_BUFFERSIZE, (long)BUFFER);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_SOCKOPTFUNCTION, tell_connected);
	SET(CURLOPT_SOCKOPTDATA, t);
	return ok;
}

/* ---- how an exchange ended ---- */

/* libcurl says CURLE_OUT_OF_MEMORY also of a header line that is longer than its limit, which the
 * other side alone can cause: that is no reason to give up anything but this exchange. */
int http_curl_errno(int code)
{
	switch ((CURLcode)code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
		return ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return ENOTUNIQ;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return EPROTO;
	default:
		return ECONNRESET;
	}
}

/* libcurl's texts name hosts and ports, never an address's path or query. */
static int explain(struct curl_transfer *t, CURLcode code, struct err *e)
{
	const char *text = t->error_text[0] ? t->error_text : curl_easy_strerror(code);

	if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING)
		text = "the answer was cut short";
	if (code == CURLE_OUT_OF_MEMORY)
		text = "header lines that are too long";
	return err_set(e, http_curl_errno((int)code), "%s", text);
}

static void tell_end(struct curl_transfer *t, CURLcode code)
{
	struct err e = { .msg = "" };
	curl_off_t answered = 0, asked = 0;

	curl_easy_getinfo(t->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered);
	curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &asked);
	if (answered > asked)
		t->x->first_byte_us = (uint64_t)(answered - asked);
	http_heard_end(t->x, code == CURLE_OK ? 0 : explain(t, code, &e), &e);
}

/* ---- the table ---- */

static CURLM *make_multi(void)
{
	CURLM *m = curl_multi_init();

	if (m) {
		curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
		curl_multi_setopt(m, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	}
	return m;
}

static int transport_open(void *arg, void **out, struct err *e)
{
	struct curl_state *s = calloc(1, sizeof *s);

	pthread_once(&curl_once, init_curl);
	if (s && curl_result == CURLE_OK)
		s->multi = make_multi();
	if (!s || !s->multi) {
		free(s);
		return err_set(e, ENOMEM, "http: out of memory");
	}
	pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

static void transport_close(void *state)
{
	struct curl_state *s = state;

	(void)warm_expire(&s->warm, CLOCK_NEVER);
	curl_multi_cleanup(s->multi);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Without memory for a new one the old connections stay. */
static void transport_renew(void *state)
{
	struct curl_state *s = state;
	CURLM *old = s->multi, *fresh = make_multi();

	if (!fresh)
		return;
	pthread_mutex_lock(&s->lock);
	s->multi = fresh;
	pthread_mutex_unlock(&s->lock);
	curl_multi_cleanup(old);
}

static int transport_begin(void *state, struct http_exchange *x, struct err *e)
{
	struct curl_state *s = state;
	struct curl_transfer *t = calloc(1, sizeof *t);

	x->transfer = t;
	if (t) {
		t->x = x;
		t->state = s;
		t->companions = x->companions;
		t->warm_fd = -1;
		t->easy = curl_easy_init();
	}
	if (!t || !t->easy || !set_route(t) || !set_method(t) || !set_headers(t) || !set_rest(t) ||
	    curl_multi_add_handle(s->multi, t->easy) != CURLM_OK)
		return err_set(e, ENOMEM, "http: libcurl takes no request");
	return 0;
}

static void transport_end(void *state, struct http_exchange *x)
{
	struct curl_state *s = state;
	struct curl_transfer *t = x->transfer;

	if (!t)
		return;
	if (t->easy) {
		curl_multi_remove_handle(s->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->header_list);
	free(t);
}

static void transport_perform(void *state)
{
	struct curl_state *s = state;
	struct curl_transfer *t;
	CURLMsg *m;
	int left;

	curl_multi_perform(s->multi, &left);
	while ((m = curl_multi_info_read(s->multi, &left)) != NULL) {
		if (m->msg == CURLMSG_DONE) {
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
			tell_end(t, m->data.result);
		}
	}
}

static void transport_poll(void *state, int ms)
{
	struct curl_state *s = state;

	curl_multi_poll(s->multi, NULL, 0, ms, NULL);
}

static void transport_wakeup(void *state)
{
	struct curl_state *s = state;

	pthread_mutex_lock(&s->lock);
	curl_multi_wakeup(s->multi);
	pthread_mutex_unlock(&s->lock);
}

static uint64_t transport_expire(void *state, bool stopping)
{
	struct curl_state *s = state;

	return warm_expire(&s->warm, stopping ? CLOCK_NEVER : clock_ms());
}

/* libcurl says the same of a name that does not exist and of a resolver that does not answer. */
static bool transport_is_no_name(const char *host)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int code = getaddrinfo(host, NULL, &hints, &found);

	if (code == 0)
		freeaddrinfo(found);
	return code == EAI_NONAME || code == EAI_NODATA;
}

const struct http_transport http_transport_curl = {
	.open = transport_open,
	.close = transport_close,
	.renew = transport_renew,
	.begin = transport_begin,
	.end = transport_end,
	.perform = transport_perform,
	.poll = transport_poll,
	.wakeup = transport_wakeup,
	.expire = transport_expire,
	.is_no_name = transport_is_no_name,
};
