/* SPDX-License-Identifier: Apache-2.0 */
/* index.h - the merged index: which layer holds which sector.
 *
 * A sorted, non-overlapping array of mappings, 16 bytes each, and a small search tree over every
 * fourth of them (about 1.1 bytes a mapping).  Immutable once made: lookups take no lock.
 * Units: sectors of 512 bytes.  Knows nothing of files. */
#ifndef OVERLAYBD_CORE_INDEX_H
#define OVERLAYBD_CORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/workers.h"

/* Limits of the packed form: layers 0 to 65534, layer files up to 64 PiB. */
enum { INDEX_MAX_LAYERS = 65535 };
#define INDEX_MAX_MOFFSET (UINT64_C(1) << 47)

/* range:  bits 0-49 start, 50-63 length (1 to 16383).
 * target: bits 0-46 moffset (first sector in the layer file), 47 zeroed, 48-63 layer. */
struct mapping {
	uint64_t range;
	uint64_t target;
};

static inline uint64_t mapping_start(struct mapping m)
{
	return m.range & ((UINT64_C(1) << 50) - 1);
}

static inline uint64_t mapping_sectors(struct mapping m)
{
	return m.range >> 50;
}

static inline uint64_t mapping_end(struct mapping m)
{
	return mapping_start(m) + mapping_sectors(m);
}

static inline uint64_t mapping_moffset(struct mapping m)
{
	return m.target & (INDEX_MAX_MOFFSET - 1);
}

static inline bool mapping_zeroed(struct mapping m)
{
	return m.target >> 47 & 1;
}

static inline size_t mapping_layer(struct mapping m)
{
	return m.target >> 48;
}

/* A zeroed mapping's moffset is stored as 0. */
static inline struct mapping mapping_make(uint64_t start, uint64_t sectors, size_t layer,
					  uint64_t moffset, bool zeroed)
{
	return (struct mapping){
		.range = start | sectors << 50,
		.target = (zeroed ? UINT64_C(1) << 47 : moffset) | (uint64_t)layer << 48,
	};
}

/* One layer's mappings: sorted, not overlapping. */
struct mapping_run {
	struct mapping *maps;
	size_t count;
};

struct index;

/* Merges runs into one index; runs[0] is the bottom, a later run wins.  The runs' arrays come from
 * malloc; they are freed or taken over, also on failure (maps is NULL afterwards).  `pool` may be
 * NULL.
 *
 * Errors: ENOMEM. */
int index_merge(struct mapping_run *runs, size_t count, struct workers *pool, struct index **out,
		struct err *e);

/* The same merge with a bare array as its result, for an append log, whose entries are a stack of
 * small runs.  The caller frees out->maps. */
int index_merge_runs(struct mapping_run *runs, size_t count, struct workers *pool,
		     struct mapping_run *out, struct err *e);

void index_close(struct index *ix);

/* Position of the first mapping that ends after lba, which is below 2^50 - 1; index_count when
 * there is none. */
size_t index_find(const struct index *ix, uint64_t lba);

size_t index_count(const struct index *ix);

/* All mappings in order, and one behind the last that begins at 2^50 - 1 and is empty. */
const struct mapping *index_maps(const struct index *ix);

/* The piece of a range that begins at its start, trimmed to it. */
struct segment {
	uint64_t sectors;
	uint64_t moffset; /* when mapped and not zeroed */
	uint32_t layer; /* when mapped */
	bool mapped; /* false: no layer maps it (a hole) */
	bool zeroed; /* when mapped */
};

/* The first piece of [lba, lba + sectors), sectors > 0, where m is the first mapping that ends
 * after lba.  Has no branch: whether a range begins in a hole cannot be predicted. */
static inline struct segment segment_at(struct mapping m, uint64_t lba, uint64_t sectors)
{
	uint64_t start = mapping_start(m);
	bool mapped = start <= lba;
	uint64_t end = mapped ? mapping_end(m) : start;

	return (struct segment){
		.sectors = end - lba < sectors ? end - lba : sectors,
		.moffset = mapping_moffset(m) + lba - start,
		.layer = (uint32_t)mapping_layer(m),
		.mapped = mapped,
		.zeroed = mapping_zeroed(m),
	};
}

/* Bytes of memory that the index holds. */
size_t index_memory(const struct index *ix);

#endif
