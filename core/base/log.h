/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - lines that belong to no call: a warning from a background thread, a debug line.
 *
 * An error of a call goes to its caller in a struct err and never here.  Lines are escaped by the
 * sink, end without a full stop, and never hold a credential or the query of a signed address.
 * Threads: log_set_sink before any thread that logs; the others may run concurrently. */
#ifndef OVERLAYBD_BASE_LOG_H
#define OVERLAYBD_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_WARNING };

/* Where lines go; NULL: warnings to standard error, debug lines nowhere. */
void log_set_sink(void (*sink)(enum log_level level, const char *line));

void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
