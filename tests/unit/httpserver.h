/* SPDX-License-Identifier: Apache-2.0 */
/* httpserver.h - a server of one answer, in threads of its own: at a port of this machine, or at a
 * socket of the file system. */
#ifndef OVERLAYBD_TESTS_HTTPSERVER_H
#define OVERLAYBD_TESTS_HTTPSERVER_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SERVER_REQUEST = 1 << 20, SERVER_CONNECTIONS = 32 };

struct server {
	int fd; /* listens */
	unsigned port;
	pthread_t thread, clients[SERVER_CONNECTIONS];

	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t changed;
	const char *answer;
	size_t answer_bytes;
	bool hangs_up; /* after the answer */
	unsigned unanswered; /* the request, counted from 1, that is read and hung up on */
	unsigned connections, requests, ended;
	int fds[SERVER_CONNECTIONS];
	char *heard; /* the last request: its headers, and its body behind them */
	size_t heard_bytes;
};

struct server_client {
	struct server *server;
	unsigned number;
};

/* Reads one request.  False: the client has gone. */
static inline bool server_read(int fd, char *text, size_t *n)
{
	const char *end = NULL, *length;
	size_t whole = SERVER_REQUEST;

	for (*n = 0; *n < whole;) {
		ssize_t r = read(fd, text + *n, whole - *n);

		if (r <= 0)
			return false;
		*n += (size_t)r;
		text[*n] = '\0';
		if (!end && (end = strstr(text, "\r\n\r\n"))) {
			length = strstr(text, "Content-Length: ");
			whole = (size_t)(end + 4 - text) +
				(length && length < end ? strtoul(length + 16, NULL, 10) : 0);
		}
	}
	return true;
}

static inline void server_write(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t r = send(fd, bytes, n, MSG_NOSIGNAL);

		if (r <= 0)
			return;
		bytes += r;
		n -= (size_t)r;
	}
}

static inline void *server_serve(void *arg)
{
	struct server_client *c = arg;
	struct server *s = c->server;
	char *text = malloc(SERVER_REQUEST + 1);
	int fd = s->fds[c->number];
	bool goes_on = true;
	size_t n;

	while (goes_on && server_read(fd, text, &n)) {
		const char *answer;
		size_t bytes;

		pthread_mutex_lock(&s->lock);
		memcpy(s->heard, text, n + 1);
		s->heard_bytes = n;
		s->requests++;
		goes_on = s->requests != s->unanswered;
		answer = s->answer;
		bytes = s->answer_bytes;
		pthread_mutex_unlock(&s->lock);
		if (goes_on)
			server_write(fd, answer, bytes);
		pthread_mutex_lock(&s->lock);
		goes_on = goes_on && !s->hangs_up;
		pthread_mutex_unlock(&s->lock);
	}
	shutdown(fd, SHUT_RDWR);
	pthread_mutex_lock(&s->lock);
	s->ended++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	free(text);
	free(c);
	return NULL;
}

static inline void *server_accept(void *arg)
{
	struct server *s = arg;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		struct server_client *c = malloc(sizeof *c);

		pthread_mutex_lock(&s->lock);
		if (s->connections == SERVER_CONNECTIONS)
			abort();
		*c = (struct server_client){ s, s->connections };
		s->fds[s->connections] = fd;
		if (pthread_create(&s->clients[s->connections++], NULL, server_serve, c) != 0)
			abort();
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

/* At `path`; NULL: at a port. */
static inline void server_start(struct server *s, const char *path)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in port = { .sin_family = AF_INET };
	socklen_t n = sizeof port;
	int r;

	memset(s, 0, sizeof *s);
	s->heard = malloc(SERVER_REQUEST + 1);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (path)
		snprintf(local.sun_path, sizeof local.sun_path, "%s", path);
	r = path ? bind(s->fd, (struct sockaddr *)&local, sizeof local)
		 : bind(s->fd, (struct sockaddr *)&port, sizeof port);
	if (r < 0 || listen(s->fd, 64) < 0)
		abort();
	if (!path && getsockname(s->fd, (struct sockaddr *)&port, &n) == 0)
		s->port = ntohs(port.sin_port);
	if (pthread_create(&s->thread, NULL, server_accept, s) != 0)
		abort();
}

static inline void server_say_bytes(struct server *s, const char *answer, size_t n, bool hangs_up)
{
	pthread_mutex_lock(&s->lock);
	s->answer = answer;
	s->answer_bytes = n;
	s->hangs_up = hangs_up;
	pthread_mutex_unlock(&s->lock);
}

static inline void server_say(struct server *s, const char *answer, bool hangs_up)
{
	server_say_bytes(s, answer, strlen(answer), hangs_up);
}

/* Waits until so many connections were made, or have ended. */
static inline void server_await(struct server *s, const unsigned *what, unsigned count)
{
	pthread_mutex_lock(&s->lock);
	while (*what < count)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static inline unsigned server_count(struct server *s, const unsigned *what)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = *what;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static inline void server_stop(struct server *s)
{
	unsigned i;

	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	for (i = 0; i < s->connections; i++) {
		shutdown(s->fds[i], SHUT_RDWR);
		pthread_join(s->clients[i], NULL);
		close(s->fds[i]);
	}
	close(s->fd);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s->heard);
}

#endif
