/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users at their home worker: loading (account, roster, what plug-ins keep), the inbox that keeps
 * the order of what comes meanwhile, and letting go of who is idle.  It does not judge what is
 * delivered: message.c, presence.c, subscription.c and iq.c do.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/auth.h"
#include "worker_private.h"

struct user_parcel {
	STAILQ_ENTRY(user_parcel) link;
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
	struct iris_jid to; /* of a delivery: none, or its text follows */
	char text[];
};

struct user_block { /* one allocation */
	struct iris_user user;
	struct iris_user_private private_;
};

static struct im_home homes[WORKER_LIMIT + 1]; /* the main worker's is the first */
static struct iris_module_self user_self;

static struct iris_metric user_metrics[] = {
	{ .name = "iris_users", .kind = IRIS_GAUGE, .help = "Users in memory" },
	{ .name = "iris_user_loads_total",
	  .kind = IRIS_COUNTER,
	  .help = "Users loaded from the vault" },
	{ .name = "iris_user_load_failures_total",
	  .kind = IRIS_COUNTER,
	  .help = "Loads that failed: the vault was not there, or too many users were" },
	{ .name = NULL },
};
enum { METRIC_USERS, METRIC_LOADS, METRIC_FAILURES };

struct im_home *
im_home(void)
{
	return &homes[worker_index() + 1];
}

int64_t
user_option(enum user_option option)
{
	return option_int(&user_self, option);
}

static struct iris_user *
user_lookup(struct iris_str bare) /* in any state */
{
	struct iris_hash_node *node = hash_find(&im_home()->users, bare);

	return node ? IRIS_CONTAINER(node, struct iris_user, node) : NULL;
}

struct iris_user *
user_find(struct iris_str bare)
{
	struct iris_user *user = user_lookup(bare);

	return user && user->state == IRIS_USER_READY ? user : NULL;
}

/* --- what waits for the load --- */

static void
parcel_add(struct iris_user *user, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct iris_str text = jid_is_none(&delivery->to) ? IRIS_STR_NONE : jid_full(&delivery->to);
	struct user_parcel *parcel = iris_malloc(sizeof(*parcel) + text.len);

	parcel->stanza = stanza_ref(delivery->stanza);
	parcel->ticket = ticket_ref(ticket);
	parcel->to = delivery->to;
	if (text.len > 0) {
		memcpy(parcel->text, text.base, text.len);
		parcel->to.base = parcel->text;
	}
	STAILQ_INSERT_TAIL(&user->private_->inbox, parcel, link);
	user->private_->inbox_count++;
}

static struct user_parcel *
parcel_take(struct iris_user *user)
{
	struct user_parcel *parcel = STAILQ_FIRST(&user->private_->inbox);

	if (parcel)
		STAILQ_REMOVE_HEAD(&user->private_->inbox, link);
	return parcel;
}

static void
parcel_free(struct user_parcel *parcel)
{
	stanza_unref(&parcel->stanza);
	ticket_unref(&parcel->ticket);
	free(parcel);
}

/* --- a user's life --- */

static struct iris_user *
user_new(struct iris_str bare)
{
	struct user_block *block = iris_calloc(1, sizeof(*block) + bare.len + 1);
	struct iris_user *user = &block->user;

	user->private_ = &block->private_;
	user->private_->user = user;
	memcpy(user->private_->text, bare.base, bare.len);
	user->jid = jid_from_prepared((struct iris_str){ user->private_->text, bare.len });
	user->state = IRIS_USER_LOADING;
	TAILQ_INIT(&user->sessions);
	TAILQ_INIT(&user->private_->waiters);
	STAILQ_INIT(&user->private_->inbox);
	hash_insert(&im_home()->users, &user->node, jid_bare(&user->jid));
	metric_add(&user_metrics[METRIC_USERS], 1);
	return user;
}

static void
user_free(struct iris_user *user)
{
	IRIS_ASSERT(user->holds == 0 && user->session_count == 0);
	IRIS_ASSERT(STAILQ_EMPTY(&user->private_->inbox));
	if (user->private_->hooked)
		hook_run_user_unload(user);
	if (user->state == IRIS_USER_READY)
		hash_remove(&im_home()->users, &user->node);
	slots_free(&user->slots);
	roster_free(&user->roster);
	metric_add(&user_metrics[METRIC_USERS], -1);
	free(IRIS_CONTAINER(user, struct user_block, user));
}

static void
user_unload(struct iris_user *user)
{
	TAILQ_REMOVE(&im_home()->idle, user->private_, link);
	user->private_->idle = false;
	user_free(user);
}

static void
idle_sweep(void *arg)
{
	struct im_home *home = arg;
	int64_t keep = user_option(USER_KEEP), now = worker_now_ms();
	struct iris_user_private *first;

	while ((first = TAILQ_FIRST(&home->idle)) != NULL && first->idle_since_ms + keep <= now)
		user_unload(first->user);
	if (first)
		timer_start(&home->sweep, first->idle_since_ms + keep - now, idle_sweep, home);
}

static void
idle_add(struct iris_user *user)
{
	struct im_home *home = im_home();

	if (!home->idle.tqh_last)
		TAILQ_INIT(&home->idle);
	user->private_->idle = true;
	user->private_->idle_since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&home->idle, user->private_, link);
	if (home->closing)
		user_unload(user);
	else if (!timer_is_running(&home->sweep))
		timer_start(&home->sweep, user_option(USER_KEEP), idle_sweep, home);
}

void
user_hold(struct iris_user *user)
{
	if (user->private_->idle) {
		TAILQ_REMOVE(&im_home()->idle, user->private_, link);
		user->private_->idle = false;
	}
	user->holds++;
}

void
user_release(struct iris_user **user_p)
{
	struct iris_user *user = *user_p;

	*user_p = NULL;
	if (!user)
		return;
	IRIS_ASSERT(user->holds > 0);
	if (--user->holds > 0)
		return;
	if (user->state == IRIS_USER_READY)
		idle_add(user);
	else
		user_free(user);
}

/* Makes room when there are too many; false: all of them are in use. */
static bool
room_for_user(void)
{
	struct im_home *home = im_home();

	if (home->closing)
		return false;
	if (home->users.count < (size_t)user_option(USER_MAX_USERS))
		return true;
	if (home->idle.tqh_last && !TAILQ_EMPTY(&home->idle)) {
		user_unload(TAILQ_FIRST(&home->idle)->user);
		return true;
	}
	metric_add(&user_metrics[METRIC_FAILURES], 1);
	return false;
}

/* --- delivery to a user who is there --- */

static void
user_take(struct iris_incoming *incoming)
{
	const struct iris_stanza *stanza = incoming->delivery.stanza;

	switch (stanza->kind) {
	case IRIS_MESSAGE:
		message_receive(incoming);
		break;
	case IRIS_PRESENCE:
		if (subscription_is_type(stanza->type))
			subscription_receive(incoming->user, incoming->delivery.stanza,
					     incoming->ticket);
		else
			presence_receive(incoming->user, &incoming->delivery, incoming->session);
		break;
	case IRIS_IQ:
		iq_receive(incoming->user, &incoming->delivery, incoming->session,
			   incoming->ticket);
		break;
	}
}

static void
user_dispatch(struct iris_user *user, const struct iris_delivery *delivery,
	      struct iris_ticket *ticket)
{
	const struct iris_jid *to =
		jid_is_none(&delivery->to) ? &delivery->stanza->to : &delivery->to;
	struct iris_request request = { .stanza = delivery->stanza,
					.user = user,
					.ticket = ticket };
	struct iris_incoming incoming = {
		.user = user, .request = &request, .ticket = ticket, .delivery = *delivery,
		.session = jid_is_bare(to) ? NULL : session_find(jid_full(to)),
	};
	enum iris_verdict verdict = IRIS_PASS;

	user_hold(user); /* what follows may make room for another user */
	/*
	 * The stanza's arena may be in use on other workers: what handlers allocate lies in one of
	 * its own.
	 */
	request.arena = arena_new();
	request.host = host_find(jid_domain(&user->jid));
	if (hook_is_used(IRIS_HOOK_ID_stanza_in))
		verdict = hook_run_stanza_in(&incoming);
	if (verdict == IRIS_PASS)
		user_take(&incoming);
	else if (verdict == IRIS_REFUSE)
		route_refusal(&incoming.delivery, &request.refusal);
	arena_unref(&request.arena);
	user_release(&user);
}

/*
 * An address without an account. SECURITY: what a stranger gets from one who may not be seen, too
 * (P5.7).
 */
static void
absent_dispatch(const struct iris_delivery *delivery)
{
	if (delivery->stanza->kind == IRIS_MESSAGE)
		message_receive_absent(delivery);
	else if (delivery->stanza->kind == IRIS_IQ)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
}

/* --- loading --- */

static void
inbox_flush(struct iris_user *user, enum iris_condition failure)
{
	struct user_parcel *parcel;

	while ((parcel = parcel_take(user)) != NULL) {
		struct iris_delivery delivery = { .stanza = parcel->stanza, .to = parcel->to };

		if (user->state == IRIS_USER_READY)
			user_dispatch(user, &delivery, parcel->ticket);
		else if (failure == IRIS_NO_ERROR)
			absent_dispatch(&delivery);
		else
			route_error(&delivery, failure);
		user->private_->inbox_count--; /* afterwards: what comes meanwhile joins the end */
		parcel_free(parcel);
	}
}

static void
load_finish(struct iris_user *user, enum iris_condition failure)
{
	struct user_waiter *waiter;

	inbox_flush(user, failure);
	while ((waiter = TAILQ_FIRST(&user->private_->waiters)) != NULL) {
		TAILQ_REMOVE(&user->private_->waiters, waiter, link);
		wait_done(&waiter->wait);
	}
}

static bool
load_read(struct iris_user *user)
{
	if (!accounts()->find(&user->jid, &user->account))
		return false;
	/*
	 * SECURITY: all is read for an unknown account as well, so that time does not tell the two
	 * apart.
	 */
	if (user->account.id == 0)
		user->account.owner = IRIS_OWNER_DEFAULT;
	user->private_->hooked = true;
	return user_rows_load(user) && hook_run_user_load(user) != IRIS_REFUSE;
}

/* The user is held by the caller. */
static void
load_run(struct iris_user *user)
{
	bool ok = load_read(user);

	if (user->state == IRIS_USER_GONE) { /* removed while it was loaded */
		inbox_flush(user, IRIS_NO_ERROR);
		return;
	}
	metric_add(&user_metrics[ok ? METRIC_LOADS : METRIC_FAILURES], 1);
	user->state = ok && user->account.id != 0 ? IRIS_USER_READY : IRIS_USER_ABSENT;
	if (user->state == IRIS_USER_ABSENT)
		hash_remove(&im_home()->users, &user->node);
	load_finish(user, ok ? IRIS_NO_ERROR : IRIS_INTERNAL_SERVER_ERROR);
}

static void
load_fiber(void *arg)
{
	struct iris_user *user = arg;

	load_run(user);
	user_release(&user);
}

static void
load_start(struct iris_user *user)
{
	user_hold(user);
	if (fiber_start_spare("user: load", load_fiber, user))
		return;
	user->state = IRIS_USER_ABSENT;
	hash_remove(&im_home()->users, &user->node);
	metric_add(&user_metrics[METRIC_FAILURES], 1);
	load_finish(user, IRIS_RESOURCE_CONSTRAINT);
	user_release(&user);
}

struct iris_user *
user_get(const struct iris_jid *jid)
{
	struct iris_user *user = user_lookup(jid_bare(jid));

	if (!user) {
		if (!room_for_user())
			return NULL;
		user = user_new(jid_bare(jid));
		user_hold(user);
		load_run(user);
	} else {
		user_hold(user);
		if (user->state == IRIS_USER_LOADING) {
			struct user_waiter waiter;

			wait_init(&waiter.wait);
			TAILQ_INSERT_TAIL(&user->private_->waiters, &waiter, link);
			wait_for(&waiter.wait, "user: load");
		}
	}
	if (user->state != IRIS_USER_READY)
		user_release(&user);
	return user;
}

/* Presence other than subscriptions interests only who is there. */
static bool
is_worth_loading(const struct iris_stanza *stanza)
{
	return stanza->kind != IRIS_PRESENCE || subscription_is_type(stanza->type);
}

void
user_receive(struct iris_stanza *stanza, const struct iris_jid *to, struct iris_ticket *ticket)
{
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = to == &stanza->to ? IRIS_JID_NONE : *to };
	struct iris_user *user = user_lookup(jid_bare(to));
	bool is_new = !user;

	if (user && user->state == IRIS_USER_READY && user->private_->inbox_count == 0) {
		user_dispatch(user, &delivery, ticket);
		return;
	}
	if (!is_worth_loading(stanza))
		return;
	if (is_new && !room_for_user()) {
		route_error(&delivery, IRIS_RESOURCE_CONSTRAINT);
		return;
	}
	if (is_new)
		user = user_new(jid_bare(to));
	if (user->private_->inbox_count >= (unsigned)user_option(USER_INBOX)) {
		route_error(&delivery, IRIS_RESOURCE_CONSTRAINT);
		return;
	}
	parcel_add(user, &delivery, ticket);
	if (is_new)
		load_start(user);
}

void
user_forget(struct iris_str bare, const char *condition)
{
	struct iris_user *user = user_lookup(bare);
	enum iris_user_state before;

	if (!user)
		return;
	user_hold(user);
	while (!TAILQ_EMPTY(&user->sessions))
		session_close(TAILQ_FIRST(&user->sessions), condition, NULL);
	before = user->state;
	user->state = IRIS_USER_GONE;
	hash_remove(&im_home()->users, &user->node);
	if (before == IRIS_USER_LOADING)
		load_finish(user, IRIS_NO_ERROR);
	user_release(&user);
}

void **
user_slot(struct iris_user *user, const struct iris_module_self *self)
{
	return slots_get(&user->slots, self->index);
}

/* --- start and stop --- */

static void
home_close(void *arg)
{
	struct im_home *home = im_home();

	home->closing = true;
	HASH_FOREACH(node, &home->sessions)
		session_close(IRIS_CONTAINER(node, struct iris_session, node), arg, NULL);
	timer_stop(&home->sweep);
	while (home->idle.tqh_last && !TAILQ_EMPTY(&home->idle))
		user_unload(TAILQ_FIRST(&home->idle)->user);
	router_close_home();
}

void
im_close_all(const char *condition)
{
	workers_each(home_close, (void *)condition);
}

static void
user_stop(void)
{
	for (size_t i = 0; i < IRIS_COUNT(homes); i++) {
		hash_free(&homes[i].users);
		hash_free(&homes[i].sessions);
		hash_free(&homes[i].pending);
		/* A plug-in's domain that lasts as long as the process: its worker has ended. */
		HASH_FOREACH(node, &homes[i].domains)
			hash_remove(&homes[i].domains, node);
		hash_free(&homes[i].domains);
		homes[i] = (struct im_home){ .closing = false };
	}
}

static const struct iris_option user_options[] = {
	[USER_KEEP] = { .name = "keep",
			.type = IRIS_OPT_DURATION,
			.fallback = "60 seconds",
			.max = 86400000,
			.reloadable = true,
			.help = "How long a user stays in memory after the last session has "
				"ended." },
	[USER_MAX_USERS] = { .name = "max-users",
			     .type = IRIS_OPT_INT,
			     .fallback = "100000",
			     .min = 16,
			     .max = 10000000,
			     .reloadable = true,
			     .help = "Users in memory, for each worker." },
	[USER_INBOX] = { .name = "inbox",
			 .type = IRIS_OPT_INT,
			 .fallback = "256",
			 .min = 1,
			 .max = 65536,
			 .reloadable = true,
			 .help = "Stanzas that wait while their recipient is loaded, for each "
				 "user." },
	[USER_MAX_SESSIONS] = { .name = "max-sessions",
				.type = IRIS_OPT_INT,
				.fallback = "32",
				.min = 1,
				.max = 1024,
				.reloadable = true,
				.help = "Sessions of one user at a time." },
	[USER_MAX_DIRECTED] = { .name = "max-directed",
				.type = IRIS_OPT_INT,
				.fallback = "1000",
				.min = 1,
				.max = 100000,
				.reloadable = true,
				.help = "Addresses that one session may show itself to by directed "
					"presence (RFC 6121 §4.6)." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_user = {
	IRIS_MODULE_HEAD,
	.name = "user",
	.summary = "Users and their sessions in memory (RFC 6121)",
	.self = &user_self,
	.options = user_options,
	.commands = im_commands,
	.metrics = user_metrics,
	.not_unloadable = true,
	.stop = user_stop,
};
