/* SPDX-License-Identifier: Apache-2.0 */
/* trace-plot.c - see trace-plot.h.
 *
 * A cell of the grid has the colour of the layer whose data was read there first; cells of nothing
 * but repeated reads are grey.  Beside the grid a strip shows which layer the disk's data comes
 * from, whether it was read or not; below it bars show how much was read for the first time. */
#include "tools/trace-plot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "prefetch/trace_edit.h"
#include "tools/show.h"

/* All in pixels, but for COLUMNS, ROWS and BARS. */
enum {
	CELL_WIDTH = 4,
	CELL_HEIGHT = 3,
	COLUMNS = 190,
	ROWS = 120,
	LEFT = 92, /* of the grid */
	TOP = 118,
	GRID_WIDTH = COLUMNS * CELL_WIDTH,
	GRID_HEIGHT = ROWS * CELL_HEIGHT,
	BARS = 95, /* over the grid's width */
	BAR_WIDTH = GRID_WIDTH / BARS, /* with the gap to the next one */
	BARS_TOP = TOP + GRID_HEIGHT + 12,
	BARS_HEIGHT = 60,
	BOTTOM = BARS_TOP + BARS_HEIGHT, /* of what the time axis belongs to */
	STRIP_LEFT = LEFT + GRID_WIDTH + 14,
	STRIP_WIDTH = 12,
	LEGEND_LEFT = STRIP_LEFT + STRIP_WIDTH + 24,
	LEGEND_STEP = 38,
	WIDTH = LEGEND_LEFT + 180,
	HEIGHT = BOTTOM + 58,
	TICKS = 6, /* on an axis, about */
};

/* What a cell shows.  Layers that have no colour of their own share one. */
enum {
	EMPTY,
	LAYER, /* and those that follow */
	COLOURS = 7,
	OTHERS = LAYER + COLOURS,
	NO_DATA, /* zeroes and holes */
	AGAIN,
	SERIES,
};

struct layer_sum {
	uint64_t read; /* bytes of the disk, each once */
	uint64_t visible; /* bytes of the disk that come from its data */
	uint8_t series;
};

struct plot {
	const struct trace *trace;
	struct image *image; /* NULL: not known */
	struct trace first; /* each sector where it is first read */
	struct trace_totals totals;
	bool by_order; /* there are no times: `us` of a read in `first` is its place in the trace */
	uint64_t x_max; /* microseconds, or reads */
	uint64_t y_max; /* bytes */
	uint64_t y_step; /* between ticks */
	struct layer_sum *layers; /* image_layer_count of them */
	size_t layer_count;
	uint64_t no_data; /* bytes read that no layer has data for */
	uint8_t grid[ROWS][COLUMNS]; /* [0]: the beginning of the disk */
	uint8_t strip[ROWS];
	uint64_t strip_bytes[ROWS]; /* of the layer that the strip shows there */
	uint64_t bars[BARS][SERIES]; /* bytes that were read for the first time */
	uint64_t highest_bar;
	FILE *out;
};

/* ---- axes ---- */

/* The smallest of 1, 2, 5, 10, ... that makes at most TICKS steps of `range`. */
static uint64_t decimal_step(uint64_t range)
{
	static const uint64_t factors[] = { 1, 2, 5 };
	uint64_t power = 1;
	size_t i = 0;

	while (range / (factors[i] * power) >= TICKS)
		if (++i == 3) {
			i = 0;
			power *= 10;
		}
	return factors[i] * power;
}

static uint64_t binary_step(uint64_t range)
{
	uint64_t step = 4096;

	while (range / step >= TICKS)
		step *= 2;
	return step;
}

static void choose_axes(struct plot *p)
{
	uint64_t end = 4096;
	size_t i;

	for (i = 0; i < p->trace->count; i++)
		end = max_u64(end, (p->trace->reads[i].lba + p->trace->reads[i].sectors) * SECTOR);
	p->y_step = binary_step(end);
	p->y_max = (end / (p->y_step / 4) + 1) * (p->y_step / 4);
	p->by_order = p->totals.duration_us == 0;
	p->x_max = p->by_order ? max_u64(p->trace->count, 1) : p->totals.duration_us;
}

/* The cell of a value in [0, max]; there are `cells`. */
static unsigned cell_of(uint64_t value, uint64_t max, unsigned cells)
{
	unsigned cell = (unsigned)((double)value / (double)max * cells);

	return cell < cells ? cell : cells - 1;
}

static unsigned column_of(const struct plot *p, uint32_t at)
{
	return cell_of(at, p->x_max, COLUMNS);
}

/* The last column of a read that begins at `at`.  In a short trace without times it takes several.
 */
static unsigned last_column_of(const struct plot *p, uint32_t at)
{
	unsigned first = column_of(p, at), next;

	if (!p->by_order)
		return first;
	next = (unsigned)((double)(at + 1) / (double)p->x_max * COLUMNS);
	return next > first ? next - 1 : first;
}

/* ---- what was read ---- */

/* The reads with their order as the time, when they have no other, each sector once. */
static int find_first_reads(struct plot *p, struct err *e)
{
	struct trace copy = *p->trace;
	const struct trace *one = &copy;
	size_t i;
	int r;

	copy.reads = malloc((copy.count + 1) * sizeof *copy.reads);
	if (!copy.reads)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; i < copy.count; i++) {
		copy.reads[i] = p->trace->reads[i];
		if (p->by_order)
			copy.reads[i].us = (uint32_t)i;
	}
	r = trace_merge(&one, 1, &p->first, NULL, e);
	free(copy.reads);
	return r;
}

struct walk {
	struct plot *plot;
	uint32_t at; /* the read's time */
	void (*each)(struct walk *walk, const struct image_extent *x);
};

static int walk_extent(void *arg, const struct image_extent *x)
{
	struct walk *walk = arg;

	walk->each(walk, x);
	return 0;
}

/* Calls `each` for the pieces of all first reads. */
static int walk_first_reads(struct plot *p,
			    void (*each)(struct walk *, const struct image_extent *), struct err *e)
{
	struct walk walk = { .plot = p, .each = each };
	size_t i;

	for (i = 0; i < p->first.count; i++) {
		const struct trace_read *read = &p->first.reads[i];
		struct image_extent x = { .off = read->lba * SECTOR,
					  .n = (uint64_t)read->sectors * SECTOR,
					  .kind = EXTENT_DATA };

		walk.at = read->us;
		if (!p->image)
			each(&walk, &x);
		else if (image_extents(p->image, x.off, x.n, false, walk_extent, &walk) < 0)
			return err_set(e, EINVAL, "trace of a larger disk than the image's");
	}
	return 0;
}

static void count_piece(struct walk *walk, const struct image_extent *x)
{
	struct plot *p = walk->plot;

	if (x->kind != EXTENT_DATA)
		p->no_data += x->n;
	else if (p->image)
		p->layers[x->layer].read += x->n;
}

static void count_visible(struct walk *walk, const struct image_extent *x)
{
	if (x->kind == EXTENT_DATA)
		walk->plot->layers[x->layer].visible += x->n;
}

/* The layer without a colour that most was read of; layer_count: none is left. */
static size_t find_most_read(const struct plot *p)
{
	size_t i, most = p->layer_count;

	for (i = 0; i < p->layer_count; i++)
		if (p->layers[i].series == OTHERS &&
		    (most == p->layer_count || p->layers[i].read > p->layers[most].read))
			most = i;
	return most;
}

/* From the bottom up when there is a colour for each, else for those that most was read of. */
static void choose_colours(struct plot *p)
{
	size_t i;

	for (i = 0; i < p->layer_count; i++)
		p->layers[i].series = (uint8_t)(p->layer_count <= COLOURS ? LAYER + i : OTHERS);
	for (i = 0; p->layer_count > COLOURS && i < COLOURS; i++)
		p->layers[find_most_read(p)].series = (uint8_t)(LAYER + i);
}

static uint8_t series_of(const struct plot *p, const struct image_extent *x)
{
	return x->kind != EXTENT_DATA ? NO_DATA : p->image ? p->layers[x->layer].series : LAYER;
}

static void paint(struct plot *p, uint32_t at, uint64_t off, uint64_t n, uint8_t series)
{
	unsigned row = cell_of(off, p->y_max, ROWS), last = cell_of(off + n - 1, p->y_max, ROWS);
	unsigned begin = column_of(p, at), end = last_column_of(p, at), column;

	for (; row <= last; row++)
		for (column = begin; column <= end; column++)
			if (p->grid[row][column] == EMPTY)
				p->grid[row][column] = series;
}

static void paint_piece(struct walk *walk, const struct image_extent *x)
{
	struct plot *p = walk->plot;
	uint8_t series = series_of(p, x);

	paint(p, walk->at, x->off, x->n, series);
	p->bars[cell_of(walk->at, p->x_max, BARS)][series] += x->n;
}

static void paint_repeated(struct plot *p)
{
	size_t i;

	for (i = 0; i < p->trace->count; i++) {
		const struct trace_read *read = &p->trace->reads[i];

		paint(p, p->by_order ? (uint32_t)i : read->us, read->lba * SECTOR,
		      (uint64_t)read->sectors * SECTOR, AGAIN);
	}
}

static uint64_t bar_sum(const struct plot *p, size_t bar)
{
	uint64_t sum = 0;
	unsigned series;

	for (series = EMPTY; series < SERIES; series++)
		sum += p->bars[bar][series];
	return sum;
}

static void find_highest_bar(struct plot *p)
{
	size_t i;

	for (i = 0; i < BARS; i++)
		p->highest_bar = max_u64(p->highest_bar, bar_sum(p, i));
}

/* The largest piece in each row decides. */
static void paint_strip(struct walk *walk, const struct image_extent *x)
{
	struct plot *p = walk->plot;
	uint64_t off = x->off, end = min_u64(x->off + x->n, p->y_max);

	if (x->kind != EXTENT_DATA)
		return;
	while (off < end) {
		unsigned row = cell_of(off, p->y_max, ROWS);
		uint64_t row_end = (uint64_t)((double)(row + 1) / ROWS * (double)p->y_max) + 1;
		uint64_t n = min_u64(end, max_u64(row_end, off + 1)) - off;

		if (n > p->strip_bytes[row]) {
			p->strip_bytes[row] = n;
			p->strip[row] = p->layers[x->layer].series;
		}
		off += n;
	}
}

static int look_at_image(struct plot *p, struct err *e)
{
	struct walk visible = { .plot = p, .each = count_visible };
	struct walk strip = { .plot = p, .each = paint_strip };
	uint64_t size = image_size(p->image);
	int r;

	p->layer_count = image_layer_count(p->image);
	p->layers = calloc(p->layer_count + 1, sizeof *p->layers);
	if (!p->layers)
		return err_set(e, ENOMEM, "out of memory");
	r = walk_first_reads(p, count_piece, e);
	if (r < 0)
		return r;
	choose_colours(p);
	(void)image_extents(p->image, 0, size, false, walk_extent, &visible);
	(void)image_extents(p->image, 0, size, false, walk_extent, &strip);
	return 0;
}

/* ---- writing ---- */

static void put_text(FILE *out, const char *text)
{
	char piece[TEXT_PIECE];

	while (*text != '\0') {
		text += text_escape_one(text, piece);
		if (strcmp(piece, "<") == 0)
			fputs("&lt;", out);
		else if (strcmp(piece, "&") == 0)
			fputs("&amp;", out);
		else
			fputs(piece, out);
	}
}

static void put_style(FILE *out)
{
	static const char *const light[] = { "#2f6fd0", "#e07b22", "#2a9d63", "#8b54c9",
					     "#c2a000", "#d2477f", "#1496a8", "#7f8a96" };
	static const char *const dark[] = { "#6aa5f8", "#f5a052", "#55c88b", "#b98af0",
					    "#e3c530", "#f07dac", "#4fc6d6", "#8a96a3" };
	unsigned i;

	fputs("<style>"
	      "svg{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
	      ".p{fill:#fff;stroke:#d9dee4}.g{fill:#f6f8fa}.t{fill:#1f2328}.m{fill:#59636e}"
	      ".a{stroke:#d9dee4}.h{font-size:17px;font-weight:600}.v{font-size:17px;font-weight:"
	      "600}"
	      "path{fill:none}",
	      out);
	for (i = 0; i <= COLOURS; i++)
		fprintf(out, ".c%u{stroke:%s}.f%u{fill:%s}", LAYER + i, light[i], LAYER + i,
			light[i]);
	fprintf(out, ".c%d{stroke:#aab3bd}.f%d{fill:#aab3bd}.c%d{stroke:#d5dae0}.f%d{fill:#d5dae0}",
		NO_DATA, NO_DATA, AGAIN, AGAIN);
	fputs("@media(prefers-color-scheme:dark){"
	      ".p{fill:#0d1117;stroke:#30363d}.g{fill:#151b23}.t{fill:#e6edf3}.m{fill:#9198a1}"
	      ".a{stroke:#30363d}",
	      out);
	for (i = 0; i <= COLOURS; i++)
		fprintf(out, ".c%u{stroke:%s}.f%u{fill:%s}", LAYER + i, dark[i], LAYER + i,
			dark[i]);
	fprintf(out, ".c%d{stroke:#5c6670}.f%d{fill:#5c6670}.c%d{stroke:#3a424b}.f%d{fill:#3a424b}",
		NO_DATA, NO_DATA, AGAIN, AGAIN);
	fputs("}</style>\n", out);
}

/* A figure with its name above it. */
static void put_figure(FILE *out, unsigned *x, const char *name, const char *value)
{
	fprintf(out, "<text class=\"m\" x=\"%u\" y=\"64\">%s</text>", *x, name);
	fprintf(out, "<text class=\"v t\" x=\"%u\" y=\"86\">", *x);
	put_text(out, value);
	fputs("</text>\n", out);
	*x += 152;
}

static const char *format_time(uint64_t us, char buf[SHOW_SIZE])
{
	if (us < 10000)
		snprintf(buf, SHOW_SIZE, "%.2g ms", (double)us / 1000);
	else if (us < 1000000)
		snprintf(buf, SHOW_SIZE, "%" PRIu64 " ms", us / 1000);
	else
		snprintf(buf, SHOW_SIZE, us < 100000000 ? "%.3g s" : "%.0f s", (double)us / 1e6);
	return buf;
}

static void put_figures(const struct plot *p)
{
	char text[2 * SHOW_SIZE], size[SHOW_SIZE], name[SHOW_SIZE + 16];
	unsigned x = LEFT;

	snprintf(text, sizeof text, "%" PRIu64, p->totals.reads);
	put_figure(p->out, &x, "reads", text);
	put_figure(p->out, &x, "read in all", show_size(p->totals.read_bytes, text));
	put_figure(p->out, &x, "unique", show_size(p->totals.unique_bytes, text));
	if (p->totals.has_image && p->totals.image_bytes > 0) {
		snprintf(name, sizeof name, "of data: %s",
			 show_size(p->totals.image_bytes, size));
		snprintf(text, sizeof text, "%.1f %%",
			 100 * (double)p->totals.image_unique_bytes /
				 (double)p->totals.image_bytes);
		put_figure(p->out, &x, name, text);
	}
	if (!p->by_order)
		put_figure(p->out, &x, "duration", format_time(p->totals.duration_us, text));
}

static void put_head(const struct plot *p, const char *name)
{
	const char *digest = p->trace->identity + strcspn(p->trace->identity, ":");

	fprintf(p->out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"height=\"%d\" role=\"img\">\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT);
	fputs("<title>What was read of the image, and when</title>\n", p->out);
	put_style(p->out);
	fprintf(p->out,
		"<rect class=\"p\" x=\".5\" y=\".5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n",
		WIDTH - 1, HEIGHT - 1);
	fprintf(p->out, "<text class=\"h t\" x=\"%d\" y=\"34\">Reads of ", LEFT);
	put_text(p->out, name ? name : "image");
	fprintf(p->out,
		"<tspan class=\"m\" dx=\"10\" font-size=\"12\" font-weight=\"400\">%.12s"
		"</tspan></text>\n",
		digest + (*digest == ':'));
}

/* ---- axes and cells ---- */

static void put_y_axis(const struct plot *p)
{
	uint64_t at;
	char size[SHOW_SIZE];

	for (at = 0; at <= p->y_max; at += p->y_step) {
		double y = TOP + GRID_HEIGHT - (double)at / (double)p->y_max * (double)GRID_HEIGHT;

		fprintf(p->out, "<path class=\"a\" d=\"M%d %.1fh%d\"/>", LEFT - 4, y,
			GRID_WIDTH + 4);
		fprintf(p->out,
			"<text class=\"m\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">%s</text>\n",
			LEFT - 9, y + 4, at == 0 ? "0" : show_size(at, size));
	}
	fprintf(p->out,
		"<text class=\"m\" text-anchor=\"middle\" transform=\"translate(20 %d) "
		"rotate(-90)\">"
		"place on the disk</text>\n",
		TOP + GRID_HEIGHT / 2);
}

/* All labels of the axis in one unit. */
static void put_x_label(const struct plot *p, uint64_t at, uint64_t step)
{
	if (p->by_order)
		fprintf(p->out, "%" PRIu64, at);
	else if (step >= 1000000)
		fprintf(p->out, "%" PRIu64 " s", at / 1000000);
	else if (p->x_max >= 1000000)
		fprintf(p->out, "%.1f s", (double)at / 1e6);
	else
		fprintf(p->out, "%g ms", (double)at / 1000);
}

static void put_x_axis(const struct plot *p)
{
	uint64_t step = decimal_step(p->x_max), at;

	for (at = 0; at <= p->x_max; at += step) {
		double x = LEFT + (double)at / (double)p->x_max * (double)GRID_WIDTH;

		fprintf(p->out, "<path class=\"a\" d=\"M%.1f %dV%dM%.1f %dV%d\"/>", x, TOP,
			TOP + GRID_HEIGHT, x, BARS_TOP, BOTTOM + 5);
		fprintf(p->out, "<text class=\"m\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">", x,
			BOTTOM + 20);
		put_x_label(p, at, step);
		fputs("</text>\n", p->out);
	}
	fprintf(p->out, "<text class=\"m\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">%s</text>\n",
		LEFT + GRID_WIDTH / 2, BOTTOM + 42,
		p->by_order ? "order of the reads" : "time since the first read");
}

/* The cells of one kind: a line for each run of them. */
static void put_cells(const struct plot *p, uint8_t series)
{
	unsigned row, column;
	bool begun = false;

	for (row = 0; row < ROWS; row++) {
		unsigned at = 0; /* where the pen is; 0: not in this row */

		for (column = 0; column < COLUMNS; column++) {
			unsigned begin = column;

			while (column < COLUMNS && p->grid[row][column] == series)
				column++;
			if (column == begin)
				continue;
			if (!begun)
				fprintf(p->out, "<path class=\"c%d\" d=\"", series);
			begun = true;
			if (at == 0)
				fprintf(p->out, "M%u %uh%u", begin, ROWS - 1 - row, column - begin);
			else
				fprintf(p->out, "m%u 0h%u", begin - at, column - begin);
			at = column;
		}
	}
	if (begun)
		fputs("\"/>\n", p->out);
}

static void put_grid(const struct plot *p)
{
	uint8_t series;

	/* Lines as thick as a cell is high, through the middle of it. */
	fprintf(p->out,
		"<g shape-rendering=\"crispEdges\" transform=\"translate(%d %.1f) scale(%d "
		"%d)\">\n",
		LEFT, TOP + CELL_HEIGHT / 2.0, CELL_WIDTH, CELL_HEIGHT);
	for (series = AGAIN; series > EMPTY; series--)
		put_cells(p, series);
	fputs("</g>\n", p->out);
}

/* The parts of one series in all bars. */
static void put_bar_parts(const struct plot *p, uint8_t series)
{
	double scale = (double)BARS_HEIGHT / (double)p->highest_bar;
	size_t i;

	fprintf(p->out, "<path class=\"f%d\" d=\"", series);
	for (i = 0; i < BARS; i++) {
		uint64_t below = 0;
		unsigned k;

		if (p->bars[i][series] == 0)
			continue;
		for (k = EMPTY; k < series; k++)
			below += p->bars[i][k];
		fprintf(p->out, "M%d %.1fh%dv-%.1fh-%dz", LEFT + (int)i * BAR_WIDTH,
			BOTTOM - (double)below * scale, BAR_WIDTH - 1,
			(double)p->bars[i][series] * scale, BAR_WIDTH - 1);
	}
	fputs("\"/>\n", p->out);
}

static void put_bars(const struct plot *p)
{
	char text[SHOW_SIZE];
	uint64_t rate = p->highest_bar;
	uint8_t series;

	if (rate == 0)
		return;
	if (!p->by_order)
		rate = (uint64_t)((double)rate * BARS * 1e6 / (double)p->x_max);
	fprintf(p->out, "<text class=\"m\" text-anchor=\"end\" x=\"%d\" y=\"%d\">%s%s</text>\n",
		LEFT - 9, BARS_TOP + 9, show_size(rate, text), p->by_order ? "" : "/s");
	for (series = LAYER; series < AGAIN; series++)
		put_bar_parts(p, series);
}

static void put_strip(const struct plot *p)
{
	unsigned row = 0;

	fprintf(p->out, "<rect class=\"g\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n",
		STRIP_LEFT, TOP, STRIP_WIDTH, GRID_HEIGHT);
	fputs("<g shape-rendering=\"crispEdges\">\n", p->out);
	while (row < ROWS) {
		unsigned begin = row;

		while (row < ROWS && p->strip[row] == p->strip[begin])
			row++;
		if (p->strip[begin] != EMPTY)
			fprintf(p->out,
				"<rect class=\"f%d\" x=\"%d\" y=\"%u\" width=\"%d\" "
				"height=\"%u\"/>\n",
				p->strip[begin], STRIP_LEFT, TOP + (ROWS - row) * CELL_HEIGHT,
				STRIP_WIDTH, (row - begin) * CELL_HEIGHT);
	}
	fprintf(p->out,
		"</g><text class=\"m\" text-anchor=\"middle\" x=\"%d\" y=\"%d\">layers</text>\n",
		STRIP_LEFT + STRIP_WIDTH / 2, TOP - 6);
}

/* ---- legend ---- */

static void put_entry(FILE *out, unsigned *y, int series, const char *name, const char *detail)
{
	fprintf(out, "<rect class=\"f%d\" x=\"%d\" y=\"%u\" width=\"12\" height=\"12\" rx=\"2\"/>",
		series, LEGEND_LEFT, *y);
	fprintf(out, "<text class=\"t\" x=\"%d\" y=\"%u\">", LEGEND_LEFT + 20, *y + 11);
	put_text(out, name);
	fprintf(out, "</text><text class=\"m\" x=\"%d\" y=\"%u\">", LEGEND_LEFT + 20, *y + 27);
	put_text(out, detail);
	fputs("</text>\n", out);
	*y += LEGEND_STEP;
}

static void put_layer_entry(const struct plot *p, unsigned *y, int series, const char *name,
			    const struct layer_sum *sum)
{
	char detail[2 * SHOW_SIZE + 8], read[SHOW_SIZE], visible[SHOW_SIZE];

	snprintf(detail, sizeof detail, "%s of %s", show_size(sum->read, read),
		 show_size(sum->visible, visible));
	put_entry(p->out, y, series, name, detail);
}

/* The topmost first, as they lie. */
static void put_layers(const struct plot *p, unsigned *y)
{
	struct layer_sum others = { 0 };
	size_t i, other_count = 0;
	char name[64];

	for (i = p->layer_count; i > 0; i--) {
		const struct layer_sum *sum = &p->layers[i - 1];

		if (sum->series == OTHERS) {
			others.read += sum->read;
			others.visible += sum->visible;
			other_count++;
			continue;
		}
		snprintf(name, sizeof name, "layer %zu%s", i - 1,
			 image_layer(p->image, i - 1)->is_upper ? " (writable)"
			 : i == 1				? " (bottom)"
								: "");
		put_layer_entry(p, y, sum->series, name, sum);
	}
	if (other_count > 0) {
		snprintf(name, sizeof name, "%zu other layers", other_count);
		put_layer_entry(p, y, OTHERS, name, &others);
	}
}

static bool grid_has(const struct plot *p, uint8_t series)
{
	return memchr(p->grid, series, sizeof p->grid) != NULL;
}

static void put_legend(const struct plot *p)
{
	unsigned y = TOP;
	char size[SHOW_SIZE];

	if (p->image)
		put_layers(p, &y);
	else
		put_entry(p->out, &y, LAYER, "read first", show_size(p->totals.unique_bytes, size));
	if (p->no_data > 0)
		put_entry(p->out, &y, NO_DATA, "zeroes", show_size(p->no_data, size));
	if (grid_has(p, AGAIN))
		put_entry(p->out, &y, AGAIN, "read again",
			  show_size(p->totals.read_bytes - p->totals.unique_bytes, size));
}

static void put_background(const struct plot *p, int left, int top, int width, int height)
{
	fprintf(p->out, "<rect class=\"g\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", left,
		top, width, height);
}

static void put_all(const struct plot *p, const char *name)
{
	put_head(p, name);
	put_figures(p);
	put_background(p, LEFT, TOP, GRID_WIDTH, GRID_HEIGHT);
	put_background(p, LEFT, BARS_TOP, GRID_WIDTH, BARS_HEIGHT);
	put_y_axis(p);
	put_x_axis(p);
	put_grid(p);
	put_bars(p);
	if (p->image)
		put_strip(p);
	put_legend(p);
	fputs("</svg>\n", p->out);
}

static int prepare(struct plot *p, struct err *e)
{
	int r = trace_sum_up(p->trace, p->image, &p->totals, e);

	if (r < 0)
		return r;
	choose_axes(p);
	r = find_first_reads(p, e);
	if (r == 0 && p->image)
		r = look_at_image(p, e);
	if (r == 0)
		r = walk_first_reads(p, paint_piece, e);
	if (r == 0)
		paint_repeated(p);
	find_highest_bar(p);
	return r;
}

int trace_plot(const struct trace *t, struct image *image, const char *name, char **svg, size_t *n,
	       struct err *e)
{
	struct plot *p = calloc(1, sizeof *p);
	AUTO_FREE char *text = NULL;
	int r;

	if (!p)
		return err_set(e, ENOMEM, "out of memory");
	p->trace = t;
	p->image = image;
	r = prepare(p, e);
	if (r == 0) {
		p->out = open_memstream(&text, n);
		if (p->out)
			put_all(p, name);
		if (!p->out || fclose(p->out) != 0)
			r = err_set(e, ENOMEM, "out of memory");
	}
	trace_release(&p->first);
	free(p->layers);
	free(p);
	if (r == 0)
		*svg = TAKE_PTR(text);
	return r;
}
