/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-config.c - any bytes as an image config.
 *
 * Properties: what is accepted is usable (absolute paths, right digests, a layer at least or an
 * image's name, an upper with both its files) and is accepted the same way again; what is refused
 * gets a message that begins with the file's name and is one line of plain text once it is escaped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/digest.h"
#include "core/base/text.h"
#include "core/config.h"
#include "tests/fuzz/fuzz.h"

#define NAME "/img/c.yaml"

/* No file is read, whatever the input names. */
static const struct config_options no_service = { .service = "none" };

static void check_path(const char *path)
{
	FUZZ_CHECK(!path || path[0] == '/');
}

static void check_config(const struct image_config *c)
{
	size_t i;

	FUZZ_CHECK(strcmp(c->path, NAME) == 0);
	FUZZ_CHECK(c->lower_count > 0 || c->image || c->upper_data);
	FUZZ_CHECK(!c->image || (c->lower_count == 0 && !c->repo_blob_url));
	check_path(c->acceleration_dir);
	FUZZ_CHECK(!c->upper_data == !c->upper_index);
	check_path(c->upper_data);
	check_path(c->upper_index);
	check_path(c->result_file);
	for (i = 0; i < c->lower_count; i++) {
		check_path(c->lowers[i].file);
		check_path(c->lowers[i].dir);
		FUZZ_CHECK(!c->lowers[i].digest || digest_is_any(c->lowers[i].digest));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	/* Exactly as long as the input, which may be at NULL when it is empty. */
	char *text = malloc(n > 0 ? n : 1);
	struct image_config *c = NULL, *again = NULL;
	struct err e = { "" };
	char shown[4 * sizeof e.msg];
	int r;

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	r = config_parse(NAME, text, n, &no_service, &c, &e);
	FUZZ_CHECK(config_parse(NAME, text, n, &no_service, &again, NULL) == r);
	if (r == 0) {
		check_config(c);
		check_config(again);
		FUZZ_CHECK(c->lower_count == again->lower_count);
	} else {
		FUZZ_CHECK(r == -EINVAL || r == -EFBIG);
		FUZZ_CHECK(!c && !again);
		FUZZ_CHECK(strncmp(e.msg, NAME ":", sizeof NAME) == 0);
		FUZZ_CHECK(text_is_plain(text_escape(e.msg, shown, sizeof shown)));
	}
	config_free(c);
	config_free(again);
	free(text);
	return 0;
}
