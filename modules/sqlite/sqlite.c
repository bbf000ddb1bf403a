/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine of the vault: options, opening, the blocking calls before the threads run. Main
 * thread.  WAL, one writing thread with group commit (writer.c), reading threads (reader.c), a
 * checkpoint thread (checkpoint.c).  One process at a time has the database: its log's tail is in
 * memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "iris/module.h"
#include "modules/sqlite/sqlite_private.h"

enum {
	OPT_PATH,
	OPT_WRITER_CACHE,
	OPT_READER_CACHE,
	OPT_READERS,
	OPT_LINGER
};

struct sqlite_options sqlite_settings;
struct sqlite_connection sqlite_control;

static struct iris_module_self self;
static struct sqlite_options configured; /* by sqlite_configure(); no path: by the file */
static char *settings_path;              /* what sqlite_settings.path points to */
static int lock_fd = -1;

const struct vault_dialect sqlite_dialect = {
	.id = "INTEGER PRIMARY KEY", .bytes = "BLOB", .integer = "INTEGER", .table = "STRICT",
	.narrow = "STRICT, WITHOUT ROWID", .monthly = "",
};

void
sqlite_configure(const struct sqlite_options *options)
{
	free((char *)configured.path);
	configured = options ? *options : (struct sqlite_options){ .path = NULL };
	if (options)
		configured.path = str_dup(str_from(options->path));
}

static void
settings_load(void)
{
	if (configured.path) {
		sqlite_settings = configured;
	} else {
		sqlite_settings = (struct sqlite_options){
			.writer_cache = (size_t)option_int(&self, OPT_WRITER_CACHE),
			.reader_cache = (size_t)option_int(&self, OPT_READER_CACHE),
			.readers = (unsigned)option_int(&self, OPT_READERS),
			.linger_ms = option_int(&self, OPT_LINGER),
		};
	}
	free(settings_path);
	settings_path =
		str_dup(configured.path ? str_from(configured.path) : option_str(&self, OPT_PATH));
	sqlite_settings.path = settings_path;
}

/* --- the file --- */

static bool
file_problem(struct iris_error *error, const char *what)
{
	error_set(error, "The database: %s", what);
	return error_detail(error, "%s", sqlite_settings.path);
}

/* Made here and not by SQLite, so that only we can read it; the WAL takes its mode from it. */
static bool
file_find(bool create, struct iris_error *error)
{
	int fd = open(sqlite_settings.path,
		      O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

	if (fd < 0) {
		bool missing = errno == ENOENT;
		file_problem(error, strerror(errno));
		if (missing)
			error_hint(error, "irisctl init makes it; for a region that existed "
					  "restore the backup");
		return false;
	}
	(void)close(fd);
	return true;
}

static bool
file_lock(struct iris_error *error)
{
	size_t size = strlen(sqlite_settings.path) + sizeof(".lock");
	char *path = iris_malloc(size);

	(void)snprintf(path, size, "%s.lock", sqlite_settings.path);
	lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	free(path);
	if (lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB) == 0)
		return true;
	if (errno != EWOULDBLOCK)
		return file_problem(error, strerror(errno));
	file_problem(error, "another process has it open");
	return error_hint(error, "Stop the server first");
}

static void
engine_close(void)
{
	sqlite_connection_close(&sqlite_control);
	if (lock_fd >= 0)
		(void)close(lock_fd);
	lock_fd = -1;
	statement_slots_free();
	free(settings_path);
	settings_path = NULL;
	sqlite_settings.path = NULL;
}

static bool
engine_open(bool create, struct iris_error *error)
{
	settings_load();
	if (file_find(create, error) && file_lock(error) &&
	    sqlite_connection_open(&sqlite_control, sqlite_settings.reader_cache, true, error))
		return true;
	engine_close();
	return false;
}

/* --- blocking calls --- */

static bool
engine_script(const char *sql, struct iris_error *error)
{
	if (sqlite3_exec(sqlite_control.db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	return sqlite_connection_error(&sqlite_control, "a statement failed", error);
}

int
statement_bind_all(sqlite3_stmt *stmt, const struct iris_value *params, unsigned count)
{
	int code = SQLITE_OK;

	for (unsigned i = 0; i < count && code == SQLITE_OK; i++)
		code = bind_value(stmt, param_ordinal(stmt, i + 1), &params[i], params[i].type);
	return code;
}

static bool
engine_query(const char *sql, const struct iris_value *params, unsigned count,
	     struct vault_rows *rows, struct iris_error *error)
{
	sqlite3_stmt *stmt = NULL;
	bool ok = sqlite3_prepare_v3(sqlite_control.db, sql, -1, 0, &stmt, NULL) == SQLITE_OK &&
		  statement_bind_all(stmt, params, count) == SQLITE_OK &&
		  statement_collect(stmt, rows) == SQLITE_DONE;

	if (!ok)
		sqlite_connection_error(&sqlite_control, sql, error);
	sqlite3_finalize(stmt);
	return ok;
}

static bool
engine_prepare(struct vault_statement *statement, struct iris_error *error)
{
	return statement_slots_check(&sqlite_control, statement, error);
}

/* --- threads --- */

static void
engine_stop(void)
{
	writer_stop(); /* first: reads may wait for what it commits */
	readers_stop();
	checkpoint_stop();
}

static bool
engine_start(struct iris_error *error)
{
	if (checkpoint_start(error) && readers_start(error) && writer_start(error))
		return true;
	engine_stop();
	return false;
}

/* secure_delete has overwritten it in its page; what is left are former pages in the WAL. */
static bool
engine_scrub(const char *table, struct iris_error *error)
{
	return checkpoint_truncate(error);
}

const struct iris_vault_engine sqlite_engine = {
	.name = "sqlite",
	.dialect = &sqlite_dialect,
	.transfer = &sqlite_transfer,
	.open = engine_open,
	.close = engine_close,
	.script = engine_script,
	.query = engine_query,
	.start = engine_start,
	.stop = engine_stop,
	.prepare = engine_prepare,
	.submit = writer_submit,
	.read = readers_take,
	.scrub = engine_scrub,
	.is_ready = writer_is_ready,
};

static const struct iris_option sqlite_option_table[] = {
	[OPT_PATH] = { .name = "path",
		       .type = IRIS_OPT_PATH,
		       .fallback = IRIS_STATEDIR "/iris.db",
		       .help = "The database file; on a local disk." },
	[OPT_WRITER_CACHE] = { .name = "writer-cache",
			       .type = IRIS_OPT_SIZE,
			       .fallback = "64 MiB",
			       .min = 1 << 20,
			       .max = INT64_C(1) << 38,
			       .help = "Memory for pages of the writing connection." },
	[OPT_READER_CACHE] = { .name = "reader-cache",
			       .type = IRIS_OPT_SIZE,
			       .fallback = "16 MiB",
			       .min = 1 << 20,
			       .max = INT64_C(1) << 38,
			       .help = "Memory for pages of each reading connection." },
	[OPT_READERS] = { .name = "readers",
			  .type = IRIS_OPT_INT,
			  .fallback = "2",
			  .min = 1,
			  .max = SQLITE_READERS_MAX,
			  .help = "Threads that read." },
	[OPT_LINGER] = { .name = "linger",
			 .type = IRIS_OPT_DURATION,
			 .fallback = "5 ms",
			 .max = 50,
			 .help = "How long a commit may wait for company when the load is low." },
	IRIS_OPTIONS_END,
};

struct iris_metric sqlite_metrics[SQLITE_METRIC_COUNT + 1] = {
	[SQLITE_METRIC_COMMITS] = { .name = "iris_sqlite_commits_total",
				    .kind = IRIS_COUNTER,
				    .help = "Transactions committed" },
	[SQLITE_METRIC_COMMIT_US] = { .name = "iris_sqlite_commit_microseconds_total",
				      .kind = IRIS_COUNTER,
				      .help = "Time spent in them" },
	[SQLITE_METRIC_RETRIES] = { .name = "iris_sqlite_retries_total",
				    .kind = IRIS_COUNTER,
				    .help = "Commits that failed and were tried again" },
	[SQLITE_METRIC_RESTARTS] = { .name = "iris_sqlite_wal_restarts_total",
				     .kind = IRIS_COUNTER,
				     .help = "Times the writer had to start the write-ahead log "
					     "over" },
};

const struct iris_module iris_module_sqlite = {
	IRIS_MODULE_HEAD,
	.name = "sqlite",
	.summary = "Keeps the vault in one SQLite file",
	.self = &self,
	.options = sqlite_option_table,
	.metrics = sqlite_metrics,
	.engine = &sqlite_engine,
	.not_unloadable = true,
};
