/* SPDX-License-Identifier: Apache-2.0 */
/* test-push.c - uploads and referrers: what is asked of a registry, and what its answers mean. */
#include "tests/unit/fakeregistry.h"

#include "core/base/digest.h"
#include "core/base/scope.h"
#include "fetch/push.h"
#include "fetch/referrers.h"

#define BASE "https://reg.io/v2/app"
#define UPLOADS BASE "/blobs/uploads/"
/* Of "hello". */
#define BLOB "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define URL BASE "/blobs/" BLOB
#define PARAM "digest=" BLOB

static struct {
	struct fetcher *fetcher;
	struct fetch_settings settings;
	struct remote *remote;
} w;

int __wrap_http_open(struct http **out, struct err *e);

int __wrap_http_open(struct http **out, struct err *e)
{
	return http_open_on(&fake_transport, NULL, out, e);
}

static void open_remote(bool push)
{
	struct reference ref;
	struct err e;

	assert_int_equal(fetcher_open(&w.fetcher, &e), 0);
	assert_int_equal(fetch_settings_init(&w.settings, &e), 0);
	free(w.settings.cache_dir);
	w.settings.cache_dir = NULL;
	w.settings.credentials = strdup("/nonexistent/auth.json");
	assert_int_equal(reference_parse("reg.io/app", &ref, &e), 0);
	if (remote_open(w.fetcher, &w.settings, &ref, NULL, push, &w.remote, &e) < 0)
		fail_msg("%s", e.msg);
	reference_release(&ref);
}

static void close_remote(void)
{
	remote_close(w.remote);
	fetcher_close(w.fetcher);
	fetch_settings_release(&w.settings);
}

static void expect_notes(const char *what, const char *notes)
{
	if (strcmp(fake.notes, notes) != 0)
		fail_msg("%s: asked was\n%s", what, fake.notes);
}

/* ---- where to upload ---- */

static const struct {
	const char *location, *put; /* what is put to, before the digest; NULL: nothing */
} places[] = {
	{ BASE "/blobs/uploads/u1", UPLOADS "u1?" },
	{ "/v2/app/blobs/uploads/u1?_state=a%3D%3D", UPLOADS "u1?_state=a%3D%3D&" },
	{ "u1?_state=x", UPLOADS "u1?_state=x&" },
	{ "./u1", UPLOADS "u1?" },
	{ "../uploads/u1", UPLOADS "u1?" },
	{ "?u=1", UPLOADS "?u=1&" },
	{ BASE "/blobs/uploads/u1?", UPLOADS "u1?" },
	{ BASE "/blobs/uploads/u1#x", UPLOADS "u1?" },
	{ BASE "/blobs/uploads/u1?a=b#x?y", UPLOADS "u1?a=b&" },
	{ "/a b?c=d e", "https://reg.io/a%20b?c=d%20e&" },
	{ "//other.io/u1", "https://other.io/u1?" },
	{ "https://other.io:8443/u1", "https://other.io:8443/u1?" },
	{ "http://reg.io/u1", NULL },
	{ "ftp://reg.io/u1", NULL },
	{ "https://me:secret@reg.io/u1", NULL },
};

static int push(struct err *e)
{
	struct source *s;
	int r;

	assert_int_equal(source_open_memory("hello", 5, &s, NULL), 0);
	r = push_blob(w.remote, BLOB, s, e);
	source_close(s);
	return r;
}

static void uploads_go_where_the_registry_says(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(places); i++) {
		AUTO_FREE char *headers = NULL, *expected = NULL;
		struct err e = { "" };
		int r;

		assert_true(asprintf(&headers, "Location: %s\r\n", places[i].location) > 0);
		struct route routes[] = {
			{ "POST", UPLOADS, NULL, 202, headers, NULL, 0 },
			{ "PUT", "*", NULL, 201, NULL, NULL, 0 },
		};
		fake_use(routes, 2);
		open_remote(true);
		r = push(&e);
		close_remote();
		assert_true(asprintf(&expected,
				     "HEAD " URL "\nPOST " UPLOADS "\nPUT %s" PARAM " body=hello\n",
				     places[i].put ? places[i].put : "") > 0);
		if (places[i].put) {
			assert_int_equal(r, 0);
			expect_notes(places[i].location, expected);
			continue;
		}
		assert_int_equal(r, -EPROTO);
		assert_string_equal(e.msg, "reg.io: the answer names no address to upload to: the "
					   "Location is missing, malformed, not http(s), or leaves "
					   "TLS");
		assert_null(strstr(fake.notes, "PUT"));
	}
}

/* ---- what is there, and what fails ---- */

#define HEAD "HEAD " URL "\n"
#define PEEK "GET " URL " range=0-0\n"
#define POST "POST " UPLOADS "\n"
#define PUT "PUT " UPLOADS "u1?" PARAM " body=hello\n"
#define PART "Content-Range: bytes 0-0/5\r\n"
#define TO_U1                                                                                      \
	{                                                                                          \
		"POST", UPLOADS, NULL, 202, "Location: u1\r\n", NULL, 0                            \
	}
#define PUT_OK                                                                                     \
	{                                                                                          \
		"PUT", UPLOADS "u1?" PARAM, NULL, 201, NULL, NULL, 0                               \
	}

static struct {
	const char *what;
	struct route routes[6];
	int result;
	const char *text, *notes;
} pushes[] = {
	{ "it is there", { { "HEAD", URL, NULL, 200, NULL, NULL, 0 } }, 1, "", HEAD },
	{ "an address that is signed for GET",
	  { { NULL, URL, NULL, 307, "Location: https://store.io/x\r\n", NULL, 0 },
	    { "HEAD", "https://store.io/x", NULL, 403, NULL, NULL, 0 },
	    { "GET", "https://store.io/x", NULL, 206, PART, "h", 0 } },
	  1,
	  "",
	  HEAD "HEAD https://store.io/x referer=" URL "\n" PEEK
	       "GET https://store.io/x range=0-0 referer=" URL "\n" },
	{ "who may write but not read",
	  { { "HEAD", URL, NULL, 403, NULL, NULL, 0 },
	    { "GET", URL, NULL, 403, NULL, NULL, 0 },
	    TO_U1,
	    PUT_OK },
	  0,
	  "",
	  HEAD PEEK POST PUT },
	{ "no HEAD",
	  { { "HEAD", URL, NULL, 405, NULL, NULL, 0 },
	    { "GET", URL, NULL, 404, NULL, NULL, 0 },
	    TO_U1,
	    PUT_OK },
	  0,
	  "",
	  HEAD PEEK POST PUT },
	{ "neither",
	  { { "HEAD", URL, NULL, 501, NULL, NULL, 0 },
	    { "GET", URL, NULL, 501, NULL, NULL, 0 },
	    TO_U1,
	    PUT_OK },
	  0,
	  "",
	  HEAD PEEK POST PUT },
	{ "another place for uploads",
	  { { "POST", UPLOADS, NULL, 307, "Location: https://up.io/v2/app/blobs/uploads/\r\n", NULL,
	      0 },
	    { "POST", "https://up.io/v2/app/blobs/uploads/", NULL, 202, "Location: u1\r\n", NULL,
	      0 },
	    { "PUT", "https://up.io/v2/app/blobs/uploads/u1?" PARAM, NULL, 201, NULL, NULL, 0 } },
	  0,
	  "",
	  HEAD POST "POST https://up.io/v2/app/blobs/uploads/ referer=" UPLOADS "\n"
		    "PUT https://up.io/v2/app/blobs/uploads/u1?" PARAM " body=hello\n" },
	{ "no place",
	  { { "POST", UPLOADS, NULL, 202, NULL, NULL, 0 } },
	  -EPROTO,
	  "the answer names no address to upload to",
	  HEAD POST HEAD POST HEAD POST },
	{ "it breaks once",
	  { TO_U1, { "PUT", UPLOADS "*", NULL, 500, NULL, NULL, 1 }, PUT_OK },
	  0,
	  "",
	  HEAD POST PUT HEAD POST PUT },
	{ "it broke behind its end",
	  { TO_U1,
	    { "PUT", UPLOADS "*", NULL, 500, NULL, NULL, 0 },
	    { "HEAD", URL, NULL, 404, NULL, NULL, 1 },
	    { "HEAD", URL, NULL, 200, NULL, NULL, 0 } },
	  1,
	  "",
	  HEAD POST PUT HEAD },
	{ "it breaks each time",
	  { TO_U1,
	    { "PUT", UPLOADS "*", NULL, 500, NULL,
	      "{\"errors\":[{\"code\":\"UNKNOWN\",\"message\":\"disk full\"}]}", 0 } },
	  -ETIMEDOUT,
	  "reg.io: HTTP 500 (internal server error): UNKNOWN: disk full, after 1 try",
	  HEAD POST PUT HEAD POST PUT HEAD POST PUT },
	{ "it is refused",
	  { { "POST", UPLOADS, NULL, 403, NULL,
	      "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"read only\"}]}", 0 } },
	  -EACCES,
	  "reg.io: HTTP 403 (forbidden): DENIED: read only",
	  HEAD POST },
	{ "it is read only",
	  { { "POST", UPLOADS, NULL, 405, NULL, NULL, 0 } },
	  -EIO,
	  "reg.io: HTTP 405 (method not allowed)",
	  HEAD POST HEAD POST HEAD POST },
};

static void pushes_take_answers_for_what_they_mean(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(pushes); i++) {
		struct err e = { "" };
		int r;

		fake_use(pushes[i].routes, 6);
		open_remote(true);
		r = push(&e);
		close_remote();
		if (r != pushes[i].result || (r < 0 && !strstr(e.msg, pushes[i].text)))
			fail_msg("%s: %d, %s", pushes[i].what, r, e.msg);
		expect_notes(pushes[i].what, pushes[i].notes);
	}
}

static void a_manifest_is_put(void **state)
{
	struct route routes[] = {
		{ "PUT", BASE "/manifests/v1", NULL, 201, NULL, NULL, 0 },
	};
	struct err e;

	fake_use(routes, 1);
	open_remote(true);
	assert_int_equal(push_manifest(w.remote, "v1", "x/y", "{}", 2, &e), 0);
	assert_int_equal(push_manifest(w.remote, "v2", "x/y", "{}", 2, &e), -ENOENT);
	close_remote();
	expect_notes("manifest", "PUT " BASE "/manifests/v1 body={}\n"
				 "PUT " BASE "/manifests/v2 body={}\n");
}

/* ---- referrers ---- */

#define SUBJECT "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" /* {} */
#define SUBJECT_URL BASE "/manifests/" SUBJECT
#define LIST BASE "/referrers/" SUBJECT
#define LIST_TAG                                                                                   \
	BASE "/manifests/sha256-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define TYPE "a/b"
#define ARTIFACT "{\"layers\":[{\"digest\":\"" BLOB "\"}]}"
#define OTHER "sha256:0000000000000000000000000000000000000000000000000000000000000000"
#define ENTRY(type, digest) "{\"artifactType\":\"" type "\",\"digest\":\"" digest "\"}"
#define INDEX(entries) "{\"manifests\":[" entries "]}"

static char artifact_digest[DIGEST_TEXT];

static struct {
	const char *what;
	const char *list; /* of LIST, NULL: 404; %s: the artifact's digest */
	const char *tagged; /* of LIST_TAG, NULL: 404 */
	const char *artifact, *blob;
	int result;
	const char *text;
} finds[] = {
	{ "listed", INDEX(ENTRY(TYPE, "%s")), NULL, ARTIFACT, "hello", 0, "hello" },
	{ "tagged", NULL, INDEX(ENTRY(TYPE, "%s")), ARTIFACT, "hello", 0, "hello" },
	{ "a list that is none", "[]", INDEX(ENTRY(TYPE, "%s")), ARTIFACT, "hello", 0, "hello" },
	{ "the last one counts",
	  INDEX(ENTRY(TYPE, OTHER) "," ENTRY("c/d", OTHER) "," ENTRY(TYPE, "%s") "," ENTRY("c/d",
											   OTHER)),
	  NULL, ARTIFACT, "hello", 0, "hello" },
	{ "without a digest it does not",
	  INDEX(ENTRY(TYPE, "%s") "," ENTRY(TYPE, "x") ",{\"artifactType\":1}"), NULL, ARTIFACT,
	  "hello", 0, "hello" },
	{ "none of the kind", INDEX(ENTRY("c/d", "%s")), NULL, ARTIFACT, "hello", -ENOENT,
	  "nothing of that kind refers to " SUBJECT },
	{ "none", NULL, NULL, NULL, NULL, -ENOENT, "nothing of that kind refers to " SUBJECT },
	{ "no index", NULL, "{}", NULL, NULL, -EBADMSG, "the list of referrers is no index" },
	{ "no layer", INDEX(ENTRY(TYPE, "%s")), NULL, "{\"layers\":[]}", NULL, -EBADMSG,
	  "the artifact has no layer" },
	{ "another artifact", INDEX(ENTRY(TYPE, OTHER)), NULL, NULL, NULL, -ENOENT,
	  "HTTP 404 (not found)" },
	{ "another blob", INDEX(ENTRY(TYPE, "%s")), NULL, ARTIFACT, "hallo", -EBADMSG,
	  "what came for " BLOB " has the digest sha256:" },
	{ "a large one", INDEX(ENTRY(TYPE, "%s")), NULL, ARTIFACT, "hello, hello", -EFBIG,
	  "an answer of more than 10 bytes" },
};

/* With the artifact's digest in it; the caller frees it. */
static char *fill_in(const char *text)
{
	const char *at = text ? strstr(text, "%s") : NULL;
	char *out;

	if (!at)
		return text ? strdup(text) : NULL;
	assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, artifact_digest, at + 2) >
		    0);
	return out;
}

static void referrers_are_found(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(finds); i++) {
		const char *artifact = finds[i].artifact ? finds[i].artifact : "{}";
		AUTO_FREE char *list = NULL, *tagged = NULL, *url = NULL, *bytes = NULL;
		struct err e = { "" };
		size_t n = 0;
		int r;

		assert_int_equal(digest_bytes(artifact, strlen(artifact), artifact_digest, NULL),
				 0);
		list = fill_in(finds[i].list);
		tagged = fill_in(finds[i].tagged);
		assert_true(asprintf(&url, BASE "/manifests/%s", artifact_digest) > 0);
		struct route routes[] = {
			{ "GET", LIST, NULL, list ? 200 : 404, NULL, list, 0 },
			{ "GET", LIST_TAG, NULL, tagged ? 200 : 404, NULL, tagged, 0 },
			{ "GET", url, NULL, 200, NULL, artifact, 0 },
			{ "GET", URL, NULL, 200, NULL, finds[i].blob, 0 },
		};
		fake_use(routes, 4);
		open_remote(false);
		r = referrers_find(w.remote, SUBJECT, TYPE, 10, &bytes, &n, &e);
		close_remote();
		if (r != finds[i].result || (r < 0 && !strstr(e.msg, finds[i].text)))
			fail_msg("%s: %d, %s", finds[i].what, r, e.msg);
		if (r == 0)
			assert_true(n == 5 && memcmp(bytes, "hello", 5) == 0);
	}
}

/* How many lines of the notes begin so. */
static unsigned count(const char *begin)
{
	unsigned n = 0;
	const char *p;

	for (p = fake.notes; p && *p != '\0'; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		n += strncmp(p, begin, strlen(begin)) == 0;
	return n;
}

static void a_referrer_is_pushed(void **state)
{
	struct route routes[] = {
		{ "HEAD", "*", NULL, 200, NULL, NULL, 0 }, /* the blobs are there */
		{ "GET", SUBJECT_URL, NULL, 200, NULL, "{}", 0 },
		{ "PUT", "*", NULL, 201, NULL, NULL, 0 },
		{ "GET", LIST, NULL, 200, NULL, "{\"manifests\":[]}", 0 },
	};
	char digest[DIGEST_TEXT];
	struct err e = { "" };

	/* the registry keeps the list */
	fake_use(routes, 4);
	open_remote(true);
	if (referrers_push(w.remote, SUBJECT, TYPE, "hello", 5, digest, &e) != 0)
		fail_msg("%s", e.msg);
	close_remote();
	assert_true(digest_is_valid(digest));
	assert_int_equal(count("PUT "), 1);
	assert_non_null(strstr(fake.notes, "\"artifactType\":\"" TYPE "\""));
	assert_non_null(strstr(fake.notes, "\"digest\":\"" BLOB "\",\"size\":5"));
	/* it does not: we add to what there is */
	routes[3] =
		(struct route){ "GET", LIST_TAG, NULL, 200, NULL, INDEX(ENTRY("c/d", OTHER)), 0 };
	fake_use(routes, 4);
	open_remote(true);
	assert_int_equal(referrers_push(w.remote, SUBJECT, TYPE, "hello", 5, digest, &e), 0);
	close_remote();
	assert_int_equal(count("PUT "), 2);
	assert_non_null(strstr(fake.notes,
			       "PUT " LIST_TAG " body={\"manifests\":[" ENTRY("c/d", OTHER) ",{"));
	assert_non_null(strstr(fake.notes, digest));
	/* there is none: we begin one */
	fake_use(routes, 3);
	open_remote(true);
	assert_int_equal(referrers_push(w.remote, SUBJECT, TYPE, "hello", 5, digest, &e), 0);
	close_remote();
	assert_int_equal(count("PUT " LIST_TAG), 1);
	/* the subject is not what its digest says */
	routes[1].body = "{ }";
	fake_use(routes, 3);
	open_remote(true);
	assert_int_equal(referrers_push(w.remote, SUBJECT, TYPE, "hello", 5, digest, &e), -EBADMSG);
	close_remote();
	assert_int_equal(count("PUT "), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uploads_go_where_the_registry_says),
		cmocka_unit_test(pushes_take_answers_for_what_they_mean),
		cmocka_unit_test(a_manifest_is_put),
		cmocka_unit_test(referrers_are_found),
		cmocka_unit_test(a_referrer_is_pushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
