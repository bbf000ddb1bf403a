/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings, memory that cannot fail, the operator's error, and the end of the process when we
 * find a bug in ourselves.  Any thread.  Writes no log: the log stands on this.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "iris/base.h"

/* Weak, because a tool or a test of this layer stands without fibers. */
extern const char *fiber_name(void) __attribute__((weak));

static void
complain(const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* No stdio stream and no allocation: heap and locks may be what is broken. */
void
iris_assert_failed(const char *cond, const char *file, int line)
{
	char text[512];

	(void)snprintf(text, sizeof(text),
		       "iris: bug: %s:%d: (%s) does not hold, in fiber \"%s\"\n", file, line, cond,
		       fiber_name ? fiber_name() : "loop");
	complain(text);
	abort();
}

char *
str_dup(struct iris_str s)
{
	char *copy = iris_malloc(s.len + 1);

	if (s.len > 0)
		memcpy(copy, s.base, s.len);
	copy[s.len] = '\0';
	return copy;
}

bool
str_copy_to(char *buf, size_t size, struct iris_str s)
{
	IRIS_ASSERT(size > 0);
	/* A NUL inside would silently shorten what the reader of a C string sees. */
	if (s.len >= size || (s.len > 0 && memchr(s.base, '\0', s.len)))
		return false;
	if (s.len > 0)
		memcpy(buf, s.base, s.len);
	buf[s.len] = '\0';
	return true;
}

bool
str_to_int(struct iris_str s, int64_t min, int64_t max, int64_t *value_r)
{
	bool negative = s.len > 0 && s.base[0] == '-';
	int64_t value = 0; /* kept negative: the range of int64_t is wider below zero */

	if (s.len == (negative ? 1u : 0u))
		return false;
	for (size_t i = negative ? 1 : 0; i < s.len; i++) {
		int digit = s.base[i] - '0';

		if (digit < 0 || digit > 9)
			return false;
		if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
		    __builtin_sub_overflow(value, (int64_t)digit, &value))
			return false;
	}
	if (!negative && __builtin_sub_overflow((int64_t)0, value, &value))
		return false;
	if (value < min || value > max)
		return false;
	*value_r = value;
	return true;
}

bool
str_equal_secret(struct iris_str a, struct iris_str b)
{
	volatile unsigned char difference = 0;

	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		difference = (unsigned char)(difference | ((unsigned char)a.base[i] ^
							   (unsigned char)b.base[i]));
	return difference == 0;
}

static void *
or_end(void *ptr)
{
	if (!ptr) {
		complain("iris: out of memory\n");
		abort();
	}
	return ptr;
}

void *
iris_malloc(size_t size)
{
	return or_end(malloc(size > 0 ? size : 1));
}

void *
iris_calloc(size_t count, size_t size)
{
	return or_end(count > 0 && size > 0 ? calloc(count, size) : calloc(1, 1));
}

void *
iris_realloc(void *ptr, size_t size)
{
	return or_end(realloc(ptr, size > 0 ? size : 1));
}

bool
error_set(struct iris_error *error, const char *fmt, ...)
{
	va_list args;

	*error = (struct iris_error){ .message = "" };
	va_start(args, fmt);
	(void)vsnprintf(error->message, sizeof(error->message), fmt, args);
	va_end(args);
	return false;
}

bool
error_detail(struct iris_error *error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(error->detail, sizeof(error->detail), fmt, args);
	va_end(args);
	return false;
}

bool
error_hint(struct iris_error *error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(error->hint, sizeof(error->hint), fmt, args);
	va_end(args);
	return false;
}
