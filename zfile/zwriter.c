/* SPDX-License-Identifier: Apache-2.0 */
/* zwriter.c - writing a ZFile, see zwriter.h.
 *
 * A ring of slots, each with some blocks of raw data, their compressed form and an encoder.  The
 * caller's thread fills the slot at `fill` and hands it to the pool; when the ring is full, and at
 * the end, it takes the oldest one back and writes it out.  So output keeps the order of input, and
 * how data is cut into slots never shows in it: each block is compressed by itself.
 *
 *   drain --> [busy] [busy] [busy] [filling] [free] ... <-- fill
 */
#include "zfile/zwriter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "zfile/codec.h"

enum {
	SLOT_RAW = 256 * 1024, /* raw bytes in a slot, a multiple of every block size */
	MAX_SLOTS = 64,
	CRC_SIZE = 4,
};

struct slot {
	struct job job; /* first member */
	const struct zwriter *writer;
	struct codec_encoder encoder;
	uint8_t *raw;
	size_t raw_size;
	uint8_t *packed;
	size_t packed_size;
	uint32_t *lengths; /* stored length of each block */
	size_t blocks;
	bool failed; /* the codec did */
};

struct zwriter {
	struct sink sink;
	struct sink *below;
	struct workers *pool;
	const struct codec *codec;
	struct zheader header;
	const char *name; /* NULL: no warnings */
	uint64_t large; /* blocks that the reference cannot read */
	uint8_t *table; /* the jump table as it will be stored */
	uint64_t table_room; /* entries */
	uint64_t fill, drain; /* slots used so far; both count up, modulo the ring */
	unsigned slots;
	struct slot slot[];
};

/* Compresses a slot's blocks, each followed by its CRC.  Runs in the pool. */
static void slot_run(struct job *job)
{
	struct slot *slot = (struct slot *)job;
	const struct zwriter *w = slot->writer;
	size_t room = w->codec->bound(w->header.block_size);
	uint8_t *out = slot->packed;
	size_t at;

	slot->blocks = 0;
	for (at = 0; at < slot->raw_size; at += w->header.block_size) {
		size_t n = (size_t)min_u64(w->header.block_size, slot->raw_size - at);
		size_t stored = w->codec->encode(&slot->encoder, out, room, slot->raw + at, n);

		if (stored == 0) {
			slot->failed = true;
			return;
		}
		le32_put(out + stored, crc32c_raw(ZFORMAT_CRC_SALT, out, stored));
		slot->lengths[slot->blocks++] = (uint32_t)(stored + CRC_SIZE);
		out += stored + CRC_SIZE;
	}
	slot->packed_size = (size_t)(out - slot->packed);
}

static int slot_init(struct slot *slot, const struct zwriter *w, int level, struct err *e)
{
	size_t blocks = SLOT_RAW / w->header.block_size;

	slot->job.run = slot_run;
	slot->writer = w;
	slot->raw = malloc(SLOT_RAW);
	slot->packed = malloc(blocks * (w->codec->bound(w->header.block_size) + CRC_SIZE));
	slot->lengths = malloc(blocks * sizeof *slot->lengths);
	if (!slot->raw || !slot->packed || !slot->lengths)
		return err_set(e, ENOMEM, "out of memory");
	return w->codec->encoder_init(&slot->encoder, level, e);
}

static void slot_release(struct slot *slot)
{
	codec_encoder_release(&slot->encoder);
	free(slot->raw);
	free(slot->packed);
	free(slot->lengths);
}

/* Makes room for a slot's entries in the table, which at least doubles. */
static int grow_table(struct zwriter *w, struct err *e)
{
	uint64_t want = w->header.blocks + SLOT_RAW / ZFORMAT_MIN_BLOCK;
	uint8_t *table;

	if (want <= w->table_room)
		return 0;
	want = max_u64(want, 2 * w->table_room);
	table = realloc(w->table, (size_t)(4 * want));
	if (!table)
		return err_set(e, ENOMEM, "out of memory for a jump table of %" PRIu64 " blocks",
			       want);
	w->table = table;
	w->table_room = want;
	return 0;
}

/* Takes the oldest slot back from the pool and writes it out. */
static int drain_one(struct zwriter *w, struct err *e)
{
	struct slot *slot = &w->slot[w->drain % w->slots];
	size_t i;
	int r;

	workers_wait(w->pool, &slot->job);
	w->drain++;
	if (slot->failed)
		return err_set(e, EIO, "zfile: %s cannot compress block %" PRIu64,
			       zformat_algorithm_name(w->header.algorithm),
			       w->header.blocks + slot->blocks);
	if (w->header.blocks + slot->blocks > ZFORMAT_MAX_BLOCKS)
		return err_set(e, EFBIG, "zfile: more than %" PRIu64 " blocks", ZFORMAT_MAX_BLOCKS);
	r = grow_table(w, e);
	if (r < 0)
		return r;
	for (i = 0; i < slot->blocks; i++) {
		le32_put(w->table + 4 * w->header.blocks++, slot->lengths[i]);
		w->large += slot->lengths[i] > ZFORMAT_REFERENCE_STORED;
	}
	slot->raw_size = 0;
	return sink_write(w->below, slot->packed, slot->packed_size, e);
}

/* Hands the slot being filled to the pool, and makes sure that the next one is free. */
static int submit(struct zwriter *w, struct err *e)
{
	workers_submit(w->pool, &w->slot[w->fill % w->slots].job);
	w->fill++;
	return w->fill - w->drain == w->slots ? drain_one(w, e) : 0;
}

static int zwriter_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	struct zwriter *w = (struct zwriter *)s;
	const uint8_t *p = buf;

	while (n > 0) {
		struct slot *slot = &w->slot[w->fill % w->slots];
		size_t piece = (size_t)min_u64(n, SLOT_RAW - slot->raw_size);

		memcpy(slot->raw + slot->raw_size, p, piece);
		slot->raw_size += piece;
		p += piece;
		n -= piece;
		if (slot->raw_size == SLOT_RAW) {
			int r = submit(w, e);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Jump table, trailer, and the header over its placeholder. */
static int write_end(struct zwriter *w, struct err *e)
{
	size_t table_size = (size_t)(4 * w->header.blocks);
	uint8_t raw[ZFORMAT_SPACE];
	int r;

	w->header.original_size = w->sink.written;
	w->header.index_offset = w->below->written;
	w->header.index_crc = crc32c_raw(0, w->table, table_size);
	r = sink_write(w->below, w->table, table_size, e);
	if (r < 0)
		return r;
	w->header.flags = ZFLAG_DATA_FILE | ZFLAG_SEALED | ZFLAG_DIGEST_VALID;
	zformat_encode(&w->header, raw);
	r = sink_write(w->below, raw, sizeof raw, e);
	if (r < 0)
		return r;
	w->header.flags =
		ZFLAG_HEADER | ZFLAG_DATA_FILE | ZFLAG_HEADER_OVERWRITTEN | ZFLAG_DIGEST_VALID;
	zformat_encode(&w->header, raw);
	return sink_patch(w->below, raw, sizeof raw, 0, e);
}

static int zwriter_finish(struct sink *s, struct err *e)
{
	struct zwriter *w = (struct zwriter *)s;
	int r = 0;

	if (w->slot[w->fill % w->slots].raw_size > 0)
		r = submit(w, e);
	while (r == 0 && w->drain < w->fill)
		r = drain_one(w, e);
	if (r == 0)
		r = write_end(w, e);
	if (r == 0)
		r = sink_finish(w->below, e);
	if (r == 0 && w->name && w->large > 0)
		log_warn("%s: %" PRIu64 " blocks of 64 KiB do not shrink: overlaybd itself cannot "
			 "read them; with smaller blocks it can",
			 w->name, w->large);
	return r;
}

/* Frees w but not the sink below. */
static void release(struct zwriter *w)
{
	unsigned i;

	for (; w->drain < w->fill; w->drain++)
		workers_wait(w->pool, &w->slot[w->drain % w->slots].job);
	for (i = 0; i < w->slots; i++)
		slot_release(&w->slot[i]);
	free(w->table);
	free(w);
}

static void zwriter_close(struct sink *s)
{
	sink_close(((struct zwriter *)s)->below);
	release((struct zwriter *)s);
}

static const struct sink_ops zwriter_ops = {
	.name = "zfile",
	.write = zwriter_write,
	.finish = zwriter_finish,
	.close = zwriter_close,
};

static int check_options(struct sink *below, const struct zwriter_options *o, struct err *e)
{
	if (!codec_find(o->algorithm))
		return err_set(e, EINVAL, "zfile: algorithm %u is unknown", o->algorithm);
	if (o->block_size < ZFORMAT_MIN_BLOCK || o->block_size > ZFORMAT_MAX_BLOCK ||
	    (o->block_size & (o->block_size - 1)) != 0)
		return err_set(e, EINVAL,
			       "zfile: block size %" PRIu32 " is not a power of two from %d to %d",
			       o->block_size, ZFORMAT_MIN_BLOCK, ZFORMAT_MAX_BLOCK);
	if (below->written != 0 || !below->ops->patch)
		return err_set(e, EINVAL, "zfile: %s below must be new and able to overwrite",
			       below->ops->name);
	return 0;
}

/* Prepares all slots and writes a placeholder for the header. */
static int start(struct zwriter *w, int level, struct err *e)
{
	unsigned i;
	int r;

	for (i = 0; i < w->slots; i++) {
		r = slot_init(&w->slot[i], w, level, e);
		if (r < 0)
			return err_wrap(e, r, "zfile");
	}
	return sink_write_zeroes(w->below, ZFORMAT_SPACE, e);
}

int zwriter_open_sink(struct sink *below, const struct zwriter_options *options,
		      struct workers *pool, struct sink **out, struct err *e)
{
	/* Two slots a processor keep all busy while the oldest is written out. */
	unsigned slots = (unsigned)min_u64(2 * (uint64_t)workers_cpus(), MAX_SLOTS);
	struct zwriter *w;
	int r = check_options(below, options, e);

	if (r < 0)
		return r;
	w = calloc(1, sizeof *w + slots * sizeof w->slot[0]);
	if (!w)
		return err_set(e, ENOMEM, "zfile: out of memory");
	w->sink.ops = &zwriter_ops;
	w->below = below;
	w->pool = pool;
	w->codec = codec_find(options->algorithm);
	w->header = (struct zheader){
		.algorithm = options->algorithm,
		.block_size = options->block_size,
		.verify = true,
	};
	w->slots = slots;
	r = start(w, options->level, e);
	if (r < 0) {
		release(w);
		return r;
	}
	*out = &w->sink;
	return 0;
}

void zwriter_set_name(struct sink *zwriter, const char *name)
{
	((struct zwriter *)zwriter)->name = name;
}
