/* SPDX-License-Identifier: Apache-2.0 */
/* reference.c - image names and blob addresses, see reference.h.
 *
 * A user who puts a name and password before the host is refused, and no message repeats them: of
 * a text with an '@' that does not begin a digest, only what follows the last one is quoted. */
#include "fetch/reference.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/address.h"

#define HUB "docker.io"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

enum { HOST_MAX = 255, REPOSITORY_MAX = 255, TAG_MAX = 128, QUOTED = 300 };

static int refuse(const char *what, const char *text, const char *why, struct err *e)
{
	const char *at = strchr(text, '@');

	if (at && strncmp(at, "@sha", 4) != 0)
		return err_set(e, EINVAL, "%s '...%.*s': %s", what, QUOTED, strrchr(text, '@'),
			       why);
	return err_set(e, EINVAL, "%s '%.*s': %s", what, QUOTED, text, why);
}

static const char *skip_scheme(const char *text, enum reference_scheme *scheme)
{
	*scheme = REFERENCE_DEFAULT;
	if (strncasecmp(text, "https://", 8) == 0) {
		*scheme = REFERENCE_HTTPS;
		return text + 8;
	}
	if (strncasecmp(text, "http://", 7) == 0) {
		*scheme = REFERENCE_HTTP;
		return text + 7;
	}
	return text;
}

/* ---- the grammar ---- */

/* Of letters, digits and inner hyphens, joined by dots. */
static bool is_domain(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		bool edge = i == 0 || i + 1 == n || p[i - 1] == '.' || p[i + 1] == '.';

		if (!isascii(p[i]) || (!isalnum(p[i]) && (edge || (p[i] != '-' && p[i] != '.'))))
			return false;
	}
	return n > 0;
}

static bool is_host(const char *host)
{
	struct address a;

	return strlen(host) <= HOST_MAX && address_parse_host(host, &a) && *a.rest == '\0' &&
	       (host[0] == '[' || is_domain(a.host, a.host_n));
}

/* Runs of small letters and digits, with '/', '.', '_', '__' or hyphens between two of them. */
static bool is_repository(const char *p)
{
	size_t n;

	for (;; p += n) {
		n = strspn(p, LOWER DIGITS);
		p += n;
		if (n == 0 || *p == '\0')
			return n > 0;
		if (*p == '-')
			n = strspn(p, "-");
		else if (*p == '_')
			n = p[1] == '_' ? 2 : 1;
		else if (*p == '/' || *p == '.')
			n = 1;
		else
			return false;
	}
}

static bool is_tag(const char *p)
{
	return p[0] != '\0' && p[0] != '.' && p[0] != '-' && strlen(p) <= TAG_MAX &&
	       p[strspn(p, LOWER UPPER DIGITS "_.-")] == '\0';
}

static const char *check(const char *host, const char *repository, const char *tag)
{
	if (!is_host(host))
		return "the host is neither a domain name nor an address, with a port or without";
	if (!is_repository(repository))
		return "a repository's name has small letters and digits, joined by single '/', "
		       "'.', '_', '__' or hyphens";
	if (strlen(repository) > REPOSITORY_MAX)
		return "the repository's name is longer than 255 bytes";
	if (tag && !is_tag(tag))
		return "a tag has at most 128 letters, digits, '_', '.' and '-', and begins with "
		       "none of the last two";
	return NULL;
}

/* ---- the parts ---- */

/* Docker Hub has several names; names do not depend on case. */
static const char *normalize_host(char *host)
{
	char *p;

	for (p = host; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	if (strcmp(host, "index.docker.io") == 0 || strcmp(host, "registry-1.docker.io") == 0)
		return HUB;
	return host;
}

/* Copies checked parts. */
static int fill(struct reference *t, const char *host, const char *repository, const char *tag,
		struct err *e)
{
	const char *mark = tag ? ":" : t->digest[0] != '\0' ? "@" : "";

	t->host = strdup(host);
	t->api_host = strdup(strcmp(host, HUB) == 0 ? "registry-1." HUB : host);
	t->repository = strdup(repository);
	t->tag = tag ? strdup(tag) : NULL;
	if (!t->host || !t->api_host || !t->repository || (tag && !t->tag))
		return err_set(e, ENOMEM, "out of memory");
	if (asprintf(&t->text, "%s/%s%s%s", host, repository, mark, tag ? tag : t->digest) < 0) {
		t->text = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

/* Whether a name's part before its first slash is a host, not a part of a repository's name. */
static bool looks_like_host(const char *name)
{
	size_t n = strcspn(name, "/");

	return name[n] == '/' &&
	       (strcspn(name, ".:" UPPER) < n || (n == 9 && strncmp(name, "localhost", n) == 0));
}

static int parse(const char *text, struct reference *t, struct err *e)
{
	static const char what[] = "image reference";
	const char *name = skip_scheme(text, &t->scheme), *at = strchr(name, '@');
	AUTO_FREE char *copy = NULL;
	AUTO_FREE char *official = NULL;
	const char *host = HUB, *why;
	char *repository, *tag;

	if (at && !digest_is_any(at + 1))
		return refuse(
			what, text,
			"'@' must be followed by a digest ('sha256:' and 64 hex digits in "
			"lower case, or 'sha512:' and 128); names and passwords have no place here",
			e);
	if (strstr(name, "://"))
		return refuse(what, text, "no scheme but http:// and https:// is known", e);
	copy = strndup(name, at ? (size_t)(at - name) : strlen(name));
	if (!copy)
		return err_set(e, ENOMEM, "out of memory");
	repository = copy;
	if (t->scheme != REFERENCE_DEFAULT || looks_like_host(copy)) {
		repository = strchrnul(copy, '/');
		if (*repository != '\0')
			*repository++ = '\0';
		host = normalize_host(copy);
	}
	tag = strchr(repository, ':');
	if (tag)
		*tag++ = '\0';
	if (strcmp(host, HUB) == 0 && !strchr(repository, '/')) {
		if (asprintf(&official, "library/%s", repository) < 0) {
			official = NULL;
			return err_set(e, ENOMEM, "out of memory");
		}
		repository = official;
	}
	why = check(host, repository, tag);
	if (why)
		return refuse(what, text, why, e);
	if (at)
		digest_copy(t->digest, at + 1);
	return fill(t, host, repository, at ? NULL : tag ? tag : "latest", e);
}

int reference_parse(const char *text, struct reference *out, struct err *e)
{
	struct reference t = { 0 };
	int r = parse(text, &t, e);

	if (r < 0)
		reference_release(&t);
	else
		*out = t;
	return r;
}

/* SCHEME://HOST/v2/REPOSITORY/blobs[/], in place: the host is cut off, the repository returned;
 * NULL when it is something else. */
static char *split_blob_url(char *host)
{
	char *path = strchr(host, '/');
	size_t n = strlen(host);

	if (n > 0 && host[n - 1] == '/')
		host[--n] = '\0';
	if (!path || strncmp(path, "/v2/", 4) != 0 || n < 6 ||
	    strcmp(host + n - 6, "/blobs") != 0 || path + 4 > host + n - 6)
		return NULL;
	host[n - 6] = '\0';
	*path = '\0';
	return path + 4;
}

static int parse_blob_url(const char *url, struct reference *t, struct err *e)
{
	static const char what[] = "blob address";
	const char *rest = skip_scheme(url, &t->scheme), *host, *why;
	AUTO_FREE char *copy = NULL;
	char *repository;

	if (strchr(url, '@'))
		return refuse(what, url, "names and passwords have no place here", e);
	copy = strdup(rest);
	if (!copy)
		return err_set(e, ENOMEM, "out of memory");
	repository = split_blob_url(copy);
	if (t->scheme == REFERENCE_DEFAULT || !repository)
		return refuse(what, url, "not of the form https://HOST/v2/REPOSITORY/blobs", e);
	host = normalize_host(copy);
	why = check(host, repository, NULL);
	return why ? refuse(what, url, why, e) : fill(t, host, repository, NULL, e);
}

int reference_parse_blob_url(const char *url, struct reference *out, struct err *e)
{
	struct reference t = { 0 };
	int r = parse_blob_url(url, &t, e);

	if (r < 0)
		reference_release(&t);
	else
		*out = t;
	return r;
}

bool reference_is_local(const char *host)
{
	struct address a;

	return address_parse_host(host, &a) && address_is_local(&a);
}

void reference_release(struct reference *ref)
{
	free(ref->host);
	free(ref->api_host);
	free(ref->repository);
	free(ref->tag);
	free(ref->text);
	*ref = (struct reference){ 0 };
}
