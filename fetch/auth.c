/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - from a challenge to a header, see auth.h.
 *
 *   UNKNOWN --a request goes ahead--> PROBING --accepted--> OPEN (no header needed)
 *      ^                                 |
 *      +---------- lost -----------------+--challenged--> lookup -> [token] -> HAVE
 *   HAVE --old or challenged--> lookup or token again, the old header serving meanwhile
 *
 * One renewal at a time: `renewing` is set from its beginning to settle(). */
#include "fetch/auth.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "fetch/credentials.h"
#include "fetch/reference.h"
#include "fetch/secret.h"

enum {
	TOKEN_MAX = 1024 * 1024, /* bytes of the token service's answer */
	REFUSED_FOR = 3000, /* ms that a refusal is remembered */
	PAUSE = 200, /* ms after a renewal that failed in another way; doubled each time... */
	PAUSE_DOUBLINGS = 5, /* ...up to 6.4 s */
};

enum auth_state { AUTH_UNKNOWN, AUTH_PROBING, AUTH_OPEN, AUTH_HAVE };

struct auth {
	struct http *http;
	const struct http_route *route;
	char *base, *host, *repository, *blob_url, *scope, *source, *user, *password;

	enum auth_state state;
	char *header; /* of AUTH_HAVE */
	uint64_t renew_at, expires_at; /* of a token; CLOCK_NEVER: neither */
	struct auth_wait *waiting;
	struct challenge challenge; /* the host's last */
	struct err refusal;
	uint64_t refused_until;
	struct err trouble; /* why the last renewal failed, when it was not refused */
	uint64_t paused_until; /* no renewal before */
	unsigned failures; /* such ones in a row */
	bool renewing;

	/* The lookup: the thread's from start_lookup until looked_up runs. */
	struct http_call looked_up;
	struct credentials found;
	int lookup_result;
	struct err lookup_error;

	struct credentials credentials; /* of the last lookup */
	bool have_credentials; /* a lookup was made; there may be none */
	bool fresh; /* they were looked up for this renewal */
	bool looking_up; /* the thread runs, or its call is pending */
	bool doubted; /* the renewal is one for credentials that were refused twice */

	/* The token service. */
	struct http_exchange token;
	struct http_route token_route;
	char *token_url, *token_header;
	char *answer, *form;
	size_t answered;
	struct source *form_source;
};

static void clear_secret(char **text)
{
	secret_free(*text);
	*text = NULL;
}

/* ---- the end of a renewal ---- */

static void wake_all(struct auth *a, int r, const struct err *e)
{
	struct auth_wait *w = a->waiting;

	a->waiting = NULL;
	while (w) {
		struct auth_wait *next = w->next;

		w->ready(w, r, e);
		w = next;
	}
}

static bool is_paused(const struct auth *a)
{
	return clock_ms() < a->paused_until;
}

static void pause_renewals(struct auth *a, const struct err *e)
{
	unsigned doublings = a->failures < PAUSE_DOUBLINGS ? a->failures : PAUSE_DOUBLINGS;

	a->trouble = *e;
	a->paused_until = clock_ms() + ((uint64_t)PAUSE << doublings);
	a->failures++;
}

/* A refusal is remembered for a while, so that many readers do not all run the helper; and a token
 * service that fails is left alone for a while, which grows. */
static void settle(struct auth *a, int r, const struct err *e)
{
	a->renewing = false;
	a->fresh = false;
	if (r == 0)
		a->failures = 0;
	if (r == -EACCES) {
		a->refusal = *e;
		a->refused_until = clock_ms() + REFUSED_FOR;
	} else if (r < 0 && r != -ESHUTDOWN) {
		pause_renewals(a, e);
	}
	if (r < 0 && a->state == AUTH_PROBING)
		a->state = AUTH_UNKNOWN;
	wake_all(a, r, e);
}

/* Takes over a header. */
static void settle_header(struct auth *a, char *header, uint64_t lifetime_ms)
{
	uint64_t now = clock_ms();

	clear_secret(&a->header);
	a->header = header;
	a->state = AUTH_HAVE;
	a->renew_at = a->expires_at = CLOCK_NEVER;
	if (lifetime_ms != CLOCK_NEVER) {
		a->renew_at = now + lifetime_ms / 4 * 3;
		a->expires_at = now + lifetime_ms;
	}
	settle(a, 0, NULL);
}

static void settle_failure(struct auth *a, int code, const char *what)
{
	struct err e;

	settle(a, err_set(&e, code, "%s: %s", a->host, what), &e);
}

static void settle_bearer(struct auth *a, const char *token, uint64_t lifetime_ms)
{
	char *header;

	if (asprintf(&header, "Bearer %s", token) < 0)
		settle_failure(a, ENOMEM, "out of memory");
	else
		settle_header(a, header, lifetime_ms);
}

/* "Basic " and base64 of user:password; NULL: no memory. */
static char *basic_header(const struct credentials *c)
{
	char *plain, *header = NULL;
	int n = asprintf(&plain, "%s:%s", c->user, c->password);

	if (n < 0)
		return NULL;
	header = malloc(sizeof "Basic " + ((size_t)n + 2) / 3 * 4 + 1);
	if (header) {
		memcpy(header, "Basic ", 6);
		EVP_EncodeBlock((unsigned char *)header + 6, (const unsigned char *)plain, n);
	}
	clear_secret(&plain);
	return header;
}

/* ---- the token service ---- */

static void start_lookup(struct auth *a);

static bool both_local(const char *host, size_t n, const char *other)
{
	AUTO_FREE char *name = strndup(host, n);

	return name && reference_is_local(name) && reference_is_local(other);
}

/* Credentials may go to the realm that the host named when nobody can listen: over TLS, or in the
 * clear to the machine to which the host's own traffic goes in the clear. */
static bool realm_is_safe(const struct auth *a)
{
	const char *realm = a->challenge.realm, *host;
	size_t n;

	if (strncasecmp(realm, "https://", 8) == 0)
		return true;
	if (strncasecmp(realm, "http://", 7) != 0 || strncmp(a->base, "http://", 7) != 0)
		return false;
	host = realm + 7;
	n = strcspn(host, ":/?#");
	if (memchr(host, '@', strcspn(host, "/?#")))
		return false; /* what stands before it is no host */
	if (n > 0 && strncasecmp(host, a->base + 7, n) == 0 && strchr(":/", a->base[7 + n]))
		return true; /* strchr also finds the end */
	return both_local(host, n, a->base + 7);
}

static int take_token_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct auth *a = (struct auth *)((char *)x - offsetof(struct auth, token));
	char *more;

	if (n > TOKEN_MAX - a->answered)
		return err_set(e, EPROTO, "token service: more than %d bytes", TOKEN_MAX);
	more = realloc(a->answer, a->answered + n + 1);
	if (!more)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(more + a->answered, buf, n);
	a->answer = more;
	a->answered += n;
	return 0;
}

/* Frees what asking for a token needed. */
static void clear_token(struct auth *a)
{
	http_answer_release(&a->token.answer);
	source_close(a->form_source);
	a->form_source = NULL;
	clear_secret(&a->form);
	clear_secret(&a->token_header);
	free(a->token_url);
	a->token_url = NULL;
	if (a->answer)
		explicit_bzero(a->answer, a->answered);
	free(a->answer);
	a->answer = NULL;
	a->answered = 0;
}

static void take_token(struct auth *a)
{
	unsigned lifetime;
	char *token;
	struct err e;
	int r = challenge_parse_token(a->answer ? a->answer : "", a->answered, &token, &lifetime,
				      &e);

	clear_token(a);
	if (r < 0) {
		settle(a, err_wrap(&e, -EIO, "%s: token service", a->host), &e);
		return;
	}
	settle_bearer(a, token, (uint64_t)lifetime * 1000);
	clear_secret(&token);
}

static void token_refused(struct auth *a, unsigned status)
{
	bool named = a->credentials.user || a->credentials.identity_token;
	struct err e;

	clear_token(a);
	if (!a->fresh) {
		start_lookup(a); /* they may have changed since */
		return;
	}
	if (named && !realm_is_safe(a))
		err_set(&e, EACCES,
			"%s: it wants a login at a token service without TLS on another machine, "
			"to which no password is sent (HTTP %u)",
			a->host, status);
	else if (named)
		err_set(&e, EACCES,
			"%s: user '%s' and the password are refused (token service: HTTP %u); "
			"check the credentials, or log in anew",
			a->host, a->credentials.user ? a->credentials.user : "(token)", status);
	else
		err_set(&e, EACCES,
			"%s: it wants a login (token service: HTTP %u) and there are no "
			"credentials; "
			"log in with 'docker login', or name a file with credentials=FILE",
			a->host, status);
	settle(a, -EACCES, &e);
}

static void token_done(struct http_exchange *x, int r, const struct err *why)
{
	struct auth *a = (struct auth *)((char *)x - offsetof(struct auth, token));
	unsigned status = x->answer.status;
	struct err e;

	if (r < 0) {
		clear_token(a);
		settle(a, err_set(&e, -r, "%s: token service: %s", a->host, why->msg), &e);
	} else if (status == 200) {
		take_token(a);
	} else if (status == 401 || status == 403 || status == 400) {
		token_refused(a, status);
	} else {
		clear_token(a);
		settle(a, err_set(&e, EIO, "%s: token service: HTTP %u", a->host, status), &e);
	}
}

static bool add_field(struct auth *a, const char *name, const char *value)
{
	AUTO_FREE char *old = a->form;
	char *escaped = curl_easy_escape(NULL, value, 0);

	if (!escaped ||
	    asprintf(&a->form, "%s%s%s=%s", old ? old : "", old ? "&" : "", name, escaped) < 0)
		a->form = NULL;
	if (old)
		explicit_bzero(old, strlen(old));
	curl_free(escaped);
	return a->form != NULL;
}

/* An identity token goes by OAuth2's form; the realm's address then has no query of ours. */
static int set_form(struct auth *a, struct err *e)
{
	const char *service = a->challenge.service ? a->challenge.service : a->host;
	const char *scope = a->scope ? a->scope : a->challenge.scope;

	a->token_url = strdup(a->challenge.realm);
	if (!a->token_url || !add_field(a, "grant_type", "refresh_token") ||
	    !add_field(a, "service", service) || !add_field(a, "scope", scope ? scope : "") ||
	    !add_field(a, "client_id", "nbdkit-overlaybd") ||
	    !add_field(a, "refresh_token", a->credentials.identity_token))
		return err_set(e, ENOMEM, "%s: out of memory", a->host);
	return source_open_memory(a->form, strlen(a->form), &a->form_source, e);
}

static int set_query(struct auth *a, bool safe, struct err *e)
{
	a->token_url = challenge_token_url(&a->challenge, a->scope);
	if (safe && a->credentials.user)
		a->token_header = basic_header(&a->credentials);
	if (!a->token_url || (safe && a->credentials.user && !a->token_header))
		return err_set(e, ENOMEM, "%s: out of memory", a->host);
	return 0;
}

static void ask_for_token(struct auth *a)
{
	bool safe = realm_is_safe(a), form = safe && a->credentials.identity_token;
	struct err e;
	int r;

	clear_token(a);
	r = form ? set_form(a, &e) : set_query(a, safe, &e);
	if (r < 0) {
		clear_token(a);
		settle(a, r, &e);
		return;
	}
	/* A client certificate is for the host alone. */
	a->token_route = *a->route;
	a->token_route.cert = a->token_route.key = NULL;
	a->token_route.unix_socket = NULL;
	a->token = (struct http_exchange){
		.route = &a->token_route,
		.method = form ? "POST" : "GET",
		.url = a->token_url,
		.authorization = a->token_header,
		.accept = "application/json",
		.content_type = form ? "application/x-www-form-urlencoded" : NULL,
		.body = a->form_source,
		.bytes = take_token_bytes,
		.done = token_done,
	};
	http_begin(a->http, &a->token);
}

/* ---- a renewal: credentials, then what the challenge wants ---- */

static void use_basic(struct auth *a)
{
	char *header;

	if (!a->credentials.user) {
		settle_failure(a, EACCES,
			       "it wants a user and password, and there are none; log in with "
			       "'docker login', or name a file with credentials=FILE");
		return;
	}
	header = basic_header(&a->credentials);
	if (!header)
		settle_failure(a, ENOMEM, "out of memory");
	else
		settle_header(a, header, CLOCK_NEVER);
}

static void use_credentials(struct auth *a)
{
	if (a->credentials.registry_token)
		settle_bearer(a, a->credentials.registry_token, CLOCK_NEVER);
	else if (a->challenge.scheme == CHALLENGE_BEARER)
		ask_for_token(a);
	else
		use_basic(a);
}

static void refuse_unchanged(struct auth *a)
{
	struct err e;

	err_set(&e, EACCES,
		"%s: user '%s' and the password are refused; check the credentials, or log in anew",
		a->host, a->credentials.user ? a->credentials.user : "(token)");
	settle(a, -EACCES, &e);
}

static void on_looked_up(struct http_call *c)
{
	struct auth *a = (struct auth *)((char *)c - offsetof(struct auth, looked_up));
	bool changed = !a->have_credentials || !credentials_equal(&a->found, &a->credentials);
	bool refused = a->doubted && !changed;
	struct err e = a->lookup_error;

	a->looking_up = false;
	if (a->lookup_result < 0) {
		credentials_release(&a->found);
		settle(a, err_wrap(&e, -EACCES, "%s: credentials", a->host), &e);
		return;
	}
	credentials_release(&a->credentials);
	a->credentials = a->found;
	a->found = (struct credentials){ 0 };
	a->have_credentials = true;
	a->fresh = true;
	/* A token can be had again for the same credentials, but not they themselves. */
	if (refused && (a->challenge.scheme == CHALLENGE_BASIC || a->credentials.registry_token))
		refuse_unchanged(a);
	else
		use_credentials(a);
}

static void find_given(struct auth *a)
{
	a->found.user = strdup(a->user);
	a->found.password = strdup(a->password);
	a->lookup_result = a->found.user && a->found.password
				   ? 0
				   : err_set(&a->lookup_error, ENOMEM, "out of memory");
}

static void *look_up(void *arg)
{
	struct auth *a = arg;

	if (a->user && a->password)
		find_given(a);
	else
		a->lookup_result = credentials_find(a->source, a->host, a->repository, a->blob_url,
						    &a->found, &a->lookup_error);
	http_post_held(a->http, &a->looked_up);
	return NULL;
}

static void start_lookup(struct auth *a)
{
	int code;

	a->looked_up.run = on_looked_up;
	a->found = (struct credentials){ 0 };
	a->looking_up = true;
	http_hold(a->http);
	code = clock_thread_detached(look_up, a);
	if (code == 0)
		return;
	a->lookup_result = err_set(&a->lookup_error, code, "no thread: %s", strerror(code));
	http_post_held(a->http, &a->looked_up);
}

/* With the credentials of before where a new token is all that is wanted. */
static void renew(struct auth *a, bool doubted)
{
	if (a->renewing)
		return;
	a->renewing = true;
	a->fresh = false;
	a->doubted = doubted;
	if (a->have_credentials && !doubted && a->challenge.scheme == CHALLENGE_BEARER)
		use_credentials(a);
	else
		start_lookup(a);
}

/* ---- what requests ask and report ---- */

static enum auth_answer wait_for(struct auth *a, struct auth_wait *w)
{
	w->next = a->waiting;
	a->waiting = w;
	return AUTH_WAIT;
}

static enum auth_answer say_paused(const struct auth *a, struct err *e)
{
	err_set(e, EIO, "%s", a->trouble.msg);
	return AUTH_PAUSED;
}

enum auth_answer auth_ask(struct auth *a, struct auth_wait *w, const char **header, struct err *e)
{
	uint64_t now = clock_ms();

	*header = NULL;
	if (now < a->refused_until) {
		err_set(e, EACCES, "%s", a->refusal.msg);
		return AUTH_REFUSED;
	}
	switch (a->state) {
	case AUTH_OPEN:
		return a->renewing ? wait_for(a, w) : AUTH_GO;
	case AUTH_PROBING:
		return wait_for(a, w);
	case AUTH_UNKNOWN:
		if (a->renewing)
			return wait_for(a, w);
		if (is_paused(a))
			return say_paused(a, e);
		a->state = AUTH_PROBING;
		return AUTH_GO;
	case AUTH_HAVE:
		break;
	}
	if (now >= a->renew_at && !is_paused(a))
		renew(a, false);
	if (!a->header || now >= a->expires_at)
		return a->renewing ? wait_for(a, w) : say_paused(a, e);
	*header = a->header;
	return AUTH_GO;
}

void auth_leave(struct auth *a, struct auth_wait *w)
{
	struct auth_wait **at = &a->waiting;

	while (*at && *at != w)
		at = &(*at)->next;
	if (*at)
		*at = w->next;
}

void auth_accepted(struct auth *a)
{
	if (a->state != AUTH_PROBING || a->renewing)
		return;
	a->state = AUTH_OPEN;
	wake_all(a, 0, NULL);
}

void auth_lost(struct auth *a)
{
	if (a->state != AUTH_PROBING || a->renewing)
		return;
	a->state = AUTH_UNKNOWN;
	wake_all(a, 0, NULL);
}

static bool is_current(const struct auth *a, const char *header)
{
	return a->header && header && strcmp(a->header, header) == 0;
}

static int take_challenge(struct auth *a, const struct challenge *c, struct err *e)
{
	struct challenge copy = { .scheme = c->scheme };

	copy.realm = c->realm ? strdup(c->realm) : NULL;
	copy.service = c->service ? strdup(c->service) : NULL;
	copy.scope = c->scope ? strdup(c->scope) : NULL;
	if ((c->realm && !copy.realm) || (c->service && !copy.service) ||
	    (c->scope && !copy.scope)) {
		challenge_release(&copy);
		return err_set(e, ENOMEM, "%s: out of memory", a->host);
	}
	challenge_release(&a->challenge);
	a->challenge = copy;
	return 0;
}

int auth_challenged(struct auth *a, const struct challenge *c, const char *header, unsigned strike,
		    struct err *e)
{
	/* It needed none until now: a passing disorder, unless it insists. */
	if (a->state == AUTH_OPEN && strike == 0)
		return 0;
	if (strike >= 2 || (c->scheme == CHALLENGE_NONE && strike > 0)) {
		auth_lost(a); /* were it the one that went ahead, the others would wait for ever */
		return err_set(e, EACCES, "%s: HTTP 401, unauthorized%s", a->host,
			       header ? ", for this repository"
				      : " (and it does not say how to log in)");
	}
	if (c->scheme == CHALLENGE_NONE) {
		auth_accepted(a);
		return 0;
	}
	if (header && a->header && !is_current(a, header))
		return 0; /* an old one was refused */
	a->expires_at = 0; /* nobody is to use it, also while a renewal is under way */
	if (a->renewing)
		return 0;
	if (is_paused(a) && a->state != AUTH_OPEN) {
		auth_lost(a); /* it will be told to wait, as all are */
		return 0;
	}
	if (take_challenge(a, c, e) < 0) {
		auth_lost(a);
		return -ENOMEM;
	}
	if (a->state == AUTH_OPEN || a->state == AUTH_UNKNOWN)
		a->state = AUTH_PROBING;
	renew(a, strike > 0);
	return 0;
}

int auth_doubted(struct auth *a, const char *header)
{
	if (a->state != AUTH_HAVE)
		return -EACCES;
	if (!is_current(a, header))
		return 0;
	a->expires_at = 0;
	if (!is_paused(a))
		renew(a, true);
	return 0;
}

/* ---- all of it ---- */

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

int auth_open(const struct auth_options *o, struct auth **out, struct err *e)
{
	struct auth *a = calloc(1, sizeof *a);

	if (!a)
		return err_set(e, ENOMEM, "out of memory");
	a->http = o->http;
	a->route = o->route;
	if (!copy_text(&a->base, o->base) || !copy_text(&a->host, o->host) ||
	    !copy_text(&a->repository, o->repository) || !copy_text(&a->blob_url, o->blob_url) ||
	    !copy_text(&a->scope, o->scope) || !copy_text(&a->source, o->source) ||
	    !copy_text(&a->user, o->user) || !copy_text(&a->password, o->password)) {
		auth_close(a);
		return err_set(e, ENOMEM, "out of memory");
	}
	*out = a;
	return 0;
}

bool auth_quiesce(struct auth *a)
{
	if (a->looking_up)
		return false;
	if (a->renewing) {
		http_cancel(&a->token);
		clear_token(a);
		a->renewing = false;
	}
	return true;
}

void auth_close(struct auth *a)
{
	if (!a)
		return;
	clear_token(a);
	challenge_release(&a->challenge);
	credentials_release(&a->credentials);
	clear_secret(&a->header);
	clear_secret(&a->password);
	free(a->base);
	free(a->host);
	free(a->repository);
	free(a->blob_url);
	free(a->scope);
	free(a->source);
	free(a->user);
	free(a);
}
