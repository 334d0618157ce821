/* SPDX-License-Identifier: Apache-2.0 */
/* test-chain.c - the stages of a layer file, one by one and all at once, what they say of files
 * that are something else, and the identity of an image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
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
static atomic_bool no_reads; /* of files */
static atomic_uint reads;

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	reads++;
	if (!no_reads)
		return __real_pread64(fd, buf, n, off);
	errno = EIO;
	return -1;
}

static unsigned digest_calls =
	UINT_MAX; /* so many succeed, and the next one does not; UINT_MAX: all do */

static int digest_call(struct err *e)
{
	return digest_calls-- > 0 ? 0 : err_set(e, ENOMEM, "no digest");
}

#define DIGEST_WRAP(name, parameters, arguments)                                                   \
	int __real_##name parameters;                                                              \
	int __wrap_##name parameters;                                                              \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		int r = digest_call(e);                                                            \
		return r < 0 ? r : __real_##name arguments;                                        \
	}

DIGEST_WRAP(digest_open, (struct digest * d, struct err *e), (d, e))
DIGEST_WRAP(digest_update, (struct digest * d, const void *bytes, size_t n, struct err *e),
	    (d, bytes, n, e))
DIGEST_WRAP(digest_finish, (struct digest * d, char out[DIGEST_TEXT], struct err *e), (d, out, e))

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
	static char tar[1536], gnu_tar[512], no_tar[512], zeroes[4096], short_tar[300];
	static char text[600];
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
		{ "a bad tar of GNU", gnu_tar, 512, 1, -EBADMSG, "tar header: wrong checksum" },
		{ "no tar", no_tar, 512, -EBADMSG, -EBADMSG, "neither LSMT nor ZFile magic" },
		{ "a long config", text, 600, 0, -EBADMSG, "neither LSMT nor ZFile magic" },
		/* Too short for a header, it is none. */
		{ "the beginning of a tar", short_tar, 300, -EBADMSG, -EBADMSG, "neither" },
	};
	struct testlib_output zfile = make_layer(false, true, 'x');
	size_t i;

	memcpy(tar + 257, "ustar", 6);
	memcpy(gnu_tar + 257, "ustar  ", 8);
	memcpy(no_tar + 257, "ustaR", 6);
	memcpy(short_tar + 257, "ustar", 6);
	memset(text, '#', sizeof text);
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
	write_file("file", zfile.bytes, 511);
	assert_int_equal(chain_is_layer(path_of("file"), NULL), -EBADMSG);
	write_file("file", zfile.bytes, 512);
	assert_int_equal(chain_is_layer(path_of("file"), NULL), 1);
	free(zfile.bytes);
	assert_int_equal(chain_is_layer(path_of("gone"), NULL), -ENOENT);
	{
		struct chain c;

		assert_int_equal(chain_open_all(path_of("gone"), &c, NULL), -ENOENT);
		write_file("file", "12345", 5);
		no_reads = true;
		assert_int_equal(chain_is_layer(path_of("file"), NULL), -EIO);
		no_reads = false;
	}
}

/* All or nothing: a stage that is damaged closes those below it. */
static void a_damaged_stage_is_refused(void **state)
{
	static const struct {
		bool tar, zfile;
		size_t at; /* the byte that is changed; 0: the file ends after 2 KiB */
	} rows[] = {
		{ false, true, 24 },
		{ true, true, 1536 + 24 },
		{ true, false, 0 },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct testlib_output o = make_layer(rows[i].tar, rows[i].zfile, 'x');
		struct chain c = { .top = NULL };
		struct err e = { "" };

		o.bytes[rows[i].at] ^= rows[i].at ? 0xff : 0;
		write_file("damaged", o.bytes, rows[i].at ? o.n : 2048);
		if (chain_open_all(path_of("damaged"), &c, &e) != -EBADMSG || e.msg[0] == '\0')
			fail_msg("%zu: %s", i, e.msg);
		assert_null(c.top);
		free(o.bytes);
	}
}

/* How these bytes are wrapped: each character is a stage, the outermost first.  't': tar, 'z':
 * ZFile. */
static struct testlib_output wrap(const char *stages, const void *bytes, size_t n)
{
	static const struct zwriter_options z = { .algorithm = ZALGORITHM_LZ4, .block_size = 4096 };
	struct testlib_output o = { 0 }, inside = { 0 };
	struct sink *s = testlib_open_sink(&o);

	if (stages[1] != '\0') {
		inside = wrap(stages + 1, bytes, n);
		bytes = inside.bytes;
		n = inside.n;
	}
	if (stages[0] == 't')
		assert_int_equal(tar_open_sink(s, &s, NULL), 0);
	else
		assert_int_equal(zwriter_open_sink(s, &z, pool, &s, NULL), 0);
	assert_int_equal(sink_write(s, bytes, n, NULL), 0);
	assert_int_equal(sink_finish(s, NULL), 0);
	sink_close(s);
	free(inside.bytes);
	return o;
}

/* At most one archive, and in it one ZFile: what is wrapped more often is no layer, however often
 * it is read. */
static void stages_come_once_and_in_their_order(void **state)
{
	static const struct {
		const char *stages;
		bool tar, zfile, layer;
	} rows[] = {
		{ "t", true, false, true },    { "z", false, true, true },
		{ "tz", true, true, true },    { "tt", true, false, false },
		{ "zt", false, true, false },  { "zz", false, true, false },
		{ "ttz", true, false, false }, { "tzz", true, true, false },
		{ "tzt", true, true, false },
	};
	struct testlib_output layer = make_layer(false, false, 'x');
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct testlib_output o = wrap(rows[i].stages, layer.bytes, layer.n);
		struct source *s;
		struct chain c;
		struct err e = { "" };
		int r;

		assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
		chain_begin(s, &c);
		r = chain_enter_layer(&c, &e);
		if (r != (rows[i].layer ? 0 : -EBADMSG) || c.in_tar != rows[i].tar ||
		    c.in_zfile != rows[i].zfile)
			fail_msg("%s: %d %s", rows[i].stages, r, e.msg);
		assert_string_equal(e.msg, rows[i].layer ? ""
					   : rows[i].zfile
						   ? "not an overlaybd layer: no LSMT magic in "
						     "the ZFile"
						   : "not an overlaybd layer: neither LSMT nor "
						     "ZFile magic");
		chain_close(&c);
		free(o.bytes);
	}
	free(layer.bytes);
}

/* What looks like a tar header is judged at the outside alone. */
static void a_bad_tar_inside_is_no_tar(void **state)
{
	static const char *const stages[] = { "t", "z" };
	char tar[1024] = { 0 };
	size_t i;

	memcpy(tar + 257, "ustar", 6);
	for (i = 0; i < COUNT_OF(stages); i++) {
		struct testlib_output o = wrap(stages[i], tar, sizeof tar);
		struct source *s;
		struct chain c;
		struct err e;

		assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
		chain_begin(s, &c);
		assert_int_equal(chain_enter_tar(&c, &e), 0);
		assert_int_equal(chain_enter_zfile(&c, &e), 0);
		assert_int_equal(chain_find_layer(&c, &e), 1);
		assert_non_null(strstr(e.msg, "not an overlaybd layer: "));
		chain_close(&c);
		free(o.bytes);
	}
}

/* A cache is told of what may be wrong, and of no more. */
static void the_beginning_alone_is_dropped(void **state)
{
	static uint8_t zeroes[40000];
	struct fault f = { .fail_at = FAULT_NEVER };
	struct source *s;
	struct chain c;

	assert_int_equal(source_open_memory(zeroes, sizeof zeroes, &s, NULL), 0);
	fault_open_source(s, &f, &s);
	chain_begin(s, &c);
	assert_int_equal(chain_enter_layer(&c, NULL), -EBADMSG);
	assert_int_equal(f.drops, SOURCE_RETRIES);
	assert_int_equal(f.last_off, 0);
	assert_int_equal(f.last_n, 16384);
	chain_close(&c);
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

/* The identity of the image that these lowers (and "upper") make; `calls` and `read`: of libcrypto
 * and of the files, that succeed. */
static int identify_with(const char *text, bool writable, unsigned calls, bool read,
			 char out[DIGEST_TEXT], struct err *e)
{
	const struct config_options no_service = { .service = "none" };
	const struct image_options options = { .writable = writable };
	struct image_config *c;
	struct image *image;
	int r;

	assert_int_equal(config_parse(path_of("i.yaml"), text, strlen(text), &no_service, &c, NULL),
			 0);
	assert_int_equal(image_open(c, &options, &image, NULL), 0);
	digest_calls = calls;
	no_reads = !read;
	reads = 0;
	r = image_identity(image, out, e);
	digest_calls = UINT_MAX;
	no_reads = false;
	image_close(image);
	config_free(c);
	return r;
}

static int identify(const char *text, char out[DIGEST_TEXT], struct err *e)
{
	return identify_with(text, false, UINT_MAX, true, out, e);
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
	assert_int_equal(identify_with("lowers: [{file: b, digest: '" SHA256
				       "'}, {file: a}]\nupper: {data: u.data, index: u.index}\n",
				       true, UINT_MAX, true, got, NULL),
			 0);
	assert_string_equal(got, expected);
	free(a.bytes);
	free(b.bytes);
}

static void an_identity_that_cannot_be_had(void **state)
{
	static const char text[] = "lowers: [{file: a}, {file: b}]\n";
	struct testlib_output a = make_layer(false, false, 'a'), b = make_layer(true, true, 'b');
	char got[DIGEST_TEXT], start[160];
	struct err e = { "" };
	unsigned k;
	int r;

	write_file("a", a.bytes, a.n);
	write_file("b", b.bytes, b.n);
	for (k = 0;; k++) {
		r = identify_with(text, false, k, true, got, &e);
		if (r == 0)
			break;
		assert_int_equal(r, -ENOMEM);
		assert_non_null(strstr(e.msg, "no digest"));
		e.msg[0] = '\0';
	}
	assert_string_equal(e.msg, "");
	/* Of all, and of each: open, update, finish, and two updates that take it up. */
	assert_int_equal(k, 2 + 2 * 5);
	assert_int_equal(identify_with(text, false, UINT_MAX, false, got, &e), -EIO);
	snprintf(start, sizeof start, "%s/a: ", folder);
	assert_memory_equal(e.msg, start, strlen(start));
	free(a.bytes);
	free(b.bytes);
}

/* A layer whose index and trailer together have so many bytes. */
static void write_tail(const char *name, size_t n)
{
	struct layer_writer_options options = { .virtual_size = UINT64_C(1) << 40 };
	struct testlib_output o = { 0 };
	struct layer_writer *w;
	size_t i;

	assert_int_equal(layer_writer_open(testlib_open_sink(&o), &options, &w, NULL), 0);
	for (i = 0; i < (n - 4096) / 16; i++)
		assert_int_equal(layer_writer_zeroes(w, 2 * i, 1, NULL), 0);
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
	assert_int_equal(o.n, 4096 + n);
	write_file(name, o.bytes, o.n);
	free(o.bytes);
}

/* The tail is read by pieces of 256 KiB, after the trailer. */
static void an_identity_takes_few_reads(void **state)
{
	enum { PIECE = 256 * 1024 };
	char got[DIGEST_TEXT];

	write_tail("a", 16 * PIECE);
	assert_int_equal(identify("lowers: [{file: a}]\n", got, NULL), 0);
	assert_int_equal(reads, 1 + 16);
	write_tail("a", 16 * PIECE + 4096);
	assert_int_equal(identify("lowers: [{file: a}]\n", got, NULL), 0);
	assert_int_equal(reads, 1 + 17);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_packing_is_unpacked),
		TEST(wrong_bytes_are_asked_for_again),
		TEST(a_read_that_fails_is_told_and_not_repeated),
		TEST(other_files_are_told_apart),
		TEST(a_damaged_stage_is_refused),
		TEST(stages_come_once_and_in_their_order),
		TEST(a_bad_tar_inside_is_no_tar),
		TEST(the_beginning_alone_is_dropped),
		TEST(what_is_wrapped_may_be_no_layer),
		TEST(identity_is_a_digest_over_the_digests),
		TEST(an_identity_that_cannot_be_had),
		TEST(an_identity_takes_few_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
