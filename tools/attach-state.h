/* SPDX-License-Identifier: Apache-2.0 */
/* attach-state.h - what must be known of an attached device to go on after any process has died.
 *
 *   RUN/nbdN.lock       locked by the process that watches or changes the device
 *   RUN/nbdN/state      JSON: what is served, how, and what the kernel was told
 *   RUN/nbdN/socket     the server's
 *   RUN/nbdN/pid        the server's
 *
 * RUN is /run/overlaybd for root, $XDG_RUNTIME_DIR/overlaybd for others; only its owner may enter.
 * It is gone after a boot, as the devices are.
 * Invariants: (1) only the holder of the lock changes files of the device or talks to the kernel
 * about it; (2) a state is written, whole, before the kernel is told, and removed after the kernel
 * has let go, so that what is attached has a state.
 * Threads: one at a time. */
#ifndef OVERLAYBD_TOOLS_ATTACH_STATE_H
#define OVERLAYBD_TOOLS_ATTACH_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/digest.h"
#include "core/base/err.h"
#include "tools/nbd-netlink.h"

enum {
	ATTACH_WORDS = 64, /* of the server's command line */
	ATTACH_IDENTITY = 64, /* bytes, with the NUL */
};

/* What is kept in the file. */
struct attach_saved {
	char *source; /* absolute path of a config, or a reference, as it was asked for */
	char digest[DIGEST_ANY_TEXT]; /* of the image's manifest, "" when it comes from none */
	char identity[ATTACH_IDENTITY]; /* what the kernel knows the device by */
	char *folder; /* where the server is started: relative paths count from there */
	char *words[ATTACH_WORDS + 1]; /* the server's program and what it is told; but for socket
					* and pid; ends with NULL */
	size_t word_count;
	unsigned connections;
	struct nbd_device device;
};

struct attach_state {
	char *run; /* RUN */
	unsigned index;
	int lock;
	char *path; /* RUN/nbdN */
	char *socket, *pid;
	struct attach_saved saved;
};

/* N of "/dev/nbdN", also by another path to it.  EINVAL. */
int attach_state_index(const char *device, unsigned *index, struct err *e);

/* The folder RUN, which is made; the caller frees it. */
int attach_state_run(char **run, struct err *e);

/* Locks a device; nothing is saved of it yet.  EBUSY: another process has it, *holder is its pid
 * (NULL: not wanted). */
int attach_state_open(const char *run, unsigned index, struct attach_state *out, pid_t *holder,
		      struct err *e);

/* Makes the device's folder, empty. */
int attach_state_begin(struct attach_state *s, struct err *e);

/* Reads what is saved.  ENOENT: there is no state. */
int attach_state_load(struct attach_state *s, struct err *e);

/* Writes it. */
int attach_state_save(struct attach_state *s, struct err *e);

/* Forgets the device: its folder goes. */
void attach_state_remove(struct attach_state *s);

/* Adds a word to the server's command line. */
int attach_state_add_word(struct attach_saved *s, const char *word, struct err *e);

void attach_saved_release(struct attach_saved *s);

/* Unlocks; files stay. */
void attach_state_close(struct attach_state *s);

#endif
