/* SPDX-License-Identifier: Apache-2.0 */
/* test-readaround.c - reads that keep together are told from reads at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/readaround.h"
#include "tests/unit/loops.h"

enum { CHUNKS = 4096, AROUND = 24, FILE_MAX = 64, ROUNDS = 200 };

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
		readaround_release(&f.around);
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
		readaround_release(&f.around);
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
	readaround_release(&f.around);
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
			readaround_release(&ra);
		}
	}
	readaround_init(&ra, 100);
	readaround_mark(&ra, 90, 140); /* beyond the blob */
	assert_true(readaround_note(&ra, 0, 100));
	assert_false(readaround_note(&ra, 0, 100));
	readaround_release(&ra);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_read_around),
		cmocka_unit_test(random_reads_are_not),
		cmocka_unit_test(repeated_reads_say_nothing),
		cmocka_unit_test(marks_are_used_once),
	};

	loops_seed();
	return cmocka_run_group_tests_name("readaround", tests, NULL, NULL);
}
