/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands do: create, change, archive, delete; at the home of the bubble, on a fiber.
 * The rules are those of everybody else, and operators count as the organizer.
 */
#include <stdlib.h>

#include "modules/bubbles/acts_private.h"

#define POLICY_ARCHIVED "policy=archived\n"
#define POLICY_OPEN "policy=\n"

static void
refuse(struct bubble_act *act, enum iris_condition condition, const char *text)
{
	struct iris_arena *arena = act->call->arena;

	act->call->refusal = (struct iris_refusal){
		.condition = condition,
		.text = text ? arena_copy_str(arena, str_from(text)).base : NULL,
	};
}

/* --- finding it --- */

/* SECURITY: who is not a member cannot tell a bubble from an address without one (P5.7). */
static struct room *
open_bubble(struct bubble_act *act)
{
	struct room *room;
	enum iris_place_found found = room_seek(&act->bubble, &room);

	if (found == IRIS_PLACE_FAILED) {
		refuse(act, IRIS_INTERNAL_SERVER_ERROR, NULL);
		return NULL;
	}
	if (found == IRIS_PLACE_FOUND) {
		act->as = act->is_operator ? ROOM_OWNER : room_affiliation(room, &act->by);
		act->state = bubble_state_of(room);
		act->name = arena_copy_str(act->call->arena, room_name(room));
		if (str_is_empty(act->name))
			act->name = jid_bare(&act->bubble);
		if (room_has_policy(room) && act->as >= ROOM_MEMBER)
			return room;
		room_release(&room);
	}
	refuse(act, IRIS_ITEM_NOT_FOUND, "There is no such bubble");
	return NULL;
}

static bool
may(struct bubble_act *act, enum bubble_action action)
{
	enum iris_condition condition = bubble_judge(act->as, action, act->state);

	if (condition != IRIS_NO_ERROR)
		refuse(act, condition, bubble_refusal_text(condition, act->state));
	return condition == IRIS_NO_ERROR;
}

static struct room *
open_for(struct bubble_act *act, enum bubble_action action)
{
	struct room *room = open_bubble(act);

	if (room && !may(act, action))
		room_release(&room);
	return room;
}

/* --- affiliations --- */

static void
change(struct bubble_act *act, struct room *room, enum room_affiliation after)
{
	struct room_affiliate_change item = {
		.jid = act->member,
		.before = room_affiliation(room, &act->member),
		.after = after,
		.reason = act->reason,
	};
	struct room_change change = { .room = room, .by = act->by,
				      .is_operator = act->is_operator, .items = &item, .count = 1,
				      .arena = act->call->arena };
	const char *text;
	enum iris_condition condition = room_change(&change, &text);

	if (condition != IRIS_NO_ERROR)
		refuse(act, condition, text);
}

/* Somebody who has one of these affiliations becomes another; else `text` says why not. */
static void
change_from(struct bubble_act *act, enum bubble_action action, unsigned from,
	    enum room_affiliation to)
{
	struct room *room = open_for(act, action);
	enum room_affiliation before;

	if (!room)
		return;
	before = room_affiliation(room, &act->member);
	if (from & (1u << before))
		change(act, room, to);
	else if (before < ROOM_MEMBER)
		refuse(act, IRIS_ITEM_NOT_FOUND, "That is nobody who belongs to the bubble");
	else if (before == to)
		refuse(act, IRIS_CONFLICT, "That is what they are already");
	else if (before == ROOM_OWNER)
		refuse(act, IRIS_CONFLICT, "That is the organizer");
	else
		refuse(act, IRIS_NOT_ALLOWED, "Only a co-organizer can become the organizer");
	room_release(&room);
}

void
act_invite(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = open_for(act, BUBBLE_ADD);

	if (!room)
		return;
	if (room_affiliation(room, &act->member) >= ROOM_MEMBER)
		refuse(act, IRIS_CONFLICT, "They belong to the bubble already");
	else
		change(act, room, ROOM_MEMBER);
	if (act->call->refusal.condition == IRIS_NO_ERROR)
		room_invite(room, act->is_operator ? room_jid(room) : &act->by, &act->member,
			    act->reason);
	room_release(&room);
}

void
act_remove(void *arg)
{
	struct bubble_act *act = arg;
	bool is_self = jid_bare_equal(&act->by, &act->member);

	change_from(act, is_self && !act->is_operator ? BUBBLE_SHOW : BUBBLE_REMOVE,
		    1u << ROOM_MEMBER | 1u << ROOM_ADMIN, ROOM_NONE);
}

void
act_promote(void *arg)
{
	change_from(arg, BUBBLE_PROMOTE, 1u << ROOM_MEMBER, ROOM_ADMIN);
}

void
act_demote(void *arg)
{
	change_from(arg, BUBBLE_DEMOTE, 1u << ROOM_ADMIN, ROOM_MEMBER);
}

/* An orphan is given to any member; the rules look at it again. */
void
act_transfer(void *arg)
{
	change_from(arg, BUBBLE_TRANSFER, 1u << ROOM_MEMBER | 1u << ROOM_ADMIN, ROOM_OWNER);
}

/* --- the bubble itself --- */

void
act_create(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = NULL;
	enum iris_condition condition =
		room_create(&act->bubble, &act->by, act->config.base, &room);

	if (room)
		room_release(&room);
	if (condition == IRIS_CONFLICT)
		refuse(act, condition, "There is a bubble of this address already");
	else if (condition == IRIS_NOT_ALLOWED)
		refuse(act, condition, "You may have no bubbles, or no more of them");
	else if (condition != IRIS_NO_ERROR)
		refuse(act, condition, NULL);
}

static const struct iris_jid nobody = { NULL, 0, 0, 0 }; /* was asked here, is not asked again */

/* Those who are in read it, and those who come find it. */
static void
say(struct room *room, const char *text)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);

	stanza_set_id(message, random_id(message->arena, 72));
	element_add_text(message->root, "body", NULL, str_from(text));
	room_send_all(room, &message, true, NULL);
}

static void
set_state(struct bubble_act *act, struct room *room, const char *lines, const char *event)
{
	enum iris_condition condition = room_configure(room, &nobody, lines);

	if (condition != IRIS_NO_ERROR) {
		refuse(act, condition, NULL);
		return;
	}
	log_write(IRIS_LOG_NOTICE, "bubbles", event,
		  (const struct iris_log_field[]){ LOG_JID("bubble", jid_bare(&act->bubble)),
						   LOG_JID("by", jid_bare(&act->by)) },
		  2);
}

void
act_archive(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = open_for(act, BUBBLE_ARCHIVE);

	if (!room)
		return;
	set_state(act, room, POLICY_ARCHIVED, "archived");
	if (act->call->refusal.condition == IRIS_NO_ERROR)
		say(room, "This bubble was archived: it can be read, not changed.");
	room_release(&room);
}

void
act_restore(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = open_for(act, BUBBLE_RESTORE);

	if (!room)
		return;
	if (room_affiliation_count(room, ROOM_OWNER) == 0)
		refuse(act, IRIS_NOT_ALLOWED, "It has no organizer: transfer it to a member first");
	else
		set_state(act, room, POLICY_OPEN, "restored");
	if (act->call->refusal.condition == IRIS_NO_ERROR)
		say(room, "This bubble was restored.");
	room_release(&room);
}

void
act_delete(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = open_for(act, BUBBLE_DELETE);
	enum iris_condition condition;

	if (!room)
		return;
	condition = room_destroy(room, act->is_operator ? &nobody : &act->by, act->reason, NULL);
	if (condition != IRIS_NO_ERROR)
		refuse(act, condition, NULL);
	room_release(&room);
}

void
act_orphan(void *arg)
{
	struct bubble_orphaning *orphaning = arg;
	struct room *room;
	enum iris_place_found found = room_seek(&orphaning->bubble, &room);

	orphaning->done = found == IRIS_PLACE_NOBODY;
	if (found != IRIS_PLACE_FOUND)
		return;
	if (bubble_state_of(room) == BUBBLE_ARCHIVED) {
		orphaning->done = true;
	} else if (room_configure(room, &nobody, POLICY_ARCHIVED) == IRIS_NO_ERROR) {
		orphaning->done = true;
		LOG(IRIS_LOG_NOTICE, "bubbles", "orphaned",
		    LOG_JID("bubble", jid_bare(&orphaning->bubble)));
		say(room, "This bubble was archived: its organizer is gone.");
	}
	room_release(&room);
}

/* --- showing it --- */

static void
add_member(const struct iris_jid *bare, enum room_affiliation affiliation, struct iris_str nick,
	   void *arg)
{
	struct bubble_act *act = arg;

	if (affiliation >= ROOM_MEMBER)
		act->members[act->member_count++] = (struct bubble_member){
			jid_copy(act->call->arena, bare), affiliation
		};
}

static int
compare_members(const void *a, const void *b)
{
	struct iris_str x = jid_bare(&((const struct bubble_member *)a)->jid);
	struct iris_str y = jid_bare(&((const struct bubble_member *)b)->jid);
	int order = memcmp(x.base, y.base, x.len < y.len ? x.len : y.len);

	return order ? order : (x.len > y.len) - (x.len < y.len);
}

void
act_show(void *arg)
{
	struct bubble_act *act = arg;
	struct room *room = open_for(act, BUBBLE_SHOW);
	size_t most = 0;

	if (!room)
		return;
	for (unsigned i = ROOM_MEMBER; i < ROOM_AFFILIATION_COUNT; i++)
		most += room_affiliation_count(room, (enum room_affiliation)i);
	act->members = arena_alloc(act->call->arena, most * sizeof(*act->members));
	room_affiliates_each(room, add_member, act);
	room_release(&room);
	if (act->member_count > 0)
		qsort(act->members, act->member_count, sizeof(*act->members), compare_members);
}
