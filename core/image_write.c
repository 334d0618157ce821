/* SPDX-License-Identifier: Apache-2.0 */
/* image_write.c - the writable upper of an image, see image_private.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/image_private.h"

/* A snapshot must not wait for ever for writers who come one after the other. */
void image_gate_init(struct image *image)
{
	pthread_rwlockattr_t attributes;

	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&image->gate, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	pthread_mutex_init(&image->snapshot_lock, NULL);
}

void image_gate_release(struct image *image)
{
	pthread_rwlock_destroy(&image->gate);
	pthread_mutex_destroy(&image->snapshot_lock);
}

/* ---- opening and closing ---- */

int image_upper_takes_writes(const struct image_config *config, struct err *e)
{
	enum upper_form form;
	int r = upper_look(config->upper_data, &form, e);

	if (r == -ENOENT)
		return err_set(e, ENOENT,
			       "%s: upper: %s: no such file; 'overlaybd create' makes an upper",
			       config->path, config->upper_data);
	if (r < 0)
		return err_wrap(e, r, "%s: upper", config->path);
	if (form == UPPER_SPARSE)
		log_warn("%s: upper: %s: is sparse, and served read-only: 'overlaybd create "
			 "NEW --from OLD' makes a writable one of it",
			 config->path, config->upper_data);
	if (form == UPPER_ON_READ_ONLY)
		log_warn("%s: upper: %s: lies on a read-only file system, and is served read-only",
			 config->path, config->upper_data);
	return form == UPPER_LOG;
}

/* Of those who look into the upper itself nobody is sent back to it. */
static int read_below(void *arg, void *buf, size_t n, uint64_t off, struct err *e)
{
	const struct image_upper *upper = arg;
	struct image *image = upper->image;
	const struct stack *stack = image_stack(image);

	if (stack->frozen && stack->frozen != upper)
		return upper_log_pread(stack->frozen->log, buf, n, off, e);
	return image_read_layers(image, stack, buf, n, off, e);
}

static struct image_upper *make_upper(struct image *image, const char *data, const char *index)
{
	struct image_upper *upper = calloc(1, sizeof *upper);

	if (!upper)
		return NULL;
	upper->image = image;
	upper->data_path = strdup(data);
	upper->index_path = strdup(index);
	upper->layer.path = upper->data_path;
	upper->layer.is_upper = true;
	if (upper->data_path && upper->index_path &&
	    source_open_memory("", 0, &upper->layer.layer.data, NULL) == 0)
		return upper;
	free(upper->data_path);
	free(upper->index_path);
	free(upper);
	return NULL;
}

static void free_upper(struct image_upper *upper)
{
	source_close(upper->layer.layer.data);
	free(upper->data_path);
	free(upper->index_path);
	free(upper->layer_path);
	free(upper);
}

int image_open_log(struct image *image, const char *data, const char *index, uint64_t size,
		   uint64_t size_below, struct image_upper **out, struct err *e)
{
	struct image_upper *upper = make_upper(image, data, index);
	struct upper_log_options options = {
		.size = size,
		.size_below = size_below,
		.below = { .pread = read_below, .arg = upper },
		.garbage = image->config->upper_garbage,
	};
	int r;

	if (!upper)
		return err_set(e, ENOMEM, "out of memory");
	r = upper_log_open(data, index, &options, &upper->log, &upper->layer.upper, e);
	if (r < 0) {
		free_upper(upper);
		return r;
	}
	upper->layer.layer.header = *upper_log_header(upper->log);
	upper->older = image->uppers;
	image->uppers = upper;
	*out = upper;
	return 0;
}

void image_end_upper(struct image_upper *upper)
{
	struct err e;

	if (upper->log && upper_log_close(TAKE_PTR(upper->log), &e) < 0)
		log_warn("%s: upper: closing: %s", upper->image->config->path, e.msg);
}

void image_drop_upper(struct image_upper *upper)
{
	struct image_upper **at = &upper->image->uppers;

	while (*at != upper)
		at = &(*at)->older;
	*at = upper->older;
	image_end_upper(upper);
	free_upper(upper);
}

int image_open_upper(struct image *image, struct stack *stack, uint64_t size, struct err *e)
{
	const struct image_config *c = image->config;
	int r = image_open_log(image, c->upper_data, c->upper_index, size, image->size,
			       &stack->upper, e);

	if (r < 0)
		return err_wrap(e, r, "%s: upper", c->path);
	stack->layers[stack->layer_count++] = &stack->upper->layer;
	image->size = upper_log_size(stack->upper->log);
	return 0;
}

void image_close_uppers(struct image *image)
{
	image_free_retired(image); /* all of it: nobody uses the image */
	while (image->uppers)
		image_drop_upper(image->uppers);
}

/* ---- use ---- */

bool image_has_upper(const struct image *image)
{
	return image->writable;
}

bool image_is_writable(const struct image *image)
{
	unsigned seat;
	bool failed;

	if (!image->writable)
		return false;
	seat = image_sit_down(image);
	failed = upper_log_has_failed(image_stack(image)->upper->log);
	image_stand_up(image, seat);
	return !failed;
}

int image_after_fork(struct image *image, struct err *e)
{
	int r = image->writable ? upper_log_after_fork(image_stack(image)->upper->log, e) : 0;

	return r < 0 ? err_wrap(e, r, "%s: upper", image->config->path) : 0;
}

/* Invariant 2: the log to change, until gate_leave. */
static struct upper_log *gate_enter(struct image *image, uint64_t *before)
{
	*before = image_caller_begin(image); /* it may have to read what lies below */
	pthread_rwlock_rdlock(&image->gate);
	return image_stack(image)->upper->log;
}

/* What has to be durable is made so outside of the gate: where syncing takes its time, a snapshot
 * would not find the gate empty. */
static int gate_leave(struct image *image, uint64_t before, int r, unsigned flags, struct err *e)
{
	pthread_rwlock_unlock(&image->gate);
	caller_end(before);
	if (r < 0)
		return err_wrap(e, r, "%s: upper", image->config->path);
	return flags & UPPER_FUA ? image_flush(image, e) : 0;
}

static int check_change(const struct image *image, uint64_t n, uint64_t off, struct err *e)
{
	if (!image->writable)
		return err_set(e, EROFS, "%s: the image is read-only", image->config->path);
	return image_check_range(image, n, off, e);
}

int image_pwrite(struct image *image, const void *buf, size_t n, uint64_t off, unsigned flags,
		 struct err *e)
{
	int r = check_change(image, n, off, e);
	uint64_t before;

	if (r < 0)
		return r;
	r = upper_log_pwrite(gate_enter(image, &before), buf, n, off, flags & ~(unsigned)UPPER_FUA,
			     e);
	return gate_leave(image, before, r, flags, e);
}

int image_zero(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	int r = check_change(image, n, off, e);
	uint64_t before;

	if (r < 0)
		return r;
	r = upper_log_zero(gate_enter(image, &before), off, n, flags & ~(unsigned)UPPER_FUA, e);
	return gate_leave(image, before, r, flags, e);
}

int image_trim(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	int r = check_change(image, n, off, e);
	uint64_t before;

	if (r < 0)
		return r;
	r = upper_log_trim(gate_enter(image, &before), off, n, flags & ~(unsigned)UPPER_FUA, e);
	return gate_leave(image, before, r, flags, e);
}

/* Does not go through the gate, which a snapshot would otherwise wait long at.  The upper that is
 * in force now is the right one: what was acknowledged to one that it has replaced is durable. */
static int with_upper(struct image *image, int (*what)(struct upper_log *u, struct err *e),
		      struct err *e)
{
	unsigned seat;
	int r;

	if (!image->writable)
		return 0;
	seat = image_sit_down(image);
	r = what(image_stack(image)->upper->log, e);
	image_stand_up(image, seat);
	return r < 0 ? err_wrap(e, r, "%s: upper", image->config->path) : 0;
}

int image_flush(struct image *image, struct err *e)
{
	return with_upper(image, upper_log_flush, e);
}

int image_tidy(struct image *image, struct err *e)
{
	if (pthread_mutex_trylock(&image->snapshot_lock) == 0) {
		image_free_retired(image);
		pthread_mutex_unlock(&image->snapshot_lock);
	}
	return with_upper(image, upper_log_tidy, e);
}
