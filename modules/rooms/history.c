/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What newcomers are sent (XEP-0045 §7.2.13 to §7.2.15): the latest messages, as they are sent,
 * in a ring, read from the log when somebody needs them first; and the subject.  What is older is
 * in the archive (xep0313).
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "modules/rooms/live.h"
#include "xep/xep0203_delay.h"

struct history_entry {
	int64_t id;
	struct iris_stanza *stanza; /* delayed, compact, frozen */
};

struct room_history {
	bool is_reading; /* it has what was said since; what the log has is to come */
	size_t cap, count, first;
	struct history_entry entries[];
};

static struct history_entry *
entry_at(struct room_history *history, size_t i)
{
	return &history->entries[(history->first + i) % history->cap];
}

static struct room_history *
history_new(void)
{
	size_t cap = (size_t)option_int(&rooms_self, OPT_HISTORY);
	struct room_history *history =
		iris_calloc(1, sizeof(*history) + cap * sizeof(history->entries[0]));

	history->cap = cap;
	return history;
}

/* Takes the reference. The oldest makes room. */
static void
history_push(struct room_history *history, struct iris_stanza *stanza, int64_t id)
{
	if (history->cap == 0) {
		stanza_unref(&stanza);
		return;
	}
	if (history->count == history->cap) {
		stanza_unref(&entry_at(history, 0)->stanza);
		history->first = (history->first + 1) % history->cap;
		history->count--;
	}
	*entry_at(history, history->count++) = (struct history_entry){ id, stanza };
}

void
history_free(struct room *room)
{
	struct room_history *history = room->history;

	if (room->live && room->live->subject)
		stanza_unref(&room->live->subject);
	if (!history)
		return;
	for (size_t i = 0; i < history->count; i++)
		stanza_unref(&entry_at(history, i)->stanza);
	free(history);
	room->history = NULL;
}

/* A message as a newcomer gets it. */
static struct iris_stanza *
delayed_copy(const struct room *room, const struct iris_stanza *message, int64_t time_ms)
{
	struct iris_stanza *copy = stanza_copy(message), *compact;

	stanza_set_to(copy, NULL);
	delay_add(copy->root, jid_full(&room->jid), time_ms);
	compact = stanza_compact(copy);
	stanza_unref(&copy);
	return compact;
}

/* Without a ring nobody has needed it: the log has the message, unless the room keeps none. */
void
history_add(struct room *room, struct iris_stanza *message, int64_t log_id)
{
	if (!room->history && room->config.numbers[ROOM_CONFIG_ARCHIVE])
		return;
	if (!room->history)
		room->history = history_new();
	history_push(room->history, delayed_copy(room, message, log_id_time_ms(log_id)), log_id);
}

static struct iris_str
lock_key(const struct room *room, struct iris_arena *arena)
{
	return arena_printf(arena, "rooms: history %.*s", IRIS_STR_FMT(jid_full(&room->jid)));
}

/* What is being read of the log may be the message as it was. */
static void
history_settle(struct room *room)
{
	struct iris_arena *arena = arena_new();
	struct iris_str key = lock_key(room, arena);

	fiber_lock(key);
	fiber_unlock(key);
	arena_unref(&arena);
}

void
history_change(struct room *room, int64_t log_id, struct iris_stanza *message)
{
	struct room_history *history;

	history_settle(room);
	history = room->history;
	for (size_t i = 0; history && i < history->count; i++) {
		struct history_entry *entry = entry_at(history, i);

		if (entry->id != log_id)
			continue;
		stanza_unref(&entry->stanza);
		entry->stanza = delayed_copy(room, message, log_id_time_ms(log_id));
		return;
	}
}

/* --- reading it --- */

static bool
is_history(const struct iris_stanza *stanza) /* §7.2.13: subjects are not */
{
	return element_child(stanza->root, "body", NULL) ||
	       !element_child(stanza->root, "subject", NULL);
}

static void
history_take(struct room *room, struct room_history *history, const struct iris_log_page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		struct iris_stanza *stanza = archive_entry_stanza(&page->entries[i]);
		int64_t id = page->entries[i].id;

		if (stanza && is_history(stanza))
			history_push(history, delayed_copy(room, stanza, log_id_time_ms(id)), id);
		if (stanza)
			stanza_unref(&stanza);
	}
}

/* What was said before, then what was said while that was read. */
static void
history_join(struct room *room, const struct iris_log_page *page)
{
	struct room_history *since = room->history, *history = history_new();

	history_take(room, history, page);
	for (size_t i = 0; i < since->count; i++) {
		const struct history_entry *entry = entry_at(since, i);

		history_push(history, stanza_ref(entry->stanza), entry->id);
	}
	history_free(room);
	room->history = history;
}

/* Fails: the vault has logged why, and the next newcomer tries again. */
static void
history_read(struct room *room, struct iris_arena *arena)
{
	const struct iris_log_query query = {
		.reader = room->id,
		.before_id = message_mark(room) + 1,
		.flags_all = ARCHIVE_HISTORY,
		.limit = (size_t)option_int(&rooms_self, OPT_HISTORY),
		.backwards = true,
	};
	struct iris_log_page page = { .count = 0 };
	bool ok;

	room->history = history_new();
	room->history->is_reading = true;
	ok = query.limit == 0 || log_read(&query, room->owner, arena, &page) == IRIS_VAULT_OK;
	if (room->id != query.reader || !room->history)
		return; /* the room was destroyed meanwhile */
	if (ok)
		history_join(room, &page);
	else
		history_free(room);
}

void
history_load(struct room *room)
{
	struct iris_arena *arena = arena_new();
	struct iris_str key = lock_key(room, arena);
	bool before = transit_begin(false); /* it is read for all who come */

	fiber_lock(key);
	if (!room->history)
		history_read(room, arena);
	fiber_unlock(key);
	arena_unref(&arena);
	transit_end(before);
}

void
history_begin(struct room *room)
{
	if (!room->history)
		room->history = history_new();
}

bool
history_is_ready(const struct room *room, const struct history_wanted *wanted)
{
	return (room->history && !room->history->is_reading) || wanted->stanzas == 0 ||
	       wanted->chars == 0 || !room->config.numbers[ROOM_CONFIG_ARCHIVE];
}

/* --- sending it --- */

static void
want_at_most(const struct iris_element *history, const char *name, int64_t *value)
{
	int64_t wanted;

	if (str_to_int(element_get(history, name), 0, INT32_MAX, &wanted) && wanted < *value)
		*value = wanted;
}

void
history_want(struct history_wanted *wanted_r, const struct room *room,
	     const struct iris_element *x)
{
	const struct iris_element *history = x ? element_child(x, "history", NULL) : NULL;
	int64_t seconds = INT64_MAX, since;

	*wanted_r = (struct history_wanted){ .stanzas = room->config.numbers[ROOM_CONFIG_HISTORY],
					     .chars = INT64_MAX };
	if (!history)
		return;
	want_at_most(history, "maxstanzas", &wanted_r->stanzas);
	want_at_most(history, "maxchars", &wanted_r->chars);
	want_at_most(history, "seconds", &seconds);
	if (seconds != INT64_MAX)
		wanted_r->since_ms = worker_wall_ms() - seconds * 1000;
	if (datetime_parse(element_get(history, "since"), &since) && since > wanted_r->since_ms)
		wanted_r->since_ms = since;
}

/* In characters of the whole stanza, which are no more than its bytes. */
static int64_t
count_chars(const struct iris_stanza *stanza, const struct iris_jid *to)
{
	struct iris_strbuf text = STRBUF_INIT(arena_new());
	int64_t len;

	delivery_write(&text, &(const struct iris_delivery){ .stanza = (struct iris_stanza *)stanza,
							     .to = *to });
	len = (int64_t)text.len;
	arena_unref(&text.arena);
	return len;
}

/* The first of those to be sent: as many of the latest as all limits allow. */
static size_t
history_first(struct room_history *history, const struct iris_jid *to,
	      const struct history_wanted *wanted, size_t end)
{
	int64_t stanzas = wanted->stanzas, chars = wanted->chars;
	size_t first = end;

	while (first > 0 && stanzas > 0) {
		const struct history_entry *entry = entry_at(history, first - 1);

		if (log_id_time_ms(entry->id) < wanted->since_ms)
			break;
		if (wanted->chars != INT64_MAX) {
			chars -= count_chars(entry->stanza, to);
			if (chars < 0)
				break;
		}
		first--;
		stanzas--;
	}
	return first;
}

void
history_send(struct room *room, const struct iris_jid *to, const struct history_wanted *wanted,
	     int64_t mark)
{
	struct room_history *history = room->history;
	size_t end = history ? history->count : 0;

	while (end > 0 && entry_at(history, end - 1)->id > mark)
		end--;
	if (end == 0)
		return;
	for (size_t i = history_first(history, to, wanted, end); i < end; i++) {
		struct iris_stanza *stanza = stanza_ref(entry_at(history, i)->stanza);

		live_send_one(room, &stanza, to);
	}
}

/* §7.2.15: an empty one when none was ever set. */
static struct iris_stanza *
subject_none(const struct room *room)
{
	struct iris_stanza *stanza = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);

	stanza_set_from(stanza, &room->jid);
	element_add(stanza->root, "subject", NULL);
	stanza_freeze(stanza);
	return stanza;
}

struct iris_stanza *
subject_for_newcomers(struct room *room)
{
	struct room_live *live = live_of(room);
	bool before = transit_begin(false);

	if (!live->subject)
		live->subject = room->subject.message ?
					delayed_copy(room, room->subject.message,
						     room->subject.time_ms) :
					subject_none(room);
	transit_end(before);
	return stanza_ref(live->subject);
}
