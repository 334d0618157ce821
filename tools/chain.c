/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c - opening a layer file stage by stage, see chain.h. */
#include "tools/chain.h"

#include <errno.h>
#include <string.h>

#include "core/base/le.h"
#include "core/format.h"
#include "zfile/zfile.h"

int chain_open(const char *path, struct chain *c, struct err *e)
{
	struct chain t = { 0 };
	int r = source_open_file(path, &t.top, e);

	if (r < 0)
		return r;
	t.file_size = t.top->size;
	*c = t;
	return 0;
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

/* A tar header is known by its magic alone here: with a wrong checksum it is still no config. */
static bool looks_like_layer(const uint8_t raw[ZFORMAT_SPACE], size_t n)
{
	enum { USTAR = 257 };

	if (format_is_layer(raw, n))
		return true;
	return n == ZFORMAT_SPACE &&
	       (zformat_is_zfile(raw) || memcmp(raw + USTAR, "ustar", 5) == 0);
}

int chain_is_layer(const char *path, struct err *e)
{
	uint8_t raw[ZFORMAT_SPACE];
	struct source *s;
	size_t n;
	int r;

	r = source_open_file(path, &s, e);
	if (r < 0)
		return r;
	n = (size_t)min_u64(s->size, sizeof raw);
	r = source_pread(s, raw, n, 0, e);
	source_close(s);
	if (r < 0)
		return r;
	if (looks_like_layer(raw, n))
		return 1;
	if (memchr(raw, '\0', n))
		return err_set(e, EBADMSG,
			       "neither a layer (no tar, ZFile or LSMT magic) nor a config");
	return 0;
}
