/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An example of a plug-in that is built outside the tree: it answers <greet/> sent to the server,
 * has an option, listens to a hook, counts, and offers operators a command.
 * Handlers run on the workers; all state is in atomics.  It keeps nothing and needs nobody.
 */
#include "iris/module.h"
#include "iris/stanza.h"

#define NS_GREET "urn:example:greet"

/* --- options: the section `example` of the configuration --- */

enum { OPTION_GREETING };
static const struct iris_option options[] = {
	[OPTION_GREETING] = {
		.name = "greeting",
		.type = IRIS_OPT_STRING,
		.fallback = "Hello",
		.min = 1,
		.max = 100,
		.reloadable = true,
		.help = "What the server says when it is greeted",
	},
	IRIS_OPTIONS_END
};

static struct iris_module_self self;

/* --- metrics --- */

enum { METRIC_GREETINGS, METRIC_SESSIONS };
static struct iris_metric metrics[] = {
	[METRIC_GREETINGS] = {
		.name = "iris_example_greetings_total",
		.kind = IRIS_COUNTER,
		.help = "Greetings answered",
	},
	[METRIC_SESSIONS] = {
		.name = "iris_example_sessions_total",
		.kind = IRIS_COUNTER,
		.help = "Sessions seen to come",
	},
	{ .name = NULL },
};

/* --- handlers --- */

/* <iq type='get'><greet/></iq>: the reply is the payload; the dispatcher sends it. */
static enum iris_verdict
greet(struct iris_request *request)
{
	struct iris_str name = element_get(request->payload, "name");

	if (name.len > 100) {
		request->refusal = (struct iris_refusal){
			.condition = IRIS_NOT_ACCEPTABLE,
			.text = "That is a long name",
		};
		return IRIS_REFUSE;
	}
	request->reply = element_new(request->arena, "greet", NS_GREET);
	element_text(request->reply,
		     str_is_empty(name)
			     ? option_str(&self, OPTION_GREETING)
			     : arena_printf(request->arena, "%.*s, %.*s",
					    IRIS_STR_FMT(option_str(&self, OPTION_GREETING)),
					    IRIS_STR_FMT(name)));
	metric_add(&metrics[METRIC_GREETINGS], 1);
	return IRIS_DONE;
}

/* An observer: its verdict is not asked for. */
static enum iris_verdict
session_came(struct iris_session *session)
{
	metric_add(&metrics[METRIC_SESSIONS], 1);
	return IRIS_PASS;
}

/* `irisctl greeting show`, or an ad-hoc command. */
static void
run_show(struct iris_command_call *call)
{
	static const char *const columns[] = { "greeting", "answered", NULL };
	const struct iris_str cells[] = {
		/* Copied: the configuration may be another before the answer is written. */
		arena_copy_str(call->arena, option_str(&self, OPTION_GREETING)),
		arena_printf(call->arena, "%lld",
			     (long long)metric_value(&metrics[METRIC_GREETINGS])),
	};

	command_table(call, columns);
	command_row(call, cells);
}

/* --- the descriptor --- */

static const struct iris_feature features[] = { { IRIS_DISCO_HOST, NS_GREET }, { .var = NULL } };
static const struct iris_iq iq[] = {
	{
		.targets = IRIS_TO_HOST,
		.type = IRIS_GET,
		.name = "greet",
		.ns = NS_GREET,
		.access = IRIS_ANYONE,
		.handle = greet,
	},
	{ .name = NULL },
};
static const struct iris_hook_handler hooks[] = {
	HOOK(session_available, IRIS_OBSERVE, session_came), HOOKS_END
};
static const struct iris_command show = {
	.noun = "greeting",
	.verb = "show",
	.summary = "Shows the greeting and how often it was given",
	.role = IRIS_ROLE_OPERATOR,
	.run = run_show,
};
static const struct iris_command *const commands[] = { &show, NULL };

IRIS_EXPORT const struct iris_module iris_module_example = {
	IRIS_MODULE_HEAD,
	.name = "example",
	.summary = "Answers greetings",
	.self = &self,
	.options = options,
	.features = features,
	.iq = iq,
	.hooks = hooks,
	.commands = commands,
	.metrics = metrics,
};
