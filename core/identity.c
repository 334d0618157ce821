/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c - see identity.h. */
#include "core/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum { PIECE = 256 * 1024 }; /* bytes */

static int digest_range(struct source *s, uint64_t off, struct digest *d, struct err *e)
{
	AUTO_FREE uint8_t *buf = malloc(PIECE);
	int r = buf ? 0 : err_set(e, ENOMEM, "out of memory");

	while (r == 0 && off < s->size) {
		size_t n = (size_t)min_u64(PIECE, s->size - off);

		r = source_pread(s, buf, n, off, e);
		if (r == 0)
			r = digest_update(d, buf, n, e);
		off += n;
	}
	return r;
}

/* The index and the trailer stand at the end of a sealed layer, in this order. */
static int digest_of_tail(struct source *data, char out[DIGEST_TEXT], struct err *e)
{
	struct format_header trailer;
	struct digest d;
	int r = layer_read_trailer(data, NULL, &trailer, e);

	if (r < 0)
		return r;
	r = digest_open(&d, e);
	if (r < 0)
		return r;
	r = digest_range(data, trailer.index_offset, &d, e);
	if (r == 0)
		r = digest_finish(&d, out, e);
	digest_close(&d);
	return r;
}

static int add_layer(struct digest *all, const struct image_layer *l, struct err *e)
{
	char tail[DIGEST_TEXT];
	const char *text = l->digest ? l->digest : tail;
	int r = l->digest ? 0 : digest_of_tail(l->layer.data, tail, e);

	if (r < 0)
		return err_wrap(e, r, "%s", l->path);
	r = digest_update(all, text, strlen(text), e);
	return r < 0 ? r : digest_update(all, "\n", 1, e);
}

int image_identity(struct image *image, char out[DIGEST_TEXT], struct err *e)
{
	struct digest all;
	int r = digest_open(&all, e);
	size_t i;

	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < image_layer_count(image); i++)
		if (!image_layer(image, i)->is_upper)
			r = add_layer(&all, image_layer(image, i), e);
	if (r == 0)
		r = digest_finish(&all, out, e);
	digest_close(&all);
	return r;
}
