/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: what waits for one domain of theirs from one of ours (the queue), and what was handed to
 * a link and is not acknowledged (the window).  The window is older than the queue.  Of a long
 * queue only the head is in memory; then comes the gap, whose stanzas are rows of the outbox only,
 * and behind it what came later and is no row.  Home worker of the remote.
 *
 * It does not know how links come and go (remote.c), nor what acknowledges (acks.c).
 */
#include <stdlib.h>

#include "modules/federation/outbox.h"
#include "modules/federation/parcel.h"
#include "xep/xep0203_delay.h"

#define ROWS_LOW 100 /* in memory, of a link that is up, before the next page is read */
#define DELAY_MS 10000 /* who gets it later than that is told */
#define RETRY_MS 1000 /* after the vault could not be read */

/* --- lists --- */

static void
parcels_count(struct parcels *parcels, const struct parcel *parcel, bool comes)
{
	parcels->count = comes ? parcels->count + 1 : parcels->count - 1;
	parcels->size = comes ? parcels->size + parcel->size : parcels->size - parcel->size;
}

static struct parcel_list *
list_of_kind(struct route *route, const struct parcel *parcel)
{
	return parcel->row ? &route->rows : &route->perishables;
}

/* At the end of the queue, or before the gap. */
static void
queue_add(struct route *route, struct parcel *parcel, struct parcel *before)
{
	if (before)
		TAILQ_INSERT_BEFORE(before, parcel, link);
	else
		TAILQ_INSERT_TAIL(&route->queue.list, parcel, link);
	TAILQ_INSERT_TAIL(list_of_kind(route, parcel), parcel, kind);
	parcels_count(&route->queue, parcel, true);
	route->rows_queued += parcel->row != 0;
	parcel->route = route;
	federation_count(METRIC_WAITING, 1);
}

/* From the queue, but not from its kind. */
static void
queue_leave(struct route *route, struct parcel *parcel)
{
	if (route->gap == parcel)
		route->gap = TAILQ_NEXT(parcel, link);
	TAILQ_REMOVE(&route->queue.list, parcel, link);
	parcels_count(&route->queue, parcel, false);
	route->rows_queued -= parcel->row != 0;
	federation_count(METRIC_WAITING, -1);
}

static void
window_add(struct route *route, struct parcel *parcel)
{
	parcel->is_handed = true;
	TAILQ_INSERT_TAIL(&route->window.list, parcel, link);
	parcels_count(&route->window, parcel, true);
}

static void
window_leave(struct route *route, struct parcel *parcel)
{
	TAILQ_REMOVE(&route->window.list, parcel, link);
	parcels_count(&route->window, parcel, false);
	parcel->is_handed = false;
}

static bool
is_husk(const struct parcel *parcel)
{
	return !parcel->delivery.stanza;
}

/* What was handed leaves a husk in its place: how far the peer got is told in numbers. */
static void
leave_husk(struct route *route, struct parcel *parcel)
{
	struct parcel *husk = parcel_new_husk();

	husk->route = route;
	husk->is_handed = true;
	TAILQ_INSERT_BEFORE(parcel, husk, link);
	parcels_count(&route->window, husk, true);
	window_leave(route, parcel);
}

/* In none of its lists any more. */
static void
route_forget(struct route *route, struct parcel *parcel)
{
	if (parcel->is_handed)
		leave_husk(route, parcel);
	else
		queue_leave(route, parcel);
	TAILQ_REMOVE(list_of_kind(route, parcel), parcel, kind);
	parcel->route = NULL;
}

/* --- routes --- */

void
route_recover(struct route *route, int64_t count, int64_t until_ms)
{
	if (route->read_id > 0)
		return; /* what is there is newer, and was found when it was made */
	if (!route->has_tail) {
		route->has_tail = true;
		route->tail_id = vault_next_id(IRIS_SEQ_LOG);
		route->gap = TAILQ_FIRST(&route->queue.list);
		for (struct parcel *later = route->gap; later; later = TAILQ_NEXT(later, link))
			later->behind = route->tail_id;
	}
	route->tail_count += count;
	route->tail_until_ms = until_ms;
}

struct route *
route_new(struct remote *remote, struct iris_str local)
{
	struct route *route = iris_calloc(1, sizeof(*route) + local.len + 1);

	memcpy(route->local, local.base, local.len);
	route->remote = remote;
	route->map_serial = gate_serial();
	TAILQ_INIT(&route->queue.list);
	TAILQ_INIT(&route->window.list);
	TAILQ_INIT(&route->rows);
	TAILQ_INIT(&route->perishables);
	if (!recover_is_done())
		route_recover(route, 0, 0);
	return route;
}

/* What the vault still has to do with a parcel outlives the route. */
void
route_free(struct route **route_p)
{
	struct route *route = *route_p;
	struct parcel *parcel;

	*route_p = NULL;
	IRIS_ASSERT(!route->link && !route->is_reading);
	if (route->acks)
		acks_drop(route->acks);
	while ((parcel = TAILQ_FIRST(&route->queue.list)) != NULL) {
		route_forget(route, parcel);
		if (parcel_may_be_handed(parcel))
			parcel_free(&parcel);
	}
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
	return !route->link && /* husks have no size */
	       (route->queue.count > 0 || route->window.size > 0 || route->has_tail);
}

/* --- what has arrived --- */

/* All rows up to one that has arrived have: they are handed in the order of their ids. */
static void
route_remove_arrived(struct route *route)
{
	const struct outbox_route place = { route_remote(route), route_local(route) };

	if (route->arrived_id <= route->removed_id)
		return;
	if (outbox_remove_until(&place, route->arrived_id) == IRIS_VAULT_OK)
		route->removed_id = route->arrived_id;
	else
		route_owes(route); /* the vault takes nothing now */
}

void
route_settle_debts(struct route *route)
{
	route_remove_arrived(route);
}

static void
parcel_arrived(struct route *route, struct parcel *parcel)
{
	if (parcel->row > route->arrived_id)
		route->arrived_id = parcel->row;
	if (!is_husk(parcel))
		TAILQ_REMOVE(list_of_kind(route, parcel), parcel, kind);
	parcel_free(&parcel);
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
 * A row, for a peer that remembers ids; and what waited for long says since when (XEP-0203), where
 * nothing says so yet.
 */
static void
send_row(struct route *route, const struct parcel *parcel)
{
	struct iris_delivery delivery = parcel->delivery;
	struct iris_strbuf extra = STRBUF_INIT(arena_new());
	int64_t since_ms = log_id_time_ms(parcel->row);

	strbuf_add(&extra, delivery.extra);
	if (route->link->tells_ids)
		strbuf_printf(&extra, "<outbox xmlns='" NS_OUTBOX "' id='%lld'/>",
			      (long long)parcel->row);
	if (worker_wall_ms() - since_ms > DELAY_MS && delivery.stanza->kind == IRIS_MESSAGE &&
	    !element_child(delivery.stanza->root, "delay", NS_DELAY))
		strbuf_printf(&extra, "<delay xmlns='" NS_DELAY "' from='%s' stamp='%.*s'/>",
			      route->local,
			      IRIS_STR_FMT(datetime_format(extra.arena, since_ms)));
	delivery.extra = strbuf_str(&extra);
	link_send(route->link, &delivery);
	arena_unref(&extra.arena);
}

/*
 * Handed to the link.  Without XEP-0198 nothing tells that it arrived: it counts as acknowledged,
 * and is kept no longer.
 */
static void
route_hand(struct route *route, struct parcel *parcel)
{
	if (parcel->row)
		send_row(route, parcel);
	else
		link_send(route->link, &parcel->delivery);
	federation_count(METRIC_STANZAS_OUT, 1);
	if (route->acks)
		window_add(route, parcel);
	else
		parcel_arrived(route, parcel);
}

static void route_read_more(struct route *route);

static void
route_pump(struct route *route)
{
	struct parcel *parcel;

	while (route_may_hand(route) && (parcel = TAILQ_FIRST(&route->queue.list)) != NULL &&
	       parcel != route->gap && parcel_may_be_handed(parcel)) {
		queue_leave(route, parcel);
		route_hand(route, parcel);
	}
	if (route->has_tail && route->rows_queued < ROWS_LOW && route_may_hand(route))
		route_read_more(route);
	if (!route->acks)
		route_remove_arrived(route);
}

void
route_committed(struct parcel *parcel, bool failed)
{
	struct route *route = parcel->route;

	if (failed) {
		route_forget(route, parcel);
		parcel_free(&parcel);
	}
	route_pump(route);
}

/* --- what comes --- */

/*
 * SECURITY: a domain that cannot be reached must not make us keep all that is for it. Rows take
 * half of the memory at most: they can be read again, what is perishable cannot.
 */
static bool
queue_is_full(const struct route *route, bool for_row)
{
	size_t most = (size_t)option_int(&federation_self, OPT_QUEUE_SIZE);
	unsigned count = for_row ? route->rows_queued : route->queue.count - route->rows_queued;

	return count >= (size_t)option_int(&federation_self, OPT_QUEUE_STANZAS) ||
	       route->queue.size >= (for_row ? most / 2 : most);
}

static enum iris_condition
receive_perishable(struct route *route, struct parcel *parcel)
{
	if (queue_is_full(route, false)) {
		parcel_free(&parcel);
		return IRIS_RESOURCE_CONSTRAINT;
	}
	parcel->behind = route->has_tail ? route->tail_id : 0;
	queue_add(route, parcel, NULL);
	if (route->has_tail && !route->gap)
		route->gap = parcel;
	route_pump(route);
	return IRIS_NO_ERROR;
}

/* It is handed when its row is committed. What the memory does not take is read when it is time. */
static void
receive_row(struct route *route, struct parcel *parcel)
{
	if (!route->has_tail && !queue_is_full(route, true)) {
		route->read_id = parcel->row;
		queue_add(route, parcel, NULL);
		return;
	}
	route->has_tail = true;
	route->tail_id = parcel->row;
	route->tail_count++;
}

enum iris_condition
route_receive(struct route *route, const struct iris_delivery *delivery,
	      struct iris_ticket *ticket)
{
	struct parcel *parcel;

	if (!outbox_takes(delivery->stanza)) {
		if (route->queue.count == 0 && !route->acks && !route->has_tail &&
		    route_may_hand(route)) {
			link_send(route->link, delivery);
			federation_count(METRIC_STANZAS_OUT, 1);
			return IRIS_NO_ERROR;
		}
		return receive_perishable(route, parcel_new(delivery));
	}
	/* SECURITY: nor may clients fill the vault. */
	if (route->tail_count >= option_int(&federation_self, OPT_OUTBOX_STANZAS))
		return IRIS_RESOURCE_CONSTRAINT;
	parcel = parcel_new(delivery);
	switch (parcel_keep(parcel, route, ticket)) {
	case IRIS_VAULT_OK:
		receive_row(route, parcel);
		return IRIS_NO_ERROR;
	case IRIS_VAULT_REFUSED: /* a role without a vault */
		return receive_perishable(route, parcel);
	case IRIS_VAULT_BUSY:
		parcel_free(&parcel);
		return IRIS_RESOURCE_CONSTRAINT;
	case IRIS_VAULT_FAILED:
	case IRIS_VAULT_ERASED:
		break;
	}
	parcel_free(&parcel);
	return IRIS_INTERNAL_SERVER_ERROR;
}

/* --- the tail --- */

/* Before what came after it. */
static void
take_row(struct route *route, struct outbox_row *row)
{
	enum iris_condition condition;
	struct parcel *parcel;
	bool may_leave;

	route->read_id = row->id;
	if (route->tail_count > 0)
		route->tail_count--;
	if (!row->stanza)
		return;
	parcel = parcel_new_from_row(row->stanza, row->id, row->until_ms);
	/* The map may be another one than when it was kept. */
	may_leave = policy_may_still_leave(row->stanza, &row->stanza->to, &condition);
	stanza_unref(&row->stanza);
	if (!may_leave) {
		if (!parcel_remove_row(parcel, condition))
			parcel_free(&parcel); /* when it is read again */
		return;
	}
	while (route->gap && route->gap->behind < row->id)
		route->gap = TAILQ_NEXT(route->gap, link);
	queue_add(route, parcel, route->gap);
}

/* One page. False: the vault has failed. */
static bool
read_page(struct route *route)
{
	const struct outbox_route place = { route_remote(route), route_local(route) };
	int64_t last = route->tail_id;
	struct outbox_page page;

	if (!outbox_read(&place, route->read_id, &page))
		return false;
	for (size_t i = 0; i < page.count; i++)
		take_row(route, &page.rows[i]);
	if (page.count < OUTBOX_PAGE && route->tail_id == last) {
		route->has_tail = false;
		route->tail_count = 0;
		route->gap = NULL;
	}
	return true;
}

static void
route_read(void *arg)
{
	struct route *route = arg;
	bool more = true;

	while (more && route->has_tail && !worker_is_stopping()) {
		if (read_page(route))
			route_pump(route);
		else if (!fiber_sleep(RETRY_MS))
			break;
		more = route->rows_queued < ROWS_LOW && (route_may_hand(route) ||
							 route->rows_queued == 0);
	}
	route->is_reading = false;
	route_read_ended(route);
}

static void
route_read_more(struct route *route)
{
	if (route->is_reading)
		return;
	route->is_reading = true;
	if (!remote_start_fiber("outbox", route_read, route))
		route->is_reading = false; /* with what comes, or the next tick */
}

/* --- links and their acknowledgements --- */

/* What was handed under an agreement that was resumed, and has not arrived, is sent once more. */
static void
route_send_again(struct route *route)
{
	struct parcel *parcel, *last = TAILQ_LAST(&route->window.list, parcel_list);
	bool more = last != NULL;

	while (more) {
		parcel = TAILQ_FIRST(&route->window.list);
		more = parcel != last;
		window_leave(route, parcel);
		if (is_husk(parcel))
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
		window_leave(route, parcel);
		if (is_husk(parcel)) {
			parcel_free(&parcel);
			continue;
		}
		TAILQ_INSERT_HEAD(&route->queue.list, parcel, link);
		parcels_count(&route->queue, parcel, true);
		route->rows_queued += parcel->row != 0;
		federation_count(METRIC_WAITING, 1);
		federation_count(METRIC_UNACKNOWLEDGED, 1);
	}
}

void
route_acknowledge(struct route *route, size_t count)
{
	struct parcel *parcel;

	while (count-- > 0 && (parcel = TAILQ_FIRST(&route->window.list)) != NULL) {
		window_leave(route, parcel);
		parcel_arrived(route, parcel);
	}
	route_remove_arrived(route);
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

static bool
route_give_up(struct route *route, struct parcel *parcel, enum iris_condition condition)
{
	if (parcel->row && !parcel_remove_row(parcel, condition))
		return false;
	route_forget(route, parcel);
	if (parcel->row)
		return true; /* the rest when it is gone */
	return_to_sender(&parcel->delivery, condition);
	parcel_free(&parcel);
	return true;
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

/* Where the vault takes nothing now, its row stays, and is judged when it is read again. */
static void
parcels_judge(struct route *route, struct parcels *parcels)
{
	struct parcel *parcel, *next;
	enum iris_condition condition;

	for (parcel = TAILQ_FIRST(&parcels->list); parcel; parcel = next) {
		bool is_committed;

		next = TAILQ_NEXT(parcel, link);
		if (is_husk(parcel) || parcel_may_still_leave(parcel, &condition))
			continue;
		federation_count(METRIC_REFUSED, 1);
		is_committed = parcel_may_be_handed(parcel);
		if (route_give_up(route, parcel, condition))
			continue;
		route_forget(route, parcel);
		if (is_committed)
			parcel_free(&parcel);
	}
}

/* An answer that waited is lost: nobody knows any more what it is one to. */
void
route_judge_again(struct route *route)
{
	if (route->map_serial == gate_serial())
		return;
	parcels_judge(route, &route->queue);
	if (route->link) /* what is on its way is not called back; but it is not sent again */
		return;
	parcels_judge(route, &route->window);
	route->map_serial = gate_serial();
}

void
route_return_all(struct route *route, enum iris_condition condition)
{
	struct parcel *parcel, *next;

	if (route->acks)
		acks_drop(route->acks);
	for (parcel = TAILQ_FIRST(&route->queue.list); parcel; parcel = next) {
		next = TAILQ_NEXT(parcel, link);
		(void)route_give_up(route, parcel, condition); /* else with the next dial */
	}
	if (route->has_tail && route->rows_queued == 0)
		route_read_more(route);
}

static void
return_expired_of(struct route *route, struct parcel_list *kind)
{
	struct parcel *parcel;

	while ((parcel = TAILQ_FIRST(kind)) != NULL && parcel_is_expired(parcel) &&
	       route_give_up(route, parcel, IRIS_REMOTE_SERVER_TIMEOUT)) {
	}
}

void
route_return_expired(struct route *route)
{
	if (route->link)
		return;
	return_expired_of(route, &route->perishables);
	return_expired_of(route, &route->rows);
	if (route->has_tail && route->rows_queued == 0 && TAILQ_EMPTY(&route->rows) &&
	    route->tail_until_ms <= worker_wall_ms())
		route_read_more(route);
}
