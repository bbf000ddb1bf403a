/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0160 1.0: Handling Offline Messages.  Home worker of the account.
 *
 * Offline delivery is a cursor into the account's archive, not a second copy: xep0160_cursor.c
 * keeps it, xep0160_backlog.c hands out what lies behind it.  This file hears what becomes of each
 * delivery.  A message has reached the account when one of its sessions has acknowledged it, or a
 * copy of it (XEP-0280); it waits when the last session that has it ends without having done so.
 *
 * A client that reads the archive gets no second copy: what its own query gave it (XEP-0313 §7.1),
 * and, when it binds with Bind 2, what is in the archive (XEP-0386 §4).  Both count as delivered
 * when that client begins to take messages, not before: it may only have looked, or be gone.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/payloads.h"
#include "xep/xep0160_offline.h"
#include "xep/xep0313_mam.h"

#define READ_MAX 2000 /* ids that a session read and that wait; with more it gets a second copy */

enum { OPT_PERSIST, OPT_HOLD_MAX };

struct offline_read {
	int64_t id;
	enum offline_read_state state;
	bool owed; /* its acknowledgement is the message's */
};

struct offline_session {
	bool takes;         /* messages, and since when: */
	int64_t since_ms;
	int64_t skip_below; /* Bind 2: what is older it reads in the archive */
	struct offline_read *read; /* ascending */
	size_t read_count, read_cap;
};

static struct iris_module_self offline_self;

static struct iris_metric offline_metrics[] = {
	{ .name = "iris_offline_stored_total", .help = "Messages that nobody was there to take" },
	{ .name = "iris_offline_delivered_total", .help = "Messages delivered later" },
	{ .name = "iris_offline_returned_total",
	  .help = "Messages that a lost session left, waiting again" },
	{ .name = NULL },
};

struct offline *
offline_of(struct iris_user *user)
{
	return *user_slot(user, &offline_self);
}

void
offline_count(enum offline_metric metric)
{
	metric_add(&offline_metrics[metric], 1);
}

int64_t
offline_persist_after_ms(void)
{
	return option_int(&offline_self, OPT_PERSIST);
}

size_t
offline_hold_max(void)
{
	return (size_t)option_int(&offline_self, OPT_HOLD_MAX);
}

static struct offline_session *
offline_session_of(struct iris_session *session)
{
	void **slot = session_slot(session, &offline_self);

	if (!*slot)
		*slot = iris_calloc(1, sizeof(struct offline_session));
	return *slot;
}

/* --- what a session reads in the archive --- */

/* The place of the id, or where it would be. */
static size_t
read_place(const struct offline_session *own, int64_t id)
{
	size_t low = 0, high = own->read_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (own->read[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct offline_read *
read_find(const struct offline_session *own, int64_t id)
{
	size_t place = read_place(own, id);

	return place < own->read_count && own->read[place].id == id ? &own->read[place] : NULL;
}

static void
read_add(struct offline_session *own, int64_t id)
{
	size_t place = read_place(own, id);

	if (own->read_count == READ_MAX || read_find(own, id))
		return;
	if (own->read_count == own->read_cap) {
		own->read_cap = own->read_cap ? own->read_cap * 2 : 16;
		own->read = iris_realloc(own->read, own->read_cap * sizeof(*own->read));
	}
	memmove(&own->read[place + 1], &own->read[place],
		(own->read_count - place) * sizeof(*own->read));
	own->read[place] = (struct offline_read){ id, OFFLINE_READ_SENT, false };
	own->read_count++;
}

static void
read_remove(struct offline_session *own, struct offline_read *read)
{
	size_t place = (size_t)(read - own->read);

	own->read_count--;
	memmove(read, read + 1, (own->read_count - place) * sizeof(*read));
}

enum offline_read_state
offline_session_read(struct iris_session *session, int64_t id)
{
	const struct offline_read *read = read_find(offline_session_of(session), id);

	return read ? read->state : OFFLINE_READ_NOT;
}

bool
offline_session_skips(struct iris_session *session, int64_t id)
{
	return id < offline_session_of(session)->skip_below;
}

void
offline_session_owes(struct iris_session *session, int64_t id)
{
	read_find(offline_session_of(session), id)->owed = true;
}

/* A result of a query, on its way: what it gives and waits need not be sent again. */
static void
offline_result_sent(struct offline *offline, struct iris_session *session, int64_t id)
{
	const struct offline_entry *entry = cursor_find(offline, id);

	if (id > offline->cursor && !(entry && entry->done))
		read_add(offline_session_of(session), id);
}

static void
offline_result_done(struct offline *offline, struct iris_session *session, int64_t id)
{
	struct offline_session *own = offline_session_of(session);
	struct offline_read *read = read_find(own, id);
	struct offline_entry *entry = cursor_find(offline, id);

	if (!read)
		return;
	read->state = OFFLINE_READ_ACKED;
	if (!read->owed)
		return;
	read_remove(own, read);
	if (entry)
		cursor_settle(offline, entry);
}

/* --- messages come --- */

/* What the account itself says: copies, and results of a query. */
static bool
offline_is_own(const struct iris_user *user, const struct iris_stanza *stanza)
{
	return jid_is_none(&stanza->from) || jid_equal(&stanza->from, &user->jid);
}

static bool
offline_is_result(const struct iris_user *user, const struct iris_delivery *delivery)
{
	return delivery->log_id > 0 && offline_is_own(user, delivery->stanza) &&
	       message_is_result(delivery->stanza->root);
}

/*
 * A message that passed and got an id: under way, or waiting when nobody takes it
 * (message_offline says so). Until it has gone to all that get it, it counts as held: the first
 * one may end by it (XEP-0198's limit), and the others are still to come.
 */
static enum iris_verdict
offline_message_in(struct iris_incoming *incoming)
{
	if (incoming->delivery.log_id > 0 && archive_is_for_offline(incoming->delivery.stanza))
		cursor_track(offline_of(incoming->user), incoming->delivery.log_id)->holders = 1;
	return IRIS_PASS;
}

/* Nobody is there. With an archive of everything it is kept already, else it is now. */
static enum iris_verdict
offline_message_offline(struct iris_incoming *incoming)
{
	struct iris_delivery *delivery = &incoming->delivery;

	if (!archive_is_for_offline(delivery->stanza))
		return IRIS_PASS;
	if (delivery->log_id == 0 &&
	    archive_append(incoming->user, delivery, ARCHIVE_OFFLINE, incoming->ticket,
			   &delivery->log_id) != IRIS_VAULT_OK) {
		incoming->request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
		return IRIS_REFUSE;
	}
	cursor_wait(offline_of(incoming->user), delivery->log_id);
	offline_count(OFFLINE_STORED);
	return IRIS_DONE;
}

static enum iris_verdict
offline_session_deliver(struct iris_session_delivery *arg)
{
	struct offline *offline = offline_of(arg->session->user);
	const struct iris_delivery *delivery = arg->delivery;
	struct offline_entry *entry;

	if (!offline || delivery->stanza->kind != IRIS_MESSAGE)
		return IRIS_PASS;
	if (offline_is_result(offline->user, delivery)) {
		offline_result_sent(offline, arg->session, delivery->log_id);
		return IRIS_PASS;
	}
	if (!offline_is_own(offline->user, delivery->stanza) &&
	    backlog_hold(offline, arg->session, delivery))
		return IRIS_DONE;
	entry = cursor_find(offline, delivery->log_id);
	if (entry)
		entry->holders++;
	return IRIS_PASS;
}

static enum iris_verdict
offline_delivery_done(struct iris_session_delivery *arg)
{
	struct offline *offline = offline_of(arg->session->user);
	int64_t id = arg->delivery->log_id;
	struct offline_entry *entry;

	if (id == 0)
		return IRIS_PASS;
	if (offline_is_result(offline->user, arg->delivery))
		offline_result_done(offline, arg->session, id);
	else if ((entry = cursor_find(offline, id)) != NULL)
		cursor_settle(offline, entry);
	return IRIS_PASS;
}

/* --- what a lost session left --- */

/* The last session that had it is gone, or it never got there. */
static void
offline_return(struct offline *offline, struct offline_entry *entry)
{
	if (!entry || entry->done || entry->holders > 0)
		return;
	cursor_wait(offline, entry->id);
	offline_count(OFFLINE_RETURNED);
	backlog_wake(offline);
}

static void
offline_release(struct offline *offline, int64_t id)
{
	struct offline_entry *entry = cursor_find(offline, id);

	if (entry && entry->holders > 0)
		entry->holders--;
	offline_return(offline, entry);
}

/* It has gone to all. */
static enum iris_verdict
offline_message_delivered(struct iris_incoming *incoming)
{
	if (incoming->delivery.log_id > 0)
		offline_release(offline_of(incoming->user), incoming->delivery.log_id);
	return IRIS_PASS;
}

static void
offline_result_lost(struct offline *offline, struct iris_session *session, int64_t id)
{
	struct offline_session *own = offline_session_of(session);
	struct offline_read *read = read_find(own, id);
	bool owed = read && read->owed;

	if (read)
		read_remove(own, read);
	if (owed)
		offline_release(offline, id);
}

/*
 * What is not kept is told apart by what must have happened: did this session get it when it came?
 * A session may be bound long before it takes messages.
 */
static bool
offline_took(struct iris_session *session, const struct iris_session *lost,
	     const struct iris_delivery *delivery)
{
	const struct offline_session *own = offline_session_of(session);
	const struct iris_stanza *stanza = delivery->stanza;
	/* else it was passed on, or came from the archive */
	bool first = jid_is_none(&delivery->to);

	if (!first || !own->takes || own->since_ms >= stanza->received_ms)
		return false;
	return !jid_equal(&stanza->to, &lost->jid) ||
	       (session->copies && !message_is_private(stanza->root));
}

/* Did another session get this message when it came? Or is there one that can take it now? */
static bool
offline_pass_on(struct iris_session *lost, const struct iris_delivery *delivery)
{
	struct iris_delivery again = *delivery;
	struct iris_session *session, *taker = NULL;

	TAILQ_FOREACH(session, &lost->user->sessions, link) {
		if (session == lost || session->closing || !session_takes_messages(session))
			continue;
		if (offline_took(session, lost, delivery))
			return true;
		if (!taker || session->active_ms > taker->active_ms)
			taker = session;
	}
	if (!taker)
		return false;
	again.to = taker->jid;
	session_deliver(taker, &again);
	return true;
}

/* XEP-0198 §5: its sender learns that nobody has it, as from somebody who is not there. */
static void
offline_give_back(const struct iris_delivery *delivery)
{
	struct iris_stanza *error = stanza_error(
		delivery->stanza,
		&(struct iris_refusal){ .condition = IRIS_SERVICE_UNAVAILABLE });

	if (error)
		route_stanza(&error, NULL);
}

/* With a message that has no entry. */
static void
offline_hand_on_unkept(struct iris_session *lost, const struct iris_delivery *delivery)
{
	struct iris_user *user = lost->user;
	int64_t id;

	if (offline_is_own(user, delivery->stanza) || message_is_result(delivery->stanza->root) ||
	    offline_pass_on(lost, delivery) || !archive_may_wait(delivery->stanza))
		return;
	if (delivery->stanza->transit) {
		offline_give_back(delivery);
		return;
	}
	if (archive_append(user, delivery, ARCHIVE_OFFLINE, NULL, &id) != IRIS_VAULT_OK)
		return;
	cursor_wait(offline_of(user), id);
	offline_count(OFFLINE_RETURNED);
}

void
offline_hand_on(struct iris_session *lost, const struct iris_delivery *delivery)
{
	struct offline *offline = offline_of(lost->user);

	if (delivery->log_id > 0)
		offline_return(offline, cursor_find(offline, delivery->log_id));
	else
		offline_hand_on_unkept(lost, delivery);
}

static enum iris_verdict
offline_delivery_lost(struct iris_session_delivery *arg)
{
	struct offline *offline = offline_of(arg->session->user);
	int64_t id = arg->delivery->log_id;

	if (offline_is_result(offline->user, arg->delivery))
		offline_result_lost(offline, arg->session, id);
	else if (id > 0)
		offline_release(offline, id);
	else
		offline_hand_on_unkept(arg->session, arg->delivery);
	return IRIS_DONE;
}

/* --- sessions --- */

static enum iris_verdict
offline_bind_request(struct iris_inline *arg)
{
	offline_session_of(arg->session)->skip_below = vault_next_id(IRIS_SEQ_LOG);
	return IRIS_PASS;
}

static enum iris_verdict
offline_session_available(struct iris_session *session)
{
	if (session_takes_messages(session))
		backlog_give(offline_of(session->user), session);
	return IRIS_PASS;
}

/* It begins to take messages, or takes none any more. */
static enum iris_verdict
offline_session_presence(struct iris_session *session)
{
	struct offline_session *own = offline_session_of(session);
	bool takes = session_takes_messages(session);

	if (takes && !own->takes)
		own->since_ms = worker_wall_ms();
	own->takes = takes;
	return IRIS_PASS;
}

static enum iris_verdict
offline_session_close(struct iris_session *session)
{
	struct offline *offline = offline_of(session->user);
	void **slot = session_slot(session, &offline_self);
	struct offline_session *own = *slot;

	if (own)
		free(own->read);
	free(own);
	*slot = NULL;
	backlog_session_close(offline, session);
	if (session->user->session_count == 0)
		cursor_persist(offline);
	return IRIS_PASS;
}

/* --- the user comes and goes --- */

static bool
offline_take(struct iris_user *user, const struct iris_rows *rows)
{
	struct offline *offline = iris_calloc(1, sizeof(*offline));

	offline->user = user;
	offline->backlog = true;
	TAILQ_INIT(&offline->tracked);
	TAILQ_INIT(&offline->held);
	*user_slot(user, &offline_self) = offline;
	cursor_take(offline, rows);
	return true;
}

static enum iris_verdict
offline_user_unload(struct iris_user *user)
{
	struct offline *offline = offline_of(user);

	if (offline)
		cursor_free(&offline);
	*user_slot(user, &offline_self) = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
offline_account_removed(struct iris_account_removed *removed)
{
	return cursor_erase(&removed->account) ? IRIS_PASS : IRIS_REFUSE;
}

static const struct iris_feature offline_features[] = {
	{ IRIS_DISCO_HOST, "msgoffline" },
	{ .var = NULL },
};

static const struct iris_hook_handler offline_hooks[] = {
	HOOK(message_in, IRIS_LATE, offline_message_in),
	HOOK(message_delivered, IRIS_OBSERVE, offline_message_delivered),
	HOOK(message_offline, IRIS_NEUTRAL, offline_message_offline),
	HOOK(delivery_done, IRIS_NEUTRAL, offline_delivery_done),
	HOOK(delivery_lost, IRIS_NEUTRAL, offline_delivery_lost),
	HOOK(session_deliver, IRIS_EARLY, offline_session_deliver),
	HOOK(bind_request, IRIS_NEUTRAL, offline_bind_request),
	HOOK(session_available, IRIS_LATE, offline_session_available),
	HOOK(session_presence, IRIS_NEUTRAL, offline_session_presence),
	HOOK(session_close, IRIS_OBSERVE, offline_session_close),
	HOOK(user_unload, IRIS_NEUTRAL, offline_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, offline_account_removed),
	HOOKS_END,
};

static const struct iris_option offline_options[] = {
	[OPT_PERSIST] = { "persist-after", IRIS_OPT_DURATION, "2 seconds", .min = 100, .max = 60000,
			  .reloadable = true,
			  .help = "How long after it moved the cursor of an account is written: "
				  "what a crash may deliver again." },
	[OPT_HOLD_MAX] = { "hold-max", IRIS_OPT_INT, "1000", .min = 10, .max = 100000,
			   .reloadable = true,
			   .help = "How many new messages wait behind a session's backlog." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0160 = {
	IRIS_MODULE_HEAD,
	.name = "xep0160",
	.summary = "Offline Messages",
	.xep = "XEP-0160 1.0.1",
	.needs = IRIS_NAMES("archive", "xep0203", "xep0359"),
	.self = &offline_self,
	.options = offline_options,
	.user_rows = (const struct iris_user_rows[]){ { &cursor_load_query, offline_take },
						      { NULL } },
	.queries = offline_queries,
	.features = offline_features,
	.hooks = offline_hooks,
	.metrics = offline_metrics,
	.not_unloadable = true,
};
