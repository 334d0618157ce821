/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.c - see crc32c.h. */
#include "core/base/crc32c.h"

#include <isa-l/crc.h>

uint32_t crc32c_raw(uint32_t crc, const void *bytes, size_t n)
{
	/* It only reads, whatever its declaration says. */
	return crc32_iscsi((uint8_t *)(uintptr_t)bytes, (int)n, crc);
}
