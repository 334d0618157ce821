/* SPDX-License-Identifier: Apache-2.0 */
/* layer-output.c - writing a layer as the options say, see layer-output.h. */
#include "tools/layer-output.h"

#include <errno.h>
#include <string.h>

#include "tools/args.h"

int layer_output_parse(const struct tool_args *args, struct output_form *form, struct err *e)
{
	static const struct {
		int option;
		const char *name;
	} uuids[] = { { LAYER_UUID, "uuid" }, { LAYER_PARENT_UUID, "parent-uuid" } };
	const char *message = args->values[LAYER_MESSAGE];
	size_t i;

	if (args_need(args->values[LAYER_OUTPUT], "output", e) < 0)
		return TOOL_USAGE;
	for (i = 0; i < sizeof uuids / sizeof uuids[0]; i++) {
		const char *uuid = args->values[uuids[i].option];

		if (uuid && !format_is_uuid(uuid)) {
			err_set(e, EINVAL, "--%s: '%s' is not a uuid", uuids[i].name, uuid);
			return TOOL_USAGE;
		}
	}
	if (message && strlen(message) > FORMAT_TAG) {
		err_set(e, EINVAL, "the message has %zu bytes, more than %d", strlen(message),
			FORMAT_TAG);
		return TOOL_USAGE;
	}
	if (output_parse(args->values[LAYER_COMPRESS], args->values[LAYER_BLOCK_SIZE],
			 args->values[LAYER_LEVEL], form, e) < 0)
		return TOOL_USAGE;
	form->tar = args->values[LAYER_TAR] != NULL;
	return 0;
}

static void set_header(const struct tool_args *args, const struct layer_job *job,
		       struct layer_writer_options *header)
{
	*header = (struct layer_writer_options){
		.virtual_size = job->virtual_size,
		.uuid = args->values[LAYER_UUID],
		.parent_uuid = args->values[LAYER_PARENT_UUID],
		.message = args->values[LAYER_MESSAGE],
		.name = args->values[LAYER_OUTPUT],
	};
	/* Readers take any text for a uuid, writers should not pass it on. */
	if (!header->parent_uuid && job->parent_uuid && format_is_uuid(job->parent_uuid))
		header->parent_uuid = job->parent_uuid;
}

int layer_output_write(const struct tool_args *args, const struct output_form *form,
		       const struct layer_job *job, uint64_t *file_size, struct err *e)
{
	struct layer_writer_options header;
	struct layer_writer *writer;
	struct output out;
	int r = output_open(args->values[LAYER_OUTPUT], form, &out, e);

	if (r != 0)
		return r;
	set_header(args, job, &header);
	r = layer_writer_open(out.top, &header, &writer, e);
	if (r == 0) {
		out.top = NULL; /* the writer's now */
		r = job->write(job->arg, writer, out.pool, e);
		if (r == 0)
			r = layer_writer_finish(writer, e);
		*file_size = out.file->written;
		layer_writer_close(writer);
	}
	output_close(&out);
	return r;
}
