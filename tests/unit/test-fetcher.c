/* SPDX-License-Identifier: Apache-2.0 */
/* What images share: the engine's thread that starts when it is needed, folders that are opened
 * once, and their keepers, tried again after a minute when they could not be started. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "fetch/fetcher.h"
#include "tests/unit/alloc.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/visitor.h"

/* ---- what it uses, noted ---- */

static char notes[512];

static void note(const char *what, const char *of)
{
	size_t at = strlen(notes);

	snprintf(notes + at, sizeof notes - at, "%s%s%s ", what, *of ? " " : "", of);
}

static void check_notes(const char *expected)
{
	assert_string_equal(notes, expected);
	notes[0] = '\0';
}

struct folder_of_test {
	char dir[64];
	uint64_t limit, keep_free;
	uint32_t recheck;
};

static struct folder_of_test folders[8];
static unsigned folder_count, warnings;
static int open_fails, http_fails, start_fails, thread_fails;
static const char *thread_fails_for; /* a folder; NULL: for all */
static int engine; /* its address is all that is known of it */

int __wrap_http_open(struct http **out, struct err *e);
int __wrap_http_start(struct http *h, struct err *e);
void __wrap_http_stop(struct http *h);
void __wrap_http_interrupt(struct http *h);
void __wrap_http_close(struct http *h);
int __wrap_cache_open_late(const char *dir, uint64_t limit, struct cache **out, struct err *e);
int __wrap_cache_start(struct cache *c, struct err *e);
void __wrap_cache_stop(struct cache *c);
void __wrap_cache_close(struct cache *c);
void __wrap_cache_set_limits(struct cache *c, const struct cache_limits *l);
void __wrap_cache_set_recheck(struct cache *c, uint32_t seconds);

int __wrap_http_open(struct http **out, struct err *e)
{
	if (http_fails)
		return err_set(e, http_fails, "no engine");
	*out = (struct http *)&engine;
	return 0;
}

int __wrap_http_start(struct http *h, struct err *e)
{
	note("thread", "");
	return start_fails ? err_set(e, start_fails, "no thread") : 0;
}

void __wrap_http_stop(struct http *h)
{
	note("stop", "");
}

void __wrap_http_interrupt(struct http *h)
{
	note("interrupt", "");
}

void __wrap_http_close(struct http *h)
{
	note("close", "");
}

static struct folder_of_test *folder_of(struct cache *c)
{
	return (struct folder_of_test *)c;
}

int __wrap_cache_open_late(const char *dir, uint64_t limit, struct cache **out, struct err *e)
{
	struct folder_of_test *f = &folders[folder_count];

	note("open", dir);
	if (open_fails == ENOMEM)
		return err_set(e, open_fails, "out of memory");
	if (open_fails)
		err_set(e, open_fails, "%s: no such place", dir);
	folder_count++;
	snprintf(f->dir, sizeof f->dir, "%s", dir);
	f->limit = limit;
	*out = (struct cache *)f;
	return open_fails != 0;
}

int __wrap_cache_start(struct cache *c, struct err *e)
{
	note("start", folder_of(c)->dir);
	if (thread_fails && (!thread_fails_for || strcmp(folder_of(c)->dir, thread_fails_for) == 0))
		return err_set(e, thread_fails, "cache %s: no thread", folder_of(c)->dir);
	return 0;
}

void __wrap_cache_stop(struct cache *c)
{
	note("stop", folder_of(c)->dir);
}

void __wrap_cache_close(struct cache *c)
{
	note("close", c ? folder_of(c)->dir : "nothing");
}

void __wrap_cache_set_limits(struct cache *c, const struct cache_limits *l)
{
	folder_of(c)->limit = l->limit;
	folder_of(c)->keep_free = l->keep_free;
}

void __wrap_cache_set_recheck(struct cache *c, uint32_t seconds)
{
	folder_of(c)->recheck = seconds;
}

static uint64_t now_us;

static uint64_t get_now(void)
{
	return now_us;
}

static const struct clock_ops by_hand = { .now_us = get_now };

static char last_warning[512];

static void take_warning(enum log_level level, const char *line)
{
	warnings++;
	snprintf(last_warning, sizeof last_warning, "%s", line);
}

static int set_up(void **state)
{
	memset(folders, 0, sizeof folders);
	folder_count = warnings = 0;
	open_fails = http_fails = start_fails = thread_fails = 0;
	thread_fails_for = NULL;
	notes[0] = last_warning[0] = '\0';
	now_us = 1000 * 1000;
	clock_use(&by_hand);
	log_set_sink(take_warning);
	return 0;
}

static int tear_down(void **state)
{
	log_set_sink(leftovers_sink);
	clock_use(NULL);
	return 0;
}

static struct cache *cache_in(struct fetcher *f, char *dir, uint64_t limit, uint64_t keep_free,
			      uint32_t recheck)
{
	struct fetch_settings settings = { .cache_dir = dir,
					   .cache_limit = limit,
					   .cache_keep_free = keep_free,
					   .verify_cache = recheck };
	struct cache *c = NULL;
	struct err e;

	assert_int_equal(fetcher_cache(f, &settings, &c, &e), 0);
	return c;
}

/* ---- tests ---- */

static void test_life(void **state)
{
	static char a[] = "/a", b[] = "/b";
	struct fetcher *f;

	assert_int_equal(fetcher_open(&f, NULL), 0);
	assert_ptr_equal(fetcher_http(f), (struct http *)&engine);
	(void)cache_in(f, a, 0, 0, 0);
	assert_false(fetcher_is_used(f));
	assert_int_equal(fetcher_resume(f, NULL), 0); /* nobody has needed it */
	check_notes("open /a ");
	assert_int_equal(fetcher_use(f, NULL), 0);
	assert_true(fetcher_is_used(f));
	check_notes("thread start /a ");
	assert_int_equal(fetcher_use(f, NULL), 0); /* it runs */
	check_notes("");
	(void)cache_in(f, b, 0, 0, 0); /* a folder that comes later */
	check_notes("open /b start /b ");
	fetcher_interrupt(f);
	check_notes("interrupt ");
	fetcher_stop(f);
	check_notes("stop stop /b stop /a ");
	assert_true(fetcher_is_used(f));
	assert_int_equal(fetcher_resume(f, NULL), 0);
	check_notes("thread start /b start /a ");
	fetcher_close(f);
	check_notes("stop stop /b stop /a close close /b close /a ");
	assert_int_equal(warnings, 0);
	fetcher_close(NULL);
	check_notes("");
}

static void test_start_fails(void **state)
{
	static char a[] = "/a", b[] = "/b";
	struct fetcher *f;

	http_fails = EMFILE;
	assert_int_equal(fetcher_open(&f, NULL), -EMFILE);
	http_fails = 0;
	assert_int_equal(fetcher_open(&f, NULL), 0);
	(void)cache_in(f, a, 0, 0, 0);
	(void)cache_in(f, b, 0, 0, 0);
	check_notes("open /a open /b ");
	start_fails = EAGAIN;
	assert_int_equal(fetcher_use(f, NULL), -EAGAIN);
	check_notes("thread ");
	start_fails = 0;
	assert_int_equal(fetcher_use(f, NULL), 0);
	check_notes("thread start /b start /a ");
	fetcher_close(f);
	check_notes("stop stop /b stop /a close close /b close /a ");
}

/* One cache a folder; what an image says of it is the folder's from then on. */
static void test_folders(void **state)
{
	static char a[] = "/a", b[] = "/b";
	struct fetcher *f;
	struct cache *c;

	assert_int_equal(fetcher_open(&f, NULL), 0);
	c = cache_in(f, a, 10, 20, 30);
	assert_int_equal(folder_of(c)->limit, 10);
	assert_int_equal(folder_of(c)->keep_free, 20);
	assert_int_equal(folder_of(c)->recheck, 30);
	assert_ptr_not_equal(cache_in(f, b, 1, 2, 3), c);
	assert_ptr_equal(cache_in(f, a, 11, 21, 31), c);
	assert_int_equal(folder_of(c)->limit, 11);
	assert_int_equal(folder_of(c)->keep_free, 21);
	assert_int_equal(folder_of(c)->recheck, 31);
	check_notes("open /a open /b ");
	fetcher_close(f);
}

/* One that cannot be opened now is opened later, by its keeper: it has one all the same. */
static void test_unusable(void **state)
{
	static char a[] = "/a";
	struct fetcher *f;
	struct cache *c;

	assert_int_equal(fetcher_open(&f, NULL), 0);
	open_fails = EACCES;
	c = cache_in(f, a, 10, 20, 30);
	assert_non_null(c);
	assert_int_equal(folder_of(c)->limit, 10);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "no cache: /a: no such place; reads go to the "));
	assert_ptr_equal(cache_in(f, a, 10, 20, 30), c);
	assert_int_equal(warnings, 1);
	assert_int_equal(fetcher_use(f, NULL), 0);
	check_notes("open /a thread start /a ");
	fetcher_close(f);
}

static void test_no_memory(void **state)
{
	static char a[] = "/a";
	const struct fetch_settings settings = { .cache_dir = a };
	struct fetcher *f;
	struct cache *c;
	struct err e;
	int i;

	alloc_left = 0;
	assert_int_equal(fetcher_open(&f, &e), -ENOMEM);
	alloc_left = -1;
	assert_string_equal(e.msg, "out of memory");
	assert_int_equal(fetcher_open(&f, NULL), 0);
	for (i = 0; i < 2; i++) {
		alloc_left = i;
		assert_int_equal(fetcher_cache(f, &settings, &c, &e), -ENOMEM);
		alloc_left = -1;
		assert_string_equal(e.msg, "out of memory");
	}
	check_notes("");
	open_fails = ENOMEM;
	assert_int_equal(fetcher_cache(f, &settings, &c, &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	/* It has no cache, and so no keeper. */
	assert_int_equal(fetcher_use(f, &e), 0);
	fetcher_stop(f);
	check_notes("open /a thread stop ");
	open_fails = 0;
	assert_int_equal(fetcher_cache(f, &settings, &c, &e), 0);
	fetcher_close(f);
}

/* One folder whose keeper cannot be started keeps no other from having one, and is tried again. */
static void test_no_keeper(void **state)
{
	static char a[] = "/a", b[] = "/b", c[] = "/c";
	struct fetcher *f;

	assert_int_equal(fetcher_open(&f, NULL), 0);
	(void)cache_in(f, a, 0, 0, 0);
	(void)cache_in(f, b, 0, 0, 0);
	fetcher_look(f); /* nobody needs them yet */
	check_notes("open /a open /b ");
	thread_fails = EAGAIN;
	thread_fails_for = b;
	assert_int_equal(fetcher_use(f, NULL), 0);
	check_notes("thread start /b start /a ");
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "cache /b: no thread; nothing is evicted or checked"));
	now_us += 60 * 1000 * 1000 - 1000;
	fetcher_look(f);
	(void)cache_in(f, c, 0, 0, 0);
	check_notes("open /c start /c ");
	now_us += 1000;
	fetcher_look(f);
	check_notes("start /b ");
	assert_int_equal(warnings, 1);
	thread_fails = 0;
	now_us += 60 * 1000 * 1000 - 1000;
	fetcher_look(f);
	check_notes("");
	now_us += 1000;
	fetcher_look(f);
	check_notes("start /b ");
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(last_warning, "cache /b: its keeper works now"));
	now_us += 60 * 1000 * 1000;
	fetcher_look(f);
	check_notes("");
	fetcher_close(f);
}

/* Of one that comes later too, and after a fork at once. */
static void test_no_keeper_of_a_later_one(void **state)
{
	static char a[] = "/a";
	struct fetcher *f;

	assert_int_equal(fetcher_open(&f, NULL), 0);
	assert_int_equal(fetcher_use(f, NULL), 0);
	thread_fails = EAGAIN;
	assert_non_null(cache_in(f, a, 0, 0, 0));
	assert_int_equal(warnings, 1);
	fetcher_stop(f);
	thread_fails = 0;
	check_notes("thread open /a start /a stop stop /a ");
	fetcher_look(f);
	check_notes("");
	assert_int_equal(fetcher_resume(f, NULL), 0);
	check_notes("thread start /a ");
	fetcher_close(f);
}

/* ---- for TSan ---- */

static struct fetcher *visited;

/* All that another thread may do, and with it all that the lock guards. */
static void use_all(void)
{
	static char a[] = "/a";

	(void)cache_in(visited, a, 1, 2, 3);
	(void)fetcher_use(visited, NULL);
	(void)fetcher_resume(visited, NULL);
	(void)fetcher_is_used(visited);
	fetcher_look(visited);
}

static void test_locks(void **state)
{
	static char a[] = "/a";
	struct visitor v;

	assert_int_equal(fetcher_open(&visited, NULL), 0);
	(void)cache_in(visited, a, 1, 2, 3);
	visitor_begin(&v, use_all);
	visitor_visit(&v);
	(void)cache_in(visited, a, 1, 2, 3);
	visitor_visit(&v);
	(void)fetcher_use(visited, NULL);
	visitor_visit(&v);
	(void)fetcher_resume(visited, NULL);
	visitor_visit(&v);
	(void)fetcher_is_used(visited);
	visitor_visit(&v);
	fetcher_look(visited);
	visitor_visit(&v);
	fetcher_stop(visited);
	visitor_visit(&v);
	visitor_end(&v);
	fetcher_close(visited);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_start_fails),
		TEST(test_folders),
		TEST(test_unusable),
		TEST(test_no_memory),
		TEST(test_no_keeper),
		TEST(test_no_keeper_of_a_later_one),
		TEST(test_locks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
