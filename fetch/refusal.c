/* SPDX-License-Identifier: Apache-2.0 */
/* refusal.c - statuses and error bodies in words, see refusal.h. */
#include "fetch/refusal.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fetch/answer.h"

enum {
	SECRET_LEAST = 4, /* bytes of a password; a shorter one stands in any text */
	SECRET_PART = 16, /* its first bytes tell a secret, which the words' end may have cut */
};

static const struct {
	unsigned status;
	const char *meaning;
} meanings[] = {
	{ 300, "multiple choices" },
	{ 301, "moved permanently" },
	{ 302, "found elsewhere" },
	{ 303, "see other" },
	{ 304, "not modified" },
	{ 305, "use a proxy" },
	{ 307, "temporary redirect" },
	{ 308, "permanent redirect" },
	{ 400, "bad request" },
	{ 401, "unauthorized" },
	{ 402, "payment required" },
	{ 403, "forbidden" },
	{ 404, "not found" },
	{ 405, "method not allowed" },
	{ 406, "not acceptable" },
	{ 407, "the proxy wants a login" },
	{ 408, "request timeout" },
	{ 409, "conflict" },
	{ 410, "gone" },
	{ 411, "length required" },
	{ 412, "precondition failed" },
	{ 413, "too large" },
	{ 414, "address too long" },
	{ 415, "unsupported media type" },
	{ 416, "range not satisfiable" },
	{ 421, "misdirected request" },
	{ 425, "too early" },
	{ 429, "too many requests" },
	{ 431, "header fields too large" },
	{ 451, "unavailable for legal reasons" },
	{ 500, "internal server error" },
	{ 501, "not implemented" },
	{ 502, "bad gateway" },
	{ 503, "service unavailable" },
	{ 504, "gateway timeout" },
	{ 507, "insufficient storage" },
};

const char *refusal_meaning(unsigned status)
{
	size_t i;

	for (i = 0; i < sizeof meanings / sizeof *meanings; i++)
		if (meanings[i].status == status)
			return meanings[i].meaning;
	return NULL;
}

void refusal_take(struct refusal *r, const void *bytes, size_t n)
{
	if (n > REFUSAL_MAX - r->n)
		n = REFUSAL_MAX - r->n;
	if (!r->body)
		r->body = malloc(REFUSAL_MAX + 1);
	if (!r->body)
		return; /* the message does without */
	memcpy(r->body + r->n, bytes, n);
	r->n += n;
	r->body[r->n] = '\0';
}

/* ---- the body's forms ---- */

/* Appends a text as far as it has room, after ": " or ", " where something is there.  Control
 * characters become blanks; whoever shows the message escapes the rest. */
static void append(char out[REFUSAL_WORDS], const char *separator, const char *text)
{
	size_t n = strlen(out);

	if (!text)
		return;
	text += strspn(text, " \t\r\n");
	if (*text == '\0')
		return;
	if (n > 0 && n + strlen(separator) >= REFUSAL_WORDS - 1)
		return; /* there is no room for a word */
	if (n > 0)
		n = (size_t)(stpcpy(out + n, separator) - out);
	for (; n < REFUSAL_WORDS - 1 && *text != '\0'; text++)
		out[n++] = (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text;
	while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '.'))
		n--;
	/* What was cut within a character of UTF-8 loses all of it. */
	if (*text != '\0')
		while (n > 0 && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
			n--;
	if (*text != '\0' && n > 0 && (unsigned char)out[n - 1] >= 0xc0)
		n--;
	out[n] = '\0';
}

/* "code: message" for each of `errors`. */
static void read_errors(const json_t *errors, char out[REFUSAL_WORDS])
{
	const json_t *entry;
	size_t i;

	json_array_foreach(errors, i, entry)
	{
		const char *code = answer_text(entry, "code");
		const char *message = answer_text(entry, "message");

		append(out, "; ", code);
		append(out, code ? ": " : "; ", message);
	}
}

static bool read_json(const struct refusal *r, char out[REFUSAL_WORDS])
{
	const json_t *errors;
	json_t *root;

	if (answer_parse(r->body, r->n, ANSWER_SECRET, &root, NULL) < 0)
		return false;
	errors = json_object_get(root, "errors");
	if (json_is_array(errors)) {
		read_errors(errors, out);
	} else {
		append(out, ": ", answer_text(root, "error"));
		append(out, ": ", answer_text(root, "code"));
		append(out, ": ", answer_text(root, "error_description"));
		append(out, ": ", answer_text(root, "message"));
		append(out, ": ", answer_text(root, "details"));
	}
	answer_forget(root);
	return true;
}

/* What stands between <NAME> and the next tag. */
static void append_element(const char *body, const char *tag, char out[REFUSAL_WORDS])
{
	const char *at = strstr(body, tag);
	char text[sizeof "" + REFUSAL_WORDS]; /* more than has room: append sees that it cuts it */

	if (!at)
		return;
	at += strlen(tag);
	snprintf(text, sizeof text, "%.*s", (int)strcspn(at, "<"), at);
	append(out, ": ", text);
}

static void read_xml(const struct refusal *r, char out[REFUSAL_WORDS])
{
	const char *body = r->body + strspn(r->body, " \t\r\n");

	if (strncmp(body, "<?xml", 5) != 0 && strncmp(body, "<Error", 6) != 0)
		return;
	append_element(body, "<Code>", out);
	append_element(body, "<Message>", out);
}

/* ---- secrets ---- */

/* The password of "Basic ...", into out[0..room). */
static bool decode_password(const char *value, char *out, size_t room)
{
	size_t n = strlen(value);
	char *colon;
	int got;

	if (n == 0 || n % 4 != 0 || n / 4 * 3 >= room)
		return false;
	got = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)value, (int)n);
	out[got > 0 ? got : 0] = '\0'; /* ends at the padding's NULs, if any */
	colon = strchr(out, ':');
	if (colon)
		memmove(out, colon + 1, strlen(colon + 1) + 1);
	return colon != NULL;
}

static bool has_secret(const char *words, const char *secret)
{
	size_t n = strlen(secret);

	return n >= SECRET_LEAST &&
	       memmem(words, strlen(words), secret, n < SECRET_PART ? n : SECRET_PART);
}

/* A server may repeat what it got. */
static bool repeats(const char *words, const char *header)
{
	const char *value = header ? strchr(header, ' ') : NULL;
	char password[1024];
	bool found;

	if (!value)
		return false;
	if (has_secret(words, value + 1))
		return true;
	if (strncasecmp(header, "Basic ", 6) != 0)
		return false;
	found = decode_password(value + 1, password, sizeof password) &&
		has_secret(words, password);
	explicit_bzero(password, sizeof password);
	return found;
}

void refusal_words(const struct refusal *r, const char *secret, char out[REFUSAL_WORDS])
{
	out[0] = '\0';
	if (!r->body)
		return;
	if (!read_json(r, out))
		read_xml(r, out);
	if (repeats(out, secret))
		out[0] = '\0';
}

void refusal_text(const struct refusal *r, unsigned status, const char *secret,
		  char out[REFUSAL_TEXT])
{
	const char *meaning = refusal_meaning(status);
	char words[REFUSAL_WORDS];

	refusal_words(r, secret, words);
	snprintf(out, REFUSAL_TEXT, "HTTP %u%s%s%s%s%s", status, meaning ? " (" : "",
		 meaning ? meaning : "", meaning ? ")" : "", words[0] ? ": " : "", words);
}

void refusal_release(struct refusal *r)
{
	if (r->body)
		explicit_bzero(r->body, r->n);
	free(r->body);
	*r = (struct refusal){ 0 };
}
