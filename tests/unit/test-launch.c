/* SPDX-License-Identifier: Apache-2.0 */
/* test-launch.c - what is replayed when an image starts, what is recorded, and what becomes of it.
 */
#include "tests/unit/launchlib.h"

/* ---- whether it records ---- */

static void a_local_image_is_left_alone(void **state)
{
	is_remote = false;
	open_and_start();
	assert_false(launch_is_recording(launch));
	record(0, MIB);
	close_launch();
	assert_kept(store, 0, 0);
	assert_int_equal(sequences.count, 0);
	assert_warned("");
}

static void off_is_off(void **state)
{
	keep_trace(store, 0, MIB);
	settings->trace.mode = FETCH_TRACE_OFF;
	open_and_start();
	assert_false(launch_is_recording(launch));
	close_launch();
	assert_int_equal(sequences.count, 0);
	assert_int_equal(pushed.asked + acceleration.asked, 0);
	assert_warned("");
}

/* What is asked for by name is done for local images too. */
static void a_local_image_may_be_recorded(void **state)
{
	is_remote = false;
	settings->trace.mode = FETCH_TRACE_RECORD;
	open_launch();
	assert_true(launch_is_recording(launch));
	close_launch();
	assert_kept(store, 0, 0); /* nothing was read */
	assert_warned("");
}

static void a_startup_is_kept(void **state)
{
	open_and_start();
	assert_true(launch_is_recording(launch));
	record(0, MIB);
	assert_false(launch_is_recording(launch));
	assert_kept(store, 0, MIB);
	read_disk(MIB, MIB); /* comes too late */
	launch_look(launch);
	close_launch();
	assert_kept(store, 0, MIB);
	assert_warned("");
}

static void too_little_and_too_much_is_no_startup(void **state)
{
	static const struct {
		uint64_t sectors;
		bool kept;
		const char *why;
	} rows[] = {
		{ MIB - 1, false, "image.yaml: less than 1 MiB read: the recording is not kept" },
		{ MIB, true, "image.yaml: 16 reads kept in " },
		{ 2 * MIB, true, "image.yaml: 32 reads kept in " },
		{ 2 * MIB + 1, false,
		  "image.yaml: over half of the data read: the recording is not kept" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_launch();
		read_disk(0, rows[i].sectors);
		launch_end(launch);
		assert_false(launch_is_recording(launch));
		close_launch();
		assert_kept(store, 0, rows[i].kept ? rows[i].sectors : 0);
		assert_non_null(strstr(debug, rows[i].why));
		debug[0] = '\0';
		unlink(store);
	}
	assert_warned("");
}

/* Somebody who looks at a partition table is no start-up; what follows may be one. */
static void after_too_little_it_begins_anew(void **state)
{
	open_launch();
	record(0, 8);
	assert_true(launch_is_recording(launch));
	assert_kept(store, 0, 0);
	record(MIB, MIB);
	assert_false(launch_is_recording(launch));
	assert_kept(store, MIB, MIB); /* without what came before */
	close_launch();
	open_launch();
	record(0, REMOTE); /* a copy: what follows is none either */
	assert_false(launch_is_recording(launch));
	close_launch();
}

/* ---- replaying ---- */

static void a_trace_is_replayed_while_clients_are_there(void **state)
{
	keep_trace(store, 0, MIB);
	open_and_start();
	assert_replayed(1, 0, MIB);
	assert_int_equal(pushed.asked + acceleration.asked, 0);
	launch_client_came(launch);
	launch_client_came(launch);
	launch_client_went(launch);
	assert_int_equal(sequences_running(), 1);
	launch_client_went(launch);
	assert_int_equal(sequences_running(), 0);
	launch_client_came(launch);
	assert_replayed(2, 0, MIB);
	close_launch();
	assert_int_equal(sequences_running(), 0);
	assert_int_equal(world.joined, 1);
	assert_warned("");
}

/* The last client has gone before the thread came to it. */
static void a_replay_may_begin_paused(void **state)
{
	keep_trace(store, 0, MIB);
	open_launch();
	launch_client_came(launch);
	launch_client_went(launch);
	start();
	assert_int_equal(sequences.count, 0);
	launch_client_came(launch);
	assert_replayed(1, 0, MIB);
	close_launch();
}

static void what_goes_wrong_is_a_warning(void **state)
{
	keep_trace(store, 0, MIB);
	open_launch();
	sequences.refuse = true;
	start();
	assert_warned("image.yaml: replay: out of memory");
	launch_client_came(launch);
	assert_warned("image.yaml: replay: out of memory");
	allocs_left = -1;
	sequences.refuse = false;
	close_launch();
	open_launch();
	launch_start(launch);
	allocs_left = 0;
	run_thread();
	allocs_left = -1;
	assert_warned("image.yaml: replay: out of memory");
	close_launch();
	assert_int_equal(world.joined, 2);
	world.refuse = EAGAIN;
	open_launch();
	launch_start(launch);
	assert_warned("image.yaml: replay: starting a thread: Resource temporarily unavailable");
	close_launch();
	assert_int_equal(world.joined, 2);
}

/* A fifth of the reads of what is remote may be missing: of 20 reads 4. */
static void a_trace_that_fits_stays(void **state)
{
	static const struct {
		unsigned missed;
		uint64_t kept;
	} rows[] = { { 0, MIB }, { 4, MIB }, { 5, MIB + 5 * READ } };
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		keep_trace(store, 0, MIB);
		open_and_start();
		read_disk(0, MIB); /* 16 reads */
		read_disk(MIB, rows[i].missed * READ);
		launch_end(launch);
		assert_kept(store, 0, rows[i].kept);
		close_launch();
	}
	assert_warned("");
}

/* Of 29 reads 5 were missed, but the eight of local data do not count. */
static void local_reads_prove_nothing(void **state)
{
	struct trace t;

	keep_trace(store, 0, MIB);
	open_and_start();
	read_disk(0, MIB);
	read_disk(MIB, 5 * READ);
	read_disk(LOCAL_AT, MIB / 2);
	close_launch();
	assert_int_equal(trace_load(store, &t, NULL), 0);
	assert_int_equal(t.count, 29);
	trace_release(&t);
}

/* A trace that would become a scan's makes place for the last start. */
static void merging_ends_before_it_is_a_scan(void **state)
{
	keep_trace(store, 0, MIB);
	open_and_start();
	record(MIB, MIB);
	close_launch();
	assert_kept(store, 0, 2 * MIB); /* just half of the data */
	open_and_start();
	record(2 * MIB, MIB);
	close_launch();
	assert_kept(store, 2 * MIB, MIB);
	assert_warned("");
}

/* Without a thread there is no replay, and nothing to compare with. */
static void what_was_not_replayed_is_not_missed(void **state)
{
	keep_trace(store, 0, MIB);
	open_launch();
	record(2 * MIB, MIB);
	close_launch();
	assert_kept(store, 0, MIB);
}

static void recording_replaces_the_trace(void **state)
{
	keep_trace(store, 0, MIB);
	settings->trace.mode = FETCH_TRACE_RECORD;
	open_and_start();
	assert_int_equal(sequences.count, 0);
	assert_int_equal(pushed.asked + acceleration.asked, 0);
	close_launch();
	assert_kept(store, 0, MIB); /* nothing was read */
	open_launch();
	record(MIB, 8); /* little, but asked for */
	assert_false(launch_is_recording(launch));
	close_launch();
	assert_kept(store, MIB, 8);
	assert_warned("");
}

static void replaying_records_nothing(void **state)
{
	settings->trace.mode = FETCH_TRACE_REPLAY;
	open_and_start();
	assert_false(launch_is_recording(launch));
	record(0, MIB);
	close_launch();
	assert_kept(store, 0, 0);
	assert_warned(""); /* that there is none yet is nothing to speak of */
	keep_trace(store, 0, MIB);
	open_and_start();
	assert_replayed(1, 0, MIB);
	close_launch();
}

/* ---- the trace's file ---- */

static void a_file_can_be_named(void **state)
{
	char path[96];

	snprintf(path, sizeof path, "%s/named", stack.folder);
	settings->trace.file = path;
	settings->trace.mode = FETCH_TRACE_REPLAY;
	open_launch();
	assert_warned("image.yaml: no replay: "); /* it was asked for, and is not there */
	close_launch();
	settings->trace.mode = FETCH_TRACE_AUTO;
	open_launch();
	assert_warned("");
	record(0, MIB);
	close_launch();
	assert_kept(path, 0, MIB);
	assert_kept(store, 0, 0);
	assert_int_equal(access(cache, F_OK), -1); /* and no folder for it */
	open_and_start();
	assert_replayed(1, 0, MIB);
	close_launch();
	unlink(path);
}

static void a_file_of_something_else_is_left_alone(void **state)
{
	char path[96], *bytes;
	size_t n;

	snprintf(path, sizeof path, "%s/named", stack.folder);
	assert_int_equal(io_replace_file(path, "a diary", 7, NULL), 0);
	settings->trace.file = path;
	open_launch();
	assert_warned("named is no trace, and left alone");
	assert_false(launch_is_recording(launch));
	record(0, MIB);
	close_launch();
	assert_int_equal(io_read_file(path, 100, &bytes, &n, NULL), 0);
	assert_string_equal(bytes, "a diary");
	free(bytes);
	unlink(path);
	settings->trace.file = stack.lowers[0].file;
	open_launch();
	assert_warned("is a file of the image: ");
	assert_false(launch_is_recording(launch));
	close_launch();
}

static void a_damaged_trace_is_not_replayed(void **state)
{
	keep_trace(store, 0, MIB);
	assert_int_equal(truncate(store, 100), 0);
	open_launch();
	assert_warned("image.yaml: no replay: ");
	assert_true(launch_is_recording(launch));
	close_launch();
	confuse_identity();
	keep_trace(store, 0, MIB);
	assert_int_equal(image_identity(image, identity, NULL), 0);
	open_and_start();
	assert_warned("it is the trace of another image");
	assert_int_equal(sequences.count, 0);
	close_launch();
}

static void a_trace_of_another_size_is_not_replayed(void **state)
{
	struct trace t = make_trace(0, MIB);

	t.disk_size += SECTOR;
	assert_int_equal(store_make_folder(cache, NULL), 0);
	assert_int_equal(trace_save(&t, store, NULL), 0);
	trace_release(&t);
	open_launch();
	assert_warned("it is the trace of another image");
	close_launch();
}

static void without_a_place_nothing_is_kept(void **state)
{
	settings->cache_dir = NULL;
	open_launch();
	assert_false(launch_is_recording(launch));
	close_launch();
	assert_warned("");
	settings->trace.mode = FETCH_TRACE_RECORD;
	open_launch();
	assert_false(launch_is_recording(launch));
	close_launch();
	assert_warned("image.yaml: no trace: neither trace-file= nor a cache folder");
}

static void what_cannot_be_kept_is_told(void **state)
{
	char bad[] = "/nonexistent/cache";

	settings->cache_dir = bad;
	open_launch();
	record(0, MIB);
	close_launch();
	assert_warned("image.yaml: the trace is not kept: creating /nonexistent/cache/traces: ");
}

/* ---- failures ---- */

static void lack_of_memory_fails_the_opening(void **state)
{
	struct err e = { "" };
	long k;
	int r;

	keep_trace(store, 0, 8);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		warnings[0] = '\0';
		allocs_left = k;
		r = launch_open(&stack.config, image, &launch, &e);
		allocs_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "image.yaml: "));
	}
	assert_int_equal(r, 0);
	assert_true(k > 4);
	close_launch();
}

/* Whichever allocation fails: one line says so, and the old trace stays. */
static void what_cannot_be_summed_up_is_not_kept(void **state)
{
	bool kept = false;
	long k;

	for (k = 0; !kept; k++) {
		keep_trace(store, 0, MIB);
		open_and_start();
		read_disk(MIB, MIB);
		allocs_left = k;
		launch_end(launch);
		allocs_left = -1;
		assert_false(launch_is_recording(launch));
		kept = warnings[0] == '\0';
		if (!kept)
			assert_warned("image.yaml: the trace is not kept: ");
		close_launch();
		assert_kept(store, 0, kept ? 2 * MIB : MIB);
	}
	assert_true(k > 8);
	assert_warned("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAUNCH_TEST(a_local_image_is_left_alone),
		LAUNCH_TEST(off_is_off),
		LAUNCH_TEST(a_local_image_may_be_recorded),
		LAUNCH_TEST(a_startup_is_kept),
		LAUNCH_TEST(too_little_and_too_much_is_no_startup),
		LAUNCH_TEST(after_too_little_it_begins_anew),
		LAUNCH_TEST(a_trace_is_replayed_while_clients_are_there),
		LAUNCH_TEST(a_replay_may_begin_paused),
		LAUNCH_TEST(what_goes_wrong_is_a_warning),
		LAUNCH_TEST(a_trace_that_fits_stays),
		LAUNCH_TEST(local_reads_prove_nothing),
		LAUNCH_TEST(merging_ends_before_it_is_a_scan),
		LAUNCH_TEST(what_was_not_replayed_is_not_missed),
		LAUNCH_TEST(recording_replaces_the_trace),
		LAUNCH_TEST(replaying_records_nothing),
		LAUNCH_TEST(a_file_can_be_named),
		LAUNCH_TEST(a_file_of_something_else_is_left_alone),
		LAUNCH_TEST(a_damaged_trace_is_not_replayed),
		LAUNCH_TEST(a_trace_of_another_size_is_not_replayed),
		LAUNCH_TEST(without_a_place_nothing_is_kept),
		LAUNCH_TEST(what_cannot_be_kept_is_told),
		LAUNCH_TEST(lack_of_memory_fails_the_opening),
		LAUNCH_TEST(what_cannot_be_summed_up_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
