/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one stanza: allocations live until the arena goes, in one piece.  Reference
 * counted (atomically), because a stanza may be delivered on several workers; allocating is
 * for one thread at a time, the one that builds.
 */
#ifndef IRIS_ARENA_H
#define IRIS_ARENA_H

#include <stdarg.h>

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_arena;

struct iris_arena *arena_new(void);                       /* one reference */
/*
 * For what is kept for long: no larger than it must be when `size` bytes are enough (arena_used).
 */
struct iris_arena *arena_new_sized(size_t size);
struct iris_arena *arena_ref(struct iris_arena *arena);   /* any thread; returns arena */
void arena_unref(struct iris_arena **arena_p);            /* any thread; nulls, accepts NULL */

/* Zeroed, aligned for any type, never NULL. size 0 is allowed. */
void *arena_alloc(struct iris_arena *arena, size_t size);
#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))

/* Copies; the result is NUL-terminated behind its length. None stays none. */
struct iris_str arena_copy_str(struct iris_arena *arena, struct iris_str s);
struct iris_str arena_printf(struct iris_arena *arena, const char *fmt, ...) IRIS_PRINTF(2, 3);
struct iris_str arena_vprintf(struct iris_arena *arena, const char *fmt, va_list args)
	IRIS_PRINTF(2, 0);

/* Bytes taken from the system for it, overhead included: for the limits of queues. */
size_t arena_size(const struct iris_arena *arena);
/* Bytes handed out: what an arena needs that is filled in the same way. */
size_t arena_used(const struct iris_arena *arena);

/*
 * A growing string in an arena, for serialisers.  `strbuf_str` borrows what is there.
 */
struct iris_strbuf {
	struct iris_arena *arena;
	char *base;
	size_t len, cap;
};

#define STRBUF_INIT(a) ((struct iris_strbuf){ .arena = (a) })
void strbuf_add(struct iris_strbuf *buf, struct iris_str s);
void strbuf_add_char(struct iris_strbuf *buf, char c);
void strbuf_printf(struct iris_strbuf *buf, const char *fmt, ...) IRIS_PRINTF(2, 3);
struct iris_str strbuf_str(struct iris_strbuf *buf); /* NUL-terminated behind its length */

#pragma GCC visibility pop
#endif
