/* SPDX-License-Identifier: Apache-2.0 */
/* test-remote.c - what is asked of registries, and what their answers mean: sizes, manifests,
 * reads, redirects, mirrors, logins on the way; over the transport of fakeregistry.h. */
#include "tests/unit/leftovers.h"
#include "tests/unit/fakeregistry.h"

#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/remote.h"
#include "tests/unit/loglib.h"

#define HEX16 "0123456789abcdef"
#define BLOB "sha256:" HEX16 HEX16 HEX16 HEX16
#define BASE "https://reg.io/v2/app"
#define URL BASE "/blobs/" BLOB
#define STORE "https://store.io/v2/kept/blobs/" BLOB
#define TOKEN "{\"token\":\"t\",\"expires_in\":300}"

static char folder[] = "/tmp/test-remote.XXXXXX";

static struct world {
	char *file; /* of credentials */
	struct fetcher *fetcher;
	struct fetch_settings settings;
	struct remote *remote;
} w;

int __wrap_http_open(struct http **out, struct err *e);

int __wrap_http_open(struct http **out, struct err *e)
{
	return http_open_on(&fake_transport, NULL, out, e);
}

static void write_credentials(const char *text)
{
	assert_int_equal(io_replace_file(w.file, text, strlen(text), NULL), 0);
}

/* `mirror` may be NULL. */
static void open_world(const char *name, const char *mirror, bool cached)
{
	struct reference ref;
	struct err e;

	w = (struct world){ 0 };
	assert_true(asprintf(&w.file, "%s/auth.json", folder) > 0);
	write_credentials("{}");
	assert_int_equal(fetcher_open(&w.fetcher, &e), 0);
	assert_int_equal(fetch_settings_init(&w.settings, &e), 0);
	free(w.settings.cache_dir);
	w.settings.cache_dir = NULL;
	if (cached)
		assert_true(asprintf(&w.settings.cache_dir, "%s/cache", folder) > 0);
	w.settings.credentials = strdup(w.file);
	w.settings.timeout = 5;
	if (mirror) {
		w.settings.mirrors = calloc(1, sizeof(char *));
		w.settings.mirrors[w.settings.mirror_count++] = strdup(mirror);
	}
	assert_int_equal(reference_parse(name, &ref, &e), 0);
	if (remote_open(w.fetcher, &w.settings, &ref, NULL, false, &w.remote, &e) < 0)
		fail_msg("%s", e.msg);
	reference_release(&ref);
}

static void open_remote(const char *name, const char *mirror)
{
	open_world(name, mirror, false);
}

static void open_cached(const char *name, const char *mirror)
{
	open_world(name, mirror, true);
}

static void close_remote(void)
{
	remote_close(w.remote);
	fetcher_close(w.fetcher);
	fetch_settings_release(&w.settings);
	free(w.file);
}

static void expect_notes(const char *what, const char *notes)
{
	if (strcmp(fake.notes, notes) != 0)
		fail_msg("%s: asked was\n%s", what, fake.notes);
}

/* ---- sizes ---- */

#define HEAD "HEAD " URL "\n"
#define PEEK "GET " URL " range=0-0\n"
#define PART "Content-Range: bytes 0-0/5\r\n"

static struct {
	const char *what;
	struct route routes[6];
	int64_t result;
	const char *text, *notes;
} sizes[] = {
	{ "HEAD", { { "HEAD", URL, NULL, 200, "Content-Length: 5\r\n", NULL, 0 } }, 5, "", HEAD },
	{ "HEAD, of one byte",
	  { { "HEAD", URL, NULL, 200, "Content-Length: 1\r\n", NULL, 0 } },
	  1,
	  "",
	  HEAD },
	{ "HEAD is forbidden",
	  { { "HEAD", URL, NULL, 403, NULL, NULL, 0 }, { "GET", URL, NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "HEAD is no method",
	  { { "HEAD", URL, NULL, 405, NULL, NULL, 0 }, { "GET", URL, NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "HEAD is not implemented",
	  { { "HEAD", URL, NULL, 501, NULL, NULL, 0 }, { "GET", URL, NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "no length",
	  { { "HEAD", URL, NULL, 200, "X: no length\r\n", NULL, 0 },
	    { "GET", URL, NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "no length of what is there",
	  { { "HEAD", URL, NULL, 200, "Content-Length: 0\r\n", NULL, 0 },
	    { "GET", URL, NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "an address that is signed for GET",
	  { { NULL, URL, NULL, 307, "Location: https://store.io/x?sig=a%2Bb\r\n", NULL, 0 },
	    { "HEAD", "https://store.io/x?sig=a%2Bb", NULL, 403, NULL, NULL, 0 },
	    { "GET", "https://store.io/x?sig=a%2Bb", NULL, 206, PART, "x", 0 } },
	  5,
	  "",
	  HEAD "HEAD https://store.io/x?sig=a%2Bb referer=" URL "\n" PEEK
	       "GET https://store.io/x?sig=a%2Bb range=0-0 referer=" URL "\n" },
	{ "a whole answer to a range",
	  { { "HEAD", URL, NULL, 403, NULL, NULL, 0 },
	    { "GET", URL, NULL, 200, NULL, "12345", 0 } },
	  5,
	  "",
	  HEAD PEEK },
	{ "no total",
	  { { "HEAD", URL, NULL, 403, NULL, NULL, 0 },
	    { "GET", URL, NULL, 206, "Content-Range: bytes 0-0/*\r\n", "x", 0 } },
	  -EPROTO,
	  BLOB ": the registry does not say how large it is",
	  HEAD PEEK },
	{ "not there",
	  { { "GET", URL, NULL, 404, NULL,
	      "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"blob unknown\"}]}", 0 } },
	  -ENOENT,
	  "reg.io: HTTP 404 (not found): BLOB_UNKNOWN: blob unknown",
	  HEAD PEEK },
	{ "busy once",
	  { { "HEAD", URL, NULL, 503, NULL, NULL, 1 },
	    { "HEAD", URL, NULL, 200, "Content-Length: 7\r\n", NULL, 0 } },
	  7,
	  "",
	  HEAD HEAD },
};

static void sizes_are_asked_for(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(sizes); i++) {
		struct err e = { "" };
		uint64_t size = 0;
		int r;

		fake_use(sizes[i].routes, 6);
		open_remote("reg.io/app", NULL);
		r = remote_blob_size(w.remote, BLOB, &size, &e);
		close_remote();
		if (sizes[i].result < 0 ? r != sizes[i].result : (int64_t)size != sizes[i].result)
			fail_msg("%s: %d, %" PRIu64 ", %s", sizes[i].what, r, size, e.msg);
		if (r < 0)
			assert_string_equal(e.msg, sizes[i].text);
		expect_notes(sizes[i].what, sizes[i].notes);
	}
}

/* Where HEAD is not answered GET is tried within the time of opening; 3 s of it are lost. */
static void a_head_without_answer_is_given_up(void **state)
{
	struct route routes[] = {
		{ "HEAD", URL, NULL, 2, NULL, NULL, 0 },
		{ "GET", URL, NULL, 206, PART, "x", 0 },
	};
	uint64_t size = 0;
	struct err e;

	fake_use(routes, 2);
	open_remote("reg.io/app", NULL);
	if (remote_blob_size(w.remote, BLOB, &size, &e) != 0)
		fail_msg("%s", e.msg);
	close_remote();
	assert_int_equal(size, 5);
}

#define LONG "sha512:" HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16

static void a_sha512_digest_is_asked_for_in_full(void **state)
{
	struct route routes[] = {
		{ "HEAD", BASE "/blobs/" LONG, NULL, 200, "Content-Length: 5\r\n", NULL, 0 },
	};
	uint64_t size;
	struct err e;

	fake_use(routes, 1);
	open_remote("reg.io/app", NULL);
	assert_int_equal(remote_blob_size(w.remote, LONG, &size, &e), 0);
	close_remote();
	expect_notes("sha512", "HEAD " BASE "/blobs/" LONG "\n");
}

/* ---- manifests ---- */

#define MARKED                                                                                     \
	"{\"layers\":[{\"annotations\":{\"containerd.io/snapshot/overlaybd/blob-digest\":\"" BLOB  \
	"\",\"containerd.io/snapshot/overlaybd/blob-size\":\"5\"}}]}"
#define TAG BASE "/manifests/latest"

static struct {
	const char *what;
	struct route routes[6];
	int result;
	const char *text; /* of the error; of what is right: what was asked */
} manifests[] = {
	{ "a tag", { { "GET", TAG, NULL, 200, NULL, MARKED, 0 } }, 0, "GET " TAG "\n" },
	{ "no such tag",
	  { { "GET", TAG, NULL, 404, NULL, NULL, 0 } },
	  -ENOENT,
	  "reg.io/app:latest: there is no such image at reg.io (HTTP 404); check name and tag" },
	{ "a page",
	  { { "GET", TAG, NULL, 200, NULL, "<html>", 0 } },
	  -EINVAL,
	  "reg.io/app:latest: reg.io: wrong JSON in line 1, column 1" },
	{ "another one than is said",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: " BLOB "\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "a digest of an algorithm that nobody knows",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: blake3:abc\r\n", MARKED, 0 } },
	  0,
	  "GET " TAG "\n" },
	{ "no digest",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: \r\n", MARKED, 0 } },
	  0,
	  "GET " TAG "\n" },
	{ "a digest that is none",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: hello\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "a digest that is cut short",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: sha256:0123\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "a digest without an algorithm",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: :0123\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "a digest that is all algorithm",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: md5:\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "a sha512 digest that is cut short",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: sha512:0123\r\n", MARKED, 0 } },
	  -EBADMSG,
	  "the manifest is not the one that Docker-Content-Digest names" },
	{ "an algorithm that begins like another",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: sha512-256:0123\r\n", MARKED, 0 } },
	  0,
	  "GET " TAG "\n" },
	{ "another such",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: sha256d:0123\r\n", MARKED, 0 } },
	  0,
	  "GET " TAG "\n" },
	{ "a short one",
	  { { "GET", TAG, NULL, 200, "Docker-Content-Digest: x:0\r\n", MARKED, 0 } },
	  0,
	  "GET " TAG "\n" },
	{ "304 for nothing",
	  { { "GET", TAG, NULL, 304, NULL, NULL, 0 } },
	  -EPROTO,
	  "reg.io/app:latest: HTTP 304 to an unconditional request" },
	{ "an index to what has another digest",
	  { { "GET", TAG, NULL, 200, NULL, "{\"manifests\":[{\"digest\":\"" BLOB "\"}]}", 0 },
	    { "GET", BASE "/manifests/" BLOB, NULL, 200, NULL, "{}", 0 } },
	  -EBADMSG,
	  "what came for " BLOB " has the digest sha256:" },
	{ "forbidden",
	  { { "GET", TAG, NULL, 403, NULL, "{\"errors\":[{\"code\":\"DENIED\"}]}", 0 } },
	  -EACCES,
	  "reg.io/app:latest: reg.io: HTTP 403 (forbidden): DENIED" },
	{ "too many",
	  { { "GET", TAG, NULL, 429, "Retry-After: 100\r\n",
	      "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow down\"}]}", 0 } },
	  -ETIMEDOUT,
	  "reg.io: HTTP 429 (too many requests): TOOMANYREQUESTS: slow down, after " },
	{ "a redirect to nowhere",
	  { { "GET", TAG, NULL, 302, NULL, NULL, 0 } },
	  -EPROTO,
	  "reg.io: HTTP 302 (found elsewhere); redirect refused: the Location is missing" },
	{ "a redirect out of TLS",
	  { { "GET", TAG, NULL, 307, "Location: http://reg.io/x\r\n", NULL, 0 } },
	  -EPROTO,
	  "or leaves TLS" },
	{ "a redirect that has none",
	  { { "GET", TAG, NULL, 300, NULL, NULL, 0 } },
	  -EIO,
	  "reg.io: HTTP 300 (multiple choices)" },
	{ "round and round",
	  { { "GET", TAG, NULL, 307, "Location: /v2/app/manifests/latest\r\n", NULL, 0 } },
	  -ELOOP,
	  "reg.io: too many redirects" },
};

static void manifests_are_asked_for(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(manifests); i++) {
		char digest[DIGEST_ANY_TEXT];
		struct manifest m = { 0 };
		struct err e = { "" };
		int r;

		if (manifests[i].result == -ETIMEDOUT && !getenv("FULL"))
			continue; /* the 15 s of opening */
		fake_use(manifests[i].routes, 6);
		open_remote("reg.io/app", NULL);
		r = remote_resolve(w.remote, &m, digest, &e);
		close_remote();
		if (r != manifests[i].result)
			fail_msg("%s: %d, %s", manifests[i].what, r, e.msg);
		if (r < 0 && !strstr(e.msg, manifests[i].text))
			fail_msg("%s: %s", manifests[i].what, e.msg);
		if (r == 0) {
			expect_notes(manifests[i].what, manifests[i].text);
			assert_int_equal(m.layer_count, 1);
			assert_true(digest_is_valid(digest));
		}
		manifest_release(&m);
	}
}

static void a_digest_is_asked_for_by_itself(void **state)
{
	static const char *const kinds[] = { "sha256:", "sha512:" };
	size_t i;

	for (i = 0; i < COUNT_OF(kinds); i++) {
		char digest[DIGEST_ANY_TEXT], name[192], url[224], got[DIGEST_ANY_TEXT] = "";
		struct route routes[] = { { "GET", url, NULL, 200, NULL, MARKED, 0 } };
		struct manifest m = { 0 };
		struct err e;

		assert_int_equal(digest_bytes_like(kinds[i], MARKED, strlen(MARKED), digest, &e),
				 0);
		snprintf(name, sizeof name, "reg.io/app@%s", digest);
		snprintf(url, sizeof url, BASE "/manifests/%s", digest);
		fake_use(routes, 1);
		open_remote(name, NULL);
		if (remote_resolve(w.remote, &m, got, &e) != 0)
			fail_msg("%s", e.msg);
		close_remote();
		assert_string_equal(got, digest);
		assert_int_equal(m.layer_count, 1);
		assert_int_equal(m.layers[0].size, 5);
		manifest_release(&m);
	}
}

/* An index may lead to an index that leads to an image, and no further. */
static void indexes_lead_to_indexes(void **state)
{
	char text[4][256], digest[4][DIGEST_ANY_TEXT], url[3][256], got[DIGEST_ANY_TEXT];
	struct route routes[] = {
		{ "GET", url[0], NULL, 200, NULL, text[0], 0 },
		{ "GET", url[1], NULL, 200, NULL, text[1], 0 },
		{ "GET", url[2], NULL, 200, NULL, text[2], 0 },
		{ "GET", TAG, NULL, 200, NULL, NULL, 0 },
	};
	struct err e = { "" };
	size_t i;
	int r;

	snprintf(text[0], sizeof text[0], "%s", MARKED);
	for (i = 0; i < 4; i++) {
		if (i > 0)
			snprintf(text[i], sizeof text[i], "{\"manifests\":[{\"digest\":\"%s\"}]}",
				 digest[i - 1]);
		assert_int_equal(digest_bytes(text[i], strlen(text[i]), digest[i], NULL), 0);
		if (i < 3)
			snprintf(url[i], sizeof url[i], BASE "/manifests/%.*s", DIGEST_TEXT - 1,
				 digest[i]);
	}
	for (i = 0; i < 4; i++) {
		struct manifest m = { 0 };

		routes[3].body = text[i];
		fake_use(routes, 4);
		open_remote("reg.io/app", NULL);
		r = remote_resolve(w.remote, &m, got, &e);
		close_remote();
		if (r != (i < 3 ? 0 : -EINVAL))
			fail_msg("%zu indexes: %d %s", i, r, e.msg);
		if (r == 0)
			assert_string_equal(got, digest[0]);
		manifest_release(&m);
	}
	assert_string_equal(e.msg, "reg.io/app:latest: indexes that lead to indexes");
}

/* ---- what the cache knows of a tag ---- */

static int resolve(struct err *e)
{
	char digest[DIGEST_ANY_TEXT];
	struct manifest m = { 0 };
	int r = remote_resolve(w.remote, &m, digest, e);

	manifest_release(&m);
	return r;
}

#define LOCAL "http://localhost:5000/v2/app/manifests/latest"
#define OTHER                                                                                      \
	"{\"layers\":[{\"annotations\":{\"containerd.io/snapshot/overlaybd/blob-digest\":\"" BLOB  \
	"\",\"containerd.io/snapshot/overlaybd/blob-size\":\"6\"}}]}"

#define USING "using the manifest cached for this tag, sha256:"

/* One after the other, with the same cache. */
static const struct {
	const char *what;
	unsigned status;
	const char *body;
	int result;
	const char *text; /* of the error */
	const char *means; /* the manifest it comes to */
	const char *known; /* what is said to be here already */
} known_tags[] = {
	{ "new", 200, MARKED, 0, "", MARKED, NULL },
	{ "not changed", 304, NULL, 0, "", MARKED, MARKED },
	{ "changed", 200, OTHER, 0, "", OTHER, MARKED },
	{ "and known", 304, NULL, 0, "", OTHER, OTHER },
	{ "away", 0, NULL, 0, "", OTHER, OTHER },
	{ "forbidden", 403, NULL, -EACCES, "HTTP 403 (forbidden)", NULL, OTHER },
	{ "gone", 404, NULL, -ENOENT, "there is no such image at localhost:5000", NULL, OTHER },
	{ "still known", 304, NULL, 0, "", OTHER, OTHER },
};

static void digest_of_text(const char *text, char digest[DIGEST_ANY_TEXT])
{
	assert_int_equal(digest_bytes(text, strlen(text), digest, NULL), 0);
}

static void a_tag_is_known(void **state)
{
	char digest[DIGEST_ANY_TEXT], got[DIGEST_ANY_TEXT], notes[400], command[64], name[256];
	struct route routes[] = { { "GET", LOCAL, NULL, 0, NULL, NULL, 0 },
				  { NULL, "https://*", NULL, 0, NULL, NULL, 0 } };
	struct err e = { "" };
	size_t i;
	int r;

	for (i = 0; i < COUNT_OF(known_tags); i++) {
		struct manifest m = { 0 };

		routes[0].status = known_tags[i].status;
		routes[0].body = known_tags[i].body;
		fake_use(routes, 2);
		open_cached("localhost:5000/app", NULL);
		loglib_listen();
		r = remote_resolve(w.remote, &m, got, &e);
		log_set_sink(leftovers_sink);
		close_remote();
		if (known_tags[i].status == 0 ? !strstr(loglib_warnings, USING)
					      : loglib_warnings[0] != '\0')
			fail_msg("%s: warned was '%s'", known_tags[i].what, loglib_warnings);
		if (r != known_tags[i].result)
			fail_msg("%s: %d %s", known_tags[i].what, r, e.msg);
		if (r < 0 && !strstr(e.msg, known_tags[i].text))
			fail_msg("%s: %s", known_tags[i].what, e.msg);
		if (r == 0) {
			digest_of_text(known_tags[i].means, digest);
			assert_string_equal(got, digest);
			assert_int_equal(m.layers[0].size,
					 strcmp(known_tags[i].means, OTHER) == 0 ? 6 : 5);
		}
		snprintf(notes, sizeof notes, "GET " LOCAL "\n");
		if (known_tags[i].known) {
			digest_of_text(known_tags[i].known, digest);
			snprintf(notes, sizeof notes, "GET " LOCAL " unless=\"%s\"\n", digest);
		}
		if (strncmp(fake.notes, notes, strlen(notes)) != 0)
			fail_msg("%s: asked was\n%s", known_tags[i].what, fake.notes);
		manifest_release(&m);
	}
	/* What has a digest is not asked for again, by whichever name. */
	digest_of_text(MARKED, digest);
	snprintf(name, sizeof name, "reg.io/x@%s", digest);
	fake_use(routes, 0);
	open_cached(name, NULL);
	assert_int_equal(resolve(&e), 0);
	close_remote();
	expect_notes("a digest", "");
	/* The same tag of another image is not known. */
	routes[0] = (struct route){ "GET", "*", NULL, 304, NULL, NULL, 0 };
	fake_use(routes, 1);
	open_cached("localhost:5000/other", NULL);
	assert_int_equal(resolve(&e), -EPROTO);
	close_remote();
	expect_notes("another image", "GET http://localhost:5000/v2/other/manifests/latest\n");
	snprintf(command, sizeof command, "rm -r %s/cache", folder);
	assert_int_equal(system(command), 0);
}

/* What a tag meant is kept under its registry's own name, whichever mirror said it. */
static void a_tag_is_kept_under_its_registry(void **state)
{
	static const struct {
		const char *mirror, *at;
	} rows[] = {
		{ NULL, TAG },
		{ "https://mirror.io", "https://mirror.io/v2/app/manifests/latest?ns=reg.io" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct route routes[] = { { "GET", rows[i].at, NULL, 200, NULL, MARKED, 0 } };
		AUTO_FREE char *last = NULL;
		char digest[DIGEST_ANY_TEXT], command[64];
		struct manifest m = { 0 };
		struct cache *c;
		struct err e = { "" };
		size_t n;

		fake_use(routes, 1);
		open_cached("reg.io/app", rows[i].mirror);
		if (remote_resolve(w.remote, &m, digest, &e) != 0 ||
		    fetcher_cache(w.fetcher, &w.settings, &c, &e) < 0 ||
		    cache_get_document(c, "https://reg.io/app", "tag-latest", &last, &n, &e) < 0)
			fail_msg("%zu: %s", i, e.msg);
		assert_string_equal(last, digest);
		close_remote();
		manifest_release(&m);
		snprintf(command, sizeof command, "rm -r %s/cache", folder);
		assert_int_equal(system(command), 0);
	}
}

/* ---- who cannot be reached ---- */

static void nobody_here_is_told_at_once(void **state)
{
	struct route routes[] = { { NULL, "*", NULL, 0, NULL, NULL, 0 } };
	struct err e = { "" };

	fake_use(routes, 1);
	open_remote("localhost:5000/app", NULL);
	assert_int_equal(resolve(&e), -ECONNREFUSED);
	assert_string_equal(e.msg, "localhost:5000/app:latest: localhost:5000: connection refused; "
				   "check the host's name, and that the registry can be reached");
	close_remote();
	/* both schemes were tried, each once */
	expect_notes("refused", "GET http://localhost:5000/v2/app/manifests/latest\n"
				"GET https://localhost:5000/v2/app/manifests/latest\n");
}

static void a_name_that_does_not_exist_is_told_at_once(void **state)
{
	struct route routes[] = { { NULL, "*", NULL, 1, NULL, NULL, 0 } };
	struct err e = { "" };

	fake_use(routes, 1);
	fake.no_name = true;
	open_remote("reg.io/app", NULL);
	assert_int_equal(resolve(&e), -EHOSTUNREACH);
	assert_string_equal(e.msg, "reg.io/app:latest: reg.io: no such host; check the host's "
				   "name, and that the registry can be reached");
	close_remote();
}

/* A resolver or a registry on another machine may be about to come up. */
static void others_are_waited_for(void **state)
{
	struct route routes[] = { { NULL, "*", NULL, 1, NULL, NULL, 3 },
				  { NULL, "*", NULL, 0, NULL, NULL, 2 },
				  { "GET", TAG, NULL, 200, NULL, MARKED, 0 } };
	struct err e = { "" };

	fake_use(routes, 3);
	open_remote("reg.io/app", NULL);
	if (resolve(&e) != 0)
		fail_msg("%s", e.msg);
	close_remote();
}

/* ---- reads ---- */

#define READ "GET " URL " range=0-4\n"
#define FIVE "Content-Range: bytes 0-4/5\r\n"

static struct {
	const char *what, *mirror;
	struct route routes[8];
	const char *notes;
} reads[] = {
	{ "codings that are none",
	  NULL,
	  { { "GET", URL, NULL, 206, FIVE "Content-Encoding: aws-chunked\r\n", "12345", 0 } },
	  READ },
	{ "an empty coding",
	  NULL,
	  { { "GET", URL, NULL, 206, FIVE "Content-Encoding:\r\n", "12345", 0 } },
	  READ },
	{ "a blank in the Location",
	  NULL,
	  { { "GET", URL, NULL, 307, "Location: https://store.io/a b?n=c d&s=+%2B#f\r\n", NULL, 0 },
	    { "GET", "https://store.io/a%20b?n=c%20d&s=+%2B", NULL, 206, FIVE, "12345", 0 } },
	  READ "GET https://store.io/a%20b?n=c%20d&s=+%2B range=0-4 referer=" URL "\n" },
	{ "a mirror of many registries",
	  "https://mirror.io",
	  { { "GET", "https://mirror.io/v2/app/blobs/" BLOB "?ns=reg.io", NULL, 206, FIVE, "12345",
	      0 } },
	  "GET https://mirror.io/v2/app/blobs/" BLOB "?ns=reg.io range=0-4\n" },
	{ "an address prefix says it anyway",
	  "https://mirror.io/p2p",
	  { { "GET", "https://mirror.io/p2p/" URL, NULL, 206, FIVE, "12345", 0 } },
	  "GET https://mirror.io/p2p/" URL " range=0-4\n" },
	{ "another registry that wants a token of its own",
	  NULL,
	  { { "GET", URL, NULL, 307, "Location: " STORE "\r\n", NULL, 0 },
	    { "GET", STORE, "", 401,
	      "WWW-Authenticate: Bearer realm=\"https://auth.io/t\",scope=\"x\"\r\n", NULL, 0 },
	    { "GET", "https://auth.io/t?scope=x", "", 200, NULL, TOKEN, 0 },
	    { "GET", STORE, "Bearer t", 206, FIVE, "12345", 0 } },
	  READ "GET " STORE " range=0-4 referer=" URL "\n"
	       "GET https://auth.io/t?scope=x\n"
	       "GET " STORE " auth=Bearer t range=0-4 referer=" URL "\n" },
};

static void read_five(const char *what)
{
	struct source *s;
	struct err e = { "" };
	char five[6] = "";

	assert_int_equal(remote_open_blob(w.remote, BLOB, 5, NULL, &s, &e), 0);
	remote_opened(w.remote);
	if (source_pread(s, five, 5, 0, &e) != 0)
		fail_msg("%s: %s", what, e.msg);
	assert_string_equal(five, "12345");
	source_close(s);
}

static void blobs_are_read(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(reads); i++) {
		fake_use(reads[i].routes, 8);
		open_remote("reg.io/app", reads[i].mirror);
		read_five(reads[i].what);
		close_remote();
		expect_notes(reads[i].what, reads[i].notes);
	}
}

/* Each gets what belongs to its own name, and nothing of the other's. */
static void a_guest_logs_in_by_its_own_name(void **state)
{
	struct route routes[] = {
		{ "GET", URL, "", 401, "WWW-Authenticate: Basic\r\n", NULL, 0 },
		{ "GET", URL, "Basic bWU6c2VjcmV0", 307, "Location: " STORE "\r\n", NULL, 0 },
		{ "GET", STORE, "", 401, "WWW-Authenticate: Basic\r\n", NULL, 0 },
		{ "GET", STORE, "Basic eW91Om90aGVy", 206, FIVE, "12345", 0 },
	};

	fake_use(routes, 4);
	open_remote("reg.io/app", NULL);
	write_credentials("{\"auths\":{\"reg.io\":{\"auth\":\"bWU6c2VjcmV0\"},"
			  "\"store.io/kept\":{\"auth\":\"eW91Om90aGVy\"}}}");
	read_five("a guest");
	close_remote();
	expect_notes("a guest",
		     READ "GET " URL " auth=Basic bWU6c2VjcmV0 range=0-4\n"
			  "GET " STORE " range=0-4 referer=" URL "\n"
			  "GET " STORE " auth=Basic eW91Om90aGVy range=0-4 referer=" URL "\n");
}

/* A helper of the machine that is away keeps nobody from a public image. */
static void a_public_image_needs_no_helper(void **state)
{
	struct route routes[] = {
		{ "GET", TAG, "", 401, "WWW-Authenticate: Bearer realm=\"https://auth.io/t\"\r\n",
		  NULL, 0 },
		{ "GET", "https://auth.io/t?scope=repository%3Aapp%3Apull", "", 200, NULL, TOKEN,
		  0 },
		{ "GET", TAG, "Bearer t", 200, NULL, MARKED, 0 },
	};
	struct err e = { "" };

	fake_use(routes, 3);
	open_remote("reg.io/app", NULL);
	write_credentials("{\"credsStore\":\"is-not-installed\"}");
	if (resolve(&e) != 0)
		fail_msg("%s", e.msg);
	close_remote();
	/* and who is refused is told of it */
	routes[2] = (struct route){ "GET", TAG, "Bearer t", 403, NULL, NULL, 0 };
	fake_use(routes, 3);
	open_remote("reg.io/app", NULL);
	write_credentials("{\"credsStore\":\"is-not-installed\"}");
	assert_int_equal(resolve(&e), -EACCES);
	close_remote();
	assert_non_null(strstr(e.msg, "reg.io: HTTP 403 (forbidden); credentials: /tmp/"));
	assert_non_null(strstr(e.msg, "docker-credential-is-not-installed: No such file"));
}

static const char *const warnings[] = { "going on without a login", NULL };

static int make_folder(void **state)
{
	leftovers_warnings = warnings;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_asked_for),
		cmocka_unit_test(a_head_without_answer_is_given_up),
		cmocka_unit_test(a_sha512_digest_is_asked_for_in_full),
		cmocka_unit_test(manifests_are_asked_for),
		cmocka_unit_test(a_digest_is_asked_for_by_itself),
		cmocka_unit_test(indexes_lead_to_indexes),
		cmocka_unit_test(a_tag_is_known),
		cmocka_unit_test(a_tag_is_kept_under_its_registry),
		cmocka_unit_test(nobody_here_is_told_at_once),
		cmocka_unit_test(a_name_that_does_not_exist_is_told_at_once),
		cmocka_unit_test(others_are_waited_for),
		cmocka_unit_test(blobs_are_read),
		cmocka_unit_test(a_guest_logs_in_by_its_own_name),
		cmocka_unit_test(a_public_image_needs_no_helper),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
