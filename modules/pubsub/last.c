/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0163 §4.3.2, §4.3.4: the last item of each node for a resource that becomes available, once
 * its capabilities are known; again when they change; and for a contact that has just been let in.
 *
 * Who arrives asks: its home sends one letter to each worker with the contacts who live there and
 * the nodes that are wanted.  There a fiber looks at each contact, loading those that are away, and
 * answers from the store or from the few notifications that are kept.
 */
#include <stdlib.h>

#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0203_delay.h"

/* --- the notifications that are kept, for each worker: the longest unused goes first --- */

static struct last_home {
	TAILQ_HEAD(last_list, pubsub_node) used;
	size_t bytes;
} homes[WORKER_LIMIT];

static struct last_home *
last_home(void)
{
	struct last_home *home = &homes[worker_index()];

	if (!home->used.tqh_last)
		TAILQ_INIT(&home->used);
	return home;
}

void
last_forget(struct pubsub_node *node)
{
	struct last_home *home = last_home();

	if (!node->last)
		return;
	home->bytes -= arena_size(node->last->arena);
	TAILQ_REMOVE(&home->used, node, last_link);
	stanza_unref(&node->last);
}

void
last_remember(struct pubsub_node *node, struct iris_stanza *stanza)
{
	struct last_home *home = last_home();
	size_t room = (size_t)option_int(&pubsub_self, OPT_LAST_CACHE);

	last_forget(node);
	if (node->gone || arena_size(stanza->arena) > room / 16)
		return;
	node->last = stanza_compact(stanza);
	home->bytes += arena_size(node->last->arena);
	TAILQ_INSERT_TAIL(&home->used, node, last_link);
	while (home->bytes > room)
		last_forget(TAILQ_FIRST(&home->used));
}

struct iris_stanza *
last_notification(struct pubsub_node *node)
{
	struct iris_arena *arena;
	struct iris_stanza *stanza = NULL;
	struct iris_element *item, *event;
	int64_t row = node->last_item, published_ms;

	if (node->last) {
		TAILQ_REMOVE(&last_home()->used, node, last_link);
		TAILQ_INSERT_TAIL(&last_home()->used, node, last_link);
		return stanza_ref(node->last);
	}
	if (row == 0)
		return NULL;
	arena = arena_new();
	bool before = transit_begin(false); /* it is remembered for all who come */
	item = item_read_row(arena, node, row, &published_ms);
	if (item && !node->gone) {
		stanza = notify_event(node, &event);
		item_add_to_event(node, notify_items(node, event), item);
		delay_add(stanza->root, IRIS_STR_NONE, published_ms);
		stanza_freeze(stanza);
		/* What is over some day is looked at again each time. */
		if (row == node->last_item &&
		    node->config.numbers[CONFIG_ITEM_EXPIRE] == CONFIG_MAX)
			last_remember(node, stanza);
	}
	transit_end(before);
	arena_unref(&arena);
	return stanza;
}

/* --- the questions --- */

/* Who arrives, what it wants, and of whom; the text of all lies behind. */
struct question {
	struct iris_mail mail;
	struct iris_jid full;
	size_t wanted_count, publisher_count;
	struct iris_str *wanted;
	struct iris_str *publishers;
	char *at;
};

static struct iris_str
question_copy(struct question *question, struct iris_str text)
{
	struct iris_str copy = { question->at, text.len };

	memcpy(question->at, text.base, text.len);
	question->at += text.len;
	return copy;
}

/* publishers_text: bytes of the addresses that question_add() will add. */
static struct question *
question_new(const struct iris_jid *full, const struct caps_watch *watch, size_t publishers,
	     size_t publishers_text)
{
	const struct iris_str *nodes;
	size_t count = caps_notify(watch, &nodes), text = jid_full(full).len + publishers_text;
	struct question *question;

	for (size_t i = 0; i < count; i++)
		text += nodes[i].len;
	question = iris_calloc(1, sizeof(*question) +
					  (count + publishers) * sizeof(struct iris_str) + text);
	question->wanted = (struct iris_str *)(question + 1);
	question->publishers = question->wanted + count;
	question->at = (char *)(question->publishers + publishers);
	question->full = *full;
	question->full.base = question_copy(question, jid_full(full)).base;
	for (size_t i = 0; i < count; i++)
		question->wanted[question->wanted_count++] = question_copy(question, nodes[i]);
	return question;
}

static void
question_add(struct question *question, struct iris_str bare)
{
	question->publishers[question->publisher_count++] = question_copy(question, bare);
}

/* --- at the home of those who publish --- */

static bool
is_for(const struct pubsub_node *node, const struct iris_jid *full)
{
	struct iris_visibility visibility = { node->service->user, *full };

	return node->last_item != 0 &&
	       node->config.numbers[CONFIG_SEND_LAST] == SEND_ON_SUB_AND_PRESENCE &&
	       node->config.numbers[CONFIG_DELIVER_NOTIFICATIONS] &&
	       access_is_near(node->service, full) && access_read(node, full) == PUBSUB_NONE &&
	       hook_run_presence_visible(&visibility) != IRIS_REFUSE;
}

static void
answer_of(struct pubsub_service *service, const struct question *question)
{
	for (size_t i = 0; i < question->wanted_count; i++) {
		struct pubsub_node *node = service_node(service, question->wanted[i]);
		struct iris_stanza *stanza;

		if (!node || !is_for(node, &question->full))
			continue;
		node_ref(node);
		stanza = last_notification(node);
		if (stanza && !node->gone) {
			pubsub_count(METRIC_LAST_ITEMS, 1);
			notify_one(node, &question->full, &stanza);
		} else if (stanza) {
			stanza_unref(&stanza);
		}
		node_unref(&node);
	}
}

/* Held; NULL: there is nobody, or nothing. Who has no nodes is not loaded. */
static struct iris_user *
publisher_get(struct iris_str bare, struct iris_arena *arena)
{
	struct iris_user *user = user_find(bare);
	struct iris_jid jid = jid_from_prepared(bare);
	struct iris_rows rows;

	if (user) {
		user_hold(user);
		return user;
	}
	if (!option_bool(&pubsub_self, OPT_ABSENT) ||
	    vault_read(&store_node_any, 0, VALUES(value_int(vault_peer_id(bare))), arena, &rows) !=
		    IRIS_VAULT_OK ||
	    rows.count == 0)
		return NULL;
	return user_get(&jid);
}

static void
answer_fiber(void *arg)
{
	struct question *question = arg;

	for (size_t i = 0; i < question->publisher_count && !worker_is_stopping(); i++) {
		struct iris_arena *arena = arena_new();
		struct iris_user *user = publisher_get(question->publishers[i], arena);

		if (user && service_of(user))
			answer_of(service_of(user), question);
		user_release(&user);
		arena_unref(&arena);
	}
	free(question);
}

static void
question_arrives(struct iris_mail *mail)
{
	struct question *question = IRIS_CONTAINER(mail, struct question, mail);

	/* The next presence will ask again; nobody else waits for this. */
	if (!fiber_start_spare("pubsub: last items", answer_fiber, question))
		free(question);
}

static void
question_send(struct question *question, int worker)
{
	question->mail.fn = question_arrives;
	if (worker == worker_index())
		question_arrives(&question->mail);
	else
		worker_post(worker_at(worker), &question->mail);
}

/* --- at the home of who arrives --- */

/* SECURITY: a client that arrives again and again makes others work no oftener than this. */
#define ARRIVAL_PAUSE_MS 1000

struct arrival {
	struct iris_session *session;
	struct iris_turn turn;
	struct iris_timer timer;
	int64_t asked_ms; /* monotonic; 0: never */
	const void *served; /* the capabilities that were answered; NULL: none */
};

struct share {
	size_t count, text;
	struct question *question;
};

struct shares {
	bool counting;
	struct share of[WORKER_LIMIT];
};

static void
share_out(struct shares *shares, struct iris_str bare)
{
	struct share *share = &shares->of[worker_index_of(home_of(bare))];

	if (shares->counting) {
		share->count++;
		share->text += bare.len;
	} else {
		question_add(share->question, bare);
	}
}

static void
share_out_contact(const struct iris_contact *contact, void *arg)
{
	struct iris_host *host = contact->jid.node_len ? host_find(jid_domain(&contact->jid)) :
							 NULL;

	if (contact_is_seen(contact) && host && !host->is_component)
		share_out(arg, jid_bare(&contact->jid));
}

static void
share_out_all(struct shares *shares, const struct iris_user *user)
{
	share_out(shares, jid_bare(&user->jid));
	roster_each(user, share_out_contact, shares);
}

static void
ask_all(struct iris_session *session, const struct caps_watch *watch)
{
	struct shares shares = { .counting = true };

	share_out_all(&shares, session->user);
	shares.counting = false;
	for (unsigned i = 0; i < worker_count(); i++)
		if (shares.of[i].count > 0)
			shares.of[i].question = question_new(&session->jid, watch,
							     shares.of[i].count,
							     shares.of[i].text);
	share_out_all(&shares, session->user);
	for (unsigned i = 0; i < worker_count(); i++)
		if (shares.of[i].question)
			question_send(shares.of[i].question, (int)i);
}

static bool
wants_something(const struct caps_watch *watch)
{
	const struct iris_str *nodes;

	return watch && caps_known(watch) && caps_notify(watch, &nodes) > 0;
}

static void
arrival_serve(void *arg)
{
	struct arrival *arrival = arg;
	struct iris_session *session = arrival->session;
	const struct caps_watch *watch = caps_of_session(session);
	const void *known = watch && session->presence ? caps_known(watch) : NULL;
	int64_t wait = arrival->asked_ms + ARRIVAL_PAUSE_MS - worker_now_ms();

	if (known == arrival->served || session->closing)
		return;
	if (!known || !wants_something(watch)) {
		arrival->served = known;
	} else if (arrival->asked_ms && wait > 0) {
		if (!timer_is_running(&arrival->timer))
			timer_start(&arrival->timer, wait, arrival_serve, arrival);
	} else {
		arrival->served = known;
		arrival->asked_ms = worker_now_ms();
		ask_all(session, watch);
	}
}

static void
arrival_turn(struct iris_turn *turn)
{
	arrival_serve(IRIS_CONTAINER(turn, struct arrival, turn));
}

/* At the end of the turn: the broadcast of its presence goes first. */
static enum iris_verdict
arrival_later(struct iris_session *session)
{
	void **slot = session_slot(session, &pubsub_self);
	struct arrival *arrival = *slot;

	if (session->closing)
		return IRIS_PASS;
	if (!arrival) {
		arrival = *slot = iris_calloc(1, sizeof(*arrival));
		arrival->session = session;
		arrival->turn.fn = arrival_turn;
	}
	if (!session->presence)
		arrival->served = NULL;
	worker_at_turn_end(&arrival->turn);
	return IRIS_PASS;
}

enum iris_verdict
last_session_presence(struct iris_session *session)
{
	return arrival_later(session);
}

enum iris_verdict
last_session_caps(struct iris_session *session)
{
	return arrival_later(session);
}

enum iris_verdict
last_session_close(struct iris_session *session)
{
	void **slot = session_slot(session, &pubsub_self);
	struct arrival *arrival = *slot;

	if (arrival) {
		worker_turn_cancel(&arrival->turn);
		timer_stop(&arrival->timer);
	}
	free(arrival);
	*slot = NULL;
	return IRIS_PASS;
}

static void
ask_one(const struct iris_jid *full, const struct caps_watch *watch, struct iris_str publisher)
{
	struct question *question;

	if (!wants_something(watch))
		return;
	question = question_new(full, watch, 1, publisher.len);
	question_add(question, publisher);
	question_send(question, worker_index_of(home_of(publisher)));
}

void
last_contact_seen(struct iris_user *user, const struct iris_jid *contact)
{
	struct iris_session *session;

	TAILQ_FOREACH(session, &user->sessions, link)
		if (session->presence)
			ask_one(&session->jid, caps_of_session(session), jid_bare(contact));
}

void
last_send_to(const struct pubsub_service *service, const struct iris_jid *full,
	     const struct caps_watch *watch)
{
	ask_one(full, watch, jid_bare(&service->jid));
}
