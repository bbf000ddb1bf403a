/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the SQLite engine share.
 */
#ifndef IRIS_SQLITE_PRIVATE_H
#define IRIS_SQLITE_PRIVATE_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "iris/metrics.h"
#include "modules/sqlite/sqlite.h"

#define SQLITE_SLOTS_MAX 4096
#define SQLITE_READERS_MAX 16
#define WAL_RESTART_PAGES 16384

extern struct sqlite_options sqlite_settings; /* of the open engine */
extern const struct vault_dialect sqlite_dialect;

enum sqlite_metric {
	SQLITE_METRIC_COMMITS,
	SQLITE_METRIC_COMMIT_US,
	SQLITE_METRIC_RETRIES,
	SQLITE_METRIC_RESTARTS,
	SQLITE_METRIC_COUNT,
};
extern struct iris_metric sqlite_metrics[SQLITE_METRIC_COUNT + 1];

/* --- connection.c: a connection and its prepared statements; each is used by one thread --- */

struct sqlite_connection {
	sqlite3 *db;
	sqlite3_stmt *statements[SQLITE_SLOTS_MAX];
};

bool sqlite_connection_open(struct sqlite_connection *connection, size_t cache, bool writes,
			    struct iris_error *error);
void sqlite_connection_close(struct sqlite_connection *connection);
/* What SQLite said, as an operator's error. */
bool sqlite_connection_error(struct sqlite_connection *connection, const char *what,
			     struct iris_error *error);
/* The statement, prepared in this connection, with values bound; NULL: *code_r says why. */
sqlite3_stmt *sqlite_connection_bind(struct sqlite_connection *connection,
				     const struct vault_statement *statement,
				     const struct iris_value *values, int *code_r);
int bind_value(sqlite3_stmt *stmt, int ordinal, const struct iris_value *value,
	       enum iris_type type);
int param_ordinal(sqlite3_stmt *stmt, unsigned number); /* of $number; 0: not there */
void statement_collect_row(sqlite3_stmt *stmt, struct vault_rows *rows);
/* Steps to the end; rows may be NULL. A result code, SQLITE_DONE when it went well. */
int statement_collect(sqlite3_stmt *stmt, struct vault_rows *rows);
bool statement_slots_check(struct sqlite_connection *control, struct vault_statement *statement,
			   struct iris_error *error);
void statement_slots_free(void);

/* --- transfer.c: a region that moves to or from another engine; main thread --- */

extern const struct vault_transfer sqlite_transfer;
/* for the blocking calls, and to check statements */
extern struct sqlite_connection sqlite_control;
int statement_bind_all(sqlite3_stmt *stmt, const struct iris_value *params, unsigned count);

/* --- writer.c --- */

bool writer_start(struct iris_error *error);
void writer_stop(void); /* after everything submitted is committed, or given up */
void writer_submit(struct vault_group *group);
void writer_hurry(void); /* somebody waits for what is queued */
bool writer_is_ready(int64_t delay_ms, char *why, size_t size);

/* --- reader.c --- */

bool readers_start(struct iris_error *error);
void readers_stop(void);
void readers_take(struct vault_read *read);
void readers_committed(uint64_t sequence); /* lets go what waited for it */

/* --- checkpoint.c --- */

bool checkpoint_start(struct iris_error *error);
void checkpoint_stop(void);
/*
 * By the writer after a commit that left so many pages in the WAL; may itself start the WAL over.
 */
void checkpoint_after_commit(struct sqlite_connection *writer, int pages);
/* Blocks: everything is in the database file, and the WAL is empty. Any thread. */
bool checkpoint_truncate(struct iris_error *error);

#endif
