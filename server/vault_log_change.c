/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log, changed: an entry gets another body, entries are removed, the oldest ones expire.  Runs
 * on workers; what is written are declared statements in transactions like any other, so that every
 * engine has them.  Which entries, and when, plug-ins decide.
 *
 * An index row may outlive its entry when the index is filled in the very moment of the removal: a
 * read joins both tables, and does not see it.
 */
#include "vault_private.h"

static struct iris_query log_update = {
	.name = "log.rewrite", .table = "log", .key = VAULT_LOG_KEY, .write = true,
	.sql = "UPDATE log SET body = $7 WHERE id = $1 AND owner = $2 AND reader = $3 "
	       "AND peer = $4 AND ts = $5 AND flags = $6",
	.params = VAULT_LOG_COLUMNS,
};
static struct iris_query log_delete = {
	.name = "log.remove", .table = "log", .write = true,
	.sql = "DELETE FROM log WHERE id = $1 AND reader = $2",
	.params = { { "id", IRIS_INT }, { "reader", IRIS_INT } },
};
static struct iris_query log_delete_reader = {
	.name = "log.remove_reader", .table = "log_reader", .write = true,
	.sql = "DELETE FROM log_reader WHERE reader = $1 AND id = $2",
	.params = { { "reader", IRIS_INT }, { "id", IRIS_INT } },
};
static struct iris_query log_delete_peer = {
	.name = "log.remove_peer", .table = "log_peer", .write = true,
	.sql = "DELETE FROM log_peer WHERE reader = $1 AND peer = $2 AND id = $3",
	.params = { { "reader", IRIS_INT }, { "peer", IRIS_INT }, { "id", IRIS_INT } },
};
static struct iris_query log_oldest = {
	.name = "log.oldest", .table = "log",
	.sql = "SELECT id, reader, peer, ts FROM log ORDER BY id LIMIT $1",
	.params = { { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT },
		     { "reader", IRIS_INT },
		     { "peer", IRIS_INT },
		     { "ts", IRIS_INT } },
};

static struct iris_query *const change_queries[] = {
	&log_update, &log_delete, &log_delete_reader, &log_delete_peer, &log_oldest,
};

bool
log_changes_open(struct iris_error *error)
{
	for (size_t i = 0; i < IRIS_COUNT(change_queries); i++)
		if (!statement_register(change_queries[i], error))
			return false;
	return true;
}

enum iris_vault_result
log_rewrite(const struct iris_log_entry *entry, struct iris_ticket *ticket)
{
	struct vault_unit *unit;

	return writes_post_log(
		writes_are_refused() ? NULL : statement_of(&log_update), entry,
		VALUES(value_int(entry->id), value_int(entry->owner), value_int(entry->reader),
		       value_int(entry->peer), value_int(entry->time_ms), value_int(entry->flags),
		       value_str(entry->body)),
		ticket, &unit);
}

static void
batch_add_removal(struct iris_batch *batch, const struct iris_log_entry *entry)
{
	const struct iris_value id = value_int(entry->id), reader = value_int(entry->reader);

	batch_add(batch, &log_delete, VALUES(id, reader));
	batch_add(batch, &log_delete_reader, VALUES(reader, id));
	batch_add(batch, &log_delete_peer, VALUES(reader, value_int(entry->peer), id));
}

enum iris_vault_result
log_remove(const struct iris_log_entry *entries, size_t count, struct iris_ticket *ticket)
{
	if (count == 0)
		return IRIS_VAULT_OK;
	struct iris_batch *batch = batch_new(entries[0].owner);
	for (size_t i = 0; i < count; i++)
		batch_add_removal(batch, &entries[i]);
	enum iris_vault_result result = batch_post(&batch, ticket);
	/* Not before: what could not be posted stays. */
	for (size_t i = 0; i < count && result == IRIS_VAULT_OK; i++)
		vault_index_forget(entries[i].reader, entries[i].id);
	return result;
}

/*
 * Ids rise with time, so the oldest come first; what a clock that was set back left among them is
 * passed over.
 */
static size_t
batch_add_expired(struct iris_batch *batch, const struct iris_rows *rows, int64_t before_ms,
		  struct iris_log_entry *expired)
{
	size_t count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct iris_value *row = row_value(rows, i, 0);

		if (row[3].number >= before_ms)
			continue;
		expired[count] = (struct iris_log_entry){
			.id = row[0].number, .reader = row[1].number, .peer = row[2].number
		};
		batch_add_removal(batch, &expired[count++]);
	}
	return count;
}

static enum iris_vault_result
expire_rows(const struct iris_rows *rows, int64_t before_ms, struct iris_log_entry *expired,
	    size_t *removed_r)
{
	struct iris_batch *batch = batch_new_own();
	size_t count = batch_add_expired(batch, rows, before_ms, expired);
	enum iris_vault_result result = batch_write(&batch);

	for (size_t i = 0; i < count && result == IRIS_VAULT_OK; i++)
		vault_index_forget(expired[i].reader, expired[i].id);
	*removed_r = result == IRIS_VAULT_OK ? count : 0;
	return result;
}

enum iris_vault_result
log_expire(int64_t before_ms, size_t limit, size_t *removed_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	enum iris_vault_result result = vault_read(&log_oldest, VAULT_OWNER_REGION,
						   VALUES(value_int((int64_t)limit)), arena, &rows);

	*removed_r = 0;
	if (result == IRIS_VAULT_OK)
		result = expire_rows(&rows, before_ms,
				     arena_alloc(arena, rows.count * sizeof(struct iris_log_entry)),
				     removed_r);
	arena_unref(&arena);
	return result;
}
