/* SPDX-License-Identifier: Apache-2.0 */
/* download.h - background download: fills blobs in the cache at low priority, so that an image
 * becomes whole on this machine; also into the reference's folder layout.
 *
 * Threads: open and close by the image's owner; one thread a download. */
#ifndef OVERLAYBD_FETCH_DOWNLOAD_H
#define OVERLAYBD_FETCH_DOWNLOAD_H

#include "core/base/source.h"
#include "fetch/settings.h"

struct download;

struct download_blob {
	struct source *blob; /* of remote_open_blob */
	const char
		*dir; /* where the reference looks for overlaybd.commit, NULL: the cache is all */
	const char *name; /* for messages */
};

/* Starts a thread that waits for `how`'s delay and then downloads the blobs one after the other.
 * The blobs must stay open until download_close; names and folders are copied.  -EAGAIN, -ENOMEM.
 */
int download_open(const struct fetch_download *how, const struct download_blob *blobs, size_t count,
		  struct download **out, struct err *e);

/* Stops and frees it.  The remote must have been shut, so that nothing waits for the network.  NULL
 * is allowed. */
void download_close(struct download *d);

/* Downloads one blob now, in this thread, as fast as it goes.  `progress` (NULL: none) hears of
 * bytes present, and ends the download by returning false (ECANCELED).  0: it is whole, and has its
 * digest; -EBADMSG: it has not; -ENOSPC: it does not fit the cache, or there is none. */
int download_now(const struct download_blob *blob, const struct fetch_download *how,
		 bool (*progress)(void *arg, uint64_t present), void *arg, struct err *e);

#endif
