/* SPDX-License-Identifier: Apache-2.0 */
/* login.h - what is sent to log in: headers, the form for a token service, and whether a password
 * may go there at all.
 *
 * Threads: no state.  What is returned holds secrets: secret_free it.  NULL: no memory. */
#ifndef OVERLAYBD_FETCH_LOGIN_H
#define OVERLAYBD_FETCH_LOGIN_H

#include <stdbool.h>

#include "fetch/challenge.h"
#include "fetch/credentials.h"

/* Whether credentials may go to the token service `realm` that the host at `base`
 * (SCHEME://HOST[:PORT]) named: nobody can listen, as it is TLS, or the machine to which the host's
 * own traffic goes in the clear. */
bool login_realm_is_safe(const char *realm, const char *base);

/* "Bearer TOKEN"; "Basic " and base64 of user:password. */
char *login_bearer(const char *token);
char *login_basic(const struct credentials *c);

/* OAuth2's form, which trades the identity token for one with these scopes (joined by blanks).
 * `host` stands for a service that the challenge does not name. */
char *login_form(const struct challenge *c, const char *host, const struct credentials *credentials,
		 const char *scopes);

#endif
