/* SPDX-License-Identifier: Apache-2.0 */
/* server/log.c: what stands in the file. */
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "log_private.h"

static char path[64], moved[80];

static int
setup(void **state)
{
	struct iris_error error;
	int fd;

	(void)snprintf(path, sizeof(path), "log_test.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	(void)close(fd);
	(void)snprintf(moved, sizeof(moved), "%s.1", path);
	log_set_rate(0);
	return log_open(path, IRIS_LOG_INFO, &error) ? 0 : -1;
}

static int
teardown(void **state)
{
	log_close();
	(void)unlink(path);
	(void)unlink(moved);
	return 0;
}

/* All lines, each parsed; the caller owns the array. */
static json_t *
lines(const char *name)
{
	json_t *all = json_array();
	FILE *file = fopen(name, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	assert_non_null(file);
	while ((len = getline(&line, &size, file)) > 0) {
		json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

		assert_int_equal(line[len - 1], '\n');
		assert_non_null(object);
		assert_int_equal(json_array_append_new(all, object), 0);
	}
	free(line);
	(void)fclose(file);
	return all;
}

static const char *
text_of(const json_t *all, size_t i, const char *name)
{
	return json_string_value(json_object_get(json_array_get(all, i), name));
}

static int64_t
number_of(const json_t *all, size_t i, const char *name)
{
	const json_t *value = json_object_get(json_array_get(all, i), name);

	return value ? json_integer_value(value) : -1;
}

static void
test_a_line_has_time_level_area_event_fields(void **state)
{
	json_t *all;

	LOG(IRIS_LOG_NOTICE, "stream", "closed", LOG_CSTR("reason", "a \"b\" \\ \n\x01 ä€😀"),
	    LOG_INT("bytes", -5), LOG_STR("absent", IRIS_STR_NONE));
	LOG(IRIS_LOG_DEBUG, "stream", "hidden", LOG_INT("n", 1));
	all = lines(path);
	assert_int_equal(json_array_size(all), 1);
	assert_int_equal(strlen(text_of(all, 0, "time")), 24);
	assert_string_equal(text_of(all, 0, "level"), "notice");
	assert_string_equal(text_of(all, 0, "area"), "stream");
	assert_string_equal(text_of(all, 0, "event"), "closed");
	assert_string_equal(text_of(all, 0, "reason"), "a \"b\" \\ \n\x01 ä€😀");
	assert_int_equal(number_of(all, 0, "bytes"), -5);
	assert_null(text_of(all, 0, "absent"));
	json_decref(all);
}

static void
test_bad_utf8_stays_one_valid_line(void **state)
{
	static const char *const bad[] = { "\xff",
					   "\xc0\x80",
					   "\xe0\x80\x80",
					   "\xed\xa0\x80",
					   "\xf4\x90\x80\x80",
					   "\xf8\x88\x80\x80\x80",
					   "\xe2\x82",
					   "\x80" };
	json_t *all;

	for (size_t i = 0; i < IRIS_COUNT(bad); i++)
		LOG(IRIS_LOG_INFO, "t", "e", LOG_CSTR("x", bad[i]));
	all = lines(path);
	assert_int_equal(json_array_size(all), IRIS_COUNT(bad));
	for (size_t i = 0; i < IRIS_COUNT(bad); i++)
		assert_int_equal(strncmp(text_of(all, i, "x"), "\xef\xbf\xbd", 3), 0);
	json_decref(all);
}

static void
test_long_values_are_cut_and_what_does_not_fit_is_left_out(void **state)
{
	static char big[5000];
	struct iris_str s = { big, sizeof(big) };
	json_t *all;

	memset(big, '\x01', sizeof(big));
	LOG(IRIS_LOG_INFO, "t", "e", LOG_INT("first", 1), LOG_STR("a", s), LOG_INT("last", 1));
	memset(big, 'x', sizeof(big));
	LOG(IRIS_LOG_INFO, "t", "e", LOG_STR("a", s), LOG_INT("last", 1));
	all = lines(path);
	assert_int_equal(number_of(all, 0, "first"), 1);
	assert_true(json_is_true(json_object_get(json_array_get(all, 0), "truncated")));
	assert_int_equal(number_of(all, 0, "last"), -1);
	assert_int_equal(strlen(text_of(all, 1, "a")), 512 + strlen("…"));
	assert_int_equal(number_of(all, 1, "last"), 1);
	json_decref(all);
}

static void
test_addresses_are_pseudonyms(void **state)
{
	char digits[LOG_PSEUDONYM_SIZE], expected[64];
	json_t *all;

	log_set_pseudonym_key("key", 3);
	LOG(IRIS_LOG_INFO, "t", "e", LOG_JID("jid", IRIS_STR("romeo@example.net/orchard")));
	LOG(IRIS_LOG_INFO, "t", "e", LOG_JID("jid", IRIS_STR("romeo@example.net")));
	LOG(IRIS_LOG_INFO, "t", "e", LOG_JID("jid", IRIS_STR("example.net/a@b")));
	log_set_pseudonym_key("other", 5);
	LOG(IRIS_LOG_INFO, "t", "e", LOG_JID("jid", IRIS_STR("romeo@example.net")));
	log_set_pseudonym_key("key", 3);
	log_pseudonym(IRIS_STR("romeo@example.net"), digits);
	(void)snprintf(expected, sizeof(expected), "%s@example.net", digits);
	all = lines(path);
	assert_string_equal(text_of(all, 0, "jid"), expected);
	assert_string_equal(text_of(all, 1, "jid"), expected);
	assert_string_equal(text_of(all, 2, "jid"), "example.net");
	assert_string_not_equal(text_of(all, 3, "jid"), expected);
	assert_int_equal(strlen(digits), 16);
	json_decref(all);
}

static void
test_a_flood_is_held_back_and_counted(void **state)
{
	json_t *all;
	size_t kept;

	log_set_rate(1);
	for (int i = 0; i < 1000; i++)
		LOG(IRIS_LOG_INFO, "flood", "same", LOG_INT("i", i));
	LOG(IRIS_LOG_INFO, "flood", "other", LOG_INT("i", 0));
	log_set_rate(1000);
	(void)usleep(20000); /* the coarse clock must move for the bucket to fill */
	LOG(IRIS_LOG_INFO, "flood", "same", LOG_INT("i", 1000));
	all = lines(path);
	kept = json_array_size(all);
	assert_in_range(kept, 22, 24);
	assert_string_equal(text_of(all, kept - 2, "event"), "other");
	assert_int_equal(number_of(all, kept - 1, "suppressed"), (int64_t)(1000 - (kept - 2)));
	json_decref(all);
}

static void *
write_many(void *arg)
{
	for (int i = 0; i < 500; i++)
		LOG(IRIS_LOG_INFO, "t", "e", LOG_CSTR("x", "some text that is not short at all"));
	return NULL;
}

static void
test_lines_of_threads_do_not_mix_while_the_file_is_rotated(void **state)
{
	pthread_t threads[4];
	json_t *before, *after;

	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, NULL), 0);
	assert_int_equal(rename(path, moved), 0);
	log_reopen();
	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	before = lines(moved);
	after = lines(path);
	assert_int_equal(json_array_size(before) + json_array_size(after), 2000);
	json_decref(before);
	json_decref(after);
}

static void
test_errors_have_their_three_parts(void **state)
{
	struct iris_error error;
	json_t *all;

	(void)error_set(&error, "no certificate");
	(void)error_hint(&error, "make one");
	log_error(IRIS_LOG_ERROR, "tls", "load-failed", &error);
	all = lines(path);
	assert_string_equal(text_of(all, 0, "level"), "error");
	assert_string_equal(text_of(all, 0, "message"), "no certificate");
	assert_null(text_of(all, 0, "detail"));
	assert_string_equal(text_of(all, 0, "hint"), "make one");
	json_decref(all);
}

static void
test_levels(void **state)
{
	enum iris_log_level level;

	for (int i = IRIS_LOG_ERROR; i <= IRIS_LOG_DEBUG; i++) {
		assert_true(
			log_level_from(str_from(log_level_name((enum iris_log_level)i)), &level));
		assert_int_equal((int)level, i);
		log_set_level(level);
		assert_true(log_is_enabled(level));
		assert_int_equal((int)log_level(), i);
	}
	assert_false(log_level_from(IRIS_STR("loud"), &level));
}

static void
test_a_log_that_cannot_be_opened_is_an_error(void **state)
{
	struct iris_error error;

	assert_false(log_open("no/such/folder/log", IRIS_LOG_INFO, &error));
	assert_non_null(strstr(error.detail, "no/such/folder/log"));
	assert_true(error.hint[0] != '\0');
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_line_has_time_level_area_event_fields),
		TEST(test_bad_utf8_stays_one_valid_line),
		TEST(test_long_values_are_cut_and_what_does_not_fit_is_left_out),
		TEST(test_addresses_are_pseudonyms),
		TEST(test_a_flood_is_held_back_and_counted),
		TEST(test_lines_of_threads_do_not_mix_while_the_file_is_rotated),
		TEST(test_errors_have_their_three_parts),
		TEST(test_levels),
		TEST(test_a_log_that_cannot_be_opened_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
