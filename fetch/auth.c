/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - from a challenge to a header, see auth.h.
 *
 *   UNKNOWN --a request goes ahead--> PROBING --accepted--> OPEN (no header needed)
 *      ^                                 |                    |
 *      +------ left without answer ------+-------- 401 -------+--> a renewal --> HAVE
 *   HAVE --the header is old, run out or refused--> a renewal; one that fails leads to UNKNOWN
 *
 * A renewal is [the host's challenge] -> [a lookup of credentials] -> [a token]; `step` says which
 * of them is under way.  While it is, a header that is good still serves.
 *
 * Invariants:
 * (1) The state is PROBING exactly while `prober` is set, and prober->of is this auth: a request
 *     whose exchange runs.  However that ends, its owner tells: accepted, challenged or leave.  No
 *     renewal is under way then.
 * (2) `step` is not IDLE exactly while something is under way that calls settle() in the end: a
 *     lookup's thread, which the engine waits for, or an inquiry, which has a timer.
 * (3) Somebody waits only while (1) or (2) is so: each waiter is woken by the prober's report or by
 *     settle().
 * (4) A header that was refused (`spoiled`) or has run out is given to nobody.  Without a good one
 *     auth_ask begins a renewal, or lets one request go ahead to learn what the host wants, unless
 *     a renewal has just failed: that is a refusal, remembered for REFUSED_FOR, or a pause; both
 *     end by the clock.  While there is a pause nobody goes ahead, no renewal begins, and the state
 *     is UNKNOWN or HAVE.
 * (5) Credentials that cannot be looked up are none: that is told to those who are refused without
 *     a login, and a warning to those who are not. */
#include "fetch/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/inquiry.h"
#include "fetch/login.h"
#include "fetch/refusal.h"
#include "fetch/secret.h"

/* Of no bytes: what a helper is asked about before a blob is known. */
#define NO_BLOB "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

enum {
	REFUSED_FOR = 3000, /* ms that a refusal is remembered */
	PAUSE = 200, /* ms after a renewal that failed in another way; doubled each time... */
	PAUSE_DOUBLINGS = 5, /* ...up to 6.4 s */
	RETRY_AFTER_MAX = 60, /* s that a token service may ask for */
	DOUBTED_AFTER = 1000, /* ms: a younger header has not run out */
	STRIKES_MAX = 2, /* 401s in a row after which it is no use */
};

enum auth_state { AUTH_UNKNOWN, AUTH_PROBING, AUTH_OPEN, AUTH_HAVE };
enum auth_step { STEP_IDLE, STEP_CHALLENGE, STEP_LOOKUP, STEP_TOKEN };

struct auth {
	struct http *http;
	char *base, *host, *repository, *blobs, *scope, *user, *password;
	struct credentials_source source;
	bool anonymous;

	enum auth_state state;
	struct auth_wait *prober; /* of AUTH_PROBING */
	struct auth_wait *waiting; /* in the order of their coming */
	unsigned round; /* counts how often they were woken */
	char *header; /* of AUTH_HAVE */
	bool spoiled; /* it was refused */
	uint64_t made_at; /* ms */
	uint64_t renew_at, expires_at; /* of a token; CLOCK_NEVER: neither */
	struct challenge challenge; /* the host's last */
	struct err refusal;
	uint64_t refused_until;
	struct err trouble; /* why the last renewal failed, when it was not refused */
	uint64_t paused_until; /* no renewal before */
	unsigned failures; /* such ones in a row */

	enum auth_step step;
	bool doubted; /* the header was refused twice in a row: the same again is no use */

	/* The lookup: the thread's from start_lookup until looked_up runs. */
	struct http_call looked_up;
	struct credentials found;
	char *blob_url; /* what a helper is asked about */
	int lookup_result;
	struct err lookup_error;
	bool no_thread;

	char digest[DIGEST_ANY_TEXT]; /* of what was asked for last, "": no blob or manifest */
	struct credentials credentials; /* of the last lookup */
	bool have_credentials; /* a lookup was made; there may be none */
	bool fresh; /* they were looked up for this renewal */
	struct err fault; /* why the last lookup failed, "": it did not */
	bool warned; /* of that fault */

	struct inquiry inquiry;
};

static bool has_good_header(const struct auth *a)
{
	return a->state == AUTH_HAVE && !a->spoiled && clock_ms() < a->expires_at;
}

static void clear_secret(char **text)
{
	secret_free(*text);
	*text = NULL;
}

const char *auth_fault(const struct auth *a)
{
	return a->fault.msg;
}

bool auth_waiters_are_watched(const struct auth *a)
{
	return !a->waiting || a->prober || a->step != STEP_IDLE;
}

/* Puts why there is no login behind a text. */
static void add_fault(const struct auth *a, struct err *e)
{
	const struct err copy = *e;

	if (a->fault.msg[0] != '\0')
		err_set(e, 0, "%.480s; credentials: %.480s", copy.msg, a->fault.msg);
}

/* ---- who waits, who goes ahead ---- */

static enum auth_answer wait_for(struct auth *a, struct auth_wait *w)
{
	struct auth_wait **at = &a->waiting;

	while (*at)
		at = &(*at)->next;
	w->next = NULL;
	w->of = a;
	w->round = a->round;
	*at = w;
	return AUTH_WAIT;
}

/* Those who wait now.  Whoever is woken may take out others or wait anew. */
static void wake_all(struct auth *a, int r, const struct err *e)
{
	unsigned round = a->round++;

	while (a->waiting && a->waiting->round == round) {
		struct auth_wait *w = a->waiting;

		a->waiting = w->next;
		w->of = NULL;
		w->ready(w, r, e);
	}
}

static enum auth_answer go_ahead(struct auth *a, struct auth_wait *w)
{
	a->state = AUTH_PROBING;
	a->prober = w;
	w->of = a;
	return AUTH_GO;
}

/* There is no prober any more. */
static void end_probe(struct auth *a, enum auth_state state)
{
	if (a->prober)
		a->prober->of = NULL;
	a->prober = NULL;
	a->state = state;
}

void auth_leave(struct auth_wait *w)
{
	struct auth *a = w->of;
	struct auth_wait **at;

	if (!a)
		return;
	if (a->prober == w) {
		end_probe(a, AUTH_UNKNOWN);
		wake_all(a, 0, NULL);
		return;
	}
	w->of = NULL;
	for (at = &a->waiting; *at && *at != w; at = &(*at)->next)
		;
	if (*at)
		*at = w->next;
}

/* ---- the end of a renewal ---- */

static bool is_paused(const struct auth *a)
{
	return clock_ms() < a->paused_until;
}

static void pause_renewals(struct auth *a, const struct err *e)
{
	unsigned doublings = a->failures < PAUSE_DOUBLINGS ? a->failures : PAUSE_DOUBLINGS;

	a->trouble = *e;
	a->paused_until = max_u64(a->paused_until, clock_ms() + ((uint64_t)PAUSE << doublings));
	a->failures++;
}

/* A refusal is remembered for a while, so that many readers do not all run the helper; and a token
 * service that fails is left alone for a while, which grows. */
static void settle(struct auth *a, int r, const struct err *e)
{
	a->step = STEP_IDLE;
	if (r == 0)
		a->failures = 0;
	/* What the host said it wants may have been wrong, or have changed: it is asked again. */
	if (r < 0 && a->state == AUTH_HAVE && !has_good_header(a))
		a->state = AUTH_UNKNOWN;
	if (r == -EACCES) {
		a->refusal = *e;
		a->refused_until = clock_ms() + REFUSED_FOR;
	} else if (r < 0 && r != -ESHUTDOWN) {
		pause_renewals(a, e);
	}
	wake_all(a, r, e);
}

/* Takes over a header. */
static void settle_header(struct auth *a, char *header, uint64_t lifetime_ms)
{
	uint64_t now = clock_ms();

	clear_secret(&a->header);
	a->header = header;
	a->spoiled = false;
	a->state = AUTH_HAVE;
	a->made_at = now;
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
	int r = err_set(&e, code, "%s: %s", a->host, what);

	if (r == -EACCES)
		add_fault(a, &e);
	settle(a, r, &e);
}

/* A header that never runs out.  The same one again, when it was refused twice, is no use. */
static void settle_fixed(struct auth *a, char *header)
{
	struct err e;

	if (!header) {
		settle_failure(a, ENOMEM, "out of memory");
	} else if (a->doubted && a->spoiled && a->header && strcmp(header, a->header) == 0) {
		clear_secret(&header);
		err_set(&e, EACCES,
			"%s: user '%s' and the password are refused; check the credentials, or log "
			"in anew",
			a->host, a->credentials.user ? a->credentials.user : "(token)");
		add_fault(a, &e);
		settle(a, -EACCES, &e);
	} else {
		settle_header(a, header, CLOCK_NEVER);
	}
}

/* ---- the token service ---- */

static void start_lookup(struct auth *a);

static void take_token(struct auth *a)
{
	const struct inquiry *q = &a->inquiry;
	unsigned lifetime;
	char *token, *header;
	struct err e;
	int r = challenge_parse_token(q->text ? q->text : "", q->n, &token, &lifetime, &e);

	inquiry_cancel(&a->inquiry); /* frees the answer */
	if (r < 0) {
		settle(a, err_wrap(&e, -EIO, "%s: token service", a->host), &e);
		return;
	}
	header = login_bearer(token);
	clear_secret(&token);
	if (header)
		settle_header(a, header, (uint64_t)lifetime * 1000);
	else
		settle_failure(a, ENOMEM, "out of memory");
}

/* The answer's status in words, with the service's own; they quote nothing that we sent. */
static void explain_answer(struct auth *a, char out[REFUSAL_TEXT])
{
	AUTO_SECRET char *header = a->credentials.user ? login_basic(&a->credentials) : NULL;
	AUTO_SECRET char *token =
		a->credentials.identity_token ? login_bearer(a->credentials.identity_token) : NULL;
	struct refusal said = { 0 };
	char again[REFUSAL_TEXT];

	if (a->inquiry.text)
		refusal_take(&said, a->inquiry.text, a->inquiry.n);
	refusal_text(&said, a->inquiry.x.answer.status, header, out);
	refusal_text(&said, a->inquiry.x.answer.status, token, again);
	if (strlen(again) < strlen(out))
		memcpy(out, again, sizeof again);
	refusal_release(&said);
}

static void token_refused(struct auth *a)
{
	bool named = a->credentials.user || a->credentials.identity_token;
	char said[REFUSAL_TEXT];
	struct err e;

	explain_answer(a, said);
	inquiry_cancel(&a->inquiry);
	if (!a->fresh) {
		start_lookup(a); /* they may have changed since */
		return;
	}
	if (named && !login_realm_is_safe(a->challenge.realm, a->base))
		err_set(&e, EACCES,
			"%s: it wants a login at a token service without TLS on another machine, "
			"to which no password is sent (%s)",
			a->host, said);
	else if (named)
		err_set(&e, EACCES,
			"%s: user '%s' and the password are refused (token service: %s); check the "
			"credentials, or log in anew",
			a->host, a->credentials.user ? a->credentials.user : "(token)", said);
	else
		err_set(&e, EACCES,
			"%s: it wants a login (token service: %s) and there are no credentials; "
			"log in with 'docker login', or name a file with credentials=FILE",
			a->host, said);
	add_fault(a, &e);
	settle(a, -EACCES, &e);
}

static void token_failed(struct auth *a)
{
	const struct http_answer *answer = &a->inquiry.x.answer;
	char said[REFUSAL_TEXT];
	struct err e;

	if (answer->has_retry_after)
		a->paused_until =
			clock_ms() + min_u64(answer->retry_after, RETRY_AFTER_MAX) * (uint64_t)1000;
	explain_answer(a, said);
	inquiry_cancel(&a->inquiry);
	settle(a, err_set(&e, EIO, "%s: token service: %s", a->host, said), &e);
}

static void on_token(struct inquiry *q, int r, const struct err *why)
{
	struct auth *a = (struct auth *)((char *)q - offsetof(struct auth, inquiry));
	unsigned status = q->x.answer.status;
	struct err e;

	if (r < 0) {
		inquiry_cancel(q);
		settle(a, err_set(&e, -r, "%s: token service: %s", a->host, why->msg), &e);
	} else if (status >= 200 && status < 300) {
		take_token(a);
	} else if (status == 401 || status == 403 || status == 400) {
		token_refused(a);
	} else {
		token_failed(a);
	}
}

static void ask_for_token(struct auth *a)
{
	bool safe = login_realm_is_safe(a->challenge.realm, a->base),
	     has_form = safe && a->credentials.identity_token;
	bool named = safe && !has_form && a->credentials.user;
	AUTO_FREE char *scopes = challenge_scopes(&a->challenge, a->scope);
	char *form = has_form && scopes
			     ? login_form(&a->challenge, a->host, &a->credentials, scopes)
			     : NULL;
	char *header = named ? login_basic(&a->credentials) : NULL, *url = NULL;
	struct err e;

	if (scopes && has_form)
		url = strdup(a->challenge.realm);
	else if (scopes)
		url = challenge_token_url(&a->challenge, scopes);
	if (!url || (has_form && !form) || (named && !header)) {
		free(url);
		clear_secret(&form);
		clear_secret(&header);
		settle_failure(a, ENOMEM, "out of memory");
		return;
	}
	a->step = STEP_TOKEN;
	a->inquiry.done = on_token;
	if (inquiry_begin(&a->inquiry, url, header, form, false, &e) < 0)
		settle_failure(a, ENOMEM, "out of memory");
}

/* ---- a renewal: credentials, then what the challenge wants ---- */

static void use_credentials(struct auth *a)
{
	if (a->credentials.registry_token) {
		settle_fixed(a, login_bearer(a->credentials.registry_token));
	} else if (a->challenge.scheme == CHALLENGE_BEARER) {
		ask_for_token(a);
	} else if (a->credentials.user) {
		settle_fixed(a, login_basic(&a->credentials));
	} else {
		settle_failure(a, EACCES,
			       a->challenge.scheme == CHALLENGE_NONE
				       ? "HTTP 401 (unauthorized); it does not say how to log in, "
					 "and there are no credentials to try"
				       : "it wants a user and password, and there are none; log in "
					 "with 'docker login', or name a file with "
					 "credentials=FILE");
	}
}

/* Nothing is known of the credentials now: those of before serve on, or there are none. */
static void note_fault(struct auth *a)
{
	credentials_release(&a->found);
	if (strcmp(a->fault.msg, a->lookup_error.msg) != 0)
		a->warned = false;
	a->fault = a->lookup_error;
}

static void on_looked_up(struct http_call *c)
{
	struct auth *a = (struct auth *)((char *)c - offsetof(struct auth, looked_up));

	if (a->no_thread || a->lookup_result == -ENOMEM) {
		credentials_release(&a->found);
		settle_failure(a, a->no_thread ? EAGAIN : ENOMEM, a->lookup_error.msg);
		return;
	}
	if (a->lookup_result < 0) {
		note_fault(a);
	} else {
		a->fault.msg[0] = '\0';
		credentials_release(&a->credentials);
		a->credentials = a->found;
	}
	a->found = (struct credentials){ 0 };
	a->have_credentials = true;
	a->fresh = true;
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
	else if (!a->anonymous)
		a->lookup_result = credentials_find(&a->source, a->host, a->repository, a->blob_url,
						    &a->found, &a->lookup_error);
	http_post_held(a->http, &a->looked_up);
	return NULL;
}

static void start_lookup(struct auth *a)
{
	int code;

	free(a->blob_url);
	if (asprintf(&a->blob_url, "%s%s", a->blobs, a->digest[0] ? a->digest : NO_BLOB) < 0) {
		a->blob_url = NULL;
		settle_failure(a, ENOMEM, "out of memory");
		return;
	}
	a->step = STEP_LOOKUP;
	a->looked_up.run = on_looked_up;
	http_hold(a->http);
	code = clock_thread_detached(look_up, a);
	a->no_thread = code != 0;
	if (code == 0)
		return;
	err_set(&a->lookup_error, code, "no thread to look up credentials: %s", strerror(code));
	http_post_held(a->http, &a->looked_up);
}

/* False: no memory. */
static bool take_challenge(struct auth *a, const struct challenge *c)
{
	struct challenge copy = { .scheme = c->scheme, .basic = c->basic };

	copy.realm = c->realm ? strdup(c->realm) : NULL;
	copy.service = c->service ? strdup(c->service) : NULL;
	copy.scope = c->scope ? strdup(c->scope) : NULL;
	if ((c->realm && !copy.realm) || (c->service && !copy.service) ||
	    (c->scope && !copy.scope)) {
		challenge_release(&copy);
		return false;
	}
	challenge_release(&a->challenge);
	a->challenge = copy;
	return true;
}

/* What the registry's first address says to those who are not logged in, as docker asks it: some
 * say it there alone.  Whatever comes, or does not, credentials are looked up next. */
static void on_challenge(struct inquiry *q, int r, const struct err *e)
{
	struct auth *a = (struct auth *)((char *)q - offsetof(struct auth, inquiry));

	if (r == -ESHUTDOWN) {
		inquiry_cancel(q);
		settle(a, r, e);
		return;
	}
	if (r == 0 && q->x.answer.status == 401)
		(void)take_challenge(a, &q->x.answer.challenge); /* without memory: as if none */
	inquiry_cancel(q);
	start_lookup(a);
}

static void ask_for_challenge(struct auth *a)
{
	struct err e;
	char *url;

	if (asprintf(&url, "%s/v2/", a->base) < 0) {
		settle_failure(a, ENOMEM, "out of memory");
		return;
	}
	a->step = STEP_CHALLENGE;
	a->inquiry.done = on_challenge;
	(void)inquiry_begin(&a->inquiry, url, NULL, NULL, true, &e); /* fails with a form only */
}

/* The digest in what is asked for, if there is one: helpers are told it. */
static void note_digest(struct auth *a, const char *path)
{
	const char *at = path ? strstr(path, "sha") : NULL;
	char digest[DIGEST_ANY_TEXT];

	for (; at; at = strstr(at + strlen("sha"), "sha")) {
		snprintf(digest, sizeof digest, "%.*s", (int)strspn(at, "sha:0123456789abcdef"),
			 at);
		if (digest_is_any(digest))
			memcpy(a->digest, digest, sizeof digest);
	}
}

/* With the credentials of before where a new token is all that is wanted. */
static void renew(struct auth *a, const struct auth_wait *w, bool doubted)
{
	if (a->step != STEP_IDLE)
		return;
	a->fresh = false;
	a->doubted = doubted;
	note_digest(a, w->path);
	if (a->challenge.scheme == CHALLENGE_NONE && !a->header)
		ask_for_challenge(a);
	else if (a->have_credentials && !doubted && a->challenge.scheme == CHALLENGE_BEARER)
		use_credentials(a);
	else
		start_lookup(a);
}

/* ---- what requests ask and report ---- */

static enum auth_answer say_refused(const struct auth *a, struct err *e)
{
	err_set(e, EACCES, "%s", a->refusal.msg);
	return AUTH_REFUSED;
}

uint64_t auth_rests_until(const struct auth *a)
{
	uint64_t now = clock_ms();

	if (now < a->refused_until)
		return a->refused_until;
	return is_paused(a) && !has_good_header(a) ? a->paused_until : 0;
}

static enum auth_answer say_paused(const struct auth *a, struct err *e)
{
	err_set(e, EIO, "%s", a->trouble.msg);
	return AUTH_PAUSED;
}

enum auth_answer auth_ask(struct auth *a, struct auth_wait *w, const char **header, struct err *e)
{
	*header = NULL;
	if (clock_ms() < a->refused_until)
		return say_refused(a, e);
	if (a->state == AUTH_OPEN)
		return AUTH_GO;
	if (a->state == AUTH_PROBING)
		return wait_for(a, w);
	if (a->state == AUTH_HAVE && !is_paused(a) &&
	    (!has_good_header(a) || clock_ms() >= a->renew_at))
		renew(a, w, false);
	if (has_good_header(a)) {
		*header = a->header;
		return AUTH_GO;
	}
	if (a->step != STEP_IDLE)
		return wait_for(a, w);
	if (is_paused(a)) /* or the renewal ended at once, for lack of memory */
		return say_paused(a, e);
	/* Nothing is known; or a pause has ended since the beginning of this call, and its answer
	 * will tell. */
	return go_ahead(a, w);
}

void auth_accepted(struct auth *a, struct auth_wait *w, unsigned status)
{
	if (a->prober == w) {
		end_probe(a, AUTH_OPEN);
		wake_all(a, 0, NULL);
	}
	if (a->fault.msg[0] == '\0' || a->warned || status < 200 || status >= 400)
		return;
	a->warned = true;
	log_warn("%s: credentials: %s; going on %s", a->host, a->fault.msg,
		 a->credentials.user ? "with those of before" : "without a login");
}

static bool is_current(const struct auth *a, const char *header)
{
	return a->header && header && strcmp(a->header, header) == 0;
}

static int say_unauthorized(const struct auth *a, const char *header, struct err *e)
{
	err_set(e, EACCES, "%s: HTTP 401 (unauthorized)%s%s%s", a->host,
		header	       ? " for this repository"
		: a->anonymous ? ""
			       : ", and it does not say how to log in",
		header && a->credentials.user ? ", as user " : "",
		header && a->credentials.user ? a->credentials.user : "");
	add_fault(a, e);
	return -EACCES;
}

/* Where both ways were offered and the token of one was refused, the other one is tried. */
static bool choose_challenge(struct auth *a, const struct challenge *c, const char *header,
			     unsigned strike)
{
	static const char bearer[] = "Bearer ";
	const struct challenge basic = { .scheme = CHALLENGE_BASIC, .basic = true };

	if (strike > 0 && c->scheme == CHALLENGE_BEARER && c->basic && a->credentials.user &&
	    header && strncmp(header, bearer, strlen(bearer)) == 0)
		return take_challenge(a, &basic);
	/* One that says nothing we know leaves what was said before. */
	return c->scheme == CHALLENGE_NONE || take_challenge(a, c);
}

int auth_challenged(struct auth *a, struct auth_wait *w, const struct challenge *c,
		    const char *header, unsigned strike, struct err *e)
{
	bool silent = c->scheme == CHALLENGE_NONE && a->challenge.scheme == CHALLENGE_NONE;

	/* It needed none until now: a passing disorder, unless it insists. */
	if (a->state == AUTH_OPEN && strike == 0)
		return 0;
	if (strike >= STRIKES_MAX) {
		auth_leave(w);
		return say_unauthorized(a, header, e);
	}
	if (silent && strike == 0 && a->prober == w) {
		end_probe(a, AUTH_OPEN);
		wake_all(a, 0, NULL);
		return 0;
	}
	if (a->state == AUTH_HAVE && !is_current(a, header))
		return 0; /* it was sent before the header was made */
	a->spoiled = a->state == AUTH_HAVE;
	if (a->step != STEP_IDLE)
		return 0;
	if (is_paused(a))
		return 0; /* it will be told to wait, as all are; nobody goes ahead now */
	if (!choose_challenge(a, c, header, strike)) {
		auth_leave(w);
		return err_set(e, ENOMEM, "%s: out of memory", a->host);
	}
	end_probe(a, a->state == AUTH_HAVE ? AUTH_HAVE : AUTH_UNKNOWN);
	renew(a, w, strike > 0);
	return 0;
}

int auth_doubted(struct auth *a, struct auth_wait *w, const char *header)
{
	if (a->state != AUTH_HAVE)
		return -EACCES;
	if (!is_current(a, header) || clock_ms() < a->made_at + DOUBTED_AFTER || is_paused(a))
		return 0;
	/* A token may have run out; a password may have changed, but serves until it has. */
	a->spoiled = a->challenge.scheme == CHALLENGE_BEARER && !a->credentials.registry_token;
	renew(a, w, a->spoiled);
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
	a->http = a->inquiry.http = o->http;
	a->inquiry.route = o->route;
	a->source = o->source;
	a->anonymous = o->anonymous;
	if (!copy_text(&a->base, o->base) || !copy_text(&a->host, o->host) ||
	    !copy_text(&a->repository, o->repository) || !copy_text(&a->blobs, o->blobs) ||
	    !copy_text(&a->scope, o->scope) || !copy_text(&a->user, o->user) ||
	    !copy_text(&a->password, o->password)) {
		auth_close(a);
		return err_set(e, ENOMEM, "out of memory");
	}
	*out = a;
	return 0;
}

bool auth_quiesce(struct auth *a)
{
	if (a->step == STEP_LOOKUP)
		return false;
	inquiry_cancel(&a->inquiry);
	a->step = STEP_IDLE;
	return true;
}

void auth_close(struct auth *a)
{
	if (!a)
		return;
	challenge_release(&a->challenge);
	credentials_release(&a->credentials);
	clear_secret(&a->header);
	clear_secret(&a->password);
	free(a->base);
	free(a->host);
	free(a->repository);
	free(a->blobs);
	free(a->blob_url);
	free(a->scope);
	free(a->user);
	free(a);
}
