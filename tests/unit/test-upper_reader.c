/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_reader.c - an append log that is only read: which mappings its records make, and which
 * files are read while a change of both goes on. */
#include "tests/unit/readerlib.h"

/* ---- the records of a log ---- */

static void neighbours_are_joined(void **state)
{
	/* The first record maps 4 sectors from 10 on to 20 and on, or `first` as many. */
	static const struct {
		const char *what;
		uint32_t first, sectors;
		uint64_t start, moffset;
		bool first_zeroed, zeroed, joined;
	} cases[] = {
		{ "data that go on", 4, 2, 14, 24, false, false, true },
		{ "zeroes that go on", 4, 2, 14, 99, true, true, true },
		{ "behind a gap", 4, 2, 15, 24, false, false, false },
		{ "zeroes behind a gap", 4, 2, 15, 99, true, true, false },
		{ "other data", 4, 2, 14, 25, false, false, false },
		{ "data before those", 4, 2, 14, 16, false, false, false },
		{ "zeroes behind data", 4, 2, 14, 24, false, true, false },
		{ "data behind zeroes", 4, 2, 14, 24, true, false, false },
		{ "as long as can be", MOST - 2, 2, 8 + MOST, 18 + MOST, false, false, true },
		{ "one too long", MOST - 1, 2, 9 + MOST, 19 + MOST, false, false, false },
		{ "zeroes as long as can be", MOST - 2, 2, 8 + MOST, 8, true, true, true },
		{ "zeroes one too long", MOST - 1, 2, 9 + MOST, 8, true, true, false },
	};
	struct upper_findings found;
	struct layer layer;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct format_entry entries[] = {
			{ .start = 10,
			  .sectors = cases[i].first,
			  .moffset = 20,
			  .zeroed = cases[i].first_zeroed },
			{ .start = cases[i].start,
			  .sectors = cases[i].sectors,
			  .moffset = cases[i].moffset,
			  .zeroed = cases[i].zeroed },
		};
		struct mapping want[] = {
			mapping_make(10, cases[i].first, NUMBER, 20, cases[i].first_zeroed),
			mapping_make(cases[i].start, cases[i].sectors, NUMBER, cases[i].moffset,
				     cases[i].zeroed),
		};

		if (cases[i].joined)
			want[0] = mapping_make(10, cases[i].first + cases[i].sectors, NUMBER, 20,
					       cases[i].zeroed);
		write_log(upper_data, upper_index, UINT64_C(100) << 20, 3 * MOST, entries, 2);
		open_it(cases[i].what, &layer, &found);
		expect_maps(cases[i].what, &layer, want, cases[i].joined ? 1 : 2);
		assert_int_equal(found.records, 2);
		assert_int_equal(layer.entries, 2);
		layer_close(&layer);
	}
}

static uint64_t model[SECTORS]; /* the data sector; 0: nothing; 1: zeroes */

static void check_model(const struct layer *layer)
{
	uint64_t found[SECTORS] = { 0 }, end = 0, k;
	size_t i;

	for (i = 0; i < layer->run.count; i++) {
		struct mapping map = layer->run.maps[i];

		assert_true(mapping_start(map) >= end && mapping_sectors(map) > 0);
		assert_int_equal(mapping_layer(map), NUMBER);
		end = mapping_end(map);
		assert_true(end <= SECTORS);
		for (k = 0; k < mapping_sectors(map); k++)
			found[mapping_start(map) + k] =
				mapping_zeroed(map) ? 1 : mapping_moffset(map) + k;
	}
	assert_memory_equal(found, model, sizeof model);
}

/* Later records win; what stands behind them is told. */
static void a_log_is_an_array_of_sectors(void **state)
{
	struct format_entry entries[FEW * 4];
	unsigned i, k, rounds = loops_count(6000);
	struct upper_findings found;
	struct layer layer;
	size_t n;

	for (i = 0; i < rounds; i++) {
		unsigned fragment = (unsigned)(loops_random() % 16);

		memset(model, 0, sizeof model);
		n = (size_t)(loops_random() % COUNT_OF(entries));
		for (k = 0; k < n; k++) {
			struct format_entry *en = &entries[k];
			uint64_t at;

			*en = (struct format_entry){ .start = loops_random() % SECTORS,
						     .sectors = 1 + (uint32_t)(loops_random() % 5),
						     .moffset = DATA + loops_random() % 100,
						     .zeroed = loops_random() % 4 == 0 };
			/* Often where the last one ended. */
			if (k > 0 && loops_random() % 2) {
				en->start = en[-1].start + en[-1].sectors;
				en->moffset = en[-1].moffset + en[-1].sectors;
			}
			if (en->start + en->sectors > SECTORS)
				en->start = SECTORS - en->sectors;
			for (at = 0; at < en->sectors; at++)
				model[en->start + at] = en->zeroed ? 1 : en->moffset + at;
		}
		write_log(upper_data, upper_index, BYTES, 1000, entries, n);
		assert_int_equal(
			truncate(upper_index, (off_t)(FORMAT_SPACE + n * FORMAT_ENTRY + fragment)),
			0);
		open_it("random records", &layer, &found);
		check_model(&layer);
		assert_int_equal(layer.header.virtual_size, BYTES);
		assert_string_equal(layer.header.uuid, UUID);
		assert_int_equal(layer.entries, n);
		assert_int_equal(found.records, n);
		assert_int_equal(found.ignored_records, 0);
		assert_int_equal(found.fragment_bytes, fragment);
		assert_int_equal(found.pending_records + found.stale_records + found.lost_records,
				 0);
		assert_false(found.sparse);
		layer_close(&layer);
	}
}

/* Room for runs of records, and within a run, is doubled: it is not asked for with each of them. */
static void room_is_made_in_doubles(void **state)
{
	enum { RUNS = 17 };
	struct format_entry entries[RUNS];
	struct upper_findings found;
	struct layer layer;
	size_t i;

	for (i = 0; i < RUNS; i++) /* each begins before the one before it */
		entries[i] = (struct format_entry){ .start = 2 * (RUNS - i),
						    .sectors = 1,
						    .moffset = DATA };
	write_log(upper_data, upper_index, BYTES, 1, entries, RUNS);
	asks = 0;
	open_it("many runs", &layer, &found);
	assert_int_equal(asked[0], 16 * sizeof(struct mapping_run));
	for (i = 1; i <= 16; i++)
		assert_int_equal(asked[i], 2 * sizeof(struct mapping));
	assert_int_equal(asked[17], 32 * sizeof(struct mapping_run));
	assert_int_equal(asked[18], 2 * sizeof(struct mapping));
	assert_int_equal(layer.run.count, RUNS);
	layer_close(&layer);
	for (i = 0; i < RUNS; i++) /* neighbours, but not of the data */
		entries[i].start = i;
	write_log(upper_data, upper_index, BYTES, 1, entries, RUNS);
	asks = 0;
	open_it("a long run", &layer, &found);
	for (i = 1; i <= 5; i++)
		assert_int_equal(asked[i], ((size_t)1 << i) * sizeof(struct mapping));
	assert_int_equal(layer.run.count, RUNS);
	layer_close(&layer);
}

/* Also when there is memory again afterwards. */
static void what_found_no_memory_is_not_read_in_part(void **state)
{
	static const struct stretch stretches[] = { { 0, FORMAT_SPACE + 1024 },
						    { FORMAT_SPACE + 2048, FORMAT_SPACE + 4096 },
						    { FORMAT_SPACE + 8192, FORMAT_SPACE + 9216 } };
	struct format_entry entries[20];
	struct layer layer;
	struct err e;
	size_t i, sparse;
	long k;
	int r;

	for (i = 0; i < COUNT_OF(entries); i++) /* two runs, and many */
		entries[i] = (struct format_entry){ .start = i < 2 ? 2 * i : 60 - 2 * i,
						    .sectors = 1,
						    .moffset = DATA };
	for (sparse = 0; sparse < 2; sparse++) {
		write_log(upper_data, upper_index, BYTES, 1, entries, COUNT_OF(entries));
		if (sparse) {
			write_sparse(BYTES);
			fake.size = FORMAT_SPACE + BYTES;
			fake.list = stretches;
			fake.count = COUNT_OF(stretches);
		}
		for (k = 0, r = -ENOMEM; r < 0; k++) {
			refused = k;
			r = upper_open_read_only(upper_data, upper_index, NUMBER, &layer, NULL, &e);
			if (r == -ENOMEM && refused < 0)
				assert_non_null(strstr(e.msg, ": out of memory"));
			else
				assert_true(r == 0 && refused >= 0);
		}
		refused = -1;
		assert_true(k > (sparse ? 3 : 20));
		layer_close(&layer);
	}
}

/* Standard input may be closed.  The folders on the way take descriptors in turns, so it depends on
 * the depth of a path whether a folder gets 0 or the file in it. */
static void a_descriptor_may_be_zero(void **state)
{
	const struct format_entry entry = { .start = 1, .sectors = 1, .moffset = DATA };
	char deeper_data[128], deeper_index[128];
	int kept = dup(0);
	struct upper_findings found;
	enum upper_form form;
	struct layer layer;

	write_log(upper_data, upper_index, BYTES, 1, &entry, 1);
	assert_int_equal(close(0), 0);
	open_it("0 is free", &layer, &found);
	assert_int_equal(layer.run.count, 1);
	layer_close(&layer);
	snprintf(deeper_data, sizeof deeper_data, "%s/./u.data", upper_folder);
	snprintf(deeper_index, sizeof deeper_index, "%s/./u.index", upper_folder);
	assert_int_equal(
		upper_open_read_only(deeper_data, deeper_index, NUMBER, &layer, NULL, NULL), 0);
	assert_int_equal(layer.run.count, 1);
	layer_close(&layer);
	assert_int_equal(upper_look(upper_data, &form, NULL), 0);
	assert_int_equal(form, UPPER_LOG);
	assert_int_equal(fcntl(0, F_GETFD), -1); /* it was closed again */
	assert_int_equal(dup2(kept, 0), 0);
	close(kept);
}

/* ---- looking at a data file ---- */

static void a_data_file_is_looked_at(void **state)
{
	static const struct {
		const char *what;
		uint32_t flags;
		int error, r;
		enum upper_form form;
		const char *said;
	} cases[] = {
		{ "a log", FORMAT_HEADER | FORMAT_DATA_FILE, 0, 0, UPPER_LOG, "" },
		{ "a sparse one", FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SPARSE, 0, 0,
		  UPPER_SPARSE, "" },
		{ "read-only", FORMAT_HEADER | FORMAT_DATA_FILE, EROFS, 0, UPPER_ON_READ_ONLY, "" },
		{ "a sparse one, read-only", FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SPARSE,
		  EROFS, 0, UPPER_SPARSE, "" },
		{ "somebody else's", FORMAT_HEADER | FORMAT_DATA_FILE, EACCES, -EACCES,
		  UPPER_ON_READ_ONLY, "Permission denied" },
		{ "an index file", FORMAT_HEADER, 0, -EBADMSG, UPPER_LOG, "flags 0x1" },
	};
	enum upper_form form;
	char want[100];
	struct err e;
	size_t i;
	int r;

	for (i = 0; i < COUNT_OF(cases); i++) {
		write_part(upper_data, UUID, BYTES, cases[i].flags, NULL, 0);
		fake.open_error = cases[i].error;
		fake.flags = 0;
		form = (enum upper_form)99;
		e.msg[0] = '\0';
		r = upper_look(upper_data, &form, &e);
		if (r != cases[i].r || form != cases[i].form)
			fail_msg("%s: %d, form %d", cases[i].what, r, (int)form);
		snprintf(want, sizeof want, "%s: ", upper_data);
		if (r == 0)
			assert_string_equal(e.msg, "");
		if (r < 0 && (strncmp(e.msg, want, strlen(want)) != 0 ||
			      !strstr(e.msg + strlen(want), cases[i].said)))
			fail_msg("%s: '%s'", cases[i].what, e.msg);
		/* It must not wait, nor be passed on to other programs. */
		assert_true(fake.flags & O_CLOEXEC);
		assert_true(fake.flags & O_NONBLOCK);
		assert_int_equal(fake.flags & O_ACCMODE, r == -EACCES ? O_RDWR : O_RDONLY);
	}
	fake.open_error = EROFS;
	unlink(upper_data);
	assert_int_equal(upper_look(upper_data, &form, &e), -ENOENT);
	fake.open_error = 0;
	assert_int_equal(upper_look(upper_data, &form, &e), -ENOENT);
	snprintf(want, sizeof want, "%s: No such file or directory", upper_data);
	assert_string_equal(e.msg, want);
	assert_int_equal(fake.flags & O_ACCMODE, O_RDWR);
	assert_true(fake.flags & O_CLOEXEC && fake.flags & O_NONBLOCK);
}

/* ---- changes of both files ---- */

static char new_data[80], new_index[80], intent_path[80];

static void write_intent(enum upper_intent_kind kind, const char *uuid, uint64_t size)
{
	struct upper_intent intent = { .kind = kind, .virtual_size = size };
	int fd = open(upper_data, O_RDONLY);

	memcpy(intent.uuid, uuid, FORMAT_UUID);
	assert_true(fd >= 0);
	assert_int_equal(upper_intent_write(&file_ops_system, upper_data, fd, &intent, NULL), 0);
	close(fd);
}

static int clear_new(void **state)
{
	unlink(new_data);
	unlink(new_index);
	unlink(intent_path);
	return reset(state);
}

/* The files that are there map sector 1, the new ones sector 2, and a mixture neither. */
static void write_both(bool old_data, bool old_index, bool with_new_data, bool with_new_index)
{
	const struct format_entry old = { .start = 1, .sectors = 1, .moffset = DATA };
	const struct format_entry new = { .start = 2, .sectors = 1, .moffset = DATA + 1 };

	clear_new(NULL);
	write_log(new_data, new_index, BYTES, 2, &new, 1);
	if (!old_data)
		assert_int_equal(rename(new_data, upper_data), 0);
	if (!old_index)
		assert_int_equal(rename(new_index, upper_index), 0);
	if (old_data || old_index)
		write_log(old_data ? upper_data : upper_disk, old_index ? upper_index : upper_disk,
			  BYTES, 1, &old, 1);
	if (!with_new_data)
		unlink(new_data);
	if (!with_new_index)
		unlink(new_index);
}

static void a_change_that_was_begun_is_seen_done(void **state)
{
	static const struct {
		const char *what;
		bool old_data, old_index, new_data, new_index;
		enum upper_intent_kind kind;
		const char *uuid;
		uint64_t sector, size;
	} cases[] = {
		{ "none", true, true, false, false, UPPER_INTENT_NONE, UUID, 1, BYTES },
		{ "new files without", true, true, true, true, UPPER_INTENT_NONE, UUID, 1, BYTES },
		{ "compacted", true, true, true, true, UPPER_INTENT_COMPACT, UUID, 2, BYTES },
		{ "data renamed", false, true, false, true, UPPER_INTENT_COMPACT, UUID, 2, BYTES },
		{ "both renamed", false, false, false, false, UPPER_INTENT_COMPACT, UUID, 2,
		  BYTES },
		{ "of another", true, true, true, true, UPPER_INTENT_COMPACT, OTHER, 1, BYTES },
		{ "resized", true, true, false, false, UPPER_INTENT_RESIZE, UUID, 1, 2 * BYTES },
		{ "with new files", true, true, true, true, UPPER_INTENT_RESIZE, UUID, 1,
		  2 * BYTES },
		{ "another resized", true, true, false, false, UPPER_INTENT_RESIZE, OTHER, 1,
		  BYTES },
	};
	struct upper_findings found;
	struct layer layer;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		write_both(cases[i].old_data, cases[i].old_index, cases[i].new_data,
			   cases[i].new_index);
		if (cases[i].kind != UPPER_INTENT_NONE)
			write_intent(cases[i].kind, cases[i].uuid, 2 * BYTES);
		open_it(cases[i].what, &layer, &found);
		if (layer.run.count != 1 || mapping_start(layer.run.maps[0]) != cases[i].sector ||
		    layer.header.virtual_size != cases[i].size)
			fail_msg("%s: sector %d of %d bytes", cases[i].what,
				 (int)mapping_start(layer.run.maps[0]),
				 (int)layer.header.virtual_size);
		assert_int_equal(layer.data->size, FORMAT_SPACE + cases[i].sector * SECTOR);
		layer_close(&layer);
	}
}

static void expect_message(const char *what, int want, const char *path, const char *said)
{
	char message[300];
	struct layer layer;
	struct err e;
	int r = upper_open_read_only(upper_data, upper_index, NUMBER, &layer, NULL, &e);

	snprintf(message, sizeof message, "%s: %s", path, said);
	if (r != want || strcmp(e.msg, message) != 0)
		fail_msg("%s: %d '%s', not '%s'", what, r, r < 0 ? e.msg : "", message);
}

static void what_cannot_be_opened_is_named(void **state)
{
	write_both(true, true, false, false);
	assert_int_equal(unlink(upper_index), 0);
	expect_message("no index", -ENOENT, upper_index, "No such file or directory");
	assert_true(fake.flags & O_CLOEXEC && fake.flags & O_NONBLOCK);
	assert_int_equal(mkdir(upper_index, 0700), 0);
	expect_message("a folder", -EISDIR, upper_index, "Is a directory");
	assert_int_equal(rmdir(upper_index), 0);
	assert_int_equal(unlink(upper_data), 0);
	expect_message("no data", -ENOENT, upper_data, "No such file or directory");
	/* With a change that is to be done to it. */
	write_both(true, true, false, false);
	write_intent(UPPER_INTENT_RESIZE, UUID, 2 * BYTES);
	assert_int_equal(unlink(upper_data), 0);
	expect_message("no data to change", -ENOENT, upper_data, "No such file or directory");
	write_part(upper_data, UUID, BYTES, FORMAT_HEADER, NULL, 0);
	expect_message("an index for data", -EBADMSG, upper_data,
		       "LSMT data file's header: flags 0x1 are not those of a data file's header "
		       "(0x3 set, 0x4 clear)");
	assert_int_equal(truncate(intent_path, 128), 0);
	assert_int_equal(truncate(intent_path, 127), 0);
	expect_message("half an intent", -EIO, intent_path,
		       "reading 128 bytes at 0: the file ends at 127");
	assert_int_equal(truncate(intent_path, 128), 0);
	expect_message("a damaged intent", -EBADMSG, intent_path,
		       "is damaged, or no intent of 'overlaybd resize' or 'compact'");
	clear_new(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(neighbours_are_joined, reset),
		cmocka_unit_test_setup(a_log_is_an_array_of_sectors, reset),
		cmocka_unit_test_setup(room_is_made_in_doubles, reset),
		cmocka_unit_test_setup(what_found_no_memory_is_not_read_in_part, reset),
		cmocka_unit_test_setup(a_descriptor_may_be_zero, reset),
		cmocka_unit_test_setup(a_data_file_is_looked_at, reset),
		cmocka_unit_test_setup(a_change_that_was_begun_is_seen_done, clear_new),
		cmocka_unit_test_setup(what_cannot_be_opened_is_named, clear_new),
	};

	loops_seed();
	if (upper_make_folder(NULL) < 0)
		return 1;
	snprintf(new_data, sizeof new_data, "%s.new", upper_data);
	snprintf(new_index, sizeof new_index, "%s.new", upper_index);
	snprintf(intent_path, sizeof intent_path, "%s/u.intent", upper_folder);
	return cmocka_run_group_tests(tests, NULL, upper_remove_folder);
}
