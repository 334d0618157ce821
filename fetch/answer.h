/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - JSON that others wrote: registries, token services, credential stores.
 *
 * Refused: more than ANSWER_MAX bytes, a NUL in a text, what jansson finds too deep (2,048 levels),
 * and in what is public a key twice in one object, which two readers may take for two things.  A
 * byte order mark at the beginning is passed over.  Threads: no state; a tree belongs to one
 * caller. */
#ifndef OVERLAYBD_FETCH_ANSWER_H
#define OVERLAYBD_FETCH_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

enum { ANSWER_MAX = 4 * 1024 * 1024 }; /* bytes */

enum answer_privacy {
	ANSWER_PUBLIC,
	/* A credential file or a token: messages tell the place of a fault and quote nothing.  Of a
	 * key that stands twice the last one counts, as for docker. */
	ANSWER_SECRET,
};

/* Reads an object.  Errors: EINVAL for what the text says, ENOMEM. */
int answer_parse(const char *text, size_t n, enum answer_privacy privacy, json_t **out,
		 struct err *e);

/* The text under a key; NULL: absent, empty, or something else than text. */
const char *answer_text(const json_t *object, const char *key);

/* Whether a text can stand in a header line or an address as it is: printable ASCII without
 * blanks, and not empty. */
bool answer_is_printable(const char *text);

/* Overwrites the texts of a tree, then frees it.  What jansson kept of them while it read is out of
 * reach.  NULL is allowed. */
void answer_forget(json_t *root);

static inline void answer_forget_(json_t **root)
{
	answer_forget(*root);
}

#define AUTO_ANSWER __attribute__((cleanup(answer_forget_)))

#endif
