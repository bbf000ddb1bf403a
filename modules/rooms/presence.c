/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presence of occupants (XEP-0045 §7.1.3, §7.6, §7.7; XEP-0421): how it looks to whom, and what
 * comes from clients.  Three shapes at most, each built once: with the real address, without, and
 * the occupant's own.  Who enters is let in by enter.c, who leaves by leave.c.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"
#include "xep/xep0203_delay.h"

#define PRESENCE_MAX 8192 /* bytes of one that is kept; of a longer one only <show/> */
#define SHOW_MAX 4        /* RFC 6121 §4.7.2.1: "away" */
#define STATUS_SELF 110
#define STATUS_NICK_CHANGED 303

/* One shape of an occupant's presence. */
struct presence_view {
	const struct room_occupant *occupant;
	const struct room_session *session;  /* whose real address is told */
	const struct iris_stanza *content;   /* whose children it has, or NULL */
	const struct room_news *news;        /* or NULL */
	enum iris_stanza_type type;
	bool with_address, is_own;
	const unsigned *own_status;          /* beside those of news, or NULL */
	struct iris_str id;
};

/* --- what clients may not say --- */

/* Does it say of itself that the room made it? */
static bool
is_signed_by_room(const struct room *room, const struct iris_element *child)
{
	bool is_id = element_is(child, "stanza-id", NS_SID);
	struct iris_arena *arena;
	struct iris_jid by;
	bool ours;

	if (!is_id && !element_is(child, "delay", NS_DELAY))
		return false;
	arena = arena_new();
	ours = jid_parse(arena, element_get(child, is_id ? "by" : "from"), &by) &&
	       jid_bare_equal(&by, &room->jid);
	arena_unref(&arena);
	return ours;
}

/* XEP-0317: those of our accounts were put on by their homes, those of others by anybody. */
static bool
is_hat_of_others(const struct iris_stanza *stanza, const struct iris_element *child)
{
	return element_is(child, "hats", NS_HATS) && !host_find(jid_domain(&stanza->from));
}

void
stanza_cleanse(const struct room *room, struct iris_stanza *stanza)
{
	struct iris_element *child, *next;

	for (child = element_child(stanza->root, NULL, NULL); child; child = next) {
		next = element_next(child, NULL, NULL);
		if (element_is(child, "occupant-id", NS_OCCUPANT_ID) ||
		    element_is(child, "x", NS_MUC_USER) || element_is(child, "x", NS_MUC) ||
		    is_signed_by_room(room, child) || is_hat_of_others(stanza, child))
			element_remove(child);
	}
}

/* SECURITY: a presence is kept as long as its session is in; a long one would fill the memory. */
static void
presence_trim(struct iris_stanza *copy)
{
	struct iris_element *child, *next;

	for (child = copy->root->first; child; child = next) {
		next = child->next;
		if (!element_is(child, "show", NS_CLIENT) ||
		    element_get_text(child).len > SHOW_MAX)
			element_remove(child);
	}
}

struct iris_stanza *
presence_keep(const struct room *room, const struct iris_stanza *stanza)
{
	struct iris_stanza *copy = stanza_copy(stanza), *kept;

	stanza_cleanse(room, copy);
	if (stanza->inner.len > PRESENCE_MAX)
		presence_trim(copy);
	stanza_set_from(copy, NULL);
	stanza_set_to(copy, NULL);
	stanza_set_id(copy, IRIS_STR_NONE);
	kept = stanza_compact(copy);
	stanza_unref(&copy);
	return kept;
}

/* --- the shapes --- */

static void
view_add_content(const struct presence_view *view, struct iris_element *root)
{
	if (!view->content)
		return;
	element_set(root, "xml:lang", view->content->lang);
	ELEMENT_FOREACH(child, view->content->root) {
		if (view->type == IRIS_AVAILABLE || element_is(child, "status", NS_CLIENT))
			element_append(root, element_copy(root->arena, child));
	}
}

/* §8.2: the nick of who did it, or the address, for those who may see it. */
static void
view_add_actor(const struct presence_view *view, struct iris_element *item)
{
	const struct room *room = view->occupant->room;
	const struct iris_jid *actor = view->news->actor;
	const struct room_session *session = room_session_find(room, actor);
	const struct room_occupant *occupant =
		session ? session->occupant : occupant_of(room, actor);
	struct iris_element *element;

	if (!occupant && !view->with_address)
		return;
	element = element_add(item, "actor", NULL);
	if (occupant)
		element_set(element, "nick", occupant_nick(occupant));
	else
		element_set(element, "jid", jid_bare(actor));
}

static void
view_add_item(const struct presence_view *view, struct iris_element *x)
{
	const struct room_occupant *occupant = view->occupant;
	const struct room_news *news = view->news;
	struct iris_element *item = element_add(x, "item", NULL);
	bool stays = view->type == IRIS_AVAILABLE || (news && !str_is_none(news->new_nick));
	bool destroyed = news && news->destroy;
	enum room_affiliation affiliation =
		destroyed ? ROOM_NONE : room_affiliation(occupant->room, &occupant->bare);

	element_set(item, "affiliation", str_from(room_affiliation_name(affiliation)));
	element_set(item, "role",
		    str_from(room_role_name(stays ? occupant->role : ROOM_NO_ROLE)));
	if (view->with_address && !destroyed)
		element_set(item, "jid", jid_full(&view->session->jid));
	if (!news)
		return;
	element_set(item, "nick", news->new_nick);
	if (news->actor && !jid_is_none(news->actor))
		view_add_actor(view, item);
	if (!str_is_empty(news->reason))
		element_add_text(item, "reason", NULL, news->reason);
}

static void
view_add_status(struct iris_element *x, const unsigned *status)
{
	for (; status && *status; status++)
		element_set_int(element_add(x, "status", NULL), "code", *status);
}

static struct iris_stanza *
view_build(const struct presence_view *view)
{
	static const unsigned self[] = { STATUS_SELF, 0 };
	const struct room_occupant *occupant = view->occupant;
	const struct room_policy *policy = room_policy(occupant->room);
	const struct room_news *news = view->news;
	struct iris_stanza *stanza = stanza_new(IRIS_PRESENCE, view->type);
	struct iris_element *x;

	stanza_set_from(stanza, &occupant->jid);
	if (!str_is_none(view->id))
		stanza_set_id(stanza, view->id);
	view_add_content(view, stanza->root);
	x = element_add(stanza->root, "x", NS_MUC_USER);
	view_add_item(view, x);
	if (news && news->destroy)
		element_append(x, element_copy(stanza->arena, news->destroy));
	view_add_status(x, view->is_own ? self : NULL);
	view_add_status(x, news ? news->status : NULL);
	view_add_status(x, view->is_own && news ? news->own_status : NULL);
	view_add_status(x, view->own_status);
	if (news && news->is_versioned)
		affiliation_add_version(x, occupant->room, news->since);
	else if (view->own_status) /* it has entered */
		affiliation_add_version(x, occupant->room, -1);
	element_set(element_add(stanza->root, "occupant-id", NS_OCCUPANT_ID), "id", occupant->id);
	if (policy && policy->add_presence && view->type == IRIS_AVAILABLE)
		policy->add_presence(occupant->room, &occupant->bare, stanza->root);
	return stanza;
}

static bool
has_viewers(const struct room *room, bool seeing, const struct room_occupant *except)
{
	for (size_t i = 0; i < room->member_count; i++) {
		const struct room_occupant *occupant = room->members[i]->occupant;

		if (occupant != except && sees_addresses(room, occupant->role) == seeing)
			return true;
	}
	return false;
}

static void
view_to_others(struct presence_view *view)
{
	struct room *room = view->occupant->room;

	for (int seeing = 0; seeing < 2; seeing++) {
		struct iris_stanza *stanza;

		if (!has_viewers(room, seeing, view->occupant))
			continue;
		view->with_address = seeing;
		stanza = view_build(view);
		fan_out(room, &stanza, seeing ? ROOM_SEEING : ROOM_UNSEEING, view->occupant, NULL);
	}
}

/* --- being seen --- */

static bool
role_is_broadcast(const struct room *room, enum room_role role)
{
	static const enum room_config_number fields[] = {
		[ROOM_VISITOR] = ROOM_CONFIG_PRESENCE_VISITOR,
		[ROOM_PARTICIPANT] = ROOM_CONFIG_PRESENCE_PARTICIPANT,
		[ROOM_MODERATOR] = ROOM_CONFIG_PRESENCE_MODERATOR,
	};

	return role != ROOM_NO_ROLE && room->config.numbers[fields[role]];
}

/* In a large room only moderators are (README.md, "Who is told"). */
static bool
presence_is_public(const struct room_occupant *occupant)
{
	const struct room *room = occupant->room;

	return role_is_broadcast(room, occupant->role) &&
	       (occupant->role == ROOM_MODERATOR ||
		!room->live->is_large);
}

static struct presence_view
view_of(const struct room_occupant *occupant, const struct room_news *news)
{
	const struct room_session *main = TAILQ_FIRST(&occupant->sessions);

	return (struct presence_view){ .occupant = occupant, .session = main,
				       .content = main->presence, .news = news,
				       .type = IRIS_AVAILABLE };
}

void
presence_show_others(struct room_occupant *occupant, const struct room_news *news)
{
	const struct room *room = occupant->room;
	struct presence_view view = view_of(occupant, news);

	if (presence_is_public(occupant)) {
		occupant_set_shown(occupant, ROOM_SHOWN_TO_ALL);
		view_to_others(&view);
	} else if (occupant->shown_to && !role_is_broadcast(room, occupant->role)) {
		presence_hide_others(occupant, NULL, NULL);
	} else if (occupant->shown_to) {
		/* The room has become a large one since. */
		if (news) /* what changed is not a mere status */
			view_to_others(&view);
		occupant_show_no_further(occupant);
	}
}

void
presence_show_to(struct room_occupant *occupant, const struct room_session *viewer)
{
	struct room *room = occupant->room;
	struct presence_view view = view_of(occupant, NULL);
	struct iris_stanza *stanza;

	view.with_address = sees_addresses(room, viewer->occupant->role);
	stanza = view_build(&view);
	live_send_one(room, &stanza, &viewer->jid);
}

void
presence_show_self(struct room_session *session, const unsigned *status, struct iris_str id)
{
	struct presence_view view = view_of(session->occupant, NULL);
	struct iris_stanza *stanza;

	view.session = session;
	view.content = session->presence;
	view.with_address = view.is_own = true;
	view.own_status = status;
	view.id = id;
	stanza = view_build(&view);
	live_send_one(session->occupant->room, &stanza, &session->jid);
}

static void
presence_show_own(struct room_occupant *occupant, const struct room_news *news)
{
	struct presence_view view = view_of(occupant, news);
	struct iris_stanza *stanza;

	view.with_address = view.is_own = true;
	stanza = view_build(&view);
	fan_out_one(occupant, &stanza, NULL);
}

void
presence_show_occupant(struct room_occupant *occupant, const struct room_news *news)
{
	presence_show_others(occupant, news);
	presence_show_own(occupant, news);
}

void
presence_hide_others(struct room_occupant *occupant, const struct room_news *news,
		     const struct iris_stanza *leaving)
{
	struct presence_view view = view_of(occupant, news);

	if (!occupant->shown_to)
		return;
	view.type = IRIS_UNAVAILABLE;
	view.content = leaving;
	view_to_others(&view);
	occupant_set_shown(occupant, 0);
}

void
presence_hide_self(struct room_session *session, const struct room_news *news,
		   const struct iris_stanza *leaving)
{
	struct presence_view view = view_of(session->occupant, news);
	struct iris_stanza *stanza;

	view.session = session;
	view.content = leaving;
	view.type = IRIS_UNAVAILABLE;
	view.with_address = view.is_own = true;
	stanza = view_build(&view);
	live_send_one(session->occupant->room, &stanza, &session->jid);
}

/* --- large rooms --- */

#define RESHOW_SHARE 500 /* deliveries in one turn */

struct reshow { /* of who was not shown while the room was a large one */
	struct room *room; /* held */
	int64_t cursor;    /* order: all up to it are shown */
};

/* False: all of them are shown to all, or it is a large room again. */
static bool
reshow_some(struct reshow *reshow)
{
	struct room_live *live = reshow->room->live;
	struct room_occupant *occupant;
	size_t sent = 0;

	TAILQ_FOREACH(occupant, &live->occupants, link) {
		if (live->is_large || sent >= RESHOW_SHARE)
			break;
		if (occupant->order <= reshow->cursor)
			continue;
		reshow->cursor = occupant->order;
		if (occupant->shown_to == ROOM_SHOWN_TO_ALL)
			continue;
		presence_show_others(occupant, NULL);
		sent += reshow->room->member_count;
	}
	return occupant && !live->is_large;
}

static void
reshow_run(void *arg)
{
	struct reshow *reshow = arg;

	while (fiber_sleep(0) && reshow_some(reshow))
		continue;
	place_release(&reshow->room->place);
	free(reshow);
}

/* Who finds no fiber is shown with the next presence. */
static void
reshow_start(struct room *room)
{
	struct reshow *reshow = iris_calloc(1, sizeof(*reshow));

	reshow->room = room;
	place_hold(&room->place);
	if (fiber_start_spare("rooms: show", reshow_run, reshow))
		return;
	place_release(&room->place);
	free(reshow);
}

static void
moderators_only(struct room_live *live)
{
	struct room_occupant *occupant, *next;

	for (occupant = TAILQ_FIRST(&live->shown); occupant; occupant = next) {
		next = TAILQ_NEXT(occupant, shown_link);
		if (occupant->role != ROOM_MODERATOR)
			occupant_show_no_further(occupant);
	}
}

/* It stays a large one until there are clearly fewer: not all come and go with one. */
void
presence_follow_size(struct room *room)
{
	struct room_live *live = live_of(room);
	size_t max = (size_t)option_int(&rooms_self, OPT_PRESENCE_MAX);
	bool was_large = live->is_large;

	live->is_large = room->occupants.count > (was_large ? max - max / 4 : max);
	if (live->is_large && !was_large)
		moderators_only(live);
	else if (was_large && !live->is_large && room->member_count > 0)
		reshow_start(room);
}

/* --- from who is in --- */

static void
session_set_presence(struct room_session *session, const struct iris_stanza *stanza)
{
	stanza_unref(&session->presence);
	session->presence = presence_keep(session->occupant->room, stanza);
}

/* §7.7. Of several sessions the first one is shown; the others only see themselves. */
static void
change_status(struct room_session *session, const struct iris_stanza *stanza)
{
	struct room_occupant *occupant = session->occupant;

	session_set_presence(session, stanza);
	if (session == TAILQ_FIRST(&occupant->sessions))
		presence_show_others(occupant, NULL);
	if (!session->arrival)
		presence_show_self(session, NULL, stanza->id);
}

/* §7.6: to all sessions of the occupant, which stay one. */
static void
change_nick(struct room_session *session, const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;
	struct room_occupant *occupant = session->occupant;
	struct iris_str nick = jid_resource(delivery_to(delivery));
	struct room_news news = { .new_nick = nick, .status = { STATUS_NICK_CHANGED } };
	struct room_session *own;
	int64_t shown_to = occupant->shown_to;

	presence_hide_others(occupant, &news, NULL);
	TAILQ_FOREACH(own, &occupant->sessions, link)
		if (!own->arrival)
			presence_hide_self(own, &news, NULL);
	session_set_presence(session, stanza);
	occupant_set_shown(occupant, shown_to);
	occupant_rename(&occupant, nick);
	presence_show_others(occupant, &(const struct room_news){ .actor = NULL });
	TAILQ_FOREACH(own, &occupant->sessions, link)
		if (!own->arrival)
			presence_show_self(own, NULL,
					   own == session ? stanza->id : IRIS_STR_NONE);
}

static enum iris_condition
nick_change_judge(const struct room_session *session, struct iris_str nick)
{
	const struct room *room = session->occupant->room;

	if (!room->config.numbers[ROOM_CONFIG_CHANGE_NICK])
		return IRIS_NOT_ACCEPTABLE;
	if (occupant_find(room, nick)) /* also one of its own: two occupants do not become one */
		return IRIS_CONFLICT;
	return nick_judge(room, &session->occupant->bare, nick);
}

static void
available_from_session(struct room_session *session, const struct iris_delivery *delivery)
{
	struct room *room = session->occupant->room;
	struct iris_str nick = jid_resource(delivery_to(delivery));
	bool joins = element_child(delivery->stanza->root, "x", NS_MUC) != NULL;
	enum iris_condition condition;

	if (!str_is_none(nick) && !str_equal(nick, occupant_nick(session->occupant))) {
		condition = nick_change_judge(session, nick);
		if (condition != IRIS_NO_ERROR) {
			enter_refuse(delivery, condition, NULL, NULL);
			return;
		}
		change_nick(session, delivery);
		session = room_session_find(room, &delivery->stanza->from);
	} else if (!joins) {
		change_status(session, delivery->stanza);
	}
	if (joins && session)
		enter_again(session, delivery->stanza);
}

/*
 * §7.1.16, v1.32: who is out of step is told so, also by an address that has no room. SECURITY: the
 * same for all, so nothing is learnt of a room.
 */
static void
kick_stranger(const struct iris_delivery *delivery)
{
	static const unsigned codes[] = { STATUS_SELF, 307, 333, 0 };
	struct iris_stanza *stanza = stanza_new(IRIS_PRESENCE, IRIS_UNAVAILABLE);
	struct iris_element *x = element_add(stanza->root, "x", NS_MUC_USER);
	struct iris_element *item = element_add(x, "item", NULL);

	element_set(item, "affiliation", IRIS_STR("none"));
	element_set(item, "role", IRIS_STR("none"));
	element_add_text(item, "reason", NULL, IRIS_STR("You are not in the room."));
	view_add_status(x, codes);
	stanza_set_from(stanza, delivery_to(delivery));
	stanza_set_to(stanza, &delivery->stanza->from);
	route_stanza(&stanza, NULL);
}

void
room_take_presence(struct room *room, const struct iris_delivery *delivery,
		   struct iris_ticket *ticket)
{
	const struct iris_stanza *stanza = delivery->stanza;
	struct room_session *session;

	if (live_park(room, delivery, ticket))
		return;
	session = room_session_hear(room, &stanza->from);
	if (session)
		session->is_pinged = false;
	if (stanza->type == IRIS_UNAVAILABLE && session)
		room_session_leave(session, stanza);
	else if (stanza->type == IRIS_ERROR && session)
		ghost_take_error(session, stanza);
	else if (stanza->type == IRIS_AVAILABLE && session)
		available_from_session(session, delivery);
	else if (stanza->type == IRIS_AVAILABLE && element_child(stanza->root, "x", NS_MUC))
		enter_ask(room, delivery, ticket);
	else if (stanza->type == IRIS_AVAILABLE && !jid_is_bare(delivery_to(delivery)))
		kick_stranger(delivery);
	/* Subscriptions and probes: a room has no presence of its own (§17.3). */
}
