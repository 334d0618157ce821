/* SPDX-License-Identifier: Apache-2.0 */
/* download.c - see download.h.
 *
 * One process on a host downloads a blob (cache_blob_claim_download); the others look from time to
 * time whether it has become whole, and take over when the claim is free and it has not. */
#include "fetch/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/blob.h"

enum {
	STEP = 1024 * 1024, /* bytes asked for at once, at least */
	LOOK_EVERY = 2000, /* ms, at what another process downloads */
	PAUSE = 1000, /* ms before the next try */
};

/* One download of one blob. */
struct job {
	const struct download_blob *what;
	const struct fetch_download *how;
	struct blob *blob;
	bool (*progress)(void *arg, uint64_t present); /* false: stop */
	void *arg;
	/* Sleeps; false: stop. */
	bool (*rest)(struct job *j, uint64_t ms);
	struct download *owner; /* NULL: download_now */
	bool paced;
	uint64_t began, sent; /* ms and bytes, for the pace */
};

/* One that is waited for in the background, with strings of its own. */
struct waiting {
	struct download_blob what;
	char *dir, *name;
};

struct download {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping; /* guarded by lock */
	pthread_t thread;
	struct fetch_download how;
	size_t count;
	struct waiting blobs[];
};

static bool has_dir(const struct job *j)
{
	return j->what->dir && j->what->dir[0] != '\0';
}

static bool tell(struct job *j, uint64_t present)
{
	stats_set(blob_stats(j->blob), STATS_DOWNLOAD_BYTES, present);
	return !j->progress || j->progress(j->arg, present);
}

/* Keeps to max_mbps: rests as long as the bytes sent so far are ahead of the time gone. */
static bool pace(struct job *j, uint64_t n)
{
	uint64_t due, gone;

	j->sent += n;
	if (!j->paced || j->how->max_mbps == 0)
		return true;
	due = j->sent / (j->how->max_mbps * (uint64_t)1000);
	gone = clock_ms() - j->began;
	return j->rest(j, due - min_u64(due, gone));
}

static int stopped(struct err *e)
{
	return err_set(e, ECANCELED, "stopped");
}

/* Once over the blob.  *missing: bytes that are not there when it comes by. */
static int pass(struct job *j, uint64_t *missing, struct err *e)
{
	uint64_t size = blob_size(j->blob), step = max_u64(j->how->block_size, STEP), off;
	uint64_t present = 0;
	int r;

	for (off = 0; off < size; off += step) {
		uint64_t n = min_u64(step, size - off);
		uint64_t before = blob_present(j->blob, off, n), after;

		if (before < n && !cache_blob_is_filling(blob_cache(j->blob)))
			return err_set(e, ENOSPC, "the cache keeps nothing at the moment");
		r = before < n ? blob_fill(j->blob, off, n, e) : 0;
		if (r < 0)
			return r;
		after = blob_present(j->blob, off, n);
		present += after;
		if (!tell(j, present) || !pace(j, after - min_u64(after, before)))
			return stopped(e);
	}
	*missing = size - present;
	return 0;
}

/* Another process may be checking it, which takes a while. */
static int verify(struct job *j, struct err *e)
{
	int r;

	while ((r = cache_blob_verify(blob_cache(j->blob), e)) == -EAGAIN)
		if (!j->rest(j, PAUSE))
			return stopped(e);
	return r;
}

static int fill_once(struct job *j, struct err *e)
{
	uint64_t missing, last = UINT64_MAX;
	int r = pass(j, &missing, e);

	/* What others had claimed comes later; what is evicted while we go does not count as
	 * progress. */
	while (r == 0 && missing > 0 && missing < last) {
		last = missing;
		if (!j->rest(j, PAUSE))
			return stopped(e);
		r = pass(j, &missing, e);
	}
	if (r == 0 && missing > 0)
		r = err_set(e, ENOSPC, "%" PRIu64 " bytes of it do not stay in the cache", missing);
	if (r == 0)
		r = verify(j, e);
	return r == 1 ? err_set(e, ENOSPC, "it does not stay whole in the cache") : r;
}

/* With the tries that the settings allow. */
static int fill(struct job *j, struct err *e)
{
	unsigned tries = 0;
	int r;

	for (;;) {
		r = fill_once(j, e);
		if (r == 0 || r == -ECANCELED || r == -ESHUTDOWN || r == -ENOSPC ||
		    ++tries >= j->how->tries)
			return r;
		if (!j->rest(j, PAUSE))
			return stopped(e);
	}
}

/* In the background there is time, until the cache keeps what comes; but what is also to be a file
 * elsewhere needs no cache. */
static bool waits_for_cache(const struct job *j)
{
	return j->owner && !has_dir(j) && !cache_blob_is_filling(blob_cache(j->blob));
}

/* Waits for the claim, or until another process has done it. */
static int download(struct job *j, struct err *e)
{
	struct cache_blob *c = blob_cache(j->blob);
	int r;

	if (!c)
		return err_set(e, ENOSPC, "there is no cache to download it to");
	/* What was asked for by name stays, and what is older makes room. */
	r = j->owner ? 0 : cache_blob_hold(c, e);
	if (r < 0)
		return r;
	stats_set(blob_stats(j->blob), STATS_DOWNLOAD_TOTAL, blob_size(j->blob));
	while (cache_blob_state(c) != CACHE_WHOLE) {
		if (cache_blob_claim_download(c)) {
			r = fill(j, e);
			cache_blob_unclaim_download(c);
			if (r != -ENOSPC || !waits_for_cache(j))
				return r;
		}
		if (!tell(j, blob_present(j->blob, 0, blob_size(j->blob))) ||
		    !j->rest(j, LOOK_EVERY))
			return stopped(e);
	}
	(void)tell(j, blob_size(j->blob));
	return 0;
}

/* ---- the reference's layout ---- */

static int copy_bytes(struct job *j, int fd, struct digest *sum, void *piece, struct err *e)
{
	struct source *s = j->what->blob;
	uint64_t off;
	int r = 0;

	for (off = 0; r == 0 && off < s->size; off += STEP) {
		size_t n = (size_t)min_u64(STEP, s->size - off);
		uint64_t present =
			blob_present(j->blob, off, n); /* what comes from the cache is free */

		r = source_pread(s, piece, n, off, e);
		if (r == 0)
			r = digest_update(sum, piece, n, e);
		if (r == 0)
			r = io_pwrite(fd, piece, n, off, e);
		if (r == 0 && !pace(j, n - min_u64(present, n)))
			r = stopped(e);
	}
	return r;
}

static int copy_and_digest(struct job *j, int fd, char digest[DIGEST_ANY_TEXT], struct err *e)
{
	AUTO_FREE void *piece = malloc(STEP);
	struct digest sum;
	int r = piece ? digest_open_like(blob_digest(j->blob), &sum, e)
		      : err_set(e, ENOMEM, "out of memory");

	if (r < 0)
		return r;
	r = copy_bytes(j, fd, &sum, piece, e);
	if (r == 0)
		r = digest_finish_any(&sum, digest, e);
	digest_close(&sum);
	return r;
}

static int write_copy(struct job *j, int fd, const char *from, const char *to, struct err *e)
{
	char digest[DIGEST_ANY_TEXT];
	int r = copy_and_digest(j, fd, digest, e);

	if (r < 0)
		return r;
	if (strcmp(digest, blob_digest(j->blob)) != 0)
		return err_set(e, EBADMSG, "what came has the digest %s", digest);
	if (TEMP_FAILURE_RETRY(fsync(fd)) < 0 || rename(from, to) < 0)
		return err_set(e, errno, "%s: %s", to, strerror(errno));
	return 0;
}

/* Whether a file still has the name by which it was opened. */
static bool is_named(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* Opens DIR/.download, which is truncated and written to: so it has to be a file of ours, and no
 * link to another's. */
static int open_copy(const char *path, int *out, struct err *e)
{
	AUTO_CLOSE int fd =
		open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	struct stat st;

	if (fd < 0 && errno == ELOOP)
		return err_set(e, ELOOP, "%s: a symbolic link, which is not followed: remove it",
			       path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1 || st.st_uid != geteuid())
		return err_set(e, EPERM,
			       "%s: not a regular file of our own with one name: remove it", path);
	*out = fd;
	fd = -1;
	return 0;
}

/* As the reference does: DIR/.download while it runs, DIR/overlaybd.commit when it is right.  A
 * lock on the former keeps a second process out. */
static int place(struct job *j, struct err *e)
{
	AUTO_FREE char *from = io_absolute_path(j->what->dir, ".download");
	AUTO_FREE char *to = io_absolute_path(j->what->dir, "overlaybd.commit");
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_CLOSE int fd = -1;
	int r;

	if (!from || !to)
		return err_set(e, ENOMEM, "out of memory");
	if (access(to, F_OK) == 0)
		return 0;
	r = open_copy(from, &fd, e);
	if (r < 0)
		return r;
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return 0; /* another process is at it */
	if (!is_named(fd, from))
		return 0; /* it was, and has just put this very file in its place */
	if (ftruncate(fd, 0) < 0)
		return err_set(e, errno, "%s: %s", from, strerror(errno));
	r = write_copy(j, fd, from, to, e);
	if (r < 0)
		(void)unlink(from);
	return r;
}

static int run_job(struct job *j, struct err *e)
{
	int r = 0;

	j->blob = blob_of(j->what->blob);
	j->began = clock_ms();
	if (blob_cache(j->blob) || !has_dir(j))
		r = download(j, e);
	/* A cache that is too small for it is no reason to do without the folder. */
	if (has_dir(j) && (r == 0 || r == -ENOSPC))
		r = place(j, e);
	return r;
}

/* ---- now ---- */

static bool rest_here(struct job *j, uint64_t ms)
{
	clock_sleep(ms);
	return true;
}

int download_now(const struct download_blob *blob, const struct fetch_download *how,
		 bool (*progress)(void *arg, uint64_t present), void *arg, struct err *e)
{
	struct job j = {
		.what = blob, .how = how, .progress = progress, .arg = arg, .rest = rest_here
	};

	return run_job(&j, e);
}

/* ---- in the background ---- */

/* False: it is to stop. */
static bool wait_ms(struct download *d, uint64_t ms)
{
	uint64_t until = clock_ms() + ms;

	WITH_LOCK(&d->lock);
	while (!d->stopping && clock_ms() < until)
		clock_wait(&d->wake, &d->lock, until);
	return !d->stopping;
}

static bool rest_in_thread(struct job *j, uint64_t ms)
{
	return wait_ms(j->owner, ms) && !blob_is_closing(j->blob);
}

static bool go_on(void *arg, uint64_t present)
{
	return wait_ms(arg, 0);
}

static uint64_t first_delay(const struct fetch_download *how)
{
	return how->delay * (uint64_t)1000 +
	       (how->delay_extra ? clock_chance() % (how->delay_extra * (uint64_t)1000) : 0);
}

static void *run(void *arg)
{
	struct download *d = arg;
	bool on = wait_ms(d, first_delay(&d->how));
	size_t i;

	for (i = 0; on && i < d->count; i++) {
		struct job j = { .what = &d->blobs[i].what,
				 .how = &d->how,
				 .progress = go_on,
				 .arg = d,
				 .rest = rest_in_thread,
				 .owner = d,
				 .paced = true };
		struct err e;
		int r = run_job(&j, &e);

		on = r != -ECANCELED && r != -ESHUTDOWN && wait_ms(d, 0);
		if (r < 0 && on)
			log_warn("background download of %s: %s", d->blobs[i].name, e.msg);
	}
	return NULL;
}

static void release(struct download *d)
{
	size_t i;

	for (i = 0; i < d->count; i++) {
		free(d->blobs[i].dir);
		free(d->blobs[i].name);
	}
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int start(struct download *d, const struct download_blob *blobs, struct err *e)
{
	size_t i;
	int code;

	for (i = 0; i < d->count; i++) {
		struct waiting *w = &d->blobs[i];

		w->dir = strdup(blobs[i].dir ? blobs[i].dir : "");
		w->name = strdup(blobs[i].name);
		w->what = (struct download_blob){ blobs[i].blob, w->dir, w->name };
		if (!w->dir || !w->name)
			return err_set(e, ENOMEM, "out of memory");
	}
	code = clock_thread(&d->thread, run, d);
	if (code != 0)
		return err_set(e, code, "starting a thread: %s", strerror(code));
	return 0;
}

int download_open(const struct fetch_download *how, const struct download_blob *blobs, size_t count,
		  struct download **out, struct err *e)
{
	struct download *d = calloc(1, sizeof *d + count * sizeof *d->blobs);
	int r;

	if (!d)
		return err_set(e, ENOMEM, "out of memory");
	d->how = *how;
	d->count = count;
	pthread_mutex_init(&d->lock, NULL);
	clock_init_cond(&d->wake);
	r = start(d, blobs, e);
	if (r < 0) {
		release(d);
		return r;
	}
	*out = d;
	return 0;
}

void download_close(struct download *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	clock_wake(&d->wake);
	pthread_mutex_unlock(&d->lock);
	clock_join(d->thread);
	release(d);
}
