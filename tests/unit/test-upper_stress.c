/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_stress.c - writers, trimmers, readers, flushers and a tidier on one append log.
 *
 * Every sector that is written says who wrote it: the number of the write, which has a moment when
 * it began and one when it was acknowledged.  What a reader finds is wrong when its write was over
 * before another one on the same sector began that was acknowledged before the read began. */
#include "tests/unit/upperlib.h"

enum {
	SECTORS = 256,
	SIZE = SECTORS * 512,
	THREADS = 8,
	STEPS = 20000, /* of each thread */
	LANES = THREADS, /* of each shared sector: bytes that one thread alone writes */
	SHARED = 4, /* sectors at the end, written in parts */
};

#define NEVER UINT64_MAX

static struct upper_log *u;
static _Atomic uint64_t now = 1; /* the clock: one tick an event */
static _Atomic uint64_t writes = 1; /* number of the next one; 0 stands for zeroes */
static _Atomic uint64_t ended[THREADS * STEPS + 1]; /* of each write, NEVER while it goes on */

struct sector {
	_Atomic uint64_t floor; /* the newest begin of a change that was acknowledged */
	_Atomic uint64_t zeroed; /* the newest acknowledgement of zeroes */
	_Atomic uint64_t zeroing; /* changes to zeroes that go on */
};

static struct sector sectors[SECTORS];

static void die(const char *what, uint64_t a, uint64_t b)
{
	fprintf(stderr, "%s: %" PRIu64 ", %" PRIu64 "\n", what, a, b);
	abort();
}

static void raise_to(_Atomic uint64_t *to, uint64_t value)
{
	uint64_t old = atomic_load(to);

	while (old < value && !atomic_compare_exchange_weak(to, &old, value))
		;
}

static void fill(uint8_t *bytes, uint64_t write, uint64_t lba)
{
	uint64_t words[64], i;

	for (i = 0; i < 64; i++)
		words[i] = write * 64 + i + (lba << 40);
	memcpy(bytes, words, 512);
}

/* The number of the write that a sector comes from. */
static uint64_t identify(const uint8_t *bytes, uint64_t lba)
{
	uint64_t words[64], i;

	memcpy(words, bytes, 512);
	if (words[0] == 0 && words[63] == 0)
		return 0;
	for (i = 0; i < 64; i++)
		if (words[i] != words[0] + i)
			die("a torn sector", lba, i);
	if (words[0] >> 40 != lba)
		die("a sector of another place", lba, words[0] >> 40);
	return (words[0] & ((UINT64_C(1) << 40) - 1)) / 64;
}

static void pick(uint64_t *random, uint64_t *lba, uint64_t *n)
{
	*lba = testlib_random(random) % (SECTORS - SHARED);
	*n = testlib_random(random) % 12 + 1;
	*n = *n < SECTORS - SHARED - *lba ? *n : SECTORS - SHARED - *lba;
}

static void write_some(uint64_t *random)
{
	uint8_t bytes[12 * 512];
	uint64_t lba, n, i, write = atomic_fetch_add(&writes, 1), began;
	unsigned flags = testlib_random(random) % 64 ? 0 : UPPER_FUA;

	pick(random, &lba, &n);
	for (i = 0; i < n; i++)
		fill(bytes + i * 512, write, lba + i);
	began = atomic_fetch_add(&now, 1);
	if (upper_log_pwrite(u, bytes, (size_t)n * 512, lba * 512, flags, NULL) < 0)
		die("write", lba, n);
	atomic_store(&ended[write], atomic_fetch_add(&now, 1));
	for (i = 0; i < n; i++)
		raise_to(&sectors[lba + i].floor, began);
}

static void zero_some(uint64_t *random)
{
	uint64_t lba, n, i, began, end;

	pick(random, &lba, &n);
	for (i = 0; i < n; i++)
		atomic_fetch_add(&sectors[lba + i].zeroing, 1);
	began = atomic_fetch_add(&now, 1);
	if ((testlib_random(random) % 2 ? upper_log_trim : upper_log_zero)(u, lba * 512, n * 512, 0,
									   NULL) < 0)
		die("trim", lba, n);
	end = atomic_fetch_add(&now, 1);
	for (i = 0; i < n; i++) {
		raise_to(&sectors[lba + i].zeroed, end);
		atomic_fetch_sub(&sectors[lba + i].zeroing, 1);
		raise_to(&sectors[lba + i].floor, began);
	}
}

/* `floor`: that of the sector before the read began. */
static void check_sector(const uint8_t *bytes, uint64_t lba, uint64_t floor)
{
	uint64_t write = identify(bytes, lba);

	if (write == 0) {
		if (atomic_load(&sectors[lba].zeroing) == 0 && floor > 0 &&
		    atomic_load(&sectors[lba].zeroed) < floor)
			die("old zeroes", lba, floor);
		return;
	}
	if (write >= atomic_load(&writes))
		die("a write that was never begun", lba, write);
	if (atomic_load(&ended[write]) < floor)
		die("an old write", lba, write);
}

static void read_some(uint64_t *random)
{
	uint8_t bytes[12 * 512];
	uint64_t lba, n, i, floors[12];

	pick(random, &lba, &n);
	for (i = 0; i < n; i++)
		floors[i] = atomic_load(&sectors[lba + i].floor);
	if (upper_log_pread(u, bytes, (size_t)n * 512, lba * 512, NULL) < 0)
		die("read", lba, n);
	for (i = 0; i < n; i++)
		check_sector(bytes + i * 512, lba + i, floors[i]);
}

/* A thread's bytes of the shared sectors are what it wrote last, whatever the others do there. */
static void write_lane(unsigned lane, uint64_t *random, uint8_t values[SHARED])
{
	enum { LANE = 512 / LANES };
	unsigned sector = testlib_random(random) % SHARED;
	uint64_t off = SIZE - (SHARED - sector) * 512 + lane * LANE;
	uint8_t bytes[LANE], read[LANE];

	memset(bytes, values[sector], LANE);
	if (upper_log_pread(u, read, LANE, off, NULL) < 0)
		die("lane", lane, sector);
	if (memcmp(bytes, read, LANE) != 0)
		die("a lane lost its bytes", lane, sector);
	memset(bytes, ++values[sector], LANE);
	if (upper_log_pwrite(u, bytes, LANE, off, 0, NULL) < 0)
		die("lane", lane, sector);
}

struct thread {
	pthread_t id;
	unsigned number;
	uint64_t random;
	uint8_t lanes[SHARED]; /* its bytes of the shared sectors */
};

static void *run(void *arg)
{
	struct thread *t = arg;
	unsigned i, steps = loops_count(STEPS);

	for (i = 0; i < steps; i++) {
		uint64_t what = testlib_random(&t->random) % 64;

		if (what < 24)
			write_some(&t->random);
		else if (what < 30)
			zero_some(&t->random);
		else if (what < 34)
			write_lane(t->number, &t->random, t->lanes);
		else if (what == 34 && upper_log_flush(u, NULL) < 0)
			die("flush", i, 0);
		else if (what == 35 && upper_log_tidy(u, NULL) < 0)
			die("tidy", i, 0);
		else
			read_some(&t->random);
	}
	return NULL;
}

static void check_end(void)
{
	uint8_t bytes[512];
	uint64_t lba;

	for (lba = 0; lba < SECTORS - SHARED; lba++) {
		assert_int_equal(upper_log_pread(u, bytes, 512, lba * 512, NULL), 0);
		check_sector(bytes, lba, atomic_load(&sectors[lba].floor));
	}
}

static void threads_do_not_disturb_each_other(void **state)
{
	struct upper_log_options options = { .garbage = 30,
					     .garbage_records = 500,
					     .garbage_bytes = 1,
					     .pending_bytes = 4096 };
	struct thread threads[THREADS];
	uint8_t *disk;
	unsigned i;

	for (i = 0; i <= THREADS * STEPS; i++)
		ended[i] = NEVER;
	u = upper_new(SIZE, &options);
	for (i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ .number = i, .random = loops_random() };
		assert_int_equal(pthread_create(&threads[i].id, NULL, run, &threads[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i].id, NULL);
	check_end();
	upper_close(u);
	u = upper_open_with(&options);
	check_end();
	disk = malloc(SIZE);
	assert_int_equal(upper_log_pread(u, disk, SIZE, 0, NULL), 0);
	upper_close(u);
	upper_check_files(disk, SIZE);
	free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_do_not_disturb_each_other),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
