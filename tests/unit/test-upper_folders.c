/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_folders.c - the way to a file: whoever owns a folder on it may put links there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/upper_file.h"

static const struct file_ops *const ops = &file_ops_system;

static char folder[] = "/tmp/test-upper_folders.XXXXXX";
static char path[64], other[64];

static int open_new(const char *name)
{
	int fd = ops->open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	return fd;
}

enum { SOMEBODY = 12345, SOMEBODY_ELSE = 12346 };

static unsigned listed;

static void count_listed(void *arg, const char *name)
{
	listed += strcmp(name, arg) == 0;
}

/* What each operation on a file behind links gives: all the same, or done. */
static void assert_way(const char *name, int code)
{
	char gone[160];
	int fd = ops->open(name, O_RDWR | O_CREAT, 0600);
	int other_fd = open_new(other);

	snprintf(gone, sizeof gone, "%s.gone", name);
	assert_int_equal(fd < 0 ? fd : 0, code);
	assert_int_equal(ops->is_named(fd < 0 ? other_fd : fd, name), code < 0 ? code : 1);
	assert_int_equal(ops->sync_folder(name), code);
	listed = 0;
	assert_int_equal(ops->list(name, count_listed, (void *)(uintptr_t)name), code);
	assert_int_equal(listed, code == 0);
	assert_int_equal(ops->rename(name, gone), code);
	assert_int_equal(ops->rename(code < 0 ? other : gone, name), code);
	assert_int_equal(ops->unlink(name), code);
	if (fd >= 0)
		ops->close(fd);
	ops->close(other_fd);
}

static void make_link(const char *target, const char *name, uid_t owner)
{
	unlink(name);
	assert_int_equal(symlink(target, name), 0);
	assert_int_equal(lchown(name, owner, owner), 0);
}

/* Whoever owns a folder above the files leads root no further than he could go himself. */
static void links_on_the_way_lend_no_rights(void **state)
{
	char home[80], mine[80], link_path[80], second[80], name[160];

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	snprintf(home, sizeof home, "%s/home", folder);
	snprintf(mine, sizeof mine, "%s/home/mine", folder);
	snprintf(link_path, sizeof link_path, "%s/home/link", folder);
	snprintf(second, sizeof second, "%s/home/second", folder);
	snprintf(name, sizeof name, "%s/x.data", link_path);
	assert_int_equal(mkdir(home, 0755), 0);
	assert_int_equal(mkdir(mine, 0755), 0);
	assert_int_equal(chown(mine, SOMEBODY, SOMEBODY), 0);
	make_link("mine", link_path, SOMEBODY); /* his link, his folder */
	assert_way(name, 0);
	make_link(mine, link_path, SOMEBODY);
	assert_way(name, 0);
	make_link("mine", link_path, 0); /* root's own link */
	assert_way(name, 0);
	make_link("..//./home", link_path, 0);
	assert_way(name, 0);
	make_link("mine", link_path, SOMEBODY_ELSE);
	assert_way(name, -ELOOP);
	make_link(folder, link_path, SOMEBODY); /* a folder of root's */
	assert_way(name, -ELOOP);
	make_link("..", link_path, SOMEBODY);
	assert_way(name, -ELOOP);
	/* Root's link leads to one of his. */
	make_link("second", link_path, 0);
	make_link("..", second, SOMEBODY);
	assert_way(name, -ELOOP);
	make_link("mine", second, SOMEBODY);
	assert_way(name, 0);
	make_link("second", link_path, 0); /* in a circle */
	make_link("link", second, 0);
	assert_way(name, -ELOOP);
	make_link("nothing", link_path, 0);
	assert_int_equal(ops->open(name, O_RDONLY, 0), -ENOENT);
	assert_int_equal(ops->is_named(0, name), 0);
	unlink(link_path);
	unlink(second);
	unlink(other);
	assert_int_equal(rmdir(mine), 0);
	assert_int_equal(rmdir(home), 0);
}

static void assert_true_name(const char *name, const char *want)
{
	char *got = ops->true_name(name);

	assert_string_equal(got, want);
	free(got);
}

/* The last part of a path is judged behind its folders: a link of root's own is no way around. */
static void links_behind_links_lend_no_rights(void **state)
{
	char his[80], link_path[80], up[96], file[96], name[96];

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	snprintf(his, sizeof his, "%s/his", folder);
	snprintf(link_path, sizeof link_path, "%s/his/d", folder);
	snprintf(up, sizeof up, "%s/up", folder);
	snprintf(file, sizeof file, "%s/his/file", folder);
	snprintf(name, sizeof name, "%s/his/d/up", folder);
	assert_int_equal(mkdir(his, 0755), 0);
	assert_int_equal(chown(his, SOMEBODY, SOMEBODY), 0);
	ops->close(open_new(path));
	make_link("file", up, 0); /* root's link to root's file, in root's folder */
	assert_true_name(up, path);
	make_link("..", link_path, SOMEBODY); /* his way there */
	assert_true_name(name, name);
	assert_int_equal(ops->open(name, O_RDWR, 0), -ELOOP);
	make_link("../file", up, 0);
	make_link("his/up2", up, 0); /* root's link to a link of his to root's file */
	snprintf(name, sizeof name, "%s/his/up2", folder);
	make_link("../file", name, SOMEBODY);
	assert_true_name(up, up);
	assert_int_equal(chown(path, SOMEBODY, SOMEBODY), 0); /* to a file of his */
	snprintf(file, sizeof file, "%s/his/../file", folder);
	assert_true_name(up, file);
	unlink(name);
	unlink(up);
	unlink(link_path);
	assert_int_equal(rmdir(his), 0);
}

/* `..` behind a link is its owner's choice too. */
static void no_way_back_behind_links(void **state)
{
	char his[80], link_path[80], name[96];

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	snprintf(his, sizeof his, "%s/his", folder);
	snprintf(link_path, sizeof link_path, "%s/cfg", folder);
	snprintf(name, sizeof name, "%s/cfg/../x.data", folder);
	assert_int_equal(mkdir(his, 0755), 0);
	assert_int_equal(chown(his, SOMEBODY, SOMEBODY), 0);
	make_link("his", link_path, SOMEBODY);
	assert_way(name, -ELOOP);
	make_link("./his/../his", link_path, SOMEBODY); /* within it there may be some */
	snprintf(name, sizeof name, "%s/cfg/x.data", folder);
	assert_way(name, 0);
	make_link("his", link_path, 0);
	snprintf(name, sizeof name, "%s/cfg/../x.data", folder);
	assert_way(name, 0);
	unlink(link_path);
	unlink(other);
	assert_int_equal(rmdir(his), 0);
}

/* The kernel's own links lead where it says, not where their text does. */
static void links_of_proc_are_the_kernels(void **state)
{
	char name[96], moved[80];
	int fd, made;

	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	snprintf(name, sizeof name, "/proc/self/fd/%d/file", fd);
	snprintf(moved, sizeof moved, "%s.moved", folder);
	assert_int_equal(rename(folder, moved), 0);
	assert_int_equal(mkdir(folder, 0700), 0); /* what the text says, but too late */
	made = ops->open(name, O_RDWR | O_CREAT, 0600);
	assert_true(made >= 0);
	assert_int_equal(ops->is_named(made, path), 0);
	assert_int_equal(ops->unlink(name), 0);
	ops->close(made);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(rename(moved, folder), 0);
	close(fd);
}

/* In a user namespace the machine's root has another number. */
static void links_of_root_in_a_namespace(void **state)
{
	char his[80], link_path[80], name[96];
	int status, fd;
	pid_t child;

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	snprintf(his, sizeof his, "%s/his", folder);
	snprintf(link_path, sizeof link_path, "%s/link", folder);
	snprintf(name, sizeof name, "%s/link/x.data", folder);
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(mkdir(his, 0755), 0);
	assert_int_equal(chown(his, SOMEBODY, SOMEBODY), 0);
	make_link("his", link_path, 0);
	child = fork();
	if (child == 0) {
		static const char map[] = "0 12345 1";

		if (setresgid(SOMEBODY, SOMEBODY, SOMEBODY) < 0 ||
		    setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0 || unshare(CLONE_NEWUSER) < 0 ||
		    prctl(PR_SET_DUMPABLE, 1) < 0) /* else /proc/self is root's */
			_exit(77);
		fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, map, sizeof map - 1) < 0)
			_exit(77);
		fd = ops->open(name, O_RDWR | O_CREAT, 0600);
		if (fd < 0)
			fprintf(stderr, "%s: %s\n", name, strerror(-fd));
		_exit(fd >= 0 && ops->unlink(name) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(link_path);
	assert_int_equal(rmdir(his), 0);
	if (WEXITSTATUS(status) == 77) {
		printf("SKIP: no user namespaces here\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* A terminal that a link leads to does not become ours. */
static void terminals_are_not_taken(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status, fd;
	char name[64];
	pid_t child;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof name) != 0) {
		printf("SKIP: no terminals here\n");
		skip();
	}
	child = fork();
	if (child == 0) {
		if (setsid() < 0 || ops->open(name, O_RDWR, 0) < 0)
			_exit(2);
		fd = open("/dev/tty", O_RDWR | O_CLOEXEC); /* the session has none */
		_exit(fd >= 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(master);
}

/* A name more for an open file, also where its old name is somebody else's file. */
static void open_files_get_names(void **state)
{
	char name[96];
	int fd = open_new(path), new_fd;

	snprintf(name, sizeof name, "%s/more", folder);
	assert_int_equal(ops->rename(path, other), 0);
	new_fd = open_new(path);
	assert_int_equal(ops->link(fd, name), 0);
	assert_int_equal(ops->is_named(fd, name), 1);
	assert_int_equal(ops->link(fd, path), -EEXIST);
	assert_int_equal(ops->unlink(name), 0);
	assert_int_equal(ops->unlink(other), 0);
	assert_int_equal(ops->link(fd, name), -ENOENT);
	assert_int_equal(ops->link(new_fd, "/nonexistent/x"), -ENOENT);
	ops->close(fd);
	ops->close(new_fd);
}

/* As many links as the kernel follows, and names as long as it takes. */
static void ways_are_as_long_as_the_system_s(void **state)
{
	char long_name[NAME_MAX + 60], link_path[80], target[16], cwd[256];
	int i, fd = open_new(path);
	size_t n;

	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(chdir(folder), 0);
	for (i = 0; i <= 40; i++) { /* l0 -> the folder, l1 -> l0 and so on */
		snprintf(link_path, sizeof link_path, "l%d", i);
		snprintf(target, sizeof target, "l%d", i - 1);
		assert_int_equal(symlink(i == 0 ? "." : target, link_path), 0);
	}
	assert_int_equal(ops->is_named(fd, "l39/file"), 1);
	assert_int_equal(ops->is_named(fd, "l40/file"), -ELOOP);
	for (i = 0; i <= 40; i++) {
		snprintf(link_path, sizeof link_path, "l%d", i);
		unlink(link_path);
	}
	assert_int_equal(ops->is_named(fd, "file"), 1);
	assert_int_equal(ops->is_named(fd, "./file"), 1);
	assert_int_equal(chdir(cwd), 0);
	n = (size_t)snprintf(long_name, sizeof long_name, "%s/", folder);
	memset(long_name + n, 'n', NAME_MAX);
	snprintf(long_name + n + NAME_MAX, sizeof long_name - n - NAME_MAX, "/file");
	assert_int_equal(ops->is_named(fd, long_name), 0); /* there is none */
	long_name[n + NAME_MAX] = 'n';
	assert_int_equal(ops->open(long_name, O_RDONLY, 0), -ENAMETOOLONG);
	snprintf(long_name + n + NAME_MAX, sizeof long_name - n - NAME_MAX, "n/file");
	assert_int_equal(ops->open(long_name, O_RDONLY, 0), -ENAMETOOLONG);
	assert_int_equal(ops->unlink("/file-that-is-not"), -ENOENT);
	ops->close(fd);
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/file", folder);
	snprintf(other, sizeof other, "%s/other", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	unlink(other);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_on_the_way_lend_no_rights),
		cmocka_unit_test(ways_are_as_long_as_the_system_s),
		cmocka_unit_test(links_behind_links_lend_no_rights),
		cmocka_unit_test(no_way_back_behind_links),
		cmocka_unit_test(links_of_proc_are_the_kernels),
		cmocka_unit_test(links_of_root_in_a_namespace),
		cmocka_unit_test(terminals_are_not_taken),
		cmocka_unit_test(open_files_get_names),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
