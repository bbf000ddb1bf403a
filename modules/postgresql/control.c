/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main thread's own connection: opening, migrations, checking statements.  Blocking, and so not
 * for workers.  It holds the advisory lock of the database: alone while a store is made, brought up
 * to date or read at the start, shared while the server serves.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "iris/log.h"
#include "modules/postgresql/postgresql_private.h"

/*
 * The backends of a server that was killed finish what they have; those with nothing to do are gone
 * as soon as they see that nobody is there.
 */
#define LOCK_PATIENCE_MS 5000
#define LOCK_PATIENCE_IDLE_MS 500
#define LOCK_PAUSE_MS 20
#define APPLICATION "iris"

static PGconn *control;
static bool control_shared;

PGconn *
pg_control(void)
{
	return control;
}

static bool
control_problem(PGconn *pg, const char *what, struct iris_error *error)
{
	const char *message = pg ? PQerrorMessage(pg) : "out of memory";

	error_set(error, "The database: %s", what);
	return error_detail(error, "%.*s", (int)strcspn(message, "\n"), message);
}

bool
pg_control_problem(const char *what, struct iris_error *error)
{
	return control_problem(control, what, error);
}

/* --- connecting --- */

/* False when the time is over. */
static bool
wait_socket(PGconn *pg, PostgresPollingStatusType wanted, int64_t until_us)
{
	struct pollfd fd = { .fd = PQsocket(pg),
			     .events = wanted == PGRES_POLLING_READING ? POLLIN : POLLOUT };
	int64_t left_ms = (until_us - pg_now_us()) / 1000;

	return left_ms > 0 && poll(&fd, 1, (int)left_ms) >= 0;
}

static PGconn *
connect_once(const char *application, unsigned attempt, const char **problem_r)
{
	int64_t until = pg_now_us() + pg_settings.connect_timeout_ms * 1000;
	PGconn *pg = pg_address_connect(attempt, application);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	*problem_r = "cannot be reached";
	if (!pg || PQstatus(pg) == CONNECTION_BAD)
		return pg;
	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
		if (!wait_socket(pg, status, until)) {
			*problem_r = "does not answer";
			break;
		}
		status = PQconnectPoll(pg);
	}
	return pg;
}

PGconn *
pg_control_connect_new(const char *application, struct iris_error *error)
{
	const char *problem = "";
	unsigned count = pg_address_count();
	PGconn *pg = NULL;

	for (unsigned attempt = 0; attempt < count; attempt++) {
		PQfinish(pg);
		pg = connect_once(application, attempt, &problem);
		if (pg && PQstatus(pg) == CONNECTION_OK)
			return pg;
	}
	control_problem(pg, problem, error);
	PQfinish(pg);
	error_hint(error,
		   "Is the server running, does it let us in, is there the database "
		   "(createdb --owner iris --encoding UTF8 --template template0 --locale C iris)?");
	return NULL;
}

static bool
control_connect(struct iris_error *error)
{
	PQfinish(control);
	control = pg_control_connect_new(APPLICATION, error);
	return control != NULL;
}

/* --- one statement --- */

static bool
result_is_good(PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
	       status == PGRES_EMPTY_QUERY;
}

static bool
result_take(PGresult *result, const char *what, struct vault_rows *rows, struct iris_error *error)
{
	bool ok = result_is_good(result);

	if (!ok)
		control_problem(control, what, error);
	else if (rows && !pg_rows_collect(result, rows))
		ok = error_set(error, "The database: too much, or no integer: %.200s", what);
	PQclear(result);
	return ok;
}

static bool
control_is_there(struct iris_error *error)
{
	return control || error_set(error, "The database is not open");
}

bool
pg_control_script(const char *sql, struct iris_error *error)
{
	return control_is_there(error) &&
	       result_take(PQexec(control, sql), "a statement failed", NULL, error);
}

bool
pg_control_query(const char *sql, const struct iris_value *params, unsigned count,
		 struct vault_rows *rows, struct iris_error *error)
{
	struct pg_params wire;
	Oid types[VAULT_FIELDS_MAX];

	if (!control_is_there(error))
		return false;
	IRIS_ASSERT(count <= VAULT_FIELDS_MAX);
	for (unsigned i = 0; i < count; i++) {
		types[i] = params[i].type == IRIS_INT ? pg_type_oid(IRIS_INT) :
							0; /* bytes are what the column is */
		pg_params_add(&wire, i, &params[i], params[i].type);
	}
	return result_take(PQexecParams(control, sql, (int)count, types, wire.values, wire.lengths,
					wire.formats, 1),
			   sql, rows, error);
}

static bool
control_read(const char *sql, int64_t *number_r, struct iris_error *error)
{
	PGresult *result = PQexec(control, sql);
	bool ok = result_is_good(result) && PQntuples(result) == 1;

	if (ok) {
		const char *text = PQgetvalue(result, 0, 0);
		*number_r = text[0] == 't' ? 1 : strtoll(text, NULL, 10);
	} else {
		control_problem(control, sql, error);
	}
	PQclear(result);
	return ok;
}

/*
 * A row that was overwritten stays in its page: VACUUM FULL writes the table into a new file. It
 * locks the table, which must be small.
 */
bool
pg_control_scrub(const char *table, struct iris_error *error)
{
	PGconn *pg = pg_control_connect_new(APPLICATION, error);
	char sql[96];

	if (!pg)
		return false;
	(void)snprintf(sql, sizeof(sql), "VACUUM (FULL) %s", table);
	PGresult *patience = PQexec(pg, "SET lock_timeout = '5s'"), *result = PQexec(pg, sql);
	bool ok = result_is_good(result);
	if (!ok)
		control_problem(pg, sql, error);
	PQclear(patience);
	PQclear(result);
	PQfinish(pg);
	return ok;
}

/* --- opening --- */

/* Who has the lock, and is still at work. */
#define LOCK_HOLDERS                                                                         \
	"FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' " \
	"AND l.granted AND a.datname = current_database() "                                  \
	"AND l.classid::bigint << 32 | l.objid::bigint = " PG_LOCK_KEY

static bool
lock_refused(struct iris_error *error)
{
	static const char sql[] =
		"SELECT coalesce(host(a.client_addr), 'this machine') || ' as ' || "
		"a.application_name || ' since ' || to_char(a.backend_start, 'YYYY-MM-DD "
		"HH24:MI') " LOCK_HOLDERS " ORDER BY a.backend_start LIMIT 1";
	PGresult *result = PQexec(control, sql);
	bool known = result_is_good(result) && PQntuples(result) == 1;

	error_set(error, "The database: another process has it open");
	error_detail(error, "%s%s%s", PQdb(control), known ? ": one on " : "",
		     known ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return error_hint(error, "Stop the server first");
}

static bool
lock_take(const char *function, struct iris_error *error)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * 1000000L };
	int64_t began = pg_now_us(), taken = 0, busy = 0;
	char sql[96];

	(void)snprintf(sql, sizeof(sql), "SELECT %s(" PG_LOCK_KEY ")", function);
	while (control_read(sql, &taken, error)) {
		int64_t waited_ms = (pg_now_us() - began) / 1000;
		if (taken)
			return true;
		if (!control_read("SELECT count(*) " LOCK_HOLDERS " AND a.state <> 'idle'", &busy,
				  error))
			return false;
		if (waited_ms >= (busy ? LOCK_PATIENCE_MS : LOCK_PATIENCE_IDLE_MS))
			return lock_refused(error);
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

static bool
encoding_check(struct iris_error *error)
{
	int64_t good;

	if (!control_read("SELECT current_setting('server_encoding') = 'UTF8'", &good, error))
		return false;
	if (good)
		return true;
	error_set(error, "The database: its encoding is not UTF8");
	return error_hint(error,
			  "Make it anew: createdb --encoding UTF8 --template template0 --locale C");
}

/*
 * The marks of the writers (writer.c).  The engine's own: no other engine needs them, so they are
 * in no migration.
 */
static bool
marks_make(struct iris_error *error)
{
	return pg_control_script("SET client_min_messages = warning", error) &&
	       pg_control_script(
		       "CREATE TABLE IF NOT EXISTS vault_writers (writer BIGINT PRIMARY KEY, "
		       "instance BIGINT NOT NULL, epoch BIGINT NOT NULL, batch BIGINT NOT NULL) "
		       "WITH (fillfactor = 50)",
		       error);
}

bool
pg_control_open(struct iris_error *error)
{
	control_shared = false;
	if (control_connect(error) && lock_take("pg_try_advisory_lock", error) &&
	    encoding_check(error) && marks_make(error))
		return true;
	pg_control_close();
	return false;
}

void
pg_control_share(void)
{
	PQclear(PQexec(control, "SELECT pg_advisory_lock_shared(" PG_LOCK_KEY
				"), pg_advisory_unlock(" PG_LOCK_KEY ")"));
	control_shared = true;
}

void
pg_control_close(void)
{
	PQfinish(control);
	control = NULL;
}

/* --- checking a statement --- */

static bool
statement_problem(const struct vault_statement *statement, const char *what,
		  struct iris_error *error)
{
	error_set(error, "The query %s is declared wrongly: %s", statement->query->name, what);
	return error_detail(error, "%s", statement->query->sql);
}

/* Is $number there, outside of quotes? */
static bool
sql_has_param(const char *sql, unsigned number)
{
	char quote = 0;

	for (; *sql; sql++) {
		if (quote)
			quote = *sql == quote ? 0 : quote;
		else if (*sql == '\'' || *sql == '"')
			quote = *sql;
		else if (*sql == '$' && strtoul(sql + 1, NULL, 10) == number)
			return true;
	}
	return false;
}

static bool
description_fits(const struct vault_statement *statement, const PGresult *description,
		 struct iris_error *error)
{
	const struct iris_query *query = statement->query;

	if (PQnparams(description) != (int)statement->param_count)
		return statement_problem(statement, "its parameters are not those of the SQL",
					 error);
	for (unsigned i = 0; i < statement->param_count; i++)
		if (!sql_has_param(query->sql, i + 1))
			return statement_problem(statement,
						 "a number is left out in its parameters", error);
	if (PQnfields(description) != (int)statement->column_count)
		return statement_problem(statement, "its columns are not those of the SQL", error);
	for (unsigned i = 0; i < statement->column_count; i++)
		if (!pg_type_fits(query->columns[i].type, PQftype(description, (int)i)))
			return statement_problem(statement,
						 "a column's type is not that of the SQL", error);
	return true;
}

/* A connection that was lost meanwhile is made anew: a module may be loaded long after the start.
 */
static bool
control_renew(struct iris_error *error)
{
	if (control && PQstatus(control) == CONNECTION_OK && PQsocket(control) >= 0) {
		PGresult *result = PQexec(control, "");
		bool alive = result_is_good(result);
		PQclear(result);
		if (alive)
			return true;
	}
	return control_connect(error) &&
	       (!control_shared || lock_take("pg_try_advisory_lock_shared", error));
}

bool
pg_control_prepare(struct vault_statement *statement, struct iris_error *error)
{
	const struct iris_query *query = statement->query;
	Oid types[VAULT_FIELDS_MAX];

	for (unsigned i = 0; i < statement->param_count; i++)
		types[i] = pg_type_oid(query->params[i].type);
	if (control_shared && !control_renew(error))
		return false;
	PGresult *result = PQprepare(control, "", query->sql, (int)statement->param_count, types);
	bool ok = result_is_good(result);
	PQclear(result);
	if (!ok) {
		statement_problem(statement, "PostgreSQL does not take it", error);
		return error_detail(error, "%.480s", PQerrorMessage(control));
	}
	PGresult *description = PQdescribePrepared(control, "");
	ok = result_is_good(description) ? description_fits(statement, description, error) :
					   control_problem(control, query->sql, error);
	PQclear(description);
	return ok && pg_slot_take(statement, error);
}
