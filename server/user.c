/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users at their home worker, a kind of places (place.c): what is read of them (account, roster,
 * what plug-ins keep), and who gets what is delivered: message.c, presence.c, subscription.c and
 * iq.c judge it.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/auth.h"
#include "iris/place.h"
#include "worker_private.h"

struct user_block { /* one allocation */
	struct iris_place place;
	struct iris_user user;
	struct iris_user_private private_;
};

static struct im_home homes[WORKER_LIMIT + 1]; /* the main worker's is the first */
static struct iris_module_self user_self;
static struct iris_places users; /* below */

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

static struct user_block *
block_of(struct iris_place *place)
{
	return IRIS_CONTAINER(place, struct user_block, place);
}

static struct iris_place *
place_of(struct iris_user *user)
{
	return &IRIS_CONTAINER(user, struct user_block, user)->place;
}

size_t
user_count(void)
{
	return places_count(&users);
}

bool
user_is_ready(const struct iris_user *user)
{
	return place_of((struct iris_user *)user)->state == IRIS_PLACE_READY;
}

struct iris_user *
user_find(struct iris_str bare)
{
	struct iris_place *place = place_find(&users, bare);

	return place ? &block_of(place)->user : NULL;
}

struct iris_user *
user_get(const struct iris_jid *jid)
{
	struct iris_place *place = place_get(&users, jid_bare(jid), NULL);

	return place ? &block_of(place)->user : NULL;
}

void
user_hold(struct iris_user *user)
{
	place_hold(place_of(user));
}

void
user_release(struct iris_user **user_p)
{
	struct iris_user *user = *user_p;

	*user_p = NULL;
	if (user)
		place_release(place_of(user));
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
user_dispatch(struct iris_place *place, const struct iris_delivery *delivery,
	      struct iris_ticket *ticket)
{
	struct iris_user *user = &block_of(place)->user;
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
}

/*
 * An address without an account. SECURITY: what a stranger gets from one who may not be seen, too
 * (P5.7).
 */
static void
absent_dispatch(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	if (delivery->stanza->kind == IRIS_MESSAGE)
		message_receive_absent(delivery);
	else if (delivery->stanza->kind == IRIS_IQ)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
}

/* --- a user's life --- */

static void
user_init(struct iris_place *place)
{
	struct user_block *block = block_of(place);

	block->user.private_ = &block->private_;
	block->user.jid = jid_from_prepared(place_key(place));
	TAILQ_INIT(&block->user.sessions);
}

static enum iris_place_found
user_read(struct iris_place *place)
{
	struct iris_user *user = &block_of(place)->user;

	if (!accounts()->find(&user->jid, &user->account))
		return IRIS_PLACE_FAILED;
	/*
	 * SECURITY: all is read for an unknown account as well, so that time does not tell the two
	 * apart.
	 */
	if (user->account.id == 0)
		user->account.owner = IRIS_OWNER_DEFAULT;
	user->private_->hooked = true;
	if (!user_rows_load(user) || hook_run_user_load(user) == IRIS_REFUSE)
		return IRIS_PLACE_FAILED;
	return user->account.id != 0 ? IRIS_PLACE_FOUND : IRIS_PLACE_NOBODY;
}

static void
user_unload(struct iris_place *place)
{
	struct iris_user *user = &block_of(place)->user;

	IRIS_ASSERT(user->session_count == 0);
	if (user->private_->hooked)
		hook_run_user_unload(user);
	slots_free(&user->slots);
	roster_free(&user->roster);
}

/* Presence other than subscriptions interests only who is there. */
static bool
user_is_worth_loading(const struct iris_stanza *stanza)
{
	return stanza->kind != IRIS_PRESENCE || subscription_is_type(stanza->type);
}

static int64_t
user_bound(enum iris_place_bound bound)
{
	static const enum user_option options[] = {
		[IRIS_PLACE_KEEP] = USER_KEEP,
		[IRIS_PLACE_MAX] = USER_MAX_USERS,
		[IRIS_PLACE_INBOX] = USER_INBOX,
	};

	return user_option(options[bound]);
}

static const struct iris_place_kind user_kind = {
	.name = "user: load",
	.size = sizeof(struct user_block),
	.init = user_init,
	.load = user_read,
	.unload = user_unload,
	.receive = user_dispatch,
	.absent = absent_dispatch,
	.is_worth_loading = user_is_worth_loading,
	.bound = user_bound,
	.metrics = user_metrics,
};

static struct iris_places users = { .kind = &user_kind };

void
user_receive(struct iris_stanza *stanza, const struct iris_jid *to, struct iris_ticket *ticket)
{
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = to == &stanza->to ? IRIS_JID_NONE : *to };

	place_receive(&users, jid_bare(to), &delivery, ticket);
}

void
user_forget(struct iris_str bare, const char *condition)
{
	struct iris_place *place = place_lookup(&users, bare);
	struct iris_user *user;

	if (!place)
		return;
	place_hold(place);
	user = &block_of(place)->user;
	while (!TAILQ_EMPTY(&user->sessions))
		session_close(TAILQ_FIRST(&user->sessions), condition, NULL);
	place_forget(place);
	place_release(place);
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
	router_close_home();
}

void
im_close_all(const char *condition)
{
	workers_each(home_close, (void *)condition);
	places_shut();
}

static bool
user_start(struct iris_error *error)
{
	places_open(&users);
	return true;
}

static void
user_stop(void)
{
	places_close(&users);
	services_stop();
	for (size_t i = 0; i < IRIS_COUNT(homes); i++) {
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
	.start = user_start,
	.stop = user_stop,
};
