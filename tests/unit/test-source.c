/* SPDX-License-Identifier: Apache-2.0 */
/* test-source.c - what reaches the lowest source of a chain, and digests of sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "core/base/digest.h"
#include "core/base/source.h"
#include "tests/fault.h"
#include "tests/unit/allocs.h"
#include "tests/unit/heap.h"

/* ---- the chain ---- */

/* Notes what it was told, after all others. */
struct spy {
	struct source source;
	struct source *below; /* NULL: the lowest */
	uint64_t shift;
	uint64_t off, n;
	unsigned prefetches, wants, drops, order, closes;
};

static unsigned order;

static void note(struct spy *x, uint64_t off, uint64_t n)
{
	x->off = off;
	x->n = n;
	x->order = ++order;
}

static void spy_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	((struct spy *)s)->prefetches++;
	note((struct spy *)s, off, n);
}

static void spy_want(struct source *s, uint64_t off, uint64_t n)
{
	((struct spy *)s)->wants++;
	note((struct spy *)s, off, n);
}

static void spy_drop(struct source *s, uint64_t off, uint64_t n)
{
	((struct spy *)s)->drops++;
	note((struct spy *)s, off, n);
}

static struct source *spy_below(struct source *s, uint64_t *off, uint64_t *n)
{
	struct spy *x = (struct spy *)s;

	*off += x->shift;
	return x->below;
}

static int spy_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	note((struct spy *)s, off, n);
	return 0;
}

static void spy_close(struct source *s)
{
	((struct spy *)s)->closes++;
}

static const struct source_ops spy_lowest = {
	.name = "spy",
	.pread = spy_pread,
	.prefetch = spy_prefetch,
	.want = spy_want,
	.drop = spy_drop,
	.close = spy_close,
};
static const struct source_ops spy_upper = {
	.name = "upper spy",
	.pread = spy_pread,
	.below = spy_below,
	.prefetch = spy_prefetch,
	.want = spy_want,
	.drop = spy_drop,
	.close = spy_close,
};

static void hints_are_cut_on_their_way_down(void **state)
{
	struct spy low = { .source = { &spy_lowest, 100 } };
	struct spy up = { .source = { &spy_upper, 50 }, .below = &low.source, .shift = 20 };
	struct source *slice;

	assert_int_equal(source_open_slice(&up.source, 10, 30, &slice, NULL), 0);
	source_prefetch(slice, 5, 7);
	assert_true(low.prefetches == 1 && low.off == 35 && low.n == 7);
	source_want(slice, 5, UINT64_MAX);
	assert_true(low.wants == 1 && low.off == 35 && low.n == 25);
	source_want(slice, 29, 1);
	assert_true(low.wants == 2 && low.off == 59 && low.n == 1);
	/* Nothing is left of these. */
	source_prefetch(slice, 30, 1);
	source_want(slice, 30, 1);
	source_want(slice, 5, 0);
	source_prefetch(slice, 5, 0);
	source_drop(slice, 30, 1);
	source_drop(slice, 5, 0);
	source_prefetch(&low.source, 100, 1);
	source_want(&low.source, 0, 0);
	assert_true(low.prefetches == 1 && low.wants == 2 && low.drops == 0);
	assert_true(up.prefetches == 0 && up.wants == 0 && up.drops == 0);
	/* Whoever is above might read in between: the lowest is told first. */
	source_drop(slice, 20, 100);
	assert_true(low.drops == 1 && low.off == 50 && low.n == 10);
	assert_true(up.drops == 1 && up.off == 30 && up.n == 10);
	assert_true(low.order < up.order);
	source_close(slice);
	assert_int_equal(up.closes, 1);
	source_close(NULL);
}

static void the_bottom_of_a_chain(void **state)
{
	struct spy low = { .source = { &spy_lowest, 40 } };
	struct spy up = { .source = { &spy_upper, 50 }, .below = &low.source, .shift = 20 };
	uint64_t off = 5, n = 100;

	assert_ptr_equal(source_bottom(&up.source, &off, &n), &low.source);
	assert_true(off == 25 && n == 15); /* the lower one is the shorter */
	off = 30;
	n = 5;
	assert_ptr_equal(source_bottom(&up.source, &off, &n), &low.source);
	assert_int_equal(n, 0);
	off = 50;
	n = 5;
	assert_ptr_equal(source_bottom(&up.source, &off, &n), &up.source);
	assert_int_equal(n, 0);
}

static void reads_are_checked_and_shifted(void **state)
{
	struct spy low = { .source = { &spy_lowest, 100 } };
	struct err e = { "" };
	struct source *slice;
	char buf[200];

	assert_int_equal(source_open_slice(&low.source, 90, 11, &slice, &e), -EINVAL);
	assert_string_equal(e.msg, "slice of 11 bytes at 90 exceeds 100 bytes");
	assert_int_equal(source_open_slice(&low.source, 90, 10, &slice, &e), 0);
	assert_int_equal(source_pread(slice, buf, 4, 6, &e), 0);
	assert_true(low.off == 96 && low.n == 4);
	low.order = 0;
	assert_int_equal(source_pread(slice, buf, 0, 10, &e), 0); /* nothing: nobody is asked */
	assert_int_equal(source_pread(slice, buf, 5, 6, &e), -EINVAL);
	assert_string_equal(e.msg, "slice: 5 bytes at 6 lie beyond its end at 10");
	assert_int_equal(low.order, 0);
	source_close(slice);
}

/* A FIFO that somebody names as a layer must not make the server wait for a writer. */
static void what_is_no_file_is_refused_at_once(void **state)
{
	char folder[] = "/tmp/test-source.XXXXXX", path[64];
	struct source *s;
	struct err e = { "" };

	snprintf(path, sizeof path, "%s/fifo", mkdtemp(folder));
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(20);
	assert_int_equal(source_open_file(path, &s, &e), -EINVAL);
	alarm(0);
	assert_string_equal(e.msg, "neither a regular file nor a block device");
	unlink(path);
	rmdir(folder);
	assert_int_equal(source_open_file("/nonexistent", &s, &e), -ENOENT);
	assert_string_equal(e.msg, "No such file or directory");
	assert_int_equal(source_open_fd(-1, &s, &e), -EBADF);
}

static void open_and_close(void)
{
	struct source *memory, *slice, *file;
	char name[64];
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	assert_int_equal(source_open_memory("0123456789", 10, &memory, NULL), 0);
	assert_int_equal(source_open_slice(memory, 2, 8, &slice, NULL), 0);
	assert_int_equal(source_open_file(name, &file, NULL), 0);
	source_prefetch(file, 0, 10);
	source_close(slice);
	source_close(file);
	allocs_left = 0;
	assert_int_equal(source_open_file(name, &file, NULL), -ENOMEM);
	allocs_left = 0;
	assert_int_equal(source_open_memory("x", 1, &memory, NULL), -ENOMEM);
	allocs_left = -1;
	close(fd);
	/* All descriptors were given back: the next one is the same. */
	assert_int_equal(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd);
	close(fd);
}

static void nothing_is_left_behind(void **state)
{
	struct spy low = { .source = { &spy_lowest, 100 } };
	struct source *slice;

	HEAP_STEADY(open_and_close());
	allocs_left = 0;
	assert_int_equal(source_open_slice(&low.source, 0, 1, &slice, NULL), -ENOMEM);
	allocs_left = -1;
	assert_int_equal(low.closes, 0); /* it stays the caller's */
}

/* ---- digests ---- */

static const char *failing; /* this call of libcrypto fails */

static bool fails(const char *call)
{
	return failing && strcmp(failing, call) == 0;
}

EVP_MD_CTX *__real_EVP_MD_CTX_new(void);
EVP_MD_CTX *__wrap_EVP_MD_CTX_new(void);
int __real_EVP_DigestInit_ex(EVP_MD_CTX *c, const EVP_MD *type, ENGINE *engine);
int __wrap_EVP_DigestInit_ex(EVP_MD_CTX *c, const EVP_MD *type, ENGINE *engine);
int __real_EVP_DigestUpdate(EVP_MD_CTX *c, const void *bytes, size_t n);
int __wrap_EVP_DigestUpdate(EVP_MD_CTX *c, const void *bytes, size_t n);
int __real_EVP_DigestFinal_ex(EVP_MD_CTX *c, unsigned char *sum, unsigned *n);
int __wrap_EVP_DigestFinal_ex(EVP_MD_CTX *c, unsigned char *sum, unsigned *n);

EVP_MD_CTX *__wrap_EVP_MD_CTX_new(void)
{
	return fails("new") ? NULL : __real_EVP_MD_CTX_new();
}

int __wrap_EVP_DigestInit_ex(EVP_MD_CTX *c, const EVP_MD *type, ENGINE *engine)
{
	return fails("init") ? 0 : __real_EVP_DigestInit_ex(c, type, engine);
}

int __wrap_EVP_DigestUpdate(EVP_MD_CTX *c, const void *bytes, size_t n)
{
	return fails("update") ? 0 : __real_EVP_DigestUpdate(c, bytes, n);
}

int __wrap_EVP_DigestFinal_ex(EVP_MD_CTX *c, unsigned char *sum, unsigned *n)
{
	return fails("final") ? 0 : __real_EVP_DigestFinal_ex(c, sum, n);
}

static void digest_of_each_kind(int want)
{
	struct source *s;
	char text[DIGEST_TEXT];

	assert_int_equal(digest_bytes("abc", 3, text, NULL), want);
	assert_int_equal(source_open_memory("abc", 3, &s, NULL), 0);
	assert_int_equal(digest_source(s, text, NULL), want);
	source_close(s);
}

static void a_failing_digest_is_no_digest(void **state)
{
	static const struct {
		const char *call, *message;
	} rows[] = {
		{ "new", "out of memory" },
		{ "init", "out of memory" },
		{ "update", "computing a digest failed" },
		{ "final", "computing a digest failed" },
	};
	char text[DIGEST_TEXT];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err e = { "" };

		failing = rows[i].call;
		assert_int_equal(digest_bytes("abc", 3, text, &e), -ENOMEM);
		assert_string_equal(e.msg, rows[i].message);
		HEAP_STEADY(digest_of_each_kind(-ENOMEM));
		failing = NULL;
	}
	HEAP_STEADY(digest_of_each_kind(0));
}

/* In pieces of 1 MiB, each of which may fail. */
static void large_sources_are_read_in_pieces(void **state)
{
	enum { PIECE = 1 << 20 };
	static const size_t sizes[] = {
		0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5
	};
	uint8_t *bytes = malloc(4 * PIECE);
	char whole[DIGEST_TEXT], text[DIGEST_TEXT];
	size_t i, k;

	for (i = 0; i < 4 * PIECE; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 1000);
	for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		size_t pieces = (sizes[i] + PIECE - 1) / PIECE;

		assert_int_equal(digest_bytes(bytes, sizes[i], whole, NULL), 0);
		for (k = 0; k <= pieces; k++) {
			struct fault f = { .fail_at = k };
			struct err e = { "" };
			struct source *s;

			assert_int_equal(source_open_memory(bytes, sizes[i], &s, NULL), 0);
			fault_open_source(s, &f, &s);
			assert_int_equal(digest_source(s, text, &e), k < pieces ? -EIO : 0);
			assert_int_equal(f.calls, k < pieces ? k + 1 : pieces);
			if (k == pieces)
				assert_string_equal(text, whole);
			source_close(s);
		}
	}
	free(bytes);
	allocs_left = 0;
	assert_int_equal(digest_source(NULL, text, NULL), -ENOMEM);
	allocs_left = -1;
}

static void the_form_of_a_digest(void **state)
{
	char text[80] = "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
	static const char wrong[] = "g/:`G@ ";
	size_t i, k;

	assert_true(digest_is_valid(text));
	for (i = 7; i < 71; i++) {
		char was = text[i];

		for (k = 0; k < sizeof wrong; k++) {
			text[i] = wrong[k];
			assert_false(digest_is_valid(text));
		}
		text[i] = was;
	}
	for (i = 0; i < 7; i++) {
		text[i]++;
		assert_false(digest_is_valid(text));
		text[i]--;
	}
	memcpy(text + 71, "0", 2);
	assert_false(digest_is_valid(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hints_are_cut_on_their_way_down),
		cmocka_unit_test(the_bottom_of_a_chain),
		cmocka_unit_test(reads_are_checked_and_shifted),
		cmocka_unit_test(what_is_no_file_is_refused_at_once),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(a_failing_digest_is_no_digest),
		cmocka_unit_test(large_sources_are_read_in_pieces),
		cmocka_unit_test(the_form_of_a_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
