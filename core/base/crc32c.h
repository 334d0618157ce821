/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.h - the one checksum of the overlaybd formats: CRC-32C (Castagnoli, reflected polynomial
 * 0x82F63B78) without the usual inversion of the start and end values.
 *
 * Threads: all may run concurrently.  The implementation (SSE4.2, ARMv8 or portable) is chosen
 * once, at the first call. */
#ifndef OVERLAYBD_BASE_CRC32C_H
#define OVERLAYBD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The state after n more bytes, from state `crc`. */
uint32_t crc32c_raw(uint32_t crc, const void *bytes, size_t n);

/* The same, always by the portable code; tests compare the two. */
uint32_t crc32c_raw_portable(uint32_t crc, const void *bytes, size_t n);

/* "sse4.2", "armv8" or "portable". */
const char *crc32c_implementation(void);

#endif
