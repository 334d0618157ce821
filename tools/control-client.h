/* SPDX-License-Identifier: Apache-2.0 */
/* control-client.h - asks a server through its control socket. */
#ifndef OVERLAYBD_TOOLS_CONTROL_CLIENT_H
#define OVERLAYBD_TOOLS_CONTROL_CLIENT_H

#include <jansson.h>

#include "core/base/err.h"

/* Sends a request, which it takes over, and waits for the answer as long as the server is there, at
 * most an hour.  The caller releases *out, whose "ok" is true.  Errors name the socket; what the
 * server refuses is EREMOTEIO, in its own words. */
int control_ask(const char *path, json_t *request, json_t **out, struct err *e);

#endif
