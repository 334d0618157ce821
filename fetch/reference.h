/* SPDX-License-Identifier: Apache-2.0 */
/* reference.h - the name of an image in a registry:
 * [SCHEME://]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST], with docker's defaults: no host means
 * docker.io, no slash on docker.io means library/, neither tag nor digest means :latest.  With
 * both, the digest counts.
 *
 * The grammar is that of the OCI distribution specification (repository, tag) and of docker's
 * reference package (what is a host: it holds a dot or a colon, or is "localhost").
 * Threads: no state.  Ownership: a reference owns its strings. */
#ifndef OVERLAYBD_FETCH_REFERENCE_H
#define OVERLAYBD_FETCH_REFERENCE_H

#include <stdbool.h>

#include "core/base/digest.h"
#include "core/base/err.h"

enum reference_scheme {
	REFERENCE_DEFAULT, /* https; on this machine (reference_is_local) http first */
	REFERENCE_HTTP, /* http:// was said */
	REFERENCE_HTTPS,
};

struct reference {
	enum reference_scheme scheme;
	char *host; /* with the port if one was said; "docker.io" for Docker Hub */
	char *api_host; /* who answers for it: "registry-1.docker.io"; else as host */
	char *repository; /* "library/debian" */
	char *tag; /* NULL when a digest counts */
	char digest[DIGEST_ANY_TEXT]; /* "" when a tag counts */
	char *text; /* canonical, for messages: host/repository:tag or ...@digest */
};

/* EINVAL: the text quotes the reference and says what is wrong with it. */
int reference_parse(const char *text, struct reference *out, struct err *e);

/* The registry and repository of a config's repoBlobUrl, SCHEME://HOST[:PORT]/v2/REPOSITORY/blobs
 * (a slash at the end is allowed).  Tag and digest stay empty.  EINVAL. */
int reference_parse_blob_url(const char *url, struct reference *out, struct err *e);

/* Whether HOST[:PORT] is this machine, see address_is_local. */
bool reference_is_local(const char *host);

void reference_release(struct reference *ref);

#endif
