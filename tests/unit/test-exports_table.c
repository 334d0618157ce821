/* SPDX-License-Identifier: Apache-2.0 */
/* test-exports_table.c - the folder of exports where it is hard: entries of every kind, a folder
 * that fails while it is read, clients that wait for one another.
 *
 * Linked with readdir, disk_open, disk_start and disk_close wrapped: what opens is a disk without
 * an image, when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "nbdkit-plugin/exports.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[64];
static struct exports *exports;

/* ---- wrapped calls ---- */

static const char *readdir_stops_at; /* at an entry of this name it fails */
static bool types_are_hidden; /* the file system does not tell */

struct dirent *__real_readdir64(DIR *list);
struct dirent *__wrap_readdir64(DIR *list);
struct dirent *__wrap_readdir64(DIR *list)
{
	struct dirent *d = __real_readdir64(list);

	if (d && readdir_stops_at && strcmp(d->d_name, readdir_stops_at) == 0) {
		errno = EIO;
		return NULL;
	}
	if (d && types_are_hidden)
		d->d_type = DT_UNKNOWN;
	return d;
}

static int scan_failure; /* errno of each listing, 0: none */

int __real_scandirat64(int fd, const char *name, struct dirent ***out,
		       int (*takes)(const struct dirent *d),
		       int (*compare)(const struct dirent **a, const struct dirent **b));
int __wrap_scandirat64(int fd, const char *name, struct dirent ***out,
		       int (*takes)(const struct dirent *d),
		       int (*compare)(const struct dirent **a, const struct dirent **b));
int __wrap_scandirat64(int fd, const char *name, struct dirent ***out,
		       int (*takes)(const struct dirent *d),
		       int (*compare)(const struct dirent **a, const struct dirent **b))
{
	if (scan_failure == 0)
		return __real_scandirat64(fd, name, out, takes, compare);
	errno = scan_failure;
	return -1;
}

static sem_t opening, may_open, closing, may_close;
static bool open_waits, close_waits;
static int open_failure;
static unsigned opened, started, closed;
/* In place of the semaphores, which order the threads' accesses for TSan as a lock would. */
static bool is_unordered;
static atomic_bool is_opening, may_go_on;

static void say_unordered(atomic_bool *what)
{
	atomic_store_explicit(what, true, memory_order_relaxed);
}

static void await_unordered(atomic_bool *what)
{
	while (!atomic_load_explicit(what, memory_order_relaxed))
		sched_yield();
}

int __wrap_disk_open(const char *path, const struct config_options *options,
		     struct fetcher *fetcher, struct disk **out, struct err *e);
int __wrap_disk_open(const char *path, const struct config_options *options,
		     struct fetcher *fetcher, struct disk **out, struct err *e)
{
	if (is_unordered) {
		say_unordered(&is_opening);
		await_unordered(&may_go_on);
	} else if (open_waits) {
		sem_post(&opening);
		sem_wait(&may_open);
	}
	if (open_failure)
		return err_set(e, open_failure, "%s: it does not open", path);
	__atomic_add_fetch(&opened, 1, __ATOMIC_SEQ_CST);
	*out = calloc(1, sizeof **out);
	return 0;
}

void __wrap_disk_start(struct disk *d);
void __wrap_disk_start(struct disk *d)
{
	assert_non_null(d);
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
}

void __wrap_disk_close(struct disk *d);
void __wrap_disk_close(struct disk *d)
{
	if (!d)
		return;
	if (close_waits) {
		sem_post(&closing);
		sem_wait(&may_close);
	}
	__atomic_add_fetch(&closed, 1, __ATOMIC_SEQ_CST);
	free(d);
}

static sem_t waits; /* is posted when a client waits for another */

int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock)
{
	sem_post(&waits);
	return __real_pthread_cond_wait(c, lock);
}

/* ---- the folder ---- */

static const char *path_of(const char *name)
{
	static char path[160];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name)
{
	assert_int_equal(io_replace_file(path_of(name), "x", 1, NULL), 0);
}

static int set_up(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/test-exports.XXXXXX");
	readdir_stops_at = NULL;
	scan_failure = 0;
	types_are_hidden = open_waits = close_waits = is_unordered = false;
	is_opening = may_go_on = false;
	open_failure = 0;
	opened = started = closed = 0;
	sem_init(&opening, 0, 0);
	sem_init(&may_open, 0, 0);
	sem_init(&closing, 0, 0);
	sem_init(&may_close, 0, 0);
	sem_init(&waits, 0, 0);
	if (!mkdtemp(folder))
		return -1;
	write_file("a.yaml");
	return exports_open(folder, NULL, NULL, &exports, NULL);
}

static int tear_down(void **state)
{
	char command[128];

	exports_close(exports);
	assert_int_equal(opened, closed);
	assert_int_equal(opened, started);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static bool is_export(const char *name)
{
	struct disk *d;
	int r = exports_acquire(exports, name, &d, NULL);

	if (r == 0)
		exports_release(exports, d);
	else
		assert_int_equal(r, -ENOENT);
	return r == 0;
}

static void an_export_is_a_plain_name_of_a_file(void **state)
{
	static const char *const names[] = { "b", "link", "x.yaml", "c d" };
	static const char *const others[] = { "folder", "dangling", "to-folder", ".hidden",
					      "",	"d\nd",	    "a.yaml",	 "e",
					      "pipe",	"./a",	    "A" };
	struct export_names list;
	size_t i;
	int hidden;

	write_file("b.yaml");
	write_file("x.yaml.yaml");
	write_file("c d.yaml");
	write_file(".hidden.yaml");
	write_file(".yaml");
	write_file("d\nd.yaml");
	write_file("e.yml");
	write_file("e.yaml.bak");
	assert_int_equal(mkdir(path_of("folder.yaml"), 0755), 0);
	assert_int_equal(symlink("a.yaml", path_of("link.yaml")), 0);
	assert_int_equal(symlink("gone", path_of("dangling.yaml")), 0);
	assert_int_equal(symlink("folder.yaml", path_of("to-folder.yaml")), 0);
	assert_int_equal(mkfifo(path_of("pipe.yaml"), 0644), 0);
	/* A file system may not tell what an entry is: then the file is looked at. */
	for (hidden = 0; hidden < 2; hidden++) {
		types_are_hidden = hidden;
		for (i = 0; i < COUNT_OF(names); i++)
			if (!is_export(names[i]))
				fail_msg("'%s' is none", names[i]);
		for (i = 0; i < COUNT_OF(others); i++)
			if (is_export(others[i]))
				fail_msg("'%s' is one", others[i]);
	}
	assert_int_equal(exports_list(exports, &list, NULL), 0);
	assert_int_equal(list.count, 5);
	assert_string_equal(list.names[0], "a");
	assert_string_equal(list.names[1], "b");
	assert_string_equal(list.names[2], "c d");
	assert_string_equal(list.names[3], "link");
	assert_string_equal(list.names[4], "x.yaml");
	export_names_release(&list);
	assert_null(list.names);
}

static void the_only_export_is_the_default(void **state)
{
	struct disk *d, *same;

	assert_int_equal(exports_acquire(exports, "", &d, NULL), 0);
	assert_int_equal(exports_acquire(exports, "a", &same, NULL), 0);
	assert_ptr_equal(d, same);
	exports_release(exports, d);
	assert_int_equal(closed, 0);
	exports_release(exports, d);
	assert_int_equal(closed, 1);
}

static void a_folder_that_cannot_be_read_is_told(void **state)
{
	struct export_names list;
	char message[160];
	struct disk *d;
	struct err e;
	int i;

	readdir_stops_at = "a.yaml";
	assert_int_equal(exports_acquire(exports, "a", &d, &e), -EIO);
	snprintf(message, sizeof message, "listing %s: Input/output error", folder);
	assert_string_equal(e.msg, message);
	readdir_stops_at = NULL;
	assert_true(is_export("a"));
	scan_failure = EIO;
	assert_int_equal(exports_list(exports, &list, &e), -EIO);
	assert_string_equal(e.msg, message);
	assert_int_equal(exports_acquire(exports, "", &d, &e), -EIO);
	assert_string_equal(e.msg, message);
	scan_failure = 0;
	errno = EBADF; /* of what came before */
	assert_false(is_export("gone"));
	remove(path_of("a.yaml"));
	assert_int_equal(rmdir(folder), 0);
	snprintf(message, sizeof message, "%s: No such file or directory", folder);
	for (i = 0; i < 2; i++) {
		assert_int_equal(exports_acquire(exports, i == 0 ? "a" : "", &d, &e), -ENOENT);
		assert_string_equal(e.msg, message);
	}
}

/* 0 is a descriptor as good as any. */
static void a_folder_may_be_descriptor_zero(void **state)
{
	int saved = dup(STDIN_FILENO);
	struct export_names list;

	close(STDIN_FILENO);
	assert_int_equal(exports_list(exports, &list, NULL), 0);
	assert_int_equal(list.count, 1);
	export_names_release(&list);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	dup2(saved, STDIN_FILENO);
	close(saved);
}

/* One, some and many files, all of them exports. */
static void all_are_listed(void **state)
{
	struct export_names list;
	char name[16];
	size_t n, i;

	for (n = 1; n <= 40; n++) {
		assert_int_equal(exports_list(exports, &list, NULL), 0);
		assert_int_equal(list.count, n);
		assert_string_equal(list.names[0], "a");
		for (i = 1; i < n; i++) {
			snprintf(name, sizeof name, "b%02zu", i);
			assert_string_equal(list.names[i], name);
		}
		export_names_release(&list);
		assert_int_equal(list.count, 0);
		snprintf(name, sizeof name, "b%02zu.yaml", n);
		write_file(name);
	}
}

/* A name is told as far as it has 100 bytes; the names that there are, as far as there is room. */
static void who_names_none_is_told_what_there_is(void **state)
{
	static const size_t lengths[] = { 1, 99, 100, 101, 5000 };
	char name[5001], file[64], message[sizeof((struct err *)NULL)->msg];
	struct disk *d;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(lengths); i++) {
		size_t n = lengths[i];

		memset(name, 'x', n);
		name[n] = '\0';
		assert_int_equal(exports_acquire(exports, name, &d, &e), -ENOENT);
		snprintf(message, sizeof message, "%s: no export '%.*s%s'; there is: a", folder,
			 n > 100 ? 100 : (int)n, name, n > 100 ? "..." : "");
		assert_string_equal(e.msg, message);
	}
	for (i = 0; i < 100; i++) {
		snprintf(file, sizeof file, "b%050zu.yaml", i);
		write_file(file);
	}
	assert_int_equal(exports_acquire(exports, "c", &d, &e), -ENOENT);
	i = (size_t)snprintf(message, sizeof message, "%s: no export 'c'; there is: a, b%050d, b",
			     folder, 0);
	assert_memory_equal(e.msg, message, i);
	assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
	remove(path_of("a.yaml"));
	for (i = 0; i < 100; i++) {
		snprintf(file, sizeof file, "b%050zu.yaml", i);
		remove(path_of(file));
	}
	assert_int_equal(exports_acquire(exports, "", &d, &e), -ENOENT);
	snprintf(message, sizeof message, "%s: no image (*.yaml) in this folder", folder);
	assert_string_equal(e.msg, message);
}

static void what_does_not_open_is_tried_anew(void **state)
{
	char message[160];
	struct disk *d;
	struct err e;
	int i;

	open_failure = EBADMSG;
	for (i = 0; i < 2; i++) {
		assert_int_equal(exports_acquire(exports, "a", &d, &e), -EBADMSG);
		snprintf(message, sizeof message, "%s/a.yaml: it does not open", folder);
		assert_string_equal(e.msg, message);
	}
	assert_int_equal(started, 0);
	open_failure = 0;
	assert_true(is_export("a"));
}

/* ---- clients that wait ---- */

struct client {
	pthread_t thread;
	struct disk *disk;
	int r;
	struct err e;
};

static void *come(void *arg)
{
	struct client *c = arg;

	c->r = exports_acquire(exports, "a", &c->disk, &c->e);
	return NULL;
}

static void begin(struct client *c)
{
	assert_int_equal(pthread_create(&c->thread, NULL, come, c), 0);
}

/* Three come at once: one opens, two wait for it, all have the same. */
static void who_comes_meanwhile_waits_for_the_same(void **state)
{
	struct client clients[3];
	size_t i;

	open_waits = true;
	begin(&clients[0]);
	sem_wait(&opening);
	begin(&clients[1]);
	begin(&clients[2]);
	sem_wait(&waits);
	sem_wait(&waits);
	sem_post(&may_open);
	for (i = 0; i < 3; i++) {
		pthread_join(clients[i].thread, NULL);
		assert_int_equal(clients[i].r, 0);
		assert_ptr_equal(clients[i].disk, clients[0].disk);
	}
	assert_int_equal(opened, 1);
	for (i = 0; i < 3; i++)
		exports_release(exports, clients[i].disk);
}

/* All who waited for one that fails are told so; the next claims it anew, and is no user of theirs.
 */
static void who_waits_for_a_failure_is_told_it(void **state)
{
	struct client clients[3];
	size_t i;

	open_waits = true;
	open_failure = EACCES;
	begin(&clients[0]);
	sem_wait(&opening);
	begin(&clients[1]);
	begin(&clients[2]);
	sem_wait(&waits);
	sem_wait(&waits);
	sem_post(&may_open);
	for (i = 0; i < 3; i++) {
		pthread_join(clients[i].thread, NULL);
		assert_int_equal(clients[i].r, -EACCES);
		assert_non_null(strstr(clients[i].e.msg, "a.yaml: it does not open"));
	}
	open_waits = false;
	open_failure = 0;
	assert_true(is_export("a"));
	assert_int_equal(opened, 1);
}

static void *go(void *arg)
{
	exports_release(exports, arg);
	return NULL;
}

/* A writable layer is had by one: who comes while it is being closed waits until it is. */
static void who_comes_while_it_closes_waits_for_that(void **state)
{
	struct client next;
	pthread_t last;
	struct disk *d, **all;
	size_t n;

	assert_int_equal(exports_acquire(exports, "a", &d, NULL), 0);
	close_waits = true;
	assert_int_equal(pthread_create(&last, NULL, go, d), 0);
	sem_wait(&closing);
	begin(&next);
	sem_wait(&waits);
	assert_int_equal(opened, 1); /* it is not opened beside itself */
	assert_int_equal(exports_acquire_all(exports, &all, &n), 0);
	assert_int_equal(n, 0); /* nor handed out */
	free(all);
	sem_post(&may_close);
	pthread_join(last, NULL);
	pthread_join(next.thread, NULL);
	assert_int_equal(next.r, 0);
	assert_int_equal(opened, 2);
	close_waits = false;
	exports_release(exports, next.disk);
}

/* What is being opened is nobody's yet; what is open stays so while it is held. */
static void all_are_those_that_are_open(void **state)
{
	struct disk *a, *b, **all;
	struct client client;
	size_t n;

	write_file("b.yaml");
	write_file("c.yaml");
	assert_int_equal(exports_acquire(exports, "b", &b, NULL), 0);
	assert_int_equal(exports_acquire(exports, "c", &a, NULL), 0);
	open_waits = true;
	begin(&client);
	sem_wait(&opening);
	assert_int_equal(exports_acquire_all(exports, &all, &n), 0);
	assert_int_equal(n, 2);
	assert_true((all[0] == a && all[1] == b) || (all[0] == b && all[1] == a));
	exports_release(exports, a);
	exports_release(exports, b);
	assert_int_equal(closed, 0);
	exports_release(exports, all[0]);
	exports_release(exports, all[1]);
	assert_int_equal(closed, 2);
	free(all);
	sem_post(&may_open);
	pthread_join(client.thread, NULL);
	exports_release(exports, client.disk);
}

static void *come_for_all(void *arg)
{
	struct client *c = arg;
	struct disk **all;
	size_t n;

	c->r = exports_acquire_all(exports, &all, &n);
	assert_int_equal(n, 1);
	c->disk = all[0];
	free(all);
	return NULL;
}

/* One leaves, one comes and one comes for all, without a word between them: nothing but the table's
 * lock orders what they do, which TSan looks at. */
static void they_come_and_go_at_once(void **state)
{
	struct client next, all;
	pthread_t leaver;
	struct disk *d;

	assert_int_equal(exports_acquire(exports, "a", &d, NULL), 0);
	assert_int_equal(exports_acquire(exports, "a", &d, NULL), 0);
	assert_int_equal(pthread_create(&leaver, NULL, go, d), 0);
	begin(&next);
	assert_int_equal(pthread_create(&all.thread, NULL, come_for_all, &all), 0);
	pthread_join(leaver, NULL);
	pthread_join(next.thread, NULL);
	pthread_join(all.thread, NULL);
	assert_int_equal(next.r, 0);
	assert_int_equal(all.r, 0);
	assert_ptr_equal(next.disk, d);
	assert_ptr_equal(all.disk, d);
	exports_release(exports, d);
	exports_release(exports, d);
	assert_int_equal(closed, 0);
	exports_release(exports, d);
	assert_int_equal(closed, 1);
}

/* What was looked at while it was being opened is changed under the lock only. */
static void it_is_looked_at_while_it_opens(void **state)
{
	struct client client;
	struct disk **all;
	size_t n;

	is_unordered = true;
	begin(&client);
	await_unordered(&is_opening);
	assert_int_equal(exports_acquire_all(exports, &all, &n), 0);
	assert_int_equal(n, 0);
	free(all);
	say_unordered(&may_go_on);
	pthread_join(client.thread, NULL);
	exports_release(exports, client.disk);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_export_is_a_plain_name_of_a_file),
		TEST(the_only_export_is_the_default),
		TEST(a_folder_that_cannot_be_read_is_told),
		TEST(a_folder_may_be_descriptor_zero),
		TEST(all_are_listed),
		TEST(who_names_none_is_told_what_there_is),
		TEST(what_does_not_open_is_tried_anew),
		TEST(who_comes_meanwhile_waits_for_the_same),
		TEST(who_waits_for_a_failure_is_told_it),
		TEST(who_comes_while_it_closes_waits_for_that),
		TEST(all_are_those_that_are_open),
		TEST(they_come_and_go_at_once),
		TEST(it_is_looked_at_while_it_opens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
