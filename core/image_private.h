/* SPDX-License-Identifier: Apache-2.0 */
/* image_private.h - what the files of an image share: image.c opens it, image_read.c walks it,
 * image_write.c changes it.
 *
 * (1) What an image is made of at one time is a stack, which never changes.  A read-only image has
 *     one for life: its reads take no lock.  Of a writable image a snapshot puts another in its
 *     place; whoever uses one holds a seat (image->readers), and what was replaced is freed when
 *     those are gone that may have found it.
 * (2) All that changes the disk goes through the gate: shared, it changes the upper of the stack
 *     that it finds; alone, a snapshot puts a stack with another upper in its place.
 * (3) Layers stay where they are until the image is closed: a pointer to one is good without a
 *     seat.  A number of a layer, once given, keeps its meaning: what was written there. */
#ifndef OVERLAYBD_CORE_IMAGE_PRIVATE_H
#define OVERLAYBD_CORE_IMAGE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/caller.h"
#include "core/image.h"
#include "core/upper_log.h"
#include "core/upper_readers.h"

/* An upper that is open for writing. */
struct image_upper {
	struct image *image;
	struct upper_log *log; /* NULL: ended */
	char *data_path, *index_path;
	char *layer_path; /* of the layer that a snapshot made of it, else NULL */
	struct image_layer layer; /* of layer.layer the header alone counts; its data is empty */
	struct image_upper *older;
};

struct stack {
	struct image_layer **layers; /* from the bottom; the two below are the last */
	size_t layer_count;
	struct index *index; /* of all other layers */
	struct image_upper *frozen; /* a snapshot makes a layer of it; NULL: none does */
	struct image_upper *upper; /* NULL: the image is read-only */
};

/* What was replaced, and may still be looked at by who sat down before. */
struct image_retired {
	struct stack *stack;
	bool owns_index; /* the next stack had another one */
	struct image_upper *upper; /* whose log only that stack used; NULL: none */
	uint64_t epoch; /* of image->readers when it was replaced */
	struct image_retired *older;
};

struct image {
	const struct image_config *config;
	struct lowers lowers;
	uint64_t size;
	_Atomic(struct stack *) stack;
	bool writable;
	struct image_upper *uppers; /* all that there were, the newest first; snapshot_lock */
	pthread_mutex_t snapshot_lock; /* one at a time makes a snapshot; held over I/O */
	struct image_retired *retired; /* snapshot_lock */
	pthread_rwlock_t gate;
	struct upper_readers readers;
};

/* The stack that is in force.  Of a writable image: with a seat. */
static inline struct stack *image_stack(const struct image *image)
{
	return atomic_load_explicit(&image->stack, memory_order_acquire);
}

/* A seat of a writable image; of a read-only one there is nothing to announce. */
/* The deadline of a client's request begins here, where something of it may have to be fetched.
 * Returns what caller_end takes. */
static inline uint64_t image_caller_begin(const struct image *image)
{
	return image->lowers.remote ? caller_begin(image->config->fetch.timeout)
				    : caller()->deadline;
}

static inline unsigned image_sit_down(const struct image *image)
{
	/* Who reads is not what an image is. */
	struct upper_readers *readers = (struct upper_readers *)(uintptr_t)&image->readers;

	return image->writable ? upper_readers_enter(readers) : 0;
}

static inline void image_stand_up(const struct image *image, unsigned seat)
{
	if (image->writable)
		upper_readers_leave((struct upper_readers *)(uintptr_t)&image->readers, seat);
}

/* image_read.c */

/* EINVAL for what does not lie within the disk. */
int image_check_range(const struct image *image, uint64_t n, uint64_t off, struct err *e);

/* Reads what lies below the uppers. */
int image_read_layers(struct image *image, const struct stack *stack, void *buf, size_t n,
		      uint64_t off, struct err *e);

/* image_write.c */

void image_gate_init(struct image *image);
void image_gate_release(struct image *image);

/* Whether the config's upper can be opened for writing: 1; 0 after a line in the log that says why
 * it is served read-only. */
int image_upper_takes_writes(const struct image_config *config, struct err *e);

/* Opens it, on top of the stack of the lowers, which has room for it; the image's size is theirs
 * before.  `size` 0: as its header says. */
int image_open_upper(struct image *image, struct stack *stack, uint64_t size, struct err *e);

/* Opens a pair of files as an upper of the image.  `size` 0: as its header says, or `size_below`.
 */
int image_open_log(struct image *image, const char *data, const char *index, uint64_t size,
		   uint64_t size_below, struct image_upper **out, struct err *e);

/* Flushes and closes the log of an upper that nobody uses any more.  The upper stays (3). */
void image_end_upper(struct image_upper *upper);

/* The same, for one that nobody has seen: it goes. */
void image_drop_upper(struct image_upper *upper);

/* image_snapshot.c */

/* Frees what nobody looks at any more. */
void image_free_retired(struct image *image);

/* image.c */

/* Opens the file of a sealed layer as number `number`. */
int image_open_layer_file(const char *path, size_t number, struct image_layer *out, struct err *e);

/* Flushes and closes all uppers that were opened.  What fails is a line in the log. */
void image_close_uppers(struct image *image);

#endif
