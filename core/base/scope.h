/* SPDX-License-Identifier: Apache-2.0 */
/* scope.h - what is released when a scope is left, whichever way. */
#ifndef OVERLAYBD_BASE_SCOPE_H
#define OVERLAYBD_BASE_SCOPE_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void scope_free_(void *p)
{
	free(*(void **)p);
}

static inline void scope_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline pthread_mutex_t *scope_lock_(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

static inline void scope_unlock_(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

/* Declares a pointer that is freed, a descriptor that is closed (when not negative). */
#define AUTO_FREE __attribute__((cleanup(scope_free_)))
#define AUTO_CLOSE __attribute__((cleanup(scope_close_)))

/* Holds a mutex until the scope ends.  One a scope. */
#define WITH_LOCK(m)                                                                               \
	__attribute__((cleanup(scope_unlock_), unused)) pthread_mutex_t *scope_held_ =             \
		scope_lock_(m)

/* Moves a pointer out of a variable whose scope would free it. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

#endif
