/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A region that moves to or from SQLite: the catalogue, a statement that is stepped in pieces, rows
 * added in one transaction.  Main thread, blocking, before the engine's threads run.  Which tables
 * are moved, and in which order, server/vault_copy.c decides.
 */
#include <stdio.h>

#include "modules/sqlite/sqlite_private.h"

#define LOAD_WAL_PAGES 8192 /* 32 MiB: then the write-ahead log is copied into the database */
#define SQL_SIZE 2048

static sqlite3_stmt *scanned;
static bool scan_is_over;

static bool
transfer_scan(const char *sql, const struct iris_value *params, unsigned count,
	      struct iris_error *error)
{
	IRIS_ASSERT(!scanned);
	scan_is_over = false;
	if (sqlite3_prepare_v3(sqlite_control.db, sql, -1, 0, &scanned, NULL) == SQLITE_OK &&
	    statement_bind_all(scanned, params, count) == SQLITE_OK)
		return true;
	return sqlite_connection_error(&sqlite_control, sql, error);
}

static bool
transfer_scan_next(struct vault_rows *rows, size_t bytes, struct iris_error *error)
{
	int code = scan_is_over ? SQLITE_DONE : SQLITE_ROW;

	while (rows->len < bytes && code == SQLITE_ROW) {
		code = sqlite3_step(scanned);
		if (code == SQLITE_ROW)
			statement_collect_row(scanned, rows);
	}
	scan_is_over = code == SQLITE_DONE; /* one step more would begin anew */
	return code == SQLITE_ROW || code == SQLITE_DONE ||
	       sqlite_connection_error(&sqlite_control, sqlite3_sql(scanned), error);
}

static void
transfer_scan_end(void)
{
	sqlite3_finalize(scanned);
	scanned = NULL;
}

/* --- adding rows --- */

static sqlite3_stmt *
load_prepare(const struct vault_table *table, struct iris_error *error)
{
	char sql[SQL_SIZE];
	sqlite3_stmt *stmt = NULL;
	int len = snprintf(sql, sizeof(sql), "INSERT INTO \"%.*s\" VALUES (",
			   IRIS_STR_FMT(table->name));

	for (unsigned i = 0; i < table->column_count && len < SQL_SIZE; i++)
		len += snprintf(sql + len, SQL_SIZE - (size_t)len, "%s$%u", i ? ", " : "", i + 1);
	if (len < SQL_SIZE)
		len += snprintf(sql + len, SQL_SIZE - (size_t)len, ")");
	IRIS_ASSERT(len < SQL_SIZE);
	if (sqlite3_prepare_v3(sqlite_control.db, sql, -1, 0, &stmt, NULL) != SQLITE_OK)
		sqlite_connection_error(&sqlite_control, sql, error);
	return stmt;
}

/* Parameters that are written in their order have the same ordinals. */
static int
load_row(sqlite3_stmt *stmt, const struct vault_table *table, struct rows_reader *reader)
{
	int code = SQLITE_OK;

	for (unsigned i = 0; i < table->column_count && code == SQLITE_OK; i++) {
		struct iris_value value = rows_read(reader);
		code = bind_value(stmt, (int)i + 1, &value, table->columns[i].type);
	}
	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	(void)sqlite3_reset(stmt);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static bool
load_rows(sqlite3_stmt *stmt, const struct vault_table *table, const struct vault_rows *rows)
{
	struct rows_reader reader;
	int code = SQLITE_OK;

	rows_read_begin(&reader, rows);
	for (size_t i = 0; i < rows->count && code == SQLITE_OK; i++)
		code = load_row(stmt, table, &reader);
	return code == SQLITE_OK;
}

static bool
transfer_load(const struct vault_table *table, const struct vault_rows *rows,
	      struct iris_error *error)
{
	sqlite3 *db = sqlite_control.db;
	sqlite3_stmt *stmt = load_prepare(table, error);

	if (!stmt)
		return false;
	/* The checkpointer does not run. */
	(void)sqlite3_wal_autocheckpoint(db, LOAD_WAL_PAGES);
	bool ok = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
		  load_rows(stmt, table, rows) &&
		  sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
	if (!ok)
		sqlite_connection_error(&sqlite_control, "rows cannot be added", error);
	sqlite3_finalize(stmt);
	if (!ok && !sqlite3_get_autocommit(db)) /* some errors roll back by themselves */
		(void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return ok;
}

static bool
transfer_settle(const struct vault_table *table, struct iris_error *error)
{
	return sqlite3_wal_checkpoint_v2(sqlite_control.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
					 NULL) == SQLITE_OK ||
	       sqlite_connection_error(&sqlite_control, "its log cannot be emptied", error);
}

const struct vault_transfer sqlite_transfer = {
	.catalogue = "SELECT m.name, c.name, CASE c.type WHEN 'INTEGER' THEN 1 WHEN 'TEXT' THEN 2 "
		     "WHEN 'BLOB' THEN 3 ELSE 0 END, c.pk, 0 "
		     "FROM sqlite_schema m, pragma_table_info(m.name) c "
		     "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
		     "ORDER BY m.name, c.cid",
	.byte_order = "",
	.freeze = "PRAGMA query_only = ON",
	.own_tables = (const char *const[]){ NULL },
	.scan = transfer_scan,
	.scan_next = transfer_scan_next,
	.scan_end = transfer_scan_end,
	.load = transfer_load,
	.settle = transfer_settle,
};
