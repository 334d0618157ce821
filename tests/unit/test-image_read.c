/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_read.c - which bytes of which layer a read, a hint and an extent mean: what the layers
 * are asked for, in which order, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/image_private.h"
#include "core/layer_writer.h"

enum {
	SECTORS = 512,
	DISK = SECTORS * SECTOR,
	LOWERS = 9,
};

static const struct config_options no_service = { .service = "none" };
static char folder[] = "/tmp/test-image_read.XXXXXX";
static uint8_t model[DISK];
static char asked[4096]; /* of the layers, a word each: what:LAYER/OFFSET+BYTES */
static uint64_t deadline; /* of the caller, at the last read */
static bool failing; /* reads of layers */

static const char *in_folder(const char *name)
{
	static char paths[4][96];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

/* ---- the disk ---- */

/* What the lowers hold, in sectors; their files have it one behind the other, from sector 8. */
static const struct {
	unsigned layer, at, n;
	bool zero;
} ranges[] = {
	{ 0, 0, 10, false },   { 0, 20, 10, false }, { 0, 100, 300, false }, { 1, 110, 32, false },
	{ 1, 200, 33, false }, { 2, 60, 10, true },  { 7, 300, 1, false },   { 8, 350, 1, false },
};

static void write_lower(unsigned layer)
{
	const struct layer_writer_options options = { .virtual_size = DISK };
	char name[16];
	struct layer_writer *w;
	struct sink *s;
	size_t i, k;
	int r;

	snprintf(name, sizeof name, "%u", layer);
	assert_int_equal(sink_open_file(in_folder(name), &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	for (i = 0; i < sizeof ranges / sizeof *ranges; i++) {
		uint8_t *bytes = model + ranges[i].at * SECTOR;

		if (ranges[i].layer != layer)
			continue;
		for (k = 0; k < ranges[i].n * SECTOR; k++)
			bytes[k] = ranges[i].zero ? 0 : (uint8_t)(k / 7 + k / SECTOR + 31 * i);
		r = ranges[i].zero ? layer_writer_zeroes(w, ranges[i].at, ranges[i].n, NULL)
				   : layer_writer_data(w, ranges[i].at, bytes, ranges[i].n, NULL);
		assert_int_equal(r, 0);
	}
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

/* The upper has sector 50, then 49; no lower has them. */
static int write_disk(void **state)
{
	struct upper_log *log;
	char text[1024];
	size_t n;
	unsigned i;

	if (!mkdtemp(folder))
		return -1;
	n = (size_t)snprintf(text, sizeof text, "lowers:\n");
	for (i = 0; i < LOWERS; i++) {
		write_lower(i);
		n += (size_t)snprintf(text + n, sizeof text - n, "- file: '%u'\n", i);
	}
	n += (size_t)snprintf(text + n, sizeof text - n, "upper: {data: u.data, index: u.index}\n");
	assert_int_equal(io_replace_file(in_folder("c"), text, n, NULL), 0);
	assert_int_equal(upper_log_create(NULL, in_folder("u.data"), in_folder("u.index"), DISK,
					  NULL, NULL, NULL),
			 0);
	assert_int_equal(
		upper_log_open(in_folder("u.data"), in_folder("u.index"), NULL, &log, NULL, NULL),
		0);
	memset(model + 49 * SECTOR, 0x49, SECTOR);
	memset(model + 50 * SECTOR, 0x50, SECTOR);
	assert_int_equal(upper_log_pwrite(log, model + 50 * SECTOR, SECTOR, 50 * SECTOR, 0, NULL),
			 0);
	assert_int_equal(upper_log_pwrite(log, model + 49 * SECTOR, SECTOR, 49 * SECTOR, 0, NULL),
			 0);
	assert_int_equal(upper_log_close(log, NULL), 0);
	return 0;
}

static int remove_disk(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

/* ---- layers that tell what they are asked for ---- */

struct spy {
	struct source source;
	struct source *below;
	unsigned layer;
};

static void note(const struct source *s, const char *what, uint64_t off, uint64_t n)
{
	size_t end = strlen(asked);

	snprintf(asked + end, sizeof asked - end, "%s:%u/%llu+%llu ", what,
		 ((const struct spy *)s)->layer, (unsigned long long)off, (unsigned long long)n);
}

static int spy_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	note(s, "read", off, n);
	deadline = caller()->deadline;
	return failing ? err_set(e, EIO, "no read")
		       : source_pread(((struct spy *)s)->below, buf, n, off, e);
}

static void spy_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	note(s, "prefetch", off, n);
}

static void spy_want(struct source *s, uint64_t off, uint64_t n)
{
	note(s, "want", off, n);
}

static void spy_close(struct source *s)
{
	source_close(((struct spy *)s)->below);
	free(s);
}

static const struct source_ops spy_ops = { .name = "spy",
					   .pread = spy_pread,
					   .prefetch = spy_prefetch,
					   .want = spy_want,
					   .close = spy_close };

struct opened {
	struct image_config *config;
	struct image *image;
};

static struct opened open_disk(bool writable)
{
	const struct image_options options = { .writable = writable };
	struct opened o;
	struct err e = { "" };
	unsigned i;

	if (config_load(in_folder("c"), &no_service, &o.config, &e) < 0 ||
	    image_open(o.config, &options, &o.image, &e) < 0)
		fail_msg("%s", e.msg);
	assert_null(strstr(e.msg, "/c: ")); /* nobody has put a name before it */
	for (i = 0; i < image_stack(o.image)->layer_count - writable; i++) {
		struct image_layer *l = image_stack(o.image)->layers[i];
		struct spy *s = calloc(1, sizeof *s);

		*s = (struct spy){ { &spy_ops, l->layer.data->size }, l->layer.data, i };
		l->layer.data = &s->source;
	}
	asked[0] = '\0';
	return o;
}

static void close_disk(struct opened *o)
{
	o->image->lowers.remote = NULL;
	image_close(o->image);
	config_free(o->config);
}

/* As if some layer were fetched from a registry. */
static void make_remote(struct opened *o)
{
	static char marker;

	o->image->lowers.remote = (struct remote *)&marker;
	o->config->fetch.timeout = 30;
}

/* ---- reads ---- */

#define S SECTOR

static const struct {
	uint64_t off, n;
	const char *wants, *reads; /* the first only of a remote image */
} reads[] = {
	/* One piece is asked for by its read. */
	{ 2 * S + 100, 10, "", "read:0/5220+10 " },
	{ 0, 10 * S, "", "read:0/4096+5120 " },
	/* What follows on in the file is asked for together, whatever lies between on the disk. */
	{ 0, 30 * S, "want:0/4096+10240 ", "read:0/4096+5120 read:0/9216+5120 " },
	{ 3, 30 * S - 4, "want:0/4099+10236 ", "read:0/4099+5117 read:0/9216+5119 " },
	/* A gap of 16 KiB in the file is cheaper than a request, a longer one is not. */
	{ 100 * S, 100 * S, "want:0/14336+51200 want:1/4096+16384 ",
	  "read:0/14336+5120 read:1/4096+16384 read:0/35840+29696 " },
	{ 190 * S, 60 * S, "want:0/60416+5120 want:0/82432+8704 want:1/20480+16896 ",
	  "read:0/60416+5120 read:1/20480+16896 read:0/82432+8704 " },
	/* Layers 0 and 7 have a slot each, 0 and 8 have one. */
	{ 299 * S, 3 * S, "want:0/116224+1536 want:7/4096+512 ",
	  "read:0/116224+512 read:7/4096+512 read:0/117248+512 " },
	{ 349 * S, 3 * S, "want:0/141824+512 want:8/4096+512 want:0/142848+512 ",
	  "read:0/141824+512 read:8/4096+512 read:0/142848+512 " },
	/* Backwards in the file. */
	{ 49 * S, 2 * S, "want:9/4608+512 want:9/4096+512 ", "read:9/4608+512 read:9/4096+512 " },
	/* Zeroes and holes are asked of nobody. */
	{ 60 * S, 5 * S, "", "" },
	{ 58 * S, 4 * S, "", "" },
	{ 8 * S, 5 * S, "want:0/8192+1024 ", "read:0/8192+1024 " },
	/* Single bytes. */
	{ 110 * S - 1, 2, "want:0/19455+1 want:1/4096+1 ", "read:0/19455+1 read:1/4096+1 " },
	{ 200 * S - 1, 33 * S + 2, "want:0/65535+1 want:0/82432+1 want:1/20480+16896 ",
	  "read:0/65535+1 read:1/20480+16896 read:0/82432+1 " },
	{ 0, 0, "", "" },
	{ DISK, 0, "", "" },
	{ DISK - 1, 1, "", "" },
};

static void reads_ask_for_what_they_need(void **state)
{
	struct opened o = open_disk(false);
	uint8_t *buf = malloc(DISK + 1);
	struct stats_group *group;
	struct stats *stats;
	unsigned remote;
	size_t i;

	assert_int_equal(image_layer_count(o.image), LOWERS + 1);
	assert_int_equal(stats_group_open("x", &group, NULL), 0);
	assert_int_equal(stats_group_add_layer(group, "0", &stats, NULL), 0);
	image_stack(o.image)->layers[0]->stats = stats;
	for (remote = 0; remote < 2; remote++) {
		uint64_t count = stats_get(stats, STATS_READS);
		uint64_t bytes = stats_get(stats, STATS_READ_BYTES);

		if (remote)
			make_remote(&o);
		for (i = 0; i < sizeof reads / sizeof *reads; i++) {
			struct err e = { "" };
			char want[1024];
			const char *at;

			asked[0] = '\0';
			memset(buf, 0xa5, DISK + 1);
			if (image_pread(o.image, buf, reads[i].n, reads[i].off, &e) < 0)
				fail_msg("%zu: %s", i, e.msg);
			assert_string_equal(e.msg, "");
			snprintf(want, sizeof want, "%s%s", remote ? reads[i].wants : "",
				 reads[i].reads);
			assert_string_equal(asked, want);
			assert_memory_equal(buf, model + reads[i].off, reads[i].n);
			assert_int_equal(buf[reads[i].n], 0xa5);
			assert_int_equal(caller()->deadline, 0);
			if (reads[i].reads[0])
				assert_int_equal(deadline != 0, remote);
			for (at = asked; (at = strstr(at, "read:0/")); at++) {
				count++;
				bytes += strtoul(strchr(at, '+') + 1, NULL, 10);
			}
		}
		assert_int_equal(stats_get(stats, STATS_READS), count);
		assert_int_equal(stats_get(stats, STATS_READ_BYTES), bytes);
	}
	free(buf);
	close_disk(&o);
	stats_group_close(group);
}

static void what_fails_is_told_with_its_layer(void **state)
{
	struct opened o = open_disk(false);
	char want[256];
	uint8_t buf[SECTOR];
	struct err e;

	failing = true;
	assert_int_equal(image_pread(o.image, buf, S, 350 * S, &e), -EIO);
	failing = false;
	snprintf(want, sizeof want, "%s: layer 8 (%s): no read", in_folder("c"), in_folder("8"));
	assert_string_equal(e.msg, want);
	assert_int_equal(image_pread(o.image, buf, 2, DISK - 1, &e), -EINVAL);
	snprintf(want, sizeof want, "%s: 2 bytes at 262143 lie beyond the disk's end at 262144",
		 in_folder("c"));
	assert_string_equal(e.msg, want);
	close_disk(&o);
	o = open_disk(true);
	failing = true;
	assert_int_equal(image_pread(o.image, buf, S, 350 * S, &e), -EIO);
	failing = false;
	snprintf(want, sizeof want, "%s: %s: layer 8 (%s): no read", in_folder("c"), in_folder("c"),
		 in_folder("8"));
	assert_string_equal(e.msg, want);
	close_disk(&o);
}

static void hints_are_of_each_piece(void **state)
{
	static const struct {
		uint64_t off, n;
		const char *want;
	} rows[] = {
		{ 0, 30 * S, "prefetch:0/4096+5120 prefetch:0/9216+5120 " },
		{ 100 * S, 100 * S,
		  "prefetch:0/14336+5120 prefetch:1/4096+16384 prefetch:0/35840+29696 " },
		{ 49 * S + 1, 1, "prefetch:9/4609+1 " },
		{ 60 * S, 5 * S, "" },
		{ 399 * S, UINT64_MAX, "prefetch:0/167424+512 " },
		{ DISK - 1, UINT64_MAX, "" },
		{ DISK, 1, "" },
		{ DISK + 1, UINT64_MAX, "" },
		{ UINT64_MAX, UINT64_MAX, "" },
	};
	struct opened o = open_disk(false);
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		asked[0] = '\0';
		image_prefetch(o.image, rows[i].off, rows[i].n);
		assert_string_equal(asked, rows[i].want);
	}
	close_disk(&o);
}

/* ---- extents ---- */

static uint64_t range_end; /* of the range whose extents are walked */

size_t __real_upper_log_pieces(struct upper_log *u, uint64_t lba, uint64_t sectors,
			       struct segment *out, size_t room);
size_t __wrap_upper_log_pieces(struct upper_log *u, uint64_t lba, uint64_t sectors,
			       struct segment *out, size_t room);
/* By 64 at once, and no more than there are. */
size_t __wrap_upper_log_pieces(struct upper_log *u, uint64_t lba, uint64_t sectors,
			       struct segment *out, size_t room)
{
	assert_true(sectors > 0);
	assert_true((lba + sectors - 1) * SECTOR < range_end);
	assert_true((lba + sectors) * SECTOR >= range_end);
	assert_int_equal(room, 64);
	return __real_upper_log_pieces(u, lba, sectors, out, room);
}

struct extents {
	struct image *image;
	bool merged;
	uint64_t at;
	int last;
	unsigned calls, stop_at; /* the call that returns `code` */
	int code;
	uint8_t kinds[SECTORS]; /* of each sector that was told of, and one more than that */
};

/* The bytes are where the extent says. */
static void check_bytes(const struct extents *c, const struct image_extent *x)
{
	const char *path = image_layer(c->image, x->layer)->path;
	struct source *file;
	uint8_t *bytes = malloc(x->n);

	assert_int_equal(source_open_file(path, &file, NULL), 0);
	assert_int_equal(source_pread(file, bytes, x->n, x->layer_off, NULL), 0);
	assert_memory_equal(bytes, model + x->off, x->n);
	source_close(file);
	free(bytes);
}

static int look_at_extent(void *arg, const struct image_extent *x)
{
	struct extents *c = arg;
	uint64_t i;

	assert_int_equal(x->off, c->at);
	assert_true(x->n > 0);
	assert_true(!c->merged || (int)x->kind != c->last);
	if (x->kind == EXTENT_DATA && !c->merged && c->stop_at == UINT32_MAX)
		check_bytes(c, x);
	for (i = x->off; i < x->off + x->n; i++) {
		assert_true(x->kind == EXTENT_DATA || model[i] == 0);
		c->kinds[i / SECTOR] = 1 + (uint8_t)x->kind;
	}
	c->at += x->n;
	c->last = (int)x->kind;
	return c->calls++ == c->stop_at ? c->code : 0;
}

/* Walks the range; stopped at each of its extents in turn, it says so.  Returns how many there are.
 */
static unsigned walk(struct image *image, uint64_t off, uint64_t n, bool merged)
{
	static const int codes[] = { 1, -EIO };
	struct extents all = {
		.image = image, .merged = merged, .at = off, .last = -1, .stop_at = UINT32_MAX
	};
	unsigned k, i;

	range_end = off + n;
	assert_int_equal(image_extents(image, off, n, merged, look_at_extent, &all), 0);
	assert_int_equal(all.at, off + n);
	for (k = 0; k < all.calls; k += 1 + k / 7)
		for (i = 0; i < 2; i++) {
			struct extents c = { .image = image,
					     .merged = merged,
					     .at = off,
					     .last = -1,
					     .stop_at = k,
					     .code = codes[i] };

			assert_int_equal(image_extents(image, off, n, merged, look_at_extent, &c),
					 codes[i] < 0 ? codes[i] : 0);
			assert_int_equal(c.calls, k + 1);
		}
	return all.calls;
}

static void extents_of_lowers(void **state)
{
	struct opened o = open_disk(false);
	struct extents c;
	size_t i;

	assert_int_equal(walk(o.image, 0, DISK, false), 19);
	assert_int_equal(walk(o.image, 0, DISK, true), 10);
	for (i = 0; i < sizeof reads / sizeof *reads; i++) {
		(void)walk(o.image, reads[i].off, reads[i].n, false);
		(void)walk(o.image, reads[i].off, reads[i].n, true);
	}
	/* Two of one byte each are one. */
	assert_int_equal(walk(o.image, 110 * S - 1, 2, true), 1);
	assert_int_equal(walk(o.image, 110 * S - 1, 2, false), 2);
	assert_int_equal(walk(o.image, 110 * S, 1, true), 1);
	assert_int_equal(walk(o.image, 61 * S, 0, true), 0);
	c = (struct extents){ .image = o.image, .stop_at = UINT32_MAX };
	assert_int_equal(image_extents(o.image, 0, DISK, false, look_at_extent, &c), 0);
	assert_int_equal(c.kinds[9], 1 + EXTENT_DATA);
	assert_int_equal(c.kinds[10], 1 + EXTENT_HOLE);
	assert_int_equal(c.kinds[60], 1 + EXTENT_ZERO);
	assert_int_equal(c.kinds[69], 1 + EXTENT_ZERO);
	assert_int_equal(c.kinds[70], 1 + EXTENT_HOLE);
	assert_int_equal(image_extents(o.image, DISK - 1, 2, true, look_at_extent, NULL), -EINVAL);
	close_disk(&o);
}

/* Where an extent begins and ends: its first layer counts when several are one. */
static int keep_extent(void *arg, const struct image_extent *x)
{
	*(struct image_extent *)arg = *x;
	return 1;
}

static void expect_extent(struct image *image, uint64_t off, uint64_t n, bool merged,
			  struct image_extent want)
{
	struct image_extent got = { 0 };

	range_end = off + n;
	assert_int_equal(image_extents(image, off, n, merged, keep_extent, &got), 0);
	assert_int_equal(got.off, want.off);
	assert_int_equal(got.n, want.n);
	assert_int_equal(got.kind, want.kind);
	if (want.kind != EXTENT_HOLE)
		assert_int_equal(got.layer, want.layer);
	if (want.kind == EXTENT_DATA)
		assert_int_equal(got.layer_off, want.layer_off);
}

static void extents_name_their_layer(void **state)
{
	struct opened o = open_disk(false);

	expect_extent(o.image, 105 * S + 1, 100 * S, false,
		      (struct image_extent){ 105 * S + 1, 5 * S - 1, EXTENT_DATA, 0, 33 * S + 1 });
	expect_extent(o.image, 105 * S + 1, 100 * S, true,
		      (struct image_extent){ 105 * S + 1, 100 * S, EXTENT_DATA, 0, 33 * S + 1 });
	expect_extent(o.image, 110 * S + 2, 100 * S, true,
		      (struct image_extent){ 110 * S + 2, 100 * S, EXTENT_DATA, 1, 8 * S + 2 });
	expect_extent(o.image, 65 * S, 2, true,
		      (struct image_extent){ 65 * S, 2, EXTENT_ZERO, 2, 0 });
	expect_extent(o.image, 11 * S, 100, true,
		      (struct image_extent){ 11 * S, 100, EXTENT_HOLE, 0, 0 });
	close_disk(&o);
}

/* So many pieces that they are looked up in several goes; some of it shows what lies below. */
static void extents_of_a_writable_upper(void **state)
{
	struct opened o = open_disk(true);
	uint8_t before[DISK];
	unsigned i;

	memcpy(before, model, DISK);
	for (i = 0; i < 150; i++) {
		memset(model + (100 + 2 * i) * S, (int)i + 1, S);
		assert_int_equal(image_pwrite(o.image, model + (100 + 2 * i) * S, S,
					      (100 + 2 * i) * S, 0, NULL),
				 0);
	}
	memset(model + 20 * S, 0, 5 * S);
	assert_int_equal(image_zero(o.image, 20 * S, 5 * S, 0, NULL), 0);
	assert_int_equal(image_size(o.image), DISK);
	(void)walk(o.image, 0, DISK, false);
	(void)walk(o.image, 0, DISK, true);
	for (i = 0; i < 40; i++) {
		(void)walk(o.image, 90 * S + 37 * i, (140 + i) * S + 13 * i, i % 2);
		(void)walk(o.image, (100 + i) * S + i, 1 + i, i % 2);
	}
	expect_extent(o.image, 102 * S + 5, 2 * S, false,
		      (struct image_extent){ 102 * S + 5, S - 5, EXTENT_DATA, LOWERS, 11 * S + 5 });
	expect_extent(o.image, 103 * S + 5, 2 * S, false,
		      (struct image_extent){ 103 * S + 5, S - 5, EXTENT_DATA, 0, 31 * S + 5 });
	expect_extent(o.image, 21 * S + 5, 9 * S, false,
		      (struct image_extent){ 21 * S + 5, 4 * S - 5, EXTENT_ZERO, LOWERS, 0 });
	expect_extent(o.image, 70 * S + 5, 9 * S, false,
		      (struct image_extent){ 70 * S + 5, 9 * S, EXTENT_HOLE, 0, 0 });
	close_disk(&o);
	memcpy(model, before, DISK);
	assert_int_equal(unlink(in_folder("u.data")), 0);
	assert_int_equal(unlink(in_folder("u.index")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_ask_for_what_they_need),
		cmocka_unit_test(what_fails_is_told_with_its_layer),
		cmocka_unit_test(hints_are_of_each_piece),
		cmocka_unit_test(extents_of_lowers),
		cmocka_unit_test(extents_name_their_layer),
		cmocka_unit_test(extents_of_a_writable_upper), /* the last: it changes the disk */
	};

	return cmocka_run_group_tests(tests, write_disk, remove_disk);
}
