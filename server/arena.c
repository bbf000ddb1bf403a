/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one stanza.  All memory of an arena is zero until it is handed out, so allocating is
 * to move a pointer; the price is paid once, when a first chunk comes back and the used part of
 * it is cleared.  First chunks are kept per thread, because every stanza needs one.
 * Building is for one thread at a time, references for any.  Frees nothing early.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "iris/arena.h"
#include "sanitizers.h"

#define ALIGNMENT _Alignof(max_align_t)
#define GAP (SAN_ADDRESS ? ALIGNMENT : 0) /* so that running over the end is seen */
#define FIRST_SIZE (2048u - 16u) /* with malloc's own word it stays within 2 KiB */
#define CHUNK_MAX (64u * 1024u)
#define CACHE_LIMIT 64u

struct chunk {
	struct chunk *next;
	size_t size; /* of the block from malloc */
};

/* Stands at the start of its own first chunk. */
struct iris_arena {
	struct chunk *chunks; /* all but the first */
	char *free, *end;     /* of the current chunk */
	char *first_free;     /* where the first chunk was left; NULL while it is the current one */
	size_t size;
	size_t next_size;
	uint32_t first_size;
	_Atomic uint32_t refs;
};

struct cache {
	struct chunk *list; /* cleared but for the link itself */
	unsigned count;
	bool registered;
};

static _Thread_local struct cache cache;
static pthread_key_t cache_key;

#define HEAD_SIZE(type) ((sizeof(type) + ALIGNMENT - 1) & ~(ALIGNMENT - 1))

static void
cache_empty(void *arg)
{
	struct cache *mine = arg;

	while (mine->list) {
		struct chunk *chunk = mine->list;

		mine->list = chunk->next;
		ASAN_UNPOISON_MEMORY_REGION(chunk, FIRST_SIZE);
		free(chunk);
	}
	/* Another destructor of this thread may still free an arena: then register once more. */
	*mine = (struct cache){ .list = NULL };
}

static void
cache_forget_main(void)
{
	cache_empty(&cache);
}

__attribute__((constructor)) static void
cache_prepare(void)
{
	IRIS_ASSERT(pthread_key_create(&cache_key, cache_empty) == 0);
	IRIS_ASSERT(atexit(cache_forget_main) == 0);
}

static void *
first_take(void)
{
	struct chunk *chunk = cache.list;

	if (!chunk)
		return iris_calloc(1, FIRST_SIZE);
	cache.list = chunk->next;
	cache.count--;
	ASAN_UNPOISON_MEMORY_REGION(chunk, FIRST_SIZE);
	chunk->next = NULL;
	return chunk;
}

static void
first_give(void *first, size_t used)
{
	struct chunk *chunk = first;

	ASAN_UNPOISON_MEMORY_REGION(first, FIRST_SIZE);
	if (cache.count >= CACHE_LIMIT) {
		free(first);
		return;
	}
	if (!cache.registered)
		cache.registered = pthread_setspecific(cache_key, &cache) == 0;
	memset(first, 0, used);
	chunk->next = cache.list;
	cache.list = chunk;
	cache.count++;
	ASAN_POISON_MEMORY_REGION((char *)first + sizeof(*chunk), FIRST_SIZE - sizeof(*chunk));
}

static struct iris_arena *
arena_begin(void *first, size_t size)
{
	struct iris_arena *arena = first;

	arena->free = (char *)arena + HEAD_SIZE(struct iris_arena);
	arena->end = (char *)arena + size;
	arena->size = size;
	arena->first_size = (uint32_t)size;
	arena->next_size = 2 * FIRST_SIZE;
	atomic_init(&arena->refs, 1);
	ASAN_POISON_MEMORY_REGION(arena->free, (size_t)(arena->end - arena->free));
	return arena;
}

struct iris_arena *
arena_new(void)
{
	return arena_begin(first_take(), FIRST_SIZE);
}

struct iris_arena *
arena_new_sized(size_t size)
{
	size_t whole = HEAD_SIZE(struct iris_arena) + size;

	return whole < FIRST_SIZE ? arena_begin(iris_calloc(1, whole), whole) : arena_new();
}

struct iris_arena *
arena_ref(struct iris_arena *arena)
{
	uint32_t before = atomic_fetch_add_explicit(&arena->refs, 1, memory_order_relaxed);

	IRIS_ASSERT(before > 0 && before < UINT32_MAX);
	return arena;
}

void
arena_unref(struct iris_arena **arena_p)
{
	struct iris_arena *arena = *arena_p;
	uint32_t before;
	char *used;

	*arena_p = NULL;
	if (!arena)
		return;
	before = atomic_fetch_sub_explicit(&arena->refs, 1, memory_order_acq_rel);
	IRIS_ASSERT(before > 0);
	if (before > 1)
		return;
	while (arena->chunks) {
		struct chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		ASAN_UNPOISON_MEMORY_REGION(chunk, chunk->size);
		free(chunk);
	}
	used = arena->first_free ? arena->first_free : arena->free;
	if (arena->first_size == FIRST_SIZE) {
		first_give(arena, (size_t)(used - (char *)arena));
		return;
	}
	ASAN_UNPOISON_MEMORY_REGION(arena, arena->first_size);
	free(arena);
}

static char *
chunk_add(struct iris_arena *arena, size_t size)
{
	struct chunk *chunk = iris_calloc(1, size);

	*chunk = (struct chunk){ .next = arena->chunks, .size = size };
	arena->chunks = chunk;
	arena->size += size;
	return (char *)chunk + HEAD_SIZE(struct chunk);
}

/* `step` is rounded up.  What is larger than the next chunk gets one of its own. */
static __attribute__((noinline)) void *
alloc_slowly(struct iris_arena *arena, size_t size, size_t step)
{
	size_t need = HEAD_SIZE(struct chunk) + step;
	char *start;

	IRIS_ASSERT(size < SIZE_MAX / 4);
	if (need > arena->next_size)
		return chunk_add(arena, need);
	if (!arena->first_free)
		arena->first_free = arena->free;
	start = chunk_add(arena, arena->next_size);
	arena->end = start + (arena->next_size - HEAD_SIZE(struct chunk));
	arena->free = start + step;
	if (arena->next_size < CHUNK_MAX)
		arena->next_size *= 2;
	ASAN_POISON_MEMORY_REGION(start + size, (size_t)(arena->end - start) - size);
	return start;
}

static inline size_t
step_of(size_t size)
{
	return ((size + ALIGNMENT - 1) & ~(ALIGNMENT - 1)) + GAP;
}

void *
arena_alloc(struct iris_arena *arena, size_t size)
{
	size_t step = step_of(size);
	char *result = arena->free;

	if (__builtin_expect(step < size || step > (size_t)(arena->end - result), 0))
		return alloc_slowly(arena, size, step);
	arena->free = result + step;
	ASAN_UNPOISON_MEMORY_REGION(result, size);
	return result;
}

/* Makes an allocation longer where it lies; false when it is not the newest, or at the end. */
static bool
extend(struct iris_arena *arena, char *base, size_t old_size, size_t size)
{
	size_t step = step_of(size);

	if (base + step_of(old_size) != arena->free || step > (size_t)(arena->end - base))
		return false;
	arena->free = base + step;
	ASAN_UNPOISON_MEMORY_REGION(base, size);
	return true;
}

struct iris_str
arena_copy_str(struct iris_arena *arena, struct iris_str s)
{
	char *copy;

	if (str_is_none(s))
		return IRIS_STR_NONE;
	copy = arena_alloc(arena, s.len + 1);
	memcpy(copy, s.base, s.len);
	return (struct iris_str){ copy, s.len };
}

struct iris_str
arena_vprintf(struct iris_arena *arena, const char *fmt, va_list args)
{
	char text[512];
	char *result;
	va_list again;
	int len;

	va_copy(again, args);
	len = vsnprintf(text, sizeof(text), fmt, args);
	IRIS_ASSERT(len >= 0);
	result = arena_alloc(arena, (size_t)len + 1);
	if ((size_t)len < sizeof(text))
		memcpy(result, text, (size_t)len);
	else
		(void)vsnprintf(result, (size_t)len + 1, fmt, again);
	va_end(again);
	return (struct iris_str){ result, (size_t)len };
}

struct iris_str
arena_printf(struct iris_arena *arena, const char *fmt, ...)
{
	struct iris_str result;
	va_list args;

	va_start(args, fmt);
	result = arena_vprintf(arena, fmt, args);
	va_end(args);
	return result;
}

size_t
arena_size(const struct iris_arena *arena)
{
	return arena->size;
}

size_t
arena_used(const struct iris_arena *arena)
{
	if (arena->chunks)
		return arena->size;
	return (size_t)(arena->free - (const char *)arena) - HEAD_SIZE(struct iris_arena);
}

/* Room for `more` bytes and the NUL behind them. */
static void
strbuf_reserve(struct iris_strbuf *buf, size_t more)
{
	size_t need = buf->len + more + 1, cap = buf->cap > 0 ? buf->cap : 128;
	char *grown;

	IRIS_ASSERT(need > more);
	if (need <= buf->cap)
		return;
	while (cap < need)
		cap *= 2;
	if (buf->base && extend(buf->arena, buf->base, buf->cap, cap)) {
		buf->cap = cap;
		return;
	}
	grown = arena_alloc(buf->arena, cap);
	if (buf->len > 0)
		memcpy(grown, buf->base, buf->len);
	buf->base = grown;
	buf->cap = cap;
}

void
strbuf_add(struct iris_strbuf *buf, struct iris_str s)
{
	if (s.len == 0)
		return;
	strbuf_reserve(buf, s.len);
	memcpy(buf->base + buf->len, s.base, s.len);
	buf->len += s.len;
}

void
strbuf_add_char(struct iris_strbuf *buf, char c)
{
	strbuf_reserve(buf, 1);
	buf->base[buf->len++] = c;
}

void
strbuf_printf(struct iris_strbuf *buf, const char *fmt, ...)
{
	va_list args;
	int len;

	strbuf_reserve(buf, 63);
	va_start(args, fmt);
	len = vsnprintf(buf->base + buf->len, buf->cap - buf->len, fmt, args);
	va_end(args);
	IRIS_ASSERT(len >= 0);
	if ((size_t)len >= buf->cap - buf->len) {
		strbuf_reserve(buf, (size_t)len);
		va_start(args, fmt);
		(void)vsnprintf(buf->base + buf->len, buf->cap - buf->len, fmt, args);
		va_end(args);
	}
	buf->len += (size_t)len;
}

struct iris_str
strbuf_str(struct iris_strbuf *buf)
{
	strbuf_reserve(buf, 0);
	buf->base[buf->len] = '\0';
	return (struct iris_str){ buf->base, buf->len };
}
