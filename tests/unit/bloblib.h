/* SPDX-License-Identifier: Apache-2.0 */
/* bloblib.h - a blob on a stage (stage.h), with a shelf in the place of its cache that the test
 * fills and empties by hand: for the tests of flight.c, blob.c and whole.c.  Included once a
 * program, which is linked with --wrap of the shelf's functions.
 *
 * The blob's bytes are stage_byte's.  All is one thread: a read that waits calls `on_wait`, which
 * lets something happen. */
#ifndef OVERLAYBD_TESTS_BLOBLIB_H
#define OVERLAYBD_TESTS_BLOBLIB_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/caller.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "fetch/flight.h"
#include "fetch/queue.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/stage.h"

enum { CHUNK = CACHE_CHUNK, SHELF = 1024, RANKS = 2 };

/* ---- the shelf ---- */

enum holder { NOBODY, OURS, OTHERS };

static struct {
	bool there[SHELF], unreadable[SHELF];
	uint8_t bytes[SHELF * CHUNK];
	uint8_t claims[RANKS][SHELF]; /* enum holder */
	uint64_t size;
	unsigned publishes, drops, reads;
	uint64_t refused; /* this chunk is not taken; UINT64_MAX: all are */
	enum cache_state state;
	bool sealed, closed, undroppable;
	bool idle; /* it keeps nothing at the moment */
	bool has_map;
	int open_result;
	bool spoils; /* a read finds the whole wrong */
	void (*on_publish)(uint64_t chunk);
	uint64_t bad_chunks;
} shelf;

int __wrap_cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
			   struct cache_blob **out, struct err *e);
void __wrap_cache_blob_close(struct cache_blob *b);
size_t __wrap_cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off);
bool __wrap_cache_blob_has(const struct cache_blob *b, uint64_t chunk);
int __wrap_cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes);
void __wrap_cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n);
uint64_t __wrap_cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count,
				 unsigned rank);
void __wrap_cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank);
enum cache_state __wrap_cache_blob_state(const struct cache_blob *b);
bool __wrap_cache_blob_is_sealed(const struct cache_blob *b);
uint64_t __wrap_cache_blob_bad_chunks(const struct cache_blob *b);
bool __wrap_cache_blob_is_filling(const struct cache_blob *b);
bool __wrap_cache_blob_has_map(const struct cache_blob *b);

int __wrap_cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
			   struct cache_blob **out, struct err *e)
{
	if (shelf.open_result < 0)
		return err_set(e, -shelf.open_result, "the shelf is shut");
	*out = (struct cache_blob *)&shelf;
	return 0;
}

void __wrap_cache_blob_close(struct cache_blob *b)
{
	unsigned i;

	shelf.closed = true;
	for (i = 0; b && i < RANKS * SHELF; i++)
		assert_int_not_equal(shelf.claims[i / SHELF][i % SHELF], OURS);
}

static inline void put(uint64_t chunk)
{
	unsigned i;

	for (i = 0; i < CHUNK; i++)
		shelf.bytes[chunk * CHUNK + i] = stage_byte(chunk * CHUNK + i);
	shelf.there[chunk] = true;
}

size_t __wrap_cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off)
{
	uint64_t end = off;

	shelf.reads++;
	if (shelf.spoils)
		shelf.state = CACHE_WRONG;
	while (end < off + n && shelf.there[end / CHUNK] && !shelf.unreadable[end / CHUNK])
		end = end / CHUNK * CHUNK + CHUNK;
	n = end < off + n ? (size_t)(end - off) : n;
	memcpy(buf, shelf.bytes + off, n);
	return n;
}

bool __wrap_cache_blob_has(const struct cache_blob *b, uint64_t chunk)
{
	return shelf.there[chunk];
}

int __wrap_cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes)
{
	uint64_t left = shelf.size - chunk * CHUNK;

	shelf.publishes++;
	if (shelf.on_publish)
		shelf.on_publish(chunk);
	if (shelf.refused == UINT64_MAX || shelf.refused == chunk)
		return -ENOSPC;
	memcpy(shelf.bytes + chunk * CHUNK, bytes, left < CHUNK ? (size_t)left : CHUNK);
	shelf.there[chunk] = true;
	return 0;
}

void __wrap_cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n)
{
	uint64_t i;

	shelf.drops++;
	for (i = off / CHUNK; !shelf.undroppable && i * CHUNK < off + n; i++)
		shelf.there[i] = shelf.unreadable[i] = false;
}

uint64_t __wrap_cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count,
				 unsigned rank)
{
	uint64_t n;

	for (n = 0; n < count && shelf.claims[rank][first + n] != OTHERS; n++) {
		assert_int_equal(shelf.claims[rank][first + n], NOBODY);
		shelf.claims[rank][first + n] = OURS;
	}
	return n;
}

void __wrap_cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank)
{
	uint64_t i;

	for (i = first; i < first + count; i++) {
		assert_int_equal(shelf.claims[rank][i], OURS);
		shelf.claims[rank][i] = NOBODY;
	}
}

enum cache_state __wrap_cache_blob_state(const struct cache_blob *b)
{
	return shelf.state;
}

bool __wrap_cache_blob_is_sealed(const struct cache_blob *b)
{
	return shelf.sealed;
}

uint64_t __wrap_cache_blob_bad_chunks(const struct cache_blob *b)
{
	return shelf.bad_chunks;
}

bool __wrap_cache_blob_is_filling(const struct cache_blob *b)
{
	return !shelf.idle;
}

bool __wrap_cache_blob_has_map(const struct cache_blob *b)
{
	return shelf.has_map;
}

/* The chunks that are there, as "0-2,5"; "": none. */
static inline const char *shelved(void)
{
	static char text[256];
	size_t at = 0;
	unsigned i, end;

	text[0] = '\0';
	for (i = 0; i < SHELF; i = end + 1) {
		for (end = i; end < SHELF && shelf.there[end]; end++)
			;
		if (end == i)
			continue;
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%u", at ? "," : "", i);
		if (end > i + 1)
			at += (size_t)snprintf(text + at, sizeof text - at, "-%u", end - 1);
	}
	return text;
}

/* ---- the clock: the stage's, but who waits lets something happen ---- */

static void (*on_wait)(unsigned times, uint64_t until);
static unsigned waits;
static uint64_t slept[64]; /* ms */
static unsigned sleeps;
static void (*on_sleep)(unsigned times);

static uint64_t lib_now_us(void)
{
	return stage.now_us;
}

static int64_t lib_date(void)
{
	return 1800000000;
}

static void lib_sleep(uint64_t ms)
{
	if (sleeps < sizeof slept / sizeof *slept)
		slept[sleeps] = ms;
	stage.now_us += ms * 1000;
	if (on_sleep)
		on_sleep(sleeps);
	if (++sleeps > 10000)
		fail_msg("sleeps without an end");
}

enum { CONDS = 4096 };

static const pthread_cond_t *made_conds[CONDS]; /* of this scene */
static unsigned made_cond_count;
static const pthread_cond_t *awaited_cond;
static bool was_woken;

void __real_clock_init_cond(pthread_cond_t *c);
void __wrap_clock_init_cond(pthread_cond_t *c);

void __wrap_clock_init_cond(pthread_cond_t *c)
{
	made_conds[made_cond_count++ % CONDS] = c;
	__real_clock_init_cond(c);
}

static bool is_made(const pthread_cond_t *c)
{
	unsigned i;

	for (i = 0; i < CONDS && made_conds[i] != c; i++)
		;
	return i < CONDS;
}

/* Something happens until it is woken, or its time has come: never earlier, as it might. */
static void lib_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	assert_true(is_made(c));
	awaited_cond = c;
	was_woken = false;
	do {
		if (!on_wait || waits > 1000)
			fail_msg("waits, and nothing will happen");
		pthread_mutex_unlock(lock);
		on_wait(waits++, until_ms);
		pthread_mutex_lock(lock);
	} while (!was_woken && stage.now_us / 1000 < until_ms);
	awaited_cond = NULL;
}

static void lib_wake(pthread_cond_t *c)
{
	was_woken = was_woken || c == awaited_cond;
}

static uint32_t lib_chance(void)
{
	return 0;
}

static const struct clock_ops lib_clock = {
	.now_us = lib_now_us,
	.date = lib_date,
	.sleep_ms = lib_sleep,
	.wait = lib_wait,
	.wake = lib_wake,
	.chance = lib_chance,
};

/* ---- the blob ---- */

static struct endpoint_list places;
static struct queue *queue;
static struct source *source;
static struct blob *blob;
static struct stats_group *group;
static char last_warning[512];

static void note_warning(enum log_level level, const char *line)
{
	if (level == LOG_WARNING)
		snprintf(last_warning, sizeof last_warning, "%s", line);
}

struct scene {
	uint64_t size; /* bytes */
	unsigned places, connections; /* 0: one; 4 */
	unsigned timeout; /* s */
	bool bare; /* without a cache */
	const char *digest; /* NULL: no matter which */
	uint64_t retry_for; /* ms, 0: for ever */
};

static void on_login_done(struct request *q, int r, const struct err *e)
{
	assert_int_equal(r, 0);
}

/* The first request finds out that no login is wanted; others would wait for it. */
static void log_in(void)
{
	struct request q = { .queue = queue,
			     .method = "GET",
			     .path = "/manifests/x",
			     .retry_until = CLOCK_NEVER,
			     .rather = ENDPOINTS_MAX,
			     .done = on_login_done };

	atomic_init(&q.deadline, CLOCK_NEVER);
	request_submit(&q);
	stage_answer(stage_next(), "200|Content-Length: 0", 0, 0);
	request_release(&q);
}

static inline void open_scene(const struct scene *s)
{
	static char first[] = "https://e0.test", second[] = "https://e1.test";
	char *mirrors[] = { first, second }, name[] = "e0.test/img";
	struct fetch_settings settings = { .mirrors = mirrors };
	struct blob_options o = { .cache = s->bare ? NULL : (struct cache *)&shelf,
				  .origin = "https://e0.test/img",
				  .digest = s->digest ? s->digest : "sha256:x",
				  .size = s->size,
				  .timeout = s->timeout };
	struct reference ref;

	memset(&shelf, 0, sizeof shelf);
	memset(made_conds, 0, sizeof made_conds);
	made_cond_count = 0;
	shelf.size = s->size;
	shelf.refused = SHELF;
	stage_open();
	clock_use(&lib_clock);
	log_set_sink(note_warning);
	last_warning[0] = '\0';
	on_wait = NULL;
	on_sleep = NULL;
	waits = sleeps = 0;
	*caller() = (struct caller){ 0 };
	settings.mirror_count = s->places ? s->places - 1 : 0;
	name[1] = (char)('0' + settings.mirror_count);
	assert_int_equal(reference_parse(name, &ref, NULL), 0);
	assert_int_equal(endpoint_list_open(stage.http, &ref, &settings, false, &places, NULL), 0);
	reference_release(&ref);
	assert_int_equal(
		queue_open(stage.http, &places, s->connections ? s->connections : 4, &queue, NULL),
		0);
	assert_int_equal(stats_group_open("img", &group, NULL), 0);
	assert_int_equal(stats_group_add_layer(group, "layer", &o.stats, NULL), 0);
	o.queue = queue;
	o.retry_until = s->retry_for ? clock_ms() + s->retry_for : CLOCK_NEVER;
	assert_int_equal(blob_open(&o, &source, NULL), 0);
	blob = blob_of(source);
	log_in();
}

static void close_scene(void)
{
	on_wait = NULL;
	queue_shut(queue);
	source_close(source);
	assert_true(shelf.closed); /* nothing holds the blob any more */
	queue_close(queue);
	endpoint_list_close(&places);
	stats_group_close(group);
	stage_close();
	log_set_sink(leftovers_sink);
}

/* ---- answers ---- */

/* The headers of a part, of `n` bytes (0: all that was asked for). */
static inline void head(struct http_exchange *x, uint64_t n)
{
	char lines[100];

	assert_non_null(x);
	snprintf(lines, sizeof lines, "206|Content-Range: bytes %d-%d/%d", (int)x->first,
		 (int)(n ? x->first + n - 1 : x->last), (int)blob->source.size);
	assert_true(stage_head(x, lines));
}

/* A good answer, or its first n bytes and then the end `r`. */
static inline void answer(struct http_exchange *x, uint64_t n, int r)
{
	uint64_t all = x->last - x->first + 1;

	head(x, r < 0 ? 0 : n);
	assert_true(stage_bytes(x, x->first, (size_t)(n ? n : all)));
	stage_end(x, r);
	stage_run();
}

/* What is asked for at the moment, in chunks, as "0-3 8-11", in the order of the beginning. */
static inline const char *asked(void)
{
	static char text[512];
	size_t at = 0;
	unsigned i;

	stage_run();
	text[0] = '\0';
	for (i = 0; i < stage.count; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%d-%d", i ? " " : "",
				       (int)(stage.running[i]->first / CHUNK),
				       (int)(stage.running[i]->last / CHUNK));
	return text;
}

/* Answers all that is asked for, however long it takes, until nothing is. */
static inline void answer_all(void)
{
	stage_run();
	while (stage.count > 0)
		answer(stage.running[0], 0, 0);
}

/* All that is known of who gave what. */
static inline void set_origin(uint64_t first, uint64_t end, uint32_t given)
{
	blob->given[0] = (struct origin){ first, end, given, false };
	blob->given_next = given ? 1 : 0;
}

/* ---- flights ---- */

/* A flight over chunks [first, end), with a reference of ours. */
static inline struct flight *make_flight(uint64_t first, uint64_t end,
					 enum request_priority priority)
{
	struct request *made = NULL;
	struct flight *f;

	pthread_mutex_lock(&blob->lock);
	assert_int_equal(flight_make_locked(blob, first, end, 0, priority, &made), 0);
	f = flight_find_locked(blob, first);
	flight_ref_locked(f);
	pthread_mutex_unlock(&blob->lock);
	flight_submit(made);
	return f;
}

static inline void leave_flight(struct flight *f)
{
	pthread_mutex_lock(&blob->lock);
	flight_unref_locked(f);
	pthread_mutex_unlock(&blob->lock);
}

static inline void check_bytes(const uint8_t *bytes, uint64_t off, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (bytes[i] != stage_byte(off + i))
			fail_msg("byte %zu is wrong", (size_t)off + i);
}

/* ---- reads ---- */

static uint8_t buf[64 * CHUNK];
static struct err why;

static inline int read_at(uint64_t off, size_t n)
{
	memset(buf, 0, n);
	why.msg[0] = '\0';
	return source_pread(source, buf, n, off, &why);
}

static inline void check_read(uint64_t off, size_t n)
{
	int r = read_at(off, n);

	if (r < 0)
		fail_msg("%s", why.msg);
	check_bytes(buf, off, n);
}

static inline uint64_t count_of(enum stats_count which)
{
	return stats_get(blob->stats, which);
}

/* What may happen while it waits. */

static inline void all_comes(unsigned times, uint64_t until)
{
	answer_all();
}

static inline void nothing_is_there(unsigned times, uint64_t until)
{
	stage_answer(stage_next(), "404", 0, 0);
}

static inline void shuts(unsigned times, uint64_t until)
{
	queue_shut(queue);
}

#endif
