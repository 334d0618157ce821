/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - scheme, host and port of an address, see address.h. */
#include "fetch/address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DIGITS "0123456789"
#define NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS ".-_"

enum { HOST_MAX = 255 };

/* An address of IPv6 without a zone. */
static bool is_ipv6(const char *p, size_t n, struct in6_addr *out)
{
	char text[INET6_ADDRSTRLEN];

	if (n >= sizeof text)
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, out) == 1;
}

/* Length of the host at p; 0: there is none. */
static size_t host_length(const char *p)
{
	struct in6_addr ignored;
	size_t n;

	if (*p != '[') {
		n = strspn(p, NAME);
		return n <= HOST_MAX ? n : 0;
	}
	n = strcspn(p, "]");
	return p[n] == ']' && is_ipv6(p + 1, n - 1, &ignored) ? n + 1 : 0;
}

/* ":" and a number at *at, which is moved behind it; nothing there is port 0. */
static bool take_port(const char **at, unsigned *port)
{
	const char *p = *at + 1;
	size_t n;

	*port = 0;
	if (**at != ':')
		return true;
	n = strspn(p, DIGITS);
	if (n == 0 || n > 5 || *p == '0')
		return false;
	for (*at = p + n; p < *at; p++)
		*port = *port * 10 + (unsigned)(*p - '0');
	return *port > 0 && *port <= UINT16_MAX;
}

bool address_parse_host(const char *text, struct address *out)
{
	struct address a = { .host = text, .host_n = host_length(text) };

	a.rest = text + a.host_n;
	if (a.host_n == 0 || !take_port(&a.rest, &a.port) || !strchr("/?#", *a.rest))
		return false; /* strchr also finds the end */
	*out = a;
	return true;
}

bool address_parse(const char *url, struct address *out)
{
	bool tls = strncasecmp(url, "https://", 8) == 0;

	if (!tls && strncasecmp(url, "http://", 7) != 0)
		return false;
	if (!address_parse_host(url + (tls ? 8 : 7), out))
		return false;
	out->tls = tls;
	return true;
}

unsigned address_port(const struct address *a)
{
	if (a->port > 0)
		return a->port;
	return a->tls ? 443 : 80;
}

bool address_same_host(const struct address *a, const struct address *b)
{
	return a->host_n == b->host_n && strncasecmp(a->host, b->host, a->host_n) == 0;
}

bool address_same_origin(const struct address *a, const struct address *b)
{
	return a->tls == b->tls && address_port(a) == address_port(b) && address_same_host(a, b);
}

bool address_is_local(const struct address *a)
{
	static const char name[] = "localhost";
	size_t n = a->host_n, suffix = sizeof name - 1;
	char text[HOST_MAX + 1];
	struct in6_addr address6;
	struct in_addr address;

	if (a->host[0] == '[')
		return is_ipv6(a->host + 1, n - 2, &address6) && IN6_IS_ADDR_LOOPBACK(&address6);
	memcpy(text, a->host, n);
	text[n] = '\0';
	if (inet_pton(AF_INET, text, &address) == 1)
		return ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET;
	return n >= suffix && strcasecmp(text + n - suffix, name) == 0 &&
	       (n == suffix || text[n - suffix - 1] == '.');
}

/* With %20 for each blank.  libcurl would write a '+' in a query, which breaks what signs it. */
static char *quote_blanks(const char *text)
{
	char *quoted = malloc(3 * strlen(text) + 1), *out = quoted;

	for (; out && *text != '\0'; text++)
		if (*text == ' ')
			out = stpcpy(out, "%20");
		else
			*out++ = *text;
	if (out)
		*out = '\0';
	return quoted;
}

char *address_resolve(const char *base, const char *location, bool may_leave_tls)
{
	char *quoted = quote_blanks(location), *url = NULL, *copy = NULL;
	struct address from, to;
	CURLU *u = curl_url();

	if (u && quoted && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, quoted, CURLU_URLENCODE) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK && address_parse(base, &from) &&
	    address_parse(url, &to) && (to.tls || !from.tls || may_leave_tls))
		copy = strdup(url);
	curl_free(url);
	curl_url_cleanup(u);
	free(quoted);
	return copy;
}
