/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a service: which command it is, what it needs (a node, its owner), and the one place
 * from which it is answered or refused.  On a fiber, at the home of the service; commands may wait.
 */
#include "modules/pubsub/pubsub_private.h"

#define NS_PUBSUB_ERRORS NS_PUBSUB "#errors"

static const struct {
	enum iris_condition condition;
	const char *type, *app;
} errors[] = {
#define X(name, condition, type, app) { IRIS_##condition, type, app },
	PUBSUB_ERRORS(X)
#undef X
};

/* --- answers --- */

struct iris_element *
call_reply(struct pubsub_call *call)
{
	struct iris_request *request = call->request;
	struct iris_element *child;

	if (!request->reply) {
		request->reply = element_new(call->arena, "pubsub", NULL);
		request->reply->ns = call->payload->ns;
	}
	child = element_add(request->reply, "", NULL);
	child->name = call->command->name;
	if (!str_is_none(call->name))
		element_set(child, "node", call->name);
	return child;
}

enum pubsub_error
call_refuse(struct pubsub_call *call, enum pubsub_error error, struct iris_str text)
{
	struct iris_refusal *refusal = &call->request->refusal;

	if (error == PUBSUB_REFUSED)
		return error;
	*refusal = (struct iris_refusal){ .condition = errors[error].condition,
					  .type = errors[error].type,
					  .text = text.base };
	if (errors[error].app)
		refusal->app = element_new(call->arena, errors[error].app, NS_PUBSUB_ERRORS);
	return PUBSUB_REFUSED;
}

enum pubsub_error
call_unsupported(struct pubsub_call *call, const char *feature)
{
	struct iris_refusal *refusal = &call->request->refusal;

	*refusal = (struct iris_refusal){ .condition = IRIS_FEATURE_NOT_IMPLEMENTED };
	refusal->app = element_new(call->arena, "unsupported", NS_PUBSUB_ERRORS);
	element_set(refusal->app, "feature", str_from(feature));
	return PUBSUB_REFUSED;
}

enum pubsub_error
call_problem(struct pubsub_call *call, const struct config_problem *problem)
{
	struct iris_refusal *refusal = &call->request->refusal;

	*refusal = (struct iris_refusal){ .condition = problem->condition,
					  .text = problem->text.base };
	if (problem->app)
		refusal->app = element_new(call->arena, problem->app, NS_PUBSUB_ERRORS);
	return PUBSUB_REFUSED;
}

/* --- new nodes --- */

enum pubsub_error
call_new_config(struct pubsub_call *call, const struct iris_element *form,
		struct pubsub_config *config_r)
{
	bool of_account = call->service->user != NULL;
	struct config_problem problem;

	/* Presets are of accounts' nodes. */
	node_config_init(config_r, of_account,
			 of_account ? str_from(preset_config(call->name)) : IRIS_STR_NONE);
	if (form && !node_config_submit(config_r, of_account, form, &problem)) {
		node_config_free(config_r);
		return call_problem(call, &problem);
	}
	return PUBSUB_NONE;
}

enum pubsub_error
call_new_node(struct pubsub_call *call, const struct pubsub_config *config,
	      struct iris_batch *batch)
{
	if (call->service->nodes.count >= (size_t)option_int(&pubsub_self, OPT_NODES_MAX))
		return PUBSUB_TOO_MANY_NODES;
	if (call->name.len > NODE_NAME_MAX)
		return PUBSUB_NOT_ACCEPTABLE;
	call->node = node_ref(node_new(call->service, call->name, config));
	node_add_to_batch(call->node, batch);
	if (!call->service->user)
		node_add_owner(call->node, &call->bare, batch);
	return PUBSUB_NONE;
}

/* --- the command --- */

static const struct pubsub_command *
find_in(const struct pubsub_command *commands, const struct iris_stanza *stanza,
	const struct iris_element *command)
{
	for (; commands->name; commands++)
		if (commands->type == stanza->type && element_is(command, commands->name,
								 commands->ns))
			return commands;
	return NULL;
}

static const struct pubsub_command *
find_command(struct pubsub_call *call)
{
	const struct iris_stanza *stanza = call->request->stanza;
	const struct pubsub_command *command = NULL;

	call->command = element_child(call->payload, NULL, NULL);
	if (!call->command)
		return NULL;
	command = find_in(items_commands, stanza, call->command);
	if (!command)
		command = find_in(owner_commands, stanza, call->command);
	return command ? command : find_in(subscribe_commands, stanza, call->command);
}

static enum pubsub_error
check_needs(const struct pubsub_call *call, unsigned needs)
{
	if ((needs & CALL_NAME) && str_is_none(call->name))
		return PUBSUB_NODEID_REQUIRED;
	if ((needs & CALL_NODE) && (!call->node || call->node->going))
		return PUBSUB_NOT_FOUND;
	if ((needs & CALL_NEAR) && call->service->user &&
	    !access_is_near(call->service, &call->from))
		return PUBSUB_UNAVAILABLE;
	if ((needs & CALL_OWNER) && !access_is_owner(call->service, call->node, &call->from))
		return PUBSUB_FORBIDDEN;
	if ((needs & CALL_KEEPS) && call->request->stanza->transit)
		return PUBSUB_IN_TRANSIT;
	return PUBSUB_NONE;
}

static enum pubsub_error
run(struct pubsub_call *call)
{
	const struct pubsub_command *command = find_command(call);
	enum pubsub_error error;

	if (!call->command)
		return PUBSUB_BAD_REQUEST;
	if (!command)
		return call_unsupported(call, call->command->name.base);
	call->name = element_get(call->command, "node");
	if (str_is_empty(call->name))
		call->name = IRIS_STR_NONE;
	if (!str_is_none(call->name))
		call->node = service_node(call->service, call->name);
	if (call->node)
		node_ref(call->node);
	error = check_needs(call, command->needs);
	return error == PUBSUB_NONE ? command->run(call) : error;
}

static enum pubsub_error
run_and_settle(struct pubsub_call *call)
{
	struct settling settling;
	enum pubsub_error error;

	call->ticket = settling_begin(&settling);
	error = run(call);
	return settling_end(&settling) || error != PUBSUB_NONE ? error : PUBSUB_STORE;
}

/*
 * SECURITY: a stranger who may not read gets from an account what an address that does not exist
 * would give (P5.7), whatever else was wrong.
 */
static bool
is_stranger(const struct pubsub_call *call)
{
	return call->service->user && !access_is_near(call->service, &call->from) &&
	       !(call->node && node_affiliation(call->node, jid_bare(&call->from)) >
				       AFFILIATION_OUTCAST);
}

/* An empty list of what may not be read says that there is something. */
static bool
says_nothing(const struct pubsub_call *call)
{
	const struct iris_element *reply = call->request->reply;

	if (call->node && access_read(call->node, &call->from) == PUBSUB_NONE)
		return false;
	return !reply || !reply->first || !reply->first->first;
}

enum iris_verdict
request_answer(struct iris_request *request, struct pubsub_service *service, struct iris_str made)
{
	struct pubsub_call call = { .request = request,
				    .arena = request->arena,
				    .service = service,
				    .payload = request->payload,
				    .made = made,
				    .from = request->stanza->from };
	enum pubsub_error error;

	/* What was routed here is frozen, and its arena not ours to allocate in. */
	if (request->payload->arena != request->arena)
		call.payload = element_copy(request->arena, request->payload);
	call.bare = jid_with_resource(request->arena, &call.from, IRIS_STR_NONE);
	error = run_and_settle(&call);
	if (error == PUBSUB_NONE && is_stranger(&call) && says_nothing(&call))
		error = PUBSUB_UNAVAILABLE;
	if (error != PUBSUB_NONE) {
		pubsub_count(METRIC_REFUSED, 1);
		if (is_stranger(&call))
			call_refuse(&call, PUBSUB_UNAVAILABLE, IRIS_STR_NONE);
		else
			call_refuse(&call, error, IRIS_STR_NONE);
		request->reply = NULL;
	}
	node_unref(&call.node);
	return error == PUBSUB_NONE ? IRIS_DONE : IRIS_REFUSE;
}
