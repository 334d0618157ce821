/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-manifest.c - any bytes as a manifest or index.
 *
 * Properties: of an image at least one layer, right digests, sizes from 1 to 2^63 - 1; of an index
 * a right digest; read again, the same; what is refused leaves nothing and gets a message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_layer(const struct manifest_layer *layer)
{
	FUZZ_CHECK(digest_is_valid(layer->digest));
	FUZZ_CHECK(layer->size > 0 && layer->size <= INT64_MAX);
}

static void check_image(const struct manifest *m)
{
	size_t i;

	FUZZ_CHECK(m->layer_count > 0 && m->layer_count < 65535);
	for (i = 0; i < m->layer_count; i++)
		check_layer(&m->layers[i]);
	if (m->acceleration.digest[0] != '\0')
		check_layer(&m->acceleration);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	/* Exactly as long as the input, which may be at NULL when it is empty. */
	char *text = malloc(n > 0 ? n : 1), chosen[DIGEST_ANY_TEXT] = "";
	struct manifest m, again;
	struct err e = { "" };
	int r;

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	r = manifest_parse(text, n, "linux/amd64", &m, chosen, &e);
	FUZZ_CHECK(manifest_parse(text, n, "linux/amd64", &again, chosen, NULL) == r);
	FUZZ_CHECK(m.layer_count == again.layer_count);
	if (r == MANIFEST_IMAGE) {
		check_image(&m);
	} else {
		FUZZ_CHECK(!m.layers && m.layer_count == 0 && m.acceleration.digest[0] == '\0');
		FUZZ_CHECK(r == MANIFEST_INDEX || (r == -EINVAL && e.msg[0] != '\0'));
		FUZZ_CHECK(r != MANIFEST_INDEX || digest_is_valid(chosen));
	}
	manifest_release(&m);
	manifest_release(&again);
	free(text);
	return 0;
}
