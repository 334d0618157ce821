/* SPDX-License-Identifier: Apache-2.0 */
/* params.c - reading the plugin's parameters, see params.h. */
#include "nbdkit-plugin/params.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/nearest.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const char *const known[] = {
	"config",
	"dir",
};

/* Names that later versions give a meaning to. */
static const char *const later[] = {
	"cache-dir",  "cache-limit",   "cainfo",   "connections",   "control",	"credentials",
	"download",   "image",	       "insecure", "mirror",	    "platform", "prefetch",
	"proxy",      "service",       "stats",	   "timeout",	    "trace",	"trace-file",
	"trace-idle", "trace-seconds", "upper",	   "upper-garbage",
};

static bool is_one_of(const char *word, const char *const *words, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (strcmp(words[i], word) == 0)
			return true;
	return false;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

bool params_is_reference(const char *text)
{
	const char *slash = strchr(text, '/');
	const char *last = strrchr(text, '/');
	size_t host = slash ? (size_t)(slash - text) : 0;

	if (text[0] == '/' || text[0] == '.' || ends_with(text, ".yaml") ||
	    ends_with(text, ".json"))
		return false;
	if (strchr(last ? last : text, ':') || strstr(text, "@sha256:"))
		return true;
	return host > 0 && (memchr(text, '.', host) || memchr(text, ':', host) ||
			    strncmp(text, "localhost/", host + 1) == 0);
}

static int set_path(char **to, const char *key, const char *value, struct err *e)
{
	if (*to)
		return err_set(e, EINVAL, "%s= is given twice", key);
	if (value[0] == '\0')
		return err_set(e, EINVAL, "%s= is empty", key);
	*to = io_absolute_path(NULL, value);
	if (!*to)
		return err_set(e, errno, "%s=%s: %s", key, value, strerror(errno));
	return 0;
}

static int set_config(struct params *p, const char *value, struct err *e)
{
	int r = set_path(&p->config, "config", value, e);

	if (r < 0)
		return r;
	if (access(p->config, F_OK) < 0 && params_is_reference(value))
		return err_set(e, EINVAL, "%s: no such file; did you mean image=%s?", value, value);
	return 0;
}

int params_set(struct params *p, const char *key, const char *value, struct err *e)
{
	const char *near;

	if (strcmp(key, "config") == 0)
		return set_config(p, value, e);
	if (strcmp(key, "dir") == 0)
		return set_path(&p->dir, key, value, e);
	if (is_one_of(key, later, COUNT_OF(later)))
		return err_set(e, EINVAL, "'%s' is not in this version", key);
	near = nearest_word(key, known, COUNT_OF(known));
	if (near)
		return err_set(e, EINVAL, "unknown parameter '%s' (did you mean '%s'?)", key, near);
	return err_set(e, EINVAL, "unknown parameter '%s'; there are config=FILE and dir=DIR", key);
}

int params_complete(const struct params *p, struct err *e)
{
	if (p->config && p->dir)
		return err_set(e, EINVAL, "config= and dir= exclude each other");
	if (!p->config && !p->dir)
		return err_set(e, EINVAL, "nothing to serve: config=FILE or dir=DIR is needed");
	return 0;
}

void params_release(struct params *p)
{
	free(p->config);
	free(p->dir);
	*p = (struct params){ 0 };
}
