/* SPDX-License-Identifier: Apache-2.0 */
/* modules/accounts/throttle.c, with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "modules/accounts/accounts_private.h"

static const struct throttle_policy policy = {
	.tries = 10, .delay_ms = 500, .lock_ms = 300000, .memory_ms = 900000
};

static const struct iris_str juliet = { "juliet@example.org", 18 };

static void
test_delays_grow_then_lock(void **state)
{
	static const int64_t delays[] = { 0,	0,    0,    500,  1000,		  2000,
					  4000, 8000, 8000, 8000, THROTTLE_LOCKED };
	struct throttle *throttle = throttle_new(100);

	for (size_t i = 0; i < IRIS_COUNT(delays); i++)
		assert_int_equal(throttle_begin(throttle, juliet, &policy, 1000), delays[i]);
	throttle_free(&throttle);
	assert_null(throttle);
}

static void
test_lock_ends_and_the_next_comes_sooner(void **state)
{
	struct throttle *throttle = throttle_new(100);
	int64_t now = 1000;
	unsigned tries = 0;

	while (throttle_begin(throttle, juliet, &policy, now) != THROTTLE_LOCKED)
		tries++;
	assert_int_equal(tries, 10);
	/* Knocking does not prolong it. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(throttle_begin(throttle, juliet, &policy, now + 299999),
				 THROTTLE_LOCKED);
	now += 300000;
	for (tries = 0; throttle_begin(throttle, juliet, &policy, now) != THROTTLE_LOCKED;)
		tries++;
	assert_int_equal(tries, 5);
	throttle_free(&throttle);
}

static void
test_success_and_time_forget(void **state)
{
	struct throttle *throttle = throttle_new(100);

	for (int i = 0; i < 5; i++)
		(void)throttle_begin(throttle, juliet, &policy, 1000);
	throttle_forgive(throttle, juliet, true);
	assert_int_equal(throttle_count(throttle), 0);
	for (int i = 0; i < 5; i++)
		(void)throttle_begin(throttle, juliet, &policy, 1000);
	assert_int_equal(throttle_begin(throttle, juliet, &policy, 1000 + policy.memory_ms + 1), 0);
	throttle_free(&throttle);
}

/* One success among guesses takes back itself, not the guesses. */
static void
test_forgiving_one(void **state)
{
	struct throttle *throttle = throttle_new(100);

	for (int i = 0; i < 4; i++)
		(void)throttle_begin(throttle, juliet, &policy, 1000);
	assert_int_equal(throttle_begin(throttle, juliet, &policy, 1000), 1000);
	throttle_forgive(throttle, juliet, false);
	assert_int_equal(throttle_begin(throttle, juliet, &policy, 1000), 1000);
	throttle_free(&throttle);
}

/* SECURITY: a flood of names neither grows the table nor washes out the guilty. */
static void
test_flood(void **state)
{
	struct throttle *throttle = throttle_new(1000);
	char name[32];

	while (throttle_begin(throttle, juliet, &policy, 1000) != THROTTLE_LOCKED)
		;
	for (int i = 0; i < 100000; i++) {
		int len = snprintf(name, sizeof(name), "name%d", i);

		assert_int_equal(throttle_begin(throttle, (struct iris_str){ name, (size_t)len },
						&policy, 1001),
				 0);
	}
	assert_int_equal(throttle_count(throttle), 1000);
	assert_int_equal(throttle_begin(throttle, juliet, &policy, 1002), THROTTLE_LOCKED);
	throttle_free(&throttle);
}

static void
test_zero_turns_it_off(void **state)
{
	struct throttle *throttle = throttle_new(10);
	struct throttle_policy off = { .tries = 0 };

	for (int i = 0; i < 1000; i++)
		assert_int_equal(throttle_begin(throttle, juliet, &off, 1), 0);
	assert_int_equal(throttle_count(throttle), 0);
	throttle_free(&throttle);
}

static void
test_address_keys(void **state)
{
	struct iris_arena *arena = arena_new();

	assert_true(str_is(throttle_address_key(arena, IRIS_STR("192.0.2.1")), "192.0.2.1"));
	assert_true(str_equal(throttle_address_key(arena, IRIS_STR("2001:db8:1:2::1")),
			      throttle_address_key(arena, IRIS_STR("2001:db8:1:2:ffff::9"))));
	assert_false(str_equal(throttle_address_key(arena, IRIS_STR("2001:db8:1:2::1")),
			       throttle_address_key(arena, IRIS_STR("2001:db8:1:3::1"))));
	arena_unref(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delays_grow_then_lock),
		cmocka_unit_test(test_lock_ends_and_the_next_comes_sooner),
		cmocka_unit_test(test_success_and_time_forget),
		cmocka_unit_test(test_forgiving_one),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_zero_turns_it_off),
		cmocka_unit_test(test_address_keys),
	};

	return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
