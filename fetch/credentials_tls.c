/* SPDX-License-Identifier: Apache-2.0 */
/* credentials_tls.c - certs.d folders, see credentials.h. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/credentials.h"

/* The names of a folder's entries in the order of their bytes. */
struct listing {
	struct dirent **entries;
	int n;
};

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void release_listing(struct listing *l)
{
	int i;

	for (i = 0; i < l->n; i++)
		free(l->entries[i]);
	free(l->entries);
}

static bool has_name(const struct listing *l, const char *stem, size_t n, const char *suffix)
{
	int i;

	for (i = 0; i < l->n; i++) {
		const char *name = l->entries[i]->d_name;

		if (strncmp(name, stem, n) == 0 && strcmp(name + n, suffix) == 0)
			return true;
	}
	return false;
}

/* FOLDER/STEM + suffix, into a place that is still empty. */
static int set_path(char **out, const char *folder, const char *stem, size_t n, const char *suffix)
{
	if (*out)
		return 0;
	if (asprintf(out, "%s/%.*s%s", folder, (int)n, stem, suffix) < 0) {
		*out = NULL; /* left undefined by the failed call */
		return -ENOMEM;
	}
	return 0;
}

static int pick_files(const char *folder, const struct listing *l, struct credentials_tls *out)
{
	int i, r = 0;

	for (i = 0; r == 0 && i < l->n; i++) {
		const char *name = l->entries[i]->d_name, *dot = strrchr(name, '.');
		size_t n = dot ? (size_t)(dot - name) : 0;

		if (!dot)
			continue;
		if (strcmp(dot, ".crt") == 0)
			r = set_path(&out->ca, folder, name, n, ".crt");
		if (strcmp(dot, ".cert") != 0 || !has_name(l, name, n, ".key"))
			continue;
		r = set_path(&out->cert, folder, name, n, ".cert");
		if (r == 0)
			r = set_path(&out->key, folder, name, n, ".key");
	}
	return r;
}

/* Returns 1 when the folder is not there. */
static int look_in(const char *home, const char *certs, const char *host,
		   struct credentials_tls *out)
{
	AUTO_FREE char *folder = NULL;
	struct listing l;
	int r;

	if (asprintf(&folder, "%s%s/%s", home, certs, host) < 0) {
		folder = NULL;
		return -ENOMEM;
	}
	l.n = scandir(folder, &l.entries, NULL, by_bytes);
	if (l.n < 0)
		return errno == ENOMEM ? -ENOMEM : 1;
	r = pick_files(folder, &l, out);
	release_listing(&l);
	return r;
}

int credentials_find_tls(const char *host, struct credentials_tls *out, struct err *e)
{
	const char *home = getenv("HOME");
	struct credentials_tls t = { 0 };
	int r = 1;

	*out = t;
	if (host[0] == '\0' || host[0] == '.' || strchr(host, '/'))
		return 0; /* no host, and not to become part of a path */
	if (home && home[0] != '\0')
		r = look_in(home, "/.config/containers/certs.d", host, &t);
	if (r == 1)
		r = look_in("", "/etc/docker/certs.d", host, &t);
	if (r == 1)
		r = look_in("", "/etc/containers/certs.d", host, &t);
	if (r < 0) {
		credentials_tls_release(&t);
		return err_set(e, ENOMEM, "out of memory");
	}
	*out = t;
	return 0;
}

void credentials_tls_release(struct credentials_tls *t)
{
	free(t->ca);
	free(t->cert);
	free(t->key);
	*t = (struct credentials_tls){ 0 };
}
