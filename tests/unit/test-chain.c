/* SPDX-License-Identifier: Apache-2.0 */
/* test-chain.c - the stages of a layer file, one by one and all at once, what they say of files
 * that are something else, and the identity of an image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/workers.h"
#include "core/base/le.h"
#include "core/chain.h"
#include "core/identity.h"
#include "core/layer_writer.h"
#include "core/upper_log.h"
#include "tests/fault.h"
#include "tests/testlib.h"
#include "zfile/zwriter.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[64];
static struct workers *pool;

static int set_up(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/test-chain.XXXXXX");
	return mkdtemp(folder) ? workers_open(1, &pool, NULL) : -1;
}

static int tear_down(void **state)
{
	char command[128];

	workers_close(pool);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static const char *path_of(const char *name)
{
	static char path[2][160];
	static unsigned turn;

	turn ^= 1;
	snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
	return path[turn];
}

static void write_file(const char *name, const void *bytes, size_t n)
{
	assert_int_equal(io_replace_file(path_of(name), bytes, n, NULL), 0);
}

/* A layer of one sector of this byte, packed so. */
static struct testlib_output make_layer(bool tar, bool zfile, char byte)
{
	static const struct zwriter_options z = { .algorithm = ZALGORITHM_LZ4, .block_size = 4096 };
	struct layer_writer_options options = { .virtual_size = 4096 };
	struct testlib_output o = { 0 };
	struct sink *s = testlib_open_sink(&o);
	struct layer_writer *w;
	char sector[512];

	memset(sector, byte, sizeof sector);
	if (tar)
		assert_int_equal(tar_open_sink(s, &s, NULL), 0);
	if (zfile)
		assert_int_equal(zwriter_open_sink(s, &z, pool, &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	assert_int_equal(layer_writer_data(w, 1, sector, 1, NULL), 0);
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
	return o;
}

static void every_packing_is_unpacked(void **state)
{
	unsigned how;

	for (how = 0; how < 4; how++) {
		bool tar = how & 1, zfile = how & 2;
		struct testlib_output o = make_layer(tar, zfile, 'x');
		struct chain c;
		struct source *s;
		char sector[512];

		write_file("layer", o.bytes, o.n);
		assert_int_equal(chain_open_all(path_of("layer"), &c, NULL), 0);
		assert_int_equal(c.file_size, o.n);
		assert_int_equal(c.in_tar, tar);
		assert_int_equal(c.in_zfile, zfile);
		assert_int_equal(chain_find_layer(&c, NULL), 0);
		assert_int_equal(source_pread(c.top, sector, sizeof sector, 4096, NULL), 0);
		assert_int_equal(sector[511], 'x');
		if (zfile)
			assert_int_equal(c.zfile.block_size, 4096);
		chain_close(&c);
		chain_close(&c); /* allowed more than once */
		assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
		chain_begin(s, &c);
		assert_int_equal(chain_enter_layer(&c, NULL), 0);
		assert_int_equal(c.in_tar, tar);
		assert_int_equal(c.in_zfile, zfile);
		chain_close(&c);
		assert_int_equal(chain_is_layer(path_of("layer"), NULL), 1);
		free(o.bytes);
	}
}

/* A cache may hold wrong bytes: they are dropped and read once more, by each stage, not for ever.
 */
static void wrong_bytes_are_asked_for_again(void **state)
{
	static const uint64_t at[] = { 0, 512, 1024, 1536 + 40 }; /* in tar, tar, ZFile */
	unsigned flips;
	size_t i;

	for (i = 0; i < COUNT_OF(at); i++)
		for (flips = 1; flips <= SOURCE_RETRIES + 1; flips++) {
			struct testlib_output o = make_layer(true, true, 'x');
			struct fault f = { .fail_at = FAULT_NEVER,
					   .flip_off = at[i],
					   .flips = flips };
			struct source *s, *faulty;
			struct chain c;
			struct err e;
			int r;

			assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
			fault_open_source(s, &f, &faulty);
			chain_begin(faulty, &c);
			r = chain_enter_layer(&c, &e);
			if (r != (flips <= SOURCE_RETRIES ? 0 : -EBADMSG))
				fail_msg("%u flips at %llu: %d %s", flips,
					 (unsigned long long)at[i], r, r < 0 ? e.msg : "");
			/* A ZFile drops its two parts. */
			assert_int_equal(f.drops,
					 (i == 3 ? 2 : 1) * min_u64(flips, SOURCE_RETRIES));
			chain_close(&c);
			free(o.bytes);
		}
}

static void a_read_that_fails_is_told_and_not_repeated(void **state)
{
	struct testlib_output o = make_layer(true, true, 'x');
	uint64_t k;

	for (k = 0;; k++) {
		struct fault f = { .fail_at = k };
		struct source *s, *faulty;
		struct chain c;
		struct err e;
		int r;

		assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
		fault_open_source(s, &f, &faulty);
		chain_begin(faulty, &c);
		r = chain_enter_layer(&c, &e);
		chain_close(&c);
		assert_int_equal(f.closes, 1);
		if (!f.fired)
			break;
		assert_int_equal(r, -EIO);
		assert_int_equal(f.drops, 0);
		assert_non_null(strstr(e.msg, "injected fault"));
	}
	assert_true(k > 3);
	free(o.bytes);
}

static void other_files_are_told_apart(void **state)
{
	static char tar[1536], zeroes[4096], short_tar[300];
	static const struct {
		const char *what;
		const void *bytes;
		size_t n;
		int is_layer, code;
		const char *message;
	} rows[] = {
		{ "empty", "", 0, 0, -EBADMSG, "not an overlaybd layer: neither LSMT nor ZFile" },
		{ "a config", "lowers: []\n", 11, 0, -EBADMSG, "neither LSMT nor ZFile magic" },
		{ "bytes", "\1\0\2", 3, -EBADMSG, -EBADMSG, "neither LSMT nor ZFile magic" },
		{ "zeroes", zeroes, 4096, -EBADMSG, -EBADMSG, "neither LSMT nor ZFile magic" },
		{ "a bad tar", tar, 1536, 1, -EBADMSG, "tar header: wrong checksum" },
		/* Too short for a header, it is none. */
		{ "the beginning of a tar", short_tar, 300, -EBADMSG, -EBADMSG, "neither" },
	};
	size_t i;

	memcpy(tar + 257, "ustar", 6);
	memcpy(short_tar + 257, "ustar", 6);
	for (i = 0; i < COUNT_OF(rows); i++) {
		struct chain c;
		struct err e = { "" };
		int r;

		write_file("file", rows[i].bytes, rows[i].n);
		r = chain_is_layer(path_of("file"), &e);
		if (r != rows[i].is_layer)
			fail_msg("%s: %d", rows[i].what, r);
		if (r < 0)
			assert_non_null(strstr(e.msg, "neither a layer (no tar, ZFile or LSMT "
						      "magic) nor a config"));
		assert_int_equal(chain_open_all(path_of("file"), &c, &e), 0);
		r = chain_find_layer(&c, &e);
		if (r != rows[i].code || !strstr(e.msg, rows[i].message))
			fail_msg("%s: %d %s", rows[i].what, r, e.msg);
		chain_close(&c);
		assert_int_equal(chain_open(path_of("file"), &c, &e), 0);
		assert_int_equal(chain_enter_layer(&c, &e), -EBADMSG);
		chain_close(&c);
	}
	assert_int_equal(chain_is_layer(path_of("gone"), NULL), -ENOENT);
	{
		struct chain c;

		assert_int_equal(chain_open_all(path_of("gone"), &c, NULL), -ENOENT);
	}
}

/* A ZFile or a tar archive may hold something else: 1, and the text says so. */
static void what_is_wrapped_may_be_no_layer(void **state)
{
	unsigned how;

	for (how = 1; how < 4; how++) {
		static const struct zwriter_options z = { .algorithm = ZALGORITHM_LZ4,
							  .block_size = 4096 };
		struct testlib_output o = { 0 };
		struct sink *s = testlib_open_sink(&o);
		struct chain c;
		struct err e;

		if (how & 1)
			assert_int_equal(tar_open_sink(s, &s, NULL), 0);
		if (how & 2)
			assert_int_equal(zwriter_open_sink(s, &z, pool, &s, NULL), 0);
		assert_int_equal(sink_write(s, "hello", 5, NULL), 0);
		assert_int_equal(sink_finish(s, NULL), 0);
		sink_close(s);
		write_file("wrapped", o.bytes, o.n);
		assert_int_equal(chain_open_all(path_of("wrapped"), &c, NULL), 0);
		assert_int_equal(chain_find_layer(&c, &e), 1);
		assert_string_equal(e.msg, how & 2 ? "not an overlaybd layer: no LSMT magic in the "
						     "ZFile"
						   : "not an overlaybd layer: neither LSMT nor "
						     "ZFile magic");
		chain_close(&c);
		assert_int_equal(chain_open(path_of("wrapped"), &c, NULL), 0);
		assert_int_equal(chain_enter_layer(&c, &e), -EBADMSG);
		chain_close(&c);
		assert_int_equal(chain_is_layer(path_of("wrapped"), NULL), 1);
		free(o.bytes);
	}
}

/* ---- identity ---- */

#define SHA256 "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA512                                                                                     \
	"sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                  \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* The identity of the image that these lowers (and "upper") make. */
static int identify(const char *text, char out[DIGEST_TEXT], struct err *e)
{
	const struct config_options no_service = { .service = "none" };
	struct image_config *c;
	struct image *image;
	int r;

	assert_int_equal(config_parse(path_of("i.yaml"), text, strlen(text), &no_service, &c, NULL),
			 0);
	assert_int_equal(image_open(c, NULL, &image, NULL), 0);
	r = image_identity(image, out, e);
	image_close(image);
	config_free(c);
	return r;
}

static void identity_is_a_digest_over_the_digests(void **state)
{
	struct testlib_output a = make_layer(false, false, 'a'), b = make_layer(true, true, 'b');
	char tail[DIGEST_TEXT], expected[DIGEST_TEXT], got[DIGEST_TEXT], text[512];
	int n;

	write_file("a", a.bytes, a.n);
	write_file("b", b.bytes, b.n);
	assert_int_equal(identify("lowers: [{file: a, digest: '" SHA256 "'}]\n", got, NULL), 0);
	assert_int_equal(digest_bytes(SHA256 "\n", 72, expected, NULL), 0);
	assert_string_equal(got, expected);
	assert_int_equal(identify("lowers: [{file: a, digest: '" SHA512 "'}]\n", got, NULL), 0);
	assert_int_equal(digest_bytes(SHA512 "\n", 136, expected, NULL), 0);
	assert_string_equal(got, expected);
	/* Without a digest its index and trailer count: 4096 bytes each, behind a sector of data.
	 */
	assert_int_equal(digest_bytes(a.bytes + 4096 + 512, a.n - 4096 - 512, tail, NULL), 0);
	n = snprintf(text, sizeof text, "%s\n%s\n", SHA256, tail);
	assert_int_equal(digest_bytes(text, (size_t)n, expected, NULL), 0);
	assert_int_equal(
		identify("lowers: [{file: b, digest: '" SHA256 "'}, {file: a}]\n", got, NULL), 0);
	assert_string_equal(got, expected);
	/* What is written on top changes nothing. */
	{
		char data[160], index[160];

		snprintf(data, sizeof data, "%s/u.data", folder);
		snprintf(index, sizeof index, "%s/u.index", folder);
		assert_int_equal(upper_log_create(NULL, data, index, 4096, NULL, NULL, NULL), 0);
	}
	assert_int_equal(identify("lowers: [{file: b, digest: '" SHA256
				  "'}, {file: a}]\nupper: {data: u.data, index: u.index}\n",
				  got, NULL),
			 0);
	assert_string_equal(got, expected);
	free(a.bytes);
	free(b.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_packing_is_unpacked),
		TEST(wrong_bytes_are_asked_for_again),
		TEST(a_read_that_fails_is_told_and_not_repeated),
		TEST(other_files_are_told_apart),
		TEST(what_is_wrapped_may_be_no_layer),
		TEST(identity_is_a_digest_over_the_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
