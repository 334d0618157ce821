/* SPDX-License-Identifier: Apache-2.0 */
/* curllib.h - libcurl as it is, but that a test sees what it is told, and that it may refuse: for
 * tests that meson.build links with wrap_curl. */
#ifndef OVERLAYBD_TESTS_CURLLIB_H
#define OVERLAYBD_TESTS_CURLLIB_H

#include <curl/curl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What libcurl was told, by option; the value of a number or a pointer. */
static struct {
	long fail_at; /* the call that fails, counted from 0; -1: none */
	long calls;
	bool was_set[20000];
	intptr_t values[20000];
	bool no_multi, no_easy, no_add;
	long connections, pipelining; /* of the last multi handle */
} told = { .fail_at = -1 };

CURLcode __real_curl_easy_setopt(CURL *easy, CURLoption option, ...);
CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...);
CURLM *__real_curl_multi_init(void);
CURLM *__wrap_curl_multi_init(void);
CURLMcode __real_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...);
CURL *__real_curl_easy_init(void);
CURL *__wrap_curl_easy_init(void);
CURLMcode __real_curl_multi_add_handle(CURLM *multi, CURL *easy);
CURLMcode __wrap_curl_multi_add_handle(CURLM *multi, CURL *easy);
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **out);

CURLcode __wrap_curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	CURLcode code;
	va_list ap;

	if (told.calls++ == told.fail_at)
		return CURLE_OUT_OF_MEMORY;
	va_start(ap, option);
	if (option >= CURLOPTTYPE_OFF_T) {
		code = __real_curl_easy_setopt(easy, option, va_arg(ap, curl_off_t));
	} else if (option >= CURLOPTTYPE_FUNCTIONPOINT) {
		code = __real_curl_easy_setopt(easy, option, va_arg(ap, void (*)(void)));
	} else if (option >= CURLOPTTYPE_OBJECTPOINT) {
		void *value = va_arg(ap, void *);

		told.values[option] = (intptr_t)value;
		code = __real_curl_easy_setopt(easy, option, value);
	} else {
		long value = va_arg(ap, long);

		told.values[option] = value;
		code = __real_curl_easy_setopt(easy, option, value);
	}
	va_end(ap);
	if ((size_t)option < sizeof told.was_set / sizeof *told.was_set)
		told.was_set[option] = true;
	return code;
}

/* Numbers alone. */
CURLMcode __wrap_curl_multi_setopt(CURLM *multi, CURLMoption option, ...)
{
	va_list ap;
	long value;

	va_start(ap, option);
	value = va_arg(ap, long);
	va_end(ap);
	if (option == CURLMOPT_MAXCONNECTS)
		told.connections = value;
	if (option == CURLMOPT_PIPELINING)
		told.pipelining = value;
	return __real_curl_multi_setopt(multi, option, value);
}

CURLM *__wrap_curl_multi_init(void)
{
	return told.no_multi ? NULL : __real_curl_multi_init();
}

CURL *__wrap_curl_easy_init(void)
{
	return told.no_easy ? NULL : __real_curl_easy_init();
}

CURLMcode __wrap_curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	return told.no_add ? CURLM_OUT_OF_MEMORY : __real_curl_multi_add_handle(multi, easy);
}

static int lookup_code;
static const char *looked_up;

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **out)
{
	looked_up = host;
	return lookup_code ? lookup_code : __real_getaddrinfo("127.0.0.1", port, hints, out);
}

#endif
