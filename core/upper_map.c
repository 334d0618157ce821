/* SPDX-License-Identifier: Apache-2.0 */
/* upper_map.c - regions of sorted mappings, see upper_map.h. */
#include "core/upper_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	BLOCK_REGIONS = 4096, /* 16 GiB of disk, 64 KiB of memory */
	MAX_RANGES = 1 << 20,
	CHANGE = 5, /* mappings that one change looks at: two neighbours, two rests, the new one */
};

/* ---- dead pieces ---- */

void upper_ranges_add(struct upper_ranges *r, uint64_t moffset, uint64_t sectors)
{
	struct upper_range *last = r->count > 0 ? &r->list[r->count - 1] : NULL;

	r->sectors += sectors;
	if (last && last->moffset + last->sectors == moffset) {
		last->sectors += sectors;
		return;
	}
	if (r->count == MAX_RANGES)
		return;
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		struct upper_range *list = realloc(r->list, room * sizeof *list);

		if (!list)
			return;
		r->list = list;
		r->room = room;
	}
	r->list[r->count++] = (struct upper_range){ moffset, sectors };
}

void upper_ranges_release(struct upper_ranges *r)
{
	free(r->list);
	*r = (struct upper_ranges){ 0 };
}

/* ---- regions ---- */

int upper_map_init(struct upper_map *m, uint64_t sectors)
{
	uint64_t regions = (sectors + UPPER_REGION - 1) / UPPER_REGION;
	size_t i;

	memset(m, 0, sizeof *m);
	m->sectors = sectors;
	m->block_regions = (size_t)min_u64(max_u64(regions, 1), BLOCK_REGIONS);
	m->block_count = (size_t)((regions + m->block_regions - 1) / m->block_regions);
	m->blocks = calloc(m->block_count + 1, sizeof *m->blocks);
	if (!m->blocks)
		return -ENOMEM;
	for (i = 0; i < UPPER_MAP_LOCKS; i++)
		pthread_mutex_init(&m->locks[i].mutex, NULL);
	return 0;
}

void upper_map_release(struct upper_map *m)
{
	size_t i, k;

	if (!m->blocks)
		return;
	for (i = 0; i < m->block_count; i++) {
		struct upper_region *block = m->blocks[i];

		for (k = 0; block && k < m->block_regions; k++)
			free(block[k].maps);
		free(block);
	}
	free(m->blocks);
	for (i = 0; i < UPPER_MAP_LOCKS; i++)
		pthread_mutex_destroy(&m->locks[i].mutex);
	memset(m, 0, sizeof *m);
}

static struct upper_region *block_of(struct upper_map *m, uint64_t lba)
{
	return atomic_load_explicit(&m->blocks[lba / UPPER_REGION / m->block_regions],
				    memory_order_acquire);
}

/* Only while its block is there. */
static struct upper_region *region_of(struct upper_map *m, uint64_t lba)
{
	return block_of(m, lba) + lba / UPPER_REGION % m->block_regions;
}

static pthread_mutex_t *lock_of(struct upper_map *m, uint64_t lba)
{
	return &m->locks[lba / UPPER_REGION % UPPER_MAP_LOCKS].mutex;
}

/* First sector of the next region. */
static uint64_t region_end(uint64_t lba)
{
	return (lba / UPPER_REGION + 1) * UPPER_REGION;
}

/* Position of the first mapping that ends after lba.  Has no branch that depends on the data. */
static uint32_t find(const struct upper_region *r, uint64_t lba)
{
	const struct mapping *base = r->maps;
	uint32_t n = r->count;

	if (n == 0)
		return 0;
	while (n > 1) {
		uint32_t half = n / 2;

		base = mapping_start(base[half]) <= lba ? base + half : base;
		n -= half;
	}
	return (uint32_t)(base - r->maps) + (mapping_end(*base) <= lba);
}

/* False: no memory. */
static bool make_block(struct upper_map *m, uint64_t lba)
{
	struct upper_region *block;

	if (block_of(m, lba))
		return true;
	block = calloc(m->block_regions, sizeof *block);
	if (!block)
		return false;
	atomic_store_explicit(&m->blocks[lba / UPPER_REGION / m->block_regions], block,
			      memory_order_release);
	return true;
}

/* A change adds at most two mappings to a region.  False: no memory. */
static bool reserve_region(struct upper_map *m, uint64_t lba)
{
	struct upper_region *r;
	struct mapping *maps;
	uint32_t room;

	if (!make_block(m, lba))
		return false;
	r = region_of(m, lba);
	if (r->room - r->count >= 2)
		return true;
	room = r->room ? 2 * r->room : 4;
	WITH_LOCK(lock_of(m, lba));
	maps = realloc(r->maps, room * sizeof *maps);
	if (!maps)
		return false;
	r->maps = maps;
	r->room = room;
	return true;
}

int upper_map_reserve(struct upper_map *m, uint64_t start, uint64_t sectors)
{
	uint64_t lba, end = start + sectors;

	for (lba = start; lba < end; lba = region_end(lba))
		if (!reserve_region(m, lba))
			return -ENOMEM;
	return 0;
}

/* ---- changing ---- */

/* What takes the place of some mappings of a region. */
struct change {
	struct mapping maps[CHANGE];
	uint32_t count;
};

/* Appends a mapping, joined to the newest where it goes on there in both spaces. */
static void change_push(struct change *c, struct mapping m)
{
	struct mapping *last = c->count > 0 ? &c->maps[c->count - 1] : NULL;

	if (last && mapping_end(*last) == mapping_start(m) &&
	    mapping_zeroed(*last) == mapping_zeroed(m) &&
	    (mapping_zeroed(m) ||
	     mapping_moffset(*last) + mapping_sectors(*last) == mapping_moffset(m)))
		*last = mapping_make(mapping_start(*last),
				     mapping_sectors(*last) + mapping_sectors(m), 0,
				     mapping_moffset(*last), mapping_zeroed(m));
	else
		c->maps[c->count++] = m;
}

/* The part [from, to) of a mapping. */
static struct mapping part(struct mapping m, uint64_t from, uint64_t to)
{
	return mapping_make(from, to - from, 0, mapping_moffset(m) + from - mapping_start(m),
			    mapping_zeroed(m));
}

/* Returns how many sectors of data of m lie in [from, to). */
static uint64_t bury(const struct mapping *m, uint64_t from, uint64_t to, struct upper_ranges *dead)
{
	from = max_u64(from, mapping_start(*m));
	to = min_u64(to, mapping_end(*m));
	if (mapping_zeroed(*m) || from >= to)
		return 0;
	if (dead)
		upper_ranges_add(dead, mapping_moffset(*m) + from - mapping_start(*m), to - from);
	return to - from;
}

/* Puts `fresh`, which lies within region r, over what r maps. */
static void set_in_region(struct upper_map *m, struct upper_region *r, struct mapping fresh,
			  struct upper_ranges *dead)
{
	uint64_t start = mapping_start(fresh), end = mapping_end(fresh);
	uint32_t first = find(r, start), next = first;
	uint64_t data = mapping_zeroed(fresh) ? 0 : end - start;
	struct change c = { .count = 0 };

	while (next < r->count && mapping_start(r->maps[next]) < end)
		data -= bury(&r->maps[next++], start, end, dead); /* may wrap until it is added */
	atomic_fetch_add_explicit(&m->data, data, memory_order_relaxed);
	/* [first, next) overlap; take the neighbours too, which the new one may go on from. */
	if (first > 0)
		change_push(&c, r->maps[first - 1]);
	if (first < next && mapping_start(r->maps[first]) < start)
		change_push(&c, part(r->maps[first], mapping_start(r->maps[first]), start));
	change_push(&c, fresh);
	if (first < next && mapping_end(r->maps[next - 1]) > end)
		change_push(&c, part(r->maps[next - 1], end, mapping_end(r->maps[next - 1])));
	if (next < r->count)
		change_push(&c, r->maps[next++]);
	first -= first > 0;
	memmove(r->maps + first + c.count, r->maps + next, (r->count - next) * sizeof *r->maps);
	memcpy(r->maps + first, c.maps, c.count * sizeof *r->maps);
	atomic_fetch_add_explicit(&m->count, (uint64_t)c.count - (next - first),
				  memory_order_relaxed);
	r->count = r->count - (next - first) + c.count;
}

void upper_map_set(struct upper_map *m, uint64_t start, uint64_t sectors, uint64_t moffset,
		   bool zeroed, struct upper_ranges *dead)
{
	while (sectors > 0) {
		uint64_t n = min_u64(sectors, region_end(start) - start);
		WITH_LOCK(lock_of(m, start));

		set_in_region(m, region_of(m, start), mapping_make(start, n, 0, moffset, zeroed),
			      dead);
		start += n;
		moffset += zeroed ? 0 : n;
		sectors -= n;
	}
}

/* ---- reading ---- */

struct pieces {
	struct segment *list;
	size_t count, room;
};

/* Whether b goes on where a ends. */
static bool goes_on(const struct segment *a, const struct segment *b)
{
	if (a->mapped != b->mapped)
		return false;
	if (!a->mapped)
		return true;
	return a->zeroed == b->zeroed && (a->zeroed || a->moffset + a->sectors == b->moffset);
}

/* Adds a piece.  False: it is full. */
static bool add_piece(struct pieces *p, const struct segment *s)
{
	if (p->count > 0 && goes_on(&p->list[p->count - 1], s)) {
		p->list[p->count - 1].sectors += s->sectors;
		return true;
	}
	if (p->count == p->room)
		return false;
	p->list[p->count++] = *s;
	return true;
}

/* Adds the pieces of [lba, end), which lies within one region. */
static bool add_region(struct upper_map *m, uint64_t lba, uint64_t end, struct pieces *p)
{
	WITH_LOCK(lock_of(m, lba));
	const struct upper_region *r = region_of(m, lba);
	uint32_t i = find(r, lba);

	while (lba < end) {
		struct segment s = { .sectors = end - lba };

		if (i < r->count)
			s = segment_at(r->maps[i], lba, end - lba);
		i += s.mapped;
		if (!add_piece(p, &s))
			return false;
		lba += s.sectors;
	}
	return true;
}

size_t upper_map_pieces(struct upper_map *m, uint64_t lba, uint64_t sectors, struct segment *out,
			size_t room)
{
	struct pieces p = { .list = out, .room = room };
	uint64_t block = (uint64_t)m->block_regions * UPPER_REGION;
	uint64_t end = lba + sectors, to;
	bool go_on = true;

	for (; go_on && lba < end; lba = to) {
		struct segment hole = { 0 };

		if (block_of(m, lba)) {
			to = min_u64(end, region_end(lba));
			go_on = add_region(m, lba, to, &p);
			continue;
		}
		to = min_u64(end, (lba / block + 1) * block);
		hole.sectors = to - lba;
		go_on = add_piece(&p, &hole);
	}
	return p.count;
}
