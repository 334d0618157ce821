/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - how an image's blobs are fetched and kept: what the service file, the image's config
 * and the parameters said, in that order, over the built-in defaults.
 *
 * Filled by core/config.c, read by everything in fetch/.  Threads: never changes once filled.
 * Ownership: settings own their strings. */
#ifndef OVERLAYBD_FETCH_SETTINGS_H
#define OVERLAYBD_FETCH_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum {
	FETCH_CONNECTIONS = 16,
	FETCH_CONNECTIONS_MAX = 1024,
	FETCH_TIMEOUT = 60, /* s */
	FETCH_VERIFY = 60, /* s */
	FETCH_PASSWORD_MAX = 64 * 1024, /* bytes */
};


#define FETCH_FOLDERS UINT64_MAX /* not said: the cache folder has its own */
#define FETCH_VERIFY_ONCE UINT32_MAX /* a chunk is checked once a process */

/* Background download of whole blobs, with the reference's key names and defaults. */
struct fetch_download {
	bool enable;
	unsigned delay; /* s after opening, default 300 */
	unsigned delay_extra; /* s more, at random, default 30 */
	unsigned max_mbps; /* MB/s (10^6 bytes), 0: no limit; default 100 */
	unsigned tries; /* a blob, default 5 */
	uint64_t block_size; /* bytes a request, default 262144 */
};

/* What the service file says of credentials beyond `credentials`, all NULL without it. */
struct fetch_credentials {
	char *helper; /* the files are for this helper, when `credentials` names it */
	char *ca, *cert, *key; /* absolute paths, PEM; NULL: the system's, none, in `cert` */
	char *fault; /* why nothing can be looked for, when `credentials` is NULL: told to those
		      * who need a login */
};

enum {
	FETCH_TRACE_SECONDS = 120,
	FETCH_TRACE_IDLE = 15, /* s */
	FETCH_TRACE_SECONDS_MAX = 3600,
};

enum fetch_trace_mode {
	FETCH_TRACE_AUTO, /* replay what there is, else record; of images with remote layers */
	FETCH_TRACE_RECORD,
	FETCH_TRACE_REPLAY,
	FETCH_TRACE_OFF,
};

/* What start-up reads, see prefetch/. */
struct fetch_trace {
	enum fetch_trace_mode mode;
	char *file; /* absolute path; NULL: in the cache, by the image's identity */
	unsigned seconds; /* that are recorded at most */
	unsigned idle; /* s without anything new that end it */
	bool follows_paths; /* also those that an acceleration layer lists: what somebody else has
			     * pushed then makes the server parse the disk's file system */
};

struct fetch_settings {
	char *cache_dir; /* absolute path; NULL: no cache */
	uint64_t cache_limit; /* bytes in the whole folder, 0: none, FETCH_FOLDERS: what it says */
	uint64_t cache_keep_free; /* bytes of the file system that are left to others; the same */
	unsigned verify_cache; /* s after which a chunk is checked again; 0: at each read */
	unsigned connections; /* at a time, of one image */
	unsigned timeout; /* s, all tries of one read together; 0: for ever */
	char **mirrors; /* in order of preference, as given, see remote.h */
	size_t mirror_count;
	char *proxy; /* NULL: what the environment says, as curl does */
	char *cainfo; /* absolute path of a PEM file, NULL: the system's */
	char *client_cert; /* absolute path, PEM; NULL: none */
	char *client_key; /* absolute path, PEM; NULL: in client_cert */
	char *credentials; /* absolute path of a docker-style file; or a helper's http://, https://
			    * or unix:/PATH address; NULL: where docker and podman keep theirs */
	struct fetch_credentials service;
	char *user; /* with `password`: for the image's registry, before any file */
	char *password;
	char *platform; /* "linux/arm64" or "linux/arm/v7"; NULL: this machine's */
	char *user_agent; /* NULL: ours */
	bool insecure; /* plain HTTP, and certificates that are not checked */
	struct fetch_download download;
	struct fetch_trace trace;
	char **prefetch; /* absolute paths of files and folders inside the image */
	size_t prefetch_count;
	char *stats; /* absolute path of a file, or "-"; NULL: none */
};

/* The built-in defaults.  The cache is $XDG_CACHE_HOME/overlaybd, else $HOME/.cache/overlaybd, for
 * root /var/cache/overlaybd.  -ENOMEM. */
int fetch_settings_init(struct fetch_settings *s, struct err *e);

void fetch_settings_release(struct fetch_settings *s);

#endif
