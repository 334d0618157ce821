/* SPDX-License-Identifier: Apache-2.0 */
/* test-credentials_tls.c - the certs.d folders: ones of one's own, and the system's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "fetch/credentials.h"
#include "tests/unit/allocs.h"

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

static void expect_path(const char *got, const char *name)
{
	if (!got != !name || (got && strcmp(got, in_folder(name)) != 0))
		fail_msg("%s, not %s", got ? got : "NULL", name ? name : "NULL");
}

/* What the system has in /etc is ours here: ETC/... */
#define ETC "etc"

static int scandir_fails; /* with this error; 0: it does not */
static bool scandir_finds_nothing; /* the next time */

int __real_scandir64(const char *path, struct dirent ***entries,
		     int (*filter)(const struct dirent *d),
		     int (*compare)(const struct dirent **a, const struct dirent **b));
int __wrap_scandir64(const char *path, struct dirent ***entries,
		     int (*filter)(const struct dirent *d),
		     int (*compare)(const struct dirent **a, const struct dirent **b));

int __wrap_scandir64(const char *path, struct dirent ***entries,
		     int (*filter)(const struct dirent *d),
		     int (*compare)(const struct dirent **a, const struct dirent **b))
{
	if (scandir_fails) {
		errno = scandir_fails;
		return -1;
	}
	if (scandir_finds_nothing) {
		scandir_finds_nothing = false;
		*entries = malloc(1);
		return 0;
	}
	if (strncmp(path, "/etc/", 5) == 0)
		path = in_folder(path + 1);
	return __real_scandir64(path, entries, filter, compare);
}

#define CERTS "home/.config/containers/certs.d/"

static void certs_folders_are_searched(void **state)
{
	static const char *const files[] = { "reg.io:5000/b.crt",   "reg.io:5000/a.crt",
					     "reg.io:5000/0.cert",  "reg.io:5000/c.cert",
					     "reg.io:5000/c.key",   "reg.io:5000/b.cert",
					     "reg.io:5000/b.key",   "reg.io:5000/bb.key",
					     "reg.io:5000/a.crt.x", "empty.io/readme" };
	struct credentials_tls t;
	struct err e;
	char name[128];
	size_t i;
	long k;
	int r;

	for (i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(name, sizeof name, CERTS "%s", files[i]);
		write_file(name, "");
	}
	setenv("HOME", in_folder("home"), 1);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = credentials_find_tls("reg.io:5000", &t, &e);
		allocs_left = -1;
		assert_true(r == 0 || (!t.ca && !t.cert && !t.key));
	}
	assert_int_equal(r, 0);
	assert_true(k > 3);
	expect_path(t.ca, CERTS "reg.io:5000/a.crt");
	expect_path(t.cert, CERTS "reg.io:5000/b.cert");
	expect_path(t.key, CERTS "reg.io:5000/b.key");
	credentials_tls_release(&t);
	unsetenv("HOME");
	assert_int_equal(credentials_find_tls("reg.io:5000", &t, &e), 0);
	assert_null(t.ca);
}

/* What is no host leads into no folder, and there are files wherever it might lead. */
static void no_host_leads_elsewhere(void **state)
{
	static const char *const hosts[] = { "",       ".",  "..",	 "../up.io",
					     "a.io/b", "/a", "a.io/b/c", "a.io/../x" };
	static const char *const files[] = { "x.crt",	     "../x.crt",       "a.io/x.crt",
					     "a.io/b/x.crt", "a.io/b/c/x.crt", "../up.io/x.crt",
					     "a/x.crt",	     "x/x.crt" };
	struct credentials_tls t;
	struct err e;
	char name[128];
	size_t i;

	for (i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(name, sizeof name, "hosts/.config/containers/certs.d/%s", files[i]);
		write_file(name, "");
	}
	setenv("HOME", in_folder("hosts"), 1);
	for (i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		memset(&t, 0xff, sizeof t);
		if (credentials_find_tls(hosts[i], &t, &e) != 0 || t.ca || t.cert || t.key)
			fail_msg("'%s': %s", hosts[i], t.ca ? t.ca : "failed");
	}
	assert_int_equal(credentials_find_tls("a.io", &t, &e), 0);
	expect_path(t.ca, "hosts/.config/containers/certs.d/a.io/x.crt");
	credentials_tls_release(&t);
	assert_true(!t.ca && !t.cert && !t.key);
	unsetenv("HOME");
}

/* A certificate has its key beside it, which has exactly its name. */
static void keys_belong_to_certificates(void **state)
{
	static const struct {
		const char *files[5];
		const char *ca, *cert, *key;
	} rows[] = {
		{ { "a.cert", "a.key" }, NULL, "a.cert", "a.key" },
		{ { "a.cert" }, NULL, NULL, NULL },
		{ { "a.key" }, NULL, NULL, NULL },
		{ { "a.cert", "b.key" }, NULL, NULL, NULL },
		{ { "a.cert", "aa.key" }, NULL, NULL, NULL },
		{ { "ab.cert", "a.key" }, NULL, NULL, NULL },
		{ { "a.cert", "a.keys" }, NULL, NULL, NULL },
		{ { "a.cert", "a.key", "b.cert", "b.key" }, NULL, "a.cert", "a.key" },
		{ { "b.cert", "b.key", "a.cert" }, NULL, "b.cert", "b.key" },
		{ { "B.cert", "B.key", "a.cert", "a.key" }, NULL, "B.cert", "B.key" },
		{ { "b.crt", "a.crt", "B.crt" }, "B.crt", NULL, NULL },
		{ { "a.b.crt", "a.b.cert", "a.b.key", "a.key" }, "a.b.crt", "a.b.cert", "a.b.key" },
		{ { ".crt", ".cert", ".key" }, ".crt", ".cert", ".key" },
		{ { "crt", "cert", "key", "a.crt.old", "a.CRT" }, NULL, NULL, NULL },
		{ { "a.crt", "a.cert", "a.key", "z.crt" }, "a.crt", "a.cert", "a.key" },
	};
	const char *const *file;
	char host[16], name[128], paths[3][128];
	struct credentials_tls t;
	struct err e;
	size_t i;

	setenv("HOME", in_folder("keys"), 1);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(host, sizeof host, "h%zu", i);
		for (file = rows[i].files; file < rows[i].files + 5 && *file; file++) {
			snprintf(name, sizeof name, "keys/.config/containers/certs.d/%s/%s", host,
				 *file);
			write_file(name, "");
		}
		snprintf(name, sizeof name, "keys/.config/containers/certs.d/%s/", host);
		snprintf(paths[0], 128, "%s%s", name, rows[i].ca ? rows[i].ca : "");
		snprintf(paths[1], 128, "%s%s", name, rows[i].cert ? rows[i].cert : "");
		snprintf(paths[2], 128, "%s%s", name, rows[i].key ? rows[i].key : "");
		assert_int_equal(credentials_find_tls(host, &t, &e), 0);
		expect_path(t.ca, rows[i].ca ? paths[0] : NULL);
		expect_path(t.cert, rows[i].cert ? paths[1] : NULL);
		expect_path(t.key, rows[i].key ? paths[2] : NULL);
		credentials_tls_release(&t);
	}
	unsetenv("HOME");
}

/* A folder that cannot be read is none, but lack of memory is told. */
static void folders_cannot_be_read(void **state)
{
	struct credentials_tls t;
	struct err e;

	memset(&t, 0xff, sizeof t);
	scandir_fails = EACCES;
	assert_int_equal(credentials_find_tls("reg.io:5000", &t, &e), 0);
	assert_true(!t.ca && !t.cert && !t.key);
	memset(&t, 0xff, sizeof t);
	scandir_fails = ENOMEM;
	assert_int_equal(credentials_find_tls("reg.io:5000", &t, &e), -ENOMEM);
	scandir_fails = 0;
	assert_string_equal(e.msg, "out of memory");
	assert_true(!t.ca && !t.cert && !t.key);
}

/* Not even "." and "..": it is there all the same. */
static void a_folder_may_be_empty(void **state)
{
	struct credentials_tls t;
	struct err e;

	write_file(ETC "/docker/certs.d/void.io/a.crt", "");
	setenv("HOME", in_folder("home"), 1);
	assert_int_equal(credentials_find_tls("void.io", &t, &e), 0);
	assert_string_equal(t.ca, "/etc/docker/certs.d/void.io/a.crt");
	credentials_tls_release(&t);
	scandir_finds_nothing = true;
	assert_int_equal(credentials_find_tls("void.io", &t, &e), 0);
	assert_null(t.ca);
	unsetenv("HOME");
}

/* The first folder that is there counts, whatever is in it. */
static void the_systems_certs_folders_come_after_ones_own(void **state)
{
	static const struct {
		const char *file; /* which is added */
		const char *ca; /* "": none is found */
	} rows[] = {
		{ ETC "/containers/certs.d/r.io/c.crt", "/etc/containers/certs.d/r.io/c.crt" },
		{ ETC "/docker/certs.d/r.io/d.crt", "/etc/docker/certs.d/r.io/d.crt" },
		{ CERTS "r.io/readme", "" },
	};
	struct credentials_tls t;
	struct err e;
	size_t i;
	int home;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_file(rows[i].file, "");
		for (home = 2; home >= 0; home--) { /* its own is not there until the last row */
			if (home == 2)
				setenv("HOME", in_folder("home"), 1);
			else if (home == 1)
				setenv("HOME", "", 1);
			else
				unsetenv("HOME");
			assert_int_equal(credentials_find_tls("r.io", &t, &e), 0);
			if (home == 2 || i < 2)
				assert_string_equal(t.ca ? t.ca : "", rows[i].ca);
			else
				assert_string_equal(t.ca, rows[1].ca);
			credentials_tls_release(&t);
		}
	}
}

static int make_folder(void **state)
{
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
		cmocka_unit_test(certs_folders_are_searched),
		cmocka_unit_test(no_host_leads_elsewhere),
		cmocka_unit_test(keys_belong_to_certificates),
		cmocka_unit_test(folders_cannot_be_read),
		cmocka_unit_test(a_folder_may_be_empty),
		cmocka_unit_test(the_systems_certs_folders_come_after_ones_own),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
