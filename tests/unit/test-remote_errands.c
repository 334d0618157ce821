/* SPDX-License-Identifier: Apache-2.0 */
/* test-remote_errands.c - each errand as remote.c hands it to document.c, and what becomes of every
 * answer and failure; what it does when the engine, the cache or memory is not to be had.  Errands
 * and the cache's documents are the test's, the rest runs on a stage (stage.h). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/document.h"
#include "fetch/flight.h"
#include "fetch/queue.h"
#include "fetch/remote.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"
#include "tests/unit/stage.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define HEX16 "0123456789abcdef"
#define BLOB "sha256:" HEX16 HEX16 HEX16 HEX16
#define MARKED                                                                                     \
	"{\"layers\":[{\"annotations\":{\"containerd.io/snapshot/overlaybd/blob-digest\":\"" BLOB  \
	"\",\"containerd.io/snapshot/overlaybd/blob-size\":\"5\"}}]}"

/* ---- the fetcher ---- */

static int fetcher, cache; /* their addresses are all that is known of them */
static int use_fails, cache_fails;
static unsigned cache_calls;

int __wrap_fetcher_use(struct fetcher *f, struct err *e);
struct http *__wrap_fetcher_http(struct fetcher *f);
int __wrap_fetcher_cache(struct fetcher *f, const struct fetch_settings *settings,
			 struct cache **out, struct err *e);

int __wrap_fetcher_use(struct fetcher *f, struct err *e)
{
	assert_ptr_equal(f, &fetcher);
	return use_fails ? err_set(e, use_fails, "no thread") : 0;
}

struct http *__wrap_fetcher_http(struct fetcher *f)
{
	assert_ptr_equal(f, &fetcher);
	return stage.http;
}

int __wrap_fetcher_cache(struct fetcher *f, const struct fetch_settings *settings,
			 struct cache **out, struct err *e)
{
	assert_ptr_equal(f, &fetcher);
	assert_non_null(settings->cache_dir);
	cache_calls++;
	if (cache_fails)
		return err_set(e, cache_fails, "no cache");
	*out = (struct cache *)&cache;
	return 0;
}

/* ---- the cache's documents ---- */

static struct kept {
	char origin[64], name[DIGEST_ANY_TEXT], text[512];
} kept[8];
static unsigned kept_count;
static int put_fails;

int __wrap_cache_put_document(struct cache *c, const char *origin, const char *name,
			      const void *bytes, size_t n, struct err *e);
int __wrap_cache_get_document(struct cache *c, const char *origin, const char *name, char **out,
			      size_t *n, struct err *e);

int __wrap_cache_put_document(struct cache *c, const char *origin, const char *name,
			      const void *bytes, size_t n, struct err *e)
{
	struct kept *k = &kept[kept_count];

	assert_ptr_equal(c, &cache);
	if (put_fails)
		return err_set(e, put_fails, "no room");
	assert_true(++kept_count <= COUNT_OF(kept) && n < sizeof k->text);
	snprintf(k->origin, sizeof k->origin, "%s", origin ? origin : "");
	snprintf(k->name, sizeof k->name, "%s", name);
	memcpy(k->text, bytes, n);
	k->text[n] = '\0';
	return 0;
}

int __wrap_cache_get_document(struct cache *c, const char *origin, const char *name, char **out,
			      size_t *n, struct err *e)
{
	unsigned i;

	assert_ptr_equal(c, &cache);
	for (i = kept_count; i-- > 0;) {
		if (strcmp(kept[i].name, name) != 0 ||
		    strcmp(kept[i].origin, origin ? origin : "") != 0)
			continue;
		*out = strdup(kept[i].text);
		*n = strlen(kept[i].text);
		return 0;
	}
	return -ENOENT;
}

/* ---- errands ---- */

static struct errand {
	char method[8], path[256], accept[512], if_none_match[DIGEST_ANY_TEXT + 2];
	unsigned companions;
	size_t limit;
	bool peek, checks_digest, checks;
	uint64_t deadline, retry_until; /* ms from the beginning; CLOCK_NEVER */
	const struct stats *stats;
	const struct queue *queue;
} errands[8];
static unsigned errand_count;

/* What they come to, one after the other; the last one always. */
static struct answer {
	int r;
	unsigned status;
	const char *text;
	const char *digest; /* Docker-Content-Digest */
	bool has_length;
	uint64_t length, total;
} answers[8];

int __wrap_document_fetch(struct document *d, struct err *e);

static uint64_t since(uint64_t ms)
{
	return ms == CLOCK_NEVER ? ms : ms - (clock_ms() - stage_ms());
}

static void note(const struct document *d)
{
	struct errand *x = &errands[errand_count];

	*x = (struct errand){ .companions = d->companions,
			      .limit = d->limit,
			      .peek = d->peek,
			      .checks = d->check != NULL,
			      .checks_digest = d->check == document_check_digest,
			      .deadline = since(d->deadline),
			      .retry_until = since(d->retry_until),
			      .stats = d->stats,
			      .queue = d->queue };
	snprintf(x->method, sizeof x->method, "%s", d->method);
	snprintf(x->path, sizeof x->path, "%s", d->path);
	snprintf(x->accept, sizeof x->accept, "%s", d->accept ? d->accept : "");
	snprintf(x->if_none_match, sizeof x->if_none_match, "%s",
		 d->if_none_match ? d->if_none_match : "");
	if (x->checks_digest)
		assert_non_null(strstr(d->path, d->digest));
}

int __wrap_document_fetch(struct document *d, struct err *e)
{
	const struct answer *a;
	unsigned last;

	assert_true(errand_count < COUNT_OF(errands));
	note(d);
	for (last = COUNT_OF(answers) - 1; last > 0 && answers[last].status == 0; last--)
		;
	a = &answers[errand_count < last ? errand_count : last];
	errand_count++;
	d->answer.status = a->status;
	d->answer.has_length = a->has_length;
	d->answer.length = a->length;
	d->answer.total = a->total;
	d->from = strdup("https://reg.io/x");
	if (a->digest)
		d->answer.digest = strdup(a->digest);
	if (a->text) {
		d->text = strdup(a->text);
		d->n = strlen(a->text);
	}
	if (a->r < 0)
		return err_set(e, -a->r, "reg.io: why");
	return d->check && a->text ? d->check(d, &d->answer, e) : 0;
}

/* ---- a remote ---- */

static struct fetch_settings settings;
static struct remote *remote;
static struct stats_group *group;

static int open_remote(const char *name, bool push, struct err *e)
{
	struct reference ref;
	int r;

	stage_open();
	assert_int_equal(reference_parse(name, &ref, e), 0);
	r = remote_open((struct fetcher *)&fetcher, &settings, &ref, stats_group_image(group), push,
			&remote, e);
	reference_release(&ref);
	if (r < 0)
		stage_close();
	return r;
}

static void close_remote(void)
{
	remote_close(remote);
	stage_close();
}

static int set_up(void **state)
{
	static char dir[] = "/cache";

	settings = (struct fetch_settings){ .cache_dir = dir, .timeout = 5, .connections = 16 };
	use_fails = cache_fails = put_fails = 0;
	cache_calls = kept_count = errand_count = 0;
	memset(answers, 0, sizeof answers);
	loglib_listen();
	return stats_group_open("img", &group, NULL);
}

static int tear_down(void **state)
{
	stats_group_close(group);
	loglib_expect_none();
	return 0;
}

/* ---- opening ---- */

static void opening_fails(void **state)
{
	static char nonsense[] = "ftp://mirror.io";
	char *mirrors[] = { nonsense };
	struct err e;

	use_fails = EAGAIN;
	assert_int_equal(open_remote("reg.io/app", false, &e), -EAGAIN);
	assert_string_equal(e.msg, "no thread");
	use_fails = 0;
	settings.mirrors = mirrors;
	settings.mirror_count = 1;
	assert_int_equal(open_remote("reg.io/app", false, &e), -EINVAL);
	settings.mirror_count = 0;
	assert_int_equal(cache_calls, 0);
	cache_fails = ENOMEM;
	assert_int_equal(open_remote("reg.io/app", false, &e), -ENOMEM);
	assert_string_equal(e.msg, "no cache");
	assert_int_equal(cache_calls, 1);
	remote_close(NULL);
}

/* Who writes has no cache, nor who has set none. */
static void opening_without_a_cache(void **state)
{
	struct err e;

	assert_int_equal(open_remote("reg.io/app", true, &e), 0);
	assert_int_equal(cache_calls, 0);
	close_remote();
	settings.cache_dir = NULL;
	assert_int_equal(open_remote("reg.io/app", false, &e), 0);
	assert_int_equal(cache_calls, 0);
	close_remote();
}

static void opening_runs_out_of_memory(void **state)
{
	struct reference ref;
	struct err e;
	long k;
	int r, push;

	stage_open();
	assert_int_equal(reference_parse("reg.io/app:tag", &ref, &e), 0);
	for (push = 0; push < 2; push++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			allocs_left = k;
			r = remote_open((struct fetcher *)&fetcher, &settings, &ref, NULL, push,
					&remote, &e);
			allocs_left = -1;
			if (r < 0)
				assert_string_equal(e.msg, "out of memory");
		}
		assert_int_equal(r, 0);
		assert_true(k > 8);
		remote_close(remote);
	}
	reference_release(&ref);
	stage_close();
}

static void what_it_has(void **state)
{
	struct endpoint_list *list;
	struct err e;

	assert_int_equal(open_remote("localhost:5000/app", false, &e), 0);
	assert_ptr_equal(remote_stats(remote), stats_group_image(group));
	assert_ptr_equal(queue_http(remote_queue(remote)), stage.http);
	assert_int_equal(queue_endpoints(remote_queue(remote))->count, 2);
	assert_string_equal(remote_endpoint(remote)->base, "http://localhost:5000/v2/app");
	list = queue_endpoints(remote_queue(remote));
	list->items[0].unused = true;
	assert_string_equal(remote_endpoint(remote)->base, "https://localhost:5000/v2/app");
	assert_false(queue_is_closing(remote_queue(remote)));
	remote_shut(remote);
	assert_true(queue_is_closing(remote_queue(remote)));
	close_remote();
}

/* ---- sizes ---- */

static void sizes(void **state)
{
	static const struct {
		struct answer answers[2];
		unsigned errands;
		int r;
		uint64_t size;
	} rows[] = {
		{ { { 0, 200, NULL, NULL, true, 5, 0 } }, 1, 0, 5 },
		{ { { 0, 200, NULL, NULL, true, 1, 0 } }, 1, 0, 1 },
		{ { { -ESHUTDOWN, 1, NULL, NULL, false, 0, 0 } }, 1, -ESHUTDOWN, 0 },
		{ { { -ENOMEM, 1, NULL, NULL, false, 0, 0 } }, 1, -ENOMEM, 0 },
		{ { { -EIO, 1, NULL, NULL, false, 0, 0 }, { -ENOENT, 1, NULL, NULL, false, 0, 0 } },
		  2,
		  -ENOENT,
		  0 },
		{ { { -EIO, 1, NULL, NULL, false, 0, 0 }, { 0, 206, NULL, NULL, true, 1, 7 } },
		  2,
		  0,
		  7 },
		{ { { -EIO, 1, NULL, NULL, false, 0, 0 }, { 0, 200, NULL, NULL, true, 8, 7 } },
		  2,
		  0,
		  8 },
		{ { { 0, 200, NULL, NULL, true, 0, 0 },
		    { 0, 206, NULL, NULL, true, 1, UINT64_MAX } },
		  2,
		  -EPROTO,
		  0 },
		{ { { 0, 200, NULL, NULL, false, 5, 0 }, { 0, 200, NULL, NULL, false, 9, 0 } },
		  2,
		  -EPROTO,
		  0 },
	};
	struct errand *x = errands;
	struct err e;
	size_t i, k;

	for (i = 0; i < COUNT_OF(rows); i++) {
		uint64_t size = 0;

		memset(answers, 0, sizeof answers);
		memcpy(answers, rows[i].answers, sizeof rows[i].answers);
		errand_count = 0;
		assert_int_equal(open_remote("reg.io/app", false, &e), 0);
		assert_int_equal(remote_blob_size(remote, BLOB, &size, &e), rows[i].r);
		assert_int_equal(errand_count, rows[i].errands);
		assert_int_equal(size, rows[i].size);
		for (k = 0; k < errand_count; k++) {
			assert_string_equal(x[k].method, k == 0 ? "HEAD" : "GET");
			assert_string_equal(x[k].path, "/blobs/" BLOB);
			assert_string_equal(x[k].accept, "");
			assert_int_equal(x[k].peek, k == 1);
			assert_int_equal(x[k].deadline, 5000);
			assert_int_equal(x[k].retry_until, k == 0 ? 3000 : 15000);
			assert_int_equal(x[k].companions, 0);
			assert_ptr_equal(x[k].stats, stats_group_image(group));
			assert_ptr_equal(x[k].queue, remote_queue(remote));
		}
		close_remote();
	}
}

/* ---- manifests ---- */

static int resolve(char digest[DIGEST_ANY_TEXT], struct err *e)
{
	struct manifest m = { 0 };
	int r = remote_resolve(remote, &m, digest, e);

	assert_int_equal(m.layer_count, r == 0);
	manifest_release(&m);
	return r;
}

/* Connections for the blobs are made beside that of a manifest: seven, or what may be had. */
static void companions(void **state)
{
	static const struct {
		unsigned connections, companions;
	} rows[] = { { 1, 0 }, { 2, 1 }, { 6, 5 }, { 7, 6 }, { 8, 7 }, { 9, 7 }, { 1000, 7 } };
	char digest[DIGEST_ANY_TEXT], named[DIGEST_ANY_TEXT + 16];
	struct err e;
	size_t i;

	assert_int_equal(digest_bytes(MARKED, strlen(MARKED), digest, &e), 0);
	snprintf(named, sizeof named, "reg.io/app@%s", digest);
	settings.cache_dir = NULL;
	answers[0] = (struct answer){ .status = 200, .text = MARKED };
	for (i = 0; i < COUNT_OF(rows); i++) {
		errand_count = 0;
		settings.connections = rows[i].connections;
		assert_int_equal(open_remote("reg.io/app:v1", false, &e), 0);
		assert_int_equal(resolve(digest, &e), 0);
		close_remote();
		assert_int_equal(open_remote(named, false, &e), 0);
		assert_int_equal(resolve(digest, &e), 0);
		close_remote();
		assert_int_equal(errand_count, 2);
		assert_int_equal(errands[0].companions, rows[i].companions);
		assert_int_equal(errands[1].companions, rows[i].companions);
	}
	assert_string_equal(errands[0].path, "/manifests/v1");
	assert_true(errands[0].checks && !errands[0].checks_digest);
	assert_memory_equal(errands[1].path, "/manifests/sha256:", 18);
	assert_true(errands[1].checks_digest);
}

/* What is asked for, in full; how long, while it is opened and later. */
static void one_errand(void **state)
{
	char digest[DIGEST_ANY_TEXT];
	struct err e;

	answers[0] = (struct answer){ .r = -EACCES, .status = 403 };
	assert_int_equal(open_remote("reg.io/app", false, &e), 0);
	stage_pass(100);
	assert_int_equal(resolve(digest, &e), -EACCES);
	assert_string_equal(errands[0].method, "GET");
	assert_string_equal(errands[0].path, "/manifests/latest");
	assert_string_equal(errands[0].accept, MANIFEST_ACCEPT);
	assert_string_equal(errands[0].if_none_match, "");
	assert_int_equal(errands[0].limit, MANIFEST_MAX);
	assert_false(errands[0].peek);
	assert_int_equal(errands[0].deadline, 5100);
	assert_int_equal(errands[0].retry_until, 15000);
	assert_ptr_equal(errands[0].stats, stats_group_image(group));
	remote_opened(remote);
	settings.timeout = 0;
	assert_int_equal(resolve(digest, &e), -EACCES);
	assert_true(errands[1].deadline == CLOCK_NEVER);
	assert_true(errands[1].retry_until == CLOCK_NEVER);
	close_remote();
}

/* Of each failure: what is said, and whether what the tag meant last will do. */
static void failures_of_a_tag(void **state)
{
#define CHECK                                                                                      \
	"reg.io/app:v1: reg.io: why; check the host's name, and that the registry can be reached"
#define WHY "reg.io/app:v1: reg.io: why"
	static const struct {
		int r;
		bool away;
		const char *text;
	} rows[] = {
		{ -EACCES, false, WHY },
		{ -ENOENT, false,
		  "reg.io/app:v1: there is no such image at reg.io (HTTP 404); check name and "
		  "tag" },
		{ -EBADMSG, false, WHY },
		{ -ESHUTDOWN, false, WHY },
		{ -EFBIG, false, WHY },
		{ -EIO, true, WHY },
		{ -EPROTO, true, WHY },
		{ -ENOMEM, true, WHY },
		{ -ETIMEDOUT, true, CHECK },
		{ -EHOSTUNREACH, true, CHECK },
		{ -ECONNREFUSED, true, CHECK },
	};
	char digest[DIGEST_ANY_TEXT], known[DIGEST_ANY_TEXT], etag[DIGEST_ANY_TEXT + 2];
	char warning[512];
	struct err e;
	size_t i;

	assert_int_equal(digest_bytes(MARKED, strlen(MARKED), known, &e), 0);
	snprintf(etag, sizeof etag, "\"%s\"", known);
	snprintf(
		warning, sizeof warning,
		"reg.io/app:v1: cannot reach the registry (reg.io: why); using the manifest cached "
		"for this tag, %s\n",
		known);
	for (i = 0; i < COUNT_OF(rows); i++) {
		answers[0] = (struct answer){ .r = rows[i].r, .status = 1 };
		kept_count = errand_count = 0;
		assert_int_equal(open_remote("reg.io/app:v1", false, &e), 0);
		assert_int_equal(resolve(digest, &e), rows[i].r);
		assert_string_equal(e.msg, rows[i].text);
		assert_int_equal(errands[0].retry_until, 15000);
		assert_string_equal(errands[0].if_none_match, "");
		snprintf(kept[0].name, sizeof kept[0].name, "tag-v1");
		snprintf(kept[0].origin, sizeof kept[0].origin, "https://reg.io/app");
		snprintf(kept[0].text, sizeof kept[0].text, "%s", known);
		snprintf(kept[1].name, sizeof kept[1].name, "%s", known);
		kept[1].origin[0] = '\0';
		snprintf(kept[1].text, sizeof kept[1].text, "%s", MARKED);
		kept_count = 2;
		assert_int_equal(resolve(digest, &e), rows[i].away ? 0 : rows[i].r);
		if (rows[i].away) {
			assert_string_equal(digest, known);
			loglib_expect(warning);
		} else {
			assert_string_equal(e.msg, rows[i].text);
		}
		assert_string_equal(errands[1].if_none_match, etag);
		assert_int_equal(errands[1].retry_until, 3000);
		assert_int_equal(errands[1].companions, 0);
		kept_count = 1; /* the tag alone is of no use */
		assert_int_equal(resolve(digest, &e), rows[i].r);
		assert_string_equal(errands[2].if_none_match, "");
		snprintf(kept[0].text, sizeof kept[0].text, "nonsense");
		assert_int_equal(resolve(digest, &e), rows[i].r);
		assert_string_equal(errands[3].if_none_match, "");
		close_remote();
	}
}

static char last_debug[512];

static void keep_debug(enum log_level level, const char *line)
{
	if (level == LOG_DEBUG)
		snprintf(last_debug, sizeof last_debug, "%s", line);
	else
		loglib_keep(level, line);
}

/* A manifest and what the tag means are kept; if not, that is no matter. */
static void what_is_kept(void **state)
{
	char digest[DIGEST_ANY_TEXT], named[DIGEST_ANY_TEXT + 16];
	struct err e;

	answers[0] = (struct answer){ .status = 200, .text = MARKED };
	assert_int_equal(open_remote("reg.io/app:v1", false, &e), 0);
	log_set_sink(keep_debug);
	last_debug[0] = '\0';
	assert_int_equal(resolve(digest, &e), 0);
	assert_string_equal(last_debug, "");
	assert_int_equal(kept_count, 2);
	assert_string_equal(kept[0].origin, "");
	assert_string_equal(kept[0].name, digest);
	assert_string_equal(kept[0].text, MARKED);
	assert_string_equal(kept[1].origin, "https://reg.io/app");
	assert_string_equal(kept[1].name, "tag-v1");
	assert_string_equal(kept[1].text, digest);
	put_fails = ENOSPC;
	kept_count = 0;
	assert_int_equal(resolve(digest, &e), 0);
	assert_string_equal(last_debug, "tag-v1: not kept: no room");
	close_remote();
	snprintf(named, sizeof named, "reg.io/app@%s", digest);
	assert_int_equal(open_remote(named, false, &e), 0);
	assert_int_equal(resolve(digest, &e), 0);
	assert_memory_equal(last_debug, digest, strlen(digest));
	assert_string_equal(last_debug + strlen(digest), ": not kept: no room");
	put_fails = 0;
	errand_count = 0;
	assert_int_equal(resolve(digest, &e), 0);
	assert_int_equal(kept_count, 1);
	assert_int_equal(resolve(digest, &e), 0); /* it is here */
	assert_int_equal(errand_count, 1);
	close_remote();
	loglib_listen();
}

static void memory_runs_out(void **state)
{
	char digest[DIGEST_ANY_TEXT];
	struct err e;
	long k;
	int r;

	settings.cache_dir = NULL;
	answers[0] = (struct answer){ .r = -EACCES, .status = 403 };
	assert_int_equal(open_remote("reg.io/app:v1", false, &e), 0);
	for (k = 0; k < 2; k++) {
		allocs_left = k;
		r = resolve(digest, &e);
		allocs_left = -1;
		assert_int_equal(r, -ENOMEM);
		assert_string_equal(e.msg, "out of memory");
	}
	assert_int_equal(errand_count, 0);
	close_remote();
}

/* ---- blobs ---- */

/* Until opening is over no blob's read is tried anew for longer than that. */
static void blobs_are_opened(void **state)
{
	enum { BLOBS = 40 };
	struct source *s[BLOBS], *other;
	struct err e;
	char digest[80];
	size_t i;
	long k;
	int r;

	settings.cache_dir = NULL;
	assert_int_equal(open_remote("reg.io/app", false, &e), 0);
	for (i = 0; i < BLOBS; i++) {
		snprintf(digest, sizeof digest, "sha256:%064zx", i);
		assert_int_equal(remote_open_blob(remote, digest, 1000 + i,
						  stats_group_image(group), &s[i], &e),
				 0);
		assert_int_equal(since(blob_of(s[i])->retry_until), 15000);
		assert_int_equal(blob_of(s[i])->timeout, 5);
		assert_ptr_equal(blob_of(s[i])->stats, stats_group_image(group));
		assert_ptr_equal(blob_of(s[i])->queue, remote_queue(remote));
		assert_string_equal(blob_digest(blob_of(s[i])), digest);
		assert_int_equal(s[i]->size, 1000 + i);
		assert_non_null(blob_of(s[i])->flights); /* its ends are asked for */
	}
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		other = NULL;
		allocs_left = k;
		r = remote_open_blob(remote, BLOB, 7, NULL, &other, &e);
		allocs_left = -1;
		assert_int_equal(other != NULL, r == 0);
		if (r < 0)
			assert_string_equal(e.msg, "out of memory");
	}
	assert_int_equal(r, 0);
	remote_opened(remote);
	for (i = 0; i < BLOBS; i++)
		assert_true(blob_of(s[i])->retry_until == CLOCK_NEVER);
	assert_true(blob_of(other)->retry_until == CLOCK_NEVER);
	remote_shut(remote);
	for (i = 0; i < BLOBS; i++)
		source_close(s[i]);
	source_close(other);
	close_remote();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(opening_fails),
		TEST(opening_without_a_cache),
		TEST(opening_runs_out_of_memory),
		TEST(what_it_has),
		TEST(sizes),
		TEST(companions),
		TEST(one_errand),
		TEST(failures_of_a_tag),
		TEST(what_is_kept),
		TEST(memory_runs_out),
		TEST(blobs_are_opened),
	};

	setenv("HOME", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
