/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_map.c - the map of a writable layer against an array with one element a sector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/upper_map.h"
#include "tests/unit/loops.h"

enum {
	SECTORS = 3 * UPPER_REGION + 77,
	HOLE = 0,
	ZERO = 1, /* above: the moffset */
	STEPS = 200000,
	ROOM = 37,
};

static uint64_t model[SECTORS];
static struct upper_map m;

static struct segment expected_piece(uint64_t lba, uint64_t end)
{
	struct segment s = { .mapped = model[lba] != HOLE,
			     .zeroed = model[lba] == ZERO,
			     .moffset = model[lba] };
	uint64_t at = lba + 1;

	while (at < end && (model[lba] <= ZERO ? model[at] == model[lba]
					       : model[at] == model[lba] + (at - lba)))
		at++;
	s.sectors = at - lba;
	return s;
}

static void check_range(uint64_t lba, uint64_t sectors)
{
	struct segment pieces[ROOM];
	uint64_t end = lba + sectors;
	size_t i, n;

	while (lba < end) {
		n = upper_map_pieces(&m, lba, end - lba, pieces, ROOM);
		assert_true(n > 0 && n <= ROOM);
		for (i = 0; i < n; i++) {
			struct segment want = expected_piece(lba, end);

			assert_int_equal(pieces[i].sectors, want.sectors);
			assert_int_equal(pieces[i].mapped, want.mapped);
			if (want.mapped)
				assert_int_equal(pieces[i].zeroed, want.zeroed);
			if (want.mapped && !want.zeroed)
				assert_int_equal(pieces[i].moffset, want.moffset);
			lba += want.sectors;
		}
		assert_true(lba == end || n == ROOM);
	}
	assert_int_equal(lba, end);
}

/* Sets a range in both, and compares what died. */
static void set(uint64_t lba, uint64_t sectors, uint64_t moffset, bool zeroed)
{
	struct upper_ranges dead = { 0 };
	uint64_t i, k = 0, died = 0;

	assert_int_equal(upper_map_reserve(&m, lba, sectors), 0);
	upper_map_set(&m, lba, sectors, moffset, zeroed, &dead);
	for (i = lba; i < lba + sectors; i++) {
		if (model[i] > ZERO) {
			while (k < dead.count && died == dead.list[k].sectors) {
				k++;
				died = 0;
			}
			assert_true(k < dead.count);
			assert_int_equal(dead.list[k].moffset + died, model[i]);
			died++;
		}
		model[i] = zeroed ? ZERO : moffset + (i - lba);
	}
	assert_true(dead.count == 0 || (k == dead.count - 1 && died == dead.list[k].sectors));
	upper_ranges_release(&dead);
}

static void a_map_is_an_array_of_sectors(void **state)
{
	unsigned i, steps = loops_count(STEPS);
	uint64_t moffset = 8;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	for (i = 0; i < steps; i++) {
		uint64_t most = loops_random() % 50 ? 64 : SECTORS;
		uint64_t lba = loops_random() % SECTORS;
		uint64_t sectors = loops_random() % most + 1;

		/* Often where the last one ended, on the disk too. */
		sectors = sectors < SECTORS - lba ? sectors : SECTORS - lba;
		set(lba, sectors, moffset, loops_random() % 4 == 0);
		if (loops_random() % 3 == 0 && lba + sectors < SECTORS)
			set(lba + sectors, 1, moffset + sectors, false);
		moffset += sectors + 1;
		lba = loops_random() % SECTORS;
		sectors = loops_random() % 300 + 1;
		check_range(lba, sectors < SECTORS - lba ? sectors : SECTORS - lba);
		if (i % 1000 == 0)
			check_range(0, SECTORS);
	}
	check_range(0, SECTORS);
	upper_map_release(&m);
}

static void a_sequential_write_is_one_mapping(void **state)
{
	unsigned i;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	for (i = 0; i < UPPER_REGION; i++) {
		assert_int_equal(upper_map_reserve(&m, i, 1), 0);
		upper_map_set(&m, i, 1, 8 + i, false, NULL);
	}
	assert_int_equal(m.count, 1);
	upper_map_release(&m);
}

/* A disk of 512 PiB takes memory where it is mapped. */
static void a_disk_may_be_large(void **state)
{
	uint64_t sectors = UINT64_C(1) << 45, far = sectors - 3;
	struct segment pieces[4];

	assert_int_equal(upper_map_init(&m, sectors), 0);
	assert_int_equal(upper_map_reserve(&m, far, 3), 0);
	upper_map_set(&m, far, 3, 8, false, NULL);
	assert_int_equal(upper_map_pieces(&m, 0, sectors, pieces, 4), 2);
	assert_int_equal(pieces[0].sectors, far);
	assert_false(pieces[0].mapped);
	assert_int_equal(pieces[1].sectors, 3);
	assert_int_equal(pieces[1].moffset, 8);
	upper_map_release(&m);
}

static _Atomic bool stop;

static void *look_all_over(void *arg)
{
	struct segment pieces[64];
	uint64_t lba = 0;
	size_t i, n;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		n = upper_map_pieces(&m, lba, 2048 - lba, pieces, 64);
		for (i = 0; i < n; i++)
			lba += pieces[i].sectors;
		lba %= 2048;
	}
	return NULL;
}

/* One region's array grows and shrinks under a reader (TSan notices). */
static void a_reader_looks_while_it_changes(void **state)
{
	unsigned i, k;
	pthread_t reader;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	stop = false;
	assert_int_equal(pthread_create(&reader, NULL, look_all_over, NULL), 0);
	for (k = 0; k < 20; k++) {
		for (i = 0; i < 1024; i++) {
			assert_int_equal(upper_map_reserve(&m, 2 * i, 1), 0);
			upper_map_set(&m, 2 * i, 1, 8 + i * 4, false, NULL);
		}
		assert_int_equal(upper_map_reserve(&m, 0, 2048), 0);
		upper_map_set(&m, 0, 2048, 0, true, NULL);
	}
	stop = true;
	pthread_join(reader, NULL);
	assert_int_equal(m.count, 1);
	upper_map_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_is_an_array_of_sectors),
		cmocka_unit_test(a_sequential_write_is_one_mapping),
		cmocka_unit_test(a_disk_may_be_large),
		cmocka_unit_test(a_reader_looks_while_it_changes),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
