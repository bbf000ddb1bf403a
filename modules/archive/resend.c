/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends once more, because it lost its connection before it was told that the server
 * has it: the same origin-id (XEP-0359) between the same two addresses within a while is one
 * message, and has one entry.  Home worker of the account.
 *
 * Bounded: the latest RESEND_MAX messages of a loaded user, 24 bytes each.  After a restart the end
 * of the log tells what was there; a user who was not in memory in between is forgotten.
 */
#include <stdlib.h>

#include "iris/fiber.h"
#include "modules/archive/archive_private.h"
#include "xep/payloads.h"


struct resend_check {
	struct iris_user *user; /* held */
	struct iris_ticket *ticket;
	int64_t id;
};

static uint64_t
resend_key(struct iris_str origin_id, const struct iris_stanza *stanza, bool sent)
{
	struct iris_str peer = jid_bare(sent ? &stanza->to : &stanza->from);
	uint64_t parts[3] = { sent, hash_bytes(peer.base, peer.len),
			      hash_bytes(origin_id.base, origin_id.len) };

	return hash_bytes(parts, sizeof(parts));
}

int64_t
resend_find(const struct resend_window *window, const struct iris_stanza *stanza, bool sent)
{
	struct iris_str origin_id = message_origin_id(stanza->root);

	if (window->count == 0 || str_is_empty(origin_id))
		return 0;
	uint64_t key = resend_key(origin_id, stanza, sent);
	int64_t since = stanza->received_ms - archive_resend_ms();
	for (unsigned i = 0; i < window->count; i++)
		if (window->seen[i].key == key && window->seen[i].time_ms >= since)
			return window->seen[i].id;
	return 0;
}

void
resend_remember(struct resend_window *window, const struct iris_stanza *stanza, bool sent,
		int64_t id)
{
	struct iris_str origin_id = message_origin_id(stanza->root);

	if (str_is_empty(origin_id) || archive_resend_ms() == 0)
		return;
	if (window->count == window->cap && window->cap < RESEND_MAX) {
		window->cap = window->cap ? window->cap * 2 : 8;
		window->seen = iris_realloc(window->seen, window->cap * sizeof(*window->seen));
		window->next = window->count;
	}
	window->seen[window->next] = (struct resend_seen){
		.key = resend_key(origin_id, stanza, sent), .id = id, .time_ms = stanza->received_ms
	};
	if (window->count < window->cap)
		window->count++;
	window->next = (window->next + 1) % RESEND_MAX;
}

void
resend_forget(struct resend_window *window, int64_t id)
{
	for (unsigned i = 0; i < window->count; i++)
		if (window->seen[i].id == id)
			window->seen[i] = (struct resend_seen){ .id = 0 };
}

void
resend_free(struct resend_window *window)
{
	free(window->seen);
	*window = (struct resend_window){ .seen = NULL };
}

void
resend_recall(struct iris_user *user, struct resend_window *window, int64_t since_ms)
{
	const struct iris_log_query query = { .reader = user->account.id,
					      .from_ms = since_ms,
					      .backwards = true,
					      .limit = RESEND_MAX };
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;

	if (log_read(&query, user->account.owner, arena, &page) != IRIS_VAULT_OK)
		page.count = 0; /* the vault has logged it; at worst an entry is there twice */
	for (size_t i = 0; i < page.count; i++) {
		const struct iris_log_entry *entry = &page.entries[i];
		struct iris_stanza *stanza = archive_entry_stanza(entry);

		if (stanza)
			resend_remember(window, stanza, entry->flags & ARCHIVE_SENT, entry->id);
		stanza_unref(&stanza);
	}
	arena_unref(&arena);
}

/* --- is the first one kept? --- */

static void
resend_check_run(void *arg)
{
	struct resend_check *check = arg;
	struct iris_account *account = &check->user->account;
	struct iris_arena *arena = arena_new();
	const struct iris_log_query query = { .reader = account->id,
					      .after_id = check->id - 1,
					      .before_id = check->id + 1,
					      .limit = 1 };
	struct iris_log_page page = { .count = 0 };

	/* Sees all that this worker posted before, and so waits for its commit. */
	if (log_read(&query, account->owner, arena, &page) != IRIS_VAULT_OK || page.count == 0) {
		ticket_fail(check->ticket);
		resend_forget(&archive_of(check->user)->window, check->id);
	}
	arena_unref(&arena);
	ticket_unref(&check->ticket);
	user_release(&check->user);
	free(check);
}

void
resend_confirm(struct iris_user *user, int64_t id, struct iris_ticket *ticket)
{
	struct resend_check *check = iris_calloc(1, sizeof(*check));

	user_hold(user);
	*check = (struct resend_check){ .user = user, .ticket = ticket_ref(ticket), .id = id };
	if (fiber_start("archive: sent once more", resend_check_run, check))
		return;
	ticket_fail(check->ticket); /* too busy: the client sends it once more again */
	ticket_unref(&check->ticket);
	user_release(&check->user);
	free(check);
}
