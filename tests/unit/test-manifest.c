/* SPDX-License-Identifier: Apache-2.0 */
/* test-manifest.c - manifests and indexes: layers, platforms, and each refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "fetch/manifest.h"
#include "tests/unit/allocs.h"

#define HEX15 "123456789abcdef"
#define HEX16 "0" HEX15
#define D(c) "sha256:" #c HEX15 HEX16 HEX16 HEX16
#define MARK "containerd.io/snapshot/overlaybd/"
#define NOTES(digest, size, more)                                                                  \
	"\"annotations\":{\"" MARK "blob-digest\":\"" digest "\",\"" MARK "blob-size\":\"" size    \
	"\"" more "}"
#define LAYER(digest, size)                                                                        \
	"{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" D(               \
		f) "\",\"size\":7," NOTES(digest, size, "") "}"
#define ACCELERATION "{" NOTES(D(9), "99", ",\"" MARK "acceleration-layer\":\"yes\"") "}"
#define IMAGE(layers) "{\"schemaVersion\":2,\"layers\":[" layers "]}"
#define INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"
#define ENTRY(digest, platform) "{\"digest\":\"" digest "\",\"platform\":{" platform "}}"
#define OS(os, arch) "\"os\":\"" os "\",\"architecture\":\"" arch "\""
#define OCI "application/vnd.oci.image."
#define DOCKER "application/vnd.docker.distribution.manifest."

static int parse(const char *text, const char *platform, struct manifest *m, char *chosen,
		 struct err *e)
{
	return manifest_parse(text, strlen(text), platform, m, chosen, e);
}

static void an_image_is_read(void **state)
{
	char chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e = { "" };

	if (parse(IMAGE(LAYER(D(0), "1") "," LAYER(D(1), "9223372036854775807") "," ACCELERATION),
		  NULL, &m, chosen, &e) != MANIFEST_IMAGE)
		fail_msg("%s", e.msg);
	assert_int_equal(m.layer_count, 2);
	assert_string_equal(m.layers[0].digest, D(0));
	assert_int_equal(m.layers[0].size, 1);
	assert_string_equal(m.layers[1].digest, D(1));
	assert_int_equal(m.layers[1].size, INT64_MAX);
	assert_string_equal(m.acceleration.digest, D(9));
	assert_int_equal(m.acceleration.size, 99);
	manifest_release(&m);
	assert_null(m.layers);
}

static const struct {
	const char *what, *text;
	uint64_t size; /* of the only layer, D(0) */
} images[] = {
	{ "docker's type",
	  "{\"mediaType\":\"" DOCKER "v2+json\",\"layers\":[" LAYER(D(0), "5") "]}", 5 },
	{ "OCI's type",
	  "{\"mediaType\":\"" OCI "manifest.v1+json\",\"layers\":[" LAYER(D(0), "5") "]}", 5 },
	{ "no type, no version", "{\"layers\":[" LAYER(D(0), "5") "]}", 5 },
	{ "size of the descriptor",
	  IMAGE("{\"digest\":\"" D(0) "\",\"size\":8,\"annotations\":{\"" MARK
				      "blob-digest\":\"" D(0) "\"}}"),
	  8 },
	{ "annotations before the descriptor",
	  IMAGE("{\"digest\":\"" D(0) "\",\"size\":8," NOTES(D(0), "9", "") "}"), 9 },
	{ "acceleration: no",
	  IMAGE("{" NOTES(D(0), "9", ",\"" MARK "acceleration-layer\":\"no\"") "}"), 9 },
	{ "blanks around", " \n" IMAGE(LAYER(D(0), "3")) "\n ", 3 },
};

static void forms_of_an_image(void **state)
{
	char chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof images / sizeof *images; i++) {
		if (parse(images[i].text, "none/such", &m, chosen, &e) != MANIFEST_IMAGE)
			fail_msg("%s: %s", images[i].what, e.msg);
		assert_int_equal(m.layer_count, 1);
		assert_string_equal(m.layers[0].digest, D(0));
		assert_int_equal(m.layers[0].size, images[i].size);
		assert_int_equal(m.acceleration.digest[0], '\0');
		manifest_release(&m);
	}
}

#define AMD64 ENTRY(D(1), OS("linux", "amd64"))
#define ARM64 ENTRY(D(2), OS("linux", "arm64") ",\"variant\":\"v8\"")
#define ARMV7 ENTRY(D(3), OS("linux", "arm") ",\"variant\":\"v7\"")
#define ARMV6 ENTRY(D(4), OS("linux", "arm") ",\"variant\":\"v6\"")
#define ATTESTATION ENTRY(D(5), OS("unknown", "unknown"))
#define BARE "{\"digest\":\"" D(6) "\"}"
#define NATIVE "application/vnd.containerd.overlaybd.native.v1+json"
#define OURS                                                                                       \
	"{\"digest\":\"" D(7) "\",\"artifactType\":\"" NATIVE                                      \
			      "\",\"platform\":{" OS("linux", "amd64") "}}"
#define MARKED                                                                                     \
	"{\"digest\":\"" D(8) "\",\"annotations\":{\"" MARK                                        \
			      "version\":\"0.1.0\"},\"platform\":{" OS("linux", "amd64") "}}"
#define ALL ATTESTATION "," ARMV6 "," AMD64 "," ARM64 "," ARMV7

static const struct {
	const char *text, *platform, *chosen;
} indexes[] = {
	{ INDEX(ALL), "linux/amd64", D(1) },
	{ INDEX(ALL), "linux/amd64/v1", D(1) },
	{ INDEX(ALL), "linux/arm64", D(2) },
	{ INDEX(ALL), "linux/arm64/v8", D(2) },
	{ INDEX(ALL), "linux/arm", D(3) },
	{ INDEX(ALL), "linux/arm/v7", D(3) },
	{ INDEX(ALL), "linux/arm/v6", D(4) },
	{ INDEX(ENTRY(D(2), OS("linux", "arm64"))), "linux/arm64/v8", D(2) },
	{ INDEX(BARE "," AMD64), "linux/amd64", D(1) },
	{ INDEX(ARM64 "," BARE), "linux/amd64", D(6) },
	{ INDEX(AMD64 "," OURS "," MARKED), "linux/amd64", D(7) },
	{ INDEX(MARKED "," AMD64 "," OURS), "linux/amd64", D(8) },
	{ INDEX(OURS "," ARM64), "linux/arm64", D(2) },
	{ INDEX(AMD64 "," ENTRY(D(2), OS("linux", "amd64"))), "linux/amd64", D(1) },
	{ "{\"mediaType\":\"" DOCKER "list.v2+json\",\"manifests\":[" AMD64 "]}", "linux/amd64",
	  D(1) },
	{ "{\"mediaType\":\"" OCI "index.v1+json\",\"manifests\":[" AMD64 "]}", "linux/amd64",
	  D(1) },
};

static void a_platform_is_chosen(void **state)
{
	char chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e = { "" };
	size_t i;

	for (i = 0; i < sizeof indexes / sizeof *indexes; i++) {
		if (parse(indexes[i].text, indexes[i].platform, &m, chosen, &e) != MANIFEST_INDEX)
			fail_msg("index %zu: %s", i, e.msg);
		if (strcmp(chosen, indexes[i].chosen) != 0)
			fail_msg("index %zu: %s", i, chosen);
		assert_null(m.layers);
		assert_string_equal(e.msg, "");
	}
}

static void this_machines_platform_is_the_default(void **state)
{
	char text[400], arch[32], chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;

	assert_int_equal(strncmp(manifest_platform(), "linux/", 6), 0);
	snprintf(arch, sizeof arch, "%s", manifest_platform() + 6);
	arch[strcspn(arch, "/")] = '\0';
	snprintf(text, sizeof text,
		 INDEX(ENTRY(D(1), OS("linux", "vax")) "," ENTRY(D(2), OS("linux", "%s"))), arch);
	if (strcmp(manifest_platform(), "linux/arm/v6") == 0)
		skip();
	assert_int_equal(parse(text, NULL, &m, chosen, &e), MANIFEST_INDEX);
	assert_string_equal(chosen, D(2));
}

#define W31 "aaaaaaaaaabbbbbbbbbbccccccccccd"
#define NOT_OURS "not an overlaybd image: "

static const struct {
	const char *what, *text, *platform, *message;
} bad[] = {
	{ "empty", "", NULL, "wrong JSON in line 1, column 0: " },
	{ "HTML", "<html>", NULL, "wrong JSON in line 1, column 1: " },
	{ "list", "[]", NULL, "not a JSON object" },
	{ "twice", "{\"layers\":[],\"layers\":[]}", NULL, "wrong JSON in line 1, column 21: dup" },
	{ "more behind", IMAGE(LAYER(D(0), "1")) "x", NULL, "wrong JSON in line 1" },
	{ "neither", "{}", NULL, "neither an image (a list 'layers') nor an index (a list" },
	{ "layers: map", "{\"layers\":{}}", NULL, "neither an image" },
	{ "manifests: text", "{\"manifests\":\"a\"}", NULL, "neither an image" },
	{ "both", "{\"layers\":[],\"manifests\":[]}", NULL, "both an image and an index" },
	{ "index with layers", "{\"mediaType\":\"" OCI "index.v1+json\",\"layers\":[]}", NULL,
	  "both an image and an index" },
	{ "list with layers", "{\"mediaType\":\"" DOCKER "list.v2+json\",\"layers\":[]}", NULL,
	  "both an image and an index" },
	{ "image with manifests", "{\"mediaType\":\"" OCI "manifest.v1+json\",\"manifests\":[]}",
	  NULL, "both an image and an index" },
	{ "schema 1", "{\"schemaVersion\":1,\"fsLayers\":[]}", NULL,
	  "docker's schema 1 is not supported" },
	/* images */
	{ "no layer", IMAGE(""), NULL, NOT_OURS "it has no layer" },
	{ "only acceleration", IMAGE(ACCELERATION), NULL, NOT_OURS "it has no layer" },
	{ "plain image", IMAGE("{\"digest\":\"" D(0) "\",\"size\":1}"), NULL,
	  NOT_OURS "layer 0 has no overlaybd annotation; convert it first" },
	{ "plain layer", IMAGE(LAYER(D(0), "1") ",{\"annotations\":{}}"), NULL,
	  NOT_OURS "layer 1 has no overlaybd annotation; convert it first" },
	{ "layer: text", IMAGE("\"a\""), NULL, NOT_OURS "layer 0 has no overlaybd annotation" },
	{ "annotations: list", IMAGE("{\"annotations\":[]}"), NULL, NOT_OURS "layer 0 has no" },
	{ "two accelerations", IMAGE(LAYER(D(0), "1") "," ACCELERATION "," ACCELERATION), NULL,
	  "layer 2: a second acceleration layer" },
	{ "bad acceleration",
	  IMAGE("{" NOTES("x", "1", ",\"" MARK "acceleration-layer\":\"yes\"") "}"), NULL,
	  "layer 0: digest 'x' is not" },
	{ "turbo", IMAGE("{" NOTES(D(0), "1", ",\"" MARK "turbo-oci/target-digest\":\"x\"") "}"),
	  NULL, "layer 0: TurboOCI layers are not in this version" },
	{ "fastoci", IMAGE("{" NOTES(D(0), "1", ",\"" MARK "fastoci/target-digest\":\"x\"") "}"),
	  NULL, "layer 0: TurboOCI layers are not in this version" },
	{ "sha512", IMAGE(LAYER("sha512:" HEX16, "1")), NULL,
	  "layer 0: digest 'sha512:" HEX16 "' is not 'sha256:' and 64 hex digits in lower case, "
	  "nor 'sha512:' and 128" },
	{ "size 0", IMAGE(LAYER(D(0), "0")), NULL,
	  "layer 0: size '0' is not a number from 1 to 2^63-1" },
	{ "size 2^63", IMAGE(LAYER(D(0), "9223372036854775808")), NULL, "layer 0: size '92233" },
	{ "size 2^64", IMAGE(LAYER(D(0), "18446744073709551617")), NULL, "layer 0: size '18446" },
	{ "size of 20 digits", IMAGE(LAYER(D(0), "00000000000000000001")), NULL,
	  "layer 0: size '000" },
	{ "size -1", IMAGE(LAYER(D(0), "-1")), NULL, "layer 0: size '-1'" },
	{ "size 1k", IMAGE(LAYER(D(0), "1k")), NULL, "layer 0: size '1k'" },
	{ "size +1", IMAGE(LAYER(D(0), "+1")), NULL, "layer 0: size '+1'" },
	{ "no size", IMAGE("{\"annotations\":{\"" MARK "blob-digest\":\"" D(0) "\"}}"), NULL,
	  "layer 0: its blob has no size" },
	{ "size of another blob",
	  IMAGE("{\"digest\":\"" D(1) "\",\"size\":1,\"annotations\":{\"" MARK
				      "blob-digest\":\"" D(0) "\"}}"),
	  NULL, "layer 0: its blob has no size" },
	{ "negative size",
	  IMAGE("{\"digest\":\"" D(0) "\",\"size\":-1,\"annotations\":{\"" MARK
				      "blob-digest\":\"" D(0) "\"}}"),
	  NULL, "layer 0: its blob has no size" },
	/* indexes */
	{ "empty index", INDEX(""), "linux/amd64",
	  "no manifest for platform linux/amd64; there is: none" },
	{ "only attestations", INDEX(ATTESTATION), "linux/amd64",
	  "no manifest for platform linux/amd64; there is: none" },
	{ "another platform", INDEX(ALL "," OURS "," MARKED), "linux/s390x",
	  "no manifest for platform linux/s390x; there is: linux/arm/v6, linux/amd64, "
	  "linux/arm64/v8, linux/arm/v7" },
	{ "another variant", INDEX(AMD64), "linux/amd64/v3",
	  "no manifest for platform linux/amd64/v3; there is: linux/amd64" },
	{ "another system", INDEX(AMD64), "windows/amd64", "no manifest for platform windows" },
	{ "long names", INDEX(ENTRY(D(0), OS(W31 "xyz", "a"))), W31 "/a",
	  "no manifest for platform " W31 "/a; there is: " W31 "x/a" },
	{ "three long names",
	  INDEX(ENTRY(D(0), OS(W31 "xyz", W31 "xyz") ",\"variant\":\"" W31 "xyz\"")), "linux/a",
	  "no manifest for platform linux/a; there is: " W31 "x/" W31 "x/" W31
	  "x; choose one with platform=" },
	{ "sha512 in an index", INDEX(AMD64 "," ENTRY("sha512:1", OS("linux", "arm64"))),
	  "linux/arm64", "manifest 1 of the index: digest 'sha512:1' is not" },
	{ "no digest in an index", INDEX("{}"), NULL, "manifest 0 of the index: has no digest" },
	/* platforms */
	{ "platform: empty", INDEX(AMD64), "", "platform '' is not of the form os/arch[/variant]" },
	{ "platform: one word", INDEX(AMD64), "linux", "platform 'linux' is not of the form" },
	{ "platform: slash", INDEX(AMD64), "linux/amd64/", "platform 'linux/amd64/' is not" },
	{ "platform: four", INDEX(AMD64), "a/b/c/d", "platform 'a/b/c/d' is not" },
	{ "platform: long", INDEX(AMD64), "linux/" W31 "e/v",
	  "platform 'linux/" W31 "e/v' is not" },
};

static void bad_manifests_are_refused(void **state)
{
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		char chosen[DIGEST_ANY_TEXT] = "";
		struct manifest m;
		struct err e = { "" };

		if (parse(bad[i].text, bad[i].platform, &m, chosen, &e) != -EINVAL)
			fail_msg("%s: not refused", bad[i].what);
		if (strncmp(e.msg, bad[i].message, strlen(bad[i].message)) != 0)
			fail_msg("%s: %s", bad[i].what, e.msg);
		assert_null(m.layers);
		assert_int_equal(parse(bad[i].text, bad[i].platform, &m, chosen, NULL), -EINVAL);
	}
}

/* n times an element, with commas, between two texts. */
static char *repeat(const char *before, const char *element, size_t n, const char *behind)
{
	char *text = malloc(strlen(before) + n * (strlen(element) + 1) + strlen(behind) + 1);
	char *end = text;

	assert_non_null(text);
	end += sprintf(end, "%s", before);
	for (; n > 0; n--)
		end += sprintf(end, "%s%s", element, n > 1 ? "," : "");
	sprintf(end, "%s", behind);
	return text;
}

#define LONG(c) "sha512:" #c HEX15 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16

static void sha512_digests_are_read(void **state)
{
	char chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;

	assert_int_equal(
		parse(IMAGE(LAYER(D(0), "1") "," LAYER(LONG(1), "2")), NULL, &m, chosen, &e),
		MANIFEST_IMAGE);
	assert_int_equal(m.layer_count, 2);
	assert_string_equal(m.layers[0].digest, D(0));
	assert_string_equal(m.layers[1].digest, LONG(1));
	assert_int_equal(m.layers[1].size, 2);
	manifest_release(&m);
	assert_int_equal(
		parse(INDEX(ENTRY(LONG(2), OS("linux", "arm64"))), "linux/arm64", &m, chosen, &e),
		MANIFEST_INDEX);
	assert_string_equal(chosen, LONG(2));
}

static void sizes_and_depths_are_limited(void **state)
{
	static const char least[] = "{\"annotations\":{\"" MARK "blob-digest\":\"" D(0) "\"}}";
	AUTO_FREE char *many = repeat("{\"layers\":[", "0", 65535, "]}");
	AUTO_FREE char *allowed = repeat("{\"layers\":[", "0", 65534, "]}");
	AUTO_FREE char *large = repeat("{\"layers\":[", least, 40000, "]}");
	AUTO_FREE char *deep = repeat("{\"layers\":", "[0", 3000, "");
	AUTO_FREE char *most = repeat("{\"manifests\":[", AMD64, 30000, "]}");
	char chosen[DIGEST_ANY_TEXT], *p;
	struct manifest m;
	struct err e;

	assert_int_equal(parse(many, NULL, &m, chosen, &e), -EINVAL);
	assert_string_equal(e.msg, "65535 layers, more than the limit of 65534");
	assert_int_equal(parse(allowed, NULL, &m, chosen, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "layer 0 has no overlaybd annotation"));
	assert_int_equal(parse(large, NULL, &m, chosen, &e), -EINVAL);
	assert_non_null(strstr(e.msg, " bytes of JSON, more than the limit of 4194304"));
	for (p = deep + 10; *p; p++)
		*p = '[';
	assert_int_equal(parse(deep, NULL, &m, chosen, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "maximum parsing depth reached"));
	assert_int_equal(parse(most, "linux/arm64", &m, chosen, &e), -EINVAL);
	assert_string_equal(
		e.msg,
		"no manifest for platform linux/arm64; there is: linux/amd64; choose one with "
		"platform=");
}

static void a_long_list_of_platforms_fits(void **state)
{
	char text[20000] = "{\"manifests\":[", *end = text + strlen(text), chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;
	int i;

	for (i = 0; i < 200; i++)
		end += sprintf(end, "{\"platform\":{" OS("linux", "cpu%03d") "}},", i);
	strcpy(end - 1, "]}");
	assert_int_equal(parse(text, "linux/arm64", &m, chosen, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "there is: linux/cpu000, linux/cpu001, "));
	assert_true(strlen(e.msg) > 600 && strlen(e.msg) < 700);
}

/* 599 bytes of it: a platform that needs one more is left out. */
static void a_list_of_platforms_is_full(void **state)
{
	char text[20000], *end, chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;
	int first, i;

	for (first = 19; first <= 20; first++) { /* bytes of the first name */
		end = text + sprintf(text,
				     "{\"manifests\":[{\"platform\":{" OS("linux", "%0*d") "}}",
				     first, 0);
		for (i = 0; i < 60; i++)
			end += sprintf(end, ",{\"platform\":{" OS("linux", "cpu%03d") "}}", i);
		strcpy(end, "]}");
		assert_int_equal(parse(text, "linux/arm64", &m, chosen, &e), -EINVAL);
		/* 25 or 26 bytes, and then 14 for each */
		if (!strstr(e.msg,
			    first == 19 ? ", linux/cpu040; choose" : ", linux/cpu039; choose"))
			fail_msg("%d: %s", first, e.msg);
	}
}

static void allocations_fail_one_by_one(void **state)
{
	char chosen[DIGEST_ANY_TEXT];
	struct manifest m;
	struct err e;
	long k;
	int r;

	/* Where jansson's scanner has no memory, it takes the text for wrong. */
	for (k = 0, r = -ENOMEM; r < 0; k++) {
		allocs_left = k;
		r = parse(IMAGE(LAYER(D(0), "1") "," ACCELERATION), NULL, &m, chosen, &e);
		allocs_left = -1;
		assert_true(r == 0 || ((r == -ENOMEM || r == -EINVAL) && !m.layers));
	}
	assert_true(k > 20);
	manifest_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_is_read),
		cmocka_unit_test(forms_of_an_image),
		cmocka_unit_test(a_platform_is_chosen),
		cmocka_unit_test(this_machines_platform_is_the_default),
		cmocka_unit_test(bad_manifests_are_refused),
		cmocka_unit_test(sha512_digests_are_read),
		cmocka_unit_test(sizes_and_depths_are_limited),
		cmocka_unit_test(a_long_list_of_platforms_fits),
		cmocka_unit_test(a_list_of_platforms_is_full),
		cmocka_unit_test(allocations_fail_one_by_one),
	};

	allocs_wrap_json();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
