/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_parts.c - the small parts of an open append log, each alone: its queue, its readers,
 * its claims, its lock, what died in it; and that each lock in it is made and unmade. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <sched.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "core/upper_lock.h"
#include "core/upper_private.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	MOST = FORMAT_MAX_SECTORS,
	SECTORS = 64,
	BYTES = SECTORS * SECTOR,
};

static void expect_mapping(const char *what, struct mapping got, struct mapping want)
{
	if (got.range != want.range || got.target != want.target)
		fail_msg("%s: %d sectors at %d, from %d of layer %d", what,
			 (int)mapping_sectors(got), (int)mapping_start(got),
			 (int)mapping_moffset(got), (int)mapping_layer(got));
}

/* ---- the queue ---- */

static void a_queue_doubles_its_room(void **state)
{
	static const struct {
		size_t count, n, room;
	} steps[] = {
		{ 0, 0, 0 },	 { 0, 1, 64 },	    { 0, 64, 64 },     { 1, 63, 64 },
		{ 1, 64, 128 },	 { 128, 0, 128 },   { 64, 64, 128 },   { 64, 65, 256 },
		{ 256, 1, 512 }, { 0, 2048, 2048 }, { 2048, 1, 4096 },
	};
	struct upper_queue q = { 0 };
	size_t i;

	for (i = 0; i < COUNT_OF(steps); i++) {
		q.count = steps[i].count;
		assert_int_equal(upper_queue_reserve(&q, steps[i].n), 0);
		assert_int_equal(q.room, steps[i].room);
		assert_true(!q.list || malloc_usable_size(q.list) >= q.room * sizeof *q.list);
	}
	allocs_left = 0;
	q.count = 4096;
	assert_int_equal(upper_queue_reserve(&q, 0), 0);
	assert_int_equal(upper_queue_reserve(&q, 1), -ENOMEM);
	allocs_left = -1;
	assert_int_equal(q.room, 4096);
	free(q.list);
}

static void neighbours_in_a_queue_are_one_record(void **state)
{
	/* Each last one begins at 100, and at 1000 of the data file. */
	static const struct {
		const char *what;
		uint64_t last, start, sectors, moffset;
		bool last_zeroed, zeroed, frozen, joined;
	} cases[] = {
		{ "data that go on", 4, 104, 2, 1004, false, false, false, true },
		{ "zeroes that go on", 4, 104, 2, 0, true, true, false, true },
		{ "behind a gap", 4, 105, 2, 1004, false, false, false, false },
		{ "before it", 4, 98, 2, 1004, false, false, false, false },
		{ "zeroes behind a gap", 4, 105, 2, 0, true, true, false, false },
		{ "other data", 4, 104, 2, 1005, false, false, false, false },
		{ "data before those", 4, 104, 2, 996, false, false, false, false },
		{ "zeroes behind data", 4, 104, 2, 1004, false, true, false, false },
		{ "data behind zeroes", 4, 104, 2, 4, true, false, false, false },
		{ "frozen data", 4, 104, 2, 1004, false, false, true, false },
		{ "frozen zeroes", 4, 104, 2, 0, true, true, true, false },
		{ "as long as can be", MOST - 2, 98 + MOST, 2, 998 + MOST, false, false, false,
		  true },
		{ "one too long", MOST - 1, 99 + MOST, 2, 999 + MOST, false, false, false, false },
		{ "zeroes as long as can be", MOST - 2, 98 + MOST, 2, 0, true, true, false, true },
		{ "zeroes one too long", MOST - 1, 99 + MOST, 2, 0, true, true, false, false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct mapping first =
			mapping_make(100, cases[i].last, 0, cases[i].last_zeroed ? 0 : 1000,
				     cases[i].last_zeroed);
		struct mapping next = mapping_make(cases[i].start, cases[i].sectors, 0,
						   cases[i].moffset, cases[i].zeroed);
		struct upper_queue q = { 0 };

		assert_int_equal(upper_queue_reserve(&q, 2), 0);
		upper_queue_push(&q, first);
		assert_int_equal(q.count, 1);
		q.frozen = cases[i].frozen;
		upper_queue_push(&q, next);
		if (q.count != (cases[i].joined ? 1 : 2))
			fail_msg("%s: %zu records", cases[i].what, q.count);
		if (cases[i].joined)
			first = mapping_make(100, cases[i].last + 2, 0, cases[i].zeroed ? 0 : 1000,
					     cases[i].zeroed);
		else
			expect_mapping(cases[i].what, q.list[1], next);
		expect_mapping(cases[i].what, q.list[0], first);
		free(q.list);
	}
}

static void a_long_range_is_cut(void **state)
{
	enum { ROOM = 3 };
	static const uint64_t lengths[] = { 0,		 1,	   MOST - 1,	 MOST,
					    MOST + 1,	 2 * MOST, 2 * MOST + 5, 3 * MOST,
					    3 * MOST + 1 };
	const struct mapping guard = mapping_make(7, 7, 7, 7, true);
	size_t i, k, n, room;
	unsigned zeroed;

	for (i = 0; i < COUNT_OF(lengths); i++)
		for (room = 0; room <= ROOM; room++)
			for (zeroed = 0; zeroed < 2; zeroed++) {
				struct mapping out[ROOM + 1] = { guard, guard, guard, guard };
				size_t want = (size_t)(lengths[i] + MOST - 1) / MOST;

				want = want < room ? want : room;
				n = upper_queue_cut(100, lengths[i], 1000, zeroed, out, room);
				assert_int_equal(n, want);
				for (k = 0; k < n; k++) {
					uint64_t done = k * MOST, left = lengths[i] - done;

					expect_mapping(
						"a piece", out[k],
						mapping_make(100 + done, left < MOST ? left : MOST,
							     0, zeroed ? 0 : 1000 + done, zeroed));
				}
				for (; k <= ROOM; k++)
					expect_mapping("behind the pieces", out[k], guard);
			}
}

/* ---- what died ---- */

static void dead_ranges_are_joined_and_counted(void **state)
{
	struct upper_ranges r = { 0 };

	upper_ranges_add(&r, 10, 3);
	upper_ranges_add(&r, 13, 2);
	assert_int_equal(r.count, 1);
	assert_int_equal(r.list[0].moffset, 10);
	assert_int_equal(r.list[0].sectors, 5);
	upper_ranges_add(&r, 16, 1); /* a gap */
	upper_ranges_add(&r, 15, 1); /* in the gap, but the newest is another one */
	assert_int_equal(r.count, 3);
	assert_int_equal(r.list[2].moffset, 15);
	assert_int_equal(r.list[2].sectors, 1);
	assert_int_equal(r.sectors, 7);
	assert_int_equal(r.room, 64);
	upper_ranges_release(&r);
	assert_null(r.list);
	assert_int_equal(r.count + r.room + r.sectors, 0);
}

static void a_million_dead_ranges_are_kept(void **state)
{
	enum { MOST_RANGES = 1048576 };
	struct upper_ranges r = { 0 };
	uint64_t i;

	for (i = 0; i < MOST_RANGES; i++) {
		upper_ranges_add(&r, 10 * i, 2);
		if (r.count != i + 1)
			fail_msg("%d ranges, not %d", (int)r.count, (int)i + 1);
		if (i == 63)
			assert_int_equal(r.room, 64);
		if (i == 64)
			assert_int_equal(r.room, 128);
	}
	assert_int_equal(r.room, MOST_RANGES);
	upper_ranges_add(&r, 10 * i, 3); /* forgotten */
	assert_int_equal(r.count, MOST_RANGES);
	upper_ranges_add(&r, 10 * (i - 1) + 2, 4); /* it goes on with the newest */
	assert_int_equal(r.count, MOST_RANGES);
	assert_int_equal(r.list[MOST_RANGES - 1].sectors, 6);
	assert_int_equal(r.sectors, 2 * MOST_RANGES + 7);
	for (i = 0; i + 1 < MOST_RANGES; i++)
		if (r.list[i].moffset != 10 * i || r.list[i].sectors != 2)
			fail_msg("range %d: %d at %d", (int)i, (int)r.list[i].sectors,
				 (int)r.list[i].moffset);
	upper_ranges_release(&r);
	/* Without memory one is forgotten too. */
	allocs_left = 0;
	upper_ranges_add(&r, 1, 5);
	allocs_left = -1;
	assert_int_equal(r.count, 0);
	assert_int_equal(r.sectors, 5);
	upper_ranges_release(&r);
}

/* ---- readers ---- */

/* What was found before an epoch began is looked at until the epoch after the next. */
static void epochs_wait_for_their_readers(void **state)
{
	struct upper_readers r = { 0 };
	uint64_t epoch = 0, began[8], before;
	unsigned seats[8], i, k, steps = loops_count(200000);
	size_t n = 0;

	for (i = 0; i < steps; i++) {
		switch (loops_random() % 3) {
		case 0:
			if (n == COUNT_OF(seats))
				break;
			seats[n] = upper_readers_enter(&r);
			assert_int_equal(seats[n], epoch % 2);
			began[n++] = epoch;
			break;
		case 1:
			if (n == 0)
				break;
			k = (unsigned)(loops_random() % n);
			upper_readers_leave(&r, seats[k]);
			seats[k] = seats[--n];
			began[k] = began[n];
			break;
		default:
			before = epoch;
			epoch = upper_readers_advance(&r);
			/* As far as it goes, and at most two. */
			for (k = 0; k < n && began[k] == before; k++)
				;
			if (n == 0)
				assert_int_equal(epoch, before + 2);
			else if (k == n)
				assert_int_equal(epoch, before + 1);
			else
				assert_int_equal(epoch, before);
		}
		for (k = 0; k < n; k++)
			assert_true(epoch - began[k] <= 1);
	}
	while (n > 0)
		upper_readers_leave(&r, seats[--n]);
	assert_int_equal(r.active[0] + r.active[1], 0);
}

static struct upper_readers crowd;
static _Atomic bool stop;

static void *come_and_go(void *arg)
{
	unsigned i, steps = loops_count(2000000);

	for (i = 0; i < steps; i++)
		upper_readers_leave(&crowd, upper_readers_enter(&crowd));
	atomic_store(&stop, true);
	return NULL;
}

/* Who comes while the epoch goes on takes a seat of one that is still waited for. */
static void readers_come_while_epochs_go_on(void **state)
{
	uint64_t last = 0, epoch;
	pthread_t reader;

	stop = false;
	assert_int_equal(pthread_create(&reader, NULL, come_and_go, NULL), 0);
	while (!atomic_load(&stop)) {
		epoch = upper_readers_advance(&crowd);
		assert_true(epoch >= last && epoch <= last + 2);
		last = epoch;
	}
	pthread_join(reader, NULL);
	assert_int_equal(crowd.active[0], 0);
	assert_int_equal(crowd.active[1], 0);
	assert_int_equal(upper_readers_advance(&crowd), last + 2);
}

/* ---- claims ---- */

static struct upper_claims claims;

struct claimer {
	uint64_t start, end;
	_Atomic bool has;
};

static void *claim_and_give(void *arg)
{
	struct claimer *c = arg;
	struct upper_claim claim;

	upper_claims_take(&claims, &claim, c->start, c->end);
	atomic_store(&c->has, true);
	upper_claims_give(&claims, &claim);
	return NULL;
}

static void wait_for_waiting(unsigned n)
{
	bool there = false;

	while (!there) {
		pthread_mutex_lock(&claims.lock);
		there = claims.waiting == n;
		pthread_mutex_unlock(&claims.lock);
		sched_yield();
	}
}

/* Of two that overlap the later one waits; neighbours do not. */
static void claims_that_overlap_wait(void **state)
{
	static const struct {
		uint64_t start, end;
	} overlaps[] = { { 10, 20 }, { 9, 11 }, { 19, 21 }, { 12, 13 }, { 0, 100 }, { 10, 11 } };
	struct upper_claim first, below, above, empty;
	struct claimer second;
	pthread_t thread;
	size_t i;

	upper_claims_init(&claims);
	upper_claims_take(&claims, &first, 10, 20);
	upper_claims_take(&claims, &below, 5, 10);
	upper_claims_take(&claims, &above, 20, 30);
	upper_claims_take(&claims, &empty, 5, 5);
	assert_int_equal(claims.waiting, 0);
	upper_claims_give(&claims, &below);
	upper_claims_give(&claims, &above);
	upper_claims_give(&claims, &empty);
	upper_claims_give(&claims, &first);
	for (i = 0; i < COUNT_OF(overlaps); i++) {
		second = (struct claimer){ .start = overlaps[i].start, .end = overlaps[i].end };
		upper_claims_take(&claims, &below, 0, 5);
		upper_claims_take(&claims, &first, 10, 20);
		if (overlaps[i].start == 0) /* one older one is enough */
			upper_claims_give(&claims, &below);
		assert_int_equal(pthread_create(&thread, NULL, claim_and_give, &second), 0);
		wait_for_waiting(1);
		assert_false(second.has);
		if (overlaps[i].start != 0)
			upper_claims_give(&claims, &below); /* not what it waits for */
		wait_for_waiting(1);
		assert_false(second.has);
		upper_claims_give(&claims, &first);
		pthread_join(thread, NULL);
		assert_true(second.has);
		assert_int_equal(claims.waiting, 0);
		assert_null(claims.newest);
	}
	upper_claims_release(&claims);
}

/* The list of them, given back in any order. */
static void claims_are_listed_by_age(void **state)
{
	enum { MOST_CLAIMS = 10 };
	struct upper_claim list[MOST_CLAIMS], *order[MOST_CLAIMS];
	unsigned i, k, steps = loops_count(20000);
	bool held[MOST_CLAIMS] = { false };
	size_t at, n = 0;

	upper_claims_init(&claims);
	for (i = 0; i < steps; i++) {
		k = (unsigned)(loops_random() % MOST_CLAIMS);
		if (held[k]) {
			upper_claims_give(&claims, &list[k]);
			for (at = 0; order[at] != &list[k];)
				at++;
			for (n--; at < n; at++)
				order[at] = order[at + 1];
		} else {
			upper_claims_take(&claims, &list[k], 10 * k, 10 * k + 10);
			assert_int_equal(list[k].start, 10 * k);
			assert_int_equal(list[k].end, 10 * k + 10);
			order[n++] = &list[k];
		}
		held[k] = !held[k];
		assert_ptr_equal(claims.newest, n > 0 ? order[n - 1] : NULL);
		for (k = 0; k < n; k++) {
			assert_ptr_equal(order[k]->older, k > 0 ? order[k - 1] : NULL);
			assert_ptr_equal(order[k]->newer, k + 1 < n ? order[k + 1] : NULL);
		}
	}
	for (k = 0; k < n; k++)
		upper_claims_give(&claims, order[k]);
	upper_claims_release(&claims);
}

/* ---- the lock of a file ---- */

static struct file_ops ops;
static unsigned opens, closes;
static int lock_result, named_result;
static unsigned named_from; /* of the opens, the first that has the name */

static int count_open(const char *path, int flags, mode_t mode)
{
	int fd;

	if (strcmp(path, "u.data") != 0)
		return memfs_open(path, flags, mode);
	assert_int_equal(flags, O_RDWR);
	opens++;
	fd = memfs_open(path, flags, mode);
	return fd;
}

static void count_close(int fd)
{
	closes++;
	memfs_close(fd);
}

static int lock_as_told(int fd)
{
	return lock_result;
}

static int is_named_as_told(int fd, const char *path)
{
	assert_string_equal(path, "u.data");
	return opens >= named_from ? 1 : named_result;
}

static void set_lock(int r, int named, unsigned from)
{
	ops = memfs_ops;
	ops.open = count_open;
	ops.close = count_close;
	ops.lock = lock_as_told;
	ops.is_named = is_named_as_told;
	lock_result = r;
	named_result = named;
	named_from = from;
	opens = closes = 0;
}

static void who_has_the_name_has_the_lock(void **state)
{
	struct err e = { "" };
	unsigned i;
	int fd;

	memfs = memfs_new(1);
	set_lock(0, 0, 1);
	assert_int_equal(upper_lock_open(&ops, "u.data", O_RDWR, &e), -ENOENT);
	assert_string_equal(e.msg, "u.data: No such file or directory");
	memfs_close(memfs_open("u.data", O_RDWR | O_CREAT, 0600));
	/* One that is replaced meanwhile is opened again, a hundred times. */
	for (i = 1; i <= 100; i += 33) {
		set_lock(0, i == 34 ? -EIO : i == 67 ? 2 : 0, i);
		fd = upper_lock_open(&ops, "u.data", O_RDWR, &e);
		assert_true(fd >= 0);
		assert_int_equal(opens, i);
		assert_int_equal(closes, i - 1);
		memfs_close(fd);
	}
	set_lock(0, 0, 101);
	assert_int_equal(upper_lock_open(&ops, "u.data", O_RDWR, &e), -EBUSY);
	assert_string_equal(e.msg, "u.data: is replaced again and again");
	assert_int_equal(opens, 100);
	assert_int_equal(closes, 100);
	set_lock(-EIO, 0, 1);
	assert_int_equal(upper_lock_open(&ops, "u.data", O_RDWR, &e), -EIO);
	assert_string_equal(e.msg, "u.data: locking: Input/output error");
	assert_int_equal(opens, 1);
	assert_int_equal(closes, 1);
	memfs_free(memfs);
}

static void who_has_the_lock_is_named(void **state)
{
	static const struct {
		uint64_t pid;
		const char *said;
	} cases[] = { { 0, "u.data: is in use by another process" },
		      { 1, "u.data: is in use by process 1" },
		      { UINT64_MAX, "u.data: is in use by process 18446744073709551615" } };
	static const char uuid[FORMAT_UUID] = "01234567-89ab-cdef-0123-456789abcdef";
	struct upper_pending_base base = { 0 };
	struct upper_pending p;
	struct err e = { "" };
	size_t i;

	memfs = memfs_new(1);
	memfs_close(memfs_open("u.data", O_RDWR | O_CREAT, 0600));
	set_lock(-EWOULDBLOCK, 0, 1);
	assert_int_equal(upper_lock_open(&ops, "u.data", O_RDWR, &e), -EBUSY);
	assert_string_equal(e.msg, cases[0].said);
	assert_int_equal(closes, 1);
	assert_int_equal(upper_pending_init(&p, &memfs_ops, "u.data", -1, uuid, NULL), 0);
	assert_int_equal(upper_pending_begin(&p, &base, NULL, 0, NULL), 0);
	upper_pending_release(&p);
	for (i = 0; i < COUNT_OF(cases); i++) {
		uint8_t *raw = memfs->files[memfs_find("u.pending")->file].now.p;

		le64_put(raw + 8, cases[i].pid);
		le32_put(raw + 252, crc32c_raw(0, raw, 252));
		assert_int_equal(upper_lock_open(&ops, "u.data", O_RDWR, &e), -EBUSY);
		assert_string_equal(e.msg, cases[i].said);
	}
	memfs_free(memfs);
}

/* ---- what threads wait on ---- */

static struct {
	const void *list[512]; /* mutexes and conditions that were made and not unmade */
	size_t count;
	unsigned unknown; /* that were used or unmade, and not made */
	bool looks;
} made;

static void note_made(const void *p)
{
	if (!made.looks)
		return;
	assert_true(made.count < COUNT_OF(made.list));
	made.list[made.count++] = p;
}

static size_t find_made(const void *p)
{
	size_t i = 0;

	while (i < made.count && made.list[i] != p)
		i++;
	return i;
}

static void note_unmade(const void *p)
{
	size_t i = find_made(p);

	if (!made.looks)
		return;
	if (i == made.count)
		made.unknown++;
	else
		made.list[i] = made.list[--made.count];
}

/* Those of the program itself are made by its loader. */
static void note_used(const void *p)
{
	extern char __data_start[], end[];

	if (made.looks && ((const char *)p < __data_start || (const char *)p >= end))
		made.unknown += find_made(p) == made.count;
}

int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __real_pthread_mutex_destroy(pthread_mutex_t *m);
int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __real_pthread_cond_destroy(pthread_cond_t *c);
int __real_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
	note_made(m);
	return __real_pthread_mutex_init(m, attr);
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
	note_unmade(m);
	return __real_pthread_mutex_destroy(m);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	note_used(m);
	return __real_pthread_mutex_lock(m);
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
	note_made(c);
	return __real_pthread_cond_init(c, attr);
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
	note_unmade(c);
	return __real_pthread_cond_destroy(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
	note_used(c);
	return __real_pthread_cond_broadcast(c);
}

static _Atomic unsigned waits; /* of threads, for a condition */

int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	waits++;
	return __real_pthread_cond_wait(c, m);
}

static struct upper_log *busy;
static _Atomic bool done;

static void *flush_it(void *arg)
{
	if (upper_log_flush(busy, NULL) < 0)
		abort();
	done = true;
	return NULL;
}

static void *enter_it(void *arg)
{
	upper_sync_enter(&busy->sync);
	done = true;
	upper_sync_leave(&busy->sync);
	return NULL;
}

/* Who flushes, and who needs that nobody does, wait for one another. */
static void one_syncs_at_a_time(void **state)
{
	static void *(*const others[])(void *arg) = { flush_it, enter_it };
	struct upper_log_options options = { .ops = &memfs_ops };
	pthread_t thread;
	size_t i;

	memfs = memfs_new(1);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &busy, NULL, NULL), 0);
	assert_int_equal(upper_log_pwrite(busy, "x", 1, 0, 0, NULL), 0);
	for (i = 0; i < COUNT_OF(others); i++) {
		waits = 0;
		done = false;
		upper_sync_enter(&busy->sync);
		assert_int_equal(pthread_create(&thread, NULL, others[i], NULL), 0);
		while (waits == 0 && !done)
			sched_yield();
		assert_false(done);
		upper_sync_leave(&busy->sync);
		pthread_join(thread, NULL);
		assert_true(done);
		assert_false(busy->sync.running);
	}
	assert_int_equal(busy->queue.count, 0);
	assert_int_equal(upper_log_close(busy, NULL), 0);
	memfs_free(memfs);
}

static void locks_are_made_before_they_are_used(void **state)
{
	struct upper_log_options options = { .ops = &memfs_ops };
	struct upper_log *u;
	struct upper_map m;
	char byte;
	int i;

	made.looks = true;
	memfs = memfs_new(1);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
	for (i = 0; i < 2; i++) {
		assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL),
				 0);
		assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
		assert_int_equal(upper_log_zero(u, 512, 512, 0, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(upper_log_pread(u, &byte, 1, 0, NULL), 0);
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		assert_int_equal(upper_log_close(u, NULL), 0);
		assert_int_equal(made.count, 0);
	}
	/* Opening fails half way. */
	options.size = 513;
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), -EINVAL);
	options.size = 0;
	assert_int_equal(memfs_unlink("i/u.index"), 0);
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), -ENOENT);
	assert_int_equal(made.count, 0);
	assert_int_equal(upper_map_init(&m, 1), 0);
	assert_int_equal(made.count, UPPER_MAP_LOCKS);
	upper_map_release(&m);
	upper_map_release(&m); /* does nothing */
	assert_int_equal(made.count, 0);
	assert_int_equal(made.unknown, 0);
	made.looks = false;
	memfs_free(memfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_queue_doubles_its_room),
		cmocka_unit_test(neighbours_in_a_queue_are_one_record),
		cmocka_unit_test(a_long_range_is_cut),
		cmocka_unit_test(dead_ranges_are_joined_and_counted),
		cmocka_unit_test(a_million_dead_ranges_are_kept),
		cmocka_unit_test(epochs_wait_for_their_readers),
		cmocka_unit_test(readers_come_while_epochs_go_on),
		cmocka_unit_test(claims_that_overlap_wait),
		cmocka_unit_test(claims_are_listed_by_age),
		cmocka_unit_test(who_has_the_name_has_the_lock),
		cmocka_unit_test(who_has_the_lock_is_named),
		cmocka_unit_test(one_syncs_at_a_time),
		cmocka_unit_test(locks_are_made_before_they_are_used),
	};

	loops_seed();
	alarm(240);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
