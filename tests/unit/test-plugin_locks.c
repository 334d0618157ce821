/* SPDX-License-Identifier: Apache-2.0 */
/* test-plugin_locks.c - what the plugin's threads do one after the other.  Unlike its other tests
 * this one waits for what it looks at, so that TSan may run it. */
#include "tests/unit/leftovers.h"
#include "tests/unit/pluginlib.h"

static void *leave_next(void *client)
{
	is_next = true;
	plugin->close(client);
	return NULL;
}

static void *leave(void *client)
{
	plugin->close(client);
	return NULL;
}

/* Two clients that leave at once write their statistics one after the other: it is one file. */
static void statistics_are_written_by_one_at_a_time(void **state)
{
	pthread_t first, next;
	char path[128];
	void *a, *b;

	snprintf(path, sizeof path, "%s/stats.json", folder);
	config("stats", path);
	serve("dir", "");
	nbdkit_name = "plain";
	a = plugin->open(1);
	nbdkit_name = "written";
	b = plugin->open(0);
	report_waits = true;
	assert_int_equal(pthread_create(&first, NULL, leave, a), 0);
	sem_wait(&reported);
	assert_int_equal(pthread_create(&next, NULL, leave_next, b), 0);
	sem_wait(&next_has_come);
	sem_post(&report_may_end);
	pthread_join(first, NULL);
	pthread_join(next, NULL);
	report_waits = false;
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(statistics_are_written_by_one_at_a_time),
	};

	leftovers_allowed = 1; /* quit.c's eventfd */
	plugin = plugin_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
