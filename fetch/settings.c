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

static int default_cache(char **out)
{
	const char *xdg = absolute_variable("XDG_CACHE_HOME"), *home = absolute_variable("HOME");
	int n;

	if (xdg)
		n = asprintf(out, "%s/overlaybd", xdg);
	else if (geteuid() == 0 || !home)
		n = asprintf(out, "/var/cache/overlaybd");
	else
		n = asprintf(out, "%s/.cache/overlaybd", home);
	if (n < 0)
		*out = NULL;
	return n < 0 ? -ENOMEM : 0;
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
	return default_cache(&s->cache_dir) < 0 ? err_set(e, ENOMEM, "out of memory") : 0;
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
