/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - the parts of an http or https address that decide who is spoken to: scheme, host and
 * port.  The one parser of a host in fetch/.
 *
 * Strict, since credentials are given by what it says: a host is a name of letters, digits, '.',
 * '-' and '_', or an IPv6 address in brackets; there is no user or password before it; a port is a
 * number from 1 to 65535 without zeroes before it.  What libcurl might read in another way is no
 * address here. Threads: no state.  The parts point into the text. */
#ifndef OVERLAYBD_FETCH_ADDRESS_H
#define OVERLAYBD_FETCH_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct address {
	bool tls; /* https; of address_parse alone */
	const char *host; /* with the brackets of an IPv6 address */
	size_t host_n;
	unsigned port; /* 0: none is said */
	const char *rest; /* behind host and port: path, query, fragment, or the end */
};

/* http://HOST[:PORT]... or https://HOST[:PORT]..., the schemes in any case. */
bool address_parse(const char *url, struct address *out);

/* HOST[:PORT], up to the end or one of "/?#". */
bool address_parse_host(const char *text, struct address *out);

/* The port that counts: that of the scheme where none is said. */
unsigned address_port(const struct address *a);

/* The same host; and with it the same scheme and port, which makes them one origin. */
bool address_same_host(const struct address *a, const struct address *b);
bool address_same_origin(const struct address *a, const struct address *b);

/* Whether the host is this machine: localhost, *.localhost, 127.0.0.0/8, [::1]. */
bool address_is_local(const struct address *a);

/* The absolute form of a Location that an answer from the address `base` gave: relative ones count
 * from there, blanks are quoted, the query stays, the fragment goes.  The caller frees it.  NULL:
 * it is malformed, neither http nor https, leads out of TLS without `may_leave_tls`, or no memory.
 */
char *address_resolve(const char *base, const char *location, bool may_leave_tls);

#endif
