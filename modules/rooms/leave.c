/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going out (XEP-0045 §7.14, §8.2, §9.1, §9.4, §10.9, §14): who leaves, who is put out, what a
 * change of affiliations or of the configuration does to who is in, and ghosts: sessions that are
 * not there any more.  Of accounts of ours the core tells; those of other servers are pinged.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"
#include "xep/xep0199_ping.h"

#define PING_TIMEOUT_MS 30000
#define PING_BURST 500 /* in one turn */
#define SWEEP_MIN_MS 100
#define SWEEP_MAX_MS 60000

enum {
	STATUS_CONFIGURED = 104,
	STATUS_LOGGED = 170,
	STATUS_NOT_LOGGED = 171,
	STATUS_ADDRESSES_SHOWN = 172,
	STATUS_ADDRESSES_HIDDEN = 173,
	STATUS_BANNED = 301,
	STATUS_KICKED = 307,
	STATUS_NO_MEMBER = 321,
	STATUS_MEMBERS_ONLY = 322,
	STATUS_SHUTDOWN = 332,
	STATUS_TECHNICAL = 333,
};

/* --- one goes --- */

/* It is not told anything more by who was telling it. */
static void
session_end_arrival(struct room_session *session)
{
	if (!session->arrival)
		return;
	session->arrival->session = NULL;
	session->arrival = NULL;
}

/*
 * Of several sessions the first one is shown; when it goes the next one is. news, leaving: or
 * NULL.
 */
static void
session_end(struct room_session *session, const struct room_news *news,
	    const struct iris_stanza *leaving)
{
	struct room_occupant *occupant = session->occupant;
	struct room *room = occupant->room;
	bool was_main = session == TAILQ_FIRST(&occupant->sessions);

	place_hold(&room->place);
	session_end_arrival(session);
	presence_hide_self(session, news, leaving);
	if (occupant->session_count == 1)
		presence_hide_others(occupant, news, leaving);
	if (!room_session_free(session) && was_main)
		presence_show_occupant(occupant, NULL);
	presence_follow_size(room);
	place_release(&room->place);
}

void
room_session_leave(struct room_session *session, const struct iris_stanza *unavailable)
{
	session_end(session, NULL, unavailable);
}

/*
 * §10.9: who goes because all go is told of nobody else's going. What others see comes after what
 * the occupant is told (§8.2).
 */
void
occupant_put_out(struct room_occupant **occupant_p, const struct room_news *news)
{
	struct room_occupant *occupant = *occupant_p;
	struct room *room = occupant->room;
	struct room_session *session;
	bool all_go = news->destroy || worker_is_stopping();

	*occupant_p = NULL;
	place_hold(&room->place);
	TAILQ_FOREACH(session, &occupant->sessions, link) {
		session_end_arrival(session);
		presence_hide_self(session, news, NULL);
	}
	if (!all_go)
		presence_hide_others(occupant, news, NULL);
	while (!room_session_free(TAILQ_FIRST(&occupant->sessions)))
		continue;
	presence_follow_size(room);
	place_release(&room->place);
}

/* --- ghosts --- */

static const char *const ghost_conditions[] = {
	"gone", "item-not-found", "jid-malformed", "recipient-unavailable", "redirect",
	"remote-server-not-found", "remote-server-timeout", "service-unavailable",
};

/* The last condition is also what a client says that knows no pings: to one, it is an answer. */
static bool
error_says_absent(const struct iris_stanza *stanza, bool to_ping)
{
	const struct iris_element *error = element_child(stanza->root, "error", NULL);

	for (size_t i = 0; error && i < IRIS_COUNT(ghost_conditions) - to_ping; i++)
		if (element_child(error, ghost_conditions[i], NS_STANZAS))
			return true;
	return false;
}

static void
ghost_end(struct room_session *session)
{
	const struct room_news news = { .status = { STATUS_TECHNICAL } };

	rooms_count(METRIC_GHOSTS, 1);
	session_end(session, &news, NULL);
}

static bool
session_is_foreign(const struct room_session *session)
{
	const struct iris_host *host = host_find(jid_domain(&session->jid));

	return !host || host->is_component;
}

/* One of ours that an error came from: is it there? */
struct suspicion {
	struct room *room; /* held */
	bool is_there;
	struct iris_jid jid;
	char text[];
};

static void
suspicion_look(void *arg)
{
	struct suspicion *suspicion = arg;

	suspicion->is_there = session_find(jid_full(&suspicion->jid)) != NULL;
}

static void
suspicion_run(void *arg)
{
	struct suspicion *suspicion = arg;
	struct room *room = suspicion->room;
	struct room_session *session;

	home_call(jid_bare(&suspicion->jid), "rooms: ghost", suspicion_look, suspicion);
	session = room_session_find(room, &suspicion->jid);
	if (session && suspicion->is_there)
		session->is_pinged = false;
	else if (session)
		ghost_end(session);
	free(suspicion);
	place_release(&room->place);
}

/*
 * Somebody who blocks another occupant (XEP-0191) answers what it says in the same way as an
 * address that is not there. Of our own, the home knows.
 */
static void
ghost_suspect(struct room_session *session)
{
	struct iris_str text = jid_full(&session->jid);
	struct room *room = session->occupant->room;
	struct suspicion *suspicion;

	if (session->is_pinged)
		return;
	suspicion = iris_calloc(1, sizeof(*suspicion) + text.len);
	suspicion->room = room;
	suspicion->jid = session->jid;
	suspicion->jid.base = memcpy(suspicion->text, text.base, text.len);
	session->is_pinged = true;
	place_hold(&room->place);
	if (fiber_start_spare("rooms: ghost", suspicion_run, suspicion))
		return;
	session->is_pinged = false; /* the next error asks again */
	free(suspicion);
	place_release(&room->place);
}

bool
ghost_take_error(struct room_session *session, const struct iris_stanza *error)
{
	if (!error_says_absent(error, false))
		return false;
	if (session_is_foreign(session))
		ghost_end(session);
	else
		ghost_suspect(session);
	return true;
}

/* --- pings --- */

struct ping {
	struct room *room; /* held */
	enum { PING_ASKING, PING_WAITING, PING_UNSENT, PING_ALIVE, PING_DEAD } state;
	struct iris_jid jid;
	char text[];
};

static void
ping_end(struct ping *ping)
{
	struct room_session *session = room_session_find(ping->room, &ping->jid);

	if (session && ping->state == PING_DEAD && session->is_pinged)
		ghost_end(session);
	else if (session)
		session->is_pinged = false;
	if (session && ping->state == PING_ALIVE)
		session->heard_ms = worker_now_ms();
	place_release(&ping->room->place);
	free(ping);
}

static void
ping_answered(const struct iris_stanza *reply, void *arg)
{
	struct ping *ping = arg;
	bool asking = ping->state == PING_ASKING;

	if (!reply)
		ping->state = asking ? PING_UNSENT : PING_DEAD;
	else
		ping->state = reply->type == IRIS_ERROR && error_says_absent(reply, true) ?
				      PING_DEAD :
				      PING_ALIVE;
	if (!asking)
		ping_end(ping);
}

static void
ping_send(struct room *room, struct room_session *session)
{
	struct iris_str text = jid_full(&session->jid);
	struct ping *ping = iris_calloc(1, sizeof(*ping) + text.len);
	struct iris_stanza *iq = stanza_new(IRIS_IQ, IRIS_GET);

	place_hold(&room->place);
	ping->room = room;
	ping->jid = session->jid;
	ping->jid.base = memcpy(ping->text, text.base, text.len);
	session->is_pinged = true;
	element_add(iq->root, "ping", NS_PING);
	stanza_set_from(iq, &room->jid);
	stanza_set_to(iq, &ping->jid);
	route_iq(&iq, PING_TIMEOUT_MS, ping_answered, ping);
	if (ping->state == PING_ASKING)
		ping->state = PING_WAITING;
	else
		ping_end(ping);
}

/* --- the keeper: one fiber on each worker that has occupants --- */

static bool keepers[WORKER_LIMIT + 1];

struct round { /* rooms with somebody in, held */
	struct room **rooms;
	size_t count, cap;
};

static void
round_add(struct iris_place *place, void *arg)
{
	struct round *round = arg;
	struct room *room = room_of(place);

	if (room->member_count == 0)
		return;
	if (round->count == round->cap) {
		round->cap = round->cap ? 2 * round->cap : 16;
		round->rooms = iris_realloc(round->rooms, round->cap * sizeof(round->rooms[0]));
	}
	place_hold(place);
	round->rooms[round->count++] = room;
}

static void
room_ping(struct room *room, int64_t before_ms)
{
	unsigned sent = 0;

	for (size_t i = 0; i < room->member_count; i++) {
		struct room_session *session = room->members[i];

		if (session->heard_ms > before_ms || session->is_pinged ||
		    !session_is_foreign(session))
			continue;
		ping_send(room, session);
		if (++sent % PING_BURST == 0 && !fiber_sleep(0))
			return;
	}
}

/* §14.2. What the core ends by itself has left already; this is for the rest. */
static void
room_put_all_out(struct room *room)
{
	const struct room_news news = { .status = { STATUS_SHUTDOWN } };

	while (room->member_count > 0) {
		struct room_occupant *occupant = room->members[0]->occupant;

		occupant_put_out(&occupant, &news);
	}
}

static void
round_run(struct round *round, int64_t ping_after_ms)
{
	for (size_t i = 0; i < round->count; i++) {
		struct room *room = round->rooms[i];

		if (worker_is_stopping())
			room_put_all_out(room);
		else
			room_ping(room, worker_now_ms() - ping_after_ms);
		place_release(&room->place);
	}
	free(round->rooms);
}

static int64_t
sweep_ms(int64_t ping_after_ms)
{
	int64_t ms = ping_after_ms / 4;

	return ms < SWEEP_MIN_MS ? SWEEP_MIN_MS : ms > SWEEP_MAX_MS ? SWEEP_MAX_MS : ms;
}

static void
keeper_run(void *arg)
{
	bool *running = arg, go_on = true;
	struct round round;

	do {
		int64_t ping_after_ms = option_int(&rooms_self, OPT_PING_AFTER);

		go_on = fiber_sleep((unsigned)sweep_ms(ping_after_ms));
		round = (struct round){ .count = 0 };
		places_each(&rooms_places, round_add, &round);
		if (round.count == 0)
			break;
		round_run(&round, ping_after_ms);
	} while (go_on);
	*running = false;
}

void
keeper_need(void)
{
	bool *running = &keepers[worker_index() + 1];

	if (*running)
		return;
	*running = true;
	if (!fiber_start("rooms: keeper", keeper_run, running))
		*running = false; /* the next one who enters tries again */
}

/* --- roles --- */

void
occupant_set_role(struct room_occupant *occupant, enum room_role role,
		  const struct room_news *news)
{
	static const struct room_news kick = { .status = { STATUS_KICKED } };

	if (role == ROOM_NO_ROLE) {
		occupant_put_out(&occupant, news ? news : &kick);
		return;
	}
	occupant->role = role;
	presence_show_occupant(occupant, news);
}

/* --- affiliations have changed --- */

/* §5.1.2: whoever gains gains a role at least, who loses loses what came with it. */
static enum room_role
role_after(const struct room *room, enum room_role role,
	   const struct room_affiliate_change *item)
{
	enum room_role initial = role_by_default(room, item->after);

	if (item->after >= ROOM_ADMIN || item->before >= ROOM_ADMIN)
		return initial;
	if (item->after > item->before)
		return role > initial ? role : initial;
	return role < initial ? role : initial;
}

static unsigned
status_of_loss(const struct room *room, const struct room_affiliate_change *item)
{
	if (item->after == ROOM_OUTCAST)
		return STATUS_BANNED;
	return item->after == ROOM_NONE && room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] ?
		       STATUS_NO_MEMBER :
		       0;
}

static void
occupant_follow(struct room_occupant *occupant, const struct room_change *change,
		const struct room_affiliate_change *item)
{
	struct room *room = change->room;
	struct room_news news = {
		.actor = jid_is_none(&change->by) ? NULL : &change->by,
		.reason = item->reason,
		.status = { status_of_loss(room, item) },
		.is_versioned = true,
		.since = room->version - 1,
	};

	if (news.status[0])
		occupant_put_out(&occupant, &news);
	else
		occupant_set_role(occupant, role_after(room, occupant->role, item), &news);
}

void
occupants_follow_change(const struct room_change *change)
{
	struct room_occupant *occupant, *next;

	place_hold(&change->room->place);
	for (size_t i = 0; i < change->count; i++) {
		occupant = occupant_of(change->room, &change->items[i].jid);
		for (; occupant; occupant = next) {
			next = occupant->twin; /* it may go */
			occupant_follow(occupant, change, &change->items[i]);
		}
	}
	place_release(&change->room->place);
}

/* --- the configuration has changed --- */

static void
announce(struct room *room, const unsigned *status)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);
	struct iris_element *x = element_add(message->root, "x", NS_MUC_USER);

	for (; *status; status++)
		element_set_int(element_add(x, "status", NULL), "code", *status);
	room_send_all(room, &message, false, NULL);
}

/* §10.2.1: 170 to 173 tell of what concerns who is seen by whom, 104 of all else. */
static void
announce_config(struct room *room, const struct room_config *before)
{
	const int32_t *now = room->config.numbers, *then = before->numbers;
	unsigned status[4] = { 0 }, count = 0;

	if (now[ROOM_CONFIG_ARCHIVE] != then[ROOM_CONFIG_ARCHIVE])
		status[count++] = now[ROOM_CONFIG_ARCHIVE] ? STATUS_LOGGED : STATUS_NOT_LOGGED;
	if (now[ROOM_CONFIG_WHOIS] != then[ROOM_CONFIG_WHOIS])
		status[count++] = now[ROOM_CONFIG_WHOIS] == ROOM_WHOIS_ANYONE ?
					  STATUS_ADDRESSES_SHOWN :
					  STATUS_ADDRESSES_HIDDEN;
	status[count] = STATUS_CONFIGURED;
	announce(room, status);
}

static bool
is_broadcast_changed(const struct room *room, const struct room_config *before)
{
	static const enum room_config_number fields[] = { ROOM_CONFIG_PRESENCE_VISITOR,
							  ROOM_CONFIG_PRESENCE_PARTICIPANT,
							  ROOM_CONFIG_PRESENCE_MODERATOR };

	for (size_t i = 0; i < IRIS_COUNT(fields); i++)
		if (room->config.numbers[fields[i]] != before->numbers[fields[i]])
			return true;
	return false;
}

/* The role after the room became a moderated one, or none any more. */
static enum room_role
role_after_config(const struct room_occupant *occupant, const struct room_config *before)
{
	const struct room *room = occupant->room;
	bool moderated = room->config.numbers[ROOM_CONFIG_MODERATED];

	if (moderated == (before->numbers[ROOM_CONFIG_MODERATED] != 0) ||
	    occupant->role == ROOM_MODERATOR)
		return occupant->role;
	return role_by_default(room, room_affiliation(room, &occupant->bare));
}

void
occupants_follow_config(struct room *room, const struct room_config *before)
{
	const struct room_news news = { .status = { STATUS_MEMBERS_ONLY } };
	struct room_live *live = live_of(room);
	bool closed = room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] &&
		      !before->numbers[ROOM_CONFIG_MEMBERS_ONLY];
	bool reshown = is_broadcast_changed(room, before);
	struct room_occupant *occupant, *next;
	enum room_role role;

	place_hold(&room->place);
	for (occupant = TAILQ_FIRST(&live->occupants); occupant; occupant = next) {
		next = TAILQ_NEXT(occupant, link);
		role = role_after_config(occupant, before);
		if (closed && room_affiliation(room, &occupant->bare) < ROOM_MEMBER)
			occupant_put_out(&occupant, &news);
		else if (role != occupant->role)
			occupant_set_role(occupant, role, NULL);
		else if (reshown)
			presence_show_others(occupant, NULL);
	}
	announce_config(room, before);
	place_release(&room->place);
}
