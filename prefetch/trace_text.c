/* SPDX-License-Identifier: Apache-2.0 */
/* trace_text.c - see trace_text.h. */
#include "prefetch/trace_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/array.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/format.h"

enum {
	LINE_MAX_BYTES = 56, /* of a read: 20 + 10 + 11 digits, and what parts them */
	HEAD_MAX_BYTES = 256,
};

#define DISK_MAX (UINT64_C(1) << 54) /* sectors; a disk's size in bytes fits in 64 bits */

/* ---- writing ---- */

int trace_text_format(const struct trace *t, char **text, size_t *n, struct err *e)
{
	size_t room = HEAD_MAX_BYTES + t->count * LINE_MAX_BYTES, i;
	char *out = malloc(room), *p = out;

	if (!out)
		return err_set(e, ENOMEM, "out of memory");
	p += snprintf(p, room,
		      "# LBA, sectors of 512 bytes, milliseconds since the first read\n"
		      "image %s\ndisk %" PRIu64 "\n",
		      t->identity, t->disk_size);
	for (i = 0; i < t->count; i++) {
		const struct trace_read *read = &t->reads[i];

		p += snprintf(p, LINE_MAX_BYTES,
			      "%" PRIu64 " %" PRIu32 " %" PRIu32 ".%03" PRIu32 "\n", read->lba,
			      read->sectors, read->us / 1000, read->us % 1000);
	}
	*text = out;
	*n = (size_t)(p - out);
	return 0;
}

/* ---- reading ---- */

/* What is left of a line. */
struct cursor {
	const char *p, *end;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void skip_blanks(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\r'))
		c->p++;
}

static bool take_number(struct cursor *c, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;
	const char *begin = c->p;

	for (; c->p < c->end && is_digit(*c->p); c->p++) {
		uint64_t digit = (uint64_t)(*c->p - '0');

		if (value > max / 10 || digit > max - value * 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return c->p > begin;
}

/* Milliseconds, with up to three decimals, as microseconds. */
static bool take_time(struct cursor *c, uint32_t *out)
{
	uint64_t ms, us = 0, unit = 1000;

	if (!take_number(c, UINT32_MAX / 1000, &ms))
		return false;
	if (c->p < c->end && *c->p == '.')
		for (c->p++; c->p < c->end && is_digit(*c->p) && unit > 1; c->p++) {
			unit /= 10;
			us += (uint64_t)(*c->p - '0') * unit;
		}
	us += ms * 1000;
	*out = (uint32_t)us;
	return us <= UINT32_MAX;
}

static bool take_read(struct cursor *c, struct trace_read *out)
{
	uint64_t sectors;

	if (!take_number(c, DISK_MAX, &out->lba))
		return false;
	skip_blanks(c);
	if (!take_number(c, UINT32_MAX, &sectors) || sectors == 0)
		return false;
	out->sectors = (uint32_t)sectors;
	out->us = 0;
	skip_blanks(c);
	return c->p == c->end || take_time(c, &out->us);
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(c->end - c->p) <= n || memcmp(c->p, word, n) != 0 || c->p[n] != ' ')
		return false;
	c->p += n;
	skip_blanks(c);
	return true;
}

static bool take_identity(struct cursor *c, char out[DIGEST_TEXT])
{
	char text[DIGEST_TEXT] = "";

	if (c->end - c->p < DIGEST_TEXT - 1)
		return false;
	memcpy(text, c->p, DIGEST_TEXT - 1);
	c->p += DIGEST_TEXT - 1;
	if (!digest_is_valid(text))
		return false;
	memcpy(out, text, sizeof text);
	return true;
}

/* One line; a read is added to the trace, which has room. */
static bool take_line(struct cursor *c, struct trace *t)
{
	bool good;

	skip_blanks(c);
	if (c->p == c->end || *c->p == '#')
		return true;
	if (take_word(c, "image"))
		good = take_identity(c, t->identity);
	else if (take_word(c, "disk"))
		good = take_number(c, DISK_MAX * SECTOR, &t->disk_size) &&
		       t->disk_size % SECTOR == 0;
	else
		good = take_read(c, &t->reads[t->count++]);
	skip_blanks(c);
	return good && c->p == c->end;
}

static int parse_lines(const char *text, size_t n, struct trace *t, struct err *e)
{
	const char *end = text + n, *p = text;
	size_t number, room = 0;

	for (number = 1; p < end; number++) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		struct cursor line = { .p = p, .end = newline ? newline : end };
		struct trace_read *reads;

		if (t->count == TRACE_READS_MAX)
			return err_set(e, EBADMSG, "line %zu: more than %d reads", number,
				       TRACE_READS_MAX);
		reads = array_grow(t->reads, t->count, &room, sizeof *reads);
		if (!reads)
			return err_set(e, ENOMEM, "out of memory");
		t->reads = reads;
		if (!take_line(&line, t))
			return err_set(e, EBADMSG,
				       "line %zu: not 'LBA SECTORS [MILLISECONDS]', "
				       "'image SHA256' or 'disk BYTES'",
				       number);
		p = newline ? newline + 1 : end;
	}
	return 0;
}

static int check_reads(const struct trace *t, struct err *e)
{
	uint64_t sectors = t->disk_size > 0 ? t->disk_size / SECTOR : DISK_MAX;
	size_t i;

	for (i = 0; i < t->count; i++)
		if (!range_fits(t->reads[i].lba, t->reads[i].sectors, sectors))
			return err_set(e, EBADMSG,
				       "a read of %" PRIu32 " sectors at %" PRIu64
				       ", on a disk of %" PRIu64,
				       t->reads[i].sectors, t->reads[i].lba, sectors);
	return 0;
}

int trace_text_parse(const char *text, size_t n, struct trace *out, struct err *e)
{
	struct trace t = { 0 };
	int r = parse_lines(text, n, &t, e);

	if (r == 0)
		r = check_reads(&t, e);
	if (r < 0) {
		trace_release(&t);
		return r;
	}
	*out = t;
	return 0;
}
