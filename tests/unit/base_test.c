/* SPDX-License-Identifier: Apache-2.0 */
/* server/base.c: strings, integers, secrets, the operator's error. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "iris/base.h"

static void
test_none_is_not_empty(void **state)
{
	assert_true(str_is_none(str_from(NULL)));
	assert_false(str_is_none(str_from("")));
	assert_true(str_is_empty(str_from("")));
	assert_true(str_equal(IRIS_STR("ab"), ((struct iris_str){ "abc", 2 })));
	assert_false(str_is(IRIS_STR("ab"), "abc"));
}

static void
test_dup_ends_with_nul(void **state)
{
	char *copy = str_dup((struct iris_str){ "hello", 4 });

	assert_string_equal(copy, "hell");
	free(copy);
	copy = str_dup(IRIS_STR_NONE);
	assert_string_equal(copy, "");
	free(copy);
}

static void
test_copy_to_says_when_it_does_not_fit(void **state)
{
	char buf[5];

	assert_true(str_copy_to(buf, sizeof(buf), IRIS_STR("abcd")));
	assert_string_equal(buf, "abcd");
	assert_false(str_copy_to(buf, sizeof(buf), IRIS_STR("abcde")));
	assert_false(str_copy_to(buf, sizeof(buf), IRIS_STR("a\0b")));
	assert_true(str_copy_to(buf, sizeof(buf), IRIS_STR_NONE));
	assert_string_equal(buf, "");
}

static void
test_int_takes_the_whole_string_within_bounds(void **state)
{
	static const struct {
		const char *text;
		bool good;
		int64_t value;
	} cases[] = {
		{ "0", true, 0 },
		{ "42", true, 42 },
		{ "-42", true, -42 },
		{ "007", true, 7 },
		{ "9223372036854775807", true, INT64_MAX },
		{ "-9223372036854775808", true, INT64_MIN },
		{ "9223372036854775808", false, 0 },
		{ "-9223372036854775809", false, 0 },
		{ "99999999999999999999999", false, 0 },
		{ "", false, 0 },
		{ "-", false, 0 },
		{ "+1", false, 0 },
		{ " 1", false, 0 },
		{ "1 ", false, 0 },
		{ "1x", false, 0 },
		{ "0x10", false, 0 },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		int64_t value = 0;

		assert_int_equal(
			str_to_int(str_from(cases[i].text), INT64_MIN, INT64_MAX, &value),
			cases[i].good);
		assert_true(value == cases[i].value);
	}
}

static void
test_int_respects_bounds(void **state)
{
	int64_t value = 5;

	assert_false(str_to_int(IRIS_STR("11"), 1, 10, &value));
	assert_false(str_to_int(IRIS_STR("0"), 1, 10, &value));
	assert_int_equal(value, 5);
	assert_true(str_to_int(IRIS_STR("10"), 1, 10, &value));
	assert_int_equal(value, 10);
}

static void
test_secrets_compare(void **state)
{
	assert_true(str_equal_secret(IRIS_STR("pass"), IRIS_STR("pass")));
	assert_false(str_equal_secret(IRIS_STR("pass"), IRIS_STR("pasS")));
	assert_false(str_equal_secret(IRIS_STR("pass"), IRIS_STR("passw")));
	assert_true(str_equal_secret(IRIS_STR_NONE, IRIS_STR("")));
}

static void
test_error_is_filled_and_false(void **state)
{
	struct iris_error error;

	memset(&error, 'x', sizeof(error));
	assert_false(error_set(&error, "no %s", "luck"));
	assert_string_equal(error.message, "no luck");
	assert_string_equal(error.detail, "");
	assert_false(error_detail(&error, "line %d", 3));
	assert_false(error_hint(&error, "%s", "try again"));
	assert_string_equal(error.detail, "line 3");
	assert_string_equal(error.hint, "try again");
}

static void
test_assertion_dies_and_says_why(void **state)
{
	char text[512] = "";
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)dup2(pipe_fds[1], STDERR_FILENO);
		(void)signal(SIGABRT, SIG_DFL);
		iris_assert_failed("moon == cheese", "moon.c", 7);
	}
	(void)close(pipe_fds[1]);
	n = read(pipe_fds[0], text, sizeof(text) - 1);
	(void)close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	assert_true(n > 0);
	assert_non_null(strstr(text, "moon.c:7"));
	assert_non_null(strstr(text, "moon == cheese"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_is_not_empty),
		cmocka_unit_test(test_dup_ends_with_nul),
		cmocka_unit_test(test_copy_to_says_when_it_does_not_fit),
		cmocka_unit_test(test_int_takes_the_whole_string_within_bounds),
		cmocka_unit_test(test_int_respects_bounds),
		cmocka_unit_test(test_secrets_compare),
		cmocka_unit_test(test_error_is_filled_and_false),
		cmocka_unit_test(test_assertion_dies_and_says_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
