/* SPDX-License-Identifier: Apache-2.0 */
/* zseal.h - makes the checksums of edited ZFile bytes right again, so that a test or a fuzzer
 * reaches the rules that they would mask.  Works on any bytes: what does not fit is left alone. */
#ifndef OVERLAYBD_TESTS_ZSEAL_H
#define OVERLAYBD_TESTS_ZSEAL_H

#include <stddef.h>
#include <stdint.h>

/* What to make right. */
enum {
	ZSEAL_BLOCKS = 1 << 0, /* the CRC after each block that the jump table shows */
	ZSEAL_TABLE = 1 << 1, /* index_crc, in header and trailer */
	ZSEAL_DIGESTS = 1 << 2, /* of header and trailer */
	ZSEAL_ALL = ZSEAL_BLOCKS | ZSEAL_TABLE | ZSEAL_DIGESTS,
};

void zseal(uint8_t *bytes, size_t n, unsigned what);

#endif
