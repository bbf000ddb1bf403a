/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remotes: which domains of other servers are known, when they are dialled, and what becomes of
 * what waits when they cannot be reached.  Home worker of the domain.  A fiber of each worker looks
 * after them twice a second, while there are any.  What waits is in route.c.
 */
#include <stdlib.h>

#include <openssl/rand.h>

#include "modules/federation/federation_private.h"
#include "modules/federation/reader.h"

#define TICK_MS 500
#define REST_MS 600000 /* how long it is remembered that a domain could not be reached */

/* Another server's domain. In a list of its home: waiting, or resting, or none of them. */
struct remote {
	struct iris_hash_node node; /* by domain */
	TAILQ_ENTRY(remote) link;
	struct remote_list *list;
	TAILQ_HEAD(, route) routes; /* one for each domain of ours that has talked to it */
	bool dialled;               /* a fiber is at it */
	unsigned failures;          /* in a row */
	int64_t retry_ms;           /* not before; monotonic */
	const char *why;            /* it could not be reached the last time; or NULL */
	enum iris_condition verdict; /* for what comes before that; NO_ERROR: it waits */
	int64_t rest_ms;            /* since when it rests */
	char domain[];
};

TAILQ_HEAD(remote_list, remote);

/* Of one worker. */
struct remotes {
	struct iris_hash table;
	struct remote_list waiting; /* a route of theirs has something and no link */
	struct remote_list resting; /* nothing to do; the longest one first */
	TAILQ_HEAD(, route) debtors; /* rows of theirs are still to be removed */
	unsigned fibers;            /* the last one to leave cleans up */
	bool ticking, closing;
};

static struct remotes homes[WORKER_LIMIT];

static struct remotes *
remotes_here(void)
{
	struct remotes *here = &homes[worker_index()];

	if (!here->waiting.tqh_last) {
		TAILQ_INIT(&here->waiting);
		TAILQ_INIT(&here->resting);
		TAILQ_INIT(&here->debtors);
	}
	return here;
}

struct iris_str
route_remote(const struct route *route)
{
	return str_from(route->remote->domain);
}

/* --- remotes --- */

static struct route *
remote_waiting_route(const struct remote *remote)
{
	struct route *route;

	TAILQ_FOREACH(route, &remote->routes, link_of_remote)
		if (route_is_waiting(route))
			return route;
	return NULL;
}

static bool
remote_is_up(const struct remote *remote)
{
	struct route *route;

	TAILQ_FOREACH(route, &remote->routes, link_of_remote)
		if (route->link)
			return true;
	return false;
}

/* Puts it into the list where it belongs now. */
static void
remote_settle(struct remote *remote)
{
	struct remotes *here = remotes_here();
	struct remote_list *list = NULL;

	if (remote_waiting_route(remote))
		list = &here->waiting;
	else if (!remote->dialled && !remote_is_up(remote))
		list = &here->resting;
	if (remote->list == list)
		return;
	if (remote->list)
		TAILQ_REMOVE(remote->list, remote, link);
	remote->list = list;
	remote->rest_ms = worker_now_ms();
	if (list)
		TAILQ_INSERT_TAIL(list, remote, link);
}

static void
route_pay(struct remotes *here, struct route *route)
{
	if (!route->owes)
		return;
	route->owes = false;
	TAILQ_REMOVE(&here->debtors, route, debtor);
}

void
route_owes(struct route *route)
{
	if (route->owes)
		return;
	route->owes = true;
	TAILQ_INSERT_TAIL(&remotes_here()->debtors, route, debtor);
}

static void
remote_free(struct remotes *here, struct remote *remote)
{
	struct route *route;

	while ((route = TAILQ_FIRST(&remote->routes)) != NULL) {
		TAILQ_REMOVE(&remote->routes, route, link_of_remote);
		route_pay(here, route);
		route_free(&route);
	}
	if (remote->list)
		TAILQ_REMOVE(remote->list, remote, link);
	if (remote->failures > 0)
		federation_count(METRIC_UNREACHABLE, -1);
	hash_remove(&here->table, &remote->node);
	free(remote);
}

static struct remote *
remote_find(struct iris_str domain)
{
	struct iris_hash_node *node = hash_find(&remotes_here()->table, domain);

	return node ? IRIS_CONTAINER(node, struct remote, node) : NULL;
}

static struct remote *
remote_make(struct remotes *here, struct iris_str domain)
{
	struct remote *remote = iris_calloc(1, sizeof(*remote) + domain.len + 1);

	memcpy(remote->domain, domain.base, domain.len);
	TAILQ_INIT(&remote->routes);
	hash_insert(&here->table, &remote->node,
		    (struct iris_str){ remote->domain, domain.len });
	return remote;
}

/* NULL: there are too many of them, and none rests. */
static struct remote *
remote_get(struct iris_str domain)
{
	struct remotes *here = remotes_here();
	struct remote *remote = remote_find(domain);

	if (remote)
		return remote;
	/* SECURITY: clients choose domains; those that nobody needs make room. */
	if (here->table.count >= (size_t)option_int(&federation_self, OPT_MAX_REMOTES)) {
		if (TAILQ_EMPTY(&here->resting))
			return NULL;
		remote_free(here, TAILQ_FIRST(&here->resting));
	}
	return remote_make(here, domain);
}

static struct route *
remote_route(struct remote *remote, struct iris_str local)
{
	struct route *route;

	TAILQ_FOREACH(route, &remote->routes, link_of_remote)
		if (str_is(local, route->local))
			return route;
	route = route_new(remote, local);
	TAILQ_INSERT_TAIL(&remote->routes, route, link_of_remote);
	return route;
}

/* --- dialling --- */

/* Half of it is certain, the rest are dice: whoever lost us at once does not come back at once. */
static int64_t
back_off(unsigned failures)
{
	int64_t delay = option_int(&federation_self, OPT_BACK_OFF),
		most = option_int(&federation_self, OPT_BACK_OFF_MOST);
	uint32_t random = 0;

	for (; failures > 1 && delay < most; failures--)
		delay *= 2;
	if (delay > most)
		delay = most;
	IRIS_ASSERT(RAND_bytes((unsigned char *)&random, sizeof(random)) == 1);
	return delay / 2 + random % (delay / 2 + 1);
}

static void
remote_failed(struct remote *remote, enum dial_outcome outcome, const char *why)
{
	static const enum iris_condition verdicts[] = {
		[DIAL_NOWHERE] = IRIS_REMOTE_SERVER_NOT_FOUND,
		[DIAL_REFUSED] = IRIS_REMOTE_SERVER_TIMEOUT,
		[DIAL_LATER] = IRIS_NO_ERROR,
	};
	struct route *route;

	if (remote->failures++ == 0)
		federation_count(METRIC_UNREACHABLE, 1);
	remote->why = why;
	remote->retry_ms = worker_now_ms() + back_off(remote->failures);
	remote->verdict = verdicts[outcome];
	federation_count(METRIC_DIALS_FAILED, 1);
	LOG(IRIS_LOG_INFO, "federation", "unreachable", LOG_CSTR("domain", remote->domain),
	    LOG_CSTR("why", why), LOG_INT("failures", remote->failures),
	    LOG_INT("retry_ms", remote->retry_ms - worker_now_ms()));
	if (remote->verdict == IRIS_NO_ERROR)
		return;
	TAILQ_FOREACH(route, &remote->routes, link_of_remote)
		if (!route->link)
			route_return_all(route, remote->verdict);
}

static void
remotes_clean(struct remotes *here)
{
	HASH_FOREACH(node, &here->table)
		remote_free(here, IRIS_CONTAINER(node, struct remote, node));
	hash_free(&here->table);
	acks_clean((int)(here - homes));
}

static bool
fiber_enter(struct remotes *here, const char *name, void (*fn)(void *arg), void *arg)
{
	here->fibers++;
	if (fiber_start(name, fn, arg))
		return true;
	here->fibers--;
	return false;
}

/* The last thing that a fiber does: who stops frees what no fiber looks at any more. */
static void
fiber_leave(struct remotes *here)
{
	here->fibers--;
	here->closing = here->closing || worker_is_stopping();
	if (here->closing && here->fibers == 0)
		remotes_clean(here);
}

bool
remote_start_fiber(const char *name, void (*fn)(void *arg), void *arg)
{
	return !remotes_here()->closing && fiber_enter(remotes_here(), name, fn, arg);
}

void
route_read_ended(struct route *route)
{
	struct remote *remote = route->remote;

	if (!route->link && remote->verdict != IRIS_NO_ERROR && remote->retry_ms > worker_now_ms())
		route_return_all(route, remote->verdict);
	else
		route_return_expired(route);
	remote_settle(remote);
	fiber_leave(remotes_here());
}

static void
remote_reached(struct remote *remote)
{
	if (remote->failures > 0)
		federation_count(METRIC_UNREACHABLE, -1);
	remote->failures = 0;
	remote->why = NULL;
	remote->verdict = IRIS_NO_ERROR;
}

static void
remote_dial(void *arg)
{
	struct remote *remote = arg;
	struct remotes *here = remotes_here();
	struct route *route;

	transit_leave(); /* it is for all that waits, whatever gave the occasion */
	while ((route = remote_waiting_route(remote)) != NULL && !worker_is_stopping() &&
	       remote->retry_ms <= worker_now_ms()) {
		const struct dial_purpose purpose = { .ours = str_from(route->local),
						      .theirs = str_from(remote->domain),
						      .route = route };
		const char *why = NULL;
		enum dial_outcome outcome = dial(&purpose, &why);

		if (outcome != DIAL_UP) {
			remote_failed(remote, outcome, why);
			break;
		}
		remote_reached(remote);
	}
	remote->dialled = false;
	remote_settle(remote);
	fiber_leave(here);
}

/* SECURITY: no storms: one dial for each domain, and none before its time. */
static void
remote_try(struct remote *remote)
{
	struct remotes *here = remotes_here();

	if (remote->dialled || here->closing || remote->retry_ms > worker_now_ms() ||
	    !remote_waiting_route(remote))
		return;
	remote->dialled = true;
	federation_count(METRIC_DIALS, 1);
	if (!fiber_enter(here, "dial", remote_dial, remote))
		remote->dialled = false; /* with the next tick */
}

/* --- time --- */

static void
tick_waiting(struct remotes *here)
{
	struct remote *remote = TAILQ_FIRST(&here->waiting), *next;
	struct route *route;

	while ((route = TAILQ_FIRST(&here->debtors)) != NULL) {
		route_pay(here, route);
		route_settle_debts(route);
		if (route->owes)
			break;
	}
	for (; remote; remote = next) {
		next = TAILQ_NEXT(remote, link);
		TAILQ_FOREACH(route, &remote->routes, link_of_remote)
			route_return_expired(route);
		remote_settle(remote);
	}
	for (remote = TAILQ_FIRST(&here->waiting); remote; remote = next) {
		next = TAILQ_NEXT(remote, link);
		remote_try(remote);
	}
}

static void
tick_resting(struct remotes *here)
{
	struct remote *remote;

	while ((remote = TAILQ_FIRST(&here->resting)) != NULL &&
	       (remote->failures == 0 || worker_now_ms() - remote->rest_ms > REST_MS))
		remote_free(here, remote);
}

static void
remotes_tick(void *arg)
{
	struct remotes *here = arg;

	while (fiber_sleep(TICK_MS) &&
	       (here->table.count > 0 || links_are_any() || acks_are_any())) {
		tick_waiting(here);
		tick_resting(here);
		links_end_idle(worker_now_ms() - option_int(&federation_self, OPT_IDLE));
		acks_tick();
	}
	here->ticking = false;
	fiber_leave(here);
}

void
federation_need_time(void)
{
	struct remotes *here = remotes_here();

	if (here->ticking || here->closing)
		return;
	here->ticking = true;
	if (!fiber_enter(here, "federation", remotes_tick, here))
		here->ticking = false;
}

/* --- what comes --- */

static void
remote_receive(struct remote *remote, const struct iris_delivery *delivery,
	       struct iris_ticket *ticket)
{
	struct route *route = remote_route(remote, jid_domain(&delivery->stanza->from));
	enum iris_condition refusal;

	if (!route->link && remote->verdict != IRIS_NO_ERROR && remote->retry_ms > worker_now_ms())
		refusal = remote->verdict;
	else
		refusal = route_receive(route, delivery, ticket);
	if (refusal != IRIS_NO_ERROR)
		return_to_sender(delivery, refusal);
	if (route->link)
		return;
	remote_settle(remote);
	remote_try(remote);
}

static void
deliver_unmarked(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct iris_delivery clean = *delivery;

	clean.stanza = stanza_copy(delivery->stanza);
	clean.stanza->owner = delivery->stanza->owner;
	(void)reader_take_mark(clean.stanza);
	stanza_freeze(clean.stanza);
	remote_deliver(&clean, ticket);
	stanza_unref(&clean.stanza);
}

void
remote_deliver(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	const struct iris_stanza *stanza = delivery->stanza;
	const struct iris_jid *to = jid_is_none(&delivery->to) ? &stanza->to : &delivery->to;
	enum iris_condition condition;
	struct remote *remote;

	if (remotes_here()->closing)
		return;
	/* SECURITY: with an id of our outbox that is none a client makes others drop messages. */
	if (reader_is_marked(stanza)) {
		deliver_unmarked(delivery, ticket);
		return;
	}
	if (!policy_may_leave(stanza, to, &condition)) {
		federation_count(METRIC_REFUSED, 1);
		return_to_sender(delivery, condition);
		return;
	}
	remote = remote_get(jid_domain(to));
	if (!remote) {
		return_to_sender(delivery, IRIS_RESOURCE_CONSTRAINT);
		return;
	}
	federation_need_time();
	remote_receive(remote, delivery, ticket);
}

void
remote_recover(struct iris_str domain, struct iris_str local, int64_t count, int64_t until_ms)
{
	struct remotes *here = remotes_here();
	struct remote *remote = remote_find(domain);

	if (here->closing)
		return;
	if (!remote)
		remote = remote_make(here, domain); /* however many there are */
	route_recover(remote_route(remote, local), count, until_ms);
	federation_need_time();
	remote_settle(remote);
	remote_try(remote);
}

void
remotes_judge_again(void)
{
	HASH_FOREACH(node, &remotes_here()->table) {
		struct remote *remote = IRIS_CONTAINER(node, struct remote, node);
		struct route *route;

		TAILQ_FOREACH(route, &remote->routes, link_of_remote)
			route_judge_again(route);
		/* What the map before made of it is not so by this one. */
		remote->failures = 0;
		remote->retry_ms = 0;
		remote->verdict = IRIS_NO_ERROR;
		remote_settle(remote);
		remote_try(remote);
	}
}

struct route *
remote_adopt(struct link *link, struct iris_str theirs, struct iris_str ours)
{
	struct remote *remote;
	struct route *route;

	IRIS_ASSERT(home_of(theirs) == worker_self());
	if (remotes_here()->closing || !(remote = remote_get(theirs)))
		return NULL;
	route = remote_route(remote, ours);
	return route->link ? NULL : route;
}

void
route_up(struct route *route, struct link *link)
{
	if (route->link && link_is_up(route->link) && route->link != link) {
		link_forget_route(link); /* another one came meanwhile, and is in use */
		return;
	}
	if (route->link && route->link != link)
		link_forget_route(route->link);
	route_begin(route, link);
	remote_settle(route->remote);
}

void
route_down(struct route *route, struct link *link)
{
	struct remote *remote = route->remote;

	IRIS_ASSERT(route->link == link);
	route->link = NULL;
	/* SECURITY: who takes us in and hangs up must not make us dial without a pause. */
	if (remote->failures == 0)
		remote->retry_ms = worker_now_ms() + back_off(1);
	remote_settle(remote);
}

/* --- for operators --- */

void
remotes_each_waiting(void (*fn)(const struct route *route, void *arg), void *arg)
{
	struct remote *remote;
	struct route *route;

	TAILQ_FOREACH(remote, &remotes_here()->waiting, link)
		TAILQ_FOREACH(route, &remote->routes, link_of_remote)
			if (route_is_waiting(route))
				fn(route, arg);
}

bool
remote_look(struct iris_str domain, struct remote_view *view_r,
	    void (*fn)(const struct route *route, void *arg), void *arg)
{
	const struct remote *remote = remote_find(domain);
	struct route *route;

	if (!remote)
		return false;
	*view_r = (struct remote_view){
		.why = remote->why,
		.failures = remote->failures,
		.pause_ms = remote->retry_ms - worker_now_ms(),
		.is_dialled = remote->dialled,
	};
	TAILQ_FOREACH(route, &remote->routes, link_of_remote)
		fn(route, arg);
	return true;
}

bool
remote_retry(struct iris_str domain)
{
	struct remote *remote = remote_find(domain);

	if (!remote)
		return false;
	remote->retry_ms = 0;
	remote->verdict = IRIS_NO_ERROR;
	remote_try(remote);
	return true;
}

void
remotes_stop(void)
{
	for (int i = 0; i < WORKER_LIMIT; i++) {
		if (homes[i].waiting.tqh_last)
			remotes_clean(&homes[i]);
		homes[i] = (struct remotes){ .closing = false };
	}
}
