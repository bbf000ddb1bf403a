/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the database file, its settings, and its prepared statements.  Each connection is
 * used by one thread; the slots of statements are shared and only ever added to, on the main
 * thread.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "modules/sqlite/sqlite_private.h"

/* One SQL text, for all connections; ordinals[n-1] is where $n is bound. */
struct statement_slot {
	char *sql;
	int ordinals[VAULT_FIELDS_MAX];
};

static _Atomic(struct statement_slot *) slots[SQLITE_SLOTS_MAX];
static unsigned slot_count; /* main thread */

bool
sqlite_connection_error(struct sqlite_connection *connection, const char *what,
			struct iris_error *error)
{
	error_set(error, "The database: %s", what);
	error_detail(error, "%s: %s", sqlite_settings.path,
		     connection->db ? sqlite3_errmsg(connection->db) : "out of memory");
	if (connection->db && sqlite3_errcode(connection->db) == SQLITE_NOTADB)
		error_hint(error, "The file is something else, or damaged: restore the backup");
	return false;
}

static bool
sqlite_connection_pragma(struct sqlite_connection *connection, const char *sql,
			 struct iris_error *error)
{
	if (sqlite3_exec(connection->db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	return sqlite_connection_error(connection, sql, error);
}

static int
take_text(void *arg, int columns, char **values, char **names)
{
	char *mode = arg;
	(void)snprintf(mode, 16, "%s", values[0] ? values[0] : "");
	return 0;
}

static bool
sqlite_connection_set_wal(struct sqlite_connection *connection, struct iris_error *error)
{
	char mode[16] = "";

	if (sqlite3_exec(connection->db, "PRAGMA journal_mode = WAL", take_text, mode, NULL) !=
	    SQLITE_OK)
		return sqlite_connection_error(connection, "no write-ahead log", error);
	if (strcmp(mode, "wal") == 0)
		return true;
	error_set(error, "The database: no write-ahead log is possible here");
	error_detail(error, "%s: journal mode stays '%s'", sqlite_settings.path, mode);
	return error_hint(error, "Put it on a local file system");
}

/*
 * synchronous FULL: what was acknowledged survives the loss of power (P7.2). secure_delete FAST: an
 * erased key is overwritten in its page. Temporary tables stay in memory.
 */
bool
sqlite_connection_open(struct sqlite_connection *connection, size_t cache, bool writes,
		       struct iris_error *error)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
	char cache_size[64];

	(void)snprintf(cache_size, sizeof(cache_size), "PRAGMA cache_size = -%zu", cache / 1024);
	if (sqlite3_open_v2(sqlite_settings.path, &connection->db, flags, NULL) != SQLITE_OK) {
		sqlite_connection_error(connection, "cannot be opened", error);
		sqlite_connection_close(connection);
		return false;
	}
	sqlite3_extended_result_codes(connection->db, 1);
	sqlite3_busy_timeout(connection->db, 5000);
	(void)sqlite3_db_config(connection->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(connection->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	bool ok = sqlite_connection_pragma(connection, "PRAGMA page_size = 4096", error) &&
		  sqlite_connection_set_wal(connection, error) &&
		  sqlite_connection_pragma(connection, "PRAGMA synchronous = FULL", error) &&
		  sqlite_connection_pragma(connection, "PRAGMA wal_autocheckpoint = 0", error) &&
		  sqlite_connection_pragma(connection, "PRAGMA foreign_keys = ON", error) &&
		  sqlite_connection_pragma(connection, "PRAGMA secure_delete = FAST", error) &&
		  sqlite_connection_pragma(connection, "PRAGMA temp_store = MEMORY", error) &&
		  sqlite_connection_pragma(connection, cache_size, error) &&
		  (writes || sqlite_connection_pragma(connection, "PRAGMA query_only = ON", error));
	if (!ok)
		sqlite_connection_close(connection);
	return ok;
}

void
sqlite_connection_close(struct sqlite_connection *connection)
{
	for (unsigned i = 0; i < SQLITE_SLOTS_MAX; i++) {
		sqlite3_finalize(connection->statements[i]);
		connection->statements[i] = NULL;
	}
	sqlite3_close(connection->db);
	connection->db = NULL;
}

/* --- statements --- */

int
bind_value(sqlite3_stmt *stmt, int ordinal, const struct iris_value *value, enum iris_type type)
{
	if (value->type == IRIS_TYPE_NONE)
		return sqlite3_bind_null(stmt, ordinal);
	if (type == IRIS_INT)
		return sqlite3_bind_int64(stmt, ordinal, value->number);
	if (type == IRIS_TEXT)
		return sqlite3_bind_text64(stmt, ordinal, value->bytes.base, value->bytes.len,
					   SQLITE_STATIC, SQLITE_UTF8);
	return sqlite3_bind_blob64(stmt, ordinal, value->bytes.base, value->bytes.len,
				   SQLITE_STATIC);
}

sqlite3_stmt *
sqlite_connection_bind(struct sqlite_connection *connection,
		       const struct vault_statement *statement, const struct iris_value *values,
		       int *code_r)
{
	struct statement_slot *slot =
		atomic_load_explicit(&slots[statement->slot], memory_order_acquire);
	sqlite3_stmt **stmt = &connection->statements[statement->slot];

	if (!*stmt) {
		*code_r = sqlite3_prepare_v3(connection->db, slot->sql, -1,
					     SQLITE_PREPARE_PERSISTENT, stmt, NULL);
		if (*code_r != SQLITE_OK)
			return NULL;
	}
	for (unsigned i = 0; i < statement->param_count; i++) {
		*code_r = bind_value(*stmt, slot->ordinals[i], &values[i],
				     statement->query->params[i].type);
		if (*code_r != SQLITE_OK)
			return NULL;
	}
	return *stmt;
}

void
statement_collect_row(sqlite3_stmt *stmt, struct vault_rows *rows)
{
	int columns = sqlite3_column_count(stmt);

	for (int i = 0; i < columns; i++) {
		int type = sqlite3_column_type(stmt, i);
		if (type == SQLITE_NULL)
			rows_add_null(rows);
		else if (type == SQLITE_INTEGER || type == SQLITE_FLOAT)
			rows_add_int(rows, sqlite3_column_int64(stmt, i));
		else
			rows_add_bytes(rows, sqlite3_column_blob(stmt, i),
				       (size_t)sqlite3_column_bytes(stmt, i));
	}
	rows->count++;
}

int
statement_collect(sqlite3_stmt *stmt, struct vault_rows *rows)
{
	int code;

	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (!rows)
			continue;
		statement_collect_row(stmt, rows);
		if (rows_are_full(rows)) {
			code = SQLITE_TOOBIG;
			break;
		}
	}
	return code;
}

static bool
statement_problem(const struct vault_statement *statement, const char *what,
		  struct iris_error *error)
{
	error_set(error, "The query %s is declared wrongly: %s", statement->query->name, what);
	return error_detail(error, "%s", statement->query->sql);
}

int
param_ordinal(sqlite3_stmt *stmt, unsigned number)
{
	char name[16];
	(void)snprintf(name, sizeof(name), "$%u", number);
	return sqlite3_bind_parameter_index(stmt, name);
}

static bool
statement_fits(const struct vault_statement *statement, sqlite3_stmt *stmt, int *ordinals,
	       struct iris_error *error)
{
	if (!stmt)
		return statement_problem(statement, "it is empty", error);
	if (sqlite3_column_count(stmt) != (int)statement->column_count)
		return statement_problem(statement, "its columns are not those of the SQL", error);
	if (!sqlite3_stmt_readonly(stmt) != statement->query->write)
		return statement_problem(statement, "a read writes, or a write only reads", error);
	if (sqlite3_bind_parameter_count(stmt) != (int)statement->param_count)
		return statement_problem(statement, "its parameters are not those of the SQL",
					 error);
	for (unsigned i = 0; i < statement->param_count; i++) {
		ordinals[i] = param_ordinal(stmt, i + 1);
		if (ordinals[i] == 0)
			return statement_problem(statement,
						 "a number is left out in its parameters", error);
	}
	return true;
}

static bool
slot_take(struct vault_statement *statement, const int *ordinals, struct iris_error *error)
{
	const char *sql = statement->query->sql;

	/* A module that is loaded again finds its statements where they were. */
	for (statement->slot = 0; statement->slot < slot_count; statement->slot++)
		if (strcmp(atomic_load(&slots[statement->slot])->sql, sql) == 0)
			return true;
	if (slot_count == SQLITE_SLOTS_MAX)
		return error_set(error, "Too many different statements (%d)", SQLITE_SLOTS_MAX);
	struct statement_slot *slot = iris_calloc(1, sizeof(*slot));
	slot->sql = str_dup(str_from(sql));
	memcpy(slot->ordinals, ordinals, sizeof(slot->ordinals));
	atomic_store_explicit(&slots[slot_count++], slot, memory_order_release);
	return true;
}

bool
statement_slots_check(struct sqlite_connection *control, struct vault_statement *statement,
		      struct iris_error *error)
{
	sqlite3_stmt *stmt = NULL;
	const char *rest = "";
	int ordinals[VAULT_FIELDS_MAX] = { 0 };

	if (sqlite3_prepare_v3(control->db, statement->query->sql, -1, 0, &stmt, &rest) !=
	    SQLITE_OK) {
		statement_problem(statement, "SQLite does not take it", error);
		return error_detail(error, "%s", sqlite3_errmsg(control->db));
	}
	bool ok = statement_fits(statement, stmt, ordinals, error);
	sqlite3_finalize(stmt);
	if (ok && *rest)
		return statement_problem(statement, "it is more than one statement", error);
	return ok && slot_take(statement, ordinals, error);
}

void
statement_slots_free(void)
{
	while (slot_count > 0) {
		struct statement_slot *slot = atomic_exchange(&slots[--slot_count], NULL);
		free(slot->sql);
		free(slot);
	}
}
