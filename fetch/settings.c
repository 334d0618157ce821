/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - defaults, see settings.h. */
#include "fetch/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fetch/secret.h"

/* An absolute $NAME, or NULL. */
static const char *absolute_variable(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] == '/' ? value : NULL;
}

/* NULL: no memory. */
static char *default_cache(void)
{
	const char *xdg = absolute_variable("XDG_CACHE_HOME"), *home = absolute_variable("HOME");
	char *path;
	int n;

	if (xdg)
		n = asprintf(&path, "%s/overlaybd", xdg);
	else if (geteuid() == 0 || !home)
		n = asprintf(&path, "/var/cache/overlaybd");
	else
		n = asprintf(&path, "%s/.cache/overlaybd", home);
	return n < 0 ? NULL : path;
}

int fetch_settings_init(struct fetch_settings *s, struct err *e)
{
	*s = (struct fetch_settings){
		.cache_limit = FETCH_FOLDERS,
		.cache_keep_free = FETCH_FOLDERS,
		.verify_cache = FETCH_VERIFY,
		.connections = FETCH_CONNECTIONS,
		.timeout = FETCH_TIMEOUT,
		.download = { .delay = 300,
			      .delay_extra = 30,
			      .max_mbps = 100,
			      .tries = 5,
			      .block_size = 262144 },
		.trace = { .seconds = FETCH_TRACE_SECONDS, .idle = FETCH_TRACE_IDLE },
	};
	s->cache_dir = default_cache();
	return s->cache_dir ? 0 : err_set(e, ENOMEM, "out of memory");
}

void fetch_settings_release(struct fetch_settings *s)
{
	size_t i;

	for (i = 0; i < s->mirror_count; i++)
		secret_free(s->mirrors[i]);
	free(s->mirrors);
	for (i = 0; i < s->prefetch_count; i++)
		free(s->prefetch[i]);
	free(s->prefetch);
	free(s->trace.file);
	free(s->cache_dir);
	secret_free(s->proxy);
	free(s->cainfo);
	free(s->client_cert);
	free(s->client_key);
	free(s->credentials);
	free(s->service.helper);
	free(s->service.ca);
	free(s->service.cert);
	free(s->service.key);
	free(s->service.fault);
	free(s->user);
	secret_free(s->password);
	free(s->platform);
	free(s->user_agent);
	free(s->stats);
	*s = (struct fetch_settings){ 0 };
}
