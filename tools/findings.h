/* SPDX-License-Identifier: Apache-2.0 */
/* findings.h - what `overlaybd check` found: a line each on standard output, and their number.
 *
 *   error: image.yaml: layer 2 (/img/2.obd): zfile block 812: wrong CRC
 */
#ifndef OVERLAYBD_TOOLS_FINDINGS_H
#define OVERLAYBD_TOOLS_FINDINGS_H

#include <stdint.h>

#include "tools/progress.h"

enum finding {
	FINDING_ERROR, /* it cannot be read, or not be trusted */
	FINDING_WARNING, /* it can, but something is odd */
};

struct findings {
	const char *file; /* that is checked, as the user named it */
	const char *part; /* of it, such as "layer 2 (PATH)"; NULL: the whole */
	uint64_t errors;
	uint64_t warnings;
	struct progress progress; /* wiped before a line is printed */
};

/* Prints and counts a finding. */
void findings_add(struct findings *f, enum finding kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prints the last line, "FILE: ok" or how much was found. */
void findings_print_sum(struct findings *f);

#endif
