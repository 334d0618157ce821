/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - sha256 through libcrypto, see digest.h. */
#include "core/base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum { PIECE = 1024 * 1024 };

bool digest_is_valid(const char *text)
{
	return strncmp(text, "sha256:", 7) == 0 && strspn(text + 7, "0123456789abcdef") == 64 &&
	       text[7 + 64] == '\0';
}

static int digest_feed(struct source *s, EVP_MD_CTX *context, void *piece, struct err *e)
{
	uint64_t off;

	for (off = 0; off < s->size; off += PIECE) {
		size_t n = (size_t)min_u64(PIECE, s->size - off);
		int r = source_pread(s, piece, n, off, e);

		if (r < 0)
			return r;
		if (EVP_DigestUpdate(context, piece, n) != 1)
			return err_set(e, ENOMEM, "sha256 failed");
	}
	return 0;
}

int digest_source(struct source *s, char out[DIGEST_TEXT], struct err *e)
{
	AUTO_FREE void *piece = malloc(PIECE);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned i;
	int r;

	if (!piece || !context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(context);
		return err_set(e, ENOMEM, "out of memory");
	}
	r = digest_feed(s, context, piece, e);
	if (r == 0 && EVP_DigestFinal_ex(context, sum, NULL) != 1)
		r = err_set(e, ENOMEM, "sha256 failed");
	EVP_MD_CTX_free(context);
	if (r < 0)
		return r;
	memcpy(out, "sha256:", 7);
	for (i = 0; i < 32; i++)
		snprintf(out + 7 + 2 * i, 3, "%02x", sum[i]);
	return 0;
}
