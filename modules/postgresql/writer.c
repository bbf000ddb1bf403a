/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one worker writes: a bounded queue, one batch under way.  A batch is as many units as are
 * queued, sent in one go with one Sync behind them: one transaction, one commit.  While it is under
 * way the queue collects the next; when the rate is low the writer lingers, as SQLite's does.
 *
 * A unit that fails takes its batch with it.  What stood before it is sent again, without it; then
 * it comes first, and when the first unit of a batch fails, it is at fault itself.  So each fails
 * alone, in order, at the price of two more round trips.
 *
 * A connection may be lost when a batch is sent and its commit is not told.  Therefore each batch
 * begins with a mark: it sets the number of the batch in the writer's row of vault_writers.  The
 * next connection reads it, and knows.  It also raises the row's epoch, and a mark of an older
 * epoch fails: what still lies in the sockets of a lost connection, or in a server that was taken
 * for dead, is not carried out any more. A mark of another instance fails as well: two servers
 * cannot write into one database.
 */
#include <endian.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "iris/log.h"
#include "modules/postgresql/postgresql_private.h"

#define BATCH_ROWS 1024
#define BATCH_BYTES ((size_t)1 << 20)
#define BATCH_UNITS_AFTER_FAILURE 32
#define LINGER_ROWS 256 /* as many are worth a commit at once */
#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 1000
#define BACKGROUND_PATIENCE_US 10000000

#define SILENCE_MIN_US 250000
#define SILENCE_MAX_US 2000000

enum { SETUP_LOCK, SETUP_END_OLD, SETUP_CLAIM };

/* Fails, and the batch with it, for a connection whose place another has taken. */
static struct iris_query mark_query = {
	.name = "postgresql.mark",
	.write = true,
	.sql = "UPDATE vault_writers SET batch = $3 / CASE WHEN epoch = $2 AND instance = $4 THEN "
	       "1 ELSE 0 END "
	       "WHERE writer = $1",
	.params = { { "writer", IRIS_INT },
		    { "epoch", IRIS_INT },
		    { "batch", IRIS_INT },
		    { "instance", IRIS_INT } },
};
static struct vault_statement mark = { .query = &mark_query, .param_count = 4 };

/* --- is it well? --- */

static pthread_mutex_t watched_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pg_writer *watched; /* under the lock */

static void
trouble_set(struct pg_writer *writer, int64_t since_us, const char *why)
{
	pthread_mutex_lock(&watched_lock);
	bool first = writer->trouble_us == 0;
	if (first)
		writer->trouble_us = since_us;
	(void)snprintf(writer->trouble, sizeof(writer->trouble),
		       "the database cannot be written: %.*s", (int)strcspn(why, "\n"), why);
	pthread_mutex_unlock(&watched_lock);
	if (first)
		LOG(IRIS_LOG_WARNING, "postgresql", "writes-wait",
		    LOG_CSTR("connection", writer->connection.application),
		    LOG_CSTR("reason", why));
}

static void
trouble_clear(struct pg_writer *writer)
{
	pthread_mutex_lock(&watched_lock);
	int64_t since = writer->trouble_us;
	writer->trouble_us = 0;
	pthread_mutex_unlock(&watched_lock);
	if (since)
		LOG(IRIS_LOG_NOTICE, "postgresql", "writes-go-on",
		    LOG_CSTR("connection", writer->connection.application),
		    LOG_INT("ms", (pg_now_us() - since) / 1000), LOG_INT("rows", writer->rows));
}

bool
pg_writers_are_ready(int64_t delay_ms, char *why, size_t size)
{
	int64_t before = pg_now_us() - delay_ms * 1000;
	bool ready = true;

	pthread_mutex_lock(&watched_lock);
	for (const struct pg_writer *writer = watched; writer && ready;
	     writer = writer->next_watched) {
		ready = writer->trouble_us == 0 || writer->trouble_us > before;
		if (!ready)
			(void)snprintf(why, size, "%s", writer->trouble);
	}
	pthread_mutex_unlock(&watched_lock);
	return ready;
}

/* --- the queue --- */

static void
queue_append(struct pg_writer *writer, struct vault_group *group)
{
	group->next = NULL;
	if (writer->last) {
		writer->last->next = group;
	} else {
		writer->first = group;
		writer->next = group->first;
	}
	writer->last = group;
	writer->rows += group->rows;
}

/* Goes on to the unit behind, perhaps in the next group; NULL at the end of the queue. */
static struct vault_unit *
unit_after(const struct vault_unit *unit, const struct vault_group **group)
{
	if (unit->next)
		return unit->next;
	do
		*group = (*group)->next;
	while (*group && !(*group)->first);
	return *group ? (*group)->first : NULL;
}

/* Gives the result to the first units, and back the groups that are through. */
static void
queue_finish(struct pg_writer *writer, unsigned units, enum iris_vault_result result)
{
	struct vault_group *chain = writer->first, *last = NULL;

	while (writer->first) {
		for (; units > 0 && writer->next; units--) {
			writer->next->result = result;
			writer->next = writer->next->next;
		}
		if (writer->next)
			break;
		last = writer->first;
		writer->rows -= last->rows;
		if (last->sequence)
			writer->committed = last->sequence;
		writer->first = last->next;
		writer->next = writer->first ? writer->first->first : NULL;
	}
	if (!writer->first)
		writer->last = NULL;
	if (!last)
		return;
	last->next = NULL;
	vault_groups_done(
		chain); /* before the reads that waited: their worker hears of the commit first */
	if (writer->on_commit)
		writer->on_commit(writer);
}

/* --- sending a batch --- */

static size_t
unit_weight(const struct vault_unit *unit, unsigned *rows)
{
	size_t bytes = 0;

	for (const struct vault_call *call = unit->calls; call; call = call->next) {
		(*rows)++;
		for (unsigned i = 0; i < call->statement->param_count; i++)
			bytes += call->values[i].bytes.len;
	}
	return bytes;
}

static void
unit_send(struct pg_writer *writer, struct vault_unit *unit)
{
	unit->changed = -1; /* until it is told */
	for (struct vault_call *call = unit->calls; call && !writer->connection.doomed[0];
	     call = call->next)
		pg_connection_send_call(&writer->connection, call->statement, call->values, unit,
					call->statement->slot);
}

static void
batch_send(struct pg_writer *writer)
{
	const struct vault_group *group = writer->first;
	struct vault_unit *unit = writer->next;
	unsigned rows = 0;
	size_t bytes = 0;

	writer->batch++;
	writer->flight = 0;
	writer->broken = false;
	writer->failed = NULL;
	writer->sent_us = pg_now_us();
	pg_connection_send_call(&writer->connection, &mark,
				VALUES(value_int(writer->number), value_int(writer->epoch),
				       value_int(writer->batch), value_int(pg_instance)),
				NULL, 0);
	while (unit && writer->flight < writer->limit && rows < BATCH_ROWS && bytes < BATCH_BYTES) {
		bytes += unit_weight(unit, &rows);
		unit_send(writer, unit);
		writer->flight++;
		unit = unit_after(unit, &group);
	}
	if (!unit)
		writer->urgent = false;
	pg_connection_send_sync(&writer->connection);
}

/* --- when --- */

static void
linger_until(struct pg_writer *writer, int64_t when_us)
{
	int64_t us = when_us - pg_now_us();
	const struct timeval after = { .tv_sec = us > 0 ? us / 1000000 : 0,
				       .tv_usec = us > 0 ? us % 1000000 : 0 };

	IRIS_ASSERT(event_add(writer->linger, &after) == 0);
}

static bool
queue_is_due(const struct pg_writer *writer, int64_t *when_r)
{
	*when_r = writer->last_sent_us + pg_settings.linger_ms * 1000;
	return writer->urgent || writer->stopping || writer->background ||
	       writer->rows >= LINGER_ROWS || pg_now_us() >= *when_r;
}

void
pg_writer_pump(struct pg_writer *writer)
{
	int64_t when;

	if (writer->first && !writer->next)
		queue_finish(writer, 0,
			     IRIS_VAULT_OK); /* a group of which nothing could be sealed */
	if (!writer->next || writer->flight > 0 || writer->pausing)
		return;
	pg_connection_open(&writer->connection);
	if (writer->connection.state != PG_READY || writer->connection.doomed[0])
		return;
	if (queue_is_due(writer, &when)) {
		(void)event_del(writer->linger);
		batch_send(writer);
	} else if (!evtimer_pending(writer->linger, NULL)) {
		linger_until(writer, when);
	}
}

static void
on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct pg_writer *writer = arg;

	writer->pausing = false;
	pg_writer_pump(writer);
}

/* --- the end of a batch --- */

static void
batch_committed(struct pg_writer *writer)
{
	unsigned units = writer->flight;

	writer->flight = 0;
	writer->failures = 0;
	writer->last_sent_us = writer->sent_us;
	writer->limit = writer->limit < UINT32_MAX / 2 ? writer->limit * 2 : UINT32_MAX;
	metric_add(&pg_metrics[PG_METRIC_COMMITS], 1);
	metric_add(&pg_metrics[PG_METRIC_COMMIT_US], pg_now_us() - writer->sent_us);
	trouble_clear(writer);
	queue_finish(writer, units, IRIS_VAULT_OK);
}

static unsigned
units_before(const struct pg_writer *writer, const struct vault_unit *wanted)
{
	const struct vault_group *group = writer->first;
	const struct vault_unit *unit = writer->next;
	unsigned count = 0;

	for (; unit && unit != wanted; unit = unit_after(unit, &group))
		count++;
	return count;
}

static void
batch_failed_by_unit(struct pg_writer *writer)
{
	unsigned before = units_before(writer, writer->failed);

	writer->flight = 0;
	if (before > 0) {
		writer->limit = before;
		return;
	}
	LOG(IRIS_LOG_ERROR, "postgresql", "write failed", LOG_CSTR("query", writer->query),
	    LOG_CSTR("reason", writer->reason));
	writer->limit = BATCH_UNITS_AFTER_FAILURE;
	queue_finish(writer, 1, IRIS_VAULT_FAILED);
}

static void
batch_failed_by_store(struct pg_writer *writer)
{
	int64_t pause = RETRY_MIN_MS << (writer->failures < 7 ? writer->failures : 7);

	writer->flight = 0;
	writer->failures++;
	metric_add(&pg_metrics[PG_METRIC_RETRIES], 1);
	if (writer->failures > 1) /* a deadlock is no trouble */
		trouble_set(writer, writer->sent_us, writer->reason);
	if (writer->background) {
		queue_finish(writer, UINT32_MAX, IRIS_VAULT_FAILED);
		return;
	}
	writer->pausing = true;
	linger_until(writer, pg_now_us() + (pause < RETRY_MAX_MS ? pause : RETRY_MAX_MS) * 1000);
}

/* --- the role --- */

static struct pg_writer *
writer_of(struct pg_connection *connection)
{
	return IRIS_CONTAINER(connection, struct pg_writer, connection);
}

static void
writer_setup(struct pg_connection *connection)
{
	struct pg_writer *writer = writer_of(connection);

	pg_connection_send_setup(connection, SETUP_LOCK,
				 "SELECT pg_try_advisory_lock_shared(" PG_LOCK_KEY ")", NULL, 0);
	/* The one before us may wait for the rest of a batch that will never come. */
	pg_connection_send_setup(connection, SETUP_END_OLD,
				 "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
				 "application_name = $1 "
				 "AND datname = current_database() AND usename = current_user "
				 "AND pid <> pg_backend_pid()",
				 VALUES(value_str(str_from(connection->application))), 1);
	pg_connection_send_setup(
		connection, SETUP_CLAIM,
		"UPDATE vault_writers SET epoch = epoch + 1 WHERE writer = $1 AND instance = $2 "
		"RETURNING epoch, batch",
		VALUES(value_int(writer->number), value_int(pg_instance)), 2);
}

static void
writer_taken_over(struct pg_writer *writer)
{
	static const char why[] = "another server has taken the database over";

	trouble_set(writer, pg_now_us(), why);
	pg_connection_doom(&writer->connection, why);
}

static int64_t
result_number(const PGresult *result, int column)
{
	uint64_t number;

	IRIS_ASSERT(PQgetlength(result, 0, column) == sizeof(number));
	memcpy(&number, PQgetvalue(result, 0, column), sizeof(number));
	return (int64_t)be64toh(number);
}

static void
writer_setup_result(struct pg_connection *connection, unsigned index, const PGresult *result)
{
	struct pg_writer *writer = writer_of(connection);

	if (index == SETUP_LOCK && !PQgetvalue(result, 0, 0)[0]) {
		pg_connection_doom(connection, "another process has the database");
	} else if (index == SETUP_CLAIM && PQntuples(result) != 1) {
		writer_taken_over(writer);
	} else if (index == SETUP_CLAIM) {
		int64_t last = result_number(result, 1);
		writer->epoch = result_number(result, 0);
		if (writer->uncertain && last == writer->batch)
			metric_add(&pg_metrics[PG_METRIC_RECOVERED], 1);
		else
			writer->flight = 0;
		if (!writer->uncertain)
			writer->batch =
				last; /* of a writer before this one: no number comes twice */
	}
}

static void
writer_ready(struct pg_connection *connection)
{
	struct pg_writer *writer = writer_of(connection);

	writer->uncertain = false;
	if (writer->flight > 0)
		batch_committed(writer);
	else if (writer->failures == 0)
		trouble_clear(writer);
	pg_writer_pump(writer);
}

/* The name of the query that failed. */
static const char *
unit_query(const struct vault_unit *unit, unsigned slot)
{
	const struct vault_call *call = unit ? unit->calls : NULL;

	while (call && call->statement->slot != slot)
		call = call->next;
	return call ? call->statement->query->name : mark_query.name;
}

static void
writer_result(struct pg_connection *connection, const struct pg_expect *expect,
	      const PGresult *result)
{
	struct pg_writer *writer = writer_of(connection);
	struct vault_unit *unit = expect->what;
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_COMMAND_OK) {
		/* The last call's count stays. libpq does not change what it takes as not const. */
		if (unit)
			unit->changed = strtoll(PQcmdTuples((PGresult *)result), NULL, 10);
		return;
	}
	if (status == PGRES_PIPELINE_ABORTED || writer->broken)
		return;
	writer->broken = true;
	writer->failed = unit;
	writer->fault = pg_fault_of(PQresultErrorField(result, PG_DIAG_SQLSTATE));
	(void)snprintf(writer->reason, sizeof(writer->reason), "%s", PQresultErrorMessage(result));
	(void)snprintf(writer->query, sizeof(writer->query), "%s", unit_query(unit, expect->index));
	writer->reason[strcspn(writer->reason, "\n")] = '\0';
	if (writer->fault == PG_FAULT_CONNECTION)
		pg_connection_doom(connection, writer->reason);
	else if (writer->fault == PG_FAULT_STATEMENT && !unit && expect->kind == PG_EXPECT_CALL)
		writer_taken_over(writer);
}

static void
writer_synced(struct pg_connection *connection)
{
	struct pg_writer *writer = writer_of(connection);

	if (!writer->broken)
		batch_committed(writer);
	else if (writer->fault == PG_FAULT_STATEMENT && writer->failed)
		batch_failed_by_unit(writer);
	else
		batch_failed_by_store(writer);
	pg_writer_pump(writer);
}

static void
writer_lost(struct pg_connection *connection, const char *why)
{
	struct pg_writer *writer = writer_of(connection);

	writer->uncertain = writer->uncertain || writer->flight > 0;
	if (connection->closing)
		return;
	trouble_set(writer, pg_now_us(), why);
	if (writer->background) {
		writer->flight = 0;
		queue_finish(writer, UINT32_MAX, IRIS_VAULT_FAILED);
	}
}

static const struct pg_role writer_role = {
	.setup = writer_setup,
	.setup_result = writer_setup_result,
	.ready = writer_ready,
	.result = writer_result,
	.synced = writer_synced,
	.lost = writer_lost,
};

/* --- what others call --- */

bool
pg_writers_open(struct iris_error *error)
{
	return pg_slot_take(&mark, error) &&
	       pg_control_query("INSERT INTO vault_writers (writer, instance, epoch, batch) "
				"SELECT n, $1, 0, 0 FROM generate_series(0, $2) AS n "
				"ON CONFLICT (writer) DO UPDATE SET instance = excluded.instance, "
				"epoch = 0, batch = 0",
				VALUES(value_int(pg_instance), value_int(PG_WRITERS - 1)), 2, NULL,
				error);
}

static void
writer_watch(struct pg_writer *writer, bool add)
{
	pthread_mutex_lock(&watched_lock);
	struct pg_writer **at = &watched;
	while (*at && *at != writer)
		at = &(*at)->next_watched;
	if (add) {
		writer->next_watched = watched;
		watched = writer;
	} else if (*at) {
		*at = writer->next_watched;
	}
	pthread_mutex_unlock(&watched_lock);
}

void
pg_writer_init(struct pg_writer *writer, unsigned number, struct event_base *base)
{
	writer->number = number;
	writer->limit = UINT32_MAX;
	writer->linger = evtimer_new(base, on_linger, writer);
	IRIS_ASSERT(writer->linger);
	(void)snprintf(writer->connection.application, sizeof(writer->connection.application),
		       "iris writer %u", number);
	pg_connection_init(&writer->connection, &writer_role, base);
	if (!writer->background)
		writer_watch(writer, true);
}

void
pg_writer_submit(struct pg_writer *writer, struct vault_group *group)
{
	writer->urgent |= group->urgent;
	queue_append(writer, group);
}

void
pg_writer_hurry(struct pg_writer *writer)
{
	writer->urgent = true;
	pg_writer_pump(writer);
}

/* How long a commit may take before it counts as trouble: a part of what it may take at most. */
static int64_t
patience_us(void)
{
	int64_t us = pg_settings.stall_timeout_ms * 1000 / 5;

	return us < SILENCE_MIN_US ? SILENCE_MIN_US : us > SILENCE_MAX_US ? SILENCE_MAX_US : us;
}

void
pg_writer_check(struct pg_writer *writer)
{
	int64_t silent_us = writer->flight > 0 ? pg_now_us() - writer->sent_us : 0;

	if (silent_us > patience_us() && !writer->uncertain)
		trouble_set(writer, writer->sent_us, "it does not answer");
	if (writer->background && silent_us > BACKGROUND_PATIENCE_US)
		pg_connection_expire(&writer->connection);
	else
		pg_connection_check(&writer->connection);
}

bool
pg_writer_is_idle(const struct pg_writer *writer)
{
	return !writer->first;
}

void
pg_writer_stop(struct pg_writer *writer)
{
	pg_connection_close(&writer->connection);
	event_free(writer->linger);
	writer->linger = NULL;
	if (writer->first)
		LOG(IRIS_LOG_ERROR, "postgresql", "writes given up while stopping",
		    LOG_INT("rows", writer->rows));
	queue_finish(writer, UINT32_MAX, IRIS_VAULT_FAILED);
	writer_watch(writer, false);
}
