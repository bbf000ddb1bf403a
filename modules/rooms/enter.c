/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coming in (XEP-0045 §7.1, §7.2, §10.1): who may, with which nick, and what who comes in is told:
 * who is there, itself, what was said, the subject.  At once where that is little and in memory,
 * else on a fiber, over some turns.  What comes from who is in is in presence.c.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"

#define LIST_AT_ONCE 100 /* occupants told of in one turn */
#define EXTRA_SEATS 10   /* for owners and admins when all others are taken (§7.2.8) */

enum {
	STATUS_ADDRESSES_SHOWN = 100,
	STATUS_LOGGED = 170,
	STATUS_CREATED = 201,
	STATUS_TECHNICAL = 333,
};

struct creation { /* a room that somebody makes by entering */
	struct room *room;
	struct iris_ticket *ticket;
	struct iris_delivery delivery; /* its text follows */
	char text[];
};

/* --- refusing --- */

void
enter_refuse(const struct iris_delivery *delivery, enum iris_condition condition,
	     const char *type, const char *text)
{
	const struct iris_refusal refusal = { .condition = condition, .type = type, .text = text };
	struct iris_stanza *error = stanza_error(delivery->stanza, &refusal);
	const struct iris_jid *to = delivery_to(delivery);

	rooms_count(METRIC_REFUSED, 1);
	if (!error)
		return;
	stanza_set_from(error, to);
	element_set(element_child(error->root, "error", NULL), "by", jid_bare(to));
	/* COMPAT(slixmpp, it has no other way to tell a failure to enter): the mark is echoed. */
	element_add(error->root, "x", NS_MUC);
	route_stanza(&error, NULL);
}

/* --- who may --- */

/* RFC 7622 lets a resource be of spaces only; §17.1 does not. */
static bool
nick_is_visible(struct iris_str nick)
{
	for (size_t i = 0; i < nick.len; i++)
		if (nick.base[i] != ' ')
			return true;
	return false;
}

enum iris_condition
nick_judge(const struct room *room, const struct iris_jid *bare, struct iris_str nick)
{
	const struct room_affiliate *holder = room_affiliate_by_nick(room, nick);
	const struct room_affiliate *own = room_affiliate((struct room *)room, jid_bare(bare));

	if (!nick_is_visible(nick))
		return IRIS_JID_MALFORMED;
	if (holder && !jid_bare_equal(&holder->jid, bare))
		return IRIS_CONFLICT;
	if (own && own->nick && !str_is(nick, own->nick) &&
	    !room->config.numbers[ROOM_CONFIG_CHANGE_NICK])
		return IRIS_NOT_ACCEPTABLE;
	return IRIS_NO_ERROR;
}

static bool
has_password(const struct room *room, const struct iris_element *x)
{
	const char *secret = room->config.texts[ROOM_CONFIG_SECRET];

	return !room->config.numbers[ROOM_CONFIG_PASSWORD_PROTECTED] || !secret ||
	       str_equal_secret(element_child_text(x, "password", NULL), str_from(secret));
}

static bool
has_seat(const struct room *room, enum room_affiliation affiliation)
{
	int64_t seats = option_int(&rooms_self, OPT_MAX_OCCUPANTS);
	int64_t wanted = room->config.numbers[ROOM_CONFIG_MAX_USERS];

	if (wanted > 0 && wanted < seats)
		seats = wanted;
	if (affiliation >= ROOM_ADMIN)
		seats += EXTRA_SEATS;
	return (int64_t)room->occupants.count < seats;
}

/* The nick is taken, or is it one more session of its occupant? */
static enum iris_condition
judge_nick(const struct room *room, const struct iris_jid *from, struct iris_str nick,
	   enum room_affiliation affiliation)
{
	const struct room_occupant *present = occupant_find(room, nick);
	enum iris_condition condition = nick_judge(room, from, nick);

	if (condition != IRIS_NO_ERROR)
		return condition;
	if (!present)
		return has_seat(room, affiliation) ? IRIS_NO_ERROR : IRIS_SERVICE_UNAVAILABLE;
	if (!jid_bare_equal(&present->bare, from))
		return IRIS_CONFLICT;
	return present->session_count < ROOM_SESSIONS_MAX ? IRIS_NO_ERROR :
							    IRIS_RESOURCE_CONSTRAINT;
}

static enum iris_condition
judge(struct room *room, const struct iris_delivery *delivery, const char **text_r)
{
	const struct iris_jid *from = &delivery->stanza->from;
	const struct iris_element *x = element_child(delivery->stanza->root, "x", NS_MUC);
	const struct room_policy *policy = room_policy(room);
	enum room_affiliation affiliation = room_affiliation(room, from);
	struct iris_arena *arena;
	enum iris_condition condition;
	struct iris_jid bare;

	if (room->state == ROOM_LOCKED && affiliation != ROOM_OWNER)
		return IRIS_ITEM_NOT_FOUND;
	if (affiliation == ROOM_OUTCAST)
		return IRIS_FORBIDDEN;
	if (affiliation == ROOM_NONE && room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY])
		return IRIS_REGISTRATION_REQUIRED;
	if (!has_password(room, x))
		return IRIS_NOT_AUTHORIZED;
	condition = judge_nick(room, from, jid_resource(delivery_to(delivery)), affiliation);
	if (condition != IRIS_NO_ERROR || !policy || !policy->may)
		return condition;
	arena = arena_new();
	bare = jid_with_resource(arena, from, IRIS_STR_NONE);
	condition = policy->may(room, ROOM_ENTER, &bare, text_r);
	arena_unref(&arena);
	return condition;
}

/* --- what who comes in is told --- */

static void
status_add(unsigned *status, unsigned code)
{
	while (*status)
		status++;
	*status = code;
}

static void
status_of_room(const struct room *room, unsigned status[ROOM_STATUS_MAX])
{
	if (room->config.numbers[ROOM_CONFIG_WHOIS] == ROOM_WHOIS_ANYONE)
		status_add(status, STATUS_ADDRESSES_SHOWN);
	if (room->config.numbers[ROOM_CONFIG_ARCHIVE])
		status_add(status, STATUS_LOGGED);
}

/* Itself, what was said, the subject. */
static void
tell_rest(struct room_session *session, const struct room_arrival *arrival)
{
	struct room *room = session->occupant->room;
	struct iris_stanza *subject = stanza_ref(arrival->subject);

	presence_show_self(session, arrival->status, arrival->request->id);
	history_send(room, &session->jid, &arrival->wanted, arrival->mark);
	live_send_one(room, &subject, &session->jid);
}

/* The arrival ends, and what was held for it follows at once: nothing comes between. */
static void
arrival_finish(struct room_arrival *arrival)
{
	struct room_session *session = arrival->session;

	session->arrival = NULL;
	tell_rest(session, arrival);
	arrival_flush(arrival);
}

/* Tells of a share of those who are in; false: of all of them now. */
static bool
arrival_list_some(struct room_arrival *arrival)
{
	struct room_live *live = arrival->room->live;
	struct room_occupant *occupant;
	unsigned told = 0;

	TAILQ_FOREACH(occupant, &live->shown, shown_link) {
		if (occupant->order <= arrival->cursor)
			continue;
		if (occupant->order > arrival->last)
			break;
		if (told == LIST_AT_ONCE)
			return true;
		arrival->cursor = occupant->order;
		if (occupant == arrival->session->occupant)
			continue;
		presence_show_to(occupant, arrival->session);
		told++;
	}
	arrival->cursor = arrival->last;
	return false;
}

static void
arrival_free(struct room_arrival *arrival)
{
	LIST_REMOVE(arrival, link);
	if (arrival->session)
		arrival->session->arrival = NULL;
	arrival_drop(arrival);
	stanza_unref(&arrival->subject);
	stanza_unref(&arrival->request);
	place_release(&arrival->room->place);
	free(arrival);
}

static void
arrival_put_out(struct room_session *session)
{
	struct room_occupant *occupant = session->occupant;
	const struct room_news news = { .reason = IRIS_STR("There is too much to tell at once"),
					.status = { STATUS_TECHNICAL } };

	occupant_put_out(&occupant, &news);
}

static void
arrival_run(void *arg)
{
	struct room_arrival *arrival = arg;
	bool more = true;

	if (!history_is_ready(arrival->room, &arrival->wanted))
		history_load(arrival->room);
	while (arrival->session && more) {
		more = arrival_list_some(arrival);
		if (more && !fiber_sleep(0))
			break;
	}
	if (arrival->session && arrival->overrun)
		arrival_put_out(arrival->session);
	else if (arrival->session && !more)
		arrival_finish(arrival);
	arrival_free(arrival);
}

static void
arrival_start(struct room_session *session, const struct room_arrival *prepared)
{
	struct room *room = session->occupant->room;
	struct room_arrival *arrival = iris_malloc(sizeof(*arrival));

	*arrival = *prepared;
	STAILQ_INIT(&arrival->held);
	arrival->session = session;
	arrival->room = room;
	stanza_ref(arrival->request);
	stanza_ref(arrival->subject);
	session->arrival = arrival;
	LIST_INSERT_HEAD(&room->live->arrivals, arrival, link);
	place_hold(&room->place);
	if (fiber_start_spare("rooms: enter", arrival_run, arrival))
		return;
	arrival_free(arrival);
	arrival_put_out(session);
}

static const struct iris_element *
mav_of(const struct iris_stanza *request) /* XEP-0463; NULL: it does not ask */
{
	return element_child(element_child(request->root, "x", NS_MUC), "mav", NULL);
}

/* All that an entry brings, now or over some turns. created: 201. */
static void
tell_newcomer(struct room_session *session, struct iris_stanza *request, bool created)
{
	struct room *room = session->occupant->room;
	struct room_live *live = room->live;
	struct room_arrival arrival = {
		.session = session, .room = room, .request = request, .last = live->order,
		.mark = message_mark(room), .subject = subject_for_newcomers(room),
	};

	history_want(&arrival.wanted, room, element_child(request->root, "x", NS_MUC));
	status_of_room(room, arrival.status);
	live_busy_begin(room);
	affiliation_send_changes(room, &session->jid, mav_of(request));
	live_busy_end(room);
	if (created)
		status_add(arrival.status, STATUS_CREATED);
	if (live->shown_count <= LIST_AT_ONCE && history_is_ready(room, &arrival.wanted)) {
		(void)arrival_list_some(&arrival);
		tell_rest(session, &arrival);
	} else {
		arrival_start(session, &arrival);
	}
	stanza_unref(&arrival.subject);
}

void
enter_again(struct room_session *session, struct iris_stanza *request)
{
	struct room_occupant *occupant = session->occupant;

	if (session->arrival) /* it is being told everything already */
		return;
	stanza_unref(&session->presence);
	session->presence = presence_keep(occupant->room, request);
	if (session == TAILQ_FIRST(&occupant->sessions))
		presence_show_others(occupant, NULL);
	tell_newcomer(session, request, false);
}

/* --- coming in --- */

static void
enter(struct room *room, const struct iris_delivery *delivery, bool created)
{
	struct iris_stanza *stanza = delivery->stanza, *presence;
	const struct iris_jid *from = &stanza->from;
	struct iris_str nick = jid_resource(delivery_to(delivery));
	struct room_occupant *occupant = occupant_find(room, nick);
	struct room_session *session;
	bool is_new = !occupant;

	if (is_new)
		occupant = occupant_new(room, nick, from,
					role_by_default(room, room_affiliation(room, from)));
	presence_follow_size(room);
	presence = presence_keep(room, stanza);
	session = room_session_new(occupant, from, presence);
	stanza_unref(&presence);
	rooms_count(METRIC_ENTERED, 1);
	if (is_new)
		presence_show_others(occupant, NULL);
	tell_newcomer(session, stanza, created);
	keeper_need(); /* last: while the worker stops, it puts everybody out at once */
}

static void
enter_or_refuse(struct room *room, const struct iris_delivery *delivery, bool created)
{
	const char *text = NULL;
	enum iris_condition condition = judge(room, delivery, &text);

	if (condition == IRIS_NO_ERROR)
		enter(room, delivery, created);
	else /* §7.2.8: a full room may have room again */
		enter_refuse(delivery, condition,
			     condition == IRIS_SERVICE_UNAVAILABLE ? "wait" : NULL, text);
}

static void
creation_run(void *arg)
{
	struct creation *creation = arg;
	struct room *room = creation->room;
	const struct iris_stanza *stanza = creation->delivery.stanza;
	struct iris_arena *arena = arena_new();
	struct iris_jid by = jid_with_resource(arena, &stanza->from, IRIS_STR_NONE);
	const char *text = NULL;
	enum iris_condition condition = room_make(room, &by, NULL, &text);

	if (condition == IRIS_NO_ERROR) {
		history_begin(room);
		enter_or_refuse(room, &creation->delivery, true);
	} else {
		enter_refuse(&creation->delivery, condition, NULL, text);
	}
	arena_unref(&arena);
	live_busy_end(room);
	delivery_let_go(&creation->delivery);
	ticket_unref(&creation->ticket);
	place_release(&room->place);
	free(creation);
}

/* What comes for the address meanwhile waits. */
static void
create(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct creation *creation = iris_malloc(sizeof(*creation) + delivery_text(delivery));

	delivery_keep(&creation->delivery, delivery, creation->text);
	creation->ticket = ticket_ref(ticket);
	creation->room = room;
	place_hold(&room->place);
	live_busy_begin(room);
	if (fiber_start_spare("rooms: create", creation_run, creation))
		return;
	enter_refuse(delivery, IRIS_RESOURCE_CONSTRAINT, NULL, NULL);
	live_busy_end(room);
	delivery_let_go(&creation->delivery);
	ticket_unref(&creation->ticket);
	place_release(&room->place);
	free(creation);
}

void
enter_ask(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	if (!nick_is_visible(jid_resource(delivery_to(delivery))))
		enter_refuse(delivery, IRIS_JID_MALFORMED, NULL, "A nick is needed");
	else if (jid_is_bare(&delivery->stanza->from))
		enter_refuse(delivery, IRIS_BAD_REQUEST, NULL, NULL);
	else if (worker_is_stopping())
		enter_refuse(delivery, IRIS_RESOURCE_CONSTRAINT, NULL, NULL);
	else if (room->state == ROOM_UNBORN)
		create(room, delivery, ticket);
	else
		enter_or_refuse(room, delivery, false);
}
