/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_manifest.c - the documents of an image: to the byte for a small one, read back for
 * others, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "fetch/image_manifest.h"
#include "fetch/manifest.h"
#include "tests/unit/alloc.h"

#define HEX16 "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16
#define OTHER "sha256:" HEX16 HEX16 HEX16 "fedcba9876543210"
#define KEY "containerd.io/snapshot/overlaybd/"

static const struct image_manifest_layer two[] = {
	{ DIGEST, 1234567, 0, false },
	{ OTHER, 4096, 5368709121, false },
};

static const char two_config[] =
	"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
	"\"diff_ids\":[\"" DIGEST "\",\"" OTHER "\"]}}";
/* Both digests as sha256sum prints them. */
#define TWO_CONFIG_DIGEST "sha256:b18b0e363a7c83bb17b3d4bfec9b3849295a7bc5bb72c52de86533881768d366"
#define TWO_MANIFEST_DIGEST                                                                        \
	"sha256:8a9ffb6039ee09ef3b06a6e9a5b44d545b89ff31412f93b8dce66f3dc5b8c461"

static const char two_manifest[] =
	"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
	"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\","
	"\"digest\":\"" TWO_CONFIG_DIGEST "\",\"size\":225},\"layers\":["
	"{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" DIGEST "\","
	"\"size\":1234567,\"annotations\":{\"" KEY "blob-digest\":\"" DIGEST "\","
	"\"" KEY "blob-size\":\"1234567\",\"" KEY "version\":\"0.1.0\","
	"\"" KEY "blob-fs-type\":\"ext4\"}},"
	"{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" OTHER "\","
	"\"size\":4096,\"annotations\":{\"" KEY "blob-digest\":\"" OTHER "\","
	"\"" KEY "blob-size\":\"4096\",\"" KEY "version\":\"0.1.0\","
	"\"" KEY "blob-fs-type\":\"ext4\",\"" KEY "vsize\":\"6\"}}]}";

static struct image_manifest build(const struct image_manifest_layer *layers, size_t count,
				   const char *platform, const char *fs_type)
{
	struct image_manifest m = { 0 };
	struct err e = { "" };

	if (image_manifest_build(layers, count, platform, fs_type, &m, &e) < 0)
		fail_msg("%s", e.msg);
	return m;
}

static void expect_document(const struct image_document *d, const char *text, const char *digest)
{
	assert_string_equal(d->text, text);
	assert_int_equal(d->n, strlen(text));
	assert_string_equal(d->digest, digest);
}

static void a_small_image_to_the_byte(void **state)
{
	struct image_manifest m = build(two, 2, "linux/amd64", "ext4");

	expect_document(&m.config, two_config, TWO_CONFIG_DIGEST);
	expect_document(&m.manifest, two_manifest, TWO_MANIFEST_DIGEST);
	image_manifest_release(&m);
	assert_null(m.config.text);
}

static void optional_parts_come_and_go(void **state)
{
	struct image_manifest m = build(two, 1, "linux/arm64/v8", NULL);
	json_t *config = json_loads(m.config.text, JSON_REJECT_DUPLICATES, NULL);
	json_t *manifest = json_loads(m.manifest.text, JSON_REJECT_DUPLICATES, NULL);
	json_t *layer = json_array_get(json_object_get(manifest, "layers"), 0);
	json_t *digests = json_object_get(json_object_get(config, "rootfs"), "diff_ids");

	assert_string_equal(json_string_value(json_object_get(config, "architecture")), "arm64");
	assert_string_equal(json_string_value(json_object_get(config, "variant")), "v8");
	assert_int_equal(json_object_size(config), 4);
	assert_int_equal(json_array_size(digests), 1);
	assert_string_equal(json_string_value(json_array_get(digests, 0)), DIGEST);
	assert_int_equal(json_object_size(json_object_get(layer, "annotations")), 3);
	json_decref(config);
	json_decref(manifest);
	image_manifest_release(&m);
}

static void an_acceleration_layer_says_so(void **state)
{
	const struct image_manifest_layer layers[] = { two[0], { OTHER, 4096, 0, true } };
	struct image_manifest m = build(layers, 2, "linux/amd64", "ext4");
	const char *at = strstr(m.manifest.text, "acceleration-layer");

	assert_non_null(strstr(m.manifest.text,
			       "\"annotations\":{\"" KEY "blob-digest\":\"" OTHER "\",\"" KEY
			       "blob-size\":\"4096\",\"" KEY "version\":\"0.1.0\",\"" KEY
			       "acceleration-layer\":\"yes\"}"));
	assert_true(at && !strstr(at + 1, "acceleration-layer"));
	assert_non_null(strstr(m.manifest.text, "\"" KEY "blob-fs-type\":\"ext4\"}"));
	image_manifest_release(&m);
}

static void vsize_is_rounded_up_to_gib(void **state)
{
	static const struct {
		uint64_t vsize;
		const char *text;
	} rows[] = {
		{ 512, "\"" KEY "vsize\":\"1\"" },
		{ 1073741824, "\"" KEY "vsize\":\"1\"" },
		{ UINT64_MAX, "\"" KEY "vsize\":\"17179869184\"" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct image_manifest_layer layer = { DIGEST, INT64_MAX, rows[i].vsize, false };
		struct image_manifest m = build(&layer, 1, "linux/amd64", NULL);

		assert_non_null(strstr(m.manifest.text, rows[i].text));
		assert_non_null(strstr(m.manifest.text, "\"size\":9223372036854775807,"));
		image_manifest_release(&m);
	}
}

static const struct {
	struct image_manifest_layer layer;
	const char *platform, *fs_type, *message;
} bad[] = {
	{ { "", 1, 0, false }, "linux/amd64", NULL, "layer 1: '' is no sha256 digest" },
	{ { "sha256:00", 1, 0, false },
	  "linux/amd64",
	  NULL,
	  "layer 1: 'sha256:00' is no sha256 digest" },
	{ { DIGEST, 0, 0, false }, "linux/amd64", NULL, "layer 1: a blob of 0 bytes" },
	{ { DIGEST, UINT64_MAX, 0, false },
	  "linux/amd64",
	  NULL,
	  "layer 1: a blob of 18446744073709551615 bytes" },
	{ { DIGEST, 1, 0, false },
	  "linux",
	  NULL,
	  "platform 'linux' is not OS/ARCHITECTURE[/VARIANT]" },
	{ { DIGEST, 1, 0, false }, "", NULL, "platform '' is not OS/ARCHITECTURE[/VARIANT]" },
	{ { DIGEST, 1, 0, false }, "/amd64", NULL, "platform '/amd64' is not" },
	{ { DIGEST, 1, 0, false }, "linux/amd64/", NULL, "platform 'linux/amd64/' is not" },
	{ { DIGEST, 1, 0, false }, "a/b/c/d", NULL, "platform 'a/b/c/d' is not" },
	{ { DIGEST, 1, 0, false }, "linux/\xff", NULL, "platform 'linux/\xff' is not" },
	{ { DIGEST, 1, 0, false }, "linux/amd64", "", "'' is no name of a file system" },
	{ { DIGEST, 1, 0, false },
	  "linux/amd64",
	  "ext4\xff",
	  "'ext4\xff' is no name of a file system" },
};

static void wrong_input_is_refused(void **state)
{
	struct image_manifest m = { 0 };
	struct err e;
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct image_manifest_layer layers[] = { two[0], bad[i].layer };
		int r = image_manifest_build(layers, 2, bad[i].platform, bad[i].fs_type, &m, &e);

		if (r != -EINVAL || !strstr(e.msg, bad[i].message))
			fail_msg("row %zu: %d, %s", i, r, e.msg);
	}
	assert_int_equal(image_manifest_build(two, 0, "linux/amd64", NULL, &m, &e), -EINVAL);
	assert_string_equal(e.msg, "an image needs a layer");
	assert_null(m.config.text);
}

static void too_many_layers_are_refused(void **state)
{
	enum { MANY = 20000 };
	AUTO_FREE struct image_manifest_layer *layers = calloc(MANY, sizeof *layers);
	struct image_manifest m = { 0 };
	struct err e;
	size_t i;

	assert_non_null(layers);
	for (i = 0; i < MANY; i++)
		layers[i] = two[0];
	m = build(layers, MANY / 2, "linux/amd64", NULL);
	assert_true(m.manifest.n <= MANIFEST_MAX);
	image_manifest_release(&m);
	assert_int_equal(image_manifest_build(layers, MANY, "linux/amd64", NULL, &m, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "the manifest of 20000 layers has "));
}

static size_t size_of(const struct image_manifest_layer *layers, size_t count)
{
	struct image_manifest m = build(layers, count, "linux/amd64", NULL);
	size_t n = m.manifest.n;

	image_manifest_release(&m);
	return n;
}

/* A manifest of 4 MiB to the byte, and one of a byte more. */
static void four_mebibytes_are_the_limit(void **state)
{
	enum { MANY = 20000, GIB = 1024 * 1024 * 1024 };
	AUTO_FREE struct image_manifest_layer *layers = calloc(MANY, sizeof *layers);
	struct image_manifest m = { 0 };
	char text[128];
	size_t i, each, count, left, digits;
	struct err e;

	assert_non_null(layers);
	for (i = 0; i < MANY; i++)
		layers[i] = (struct image_manifest_layer){ DIGEST, 1, i == 0 ? GIB : 0, false };
	each = size_of(layers, 101) - size_of(layers, 100);
	count = (4194304 - size_of(layers, 100)) / each + 99;
	left = 4194304 - size_of(layers, count);
	if (left % 2 == 1) { /* a digit of a layer's size stands there twice */
		layers[0].vsize *= 10;
		left--;
	}
	for (i = 0; left > 0; i++)
		for (digits = 1; digits < 18 && left > 0; digits++, left -= 2)
			layers[i].size *= 10;
	assert_int_equal(size_of(layers, count), 4194304);
	layers[0].vsize *= 10;
	assert_int_equal(image_manifest_build(layers, count, "linux/amd64", NULL, &m, &e), -EFBIG);
	snprintf(text, sizeof text,
		 "the manifest of %zu layers has 4194305 bytes, registries take 4194304", count);
	assert_string_equal(e.msg, text);
	assert_true(!m.config.text && !m.manifest.text);
}

/* Whether the allocation that was to be refused was ever asked for; all others succeed again. */
static bool was_refused(void)
{
	bool refused = alloc_left < 0;

	alloc_left = -1;
	return refused;
}

/* libcrypto does without some that it asks for: then all must be as if they had succeeded. */
static void allocations_fail_one_by_one(void **state)
{
	struct image_manifest m = { 0 };
	struct err e;
	bool refused = true;
	long k;
	int r;

	for (k = 0; refused; k++) {
		alloc_left = k;
		r = image_manifest_build(two, 2, "linux/amd64", "ext4", &m, &e);
		refused = was_refused();
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			assert_string_equal(e.msg, "out of memory");
			assert_true(refused && !m.config.text);
			continue;
		}
		expect_document(&m.config, two_config, TWO_CONFIG_DIGEST);
		expect_document(&m.manifest, two_manifest, TWO_MANIFEST_DIGEST);
		image_manifest_release(&m);
	}
	assert_true(k > 100);
}

static void digests_run_out_of_memory(void **state)
{
	char text[DIGEST_TEXT];
	bool refused = true;
	unsigned failures = 0;
	struct err e;
	long k;
	int r;

	for (k = 0; refused; k++) {
		alloc_left = k;
		r = digest_bytes(two_config, sizeof two_config - 1, text, &e);
		refused = was_refused();
		failures += r < 0;
		assert_true(refused || r == 0);
		assert_string_equal(r < 0 ? e.msg : text,
				    r < 0 ? "out of memory" : TWO_CONFIG_DIGEST);
	}
	assert_true(failures > 0);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
	return malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
	return realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
	free(p);
}

/* The libraries' allocations come to the wrappers too. */
static int set_up(void **state)
{
	json_set_alloc_funcs(__wrap_malloc, free);
	return CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) == 1 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_image_to_the_byte),
		cmocka_unit_test(optional_parts_come_and_go),
		cmocka_unit_test(an_acceleration_layer_says_so),
		cmocka_unit_test(vsize_is_rounded_up_to_gib),
		cmocka_unit_test(wrong_input_is_refused),
		cmocka_unit_test(too_many_layers_are_refused),
		cmocka_unit_test(four_mebibytes_are_the_limit),
		cmocka_unit_test(allocations_fail_one_by_one),
		cmocka_unit_test(digests_run_out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
