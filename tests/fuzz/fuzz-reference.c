/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-reference.c - any text as an image reference, and as a blob address.
 *
 * Properties: what is accepted is whole, has no byte that an address would have to quote, and its
 * canonical form reads back as the same; what is refused gets a message that says what was read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/reference.h"
#include "tests/fuzz/fuzz.h"

static void check_printable(const char *text)
{
	FUZZ_CHECK(text[0] != '\0');
	for (; *text != '\0'; text++)
		FUZZ_CHECK(*text > ' ' && *text <= '~' && !strchr("\"\\<>#?%&", *text));
}

static void check_same(const struct reference *a, const struct reference *b)
{
	FUZZ_CHECK(strcmp(a->host, b->host) == 0 && strcmp(a->api_host, b->api_host) == 0);
	FUZZ_CHECK(strcmp(a->repository, b->repository) == 0);
	FUZZ_CHECK(strcmp(a->digest, b->digest) == 0 && strcmp(a->text, b->text) == 0);
	FUZZ_CHECK(!a->tag == !b->tag && (!a->tag || strcmp(a->tag, b->tag) == 0));
}

static void check_refusal(int r, const struct err *e, const char *message)
{
	FUZZ_CHECK(r == -EINVAL);
	FUZZ_CHECK(strncmp(e->msg, message, strlen(message)) == 0);
}

static void check_parts(const struct reference *ref)
{
	check_printable(ref->host);
	check_printable(ref->api_host);
	check_printable(ref->repository);
	check_printable(ref->text);
	FUZZ_CHECK(!strchr(ref->host, '/') && !strchr(ref->host, '@'));
	FUZZ_CHECK(!strstr(ref->repository, "..") && !strstr(ref->repository, "//"));
	(void)reference_is_local(ref->host);
}

static void as_reference(const char *text)
{
	struct reference ref, again;
	struct err e = { "" };
	int r = reference_parse(text, &ref, &e);

	if (r < 0) {
		check_refusal(r, &e, "image reference '");
		return;
	}
	check_parts(&ref);
	FUZZ_CHECK(!ref.tag == digest_is_valid(ref.digest));
	/* A host without a dot or port needs the scheme, or it reads as a repository's part. */
	if (strpbrk(ref.host, ".:") || strcmp(ref.host, "localhost") == 0) {
		FUZZ_CHECK(reference_parse(ref.text, &again, &e) == 0);
		check_same(&ref, &again);
		reference_release(&again);
	}
	reference_release(&ref);
}

static void as_blob_url(const char *text)
{
	struct reference ref, again;
	struct err e = { "" };
	char url[1024];
	int r = reference_parse_blob_url(text, &ref, &e);

	if (r < 0) {
		check_refusal(r, &e, "blob address '");
		return;
	}
	check_parts(&ref);
	FUZZ_CHECK(!ref.tag && ref.digest[0] == '\0' && ref.scheme != REFERENCE_DEFAULT);
	snprintf(url, sizeof url, "https://%s/v2/%s/blobs", ref.api_host, ref.repository);
	FUZZ_CHECK(reference_parse_blob_url(url, &again, &e) == 0);
	check_same(&ref, &again);
	reference_release(&again);
	reference_release(&ref);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text = calloc(1, n + 1);

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	(void)reference_is_local(text);
	as_reference(text);
	as_blob_url(text);
	free(text);
	return 0;
}
