/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages at the home of their recipient: the delivery rules of RFC 6121 §8.5, as a table, and
 * the hooks around them.  Keeping a message for later is a plug-in's (hook message_offline).
 */
#include "im_private.h"

enum message_row { /* the conditions of §8.5.4, for an account that exists */
	ROW_BARE_NOBODY,
	ROW_BARE_NEGATIVE,
	ROW_BARE_SOME,
	ROW_FULL_MATCH,
	ROW_FULL_NOBODY,
	ROW_FULL_NEGATIVE,
	ROW_FULL_SOME,
	ROW_COUNT,
};

#define I MESSAGE_IGNORE
#define E MESSAGE_ERROR
#define D MESSAGE_TO_ONE
#define A MESSAGE_TO_ALL
#define O MESSAGE_OFFLINE

static const uint8_t message_rules[][ROW_COUNT] = {
	/* bare: none, negative, some · full: match, no match: none, negative, some */
	[IRIS_NORMAL]    = { O, O, A, D, E, E, E },
	[IRIS_CHAT]      = { O, O, A, D, O, O, A },
	[IRIS_GROUPCHAT] = { E, E, E, D, E, E, E },
	[IRIS_HEADLINE]  = { I, I, A, D, I, I, I },
	[IRIS_ERROR]     = { I, I, I, D, I, I, I },
};

#undef I
#undef E
#undef D
#undef A
#undef O

static struct iris_metric message_metrics[] = {
	{ .name = "iris_messages_total", .labels = "outcome=\"delivered\"", .kind = IRIS_COUNTER,
	  .help = "Messages to users" },
	{ .name = "iris_messages_total", .labels = "outcome=\"kept\"", .kind = IRIS_COUNTER,
	  .help = "Messages to users" },
	{ .name = "iris_messages_total", .labels = "outcome=\"refused\"", .kind = IRIS_COUNTER,
	  .help = "Messages to users" },
	{ .name = NULL },
};
enum { METRIC_DELIVERED, METRIC_KEPT, METRIC_REFUSED };

enum message_verdict
message_judge(enum iris_stanza_type type, bool full, bool matches, enum message_resources resources)
{
	enum message_row row =
		matches ? ROW_FULL_MATCH : (full ? ROW_FULL_NOBODY : ROW_BARE_NOBODY) + resources;

	return message_rules[type][row];
}

static enum message_resources
resources_of(const struct iris_user *user)
{
	const struct iris_session *session;

	if (user->available_count == 0)
		return MESSAGE_NO_RESOURCE;
	TAILQ_FOREACH(session, &user->sessions, link)
		if (session_takes_messages(session))
			return MESSAGE_SOME;
	return MESSAGE_ONLY_NEGATIVE;
}

static void
refuse(struct iris_incoming *incoming, enum iris_condition condition)
{
	struct iris_refusal *refusal = &incoming->request->refusal;

	if (condition != IRIS_NO_ERROR)
		*refusal = (struct iris_refusal){ .condition = condition };
	metric_add(&message_metrics[METRIC_REFUSED], 1);
	route_refusal(&incoming->delivery, refusal);
}

static void
deliver_to_all(struct iris_incoming *incoming)
{
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&incoming->user->sessions); session; session = next) {
		/* A stream that fails now takes its session with it. */
		next = TAILQ_NEXT(session, link);
		if (!session_takes_messages(session))
			continue;
		session_deliver(session, &incoming->delivery);
		incoming->delivered++;
	}
}

static void
keep(struct iris_incoming *incoming)
{
	enum iris_verdict verdict = hook_run_message_offline(incoming);

	if (verdict == IRIS_DONE)
		metric_add(&message_metrics[METRIC_KEPT], 1);
	else
		refuse(incoming, verdict == IRIS_REFUSE ? IRIS_NO_ERROR : IRIS_SERVICE_UNAVAILABLE);
}

static void
deliver(struct iris_incoming *incoming, enum message_verdict verdict)
{
	if (verdict == MESSAGE_TO_ALL) {
		deliver_to_all(incoming);
	} else if (verdict == MESSAGE_TO_ONE) {
		session_deliver(incoming->session, &incoming->delivery);
		incoming->delivered = 1;
	}
	if (incoming->delivered == 0) {
		keep(incoming);
		return;
	}
	metric_add(&message_metrics[METRIC_DELIVERED], 1);
	if (hook_is_used(IRIS_HOOK_ID_message_delivered))
		hook_run_message_delivered(incoming);
}

void
message_receive(struct iris_incoming *incoming)
{
	const struct iris_delivery *delivery = &incoming->delivery;
	const struct iris_jid *to =
		jid_is_none(&delivery->to) ? &delivery->stanza->to : &delivery->to;
	enum message_verdict verdict =
		message_judge(delivery->stanza->type, !jid_is_bare(to), incoming->session != NULL,
			      incoming->session ? MESSAGE_SOME : resources_of(incoming->user));
	enum iris_verdict heard = IRIS_PASS;

	if (verdict == MESSAGE_IGNORE)
		return;
	if (verdict == MESSAGE_ERROR) {
		refuse(incoming, IRIS_SERVICE_UNAVAILABLE);
		return;
	}
	if (hook_is_used(IRIS_HOOK_ID_message_in))
		heard = hook_run_message_in(incoming);
	if (heard == IRIS_REFUSE)
		refuse(incoming, IRIS_NO_ERROR);
	else if (heard == IRIS_PASS)
		deliver(incoming, verdict);
}

/* §8.5.1. SECURITY: a headline is ignored as it is for somebody who is not there (P5.7). */
void
message_receive_absent(const struct iris_delivery *delivery)
{
	if (delivery->stanza->type != IRIS_HEADLINE)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
}

static struct iris_module_self message_self;

const struct iris_module iris_module_message = {
	IRIS_MODULE_HEAD,
	.name = "message",
	.summary = "Delivery of messages (RFC 6121 §8.5)",
	.self = &message_self,
	.metrics = message_metrics,
	.not_unloadable = true,
};
