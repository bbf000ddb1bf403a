/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One expat parser and the tree it is building: the part of xml_parser.c that comes and goes.
 * What must outlive it is in struct xml_stream, which the parser owns and the engine fills.
 */
#ifndef IRIS_XML_ENGINE_H
#define IRIS_XML_ENGINE_H

#include "xml_parser.h"

#define XML_BATCH 64 /* elements queued. SECURITY: 16 KiB of "<a/>" would be 4000 arenas at once */

/* Stands in the arena of its element. */
struct xml_item {
	struct xml_item *next;
	enum xml_event event;
	struct iris_arena *arena;
	struct iris_element *element;
};

struct xml_stream {
	struct xml_limits limits;
	struct iris_str header; /* to be replayed into the next engine; none before it was read */
	struct iris_str content_ns; /* its default namespace */
	bool maps_content_ns;       /* ... is another name for jabber:client */
	char *header_memory;        /* holds both, unless they are static */
	struct xml_item *first, *last;
	unsigned count;
	bool closed;
	struct xml_error error;      /* condition NULL: none */
	struct iris_arena *document; /* where the tree goes, when it is no stream at all */
	struct iris_element *root;   /* the document's, when complete */
};

struct xml_engine;

struct xml_engine *xml_engine_new(struct xml_stream *stream);
void xml_engine_free(struct xml_engine **engine_p);
/*
 * Returns how many bytes were used. Fewer than given: the engine stands at a boundary and must be
 * replaced, because it grew too large or enough is queued.
 */
size_t xml_engine_feed(struct xml_engine *engine, struct iris_str bytes);
void xml_engine_finish(struct xml_engine *engine); /* the end of a document */
bool xml_engine_is_at_boundary(const struct xml_engine *engine);
/* Worth replacing at the next boundary. */
bool xml_engine_is_large(const struct xml_engine *engine);
bool xml_engine_wants_tick(const struct xml_engine *engine);
void xml_engine_tick(struct xml_engine *engine);
size_t xml_engine_memory(const struct xml_engine *engine);

/* The first fault counts. Both are literals. */
void xml_stream_fail(struct xml_stream *stream, const char *condition, const char *text);

#endif
