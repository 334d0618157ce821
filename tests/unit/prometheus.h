/* SPDX-License-Identifier: Apache-2.0 */
/* prometheus.h - a strict reader of Prometheus' text format (version 0.0.4).
 *
 * Stricter than the format where scrapers differ: each metric is HELP, TYPE, then its lines without
 * another's between; no line twice; a counter ends in _total; no timestamps. */
#ifndef OVERLAYBD_TESTS_PROMETHEUS_H
#define OVERLAYBD_TESTS_PROMETHEUS_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/base/text.h"

enum { PROMETHEUS_LINES = 10000 };

struct prometheus {
	char *seen[PROMETHEUS_LINES]; /* names of metrics, then series: none may come twice */
	size_t seen_count;
	char family[128], type[16]; /* of the lines that come; type "" before TYPE */
	/* The histogram that is not yet at its _count. */
	char series[4096]; /* its labels without le; "" when there is none */
	double bound, count;
	bool sum;
};

static bool prometheus_is_new(struct prometheus *p, const char *text, size_t n)
{
	size_t i;

	for (i = 0; i < p->seen_count; i++)
		if (strlen(p->seen[i]) == n && memcmp(p->seen[i], text, n) == 0)
			return false;
	if (p->seen_count < PROMETHEUS_LINES)
		p->seen[p->seen_count++] = strndup(text, n);
	return true;
}

static const char *prometheus_name(const char *at, bool colons)
{
	if (isdigit((unsigned char)*at))
		return at;
	while (isalnum((unsigned char)*at) || *at == '_' || (colons && *at == ':'))
		at++;
	return at;
}

/* The quoted value at `at`, unescaped into out; NULL when it is none. */
static const char *prometheus_quoted(const char *at, char *out, size_t room)
{
	size_t used = 0;

	if (*at++ != '"')
		return NULL;
	while (*at != '"' && used + 1 < room) {
		if (*at == '\0' || (*at == '\\' && !strchr("\\\"n", at[1])))
			return NULL;
		if (*at == '\\') {
			at++;
			out[used++] = *at == 'n' ? '\n' : *at;
		} else {
			out[used++] = *at;
		}
		at++;
	}
	out[used] = '\0';
	return *at == '"' ? at + 1 : NULL;
}

/* {KEY="VALUE",...}: *le is set when that is a key, `others` gets the text of the rest. */
static const char *prometheus_labels(const char *at, char *le, char *others, size_t room)
{
	struct prometheus names = { .seen_count = 0 };
	char value[4096];
	size_t i;

	*le = *others = '\0';
	for (at++;; at++) {
		const char *begin = at, *end = prometheus_name(at, false);
		bool ok = end > at && *end == '=' &&
			  prometheus_is_new(&names, at, (size_t)(end - at));

		at = ok ? prometheus_quoted(end + 1, value, sizeof value) : NULL;
		if (at && strncmp(begin, "le=", 3) == 0)
			snprintf(le, 32, "%.31s", value);
		else if (at && strlen(others) + (size_t)(at - begin) + 2 < room)
			sprintf(others + strlen(others), "%.*s,", (int)(at - begin), begin);
		if (!at || *at != ',')
			break;
	}
	for (i = 0; i < names.seen_count; i++)
		free(names.seen[i]);
	return at && *at == '}' ? at + 1 : NULL;
}

static bool prometheus_number(const char *text, double *out)
{
	char *end;

	if (strcmp(text, "+Inf") != 0 && strspn(text, "0123456789.e+-") != strlen(text))
		return false;
	*out = strtod(text, &end);
	return end > text && *end == '\0';
}

/* A line of a histogram; what it is follows the metric's name. */
static const char *prometheus_histogram(struct prometheus *p, const char *part, const char *le,
					const char *labels, double value)
{
	double bound;

	if (strcmp(part, "_bucket") == 0) {
		if (!prometheus_number(le, &bound))
			return "a bucket without a bound";
		if (p->series[0] == '\0') {
			snprintf(p->series, sizeof p->series, "%s", labels);
			p->bound = -1;
			p->count = 0;
			p->sum = false;
		}
		if (strcmp(p->series, labels) != 0 || p->sum)
			return "a histogram between another's lines";
		if (bound <= p->bound || value < p->count)
			return "buckets do not ascend";
		p->bound = bound;
		p->count = value;
		return NULL;
	}
	if (le[0] != '\0' || strcmp(p->series, labels) != 0 || p->bound <= 1e300)
		return "a histogram without +Inf before its end";
	if (strcmp(part, "_sum") == 0 && !p->sum) {
		p->sum = true;
		return NULL;
	}
	if (strcmp(part, "_count") != 0 || !p->sum)
		return "not the lines of a histogram";
	p->series[0] = '\0';
	return value == p->count ? NULL : "_count is not the bucket +Inf";
}

static const char *prometheus_sample(struct prometheus *p, const char *line)
{
	const char *end = prometheus_name(line, true), *part = line + strlen(p->family);
	char le[32], labels[4096], suffix[16] = "";
	double value;

	if (p->type[0] == '\0' || strncmp(line, p->family, strlen(p->family)) != 0 || part > end)
		return "a line of no metric";
	snprintf(suffix, sizeof suffix, "%.*s", (int)(end - part), part);
	end = *end == '{' ? prometheus_labels(end, le, labels, sizeof labels) : NULL;
	if (!end || *end != ' ' || !prometheus_number(end + 1, &value) || value < 0)
		return "wrong labels or value";
	if (!prometheus_is_new(p, line, (size_t)(end - line)))
		return "a line twice";
	if (strcmp(p->type, "histogram") == 0)
		return prometheus_histogram(p, suffix, le, labels, value);
	return suffix[0] == '\0' && le[0] == '\0' ? NULL : "a line of no metric";
}

static const char *prometheus_line(struct prometheus *p, const char *line)
{
	const char *name = line + 7, *end;
	size_t n;

	if (strncmp(line, "# HELP ", 7) == 0) {
		end = prometheus_name(name, true);
		n = (size_t)(end - name);
		if (n == 0 || *end != ' ' || p->series[0] != '\0')
			return "wrong HELP";
		if (!prometheus_is_new(p, name, n))
			return "a metric twice";
		snprintf(p->family, sizeof p->family, "%.*s", (int)n, name);
		p->type[0] = '\0';
		return NULL;
	}
	if (strncmp(line, "# TYPE ", 7) != 0)
		return prometheus_sample(p, line);
	n = strlen(p->family);
	if (n == 0 || p->type[0] != '\0' || strncmp(name, p->family, n) != 0 || name[n] != ' ')
		return "wrong TYPE";
	snprintf(p->type, sizeof p->type, "%s", name + n + 1);
	if (strcmp(p->type, "counter") == 0)
		return n > 6 && strcmp(p->family + n - 6, "_total") == 0 ? NULL : "not _total";
	return strcmp(p->type, "gauge") == 0 || strcmp(p->type, "histogram") == 0 ? NULL
										  : "no type";
}

/* NULL when the text is right, else what is wrong with it. */
static const char *prometheus_check(const char *text)
{
	AUTO_FREE char *copy = strdup(text);
	AUTO_FREE struct prometheus *p = calloc(1, sizeof *p);
	const char *wrong = NULL;
	char *line, *end;
	uint32_t code;
	size_t i;

	if (!copy || !p)
		return "out of memory";
	for (line = copy; *line != '\0' && !wrong; line += i) {
		i = text_decode(line, &code);
		if (i == 0)
			wrong = "not UTF-8";
	}
	for (line = copy; *line != '\0' && !wrong; line = end + 1) {
		end = strchr(line, '\n');
		if (!end) {
			wrong = "no newline at the end";
			break;
		}
		*end = '\0';
		wrong = prometheus_line(p, line);
	}
	for (i = 0; i < p->seen_count; i++)
		free(p->seen[i]);
	return wrong ? wrong : p->series[0] != '\0' ? "a histogram without an end" : NULL;
}

#endif
