/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §8: creating, configuring, emptying and deleting nodes; who may what, who is subscribed.
 */
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

static const char *const affiliation_names[AFFILIATION_COUNT] = {
	"none", "outcast", "member", "publish-only", "publisher", "owner",
};

/* --- §8.1: creating --- */

static enum pubsub_error
check_creator(struct pubsub_call *call)
{
	if (!call->service->user)
		return host_check_creator(call);
	call->owner = call->service->owner;
	return access_is_owner(call->service, NULL, &call->from) ? PUBSUB_NONE : PUBSUB_FORBIDDEN;
}

static enum pubsub_error
store_new_node(struct pubsub_call *call, const struct pubsub_config *config)
{
	struct iris_batch *batch = batch_new(call->owner);
	enum pubsub_error error;

	call->service->owner = call->owner;
	error = call_new_node(call, config, batch);
	if (error != PUBSUB_NONE) {
		batch_drop(&batch);
	} else if (batch_write(&batch) != IRIS_VAULT_OK) {
		node_forget(call->node);
		error = PUBSUB_STORE;
	}
	return error;
}

static enum pubsub_error
create(struct pubsub_call *call)
{
	struct iris_element *configure = element_child(call->payload, "configure", NS_PUBSUB);
	struct iris_element *form = configure ? form_find(configure, "submit") : NULL;
	bool instant = str_is_none(call->name);
	struct pubsub_config config;
	enum pubsub_error error;

	error = check_creator(call);
	if (error != PUBSUB_NONE)
		return error;
	if (instant) /* §8.1.2 */
		call->name = str_is_none(call->made) ? random_id(call->arena, 120) : call->made;
	/* Meanwhile it may have been made, or the one that was there deleted. */
	if (service_node(call->service, call->name))
		return PUBSUB_CONFLICT;
	node_unref(&call->node);
	error = call_new_config(call, form, &config);
	if (error != PUBSUB_NONE)
		return error;
	error = store_new_node(call, &config);
	node_config_free(&config);
	if (error == PUBSUB_NONE && instant)
		call_reply(call);
	return error;
}

/* --- §8.2, §8.3: configuring --- */

static enum pubsub_error
configure_get(struct pubsub_call *call)
{
	node_config_add_form(call_reply(call), &call->node->config, call->service->user != NULL);
	return PUBSUB_NONE;
}

/* §8.2.5.3 */
static void
tell_configuration(const struct pubsub_node *node)
{
	struct iris_element *event, *configuration;
	struct iris_stanza *stanza;

	if (!node->config.numbers[CONFIG_NOTIFY_CONFIG])
		return;
	stanza = notify_event(node, &event);
	configuration = element_add(event, "configuration", NULL);
	element_set(configuration, "node", node_name(node));
	if (node->config.numbers[CONFIG_DELIVER_PAYLOADS])
		node_config_add_result(configuration, &node->config);
	notify_all(node, &stanza);
}

/* SECURITY: who may not read any more is not subscribed any more (XEP-0060 §8.2.5.1). */
static void
drop_subscribers(struct pubsub_node *node, struct iris_ticket *ticket)
{
	HASH_FOREACH(found, &node->subscribers) {
		struct pubsub_subscriber *subscriber =
			IRIS_CONTAINER(found, struct pubsub_subscriber, node);
		struct iris_jid jid = subscriber->jid;

		if (subscriber->state == SUBSCRIPTION_SUBSCRIBED &&
		    access_read(node, &jid) != PUBSUB_NONE &&
		    !node_set_subscription(node, &jid, SUBSCRIPTION_NONE, 0, ticket))
			return;
	}
}

/* Fewer items than before: the oldest go. */
static bool
trim(struct pubsub_node *node)
{
	return vault_write(&store_item_trim, node->service->owner,
			   VALUES(value_int(node->id),
				  value_int(node_config_items_max(&node->config))),
			   NULL) == IRIS_VAULT_OK;
}

static enum pubsub_error
configure_set(struct pubsub_call *call)
{
	struct iris_element *form = form_find(call->command, "submit");
	struct pubsub_config config;
	struct config_problem problem;
	bool stored;

	if (!form)
		return form_find(call->command, "cancel") ? PUBSUB_NONE : PUBSUB_BAD_REQUEST;
	node_config_copy(&config, &call->node->config);
	if (!node_config_submit(&config, call->service->user != NULL, form, &problem)) {
		node_config_free(&config);
		return call_problem(call, &problem);
	}
	stored = node_configure(call->node, &config);
	node_config_free(&config);
	if (!stored || !trim(call->node))
		return PUBSUB_STORE;
	if (call->node->gone)
		return PUBSUB_NOT_FOUND;
	drop_subscribers(call->node, call->ticket);
	tell_configuration(call->node);
	return PUBSUB_NONE;
}

static enum pubsub_error
default_get(struct pubsub_call *call)
{
	bool of_account = call->service->user != NULL;
	struct pubsub_config config;

	node_config_init(&config, of_account, IRIS_STR_NONE);
	node_config_add_form(call_reply(call), &config, of_account);
	node_config_free(&config);
	return PUBSUB_NONE;
}

/* --- §8.4, §8.5: deleting and emptying --- */

enum pubsub_error
node_end(struct pubsub_node *node, struct iris_str redirect)
{
	struct iris_element *event, *deleted;
	struct iris_stanza *stanza = notify_event(node, &event);

	deleted = element_add(event, "delete", NULL);
	element_set(deleted, "node", node_name(node));
	if (!str_is_empty(redirect))
		element_set(element_add(deleted, "redirect", NULL), "uri", redirect);
	if (!node_delete(node)) {
		stanza_unref(&stanza);
		return PUBSUB_STORE;
	}
	/* The node is out of the tables, and here still to say who was to know of it. */
	if (node->config.numbers[CONFIG_NOTIFY_DELETE])
		notify_all(node, &stanza);
	else
		stanza_unref(&stanza);
	return PUBSUB_NONE;
}

static enum pubsub_error
delete_node(struct pubsub_call *call)
{
	struct iris_element *redirect = element_child(call->command, "redirect", NULL);
	enum pubsub_error error = node_end(call->node, redirect ? element_get(redirect, "uri") :
								  IRIS_STR_NONE);

	if (error == PUBSUB_NONE)
		preset_tell(call, IRIS_STR_NONE, NULL);
	return error;
}

static enum pubsub_error
purge(struct pubsub_call *call)
{
	enum pubsub_error error;

	if (!call->node->config.numbers[CONFIG_PERSIST_ITEMS])
		return call_unsupported(call, "persistent-items");
	error = item_purge(call->node);
	if (error == PUBSUB_NONE)
		preset_tell(call, IRIS_STR_NONE, NULL);
	return error;
}

/* --- §8.9: affiliations --- */

void
affiliation_add(struct iris_element *reply, struct iris_str node, struct iris_str jid,
		enum pubsub_affiliation affiliation)
{
	struct iris_element *element = element_add(reply, "affiliation", NULL);

	element_set(element, "node", node);
	element_set(element, "jid", jid);
	element_set(element, "affiliation", str_from(affiliation_names[affiliation]));
}

static enum pubsub_error
affiliations_get(struct pubsub_call *call)
{
	struct iris_element *reply = call_reply(call);

	if (call->service->user)
		affiliation_add(reply, IRIS_STR_NONE, jid_bare(&call->service->jid),
				AFFILIATION_OWNER);
	HASH_FOREACH(found, &call->node->affiliates) {
		struct pubsub_affiliate *affiliate =
			IRIS_CONTAINER(found, struct pubsub_affiliate, node);

		affiliation_add(reply, IRIS_STR_NONE, found->key, affiliate->affiliation);
	}
	return PUBSUB_NONE;
}

static bool
affiliation_from(struct iris_str name, enum pubsub_affiliation *affiliation_r)
{
	for (int i = 0; i < AFFILIATION_COUNT; i++)
		if (str_is(name, affiliation_names[i])) {
			*affiliation_r = (enum pubsub_affiliation)i;
			return true;
		}
	return false;
}

/* An account is its nodes' owner, and nobody else; a host's node keeps one. */
static enum pubsub_error
check_affiliation(struct pubsub_call *call, const struct iris_jid *bare,
		  enum pubsub_affiliation affiliation)
{
	const struct pubsub_node *node = call->node;
	enum pubsub_affiliation before = node_affiliation(node, jid_full(bare));

	if (call->service->user && before == AFFILIATION_OWNER)
		return affiliation == AFFILIATION_OWNER ? PUBSUB_NONE : PUBSUB_NOT_ACCEPTABLE;
	if (call->service->user && affiliation == AFFILIATION_OWNER)
		return PUBSUB_NOT_ACCEPTABLE;
	if (affiliation != AFFILIATION_OWNER && node_is_last_owner(node, jid_full(bare)))
		return PUBSUB_NOT_ACCEPTABLE;
	if (before == AFFILIATION_NONE && affiliation != AFFILIATION_NONE &&
	    node->affiliates.count >= (size_t)option_int(&pubsub_self, OPT_ENTITIES_MAX))
		return PUBSUB_STORE;
	return PUBSUB_NONE;
}

static enum pubsub_error
set_affiliation(struct pubsub_call *call, const struct iris_element *element)
{
	struct iris_str name = element_get(element, "affiliation");
	enum pubsub_affiliation affiliation;
	enum pubsub_error error;
	struct iris_jid jid;

	if (!jid_parse(call->arena, element_get(element, "jid"), &jid))
		return PUBSUB_JID_MALFORMED;
	if (str_is_none(name)) /* §8.9.2.1: stays as it is */
		return PUBSUB_NONE;
	if (!affiliation_from(name, &affiliation))
		return PUBSUB_BAD_REQUEST;
	jid = jid_with_resource(call->arena, &jid, IRIS_STR_NONE);
	error = check_affiliation(call, &jid, affiliation);
	if (error != PUBSUB_NONE || node_affiliation(call->node, jid_full(&jid)) == affiliation)
		return error;
	return node_set_affiliation(call->node, &jid, affiliation, call->ticket) ?
		       PUBSUB_NONE :
		       PUBSUB_STORE;
}

static enum pubsub_error
affiliations_set(struct pubsub_call *call)
{
	struct iris_element *element = element_child(call->command, "affiliation", NULL);
	enum pubsub_error error = element ? PUBSUB_NONE : PUBSUB_BAD_REQUEST;

	for (; element && error == PUBSUB_NONE;
	     element = element_next(element, "affiliation", NULL))
		error = set_affiliation(call, element);
	drop_subscribers(call->node, call->ticket);
	return error;
}

/* --- §8.8: subscriptions --- */

static enum pubsub_error
subscriptions_get(struct pubsub_call *call)
{
	struct iris_element *reply = call_reply(call);

	HASH_FOREACH(found, &call->node->subscribers)
		subscription_add(reply,
				 IRIS_CONTAINER(found, struct pubsub_subscriber, node), NULL);
	return PUBSUB_NONE;
}

static enum pubsub_error
set_subscription(struct pubsub_call *call, const struct iris_element *element)
{
	struct iris_str state = element_get(element, "subscription");
	struct pubsub_subscriber *subscriber;
	struct iris_jid jid;

	if (!jid_parse(call->arena, element_get(element, "jid"), &jid))
		return PUBSUB_JID_MALFORMED;
	subscriber = node_subscriber(call->node, jid_full(&jid));
	if (str_is(state, "none") || str_is(state, "subscribed"))
		return subscription_change(call->node, &call->from, &jid,
					   str_is(state, "none") ? SUBSCRIPTION_NONE :
								   SUBSCRIPTION_SUBSCRIBED,
					   subscriber ? subscriber->options : 0,
					   call->ticket);
	return PUBSUB_NOT_ACCEPTABLE;
}

static enum pubsub_error
subscriptions_set(struct pubsub_call *call)
{
	struct iris_element *element = element_child(call->command, "subscription", NULL);
	enum pubsub_error error = element ? PUBSUB_NONE : PUBSUB_BAD_REQUEST;

	for (; element && error == PUBSUB_NONE;
	     element = element_next(element, "subscription", NULL))
		error = set_subscription(call, element);
	return error;
}

/* --- §5.7: the asker's own affiliations --- */

static enum pubsub_error
own_affiliations(struct pubsub_call *call)
{
	struct iris_element *reply;

	if (!call->service->user && str_is_none(call->name))
		return host_list_affiliations(call);
	reply = call_reply(call);
	HASH_FOREACH(found, &call->service->nodes) {
		struct pubsub_node *node = IRIS_CONTAINER(found, struct pubsub_node, by_name);
		enum pubsub_affiliation affiliation =
			node_affiliation(node, jid_bare(&call->from));

		if (affiliation != AFFILIATION_NONE && (!call->node || call->node == node))
			affiliation_add(reply, node_name(node), IRIS_STR_NONE, affiliation);
	}
	return PUBSUB_NONE;
}

#define OF_OWNER (CALL_NAME | CALL_NODE | CALL_OWNER)

const struct pubsub_command owner_commands[] = {
	{ "create", NS_PUBSUB, IRIS_SET, CALL_KEEPS, create },
	{ "affiliations", NS_PUBSUB, IRIS_GET, 0, own_affiliations },
	{ "configure", NS_PUBSUB_OWNER, IRIS_GET, OF_OWNER, configure_get },
	{ "configure", NS_PUBSUB_OWNER, IRIS_SET, OF_OWNER | CALL_KEEPS, configure_set },
	{ "default", NS_PUBSUB_OWNER, IRIS_GET, CALL_NEAR, default_get },
	{ "delete", NS_PUBSUB_OWNER, IRIS_SET, OF_OWNER, delete_node },
	{ "purge", NS_PUBSUB_OWNER, IRIS_SET, OF_OWNER, purge },
	{ "affiliations", NS_PUBSUB_OWNER, IRIS_GET, OF_OWNER, affiliations_get },
	{ "affiliations", NS_PUBSUB_OWNER, IRIS_SET, OF_OWNER | CALL_KEEPS, affiliations_set },
	{ "subscriptions", NS_PUBSUB_OWNER, IRIS_GET, OF_OWNER, subscriptions_get },
	{ "subscriptions", NS_PUBSUB_OWNER, IRIS_SET, OF_OWNER | CALL_KEEPS, subscriptions_set },
	{ .name = NULL },
};
