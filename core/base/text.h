/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - text that came from files and clients, on its way to a terminal, a log or a protocol.
 *
 * Inside the program names and messages stay as they are; whoever prints or sends one escapes it,
 * once.  Threads: no state. */
#ifndef OVERLAYBD_BASE_TEXT_H
#define OVERLAYBD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the UTF-8 character at p, which is not at the final NUL; 0 when there is none.  *code
 * is its code point.  Reads nothing behind the NUL. */
size_t text_decode(const char *p, uint32_t *code);

/* Whether all of it is UTF-8 and nothing in it could drive a terminal: control characters, line and
 * paragraph separators, marks that turn the direction. */
bool text_is_plain(const char *text);

enum { TEXT_PIECE = 17 }; /* a character of four bytes, each as \xNN, and a NUL */

/* Writes the character at p, not the final NUL, as it may be shown: itself, or each of its bytes as
 * \xNN when it is a backslash, no UTF-8, or not plain.  Returns its length at p. */
size_t text_escape_one(const char *p, char piece[TEXT_PIECE]);

/* The same for all of `text`, into out[0..room), room > 0, which is returned.  What does not fit is
 * left out from a character's beginning on; 4 * strlen(text) + 1 bytes hold any. */
const char *text_escape(const char *text, char *out, size_t room);

/* printf into new memory, which the caller frees; NULL: out of memory.  (asprintf leaves its
 * pointer undefined then.) */
char *text_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
