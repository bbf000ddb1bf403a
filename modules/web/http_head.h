/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: what a request of HTTP/1.1 says about itself, read strictly (RFC 9112), and where its
 * body ends.  Pure functions over bytes; any thread.
 *
 * SECURITY: request smuggling lives on two programs that read one message differently. So whatever
 * the RFC lets a recipient repair is refused here: a bare LF or CR, a folded line, a blank before
 * the colon, two lengths, a length and a transfer coding, a coding other than "chunked", trailers.
 * (That is why this is no library; README.md has what Debian's libraries let through.)
 */
#ifndef WEB_HTTP_HEAD_H
#define WEB_HTTP_HEAD_H

#include "iris/arena.h"

#define HTTP_FIELDS_MAX 64

struct http_field {
	struct iris_str name, value; /* without the blanks around it */
};

/* Borrows from the text it was read from. */
struct http_head {
	struct iris_str method;
	struct iris_str target;    /* from the first '/', query included; or "*" */
	struct iris_str authority; /* of Host, or of an absolute target; none in HTTP/1.0 */
	bool is_1_0;
	bool close;                /* no other request follows on this connection */
	bool expects_continue;
	bool upgrades;             /* Connection names Upgrade */
	bool chunked;
	int64_t length;            /* of the body; 0 when chunked */
	size_t field_count;
	struct http_field fields[HTTP_FIELDS_MAX];
};

/* How long the head is that begins the text, its empty line included; 0: not complete yet. */
size_t http_head_length(struct iris_str text);
/* Of a complete head; 0, or the status of the answer, after which the connection must end. */
unsigned http_head_parse(struct iris_str text, struct http_head *head_r);
/* The i-th value of this name, in any case; none: no further one. */
struct iris_str http_head_field(const struct http_head *head, struct iris_str name, size_t i);
/* Is the token in this list (RFC 9110 §5.6.1)? In any case. */
bool http_list_has(struct iris_str list, const char *token);
/* The same letters, in any case. */
bool http_equal(struct iris_str a, struct iris_str b);

/* --- bodies --- */

enum http_body_state {
	HTTP_BODY_LENGTH, /* `left` more bytes */
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_EXTENSION,
	HTTP_CHUNK_SIZE_LF,
	HTTP_CHUNK_DATA, /* `left` more bytes */
	HTTP_CHUNK_DATA_CR,
	HTTP_CHUNK_DATA_LF,
	HTTP_BODY_END_CR,
	HTTP_BODY_END_LF,
	HTTP_BODY_DONE,
	HTTP_BODY_MALFORMED,
};

struct http_body {
	enum http_body_state state;
	unsigned line;  /* bytes of the line that is being read */
	uint64_t left;
};

void http_body_begin(struct http_body *body, const struct http_head *head);
/*
 * Reads on: returns how many bytes were used; *content_r are those of them that belong to the
 * body, at most `room`. Nothing is used when nothing can be: no room, done, malformed.
 */
size_t http_body_next(struct http_body *body, struct iris_str bytes, size_t room,
		      struct iris_str *content_r);

/* --- paths --- */

/*
 * The path of a target, decoded once; false: it is none that may be asked for. SECURITY: no "." or
 * ".." segment, no empty one in the middle, no encoded '/', no backslash, no control character.
 */
IRIS_MUST_CHECK bool http_path_decode(struct iris_arena *arena, struct iris_str target,
				      struct iris_str *path_r);
/* The first value of this name in the query of a target, decoded; none: not there. */
struct iris_str http_query(struct iris_arena *arena, struct iris_str target, const char *name);

#endif
