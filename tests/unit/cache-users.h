/* SPDX-License-Identifier: Apache-2.0 */
/* cache-users.h - what test-cache.c and test-cache_admin.c share: one blob, a forgery of it, and
 * users who open it each by themselves. */
#ifndef OVERLAYBD_TESTS_CACHE_USERS_H
#define OVERLAYBD_TESTS_CACHE_USERS_H

#include "tests/unit/cachelib.h"

enum { CHUNKS = 20, SIZE = 19 * CACHE_CHUNK + 1, MAP_BYTES = 4096 + 8 * CHUNKS };

static struct test_blob blob, forged;

static inline int set_up(void **state)
{
	cachelib_make_folder();
	return 0;
}

static inline int tear_down(void **state)
{
	cachelib_remove_folder();
	return 0;
}

/* Opens cache and blob, as another process would. */
struct user {
	struct cache *c;
	struct cache_blob *b;
};

static inline struct user use_limited(const char *origin, uint64_t limit)
{
	struct user u = { .c = cachelib_open(limit) };

	u.b = cachelib_open_blob(u.c, origin, &blob);
	return u;
}

static inline struct user use(const char *origin)
{
	return use_limited(origin, 0);
}

/* With a map, which else the first publish makes. */
static inline struct user use_made(const char *origin)
{
	struct user u = use(origin);
	struct err e;

	if (cache_map_make(u.b->own, &e) < 0)
		die("map", e.msg);
	return u;
}

static inline void leave(struct user *u)
{
	cache_blob_close(u->b);
	cache_close(u->c);
}

static inline void whole_in_shared(const char *origin)
{
	struct user u = use(origin);
	struct err e = { "" };

	cachelib_publish_all(u.b, &blob);
	if (cache_blob_verify(u.b, &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(cache_blob_state(u.b), CACHE_WHOLE);
	leave(&u);
}

static inline void make_blobs(void)
{
	blob = cachelib_blob(1, SIZE);
	forged = cachelib_forge(&blob);
}

#endif
