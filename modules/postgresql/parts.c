/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of the tables that are {monthly}: one for each month (UTC) of the ids of the log, named
 * log_2026_11.  On the thread that asks, with a connection for the time of the call.
 *
 * Nobody is kept waiting: a part is made on its own and then attached, is detached concurrently and
 * then dropped, and a lock that is not to be had at once is asked for another time.  What was cut
 * short is found in the catalogue and finished by the next call.  There is no DEFAULT part: with
 * one, none could be detached concurrently, and attaching one would look through it.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "iris/log.h"
#include "modules/postgresql/postgresql_private.h"

#define PARTS_APPLICATION "iris parts"
#define NAME_MAX_LEN 63 /* of PostgreSQL */
#define SQL_MAX (4 * NAME_MAX_LEN + 256)
#define LOCKS_MS 6000 /* lock_timeout, and a statement may wait for three */

/* Every table in parts, with each table that is, or once was, a part of it. */
#define CATALOGUE                                                                            \
	"SELECT p.relname, c.relname, CASE WHEN i.inhrelid IS NULL THEN 'o' "                \
	"WHEN i.inhdetachpending THEN 'd' ELSE 'a' END "                                     \
	"FROM pg_class p LEFT JOIN pg_class c ON c.relnamespace = p.relnamespace "           \
	"AND c.relkind = 'r' AND c.relname ~ ('^' || p.relname || '_[0-9]{4}_[0-9]{2}$') "   \
	"LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = p.oid "             \
	"WHERE p.relkind = 'p' AND p.relnamespace = "                                        \
	"(SELECT relnamespace FROM pg_class WHERE oid = 'log'::regclass) "                   \
	"ORDER BY p.relname, c.relname"

enum part_state {
	PART_ABSENT,
	PART_ATTACHED = 'a',
	PART_DETACHING = 'd', /* begun, and not finished */
	PART_ALONE = 'o'
};

/* The catalogue's answer: (table, part, state), ordered. */
struct parts {
	PGconn *pg;
	PGresult *list;
};

/* --- months: counted from January of year 0 --- */

static int64_t
month_of_id(int64_t id)
{
	time_t seconds = (time_t)(log_id_time_ms(id) / 1000);
	struct tm tm;

	IRIS_ASSERT(gmtime_r(&seconds, &tm));
	return (tm.tm_year + INT64_C(1900)) * 12 + tm.tm_mon;
}

static int64_t
month_first_id(int64_t month)
{
	struct tm tm = { .tm_year = (int)(month / 12 - 1900), .tm_mon = (int)(month % 12),
			 .tm_mday = 1 };

	return log_id_first((int64_t)timegm(&tm) * 1000);
}

static void
part_name(char *name, const char *table, int64_t month)
{
	(void)snprintf(name, NAME_MAX_LEN + 1, "%.50s_%04d_%02d", table, (int)(month / 12),
		       (int)(month % 12) + 1);
}

static int64_t
part_month(const char *part) /* the catalogue has looked at its form */
{
	const char *at = part + strlen(part) - strlen("2026_11");
	return strtol(at, NULL, 10) * 12 + strtol(at + 5, NULL, 10) - 1;
}

/* --- statements, with an end to waiting --- */

static bool
parts_problem(const char *message, const char *sql, struct iris_error *error)
{
	error_set(error, "The database: a part of the log could not be made or dropped");
	return error_detail(error, "%.160s: %.*s", sql, (int)strcspn(message, "\n"), message);
}

static bool
parts_wait(const struct parts *parts)
{
	int64_t until = pg_now_us() + (pg_settings.stall_timeout_ms + LOCKS_MS) * 1000;
	struct pollfd fd = { .fd = PQsocket(parts->pg), .events = POLLIN };

	while (PQisBusy(parts->pg)) {
		int64_t left_ms = (until - pg_now_us()) / 1000;
		if (left_ms <= 0 || poll(&fd, 1, (int)left_ms) < 0 || !PQconsumeInput(parts->pg))
			return false;
	}
	return true;
}

/* The rows go to result_r, or are dropped when it is NULL. */
static bool
parts_run(const struct parts *parts, const char *sql, PGresult **result_r,
	  struct iris_error *error)
{
	PGresult *result = NULL, *last = NULL;

	if (PQsendQuery(parts->pg, sql) != 1)
		return parts_problem(PQerrorMessage(parts->pg), sql, error);
	do {
		PQclear(last);
		last = result;
		if (!parts_wait(parts)) {
			PQclear(last);
			return parts_problem("no answer in time", sql, error);
		}
		result = PQgetResult(parts->pg);
	} while (result);
	ExecStatusType status = PQresultStatus(last);
	bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
	if (!ok)
		parts_problem(PQresultErrorMessage(last), sql, error);
	if (ok && result_r)
		*result_r = last;
	else
		PQclear(last);
	return ok;
}

/* --- one part --- */

static bool
part_attach(const struct parts *parts, const char *table, const char *part, int64_t month,
	    struct iris_error *error)
{
	char sql[SQL_MAX];

	(void)snprintf(sql, sizeof(sql),
		       "ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%lld) TO (%lld)",
		       table, part, (long long)month_first_id(month),
		       (long long)month_first_id(month + 1));
	return parts_run(parts, sql, NULL, error);
}

static bool
part_create(const struct parts *parts, const char *table, const char *part, int64_t month,
	    struct iris_error *error)
{
	struct iris_error ignored;
	char sql[SQL_MAX];

	(void)snprintf(sql, sizeof(sql),
		       "CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES)", part, table);
	if (!parts_run(parts, "BEGIN", NULL, error))
		return false;
	if (parts_run(parts, sql, NULL, error) && part_attach(parts, table, part, month, error) &&
	    parts_run(parts, "COMMIT", NULL, error)) {
		metric_add(&pg_metrics[PG_METRIC_PARTS_MADE], 1);
		return true;
	}
	(void)parts_run(parts, "ROLLBACK", NULL, &ignored);
	return false;
}

static bool
part_detach(const struct parts *parts, const char *table, const char *part, enum part_state state,
	    struct iris_error *error)
{
	char sql[SQL_MAX];

	(void)snprintf(sql, sizeof(sql), "ALTER TABLE %s DETACH PARTITION %s %s", table, part,
		       state == PART_DETACHING ? "FINALIZE" : "CONCURRENTLY");
	return parts_run(parts, sql, NULL, error);
}

static bool
part_make(const struct parts *parts, const char *table, int64_t month, enum part_state state,
	  struct iris_error *error)
{
	char part[NAME_MAX_LEN + 1];

	part_name(part, table, month);
	switch (state) {
	case PART_ATTACHED: return true;
	case PART_ABSENT: return part_create(parts, table, part, month, error);
	case PART_DETACHING:
		return part_detach(parts, table, part, state, error) &&
		       part_attach(parts, table, part, month, error);
	case PART_ALONE: return part_attach(parts, table, part, month, error);
	}
	return false;
}

static bool
part_drop(const struct parts *parts, const char *table, const char *part, enum part_state state,
	  struct iris_error *error)
{
	char sql[SQL_MAX];

	if (state != PART_ALONE && !part_detach(parts, table, part, state, error))
		return false;
	(void)snprintf(sql, sizeof(sql), "DROP TABLE %s", part);
	if (!parts_run(parts, sql, NULL, error))
		return false;
	metric_add(&pg_metrics[PG_METRIC_PARTS_DROPPED], 1);
	LOG(IRIS_LOG_INFO, "postgresql", "part-dropped", LOG_CSTR("part", part));
	return true;
}

/* --- all of them --- */

static const char *
list_text(const struct parts *parts, int row, int column)
{
	return PQgetvalue(parts->list, row, column);
}

static enum part_state
list_state(const struct parts *parts, int row)
{
	return (enum part_state)list_text(parts, row, 2)[0];
}

/* From the rows of one table, which end before `end`. */
static enum part_state
list_find(const struct parts *parts, int row, int end, int64_t month)
{
	for (; row < end; row++)
		if (!PQgetisnull(parts->list, row, 1) &&
		    part_month(list_text(parts, row, 1)) == month)
			return list_state(parts, row);
	return PART_ABSENT;
}

static int
list_end_of_table(const struct parts *parts, int row)
{
	int end = row + 1;

	while (end < PQntuples(parts->list) &&
	       strcmp(list_text(parts, row, 0), list_text(parts, end, 0)) == 0)
		end++;
	return end;
}

static void
parts_close(struct parts *parts)
{
	PQclear(parts->list);
	PQfinish(parts->pg);
}

static bool
parts_open(struct parts *parts, struct iris_error *error)
{
	*parts = (struct parts){ .pg = pg_control_connect_new(PARTS_APPLICATION, error) };
	if (parts->pg &&
	    parts_run(parts, "SET lock_timeout = '2s'", NULL, error) &&
	    parts_run(parts, "SET client_min_messages = warning", NULL, error) &&
	    parts_run(parts, CATALOGUE, &parts->list, error))
		return true;
	parts_close(parts);
	return false;
}

bool
pg_parts_make(int64_t first_id, int64_t last_id, struct iris_error *error)
{
	int64_t first = month_of_id(first_id), last = month_of_id(last_id);
	struct parts parts;
	bool ok = true;

	if (!parts_open(&parts, error))
		return false;
	for (int row = 0, end; row < PQntuples(parts.list) && ok; row = end) {
		end = list_end_of_table(&parts, row);
		for (int64_t month = first; month <= last && ok; month++)
			ok = part_make(&parts, list_text(&parts, row, 0), month,
				       list_find(&parts, row, end, month), error);
	}
	parts_close(&parts);
	return ok;
}

bool
pg_parts_drop(int64_t horizon_id, struct iris_error *error)
{
	struct parts parts;
	bool ok = true;

	if (!parts_open(&parts, error))
		return false;
	for (int row = 0; row < PQntuples(parts.list) && ok; row++)
		if (!PQgetisnull(parts.list, row, 1) &&
		    month_first_id(part_month(list_text(&parts, row, 1)) + 1) <= horizon_id)
			ok = part_drop(&parts, list_text(&parts, row, 0), list_text(&parts, row, 1),
				       list_state(&parts, row), error);
	parts_close(&parts);
	return ok;
}
