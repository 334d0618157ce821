/* SPDX-License-Identifier: Apache-2.0 */
/* keychain.h - docker's credential programs: "docker-credential-NAME get".
 *
 * The program gets the server's name on standard input, nothing else of ours but the environment,
 * and a process group of its own, which is killed when the time is over or it says too much.
 * Threads: all may run concurrently; no signal handler, and no SIGPIPE. */
#ifndef OVERLAYBD_FETCH_KEYCHAIN_H
#define OVERLAYBD_FETCH_KEYCHAIN_H

#include "fetch/credentials.h"

enum { KEYCHAIN_MAX = 64 * 1024 }; /* bytes of an answer */

/* Asks a program what it knows about a server.  `name` may come from anywhere: what is no plain
 * word is refused.  Returns 0; 1 when it knows nothing; -errno, with a text that names the program
 * and quotes nothing of what it said. */
int keychain_get(const char *name, const char *server, unsigned seconds, struct credentials *out,
		 struct err *e);

#endif
