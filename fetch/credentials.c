/* SPDX-License-Identifier: Apache-2.0 */
/* credentials.c - where credentials are looked for, see credentials.h. */
#include "fetch/credentials.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/answer.h"
#include "fetch/auths.h"
#include "fetch/keychain.h"
#include "fetch/secret.h"

enum { BODY_MAX = 1024 * 1024 }; /* bytes of a helper's answer */

/* Whose credentials are looked for. */
struct owner {
	const char *host, *repository;
};

/* ---- files ---- */

/* A program that the document names is asked. */
static int find_in_document(json_t *document, const struct owner *owner, struct credentials *out,
			    struct err *e)
{
	struct auths_program program;
	int r = auths_find(document, owner->host, owner->repository, out, &program, e);

	if (r == AUTHS_ASK) {
		r = keychain_get(program.name, program.server, CREDENTIALS_SECONDS, out, e);
		auths_program_release(&program);
		return r;
	}
	return r == AUTHS_NONE ? 1 : r;
}

/* *absent: the file itself could not be had. */
static int find_in_file(const char *path, const struct owner *owner, struct credentials *out,
			bool *absent, struct err *e)
{
	AUTO_ANSWER json_t *document = NULL;
	char *text;
	size_t n;
	int r = io_read_file(path, ANSWER_MAX, &text, &n, e);

	*absent = r < 0;
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	r = answer_parse(text, n, ANSWER_SECRET, &document, e);
	explicit_bzero(text, n);
	free(text);
	if (r == 0)
		r = find_in_document(document, owner, out, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : r;
}

/* In order; each the value of a variable and what comes behind it. */
static const struct {
	const char *variable, *rest;
} usual_places[] = {
	{ "REGISTRY_AUTH_FILE", "" },
	{ "DOCKER_CONFIG", "/config.json" },
	{ "XDG_RUNTIME_DIR", "/containers/auth.json" },
	{ "HOME", "/.config/containers/auth.json" },
	{ "HOME", "/.docker/config.json" },
};

/* One place that is broken, or whose program is missing, does not hide the next ones: its fault is
 * told when none of them has anything. */
static int find_in_usual_places(const struct owner *owner, struct credentials *out, struct err *e)
{
	struct err first = { .msg = "" };
	size_t i;
	int failed = 0;

	for (i = 0; i < sizeof usual_places / sizeof *usual_places; i++) {
		const char *value = getenv(usual_places[i].variable);
		AUTO_FREE char *path = NULL;
		struct err why;
		bool absent;
		int r;

		if (!value || value[0] == '\0')
			continue;
		if (asprintf(&path, "%s%s", value, usual_places[i].rest) < 0) {
			path = NULL; /* left undefined by the failed call */
			return err_set(e, ENOMEM, "out of memory");
		}
		r = find_in_file(path, owner, out, &absent, &why);
		if (r == 0)
			return 0;
		if (r == -ENOMEM)
			return err_set(e, ENOMEM, "%s", why.msg);
		if (r == 1 || (absent && (r == -ENOENT || r == -ENOTDIR)) || failed < 0)
			continue;
		failed = r;
		first = why;
	}
	return failed < 0 ? err_set(e, -failed, "%s", first.msg) : 1;
}

/* ---- helpers ---- */

struct body {
	char *bytes; /* BODY_MAX */
	size_t n;
};

static size_t take_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct body *body = arg;
	size_t n = size * count;

	if (n > BODY_MAX - body->n)
		return 0; /* ends the transfer with CURLE_WRITE_ERROR */
	memcpy(body->bytes + body->n, bytes, n);
	body->n += n;
	return n;
}

static const char *socket_path(const char *address)
{
	return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

/* As the reference asks: of what may stand in a query nothing is quoted. */
static char *quote(const char *url)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~:/";
	char *quoted = malloc(3 * strlen(url) + 1), *out = quoted;

	for (; out && *url != '\0'; url++)
		if (strchr(plain, *url))
			*out++ = *url;
		else
			out += sprintf(out, "%%%02X", (unsigned)(unsigned char)*url);
	if (out)
		*out = '\0';
	return quoted;
}

static char *make_url(const char *address, const char *blob_url)
{
	const char *base = socket_path(address) ? "http://localhost/auth" : address;
	AUTO_FREE char *quoted = quote(blob_url);
	char *url;

	if (!quoted ||
	    asprintf(&url, "%s%cremote_url=%s", base, strchr(base, '?') ? '&' : '?', quoted) < 0)
		url = NULL;
	return url;
}

/* A helper is near and trusted: it is asked without a proxy, and nobody else on its word. */
static CURLcode set_options(CURL *curl, const struct credentials_source *source, const char *url,
			    struct body *body)
{
	const char *path = socket_path(source->place);
	CURLcode r = curl_easy_setopt(curl, CURLOPT_URL, url);

	if (r == CURLE_OK && path)
		r = curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
	if (r == CURLE_OK && source->ca)
		r = curl_easy_setopt(curl, CURLOPT_CAINFO, source->ca);
	if (r == CURLE_OK && source->cert)
		r = curl_easy_setopt(curl, CURLOPT_SSLCERT, source->cert);
	if (r == CURLE_OK && source->cert)
		r = curl_easy_setopt(curl, CURLOPT_SSLKEY,
				     source->key ? source->key : source->cert);
	if (r == CURLE_OK)
		r = curl_easy_setopt(curl, CURLOPT_PROXY, "");
	if (r == CURLE_OK)
		r = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CREDENTIALS_SECONDS);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
	return r;
}

static int fetch_answer(const struct credentials_source *source, const char *url, struct body *body,
			struct err *e)
{
	CURL *curl = curl_easy_init();
	long status = 0;
	CURLcode r;

	if (!curl)
		return err_set(e, ENOMEM, "out of memory");
	r = set_options(curl, source, url, body);
	if (r == CURLE_OK)
		r = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	switch (r) {
	case CURLE_OK:
		break;
	case CURLE_OUT_OF_MEMORY:
		return err_set(e, ENOMEM, "out of memory");
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(e, ETIMEDOUT, "no answer in %d s", CREDENTIALS_SECONDS);
	case CURLE_WRITE_ERROR:
		return err_set(e, EFBIG, "an answer of more than %d bytes", BODY_MAX);
	default:
		return err_set(e, EIO, "%s", curl_easy_strerror(r));
	}
	return status == 200 ? 0 : err_set(e, EIO, "answered %ld", status);
}

/* {"success":true,"data":{"auths":{..}}}.  Programs that the answer may name are not asked. */
static int find_in_answer(const struct body *body, const struct owner *owner,
			  struct credentials *out, struct err *e)
{
	AUTO_ANSWER json_t *root = NULL;
	struct auths_program program;
	int r = answer_parse(body->bytes, body->n, ANSWER_SECRET, &root, e);

	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(root, "success")))
		return err_set(e, EIO, "reported no success");
	r = auths_find(json_object_get(root, "data"), owner->host, owner->repository, out, &program,
		       e);
	auths_program_release(&program);
	return r == AUTHS_FOUND ? 0 : r < 0 ? r : 1;
}

/* Prefixes the helper's name: of an address only the host, as the rest may hold secrets. */
static int name_helper(const char *address, int r, struct err *e)
{
	const char *host, *at;

	if (socket_path(address))
		return err_wrap(e, r, "credential helper %s", address);
	host = strstr(address, "://") + 3;
	at = memrchr(host, '@', strcspn(host, "/?#"));
	host = at ? at + 1 : host;
	return err_wrap(e, r, "credential helper at %.*s", (int)strcspn(host, "/?#"), host);
}

static int ask_helper(const struct credentials_source *source, const char *blob_url,
		      const struct owner *owner, struct credentials *out, struct err *e)
{
	AUTO_FREE char *url = make_url(source->place, blob_url);
	struct body body = { .bytes = malloc(BODY_MAX) };
	int r;

	if (!url || !body.bytes) {
		free(body.bytes);
		return err_set(e, ENOMEM, "out of memory");
	}
	r = fetch_answer(source, url, &body, e);
	if (r == 0)
		r = find_in_answer(&body, owner, out, e);
	explicit_bzero(body.bytes, body.n);
	free(body.bytes);
	return r < 0 ? name_helper(source->place, r, e) : r;
}

static bool is_helper(const char *place)
{
	return socket_path(place) || strncasecmp(place, "http://", 7) == 0 ||
	       strncasecmp(place, "https://", 8) == 0;
}

/* ---- all of it ---- */

int credentials_find(const struct credentials_source *source, const char *host,
		     const char *repository, const char *blob_url, struct credentials *out,
		     struct err *e)
{
	struct owner owner = { host, repository };
	bool absent;

	*out = (struct credentials){ 0 };
	if (source->fault)
		return err_set(e, EINVAL, "%s", source->fault);
	if (!source->place)
		return find_in_usual_places(&owner, out, e);
	if (is_helper(source->place))
		return ask_helper(source, blob_url, &owner, out, e);
	return find_in_file(source->place, &owner, out, &absent, e);
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool credentials_equal(const struct credentials *a, const struct credentials *b)
{
	return same(a->user, b->user) && same(a->password, b->password) &&
	       same(a->identity_token, b->identity_token) &&
	       same(a->registry_token, b->registry_token);
}

void credentials_release(struct credentials *c)
{
	secret_free(c->user);
	secret_free(c->password);
	secret_free(c->identity_token);
	secret_free(c->registry_token);
	*c = (struct credentials){ 0 };
}
