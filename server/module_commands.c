/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core module `modules`: which plug-ins are loaded (its section of the configuration), and the
 * commands `module list|load|unload|reload` for operators.  The commands run on a fiber of any
 * worker and have the main thread do the work.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "module_private.h"

#define UNLOAD_PATIENCE_MS 10000
#define UNLOAD_POLL_MS 20

const struct iris_option modules_options[] = {
	[MODULES_LOAD] = {
		.name = "load",
		.type = IRIS_OPT_STRINGS,
		.optional = true,
		.help = "Modules to load besides those that are loaded by default; a name that "
			"is not linked in is looked "
			"for as a shared object",
	},
	[MODULES_SKIP] = {
		.name = "skip",
		.type = IRIS_OPT_STRINGS,
		.optional = true,
		.help = "Modules not to load although they would be by default",
	},
	[MODULES_PATH] = {
		.name = "path",
		.type = IRIS_OPT_STRINGS,
		.fallback = "[" IRIS_MODULEDIR "]",
		.help = "Folders of shared objects, searched in this order",
	},
	IRIS_OPTIONS_END
};

/* --- on the main thread --- */

/* A call of the main thread that a fiber waits for; on the fiber's stack. */
struct main_call {
	struct iris_mail mail;
	struct iris_mail answer;
	struct iris_worker *from;
	struct iris_wait wait;
	struct iris_str name;
	bool (*fn)(struct main_call *call);
	bool ok;
	struct iris_error *error;
	struct iris_report report;
};

static void
answer_arrived(struct iris_mail *mail)
{
	wait_done(&IRIS_CONTAINER(mail, struct main_call, answer)->wait);
}

static void
call_arrived(struct iris_mail *mail)
{
	struct main_call *call = IRIS_CONTAINER(mail, struct main_call, mail);

	call->ok = call->fn(call);
	call->answer.fn = answer_arrived;
	worker_post(call->from, &call->answer);
}

/* Outside any fiber there: loading and reloading wait for all workers to finish their turn. */
static bool
on_main(struct main_call *call, bool (*fn)(struct main_call *call))
{
	call->fn = fn;
	call->from = worker_self();
	call->mail.fn = call_arrived;
	wait_init(&call->wait);
	worker_post(worker_at(WORKER_MAIN), &call->mail);
	wait_for(&call->wait, "module: main thread");
	return call->ok;
}

static bool
main_load(struct main_call *call)
{
	return module_load(call->name, call->error);
}

static bool
main_unload_begin(struct main_call *call)
{
	return module_unload_begin(call->name, call->error);
}

static bool
main_unload_finish(struct main_call *call)
{
	return module_unload_finish();
}

static bool
main_reload(struct main_call *call)
{
	const bool ok = modules_reload(&call->report);
	report_log(&call->report, "module");
	return ok;
}

/* --- the commands --- */

enum { FIELD_NAME };

static const struct iris_command_field name_fields[] = {
	[FIELD_NAME] = {
		.name = "name",
		.kind = IRIS_FIELD_TEXT,
		.required = true,
		.positional = true,
		.label = "Module",
	},
	{ .name = NULL },
};

static void
refuse(struct iris_command_call *call, const struct iris_error *error)
{
	call->refusal.condition = IRIS_NOT_ALLOWED;
	call->refusal.text =
		arena_printf(call->arena, "%s%s%s%s%s", error->message, *error->detail ? ": " : "",
			     error->detail, *error->hint ? " – " : "", error->hint)
			.base;
}

static bool
list_one(const struct iris_module *module, void *arg)
{
	struct iris_command_call *call = arg;
	const struct iris_str cells[] = {
		arena_copy_str(call->arena, str_from(module->name)),
		module->xep ? arena_copy_str(call->arena, str_from(module->xep)) : IRIS_STR(""),
		module->not_unloadable || !module->self ? IRIS_STR("fixed")
							: IRIS_STR("can be unloaded"),
		arena_copy_str(call->arena, str_from(module->summary)),
	};

	command_row(call, cells);
	return true;
}

static void
run_list(struct iris_command_call *call)
{
	static const char *const columns[] = { "name", "xep", "state", "summary", NULL };

	command_table(call, columns);
	module_each(list_one, call);
}

static void
run_load(struct iris_command_call *call)
{
	struct iris_error error = { .message = "" };
	struct main_call main = { .name = call->values[FIELD_NAME], .error = &error };

	if (on_main(&main, main_load))
		call->note = arena_printf(call->arena, "%.*s is loaded", IRIS_STR_FMT(main.name));
	else
		refuse(call, &error);
}

static void
run_unload(struct iris_command_call *call)
{
	struct iris_error error = { .message = "" };
	struct main_call main = { .name = call->values[FIELD_NAME], .error = &error };

	if (!on_main(&main, main_unload_begin)) {
		refuse(call, &error);
		return;
	}
	for (unsigned waited = 0; !on_main(&main, main_unload_finish); waited += UNLOAD_POLL_MS)
		if (waited >= UNLOAD_PATIENCE_MS || !fiber_sleep(UNLOAD_POLL_MS)) {
			call->note = arena_printf(
				call->arena,
				"%.*s takes no new work, but something in it still waits; "
				"it ends when another module is loaded or unloaded, "
				"or with the server",
				IRIS_STR_FMT(main.name));
			return;
		}
	call->note = arena_printf(call->arena, "%.*s is unloaded", IRIS_STR_FMT(main.name));
}

static void
run_reload(struct iris_command_call *call)
{
	static const char *const columns[] = { "needs a restart", NULL };
	struct iris_error error = { .message = "" };
	struct main_call main = { .error = &error };

	if (on_main(&main, main_reload)) {
		call->note = IRIS_STR("The configuration is reloaded");
		command_table(call, columns);
		for (size_t i = 0; i < main.report.restart_count; i++) {
			const struct iris_str cell =
				arena_copy_str(call->arena, str_from(main.report.restarts[i]));
			command_row(call, &cell);
		}
	} else {
		report_to_error(&main.report, &error);
		error_hint(&error, "the old configuration stays in force, the log has all errors");
		refuse(call, &error);
	}
	report_clear(&main.report);
}

static const struct iris_command command_list = {
	.noun = "module",
	.verb = "list",
	.summary = "Lists the loaded modules in the order they were started",
	.role = IRIS_ROLE_OPERATOR,
	.run = run_list,
};
static const struct iris_command command_load = {
	.noun = "module",
	.verb = "load",
	.summary = "Loads a module until the next restart",
	.role = IRIS_ROLE_OPERATOR,
	.fields = name_fields,
	.run = run_load,
};
static const struct iris_command command_unload = {
	.noun = "module",
	.verb = "unload",
	.summary = "Stops a module and removes it until the next restart",
	.role = IRIS_ROLE_OPERATOR,
	.dangerous = true,
	.fields = name_fields,
	.run = run_unload,
};
static const struct iris_command command_reload = {
	.noun = "module",
	.verb = "reload",
	.summary = "Reads the configuration of all modules anew",
	.role = IRIS_ROLE_OPERATOR,
	.run = run_reload,
};
static const struct iris_command *const commands[] = {
	&command_list, &command_load, &command_unload, &command_reload, NULL,
};

static struct iris_module_self self;

const struct iris_module iris_module_modules = {
	IRIS_MODULE_HEAD,
	.name = "modules",
	.summary = "Loads and unloads modules",
	.self = &self,
	.options = modules_options,
	.commands = commands,
	.metrics = command_metrics,
	.not_unloadable = true,
	.at_edge = true,
};
