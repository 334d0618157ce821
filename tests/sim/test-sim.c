/* SPDX-License-Identifier: Apache-2.0 */
/* test-sim.c - the engine of fetch/ in worlds that a seed makes: readers, servers of every manner,
 * other processes on the cache, a clock that jumps.
 *
 *   test-sim              the seeds of ./check, or with FULL=1 a million
 *   test-sim SEED         that one, with its schedule
 *   test-sim FIRST COUNT  so many from there on; a seed that fails is repeated with its schedule,
 *                         unless a third argument is given
 *
 * In the first part of a run servers and processes do what they like; then the world is well again;
 * then all is closed.  What must hold:
 * (1) A read gives right bytes, or an error that has a text, by its deadline and GRACE.
 * (2) Who waits will be woken: nobody waits while nothing is under way and no time is set.
 * (3) What is published to the cache is right.
 * (4) What one try left behind does not spoil the next: (1) and (3) hold for all of them.
 * (5) Once the world is well, each read succeeds within WELL_MS, counted from the end of the pauses
 *     that were begun before: a request's rest, a Retry-After, a renewal of a login.
 * (6) In the end all is closed: no exchange, claim or blob is left, nor memory (under ASan).
 * (7) A read takes no error while one place is well from its beginning to its end, but that its
 *     time is over; and it does not wait for more than FAIL_OVER_MS.
 * (8) A read does not succeed while the whole is known to be wrong, and is right while the whole is
 *     known to be right.
 * (9) All that is read for one request of a client has one deadline.
 * (10) What rotted on the cache's disk is read for no longer than verify-cache= allows, and not
 *     once more after a reader has dropped it.
 * (11) No blob is called wrong of which nobody has lied, whatever the disk does.
 * Where a well-formed liar is among the places, a reader finds wrong bytes by itself, as zfile
 * does, drops them, and reads again: that must not fail while another place is well. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/caller.h"
#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "fetch/endpoint.h"
#include "fetch/flight.h"
#include "fetch/request.h"
#include "tests/sim/fibers.h"
#include "tests/sim/net.h"
#include "tests/sim/rival.h"
#include "tests/sim/shelf.h"

enum {
	SEEDS = 5000,
	SEEDS_FULL = 1000 * 1000,
	SLOWER = 10, /* times fewer under AddressSanitizer */
	READERS_MAX = 4,
	READ_MAX = 24 * CACHE_CHUNK,
	BLOCK = 6000, /* what can be checked is read by itself, and all of it comes from one place
		       */
	GRACE_MS = 250 + 100, /* blob.c's, and what the model takes */
	WELL_MS = 2000,
	SETTLING_MS = 100, /* in which all that the healing has cut is at rest or on its way */
	LOGIN_MS = 7000, /* the longest pause of auth.c */
	FAIL_OVER_MS = 100 * 1000, /* in which each place that is not well has been given up */
	FILL_MS = 5000, /* the longest rest of a request that only a fill waits for */
	SHUTDOWN_MS = 1000,
	REVOKE_US = 5000 * 1000,
};

struct reader {
	unsigned fiber, number;
	uint8_t *buf;
	/* The read under way. */
	bool busy, fills;
	uint64_t begun, stood; /* us; what the process had stood still by then */
	uint64_t limit_ms; /* by which it must have ended; CLOCK_NEVER */
	struct blob *blob;
	bool done; /* with the first part */
};

static struct {
	uint64_t seed;
	bool brief;
	struct http *http;
	struct endpoint_list endpoints;
	struct queue *queue;
	struct source *blobs[NET_BLOBS];
	struct reader readers[READERS_MAX];
	unsigned reader_count, reads, timeout;
	bool cached, real, opening, stops, hints, falls, interrupts, rots;
	uint32_t recheck; /* s */
	uint64_t rotted[NET_BLOBS][SHELF_CHUNKS]; /* us; when it last was; 0: never */
	uint64_t well_at; /* ms; CLOCK_NEVER: not yet */
	uint64_t well_limit; /* ms: by then what waits must have ended */
	uint64_t interrupted_at; /* ms; CLOCK_NEVER */
	uint64_t revoked_at; /* us; when a token last was */
} w;

/* ---- failing ---- */

static void fail_run(const char *why)
{
	char seed[32];

	printf("seed %" PRIu64 ": %s\n", w.seed, why);
	fflush(stdout);
	if (fibers_traced || w.brief)
		_exit(1);
	snprintf(seed, sizeof seed, "%" PRIu64, w.seed);
	execl("/proc/self/exe", "test-sim", seed, (char *)NULL);
	_exit(1);
}

static void on_abort(int signal)
{
	fail_run("aborted");
}

static void fail_read(const struct reader *rd, const char *why, int r, const char *text)
{
	char line[1400];

	snprintf(line, sizeof line, "%s: reader %u, after %" PRIu64 " ms, timeout=%u: %s%s%s", why,
		 rd->number, (fibers_now() - rd->begun) / 1000, w.timeout,
		 r < 0 ? strerror(-r) : "", r < 0 ? ": " : "", text);
	fail_run(line);
}

static void take_line(enum log_level level, const char *line)
{
	fibers_trace("log: %s", line);
}

/* ---- what must hold while it runs ---- */

static uint64_t stood_ms(const struct reader *rd)
{
	return (fibers_stood() - rd->stood) / 1000;
}

/* Pauses that were begun before the world was well, or because of what its healing has cut. */
static void note_pauses(void)
{
	uint64_t now = fibers_now() / 1000;
	unsigned i;
	size_t k;

	if (now > w.well_at + SETTLING_MS)
		return;
	for (k = 0; k < w.endpoints.count; k++)
		w.well_limit = max_u64(w.well_limit, w.endpoints.items[k].asked_until + WELL_MS);
	for (i = 0; i < net.blob_count; i++) {
		struct flight *f;

		for (f = ((struct blob *)w.blobs[i])->flights; f; f = f->next)
			if (f->request.state == REQUEST_RESTING)
				w.well_limit =
					max_u64(w.well_limit, f->request.timer.due + WELL_MS);
	}
}

/* From the beginning of a read on, some place that tells the truth has been well. */
static bool some_place_stayed_well(const struct reader *rd)
{
	bool healed = w.well_at != CLOCK_NEVER && rd->begun / 1000 > w.well_at;
	unsigned i;

	for (i = 0; i < net.place_count; i++) {
		const struct net_place *p = &net.places[i];

		if (!p->liar && p->well && (healed || !p->fallen))
			return true;
	}
	return false;
}

/* A liar was there, and the cache may have condemned all that the blob had. */
static bool was_wrong_whole(const struct reader *rd)
{
	unsigned i;

	for (i = 0; i < net.blob_count; i++)
		if (w.blobs[i] == &rd->blob->source && net.lied && w.cached)
			return true;
	return false;
}

static void check_limits(void)
{
	uint64_t now = fibers_now() / 1000;
	unsigned i;

	for (i = 0; i < w.reader_count; i++) {
		struct reader *rd = &w.readers[i];
		uint64_t well = max_u64(w.well_limit, rd->begun / 1000 + WELL_MS) + stood_ms(rd) +
				(rd->fills ? FILL_MS : 0);

		if (!rd->busy)
			continue;
		if (rd->limit_ms != CLOCK_NEVER && now > rd->limit_ms + stood_ms(rd))
			fail_read(rd, "(1) a read is late", 0, "");
		if (w.interrupted_at != CLOCK_NEVER) {
			if (now > max_u64(w.interrupted_at, rd->begun / 1000) + SHUTDOWN_MS +
					  stood_ms(rd))
				fail_read(rd, "(1) a read does not end at shutdown", 0, "");
		} else if (w.well_at != CLOCK_NEVER && !was_wrong_whole(rd) && now > well) {
			fail_read(rd, "(5) the world is well, and a read waits", 0, "");
		} else if (some_place_stayed_well(rd) && !rd->fills &&
			   now > rd->begun / 1000 + FAIL_OVER_MS + stood_ms(rd)) {
			fail_read(rd, "(7) one place is well, and a read waits", 0, "");
		}
	}
}

/* Some token does not count any more; not so soon after the last that none could be used. */
static void revoke_token(void)
{
	if (fibers_now() < w.revoked_at + REVOKE_US)
		return;
	w.revoked_at = fibers_now();
	net.places[fibers_below(net.place_count)].token++;
}

static void let_others_act(void)
{
	if (shelf.others && w.real)
		rival_act();
	else if (shelf.others)
		shelf_disturb();
}

static void rot(void)
{
	uint64_t chunk;
	unsigned b = rival_rot(&chunk);

	if (b < NET_BLOBS)
		w.rotted[b][chunk] = fibers_now();
}

/* What happens to the world, between any two steps. */
static void disturb(void)
{
	unsigned i;

	if (w.cached && !w.real && fibers_one_in(32))
		shelf_judge();
	if (w.well_at != CLOCK_NEVER)
		return;
	if (fibers_one_in(32))
		let_others_act();
	if (w.falls && fibers_one_in(100)) {
		i = fibers_below(net.place_count);
		fibers_trace("place %u falls ill", i);
		net.places[i].well = false;
		net.places[i].fallen = true;
	}
	if (w.stops && fibers_one_in(200)) {
		fibers_stand_still((1 + fibers_below(fibers_one_in(2) ? 12 : 40)) * 1000 * 1000);
		for (i = 0; i < 3; i++)
			let_others_act(); /* who did not stand still */
	}
	if (fibers_one_in(200))
		revoke_token();
	if (w.rots && fibers_one_in(50))
		rot();
}

static void check_verdicts(void)
{
	unsigned i;

	for (i = 0; i < net.blob_count; i++)
		if (cache_blob_state(((struct blob *)w.blobs[i])->cache) == CACHE_WRONG)
			fail_run("(11) nobody has lied, and a blob is called wrong");
}

static void watch(void)
{
	disturb();
	if (w.well_at != CLOCK_NEVER)
		note_pauses();
	check_limits();
	if (w.real && !net.lied)
		check_verdicts();
}

/* ---- reading ---- */

static bool some_place_lies(void)
{
	unsigned i;

	for (i = 0; i < net.place_count; i++)
		if (net.places[i].liar)
			return true;
	return false;
}

static void begin_read(struct reader *rd, struct source *s)
{
	rd->begun = fibers_now();
	rd->stood = fibers_stood();
	rd->limit_ms = w.timeout ? rd->begun / 1000 + w.timeout * 1000 + GRACE_MS : CLOCK_NEVER;
	if (caller()->deadline)
		rd->limit_ms = caller()->deadline == CLOCK_NEVER
				       ? CLOCK_NEVER
				       : max_u64(caller()->deadline, rd->begun / 1000) + GRACE_MS;
	rd->blob = (struct blob *)s;
	rd->fills = false;
	rd->busy = true;
}

/* Its time was over, or opening's. */
static bool was_short(const struct reader *rd, int r)
{
	if (r == -ETIMEDOUT && caller()->deadline)
		return true;
	return r == -ETIMEDOUT && ((w.timeout > 0 && w.timeout <= 15) || w.opening || w.stops);
}

static void judge_error(const struct reader *rd, bool was_well, int r, const struct err *e)
{
	if (e->msg[0] == '\0' || strstr(e->msg, "after 0 tries"))
		fail_read(rd, "(1) an error that says nothing", r, e->msg);
	if (r == -ENOMEM)
		fail_read(rd, "(1) there is memory", r, e->msg);
	if (w.interrupted_at != CLOCK_NEVER)
		return;
	if (r == -ESHUTDOWN)
		fail_read(rd, "(1) nobody shuts down", r, e->msg);
	if (was_wrong_whole(rd) || was_short(rd, r))
		return;
	if (w.well_at != CLOCK_NEVER && rd->begun / 1000 > w.well_at)
		fail_read(rd, "(5) the world is well, and a read fails", r, e->msg);
	if (was_well)
		fail_read(rd, "(7) one place is well, and a read fails", r, e->msg);
}

/* The cache's verdict on the whole was the same all the time. */
static void judge_by_verdict(const struct reader *rd, const struct shelf_blob *s, bool whole,
			     bool right)
{
	if (s->state == CACHE_WRONG)
		fail_read(rd, "(8) the whole is wrong, and a read succeeds", 0, "");
	if (s->state == CACHE_WHOLE && whole && shelf_is_whole(s) && !right)
		fail_read(rd, "(8) the whole is right, and a read gives wrong bytes", 0, "");
}

static int read_once(struct reader *rd, unsigned b, size_t n, uint64_t off, struct err *e)
{
	const struct shelf_blob *s = &shelf.blobs[b];
	enum cache_state state = s->state;
	bool whole = shelf_is_whole(s);
	unsigned verdicts = s->verdicts;
	int r;

	e->msg[0] = '\0';
	begin_read(rd, w.blobs[b]);
	fibers_trace("reads blob %u, %zu bytes at %" PRIu64, b, n, off);
	r = source_pread(w.blobs[b], rd->buf, n, off, e);
	rd->busy = false;
	fibers_trace("has read: %d %s", r, r < 0 ? e->msg : "");
	if (r == 0 && state == s->state && s->verdicts == verdicts)
		judge_by_verdict(rd, s, whole, memcmp(rd->buf, s->truth->bytes + off, n) == 0);
	if (r < 0)
		judge_error(rd, some_place_stayed_well(rd), r, e);
	return r;
}

/* It came in between, and cut what the place that was well had begun to send. */
static bool was_healed_since(const struct reader *rd)
{
	return w.well_at != CLOCK_NEVER && rd->begun / 1000 <= w.well_at;
}

/* When some chunk of the range last rotted; 0: never.  us. */
static uint64_t rotted_at(unsigned b, size_t n, uint64_t off)
{
	uint64_t chunk, last = 0;

	for (chunk = off / CACHE_CHUNK; chunk * CACHE_CHUNK < off + n; chunk++)
		last = max_u64(last, w.rotted[b][chunk]);
	return last;
}

/* Wrong bytes that are bought by not checking; the cache counts whole seconds. */
static bool may_be_rotten(const struct reader *rd, unsigned b, size_t n, uint64_t off)
{
	uint64_t at = rotted_at(b, n, off);

	if (at == 0 || w.recheck == 0)
		return false;
	return w.recheck == CACHE_RECHECK_NEVER ||
	       rd->begun < at + (w.recheck + (uint64_t)1) * 1000 * 1000;
}

static int read_some(struct reader *rd)
{
	unsigned b = fibers_below(net.blob_count);
	uint64_t size = net.blobs[b].size, off = fibers_below((uint32_t)size);
	size_t n = 1 + fibers_below((uint32_t)min_u64(size - off, READ_MAX));
	const uint8_t *truth = net.blobs[b].bytes;
	uint64_t dropped;
	unsigned again;
	struct err e;
	int r;

	if (fibers_one_in(4))
		off = 0;
	if (some_place_lies())
		n = (size_t)min_u64(min_u64(n, BLOCK), CACHE_CHUNK - off % CACHE_CHUNK);
	r = read_once(rd, b, n, off, &e);
	if (r < 0 || memcmp(rd->buf, truth + off, n) == 0)
		return r;
	if (!net.lied && rotted_at(b, n, off) == 0)
		fail_read(rd, "(1) wrong bytes", 0, "");
	if (!net.lied && !may_be_rotten(rd, b, n, off))
		fail_read(rd, "(10) what rotted is read", 0, "");
	for (again = 0; again < SOURCE_RETRIES; again++) {
		dropped = fibers_now();
		source_drop(w.blobs[b], off, n);
		r = read_once(rd, b, n, off, &e);
		if (r < 0 || memcmp(rd->buf, truth + off, n) == 0)
			return r;
		if (!net.lied && rotted_at(b, n, off) < dropped)
			fail_read(rd, "(10) what rotted was dropped, and is read again", 0, "");
	}
	if (rotted_at(b, n, off) >= dropped)
		return r; /* it did so once more */
	if (some_place_stayed_well(rd) && !was_healed_since(rd))
		fail_read(rd, "(1) wrong bytes again, although another place is well", 0, "");
	return r;
}

static void fill_some(struct reader *rd)
{
	unsigned b = fibers_below(net.blob_count);
	uint64_t size = net.blobs[b].size, off = fibers_below((uint32_t)size);
	struct err e;

	begin_read(rd, w.blobs[b]);
	rd->limit_ms = CLOCK_NEVER;
	rd->fills = true;
	fibers_trace("fills blob %u from %" PRIu64, b, off);
	(void)blob_fill((struct blob *)w.blobs[b], off, size - off, &e);
	rd->busy = false;
	fibers_trace("has filled");
}

static void hint(void)
{
	unsigned b = fibers_below(net.blob_count);
	uint64_t size = net.blobs[b].size, off = fibers_below((uint32_t)size);
	uint64_t n = 1 + fibers_below((uint32_t)(size - off));

	/* Where somebody lies, none but he is blamed. */
	switch (fibers_below(some_place_lies() ? 2 : 3)) {
	case 0:
		source_prefetch(w.blobs[b], off, n);
		break;
	case 1:
		source_want(w.blobs[b], off, n);
		break;
	default:
		source_drop(w.blobs[b], off, n);
		break;
	}
}

/* One request of a client, for which several layers are read. */
static void read_layers(struct reader *rd)
{
	uint64_t before = caller_begin(w.timeout);
	unsigned i;

	for (i = 0; i < 3 && read_some(rd) == 0; i++)
		;
	caller_end(before);
}

static void act(struct reader *rd)
{
	if (w.hints && fibers_one_in(3))
		hint();
	if (w.hints && fibers_one_in(8))
		fill_some(rd);
	if (fibers_one_in(6))
		read_layers(rd);
	else
		(void)read_some(rd);
	if (fibers_one_in(2))
		clock_sleep(fibers_below(fibers_one_in(3) ? 5000 : 50));
}

/* Fetches that were begun while opening may end early. */
static bool some_flight_is_opening(void)
{
	unsigned i;

	for (i = 0; i < net.blob_count; i++) {
		const struct flight *f;

		for (f = ((struct blob *)w.blobs[i])->flights; f; f = f->next)
			if (!f->done && f->request.retry_until != CLOCK_NEVER)
				return true;
	}
	return false;
}

static void *run_reader(void *arg)
{
	struct reader *rd = arg;
	unsigned i;

	for (i = 0; i < w.reads && w.well_at == CLOCK_NEVER && w.interrupted_at == CLOCK_NEVER; i++)
		act(rd);
	rd->done = true;
	fibers_wake(&w.readers);
	while (w.well_at == CLOCK_NEVER && w.interrupted_at == CLOCK_NEVER)
		fibers_wait(&w.well_at, UINT64_MAX);
	while (some_flight_is_opening())
		clock_sleep(5);
	for (i = 0; i < 2 && w.interrupted_at == CLOCK_NEVER; i++)
		act(rd);
	return NULL;
}

/* ---- a world ---- */

static void make_place(struct net_place *p, bool registry)
{
	static const unsigned latencies[] = { 1000, 20 * 1000, 300 * 1000, 4000 * 1000 };
	unsigned i, kind = fibers_below(net_kind_count);

	p->well = fibers_one_in(2);
	p->fallen = !p->well;
	for (i = 0; i < NET_KINDS; i++)
		p->kinds[i] = fibers_one_in(2) ? kind : fibers_below(net_kind_count);
	p->sick_in = 1 + fibers_below(3);
	p->latency = p->well ? latencies[fibers_below(2)] : latencies[fibers_below(4)];
	if (fibers_one_in(4))
		p->auth = registry && fibers_one_in(2) ? NET_BASIC : NET_BEARER;
	p->login_refused = !p->well && fibers_one_in(3);
	net.login_trouble = net.login_trouble || (p->auth != NET_OPEN && !p->well);
	p->redirects = fibers_one_in(4);
	p->stars = fibers_one_in(4);
	p->sends_whole = fibers_one_in(4);
}

static void make_world(void)
{
	static const unsigned timeouts[] = { 0, 5, 15, 60 };
	static const uint32_t rechecks[] = { 0, 1, 5, 60, CACHE_RECHECK_NEVER };
	unsigned i;

	net_reset();
	net.place_count = 1 + fibers_below(NET_PLACES);
	net.blob_count = fibers_one_in(4) ? 2 : 1;
	for (i = 0; i < net.blob_count; i++)
		net.blobs[i] = net_truths[i * NET_TRUTHS / 2 + fibers_below(NET_TRUTHS / 2)];
	if (fibers_one_in(6))
		net.blobs[0] = net_truths[NET_TRUTHS - 1];
	if (net.blobs[0].digest == net.blobs[1].digest)
		net.blob_count = 1;
	for (i = 0; i < net.place_count; i++)
		make_place(&net.places[i], i == net.place_count - 1);
	if (fibers_one_in(8)) {
		struct net_place *p = &net.places[fibers_below(net.place_count)];

		p->liar = p->well = true;
	}
	shelf_reset();
	w.timeout = timeouts[fibers_below(4)];
	w.cached = !fibers_one_in(4);
	w.real = w.cached && fibers_one_in(6);
	w.opening = fibers_one_in(4);
	w.stops = fibers_one_in(4);
	w.hints = fibers_one_in(3);
	w.falls = fibers_one_in(4);
	w.interrupts = fibers_one_in(16);
	w.rots = w.real && fibers_one_in(2);
	w.recheck = rechecks[fibers_below(5)];
	memset(w.rotted, 0, sizeof w.rotted);
	shelf.others = w.cached && fibers_one_in(3);
	w.reader_count = 1 + fibers_below(READERS_MAX);
	w.reads = 1 + fibers_below(3);
	w.revoked_at = 0;
	w.well_at = w.well_limit = w.interrupted_at = CLOCK_NEVER;
}

static void trace_world(void)
{
	unsigned i;

	fibers_trace("timeout=%u, cache: %s, %s%s%s%s", w.timeout,
		     w.real	? "real"
		     : w.cached ? "a model"
				: "none",
		     shelf.others ? "with others, " : "", w.rots ? "rots, " : "",
		     w.opening ? "opening, " : "", w.interrupts ? "to be interrupted" : "");
	for (i = 0; i < net.blob_count; i++)
		fibers_trace("blob %u: %" PRIu64 " bytes", i, net.blobs[i].size);
	for (i = 0; i < net.place_count; i++) {
		const struct net_place *p = &net.places[i];

		fibers_trace("place %u: %s%s%s%s%s", i,
			     p->well ? "well" : net_kind_name(p->kinds[0]), p->liar ? ", lies" : "",
			     p->redirects ? ", redirects" : "",
			     p->auth == NET_BEARER  ? ", tokens"
			     : p->auth == NET_BASIC ? ", passwords"
						    : "",
			     p->login_refused ? ", refuses logins" : "");
	}
}

static void must(int r, const struct err *e)
{
	if (r < 0)
		fail_run(e->msg);
}

static void open_world(void)
{
	static const unsigned connections[] = { 1, 2, 4, 16 };
	static char first[] = "https://e0.test", second[] = "https://e1.test";
	char *mirrors[] = { first, second };
	char name[] = "e0.test/img", user[] = "user", password[] = "secret";
	struct fetch_settings settings = { .mirrors = mirrors,
					   .mirror_count = net.place_count - 1,
					   .user = user,
					   .password = password };
	struct blob_options options = { .origin = "o", .timeout = w.timeout };
	struct reference ref;
	struct err e;
	unsigned i;

	name[1] = (char)('0' + net.place_count - 1);
	must(reference_parse(name, &ref, &e), &e);
	must(http_open_on(&net_transport, NULL, &w.http, &e), &e);
	must(endpoint_list_open(w.http, &ref, &settings, false, &w.endpoints, &e), &e);
	reference_release(&ref);
	must(queue_open(w.http, &w.endpoints, connections[fibers_below(4)], &w.queue, &e), &e);
	must(http_start(w.http, &e), &e);
	options.queue = w.queue;
	options.cache = w.real ? rival_open(w.recheck) : w.cached ? shelf_cache() : NULL;
	options.retry_until = w.opening ? clock_ms() + fibers_below(15000) : CLOCK_NEVER;
	for (i = 0; i < net.blob_count; i++) {
		options.digest = net.blobs[i].digest;
		options.size = net.blobs[i].size;
		must(blob_open(&options, &w.blobs[i], &e), &e);
	}
}

static void close_world(void)
{
	unsigned i;

	for (i = 0; i < w.reader_count; i++)
		fibers_join(w.readers[i].fiber);
	fibers_watch(NULL); /* nobody waits, and what it looks at goes */
	if (fibers_one_in(2))
		queue_shut(w.queue);
	for (i = 0; i < net.blob_count; i++)
		source_close(w.blobs[i]);
	queue_close(w.queue);
	http_stop(w.http);
	endpoint_list_close(&w.endpoints);
	http_close(w.http);
	shelf_check_closed();
	shelf.others = false;
	if (w.real)
		rival_close();
	if (net.running > 0)
		fail_run("(6) an exchange was left behind");
}

static bool all_are_done(void)
{
	unsigned i;

	for (i = 0; i < w.reader_count; i++)
		if (!w.readers[i].done)
			return false;
	return true;
}

/* Until the first part is over: a time, or when all readers have read what they wanted. */
static void await_well(uint64_t until)
{
	while (fibers_now() < until && !all_are_done())
		fibers_wait(&w.readers, until);
}

static void heal(void)
{
	unsigned i;

	for (i = 0; i < net.blob_count; i++)
		blob_opened((struct blob *)w.blobs[i]);
	shelf_calm();
	if (w.real)
		rival_calm();
	net_heal();
	w.well_at = fibers_now() / 1000;
	w.well_limit = w.well_at + WELL_MS + (net.login_trouble ? LOGIN_MS : 0);
	note_pauses();
	fibers_wake(&w.well_at);
	clock_sleep(SETTLING_MS / 2); /* for watch to see what has come to rest */
	clock_sleep(SETTLING_MS / 2 - 1);
}

static void *run_world(void *arg)
{
	static const unsigned seconds[] = { 1, 5, 20, 60, 200 };
	unsigned i;

	make_world();
	trace_world();
	open_world();
	fibers_watch(watch);
	if (fibers_one_in(4))
		blob_ask_for_ends((struct blob *)w.blobs[0]);
	for (i = 0; i < w.reader_count; i++) {
		struct reader *rd = &w.readers[i];

		rd->number = i;
		rd->busy = rd->done = false;
		rd->fiber = fibers_start(run_reader, rd);
	}
	await_well(fibers_now() + fibers_below(seconds[fibers_below(5)] * 1000 * 1000));
	if (w.interrupts) {
		fibers_trace("interrupted");
		w.interrupted_at = fibers_now() / 1000;
		http_interrupt(w.http);
		fibers_wake(&w.well_at);
	} else {
		heal();
	}
	close_world();
	return NULL;
}

/* ---- all of them ---- */

static void run_seed(uint64_t seed)
{
	w.seed = seed;
	fibers_run(seed, run_world, NULL);
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : argc > 1 ? 1 : SEEDS, seed;
	struct timespec begun, ended;
	double seconds;
	unsigned i;

	if (argc == 1 && getenv("FULL"))
		count = SEEDS_FULL;
	if (argc == 1 && fibers_slow)
		count /= SLOWER;
	fibers_traced = argc == 2;
	w.brief = argc > 3;
	fibers_fail = fail_run;
	signal(SIGABRT, on_abort);
	if (fibers_traced)
		setlinebuf(stdout);
	log_set_sink(take_line);
	setenv("HOME", "/nonexistent", 1); /* no credentials of ours */
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	mallopt(M_MMAP_THRESHOLD, 64 * 1024 * 1024); /* the kernel is slow at it */
	mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
	net_make_truths();
	for (i = 0; i < READERS_MAX; i++)
		w.readers[i].buf = malloc(READ_MAX);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (seed = first; seed < first + count; seed++)
		run_seed(seed);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	seconds = (double)(ended.tv_sec - begun.tv_sec) +
		  (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
	printf("%" PRIu64 " seeds from %" PRIu64 " on, %.0f seeds a second\n", count, first,
	       (double)count / seconds);
	return 0;
}
