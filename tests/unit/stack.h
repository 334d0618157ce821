/* SPDX-License-Identifier: Apache-2.0 */
/* stack.h - images for the tests: bare layers of random ranges in a folder of their own. */
#ifndef OVERLAYBD_TESTS_STACK_H
#define OVERLAYBD_TESTS_STACK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/image.h"
#include "core/layer_writer.h"
#include "tests/unit/loops.h"

enum { STACK_LAYERS = 8 };

struct stack {
	char folder[32];
	struct image_config config;
	struct lower_config lowers[STACK_LAYERS];
};

static inline void stack_init(struct stack *s)
{
	static char path[] = "image.yaml";

	*s = (struct stack){ .folder = "/tmp/test-stack.XXXXXX", .config.path = path };
	s->config.lowers = s->lowers;
	if (!mkdtemp(s->folder))
		abort();
}

static inline void stack_release(struct stack *s)
{
	while (s->config.lower_count > 0) {
		char *file = s->lowers[--s->config.lower_count].file;

		unlink(file);
		free(file);
	}
	rmdir(s->folder);
}

/* A writer of the next layer, which stack_finish ends. */
static inline struct layer_writer *stack_add(struct stack *s, uint64_t sectors)
{
	struct layer_writer_options options = { .virtual_size = sectors * SECTOR };
	struct lower_config *lower = &s->lowers[s->config.lower_count];
	struct layer_writer *w;
	struct sink *sink;

	*lower = (struct lower_config){ 0 };
	if (s->config.lower_count == STACK_LAYERS ||
	    asprintf(&lower->file, "%s/%zu.obd", s->folder, s->config.lower_count) < 0 ||
	    sink_open_file(lower->file, &sink, NULL) < 0 ||
	    layer_writer_open(sink, &options, &w, NULL) < 0)
		abort();
	s->config.lower_count++;
	return w;
}

static inline void stack_finish(struct layer_writer *w)
{
	if (layer_writer_finish(w, NULL) < 0)
		abort();
	layer_writer_close(w);
}

/* A layer of random ranges, a third of them data and some zeroes. */
static inline void stack_add_random(struct stack *s, uint64_t sectors)
{
	struct layer_writer *w = stack_add(s, sectors);
	uint64_t lba = 0, longest = 1 + loops_random() % 100;
	uint8_t *bytes = malloc(longest * SECTOR);

	while (lba < sectors) {
		uint64_t n = 1 + loops_random() % longest, kind = loops_random() % 6;
		int r = 0;

		if (n > sectors - lba)
			n = sectors - lba;
		memset(bytes, (int)(loops_random() % 256), n * SECTOR);
		if (kind < 2)
			r = layer_writer_data(w, lba, bytes, n, NULL);
		else if (kind == 2)
			r = layer_writer_zeroes(w, lba, n, NULL);
		if (r < 0)
			abort();
		lba += n;
	}
	free(bytes);
	stack_finish(w);
}

static inline struct image *stack_open(struct stack *s)
{
	struct image *image;
	struct err e;

	if (image_open(&s->config, NULL, &image, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
	return image;
}

#endif
