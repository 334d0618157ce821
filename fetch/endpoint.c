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

enum {
	LEFT_ALONE = 250, /* ms after the first failure */
	LEFT_ALONE_MAX = 30 * 1000,
};

char *endpoint_origin_of(const char *url)
{
	size_t scheme;

	if (strncasecmp(url, "http://", 7) == 0)
		scheme = 7;
	else if (strncasecmp(url, "https://", 8) == 0)
		scheme = 8;
	else
		return NULL;
	if (strchr("/?#", url[scheme])) /* the end as well */
		return NULL;
	return strndup(url, scheme + strcspn(url + scheme, "/?#"));
}

static bool is_plain(const char *url)
{
	return strncasecmp(url, "http:", 5) == 0;
}

char *endpoint_resolve(const struct endpoint *p, const char *base, const char *location)
{
	char *url = NULL, *copy = NULL;
	CURLU *u = curl_url();

	if (u && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK &&
	    (strncmp(url, "https://", 8) == 0 ||
	     (strncmp(url, "http://", 7) == 0 && (is_plain(base) || p->route.unchecked))))
		copy = strdup(url);
	curl_free(url);
	curl_url_cleanup(u);
	return copy;
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

/* The user and password of the settings are the registry's. */
static int set_auth(const struct maker *m, struct endpoint *p, bool registry, struct err *e)
{
	AUTO_FREE char *blob_url = NULL;
	struct auth_options o = {
		.http = m->http,
		.route = &p->route,
		.base = p->origin,
		.host = registry ? m->ref->host : p->name,
		.repository = m->ref->repository,
		.scope = registry ? m->scope : NULL,
		.source = m->settings->credentials,
		.user = registry ? m->settings->user : NULL,
		.password = registry ? m->settings->password : NULL,
	};

	if (asprintf(&blob_url, "%s/blobs/", p->base) < 0) {
		blob_url = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	o.blob_url = blob_url;
	return auth_open(&o, &p->auth, e);
}

/* Takes over `base`, which may be NULL: no memory. */
static int add(struct maker *m, char *base, bool registry, struct err *e)
{
	struct endpoint *p = &m->list->items[m->list->count++];
	int r;

	p->base = base;
	p->origin = base ? endpoint_origin_of(base) : NULL;
	if (!p->origin)
		return err_set(e, ENOMEM, "out of memory");
	p->name = strstr(p->origin, "://") + 3;
	if (strncasecmp(p->origin, "http://", 7) == 0 && !reference_is_local(p->name) && registry &&
	    !m->settings->insecure)
		return err_set(e, EINVAL, "%s: plain HTTP to another machine needs insecure=true",
			       p->name);
	r = set_route(m, p, e);
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
	AUTO_FREE char *origin = NULL;
	const char *path;
	char *base = NULL;
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
	origin = endpoint_origin_of(full);
	if (!origin || strchr(full, '?') || strchr(full, '#') || strchr(origin, '@'))
		return err_set(e, EINVAL, "mirror '%s' is not an address as http://HOST[:PORT]%s",
			       origin && strchr(origin, '@') ? "(with a password)" : address,
			       "; a user and password belong into a credentials file");
	path = full + strlen(origin);
	if (path[0] == '\0')
		printed = asprintf(&base, "%s/v2/%s", origin, m->ref->repository);
	else if (strncmp(path, "/v2/", 4) == 0)
		printed = asprintf(&base, "%s/%s", full, m->ref->repository);
	else
		printed = asprintf(&base, "%s/%s", full, m->registry);
	return add(m, printed < 0 ? NULL : base, false, e);
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
		r = add(m, strdup(m->registry), true, e);
	if (r == 0 && schemes[1]) {
		struct endpoint *last = &m->list->items[m->list->count];

		r = add(m, registry_base(m, schemes[1]), true, e);
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

void endpoint_list_close(struct endpoint_list *list)
{
	size_t i;

	for (i = 0; i < list->count; i++) {
		auth_close(list->items[i].auth);
		credentials_tls_release(&list->items[i].tls);
		free(list->items[i].base);
		free(list->items[i].origin);
	}
	free(list->items);
	*list = (struct endpoint_list){ 0 };
}

void endpoint_asked(struct endpoint *p, unsigned seconds)
{
	p->asked_until = max_u64(p->asked_until, clock_ms() + (uint64_t)seconds * 1000);
}

void endpoint_failed(struct endpoint *p)
{
	uint64_t now = clock_ms(), wait = LEFT_ALONE;

	if (now >= p->bad_until && p->failures < 16)
		p->failures++; /* once for all that fail together */
	if (p->failures > 1)
		wait <<= p->failures - 1;
	wait = min_u64(wait, LEFT_ALONE_MAX);
	p->bad_until = max_u64(p->bad_until, now + wait);
}

void endpoint_worked(struct endpoint *p)
{
	p->failures = 0;
	p->bad_until = 0;
}

/* A server of TLS says 400 to plain HTTP. */
void endpoint_answered(struct endpoint *p, unsigned status)
{
	if (p->sibling && status != 400)
		p->sibling->unused = true;
}
