/* SPDX-License-Identifier: Apache-2.0 */
/* test-readaround.c - reads that keep together are told from reads at random; each number against a
 * model that keeps all of it plainly.  Memory is just as much as was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/readaround.h"
#include "tests/unit/loops.h"

enum { CHUNKS = 4096, AROUND = 24, FILE_MAX = 64, ROUNDS = 200 };

/* ---- memory that says when it is written beyond its end ---- */

enum { BLOCKS = 4, GUARD = 256 };

static struct {
	uint8_t *begin;
	size_t n;
} blocks[BLOCKS];
static unsigned block_count;
static bool no_memory;

void *__wrap_calloc(size_t count, size_t n);

void *__wrap_calloc(size_t count, size_t n)
{
	uint8_t *p = no_memory ? NULL : malloc(count * n + GUARD);

	if (!p)
		return NULL;
	assert_true(block_count < BLOCKS);
	memset(p, 0, count * n);
	memset(p + count * n, 0xa5, GUARD);
	blocks[block_count].begin = p;
	blocks[block_count++].n = count * n;
	return p;
}

static void release(struct readaround *ra)
{
	unsigned i, k;

	for (i = 0; i < block_count; i++)
		for (k = 0; k < GUARD; k++)
			assert_int_equal(blocks[i].begin[blocks[i].n + k], 0xa5);
	readaround_release(ra);
	block_count = 0;
}

/* A blob's fetches, as blob.c makes them. */
struct fetches {
	struct readaround around;
	bool there[CHUNKS], used[CHUNKS];
	unsigned count; /* requests */
	uint64_t chunks, needed;
};

static void begin(struct fetches *f)
{
	memset(f, 0, sizeof *f);
	readaround_init(&f->around, CHUNKS);
}

static void fetch(struct fetches *f, uint64_t first, uint64_t end)
{
	f->count++;
	for (; first < min_u64(end, CHUNKS); first++) {
		f->chunks += !f->there[first];
		f->there[first] = true;
	}
}

static void read_chunks(struct fetches *f, uint64_t first, uint64_t end)
{
	uint64_t i;

	end = min_u64(end, CHUNKS);
	if (readaround_note(&f->around, first, end))
		readaround_use(&f->around, first, end);
	for (i = first; i < end; i++) {
		f->needed += !f->used[i];
		f->used[i] = true;
	}
	for (i = first; i < end && f->there[i]; i++)
		;
	if (i == end)
		return;
	if (readaround_miss(&f->around, i, end)) {
		readaround_mark(&f->around, end, i + AROUND);
		fetch(f, i, i + AROUND);
	} else {
		fetch(f, i, end);
	}
}

/* Files all over the disk, of each some pieces, forward; many disks: one may have luck. */
static void files_are_read_around(void **state)
{
	static struct fetches f;
	uint64_t reads = 0, requests = 0, chunks = 0, needed = 0, at;
	unsigned round, n;

	for (round = 0; round < ROUNDS; round++) {
		begin(&f);
		for (n = 0; n < 40; n++) {
			uint64_t file = loops_random() % (CHUNKS - FILE_MAX);

			for (at = file; at < file + FILE_MAX; at += 2 + loops_random() % 6, reads++)
				read_chunks(&f, at, at + 1 + loops_random() % 3);
		}
		requests += f.count;
		chunks += f.chunks;
		needed += f.needed;
		release(&f.around);
	}
	print_message("%zu reads, %zu requests, %zu chunks of %zu\n", (size_t)reads,
		      (size_t)requests, (size_t)chunks, (size_t)needed);
	assert_true(requests * 3 < reads);
	assert_true(chunks < 3 * needed);
}

/* A twentieth of the disk in pieces of three chunks: nothing but what they need. */
static void random_reads_are_not(void **state)
{
	static struct fetches f;
	uint64_t chunks = 0, needed = 0;
	unsigned round, n;

	for (round = 0; round < ROUNDS; round++) {
		begin(&f);
		for (n = 0; n < CHUNKS / 20 / 3; n++) {
			uint64_t at = loops_random() % (CHUNKS / 3) * 3;

			read_chunks(&f, at, at + 3);
		}
		chunks += f.chunks;
		needed += f.needed;
		release(&f.around);
	}
	print_message("%zu chunks of %zu\n", (size_t)chunks, (size_t)needed);
	assert_true(chunks * 100 <= needed * 103);
}

/* What was read once and is read again says nothing. */
static void repeated_reads_say_nothing(void **state)
{
	static struct fetches f;
	unsigned n;

	begin(&f);
	for (n = 0; n < 1000; n++)
		read_chunks(&f, 0, 1);
	for (n = 1; n < 20; n++)
		read_chunks(&f, n * CHUNKS / 20, n * CHUNKS / 20 + 1);
	assert_int_equal(f.chunks, 20);
	release(&f.around);
}

/* Each bit of a mark, at both ends and over words: used once, and not before it is read. */
static void marks_are_used_once(void **state)
{
	struct readaround ra;
	uint64_t first, end, at;

	for (first = 0; first < 130; first += 13) {
		for (end = first + 1; end < 200; end += 17) {
			readaround_init(&ra, 200);
			readaround_mark(&ra, first, end);
			for (at = 0; at < 200; at++)
				assert_int_equal(readaround_note(&ra, at, at + 1),
						 at >= first && at < end);
			assert_false(readaround_note(&ra, 0, 200));
			release(&ra);
		}
	}
	readaround_init(&ra, 100);
	readaround_mark(&ra, 90, 140); /* beyond the blob */
	assert_true(readaround_note(&ra, 0, 100));
	assert_false(readaround_note(&ra, 0, 100));
	release(&ra);
}

/* ---- a model ---- */

enum { MODEL_AREAS = 512, READS = 200 };

static struct model {
	uint64_t chunks, areas, touched;
	bool area[MODEL_AREAS];
	int events[READS];
	unsigned count;
} model;

/* A read of what was not used before; what it counts, in 1/256. */
static int model_use(uint64_t first, uint64_t end)
{
	uint64_t area = first / 16, last = (end - 1) / 16;
	uint64_t chance = 256 * (last - area + 1) * model.touched / model.areas;
	bool near = false;

	end = end < model.chunks ? end : model.chunks;
	for (; area <= (end - 1) / 16; area++) {
		near = near || model.area[area];
		model.touched += !model.area[area];
		model.area[area] = true;
	}
	return (near ? 256 : 0) - (int)(chance < 256 ? chance : 256);
}

static bool model_keeps_together(void)
{
	unsigned i, n = model.count < 32 ? model.count : 32;
	int sum = 0;

	for (i = model.count - n; i < model.count; i++)
		sum += model.events[i];
	return sum >= 64 * (int)n + 512;
}

/* Sizes about which a word or an area ends; reads here and there, and beyond the end. */
static void as_the_model_says(void **state)
{
	static const uint64_t sizes[] = { 1,	15,   16,   17,	  63,	64,   65,   1007,
					  1008, 1023, 1024, 1025, 2031, 2032, 4096, 8000 };
	unsigned round, i;

	for (round = 0; round < loops_count(2000) * 16; round++) {
		struct readaround ra;

		memset(&model, 0, sizeof model);
		memset(&ra, 0xee, sizeof ra); /* as a stack may be */
		model.chunks = sizes[round % 16];
		model.areas = model.chunks / 16 + 1;
		readaround_init(&ra, model.chunks);
		for (i = 0; i < READS; i++) {
			uint64_t first = loops_random() % model.chunks;
			uint64_t end = first + 1 + loops_random() % 40;
			bool together;

			if (loops_random() % 2 == 0) {
				first %= 64;
				end = first + 1;
			}
			if (loops_random() % 8 == 0 && i > 0) {
				readaround_use(&ra, first, end);
				model.events[model.count++] = model_use(first, end);
			} else {
				together = readaround_miss(&ra, first, end);
				model.events[model.count++] = model_use(first, end);
				assert_int_equal(together, model_keeps_together());
			}
			assert_int_equal(ra.touched, model.touched);
			assert_int_equal(ra.count, model.count);
			assert_int_equal(ra.events[(model.count - 1) % READAROUND_EVENTS],
					 model.events[model.count - 1]);
		}
		release(&ra);
	}
}

/* From a mean of a quarter on, and two more. */
static void just_enough(void **state)
{
	static const struct {
		unsigned before; /* events */
		int first, others;
		bool together;
	} rows[] = {
		{ 0, 0, 0, false },
		{ 9, 1152, 0, true },
		{ 9, 1151, 0, false },
		{ 15, 1536, 0, true },
		{ 15, 1535, 0, false },
		{ 31, 2560, 0, true },
		{ 31, 2559, 0, false },
		{ 31, 2560 - 30, 1, true },
		{ 31, 2559 - 30, 1, false },
		{ 40, 2560 - 30, 1, true },
		{ 40, 2559 - 30, 1, false },
		{ 4096, 2560 - 30, 1, true },
		{ 4096, 2559 - 30, 1, false },
	};
	size_t i, k;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct readaround ra;
		unsigned n = rows[i].before < 32 ? rows[i].before : 32;

		readaround_init(&ra, CHUNKS);
		for (k = 0; k < n; k++)
			ra.events[k] = rows[i].others;
		ra.events[rows[i].before % 32] = 9999; /* it goes */
		ra.events[n > 20 ? 20 : 0] = n > 0 ? rows[i].first : 9999;
		ra.count = rows[i].before;
		/* a first read, near nothing: 0 */
		if (readaround_miss(&ra, 7, 9) != rows[i].together)
			fail_msg("row %zu", i);
		assert_int_equal(ra.events[rows[i].before % 32], 0);
		release(&ra);
	}
}

/* It says no then, and notes nothing. */
static void without_memory(void **state)
{
	struct readaround ra;
	unsigned i;

	readaround_init(&ra, CHUNKS);
	no_memory = true;
	for (i = 0; i < 100; i++)
		assert_false(readaround_miss(&ra, 0, 1));
	assert_int_equal(ra.count, 0);
	readaround_mark(&ra, 5, 9);
	assert_false(readaround_note(&ra, 5, 9));
	no_memory = false;
	readaround_mark(&ra, 5, 9);
	assert_true(readaround_note(&ra, 8, 20));
	release(&ra);
}

/* Marks of reads here and there, of any length, against a model. */
static void marks_as_the_model_says(void **state)
{
	static const uint64_t sizes[] = { 1, 63, 64, 65, 127, 128, 129, 200, 1000, 4096 };
	unsigned round, i;

	for (round = 0; round < loops_count(2000) * 10; round++) {
		static bool marked[CHUNKS + 300];
		struct readaround ra;
		uint64_t size = sizes[round % 10], k;

		memset(marked, 0, sizeof marked);
		readaround_init(&ra, size);
		for (i = 0; i < 20; i++) {
			uint64_t first = loops_random() % size, end;
			bool found = false;

			end = first + 1 + loops_random() % 150;
			if (loops_random() % 2 == 0) {
				readaround_mark(&ra, first, end);
				for (k = first; k < min_u64(end, size); k++)
					marked[k] = true;
				continue;
			}
			end = min_u64(end, size);
			for (k = first; k < end; k++) {
				found = found || marked[k];
				marked[k] = false;
			}
			assert_int_equal(readaround_note(&ra, first, end), found);
		}
		release(&ra);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_read_around),
		cmocka_unit_test(random_reads_are_not),
		cmocka_unit_test(repeated_reads_say_nothing),
		cmocka_unit_test(marks_are_used_once),
		cmocka_unit_test(as_the_model_says),
		cmocka_unit_test(just_enough),
		cmocka_unit_test(without_memory),
		cmocka_unit_test(marks_as_the_model_says),
	};

	loops_seed();
	return cmocka_run_group_tests_name("readaround", tests, NULL, NULL);
}
