/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-lsmt.c - a sealed layer or an append log around the input.
 *
 * Input: a byte whose lowest bit asks for a log, 64 bytes that are xored onto the start of the
 * header, 64 onto that of the trailer (or of the log's index file), then index bytes.  So small
 * inputs reach every check. Property: what opens has sorted mappings that do not overlap and point
 * into the file; merged over itself it stays the same disk; all mapped data can be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/index.h"
#include "core/layer.h"
#include "core/upper.h"
#include "tests/fuzz/fuzz.h"

enum {
	DATA_SECTORS = 16, /* after the header */
	FIELDS = 64,
	INPUT_HEAD = 1 + 2 * FIELDS,
	MAX_INDEX = 1 << 16,
};

/* A header as it should be, with the input's changes. */
static void put_header(uint8_t *raw, uint32_t flags, uint64_t index_offset, uint64_t index_size,
		       const uint8_t *changes)
{
	struct format_header h = { .flags = flags,
				   .index_offset = index_offset,
				   .index_size = index_size,
				   .virtual_size = 1 << 20,
				   .uuid = FORMAT_NIL_UUID,
				   .parent_uuid = FORMAT_NIL_UUID,
				   .version = 1 };
	size_t i;

	format_encode_header(&h, raw);
	for (i = 0; i < FIELDS; i++)
		raw[i] ^= changes[i];
}

static void check_run(const struct mapping_run *run, uint64_t file_size)
{
	uint64_t end = 0;
	size_t i;

	for (i = 0; i < run->count; i++) {
		struct mapping m = run->maps[i];

		FUZZ_CHECK(mapping_start(m) >= end && mapping_sectors(m) > 0);
		end = mapping_end(m);
		FUZZ_CHECK(mapping_zeroed(m) || mapping_moffset(m) >= FORMAT_SPACE / SECTOR);
		FUZZ_CHECK(mapping_zeroed(m) ||
			   (mapping_moffset(m) + mapping_sectors(m)) * SECTOR <= file_size);
	}
}

static void read_mapped(struct source *data, const struct mapping_run *run)
{
	static uint8_t buf[FORMAT_MAX_SECTORS * SECTOR];
	size_t i;

	for (i = 0; i < run->count && i < 64; i++)
		if (!mapping_zeroed(run->maps[i]))
			FUZZ_CHECK(source_pread(data, buf, mapping_sectors(run->maps[i]) * SECTOR,
						mapping_moffset(run->maps[i]) * SECTOR, NULL) == 0);
}

static struct mapping_run copy_run(const struct mapping_run *run)
{
	struct mapping_run copy = { .maps = malloc(run->count * sizeof *run->maps + 1),
				    .count = run->count };

	if (run->count > 0)
		memcpy(copy.maps, run->maps, run->count * sizeof *run->maps);
	return copy;
}

static void merge_over_itself(const struct mapping_run *run)
{
	struct mapping_run runs[3] = { copy_run(run), copy_run(run), copy_run(run) };
	struct index *ix;
	size_t i;

	FUZZ_CHECK(index_merge(runs, 3, NULL, &ix, NULL) == 0);
	FUZZ_CHECK(index_count(ix) == run->count);
	FUZZ_CHECK(run->count == 0 ||
		   memcmp(index_maps(ix), run->maps, run->count * sizeof *run->maps) == 0);
	for (i = 0; i < run->count; i++)
		FUZZ_CHECK(mapping_start(run->maps[i]) == FORMAT_PADDING ||
			   index_find(ix, mapping_start(run->maps[i])) == i);
	index_close(ix);
}

static void check_layer(struct layer *l)
{
	check_run(&l->run, l->data->size);
	read_mapped(l->data, &l->run);
	merge_over_itself(&l->run);
	layer_close(l);
}

static void try_sealed(const uint8_t *input, const uint8_t *index, size_t index_n)
{
	size_t data_end = FORMAT_SPACE + DATA_SECTORS * SECTOR;
	size_t size = data_end + index_n + FORMAT_SPACE;
	uint8_t *file = calloc(1, size);
	struct source *s;
	struct layer l;

	put_header(file, 7, 0, 0, input + 1);
	memcpy(file + data_end, index, index_n);
	put_header(file + data_end + index_n, 6, data_end, index_n / FORMAT_ENTRY,
		   input + 1 + FIELDS);
	FUZZ_CHECK(source_open_memory(file, size, &s, NULL) == 0);
	if (layer_open(s, 0, &l, NULL) == 0)
		check_layer(&l);
	else
		source_close(s);
	free(file);
}

/* An unnamed file with a header and more, and a path to it. */
static int make_file(const char *name, const uint8_t *header, const uint8_t *rest, size_t n,
		     char path[32])
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(write(fd, header, FORMAT_SPACE) == FORMAT_SPACE);
	FUZZ_CHECK(write(fd, rest, n) == (ssize_t)n);
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

static void try_log(const uint8_t *input, const uint8_t *index, size_t index_n)
{
	static const uint8_t data[DATA_SECTORS * SECTOR];
	uint8_t header[FORMAT_SPACE];
	char data_path[32], index_path[32];
	struct upper_findings findings;
	struct layer l;
	int data_fd, index_fd;

	put_header(header, 3, 0, 0, input + 1);
	data_fd = make_file("data", header, data, sizeof data, data_path);
	put_header(header, 1, FORMAT_SPACE, 0, input + 1 + FIELDS);
	index_fd = make_file("index", header, index, index_n, index_path);
	if (upper_open_read_only(data_path, index_path, 0, &l, &findings, NULL) == 0) {
		uint64_t told = (findings.records + findings.ignored_records) * FORMAT_ENTRY +
				findings.fragment_bytes;

		/* What is left is padding. */
		FUZZ_CHECK(findings.sparse ||
			   (told <= index_n && (index_n - told) % FORMAT_ENTRY == 0));
		check_layer(&l);
	}
	close(data_fd);
	close(index_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	if (n < INPUT_HEAD || n > INPUT_HEAD + MAX_INDEX)
		return 0;
	if (input[0] & 1)
		try_log(input, input + INPUT_HEAD, n - INPUT_HEAD);
	else
		try_sealed(input, input + INPUT_HEAD, n - INPUT_HEAD);
	return 0;
}
