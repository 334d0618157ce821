/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what fuzz targets share.  A target states properties; one that does not hold ends the
 * process at once, so that the fuzzer keeps the input. */
#ifndef OVERLAYBD_TESTS_FUZZ_H
#define OVERLAYBD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			__builtin_trap();                                                          \
	} while (0)

/* The target: libFuzzer calls it with made-up bytes, replay.c with those of the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#endif
