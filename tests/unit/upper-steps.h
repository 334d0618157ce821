/* SPDX-License-Identifier: Apache-2.0 */
/* upper-steps.h - what is done to a log, a step each, and what is said when that step fails with
 * EIO: for test-upper_faults.c.  A line with a newline is a warning, "" is nothing: then the
 * operation succeeds all the same. */
#ifndef OVERLAYBD_TESTS_UPPER_STEPS_H
#define OVERLAYBD_TESTS_UPPER_STEPS_H

#define IO ": Input/output error"

struct upper_step {
	const char *step, *said;
};

/* Making a log. */
static const struct upper_step create_steps[] = {
	{ "make u.data", "u.data" IO },
	{ "write u.data", "u.data: writing 4096 bytes at 0" IO },
	{ "sync u.data", "u.data: syncing" IO },
	{ "sync folder of u.data", "u.data: syncing" IO },
	{ "make i/u.index", "i/u.index" IO },
	{ "write i/u.index", "i/u.index: writing 4096 bytes at 0" IO },
	{ "sync i/u.index", "i/u.index: syncing" IO },
	{ "sync folder of i/u.index", "i/u.index: syncing" IO },
};

static const struct upper_step dense_steps[] = {
	{ "make u.data.part", "u.data.part" IO },
	{ "truncate u.data.part", "u.data.part" IO },
	{ "write u.data.part", "u.data.part: writing 4608 bytes at 0" IO },
	{ "sync u.data.part", "u.data.part: syncing" IO },
	{ "make i/u.index.part.tmp", "making a file beside i/u.index.part" IO },
	{ "write i/u.index.part.tmp", "i/u.index.part: writing 4160 bytes at 0" IO },
	{ "sync i/u.index.part.tmp", "i/u.index.part: syncing" IO },
	{ "rename to i/u.index.part", "i/u.index.part" IO },
	{ "make u.data", "u.data" IO },
	{ "rename to u.data", "u.data" IO },
	{ "sync folder of u.data", "u.data: syncing its folder" IO },
	{ "rename to i/u.index", "i/u.index" IO },
	{ "sync folder of i/u.index", "i/u.index: syncing its folder" IO },
};

/* Opening one that a killed process left.  Without the last two, all is done again by the next. */
static const struct upper_step open_steps[] = {
	{ "truncate i/u.index", "u.data, i/u.index: syncing the index" IO },
	{ "sync i/u.index", "u.data, i/u.index: syncing the index" IO },
	{ "sync folder of i/u.index", "u.data, i/u.index: syncing the index" IO },
	{ "make u.pending.tmp", "u.data, i/u.index: making a file beside u.pending" IO },
	{ "mode of u.pending.tmp",
	  "u.data, i/u.index: owner and mode of a file beside u.pending" IO },
	{ "write u.pending.tmp", "u.data, i/u.index: u.pending.tmp.*: writing 256 bytes at 0" IO },
	{ "write u.pending.tmp", "u.data, i/u.index: u.pending.tmp.*: writing 32 bytes at 256" IO },
	{ "rename to u.pending", "u.data, i/u.index: u.pending.tmp.*: u.pending" IO },
	{ "write i/u.index", "" },
	{ "truncate u.data", "" },
};

static const struct upper_step flush_steps[] = {
	{ "sync u.data",
	  "u.data: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "the upper is read-only until it is opened again: i/u.index: writing "
			     "64 bytes at 4448" IO },
	{ "sync i/u.index",
	  "i/u.index: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
};

/* The index is made anew.  That it could not be is no error, until it has the name. */
static const struct upper_step tidy_steps[] = {
	{ "make i/u.index.tmp",
	  "i/u.index: not rewritten: making a file beside i/u.index" IO "\n" },
	{ "mode of i/u.index.tmp",
	  "i/u.index: not rewritten: owner and mode of a file beside i/u.index" IO "\n" },
	{ "write i/u.index.tmp", "i/u.index: not rewritten: writing 4096 bytes at 0" IO "\n" },
	{ "write i/u.index.tmp", "i/u.index: not rewritten: writing 48 bytes at 4096" IO "\n" },
	{ "write i/u.index.tmp", "i/u.index: not rewritten: writing 48 bytes at 4144" IO "\n" },
	{ "sync i/u.index.tmp", "i/u.index: not rewritten: fdatasync" IO "\n" },
	{ "write u.pending",
	  "i/u.index: not rewritten: u.pending: writing 256 bytes at 0" IO "\n" },
	{ "rename to i/u.index", "i/u.index: not rewritten: rename" IO "\n" },
	{ "write u.pending", "u.pending: writing 256 bytes at 0" IO "\n" },
	{ "sync folder of i/u.index",
	  "i/u.index: syncing its folder" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
};

/* Behind those of opening. */
static const struct upper_step seal_steps[] = {
	{ "write i/u.index", "" },
	{ "sync u.data",
	  "u.data: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "the upper is read-only until it is opened again: i/u.index: writing "
			     "64 bytes at 4448" IO },
	{ "sync i/u.index",
	  "i/u.index: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "truncate u.data", "u.data: resizing" IO },
	{ "write u.data", "u.data: writing 64 bytes at 14848" IO },
	{ "write u.data", "u.data: writing 448 bytes at 14912" IO },
	{ "sync u.data", "u.data: syncing" IO },
	{ "write u.data", "u.data: writing 4096 bytes at 15360" IO },
	{ "sync u.data", "u.data: syncing" IO },
	{ "unlink i/u.index", "u.data: is sealed, but removing i/u.index" IO },
	{ "sync folder of i/u.index", "u.data: is sealed, but removing i/u.index" IO },
	{ "truncate (no name)", "i/u.index: resizing" IO },
	{ "truncate u.pending", "" },
	{ "unlink u.pending", "u.pending: it is empty, but cannot be removed" IO "\n" },
};

/* Behind those of opening. */
static const struct upper_step compact_steps[] = {
	{ "write i/u.index", "" },
	{ "sync u.data",
	  "u.data: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "the upper is read-only until it is opened again: i/u.index: writing "
			     "64 bytes at 4448" IO },
	{ "sync i/u.index",
	  "i/u.index: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "make u.data.new.tmp", "making a file beside u.data.new" IO },
	{ "mode of u.data.new.tmp", "owner and mode of a file beside u.data.new" IO },
	{ "write u.data.new.tmp", "u.data.new: writing 5632 bytes at 0" IO },
	{ "sync u.data.new.tmp", "u.data.new: syncing" IO },
	{ "rename to u.data.new", "u.data.new" IO },
	{ "make i/u.index.new.tmp", "making a file beside i/u.index.new" IO },
	{ "mode of i/u.index.new.tmp", "owner and mode of a file beside i/u.index.new" IO },
	{ "write i/u.index.new.tmp", "i/u.index.new: writing 4192 bytes at 0" IO },
	{ "sync i/u.index.new.tmp", "i/u.index.new: syncing" IO },
	{ "rename to i/u.index.new", "i/u.index.new" IO },
	{ "sync folder of u.data.new", "u.data.new: syncing its folder" IO },
	{ "sync folder of i/u.index.new", "i/u.index.new: syncing its folder" IO },
	{ "truncate i/u.index", "i/u.index: resizing" IO },
	{ "truncate u.pending", "" },
	{ "unlink u.pending", "u.pending: it is empty, but cannot be removed" IO "\n" },
	{ "make u.intent.tmp", "making a file beside u.intent" IO },
	{ "mode of u.intent.tmp", "owner and mode of a file beside u.intent" IO },
	{ "write u.intent.tmp", "u.intent: writing 128 bytes at 0" IO },
	{ "sync u.intent.tmp", "u.intent" IO },
	{ "rename to u.intent", "u.intent" IO },
	{ "sync folder of u.intent", "u.intent: syncing its folder" IO },
	{ "rename to u.data", "u.data.new" IO },
	{ "rename to i/u.index", "i/u.index.new" IO },
	{ "sync folder of u.data", "u.data: syncing its folder" IO },
	{ "sync folder of i/u.index", "i/u.index: syncing its folder" IO },
	{ "unlink u.intent", "u.intent" IO },
	{ "sync folder of u.intent", "u.intent: syncing its folder" IO },
	{ "truncate (no name)", "i/u.index: resizing" IO },
};

/* Behind those of opening. */
static const struct upper_step grow_steps[] = {
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "write u.pending", "u.pending: writing 32 bytes at 288" IO },
	{ "sync u.data",
	  "u.data: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "the upper is read-only until it is opened again: i/u.index: writing "
			     "80 bytes at 4448" IO },
	{ "sync i/u.index",
	  "i/u.index: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
	{ "make u.intent.tmp", "making a file beside u.intent" IO },
	{ "mode of u.intent.tmp", "owner and mode of a file beside u.intent" IO },
	{ "write u.intent.tmp", "u.intent: writing 128 bytes at 0" IO },
	{ "sync u.intent.tmp", "u.intent" IO },
	{ "rename to u.intent", "u.intent" IO },
	{ "sync folder of u.intent", "u.intent: syncing its folder" IO },
	{ "write u.data", "u.data: writing 4096 bytes at 0" IO },
	{ "sync u.data", "u.data: syncing" IO },
	{ "write i/u.index", "i/u.index: writing 4096 bytes at 0" IO },
	{ "sync i/u.index", "i/u.index: syncing" IO },
	{ "unlink u.intent", "u.intent" IO },
	{ "sync folder of u.intent", "u.intent: syncing its folder" IO },
	{ "truncate i/u.index", "i/u.index: resizing" IO },
	{ "truncate u.pending", "" },
	{ "unlink u.pending", "u.pending: it is empty, but cannot be removed" IO "\n" },
};

/* What is looked at before a log is sealed, resized or compacted. */
static const struct upper_step look_reads[] = {
	{ "open u.data", "u.data" IO },
	{ "size u.data", "" },
	{ "read u.data", "" },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open i/u.index", "i/u.index" IO },
	{ "size i/u.index", "i/u.index" IO },
	{ "size u.data", "i/u.index: the size of u.data" IO },
	{ "read i/u.index", "i/u.index: reading 528 bytes at 4096" IO },
	{ "read i/u.index", "i/u.index: reading 352 bytes at 4096" IO },
	{ "open u.pending", "u.pending" IO },
	{ "size u.pending", "u.pending" IO },
	{ "read u.pending", "u.pending: reading 256 bytes at 0" IO },
	{ "boot id ", "u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.pending: reading 704 bytes at 256" IO },
};

static const struct upper_step open_reads[] = {
	{ "open u.data", "u.data" IO },
	{ "size u.data", "" },
	{ "read u.data", "" },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open i/u.index", "i/u.index" IO },
	{ "boot id ", "u.data, i/u.index: the boot id of this machine" IO },
	{ "status u.data", "u.data, i/u.index" IO },
	{ "size i/u.index", "u.data, i/u.index" IO },
	{ "size u.data", "u.data, i/u.index" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 4096 bytes at 0" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 528 bytes at 4096" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "size u.data", "u.data, i/u.index" IO },
	{ "open u.pending", "u.data, i/u.index: u.pending" IO },
	{ "size u.pending", "u.data, i/u.index: u.pending" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 256 bytes at 0" IO },
	{ "boot id ", "u.data, i/u.index: u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 704 bytes at 256" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 14336" IO },
};

static const struct upper_step tidy_reads[] = {
	{ "status u.data", "" },
	{ "size u.data", "i/u.index: not rewritten: u.data" IO "\n" },
	{ "size i/u.index", "i/u.index: not rewritten" IO "\n" },
	{ "read i/u.index", "i/u.index: not rewritten: reading 4096 bytes at 0" IO "\n" },
	{ "read i/u.index", "i/u.index: not rewritten: reading 528 bytes at 4096" IO "\n" },
	{ "read i/u.index", "i/u.index: not rewritten: reading 352 bytes at 4096" IO "\n" },
};

static const struct upper_step seal_reads[] = {
	{ "size u.data", "u.data: is sealed, but removing i/u.index" IO },
};

static const struct upper_step compact_reads[] = {
	{ "size u.data", "u.data" IO },
	{ "size i/u.index", "i/u.index" IO },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data.new: the data to copy: reading 512 bytes at 13312" IO },
	{ "read u.data", "u.data.new: the data to copy: reading 512 bytes at 14336" IO },
	{ "read u.data", "u.data.new: the data to copy: reading 512 bytes at 13824" IO },
	{ "open u.intent", "u.intent" IO },
	{ "read u.intent", "u.intent: reading 128 bytes at 0" IO },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open u.data.new", "u.data.new" IO },
	{ "size u.data.new", "u.data.new" IO },
	{ "read u.data.new", "u.data.new: reading 4096 bytes at 0" IO },
	{ "open i/u.index.new", "i/u.index.new" IO },
	{ "size i/u.index.new", "i/u.index.new" IO },
	{ "read i/u.index.new", "i/u.index.new: reading 4096 bytes at 0" IO },
};

static const struct upper_step grow_reads[] = {
	{ "open u.intent", "u.intent" IO },
	{ "read u.intent", "u.intent: reading 128 bytes at 0" IO },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "" },
	{ "open i/u.index", "i/u.index" IO },
	{ "size i/u.index", "i/u.index" IO },
	{ "read i/u.index", "" },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "read i/u.index", "i/u.index: reading 4096 bytes at 0" IO },
};

/* What is damaged is cut off. */
static const struct upper_step repair_steps[] = {
	{ "truncate i/u.index", "i/u.index: cutting it" IO },
	{ "sync i/u.index", "i/u.index: cutting it" IO },
};

static const struct upper_step drop_steps[] = {
	{ "truncate i/u.index", "i/u.index: cutting it" IO },
	{ "sync i/u.index", "i/u.index: cutting it" IO },
	{ "unlink u.pending", "u.pending" IO },
};

/* An older pending file is taken up by opening the log, which then is closed. */
static const struct upper_step apply_steps[] = {
	{ "truncate i/u.index", "i/u.index: cutting it" IO },
	{ "sync i/u.index", "i/u.index: cutting it" IO },
	{ "sync i/u.index", "u.data, i/u.index: syncing the index" IO },
	{ "sync folder of i/u.index", "u.data, i/u.index: syncing the index" IO },
	{ "make u.pending.tmp", "u.data, i/u.index: making a file beside u.pending" IO },
	{ "mode of u.pending.tmp",
	  "u.data, i/u.index: owner and mode of a file beside u.pending" IO },
	{ "write u.pending.tmp", "u.data, i/u.index: u.pending.tmp.*: writing 256 bytes at 0" IO },
	{ "write u.pending.tmp", "u.data, i/u.index: u.pending.tmp.*: writing 32 bytes at 256" IO },
	{ "rename to u.pending", "u.data, i/u.index: u.pending.tmp.*: u.pending" IO },
	{ "write i/u.index", "" },
	{ "truncate u.data", "" },
	{ "write i/u.index", "" },
	{ "sync u.data",
	  "u.data: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "the upper is read-only until it is opened again: i/u.index: writing "
			     "64 bytes at 4448" IO },
	{ "sync i/u.index",
	  "i/u.index: fdatasync failed" IO "; the upper is read-only until it is opened again" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "write i/u.index", "" },
	{ "truncate i/u.index", "i/u.index: resizing" IO },
	{ "truncate u.pending", "" },
	{ "unlink u.pending", "u.pending: it is empty, but cannot be removed" IO "\n" },
};

/* What is looked at before anything is repaired. */
static const struct upper_step scan_reads[] = {
	{ "open u.data", "u.data" IO },
	{ "size u.data", "" },
	{ "read u.data", "" },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open i/u.index", "i/u.index" IO },
	{ "size u.data", "i/u.index" IO },
	{ "size i/u.index", "i/u.index" IO },
	{ "read i/u.index", "i/u.index: reading 4096 bytes at 0" IO },
	{ "read i/u.index", "i/u.index: reading 528 bytes at 4096" IO },
};

static const struct upper_step repair_reads[] = {
	{ "size u.data", "u.data, i/u.index" IO },
	{ "size i/u.index", "u.data, i/u.index" IO },
	{ "open u.pending", "u.data, i/u.index: u.pending" IO },
	{ "size u.pending", "u.data, i/u.index: u.pending" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 256 bytes at 0" IO },
	{ "boot id ", "u.data, i/u.index: u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 704 bytes at 256" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 4096" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 4608" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 5120" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 5632" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 6144" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 6656" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 7168" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 7680" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 8192" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 8704" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 9216" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 9728" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 10240" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 10752" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 11264" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 11776" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 12288" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 12800" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 13312" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 13824" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 14336" IO },
};

static const struct upper_step drop_reads[] = {
	{ "open u.pending", "u.pending" IO },
	{ "size u.pending", "u.pending" IO },
	{ "read u.pending", "u.pending" IO },
};

static const struct upper_step apply_reads[] = {
	{ "size u.data", "u.data, i/u.index" IO },
	{ "size i/u.index", "u.data, i/u.index" IO },
	{ "open u.pending", "u.data, i/u.index: u.pending" IO },
	{ "size u.pending", "u.data, i/u.index: u.pending" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 144 bytes at 0" IO },
	{ "boot id ", "u.data, i/u.index: u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 16 bytes at 128" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 4608" IO },
};

static const struct upper_step apply_look_reads[] = {
	{ "open u.data", "u.data" IO },
	{ "size u.data", "" },
	{ "read u.data", "" },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open i/u.index", "i/u.index" IO },
	{ "size i/u.index", "i/u.index" IO },
	{ "size u.data", "i/u.index: the size of u.data" IO },
	{ "read i/u.index", "i/u.index: reading 352 bytes at 4096" IO },
	{ "read i/u.index", "i/u.index: reading 352 bytes at 4096" IO },
	{ "open u.pending", "u.pending" IO },
	{ "size u.pending", "u.pending" IO },
	{ "read u.pending", "u.pending: reading 144 bytes at 0" IO },
	{ "boot id ", "u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.pending: reading 16 bytes at 128" IO },
};

static const struct upper_step apply_open_reads[] = {
	{ "open u.data", "u.data" IO },
	{ "size u.data", "" },
	{ "read u.data", "" },
	{ "size u.data", "u.data" IO },
	{ "read u.data", "u.data: reading 4096 bytes at 0" IO },
	{ "open i/u.index", "i/u.index" IO },
	{ "boot id ", "u.data, i/u.index: the boot id of this machine" IO },
	{ "status u.data", "u.data, i/u.index" IO },
	{ "size i/u.index", "u.data, i/u.index" IO },
	{ "size u.data", "u.data, i/u.index" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 4096 bytes at 0" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "size u.data", "u.data, i/u.index" IO },
	{ "open u.pending", "u.data, i/u.index: u.pending" IO },
	{ "size u.pending", "u.data, i/u.index: u.pending" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 144 bytes at 0" IO },
	{ "boot id ", "u.data, i/u.index: u.pending: the boot id of this machine" IO },
	{ "read u.pending", "u.data, i/u.index: u.pending: reading 16 bytes at 128" IO },
	{ "read i/u.index", "u.data, i/u.index: reading 352 bytes at 4096" IO },
	{ "read u.data", "u.data, i/u.index: reading 512 bytes at 4608" IO },
};

#endif
