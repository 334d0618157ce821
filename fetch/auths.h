/* SPDX-License-Identifier: Apache-2.0 */
/* auths.h - what a docker-style document {"auths", "credHelpers", "credsStore"} says about a
 * registry.  No file, program or network here.
 *
 * A key of `auths` is a host, or a host and leading parts of a repository's name; a scheme and a
 * slash at the end are ignored, and so are docker's /v1/ and /v2/ behind the host.  All of Docker
 * Hub's names are one.  A document without `auths`, as docker's old .dockercfg, is its own.
 * Threads: no state. */
#ifndef OVERLAYBD_FETCH_AUTHS_H
#define OVERLAYBD_FETCH_AUTHS_H

#include <jansson.h>

#include "fetch/credentials.h"

/* A program docker-credential-NAME, and what to ask it about. */
struct auths_program {
	char *name;
	char *server;
};

enum auths_result {
	AUTHS_FOUND, /* *out is filled */
	AUTHS_NONE,
	AUTHS_ASK, /* *program is filled: it knows, if anybody does */
};

/* In this order: the host's entry in credHelpers; the longest key in `auths` with something in it;
 * credsStore.  Returns the result, or EINVAL for an entry that is ours and cannot be read, or
 * ENOMEM; what is not filled is all NULL. */
int auths_find(json_t *document, const char *host, const char *repository, struct credentials *out,
	       struct auths_program *program, struct err *e);

void auths_program_release(struct auths_program *p);

#endif
