/* SPDX-License-Identifier: Apache-2.0 */
/* challenge.h - the words of registry authentication: WWW-Authenticate headers (RFC 9110, 11.6.1)
 * and the token service's answer.  No network here.
 *
 * Threads: no state.  Ownership: a challenge owns its strings. */
#ifndef OVERLAYBD_FETCH_CHALLENGE_H
#define OVERLAYBD_FETCH_CHALLENGE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_scheme scheme;
	bool basic; /* Basic was offered too, or alone */
	char *realm; /* of Bearer: the token service's address; never NULL then */
	char *service; /* of Bearer, NULL: not said */
	char *scope; /* of Bearer, NULL: not said */
	char *error; /* of Bearer: "invalid_token", "insufficient_scope"; NULL: not said */
};

/* Reads one WWW-Authenticate value, which may hold several challenges, and keeps the best that we
 * know (Bearer before Basic, the first of its kind) in *out, which holds what earlier headers of
 * the same answer gave (start with all zero).  Registries write odd things there: what cannot be
 * read is passed over, be it a scheme, a parameter, or a Bearer challenge without an http realm.
 * -EINVAL for a value of more than 16 KiB, -ENOMEM; *out is unchanged then. */
int challenge_parse(const char *value, struct challenge *out, struct err *e);

void challenge_release(struct challenge *c);

/* What to ask a token for, joined by blanks: each scope of the challenge, which names things as the
 * registry's token service knows them, then `own` ("repository:REPO:pull"), unless the challenge
 * has it, alone or with more actions.  Both may be missing.  The caller frees it; NULL: no memory.
 */
char *challenge_scopes(const struct challenge *c, const char *own);

/* The address that asks for a token: realm?service=..&scope=.., each value percent-encoded, a scope
 * each for those of `scopes` (NULL or "": none); a realm that has a query already is continued with
 * '&'.  NULL: no memory.  The caller frees it. */
char *challenge_token_url(const struct challenge *c, const char *scopes);

/* The token service's answer, {"token" or "access_token", "expires_in"}: *token for the caller to
 * free; *lifetime in seconds, 60 when the answer says none (the specification's default).  A token
 * that could not stand in a header line is refused.  -EINVAL, -ENOMEM; no text quotes the answer.
 */
int challenge_parse_token(const char *text, size_t n, char **token, unsigned *lifetime,
			  struct err *e);

#endif
