/* SPDX-License-Identifier: Apache-2.0 */
/* bench-codec FILE - compresses a file with lz4 on one processor, in blocks of 4 KiB as a layer has
 * them, and prints the MiB of it that go through in a second.  What it makes is thrown away. */
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"

enum { BLOCK = 4096 };

static int fail(const char *path)
{
	fprintf(stderr, "bench-codec: %s: %s\n", path, strerror(errno));
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	char out[LZ4_COMPRESSBOUND(BLOCK)];
	uint64_t begin, sum = 0;
	struct stat st;
	const char *bytes;
	off_t at;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-codec FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(argv[1]);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		return fail(argv[1]);
	begin = clock_us();
	for (at = 0; at + BLOCK <= st.st_size; at += BLOCK)
		sum += (uint64_t)LZ4_compress_default(bytes + at, out, BLOCK, (int)sizeof out);
	printf("%.1f MiB/s, to %.2f\n",
	       (double)at / (1 << 20) / ((double)(clock_us() - begin) / 1e6),
	       (double)sum / (double)at);
	return 0;
}
