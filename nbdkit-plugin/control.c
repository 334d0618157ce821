/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - see control.h.
 *
 * One thread accepts; each client has a thread of its own, of which there are few.  `lock` guards
 * `active`; everything else is set before the threads begin. */
#include "nbdkit-plugin/control.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/stats.h"
#include "nbdkit-plugin/disk.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	CLIENTS = 8, /* at a time */
	LINE_MAX_BYTES = 64 * 1024, /* of a request */
	PATIENCE = 10000, /* ms for a request to come, and for its answer to go */
	BACKLOG = 16,
	PAUSE = 100, /* ms, when there are too many open files to accept */
};

struct control {
	const char *path;
	struct disk *disk;
	int fd; /* listens */
	int stop; /* becomes readable at the end */
	dev_t device; /* of the socket's name, so that nobody else's is removed */
	ino_t inode; /* 0, which no file has: there is none yet */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t left; /* a client's thread */
	unsigned active;
};

struct client {
	struct control *control;
	int fd;
};

/* ---- answers: NULL when there is no memory for one ---- */

/* Paths may hold any bytes; JSON holds UTF-8. */
static json_t *text_of(const char *text)
{
	json_t *value = json_string(text);
	char *p, *copy;

	if (value)
		return value;
	copy = strdup(text);
	for (p = copy; p && *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	value = copy ? json_string(copy) : NULL;
	free(copy);
	return value;
}

static json_t *failure(const char *text)
{
	return json_pack("{s:b, s:o}", "ok", false, "error", text_of(text));
}

static json_t *upper_of(struct image *image)
{
	AUTO_FREE char *data = NULL;
	AUTO_FREE char *index = NULL;

	if (image_upper_files(image, &data, &index, NULL) < 0)
		return json_null();
	return json_pack("{s:o, s:o}", "data", text_of(data), "index", text_of(index));
}

static json_t *layers_of(const struct image *image)
{
	size_t i, count = image_layer_count(image) - image_has_upper(image);
	json_t *list = json_array();

	for (i = 0; i < count; i++)
		if (json_array_append_new(list, text_of(image_layer(image, i)->path)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *answer_status(struct disk *d, const json_t *request)
{
	return json_pack("{s:b, s:s, s:i, s:o, s:I, s:b, s:o, s:o}", "ok", true, "version",
			 PROJECT_VERSION, "pid", (int)getpid(), "config", text_of(d->config->path),
			 "size", (json_int_t)image_size(d->image), "writable",
			 image_is_writable(d->image), "layers", layers_of(d->image), "upper",
			 upper_of(d->image));
}

static json_t *answer_stats(struct disk *d, const json_t *request)
{
	struct stats_group *group = image_stats(d->image);
	AUTO_FREE char *text = NULL;
	size_t n;
	struct err e;

	if (stats_format(&group, 1, false, &text, &n, &e) < 0)
		return failure(e.msg);
	return json_pack("{s:b, s:o}", "ok", true, "stats",
			 json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL));
}

static json_t *answer_snapshot(struct disk *d, const json_t *request)
{
	const char *layer = json_string_value(json_object_get(request, "layer"));
	uint64_t blocked;
	struct err e;

	if (!layer)
		return failure("'snapshot' needs a text 'layer'");
	if (image_snapshot(d->image, layer, &blocked, &e) < 0)
		return failure(e.msg);
	log_debug("%s: snapshot %s: writers waited %llu ms", d->config->path, layer,
		  (unsigned long long)blocked);
	return json_pack("{s:b, s:o, s:o, s:I}", "ok", true, "layer", text_of(layer), "upper",
			 upper_of(d->image), "blocked-ms", (json_int_t)blocked);
}

static json_t *answer(struct disk *d, const char *line, size_t n)
{
	static const struct {
		const char *name;
		json_t *(*answer)(struct disk *d, const json_t *request);
	} commands[] = {
		{ "snapshot", answer_snapshot },
		{ "stats", answer_stats },
		{ "status", answer_status },
	};
	json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL), *reply;
	const char *command = json_string_value(json_object_get(request, "command"));
	size_t i = 0;

	while (command && i < COUNT_OF(commands) && strcmp(command, commands[i].name) != 0)
		i++;
	if (!command)
		reply = failure("a request is a line of JSON, {\"command\": NAME}");
	else if (i == COUNT_OF(commands))
		reply = failure("no such command: there are snapshot, stats and status");
	else
		reply = commands[i].answer(d, request);
	json_decref(request);
	return reply;
}

/* ---- a client ---- */

/* Waits for `events` until the deadline (ms).  False: it came first, or the end did. */
static bool await(const struct client *c, short events, uint64_t deadline)
{
	struct pollfd fds[] = {
		{ .fd = c->fd, .events = events },
		{ .fd = c->control->stop, .events = POLLIN },
	};
	uint64_t now;
	int r;

	do {
		now = clock_ms();
		if (now >= deadline)
			return false;
		r = poll(fds, 2, (int)(deadline - now));
	} while (r < 0 && errno == EINTR);
	return fds[0].revents != 0 && !(events == POLLIN && fds[1].revents != 0);
}

/* Reads up to the first line break.  Returns the bytes before it, or -1. */
static ssize_t read_line(const struct client *c, char *line)
{
	uint64_t deadline = clock_ms() + PATIENCE;
	size_t n = 0;

	while (n < LINE_MAX_BYTES && await(c, POLLIN, deadline)) {
		ssize_t r = recv(c->fd, line + n, LINE_MAX_BYTES - n, MSG_DONTWAIT);
		const char *end;

		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (r <= 0)
			return -1;
		end = memchr(line + n, '\n', (size_t)r);
		if (end)
			return end - line;
		n += (size_t)r;
	}
	return -1;
}

static void send_line(const struct client *c, json_t *reply)
{
	AUTO_FREE char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
	uint64_t deadline = clock_ms() + PATIENCE;
	size_t n = text ? strlen(text) : 0, done = 0;

	json_decref(reply);
	if (n == 0)
		return;
	text[n++] = '\n'; /* in place of the NUL */
	while (done < n && await(c, POLLOUT, deadline)) {
		ssize_t r = send(c->fd, text + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r >= 0)
			done += (size_t)r;
		else if (errno != EAGAIN && errno != EINTR)
			return;
	}
}

static void *serve_client(void *arg)
{
	struct client *client = arg;
	struct control *c = client->control;
	AUTO_FREE char *line = malloc(LINE_MAX_BYTES);
	ssize_t n = line ? read_line(client, line) : -1;

	if (n >= 0)
		send_line(client, answer(c->disk, line, (size_t)n));
	close(client->fd);
	free(client);
	WITH_LOCK(&c->lock);
	c->active--;
	pthread_cond_signal(&c->left);
	return NULL;
}

static bool count_client(struct control *c)
{
	WITH_LOCK(&c->lock);
	if (c->active == CLIENTS)
		return false;
	c->active++;
	return true;
}

static void forget_client(struct control *c)
{
	WITH_LOCK(&c->lock);
	c->active--;
}

static bool start_client(struct control *c, int fd)
{
	struct client *client = malloc(sizeof *client);

	if (!client)
		return false;
	*client = (struct client){ .control = c, .fd = fd };
	if (clock_thread_detached(serve_client, client) == 0)
		return true;
	free(client);
	return false;
}

static void take_client(struct control *c, int fd)
{
	static const char full[] = "{\"ok\":false,\"error\":\"too many clients\"}\n";

	if (!count_client(c)) {
		(void)send(fd, full, sizeof full - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
	} else if (!start_client(c, fd)) {
		forget_client(c);
		close(fd);
	}
}

static void *accept_clients(void *arg)
{
	struct control *c = arg;
	struct pollfd fds[] = {
		{ .fd = c->fd, .events = POLLIN },
		{ .fd = c->stop, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[1].revents != 0)
			return NULL;
		if (fds[0].revents != 0) {
			int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				take_client(c, fd);
			else if (errno != EINTR && errno != ECONNABORTED)
				poll(&fds[1], 1, PAUSE);
		}
	}
}

/* ---- the socket ---- */

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return a;
}

/* 0: there was a socket that nobody listens at, and now there is none. */
static int remove_stale(const char *path, const struct sockaddr_un *address, struct err *e)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return err_set(e, EEXIST, "there is something else of this name");
	if (fd < 0)
		return err_set(e, errno, "%s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
		return err_set(e, EBUSY, "another server answers there");
	if (errno != ECONNREFUSED)
		return err_set(e, errno, "%s", strerror(errno));
	return unlink(path) < 0 ? err_set(e, errno, "removing it: %s", strerror(errno)) : 0;
}

/* The name has its mode from the beginning: it is that of the unbound socket. */
static int bind_socket(struct control *c, struct err *e)
{
	struct sockaddr_un address = address_of(c->path);
	const struct sockaddr *a = (const struct sockaddr *)&address;
	struct stat st;
	int r;

	if (fchmod(c->fd, 0600) < 0)
		return err_set(e, errno, "%s", strerror(errno));
	r = bind(c->fd, a, sizeof address) < 0 ? -errno : 0;
	if (r == -EADDRINUSE) {
		r = remove_stale(c->path, &address, e);
		if (r < 0)
			return r;
		r = bind(c->fd, a, sizeof address) < 0 ? -errno : 0;
	}
	if (r == 0 && (listen(c->fd, BACKLOG) < 0 || lstat(c->path, &st) < 0))
		r = -errno;
	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	c->device = st.st_dev;
	c->inode = st.st_ino;
	return 0;
}

int control_open(const char *path, struct disk *disk, struct control **out, struct err *e)
{
	struct control *c = malloc(sizeof *c);
	int r;

	if (!c)
		return err_set(e, ENOMEM, "control socket %s: out of memory", path);
	*c = (struct control){ .path = path,
			       .disk = disk,
			       .lock = PTHREAD_MUTEX_INITIALIZER,
			       .left = PTHREAD_COND_INITIALIZER };
	c->stop = eventfd(0, EFD_CLOEXEC);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = c->stop < 0 || c->fd < 0 ? err_set(e, errno, "%s", strerror(errno)) : bind_socket(c, e);
	if (r < 0) {
		control_close(c);
		return err_wrap(e, r, "control socket %s", path);
	}
	*out = c;
	return 0;
}

int control_start(struct control *c, struct err *e)
{
	int code = pthread_create(&c->thread, NULL, accept_clients, c);

	c->started = code == 0;
	return code == 0 ? 0
			 : err_set(e, code, "control socket %s: starting a thread: %s", c->path,
				   strerror(code));
}

static void remove_name(const struct control *c)
{
	struct stat st;

	if (lstat(c->path, &st) == 0 && st.st_dev == c->device && st.st_ino == c->inode &&
	    unlink(c->path) < 0)
		log_warn("control socket %s: cannot be removed: %s", c->path, strerror(errno));
}

/* When nobody is let in any more. */
static void await_clients(struct control *c)
{
	WITH_LOCK(&c->lock);
	while (c->active > 0)
		pthread_cond_wait(&c->left, &c->lock);
}

void control_close(struct control *c)
{
	const uint64_t one = 1;

	if (!c)
		return;
	remove_name(c);
	if (c->started) {
		(void)!write(c->stop, &one, sizeof one);
		pthread_join(c->thread, NULL);
		await_clients(c);
	}
	/* What could not be opened is -1, which no descriptor is. */
	close(c->fd);
	close(c->stop);
	free(c);
}
