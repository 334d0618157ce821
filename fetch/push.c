/* SPDX-License-Identifier: Apache-2.0 */
/* push.c - see push.h.  An upload that fails half-way is begun anew as a whole: what the registry
 * keeps of a session that broke is not ours to guess. */
#include "fetch/push.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "fetch/document.h"
#include "fetch/endpoint.h"

enum {
	ANSWER_MAX = 64 * 1024, /* bytes */
	TRIES = 3,
	SILENCE = 300, /* s that a registry may take to digest a blob */
};

static struct document ask(struct remote *r, const char *method, const char *path)
{
	return (struct document){
		.queue = remote_queue(r),
		.method = method,
		.path = path,
		.limit = ANSWER_MAX,
		.deadline = CLOCK_NEVER,
		.retry_until = clock_ms() + REMOTE_OPEN_SECONDS * (uint64_t)1000,
	};
}

static int look(struct remote *r, const char *method, const char *digest, struct err *e)
{
	char path[sizeof "/blobs/" + DIGEST_ANY_TEXT];
	struct document d;
	int x;

	snprintf(path, sizeof path, "/blobs/%s", digest);
	d = ask(r, method, path);
	d.peek = strcmp(method, "GET") == 0;
	if (!d.peek)
		d.retry_until = clock_ms() + REMOTE_HEAD_SECONDS * (uint64_t)1000;
	x = document_fetch(&d, e);
	document_release(&d);
	return x;
}

/* Whether nobody answered, rather than that somebody said no. */
static bool is_away(int x)
{
	return x == -ETIMEDOUT || x == -ESHUTDOWN || x == -ENOMEM || x == -EHOSTUNREACH ||
	       x == -ECONNREFUSED || x == -ECONNRESET;
}

/* Where HEAD is refused, as by addresses that are signed for GET, or by who may write but not read,
 * or where it gets no answer, a byte of it is asked for; and when that is refused too, it is
 * uploaded: at worst in vain. */
static int has_blob(struct remote *r, const char *digest, struct err *e)
{
	int x = look(r, "HEAD", digest, e);

	if (x < 0 && x != -ENOENT && x != -ESHUTDOWN && x != -ENOMEM)
		x = look(r, "GET", digest, e);
	if (x == 0)
		return 1;
	return is_away(x) ? x : 0;
}

/* The address for the bytes: where the registry says, with the digest added. */
static int begin_upload(struct remote *r, const char *digest, char **url, struct err *e)
{
	struct document d = ask(r, "POST", "/blobs/uploads/");
	AUTO_FREE char *at = NULL;
	int x = document_fetch(&d, e);

	if (x == 0 && d.answer.location)
		at = endpoint_resolve(remote_endpoint(r), d.from, d.answer.location);
	if (x == 0 && !at)
		x = err_set(e, EPROTO,
			    "%s: the answer names no address to upload to: the Location is "
			    "missing, malformed, not http(s), or leaves TLS",
			    remote_endpoint(r)->name);
	document_release(&d);
	if (x < 0)
		return x;
	if (asprintf(url, "%s%cdigest=%s", at, strchr(at, '?') ? '&' : '?', digest) < 0) {
		*url = NULL; /* left undefined by the failed call */
		return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

static int upload(struct remote *r, const char *digest, struct source *body, struct err *e)
{
	AUTO_FREE char *url = NULL;
	struct document d;
	int x = begin_upload(r, digest, &url, e);

	if (x < 0)
		return x;
	d = ask(r, "PUT", url);
	d.content_type = "application/octet-stream";
	d.body = body;
	d.silence = SILENCE;
	d.retry_until = 0;
	x = document_fetch(&d, e);
	document_release(&d);
	return x;
}

int push_blob(struct remote *r, const char *digest, struct source *body, struct err *e)
{
	int x = has_blob(r, digest, e), tries;

	for (tries = 0; x == 0 && tries < TRIES; tries++) {
		x = upload(r, digest, body, e);
		if (x == 0)
			return 0;
		if (x == -EACCES || x == -ESHUTDOWN || x == -ENOMEM || tries == TRIES - 1)
			break;
		x = has_blob(r, digest, e);
	}
	return x;
}

int push_manifest(struct remote *r, const char *name, const char *media_type, const void *bytes,
		  size_t n, struct err *e)
{
	AUTO_FREE char *path = NULL;
	struct source *body;
	struct document d;
	int x;

	if (asprintf(&path, "/manifests/%s", name) < 0) {
		path = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	x = source_open_memory(bytes, n, &body, e);
	if (x < 0)
		return x;
	d = ask(r, "PUT", path);
	d.content_type = media_type;
	d.body = body;
	x = document_fetch(&d, e);
	document_release(&d);
	source_close(body);
	return x;
}
