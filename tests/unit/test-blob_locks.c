/* SPDX-License-Identifier: Apache-2.0 */
/* For TSan: what the lock of a blob guards is touched under it by all who touch it: by readers, by
 * what an exchange tells, by hints.  Each time that the thread of the test has given the lock away,
 * another thread (visitor.h) takes it and touches all that it guards. */
#include "fetch/sequence.h"
#include "tests/unit/bloblib.h"
#include "tests/unit/visitor.h"

static struct visitor visitor;
static bool watching;
static struct hint *watched_hint; /* one that no flight and no mending has; NULL */
static void (*on_unlock)(void); /* called each time; without a visitor */

int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	int r = __real_pthread_mutex_unlock(lock);

	if (is_visitor || !blob || lock != &blob->lock)
		return r;
	if (watching)
		visitor_visit(&visitor);
	if (on_unlock)
		on_unlock();
	return r;
}

/* Reads it and writes what it has read. */
#define TOUCH(place)                                                                               \
	do {                                                                                       \
		volatile __typeof__(place) *at_ = &(place);                                        \
		*at_ = *at_;                                                                       \
	} while (0)
/* The engine's thread, which alone writes it, may read it without the lock. */
#define LOOK_AT(place)                                                                             \
	do {                                                                                       \
		volatile __typeof__(place) *at_ = &(place);                                        \
		(void)*at_;                                                                        \
	} while (0)

static void touch_hint(struct hint *h)
{
	if (!h)
		return;
	TOUCH(h->flights);
	TOUCH(h->exhausted);
	TOUCH(h->skipped);
	TOUCH(h->r);
}

static void touch_flight(struct flight *f)
{
	TOUCH(f->refs);
	TOUCH(f->listed);
	TOUCH(f->low);
	TOUCH(f->started);
	TOUCH(f->kept);
	TOUCH(f->r);
	TOUCH(f->arrived);
	TOUCH(f->taken_back);
	TOUCH(f->places);
	TOUCH(f->proven_places);
	TOUCH(f->noted);
	TOUCH(f->dropped);
	TOUCH(f->drops);
	TOUCH(f->awaited);
	LOOK_AT(f->count);
	LOOK_AT(f->done);
	LOOK_AT(f->bytes);
	if (f->bytes)
		TOUCH(f->bytes->refs);
	touch_hint(f->hint);
}

static void touch_all(void)
{
	struct flight *f;
	unsigned i;

	pthread_mutex_lock(&blob->lock);
	TOUCH(blob->flights);
	TOUCH(blob->kept_bytes);
	TOUCH(blob->refs);
	TOUCH(blob->hints);
	TOUCH(blob->given_next);
	TOUCH(blob->suspects_next);
	TOUCH(blob->publishing);
	TOUCH(blob->mending.hint);
	TOUCH(blob->mending.not_before);
	TOUCH(blob->mending.wrong);
	TOUCH(blob->mending.joined);
	TOUCH(blob->mending.forgiven);
	TOUCH(blob->mending.beside_others);
	TOUCH(blob->mending.ended);
	TOUCH(blob->mending.failure.msg[0]);
	TOUCH(blob->ahead.clock);
	for (i = 0; i < READAHEAD_STREAMS; i++)
		TOUCH(blob->ahead.streams[i].window);
	TOUCH(blob->around.areas);
	TOUCH(blob->around.count);
	for (f = blob->flights; f; f = f->next)
		touch_flight(f);
	touch_hint(blob->mending.hint);
	touch_hint(watched_hint);
	pthread_mutex_unlock(&blob->lock);
}

static void begin(const struct scene *s)
{
	open_scene(s);
	visitor_begin(&visitor, touch_all);
	watching = true;
	visitor_visit(&visitor);
}

/* Also after a failure, which leaves the scene as it is. */
static int stop_visits(void **state)
{
	if (watching)
		visitor_end(&visitor);
	watching = false;
	on_unlock = NULL;
	watched_hint = NULL;
	return 0;
}

static void end(void)
{
	stop_visits(NULL);
	close_scene();
}

static struct http_exchange *next(void)
{
	struct http_exchange *x = stage_next();

	assert_non_null(x);
	return x;
}

/* ---- readers ---- */

static void test_reads(void **state)
{
	unsigned i;

	begin(&(struct scene){ .size = 600 * CHUNK });
	on_wait = all_comes;
	for (i = 0; i < 6; i++)
		check_read((uint64_t)i * CHUNK, CHUNK); /* a reader that is read ahead for */
	for (i = 6; shelf.there[i] && asked()[0] == '\0'; i++)
		check_read((uint64_t)i * CHUNK, CHUNK);
	assert_true(i > 6);
	assert_string_not_equal(asked(), "");
	end();
}

/* What was fetched with a miss among others, and is then read. */
static void test_reads_around(void **state)
{
	static const uint64_t at[] = { 5, 12, 1, 9 };
	unsigned i;

	begin(&(struct scene){ .size = 600 * CHUNK });
	on_wait = all_comes;
	for (i = 0; i < 24; i++) /* far from each other, and in the same areas again */
		check_read((at[i / 6] + i % 6 * READAROUND_AREA) * CHUNK, 100);
	assert_non_null(atomic_load(&blob->around.unused));
	for (i = 0; i < 600; i++)
		if (shelf.there[i])
			check_read((uint64_t)i * CHUNK, 100);
	end();
}

/* Nobody holds the lock while bytes are copied: then the exchange fails that gave them. */
static struct flight *copied;
static unsigned copies;

static void fails_while_copied(void)
{
	if (copies > 0 || !copied->bytes || copied->bytes->refs < 2)
		return;
	copies++;
	stage_end(stage.running[0], -ECONNRESET);
	stage_run();
	memset(copied->bytes->data, 0xee, CHUNK); /* as the next exchange may */
}

static void gives_some(unsigned times, uint64_t until)
{
	struct http_exchange *x = next();

	if (times > 0) {
		answer(x, 0, 0);
		return;
	}
	head(x, 0);
	stage_bytes(x, 0, 2 * CHUNK);
}

static void test_copies(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK, .bare = true });
	copied = make_flight(0, 8, REQUEST_DEMAND);
	on_wait = gives_some;
	on_unlock = fails_while_copied;
	copies = 0;
	check_read(0, CHUNK);
	assert_int_equal(copies, 1);
	assert_int_equal(copied->taken_back, 1);
	assert_true(waits > 1); /* what was taken back did not count */
	assert_int_equal(caller()->piece_count, 1);
	leave_flight(copied);
	end();
}

static void test_asked_for(void **state)
{
	begin(&(struct scene){ .size = 600 * CHUNK });
	source_want(source, 20 * CHUNK, CHUNK);
	source_prefetch(source, 40 * CHUNK, 3 * CHUNK);
	blob_ask_for_ends(blob);
	assert_string_equal(asked(), "20-20 40-42 0-0 596-599");
	on_wait = all_comes;
	assert_int_equal(blob_fill(blob, 60 * CHUNK, 3 * CHUNK, &why), 0);
	answer_all();
	source_drop(source, 20 * CHUNK, CHUNK);
	assert_string_equal(shelved(), "0,40-42,60-62,596-599");
	end();
}

static void test_promoted(void **state)
{
	struct flight *f;

	begin(&(struct scene){ .size = 64 * CHUNK });
	f = make_flight(0, 1, REQUEST_PREFETCH);
	pthread_mutex_lock(&blob->lock);
	flight_promote_locked(f);
	pthread_mutex_unlock(&blob->lock);
	assert_string_equal(asked(), "0-0");
	leave_flight(f);
	answer_all();
	end();
}

/* ---- what an exchange tells ---- */

static void test_exchanges(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	begin(&(struct scene){ .size = 8 * CHUNK, .places = 2 });
	f = make_flight(0, 8, REQUEST_DEMAND);
	x = next();
	head(x, 0);
	stage_bytes(x, 0, 3 * CHUNK);
	stage_end(x, -ECONNRESET);
	stage_run();
	while (!f->done)
		answer(next(), 0, 0);
	assert_string_equal(shelved(), "0-7");
	leave_flight(f);
	end();
}

/* A whole blob passes by: all who wait look at the cache again. */
static void test_whole(void **state)
{
	struct http_exchange *x;
	struct flight *f;

	begin(&(struct scene){ .size = 8 * CHUNK });
	f = make_flight(6, 8, REQUEST_DEMAND);
	x = next();
	stage_answer(x, "200|Content-Length: 131072", 8 * CHUNK, 0);
	assert_true(f->done);
	assert_string_equal(shelved(), "0-7");
	leave_flight(f);
	end();
}

/* ---- hints ---- */

static void test_hint(void **state)
{
	struct hint *h;

	begin(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][2] = OTHERS;
	pthread_mutex_lock(&blob->lock);
	h = hint_make_locked(blob, 0, 4 * CHUNK, REQUEST_BACKGROUND);
	h->awaited = true;
	watched_hint = h;
	pthread_mutex_unlock(&blob->lock);
	queue_feed(queue, &h->feeder);
	answer_all();
	end();
	assert_true(h->exhausted && h->skipped);
	assert_int_equal(h->flights, 0);
	free(h);
}

static void test_sequence(void **state)
{
	struct sequence_range *ranges = calloc(2, sizeof *ranges);
	struct sequence *s;

	begin(&(struct scene){ .size = 40 * CHUNK });
	ranges[0] = (struct sequence_range){ source, 3, 2 };
	ranges[1] = (struct sequence_range){ source, 20, 2 };
	assert_int_equal(sequence_start(ranges, 2, &s, NULL), 0);
	visitor_visit(&visitor);
	answer_all();
	assert_string_equal(shelved(), "3-4,20-21");
	sequence_close(s);
	end();
}

/* ---- a whole that is wrong ---- */

static void is_right_then(unsigned times, uint64_t until)
{
	answer_all();
	if (times == 2)
		shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

static void test_mending(void **state)
{
	begin(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = is_right_then;
	check_read(0, 10);
	assert_string_equal(shelved(), "0-39");
	end();
}

static void test_mending_fails(void **state)
{
	begin(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = nothing_is_there;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_non_null(strstr(why.msg, "404"));
	end();
}

#define TEST(name) cmocka_unit_test_teardown(name, stop_visits)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reads),     TEST(test_reads_around),	TEST(test_copies),
		TEST(test_asked_for), TEST(test_promoted),	TEST(test_exchanges),
		TEST(test_whole),     TEST(test_hint),		TEST(test_sequence),
		TEST(test_mending),   TEST(test_mending_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
