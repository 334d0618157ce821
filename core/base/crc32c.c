/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.c - CRC-32C without inversion, by instruction or by table.
 *
 * Without inversion the state is linear in state and data: state(A | B) = shift(state(A), |B|) xor
 * state0(B), where shift runs |B| zero bytes through the state.  The instruction needs three cycles
 * but one can start every cycle, so long input is cut into three lanes that run side by side and
 * are joined by two shifts, each four table look-ups. */
#include "core/base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/le.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE_NAME "sse4.2"
#define HARDWARE_TARGET __attribute__((target("sse4.2")))
#define STEP64(crc, v) ((uint32_t)_mm_crc32_u64((crc), (v)))
#define STEP8(crc, v) _mm_crc32_u8((crc), (v))
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1UL << 7)
#endif
#define HARDWARE_NAME "armv8"
#define HARDWARE_TARGET __attribute__((target("+crc")))
#define STEP64(crc, v) __crc32cd((crc), (v))
#define STEP8(crc, v) __crc32cb((crc), (v))
#endif

#define POLYNOMIAL 0x82F63B78u

enum { LONG_LANE = 1024, SHORT_LANE = 256 }; /* bytes */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint32_t slices[8][256]; /* [k][b]: byte b followed by k zero bytes */

static void make_slices(void)
{
	uint32_t crc;
	int i, k, bit;

	for (i = 0; i < 256; i++) {
		crc = (uint32_t)i;
		for (bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
		slices[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			slices[k][i] = slices[0][slices[k - 1][i] & 0xff] ^ slices[k - 1][i] >> 8;
}

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 8; n -= 8, p += 8) {
		uint32_t low = le32_get(p) ^ crc;
		uint32_t high = le32_get(p + 4);

		crc = slices[7][low & 0xff] ^ slices[6][low >> 8 & 0xff] ^
		      slices[5][low >> 16 & 0xff] ^ slices[4][low >> 24] ^ slices[3][high & 0xff] ^
		      slices[2][high >> 8 & 0xff] ^ slices[1][high >> 16 & 0xff] ^
		      slices[0][high >> 24];
	}
	for (; n > 0; n--, p++)
		crc = slices[0][(crc ^ *p) & 0xff] ^ crc >> 8;
	return crc;
}

static uint32_t (*chosen)(uint32_t crc, const uint8_t *p, size_t n) = by_table;
static const char *chosen_name = "portable";

#ifdef HARDWARE_NAME

struct shift {
	uint32_t table[4][256]; /* [k][b]: the state b << 8k after `lane` zero bytes */
};

static struct shift long_shift, short_shift;

static void make_shift(struct shift *s, size_t lane)
{
	static const uint8_t zeroes[LONG_LANE];
	uint32_t basis[32];
	int i, k, bit;

	for (bit = 0; bit < 32; bit++)
		basis[bit] = by_table(UINT32_C(1) << bit, zeroes, lane);
	for (k = 0; k < 4; k++)
		for (i = 0; i < 256; i++)
			for (s->table[k][i] = 0, bit = 0; bit < 8; bit++)
				if (i >> bit & 1)
					s->table[k][i] ^= basis[8 * k + bit];
}

static inline uint32_t shift(const struct shift *s, uint32_t crc)
{
	return s->table[0][crc & 0xff] ^ s->table[1][crc >> 8 & 0xff] ^
	       s->table[2][crc >> 16 & 0xff] ^ s->table[3][crc >> 24];
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v; /* both hardware targets are little-endian */

	memcpy(&v, p, sizeof v);
	return v;
}

HARDWARE_TARGET static uint32_t three_lanes(uint32_t crc, const uint8_t *p, size_t lane,
					    const struct shift *s)
{
	uint32_t b = 0, c = 0;
	size_t i;

	for (i = 0; i < lane; i += 8) {
		crc = STEP64(crc, load64(p + i));
		b = STEP64(b, load64(p + lane + i));
		c = STEP64(c, load64(p + 2 * lane + i));
	}
	return shift(s, shift(s, crc) ^ b) ^ c;
}

HARDWARE_TARGET static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 3 * LONG_LANE; n -= 3 * LONG_LANE, p += 3 * LONG_LANE)
		crc = three_lanes(crc, p, LONG_LANE, &long_shift);
	for (; n >= 3 * SHORT_LANE; n -= 3 * SHORT_LANE, p += 3 * SHORT_LANE)
		crc = three_lanes(crc, p, SHORT_LANE, &short_shift);
	for (; n >= 8; n -= 8, p += 8)
		crc = STEP64(crc, load64(p));
	for (; n > 0; n--, p++)
		crc = STEP8(crc, *p);
	return crc;
}

static bool have_instruction(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_supports("sse4.2");
#else
	return getauxval(AT_HWCAP) & HWCAP_CRC32;
#endif
}

#endif /* HARDWARE_NAME */

static void choose(void)
{
	make_slices();
#ifdef HARDWARE_NAME
	if (have_instruction()) {
		make_shift(&long_shift, LONG_LANE);
		make_shift(&short_shift, SHORT_LANE);
		chosen = by_instruction;
		chosen_name = HARDWARE_NAME;
	}
#endif
}

uint32_t crc32c_raw(uint32_t crc, const void *bytes, size_t n)
{
	pthread_once(&once, choose);
	return chosen(crc, bytes, n);
}

uint32_t crc32c_raw_portable(uint32_t crc, const void *bytes, size_t n)
{
	pthread_once(&once, choose);
	return by_table(crc, bytes, n);
}

const char *crc32c_implementation(void)
{
	pthread_once(&once, choose);
	return chosen_name;
}
