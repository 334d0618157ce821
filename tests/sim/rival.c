/* SPDX-License-Identifier: Apache-2.0 */
/* rival.c - see rival.h.  Process 1 is ours, those from 2 on are rivals, one after the other. */
#include "tests/sim/rival.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/le.h"
#include "tests/sim/fibers.h"
#include "tests/unit/memdisk.h"

enum { OURS = 1, NOTES = 8 };

static struct {
	struct cache *ours, *theirs;
	struct cache_blob *blobs[NET_BLOBS]; /* theirs; NULL: not open */
	unsigned process; /* of the rival */
	struct {
		const struct cache_blob *blob;
		const struct net_blob *truth;
	} notes[NOTES];
	unsigned noted;
} rival;

static size_t size_of(const struct net_blob *b, uint64_t chunk)
{
	return (size_t)min_u64(CACHE_CHUNK, b->size - chunk * CACHE_CHUNK);
}

void rival_note_open(const struct cache_blob *b, const char *digest)
{
	unsigned i;

	for (i = 0; i < NOTES; i++)
		if (rival.notes[i].blob == b)
			rival.notes[i].blob = NULL; /* one that is closed */
	for (i = 0; i < net.blob_count; i++)
		if (strcmp(net.blobs[i].digest, digest) == 0) {
			rival.notes[rival.noted % NOTES].blob = b;
			rival.notes[rival.noted++ % NOTES].truth = &net.blobs[i];
		}
}

void rival_judge(const struct cache_blob *b, uint64_t chunk, const void *bytes)
{
	unsigned i;

	for (i = 0; i < NOTES; i++) {
		const struct net_blob *truth = rival.notes[i].truth;

		if (rival.notes[i].blob == b && !net.lied &&
		    memcmp(bytes, truth->bytes + chunk * CACHE_CHUNK, size_of(truth, chunk)) != 0)
			fibers_fail("(3) wrong bytes are published to the cache");
	}
}

/* ---- what it does ---- */

static struct cache_blob *open_theirs(unsigned i)
{
	struct err e;

	if (!rival.theirs && cache_open_on(&memdisk_ops, "/cache", 1 << 20, &rival.theirs, &e) < 0)
		rival.theirs = NULL;
	if (rival.theirs && !rival.blobs[i] &&
	    cache_blob_open(rival.theirs, "o", net.blobs[i].digest, net.blobs[i].size,
			    &rival.blobs[i], &e) < 0)
		rival.blobs[i] = NULL;
	return rival.blobs[i];
}

static void close_theirs(void)
{
	unsigned i;

	for (i = 0; i < NET_BLOBS; i++) {
		cache_blob_close(rival.blobs[i]);
		rival.blobs[i] = NULL;
	}
	cache_close(rival.theirs);
	rival.theirs = NULL;
}

static void die(void)
{
	fibers_trace("the rival is killed");
	memdisk_kill(rival.process);
	close_theirs();
	rival.process = 2 + (rival.process - 1) % (MEMDISK_PROCESSES - 2);
}

static void publish(struct cache_blob *b, const struct net_blob *truth, uint64_t chunk)
{
	uint8_t bytes[CACHE_CHUNK];

	memcpy(bytes, truth->bytes + chunk * CACHE_CHUNK, size_of(truth, chunk));
	(void)cache_blob_publish(b, chunk, bytes);
}

static void act_on(struct cache_blob *b, const struct net_blob *truth)
{
	uint32_t chunks = (uint32_t)((truth->size + CACHE_CHUNK - 1) / CACHE_CHUNK);
	uint64_t chunk = fibers_below(chunks), n = 1 + fibers_below(chunks - (uint32_t)chunk);
	struct err e;

	switch (fibers_below(8)) {
	case 0:
	case 1:
	case 2:
		n = cache_blob_claim(b, chunk, n, fibers_below(2));
		fibers_trace("the rival claims %u chunks from %u on", (unsigned)n, (unsigned)chunk);
		break;
	case 3:
		cache_blob_unclaim(b, 0, chunks, 0);
		cache_blob_unclaim(b, 0, chunks, 1);
		break;
	case 4:
		fibers_trace("the rival publishes from chunk %u on", (unsigned)chunk);
		for (; n > 0; n--)
			publish(b, truth, chunk + n - 1);
		break;
	case 5:
		fibers_trace("the rival drops chunk %u", (unsigned)chunk);
		cache_blob_drop(b, chunk * CACHE_CHUNK, 1);
		break;
	case 6:
		fibers_trace("the rival checks the whole: %d", cache_blob_verify(b, &e));
		break;
	default:
		die();
		break;
	}
}

void rival_act(void)
{
	unsigned i = fibers_below(net.blob_count);
	struct cache_blob *b;

	memdisk_as(rival.process);
	b = open_theirs(i);
	if (b)
		act_on(b, &net.blobs[i]);
	memdisk_as(OURS);
	if (fibers_one_in(8)) {
		fibers_trace("the disk is full");
		memdisk_set_room(memdisk_used() + fibers_below(64 * 1024));
	} else if (fibers_one_in(4)) {
		memdisk_set_room(0);
	} else if (fibers_one_in(8)) {
		fibers_trace("the disk fails");
		memdisk_fail(MEMDISK_ANY, 1 + fibers_below(20), EIO, fibers_one_in(2));
	}
}

/* ---- rot ---- */

enum { LEVELS = 2 }; /* folders that a blob may lie in */

struct data_files {
	char paths[LEVELS * NET_BLOBS][512];
	unsigned count;
};

static void note_data(void *arg, const char *path)
{
	struct data_files *files = arg;
	const char *last = strrchr(path, '/');

	if (strcmp(last, "/data") == 0 && files->count < LEVELS * NET_BLOBS)
		snprintf(files->paths[files->count++], sizeof *files->paths, "%s", path);
}

static unsigned blob_at(const char *path)
{
	unsigned i = 0;

	while (i < net.blob_count && !strstr(path, net.blobs[i].digest))
		i++;
	return i;
}

unsigned rival_rot(uint64_t *chunk)
{
	struct data_files files = { .count = 0 };
	const char *path;
	uint64_t size, at;
	unsigned blob;
	uint8_t byte;

	memdisk_walk(note_data, &files);
	if (files.count == 0)
		return NET_BLOBS;
	path = files.paths[fibers_below(files.count)];
	blob = blob_at(path);
	size = memdisk_size(path);
	if (size == 0 || blob == net.blob_count)
		return NET_BLOBS;
	at = fibers_below((uint32_t)size);
	memdisk_peek(path, at, &byte, 1);
	if (byte == 0) /* a hole, most likely */
		return NET_BLOBS;
	byte ^= (uint8_t)(1 + fibers_below(255));
	memdisk_poke(path, at, &byte, 1);
	*chunk = at / CACHE_CHUNK;
	fibers_trace("chunk %u of blob %u rots", (unsigned)*chunk, blob);
	return blob;
}

void rival_calm(void)
{
	fibers_alone(true); /* or others would act as the rival */
	memdisk_heal();
	memdisk_set_room(0);
	memdisk_as(rival.process);
	close_theirs();
	memdisk_as(OURS);
	fibers_alone(false);
}

/* ---- all of it ---- */

struct cache *rival_open(uint32_t recheck)
{
	struct err e;

	memdisk_make(0);
	rival.process = 2;
	rival.noted = 0;
	memset(rival.notes, 0, sizeof rival.notes);
	memdisk_as(OURS);
	if (cache_open_on(&memdisk_ops, "/cache", fibers_one_in(2) ? 0 : 1 << 20, &rival.ours, &e) <
		    0 ||
	    cache_start(rival.ours, &e) < 0)
		fibers_fail(e.msg);
	cache_set_recheck(rival.ours, recheck);
	return rival.ours;
}

void rival_close(void)
{
	rival_calm();
	cache_stop(rival.ours);
	cache_close(rival.ours);
	memdisk_free(); /* (6) aborts when something is left open */
}
