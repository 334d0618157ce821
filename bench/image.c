/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - random 4 KiB reads of an image of 30 layers and 100,000 mappings, in one thread and
 * without NBD, against the least that any reader must do: a pread of the flat file, or a pread, CRC
 * and decompression of the block that is wanted, its place known beforehand.
 *
 * Usage: bench-image [FOLDER].  Needs about 1.3 GiB in FOLDER (/var/tmp) while it runs, two
 * minutes. */
#include <fcntl.h>
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "bench/pairs.h"
#include "core/base/crc32c.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/workers.h"
#include "core/image.h"
#include "core/layer_writer.h"
#include "zfile/zwriter.h"

enum {
	LAYERS = 30,
	BLOCK = 4096,
	BLOCKS = 100000, /* one mapping each, every second block of the disk */
	STRIDE = 2 * BLOCK,
	READS = 50000,
};

/* Where the block of a read is stored. */
struct place {
	int fd;
	uint32_t n; /* bytes without the CRC */
	uint64_t off;
};

struct bench {
	char *folder;
	uint8_t algorithm;
	struct lower_config lowers[LAYERS];
	struct image_config config;
	struct image *image;
	int fds[LAYERS];
	int flat;
	uint32_t *order; /* blocks in the order of the reads */
	struct place *places; /* one a block, when compressed */
	ZSTD_DCtx *context;
};

static uint64_t random_state = 1;

static void must(int r, const struct err *e)
{
	if (r < 0) {
		fprintf(stderr, "bench-image: %s\n", e->msg);
		exit(1);
	}
}

/* The content of a block: half of it compresses well. */
static void fill(uint8_t block[BLOCK], uint32_t number)
{
	size_t i;

	random_state = number;
	for (i = 0; i < BLOCK; i += 8)
		le64_put(block + i, i % 64 < 32 ? pairs_random(&random_state) : number);
}

/* Block k goes to layer k % LAYERS. */
static void write_layer(struct bench *b, size_t layer, struct workers *pool)
{
	struct layer_writer_options options = { .virtual_size = (uint64_t)BLOCKS * STRIDE };
	struct zwriter_options z = { .algorithm = b->algorithm, .block_size = BLOCK };
	uint8_t block[BLOCK];
	struct layer_writer *w;
	struct sink *s;
	struct err e;
	uint32_t k;

	must(sink_open_file(b->lowers[layer].file, &s, &e), &e);
	if (b->algorithm)
		must(zwriter_open_sink(s, &z, pool, &s, &e), &e);
	must(layer_writer_open(s, &options, &w, &e), &e);
	for (k = (uint32_t)layer; k < BLOCKS; k += LAYERS) {
		fill(block, k);
		must(layer_writer_data(w, (uint64_t)k * STRIDE / SECTOR, block, BLOCK / SECTOR, &e),
		     &e);
	}
	must(layer_writer_finish(w, &e), &e);
	layer_writer_close(w);
}

static void write_flat(struct bench *b)
{
	uint8_t block[BLOCK];
	char path[4096];
	struct err e;
	uint32_t k;

	snprintf(path, sizeof path, "%s/flat.raw", b->folder);
	b->flat = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (b->flat < 0 || unlink(path) < 0) {
		perror(path);
		exit(1);
	}
	for (k = 0; k < BLOCKS; k++) {
		fill(block, k);
		must(io_pwrite(b->flat, block, BLOCK, (uint64_t)k * STRIDE, &e), &e);
	}
}

/* Finds each block of a compressed layer through its jump table. */
static void find_places(struct bench *b, size_t layer)
{
	const struct zheader *z = &image_layer(b->image, layer)->zfile;
	uint8_t *table = malloc(z->blocks * 4);
	uint64_t off = ZFORMAT_SPACE, i;
	struct err e;

	must(io_pread(b->fds[layer], table, z->blocks * 4, z->index_offset, &e), &e);
	for (i = 0; i < z->blocks; i++) {
		uint32_t stored = le32_get(table + 4 * i);
		uint64_t k = (i - 1) * LAYERS + layer; /* block 0 is the LSMT header */

		if (i > 0 && k < BLOCKS)
			b->places[k] =
				(struct place){ .fd = b->fds[layer], .n = stored - 4, .off = off };
		off += stored;
	}
	free(table);
}

static void open_bench(struct bench *b, struct workers *pool)
{
	struct err e;
	size_t i;

	b->config = (struct image_config){ .path = b->folder,
					   .lowers = b->lowers,
					   .lower_count = LAYERS };
	for (i = 0; i < LAYERS; i++) {
		if (asprintf(&b->lowers[i].file, "%s/%zu.obd", b->folder, i) < 0)
			exit(1);
		write_layer(b, i, pool);
		b->fds[i] = open(b->lowers[i].file, O_RDONLY);
	}
	must(image_open(&b->config, NULL, &b->image, &e), &e);
	b->places = calloc(BLOCKS, sizeof *b->places);
	for (i = 0; i < LAYERS && b->algorithm; i++)
		find_places(b, i);
	b->order = malloc(READS * sizeof *b->order);
	for (i = 0; i < READS; i++)
		b->order[i] = (uint32_t)(pairs_random(&random_state) % BLOCKS);
	b->context = ZSTD_createDCtx();
}

static void close_bench(struct bench *b)
{
	size_t i;

	image_close(b->image);
	for (i = 0; i < LAYERS; i++) {
		close(b->fds[i]);
		unlink(b->lowers[i].file);
		free(b->lowers[i].file);
	}
	ZSTD_freeDCtx(b->context);
	free(b->places);
	free(b->order);
}

static void ours(void *arg)
{
	struct bench *b = arg;
	uint8_t block[BLOCK];
	struct err e;
	size_t i;

	for (i = 0; i < READS; i++)
		must(image_pread(b->image, block, BLOCK, (uint64_t)b->order[i] * STRIDE, &e), &e);
}

static void peer_flat(void *arg)
{
	struct bench *b = arg;
	uint8_t block[BLOCK];
	size_t i;

	for (i = 0; i < READS; i++)
		if (pread(b->flat, block, BLOCK, (off_t)b->order[i] * STRIDE) != BLOCK)
			abort();
}

static void peer_codec(void *arg)
{
	struct bench *b = arg;
	uint8_t stored[2 * BLOCK], block[BLOCK];
	size_t i;

	for (i = 0; i < READS; i++) {
		const struct place *p = &b->places[b->order[i]];
		size_t n;

		if (pread(p->fd, stored, p->n + 4, (off_t)p->off) != (ssize_t)p->n + 4 ||
		    crc32c_raw(ZFORMAT_CRC_SALT, stored, p->n) != le32_get(stored + p->n))
			abort();
		n = b->algorithm == ZALGORITHM_LZ4
			    ? (size_t)LZ4_decompress_safe((const char *)stored, (char *)block,
							  (int)p->n, BLOCK)
			    : ZSTD_decompressDCtx(b->context, block, BLOCK, stored, p->n);
		if (n != BLOCK)
			abort();
	}
}

static int run(struct bench *b, struct workers *pool, uint8_t algorithm, const char *name,
	       double bar)
{
	enum pairs_verdict verdict;

	b->algorithm = algorithm;
	open_bench(b, pool);
	verdict = pairs_run(&(struct pairs){ .name = name,
					     .ours = ours,
					     .peer = algorithm ? peer_codec : peer_flat,
					     .arg = b,
					     .work = READS,
					     .unit = "reads",
					     .bar = bar });
	close_bench(b);
	return pairs_status(verdict, 0);
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct workers *pool;
	int status[3], i, worst = 0;
	struct err e;

	if (asprintf(&b.folder, "%s/bench-image.XXXXXX", argc > 1 ? argv[1] : "/var/tmp") < 0 ||
	    !mkdtemp(b.folder)) {
		perror("bench-image");
		return 1;
	}
	must(workers_open(workers_cpus(), &pool, &e), &e);
	write_flat(&b);
	status[0] = run(&b, pool, 0, "read 4 KiB, uncompressed", 0.85);
	status[1] = run(&b, pool, ZALGORITHM_LZ4, "read 4 KiB, lz4", 0.85);
	status[2] = run(&b, pool, ZALGORITHM_ZSTD, "read 4 KiB, zstd", 0.90);
	for (i = 0; i < 3; i++)
		worst = status[i] > worst ? status[i] : worst;
	workers_close(pool);
	close(b.flat);
	rmdir(b.folder);
	free(b.folder);
	return worst;
}
