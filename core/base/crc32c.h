/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.h - the one checksum of the overlaybd formats: CRC-32C (Castagnoli, reflected polynomial
 * 0x82F63B78) without the usual inversion of the start and end values.
 *
 * Threads: all may run concurrently.  ISA-L computes it, with what the processor has. */
#ifndef OVERLAYBD_BASE_CRC32C_H
#define OVERLAYBD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The state after n more bytes, below 2 GiB, from state `crc`. */
uint32_t crc32c_raw(uint32_t crc, const void *bytes, size_t n);

#endif
