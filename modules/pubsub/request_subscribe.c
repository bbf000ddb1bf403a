/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §6.1–§6.4, §5.6, §8.6: subscriptions that are asked for; one for each JID.  Those that
 * follow from presence (XEP-0163) are nowhere written down.
 */
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

#define NS_SUBSCRIBE_OPTIONS NS_PUBSUB "#subscribe_options"
#define NS_SUBSCRIBE_AUTHORIZATION NS_PUBSUB "#subscribe_authorization"

static const char *const state_names[] = { "none", "pending", "subscribed" };

void
subscription_add_as(struct iris_element *reply, struct iris_str node, struct iris_str jid,
		    enum pubsub_subscription state)
{
	struct iris_element *element = element_add(reply, "subscription", NULL);

	element_set(element, "node", node);
	element_set(element, "jid", jid);
	element_set(element, "subscription", str_from(state_names[state]));
}

void
subscription_add(struct iris_element *reply, const struct pubsub_subscriber *subscriber,
		 const struct pubsub_node *node)
{
	subscription_add_as(reply, node ? node_name(node) : IRIS_STR_NONE,
			    jid_full(&subscriber->jid), subscriber->state);
}

/* --- changes, and who learns of them --- */

/* §8.8.4: whose subscription it is, when somebody else changed it. */
static void
tell_subscriber(const struct pubsub_node *node, const struct iris_jid *jid,
		enum pubsub_subscription state)
{
	struct iris_element *event;
	struct iris_stanza *stanza = notify_event(node, &event);

	subscription_add_as(event, node_name(node), jid_full(jid), state);
	notify_one(node, jid, &stanza);
}

/* To the account, or to all owners of a host's node; but not to this address. */
static void
tell_owners(const struct pubsub_node *node, const struct iris_jid *but,
	    struct iris_stanza **stanza_p)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid *to = arena_alloc(arena, (node->affiliates.count + 1) * sizeof(*to));
	size_t count = 0;

	if (node->service->user)
		to[count++] = node->service->jid;
	HASH_FOREACH(found, &node->affiliates)
		if (IRIS_CONTAINER(found, struct pubsub_affiliate, node)->affiliation ==
			    AFFILIATION_OWNER &&
		    !str_equal(found->key, jid_bare(but)))
			to[count++] = jid_from_prepared(found->key);
	pubsub_count(METRIC_NOTIFIED, (int64_t)count);
	route_many(stanza_p, to, count, NULL);
	arena_unref(&arena);
}

/* pubsub#notify_sub (§12.12): the owner learns of it, too. */
static void
tell_owner(const struct pubsub_node *node, const struct iris_jid *jid,
	   enum pubsub_subscription state)
{
	struct iris_element *event;
	struct iris_stanza *stanza;

	if (!node->config.numbers[CONFIG_NOTIFY_SUB] ||
	    jid_bare_equal(jid, &node->service->jid))
		return;
	stanza = notify_event(node, &event);
	subscription_add_as(event, node_name(node), jid_full(jid), state);
	tell_owners(node, jid, &stanza);
}

/* §8.6: a message with a form for the owners. */
static void
ask_owner(const struct pubsub_node *node, const struct iris_jid *jid)
{
	struct iris_stanza *stanza = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_element *form;

	stanza_set_from(stanza, &node->service->jid);
	stanza_set_id(stanza, random_id(stanza->arena, 72));
	form = form_add(stanza->root, "form", NS_SUBSCRIBE_AUTHORIZATION);
	form_set_title(form, IRIS_STR("A subscription request"), IRIS_STR_NONE);
	form_add_field(form, "text-single", "pubsub#node", node_name(node));
	form_add_field(form, "jid-single", "pubsub#subscriber_jid", jid_full(jid));
	form_add_field(form, "boolean", "pubsub#allow", IRIS_STR("false"));
	tell_owners(node, jid, &stanza);
}

enum pubsub_error
subscription_change(struct pubsub_node *node, const struct iris_jid *by, const struct iris_jid *jid,
		    enum pubsub_subscription state, unsigned options, struct iris_ticket *ticket)
{
	struct pubsub_subscriber *before = node_subscriber(node, jid_full(jid));
	bool changes = (before ? before->state : SUBSCRIPTION_NONE) != state;

	if (!before && state != SUBSCRIPTION_NONE &&
	    node->subscribers.count >= (size_t)option_int(&pubsub_self, OPT_ENTITIES_MAX))
		return PUBSUB_TOO_MANY_SUBSCRIPTIONS;
	if (!node_set_subscription(node, jid, state, options, ticket))
		return PUBSUB_STORE;
	if (!changes)
		return PUBSUB_NONE;
	if (!jid_bare_equal(jid, by))
		tell_subscriber(node, jid, state);
	tell_owner(node, jid, state);
	return PUBSUB_NONE;
}

struct iris_element *
subscription_answer_form(const struct iris_stanza *message)
{
	struct iris_element *form = form_find(message->root, "submit");

	return form && form_is_type(form, NS_SUBSCRIBE_AUTHORIZATION) ? form : NULL;
}

void
subscription_answered(struct pubsub_service *service, const struct iris_jid *by,
		      const struct iris_element *form, struct iris_arena *arena)
{
	struct pubsub_node *node = service_node(service, form_value(form, "pubsub#node"));
	struct iris_str allow = form_value(form, "pubsub#allow");
	struct pubsub_subscriber *subscriber;
	struct iris_jid jid;

	if (!node || str_is_none(allow) || !access_is_owner(service, node, by) ||
	    !jid_parse(arena, form_value(form, "pubsub#subscriber_jid"), &jid))
		return;
	subscriber = node_subscriber(node, jid_full(&jid));
	if (!subscriber || subscriber->state != SUBSCRIPTION_PENDING)
		return;
	/* A store that is full: the request waits on, as does its form. */
	(void)subscription_change(node, by, &jid,
				  form_value_is_true(allow) ? SUBSCRIPTION_SUBSCRIBED :
							      SUBSCRIPTION_NONE,
				  subscriber->options, NULL);
}

/* --- §6.1: subscribing --- */

/* Whose subscription: its own bare JID or one of its resources, and nobody else's (§6.1.3.1). */
static enum pubsub_error
find_jid(struct pubsub_call *call, const struct iris_element *element, struct iris_jid *jid_r)
{
	struct iris_str text = element_get(element, "jid");

	if (str_is_empty(text))
		return PUBSUB_JID_REQUIRED;
	if (!jid_parse(call->arena, text, jid_r))
		return PUBSUB_JID_MALFORMED;
	return PUBSUB_NONE;
}

static bool
read_options(const struct iris_element *form, unsigned *options)
{
	struct iris_str deliver = form ? form_value(form, "pubsub#deliver") : IRIS_STR_NONE;

	if (str_is_none(deliver))
		return true;
	*options = form_value_is_true(deliver) ? 0 : SUBSCRIPTION_MUTED;
	return *options == 0 || str_is(deliver, "0") || str_is(deliver, "false");
}

/* §6.1.7: the last item, to who has subscribed just now. */
static void
send_last(struct pubsub_node *node, const struct iris_jid *jid)
{
	struct iris_stanza *stanza;

	if (node->config.numbers[CONFIG_SEND_LAST] == SEND_NEVER || node->last_item == 0)
		return;
	stanza = last_notification(node);
	if (stanza)
		notify_one(node, jid, &stanza);
}

static enum pubsub_error
check_subscribe(struct pubsub_call *call, enum pubsub_subscription *state_r)
{
	enum pubsub_error error = access_read(call->node, &call->from);
	bool authorize = call->node->config.numbers[CONFIG_ACCESS_MODEL] == ACCESS_AUTHORIZE;

	*state_r = SUBSCRIPTION_SUBSCRIBED;
	if (authorize && error == PUBSUB_NOT_SUBSCRIBED_AUTH) {
		*state_r = SUBSCRIPTION_PENDING;
		/* SECURITY: a stranger's request would tell it that the node is there (P5.7). */
		if (!call->service->user || access_is_near(call->service, &call->from))
			return PUBSUB_NONE;
	}
	return error;
}

static enum pubsub_error
subscribe(struct pubsub_call *call)
{
	struct iris_element *options = element_child(call->payload, "options", NS_PUBSUB);
	struct pubsub_node *node = call->node;
	struct iris_jid jid;
	enum pubsub_subscription state;
	enum pubsub_error error = find_jid(call, call->command, &jid);
	unsigned flags = 0;

	if (error != PUBSUB_NONE)
		return error;
	if (!jid_bare_equal(&jid, &call->from))
		return PUBSUB_INVALID_JID;
	error = check_subscribe(call, &state);
	if (error == PUBSUB_NONE && options &&
	    !read_options(form_find(options, "submit"), &flags))
		error = PUBSUB_INVALID_OPTIONS;
	if (error == PUBSUB_NONE)
		error = subscription_change(call->node, &call->from, &jid, state, flags,
					    call->ticket);
	if (error != PUBSUB_NONE)
		return error;
	call->request->reply = element_new(call->arena, "pubsub", NS_PUBSUB);
	subscription_add(call->request->reply, node_subscriber(node, jid_full(&jid)), node);
	if (state == SUBSCRIPTION_PENDING)
		ask_owner(node, &jid);
	else
		send_last(node, &jid);
	return PUBSUB_NONE;
}

/* --- §6.2: unsubscribing --- */

/* A subscription of the asker's own; `missing` is what follows when there is none. */
static enum pubsub_error
find_own(struct pubsub_call *call, enum pubsub_error missing,
	 struct pubsub_subscriber **subscriber_r)
{
	struct iris_jid jid;
	enum pubsub_error error = find_jid(call, call->command, &jid);

	if (error != PUBSUB_NONE)
		return error;
	if (!jid_bare_equal(&jid, &call->from))
		return PUBSUB_FORBIDDEN;
	if (!str_is_empty(element_get(call->command, "subid")))
		return PUBSUB_INVALID_SUBID;
	*subscriber_r = node_subscriber(call->node, jid_full(&jid));
	return *subscriber_r ? PUBSUB_NONE : missing;
}

static enum pubsub_error
unsubscribe(struct pubsub_call *call)
{
	struct pubsub_subscriber *subscriber;
	enum pubsub_error error = find_own(call, PUBSUB_NOT_SUBSCRIBED, &subscriber);
	struct iris_jid jid;

	if (error != PUBSUB_NONE)
		return error;
	jid = jid_copy(call->arena, &subscriber->jid);
	return subscription_change(call->node, &call->from, &jid, SUBSCRIPTION_NONE, 0,
				   call->ticket);
}

/* --- §6.3, §6.4: options --- */

static void
add_options_form(struct iris_element *parent, unsigned options)
{
	struct iris_element *form = form_add(parent, "form", NS_SUBSCRIBE_OPTIONS);
	struct iris_element *field =
		form_add_field(form, "boolean", "pubsub#deliver",
			       options & SUBSCRIPTION_MUTED ? IRIS_STR("0") : IRIS_STR("1"));

	form_field_set_label(field, IRIS_STR("Whether notifications are delivered"));
}

static enum pubsub_error
options_get(struct pubsub_call *call)
{
	struct pubsub_subscriber *subscriber;
	enum pubsub_error error = find_own(call, PUBSUB_OPTIONS_NOT_SUBSCRIBED, &subscriber);
	struct iris_element *reply;

	if (error != PUBSUB_NONE)
		return error;
	reply = call_reply(call);
	element_set(reply, "jid", jid_full(&subscriber->jid));
	add_options_form(reply, subscriber->options);
	return PUBSUB_NONE;
}

static enum pubsub_error
options_set(struct pubsub_call *call)
{
	struct iris_element *form = form_find(call->command, "submit");
	struct pubsub_subscriber *subscriber;
	enum pubsub_error error = find_own(call, PUBSUB_OPTIONS_NOT_SUBSCRIBED, &subscriber);
	unsigned options;
	struct iris_jid jid;

	if (error != PUBSUB_NONE)
		return error;
	options = subscriber->options;
	if (!form)
		return form_find(call->command, "cancel") ? PUBSUB_NONE : PUBSUB_INVALID_OPTIONS;
	if (!read_options(form, &options))
		return PUBSUB_INVALID_OPTIONS;
	jid = jid_copy(call->arena, &subscriber->jid);
	return subscription_change(call->node, &call->from, &jid, subscriber->state, options,
				   call->ticket);
}

static enum pubsub_error
default_options(struct pubsub_call *call)
{
	add_options_form(call_reply(call), 0);
	return PUBSUB_NONE;
}

/* --- §5.6: the asker's own subscriptions --- */

static enum pubsub_error
own_subscriptions(struct pubsub_call *call)
{
	struct iris_element *reply;

	if (!call->service->user && str_is_none(call->name))
		return host_list_subscriptions(call);
	reply = call_reply(call);
	HASH_FOREACH(found, &call->service->nodes) {
		struct pubsub_node *node = IRIS_CONTAINER(found, struct pubsub_node, by_name);

		if (call->node && call->node != node)
			continue;
		HASH_FOREACH(entry, &node->subscribers) {
			struct pubsub_subscriber *subscriber =
				IRIS_CONTAINER(entry, struct pubsub_subscriber, node);

			if (jid_bare_equal(&subscriber->jid, &call->from))
				subscription_add(reply, subscriber, node);
		}
	}
	return PUBSUB_NONE;
}

#define OF_NODE (CALL_NAME | CALL_NODE)

const struct pubsub_command subscribe_commands[] = {
	{ "subscribe", NS_PUBSUB, IRIS_SET, OF_NODE | CALL_KEEPS, subscribe },
	{ "unsubscribe", NS_PUBSUB, IRIS_SET, OF_NODE, unsubscribe },
	{ "options", NS_PUBSUB, IRIS_GET, OF_NODE, options_get },
	{ "options", NS_PUBSUB, IRIS_SET, OF_NODE | CALL_KEEPS, options_set },
	{ "default", NS_PUBSUB, IRIS_GET, CALL_NEAR, default_options },
	{ "subscriptions", NS_PUBSUB, IRIS_GET, 0, own_subscriptions },
	{ .name = NULL },
};
