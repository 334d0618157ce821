/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - counting, and the file that it is written to, see stats.h. */
#include "fetch/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "fetch/counters.h"

const unsigned counters_codes[COUNTERS_CODES] = {
	200, 206, 301, 302, 303, 304, 307, 308, 400, 401,
	403, 404, 408, 416, 429, 500, 502, 503, 504,
};

const struct counters_bound counters_bounds[COUNTERS_BOUNDS] = {
	{ 500, "0.0005" },  { 1000, "0.001" },	{ 2500, "0.0025" }, { 5000, "0.005" },
	{ 10000, "0.01" },  { 25000, "0.025" }, { 50000, "0.05" },  { 100000, "0.1" },
	{ 250000, "0.25" }, { 500000, "0.5" },	{ 1000000, "1" },   { 2500000, "2.5" },
	{ 5000000, "5" },   { 10000000, "10" }, { 30000000, "30" }, { 60000000, "60" },
};

/* ---- counting ---- */

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void stats_add(struct stats *s, enum stats_count which, uint64_t n)
{
	if (s)
		add(&s->counts[which], n);
}

void stats_set(struct stats *s, enum stats_count which, uint64_t n)
{
	if (s)
		atomic_store_explicit(&s->counts[which], n, memory_order_relaxed);
}

uint64_t stats_get(const struct stats *s, enum stats_count which)
{
	return s ? counters_get(&s->counts[which]) : 0;
}

static size_t status_index(unsigned status)
{
	size_t i;

	for (i = 0; i < COUNTERS_CODES; i++)
		if (counters_codes[i] == status)
			return i;
	if (status == 0)
		return COUNTERS_NO_ANSWER;
	return COUNTERS_CODES + max_u64(1, min_u64(status / 100, COUNTERS_CLASSES)) - 1;
}

void stats_request(struct stats *s, unsigned status)
{
	if (s)
		add(&s->requests[status_index(status)], 1);
}

void stats_demand(struct stats *s, uint64_t microseconds)
{
	size_t i = 0;

	if (!s)
		return;
	while (i < COUNTERS_BOUNDS && microseconds > counters_bounds[i].microseconds)
		i++;
	add(&s->demand[i], 1);
	add(&s->demand_time, microseconds);
}

/* ---- groups ---- */

static char *copy_name(const char *name)
{
	size_t room = 4 * strlen(name) + 1, used = 0;
	char *out = malloc(room);
	uint32_t code;

	while (out && *name != '\0') {
		size_t n = text_decode(name, &code);

		if (n > 0)
			memcpy(out + used, name, n);
		else
			snprintf(out + used, room - used, "\\x%02x", (uint8_t)*name);
		used += n > 0 ? n : 4;
		name += n > 0 ? n : 1;
	}
	if (out)
		out[used] = '\0';
	return out;
}

/* Zeroed memory of `size` bytes that begins with a struct stats of this name. */
static void *stats_new(size_t size, const char *name)
{
	struct stats *s = aligned_alloc(COUNTERS_LINE, size);

	if (!s)
		return NULL;
	memset(s, 0, size);
	s->name = copy_name(name);
	if (!s->name)
		free(TAKE_PTR(s));
	return s;
}

int stats_group_open(const char *name, struct stats_group **out, struct err *e)
{
	struct stats_group *g = stats_new(sizeof *g, name);

	if (!g)
		return err_set(e, ENOMEM, "%s: out of memory", name);
	*out = g;
	return 0;
}

int stats_group_add_layer(struct stats_group *g, const char *name, struct stats **out,
			  struct err *e)
{
	struct stats *s = stats_new(sizeof *s, name);

	if (!s)
		return err_set(e, ENOMEM, "%s: out of memory", name);
	*(g->top ? &g->top->above : &g->bottom) = s;
	g->top = s;
	*out = s;
	return 0;
}

struct stats *stats_group_image(struct stats_group *g)
{
	return &g->image;
}

void stats_group_close(struct stats_group *g)
{
	struct stats *s, *above;

	if (!g)
		return;
	for (s = g->bottom; s; s = above) {
		above = s->above;
		free(s->name);
		free(s);
	}
	free(g->image.name);
	free(g);
}

/* ---- writing ---- */

static int write_output(const char *text, size_t n, struct err *e)
{
	if (fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0)
		return 0;
	return err_set(e, errno, "standard output: %s", strerror(errno));
}

int stats_write(struct stats_group *const *groups, size_t count, const char *path, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t length = strlen(path), n;
	bool prometheus = length >= 5 && strcmp(path + length - 5, ".prom") == 0;
	int r = stats_format(groups, count, prometheus, &text, &n, e);

	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return strcmp(path, "-") == 0 ? write_output(text, n, e)
				      : io_replace_file(path, text, n, e);
}
