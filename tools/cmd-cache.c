/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-cache.c - `overlaybd cache`: what people do with a cache folder, safe beside the processes
 * that use it. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/base/nearest.h"
#include "fetch/cache_admin.h"
#include "fetch/settings.h"
#include "tools/args.h"
#include "tools/cache-fill.h"
#include "tools/progress.h"
#include "tools/show.h"
#include "tools/tool.h"

enum {
	OPT_CACHE_DIR,
	OPT_JSON,
	OPT_TO,
	OPT_ORIGIN,
	OPT_ALL,
	OPT_PLATFORM, /* from here on: fill's alone */
	OPT_SETTINGS,
};

static const struct tool_option options[] = {
	[OPT_CACHE_DIR] = { "cache-dir", 0, "DIR", "the cache's folder (default: the user's own)" },
	[OPT_JSON] = { "json", 0, NULL, "ls: print JSON (its keys: see overlaybd(1))" },
	[OPT_TO] = { "to", 0, "SIZE", "prune: how much may stay, such as 500M or 10G" },
	[OPT_ORIGIN] = { "origin", 0, "URL", "drop: all blobs from there, as ls shows it" },
	[OPT_ALL] = { "all", 0, NULL, "drop: all blobs" },
	[OPT_PLATFORM] = { "platform", 0, "OS/ARCH", "fill: which image of several" },
	[OPT_SETTINGS] = SETTINGS_REACH,
};

enum { OPTIONS = sizeof options / sizeof *options };

#define FILL_OPTIONS (~0u << OPT_PLATFORM)

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

static int list(struct cache *c, const struct tool_args *args, struct err *e)
{
	char size[SHOW_SIZE];
	json_t *blobs, *out;
	int r;

	if (!args->values[OPT_JSON]) {
		printf("%-8s  %-4s  %10s  %10s  %-71s  %s\n", "State", "Used", "Size", "Present",
		       "Digest", "Origin");
		r = cache_list(c, print_entry, NULL, e);
		if (r == 0)
			printf("%s in all\n", show_size(cache_usage(c), size));
		return r;
	}
	blobs = json_array();
	r = cache_list(c, add_entry, blobs, e);
	out = json_pack("{s:I, s:o}", "usage-size", (json_int_t)cache_usage(c), "blobs", blobs);
	if (r == -ENOMEM || !out)
		r = err_set(e, ENOMEM, "out of memory");
	if (r == 0)
		show_json(out);
	json_decref(out);
	return r;
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

static int verify(struct cache *c, const struct tool_args *args, struct err *e)
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

/* ---- prune, drop ---- */

static int check_prune(const struct tool_args *args, struct err *e)
{
	uint64_t target;
	int r = args_need(args->values[OPT_TO], "to", e);

	return r < 0 ? r : args_size(args->values[OPT_TO], "--to:", &target, e);
}

static int prune(struct cache *c, const struct tool_args *args, struct err *e)
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

static const char *digest_of(const struct tool_args *args)
{
	return args->operand_count > 1 ? args->operands[1] : NULL;
}

static int check_drop(const struct tool_args *args, struct err *e)
{
	const char *digest = digest_of(args);

	if (!digest + !args->values[OPT_ORIGIN] + !args->values[OPT_ALL] != 2)
		return err_set(e, EINVAL, "drop needs a digest, or --origin, or --all");
	if (digest && !digest_is_valid(digest))
		return err_set(e, EINVAL, "'%s' is not 'sha256:' and 64 hex digits in lower case",
			       digest);
	return 0;
}

static int drop(struct cache *c, const struct tool_args *args, struct err *e)
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

/* ---- fill ---- */

static int check_fill(const struct tool_args *args, struct err *e)
{
	return args->operand_count > 1 ? 0
				       : err_set(e, EINVAL, "fill needs a config or a reference");
}

static int fill(const struct tool_args *args, struct err *e)
{
	struct settings settings;

	settings_take(&cmd_cache, args, &settings);
	return cache_fill(args->operands[1], &settings, e);
}

/* ---- all of them ---- */

static const struct verb {
	const char *name;
	unsigned allowed; /* a bit for each option beside --cache-dir */
	size_t operands; /* at most, the verb included */
	int (*check)(const struct tool_args *args, struct err *e); /* of the command line */
	int (*run)(struct cache *c, const struct tool_args *args, struct err *e); /* NULL: fill */
} verbs[] = {
	{ "ls", 1u << OPT_JSON, 1, NULL, list },
	{ "verify", 0, 1, NULL, verify },
	{ "prune", 1u << OPT_TO, 1, check_prune, prune },
	{ "drop", 1u << OPT_ORIGIN | 1u << OPT_ALL, 2, check_drop, drop },
	{ "fill", FILL_OPTIONS, 2, check_fill, NULL },
};

enum { VERBS = sizeof verbs / sizeof *verbs };

static int find_verb(const struct tool_args *args, const struct verb **out, struct err *e)
{
	const char *names[VERBS], *nearest;
	size_t i;

	for (i = 0; i < VERBS; i++) {
		names[i] = verbs[i].name;
		if (strcmp(args->operands[0], names[i]) == 0) {
			*out = &verbs[i];
			return 0;
		}
	}
	nearest = nearest_word(args->operands[0], names, VERBS);
	if (nearest)
		return err_set(e, EINVAL, "unknown verb '%s' (did you mean '%s'?)",
			       args->operands[0], nearest);
	return err_set(e, EINVAL, "unknown verb '%s'; see overlaybd cache --help",
		       args->operands[0]);
}

/* Whether the other arguments go with the verb. */
static int check_arguments(const struct verb *verb, const struct tool_args *args, struct err *e)
{
	size_t i;

	for (i = OPT_CACHE_DIR + 1; i < OPTIONS; i++)
		if (args->values[i] && !(verb->allowed & 1u << i))
			return err_set(e, EINVAL, "%s takes no option '--%s'", verb->name,
				       options[i].name);
	if (args->operand_count > verb->operands)
		return err_set(e, EINVAL, "%s: unexpected argument '%s'", verb->name,
			       args->operands[verb->operands]);
	return verb->check ? verb->check(args, e) : 0;
}

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
		r = cache_open(dir, settings.cache_limit, out, e);
	fetch_settings_release(&settings);
	return r;
}

static int run(const struct tool_args *args, struct err *e)
{
	const struct verb *verb = NULL;
	struct cache *c;
	int r;

	if (find_verb(args, &verb, e) < 0 || check_arguments(verb, args, e) < 0)
		return TOOL_USAGE;
	if (!verb->run)
		return fill(args, e);
	r = open_cache(args->values[OPT_CACHE_DIR], &c, e);
	if (r < 0)
		return r;
	r = verb->run(c, args, e);
	cache_close(c);
	return r;
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
