/* SPDX-License-Identifier: Apache-2.0 */
/* test-secrets.c - no password, no token and no text that holds one stays behind in memory that is
 * given back, whichever way credentials come and whatever fails on it.  What jansson keeps while it
 * reads is out of reach (answer.h). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "fetch/answer.h"
#include "fetch/challenge.h"
#include "fetch/credentials.h"
#include "fetch/keychain.h"
#include "fetch/refusal.h"
#include "fetch/secret.h"
#include "tests/unit/fenced_secrets.h"
#include "tests/unit/httpserver.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define ME_S3CRET "bWU6czNjcmV0dDB3b3Jk" /* me:s3crett0word */
#define ENTRY(fields) "{\"auths\":{\"reg.io\":{" fields "}}}"

/* Each is looked for in what is freed. */
static const char *const secrets[] = { "s3crett0word", ME_S3CRET };

static char folder[] = "/tmp/test-secrets.XXXXXX";

static const char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static const char *const documents[] = {
	ENTRY("\"auth\":\"" ME_S3CRET "\""),
	ENTRY("\"auth\":\"" ME_S3CRET "\",\"identitytoken\":\"s3crett0word\""),
	ENTRY("\"username\":\"me\",\"password\":\"s3crett0word\""),
	ENTRY("\"username\":\"me\",\"password\":\"s3crett0word\",\"registrytoken\":"
	      "\"s3crett0word\""),
	/* what cannot be used */
	ENTRY("\"registrytoken\":\"s3crett0word \""),
	ENTRY("\"password\":\"s3crett0word\""),
	ENTRY("\"auth\":\"czNjcmV0dDB3b3Jk\""), /* s3crett0word alone */
	ENTRY("\"auth\":\"" ME_S3CRET "!\""),
	ENTRY("\"auth\":\"bWU6AHMzY3JldHQwd29yZA==\""), /* a NUL before it */
	ENTRY("\"auth\":\"" ME_S3CRET "\",\"registrytoken\":\"s3crett0word \""),
	"{\"auths\":{\"other.io\":{\"auth\":\"" ME_S3CRET "\"}}}",
	"{\"auths\":\"s3crett0word " ME_S3CRET "\"}",
	"[\"s3crett0word " ME_S3CRET "\"]",
	("s3crett0word " ME_S3CRET),
};

/* With so many allocations that succeed; -1: all do. */
static void look_up(const char *place, long allocations)
{
	const struct credentials_source source = { .place = place };
	struct credentials c;
	size_t i;

	for (i = 0; i < COUNT_OF(secrets); i++) {
		fences_secret = secrets[i];
		allocs_left = allocations;
		(void)credentials_find(&source, "reg.io", "app", "https://reg.io/x", &c, NULL);
		allocs_left = -1;
		credentials_release(&c);
		fences_secret = NULL;
	}
}

static void files_are_forgotten(void **state)
{
	size_t i;
	long k;

	for (i = 0; i < COUNT_OF(documents); i++) {
		write_file("auth.json", documents[i]);
		for (k = -1; k < 12; k++)
			look_up(in_folder("auth.json"), k);
	}
}

static void helpers_answers_are_forgotten(void **state)
{
	char socket_path[64], address[80], answer[1024];
	struct server s;
	size_t i;

	snprintf(socket_path, sizeof socket_path, "%s/socket", folder);
	snprintf(address, sizeof address, "unix:%s", socket_path);
	server_start(&s, socket_path);
	for (i = 0; i < COUNT_OF(documents); i++) {
		snprintf(answer, sizeof answer,
			 "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n"
			 "{\"success\":true,\"data\":%s}",
			 strlen(documents[i]) + 24, documents[i]);
		server_say(&s, answer, false);
		look_up(address, -1);
	}
	server_stop(&s);
}

static void programs_answers_are_forgotten(void **state)
{
	static const char *const scripts[] = {
		"echo '{\"Username\":\"me\",\"Secret\":\"s3crett0word\"}'",
		"echo '{\"Username\":\"<token>\",\"Secret\":\"s3crett0word\"}'",
		"echo '{\"Secret\":\"s3crett0word\"}'",
		"echo 's3crett0word'",
		"echo 's3crett0word'; exit 1",
		"yes s3crett0word",
	};
	AUTO_FREE char *path = NULL;
	struct credentials c;
	char text[128];
	size_t i;
	long k;

	assert_true(asprintf(&path, "%s:%s", folder, getenv("PATH")) > 0);
	setenv("PATH", path, 1);
	for (i = 0; i < COUNT_OF(scripts); i++) {
		snprintf(text, sizeof text, "#!/bin/sh\n%s\n", scripts[i]);
		write_file("docker-credential-test", text);
		assert_int_equal(chmod(in_folder("docker-credential-test"), 0755), 0);
		for (k = -1; k < 5; k++) {
			fences_secret = secrets[0];
			allocs_left = k;
			(void)keychain_get("test", "reg.io", 60, &c, NULL);
			allocs_left = -1;
			credentials_release(&c);
			fences_secret = NULL;
		}
	}
}

static void tokens_are_forgotten(void **state)
{
	static const char text[] = "{\"token\":\"s3crett0word\",\"expires_in\":5}";
	unsigned lifetime;
	char *token;

	fences_secret = secrets[0];
	assert_int_equal(challenge_parse_token(text, sizeof text - 1, &token, &lifetime, NULL), 0);
	secret_free(token);
	fences_secret = NULL;
}

static void refusals_are_forgotten(void **state)
{
	static const char body[] = "{\"message\":\"s3crett0word is wrong\"}";
	struct refusal r = { 0 };
	char text[REFUSAL_TEXT];

	fences_secret = secrets[0];
	refusal_take(&r, body, sizeof body - 1);
	refusal_text(&r, 401, "Bearer x", text);
	assert_non_null(strstr(text, "s3crett0word is wrong"));
	refusal_release(&r);
	refusal_release(&r); /* there is none */
	fences_secret = NULL;
}

/* ---- the stack ---- */

enum { STACK = 256 * 1024 };

static void *judge(void *arg)
{
	static const char body[] = "{\"message\":\"fine\"}";
	char words[REFUSAL_WORDS];
	struct refusal r = { 0 };

	refusal_take(&r, body, sizeof body - 1);
	refusal_words(&r, arg, words);
	refusal_release(&r);
	return NULL;
}

/* The password that a header is decoded to is overwritten.  It is longer than what registers, which
 * the system saves on the stack as well, hold of it. */
static void the_stack_is_overwritten(void **state)
{
	char header[1024] = "Basic bTpz", part[120]; /* m:s, and then ecr, ets */
	char *stack = aligned_alloc(4096, STACK);
	pthread_attr_t attributes;
	pthread_t thread;
	size_t i;

	for (i = 0; i < 100; i++)
		memcpy(header + 10 + 4 * i, i % 2 ? "ZXRz" : "ZWNy", 5);
	memset(stack, 0, STACK);
	assert_int_equal(pthread_attr_init(&attributes), 0);
	assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK), 0);
	assert_int_equal(pthread_create(&thread, &attributes, judge, header), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attributes);
	for (i = 0; i < sizeof part; i++)
		part[i] = "secret"[i % 6];
	assert_null(memmem(stack, STACK, part, sizeof part));
	free(stack);
}

static int make_folder(void **state)
{
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
		cmocka_unit_test(files_are_forgotten),
		cmocka_unit_test(helpers_answers_are_forgotten),
		cmocka_unit_test(programs_answers_are_forgotten),
		cmocka_unit_test(tokens_are_forgotten),
		cmocka_unit_test(refusals_are_forgotten),
		cmocka_unit_test(the_stack_is_overwritten),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
