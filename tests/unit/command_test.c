/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log_private.h"
#include "module_private.h"
#include "scratch.h"
#include "worker_common.h"

enum { WHO, MODE, COUNT, FORCE, SECRET, NOTE, FIELD_COUNT };
static const char *const modes[] = { "slow", "fast", NULL };
static const struct iris_command_field fields[] = {
	[WHO] = { .name = "who", .kind = IRIS_FIELD_JID, .required = true, .positional = true },
	[MODE] = {
		.name = "mode",
		.kind = IRIS_FIELD_CHOICE,
		.choices = modes,
		.fallback = "slow",
	},
	[COUNT] = { .name = "count", .kind = IRIS_FIELD_INT },
	[FORCE] = { .name = "force", .kind = IRIS_FIELD_BOOL },
	[SECRET] = { .name = "secret", .kind = IRIS_FIELD_SECRET },
	[NOTE] = { .name = "note", .kind = IRIS_FIELD_TEXTS },
	{ .name = NULL },
};

static struct iris_str seen[FIELD_COUNT];
static unsigned runs;

static void
run_add(struct iris_command_call *call)
{
	static const char *const columns[] = { "n", "text", NULL };

	runs++;
	memcpy(seen, call->values, sizeof(seen));
	command_table(call, columns);
	for (unsigned i = 0; i < 100; i++)
		command_row(call, (const struct iris_str[]){ arena_printf(call->arena, "%u", i),
							     IRIS_STR("x") });
}

static void
run_refuse(struct iris_command_call *call)
{
	call->refusal.condition = IRIS_CONFLICT;
}

static const struct iris_command user_add = {
	.noun = "user",
	.verb = "add",
	.summary = "x",
	.role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = fields,
	.run = run_add,
};
static const struct iris_command user_drop = {
	.noun = "user",
	.verb = "drop",
	.summary = "x",
	.role = IRIS_ROLE_OPERATOR,
	.run = run_refuse,
};
static const struct iris_command room_list = {
	.noun = "room",
	.verb = "list",
	.summary = "x",
	.role = IRIS_ROLE_USER,
	.run = run_refuse,
};
static struct iris_module_self self;
static const struct iris_module module = {
	IRIS_MODULE_HEAD,
	.name = "commands",
	.summary = "x",
	.self = &self,
	.commands = (const struct iris_command *const[]){ &user_drop, &room_list, &user_add, NULL },
	.metrics = command_metrics
};

static struct iris_arena *arena;
static struct iris_str values[FIELD_COUNT];

static struct iris_command_call
call_by(enum iris_role role, const struct iris_command *command)
{
	struct iris_command_call call = {
		.arena = arena,
		.role = role,
		.command = command,
		.values = values,
	};

	assert_true(jid_parse(arena, IRIS_STR("romeo@montague.example/x"), &call.from));
	command_run(&call);
	return call;
}

static void
assert_refused(enum iris_condition condition, const char *text)
{
	struct iris_command_call call = call_by(IRIS_ROLE_OPERATOR, &user_add);

	assert_int_equal(call.refusal.condition, condition);
	assert_string_equal(call.refusal.text, text);
	assert_int_equal(runs, 0);
}

static int
setup(void **state)
{
	arena = arena_new();
	runs = 0;
	memset(values, 0, sizeof(values));
	values[WHO] = IRIS_STR("Juliet@Capulet.example");
	return 0;
}

static int
teardown(void **state)
{
	arena_unref(&arena);
	return 0;
}

static void
values_are_prepared(void **state)
{
	values[FORCE] = IRIS_STR("1");
	values[COUNT] = IRIS_STR("-3");
	values[MODE] = IRIS_STR(""); /* an empty box */
	struct iris_command_call call = call_by(IRIS_ROLE_COMPANY_ADMIN, &user_add);
	assert_int_equal(call.refusal.condition, IRIS_NO_ERROR);
	assert_int_equal(runs, 1);
	assert_true(str_is(seen[WHO], "juliet@capulet.example"));
	assert_true(str_is(seen[MODE], "slow"));
	assert_true(str_is(seen[FORCE], "true"));
	assert_true(str_is_none(seen[SECRET]));
	assert_int_equal(call.row_count, 100);
	for (size_t i = 0; i < 100; i++)
		assert_true(str_is(call.cells[2 * i], arena_printf(arena, "%zu", i).base));
}

static void
what_is_wrong_is_named(void **state)
{
	values[WHO] = IRIS_STR_NONE;
	assert_refused(IRIS_BAD_REQUEST, "who: is required");
	values[WHO] = IRIS_STR("@");
	assert_refused(IRIS_NOT_ACCEPTABLE, "who: is not an address");
	values[WHO] = IRIS_STR("a@b.example");
	values[MODE] = IRIS_STR("medium");
	assert_refused(IRIS_NOT_ACCEPTABLE, "mode: must be one of: slow fast");
	values[MODE] = IRIS_STR("fast");
	values[COUNT] = IRIS_STR("3x");
	assert_refused(IRIS_NOT_ACCEPTABLE, "count: must be an integer");
	values[COUNT] = IRIS_STR_NONE;
	values[FORCE] = IRIS_STR("yes");
	assert_refused(IRIS_NOT_ACCEPTABLE, "force: must be true or false");
	values[FORCE] = IRIS_STR_NONE;
	values[SECRET] = IRIS_STR("two\nlines");
	assert_refused(IRIS_NOT_ACCEPTABLE, "secret: must be one line");
	values[SECRET] = arena_printf(arena, "%*d", 5000, 1);
	assert_refused(IRIS_NOT_ACCEPTABLE, "secret: is too long");
}

/* SECURITY: who may not, cannot even see it. */
static void
roles_hide(void **state)
{
	assert_null(command_find(IRIS_ROLE_USER, IRIS_STR("user"), IRIS_STR("add")));
	assert_ptr_equal(command_find(IRIS_ROLE_COMPANY_ADMIN, IRIS_STR("user"), IRIS_STR("add")),
			 &user_add);
	assert_null(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("user"), IRIS_STR("ad")));
	struct iris_command_call call = call_by(IRIS_ROLE_USER, &user_add);
	assert_int_equal(call.refusal.condition, IRIS_ITEM_NOT_FOUND);
	assert_null(call.refusal.text);
	assert_int_equal(runs, 0);
}

static bool
collect(const struct iris_command *command, void *arg)
{
	char *text = arg;
	size_t len = strlen(text);

	snprintf(text + len, 100 - len, "%s %s,", command->noun, command->verb);
	return true;
}

static void
lists_are_sorted_and_filtered(void **state)
{
	char text[100] = "";

	command_each(IRIS_ROLE_COMPANY_ADMIN, collect, text);
	assert_string_equal(text, "room list,user add,");
	text[0] = '\0';
	command_each(IRIS_ROLE_OPERATOR, collect, text);
	assert_string_equal(text, "room list,user add,user drop,");
}

static char *
read_log(void)
{
	static char text[4096];
	FILE *file = fopen(scratch_path("log"), "r");

	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

/* SECURITY: who, what, verdict; never what was written, never an address as such (P10.1). */
static void
calls_are_logged_and_counted(void **state)
{
	const int64_t done = metric_value(&command_metrics[0]),
		      refused = metric_value(&command_metrics[1]);
	struct iris_error error;

	assert_true(log_open(scratch_path("log"), IRIS_LOG_NOTICE, &error));
	values[SECRET] = IRIS_STR("hunter2");
	values[NOTE] = IRIS_STR("wherefore");
	values[MODE] = IRIS_STR("fast");
	call_by(IRIS_ROLE_OPERATOR, &user_add);
	call_by(IRIS_ROLE_OPERATOR, &user_drop);
	log_close();
	const char *text = read_log();
	assert_non_null(strstr(text, "\"mode\":\"fast\""));
	assert_non_null(strstr(text, "conflict"));
	assert_null(strstr(text, "hunter2"));
	assert_null(strstr(text, "wherefore"));
	assert_null(strstr(text, "juliet"));
	assert_null(strstr(text, "romeo"));
	assert_int_equal(metric_value(&command_metrics[0]), done + 1);
	assert_int_equal(metric_value(&command_metrics[1]), refused + 1);
}

static int
setup_group(void **state)
{
	static const struct iris_module *const linked[] = { &module, NULL };
	struct iris_report report = { .error_count = 0 };
	struct iris_error error;
	struct iris_config *config = config_parse("x", IRIS_STR(""), &report);

	return setup_workers(0) || scratch_setup(state) ||
	       !modules_select(linked, &config, &report) || !modules_start(&error);
}

static int
teardown_group(void **state)
{
	modules_stop();
	return scratch_teardown(state) || teardown_workers(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(values_are_prepared, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_wrong_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(roles_hide, setup, teardown),
		cmocka_unit_test_setup_teardown(lists_are_sorted_and_filtered, setup, teardown),
		cmocka_unit_test_setup_teardown(calls_are_logged_and_counted, setup, teardown),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
