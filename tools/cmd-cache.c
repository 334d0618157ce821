/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-cache.c - `overlaybd cache`: what people do with a cache folder, safe beside the processes
 * that use it. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "fetch/cache_admin.h"
#include "fetch/settings.h"
#include "tools/args.h"
#include "tools/cache-fill.h"
#include "tools/progress.h"
#include "tools/show.h"
#include "tools/tool.h"
#include "tools/verbs.h"

enum {
	OPT_CACHE_DIR,
	OPT_JSON,
	OPT_TO,
	OPT_ORIGIN,
	OPT_ALL,
	OPT_CACHE_LIMIT, /* from here on: fill's alone */
	OPT_CACHE_KEEP_FREE,
	OPT_PLATFORM,
	OPT_SETTINGS,
};

static const struct tool_option options[] = {
	[OPT_CACHE_DIR] = { "cache-dir", 0, "DIR", "the cache's folder (default: the user's own)" },
	[OPT_JSON] = { "json", 0, NULL, "ls: print JSON (its keys: see overlaybd(1))" },
	[OPT_TO] = { "to", 0, "SIZE", "prune: how much may stay, such as 500M or 10G" },
	[OPT_ORIGIN] = { "origin", 0, "URL", "drop: all blobs from there, as ls shows it" },
	[OPT_ALL] = { "all", 0, NULL, "drop: all blobs" },
	[OPT_CACHE_LIMIT] = { "cache-limit", 0, "SIZE",
			      "fill: the folder's limit from now on (default: as it is,\nor 10G)" },
	[OPT_CACHE_KEEP_FREE] = { "cache-keep-free", 0, "SIZE",
				  "fill: how much of its disk it leaves to others" },
	[OPT_PLATFORM] = { "platform", 0, "OS/ARCH", "fill: which image of several" },
	[OPT_SETTINGS] = SETTINGS_REACH,
};

#define FILL_OPTIONS (~0u << OPT_CACHE_LIMIT)

/* Looking at a cache does not make one. */
static int open_cache(const char *dir, struct cache **out, struct err *e)
{
	struct fetch_settings settings;
	int r = fetch_settings_init(&settings, e);

	if (r < 0)
		return r;
	if (!dir || dir[0] == '\0')
		dir = settings.cache_dir;
	if (access(dir, F_OK) < 0)
		r = err_set(e, errno, "cache %s: %s", dir, strerror(errno));
	else
		r = cache_open(dir, CACHE_LIMIT_FOLDER, out, e);
	fetch_settings_release(&settings);
	return r;
}

static int with_cache(int (*what)(struct cache *c, const struct tool_args *args, struct err *e),
		      const struct tool_args *args, struct err *e)
{
	struct cache *c;
	int r = open_cache(args->values[OPT_CACHE_DIR], &c, e);

	if (r < 0)
		return r;
	r = what(c, args, e);
	cache_close(c);
	return r;
}

/* ---- ls ---- */

static const char *state_of(const struct cache_entry *entry)
{
	return entry->size == 0 ? "damaged" : entry->whole ? "whole" : "partial";
}

static int print_entry(void *arg, const struct cache_entry *entry)
{
	char size[SHOW_SIZE], present[SHOW_SIZE];

	show_line(stdout, "%-8s  %-4s  %10s  %10s  %s  %s", state_of(entry),
		  entry->in_use ? "yes" : "no", show_size(entry->size, size),
		  show_size(entry->present, present), entry->digest,
		  entry->origin ? entry->origin : "-");
	return 0;
}

static int add_entry(void *arg, const struct cache_entry *entry)
{
	json_t *one = json_pack("{s:s, s:o, s:s, s:I, s:I, s:b}", "digest", entry->digest, "origin",
				show_string(entry->origin), "state", state_of(entry), "size",
				(json_int_t)entry->size, "present-size", (json_int_t)entry->present,
				"in-use", (int)entry->in_use);

	return json_array_append_new(arg, one) < 0 ? -ENOMEM : 0;
}

static int list_in(struct cache *c, const struct tool_args *args, struct err *e)
{
	char size[SHOW_SIZE], limit[SHOW_SIZE];
	struct cache_limits limits;
	json_t *blobs, *out;
	int r;

	cache_get_limits(c, &limits);

	if (!args->values[OPT_JSON]) {
		printf("%-8s  %-4s  %10s  %10s  %-71s  %s\n", "State", "Used", "Size", "Present",
		       "Digest", "Origin");
		r = cache_list(c, print_entry, NULL, e);
		if (r == 0)
			printf("%s in all, limit %s\n", show_size(cache_usage(c), size),
			       limits.limit ? show_size(limits.limit, limit) : "none");
		return r;
	}
	blobs = json_array();
	r = cache_list(c, add_entry, blobs, e);
	out = json_pack("{s:I, s:I, s:I, s:o}", "usage-size", (json_int_t)cache_usage(c),
			"limit-size", (json_int_t)limits.limit, "keep-free-size",
			(json_int_t)limits.keep_free, "blobs", blobs);
	if (r == -ENOMEM || !out)
		r = err_set(e, ENOMEM, "out of memory");
	if (r == 0)
		show_json(out);
	json_decref(out);
	return r;
}

static int list(const struct tool_args *args, struct err *e)
{
	return with_cache(list_in, args, e);
}

/* ---- verify ---- */

static int count_bytes(void *arg, const struct cache_entry *entry)
{
	/* A whole one is read once more, for its digest. */
	*(uint64_t *)arg += entry->present * (entry->whole ? 2 : 1);
	return 0;
}

static void advance(void *arg, uint64_t bytes)
{
	progress_add(arg, bytes);
}

static int verify_in(struct cache *c, const struct tool_args *args, struct err *e)
{
	struct progress progress;
	uint64_t total = 0, checked, bad;
	int r = cache_list(c, count_bytes, &total, e);

	if (r < 0)
		return r;
	progress_init(&progress, "verifying", total);
	r = cache_verify_all(c, advance, &progress, &checked, &bad, e);
	progress_clear(&progress);
	if (r < 0)
		return r;
	printf("%" PRIu64 " chunks checked, %" PRIu64 " wrong%s\n", checked, bad,
	       bad > 0 ? " and dropped" : "");
	return bad > 0 ? TOOL_FOUND : 0;
}

static int verify(const struct tool_args *args, struct err *e)
{
	return with_cache(verify_in, args, e);
}

/* ---- prune, drop ---- */

static int check_prune(const struct tool_args *args, struct err *e)
{
	uint64_t target;
	int r = args_need(args->values[OPT_TO], "to", e);

	return r < 0 ? r : args_size(args->values[OPT_TO], "--to:", &target, e);
}

static int prune_in(struct cache *c, const struct tool_args *args, struct err *e)
{
	char size[SHOW_SIZE];
	uint64_t target = 0, freed;
	int r;

	(void)args_size(args->values[OPT_TO], "--to:", &target, NULL); /* checked before */
	r = cache_prune(c, target, &freed, e);
	if (r == 0)
		printf("%s freed\n", show_size(freed, size));
	return r;
}

static int prune(const struct tool_args *args, struct err *e)
{
	return with_cache(prune_in, args, e);
}

static const char *digest_of(const struct tool_args *args)
{
	return args->operand_count > 1 ? args->operands[1] : NULL;
}

static int check_drop(const struct tool_args *args, struct err *e)
{
	const char *digest = digest_of(args);

	if (!digest + !args->values[OPT_ORIGIN] + !args->values[OPT_ALL] != 2)
		return err_set(e, EINVAL, "drop needs a digest, or --origin, or --all");
	if (digest && !digest_is_any(digest))
		return err_set(e, EINVAL, "'%s' is not " DIGEST_FORM, digest);
	return 0;
}

static int drop_in(struct cache *c, const struct tool_args *args, struct err *e)
{
	const char *digest = digest_of(args), *origin = args->values[OPT_ORIGIN];
	uint64_t dropped;
	int r = cache_drop(c, digest, origin, &dropped, e);

	if (r < 0)
		return r;
	if (dropped == 0 && !args->values[OPT_ALL])
		return err_set(e, ENOENT, "the cache holds no blob %s%s", digest ? digest : "of ",
			       origin ? origin : "");
	printf("%" PRIu64 " blob%s dropped\n", dropped, dropped == 1 ? "" : "s");
	return 0;
}

static int drop(const struct tool_args *args, struct err *e)
{
	return with_cache(drop_in, args, e);
}

/* ---- fill ---- */

static int fill(const struct tool_args *args, struct err *e)
{
	struct settings settings;

	settings_take(&cmd_cache, args, &settings);
	return cache_fill(args->operands[1], &settings, e);
}

/* ---- all of them ---- */

#define DIR (1u << OPT_CACHE_DIR)

static const struct verb verbs[] = {
	{ "ls", DIR | 1u << OPT_JSON, 1, 1, NULL, NULL, list },
	{ "verify", DIR, 1, 1, NULL, NULL, verify },
	{ "prune", DIR | 1u << OPT_TO, 1, 1, NULL, check_prune, prune },
	{ "drop", DIR | 1u << OPT_ORIGIN | 1u << OPT_ALL, 1, 2, NULL, check_drop, drop },
	{ "fill", DIR | FILL_OPTIONS, 2, 2, "a config or a reference", NULL, fill },
};

static int run(const struct tool_args *args, struct err *e)
{
	return verbs_run(&cmd_cache, verbs, sizeof verbs / sizeof *verbs, args, e);
}

const struct tool_command cmd_cache = {
	.name = "cache",
	.operand = "ls|verify|prune|drop|fill [DIGEST|CONFIG|REF]",
	.min_operands = 1,
	.max_operands = 2,
	.summary = "List, verify, shrink, drop or fill what is cached of remote layers",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
