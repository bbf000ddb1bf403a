/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_private.h"

static char why[400];

static bool
parse(const struct iris_option *option, const char *text, int64_t *number_r)
{
	why[0] = '\0';
	return option_parse(option, str_from(text), number_r, why, sizeof(why));
}

static int64_t
value_of(enum iris_option_type type, const char *text)
{
	const struct iris_option option = { .name = "x", .type = type };
	int64_t number;

	if (!parse(&option, text, &number))
		fail_msg("\"%s\" %s", text, why);
	return number;
}

static void
assert_refused(enum iris_option_type type, const char *text)
{
	const struct iris_option option = { .name = "x", .type = type };
	int64_t number;

	if (parse(&option, text, &number))
		fail_msg("\"%s\" was taken", text);
	assert_true(strlen(why) > 0);
}

static void
durations(void **state)
{
	assert_int_equal(value_of(IRIS_OPT_DURATION, "10 minutes"), 600000);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "500 ms"), 500);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "1 hour 30 minutes"), 5400000);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "1 second"), 1000);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "2 weeks"), 1209600000);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "15s"), 15000);
	assert_int_equal(value_of(IRIS_OPT_DURATION, "0"), 0);
	const char *const wrong[] = { "",
				      " ",
				      "10",
				      "ten minutes",
				      "-1 s",
				      "1.5 hours",
				      "1 month",
				      "10 m",
				      "5 s 3",
				      "9223372036854775807 weeks",
				      "99999999999999999999 ms",
				      "1 KiB" };
	for (size_t i = 0; i < IRIS_COUNT(wrong); i++)
		assert_refused(IRIS_OPT_DURATION, wrong[i]);
}

static void
sizes(void **state)
{
	assert_int_equal(value_of(IRIS_OPT_SIZE, "512 KiB"), 524288);
	assert_int_equal(value_of(IRIS_OPT_SIZE, "1 MiB"), 1048576);
	assert_int_equal(value_of(IRIS_OPT_SIZE, "10 kB"), 10000);
	assert_int_equal(value_of(IRIS_OPT_SIZE, "1 byte"), 1);
	const char *const wrong[] = { "", "512", "1 mib", "1 KB", "x", "8388608 TiB", "3 minutes" };
	for (size_t i = 0; i < IRIS_COUNT(wrong); i++)
		assert_refused(IRIS_OPT_SIZE, wrong[i]);
}

static void
plain_types(void **state)
{
	assert_int_equal(value_of(IRIS_OPT_INT, "-7"), -7);
	assert_int_equal(value_of(IRIS_OPT_BOOL, "true"), 1);
	assert_int_equal(value_of(IRIS_OPT_BOOL, "false"), 0);
	/* None of YAML 1.1's other spellings: "no" is a country. */
	assert_refused(IRIS_OPT_BOOL, "yes");
	assert_refused(IRIS_OPT_BOOL, "True");
	assert_refused(IRIS_OPT_INT, "0x10");
	assert_refused(IRIS_OPT_INT, "1 ");
	assert_refused(IRIS_OPT_PATH, "");
}

static void
ranges_are_named(void **state)
{
	const struct iris_option port = {
		.name = "port",
		.type = IRIS_OPT_INT,
		.min = 1,
		.max = 65535,
	};
	const struct iris_option age = {
		.name = "age",
		.type = IRIS_OPT_DURATION,
		.min = 1000,
		.max = 3600000,
	};
	const struct iris_option more = { .name = "more", .type = IRIS_OPT_SIZE, .min = 1024 };
	const struct iris_option name = {
		.name = "name",
		.type = IRIS_OPT_STRING,
		.min = 2,
		.max = 4,
	};
	int64_t number;

	assert_true(parse(&port, "65535", &number));
	assert_false(parse(&port, "70000", &number));
	assert_string_equal(why, "is out of range 1 … 65535");
	assert_false(parse(&age, "2 hours", &number));
	assert_string_equal(why, "is out of range 1 second … 1 hour");
	assert_true(parse(&more, "9 GiB", &number));
	assert_false(parse(&more, "1 byte", &number));
	assert_string_equal(why, "is out of range 1 KiB …");
	assert_true(parse(&name, "abcd", &number));
	assert_false(parse(&name, "a", &number));
	assert_false(parse(&name, "abcde", &number));
}

static void
choices_suggest(void **state)
{
	static const char *const choices[] = { "off", "optional", "required", NULL };
	const struct iris_option option = {
		.name = "tls",
		.type = IRIS_OPT_CHOICE,
		.choices = choices,
	};
	int64_t number;

	assert_true(parse(&option, "required", &number));
	assert_int_equal(number, 2);
	assert_false(parse(&option, "requierd", &number));
	assert_string_equal(why, "is not off, optional or required, did you mean \"required\"?");
}

static void
values_are_written_as_they_are_read(void **state)
{
	static const struct {
		enum iris_option_type type;
		int64_t number;
		const char *text;
	} cases[] = {
		{ IRIS_OPT_DURATION, 600000, "10 minutes" },
		{ IRIS_OPT_DURATION, 1500, "1500 ms" },
		{ IRIS_OPT_DURATION, 3600000, "1 hour" },
		{ IRIS_OPT_DURATION, 0, "0 ms" },
		{ IRIS_OPT_SIZE, 524288, "512 KiB" },
		{ IRIS_OPT_SIZE, 10000, "10 kB" },
		{ IRIS_OPT_SIZE, 7, "7 bytes" },
		{ IRIS_OPT_SIZE, 1 << 30, "1 GiB" },
		{ IRIS_OPT_INT, -3, "-3" },
	};
	char buf[64];

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		option_format(cases[i].type, cases[i].number, buf, sizeof(buf));
		assert_string_equal(buf, cases[i].text);
		assert_int_equal(value_of(cases[i].type, buf), cases[i].number);
	}
}

static void
guesses(void **state)
{
	static const struct {
		const char *wanted, *best;
	} cases[] = {
		{ "prot", "port" },
		{ "por", "port" },
		{ "address", "address" },
		{ "adress", "address" },
		{ "resume-timout", "resume-timeout" },
		{ "completely-else", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct option_guess guess = { .wanted = str_from(cases[i].wanted) };
		guess_offer(&guess, "port");
		guess_offer(&guess, "address");
		guess_offer(&guess, "resume-timeout");
		if (cases[i].best)
			assert_string_equal(guess.best, cases[i].best);
		else
			assert_null(guess.best);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(sizes),
		cmocka_unit_test(plain_types),
		cmocka_unit_test(ranges_are_named),
		cmocka_unit_test(choices_suggest),
		cmocka_unit_test(values_are_written_as_they_are_read),
		cmocka_unit_test(guesses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
