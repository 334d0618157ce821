/* SPDX-License-Identifier: Apache-2.0 */
/* zfile.c - the zfile reader, sequential, on one thread, against a bare loop of CRC and codec over
 * the same blocks in memory.
 *
 * Usage: bench-zfile.  Takes about a minute. */
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "bench/pairs.h"
#include "core/base/crc32c.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "zfile/zfile.h"
#include "zfile/zwriter.h"

enum {
	RAW = 48 << 20, /* bytes before compression */
	READ = 256 << 10, /* of one read: what nbdcopy asks for */
};

struct bench {
	struct source *zfile;
	struct zheader header;
	char *packed; /* the ZFile's bytes */
	uint8_t *raw;
	uint8_t *out; /* READ bytes */
	ZSTD_DCtx *zstd;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench-zfile: %s: %s\n", what, why);
	exit(1);
}

static void ours(void *arg)
{
	struct bench *b = arg;
	struct err e;
	uint64_t off;

	for (off = 0; off < RAW; off += READ)
		if (source_pread(b->zfile, b->out, READ, off, &e) < 0)
			die("read", e.msg);
}

/* Nothing but the work that cannot be left out. */
static void peer(void *arg)
{
	struct bench *b = arg;
	const uint8_t *at = (const uint8_t *)b->packed + ZFORMAT_SPACE;
	const uint8_t *table = (const uint8_t *)b->packed + b->header.index_offset;
	uint32_t size = b->header.block_size;
	uint64_t i;

	for (i = 0; i < b->header.blocks; i++) {
		uint32_t stored = le32_get(table + 4 * i) - 4;
		uint8_t *to = b->out + i * size % READ;
		size_t got;

		if (crc32c_raw(ZFORMAT_CRC_SALT, at, stored) != le32_get(at + stored))
			die("peer", "wrong CRC");
		if (b->header.algorithm == ZALGORITHM_LZ4)
			got = (size_t)LZ4_decompress_safe((const char *)at, (char *)to, (int)stored,
							  (int)size);
		else
			got = ZSTD_decompressDCtx(b->zstd, to, size, at, stored);
		if (got != size)
			die("peer", "wrong length");
		at += stored + 4;
	}
}

/* Runs of new bytes and runs repeated from up to 2 KiB before: compresses to about two thirds. */
static void make_raw(uint8_t *raw)
{
	uint64_t state = 1;
	size_t at = 4096, i;

	for (i = 0; i < at; i++)
		raw[i] = (uint8_t)pairs_random(&state);
	while (at < RAW) {
		uint64_t v = pairs_random(&state);
		size_t n = (size_t)min_u64(4 + (v & 31), RAW - at), back = 64 + (v >> 8) % 2000;

		for (i = 0; i < n; i++)
			raw[at + i] =
				v >> 40 & 1 ? (uint8_t)pairs_random(&state) : raw[at + i - back];
		at += n;
	}
}

/* Writes the ZFile to `path`, takes its bytes into memory, removes it. */
static size_t make_packed(struct bench *b, const struct zwriter_options *options, const char *path)
{
	struct workers *pool;
	struct sink *below, *sink = NULL;
	struct err e;
	size_t n;
	int r = workers_open(workers_cpus(), &pool, &e);

	if (r == 0)
		r = sink_open_file(path, &below, &e);
	if (r == 0)
		r = zwriter_open_sink(below, options, pool, &sink, &e);
	if (r == 0)
		r = sink_write(sink, b->raw, RAW, &e);
	if (r == 0)
		r = sink_finish(sink, &e);
	if (r < 0)
		die(path, e.msg);
	sink_close(sink);
	workers_close(pool);
	r = io_read_file(path, 2 * (size_t)RAW, &b->packed, &n, &e);
	remove(path);
	if (r < 0)
		die(path, e.msg);
	return n;
}

/* Both ways must give what went in before they are timed. */
static void check(struct bench *b)
{
	memset(b->out, 0, READ);
	ours(b);
	if (memcmp(b->out, b->raw + RAW - READ, READ) != 0)
		die("ours", "wrong bytes");
	memset(b->out, 0, READ);
	peer(b);
	if (memcmp(b->out, b->raw + RAW - READ, READ) != 0)
		die("peer", "wrong bytes");
}

static enum pairs_verdict run(struct bench *b, const struct zwriter_options *options,
			      const char *path)
{
	size_t n = make_packed(b, options, path);
	enum pairs_verdict verdict;
	struct source *memory;
	struct err e;
	char name[64];

	if (source_open_memory(b->packed, n, &memory, &e) < 0 ||
	    zfile_open(memory, &b->zfile, &e) != 0)
		die("open", e.msg);
	b->header = *zfile_header(b->zfile);
	check(b);
	snprintf(name, sizeof name, "zfile, %s %u KiB (%zu%%)",
		 zformat_algorithm_name(options->algorithm), options->block_size / 1024,
		 n / (RAW / 100));
	verdict = pairs_run(&(struct pairs){ .name = name,
					     .ours = ours,
					     .peer = peer,
					     .arg = b,
					     .work = RAW / 1e6,
					     .unit = "MB",
					     .bar = 0.9 });
	source_close(b->zfile);
	free(b->packed);
	return verdict;
}

int main(void)
{
	static const struct zwriter_options kinds[] = {
		{ .algorithm = ZALGORITHM_LZ4, .block_size = 4096 },
		{ .algorithm = ZALGORITHM_LZ4, .block_size = 65536 },
		{ .algorithm = ZALGORITHM_ZSTD, .block_size = 4096 },
		{ .algorithm = ZALGORITHM_ZSTD, .block_size = 65536 },
	};
	struct bench b = { .raw = malloc(RAW), .out = malloc(READ), .zstd = ZSTD_createDCtx() };
	char folder[] = "/var/tmp/bench-zfile.XXXXXX", *path;
	int status = 0;
	size_t i;

	if (!b.raw || !b.out || !b.zstd || !mkdtemp(folder) ||
	    asprintf(&path, "%s/zfile", folder) < 0)
		die("start", "out of memory, or no /var/tmp");
	make_raw(b.raw);
	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		status = pairs_status(run(&b, &kinds[i], path), status);
	remove(folder);
	free(path);
	ZSTD_freeDCtx(b.zstd);
	free(b.out);
	free(b.raw);
	return status;
}
