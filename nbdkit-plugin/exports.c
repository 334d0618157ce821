/* SPDX-License-Identifier: Apache-2.0 */
/* exports.c - the table of open images over a folder, see exports.h.
 *
 * (1) An export is in the table from its first client's claim until its disk is closed after its
 *     last client's release; who claims it in between waits, since a writable layer is had by one.
 *     One that failed to open leaves at once, so that the next client claims it anew.
 * (2) The lock guards the table and the entries' fields; nothing is read from a file under it.  Who
 *     claims an export opens it; those who come meanwhile wait on that export alone.
 * (3) A disk pointer is set once, before EXPORT_READY, and may be used without the lock by each of
 *     the export's users. */
#include "nbdkit-plugin/exports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/scope.h"
#include "core/base/text.h"

#define SUFFIX ".yaml"

enum { SHOWN = 100 }; /* bytes of a client's name in a message */

enum export_state { EXPORT_OPENING, EXPORT_READY, EXPORT_FAILED, EXPORT_CLOSING };

struct open_export {
	struct open_export *next; /* in the table */
	char *name;
	pthread_cond_t settled; /* signalled when the state is no longer EXPORT_OPENING */
	enum export_state state;
	size_t users; /* clients that have the disk or wait for it */
	struct disk *disk; /* when EXPORT_READY */
	int failure; /* when EXPORT_FAILED: -errno, its text below */
	struct err why;
};

struct exports {
	char *folder;
	const struct config_options *options;
	struct fetcher *fetcher;
	pthread_mutex_t lock;
	pthread_cond_t closed; /* signalled when an EXPORT_CLOSING has left the table */
	struct open_export *table; /* guarded by lock */
};

/* ---- the folder ---- */

/* By the entry alone.  A link, or a file system that does not tell, needs a look at the file. */
static int is_candidate(const struct dirent *d)
{
	size_t n = strlen(d->d_name), suffix = strlen(SUFFIX);

	return d->d_name[0] != '.' && n > suffix && strcmp(d->d_name + n - suffix, SUFFIX) == 0 &&
	       text_is_plain(d->d_name) &&
	       (d->d_type == DT_REG || d->d_type == DT_LNK || d->d_type == DT_UNKNOWN);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_file(int folder, const struct dirent *d)
{
	struct stat st;

	return d->d_type == DT_REG ||
	       (fstatat(folder, d->d_name, &st, 0) == 0 && S_ISREG(st.st_mode));
}

int exports_list(const struct exports *x, struct export_names *out, struct err *e)
{
	AUTO_CLOSE int folder = open(x->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct export_names t = { 0 };
	struct dirent **found;
	int n, i, r = 0;

	if (folder < 0)
		return err_set(e, errno, "%s: %s", x->folder, strerror(errno));
	n = scandirat(folder, ".", &found, is_candidate, by_bytes);
	if (n < 0)
		return err_set(e, errno, "listing %s: %s", x->folder, strerror(errno));
	t.names = calloc((size_t)n + 1, sizeof *t.names);
	if (!t.names)
		r = err_set(e, ENOMEM, "listing %s: out of memory", x->folder);
	for (i = 0; i < n; i++) {
		const char *name = found[i]->d_name;

		if (r == 0 && is_file(folder, found[i])) {
			t.names[t.count] = strndup(name, strlen(name) - strlen(SUFFIX));
			if (t.names[t.count])
				t.count++;
			else
				r = err_set(e, ENOMEM, "listing %s: out of memory", x->folder);
		}
		free(found[i]);
	}
	free(found);
	if (r < 0) {
		export_names_release(&t);
		return r;
	}
	*out = t;
	return 0;
}

void export_names_release(struct export_names *names)
{
	size_t i;

	for (i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct export_names){ 0 };
}

/* The names with ", " between them, as far as an error text can hold them. */
static void join_names(const struct export_names *names, char *out, size_t room)
{
	size_t used = 0, i;

	for (i = 0, out[0] = '\0'; i < names->count && used < room; i++)
		used += (size_t)snprintf(out + used, room - used, "%s%s", i > 0 ? ", " : "",
					 names->names[i]);
}

/* Says that no export has the name, and what there is. */
static int refuse_name(const struct exports *x, const char *name, const struct export_names *names,
		       struct err *e)
{
	char all[sizeof e->msg];

	join_names(names, all, sizeof all);
	if (names->count == 0)
		return err_set(e, ENOENT, "%s: no image (*" SUFFIX ") in this folder", x->folder);
	if (name[0] == '\0')
		return err_set(e, ENOENT, "%s: no default export among several: %s", x->folder,
			       all);
	return err_set(e, ENOENT, "%s: no export '%.*s%s'; there is: %s", x->folder, SHOWN, name,
		       strlen(name) > SHOWN ? "..." : "", all);
}

static bool is_named(const struct dirent *d, const char *name)
{
	size_t n = strlen(name);

	return strncmp(d->d_name, name, n) == 0 && strcmp(d->d_name + n, SUFFIX) == 0;
}

/* Whether a name is in the listing.  No other entry's file is looked at: one that hangs keeps its
 * own clients waiting only. */
static int is_listed(const struct exports *x, const char *name, bool *yes, struct err *e)
{
	DIR *folder = opendir(x->folder);
	const struct dirent *d;
	int failure;

	if (!folder)
		return err_set(e, errno, "%s: %s", x->folder, strerror(errno));
	do {
		errno = 0;
		d = readdir(folder);
	} while (d && !is_named(d, name));
	failure = d ? 0 : errno;
	*yes = d && is_candidate(d) && is_file(dirfd(folder), d);
	closedir(folder);
	return failure ? err_set(e, failure, "listing %s: %s", x->folder, strerror(failure)) : 0;
}

/* The listed name that a client's name stands for; the caller frees it. */
static int find_name(const struct exports *x, const char *name, char **out, struct err *e)
{
	struct export_names names;
	bool listed = false;
	int r = name[0] == '\0' ? 0 : is_listed(x, name, &listed, e);

	if (r == 0 && listed) {
		*out = strdup(name);
		return *out ? 0 : err_set(e, ENOMEM, "%s: out of memory", x->folder);
	}
	if (r == 0)
		r = exports_list(x, &names, e);
	if (r < 0)
		return r;
	if (name[0] == '\0' && names.count == 1)
		*out = TAKE_PTR(names.names[0]);
	else
		r = refuse_name(x, name, &names, e);
	export_names_release(&names);
	return r;
}

/* ---- the table ---- */

static struct open_export *export_new(const char *name)
{
	struct open_export *p = malloc(sizeof *p);

	if (!p)
		return NULL;
	*p = (struct open_export){ .name = strdup(name), .settled = PTHREAD_COND_INITIALIZER };
	if (p->name)
		return p;
	free(p);
	return NULL;
}

static void export_free(struct open_export *p)
{
	disk_close(p->disk);
	free(p->name);
	free(p);
}

static void unlink_locked(struct exports *x, const struct open_export *p)
{
	struct open_export **at = &x->table;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
}

static struct open_export *find_locked(const struct exports *x, const char *name)
{
	struct open_export *p = x->table;

	while (p && strcmp(p->name, name) != 0)
		p = p->next;
	return p;
}

/* The export of this name with one user more; *mine when it is new and the caller must open it.
 * NULL when out of memory. */
static struct open_export *claim(struct exports *x, const char *name, bool *mine)
{
	struct open_export *p;

	WITH_LOCK(&x->lock);
	while ((p = find_locked(x, name)) && p->state == EXPORT_CLOSING)
		pthread_cond_wait(&x->closed, &x->lock);
	*mine = !p;
	if (!p) {
		p = export_new(name);
		if (!p)
			return NULL;
		p->next = x->table;
		x->table = p;
	}
	p->users++;
	return p;
}

static void open_claimed(struct exports *x, struct open_export *p)
{
	AUTO_FREE char *path = NULL;
	struct disk *disk = NULL;
	struct err why;
	int r;

	if (asprintf(&path, "%s/%s" SUFFIX, x->folder, p->name) < 0) {
		path = NULL; /* left undefined by the failed call */
		r = err_set(&why, ENOMEM, "%s: out of memory", p->name);
	} else {
		r = disk_open(path, x->options, x->fetcher, &disk, &why);
		if (r == 0)
			disk_start(disk);
	}
	WITH_LOCK(&x->lock);
	if (r < 0) {
		p->state = EXPORT_FAILED;
		p->failure = r;
		p->why = why;
		unlink_locked(x, p);
	} else {
		p->state = EXPORT_READY;
		p->disk = disk;
	}
	pthread_cond_broadcast(&p->settled);
}

/* Waits until the export is open or has failed; in the latter case the caller is a user no more,
 * and *last says that it has to free it. */
static int await_settled(struct exports *x, struct open_export *p, bool *last, struct err *e)
{
	WITH_LOCK(&x->lock);
	while (p->state == EXPORT_OPENING)
		pthread_cond_wait(&p->settled, &x->lock);
	if (p->state == EXPORT_READY)
		return 0;
	*last = --p->users == 0;
	return err_set(e, -p->failure, "%s", p->why.msg);
}

int exports_acquire(struct exports *x, const char *name, struct disk **out, struct err *e)
{
	AUTO_FREE char *listed = NULL;
	struct open_export *p;
	bool mine, last;
	int r = find_name(x, name, &listed, e);

	if (r < 0)
		return r;
	p = claim(x, listed, &mine);
	if (!p)
		return err_set(e, ENOMEM, "%s/%s" SUFFIX ": out of memory", x->folder, listed);
	if (mine)
		open_claimed(x, p);
	r = await_settled(x, p, &last, e);
	if (r == 0)
		*out = p->disk;
	else if (last)
		export_free(p);
	return r;
}

/* Takes one user off the disk's export; returns it when that was the last, without the disk. */
static struct open_export *drop_user(struct exports *x, const struct disk *d)
{
	struct open_export *p;

	WITH_LOCK(&x->lock);
	p = x->table;
	while (p->disk != d)
		p = p->next;
	if (--p->users > 0)
		return NULL;
	p->state = EXPORT_CLOSING;
	p->disk = NULL;
	return p;
}

void exports_release(struct exports *x, struct disk *d)
{
	struct open_export *p = drop_user(x, d);

	if (!p)
		return;
	disk_close(d); /* may flush, and wait for its device */
	pthread_mutex_lock(&x->lock);
	unlink_locked(x, p);
	pthread_cond_broadcast(&x->closed);
	pthread_mutex_unlock(&x->lock);
	export_free(p);
}

int exports_acquire_all(struct exports *x, struct disk ***out, size_t *count)
{
	struct open_export *p;
	struct disk **disks;
	size_t n = 0;

	WITH_LOCK(&x->lock);
	for (p = x->table; p; p = p->next)
		n += p->state == EXPORT_READY;
	disks = calloc(n + 1, sizeof(struct disk *));
	if (!disks)
		return -ENOMEM;
	*count = 0;
	for (p = x->table; p; p = p->next) {
		if (p->state != EXPORT_READY)
			continue;
		p->users++;
		disks[(*count)++] = p->disk;
	}
	*out = disks;
	return 0;
}

/* ---- all of it ---- */

int exports_open(const char *folder, const struct config_options *options, struct fetcher *fetcher,
		 struct exports **out, struct err *e)
{
	struct exports *x = malloc(sizeof *x);
	struct export_names names;
	int r;

	if (!x)
		return err_set(e, ENOMEM, "%s: out of memory", folder);
	*x = (struct exports){ .folder = strdup(folder),
			       .options = options,
			       .fetcher = fetcher,
			       .lock = PTHREAD_MUTEX_INITIALIZER,
			       .closed = PTHREAD_COND_INITIALIZER };
	r = x->folder ? exports_list(x, &names, e)
		      : err_set(e, ENOMEM, "%s: out of memory", folder);
	if (r < 0) {
		exports_close(x);
		return r;
	}
	export_names_release(&names);
	*out = x;
	return 0;
}

void exports_close(struct exports *x)
{
	if (!x)
		return;
	free(x->folder);
	free(x);
}
