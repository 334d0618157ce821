/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - texts that must not stay behind in freed memory. */
#ifndef OVERLAYBD_FETCH_SECRET_H
#define OVERLAYBD_FETCH_SECRET_H

#include <stdlib.h>
#include <string.h>

/* Overwrites and frees; NULL is allowed. */
static inline void secret_free(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

static inline void secret_free_(void *p)
{
	secret_free(*(char **)p);
}

/* Declares a text that is overwritten and freed when its scope is left. */
#define AUTO_SECRET __attribute__((cleanup(secret_free_)))

#endif
