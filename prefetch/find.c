/* SPDX-License-Identifier: Apache-2.0 */
/* find.c - see find.h. */
#include "prefetch/find.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "prefetch/trace_import.h"

enum { TRACE_BYTES_MAX = TRACE_HEADER + TRACE_READ * TRACE_READS_MAX };

/* Takes over the trace; *out has it when it fits. */
static int accept(struct trace *t, const char *identity, struct image *image, struct trace *out,
		  struct err *e)
{
	if (strcmp(t->identity, identity) != 0 || t->disk_size != image_size(image)) {
		trace_release(t);
		return err_set(e, EINVAL, "it is the trace of another image");
	}
	*out = *t;
	return 0;
}

int find_file(const char *path, const char *identity, struct image *image, struct trace *out,
	      struct err *e)
{
	struct trace t;
	int r = trace_load(path, &t, e);

	if (r < 0)
		return r;
	r = accept(&t, identity, image, out, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

int find_pushed(const char *identity, struct image *image, struct trace *out, struct err *e)
{
	AUTO_FREE char *bytes = NULL;
	struct trace t;
	size_t n;
	int r = image_find_artifact(image, FIND_ARTIFACT, TRACE_BYTES_MAX, &bytes, &n, e);

	if (r == 0)
		r = trace_parse(bytes, n, &t, e);
	if (r == 0)
		r = accept(&t, identity, image, out, e);
	return r < 0 ? err_wrap(e, r, "the registry's trace") : 0;
}

int find_acceleration(struct image *image, bool follows_paths, struct trace *out, struct err *e)
{
	AUTO_FREE char *bytes = NULL;
	size_t n;
	int r = image_read_acceleration(image, TRACE_IMPORT_MAX, &bytes, &n, e);

	if (r < 0)
		return r;
	/* Both come from the registry, the list and the file system: nobody here asked for it. */
	if (!follows_paths && trace_form_of(bytes, n) == TRACE_FORM_PATHS)
		r = err_set(e, EPERM,
			    "it is a list of paths, for which this server would have to parse the "
			    "image's file system: acceleration-paths=true allows that");
	else
		r = trace_import(bytes, n, image, NULL, out, e);
	return r < 0 ? err_wrap(e, r, "acceleration layer") : 0;
}
