/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of streams (RFC 6120 §11): bytes in, finished elements out.  Nothing is called back:
 * what was found is queued and fetched with xml_parser_next() after the bytes were fed, so that
 * whoever handles a stanza may wait, and may free the parser.
 *
 * A struct xml_parser lives as long as its stream and is small.  The memory of expat comes with
 * the first byte and goes with xml_parser_rest(), which the stream calls at the end of a turn:
 * what a later parser must know of the stream header is kept and replayed.
 *
 * In the tree stanzas are always in jabber:client: the content namespace of a component's or a
 * server's stream is mapped to it.
 *
 * One thread at a time; it may move to another worker between two calls.
 */
#ifndef IRIS_XML_PARSER_H
#define IRIS_XML_PARSER_H

#include "iris/stanza.h"

/* What a peer may make us keep. Passing one ends the stream with policy-violation. */
struct xml_limits {
	size_t stanza_bytes; /* of one element, counted over what was read for it */
	size_t token_bytes;  /* of one tag, comment or reference; also bounds the stream header */
	size_t name_bytes;   /* of a name, a prefix or a namespace */
	unsigned depth;      /* at most STANZA_DEPTH_MAX */
	unsigned attributes; /* of one element, namespace declarations included */
	unsigned nodes;      /* elements, texts and attributes of one element together */
};

extern const struct xml_limits xml_limits_unauthenticated; /* 16 KiB, 16 deep */
extern const struct xml_limits xml_limits_authenticated;   /* 256 KiB, STANZA_DEPTH_MAX deep */

enum xml_event {
	XML_EVENT_NONE,    /* more bytes are needed */
	XML_EVENT_HEADER,  /* the stream's opening tag, an element without children */
	XML_EVENT_ELEMENT, /* a complete element */
	XML_EVENT_CLOSED,  /* the stream's closing tag; nothing follows, what is fed is ignored */
	XML_EVENT_ERROR,   /* the stream must end; see xml_parser_error(); nothing follows */
};

/* The peer's fault, as the stream error to send. Both are literals. */
struct xml_error {
	const char *condition; /* RFC 6120 §4.9.3 */
	const char *text;
};

struct xml_parser;

struct xml_parser *xml_parser_new(const struct xml_limits *limits); /* the limits are copied */
void xml_parser_free(struct xml_parser **parser_p);
void xml_parser_set_limits(struct xml_parser *parser, const struct xml_limits *limits);
/* Forgets all that was read, queued elements too: a new header comes (after TLS, SASL). */
void xml_parser_restart(struct xml_parser *parser);

/*
 * The bytes are used up when it returns.  Whoever feeds fetches all events, and handles them,
 * before he reads more from the peer: of many tiny stanzas only a batch is made into trees at a
 * time.
 */
void xml_parser_feed(struct xml_parser *parser, struct iris_str bytes);
/*
 * With HEADER and ELEMENT the caller gets the tree and one reference to the arena it lies in (and
 * nothing else does); otherwise both are NULL.
 */
enum xml_event xml_parser_next(struct xml_parser *parser, struct iris_arena **arena_r,
			       struct iris_element **element_r);
struct xml_error xml_parser_error(const struct xml_parser *parser);

/* The default namespace declared by the header ("jabber:client"); none before the header. */
struct iris_str xml_parser_content_ns(const struct xml_parser *parser);

/*
 * All that was fed has been fetched, and ends with a complete element (or before a header).
 * SECURITY: false after <starttls/> means that something was smuggled in behind it in the clear.
 */
bool xml_parser_is_at_boundary(const struct xml_parser *parser);
/* The end of a turn: gives expat's memory back if it is at a boundary. */
void xml_parser_rest(struct xml_parser *parser);

/*
 * Rarely, whether a tag is complete is not looked at with each read (SECURITY: a tag of many '>'
 * sent byte by byte would cost quadratic time).  Then wants_tick is true, and xml_parser_tick()
 * must be called 50 ms later; events may follow from it.
 */
bool xml_parser_wants_tick(const struct xml_parser *parser);
void xml_parser_tick(struct xml_parser *parser);

/* Bytes of expat's memory, for tests and metrics. */
size_t xml_parser_memory(const struct xml_parser *parser);

/*
 * A whole document that is no stream, such as a frame of RFC 7395.  The tree is in `arena`.
 * NULL: *error_r (may be NULL) says why.
 */
struct iris_element *xml_parse_document(struct iris_arena *arena, struct iris_str xml,
					const struct xml_limits *limits, struct xml_error *error_r);

#endif
