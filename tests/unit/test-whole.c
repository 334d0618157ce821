/* SPDX-License-Identifier: Apache-2.0 */
/* A whole blob that comes for a range: passing by, or held back until it is known to be right. */
#include <malloc.h>

#include "tests/unit/alloc.h"
#include "tests/unit/bloblib.h"

/* ---- passing by ---- */

static void whole_head(struct http_exchange *x, bool length)
{
	char lines[64];

	assert_non_null(x);
	snprintf(lines, sizeof lines, "200|Content-Length: %d", (int)blob->source.size);
	assert_true(stage_head(x, length ? lines : "200"));
}

static void test_passing(void **state)
{
	struct flight *f, *later, *far;
	struct http_exchange *x;

	open_scene(&(struct scene){ .size = 400 * CHUNK + 10 });
	put(5);
	f = make_flight(2, 4, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, true);
	stage_bytes(x, 0, 2 * CHUNK - 1);
	assert_string_equal(shelved(), "5");
	/* Memory for two chunks. */
	assert_in_range(malloc_usable_size(blob->whole.bytes), 2 * CHUNK, 3 * CHUNK - 1);
	stage_bytes(x, 2 * CHUNK - 1, 1);
	assert_string_equal(shelved(), "0,5"); /* one chunk behind */
	/* Who wants what soon passes waits for it; not who wants what passed, or is far away. */
	later = make_flight(3 + 4 * 1024 * 1024 / CHUNK - 1, 3 + 4 * 1024 * 1024 / CHUNK,
			    REQUEST_DEMAND);
	far = make_flight(399, 400, REQUEST_DEMAND);
	assert_string_equal(asked(), "2-3 399-399");
	answer(stage.running[1], 0, 0);
	stage_bytes(x, 2 * CHUNK, 398 * CHUNK);
	assert_string_equal(shelved(), "0-399");
	assert_false(later->started);
	stage_bytes(x, 400 * CHUNK, 10);
	assert_string_equal(shelved(), "0-399");
	stage_end(x, 0);
	stage_run();
	assert_string_equal(shelved(), "0-400");
	check_bytes(shelf.bytes, 0, 400 * CHUNK + 10);
	assert_true(f->done && f->r == 0);
	check_bytes(f->bytes->data, 2 * CHUNK, 2 * CHUNK);
	stage_pass(1000);
	assert_true(later->done && !later->bytes); /* it was not asked for */
	assert_int_equal(stage.count, 0);
	leave_flight(f);
	leave_flight(later);
	leave_flight(far);
	close_scene();
}

/* What passed by goes with its exchange, what was there before stays. */
static void test_passing_fails(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	put(1);
	f = make_flight(6, 8, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, true);
	stage_bytes(x, 0, 5 * CHUNK);
	assert_string_equal(shelved(), "0-3");
	assert_int_equal(blob->whole.run_count, 2);
	stage_end(x, -ECONNRESET);
	stage_run();
	assert_string_equal(shelved(), "1");
	assert_null(blob->whole.of);
	x = stage_next();
	assert_string_equal(asked(), "6-7"); /* all that is wanted */
	answer(x, 0, 0);
	assert_int_equal(f->r, 0);
	assert_string_equal(shelved(), "1,6-7");
	leave_flight(f);
	close_scene();
}

/* The cache takes no more: the exchange ends with the range's own last byte. */
static void test_passing_refused(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	shelf.refused = 1;
	f = make_flight(0, 4, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, true);
	stage_bytes(x, 0, 3 * CHUNK);
	assert_true(blob->whole.refused);
	assert_false(stage_bytes(x, 3 * CHUNK, CHUNK));
	stage_run();
	assert_true(f->done);
	assert_int_equal(f->r, 0);
	assert_int_equal(f->arrived, 4 * CHUNK);
	assert_true(f->kept);
	assert_int_equal(stage.count, 0);
	leave_flight(f);
	close_scene();
}

/* Of any length, all of it comes to the cache and is right; what the cache has lost meanwhile is
 * not given again, for its bytes have gone by. */
static void test_passing_lengths(void **state)
{
	static const struct {
		uint64_t size;
		const char *before, *end,
			*lost; /* chunks: before the end; after it, if these stay, or not */
	} rows[] = {
		{ 1, "", "0", "0" },
		{ CHUNK, "", "0", "0" },
		{ CHUNK + 1, "", "0-1", "0-1" },
		{ 2 * CHUNK, "0", "0-1", "0-1" },
		{ 2 * CHUNK + 1, "0", "0-2", "1-2" },
		{ 3 * CHUNK, "0-1", "0-2", "1-2" },
		{ 3 * CHUNK + 9, "0-1", "0-3", "2-3" },
		{ 6 * CHUNK, "0-4", "0-5", "4-5" },
	};
	size_t i, k;

	for (i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		const uint64_t size = rows[i / 2].size;
		struct http_exchange *x;
		struct flight *f;

		open_scene(&(struct scene){ .size = size });
		f = make_flight((size - 1) / CHUNK, (size - 1) / CHUNK + 1, REQUEST_DEMAND);
		x = stage_next();
		whole_head(x, true);
		for (k = 0; k < size; k += 5000)
			stage_bytes(x, k, (size_t)(size - k < 5000 ? size - k : 5000));
		assert_string_equal(shelved(), rows[i / 2].before);
		if (i % 2)
			memset(shelf.there, 0, sizeof shelf.there);
		stage_end(x, 0);
		stage_run();
		assert_string_equal(shelved(), i % 2 ? rows[i / 2].lost : rows[i / 2].end);
		for (k = 0; k * CHUNK < size; k++)
			if (shelf.there[k])
				check_bytes(shelf.bytes + k * CHUNK, k * CHUNK,
					    (size_t)(size - k * CHUNK < CHUNK ? size - k * CHUNK
									      : CHUNK));
		assert_null(blob->whole.of);
		leave_flight(f);
		close_scene();
	}
}

/* A second whole that comes beside the first is not taken, whatever becomes of it. */
static void test_passing_twice(void **state)
{
	struct http_exchange *x, *y;
	struct flight *f, *other;

	open_scene(&(struct scene){ .size = 20 * CHUNK });
	f = make_flight(10, 12, REQUEST_DEMAND);
	x = stage_next();
	other = make_flight(0, 2, REQUEST_DEMAND);
	y = stage_next();
	whole_head(x, true);
	stage_bytes(x, 0, 5 * CHUNK);
	assert_string_equal(shelved(), "0-3");
	whole_head(y, true);
	stage_bytes(y, 0, CHUNK);
	assert_int_equal(blob->whole.at, 5 * CHUNK);
	stage_end(y, -ECONNRESET);
	stage_run();
	assert_string_equal(shelved(), "0-3");
	assert_int_equal(blob->whole.at, 5 * CHUNK);
	other->awaited = 2 * CHUNK;
	f->awaited = 2 * CHUNK;
	stage_bytes(x, 5 * CHUNK, CHUNK); /* who waits for it looks again */
	assert_true(f->awaited == UINT64_MAX);
	stage_bytes(x, 6 * CHUNK, 14 * CHUNK);
	stage_end(x, 0);
	answer_all();
	assert_string_equal(shelved(), "0-19");
	check_bytes(shelf.bytes, 0, 20 * CHUNK);
	leave_flight(f);
	leave_flight(other);
	close_scene();
}

/* Nothing is given to the cache that could not be taken back: not without memory for a note of it,
 * nor for the bytes themselves. */
static void test_passing_without_memory(void **state)
{
	unsigned noted;

	for (noted = 0; noted < 2; noted++) {
		struct http_exchange *x;
		struct flight *f;

		open_scene(&(struct scene){ .size = 8 * CHUNK });
		f = make_flight(5, 7, REQUEST_DEMAND);
		x = stage_next();
		whole_head(x, true);
		if (noted)
			stage_bytes(x, 0, CHUNK);
		alloc_left = 1; /* the stage takes one */
		stage_bytes(x, noted * CHUNK, 4 * CHUNK);
		alloc_left = -1;
		assert_int_equal(blob->whole.of != NULL, noted);
		assert_int_equal(blob->whole.refused, noted);
		assert_string_equal(shelved(), "");
		assert_false(whole_passes_soon(blob, 6 * CHUNK));
		assert_false(stage_bytes(x, (4 + noted) * CHUNK, (4 - noted) * CHUNK));
		stage_run();
		assert_int_equal(f->r, 0);
		assert_string_equal(shelved(), "5-6");
		check_bytes(f->bytes->data, 5 * CHUNK, 2 * CHUNK);
		leave_flight(f);
		close_scene();
	}
}

/* The cache takes the last chunk but one no more: nor is it offered the last one, or any twice. */
static void test_refused_at_the_end(void **state)
{
	static const uint64_t sizes[] = { 6 * CHUNK, 6 * CHUNK + 5 };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct http_exchange *x;
		struct flight *f;
		uint64_t last = (sizes[i] - 1) / CHUNK;

		open_scene(&(struct scene){ .size = sizes[i] });
		shelf.refused = last - 1;
		f = make_flight(0, 1, REQUEST_DEMAND);
		x = stage_next();
		whole_head(x, true);
		stage_bytes(x, 0, (size_t)sizes[i]);
		stage_end(x, 0);
		stage_run();
		assert_int_equal(shelf.there[last], false);
		assert_int_equal(shelf.publishes, last + 1); /* and the reader's own */
		leave_flight(f);
		close_scene();
	}
}

/* What comes within 4 MiB, or a second, comes soon. */
static void test_passes_soon(void **state)
{
	const uint64_t soon = UINT64_C(4) << 20;
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 1000 * CHUNK });
	assert_false(whole_passes_soon(blob, 0));
	f = make_flight(2, 4, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, true);
	stage_bytes(x, 0, 3 * CHUNK + 100);
	assert_false(whole_passes_soon(blob, 3 * CHUNK + 99));
	assert_true(whole_passes_soon(blob, 3 * CHUNK + 100));
	assert_true(whole_passes_soon(blob, 3 * CHUNK + 100 + soon));
	assert_false(whole_passes_soon(blob, 3 * CHUNK + 101 + soon));
	blob->whole.refused = true;
	assert_false(whole_passes_soon(blob, 3 * CHUNK + 100));
	blob->whole.refused = false;
	stage_end(x, -ECONNRESET);
	answer_all();
	assert_false(whole_passes_soon(blob, 0));
	leave_flight(f);
	close_scene();
}

/* ---- libcrypto, which may refuse ---- */

static enum { SUMS, OPENS_NOT, UPDATES_NOT, FINISHES_NOT } crypto;

int __real_digest_open_like(const char *like, struct digest *d, struct err *e);
int __wrap_digest_open_like(const char *like, struct digest *d, struct err *e);
int __real_digest_update(struct digest *d, const void *bytes, size_t n, struct err *e);
int __wrap_digest_update(struct digest *d, const void *bytes, size_t n, struct err *e);
int __real_digest_finish_any(struct digest *d, char out[DIGEST_ANY_TEXT], struct err *e);
int __wrap_digest_finish_any(struct digest *d, char out[DIGEST_ANY_TEXT], struct err *e);

int __wrap_digest_open_like(const char *like, struct digest *d, struct err *e)
{
	return crypto == OPENS_NOT ? -ENOMEM : __real_digest_open_like(like, d, e);
}

int __wrap_digest_update(struct digest *d, const void *bytes, size_t n, struct err *e)
{
	return crypto == UPDATES_NOT ? -EIO : __real_digest_update(d, bytes, n, e);
}

int __wrap_digest_finish_any(struct digest *d, char out[DIGEST_ANY_TEXT], struct err *e)
{
	int r = __real_digest_finish_any(d, out, e);

	return r == 0 && crypto == FINISHES_NOT ? err_set(e, EIO, "libcrypto refuses") : r;
}

static char right_digest[DIGEST_TEXT];

static const char *digest_of_scene(uint64_t size)
{
	uint8_t *bytes = malloc((size_t)size);
	uint64_t i;

	for (i = 0; i < size; i++)
		bytes[i] = stage_byte(i);
	assert_int_equal(digest_bytes(bytes, (size_t)size, right_digest, NULL), 0);
	free(bytes);
	return right_digest;
}

/* Without a length nothing is believed before the end. */
static void check_held(bool right, bool bare)
{
	const uint64_t size = 4 * CHUNK + 3;
	struct http_exchange *x, *y;
	struct flight *f, *other;

	open_scene(&(struct scene){ .size = size,
				    .bare = bare,
				    .digest = right ? digest_of_scene(size)
						    : "sha256:000000000000000000000000000000000"
						      "0000000000000000000000000000000" });
	f = make_flight(1, 3, REQUEST_DEMAND);
	x = stage_next();
	other = make_flight(0, 1, REQUEST_DEMAND);
	y = stage_next();
	whole_head(x, false);
	stage_bytes(x, 0, (size_t)size - 1);
	assert_int_equal(f->arrived, 0);
	assert_string_equal(shelved(), "");
	assert_false(whole_may_hold(blob)); /* one at a time */
	stage_head(y, "200");
	stage_end(y, 0);
	stage_run();
	assert_false(other->done);
	stage_bytes(x, size - 1, 1);
	stage_end(x, 0);
	stage_run();
	assert_null(blob->whole.of);
	assert_int_equal(f->done, right);
	assert_int_equal(f->arrived, right ? 2 * CHUNK : 0);
	assert_string_equal(shelved(), right && !bare ? "0-4" : "");
	if (right)
		check_bytes(f->bytes->data, CHUNK, 2 * CHUNK);
	if (right && !bare)
		check_bytes(shelf.bytes, 0, size);
	leave_flight(f);
	leave_flight(other);
	close_scene();
}

/* Without its digest a blob is not believed, whatever keeps that from being taken. */
static void test_held_without_digest(void **state)
{
	const uint64_t size = 4 * CHUNK + 3;

	for (crypto = OPENS_NOT; crypto <= FINISHES_NOT; crypto++) {
		struct http_exchange *x;
		struct flight *f;

		open_scene(&(struct scene){ .size = size, .digest = digest_of_scene(size) });
		f = make_flight(1, 3, REQUEST_DEMAND);
		x = stage_next();
		whole_head(x, false);
		if (crypto == FINISHES_NOT) {
			assert_true(stage_bytes(x, 0, (size_t)size));
			stage_end(x, 0);
		} else {
			assert_false(stage_bytes(x, 0, (size_t)size));
			stage_end(x, -ECANCELED);
		}
		stage_run();
		assert_null(blob->whole.of);
		assert_null(blob->whole.bytes);
		assert_false(f->done);
		assert_int_equal(f->arrived, 0);
		assert_string_equal(shelved(), "");
		leave_flight(f);
		close_scene();
	}
	crypto = SUMS;
}

static void test_held(void **state)
{
	check_held(true, false);
	check_held(true, true);
	check_held(false, false);
}

/* Only one that is small enough, and comes alone; what cannot be kept of it is not, but read. */
static void test_held_limits(void **state)
{
	const uint64_t size = 4 * CHUNK + 3;
	struct http_exchange *x;
	struct flight *f;
	unsigned over;

	for (over = 0; over < 2; over++) {
		open_scene(&(struct scene){ .size = (uint64_t)HELD_MAX + over, .bare = true });
		assert_int_equal(whole_may_hold(blob), !over);
		close_scene();
	}
	open_scene(&(struct scene){ .size = size, .digest = digest_of_scene(size) });
	shelf.refused = 1;
	f = make_flight(3, 4, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, false);
	stage_bytes(x, 0, (size_t)size);
	stage_end(x, 0);
	stage_run();
	assert_true(f->done && f->r == 0);
	assert_string_equal(shelved(), "0,3"); /* the second is the reader's own */
	leave_flight(f);
	close_scene();
	open_scene(&(struct scene){ .size = size, .digest = digest_of_scene(size) });
	f = make_flight(3, 4, REQUEST_DEMAND);
	x = stage_next();
	whole_head(x, false);
	alloc_left = 1; /* the stage takes one */
	assert_false(stage_bytes(x, 0, (size_t)size));
	alloc_left = -1;
	assert_null(blob->whole.of);
	stage_end(x, -ECANCELED);
	stage_run();
	assert_false(f->done);
	leave_flight(f);
	close_scene();
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_passing),
		TEST(test_passing_fails),
		TEST(test_passing_refused),
		TEST(test_held),
		TEST(test_held_without_digest),
		TEST(test_passing_lengths),
		TEST(test_passing_twice),
		TEST(test_passing_without_memory),
		TEST(test_refused_at_the_end),
		TEST(test_passes_soon),
		TEST(test_held_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
