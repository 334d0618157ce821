/* SPDX-License-Identifier: Apache-2.0 */
/* auths.c - keys and entries of docker-style documents, see auths.h. */
#include "fetch/auths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/answer.h"

/* As docker calls its hub when it asks for credentials. */
#define HUB_KEY "https://index.docker.io/v1/"

#define BREAKS "\r\n" /* within base64 */

/* ---- keys ---- */

static const char *skip_scheme(const char *key)
{
	if (strncasecmp(key, "https://", 8) == 0)
		return key + 8;
	return strncasecmp(key, "http://", 7) == 0 ? key + 7 : key;
}

static bool is_hub(const char *host, size_t n)
{
	static const char *const names[] = { "docker.io", "index.docker.io", "registry-1.docker.io",
					     "registry.hub.docker.com", "hub.docker.com" };
	size_t i;

	for (i = 0; i < sizeof names / sizeof *names; i++)
		if (strlen(names[i]) == n && strncasecmp(host, names[i], n) == 0)
			return true;
	return false;
}

static bool is_host(const char *key, size_t n, const char *host)
{
	return (strlen(host) == n && strncasecmp(key, host, n) == 0) ||
	       (is_hub(key, n) && is_hub(host, strlen(host)));
}

/* How closely a key fits: -1 not at all, 0 the host, else the bytes of the repository that it
 * names. */
static int fit(const char *key, const char *host, const char *repository)
{
	const char *path;
	size_t n;

	key = skip_scheme(key);
	n = strcspn(key, "/");
	if (!is_host(key, n, host))
		return -1;
	path = key + n + strspn(key + n, "/");
	n = strlen(path);
	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n == 0 || (n == 2 && (strncmp(path, "v1", n) == 0 || strncmp(path, "v2", n) == 0)))
		return 0;
	if (strncmp(path, repository, n) != 0 || (repository[n] != '/' && repository[n] != '\0'))
		return -1;
	return (int)n; /* of a document of at most ANSWER_MAX bytes */
}

/* ---- entries ---- */

static bool is_empty(const json_t *entry)
{
	static const char *const keys[] = { "auth", "username", "password", "identitytoken",
					    "registrytoken" };
	size_t i;

	for (i = 0; i < sizeof keys / sizeof *keys; i++)
		if (answer_text(entry, keys[i]))
			return false;
	return true;
}

static int value64(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Decodes base64, with '=' at its end or without, broken into lines or not, into out[0..3/4 of its
 * length].  NULs and line breaks behind the text, which tools leave there, are cut off. */
static bool decode64(const char *text, char *out)
{
	const char *p, *begin = out;
	unsigned bits = 0;
	int have = 0;

	for (p = text; value64(*p) >= 0 || (*p != '\0' && strchr(BREAKS, *p)); p++) {
		if (value64(*p) < 0)
			continue;
		bits = bits << 6 | (unsigned)value64(*p);
		have += 6;
		if (have >= 8) {
			have -= 8;
			*out++ = (char)(bits >> have);
		}
	}
	while (out > begin && (out[-1] == '\0' || strchr(BREAKS, out[-1])))
		out--;
	*out = '\0';
	return have < 6 && p[strspn(p, "=" BREAKS)] == '\0' &&
	       !memchr(begin, '\0', (size_t)(out - begin));
}

static int copy(const char *text, char **out, struct err *e)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? err_set(e, ENOMEM, "out of memory") : 0;
}

/* "user:password" in base64 */
static int read_auth(const char *auth, struct credentials *c, struct err *e)
{
	size_t n = strlen(auth) + 1;
	AUTO_FREE char *pair = malloc(n);
	char *colon;
	int r;

	if (!pair)
		return err_set(e, ENOMEM, "out of memory");
	colon = decode64(auth, pair) ? strchr(pair, ':') : NULL;
	if (colon) {
		*colon = '\0';
		r = copy(pair, &c->user, e);
		if (r == 0)
			r = copy(colon + 1, &c->password, e);
	} else {
		r = err_set(e, EINVAL, "'auth' is not base64 of user:password");
	}
	explicit_bzero(pair, n); /* all of it: there may be a NUL within */
	return r;
}

static int read_entry(const json_t *entry, struct credentials *c, struct err *e)
{
	const char *auth = answer_text(entry, "auth"), *user = answer_text(entry, "username");
	const char *password = answer_text(entry, "password");
	int r;

	if (auth)
		r = read_auth(auth, c, e);
	else if (!user != !password)
		r = err_set(e, EINVAL, "'username' and 'password' go together");
	else
		r = copy(user, &c->user, e) < 0 ? -ENOMEM : copy(password, &c->password, e);
	if (r == 0)
		r = copy(answer_text(entry, "identitytoken"), &c->identity_token, e);
	if (r == 0)
		r = copy(answer_text(entry, "registrytoken"), &c->registry_token, e);
	if (r == 0 && c->registry_token && !answer_is_printable(c->registry_token))
		r = err_set(e, EINVAL, "'registrytoken' cannot stand in a header");
	return r;
}

/* ---- documents ---- */

static int ask(const char *name, const char *server, struct auths_program *p, struct err *e)
{
	int r = copy(name, &p->name, e);

	if (r == 0)
		r = copy(server, &p->server, e);
	if (r < 0)
		auths_program_release(p);
	return r < 0 ? r : AUTHS_ASK;
}

/* The program that credHelpers has for the host, or NULL. */
static const char *find_helper(const json_t *document, const char *host)
{
	json_t *helpers = json_object_get(document, "credHelpers"), *value;
	const char *key;

	json_object_foreach(helpers, key,
			    value) if (fit(key, host, "") == 0 &&
				       answer_text(helpers, key)) return json_string_value(value);
	return NULL;
}

/* The keys in `auths` that fit best: with something in the entry, and without (docker leaves an
 * empty one where a store has the password). */
static void find_keys(json_t *auths, const char *host, const char *repository, const char **full,
		      const char **empty)
{
	int best_full = -1, best_empty = -1;
	const char *key;
	json_t *entry;

	*full = *empty = NULL;
	json_object_foreach(auths, key, entry)
	{
		int n = fit(key, host, repository);

		if (is_empty(entry) && n > best_empty) {
			best_empty = n;
			*empty = key;
		} else if (!is_empty(entry) && n > best_full) {
			best_full = n;
			*full = key;
		}
	}
}

int auths_find(json_t *document, const char *host, const char *repository, struct credentials *out,
	       struct auths_program *program, struct err *e)
{
	json_t *named = json_object_get(document, "auths");
	json_t *auths = named ? named : document;
	const char *helper = find_helper(document, host), *full, *empty;
	const char *server = is_hub(host, strlen(host)) ? HUB_KEY : host;
	int r;

	*out = (struct credentials){ 0 };
	*program = (struct auths_program){ 0 };
	if (helper)
		return ask(helper, server, program, e);
	find_keys(auths, host, repository, &full, &empty);
	if (full) {
		r = read_entry(json_object_get(auths, full), out, e);
		if (r < 0) {
			credentials_release(out);
			return err_wrap(e, r, "auths: '%.100s'", full);
		}
		return AUTHS_FOUND;
	}
	helper = answer_text(document, "credsStore");
	return helper ? ask(helper, empty ? empty : server, program, e) : AUTHS_NONE;
}

void auths_program_release(struct auths_program *p)
{
	free(p->name);
	free(p->server);
	*p = (struct auths_program){ 0 };
}
