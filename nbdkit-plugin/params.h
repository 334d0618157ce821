/* SPDX-License-Identifier: Apache-2.0 */
/* params.h - the plugin's parameters: what is known, what excludes what.
 *
 * Threads: none yet when parameters are read. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_PARAMS_H
#define OVERLAYBD_NBDKIT_PLUGIN_PARAMS_H

#include <stdbool.h>

#include "core/base/err.h"
#include "core/config.h"

/* Begins zeroed.  Once all parameters are read, exactly one of the first three is there. */
struct params {
	char *config; /* absolute path, of one image */
	char *dir; /* absolute path of a folder of images */
	char *image; /* a reference, see config_check_reference */
	char *digest; /* what image= or the config's `image` must be; NULL: not said */
	char *service; /* absolute path, or "none"; NULL: not said */
	char *upper; /* absolute path, without .data and .index; NULL: not said */
	char *upper_garbage; /* a percentage; NULL: not said */
	char *control; /* absolute path; NULL: not said */
	char *folder; /* the working directory, once there is a setting */
	struct config_setting *settings;
	struct config_options options; /* what they say, made of the above */
};

/* The parameter that a bare argument stands for. */
#define PARAMS_MAGIC "config"

/* One line a parameter, for --help. */
#define PARAMS_HELP                                                                                \
	"[config=]FILE         The image to serve: YAML, or overlaybd's config.v1.json.\n"         \
	"image=REF             Serve an image of a registry, HOST/REPO:TAG or ...@DIGEST.\n"       \
	"digest=sha256:HEX     Serve this manifest, whatever the image's tag means now.\n"         \
	"dir=DIR               Serve every *.yaml file in DIR as an export of its name.\n"         \
	"acceleration-paths=true|false  Follow paths that an image lists, default false.\n"        \
	"cache-dir=DIR|none    Keep what was fetched in DIR.\n"                                    \
	"cache-keep-free=SIZE|none  How much of its disk the cache leaves to others.\n"            \
	"cache-limit=SIZE|none How much the cache may hold; else as the folder has it, or 10G.\n"  \
	"cainfo=FILE           Trust the certificate authorities in FILE (PEM).\n"                 \
	"client-cert=FILE      Our certificate (PEM).\n"                                           \
	"client-key=FILE       Its private key (PEM), if not in the same file.\n"                  \
	"connections=N         Connections at a time, 1 to 1024, default 16.\n"                    \
	"control=PATH          A socket for 'overlaybd status' and 'overlaybd snapshot'.\n"        \
	"credentials=FILE|URL  Docker-style file, or a helper: http(s)://HOST, unix:/PATH.\n"      \
	"download=true|false   Fetch whole layers in the background, default false.\n"             \
	"insecure=true|false   Plain HTTP, certificates not checked, default false.\n"             \
	"mirror=URL            Ask URL before the registry; may be repeated.\n"                    \
	"password=+FILE|-|-FD  The user's password, from a file, the terminal, or FD.\n"           \
	"platform=OS/ARCH      Which image of a list, default this machine's.\n"                   \
	"prefetch=PATH         Fetch a file or folder of the image first; may be repeated.\n"      \
	"proxy=URL             Proxy, default what the environment says.\n"                        \
	"service=FILE|none     Defaults of the machine, /etc/overlaybd/overlaybd.json.\n"          \
	"stats=FILE|-          Write statistics to FILE, or print them at the end.\n"              \
	"timeout=SECONDS       For one read, retries included, 0 = for ever, default 60.\n"        \
	"trace=auto|record|replay|off  Record what start-up reads, replay it.\n"                   \
	"trace-file=FILE       The trace, default in the cache folder.\n"                          \
	"trace-idle=SECONDS    Recording ends when nothing new is read, default 15.\n"             \
	"trace-seconds=SECONDS Recording ends, default 120.\n"                                     \
	"upper=PATH            Write to the upper PATH.data, PATH.index on top of the image.\n"    \
	"upper-garbage=PERCENT Rewrite the upper's index when so much is dead, default 50.\n"      \
	"user=NAME             User name for the registry.\n"                                      \
	"user-agent=TEXT       HTTP User-Agent to send.\n"                                         \
	"verify-cache=SECONDS|always|once  When cached data are checked again, default 60."

/* Takes one KEY=VALUE; relative paths count from the working directory.  A password is only taken
 * in the forms -, -FD and +FILE, and read by `read_password` (nbdkit_read_password: 0, or -1 after
 * it has said why; the password is to be freed).  Returns 0; 1 when that failed; EINVAL for an
 * unknown or repeated key and for a value that cannot be meant. */
int params_set(struct params *p, const char *key, const char *value,
	       int (*read_password)(const char *value, char **password), struct err *e);

/* Checks that what must be there is there. */
int params_complete(const struct params *p, struct err *e);

void params_release(struct params *p);

/* Whether a text has the form of an image's name in a registry rather than that of a file:
 * HOST/REPO, a tag or a digest.  Made for messages, it may guess. */
bool params_is_reference(const char *text);

#endif
