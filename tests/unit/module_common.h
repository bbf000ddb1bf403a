/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny modules that use everything a descriptor can hold, and how tests run them. */
#ifndef TESTS_MODULE_COMMON_H
#define TESTS_MODULE_COMMON_H

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

static inline bool
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

static inline void
run_modules(const struct iris_module *const *linked, const char *yaml)
{
	if (!select_(linked, yaml))
		fail_msg("%s", report.errors[0]);
	if (!modules_start(&error))
		fail_msg("%s", error.message);
}

static inline void
assert_reported(const char *text)
{
	for (size_t i = 0; i < report.error_count; i++)
		if (strstr(report.errors[i], text))
			return;
	fail_msg("nobody says \"%s\", but: %s", text,
		 report.error_count ? report.errors[0] : "nothing");
}

static inline void
assert_not_selected(const struct iris_module *const *linked, const char *yaml, const char *text)
{
	assert_false(select_(linked, yaml));
	assert_reported(text);
	report_clear(&report);
}

static inline void
assert_not_started(const struct iris_module *const *linked, const char *text)
{
	assert_true(select_(linked, "{}"));
	assert_false(modules_start(&error));
	if (strstr(error.message, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
	modules_stop();
	assert_false(module_is_loaded("base"));
}

static inline int
setup_group(void **state)
{
	return setup_workers(2) || scratch_setup(state);
}

static inline int
teardown_group(void **state)
{
	report_clear(&report);
	return scratch_teardown(state) || teardown_workers(state);
}

#endif
