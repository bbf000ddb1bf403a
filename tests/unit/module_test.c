/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiny modules that use everything a descriptor can hold: how they are chosen, ordered, registered,
 * refused, reloaded and undone.
 */
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

/* --- the modules --- */

static char diary[400]; /* what happened, in order */

static void
note(const char *word)
{
	size_t len = strlen(diary);
	snprintf(diary + len, sizeof(diary) - len, "%s%s", len ? " " : "", word);
}

enum { GREETING, LIMIT, SECRET };
static const struct iris_option base_options[] = {
	[GREETING] = {
		.name = "greeting",
		.type = IRIS_OPT_STRING,
		.fallback = "hello",
		.reloadable = true,
	},
	[LIMIT] = { .name = "limit", .type = IRIS_OPT_INT, .fallback = "3", .min = 1, .max = 9 },
	[SECRET] = {
		.name = "secret",
		.type = IRIS_OPT_STRING,
		.optional = true,
		.secret = true,
		.reloadable = true,
	},
	IRIS_OPTIONS_END
};

static struct iris_module_self base_self, upper_self, other_self;

static bool
base_check(const struct iris_settings *settings, struct iris_error *error)
{
	return !str_is(settings_str(settings, GREETING), "boo") ||
	       error_set(error, "boo is no greeting");
}

static bool
base_start(struct iris_error *error)
{
	note("+base");
	return true;
}
#define NOTING_FUNCTION(name, word) \
	static void name(void)      \
	{                           \
		note(word);         \
	}
NOTING_FUNCTION(base_stop, "-base")
NOTING_FUNCTION(base_reload, "~base")
static bool
upper_start(struct iris_error *error)
{
	note("+upper");
	return true;
}
NOTING_FUNCTION(upper_stop, "-upper")
static bool
failing_start(struct iris_error *error)
{
	error_set(error, "it rains");
	return error_hint(error, "none");
}

static enum iris_verdict
answer(struct iris_request *request)
{
	request->is_self = true;
	return IRIS_DONE;
}

static void
on_element(struct iris_stream *stream, struct iris_element *element)
{
	note("element");
}

static enum iris_verdict verdict_of_base;

#define NOTING_HOOK(name, word, verdict)                            \
	static enum iris_verdict name(struct iris_request *request) \
	{                                                           \
		note(word);                                         \
		return verdict;                                     \
	}
NOTING_HOOK(base_hook, "base", verdict_of_base)
NOTING_HOOK(upper_hook, "upper", IRIS_PASS)
NOTING_HOOK(upper_filter, "filter", IRIS_PASS)
NOTING_HOOK(upper_late, "late", IRIS_PASS)
NOTING_HOOK(upper_observe, "observe", IRIS_REFUSE)

static void
run_nothing(struct iris_command_call *call)
{
}
static const struct iris_command base_command = {
	.noun = "base",
	.verb = "list",
	.summary = "x",
	.role = IRIS_ROLE_OPERATOR,
	.run = run_nothing,
};
static const struct iris_iq base_iq[] = {
	{ IRIS_TO_HOST | IRIS_TO_ACCOUNT, IRIS_GET, "query", "urn:test", IRIS_ANYONE, answer },
	{ .name = NULL },
};
static const struct iris_stream_handler base_elements[] = { { "a", "urn:test", ~0u, on_element },
							    { .name = NULL } };
static const struct iris_hook_handler base_hooks[] = { HOOK(stanza_out, IRIS_NEUTRAL, base_hook),
						       HOOKS_END };
static const struct iris_hook_handler upper_hooks[] = {
	HOOK(stanza_out, IRIS_OBSERVE, upper_observe), HOOK(stanza_out, IRIS_LATE, upper_late),
	HOOK(stanza_out, IRIS_NEUTRAL, upper_hook), HOOK(stanza_out, IRIS_FILTER, upper_filter),
	HOOKS_END
};
static const struct iris_feature base_features[] = { { IRIS_DISCO_HOST, "urn:z" },
						     { IRIS_DISCO_HOST, "urn:a" },
						     { IRIS_DISCO_ACCOUNT, "urn:z" },
						     { .var = NULL } };
static struct iris_metric base_metrics[] = {
	{ .name = "iris_base_total", .kind = IRIS_COUNTER, .help = "x" },
	{ .name = NULL },
};
static const struct iris_stream_role base_role = { .name = "test-role" };
static const struct iris_accounts base_accounts = { .find = NULL };

static const struct iris_module base = {
	IRIS_MODULE_HEAD,
	.name = "base",
	.summary = "Has it all",
	.xep = "XEP-9999 1.2",
	.self = &base_self,
	.options = base_options,
	.features = base_features,
	.iq = base_iq,
	.elements = base_elements,
	.hooks = base_hooks,
	.commands = (const struct iris_command *const[]){ &base_command, NULL },
	.metrics = base_metrics,
	.accounts = &base_accounts,
	.roles = (const struct iris_stream_role *const[]){ &base_role, NULL },
	.check = base_check,
	.start = base_start,
	.stop = base_stop,
	.reload = base_reload
};
static const struct iris_module upper = {
	IRIS_MODULE_HEAD,
	.name = "an-upper",
	.summary = "Needs base",
	.needs = IRIS_NAMES("base"),
	.self = &upper_self,
	.hooks = upper_hooks,
	.features = base_features,
	.start = upper_start,
	.stop = upper_stop,
};
static const struct iris_module failing = {
	IRIS_MODULE_HEAD,
	.name = "failing",
	.summary = "Fails",
	.needs = IRIS_NAMES("an-upper"),
	.self = &other_self,
	.start = failing_start,
};
static const struct iris_module optional = {
	IRIS_MODULE_HEAD,
	.name = "optional",
	.summary = "Off",
	.off_by_default = true,
	.self = &other_self,
	.options = base_options,
};

/* --- helpers --- */

static struct iris_report report;
static struct iris_error error;

static bool
select_(const struct iris_module *const *linked, const char *yaml)
{
	struct iris_config *config;
	bool ok;

	report_clear(&report);
	diary[0] = '\0';
	scratch_write("iris.yaml", yaml);
	config = config_load(scratch_path("iris.yaml"), &report);
	if (config == NULL)
		fail_msg("%s in:\n%s", report.errors[0], yaml);
	ok = modules_select(linked, &config, &report);
	config_free(&config);
	return ok;
}

#define LIST(...) ((const struct iris_module *const[]){ __VA_ARGS__, NULL })

static void
run_modules(const struct iris_module *const *linked, const char *yaml)
{
	if (!select_(linked, yaml))
		fail_msg("%s", report.errors[0]);
	if (!modules_start(&error))
		fail_msg("%s", error.message);
}

static void
assert_reported(const char *text)
{
	for (size_t i = 0; i < report.error_count; i++)
		if (strstr(report.errors[i], text))
			return;
	fail_msg("nobody says \"%s\", but: %s", text,
		 report.error_count ? report.errors[0] : "nothing");
}

static void
assert_not_selected(const struct iris_module *const *linked, const char *yaml, const char *text)
{
	assert_false(select_(linked, yaml));
	assert_reported(text);
	report_clear(&report);
}

static void
assert_not_started(const struct iris_module *const *linked, const char *text)
{
	assert_true(select_(linked, "{}"));
	assert_false(modules_start(&error));
	if (strstr(error.message, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
	assert_false(module_is_loaded("base"));
}

/* --- choosing --- */

static void
descriptors_are_checked(void **state)
{
	struct iris_module module = base;

	module.magic = 7;
	assert_not_selected(LIST(&module), "{}",
			    "base: wrong magic 0x00000007: this is no module of Iris");
	module = base;
	module.abi = 99;
	assert_not_selected(LIST(&module), "{}",
			    "base: wrong ABI: the module has 99, this server 1");
	module = base;
	module.size = 8;
	assert_not_selected(LIST(&module), "{}", "base: wrong size: the descriptor has 8 bytes");
	module = base;
	module.self = NULL;
	assert_not_selected(LIST(&module), "{}", "options, but no self");
	module = base;
	module.name = "../x";
	assert_not_selected(LIST(&module), "{}", "no proper name");
}

static void
load_and_skip(void **state)
{
	run_modules(LIST(&base, &optional), "modules: {load: [optional], skip: [base]}\n");
	assert_true(module_is_loaded("optional"));
	assert_false(module_is_loaded("base"));
	modules_stop();
	run_modules(LIST(&base, &optional), "{}");
	assert_false(module_is_loaded("optional"));
	modules_stop();
	assert_not_selected(LIST(&base), "modules: {load: [bsae]}\n",
			    "there is no module \"bsae\", did you mean \"base\"?");
	assert_not_selected(LIST(&base), "modules: {skip: [nobody]}\n",
			    "there is no module \"nobody\"");
	assert_not_selected(LIST(&base), "modules: {load: [base], skip: [base]}\n",
			    "both in load and in skip");
	assert_not_selected(LIST(&base), "bas: {limit: 3}\n",
			    "iris.yaml:1: there is no module \"bas\", did you mean \"base\"?");
}

static void
every_section_is_checked(void **state)
{
	assert_not_selected(LIST(&base, &optional),
			    "optional: {limit: 12}\nbase: {limt: 1, limit: x, greeting: boo}\n",
			    "optional.limit: \"12\" is out of range 1 … 9");
	assert_not_selected(
		LIST(&base), "base:\n  limt: 1\n",
		"iris.yaml:2: base: there is no option \"limt\", did you mean \"limit\"?");
	assert_not_selected(LIST(&base), "base:\n  greeting: boo\n", "base: boo is no greeting");
}

static const struct iris_module circle_a = {
	IRIS_MODULE_HEAD,
	.name = "a",
	.summary = "x",
	.needs = IRIS_NAMES("b"),
};
static const struct iris_module circle_b = {
	IRIS_MODULE_HEAD,
	.name = "b",
	.summary = "x",
	.needs = IRIS_NAMES("c"),
};
static const struct iris_module circle_c = {
	IRIS_MODULE_HEAD,
	.name = "c",
	.summary = "x",
	.needs = IRIS_NAMES("a"),
};

static void
order_follows_needs(void **state)
{
	run_modules(LIST(&upper, &base), "{}");
	assert_string_equal(diary, "+base +upper");
	modules_stop();
	assert_string_equal(diary, "+base +upper -upper -base");
	assert_not_selected(LIST(&upper), "{}", "an-upper needs base, which is not there");
	assert_not_selected(LIST(&upper, &base), "modules: {skip: [base]}\n",
			    "an-upper needs base, which is not loaded");
	assert_not_selected(LIST(&base, &circle_a, &circle_b, &circle_c), "{}",
			    "in a circle: a → b → c → a");
}

/* --- registering --- */

static void
collect(const char *var, void *arg)
{
	note(var);
}

static void
everything_is_registered_and_undone(void **state)
{
	const struct iris_module *module;
	struct iris_request request = { .arena = NULL };

	run_modules(LIST(&base, &upper), "base: {greeting: hi}\n");
	assert_true(str_is(option_str(&base_self, GREETING), "hi"));
	assert_ptr_equal(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"), &module),
		&base_iq[0]);
	assert_ptr_equal(iq_find(IRIS_TO_ACCOUNT, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"),
				 &module),
			 &base_iq[0]);
	assert_ptr_equal(module, &base);
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_SET, IRIS_STR("query"), IRIS_STR("urn:test"), &module));
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:tesd"), &module));
	assert_int_equal(iq_run(&base_iq[0], &base, &request), IRIS_DONE);
	assert_true(request.is_self);
	diary[0] = '\0';
	stream_handler_run(stream_handler_find(IRIS_STR("a"), IRIS_STR("urn:test"), &module),
			   module, NULL, NULL);
	feature_each(IRIS_DISCO_HOST, collect, NULL);
	assert_string_equal(diary, "element urn:a urn:z"); /* sorted, each once */
	assert_ptr_equal(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("base"), IRIS_STR("list")),
			 &base_command);
	assert_ptr_equal(stream_role_find(IRIS_STR("test-role")), &base_role);
	assert_ptr_equal(accounts(), &base_accounts);
	assert_true(hook_is_used(IRIS_HOOK_ID_stanza_out));
	assert_false(hook_is_used(IRIS_HOOK_ID_stanza_in));
	metric_add(&base_metrics[0], 2);
	assert_int_equal(metric_value(&base_metrics[0]), 2);

	modules_stop();
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"), &module));
	assert_null(stream_handler_find(IRIS_STR("a"), IRIS_STR("urn:test"), &module));
	assert_null(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("base"), IRIS_STR("list")));
	assert_null(stream_role_find(IRIS_STR("test-role")));
	assert_false(hook_is_used(IRIS_HOOK_ID_stanza_out));
	assert_false(module_is_loaded("base"));
	assert_int_equal(base_metrics[0].slot, 0);
}

static void
conflicts_name_both(void **state)
{
	struct iris_module twin = {
		IRIS_MODULE_HEAD,
		.name = "twin",
		.summary = "x",
		.self = &other_self,
	};

	twin.iq = base_iq;
	assert_not_started(LIST(&base, &twin, &upper),
			   "the modules base and twin both handle <query xmlns='urn:test'/>");
	twin.iq = NULL, twin.elements = base_elements;
	assert_not_started(LIST(&base, &twin),
			   "the modules base and twin both handle <a xmlns='urn:test'/>");
	twin.elements = NULL, twin.commands = base.commands;
	assert_not_started(LIST(&base, &twin), "both have the command \"base list\"");
	twin.commands = NULL, twin.accounts = base.accounts;
	assert_not_started(LIST(&base, &twin), "the modules base and twin both keep accounts");
	twin.accounts = NULL, twin.roles = base.roles;
	assert_not_started(LIST(&base, &twin), "both have the stream role \"test-role\"");
	assert_string_equal(diary, ""); /* nobody was started for it */
}

static void
a_failing_start_stops_the_others(void **state)
{
	assert_not_started(LIST(&base, &upper, &failing),
			   "the module failing did not start: it rains");
	assert_string_equal(error.hint, "none");
	assert_string_equal(diary, "+base +upper -upper -base");
}

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

/* --- documents --- */

static char *
written(void (*write)(FILE *out, const struct iris_module *const *modules))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	write(out, LIST(&optional, &base, &iris_module_modules));
	fclose(out);
	return text;
}

static void
assert_says(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

/* The sample, but for its head, without the first '#' of all lines that are not prose ("# …"). */
static char *
uncommented(const char *sample)
{
	char *text = calloc(1, strlen(sample) + 1), *to = text;

	for (const char *from = strstr(sample, "\n\n# "); *from;) {
		from += from[0] == '#' && !(from[1] == ' ' && from[2] != ' ');
		while (*from && *from != '\n')
			*to++ = *from++;
		if (*from)
			*to++ = *from++;
	}
	return text;
}

static void
documents(void **state)
{
	char *manual = written(config_write_manual), *sample = written(config_write_sample),
	     *doap = written(modules_write_doap), *yaml = uncommented(sample);

	assert_says(manual, ".Ss base\n");
	assert_says(manual, ".It Cm limit\n");
	assert_says(manual, "Value: an integer, 1 … 9.\nDefault: 3.\nA change needs a restart.\n");
	assert_says(manual, "It is a secret and never printed.\n");
	assert_says(sample, "#base:\n");
	assert_says(sample, "#  limit: 3\n");
	assert_says(doap, "rdf:resource=\"https://xmpp.org/extensions/xep-9999.html\"");
	assert_says(doap, "<xmpp:version>1.2</xmpp:version>");
	if (!select_(LIST(&optional, &base, &iris_module_modules), yaml))
		fail_msg("%s in:\n%s", report.errors[0], yaml);
	modules_stop();
	free(yaml);
	free(manual);
	free(sample);
	free(doap);
}

static int
setup_group(void **state)
{
	return setup_workers(2) || scratch_setup(state);
}

static int
teardown_group(void **state)
{
	report_clear(&report);
	return scratch_teardown(state) || teardown_workers(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_are_checked),
		cmocka_unit_test(load_and_skip),
		cmocka_unit_test(every_section_is_checked),
		cmocka_unit_test(order_follows_needs),
		cmocka_unit_test(everything_is_registered_and_undone),
		cmocka_unit_test(conflicts_name_both),
		cmocka_unit_test(a_failing_start_stops_the_others),
		cmocka_unit_test(bands_and_verdicts),
		cmocka_unit_test(chains_may_change_under_a_run),
		cmocka_unit_test(load_and_unload),
		cmocka_unit_test(load_refuses_conflicts),
		cmocka_unit_test(reload_keeps_what_is_fixed),
		cmocka_unit_test(reload_refuses_as_a_whole),
		cmocka_unit_test(operators_load_unload_reload),
		cmocka_unit_test(tables_change_while_workers_read),
		cmocka_unit_test(documents),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
