/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0357 0.4.1: Push Notifications.  Home worker of the account.
 *
 * When nobody looks (no session but those that say they are inactive or away, or have no
 * stream), each service that the account enabled is told that something waits: once for each
 * message, whatever the number of sessions that got it, and not more often than `merge` says.
 * What is told is a summary (§7); who and what only if the operator says so.  The services
 * themselves are in xep0357_services.c.
 *
 * It is no push service itself, and says nothing about other people's presence.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/payloads.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0203_delay.h"
#include "xep/xep0352_csi.h"
#include "xep/xep0357_services.h"

#define NS_SUMMARY "urn:xmpp:push:summary"
#define NODE_MAX 1024
#define OPTIONS_MAX 4096 /* bytes of the form that is passed on */
#define BODY_MAX 512     /* of last-message-body */
#define RECENT 8         /* copies of one message from a room, one for each session in it */

enum {
	OPT_MERGE = PUSH_OPT_COUNT,
	OPT_MERGE_GROUPS,
	OPT_GROUPS,
	OPT_SENDER,
	OPT_BODY,
};
enum { GROUPS_ALL, GROUPS_MENTIONS, GROUPS_NONE };
static const char *const groups_choices[] = { "all", "mentions", "none", NULL };

enum push_urgency { PUSH_NOT, PUSH_LOW, PUSH_HIGH };

/* Of a loaded user. */
struct push {
	struct iris_user *user;
	struct push_services services;
	unsigned unseen;      /* messages since somebody last looked */
	int64_t since_ms;     /* when the first of them came, Unix time */
	int64_t told_ms;      /* when the services last were, monotonic */
	int64_t due_ms;       /* of the timer */
	struct iris_timer timer;
	struct iris_stanza *last; /* news to tell, held while the timer runs; NULL: no message */
	uint64_t recent[RECENT];
	unsigned recent_next;
};

/* Of a session, counting news: what is not acknowledged may be lost with its stream. */
struct push_session {
	uint32_t sent, acknowledged;
	uint32_t told; /* up to here the services know */
};

struct iris_module_self push_self;

struct iris_metric push_metrics[] = {
	[PUSH_PUBLISHED] = { .name = "iris_push_published_total",
			     .help = "Notifications that a push service took" },
	[PUSH_FAILED] = { .name = "iris_push_failed_total",
			  .help = "Notifications that a push service did not take" },
	[PUSH_DROPPED] = { .name = "iris_push_disabled_total",
			   .help = "Push services disabled since they take nothing" },
	[PUSH_UNSTORED] = { .name = "iris_push_unstored_total",
			    .help = "Failures of push services that the vault did not take" },
	[PUSH_MERGED] = { .name = "iris_push_merged_total",
			  .help = "News that were told together with others" },
	[PUSH_UNTOLD] = { .name = "iris_push_untold_total",
			  .help = "Messages of rooms that absent members were not told of, since "
				  "too many waited to be looked up" },
	{ .name = NULL },
};

static struct push *
push_of(struct iris_user *user)
{
	return *user_slot(user, &push_self);
}

struct push_services *
push_services_of(struct iris_user *user)
{
	struct push *push = push_of(user);

	return push ? &push->services : NULL;
}

/* --- does anybody look? --- */

static bool
session_is_looked_at(struct iris_session *session)
{
	struct iris_str show;

	if (!session->stream || session->closing || !session->presence ||
	    csi_is_inactive(session) || (!session_takes_messages(session) && !session->copies))
		return false;
	show = element_child_text(session->presence->root, "show", NULL);
	return !str_is(show, "away") && !str_is(show, "xa");
}

/* By any session but this one, or NULL */
static bool
user_is_looked_at(struct iris_user *user, const struct iris_session *lost)
{
	struct iris_session *session;

	TAILQ_FOREACH(session, &user->sessions, link)
		if (session != lost && session_is_looked_at(session))
			return true;
	return false;
}

/* Has anybody looked since the first of the unseen came? */
static bool
push_was_looked_at(struct push *push)
{
	struct iris_session *session;

	TAILQ_FOREACH(session, &push->user->sessions, link)
		if (csi_active_since(session) > push->since_ms)
			return true;
	return false;
}

static void
push_forget(struct push *push)
{
	push->unseen = 0;
	timer_stop(&push->timer);
	stanza_unref(&push->last);
}

/* --- telling: §7 --- */

static void
count_pending(const struct iris_contact *contact, void *arg)
{
	*(unsigned *)arg += contact->pending_in;
}

static void
summary_add_number(struct iris_element *form, const char *var, unsigned value)
{
	if (value > 0)
		form_add_field(form, NULL, var, arena_printf(form->arena, "%u", value));
}

/* No longer than BODY_MAX, and no character cut in two. */
static struct iris_str
text_shorten(struct iris_str text)
{
	if (text.len > BODY_MAX) {
		text.len = BODY_MAX;
		while (text.len > 0 && ((unsigned char)text.base[text.len] & 0xC0) == 0x80)
			text.len--;
	}
	return text;
}

/* SECURITY: what others wrote leaves the server for a third party only when an operator says so. */
static void
summary_add_last(struct iris_element *form, const struct iris_stanza *last)
{
	struct iris_str body = element_child_text(last->root, "body", NULL);

	if (option_bool(&push_self, OPT_SENDER))
		form_add_field(form, NULL, "last-message-sender", jid_full(&last->from));
	if (option_bool(&push_self, OPT_BODY) && !str_is_empty(body))
		form_add_field(form, NULL, "last-message-body", text_shorten(body));
}

static void
push_tell(struct push *push)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_new(arena, "notification", NS_PUSH), *form;
	unsigned pending = 0;

	timer_stop(&push->timer);
	push->told_ms = worker_now_ms();
	form = form_add(root, "submit", NS_SUMMARY);
	summary_add_number(form, "message-count", push->unseen);
	roster_each(push->user, count_pending, &pending);
	summary_add_number(form, "pending-subscription-count", pending);
	if (push->last)
		summary_add_last(form, push->last);
	stanza_unref(&push->last);
	push_services_publish(&push->services, push->user, form);
	arena_unref(&arena);
}

static void
push_tell_late(void *arg)
{
	struct push *push = arg;

	if (!user_is_looked_at(push->user, NULL))
		push_tell(push);
	else
		push_forget(push);
}

/*
 * Now, or with others when the services were told a moment ago. What is in transit wakes the client
 * that it waits for, and is not told of by a word (P2.4).
 */
static void
push_news(struct push *push, enum push_urgency urgency, struct iris_stanza *stanza)
{
	int64_t wait = option_int(&push_self, urgency == PUSH_HIGH ? OPT_MERGE : OPT_MERGE_GROUPS);
	int64_t now = worker_now_ms(), due = push->told_ms + wait;

	if (stanza && !stanza->transit) {
		stanza_unref(&push->last);
		push->last = stanza_ref(stanza);
	}
	if (due <= now) {
		push_tell(push);
		return;
	}
	metric_add(&push_metrics[PUSH_MERGED], 1);
	if (timer_is_running(&push->timer) && push->due_ms <= due)
		return;
	push->due_ms = due;
	timer_start(&push->timer, due - now, push_tell_late, push);
}

/* --- what is news --- */

/* What a room sends to who enters: it was said before (XEP-0045 §7.2.13). */
static bool
message_is_history(const struct iris_stanza *stanza)
{
	struct iris_element *delay = element_child(stanza->root, "delay", NS_DELAY);

	return stanza->type == IRIS_GROUPCHAT && delay &&
	       str_equal(element_get(delay, "from"), jid_bare(&stanza->from));
}

static enum push_urgency
message_urgency(const struct iris_user *user, const struct iris_stanza *stanza)
{
	int64_t groups = option_int(&push_self, OPT_GROUPS);

	if (stanza->kind != IRIS_MESSAGE || stanza->type == IRIS_ERROR ||
	    stanza->type == IRIS_HEADLINE || !message_is_news(stanza->root) ||
	    message_is_history(stanza) || jid_bare_equal(&stanza->from, &user->jid))
		return PUSH_NOT;
	if (stanza->type != IRIS_GROUPCHAT || message_mentions(stanza->root, &user->jid))
		return stanza->type == IRIS_GROUPCHAT && groups == GROUPS_NONE ? PUSH_NOT :
										 PUSH_HIGH;
	return groups == GROUPS_ALL ? PUSH_LOW : PUSH_NOT;
}

/* A room sends what is said in it to each session; it is one message. */
static bool
push_is_known(struct push *push, const struct iris_stanza *stanza)
{
	uint64_t hash;

	if (stanza->type != IRIS_GROUPCHAT || str_is_empty(stanza->id))
		return false;
	hash = hash_bytes(stanza->id.base, stanza->id.len) * 31 +
	       hash_bytes(stanza->from.base, jid_full(&stanza->from).len);
	for (size_t i = 0; i < RECENT; i++)
		if (push->recent[i] == hash)
			return true;
	push->recent[push->recent_next++ % RECENT] = hash;
	return false;
}

static void
push_message(struct iris_user *user, struct iris_stanza *stanza)
{
	struct push *push = push_of(user);
	enum push_urgency urgency;

	if (!push || push->services.count == 0)
		return;
	urgency = message_urgency(user, stanza);
	if (urgency == PUSH_NOT)
		return;
	if (user_is_looked_at(user, NULL)) {
		push_forget(push);
		return;
	}
	if (push_is_known(push, stanza))
		return;
	if (push_was_looked_at(push))
		push->unseen = 0;
	if (push->unseen++ == 0)
		push->since_ms = worker_wall_ms();
	push_news(push, urgency, stanza);
}

void
push_message_absent(struct iris_user *user, struct iris_stanza *message)
{
	struct iris_visibility visibility = { .user = user, .jid = message->from };

	if (!user->account.locked && hook_run_presence_visible(&visibility) != IRIS_REFUSE)
		push_message(user, message);
}

static enum iris_verdict
push_message_delivered(struct iris_incoming *incoming)
{
	push_message(incoming->user, incoming->delivery.stanza);
	return IRIS_PASS;
}

/* It waits for the next client, unless it was refused, or is nothing that may wait. */
static enum iris_verdict
push_message_offline(struct iris_incoming *incoming)
{
	if (incoming->request->refusal.condition == IRIS_NO_ERROR &&
	    archive_is_for_offline(incoming->delivery.stanza))
		push_message(incoming->user, incoming->delivery.stanza);
	return IRIS_PASS;
}

/* --- §9: a service does not want to be told any more --- */

static bool
push_take_affiliation(struct push *push, const struct iris_stanza *stanza)
{
	struct iris_element *pubsub = element_child(stanza->root, "pubsub", NS_PUBSUB);
	struct iris_element *affiliation =
		pubsub ? element_child(pubsub, "affiliation", NULL) : NULL;
	struct iris_str node = pubsub ? element_get(pubsub, "node") : IRIS_STR_NONE, value;

	if (!affiliation || str_is_none(node))
		return false;
	value = element_get(affiliation, "affiliation");
	if (str_is(value, "none") || str_is(value, "outcast") || str_is(value, "member"))
		return push_services_disable(&push->services, push->user, &stanza->from, node);
	return true;
}

static bool
push_knows_service(const struct push *push, const struct iris_jid *jid)
{
	const struct push_service *service;

	TAILQ_FOREACH(service, &push->services.list, link)
		if (jid_equal(&service->jid, jid))
			return true;
	return false;
}

static bool
push_is_request(struct iris_user *user, const struct iris_stanza *stanza)
{
	struct iris_contact *contact;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_SUBSCRIBE)
		return false;
	contact = roster_find(user, jid_bare(&stanza->from));
	return !contact || !(contact_sees_us(contact) || contact->approved || contact->pending_in);
}

/* A call by XEP-0166, to a session that waits for its client. */
static bool
push_is_call(const struct iris_incoming *incoming, const struct iris_stanza *stanza)
{
	struct iris_element *jingle =
		stanza->kind == IRIS_IQ ? element_child(stanza->root, "jingle", NS_JINGLE) : NULL;

	return jingle && incoming->session && !incoming->session->stream &&
	       str_is(element_get(jingle, "action"), "session-initiate");
}

/* Late: what is blocked is not here any more. */
static enum iris_verdict
push_stanza_in(struct iris_incoming *incoming)
{
	struct push *push = push_of(incoming->user);
	struct iris_stanza *stanza = incoming->delivery.stanza;

	if (!push || push->services.count == 0)
		return IRIS_PASS;
	if (stanza->kind == IRIS_MESSAGE)
		return push_knows_service(push, &stanza->from) &&
				       push_take_affiliation(push, stanza) ?
			       IRIS_DONE :
			       IRIS_PASS;
	if ((push_is_request(incoming->user, stanza) || push_is_call(incoming, stanza)) &&
	    !user_is_looked_at(incoming->user, NULL))
		push_news(push, PUSH_HIGH, NULL);
	return IRIS_PASS;
}

/* --- what was sent into a connection that is dead --- */

static struct push_session *
push_session_of(struct iris_session *session)
{
	return *session_slot(session, &push_self);
}

static enum iris_verdict
push_session_sent(struct iris_session_delivery *arg)
{
	struct push *push = push_of(arg->session->user);
	struct push_session *own;

	if (!arg->session->acknowledges || !push || push->services.count == 0 ||
	    message_urgency(push->user, arg->delivery->stanza) == PUSH_NOT)
		return IRIS_PASS;
	own = push_session_of(arg->session);
	if (!own)
		*session_slot(arg->session, &push_self) = own = iris_calloc(1, sizeof(*own));
	own->sent++;
	if (!user_is_looked_at(push->user, NULL))
		own->told = own->sent; /* right now, when all sessions have it */
	return IRIS_PASS;
}

static enum iris_verdict
push_delivery_done(struct iris_session_delivery *arg)
{
	struct push_session *own = push_session_of(arg->session);

	if (own && own->acknowledged < own->sent &&
	    message_urgency(arg->session->user, arg->delivery->stanza) != PUSH_NOT)
		own->acknowledged++;
	return IRIS_PASS;
}

/* Its client may not have what it did not acknowledge, and was thought to be there. */
static void
push_unacknowledged(struct iris_session *session)
{
	struct push *push = push_of(session->user);
	struct push_session *own = push_session_of(session);
	uint32_t known, missed;

	if (!own || !push || push->services.count == 0)
		return;
	known = own->told > own->acknowledged ? own->told : own->acknowledged;
	missed = own->sent - known;
	own->told = own->sent;
	if (missed == 0 || user_is_looked_at(session->user, session))
		return;
	if (push->unseen == 0)
		push->since_ms = worker_wall_ms();
	push->unseen += missed;
	push_news(push, PUSH_HIGH, NULL);
}

/* Before XEP-0198 lets the session wait */
static enum iris_verdict
push_stream_lost(struct iris_stream *stream)
{
	if (stream_session(stream) && !worker_is_stopping())
		push_unacknowledged(stream_session(stream));
	return IRIS_PASS;
}

static enum iris_verdict
push_session_close(struct iris_session *session)
{
	void **slot = session_slot(session, &push_self);

	if (*slot)
		push_unacknowledged(session);
	free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
push_session_resumed(struct iris_session *session)
{
	struct push *push = push_of(session->user);

	if (push && session_is_looked_at(session))
		push_forget(push);
	return IRIS_PASS;
}

/* --- the user comes and goes --- */

static bool
push_user_take(struct iris_user *user, const struct iris_rows *rows)
{
	struct push *push = iris_calloc(1, sizeof(*push));

	push->user = user;
	push->told_ms = INT64_MIN / 2;
	push_services_init(&push->services);
	if (!push_services_take(&push->services, rows) &&
	    vault_post(&push_query_address, user->account.owner,
		       VALUES(value_int(user->account.id),
			      value_int(vault_peer_id(jid_bare(&user->jid)))),
		       NULL) != IRIS_VAULT_OK)
		metric_add(&push_metrics[PUSH_UNSTORED], 1); /* the next load tries again */
	*user_slot(user, &push_self) = push;
	return true;
}

static enum iris_verdict
push_user_unload(struct iris_user *user)
{
	struct push *push = push_of(user);

	if (!push)
		return IRIS_PASS;
	if (timer_is_running(&push->timer) && user_is_ready(user))
		push_tell(push); /* what waited for others to be told with */
	push_forget(push);
	push_services_free(&push->services);
	free(push);
	*user_slot(user, &push_self) = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
push_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&push_query_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

/* --- requests: §5, §6 --- */

static enum iris_verdict
push_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/* The form, to be passed on as it is; none: there is none. False: it is not of this kind. */
static bool
push_read_options(struct iris_request *request, struct iris_str *options_r)
{
	struct iris_element *form = element_child(request->payload, "x", NS_DATA);
	struct iris_strbuf text = STRBUF_INIT(request->arena);

	*options_r = IRIS_STR_NONE;
	if (!form)
		return true;
	element_write(&text, form, IRIS_STR_NONE);
	*options_r = strbuf_str(&text);
	return form_is_type(form, NS_PUBLISH_OPTIONS);
}

static enum iris_verdict
push_enable(struct iris_request *request)
{
	struct push *push = push_of(request->user);
	struct iris_str node = element_get(request->payload, "node"), options;
	struct iris_jid jid;
	enum iris_condition condition;

	if (!jid_parse(request->arena, element_get(request->payload, "jid"), &jid))
		return push_refuse(request, IRIS_BAD_REQUEST, "A push service has an address");
	if (!push_read_options(request, &options))
		return push_refuse(request, IRIS_BAD_REQUEST, "The form is for publish-options");
	if (node.len > NODE_MAX || options.len > OPTIONS_MAX)
		return push_refuse(request, IRIS_POLICY_VIOLATION, "That is too long");
	condition = push_services_enable(&push->services, request->user, &jid,
					 str_is_none(node) ? IRIS_STR("") : node, options);
	return condition == IRIS_NO_ERROR ? IRIS_DONE : push_refuse(request, condition, NULL);
}

static enum iris_verdict
push_disable(struct iris_request *request)
{
	struct push *push = push_of(request->user);
	struct iris_jid jid;

	if (!jid_parse(request->arena, element_get(request->payload, "jid"), &jid))
		return push_refuse(request, IRIS_BAD_REQUEST, "A push service has an address");
	if (!push_services_disable(&push->services, request->user, &jid,
				   element_get(request->payload, "node")))
		return push_refuse(request, IRIS_RESOURCE_CONSTRAINT, NULL);
	return IRIS_DONE;
}

static const struct iris_feature push_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_PUSH },
	{ .var = NULL },
};

static const struct iris_iq push_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_SET, "enable", NS_PUSH, IRIS_SELF, push_enable },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "disable", NS_PUSH, IRIS_SELF, push_disable },
	{ .name = NULL },
};

static const struct iris_hook_handler push_hooks[] = {
	HOOK(stanza_in, IRIS_LATE, push_stanza_in),
	HOOK(message_delivered, IRIS_OBSERVE, push_message_delivered),
	HOOK(message_offline, IRIS_OBSERVE, push_message_offline),
	HOOK(session_sent, IRIS_EARLY, push_session_sent),
	HOOK(delivery_done, IRIS_NEUTRAL, push_delivery_done),
	HOOK(stream_lost, IRIS_EARLY, push_stream_lost),
	HOOK(session_close, IRIS_EARLY, push_session_close),
	HOOK(session_available, IRIS_NEUTRAL, push_session_resumed),
	HOOK(session_resumed, IRIS_NEUTRAL, push_session_resumed),
	HOOK(user_unload, IRIS_NEUTRAL, push_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, push_account_removed),
	HOOKS_END,
};

static const struct iris_option push_options[] = {
	[PUSH_OPT_SERVICES_MAX] = { "services-max", IRIS_OPT_INT, "10", .min = 1, .max = 1000,
				    .reloadable = true,
				    .help = "How many push services an account may enable." },
	[PUSH_OPT_FAILURES_MAX] = { "failures-max", IRIS_OPT_INT, "20", .min = 1, .max = 1000,
				    .reloadable = true,
				    .help = "After how many failures in a row a service that is "
					    "not reached is disabled; one that refuses is at "
					    "once." },
	[OPT_MERGE] = { "merge", IRIS_OPT_DURATION, "2 seconds", .max = 600000,
			.reloadable = true,
			.help = "How long the next notification of an account waits for others "
				"after one was sent." },
	[OPT_MERGE_GROUPS] = { "merge-groups", IRIS_OPT_DURATION, "30 seconds", .max = 3600000,
			       .reloadable = true,
			       .help = "The same for what is said in rooms to everybody." },
	[OPT_GROUPS] = { "groups", IRIS_OPT_CHOICE, "all", .choices = groups_choices,
			 .reloadable = true,
			 .help = "What of rooms is notified of: all, mentions of the account, "
				 "or none." },
	[OPT_SENDER] = { "sender", IRIS_OPT_BOOL, "false", .reloadable = true,
			 .help = "Tell push services who wrote the last message." },
	[OPT_BODY] = { "body", IRIS_OPT_BOOL, "false", .reloadable = true,
		       .help = "Tell push services what is written in it." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0357 = {
	IRIS_MODULE_HEAD,
	.name = "xep0357",
	.summary = "Push Notifications",
	.xep = "XEP-0357 0.4.1",
	.needs = IRIS_NAMES("xep0004", "xep0352", "archive"),
	.self = &push_self,
	.options = push_options,
	.queries = (struct iris_query *const[]){ &push_query_load, &push_query_store,
						 &push_query_failed, &push_query_drop,
						 &push_query_erase, &push_query_who,
						 &push_query_address, NULL },
	.user_rows = (const struct iris_user_rows[]){ { &push_query_load, push_user_take },
						      { NULL } },
	.features = push_features,
	.iq = push_iq,
	.hooks = push_hooks,
	.metrics = push_metrics,
	.not_unloadable = true,
	.stop = push_audience_stop,
};
