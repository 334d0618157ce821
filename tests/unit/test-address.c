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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(hosts_of_255_bytes_are_the_longest),
		cmocka_unit_test(origins_are_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
