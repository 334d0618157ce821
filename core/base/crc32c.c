/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.c - see crc32c.h. */
#include "core/base/crc32c.h"

#include <isa-l/crc.h>

#include "core/base/le.h"

enum { PIECE = 1 << 30 }; /* bytes: the library counts in int */

uint32_t crc32c_raw(uint32_t crc, const void *bytes, size_t n)
{
	/* It only reads, whatever its declaration says. */
	uint8_t *p = (uint8_t *)(uintptr_t)bytes;

	while (n > 0) {
		size_t piece = min_u64(n, PIECE);

		crc = crc32_iscsi(p, (int)piece, crc);
		p += piece;
		n -= piece;
	}
	return crc;
}
