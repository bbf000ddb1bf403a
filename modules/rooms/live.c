/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits at a room.  To come in: while it is being made, and while it sends, since a stream
 * that fails under a stanza takes its session, and so an occupant, with it in the midst of the
 * list.  To go out: more than a turn of the loop may take, and all that follows it.  To be told:
 * what happens while somebody is entering.  It judges nothing.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"

#define SHARE_MAX 200     /* deliveries in one turn: each may be a record and a write() */
#define OUTBOX_MAX 256    /* what waits behind a large room's fan-out, before senders are told so */
#define HELD_MAX 4096     /* for one newcomer */

struct room_parcel {
	STAILQ_ENTRY(room_parcel) link;
	struct iris_ticket *ticket;
	struct iris_delivery delivery; /* its text follows */
	char text[];
};

struct room_job {
	STAILQ_ENTRY(room_job) link;
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
	size_t count, sent;
	struct iris_jid to[]; /* their text follows */
};

struct room_held {
	STAILQ_ENTRY(room_held) link;
	struct iris_stanza *stanza;
};

/* --- what comes --- */

static void
parcel_free(struct room *room, struct room_parcel *parcel)
{
	delivery_let_go(&parcel->delivery);
	ticket_unref(&parcel->ticket);
	free(parcel);
	place_release(&room->place);
}

static void
live_drain(struct iris_turn *turn)
{
	struct room_live *live = IRIS_CONTAINER(turn, struct room_live, drain);
	struct room *room = live->room;
	struct room_parcel *parcel;

	place_hold(&room->place);
	live->draining = true;
	while (live->busy == 0 && (parcel = STAILQ_FIRST(&live->inbox)) != NULL) {
		STAILQ_REMOVE_HEAD(&live->inbox, link);
		live->inbox_count--;
		bool before = transit_begin(parcel->delivery.stanza->transit);
		room_take(room, &parcel->delivery, parcel->ticket);
		transit_end(before);
		parcel_free(room, parcel);
	}
	live->draining = false;
	place_release(&room->place);
}

bool
live_park(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct room_live *live = room->live;
	struct room_parcel *parcel;

	if (!live || (live->busy == 0 && (live->inbox_count == 0 || live->draining)))
		return false;
	/* Who goes is always heard: there are no more of those than sessions. */
	if (live->inbox_count >= (unsigned)option_int(&rooms_self, OPT_INBOX) &&
	    delivery->stanza->type != IRIS_UNAVAILABLE && delivery->stanza->type != IRIS_ERROR) {
		room_refuse(delivery->stanza, IRIS_RESOURCE_CONSTRAINT, NULL);
		return true;
	}
	parcel = iris_malloc(sizeof(*parcel) + delivery_text(delivery));
	delivery_keep(&parcel->delivery, delivery, parcel->text);
	parcel->ticket = ticket_ref(ticket);
	STAILQ_INSERT_TAIL(&live->inbox, parcel, link);
	live->inbox_count++;
	place_hold(&room->place);
	return true;
}

void
live_busy_begin(struct room *room)
{
	live_of(room)->busy++;
}

void
live_busy_end(struct room *room)
{
	struct room_live *live = room->live;

	IRIS_ASSERT(live->busy > 0);
	if (--live->busy == 0 && live->inbox_count > 0)
		worker_at_turn_end(&live->drain);
}

/* --- what goes --- */

static struct room_job *
job_new(struct iris_stanza *stanza, const struct iris_jid *to, size_t count,
	struct iris_ticket *ticket)
{
	struct room_job *job;
	size_t text = 0;
	char *at;

	for (size_t i = 0; i < count; i++)
		text += jid_full(&to[i]).len;
	job = iris_malloc(sizeof(*job) + count * sizeof(job->to[0]) + text);
	job->stanza = stanza;
	job->ticket = ticket_ref(ticket);
	job->count = count;
	job->sent = 0;
	at = (char *)&job->to[count];
	for (size_t i = 0; i < count; i++) {
		struct iris_str full = jid_full(&to[i]);

		job->to[i] = to[i];
		job->to[i].base = memcpy(at, full.base, full.len);
		at += full.len;
	}
	return job;
}

/* Takes of the quota what it sends. True: all of it is sent. */
static bool
job_go_on(struct room_job *job, size_t *quota)
{
	size_t count = job->count - job->sent < *quota ? job->count - job->sent : *quota;
	struct iris_stanza *stanza = stanza_ref(job->stanza);

	route_many(&stanza, &job->to[job->sent], count, job->ticket);
	job->sent += count;
	*quota -= count;
	return job->sent == job->count;
}

static void
outbox_send_some(struct room *room, size_t quota)
{
	struct room_live *live = room->live;
	struct room_job *job;

	live_busy_begin(room);
	while (quota > 0 && (job = STAILQ_FIRST(&live->outbox)) != NULL) {
		if (!job_go_on(job, &quota))
			break;
		STAILQ_REMOVE_HEAD(&live->outbox, link);
		live->outbox_count--;
		stanza_unref(&job->stanza);
		ticket_unref(&job->ticket);
		free(job);
	}
	live_busy_end(room);
}

/*
 * Each turn a share; whatever else the worker has to do comes between. A fiber, which the worker's
 * end waits for: then there are no more turns, and all of it goes at once.
 */
static void
outbox_run(void *arg)
{
	struct room *room = arg;

	transit_leave();
	while (room->live->outbox_count > 0)
		outbox_send_some(room, fiber_sleep(0) ? SHARE_MAX : SIZE_MAX);
	place_release(&room->place);
}

static void
outbox_add(struct room *room, struct room_job *job)
{
	struct room_live *live = live_of(room);

	STAILQ_INSERT_TAIL(&live->outbox, job, link);
	if (live->outbox_count++ > 0)
		return;
	place_hold(&room->place);
	if (fiber_start("rooms: send", outbox_run, room))
		return;
	outbox_send_some(room, SIZE_MAX);
	place_release(&room->place);
}

void
live_send(struct room *room, struct iris_stanza **stanza_p, const struct iris_jid *to,
	  size_t count, struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;
	struct room_live *live = live_of(room);

	*stanza_p = NULL;
	stanza_freeze(stanza);
	rooms_count(METRIC_DELIVERIES, (int64_t)count);
	if (count == 0) {
		stanza_unref(&stanza);
	} else if (live->outbox_count > 0 || count > SHARE_MAX) {
		outbox_add(room, job_new(stanza, to, count, ticket));
	} else {
		live_busy_begin(room);
		route_many(&stanza, to, count, ticket);
		live_busy_end(room);
	}
}

void
live_send_one(struct room *room, struct iris_stanza **stanza_p, const struct iris_jid *to)
{
	live_send(room, stanza_p, to, 1, NULL);
}

bool
live_is_congested(const struct room *room)
{
	return room->live && room->live->outbox_count >= OUTBOX_MAX;
}

/* --- what is held for who is entering --- */

void
arrival_hold(struct room_arrival *arrival, struct iris_stanza *stanza)
{
	struct room_held *held;

	if (arrival->held_count >= HELD_MAX) {
		arrival->overrun = true; /* its fiber puts it out: it would have missed something */
		return;
	}
	held = iris_malloc(sizeof(*held));
	stanza_freeze(stanza);
	held->stanza = stanza_ref(stanza);
	STAILQ_INSERT_TAIL(&arrival->held, held, link);
	arrival->held_count++;
}

static struct iris_stanza *
held_take(struct room_arrival *arrival)
{
	struct room_held *held = STAILQ_FIRST(&arrival->held);
	struct iris_stanza *stanza = held->stanza;

	STAILQ_REMOVE_HEAD(&arrival->held, link);
	arrival->held_count--;
	free(held);
	return stanza;
}

void
arrival_flush(struct room_arrival *arrival)
{
	while (arrival->session && !STAILQ_EMPTY(&arrival->held)) {
		struct iris_stanza *stanza = held_take(arrival);

		live_send_one(arrival->room, &stanza, &arrival->session->jid);
	}
}

void
arrival_drop(struct room_arrival *arrival)
{
	while (!STAILQ_EMPTY(&arrival->held)) {
		struct iris_stanza *stanza = held_take(arrival);

		stanza_unref(&stanza);
	}
}

/* --- life --- */

struct room_live *
live_of(struct room *room)
{
	struct room_live *live = room->live;

	if (live)
		return live;
	live = room->live = iris_calloc(1, sizeof(*live));
	live->room = room;
	live->drain.fn = live_drain;
	TAILQ_INIT(&live->occupants);
	TAILQ_INIT(&live->shown);
	LIST_INIT(&live->arrivals);
	STAILQ_INIT(&live->inbox);
	STAILQ_INIT(&live->outbox);
	STAILQ_INIT(&live->said);
	TAILQ_INIT(&live->relays);
	return live;
}

static void
live_free(struct room_live *live)
{
	IRIS_ASSERT(TAILQ_EMPTY(&live->occupants) && LIST_EMPTY(&live->arrivals));
	IRIS_ASSERT(live->busy == 0 && live->inbox_count == 0 && live->outbox_count == 0 &&
		    live->said_count == 0);
	worker_turn_cancel(&live->drain);
	timer_stop(&live->relay_timer);
	if (live->subject)
		stanza_unref(&live->subject);
	free(live);
}

void
room_live_free(struct room *room)
{
	if (room->live)
		live_free(room->live);
	room->live = NULL;
	hash_free(&room->occupants);
	hash_free(&room->bares);
	hash_free(&room->sessions);
	hash_free(&room->relayed);
	free(room->members);
	free(room->addresses);
}
