/* SPDX-License-Identifier: Apache-2.0 */
/* refusal.h - what a refusal says, in words for a message: the status in plain words, and the
 * server's own, of which the first REFUSAL_MAX bytes of the body are looked at.
 *
 * Understood are the registries' {"errors":[{"code","message"}]}, the token services'
 * {"error","error_description"}, {"details"} and {"message"}, and the stores'
 * <Code>..</Code><Message>..</Message>.  A page of HTML says nothing.
 * Threads: no state but the caller's. */
#ifndef OVERLAYBD_FETCH_REFUSAL_H
#define OVERLAYBD_FETCH_REFUSAL_H

#include <stddef.h>

enum {
	REFUSAL_MAX = 8 * 1024, /* bytes of the body */
	REFUSAL_WORDS = 240, /* bytes of the server's words, with the NUL */
	REFUSAL_TEXT = REFUSAL_WORDS + 60, /* bytes of refusal_text's, with the NUL */
};

/* Of one answer.  Zero at first. */
struct refusal {
	char *body; /* NULL: nothing has come */
	size_t n;
};

/* Takes bytes of the body; what has no room is passed over. */
void refusal_take(struct refusal *r, const void *bytes, size_t n);

/* The server's own words, "" when there are none.  Control characters are left out, and so is a
 * text that repeats what the header `secret` (Authorization; NULL: none was sent) holds. */
void refusal_words(const struct refusal *r, const char *secret, char out[REFUSAL_WORDS]);

/* "HTTP 404 (not found)", and the words behind a colon, if there are any. */
void refusal_text(const struct refusal *r, unsigned status, const char *secret,
		  char out[REFUSAL_TEXT]);

/* What a status means, NULL: we do not know. */
const char *refusal_meaning(unsigned status);

/* Overwrites and frees. */
void refusal_release(struct refusal *r);

#endif
