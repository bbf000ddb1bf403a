/* SPDX-License-Identifier: Apache-2.0 */
/* An arena for each test. Include after cmocka.h. */
#ifndef TESTS_ARENA_COMMON_H
#define TESTS_ARENA_COMMON_H

#include "iris/arena.h"

static struct iris_arena *arena;

static inline int
arena_setup(void **state)
{
	arena = arena_new();
	return 0;
}

static inline int
arena_teardown(void **state)
{
	arena_unref(&arena);
	return 0;
}

#define ARENA_TEST(test) cmocka_unit_test_setup_teardown(test, arena_setup, arena_teardown)

#endif
