/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_garbage.c - which holes are punched, when, and what is looked for: on a log without
 * files, whose garbage the test makes up and whose time it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/upper_private.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	DATA_FD = 77,
	MIB = 1 << 20,
	MOST = 256, /* holes */
	SECTORS = 1 << 16, /* of the disk */
};

static struct upper_log u;
static char data_path[] = "u.data", index_path[] = "u.index";

static struct {
	struct upper_range list[MOST]; /* sectors, as they were punched */
	size_t count;
	int result; /* of the next ones */
	uint64_t takes_ms; /* each of them */
} holes;

static int mutexes; /* that were made and not destroyed */

int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attributes);
int __real_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attributes)
{
	mutexes++;
	return __real_pthread_mutex_init(m, attributes);
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
	mutexes--;
	return __real_pthread_mutex_destroy(m);
}

static uint64_t now_ms, allocated;
static int status_result, sync_result;
static unsigned looks; /* at the status */

static int fake_punch(int fd, uint64_t off, uint64_t n)
{
	assert_int_equal(fd, DATA_FD);
	assert_true(holes.count < MOST);
	assert_int_equal(off % 4096, 0);
	assert_int_equal(n % 4096, 0);
	holes.list[holes.count++] = (struct upper_range){ off / SECTOR, n / SECTOR };
	now_ms += holes.takes_ms;
	return holes.result;
}

static int fake_status(int fd, struct file_status *out)
{
	assert_int_equal(fd, DATA_FD);
	looks++;
	*out = (struct file_status){ .allocated = allocated };
	return status_result;
}

static int fake_datasync(int fd)
{
	return sync_result;
}

static int fake_truncate(int fd, uint64_t size)
{
	return 0;
}

static ssize_t fake_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	return (ssize_t)n;
}

static const struct file_ops ops = {
	.punch = fake_punch,
	.status = fake_status,
	.datasync = fake_datasync,
	.truncate = fake_truncate,
	.pwrite = fake_pwrite,
};

static uint64_t fake_now_us(void)
{
	return now_ms * 1000;
}

static void begin(const struct upper_log_options *options)
{
	mutexes = 0;
	memset(&u, 0, sizeof u);
	memset(&holes, 0, sizeof holes);
	allocated = 0;
	looks = 0;
	status_result = sync_result = 0;
	u.ops = &ops;
	u.data_path = data_path;
	u.index_path = index_path;
	u.data_fd = DATA_FD;
	u.pending.fd = -1;
	u.pending_bytes = UINT64_MAX;
	u.sectors = SECTORS;
	u.synced = true;
	assert_int_equal(upper_map_init(&u.map, SECTORS), 0);
	pthread_mutex_init(&u.publish_lock, NULL);
	upper_sync_init(&u.sync);
	upper_garbage_init(&u.garbage, options);
	/* It is in use since some epochs. */
	assert_int_equal(upper_readers_advance(&u.readers), 2);
	assert_int_equal(upper_readers_advance(&u.readers), 4);
	assert_int_equal(upper_readers_advance(&u.writers), 2);
	assert_int_equal(upper_readers_advance(&u.writers), 4);
	loglib_listen();
}

static void end(void)
{
	upper_garbage_release(&u.garbage);
	upper_sync_release(&u.sync);
	upper_map_release(&u.map);
	upper_ranges_release(&u.dying);
	free(u.queue.list);
	pthread_mutex_destroy(&u.publish_lock);
	assert_int_equal(mutexes, 0);
	loglib_expect_none();
}

static void tidy(int r)
{
	struct err e;

	assert_int_equal(upper_log_tidy(&u, &e), r);
}

static void die(uint64_t moffset, uint64_t sectors)
{
	struct upper_ranges dead = { 0 };

	upper_ranges_add(&dead, moffset, sectors);
	upper_garbage_add(&u.garbage, &dead);
	upper_ranges_release(&dead);
}

/* These holes since the last look, and no others; sectors 0 ends the list. */
static void expect_holes(const struct upper_range *want)
{
	size_t i;

	for (i = 0; i < holes.count && want[i].sectors > 0; i++)
		if (holes.list[i].moffset != want[i].moffset ||
		    holes.list[i].sectors != want[i].sectors)
			fail_msg("hole %zu: %d, %d", i, (int)holes.list[i].moffset,
				 (int)holes.list[i].sectors);
	if (i < holes.count || want[i].sectors > 0)
		fail_msg("%zu holes", holes.count);
	holes.count = 0;
}

#define HOLES(...) expect_holes((struct upper_range[]){ __VA_ARGS__, { 0 } })
#define NO_HOLES() expect_holes(&(struct upper_range){ 0 })

static const struct upper_log_options soon = { .garbage_bytes = 1 };

/* A search is due when the file takes so much more than what is live. */
static const struct upper_log_options searching = { .garbage_bytes = 4096 };

/* ---- holes ---- */

/* Whole blocks of what is dead, neighbours together. */
static void holes_are_of_whole_blocks(void **state)
{
	static const struct {
		struct upper_range dead[5], holes[4];
	} cases[] = {
		{ { { 8, 8 } }, { { 8, 8 } } },
		{ { { 8, 7 } }, { { 0 } } },
		{ { { 9, 8 } }, { { 0 } } },
		{ { { 9, 15 } }, { { 16, 8 } } },
		{ { { 9, 14 } }, { { 0 } } },
		{ { { 8, 15 } }, { { 8, 8 } } },
		{ { { 8, 1000 } }, { { 8, 1000 } } },
		{ { { 15, 1000 } }, { { 16, 992 } } },
		{ { { 24, 8 }, { 8, 8 }, { 16, 8 } }, { { 8, 24 } } },
		{ { { 12, 4 }, { 8, 4 } }, { { 8, 8 } } },
		{ { { 12, 3 }, { 8, 4 } }, { { 0 } } },
		{ { { 100, 20 }, { 40, 8 }, { 8, 9 } }, { { 8, 8 }, { 40, 8 }, { 104, 16 } } },
		{ { { 40, 8 }, { 8, 4 }, { 13, 3 } }, { { 40, 8 } } },
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		begin(&soon);
		for (k = 0; cases[i].dead[k].sectors > 0; k++)
			die(cases[i].dead[k].moffset, cases[i].dead[k].sectors);
		tidy(0);
		expect_holes(cases[i].holes);
		assert_int_equal(u.garbage.waiting.count, 0);
		assert_int_equal(u.garbage.waiting.sectors, 0);
		assert_int_equal(u.garbage.fresh.count, 0);
		tidy(0);
		NO_HOLES();
		end();
	}
}

/* For a tenth of a second; the next call goes on. */
static void holes_take_their_time(void **state)
{
	static const struct {
		uint64_t takes_ms;
		unsigned a_call;
	} cases[] = { { 50, 2 }, { 33, 4 }, { 100, 1 }, { 99, 2 }, { 0, 10 } };
	size_t i;
	unsigned done, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		begin(&soon);
		holes.takes_ms = cases[i].takes_ms;
		for (k = 10; k > 0; k--)
			die(k * 16, 8);
		for (done = 0; done < 10; done += k) {
			tidy(0);
			k = 10 - done < cases[i].a_call ? 10 - done : cases[i].a_call;
			assert_int_equal(holes.count, done + k);
			/* What dies meanwhile has to wait. */
			if (done == 0 && k < 10)
				die(1600, 8);
		}
		for (k = 0; k < 10; k++)
			assert_int_equal(holes.list[k].moffset, (k + 1) * 16);
		holes.count = 0;
		tidy(0);
		if (cases[i].a_call < 10)
			HOLES({ 1600, 8 });
		else
			NO_HOLES();
		end();
	}
}

#define FAILED ": punching a hole: Input/output error\n"

static void a_hole_that_fails_waits(void **state)
{
	begin(&soon);
	die(8, 8);
	die(24, 8);
	holes.result = -EINTR; /* nothing to speak of */
	tidy(0);
	HOLES({ 8, 8 });
	holes.result = -EIO;
	tidy(0);
	HOLES({ 8, 8 });
	loglib_expect("u.data: no space is given back for now" FAILED);
	now_ms += 29999;
	tidy(0);
	NO_HOLES();
	now_ms++;
	tidy(0); /* said once */
	HOLES({ 8, 8 });
	now_ms += 30000;
	holes.result = 0;
	tidy(0);
	HOLES({ 8, 8 }, { 24, 8 });
	die(40, 8);
	holes.result = -EIO;
	tidy(0);
	HOLES({ 40, 8 });
	loglib_expect("u.data: no space is given back for now" FAILED);
	now_ms += 30000;
	holes.result = -EOPNOTSUPP;
	tidy(0); /* said already */
	HOLES({ 40, 8 });
	now_ms += UINT64_C(1) << 40;
	tidy(0);
	NO_HOLES();
	end();
	begin(&soon);
	die(8, 8);
	holes.result = -EOPNOTSUPP;
	tidy(0);
	HOLES({ 8, 8 });
	loglib_expect("u.data: no space is given back: punching a hole: Operation not "
		      "supported\n");
	end();
}

/* ---- what is worth it ---- */

static void so_much_is_worth_a_hole(void **state)
{
	enum { LEAST = 16 * MIB / SECTOR };
	static const struct {
		uint64_t bytes; /* that the options say */
		uint64_t dead, live; /* sectors */
		bool worth;
	} cases[] = {
		{ 0, LEAST - 1, 0, false },
		{ 0, LEAST, 0, true },
		{ 0, LEAST, 4 * LEAST, true },
		{ 0, LEAST, 4 * LEAST + 4, false },
		{ 0, LEAST + 1, 4 * LEAST + 4, true },
		{ 10 * SECTOR, 9, 0, false },
		{ 10 * SECTOR, 10, 0, true },
		{ 10 * SECTOR, 10, 1 << 30, true },
		{ 10 * SECTOR + 1, 10, 0, false },
	};
	unsigned dying;
	size_t i;

	for (i = 0; i < 2 * COUNT_OF(cases); i++) {
		struct upper_log_options options = { .garbage_bytes = cases[i / 2].bytes };

		dying = i % 2; /* its record is not durable yet: it is flushed first */
		begin(&options);
		u.map.data = cases[i / 2].live;
		if (dying)
			upper_ranges_add(&u.dying, 8, cases[i / 2].dead);
		else
			die(8, cases[i / 2].dead);
		tidy(0);
		assert_int_equal(holes.count, cases[i / 2].worth);
		assert_int_equal(u.dying.sectors,
				 dying && !cases[i / 2].worth ? cases[i / 2].dead : 0);
		u.map.data = 0;
		end();
	}
}

static void put_record(void)
{
	assert_int_equal(upper_queue_reserve(&u.queue, 1), 0);
	upper_queue_push(&u.queue, mapping_make(1, 1, 0, 8, false));
}

/* A flush that finds no room is no error, and a hole may make some; one that fails for good is. */
static void a_flush_may_fail(void **state)
{
	begin(&soon);
	put_record();
	die(16, 8);
	upper_ranges_add(&u.dying, 8, 8);
	tidy(0); /* the index may have no records */
	HOLES({ 16, 8 });
	assert_int_equal(u.dying.sectors, 8);
	assert_int_equal(u.queue.count, 1);
	sync_result = -EIO;
	die(32, 8);
	tidy(-EIO);
	NO_HOLES();
	assert_true(u.failed);
	tidy(0); /* it is over */
	NO_HOLES();
	end();
}

/* ---- readers ---- */

static void no_hole_under_a_reader(void **state)
{
	unsigned seat, later;

	begin(&soon);
	seat = upper_readers_enter(&u.readers);
	die(8, 8);
	tidy(0);
	NO_HOLES();
	later = upper_readers_enter(&u.readers);
	tidy(0);
	tidy(0);
	NO_HOLES();
	upper_readers_leave(&u.readers, seat);
	tidy(0); /* the other one came later, and does not know them */
	HOLES({ 8, 8 });
	upper_readers_leave(&u.readers, later);
	end();
}

static void nothing_is_done_for_one_that_is_retired(void **state)
{
	begin(&soon);
	die(8, 8);
	u.garbage.retired = true;
	tidy(0);
	NO_HOLES();
	assert_int_equal(looks, 0);
	end();
}

/* ---- the search ---- */

static void map_data(uint64_t start, uint64_t sectors, uint64_t moffset)
{
	assert_int_equal(upper_map_reserve(&u.map, start, sectors), 0);
	upper_map_set(&u.map, start, sectors, moffset, false, NULL);
}

/* [8, 104) has live data at 16 and 40, and 80 zeroes; 104 is another writer's. */
static void map_some(void)
{
	map_data(100, 16, 40);
	map_data(5, 8, 16);
	assert_int_equal(upper_map_reserve(&u.map, 300, 8), 0);
	upper_map_set(&u.map, 300, 8, 80, true, NULL);
	u.data_end = 104;
}

#define GAPS HOLES({ 8, 8 }, { 24, 16 }, { 56, 48 })

/* What the map does not lead to. */
static void what_was_lost_sight_of_is_found(void **state)
{
	begin(&searching);
	map_some();
	allocated = 1000 * MIB;
	tidy(0);
	GAPS;
	tidy(0); /* once */
	NO_HOLES();
	end();
	/* A piece that goes on behind the end, and one that begins there. */
	begin(&searching);
	map_some();
	map_data(400, 24, 88);
	map_data(600, 24, 104);
	allocated = 1000 * MIB;
	tidy(0);
	HOLES({ 8, 8 }, { 24, 16 }, { 56, 32 });
	end();
	/* All of it is live; nothing is. */
	begin(&searching);
	map_data(0, 96, 8);
	u.data_end = 104;
	allocated = 1000 * MIB;
	tidy(0);
	NO_HOLES();
	end();
	begin(&searching);
	u.data_end = 104;
	allocated = 1000 * MIB;
	tidy(0);
	HOLES({ 8, 96 });
	end();
}

/* However many pieces the map has, and where they follow on each other. */
static void many_pieces_are_found(void **state)
{
	size_t i;

	begin(&searching);
	holes.takes_ms = 0;
	for (i = 0; i < 200; i++)
		map_data(SECTORS - 2 * (i + 1), 1, 8 + i * 16);
	map_data(7, 8, 8 + 200 * 16);
	map_data(40, 8, 16 + 200 * 16);
	u.data_end = 64 + 200 * 16;
	allocated = 1000 * MIB;
	tidy(0);
	assert_int_equal(holes.count, 201);
	for (i = 0; i < 200; i++) {
		assert_int_equal(holes.list[i].moffset, 16 + i * 16);
		assert_int_equal(holes.list[i].sectors, 8);
	}
	assert_int_equal(holes.list[200].moffset, 24 + 200 * 16);
	assert_int_equal(holes.list[200].sectors, 40);
	end();
}

/* The file takes more than what is live accounts for, and more than after the last search. */
static void a_search_is_due_when_space_is_lost(void **state)
{
	static const struct {
		uint64_t bytes; /* that the options say */
		uint64_t spare;
	} cases[] = { { 0, 32 * MIB }, { 4096, 4096 } };
	const uint64_t live = 24 * SECTOR;
	uint64_t least;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct upper_log_options options = { .garbage_bytes = cases[i].bytes };

		begin(&options);
		map_some();
		least = live + live / 2 + cases[i].spare;
		allocated = least;
		tidy(0);
		NO_HOLES();
		allocated = least + 1;
		tidy(0);
		GAPS;
		allocated += cases[i].spare / 2 - 1;
		tidy(0);
		NO_HOLES();
		allocated++;
		tidy(0);
		GAPS;
		/* It took less meanwhile. */
		allocated = least + 10;
		tidy(0);
		NO_HOLES();
		allocated = least + 10 + cases[i].spare / 2 - 1;
		tidy(0);
		NO_HOLES();
		allocated++;
		tidy(0);
		GAPS;
		allocated *= 2;
		status_result = -EIO;
		tidy(0);
		NO_HOLES();
		status_result = 0;
		u.beyond = true;
		tidy(0);
		NO_HOLES();
		u.beyond = false;
		tidy(0);
		GAPS;
		end();
	}
}

static void a_full_disk_gets_what_little_there_is(void **state)
{
	begin(&(struct upper_log_options){ 0 });
	map_some();
	now_ms += 1000;
	allocated = (24 + 8) * SECTOR;
	tidy(0);
	NO_HOLES();
	upper_garbage_note_full(&u.garbage);
	tidy(0);
	GAPS;
	now_ms += 5000;
	die(8, 7);
	tidy(0); /* it did not help, and there is not enough more */
	NO_HOLES();
	die(15, 1);
	tidy(0); /* the halves of a block, together */
	GAPS;
	die(24, 16);
	now_ms += 1999;
	tidy(0);
	NO_HOLES();
	now_ms++;
	tidy(0);
	GAPS;
	die(24, 16);
	now_ms += 593 * 1000; /* since it was full: ten minutes */
	tidy(0);
	NO_HOLES();
	end();
}

/* Neither what a search found before, nor writes that fail meanwhile, keep it from its search. */
static void a_full_disk_gets_its_search(void **state)
{
	unsigned seat;

	begin(&(struct upper_log_options){ 0 });
	map_some();
	allocated = 1000 * MIB;
	tidy(0);
	GAPS;
	allocated = 100 * SECTOR;
	upper_garbage_note_full(&u.garbage);
	tidy(0);
	GAPS;
	end();

	begin(&(struct upper_log_options){ 0 });
	map_some();
	allocated = 100 * SECTOR;
	upper_garbage_note_full(&u.garbage);
	seat = upper_readers_enter(&u.writers);
	tidy(0);
	NO_HOLES();
	u.given_back = 50;
	upper_readers_leave(&u.writers, seat);
	tidy(0);
	NO_HOLES();
	tidy(0);
	GAPS;
	end();
}

/* A writer has a place in the file and has not published it. */
static void a_search_waits_for_writers(void **state)
{
	unsigned seat, later, behind;

	begin(&searching);
	map_some();
	allocated = 1000 * MIB;
	seat = upper_readers_enter(&u.writers);
	tidy(0);
	u.data_end = 1000; /* what comes now is not looked at */
	later = upper_readers_enter(&u.writers);
	tidy(0);
	NO_HOLES();
	upper_readers_leave(&u.writers, seat);
	seat = upper_readers_enter(&u.readers);
	tidy(0);
	assert_true(u.garbage.waiting.count > 0);
	NO_HOLES();
	upper_readers_leave(&u.readers, seat);
	tidy(0);
	GAPS;
	upper_readers_leave(&u.writers, later);
	end();
	/* It gave its place back, which may be another one's by now; and one behind the end. */
	for (behind = 0; behind < 2; behind++) {
		begin(&searching);
		map_some();
		allocated = 1000 * MIB;
		seat = upper_readers_enter(&u.writers);
		tidy(0);
		u.given_back = u.data_end - 1 + behind;
		upper_readers_leave(&u.writers, seat);
		tidy(0);
		if (!behind) {
			NO_HOLES();
			tidy(0); /* begins anew */
		}
		GAPS;
		end();
	}
}

/* Without memory for the map's pieces nothing is taken for dead. */
static void a_search_without_memory_finds_nothing(void **state)
{
	begin(&searching);
	map_some();
	allocated = 1000 * MIB;
	allocs_left = 0;
	tidy(0);
	allocs_left = -1;
	NO_HOLES();
	allocated *= 2;
	tidy(0);
	GAPS;
	end();
}

/* What was superseded while the map was walked is not durably so. */
static void a_search_ends_with_a_flush(void **state)
{
	begin(&searching);
	map_some();
	allocated = 1000 * MIB;
	u.synced = false;
	sync_result = -EIO;
	tidy(-EIO);
	NO_HOLES();
	end();
	begin(&searching);
	map_some();
	put_record(); /* for which the index has no room: later */
	allocated = 1000 * MIB;
	tidy(0);
	NO_HOLES();
	u.queue.count = 0;
	allocated *= 2;
	tidy(0);
	GAPS;
	end();
}

/* ---- the index ---- */

static void an_index_is_made_anew_when_it_is_worth_it(void **state)
{
	static const struct {
		unsigned percent;
		uint64_t records, live, least, retry, most;
		bool beyond, due;
	} cases[] = {
		{ 50, 100, 49, 1, 0, 1000, false, true },
		{ 50, 100, 50, 1, 0, 1000, false, false },
		{ 50, 101, 50, 1, 0, 1000, false, true },
		{ 50, 100, 0, 1, 0, 1000, false, true },
		{ 50, 100, 100, 1, 0, 1000, false, false },
		{ 50, 100, 101, 1, 0, 1000, false, false },
		{ 0, 100, 0, 1, 0, 1000, false, false },
		{ 0, 100, 0, 1, 0, 100, false, false },
		{ 1, 100, 98, 1, 0, 1000, false, true },
		{ 1, 100, 99, 1, 0, 1000, false, false },
		{ 50, 100, 49, 1, 0, 1000, true, false },
		{ 50, 100, 49, 100, 0, 1000, false, true },
		{ 50, 100, 49, 101, 0, 1000, false, false },
		{ 50, 100, 49, 1, 100, 1000, false, true },
		{ 50, 100, 49, 1, 101, 1000, false, false },
		/* Three quarters full: 6 percent are enough. */
		{ 50, 99, 93, 1, 0, 132, false, true },
		{ 50, 99, 93, 1, 0, 135, false, true },
		{ 50, 99, 93, 1, 0, 136, false, false },
		{ 50, 100, 94, 1, 0, 100, false, false },
		{ 50, 100, 93, 1, 0, 100, false, true },
		{ 3, 100, 96, 1, 0, 100, false, true },
		{ 3, 100, 97, 1, 0, 100, false, false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct upper_log_options options = { .garbage = cases[i].percent,
						     .garbage_records = cases[i].least };

		begin(&options);
		u.index_records = cases[i].records;
		u.map.count = cases[i].live;
		u.max_records = cases[i].most;
		u.beyond = cases[i].beyond;
		u.garbage.retry_records = cases[i].retry;
		if (upper_rewrite_is_due(&u) != cases[i].due)
			fail_msg("case %zu", i);
		u.map.count = 0;
		end();
	}
}

/* Unless the options say so, one of 4096 records. */
static void a_short_index_stays(void **state)
{
	struct upper_log_options options = { .garbage = 50 };

	begin(&options);
	u.max_records = UINT64_MAX;
	u.index_records = 4095;
	assert_false(upper_rewrite_is_due(&u));
	u.index_records = 4096;
	assert_true(upper_rewrite_is_due(&u));
	end();
}

static int use_clock(void **state)
{
	static struct clock_ops fake;

	fake = clock_system;
	fake.now_us = fake_now_us;
	clock_use(&fake);
	return 0;
}

static int drop_clock(void **state)
{
	clock_use(NULL);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_of_whole_blocks),
		cmocka_unit_test(holes_take_their_time),
		cmocka_unit_test(a_hole_that_fails_waits),
		cmocka_unit_test(so_much_is_worth_a_hole),
		cmocka_unit_test(a_full_disk_gets_what_little_there_is),
		cmocka_unit_test(a_full_disk_gets_its_search),
		cmocka_unit_test(a_flush_may_fail),
		cmocka_unit_test(no_hole_under_a_reader),
		cmocka_unit_test(nothing_is_done_for_one_that_is_retired),
		cmocka_unit_test(what_was_lost_sight_of_is_found),
		cmocka_unit_test(many_pieces_are_found),
		cmocka_unit_test(a_search_is_due_when_space_is_lost),
		cmocka_unit_test(a_search_waits_for_writers),
		cmocka_unit_test(a_search_without_memory_finds_nothing),
		cmocka_unit_test(a_search_ends_with_a_flush),
		cmocka_unit_test(an_index_is_made_anew_when_it_is_worth_it),
		cmocka_unit_test(a_short_index_stays),
	};

	return cmocka_run_group_tests(tests, use_clock, drop_clock);
}
