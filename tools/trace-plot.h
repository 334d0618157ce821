/* SPDX-License-Identifier: Apache-2.0 */
/* trace-plot.h - a trace as a picture: time across, the disk upwards, a colour for each layer.
 *
 * The picture is an SVG without scripts or anything from elsewhere, for light and dark pages. Reads
 * are drawn as cells of a grid, so that its size has a limit: about 200 KiB. */
#ifndef OVERLAYBD_TOOLS_TRACE_PLOT_H
#define OVERLAYBD_TOOLS_TRACE_PLOT_H

#include "core/image.h"
#include "prefetch/trace.h"

/* The text of the picture, which the caller frees; *n bytes and a NUL.  `name` is what the title
 * calls the image, NULL: its identity.  `image` is that of the trace, NULL: not known, all reads
 * have one colour.  A trace without times is drawn by the order of its reads.  Errors: ENOMEM;
 * EINVAL: the trace does not fit the image. */
int trace_plot(const struct trace *t, struct image *image, const char *name, char **svg, size_t *n,
	       struct err *e);

#endif
