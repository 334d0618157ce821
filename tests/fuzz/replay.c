/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - runs a fuzz target over the files of its corpus, where there is no libFuzzer.
 *
 *	fuzz-NAME FOLDER|FILE...
 *
 * No file at all is a failure: a corpus that went missing must not look like a pass. */
#include <errno.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/io.h"
#include "tests/fuzz/fuzz.h"

enum { MOST = 64 << 20 };

static unsigned replayed;

static int replay_file(const char *path)
{
	struct err e;
	char *bytes;
	size_t n;
	int r = io_read_file(path, MOST, &bytes, &n, &e);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, e.msg);
		return -1;
	}
	fprintf(stderr, "%s\n", path); /* the last one named is the one that trapped */
	(void)LLVMFuzzerTestOneInput((const uint8_t *)bytes, n);
	free(bytes);
	replayed++;
	return 0;
}

static int replay_folder(const char *path)
{
	struct dirent **entries;
	int i, n, r = 0;

	n = scandir(path, &entries, NULL, alphasort);
	if (n < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (i = 0; i < n; i++) {
		char *name;

		if (entries[i]->d_name[0] != '.') {
			if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
				abort();
			r |= replay_file(name);
			free(name);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

int main(int argc, char **argv)
{
	int i, r = 0;

	for (i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			r |= replay_folder(argv[i]);
		else
			r |= replay_file(argv[i]);
	}
	fprintf(stderr, "%u inputs replayed\n", replayed);
	return r < 0 || replayed == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
