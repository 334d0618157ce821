/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - the machine's file of defaults for all images: the reference's overlaybd.json, with
 * our settings under their own names beside its keys.
 *
 * Understood of the reference: credentialFilePath, credentialConfig, cacheConfig, registryCacheDir
 * and registryCacheSizeGB (older names of the same), download, p2pConfig, certConfig, userAgent.
 * The values of newer names count before those of older ones, our names before the reference's; the
 * address of p2pConfig comes before other mirrors.  Any other key is ignored, with a line of the
 * debug log.  Relative paths count from the file's folder.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_SERVICE_H
#define OVERLAYBD_CORE_SERVICE_H

#include <stddef.h>

#include "core/base/err.h"
#include "fetch/settings.h"

#define SERVICE_DEFAULT "/etc/overlaybd/overlaybd.json"

/* Puts what the file says over *s.  `path` NULL: SERVICE_DEFAULT, which need not be there; "none":
 * there is no file.  EINVAL for what the text says, and other -errno when the file cannot be had;
 * *s is then fit for releasing. */
int service_load(const char *path, struct fetch_settings *s, struct err *e);

/* The same from memory; `path`, an absolute one, serves for messages and relative paths. */
int service_parse(const char *path, const char *text, size_t n, struct fetch_settings *s,
		  struct err *e);

#endif
