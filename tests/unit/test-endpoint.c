/* SPDX-License-Identifier: Apache-2.0 */
/* test-endpoint.c - which places a repository has, in what order, and how they fare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/endpoint.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test-endpoint.XXXXXX";
static uint64_t now_ms = 1000000;

static uint64_t now_us(void)
{
	return now_ms * 1000;
}

static struct fetch_settings settings; /* of the test */
static struct endpoint_list list;

static int open_list(const char *name, bool push, struct err *e)
{
	struct reference ref;
	int r;

	if (strstr(name, "/blobs"))
		assert_int_equal(reference_parse_blob_url(name, &ref, e), 0);
	else
		assert_int_equal(reference_parse(name, &ref, e), 0);
	r = endpoint_list_open(NULL, &ref, &settings, push, &list, e);
	reference_release(&ref);
	return r;
}

static void use_mirror(const char *address)
{
	static char *mirrors[1];

	settings.mirrors = mirrors;
	mirrors[0] = (char *)(uintptr_t)address;
	settings.mirror_count = address ? 1 : 0;
}

/* ---- which there are ---- */

static const struct {
	const char *name, *mirror;
	bool insecure, push;
	const char *bases; /* joined by blanks, a query behind '?'; or "! ERROR" */
} rows[] = {
	{ "reg.io/app", NULL, false, false, "https://reg.io/v2/app" },
	{ "debian", NULL, false, false, "https://registry-1.docker.io/v2/library/debian" },
	{ "https://reg.io/app", NULL, true, false, "https://reg.io/v2/app" },
	{ "https://reg.io/v2/app/blobs", NULL, false, false, "https://reg.io/v2/app" },
	{ "http://reg.io/app", NULL, true, false, "http://reg.io/v2/app" },
	{ "http://reg.io/app", NULL, false, false,
	  "! reg.io: plain HTTP to another machine needs insecure=true" },
	{ "reg.io/app", NULL, true, false, "https://reg.io/v2/app http://reg.io/v2/app" },
	/* on this machine plain HTTP is the rule */
	{ "localhost:5000/app", NULL, false, false,
	  "http://localhost:5000/v2/app https://localhost:5000/v2/app" },
	{ "http://[::1]:5000/app", NULL, false, false, "http://[::1]:5000/v2/app" },
	{ "https://127.0.0.1/app", NULL, false, false, "https://127.0.0.1/v2/app" },
	/* mirrors come first, and are told for whom */
	{ "reg.io/app", "mirror.io", false, false,
	  "https://mirror.io/v2/app?ns=reg.io https://reg.io/v2/app" },
	{ "reg.io:5000/app", "mirror.io:8/", false, false,
	  "https://mirror.io:8/v2/app?ns=reg.io%3A5000 https://reg.io:5000/v2/app" },
	{ "debian", "http://mirror.io", false, false,
	  "http://mirror.io/v2/library/debian?ns=docker.io "
	  "https://registry-1.docker.io/v2/library/debian" },
	{ "reg.io/app", "localhost:5000", false, false,
	  "http://localhost:5000/v2/app?ns=reg.io https://reg.io/v2/app" },
	{ "reg.io/app", "localhost/p2p", false, false,
	  "http://localhost/p2p/https://reg.io/v2/app https://reg.io/v2/app" },
	{ "reg.io/app", "https://mirror.io/v2/team/hub/", false, false,
	  "https://mirror.io/v2/team/hub/app?ns=reg.io https://reg.io/v2/app" },
	{ "reg.io/app", "http://localhost:9731/accelerator", false, false,
	  "http://localhost:9731/accelerator/https://reg.io/v2/app https://reg.io/v2/app" },
	{ "reg.io/app", "https://mirror.io", false, true, "https://reg.io/v2/app" },
	{ "reg.io/app", "ftp://mirror.io", false, false,
	  "! mirror 'ftp://mirror.io' is not an address as http://HOST[:PORT]; a user and "
	  "password belong into a credentials file" },
	{ "reg.io/app", "https://me:hush@mirror.io", false, false,
	  "! mirror '(with a password)' is not an address" },
	{ "reg.io/app", "https://mirror.io?x", false, false, "! mirror 'https://mirror.io?x'" },
	{ "reg.io/app", "https://mirror.io:0", false, false, "! mirror 'https://mirror.io:0'" },
	{ "reg.io/app", "https://[::1", false, false, "! mirror 'https://[::1'" },
};

static void endpoints_are_listed(void **state)
{
	size_t i, k, n;
	char text[512];

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct err e = { "" };
		int r;

		settings.insecure = rows[i].insecure;
		use_mirror(rows[i].mirror);
		r = open_list(rows[i].name, rows[i].push, &e);
		if (rows[i].bases[0] == '!') {
			if (r != -EINVAL ||
			    strncmp(e.msg, rows[i].bases + 2, strlen(rows[i].bases + 2)) != 0 ||
			    strstr(e.msg, "hush"))
				fail_msg("%s, %s: %d, %s", rows[i].name, rows[i].mirror, r, e.msg);
			assert_null(list.items);
			continue;
		}
		assert_int_equal(r, 0);
		for (k = n = 0; k < list.count; k++) {
			const struct endpoint *p = &list.items[k];

			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s%s",
					      k > 0 ? " " : "", p->base, p->query ? "?" : "",
					      p->query ? p->query : "");
			assert_true(strncmp(p->base, p->origin, strlen(p->origin)) == 0);
			assert_string_equal(p->name, strstr(p->origin, "://") + 3);
			assert_true(endpoint_is_own(p, p->base));
		}
		if (strcmp(text, rows[i].bases) != 0)
			fail_msg("%s, %s: %s", rows[i].name, rows[i].mirror, text);
		endpoint_list_close(&list);
	}
	settings.insecure = false;
	use_mirror(NULL);
}

/* A registry on this machine for which there are TLS files speaks TLS. */
static void tls_files_decide_on_this_machine(void **state)
{
	AUTO_FREE char *path = NULL;
	char name[256];
	const char *part;
	struct err e;

	settings.cainfo = (char *)(uintptr_t) "/ca.pem";
	assert_int_equal(open_list("localhost:5000/app", false, &e), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].base, "https://localhost:5000/v2/app");
	assert_string_equal(list.items[0].route.ca, "/ca.pem");
	endpoint_list_close(&list);
	settings.cainfo = NULL;

	snprintf(name, sizeof name, "%s", folder);
	for (part = "/.config/containers/certs.d/localhost:5000/"; *part != '\0'; part++) {
		size_t n = strlen(name);

		if (*part == '/' && n > strlen(folder))
			assert_true(mkdir(name, 0777) == 0 || errno == EEXIST);
		name[n] = *part;
		name[n + 1] = '\0';
	}
	assert_true(asprintf(&path, "%sca.crt", name) > 0);
	assert_int_equal(io_replace_file(path, "", 0, NULL), 0);
	setenv("HOME", folder, 1);
	assert_int_equal(open_list("localhost:5000/app", false, &e), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].route.ca, path);
	endpoint_list_close(&list);
	assert_int_equal(open_list("localhost:5001/app", false, &e), 0);
	assert_int_equal(list.count, 2);
	assert_null(list.items[0].route.ca);
	endpoint_list_close(&list);
	unsetenv("HOME");
}

static void a_client_certificate_is_for_the_host_alone(void **state)
{
	struct err e;

	settings.client_cert = (char *)(uintptr_t) "/c.pem";
	settings.client_key = (char *)(uintptr_t) "/k.pem";
	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	assert_string_equal(list.items[0].route.cert, "/c.pem");
	assert_string_equal(list.items[0].route.key, "/k.pem");
	assert_null(list.items[0].away.cert);
	assert_null(list.items[0].away.key);
	endpoint_list_close(&list);
	settings.client_cert = settings.client_key = NULL;
}

static void there_are_so_many_mirrors_at_most(void **state)
{
	static char address[] = "https://mirror.io";
	char *mirrors[ENDPOINTS_MAX];
	struct err e;
	size_t i;

	for (i = 0; i < ENDPOINTS_MAX; i++)
		mirrors[i] = address;
	settings.mirrors = mirrors;
	settings.mirror_count = ENDPOINTS_MAX - 2;
	settings.insecure = true;
	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	assert_int_equal(list.count, ENDPOINTS_MAX);
	endpoint_list_close(&list);
	settings.mirror_count++;
	assert_int_equal(open_list("reg.io/app", false, &e), -EINVAL);
	assert_string_equal(e.msg, "31 mirrors, more than 30");
	settings.insecure = false;
	use_mirror(NULL);
}

/* ---- how they fare ---- */

static void who_fails_is_left_alone_for_longer_and_longer(void **state)
{
	static const uint64_t waits[] = { 250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000 };
	struct endpoint *p;
	struct err e;
	size_t i;

	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	p = &list.items[0];
	for (i = 0; i < COUNT_OF(waits); i++) {
		endpoint_failed(p);
		assert_int_equal(p->bad_until - now_ms, waits[i]);
		now_ms += 10;
		endpoint_failed(p); /* with the others: counts once */
		assert_in_range(p->bad_until - now_ms, waits[i] - 10, waits[i]);
		now_ms = p->bad_until;
	}
	for (i = 0; i < 20; i++) {
		endpoint_failed(p);
		now_ms = p->bad_until;
	}
	endpoint_worked(p);
	assert_int_equal(p->bad_until, 0);
	endpoint_failed(p);
	assert_int_equal(p->bad_until - now_ms, 250);
	endpoint_asked(p, 7);
	assert_int_equal(p->asked_until - now_ms, 7000);
	endpoint_asked(p, 3); /* the longer one counts */
	assert_int_equal(p->asked_until - now_ms, 7000);
	endpoint_list_close(&list);
}

static void the_scheme_that_answers_is_the_right_one(void **state)
{
	struct err e;

	assert_int_equal(open_list("localhost:5000/app", false, &e), 0);
	endpoint_answered(&list.items[0], 400); /* TLS, spoken to in the clear */
	assert_false(list.items[1].unused);
	endpoint_answered(&list.items[1], 401);
	assert_true(list.items[0].unused);
	assert_false(list.items[1].unused);
	endpoint_list_close(&list);
	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	endpoint_answered(&list.items[0], 200); /* without a sibling */
	assert_false(list.items[0].unused);
	endpoint_list_close(&list);
}

/* ---- where they redirect ---- */

static const struct {
	const char *location, *url;
} locations[] = {
	{ "https://store.io/x?a=b%20c&sig=A+B%2F#frag", "https://store.io/x?a=b%20c&sig=A+B%2F" },
	{ "/x", "https://reg.io/x" },
	{ "x", "https://reg.io/v2/app/blobs/x" },
	{ "?x", "https://reg.io/v2/app/blobs/y?x" },
	{ "//store.io", "https://store.io/" },
	{ "HTTPS://Store.io/X", "https://Store.io/X" },
	{ "/a b", "https://reg.io/a%20b" },
	{ "/\xc3\xa9", "https://reg.io/%c3%a9" },
	{ "http://reg.io/x", NULL },
	{ "file:///etc/passwd", NULL },
	{ "https://me@reg.io/x", NULL },
	{ "https://reg.io:0/x", NULL },
};

static void locations_are_made_absolute(void **state)
{
	AUTO_FREE char *plain = NULL;
	struct err e;
	size_t i;

	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	for (i = 0; i < COUNT_OF(locations); i++) {
		AUTO_FREE char *url = endpoint_resolve(
			&list.items[0], "https://reg.io/v2/app/blobs/y", locations[i].location);

		if (!url != !locations[i].url || (url && strcmp(url, locations[i].url) != 0))
			fail_msg("%s: %s", locations[i].location, url ? url : "NULL");
	}
	endpoint_list_close(&list);
	settings.insecure = true;
	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	plain = endpoint_resolve(&list.items[0], "https://reg.io/y", "http://reg.io/x");
	assert_string_equal(plain, "http://reg.io/x");
	endpoint_list_close(&list);
	settings.insecure = false;
}

static void guests_are_known_by_their_origin(void **state)
{
	struct auth *first, *other;
	struct endpoint *p;
	char url[64];
	struct err e;
	size_t i;

	assert_int_equal(open_list("reg.io/app", false, &e), 0);
	p = &list.items[0];
	assert_null(endpoint_guest(p, "https://store.io/v2/x/blobs/1"));
	assert_null(endpoint_invite(p, "store.io"));
	first = endpoint_invite(p, "https://store.io/v2/x/blobs/1");
	assert_non_null(first);
	assert_ptr_equal(endpoint_guest(p, "https://STORE.io:443/y"), first);
	assert_ptr_equal(endpoint_invite(p, "https://store.io/"), first);
	assert_null(endpoint_guest(p, "http://store.io/y"));
	assert_null(endpoint_guest(p, "https://store.io:8443/y"));
	other = endpoint_invite(p, "http://store.io/y");
	assert_true(other && other != first);
	for (i = p->guest_count; i < ENDPOINT_GUESTS_MAX; i++) {
		snprintf(url, sizeof url, "https://store.io:%zu/", 1000 + i);
		assert_non_null(endpoint_invite(p, url));
	}
	assert_null(endpoint_invite(p, "https://store.io:2000/")); /* too many */
	assert_ptr_equal(endpoint_invite(p, "https://store.io/z"), first);
	assert_true(endpoint_quiesce(p));
	endpoint_list_close(&list);
}

static int make_folder(void **state)
{
	static struct clock_ops ops;

	ops = clock_system;
	ops.now_us = now_us;
	clock_use(&ops);
	unsetenv("HOME");
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
		cmocka_unit_test(endpoints_are_listed),
		cmocka_unit_test(tls_files_decide_on_this_machine),
		cmocka_unit_test(a_client_certificate_is_for_the_host_alone),
		cmocka_unit_test(there_are_so_many_mirrors_at_most),
		cmocka_unit_test(who_fails_is_left_alone_for_longer_and_longer),
		cmocka_unit_test(the_scheme_that_answers_is_the_right_one),
		cmocka_unit_test(locations_are_made_absolute),
		cmocka_unit_test(guests_are_known_by_their_origin),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
