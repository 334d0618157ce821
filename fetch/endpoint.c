/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.c - mirrors and the registry, see endpoint.h. */
#include "fetch/endpoint.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/address.h"

enum {
	LEFT_ALONE = 250, /* ms after the first failure */
	LEFT_ALONE_MAX = 30 * 1000,
};

/* The SCHEME://HOST[:PORT] part of an address; NULL: it is none, or no memory. */
static char *origin_of(const char *url)
{
	struct address a;

	return address_parse(url, &a) ? strndup(url, (size_t)(a.rest - url)) : NULL;
}

char *endpoint_resolve(const struct endpoint *p, const char *base, const char *location)
{
	return address_resolve(base, location, p->route.unchecked);
}

bool endpoint_is_own(const struct endpoint *p, const char *url)
{
	struct address a, own;

	return address_parse(url, &a) && address_parse(p->origin, &own) &&
	       address_same_origin(&a, &own);
}

/* What opening the list needs at each step. */
struct maker {
	struct http *http;
	const struct reference *ref;
	const struct fetch_settings *settings;
	const char *scope;
	char *registry; /* base of the registry's own addresses */
	struct endpoint_list *list;
};

static int set_route(const struct maker *m, struct endpoint *p, struct err *e)
{
	const struct fetch_settings *s = m->settings;
	int r = credentials_find_tls(p->name, &p->tls, e);

	if (r < 0)
		return r;
	p->route = (struct http_route){
		.proxy = s->proxy,
		.ca = s->cainfo ? s->cainfo : p->tls.ca,
		.cert = s->client_cert ? s->client_cert : p->tls.cert,
		.key = s->client_cert ? s->client_key : p->tls.key,
		.user_agent = s->user_agent,
		.unchecked = s->insecure,
	};
	p->away = p->route;
	p->away.cert = p->away.key = NULL;
	return 0;
}

static struct credentials_source source_of(const struct fetch_settings *s)
{
	struct credentials_source source = { .place = s->credentials };

	if (!s->credentials)
		source.fault = s->service.fault;
	if (s->credentials && s->service.helper && strcmp(s->credentials, s->service.helper) == 0) {
		source.ca = s->service.ca;
		source.cert = s->service.cert;
		source.key = s->service.key;
	}
	return source;
}

/* The user and password of the settings are the registry's. */
static int set_auth(const struct maker *m, struct endpoint *p, bool registry, struct err *e)
{
	AUTO_FREE char *blobs = NULL;
	struct auth_options o = {
		.http = m->http,
		.route = &p->route,
		.base = p->origin,
		.host = registry ? m->ref->host : p->name,
		.repository = m->ref->repository,
		.scope = registry ? m->scope : NULL,
		.source = source_of(m->settings),
		.user = registry ? m->settings->user : NULL,
		.password = registry ? m->settings->password : NULL,
	};

	if (asprintf(&blobs, "%s/blobs/", p->base) < 0) {
		blobs = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	o.blobs = blobs;
	return auth_open(&o, &p->auth, e);
}

/* Mirrors that serve several registries are told which one it is, as containerd does. */
static int set_query(const struct maker *m, struct endpoint *p, struct err *e)
{
	char *host = curl_easy_escape(NULL, m->ref->host, 0);

	if (!host || asprintf(&p->query, "ns=%s", host) < 0) {
		p->query = NULL;
		curl_free(host);
		return err_set(e, ENOMEM, "out of memory");
	}
	curl_free(host);
	return 0;
}

/* Takes over `base`, which may be NULL: no memory.  `stands`: it stands for the registry. */
static int add(struct maker *m, char *base, bool registry, bool stands, struct err *e)
{
	struct endpoint *p = &m->list->items[m->list->count++];
	int r;

	p->base = base;
	p->settings = m->settings;
	p->http = m->http;
	p->origin = base ? origin_of(base) : NULL;
	if (!p->origin)
		return err_set(e, ENOMEM, "out of memory");
	p->name = strstr(p->origin, "://") + 3;
	if (strncasecmp(p->origin, "http://", 7) == 0 && !reference_is_local(p->name) && registry &&
	    !m->settings->insecure)
		return err_set(e, EINVAL, "%s: plain HTTP to another machine needs insecure=true",
			       p->name);
	r = set_route(m, p, e);
	if (r == 0 && !registry && stands)
		r = set_query(m, p, e);
	return r < 0 ? r : set_auth(m, p, registry, e);
}

/* SCHEME://HOST/v2/REPOSITORY; NULL: no memory. */
static char *registry_base(const struct maker *m, const char *scheme)
{
	char *base;

	if (asprintf(&base, "%s://%s/v2/%s", scheme, m->ref->api_host, m->ref->repository) < 0)
		return NULL;
	return base;
}

/* Has the user given us what TLS needs?  Then a registry on this machine speaks it. */
static bool has_tls_files(const struct maker *m)
{
	struct credentials_tls tls = { 0 };
	bool has = m->settings->cainfo || m->settings->client_cert;

	if (!has && credentials_find_tls(m->ref->api_host, &tls, NULL) == 0)
		has = tls.ca || tls.cert;
	credentials_tls_release(&tls);
	return has;
}

/* In what order to try the schemes that the reference leaves open.  Docker tries TLS first also on
 * this machine; there plain HTTP is the rule, and a try of TLS would cost its round trips. */
static void order_schemes(const struct maker *m, const char *schemes[2])
{
	schemes[0] = "https";
	schemes[1] = NULL;
	if (m->ref->scheme == REFERENCE_HTTP) {
		schemes[0] = "http";
	} else if (m->ref->scheme == REFERENCE_DEFAULT && reference_is_local(m->ref->api_host)) {
		if (!has_tls_files(m)) {
			schemes[0] = "http";
			schemes[1] = "https";
		}
	} else if (m->ref->scheme == REFERENCE_DEFAULT && m->settings->insecure) {
		schemes[1] = "http";
	}
}

static int add_mirror(struct maker *m, const char *address, struct err *e)
{
	AUTO_FREE char *full = NULL;
	struct address a;
	char *base = NULL;
	bool stands;
	size_t n;
	int printed;

	if (strstr(address, "://"))
		full = strdup(address);
	else if (asprintf(&full, "%s://%s", reference_is_local(address) ? "http" : "https",
			  address) < 0)
		full = NULL;
	if (!full)
		return err_set(e, ENOMEM, "out of memory");
	n = strlen(full);
	while (n > 0 && full[n - 1] == '/')
		full[--n] = '\0';
	if (!address_parse(full, &a) || strpbrk(a.rest, "?#"))
		return err_set(e, EINVAL, "mirror '%s' is not an address as http://HOST[:PORT]%s",
			       strchr(full, '@') ? "(with a password)" : address,
			       "; a user and password belong into a credentials file");
	stands = *a.rest == '\0' || strncmp(a.rest, "/v2/", 4) == 0;
	if (*a.rest == '\0')
		printed = asprintf(&base, "%s/v2/%s", full, m->ref->repository);
	else if (stands)
		printed = asprintf(&base, "%s/%s", full, m->ref->repository);
	else
		printed = asprintf(&base, "%s/%s", full, m->registry);
	return add(m, printed < 0 ? NULL : base, false, stands, e);
}

static int add_all(struct maker *m, bool push, struct err *e)
{
	const char *schemes[2];
	size_t i;
	int r = 0;

	order_schemes(m, schemes);
	m->registry = registry_base(m, schemes[0]);
	if (!m->registry)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; r == 0 && !push && i < m->settings->mirror_count; i++)
		r = add_mirror(m, m->settings->mirrors[i], e);
	if (r == 0)
		r = add(m, strdup(m->registry), true, true, e);
	if (r == 0 && schemes[1]) {
		struct endpoint *last = &m->list->items[m->list->count];

		r = add(m, registry_base(m, schemes[1]), true, true, e);
		last[-1].sibling = last;
		last->sibling = last - 1;
	}
	return r;
}

int endpoint_list_open(struct http *http, const struct reference *ref,
		       const struct fetch_settings *settings, bool push, struct endpoint_list *out,
		       struct err *e)
{
	struct endpoint_list list = { 0 };
	struct maker m = { .http = http, .ref = ref, .settings = settings, .list = &list };
	AUTO_FREE char *scope = NULL;
	int r;

	if (settings->mirror_count > ENDPOINTS_MAX - 2)
		return err_set(e, EINVAL, "%zu mirrors, more than %d", settings->mirror_count,
			       ENDPOINTS_MAX - 2);
	list.items = calloc(settings->mirror_count + 2, sizeof *list.items);
	if (!list.items || asprintf(&scope, "repository:%s:%s", ref->repository,
				    push ? "pull,push" : "pull") < 0) {
		scope = NULL;
		free(list.items);
		return err_set(e, ENOMEM, "out of memory");
	}
	m.scope = scope;
	r = add_all(&m, push, e);
	free(m.registry);
	if (r < 0) {
		endpoint_list_close(&list);
		return r;
	}
	*out = list;
	return 0;
}

static void release(struct endpoint *p)
{
	auth_close(p->auth);
	while (p->guest_count > 0) {
		auth_close(p->guests[--p->guest_count].auth);
		free(p->guests[p->guest_count].origin);
	}
	credentials_tls_release(&p->tls);
	free(p->base);
	free(p->origin);
	free(p->query);
}

void endpoint_list_close(struct endpoint_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		release(&list->items[i]);
	free(list->items);
	*list = (struct endpoint_list){ 0 };
}

/* ---- where it redirects ---- */

struct auth *endpoint_guest(const struct endpoint *p, const char *url)
{
	struct address a, b;
	size_t i;

	for (i = 0; i < p->guest_count; i++)
		if (address_parse(url, &a) && address_parse(p->guests[i].origin, &b) &&
		    address_same_origin(&a, &b))
			return p->guests[i].auth;
	return NULL;
}

/* The repository of /v2/REPOSITORY/blobs/..; else the path without its last part, or all of it.
 * The caller frees it. */
static char *repository_of(const struct address *a)
{
	size_t n = strcspn(a->rest, "?#");
	AUTO_FREE char *path = strndup(a->rest, n);
	char *begin, *end;

	if (!path)
		return NULL;
	begin = strncmp(path, "/v2/", 4) == 0 ? path + 4 : path + strspn(path, "/");
	end = strstr(begin, "/blobs/");
	end = end ? end : strstr(begin, "/manifests/");
	end = end ? end : strrchr(begin, '/');
	if (end)
		*end = '\0';
	return strdup(begin);
}

struct auth *endpoint_invite(struct endpoint *p, const char *url)
{
	struct endpoint_guest *g = &p->guests[p->guest_count];
	AUTO_FREE char *origin = origin_of(url), *repository = NULL, *blobs = NULL;
	struct auth_options o = { .http = p->http, .route = &p->away, .base = origin };
	struct auth *known = endpoint_guest(p, url);
	const char *last;
	struct address a;

	if (known || p->guest_count == ENDPOINT_GUESTS_MAX || !origin || !address_parse(url, &a))
		return known;
	repository = repository_of(&a);
	last = strstr(url, "/blobs/sha");
	blobs = last ? strndup(url, (size_t)(last - url) + strlen("/blobs/")) : strdup(url);
	if (!repository || !blobs)
		return NULL;
	o.host = strstr(origin, "://") + 3;
	o.repository = repository;
	o.blobs = blobs;
	o.source = source_of(p->settings);
	/* No password goes in the clear to another machine on a redirect's word. */
	o.anonymous = !a.tls && !address_is_local(&a);
	if (auth_open(&o, &g->auth, NULL) < 0)
		return NULL;
	g->origin = TAKE_PTR(origin);
	p->guest_count++;
	return g->auth;
}

bool endpoint_quiesce(struct endpoint *p)
{
	bool quiet = auth_quiesce(p->auth) && !p->looked_up;
	size_t i;

	for (i = 0; i < p->guest_count; i++)
		quiet = auth_quiesce(p->guests[i].auth) && quiet;
	return quiet;
}

/* ---- names that are not found ---- */

static void on_name_looked_up(struct http_call *c)
{
	struct endpoint *p =
		(struct endpoint *)((char *)c - offsetof(struct endpoint, name_looked_up));

	free(p->looked_up);
	p->looked_up = NULL;
	p->no_such_name = p->found_none;
}

static void *look_up_name(void *arg)
{
	struct endpoint *p = arg;

	p->found_none = http_is_no_name(p->http, p->looked_up);
	http_post_held(p->http, &p->name_looked_up);
	return NULL;
}

void endpoint_unresolved(struct endpoint *p, const char *url)
{
	struct address a;

	if (p->looked_up || !address_parse(url, &a))
		return;
	p->looked_up = strndup(a.host, a.host_n);
	if (!p->looked_up)
		return; /* it is tried again, as if it could not be asked */
	p->found_none = false;
	p->name_looked_up.run = on_name_looked_up;
	http_hold(p->http);
	if (clock_thread_detached(look_up_name, p) != 0)
		http_post_held(p->http, &p->name_looked_up);
}

/* ---- how it fares ---- */

void endpoint_asked(struct endpoint *p, unsigned seconds)
{
	p->asked_until = max_u64(p->asked_until, clock_ms() + (uint64_t)seconds * 1000);
}

void endpoint_failed(struct endpoint *p)
{
	uint64_t now = clock_ms();

	if (now >= p->bad_until) /* once for all that fail together */
		p->left_alone =
			p->left_alone ? min_u64(2 * p->left_alone, LEFT_ALONE_MAX) : LEFT_ALONE;
	p->bad_until = now + p->left_alone;
}

void endpoint_worked(struct endpoint *p)
{
	p->left_alone = 0;
	p->bad_until = 0;
}

/* A server of TLS says 400 to plain HTTP. */
void endpoint_answered(struct endpoint *p, unsigned status)
{
	if (p->sibling && status != 400)
		p->sibling->unused = true;
}
