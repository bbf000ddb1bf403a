/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a room's live half share (occupant.c, live.c, enter.c, presence.c, leave.c,
 * message.c, history.c, private.c), and nobody else needs.
 */
#ifndef IRIS_ROOMS_LIVE_H
#define IRIS_ROOMS_LIVE_H

#include "modules/rooms/rooms_private.h"
#include "xep/payloads.h"

struct room_parcel;
struct room_job;
struct room_held;

/* Made when the room needs it first. */
struct room_live {
	struct room *room;
	TAILQ_HEAD(, room_occupant) occupants; /* by order */
	int64_t order;                         /* the last one given */
	int64_t entered;                       /* sessions so far */
	TAILQ_HEAD(room_shown, room_occupant) shown;     /* to all who come, too; by order */
	size_t shown_count;
	bool is_large; /* only moderators are shown to who comes (README.md, "Who is told") */
	LIST_HEAD(, room_arrival) arrivals;

	unsigned busy; /* it is sending, or being made: what comes for it waits here */
	STAILQ_HEAD(, room_parcel) inbox;
	unsigned inbox_count;
	bool draining;
	struct iris_turn drain;

	STAILQ_HEAD(, room_job) outbox; /* what takes several turns to send, and what follows it */
	unsigned outbox_count;

	STAILQ_HEAD(, room_said) said; /* messages, until they are committed */
	unsigned said_count;
	struct iris_stanza *subject;   /* as newcomers get it; NULL: to be made */

	TAILQ_HEAD(, room_relay) relays; /* of room->relayed, the oldest first */
	struct iris_timer relay_timer;
};

/* What a newcomer asks for (§7.2.14), and the room's own limit. */
struct history_wanted {
	int64_t stanzas, chars;
	int64_t since_ms; /* Unix time */
};

/*
 * A session that has entered and is being told, over some turns, who and what was there before: the
 * occupants up to the order `last`, itself, history, the subject of that time. What happens
 * meanwhile is held for it and follows in order. Belongs to a fiber.
 */
struct room_arrival {
	LIST_ENTRY(room_arrival) link;
	struct room *room;            /* held */
	struct room_session *session; /* NULL: it has left meanwhile */
	int64_t cursor, last;         /* orders: told so far; of the last one to be told of */
	int64_t mark;                 /* what was said later is not history, but follows */
	struct iris_stanza *subject;
	struct history_wanted wanted;
	unsigned status[ROOM_STATUS_MAX + 1]; /* of its own presence */
	struct iris_stanza *request;
	STAILQ_HEAD(, room_held) held;
	unsigned held_count;
	bool overrun;                 /* more came than is held */
};

/* --- live.c --- */

struct room_live *live_of(struct room *room);
/* True: it waits for its turn, and room_take() gets it later. */
bool live_park(struct room *room, const struct iris_delivery *delivery,
	       struct iris_ticket *ticket);
void live_busy_begin(struct room *room);
void live_busy_end(struct room *room);
/*
 * The way out of all that the room sends to many: at once, or in pieces over some turns when they
 * are too many for one, or others are before. Takes the reference; addresses are copied when it
 * must wait.
 */
void live_send(struct room *room, struct iris_stanza **stanza_p, const struct iris_jid *to,
	       size_t count, struct iris_ticket *ticket);
/* To one address, with the order kept. */
void live_send_one(struct room *room, struct iris_stanza **stanza_p, const struct iris_jid *to);
bool live_is_congested(const struct room *room);
/* Keeps for an arrival what it is not to see yet. */
void arrival_hold(struct room_arrival *arrival, struct iris_stanza *stanza);
/* Sends what was held. */
void arrival_flush(struct room_arrival *arrival);
void arrival_drop(struct room_arrival *arrival);

static inline const struct iris_jid *
delivery_to(const struct iris_delivery *delivery)
{
	return jid_is_none(&delivery->to) ? &delivery->stanza->to : &delivery->to;
}

static inline struct iris_str
occupant_nick(const struct room_occupant *occupant)
{
	return jid_resource(&occupant->jid);
}

/* --- enter.c --- */

/* A presence with <x/> from who is not in: lets it in, makes the room, or refuses. */
void enter_ask(struct room *room, const struct iris_delivery *delivery,
	       struct iris_ticket *ticket);
/* Who is in already asks anew (§7.2.1): all is sent once more. */
void enter_again(struct room_session *session, struct iris_stanza *request);
/* An error to a wish for a nick, with <x/> (§7.2). type NULL: the condition's. */
void enter_refuse(const struct iris_delivery *delivery, enum iris_condition condition,
		  const char *type, const char *text);
/* May the nick be this bare JID's? */
enum iris_condition nick_judge(const struct room *room, const struct iris_jid *bare,
			       struct iris_str nick);

/* --- presence.c --- */

/* What is kept of a presence: without what concerns the room only, and what is not a client's. */
struct iris_stanza *presence_keep(const struct room *room, const struct iris_stanza *stanza);
/* The occupant as it is now, to all others, if it is to be shown. news: or NULL. */
void presence_show_others(struct room_occupant *occupant, const struct room_news *news);
/* The same to one of them; for the list of who enters. */
void presence_show_to(struct room_occupant *occupant, const struct room_session *viewer);
/* There are more or fewer: has the room become a large one, or ceased to be? */
void presence_follow_size(struct room *room);
/* Its own presence to one session, with these codes beside 110; id: of what it answers, or none. */
void presence_show_self(struct room_session *session, const unsigned *status, struct iris_str id);
/* Unavailable to all others. leaving: with its <status/>, or NULL. */
void presence_hide_others(struct room_occupant *occupant, const struct room_news *news,
			  const struct iris_stanza *leaving);
/* Unavailable to one of its sessions. */
void presence_hide_self(struct room_session *session, const struct room_news *news,
			const struct iris_stanza *leaving);
/* §17.3, XEP-0421: takes what clients may not say in the room's name out of a copy. */
void stanza_cleanse(const struct room *room, struct iris_stanza *stanza);

/* --- leave.c --- */

/* An error that came back: does it say that the session is not there (§16.1.2)? It goes, if so. */
bool ghost_take_error(struct room_session *session, const struct iris_stanza *error);
/* There are sessions on this worker: somebody looks after those that nobody else ends. */
void keeper_need(void);

/* --- history.c --- */

void history_want(struct history_wanted *wanted_r, const struct room *room,
		  const struct iris_element *x);
/* Nothing need be read for it. */
bool history_is_ready(const struct room *room, const struct history_wanted *wanted);
void history_load(struct room *room); /* fiber; waits */
void history_begin(struct room *room); /* it is new: there is nothing to read */
/* What was said up to the mark. */
void history_send(struct room *room, const struct iris_jid *to,
		  const struct history_wanted *wanted, int64_t mark);
struct iris_stanza *subject_for_newcomers(struct room *room); /* a reference */

/* --- message.c --- */

int64_t message_mark(struct room *room); /* between what has gone out and what waits or comes */
/* A copy of what somebody says, in the occupant's name, without addresses. */
struct iris_stanza *message_copy(const struct room_occupant *occupant,
				 const struct iris_stanza *stanza);

/* --- private.c --- */

/* §7.5. from: NULL: it is of nobody who is in. */
void private_take(struct room *room, struct room_session *from,
		  const struct iris_delivery *delivery, struct iris_ticket *ticket);
/* An error that a session answers with to an occupant: passed on, if it may be one to a message. */
void private_pass_error(struct room_session *from, const struct iris_delivery *delivery);

#endif
