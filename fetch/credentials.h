/* SPDX-License-Identifier: Apache-2.0 */
/* credentials.h - who we are to a registry: docker-style files, credential helper programs, an HTTP
 * or unix-socket helper; and the TLS files of docker's and containers' certs.d folders.
 *
 * Nothing is remembered: each call reads the files anew, since passwords change under a long-lived
 * server.  Threads: all may run concurrently; calls block (files, programs, a helper's answer: at
 * most CREDENTIALS_SECONDS).  No message quotes a secret. */
#ifndef OVERLAYBD_FETCH_CREDENTIALS_H
#define OVERLAYBD_FETCH_CREDENTIALS_H

#include <stdbool.h>

#include "core/base/err.h"

enum { CREDENTIALS_SECONDS = 10 };

struct credentials {
	char *user; /* with password; NULL: none */
	char *password;
	char *identity_token; /* for the token service's OAuth2 form, NULL: none */
	char *registry_token; /* a bearer token as it is, NULL: none */
};

/* Where to look.  The strings are borrowed. */
struct credentials_source {
	const char *place; /* a file, or an address of a helper; NULL: where docker and podman keep
			    * theirs */
	const char *ca, *cert, *key; /* PEM files for an https helper, each may be NULL */
	const char *fault; /* not NULL: looking fails with this text */
};

/* Looks for what belongs to `host` ("docker.io" for Docker Hub; with the port where there is one)
 * and `repository`.  Without a place: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json,
 * $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json; the
 * first with an entry that matches, whatever is wrong with the others.  `blob_url` is what a helper
 * is asked about: GET ADDRESS?remote_url=BLOB-URL, over a socket GET /auth?remote_url=BLOB-URL.
 * The longest matching key wins; credHelpers and credsStore run docker-credential-NAME ("get").
 * Returns 0; 1 when there are none (*out is empty); -errno with a text that names the file or
 * helper: a place that is named must exist, one of the usual ones need not. */
int credentials_find(const struct credentials_source *source, const char *host,
		     const char *repository, const char *blob_url, struct credentials *out,
		     struct err *e);

/* Whether two are the same, secrets included. */
bool credentials_equal(const struct credentials *a, const struct credentials *b);

/* Overwrites and frees. */
void credentials_release(struct credentials *c);

/* Files of HOST[:PORT] in /etc/docker/certs.d and /etc/containers/certs.d (and, before them,
 * ~/.config/containers/certs.d): the first folder that is there.  ca: the first *.crt; cert and
 * key: the first NAME.cert that has a NAME.key.  NULL where there is none; the caller frees the
 * strings. -ENOMEM; a folder that cannot be read is one that is not there. */
struct credentials_tls {
	char *ca;
	char *cert;
	char *key;
};
int credentials_find_tls(const char *host, struct credentials_tls *out, struct err *e);
void credentials_tls_release(struct credentials_tls *t);

#endif
