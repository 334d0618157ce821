/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - the engine's thread and its exchanges, see http.h; what an answer's headers say is read
 * in http_answer.c.
 *
 * The lock guards the queue of posted calls and the two flags; all else belongs to the thread. */
#include "fetch/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/http_answer.h"
#include "fetch/warm.h"

#define USER_AGENT "nbdkit-overlaybd/" PROJECT_VERSION

enum {
	BUFFER = 256 * 1024, /* bytes that libcurl reads at once */
	KEPT_CONNECTIONS = 256,
	POLL_MAX = 60 * 1000, /* ms */
	HEADERS_MAX = 64 * 1024, /* bytes of one answer's headers */
};

struct http {
	pthread_mutex_t lock;
	struct http_call *first; /* guarded by lock */
	struct http_call **last; /* guarded by lock */
	bool ending; /* guarded by lock: the thread is to end when nothing is left */
	unsigned held; /* guarded by lock: calls that other threads will post */
	atomic_bool stopping;
	CURLM *multi; /* curl_multi_wakeup is allowed from any thread */
	pthread_t thread;
	bool started; /* of the owner */
	struct http_call *timers; /* by due time */
	struct http_exchange *running;
	struct warm warm;
	struct http_call expire_warm;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_result;

static void init_curl(void)
{
	curl_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- calls and timers ---- */

bool http_now_stopping(const struct http *h)
{
	return atomic_load_explicit(&h->stopping, memory_order_relaxed);
}

static void append_locked(struct http *h, struct http_call *c)
{
	if (c->pending)
		return;
	c->pending = true;
	c->next = NULL;
	*h->last = c;
	h->last = &c->next;
}

/* Wakes the thread under the lock: http_stop frees the multi handle once it holds no calls. */
void http_post(struct http *h, struct http_call *c)
{
	WITH_LOCK(&h->lock);
	append_locked(h, c);
	curl_multi_wakeup(h->multi);
}

void http_hold(struct http *h)
{
	WITH_LOCK(&h->lock);
	h->held++;
}

void http_post_held(struct http *h, struct http_call *c)
{
	WITH_LOCK(&h->lock);
	h->held--;
	append_locked(h, c);
	curl_multi_wakeup(h->multi);
}

static struct http_call *take_call(struct http *h)
{
	struct http_call *c;

	WITH_LOCK(&h->lock);
	c = h->first;
	if (c) {
		h->first = c->next;
		if (!h->first)
			h->last = &h->first;
		c->pending = false;
	}
	return c;
}

void http_timer_clear(struct http *h, struct http_call *c)
{
	struct http_call **at = &h->timers;

	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
}

void http_timer_set(struct http *h, struct http_call *c, uint64_t due)
{
	struct http_call **at = &h->timers;

	http_timer_clear(h, c);
	while (*at && (*at)->due <= due)
		at = &(*at)->next;
	c->due = due;
	c->next = *at;
	*at = c;
}

static struct http_call *take_timer(struct http *h)
{
	struct http_call *c = h->timers;

	if (!c || (c->due > clock_ms() && !http_now_stopping(h)))
		return NULL;
	h->timers = c->next;
	return c;
}

static void run_calls(struct http *h)
{
	struct http_call *c;

	while ((c = take_call(h)) != NULL || (c = take_timer(h)) != NULL)
		c->run(c);
}

void http_run(struct http *h, struct http_call *c)
{
	http_post(h, c);
	if (!h->started)
		run_calls(h);
}

/* ---- exchanges ---- */

static int tell_headers(struct http_exchange *x)
{
	if (x->headers_told)
		return 0;
	x->headers_told = true;
	x->failure = x->headers ? x->headers(x, &x->why) : 0;
	return x->failure;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct http_exchange *x = arg;
	size_t n = size * count;

	x->heard = clock_ms();
	x->header_bytes += n;
	if (x->header_bytes > HEADERS_MAX)
		x->failure = err_set(&x->why, EPROTO, "more than %d bytes of headers", HEADERS_MAX);
	else
		x->failure = http_answer_take(&x->answer, line, n, &x->why);
	return x->failure < 0 ? 0 : n;
}

static size_t on_body(char *buf, size_t size, size_t count, void *arg)
{
	struct http_exchange *x = arg;
	size_t n = size * count;

	x->heard = clock_ms();
	if (tell_headers(x) < 0)
		return CURL_WRITEFUNC_ERROR;
	x->received += n;
	if (x->bytes)
		x->failure = x->bytes(x, buf, n, &x->why);
	return x->failure < 0 ? CURL_WRITEFUNC_ERROR : n;
}

static size_t send_body(char *buf, size_t size, size_t count, void *arg)
{
	struct http_exchange *x = arg;
	size_t n = (size_t)min_u64(size * count, x->body->size - x->sent);

	x->heard = clock_ms();
	x->failure = n > 0 ? source_pread(x->body, buf, n, x->sent, &x->why) : 0;
	if (x->failure < 0)
		return CURL_READFUNC_ABORT;
	x->sent += n;
	return n;
}

static int rewind_body(void *arg, curl_off_t offset, int origin)
{
	struct http_exchange *x = arg;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	x->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static void expire_warm(struct http_call *c)
{
	struct http *h = (struct http *)((char *)c - offsetof(struct http, expire_warm));
	uint64_t next = warm_expire(&h->warm, http_now_stopping(h) ? CLOCK_NEVER : clock_ms());

	if (next != CLOCK_NEVER)
		http_timer_set(h, c, next);
}

/* libcurl wants a socket for a new connection. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct http_exchange *x = arg;
	struct http *h = x->http;

	x->warm_fd = warm_take(&h->warm, &to->addr, to->addrlen);
	if (x->warm_fd >= 0)
		return x->warm_fd;
	if (x->companions > 0 && to->family != AF_UNIX) {
		warm_connect(&h->warm, to->family, to->socktype, to->protocol, &to->addr,
			     to->addrlen, x->companions);
		x->companions = 0;
		h->expire_warm.run = expire_warm;
		http_timer_set(h, &h->expire_warm, clock_ms() + WARM_MS);
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static int tell_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct http_exchange *x = arg;

	return fd == x->warm_fd ? CURL_SOCKOPT_ALREADY_CONNECTED : CURL_SOCKOPT_OK;
}

static bool add_header(struct http_exchange *x, const char *name, const char *value)
{
	struct curl_slist *list;
	char *line = NULL;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return false;
	list = curl_slist_append(x->header_list, line);
	explicit_bzero(line, strlen(line));
	free(line);
	if (!list)
		return false;
	x->header_list = list;
	return true;
}

/* curl_easy_setopt wants its own macro for each option; a failure is lack of memory or a libcurl
 * without the feature, and the exchange cannot be done as wanted. */
#define SET(option, value) (ok = ok && curl_easy_setopt(x->easy, option, value) == CURLE_OK)

static bool set_route(struct http_exchange *x)
{
	const struct http_route *r = x->route;
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

static bool set_method(struct http_exchange *x)
{
	bool ok = true;

	if (x->body) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_READFUNCTION, send_body);
		SET(CURLOPT_READDATA, x);
		SET(CURLOPT_SEEKFUNCTION, rewind_body);
		SET(CURLOPT_SEEKDATA, x);
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

static bool set_headers(struct http_exchange *x)
{
	bool ok = add_header(x, "Accept", x->accept ? x->accept : "*/*");
	char range[64];

	ok = ok && (!x->body || add_header(x, "Expect", ""));
	ok = ok && (!x->authorization || add_header(x, "Authorization", x->authorization));
	ok = ok && (!x->if_none_match || add_header(x, "If-None-Match", x->if_none_match));
	ok = ok && (!x->content_type || add_header(x, "Content-Type", x->content_type));
	if (x->ranged) {
		snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, x->first, x->last);
		ok = ok && add_header(x, "Range", range);
	}
	SET(CURLOPT_HTTPHEADER, x->header_list);
	return ok;
}

static bool set_rest(struct http_exchange *x)
{
	bool ok = true;

	SET(CURLOPT_URL, x->url);
	SET(CURLOPT_PRIVATE, x);
	SET(CURLOPT_ERRORBUFFER, x->error_text);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, strncmp(x->url, "https:", 6) == 0 ? 1L : 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_CONNECTTIMEOUT, 0L); /* `quiet` sees to it */
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_BUFFERSIZE, (long)BUFFER);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_SOCKOPTFUNCTION, tell_connected);
	SET(CURLOPT_SOCKOPTDATA, x);
	return ok;
}

static void release(struct http_exchange *x)
{
	http_timer_clear(x->http, &x->quiet);
	if (x->link) {
		*x->link = x->next;
		if (x->next)
			x->next->link = x->link;
		x->link = NULL;
	}
	if (x->easy) {
		curl_multi_remove_handle(x->http->multi, x->easy);
		curl_easy_cleanup(x->easy);
	}
	curl_slist_free_all(x->header_list);
	free(x->error_text);
	x->easy = NULL;
	x->header_list = NULL;
	x->error_text = NULL;
}

/* libcurl's own limit of speed looks at an average, and so is seconds late. */
static void end_quiet(struct http_call *c)
{
	struct http_exchange *x =
		(struct http_exchange *)((char *)c - offsetof(struct http_exchange, quiet));
	uint64_t patience = (x->silence ? x->silence : HTTP_SILENCE) * (uint64_t)1000;

	if (http_now_stopping(x->http))
		return; /* end_failed sees to it */
	if (clock_ms() < x->heard + patience) {
		http_timer_set(x->http, c, x->heard + patience);
		return;
	}
	x->failure =
		err_set(&x->why, ETIMEDOUT, "%s for %u s",
			x->answer.status ? "not a byte" : "no answer", (unsigned)(patience / 1000));
}

void http_begin(struct http *h, struct http_exchange *x)
{
	http_answer_release(&x->answer);
	x->http = h;
	x->received = x->sent = x->first_byte_us = 0;
	x->header_bytes = 0;
	x->headers_told = false;
	x->failure = 0;
	x->warm_fd = -1;
	x->link = &h->running;
	x->next = h->running;
	if (x->next)
		x->next->link = &x->next;
	h->running = x;
	x->heard = clock_ms();
	x->quiet.run = end_quiet;
	http_timer_set(h, &x->quiet, x->heard);
	x->easy = curl_easy_init();
	x->error_text = calloc(1, CURL_ERROR_SIZE);
	if (!x->easy || !x->error_text || !set_route(x) || !set_method(x) || !set_headers(x) ||
	    !set_rest(x) || curl_multi_add_handle(h->multi, x->easy) != CURLM_OK)
		x->failure = err_set(&x->why, ENOMEM, "http: libcurl takes no request");
}

void http_cancel(struct http_exchange *x)
{
	release(x);
}

/* ---- how an exchange ended ---- */

static int errno_of(CURLcode code)
{
	switch (code) {
	case CURLE_OUT_OF_MEMORY:
		return ENOMEM;
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
static int explain(struct http_exchange *x, CURLcode code, struct err *e)
{
	const char *text = x->error_text[0] ? x->error_text : curl_easy_strerror(code);

	if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING)
		text = "the answer was cut short";
	return err_set(e, errno_of(code), "%s", text);
}

static void end(struct http_exchange *x, CURLcode code)
{
	curl_off_t answered = 0, asked = 0;
	struct err e = { .msg = "" };
	int r;

	if (x->easy) {
		curl_easy_getinfo(x->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered);
		curl_easy_getinfo(x->easy, CURLINFO_PRETRANSFER_TIME_T, &asked);
	}
	if (answered > asked)
		x->first_byte_us = (uint64_t)(answered - asked);
	if (x->failure == 0 && code == CURLE_OK)
		(void)tell_headers(x);
	if (x->failure < 0) {
		e = x->why;
		r = x->failure;
	} else {
		r = code == CURLE_OK ? 0 : explain(x, code, &e);
	}
	release(x);
	x->done(x, r, &e);
}

static void end_finished(struct http *h)
{
	struct http_exchange *x;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&x);
		end(x, code);
	}
}

/* Those that never began, and all of them once the engine stops.  `done` may begin others. */
static void end_failed(struct http *h)
{
	struct http_exchange *x = h->running;

	while (x) {
		if (http_now_stopping(h) && x->failure == 0)
			x->failure = err_set(&x->why, ESHUTDOWN, "shutting down");
		if (x->failure < 0) {
			end(x, CURLE_OK);
			x = h->running;
		} else {
			x = x->next;
		}
	}
}

/* ---- the thread ---- */

static bool has_calls(struct http *h, bool *ending)
{
	WITH_LOCK(&h->lock);
	*ending = h->ending && h->held == 0;
	return h->first != NULL;
}

static int poll_time(const struct http *h)
{
	uint64_t now = clock_ms();

	if (!h->timers)
		return POLL_MAX;
	return h->timers->due <= now ? 0 : (int)min_u64(h->timers->due - now, POLL_MAX);
}

static void *run_engine(void *arg)
{
	struct http *h = arg;
	bool calls, ending;
	int running;

	for (;;) {
		run_calls(h);
		curl_multi_perform(h->multi, &running);
		end_finished(h);
		end_failed(h);
		calls = has_calls(h, &ending);
		if (calls || (http_now_stopping(h) && (h->running || h->timers)))
			continue;
		if (ending)
			return NULL;
		curl_multi_poll(h->multi, NULL, 0, poll_time(h), NULL);
	}
}

static CURLM *make_multi(void)
{
	CURLM *m = curl_multi_init();

	if (m) {
		curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
		curl_multi_setopt(m, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	}
	return m;
}

int http_open(struct http **out, struct err *e)
{
	struct http *h = calloc(1, sizeof *h);

	pthread_once(&curl_once, init_curl);
	if (h && curl_result == CURLE_OK)
		h->multi = make_multi();
	if (!h || !h->multi) {
		free(h);
		return err_set(e, ENOMEM, "http: out of memory");
	}
	pthread_mutex_init(&h->lock, NULL);
	h->last = &h->first;
	*out = h;
	return 0;
}

int http_start(struct http *h, struct err *e)
{
	int code;

	h->ending = false;
	atomic_store(&h->stopping, false);
	code = pthread_create(&h->thread, NULL, run_engine, h);
	if (code != 0)
		return err_set(e, code, "http: starting a thread: %s", strerror(code));
	h->started = true;
	return 0;
}

void http_interrupt(struct http *h)
{
	atomic_store(&h->stopping, true);
	curl_multi_wakeup(h->multi);
}

void http_stop(struct http *h)
{
	CURLM *fresh;

	if (!h->started)
		return;
	atomic_store(&h->stopping, true);
	pthread_mutex_lock(&h->lock);
	h->ending = true;
	pthread_mutex_unlock(&h->lock);
	curl_multi_wakeup(h->multi);
	pthread_join(h->thread, NULL);
	h->started = false;
	/* A new one has no connections that the next process would share with this one. */
	fresh = make_multi();
	if (fresh) {
		WITH_LOCK(&h->lock);
		curl_multi_cleanup(h->multi);
		h->multi = fresh;
	}
}

void http_close(struct http *h)
{
	if (!h)
		return;
	http_stop(h);
	curl_multi_cleanup(h->multi);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
