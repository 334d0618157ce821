/* SPDX-License-Identifier: Apache-2.0 */
/* test-lowers.c - where an image's layers come from: files, blobs, a manifest; which of them are
 * asked for ahead, who closes what, which failure is told.
 *
 * The registry is made here: linked with the calls to it wrapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/index.h"
#include "core/lowers.h"
#include "fetch/download.h"
#include "fetch/referrers.h"
#include "fetch/remote.h"
#include "zfile/tar.h"
#include "tests/testlib.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define DIGEST(letter)                                                                             \
	"sha256:" letter "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct config_options no_service = { .service = "none" };
static char folder[64];

/* ---- the registry ---- */

static char calls[4096]; /* what it is asked, a word each */
static const char *failing = ""; /* the call that fails */
static struct manifest manifest; /* what `image` means */
static const void *blob_bytes; /* of each blob; NULL: a size without bytes */
static uint64_t blob_size = 512;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	size_t n = strlen(calls);
	va_list list;

	va_start(list, format);
	vsnprintf(calls + n, sizeof calls - n, format, list);
	va_end(list);
}

static int answer(const char *name, struct err *e)
{
	return strcmp(name, failing) == 0 ? err_set(e, EACCES, "no %s", name) : 0;
}

static char registry, engine; /* stand for what the pointers point to */

int __wrap_fetcher_open(struct fetcher **out, struct err *e);
int __wrap_fetcher_open(struct fetcher **out, struct err *e)
{
	note("fetcher ");
	*out = (struct fetcher *)&engine;
	return answer("fetcher", e);
}

void __wrap_fetcher_close(struct fetcher *f);
void __wrap_fetcher_close(struct fetcher *f)
{
	assert_ptr_equal(f, &engine);
	note("fetcher-close ");
}

int __wrap_remote_open(struct fetcher *f, const struct fetch_settings *settings,
		       const struct reference *ref, struct stats *stats, bool push,
		       struct remote **out, struct err *e);
int __wrap_remote_open(struct fetcher *f, const struct fetch_settings *settings,
		       const struct reference *ref, struct stats *stats, bool push,
		       struct remote **out, struct err *e)
{
	note("open:%s%s ", ref->repository, push ? "(push)" : "");
	assert_non_null(f);
	assert_non_null(stats);
	if (answer("open", e) < 0)
		return -EACCES;
	*out = (struct remote *)&registry;
	return 0;
}

#define REGISTRY_CALL(name)                                                                        \
	void __wrap_remote_##name(struct remote *r);                                               \
	void __wrap_remote_##name(struct remote *r)                                                \
	{                                                                                          \
		if (r)                                                                             \
			note(#name " ");                                                           \
	}
REGISTRY_CALL(shut)
REGISTRY_CALL(close)
REGISTRY_CALL(opened)

int __wrap_remote_resolve(struct remote *r, struct manifest *out, char digest[DIGEST_TEXT],
			  struct err *e);
int __wrap_remote_resolve(struct remote *r, struct manifest *out, char digest[DIGEST_TEXT],
			  struct err *e)
{
	note("resolve ");
	if (answer("resolve", e) < 0)
		return -EACCES;
	*out = manifest;
	out->layers = __real_calloc(manifest.layer_count + 1, sizeof *out->layers);
	if (manifest.layers)
		memcpy(out->layers, manifest.layers, manifest.layer_count * sizeof *out->layers);
	strcpy(digest, DIGEST("f"));
	return 0;
}

int __wrap_remote_blob_size(struct remote *r, const char *digest, uint64_t *size, struct err *e);
int __wrap_remote_blob_size(struct remote *r, const char *digest, uint64_t *size, struct err *e)
{
	note("size:%c ", digest[7]);
	*size = blob_size;
	return answer("size", e);
}

static unsigned open_blobs;

static int blob_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	memcpy(buf, (const char *)blob_bytes + off, n);
	return answer("read", e);
}

static void blob_close(struct source *s)
{
	open_blobs--;
	free(s);
}

static const struct source_ops blob_ops = { .name = "blob",
					    .pread = blob_pread,
					    .close = blob_close };

int __wrap_remote_open_blob(struct remote *r, const char *digest, uint64_t size,
			    struct stats *stats, struct source **out, struct err *e);
int __wrap_remote_open_blob(struct remote *r, const char *digest, uint64_t size,
			    struct stats *stats, struct source **out, struct err *e)
{
	struct source *s;

	note("blob:%c/%llu ", digest[7], (unsigned long long)size);
	if (answer("blob", e) < 0)
		return -EACCES;
	s = __real_calloc(1, sizeof *s);
	*s = (struct source){ &blob_ops, size };
	open_blobs++;
	*out = s;
	return 0;
}

int __wrap_download_open(const struct fetch_download *how, const struct download_blob *blobs,
			 size_t count, struct download **out, struct err *e);
int __wrap_download_open(const struct fetch_download *how, const struct download_blob *blobs,
			 size_t count, struct download **out, struct err *e)
{
	size_t i;

	for (i = 0; i < count; i++)
		note("download:%c/%s ", blobs[i].name[7], blobs[i].dir ? "dir" : "");
	if (answer("download", e) < 0)
		return -EACCES;
	*out = (struct download *)&registry;
	return 0;
}

void __wrap_download_close(struct download *d);
void __wrap_download_close(struct download *d)
{
	if (d)
		note("download-close ");
}

int __wrap_referrers_find(struct remote *r, const char *subject, const char *type, size_t limit,
			  char **bytes, size_t *n, struct err *e);
int __wrap_referrers_find(struct remote *r, const char *subject, const char *type, size_t limit,
			  char **bytes, size_t *n, struct err *e)
{
	note("find:%s/%zu ", type, limit);
	assert_string_equal(subject, DIGEST("f"));
	return answer("find", e);
}

/* ---- images ---- */

static int set_up(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/test-lowers.XXXXXX");
	calls[0] = '\0';
	failing = "";
	blob_bytes = NULL;
	open_blobs = 0;
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	assert_int_equal(open_blobs, 0);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static void write_file(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

static struct image_config *parse(const char *text)
{
	struct image_config *c;
	char path[128];
	struct err e;

	snprintf(path, sizeof path, "%s/i.yaml", folder);
	if (config_parse(path, text, strlen(text), &no_service, &c, &e) < 0)
		fail_msg("%s", e.msg);
	return c;
}

static void close_all(struct lowers *l, struct image_config *c)
{
	lowers_shut(l);
	lowers_close(l);
	config_free(c);
}

/* Opens what must not open, and says why. */
static const char *refusal(const char *text, int code)
{
	struct image_config *c = parse(text);
	static struct err e;
	struct lowers l;

	e.msg[0] = '\0';
	assert_int_equal(lowers_open(c, NULL, &l, &e), -code);
	config_free(c);
	return e.msg;
}

#define URL "repoBlobUrl: http://reg/v2/app/blobs\n"

static void files_ask_no_registry(void **state)
{
	struct image_config *c =
		parse(URL "lowers: [{file: a}, {file: b, size: 1, digest: '" DIGEST("b") "'}]\n");
	char path[128];
	struct source *s;
	struct stats *stats;
	const char *name;
	struct lowers l;

	write_file("a", "aaa");
	write_file("b", "b");
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(l.count, 2);
	assert_null(l.remote);
	assert_int_equal(lowers_open_layer(&l, 0, &s, &name, &stats, NULL), 0);
	assert_int_equal(s->size, 3);
	snprintf(path, sizeof path, "%s/a", folder);
	assert_string_equal(name, path);
	assert_null(stats); /* nobody wants them */
	source_close(s);
	lowers_opened(&l);
	c->fetch.download.enable = true;
	assert_int_equal(lowers_start_download(&l, NULL), 0);
	close_all(&l, c);
	assert_string_equal(calls, "");
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* With statistics a file's reads are counted too; all layers have a name there. */
static void files_are_counted_when_somebody_asks(void **state)
{
	struct image_config *c = parse("stats: '-'\n" URL "lowers:\n- {file: a, digest: '" DIGEST(
		"a") "'}\n- {digest: '" DIGEST("b") "', size: 5}\n- {file: gone, size: 3}\n");
	const char *name, *at;
	struct source *s, *t;
	struct stats *stats;
	struct lowers l;
	char *text;
	size_t n;

	write_file("a", "aaa");
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_open_layer(&l, 0, &s, &name, &stats, NULL), 0);
	assert_non_null(stats);
	stats_add(stats, STATS_READS, 4711);
	assert_int_equal(lowers_open_layer(&l, 1, &t, &name, &stats, NULL), 0);
	assert_null(stats);
	assert_int_equal(stats_format(&l.stats, 1, false, &text, &n, NULL), 0);
	at = strstr(text, "\"layers\"");
	assert_non_null(at);
	at = strstr(at, path_of("a"));
	assert_non_null(at);
	at = strstr(at, "4711");
	assert_non_null(at);
	assert_non_null(strstr(at, DIGEST("b")));
	free(text);
	source_close(s);
	source_close(t);
	close_all(&l, c);
	assert_string_equal(calls, "fetcher open:app blob:b/5 shut close fetcher-close ");
}

/* Of several that are missing each is told at its own turn, so that the lowest is named. */
static void what_is_missing_is_told_at_its_turn(void **state)
{
	struct image_config *c = parse("lowers:\n- {file: gone}\n- {file: a}\n- {dir: none}\n");
	static char marker;
	char message[256];
	struct source *s;
	struct stats *stats = (struct stats *)&marker;
	const char *name = &marker;
	struct lowers l;
	struct err e = { "" };

	write_file("a", "aaa");
	assert_int_equal(lowers_open(c, NULL, &l, &e), 0);
	assert_string_equal(e.msg, "");
	assert_int_equal(lowers_open_layer(&l, 2, &s, &name, &stats, &e), -ENOENT);
	snprintf(message, sizeof message, "%s/i.yaml:4: layer 2: no local file (tried ", folder);
	assert_memory_equal(e.msg, message, strlen(message));
	assert_null(name);
	assert_null(stats);
	assert_int_equal(lowers_open_layer(&l, 0, &s, &name, &stats, &e), -ENOENT);
	snprintf(message, sizeof message,
		 "%s/i.yaml:2: layer 0: %s/gone: No such file or directory", folder, folder);
	assert_string_equal(e.msg, message);
	close_all(&l, c);
	c = parse("lowers: [{file: gone}]\n");
	assert_int_equal(lowers_open(c, NULL, &l, &e), 0);
	assert_int_equal(lowers_open_layer(&l, 0, &s, &name, &stats, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "i.yaml:1: layer 0: "));
	close_all(&l, c);
}

#define THREE                                                                                      \
	URL "lowers:\n- {digest: '" DIGEST("a") "', size: 5}\n- {digest: '" DIGEST(                \
		"b") "'}\n"                                                                        \
		     "- {digest: '" DIGEST("c") "', size: 7, dir: d}\n"

/* What a size is known of is asked for at once; the others when their turn comes. */
static void blobs_of_known_size_are_asked_for_ahead(void **state)
{
	struct image_config *c = parse(THREE);
	struct source *s[3];
	struct stats *stats;
	const char *name;
	struct lowers l;
	struct err e = { "" };

	assert_int_equal(lowers_open(c, NULL, &l, &e), 0);
	assert_string_equal(e.msg, "");
	assert_string_equal(calls, "fetcher open:app blob:a/5 blob:c/7 ");
	calls[0] = '\0';
	assert_int_equal(lowers_open_layer(&l, 0, &s[0], &name, &stats, NULL), 0);
	assert_string_equal(name, DIGEST("a"));
	assert_null(stats); /* a blob counts for itself */
	assert_string_equal(calls, "");
	assert_int_equal(lowers_open_layer(&l, 1, &s[1], &name, &stats, NULL), 0);
	assert_string_equal(calls, "size:b blob:b/512 ");
	assert_int_equal(open_blobs, 3);
	lowers_opened(&l);
	source_close(s[0]);
	source_close(s[1]);
	assert_int_equal(open_blobs, 1);
	close_all(&l, c); /* the third was never handed out */
	assert_string_equal(calls, "size:b blob:b/512 opened shut close fetcher-close ");
}

static void a_given_fetcher_stays_its_owners(void **state)
{
	struct image_config *c = parse(THREE);
	struct lowers l;

	assert_int_equal(lowers_open(c, (struct fetcher *)&engine, &l, NULL), 0);
	close_all(&l, c);
	assert_string_equal(calls, "open:app blob:a/5 blob:c/7 shut close ");
}

static void what_the_registry_refuses_is_told(void **state)
{
	struct image_config *c;
	struct source *s;
	struct stats *stats;
	const char *name;
	struct lowers l;
	struct err e;

	failing = "fetcher";
	assert_non_null(strstr(refusal(THREE, EACCES), "i.yaml: no fetcher"));
	assert_string_equal(calls, "fetcher ");
	failing = "open";
	calls[0] = '\0';
	assert_non_null(strstr(refusal(THREE, EACCES), "i.yaml: no open"));
	assert_string_equal(calls, "fetcher open:app fetcher-close ");
	failing = "blob";
	assert_non_null(strstr(refusal(THREE, EACCES), "i.yaml:3: layer 0: no blob"));
	failing = "";
	assert_non_null(strstr(
		refusal("repoBlobUrl: 'http://reg/v2/'\nlowers: [{digest: '" DIGEST("a") "'}]\n",
			EINVAL),
		"i.yaml: repoBlobUrl: "));
	calls[0] = '\0';
	failing = "resolve";
	assert_string_equal(refusal("image: reg.example/app:x\n", EACCES), "no resolve");
	assert_string_equal(calls, "fetcher open:app resolve shut close fetcher-close ");
	failing = "size";
	c = parse(THREE);
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_open_layer(&l, 1, &s, &name, &stats, &e), -EACCES);
	assert_string_equal(e.msg, "no size");
	assert_string_equal(name, DIGEST("b"));
	close_all(&l, c);
	assert_non_null(strstr(calls, "size:b shut "));
}

/* The reference itself may be all that is wrong, and all that the config says. */
static void an_image_that_cannot_be_named(void **state)
{
	struct image_config *c = parse("image: reg.example/app:x\n");
	struct lowers l;
	struct err e;
	char text[64];

	free(c->image);
	c->image = strdup("reg.example/APP");
	assert_int_equal(lowers_open(c, NULL, &l, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "i.yaml: "));
	free(c->path);
	c->path = strdup(c->image);
	assert_int_equal(lowers_open(c, NULL, &l, &e), -EINVAL);
	snprintf(text, sizeof text, "%s: ", c->path);
	assert_memory_not_equal(e.msg, text, strlen(text));
	config_free(c);
	assert_string_equal(calls, "");
}

static void downloads_are_of_the_blobs_that_are_open(void **state)
{
	struct image_config *c = parse(THREE);
	struct lowers l;
	struct err e;

	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	calls[0] = '\0';
	assert_int_equal(lowers_start_download(&l, NULL), 0); /* not asked for */
	assert_string_equal(calls, "");
	c->fetch.download.enable = true;
	failing = "download"; /* as without a thread: the next call tries again */
	assert_int_equal(lowers_start_download(&l, NULL), -EACCES);
	failing = "";
	calls[0] = '\0';
	assert_int_equal(lowers_start_download(&l, NULL), 0);
	assert_string_equal(calls, "download:a/ download:c/dir ");
	assert_int_equal(lowers_start_download(&l, NULL), 0); /* once */
	lowers_shut(&l);
	close_all(&l, c); /* shut twice, as images are */
	assert_string_equal(calls, "download:a/ download:c/dir shut download-close shut close "
				   "fetcher-close ");
	failing = "download";
	c = parse(THREE);
	c->fetch.download.enable = true;
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_start_download(&l, &e), -EACCES);
	assert_string_equal(e.msg, "no download");
	close_all(&l, c);
}

static void an_image_is_what_its_manifest_says(void **state)
{
	struct manifest_layer layers[] = { { DIGEST("a"), 5 }, { DIGEST("b"), 6 } };
	struct image_config *c = parse("image: reg.example/app:x\n");
	char *bytes;
	struct lowers l;
	size_t n;

	manifest = (struct manifest){ .layers = layers,
				      .layer_count = 2,
				      .acceleration = { DIGEST("e"), 3 } };
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_string_equal(calls, "fetcher open:app resolve blob:a/5 blob:b/6 ");
	assert_int_equal(l.count, 2);
	assert_string_equal(l.digest, DIGEST("f"));
	assert_string_equal(l.list[1].digest, DIGEST("b"));
	assert_int_equal(l.list[1].size, 6);
	calls[0] = '\0';
	assert_int_equal(lowers_find_artifact(&l, "t", 9, &bytes, &n, NULL), 0);
	blob_bytes = "abc";
	assert_int_equal(lowers_read_acceleration(&l, 3, &bytes, &n, NULL), 0);
	assert_string_equal(bytes, "abc");
	assert_int_equal(n, 3);
	free(bytes);
	assert_string_equal(calls, "find:t/9 blob:e/3 ");
	failing = "find";
	assert_int_equal(lowers_find_artifact(&l, "t", 9, &bytes, &n, NULL), -EACCES);
	close_all(&l, c);
	assert_true(!l.stats && !l.opened && !l.config && l.count == 0);
	failing = "blob";
	assert_non_null(
		strstr(refusal("image: reg.example/app:x\n", EACCES), "i.yaml: layer 0: no blob"));
}

static void a_manifest_has_a_limit(void **state)
{
	struct manifest_layer *layers = calloc(INDEX_MAX_LAYERS, sizeof *layers);
	struct image_config *c = parse("image: reg.example/app:x\n");
	struct lowers l;
	char text[64];
	size_t i;

	snprintf(text, sizeof text, "%d layers, more than the limit of %d", INDEX_MAX_LAYERS,
		 INDEX_MAX_LAYERS - 1);
	for (i = 0; i < INDEX_MAX_LAYERS; i++)
		layers[i] = (struct manifest_layer){ DIGEST("a"), 0 };
	manifest = (struct manifest){ .layers = layers, .layer_count = INDEX_MAX_LAYERS };
	assert_non_null(strstr(refusal("image: reg.example/app:x\n", EINVAL), text));
	manifest.layer_count--;
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(l.count, INDEX_MAX_LAYERS - 1);
	close_all(&l, c);
	free(layers);
}

/* ---- the acceleration layer ---- */

static void acceleration_is_a_folders_file(void **state)
{
	struct image_config *c = parse("accelerationLayer: true\nlowers: [{file: a}, {dir: d}]\n");
	char path[128], message[256], *bytes;
	struct lowers l;
	struct err e;
	size_t n;

	write_file("a", "a");
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(l.count, 1);
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), -ENOENT);
	snprintf(path, sizeof path, "%s/d", folder);
	assert_int_equal(mkdir(path, 0755), 0);
	write_file("d/trace", "12345");
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), 0);
	assert_string_equal(bytes, "12345");
	free(bytes);
	assert_int_equal(lowers_read_acceleration(&l, 4, &bytes, &n, &e), -EFBIG);
	snprintf(message, sizeof message, "acceleration layer %s/d/trace: ", folder);
	assert_memory_equal(e.msg, message, strlen(message));
	close_all(&l, c);
	c = parse("lowers: [{file: a}]\n");
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no acceleration layer");
	assert_int_equal(lowers_find_artifact(&l, "t", 9, &bytes, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "the image comes from no manifest");
	close_all(&l, c);
	assert_string_equal(calls, "");
}

/* A registry alone is neither a manifest nor an acceleration layer. */
static void blobs_alone_have_no_acceleration(void **state)
{
	struct image_config *c = parse(THREE);
	struct lowers l;
	struct err e;
	char *bytes;
	size_t n;

	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no acceleration layer");
	l.digest[1] = 'x'; /* what follows on the end of the text is not looked at */
	assert_int_equal(lowers_find_artifact(&l, "t", 9, &bytes, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "the image comes from no manifest");
	close_all(&l, c);
	manifest = (struct manifest){ .acceleration = { "\0x", 3 } };
	c = parse("image: reg.example/app:x\n");
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(l.count, 0);
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), -ENOENT);
	close_all(&l, c);
}

static void acceleration_is_a_blob_in_tar_or_not(void **state)
{
	struct testlib_output o = { 0 };
	struct image_config *c = parse("image: reg.example/app:x\n");
	struct sink *s = testlib_open_sink(&o);
	struct lowers l;
	struct err e;
	char *bytes;
	size_t n;

	assert_int_equal(tar_open_sink(s, &s, NULL), 0);
	assert_int_equal(sink_write(s, "trace!", 6, NULL), 0);
	assert_int_equal(sink_finish(s, NULL), 0);
	sink_close(s);
	manifest = (struct manifest){ .acceleration = { DIGEST("e"), o.n } };
	blob_bytes = o.bytes;
	assert_int_equal(lowers_open(c, NULL, &l, NULL), 0);
	assert_int_equal(lowers_read_acceleration(&l, 6, &bytes, &n, &e), 0);
	assert_int_equal(n, 6);
	assert_memory_equal(bytes, "trace!", 7); /* a NUL follows */
	free(bytes);
	assert_int_equal(lowers_read_acceleration(&l, 5, &bytes, &n, &e), -EFBIG);
	assert_string_equal(
		e.msg, "acceleration layer " DIGEST("e") ": 6 bytes, more than the limit of 5");
	failing = "read";
	assert_int_equal(lowers_read_acceleration(&l, 6, &bytes, &n, &e), -EACCES);
	blob_bytes = "not in an archive";
	failing = "";
	allocs_total = 0;
	l.acceleration.size = 17;
	e.msg[0] = '\0';
	assert_int_equal(lowers_read_acceleration(&l, 17, &bytes, &n, &e), 0);
	assert_int_equal(allocs_total, 17 + 1);
	assert_string_equal(bytes, blob_bytes);
	assert_string_equal(e.msg, "");
	free(bytes);
	failing = "read";
	bytes = calls;
	assert_int_equal(lowers_read_acceleration(&l, 17, &bytes, &n, &e), -EACCES);
	assert_string_equal(e.msg, "acceleration layer " DIGEST("e") ": no read");
	failing = "blob";
	assert_int_equal(lowers_read_acceleration(&l, 6, &bytes, &n, &e), -EACCES);
	assert_string_equal(e.msg, "no blob");
	assert_int_equal(open_blobs, 0);
	close_all(&l, c);
	free(o.bytes);
}

/* ---- memory ---- */

/* All that can be asked of an image of a manifest. */
static int use_manifest(struct err *e)
{
	const struct config_options *options = &no_service;
	static const char text[] = "image: reg.example/app:x\ndownload: {enable: true}\n";
	struct image_config *c;
	struct lowers l;
	char *bytes;
	size_t n;
	int r = config_parse("/i.yaml", text, sizeof text - 1, options, &c, e);

	if (r < 0)
		return r;
	r = lowers_open(c, NULL, &l, e);
	if (r < 0) {
		config_free(c);
		return r;
	}
	r = lowers_start_download(&l, e);
	if (r == 0)
		r = lowers_read_acceleration(&l, 6, &bytes, &n, e);
	if (r == 0)
		free(bytes);
	close_all(&l, c);
	return r;
}

/* And of one of files, of which one is missing. */
static int use_files(struct err *e)
{
	static const char text[] = "accelerationLayer: true\n"
				   "lowers: [{file: a}, {file: gone}, {dir: d}]\n";
	struct image_config *c;
	struct stats *stats;
	const char *name;
	struct lowers l;
	struct source *s;
	char *bytes;
	size_t n;
	int r = config_parse(path_of("i.yaml"), text, sizeof text - 1, &no_service, &c, e);

	if (r < 0)
		return r;
	r = lowers_open(c, NULL, &l, e);
	if (r < 0) {
		config_free(c);
		return r;
	}
	r = lowers_read_acceleration(&l, 5, &bytes, &n, e);
	if (r == 0)
		free(bytes);
	if (r == 0)
		r = lowers_open_layer(&l, 0, &s, &name, &stats, e);
	if (r == 0) {
		source_close(s);
		assert_int_equal(lowers_open_layer(&l, 1, &s, &name, &stats, e), -ENOENT);
		e->msg[0] = '\0';
	}
	close_all(&l, c);
	return r;
}

static void each_allocation_fails_once(void **state)
{
	static int (*const uses[])(struct err * e) = { use_manifest, use_files };
	struct manifest_layer layers[] = { { DIGEST("a"), 5 }, { DIGEST("b"), 6 } };
	struct testlib_output o = { 0 };
	struct sink *s = testlib_open_sink(&o);
	size_t i;

	assert_int_equal(tar_open_sink(s, &s, NULL), 0);
	assert_int_equal(sink_write(s, "trace!", 6, NULL), 0);
	assert_int_equal(sink_finish(s, NULL), 0);
	sink_close(s);
	blob_bytes = o.bytes;
	manifest = (struct manifest){ .layers = layers,
				      .layer_count = 2,
				      .acceleration = { DIGEST("e"), o.n } };
	write_file("a", "aaa");
	assert_int_equal(mkdir(path_of("d"), 0755), 0);
	write_file("d/trace", "12345");
	for (i = 0; i < COUNT_OF(uses); i++) {
		int r = -ENOMEM;
		long k;

		for (k = 0; r != 0; k++) {
			struct err e = { "" };

			calls[0] = '\0';
			allocs_left = k;
			r = uses[i](&e);
			allocs_left = -1;
			if (k > 5000 || r != (e.msg[0] == '\0' ? 0 : -ENOMEM))
				fail_msg("%zu, allocation %ld: %d %s", i, k, r, e.msg);
			if (r < 0)
				assert_non_null(strstr(e.msg, "memory"));
			assert_int_equal(open_blobs, 0);
			if (strstr(calls, "fetcher "))
				assert_non_null(strstr(calls, "fetcher-close "));
		}
		assert_true(k > 10);
	}
	free(o.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_ask_no_registry),
		TEST(files_are_counted_when_somebody_asks),
		TEST(what_is_missing_is_told_at_its_turn),
		TEST(blobs_of_known_size_are_asked_for_ahead),
		TEST(a_given_fetcher_stays_its_owners),
		TEST(what_the_registry_refuses_is_told),
		TEST(an_image_that_cannot_be_named),
		TEST(downloads_are_of_the_blobs_that_are_open),
		TEST(an_image_is_what_its_manifest_says),
		TEST(a_manifest_has_a_limit),
		TEST(acceleration_is_a_folders_file),
		TEST(blobs_alone_have_no_acceleration),
		TEST(acceleration_is_a_blob_in_tar_or_not),
		TEST(each_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
