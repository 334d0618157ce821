/* SPDX-License-Identifier: Apache-2.0 */
/* control-client.c - see control-client.h. */
#include "tools/control-client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/base/clock.h"
#include "core/base/scope.h"

enum {
	PATIENCE = 3600 * 1000, /* ms; a snapshot flushes as much as there is */
	ANSWER_MAX = 64 * 1024 * 1024, /* bytes */
};

static int open_socket(const char *path, int *out, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof a.sun_path)
		return err_set(e, ENAMETOOLONG, "too long for the name of a socket");
	strncpy(a.sun_path, path, sizeof a.sun_path - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, errno, "%s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)&a, sizeof a) < 0) {
		int code = errno;

		close(fd);
		return err_set(e, code, "%s%s", strerror(code),
			       code == ECONNREFUSED ? ": its server has ended" : "");
	}
	*out = fd;
	return 0;
}

static int send_request(int fd, json_t *request, struct err *e)
{
	AUTO_FREE char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0, done = 0;

	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	text[n++] = '\n';
	while (done < n) {
		ssize_t r = send(fd, text + done, n - done, MSG_NOSIGNAL);

		if (r < 0 && errno == EPIPE)
			return 0; /* why it does not listen may be there to read */
		if (r < 0 && errno != EINTR)
			return err_set(e, errno, "%s", strerror(errno));
		done += r > 0 ? (size_t)r : 0;
	}
	return 0;
}

static int receive_some(int fd, char *to, size_t room, uint64_t deadline, size_t *got,
			struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_ms();
	ssize_t r;

	if (now >= deadline || poll(&p, 1, (int)(deadline - now)) == 0)
		return err_set(e, ETIMEDOUT, "no answer");
	r = recv(fd, to, room, 0);
	if (r < 0 && errno != EINTR)
		return err_set(e, errno, "%s", strerror(errno));
	if (r == 0)
		return err_set(e, ECONNRESET, "the server ends the connection without an answer");
	*got = r > 0 ? (size_t)r : 0;
	return 0;
}

static int receive_line(int fd, char **out, size_t *n, struct err *e)
{
	uint64_t deadline = clock_ms() + PATIENCE;
	AUTO_FREE char *text = NULL;
	size_t room = 0, got = 0;
	int r;

	for (*n = 0; *n == 0 || text[*n - 1] != '\n'; *n += got) {
		if (*n == room) {
			char *grown = room < ANSWER_MAX ? realloc(text, 2 * room + 4096) : NULL;

			if (!grown)
				return err_set(e, EFBIG, "its answer is too large");
			text = grown;
			room = 2 * room + 4096;
		}
		r = receive_some(fd, text + *n, room - *n, deadline, &got, e);
		if (r < 0)
			return r;
	}
	*out = TAKE_PTR(text);
	return 0;
}

static int exchange(const char *path, json_t *request, json_t **reply, struct err *e)
{
	AUTO_FREE char *text = NULL;
	AUTO_CLOSE int fd = -1;
	size_t n = 0;
	int r = open_socket(path, &fd, e);

	if (r == 0)
		r = send_request(fd, request, e);
	if (r == 0)
		r = receive_line(fd, &text, &n, e);
	if (r < 0)
		return r;
	*reply = json_loadb(text, n, 0, NULL);
	return json_is_object(*reply) ? 0 : err_set(e, EBADMSG, "its answer is not JSON");
}

int control_ask(const char *path, json_t *request, json_t **out, struct err *e)
{
	json_t *reply = NULL;
	const char *why;
	int r = exchange(path, request, &reply, e);

	json_decref(request);
	if (r < 0) {
		json_decref(reply);
		return err_wrap(e, r, "%s", path);
	}
	if (json_is_true(json_object_get(reply, "ok"))) {
		*out = reply;
		return 0;
	}
	why = json_string_value(json_object_get(reply, "error"));
	r = err_set(e, EREMOTEIO, "%s", why ? why : "the server says no, and not why");
	json_decref(reply);
	return r;
}
