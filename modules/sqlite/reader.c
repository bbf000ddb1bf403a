/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of the SQLite engine: a few threads with a connection each.  A read that must see a write
 * that is still queued waits until the writer says it is committed.
 */
#include <pthread.h>

#include "iris/log.h"
#include "modules/sqlite/sqlite_private.h"

struct read_list {
	struct vault_read *first, *last;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct read_list ready, waiting;
	uint64_t committed;
	bool stopping;
	unsigned count;
	pthread_t threads[SQLITE_READERS_MAX];
	struct sqlite_connection connections[SQLITE_READERS_MAX];
} readers = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

static void
list_append(struct read_list *list, struct vault_read *read)
{
	read->next = NULL;
	if (list->last)
		list->last->next = read;
	else
		list->first = read;
	list->last = read;
}

static struct vault_read *
list_take(struct read_list *list)
{
	struct vault_read *read = list->first;

	if (read) {
		list->first = read->next;
		if (!list->first)
			list->last = NULL;
	}
	return read;
}

void
readers_take(struct vault_read *read)
{
	pthread_mutex_lock(&readers.lock);
	bool ready = read->after <= readers.committed;
	list_append(ready ? &readers.ready : &readers.waiting, read);
	pthread_mutex_unlock(&readers.lock);
	if (ready)
		pthread_cond_signal(&readers.wake); /* unlocked: who wakes needs the lock */
	else
		writer_hurry();
}

void
readers_committed(uint64_t sequence)
{
	struct read_list waiting;
	struct vault_read *read;

	pthread_mutex_lock(&readers.lock);
	readers.committed = sequence;
	waiting = readers.waiting;
	readers.waiting = (struct read_list){ NULL, NULL };
	while ((read = list_take(&waiting)) != NULL) {
		bool ready = read->after <= sequence;
		list_append(ready ? &readers.ready : &readers.waiting, read);
		if (ready)
			pthread_cond_signal(&readers.wake);
	}
	pthread_mutex_unlock(&readers.lock);
}

static bool
read_call(struct sqlite_connection *connection, struct vault_read_call *call)
{
	int code;
	sqlite3_stmt *stmt =
		sqlite_connection_bind(connection, call->statement, call->values, &code);

	if (stmt) {
		code = statement_collect(stmt, &call->rows);
		(void)sqlite3_reset(stmt);
	}
	if (code == SQLITE_DONE)
		return true;
	LOG(IRIS_LOG_ERROR, "sqlite", "read failed",
	    LOG_CSTR("query", call->statement->query->name), LOG_INT("code", code),
	    LOG_CSTR("reason", sqlite3_errmsg(connection->db)));
	return false;
}

static void
read_run(struct sqlite_connection *connection, struct vault_read *read)
{
	read->result = IRIS_VAULT_OK;
	for (unsigned i = 0; i < read->call_count && read->result == IRIS_VAULT_OK; i++)
		if (!read_call(connection, &read->calls[i]))
			read->result = IRIS_VAULT_FAILED;
	read->done(read);
}

static void *
reader_main(void *arg)
{
	struct sqlite_connection *connection = arg;
	struct vault_read *read;

	(void)pthread_setname_np(pthread_self(), "vault-reader");
	pthread_mutex_lock(&readers.lock);
	for (;;) {
		while (!(read = list_take(&readers.ready)) && !readers.stopping)
			pthread_cond_wait(&readers.wake, &readers.lock);
		if (!read)
			break;
		pthread_mutex_unlock(&readers.lock);
		read_run(connection, read);
		pthread_mutex_lock(&readers.lock);
	}
	pthread_mutex_unlock(&readers.lock);
	return NULL;
}

bool
readers_start(struct iris_error *error)
{
	readers.stopping = false;
	readers.committed = 0;
	for (readers.count = 0; readers.count < sqlite_settings.readers; readers.count++) {
		struct sqlite_connection *connection = &readers.connections[readers.count];
		if (!sqlite_connection_open(connection, sqlite_settings.reader_cache, false, error))
			return false;
		if (pthread_create(&readers.threads[readers.count], NULL, reader_main,
				   connection) != 0) {
			sqlite_connection_close(connection);
			return error_set(error, "A reading thread cannot be started");
		}
	}
	return true;
}

void
readers_stop(void)
{
	pthread_mutex_lock(&readers.lock);
	readers.stopping = true;
	pthread_cond_broadcast(&readers.wake);
	pthread_mutex_unlock(&readers.lock);
	while (readers.count > 0) {
		readers.count--;
		(void)pthread_join(readers.threads[readers.count], NULL);
		sqlite_connection_close(&readers.connections[readers.count]);
	}
}
