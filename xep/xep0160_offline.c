/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0160 1.0: Handling Offline Messages, with XEP-0203 stamps.  Home worker of the account.
 *
 * Offline delivery is a cursor into the account's archive, not a second copy.  The cursor says:
 * everything up to here has reached a client.  An entry behind it is
 *   under way  – a session has it but has not acknowledged it (in memory),
 *   done       – acknowledged, but something before it is not (in memory),
 *   waiting    – neither: the next session that takes messages gets it.
 * After a crash the first two are forgotten, so that a client may get a message again, with the
 * same id, but never misses one.
 *
 * A session gets its backlog in portions: the next one when it has acknowledged what it got, or
 * has read it.  Else a long absence would end a session for what we keep for it.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/payloads.h"
#include "xep/xep0203_delay.h"
#include "xep/xep0359_stanza_id.h"

#define OFFLINE_PAGE 100
#define FLUSH_STANZAS 100       /* under way to a session that gets its backlog … */
#define FLUSH_BYTES 524288      /* … or that much, unacknowledged or unread */
#define FLUSH_RETRY_MS 20       /* looks after output that is not read */
#define FLUSH_CONGESTED_MS 1000 /* looks after a session that has not acknowledged other things */
#define OFFLINE_TRACKED_MAX 20000 /* entries in memory; older done ones are then forgotten */

enum { OPT_PERSIST, OPT_HOLD_MAX };

struct offline_entry {
	TAILQ_ENTRY(offline_entry) link;
	int64_t id;
	uint32_t flush; /* number of the flush that sent it, 0: none */
	uint32_t size;  /* then: of its body */
	int64_t removed_peer; /* not 0: it is in the log only to wait, and goes with the delivery */
	bool done;
};

/* A live message that came while older ones are being delivered to the session. */
struct offline_held {
	TAILQ_ENTRY(offline_held) link;
	struct iris_delivery delivery;
};

/* A session gets its backlog. Runs on a fiber until it is through or the session has no room. */
struct offline_flush {
	/* NULL: none does; else alive, session_close() sees to that */
	struct iris_session *session;
	uint32_t number;
	int64_t after;                /* read and sent up to here */
	size_t stanzas, bytes;        /* sent and not acknowledged */
	bool running;                 /* a fiber is at it */
	bool passing;                 /* what is delivered now is the backlog itself */
	struct iris_timer more;
};

/* Of a loaded user. */
struct offline {
	struct iris_user *user;
	int64_t cursor, stored_cursor;
	int64_t newest;        /* the highest id seen in this process */
	int64_t first_waiting; /* the lowest id that waits, 0: none known */
	bool backlog;          /* what lies behind the cursor has not been read since loading */
	TAILQ_HEAD(offline_entries, offline_entry) tracked; /* ascending */
	size_t tracked_count;
	struct offline_flush flush; /* one session at a time; others' turn comes after */
	TAILQ_HEAD(, offline_held) held;
	size_t held_count;
	struct iris_timer persist;
};

/* Of a session that takes messages: since when. */
struct offline_taker {
	int64_t after_id; /* the newest then: none with a lower id came to it */
	int64_t since_ms; /* for what has no id */
};

static struct iris_module_self offline_self;

static struct iris_metric offline_metrics[] = {
	{ .name = "iris_offline_stored_total", .help = "Messages that nobody was there to take" },
	{ .name = "iris_offline_delivered_total", .help = "Messages delivered later" },
	{ .name = "iris_offline_returned_total",
	  .help = "Messages that a lost session left, waiting again" },
	{ .name = NULL },
};

static struct iris_query offline_load = {
	.name = "offline.load", .table = "offline_cursor",
	.sql = "SELECT delivered FROM offline_cursor WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "delivered", IRIS_INT } },
};

static struct iris_query offline_store = {
	.name = "offline.store", .table = "offline_cursor", .write = true,
	.sql = "INSERT INTO offline_cursor (account, delivered) VALUES ($1, $2) "
	       "ON CONFLICT (account) DO UPDATE SET delivered = excluded.delivered",
	.params = { { "account", IRIS_INT }, { "delivered", IRIS_INT } },
};

static struct iris_query offline_erase = {
	.name = "offline.erase", .table = "offline_cursor", .write = true,
	.sql = "DELETE FROM offline_cursor WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

static struct offline *
offline_of(struct iris_user *user)
{
	return *user_slot(user, &offline_self);
}

/* --- the cursor --- */

static void
offline_persist(struct offline *offline)
{
	struct iris_account *account = &offline->user->account;

	timer_stop(&offline->persist);
	if (offline->cursor == offline->stored_cursor)
		return;
	/*
	 * Not stored now, it is stored with the next move; at worst a client gets messages again.
	 */
	if (vault_post(&offline_store, account->owner,
		       VALUES(value_int(account->id), value_int(offline->cursor)),
		       NULL) == IRIS_VAULT_OK)
		offline->stored_cursor = offline->cursor;
}

static void
offline_persist_due(void *arg)
{
	offline_persist(arg);
}

/* It is not under way any more to the session that gets its backlog. */
static void
flush_uncount(struct offline *offline, struct offline_entry *entry)
{
	struct offline_flush *flush = &offline->flush;

	if (!flush->session || entry->flush != flush->number)
		return;
	entry->flush = 0;
	flush->stanzas--;
	flush->bytes -= entry->size;
}

static void
offline_untrack(struct offline *offline, struct offline_entry *entry)
{
	flush_uncount(offline, entry);
	TAILQ_REMOVE(&offline->tracked, entry, link);
	offline->tracked_count--;
	free(entry);
}

/* Everything below the first entry that is waiting or under way has been delivered. */
static void
offline_move_cursor(struct offline *offline)
{
	struct offline_entry *first;
	int64_t limit;

	while ((first = TAILQ_FIRST(&offline->tracked)) != NULL &&
	       (first->done || offline->tracked_count > OFFLINE_TRACKED_MAX) &&
	       (offline->first_waiting == 0 || first->id < offline->first_waiting ||
		offline->tracked_count > OFFLINE_TRACKED_MAX))
		offline_untrack(offline, first);
	if (offline->backlog && !offline->flush.session)
		return;
	limit = first ? first->id - 1 : offline->newest;
	if (offline->flush.session && offline->flush.after < limit)
		limit = offline->flush.after; /* what lies behind has not been read */
	if (offline->first_waiting && offline->first_waiting - 1 < limit)
		limit = offline->first_waiting - 1;
	if (limit <= offline->cursor)
		return;
	offline->cursor = limit;
	if (!timer_is_running(&offline->persist))
		timer_start(&offline->persist, option_int(&offline_self, OPT_PERSIST),
			    offline_persist_due, offline);
}

/* From the back: what is looked for is nearly always among the newest. */
static struct offline_entry *
offline_find(struct offline *offline, int64_t id)
{
	struct offline_entry *entry;

	TAILQ_FOREACH_REVERSE(entry, &offline->tracked, offline_entries, link) {
		if (entry->id <= id)
			break;
	}
	return entry && entry->id == id ? entry : NULL;
}

static struct offline_entry *
offline_track(struct offline *offline, int64_t id)
{
	struct offline_entry *entry, *before = TAILQ_LAST(&offline->tracked, offline_entries);

	while (before && before->id > id)
		before = TAILQ_PREV(before, offline_entries, link);
	if (before && before->id == id)
		return before;
	entry = iris_calloc(1, sizeof(*entry));
	entry->id = id;
	if (before)
		TAILQ_INSERT_AFTER(&offline->tracked, before, entry, link);
	else
		TAILQ_INSERT_HEAD(&offline->tracked, entry, link);
	offline->tracked_count++;
	if (id > offline->newest)
		offline->newest = id;
	return entry;
}

static void
offline_wait(struct offline *offline, int64_t id)
{
	if (id > offline->newest)
		offline->newest = id;
	if (offline->first_waiting == 0 || id < offline->first_waiting)
		offline->first_waiting = id;
}

/* --- what the core tells --- */

/*
 * A message that passed and got an id: under way, or waiting when nobody takes it
 * (message_offline says so).
 */
static enum iris_verdict
offline_message_in(struct iris_incoming *incoming)
{
	if (incoming->delivery.log_id > 0 && archive_is_for_offline(incoming->delivery.stanza))
		offline_track(offline_of(incoming->user), incoming->delivery.log_id);
	return IRIS_PASS;
}

static void
offline_forget(struct offline *offline, int64_t id)
{
	struct offline_entry *entry = offline_find(offline, id);

	if (entry)
		offline_untrack(offline, entry);
}

/* Nobody is there. With an archive of everything it is kept already, else it is now. */
static enum iris_verdict
offline_message_offline(struct iris_incoming *incoming)
{
	struct offline *offline = offline_of(incoming->user);
	struct iris_delivery *delivery = &incoming->delivery;

	if (!archive_is_for_offline(delivery->stanza))
		return IRIS_PASS;
	if (delivery->log_id == 0 &&
	    archive_append(incoming->user, delivery, ARCHIVE_OFFLINE, incoming->ticket,
			   &delivery->log_id) != IRIS_VAULT_OK) {
		incoming->request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
		return IRIS_REFUSE;
	}
	offline_forget(offline, delivery->log_id);
	offline_wait(offline, delivery->log_id);
	metric_add(&offline_metrics[0], 1);
	return IRIS_DONE;
}

static void flush_more(void *arg);

/* The session has one less under way: half of a portion gone, it gets the next one. */
static void
flush_count_done(struct offline *offline, struct offline_entry *entry)
{
	struct offline_flush *flush = &offline->flush;

	flush_uncount(offline, entry);
	if (flush->session && !flush->running && flush->stanzas <= FLUSH_STANZAS / 2)
		timer_start(&flush->more, 1, flush_more, offline);
}

/* Kept for this delivery only, against what the account wants kept. Not removed now, it expires. */
static void
offline_remove(const struct iris_user *user, const struct offline_entry *entry)
{
	const struct iris_log_entry gone = { .id = entry->id,
					     .owner = user->account.owner,
					     .reader = user->account.id,
					     .peer = entry->removed_peer };

	if (log_remove(&gone, 1, NULL) != IRIS_VAULT_OK)
		LOG(IRIS_LOG_WARNING, "xep0160", "delivered message not removed",
		    LOG_INT("account", gone.reader));
}

static enum iris_verdict
offline_delivery_done(struct iris_session_delivery *arg)
{
	struct offline *offline;
	struct offline_entry *entry;

	if (arg->delivery->log_id == 0)
		return IRIS_PASS;
	offline = offline_of(arg->session->user);
	entry = offline_find(offline, arg->delivery->log_id);
	if (entry) {
		if (entry->removed_peer && !entry->done)
			offline_remove(arg->session->user, entry);
		entry->done = true;
		flush_count_done(offline, entry);
		offline_move_cursor(offline);
	}
	return IRIS_PASS;
}

/* --- what a lost session left --- */

/* Did it take messages when this one came? A session may be bound long before. */
static bool
offline_took(struct iris_session *session, const struct iris_delivery *delivery)
{
	const struct offline_taker *taker = *session_slot(session, &offline_self);

	if (!taker)
		return false;
	if (delivery->log_id > 0)
		return delivery->log_id > taker->after_id;
	return taker->since_ms < delivery->stanza->received_ms;
}

/* What the account itself says, such as results of a query, belongs to what was asked for. */
static bool
offline_is_own(const struct iris_user *user, const struct iris_stanza *stanza)
{
	return jid_is_none(&stanza->from) || jid_equal(&stanza->from, &user->jid);
}

/* Did another session get this message when it came? Or is there one that can take it now? */
static bool
offline_pass_on(struct iris_session *lost, const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;
	/* else it was passed on, or came from the archive */
	bool first = jid_is_none(&delivery->to);
	bool to_all = first && !jid_equal(&stanza->to, &lost->jid);
	struct iris_delivery again = *delivery;
	struct iris_session *session, *taker = NULL;

	TAILQ_FOREACH(session, &lost->user->sessions, link) {
		if (session == lost || session->closing || !session_takes_messages(session))
			continue;
		if (offline_took(session, delivery) && (to_all || (first && session->copies)))
			return true;
		if (!taker || session->active_ms > taker->active_ms)
			taker = session;
	}
	if (!taker)
		return false;
	again.to = taker->jid;
	session_deliver(taker, &again);
	return true;
}

static enum iris_verdict
offline_delivery_lost(struct iris_session_delivery *arg)
{
	struct iris_user *user = arg->session->user;
	struct offline *offline = offline_of(user);
	struct offline_entry *entry = offline_find(offline, arg->delivery->log_id);
	int64_t id = arg->delivery->log_id;

	if ((entry && entry->done) || offline_is_own(user, arg->delivery->stanza) ||
	    offline_pass_on(arg->session, arg->delivery))
		return IRIS_DONE;
	if (!archive_is_for_offline(arg->delivery->stanza) || id < 0)
		return IRIS_PASS;
	if (id == 0 &&
	    archive_append(user, arg->delivery, ARCHIVE_OFFLINE, NULL, &id) != IRIS_VAULT_OK)
		return IRIS_PASS;
	offline_forget(offline, id);
	offline_wait(offline, id);
	metric_add(&offline_metrics[2], 1);
	return IRIS_DONE;
}

/* --- delivering the backlog --- */

static struct offline_held *
offline_held_new(const struct iris_delivery *delivery)
{
	struct offline_held *held = iris_calloc(1, sizeof(*held) + delivery_text(delivery));

	delivery_keep(&held->delivery, delivery, (char *)(held + 1));
	return held;
}

/*
 * While a session gets its backlog, what is new waits behind it: order is the order of arrival.
 * SECURITY: a flood does not grow memory; what is too much is read from the archive when its turn
 * comes.
 */
static enum iris_verdict
offline_session_deliver(struct iris_session_delivery *arg)
{
	struct offline *offline = offline_of(arg->session->user);
	const struct iris_delivery *delivery = arg->delivery;
	struct offline_held *held;

	if (!offline || offline->flush.session != arg->session || offline->flush.passing ||
	    delivery->stanza->kind != IRIS_MESSAGE ||
	    offline_is_own(offline->user, delivery->stanza))
		return IRIS_PASS;
	if (offline->held_count < (size_t)option_int(&offline_self, OPT_HOLD_MAX)) {
		held = offline_held_new(delivery);
		TAILQ_INSERT_TAIL(&offline->held, held, link);
		offline->held_count++;
		return IRIS_DONE;
	}
	if (delivery->log_id == 0 || !archive_is_for_offline(delivery->stanza))
		return IRIS_PASS;
	offline_forget(offline, delivery->log_id);
	offline_wait(offline, delivery->log_id);
	return IRIS_DONE;
}

/* To the session, or to whoever is next when it is closing. */
static void
offline_release_held(struct offline *offline, struct iris_session *session)
{
	struct offline_held *held;

	offline->flush.passing = true;
	while ((held = TAILQ_FIRST(&offline->held)) != NULL) {
		TAILQ_REMOVE(&offline->held, held, link);
		offline->held_count--;
		if (!session->closing)
			session_deliver(session, &held->delivery);
		else
			(void)offline_delivery_lost(
				&(struct iris_session_delivery){ session, &held->delivery });
		delivery_let_go(&held->delivery);
		free(held);
	}
	offline->flush.passing = false;
}

static void
flush_deliver(struct offline *offline, const struct iris_log_entry *entry)
{
	struct offline_flush *flush = &offline->flush;
	struct iris_session *session = flush->session;
	struct iris_stanza *stanza = archive_entry_stanza(entry);
	struct offline_entry *tracked = offline_track(offline, entry->id);
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = session->jid,
					  .log_id = entry->id };

	if (!stanza || message_is_tombstone(stanza->root)) {
		/*
		 * It does not open, as the vault has logged; or its sender took it back
		 * meanwhile.
		 */
		tracked->done = true;
		stanza_unref(&stanza);
		return;
	}
	tracked->removed_peer = entry->flags & ARCHIVE_HISTORY ? 0 : entry->peer;
	tracked->flush = flush->number;
	tracked->size = (uint32_t)entry->body.len;
	flush->stanzas++;
	flush->bytes += entry->body.len;
	stanza_id_add(stanza->root, offline->user, entry->id);
	delay_add(stanza->root, jid_domain(&session->jid), log_id_time_ms(entry->id));
	stanza_freeze(stanza);
	flush->passing = true;
	session_deliver(session, &delivery);
	flush->passing = false;
	metric_add(&offline_metrics[1], 1);
	stanza_unref(&stanza);
}

static bool
flush_is_unread(const struct offline_flush *flush)
{
	struct iris_stream *stream = flush->session->stream;

	return stream && stream_output_pending(stream) >= FLUSH_BYTES;
}

static bool
flush_has_room(const struct offline_flush *flush)
{
	return !flush->session->congested && flush->stanzas < FLUSH_STANZAS &&
	       flush->bytes < FLUSH_BYTES && !flush_is_unread(flush);
}

enum flush_outcome { FLUSH_GO_ON, FLUSH_PAUSED, FLUSH_THROUGH, FLUSH_BROKEN };

/* One page. Waits; afterwards the session may have gone. */
static enum flush_outcome
flush_page(struct offline *offline, struct iris_arena *arena)
{
	struct offline_flush *flush = &offline->flush;
	struct iris_account account = offline->user->account;
	struct iris_log_query query = { .reader = account.id, .after_id = flush->after,
		.flags_all = ARCHIVE_OFFLINE, .limit = OFFLINE_PAGE };
	struct iris_log_page page;

	if (log_read(&query, account.owner, arena, &page) != IRIS_VAULT_OK)
		return FLUSH_BROKEN;
	for (size_t i = 0; i < page.count; i++) {
		if (!flush->session || !session_takes_messages(flush->session))
			return FLUSH_BROKEN;
		if (!flush_has_room(flush))
			return FLUSH_PAUSED;
		flush->after = page.entries[i].id;
		if (!offline_find(offline, page.entries[i].id))
			flush_deliver(offline, &page.entries[i]);
	}
	if (page.more)
		return FLUSH_GO_ON;
	return flush->session ? FLUSH_THROUGH : FLUSH_BROKEN;
}

/* What came to wait meanwhile is part of it, behind what is held. */
static bool
flush_starts_over(struct offline *offline)
{
	if (offline->first_waiting == 0)
		return false;
	offline_release_held(offline, offline->flush.session);
	offline->flush.after = offline->first_waiting - 1;
	offline->first_waiting = 0;
	return true;
}

static void
flush_begin(struct offline *offline, struct iris_session *session)
{
	struct offline_flush *flush = &offline->flush;

	if (++flush->number == 0)
		flush->number = 1;
	flush->session = session;
	flush->stanzas = flush->bytes = 0;
	flush->after = offline->backlog ? offline->cursor : offline->first_waiting - 1;
	offline->first_waiting = 0; /* what waits from now on starts it over */
}

static struct iris_session *
flush_find_taker(const struct iris_user *user)
{
	struct iris_session *session;

	TAILQ_FOREACH(session, &user->sessions, link)
		if (session_takes_messages(session))
			break;
	return session;
}

/*
 * Through, or its session can take no more of it: then what was not sent waits, for a session
 * that came meanwhile or for the next one.
 */
static void
flush_end(struct offline *offline, bool through)
{
	struct iris_session *session = offline->flush.session, *next = NULL;

	timer_stop(&offline->flush.more);
	offline->flush.session = NULL;
	if (through)
		offline->backlog = false;
	else
		offline_wait(offline, offline->cursor + 1);
	if (session)
		offline_release_held(offline, session);
	offline_move_cursor(offline);
	if (!through && (!session || !session_takes_messages(session)))
		next = flush_find_taker(offline->user);
	if (!next)
		return;
	flush_begin(offline, next);
	timer_start(&offline->flush.more, 1, flush_more, offline);
}

/* Acknowledgements bring the next portion by themselves; what else is in its way does not tell. */
static void
flush_look_later(struct offline *offline)
{
	if (flush_is_unread(&offline->flush))
		timer_start(&offline->flush.more, FLUSH_RETRY_MS, flush_more, offline);
	else if (offline->flush.session->congested)
		timer_start(&offline->flush.more, FLUSH_CONGESTED_MS, flush_more, offline);
}

static void
flush_run(struct offline *offline)
{
	struct offline_flush *flush = &offline->flush;
	struct iris_user *user = offline->user;
	enum flush_outcome outcome;

	user_hold(user);
	flush->running = true;
	do {
		struct iris_arena *arena = arena_new(); /* one page at a time */

		outcome = flush_page(offline, arena);
		arena_unref(&arena);
		if (outcome == FLUSH_THROUGH && flush_starts_over(offline))
			outcome = FLUSH_GO_ON;
	} while (outcome == FLUSH_GO_ON && flush->session);
	flush->running = false;
	if (!flush->session || outcome != FLUSH_PAUSED)
		flush_end(offline, outcome == FLUSH_THROUGH);
	else
		flush_look_later(offline);
	user_release(&user);
}

static void
flush_fiber(void *arg)
{
	flush_run(arg);
}

static void
flush_more(void *arg)
{
	struct offline *offline = arg;

	if (!flush_has_room(&offline->flush)) {
		flush_look_later(offline);
	} else if (!fiber_start("xep0160: backlog", flush_fiber, offline)) {
		timer_start(&offline->flush.more, FLUSH_RETRY_MS, flush_more, offline);
	}
}

/* The first portion goes out before the presence is through. */
static enum iris_verdict
offline_session_available(struct iris_session *session)
{
	struct offline *offline = offline_of(session->user);
	struct offline_flush *flush = &offline->flush;

	if (!session_takes_messages(session) || flush->session || flush->running ||
	    (!offline->backlog && !offline->first_waiting))
		return IRIS_PASS;
	flush_begin(offline, session);
	flush_run(offline);
	return IRIS_PASS;
}

/* It begins to take messages, or takes none any more. */
static enum iris_verdict
offline_session_presence(struct iris_session *session)
{
	void **slot = session_slot(session, &offline_self);
	bool takes = session_takes_messages(session);
	struct offline_taker *taker;

	if (takes == (*slot != NULL))
		return IRIS_PASS;
	free(*slot);
	*slot = NULL;
	if (!takes)
		return IRIS_PASS;
	*slot = taker = iris_malloc(sizeof(*taker));
	*taker = (struct offline_taker){ offline_of(session->user)->newest, worker_wall_ms() };
	return IRIS_PASS;
}

static enum iris_verdict
offline_session_close(struct iris_session *session)
{
	struct offline *offline = offline_of(session->user);
	void **slot = session_slot(session, &offline_self);

	free(*slot);
	*slot = NULL;
	if (offline->flush.session == session) {
		offline_release_held(offline, session);
		offline->flush.session = NULL;
		if (!offline->flush.running)
			flush_end(offline, false);
	}
	if (session->user->session_count == 0)
		offline_persist(offline);
	return IRIS_PASS;
}

/* --- the user comes and goes --- */

static bool
offline_take(struct iris_user *user, const struct iris_rows *rows)
{
	struct offline *offline = iris_calloc(1, sizeof(*offline));

	offline->user = user;
	offline->backlog = true;
	TAILQ_INIT(&offline->tracked);
	TAILQ_INIT(&offline->held);
	if (rows->count > 0)
		offline->cursor = offline->stored_cursor = row_value(rows, 0, 0)->number;
	offline->newest = offline->cursor;
	*user_slot(user, &offline_self) = offline;
	return true;
}

static enum iris_verdict
offline_user_unload(struct iris_user *user)
{
	struct offline *offline = offline_of(user);
	struct offline_entry *entry;

	if (!offline)
		return IRIS_PASS;
	timer_stop(&offline->flush.more);
	offline_persist(offline);
	IRIS_ASSERT(TAILQ_EMPTY(&offline->held)); /* they went with their session */
	while ((entry = TAILQ_FIRST(&offline->tracked)) != NULL) {
		TAILQ_REMOVE(&offline->tracked, entry, link);
		free(entry);
	}
	free(offline);
	*user_slot(user, &offline_self) = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
offline_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&offline_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static const struct iris_feature offline_features[] = {
	{ IRIS_DISCO_HOST, "msgoffline" },
	{ .var = NULL },
};

static const struct iris_hook_handler offline_hooks[] = {
	HOOK(message_in, IRIS_LATE, offline_message_in),
	HOOK(message_offline, IRIS_NEUTRAL, offline_message_offline),
	HOOK(delivery_done, IRIS_NEUTRAL, offline_delivery_done),
	HOOK(delivery_lost, IRIS_NEUTRAL, offline_delivery_lost),
	HOOK(session_deliver, IRIS_EARLY, offline_session_deliver),
	HOOK(session_available, IRIS_LATE, offline_session_available),
	HOOK(session_presence, IRIS_NEUTRAL, offline_session_presence),
	HOOK(session_close, IRIS_OBSERVE, offline_session_close),
	HOOK(user_unload, IRIS_NEUTRAL, offline_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, offline_account_removed),
	HOOKS_END,
};

static const struct iris_option offline_options[] = {
	[OPT_PERSIST] = { "persist-after", IRIS_OPT_DURATION, "2 seconds", .min = 100, .max = 60000,
			  .reloadable = true,
			  .help = "How long after it moved the cursor of an account is written: "
				  "what a crash may deliver again." },
	[OPT_HOLD_MAX] = { "hold-max", IRIS_OPT_INT, "1000", .min = 10, .max = 100000,
			   .reloadable = true,
			   .help = "How many new messages wait behind a session's backlog." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0160 = {
	IRIS_MODULE_HEAD,
	.name = "xep0160",
	.summary = "Offline Messages",
	.xep = "XEP-0160 1.0.1",
	.needs = IRIS_NAMES("archive", "xep0203", "xep0359"),
	.self = &offline_self,
	.options = offline_options,
	.user_rows = (const struct iris_user_rows[]){ { &offline_load, offline_take }, { NULL } },
	.queries =
		(struct iris_query *const[]){ &offline_load, &offline_store, &offline_erase, NULL },
	.features = offline_features,
	.hooks = offline_hooks,
	.metrics = offline_metrics,
	.not_unloadable = true,
};
