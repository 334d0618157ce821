/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c - opening a layer file stage by stage, see chain.h. */
#include "core/chain.h"

#include <errno.h>
#include <string.h>

#include "core/base/le.h"
#include "core/format.h"
#include "zfile/zfile.h"

int chain_open(const char *path, struct chain *c, struct err *e)
{
	struct source *file;
	int r = source_open_file(path, &file, e);

	if (r == 0)
		chain_begin(file, c);
	return r;
}

void chain_begin(struct source *bytes, struct chain *c)
{
	*c = (struct chain){ .top = bytes, .file_size = bytes->size };
}

int chain_enter_tar(struct chain *c, struct err *e)
{
	struct source *payload;
	int r = tar_parse(c->top, &c->tar, e);

	if (r != 0)
		return r > 0 ? 0 : r; /* bare */
	r = source_open_slice(c->top, c->tar.payload_offset, c->tar.payload_size, &payload, e);
	if (r < 0)
		return r;
	c->top = payload;
	c->in_tar = true;
	return 0;
}

int chain_enter_zfile(struct chain *c, struct err *e)
{
	struct source *original;
	int r = zfile_open(c->top, &original, e);

	if (r != 0)
		return r > 0 ? 0 : r; /* not compressed */
	c->top = original;
	c->in_zfile = true;
	c->zfile = *zfile_header(c->top);
	return 0;
}

int chain_open_all(const char *path, struct chain *c, struct err *e)
{
	int r = chain_open(path, c, e);

	if (r < 0)
		return r;
	r = chain_enter_tar(c, e);
	if (r == 0)
		r = chain_enter_zfile(c, e);
	if (r < 0)
		chain_close(c);
	return r;
}

void chain_close(struct chain *c)
{
	source_close(c->top);
	c->top = NULL;
}

enum { HEAD = 16 * 1024 }; /* bytes that hold what tells the stages */

/* The beginning of a stage: enough for each magic. */
struct beginning {
	uint8_t raw[ZFORMAT_SPACE];
	size_t n;
};

static int read_beginning(struct source *s, struct beginning *b, struct err *e)
{
	b->n = (size_t)min_u64(s->size, sizeof b->raw);
	return source_pread(s, b->raw, b->n, 0, e);
}

/* A tar header by its magic alone: with a wrong checksum it is not taken for one, but it is nothing
 * else either. */
static bool looks_like_tar(const struct beginning *b)
{
	enum { USTAR = 257 };

	return b->n == sizeof b->raw && memcmp(b->raw + USTAR, "ustar", 5) == 0;
}

int chain_find_layer(struct chain *c, struct err *e)
{
	struct beginning b;
	int r = read_beginning(c->top, &b, e);

	if (r < 0)
		return err_wrap(e, r, "LSMT header");
	if (format_is_layer(b.raw, b.n))
		return 0;
	if (!c->in_tar && !c->in_zfile && looks_like_tar(&b))
		return err_set(e, EBADMSG, "tar header: wrong checksum");
	r = err_set(e, EBADMSG, "not an overlaybd layer: %s",
		    c->in_zfile ? "no LSMT magic in the ZFile" : "neither LSMT nor ZFile magic");
	return c->in_tar || c->in_zfile ? 1 : r;
}

/* From wherever the chain is.  Sets *asked_again when the stage that failed has read again itself.
 */
static int go_on(struct chain *c, bool *asked_again, struct err *e)
{
	int r = 0;

	if (!c->in_tar && !c->in_zfile)
		r = chain_enter_tar(c, e);
	if (r == 0 && !c->in_zfile) {
		r = chain_enter_zfile(c, e);
		*asked_again = r < 0;
	}
	if (r == 0)
		r = chain_find_layer(c, e);
	return r > 0 ? -EBADMSG : r;
}

int chain_enter_layer(struct chain *c, struct err *e)
{
	bool asked_again = false;
	int r = go_on(c, &asked_again, e);
	unsigned again;

	for (again = 0; r == -EBADMSG && !asked_again && again < SOURCE_RETRIES; again++) {
		source_drop(c->top, 0, HEAD);
		r = go_on(c, &asked_again, e);
	}
	return r;
}

int chain_is_layer(const char *path, struct err *e)
{
	struct beginning b;
	struct source *s;
	int r;

	r = source_open_file(path, &s, e);
	if (r < 0)
		return r;
	r = read_beginning(s, &b, e);
	source_close(s);
	if (r < 0)
		return r;
	if (format_is_layer(b.raw, b.n) || looks_like_tar(&b) ||
	    (b.n == sizeof b.raw && zformat_is_zfile(b.raw)))
		return 1;
	if (memchr(b.raw, '\0', b.n))
		return err_set(e, EBADMSG,
			       "neither a layer (no tar, ZFile or LSMT magic) nor a config");
	return 0;
}
