/* SPDX-License-Identifier: Apache-2.0 */
/* attach-state.c - see attach-state.h. */
#include "tools/attach-state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/base/text.h"

enum {
	STATE_MAX = 1024 * 1024, /* bytes */
	INDEX_MAX = 1 << 16,
	VERSION = 1,
};

/* ---- names ---- */

static bool parse_name(const char *name, unsigned *index)
{
	char *rest;
	unsigned long n;

	if (strncmp(name, "/dev/nbd", 8) != 0 || name[8] < '0' || name[8] > '9')
		return false;
	n = strtoul(name + 8, &rest, 10);
	*index = (unsigned)n;
	return *rest == '\0' && n < INDEX_MAX;
}

int attach_state_index(const char *device, unsigned *index, struct err *e)
{
	AUTO_FREE char *real = realpath(device, NULL);

	if (parse_name(real ? real : device, index))
		return 0;
	return err_set(e, EINVAL, "%s: not a device /dev/nbdN", device);
}

static int make_folder(const char *path, struct err *e)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	if (lstat(path, &st) < 0)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
		return err_set(e, EPERM, "%s: it must be a folder of this user's alone", path);
	return 0;
}

int attach_state_run(char **run, struct err *e)
{
	const char *base = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
	AUTO_FREE char *path = NULL;
	int r;

	if (!base || base[0] != '/')
		return err_set(e, ENOENT, "XDG_RUNTIME_DIR names no folder for the device's state");
	if (asprintf(&path, "%s/overlaybd", base) < 0) {
		path = NULL; /* left undefined by the failed call */
		return err_set(e, ENOMEM, "out of memory");
	}
	r = make_folder(path, e);
	if (r == 0)
		*run = TAKE_PTR(path);
	return r;
}

/* ---- the lock ---- */

static int find_holder(int fd, pid_t *holder, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		lock.l_pid = 0;
	if (holder)
		*holder = lock.l_pid;
	return err_set(e, EBUSY, "process %ld has it", (long)lock.l_pid);
}

/* A lock of this kind belongs to the process, not to a descriptor: the server that is forked from
 * here does not inherit it, and the kernel can tell who has it. */
static int take_lock(const char *path, int *fd, pid_t *holder, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int r = 0;

	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	if (fcntl(*fd, F_SETLK, &lock) < 0)
		r = errno == EAGAIN || errno == EACCES
			    ? find_holder(*fd, holder, e)
			    : err_set(e, errno, "%s: %s", path, strerror(errno));
	if (r < 0) {
		close(*fd);
		*fd = -1;
	}
	return r;
}

int attach_state_open(const char *run, unsigned index, struct attach_state *out, pid_t *holder,
		      struct err *e)
{
	AUTO_FREE char *lock = text_format("%s/nbd%u.lock", run, index);
	int r;

	*out = (struct attach_state){
		.index = index,
		.lock = -1,
		.run = strdup(run),
		.path = text_format("%s/nbd%u", run, index),
		.socket = text_format("%s/nbd%u/socket", run, index),
		.pid = text_format("%s/nbd%u/pid", run, index),
	};
	if (!out->run || !out->path || !out->socket || !out->pid || !lock)
		r = err_set(e, ENOMEM, "out of memory");
	else
		r = take_lock(lock, &out->lock, holder, e);
	if (r < 0) {
		(void)err_wrap(e, r, "/dev/nbd%u", index);
		attach_state_close(out);
	}
	return r;
}

/* ---- the file ---- */

int attach_state_add_word(struct attach_saved *s, const char *word, struct err *e)
{
	if (s->word_count == ATTACH_WORDS)
		return err_set(e, E2BIG, "the server's command line has too many words");
	s->words[s->word_count] = strdup(word);
	if (!s->words[s->word_count])
		return err_set(e, ENOMEM, "out of memory");
	s->word_count++;
	return 0;
}

static int unpack_words(struct attach_saved *s, json_t *words, struct err *e)
{
	json_t *word;
	size_t i;
	int r = 0;

	json_array_foreach(words, i, word)
	{
		if (!json_is_string(word))
			return err_set(e, EINVAL, "a word of the server's is no text");
		r = attach_state_add_word(s, json_string_value(word), e);
		if (r < 0)
			return r;
	}
	return s->word_count > 0 ? 0 : err_set(e, EINVAL, "no server is named");
}

static int unpack_values(struct attach_saved *s, json_t *root, json_t **words, struct err *e)
{
	const char *source, *digest, *identity, *folder;
	int version, flags, block_size, connections, timeout, dead_timeout;
	json_error_t cause;
	json_int_t size;

	if (json_unpack_ex(root, &cause, JSON_STRICT,
			   "{s:i, s:s, s:s, s:s, s:s, s:o, s:I, s:i, s:i, s:i, s:i, s:i}",
			   "version", &version, "source", &source, "digest", &digest, "identity",
			   &identity, "folder", &folder, "server", words, "size", &size, "flags",
			   &flags, "block-size", &block_size, "connections", &connections,
			   "timeout", &timeout, "dead-timeout", &dead_timeout) < 0)
		return err_set(e, EINVAL, "%s", cause.text);
	if (version != VERSION || size <= 0 || flags < 0 || flags > UINT16_MAX || block_size < 1 ||
	    connections < 1 || connections > NBD_NETLINK_SOCKETS || timeout < 1 ||
	    dead_timeout < 1 || strlen(identity) >= sizeof s->identity ||
	    strlen(digest) >= sizeof s->digest)
		return err_set(e, EINVAL, "its values make no sense");
	s->source = strdup(source);
	s->folder = strdup(folder);
	if (!s->source || !s->folder)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(s->digest, digest, strlen(digest) + 1);
	memcpy(s->identity, identity, strlen(identity) + 1);
	s->connections = (unsigned)connections;
	s->device = (struct nbd_device){
		.size = (uint64_t)size,
		.block_size = (uint32_t)block_size,
		.flags = (uint16_t)flags,
		.timeout = (unsigned)timeout,
		.dead_timeout = (unsigned)dead_timeout,
	};
	return 0;
}

static int read_state(const char *path, struct attach_saved *s, struct err *e)
{
	AUTO_FREE char *text = NULL;
	json_t *root, *words = NULL;
	json_error_t cause;
	size_t n;
	int r = io_read_file(path, STATE_MAX, &text, &n, e);

	if (r < 0)
		return r;
	root = json_loadb(text, n, 0, &cause);
	if (!root)
		return err_set(e, EINVAL, "%s", cause.text);
	r = unpack_values(s, root, &words, e);
	if (r == 0)
		r = unpack_words(s, words, e);
	json_decref(root);
	return r;
}

int attach_state_load(struct attach_state *s, struct err *e)
{
	struct attach_saved saved = { 0 };
	char path[4096];
	int r;

	snprintf(path, sizeof path, "%s/state", s->path);
	r = read_state(path, &saved, e);
	if (r < 0) {
		attach_saved_release(&saved);
		return err_wrap(e, r, "%s", path);
	}
	attach_saved_release(&s->saved);
	s->saved = saved;
	s->saved.device.index = s->index;
	return 0;
}

static json_t *pack_state(const struct attach_saved *s)
{
	const struct nbd_device *d = &s->device;
	json_t *words = json_array();
	size_t i;

	for (i = 0; i < s->word_count; i++)
		if (json_array_append_new(words, json_string(s->words[i])) < 0) {
			json_decref(words);
			return NULL;
		}
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:I, s:i, s:i, s:i, s:i, s:i}", "version",
			 (int)VERSION, "source", s->source, "digest", s->digest, "identity",
			 s->identity, "folder", s->folder, "server", words, "size",
			 (json_int_t)d->size, "flags", (int)d->flags, "block-size",
			 (int)d->block_size, "connections", (int)s->connections, "timeout",
			 (int)d->timeout, "dead-timeout", (int)d->dead_timeout);
}

int attach_state_save(struct attach_state *s, struct err *e)
{
	json_t *root = pack_state(&s->saved);
	AUTO_FREE char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	char path[4096];
	int r;

	json_decref(root);
	if (!text)
		return err_set(e, EINVAL, "%s: what is to be served has a name that is no UTF-8",
			       s->saved.source);
	snprintf(path, sizeof path, "%s/state", s->path);
	r = io_replace_file(path, text, strlen(text), e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

void attach_state_remove(struct attach_state *s)
{
	DIR *d = opendir(s->path);
	struct dirent *entry;

	if (!d)
		return;
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	(void)rmdir(s->path);
}

int attach_state_begin(struct attach_state *s, struct err *e)
{
	attach_state_remove(s);
	return make_folder(s->path, e);
}

void attach_saved_release(struct attach_saved *s)
{
	size_t i;

	for (i = 0; i < s->word_count; i++)
		free(s->words[i]);
	free(s->source);
	free(s->folder);
	*s = (struct attach_saved){ 0 };
}

void attach_state_close(struct attach_state *s)
{
	attach_saved_release(&s->saved);
	if (s->lock >= 0)
		close(s->lock);
	free(s->run);
	free(s->path);
	free(s->socket);
	free(s->pid);
	*s = (struct attach_state){ .lock = -1 };
}
