/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said to all (XEP-0045 §7.4, §8.1; XEP-0359, XEP-0421): who may, its id, its entry in the
 * room's log, and when that is committed, out to all, in the order of ids.  What is not kept
 * waits for what was said before it.  History for newcomers is in history.c.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "modules/rooms/live.h"

#define SUBJECT_MAX 8192 /* bytes inside of a message that sets it: newcomers are sent it */
#define SAID_MAX 1024    /* messages of a room that wait to be committed */

struct room_said {
	STAILQ_ENTRY(room_said) link;
	struct room *room;              /* held */
	int64_t room_id, id;            /* which of the address's rooms; the message's */
	struct iris_stanza *message;    /* as it goes to all */
	struct iris_stanza *original;   /* as it came; NULL: the room says it */
	struct iris_ticket *ticket;     /* the sender's */
	enum iris_condition condition;  /* why it does not go out */
	bool is_settled;                /* committed, failed, or not to be kept */
	bool is_kept, is_subject;
};

int64_t
message_mark(struct room *room)
{
	struct room_said *first = STAILQ_FIRST(&live_of(room)->said);

	return first ? first->id - 1 : vault_next_id(IRIS_SEQ_LOG);
}

/* --- what it is --- */

/* §8.1: with a body or a thread it is a message that has a subject. */
static bool
sets_subject(const struct iris_stanza *stanza)
{
	return element_child(stanza->root, "subject", NS_CLIENT) &&
	       !element_child(stanza->root, "body", NS_CLIENT) &&
	       !element_child(stanza->root, "thread", NS_CLIENT);
}

static bool
is_worth_keeping(const struct iris_stanza *stanza)
{
	return !message_has_hint(stanza->root, "no-store") &&
	       !message_has_hint(stanza->root, "no-permanent-store") &&
	       message_has_content(stanza->root);
}

struct iris_stanza *
message_copy(const struct room_occupant *occupant, const struct iris_stanza *stanza)
{
	struct iris_stanza *copy = stanza_copy(stanza);

	stanza_cleanse(occupant->room, copy);
	stanza_set_from(copy, &occupant->jid);
	stanza_set_to(copy, NULL);
	element_set(element_add(copy->root, "occupant-id", NS_OCCUPANT_ID), "id", occupant->id);
	return copy;
}

const struct iris_jid *
message_archived_sender(const struct iris_stanza *entry)
{
	return &entry->to;
}

/* --- out --- */

static void
subject_set(struct room *room, const struct room_said *said)
{
	if (room->subject.message)
		stanza_unref(&room->subject.message);
	if (room->live->subject)
		stanza_unref(&room->live->subject);
	room->subject.message = stanza_compact(said->message);
	room->subject.time_ms = log_id_time_ms(said->id);
}

static void
said_send(struct room_said *said)
{
	struct room *room = said->room;
	struct iris_element *root = said->message->root;

	rooms_count(METRIC_MESSAGES, 1);
	if (said->is_subject)
		subject_set(room, said);
	else if (is_worth_keeping(said->message) && !said->message->transit)
		history_add(room, said->message, said->id);
	if (element_child(root, "body", NS_CLIENT) && !element_child(root, "replace", NS_CORRECT))
		room_activity_count(room);
	if (said->is_kept)
		absent_tell(room, said->message);
	fan_out(room, &said->message, ROOM_ALL, NULL, NULL);
}

static void
said_end(struct room_said *said)
{
	struct room *room = said->room;

	if (said->condition == IRIS_NO_ERROR && said->room_id != room->id)
		said->condition = IRIS_ITEM_NOT_FOUND; /* the room was destroyed meanwhile */
	if (said->condition == IRIS_NO_ERROR) {
		said_send(said);
	} else {
		live_busy_begin(room);
		if (said->original)
			room_refuse(said->original, said->condition, NULL);
		live_busy_end(room);
	}
	if (said->message)
		stanza_unref(&said->message);
	if (said->original)
		stanza_unref(&said->original);
	ticket_unref(&said->ticket);
	free(said);
	place_release(&room->place);
}

/* In the order of ids, as far as they are settled. */
static void
said_flush(struct room *room)
{
	struct room_live *live = room->live;
	struct room_said *said;

	place_hold(&room->place);
	while ((said = STAILQ_FIRST(&live->said)) != NULL && said->is_settled) {
		STAILQ_REMOVE_HEAD(&live->said, link);
		live->said_count--;
		said_end(said);
	}
	place_release(&room->place);
}

static void
said_committed(void *arg, bool failed)
{
	struct room_said *said = arg;

	said->is_settled = true;
	if (failed) { /* the vault has logged why */
		said->condition = IRIS_INTERNAL_SERVER_ERROR;
		ticket_fail(said->ticket);
	}
	said_flush(said->room);
}

/* --- in --- */

static enum iris_condition
condition_of(enum iris_vault_result result)
{
	if (result == IRIS_VAULT_OK)
		return IRIS_NO_ERROR;
	return result == IRIS_VAULT_BUSY ? IRIS_RESOURCE_CONSTRAINT : IRIS_INTERNAL_SERVER_ERROR;
}

/* The message as it goes to all, addressed to who said it: see message_archived_sender(). */
static enum iris_condition
said_append(const struct room_said *said, const struct iris_jid *sender,
	    struct iris_ticket *ticket)
{
	const struct iris_delivery delivery = { .stanza = said->message, .to = *sender };
	struct iris_strbuf text = STRBUF_INIT(arena_new());
	struct iris_log_entry entry = {
		.id = said->id,
		.owner = said->room->owner,
		.reader = said->room_id,
		.peer = vault_peer_id(jid_bare(sender)),
		.flags = ARCHIVE_HISTORY,
	};
	enum iris_vault_result result;

	delivery_write(&text, &delivery);
	entry.body = strbuf_str(&text);
	result = log_append(&entry, ticket);
	arena_unref(&text.arena);
	return condition_of(result);
}

static enum iris_condition
said_store_subject(const struct room_said *said, struct iris_ticket *ticket)
{
	struct iris_strbuf text = STRBUF_INIT(arena_new());
	bool stored;

	delivery_write_alone(&text, &(const struct iris_delivery){ .stanza = said->message });
	stored = store_room_subject(said->room, strbuf_str(&text), log_id_time_ms(said->id),
				    ticket);
	arena_unref(&text.arena);
	return stored ? IRIS_NO_ERROR : IRIS_RESOURCE_CONSTRAINT;
}

/* Posts what is to be kept of it. sender: bare. */
static void
said_post(struct room_said *said, const struct iris_jid *sender)
{
	struct iris_ticket *ticket = ticket_new(said_committed, said);

	if (said->is_kept)
		said->condition = said_append(said, sender, ticket);
	if (said->is_subject && said->condition == IRIS_NO_ERROR)
		said->condition = said_store_subject(said, ticket);
	if (said->is_kept && said->original && said->condition == IRIS_NO_ERROR)
		retract_take(said->room, said->message, sender, said->ticket);
	ticket_unref(&ticket);
}

static void
stanza_id_add(struct room *room, struct iris_stanza *message, int64_t id)
{
	struct iris_element *element = element_add(message->root, "stanza-id", NS_SID);

	element_set(element, "id", log_id_seal(message->arena, room->id, id));
	element_set(element, "by", jid_full(&room->jid));
}

static struct room_said *
said_new(struct room *room, struct iris_stanza *message, struct iris_stanza *original,
	 struct iris_ticket *ticket)
{
	struct room_live *live = live_of(room);
	struct room_said *said = iris_calloc(1, sizeof(*said));

	place_hold(&room->place);
	said->room = room;
	said->room_id = room->id;
	said->id = vault_next_id(IRIS_SEQ_LOG);
	said->message = message;
	said->original = original ? stanza_ref(original) : NULL;
	said->ticket = ticket_ref(ticket);
	STAILQ_INSERT_TAIL(&live->said, said, link);
	live->said_count++;
	return said;
}

/* Takes the message over. sender: bare; original and ticket: NULL when the room says it. */
static void
say(struct room *room, struct iris_stanza *message, const struct iris_jid *sender, bool kept,
    struct iris_stanza *original, struct iris_ticket *ticket)
{
	struct room_said *said = said_new(room, message, original, ticket);

	kept = kept && !message->transit;
	said->is_kept = kept;
	said->is_subject = original && sets_subject(message);
	if (str_is_empty(message->id))
		stanza_set_id(message, random_id(message->arena, 120));
	if (kept)
		stanza_id_add(room, message, said->id);
	stanza_freeze(message);
	if (kept || said->is_subject) {
		said_post(said, sender);
	} else {
		said->is_settled = true;
		said_flush(room);
	}
}

/* --- who may --- */

static enum iris_condition
ask_policy(struct room *room, enum room_action action, const struct iris_jid *bare,
	   const char **text_r)
{
	const struct room_policy *policy = room_policy(room);

	return policy && policy->may ? policy->may(room, action, bare, text_r) : IRIS_NO_ERROR;
}

static enum iris_condition
judge_subject(struct room *room, const struct room_occupant *occupant,
	      const struct iris_stanza *stanza, const char **text_r)
{
	if (occupant->role != ROOM_MODERATOR && !room->config.numbers[ROOM_CONFIG_CHANGE_SUBJECT])
		return IRIS_FORBIDDEN;
	if (stanza->inner.len > SUBJECT_MAX) {
		*text_r = "The subject is too long";
		return IRIS_NOT_ACCEPTABLE;
	}
	if (stanza->transit) /* who comes later has to be shown it */
		return room_refuse_transit(text_r);
	return ask_policy(room, ROOM_SUBJECT, &occupant->bare, text_r);
}

static enum iris_condition
judge(struct room *room, const struct room_session *session, const struct iris_stanza *stanza,
      const char **text_r)
{
	const struct room_occupant *occupant = session ? session->occupant : NULL;

	if (!occupant) {
		*text_r = "You are not in the room";
		return IRIS_NOT_ACCEPTABLE;
	}
	if (room->state == ROOM_LOCKED)
		return IRIS_ITEM_NOT_FOUND; /* §17.2 */
	if (occupant->role < ROOM_PARTICIPANT)
		return IRIS_FORBIDDEN;
	if (live_is_congested(room) || live_of(room)->said_count >= SAID_MAX)
		return IRIS_RESOURCE_CONSTRAINT;
	return sets_subject(stanza) ? judge_subject(room, occupant, stanza, text_r) :
				      ask_policy(room, ROOM_SPEAK, &occupant->bare, text_r);
}

static void
take_groupchat(struct room *room, struct room_session *session, struct iris_stanza *stanza,
	       struct iris_ticket *ticket)
{
	const char *text = NULL;
	enum iris_condition condition = judge(room, session, stanza, &text);

	if (condition != IRIS_NO_ERROR)
		room_refuse(stanza, condition, text);
	else
		say(room, message_copy(session->occupant, stanza), &session->occupant->bare,
		    room->config.numbers[ROOM_CONFIG_ARCHIVE] && is_worth_keeping(stanza), stanza,
		    ticket);
}

static void
take_error(struct room_session *session, const struct iris_delivery *delivery)
{
	if (session && !ghost_take_error(session, delivery->stanza))
		private_pass_error(session, delivery);
}

void
room_take_message(struct room *room, const struct iris_delivery *delivery,
		  struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = delivery->stanza;
	struct iris_str nick = jid_resource(delivery_to(delivery));
	struct room_session *session;

	if (live_park(room, delivery, ticket))
		return;
	session = room_session_hear(room, &stanza->from);
	if (stanza->type == IRIS_ERROR)
		take_error(session, delivery);
	else if (room->state == ROOM_UNBORN)
		room_refuse(stanza, IRIS_ITEM_NOT_FOUND, NULL);
	else if (!str_is_none(nick))
		private_take(room, session, delivery, ticket);
	else if (stanza->type == IRIS_GROUPCHAT)
		take_groupchat(room, session, stanza, ticket);
	else if (!invite_take(room, delivery, ticket))
		room_refuse(stanza, IRIS_BAD_REQUEST, NULL);
}

void
room_send_all(struct room *room, struct iris_stanza **message_p, bool kept,
	      struct iris_ticket *ticket)
{
	struct iris_stanza *message = *message_p;

	*message_p = NULL;
	stanza_set_from(message, &room->jid);
	say(room, message, &room->jid, kept, NULL, ticket);
}
