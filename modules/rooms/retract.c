/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking back what was said in a room: one's own messages (XEP-0424), those of others by moderators
 * (XEP-0425).  Home worker of the room, on a fiber; one at a time in each room.
 *
 * The message that takes back goes its way as any other, and is kept.  What it names, by the id
 * that the room gave it, becomes a tombstone in the archive and in the history for newcomers: id,
 * time and who said it stay, the content is not in the store any more; so do its corrections
 * (XEP-0308), which are entries of their own.  Files that it named go with it (hook
 * message_retracted).
 *
 * A retraction of what somebody else said is passed on (clients compare occupant ids) and changes
 * nothing here.  Requests of moderators are read by xep0425.
 */
#include <stdio.h>
#include <stdlib.h>

#include "iris/auth.h"
#include "modules/archive/archive.h"
#include "modules/rooms/live.h"
#include "xep/payloads.h"

#define CORRECTIONS_PAGE 50
#define CORRECTIONS_MAX 500 /* later messages of the same sender that are looked at */
#define LOCK_KEY 40

/* What takes back. */
struct taking {
	struct room *room;
	int64_t reader;         /* the room may be gone, or another one, after a wait */
	iris_owner owner;
	struct iris_jid author; /* who must have said it; none: anybody (a moderator asks) */
	struct iris_str id;     /* of the message that takes it back */
	int64_t time_ms;
	const struct iris_element *moderated, *reason; /* of XEP-0425, or NULL */
	struct iris_ticket *ticket;
	struct retract_senders senders;
};

/* One's own, on its way to a fiber. */
struct retraction {
	struct room *room; /* held */
	struct iris_ticket *ticket;
	struct iris_stanza *message;
	struct iris_jid author;
	char text[];
};

/* --- one at a time --- */

static struct iris_str
lock_key(int64_t room, char key[LOCK_KEY])
{
	int len = snprintf(key, LOCK_KEY, "rooms: retract %lld", (long long)room);

	return (struct iris_str){ key, (size_t)len };
}

void
retract_settle(const struct room *room)
{
	char key[LOCK_KEY];
	struct iris_str text = lock_key(room->id, key);

	fiber_lock(text);
	fiber_unlock(text);
}

/* --- what a message named --- */

struct retract_sender {
	struct iris_hash_node node; /* by bare JID */
	struct iris_account account; /* id 0: it is not one of ours */
};

static const struct retract_sender *
sender_get(struct retract_senders *senders, const struct iris_jid *jid)
{
	struct iris_hash_node *node = hash_find(&senders->accounts, jid_bare(jid));
	struct retract_sender *sender;

	if (node)
		return IRIS_CONTAINER(node, struct retract_sender, node);
	if (!senders->arena)
		senders->arena = arena_new();
	sender = ARENA_NEW(senders->arena, struct retract_sender);
	if (host_find(jid_domain(jid)) && !accounts()->find(jid, &sender->account))
		return NULL;
	hash_insert(&senders->accounts, &sender->node,
		    arena_copy_str(senders->arena, jid_bare(jid)));
	return sender;
}

void
retract_senders_free(struct retract_senders *senders)
{
	HASH_FOREACH(node, &senders->accounts)
		hash_remove(&senders->accounts, node);
	hash_free(&senders->accounts);
	arena_unref(&senders->arena);
}

void
retract_tell(struct retract_senders *senders, const struct iris_stanza *original,
	     struct iris_ticket *ticket)
{
	const struct iris_jid *jid = message_archived_sender(original);
	const struct retract_sender *sender = jid ? sender_get(senders, jid) : NULL;

	if (jid && !sender) /* the vault failed */
		ticket_fail(ticket);
	if (sender && sender->account.id != 0)
		hook_run_message_retracted(&(struct iris_retracted){
			.original = original, .sender = &sender->account, .ticket = ticket });
}

/* --- what it becomes --- */

/* As it is shown; in the archive it is addressed to who said it, too. */
static struct iris_stanza *
tombstone_new(const struct taking *taking, const struct iris_stanza *original)
{
	struct iris_stanza *tombstone = stanza_new(IRIS_MESSAGE, original->type);
	struct iris_element *retracted;

	stanza_set_from(tombstone, &original->from);
	if (!str_is_none(original->id))
		stanza_set_id(tombstone, original->id);
	ELEMENT_FOREACH(child, original->root) {
		if (element_is(child, "occupant-id", NS_OCCUPANT_ID) ||
		    element_is(child, "stanza-id", NS_SID))
			element_append(tombstone->root, element_copy(tombstone->arena, child));
	}
	retracted = element_add(tombstone->root, "retracted", NS_RETRACT);
	element_set(retracted, "id", taking->id);
	element_set(retracted, "stamp", datetime_format(tombstone->arena, taking->time_ms));
	if (taking->moderated)
		element_append(retracted, element_copy(tombstone->arena, taking->moderated));
	if (taking->reason)
		element_append(retracted, element_copy(tombstone->arena, taking->reason));
	return tombstone;
}

/* False: the vault takes nothing now. */
static bool
tombstone_put(struct taking *taking, const struct iris_log_entry *entry,
	      const struct iris_stanza *original)
{
	struct iris_stanza *shown = tombstone_new(taking, original), *kept = stanza_copy(shown);
	bool put;

	stanza_set_to(kept, &original->to);
	put = archive_replace(entry, kept, taking->ticket) == IRIS_VAULT_OK;
	if (put) {
		stanza_freeze(shown);
		if (taking->room->id == taking->reader)
			history_change(taking->room, entry->id, shown);
		retract_tell(&taking->senders, original, taking->ticket);
	}
	stanza_unref(&kept);
	stanza_unref(&shown);
	return put;
}

/* --- its corrections: XEP-0308 §4 has all of them name the first message --- */

static bool
is_correction(const struct iris_stanza *message, const struct iris_stanza *original)
{
	struct iris_element *replace = element_child(message->root, "replace", NS_CORRECT);

	return replace && !str_is_empty(original->id) &&
	       str_equal(element_get(replace, "id"), original->id);
}

static bool
corrections_put(struct taking *taking, const struct iris_log_page *page,
		const struct iris_stanza *original)
{
	bool ok = true;

	for (size_t i = 0; ok && i < page->count; i++) {
		struct iris_stanza *message = archive_entry_stanza(&page->entries[i]);

		if (message && is_correction(message, original))
			ok = tombstone_put(taking, &page->entries[i], message);
		stanza_unref(&message);
	}
	return ok;
}

static bool
corrections_take(struct taking *taking, const struct iris_log_entry *entry,
		 const struct iris_stanza *original)
{
	struct iris_log_query query = { .reader = entry->reader, .peer = entry->peer,
					.after_id = entry->id, .flags_all = ARCHIVE_HISTORY,
					.limit = CORRECTIONS_PAGE };
	struct iris_log_page page = { .more = true };
	bool ok = true;

	for (size_t left = CORRECTIONS_MAX; ok && page.more && left > 0; left -= query.limit) {
		struct iris_arena *arena = arena_new();

		ok = log_read(&query, taking->owner, arena, &page) == IRIS_VAULT_OK &&
		     corrections_put(taking, &page, original);
		if (ok && page.count > 0)
			query.after_id = page.entries[page.count - 1].id;
		arena_unref(&arena);
	}
	return ok;
}

/* --- the message itself --- */

/* §8.1: a subject is changed by setting another one. */
static bool
is_subject(const struct iris_stanza *message)
{
	return element_child(message->root, "subject", NS_CLIENT) &&
	       !element_child(message->root, "body", NS_CLIENT);
}

/* SECURITY: only its author may take it back, or a moderator; no taking back is taken back. */
static enum iris_condition
may_take(const struct taking *taking, const struct iris_stanza *original)
{
	const struct iris_jid *author = message_archived_sender(original);

	if (message_is_tombstone(original->root))
		return IRIS_ITEM_NOT_FOUND;
	if (!author || jid_bare_equal(author, &taking->room->jid) ||
	    element_child(original->root, "retract", NS_RETRACT) || is_subject(original))
		return IRIS_NOT_ALLOWED;
	return jid_is_none(&taking->author) || jid_bare_equal(author, &taking->author) ?
		       IRIS_NO_ERROR :
		       IRIS_FORBIDDEN;
}

static enum iris_condition
take_entry(struct taking *taking, const struct iris_log_entry *entry)
{
	struct iris_stanza *original = archive_entry_stanza(entry);
	enum iris_condition condition =
		original ? may_take(taking, original) : IRIS_ITEM_NOT_FOUND;

	if (condition == IRIS_NO_ERROR && (!tombstone_put(taking, entry, original) ||
					   !corrections_take(taking, entry, original)))
		condition = IRIS_RESOURCE_CONSTRAINT;
	stanza_unref(&original);
	return condition;
}

static enum iris_condition
take_named(struct taking *taking, int64_t id)
{
	const struct iris_log_query query = { .reader = taking->reader,
					      .after_id = id - 1,
					      .before_id = id + 1,
					      .flags_all = ARCHIVE_HISTORY,
					      .limit = 1 };
	struct iris_arena *arena = arena_new();
	enum iris_condition condition = IRIS_ITEM_NOT_FOUND;
	struct iris_log_page page;

	if (log_read(&query, taking->owner, arena, &page) != IRIS_VAULT_OK)
		condition = IRIS_INTERNAL_SERVER_ERROR;
	else if (page.count > 0)
		condition = take_entry(taking, &page.entries[0]);
	arena_unref(&arena);
	return condition;
}

/* By the id that the room gave it (XEP-0424 §5.1): no search is needed. */
static enum iris_condition
take_back(struct taking *taking, struct iris_str stanza_id)
{
	char key[LOCK_KEY];
	struct iris_str lock = lock_key(taking->room->id, key);
	enum iris_condition condition = IRIS_ITEM_NOT_FOUND;
	int64_t id;

	taking->reader = taking->room->id;
	taking->owner = taking->room->owner;
	if (!log_id_open(stanza_id, taking->reader, &id))
		return condition;
	fiber_lock(lock);
	condition = take_named(taking, id);
	fiber_unlock(lock);
	retract_senders_free(&taking->senders);
	return condition;
}

/* --- one's own --- */

static void
retraction_free(struct retraction *retraction)
{
	ticket_unref(&retraction->ticket);
	stanza_unref(&retraction->message);
	place_release(&retraction->room->place);
	free(retraction);
}

static void
retraction_run(void *arg)
{
	struct retraction *retraction = arg;
	const struct iris_stanza *message = retraction->message;
	struct taking taking = { .room = retraction->room, .author = retraction->author,
				 .id = message->id, .time_ms = message->received_ms,
				 .ticket = retraction->ticket };
	enum iris_condition condition;

	condition = take_back(&taking,
			      element_get(element_child(message->root, "retract", NS_RETRACT),
					  "id"));
	/* Who is told that it was handled can rely on it. */
	if (condition == IRIS_RESOURCE_CONSTRAINT || condition == IRIS_INTERNAL_SERVER_ERROR)
		ticket_fail(retraction->ticket);
	retraction_free(retraction);
}

void
retract_take(struct room *room, const struct iris_stanza *message, const struct iris_jid *bare,
	     struct iris_ticket *ticket)
{
	struct iris_element *retract = element_child(message->root, "retract", NS_RETRACT);
	struct iris_str author = jid_bare(bare);
	struct retraction *retraction;

	if (!retract || str_is_empty(message->id) || str_is_empty(element_get(retract, "id")))
		return;
	retraction = iris_calloc(1, sizeof(*retraction) + author.len);
	memcpy(retraction->text, author.base, author.len);
	retraction->author = jid_from_prepared((struct iris_str){ retraction->text, author.len });
	retraction->room = room;
	retraction->message = stanza_ref((struct iris_stanza *)message);
	retraction->ticket = ticket_ref(ticket);
	place_hold(&room->place);
	if (fiber_start_spare("rooms: retract", retraction_run, retraction))
		return;
	ticket_fail(ticket); /* too busy: the client says it once more */
	retraction_free(retraction);
}

/* --- by moderators --- */

/* Moderators who are in, and those who would be when they came. */
static enum iris_condition
may_moderate(struct room *room, const struct room_moderation *moderation, const char **text_r)
{
	const struct room_policy *policy = room_policy(room);
	struct iris_jid bare = jid_from_prepared(jid_bare(&moderation->by));

	if (!room_exists(room) || !discovery_may_know(room, &bare))
		return IRIS_ITEM_NOT_FOUND;
	if (room_role(room, &moderation->by) != ROOM_MODERATOR &&
	    room_affiliation(room, &moderation->by) < ROOM_ADMIN) {
		*text_r = "Only moderators take back what others said";
		return IRIS_FORBIDDEN;
	}
	if (moderation->reason.len > ROOM_REASON_MAX)
		return IRIS_POLICY_VIOLATION;
	if (transit_is_on())
		return room_refuse_transit(text_r);
	return policy && policy->may ? policy->may(room, ROOM_MODERATE, &bare, text_r) :
				       IRIS_NO_ERROR;
}

/* <moderated/>; who is not in has no nick, and is told of by its occupant id only. */
static struct iris_element *
moderated_new(struct iris_arena *arena, const struct room *room, const struct iris_jid *by)
{
	struct iris_element *moderated = element_new(arena, "moderated", NS_MODERATE);
	const struct room_session *session = room_session_find(room, by);

	if (session)
		element_set(moderated, "by", jid_full(&session->occupant->jid));
	element_set(element_add(moderated, "occupant-id", NS_OCCUPANT_ID), "id",
		    room_occupant_id(room, by, arena));
	return moderated;
}

static void
moderation_announce(const struct taking *taking, const struct room_moderation *moderation)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);
	struct iris_element *retract = element_add(message->root, "retract", NS_RETRACT);

	stanza_set_id(message, taking->id);
	element_set(retract, "id", moderation->id);
	element_append(retract, element_copy(message->arena, taking->moderated));
	if (taking->reason)
		element_append(retract, element_copy(message->arena, taking->reason));
	room_send_all(taking->room, &message,
		      taking->room->config.numbers[ROOM_CONFIG_ARCHIVE] != 0, moderation->ticket);
}

static enum iris_condition
moderate(struct room *room, const struct room_moderation *moderation, struct iris_arena *arena)
{
	struct taking taking = { .room = room, .id = random_id(arena, 96),
				 .time_ms = worker_wall_ms(), .ticket = moderation->ticket,
				 .moderated = moderated_new(arena, room, &moderation->by) };
	struct iris_element *reason;
	enum iris_condition condition;

	if (!str_is_empty(moderation->reason)) {
		reason = element_new(arena, "reason", NS_RETRACT);
		element_text(reason, moderation->reason);
		taking.reason = reason;
	}
	condition = take_back(&taking, moderation->id);
	if (condition == IRIS_NO_ERROR && room->id == taking.reader)
		moderation_announce(&taking, moderation);
	return condition;
}

enum iris_condition
room_moderate(struct room *room, const struct room_moderation *moderation, const char **text_r)
{
	enum iris_condition condition = may_moderate(room, moderation, text_r);
	struct iris_arena *arena;

	if (condition != IRIS_NO_ERROR)
		return condition;
	arena = arena_new();
	condition = moderate(room, moderation, arena);
	arena_unref(&arena);
	if (condition == IRIS_NO_ERROR)
		LOG(IRIS_LOG_INFO, "rooms", "moderated", LOG_JID("room", jid_bare(&room->jid)),
		    LOG_JID("by", jid_bare(&moderation->by)));
	return condition;
}
