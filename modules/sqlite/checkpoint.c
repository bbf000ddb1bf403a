/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of the SQLite engine.  A thread copies the WAL into the database five times a second
 * without being in anybody's way (PASSIVE); under steady load that alone never lets the WAL start
 * over, so the writer does (RESTART) when it has become long and the thread is not inside.
 * Automatic checkpoints in the writer would stall commits for tens of milliseconds.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "iris/log.h"
#include "modules/sqlite/sqlite_private.h"

#define CHECKPOINT_MS 200
#define RESTART_PATIENCE_MS 20 /* that readers may hold up the writer */
#define TRUNCATE_PATIENCE_MS 5000 /* that readers and the writer may hold up an eraser */

static struct {
	pthread_t thread;
	bool running, stopping;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool dirty;  /* committed since the last pass began */
	atomic_bool inside; /* somebody is in a checkpoint */
	struct sqlite_connection connection;
} checkpoint = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
checkpoint_pass(void)
{
	atomic_store(&checkpoint.dirty, false);
	if (atomic_exchange(&checkpoint.inside, true))
		return;
	int code = sqlite3_wal_checkpoint_v2(checkpoint.connection.db, NULL,
					     SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	atomic_store(&checkpoint.inside, false);
	if (code != SQLITE_OK && code != SQLITE_BUSY)
		LOG(IRIS_LOG_WARNING, "sqlite", "checkpoint failed", LOG_INT("code", code),
		    LOG_CSTR("reason", sqlite3_errmsg(checkpoint.connection.db)));
}

/* Sleeps while nothing is written; false when it is time to end. */
static bool
checkpoint_wait(void)
{
	struct timespec until;

	pthread_mutex_lock(&checkpoint.lock);
	while (!checkpoint.stopping && !atomic_load(&checkpoint.dirty))
		pthread_cond_wait(&checkpoint.wake, &checkpoint.lock);
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += CHECKPOINT_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	while (!checkpoint.stopping)
		if (pthread_cond_timedwait(&checkpoint.wake, &checkpoint.lock, &until) == ETIMEDOUT)
			break;
	bool go_on = !checkpoint.stopping;
	pthread_mutex_unlock(&checkpoint.lock);
	return go_on;
}

static void *
checkpoint_main(void *arg)
{
	(void)pthread_setname_np(pthread_self(), "vault-checkpt");
	while (checkpoint_wait())
		checkpoint_pass();
	checkpoint_pass();
	return NULL;
}

void
checkpoint_after_commit(struct sqlite_connection *writer, int pages)
{
	if (!atomic_load_explicit(&checkpoint.dirty, memory_order_relaxed)) {
		pthread_mutex_lock(&checkpoint.lock);
		atomic_store(&checkpoint.dirty, true);
		pthread_cond_signal(&checkpoint.wake);
		pthread_mutex_unlock(&checkpoint.lock);
	}
	if (pages <= WAL_RESTART_PAGES || atomic_exchange(&checkpoint.inside, true))
		return;
	(void)sqlite3_busy_timeout(writer->db, RESTART_PATIENCE_MS);
	(void)sqlite3_wal_checkpoint_v2(writer->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
	(void)sqlite3_busy_timeout(writer->db, 5000);
	atomic_store(&checkpoint.inside, false);
	metric_add(&sqlite_metrics[SQLITE_METRIC_RESTARTS], 1);
}

bool
checkpoint_truncate(struct iris_error *error)
{
	struct sqlite_connection *own = iris_calloc(1, sizeof(*own));
	bool ok = sqlite_connection_open(own, 1 << 20, true, error);

	if (ok) {
		(void)sqlite3_busy_timeout(own->db, TRUNCATE_PATIENCE_MS);
		ok = sqlite3_wal_checkpoint_v2(own->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
					       NULL) == SQLITE_OK;
		if (!ok)
			sqlite_connection_error(own, "the write-ahead log cannot be emptied",
						error);
		sqlite_connection_close(own);
	}
	free(own);
	return ok;
}

bool
checkpoint_start(struct iris_error *error)
{
	pthread_condattr_t monotonic;

	if (!sqlite_connection_open(&checkpoint.connection, 1 << 20, true, error))
		return false;
	checkpoint.stopping = false;
	atomic_store(&checkpoint.dirty, false);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&checkpoint.wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&checkpoint.thread, NULL, checkpoint_main, NULL) != 0) {
		sqlite_connection_close(&checkpoint.connection);
		return error_set(error, "The checkpoint thread cannot be started");
	}
	checkpoint.running = true;
	return true;
}

void
checkpoint_stop(void)
{
	if (!checkpoint.running)
		return;
	pthread_mutex_lock(&checkpoint.lock);
	checkpoint.stopping = true;
	pthread_cond_signal(&checkpoint.wake);
	pthread_mutex_unlock(&checkpoint.lock);
	(void)pthread_join(checkpoint.thread, NULL);
	pthread_cond_destroy(&checkpoint.wake);
	sqlite_connection_close(&checkpoint.connection);
	checkpoint.running = false;
}
