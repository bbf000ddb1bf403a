/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presence subscriptions (RFC 6121 §3): the tables of Appendix A as data, and what follows from a
 * change of state: roster pushes, presence, answers that are given by themselves, requests
 * that are shown until they are answered.  At the home of the user; never waits.
 */
#include "im_private.h"

/* Bytes of a request's children that are kept to show them again. */
#define REQUEST_MAX (8u * 1024u)

struct rule {
	uint8_t next;
	bool pass; /* outbound: route; inbound: deliver */
	bool answer;
};

#define STAY(state) { SUB_##state, false, false }
#define PASS(state) { SUB_##state, true, false }
#define ANSWER(state) { SUB_##state, false, true }

/* Appendix A.2 and A.3: [direction][type][state]; the columns are the states of A.1. */
static const struct rule rules[2][4][SUB_STATE_COUNT] = {
	[SUB_OUTBOUND] = {
		/* A.2.1 subscribe */
		{ [SUB_NONE] = PASS(NONE_OUT), [SUB_NONE_OUT] = PASS(NONE_OUT),
		  [SUB_NONE_IN] = PASS(NONE_OUT_IN), [SUB_NONE_OUT_IN] = PASS(NONE_OUT_IN),
		  [SUB_TO] = PASS(TO), [SUB_TO_IN] = PASS(TO_IN),
		  [SUB_FROM] = PASS(FROM_OUT), [SUB_FROM_OUT] = PASS(FROM_OUT),
		  [SUB_BOTH] = PASS(BOTH) },
		/* A.2.3 subscribed */
		{ [SUB_NONE] = STAY(NONE), [SUB_NONE_OUT] = STAY(NONE_OUT),
		  [SUB_NONE_IN] = PASS(FROM), [SUB_NONE_OUT_IN] = PASS(FROM_OUT),
		  [SUB_TO] = STAY(TO), [SUB_TO_IN] = PASS(BOTH),
		  [SUB_FROM] = STAY(FROM), [SUB_FROM_OUT] = STAY(FROM_OUT),
		  [SUB_BOTH] = STAY(BOTH) },
		/* A.2.2 unsubscribe */
		{ [SUB_NONE] = PASS(NONE), [SUB_NONE_OUT] = PASS(NONE),
		  [SUB_NONE_IN] = PASS(NONE_IN), [SUB_NONE_OUT_IN] = PASS(NONE_IN),
		  [SUB_TO] = PASS(NONE), [SUB_TO_IN] = PASS(NONE_IN),
		  [SUB_FROM] = PASS(FROM), [SUB_FROM_OUT] = PASS(FROM),
		  [SUB_BOTH] = PASS(FROM) },
		/* A.2.4 unsubscribed */
		{ [SUB_NONE] = STAY(NONE), [SUB_NONE_OUT] = STAY(NONE_OUT),
		  [SUB_NONE_IN] = PASS(NONE), [SUB_NONE_OUT_IN] = PASS(NONE_OUT),
		  [SUB_TO] = STAY(TO), [SUB_TO_IN] = PASS(TO),
		  [SUB_FROM] = PASS(NONE), [SUB_FROM_OUT] = PASS(NONE_OUT),
		  [SUB_BOTH] = PASS(TO) },
	},
	[SUB_INBOUND] = {
		/* A.3.1 subscribe */
		{ [SUB_NONE] = PASS(NONE_IN), [SUB_NONE_OUT] = PASS(NONE_OUT_IN),
		  [SUB_NONE_IN] = STAY(NONE_IN), [SUB_NONE_OUT_IN] = STAY(NONE_OUT_IN),
		  [SUB_TO] = PASS(TO_IN), [SUB_TO_IN] = STAY(TO_IN),
		  [SUB_FROM] = ANSWER(FROM), [SUB_FROM_OUT] = ANSWER(FROM_OUT),
		  [SUB_BOTH] = ANSWER(BOTH) },
		/* A.3.3 subscribed */
		{ [SUB_NONE] = STAY(NONE), [SUB_NONE_OUT] = PASS(TO),
		  [SUB_NONE_IN] = STAY(NONE_IN), [SUB_NONE_OUT_IN] = PASS(TO_IN),
		  [SUB_TO] = STAY(TO), [SUB_TO_IN] = STAY(TO_IN),
		  [SUB_FROM] = STAY(FROM), [SUB_FROM_OUT] = PASS(BOTH),
		  [SUB_BOTH] = STAY(BOTH) },
		/* A.3.2 unsubscribe */
		{ [SUB_NONE] = STAY(NONE), [SUB_NONE_OUT] = STAY(NONE_OUT),
		  [SUB_NONE_IN] = PASS(NONE), [SUB_NONE_OUT_IN] = PASS(NONE_OUT),
		  [SUB_TO] = STAY(TO), [SUB_TO_IN] = PASS(TO),
		  [SUB_FROM] = PASS(NONE), [SUB_FROM_OUT] = PASS(NONE_OUT),
		  [SUB_BOTH] = PASS(TO) },
		/* A.3.4 unsubscribed */
		{ [SUB_NONE] = STAY(NONE), [SUB_NONE_OUT] = PASS(NONE),
		  [SUB_NONE_IN] = STAY(NONE_IN), [SUB_NONE_OUT_IN] = PASS(NONE_IN),
		  [SUB_TO] = PASS(NONE), [SUB_TO_IN] = PASS(NONE_IN),
		  [SUB_FROM] = STAY(FROM), [SUB_FROM_OUT] = PASS(FROM),
		  [SUB_BOTH] = PASS(FROM) },
	},
};

/* §3.4.2: what an approval becomes that nobody has asked for yet; elsewhere it changes nothing. */
static const bool may_preapprove[SUB_STATE_COUNT] = {
	[SUB_NONE] = true, [SUB_NONE_OUT] = true, [SUB_TO] = true,
};

/* §3.4.3: an inbound request meets an approval: the state after both. */
static const struct rule preapproved[SUB_STATE_COUNT] = {
	[SUB_NONE] = ANSWER(FROM), [SUB_NONE_OUT] = ANSWER(FROM_OUT), [SUB_TO] = ANSWER(BOTH),
};

#undef STAY
#undef PASS
#undef ANSWER

static const struct {
	enum iris_subscription subscription;
	bool ask, pending_in;
} states[SUB_STATE_COUNT] = {
#define X(name, subscription, ask, pending) { subscription, ask, pending },
	SUB_STATES(X)
#undef X
};

struct sub_outcome
subscription_judge(enum sub_direction direction, enum iris_stanza_type type, enum sub_state state,
		   bool approved)
{
	struct rule rule = rules[direction][type - IRIS_SUBSCRIBE][state];
	bool approved_after = approved;

	if (direction == SUB_INBOUND && type == IRIS_SUBSCRIBE && approved && may_preapprove[state])
		rule = preapproved[state];
	if (direction == SUB_OUTBOUND && type == IRIS_SUBSCRIBED && may_preapprove[state])
		approved_after = true;
	if (direction == SUB_OUTBOUND && type == IRIS_UNSUBSCRIBED)
		approved_after = false;
	return (struct sub_outcome){ .next = rule.next,
				     .approved = approved_after,
				     .pass = rule.pass,
				     .answer = rule.answer };
}

enum sub_state
subscription_state(const struct roster_change *contact)
{
	unsigned i = 0;

	while (i < SUB_STATE_COUNT &&
	       (states[i].subscription != contact->subscription || states[i].ask != contact->ask ||
		states[i].pending_in != contact->pending_in))
		i++;
	IRIS_ASSERT(i < SUB_STATE_COUNT);
	return (enum sub_state)i;
}

static void
change_state(struct roster_change *change, const struct sub_outcome *outcome)
{
	change->subscription = states[outcome->next].subscription;
	change->ask = states[outcome->next].ask;
	change->pending_in = states[outcome->next].pending_in;
	change->approved = outcome->approved;
	if (!change->pending_in)
		change->request = IRIS_STR_NONE;
}

/* The server's own, from bare to bare. */
static void
send_type(struct iris_user *user, const struct iris_jid *to, enum iris_stanza_type type,
	  struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = stanza_new(IRIS_PRESENCE, type);

	stanza_set_from(stanza, &user->jid);
	stanza_set_to(stanza, to);
	stanza->owner = user->account.owner;
	route_stanza(&stanza, ticket);
}

/* --- outbound (§3.1.2, §3.1.5, §3.2.2, §3.3.2, §3.4.2) --- */

static bool
is_addressed(struct iris_session *session, struct iris_stanza *stanza)
{
	if (jid_is_none(&stanza->to) || jid_bare_equal(&stanza->to, &session->user->jid)) {
		session_refuse(session, stanza,
			       &(struct iris_refusal){ .condition = jid_is_none(&stanza->to)
									    ? IRIS_BAD_REQUEST
									    : IRIS_NOT_ALLOWED });
		return false;
	}
	if (!jid_is_bare(&stanza->to)) {
		struct iris_jid bare = jid_with_resource(stanza->arena, &stanza->to, IRIS_STR_NONE);
		stanza_set_to(stanza, &bare);
	}
	return true;
}

static void
outbound_effects(struct iris_user *user, struct iris_stanza **stanza_p,
		 const struct roster_change *before, const struct sub_outcome *outcome,
		 struct iris_ticket *ticket)
{
	enum iris_stanza_type type = (*stanza_p)->type;
	struct iris_stanza *held = stanza_ref(*stanza_p); /* for its address */

	/* §3.2.2: unavailable while the contact still may see it. */
	if (type == IRIS_UNSUBSCRIBED && (before->subscription & IRIS_SUB_FROM))
		presence_hide(user, &held->to, ticket);
	if (outcome->pass)
		route_stanza(stanza_p, ticket);
	if (type == IRIS_SUBSCRIBED && outcome->pass)
		presence_show(user, &held->to, ticket);
	stanza_unref(&held);
}

/* The stanza is from the user, to a bare address; its reference is taken on success. */
static enum iris_condition
outbound(struct iris_user *user, struct iris_stanza **stanza_p, struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;
	struct roster_change before, change;
	struct sub_outcome outcome;
	enum iris_condition condition;

	before = change = roster_change_of(roster_find(user, jid_bare(&stanza->to)), &stanza->to);
	outcome = subscription_judge(SUB_OUTBOUND, stanza->type, subscription_state(&before),
				     before.approved);
	change_state(&change, &outcome);
	if (stanza->type == IRIS_SUBSCRIBE ||
	    (stanza->type == IRIS_SUBSCRIBED && (outcome.pass || outcome.approved)))
		change.in_roster = true;
	if (!roster_apply(user, &change, ticket, &condition))
		return condition;
	if (change.visible)
		roster_push(user, &stanza->to);
	outbound_effects(user, stanza_p, &before, &outcome, ticket);
	return IRIS_NO_ERROR;
}

void
subscription_send(struct iris_session *session, struct iris_stanza **stanza_p,
		  struct iris_ticket *ticket)
{
	enum iris_condition condition;

	if (!is_addressed(session, *stanza_p))
		return;
	condition = outbound(session->user, stanza_p, ticket);
	if (condition != IRIS_NO_ERROR)
		session_refuse(session, *stanza_p,
			       &(struct iris_refusal){ .condition = condition });
}

enum iris_condition
user_subscribe(struct iris_user *user, const struct iris_jid *to, enum iris_stanza_type type,
	       struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = stanza_new(IRIS_PRESENCE, type);
	enum iris_condition condition = IRIS_NOT_ALLOWED;

	IRIS_ASSERT(subscription_is_type(type) && jid_is_bare(to));
	stanza->owner = user->account.owner;
	stanza_set_from(stanza, &user->jid);
	stanza_set_to(stanza, to);
	if (!jid_equal(to, &user->jid))
		condition = outbound(user, &stanza, ticket);
	stanza_unref(&stanza);
	return condition;
}

void
subscription_cancel(struct iris_user *user, const struct roster_change *before,
		    struct iris_ticket *ticket)
{
	if ((before->subscription & IRIS_SUB_TO) || before->ask)
		send_type(user, &before->jid, IRIS_UNSUBSCRIBE, ticket);
	if (before->subscription & IRIS_SUB_FROM)
		presence_hide(user, &before->jid, ticket);
	if ((before->subscription & IRIS_SUB_FROM) || before->pending_in)
		send_type(user, &before->jid, IRIS_UNSUBSCRIBED, ticket);
}

/* --- inbound (§3.1.3, §3.1.6, §3.2.3, §3.3.3, §3.4.3) --- */

/* A request is for those who are available, what follows for those who keep a roster. */
static void
inbound_deliver(struct iris_user *user, struct iris_stanza *stanza)
{
	struct iris_delivery delivery = { .stanza = stanza };
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (stanza->type == IRIS_SUBSCRIBE ? session->presence != NULL
						   : session->interested)
			session_deliver(session, &delivery);
	}
}

static void
inbound_effects(struct iris_user *user, struct iris_stanza *stanza,
		const struct roster_change *before, const struct sub_outcome *outcome,
		struct iris_ticket *ticket)
{
	if (outcome->answer) {
		send_type(user, &before->jid, IRIS_SUBSCRIBED, ticket);
		presence_show(user, &before->jid, ticket);
	}
	/* §3.3.3: who unsubscribed learns that it sees no more. */
	if (stanza->type == IRIS_UNSUBSCRIBE && (before->subscription & IRIS_SUB_FROM))
		presence_hide(user, &before->jid, ticket);
}

void
subscription_receive(struct iris_user *user, struct iris_stanza *stanza, struct iris_ticket *ticket)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid from = jid_with_resource(arena, &stanza->from, IRIS_STR_NONE);
	struct roster_change before, change;
	struct sub_outcome outcome;
	enum iris_condition condition;

	before = change = roster_change_of(roster_find(user, jid_bare(&from)), &from);
	outcome = subscription_judge(SUB_INBOUND, stanza->type, subscription_state(&before),
				     before.approved);
	change_state(&change, &outcome);
	if (change.pending_in && !before.pending_in && !stanza->transit &&
	    stanza->inner.len <= REQUEST_MAX)
		change.request = stanza->inner;
	/*
	 * SECURITY: beyond the limit of unanswered requests, another one is as one that is never
	 * answered.
	 */
	if (!jid_bare_equal(&from, &user->jid) && roster_apply(user, &change, ticket, &condition)) {
		if (outcome.pass)
			inbound_deliver(user, stanza);
		if (change.visible)
			roster_push(user, &from);
		inbound_effects(user, stanza, &before, &outcome, ticket);
	}
	arena_unref(&arena);
}

static void
show_request(const struct iris_contact *contact, void *arg)
{
	struct iris_session *session = arg;
	struct iris_delivery delivery = { .extra = contact->request };

	if (!contact->pending_in)
		return;
	delivery.stanza = stanza_new(IRIS_PRESENCE, IRIS_SUBSCRIBE);
	stanza_set_from(delivery.stanza, &contact->jid);
	stanza_set_to(delivery.stanza, &session->user->jid);
	stanza_freeze(delivery.stanza);
	session_deliver(session, &delivery);
	stanza_unref(&delivery.stanza);
}

void
subscription_show_requests(struct iris_session *session)
{
	roster_each(session->user, show_request, session);
}
