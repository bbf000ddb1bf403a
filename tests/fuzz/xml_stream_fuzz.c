/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of any bytes.  Oracle: fed whole, or cut in pieces with the parser resting and ticking
 * in between, it gives the same elements and the same end; and memory stays within the limits. The
 * first byte of the input chooses the pieces.
 */
#include "xml_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "'>"

static const struct xml_limits limits = {
	.stanza_bytes = 2048,
	.token_bytes = 1024,
	.name_bytes = 64,
	.depth = 8,
	.attributes = 8,
	.nodes = 64,
};

struct outcome {
	struct iris_str events;
	const char *condition;
};

static void
drain(struct xml_parser *parser, struct iris_strbuf *transcript)
{
	struct iris_arena *arena;
	struct iris_element *element;
	enum xml_event event;

	while ((event = xml_parser_next(parser, &arena, &element)) == XML_EVENT_HEADER ||
	       event == XML_EVENT_ELEMENT) {
		strbuf_add_char(transcript, event == XML_EVENT_HEADER ? 'H' : 'E');
		element_write(transcript, element, IRIS_STR_NONE);
		arena_unref(&arena);
	}
	IRIS_ASSERT(!arena && !element);
	IRIS_ASSERT(xml_parser_memory(parser) <= 8 * limits.stanza_bytes + 64 * 1024);
}

/* The condition of the error it ended with, or NULL. */
static const char *
end(struct xml_parser *parser, struct iris_strbuf *transcript)
{
	struct iris_arena *arena;
	struct iris_element *element;
	enum xml_event event;

	xml_parser_tick(parser);
	drain(parser, transcript);
	event = xml_parser_next(parser, &arena, &element);
	if (event == XML_EVENT_CLOSED)
		strbuf_add_char(transcript, 'C');
	else if (xml_parser_is_at_boundary(parser))
		strbuf_add_char(transcript, 'B');
	return event == XML_EVENT_ERROR ? xml_parser_error(parser).condition : NULL;
}

static struct outcome
run(struct iris_arena *arena, struct iris_str input, unsigned seed)
{
	struct iris_strbuf transcript = STRBUF_INIT(arena);
	struct xml_parser *parser = xml_parser_new(&limits);
	struct outcome outcome;
	size_t at = 0;

	if (seed & 1)
		xml_parser_feed(parser, IRIS_STR(HEADER));
	drain(parser, &transcript);
	while (at < input.len) {
		size_t len = seed < 2 ? input.len
				      : 1 + (seed = seed * 1103515245u + 12345u) / 65536u % 32;

		if (len > input.len - at)
			len = input.len - at;
		xml_parser_feed(parser, (struct iris_str){ input.base + at, len });
		at += len;
		if (seed >= 2 && (seed & 0x10000))
			continue; /* fed again before anything was fetched */
		drain(parser, &transcript);
		if (seed >= 2 && (seed & 0x20000))
			xml_parser_rest(parser);
		if (seed >= 2 && (seed & 0x40000))
			xml_parser_tick(parser);
	}
	/* So that nothing is put off any more because the last piece gave no reason to look. */
	xml_parser_feed(parser, IRIS_STR(">"));
	drain(parser, &transcript);
	outcome.condition = end(parser, &transcript);
	outcome.events = strbuf_str(&transcript);
	xml_parser_free(&parser);
	return outcome;
}

static bool
is_limited(const struct outcome *outcome)
{
	return outcome->condition && strcmp(outcome->condition, "policy-violation") == 0;
}

/*
 * When two faults lie close together, it depends on the pieces which is seen first; when one of
 * them is a limit, the other may lie behind further elements.
 */
static bool
outcomes_agree(struct outcome a, struct outcome b)
{
	if (is_limited(&a) || is_limited(&b))
		a.events.len = b.events.len = a.events.len < b.events.len ? a.events.len
									  : b.events.len;
	else if ((a.condition == NULL) != (b.condition == NULL))
		return false;
	return str_equal(a.events, b.events);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_arena *arena;
	struct iris_str input;
	struct outcome whole, cut;

	if (size < 1 || size > 16384)
		return 0;
	input = (struct iris_str){ (const char *)data + 1, size - 1 };
	arena = arena_new();
	whole = run(arena, input, data[0] & 1);
	cut = run(arena, input, data[0] | 2u);
	IRIS_ASSERT(outcomes_agree(whole, cut));
	arena_unref(&arena);
	return 0;
}
