/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that are still to be written: see output.h. */
#include <stdlib.h>

#include "output.h"

#define CAP_MIN 1024u

/* Moved to the front when that makes room for as much as there is, so that each byte moves once. */
void
output_add(struct output *output, struct iris_str bytes)
{
	size_t need = output->len + bytes.len, cap = output->cap ? output->cap : CAP_MIN;

	if (output->start > 0 && output->start + need > cap && output->start >= output->len) {
		memcpy(output->base, output->base + output->start, output->len);
		output->start = 0;
	}
	while (cap < output->start + need)
		cap *= 2;
	if (cap != output->cap)
		output->base = iris_realloc(output->base, cap);
	output->cap = cap;
	memcpy(output->base + output->start + output->len, bytes.base, bytes.len);
	output->len = need;
}

void
output_drain(struct output *output, size_t len)
{
	output->start += len;
	output->len -= len;
	if (output->len == 0)
		output_free(output);
}

void
output_free(struct output *output)
{
	free(output->base);
	*output = (struct output){ .base = NULL };
}
