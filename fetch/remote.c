/* SPDX-License-Identifier: Apache-2.0 */
/* remote.c - from a name to blobs, see remote.h. */
#include "fetch/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/answer.h"
#include "fetch/blob.h"
#include "fetch/document.h"
#include "fetch/endpoint.h"

enum {
	INDEX_DEPTH = 3, /* an index may lead to an index, so often */
	COMPANIONS = 7, /* connections made beside that of a manifest, at most */
};

struct remote {
	const struct fetch_settings *settings;
	struct reference ref;
	struct stats *stats;
	struct endpoint_list endpoints;
	struct queue *queue;
	struct cache *cache; /* NULL: none */
	char *origin; /* SCHEME://HOST/REPOSITORY: whose bytes the cache keeps */
	uint64_t retry_until;

	pthread_mutex_t lock;
	struct source *
		*blobs; /* opened before remote_opened, guarded by lock until then; not owned */
	size_t blob_count; /* likewise */
};

/* ---- opening ---- */

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static int copy_reference(struct reference *to, const struct reference *from, struct err *e)
{
	*to = *from;
	to->host = to->api_host = to->repository = to->tag = to->text = NULL;
	if (copy_text(&to->host, from->host) && copy_text(&to->api_host, from->api_host) &&
	    copy_text(&to->repository, from->repository) && copy_text(&to->tag, from->tag) &&
	    copy_text(&to->text, from->text))
		return 0;
	return err_set(e, ENOMEM, "out of memory");
}

/* The registry's own first endpoint says what the bytes are called in the cache, whichever mirror
 * they came from. */
static int name_origin(struct remote *r, struct err *e)
{
	const struct endpoint *p = &r->endpoints.items[r->settings->mirror_count];

	if (asprintf(&r->origin, "%s/%s", p->origin, r->ref.repository) < 0) {
		r->origin = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

static int set_up(struct remote *r, struct fetcher *f, const struct reference *ref, bool push,
		  struct err *e)
{
	int x = fetcher_use(f, e);

	if (x == 0)
		x = copy_reference(&r->ref, ref, e);
	if (x == 0)
		x = endpoint_list_open(fetcher_http(f), &r->ref, r->settings, push, &r->endpoints,
				       e);
	if (x == 0)
		x = queue_open(fetcher_http(f), &r->endpoints, r->settings->connections, &r->queue,
			       e);
	if (x == 0 && !push && r->settings->cache_dir)
		x = fetcher_cache(f, r->settings, &r->cache, e);
	return x == 0 && !push ? name_origin(r, e) : x;
}

int remote_open(struct fetcher *f, const struct fetch_settings *settings,
		const struct reference *ref, struct stats *stats, bool push, struct remote **out,
		struct err *e)
{
	struct remote *r = calloc(1, sizeof *r);
	int x;

	if (!r)
		return err_set(e, ENOMEM, "out of memory");
	r->settings = settings;
	r->stats = stats;
	r->retry_until = clock_ms() + REMOTE_OPEN_SECONDS * (uint64_t)1000;
	pthread_mutex_init(&r->lock, NULL);
	x = set_up(r, f, ref, push, e);
	if (x < 0) {
		remote_close(r);
		return x;
	}
	*out = r;
	return 0;
}

void remote_shut(struct remote *r)
{
	queue_shut(r->queue);
}

void remote_close(struct remote *r)
{
	if (!r)
		return;
	queue_close(r->queue);
	endpoint_list_close(&r->endpoints);
	reference_release(&r->ref);
	pthread_mutex_destroy(&r->lock);
	free(r->blobs);
	free(r->origin);
	free(r);
}

struct queue *remote_queue(struct remote *r)
{
	return r->queue;
}

struct stats *remote_stats(const struct remote *r)
{
	return r->stats;
}

const struct endpoint *remote_endpoint(const struct remote *r)
{
	const struct endpoint *p = r->endpoints.items;

	return p->unused ? p + 1 : p; /* the engine has set it before our answer came */
}

/* ---- manifests ---- */

static uint64_t deadline_of(const struct remote *r)
{
	return r->settings->timeout ? clock_ms() + r->settings->timeout * (uint64_t)1000
				    : CLOCK_NEVER;
}

static struct document ask(struct remote *r, const char *method, const char *path)
{
	return (struct document){
		.queue = r->queue,
		.method = method,
		.path = path,
		.accept = MANIFEST_ACCEPT,
		.limit = MANIFEST_MAX,
		.deadline = deadline_of(r),
		.retry_until = r->retry_until,
		.stats = r->stats,
	};
}

/* A manifest that nobody here knows: its blobs will be asked for next, all at once.  How many there
 * are nobody knows either: with so few connections made ahead even twenty layers lose no round trip
 * over all that might be used, and an image of one does not leave many idle. */
static unsigned companions(const struct remote *r)
{
	return r->settings->connections <= COMPANIONS ? r->settings->connections - 1 : COMPANIONS;
}

static void keep(struct remote *r, const char *origin, const char *name, const char *text, size_t n)
{
	struct err e;

	if (r->cache && cache_put_document(r->cache, origin, name, text, n, &e) < 0)
		log_debug("%s: not kept: %s", name, e.msg);
}

/* What the cache has under a digest is checked there. */
static bool recall(struct remote *r, const char *digest, char **text, size_t *n)
{
	return r->cache && cache_get_document(r->cache, NULL, digest, text, n, NULL) == 0;
}

static int explain(const struct remote *r, int x, struct err *e)
{
	const struct err why = *e;

	if (x == -ENOENT)
		err_set(e, ENOENT,
			"%s: there is no such image at %s (HTTP 404); check name and tag",
			r->ref.text, r->ref.api_host);
	else if (x == -ETIMEDOUT || x == -EHOSTUNREACH || x == -ECONNREFUSED)
		err_set(e, -x,
			"%s: %s; check the host's name, and that the registry can be reached",
			r->ref.text, why.msg);
	else
		err_wrap(e, x, "%s", r->ref.text);
	return x;
}

/* Whether it is a digest of an algorithm that we do not know. */
static bool is_foreign_digest(const char *text)
{
	size_t n = strcspn(text, ":");

	return n > 0 && text[n] == ':' && text[n + 1] != '\0' && strncmp(text, "sha256:", 7) != 0 &&
	       strncmp(text, "sha512:", 7) != 0;
}

/* What a tag means nobody knows, but it is something of JSON, and what the answer says it is, if it
 * says that.  A digest that is cut short, or none, is no manifest's. */
static int check_tagged(const struct document *d, const struct http_answer *answer, struct err *e)
{
	char got[DIGEST_ANY_TEXT];
	const char *told = answer->digest;
	json_t *root;
	int x = answer_parse(d->text ? d->text : "", d->n, ANSWER_PUBLIC, &root, e);

	if (x < 0)
		return x;
	json_decref(root);
	if (!told || told[0] == '\0' || is_foreign_digest(told))
		return 0;
	x = digest_bytes_like(told, d->text, d->n, got, e);
	if (x == 0 && strcmp(told, got) != 0)
		return err_set(e, EBADMSG, "the manifest is not the one that %s names",
			       "Docker-Content-Digest");
	return x;
}

static int fetch_by_digest(struct remote *r, const char *digest, char **text, size_t *n,
			   struct err *e)
{
	char path[sizeof "/manifests/" + DIGEST_ANY_TEXT];
	struct document d;
	int x;

	if (recall(r, digest, text, n))
		return 0;
	snprintf(path, sizeof path, "/manifests/%s", digest);
	d = ask(r, "GET", path);
	d.companions = companions(r);
	d.check = document_check_digest;
	d.digest = digest;
	x = document_fetch(&d, e);
	if (x == 0) {
		keep(r, NULL, digest, d.text, d.n);
		*n = d.n;
		*text = TAKE_PTR(d.text);
	} else {
		x = explain(r, x, e);
	}
	document_release(&d);
	return x;
}

/* What the tag meant last, as far as its manifest is here too. */
static bool recall_tag(struct remote *r, const char *name, char digest[DIGEST_ANY_TEXT],
		       char **text, size_t *n)
{
	AUTO_FREE char *last = NULL;
	size_t m;

	if (!r->cache || cache_get_document(r->cache, r->origin, name, &last, &m, NULL) < 0 ||
	    !digest_is_valid(last))
		return false;
	digest_copy(digest, last);
	return recall(r, digest, text, n);
}

static int take_tag(struct remote *r, const char *name, struct document *d,
		    char digest[DIGEST_ANY_TEXT], struct err *e)
{
	int x = digest_bytes(d->text ? d->text : "", d->n, digest, e);

	if (x < 0)
		return x;
	keep(r, NULL, digest, d->text, d->n);
	keep(r, r->origin, name, digest, strlen(digest));
	return 0;
}

/* The registry is away, rather than that it said no. */
static bool is_away(int x)
{
	return x != -EACCES && x != -ENOENT && x != -EBADMSG && x != -ESHUTDOWN && x != -EFBIG;
}

static int fetch_by_tag(struct remote *r, char digest[DIGEST_ANY_TEXT], char **text, size_t *n,
			struct err *e)
{
	AUTO_FREE char *path = NULL, *name = NULL, *known = NULL;
	char etag[DIGEST_ANY_TEXT + 2];
	struct document d;
	size_t known_n = 0;
	int x;

	if (asprintf(&path, "/manifests/%s", r->ref.tag) < 0)
		path = NULL;
	if (asprintf(&name, "tag-%s", r->ref.tag) < 0)
		name = NULL;
	if (!path || !name)
		return err_set(e, ENOMEM, "out of memory");
	d = ask(r, "GET", path);
	d.check = check_tagged;
	if (recall_tag(r, name, digest, &known, &known_n)) {
		snprintf(etag, sizeof etag, "\"%s\"", digest);
		d.if_none_match = etag;
		d.retry_until = clock_ms() + REMOTE_KNOWN_SECONDS * 1000;
	} else {
		d.companions = companions(r);
	}
	x = document_fetch(&d, e);
	if (x == 0 && d.answer.status != 304) {
		x = take_tag(r, name, &d, digest, e);
		*text = TAKE_PTR(d.text);
		*n = d.n;
	} else if (known && (x == 0 || is_away(x))) {
		if (x < 0)
			log_warn("%s: cannot reach the registry (%s); using the manifest cached "
				 "for this tag, %s",
				 r->ref.text, e->msg, digest);
		x = 0;
		*text = TAKE_PTR(known);
		*n = known_n;
	} else if (x == 0) {
		x = err_set(e, EPROTO, "%s: HTTP 304 to an unconditional request", r->ref.text);
	} else {
		x = explain(r, x, e);
	}
	document_release(&d);
	return x;
}

/* Reads a manifest, and follows indexes. */
static int read_manifest(struct remote *r, char **text, size_t n, char digest[DIGEST_ANY_TEXT],
			 struct manifest *out, struct err *e)
{
	char chosen[DIGEST_ANY_TEXT];
	int x, depth;

	for (depth = 0; depth < INDEX_DEPTH; depth++) {
		x = manifest_parse(*text, n, r->settings->platform, out, chosen, e);
		if (x < 0)
			return err_wrap(e, x, "%s", r->ref.text);
		if (x == MANIFEST_IMAGE)
			return 0;
		free(*text);
		*text = NULL;
		digest_copy(digest, chosen);
		x = fetch_by_digest(r, digest, text, &n, e);
		if (x < 0)
			return x;
	}
	return err_set(e, EINVAL, "%s: indexes that lead to indexes", r->ref.text);
}

int remote_resolve(struct remote *r, struct manifest *out, char digest[DIGEST_ANY_TEXT],
		   struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t n = 0;
	int x;

	if (r->ref.digest[0] != '\0') {
		digest_copy(digest, r->ref.digest);
		x = fetch_by_digest(r, digest, &text, &n, e);
	} else {
		x = fetch_by_tag(r, digest, &text, &n, e);
	}
	return x < 0 ? x : read_manifest(r, &text, n, digest, out, e);
}

/* ---- blobs ---- */

/* By HEAD, or by GET of its first byte. */
static int ask_size(struct remote *r, const char *method, const char *digest, uint64_t *size,
		    struct err *e)
{
	char path[sizeof "/blobs/" + DIGEST_ANY_TEXT];
	const struct http_answer *a;
	struct document d;
	int x;

	snprintf(path, sizeof path, "/blobs/%s", digest);
	d = ask(r, method, path);
	d.accept = NULL;
	d.peek = strcmp(method, "GET") == 0;
	if (!d.peek)
		d.retry_until = clock_ms() + REMOTE_HEAD_SECONDS * (uint64_t)1000;
	x = document_fetch(&d, e);
	a = &d.answer;
	*size = a->has_length ? a->length : 0;
	if (a->status == 206)
		*size = a->total == UINT64_MAX ? 0 : a->total;
	if (x == 0 && *size == 0)
		x = err_set(e, EPROTO, "%s: the registry does not say how large it is", digest);
	document_release(&d);
	return x;
}

/* Addresses that are signed for GET refuse HEAD, and some servers leave out the length there, or do
 * not answer it at all. */
int remote_blob_size(struct remote *r, const char *digest, uint64_t *size, struct err *e)
{
	int x = ask_size(r, "HEAD", digest, size, e);

	if (x < 0 && x != -ESHUTDOWN && x != -ENOMEM)
		x = ask_size(r, "GET", digest, size, e);
	return x;
}

static int note_blob(struct remote *r, struct source *s, struct err *e)
{
	struct source **more;

	WITH_LOCK(&r->lock);
	more = realloc(r->blobs, (r->blob_count + 1) * sizeof(struct source *));
	if (!more)
		return err_set(e, ENOMEM, "out of memory");
	r->blobs = more;
	r->blobs[r->blob_count++] = s;
	return 0;
}

int remote_open_blob(struct remote *r, const char *digest, uint64_t size, struct stats *stats,
		     struct source **out, struct err *e)
{
	struct blob_options o = {
		.queue = r->queue,
		.cache = r->cache,
		.origin = r->origin,
		.digest = digest,
		.size = size,
		.timeout = r->settings->timeout,
		.retry_until = r->retry_until,
		.stats = stats,
	};
	struct source *s;
	int x = blob_open(&o, &s, e);

	if (x < 0)
		return x;
	x = note_blob(r, s, e);
	if (x < 0) {
		source_close(s);
		return x;
	}
	blob_ask_for_ends(blob_of(s));
	*out = s;
	return 0;
}

void remote_opened(struct remote *r)
{
	size_t i;

	r->retry_until = CLOCK_NEVER;
	for (i = 0; i < r->blob_count; i++)
		blob_opened(blob_of(r->blobs[i]));
}
