/* SPDX-License-Identifier: Apache-2.0 */
/* test-crc32c.c - the checksum against known values, and against its definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/crc32c.h"

static void known_values(void **state)
{
	assert_int_equal(crc32c_raw(0, "123456789", 9), 0x58E3FA20);
	assert_int_equal(crc32c_raw(100007, "123456789", 9), 0x3C9BD4E0);
	assert_int_equal(~crc32c_raw(~UINT32_C(0), "123456789", 9), 0xE3069283);
}

/* One bit at a time, as the definition has it. */
static uint32_t by_definition(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n > 0; n--, p++) {
		int bit;

		crc ^= *p;
		for (bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82F63B78) : crc >> 1;
	}
	return crc;
}

static void all_lengths_and_alignments(void **state)
{
	enum { SPACE = 9000 };
	uint8_t *bytes = malloc(SPACE);
	size_t n, at;

	srand(1);
	for (n = 0; n < SPACE; n++)
		bytes[n] = (uint8_t)rand();
	for (n = 0; n < SPACE - 16; n += n < 900 ? 1 : 97) {
		for (at = 0; at < 9; at += 4) {
			uint32_t want = by_definition((uint32_t)n, bytes + at, n);

			assert_int_equal(crc32c_raw((uint32_t)n, bytes + at, n), want);
		}
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(all_lengths_and_alignments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
