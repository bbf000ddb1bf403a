/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one worker reads: one queue over a few connections, several reads under way on each.  A read
 * that must see a write waits for its commit; as both rise together, only the head of the queue has
 * to be looked at.  A read that was lost with its connection is asked again; when its time is over,
 * it fails, and what still comes for it is dropped.
 */
#include <stdio.h>
#include <stdlib.h>

#include "iris/log.h"
#include "modules/postgresql/postgresql_private.h"

#define FLIGHT_MAX 64 /* on one connection: what comes later may find the other one free */
#define TRIES_MAX 3 /* SECURITY: a read that brings the server down does not do it for ever */

struct pg_read {
	struct pg_read *next;
	struct vault_read *read; /* NULL: it was given up, its memory is gone */
	int64_t deadline_us;
	unsigned tries;
	bool failed;
};

static void
list_append(struct pg_read_list *list, struct pg_read *entry)
{
	entry->next = NULL;
	if (list->last)
		list->last->next = entry;
	else
		list->first = entry;
	list->last = entry;
}

static struct pg_read *
list_take(struct pg_read_list *list)
{
	struct pg_read *entry = list->first;

	list->first = entry->next;
	if (!list->first)
		list->last = NULL;
	return entry;
}

/* --- one read --- */

static void
entry_drop_rows(struct pg_read *entry)
{
	for (unsigned i = 0; entry->read && i < entry->read->call_count; i++)
		rows_free(&entry->read->calls[i].rows);
}

static void
entry_complete(struct pg_read *entry, enum iris_vault_result result)
{
	struct vault_read *read = entry->read;

	entry->read = NULL;
	if (!read)
		return;
	read->result = result;
	read->done(read);
}

static void
entry_give_up(struct pg_read *entry)
{
	if (!entry->read)
		return;
	metric_add(&pg_metrics[PG_METRIC_READ_TIMEOUTS], 1);
	LOG(IRIS_LOG_WARNING, "postgresql", "read-timeout",
	    LOG_CSTR("query", entry->read->calls[0].statement->query->name));
	entry_drop_rows(entry);
	entry_complete(entry, IRIS_VAULT_FAILED);
}

static void
reader_send(struct pg_reader *reader, struct pg_read *entry)
{
	list_append(&reader->flight, entry);
	reader->count++;
	entry->tries++;
	entry->failed = false;
	for (unsigned i = 0; i < entry->read->call_count && !reader->connection.doomed[0]; i++) {
		const struct vault_read_call *call = &entry->read->calls[i];
		pg_connection_send_call(&reader->connection, call->statement, call->values, entry,
					i);
	}
	pg_connection_send_sync(&reader->connection);
}

/* --- the queue --- */

/* The one with the least to do; opens another when all that are ready are busy. */
static struct pg_reader *
readers_choose(struct pg_readers *readers)
{
	struct pg_reader *best = NULL;

	for (unsigned i = 0; i < readers->open; i++) {
		struct pg_reader *reader = &readers->readers[i];
		bool able = reader->connection.state == PG_READY && !reader->connection.doomed[0];
		if (able && reader->count < FLIGHT_MAX && (!best || reader->count < best->count))
			best = reader;
	}
	if ((!best || best->count > 0) && readers->open < pg_settings.readers)
		pg_connection_open(&readers->readers[readers->open++].connection);
	return best;
}

void
pg_readers_pump(struct pg_readers *readers)
{
	while (readers->waiting.first) {
		struct pg_read *entry = readers->waiting.first;
		/* A writer that was made anew has not seen the commits of the one before it. */
		if (entry->read && entry->read->after > readers->writer->committed &&
		    !pg_writer_is_idle(readers->writer)) {
			pg_writer_hurry(readers->writer);
			return;
		}
		struct pg_reader *reader = entry->read ? readers_choose(readers) : NULL;
		if (entry->read && !reader)
			return;
		(void)list_take(&readers->waiting);
		if (reader)
			reader_send(reader, entry);
		else
			free(entry);
	}
}

void
pg_readers_take(struct pg_readers *readers, struct vault_read *read)
{
	struct pg_read *entry = iris_calloc(1, sizeof(*entry));

	entry->read = read;
	entry->deadline_us = pg_now_us() + pg_settings.read_timeout_ms * 1000;
	list_append(&readers->waiting, entry);
}

/* --- the role --- */

static struct pg_reader *
reader_of(struct pg_connection *connection)
{
	return IRIS_CONTAINER(connection, struct pg_reader, connection);
}

static void
reader_setup(struct pg_connection *connection)
{
	char timeout[24];

	(void)snprintf(timeout, sizeof(timeout), "%lld", (long long)pg_settings.read_timeout_ms);
	pg_connection_send_setup(connection, 0,
				 "SELECT set_config('default_transaction_read_only', 'on', false), "
				 "set_config('statement_timeout', $1, false)",
				 VALUES(value_str(str_from(timeout))), 1);
}

static void
reader_setup_result(struct pg_connection *connection, unsigned index, const PGresult *result)
{
}

static void
reader_ready(struct pg_connection *connection)
{
	pg_readers_pump(reader_of(connection)->pool);
}

static void
reader_failed(struct pg_connection *connection, const struct pg_expect *expect,
	      const PGresult *result)
{
	struct pg_read *entry = expect->what;
	enum pg_fault fault = pg_fault_of(PQresultErrorField(result, PG_DIAG_SQLSTATE));

	if (fault == PG_FAULT_CONNECTION) {
		pg_connection_doom(connection, PQresultErrorMessage(result));
		return;
	}
	if (!entry)
		return; /* of a Sync: the statements before it have told */
	entry->failed = true;
	if (entry->read)
		LOG(IRIS_LOG_ERROR, "postgresql", "read failed",
		    LOG_CSTR("query",
			     entry->read->calls[expect->kind == PG_EXPECT_CALL ? expect->index : 0]
				     .statement->query->name),
		    LOG_CSTR("reason", PQresultErrorMessage(result)));
}

static void
reader_result(struct pg_connection *connection, const struct pg_expect *expect,
	      const PGresult *result)
{
	struct pg_read *entry = expect->what;
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_PIPELINE_ABORTED)
		return;
	if (status != PGRES_TUPLES_OK)
		reader_failed(connection, expect, result);
	else if (entry->read && !pg_rows_collect(result, &entry->read->calls[expect->index].rows))
		entry->failed = true;
}

static void
reader_synced(struct pg_connection *connection)
{
	struct pg_reader *reader = reader_of(connection);
	struct pg_read *entry = list_take(&reader->flight);

	reader->count--;
	entry_complete(entry, entry->failed ? IRIS_VAULT_FAILED : IRIS_VAULT_OK);
	free(entry);
	pg_readers_pump(reader->pool);
}

/* Back to the head of the queue, in their order. */
static void
reader_lost(struct pg_connection *connection, const char *why)
{
	struct pg_reader *reader = reader_of(connection);
	struct pg_read_list again = { NULL, NULL };

	while (reader->flight.first) {
		struct pg_read *entry = list_take(&reader->flight);
		entry_drop_rows(entry);
		if (entry->tries >= TRIES_MAX || connection->closing)
			entry_complete(entry, IRIS_VAULT_FAILED);
		if (entry->read) {
			metric_add(&pg_metrics[PG_METRIC_READ_RETRIES], 1);
			list_append(&again, entry);
		} else {
			free(entry);
		}
	}
	reader->count = 0;
	if (!again.first)
		return;
	again.last->next = reader->pool->waiting.first;
	if (!reader->pool->waiting.last)
		reader->pool->waiting.last = again.last;
	reader->pool->waiting.first = again.first;
}

static const struct pg_role reader_role = {
	.setup = reader_setup,
	.setup_result = reader_setup_result,
	.ready = reader_ready,
	.result = reader_result,
	.synced = reader_synced,
	.lost = reader_lost,
};

/* --- what others call --- */

void
pg_readers_init(struct pg_readers *readers, struct pg_writer *writer, struct event_base *base)
{
	readers->writer = writer;
	for (unsigned i = 0; i < pg_settings.readers; i++) {
		struct pg_reader *reader = &readers->readers[i];
		reader->pool = readers;
		(void)snprintf(reader->connection.application,
			       sizeof(reader->connection.application), "iris reader %u.%u",
			       writer->number, i);
		pg_connection_init(&reader->connection, &reader_role, base);
	}
}

static void
expire(struct pg_read_list *list, int64_t now_us)
{
	for (struct pg_read *entry = list->first; entry && entry->deadline_us <= now_us;
	     entry = entry->next)
		entry_give_up(entry);
}

/* Deadlines rise along each list. */
void
pg_readers_check(struct pg_readers *readers)
{
	int64_t now_us = pg_now_us();

	expire(&readers->waiting, now_us);
	for (unsigned i = 0; i < readers->open; i++) {
		expire(&readers->readers[i].flight, now_us);
		pg_connection_check(&readers->readers[i].connection);
	}
	while (readers->waiting.first && !readers->waiting.first->read)
		free(list_take(&readers->waiting));
	pg_readers_pump(readers);
}

bool
pg_readers_are_idle(const struct pg_readers *readers)
{
	bool idle = !readers->waiting.first;

	for (unsigned i = 0; i < readers->open; i++)
		idle = idle && readers->readers[i].count == 0;
	return idle;
}

void
pg_readers_stop(struct pg_readers *readers)
{
	for (unsigned i = 0; i < pg_settings.readers; i++)
		pg_connection_close(&readers->readers[i].connection);
	while (readers->waiting.first) {
		struct pg_read *entry = list_take(&readers->waiting);
		entry_complete(entry, IRIS_VAULT_FAILED);
		free(entry);
	}
}
