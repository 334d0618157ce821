/* SPDX-License-Identifier: Apache-2.0 */
/* test-request_url.c - where a try goes, what it says it comes from, and what is remembered. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/request_url.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define BASE "https://reg.io/v2/app"
#define PLAIN "http://reg.io/v2/app"
#define STORE "https://store.io/x?sig=1"

static const struct {
	const char *what, *base, *query, *path;
	const char *url; /* that a redirect has set; NULL: none, and nothing is followed */
	bool to_target;
	const char *known; /* where it led before; NULL: not known */
	const char *expected, *referer; /* NULL: none */
	bool then_to_target, then_remembered;
} tries[] = {
	{ "a path", BASE, NULL, "/blobs/x", NULL, false, NULL, BASE "/blobs/x", NULL, false,
	  false },
	{ "with a query", BASE, "ns=a", "/blobs/x", NULL, true, NULL, BASE "/blobs/x?ns=a", NULL,
	  false, false },
	{ "an address", BASE, "ns=a", "https://up.io/u?x", NULL, false, NULL, "https://up.io/u?x",
	  NULL, false, false },
	{ "remembered", BASE, "ns=a", "/blobs/x", NULL, false, STORE, STORE, BASE "/blobs/x", true,
	  true },
	{ "followed", BASE, "ns=a", "/blobs/x", STORE, true, NULL, STORE, BASE "/blobs/x", true,
	  false },
	{ "followed, though another is known", BASE, NULL, "/blobs/x", STORE, true, "https://b.io",
	  STORE, BASE "/blobs/x", true, false },
	{ "followed to itself", BASE, NULL, "/blobs/x", STORE, false, NULL, STORE, NULL, false,
	  false },
	{ "out of TLS", BASE, NULL, "/blobs/x", "http://store.io/x", true, NULL,
	  "http://store.io/x", NULL, true, false },
	{ "into TLS", PLAIN, NULL, "/blobs/x", STORE, true, NULL, STORE, PLAIN "/blobs/x", true,
	  false },
	{ "without TLS", PLAIN, NULL, "/blobs/x", "http://store.io/x", true, NULL,
	  "http://store.io/x", PLAIN "/blobs/x", true, false },
	{ "an upload that is led on", BASE, NULL, "https://up.io/u", STORE, true, NULL, STORE, NULL,
	  true, false },
	{ "from what is no address", "reg.io", NULL, "/blobs/x", STORE, true, NULL, STORE, NULL,
	  true, false },
	{ "to what is no address", BASE, NULL, "/blobs/x", "store.io", true, NULL, "store.io", NULL,
	  true, false },
};

static struct request_targets targets;
static char base[64], query[16];

static char *copy(const char *text)
{
	return text ? __real_strdup(text) : NULL;
}

static struct request make(size_t i)
{
	struct request q = { .path = tries[i].path,
			     .place = 2,
			     .targets = &targets,
			     .following = tries[i].url != NULL,
			     .to_target = tries[i].to_target,
			     .remembered = true,
			     .url = copy(tries[i].url ? tries[i].url : "of before"),
			     .referer = copy("of before") };

	targets.url[2] = copy(tries[i].known);
	return q;
}

static struct endpoint make_endpoint(size_t i)
{
	struct endpoint p = { .base = strcpy(base, tries[i].base) };

	p.query = tries[i].query ? strcpy(query, tries[i].query) : NULL;
	return p;
}

static void expect_same(const char *what, const char *got, const char *wanted)
{
	if (!got != !wanted || (got && strcmp(got, wanted) != 0))
		fail_msg("%s: %s", what, got ? got : "NULL");
}

static void release(struct request *q)
{
	free(q->url);
	free(q->referer);
	request_targets_release(&targets);
}

static void tries_go_somewhere(void **state)
{
	size_t i;
	long k;
	int r;

	for (i = 0; i < COUNT_OF(tries); i++) {
		const struct endpoint p = make_endpoint(i);

		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			struct request q = make(i);

			allocs_left = k;
			r = request_url_set(&q, &p);
			allocs_left = -1;
			if (r == 0) {
				assert_false(q.following);
				expect_same(tries[i].what, q.url, tries[i].expected);
				if (q.to_target)
					expect_same(tries[i].what, q.referer, tries[i].referer);
				assert_int_equal(q.to_target, tries[i].then_to_target);
				assert_int_equal(q.remembered, tries[i].then_remembered);
			} else {
				assert_int_equal(r, -ENOMEM);
				assert_true(!q.url || !q.referer);
			}
			release(&q);
		}
	}
}

static void nothing_is_known_without_targets(void **state)
{
	struct endpoint p = make_endpoint(0);
	struct request q = { .path = "/blobs/x" };

	assert_int_equal(request_url_set(&q, &p), 0);
	assert_string_equal(q.url, BASE "/blobs/x");
	q.to_target = true;
	request_url_keep(&q);
	request_url_forget(&q);
	release(&q);
}

/* The redirect that is remembered may be what gave wrong bytes. */
static void a_place_that_was_wrong_is_asked_itself(void **state)
{
	const struct endpoint p = make_endpoint(0);
	unsigned place;

	for (place = 0; place < 2; place++) {
		struct request q = { .path = "/blobs/x", .place = 1, .targets = &targets };

		targets.url[1] = copy(STORE);
		q.avoid = 1u << place;
		assert_int_equal(request_url_set(&q, &p), 0);
		assert_string_equal(q.url, place == 1 ? BASE "/blobs/x" : STORE);
		assert_int_equal(q.remembered, place == 0);
		request_url_forget(&q);
		release(&q);
	}
}

static void a_target_is_kept_until_it_fails(void **state)
{
	struct request q = { .place = 1, .targets = &targets };

	q.url = copy(STORE);
	request_url_keep(&q); /* it is the endpoint's own */
	assert_null(targets.url[1]);
	q.to_target = true;
	allocs_left = 0;
	request_url_keep(&q);
	allocs_left = -1;
	assert_null(targets.url[1]);
	request_url_keep(&q);
	assert_string_equal(targets.url[1], STORE);
	assert_ptr_not_equal(targets.url[1], q.url);
	/* the first one stays */
	q.url[0] = 'x';
	request_url_keep(&q);
	assert_string_equal(targets.url[1], STORE);
	targets.url[0] = copy("0");
	targets.url[ENDPOINTS_MAX - 1] = copy("last");
	request_url_forget(&q);
	assert_null(targets.url[1]);
	assert_string_equal(targets.url[0], "0");
	assert_non_null(targets.url[ENDPOINTS_MAX - 1]);
	request_url_forget(&q);
	release(&q);
	assert_true(!targets.url[0] && !targets.url[ENDPOINTS_MAX - 1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tries_go_somewhere),
		cmocka_unit_test(nothing_is_known_without_targets),
		cmocka_unit_test(a_place_that_was_wrong_is_asked_itself),
		cmocka_unit_test(a_target_is_kept_until_it_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
