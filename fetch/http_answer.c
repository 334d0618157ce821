/* SPDX-License-Identifier: Apache-2.0 */
/* http_answer.c - headers of an answer, see http_answer.h. */
#include "fetch/http_answer.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum { DELAY_MAX = 24 * 60 * 60 }; /* s */

void http_answer_release(struct http_answer *a)
{
	free(a->location);
	free(a->etag);
	free(a->digest);
	free(a->link);
	challenge_release(&a->challenge);
	*a = (struct http_answer){ 0 };
}

/* The decimal number at *p, which is moved behind it.  False: no digit, or over 2^63. */
static bool take_number(const char **p, uint64_t *out)
{
	const char *begin = *p;
	uint64_t v = 0;

	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (v > (UINT64_MAX >> 1) / 10 - 1)
			return false;
		v = v * 10 + (uint64_t)(**p - '0');
	}
	*out = v;
	return *p > begin;
}

static bool take_word(const char **p, const char *word)
{
	size_t n = strlen(word);

	if (strncasecmp(*p, word, n) != 0)
		return false;
	*p += n;
	return true;
}

/* "bytes 0-16383/1474560", the total also '*'; "bytes * /1474560" (without the space) comes with
 * 416 and tells no range. */
static int take_range(struct http_answer *a, const char *value, struct err *e)
{
	const char *p = value;
	uint64_t first, last, total = UINT64_MAX;

	if (take_word(&p, "bytes */"))
		return 0;
	p = value;
	if (!take_word(&p, "bytes ") || !take_number(&p, &first) || !take_word(&p, "-") ||
	    !take_number(&p, &last) || !take_word(&p, "/") ||
	    (!take_word(&p, "*") && !take_number(&p, &total)) || *p != '\0' || last < first)
		return err_set(e, EPROTO, "header 'Content-Range: %.80s' makes no sense", value);
	a->has_range = true;
	a->first = first;
	a->last = last;
	a->total = total;
	return 0;
}

static int take_length(struct http_answer *a, const char *value, struct err *e)
{
	const char *p = value;

	a->has_length = take_number(&p, &a->length) && *p == '\0';
	if (!a->has_length)
		return err_set(e, EPROTO, "header 'Content-Length: %.80s' makes no sense", value);
	return 0;
}

bool http_answer_parse_delay(const char *value, unsigned *seconds)
{
	const char *p = value;
	uint64_t v;
	int64_t date, now = clock_date();

	if (take_number(&p, &v) && *p == '\0') {
		*seconds = (unsigned)min_u64(v, DELAY_MAX);
		return true;
	}
	date = curl_getdate(value, NULL);
	if (date < 0)
		return false;
	*seconds = date > now ? (unsigned)min_u64((uint64_t)(date - now), DELAY_MAX) : 0;
	return true;
}

static int take_copy(char **to, const char *value, struct err *e)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* Whether a list names a coding of the registry of RFC 9110, 8.4.1, which changes the bytes. Stores
 * repeat whatever an upload said of itself, as "aws-chunked" or "binary": that changes nothing. */
static bool names_coding(const char *list)
{
	static const char *const codings[] = { "aes128gcm",    "br",	     "compress", "dcb",
					       "dcz",	       "deflate",    "exi",	 "gzip",
					       "pack200-gzip", "x-compress", "x-gzip",	 "zstd" };
	size_t i, n;

	for (; *list != '\0'; list += n) {
		list += strspn(list, ", \t");
		n = strcspn(list, ", \t");
		for (i = 0; i < sizeof codings / sizeof *codings; i++)
			if (strlen(codings[i]) == n && strncasecmp(list, codings[i], n) == 0)
				return true;
	}
	return false;
}

static int take_header(struct http_answer *a, const char *name, const char *value, struct err *e)
{
	if (strcasecmp(name, "content-length") == 0)
		return take_length(a, value, e);
	if (strcasecmp(name, "content-range") == 0)
		return take_range(a, value, e);
	if (strcasecmp(name, "location") == 0)
		return take_copy(&a->location, value, e);
	if (strcasecmp(name, "etag") == 0)
		return take_copy(&a->etag, value, e);
	if (strcasecmp(name, "docker-content-digest") == 0)
		return take_copy(&a->digest, value, e);
	if (strcasecmp(name, "link") == 0)
		return take_copy(&a->link, value, e);
	if (strcasecmp(name, "www-authenticate") == 0)
		(void)challenge_parse(value, &a->challenge, NULL); /* none is what we know then */
	if (strcasecmp(name, "retry-after") == 0)
		a->has_retry_after = http_answer_parse_delay(value, &a->retry_after);
	if (strcasecmp(name, "content-encoding") == 0)
		a->encoded = names_coding(value) || a->encoded;
	return 0;
}

/* "HTTP/1.1 206 Partial Content", "HTTP/2 200" */
static bool take_status(struct http_answer *a, const char *line)
{
	const char *p = line;
	uint64_t status;

	if (!take_word(&p, "HTTP/"))
		return false;
	p += strcspn(p, " ");
	p += strspn(p, " ");
	http_answer_release(a);
	if (take_number(&p, &status) && status < 1000)
		a->status = (unsigned)status;
	return true;
}

int http_answer_take(struct http_answer *a, const char *line, size_t n, struct err *e)
{
	AUTO_FREE char *copy = strndup(line, n);
	char *value, *end, *p;

	if (!copy)
		return err_set(e, ENOMEM, "out of memory");
	for (p = end = copy; *p != '\0'; p++)
		if (!strchr(" \t\r\n", *p))
			end = p + 1;
	*end = '\0';
	if (take_status(a, copy))
		return 0;
	value = strchr(copy, ':');
	if (!value)
		return 0;
	*value++ = '\0';
	value += strspn(value, " \t");
	return take_header(a, copy, value, e);
}
