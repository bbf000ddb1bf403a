/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of a stream: the queue of what was found, the engines that come and go below it, and
 * whole documents.  The thread of its stream.  See xml_parser.h
 * for the model, xml_engine.c for the XML.
 */
#include <stdlib.h>

#include "xml_engine.h"

/* Positions within one call into expat are int, and limits are looked at between two slices. */
#define SLICE ((size_t)16 * 1024)

struct xml_parser {
	struct xml_stream stream;
	struct xml_engine *engine;
	char *backlog; /* what was fed while the queue was full */
	size_t backlog_len, backlog_at;
};

const struct xml_limits xml_limits_unauthenticated = {
	.stanza_bytes = 16 * 1024, .token_bytes = 16 * 1024, .name_bytes = 256, .depth = 16,
	.attributes = 32, .nodes = 512,
};

const struct xml_limits xml_limits_authenticated = {
	.stanza_bytes = 256 * 1024, .token_bytes = 64 * 1024, .name_bytes = 1024,
	.depth = STANZA_DEPTH_MAX, .attributes = 128, .nodes = 16 * 1024,
};

/*
 * The bytes in front of the first tag. Whitespace may be left over from before a restart.
 * RFC 6120 §11.6: a byte order mark is a character like others, so it may not stand there.
 */
static struct iris_str
begin(struct xml_stream *stream, struct iris_str bytes)
{
	unsigned char first;

	while (bytes.len > 0 && memchr(" \t\r\n", bytes.base[0], 4)) {
		bytes.base++;
		bytes.len--;
	}
	first = bytes.len > 0 ? (unsigned char)bytes.base[0] : '<';
	if (first == 0xfe || first == 0xff || first == 0x00)
		xml_stream_fail(stream, "unsupported-encoding", "UTF-8 only");
	else if (first != '<')
		xml_stream_fail(stream, "not-well-formed", "text before the first tag");
	return bytes;
}

static bool
is_over(const struct xml_parser *parser)
{
	return parser->stream.closed || parser->stream.error.condition != NULL;
}

/* Gives one slice to the engine, which begins with the first tag; returns what was used of it. */
static size_t
feed_slice(struct xml_parser *parser, struct iris_str slice)
{
	struct iris_str bytes = slice;
	size_t skipped, used;

	if (!parser->engine && str_is_none(parser->stream.header))
		bytes = begin(&parser->stream, slice);
	if (bytes.len == 0 || is_over(parser))
		return slice.len;
	skipped = slice.len - bytes.len;
	if (!parser->engine)
		parser->engine = xml_engine_new(&parser->stream);
	used = xml_engine_feed(parser->engine, bytes);
	if (used < bytes.len || is_over(parser) ||
	    (xml_engine_is_large(parser->engine) && xml_engine_is_at_boundary(parser->engine)))
		xml_engine_free(&parser->engine);
	return skipped + used;
}

/* Feeds until all is used or a batch is queued; returns what was used. */
static size_t
feed_batch(struct xml_parser *parser, struct iris_str bytes)
{
	size_t used = 0;

	while (used < bytes.len && !is_over(parser)) {
		size_t len = bytes.len - used < SLICE ? bytes.len - used : SLICE;
		size_t taken = feed_slice(parser, (struct iris_str){ bytes.base + used, len });

		used += taken;
		if (taken < len && parser->stream.count >= XML_BATCH)
			return used;
	}
	return bytes.len;
}

static void
backlog_keep(struct xml_parser *parser, struct iris_str bytes)
{
	size_t left = parser->backlog_len - parser->backlog_at;
	char *fresh;

	if (bytes.len == 0)
		return;
	fresh = iris_malloc(left + bytes.len);
	if (left > 0)
		memcpy(fresh, parser->backlog + parser->backlog_at, left);
	memcpy(fresh + left, bytes.base, bytes.len);
	free(parser->backlog);
	parser->backlog = fresh;
	parser->backlog_len = left + bytes.len;
	parser->backlog_at = 0;
}

static void
backlog_drop(struct xml_parser *parser)
{
	free(parser->backlog);
	parser->backlog = NULL;
	parser->backlog_len = parser->backlog_at = 0;
}

static void
backlog_feed(struct xml_parser *parser)
{
	struct iris_str bytes = { parser->backlog + parser->backlog_at,
		parser->backlog_len - parser->backlog_at };

	parser->backlog_at += feed_batch(parser, bytes);
	if (parser->backlog_at == parser->backlog_len)
		backlog_drop(parser);
}

static struct xml_item *
queue_take(struct xml_stream *stream)
{
	struct xml_item *item = stream->first;

	if (!item)
		return NULL;
	stream->first = item->next;
	if (!stream->first)
		stream->last = NULL;
	stream->count--;
	return item;
}

static void
queue_drop(struct xml_stream *stream)
{
	for (struct xml_item *item = queue_take(stream); item; item = queue_take(stream)) {
		struct iris_arena *arena = item->arena; /* the item lies in it */

		arena_unref(&arena);
	}
}

struct xml_parser *
xml_parser_new(const struct xml_limits *limits)
{
	struct xml_parser *parser = iris_calloc(1, sizeof(*parser));

	xml_parser_set_limits(parser, limits);
	return parser;
}

void
xml_parser_free(struct xml_parser **parser_p)
{
	if (!*parser_p)
		return;
	xml_parser_restart(*parser_p);
	free(*parser_p);
	*parser_p = NULL;
}

void
xml_parser_set_limits(struct xml_parser *parser, const struct xml_limits *limits)
{
	IRIS_ASSERT(limits->depth > 0 && limits->depth <= STANZA_DEPTH_MAX);
	parser->stream.limits = *limits;
}

void
xml_parser_restart(struct xml_parser *parser)
{
	struct xml_limits limits = parser->stream.limits;

	xml_engine_free(&parser->engine);
	queue_drop(&parser->stream);
	backlog_drop(parser);
	free(parser->stream.header_memory);
	parser->stream = (struct xml_stream){ .limits = limits };
}

void
xml_parser_feed(struct xml_parser *parser, struct iris_str bytes)
{
	size_t used = 0;

	if (is_over(parser))
		return;
	if (!parser->backlog)
		used = feed_batch(parser, bytes);
	backlog_keep(parser, (struct iris_str){ bytes.base + used, bytes.len - used });
}

enum xml_event
xml_parser_next(struct xml_parser *parser, struct iris_arena **arena_r,
		struct iris_element **element_r)
{
	struct xml_item *item;

	*arena_r = NULL;
	*element_r = NULL;
	if (!parser->stream.first && parser->backlog)
		backlog_feed(parser);
	item = queue_take(&parser->stream);
	if (item) {
		*arena_r = item->arena;
		*element_r = item->element;
		return item->event;
	}
	if (parser->stream.error.condition)
		return XML_EVENT_ERROR;
	return parser->stream.closed ? XML_EVENT_CLOSED : XML_EVENT_NONE;
}

struct xml_error
xml_parser_error(const struct xml_parser *parser)
{
	return parser->stream.error;
}

struct iris_str
xml_parser_content_ns(const struct xml_parser *parser)
{
	return parser->stream.content_ns;
}

bool
xml_parser_is_at_boundary(const struct xml_parser *parser)
{
	return !parser->stream.first && !parser->backlog && !is_over(parser) &&
	       (!parser->engine || xml_engine_is_at_boundary(parser->engine));
}

void
xml_parser_rest(struct xml_parser *parser)
{
	if (parser->engine && xml_engine_is_at_boundary(parser->engine))
		xml_engine_free(&parser->engine);
}

bool
xml_parser_wants_tick(const struct xml_parser *parser)
{
	return parser->engine && xml_engine_wants_tick(parser->engine);
}

void
xml_parser_tick(struct xml_parser *parser)
{
	if (!parser->engine)
		return;
	xml_engine_tick(parser->engine);
	if (is_over(parser))
		xml_engine_free(&parser->engine);
}

size_t
xml_parser_memory(const struct xml_parser *parser)
{
	return parser->engine ? xml_engine_memory(parser->engine) : 0;
}

struct iris_element *
xml_parse_document(struct iris_arena *arena, struct iris_str xml, const struct xml_limits *limits,
		   struct xml_error *error_r)
{
	struct xml_stream stream = { .limits = *limits, .document = arena };
	struct xml_engine *engine;

	xml = begin(&stream, xml);
	if (xml.len > limits->stanza_bytes)
		xml_stream_fail(&stream, "policy-violation", "the element is too large");
	engine = xml_engine_new(&stream);
	for (size_t at = 0; at < xml.len && !stream.error.condition; at += SLICE) {
		size_t len = xml.len - at < SLICE ? xml.len - at : SLICE;

		xml_engine_feed(engine, (struct iris_str){ xml.base + at, len });
	}
	if (!stream.error.condition)
		xml_engine_finish(engine);
	xml_engine_free(&engine);
	if (error_r)
		*error_r = stream.error;
	return stream.error.condition ? NULL : stream.root;
}

struct iris_element *
element_parse(struct iris_arena *arena, struct iris_str xml)
{
	return xml_parse_document(arena, xml, &xml_limits_authenticated, NULL);
}
