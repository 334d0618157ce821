/* SPDX-License-Identifier: Apache-2.0 */
/* zfile.c - reading a ZFile, see zfile.h.
 *
 * A read is cut into pieces of neighbouring blocks that fit the thread's scratch memory, one pread
 * below for each.  The block of a file that a thread used only in part last stays decompressed in
 * its scratch, so that small sequential reads decompress each block once, also when they alternate
 * between layers: these have consecutive serials and so places of their own.  A kept block is known
 * by its file's serial and its number; serials are unique in the process, and a drop from above
 * gives the file a new one, so that no thread finds what it kept. */
#include "zfile/zfile.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "zfile/codec.h"
#include "zfile/jump.h"

enum {
	KEPT = 8, /* blocks that a thread keeps, of as many files */
	PIECE = 1 << 20, /* compressed bytes read at once; far more than one block */
	CRC_SIZE = 4,
};

_Static_assert(PIECE >= 2 * ZFORMAT_MAX_BLOCK, "a stored block, below twice its size, must fit");

struct zfile {
	struct source source;
	struct source *below;
	const struct codec *codec;
	struct zheader header;
	struct jump_table jump;
	unsigned shift; /* log2 of the block size */
	_Atomic uint64_t serial;
};

/* A decompressed block. */
struct kept {
	uint64_t serial; /* of its file; 0: none */
	uint64_t block;
	uint8_t bytes[ZFORMAT_MAX_BLOCK];
};

/* One thread's memory. */
struct scratch {
	struct codec_decoder decoder;
	struct kept kept[KEPT];
	uint8_t packed[PIECE];
};

/* What a read still wants. */
struct want {
	uint8_t *buf;
	size_t n;
	uint64_t off;
};

static _Atomic uint64_t last_serial;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* frees the scratch of a thread that ends */
static int key_error;
static _Thread_local struct scratch *own_scratch; /* what the key holds, without the call */

static uint64_t new_serial(void)
{
	return atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
}

static void scratch_free(void *p)
{
	struct scratch *t = p;

	own_scratch = NULL;
	codec_decoder_release(&t->decoder);
	free(t);
}

static void key_make(void)
{
	key_error = pthread_key_create(&key, scratch_free);
}

static struct scratch *scratch_make(void)
{
	struct scratch *t = malloc(sizeof *t);

	if (!t)
		return NULL;
	t->decoder = (struct codec_decoder){ 0 };
	memset(t->kept, 0, sizeof t->kept); /* no block of any file */
	if (pthread_setspecific(key, t) != 0) {
		free(t);
		return NULL;
	}
	own_scratch = t;
	return t;
}

static uint64_t block_start(const struct zfile *z, uint64_t block)
{
	return block << z->shift;
}

/* Bytes of a block before compression. */
static size_t block_size(const struct zfile *z, uint64_t block)
{
	return (size_t)min_u64(z->header.block_size, z->source.size - block_start(z, block));
}

/* Checks the CRC of a block and decompresses it into dst. */
static int unpack(const struct zfile *z, struct scratch *t, const uint8_t *packed, size_t stored,
		  uint8_t *dst, size_t n, struct err *e)
{
	uint32_t expected, crc;

	if (z->header.verify) {
		stored -= CRC_SIZE;
		expected = le32_get(packed + stored);
		crc = crc32c_raw(ZFORMAT_CRC_SALT, packed, stored);
		if (crc != expected)
			return err_set(e, EBADMSG,
				       "wrong CRC, 0x%08" PRIx32 " stored, 0x%08" PRIx32
				       " computed",
				       expected, crc);
	}
	return z->codec->decode(&t->decoder, dst, n, packed, stored, e);
}

/* The same for a block whose bytes stand in the scratch.  Wrong ones are dropped below and read
 * again: a cache may hold them, and fetch better ones.  Then it returns 1: what else stands in the
 * scratch came with them, and must not be judged after what is below has changed. */
static int unpack_or_retry(const struct zfile *z, struct scratch *t, uint64_t block,
			   uint8_t *packed, uint8_t *dst, struct err *e)
{
	uint64_t start = jump_start(&z->jump, block);
	size_t stored = (size_t)(jump_end(&z->jump, block) - start);
	size_t n = block_size(z, block);
	int r = unpack(z, t, packed, stored, dst, n, e);
	unsigned again;

	for (again = 0; r == -EBADMSG && again < SOURCE_RETRIES; again++) {
		source_drop(z->below, start, stored);
		r = source_pread(z->below, packed, stored, start, e);
		if (r == 0)
			r = unpack(z, t, packed, stored, dst, n, e);
	}
	return r < 0 ? err_wrap(e, r, "zfile block %" PRIu64, block) : again > 0;
}

/* Where a thread keeps a block of the file with this serial. */
static struct kept *kept_of(struct scratch *t, uint64_t serial)
{
	return &t->kept[serial % KEPT];
}

/* Serves what w wants of a block, its first one.  0 or 1, as unpack_or_retry. */
static int read_block(const struct zfile *z, struct scratch *t, uint64_t serial, uint64_t block,
		      uint8_t *packed, struct want *w, struct err *e)
{
	size_t skip = (size_t)(w->off - block_start(z, block));
	size_t size = block_size(z, block);
	size_t n = (size_t)min_u64(size - skip, w->n);
	int r;

	if (n == size) {
		r = unpack_or_retry(z, t, block, packed, w->buf, e);
		if (r < 0)
			return r;
	} else {
		struct kept *k = kept_of(t, serial);

		k->serial = 0; /* what was kept is overwritten, even on failure */
		r = unpack_or_retry(z, t, block, packed, k->bytes, e);
		if (r < 0)
			return r;
		k->serial = serial;
		k->block = block;
		memcpy(w->buf, k->bytes + skip, n);
	}
	w->buf += n;
	w->off += n;
	w->n -= n;
	return r;
}

/* Serves as many of w's blocks as fit the scratch. */
static int read_piece(const struct zfile *z, struct scratch *t, uint64_t serial, struct want *w,
		      struct err *e)
{
	uint64_t first = w->off >> z->shift;
	uint64_t end = ((w->off + w->n - 1) >> z->shift) + 1; /* block after the last */
	uint64_t start = jump_start(&z->jump, first);
	uint64_t next, block;
	int r;

	for (next = first + 1; next < end; next++)
		if (jump_end(&z->jump, next) - start > sizeof t->packed)
			break;
	r = source_pread(z->below, t->packed, (size_t)(jump_end(&z->jump, next - 1) - start), start,
			 e);
	if (r < 0)
		return err_wrap(e, r, "zfile block %" PRIu64, first);
	for (block = first; block < next; block++) {
		uint8_t *packed = t->packed + (jump_start(&z->jump, block) - start);

		r = read_block(z, t, serial, block, packed, w, e);
		if (r < 0)
			return r;
		if (r > 0)
			break; /* the caller comes again for the rest */
	}
	return 0;
}

/* Serves the head or the tail of w from the block that the thread kept. */
static void take_kept(const struct zfile *z, const struct kept *k, struct want *w)
{
	uint64_t start = block_start(z, k->block);
	uint64_t end = start + block_size(z, k->block);

	if (w->off >= start && w->off < end) {
		size_t n = (size_t)min_u64(end - w->off, w->n);

		memcpy(w->buf, k->bytes + (w->off - start), n);
		w->buf += n;
		w->off += n;
		w->n -= n;
	} else if (w->off < start && w->off + w->n > start && w->off + w->n <= end) {
		size_t n = (size_t)(w->off + w->n - start);

		memcpy(w->buf + (w->n - n), k->bytes, n);
		w->n -= n;
	}
}

static int zfile_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct zfile *z = (struct zfile *)s;
	struct scratch *t = own_scratch ? own_scratch : scratch_make();
	uint64_t serial = atomic_load_explicit(&z->serial, memory_order_relaxed);
	struct want w = { .buf = buf, .n = n, .off = off };
	const struct kept *k;
	int r = 0;

	if (!t)
		return err_set(e, ENOMEM, "out of memory");
	k = kept_of(t, serial);
	if (k->serial == serial)
		take_kept(z, k, &w);
	while (w.n > 0 && r == 0)
		r = read_piece(z, t, serial, &w, e);
	return r;
}

/* The compressed bytes of [off, off + n), n > 0. */
static uint64_t packed_range(const struct zfile *z, uint64_t off, uint64_t n, uint64_t *start)
{
	*start = jump_start(&z->jump, off >> z->shift);
	return jump_end(&z->jump, (off + n - 1) >> z->shift) - *start;
}

static struct source *zfile_below(struct source *s, uint64_t *off, uint64_t *n)
{
	struct zfile *z = (struct zfile *)s;

	*n = packed_range(z, *off, *n, off);
	return z->below;
}

static void zfile_drop(struct source *s, uint64_t off, uint64_t n)
{
	struct zfile *z = (struct zfile *)s;

	atomic_store_explicit(&z->serial, new_serial(), memory_order_relaxed);
}

static void zfile_close(struct source *s)
{
	struct zfile *z = (struct zfile *)s;

	jump_release(&z->jump);
	source_close(z->below);
	free(z);
}

static const struct source_ops zfile_ops = {
	.name = "zfile",
	.pread = zfile_pread,
	.below = zfile_below,
	.drop = zfile_drop,
	.close = zfile_close,
};

static int read_trailer(struct source *below, struct zheader *h, struct err *e)
{
	uint8_t raw[ZFORMAT_SPACE];
	int r = source_pread(below, raw, sizeof raw, below->size - sizeof raw, e);

	if (r < 0)
		return err_wrap(e, r, "trailer");
	return zformat_parse_trailer(h, raw, below->size, e);
}

/* Reads header, trailer where it counts, and jump table.  Returns 1 when there is no magic. */
static int load(struct zfile *z, struct err *e)
{
	uint8_t raw[ZFORMAT_SPACE] = { 0 };
	struct zheader h;
	int r;

	r = source_pread(z->below, raw, (size_t)min_u64(sizeof raw, z->below->size), 0, e);
	if (r < 0)
		return err_wrap(e, r, "header");
	if (!zformat_is_zfile(raw))
		return 1;
	r = zformat_parse_header(&h, raw, z->below->size, e);
	if (r == 0 && !(h.flags & ZFLAG_HEADER_OVERWRITTEN))
		r = read_trailer(z->below, &h, e);
	if (r < 0)
		return r;
	z->header = h;
	z->codec = codec_find(h.algorithm);
	return jump_load(&z->jump, z->below, &h, z->codec->bound(h.block_size), e);
}

/* Says below that what load has read is wrong. */
static void drop_loaded(struct zfile *z)
{
	uint64_t size = z->below->size;
	uint64_t tail = size - min_u64(size, ZFORMAT_SPACE);

	if (z->header.blocks > 0)
		tail = z->header.index_offset;
	source_drop(z->below, 0, ZFORMAT_SPACE);
	source_drop(z->below, tail, size - tail);
}

static int load_or_retry(struct zfile *z, struct err *e)
{
	int r = load(z, e);
	unsigned again;

	for (again = 0; r == -EBADMSG && again < SOURCE_RETRIES; again++) {
		drop_loaded(z);
		r = load(z, e);
	}
	return r < 0 ? err_wrap(e, r, "zfile") : r;
}

int zfile_open(struct source *below, struct source **out, struct err *e)
{
	struct zfile *z;
	int r;

	pthread_once(&key_once, key_make);
	if (key_error)
		return err_set(e, key_error, "zfile: no thread key: %s", strerror(key_error));
	z = calloc(1, sizeof *z);
	if (!z)
		return err_set(e, ENOMEM, "out of memory");
	z->below = below;
	r = load_or_retry(z, e);
	if (r != 0) {
		free(z);
		return r;
	}
	z->source = (struct source){ .ops = &zfile_ops, .size = z->header.original_size };
	z->shift = (unsigned)__builtin_ctz(z->header.block_size);
	atomic_init(&z->serial, new_serial());
	*out = &z->source;
	return 0;
}

const struct zheader *zfile_header(const struct source *s)
{
	return &((const struct zfile *)s)->header;
}

uint64_t zfile_count_large(const struct source *s)
{
	const struct zfile *z = (const struct zfile *)s;
	uint64_t i, n = 0;

	for (i = 0; i < z->header.blocks; i++)
		n += jump_end(&z->jump, i) - jump_start(&z->jump, i) > ZFORMAT_REFERENCE_STORED;
	return n;
}

int zfile_check_trailer(struct source *s, struct err *e)
{
	struct zfile *z = (struct zfile *)s;
	const struct zheader *h = &z->header;
	struct zheader t;
	int r = read_trailer(z->below, &t, e);

	if (r < 0)
		return err_wrap(e, r, "zfile");
	if (t.index_offset != h->index_offset || t.blocks != h->blocks ||
	    t.original_size != h->original_size || t.index_crc != h->index_crc ||
	    t.block_size != h->block_size || t.algorithm != h->algorithm || t.level != h->level ||
	    t.verify != h->verify)
		return err_set(e, EBADMSG, "zfile: header and trailer differ");
	return 0;
}
