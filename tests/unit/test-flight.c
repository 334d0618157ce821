/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches under way: what an exchange that fails takes back, whom readers see bytes of, whom they
 * blame, and who fetches what. */
#include "tests/unit/bloblib.h"

#include "tests/unit/loops.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- memory that says when it is written beyond its end ---- */

enum { GUARD = 64, BLOCKS = 1024 };

static struct {
	uint8_t *begin;
	size_t n;
} blocks[BLOCKS]; /* the last ones */
static unsigned block_count;

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

void *__wrap_malloc(size_t n)
{
	uint8_t *p = __real_malloc(n + GUARD);

	memset(p + n, 0xa5, GUARD);
	blocks[block_count % BLOCKS].begin = p;
	blocks[block_count++ % BLOCKS].n = n;
	return p;
}

static void check_guard(const void *begin)
{
	unsigned i = 1, k;

	while (i < BLOCKS && blocks[(block_count - i) % BLOCKS].begin != begin)
		i++;
	assert_true(i < BLOCKS);
	i = (block_count - i) % BLOCKS;
	for (k = 0; k < GUARD; k++)
		assert_int_equal(blocks[i].begin[blocks[i].n + k], 0xa5);
}

/* ---- what an exchange gives ---- */

static void test_held_back(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 4 * CHUNK - 100 });
	f = make_flight(0, 4, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, 0, HELD_BACK);
	assert_int_equal(f->arrived, 0);
	assert_int_equal(f->places, 0); /* nobody has seen any of it */
	stage_bytes(x, HELD_BACK, 1);
	assert_int_equal(f->arrived, 1);
	assert_int_equal(f->places, 1);
	assert_string_equal(shelved(), "");
	stage_bytes(x, HELD_BACK + 1, CHUNK - 1);
	assert_int_equal(f->arrived, CHUNK);
	assert_string_equal(shelved(), "0");
	assert_int_equal(f->proven, 0);
	stage_bytes(x, 2 * CHUNK, 2 * CHUNK - 100);
	assert_int_equal(f->arrived, 3 * CHUNK - 100);
	assert_string_equal(shelved(), "0-1");
	assert_false(f->done);
	stage_end(x, 0);
	stage_run();
	assert_true(f->done);
	assert_int_equal(f->r, 0);
	assert_int_equal(f->arrived, 4 * CHUNK - 100);
	assert_int_equal(f->proven, f->arrived);
	assert_string_equal(shelved(), "0-3");
	assert_int_equal(shelf.publishes, 4);
	assert_false(f->listed); /* its bytes are in the cache */
	assert_null(blob->flights);
	assert_int_equal(shelf.claims[0][0], NOBODY);
	check_bytes(f->bytes->data, 0, 4 * CHUNK - 100);
	leave_flight(f);
	close_scene();
}

/* A flight in the midst of a blob, whose answer comes in pieces of any length: of the flight alone,
 * or of the whole blob.  Then what came is taken back, and comes again. */
static void test_any_pieces(void **state)
{
	unsigned round;

	for (round = 0; round < 40; round++) {
		uint64_t chunks = 3 + loops_random() % 20, first = loops_random() % chunks;
		uint64_t count = 1 + loops_random() % (chunks - first), begins, ends, at;
		bool whole = round % 2, fails = true;
		struct http_exchange *x;
		struct flight *f;

		open_scene(&(struct scene){ .size = chunks * CHUNK - loops_random() % CHUNK });
		f = make_flight(first, first + count, REQUEST_DEMAND);
		for (x = stage_next(); fails || !f->done; x = stage_next()) {
			char lines[64];
			uint64_t begun, came;

			assert_non_null(x);
			begins = whole ? 0 : x->first;
			ends = whole ? blob->source.size : x->last + 1;
			snprintf(lines, sizeof lines, "200|Content-Length: %d",
				 (int)blob->source.size);
			if (whole)
				assert_true(stage_head(x, lines));
			else
				head(x, 0);
			begun = x->first;
			for (at = begins; at < ends;) {
				uint64_t n = 1 + loops_random() % (3 * CHUNK);

				n = n < ends - at ? n : ends - at;
				assert_true(stage_bytes(x, at, (size_t)n));
				at += n;
				came = at < begun ? 0 : at - begun;
				came = came < flight_size(f) ? came : flight_size(f);
				assert_int_equal(f->received, begun - flight_start(f) + came);
				if (came > HELD_BACK)
					assert_int_equal(f->arrived, begun - flight_start(f) +
									     came - HELD_BACK);
				check_bytes(f->bytes->data, flight_start(f), (size_t)f->received);
			}
			check_guard(f->bytes);
			stage_end(x, fails ? -ECONNRESET : 0);
			stage_run();
			fails = false;
			if (f->done)
				break;
		}
		assert_int_equal(f->r, 0);
		check_bytes(shelf.bytes + flight_start(f), flight_start(f), (size_t)flight_size(f));
		leave_flight(f);
		close_scene();
	}
}

/* A first exchange that ends well, of `good` bytes (0: none), then one that fails after `more`. */
static const struct cut {
	const char *what;
	uint64_t good, more;
	const char *before, *after; /* what the cache has */
	uint64_t shown;
	unsigned taken_back, drops;
} cuts[] = {
	{ "less than is held back", 0, CHUNK, "", "", 0, 0, 0 },
	{ "some that was shown, no chunk", 0, CHUNK + 7, "", "", 7, 1, 0 },
	{ "chunks", 0, 3 * CHUNK, "0-1", "", 2 * CHUNK, 1, 1 },
	{ "all", 0, 8 * CHUNK, "0-6", "", 7 * CHUNK, 1, 1 },
	{ "chunks, after good ones", 2 * CHUNK, 3 * CHUNK, "0-3", "0-1", 4 * CHUNK, 1, 1 },
	{ "nothing new, after good ones", 2 * CHUNK, CHUNK, "0-1", "0-1", 2 * CHUNK, 0, 0 },
	{ "inside of a chunk", 2 * CHUNK + 9, 3 * CHUNK, "0-3", "0-1", 4 * CHUNK + 9, 1, 1 },
};

static void check_cut(const struct cut *c)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 8, REQUEST_DEMAND);
	if (c->good > 0)
		answer(stage_next(), c->good, 0);
	assert_int_equal(f->proven, c->good);
	x = stage_next();
	assert_int_equal(x->first, c->good);
	head(x, 0);
	stage_bytes(x, c->good, (size_t)c->more);
	assert_int_equal(f->arrived, c->shown);
	assert_string_equal(shelved(), c->before);
	stage_end(x, -ECONNRESET);
	stage_run();
	assert_int_equal(f->arrived, c->good);
	assert_int_equal(f->received, c->good);
	assert_int_equal(f->proven, c->good);
	assert_int_equal(f->taken_back, c->taken_back);
	assert_string_equal(shelved(), c->after);
	assert_int_equal(shelf.drops, c->drops);
	assert_false(f->done);
	while (!f->done) {
		x = stage_next();
		assert_int_equal(x->first, f->proven);
		answer(x, 0, 0);
	}
	assert_int_equal(f->r, 0);
	assert_string_equal(shelved(), "0-7");
	check_bytes(shelf.bytes, 0, 8 * CHUNK);
	leave_flight(f);
	close_scene();
}

static void test_cut(void **state)
{
	size_t i;

	for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
		print_message("%s\n", cuts[i].what);
		check_cut(&cuts[i]);
	}
}

/* After a cut half of what came is asked for at once, in whole chunks; then more again. */
static void test_less(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 64 * CHUNK });
	f = make_flight(0, 64, REQUEST_DEMAND);
	answer(stage_next(), 21 * CHUNK + 9, -ECONNRESET);
	(void)stage_next();
	assert_string_equal(asked(), "0-9");
	answer(stage.running[0], CHUNK, -ECONNRESET);
	(void)stage_next();
	assert_string_equal(asked(), "0-0");
	answer(stage.running[0], 0, 0);
	assert_string_equal(asked(), "1-2");
	leave_flight(f);
	close_scene();
	open_scene(&(struct scene){ .size = 64 * CHUNK });
	f = make_flight(0, 64, REQUEST_DEMAND);
	answer(stage_next(), 1, -ECONNRESET);
	(void)stage_next();
	assert_string_equal(asked(), "0-0");
	leave_flight(f);
	close_scene();
	/* One that brought nothing says nothing about that. */
	open_scene(&(struct scene){ .size = 64 * CHUNK });
	f = make_flight(0, 64, REQUEST_DEMAND);
	stage_end(stage_next(), -ECONNRESET);
	(void)stage_next();
	assert_string_equal(asked(), "0-63");
	leave_flight(f);
	close_scene();
}

static void test_cancelled(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 8, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, 0, 3 * CHUNK);
	assert_string_equal(shelved(), "0-1");
	queue_shut(queue);
	assert_true(f->done);
	assert_int_equal(f->r, -ESHUTDOWN);
	assert_int_equal(f->arrived, 0);
	assert_string_equal(shelved(), "");
	assert_false(f->listed);
	assert_int_equal(blob->given_next, 1); /* a reader may have taken some */
	leave_flight(f);
	close_scene();
}

/* Bytes that a reader holds do not change; those that nobody holds are written over. */
static void check_renewed(bool holds, uint64_t good, uint64_t more, bool renewed)
{
	struct flight_bytes *held, *first;
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 8, REQUEST_DEMAND);
	answer(stage_next(), good, 0);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, good, (size_t)more);
	first = f->bytes;
	pthread_mutex_lock(&blob->lock);
	held = holds ? flight_hold_locked(f) : NULL;
	pthread_mutex_unlock(&blob->lock);
	stage_end(x, -ECONNRESET);
	stage_run();
	assert_int_equal(f->bytes != first, renewed);
	assert_int_equal(f->bytes->refs, holds && !renewed ? 2 : 1);
	check_bytes(f->bytes->data, 0, (size_t)good);
	check_guard(f->bytes);
	if (renewed)
		memset(f->bytes->data + good, 0, CHUNK); /* what comes next may be anything */
	if (holds) {
		assert_int_equal(held->refs, renewed ? 1 : 2);
		check_bytes(held->data, 0, (size_t)(good + more - HELD_BACK));
	}
	pthread_mutex_lock(&blob->lock);
	flight_let_go_locked(held);
	pthread_mutex_unlock(&blob->lock);
	leave_flight(f);
	close_scene();
}

static void test_renewed(void **state)
{
	check_renewed(true, 2 * CHUNK + 5, 2 * CHUNK, true);
	check_renewed(false, 2 * CHUNK + 5, 2 * CHUNK, false);
	check_renewed(true, 2 * CHUNK + 5, CHUNK, false); /* nothing of it was shown */
}

static struct flight *awaited;

static void look_at_awaited(unsigned times, uint64_t until)
{
	assert_int_equal(awaited->awaited, CHUNK); /* the least that one of them waits for */
	assert_int_equal(until, 77);
}

/* What a reader waits for is forgotten once it is there. */
static void test_awaited(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 8, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	f->awaited = CHUNK;
	stage_bytes(x, 0, 2 * CHUNK - 1);
	assert_int_equal(f->awaited, CHUNK);
	stage_bytes(x, 2 * CHUNK - 1, 1);
	assert_true(f->awaited == UINT64_MAX);
	f->awaited = 8 * CHUNK;
	flight_wake_all(blob);
	assert_true(f->awaited == UINT64_MAX);
	awaited = f;
	on_wait = look_at_awaited;
	pthread_mutex_lock(&blob->lock);
	flight_await_locked(f, CHUNK, 77);
	flight_await_locked(f, 2 * CHUNK, 77);
	assert_int_equal(waits, 2);
	assert_int_equal(f->awaited, CHUNK);
	flight_unlist_locked(f);
	assert_true(f->awaited == UINT64_MAX);
	pthread_mutex_unlock(&blob->lock);
	leave_flight(f);
	close_scene();
}

/* ---- drops ---- */

static void drop(uint64_t first, uint64_t end)
{
	source_drop(source, first * CHUNK, (end - first) * CHUNK);
}

static void test_drop(void **state)
{
	struct flight *f, *other;
	struct http_exchange *x;

	open_scene(&(struct scene){ .size = 12 * CHUNK });
	other = make_flight(8, 12, REQUEST_DEMAND);
	x = stage_next();
	f = make_flight(0, 8, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, 0, 3 * CHUNK);
	assert_string_equal(shelved(), "0-1");
	drop(7, 8);
	assert_false(f->listed);
	assert_true(f->dropped);
	assert_true(other->listed); /* it begins where the drop ends */
	assert_false(other->dropped);
	assert_int_equal(blob->given[0].end, 8); /* whom its readers may still blame */
	assert_int_equal(blob->drops, 1);
	stage_bytes(x, 3 * CHUNK, 5 * CHUNK);
	stage_end(x, 0);
	stage_run();
	assert_true(f->done);
	assert_false(f->kept); /* nobody can find it */
	assert_int_equal(blob->kept_bytes, 0);
	assert_string_equal(shelved(), "0-1");
	leave_flight(f);
	leave_flight(other);
	close_scene();
}

/* To the byte. */
static void test_drop_touches(void **state)
{
	static const struct {
		uint64_t off, n;
		bool dropped;
	} rows[] = {
		{ 0, 4 * CHUNK, false },      { 0, 4 * CHUNK + 1, true },
		{ 4 * CHUNK, 1, true },	      { 5 * CHUNK, 9, true },
		{ 8 * CHUNK - 101, 1, true }, { 8 * CHUNK - 100, 1, false },
		{ 9 * CHUNK, 1, false },      { 0, 100 * CHUNK, true },
	};
	struct flight *f;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		open_scene(&(struct scene){ .size = 8 * CHUNK - 100 });
		f = make_flight(4, 8, REQUEST_DEMAND);
		pthread_mutex_lock(&blob->lock);
		flight_drop_locked(blob, rows[i].off, rows[i].n);
		assert_int_equal(f->dropped, rows[i].dropped);
		assert_int_equal(f->listed, !rows[i].dropped);
		pthread_mutex_unlock(&blob->lock);
		leave_flight(f);
		close_scene();
	}
}

/* What was dropped since an exchange began does not come back with it, but with the next. */
static void test_drop_of_some(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 4 * CHUNK });
	f = make_flight(0, 4, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, 0, 1);
	pthread_mutex_lock(&blob->lock);
	blob->dropped[blob->drops++ % DROPPED] = (struct chunk_range){ 1, 2 };
	pthread_mutex_unlock(&blob->lock);
	stage_bytes(x, 1, 4 * CHUNK - 1);
	stage_end(x, 0);
	stage_run();
	assert_string_equal(shelved(), "0,2-3");
	assert_true(f->kept); /* for who waits for chunk 1 */
	assert_true(f->listed);
	assert_int_equal(blob->kept_bytes, 4 * CHUNK);
	leave_flight(f);
	drop(0, 4);
	assert_int_equal(blob->kept_bytes, 0);
	f = make_flight(0, 4, REQUEST_DEMAND);
	answer_all();
	assert_string_equal(shelved(), "0-3");
	assert_false(f->kept);
	leave_flight(f);
	close_scene();
}

static const struct was {
	unsigned since, drops;
	uint64_t first, end;
	bool dropped;
} was[] = {
	/* Drop i was of the chunks [2 i, 2 i + 2). */
	{ 0, 0, 0, 1, false },
	{ 0, 1, 0, 2, true },
	{ 0, 1, 1, 2, true },
	{ 0, 1, 1, 3, false },
	{ 0, 2, 1, 3, false }, /* not together */
	{ 1, 2, 0, 1, false }, /* before */
	{ 1, 2, 2, 4, true },
	{ 0, DROPPED, 999, 1000, false },
	{ 0, DROPPED + 1, 999, 1000, true }, /* not known any more */
	{ UINT32_MAX, 0, 999, 1000, false }, /* the count went round */
};

static void test_was_dropped(void **state)
{
	static struct blob b;
	unsigned i, k;

	for (i = 0; i < sizeof was / sizeof *was; i++) {
		for (k = 0; k < was[i].drops; k++)
			b.dropped[k % DROPPED] = (struct chunk_range){ 2 * k, 2 * k + 2 };
		atomic_store(&b.drops, was[i].drops);
		print_message("%u\n", i);
		assert_int_equal(
			flight_was_dropped_locked(&b, was[i].first, was[i].end, was[i].since),
			was[i].dropped);
	}
}

static bool seen_publishing;

static void while_publishing(uint64_t chunk)
{
	seen_publishing = blob->publishing;
	assert_int_equal(pthread_mutex_trylock(&blob->lock), 0); /* no I/O under it */
	pthread_mutex_unlock(&blob->lock);
}

static void test_publishing(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = CHUNK });
	shelf.on_publish = while_publishing;
	seen_publishing = false;
	f = make_flight(0, 1, REQUEST_DEMAND);
	answer_all();
	assert_true(seen_publishing);
	assert_false(blob->publishing);
	leave_flight(f);
	close_scene();
}

static void end_publishing(unsigned times, uint64_t until)
{
	assert_string_equal(shelved(), "0");
	assert_int_equal(blob->drops, 0);
	blob->publishing = false;
	clock_wake(&blob->changed);
}

/* A drop waits for a chunk that is just given to the cache. */
static void test_drop_waits(void **state)
{
	open_scene(&(struct scene){ .size = CHUNK });
	put(0);
	blob->publishing = true;
	on_wait = end_publishing;
	drop(0, 1);
	assert_int_equal(waits, 1);
	assert_string_equal(shelved(), "");
	close_scene();
}

/* ---- kept ones ---- */

static void test_kept(void **state)
{
	struct flight *f[3];
	unsigned i;

	open_scene(&(struct scene){ .size = 3 * FLIGHT_CHUNKS * CHUNK, .bare = true });
	for (i = 0; i < 3; i++) {
		f[i] = make_flight(i * FLIGHT_CHUNKS, (i + 1) * FLIGHT_CHUNKS, REQUEST_DEMAND);
		answer_all();
		assert_true(f[i]->kept);
		assert_int_equal(f[i]->rank, CLAIM_NONE);
		if (i == 1)
			assert_true(f[0]->listed); /* just as much as may be kept */
	}
	assert_false(f[0]->listed);
	assert_true(f[1]->listed && f[2]->listed);
	assert_int_equal(blob->kept_bytes, KEPT_BYTES);
	pthread_mutex_lock(&blob->lock);
	flight_unlist_locked(f[1]);
	flight_unlist_locked(f[1]); /* once */
	pthread_mutex_unlock(&blob->lock);
	assert_int_equal(blob->kept_bytes, KEPT_BYTES / 2);
	for (i = 0; i < 3; i++)
		leave_flight(f[i]);
	close_scene();
}

/* One that failed is not kept, whatever the cache said of its chunks. */
static void test_not_kept(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	shelf.refused = UINT64_MAX;
	f = make_flight(0, 8, REQUEST_DEMAND);
	x = stage_next();
	head(x, 0);
	stage_bytes(x, 0, 4 * CHUNK);
	assert_true(f->refused);
	stage_end(x, -ECONNRESET);
	stage_answer(stage_next(), "404", 0, 0);
	assert_int_equal(f->r, -ENOENT);
	assert_false(f->listed);
	assert_int_equal(blob->kept_bytes, 0);
	leave_flight(f);
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_held_back),    cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cancelled),    cmocka_unit_test(test_renewed),
		cmocka_unit_test(test_awaited),	     cmocka_unit_test(test_drop),
		cmocka_unit_test(test_drop_of_some), cmocka_unit_test(test_was_dropped),
		cmocka_unit_test(test_publishing),   cmocka_unit_test(test_drop_waits),
		cmocka_unit_test(test_kept),	     cmocka_unit_test(test_not_kept),
		cmocka_unit_test(test_less),	     cmocka_unit_test(test_any_pieces),
		cmocka_unit_test(test_drop_touches),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
