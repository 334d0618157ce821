/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-service.c - any bytes as a service file.
 *
 * Properties: what is accepted gives settings within their limits, and the same ones again; what is
 * refused gets a message that begins with the file's name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_setting.h"
#include "core/service.h"
#include "tests/fuzz/fuzz.h"

#define NAME "/svc/s.json"

static void check_path(const char *path)
{
	FUZZ_CHECK(!path || path[0] == '/');
}

static void check_settings(const struct fetch_settings *s)
{
	size_t i;

	check_path(s->cache_dir);
	check_path(s->cainfo);
	check_path(s->client_cert);
	check_path(s->client_key);
	FUZZ_CHECK(s->connections >= 1 && s->connections <= FETCH_CONNECTIONS_MAX);
	FUZZ_CHECK(s->timeout <= CONFIG_SETTING_TIMEOUT);
	FUZZ_CHECK(s->cache_limit <= INT64_MAX || s->cache_limit == FETCH_FOLDERS);
	FUZZ_CHECK(s->download.tries > 0 && s->download.block_size > 0);
	FUZZ_CHECK(s->mirror_count <= CONFIG_SETTING_MIRRORS);
	for (i = 0; i < s->mirror_count; i++)
		FUZZ_CHECK(strncmp(s->mirrors[i], "http", 4) == 0);
	FUZZ_CHECK(!s->password || !strpbrk(s->password, "\r\n"));
	FUZZ_CHECK(!s->user_agent || !strpbrk(s->user_agent, "\r\n"));
	FUZZ_CHECK(!s->user || !strpbrk(s->user, ":\r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	/* Exactly as long as the input, which may be at NULL when it is empty. */
	char *text = malloc(n > 0 ? n : 1);
	struct fetch_settings s, again;
	struct err e = { "" };
	int r;

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	FUZZ_CHECK(fetch_settings_init(&s, NULL) == 0 && fetch_settings_init(&again, NULL) == 0);
	r = service_parse(NAME, text, n, &s, &e);
	FUZZ_CHECK(service_parse(NAME, text, n, &again, NULL) == r);
	check_settings(&s);
	if (r == 0) {
		FUZZ_CHECK(s.mirror_count == again.mirror_count);
		FUZZ_CHECK(s.cache_limit == again.cache_limit);
	} else {
		FUZZ_CHECK(r == -EINVAL || r == -EFBIG);
		FUZZ_CHECK(strncmp(e.msg, NAME ":", sizeof NAME) == 0);
	}
	fetch_settings_release(&s);
	fetch_settings_release(&again);
	free(text);
	return 0;
}
