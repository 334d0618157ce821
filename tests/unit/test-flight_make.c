/* SPDX-License-Identifier: Apache-2.0 */
/* Which fetches are made: what nobody has, what other processes have claimed, what becomes longer,
 * what a hint is cut into. */
#include "tests/unit/alloc.h"
#include "tests/unit/bloblib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct request *made; /* flights that are to be sent */

static int make(uint64_t first, uint64_t end, unsigned rank, enum request_priority priority)
{
	int r;

	pthread_mutex_lock(&blob->lock);
	r = flight_make_locked(blob, first, end, rank, priority, &made);
	pthread_mutex_unlock(&blob->lock);
	return r;
}

/* Them, as "first+count" each, in chunks. */
static const char *list_made(void)
{
	static char text[256];
	const struct request *q;
	size_t at = 0;

	text[0] = '\0';
	for (q = made; q; q = q->next)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%d+%d", at ? " " : "",
				       (int)((const struct flight *)q)->first,
				       (int)((const struct flight *)q)->count);
	return text;
}

/* Sends them, and has them answered. */
static void fetch_made(void)
{
	flight_submit(made);
	made = NULL;
	answer_all();
	assert_null(blob->flights);
}

static void test_missing(void **state)
{
	open_scene(&(struct scene){ .size = 700 * CHUNK });
	put(1);
	put(4);
	assert_int_equal(make(0, 6, 0, REQUEST_DEMAND), 0);
	assert_string_equal(list_made(), "0+1 2+2 5+1");
	assert_true(blob->flights->rank == 0 && !blob->flights->unasked);
	/* All is there or under way; then more, behind what was made. */
	assert_int_equal(make(0, 6, 0, REQUEST_PREFETCH), 0);
	assert_string_equal(list_made(), "0+1 2+2 5+1");
	assert_int_equal(make(3, 8, 0, REQUEST_PREFETCH), 0);
	assert_string_equal(list_made(), "0+1 2+2 5+1 6+2");
	assert_true(blob->flights->unasked && blob->flights->low);
	fetch_made();
	assert_string_equal(shelved(), "0-7");
	/* FLIGHT_CHUNKS at most, and no more than the blob has. */
	assert_int_equal(make(100, 9999, 0, REQUEST_DEMAND), 0);
	assert_string_equal(list_made(), "100+256 356+256 612+88");
	fetch_made();
	close_scene();
}

static void test_is_missing(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK });
	put(1);
	make(2, 3, 0, REQUEST_DEMAND);
	pthread_mutex_lock(&blob->lock);
	assert_false(flight_is_missing_locked(blob, 1, 3));
	assert_true(flight_is_missing_locked(blob, 0, 3));
	assert_true(flight_is_missing_locked(blob, 1, 4));
	assert_false(flight_is_missing_locked(blob, 0, 0));
	pthread_mutex_unlock(&blob->lock);
	fetch_made();
	close_scene();
}

static void test_claims(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK });
	shelf.claims[0][2] = OTHERS;
	assert_int_equal(make(0, 4, 0, REQUEST_DEMAND), 0);
	assert_string_equal(list_made(), "0+2 3+1");
	assert_int_equal(shelf.claims[0][1], OURS);
	assert_int_equal(shelf.claims[0][3], OURS);
	fetch_made();
	assert_int_equal(shelf.claims[0][3], NOBODY);
	/* 1 is said of the first chunk alone. */
	assert_int_equal(make(2, 5, 0, REQUEST_DEMAND), 1);
	assert_string_equal(list_made(), "4+1");
	/* The second fetcher; and what that call makes goes with the first one's. */
	assert_int_equal(make(2, 3, 1, REQUEST_DEMAND), 0);
	assert_string_equal(list_made(), "4+1 2+1");
	assert_int_equal(shelf.claims[1][2], OURS);
	fetch_made();
	assert_int_equal(shelf.claims[1][2], NOBODY);
	assert_int_equal(shelf.claims[0][2], OTHERS);
	shelf.claims[0][6] = shelf.claims[1][6] = OTHERS;
	assert_int_equal(make(6, 7, 1, REQUEST_DEMAND), 1);
	assert_int_equal(make(6, 7, CLAIM_NONE, REQUEST_DEMAND), 0); /* waited long enough */
	assert_string_equal(list_made(), "6+1");
	fetch_made();
	assert_int_equal(shelf.claims[1][6], OTHERS);
	assert_string_equal(shelved(), "0-4,6");
	close_scene();
}

/* What follows a demand that waits for its turn is fetched with it. */
static void test_longer(void **state)
{
	open_scene(&(struct scene){ .size = 600 * CHUNK });
	make(0, 2, 0, REQUEST_DEMAND);
	make(2, 4, 0, REQUEST_DEMAND);
	assert_string_equal(list_made(), "0+4");
	make(5, 6, 0, REQUEST_DEMAND); /* one lies between */
	assert_string_equal(list_made(), "0+4 5+1");
	make(6, 7, 0, REQUEST_PREFETCH); /* not as urgent */
	make(7, 8, 0, REQUEST_DEMAND); /* more urgent than what is before */
	assert_string_equal(list_made(), "0+4 5+1 6+1 7+1");
	make(8, 9, 1, REQUEST_DEMAND); /* another rank */
	assert_string_equal(list_made(), "0+4 5+1 6+1 7+1 8+1");
	fetch_made();
	make(20, 276, 0, REQUEST_DEMAND);
	make(276, 277, 0, REQUEST_DEMAND); /* it would be too long */
	assert_string_equal(list_made(), "20+256 276+1");
	make(277, 277 + 255, 0, REQUEST_DEMAND); /* just not */
	assert_string_equal(list_made(), "20+256 276+256");
	fetch_made();
	make(540, 541, 0, REQUEST_DEMAND);
	flight_submit(made);
	made = NULL;
	assert_string_equal(asked(), "540-540");
	make(541, 542, 0, REQUEST_DEMAND); /* it has started */
	assert_string_equal(list_made(), "541+1");
	fetch_made();
	close_scene();
}

/* What is in the cache by the time of its turn is not asked for. */
static void test_starting(void **state)
{
	struct flight *f, *half;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 2, REQUEST_DEMAND);
	half = make_flight(4, 6, REQUEST_DEMAND);
	put(0);
	put(1);
	put(4);
	assert_string_equal(asked(), "4-5");
	assert_true(f->done);
	assert_int_equal(f->r, 0);
	assert_false(f->listed);
	assert_null(f->bytes);
	answer_all();
	leave_flight(f);
	leave_flight(half);
	close_scene();
}

static void test_promote(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 64 * CHUNK, .connections = 1 });
	make(0, 1, 0, REQUEST_DEMAND);
	flight_submit(made);
	made = NULL;
	assert_string_equal(asked(), "0-0");
	f = make_flight(10, 11, REQUEST_PREFETCH);
	make(20, 21, 0, REQUEST_PREFETCH);
	flight_submit(made);
	made = NULL;
	leave_flight(f);
	f = make_flight(30, 31, REQUEST_BACKGROUND);
	stage_run();
	pthread_mutex_lock(&blob->lock);
	flight_promote_locked(f);
	assert_false(f->low);
	assert_true(f->unasked); /* its failure is nobody's */
	pthread_mutex_unlock(&blob->lock);
	stage_run();
	answer(stage.running[0], 0, 0);
	assert_string_equal(asked(), "30-30");
	leave_flight(f);
	answer_all();
	assert_string_equal(shelved(), "0,10,20,30");
	close_scene();
}

/* ---- no memory ---- */

/* What could not be made is claimed by nobody; what was made before is sent. */
static void test_not_made(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK });
	put(2);
	alloc_left = 1;
	assert_int_equal(make(0, 4, 0, REQUEST_DEMAND), -ENOMEM);
	alloc_left = -1;
	assert_string_equal(list_made(), "0+2");
	assert_int_equal(shelf.claims[0][1], OURS);
	assert_int_equal(shelf.claims[0][3], NOBODY);
	fetch_made();
	assert_string_equal(shelved(), "0-2");
	close_scene();
}

/* Its bytes find no room: a moment later. */
static void test_no_room(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(0, 2, REQUEST_DEMAND);
	alloc_left = 0;
	stage_run();
	alloc_left = -1;
	assert_false(f->started);
	assert_int_equal(stage.count, 0);
	assert_false(f->done);
	answer(stage_next(), 0, 0);
	assert_true(f->done);
	assert_int_equal(f->r, 0);
	assert_string_equal(shelved(), "0-1");
	leave_flight(f);
	close_scene();
}

/* What is asked for ahead of need is then not asked for. */
static void test_no_hint(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK });
	alloc_left = 0;
	assert_int_equal(blob_fill(blob, 0, CHUNK, &why), -ENOMEM);
	assert_int_equal(alloc_left, -1);
	assert_string_equal(why.msg, "out of memory");
	alloc_left = 0;
	source_prefetch(source, 0, CHUNK);
	assert_int_equal(alloc_left, -1);
	assert_string_equal(asked(), "");
	assert_int_equal(blob->hints, 0);
	assert_int_equal(blob->refs, 1);
	close_scene();
}

/* ---- hints ---- */

static struct hint *make_hint(uint64_t off, uint64_t n, enum request_priority priority)
{
	struct hint *h;

	pthread_mutex_lock(&blob->lock);
	h = hint_make_locked(blob, off, n, priority);
	pthread_mutex_unlock(&blob->lock);
	return h;
}

/* The next flight of a hint, with so much room, as "first+count"; "": it makes no more. */
static const char *next_of(struct hint *h, uint64_t room)
{
	static char text[32];
	struct request *q = h->feeder.next_request(&h->feeder, room);

	text[0] = '\0';
	if (!q)
		return text;
	snprintf(text, sizeof text, "%d+%d", (int)((struct flight *)q)->first,
		 (int)((struct flight *)q)->count);
	request_submit(q);
	return text;
}

static void test_hint(void **state)
{
	struct hint *h;

	open_scene(&(struct scene){ .size = 200 * CHUNK });
	put(11);
	shelf.claims[0][14] = OTHERS;
	h = make_hint(10 * CHUNK + 5, 92 * CHUNK, REQUEST_BACKGROUND);
	h->awaited = true;
	assert_int_equal(blob->hints, 1);
	assert_string_equal(next_of(h, 0), "10+1"); /* one at least */
	assert_int_equal(atomic_load(&blob->flights->request.deadline), clock_ms() + 60 * 1000);
	assert_false(h->skipped);
	assert_string_equal(next_of(h, 2 * CHUNK + 1), "12+2");
	assert_string_equal(next_of(h, 1024 * CHUNK), "15+64"); /* as much as one may have */
	assert_true(h->skipped); /* chunk 14 is another's */
	assert_string_equal(next_of(h, 1024 * CHUNK), "79+24");
	assert_int_equal(h->flights, 4);
	assert_int_equal(blob->hints, 1);
	assert_string_equal(next_of(h, 1024 * CHUNK), "");
	assert_true(h->exhausted);
	assert_int_equal(blob->hints, 0);
	answer_all();
	assert_int_equal(h->flights, 0);
	assert_int_equal(h->r, 0);
	assert_string_equal(shelved(), "10-13,15-102");
	free(h);
	close_scene();
}

/* A failure is the hint's, and the first one stays. */
static void test_hint_fails(void **state)
{
	struct hint *h;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	h = make_hint(0, 8 * CHUNK, REQUEST_PREFETCH);
	h->awaited = true;
	next_of(h, CHUNK);
	stage_answer(stage_next(), "404", 0, 0);
	next_of(h, CHUNK);
	stage_answer(stage_next(), "403", 0, 0);
	assert_int_equal(h->r, -ENOENT);
	assert_non_null(strstr(h->why.msg, "404"));
	queue_shut(queue);
	assert_string_equal(next_of(h, CHUNK), ""); /* shutting down */
	assert_true(h->skipped);
	free(h);
	close_scene();
}

/* Bytes that come too slowly do not keep it alive: it ends with its time. */
static void test_hint_is_late(void **state)
{
	struct http_exchange *x;
	struct hint *h;
	unsigned i;

	open_scene(&(struct scene){ .size = 16 * CHUNK });
	h = make_hint(0, 16 * CHUNK, REQUEST_BACKGROUND);
	h->awaited = true;
	queue_feed(queue, &h->feeder);
	x = stage_next();
	head(x, 0);
	for (i = 0; i < 12; i++) {
		assert_int_equal(h->flights, 1);
		assert_true(stage_bytes(x, i * 6000, 6000));
		stage_pass(5000);
	}
	assert_int_equal(h->flights, 0);
	assert_int_equal(h->r, -ETIMEDOUT);
	free(h);
	close_scene();
}

static void test_hints_max(void **state)
{
	struct hint *h;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	blob->hints = HINTS_MAX;
	assert_null(make_hint(0, 1, REQUEST_PREFETCH));
	assert_int_equal(blob->hints, HINTS_MAX);
	h = make_hint(0, 1, REQUEST_BACKGROUND); /* ours are not that many */
	assert_non_null(h);
	blob->hints = 1;
	queue_feed(queue, &h->feeder);
	answer_all();
	blob->hints = HINTS_MAX - 1;
	h = make_hint(CHUNK, 1, REQUEST_PREFETCH);
	assert_non_null(h);
	blob->hints = 1;
	queue_feed(queue, &h->feeder);
	answer_all();
	assert_string_equal(shelved(), "0-1");
	close_scene();
}

#define TEST(name) cmocka_unit_test(name)

/* ---- how large it is ---- */

/* A manifest can claim any size, and the cache's map is as large in proportion: nothing is given to
 * the cache before an answer has told the size, or has the last byte. */
static void test_size(void **state)
{
	static const struct {
		const char *head;
		bool has_map, is_confirmed;
	} rows[] = {
		{ "206|Content-Range: bytes 16384-49151/131072", false, true },
		{ "206|Content-Range: bytes 16384-49151/*", false, false },
		{ "206|Content-Range: bytes 16384-49151/*", true, true },
		{ "200|Content-Length: 131072", false, true },
	};
	struct flight *f, *last;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		open_scene(&(struct scene){ .size = 8 * CHUNK });
		shelf.has_map = rows[i].has_map;
		f = make_flight(1, 3, REQUEST_DEMAND);
		stage_answer(stage_next(), rows[i].head, i == 3 ? 8 * CHUNK : 2 * CHUNK, 0);
		assert_true(f->done);
		assert_int_equal(f->r, 0);
		assert_int_equal(f->arrived, 2 * CHUNK); /* readers have it at any rate */
		assert_int_equal(f->kept, !rows[i].is_confirmed);
		assert_string_equal(shelved(), !rows[i].is_confirmed ? "" : i == 3 ? "0-7" : "1-2");
		if (!rows[i].is_confirmed) {
			last = make_flight(7, 8, REQUEST_DEMAND);
			stage_answer(stage_next(), "206|Content-Range: bytes 114688-131071/*",
				     CHUNK, 0);
			assert_string_equal(shelved(), "7");
			leave_flight(last);
		}
		leave_flight(f);
		close_scene();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_missing),    TEST(test_is_missing),	    TEST(test_claims),
		TEST(test_longer),     TEST(test_starting),	    TEST(test_promote),
		TEST(test_not_made),   TEST(test_no_room),	    TEST(test_hint),
		TEST(test_hint_fails), TEST(test_hints_max),	    TEST(test_hint_is_late),
		TEST(test_no_hint),    cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
