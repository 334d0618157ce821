/* SPDX-License-Identifier: Apache-2.0 */
/* heap.h - whether something that is done again and again leaves memory behind.
 *
 *	HEAP_STEADY(open_and_close());
 *
 * One thread.  The sanitizers count no heap, but find leaks by themselves. */
#ifndef OVERLAYBD_TESTS_HEAP_H
#define OVERLAYBD_TESTS_HEAP_H

#include <malloc.h>

enum { HEAP_ROUNDS = 25, HEAP_SLACK = HEAP_ROUNDS * 8 /* bytes; a lost block is at least 24 */ };

/* The first rounds fill what the allocator keeps at hand. */
#define HEAP_STEADY(what)                                                                          \
	do {                                                                                       \
		unsigned heap_round;                                                               \
		size_t heap_before;                                                                \
		for (heap_round = 0; heap_round < HEAP_ROUNDS; heap_round++)                       \
			what;                                                                      \
		heap_before = mallinfo2().uordblks;                                                \
		for (heap_round = 0; heap_round < HEAP_ROUNDS; heap_round++)                       \
			what;                                                                      \
		assert_true(mallinfo2().uordblks < heap_before + HEAP_SLACK);                      \
	} while (0)

#endif
