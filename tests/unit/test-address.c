/* SPDX-License-Identifier: Apache-2.0 */
/* test-address.c - who an address speaks to: each form, what is none, what is the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/address.h"
#include "tests/unit/fenced_secrets.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const struct {
	const char *url, *parts; /* "SCHEME HOST PORT REST"; NULL: no address */
} urls[] = {
	{ "http://a", "http a 80 " },
	{ "https://a", "https a 443 " },
	{ "HTTPS://A.b-c_d/x", "https A.b-c_d 443 /x" },
	{ "http://a:1?q", "http a 1 ?q" },
	{ "http://a:65535#f", "http a 65535 #f" },
	{ "http://127.0.0.1:5000/", "http 127.0.0.1 5000 /" },
	{ "http://[::1]", "http [::1] 80 " },
	{ "https://[2001:DB8::2]:5000/v2/", "https [2001:DB8::2] 5000 /v2/" },
	{ "ftp://a", NULL },
	{ "a", NULL },
	{ "http:/a", NULL },
	{ "http://", NULL },
	{ "http:///x", NULL },
	{ "http://:80", NULL },
	{ "http://a:", NULL },
	{ "http://a:0", NULL },
	{ "http://a:080", NULL },
	{ "http://a:65536", NULL },
	{ "http://a:123456", NULL },
	{ "http://a:1x", NULL },
	{ "http://a:80:80", NULL },
	{ "http://a b", NULL },
	{ "http://a%2eb", NULL },
	{ "http://me@a", NULL },
	{ "http://me:secret@a", NULL },
	{ "http://a\\@b", NULL },
	{ "http://a\\b", NULL },
	{ "http://\xc3\xa9", NULL },
	{ "http://[", NULL },
	{ "http://[]", NULL },
	{ "http://[::1", NULL },
	{ "http://[::1]x", NULL },
	{ "http://[::1]:", NULL },
	{ "http://[::1%25lo]", NULL },
	{ "http://[127.0.0.1]", NULL },
	{ "http://[a]", NULL },
	{ "http://::1", NULL },
};

static void addresses_are_taken_apart(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(urls); i++) {
		struct address a;
		char parts[128];

		if (address_parse(urls[i].url, &a) != (urls[i].parts != NULL))
			fail_msg("%s: %s", urls[i].url, urls[i].parts ? "refused" : "taken");
		if (!urls[i].parts)
			continue;
		snprintf(parts, sizeof parts, "%s %.*s %u %s", a.tls ? "https" : "http",
			 (int)a.host_n, a.host, address_port(&a), a.rest);
		assert_string_equal(parts, urls[i].parts);
	}
}

static void hosts_of_255_bytes_are_the_longest(void **state)
{
	struct address a;
	char host[258];

	memset(host, 'a', sizeof host);
	host[255] = '\0';
	assert_true(address_parse_host(host, &a));
	assert_int_equal(a.host_n, 255);
	assert_int_equal(a.port, 0);
	assert_false(address_is_local(&a));
	host[255] = 'a';
	host[256] = '\0';
	assert_false(address_parse_host(host, &a));
}

/* Of two addresses. */
enum { OTHER, HOST, ORIGIN };

static const struct {
	const char *one, *two;
	int same;
} pairs[] = {
	{ "http://a", "http://a", ORIGIN },
	{ "http://a:80/x", "http://A/y", ORIGIN },
	{ "https://a:443", "https://a", ORIGIN },
	{ "http://a:443", "https://a", HOST },
	{ "http://a", "https://a", HOST },
	{ "http://a:1", "http://a:2", HOST },
	{ "http://a", "http://ab", OTHER },
	{ "http://ab", "http://a", OTHER },
	{ "http://a.b", "http://b", OTHER },
	/* what an IPv6 address has before its first colon is no host */
	{ "http://[::1]:5000", "http://[::2]:5000", OTHER },
	{ "http://[fe80::1]", "http://[fe80::2]", OTHER },
	{ "http://[::1]:5000", "http://[::1]:6000", HOST },
	{ "http://[::1]:80", "http://[::1]", ORIGIN },
};

static void origins_are_compared(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(pairs); i++) {
		struct address a, b;

		assert_true(address_parse(pairs[i].one, &a) && address_parse(pairs[i].two, &b));
		if (address_same_host(&a, &b) != (pairs[i].same >= HOST) ||
		    address_same_origin(&a, &b) != (pairs[i].same == ORIGIN))
			fail_msg("%s, %s", pairs[i].one, pairs[i].two);
	}
}

/* ---- this machine ---- */

#define V6_LONGEST "abcd:abcd:abcd:abcd:abcd:abcd:123.123.123.123"

static const struct {
	const char *host;
	bool local;
} hosts[] = {
	{ "localhost", true },
	{ "LocalHost:1", true },
	{ "a.localhost", true },
	{ ".localhost", true },
	{ "alocalhost", false },
	{ "localhost.a", false },
	{ "ocalhost", false },
	{ "l", false },
	{ "localhos", false },
	{ "127.0.0.0", true },
	{ "127.255.255.255", true },
	{ "126.255.255.255", false },
	{ "128.0.0.0", false },
	{ "127.0.0.1.a", false },
	{ "127.0.0", false },
	{ "[::1]", true },
	{ "[0:0:0:0:0:0:0:1]", true },
	{ "[::2]", false },
	{ "[::]", false },
	{ "[::ffff:127.0.0.1]", false },
	{ "[" V6_LONGEST "]", false },
};

static void this_machine_is_known(void **state)
{
	char long_name[256];
	struct address a;
	size_t i;

	for (i = 0; i < COUNT_OF(hosts); i++) {
		assert_true(address_parse_host(hosts[i].host, &a));
		if (address_is_local(&a) != hosts[i].local)
			fail_msg("%s", hosts[i].host);
	}
	memset(long_name, 'a', 255);
	memcpy(long_name + 245, ".localhost", 11);
	assert_true(address_parse_host(long_name, &a));
	assert_true(address_is_local(&a));
}

/* An address of 45 bytes is the longest there is. */
static void ipv6_addresses_have_a_length(void **state)
{
	struct address a;

	assert_int_equal(strlen(V6_LONGEST), 45);
	assert_true(address_parse("http://[" V6_LONGEST "]:1/x", &a));
	assert_int_equal(a.host_n, 47);
	assert_false(address_parse("http://[" V6_LONGEST "1]/x", &a));
	assert_false(address_parse("http://[0" V6_LONGEST "1]/x", &a));
}

/* ---- what a Location means ---- */

static const struct {
	const char *base, *location;
	bool may_leave_tls;
	const char *url; /* NULL: refused */
} locations[] = {
	{ "https://a.io/x/y?z", "https://b.io/1", false, "https://b.io/1" },
	{ "https://a.io/x/y?z", "/1?2", false, "https://a.io/1?2" },
	{ "https://a.io/x/y?z", "1", false, "https://a.io/x/1" },
	{ "https://a.io/x/y?z", "../1", false, "https://a.io/1" },
	{ "https://a.io/x/y?z", "?1", false, "https://a.io/x/y?1" },
	{ "https://a.io/x", "//b.io:1/1", false, "https://b.io:1/1" },
	{ "https://a.io/x", "/1#2", false, "https://a.io/1" },
	{ "https://a.io/x", "/ 1? 2 ", false, "https://a.io/%201?%202%20" },
	{ "https://a.io/x", "/a+b?c+d%2Be", false, "https://a.io/a+b?c+d%2Be" },
	{ "https://a.io/x", "http://a.io/1", false, NULL },
	{ "https://a.io/x", "http://a.io/1", true, "http://a.io/1" },
	{ "http://a.io/x", "http://a.io/1", false, "http://a.io/1" },
	{ "http://a.io/x", "https://a.io/1", false, "https://a.io/1" },
	{ "https://a.io/x", "ftp://a.io/1", true, NULL },
	{ "https://a.io/x", "file:///etc/passwd", true, NULL },
	{ "https://a.io/x", "https://me:secret@a.io/1", true, NULL },
	{ "https://a.io/x", "https://a.io:0/1", true, NULL },
	{ "https://me@a.io/x", "/1", true, NULL },
	{ "ftp://a.io/x", "https://a.io/1", true, NULL },
	{ "a.io/x", "https://a.io/1", true, NULL },
	{ "nothing", "/1", true, NULL },
};

static void locations_are_made_absolute(void **state)
{
	size_t i;
	long k;

	for (i = 0; i < COUNT_OF(locations); i++) {
		char *url;

		for (k = 0; k < 2; k++) {
			allocs_left = k;
			assert_null(address_resolve(locations[i].base, locations[i].location,
						    locations[i].may_leave_tls));
			allocs_left = -1;
		}
		url = address_resolve(locations[i].base, locations[i].location,
				      locations[i].may_leave_tls);
		if (!url != !locations[i].url || (url && strcmp(url, locations[i].url) != 0))
			fail_msg("%s, %s: %s", locations[i].base, locations[i].location,
				 url ? url : "NULL");
		free(url);
	}
}

/* The fence behind it is not touched. */
static void blanks_are_three_bytes_each(void **state)
{
	char *url = address_resolve("https://a.io/x", "?          ", false);

	assert_string_equal(url, "https://a.io/x?%20%20%20%20%20%20%20%20%20%20");
	free(url);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(hosts_of_255_bytes_are_the_longest),
		cmocka_unit_test(origins_are_compared),
		cmocka_unit_test(this_machine_is_known),
		cmocka_unit_test(ipv6_addresses_have_a_length),
		cmocka_unit_test(locations_are_made_absolute),
		cmocka_unit_test(blanks_are_three_bytes_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
