/* SPDX-License-Identifier: Apache-2.0 */
/* Datetimes, random identifiers, base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena_common.h"
#include "iris/stanza.h"

static void
expect_time(const char *text, int64_t expected)
{
	int64_t ms;

	if (!datetime_parse(str_from(text), &ms))
		fail_msg("refused: %s", text);
	if (ms != expected)
		fail_msg("%s: %lld", text, (long long)ms);
}

static void
test_datetime_parse(void **state)
{
	expect_time("1970-01-01T00:00:00Z", 0);
	expect_time("1969-07-21T02:56:15Z", -14159025000);
	expect_time("1969-07-20T21:56:15-05:00", -14159025000);
	expect_time("2002-09-10T23:41:07.1Z", 1031701267100);
	expect_time("2002-09-10T23:41:07.123456789Z", 1031701267123);
	expect_time("2024-02-29T23:59:59.999+00:00", 1709251199999);
	expect_time("2000-01-01T05:30:00+05:30", 946684800000);
	expect_time("0001-01-01T00:00:00Z", -62135596800000);
	expect_time("9999-12-31T23:59:59.999Z", 253402300799999);
}

static void
test_datetime_refuses(void **state)
{
	static const char *const texts[] = {
		"",
		"2002-09-10",
		"2002-09-10T23:41:07",
		"2002-09-10 23:41:07Z",
		"2002-09-10t23:41:07z",
		"20020910T23:41:07",
		"2002-9-10T23:41:07Z",
		"2002-09-10T24:00:00Z",
		"2002-09-10T23:60:07Z",
		"2002-09-10T23:41:60Z",
		"2002-13-10T23:41:07Z",
		"2002-00-10T23:41:07Z",
		"2002-09-31T23:41:07Z",
		"2002-09-00T23:41:07Z",
		"2023-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"2002-09-10T23:41:07.Z",
		"2002-09-10T23:41:07Zx",
		"2002-09-10T23:41:07+1:00",
		"2002-09-10T23:41:07+15:00",
		"2002-09-10T23:41:07+14:01",
		"2002-09-10T23:41:07+0100",
		"2002-09-10T23:41:07,1Z",
		"0000-01-01T00:00:00Z",
		"-2002-09-10T23:41:07Z",
		" 2002-09-10T23:41:07Z",
		"2002-09-10T23:41:+7Z",
	};
	int64_t ms;

	for (size_t i = 0; i < IRIS_COUNT(texts); i++) {
		if (datetime_parse(str_from(texts[i]), &ms))
			fail_msg("accepted: %s", texts[i]);
	}
}

static void
test_datetime_round_trip(void **state)
{
	int64_t ms;

	assert_true(str_is(datetime_format(arena, 0), "1970-01-01T00:00:00.000Z"));
	assert_true(str_is(datetime_format(arena, -1), "1969-12-31T23:59:59.999Z"));
	assert_true(str_is(datetime_format(arena, 1709251199999), "2024-02-29T23:59:59.999Z"));
	assert_true(str_is(datetime_format(arena, INT64_MAX), "9999-12-31T23:59:59.999Z"));
	assert_true(str_is(datetime_format(arena, INT64_MIN), "0001-01-01T00:00:00.000Z"));
	for (int64_t t = -62135596800000; t < 253402300799999; t += 7654321987651) {
		assert_true(datetime_parse(datetime_format(arena, t), &ms));
		assert_int_equal(ms, t);
	}
}

static void
test_base64(void **state)
{
	static const char *const pairs[][2] = { { "", "" },
						{ "f", "Zg==" },
						{ "fo", "Zm8=" },
						{ "foo", "Zm9v" },
						{ "foob", "Zm9vYg==" },
						{ "fooba", "Zm9vYmE=" },
						{ "foobar", "Zm9vYmFy" } };
	struct iris_str bytes;

	for (size_t i = 0; i < IRIS_COUNT(pairs); i++) {
		assert_true(str_is(base64_encode(arena, str_from(pairs[i][0])), pairs[i][1]));
		assert_true(base64_decode(arena, str_from(pairs[i][1]), &bytes));
		assert_true(str_is(bytes, pairs[i][0]));
	}
	assert_true(base64_decode(arena, IRIS_STR("AAEC/w=="), &bytes));
	assert_true(str_equal(bytes, IRIS_STR("\0\1\2\xff")));
}

static void
test_base64_refuses(void **state)
{
	static const char *const texts[] = { "Z",     "Zg",   "Zg=",      "Zh==",  "Zm9=",
					     "=Zg=",  "====", "Zg==Zg==", " Zg==", "Zg==\n",
					     "Zm 9v", "Zm-_", "Zm9v=",    "A===",  "Zm9v\n\n\n\n" };
	struct iris_str bytes;

	for (size_t i = 0; i < IRIS_COUNT(texts); i++) {
		if (base64_decode(arena, str_from(texts[i]), &bytes))
			fail_msg("accepted: %s", texts[i]);
	}
}

static void
test_random_id(void **state)
{
	struct iris_str one = random_id(arena, 128), two = random_id(arena, 128);

	assert_int_equal(one.len, 22);
	assert_false(str_equal(one, two));
	for (unsigned i = 0; i < 200; i++) {
		struct iris_str id = random_id(arena, 8 * (1 + i % 64));

		for (size_t at = 0; at < id.len; at++)
			assert_non_null(strchr(
				"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
				id.base[at]));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(test_datetime_parse),
		ARENA_TEST(test_datetime_refuses),
		ARENA_TEST(test_datetime_round_trip),
		ARENA_TEST(test_base64),
		ARENA_TEST(test_base64_refuses),
		ARENA_TEST(test_random_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
