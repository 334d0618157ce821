/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - I/O that notices everything: every read is compared with what must be there, and the
 * longest wait of any call is measured.
 *
 *   load read DEVICE SECONDS SEED    reads at random, past the page cache
 *   load write DEVICE SECONDS SEED   writes and reads at random, past the page cache, flushes;
 *                                    reads all of it at the end.  What the disk held is lost
 *   load files FOLDER SECONDS SEED   makes, extends, cuts, renames, syncs, reads and removes files;
 *                                    reads all of them at the end
 *
 * Prints "operations: N", "longest: MS" and "pause: MS": for so long the machine itself did not let
 * a thread run that sleeps only.  Fails at the first error or wrong byte, and names it.
 *
 * Four threads work on parts of their own.  Blocks hold their place and generation, so that an old
 * or a misplaced block is found. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
	THREADS = 4,
	BLOCK = 4096,
	BLOCKS_MAX = 2048, /* of a thread on a device: 32 MiB in all */
	RUN_MAX = 16, /* blocks in one call */
	FILES = 24, /* of a thread */
	FILE_MAX = 96, /* blocks */
	TICK = 10, /* ms */
};

enum kind { READ, WRITE, FILES_KIND };

struct file {
	uint32_t generation; /* 0: it does not exist */
	unsigned blocks;
	unsigned name; /* changes when it is renamed */
};

struct worker {
	pthread_t thread;
	enum kind kind;
	unsigned number;
	uint64_t dice;
	int fd; /* of the device */
	unsigned blocks; /* of its part */
	uint64_t sums[BLOCKS_MAX]; /* read: what was there at first */
	uint32_t generations[BLOCKS_MAX]; /* write: what is there, 0: not known */
	struct file files[FILES];
	uint64_t operations;
	uint64_t longest; /* us */
	uint8_t *buffer; /* aligned */
	uint8_t *wanted;
};

static const char *place;
static uint64_t end_us;
static atomic_bool over;
static uint64_t pause_us; /* the ticker's */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const struct worker *w, const char *what, uint64_t at)
{
	fprintf(stderr, "load: %s: thread %u: %s at %" PRIu64 ": %s\n", place, w->number, what, at,
		strerror(errno));
	_exit(1);
}

static uint32_t roll(struct worker *w, uint32_t sides)
{
	w->dice = w->dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((w->dice >> 33) % sides);
}

static void done(struct worker *w, uint64_t began)
{
	uint64_t took = now_us() - began;

	if (took > w->longest)
		w->longest = took;
	w->operations++;
}

/* ---- blocks ---- */

static void fill_block(uint8_t *p, uint64_t where, uint32_t generation)
{
	uint64_t x = where * UINT64_C(0x9e3779b97f4a7c15) + generation;
	size_t i;

	for (i = 0; i < BLOCK; i += sizeof x) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, sizeof x);
	}
	memcpy(p, &where, sizeof where);
	memcpy(p + sizeof where, &generation, sizeof generation);
}

static void check_block(struct worker *w, const uint8_t *p, uint64_t where, uint32_t generation)
{
	uint32_t has;

	fill_block(w->wanted, where, generation);
	if (memcmp(p, w->wanted, BLOCK) == 0)
		return;
	memcpy(&has, p + sizeof where, sizeof has);
	fprintf(stderr, "load: block %" PRIu64 ": generation %u, not %u\n", where, has, generation);
	errno = EILSEQ;
	die(w, "wrong bytes", where);
}

static uint64_t sum_block(const uint8_t *p)
{
	uint64_t sum = UINT64_C(14695981039346656037), x;
	size_t i;

	for (i = 0; i < BLOCK; i += sizeof x) {
		memcpy(&x, p + i, sizeof x);
		sum = (sum ^ x) * UINT64_C(1099511628211);
	}
	return sum;
}

/* ---- devices ---- */

static uint64_t where(const struct worker *w, unsigned block)
{
	return (uint64_t)w->number * w->blocks + block;
}

static void read_run(struct worker *w, unsigned first, unsigned count)
{
	uint64_t began = now_us();
	size_t n = (size_t)count * BLOCK;

	if (pread(w->fd, w->buffer, n, (off_t)(where(w, first) * BLOCK)) != (ssize_t)n)
		die(w, "read", where(w, first));
	done(w, began);
}

static void write_run(struct worker *w, unsigned first, unsigned count)
{
	size_t n = (size_t)count * BLOCK;
	uint64_t began;
	unsigned i;

	for (i = 0; i < count; i++)
		fill_block(w->buffer + (size_t)i * BLOCK, where(w, first + i),
			   ++w->generations[first + i]);
	began = now_us();
	if (pwrite(w->fd, w->buffer, n, (off_t)(where(w, first) * BLOCK)) != (ssize_t)n)
		die(w, "write", where(w, first));
	done(w, began);
}

static void check_run(struct worker *w, unsigned first, unsigned count)
{
	unsigned i;

	read_run(w, first, count);
	for (i = 0; i < count; i++) {
		const uint8_t *p = w->buffer + (size_t)i * BLOCK;

		if (w->kind == READ && sum_block(p) != w->sums[first + i]) {
			errno = EILSEQ;
			die(w, "other bytes than before", where(w, first + i));
		}
		if (w->kind == WRITE && w->generations[first + i] > 0)
			check_block(w, p, where(w, first + i), w->generations[first + i]);
	}
}

static void flush(struct worker *w)
{
	uint64_t began = now_us();

	if (fdatasync(w->fd) < 0)
		die(w, "flush", 0);
	done(w, began);
}

static void work_on_device(struct worker *w)
{
	unsigned count = 1 + roll(w, RUN_MAX), first = roll(w, w->blocks - count + 1);

	if (w->kind == READ || roll(w, 3) == 0)
		check_run(w, first, count);
	else if (roll(w, 16) == 0)
		flush(w);
	else
		write_run(w, first, count);
}

static void learn(struct worker *w)
{
	unsigned i;

	for (i = 0; i < w->blocks; i++) {
		read_run(w, i, 1);
		w->sums[i] = sum_block(w->buffer);
	}
}

static void check_device(struct worker *w)
{
	unsigned first;

	for (first = 0; first < w->blocks; first++)
		check_run(w, first, 1);
}

static void open_device(struct worker *w)
{
	uint64_t size = 0;

	w->fd = open(place, (w->kind == READ ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (w->fd < 0 || ioctl(w->fd, BLKGETSIZE64, &size) < 0)
		die(w, "open", 0);
	w->blocks = size / BLOCK / THREADS < BLOCKS_MAX ? (unsigned)(size / BLOCK / THREADS)
							: BLOCKS_MAX;
	if (w->blocks < RUN_MAX)
		die(w, "too small a device", size);
}

/* ---- files ---- */

static void name_file(const struct worker *w, unsigned i, char out[4096])
{
	snprintf(out, 4096, "%s/%u-%u-%u", place, w->number, i, w->files[i].name);
}

/* A block of a file is that of no other file and generation. */
static uint64_t file_block(const struct worker *w, unsigned i, unsigned block)
{
	return ((uint64_t)w->number * FILES + i) * FILE_MAX + block;
}

static void write_file(struct worker *w, unsigned i, int flags, unsigned first, unsigned count)
{
	char path[4096];
	unsigned k;
	int fd;

	name_file(w, i, path);
	fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
	if (fd < 0)
		die(w, path, i);
	for (k = 0; k < count; k++)
		fill_block(w->buffer + (size_t)k * BLOCK, file_block(w, i, first + k),
			   w->files[i].generation);
	if (pwrite(fd, w->buffer, (size_t)count * BLOCK, (off_t)first * BLOCK) !=
	    (ssize_t)((size_t)count * BLOCK))
		die(w, "writing a file", i);
	if (roll(w, 4) == 0 && fsync(fd) < 0)
		die(w, "fsync", i);
	if (close(fd) < 0)
		die(w, "close", i);
	w->files[i].blocks = first + count;
}

static void check_file(struct worker *w, unsigned i)
{
	char path[4096];
	unsigned k;
	int fd;

	name_file(w, i, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(w, path, i);
	for (k = 0; k < w->files[i].blocks; k++) {
		if (pread(fd, w->buffer, BLOCK, (off_t)k * BLOCK) != BLOCK)
			die(w, "reading a file", i);
		check_block(w, w->buffer, file_block(w, i, k), w->files[i].generation);
	}
	if (pread(fd, w->buffer, 1, (off_t)k * BLOCK) != 0)
		die(w, "a file is longer than it was", i);
	close(fd);
}

static void change_file(struct worker *w, unsigned i)
{
	struct file *f = &w->files[i];
	char path[4096], other[4096];

	name_file(w, i, path);
	switch (roll(w, 5)) {
	case 0:
		if (unlink(path) < 0)
			die(w, "unlink", i);
		f->blocks = 0;
		break;
	case 1:
		f->name++;
		name_file(w, i, other);
		if (rename(path, other) < 0)
			die(w, "rename", i);
		break;
	case 2:
		f->blocks = roll(w, f->blocks + 1);
		if (truncate(path, (off_t)f->blocks * BLOCK) < 0)
			die(w, "truncate", i);
		if (f->blocks == 0 && unlink(path) < 0)
			die(w, "unlink", i);
		break;
	case 3:
		if (f->blocks + RUN_MAX <= FILE_MAX)
			write_file(w, i, 0, f->blocks, 1 + roll(w, RUN_MAX));
		break;
	default:
		check_file(w, i);
	}
}

static void work_on_files(struct worker *w)
{
	unsigned i = roll(w, FILES);
	uint64_t began = now_us();

	if (w->files[i].blocks > 0) {
		change_file(w, i);
	} else {
		w->files[i].generation++;
		write_file(w, i, O_CREAT | O_EXCL, 0, 1 + roll(w, RUN_MAX));
	}
	done(w, began);
}

static void check_files(struct worker *w)
{
	unsigned i;

	for (i = 0; i < FILES; i++)
		if (w->files[i].blocks > 0)
			check_file(w, i);
}

/* ---- all of it ---- */

static void *work(void *arg)
{
	struct worker *w = arg;

	while (now_us() < end_us) {
		if (w->kind == FILES_KIND)
			work_on_files(w);
		else
			work_on_device(w);
	}
	if (w->kind == FILES_KIND)
		check_files(w);
	else
		check_device(w);
	return NULL;
}

static void *tick(void *arg)
{
	while (!over) {
		uint64_t began = now_us(), took;

		usleep(TICK * 1000);
		took = now_us() - began;
		if (took > pause_us)
			pause_us = took;
	}
	return NULL;
}

static void prepare(struct worker *w, enum kind kind, unsigned number, uint64_t seed)
{
	w->kind = kind;
	w->number = number;
	w->dice = seed * 31 + number;
	w->buffer = aligned_alloc(BLOCK, RUN_MAX * BLOCK);
	w->wanted = aligned_alloc(BLOCK, BLOCK);
	if (!w->buffer || !w->wanted)
		die(w, "memory", 0);
	if (kind != FILES_KIND)
		open_device(w);
	if (kind == READ)
		learn(w);
	w->longest = 0;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS];
	uint64_t operations = 0, longest = 0;
	enum kind kind;
	pthread_t ticker;
	unsigned i;

	if (argc != 5) {
		fprintf(stderr, "usage: load read|write|files PLACE SECONDS SEED\n");
		return 2;
	}
	kind = argv[1][0] == 'r' ? READ : argv[1][0] == 'w' ? WRITE : FILES_KIND;
	place = argv[2];
	for (i = 0; i < THREADS; i++)
		prepare(&workers[i], kind, i, strtoull(argv[4], NULL, 10));
	puts("begun");
	fflush(stdout);
	end_us = now_us() + strtoull(argv[3], NULL, 10) * 1000000;
	pthread_create(&ticker, NULL, tick, NULL);
	for (i = 0; i < THREADS; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		operations += workers[i].operations;
		if (workers[i].longest > longest)
			longest = workers[i].longest;
	}
	over = true;
	pthread_join(ticker, NULL);
	printf("operations: %" PRIu64 "\nlongest: %" PRIu64 "\npause: %" PRIu64 "\n", operations,
	       longest / 1000, pause_us / 1000);
	return 0;
}
