/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What remains of rooms that are gone (P6.4): their log, and the files that were sent to them.
 * The rows of a room go in one transaction, which leaves one in room_erasures; its name is free at
 * once.  That table is the queue: one fiber of the main worker takes one room after the other, a
 * page of the log at a time with pauses, from the start on, so that what a crash has cut short is
 * finished.
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "modules/rooms/rooms_private.h"

#define ERASE_PAGE 100
#define ERASE_PAUSE_MS 20
#define RETRY_MS 60000 /* after the vault took nothing */

struct iris_query erasure_insert_query = {
	.name = "rooms.erasure_insert", .table = "room_erasures", .write = true,
	.sql = "INSERT INTO room_erasures (room, owner, begun) VALUES ($1, $2, $3) "
	       "ON CONFLICT (room) DO NOTHING",
	.params = { { "room", IRIS_INT }, { "owner", IRIS_INT }, { "begun", IRIS_INT } },
};

struct iris_query erasure_next_query = {
	.name = "rooms.erasure_next", .table = "room_erasures",
	.sql = "SELECT room, owner FROM room_erasures WHERE room > $1 ORDER BY room LIMIT 1",
	.params = { { "room", IRIS_INT } },
	.columns = { { "room", IRIS_INT }, { "owner", IRIS_INT } },
};

struct iris_query erasure_end_query = {
	.name = "rooms.erasure_end", .table = "room_erasures", .write = true,
	.sql = "DELETE FROM room_erasures WHERE room = $1",
	.params = { { "room", IRIS_INT } },
};

struct erasure {
	int64_t room;
	iris_owner owner;
};

struct erasure_commit {
	struct iris_wait wait;
	bool failed;
};

/* Main worker. */
static struct {
	bool running, again; /* again: one was added while it ran */
	struct iris_timer retry;
} erasures;

/* --- a page of one room's log --- */

static void
erasure_committed(void *arg, bool failed)
{
	struct erasure_commit *commit = arg;

	commit->failed = failed;
	wait_done(&commit->wait);
}

static struct iris_ticket *
erasure_ticket(struct erasure_commit *commit)
{
	wait_init(&commit->wait);
	return ticket_new(erasure_committed, commit);
}

static bool
erasure_wait(struct erasure_commit *commit, struct iris_ticket **ticket_p)
{
	ticket_unref(ticket_p);
	wait_for(&commit->wait, "rooms: erasure");
	return !commit->failed;
}

/* What its messages named goes before they do. */
static bool
erase_files(const struct iris_log_page *page)
{
	struct retract_senders senders = { .arena = NULL };
	struct erasure_commit commit;
	struct iris_ticket *ticket;

	if (!hook_is_used(IRIS_HOOK_ID_message_retracted))
		return true;
	ticket = erasure_ticket(&commit);
	for (size_t i = 0; i < page->count; i++) {
		struct iris_stanza *stanza = archive_entry_stanza(&page->entries[i]);

		if (stanza)
			retract_tell(&senders, stanza, ticket);
		stanza_unref(&stanza);
	}
	retract_senders_free(&senders);
	return erasure_wait(&commit, &ticket);
}

static bool
erase_page(const struct iris_log_page *page)
{
	struct erasure_commit commit;
	struct iris_ticket *ticket;

	if (page->count == 0)
		return true;
	if (!erase_files(page))
		return false;
	ticket = erasure_ticket(&commit);
	if (log_remove(page->entries, page->count, ticket) != IRIS_VAULT_OK)
		ticket_fail(ticket);
	return erasure_wait(&commit, &ticket);
}

/* --- one room --- */

/* Of a company whose keys were destroyed nothing can be read: there is nothing left to erase. */
static bool
erase_log(const struct erasure *erasure)
{
	struct iris_log_query query = { .reader = erasure->room, .limit = ERASE_PAGE,
					.with_expired = true };
	enum iris_vault_result result;
	struct iris_log_page page;
	bool ok;

	do {
		struct iris_arena *arena = arena_new();

		result = log_read(&query, erasure->owner, arena, &page);
		ok = result == IRIS_VAULT_ERASED ||
		     (result == IRIS_VAULT_OK && erase_page(&page));
		arena_unref(&arena);
	} while (ok && result == IRIS_VAULT_OK && page.more && fiber_sleep(ERASE_PAUSE_MS));
	return ok && !worker_is_stopping();
}

/* The row's owner is the region's own company: the room's may have lost its keys. */
static bool
erase_room(const struct erasure *erasure)
{
	if (!erase_log(erasure) ||
	    vault_write(&erasure_end_query, IRIS_OWNER_DEFAULT,
			VALUES(value_int(erasure->room)), NULL) != IRIS_VAULT_OK)
		return false;
	LOG(IRIS_LOG_INFO, "rooms", "erased", LOG_INT("room", erasure->room));
	return true;
}

/* --- all of them --- */

/* False: the vault failed. room 0: there are no more. */
static bool
erasure_next(struct erasure *erasure)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	bool ok = vault_read(&erasure_next_query, 0, VALUES(value_int(erasure->room)), arena,
			     &rows) == IRIS_VAULT_OK;

	*erasure = (struct erasure){ .room = 0 };
	if (ok && rows.count > 0)
		*erasure = (struct erasure){ .room = row_value(&rows, 0, 0)->number,
					     .owner = (iris_owner)row_value(&rows, 0, 1)->number };
	arena_unref(&arena);
	return ok;
}

static void erasures_begin(void *arg);

static void
erasures_run(void *arg)
{
	struct erasure erasure = { .room = 0 };
	bool ok = true;

	do {
		if (erasure.room == 0)
			erasures.again = false;
		ok = erasure_next(&erasure) && ok;
		if (erasure.room != 0)
			ok = erase_room(&erasure) && ok;
	} while ((erasure.room != 0 || erasures.again) && !worker_is_stopping());
	erasures.running = false;
	if (!ok && !worker_is_stopping())
		timer_start(&erasures.retry, RETRY_MS, erasures_begin, NULL);
}

static void
erasures_begin(void *arg)
{
	timer_stop(&erasures.retry);
	erasures.again = true;
	if (erasures.running)
		return;
	erasures.running = true;
	if (fiber_start("rooms: erasures", erasures_run, NULL))
		return;
	erasures.running = false;
	timer_start(&erasures.retry, RETRY_MS, erasures_begin, NULL);
}

static void
erasures_wake_arrives(struct iris_mail *mail)
{
	free(mail);
	erasures_begin(NULL);
}

/* --- for the others --- */

void
erasure_add(struct iris_batch *batch, const struct room *room)
{
	batch_add(batch, &erasure_insert_query,
		  VALUES(value_int(room->id), value_int(room->owner),
			 value_int(worker_wall_ms())));
}

void
erasures_wake(void)
{
	struct iris_mail *mail = iris_calloc(1, sizeof(*mail));

	mail->fn = erasures_wake_arrives;
	worker_post(worker_at(WORKER_MAIN), mail);
}

void
erasures_start(void)
{
	erasures_begin(NULL);
}

void
erasures_stop(void)
{
	timer_stop(&erasures.retry);
}
