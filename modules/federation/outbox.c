/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox's table: what must not be lost on its way to another server is a row, sealed under
 * its sender's owner, from the moment when it comes here until it has arrived there.  Any worker.
 * It does not know queues, nor when something is handed: that is route.c.
 */
#include "iris/log.h"
#include "modules/federation/outbox.h"
#include "modules/federation/reader.h"
#include "xep/payloads.h"

static struct iris_query outbox_insert = {
	.name = "federation.keep", .table = "outbox", .key = "id", .write = true,
	.sql = "INSERT INTO outbox (id, owner, remote, local, until, stanza) "
	       "VALUES ($1, $2, $3, $4, $5, $6)",
	.params = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "remote", IRIS_TEXT },
		    { "local", IRIS_TEXT }, { "until", IRIS_INT }, { "stanza", IRIS_SEALED } },
};

/* What is removed may be of several owners: posted as the default one's, it seals nothing. */
static struct iris_query outbox_delete = {
	.name = "federation.drop", .table = "outbox", .write = true,
	.sql = "DELETE FROM outbox WHERE id = $1",
	.params = { { "id", IRIS_INT } },
};

static struct iris_query outbox_delete_until = {
	.name = "federation.arrived", .table = "outbox", .write = true,
	.sql = "DELETE FROM outbox WHERE remote = $1 AND local = $2 AND id <= $3",
	.params = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT }, { "id", IRIS_INT } },
};

static struct iris_query outbox_list = {
	.name = "federation.list", .table = "outbox",
	.sql = "SELECT id, owner, until FROM outbox WHERE remote = $1 AND local = $2 AND id > $3 "
	       "ORDER BY id LIMIT $4",
	.params = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT }, { "id", IRIS_INT },
		    { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "until", IRIS_INT } },
};

static struct iris_query outbox_open = {
	.name = "federation.open", .table = "outbox", .key = "id",
	.sql = "SELECT id, stanza FROM outbox WHERE remote = $1 AND local = $2 AND id > $3 "
	       "AND id <= $4 AND owner = $5 ORDER BY id LIMIT $6",
	.params = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT }, { "after", IRIS_INT },
		    { "last", IRIS_INT }, { "owner", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "stanza", IRIS_SEALED } },
};

/* By the index, from route to route. */
static struct iris_query outbox_next = {
	.name = "federation.routes", .table = "outbox",
	.sql = "SELECT remote, local, until FROM outbox WHERE (remote, local) > ($1, $2) "
	       "ORDER BY remote, local, id LIMIT 1",
	.params = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT } },
	.columns = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT }, { "until", IRIS_INT } },
};

static struct iris_query outbox_count = {
	.name = "federation.count", .table = "outbox",
	.sql = "SELECT COUNT(*) FROM outbox WHERE remote = $1 AND local = $2",
	.params = { { "remote", IRIS_TEXT }, { "local", IRIS_TEXT } },
	.columns = { { "count", IRIS_INT } },
};

struct iris_query *const outbox_queries[] = {
	&outbox_insert, &outbox_delete, &outbox_delete_until, &outbox_list,
	&outbox_open, &outbox_next, &outbox_count, &reader_load, &reader_store, NULL,
};

/* --- what is kept --- */

static bool
is_subscription(enum iris_stanza_type type)
{
	return type == IRIS_SUBSCRIBE || type == IRIS_SUBSCRIBED || type == IRIS_UNSUBSCRIBE ||
	       type == IRIS_UNSUBSCRIBED;
}

bool
outbox_takes(const struct iris_stanza *stanza)
{
	if (stanza->owner == 0 || stanza->transit)
		return false;
	if (stanza->kind == IRIS_PRESENCE)
		return is_subscription(stanza->type);
	return stanza->kind == IRIS_MESSAGE && stanza->type != IRIS_ERROR &&
	       stanza->type != IRIS_HEADLINE && !message_has_hint(stanza->root, "no-store") &&
	       message_has_content(stanza->root);
}

enum iris_vault_result
outbox_add(const struct outbox_route *route, int64_t id, int64_t until_ms,
	   const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	iris_owner owner = delivery->stanza->owner;
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	enum iris_vault_result result;

	delivery_write_alone(&text, delivery);
	result = vault_post(&outbox_insert, owner,
			    VALUES(value_int(id), value_int(owner), value_str(route->remote),
				   value_str(route->local), value_int(until_ms),
				   value_str(strbuf_str(&text))),
			    ticket);
	arena_unref(&arena);
	return result;
}

enum iris_vault_result
outbox_remove(int64_t id, struct iris_ticket *ticket)
{
	return vault_post(&outbox_delete, IRIS_OWNER_DEFAULT, VALUES(value_int(id)), ticket);
}

enum iris_vault_result
outbox_remove_until(const struct outbox_route *route, int64_t id)
{
	return vault_post(&outbox_delete_until, IRIS_OWNER_DEFAULT,
			  VALUES(value_str(route->remote), value_str(route->local), value_int(id)),
			  NULL);
}

/* --- reading --- */

static struct iris_stanza *
stanza_of_row(struct iris_str xml, iris_owner owner, int64_t id)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, xml);
	struct iris_stanza *stanza;
	const char *condition;

	stanza = root ? stanza_from_element(arena, root, &condition) : NULL;
	if (!stanza) {
		arena_unref(&arena);
		return NULL;
	}
	stanza->owner = owner;
	stanza->received_ms = log_id_time_ms(id);
	stanza_freeze(stanza);
	return stanza;
}

/* Of rows that nobody can read any more: they are gone, and the operator is told how many. */
static void
drop_unreadable(const struct outbox_page *page, const iris_owner *owners, iris_owner owner)
{
	int64_t count = 0;

	for (size_t i = 0; i < page->count; i++) {
		if (owners[i] != owner || page->rows[i].stanza)
			continue;
		count++;
		if (outbox_remove(page->rows[i].id, NULL) != IRIS_VAULT_OK)
			break; /* it expires, or is found again after a start */
	}
	if (count > 0)
		LOG(IRIS_LOG_WARNING, "federation", "outbox-unreadable", LOG_INT("owner", owner),
		    LOG_INT("stanzas", count));
}

/* The stanzas of one owner among the rows of the page. */
static bool
open_owner(const struct outbox_route *route, int64_t after_id, struct outbox_page *page,
	   const iris_owner *owners, iris_owner owner)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	enum iris_vault_result result;
	size_t at = 0;

	result = vault_read(&outbox_open, owner,
			    VALUES(value_str(route->remote), value_str(route->local),
				   value_int(after_id), value_int(page->rows[page->count - 1].id),
				   value_int(owner), value_int(OUTBOX_PAGE)),
			    arena, &rows);
	for (size_t i = 0; result == IRIS_VAULT_OK && i < rows.count; i++) {
		int64_t id = row_value(&rows, i, 0)->number;

		while (at < page->count && page->rows[at].id < id)
			at++;
		if (at < page->count && page->rows[at].id == id)
			page->rows[at].stanza =
				stanza_of_row(row_value(&rows, i, 1)->bytes, owner, id);
	}
	arena_unref(&arena);
	if (result == IRIS_VAULT_FAILED || result == IRIS_VAULT_BUSY)
		return false;
	drop_unreadable(page, owners, owner);
	return true;
}

static bool
list_page(const struct outbox_route *route, int64_t after_id, struct outbox_page *page,
	  iris_owner owners[OUTBOX_PAGE])
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	bool ok = vault_read(&outbox_list, 0,
			     VALUES(value_str(route->remote), value_str(route->local),
				    value_int(after_id), value_int(OUTBOX_PAGE)),
			     arena, &rows) == IRIS_VAULT_OK;

	page->count = ok ? rows.count : 0;
	for (size_t i = 0; i < page->count; i++) {
		page->rows[i] = (struct outbox_row){ .id = row_value(&rows, i, 0)->number,
						     .until_ms = row_value(&rows, i, 2)->number };
		owners[i] = (iris_owner)row_value(&rows, i, 1)->number;
	}
	arena_unref(&arena);
	return ok;
}

static void
page_free(struct outbox_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		stanza_unref(&page->rows[i].stanza);
	page->count = 0;
}

bool
outbox_read(const struct outbox_route *route, int64_t after_id, struct outbox_page *page_r)
{
	iris_owner owners[OUTBOX_PAGE];
	bool ok = list_page(route, after_id, page_r, owners);

	for (size_t i = 0; ok && i < page_r->count; i++) {
		size_t first = 0;

		while (owners[first] != owners[i])
			first++;
		if (first == i)
			ok = open_owner(route, after_id, page_r, owners, owners[i]);
	}
	if (!ok)
		page_free(page_r);
	return ok;
}

enum iris_vault_result
outbox_find(struct iris_arena *arena, const struct outbox_route *after,
	    struct outbox_found *found_r)
{
	struct outbox_route *route = &found_r->route;
	struct iris_rows rows = { .count = 0 }, counted = { .count = 0 };
	enum iris_vault_result result;

	*found_r = (struct outbox_found){ .count = 0 };
	result = vault_read(&outbox_next, 0,
			    VALUES(value_str(after->remote), value_str(after->local)), arena,
			    &rows);
	if (result != IRIS_VAULT_OK || rows.count == 0)
		return result;
	route->remote = row_value(&rows, 0, 0)->bytes;
	route->local = row_value(&rows, 0, 1)->bytes;
	found_r->until_ms = row_value(&rows, 0, 2)->number;
	result = vault_read(&outbox_count, 0,
			    VALUES(value_str(route->remote), value_str(route->local)), arena,
			    &counted);
	if (result == IRIS_VAULT_OK && counted.count > 0)
		found_r->count = row_value(&counted, 0, 0)->number;
	return result;
}
