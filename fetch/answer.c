/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - JSON through jansson, see answer.h. */
#include "fetch/answer.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Of a byte order mark at the beginning: PowerShell writes it, and scripts whose shell does not
 * know the escapes leave it as they spell it. */
static size_t mark_length(const char *text, size_t n)
{
	static const char *const marks[] = { "\xef\xbb\xbf", "\\xef\\xbb\\xbf" };
	size_t i;

	for (i = 0; i < sizeof marks / sizeof *marks; i++)
		if (n >= strlen(marks[i]) && memcmp(text, marks[i], strlen(marks[i])) == 0)
			return strlen(marks[i]);
	return 0;
}

int answer_parse(const char *text, size_t n, enum answer_privacy privacy, json_t **out,
		 struct err *e)
{
	size_t flags = privacy == ANSWER_PUBLIC ? JSON_REJECT_DUPLICATES : 0;
	json_error_t why;
	json_t *root;
	size_t mark;

	if (n > ANSWER_MAX)
		return err_set(e, EINVAL, "%zu bytes of JSON, more than the limit of %d", n,
			       ANSWER_MAX);
	mark = mark_length(text, n);
	root = json_loadb(text + mark, n - mark, flags, &why);
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
