/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0160: what of an account's messages has reached a client.  Home worker of the account.
 *
 * The cursor says: everything up to here has.  An entry behind it is
 *   under way  – sessions have it but none has acknowledged it (in memory),
 *   done       – acknowledged, but something before it is not (in memory; written with the cursor),
 *   waiting    – neither: the next session that takes messages gets it.
 * After a crash what was not written is forgotten, so that a client may get a message again, with
 * the same id, but never misses one.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/xep0160_offline.h"

#define TRACKED_MAX 20000 /* entries in memory; older ones are then forgotten */
#define BEYOND_MAX 1000   /* done ones behind the cursor that are written with it */
#define ID_BYTES 8

struct iris_query cursor_load_query = {
	.name = "offline.load", .table = "offline_cursor",
	.sql = "SELECT delivered, beyond FROM offline_cursor WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "delivered", IRIS_INT }, { "beyond", IRIS_BLOB } },
};

static struct iris_query cursor_store_query = {
	.name = "offline.store", .table = "offline_cursor", .write = true,
	.sql = "INSERT INTO offline_cursor (account, delivered, beyond) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account) DO UPDATE SET delivered = excluded.delivered, "
	       "beyond = excluded.beyond",
	.params = { { "account", IRIS_INT }, { "delivered", IRIS_INT }, { "beyond", IRIS_BLOB } },
};

static struct iris_query cursor_erase_query = {
	.name = "offline.erase", .table = "offline_cursor", .write = true,
	.sql = "DELETE FROM offline_cursor WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

struct iris_query *const offline_queries[] = { &cursor_load_query, &cursor_store_query,
					       &cursor_erase_query, NULL };

/* --- what is done behind the cursor, as bytes: ids, ascending, most significant byte first --- */

static struct iris_str
beyond_write(const struct offline *offline, struct iris_arena *arena)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);
	const struct offline_entry *entry;
	unsigned count = 0;

	TAILQ_FOREACH(entry, &offline->tracked, link) {
		char bytes[ID_BYTES];

		if (!entry->done)
			continue;
		if (count++ == BEYOND_MAX)
			break;
		for (size_t i = 0; i < ID_BYTES; i++)
			bytes[i] = (char)((uint64_t)entry->id >> (56 - 8 * i));
		strbuf_add(&buf, (struct iris_str){ bytes, ID_BYTES });
	}
	return strbuf_str(&buf);
}

static void
beyond_read(struct offline *offline, struct iris_str bytes)
{
	for (size_t at = 0; at + ID_BYTES <= bytes.len; at += ID_BYTES) {
		uint64_t id = 0;

		for (size_t i = 0; i < ID_BYTES; i++)
			id = id << 8 | (unsigned char)bytes.base[at + i];
		if ((int64_t)id > offline->cursor)
			cursor_track(offline, (int64_t)id)->done = true;
	}
}

/* --- kept --- */

void
cursor_persist(struct offline *offline)
{
	struct iris_account *account = &offline->user->account;
	struct iris_arena *arena;

	timer_stop(&offline->persist);
	if (!offline->changed)
		return;
	arena = arena_new();
	/* Not stored now, it is with the next change; at worst a client gets messages again. */
	if (vault_post(&cursor_store_query, account->owner,
		       VALUES(value_int(account->id), value_int(offline->cursor),
			      value_str(beyond_write(offline, arena))),
		       NULL) == IRIS_VAULT_OK)
		offline->changed = false;
	arena_unref(&arena);
}

static void
cursor_persist_due(void *arg)
{
	cursor_persist(arg);
}

static void
cursor_changed(struct offline *offline)
{
	offline->changed = true;
	if (!timer_is_running(&offline->persist))
		timer_start(&offline->persist, offline_persist_after_ms(), cursor_persist_due,
			    offline);
}

void
cursor_take(struct offline *offline, const struct iris_rows *rows)
{
	if (rows->count == 0)
		return;
	offline->cursor = offline->newest = row_value(rows, 0, 0)->number;
	beyond_read(offline, row_value(rows, 0, 1)->bytes);
}

bool
cursor_erase(const struct iris_account *account)
{
	return vault_post(&cursor_erase_query, account->owner, VALUES(value_int(account->id)),
			  NULL) == IRIS_VAULT_OK;
}

/* --- entries --- */

static void
cursor_untrack(struct offline *offline, struct offline_entry *entry)
{
	backlog_uncount(offline, entry);
	TAILQ_REMOVE(&offline->tracked, entry, link);
	offline->tracked_count--;
	free(entry);
}

void
cursor_free(struct offline **offline_p)
{
	struct offline *offline = *offline_p;

	*offline_p = NULL;
	timer_stop(&offline->flush.more);
	cursor_persist(offline);
	IRIS_ASSERT(TAILQ_EMPTY(&offline->held)); /* they went with their session */
	while (!TAILQ_EMPTY(&offline->tracked))
		cursor_untrack(offline, TAILQ_FIRST(&offline->tracked));
	free(offline);
}

/* From the back: what is looked for is nearly always among the newest. */
struct offline_entry *
cursor_find(struct offline *offline, int64_t id)
{
	struct offline_entry *entry;

	TAILQ_FOREACH_REVERSE(entry, &offline->tracked, offline_entries, link) {
		if (entry->id <= id)
			break;
	}
	return entry && entry->id == id ? entry : NULL;
}

struct offline_entry *
cursor_track(struct offline *offline, int64_t id)
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

void
cursor_wait_from(struct offline *offline, int64_t id)
{
	if (offline->first_waiting == 0 || id < offline->first_waiting)
		offline->first_waiting = id;
}

void
cursor_wait(struct offline *offline, int64_t id)
{
	struct offline_entry *entry = cursor_find(offline, id);

	if (entry)
		cursor_untrack(offline, entry);
	if (id > offline->newest)
		offline->newest = id;
	cursor_wait_from(offline, id);
}

/* Kept for this delivery only, against what the account wants kept. Not removed now, it expires. */
static void
cursor_remove(const struct iris_user *user, const struct offline_entry *entry)
{
	const struct iris_log_entry gone = { .id = entry->id,
					     .owner = user->account.owner,
					     .reader = user->account.id,
					     .peer = entry->removed_peer };

	if (log_remove(&gone, 1, NULL) != IRIS_VAULT_OK)
		LOG(IRIS_LOG_WARNING, "xep0160", "delivered message not removed",
		    LOG_INT("account", gone.reader));
}

void
cursor_settle(struct offline *offline, struct offline_entry *entry)
{
	if (entry->removed_peer && !entry->done)
		cursor_remove(offline->user, entry);
	if (!entry->done)
		cursor_changed(offline);
	entry->done = true;
	backlog_uncount(offline, entry);
	cursor_move(offline);
}

/* How far it could go, for all that is known to wait or has not been read yet. */
static int64_t
cursor_limit(const struct offline *offline)
{
	int64_t limit = offline->newest;

	if (offline->flush.session && offline->flush.after < limit)
		limit = offline->flush.after;
	else if (offline->backlog && !offline->flush.session)
		limit = offline->cursor;
	if (offline->first_waiting && offline->first_waiting - 1 < limit)
		limit = offline->first_waiting - 1;
	return limit;
}

/*
 * To the first entry that is waiting or under way. A done one is remembered until then: what is
 * read behind the cursor and is not remembered, is delivered.
 */
void
cursor_move(struct offline *offline)
{
	int64_t limit = cursor_limit(offline);
	struct offline_entry *first;

	while ((first = TAILQ_FIRST(&offline->tracked)) != NULL &&
	       ((first->done && first->id <= limit) || offline->tracked_count > TRACKED_MAX))
		cursor_untrack(offline, first);
	if (first && first->id - 1 < limit)
		limit = first->id - 1;
	if (limit <= offline->cursor)
		return;
	offline->cursor = limit;
	cursor_changed(offline);
}
