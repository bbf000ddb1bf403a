/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzzer's input, taken byte by byte to choose things with; at its end all choices are the
 * first.
 */
#ifndef TESTS_FUZZ_BYTES_H
#define TESTS_FUZZ_BYTES_H

#include "iris/stanza.h"

struct bytes {
	const uint8_t *at, *end;
};

static inline uint8_t
bytes_take(struct bytes *bytes)
{
	return bytes->at < bytes->end ? *bytes->at++ : 0;
}

static inline size_t
bytes_choose(struct bytes *bytes, size_t count)
{
	return bytes_take(bytes) % count;
}

/* Up to 31 bytes of the input as they are, escaped for an attribute or a text. */
static inline void
bytes_add_text(struct bytes *bytes, struct iris_strbuf *out)
{
	size_t len = bytes_take(bytes) & 31;
	char text[32];

	for (size_t i = 0; i < len; i++) {
		uint8_t byte = bytes_take(bytes);

		/* What no XML document may hold is the parser's fuzzer's. */
		text[i] = byte < ' ' || byte > '~' ? ' ' : (char)byte;
	}
	xml_escape(out, (struct iris_str){ text, len });
}

#endif
