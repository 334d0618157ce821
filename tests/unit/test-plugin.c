/* SPDX-License-Identifier: Apache-2.0 */
/* test-plugin.c - how the plugin begins and ends: parameters, what is opened before the fork and
 * started after it, what is kept at the end, standard output. */
#include <dirent.h>
#include <sys/resource.h>

#include "tests/unit/leftovers.h"
#include "tests/unit/pluginlib.h"

/* ---- parameters and start ---- */

static void parameters_are_checked_one_by_one(void **state)
{
	assert_int_equal(plugin->config("cofnig", "x"), -1);
	assert_string_equal(nbdkit_errors.text,
			    "unknown parameter 'cofnig' (did you mean 'config'?)\n");
	assert_int_equal(nbdkit_last_error, EINVAL);
	nbdkit_forget();
	assert_int_equal(plugin->config("password", "+gone"), -1);
	assert_string_equal(nbdkit_errors.text, "nbdkit says why\n"); /* and we nothing more */
	nbdkit_forget();
	assert_int_equal(plugin->config("timeout", "7"), 0);
	assert_int_equal(plugin->config_complete(), -1);
	assert_string_equal(nbdkit_errors.text,
			    "nothing to serve: config=FILE, dir=DIR or image=REF is needed\n");
	plugin->unload();
	assert_string_equal(calls.text, "close nothing\n");
}

static void a_message_is_one_line_of_text(void **state)
{
	assert_int_equal(plugin->config("a\nb\033", "x"), -1);
	assert_string_equal(
		nbdkit_errors.text,
		"unknown parameter 'a\\x0ab\\x1b'; nbdkit overlaybd --help lists them\n");
	plugin->unload();
}

static void what_does_not_open_ends_the_start(void **state)
{
	static const struct {
		const char *key, *value, *failing, *message;
	} rows[] = {
		{ "config", "none.yaml", "", "none.yaml: No such file or directory\n" },
		{ "dir", "none", "", "none: No such file or directory\n" },
		{ "image", "localhost/A:b", "", "localhost/A:b" },
		{ "config", "plain.yaml", "fetcher_open", "the cause\n" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		failing = rows[i].failing;
		failure = ENOMEM;
		config(rows[i].key, rows[i].value);
		forget_calls();
		assert_int_equal(plugin->config_complete(), 0);
		assert_int_equal(plugin->get_ready(), -1);
		assert_non_null(strstr(nbdkit_errors.text, rows[i].message));
		/* No thread outlives the call: nbdkit forks after it. */
		assert_string_equal(calls.text, failing[0] == '\0' ? "stop\n" : "");
		plugin->unload();
		nbdkit_forget();
		failing = "";
	}
}

static void a_plain_image_takes_no_thread_of_ours(void **state)
{
	config("config", "plain.yaml");
	begin();
	assert_string_equal(calls.text, "stop\n"); /* the fetcher's threads would not survive */
	assert_non_null(
		strstr(nbdkit_debugs.text, "plain.yaml: 65536 bytes, 1 layers, 3 mappings"));
	assert_int_equal(plugin->after_fork(), 0);
	assert_int_equal(threads, 0);
	end();
	assert_string_equal(calls.text, "stop\nresume\nstart\nclose\n");
	assert_string_equal(nbdkit_errors.text, "");
}

/* Each reason alone is one. */
static void who_has_something_to_keep_is_watched(void **state)
{
	static const char *const reasons[] = { "stats", "fetching", "recording", "writing", "dir" };
	size_t i;

	for (i = 0; i < COUNT_OF(reasons); i++) {
		const char *why = reasons[i];
		char path[128];

		threads = 0;
		snprintf(path, sizeof path, "%s/stats.json", folder);
		is_fetching = strcmp(why, "fetching") == 0;
		is_recording = strcmp(why, "recording") == 0;
		if (strcmp(why, "stats") == 0)
			config("stats", path);
		if (strcmp(why, "dir") == 0)
			config("dir", "");
		else
			config("config",
			       strcmp(why, "writing") == 0 ? "written.yaml" : "plain.yaml");
		begin();
		assert_int_equal(plugin->after_fork(), 0);
		if (threads != 1)
			fail_msg("%s: %zu threads", why, threads);
		end();
		assert_string_equal(nbdkit_errors.text, "");
	}
}

static void handler(int number)
{
}

static void what_fails_after_the_fork_ends_the_server(void **state)
{
	static const struct {
		const char *failing, *message;
		int thread_code;
	} rows[] = {
		{ "resume", "the cause\n", 0 },
		{ "watch", "the cause\n", 0 },
		{ "", "starting a thread: Resource temporarily unavailable\n", EAGAIN },
	};
	struct sigaction now, own = { .sa_handler = handler };
	size_t i;

	assert_int_equal(sigaction(SIGTERM, &own, NULL), 0);
	for (i = 0; i < COUNT_OF(rows); i++) {
		config("config", "written.yaml");
		begin();
		failing = rows[i].failing;
		failure = EMFILE;
		thread_code = rows[i].thread_code;
		threads = 0;
		assert_int_equal(plugin->after_fork(), -1);
		assert_string_equal(nbdkit_errors.text, rows[i].message);
		assert_int_equal(threads, thread_code != 0);
		/* nbdkit's signals are its own. */
		assert_int_equal(sigaction(SIGTERM, NULL, &now), 0);
		assert_ptr_equal(now.sa_handler, handler);
		failing = "";
		thread_code = 0;
		end(); /* there is no thread to wait for */
		nbdkit_forget();
	}
	signal(SIGTERM, SIG_DFL);
}

/* Each layer takes a file. */
static void the_limit_of_files_is_raised(void **state)
{
	struct rlimit before, now;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	now.rlim_cur = before.rlim_max / 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	config("config", "plain.yaml");
	begin();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(now.rlim_cur, before.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	plugin->unload();
}

static void an_old_nbdkit_is_told_of_with_many_images(void **state)
{
	is_old = true;
	serve("config", "plain.yaml");
	end();
	assert_string_equal(nbdkit_errors.text, "");
	is_old = false;
	serve("dir", "");
	end();
	assert_string_equal(nbdkit_errors.text, "");
	is_old = true;
	serve("dir", "");
	end();
	assert_string_equal(nbdkit_errors.text,
			    "warning: dir=: nbdkit before 1.34 ends when a client is killed in the "
			    "middle of reads, and takes all exports along: run a server for each "
			    "image, or add --filter=noparallel\n");
}

/* ---- the watcher ---- */

static void tick(int count)
{
	for (; count > 0; count--) {
		sem_post(&ticks);
		sem_wait(&waiting);
	}
}

static void a_second_is_a_look_and_ten_are_a_report(void **state)
{
	unsigned before = looks_of_fetcher;

	ticks_left = 20;
	serve("config", "written.yaml");
	forget_calls();
	tick(9);
	assert_int_equal(looks_of_fetcher, before + 9);
	assert_null(strstr(calls.text, "report"));
	assert_memory_equal(calls.text, "look\ntidy\ndownload\nwait 1000\nlook\ntidy\ndownload\n",
			    48);
	tick(1);
	assert_non_null(strstr(calls.text, "look\ntidy\ndownload\nreport 1\nwait 1000\n"));
	forget_calls();
	tick(10);
	assert_non_null(strstr(calls.text, "report 1\n"));
	forget_calls();
	end();
	assert_string_equal(calls.text, "flush\ninterrupt\nend\nreport 1\nreport 1 last\nclose\n");
	assert_string_equal(nbdkit_errors.text, "");
}

/* One whose thread there was none for is tried again, each second, and told of once. */
static void a_download_is_tried_again(void **state)
{
	char warning[256];

	ticks_left = 3;
	failing = "download";
	failure = EAGAIN;
	serve("config", "written.yaml");
	snprintf(warning, sizeof warning,
		 "warning: %s/written.yaml: no background download: the cause\n", folder);
	assert_string_equal(nbdkit_errors.text, warning);
	forget_calls();
	tick(2);
	assert_string_equal(calls.text,
			    "look\ntidy\ndownload\nwait 1000\nlook\ntidy\ndownload\nwait 1000\n");
	failing = "";
	tick(1);
	end();
	assert_string_equal(nbdkit_errors.text, warning);
}

static void a_flush_that_fails_at_the_end_is_told_and_no_more(void **state)
{
	serve("config", "written.yaml");
	failing = "flush";
	failure = EIO;
	sem_post(&ticks);
	plugin->cleanup();
	failing = "";
	assert_non_null(strstr(calls.text, "flush\ninterrupt\nend\nreport 1\n"));
	assert_string_equal(nbdkit_errors.text, "warning: the cause\n");
	plugin->unload();
}

static void a_watcher_is_of_one_run(void **state)
{
	serve("config", "written.yaml");
	end();
	forget_calls();
	serve("config", "plain.yaml");
	end();
	assert_string_equal(calls.text, "stop\nresume\nstart\nclose\n");
}

static void the_end_gives_the_signals_back(void **state)
{
	struct sigaction now, own = { .sa_handler = handler };

	assert_int_equal(sigaction(SIGTERM, &own, NULL), 0);
	serve("config", "written.yaml");
	assert_int_equal(sigaction(SIGTERM, NULL, &now), 0);
	assert_ptr_not_equal(now.sa_handler, handler);
	end();
	assert_int_equal(sigaction(SIGTERM, NULL, &now), 0);
	assert_ptr_equal(now.sa_handler, handler);
	signal(SIGTERM, SIG_DFL);
}

/* A client that stays keeps nothing from being kept. */
static void a_signal_is_enough(void **state)
{
	struct sigaction own = { .sa_handler = handler };
	void *client;

	has_ticks = false;
	assert_int_equal(sigaction(SIGTERM, &own, NULL), 0);
	serve("config", "written.yaml");
	client = plugin->open(0);
	forget_calls();
	raise(SIGTERM);
	sem_wait(&reported);
	assert_non_null(strstr(calls.text, "flush\ninterrupt\nend\nreport 1\n"));
	plugin->close(client);
	end();
	assert_string_equal(nbdkit_errors.text, "");
	signal(SIGTERM, SIG_DFL);
}

static void the_end_of_a_folder_is_that_of_its_open_disks(void **state)
{
	void *a, *b;

	serve("dir", "");
	nbdkit_name = "plain";
	a = plugin->open(1);
	nbdkit_name = "written";
	b = plugin->open(0);
	assert_non_null(a);
	assert_non_null(b);
	forget_calls();
	failing = "acquire_all"; /* no memory for a list: nothing is done, once */
	failure = ENOMEM;
	ticks_left = 2;
	tick(1);
	assert_string_equal(calls.text, "wait 1000\n");
	failing = "";
	forget_calls();
	tick(1);
	assert_string_equal(calls.text, "look\ntidy\ndownload\nlook\ntidy\ndownload\nwait 1000\n");
	forget_calls();
	sem_post(&ticks);
	sem_wait(&reported);
	assert_string_equal(calls.text, "flush\nflush\ninterrupt\nend\nend\nreport 2\n");
	plugin->close(a);
	plugin->close(b);
	end();
}

/* ---- standard output ---- */

/* Standard output is a file while `what` runs, and what it got is in `out`. */
static void with_output(void (*what)(void), char *out, size_t room)
{
	int saved = dup(STDOUT_FILENO), fd;
	char path[128];
	ssize_t n;

	snprintf(path, sizeof path, "%s/output", folder);
	fflush(stdout);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(fd, STDOUT_FILENO);
	what();
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	n = pread(fd, out, room - 1, 0);
	out[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* As a daemon: standard output becomes /dev/null after .config_complete. */
static const char *run_key, *run_value, *run_stats;

static void run_daemon(void)
{
	int null = open("/dev/null", O_WRONLY);
	void *client;

	if (run_stats)
		config("stats", run_stats);
	config(run_key, run_value);
	assert_int_equal(plugin->config_complete(), 0);
	assert_int_equal(plugin->get_ready(), 0);
	dup2(null, STDOUT_FILENO);
	close(null);
	assert_int_equal(plugin->after_fork(), 0);
	nbdkit_name = "plain";
	client = plugin->open(1);
	if (strcmp(run_key, "config") == 0)
		plugin->close(client);
	plugin->cleanup();
	if (strcmp(run_key, "config") != 0)
		plugin->close(client);
	plugin->unload();
}

static size_t open_files(void)
{
	DIR *list = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(list))
		n++;
	closedir(list);
	return n;
}

static void statistics_reach_the_output_that_there_was(void **state)
{
	static const struct {
		const char *key, *value, *stats;
		bool safe, written;
	} rows[] = {
		{ "config", "plain.yaml", "-", true, true },
		{ "config", "plain.yaml", "-", false, false }, /* with -s it is the client's */
		{ "config", "plain.yaml", NULL, true, false },
		{ "config", "plain.yaml", "stats.json", true, false },
		{ "dir", "", "-", true, true },
		{ "dir", "", NULL, true, false },
		{ "dir", "", "stats.json", true, false },
	};
	size_t before = open_files();
	char text[4096];
	size_t i;

	has_ticks = false;
	for (i = 0; i < COUNT_OF(rows); i++) {
		char path[128];

		nbdkit_stdio = rows[i].safe;
		run_key = rows[i].key;
		run_value = rows[i].value;
		run_stats = rows[i].stats;
		if (run_stats && strcmp(run_stats, "-") != 0) {
			snprintf(path, sizeof path, "%s/%s", folder, rows[i].stats);
			run_stats = path;
		}
		with_output(run_daemon, text, sizeof text);
		if ((strstr(text, "\"images\"") != NULL) != rows[i].written)
			fail_msg("row %zu: %s", i, text);
		assert_int_equal(open_files(), before);
		assert_string_equal(nbdkit_errors.text, "");
	}
}

/* Standard output is kept while it may be needed, out of the way of the standard descriptors, and
 * then its descriptor is somebody else's. */
static void the_output_is_kept_as_long_as_it_is_needed(void **state)
{
	static const char *const stats[] = { NULL, "-" };
	int saved = dup(STDERR_FILENO), number;
	size_t i;

	for (i = 0; i < COUNT_OF(stats); i++) {
		if (stats[i])
			config("stats", stats[i]);
		config("config", "plain.yaml");
		close(STDERR_FILENO);
		number = fcntl(saved, F_DUPFD, STDERR_FILENO + 1);
		close(number);
		assert_int_equal(plugin->config_complete(), 0);
		assert_int_equal(fcntl(STDERR_FILENO, F_GETFD), -1);
		assert_int_equal(fcntl(number, F_GETFD), FD_CLOEXEC);
		dup2(saved, STDERR_FILENO);
		assert_int_equal(plugin->get_ready(), 0);
		assert_int_equal(fcntl(number, F_GETFD), stats[i] ? FD_CLOEXEC : -1);
		if (!stats[i])
			assert_int_equal(dup2(saved, number), number);
		plugin->unload();
		assert_int_equal(fcntl(number, F_GETFD), stats[i] ? -1 : 0);
		if (!stats[i])
			close(number);
	}
	close(saved);
}

static void dump(void)
{
	plugin->dump_plugin();
}

static void the_dump_says_what_there_is(void **state)
{
	static const char *const fields[] = {
		"overlaybd_version=" PROJECT_VERSION "\n",
		"overlaybd_formats=lsmt,zfile-lz4,zfile-zstd,tar\n",
		"overlaybd_writable=yes\n",
		"overlaybd_registry=yes\n",
		"overlaybd_lz4_version=",
		"overlaybd_zstd_version=",
		"overlaybd_libcurl_version=",
		"overlaybd_libyaml_version=",
	};
	char text[4096];
	size_t i;

	with_output(dump, text, sizeof text);
	for (i = 0; i < COUNT_OF(fields); i++)
		if (!strstr(text, fields[i]))
			fail_msg("%s: %s", fields[i], text);
}

static void the_plugin_describes_itself(void **state)
{
	assert_string_equal(plugin->name, "overlaybd");
	assert_string_equal(plugin->version, PROJECT_VERSION);
	assert_string_equal(plugin->magic_config_key, "config");
	assert_non_null(strstr(plugin->config_help, "acceleration-paths=true|false"));
	assert_int_equal(plugin->_thread_model, NBDKIT_THREAD_MODEL_PARALLEL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(parameters_are_checked_one_by_one),
		TEST(a_message_is_one_line_of_text),
		TEST(what_does_not_open_ends_the_start),
		TEST(a_plain_image_takes_no_thread_of_ours),
		TEST(who_has_something_to_keep_is_watched),
		TEST(what_fails_after_the_fork_ends_the_server),
		TEST(the_limit_of_files_is_raised),
		TEST(an_old_nbdkit_is_told_of_with_many_images),
		TEST(a_second_is_a_look_and_ten_are_a_report),
		TEST(a_download_is_tried_again),
		TEST(a_flush_that_fails_at_the_end_is_told_and_no_more),
		TEST(a_watcher_is_of_one_run),
		TEST(the_end_gives_the_signals_back),
		TEST(a_signal_is_enough),
		TEST(the_end_of_a_folder_is_that_of_its_open_disks),
		TEST(statistics_reach_the_output_that_there_was),
		TEST(the_output_is_kept_as_long_as_it_is_needed),
		TEST(the_dump_says_what_there_is),
		TEST(the_plugin_describes_itself),
	};

	leftovers_allowed = 1; /* quit.c's eventfd */
	plugin = plugin_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
