/* SPDX-License-Identifier: Apache-2.0 */
/* image_snapshot.c - a live snapshot, see image_snapshot in image.h.
 *
 * The one moment in which it takes place is the renaming of the config file: before that the config
 * names the old pair of files, which is whole; after it the sealed layer and the fresh pair, which
 * are.  No change is acknowledged in the fresh pair before.  So the order is
 *
 *   flush, without keeping anybody waiting;
 *   make the fresh pair, durable, and the new text of the config;
 *   writers wait: flush the rest, append index and trailer to the old data file, link the layer,
 *     replace the config, switch in memory;
 *   remove the old names;
 *   merge the new layer into the index: until then the old upper is read where it is (frozen).
 *
 * What a dead process leaves behind are a second name of the data file, a fresh pair without a
 * record, or old names that no config uses.  The first two would be in the way of the next
 * snapshot, which knows them and removes them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "core/config_edit.h"
#include "core/image_private.h"
#include "core/upper_lock.h"
#include "core/upper_names.h"
#include "core/upper_seal.h"

enum {
	NAMES = 10000, /* of fresh pairs that are tried */
	FLUSHES = 5, /* before writers are kept waiting */
	SHORT_FLUSH = 20, /* ms; one that takes no longer leaves little for the next */
	GATE_WAIT = 200, /* ms that a try to close the gate may keep writers waiting */
	GATE_TRIES = 25,
};

struct snapshot {
	struct image *image;
	const char *layer;
	struct image_upper *old, *fresh;
	struct stack *next; /* the stack with both, not yet in force */
	char *text, *new_text; /* of the config */
	size_t n, new_n;
	bool linked; /* `layer` is there */
	bool sealed; /* the old data file has index and trailer */
	bool replaced; /* the config names the fresh pair */
};

/* ---- what was replaced ---- */

static void free_stack(struct stack *stack)
{
	if (!stack)
		return;
	free(stack->layers);
	free(stack);
}

/* The layers are in the stack that is in force too. */
static void free_one(struct image_retired *r)
{
	if (r->owns_index)
		index_close(r->stack->index);
	free_stack(r->stack);
	if (r->upper)
		image_end_upper(r->upper);
	free(r);
}

void image_free_retired(struct image *image)
{
	struct image_retired **at = &image->retired;
	uint64_t epoch = image->retired ? upper_readers_advance(&image->readers) : 0;

	while (*at) {
		struct image_retired *r = *at;

		if (epoch < r->epoch + 2) {
			at = &r->older;
			continue;
		}
		*at = r->older;
		free_one(r);
	}
}

/* Puts a stack in force, with the gate closed, and keeps the one before for those who look at it.
 */
static void put_in_force(struct image *image, struct stack *stack, struct image_retired *old)
{
	old->stack = image_stack(image);
	atomic_store(&image->stack, stack);
	old->epoch = atomic_load(&image->readers.epoch);
	old->older = image->retired;
	image->retired = old;
}

/* ---- the gate ---- */

/* A writer may wait for the network: others must not wait long for that one. */
static int close_gate(struct image *image, struct err *e)
{
	struct timespec until;
	unsigned try;

	for (try = 0; try < GATE_TRIES; try++) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += GATE_WAIT * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		if (pthread_rwlock_timedwrlock(&image->gate, &until) == 0)
			return 0;
		clock_sleep(GATE_WAIT);
	}
	return err_set(e, EBUSY, "a write does not end; try again later");
}

/* ---- before: nobody waits ---- */

static int check_image(const struct image *image, struct err *e)
{
	const struct image_config *c = image->config;

	if (!image->writable)
		return err_set(e, EROFS, "the image has no upper that is written to");
	if (c->upper_is_option || c->path[0] != '/')
		return err_set(e, EINVAL,
			       "the %s came from the command line: a snapshot needs a config file "
			       "that names the layers and the upper",
			       c->path[0] != '/' ? "image" : "upper");
	return 0;
}

/* Whether `layer`, a name in `folder`, is the data file's own, however it is spelled.  When that
 * cannot be told, it may be. */
static bool is_own_name(const char *data_path, const char *layer, const struct stat *folder)
{
	AUTO_FREE char *data = file_ops_system.true_name(data_path);
	AUTO_FREE char *parent = data ? io_parent(data) : NULL;
	struct stat st;

	if (!parent || stat(parent, &st) < 0)
		return true;
	return st.st_dev == folder->st_dev && st.st_ino == folder->st_ino &&
	       strcmp(strrchr(data, '/'), strrchr(layer, '/')) == 0;
}

/* Another name of the data file is what a snapshot that was cut short has left. */
static int check_layer_name(const struct snapshot *s, struct err *e)
{
	AUTO_FREE char *folder = s->layer[0] == '/' ? io_parent(s->layer) : NULL;
	struct stat data, there, parent;
	int r;

	if (s->layer[0] != '/')
		return err_set(e, EINVAL, "'%s' is not an absolute path", s->layer);
	if (!folder)
		return err_set(e, ENOMEM, "out of memory");
	r = upper_names_refuse_kept(s->old->data_path, s->layer, e);
	if (r < 0)
		return r;
	if (stat(s->old->data_path, &data) < 0)
		return err_set(e, errno, "%s: %s", s->old->data_path, strerror(errno));
	if (stat(folder, &parent) < 0)
		return err_set(e, errno, "%s: %s", folder, strerror(errno));
	if (parent.st_dev != data.st_dev)
		return err_set(e, EXDEV,
			       "%s: the layer has to lie on the file system of %s, of which it "
			       "becomes the name",
			       s->layer, s->old->data_path);
	if (lstat(s->layer, &there) < 0)
		return errno == ENOENT ? 0 : err_set(e, errno, "%s: %s", s->layer, strerror(errno));
	if (there.st_dev != data.st_dev || there.st_ino != data.st_ino ||
	    is_own_name(s->old->data_path, s->layer, &parent))
		return err_set(e, EEXIST, "%s: %s", s->layer, strerror(EEXIST));
	r = file_ops_system.unlink(s->layer);
	return r < 0 ? err_set(e, -r, "%s: %s", s->layer, strerror(-r)) : 0;
}

/* Holds nothing but a header and, in an index file that was opened, what says so. */
static bool is_empty(const char *path)
{
	enum { MARKS = 2 * FORMAT_ENTRY };
	struct stat st;

	return stat(path, &st) < 0 ? errno == ENOENT : st.st_size <= FORMAT_SPACE + MARKS;
}

/* Removes what a snapshot of this upper that was cut short has left under these names. */
static void remove_leftover(const struct snapshot *s, const char *data, const char *index)
{
	const char *uuid = upper_log_header(s->old->log)->uuid;
	struct format_header header = { 0 };
	struct source *file = NULL;
	bool ours = false;
	int fd;

	if (!is_empty(data) || !is_empty(index))
		return;
	fd = upper_lock_open(NULL, data, O_RDWR, NULL);
	if (fd < 0)
		return;
	if (upper_file_source(&file_ops_system, fd, &file, NULL) == 0)
		ours = file->size == 0 ||
		       (format_read_header(&header, file, 0, FORMAT_PART_LOG_DATA, NULL) == 0 &&
			strcasecmp(header.parent_uuid, uuid) == 0);
	source_close(file);
	if (ours) {
		(void)file_ops_system.unlink(index);
		(void)file_ops_system.unlink(data);
	}
	close(fd);
}

/* What not everybody could read stays so. */
static int open_pair(struct snapshot *s, const char *data, const char *index, struct err *e)
{
	int r = image_open_log(s->image, data, index, 0, 0, &s->fresh, e);

	return r < 0 ? r : upper_log_make_like(s->fresh->log, s->old->log, e);
}

/* -EEXIST: somebody else's files have these names. */
static int make_pair(struct snapshot *s, const char *data, const char *index, struct err *e)
{
	const char *uuid = upper_log_header(s->old->log)->uuid;
	int r = upper_log_create(NULL, data, index, s->image->size, NULL, uuid, e);

	if (r == -EEXIST) {
		remove_leftover(s, data, index);
		r = upper_log_create(NULL, data, index, s->image->size, NULL, uuid, e);
	}
	if (r < 0)
		return r;
	r = open_pair(s, data, index, e);
	if (r < 0) {
		(void)file_ops_system.unlink(index);
		(void)file_ops_system.unlink(data);
	}
	return r;
}

/* The fresh pair is OLD-1.data and OLD-1.index, then -2 and so on. */
static int make_fresh(struct snapshot *s, struct err *e)
{
	unsigned number, end;
	size_t stem = upper_names_stem(s->old->data_path, &number);
	int r = -EEXIST;

	for (end = number + NAMES; r == -EEXIST && number++ < end;) {
		AUTO_FREE char *data =
			text_format("%.*s-%u.data", (int)stem, s->old->data_path, number);
		AUTO_FREE char *index =
			text_format("%.*s-%u.index", (int)stem, s->old->data_path, number);

		if (!data || !index)
			return err_set(e, ENOMEM, "out of memory");
		r = make_pair(s, data, index, e);
	}
	return r;
}

static int load_config(const struct snapshot *s, char **text, size_t *n, struct err *e)
{
	const char *path = s->image->config->path;
	int r = io_read_file(path, YAML_MAX_INPUT, text, n, e);

	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

static bool same_text(const char *a, size_t a_n, const char *b, size_t b_n)
{
	return a_n == b_n && memcmp(a, b, a_n) == 0;
}

/* Somebody may have edited the file since it was read. */
static int check_upper(const struct snapshot *s, struct err *e)
{
	static const struct config_options no_service = { .service = "none" };
	const char *path = s->image->config->path;
	struct image_config *c;
	int r = config_parse(path, s->text, s->n, &no_service, &c, e);

	if (r < 0)
		return r;
	if (!c->upper_data || strcmp(c->upper_data, s->old->data_path) != 0 ||
	    strcmp(c->upper_index, s->old->index_path) != 0)
		r = err_set(e, EINVAL, "%s: it does not name the upper that is served, %s", path,
			    s->old->data_path);
	config_free(c);
	return r;
}

static int make_text(struct snapshot *s, struct err *e)
{
	struct config_change change = {
		.layer = s->layer,
		.data = s->fresh->data_path,
		.index = s->fresh->index_path,
	};

	return config_edit(s->image->config->path, s->text, s->n, &change, &s->new_text, &s->new_n,
			   e);
}

static int make_next(struct snapshot *s, struct err *e)
{
	const struct stack *now = image_stack(s->image);
	size_t n = now->layer_count;

	s->next = calloc(1, sizeof *s->next);
	if (s->next)
		s->next->layers = calloc(n + 1, sizeof *s->next->layers);
	if (!s->next || !s->next->layers)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(s->next->layers, now->layers, n * sizeof *now->layers);
	s->next->layers[n] = &s->fresh->layer;
	s->next->layer_count = n + 1;
	s->next->index = now->index;
	s->next->frozen = s->old;
	s->next->upper = s->fresh;
	return 0;
}

static int flush_most(struct snapshot *s, struct err *e)
{
	uint64_t began;
	unsigned i;
	int r = 0;

	for (i = 0; r == 0 && i < FLUSHES; i++) {
		began = clock_ms();
		r = upper_log_flush(s->old->log, e);
		if (clock_ms() - began <= SHORT_FLUSH)
			break;
	}
	return r;
}

static int prepare(struct snapshot *s, struct err *e)
{
	int r = check_layer_name(s, e);

	if (r == 0)
		r = load_config(s, &s->text, &s->n, e);
	if (r == 0)
		r = check_upper(s, e);
	if (r == 0)
		r = make_fresh(s, e);
	if (r == 0)
		r = make_text(s, e);
	if (r == 0)
		r = make_next(s, e);
	return r < 0 ? r : flush_most(s, e);
}

/* ---- while writers wait ---- */

static int link_layer(struct snapshot *s, struct err *e)
{
	int r = upper_log_link(s->old->log, s->layer, e);

	if (r < 0)
		return r;
	s->linked = true;
	return upper_file_sync_folder(&file_ops_system, s->layer, e);
}

/* After a failed try.  When nobody can tell, the config may name the fresh pair. */
static bool may_be_replaced(const struct snapshot *s, const struct stat *before)
{
	AUTO_FREE char *now = NULL;
	struct stat st;
	size_t n;

	if (stat(s->image->config->path, &st) == 0 && st.st_dev == before->st_dev &&
	    st.st_ino == before->st_ino)
		return false;
	return load_config(s, &now, &n, NULL) < 0 || same_text(now, n, s->new_text, s->new_n);
}

/* 1: the file is the new one, but may be the old one again after power loss. */
static int replace_config(struct snapshot *s, struct err *e)
{
	const char *path = s->image->config->path;
	AUTO_FREE char *now = NULL;
	struct stat before;
	size_t n;
	int r = stat(path, &before) < 0 ? err_set(e, errno, "%s: %s", path, strerror(errno)) : 0;

	if (r == 0)
		r = load_config(s, &now, &n, e);
	if (r < 0)
		return r;
	if (!same_text(now, n, s->text, s->n))
		return err_set(e, EBUSY, "%s: somebody changes it: try again", path);
	r = io_replace_file(path, s->new_text, s->new_n, e);
	s->replaced = r == 0 || may_be_replaced(s, &before);
	return r < 0 && s->replaced ? 1 : r;
}

static int switch_files(struct snapshot *s, struct err *e)
{
	int r = upper_log_flush(s->old->log, e);

	if (r == 0)
		r = upper_seal_log(s->old->log, e);
	if (r < 0)
		return r;
	s->sealed = true;
	r = link_layer(s, e);
	return r < 0 ? r : replace_config(s, e);
}

/* What is written from now on goes where it would have gone. */
static void take_back(struct snapshot *s)
{
	struct err e;

	if (s->linked)
		(void)file_ops_system.unlink(s->layer);
	if (s->sealed && upper_seal_undo(s->old->log, &e) < 0)
		log_warn("%s: %s", s->image->config->path, e.msg);
}

static int switch_over(struct snapshot *s, uint64_t *blocked, struct err *e)
{
	struct image_retired *old = calloc(1, sizeof *old);
	uint64_t began = clock_ms();
	int r = old ? close_gate(s->image, e) : err_set(e, ENOMEM, "out of memory");

	if (r < 0) {
		free(old);
		return r;
	}
	r = switch_files(s, e);
	if (s->replaced) {
		if (r > 0)
			upper_log_fail(s->fresh->log);
		put_in_force(s->image, TAKE_PTR(s->next), old);
	} else {
		take_back(s);
		free(old);
	}
	pthread_rwlock_unlock(&s->image->gate);
	*blocked = clock_ms() - began;
	return r;
}

/* ---- after ---- */

static void drop_fresh(struct snapshot *s)
{
	AUTO_FREE char *data = NULL;
	AUTO_FREE char *index = NULL;

	free_stack(s->next);
	if (!s->fresh || s->replaced)
		return;
	data = TAKE_PTR(s->fresh->data_path);
	index = TAKE_PTR(s->fresh->index_path);
	image_drop_upper(s->fresh);
	(void)file_ops_system.unlink(index);
	(void)file_ops_system.unlink(data);
}

/* The index of all layers below, with that of the new one on top. */
static int merge(const struct stack *now, struct image_layer *l, struct index **out, struct err *e)
{
	size_t count = index_count(now->index);
	struct mapping_run runs[2] = {
		{ .maps = malloc(count * sizeof(struct mapping) + 1), .count = count }, l->layer.run
	};

	l->layer.run = (struct mapping_run){ 0 };
	if (!runs[0].maps) {
		free(runs[1].maps);
		return err_set(e, ENOMEM, "out of memory");
	}
	memcpy(runs[0].maps, index_maps(now->index), count * sizeof(struct mapping));
	return index_merge(runs, 2, NULL, out, e);
}

static int make_absorbed(const struct stack *now, struct image_layer *l, struct stack **out,
			 struct err *e)
{
	struct stack *stack = calloc(1, sizeof *stack);
	size_t n = now->layer_count;
	int r = stack ? merge(now, l, &stack->index, e) : err_set(e, ENOMEM, "out of memory");

	if (r == 0)
		stack->layers = calloc(n, sizeof *stack->layers);
	if (r == 0 && !stack->layers) {
		index_close(stack->index);
		r = err_set(e, ENOMEM, "out of memory");
	}
	if (r < 0) {
		free(stack);
		return r;
	}
	memcpy(stack->layers, now->layers, n * sizeof *now->layers);
	stack->layers[n - 2] = l;
	stack->layer_count = n;
	stack->upper = now->upper;
	*out = stack;
	return 0;
}

/* The frozen upper becomes a layer among the others. */
static int absorb(struct image *image, struct image_layer *l, struct image_retired *old,
		  struct err *e)
{
	struct stack *now = image_stack(image), *stack;
	int r = make_absorbed(now, l, &stack, e);

	if (r < 0)
		return r;
	r = close_gate(image, e);
	if (r < 0) {
		index_close(stack->index);
		free_stack(stack);
		return r;
	}
	old->upper = now->frozen;
	old->owns_index = true;
	put_in_force(image, stack, old);
	pthread_rwlock_unlock(&image->gate);
	return 0;
}

static int open_and_absorb(struct image *image, struct err *e)
{
	const char *path = image_stack(image)->frozen->layer_path;
	size_t number = image_stack(image)->layer_count - 2;
	struct image_layer *l = calloc(1, sizeof *l);
	struct image_retired *old = calloc(1, sizeof *old);
	char *name = path ? strdup(path) : NULL;
	int r = l && old && name ? image_open_layer_file(name, number, l, e)
				 : err_set(e, ENOMEM, "out of memory");

	if (r == 0) {
		l->path = l->own_path = name;
		r = absorb(image, l, old, e);
		if (r < 0)
			layer_close(&l->layer);
	}
	if (r == 0)
		return 0;
	free(l);
	free(old);
	free(name);
	return r;
}

/* The snapshot has taken place: what fails here fails for this process only. */
static void clean_up(struct snapshot *s)
{
	struct err e;

	upper_log_retire(s->old->log);
	s->old->layer_path = strdup(s->layer);
	if (upper_file_sync_folder(&file_ops_system, s->old->data_path, &e) < 0)
		log_warn("%s: %s", s->image->config->path, e.msg);
	if (open_and_absorb(s->image, &e) < 0)
		log_warn("%s: snapshot: the new layer is read through its log until the next "
			 "snapshot: %s",
			 s->image->config->path, e.msg);
	image_free_retired(s->image);
}

static int finish_last(struct image *image, struct err *e)
{
	const struct image_upper *frozen = image_stack(image)->frozen;

	if (!frozen)
		return 0;
	return frozen->layer_path ? open_and_absorb(image, e) : err_set(e, EBUSY, "see the log");
}

static int run(struct snapshot *s, uint64_t *blocked, struct err *e)
{
	int r;

	r = finish_last(s->image, e);
	if (r < 0)
		return err_wrap(e, r, "the last snapshot could not be finished");
	s->old = image_stack(s->image)->upper;
	r = prepare(s, e);
	if (r == 0)
		r = switch_over(s, blocked, e);
	drop_fresh(s);
	if (r == 0)
		clean_up(s);
	return r > 0 ? err_wrap(e, -EIO,
				"the snapshot is made, but power loss may undo it, so "
				"nothing more is written")
		     : r;
}

int image_snapshot(struct image *image, const char *layer, uint64_t *blocked, struct err *e)
{
	struct snapshot s = { .image = image, .layer = layer };
	int r = check_image(image, e);
	WITH_LOCK(&image->snapshot_lock);

	*blocked = 0;
	if (r == 0)
		r = run(&s, blocked, e);
	free(s.text);
	free(s.new_text);
	return r < 0 ? err_wrap(e, r, "%s: snapshot", image->config->path) : 0;
}

int image_upper_files(struct image *image, char **data, char **index, struct err *e)
{
	const struct image_upper *upper;
	unsigned seat;

	if (!image->writable)
		return err_set(e, EROFS, "%s: no upper is written to", image->config->path);
	seat = image_sit_down(image);
	upper = image_stack(image)->upper;
	*data = strdup(upper->data_path);
	*index = strdup(upper->index_path);
	image_stand_up(image, seat);
	if (*data && *index)
		return 0;
	free(*data);
	free(*index);
	return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
}
