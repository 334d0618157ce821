/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-challenge.c - any text as a WWW-Authenticate header (first byte even) or as a token
 * service's answer (odd).
 *
 * Properties: Bearer has a realm that is a plain http address, and a token address made of it is
 * one too, whatever the other values; other schemes keep nothing; the same header twice changes
 * nothing.  A token can stand in a header, and lives for a while.  Refused is EINVAL with a
 * message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/answer.h"
#include "fetch/challenge.h"
#include "tests/fuzz/fuzz.h"

static void check_url(const struct challenge *c)
{
	size_t n = strcspn(c->realm, "#");
	char *scopes = challenge_scopes(c, "repository:a:pull");
	char *url = scopes ? challenge_token_url(c, scopes) : NULL;

	FUZZ_CHECK(url && answer_is_printable(url));
	FUZZ_CHECK(strncmp(url, c->realm, n) == 0 && strstr(url, "scope="));
	FUZZ_CHECK(c->scope || strcmp(scopes, "repository:a:pull") == 0);
	FUZZ_CHECK(!c->scope || strncmp(scopes, c->scope, strlen(c->scope)) == 0);
	free(scopes);
	free(url);
}

static void as_header(const char *text)
{
	struct challenge c = { 0 }, before;
	struct err e = { "" };
	int r = challenge_parse(text, &c, &e);

	if (r == 0 && c.scheme == CHALLENGE_BEARER) {
		FUZZ_CHECK(answer_is_printable(c.realm) && strncasecmp(c.realm, "http", 4) == 0);
		check_url(&c);
	} else {
		FUZZ_CHECK(!c.realm && !c.service && !c.scope && !c.error);
		FUZZ_CHECK(r == 0 || (r == -EINVAL && c.scheme == CHALLENGE_NONE));
		FUZZ_CHECK(r == 0 || strncmp(e.msg, "WWW-Authenticate: ", 18) == 0);
	}
	before = c;
	FUZZ_CHECK(challenge_parse(text, &c, NULL) == r);
	FUZZ_CHECK(before.scheme == c.scheme && before.basic == c.basic);
	FUZZ_CHECK(before.realm == c.realm && before.scope == c.scope);
	challenge_release(&c);
}

static void as_token(const char *text, size_t n)
{
	char *token = NULL;
	unsigned lifetime = 0;
	struct err e = { "" };
	int r = challenge_parse_token(text, n, &token, &lifetime, &e);

	if (r == 0) {
		FUZZ_CHECK(answer_is_printable(token) && lifetime > 0);
	} else {
		FUZZ_CHECK(r == -EINVAL && !token);
		FUZZ_CHECK(strncmp(e.msg, "token answer: ", 14) == 0);
	}
	free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text;

	if (n == 0)
		return 0;
	text = calloc(1, n);
	FUZZ_CHECK(text);
	memcpy(text, bytes + 1, n - 1);
	if (bytes[0] % 2 == 0)
		as_header(text);
	else
		as_token(text, n - 1);
	free(text);
	return 0;
}
