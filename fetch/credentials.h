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

/* Looks for what belongs to `host` ("docker.io" for Docker Hub; with the port where there is one)
 * and `repository`.  `source` is fetch_settings.credentials: a file, an address of a helper, or
 * NULL for $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json, $XDG_RUNTIME_DIR/containers/auth.json,
 * ~/.config/containers/auth.json, ~/.docker/config.json: the first with an entry that matches.
 * `blob_url` is what a helper is asked about (?remote_url=).  The longest matching key wins;
 * credHelpers and credsStore run docker-credential-NAME ("get").  Returns 0; 1 when there are
 * none (*out is empty); -errno with a text that names the file or helper: a file that is named in
 * `source` must exist, one of the usual places need not. */
int credentials_find(const char *source, const char *host, const char *repository,
		     const char *blob_url, struct credentials *out, struct err *e);

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
