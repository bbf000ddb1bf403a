/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0160: handing out what waits, stamped (XEP-0203).  Home worker of the account.
 *
 * A session gets its backlog in portions: the next one when it has acknowledged what it got, or
 * has read it.  Else a long absence would end a session for what we keep for it.  What is new
 * waits behind it: order is the order of arrival.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/payloads.h"
#include "xep/xep0160_offline.h"
#include "xep/xep0203_delay.h"
#include "xep/xep0359_stanza_id.h"

#define OFFLINE_PAGE 100
#define FLUSH_STANZAS 100       /* under way to a session that gets its backlog … */
#define FLUSH_BYTES 524288      /* … or that much, unacknowledged or unread */
#define FLUSH_RETRY_MS 20       /* looks after output that is not read */
#define FLUSH_CONGESTED_MS 1000 /* looks after a session that has not acknowledged other things */

/* --- what comes meanwhile --- */

static struct offline_held *
held_new(const struct iris_delivery *delivery)
{
	struct offline_held *held = iris_calloc(1, sizeof(*held) + delivery_text(delivery));

	delivery_keep(&held->delivery, delivery, (char *)(held + 1));
	return held;
}

/*
 * SECURITY: a flood does not grow memory; what is too much is read from the archive when its turn
 * comes.
 */
bool
backlog_hold(struct offline *offline, const struct iris_session *session,
	     const struct iris_delivery *delivery)
{
	struct offline_entry *entry = cursor_find(offline, delivery->log_id);
	struct offline_held *held;

	if (offline->flush.session != session || offline->flush.passing)
		return false;
	if (offline->held_count < offline_hold_max()) {
		if (entry)
			entry->holders++;
		held = held_new(delivery);
		TAILQ_INSERT_TAIL(&offline->held, held, link);
		offline->held_count++;
		return true;
	}
	if (delivery->log_id == 0 || !archive_is_for_offline(delivery->stanza))
		return false;
	cursor_wait(offline, delivery->log_id);
	return true;
}

/* To the session, or to whoever is next when it is closing. */
static void
held_release(struct offline *offline, struct iris_session *session)
{
	struct offline_entry *entry;
	struct offline_held *held;

	offline->flush.passing = true;
	while ((held = TAILQ_FIRST(&offline->held)) != NULL) {
		TAILQ_REMOVE(&offline->held, held, link);
		offline->held_count--;
		entry = cursor_find(offline, held->delivery.log_id);
		if (entry) /* it is counted again when it goes */
			entry->holders--;
		if (!session->closing)
			session_deliver(session, &held->delivery);
		else
			offline_hand_on(session, &held->delivery);
		delivery_let_go(&held->delivery);
		free(held);
	}
	offline->flush.passing = false;
}

/* --- one message --- */

static void flush_more(void *arg);

/* It is not under way any more to the session: half of a portion gone, it gets the next one. */
void
backlog_uncount(struct offline *offline, struct offline_entry *entry)
{
	struct offline_flush *flush = &offline->flush;

	if (!flush->session || entry->flush == 0 || entry->flush != flush->number)
		return;
	entry->flush = 0;
	flush->stanzas--;
	flush->bytes -= entry->size;
	if (!flush->running && flush->stanzas <= FLUSH_STANZAS / 2)
		timer_start(&flush->more, 1, flush_more, offline);
}

static void
flush_send(struct offline *offline, const struct iris_log_entry *entry, struct iris_stanza *stanza)
{
	struct offline_flush *flush = &offline->flush;
	struct iris_session *session = flush->session;
	struct offline_entry *tracked = cursor_track(offline, entry->id);
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = session->jid,
					  .log_id = entry->id };

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
	offline_count(OFFLINE_DELIVERED);
}

/*
 * XEP-0313 §7.1, XEP-0386 §4: a client that reads the archive gets no second copy. True: this is
 * one, and from now on treated as if the session had been sent it here.
 */
static bool
flush_skips(struct offline *offline, const struct iris_log_entry *entry)
{
	struct iris_session *session = offline->flush.session;
	enum offline_read_state read = offline_session_read(session, entry->id);

	if (!(entry->flags & ARCHIVE_HISTORY))
		return false;
	if (read == OFFLINE_READ_SENT) {
		cursor_track(offline, entry->id)->holders++;
		offline_session_owes(session, entry->id);
	} else if (read == OFFLINE_READ_ACKED || offline_session_skips(session, entry->id)) {
		cursor_settle(offline, cursor_track(offline, entry->id));
	} else {
		return false;
	}
	return true;
}

static void
flush_deliver(struct offline *offline, const struct iris_log_entry *entry)
{
	struct iris_stanza *stanza;

	if (flush_skips(offline, entry))
		return;
	stanza = archive_entry_stanza(entry);
	/* It may not open, as the vault has logged; or its sender took it back meanwhile. */
	if (stanza && !message_is_tombstone(stanza->root))
		flush_send(offline, entry, stanza);
	else
		cursor_settle(offline, cursor_track(offline, entry->id));
	stanza_unref(&stanza);
}

/* --- pages --- */

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
		if (!cursor_find(offline, page.entries[i].id))
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
	held_release(offline, offline->flush.session);
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

/* Whoever was active last is most likely to be looked at. */
static struct iris_session *
flush_find_taker(const struct iris_user *user)
{
	struct iris_session *session, *found = NULL;

	TAILQ_FOREACH(session, &user->sessions, link) {
		if (session_takes_messages(session) &&
		    (!found || session->active_ms > found->active_ms))
			found = session;
	}
	return found;
}

void
backlog_wake(struct offline *offline)
{
	struct iris_session *session;

	if (offline->flush.session || offline->flush.running ||
	    (!offline->backlog && !offline->first_waiting))
		return;
	session = flush_find_taker(offline->user);
	if (!session)
		return;
	flush_begin(offline, session);
	timer_start(&offline->flush.more, 1, flush_more, offline);
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
		cursor_wait_from(offline, offline->cursor + 1);
	if (session)
		held_release(offline, session);
	cursor_move(offline);
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
void
backlog_give(struct offline *offline, struct iris_session *session)
{
	struct offline_flush *flush = &offline->flush;

	if (flush->session || flush->running || (!offline->backlog && !offline->first_waiting))
		return;
	flush_begin(offline, session);
	flush_run(offline);
}

void
backlog_session_close(struct offline *offline, struct iris_session *session)
{
	if (offline->flush.session != session)
		return;
	held_release(offline, session);
	offline->flush.session = NULL;
	if (!offline->flush.running)
		flush_end(offline, false);
}
