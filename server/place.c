/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places at their home worker: loading, the inbox that keeps the order of what comes meanwhile, and
 * letting go of what is idle.  It knows no kind of place, and judges nothing that is delivered.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/place.h"
#include "worker_private.h"

enum { METRIC_PLACES, METRIC_LOADS, METRIC_FAILURES };

struct iris_place_waiter {
	TAILQ_ENTRY(iris_place_waiter) link;
	struct iris_wait wait;
};

struct iris_place_parcel {
	STAILQ_ENTRY(iris_place_parcel) link;
	struct iris_ticket *ticket;
	struct iris_delivery delivery; /* its text follows */
	char text[];
};

static struct iris_places *places_opened; /* main thread */

static struct iris_places_home *
places_home(struct iris_places *places)
{
	return &places->homes[worker_index() + 1];
}

static void
places_metric(struct iris_places *places, unsigned which, int64_t amount)
{
	metric_add(&places->kind->metrics[which], amount);
}

struct iris_place *
place_lookup(struct iris_places *places, struct iris_str key)
{
	struct iris_hash_node *node = hash_find(&places_home(places)->table, key);

	return node ? IRIS_CONTAINER(node, struct iris_place, node) : NULL;
}

struct iris_place *
place_find(struct iris_places *places, struct iris_str key)
{
	struct iris_place *place = place_lookup(places, key);

	return place && place->state == IRIS_PLACE_READY ? place : NULL;
}

size_t
places_count(struct iris_places *places)
{
	return places_home(places)->table.count;
}

void
places_each(struct iris_places *places, void (*fn)(struct iris_place *place, void *arg), void *arg)
{
	HASH_FOREACH(node, &places_home(places)->table) {
		struct iris_place *place = IRIS_CONTAINER(node, struct iris_place, node);

		if (place->state == IRIS_PLACE_READY)
			fn(place, arg);
	}
}

/* --- what waits for the load --- */

static void
parcel_add(struct iris_place *place, const struct iris_delivery *delivery,
	   struct iris_ticket *ticket)
{
	struct iris_place_parcel *parcel = iris_malloc(sizeof(*parcel) + delivery_text(delivery));

	delivery_keep(&parcel->delivery, delivery, parcel->text);
	parcel->ticket = ticket_ref(ticket);
	STAILQ_INSERT_TAIL(&place->inbox, parcel, link);
	place->inbox_count++;
}

static struct iris_place_parcel *
parcel_take(struct iris_place *place)
{
	struct iris_place_parcel *parcel = STAILQ_FIRST(&place->inbox);

	if (parcel)
		STAILQ_REMOVE_HEAD(&place->inbox, link);
	return parcel;
}

static void
parcel_free(struct iris_place_parcel *parcel)
{
	delivery_let_go(&parcel->delivery);
	ticket_unref(&parcel->ticket);
	free(parcel);
}

/* --- a place's life --- */

static struct iris_place *
place_new(struct iris_places *places, struct iris_str key)
{
	size_t size = places->kind->size;
	struct iris_place *place = iris_calloc(1, size + key.len + 1);
	char *text = (char *)place + size;

	memcpy(text, key.base, key.len);
	place->places = places;
	place->state = IRIS_PLACE_LOADING;
	TAILQ_INIT(&place->waiters);
	STAILQ_INIT(&place->inbox);
	hash_insert(&places_home(places)->table, &place->node, (struct iris_str){ text, key.len });
	places_metric(places, METRIC_PLACES, 1);
	if (places->kind->init)
		places->kind->init(place);
	return place;
}

static void
place_remove(struct iris_place *place, enum iris_place_state state)
{
	place->state = state;
	hash_remove(&places_home(place->places)->table, &place->node);
}

static void
place_free(struct iris_place *place)
{
	IRIS_ASSERT(place->holds == 0 && STAILQ_EMPTY(&place->inbox));
	IRIS_ASSERT(place->state != IRIS_PLACE_LOADING);
	bool before = transit_begin(false); /* neither is what has to be written now */
	place->places->kind->unload(place);
	transit_end(before);
	if (place->state == IRIS_PLACE_READY)
		place_remove(place, IRIS_PLACE_GONE);
	places_metric(place->places, METRIC_PLACES, -1);
	free(place);
}

static void
place_leave_idle(struct iris_place *place)
{
	TAILQ_REMOVE(&places_home(place->places)->idle, place, link);
	place->is_idle = false;
}

static void
idle_drop(struct iris_place *place)
{
	place_leave_idle(place);
	place_free(place);
}

static void
idle_sweep(void *arg)
{
	struct iris_places *places = arg;
	struct iris_places_home *home = places_home(places);
	int64_t keep = places->kind->bound(IRIS_PLACE_KEEP), now = worker_now_ms();
	struct iris_place *first;

	while ((first = TAILQ_FIRST(&home->idle)) != NULL && first->idle_since_ms + keep <= now)
		idle_drop(first);
	if (first)
		timer_start(&home->sweep, first->idle_since_ms + keep - now, idle_sweep, places);
}

static void
idle_add(struct iris_place *place)
{
	struct iris_places *places = place->places;
	struct iris_places_home *home = places_home(places);

	place->is_idle = true;
	place->idle_since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&home->idle, place, link);
	if (home->closing)
		idle_drop(place);
	else if (!timer_is_running(&home->sweep))
		timer_start(&home->sweep, places->kind->bound(IRIS_PLACE_KEEP), idle_sweep, places);
}

void
place_hold(struct iris_place *place)
{
	if (place->is_idle)
		place_leave_idle(place);
	place->holds++;
}

void
place_release(struct iris_place *place)
{
	IRIS_ASSERT(place->holds > 0);
	if (--place->holds > 0)
		return;
	if (place->state == IRIS_PLACE_READY)
		idle_add(place);
	else
		place_free(place);
}

/* Makes room when there are too many; false: all of them are in use. */
static bool
places_make_room(struct iris_places *places)
{
	struct iris_places_home *home = places_home(places);

	if (home->closing)
		return false;
	if (home->table.count < (size_t)places->kind->bound(IRIS_PLACE_MAX))
		return true;
	if (!TAILQ_EMPTY(&home->idle)) {
		idle_drop(TAILQ_FIRST(&home->idle));
		return true;
	}
	places_metric(places, METRIC_FAILURES, 1);
	return false;
}

/* --- loading --- */

static void
place_take(struct iris_place *place, const struct iris_delivery *delivery,
	   struct iris_ticket *ticket)
{
	bool before = transit_begin(delivery->stanza->transit);

	place_hold(place); /* what follows may make room for another one */
	place->places->kind->receive(place, delivery, ticket);
	place_release(place);
	transit_end(before);
}

/* failure: why it could not be read, or IRIS_NO_ERROR */
static void
inbox_flush(struct iris_place *place, enum iris_condition failure)
{
	struct iris_place_parcel *parcel;

	while ((parcel = parcel_take(place)) != NULL) {
		if (place->state == IRIS_PLACE_READY)
			place_take(place, &parcel->delivery, parcel->ticket);
		else if (failure == IRIS_NO_ERROR)
			place->places->kind->absent(&parcel->delivery, parcel->ticket);
		else
			route_error(&parcel->delivery, failure);
		place->inbox_count--; /* afterwards: what comes meanwhile joins the end */
		parcel_free(parcel);
	}
}

static void
load_finish(struct iris_place *place, enum iris_condition failure)
{
	struct iris_place_waiter *waiter;

	inbox_flush(place, failure);
	while ((waiter = TAILQ_FIRST(&place->waiters)) != NULL) {
		TAILQ_REMOVE(&place->waiters, waiter, link);
		wait_done(&waiter->wait);
	}
}

/* A load is nobody's, whatever is in transit that asks for the place. */
static enum iris_place_found
place_load(struct iris_place *place)
{
	bool before = transit_begin(false);
	enum iris_place_found found = place->places->kind->load(place);

	transit_end(before);
	return found;
}

/* The place is held by the caller. */
static void
load_run(struct iris_place *place)
{
	enum iris_place_found found = place_load(place);
	bool failed = found == IRIS_PLACE_FAILED;

	if (place->state == IRIS_PLACE_GONE) { /* forgotten while it was loaded */
		inbox_flush(place, IRIS_NO_ERROR);
		return;
	}
	places_metric(place->places, failed ? METRIC_FAILURES : METRIC_LOADS, 1);
	place->found = found;
	if (found == IRIS_PLACE_FOUND)
		place->state = IRIS_PLACE_READY;
	else
		place_remove(place, IRIS_PLACE_ABSENT);
	load_finish(place, failed ? IRIS_INTERNAL_SERVER_ERROR : IRIS_NO_ERROR);
}

static void
load_fiber(void *arg)
{
	struct iris_place *place = arg;

	load_run(place);
	place_release(place);
}

static void
load_start(struct iris_place *place)
{
	place_hold(place);
	if (fiber_start_spare(place->places->kind->name, load_fiber, place))
		return;
	place->found = IRIS_PLACE_FAILED;
	place_remove(place, IRIS_PLACE_ABSENT);
	places_metric(place->places, METRIC_FAILURES, 1);
	load_finish(place, IRIS_RESOURCE_CONSTRAINT);
	place_release(place);
}

/* Somebody else loads it. */
static void
load_await(struct iris_place *place)
{
	struct iris_place_waiter waiter;

	wait_init(&waiter.wait);
	TAILQ_INSERT_TAIL(&place->waiters, &waiter, link);
	wait_for(&waiter.wait, place->places->kind->name);
}

struct iris_place *
place_get(struct iris_places *places, struct iris_str key, enum iris_place_found *found_r)
{
	enum iris_place_found ignored, *found = found_r ? found_r : &ignored;
	struct iris_place *place = place_lookup(places, key);

	*found = IRIS_PLACE_FAILED;
	if (place) {
		place_hold(place);
		if (place->state == IRIS_PLACE_LOADING)
			load_await(place);
	} else {
		if (!places_make_room(places))
			return NULL;
		place = place_new(places, key);
		place_hold(place);
		load_run(place);
	}
	if (place->state == IRIS_PLACE_READY) {
		*found = IRIS_PLACE_FOUND;
		return place;
	}
	*found = place->state == IRIS_PLACE_ABSENT ? place->found : IRIS_PLACE_NOBODY;
	place_release(place);
	return NULL;
}

void
place_receive(struct iris_places *places, struct iris_str key,
	      const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	const struct iris_place_kind *kind = places->kind;
	struct iris_place *place = place_lookup(places, key);
	bool is_new = !place;

	if (place && place->state == IRIS_PLACE_READY && place->inbox_count == 0) {
		place_take(place, delivery, ticket);
		return;
	}
	if ((is_new || place->state == IRIS_PLACE_LOADING) && kind->is_worth_loading &&
	    !kind->is_worth_loading(delivery->stanza))
		return;
	if ((is_new && !places_make_room(places)) ||
	    (place && place->inbox_count >= kind->bound(IRIS_PLACE_INBOX))) {
		route_error(delivery, IRIS_RESOURCE_CONSTRAINT);
		return;
	}
	if (is_new)
		place = place_new(places, key);
	parcel_add(place, delivery, ticket);
	if (is_new)
		load_start(place);
}

void
place_forget(struct iris_place *place)
{
	enum iris_place_state before = place->state;

	if (before != IRIS_PLACE_LOADING && before != IRIS_PLACE_READY)
		return;
	place_hold(place);
	place_remove(place, IRIS_PLACE_GONE);
	if (before == IRIS_PLACE_LOADING)
		load_finish(place, IRIS_NO_ERROR);
	place_release(place);
}

/* --- start and stop --- */

void
places_open(struct iris_places *places)
{
	for (size_t i = 0; i < IRIS_COUNT(places->homes); i++)
		TAILQ_INIT(&places->homes[i].idle);
	places->next = places_opened;
	places_opened = places;
}

static void
home_close(void *arg)
{
	struct iris_places *places = arg;
	struct iris_places_home *home = places_home(places);

	home->closing = true;
	timer_stop(&home->sweep);
	while (!TAILQ_EMPTY(&home->idle))
		idle_drop(TAILQ_FIRST(&home->idle));
}

void
places_shut(void)
{
	for (struct iris_places *places = places_opened; places; places = places->next)
		workers_each(home_close, places);
}

void
places_close(struct iris_places *places)
{
	struct iris_places **link = &places_opened;

	while (*link != places)
		link = &(*link)->next;
	*link = places->next;
	for (size_t i = 0; i < IRIS_COUNT(places->homes); i++) {
		hash_free(&places->homes[i].table);
		places->homes[i] = (struct iris_places_home){ .closing = false };
	}
}
