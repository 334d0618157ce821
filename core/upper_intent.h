/* SPDX-License-Identifier: Apache-2.0 */
/* upper_intent.h - UPPER.intent: what is being done to both files of a log at once.
 *
 * Once this file is durable, the change has happened; whoever opens the log next carries out what
 * is left of it.  Carrying out a part twice does no harm.
 *
 *   0 magic "OBDINTN1" | 8 kind | 16 virtual size | 24 uuid, text | 124 CRC-32C of the 124 bytes
 *   before
 *
 * Files that are to take the place of others have `.new` behind their names.
 *
 * Threads: one at a time, by the process that has the log's lock; reading takes none. */
#ifndef OVERLAYBD_CORE_UPPER_INTENT_H
#define OVERLAYBD_CORE_UPPER_INTENT_H

#include <stdbool.h>

#include "core/format.h"
#include "core/upper_file.h"

enum upper_intent_kind {
	UPPER_INTENT_NONE = 0,
	UPPER_INTENT_RESIZE = 1, /* both headers get this virtual size */
	UPPER_INTENT_COMPACT = 2, /* both files are replaced */
};

struct upper_intent {
	enum upper_intent_kind kind;
	uint64_t virtual_size; /* bytes; of UPPER_INTENT_RESIZE */
	char uuid[FORMAT_UUID]; /* of the log */
	bool older_name; /* an older version left it, under upper_intent_older_name */
};

/* The name of a log's third and fourth file: `.WHAT` in place of `.data`, or `.upper-WHAT` behind
 * another name, so that no two logs of a folder share one; symbolic links are followed first, since
 * another name of the log must find it too.  The caller frees it; NULL: no memory. */
char *upper_intent_name(const struct file_ops *ops, const char *data_path, const char *what);

/* The name that older versions gave such a file: the same, but `.WHAT` behind a name that does not
 * end in `.data` too.  Another log may have that name: what lies there counts only if it says that
 * it belongs to this one. */
char *upper_intent_older_name(const struct file_ops *ops, const char *data_path, const char *what);

/* PATH.new, likewise; the caller frees it.  NULL: no memory. */
char *upper_intent_new_name(const struct file_ops *ops, const char *path);

/* kind is UPPER_INTENT_NONE when there is no such file.  EBADMSG: it is damaged. */
int upper_intent_read(const struct file_ops *ops, const char *data_path, struct upper_intent *out,
		      struct err *e);

/* Writes the file, durable when it returns 0, with the owner and mode of the open data file. */
int upper_intent_write(const struct file_ops *ops, const char *data_path, int data_fd,
		       const struct upper_intent *intent, struct err *e);

/* Removes an intent that belongs to no log, with a line in the log.  EEXIST: what has its name is
 * something else. */
int upper_intent_remove(const struct file_ops *ops, const char *data_path, struct err *e);

/* Whether the file at `path` is a part of the log with this uuid.  False too when there is none. */
bool upper_intent_is_part(const struct file_ops *ops, const char *path, enum format_part part,
			  const char *uuid);

/* Carries out what an intent says, if there is one, and removes it.  *data_fd is the data file,
 * open for writing and locked; it may become another file's, locked too. */
int upper_intent_finish(const struct file_ops *ops, const char *data_path, const char *index_path,
			int *data_fd, struct err *e);

/* Reads a header as it is, or will be, with the intent carried out. */
int upper_intent_header(const struct upper_intent *intent, struct source *s, enum format_part part,
			struct format_header *out, struct err *e);

#endif
