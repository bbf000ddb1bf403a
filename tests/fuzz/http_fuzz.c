/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of HTTP through the guard: heads, bodies, targets.  Oracle: what is let through has one
 * way to be read (each line once, one length), a body comes to the same content whole and in
 * pieces, and a path that was decoded goes nowhere else.
 */
#include "modules/web/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_inside(struct iris_str text, struct iris_str part)
{
	if (part.len > 0)
		IRIS_ASSERT(part.base >= text.base && part.base + part.len <= text.base + text.len);
	for (size_t i = 0; i < part.len; i++)
		IRIS_ASSERT(part.base[i] != '\r' && part.base[i] != '\n' && part.base[i]);
}

static void
check_head(struct iris_str text, const struct http_head *head)
{
	size_t lines = 0;

	check_inside(text, head->method);
	check_inside(text, head->target);
	check_inside(text, head->authority);
	for (size_t i = 0; i < text.len; i++)
		if (text.base[i] == '\n') {
			IRIS_ASSERT(i > 0 && text.base[i - 1] == '\r');
			lines++;
		}
	IRIS_ASSERT(lines == head->field_count + 2);
	for (size_t i = 0; i < head->field_count; i++) {
		check_inside(text, head->fields[i].name);
		check_inside(text, head->fields[i].value);
	}
	IRIS_ASSERT(head->length >= 0 && !(head->chunked && head->length > 0));
	IRIS_ASSERT(str_is_none(http_head_field(head, IRIS_STR("content-length"), 1)));
	IRIS_ASSERT(str_is_none(http_head_field(head, IRIS_STR("transfer-encoding"), 1)));
}

/* The content, and how many bytes the body took. */
static size_t
read_body(struct http_body *body, struct iris_str text, size_t piece, struct iris_strbuf *out)
{
	size_t at = 0, used;
	struct iris_str content;

	do {
		size_t most = text.len - at < piece ? text.len - at : piece;

		used = http_body_next(body, (struct iris_str){ text.base + at, most }, piece,
				      &content);
		IRIS_ASSERT(used <= most && content.len <= piece);
		strbuf_add(out, content);
		at += used;
	} while (used > 0);
	return at;
}

static void
check_body(struct iris_arena *arena, const struct http_head *head, struct iris_str text)
{
	struct iris_strbuf whole = STRBUF_INIT(arena), pieces = STRBUF_INIT(arena);
	struct http_body a, b;
	size_t used;

	http_body_begin(&a, head);
	http_body_begin(&b, head);
	used = read_body(&a, text, text.len + 1, &whole);
	IRIS_ASSERT(read_body(&b, text, 3, &pieces) == used);
	IRIS_ASSERT(a.state == b.state && a.left == b.left);
	IRIS_ASSERT(str_equal(strbuf_str(&whole), strbuf_str(&pieces)));
}

static void
check_target(struct iris_arena *arena, struct iris_str target)
{
	struct iris_str path;

	(void)http_query(arena, target, "v2");
	if (!http_path_decode(arena, target, &path))
		return;
	IRIS_ASSERT(path.len > 0 && path.base[0] == '/');
	IRIS_ASSERT(!memmem(path.base, path.len, "//", 2) &&
		    !memmem(path.base, path.len, "/../", 4) && !memchr(path.base, '\0', path.len));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_str text = { (const char *)data, size };
	struct iris_arena *arena = arena_new();
	size_t len = http_head_length(text);
	struct http_head *head = ARENA_NEW(arena, struct http_head);
	struct iris_str rest = { text.base + len, size - len };

	if (len > 0 && http_head_parse((struct iris_str){ text.base, len }, head) == 0) {
		check_head((struct iris_str){ text.base, len }, head);
		check_target(arena, head->target);
		check_body(arena, head, rest);
	}
	check_body(arena, &(struct http_head){ .chunked = true }, text);
	check_target(arena, text);
	arena_unref(&arena);
	return 0;
}
