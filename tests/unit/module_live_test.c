/* SPDX-License-Identifier: Apache-2.0 */
/* What happens while the server runs: hooks, loading, unloading, reloading, under workers' feet. */
#include "module_common.h"

/* --- hooks --- */

static void
assert_chain(enum iris_verdict verdict, enum iris_verdict result, const char *expected)
{
	struct iris_request request = { .arena = NULL };

	verdict_of_base = verdict;
	diary[0] = '\0';
	assert_int_equal(hook_run_stanza_out(&request), result);
	assert_string_equal(diary, expected);
}

static void
bands_and_verdicts(void **state)
{
	run_modules(LIST(&upper, &base), "{}");
	assert_chain(IRIS_PASS, IRIS_PASS, "filter base upper late observe");
	assert_chain(IRIS_DONE, IRIS_DONE, "filter base observe");
	assert_chain(IRIS_REFUSE, IRIS_REFUSE, "filter base observe");
	modules_stop();
	assert_chain(IRIS_PASS, IRIS_PASS, "");
}

/* SECURITY: debugging one address logs nothing of the others. */
static void
a_trace_shows_one_address(void **state)
{
	struct iris_stanza *stanza = stanza_new(IRIS_MESSAGE, IRIS_CHAT);
	struct iris_request request = { .stanza = stanza };
	char text[2000];
	FILE *file;

	run_modules(LIST(&upper, &base), "{}");
	assert_true(log_open(scratch_path("log"), IRIS_LOG_DEBUG, &error));
	hook_trace_set(IRIS_STR("juliet@capulet.example"));
	stanza->from = jid_from_prepared(IRIS_STR("romeo@montague.example/x"));
	verdict_of_base = IRIS_REFUSE;
	hook_run_stanza_out(&request);
	stanza->from = jid_from_prepared(IRIS_STR("juliet@capulet.example/balcony"));
	hook_run_stanza_out(&request);
	hook_trace_set(IRIS_STR_NONE);
	hook_run_stanza_out(&request);
	log_close();

	file = fopen(scratch_path("log"), "r");
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	const char *refusal = strstr(text, "\"verdict\":\"refuse\"");
	assert_non_null(refusal);
	assert_non_null(strstr(refusal, "\"band\":4")); /* who observes still hears of it */
	refusal = strstr(refusal + 1, "\"module\":\"base\"");
	assert_null(refusal); /* once */
	stanza_unref(&stanza);
	modules_stop();
}

/* --- load, unload --- */

static enum iris_verdict
unload_upper(struct iris_request *request)
{
	/* As if the handler had waited, and the module before it went meanwhile. */
	if (module_is_loaded("an-upper")) {
		assert_true(module_unload_begin(IRIS_STR("an-upper"), &error));
		note("unload");
	}
	return IRIS_PASS;
}

static const struct iris_hook_handler changing_hooks[] = {
	HOOK(stanza_out, IRIS_EARLY, unload_upper), HOOKS_END
};
static const struct iris_module changing = {
	IRIS_MODULE_HEAD,
	.name = "changing",
	.summary = "x",
	.self = &other_self,
	.hooks = changing_hooks,
};

static void
chains_may_change_under_a_run(void **state)
{
	run_modules(LIST(&upper, &base, &changing), "{}");
	assert_chain(IRIS_PASS, IRIS_PASS, "filter unload base");
	assert_true(module_unload_finish());
	modules_stop();
}

static void
load_and_unload(void **state)
{
	unsigned index;

	run_modules(LIST(&base, &upper), "modules: {skip: [an-upper]}\n");
	assert_true(module_load(IRIS_STR("an-upper"), &error));
	assert_false(module_load(IRIS_STR("an-upper"), &error));
	assert_string_equal(error.message, "the module an-upper is loaded already");
	assert_false(module_load(IRIS_STR("nobody"), &error));
	assert_chain(IRIS_PASS, IRIS_PASS, "filter base upper late observe");
	assert_false(module_unload_begin(IRIS_STR("base"), &error));
	assert_string_equal(error.message, "the module an-upper needs base");
	index = upper_self.index;

	module_enter(&upper); /* a fiber waits in it */
	diary[0] = '\0';
	assert_true(module_unload_begin(IRIS_STR("an-upper"), &error));
	assert_false(module_is_loaded("an-upper"));
	assert_false(module_unload_finish());
	assert_false(module_load(IRIS_STR("an-upper"), &error));
	assert_string_equal(error.message, "the module an-upper is still being unloaded");
	assert_string_equal(diary, "");
	module_leave(&upper);
	assert_true(module_unload_finish());
	assert_string_equal(diary, "-upper");

	assert_true(module_load(IRIS_STR("an-upper"), &error));
	assert_true(upper_self.index > index); /* what slots hold is never mistaken for ours */
	assert_int_equal(module_slot_count(), upper_self.index + 1);
	modules_stop();
}

static void
load_refuses_conflicts(void **state)
{
	struct iris_module twin = {
		IRIS_MODULE_HEAD,
		.name = "twin",
		.summary = "x",
		.self = &other_self,
		.iq = base_iq,
		.off_by_default = true,
	};

	run_modules(LIST(&base, &twin, &optional), "optional: {greeting: hi}\n");
	assert_false(module_load(IRIS_STR("twin"), &error));
	assert_non_null(strstr(error.message, "both handle"));
	assert_false(module_is_loaded("twin"));
	assert_true(module_load(IRIS_STR("optional"), &error));
	assert_true(str_is(option_str(&other_self, GREETING), "hi"));
	modules_stop();
}

/* --- reload --- */

static bool
reload(const char *yaml)
{
	report_clear(&report);
	scratch_write("iris.yaml", yaml);
	return modules_reload(&report);
}

static void
reload_keeps_what_is_fixed(void **state)
{
	run_modules(LIST(&base, &optional), "base: {greeting: one, limit: 4, secret: x}\n");
	diary[0] = '\0';
	assert_true(reload("base: {greeting: two, limit: 5, secret: y}\n"));
	assert_string_equal(diary, "~base");
	assert_true(str_is(option_str(&base_self, GREETING), "two"));
	assert_true(str_is(option_str(&base_self, SECRET), "y"));
	assert_int_equal(option_int(&base_self, LIMIT), 4);
	assert_int_equal(report.restart_count, 1);
	assert_non_null(strstr(report.restarts[0],
			       "iris.yaml:1: base.limit has changed: it needs a restart"));
	assert_true(reload("base: {greeting: three, limit: 4}\n"));
	assert_int_equal(report.restart_count, 0);
	assert_true(str_is(option_str(&base_self, GREETING), "three"));
	modules_stop();
}

static void
reload_refuses_as_a_whole(void **state)
{
	run_modules(LIST(&base, &optional), "base: {greeting: one}\n");
	diary[0] = '\0';
	assert_false(reload("base: {greeting: two, limit: 0}\noptional: {limt: 1}\nnobody: {}\n"));
	assert_reported("base.limit: \"0\" is out of range");
	assert_reported("optional: there is no option \"limt\"");
	assert_reported("there is no module \"nobody\"");
	assert_false(reload("base: {greeting: boo}\n"));
	assert_reported("base: boo is no greeting");
	assert_false(reload("base: {greeting\n"));
	assert_true(str_is(option_str(&base_self, GREETING), "one"));
	assert_string_equal(diary, "");
	modules_stop();
	report_clear(&report);
}

/* --- commands --- */

static struct iris_command_call
operate(struct iris_arena *arena, const char *verb, const char *name)
{
	struct iris_str values[] = { str_from(name) };
	struct iris_command_call call = {
		.arena = arena,
		.role = IRIS_ROLE_OPERATOR,
		.values = values,
	};

	assert_true(jid_parse(arena, IRIS_STR("operator@verona.example"), &call.from));
	call.command = command_find(IRIS_ROLE_OPERATOR, IRIS_STR("module"), str_from(verb));
	assert_non_null(call.command);
	command_run(&call);
	return call;
}

static void
operate_on_a_fiber(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_command_call call;

	call = operate(arena, "load", "an-upper");
	assert_int_equal(call.refusal.condition, IRIS_NO_ERROR);
	assert_true(str_is(call.note, "an-upper is loaded"));
	call = operate(arena, "load", "an-upper");
	assert_int_equal(call.refusal.condition, IRIS_NOT_ALLOWED);
	assert_string_equal(call.refusal.text, "the module an-upper is loaded already");
	call = operate(arena, "list", NULL);
	assert_int_equal(call.row_count, 3);
	assert_true(str_is(call.cells[2 * 4], "an-upper"));
	call = operate(arena, "unload", "an-upper");
	assert_true(str_is(call.note, "an-upper is unloaded"));
	call = operate(arena, "unload", "base");
	assert_true(str_is(call.note, "base is unloaded"));
	call = operate(arena, "unload", "modules");
	assert_int_equal(call.refusal.condition, IRIS_NOT_ALLOWED);
	call = operate(arena, "load", "base");
	assert_int_equal(call.refusal.condition, IRIS_NO_ERROR);

	scratch_write("iris.yaml", "modules: {skip: [an-upper]}\nbase: {limit: 7, greeting: hi}\n");
	call = operate(arena, "reload", NULL);
	assert_int_equal(call.refusal.condition, IRIS_NO_ERROR);
	assert_int_equal(call.row_count, 1);
	assert_true(str_is(option_str(&base_self, GREETING), "hi"));
	scratch_write("iris.yaml", "base: {limit: 77, greeting: ho}\n");
	call = operate(arena, "reload", NULL);
	assert_int_equal(call.refusal.condition, IRIS_NOT_ALLOWED);
	assert_non_null(strstr(call.refusal.text, "is out of range 1 … 9"));
	assert_true(str_is(option_str(&base_self, GREETING), "hi"));
	arena_unref(&arena);
	worker_main_quit();
}

static void
operators_load_unload_reload(void **state)
{
	run_modules(LIST(&iris_module_modules, &base, &upper), "modules: {skip: [an-upper]}\n");
	on_fiber(operate_on_a_fiber, NULL);
	modules_stop();
}

/* --- while workers work --- */

static struct iris_module_self waiting_self;
static _Atomic unsigned readers, calls;
static _Atomic bool enough;

static enum iris_verdict
waiting_hook(struct iris_request *request)
{
	atomic_fetch_add(&calls, 1);
	return fiber_sleep(1) ? IRIS_PASS : IRIS_DONE;
}

static enum iris_verdict
waiting_answer(struct iris_request *request)
{
	return !fiber_sleep(1) || str_is(option_str(&waiting_self, GREETING), "hello")
		       ? IRIS_DONE
		       : IRIS_REFUSE;
}

static const struct iris_hook_handler waiting_hooks[] = {
	HOOK(stanza_out, IRIS_EARLY, waiting_hook), HOOK(stanza_out, IRIS_LATE, waiting_hook),
	HOOKS_END
};
static const struct iris_iq waiting_iq[] = {
	{ IRIS_TO_HOST, IRIS_SET, "wait", "urn:test", IRIS_ANYONE, waiting_answer },
	{ .name = NULL },
};
static const struct iris_module waiting = {
	IRIS_MODULE_HEAD,
	.name = "waiting",
	.summary = "x",
	.self = &waiting_self,
	.options = base_options,
	.hooks = waiting_hooks,
	.iq = waiting_iq,
};

static void
read_on_a_fiber(void *arg)
{
	while (!atomic_load(&enough)) {
		struct iris_request request = { .arena = NULL };
		const struct iris_module *module;
		const struct iris_iq *iq = iq_find(IRIS_TO_HOST, IRIS_SET, IRIS_STR("wait"),
						   IRIS_STR("urn:test"), &module);

		if (iq)
			assert_int_equal(iq_run(iq, module, &request), IRIS_DONE);
		if (hook_run_stanza_out(&request) == IRIS_PASS && !fiber_sleep(1))
			break;
	}
	atomic_fetch_sub(&readers, 1);
}

static void
start_reader(void *arg)
{
	if (worker_index() == WORKER_MAIN)
		return;
	for (int i = 0; i < 20; i++) {
		atomic_fetch_add(&readers, 1);
		assert_true(fiber_start("reader", read_on_a_fiber, NULL));
	}
}

/* Handlers wait while their module comes, goes, and is configured anew. */
static void
tables_change_while_workers_read(void **state)
{
	run_modules(LIST(&waiting), "{}");
	atomic_store(&enough, false);
	workers_each(start_reader, NULL);
	for (int i = 0; i < 20; i++) {
		const unsigned before = atomic_load(&calls);
		while (atomic_load(&calls) < before + 20)
			module_grace();
		assert_true(reload(i % 2 ? "{}" : "waiting: {secret: x}\n"));
		assert_true(module_unload_begin(IRIS_STR("waiting"), &error));
		while (!module_unload_finish())
			;
		assert_true(module_load(IRIS_STR("waiting"), &error));
	}
	atomic_store(&enough, true);
	while (atomic_load(&readers) > 0)
		module_grace();
	modules_stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bands_and_verdicts),
		cmocka_unit_test(a_trace_shows_one_address),
		cmocka_unit_test(chains_may_change_under_a_run),
		cmocka_unit_test(load_and_unload),
		cmocka_unit_test(load_refuses_conflicts),
		cmocka_unit_test(reload_keeps_what_is_fixed),
		cmocka_unit_test(reload_refuses_as_a_whole),
		cmocka_unit_test(operators_load_unload_reload),
		cmocka_unit_test(tables_change_while_workers_read),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
