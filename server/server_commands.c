/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands about the server itself: `server status|stop|reload|log-level`.  They run on the
 * fiber of whoever asks, any worker; what must be done on the main thread is called there.
 */
#include "boot.h"
#include "im_private.h"
#include "iris/module.h"
#include "server_private.h"
#include "stream_private.h"

enum { OPT_CREDENTIAL };

static struct iris_module_self server_self;

struct iris_str
server_credential_path(void)
{
	return option_str(&server_self, OPT_CREDENTIAL);
}

/* --- status --- */

struct server_count {
	size_t streams, sessions, users;
	unsigned fibers;
};

static void
server_count_here(void *arg)
{
	struct server_count *count = arg;
	struct im_home *home = im_home();

	count->streams = stream_count();
	count->sessions = home->sessions.count;
	count->users = user_count();
	count->fibers = fiber_count();
}

static struct iris_str
server_number(struct iris_command_call *call, size_t number)
{
	return arena_printf(call->arena, "%zu", number);
}

static void
server_status(struct iris_command_call *call)
{
	static const char *const columns[] = { "worker", "streams", "sessions",
					       "users",	 "fibers",  NULL };

	command_table(call, columns);
	for (unsigned i = 0; i < worker_count(); i++) {
		struct server_count count;

		worker_call(worker_at((int)i), "server: status", server_count_here, &count);
		command_row(call, (const struct iris_str[]){ server_number(call, i),
							     server_number(call, count.streams),
							     server_number(call, count.sessions),
							     server_number(call, count.users),
							     server_number(call, count.fibers) });
	}
	call->note =
		arena_printf(call->arena, "Serving since %lld seconds, logging at level %s.",
			     (long long)(boot_uptime_ms() / 1000), log_level_name(log_level()));
}

/* --- stop --- */

static void
server_stop(struct iris_command_call *call)
{
	call->note = IRIS_STR("The server stops.");
	boot_quit();
}

/* --- reload --- */

struct server_reload {
	bool done;
	struct iris_report report;
};

static void
server_reload_on_main(void *arg)
{
	struct server_reload *reload = arg;

	reload->done = boot_reload(&reload->report);
}

static void
server_reload(struct iris_command_call *call)
{
	static const char *const columns[] = { "needs a restart", NULL };
	struct server_reload reload = { .done = false };
	struct iris_error error = { .message = "" };

	worker_call(worker_at(WORKER_MAIN), "server: reload", server_reload_on_main, &reload);
	if (!reload.done) {
		report_to_error(&reload.report, &error);
		call->refusal.condition = IRIS_NOT_ACCEPTABLE;
		call->refusal.text =
			arena_printf(call->arena, "%s %s", error.message, error.detail).base;
	} else {
		call->note = IRIS_STR("The configuration was reloaded.");
		if (reload.report.restart_count > 0)
			command_table(call, columns);
		for (size_t i = 0; i < reload.report.restart_count; i++) {
			struct iris_str line =
				arena_copy_str(call->arena, str_from(reload.report.restarts[i]));

			command_row(call, &line);
		}
	}
	report_clear(&reload.report);
}

/* --- log level --- */

static const char *const server_levels[] = { "error", "warning", "notice", "info", "debug", NULL };

static const struct iris_command_field server_log_level_fields[] = {
	{ "level", IRIS_FIELD_CHOICE, .required = true, .positional = true,
	  .choices = server_levels, .label = "Least important events that are logged" },
	{ .name = NULL },
};

static void
server_log_level(struct iris_command_call *call)
{
	enum iris_log_level level;

	IRIS_ASSERT(log_level_from(call->values[0], &level)); /* one of the choices */
	log_set_level(level);
	call->note = arena_printf(call->arena, "Logging at level %s until the next reload.",
				  log_level_name(level));
}

static const struct iris_command command_server_status = {
	"server",
	"status",
	"Show what the server is doing",
	IRIS_ROLE_OPERATOR,
	.run = server_status,
};
static const struct iris_command command_server_stop = {
	"server",	    "stop", "Stop the server", IRIS_ROLE_OPERATOR, .dangerous = true,
	.run = server_stop,
};
static const struct iris_command command_server_reload = {
	"server",
	"reload",
	"Reload configuration, certificates and log file",
	IRIS_ROLE_OPERATOR,
	.run = server_reload,
};
static const struct iris_command command_server_log_level = {
	"server",
	"log-level",
	"Change what is logged",
	IRIS_ROLE_OPERATOR,
	.fields = server_log_level_fields,
	.run = server_log_level,
};

static const struct iris_option server_options[] = {
	[OPT_CREDENTIAL] = { "operator-credential", IRIS_OPT_PATH, "operator.credential",
		.help = "What irisctl signs in with; irisctl init writes it." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_server = {
	IRIS_MODULE_HEAD,
	.name = "server",
	.summary = "The server itself, for operators",
	.self = &server_self,
	.options = server_options,
	.commands =
		(const struct iris_command *const[]){ &command_server_status, &command_server_stop,
						      &command_server_reload,
						      &command_server_log_level, NULL },
	.not_unloadable = true,
};
