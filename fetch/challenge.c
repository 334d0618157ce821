/* SPDX-License-Identifier: Apache-2.0 */
/* challenge.c - reading challenges and tokens, see challenge.h.
 *
 *   #challenge          comma-separated, empty elements allowed
 *   challenge           scheme [ token68 / #( name = token-or-quoted-string ) ]
 *
 * The comma between two parameters and the one between two challenges look alike: what has a '='
 * after its first word is a parameter, what has none is the next scheme.  Whatever is neither is
 * passed over up to the next comma or blank, and a value that breaks the grammar counts as far as
 * its meaning is plain: an unquoted address, a quoted text without its end. */
#include "fetch/challenge.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/answer.h"

#define BLANKS " \t"
#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

enum {
	CHALLENGE_MAX = 16 * 1024, /* bytes of a header's value */
	TOKEN_MAX = 64 * 1024, /* bytes */
	LIFETIME_DEFAULT = 60, /* s */
	LIFETIME_MAX = 365 * 24 * 3600, /* s */
};

static size_t word_length(const char *p)
{
	return strspn(p, ALNUM "!#$%&'*+-.^_`|~");
}

static bool is_word(const char *p, size_t n, const char *word)
{
	return strlen(word) == n && strncasecmp(p, word, n) == 0;
}

/* Length of a token68 that is all that a challenge has; 0: there is none. */
static size_t token68_length(const char *p)
{
	size_t n = strspn(p, ALNUM "-._~+/"), end;

	if (n == 0)
		return 0;
	n += strspn(p + n, "=");
	end = n + strspn(p + n, BLANKS);
	return p[end] == '\0' || p[end] == ',' ? n : 0;
}

/* Copies the quoted string at p, which is at its first quote, without its escapes; *end is behind
 * it.  False: a control character is in it, which no value of ours may have. */
static bool read_quoted(const char *p, const char **end, char *out)
{
	bool clean = true;

	for (p++; *p != '"' && *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			clean = false;
		*out++ = *p;
	}
	*out = '\0';
	*end = *p == '"' ? p + 1 : p;
	return clean;
}

/* The value at *at, past which it moves, up to a comma or blank.  *out is NULL when it is none that
 * could be used; the caller frees it. */
static int read_value(const char **at, char **out, struct err *e)
{
	size_t n = strcspn(*at, BLANKS ",");
	char *text = malloc(strlen(*at) + 1);
	bool good;

	*out = NULL;
	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	if (**at == '"') {
		good = read_quoted(*at, at, text);
	} else {
		memcpy(text, *at, n);
		text[n] = '\0';
		*at += n;
		good = n > 0;
	}
	*at += strcspn(*at, BLANKS ","); /* what sticks to a closing quote */
	if (good)
		*out = text;
	else
		free(text);
	return 0;
}

/* Where a parameter of this name is kept; NULL: nowhere. */
static char **find_place(struct challenge *c, const char *name, size_t n)
{
	if (c->scheme != CHALLENGE_BEARER)
		return NULL;
	if (is_word(name, n, "realm"))
		return &c->realm;
	if (is_word(name, n, "service"))
		return &c->service;
	if (is_word(name, n, "scope"))
		return &c->scope;
	return is_word(name, n, "error") ? &c->error : NULL;
}

/* Reads parameters up to the next scheme or the end. */
static int read_parameters(const char **at, struct challenge *c, struct err *e)
{
	for (;;) {
		const char *name = *at + strspn(*at, BLANKS ",");
		size_t n = word_length(name);
		const char *value = name + n + strspn(name + n, BLANKS);
		AUTO_FREE char *text = NULL;
		char **place;
		int r;

		if (n == 0 || *value != '=')
			return 0;
		value += 1 + strspn(value + 1, BLANKS);
		r = read_value(&value, &text, e);
		if (r < 0)
			return r;
		*at = value;
		place = find_place(c, name, n);
		if (place && !*place)
			*place = TAKE_PTR(text); /* the first of a name counts */
	}
}

/* Of a realm curl may be asked to fetch: nothing but http, and no byte that needs quoting. */
static bool is_address(const char *realm)
{
	return answer_is_printable(realm) &&
	       (strncasecmp(realm, "https://", 8) == 0 || strncasecmp(realm, "http://", 7) == 0);
}

/* Reads the challenge at *at into *c, which is all zero, and moves on at least one byte.  One that
 * cannot be met is left empty. */
static int read_challenge(const char **at, struct challenge *c, struct err *e)
{
	const char *p = *at;
	size_t n = word_length(p);
	int r;

	if (n == 0 || (p[n] != '\0' && !strchr(BLANKS ",", p[n]))) {
		*at += 1 + strcspn(p + 1, BLANKS ",");
		return 0;
	}
	if (is_word(p, n, "Bearer"))
		c->scheme = CHALLENGE_BEARER;
	else if (is_word(p, n, "Basic"))
		c->scheme = CHALLENGE_BASIC;
	p += n + strspn(p + n, BLANKS);
	*at = p + token68_length(p);
	r = read_parameters(at, c, e);
	if (r == 0 && c->scheme == CHALLENGE_BEARER && (!c->realm || !is_address(c->realm)))
		challenge_release(c);
	c->basic = c->scheme == CHALLENGE_BASIC;
	return r;
}

/* Moves *c to *best when it is better; leaves *c empty. */
static void keep_better(struct challenge *best, struct challenge *c)
{
	bool basic = best->basic || c->basic;

	if (c->scheme > best->scheme) {
		challenge_release(best);
		*best = *c;
		*c = (struct challenge){ 0 };
	}
	best->basic = basic;
	challenge_release(c);
}

int challenge_parse(const char *value, struct challenge *out, struct err *e)
{
	struct challenge best = { 0 }, next = { 0 };
	const char *p = value + strspn(value, BLANKS ",");
	int r = 0;

	if (strlen(value) > CHALLENGE_MAX)
		return err_set(e, EINVAL, "WWW-Authenticate: more than 16 KiB");
	while (r == 0 && *p != '\0') {
		r = read_challenge(&p, &next, e);
		keep_better(&best, &next);
		p += strspn(p, BLANKS ",");
	}
	if (r == 0)
		keep_better(out, &best);
	challenge_release(&best);
	return r;
}

void challenge_release(struct challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	free(c->error);
	*c = (struct challenge){ 0 };
}

/* Appends a parameter to the address, which is freed when there is no memory.  `value` NULL: none.
 */
static char *add_query(char *url, const char *name, const char *value)
{
	char *quoted, *longer;

	if (!url || !value)
		return url;
	quoted = curl_easy_escape(NULL, value, 0);
	if (!quoted ||
	    asprintf(&longer, "%s%c%s=%s", url, strchr(url, '?') ? '&' : '?', name, quoted) < 0)
		longer = NULL;
	curl_free(quoted);
	free(url);
	return longer;
}

/* ---- scopes: TYPE:NAME:ACTION[,ACTION]... ---- */

/* Length of the scope at p; scopes are separated by blanks. */
static size_t scope_length(const char *p)
{
	return strcspn(p, " ");
}

/* Whether the list of n bytes holds this action. */
static bool has_action(const char *list, size_t n, const char *action, size_t action_n)
{
	const char *end = list + n, *p;
	size_t m;

	for (p = list; p < end; p += m + 1) {
		m = strcspn(p, ",");
		if (m > (size_t)(end - p))
			m = (size_t)(end - p);
		if (m == action_n && memcmp(p, action, m) == 0)
			return true;
	}
	return false;
}

/* Whether the scope of n bytes allows all that `own` asks for. */
static bool covers(const char *scope, size_t n, const char *own)
{
	const char *colon = memrchr(scope, ':', n), *own_colon = strrchr(own, ':'), *p;
	size_t head = colon ? (size_t)(colon - scope) : n, m;

	if (!colon || !own_colon || (size_t)(own_colon - own) != head ||
	    memcmp(scope, own, head) != 0)
		return strlen(own) == n && memcmp(scope, own, n) == 0;
	for (p = own_colon + 1;; p += m + 1) {
		m = strcspn(p, ",");
		if (!has_action(colon + 1, n - head - 1, p, m))
			return false;
		if (p[m] == '\0')
			return true;
	}
}

char *challenge_scopes(const struct challenge *c, const char *own)
{
	const char *theirs = c->scope ? c->scope : "", *p;
	bool covered = !own;
	char *all;

	for (p = theirs; *p != '\0'; p += scope_length(p), p += strspn(p, " "))
		covered = covered || covers(p, scope_length(p), own);
	if (asprintf(&all, "%s%s%s", theirs, *theirs && !covered ? " " : "", covered ? "" : own) <
	    0)
		return NULL;
	return all;
}

char *challenge_token_url(const struct challenge *c, const char *scopes)
{
	char *url = strndup(c->realm, strcspn(c->realm, "#"));
	const char *p = scopes ? scopes : "";

	url = add_query(url, "service", c->service);
	for (p += strspn(p, " "); url && *p != '\0'; p += strspn(p, " ")) {
		size_t n = scope_length(p);
		AUTO_FREE char *scope = strndup(p, n);

		if (!scope) {
			free(url);
			return NULL;
		}
		url = add_query(url, "scope", scope);
		p += n;
	}
	return url;
}

static unsigned read_lifetime(const json_t *answer)
{
	json_int_t seconds = json_integer_value(json_object_get(answer, "expires_in"));

	if (seconds <= 0)
		return LIFETIME_DEFAULT;
	return seconds < LIFETIME_MAX ? (unsigned)seconds : LIFETIME_MAX;
}

int challenge_parse_token(const char *text, size_t n, char **token, unsigned *lifetime,
			  struct err *e)
{
	AUTO_ANSWER json_t *answer = NULL;
	const char *found;
	char *copy;
	int r = answer_parse(text, n, ANSWER_SECRET, &answer, e);

	if (r < 0)
		return err_wrap(e, r, "token answer");
	found = answer_text(answer, "token");
	if (!found)
		found = answer_text(answer, "access_token");
	if (!found)
		return err_set(e, EINVAL, "token answer: it holds no token");
	if (strlen(found) > TOKEN_MAX)
		return err_set(e, EINVAL, "token answer: the token has more than 64 KiB");
	if (!answer_is_printable(found))
		return err_set(e, EINVAL, "token answer: the token cannot stand in a header");
	copy = strdup(found);
	if (!copy)
		return err_set(e, ENOMEM, "token answer: out of memory");
	*token = copy;
	*lifetime = read_lifetime(answer);
	return 0;
}
