/* SPDX-License-Identifier: Apache-2.0 */
/* test-endpoint_logins.c - who logs in at each place, and how it is reached; which of it becomes
 * known at places to which it redirects; names that are not found; lack of memory.  Logins, TLS
 * files and the engine are the test's own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/endpoint.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- logins ---- */

struct login {
	char base[64], host[64], repository[64], blobs[128], scope[64], place[64], fault[64];
	char user[16], password[16], ca[16], cert[16], key[16];
	bool anonymous;
	const struct http_route *route;
	struct http *http;
	bool closed, busy;
};

static struct login logins[16];
static unsigned login_count;
static int login_fails;

int __wrap_auth_open(const struct auth_options *o, struct auth **out, struct err *e);
bool __wrap_auth_quiesce(struct auth *a);
void __wrap_auth_close(struct auth *a);

#define KEEP(to, from) snprintf(to, sizeof(to), "%s", (from) ? (from) : "-")

int __wrap_auth_open(const struct auth_options *o, struct auth **out, struct err *e)
{
	struct login *l = &logins[login_count];

	if (login_fails)
		return err_set(e, login_fails, "no login");
	assert_true(++login_count <= COUNT_OF(logins));
	*l = (struct login){ .anonymous = o->anonymous, .route = o->route, .http = o->http };
	KEEP(l->base, o->base);
	KEEP(l->host, o->host);
	KEEP(l->repository, o->repository);
	KEEP(l->blobs, o->blobs);
	KEEP(l->scope, o->scope);
	KEEP(l->place, o->source.place);
	KEEP(l->fault, o->source.fault);
	KEEP(l->ca, o->source.ca);
	KEEP(l->cert, o->source.cert);
	KEEP(l->key, o->source.key);
	KEEP(l->user, o->user);
	KEEP(l->password, o->password);
	*out = (struct auth *)l;
	return 0;
}

bool __wrap_auth_quiesce(struct auth *a)
{
	return !((struct login *)a)->busy;
}

void __wrap_auth_close(struct auth *a)
{
	if (a)
		((struct login *)a)->closed = true;
}

/* ---- TLS files ---- */

static const char *tls_ca, *tls_cert, *tls_key;
static int tls_fails;
static char tls_host[64];

int __wrap_credentials_find_tls(const char *host, struct credentials_tls *out, struct err *e);

static char *copy(const char *text)
{
	return text ? __real_strdup(text) : NULL;
}

int __wrap_credentials_find_tls(const char *host, struct credentials_tls *out, struct err *e)
{
	KEEP(tls_host, host);
	if (tls_fails)
		return err_set(e, tls_fails, "wrong files");
	*out = (struct credentials_tls){ .ca = copy(tls_ca),
					 .cert = copy(tls_cert),
					 .key = copy(tls_key) };
	return 0;
}

/* ---- the engine ---- */

static int engine; /* its address is all that is known of it */
static unsigned holds;
static struct http_call *posted;
static bool no_name;
static char looked_up[64];

void __wrap_http_hold(struct http *h);
void __wrap_http_post_held(struct http *h, struct http_call *c);
bool __wrap_http_is_no_name(const struct http *h, const char *host);

void __wrap_http_hold(struct http *h)
{
	assert_ptr_equal(h, &engine);
	holds++;
}

void __wrap_http_post_held(struct http *h, struct http_call *c)
{
	assert_ptr_equal(h, &engine);
	assert_int_equal(holds--, 1);
	assert_null(posted);
	posted = c;
}

bool __wrap_http_is_no_name(const struct http *h, const char *host)
{
	assert_ptr_equal(h, &engine);
	KEEP(looked_up, host);
	return no_name;
}

/* ---- a list ---- */

static struct fetch_settings settings;
static struct endpoint_list list;

static int open_list(const char *name, bool push, struct err *e)
{
	struct reference ref;
	int r;

	login_count = 0;
	assert_int_equal(reference_parse(name, &ref, e), 0);
	r = endpoint_list_open((struct http *)&engine, &ref, &settings, push, &list, e);
	reference_release(&ref);
	return r;
}

static void close_list(void)
{
	unsigned i;

	endpoint_list_close(&list);
	assert_null(list.items);
	assert_int_equal(list.count, 0);
	for (i = 0; i < login_count; i++)
		assert_true(logins[i].closed);
}

static int set_up(void **state)
{
	memset(&settings, 0, sizeof settings);
	login_fails = tls_fails = 0;
	tls_ca = tls_cert = tls_key = NULL;
	holds = 0;
	posted = NULL;
	no_name = false;
	return 0;
}

/* The user and password are the registry's, and so is the scope; a mirror goes by its own name. */
static void who_logs_in(void **state)
{
	static char mirror[] = "https://mirror.io:8/v2/hub", user[] = "me", password[] = "hush";
	static const char *const scopes[] = { "repository:library/debian:pull",
					      "repository:library/debian:pull,push" };
	char *mirrors[] = { mirror };
	const struct login *l;
	struct err e;
	int push;

	settings.user = user;
	settings.password = password;
	settings.mirrors = mirrors;
	settings.mirror_count = 1;
	for (push = 0; push < 2; push++) {
		assert_int_equal(open_list("debian", push, &e), 0);
		assert_int_equal(login_count, push ? 1 : 2);
		l = &logins[login_count - 1];
		assert_string_equal(l->base, "https://registry-1.docker.io");
		assert_string_equal(l->host, "docker.io");
		assert_string_equal(l->repository, "library/debian");
		assert_string_equal(l->blobs,
				    "https://registry-1.docker.io/v2/library/debian/blobs/");
		assert_string_equal(l->scope, scopes[push]);
		assert_string_equal(l->user, "me");
		assert_string_equal(l->password, "hush");
		assert_false(l->anonymous);
		assert_ptr_equal(l->http, &engine);
		assert_ptr_equal(l->route, &list.items[list.count - 1].route);
		assert_ptr_equal(list.items[list.count - 1].auth, l);
		assert_ptr_equal(list.items[0].settings, &settings);
		assert_ptr_equal(list.items[0].http, &engine);
		if (!push) {
			l = &logins[0];
			assert_string_equal(l->base, "https://mirror.io:8");
			assert_string_equal(l->host, "mirror.io:8");
			assert_string_equal(l->repository, "library/debian");
			assert_string_equal(l->blobs,
					    "https://mirror.io:8/v2/hub/library/debian/blobs/");
			assert_string_equal(l->scope, "-");
			assert_string_equal(l->user, "-");
			assert_string_equal(l->password, "-");
		}
		close_list();
	}
}

/* Where credentials are looked for, and with which files for the helper that they are for. */
static void where_credentials_are(void **state)
{
	static const struct {
		const char *credentials, *helper, *place, *fault, *files;
	} rows[] = {
		{ NULL, NULL, "-", "why", "-" },
		{ NULL, "https://h", "-", "why", "-" },
		{ "https://h", NULL, "https://h", "-", "-" },
		{ "https://h", "https://h", "https://h", "-", "x" },
		{ "https://h", "https://other", "https://h", "-", "-" },
		{ "/file", "https://h", "/file", "-", "-" },
	};
	static char fault[] = "why", x[] = "x";
	struct err e;
	size_t i, k;

	settings.service = (struct fetch_credentials){ NULL, x, x, x, fault };
	for (i = 0; i < COUNT_OF(rows); i++) {
		settings.credentials = (char *)(uintptr_t)rows[i].credentials;
		settings.service.helper = (char *)(uintptr_t)rows[i].helper;
		assert_int_equal(open_list("reg.io/app", false, &e), 0);
		assert_non_null(endpoint_invite(&list.items[0], "https://store.io/x"));
		assert_int_equal(login_count, 2);
		for (k = 0; k < 2; k++) {
			assert_string_equal(logins[k].place, rows[i].place);
			assert_string_equal(logins[k].fault, rows[i].fault);
			assert_string_equal(logins[k].ca, rows[i].files);
			assert_string_equal(logins[k].cert, rows[i].files);
			assert_string_equal(logins[k].key, rows[i].files);
		}
		close_list();
	}
}

/* ---- routes ---- */

/* What the settings say goes before the files of the host. */
static void routes(void **state)
{
	static char proxy[] = "p", agent[] = "a", ca[] = "ca", cert[] = "c", key[] = "k";
	const struct http_route *r;
	struct err e;

	tls_ca = "host's ca";
	tls_cert = "host's cert";
	tls_key = "host's key";
	settings.proxy = proxy;
	settings.user_agent = agent;
	assert_int_equal(open_list("reg.io:5000/app", false, &e), 0);
	assert_string_equal(tls_host, "reg.io:5000");
	r = &list.items[0].route;
	assert_string_equal(r->proxy, "p");
	assert_string_equal(r->user_agent, "a");
	assert_string_equal(r->ca, "host's ca");
	assert_string_equal(r->cert, "host's cert");
	assert_string_equal(r->key, "host's key");
	assert_false(r->unchecked);
	close_list();
	settings.cainfo = ca;
	settings.insecure = true;
	assert_int_equal(open_list("https://reg.io/app", false, &e), 0);
	r = &list.items[0].route;
	assert_string_equal(r->ca, "ca");
	assert_string_equal(r->cert, "host's cert");
	assert_true(r->unchecked);
	close_list();
	settings.client_cert = cert; /* with its key in it */
	assert_int_equal(open_list("https://reg.io/app", false, &e), 0);
	r = &list.items[0].route;
	assert_string_equal(r->cert, "c");
	assert_null(r->key);
	close_list();
	settings.client_key = key;
	assert_int_equal(open_list("https://reg.io/app", false, &e), 0);
	r = &list.items[0].route;
	assert_string_equal(r->key, "k");
	r = &list.items[0].away;
	assert_string_equal(r->proxy, "p");
	assert_string_equal(r->user_agent, "a");
	assert_string_equal(r->ca, "ca");
	assert_true(r->unchecked);
	assert_null(r->cert);
	assert_null(r->key);
	close_list();
}

/* Whatever is there for TLS makes a registry on this machine one that speaks it. */
static void tls_on_this_machine(void **state)
{
	static char file[] = "x";
	static const struct {
		bool cainfo, client_cert;
		const char *ca, *cert;
		const char *first;
		size_t count;
	} rows[] = {
		{ false, false, NULL, NULL, "http://localhost:5000/v2/app", 2 },
		{ true, false, NULL, NULL, "https://localhost:5000/v2/app", 1 },
		{ false, true, NULL, NULL, "https://localhost:5000/v2/app", 1 },
		{ false, false, "x", NULL, "https://localhost:5000/v2/app", 1 },
		{ false, false, NULL, "x", "https://localhost:5000/v2/app", 1 },
	};
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		settings.cainfo = rows[i].cainfo ? file : NULL;
		settings.client_cert = rows[i].client_cert ? file : NULL;
		tls_ca = rows[i].ca;
		tls_cert = rows[i].cert;
		assert_int_equal(open_list("localhost:5000/app", false, &e), 0);
		assert_int_equal(list.count, rows[i].count);
		assert_string_equal(list.items[0].base, rows[i].first);
		if (list.count == 2) {
			assert_ptr_equal(list.items[0].sibling, &list.items[1]);
			assert_ptr_equal(list.items[1].sibling, &list.items[0]);
			assert_false(list.items[0].unused || list.items[1].unused);
		} else {
			assert_null(list.items[0].sibling);
		}
		close_list();
	}
	settings.client_cert = NULL;
	tls_cert = NULL;
	tls_fails = EACCES;
	assert_int_equal(open_list("localhost:5000/app", false, &e), -EACCES);
	assert_string_equal(e.msg, "wrong files");
	assert_int_equal(login_count, 0);
	tls_fails = 0;
	login_fails = EIO;
	assert_int_equal(open_list("localhost:5000/app", false, &e), -EIO);
	assert_string_equal(e.msg, "no login");
}

/* ---- guests ---- */

static void guests(void **state)
{
	static const struct {
		const char *url, *base, *host, *repository, *blobs;
		bool anonymous;
	} rows[] = {
		{ "https://store.io/v2/a/b/blobs/sha256:1?x=/blobs/", "https://store.io",
		  "store.io", "a/b", "https://store.io/v2/a/b/blobs/", false },
		{ "https://store.io:8443/v2/a/b/blobs/uploads/1", "https://store.io:8443",
		  "store.io:8443", "a/b", "https://store.io:8443/v2/a/b/blobs/uploads/1", false },
		{ "https://store.io/v2/a/manifests/latest#x", "https://store.io", "store.io", "a",
		  "https://store.io/v2/a/manifests/latest#x", false },
		{ "https://store.io/a/b/c?d/e", "https://store.io", "store.io", "a/b",
		  "https://store.io/a/b/c?d/e", false },
		{ "https://store.io//a/b", "https://store.io", "store.io", "a",
		  "https://store.io//a/b", false },
		{ "https://store.io/v1/a/b", "https://store.io", "store.io", "v1/a",
		  "https://store.io/v1/a/b", false },
		{ "https://store.io/a", "https://store.io", "store.io", "a", "https://store.io/a",
		  false },
		{ "https://store.io", "https://store.io", "store.io", "", "https://store.io",
		  false },
		{ "https://store.io/v2/manifests/blobs/blobs/sha512:2", "https://store.io",
		  "store.io", "manifests", "https://store.io/v2/manifests/blobs/blobs/", false },
		/* a password in the clear stays on this machine */
		{ "http://store.io/a/b", "http://store.io", "store.io", "a", "http://store.io/a/b",
		  true },
		{ "http://localhost:5000/a/b", "http://localhost:5000", "localhost:5000", "a",
		  "http://localhost:5000/a/b", false },
		{ "https://localhost:5000/a/b", "https://localhost:5000", "localhost:5000", "a",
		  "https://localhost:5000/a/b", false },
	};
	const struct login *l = &logins[1];
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(open_list("reg.io/app", false, &e), 0);
		assert_ptr_equal(endpoint_invite(&list.items[0], rows[i].url), l);
		assert_int_equal(list.items[0].guest_count, 1);
		if (strcmp(l->base, rows[i].base) != 0 || strcmp(l->host, rows[i].host) != 0 ||
		    strcmp(l->repository, rows[i].repository) != 0 ||
		    strcmp(l->blobs, rows[i].blobs) != 0 || l->anonymous != rows[i].anonymous)
			fail_msg("%s: %s %s '%s' %s", rows[i].url, l->base, l->host, l->repository,
				 l->blobs);
		assert_string_equal(l->scope, "-");
		assert_string_equal(l->user, "-");
		assert_ptr_equal(l->route, &list.items[0].away);
		assert_ptr_equal(l->http, &engine);
		assert_string_equal(list.items[0].guests[0].origin, rows[i].base);
		assert_ptr_equal(endpoint_guest(&list.items[0], rows[i].url), l);
		assert_null(endpoint_guest(&list.items[0], "nonsense"));
		close_list();
	}
}

static void guests_that_cannot_be(void **state)
{
	static const char url[] = "https://store.io/v2/a/blobs/sha256:1";
	struct err e;
	unsigned i;

	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	login_fails = ENOMEM;
	assert_null(endpoint_invite(&list.items[0], url));
	assert_int_equal(list.items[0].guest_count, 0);
	assert_null(list.items[0].guests[0].origin);
	login_fails = 0;
	assert_null(endpoint_invite(&list.items[0], "nonsense"));
	for (i = 0; i < 4; i++) { /* an origin, a repository's path and name, its blobs */
		allocs_left = i;
		assert_null(endpoint_invite(&list.items[0], url));
		allocs_left = -1;
		assert_int_equal(list.items[0].guest_count, 0);
	}
	allocs_left = 4;
	assert_non_null(endpoint_invite(&list.items[0], url));
	allocs_left = -1;
	assert_int_equal(list.items[0].guest_count, 1);
	close_list();
}

/* All that is under way is ended, and waited for. */
static void quiet(void **state)
{
	struct endpoint *p;
	struct err e;
	unsigned busy;

	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	p = &list.items[0];
	assert_non_null(endpoint_invite(p, "https://a.io/x"));
	assert_non_null(endpoint_invite(p, "https://b.io/x"));
	for (busy = 0; busy < 8; busy++) {
		logins[0].busy = busy & 1;
		logins[1].busy = busy >> 1 & 1;
		logins[2].busy = busy >> 2 & 1;
		assert_int_equal(endpoint_quiesce(p), busy == 0);
	}
	memset(logins, 0, sizeof logins);
	p->looked_up = looked_up;
	assert_false(endpoint_quiesce(p));
	p->looked_up = NULL;
	assert_true(endpoint_quiesce(p));
	close_list();
}

/* ---- names that are not found ---- */

static int thread_fails;
static void *(*body)(void *arg);
static void *body_arg;

static int keep_body(pthread_t *out, bool detached, void *(*run)(void *arg), void *arg)
{
	assert_true(detached);
	body = run;
	body_arg = arg;
	return thread_fails;
}

static const struct clock_ops by_hand = { .thread = keep_body };

static void names(void **state)
{
	struct endpoint *p;
	struct err e;
	int i;

	clock_use(&by_hand);
	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	p = &list.items[0];
	endpoint_unresolved(p, "nonsense");
	allocs_left = 0;
	endpoint_unresolved(p, "https://reg.io/x");
	allocs_left = -1;
	assert_null(p->looked_up);
	assert_int_equal(holds, 0);
	for (i = 0; i < 4; i++) {
		no_name = i % 2 == 0;
		thread_fails = i == 3 ? EAGAIN : 0;
		p->no_such_name = i == 3;
		p->found_none = true;
		endpoint_unresolved(p, "https://reg.io:5000/x");
		endpoint_unresolved(p, "https://other.io/x"); /* one at a time */
		assert_string_equal(p->looked_up, "reg.io");
		if (i < 3) {
			assert_int_equal(holds, 1);
			assert_null(posted);
			assert_null(body(body_arg));
			assert_string_equal(looked_up, "reg.io");
		}
		assert_int_equal(holds, 0);
		assert_ptr_equal(posted, &p->name_looked_up);
		assert_int_equal(p->no_such_name, i == 3); /* that is the engine's to say */
		posted->run(posted);
		posted = NULL;
		assert_null(p->looked_up);
		assert_int_equal(p->no_such_name, i < 3 && no_name);
	}
	close_list();
	clock_use(NULL);
}

/* ---- lack of memory ---- */

static void memory_runs_out(void **state)
{
	static char mirror[] = "mirror.io/p2p", other[] = "https://mirror.io";
	char *mirrors[] = { mirror, other };
	struct reference ref;
	struct err e;
	long k;
	int r;

	assert_int_equal(reference_parse("localhost:5000/app", &ref, &e), 0);
	settings.mirrors = mirrors;
	settings.mirror_count = 2;
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		login_count = 0;
		allocs_left = k;
		r = endpoint_list_open((struct http *)&engine, &ref, &settings, false, &list, &e);
		allocs_left = -1;
		if (r < 0)
			assert_string_equal(e.msg, "out of memory");
	}
	assert_int_equal(r, 0);
	assert_int_equal(list.count, 4);
	assert_true(k > 15);
	reference_release(&ref);
	close_list();
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_logs_in),     TEST(where_credentials_are),
		TEST(routes),	       TEST(tls_on_this_machine),
		TEST(guests),	       TEST(guests_that_cannot_be),
		TEST(quiet),	       TEST(names),
		TEST(memory_runs_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
