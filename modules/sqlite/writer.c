/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one writer of the SQLite engine: takes all groups that are queued and commits them together.
 * A commit costs the same for one row as for hundreds, so the writer lingers when the rate is low:
 * the first write after a pause is committed at once, then at most one commit happens in each
 * linger time, unless somebody waits or much is queued.
 *
 * A group is run without savepoints first; only when a statement fails is the whole batch rolled
 * back and run again, each unit in a savepoint, so that the one at fault fails alone.  When the
 * store itself fails (disk full, I/O), the batch is tried again until it succeeds: nothing is given
 * back as committed that is not.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "iris/log.h"
#include "modules/sqlite/sqlite_private.h"

#define LINGER_ROWS 256    /* as many are worth a commit at once */
#define BACKGROUND_CREDIT_MAX 65536
#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 1000
#define STOP_RETRIES 8     /* a store that fails while we stop is given up after so many */

enum writer_state { WRITER_BUSY, WRITER_IDLE, WRITER_LINGERS };

struct group_list {
	struct vault_group *first, *last;
};

static struct {
	pthread_t thread;
	bool running;
	struct sqlite_connection connection;
	sqlite3_stmt *begin, *commit, *rollback;
	int wal_pages;
	int64_t last_commit_us; /* when it ended, monotonic */

	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock: */
	enum writer_state state;
	struct group_list queue, background;
	size_t rows;
	uint64_t sequence;
	bool urgent, stopping;
	size_t background_credit; /* rows that the background may write although others are due */
	size_t background_share;  /* and in one transaction, beside its first group */
	char trouble[256];      /* why it cannot write; empty: it can */
	int64_t trouble_us;     /* since when */
} writer = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the queue --- */

static void
list_append(struct group_list *list, struct vault_group *group)
{
	group->next = NULL;
	if (list->last)
		list->last->next = group;
	else
		list->first = group;
	list->last = group;
}

static struct vault_group *
list_take_one(struct group_list *list)
{
	struct vault_group *group = list->first;

	list->first = group->next;
	if (!list->first)
		list->last = NULL;
	group->next = NULL;
	return group;
}

/*
 * A log row has two rows in the index; a third lets it catch up.  Without it the log's tail, which
 * is in memory, would grow for as long as the writer is busy.  The share grows with what the others
 * commit at once: small when a commit is waited for, large when it takes long anyway.
 */
static void
background_earn(size_t rows)
{
	size_t credit = writer.background_credit + rows * 3;
	writer.background_credit = credit < BACKGROUND_CREDIT_MAX ? credit : BACKGROUND_CREDIT_MAX;
	writer.background_share = rows * 3;
}

static struct vault_group *
background_take(void)
{
	struct vault_group *first = list_take_one(&writer.background), *last = first;
	size_t rows = first->rows;

	while (writer.background.first &&
	       rows + writer.background.first->rows <= writer.background_share) {
		last->next = list_take_one(&writer.background);
		last = last->next;
		rows += last->rows;
	}
	writer.background_credit -=
		rows < writer.background_credit ? rows : writer.background_credit;
	return first;
}

void
writer_submit(struct vault_group *group)
{
	pthread_mutex_lock(&writer.lock);
	if (group->background) {
		group->sequence = 0;
		list_append(&writer.background, group);
	} else {
		group->sequence = ++writer.sequence;
		list_append(&writer.queue, group);
		writer.rows += group->rows;
		writer.urgent |= group->urgent;
	}
	/* A lingering writer is not woken for nothing: the wake-up is what lingering saves. */
	bool wake = writer.state == WRITER_IDLE ||
		    (writer.state == WRITER_LINGERS &&
		     (writer.urgent || group->background || writer.rows >= LINGER_ROWS));
	if (wake)
		writer.state = WRITER_BUSY;
	pthread_mutex_unlock(&writer.lock);
	/* Not before: who is woken would find it locked, and sleep again at once. */
	if (wake)
		pthread_cond_signal(&writer.wake);
}

void
writer_hurry(void)
{
	bool wake;

	pthread_mutex_lock(&writer.lock);
	writer.urgent |= writer.queue.first != NULL;
	wake = writer.queue.first && writer.state == WRITER_LINGERS;
	if (wake)
		writer.state = WRITER_BUSY;
	pthread_mutex_unlock(&writer.lock);
	if (wake)
		pthread_cond_signal(&writer.wake);
}

static int64_t
now_us(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static void
wait_until(int64_t us)
{
	const struct timespec until = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
	(void)pthread_cond_timedwait(&writer.wake, &writer.lock, &until);
}

/* Under the lock: is it time to commit what is queued, and if not, when? */
static bool
queue_is_due(int64_t *when_r)
{
	*when_r = writer.last_commit_us + sqlite_settings.linger_ms * 1000;
	return writer.urgent || writer.stopping || writer.rows >= LINGER_ROWS ||
	       now_us() >= *when_r;
}

/* The groups of the next transaction; NULL: it is time to end. */
static struct vault_group *
queue_take(void)
{
	struct vault_group *chain = NULL;
	int64_t when;

	pthread_mutex_lock(&writer.lock);
	while (!chain) {
		bool due = writer.queue.first && queue_is_due(&when);
		if (writer.background.first && (!due || writer.background_credit > 0)) {
			chain = background_take();
		} else if (due) {
			background_earn(writer.rows);
			chain = writer.queue.first;
			writer.queue = (struct group_list){ NULL, NULL };
			writer.rows = 0;
			writer.urgent = false;
		} else if (writer.queue.first) {
			writer.state = WRITER_LINGERS;
			wait_until(when);
		} else if (writer.stopping) {
			break;
		} else {
			writer.state = WRITER_IDLE;
			pthread_cond_wait(&writer.wake, &writer.lock);
		}
	}
	writer.state = WRITER_BUSY;
	pthread_mutex_unlock(&writer.lock);
	return chain;
}

/* --- one transaction --- */

/* Is it the store that failed, rather than the statement? */
static bool
code_is_of_store(int code)
{
	switch (code & 0xff) {
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
	case SQLITE_ERROR:
		return false;
	default:
		return true;
	}
}

static int
run_once(sqlite3_stmt *stmt)
{
	int code = sqlite3_step(stmt);
	(void)sqlite3_reset(stmt);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int
run_sql(const char *sql)
{
	return sqlite3_exec(writer.connection.db, sql, NULL, NULL, NULL);
}

static int
call_run(const struct vault_call *call)
{
	int code;
	sqlite3_stmt *stmt =
		sqlite_connection_bind(&writer.connection, call->statement, call->values, &code);

	return stmt ? run_once(stmt) : code;
}

static int
unit_run(struct vault_unit *unit, const struct vault_call **failed_r)
{
	int code = SQLITE_OK;

	for (const struct vault_call *call = unit->calls; call && code == SQLITE_OK;
	     call = call->next) {
		code = call_run(call);
		*failed_r = call;
	}
	unit->changed = sqlite3_changes64(writer.connection.db);
	unit->result = code == SQLITE_OK ? IRIS_VAULT_OK : IRIS_VAULT_FAILED;
	return code;
}

static void
transaction_drop(void)
{
	if (!sqlite3_get_autocommit(writer.connection.db)) /* some errors roll back by themselves */
		(void)run_once(writer.rollback);
}

static int
transaction_finish(int code)
{
	if (code == SQLITE_OK)
		code = run_once(writer.commit);
	if (code != SQLITE_OK)
		transaction_drop();
	return code;
}

/* All in one, as if nothing could fail. */
static int
batch_run(struct vault_group *chain)
{
	const struct vault_call *failed;
	int code = run_once(writer.begin);

	for (struct vault_group *group = chain; group; group = group->next)
		for (struct vault_unit *unit = group->first; unit && code == SQLITE_OK;
		     unit = unit->next)
			code = unit_run(unit, &failed);
	return transaction_finish(code);
}

static int
unit_run_isolated(struct vault_unit *unit)
{
	const struct vault_call *failed = NULL;
	int code = run_sql("SAVEPOINT unit");

	if (code == SQLITE_OK)
		code = unit_run(unit, &failed);
	if (code == SQLITE_OK)
		return run_sql("RELEASE unit");
	if (code_is_of_store(code) || !failed)
		return code;
	LOG(IRIS_LOG_ERROR, "sqlite", "write failed",
	    LOG_CSTR("query", failed->statement->query->name), LOG_INT("code", code),
	    LOG_CSTR("reason", sqlite3_errmsg(writer.connection.db)));
	code = run_sql("ROLLBACK TO unit");
	return code == SQLITE_OK ? run_sql("RELEASE unit") : code;
}

/* Again, so that who is at fault fails alone. */
static int
batch_run_isolated(struct vault_group *chain)
{
	int code = run_once(writer.begin);

	for (struct vault_group *group = chain; group; group = group->next)
		for (struct vault_unit *unit = group->first; unit && code == SQLITE_OK;
		     unit = unit->next)
			code = unit_run_isolated(unit);
	return transaction_finish(code);
}

/* --- when the store fails --- */

static void
trouble_set(int code)
{
	bool first;

	pthread_mutex_lock(&writer.lock);
	first = writer.trouble[0] == '\0';
	if (first)
		writer.trouble_us = now_us();
	(void)snprintf(writer.trouble, sizeof(writer.trouble), "the database cannot be written: %s",
		       sqlite3_errmsg(writer.connection.db));
	pthread_mutex_unlock(&writer.lock);
	metric_add(&sqlite_metrics[SQLITE_METRIC_RETRIES], 1);
	if (first)
		LOG(IRIS_LOG_ERROR, "sqlite", "commit failed, trying again", LOG_INT("code", code),
		    LOG_CSTR("reason", sqlite3_errmsg(writer.connection.db)));
}

static void
trouble_clear(void)
{
	pthread_mutex_lock(&writer.lock);
	bool was = writer.trouble[0] != '\0';
	writer.trouble[0] = '\0';
	pthread_mutex_unlock(&writer.lock);
	if (was)
		LOG(IRIS_LOG_NOTICE, "sqlite", "commits succeed again");
}

/* False: we are stopping and it has been tried often enough. */
static bool
retry_wait(unsigned attempt)
{
	int64_t pause = attempt > 7 ? RETRY_MAX_MS : RETRY_MIN_MS << attempt;

	pthread_mutex_lock(&writer.lock);
	bool stopping = writer.stopping;
	if (stopping)
		pause = RETRY_MIN_MS << (attempt > 5 ? 5 : attempt);
	writer.state = WRITER_BUSY; /* nobody but writer_stop() wakes it from this */
	int64_t until = now_us() + (pause < RETRY_MAX_MS ? pause : RETRY_MAX_MS) * 1000;
	while (now_us() < until && writer.stopping == stopping)
		wait_until(until);
	pthread_mutex_unlock(&writer.lock);
	return !stopping || attempt < STOP_RETRIES;
}

static void
batch_give_up(struct vault_group *chain)
{
	size_t rows = 0;

	for (struct vault_group *group = chain; group; group = group->next) {
		rows += group->rows;
		for (struct vault_unit *unit = group->first; unit; unit = unit->next)
			unit->result = IRIS_VAULT_FAILED;
	}
	LOG(IRIS_LOG_ERROR, "sqlite", "writes given up while stopping", LOG_INT("rows", rows));
}

static void
batch_commit(struct vault_group *chain)
{
	for (unsigned attempt = 0;; attempt++) {
		int code = batch_run(chain);
		if (code != SQLITE_OK && !code_is_of_store(code))
			code = batch_run_isolated(chain);
		if (code == SQLITE_OK) {
			trouble_clear();
			return;
		}
		trouble_set(code);
		if (!retry_wait(attempt)) {
			batch_give_up(chain);
			return;
		}
	}
}

/* --- the thread --- */

static int
wal_grew(void *arg, sqlite3 *db, const char *name, int pages)
{
	writer.wal_pages = pages;
	return SQLITE_OK;
}

static void *
writer_main(void *arg)
{
	struct vault_group *chain;

	(void)pthread_setname_np(pthread_self(), "vault-writer");
	while ((chain = queue_take()) != NULL) {
		int64_t began = now_us();
		uint64_t upto = 0;
		batch_commit(chain);
		for (struct vault_group *group = chain; group; group = group->next)
			upto = group->sequence;
		vault_groups_done(chain); /* before the reads that waited: their worker hears of the
					     commit first */
		if (upto > 0)
			readers_committed(upto);
		checkpoint_after_commit(&writer.connection, writer.wal_pages);
		int64_t ended = now_us();
		if (upto > 0)
			writer.last_commit_us = ended;
		metric_add(&sqlite_metrics[SQLITE_METRIC_COMMITS], 1);
		metric_add(&sqlite_metrics[SQLITE_METRIC_COMMIT_US], ended - began);
	}
	return NULL;
}

bool
writer_is_ready(int64_t delay_ms, char *why, size_t size)
{
	pthread_mutex_lock(&writer.lock);
	bool ready = writer.trouble[0] == '\0' ||
		     now_us() - writer.trouble_us < delay_ms * 1000;
	if (!ready)
		(void)snprintf(why, size, "%s", writer.trouble);
	pthread_mutex_unlock(&writer.lock);
	return ready;
}

static bool
writer_prepare(sqlite3_stmt **stmt, const char *sql, struct iris_error *error)
{
	if (sqlite3_prepare_v3(writer.connection.db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt,
			       NULL) == SQLITE_OK)
		return true;
	return sqlite_connection_error(&writer.connection, sql, error);
}

static void
writer_disconnect(void)
{
	sqlite3_finalize(writer.begin);
	sqlite3_finalize(writer.commit);
	sqlite3_finalize(writer.rollback);
	writer.begin = writer.commit = writer.rollback = NULL;
	sqlite_connection_close(&writer.connection);
}

bool
writer_start(struct iris_error *error)
{
	pthread_condattr_t monotonic;

	if (!sqlite_connection_open(&writer.connection, sqlite_settings.writer_cache, true, error))
		return false;
	if (!writer_prepare(&writer.begin, "BEGIN IMMEDIATE", error) ||
	    !writer_prepare(&writer.commit, "COMMIT", error) ||
	    !writer_prepare(&writer.rollback, "ROLLBACK", error)) {
		writer_disconnect();
		return false;
	}
	/* PRAGMA wal_autocheckpoint uses the same hook: after it. */
	(void)sqlite3_wal_hook(writer.connection.db, wal_grew, NULL);
	writer.stopping = writer.urgent = false;
	writer.sequence = 0;
	writer.trouble[0] = '\0';
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&writer.wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&writer.thread, NULL, writer_main, NULL) != 0) {
		writer_disconnect();
		return error_set(error, "The writing thread cannot be started");
	}
	writer.running = true;
	return true;
}

void
writer_stop(void)
{
	if (!writer.running)
		return;
	pthread_mutex_lock(&writer.lock);
	writer.stopping = true;
	pthread_cond_signal(&writer.wake);
	pthread_mutex_unlock(&writer.lock);
	(void)pthread_join(writer.thread, NULL);
	pthread_cond_destroy(&writer.wake);
	writer_disconnect();
	writer.running = false;
}
