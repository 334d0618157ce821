/* SPDX-License-Identifier: Apache-2.0 */
/* show.h - output for people and as JSON.  Names and messages that come from files are hostile:
 * what could drive a terminal is shown as an escape. */
#ifndef OVERLAYBD_TOOLS_SHOW_H
#define OVERLAYBD_TOOLS_SHOW_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Prints text, escaped as core/base/text.h says. */
void show_text(FILE *out, const char *text);

/* Prints a line: the same after formatting, and a newline.  What does not fit in 8192 bytes is cut.
 */
void show_line(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum { SHOW_SIZE = 48 };

/* A size as people read it, "64 MiB" or "1.5 GiB", into buf, which is returned. */
const char *show_size(uint64_t bytes, char buf[SHOW_SIZE]);

/* A JSON string; bytes that are not UTF-8 become U+FFFD.  NULL text gives null.  NULL: no memory.
 */
json_t *show_string(const char *text);

/* Prints a JSON value, indented, and a newline; non-ASCII characters as \uNNNN. */
void show_json(const json_t *value);

#endif
