/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - what exchanges have shown of the way to a registry. */
#ifndef OVERLAYBD_FETCH_LINK_H
#define OVERLAYBD_FETCH_LINK_H

#include <stdint.h>

/* Zeroes: not known. */
struct link_facts {
	uint64_t bandwidth; /* bytes a second */
	uint64_t cheap_gap; /* bytes that are cheaper to fetch than another request */
};

#endif
