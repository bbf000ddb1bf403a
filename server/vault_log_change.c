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
	.sql = "UPDATE log SET body = $6 WHERE id = $1 AND owner = $2 AND reader = $3 "
	       "AND peer = $4 AND flags = $5",
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
	.sql = "SELECT id, reader, peer FROM log WHERE id < $1 ORDER BY id LIMIT $2",
	.params = { { "before", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "reader", IRIS_INT }, { "peer", IRIS_INT } },
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
		       value_int(entry->peer), value_int(entry->flags), value_str(entry->body)),
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

static enum iris_vault_result
expire_rows(const struct iris_rows *rows)
{
	struct iris_batch *batch = batch_new_own();

	for (size_t i = 0; i < rows->count; i++) {
		const struct iris_value *row = row_value(rows, i, 0);
		batch_add_removal(batch,
				  &(const struct iris_log_entry){ .id = row[0].number,
								  .reader = row[1].number,
								  .peer = row[2].number });
	}
	enum iris_vault_result result = batch_write(&batch);
	for (size_t i = 0; i < rows->count && result == IRIS_VAULT_OK; i++)
		vault_index_forget(row_value(rows, i, 1)->number, row_value(rows, i, 0)->number);
	return result;
}

enum iris_vault_result
log_expire(size_t limit, size_t *removed_r)
{
	int64_t horizon = log_horizon();
	struct iris_rows rows = { .count = 0 };

	*removed_r = 0;
	if (writes_are_refused())
		return IRIS_VAULT_REFUSED;
	if (horizon == 0 || parts_are_dropped() || !age_is_trusted())
		return IRIS_VAULT_OK;
	struct iris_arena *arena = arena_new();
	enum iris_vault_result result =
		vault_read(&log_oldest, VAULT_OWNER_REGION,
			   VALUES(value_int(horizon), value_int((int64_t)limit)), arena, &rows);
	if (result == IRIS_VAULT_OK)
		result = expire_rows(&rows);
	if (result == IRIS_VAULT_OK)
		*removed_r = rows.count;
	arena_unref(&arena);
	return result;
}
