/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that are still to be written, in one piece, since TLS takes one piece for a record.  There
 * is no memory while there is nothing.  Zero-initialised; belongs to whoever embeds it.
 */
#ifndef IRIS_OUTPUT_H
#define IRIS_OUTPUT_H

#include "iris/base.h"

struct output {
	char *base;
	size_t start, len, cap;
};

static inline const char *
output_bytes(const struct output *output) /* `len` of them */
{
	return output->base + output->start;
}

void output_add(struct output *output, struct iris_str bytes);
void output_drain(struct output *output, size_t len); /* those in front are written */
void output_free(struct output *output);

#endif
