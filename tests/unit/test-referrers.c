/* SPDX-License-Identifier: Apache-2.0 */
/* test-referrers.c - uploads and referrers, document by document: what each request says, to the
 * byte and to the second, and what its answer leads to.  The registry is a table in the place of
 * document_fetch; test-push.c has the same over HTTP. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/scope.h"
#include "fetch/document.h"
#include "fetch/endpoint.h"
#include "fetch/push.h"
#include "fetch/referrers.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { NOTES = 32 * 1024 };

#define FROM "https://reg.io/v2/app/blobs/uploads/"
#define OCI "application/vnd.oci."
#define INDEX_TYPE OCI "image.index.v1+json"
#define MANIFEST_TYPE OCI "image.manifest.v1+json"

/* ---- the registry ---- */

struct reply {
	const char *asked; /* METHOD PATH, or with a '*' at its end how that begins */
	int r;
	const char *text; /* NULL: none */
	const char *location;
	unsigned times; /* 0: always */
};

static struct {
	struct reply replies[12]; /* the first that fits; to all else: -ENOENT */
	char notes[NOTES]; /* what was asked */
	uint64_t now; /* ms */
	uint64_t lasts; /* ms that each answer takes */
} world;

static char queue_place, stats_place, remote_place;
static struct endpoint endpoint = { .name = "reg.io" };

struct queue *__wrap_remote_queue(struct remote *r);
struct stats *__wrap_remote_stats(const struct remote *r);
const struct endpoint *__wrap_remote_endpoint(const struct remote *r);
int __wrap_document_fetch(struct document *d, struct err *e);

static struct remote *remote(void)
{
	return (struct remote *)&remote_place;
}

struct queue *__wrap_remote_queue(struct remote *r)
{
	assert_ptr_equal(r, remote());
	return (struct queue *)&queue_place;
}

struct stats *__wrap_remote_stats(const struct remote *r)
{
	assert_ptr_equal(r, remote());
	return (struct stats *)&stats_place;
}

const struct endpoint *__wrap_remote_endpoint(const struct remote *r)
{
	assert_ptr_equal(r, remote());
	return &endpoint;
}

static void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
	size_t n = strlen(world.notes);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(world.notes + n, NOTES - n, fmt, ap);
	va_end(ap);
	assert_true(strlen(world.notes) + 1 < NOTES);
}

/* METHOD PATH and what is said beside it; times are from now on. */
static void note_document(const struct document *d)
{
	char body[4096] = "";

	note("%s %s limit=%zu", d->method, d->path, d->limit);
	if (d->accept)
		note(" accept=%s", d->accept);
	if (d->digest)
		note(" digest=%.12s", d->digest);
	if (d->peek)
		note(" peek");
	if (d->deadline != CLOCK_NEVER)
		note(" deadline=%" PRIu64, d->deadline - world.now);
	if (d->retry_until == 0)
		note(" once");
	else
		note(" tries=%" PRIu64, d->retry_until - world.now);
	if (d->silence)
		note(" silence=%u", d->silence);
	if (d->stats)
		note(" counted");
	if (d->content_type)
		note(" type=%s", d->content_type);
	if (d->body) {
		assert_true(d->body->size < sizeof body);
		assert_int_equal(source_pread(d->body, body, d->body->size, 0, NULL), 0);
		note(" body=%s", body);
	}
	note("\n");
}

static bool fits(const struct reply *reply, const char *asked)
{
	size_t n = strlen(reply->asked);

	if (reply->times == UINT32_MAX)
		return false;
	return reply->asked[n - 1] == '*' ? strncmp(reply->asked, asked, n - 1) == 0
					  : strcmp(reply->asked, asked) == 0;
}

static struct reply *find_reply(const struct document *d)
{
	static struct reply nothing = { .asked = "", .r = -ENOENT };
	char asked[512];
	size_t i;

	snprintf(asked, sizeof asked, "%s %s", d->method, d->path);
	for (i = 0; i < COUNT_OF(world.replies) && world.replies[i].asked; i++)
		if (fits(&world.replies[i], asked))
			return &world.replies[i];
	return &nothing;
}

int __wrap_document_fetch(struct document *d, struct err *e)
{
	struct reply *reply = find_reply(d);
	int r = reply->r;

	assert_ptr_equal(d->queue, &queue_place);
	assert_true(!d->digest == !d->check && !d->text && !d->n && !d->from);
	note_document(d);
	world.now += world.lasts;
	if (reply->times > 0 && --reply->times == 0)
		reply->times = UINT32_MAX;
	if (r < 0)
		return err_set(e, -r, "reg.io: %s", strerror(-r));
	if (reply->text) {
		d->text = __real_strdup(reply->text);
		d->n = strlen(reply->text);
	}
	d->from = __real_strdup(FROM);
	d->answer.location = reply->location ? __real_strdup(reply->location) : NULL;
	return d->check ? d->check(d, &d->answer, e) : 0;
}

static uint64_t now_us(void)
{
	return world.now * 1000;
}

static const struct clock_ops clock_of_test = { .now_us = now_us };

static void use(const struct reply *replies, size_t count)
{
	memset(&world, 0, sizeof world);
	memcpy(world.replies, replies, count * sizeof *replies);
	world.now = 5000;
	world.lasts = 7;
}

#define USE(...)                                                                                   \
	do {                                                                                       \
		const struct reply replies_[] = { __VA_ARGS__ };                                   \
	                                                                                           \
		use(replies_, COUNT_OF(replies_));                                                 \
	} while (0)

static void expect_notes(const char *what, const char *notes)
{
	if (strcmp(world.notes, notes) != 0)
		fail_msg("%s: asked was\n%snot\n%s", what, world.notes, notes);
}

/* ---- blobs ---- */

#define HEX16 "0123456789abcdef"
#define BLOB "sha256:" HEX16 HEX16 HEX16 HEX16
#define LONG "sha512:" HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16

/* What is asked of the registry; the digest D is a text of the program. */
#define LOOK(d) "HEAD /blobs/" d " limit=65536 tries=3000\n"
#define PEEK(d) "GET /blobs/" d " limit=65536 peek tries=15000\n"
#define POST "POST /blobs/uploads/ limit=65536 tries=15000\n"
#define PUT(d, text)                                                                               \
	"PUT " FROM "u?digest=" d " limit=65536 once silence=300"                                  \
	" type=application/octet-stream body=" text "\n"
#define TO_U                                                                                       \
	{                                                                                          \
		"POST *", 0, NULL, "u", 0                                                          \
	}
#define TAKES                                                                                      \
	{                                                                                          \
		"PUT *", 0, NULL, NULL, 0                                                          \
	}

static int push(const char *digest, struct err *e)
{
	struct source *s;
	int r;

	assert_int_equal(source_open_memory("hello", 5, &s, NULL), 0);
	r = push_blob(remote(), digest, s, e);
	source_close(s);
	return r;
}

/* What HEAD says, then what GET says (1: it is not asked), and what comes of it. */
static const struct {
	int head, get, r;
} looks[] = {
	{ 0, 1, 1 },
	{ -ENOENT, 1, 0 },
	{ -ESHUTDOWN, 1, -ESHUTDOWN },
	{ -ENOMEM, 1, -ENOMEM },
	{ -EACCES, 0, 1 },
	{ -EIO, 0, 1 },
	{ -ETIMEDOUT, 0, 1 },
	{ -EACCES, -EACCES, 0 },
	{ -EACCES, -ENOENT, 0 },
	{ -EACCES, -EIO, 0 },
	{ -EACCES, -EBADMSG, 0 },
	{ -EACCES, -EPROTO, 0 },
	{ -EACCES, -ETIMEDOUT, -ETIMEDOUT },
	{ -EACCES, -ESHUTDOWN, -ESHUTDOWN },
	{ -EACCES, -ENOMEM, -ENOMEM },
	{ -EACCES, -EHOSTUNREACH, -EHOSTUNREACH },
	{ -EACCES, -ECONNREFUSED, -ECONNREFUSED },
	{ -EACCES, -ECONNRESET, -ECONNRESET },
	{ -EHOSTUNREACH, -EHOSTUNREACH, -EHOSTUNREACH },
};

static void a_blob_is_looked_for(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(looks); i++) {
		struct err e = { "" };
		int r;

		USE({ "HEAD *", looks[i].head, NULL, NULL, 0 },
		    { "GET *", looks[i].get, NULL, NULL, 0 }, TO_U, TAKES);
		r = push(BLOB, &e);
		if (r != looks[i].r)
			fail_msg("row %zu: %d, %s", i, r, e.msg);
		if (looks[i].get == 1)
			expect_notes("HEAD",
				     r == 0 ? LOOK(BLOB) POST PUT(BLOB, "hello") : LOOK(BLOB));
		else
			expect_notes("GET", r == 0 ? LOOK(BLOB) PEEK(BLOB) POST PUT(BLOB, "hello")
						   : LOOK(BLOB) PEEK(BLOB));
	}
	/* the longest name has room */
	USE({ "HEAD *", -EACCES, NULL, NULL, 0 }, { "GET *", -EACCES, NULL, NULL, 0 }, TO_U, TAKES);
	assert_int_equal(push(LONG, NULL), 0);
	expect_notes("sha512", LOOK(LONG) PEEK(LONG) POST PUT(LONG, "hello"));
}

/* What the first PUT says, then how often it is put in all. */
static const struct {
	int put;
	unsigned tries;
} uploads[] = {
	{ 0, 1 },	   { -EACCES, 1 },     { -ESHUTDOWN, 1 }, { -ENOMEM, 1 },	{ -EIO, 3 },
	{ -ETIMEDOUT, 3 }, { -ECONNRESET, 3 }, { -ENOENT, 3 },	  { -ECONNREFUSED, 3 },
};

static unsigned count(const char *begin)
{
	unsigned n = 0;
	const char *p;

	for (p = world.notes; *p != '\0'; p = strchr(p, '\n') + 1)
		n += strncmp(p, begin, strlen(begin)) == 0;
	return n;
}

static void an_upload_is_begun_anew(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(uploads); i++) {
		struct err e = { "" };
		int r;

		USE(TO_U, { "PUT *", uploads[i].put, NULL, NULL, 0 });
		r = push(BLOB, &e);
		if (r != uploads[i].put || count("PUT ") != uploads[i].tries ||
		    count("POST ") != uploads[i].tries || count("HEAD ") != uploads[i].tries)
			fail_msg("row %zu: %d\n%s", i, r, world.notes);
	}
	/* it broke, and then nobody can say whether it is there */
	USE({ "HEAD *", -ENOENT, NULL, NULL, 1 }, { "HEAD *", -EIO, NULL, NULL, 0 },
	    { "GET *", -ETIMEDOUT, NULL, NULL, 0 }, TO_U, { "PUT *", -EIO, NULL, NULL, 0 });
	assert_int_equal(push(BLOB, NULL), -ETIMEDOUT);
	assert_int_equal(count("PUT "), 1);
	/* a place for it that is refused is asked for again as well */
	USE({ "POST *", -EIO, NULL, NULL, 2 }, TO_U, TAKES);
	assert_int_equal(push(BLOB, NULL), 0);
	assert_int_equal(count("POST "), 3);
	assert_int_equal(count("PUT "), 1);
}

static void a_manifest_is_put(void **state)
{
	struct err e;

	USE({ "PUT /manifests/v1", 0, NULL, NULL, 0 });
	assert_int_equal(push_manifest(remote(), "v1", "x/y", "{12345}", 7, &e), 0);
	assert_int_equal(push_manifest(remote(), "v2", "x/y", "{12345}", 6, &e), -ENOENT);
	expect_notes("manifests",
		     "PUT /manifests/v1 limit=65536 tries=15000 type=x/y body={12345}\n"
		     "PUT /manifests/v2 limit=65536 tries=15000 type=x/y body={12345\n");
}

/* ---- what is found ---- */

#define TYPE "a/b"
#define HELLO "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define SUBJECT "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" /* {} */
#define TAG "sha256-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define ARTIFACT "{\"layers\":[{\"digest\":\"" HELLO "\"},{\"digest\":\"" BLOB "\"}]}"
#define TIMES " deadline=60000 tries=15000 counted\n"
#define LIST "GET /referrers/" SUBJECT " limit=4194304 accept=" INDEX_TYPE TIMES
#define TAGGED "GET /manifests/" TAG " limit=4194304 accept=" INDEX_TYPE TIMES

static char artifact_digest[DIGEST_TEXT];

/* A text with another one in the place of its "%s"; the caller frees it. */
static char *fill_in(const char *text, const char *with)
{
	const char *at = text ? strstr(text, "%s") : NULL;
	char *out = NULL;

	if (!text)
		return NULL;
	assert_true(at ? asprintf(&out, "%.*s%s%s", (int)(at - text), text, with, at + 2) > 0
		       : asprintf(&out, "%s", text) > 0);
	return out;
}

static const struct {
	const char *what;
	int list_r; /* of the list */
	const char *list, *tagged;
	int r;
	const char *text; /* of the message */
	bool asks_tag;
} finds[] = {
	{ "listed", 0, "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", NULL,
	  0, "", false },
	{ "tagged", -ENOENT, NULL,
	  "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", 0, "", true },
	{ "a list that is an object", 0, "{\"manifests\":{}}",
	  "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", 0, "", true },
	{ "a list without a byte", 0, NULL,
	  "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", 0, "", true },
	{ "a list that is no JSON", 0, "<html>",
	  "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", 0, "", true },
	{ "neither is a list", 0, "{}", "[]", -EBADMSG, "the list of referrers is no index", true },
	{ "shutting down", -ESHUTDOWN, NULL, "{\"manifests\":[]}", -ESHUTDOWN, "reg.io: ", false },
	{ "away", -ETIMEDOUT, NULL, NULL, -ENOENT, "nothing of that kind refers to " SUBJECT,
	  true },
	{ "none", 0, "{\"manifests\":[]}", "{\"manifests\":[]}", -ENOENT,
	  "nothing of that kind refers to " SUBJECT, false },
	{ "other kinds", 0,
	  "{\"manifests\":[1,\"x\",{},{\"artifactType\":\"" TYPE "\"},"
	  "{\"artifactType\":\"" TYPE "c\",\"digest\":\"%s\"},{\"digest\":\"" BLOB "\"}]}",
	  NULL, -ENOENT, "nothing of that kind", false },
};

static void referrers_are_looked_for(void **state)
{
	size_t i;

	assert_int_equal(digest_bytes(ARTIFACT, sizeof ARTIFACT - 1, artifact_digest, NULL), 0);
	for (i = 0; i < COUNT_OF(finds); i++) {
		AUTO_FREE char *list = fill_in(finds[i].list, artifact_digest);
		AUTO_FREE char *tagged = fill_in(finds[i].tagged, artifact_digest);
		AUTO_FREE char *expected = NULL;
		char artifact[128], *bytes = NULL;
		struct err e = { "" };
		size_t n = 0;
		int r;

		snprintf(artifact, sizeof artifact, "GET /manifests/%s", artifact_digest);
		USE({ "GET /referrers/" SUBJECT, finds[i].list_r, list, NULL, 0 },
		    { artifact, 0, ARTIFACT, NULL, 0 },
		    { "GET /manifests/" TAG, tagged ? 0 : -ENOENT, tagged, NULL, 0 },
		    { "GET /blobs/" HELLO, 0, "hello", NULL, 0 });
		r = referrers_find(remote(), SUBJECT, TYPE, 10, &bytes, &n, &e);
		if (r != finds[i].r || !strstr(e.msg, finds[i].text))
			fail_msg("%s: %d, %s", finds[i].what, r, e.msg);
		assert_true(asprintf(&expected, LIST "%s", finds[i].asks_tag ? TAGGED : "") > 0);
		if (strncmp(world.notes, expected, strlen(expected)) != 0)
			fail_msg("%s: asked was\n%s", finds[i].what, world.notes);
		if (r < 0) {
			assert_string_equal(world.notes, expected);
			assert_null(bytes);
			continue;
		}
		snprintf(artifact, sizeof artifact, "digest=%.12s" TIMES "GET /blobs/",
			 artifact_digest);
		assert_non_null(strstr(world.notes, artifact));
		assert_non_null(
			strstr(world.notes, " limit=4194304 accept=" MANIFEST_TYPE " digest="));
		assert_non_null(strstr(world.notes,
				       "GET /blobs/" HELLO " limit=10 digest=sha256:2cf24" TIMES));
		assert_int_equal(n, 5);
		assert_string_equal(bytes, "hello");
		free(bytes);
	}
}

/* The spec cuts the digest in a tag after 64 digits; in a path it is whole. */
static void a_long_subject_has_a_short_tag(void **state)
{
	struct err e;
	size_t n;
	char *bytes;

	USE({ "none", 0, NULL, NULL, 0 });
	assert_int_equal(referrers_find(remote(), LONG, TYPE, 10, &bytes, &n, &e), -ENOENT);
	expect_notes("sha512", "GET /referrers/" LONG " limit=4194304 accept=" INDEX_TYPE TIMES
			       "GET /manifests/sha512-" HEX16 HEX16 HEX16 HEX16
			       " limit=4194304 accept=" INDEX_TYPE TIMES);
}

/* An artifact and a layer of either kind of digest. */
static void a_long_layer_is_fetched(void **state)
{
	char layer[DIGEST_ANY_TEXT], text[512], digest[DIGEST_ANY_TEXT], list[512], asked[2][256];
	char *bytes = NULL;
	struct err e = { "" };
	size_t n = 0;

	assert_int_equal(digest_bytes_like("sha512:", "hello", 5, layer, &e), 0);
	snprintf(text, sizeof text, "{\"layers\":[{\"digest\":\"%s\"}]}", layer);
	assert_int_equal(digest_bytes_like("sha512:", text, strlen(text), digest, &e), 0);
	snprintf(list, sizeof list,
		 "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}", digest);
	snprintf(asked[0], sizeof asked[0], "GET /manifests/%s", digest);
	snprintf(asked[1], sizeof asked[1], "GET /blobs/%s", layer);
	USE({ "GET /referrers/*", 0, list, NULL, 0 }, { asked[0], 0, text, NULL, 0 },
	    { asked[1], 0, "hello", NULL, 0 });
	if (referrers_find(remote(), SUBJECT, TYPE, 10, &bytes, &n, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(bytes, "hello");
	free(bytes);
}

static void an_artifact_is_what_its_digest_says(void **state)
{
	static const struct {
		const char *artifact, *blob;
		int r;
		const char *text;
	} rows[] = {
		{ "{\"layers\":[]}", NULL, -EBADMSG, "the artifact has no layer" },
		{ "{\"layers\":{}}", NULL, -EBADMSG, "the artifact has no layer" },
		{ "{\"layers\":[{\"digest\":\"sha256:1\"}]}", NULL, -EBADMSG,
		  "the artifact has no layer" },
		{ "{\"layers\":[{\"digest\":1}]}", NULL, -EBADMSG, "the artifact has no layer" },
		{ "no JSON", NULL, -EBADMSG, "the artifact has no layer" },
		{ ARTIFACT, "hallo", -EBADMSG, "what came for " HELLO " has the digest sha256:" },
		{ ARTIFACT, NULL, -EBADMSG, "what came for " HELLO " has the digest sha256:" },
	};
	size_t i, n;

	for (i = 0; i < COUNT_OF(rows); i++) {
		char list[256], digest[DIGEST_TEXT], *bytes = NULL;
		struct err e = { "" };
		int r;

		assert_int_equal(
			digest_bytes(rows[i].artifact, strlen(rows[i].artifact), digest, &e), 0);
		snprintf(list, sizeof list,
			 "{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}",
			 digest);
		USE({ "GET /referrers/*", 0, list, NULL, 0 },
		    { "GET /manifests/*", 0, rows[i].artifact, NULL, 0 },
		    { "GET /blobs/*", 0, rows[i].blob, NULL, 0 });
		r = referrers_find(remote(), SUBJECT, TYPE, 10, &bytes, &n, &e);
		if (r != rows[i].r || !strstr(e.msg, rows[i].text))
			fail_msg("row %zu: %d, %s", i, r, e.msg);
		assert_null(bytes);
	}
}

/* ---- what is pushed ---- */

#define EMPTY "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define PUSHED_WITH(subject_type, subject_size)                                                    \
	"{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST_TYPE "\",\"artifactType\":\"" TYPE        \
	"\",\"config\":{\"mediaType\":\"" OCI "empty.v1+json\",\"digest\":\"" EMPTY                \
	"\",\"size\":2},\"layers\":[{\"mediaType\":\"" TYPE "\",\"digest\":\"" HELLO               \
	"\",\"size\":5}],\"subject\":{\"mediaType\":\"" subject_type "\",\"digest\":\"%s"          \
	"\",\"size\":" subject_size "}}"
#define PUSHED PUSHED_WITH(MANIFEST_TYPE, "2")
#define DESCRIBE                                                                                   \
	"GET /manifests/" SUBJECT " limit=4194304 accept=" MANIFEST_ACCEPT                         \
	" digest=sha256:44136" TIMES
#define BOTH_BLOBS LOOK(HELLO) POST PUT(HELLO, "hello") LOOK(EMPTY) POST PUT(EMPTY, "{}")
#define PUT_MANIFEST "PUT /manifests/%s limit=65536 tries=15000 type=" MANIFEST_TYPE " body=%s\n"
#define PUT_INDEX "PUT /manifests/" TAG " limit=65536 tries=15000 type=" INDEX_TYPE " body=%s\n"

/* The manifest that is pushed, its digest, and its entry in a list. */
static char pushed[1024], pushed_digest[DIGEST_TEXT], pushed_entry[512];

static void expect_pushed(const char *form, const char *subject)
{
	AUTO_FREE char *text = fill_in(form, subject);

	snprintf(pushed, sizeof pushed, "%s", text);
	assert_int_equal(digest_bytes(pushed, strlen(pushed), pushed_digest, NULL), 0);
	snprintf(pushed_entry, sizeof pushed_entry,
		 "{\"mediaType\":\"" MANIFEST_TYPE
		 "\",\"digest\":\"%s\",\"size\":%zu,\"artifactType\":\"" TYPE "\"}",
		 pushed_digest, strlen(pushed));
}

static const struct {
	const char *what, *list, *tagged; /* %s: the artifact's digest */
	const char *index; /* that is put, %s: the new entry; NULL: none */
	bool asks_tag;
} pushes[] = {
	{ "the registry lists them", "{\"manifests\":[]}", NULL, NULL, false },
	{ "the first one", NULL, NULL,
	  "{\"schemaVersion\":2,\"mediaType\":\"" INDEX_TYPE "\",\"manifests\":[%s]}", true },
	{ "one more", NULL, "{\"manifests\":[{\"digest\":\"x\"},1,{}],\"more\":true}",
	  "{\"manifests\":[{\"digest\":\"x\"},1,{},%s],\"more\":true}", true },
	{ "the same again", NULL, "{\"manifests\":[{},{\"digest\":\"%s\"},{\"digest\":\"x\"}]}",
	  NULL, true },
};

static void a_referrer_is_pushed(void **state)
{
	size_t i;

	expect_pushed(PUSHED, SUBJECT);
	for (i = 0; i < COUNT_OF(pushes); i++) {
		AUTO_FREE char *list = fill_in(pushes[i].list, pushed_digest);
		AUTO_FREE char *tagged = fill_in(pushes[i].tagged, pushed_digest);
		AUTO_FREE char *index = fill_in(pushes[i].index, pushed_entry);
		char digest[DIGEST_TEXT] = "", expected[8192];
		struct err e = { "" };
		size_t n;

		USE(TO_U, TAKES, { "GET /manifests/" SUBJECT, 0, "{}", NULL, 0 },
		    { "GET /referrers/*", list ? 0 : -ENOENT, list, NULL, 0 },
		    { "GET /manifests/" TAG, tagged ? 0 : -ENOENT, tagged, NULL, 0 });
		if (referrers_push(remote(), SUBJECT, TYPE, "hello", 5, digest, &e) != 0)
			fail_msg("%s: %s", pushes[i].what, e.msg);
		assert_string_equal(digest, pushed_digest);
		n = (size_t)snprintf(expected, sizeof expected,
				     BOTH_BLOBS DESCRIBE PUT_MANIFEST LIST "%s", pushed_digest,
				     pushed, pushes[i].asks_tag ? TAGGED : "");
		if (index)
			snprintf(expected + n, sizeof expected - n, PUT_INDEX, index);
		expect_notes(pushes[i].what, expected);
	}
}

/* What the subject says it is stands in the artifact, and how large it is. */
static void a_subject_is_described(void **state)
{
	static const char text[] = "{\"mediaType\":\"x/y\"}";
	char subject[DIGEST_ANY_TEXT], digest[DIGEST_TEXT], asked[192];
	struct err e = { "" };

	assert_int_equal(digest_bytes_like("sha512:", text, sizeof text - 1, subject, &e), 0);
	expect_pushed(PUSHED_WITH("x/y", "19"), subject);
	snprintf(asked, sizeof asked, "GET /manifests/%s", subject);
	USE(TO_U, TAKES, { asked, 0, text, NULL, 0 },
	    { "GET /referrers/*", 0, "{\"manifests\":[]}", NULL, 0 });
	if (referrers_push(remote(), subject, TYPE, "hello", 5, digest, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(digest, pushed_digest);
	assert_non_null(strstr(world.notes, pushed));
}

/* Whatever fails ends it: nothing is put after it. */
static void a_push_ends_where_it_fails(void **state)
{
	static const struct {
		const char *asked;
		unsigned puts; /* that came before, and it */
	} rows[] = {
		{ "PUT " FROM "u?digest=" HELLO, 1 },
		{ "PUT " FROM "u?digest=" EMPTY, 2 },
		{ "GET /manifests/" SUBJECT, 2 },
		{ "PUT /manifests/sha256:*", 3 },
		{ "GET /manifests/" TAG, 3 },
		{ "PUT /manifests/" TAG, 4 },
		{ "GET /referrers/*", 3 },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		char digest[DIGEST_TEXT];
		struct err e = { "" };

		USE({ rows[i].asked, -ESHUTDOWN, NULL, NULL, 0 }, TO_U, TAKES,
		    { "GET /manifests/" SUBJECT, 0, "{}", NULL, 0 });
		assert_int_equal(referrers_push(remote(), SUBJECT, TYPE, "hello", 5, digest, &e),
				 -ESHUTDOWN);
		if (count("PUT ") != rows[i].puts)
			fail_msg("%s:\n%s", rows[i].asked, world.notes);
	}
	/* blobs that are there are not put */
	USE({ "HEAD *", 0, NULL, NULL, 0 }, TAKES, { "GET /manifests/" SUBJECT, 0, "{}", NULL, 0 });
	assert_int_equal(referrers_push(remote(), SUBJECT, TYPE, "hello", 5, artifact_digest, NULL),
			 0);
	assert_int_equal(count("PUT "), 2);
}

/* ---- no memory ---- */

/* Each allocation is refused once: it is told, and whoever is told that all is well has all. */
static void memory_runs_out(void **state)
{
	static const char list[] =
		"{\"manifests\":[{\"artifactType\":\"" TYPE "\",\"digest\":\"%s\"}]}";
	AUTO_FREE char *filled = NULL;
	char digest[DIGEST_TEXT], artifact[128], *bytes;
	unsigned refused[2] = { 0 };
	size_t n;
	long k;
	int r;

	assert_int_equal(digest_bytes(ARTIFACT, sizeof ARTIFACT - 1, artifact_digest, NULL), 0);
	filled = fill_in(list, artifact_digest);
	snprintf(artifact, sizeof artifact, "GET /manifests/%s", artifact_digest);
	for (k = 0, r = -1; r < 0; k++) {
		struct err e = { "" };

		USE({ "GET /referrers/*", 0, filled, NULL, 0 }, { artifact, 0, ARTIFACT, NULL, 0 },
		    { "GET /blobs/" HELLO, 0, "hello", NULL, 0 });
		bytes = NULL;
		allocs_left = k;
		r = referrers_find(remote(), SUBJECT, TYPE, 10, &bytes, &n, &e);
		allocs_left = -1;
		refused[0] += r < 0;
		assert_true(!bytes == (r < 0) && (r == 0 || e.msg[0] != '\0'));
		free(bytes);
	}
	for (k = 0, r = -1; r < 0; k++) {
		struct err e = { "" };

		USE(TO_U, TAKES, { "GET /manifests/" SUBJECT, 0, "{}", NULL, 0 },
		    { "GET /manifests/" TAG, 0, "{\"manifests\":[{}]}", NULL, 0 });
		allocs_left = k;
		r = referrers_push(remote(), SUBJECT, TYPE, "hello", 5, digest, &e);
		allocs_left = -1;
		refused[1] += r < 0;
		assert_true(r == 0 || e.msg[0] != '\0');
		assert_true(r < 0 || (count("PUT ") == 4 && strstr(world.notes, "[{},{")));
	}
	assert_true(refused[0] > 10 && refused[1] > 20);
}

static void a_manifest_is_not_put_without_memory(void **state)
{
	unsigned refused = 0;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -1; r < 0; k++) {
		USE(TAKES);
		allocs_left = k;
		r = push_manifest(remote(), "v1", "x/y", "{}", 2, &e);
		allocs_left = -1;
		refused += r < 0;
		assert_true(r == 0 || (r == -ENOMEM && strcmp(e.msg, "out of memory") == 0));
		assert_int_equal(count("PUT "), r == 0);
	}
	assert_int_equal(refused, 2);
}

static int set_up(void **state)
{
	clock_use(&clock_of_test);
	allocs_wrap_json();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_is_looked_for),
		cmocka_unit_test(an_upload_is_begun_anew),
		cmocka_unit_test(a_manifest_is_put),
		cmocka_unit_test(referrers_are_looked_for),
		cmocka_unit_test(a_long_subject_has_a_short_tag),
		cmocka_unit_test(a_long_layer_is_fetched),
		cmocka_unit_test(an_artifact_is_what_its_digest_says),
		cmocka_unit_test(a_referrer_is_pushed),
		cmocka_unit_test(a_subject_is_described),
		cmocka_unit_test(a_push_ends_where_it_fails),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(a_manifest_is_not_put_without_memory),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
