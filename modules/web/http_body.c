/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a body ends (RFC 9112 §6, §7.1), and what a target asks for (RFC 3986).  Pure functions
 * over bytes; any thread.  It keeps nothing: content goes to whoever asks, at his pace.
 */
#include "http_head.h"

#define CHUNK_LINE_MAX 256u /* SECURITY: extensions that never end */
#define CHUNK_DIGITS_MAX 12u

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* --- bodies --- */

void
http_body_begin(struct http_body *body, const struct http_head *head)
{
	*body = (struct http_body){ .state = HTTP_BODY_LENGTH, .left = (uint64_t)head->length };
	if (head->chunked)
		body->state = HTTP_CHUNK_SIZE;
	else if (head->length == 0)
		body->state = HTTP_BODY_DONE;
}

static enum http_body_state
expect(char c, char wanted, enum http_body_state next)
{
	return c == wanted ? next : HTTP_BODY_MALFORMED;
}

/* RFC 9112 §7.1: the digits of a chunk's size. */
static enum http_body_state
chunk_size(struct http_body *body, char c)
{
	int digit = hex_value(c);

	if (digit >= 0) {
		if (++body->line > CHUNK_DIGITS_MAX)
			return HTTP_BODY_MALFORMED;
		body->left = body->left << 4 | (unsigned)digit;
		return HTTP_CHUNK_SIZE;
	}
	if (body->line == 0)
		return HTTP_BODY_MALFORMED;
	return c == ';' ? HTTP_CHUNK_EXTENSION : expect(c, '\r', HTTP_CHUNK_SIZE_LF);
}

static enum http_body_state
chunk_extension(struct http_body *body, char c)
{
	if (c == '\r')
		return HTTP_CHUNK_SIZE_LF;
	if (++body->line > CHUNK_LINE_MAX || ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
		return HTTP_BODY_MALFORMED;
	return HTTP_CHUNK_EXTENSION;
}

/* One byte that is not content. */
static enum http_body_state
body_step(struct http_body *body, char c)
{
	switch (body->state) {
	case HTTP_CHUNK_SIZE: return chunk_size(body, c);
	case HTTP_CHUNK_EXTENSION: return chunk_extension(body, c);
	case HTTP_CHUNK_SIZE_LF:
		body->line = 0;
		/* The last one; SECURITY: trailers would be fields that nobody judged. */
		return expect(c, '\n', body->left > 0 ? HTTP_CHUNK_DATA : HTTP_BODY_END_CR);
	case HTTP_CHUNK_DATA_CR: return expect(c, '\r', HTTP_CHUNK_DATA_LF);
	case HTTP_CHUNK_DATA_LF: return expect(c, '\n', HTTP_CHUNK_SIZE);
	case HTTP_BODY_END_CR: return expect(c, '\r', HTTP_BODY_END_LF);
	case HTTP_BODY_END_LF: return expect(c, '\n', HTTP_BODY_DONE);
	default: return HTTP_BODY_MALFORMED;
	}
}

static bool
body_is_content(const struct http_body *body)
{
	return body->state == HTTP_BODY_LENGTH || body->state == HTTP_CHUNK_DATA;
}

size_t
http_body_next(struct http_body *body, struct iris_str bytes, size_t room,
	       struct iris_str *content_r)
{
	size_t used = 0;

	*content_r = IRIS_STR_NONE;
	while (used < bytes.len && body->state < HTTP_BODY_DONE && !body_is_content(body))
		body->state = body_step(body, bytes.base[used++]);
	if (!body_is_content(body) || used == bytes.len)
		return used;
	content_r->base = bytes.base + used;
	content_r->len = bytes.len - used < room ? bytes.len - used : room;
	if (content_r->len > body->left)
		content_r->len = (size_t)body->left;
	body->left -= content_r->len;
	if (body->left == 0)
		body->state = body->state == HTTP_BODY_LENGTH ? HTTP_BODY_DONE : HTTP_CHUNK_DATA_CR;
	return used + content_r->len;
}

/* --- targets --- */

/* Decodes "%41"; false: malformed. Plus signs stay: they are blanks in forms only. */
static bool
percent_decode(struct iris_arena *arena, struct iris_str text, bool is_path,
	       struct iris_str *decoded_r)
{
	char *out = arena_alloc(arena, text.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.base[i];

		if (c == '%') {
			int high = i + 2 < text.len ? hex_value(text.base[i + 1]) : -1;
			int low = i + 2 < text.len ? hex_value(text.base[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
			if (c == '/' && is_path)
				return false;
		}
		if ((unsigned char)c < 0x20 || c == 0x7f || (c == '\\' && is_path))
			return false;
		out[len++] = c;
	}
	*decoded_r = (struct iris_str){ out, len };
	return true;
}

/* The segment from `at` up to the next '/'. */
static struct iris_str
segment_at(struct iris_str path, size_t at)
{
	const char *slash = memchr(path.base + at, '/', path.len - at);

	return (struct iris_str){ path.base + at,
				  slash ? (size_t)(slash - path.base) - at : path.len - at };
}

bool
http_path_decode(struct iris_arena *arena, struct iris_str target, struct iris_str *path_r)
{
	const char *mark = memchr(target.base, '?', target.len);
	struct iris_str raw = { target.base, mark ? (size_t)(mark - target.base) : target.len };

	if (raw.len == 0 || raw.base[0] != '/' || !percent_decode(arena, raw, true, path_r))
		return false;
	for (size_t at = 1; at < path_r->len;) {
		struct iris_str segment = segment_at(*path_r, at);

		if (segment.len == 0 || str_is(segment, ".") || str_is(segment, ".."))
			return false;
		at += segment.len + 1;
	}
	return true;
}

struct iris_str
http_query(struct iris_arena *arena, struct iris_str target, const char *name)
{
	const char *mark = memchr(target.base, '?', target.len);
	struct iris_str rest = IRIS_STR_NONE, decoded;
	size_t name_len = strlen(name);

	if (mark)
		rest = (struct iris_str){ mark + 1, target.len - (size_t)(mark - target.base) - 1 };
	while (rest.len > 0) {
		const char *end = memchr(rest.base, '&', rest.len);
		size_t len = end ? (size_t)(end - rest.base) : rest.len;

		if (len >= name_len && memcmp(rest.base, name, name_len) == 0 &&
		    (len == name_len || rest.base[name_len] == '=')) {
			size_t skip = len == name_len ? len : name_len + 1;
			struct iris_str value = { rest.base + skip, len - skip };

			return percent_decode(arena, value, false, &decoded) ? decoded :
									       IRIS_STR_NONE;
		}
		len += end != NULL;
		rest = (struct iris_str){ rest.base + len, rest.len - len };
	}
	return IRIS_STR_NONE;
}
