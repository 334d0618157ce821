/* SPDX-License-Identifier: Apache-2.0 */
/* fetcher.h - what all images of a process share for fetching: the engine's thread and the cache
 * folders that are open.
 *
 * Threads: all may run concurrently, but for stop, resume and close.
 * Process life: the threads start with the first image that needs them.  Before a fork stop it,
 * after it resume it; reads need it running. */
#ifndef OVERLAYBD_FETCH_FETCHER_H
#define OVERLAYBD_FETCH_FETCHER_H

#include "fetch/cache.h"
#include "fetch/http.h"
#include "fetch/settings.h"

struct fetcher;

int fetcher_open(struct fetcher **out, struct err *e);

/* Starts the threads, unless they run.  -EAGAIN when the system refuses the engine's.  A cache
 * folder whose keeper cannot be started goes on without it, with one warning. */
int fetcher_use(struct fetcher *f, struct err *e);

/* Starts them again if they ran before fetcher_stop. */
int fetcher_resume(struct fetcher *f, struct err *e);

/* Once a second or so: starts keepers that could not be started a minute ago. */
void fetcher_look(struct fetcher *f);

/* Whether some image has needed the threads. */
bool fetcher_is_used(struct fetcher *f);

/* Ends what is under way with ESHUTDOWN, and joins the threads. */
void fetcher_stop(struct fetcher *f);

/* Lets all reads that wait for the network fail with ESHUTDOWN, now and later.  Returns at once. */
void fetcher_interrupt(struct fetcher *f);

/* All images must be closed.  Stops it.  NULL is allowed. */
void fetcher_close(struct fetcher *f);

struct http *fetcher_http(struct fetcher *f);

/* The cache in the folder that the settings name, opened once a process and open until the end;
 * what they say about it is the folder's from now on.  A folder that cannot be used is one that
 * keeps nothing, with one warning, until it can be opened, see cache_open_late.  -ENOMEM. */
int fetcher_cache(struct fetcher *f, const struct fetch_settings *settings, struct cache **out,
		  struct err *e);

#endif
