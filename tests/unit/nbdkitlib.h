/* SPDX-License-Identifier: Apache-2.0 */
/* nbdkitlib.h - nbdkit's part of the plugin's API, for a test that calls the plugin's callbacks
 * itself: what the plugin says is kept, what it is told is the test's to choose.
 *
 * A test program includes it once.  Threads: the log may be written by any. */
#ifndef OVERLAYBD_TESTS_NBDKITLIB_H
#define OVERLAYBD_TESTS_NBDKITLIB_H

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the plugin says ---- */

/* Lines, each with a line break. */
struct nbdkit_text {
	char text[65536];
	size_t n;
};

static pthread_mutex_t nbdkit_lock = PTHREAD_MUTEX_INITIALIZER;
static struct nbdkit_text nbdkit_errors, nbdkit_debugs;
static int nbdkit_last_error; /* of nbdkit_set_error */

__attribute__((format(printf, 2, 0))) static inline void
nbdkit_keep(struct nbdkit_text *to, const char *format, va_list list)
{
	pthread_mutex_lock(&nbdkit_lock);
	to->n += (size_t)vsnprintf(to->text + to->n, sizeof to->text - to->n, format, list);
	if (to->n < sizeof to->text - 1) {
		to->text[to->n++] = '\n';
		to->text[to->n] = '\0';
	}
	pthread_mutex_unlock(&nbdkit_lock);
}

static inline void nbdkit_forget(void)
{
	nbdkit_errors = nbdkit_debugs = (struct nbdkit_text){ .n = 0 };
	nbdkit_last_error = 0;
}

__attribute__((format(printf, 1, 2))) void nbdkit_error(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	nbdkit_keep(&nbdkit_errors, format, list);
	va_end(list);
}

__attribute__((format(printf, 1, 2))) void nbdkit_debug(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	nbdkit_keep(&nbdkit_debugs, format, list);
	va_end(list);
}

void nbdkit_set_error(int number)
{
	nbdkit_last_error = number;
}

/* ---- what it asks ---- */

static int nbdkit_stdio = 1; /* whether standard output is nobody's */
static const char *nbdkit_name = ""; /* of the export that a client wants; NULL: it cannot be had */

int nbdkit_stdio_safe(void)
{
	return nbdkit_stdio;
}

const char *nbdkit_export_name(void)
{
	return nbdkit_name;
}

int nbdkit_read_password(const char *value, char **password)
{
	if (strcmp(value, "+gone") == 0) {
		nbdkit_error("nbdkit says why");
		return -1;
	}
	*password = strdup(value + 1);
	return *password ? 0 : -1;
}

static char nbdkit_interned[512];

const char *nbdkit_strdup_intern(const char *text)
{
	snprintf(nbdkit_interned, sizeof nbdkit_interned, "%s", text);
	return nbdkit_interned;
}

/* ---- lists ---- */

/* "NAME=DESCRIPTION " each. */
struct nbdkit_exports {
	char text[1024];
	size_t count;
	size_t room; /* an export more than that fails */
};

int nbdkit_add_export(struct nbdkit_exports *list, const char *name, const char *description)
{
	size_t n = strlen(list->text);

	if (list->count == list->room) {
		nbdkit_error("too many exports");
		return -1;
	}
	list->count++;
	snprintf(list->text + n, sizeof list->text - n, "%s=%s ", name,
		 description ? description : "?");
	return 0;
}

/* "OFFSET+LENGTH:TYPE " each. */
struct nbdkit_extents {
	char text[1024];
	size_t count;
	size_t room; /* an extent more than that fails */
	int failure; /* with this errno */
};

int nbdkit_add_extent(struct nbdkit_extents *list, uint64_t offset, uint64_t length, uint32_t type)
{
	size_t n = strlen(list->text);

	if (list->count == list->room) {
		errno = list->failure;
		return -1;
	}
	list->count++;
	snprintf(list->text + n, sizeof list->text - n, "%llu+%llu:%u ", (unsigned long long)offset,
		 (unsigned long long)length, (unsigned)type);
	return 0;
}

#endif
