/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config_private.h"
#include "scratch.h"

enum { PORT, HOST, WAIT, KEY, LEVEL, NAMES, LISTENERS, FILE_, DEFAULTS };

static const char *const levels[] = { "error", "info", NULL };
static const struct iris_option listener_fields[] = {
	{ .name = "port", .type = IRIS_OPT_INT, .min = 1, .max = 65535 },
	{ .name = "role", .type = IRIS_OPT_STRING, .fallback = "c2s" },
	{ .name = "cert", .type = IRIS_OPT_PATH, .optional = true },
	IRIS_OPTIONS_END,
};
static const struct iris_option options[] = {
	[PORT] = {
		.name = "port",
		.type = IRIS_OPT_INT,
		.fallback = "5222",
		.min = 1,
		.max = 65535,
	},
	[HOST] = { .name = "host", .type = IRIS_OPT_STRING, .optional = true },
	[WAIT] = {
		.name = "wait",
		.type = IRIS_OPT_DURATION,
		.fallback = "10 minutes",
		.reloadable = true,
	},
	[KEY] = {
		.name = "key",
		.type = IRIS_OPT_STRING,
		.optional = true,
		.secret = true,
		.max = 8,
	},
	[LEVEL] = {
		.name = "level",
		.type = IRIS_OPT_CHOICE,
		.choices = levels,
		.fallback = "info",
	},
	[NAMES] = { .name = "names", .type = IRIS_OPT_STRINGS, .optional = true, .max = 3 },
	[LISTENERS] = {
		.name = "listeners",
		.type = IRIS_OPT_RECORDS,
		.fields = listener_fields,
		.optional = true,
	},
	[FILE_] = { .name = "file", .type = IRIS_OPT_PATH, .fallback = "iris.db" },
	[DEFAULTS] = { .name = "defaults", .type = IRIS_OPT_STRINGS, .fallback = "[a, b]" },
	IRIS_OPTIONS_END
};

static struct iris_report report;

static struct iris_config *
parse(const char *text)
{
	report_clear(&report);
	return config_parse("iris.yaml", str_from(text), &report);
}

/* The text is refused as a whole, with this first line. */
static void
assert_syntax(const char *text, const char *line)
{
	assert_null(parse(text));
	assert_true(report.error_count > 0);
	assert_string_equal(report.errors[0], line);
	report_clear(&report);
}

/* The text is YAML, but these are wrong in section `test`. */
static void
assert_values(const char *text, const char *const *lines)
{
	struct iris_config *config = parse(text);
	size_t count = 0;

	assert_non_null(config);
	settings_make(config, "test", options, &report);
	for (; lines[count]; count++) {
		assert_true(count < report.error_count);
		assert_string_equal(report.errors[count], lines[count]);
	}
	assert_int_equal(report.error_count, count);
	report_clear(&report);
	config_free(&config);
}

static void
values_and_defaults(void **state)
{
	struct iris_config *config =
		parse("test:\n  port: 80\n  wait: 5 seconds\n  level: error\n  names: [x, 'y z']\n"
		      "  listeners:\n    - {port: 1}\n    - port: 2\n      role: s2s\n");
	const struct iris_settings *s = settings_make(config, "test", options, &report);

	assert_int_equal(report.error_count, 0);
	assert_int_equal(settings_int(s, PORT), 80);
	assert_int_equal(settings_int(s, WAIT), 5000);
	assert_int_equal(settings_int(s, LEVEL), 0);
	assert_true(str_is_none(settings_str(s, HOST)));
	assert_int_equal(settings_count(s, NAMES), 2);
	assert_true(str_is(settings_item(s, NAMES, 1), "y z"));
	assert_int_equal(settings_count(s, LISTENERS), 2);
	assert_true(str_is(settings_str(settings_record(s, LISTENERS, 0), 1), "c2s"));
	assert_true(str_is(settings_str(settings_record(s, LISTENERS, 1), 1), "s2s"));
	assert_true(str_is(settings_str(s, FILE_), "/iris.db"));
	assert_true(str_is(settings_item(s, DEFAULTS, 1), "b"));
	assert_true(str_is(settings_where(s, PORT), "iris.yaml:2"));
	assert_true(str_is(settings_where(s, FILE_), "default"));
	assert_true(str_is(settings_where(settings_record(s, LISTENERS, 1), 1), "iris.yaml:9"));
	config_free(&config);
	assert_null(config);
}

static void
all_errors_at_once(void **state)
{
	assert_values(
		"test:\n  port: 70000\n  prot: 1\n  wait: soon\n  level: inf\n"
		"  host: [a]\n  names: x\n",
		(const char *const[]){
			"iris.yaml:3: test: there is no option \"prot\", did you mean \"port\"?",
			"iris.yaml:2: test.port: \"70000\" is out of range 1 … 65535",
			"iris.yaml:6: test.host: one value is expected here",
			"iris.yaml:4: test.wait: \"soon\" is not a duration: write a number with "
			"a unit (ms, seconds, minutes, "
			"hours, days), such as \"10 minutes\"",
			"iris.yaml:5: test.level: \"inf\" is not error or info, "
			"did you mean \"info\"?",
			"iris.yaml:7: test.names: a list is expected, such as [a, b]", NULL });
	assert_values(
		"test:\n  port:\n  names: [a, b, c, d]\n  listeners: [{role: x}, 7]\n",
		(const char *const[]){
			"iris.yaml:2: test.port: has no value",
			"iris.yaml:3: test.names: 4 entries, but this is a list of strings, "
			"0 … 3 entries",
			"iris.yaml:4: test.listeners[1].port is required",
			"iris.yaml:4: test.listeners: an entry with options is expected "
			"in this list",
			NULL });
}

static void
errors_are_bounded(void **state)
{
	struct iris_error error = { .message = "" };

	report_clear(&report);
	for (int i = 0; i < 30; i++)
		report_error(&report, "error %d", i);
	assert_int_equal(report.error_count, REPORT_MAX);
	assert_int_equal(report.error_more, 10);
	assert_false(report_to_error(&report, &error));
	assert_string_equal(error.message, "error 0 (and 29 more errors)");
	report_clear(&report);
}

/* SECURITY: a log is read by more people than a key. */
static void
secrets_are_not_printed(void **state)
{
	assert_values(
		"test:\n  key: correct horse battery\n",
		(const char *const[]){
			"iris.yaml:2: test.key: the value has 21 bytes, but needs 0 … 8", NULL });
}

static void
yaml_without_its_traps(void **state)
{
	assert_syntax("a:\n  b: 1\n  b: 2\n",
		      "iris.yaml:3:3: \"b\" is here twice, first in line 2");
	assert_syntax("a: {x: 1}\na: {y: 1}\n",
		      "iris.yaml:2:1: \"a\" is here twice, first in line 1");
	assert_syntax("a:\n  b: &x 1\n",
		      "iris.yaml:2:6: anchors (&name) and tags (!name) are not used here");
	assert_syntax("a:\n  b: !!str 1\n",
		      "iris.yaml:2:6: anchors (&name) and tags (!name) are not used here");
	assert_syntax("a:\n  b: *x\n",
		      "iris.yaml:2:6: aliases (*name) are not used here: write it out");
	assert_syntax("a:\n  <<: {b: 1}\n",
		      "iris.yaml:2:3: merge keys (<<) are not used here: write it out");
	assert_syntax("a: {b: 1}\n---\na: {c: 1}\n",
		      "iris.yaml:2:1: a second document (---) in one file");
	assert_syntax("a: {[x]: 1}\n", "iris.yaml:1:5: here the name of an option is expected");
	assert_syntax("- a\n", "iris.yaml:1: sections are expected");
	assert_syntax("a: 7\n", "iris.yaml:1: a: a section with options is expected");
	assert_syntax("a: {b: \"\\0\"}\n", "iris.yaml:1:8: a value contains a NUL character");
	assert_syntax("include: x\n", "iris.yaml:1: include: include: is only for files");
	assert_null(parse("a: {b: 1\n"));
	assert_null(parse("a: \xff\n"));
	assert_null(parse("a: [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]\n"));
	report_clear(&report);
}

static void
nothing_is_an_empty_configuration(void **state)
{
	static const char *const texts[] = { "",    "# only words\n", "---\n",
					     "~\n", "test:\n",	      "test: {}\n" };

	for (size_t i = 0; i < IRIS_COUNT(texts); i++) {
		struct iris_config *config = parse(texts[i]);
		assert_non_null(config);
		assert_int_equal(
			settings_int(settings_make(config, "test", options, &report), PORT), 5222);
		assert_int_equal(report.error_count, 0);
		config_free(&config);
	}
}

static struct iris_str
host_of(struct iris_config *config)
{
	return settings_str(settings_make(config, "test", options, &report), HOST);
}

static void
environment(void **state)
{
	struct iris_config *config;

	setenv("IRIS_TEST_NAME", "juliet: [capulet]", 1);
	setenv("IRIS_TEST_EMPTY", "", 1);
	unsetenv("IRIS_TEST_NONE");
	config = parse(
		"test: {host: \"<${IRIS_TEST_NAME}|${IRIS_TEST_NONE:-none}|"
		       "${IRIS_TEST_EMPTY:-empty}|$${x}|$1>\"}\n");
	/* What a variable holds is text, never YAML. */
	assert_true(str_is(host_of(config), "<juliet: [capulet]|none|empty|${x}|$1>"));
	config_free(&config);
	assert_syntax("test: {host: \"${IRIS_TEST_NONE}\"}\n",
		      "iris.yaml:1:14: the environment variable IRIS_TEST_NONE is not set");
	assert_syntax(
		"test: {host: \"${IRIS\"}\n",
		"iris.yaml:1:14: \"${\" has no closing \"}\" (\"$${\" stands for \"${\" itself)");
	assert_syntax("test: {host: \"${1x}\"}\n",
		      "iris.yaml:1:14: \"${1x}\" is neither ${NAME} nor ${NAME:-default}");
	/* In values only. */
	config = parse("test: {}\n\"${IRIS_TEST_NAME}\": {}\n");
	assert_non_null(config_section(config, IRIS_STR("${IRIS_TEST_NAME}")));
	config_free(&config);
}

static void
includes(void **state)
{
	struct iris_config *config;
	const struct iris_settings *s;

	scratch_write("iris.yaml", "include: [conf.d/*.yaml, nothing.d/*.yaml]\ntest: {port: 7}\n");
	scratch_write("conf.d/a.yaml", "test:\n  file: ../data/x.db\n");
	scratch_write("conf.d/b.yaml", "test:\n  host: verona\ninclude: sub/c.yaml\n");
	scratch_write("conf.d/sub/c.yaml", "other: {x: 1}\n");
	report_clear(&report);
	config = config_load(scratch_path("iris.yaml"), &report);
	if (config == NULL)
		fail_msg("%s", report.errors[0]);
	s = settings_make(config, "test", options, &report);
	assert_int_equal(report.error_count, 0);
	assert_int_equal(settings_int(s, PORT), 7);
	assert_true(str_is(settings_str(s, HOST), "verona"));
	assert_non_null(strstr(settings_str(s, FILE_).base, "/conf.d/../data/x.db"));
	assert_int_equal(settings_str(s, FILE_).base[0], '/');
	assert_non_null(strstr(settings_where(s, HOST).base, "conf.d/b.yaml:2"));
	assert_non_null(config_section(config, IRIS_STR("other")));
	config_free(&config);
}

static void
assert_load(const char *expected)
{
	report_clear(&report);
	assert_null(config_load(scratch_path("iris.yaml"), &report));
	if (strstr(report.errors[0], expected) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", report.errors[0], expected);
	report_clear(&report);
}

static void
includes_that_are_refused(void **state)
{
	scratch_write("iris.yaml", "include: loop.yaml\n");
	scratch_write("loop.yaml", "include: iris.yaml\n");
	assert_load("is included twice, or includes itself");
	scratch_write("iris.yaml", "include: [one.yaml, \"./one.yaml\"]\n");
	scratch_write("one.yaml", "test: {port: 1}\n");
	assert_load("is included twice, or includes itself");
	scratch_write("iris.yaml", "include: missing.yaml\n");
	assert_load("iris.yaml:1: include: ");
	scratch_write("iris.yaml", "include: one.yaml\ntest: {port: 2}\n");
	assert_load("test.port is set in ");
	assert_int_equal(mkfifo(scratch_path("pipe.yaml"), 0600), 0);
	scratch_write("iris.yaml", "include: pipe.yaml\n");
	assert_load("is not a regular file");
	scratch_write("iris.yaml", "include: {a: b}\n");
	assert_load("a file or a list of files is expected");
	report_clear(&report);
	assert_null(config_load(scratch_path("nowhere.yaml"), &report));
	assert_int_equal(report.error_count, 1);
	report_clear(&report);
}

static void
kept_values_are_copies(void **state)
{
	struct iris_config *old =
		parse("test: {port: 1, names: [a, b], key: old, listeners: [{port: 9}]}\n");
	const struct iris_settings *before = settings_make(old, "test", options, &report);
	struct iris_config *new =
		parse("test: {port: 2, names: [a, c], key: new, listeners: [{port: 10}]}\n");
	struct iris_settings *after = settings_make(new, "test", options, &report);
	static const unsigned changed[] = { PORT, KEY, NAMES, LISTENERS };

	assert_true(settings_equal(before, after, HOST) && settings_equal(before, after, WAIT));
	for (size_t i = 0; i < IRIS_COUNT(changed); i++) {
		assert_false(settings_equal(before, after, changed[i]));
		settings_keep(new, after, before, changed[i]);
		assert_true(settings_equal(before, after, changed[i]));
	}
	config_free(&old);
	assert_true(str_is(settings_item(after, NAMES, 1), "b"));
	assert_int_equal(settings_int(settings_record(after, LISTENERS, 0), 0), 9);
	assert_true(str_is(settings_str(after, KEY), "old"));
	config_free(&new);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_and_defaults),
		cmocka_unit_test(all_errors_at_once),
		cmocka_unit_test(errors_are_bounded),
		cmocka_unit_test(secrets_are_not_printed),
		cmocka_unit_test(yaml_without_its_traps),
		cmocka_unit_test(nothing_is_an_empty_configuration),
		cmocka_unit_test(environment),
		cmocka_unit_test_setup_teardown(includes, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(includes_that_are_refused, scratch_setup,
						scratch_teardown),
		cmocka_unit_test(kept_values_are_copies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
