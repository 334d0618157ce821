/* SPDX-License-Identifier: Apache-2.0 */
/* test-image.c - whole images against a plain model: layers are written in every form, stacked,
 * opened, and read at any place and length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "core/base/workers.h"
#include "core/image.h"
#include "core/layer_writer.h"
#include "tests/unit/loglib.h"
#include "tests/unit/loops.h"
#include "zfile/zwriter.h"

static char folder[] = "/tmp/test-image.XXXXXX";
static struct workers *pool;

/* ---- what an image asks of others ---- */

static unsigned threads; /* of the last pool */
static int form_of_upper = -1; /* what it looks like; -1: see the file */
static unsigned opened, shut;
static int answer; /* of the lowers */

#define WRAP(type, name, parameters)                                                               \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters

WRAP(int, workers_open, (unsigned count, struct workers **out, struct err *e))
{
	threads = count;
	return __real_workers_open(count, out, e);
}

WRAP(int, upper_look, (const char *path, enum upper_form *form, struct err *e))
{
	if (form_of_upper < 0)
		return __real_upper_look(path, form, e);
	*form = (enum upper_form)form_of_upper;
	return 0;
}

WRAP(void, lowers_opened, (struct lowers * l))
{
	opened++;
	__real_lowers_opened(l);
}

WRAP(void, lowers_shut, (struct lowers * l))
{
	shut++;
	__real_lowers_shut(l);
}

WRAP(int, lowers_start_download, (struct lowers * l, struct err *e))
{
	return answer;
}

WRAP(int, lowers_read_acceleration,
     (struct lowers * l, size_t limit, char **bytes, size_t *n, struct err *e))
{
	*n = limit;
	return answer;
}

WRAP(int, lowers_find_artifact,
     (struct lowers * l, const char *type, size_t limit, char **bytes, size_t *n, struct err *e))
{
	*n = limit + strlen(type);
	return answer;
}

/* The config of the image under test; its files are FOLDER/N.obd. */
static struct image_config config;
static char config_path[] = "image.yaml";

static int set_up(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	config.path = config_path;
	return workers_open(2, &pool, NULL);
}

static int tear_down(void **state)
{
	workers_close(pool);
	return rmdir(folder);
}

static void add_layer(void)
{
	config.lowers = realloc(config.lowers, (config.lower_count + 1) * sizeof *config.lowers);
	config.lowers[config.lower_count] = (struct lower_config){ 0 };
	assert_true(asprintf(&config.lowers[config.lower_count].file, "%s/%zu.obd", folder,
			     config.lower_count) > 0);
	config.lower_count++;
}

static void remove_layers(void)
{
	while (config.lower_count > 0) {
		char *file = config.lowers[--config.lower_count].file;

		unlink(file);
		free(file);
	}
	free(config.lowers);
	config.lowers = NULL;
}

/* How a layer file is packed. */
struct form {
	bool tar;
	struct zwriter_options z; /* algorithm 0: none */
};

static struct form random_form(void)
{
	return (struct form){
		.tar = loops_random() % 2,
		.z = { .algorithm = (uint8_t)(loops_random() % 3),
		       .block_size = UINT32_C(4096) << loops_random() % 5 },
	};
}

/* A writer of the next layer. */
static struct layer_writer *open_layer_writer(struct form form, uint64_t virtual_size)
{
	struct layer_writer_options options = { .virtual_size = virtual_size };
	struct layer_writer *w;
	struct sink *s;

	add_layer();
	assert_int_equal(sink_open_file(config.lowers[config.lower_count - 1].file, &s, NULL), 0);
	if (form.tar)
		assert_int_equal(tar_open_sink(s, &s, NULL), 0);
	if (form.z.algorithm)
		assert_int_equal(zwriter_open_sink(s, &form.z, pool, &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	return w;
}

static void finish(struct layer_writer *w)
{
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

/* Bytes that compress in part. */
static void fill(uint8_t *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)(i % 1024 < 512 ? loops_random() : i / 64);
}

enum model_kind { MODEL_HOLE, MODEL_ZERO, MODEL_DATA };

struct model {
	uint8_t *bytes;
	uint8_t *kind; /* a sector */
	uint64_t sectors;
};

static struct model model_new(uint64_t sectors)
{
	return (struct model){ .bytes = calloc(sectors, SECTOR),
			       .kind = calloc(sectors, 1),
			       .sectors = sectors };
}

static void model_free(struct model *m)
{
	free(m->bytes);
	free(m->kind);
}

/* Writes a layer of random ranges below `sectors`, in the model too. */
static void write_random_layer(struct model *m, uint64_t sectors)
{
	struct layer_writer *w = open_layer_writer(random_form(), sectors * SECTOR);
	unsigned density = (unsigned)(loops_random() % 100);
	uint64_t lba = 0, longest = 1 + loops_random() % 200;

	while (lba < sectors) {
		uint64_t n = min_u64(1 + loops_random() % longest, sectors - lba);
		uint8_t *bytes = m->bytes + lba * SECTOR;

		if (loops_random() % 100 < density && loops_random() % 5 == 0) {
			memset(bytes, 0, n * SECTOR);
			memset(m->kind + lba, MODEL_ZERO, n);
			assert_int_equal(layer_writer_zeroes(w, lba, n, NULL), 0);
		} else if (loops_random() % 100 < density) {
			fill(bytes, n * SECTOR);
			memset(m->kind + lba, MODEL_DATA, n);
			assert_int_equal(layer_writer_data(w, lba, bytes, n, NULL), 0);
		}
		lba += n;
	}
	finish(w);
}

struct extent_check {
	const struct model *model;
	uint64_t off; /* where the next one must begin */
	int last; /* kind of the one before */
	bool merged;
};

static int check_extent(void *arg, const struct image_extent *x)
{
	static const uint8_t want[] = {
		[EXTENT_DATA] = MODEL_DATA, [EXTENT_ZERO] = MODEL_ZERO, [EXTENT_HOLE] = MODEL_HOLE
	};
	struct extent_check *c = arg;
	uint64_t i;

	assert_int_equal(x->off, c->off);
	assert_true(x->n > 0);
	assert_true(!c->merged || (int)x->kind != c->last);
	for (i = 0; i < x->n; i++)
		assert_int_equal(c->model->kind[(x->off + i) / SECTOR], want[x->kind]);
	c->off += x->n;
	c->last = (int)x->kind;
	return 0;
}

static void compare(struct image *image, const struct model *m, unsigned reads)
{
	uint64_t size = m->sectors * SECTOR;
	uint8_t *buf = malloc(size + 1);
	struct err e;

	assert_int_equal(image_size(image), size);
	while (reads-- > 0) {
		uint64_t off = loops_random() % size;
		uint64_t n = loops_random() % (reads % 4 ? min_u64(size - off, 9000) : size - off);
		struct extent_check c = { .model = m, .off = off, .last = -1, .merged = reads % 2 };

		memset(buf, 0xa5, n + 1);
		if (image_pread(image, buf, n, off, &e) != 0)
			fail_msg("%s", e.msg);
		assert_memory_equal(buf, m->bytes + off, n);
		assert_int_equal(buf[n], 0xa5);
		assert_int_equal(image_extents(image, off, n, c.merged, check_extent, &c), 0);
		assert_int_equal(c.off, off + n);
		image_prefetch(image, off, n);
	}
	assert_int_equal(image_pread(image, buf, size, 0, &e), 0);
	assert_memory_equal(buf, m->bytes, size);
	assert_int_equal(image_pread(image, buf, 2, size - 1, &e), -EINVAL);
	assert_int_equal(image_pread(image, buf, 1, UINT64_MAX, &e), -EINVAL);
	assert_int_equal(image_extents(image, size, 1, true, check_extent, NULL), -EINVAL);
	free(buf);
}

static struct image *open_image(void)
{
	struct image *image;
	struct err e;

	if (image_open(&config, NULL, &image, &e) != 0)
		fail_msg("%s", e.msg);
	return image;
}

static void random_stacks(void **state)
{
	unsigned round, rounds = loops_count(400);

	for (round = 0; round < rounds; round++) {
		struct model m = model_new(8 + loops_random() % 2000);
		size_t layers = 1 + loops_random() % 8, i;
		struct image *image;

		/* All but the topmost may be of any size up to the disk's. */
		for (i = 0; i < layers; i++)
			write_random_layer(&m, i + 1 == layers ? m.sectors
							       : 1 + loops_random() % m.sectors);
		image = open_image();
		compare(image, &m, 40);
		image_close(image);
		remove_layers();
		model_free(&m);
	}
}

static void many_layers(void **state)
{
	static const size_t counts[] = { 256, 1000 };
	size_t k, i;

	for (k = 0; k < 2; k++) {
		struct model m = model_new(2048);
		struct image *image;

		for (i = 0; i < counts[k]; i++) {
			struct layer_writer *w =
				open_layer_writer((struct form){ 0 }, m.sectors * SECTOR);
			uint64_t lba = loops_random() % (m.sectors - 4);

			fill(m.bytes + lba * SECTOR, 4 * SECTOR);
			memset(m.kind + lba, MODEL_DATA, 4);
			layer_writer_data(w, lba, m.bytes + lba * SECTOR, 4, NULL);
			finish(w);
		}
		image = open_image();
		assert_int_equal(image_layer_count(image), counts[k]);
		compare(image, &m, 100);
		image_close(image);
		remove_layers();
		model_free(&m);
	}
}

/* The k-th mapped sector of the next test holds its number. */
static void stamp(uint8_t sector[SECTOR], uint64_t k)
{
	memset(sector, 0, SECTOR);
	le64_put(sector, k + 1);
}

static void more_than_a_million_mappings(void **state)
{
	const uint64_t count = 1100000;
	struct form form = { .z = { .algorithm = ZALGORITHM_LZ4, .block_size = 65536 } };
	struct layer_writer *w = open_layer_writer(form, count * 2 * SECTOR);
	uint8_t sector[SECTOR], two[2 * SECTOR];
	struct image *image;
	uint64_t k;

	for (k = 0; k < count; k++) {
		stamp(sector, k);
		assert_int_equal(layer_writer_data(w, 2 * k + 1, sector, 1, NULL), 0);
	}
	finish(w);
	image = open_image();
	assert_int_equal(index_count(image_index(image)), count);
	assert_true(index_memory(image_index(image)) <= 24 * count);
	for (k = 0; k < count; k += k < 10 || k > count - 10 ? 1 : 997) {
		assert_int_equal(image_pread(image, two, sizeof two, k * 2 * SECTOR, NULL), 0);
		assert_int_equal(le64_get(two), 0);
		assert_int_equal(le64_get(two + SECTOR), k + 1);
	}
	image_close(image);
	remove_layers();
}

static void data_at_zero_and_beyond_two_tebibytes(void **state)
{
	static const uint64_t at[] = { 0, (UINT64_C(1) << 32) - 1, UINT64_C(1) << 32,
				       (UINT64_C(1) << 32) + 5, UINT64_C(20) << 32 };
	enum { COUNT = sizeof at / sizeof at[0] };
	struct form forms[2] = { { .tar = false }, { .z = { ZALGORITHM_ZSTD, 4096, 0 } } };
	uint8_t sector[SECTOR];
	struct image *image;
	size_t layer, k;

	for (layer = 0; layer < 2; layer++) {
		struct layer_writer *w =
			open_layer_writer(forms[layer], (UINT64_C(20) << 32) * SECTOR + 4096);

		for (k = layer; k < COUNT; k += 2) {
			stamp(sector, k);
			assert_int_equal(layer_writer_data(w, at[k], sector, 1, NULL), 0);
		}
		finish(w);
	}
	image = open_image();
	for (k = 0; k < COUNT; k++) {
		assert_int_equal(image_pread(image, sector, 9, at[k] * SECTOR, NULL), 0);
		assert_int_equal(le64_get(sector), k + 1);
		assert_int_equal(image_pread(image, sector, 9, (at[k] + 7) * SECTOR, NULL), 0);
		assert_int_equal(le64_get(sector), 0);
	}
	image_close(image);
	remove_layers();
}

static void a_shrunk_file_is_eio(void **state)
{
	struct layer_writer *w = open_layer_writer((struct form){ 0 }, 64 * SECTOR);
	uint8_t bytes[8 * SECTOR];
	struct image *image;
	struct err e;

	memset(bytes, 0x11, sizeof bytes);
	layer_writer_data(w, 8, bytes, 8, NULL);
	layer_writer_data(w, 40, bytes, 8, NULL);
	finish(w);
	image = open_image();
	assert_int_equal(truncate(config.lowers[0].file, 4096 + 8 * SECTOR), 0);
	assert_int_equal(image_pread(image, bytes, sizeof bytes, 40 * SECTOR, &e), -EIO);
	assert_non_null(strstr(e.msg, "image.yaml: layer 0 ("));
	assert_non_null(strstr(e.msg, "the file ends at 8192"));
	assert_int_equal(image_pread(image, bytes, sizeof bytes, 8 * SECTOR, &e), 0);
	assert_int_equal(bytes[0], 0x11);
	image_close(image);
	remove_layers();
}

/* A smaller disk over a larger one hides its end; a larger one shows it again. */
static void the_topmost_size_counts(void **state)
{
	static const uint64_t sizes[] = { 64, 16, 0, 32 };
	static const uint64_t want[] = { 64, 16, 16, 32 };
	struct image_options options = { .virtual_size = 128 * SECTOR };
	uint8_t bytes[64 * SECTOR];
	struct image *image;
	size_t i;

	memset(bytes, 0x22, sizeof bytes);
	for (i = 0; i < 4; i++) {
		struct layer_writer *w = open_layer_writer(random_form(), sizes[i] * SECTOR);

		if (i == 0)
			layer_writer_data(w, 0, bytes, 64, NULL);
		finish(w);
		image = open_image();
		assert_int_equal(image_size(image), want[i] * SECTOR);
		assert_int_equal(image_pread(image, bytes, want[i] * SECTOR, 0, NULL), 0);
		assert_int_equal(bytes[want[i] * SECTOR - 1], 0x22);
		image_close(image);
	}
	assert_int_equal(image_open(&config, &options, &image, NULL), 0);
	assert_int_equal(image_size(image), 128 * SECTOR);
	assert_int_equal(image_pread(image, bytes, 64 * SECTOR, 32 * SECTOR, NULL), 0);
	assert_int_equal(bytes[32 * SECTOR - 1], 0x22);
	assert_int_equal(bytes[32 * SECTOR], 0);
	image_close(image);
	options.virtual_size = 5;
	assert_int_equal(image_open(&config, &options, &image, NULL), -EINVAL);
	remove_layers();
}

static void the_lowest_bad_layer_is_named(void **state)
{
	struct image *image;
	char want[128];
	struct err e;
	size_t i;

	for (i = 0; i < 20; i++) {
		finish(open_layer_writer((struct form){ .tar = i % 2 == 0 }, 4096));
		config.lowers[i].size = i == 7; /* which is told of a whole layer only */
	}
	assert_int_equal(truncate(config.lowers[7].file, 100), 0);
	assert_int_equal(unlink(config.lowers[13].file), 0);
	assert_int_equal(image_open(&config, NULL, &image, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "image.yaml: layer 7 ("));
	assert_non_null(strstr(e.msg, "100 bytes are too few"));
	assert_int_equal(unlink(config.lowers[7].file), 0);
	assert_int_equal(image_open(&config, NULL, &image, &e), -ENOENT);
	snprintf(want, sizeof want, "image.yaml: layer 7: %s: No such file or directory",
		 config.lowers[7].file);
	assert_string_equal(e.msg, want);
	remove_layers();
}

/* Layers are opened and merged by a thread each, up to 16. */
static void each_layer_has_a_thread(void **state)
{
	static const unsigned want[] = { 1, 2, 15, 16, 16, 16 };
	static const size_t counts[] = { 1, 2, 15, 16, 17, 40 };
	size_t i;

	for (i = 0; i < sizeof counts / sizeof *counts; i++) {
		struct image_options options = { .virtual_size = 4096 };
		struct image *image;
		struct err e = { "" };

		while (config.lower_count < counts[i])
			finish(open_layer_writer((struct form){ 0 }, 4096));
		opened = shut = 0;
		assert_int_equal(image_open(&config, &options, &image, &e), 0);
		assert_string_equal(e.msg, "");
		assert_int_equal(threads, want[i]);
		assert_int_equal(opened, 1);
		assert_false(image_is_remote(image));
		assert_string_equal(image_digest(image), "");
		assert_non_null(image_stats(image));
		assert_int_equal(shut, 0);
		image_shut(image);
		assert_int_equal(shut, 1);
		image_close(image);
		assert_int_equal(shut, 2);
	}
	image_close(NULL);
	remove_layers();
}

static void limits_of_an_image(void **state)
{
	const uint64_t limit = UINT64_C(1) << 50;
	struct lower_config *lowers = calloc(65535, sizeof *lowers);
	static char file[] = "/none/layer";
	struct image_config many = { .path = config_path, .lowers = lowers, .lower_count = 65534 };
	struct image_options options = { .virtual_size = (limit - 1) * SECTOR };
	struct image *image;
	struct err e;
	size_t i;

	for (i = 0; i < 65535; i++)
		lowers[i].file = file;
	assert_int_equal(image_open(&many, NULL, &image, &e), -ENOENT);
	many.lower_count++;
	assert_int_equal(image_open(&many, NULL, &image, &e), -EINVAL);
	assert_string_equal(e.msg, "image.yaml: 65535 layers, more than 65534");
	free(lowers);
	finish(open_layer_writer((struct form){ 0 }, 4096));
	assert_int_equal(image_open(&config, &options, &image, NULL), 0);
	assert_int_equal(image_size(image), (limit - 1) * SECTOR);
	image_close(image);
	for (i = 0; i < 2; i++) {
		options.virtual_size = i == 0 ? limit * SECTOR : 513;
		assert_int_equal(image_open(&config, &options, &image, &e), -EINVAL);
		assert_string_equal(e.msg, i == 0 ? "image.yaml: invalid virtual size "
						    "576460752303423488: must be a multiple of "
						    "512, below 2^50 sectors"
						  : "image.yaml: invalid virtual size 513: must be "
						    "a multiple of 512, below 2^50 sectors");
	}
	remove_layers();
}

/* Some of the layers alone, as tools look at them: all are there, the others say nothing. */
static void some_layers_are_hidden(void **state)
{
	enum { COUNT = 5 };
	uint8_t sector[SECTOR];
	size_t i, from, to;

	for (i = 0; i < COUNT; i++) {
		struct layer_writer *w = open_layer_writer((struct form){ 0 }, 8 * SECTOR);

		memset(sector, (int)i + 1, sizeof sector);
		assert_int_equal(layer_writer_data(w, i, sector, 1, NULL), 0);
		finish(w);
	}
	for (from = 0; from <= COUNT; from++)
		for (to = 0; to <= COUNT + 1; to++) {
			struct image_options options = { .merge_from = from, .merge_to = to };
			struct image *image;

			assert_int_equal(image_open(&config, &options, &image, NULL), 0);
			assert_int_equal(image_layer_count(image), COUNT);
			for (i = 0; i < COUNT; i++) {
				bool seen = i >= from && (to == 0 || i < to);

				assert_int_equal(image_pread(image, sector, 1, i * SECTOR, NULL),
						 0);
				assert_int_equal(sector[0], seen ? i + 1 : 0);
				assert_null(image_layer(image, i)->layer.run.maps);
				assert_int_equal(image_layer(image, i)->layer.run.count, 0);
			}
			image_close(image);
		}
	remove_layers();
}

static void a_layer_tells_what_it_is_made_of(void **state)
{
	static char digest[] = "sha256:x";
	struct image *image;
	unsigned how;

	for (how = 0; how < 4; how++) {
		struct form form = { .tar = how & 1,
				     .z = { .algorithm = how & 2 ? ZALGORITHM_LZ4 : 0,
					    .block_size = 8192 } };

		finish(open_layer_writer(form, 4096));
	}
	config.lowers[2].digest = digest;
	image = open_image();
	for (how = 0; how < 4; how++) {
		const struct image_layer *l = image_layer(image, how);
		struct stat st;

		assert_int_equal(stat(config.lowers[how].file, &st), 0);
		assert_int_equal(l->file_size, st.st_size);
		assert_string_equal(l->path, config.lowers[how].file);
		assert_int_equal(l->in_tar, how & 1);
		assert_int_equal(l->in_zfile, (how & 2) != 0);
		assert_false(l->is_upper);
		assert_ptr_equal(l->digest, how == 2 ? digest : NULL);
		if (l->in_tar)
			assert_int_equal(l->tar.payload_offset, 1536);
		if (l->in_zfile)
			assert_int_equal(l->zfile.block_size, 8192);
		assert_int_equal(l->layer.header.virtual_size, 4096);
	}
	image_close(image);
	config.lowers[2].digest = NULL;
	remove_layers();
}

static void what_the_lowers_say_is_handed_on(void **state)
{
	struct image *image;
	char *bytes;
	size_t n;

	finish(open_layer_writer((struct form){ 0 }, 4096));
	image = open_image();
	for (answer = 0; answer > -3; answer--) {
		assert_int_equal(image_start_download(image, NULL), answer);
		assert_int_equal(image_read_acceleration(image, 7, &bytes, &n, NULL), answer);
		assert_int_equal(n, 7);
		assert_int_equal(image_find_artifact(image, "type", 7, &bytes, &n, NULL), answer);
		assert_int_equal(n, 11);
	}
	answer = 0;
	image_close(image);
	remove_layers();
}

/* The reference does not look at it. */
static void a_wrong_size_of_a_file_is_a_warning(void **state)
{
	struct image *image;
	char want[256];
	size_t i;

	for (i = 0; i < 3; i++)
		finish(open_layer_writer((struct form){ .tar = i % 2 == 0 }, 4096));
	for (i = 0; i < 2; i++) {
		struct stat st;

		assert_int_equal(stat(config.lowers[1].file, &st), 0);
		config.lowers[1].size = (uint64_t)st.st_size + i;
		assert_int_equal(image_open(&config, NULL, &image, NULL), 0);
		image_close(image);
		if (i == 0)
			loglib_expect("");
	}
	snprintf(want, sizeof want,
		 "image.yaml: layer 1 (%s): %llu bytes, but the config says %llu; it is served as "
		 "it is\n",
		 config.lowers[1].file, (unsigned long long)config.lowers[1].size - 1,
		 (unsigned long long)config.lowers[1].size);
	loglib_expect(want);
	remove_layers();
}

static void sparse_uppers(void **state)
{
	uint8_t raw[FORMAT_SPACE], bytes[4096];
	char data[64], index[64];
	struct format_header h = { .flags = FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SPARSE,
				   .virtual_size = 1 << 20,
				   .uuid = FORMAT_NIL_UUID,
				   .parent_uuid = FORMAT_NIL_UUID,
				   .version = 1 };
	struct image_options options = { .writable = true };
	char want[256];
	struct image *image;
	struct err e;
	int fd, i;

	snprintf(data, sizeof data, "%s/data", folder);
	snprintf(index, sizeof index, "%s/index", folder);
	format_encode_header(&h, raw);
	fd = open(data, O_RDWR | O_CREAT | O_TRUNC, 0600);
	close(open(index, O_RDWR | O_CREAT | O_TRUNC, 0600));
	assert_int_equal(pwrite(fd, raw, sizeof raw, 0), sizeof raw);
	memset(bytes, 0x33, sizeof bytes);
	assert_int_equal(pwrite(fd, bytes, sizeof bytes, 4096 + 65536), sizeof bytes);
	config.upper_data = data;
	config.upper_index = index;
	assert_int_equal(image_open(&config, NULL, &image, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "a sparse layer of virtual size 1048576 is 73728 bytes"));
	assert_int_equal(ftruncate(fd, 4096 + (1 << 20)), 0);
	image = open_image();
	assert_int_equal(image_size(image), 1 << 20);
	assert_true(image_layer(image, 0)->is_upper);
	assert_true(image_layer(image, 0)->upper.sparse);
	assert_string_equal(image_layer(image, 0)->path, data);
	assert_true(index_count(image_index(image)) >= 1);
	assert_int_equal(image_pread(image, bytes, sizeof bytes, 65536 - 2048, &e), 0);
	assert_int_equal(bytes[2047], 0);
	assert_int_equal(bytes[2048], 0x33);
	assert_int_equal(image_layer(image, 0)->file_size, 4096 + (1 << 20));
	image_close(image);
	/* What cannot be written to is served all the same, and told. */
	for (i = 0; i < 3; i++) {
		form_of_upper = i == 1 ? UPPER_ON_READ_ONLY : -1;
		options.writable = i < 2;
		assert_int_equal(image_open(&config, &options, &image, &e), 0);
		assert_false(image_has_upper(image));
		assert_true(image_layer(image, 0)->is_upper);
		image_close(image);
		snprintf(want, sizeof want, "image.yaml: upper: %s: %s\n", data,
			 i == 0 ? "is sparse, and served read-only: 'overlaybd create NEW --from "
				  "OLD' makes a writable one of it"
				: "lies on a read-only file system, and is served read-only");
		loglib_expect(i < 2 ? want : "");
	}
	form_of_upper = -1;
	options.writable = true;
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(image_open(&config, &options, &image, &e), -EBADMSG);
	snprintf(want, sizeof want, "image.yaml: upper: %s: ", data);
	assert_memory_equal(e.msg, want, strlen(want));
	unlink(data);
	assert_int_equal(image_open(&config, &options, &image, &e), -ENOENT);
	snprintf(want, sizeof want,
		 "image.yaml: upper: %s: no such file; 'overlaybd create' makes an upper", data);
	assert_string_equal(e.msg, want);
	close(fd);
	unlink(data);
	unlink(index);
	config.upper_data = config.upper_index = NULL;
}

static int listen(void **state)
{
	loglib_listen();
	return 0;
}

static int expect_none(void **state)
{
	loglib_expect_none();
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, listen, expect_none)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_stacks),
		TEST(many_layers),
		TEST(more_than_a_million_mappings),
		TEST(data_at_zero_and_beyond_two_tebibytes),
		TEST(a_shrunk_file_is_eio),
		TEST(the_topmost_size_counts),
		TEST(the_lowest_bad_layer_is_named),
		TEST(a_wrong_size_of_a_file_is_a_warning),
		TEST(each_layer_has_a_thread),
		TEST(limits_of_an_image),
		TEST(some_layers_are_hidden),
		TEST(a_layer_tells_what_it_is_made_of),
		TEST(what_the_lowers_say_is_handed_on),
		TEST(sparse_uppers),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
