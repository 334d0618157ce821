/* SPDX-License-Identifier: Apache-2.0 */
/* test-attach.c - what `overlaybd attach` does without a kernel: the NBD handshake with servers
 * good and bad, the state that outlives every process, the lock, a server that does not start. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "tools/attach-server.h"
#include "tools/attach-state.h"
#include "tools/nbd-handshake.h"

/* ---- the handshake ---- */

#define HELLO "NBDMAGICIHAVEOPT\0\3"
#define REPLY(type, length) "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7" type "\0\0\0" length
#define ACK REPLY("\0\0\0\1", "\0")
#define INFO(length) REPLY("\0\0\0\3", length)
#define EXPORT                                                                                     \
	INFO("\14")                                                                                \
	"\0\0"                                                                                     \
	"\0\0\0\0\4\0\0\0"                                                                         \
	"\1\x43"
#define BLOCKS                                                                                     \
	INFO("\16")                                                                                \
	"\0\3"                                                                                     \
	"\0\0\2\0"                                                                                 \
	"\0\0\20\0"                                                                                \
	"\2\0\0\0"
#define BYTES(text) (text), sizeof(text) - 1

/* A server that says what it says, whatever it hears, and closes. */
static int shake(const char *says, size_t n, struct nbd_export *out, struct err *e)
{
	int ends[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(send(ends[1], says, n, 0), n);
	assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
	r = nbd_handshake_on(ends[0], out, e);
	close(ends[0]);
	close(ends[1]);
	return r;
}

static void good_servers(void **state)
{
	static const struct {
		const char *says;
		size_t n;
		uint32_t block_min;
	} rows[] = {
		{ BYTES(HELLO EXPORT ACK), 1 },
		{ BYTES(HELLO BLOCKS EXPORT ACK), 512 },
		{ BYTES(HELLO EXPORT INFO("\6") "\0\2hook" BLOCKS ACK), 512 },
	};
	struct nbd_export x;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		e.msg[0] = '\0';
		if (shake(rows[i].says, rows[i].n, &x, &e) < 0)
			fail_msg("row %zu: %s", i, e.msg);
		assert_int_equal(x.size, 64 << 20);
		assert_int_equal(x.flags, 0x143);
		assert_int_equal(x.block_min, rows[i].block_min);
	}
}

static void bad_servers(void **state)
{
	static const struct {
		const char *what, *says;
		size_t n;
		int code;
		const char *message;
	} rows[] = {
		{ "nothing", BYTES(""), EPROTO, "closed the connection" },
		{ "half a greeting", BYTES("NBDMAGICIHAVE"), EPROTO, "closed the connection" },
		{ "another protocol", BYTES("SSH-2.0-OpenSSH_9.2p1"), EPROTO, "no NBD server" },
		{ "old style", BYTES("NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0"), EPROTO,
		  "old style" },
		{ "newstyle, not fixed", BYTES("NBDMAGICIHAVEOPT\0\0"), EPROTO, "old style" },
		{ "no answer", BYTES(HELLO), EPROTO, "closed the connection" },
		{ "wrong magic", BYTES(HELLO "xxxxxxxxxxxxxxxxxxxx"), EPROTO, "no NBD" },
		{ "an answer to something else",
		  BYTES(HELLO "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\6\0\0\0\1\0\0\0\0"), EPROTO,
		  "no NBD" },
		{ "a length without end",
		  BYTES(HELLO "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\xff\xff\xff\xff"), EPROTO,
		  "no NBD" },
		{ "an error", BYTES(HELLO REPLY("\x80\0\0\6", "\4") "gone"), EACCES,
		  "error 6 gone" },
		{ "no size", BYTES(HELLO ACK), EPROTO, "how large" },
		{ "a strange reply", BYTES(HELLO REPLY("\0\0\0\2", "\0")), EPROTO, "how large" },
		{ "a short size", BYTES(HELLO INFO("\10") "\0\0\0\0\0\0\0\1" ACK), EPROTO,
		  "how large" },
		{ "no flags", BYTES(HELLO INFO("\14") "\0\0\0\0\0\0\4\0\0\0\0\2" ACK), EPROTO,
		  "flags make no sense" },
	};
	struct nbd_export x;
	struct err e;
	size_t i;
	int r;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		r = shake(rows[i].says, rows[i].n, &x, &e);
		if (r != -rows[i].code || !strstr(e.msg, rows[i].message))
			fail_msg("%s: %d, %s", rows[i].what, r, e.msg);
	}
}

static void replies_without_end(void **state)
{
	static const char info[] = INFO("\6") "\0\2hook";
	char says[sizeof HELLO + 100 * sizeof info];
	struct nbd_export x;
	struct err e;
	size_t n = sizeof HELLO - 1, i;

	memcpy(says, HELLO, n);
	for (i = 0; i < 100; i++, n += sizeof info - 1)
		memcpy(says + n, info, sizeof info - 1);
	assert_int_equal(shake(says, n, &x, &e), -EPROTO);
}

/* ---- the state ---- */

static char run[64];

static int make_run(void **state)
{
	snprintf(run, sizeof run, "/tmp/overlaybd-test.XXXXXX");
	return mkdtemp(run) ? 0 : -1;
}

static int remove_run(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", run);
	return system(command);
}

static void fill(struct attach_state *s)
{
	struct attach_saved *x = &s->saved;

	x->source = strdup("/srv/b\xc3\xbc"
			   "cher \"1\".yaml");
	x->folder = strdup("/");
	memset(x->digest, 'a', sizeof x->digest - 1);
	snprintf(x->identity, sizeof x->identity, "overlaybd-0123");
	assert_int_equal(attach_state_add_word(x, "nbdkit", NULL), 0);
	assert_int_equal(attach_state_add_word(x, "", NULL), 0);
	assert_int_equal(attach_state_add_word(x, "image=a\nb", NULL), 0);
	x->connections = 3;
	x->device = (struct nbd_device){ .size = UINT64_C(1) << 41,
					 .block_size = 4096,
					 .flags = 0xffff,
					 .timeout = 25,
					 .dead_timeout = 600 };
}

static void states_come_back(void **state)
{
	struct attach_state s, again;

	assert_int_equal(attach_state_open(run, 7, &s, NULL, NULL), 0);
	assert_int_equal(attach_state_load(&s, NULL), -ENOENT);
	assert_int_equal(attach_state_begin(&s, NULL), 0);
	fill(&s);
	assert_int_equal(attach_state_save(&s, NULL), 0);
	attach_state_close(&s);

	assert_int_equal(attach_state_open(run, 7, &again, NULL, NULL), 0);
	assert_int_equal(attach_state_load(&again, NULL), 0);
	fill(&s);
	assert_string_equal(again.saved.source, s.saved.source);
	assert_string_equal(again.saved.folder, s.saved.folder);
	assert_string_equal(again.saved.digest, s.saved.digest);
	assert_string_equal(again.saved.identity, s.saved.identity);
	assert_int_equal(again.saved.word_count, 3);
	assert_string_equal(again.saved.words[1], "");
	assert_string_equal(again.saved.words[2], "image=a\nb");
	assert_null(again.saved.words[3]);
	assert_int_equal(again.saved.connections, 3);
	assert_int_equal(again.saved.device.size, s.saved.device.size);
	assert_int_equal(again.saved.device.flags, s.saved.device.flags);
	assert_int_equal(again.saved.device.index, 7);
	attach_state_remove(&again);
	assert_int_equal(attach_state_load(&again, NULL), -ENOENT);
	assert_int_equal(access(again.path, F_OK), -1);
	attach_saved_release(&s.saved);
	attach_state_close(&again);
}

/* In a good state file, one text in place of another. */
static void bad_states(void **state)
{
	static const struct {
		const char *what, *old, *new;
	} rows[] = {
		{ "no JSON", "{", "x" },
		{ "cut", "\"server\"", "" },
		{ "another version", "\"version\": 1", "\"version\": 2" },
		{ "a missing key", "\"source\"", "\"saurce\"" },
		{ "a number for a text", "\"overlaybd-0123\"", "123" },
		{ "a long identity", "overlaybd-0123",
		  "0123456789012345678901234567890123456789012345678901234567890123" },
		{ "a long digest", "\"digest\": \"", "\"digest\": \"aaa" },
		{ "no size", "2199023255552", "0" },
		{ "a negative size", "2199023255552", "-1" },
		{ "many flags", "65535", "65536" },
		{ "no connection", "\"connections\": 3", "\"connections\": 0" },
		{ "many connections", "\"connections\": 3", "\"connections\": 65" },
		{ "no time", "\"timeout\": 25", "\"timeout\": 0" },
		{ "words that are none", "\"nbdkit\"", "12" },
		{ "a NUL", "nbdkit", "nbd\\u0000kit" },
	};
	AUTO_FREE char *good = NULL;
	struct attach_state s;
	char path[128];
	size_t n, i;

	assert_int_equal(attach_state_open(run, 1, &s, NULL, NULL), 0);
	assert_int_equal(attach_state_begin(&s, NULL), 0);
	fill(&s);
	assert_int_equal(attach_state_save(&s, NULL), 0);
	snprintf(path, sizeof path, "%s/state", s.path);
	assert_int_equal(io_read_file(path, 1 << 20, &good, &n, NULL), 0);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *at = strstr(good, rows[i].old);
		char bad[8192];
		struct err e;
		int r;

		assert_non_null(at);
		snprintf(bad, sizeof bad, "%.*s%s%s", (int)(at - good), good, rows[i].new,
			 at + strlen(rows[i].old));
		assert_int_equal(io_replace_file(path, bad, strlen(bad), NULL), 0);
		r = attach_state_load(&s, &e);
		if (r != -EINVAL || strncmp(e.msg, path, strlen(path)) != 0)
			fail_msg("%s: %d %s", rows[i].what, r, e.msg);
	}
	/* What was loaded before is kept. */
	assert_int_equal(s.saved.connections, 3);
	attach_state_close(&s);
}

static void locks_name_their_holder(void **state)
{
	int told[2], go[2];
	struct attach_state s;
	struct err e;
	pid_t child, holder;
	char c;

	assert_int_equal(pipe(told), 0);
	assert_int_equal(pipe(go), 0);
	child = fork();
	if (child == 0) {
		if (attach_state_open(run, 2, &s, NULL, NULL) < 0)
			_exit(1);
		/* A child of the holder has no part in it. */
		close(go[1]);
		if (fork() == 0) {
			(void)!read(go[0], &c, 1); /* until the test is over */
			_exit(0);
		}
		(void)!write(told[1], "x", 1);
		(void)!read(go[0], &c, 1);
		_exit(0);
	}
	assert_int_equal(read(told[0], &c, 1), 1);
	assert_int_equal(attach_state_open(run, 2, &s, &holder, &e), -EBUSY);
	assert_int_equal(holder, child);
	assert_non_null(strstr(e.msg, "/dev/nbd2: process"));
	assert_int_equal(attach_state_open(run, 3, &s, NULL, NULL), 0);
	attach_state_close(&s);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(attach_state_open(run, 2, &s, NULL, NULL), 0);
	attach_state_close(&s);
	close(told[0]);
	close(told[1]);
	close(go[0]);
	close(go[1]);
}

static void names_of_devices(void **state)
{
	static const char *const bad[] = { "",
					   "nbd0",
					   "/dev/nbd",
					   "/dev/nbdx",
					   "/dev/nbd0p1",
					   "/dev/nbd-1",
					   "/dev/nbd99999",
					   "/dev/sda",
					   "/dev/nbd18446744073709551616" };
	unsigned index = 0;
	struct err e;
	size_t i;

	assert_int_equal(attach_state_index("/dev/nbd0", &index, &e), 0);
	assert_int_equal(index, 0);
	assert_int_equal(attach_state_index("/dev/nbd1023", &index, &e), 0);
	assert_int_equal(index, 1023);
	for (i = 0; i < sizeof bad / sizeof *bad; i++)
		if (attach_state_index(bad[i], &index, &e) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
}

/* ---- the server ---- */

static void servers_that_do_not_start(void **state)
{
	static const struct {
		const char *program, *script, *folder, *message;
	} rows[] = {
		{ "/bin/sh", "echo 'nbdkit: overlaybd: error: a.yaml: no' >&2; exit 1", "/",
		  "nbdkit: a.yaml: no" },
		{ "/bin/sh", "echo something >&2; exit 3", "/", "nbdkit: something" },
		{ "/bin/sh", "exit 3", "/", "nbdkit ended with status" },
		{ "/bin/sh", "kill -9 $$", "/", "nbdkit ended with status" },
		{ "/no/such/program", "", "/", "/no/such/program: No such file" },
		{ "/bin/sh", "exit 0", "/no/such/folder", "/no/such/folder: No such file" },
	};
	char script[160];
	size_t i;

	snprintf(script, sizeof script, "%s/server", run);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct attach_state s;
		struct err e = { "" };
		int r;

		assert_int_equal(attach_state_open(run, 4, &s, NULL, NULL), 0);
		assert_int_equal(attach_state_begin(&s, NULL), 0);
		s.saved.folder = strdup(rows[i].folder);
		if (strcmp(rows[i].program, "/bin/sh") == 0) {
			char text[256];
			int n = snprintf(text, sizeof text, "#!/bin/sh\n%s\n", rows[i].script);

			assert_int_equal(io_replace_file(script, text, (size_t)n, NULL), 0);
			assert_int_equal(chmod(script, 0700), 0);
			assert_int_equal(attach_state_add_word(&s.saved, script, NULL), 0);
		} else {
			assert_int_equal(attach_state_add_word(&s.saved, rows[i].program, NULL), 0);
		}
		r = attach_server_start(&s, -1, &e);
		if (r >= 0 || !strstr(e.msg, rows[i].message))
			fail_msg("row %zu: %d %s", i, r, e.msg);
		assert_int_equal(attach_server_find(&s), -1);
		attach_state_close(&s);
	}
}

/* A pid file that is left over may name any process by now. */
static void others_are_left_alone(void **state)
{
	struct attach_state s;
	char pid[32];
	int n;

	assert_int_equal(attach_state_open(run, 5, &s, NULL, NULL), 0);
	assert_int_equal(attach_state_begin(&s, NULL), 0);
	n = snprintf(pid, sizeof pid, "%ld\n", (long)getppid());
	assert_int_equal(io_replace_file(s.pid, pid, (size_t)n, NULL), 0);
	assert_int_equal(attach_server_find(&s), -1);
	attach_server_stop(&s, true);
	assert_int_equal(kill(getppid(), 0), 0);
	assert_int_equal(io_replace_file(s.pid, "-1\n", 3, NULL), 0);
	assert_int_equal(attach_server_find(&s), -1);
	assert_int_equal(io_replace_file(s.pid, "", 0, NULL), 0);
	assert_int_equal(attach_server_find(&s), -1);
	attach_state_close(&s);
}

/* ---- whose process it is ---- */

static char program[160]; /* this test, under the name of nbdkit: with -U it waits */

static void copy_program(const char *to)
{
	char *bytes;
	size_t n;

	assert_int_equal(io_read_file("/proc/self/exe", 256 << 20, &bytes, &n, NULL), 0);
	assert_int_equal(io_replace_file(to, bytes, n, NULL), 0);
	assert_int_equal(chmod(to, 0755), 0);
	free(bytes);
}

/* The kernel closes what exec ends before it shows the new program's words. */
static void await_words(pid_t pid)
{
	char path[64], byte;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	do {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		n = read(fd, &byte, 1);
		close(fd);
	} while (n == 0);
	assert_int_equal(n, 1);
}

/* Starts a process with these words, NULL at their end, as this user; `real` is who has started it.
 */
static pid_t start_process_of(const char *path, const char *const *words, uid_t real, uid_t user)
{
	char *copies[16] = { NULL };
	size_t i;
	int ready[2], status;
	char byte;
	pid_t pid;

	for (i = 0; words[i]; i++)
		copies[i] = strdup(words[i]);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setresuid(real, user, user) == 0)
			execv(path, copies);
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 0); /* it has become the program */
	close(ready[0]);
	await_words(pid);
	for (i = 0; copies[i]; i++)
		free(copies[i]);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	return pid;
}

static pid_t start_process(const char *path, const char *const *words, uid_t user)
{
	return start_process_of(path, words, user, user);
}

/* A device in a folder that others can look into. */
static void open_device(struct attach_state *s, unsigned index)
{
	assert_int_equal(attach_state_open(run, index, s, NULL, NULL), 0);
	assert_int_equal(attach_state_begin(s, NULL), 0);
	snprintf(program, sizeof program, "%s/nbdkit", run);
	assert_int_equal(chmod(run, 0755), 0);
	copy_program(program);
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void expect_stop(const struct attach_state *s, pid_t pid, bool is_ours, const char *what)
{
	int status;

	attach_server_stop(s, false);
	if ((waitpid(pid, &status, WNOHANG) == pid) != is_ours)
		fail_msg("%s: %s", what, is_ours ? "it still runs" : "it was ended");
	if (is_ours)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	else
		end_process(pid);
}

/* A server is not forgotten because it has not written its pid, or because its state is lost. */
static void strays_are_ended(void **state)
{
	struct attach_state s;
	pid_t pid;

	open_device(&s, 6);
	{
		const char *lost[] = { "@nbdkit", "-U", s.socket,    "-P",
				       s.pid,	  "-r", "overlaybd", NULL };
		const char *path[] = { "n",  "-U",  s.socket,
				       "-P", s.pid, "/x/nbdkit-overlaybd-plugin.so",
				       NULL };

		pid = start_process(program, lost, geteuid());
		expect_stop(&s, pid, true, "the plugin's name");
		pid = start_process(program, path, geteuid());
		expect_stop(&s, pid, true, "the plugin's path");
		assert_int_equal(attach_state_add_word(&s.saved, "nbdkit", NULL), 0);
		assert_int_equal(attach_state_add_word(&s.saved, "-r", NULL), 0);
		assert_int_equal(attach_state_add_word(&s.saved, "overlaybd", NULL), 0);
		pid = start_process(program, lost, geteuid());
		assert_int_equal(unlink(program), 0); /* it was upgraded meanwhile */
		expect_stop(&s, pid, true, "the saved words");
	}
	attach_state_close(&s);
}

/* Anybody can write these words behind the name of a program. */
static void words_alone_make_no_server(void **state)
{
	struct attach_state s;
	char other[160];
	size_t i;

	open_device(&s, 8);
	snprintf(other, sizeof other, "%s/other", run);
	copy_program(other);
	{
		const char *right[] = { "nbdkit", "-U", s.socket, "-P", s.pid, "overlaybd", NULL };
		const char *const rows[][9] = {
			{ "nbdkit", "-U", s.socket, NULL },
			{ "nbdkit", "-U", s.socket, "overlaybd", NULL },
			{ "nbdkit", "-U", s.socket, "-P", s.socket, "overlaybd", NULL },
			{ "nbdkit", "-U", s.pid, "-P", s.pid, "overlaybd", NULL },
			{ "nbdkit", "-U", s.socket, "-P", s.pid, NULL },
			{ "nbdkit", "-U", s.socket, "-P", s.pid, "null", NULL },
			{ "nbdkit", "-U", "-U", s.socket, "-P", s.pid, "overlaybd", NULL },
			{ "nbdkit", "-U", s.socket, "-p", s.pid, "overlaybd", NULL },
		};

		expect_stop(&s, start_process(other, right, geteuid()), false, "another program");
		for (i = 0; i < sizeof rows / sizeof *rows; i++)
			expect_stop(&s, start_process(program, rows[i], geteuid()), false,
				    rows[i][4] ? rows[i][4] : "few words");
		/* With the words saved it must be these. */
		assert_int_equal(attach_state_add_word(&s.saved, "nbdkit", NULL), 0);
		assert_int_equal(attach_state_add_word(&s.saved, "overlaybd", NULL), 0);
		assert_int_equal(attach_state_add_word(&s.saved, "config=a", NULL), 0);
		expect_stop(&s, start_process(program, right, geteuid()), false, "a word less");
		{
			const char *more[] = { "nbdkit",    "-U",	s.socket, "-P", s.pid,
					       "overlaybd", "config=a", "x=y",	  NULL };
			const char *same[] = { "nbdkit", "-U",	      s.socket,	  "-P",
					       s.pid,	 "overlaybd", "config=a", NULL };

			expect_stop(&s, start_process(program, more, geteuid()), false,
				    "a word more");
			expect_stop(&s, start_process(program, same, geteuid()), true, "the words");
		}
	}
	attach_state_close(&s);
}

/* Two users: another one's process with all the right words, the pid file included, lives on, and
 * does not stand in the way of ours. */
static void another_users_process_is_left_alone(void **state)
{
	enum { NOBODY = 65534 };
	struct attach_state s;
	char text[32];
	pid_t theirs, ours;
	int n;

	if (geteuid() != 0)
		skip();
	open_device(&s, 9);
	{
		const char *words[] = { "nbdkit", "-U", s.socket, "-P", s.pid, "overlaybd", NULL };

		theirs = start_process(program, words, NOBODY);
		ours = start_process(program, words, 0);
		n = snprintf(text, sizeof text, "%ld\n", (long)theirs);
		assert_int_equal(io_replace_file(s.pid, text, (size_t)n, NULL), 0);
		assert_int_equal(attach_server_find(&s), -1);
		expect_stop(&s, ours, true, "ours");
		assert_int_equal(waitpid(theirs, NULL, WNOHANG), 0);
		end_process(theirs);
	}
	attach_state_close(&s);
}

/* Two users: a program that works with another one's rights is neither's server.  All of its ids
 * have to be ours. */
static void a_process_of_two_users_is_left_alone(void **state)
{
	enum { NOBODY = 65534 };
	struct attach_state s;

	if (geteuid() != 0)
		skip();
	open_device(&s, 11);
	{
		const char *words[] = { "nbdkit", "-U", s.socket, "-P", s.pid, "overlaybd", NULL };

		expect_stop(&s, start_process_of(program, words, NOBODY, 0), false,
			    "with our rights, started by another user");
		expect_stop(&s, start_process_of(program, words, 0, NOBODY), false,
			    "with another user's rights, started by us");
		expect_stop(&s, start_process_of(program, words, 0, 0), true, "ours");
	}
	attach_state_close(&s);
}

static bool is_chrooted(pid_t pid)
{
	char path[64], root[200] = "";

	snprintf(path, sizeof path, "/proc/%ld/root", (long)pid);
	return readlink(path, root, sizeof root - 1) > 1;
}

/* The nbdkit of a container has the same words, and files of its own. */
static void a_containers_process_is_left_alone(void **state)
{
	struct attach_state s;
	char elsewhere[200];
	pid_t pid;

	if (geteuid() != 0)
		skip();
	open_device(&s, 10);
	snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", run);
	assert_int_equal(mkdir(elsewhere, 0755), 0);
	{
		const char *words[] = { program, "-U", s.socket, "-P", s.pid, "overlaybd", NULL };

		assert_int_equal(setenv("CHROOT", elsewhere, 1), 0);
		pid = start_process(program, words, 0);
		assert_int_equal(unsetenv("CHROOT"), 0);
		while (!is_chrooted(pid))
			;
		expect_stop(&s, pid, false, "another root");
	}
	attach_state_close(&s);
}

static void a_start_is_interrupted(void **state)
{
	static const char text[] = "#!/bin/sh\nexec sleep 60\n";
	struct attach_state s;
	char script[160];
	int ends[2];

	snprintf(script, sizeof script, "%s/server", run);
	assert_int_equal(io_replace_file(script, text, sizeof text - 1, NULL), 0);
	assert_int_equal(chmod(script, 0700), 0);
	assert_int_equal(attach_state_open(run, 7, &s, NULL, NULL), 0);
	s.saved.folder = strdup("/");
	assert_int_equal(attach_state_add_word(&s.saved, script, NULL), 0);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(attach_server_start(&s, ends[0], NULL), -EINTR);
	assert_int_equal(wait(NULL), -1); /* the server is gone */
	close(ends[0]);
	close(ends[1]);
	attach_state_close(&s);
}

/* The part of nbdkit: waits until it is killed, in another root if it is told one. */
static int be_nbdkit(void)
{
	const char *root = getenv("CHROOT");

	if (root && chroot(root) < 0)
		return 1;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_servers),
		cmocka_unit_test(bad_servers),
		cmocka_unit_test(replies_without_end),
		cmocka_unit_test(states_come_back),
		cmocka_unit_test(bad_states),
		cmocka_unit_test(locks_name_their_holder),
		cmocka_unit_test(names_of_devices),
		cmocka_unit_test(servers_that_do_not_start),
		cmocka_unit_test(others_are_left_alone),
		cmocka_unit_test(strays_are_ended),
		cmocka_unit_test(words_alone_make_no_server),
		cmocka_unit_test(another_users_process_is_left_alone),
		cmocka_unit_test(a_process_of_two_users_is_left_alone),
		cmocka_unit_test(a_containers_process_is_left_alone),
		cmocka_unit_test(a_start_is_interrupted),
	};

	if (argc > 1 && strcmp(argv[1], "-U") == 0)
		return be_nbdkit();
	return cmocka_run_group_tests(tests, make_run, remove_run);
}
