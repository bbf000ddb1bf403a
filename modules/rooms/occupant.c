/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Occupants and their sessions in memory, and who is told what.  One array of sessions and one of
 * their addresses, so that a stanza for all goes out without a walk.  It decides about nobody.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"

/* --- finding --- */

struct room_occupant *
occupant_find(const struct room *room, struct iris_str nick)
{
	struct iris_hash_node *node = hash_find(&room->occupants, nick);

	return node ? IRIS_CONTAINER(node, struct room_occupant, node) : NULL;
}

struct room_session *
room_session_find(const struct room *room, const struct iris_jid *full)
{
	struct iris_hash_node *node = hash_find(&room->sessions, jid_full(full));

	return node ? IRIS_CONTAINER(node, struct room_session, node) : NULL;
}

struct room_session *
room_session_hear(const struct room *room, const struct iris_jid *from)
{
	struct room_session *session = room_session_find(room, from);

	if (session)
		session->heard_ms = worker_now_ms();
	return session;
}

struct room_occupant *
occupant_of(const struct room *room, const struct iris_jid *bare)
{
	struct iris_hash_node *node = hash_find(&room->bares, jid_bare(bare));

	return node ? IRIS_CONTAINER(node, struct room_occupant, by_bare) : NULL;
}

enum room_role
room_role(const struct room *room, const struct iris_jid *full)
{
	const struct room_session *session = room_session_find(room, full);

	return session ? session->occupant->role : ROOM_NO_ROLE;
}

enum room_role
role_by_default(const struct room *room, enum room_affiliation affiliation)
{
	switch (affiliation) {
	case ROOM_OWNER:
	case ROOM_ADMIN:
		return ROOM_MODERATOR;
	case ROOM_MEMBER:
		return ROOM_PARTICIPANT;
	case ROOM_NONE:
		return room->config.numbers[ROOM_CONFIG_MODERATED] ? ROOM_VISITOR :
								     ROOM_PARTICIPANT;
	case ROOM_OUTCAST:
	case ROOM_AFFILIATION_COUNT:
		break;
	}
	return ROOM_NO_ROLE;
}

bool
sees_addresses(const struct room *room, enum room_role role)
{
	return role == ROOM_MODERATOR ||
	       room->config.numbers[ROOM_CONFIG_WHOIS] == ROOM_WHOIS_ANYONE;
}

/* --- occupants --- */

/* Behind the struct: room@service/nick, the bare JID, the id. */
static struct room_occupant *
occupant_make(struct room *room, struct iris_str nick, const struct iris_jid *bare,
	      struct iris_str id)
{
	struct iris_str place = jid_bare(&room->jid), whose = jid_bare(bare);
	size_t jid_len = place.len + 1 + nick.len;
	struct room_occupant *occupant =
		iris_calloc(1, sizeof(*occupant) + jid_len + whose.len + id.len);
	char *text = occupant->text;

	memcpy(text, place.base, place.len);
	text[place.len] = '/';
	memcpy(text + place.len + 1, nick.base, nick.len);
	occupant->jid = room->jid;
	occupant->jid.base = text;
	occupant->jid.resource_len = (uint16_t)nick.len;
	occupant->bare = *bare;
	occupant->bare.resource_len = 0;
	occupant->bare.base = memcpy(text + jid_len, whose.base, whose.len);
	occupant->id.base = memcpy(text + jid_len + whose.len, id.base, id.len);
	occupant->id.len = id.len;
	occupant->room = room;
	TAILQ_INIT(&occupant->sessions);
	return occupant;
}

static void
twin_add(struct room *room, struct room_occupant *occupant)
{
	struct room_occupant *first = occupant_of(room, &occupant->bare);

	if (first) {
		occupant->twin = first->twin;
		first->twin = occupant;
	} else {
		hash_insert(&room->bares, &occupant->by_bare, jid_bare(&occupant->bare));
	}
}

static void
twin_remove(struct room *room, struct room_occupant *occupant)
{
	struct room_occupant *before = occupant_of(room, &occupant->bare);

	if (before == occupant) {
		hash_remove(&room->bares, &occupant->by_bare);
		if (occupant->twin)
			hash_insert(&room->bares, &occupant->twin->by_bare,
				    jid_bare(&occupant->twin->bare));
		return;
	}
	while (before->twin != occupant)
		before = before->twin;
	before->twin = occupant->twin;
}

/* Mostly it is the latest. */
static void
shown_add(struct room_live *live, struct room_occupant *occupant)
{
	struct room_occupant *before;

	live->shown_count++;
	TAILQ_FOREACH_REVERSE(before, &live->shown, room_shown, shown_link)
		if (before->order < occupant->order)
			break;
	if (before)
		TAILQ_INSERT_AFTER(&live->shown, before, occupant, shown_link);
	else
		TAILQ_INSERT_HEAD(&live->shown, occupant, shown_link);
}

void
occupant_set_shown(struct room_occupant *occupant, int64_t shown_to)
{
	struct room_live *live = occupant->room->live;

	if (occupant->shown_to != ROOM_SHOWN_TO_ALL && shown_to == ROOM_SHOWN_TO_ALL) {
		shown_add(live, occupant);
	} else if (occupant->shown_to == ROOM_SHOWN_TO_ALL && shown_to != ROOM_SHOWN_TO_ALL) {
		TAILQ_REMOVE(&live->shown, occupant, shown_link);
		live->shown_count--;
	}
	occupant->shown_to = shown_to;
}

void
occupant_show_no_further(struct room_occupant *occupant)
{
	if (occupant->shown_to == ROOM_SHOWN_TO_ALL)
		occupant_set_shown(occupant, occupant->room->live->entered);
}

static void
occupant_add(struct room_occupant *occupant)
{
	struct room *room = occupant->room;
	struct room_live *live = live_of(room);

	occupant->order = ++live->order;
	TAILQ_INSERT_TAIL(&live->occupants, occupant, link);
	hash_insert(&room->occupants, &occupant->node, occupant_nick(occupant));
	twin_add(room, occupant);
	absent_changed(room);
}

static void
occupant_remove(struct room_occupant *occupant)
{
	absent_changed(occupant->room);
	occupant_set_shown(occupant, 0);
	twin_remove(occupant->room, occupant);
	hash_remove(&occupant->room->occupants, &occupant->node);
	TAILQ_REMOVE(&occupant->room->live->occupants, occupant, link);
}

struct room_occupant *
occupant_new(struct room *room, struct iris_str nick, const struct iris_jid *bare,
	     enum room_role role)
{
	struct iris_arena *arena = arena_new();
	struct room_occupant *occupant =
		occupant_make(room, nick, bare, room_occupant_id(room, bare, arena));

	arena_unref(&arena);
	occupant->role = role;
	occupant_add(occupant);
	rooms_count(METRIC_OCCUPANTS, 1);
	return occupant;
}

void
occupant_rename(struct room_occupant **occupant_p, struct iris_str nick)
{
	struct room_occupant *before = *occupant_p, *after;
	int64_t shown_to = before->shown_to;
	struct room_session *session;

	after = occupant_make(before->room, nick, &before->bare, before->id);
	after->role = before->role;
	after->session_count = before->session_count;
	TAILQ_CONCAT(&after->sessions, &before->sessions, link);
	TAILQ_FOREACH(session, &after->sessions, link)
		session->occupant = after;
	occupant_remove(before);
	free(before);
	occupant_add(after);
	occupant_set_shown(after, shown_to);
	*occupant_p = after;
}

/* --- sessions --- */

static void
member_add(struct room *room, struct room_session *session)
{
	if (room->member_count == room->member_cap) {
		room->member_cap = room->member_cap ? 2 * room->member_cap : 8;
		room->members = iris_realloc(room->members,
					     room->member_cap * sizeof(room->members[0]));
		room->addresses = iris_realloc(room->addresses,
					       room->member_cap * sizeof(room->addresses[0]));
	}
	session->index = room->member_count++;
	room->members[session->index] = session;
	room->addresses[session->index] = session->jid;
}

static void
member_remove(struct room *room, struct room_session *session)
{
	size_t last = --room->member_count;

	room->members[session->index] = room->members[last];
	room->members[session->index]->index = session->index;
	room->addresses[session->index] = room->addresses[last];
}

struct room_session *
room_session_new(struct room_occupant *occupant, const struct iris_jid *full,
		 struct iris_stanza *presence)
{
	struct room *room = occupant->room;
	struct iris_str text = jid_full(full);
	struct room_session *session = iris_calloc(1, sizeof(*session) + text.len);

	session->jid = *full;
	session->jid.base = memcpy(session->text, text.base, text.len);
	session->occupant = occupant;
	session->presence = stanza_ref(presence);
	session->entered = ++live_of(room)->entered;
	session->heard_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&occupant->sessions, session, link);
	occupant->session_count++;
	hash_insert(&room->sessions, &session->node, jid_full(&session->jid));
	if (room->member_count == 0)
		place_hold(&room->place);
	member_add(room, session);
	return session;
}

bool
room_session_free(struct room_session *session)
{
	struct room_occupant *occupant = session->occupant;
	struct room *room = occupant->room;
	bool last = occupant->session_count == 1;

	if (session->arrival)
		session->arrival->session = NULL;
	hash_remove(&room->sessions, &session->node);
	TAILQ_REMOVE(&occupant->sessions, session, link);
	occupant->session_count--;
	member_remove(room, session);
	stanza_unref(&session->presence);
	free(session);
	if (last) {
		occupant_remove(occupant);
		free(occupant);
		rooms_count(METRIC_OCCUPANTS, -1);
	}
	if (room->member_count == 0) {
		room_emptied(room);
		place_release(&room->place);
	}
	return last;
}

/* --- who is told --- */

/*
 * Somebody who is entering has been told of everybody up to the cursor, will be of those up to
 * `last` and of itself, as they are then; all else follows in order.
 */
static void
arrival_take(struct room_arrival *arrival, struct iris_stanza *stanza,
	     const struct room_occupant *about)
{
	if (stanza->kind == IRIS_PRESENCE && about &&
	    (about == arrival->session->occupant ||
	     (about->order > arrival->cursor && about->order <= arrival->last)))
		return;
	arrival_hold(arrival, stanza);
}

static bool
is_in_audience(const struct room *room, enum room_role role, enum room_audience audience)
{
	switch (audience) {
	case ROOM_ALL:
		return true;
	case ROOM_SEEING:
		return sees_addresses(room, role);
	case ROOM_UNSEEING:
		return !sees_addresses(room, role);
	case ROOM_MODERATORS:
		return role == ROOM_MODERATOR;
	}
	return false;
}

void
fan_out(struct room *room, struct iris_stanza **stanza_p, enum room_audience audience,
	const struct room_occupant *about, struct iris_ticket *ticket)
{
	struct iris_jid *to;
	size_t count = 0;

	if (audience == ROOM_ALL && !about && LIST_EMPTY(&live_of(room)->arrivals)) {
		live_send(room, stanza_p, room->addresses, room->member_count, ticket);
		return;
	}
	to = iris_malloc((room->member_count + 1) * sizeof(*to));
	for (size_t i = 0; i < room->member_count; i++) {
		struct room_session *session = room->members[i];

		if (session->occupant == about || (about && session->entered > about->shown_to) ||
		    !is_in_audience(room, session->occupant->role, audience))
			continue;
		if (session->arrival)
			arrival_take(session->arrival, *stanza_p, about);
		else
			to[count++] = session->jid;
	}
	live_send(room, stanza_p, to, count, ticket);
	free(to);
}

void
fan_out_one(struct room_occupant *occupant, struct iris_stanza **stanza_p,
	    struct iris_ticket *ticket)
{
	struct iris_jid to[ROOM_SESSIONS_MAX];
	struct room_session *session;
	size_t count = 0;

	TAILQ_FOREACH(session, &occupant->sessions, link) {
		if (session->arrival)
			arrival_take(session->arrival, *stanza_p, occupant);
		else
			to[count++] = session->jid;
	}
	live_send(occupant->room, stanza_p, to, count, ticket);
}
