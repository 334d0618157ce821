/* SPDX-License-Identifier: Apache-2.0 */
/* test-credentials.c - docker-style documents, the usual places, helpers behind an address, and
 * certs.d folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/answer.h"
#include "fetch/auths.h"
#include "tests/unit/allocs.h"

#define URL "https://reg.io/v2/a/b/blobs/sha256:0?x"
#define HUB "https://index.docker.io/v1/"
/* Base64 of what the name says. */
#define ME_SECRET "bWU6c2VjcmV0"
#define ME_SE_CRET "bWU6c2U6Y3JldA=="
#define ME_EMPTY "bWU6"
#define NO_COLON "c2VjcmV0"
#define A_NUL "bWU6c2UAY3JldA=="
#define NULS_BEHIND "bWU6c2VjcmV0AAA="
#define LINE_BEHIND "bWU6c2VjcmV0DQo="

static char folder[] = "/tmp/test-credentials.XXXXXX";

/* A folder or file below ours; the next call overwrites it. */
static const char *in_folder(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	struct err e = { "" };
	char path[256], *slash;

	snprintf(path, sizeof path, "%s", in_folder(name));
	for (slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		assert_true(mkdir(path, 0777) == 0 || errno == EEXIST);
	}
	if (io_replace_file(path, text, strlen(text), &e) < 0)
		fail_msg("%s: %s", path, e.msg);
}

/* "user:password identity registry", "ask NAME SERVER", "none" or the message. */
static const char *describe(int r, const struct credentials *c, const struct auths_program *p,
			    const struct err *e)
{
	static char text[1400];

	if (r < 0)
		return e->msg;
	if (r == AUTHS_NONE)
		return "none";
	if (r == AUTHS_ASK)
		snprintf(text, sizeof text, "ask %s %s", p->name, p->server);
	else
		snprintf(text, sizeof text, "%s:%s %s %s", c->user ? c->user : "",
			 c->password ? c->password : "", c->identity_token ? c->identity_token : "",
			 c->registry_token ? c->registry_token : "");
	return text;
}

#define AUTH(value) "{\"auth\":\"" value "\"}"
#define AUTHS(entries) "{\"auths\":{" entries "}}"
#define KEY(key) AUTHS("\"" key "\":" AUTH(ME_SECRET))
#define ENTRY(fields) AUTHS("\"reg.io\":{" fields "}")
#define USER(user) "{\"username\":\"" user "\",\"password\":\"x\"}"

static const struct {
	const char *document, *host, *repository, *result;
} documents[] = {
	/* keys */
	{ KEY("reg.io"), "reg.io", "a/b", "me:secret  " },
	{ KEY("REG.io"), "reg.IO", "a/b", "me:secret  " },
	{ KEY("https://reg.io"), "reg.io", "a/b", "me:secret  " },
	{ KEY("http://reg.io/"), "reg.io", "a/b", "me:secret  " },
	{ KEY("https://reg.io/v1/"), "reg.io", "a/b", "me:secret  " },
	{ KEY("reg.io/v2"), "reg.io", "a/b", "me:secret  " },
	{ KEY("reg.io:5000"), "reg.io:5000", "a/b", "me:secret  " },
	{ KEY("reg.io:5000"), "reg.io", "a/b", "none" },
	{ KEY("reg.io"), "reg.io:5000", "a/b", "none" },
	{ KEY("reg.io.evil.io"), "reg.io", "a/b", "none" },
	{ KEY("io"), "reg.io", "a/b", "none" },
	{ KEY(""), "reg.io", "a/b", "none" },
	{ KEY("https://"), "reg.io", "a/b", "none" },
	{ KEY("reg.io/a"), "reg.io", "a/b", "me:secret  " },
	{ KEY("reg.io/a/"), "reg.io", "a/b", "me:secret  " },
	{ KEY("reg.io/a/b"), "reg.io", "a/b", "me:secret  " },
	{ KEY("https://reg.io/a/b"), "reg.io", "a/b/c", "me:secret  " },
	{ KEY("reg.io/a/b"), "reg.io", "a", "none" },
	{ KEY("reg.io/a"), "reg.io", "ab", "none" },
	{ KEY("reg.io/A"), "reg.io", "a", "none" },
	{ KEY("reg.io/b"), "reg.io", "a/b", "none" },
	{ KEY("reg.io/v1/a"), "reg.io", "a", "none" },
	/* Docker Hub */
	{ KEY(HUB), "docker.io", "library/a", "me:secret  " },
	{ KEY("docker.io"), "docker.io", "library/a", "me:secret  " },
	{ KEY("index.docker.io"), "docker.io", "library/a", "me:secret  " },
	{ KEY("registry-1.docker.io/v2/"), "docker.io", "library/a", "me:secret  " },
	{ KEY("docker.io/library"), "docker.io", "library/a", "me:secret  " },
	{ KEY("docker.io"), "registry-1.docker.io", "a", "me:secret  " },
	{ KEY("docker.io"), "registry.hub.docker.com", "a", "me:secret  " },
	{ KEY("docker.io"), "hub.docker.com", "a", "me:secret  " },
	{ KEY("hub.docker.com"), "docker.io", "a", "me:secret  " },
	{ KEY("https://registry.hub.docker.com/v2/"), "docker.io", "a", "me:secret  " },
	{ KEY("hub.docker.com/hello/world"), "docker.io", "hello/world", "me:secret  " },
	{ KEY("hub.docker.com/hello/world"), "docker.io", "hello", "none" },
	{ KEY("docker.io"), "hub.docker.io", "a", "none" },
	{ KEY("docker.io"), "docker.com", "a", "none" },
	{ KEY(HUB), "reg.io", "a", "none" },
	/* the longest */
	{ AUTHS("\"reg.io\":" USER("1") ",\"reg.io/a/b\":" USER("3") ",\"reg.io/a\":" USER("2")),
	  "reg.io", "a/b/c", "3:x  " },
	{ AUTHS("\"reg.io\":" USER("1") ",\"reg.io/a/b\":" USER("3") ",\"reg.io/a\":" USER("2")),
	  "reg.io", "a/c", "2:x  " },
	{ AUTHS("\"reg.io\":" USER("1") ",\"reg.io/a/b\":" USER("3") ",\"reg.io/a\":" USER("2")),
	  "reg.io", "c", "1:x  " },
	{ AUTHS("\"reg.io/a\":{},\"reg.io\":" USER("1")), "reg.io", "a", "1:x  " },
	{ AUTHS("\"reg.io\":{},\"https://reg.io\":" USER("1")), "reg.io", "a", "1:x  " },
	{ AUTHS("\"reg.io\":" USER("1") ",\"https://reg.io\":" USER("2")), "reg.io", "a", "1:x  " },
	/* entries */
	{ ENTRY("\"auth\":\"" ME_SE_CRET "\""), "reg.io", "a", "me:se:cret  " },
	{ ENTRY("\"auth\":\"" ME_EMPTY "\""), "reg.io", "a", "me:  " },
	{ ENTRY("\"auth\":\"bWU6c2U6Y3JldA\""), "reg.io", "a", "me:se:cret  " },
	/* base64 that is broken into lines, and what tools leave behind the text */
	{ ENTRY("\"auth\":\"bWU6\\nc2Vj\\ncmV0\\n\""), "reg.io", "a", "me:secret  " },
	{ ENTRY("\"auth\":\"bWU6c2U6\\r\\nY3JldA==\\r\\n\""), "reg.io", "a", "me:se:cret  " },
	{ ENTRY("\"auth\":\"bWU6c2U6Y3JldA=\\n=\""), "reg.io", "a", "me:se:cret  " },
	{ ENTRY("\"auth\":\"" NULS_BEHIND "\""), "reg.io", "a", "me:secret  " },
	{ ENTRY("\"auth\":\"" LINE_BEHIND "\""), "reg.io", "a", "me:secret  " },
	{ ENTRY("\"username\":\"u\",\"password\":\"p\""), "reg.io", "a", "u:p  " },
	{ ENTRY("\"username\":\"u\",\"password\":\"p\",\"auth\":\"" ME_SECRET "\""), "reg.io", "a",
	  "me:secret  " },
	{ ENTRY("\"username\":\"u\",\"password\":\"p\",\"auth\":\"\",\"email\":\"e\""), "reg.io",
	  "a", "u:p  " },
	{ ENTRY("\"identitytoken\":\"i\""), "reg.io", "a", ": i " },
	{ ENTRY("\"auth\":\"" ME_SECRET "\",\"identitytoken\":\"i\""), "reg.io", "a",
	  "me:secret i " },
	{ ENTRY("\"registrytoken\":\"r\""), "reg.io", "a", ":  r" },
	{ ENTRY(""), "reg.io", "a", "none" },
	{ ENTRY("\"auth\":\"\""), "reg.io", "a", "none" },
	{ ENTRY("\"auth\":12"), "reg.io", "a", "none" },
	{ AUTHS("\"reg.io\":\"x\""), "reg.io", "a", "none" },
	/* entries that are wrong; of others' entries nothing is said */
	{ ENTRY("\"auth\":\"" NO_COLON "\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"auth\":\"" A_NUL "\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"auth\":\"me:secret\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"auth\":\"bWU6c\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"auth\":\"bWU6=c2U\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"username\":\"secret\""), "reg.io", "a",
	  "auths: 'reg.io': 'username' and 'password' go together" },
	{ ENTRY("\"password\":\"secret\""), "reg.io", "a",
	  "auths: 'reg.io': 'username' and 'password' go together" },
	{ ENTRY("\"registrytoken\":\"secret\\r\\nX: y\""), "reg.io", "a",
	  "auths: 'reg.io': 'registrytoken' cannot stand in a header" },
	{ ENTRY("\"auth\":\"???\""), "docker.io", "a", "none" },
	{ ENTRY("\"auth\":\"bWU6 c2Vj\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	{ ENTRY("\"auth\":\"AAAA\""), "reg.io", "a",
	  "auths: 'reg.io': 'auth' is not base64 of user:password" },
	/* documents */
	{ "\xef\xbb\xbf" KEY("reg.io"), "reg.io", "a", "me:secret  " },
	{ "\\xef\\xbb\\xbf" KEY("reg.io"), "reg.io", "a", "me:secret  " },
	{ AUTHS("\"reg.io\":" USER("1") ",\"reg.io\":" USER("2")), "reg.io", "a", "2:x  " },
	{ "{\"auths\":{},\"auths\":{\"reg.io\":" USER("2") "}}", "reg.io", "a", "2:x  " },
	/* as docker's .dockercfg */
	{ "{\"https://reg.io\":" AUTH(ME_SECRET) "}", "reg.io", "a", "me:secret  " },
	{ "{\"reg.io\":" AUTH(ME_SECRET) "}", "other.io", "a", "none" },
	{ "{\"auths\":{},\"reg.io\":" AUTH(ME_SECRET) "}", "reg.io", "a", "none" },
	{ "{}", "reg.io", "a", "none" },
	{ "{\"auths\":[]}", "reg.io", "a", "none" },
	{ "{\"auths\":null,\"credHelpers\":\"x\",\"credsStore\":{}}", "reg.io", "a", "none" },
	/* programs */
	{ "{\"credsStore\":\"s\"}", "reg.io", "a", "ask s reg.io" },
	{ "{\"credsStore\":\"s\"}", "docker.io", "a", "ask s " HUB },
	{ "{\"credsStore\":\"\"}", "reg.io", "a", "none" },
	{ "{\"auths\":{\"https://reg.io\":{}},\"credsStore\":\"s\"}", "reg.io", "a",
	  "ask s https://reg.io" },
	{ "{\"auths\":{\"reg.io\":" AUTH(ME_SECRET) "},\"credsStore\":\"s\"}", "reg.io", "a",
	  "me:secret  " },
	{ "{\"credHelpers\":{\"reg.io\":\"h\"},\"credsStore\":\"s\"}", "reg.io", "a",
	  "ask h reg.io" },
	{ "{\"credHelpers\":{\"reg.io\":\"h\"},\"credsStore\":\"s\"}", "docker.io", "a",
	  "ask s " HUB },
	{ "{\"credHelpers\":{\"" HUB "\":\"h\"}}", "docker.io", "a", "ask h " HUB },
	{ "{\"credHelpers\":{\"reg.io/a\":\"h\"}}", "reg.io", "a", "none" },
	{ "{\"credHelpers\":{\"reg.io\":\"\"}}", "reg.io", "a", "none" },
	{ "{\"credHelpers\":{\"reg.io\":\"h\"},\"auths\":{\"reg.io\":" AUTH(ME_SECRET) "}}",
	  "reg.io", "a", "ask h reg.io" },
};

static int find(const char *text, const char *host, const char *repository, struct credentials *c,
		struct auths_program *p, struct err *e)
{
	json_t *document;
	int r = answer_parse(text, strlen(text), ANSWER_SECRET, &document, e);

	memset(c, 0, sizeof *c);
	memset(p, 0, sizeof *p);
	if (r < 0)
		return r;
	r = auths_find(document, host, repository, c, p, e);
	answer_forget(document);
	return r;
}

static void documents_are_searched(void **state)
{
	size_t i;

	for (i = 0; i < sizeof documents / sizeof *documents; i++) {
		struct credentials c;
		struct auths_program p;
		struct err e = { "" };
		int r = find(documents[i].document, documents[i].host, documents[i].repository, &c,
			     &p, &e);
		const char *result = describe(r, &c, &p, &e);

		if (strcmp(result, documents[i].result) != 0)
			fail_msg("%s for %s/%s: %s", documents[i].document, documents[i].host,
				 documents[i].repository, result);
		assert_true(r >= 0 || r == -EINVAL);
		assert_true(r < 0 || !strstr(e.msg, "secret"));
		credentials_release(&c);
		auths_program_release(&p);
		assert_true(!c.user && !c.password && !c.identity_token && !c.registry_token);
	}
}

static void every_byte_passes_base64(void **state)
{
	/* The digits in order, and the 48 bytes that they stand for behind "m:". */
	static const char text[] =
		ENTRY("\"auth\":\"bTog"
		      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\"");
	struct credentials c;
	struct auths_program p;
	struct err e;

	/* "ABCD" begins with a NUL byte. */
	assert_int_equal(find(text, "reg.io", "a", &c, &p, &e), -EINVAL);
	assert_int_equal(find(ENTRY("\"auth\":\"bTog"
				    "EFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
				    "\""),
			      "reg.io", "a", &c, &p, &e),
			 AUTHS_FOUND);
	assert_string_equal(c.password,
			    " \x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\x55\x97"
			    "\x61\x96\x9b\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xa2\x9a\xab"
			    "\xb2\xdb\xaf\xc3\x1c\xb3\xd3\x5d\xb7\xe3\x9e\xbb\xf3\xdf\xbf");
	credentials_release(&c);
}

static void allocations_fail_one_by_one(void **state)
{
	static const char *const texts[] = {
		ENTRY("\"auth\":\"" ME_SECRET "\",\"identitytoken\":\"i\",\"registrytoken\":\"r\""),
		ENTRY("\"username\":\"u\",\"password\":\"p\""),
		"{\"credsStore\":\"s\"}",
	};
	struct credentials c;
	struct auths_program p;
	struct err e;
	size_t i;
	long k;
	int r;

	for (i = 0; i < sizeof texts / sizeof *texts; i++) {
		/* Where jansson's scanner has no memory, it takes the text for wrong. */
		for (k = 0, r = -ENOMEM; r < 0; k++) {
			allocs_left = k;
			r = find(texts[i], "reg.io", "a", &c, &p, &e);
			allocs_left = -1;
			assert_true(r >= 0 || r == -ENOMEM || r == -EINVAL);
			assert_true(r >= 0 || (!c.user && !c.password && !p.name && !p.server));
		}
		assert_true(k > 5);
		credentials_release(&c);
		auths_program_release(&p);
	}
}

/* ---- files ---- */

static int find_in(const char *place, struct credentials *c, struct err *e)
{
	const struct credentials_source source = { .place = place };

	return credentials_find(&source, "reg.io", "a/b", URL, c, e);
}

static void expect_user(const char *source, const char *user)
{
	struct credentials c;
	struct err e = { "" };
	int r = find_in(source, &c, &e);

	if (user && r != 0)
		fail_msg("%s: %d, %s", user, r, e.msg);
	if (user)
		assert_true(strcmp(c.user, user) == 0 && e.msg[0] == '\0');
	else
		assert_int_equal(r, 1);
	credentials_release(&c);
}

static void expect_error(const char *source, int code, const char *message)
{
	struct credentials c;
	struct err e = { "" };
	int r = find_in(source, &c, &e);

	if (r != -code || !strstr(e.msg, message) || strstr(e.msg, "secret"))
		fail_msg("%s: %d, %s", message, r, e.msg);
	assert_true(!c.user && !c.password && !c.identity_token && !c.registry_token);
	assert_int_equal(find_in(source, &c, NULL), -code);
}

static void a_named_file_is_read(void **state)
{
	char path[256];

	snprintf(path, sizeof path, "%s", in_folder("named"));
	expect_error(path, ENOENT, "named: No such file or directory");
	write_file("named", AUTHS("\"reg.io\":" USER("named")));
	expect_user(path, "named");
	write_file("named", AUTHS("\"reg.io\":" USER("changed")));
	expect_user(path, "changed");
	write_file("named", AUTHS("\"other.io\":" USER("x")));
	expect_user(path, NULL);
	write_file("named", "{\"auths\":{\"reg.io\":\"secret\"");
	expect_error(path, EINVAL, "named: wrong JSON in line 1, column 27");
	write_file("named", "[]");
	expect_error(path, EINVAL, "named: not a JSON object");
	write_file("named", ENTRY("\"auth\":\"" NO_COLON "\""));
	expect_error(path, EINVAL, "named: auths: 'reg.io': 'auth' is not base64");
	expect_error(folder, EISDIR, "/tmp/test-credentials.");
	assert_int_equal(truncate(path, ANSWER_MAX + 1), 0);
	expect_error(path, EFBIG, "named: 4194305 bytes, more than the limit of 4194304");
}

static void the_usual_places_are_searched_in_order(void **state)
{
	static const struct {
		const char *variable, *value, *file;
	} places[] = {
		{ "HOME", "home", "home/.docker/config.json" },
		{ "HOME", "home", "home/.config/containers/auth.json" },
		{ "XDG_RUNTIME_DIR", "run", "run/containers/auth.json" },
		{ "DOCKER_CONFIG", "docker", "docker/config.json" },
		{ "REGISTRY_AUTH_FILE", "auth", "auth" },
	};
	char text[128];
	size_t i;

	/* From the last on, each hides those before it. */
	expect_user(NULL, NULL);
	for (i = 0; i < sizeof places / sizeof *places; i++) {
		snprintf(text, sizeof text, AUTHS("\"reg.io\":" USER("%zu")), i);
		write_file(places[i].file, text);
		setenv(places[i].variable, in_folder(places[i].value), 1);
		snprintf(text, sizeof text, "%zu", i);
		expect_user(NULL, text);
	}
	/* One without an entry hides nothing; a named file hides all. */
	write_file("auth", "{}");
	expect_user(NULL, "3");
	expect_user(in_folder("auth"), NULL);
	setenv("REGISTRY_AUTH_FILE", "", 1);
	setenv("DOCKER_CONFIG", in_folder("gone"), 1);
	expect_user(NULL, "2");
	setenv("XDG_RUNTIME_DIR", in_folder("auth"), 1); /* a file on the way */
	expect_user(NULL, "1");
	/* One that is broken or unreadable hides nothing, and is told when there is nothing else.
	 */
	write_file("auth", "{");
	setenv("REGISTRY_AUTH_FILE", in_folder("auth"), 1);
	expect_user(NULL, "1");
	setenv("REGISTRY_AUTH_FILE", folder, 1);
	expect_user(NULL, "1");
	write_file("home/.docker/config.json", "{}");
	write_file("home/.config/containers/auth.json", "[]");
	expect_error(NULL, EISDIR, "/tmp/test-credentials."); /* the first of two */
	unsetenv("REGISTRY_AUTH_FILE");
	expect_error(NULL, EINVAL, "auth.json: not a JSON object");
	setenv("DOCKER_CONFIG", in_folder("programs"), 1);
	write_file("programs/config.json", "{\"credsStore\":\"gone\"}");
	expect_error(NULL, ENOENT, "docker-credential-gone: No such file or directory");
	write_file("home/.docker/config.json", AUTHS("\"reg.io\":" USER("0")));
	expect_user(NULL, "0");
	for (i = 0; i < sizeof places / sizeof *places; i++)
		unsetenv(places[i].variable);
	expect_user(NULL, NULL);
}

static void a_program_is_asked(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *old = strdup(getenv("PATH"));

	write_file("bin/docker-credential-test",
		   "#!/bin/sh\necho '{\"Username\":\"me\",\"Secret\":\"'$(cat)'\"}'\n");
	assert_int_equal(chmod(in_folder("bin/docker-credential-test"), 0755), 0);
	assert_true(asprintf(&path, "%s:%s", in_folder("bin"), old) > 0);
	setenv("PATH", path, 1);
	write_file("named", "{\"credsStore\":\"test\"}");
	expect_user(in_folder("named"), "me");
	write_file("named", "{\"credHelpers\":{\"reg.io\":\"gone\"}}");
	expect_error(in_folder("named"), ENOENT,
		     "named: docker-credential-gone: No such file or directory");
	/* A program that is missing is not a file that is missing. */
	setenv("REGISTRY_AUTH_FILE", in_folder("named"), 1);
	expect_error(NULL, ENOENT, "docker-credential-gone");
	unsetenv("REGISTRY_AUTH_FILE");
	write_file("named", "{\"credHelpers\":{\"reg.io\":\"../evil\"}}");
	expect_error(in_folder("named"), EINVAL,
		     "named: '../evil' cannot be the name of a credential program");
	setenv("PATH", old, 1);
}

/* ---- helpers ---- */

/* Answers one request. */
struct server {
	int listener;
	pthread_t thread;
	const char *answer;
	size_t zeros; /* sent behind the answer */
	bool silent; /* waits for the client to give up */
	char request[2048];
};

static void send_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t r = send(fd, bytes, n, MSG_NOSIGNAL);

		if (r < 0)
			return; /* the client has heard enough */
		bytes += r;
		n -= (size_t)r;
	}
}

static void *serve(void *arg)
{
	static const char zeros[4096];
	struct server *s = arg;
	AUTO_CLOSE int fd = accept(s->listener, NULL, NULL);
	size_t n = 0;
	ssize_t r;

	do {
		r = recv(fd, s->request + n, sizeof s->request - 1 - n, 0);
		n += r > 0 ? (size_t)r : 0;
		s->request[n] = '\0';
	} while (r > 0 && !strstr(s->request, "\r\n\r\n"));
	while (s->silent && r > 0)
		r = recv(fd, s->request, 1, 0);
	send_all(fd, s->answer, strlen(s->answer));
	for (; s->zeros > 0; s->zeros -= sizeof zeros)
		send_all(fd, zeros, sizeof zeros);
	return NULL;
}

/* address: where to find it.  tcp: on this machine, else a socket in our folder. */
static void start_server(struct server *s, bool tcp, char address[128])
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in inet = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof inet;

	snprintf(local.sun_path, sizeof local.sun_path, "%s/socket", folder);
	unlink(local.sun_path);
	s->listener = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(tcp ? bind(s->listener, (struct sockaddr *)&inet, sizeof inet)
			     : bind(s->listener, (struct sockaddr *)&local, sizeof local),
			 0);
	assert_int_equal(listen(s->listener, 1), 0);
	if (tcp)
		assert_int_equal(getsockname(s->listener, (struct sockaddr *)&inet, &n), 0);
	if (tcp)
		snprintf(address, 128, "http://127.0.0.1:%d", ntohs(inet.sin_port));
	else
		snprintf(address, 128, "unix:%s", local.sun_path);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop_server(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
}

#define HEAD(status) "HTTP/1.1 " status "\r\nConnection: close\r\n"
#define OK HEAD("200 OK") "\r\n"
#define SUCCESS(data) OK "{\"success\":true,\"data\":" data "}"

static const struct {
	const char *what, *answer;
	int result;
	const char *text; /* user or message */
} helpers[] = {
	{ "good", SUCCESS(ENTRY("\"auth\":\"" ME_SECRET "\"")), 0, "me" },
	{ "longer key", SUCCESS(AUTHS("\"reg.io\":" USER("1") ",\"reg.io/a\":" USER("2"))), 0,
	  "2" },
	{ "other host", SUCCESS(AUTHS("\"other.io\":" USER("1"))), 1, "" },
	{ "no data", OK "{\"success\":true}", 1, "" },
	{ "no success", OK "{\"success\":false,\"data\":" ENTRY("\"auth\":\"" ME_SECRET "\"") "}",
	  -EIO, "reported no success" },
	{ "success: text", OK "{\"success\":\"true\"}", -EIO, "reported no success" },
	{ "program", SUCCESS("{\"credsStore\":\"../evil\"}"), 1, "" },
	{ "bad entry", SUCCESS(ENTRY("\"auth\":\"" NO_COLON "\"")), -EINVAL,
	  "auths: 'reg.io': 'auth' is not base64" },
	{ "no JSON", OK "secret", -EINVAL, "wrong JSON in line 1, column 6" },
	{ "nothing", OK, -EINVAL, "wrong JSON in line 1, column 0" },
	{ "404", HEAD("404 Not Found") "\r\nsecret", -EIO, "answered 404" },
	{ "204", HEAD("204 None") "\r\n", -EIO, "answered 204" },
	{ "redirect", HEAD("302 Found") "Location: http://127.0.0.1:1/secret\r\n\r\n", -EIO,
	  "answered 302" },
	{ "no HTTP", "secret\r\n\r\n", -EIO, "" },
	{ "closed", "", -EIO, "" },
	{ "short", HEAD("200 OK") "Content-Length: 9\r\n\r\n{}", -EIO, "" },
};

static void expect_helper(const char *address, const char *what, int result, const char *text)
{
	struct credentials c;
	struct err e = { "" };
	int r = find_in(address, &c, &e);

	if (r != result || !strstr(r == 0 ? c.user : e.msg, text) ||
	    (r < 0 && strncmp(e.msg, "credential helper ", 18) != 0) || strstr(e.msg, "secret"))
		fail_msg("%s: %d, %s", what, r, r == 0 ? c.user : e.msg);
	assert_true(r == 0 || (!c.user && !c.password));
	assert_int_equal(e.msg[0] != '\0', r < 0);
	credentials_release(&c);
}

static void helpers_are_asked(void **state)
{
	size_t i;

	for (i = 0; i < 2 * sizeof helpers / sizeof *helpers; i++) {
		bool tcp = i % 2;
		struct server s = { .answer = helpers[i / 2].answer };
		char address[128], line[320];

		start_server(&s, tcp, address);
		expect_helper(address, helpers[i / 2].what, helpers[i / 2].result,
			      helpers[i / 2].text);
		stop_server(&s);
		snprintf(line, sizeof line,
			 "GET /%s?remote_url=https://reg.io/v2/a/b/blobs/sha256:0%%3Fx "
			 "HTTP/1.1\r\nHost: %s\r\n",
			 tcp ? "" : "auth", tcp ? address + 7 : "localhost");
		if (strncmp(s.request, line, strlen(line)) != 0)
			fail_msg("%s", s.request);
		assert_null(strstr(s.request, "Authorization"));
	}
}

static void a_helpers_query_is_continued(void **state)
{
	struct server s = { .answer = HEAD("500 x") "\r\n" };
	char address[128], with_query[256], host[160];

	setenv("http_proxy", "http://127.0.0.1:1", 1); /* not used */
	start_server(&s, true, address);
	snprintf(host, sizeof host, "at %s: answered 500", address + 7);
	snprintf(with_query, sizeof with_query, "http://me:secret@%s/x?key=secret", address + 7);
	expect_helper(with_query, "query", -EIO, host);
	stop_server(&s);
	unsetenv("http_proxy");
	assert_int_equal(strncmp(s.request, "GET /x?key=secret&remote_url=https://", 37), 0);
}

static void a_helper_that_says_too_much_is_cut_off(void **state)
{
	struct server s = { .answer = OK, .zeros = 2 << 20 };
	char address[128];

	start_server(&s, false, address);
	expect_helper(address, "large", -EFBIG, ": an answer of more than 1048576 bytes");
	stop_server(&s);
}

static void a_helper_that_is_away_is_named(void **state)
{
	expect_helper("unix:/nonexistent/socket", "no socket", -EIO,
		      "credential helper unix:/nonexistent/socket: ");
	expect_helper("http://127.0.0.1:1", "no port", -EIO, "credential helper at 127.0.0.1:1: ");
	expect_helper("http://", "no host", -EIO, "credential helper at : ");
}

static void a_source_with_a_fault_has_nothing(void **state)
{
	struct credentials_source source = { .fault = "file:1: it makes no sense" };
	struct credentials c;
	struct err e;

	assert_int_equal(credentials_find(&source, "reg.io", "a/b", URL, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "file:1: it makes no sense");
	assert_null(c.user);
}

static void a_helper_that_hangs_is_left(void **state)
{
	struct server s = { .answer = "", .silent = true };
	char address[128];

	if (!getenv("FULL"))
		skip();
	start_server(&s, false, address);
	expect_helper(address, "hangs", -ETIMEDOUT, ": no answer in 10 s");
	stop_server(&s);
}

static void lookups_run_out_of_memory(void **state)
{
	static const char answer[] = SUCCESS(ENTRY("\"auth\":\"" ME_SECRET "\""));
	struct credentials c;
	char address[300];
	struct err e;
	int r, unix_socket;
	long k;

	for (unix_socket = 0; unix_socket < 2; unix_socket++) {
		for (k = 0, r = -ENOMEM; r < 0 && k < 1000; k++) {
			struct server s = { .answer = answer };

			write_file("named", ENTRY("\"auth\":\"" ME_SECRET "\""));
			snprintf(address, sizeof address, "%s", in_folder("named"));
			if (unix_socket)
				start_server(&s, false, address);
			allocs_left = k;
			r = find_in(address, &c, &e);
			allocs_left = -1;
			if (unix_socket && r < 0)
				shutdown(s.listener, SHUT_RDWR); /* it may not have been asked */
			if (unix_socket)
				stop_server(&s);
			assert_true(r == 0 || r == -ENOMEM || r == -EINVAL);
		}
		assert_int_equal(r, 0);
		assert_string_equal(c.password, "secret");
		credentials_release(&c);
		assert_true(k > 10);
	}
}

static void equal_means_every_part(void **state)
{
	char x[] = "x", x2[] = "x", y[] = "y";
	struct credentials a = { .user = x }, b = { .user = x2 };

	assert_true(credentials_equal(&a, &b));
	b.user = y;
	assert_false(credentials_equal(&a, &b));
	b.user = NULL;
	assert_false(credentials_equal(&a, &b));
	b = a;
	b.password = y;
	assert_false(credentials_equal(&a, &b));
	b = a;
	b.identity_token = y;
	assert_false(credentials_equal(&a, &b));
	b = a;
	b.registry_token = y;
	assert_false(credentials_equal(&a, &b));
}

/* ---- TLS ---- */

static int make_folder(void **state)
{
	static const char *const variables[] = { "REGISTRY_AUTH_FILE", "DOCKER_CONFIG",
						 "XDG_RUNTIME_DIR", "HOME" };
	size_t i;

	for (i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_are_searched),
		cmocka_unit_test(every_byte_passes_base64),
		cmocka_unit_test(allocations_fail_one_by_one),
		cmocka_unit_test(a_named_file_is_read),
		cmocka_unit_test(the_usual_places_are_searched_in_order),
		cmocka_unit_test(a_program_is_asked),
		cmocka_unit_test(helpers_are_asked),
		cmocka_unit_test(a_helpers_query_is_continued),
		cmocka_unit_test(a_helper_that_says_too_much_is_cut_off),
		cmocka_unit_test(a_helper_that_is_away_is_named),
		cmocka_unit_test(a_source_with_a_fault_has_nothing),
		cmocka_unit_test(a_helper_that_hangs_is_left),
		cmocka_unit_test(lookups_run_out_of_memory),
		cmocka_unit_test(equal_means_every_part),
	};

	allocs_wrap_json();
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
