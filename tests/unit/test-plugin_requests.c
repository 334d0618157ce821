/* SPDX-License-Identifier: Apache-2.0 */
/* test-plugin_requests.c - what the plugin's clients get: exports, what a disk can do, reads,
 * writes, extents, errors. */
#include "tests/unit/leftovers.h"
#include "tests/unit/pluginlib.h"

/* ---- clients ---- */

static void clients_of_an_image_share_it(void **state)
{
	void *a, *b;

	serve("config", "plain.yaml");
	forget_calls();
	nbdkit_name = "whatever";
	a = plugin->open(1);
	b = plugin->open(0);
	assert_non_null(a);
	assert_ptr_equal(a, b);
	plugin->close(a);
	plugin->close(b);
	assert_string_equal(calls.text, "client_came\nclient_came\nclient_went\nclient_went\n");
	end();
}

static void clients_of_a_folder_name_their_export(void **state)
{
	void *a, *b;

	serve("dir", "");
	nbdkit_name = NULL;
	assert_null(plugin->open(1));
	assert_string_equal(nbdkit_errors.text, ""); /* nbdkit has said why */
	nbdkit_name = "none";
	assert_null(plugin->open(1));
	assert_non_null(strstr(nbdkit_errors.text, "no export 'none'; there is: plain, written\n"));
	assert_int_equal(nbdkit_last_error, EIO); /* there is no NBD error for ENOENT */
	nbdkit_forget();
	forget_calls();
	nbdkit_name = "plain";
	a = plugin->open(1);
	assert_non_null(strstr(nbdkit_debugs.text, "plain.yaml: 65536 bytes, 1 layers"));
	nbdkit_name = "written";
	b = plugin->open(1);
	assert_true(a && b && a != b);
	plugin->close(a);
	plugin->close(b);
	/* Without statistics there is nothing to report when one goes. */
	assert_null(strstr(calls.text, "report"));
	assert_non_null(strstr(calls.text, "client_came\n"));
	assert_non_null(strstr(calls.text, "client_went\n"));
	end();
}

/* It may be that disk's last chance. */
static void a_client_of_a_folder_leaves_statistics(void **state)
{
	char path[128];
	struct stat st;
	void *a;

	snprintf(path, sizeof path, "%s/stats.json", folder);
	config("stats", path);
	serve("dir", "");
	nbdkit_name = "plain";
	a = plugin->open(1);
	plugin->close(a);
	assert_non_null(strstr(calls.text, "client_went\nreport 1 last\n"));
	assert_int_equal(stat(path, &st), 0);
	end();
}

static void an_image_is_listed_once(void **state)
{
	struct nbdkit_exports list = { .room = 2 }, none = { .room = 0 };

	serve("config", "plain.yaml");
	assert_int_equal(plugin->list_exports(1, 0, &list), 0);
	assert_string_equal(list.text, "=a disk ");
	assert_int_equal(plugin->list_exports(1, 0, &none), -1);
	assert_string_equal(plugin->default_export(1, 0), "");
	end();
}

static void a_folder_is_listed_by_name(void **state)
{
	struct nbdkit_exports list = { .room = 5 }, one = { .room = 1 }, full = { .room = 20000 };

	serve("dir", "");
	assert_int_equal(plugin->list_exports(1, 0, &list), 0);
	assert_string_equal(list.text, "plain=? written=? ");
	assert_int_equal(plugin->list_exports(1, 0, &one), -1);
	assert_int_equal(one.count, 1);
	assert_string_equal(plugin->default_export(1, 0), ""); /* there are two */
	many_exports = 1;
	assert_string_equal(plugin->default_export(1, 0), "x");
	many_exports = 10001;
	assert_int_equal(plugin->list_exports(1, 0, &full), 0);
	assert_int_equal(full.count, 10000); /* nbdkit takes no more */
	many_exports = 0;
	failing = "list";
	failure = EACCES;
	assert_string_equal(plugin->default_export(1, 0), "");
	nbdkit_forget();
	assert_int_equal(plugin->list_exports(1, 0, &list), -1);
	assert_string_equal(nbdkit_errors.text, "the cause\n");
	failing = "";
	end();
}

static void what_clients_are_told(void **state)
{
	uint32_t min, preferred, max;
	void *d;

	serve("config", "plain.yaml");
	d = plugin->open(1);
	assert_int_equal(plugin->get_size(d), DISK);
	assert_string_equal(plugin->export_description(d), "a disk");
	assert_int_equal(plugin->block_size(d, &min, &preferred, &max), 0);
	assert_int_equal(min, 1);
	assert_int_equal(preferred, 4096);
	assert_int_equal(max, 32 << 20);
	assert_int_equal(plugin->can_multi_conn(d), 1);
	assert_int_equal(plugin->can_extents(d), 1);
	assert_int_equal(plugin->can_cache(d), NBDKIT_CACHE_NATIVE);
	assert_int_equal(plugin->can_write(d), 0);
	assert_int_equal(plugin->can_flush(d), 0);
	assert_int_equal(plugin->can_trim(d), 0);
	assert_int_equal(plugin->can_zero(d), 0);
	assert_int_equal(plugin->can_fast_zero(d), 0);
	assert_int_equal(plugin->can_fua(d), NBDKIT_FUA_NONE);
	plugin->close(d);
	end();
	serve("config", "written.yaml");
	d = plugin->open(0);
	assert_int_equal(plugin->can_write(d), 1);
	assert_int_equal(plugin->can_flush(d), 1);
	assert_int_equal(plugin->can_trim(d), 1);
	assert_int_equal(plugin->can_zero(d), 1);
	assert_int_equal(plugin->can_fast_zero(d), 1);
	assert_int_equal(plugin->can_fua(d), NBDKIT_FUA_NATIVE);
	plugin->close(d);
	end();
}

/* Only one that is not written to says it here: a writable upper cuts that off, and says so. */
static void a_log_that_was_cut_is_told_of(void **state)
{
	static const struct {
		uint64_t records, bytes;
		bool is_upper;
		int writable;
		bool told;
	} rows[] = {
		{ 1, 0, true, 0, true },    { 0, 1, true, 0, true },   { 0, 0, true, 0, false },
		{ 3, 0, true, 0, true },    { 0, 11, true, 0, true },  { 3, 11, true, 0, true },
		{ 3, 11, false, 0, false }, { 3, 11, true, 1, false },
	};
	char text[256];
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct image_layer layer = { .is_upper = rows[i].is_upper,
					     .upper = { .ignored_records = rows[i].records,
							.fragment_bytes = rows[i].bytes } };

		config("config", "plain.yaml");
		given_layer = &layer;
		is_writable = rows[i].writable;
		begin();
		given_layer = NULL;
		is_writable = -1;
		snprintf(text, sizeof text,
			 "warning: %s/plain.yaml: the writable layer's log was cut by a crash: "
			 "%" PRIu64 " records and %" PRIu64 " bytes at its end are ignored\n",
			 folder, rows[i].records, rows[i].bytes);
		if (strcmp(nbdkit_errors.text, rows[i].told ? text : "") != 0)
			fail_msg("row %zu: %s", i, nbdkit_errors.text);
		plugin->unload();
		nbdkit_forget();
	}
}

/* ---- requests ---- */

static void reads_give_bytes_and_count(void **state)
{
	struct disk *d;
	struct stats *stats;
	char buf[8192];

	serve("config", "plain.yaml");
	d = plugin->open(1);
	forget_calls();
	memset(buf, 'x', sizeof buf);
	assert_int_equal(plugin->pread(d, buf, 5, 4093, 0), 0);
	assert_memory_equal(buf, "aaa\0\0xx", 7);
	assert_string_equal(calls.text, "note 4093+5\npread 4093+5\n");
	assert_int_equal(plugin->pread(d, buf, sizeof buf, 0, 0), 0);
	stats = stats_group_image(image_stats(d->image));
	assert_int_equal(stats_get(stats, STATS_READS), 2);
	assert_int_equal(stats_get(stats, STATS_READ_BYTES), 5 + sizeof buf);
	forget_calls();
	assert_int_equal(plugin->cache(d, 512, 1024, 0), 0);
	assert_string_equal(calls.text, "prefetch 1024+512\n");
	plugin->close(d);
	end();
}

static void changes_are_handed_on_with_their_flags(void **state)
{
	static const struct {
		uint32_t nbdkit;
		unsigned ours;
	} flags[] = {
		{ 0, 0 },
		{ NBDKIT_FLAG_FUA, UPPER_FUA },
		{ NBDKIT_FLAG_MAY_TRIM, UPPER_MAY_TRIM },
		{ NBDKIT_FLAG_FAST_ZERO, UPPER_FAST },
		{ NBDKIT_FLAG_FUA | NBDKIT_FLAG_MAY_TRIM | NBDKIT_FLAG_FAST_ZERO,
		  UPPER_FUA | UPPER_MAY_TRIM | UPPER_FAST },
	};
	char buf[512], expected[256];
	size_t i;
	void *d;

	serve("config", "written.yaml");
	d = plugin->open(0);
	for (i = 0; i < COUNT_OF(flags); i++) {
		unsigned f = flags[i].ours;

		forget_calls();
		memset(buf, 'b', sizeof buf);
		assert_int_equal(plugin->pwrite(d, buf, 512, 1024, flags[i].nbdkit), 0);
		assert_int_equal(plugin->zero(d, 100, 1536, flags[i].nbdkit), 0);
		assert_int_equal(plugin->trim(d, 4096, 8192, flags[i].nbdkit), 0);
		assert_int_equal(plugin->flush(d, 0), 0);
		snprintf(expected, sizeof expected,
			 "pwrite 1024+512 %u\nzero 1536+100 %u\ntrim 8192+4096 %u\nflush\n", f, f,
			 f);
		assert_string_equal(calls.text, expected);
		assert_int_equal(plugin->pread(d, buf, 512, 1280, 0), 0);
		assert_memory_equal(buf, "bbbb", 4);
		assert_memory_equal(buf + 256, "\0\0\0\0", 4);
	}
	plugin->close(d);
	end();
	assert_string_equal(nbdkit_errors.text, "");
}

/* Every request that fails says why, once, and what NBD has no number for is EIO: nbdkit would make
 * it EINVAL, the client's own mistake. */
static void failures_have_numbers_of_nbd(void **state)
{
	static const struct {
		int code, nbd;
	} codes[] = {
		{ EINVAL, EINVAL },
		{ ENOSPC, ENOSPC },
		{ EROFS, EROFS },
		{ ENOMEM, ENOMEM },
		{ EDQUOT, EDQUOT },
		{ EFBIG, EFBIG },
		{ EOPNOTSUPP, EOPNOTSUPP },
		{ ESHUTDOWN, ESHUTDOWN },
		{ EIO, EIO },
		{ EBADMSG, EIO },
		{ ETIMEDOUT, EIO },
		{ ENOENT, EIO },
		{ EAGAIN, EIO },
		{ EACCES, EIO },
		{ ESTALE, EIO },
	};
	static const char *const names[] = { "pread", "pwrite", "zero", "trim", "flush" };
	char buf[512] = "";
	size_t i, k;
	void *d;

	serve("config", "written.yaml");
	d = plugin->open(0);
	cause = "two\nlines";
	for (i = 0; i < COUNT_OF(names); i++)
		for (k = 0; k < COUNT_OF(codes); k++) {
			int r;

			failing = names[i];
			failure = codes[k].code;
			nbdkit_forget();
			r = i == 0   ? plugin->pread(d, buf, 512, 0, 0)
			    : i == 1 ? plugin->pwrite(d, buf, 512, 0, 0)
			    : i == 2 ? plugin->zero(d, 512, 0, 0)
			    : i == 3 ? plugin->trim(d, 512, 0, 0)
				     : plugin->flush(d, 0);
			if (r != -1 || nbdkit_last_error != codes[k].nbd)
				fail_msg("%s, %d: %d %d", names[i], failure, r, nbdkit_last_error);
			assert_string_equal(nbdkit_errors.text, "two\\x0alines\n");
		}
	failing = "";
	plugin->close(d);
	end();
}

/* However much of it has to be escaped. */
static void a_message_is_told_whole(void **state)
{
	char text[sizeof((struct err *)NULL)->msg], buf[512];
	char whole[4 * sizeof text + 1];
	size_t i;
	void *d;

	serve("config", "plain.yaml");
	d = plugin->open(1);
	memset(text, '\n', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (i = 0; i < sizeof text - 1; i++)
		memcpy(whole + 4 * i, "\\x0a", 4);
	strcpy(whole + 4 * i, "\n");
	cause = text;
	failing = "pread";
	failure = EIO;
	nbdkit_forget();
	assert_int_equal(plugin->pread(d, buf, 512, 0, 0), -1);
	assert_string_equal(nbdkit_errors.text, whole);
	failing = "";
	plugin->close(d);
	end();
}

/* ---- extents ---- */

static void extents_are_data_or_zeroes(void **state)
{
	enum { HOLE = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO };
	struct nbdkit_extents all = { .room = 10 }, one = { .room = 10 };
	void *d;

	assert_int_equal(HOLE, 3);
	serve("config", "plain.yaml");
	d = plugin->open(1);
	forget_calls();
	assert_int_equal(plugin->extents(d, DISK, 0, 0, &all), 0);
	assert_string_equal(calls.text, "extents 0+65536 1\n");
	assert_string_equal(all.text, "0+4096:0 4096+4096:3 8192+56832:3 65024+512:0 ");
	assert_int_equal(plugin->extents(d, DISK - 100, 100, NBDKIT_FLAG_REQ_ONE, &one), 0);
	assert_string_equal(one.text, "100+3996:0 ");
	/* Zeroed and hole are one type to a client. */
	one = (struct nbdkit_extents){ .room = 10 };
	assert_int_equal(plugin->extents(d, DISK - 4096, 4096, NBDKIT_FLAG_REQ_ONE, &one), 0);
	assert_string_equal(one.text, "4096+4096:3 8192+56832:3 ");
	plugin->close(d);
	end();
}

static void extents_that_fail_say_where(void **state)
{
	struct nbdkit_extents full = { .room = 1, .failure = ENOMEM };
	char message[256];
	void *d;

	serve("config", "plain.yaml");
	d = plugin->open(1);
	assert_int_equal(plugin->extents(d, 16384, 0, 0, &full), -1);
	assert_int_equal(nbdkit_last_error, ENOMEM);
	snprintf(message, sizeof message,
		 "%s/plain.yaml: extents of 16384 bytes at 0: Cannot allocate memory\n", folder);
	assert_string_equal(nbdkit_errors.text, message);
	plugin->close(d);
	end();
}

static void an_answer_has_so_many_extents(void **state)
{
	struct nbdkit_extents list = { .room = 100000 };
	void *d;

	serve("config", "plain.yaml");
	d = plugin->open(1);
	many_extents = 70000;
	assert_int_equal(plugin->extents(d, DISK, 0, 0, &list), 0);
	assert_int_equal(list.count, 65536);
	many_extents = 65535;
	list = (struct nbdkit_extents){ .room = 100000 };
	assert_int_equal(plugin->extents(d, DISK, 0, 0, &list), 0);
	assert_int_equal(list.count, 65535);
	many_extents = 0;
	plugin->close(d);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clients_of_an_image_share_it),
		TEST(clients_of_a_folder_name_their_export),
		TEST(a_client_of_a_folder_leaves_statistics),
		TEST(an_image_is_listed_once),
		TEST(a_folder_is_listed_by_name),
		TEST(what_clients_are_told),
		TEST(a_log_that_was_cut_is_told_of),
		TEST(reads_give_bytes_and_count),
		TEST(changes_are_handed_on_with_their_flags),
		TEST(failures_have_numbers_of_nbd),
		TEST(a_message_is_told_whole),
		TEST(extents_are_data_or_zeroes),
		TEST(extents_that_fail_say_where),
		TEST(an_answer_has_so_many_extents),
	};

	leftovers_allowed = 1; /* quit.c's eventfd */
	plugin = plugin_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
