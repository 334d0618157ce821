/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - a Unix socket through which the owner of the server asks about a disk, and for
 * snapshots of it.
 *
 * One request a connection: a line of JSON, which gets a line of JSON.
 *
 *   {"command": "status"}    {"ok": true, "version", "pid", "config", "size", "writable",
 *                             "layers": [PATH...], "upper": {"data", "index"}}
 *   {"command": "stats"}     {"ok": true, "stats": ...}, see fetch/stats.h
 *   {"command": "snapshot",
 *    "layer": PATH}          {"ok": true, "layer", "upper": {...}, "blocked-ms"}
 *
 * What fails gets {"ok": false, "error": TEXT}.
 *
 * Only who may open the socket may ask: its mode is 0600.  Clients that are slow, silent or many
 * keep nobody waiting but themselves. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_CONTROL_H
#define OVERLAYBD_NBDKIT_PLUGIN_CONTROL_H

#include "core/base/err.h"

struct control;
struct disk;

/* Makes the socket at `path`, and no thread.  That of a process that has died is replaced; EBUSY:
 * that of one that answers; EEXIST: the name of something else.  `path` and the disk must outlive
 * it. */
int control_open(const char *path, struct disk *disk, struct control **out, struct err *e);

/* Begins to answer.  After a fork. */
int control_start(struct control *c, struct err *e);

/* Removes the socket, lets the clients that are being answered have their answers, and returns when
 * no thread is left.  NULL is allowed. */
void control_close(struct control *c);

#endif
