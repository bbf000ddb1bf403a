/* SPDX-License-Identifier: Apache-2.0 */
/* server/arena.c */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "iris/arena.h"

static bool
is_zero(const char *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static void
test_memory_is_zero_and_aligned_also_when_reused(void **state)
{
	for (int round = 0; round < 100; round++) {
		struct iris_arena *arena = arena_new();

		for (size_t size = 0; size < 700; size += 13) {
			char *p = arena_alloc(arena, size);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			assert_true(is_zero(p, size));
			memset(p, 0xaa, size);
		}
		arena_unref(&arena);
		assert_null(arena);
		arena_unref(&arena);
	}
}

static void
test_large_allocations_leave_the_small_ones_together(void **state)
{
	struct iris_arena *arena = arena_new();
	char *before = arena_alloc(arena, 8);
	char *large = arena_alloc(arena, 1 << 20);
	char *after = arena_alloc(arena, 8);

	assert_true(after > before && after - before <= 64);
	memset(large, 1, 1 << 20);
	assert_true(arena_size(arena) > 1 << 20);
	assert_true(arena_size(arena) < (1 << 20) + 8192);
	arena_unref(&arena);
}

static void
test_strings(void **state)
{
	struct iris_arena *arena = arena_new();
	char big[2000];
	struct iris_str s;

	s = arena_copy_str(arena, (struct iris_str){ "borrowed", 6 });
	assert_string_equal(s.base, "borrow");
	assert_int_equal(s.len, 6);
	assert_true(str_is_none(arena_copy_str(arena, IRIS_STR_NONE)));
	assert_false(str_is_none(arena_copy_str(arena, IRIS_STR(""))));
	s = arena_printf(arena, "%d-%s", 7, "x");
	assert_string_equal(s.base, "7-x");
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	s = arena_printf(arena, "<%s>", big);
	assert_int_equal(s.len, sizeof(big) + 1);
	assert_int_equal(strlen(s.base), s.len);
	arena_unref(&arena);
}

static void
test_strbuf_grows_in_place_and_by_moving(void **state)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf a = STRBUF_INIT(arena), b = STRBUF_INIT(arena);
	size_t size;

	assert_string_equal(strbuf_str(&a).base, "");
	for (int i = 0; i < 20000; i++) {
		strbuf_add(&a, IRIS_STR("ab"));
		if (i % 1000 == 0)
			strbuf_add_char(&b, 'x');
	}
	assert_int_equal(strbuf_str(&a).len, 40000);
	assert_int_equal(strlen(strbuf_str(&a).base), 40000);
	assert_int_equal(strbuf_str(&b).len, 20);
	strbuf_printf(&b, "%05d", 42);
	assert_true(str_is(strbuf_str(&b), "xxxxxxxxxxxxxxxxxxxx00042"));
	strbuf_printf(&b, "%s", strbuf_str(&a).base);
	assert_int_equal(strbuf_str(&b).len, 40025);
	size = arena_size(arena);
	assert_true(size < 400000);
	arena_unref(&arena);
}

static void *
drop(void *arg)
{
	struct iris_arena *arena = arg;

	for (int i = 0; i < 1000; i++) {
		struct iris_arena *mine = arena_ref(arena);

		arena_unref(&mine);
	}
	arena_unref(&arena);
	return NULL;
}

static void
test_references_from_many_threads(void **state)
{
	struct iris_arena *arena = arena_new();
	pthread_t threads[4];

	(void)arena_printf(arena, "shared");
	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drop, arena_ref(arena)), 0);
	arena_unref(&arena);
	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void
test_sized(void **state)
{
	struct iris_arena *first = arena_new(), *sized;

	(void)arena_alloc(first, 100);
	(void)arena_copy_str(first, IRIS_STR("hello"));
	sized = arena_new_sized(arena_used(first));
	(void)arena_alloc(sized, 100);
	assert_true(str_is(arena_copy_str(sized, IRIS_STR("hello")), "hello"));
	assert_int_equal(arena_used(sized), arena_used(first));
	assert_true(arena_size(sized) < arena_size(first));
	memset(arena_alloc(sized, 3000), 1, 3000); /* more than was asked for is no harm */
	arena_unref(&sized);
	arena_unref(&first);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sized),
		cmocka_unit_test(test_memory_is_zero_and_aligned_also_when_reused),
		cmocka_unit_test(test_large_allocations_leave_the_small_ones_together),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_strbuf_grows_in_place_and_by_moving),
		cmocka_unit_test(test_references_from_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
