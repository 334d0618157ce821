/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - JSON through jansson, see answer.h. */
#include "fetch/answer.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define MARK "\xef\xbb\xbf" /* the byte order mark, as PowerShell writes it */

int answer_parse(const char *text, size_t n, enum answer_privacy privacy, json_t **out,
		 struct err *e)
{
	size_t flags = privacy == ANSWER_PUBLIC ? JSON_REJECT_DUPLICATES : 0;
	json_error_t why;
	json_t *root;

	if (n > ANSWER_MAX)
		return err_set(e, EINVAL, "%zu bytes of JSON, more than the limit of %d", n,
			       ANSWER_MAX);
	if (n >= sizeof MARK - 1 && memcmp(text, MARK, sizeof MARK - 1) == 0) {
		text += sizeof MARK - 1;
		n -= sizeof MARK - 1;
	}
	root = json_loadb(text, n, flags, &why);
	/* Where its memory runs out, jansson says so or says nothing. */
	if (!root && (why.text[0] == '\0' || json_error_code(&why) == json_error_out_of_memory))
		return err_set(e, ENOMEM, "out of memory");
	if (!root && privacy == ANSWER_SECRET)
		return err_set(e, EINVAL, "wrong JSON in line %d, column %d", why.line, why.column);
	if (!root)
		return err_set(e, EINVAL, "wrong JSON in line %d, column %d: %s", why.line,
			       why.column, why.text);
	if (!json_is_object(root)) {
		answer_forget(root);
		return err_set(e, EINVAL, "not a JSON object");
	}
	*out = root;
	return 0;
}

const char *answer_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && text[0] != '\0' ? text : NULL;
}

bool answer_is_printable(const char *text)
{
	const char *p = text;

	while (*p > ' ' && *p <= '~')
		p++;
	return p > text && *p == '\0';
}

static void wipe(json_t *value)
{
	const char *key;
	json_t *child;
	size_t i;

	/* jansson lends its texts as const, but they lie in memory that this tree owns. */
	if (json_is_string(value))
		explicit_bzero((void *)(uintptr_t)json_string_value(value),
			       json_string_length(value));
	json_object_foreach(value, key, child) wipe(child);
	json_array_foreach(value, i, child) wipe(child);
}

void answer_forget(json_t *root)
{
	wipe(root);
	json_decref(root);
}
