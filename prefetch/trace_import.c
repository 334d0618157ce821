/* SPDX-License-Identifier: Apache-2.0 */
/* trace_import.c - see trace_import.h. */
#include "prefetch/trace_import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/identity.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_layers.h"
#include "prefetch/trace_paths.h"
#include "prefetch/trace_text.h"

/* The first byte of the first line that says something; NUL: there is none. */
static char first_of_text(const char *text, size_t n)
{
	const char *p = text, *end = text + n;

	while (p < end) {
		if (*p == '#') {
			p = memchr(p, '\n', (size_t)(end - p));
			if (!p)
				break;
		} else if (*p != ' ' && *p != '\t' && *p != '\r' && *p != '\n') {
			return *p;
		}
		p++;
	}
	return '\0';
}

enum trace_form trace_form_of(const void *bytes, size_t n)
{
	char first;

	if (n >= 8 && memcmp(bytes, TRACE_MAGIC, 8) == 0)
		return TRACE_FORM_OURS;
	if (trace_layers_are(bytes, n))
		return TRACE_FORM_LAYERS;
	first = first_of_text(bytes, n);
	if (first == '/')
		return TRACE_FORM_PATHS;
	return (first >= '0' && first <= '9') || first == 'i' || first == 'd' ? TRACE_FORM_TEXT
									      : TRACE_FORM_UNKNOWN;
}

static int import_ours(const void *bytes, size_t n, struct image *image, struct trace *out,
		       struct err *e)
{
	struct trace t;
	int r = trace_parse(bytes, n, &t, e);

	if (r < 0)
		return r;
	r = trace_check_image(&t, image, e);
	if (r < 0) {
		trace_release(&t);
		return r;
	}
	*out = t;
	return 0;
}

static int import_layers(const void *bytes, size_t n, struct image *image,
			 struct trace_notes *notes, struct trace *out, struct err *e)
{
	struct trace_layers_notes found;
	struct trace_layers layers;
	int r = trace_layers_parse(bytes, n, &layers, e);

	if (r < 0)
		return r;
	r = trace_layers_to_disk(&layers, image, out, &found, e);
	trace_layers_release(&layers);
	if (r < 0)
		return r;
	if (found.foreign > 0)
		trace_note(notes,
			   "%" PRIu64 " records of layers that the image does not have, or behind "
			   "their end, are skipped",
			   found.foreign);
	if (found.left_out > 0)
		trace_note(notes, "%" PRIu64 " records at the end are left out: more than %d reads",
			   found.left_out, TRACE_READS_MAX);
	return 0;
}

/* What the text does not say is the image's. */
static int import_text(const void *bytes, size_t n, struct image *image, struct trace *out,
		       struct err *e)
{
	uint64_t disk = image_size(image);
	struct trace t;
	size_t i;
	int r = trace_text_parse(bytes, n, &t, e);

	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < t.count; i++)
		if (t.reads[i].lba + t.reads[i].sectors > disk / SECTOR)
			r = err_set(e, EINVAL,
				    "a read of %" PRIu32 " sectors at %" PRIu64
				    ", beyond the image's disk of %" PRIu64,
				    t.reads[i].sectors, t.reads[i].lba, disk / SECTOR);
	if (t.disk_size == 0)
		t.disk_size = disk;
	if (r == 0 && t.identity[0] == '\0')
		r = image_identity(image, t.identity, e);
	if (r == 0)
		r = trace_check_image(&t, image, e);
	if (r < 0) {
		trace_release(&t);
		return r;
	}
	*out = t;
	return 0;
}

static int import_paths(const void *bytes, size_t n, struct image *image, struct trace_notes *notes,
			struct trace *out, struct err *e)
{
	struct trace_path_list list;
	int r = trace_path_list_parse(bytes, n, &list, e);

	if (r < 0)
		return r;
	r = trace_from_paths(image, list.paths, list.count, notes, out, e);
	trace_path_list_release(&list);
	return r;
}

int trace_import(const void *bytes, size_t n, struct image *image, struct trace_notes *notes,
		 struct trace *out, struct err *e)
{
	struct trace_notes log = { 0 };

	if (!notes)
		notes = &log;
	switch (trace_form_of(bytes, n)) {
	case TRACE_FORM_OURS:
		return import_ours(bytes, n, image, out, e);
	case TRACE_FORM_LAYERS:
		return import_layers(bytes, n, image, notes, out, e);
	case TRACE_FORM_TEXT:
		return import_text(bytes, n, image, out, e);
	case TRACE_FORM_PATHS:
		return import_paths(bytes, n, image, notes, out, e);
	default:
		return err_set(e, EINVAL,
			       "neither a trace nor a list of reads or of absolute paths");
	}
}

int trace_import_file(const char *path, struct image *image, struct trace_notes *notes,
		      struct trace *out, struct err *e)
{
	AUTO_FREE char *bytes = NULL;
	size_t n;
	int r = io_read_file(path, TRACE_IMPORT_MAX, &bytes, &n, e);

	if (r == 0)
		r = trace_import(bytes, n, image, notes, out, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}
