/* SPDX-License-Identifier: Apache-2.0 */
/* login.c - headers and forms, see login.h. */
#include "fetch/login.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/address.h"
#include "fetch/secret.h"

bool login_realm_is_safe(const char *realm, const char *base)
{
	struct address to, from;

	if (!address_parse(realm, &to) || !address_parse(base, &from))
		return false;
	if (to.tls)
		return true;
	return !from.tls && (address_same_host(&to, &from) ||
			     (address_is_local(&to) && address_is_local(&from)));
}

char *login_bearer(const char *token)
{
	char *header;

	return asprintf(&header, "Bearer %s", token) < 0 ? NULL : header;
}

char *login_basic(const struct credentials *c)
{
	char *plain, *header;
	int n = asprintf(&plain, "%s:%s", c->user, c->password);

	if (n < 0)
		return NULL;
	header = malloc(sizeof "Basic " + ((size_t)n + 2) / 3 * 4);
	if (header)
		EVP_EncodeBlock((unsigned char *)stpcpy(header, "Basic "),
				(const unsigned char *)plain, n);
	secret_free(plain);
	return header;
}

static bool add_field(char **form, const char *name, const char *value)
{
	AUTO_SECRET char *old = *form;
	char *escaped = curl_easy_escape(NULL, value, 0);

	if (!escaped ||
	    asprintf(form, "%s%s%s=%s", old ? old : "", old ? "&" : "", name, escaped) < 0)
		*form = NULL;
	if (escaped)
		explicit_bzero(escaped, strlen(escaped));
	curl_free(escaped);
	return *form != NULL;
}

/* An identity token goes by OAuth2's form; the realm's address then has no query of ours. */
char *login_form(const struct challenge *c, const char *host, const struct credentials *credentials,
		 const char *scopes)
{
	const char *service = c->service ? c->service : host;
	char *form = NULL;

	if (add_field(&form, "grant_type", "refresh_token") &&
	    add_field(&form, "service", service) && add_field(&form, "scope", scopes) &&
	    add_field(&form, "client_id", "nbdkit-overlaybd"))
		(void)add_field(&form, "refresh_token", credentials->identity_token);
	return form;
}
