/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_levels.c - a blob whose chunks lie in v1/sha256 and in its origin's folder by turns is
 * read across all of them: each byte once, and none beyond what was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/digest.h"
#include "fetch/cache.h"

enum { CHUNKS = 7, SIZE = CHUNKS * CACHE_CHUNK, GUARD = SIZE };

static char folder[] = "/tmp/test-cache_levels.XXXXXX";
static uint8_t bytes[SIZE];

static int set_up(void **state)
{
	size_t i;

	for (i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)(i * 31 + i / CACHE_CHUNK);
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[sizeof folder + 16];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

static void publish(struct cache_blob *b, uint64_t i)
{
	assert_int_equal(cache_blob_publish(b, i, bytes + i * CACHE_CHUNK), 0);
}

static void by_turns(void **state)
{
	static uint8_t buf[SIZE + GUARD], guard[GUARD];
	char digest[DIGEST_TEXT];
	struct cache_blob *b;
	struct cache *c;
	struct err e;
	uint64_t i;

	assert_int_equal(digest_bytes(bytes, SIZE, digest, &e), 0);
	assert_int_equal(cache_open(folder, 0, &c, &e), 0);
	assert_int_equal(cache_blob_open(c, "http://host/repo", digest, SIZE, &b, &e), 0);
	for (i = 0; i < CHUNKS; i++)
		publish(b, i);
	assert_int_equal(cache_blob_verify(b, &e), 0);
	assert_int_equal(cache_blob_state(b), CACHE_WHOLE);
	for (i = 1; i < CHUNKS; i += 2) {
		cache_blob_drop(b, i * CACHE_CHUNK, 1);
		publish(b, i);
	}
	assert_int_equal(cache_blob_read(b, buf, SIZE, 0), SIZE);
	assert_memory_equal(buf, bytes, SIZE);
	assert_memory_equal(buf + SIZE, guard, GUARD);
	assert_int_equal(cache_blob_read(b, buf, SIZE - 100, 50), SIZE - 100);
	assert_memory_equal(buf, bytes + 50, SIZE - 100);
	cache_blob_drop(b, 4 * CACHE_CHUNK, 1);
	assert_int_equal(cache_blob_read(b, buf, SIZE, 0), 4 * CACHE_CHUNK);
	cache_blob_close(b);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_turns) };

	return cmocka_run_group_tests_name("cache_levels", tests, set_up, tear_down);
}
