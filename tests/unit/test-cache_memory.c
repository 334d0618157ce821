/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_memory.c - what the cache allocates and makes: each allocation refused, nothing
 * written behind one, each lock destroyed that was made, and errors set by failures alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>

#include <cmocka.h>

#include "fetch/cache_evict.h"
#include "fetch/cache_keeper.h"
#include "fetch/cache_map_internal.h"
#include "tests/unit/cache-users.h"
#include "tests/unit/fence.h"

/* ---- locks: what is made, and not destroyed yet ---- */

static const void *locks[256];
static size_t lock_count;

static size_t find_lock(const void *lock)
{
	size_t i = 0;

	while (i < lock_count && locks[i] != lock)
		i++;
	return i;
}

static void make_lock(const void *lock)
{
	if (find_lock(lock) < lock_count || lock_count == sizeof locks / sizeof *locks)
		die("lock", "made twice");
	locks[lock_count++] = lock;
}

static void destroy_lock(const void *lock)
{
	size_t i = find_lock(lock);

	if (i == lock_count)
		die("lock", "destroyed, but not made");
	locks[i] = locks[--lock_count];
}

#define WRAP(type, attributes)                                                                     \
	int __real_##type##_init(type##_t *lock, const attributes *attr);                          \
	int __wrap_##type##_init(type##_t *lock, const attributes *attr);                          \
	int __real_##type##_destroy(type##_t *lock);                                               \
	int __wrap_##type##_destroy(type##_t *lock);                                               \
	int __wrap_##type##_init(type##_t *lock, const attributes *attr)                           \
	{                                                                                          \
		check_##type(attr);                                                                \
		make_lock(lock);                                                                   \
		return __real_##type##_init(lock, attr);                                           \
	}                                                                                          \
	int __wrap_##type##_destroy(type##_t *lock)                                                \
	{                                                                                          \
		destroy_lock(lock);                                                                \
		return __real_##type##_destroy(lock);                                              \
	}

static void check_pthread_mutex(const pthread_mutexattr_t *attr)
{
}

static void check_pthread_cond(const pthread_condattr_t *attr)
{
}

/* Readers without an end must not keep a new level out. */
static void check_pthread_rwlock(const pthread_rwlockattr_t *attr)
{
	int kind = -1;

	if (find_lock(attr) == lock_count || pthread_rwlockattr_getkind_np(attr, &kind) != 0 ||
	    kind != PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP)
		die("lock", "unfair");
}

WRAP(pthread_mutex, pthread_mutexattr_t)
WRAP(pthread_cond, pthread_condattr_t)
WRAP(pthread_rwlock, pthread_rwlockattr_t)

int __real_pthread_rwlockattr_init(pthread_rwlockattr_t *attr);
int __wrap_pthread_rwlockattr_init(pthread_rwlockattr_t *attr);
int __real_pthread_rwlockattr_destroy(pthread_rwlockattr_t *attr);
int __wrap_pthread_rwlockattr_destroy(pthread_rwlockattr_t *attr);

int __wrap_pthread_rwlockattr_init(pthread_rwlockattr_t *attr)
{
	make_lock(attr);
	return __real_pthread_rwlockattr_init(attr);
}

int __wrap_pthread_rwlockattr_destroy(pthread_rwlockattr_t *attr)
{
	destroy_lock(attr);
	return __real_pthread_rwlockattr_destroy(attr);
}

static int end(void **state)
{
	tear_down(state);
	if (lock_count > 0)
		print_error("%zu locks were not destroyed\n", lock_count);
	return lock_count > 0;
}

/* ---- tests ---- */

/* What a failure says: nothing else may fail for want of memory. */
static void check_refusal(int r, const struct err *e)
{
	if (r < 0 && (r != -ENOMEM || (!strstr(e->msg, "out of memory") &&
				       !strstr(e->msg, "Cannot allocate memory"))))
		fail_msg("%d: %s", r, e->msg);
}

/* Does `call` (which sets r) with each of its allocations refused, alone and with all that follow,
 * and at last with none; and `undo` where it succeeded. */
#define EACH(call, undo)                                                                           \
	do {                                                                                       \
		int way;                                                                           \
		for (way = 0; way < 2; way++) {                                                    \
			for (k = 0;; k++) {                                                        \
				bool refused;                                                      \
				e.msg[0] = '\0';                                                   \
				fence_refuse(k, way);                                              \
				call;                                                              \
				refused = fence_allow();                                           \
				check_refusal(r, &e);                                              \
				if (r == 0)                                                        \
					undo;                                                      \
				if (!refused)                                                      \
					break;                                                     \
			}                                                                          \
			assert_int_equal(r, 0);                                                    \
		}                                                                                  \
	} while (0)

static int count_entry(void *arg, const struct cache_entry *entry)
{
	++*(unsigned *)arg;
	return 0;
}

static void refused_of_blobs(void **state)
{
	struct user u = { .b = NULL };
	uint8_t chunk[CACHE_CHUNK];
	uint64_t n, freed;
	struct err e;
	long k;
	int r;

	EACH(r = cache_open(folder, 0, &u.c, &e), cache_close(u.c));
	EACH(r = cache_open_late(folder, 0, &u.c, &e), cache_close(u.c));
	u.c = cachelib_open(0);
	EACH(r = cache_blob_open(u.c, GOOD, blob.digest, SIZE, &u.b, &e), cache_blob_close(u.b));
	u.b = cachelib_open_blob(u.c, GOOD, &blob);
	cachelib_chunk(&blob, 3, chunk);
	for (k = 0, r = -ENOMEM; r < 0; k++) {
		assert_int_equal(r, -ENOMEM);
		fence_refuse(k, false);
		r = cache_blob_publish(u.b, 3, chunk);
		(void)fence_allow();
	}
	assert_true(k > 1);
	assert_true(cache_is_filling(u.c)); /* no trouble of the folder's */
	assert_int_equal(cachelib_look(u.b, &blob, 3), 1);
	EACH(r = cache_prune(u.c, UINT64_MAX, &freed, &e), (void)0);
	cachelib_publish_all(u.b, &blob);
	EACH(r = cache_blob_verify(u.b, &e),
	     cache_map_change_flags(u.b->shared, 0, CACHE_MAP_WHOLE));
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
	EACH(r = cache_drop(u.c, blob.digest, GOOD, &n, &e), (void)0);
	leave(&u);
	assert_int_equal(warnings, 0);
}

static void refused_of_tools(void **state)
{
	struct user u = use(GOOD);
	uint64_t checked, bad, dropped, usage;
	unsigned count = 0;
	char *text = NULL;
	struct err e;
	size_t n;
	long k;
	int r;

	cachelib_publish_all(u.b, &blob);
	EACH(r = cache_put_document(u.c, GOOD, "x", "text", 4, &e), (void)0);
	EACH(r = cache_put_document(u.c, NULL, blob.digest, "text", 4, &e), (void)0);
	EACH(r = cache_get_document(u.c, GOOD, "x", &text, &n, &e), free(text));
	assert_int_equal(n, 4);
	EACH(r = cache_list(u.c, count_entry, &count, &e), (void)0);
	assert_true(count >= 1);
	EACH(r = cache_verify_all(u.c, NULL, NULL, &checked, &bad, &e), (void)0);
	assert_int_equal(checked, CHUNKS);
	assert_int_equal(bad, 0);
	usage = atomic_load(u.c->usage);
	for (k = 0; k < 30; k++) {
		fence_refuse(k, true);
		cache_keep_once(u.c);
		assert_int_equal(cache_usage(u.c), usage);
		(void)fence_allow();
	}
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
	EACH(r = cache_drop(u.c, NULL, NULL, &dropped, &e), (void)0);
	leave(&u);
}

/* Lists of one more than there was room for, blobs of few chunks, documents of few bytes: each has
 * memory for all of it. */
static void room_for_all(void **state)
{
	struct cache *c = cachelib_open(0);
	uint64_t chunks, freed;
	unsigned i, count;
	char name[16], *text;
	struct err e;
	size_t n;

	for (i = 0; i < 70; i++) {
		struct test_blob t = { .size = CACHE_CHUNK };
		struct cache_blob *b;

		snprintf(t.digest, sizeof t.digest, "sha256:%064x", i);
		b = cachelib_open_blob(c, GOOD, &t);
		assert_int_equal(cachelib_publish(b, &t, 0), 0);
		cache_blob_close(b);
		snprintf(name, sizeof name, "%u", i);
		assert_int_equal(cache_put_document(c, GOOD, name, name, i % 4, &e), 0);
		assert_int_equal(cache_get_document(c, GOOD, name, &text, &n, &e), 0);
		assert_int_equal(n, i % 4);
		assert_int_equal(text[n], 0);
		free(text);
		count = 0;
		assert_int_equal(cache_list(c, count_entry, &count, &e), 0);
		assert_int_equal(count, i + 1);
	}
	assert_int_equal(cache_prune(c, 0, &freed, &e), 0);
	for (chunks = 0; chunks < 4; chunks++) {
		struct test_blob t = cachelib_blob(100 + chunks, chunks * CACHE_CHUNK);
		struct cache_blob *b = cachelib_open_blob(c, GOOD, &t);

		cachelib_publish_all(b, &t);
		assert_int_equal(cachelib_count(b, &t), chunks);
		assert_int_equal(cache_blob_verify(b, &e), 0);
		cache_blob_close(b);
	}
	cache_close(c);
}

/* The text of an error is set by who fails, and stays as it is otherwise; but where v1/sha256 is
 * looked for in vain. */
static void untouched(void **state)
{
	struct user u = use(GOOD);
	uint64_t checked, bad, freed, dropped;
	struct err e = { "untouched" }, why;
	unsigned count = 0;
	char *text;
	size_t n;

	assert_int_equal(cache_put_document(u.c, GOOD, "x", "text", 4, &e), 0);
	assert_int_equal(cache_put_document(u.c, NULL, "x", "text", 4, &e), 0);
	cachelib_publish_all(u.b, &blob);
	leave(&u);
	assert_int_equal(cache_open(folder, 0, &u.c, &e), 0);
	assert_int_equal(cache_start(u.c, &e), 0);
	cache_stop(u.c);
	assert_int_equal(cache_blob_open(u.c, GOOD, blob.digest, SIZE, &u.b, &why), 0);
	assert_int_equal(cache_blob_hold(u.b, &e), 0);
	assert_int_equal(cache_get_document(u.c, GOOD, "x", &text, &n, &e), 0);
	free(text);
	assert_int_equal(cache_list(u.c, count_entry, &count, &e), 0);
	assert_int_equal(cache_verify_all(u.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(cache_map_mend_data(u.b->own, &e), 0);
	assert_int_equal(cache_map_sync(u.b->own, &e), 0);
	assert_int_equal(cache_blob_verify(u.b, &why), 0);
	assert_int_equal(cache_blob_verify(u.b, &e), 0); /* it is known to be right */
	assert_int_equal(cache_evict_renew(u.c, &e), 0);
	assert_int_equal(cache_prune(u.c, CACHE_CHUNK, &freed, &e), 0);
	assert_int_equal(cache_drop(u.c, NULL, NULL, &dropped, &e), 0);
	assert_string_equal(e.msg, "untouched");
	leave(&u);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, end)
	const struct CMUnitTest tests[] = {
		TEST(refused_of_blobs),
		TEST(refused_of_tools),
		TEST(room_for_all),
		TEST(untouched),
	};

	make_blobs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
