/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0280 1.0: Message Carbons.  Home worker of the account.
 *
 * The rules of §6 are those of urn:xmpp:carbons:rules:0 but for errors: an error does not tell
 * what it answers, so it goes to the one session that it is addressed to, and the feature is not
 * announced.
 */
#include "iris/module.h"
#include "xep/payloads.h"
#include "xep/xep0297_forwarding.h"

static struct iris_module_self carbons_self;

static struct iris_metric carbons_metrics[] = {
	{ .name = "iris_carbons_total",
	  .help = "Copies of messages sent to an account's other sessions" },
	{ .name = NULL },
};

/* --- §6: which messages are copied --- */

static bool
carbons_has_im_payload(const struct iris_element *message)
{
	ELEMENT_FOREACH(child, message) {
		if (payload_is_receipt(child) || payload_is_marker(child) ||
		    payload_is_chat_state(child) || payload_is_invitation(child))
			return true;
	}
	return false;
}

/* From a room: only invitations, since the room itself sends the rest to every session in it. */
static bool
carbons_is_copied_by_room(const struct iris_element *message, bool received)
{
	struct iris_element *x = message_room_mark(message);

	return received && x && !element_child(x, "invite", NULL);
}

static bool
carbons_is_eligible(const struct iris_stanza *stanza, bool received)
{
	const struct iris_element *message = stanza->root;

	if (message_is_private(message) || carbons_is_copied_by_room(message, received))
		return false;
	switch (stanza->type) {
	case IRIS_CHAT:
		return true;
	case IRIS_NORMAL:
		return element_child(message, "body", NULL) || carbons_has_im_payload(message) ||
		       message_room_mark(message);
	default:
		return false;
	}
}

/* --- §7, §8: the copies --- */

/* What other hooks added to the delivery (stanza-id) is in the copy too. */
static void
carbons_append_extra(struct iris_element *message, struct iris_str extra)
{
	struct iris_arena *arena = message->arena;
	struct iris_element *wrapper, *child;

	if (str_is_empty(extra))
		return;
	wrapper = element_parse(arena, arena_printf(arena, "<x xmlns='jabber:client'>%.*s</x>",
						    IRIS_STR_FMT(extra)));
	while (wrapper && (child = wrapper->first) != NULL) {
		element_remove(child);
		element_append(message, child);
	}
}

static struct iris_stanza *
carbons_wrap(const struct iris_user *user, const struct iris_delivery *original,
	     const char *direction)
{
	struct iris_stanza *copy = stanza_new(IRIS_MESSAGE, original->stanza->type);
	struct iris_element *wrapper;

	stanza_set_from(copy, &user->jid);
	wrapper = element_add(copy->root, direction, NS_CARBONS);
	carbons_append_extra(forwarded_add(wrapper, original->stanza->root, 0), original->extra);
	stanza_freeze(copy);
	return copy;
}

/* A copy of a kept message has that message's id: who has acknowledged it has the message. */
static void
carbons_send(struct iris_session *session, struct iris_stanza *copy, int64_t log_id)
{
	struct iris_delivery delivery = { .stanza = copy, .to = session->jid, .log_id = log_id };

	session_deliver(session, &delivery);
	metric_add(&carbons_metrics[0], 1);
}

/* Did this session get the message itself, by the rules of RFC 6121 §8.5? Or send it? */
static bool
carbons_session_has(const struct iris_incoming *incoming, const struct iris_session *session)
{
	if (jid_equal(&session->jid, &incoming->delivery.stanza->from))
		return true;
	return incoming->session ? incoming->session == session : session_takes_messages(session);
}

static enum iris_verdict
carbons_received(struct iris_incoming *incoming)
{
	struct iris_stanza *copy = NULL;
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&incoming->user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!session->copies || carbons_session_has(incoming, session))
			continue;
		if (!copy && !carbons_is_eligible(incoming->delivery.stanza, true))
			break;
		if (!copy)
			copy = carbons_wrap(incoming->user, &incoming->delivery, "received");
		carbons_send(session, copy, incoming->delivery.log_id);
	}
	stanza_unref(&copy);
	return IRIS_PASS;
}

/* To oneself, the other sessions get the message, or a copy, when it is received. */
static enum iris_verdict
carbons_sent(struct iris_request *request)
{
	struct iris_session *own = request->session, *session, *next;
	struct iris_stanza *copy = NULL;

	if (!own || request->is_resent || own->user->session_count < 2 ||
	    jid_bare_equal(&request->stanza->to, &own->jid))
		return IRIS_PASS;
	for (session = TAILQ_FIRST(&own->user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (session == own || !session->copies)
			continue;
		if (!copy && !carbons_is_eligible(request->stanza, false))
			break;
		if (!copy)
			copy = carbons_wrap(own->user,
					    &(struct iris_delivery){ .stanza = request->stanza },
					    "sent");
		carbons_send(session, copy, 0);
	}
	stanza_unref(&copy);
	return IRIS_PASS;
}

/* --- §4, §5: enabling; twice is once --- */

static enum iris_verdict
carbons_switch(struct iris_request *request)
{
	if (!request->session) {
		request->refusal.condition = IRIS_NOT_ALLOWED;
		return IRIS_REFUSE;
	}
	request->session->copies = element_is(request->payload, "enable", NS_CARBONS);
	return IRIS_DONE;
}

/* Inside Bind 2: <enable xmlns='urn:xmpp:carbons:2'/>. */
static enum iris_verdict
carbons_bind_features(struct iris_inline *arg)
{
	element_set(element_add(arg->response, "feature", NULL), "var", IRIS_STR(NS_CARBONS));
	return IRIS_PASS;
}

static enum iris_verdict
carbons_bind_request(struct iris_inline *arg)
{
	if (element_child(arg->request, "enable", NS_CARBONS))
		arg->session->copies = true;
	return IRIS_PASS;
}

static const struct iris_feature carbons_features[] = {
	{ IRIS_DISCO_HOST, NS_CARBONS },
	{ IRIS_DISCO_ACCOUNT, NS_CARBONS },
	{ .var = NULL },
};

static const struct iris_iq carbons_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_SET, "enable", NS_CARBONS, IRIS_SELF, carbons_switch },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "disable", NS_CARBONS, IRIS_SELF, carbons_switch },
	{ .name = NULL },
};

static const struct iris_hook_handler carbons_hooks[] = {
	HOOK(message_delivered, IRIS_NEUTRAL, carbons_received),
	HOOK(message_out, IRIS_LATE, carbons_sent),
	HOOK(bind_features, IRIS_NEUTRAL, carbons_bind_features),
	HOOK(bind_request, IRIS_NEUTRAL, carbons_bind_request),
	HOOKS_END,
};

const struct iris_module iris_module_xep0280 = {
	IRIS_MODULE_HEAD,
	.name = "xep0280",
	.summary = "Message Carbons",
	.xep = "XEP-0280 1.0.1",
	.needs = IRIS_NAMES("xep0297"),
	.self = &carbons_self,
	.features = carbons_features,
	.iq = carbons_iq,
	.hooks = carbons_hooks,
	.metrics = carbons_metrics,
};
