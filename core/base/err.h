/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - an error text that names the path to the cause.
 *
 * The function that finds the fault calls err_set; every caller that knows a name (a layer, a file,
 * a block) prefixes it with err_wrap.  The result reads from the outside in:
 *   image.yaml: layer 2 (/img/2.obd): zfile block 812: wrong CRC
 * Messages are lower case, carry values, and end without a full stop.
 * Threads: a struct err belongs to one caller; nothing is shared.  `e` may be NULL everywhere. */
#ifndef OVERLAYBD_BASE_ERR_H
#define OVERLAYBD_BASE_ERR_H

struct err {
	char msg[1024];
};

/* Sets the text and returns -code, so that `return err_set(e, EBADMSG, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before the text and returns r unchanged.  When both do not fit, the prefix is cut,
 * never the cause. */
int err_wrap(struct err *e, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
