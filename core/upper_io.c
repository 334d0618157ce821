/* SPDX-License-Identifier: Apache-2.0 */
/* upper_io.c - reading from and writing to an open append log, see upper_log.c for the invariants.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/upper_private.h"

enum {
	PIECES = 32, /* of a read that are looked up at once */
	/* A client that never flushes must not make the pending file grow for ever. */
	PENDING_FLUSHES = 32, /* times pending_bytes */
};

static int check_range(const struct upper_log *u, uint64_t off, uint64_t n, struct err *e)
{
	uint64_t size = u->sectors * SECTOR;

	if (range_fits(off, n, size))
		return 0;
	return err_set(e, EINVAL,
		       "%s: %" PRIu64 " bytes at %" PRIu64 " lie beyond the disk's end at %" PRIu64,
		       u->data_path, n, off, size);
}

/* ---- reading ---- */

static int read_data(struct upper_log *u, void *buf, size_t n, uint64_t off, struct err *e)
{
	int r = upper_file_read(u->ops, u->data_fd, buf, n, off, e);

	return r < 0 ? err_wrap(e, r, "%s", u->data_path) : 0;
}

static int read_below(struct upper_log *u, void *buf, size_t n, uint64_t off, struct err *e)
{
	if (u->below.pread)
		return u->below.pread(u->below.arg, buf, n, off, e);
	memset(buf, 0, n);
	return 0;
}

/* Fills buf with the pieces of [off, off + n): with `own` those that are data of this log, else all
 * others. */
static int read_pieces(struct upper_log *u, const struct segment *pieces, size_t count, bool own,
		       uint8_t *buf, size_t n, uint64_t off, struct err *e)
{
	uint64_t skip = off % SECTOR; /* of the first sector */
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < count; i++) {
		const struct segment *s = &pieces[i];
		size_t bytes = (size_t)min_u64(n, s->sectors * SECTOR - skip);
		bool data = s->mapped && !s->zeroed;

		if (data && own)
			r = read_data(u, buf, bytes, s->moffset * SECTOR + skip, e);
		else if (!own && !s->mapped)
			r = read_below(u, buf, bytes, off, e);
		else if (!own && s->zeroed)
			memset(buf, 0, bytes);
		buf += bytes;
		off += bytes;
		n -= bytes;
		skip = 0;
	}
	return r;
}

/* Bytes of [off, off + n) that the pieces cover. */
static size_t covered(const struct segment *pieces, size_t count, size_t n, uint64_t off)
{
	uint64_t sectors = 0;
	size_t i;

	for (i = 0; i < count; i++)
		sectors += pieces[i].sectors;
	return (size_t)min_u64(n, sectors * SECTOR - off % SECTOR);
}

int upper_log_pread(struct upper_log *u, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct segment pieces[PIECES];
	uint8_t *to = buf;
	int r = check_range(u, off, n, e);

	while (r == 0 && n > 0) {
		uint64_t sectors = (off % SECTOR + n + SECTOR - 1) / SECTOR;
		unsigned seat = upper_readers_enter(&u->readers);
		size_t count = upper_map_pieces(&u->map, off / SECTOR, sectors, pieces, PIECES);
		size_t bytes = covered(pieces, count, n, off);

		r = read_pieces(u, pieces, count, true, to, bytes, off, e);
		upper_readers_leave(&u->readers, seat);
		/* The layers below may be far away: no hole waits for them. */
		if (r == 0)
			r = read_pieces(u, pieces, count, false, to, bytes, off, e);
		to += bytes;
		off += bytes;
		n -= bytes;
	}
	return r;
}

size_t upper_log_pieces(struct upper_log *u, uint64_t lba, uint64_t sectors, struct segment *out,
			size_t room)
{
	return upper_map_pieces(&u->map, lba, sectors, out, room);
}

/* Adds one piece, cut into mappings.  -ENOMEM. */
static int add_mappings(struct mapping_run *run, size_t *room, uint64_t lba,
			const struct segment *s)
{
	uint64_t done, moffset = s->zeroed ? 0 : s->moffset;

	for (done = 0; s->mapped && done < s->sectors;) {
		if (run->count == *room) {
			size_t more = *room ? 2 * *room : 64;
			struct mapping *maps = realloc(run->maps, more * sizeof *maps);

			if (!maps)
				return -ENOMEM;
			run->maps = maps;
			*room = more;
		}
		upper_queue_cut(lba + done, s->sectors - done, moffset + done, s->zeroed,
				&run->maps[run->count], 1);
		done += mapping_sectors(run->maps[run->count++]);
	}
	return 0;
}

int upper_log_mappings(struct upper_log *u, struct mapping_run *out, struct err *e)
{
	struct segment pieces[PIECES];
	uint64_t lba = 0;
	size_t i, n, room = 0;
	int r = 0;

	*out = (struct mapping_run){ 0 };
	if (u->beyond)
		return err_set(e, EINVAL,
			       "%s: it maps sectors beyond its virtual size of %" PRIu64
			       " bytes: make it larger with 'overlaybd resize'",
			       u->data_path, u->sectors * SECTOR);
	while (r == 0 && lba < u->sectors) {
		n = upper_map_pieces(&u->map, lba, u->sectors - lba, pieces, PIECES);
		for (i = 0; r == 0 && i < n; lba += pieces[i++].sectors)
			r = add_mappings(out, &room, lba, &pieces[i]);
	}
	if (r == 0)
		return 0;
	free(out->maps);
	*out = (struct mapping_run){ 0 };
	return err_set(e, ENOMEM, "out of memory for the mappings of %s", u->data_path);
}

/* ---- publishing ---- */

/* A write as it goes to the data file: whole sectors. */
struct aligned {
	uint64_t first, end; /* sectors */
	uint8_t head[SECTOR], tail[SECTOR]; /* the parts of sectors, filled up */
	struct {
		const void *bytes;
		size_t n;
	} parts[3];
	size_t count;
};

/* A change of the disk that is to be published; `data` NULL: zeroes. */
struct change {
	const struct aligned *data;
	uint64_t start, sectors, moffset; /* of what is left of it */
	bool flush; /* it has to be durable before it is acknowledged */
	bool tight; /* the index file may have no space for it */
};

/* The CRC of the data of n sectors, from sector `from` of the write on. */
static uint32_t sum_data(const struct aligned *a, uint64_t from, uint64_t sectors)
{
	uint64_t skip = from * SECTOR, left = sectors * SECTOR;
	uint32_t crc = UPPER_PENDING_SALT;
	size_t i;

	for (i = 0; i < a->count && left > 0; i++) {
		uint64_t n = a->parts[i].n;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		n = min_u64(n - skip, left);
		crc = crc32c_raw(crc, (const uint8_t *)a->parts[i].bytes + skip, (size_t)n);
		skip = 0;
		left -= n;
	}
	return crc;
}

/* The first records of a change, at most UPPER_PENDING_BATCH. */
static size_t make_records(const struct change *c, struct upper_pending_record *out)
{
	struct mapping maps[UPPER_PENDING_BATCH];
	size_t n = upper_queue_cut(c->start, c->sectors, c->moffset, !c->data, maps,
				   UPPER_PENDING_BATCH),
	       i;

	for (i = 0; i < n; i++) {
		out[i] = (struct upper_pending_record){ .map = maps[i] };
		if (c->data)
			out[i].crc = sum_data(c->data, mapping_start(maps[i]) - c->data->first,
					      mapping_sectors(maps[i]));
	}
	return n;
}

/* What a change waits for, where it can be neither published nor refused. */
enum {
	WANTS_FLUSH = 1, /* what the pending file of the process before holds is to be durable */
	WANTS_ROOM, /* the index file is to be longer */
};

/* A pending file to append to, where beginning it was put off, or a write to it failed; or
 * WANTS_FLUSH. */
static int ready_pending(struct upper_log *u, struct err *e)
{
	struct upper_pending_base base = upper_index_base(u);
	int r;

	if (u->pending.waits)
		r = u->queue.count > 0 ? WANTS_FLUSH
				       : upper_pending_begin(&u->pending, &base, NULL, 0, e);
	else if (u->pending.unsure)
		r = upper_pending_shorten(&u->pending, &base, u->flushed_end, e);
	else
		return 0;
	if (r == 0)
		upper_sync_moved(u);
	return r;
}

/* Zeroing takes no space of the data file, and may be what makes room: on a full disk it goes
 * straight to the index, which has room ahead. */
static int append_or_flush(struct upper_log *u, struct change *c,
			   const struct upper_pending_record *records, size_t n, struct err *e)
{
	int r = u->through ? 0 : ready_pending(u, e);

	if (r == 0 && !u->through)
		r = upper_pending_append(&u->pending, records, n, e);
	if ((r == -ENOSPC || r == -EDQUOT) && !c->data) {
		u->through = true;
		r = 0;
	}
	c->flush |= u->through;
	return r;
}

/* Entries that a change of n records wants in the index file.  Some are for zeroing alone, which
 * may be what makes space on a full disk. */
static uint64_t wanted_room(const struct upper_log *u, const struct change *c, size_t n)
{
	return n + (c->data ? u->room_records / 4 : 0);
}

static bool has_room(const struct upper_log *u, const struct change *c, size_t n)
{
	return min_u64(upper_index_needs(u, wanted_room(u, c, n)), u->max_records) <=
	       atomic_load_explicit(&u->index_room, memory_order_relaxed);
}

/* Invariant 3: maps what is left of a change, at most UPPER_PENDING_BATCH records of it.  -errno,
 * WANTS_FLUSH, WANTS_ROOM: then none was published. */
static int publish(struct upper_log *u, struct change *c, struct err *e)
{
	struct upper_pending_record records[UPPER_PENDING_BATCH];
	size_t n = make_records(c, records), i;
	uint64_t sectors = mapping_end(records[n - 1].map) - c->start;
	int r;
	WITH_LOCK(&u->publish_lock);

	if (u->failed)
		return err_set(e, EIO, "%s: an earlier sync failed", u->data_path);
	/* What could not be flushed is not acknowledged.  A flush adds three
	 * entries, and a CHECK where there was none. */
	if (u->index_records + u->queue.count + n + 4 > u->max_records)
		return err_set(e, ENOSPC, "%s: the index is full", u->index_path);
	if (!c->tight && !has_room(u, c, n))
		return WANTS_ROOM;
	if (upper_map_reserve(&u->map, c->start, sectors) < 0 ||
	    upper_queue_reserve(&u->queue, n) < 0)
		return err_set(e, ENOMEM, "out of memory");
	r = append_or_flush(u, c, records, n, e);
	if (r != 0)
		return r;
	atomic_store_explicit(&u->pending_end, u->pending.end, memory_order_relaxed);
	for (i = 0; i < n; i++)
		upper_queue_push(&u->queue, records[i].map);
	upper_map_set(&u->map, c->start, sectors, c->moffset, !c->data, &u->dying);
	c->tight = false; /* each batch asks for itself */
	c->start += sectors;
	c->sectors -= sectors;
	c->moffset += c->data ? sectors : 0;
	return 0;
}

/* Zeroing goes on without space, when what has the room is durable. */
static int lengthen_index(struct upper_log *u, struct change *c, struct err *e)
{
	struct mapping maps[UPPER_PENDING_BATCH];
	size_t n = upper_queue_cut(c->start, c->sectors, c->moffset, !c->data, maps,
				   UPPER_PENDING_BATCH);
	int r = upper_sync_make_room(u, wanted_room(u, c, n), e);

	if (c->data || (r != -ENOSPC && r != -EDQUOT))
		return r;
	c->tight = true;
	return upper_log_flush(u, e);
}

static int publish_all(struct upper_log *u, struct change *c, struct err *e)
{
	int r = 0;

	while (r == 0 && c->sectors > 0) {
		r = publish(u, c, e);
		if (r == WANTS_FLUSH)
			r = upper_log_flush(u, e);
		else if (r == WANTS_ROOM)
			r = lengthen_index(u, c, e);
	}
	return r == 0 && c->flush ? upper_log_flush(u, e) : r;
}

/* What every change ends with. */
static int finish(struct upper_log *u, unsigned flags, int r, struct err *e)
{
	if (r == -ENOSPC || r == -EDQUOT)
		upper_garbage_note_full(&u->garbage);
	if (r < 0)
		return r;
	if (flags & UPPER_FUA)
		return upper_log_flush(u, e);
	/* The write itself is done: what fails here fails in the next flush too. */
	if (atomic_load_explicit(&u->pending_end, memory_order_relaxed) / PENDING_FLUSHES >=
	    u->pending_bytes)
		(void)upper_log_flush(u, NULL);
	return 0;
}

/* ---- writing ---- */

static void add_part(struct aligned *a, const void *bytes, size_t n)
{
	if (n == 0)
		return;
	a->parts[a->count].bytes = bytes;
	a->parts[a->count++].n = n;
}

/* Fills up a sector of which [at, at + n) is written. */
static int fill_up(struct upper_log *u, uint8_t sector[SECTOR], uint64_t lba, const void *bytes,
		   size_t at, size_t n, struct err *e)
{
	int r = upper_log_pread(u, sector, SECTOR, lba * SECTOR, e);

	if (r == 0)
		memcpy(sector + at, bytes, n);
	return r;
}

/* The caller has claimed the sectors: they cannot change between reading and publishing. */
static int align(struct upper_log *u, const uint8_t *buf, size_t n, uint64_t off, struct aligned *a,
		 struct err *e)
{
	size_t at = (size_t)(off % SECTOR);
	size_t head = at > 0 || n < SECTOR ? (size_t)min_u64(SECTOR - at, n) : 0;
	size_t tail = (n - head) % SECTOR;
	int r = 0;

	a->first = off / SECTOR;
	a->end = (off + n + SECTOR - 1) / SECTOR;
	a->count = 0;
	if (head > 0) {
		r = fill_up(u, a->head, a->first, buf, at, head, e);
		add_part(a, a->head, SECTOR);
	}
	add_part(a, buf + head, n - head - tail);
	if (r == 0 && tail > 0) {
		r = fill_up(u, a->tail, a->end - 1, buf + n - tail, 0, tail, e);
		add_part(a, a->tail, SECTOR);
	}
	return r;
}

/* A write that makes a file longer waits while the file system syncs: so it is made longer by far,
 * without taking space.  Where that fails, writes make it longer themselves. */
static void make_room(struct upper_log *u, uint64_t end)
{
	uint64_t room;

	if (end <= atomic_load(&u->data_room))
		return;
	WITH_LOCK(&u->room_lock);
	/* Not shorter than what others write behind us. */
	room = max_u64(end, atomic_load(&u->data_end)) + u->room_bytes / SECTOR;
	if (end > atomic_load(&u->data_room) && room <= INDEX_MAX_MOFFSET &&
	    u->ops->truncate(u->data_fd, room * SECTOR) == 0)
		atomic_store(&u->data_room, room);
}

/* Nobody knows the place: it is the next one's, unless others follow it already.  A search that has
 * read data_end before it went back sees that it did: it waits for this writer. */
static void give_back(struct upper_log *u, uint64_t at, uint64_t end)
{
	uint64_t lowest;

	if (!atomic_compare_exchange_strong(&u->data_end, &end, at))
		return;
	lowest = atomic_load(&u->given_back); /* not before: a search begins it anew */
	while (at < lowest && !atomic_compare_exchange_weak(&u->given_back, &lowest, at))
		;
}

/* Invariant 1: a place behind all that was published. */
static int append(struct upper_log *u, const struct aligned *a, uint64_t *moffset, struct err *e)
{
	uint64_t sectors = a->end - a->first, at, end;
	size_t i;
	int r = 0;

	*moffset = atomic_fetch_add(&u->data_end, sectors);
	end = *moffset + sectors;
	if (end > INDEX_MAX_MOFFSET)
		r = err_set(e, ENOSPC, "the data file is full");
	else
		make_room(u, end);
	at = *moffset * SECTOR;
	for (i = 0; r == 0 && i < a->count; i++) {
		r = upper_file_write(u->ops, u->data_fd, a->parts[i].bytes, a->parts[i].n, at, e);
		at += a->parts[i].n;
	}
	if (r == 0)
		return 0;
	give_back(u, *moffset, end);
	return err_wrap(e, r, "%s", u->data_path);
}

static int write_claimed(struct upper_log *u, const void *buf, size_t n, uint64_t off,
			 struct err *e)
{
	struct change change;
	struct aligned a;
	uint64_t moffset;
	unsigned seat;
	int r = align(u, buf, n, off, &a, e);

	if (r < 0)
		return r;
	seat = upper_readers_enter(&u->writers);
	r = append(u, &a, &moffset, e);
	if (r == 0) {
		change = (struct change){
			.data = &a, .start = a.first, .sectors = a.end - a.first, .moffset = moffset
		};
		r = publish_all(u, &change, e);
	}
	upper_readers_leave(&u->writers, seat);
	return r;
}

static int check_write(struct upper_log *u, uint64_t off, uint64_t n, struct err *e)
{
	if (u->failed)
		return err_set(e, EIO, "%s: an earlier sync failed", u->data_path);
	return check_range(u, off, n, e);
}

int upper_log_pwrite(struct upper_log *u, const void *buf, size_t n, uint64_t off, unsigned flags,
		     struct err *e)
{
	struct upper_claim claim;
	int r = check_write(u, off, n, e);

	if (r == 0 && n > 0) {
		upper_claims_take(&u->claims, &claim, off / SECTOR,
				  (off + n + SECTOR - 1) / SECTOR);
		r = write_claimed(u, buf, n, off, e);
		upper_claims_give(&u->claims, &claim);
	}
	return finish(u, flags, r, e);
}

/* Whole sectors become a record without data; the parts at the ends are written. */
static int zero_claimed(struct upper_log *u, uint64_t off, uint64_t n, struct err *e)
{
	static const uint8_t zeroes[SECTOR];
	uint64_t first = (off + SECTOR - 1) / SECTOR, end = (off + n) / SECTOR;
	int r = 0;

	if (first > end) /* within one sector */
		return write_claimed(u, zeroes, (size_t)n, off, e);
	if (off < first * SECTOR)
		r = write_claimed(u, zeroes, (size_t)(first * SECTOR - off), off, e);
	if (r == 0)
		r = publish_all(u, &(struct change){ .start = first, .sectors = end - first }, e);
	if (r == 0 && off + n > end * SECTOR)
		r = write_claimed(u, zeroes, (size_t)(off + n - end * SECTOR), end * SECTOR, e);
	return r;
}

int upper_log_zero(struct upper_log *u, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	struct upper_claim claim;
	int r = check_write(u, off, n, e);

	if (r == 0 && n > 0) {
		upper_claims_take(&u->claims, &claim, off / SECTOR,
				  (off + n + SECTOR - 1) / SECTOR);
		r = zero_claimed(u, off, n, e);
		upper_claims_give(&u->claims, &claim);
	}
	return finish(u, flags, r, e);
}

int upper_log_trim(struct upper_log *u, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	uint64_t first = (off + SECTOR - 1) / SECTOR, end = (off + n) / SECTOR;
	int r = check_write(u, off, n, e);

	if (r < 0 || first >= end)
		return finish(u, flags, r, e);
	return upper_log_zero(u, first * SECTOR, (end - first) * SECTOR, flags, e);
}
