/* SPDX-License-Identifier: Apache-2.0 */
/* test-launch_sources.c - the traces that others made: paths of files, acceleration layers, what
 * was pushed beside an image, recordTracePath.  And all of it at once, for TSan. */
#include <sched.h>

#include "tests/unit/heap.h"
#include "tests/unit/launchlib.h"

/* ---- other traces ---- */

static void paths_are_replayed_beside_the_trace(void **state)
{
	struct trace t = make_trace(2 * MIB, 100);
	char name[] = "/bin/sh", *names[] = { name };

	settings->prefetch = names;
	settings->prefetch_count = 1;
	keep_trace(store, 0, MIB);
	open_and_start();
	assert_warned("image.yaml: no replay: no such files");
	assert_int_equal(sequences.count, 1);
	close_launch();
	of_paths = &t;
	open_and_start();
	assert_replayed(3, 2 * MIB, 100);
	assert_int_equal(sequences_running(), 2);
	/* What either replays is not missed. */
	read_disk(0, MIB);
	read_disk(2 * MIB, 100);
	close_launch();
	assert_kept(store, 0, MIB);
	settings->prefetch = NULL;
	settings->prefetch_count = 0;
	trace_release(&t);
	assert_warned("");
}

static void make_layers(struct answer *a, uint64_t lba, uint64_t sectors)
{
	struct trace t = make_trace(lba, sectors);
	struct trace_layers_notes notes;
	struct trace_layers layers;

	assert_int_equal(trace_layers_from_disk(&t, image, &layers, &notes, NULL), 0);
	assert_int_equal(trace_layers_format(&layers, &a->bytes, &a->n, NULL), 0);
	a->code = 0;
	trace_layers_release(&layers);
	trace_release(&t);
}

static void make_pushed(uint64_t lba, uint64_t sectors)
{
	struct trace t = make_trace(lba, sectors);

	assert_int_equal(trace_format(&t, &pushed.bytes, &pushed.n, NULL), 0);
	pushed.code = 0;
	trace_release(&t);
}

static void an_acceleration_layer_is_replayed(void **state)
{
	make_layers(&acceleration, MIB, MIB);
	manifest_digest = identity;
	open_and_start();
	assert_replayed(1, MIB, MIB);
	assert_int_equal(pushed.asked, 0);
	close_launch();
	world.while_waiting = client_comes;
	pushed.code = -ESHUTDOWN; /* it is being ended: nobody need know */
	acceleration.code = -ESHUTDOWN;
	open_and_start();
	assert_warned("");
	assert_int_equal(pushed.asked, 1);
	close_launch();
	pushed = (struct answer){ .code = -ENOENT };
	acceleration.code = -EIO;
	open_and_start();
	assert_warned("image.yaml: no replay: the registry is on fire");
	assert_int_equal(pushed.asked, 1); /* and the next place is tried */
	close_launch();
	acceleration.code = 0;
	((uint8_t *)acceleration.bytes)[0] ^= 1;
	open_and_start();
	assert_warned("image.yaml: no replay: acceleration layer: ");
	close_launch();
	settings->trace.mode = FETCH_TRACE_REPLAY;
	settings->cache_dir = NULL;
	((uint8_t *)acceleration.bytes)[0] ^= 1;
	open_and_start();
	assert_replayed(2, MIB, MIB);
	close_launch();
	assert_warned("image.yaml: no trace: neither");
}

/* A list of paths makes the server parse the image's file system: only where that is allowed. */
static void paths_from_a_registry_need_leave(void **state)
{
	struct trace t = make_trace(2 * MIB, 100);

	acceleration = (struct answer){ .bytes = strdup("/bin/sh\n"), .n = 8 };
	of_paths = &t;
	open_and_start();
	assert_warned("image.yaml: no replay: acceleration layer: it is a list of paths, ");
	assert_int_equal(sequences.count, 0);
	close_launch();
	settings->trace.follows_paths = true;
	open_and_start();
	assert_replayed(1, 2 * MIB, 100);
	assert_warned("");
	close_launch();
	settings->trace.follows_paths = false;
	trace_release(&t);
}

static void the_registry_is_asked_when_somebody_comes(void **state)
{
	open_and_start();
	assert_int_equal(acceleration.asked, 1);
	assert_int_equal(pushed.asked, 0); /* it is no image of a registry's */
	close_launch();
	manifest_digest = identity;
	make_pushed(0, MIB);
	world.while_waiting = server_ends;
	open_and_start();
	assert_int_equal(pushed.asked, 0);
	close_launch();
	world.while_waiting = client_comes;
	open_and_start();
	assert_int_equal(pushed.asked, 1);
	assert_replayed(1, 0, MIB);
	assert_kept(store, 0, MIB); /* so that the next start need not ask */
	read_disk(MIB, MIB);
	close_launch();
	assert_kept(store, 0, 2 * MIB);
	open_and_start();
	assert_int_equal(pushed.asked, 1);
	close_launch();
	assert_warned("");
}

/* Whoever waits for a client learns of one, and of the end. */
static void who_waits_is_woken(void **state)
{
	open_launch();
	assert_int_equal(world.woken, 0);
	launch_client_came(launch);
	assert_int_equal(world.woken, 1);
	launch_client_went(launch);
	assert_int_equal(world.woken, 1);
	launch_end(launch);
	assert_int_equal(world.woken, 2);
	close_launch();
	assert_int_equal(world.woken, 4);
}

/* The recording is over before the answer comes: it must not be overwritten. */
static void record_and_come(void)
{
	record(2 * MIB, MIB);
	launch_client_came(launch);
}

static void a_recording_is_worth_more_than_what_was_pushed(void **state)
{
	manifest_digest = identity;
	make_pushed(0, MIB);
	world.while_waiting = record_and_come;
	open_and_start();
	assert_replayed(1, 0, MIB);
	close_launch();
	assert_kept(store, 2 * MIB, MIB);
	unlink(store);
	settings->trace.mode = FETCH_TRACE_REPLAY;
	world.while_waiting = client_comes;
	open_and_start();
	close_launch();
	assert_kept(store, 0, MIB);
}

static void the_registry_is_not_asked_again_at_once(void **state)
{
	static const struct {
		int code;
		bool noted;
		const char *warned;
	} rows[] = {
		{ -ENOENT, true, "" },
		{ -ESHUTDOWN, false, "" },
		/* what is in the cache is served without the registry */
		{ -ECONNREFUSED, true, "" },
		{ -EHOSTUNREACH, true, "" },
		{ -EIO, true,
		  "image.yaml: no replay: the registry's trace: the registry is on fire" },
	};
	unsigned times = 0;
	size_t i;

	manifest_digest = identity;
	world.while_waiting = client_comes;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		pushed.code = rows[i].code;
		open_and_start();
		assert_int_equal(pushed.asked, ++times);
		assert_warned(rows[i].warned);
		close_launch();
		assert_int_equal(access(asked, F_OK) == 0, rows[i].noted);
		open_and_start();
		times += !rows[i].noted;
		assert_int_equal(pushed.asked, times);
		close_launch();
		unlink(asked);
		assert_kept(store, 0, 0);
	}
	make_pushed(0, MIB);
	((uint8_t *)pushed.bytes)[100] ^= 1;
	open_and_start();
	assert_warned("image.yaml: no replay: the registry's trace: ");
	assert_int_equal(sequences.count, 0);
	close_launch();
	unlink(asked);
	/* With a place of its own nobody is asked. */
	settings->trace.file = store;
	open_and_start();
	assert_int_equal(pushed.asked, times + 1);
	settings->trace.file = NULL;
	close_launch();
}

static void a_pushed_trace_of_another_image_is_refused(void **state)
{
	manifest_digest = identity;
	world.while_waiting = client_comes;
	confuse_identity();
	make_pushed(0, MIB);
	assert_int_equal(image_identity(image, identity, NULL), 0);
	open_and_start();
	assert_warned("the registry's trace: it is the trace of another image");
	close_launch();
	assert_kept(store, 0, 0);
}

/* ---- recordTracePath ---- */

static void an_empty_reference_file_is_recorded_into(void **state)
{
	struct trace_layers layers;
	char path[96], lock[128], ok[128], *bytes;
	size_t n;

	snprintf(path, sizeof path, "%s/reference", stack.folder);
	snprintf(lock, sizeof lock, "%s.lock", path);
	snprintf(ok, sizeof ok, "%s.ok", path);
	stack.config.record_trace_path = path;
	keep_trace(store, 0, MIB);
	open_and_start(); /* there is no file: all as without it */
	assert_replayed(1, 0, MIB);
	close_launch();
	assert_int_equal(io_replace_file(path, "", 0, NULL), 0);
	open_and_start();
	assert_int_equal(sequences.count, 1);
	assert_true(launch_is_recording(launch));
	record(0, 8);
	assert_true(launch_is_recording(launch)); /* time is no end here */
	assert_int_equal(unlink(lock), 0);
	launch_look(launch);
	assert_false(launch_is_recording(launch));
	assert_int_equal(unlink(ok), 0);
	assert_int_equal(io_read_file(path, 1 << 20, &bytes, &n, NULL), 0);
	assert_int_equal(trace_layers_parse(bytes, n, &layers, NULL), 0);
	assert_int_equal(layers.count, 1);
	assert_int_equal(layers.reads[0].n, 8 * SECTOR);
	trace_layers_release(&layers);
	free(bytes);
	close_launch();
	/* Now it is replayed, and nothing recorded. */
	open_and_start();
	assert_replayed(2, 0, 8);
	assert_false(launch_is_recording(launch));
	close_launch();
	assert_int_equal(io_replace_file(path, "rubbish", 7, NULL), 0);
	open_and_start();
	assert_warned("image.yaml: no replay: ");
	assert_int_equal(sequences.count, 2);
	close_launch();
	assert_kept(store, 0, MIB);
	assert_int_equal(unlink(path), 0);
}

static void a_reference_file_that_fails_is_told(void **state)
{
	char path[96], lock[128];

	snprintf(path, sizeof path, "%s/reference", stack.folder);
	snprintf(lock, sizeof lock, "%s.lock", path);
	stack.config.record_trace_path = stack.lowers[0].file;
	open_launch();
	assert_warned("image.yaml: no trace: recordTracePath: ");
	assert_false(launch_is_recording(launch));
	close_launch();
	stack.config.record_trace_path = path;
	assert_int_equal(io_replace_file(path, "", 0, NULL), 0);
	assert_int_equal(mkdir(lock, 0700), 0);
	open_launch();
	assert_warned("image.yaml: no trace: recordTracePath: ");
	close_launch();
	assert_int_equal(rmdir(lock), 0);
	open_launch();
	read_disk(0, 8);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	close_launch();
	assert_warned("image.yaml: the trace is not kept: ");
	assert_int_equal(rmdir(path), 0);
	unlink(lock);
}

static void open_start_end(void)
{
	open_and_start();
	launch_client_came(launch);
	record(MIB, MIB);
	close_launch();
	unlink(store);
	unlink(asked);
	sequences_reset();
}

/* Whatever was found is released, replayed or not. */
static void nothing_is_left_behind(void **state)
{
	struct trace t = make_trace(2 * MIB, 100);
	char name[] = "/bin/sh", *names[] = { name };

	settings->prefetch = names;
	settings->prefetch_count = 1;
	of_paths = &t;
	make_layers(&acceleration, MIB, MIB);
	HEAP_STEADY(open_start_end());
	acceleration.code = -ENOENT;
	manifest_digest = identity;
	world.while_waiting = client_comes;
	make_pushed(0, MIB);
	HEAP_STEADY(open_start_end());
	((uint8_t *)pushed.bytes)[100] ^= 1;
	HEAP_STEADY(open_start_end());
	free(pushed.bytes);
	confuse_identity();
	make_pushed(0, MIB);
	assert_int_equal(image_identity(image, identity, NULL), 0);
	HEAP_STEADY(open_start_end());
	settings->prefetch = NULL;
	settings->prefetch_count = 0;
	trace_release(&t);
}

/* ---- threads ---- */

static atomic_bool stop;
static atomic_uint warned;

/* In any thread, and without making one wait for another. */
static void count_warning(enum log_level level, const char *line)
{
	if (level == LOG_WARNING)
		atomic_fetch_add_explicit(&warned, 1, memory_order_relaxed);
}

static void *come_and_go(void *arg)
{
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		launch_client_came(launch);
		launch_client_went(launch);
		sched_yield();
	}
	return NULL;
}

static void *look(void *arg)
{
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		launch_look(launch);
		sched_yield(); /* who wants the lock too, is to have it */
	}
	return NULL;
}

/* Enough to be a start-up, too little to be a scan. */
static void note_startup(void)
{
	unsigned i;

	for (i = 0; i < 20; i++)
		launch_note(launch, (uint64_t)i * READ * SECTOR, READ * SECTOR);
}

static atomic_bool finding;

/* Files are found once a look-up of reads has begun.  Nothing here makes threads wait for each
 * other in a way that TSan would take for a lock. */
static void wait_for_look_up(void)
{
	uint64_t late = clock_ms() + 20000;

	atomic_store_explicit(&finding, true, memory_order_relaxed);
	while (atomic_load_explicit(&looked_up, memory_order_relaxed) == 0 && clock_ms() < late)
		sched_yield();
}

/* With TSan: what was recorded is compared with the replays while another is added. */
static void a_replay_comes_while_reads_are_looked_up(void **state)
{
	struct trace t = make_trace(2 * MIB, 100);
	char name[] = "/bin/sh", *names[] = { name };

	clock_use(NULL);
	log_set_sink(count_warning);
	settings->prefetch = names;
	settings->prefetch_count = 1;
	of_paths = &t;
	keep_trace(store, 2 * MIB, 256);
	open_launch();
	note_startup();
	atomic_store(&looked_up, 0);
	world.while_finding = wait_for_look_up;
	launch_start(launch);
	while (!atomic_load_explicit(&finding, memory_order_relaxed))
		sched_yield();
	launch_end(launch);
	assert_int_equal(looked_up, 20);
	close_launch();
	assert_int_equal(sequences_running(), 0);
	settings->prefetch = NULL;
	settings->prefetch_count = 0;
	trace_release(&t);
	log_set_sink(take_line);
	assert_int_equal(warned, 0);
}

/* With TSan: whatever comes together.  In turns with a trace that lacks what is read, and with one
 * that only the registry has. */
static void all_at_once(void **state)
{
	enum { CLIENTS = 2, THREADS = CLIENTS + 2, ROUNDS = 40 };
	struct trace t = make_trace(2 * MIB, 100);
	char name[] = "/bin/sh", *names[] = { name };
	pthread_t threads[THREADS];
	unsigned round, i;

	clock_use(NULL);
	log_set_sink(count_warning);
	settings->prefetch = names;
	settings->prefetch_count = 1;
	of_paths = &t;
	manifest_digest = identity;
	make_pushed(2 * MIB, 256);
	for (round = 0; round < ROUNDS; round++) {
		unlink(store);
		if (round % 2)
			keep_trace(store, 2 * MIB, 256);
		open_launch();
		note_startup();
		atomic_store(&stop, false);
		launch_start(launch);
		for (i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, i < CLIENTS ? come_and_go : look, NULL);
		usleep(round * 50);
		launch_end(launch);
		assert_false(launch_is_recording(launch));
		atomic_store(&stop, true);
		for (i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		close_launch();
		assert_int_equal(sequences_running(), 0);
		sequences_reset();
	}
	settings->prefetch = NULL;
	settings->prefetch_count = 0;
	trace_release(&t);
	log_set_sink(take_line);
	assert_int_equal(warned, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAUNCH_TEST(paths_are_replayed_beside_the_trace),
		LAUNCH_TEST(an_acceleration_layer_is_replayed),
		LAUNCH_TEST(paths_from_a_registry_need_leave),
		LAUNCH_TEST(the_registry_is_asked_when_somebody_comes),
		LAUNCH_TEST(who_waits_is_woken),
		LAUNCH_TEST(a_recording_is_worth_more_than_what_was_pushed),
		LAUNCH_TEST(the_registry_is_not_asked_again_at_once),
		LAUNCH_TEST(a_pushed_trace_of_another_image_is_refused),
		LAUNCH_TEST(an_empty_reference_file_is_recorded_into),
		LAUNCH_TEST(a_reference_file_that_fails_is_told),
		LAUNCH_TEST(nothing_is_left_behind),
		LAUNCH_TEST(a_replay_comes_while_reads_are_looked_up),
		LAUNCH_TEST(all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
