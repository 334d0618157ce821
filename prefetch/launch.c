/* SPDX-License-Identifier: Apache-2.0 */
/* launch.c - see launch.h.
 *
 * (1) `lock` guards replays, clients, paused and ending.  Nothing blocks under it.
 * (2) `window` is held by whoever looks at the recording or ends it; `recording` goes from true to
 *     false once, under it.  It guards `trace` from launch_start on.  `lock` may be taken under it.
 */
#include "prefetch/launch.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/identity.h"
#include "prefetch/find.h"
#include "prefetch/record_path.h"
#include "prefetch/recorder.h"
#include "prefetch/replay.h"
#include "prefetch/store.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_import.h"
#include "prefetch/trace_paths.h"

enum {
	REPLAYS_MAX = 4, /* one of each kind */
	MISSES_DIVISOR = 5, /* a trace that lacks more than this part of the reads is mended */
	SCAN_DIVISOR = 2, /* more than this part of the data is no start-up */
};

#define TINY ((uint64_t)1 << 20) /* bytes; less is no start-up */

struct launch {
	const struct image_config *config;
	const struct fetch_trace *how;
	struct image *image;
	char identity[DIGEST_TEXT]; /* "": not needed */
	char *path; /* of our trace; NULL: none */
	bool in_store; /* it lies in the cache folder */
	bool uses_traces; /* of the image, if there are any */
	const char *reference_path; /* what recordTracePath names is in force; NULL: nothing */
	struct trace trace; /* what was there; without reads: nothing */
	struct recorder *recorder; /* NULL: none */
	atomic_bool recording;
	pthread_mutex_t window;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock;
	pthread_cond_t came; /* a client; or the end */
	struct replay *replays[REPLAYS_MAX];
	size_t replay_count;
	unsigned clients;
	bool paused, ending;
};

/* ---- keeping ---- */

static void save(struct launch *l, const struct trace *t)
{
	struct err e;
	int r = l->in_store ? store_make_folder(l->config->fetch.cache_dir, &e) : 0;

	if (r == 0)
		r = trace_save(t, l->path, &e);
	if (r < 0)
		log_warn("%s: the trace is not kept: %s", l->config->path, e.msg);
	else
		log_debug("%s: %zu reads kept in %s", l->config->path, t->count, l->path);
}

/* ---- replaying ---- */

static void run_locked(struct launch *l, struct replay *r)
{
	struct err e;

	if (replay_run(r, &e) < 0)
		log_warn("%s: replay: %s", l->config->path, e.msg);
}

static void add_replay(struct launch *l, const struct trace *t)
{
	struct replay *r;
	struct err e;

	if (replay_open(l->image, t, &r, &e) < 0) {
		log_warn("%s: replay: %s", l->config->path, e.msg);
		return;
	}
	WITH_LOCK(&l->lock);
	l->replays[l->replay_count++] = r;
	if (!l->paused)
		run_locked(l, r);
}

/* A trace that nothing else is done with.  `r` is how it was found.  Returns whether it was. */
static bool replay_found(struct launch *l, int r, struct trace *t, const struct err *e)
{
	if (r == 0) {
		add_replay(l, t);
		trace_release(t);
	} else if (r != -ENOENT && r != -ESHUTDOWN) {
		log_warn("%s: no replay: %s", l->config->path, e->msg);
	}
	return r == 0;
}

static void replay_paths(struct launch *l)
{
	const struct fetch_settings *s = &l->config->fetch;
	struct trace t;
	struct err e;
	int r;

	if (s->prefetch_count == 0)
		return;
	r = trace_from_paths(l->image, (const char *const *)s->prefetch, s->prefetch_count, NULL,
			     &t, &e);
	(void)replay_found(l, r, &t, &e);
}

static void replay_reference_path(struct launch *l)
{
	struct trace t;
	struct err e;
	int r = trace_import_file(l->reference_path, l->image, NULL, &t, &e);

	(void)replay_found(l, r, &t, &e);
}

/* Returns whether there is one. */
static bool replay_acceleration(struct launch *l)
{
	struct trace t;
	struct err e;
	int r = find_acceleration(l->image, l->config->fetch.trace.follows_paths, &t, &e);

	return replay_found(l, r, &t, &e);
}

/* Returns whether the server goes on. */
static bool await_client(struct launch *l)
{
	WITH_LOCK(&l->lock);
	while (l->clients == 0 && !l->ending)
		clock_wait(&l->came, &l->lock, CLOCK_NEVER);
	return !l->ending;
}

/* Whether the registry is worth a question. */
static bool may_be_pushed(const struct launch *l)
{
	return l->in_store && image_digest(l->image)[0] != '\0' &&
	       !store_was_asked(l->config->fetch.cache_dir, l->identity);
}

/* Asks the registry once somebody is there to read: an image that is only looked at costs nothing.
 * What it has is kept, so that the next start does not ask. */
static void replay_pushed(struct launch *l)
{
	struct trace t;
	struct err e;
	int r;

	if (!may_be_pushed(l) || !await_client(l))
		return;
	r = find_pushed(l->identity, l->image, &t, &e);
	if (r == 0) {
		add_replay(l, &t);
		WITH_LOCK(&l->window);
		l->trace = t;
		if (!l->recorder || atomic_load(&l->recording)) /* else a recording may be there */
			save(l, &t);
	} else if (r != -ESHUTDOWN) {
		store_note_asked(l->config->fetch.cache_dir, l->identity);
		/* What is in the cache needs no registry, so that it is away is no news. */
		if (r == -ECONNREFUSED || r == -EHOSTUNREACH)
			log_debug("%s: no replay: %s", l->config->path, e.msg);
		else if (r != -ENOENT)
			log_warn("%s: no replay: %s", l->config->path, e.msg);
	}
}

static void *prepare(void *arg)
{
	struct launch *l = arg;

	if (l->trace.count > 0)
		add_replay(l, &l->trace);
	replay_paths(l);
	if (l->trace.count > 0)
		return NULL;
	if (l->reference_path && !l->recorder)
		replay_reference_path(l);
	else if (l->uses_traces && !replay_acceleration(l))
		replay_pushed(l);
	return NULL;
}

void launch_start(struct launch *l)
{
	int code = clock_thread(&l->thread, prepare, l);

	l->started = code == 0;
	if (code != 0)
		log_warn("%s: replay: starting a thread: %s", l->config->path, strerror(code));
}

void launch_client_came(struct launch *l)
{
	size_t i;

	WITH_LOCK(&l->lock);
	l->clients++;
	l->paused = false;
	clock_wake(&l->came);
	for (i = 0; i < l->replay_count; i++)
		run_locked(l, l->replays[i]);
}

void launch_client_went(struct launch *l)
{
	size_t i;

	WITH_LOCK(&l->lock);
	l->paused = --l->clients == 0;
	for (i = 0; l->paused && i < l->replay_count; i++)
		replay_pause(l->replays[i]);
}

/* ---- recording ---- */

void launch_note(struct launch *l, uint64_t off, uint64_t n)
{
	if (l->recorder && atomic_load_explicit(&l->recording, memory_order_relaxed))
		recorder_note(l->recorder, off, n);
}

bool launch_is_recording(struct launch *l)
{
	return atomic_load(&l->recording);
}

/* The best that one of the replays has. */
static enum plan_has look_up(struct replay *const *replays, size_t count,
			     const struct trace_read *read)
{
	enum plan_has has = PLAN_LACKS_SOME;
	size_t i;

	for (i = 0; has == PLAN_LACKS_SOME && i < count; i++)
		has = replay_look_up(replays[i], read);
	return has;
}

/* Whether more than a part of the reads of what is remote is not replayed.  Replays stay until the
 * end, so that a million look-ups need not keep clients waiting. */
static bool lacks_reads(struct launch *l, const struct trace *t)
{
	struct replay *replays[REPLAYS_MAX];
	size_t count, i, remote = 0, missed = 0;

	pthread_mutex_lock(&l->lock);
	count = l->replay_count;
	memcpy(replays, l->replays, sizeof replays);
	pthread_mutex_unlock(&l->lock);
	for (i = 0; count > 0 && i < t->count; i++) {
		enum plan_has has = look_up(replays, count, &t->reads[i]);

		remote += has != PLAN_NOTHING_REMOTE;
		missed += has == PLAN_LACKS_SOME;
	}
	return missed > remote / MISSES_DIVISOR;
}

static void save_reference(struct launch *l, const struct trace *t)
{
	struct err e;

	if (record_path_save(l->reference_path, l->image, t, &e) < 0)
		log_warn("%s: the trace is not kept: %s", l->config->path, e.msg);
}

static bool is_scan(const struct trace_totals *totals)
{
	return totals->image_unique_bytes > totals->image_bytes / SCAN_DIVISOR;
}

/* Starts of many kinds would make it grow until it fetches all of the image: before it is one of a
 * scan, the last start takes its place. */
static void save_merged(struct launch *l, const struct trace *t)
{
	const struct trace *both[] = { t, &l->trace };
	struct trace_totals totals;
	struct trace merged;
	struct err e;
	int r = trace_merge(both, 2, &merged, NULL, &e);

	if (r == 0) {
		r = trace_sum_up(&merged, l->image, &totals, &e);
		if (r == 0)
			save(l, is_scan(&totals) ? t : &merged);
		trace_release(&merged);
	}
	if (r < 0)
		log_warn("%s: the trace is not kept: %s", l->config->path, e.msg);
}

/* Under trace=auto: whether it is a start-up.  *again: what came was none, but one may follow. */
static bool is_startup(struct launch *l, const struct trace *t, bool *again)
{
	struct trace_totals totals;
	struct err e;

	if (trace_sum_up(t, l->image, &totals, &e) < 0) {
		log_warn("%s: the trace is not kept: %s", l->config->path, e.msg);
		return false;
	}
	*again = totals.unique_bytes < TINY;
	if (!*again && !is_scan(&totals))
		return true;
	log_debug("%s: %s: the recording is not kept", l->config->path,
		  *again ? "less than 1 MiB read" : "over half of the data read");
	return false;
}

/* Does with a recording what is to be done with it.  Returns whether to record anew. */
static bool settle(struct launch *l, const struct trace *t)
{
	bool again = false;

	if (l->reference_path) {
		save_reference(l, t);
	} else if (l->how->mode == FETCH_TRACE_RECORD) {
		if (t->count > 0)
			save(l, t);
	} else if (is_startup(l, t, &again)) {
		if (l->trace.count == 0)
			save(l, t);
		else if (lacks_reads(l, t))
			save_merged(l, t);
	}
	return again;
}

static void end_window(struct launch *l, bool last)
{
	struct trace t = { .disk_size = image_size(l->image) };
	struct err e;
	bool again = false;

	memcpy(t.identity, l->identity, sizeof t.identity);
	if (recorder_take(l->recorder, t.disk_size, &t, &e) < 0)
		log_warn("%s: the trace is not kept: %s", l->config->path, e.msg);
	else
		again = settle(l, &t);
	trace_release(&t);
	if (again && !last)
		recorder_reset(l->recorder);
	else
		atomic_store(&l->recording, false);
}

void launch_look(struct launch *l)
{
	bool over;

	WITH_LOCK(&l->window);
	if (!launch_is_recording(l))
		return;
	over = recorder_look(l->recorder);
	if (l->reference_path ? record_path_is_over(l->reference_path) : over)
		end_window(l, false);
}

static void stop_waiting(struct launch *l)
{
	WITH_LOCK(&l->lock);
	l->ending = true;
	clock_wake(&l->came);
}

void launch_end(struct launch *l)
{
	stop_waiting(l);
	WITH_LOCK(&l->window);
	if (launch_is_recording(l))
		end_window(l, true);
}

/* ---- beginning and end ---- */

/* Where the trace lies. */
static int find_place(struct launch *l, struct err *e)
{
	const struct fetch_settings *s = &l->config->fetch;
	int r = l->how->file ? config_refuse_own_file(l->config, l->how->file, e) : 0;

	if (r == 0 && l->how->file && store_is_foreign(l->how->file))
		r = err_set(e, EINVAL, "%s is no trace, and left alone", l->how->file);
	if (r < 0)
		return r;
	if (l->how->file) {
		l->path = strdup(l->how->file);
	} else if (s->cache_dir) {
		l->path = store_path(s->cache_dir, l->identity);
		l->in_store = true;
	} else {
		if (l->how->mode != FETCH_TRACE_AUTO)
			log_warn("%s: no trace: neither trace-file= nor a cache folder",
				 l->config->path);
		return 0;
	}
	return l->path ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* What cannot be replayed is left alone, with a line that says so. */
static void load_trace(struct launch *l)
{
	struct err e;
	int r;

	if (!l->path || !l->uses_traces)
		return;
	r = find_file(l->path, l->identity, l->image, &l->trace, &e);
	if (r < 0 && (r != -ENOENT || (l->how->mode == FETCH_TRACE_REPLAY && l->how->file)))
		log_warn("%s: no replay: %s", l->config->path, e.msg);
}

/* Returns 1 when what recordTracePath names takes the place of our own traces. */
static int begin_reference(struct launch *l, struct err *e)
{
	const char *path = l->config->record_trace_path;
	int r = path ? config_refuse_own_file(l->config, path, e) : 0, what = RECORD_PATH_NONE;

	if (r == 0 && path)
		what = record_path_begin(path, e);
	if (r < 0 || what < 0)
		return err_wrap(e, r < 0 ? r : what, "recordTracePath");
	if (what == RECORD_PATH_NONE)
		return 0;
	l->reference_path = path;
	if (what == RECORD_PATH_REPLAY)
		return 1;
	r = image_identity(l->image, l->identity, e);
	if (r == 0)
		r = recorder_open(UINT_MAX, UINT_MAX, &l->recorder, e);
	atomic_store(&l->recording, r == 0);
	return r < 0 ? r : 1;
}

static int begin_own(struct launch *l, struct err *e)
{
	int r;

	if (l->how->mode == FETCH_TRACE_OFF ||
	    (l->how->mode == FETCH_TRACE_AUTO && !image_is_remote(l->image)))
		return 0;
	l->uses_traces = l->how->mode != FETCH_TRACE_RECORD;
	r = image_identity(l->image, l->identity, e);
	if (r == 0)
		r = find_place(l, e);
	if (r < 0)
		return r;
	load_trace(l);
	if (!l->path || l->how->mode == FETCH_TRACE_REPLAY)
		return 0;
	r = recorder_open(l->how->seconds, l->how->idle, &l->recorder, e);
	atomic_store(&l->recording, r == 0);
	return r;
}

int launch_open(const struct image_config *config, struct image *image, struct launch **out,
		struct err *e)
{
	struct launch *l = malloc(sizeof *l);
	struct err why;
	int r;

	if (!l)
		return err_set(e, ENOMEM, "%s: out of memory", config->path);
	*l = (struct launch){ .config = config,
			      .how = &config->fetch.trace,
			      .image = image,
			      .lock = PTHREAD_MUTEX_INITIALIZER,
			      .window = PTHREAD_MUTEX_INITIALIZER };
	clock_init_cond(&l->came);
	r = begin_reference(l, &why);
	if (r == 0)
		r = begin_own(l, &why);
	if (r == -ENOMEM) {
		launch_close(l);
		return err_set(e, ENOMEM, "%s: trace: %s", config->path, why.msg);
	}
	if (r < 0)
		log_warn("%s: no trace: %s", config->path, why.msg);
	*out = l;
	return 0;
}

void launch_close(struct launch *l)
{
	size_t i;

	if (!l)
		return;
	stop_waiting(l);
	if (l->started)
		clock_join(l->thread);
	launch_end(l);
	for (i = 0; i < l->replay_count; i++)
		replay_close(l->replays[i]);
	recorder_close(l->recorder);
	trace_release(&l->trace);
	pthread_cond_destroy(&l->came);
	pthread_mutex_destroy(&l->window);
	pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l);
}
