/* SPDX-License-Identifier: Apache-2.0 */
/* stats_format.c - statistics as Prometheus text and as JSON, see stats.h.
 *
 * A status that was never seen is left out of both. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/le.h"
#include "fetch/counters.h"
#include "fetch/stats.h"

struct values {
	uint64_t counts[STATS_COUNTS];
	uint64_t requests[COUNTERS_STATUSES];
	uint64_t demand[COUNTERS_BUCKETS];
	uint64_t demand_time;
};

/* Adds the counts from `first` on, and all the rest. */
static void values_add(struct values *v, const struct stats *s, unsigned first)
{
	size_t i;

	for (i = first; i < STATS_COUNTS; i++)
		v->counts[i] += counters_get(&s->counts[i]);
	for (i = 0; i < COUNTERS_STATUSES; i++)
		v->requests[i] += counters_get(&s->requests[i]);
	for (i = 0; i < COUNTERS_BUCKETS; i++)
		v->demand[i] += counters_get(&s->demand[i]);
	v->demand_time += counters_get(&s->demand_time);
}

static struct values layer_values(const struct stats *layer)
{
	struct values v = { 0 };

	values_add(&v, layer, 0);
	return v;
}

static struct values image_values(const struct stats_group *g)
{
	struct values v = { 0 };
	const struct stats *s;

	values_add(&v, &g->image, 0);
	for (s = g->bottom; s; s = s->above)
		values_add(&v, s, STATS_READ_BYTES + 1); /* the reads before are the clients' */
	return v;
}

enum { STATUS_TEXT = 16 };

static const char *status_text(size_t i, char out[STATUS_TEXT])
{
	if (i < COUNTERS_CODES)
		snprintf(out, STATUS_TEXT, "%u", counters_codes[i]);
	else if (i < COUNTERS_NO_ANSWER)
		snprintf(out, STATUS_TEXT, "other_%uxx", (unsigned)(i - COUNTERS_CODES + 1));
	else
		snprintf(out, STATUS_TEXT, "none");
	return out;
}

enum { REQUESTS = STATS_COUNTS, DEMAND, METRICS };

static const struct metric {
	const char *name; /* also the key in JSON */
	const char *suffix;
	const char *type;
	const char *help;
} metrics[METRICS] = {
	[STATS_READS] = { "reads", "_total", "counter", "Reads asked for." },
	[STATS_READ_BYTES] = { "read_bytes", "_total", "counter", "Bytes asked for." },
	[STATS_CACHE_HITS] = { "cache_hits", "_total", "counter",
			       "Reads that did not wait for the network." },
	[STATS_CACHE_MISSES] = { "cache_misses", "_total", "counter",
				 "Reads that waited for the network." },
	[STATS_FETCHED_BYTES] = { "fetched_bytes", "_total", "counter",
				  "Bytes of answers that arrived." },
	[STATS_RETRIES] = { "retries", "_total", "counter",
			    "Tries beyond the first of a request." },
	[STATS_CRC_DROPS] = { "crc_drops", "_total", "counter",
			      "Ranges that failed a checksum of the layer." },
	[STATS_CACHE_DROPS] = { "cache_drops", "_total", "counter",
				"Chunks of the cache that failed its own checksum." },
	[STATS_CACHE_ENABLED] = { "cache_enabled", "", "gauge",
				  "Layers of which fetched bytes are kept." },
	[STATS_DOWNLOAD_BYTES] = { "download_bytes", "", "gauge",
				   "Bytes that background download has." },
	[STATS_DOWNLOAD_TOTAL] = { "download_total_bytes", "", "gauge",
				   "Bytes that background download wants; 0 when it is off." },
	[REQUESTS] = { "requests", "_total", "counter",
		       "Finished requests by HTTP status; none when no answer came." },
	[DEMAND] = { "demand_read_seconds", "", "histogram",
		     "How long reads waited for the network." },
};

/* ---- Prometheus ---- */

/* One line's subject: a metric of an image, or of one of its layers. */
struct subject {
	const struct metric *metric;
	const struct stats_group *group;
	const struct stats *layer; /* NULL: the image */
	size_t number; /* of the layer, from the bottom */
};

static void put_quoted(FILE *f, const char *text)
{
	putc('"', f);
	for (; *text != '\0'; text++) {
		if (*text == '\\' || *text == '"')
			putc('\\', f);
		if (*text == '\n')
			fputs("\\n", f);
		else
			putc(*text, f);
	}
	putc('"', f);
}

/* Of layers the metrics have other names than of images: a sum over one of them counts nothing
 * twice. */
static void put_name(FILE *f, const struct metric *m, bool layers)
{
	fprintf(f, "overlaybd_%s%s%s", layers ? "layer_" : "", m->name, m->suffix);
}

/* NAME[PART]{LABELS[,KEY="VALUE"]} and a blank; `part` and `key` may be NULL. */
static void put_series(FILE *f, const struct subject *s, const char *part, const char *key,
		       const char *value)
{
	put_name(f, s->metric, s->layer);
	fprintf(f, "%s{image=", part ? part : "");
	put_quoted(f, s->group->image.name);
	if (s->layer) {
		fprintf(f, ",layer=\"%zu\",digest=", s->number);
		put_quoted(f, s->layer->name);
	}
	if (key)
		fprintf(f, ",%s=\"%s\"", key, value);
	fputs("} ", f);
}

static void put_requests(FILE *f, const struct subject *s, const struct values *v)
{
	char text[STATUS_TEXT];
	size_t i;

	for (i = 0; i < COUNTERS_STATUSES; i++) {
		if (v->requests[i] == 0)
			continue;
		put_series(f, s, NULL, "status", status_text(i, text));
		fprintf(f, "%" PRIu64 "\n", v->requests[i]);
	}
}

static void put_demand(FILE *f, const struct subject *s, const struct values *v)
{
	uint64_t count = 0;
	size_t i;

	for (i = 0; i < COUNTERS_BUCKETS; i++) {
		count += v->demand[i];
		put_series(f, s, "_bucket", "le",
			   i < COUNTERS_BOUNDS ? counters_bounds[i].seconds : "+Inf");
		fprintf(f, "%" PRIu64 "\n", count);
	}
	put_series(f, s, "_sum", NULL, NULL);
	fprintf(f, "%" PRIu64 ".%06" PRIu64 "\n", v->demand_time / 1000000,
		v->demand_time % 1000000);
	put_series(f, s, "_count", NULL, NULL);
	fprintf(f, "%" PRIu64 "\n", count);
}

static void put_subject(FILE *f, const struct subject *s, struct values v)
{
	ptrdiff_t which = s->metric - metrics;

	if (which == REQUESTS) {
		put_requests(f, s, &v);
	} else if (which == DEMAND) {
		put_demand(f, s, &v);
	} else {
		put_series(f, s, NULL, NULL, NULL);
		fprintf(f, "%" PRIu64 "\n", v.counts[which]);
	}
}

static void put_metric(FILE *f, const struct metric *m, bool layers,
		       struct stats_group *const *groups, size_t count)
{
	size_t i;

	fputs("# HELP ", f);
	put_name(f, m, layers);
	fprintf(f, " %s\n# TYPE ", m->help);
	put_name(f, m, layers);
	fprintf(f, " %s\n", m->type);
	for (i = 0; i < count; i++) {
		struct subject s = { .metric = m, .group = groups[i] };

		if (!layers)
			put_subject(f, &s, image_values(s.group));
		else
			for (s.layer = s.group->bottom; s.layer;
			     s.layer = s.layer->above, s.number++)
				put_subject(f, &s, layer_values(s.layer));
	}
}

static int put_prometheus(FILE *f, struct stats_group *const *groups, size_t count)
{
	size_t i;

	for (i = 0; i < METRICS; i++)
		put_metric(f, &metrics[i], false, groups, count);
	for (i = 0; i < METRICS; i++)
		put_metric(f, &metrics[i], true, groups, count);
	return 0;
}

/* ---- JSON ----
 *
 * A NULL that stands for a value runs out of memory upwards: adding it to something fails. */

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)min_u64(n, INT64_MAX));
}

static json_t *seconds(uint64_t microseconds)
{
	return json_real((double)microseconds / 1e6);
}

/* `value`, or NULL when putting it together failed. */
static json_t *unless(int failed, json_t *value)
{
	if (!failed)
		return value;
	json_decref(value);
	return NULL;
}

static json_t *counters_json(const struct values *v)
{
	json_t *o = json_object();
	int r = 0;
	size_t i;

	for (i = 0; i < STATS_COUNTS; i++)
		r |= json_object_set_new(o, metrics[i].name, number(v->counts[i]));
	return unless(r, o);
}

static json_t *requests_json(const struct values *v)
{
	char text[STATUS_TEXT];
	json_t *o = json_object();
	int r = 0;
	size_t i;

	for (i = 0; i < COUNTERS_STATUSES; i++)
		if (v->requests[i] > 0)
			r |= json_object_set_new(o, status_text(i, text), number(v->requests[i]));
	return unless(r, o);
}

/* The bucket without a bound is the count of all. */
static json_t *demand_json(const struct values *v)
{
	json_t *o = json_object(), *buckets = json_array();
	uint64_t count = 0;
	int r = 0;
	size_t i;

	for (i = 0; i < COUNTERS_BOUNDS; i++) {
		json_t *bucket = json_object();

		count += v->demand[i];
		r |= json_object_set_new(bucket, "le", seconds(counters_bounds[i].microseconds));
		r |= json_object_set_new(bucket, "count", number(count));
		r |= json_array_append_new(buckets, bucket);
	}
	r |= json_object_set_new(o, "count", number(count + v->demand[COUNTERS_BOUNDS]));
	r |= json_object_set_new(o, "sum_seconds", seconds(v->demand_time));
	r |= json_object_set_new(o, "buckets", buckets);
	return unless(r, o);
}

static json_t *values_json(const char *name, struct values v)
{
	json_t *o = json_object();
	int r = 0;

	r |= json_object_set_new(o, "name", json_string(name));
	r |= json_object_set_new(o, "counters", counters_json(&v));
	r |= json_object_set_new(o, "requests", requests_json(&v));
	r |= json_object_set_new(o, "demand_reads", demand_json(&v));
	return unless(r, o);
}

static json_t *group_json(const struct stats_group *g)
{
	json_t *o = values_json(g->image.name, image_values(g)), *layers = json_array();
	const struct stats *s;
	int r = 0;

	for (s = g->bottom; s; s = s->above)
		r |= json_array_append_new(layers, values_json(s->name, layer_values(s)));
	r |= json_object_set_new(o, "layers", layers);
	return unless(r, o);
}

static int put_json(FILE *f, struct stats_group *const *groups, size_t count)
{
	json_t *o = json_object(), *images = json_array();
	int r = 0;
	size_t i;

	for (i = 0; i < count; i++)
		r |= json_array_append_new(images, group_json(groups[i]));
	r |= json_object_set_new(o, "images", images);
	/* In ASCII alone: it may go to a terminal, whatever the names hold. */
	if (r == 0)
		r = json_dumpf(o, f, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
	json_decref(o);
	putc('\n', f);
	return r;
}

/* ---- both ---- */

int stats_format(struct stats_group *const *groups, size_t count, bool prometheus, char **out,
		 size_t *n, struct err *e)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);
	int r = -1;

	if (f) {
		r = (prometheus ? put_prometheus : put_json)(f, groups, count);
		r |= ferror(f);
		r |= fclose(f);
	}
	if (r != 0 || !text) {
		free(text);
		return err_set(e, ENOMEM, "statistics: out of memory");
	}
	*out = text;
	*n = length;
	return 0;
}
