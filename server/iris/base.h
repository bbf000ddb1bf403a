/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every file of Iris stands on: assertions, borrowed strings, attributes, and the
 * error value for operators.  Nothing here allocates.
 */
#ifndef IRIS_BASE_H
#define IRIS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(default) /* for plug-ins */

#define IRIS_MUST_CHECK __attribute__((warn_unused_result))
#define IRIS_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define IRIS_NORETURN __attribute__((noreturn))
#define IRIS_EXPORT __attribute__((visibility("default")))
#define IRIS_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define IRIS_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* A bug of ours: dies with file, line, condition and the name of the running fiber. */
#define IRIS_ASSERT(cond) \
	((cond) ? (void)0 : iris_assert_failed(#cond, __FILE__, __LINE__))
IRIS_NORETURN void iris_assert_failed(const char *cond, const char *file, int line);

/*
 * A borrowed string: not owned, not necessarily NUL-terminated, valid as long as what it
 * was taken from (usually a stanza's arena).  base == NULL means "absent", which is not the
 * same as empty.  Keeping one longer is a visible call: arena_copy_str() or str_dup().
 */
struct iris_str {
	const char *base;
	size_t len;
};

#define IRIS_STR(literal) ((struct iris_str){ "" literal, sizeof(literal) - 1 })
#define IRIS_STR_NONE ((struct iris_str){ NULL, 0 })
#define IRIS_STR_FMT(s) (int)(s).len, (s).base ? (s).base : "" /* for "%.*s" */

static inline struct iris_str
str_from(const char *cstr) /* NULL gives IRIS_STR_NONE */
{
	return (struct iris_str){ cstr, cstr ? strlen(cstr) : 0 };
}

static inline bool
str_is_none(struct iris_str s)
{
	return s.base == NULL;
}

static inline bool
str_is_empty(struct iris_str s) /* absent or of no length */
{
	return s.len == 0;
}

static inline bool
str_equal(struct iris_str a, struct iris_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static inline bool
str_is(struct iris_str a, const char *cstr)
{
	return str_equal(a, str_from(cstr));
}

/* A malloc'ed, NUL-terminated copy; free() it. */
char *str_dup(struct iris_str s);
/* The same for a NUL-terminated string into a fixed buffer; false when it did not fit. */
IRIS_MUST_CHECK bool str_copy_to(char *buf, size_t size, struct iris_str s);
/* A decimal integer within [min, max]; nothing before or after it. */
IRIS_MUST_CHECK bool str_to_int(struct iris_str s, int64_t min, int64_t max, int64_t *value_r);
/* Compares secrets: time depends on the lengths only. SECURITY: no byte-wise guessing. */
bool str_equal_secret(struct iris_str a, struct iris_str b);

/* malloc that cannot fail: out of memory is the operator's limit reached, and ends the process. */
void *iris_malloc(size_t size);
void *iris_calloc(size_t count, size_t size);
void *iris_realloc(void *ptr, size_t size);

/*
 * The operator's trouble, as a value: what happened, the detail (file, line, value), and
 * what to do.  Functions that may fail for the operator's reasons take one and return bool;
 * whoever owns the context logs it once.
 */
struct iris_error {
	char message[256];
	char detail[512];
	char hint[256];
};

/* Always false, so that `return error_set(...)` reads straight. */
bool error_set(struct iris_error *error, const char *fmt, ...) IRIS_PRINTF(2, 3);
bool error_detail(struct iris_error *error, const char *fmt, ...) IRIS_PRINTF(2, 3);
bool error_hint(struct iris_error *error, const char *fmt, ...) IRIS_PRINTF(2, 3);

/* The region's id of a company, the owner of a row; 0 is no owner and never valid. */
typedef uint32_t iris_owner;
#define IRIS_OWNER_DEFAULT 1u /* the region's default company: it is always there */

#pragma GCC visibility pop
#endif
