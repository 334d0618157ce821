/* SPDX-License-Identifier: Apache-2.0 */
/* zseal.c - see zseal.h.  Offsets are written out here, apart from the code under test. */
#include "tests/zseal.h"

#include "core/base/crc32c.h"
#include "core/base/le.h"

enum { SPACE = 512 };

static void seal_digest(uint8_t *raw)
{
	le32_put(raw + 28, 0);
	le32_put(raw + 28, crc32c_raw(0, raw, SPACE));
}

static void seal_blocks(uint8_t *bytes, const uint8_t *table, uint64_t blocks, uint64_t end)
{
	uint64_t at = SPACE, i;

	for (i = 0; i < blocks; i++) {
		uint32_t stored = le32_get(table + 4 * i);

		if (stored < 4 || !range_fits(at, stored, end))
			return;
		le32_put(bytes + at + stored - 4, crc32c_raw(100007, bytes + at, stored - 4));
		at += stored;
	}
}

void zseal(uint8_t *bytes, size_t n, unsigned what)
{
	uint8_t *trailer = n >= 2 * SPACE ? bytes + n - SPACE : NULL;
	uint8_t *final;
	uint64_t table, blocks;

	if (!trailer)
		return;
	final = bytes[32] & 8 ? bytes : trailer;
	table = le64_get(final + 40);
	blocks = le64_get(final + 48);
	if (blocks <= n && range_fits(table, 4 * blocks, n - SPACE) && table >= SPACE) {
		if (what & ZSEAL_BLOCKS && final[88])
			seal_blocks(bytes, bytes + table, blocks, table);
		if (what & ZSEAL_TABLE) {
			uint32_t crc = crc32c_raw(0, bytes + table, (size_t)(4 * blocks));

			le32_put(trailer + 64, crc);
			le32_put(final + 64, crc);
		}
	}
	if (what & ZSEAL_DIGESTS) {
		seal_digest(bytes);
		seal_digest(trailer);
	}
}
