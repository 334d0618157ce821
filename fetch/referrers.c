/* SPDX-License-Identifier: Apache-2.0 */
/* referrers.c - see referrers.h.  JSON from outside goes through jansson, at most MANIFEST_MAX
 * bytes of it. */
#include "fetch/referrers.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "fetch/document.h"
#include "fetch/push.h"

#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define EMPTY_TYPE "application/vnd.oci.empty.v1+json"
#define EMPTY "{}"

enum {
	SECONDS = 60, /* that a request may take, tries included */
	PATH = sizeof "/manifests/" + DIGEST_ANY_TEXT, /* bytes of the longest path */
	TAG_DIGITS = 64, /* of a digest in a tag, as the distribution spec cuts it */
};

/* `digest` is what the body must have; NULL: nothing. */
static int get(struct remote *r, const char *path, const char *accept, size_t limit,
	       const char *digest, struct document *d, struct err *e)
{
	uint64_t now = clock_ms();

	*d = (struct document){
		.queue = remote_queue(r),
		.method = "GET",
		.path = path,
		.accept = accept,
		.limit = limit,
		.check = digest ? document_check_digest : NULL,
		.digest = digest,
		.deadline = now + SECONDS * (uint64_t)1000,
		.retry_until = now + REMOTE_OPEN_SECONDS * (uint64_t)1000,
		.stats = remote_stats(r),
	};
	return document_fetch(d, e);
}

/* What has this digest, be it a manifest or a blob. */
static int get_checked(struct remote *r, const char *kind, const char *digest, const char *accept,
		       size_t limit, struct document *d, struct err *e)
{
	char path[PATH];

	snprintf(path, sizeof path, "/%s/%s", kind, digest);
	return get(r, path, accept, limit, digest, d, e);
}

static json_t *parse(const struct document *d)
{
	return d->text ? json_loadb(d->text, d->n, 0, NULL) : NULL;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool has_digest(const json_t *descriptor)
{
	const char *digest = text_of(descriptor, "digest");

	return digest && digest_is_any(digest);
}

static void tag_of(const char *subject, char out[PATH])
{
	snprintf(out, PATH, "/manifests/%.6s-%.*s", subject, TAG_DIGITS, strchr(subject, ':') + 1);
}

/* The index at a path, NULL when what is there is none. */
static int get_index(struct remote *r, const char *path, json_t **out, struct err *e)
{
	struct document d;
	int x = get(r, path, INDEX_TYPE, MANIFEST_MAX, NULL, &d, e);

	*out = x == 0 ? parse(&d) : NULL;
	if (*out && !json_is_array(json_object_get(*out, "manifests"))) {
		json_decref(*out);
		*out = NULL;
	}
	document_release(&d);
	return x;
}

/* The list of those that refer to the subject: *out NULL when there is none.  *listed: the registry
 * keeps it; those that do not know it say so in many ways. */
static int get_list(struct remote *r, const char *subject, json_t **out, bool *listed,
		    struct err *e)
{
	char path[PATH];
	int x;

	snprintf(path, sizeof path, "/referrers/%s", subject);
	x = get_index(r, path, out, e);
	*listed = *out != NULL;
	if (*listed || x == -ESHUTDOWN)
		return x;
	tag_of(subject, path);
	x = get_index(r, path, out, e);
	if (x == 0 && !*out)
		return err_set(e, EBADMSG, "the list of referrers is no index");
	return x == -ENOENT ? 0 : x;
}

/* Lists grow at their end. */
static const json_t *last_of_type(const json_t *list, const char *type)
{
	const json_t *found = NULL, *entry;
	size_t i;

	json_array_foreach(json_object_get(list, "manifests"), i, entry)
	{
		const char *text = text_of(entry, "artifactType");

		if (text && strcmp(text, type) == 0 && has_digest(entry))
			found = entry;
	}
	return found;
}

/* The only layer of the artifact whose manifest has this digest. */
static int get_artifact(struct remote *r, const char *digest, size_t limit, char **bytes, size_t *n,
			struct err *e)
{
	struct document manifest = { 0 }, blob = { 0 };
	const json_t *layer;
	json_t *root = NULL;
	int x = get_checked(r, "manifests", digest, MANIFEST_TYPE, MANIFEST_MAX, &manifest, e);

	if (x == 0) {
		root = parse(&manifest);
		layer = json_array_get(json_object_get(root, "layers"), 0);
		x = has_digest(layer) ? get_checked(r, "blobs", text_of(layer, "digest"), NULL,
						    limit, &blob, e)
				      : err_set(e, EBADMSG, "the artifact has no layer");
	}
	if (x == 0) {
		*n = blob.n;
		*bytes = TAKE_PTR(blob.text);
	}
	json_decref(root);
	document_release(&manifest);
	document_release(&blob);
	return x;
}

int referrers_find(struct remote *r, const char *subject, const char *type, size_t limit,
		   char **bytes, size_t *n, struct err *e)
{
	const json_t *found;
	bool listed;
	json_t *list;
	int x = get_list(r, subject, &list, &listed, e);

	if (x < 0)
		return x;
	found = last_of_type(list, type);
	if (found)
		x = get_artifact(r, text_of(found, "digest"), limit, bytes, n, e);
	else
		x = err_set(e, ENOENT, "nothing of that kind refers to %s", subject);
	json_decref(list);
	return x;
}

/* ---- pushing ---- */

static int push_bytes(struct remote *r, const void *bytes, size_t n, char digest[DIGEST_TEXT],
		      struct err *e)
{
	struct source *s;
	int x = digest_bytes(bytes, n, digest, e);

	if (x == 0)
		x = source_open_memory(bytes, n, &s, e);
	if (x < 0)
		return x;
	x = push_blob(r, digest, s, e);
	source_close(s);
	return x < 0 ? x : 0;
}

/* The subject's descriptor: what it says it is, and its size. */
static int describe_subject(struct remote *r, const char *subject, json_t **out, struct err *e)
{
	struct document d;
	json_t *root;
	const char *type;
	int x = get_checked(r, "manifests", subject, MANIFEST_ACCEPT, MANIFEST_MAX, &d, e);

	if (x == 0) {
		root = parse(&d);
		type = text_of(root, "mediaType");
		*out = json_pack("{s:s, s:s, s:I}", "mediaType", type ? type : MANIFEST_TYPE,
				 "digest", subject, "size", (json_int_t)d.n);
		json_decref(root);
		if (!*out)
			x = err_set(e, ENOMEM, "out of memory");
	}
	document_release(&d);
	return x;
}

/* Takes over `o`, NULL when it could not be made. */
static int push_json(struct remote *r, const char *name, const char *type, json_t *o, size_t *n,
		     char digest[DIGEST_TEXT], struct err *e)
{
	AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int x = text ? digest_bytes(text, strlen(text), digest, e)
		     : err_set(e, ENOMEM, "out of memory");

	json_decref(o);
	if (x < 0)
		return x;
	*n = strlen(text);
	return push_manifest(r, name ? name : digest, type, text, *n, e);
}

static int push_artifact(struct remote *r, const char *subject, const char *type, const char *blob,
			 size_t blob_n, const char *config, size_t *n, char digest[DIGEST_TEXT],
			 struct err *e)
{
	json_t *described;
	int x = describe_subject(r, subject, &described, e);

	if (x < 0)
		return x;
	return push_json(r, NULL, MANIFEST_TYPE,
			 json_pack("{s:i, s:s, s:s, s:{s:s, s:s, s:I}, s:[{s:s, s:s, s:I}], s:o}",
				   "schemaVersion", 2, "mediaType", MANIFEST_TYPE, "artifactType",
				   type, "config", "mediaType", EMPTY_TYPE, "digest", config,
				   "size", (json_int_t)strlen(EMPTY), "layers", "mediaType", type,
				   "digest", blob, "size", (json_int_t)blob_n, "subject",
				   described),
			 n, digest, e);
}

static bool lists(const json_t *manifests, const char *digest)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(manifests, i, entry)
	{
		const char *text = text_of(entry, "digest");

		if (text && strcmp(text, digest) == 0)
			return true;
	}
	return false;
}

/* Adds the artifact to the list that we keep ourselves; *list may be NULL. */
static int push_list(struct remote *r, const char *subject, json_t *list, json_t *entry,
		     struct err *e)
{
	char path[PATH], digest[DIGEST_TEXT];
	json_t *manifests;
	size_t n;

	if (!list)
		list = json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", INDEX_TYPE,
				 "manifests");
	else
		json_incref(list);
	manifests = json_object_get(list, "manifests");
	if (json_array_append(manifests, entry) < 0) {
		json_decref(list);
		return err_set(e, ENOMEM, "out of memory");
	}
	tag_of(subject, path);
	return push_json(r, strrchr(path, '/') + 1, INDEX_TYPE, list, &n, digest, e);
}

int referrers_push(struct remote *r, const char *subject, const char *type, const void *bytes,
		   size_t n, char digest[DIGEST_TEXT], struct err *e)
{
	char blob[DIGEST_TEXT], config[DIGEST_TEXT];
	json_t *list = NULL, *entry;
	size_t manifest_n;
	bool listed;
	int x = push_bytes(r, bytes, n, blob, e);

	if (x == 0)
		x = push_bytes(r, EMPTY, strlen(EMPTY), config, e);
	if (x == 0)
		x = push_artifact(r, subject, type, blob, n, config, &manifest_n, digest, e);
	if (x == 0)
		x = get_list(r, subject, &list, &listed, e);
	if (x < 0)
		return x;
	if (!listed && !lists(json_object_get(list, "manifests"), digest)) {
		entry = json_pack("{s:s, s:s, s:I, s:s}", "mediaType", MANIFEST_TYPE, "digest",
				  digest, "size", (json_int_t)manifest_n, "artifactType", type);
		x = entry ? push_list(r, subject, list, entry, e)
			  : err_set(e, ENOMEM, "out of memory");
		json_decref(entry);
	}
	json_decref(list);
	return x;
}
