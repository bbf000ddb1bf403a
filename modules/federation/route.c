/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: what waits for one domain of theirs from one of ours (the queue), and what was handed to
 * a link and is not acknowledged (the window), in this order: the window is older than the queue.
 * Home worker of the remote.  It does not know how links come and go (remote.c), nor what
 * acknowledges (acks.c).
 */
#include <stdlib.h>

#include "modules/federation/link_private.h"

/* A stanza that waits, or was handed. */
struct parcel {
	TAILQ_ENTRY(parcel) link;
	struct iris_delivery delivery; /* stanza NULL: returned, and only counted any more */
	int64_t until_ms;
	size_t size;
	char text[];
};

/* --- errors to senders --- */

/* Presence to all contacts, and probes: the absence of their servers is no news to the client. */
static bool
may_be_returned(const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;

	return stanza->kind != IRIS_PRESENCE ||
	       (jid_is_none(&delivery->to) && stanza->type != IRIS_PROBE);
}

struct returned {
	struct iris_mail mail;
	struct iris_stanza *error;
};

static void
returned_arrives(struct iris_mail *mail)
{
	struct returned *returned = IRIS_CONTAINER(mail, struct returned, mail);

	route_stanza(&returned->error, NULL);
	free(returned);
}

/* From the loop: who hears of it may send again, into what is being walked here. */
void
return_to_sender(const struct iris_delivery *delivery, enum iris_condition condition)
{
	struct iris_stanza *error = NULL;
	struct returned *returned;

	federation_count(METRIC_RETURNED, 1);
	if (may_be_returned(delivery))
		error = stanza_error(delivery->stanza,
				     &(struct iris_refusal){ .condition = condition });
	if (!error)
		return;
	if (!jid_is_none(&delivery->to))
		stanza_set_from(error, &delivery->to);
	returned = iris_calloc(1, sizeof(*returned));
	returned->mail.fn = returned_arrives;
	returned->error = error;
	worker_post(worker_self(), &returned->mail);
}

/* --- parcels --- */

static struct parcel *
parcel_new(const struct iris_delivery *delivery)
{
	size_t text = delivery_text(delivery);
	struct parcel *parcel = iris_malloc(sizeof(*parcel) + text);

	delivery_keep(&parcel->delivery, delivery, parcel->text);
	parcel->until_ms = worker_now_ms() + option_int(&federation_self, OPT_EXPIRY);
	parcel->size = sizeof(*parcel) + text + arena_size(delivery->stanza->arena);
	return parcel;
}

static void
parcel_free(struct parcel **parcel_p)
{
	struct parcel *parcel = *parcel_p;

	*parcel_p = NULL;
	if (parcel->delivery.stanza)
		delivery_let_go(&parcel->delivery);
	free(parcel);
}

static bool
parcel_is_husk(const struct parcel *parcel)
{
	return !parcel->delivery.stanza;
}

static void
parcel_return(struct parcel *parcel, enum iris_condition condition)
{
	if (parcel_is_husk(parcel))
		return;
	return_to_sender(&parcel->delivery, condition);
	delivery_let_go(&parcel->delivery);
}

static void
parcels_add(struct parcels *parcels, struct parcel *parcel)
{
	TAILQ_INSERT_TAIL(&parcels->list, parcel, link);
	parcels->count++;
	parcels->size += parcel->size;
}

static struct parcel *
parcels_take(struct parcels *parcels)
{
	struct parcel *parcel = TAILQ_FIRST(&parcels->list);

	if (!parcel)
		return NULL;
	TAILQ_REMOVE(&parcels->list, parcel, link);
	parcels->count--;
	parcels->size -= parcel->size;
	return parcel;
}

/* --- routes --- */

struct route *
route_new(struct remote *remote, struct iris_str local)
{
	struct route *route = iris_calloc(1, sizeof(*route) + local.len + 1);

	memcpy(route->local, local.base, local.len);
	route->remote = remote;
	route->map_serial = gate_serial();
	TAILQ_INIT(&route->queue.list);
	TAILQ_INIT(&route->window.list);
	return route;
}

void
route_free(struct route **route_p)
{
	struct route *route = *route_p;
	struct parcel *parcel;

	*route_p = NULL;
	IRIS_ASSERT(!route->link);
	if (route->acks)
		acks_drop(route->acks);
	federation_count(METRIC_WAITING, -(int64_t)route->queue.count);
	while ((parcel = parcels_take(&route->queue)) != NULL)
		parcel_free(&parcel);
	free(route);
}

struct iris_str
route_local(const struct route *route)
{
	return str_from(route->local);
}

bool
route_is_waiting(const struct route *route)
{
	return !route->link && (route->queue.count > 0 || route->window.count > 0);
}

/* --- another map --- */

static bool
parcel_may_still_leave(const struct parcel *parcel, enum iris_condition *condition_r)
{
	const struct iris_delivery *delivery = &parcel->delivery;
	const struct iris_jid *to =
		jid_is_none(&delivery->to) ? &delivery->stanza->to : &delivery->to;

	return policy_may_still_leave(delivery->stanza, to, condition_r);
}

static void
parcels_judge(struct parcels *parcels)
{
	struct parcel *parcel;
	enum iris_condition condition;

	TAILQ_FOREACH(parcel, &parcels->list, link)
		if (!parcel_is_husk(parcel) && !parcel_may_still_leave(parcel, &condition)) {
			federation_count(METRIC_REFUSED, 1);
			parcel_return(parcel, condition);
		}
}

/* Nobody counts those that were never handed. */
static void
queue_drop_husks(struct route *route)
{
	struct parcel *parcel, *next;

	for (parcel = TAILQ_FIRST(&route->queue.list); parcel; parcel = next) {
		next = TAILQ_NEXT(parcel, link);
		if (!parcel_is_husk(parcel))
			continue;
		TAILQ_REMOVE(&route->queue.list, parcel, link);
		route->queue.count--;
		route->queue.size -= parcel->size;
		federation_count(METRIC_WAITING, -1);
		parcel_free(&parcel);
	}
}

/* An answer that waited is lost: nobody knows any more what it is one to. */
void
route_judge_again(struct route *route)
{
	if (route->map_serial == gate_serial())
		return;
	parcels_judge(&route->queue);
	queue_drop_husks(route);
	if (route->link) /* what is on its way is not called back; but it is not sent again */
		return;
	parcels_judge(&route->window);
	route->map_serial = gate_serial();
}

/* --- handing --- */

/* SECURITY: a peer that never acknowledges must not make us keep all that is for it. */
static bool
window_has_room(const struct route *route)
{
	return route->window.count < (size_t)option_int(&federation_self, OPT_WINDOW) &&
	       route->window.size < (size_t)option_int(&federation_self, OPT_QUEUE_SIZE);
}

static bool
route_may_hand(const struct route *route)
{
	return route->link && link_is_up(route->link) && window_has_room(route);
}

/*
 * Handed to the link.  Without XEP-0198 nothing tells that it arrived: it counts as acknowledged,
 * and is kept no longer.
 */
static void
route_hand(struct route *route, struct parcel *parcel)
{
	link_send(route->link, &parcel->delivery);
	federation_count(METRIC_STANZAS_OUT, 1);
	if (route->acks)
		parcels_add(&route->window, parcel);
	else
		parcel_free(&parcel);
}

static void
route_pump(struct route *route)
{
	struct parcel *parcel;

	while (route_may_hand(route) && (parcel = parcels_take(&route->queue)) != NULL) {
		federation_count(METRIC_WAITING, -1);
		route_hand(route, parcel);
	}
}

bool
route_receive(struct route *route, const struct iris_delivery *delivery)
{
	bool may_hand = route->queue.count == 0 && route_may_hand(route);

	if (may_hand && !route->acks) {
		link_send(route->link, delivery);
		federation_count(METRIC_STANZAS_OUT, 1);
		return true;
	}
	if (may_hand) {
		route_hand(route, parcel_new(delivery));
		return true;
	}
	/* SECURITY: a domain that cannot be reached must not make us keep all that is for it. */
	if (route->queue.count >= (size_t)option_int(&federation_self, OPT_QUEUE_STANZAS) ||
	    route->queue.size >= (size_t)option_int(&federation_self, OPT_QUEUE_SIZE))
		return false;
	parcels_add(&route->queue, parcel_new(delivery));
	federation_count(METRIC_WAITING, 1);
	return true;
}

/* --- links and their acknowledgements --- */

/* What was handed under an agreement that was resumed, and has not arrived, is sent once more. */
static void
route_send_again(struct route *route)
{
	struct parcels handed = route->window;
	struct parcel *parcel;

	if (handed.count == 0)
		return;
	TAILQ_INIT(&handed.list);
	TAILQ_CONCAT(&handed.list, &route->window.list, link);
	route->window.count = 0;
	route->window.size = 0;
	while ((parcel = parcels_take(&handed)) != NULL) {
		if (parcel_is_husk(parcel))
			parcel_free(&parcel);
		else
			route_hand(route, parcel);
	}
}

void
route_take_back(struct route *route)
{
	struct parcel *parcel;

	while ((parcel = TAILQ_LAST(&route->window.list, parcel_list)) != NULL) {
		TAILQ_REMOVE(&route->window.list, parcel, link);
		if (parcel_is_husk(parcel)) {
			parcel_free(&parcel);
			continue;
		}
		TAILQ_INSERT_HEAD(&route->queue.list, parcel, link);
		route->queue.count++;
		route->queue.size += parcel->size;
		federation_count(METRIC_WAITING, 1);
		federation_count(METRIC_UNACKNOWLEDGED, 1);
	}
	route->window.count = 0;
	route->window.size = 0;
}

void
route_acknowledge(struct route *route, size_t count)
{
	struct parcel *parcel;

	while (count-- > 0 && (parcel = parcels_take(&route->window)) != NULL)
		parcel_free(&parcel);
	route_pump(route);
}

void
route_begin(struct route *route, struct link *link)
{
	route_judge_again(route);
	route->link = link;
	if (route->acks && route->acks != link->acks)
		acks_drop(route->acks);
	if (route->acks)
		route_send_again(route);
	else if (link->acks)
		acks_bind(link->acks, route);
	route_pump(route);
}

/* --- what cannot be brought --- */

void
route_return_all(struct route *route, enum iris_condition condition)
{
	struct parcel *parcel;

	if (route->acks)
		acks_drop(route->acks);
	federation_count(METRIC_WAITING, -(int64_t)route->queue.count);
	while ((parcel = parcels_take(&route->queue)) != NULL) {
		parcel_return(parcel, condition);
		parcel_free(&parcel);
	}
}

/* What was handed stays in its place as a husk: how far the peer got is told in numbers. */
void
route_return_expired(struct route *route)
{
	int64_t now = worker_now_ms();
	struct parcel *parcel;

	if (route->link)
		return;
	TAILQ_FOREACH(parcel, &route->window.list, link) {
		if (parcel->until_ms > now)
			return;
		parcel_return(parcel, IRIS_REMOTE_SERVER_TIMEOUT);
	}
	if (route->acks) /* nothing is left that could be sent again */
		acks_drop(route->acks);
	while ((parcel = TAILQ_FIRST(&route->queue.list)) != NULL && parcel->until_ms <= now) {
		(void)parcels_take(&route->queue);
		federation_count(METRIC_WAITING, -1);
		parcel_return(parcel, IRIS_REMOTE_SERVER_TIMEOUT);
		parcel_free(&parcel);
	}
}
