/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - text for people and for JSON.  Names and messages that come from files are hostile: what
 * could drive a terminal is shown as an escape. */
#ifndef OVERLAYBD_TOOLS_TEXT_H
#define OVERLAYBD_TOOLS_TEXT_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Prints text with control characters, backslashes and bytes that are not UTF-8 as \xNN. */
void text_print(FILE *out, const char *text);

/* Prints a line: the same after formatting, and a newline.  What does not fit in 8192 bytes is cut.
 */
void text_line(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum { TEXT_SIZE = 48 };

/* A size as people read it, "64 MiB" or "1.5 GiB", into buf, which is returned. */
const char *text_size(uint64_t bytes, char buf[TEXT_SIZE]);

/* A JSON string; bytes that are not UTF-8 become U+FFFD.  NULL text gives null.  NULL: no memory.
 */
json_t *text_json(const char *text);

/* Prints a JSON value, indented, and a newline; non-ASCII characters as \uNNNN. */
void text_print_json(const json_t *value);

#endif
