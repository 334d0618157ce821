/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - sha256 and sha512 through libcrypto, see digest.h. */
#include "core/base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum { PIECE = 1024 * 1024 };

static bool has_form(const char *text, const char *name, size_t digits)
{
	return strncmp(text, name, 7) == 0 && strspn(text + 7, "0123456789abcdef") == digits &&
	       text[7 + digits] == '\0';
}

bool digest_is_valid(const char *text)
{
	return has_form(text, "sha256:", 64);
}

bool digest_is_any(const char *text)
{
	return digest_is_valid(text) || has_form(text, "sha512:", 128);
}

const char *digest_in_name(const char *name)
{
	const char *at = strstr(name, "@sha256:");

	if (!at)
		at = strstr(name, "@sha512:");
	return at ? at + 8 : NULL;
}

void digest_copy(char out[DIGEST_ANY_TEXT], const char *digest)
{
	snprintf(out, DIGEST_ANY_TEXT, "%s", digest);
}

int digest_open(struct digest *d, struct err *e)
{
	return digest_open_like("sha256:", d, e);
}

int digest_open_like(const char *like, struct digest *d, struct err *e)
{
	d->is_sha512 = strncmp(like, "sha512:", 7) == 0;
	d->context = EVP_MD_CTX_new();
	if (d->context &&
	    EVP_DigestInit_ex(d->context, d->is_sha512 ? EVP_sha512() : EVP_sha256(), NULL) == 1)
		return 0;
	digest_close(d);
	return err_set(e, ENOMEM, "out of memory");
}

int digest_update(struct digest *d, const void *bytes, size_t n, struct err *e)
{
	if (EVP_DigestUpdate(d->context, bytes, n) != 1)
		return err_set(e, ENOMEM, "computing a digest failed");
	return 0;
}

/* `out` has room for the digest's kind. */
static int finish(struct digest *d, char *out, struct err *e)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned i, n = d->is_sha512 ? 64 : 32;

	if (EVP_DigestFinal_ex(d->context, sum, NULL) != 1)
		return err_set(e, ENOMEM, "computing a digest failed");
	memcpy(out, d->is_sha512 ? "sha512:" : "sha256:", 7);
	for (i = 0; i < n; i++)
		snprintf(out + 7 + 2 * i, 3, "%02x", sum[i]);
	return 0;
}

int digest_finish(struct digest *d, char out[DIGEST_TEXT], struct err *e)
{
	return finish(d, out, e);
}

int digest_finish_any(struct digest *d, char out[DIGEST_ANY_TEXT], struct err *e)
{
	return finish(d, out, e);
}

void digest_close(struct digest *d)
{
	EVP_MD_CTX_free(d->context);
	d->context = NULL;
}

/* `out` has room for the kind of `like`. */
static int of_bytes(const char *like, const void *bytes, size_t n, char *out, struct err *e)
{
	struct digest d;
	int r = digest_open_like(like, &d, e);

	if (r < 0)
		return r;
	r = digest_update(&d, bytes, n, e);
	if (r == 0)
		r = finish(&d, out, e);
	digest_close(&d);
	return r;
}

int digest_bytes(const void *bytes, size_t n, char out[DIGEST_TEXT], struct err *e)
{
	return of_bytes("sha256:", bytes, n, out, e);
}

int digest_bytes_like(const char *like, const void *bytes, size_t n, char out[DIGEST_ANY_TEXT],
		      struct err *e)
{
	return of_bytes(like, bytes, n, out, e);
}

static int feed(struct digest *d, struct source *s, void *piece, struct err *e)
{
	uint64_t off;
	int r = 0;

	for (off = 0; r == 0 && off < s->size; off += PIECE) {
		size_t n = (size_t)min_u64(PIECE, s->size - off);

		r = source_pread(s, piece, n, off, e);
		if (r == 0)
			r = digest_update(d, piece, n, e);
	}
	return r;
}

/* `out` has room for the kind of `like`. */
static int digest_all(const char *like, struct source *s, char *out, struct err *e)
{
	AUTO_FREE void *piece = malloc(PIECE);
	struct digest d;
	int r;

	if (!piece)
		return err_set(e, ENOMEM, "out of memory");
	r = digest_open_like(like, &d, e);
	if (r < 0)
		return r;
	r = feed(&d, s, piece, e);
	if (r == 0)
		r = finish(&d, out, e);
	digest_close(&d);
	return r;
}

int digest_source(struct source *s, char out[DIGEST_TEXT], struct err *e)
{
	return digest_all("sha256:", s, out, e);
}

int digest_source_like(const char *like, struct source *s, char out[DIGEST_ANY_TEXT], struct err *e)
{
	return digest_all(like, s, out, e);
}
