/* SPDX-License-Identifier: Apache-2.0 */
/* http_answer.h - reading an answer's status line and headers, line by line.  Threads: no state. */
#ifndef OVERLAYBD_FETCH_HTTP_ANSWER_H
#define OVERLAYBD_FETCH_HTTP_ANSWER_H

#include "fetch/http.h"

/* Takes in a line with its line end; a status line starts the answer anew (after "100 Continue").
 * EPROTO for a header that we need and that cannot be read. */
int http_answer_take(struct http_answer *a, const char *line, size_t n, struct err *e);

/* Seconds that a Retry-After value asks for: a number, or a date (RFC 9110, 10.2.3), at most a day.
 * False when it is neither. */
bool http_answer_parse_delay(const char *value, unsigned *seconds);

#endif
