/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-trace.c - `overlaybd trace`: looks at, converts, joins, compares and draws traces. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/image.h"
#include "fetch/referrers.h"
#include "prefetch/find.h"
#include "prefetch/trace.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_import.h"
#include "prefetch/trace_layers.h"
#include "prefetch/trace_text.h"
#include "tools/args.h"
#include "tools/settings.h"
#include "tools/show.h"
#include "tools/tool.h"
#include "tools/trace-plot.h"
#include "tools/verbs.h"

enum {
	OPT_OUTPUT,
	OPT_FORMAT,
	OPT_JSON,
	OPT_READS,
	OPT_CACHE_DIR, /* from here on: of an image in a registry */
	OPT_PLATFORM,
	OPT_SETTINGS,
};

static const struct tool_option options[] = {
	[OPT_OUTPUT] = { "output", 'o', "FILE", "where to write to" },
	[OPT_FORMAT] = { "format", 0, "NAME", "export: reference (the default) or text" },
	[OPT_JSON] = { "json", 0, NULL, "show: print JSON (its keys: see overlaybd(1))" },
	[OPT_READS] = { "reads", 0, NULL, "show: also each read" },
	[OPT_CACHE_DIR] = { "cache-dir", 0, "DIR", "the cache's folder (default: the user's own)" },
	[OPT_PLATFORM] = { "platform", 0, "OS/ARCH", "which image of several" },
	[OPT_SETTINGS] = SETTINGS_REACH,
};

#define OUTPUT (1u << OPT_OUTPUT)
#define IMAGE_OPTIONS (~0u << OPT_CACHE_DIR)

/* ---- the image ---- */

struct opened {
	struct image_config *config;
	struct image *image; /* NULL: none was named */
};

static void close_image(struct opened *o)
{
	image_close(o->image);
	config_free(o->config);
}

/* The image that operand `place` names, if there are so many: a config file, or, when there is no
 * file of this name, a reference. */
static int open_image(const struct tool_args *args, size_t place, struct opened *out, struct err *e)
{
	struct settings settings;
	const char *what;
	int r;

	*out = (struct opened){ 0 };
	if (args->operand_count <= place)
		return 0;
	what = args->operands[place];
	settings_take(&cmd_trace, args, &settings);
	if (access(what, F_OK) == 0)
		r = config_load(what, &settings.options, &out->config, e);
	else
		r = config_from_image(what, &settings.options, &out->config, e);
	if (r == 0 && args->values[OPT_OUTPUT])
		r = config_refuse_own_file(out->config, args->values[OPT_OUTPUT], e);
	if (r == 0)
		r = image_open(out->config, NULL, &out->image, e);
	if (r < 0)
		close_image(out);
	return r;
}

/* The trace of operand 1, and the image of operand 2, which must be the trace's. */
static int open_both(const struct tool_args *args, struct trace *t, struct opened *o, struct err *e)
{
	int r = trace_load(args->operands[1], t, e);

	if (r < 0)
		return r;
	r = open_image(args, 2, o, e);
	if (r == 0 && o->image) {
		r = trace_check_image(t, o->image, e);
		if (r < 0) {
			(void)err_wrap(e, r, "%s", args->operands[1]);
			close_image(o);
		}
	}
	if (r < 0)
		trace_release(t);
	return r;
}

/* ---- show ---- */

static int add_totals(json_t *out, const struct trace *t, const struct trace_totals *sum)
{
	json_t *all =
		json_pack("{s:s, s:I, s:I, s:I, s:I, s:f}", "identity", t->identity, "disk-size",
			  (json_int_t)t->disk_size, "reads", (json_int_t)sum->reads, "read-size",
			  (json_int_t)sum->read_bytes, "unique-size", (json_int_t)sum->unique_bytes,
			  "duration", (double)sum->duration_us / 1e6);
	int r = json_object_update(out, all);

	json_decref(all);
	if (r == 0 && sum->has_image) {
		r = json_object_set_new(out, "image-data-size",
					json_integer((json_int_t)sum->image_bytes));
		r |= json_object_set_new(out, "packed-size",
					 json_integer((json_int_t)sum->packed_bytes));
		r |= json_object_set_new(out, "image-read-size",
					 json_integer((json_int_t)sum->image_unique_bytes));
	}
	return r < 0 ? -ENOMEM : 0;
}

/* The list of reads goes before the closing brace, a line each, so that it is never in memory. */
static int print_json(const struct trace *t, const struct trace_totals *sum, bool reads)
{
	json_t *out = json_object();
	AUTO_FREE char *text = NULL;
	size_t i;
	int r = out ? add_totals(out, t, sum) : -ENOMEM;

	if (r == 0)
		text = json_dumps(out,
				  JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
	json_decref(out);
	if (!text)
		return -ENOMEM;
	if (!reads) {
		puts(text);
		return 0;
	}
	printf("%.*s,\n  \"list\": [", (int)strcspn(text, "}") - 1, text);
	for (i = 0; i < t->count; i++)
		printf("%s\n    {\"lba\": %" PRIu64 ", \"sectors\": %" PRIu32 ", \"us\": %" PRIu32
		       "}",
		       i > 0 ? "," : "", t->reads[i].lba, t->reads[i].sectors, t->reads[i].us);
	puts("\n  ]\n}");
	return 0;
}

static void print_size(const char *name, uint64_t bytes)
{
	char size[SHOW_SIZE];

	printf("%s: %" PRIu64, name, bytes);
	if (bytes >= 1024)
		printf(" (%s)", show_size(bytes, size));
	putchar('\n');
}

static void print_lines(const struct trace *t, const struct trace_totals *sum, bool reads)
{
	size_t i;

	printf("identity: %s\n", t->identity);
	print_size("disk-size", t->disk_size);
	printf("reads: %" PRIu64 "\n", sum->reads);
	print_size("read-size", sum->read_bytes);
	print_size("unique-size", sum->unique_bytes);
	printf("duration: %.3f s\n", (double)sum->duration_us / 1e6);
	if (sum->has_image) {
		print_size("image-data-size", sum->image_bytes);
		print_size("image-read-size", sum->image_unique_bytes);
		print_size("packed-size", sum->packed_bytes);
		if (sum->image_bytes > 0)
			printf("share: %.1f %%\n",
			       100 * (double)sum->image_unique_bytes / (double)sum->image_bytes);
	}
	if (!reads)
		return;
	printf("\n%-14s %-10s %14s\n", "LBA", "Sectors", "Milliseconds");
	for (i = 0; i < t->count; i++)
		printf("%-14" PRIu64 " %-10" PRIu32 " %10" PRIu32 ".%03" PRIu32 "\n",
		       t->reads[i].lba, t->reads[i].sectors, t->reads[i].us / 1000,
		       t->reads[i].us % 1000);
}

static int show(const struct tool_args *args, struct err *e)
{
	bool reads = args->values[OPT_READS] != NULL;
	struct trace_totals sum;
	struct opened o;
	struct trace t;
	int r = open_both(args, &t, &o, e);

	if (r < 0)
		return r;
	r = trace_sum_up(&t, o.image, &sum, e);
	if (r == 0 && !args->values[OPT_JSON])
		print_lines(&t, &sum, reads);
	else if (r == 0 && print_json(&t, &sum, reads) < 0)
		r = err_set(e, ENOMEM, "out of memory");
	close_image(&o);
	trace_release(&t);
	return r;
}

/* ---- export ---- */

static int check_output(const struct tool_args *args, struct err *e)
{
	return args_need(args->values[OPT_OUTPUT], "output", e);
}

static bool is_text(const struct tool_args *args)
{
	return args->values[OPT_FORMAT] && strcmp(args->values[OPT_FORMAT], "text") == 0;
}

static int check_export(const struct tool_args *args, struct err *e)
{
	const char *format = args->values[OPT_FORMAT];

	if (format && strcmp(format, "text") != 0 && strcmp(format, "reference") != 0)
		return err_set(e, EINVAL, "unknown format '%s': reference or text", format);
	if (args->operand_count < 3 && !is_text(args))
		return err_set(e, EINVAL, "export needs the image's config, to name its layers");
	return check_output(args, e);
}

static void say_what_is_lost(const struct trace_layers_notes *notes)
{
	if (notes->upper > 0)
		show_line(stderr,
			  "overlaybd: %" PRIu64 " pieces in the writable layer are left out",
			  notes->upper);
	if (notes->left_out > 0)
		show_line(stderr, "overlaybd: %" PRIu64 " reads at the end are left out",
			  notes->left_out);
}

static int export_layers(const struct trace *t, struct image *image, void **bytes, size_t *n,
			 struct err *e)
{
	struct trace_layers_notes notes;
	struct trace_layers layers;
	int r = trace_layers_from_disk(t, image, &layers, &notes, e);

	if (r < 0)
		return r;
	say_what_is_lost(&notes);
	r = trace_layers_format(&layers, bytes, n, e);
	trace_layers_release(&layers);
	return r;
}

static int export(const struct tool_args *args, struct err *e)
{
	AUTO_FREE void *bytes = NULL;
	char *text = NULL;
	struct opened o;
	struct trace t;
	size_t n;
	int r = open_both(args, &t, &o, e);

	if (r < 0)
		return r;
	if (is_text(args)) {
		r = trace_text_format(&t, &text, &n, e);
		bytes = text;
	} else {
		r = export_layers(&t, o.image, &bytes, &n, e);
	}
	if (r == 0)
		r = io_replace_file(args->values[OPT_OUTPUT], bytes, n, e);
	close_image(&o);
	trace_release(&t);
	return r;
}

/* ---- import, merge ---- */

static void print_note(void *arg, const char *text)
{
	show_line(stderr, "overlaybd: %s", text);
}

/* Writes a new trace and says how much it is. */
static int save(const struct tool_args *args, const struct trace *t, struct err *e)
{
	const char *path = args->values[OPT_OUTPUT];
	struct trace_totals sum;
	char size[SHOW_SIZE];
	int r = trace_sum_up(t, NULL, &sum, e);

	if (r == 0)
		r = trace_save(t, path, e);
	if (r == 0)
		show_line(stdout, "%s: %" PRIu64 " reads, %s", path, sum.reads,
			  show_size(sum.unique_bytes, size));
	return r;
}

static int import(const struct tool_args *args, struct err *e)
{
	struct trace_notes notes = { .line = print_note };
	struct opened o;
	struct trace t;
	int r = open_image(args, 2, &o, e);

	if (r < 0)
		return r;
	r = trace_import_file(args->operands[1], o.image, &notes, &t, e);
	close_image(&o);
	if (r < 0)
		return r;
	r = save(args, &t, e);
	trace_release(&t);
	return r;
}

static int load_all(const struct tool_args *args, struct trace *traces, size_t *loaded,
		    struct err *e)
{
	size_t count = args->operand_count - 1;
	int r = 0;

	for (*loaded = 0; r == 0 && *loaded < count; *loaded += r == 0) {
		const char *name = args->operands[*loaded + 1];

		r = trace_load(name, &traces[*loaded], e);
		if (r == 0 && *loaded > 0) {
			r = trace_same_image(&traces[0], &traces[*loaded], e);
			if (r < 0) {
				(void)err_wrap(e, r, "%s, %s", args->operands[1], name);
				trace_release(&traces[*loaded]);
			}
		}
	}
	return r;
}

static int merge_loaded(const struct tool_args *args, const struct trace *traces, size_t count,
			struct err *e)
{
	AUTO_FREE const struct trace **list = malloc((count + 1) * sizeof *list);
	struct trace out;
	size_t i, left_out;
	int r;

	if (!list)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; i < count; i++)
		list[i] = &traces[i];
	r = trace_merge(list, count, &out, &left_out, e);
	if (r < 0)
		return r;
	if (left_out > 0)
		show_line(stderr, "overlaybd: %zu reads at the end are left out: more than %d",
			  left_out, TRACE_READS_MAX);
	r = save(args, &out, e);
	trace_release(&out);
	return r;
}

static int merge(const struct tool_args *args, struct err *e)
{
	AUTO_FREE struct trace *traces = calloc(args->operand_count, sizeof *traces);
	size_t loaded = 0;
	int r;

	if (!traces)
		return err_set(e, ENOMEM, "out of memory");
	r = load_all(args, traces, &loaded, e);
	if (r == 0)
		r = merge_loaded(args, traces, loaded, e);
	while (loaded > 0)
		trace_release(&traces[--loaded]);
	return r;
}

/* ---- diff ---- */

/* What `a` reads and `b` does not, a range a line. */
static int print_only_in(const char *name, char mark, const struct trace_ranges *a,
			 const struct trace_ranges *b, struct err *e)
{
	struct trace_ranges rest;
	char size[SHOW_SIZE];
	size_t i;
	int r = trace_ranges_subtract(a, b, &rest, e);

	if (r < 0)
		return r;
	for (i = 0; i < rest.count; i++)
		printf("%c %-14" PRIu64 " %" PRIu64 "\n", mark, rest.list[i].lba,
		       rest.list[i].sectors);
	show_line(stdout, "# only in %s: %s in %zu range%s", name,
		  show_size(rest.sectors * SECTOR, size), rest.count, rest.count == 1 ? "" : "s");
	trace_ranges_release(&rest);
	return 0;
}

static int diff_loaded(const struct tool_args *args, const struct trace *traces, struct err *e)
{
	struct trace_ranges a, b = { 0 };
	int r = trace_ranges_of(&traces[0], &a, e);

	if (r < 0)
		return r;
	r = trace_ranges_of(&traces[1], &b, e);
	if (r == 0)
		r = print_only_in(args->operands[1], '<', &a, &b, e);
	if (r == 0)
		r = print_only_in(args->operands[2], '>', &b, &a, e);
	trace_ranges_release(&a);
	trace_ranges_release(&b);
	return r;
}

static int diff(const struct tool_args *args, struct err *e)
{
	struct trace traces[2];
	size_t loaded = 0;
	int r = load_all(args, traces, &loaded, e);

	if (r == 0)
		r = diff_loaded(args, traces, e);
	while (loaded > 0)
		trace_release(&traces[--loaded]);
	return r;
}

/* ---- plot ---- */

enum { SHORT_HEX = 12 }; /* digits of a digest that are enough to know it by */

/* The last part of a path or reference, a digest in it cut short.  The caller frees it. */
static char *short_name(const char *name)
{
	const char *slash = strrchr(name, '/');
	char *out = strdup(slash && slash[1] != '\0' ? slash + 1 : name);
	const char *digits = out ? digest_in_name(out) : NULL;

	if (digits && strlen(digits) > SHORT_HEX)
		out[digits - out + SHORT_HEX] = '\0';
	return out;
}

static int plot(const struct tool_args *args, struct err *e)
{
	AUTO_FREE char *svg = NULL, *name = NULL;
	struct opened o;
	struct trace t;
	size_t n;
	int r = open_both(args, &t, &o, e);

	if (r < 0)
		return r;
	if (o.image)
		name = short_name(args->operands[2]);
	r = trace_plot(&t, o.image, name, &svg, &n, e);
	if (r == 0)
		r = io_replace_file(args->values[OPT_OUTPUT], svg, n, e);
	close_image(&o);
	trace_release(&t);
	return r;
}

/* ---- push ---- */

struct target {
	struct fetcher *fetcher;
	struct reference ref;
	struct remote *remote;
};

static void close_target(struct target *to)
{
	remote_close(to->remote);
	reference_release(&to->ref);
	fetcher_close(to->fetcher);
}

static int open_target(const struct image_config *config, struct target *to, struct err *e)
{
	int r = fetcher_open(&to->fetcher, e);

	if (r == 0)
		r = reference_parse(config->image, &to->ref, e);
	if (r == 0)
		r = remote_open(to->fetcher, &config->fetch, &to->ref, NULL, true, &to->remote, e);
	return r;
}

/* Stores the trace beside the image, whose manifest is known. */
static int push_beside(const struct opened *o, const struct trace *t, struct err *e)
{
	struct target to = { 0 };
	AUTO_FREE void *bytes = NULL;
	char digest[DIGEST_TEXT];
	size_t n;
	int r = trace_format(t, &bytes, &n, e);

	if (r == 0)
		r = open_target(o->config, &to, e);
	if (r == 0)
		r = referrers_push(to.remote, image_digest(o->image), FIND_ARTIFACT, bytes, n,
				   digest, e);
	if (r == 0)
		show_line(stdout, "%s refers to %s", digest, image_digest(o->image));
	close_target(&to);
	return r < 0 ? err_wrap(e, r, "%s", o->config->path) : 0;
}

static int push(const struct tool_args *args, struct err *e)
{
	struct opened o;
	struct trace t;
	int r = trace_load(args->operands[2], &t, e);

	if (r < 0)
		return r;
	r = open_image(args, 1, &o, e);
	if (r == 0) {
		r = trace_check_image(&t, o.image, e);
		if (r < 0)
			(void)err_wrap(e, r, "%s", args->operands[2]);
		else if (!o.config->image)
			r = err_set(e, EINVAL, "%s: it names no image of a registry",
				    o.config->path);
		if (r == 0)
			r = push_beside(&o, &t, e);
		close_image(&o);
	}
	trace_release(&t);
	return r;
}

/* ---- all of them ---- */

static const struct verb verbs[] = {
	{ "show", 1u << OPT_JSON | 1u << OPT_READS | IMAGE_OPTIONS, 2, 3, "a trace", NULL, show },
	{ "export", OUTPUT | 1u << OPT_FORMAT | IMAGE_OPTIONS, 2, 3, "a trace", check_export,
	  export },
	{ "import", OUTPUT | IMAGE_OPTIONS, 3, 3, "a file, and an image's config or reference",
	  check_output, import },
	{ "merge", OUTPUT, 2, 65536, "traces", check_output, merge },
	{ "diff", 0, 3, 3, "two traces", NULL, diff },
	{ "plot", OUTPUT | IMAGE_OPTIONS, 2, 3, "a trace", check_output, plot },
	{ "push", IMAGE_OPTIONS, 3, 3, "an image's reference, and a trace", NULL, push },
};

static int run(const struct tool_args *args, struct err *e)
{
	return verbs_run(&cmd_trace, verbs, sizeof verbs / sizeof *verbs, args, e);
}

const struct tool_command cmd_trace = {
	.name = "trace",
	.operand = "show|export|import|merge|diff|plot|push FILE... [CONFIG|REF]",
	.min_operands = 1,
	.max_operands = 65536,
	.summary = "Show, convert, join, compare, draw or push traces of what start-up reads",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
