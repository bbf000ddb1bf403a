/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PostgreSQL engine of the vault: options, open and close, start and stop, the descriptor. Main
 * thread, but for what the workers call through the engine's table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "iris/module.h"
#include "modules/postgresql/postgresql_private.h"

enum {
	OPT_CONNECT,
	OPT_READERS,
	OPT_LINGER,
	OPT_CONNECT_TIMEOUT,
	OPT_READ_TIMEOUT,
	OPT_STALL_TIMEOUT,
};

struct postgresql_options pg_settings;
int64_t pg_instance;

static struct iris_module_self self;
static struct postgresql_options
	configured; /* by postgresql_configure(); no string: by the configuration file */
static char *settings_connect; /* what pg_settings.connect points to */

int64_t
pg_now_us(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

uint64_t
pg_random(void)
{
	uint64_t number;
	IRIS_ASSERT(getrandom(&number, sizeof(number), 0) == sizeof(number));
	return number;
}

void
postgresql_configure(const struct postgresql_options *options)
{
	free((char *)configured.connect);
	configured = options ? *options : (struct postgresql_options){ .connect = NULL };
	if (options)
		configured.connect = str_dup(str_from(options->connect));
}

static void
settings_load(void)
{
	if (configured.connect) {
		pg_settings = configured;
	} else {
		pg_settings = (struct postgresql_options){
			.readers = (unsigned)option_int(&self, OPT_READERS),
			.linger_ms = option_int(&self, OPT_LINGER),
			.connect_timeout_ms = option_int(&self, OPT_CONNECT_TIMEOUT),
			.read_timeout_ms = option_int(&self, OPT_READ_TIMEOUT),
			.stall_timeout_ms = option_int(&self, OPT_STALL_TIMEOUT),
		};
	}
	free(settings_connect);
	settings_connect = str_dup(configured.connect ? str_from(configured.connect) :
							option_str(&self, OPT_CONNECT));
	pg_settings.connect = settings_connect;
}

static void
engine_close(void)
{
	pg_control_close();
	pg_address_close();
	pg_slots_free();
	free(settings_connect);
	settings_connect = NULL;
	pg_settings.connect = NULL;
}

static bool
engine_open(bool create, struct iris_error *error)
{
	settings_load();
	if (pg_address_open(pg_settings.connect, error) && pg_control_open(error))
		return true;
	engine_close();
	return false;
}

static void
engine_stop(void)
{
	pg_pools_close();
	pg_background_stop();
}

static bool
engine_start(struct iris_error *error)
{
	pg_instance = (int64_t)(pg_random() >> 1);
	if (!pg_writers_open(error))
		return false;
	pg_control_share();
	return pg_background_start(error);
}

static void
engine_submit(struct vault_group *group)
{
	if (group->background)
		pg_background_submit(group);
	else
		pg_pool_submit(group);
}

const struct iris_vault_engine postgresql_engine = {
	.name = "postgresql",
	.dialect = &pg_dialect,
	.transfer = &pg_transfer,
	.open = engine_open,
	.close = engine_close,
	.script = pg_control_script,
	.query = pg_control_query,
	.start = engine_start,
	.stop = engine_stop,
	.prepare = pg_control_prepare,
	.submit = engine_submit,
	.read = pg_pool_read,
	.scrub = pg_control_scrub,
	.make_parts = pg_parts_make,
	.drop_parts = pg_parts_drop,
	.is_ready = pg_writers_are_ready,
};

static bool
postgresql_check(const struct iris_settings *settings, struct iris_error *error)
{
	if (str_is(settings_where(settings, OPT_CONNECT), "default"))
		return true; /* perhaps another engine is in use */
	return pg_address_check(settings_str(settings, OPT_CONNECT).base, error) ||
	       error_detail(error, "%.*s", IRIS_STR_FMT(settings_where(settings, OPT_CONNECT)));
}

static const struct iris_option postgresql_option_table[] = {
	[OPT_CONNECT] = { .name = "connect",
			  .type = IRIS_OPT_STRING,
			  .fallback = "dbname=iris",
			  .min = 1,
			  .max = 2000,
			  .help = "How the database is reached, as libpq writes it: host=db1,db2 "
				  "dbname=iris user=iris "
				  "sslmode=verify-full. Of several servers the one that can be "
				  "written is used. A password "
				  "belongs into a file: passfile=/etc/iris/pgpass." },
	[OPT_READERS] = { .name = "readers",
			  .type = IRIS_OPT_INT,
			  .fallback = "2",
			  .min = 1,
			  .max = PG_READERS_MAX,
			  .help = "Connections of each worker that read; one more writes." },
	[OPT_LINGER] = { .name = "linger",
			 .type = IRIS_OPT_DURATION,
			 .fallback = "5 ms",
			 .max = 50,
			 .help = "How long a commit may wait for company when the load is low." },
	[OPT_CONNECT_TIMEOUT] = { .name = "connect-timeout",
				  .type = IRIS_OPT_DURATION,
				  .fallback = "10 s",
				  .min = 100,
				  .max = 600000,
				  .help = "How long an attempt to connect may take." },
	[OPT_READ_TIMEOUT] = { .name = "read-timeout",
			       .type = IRIS_OPT_DURATION,
			       .fallback = "10 s",
			       .min = 100,
			       .max = 600000,
			       .help = "How long a read may take, also while the database is away; "
				       "then it fails." },
	[OPT_STALL_TIMEOUT] = { .name = "stall-timeout",
				.type = IRIS_OPT_DURATION,
				.fallback = "30 s",
				.min = 100,
				.max = 3600000,
				.help = "A connection that gives no answer for so long is given "
					"up, and another server "
					"may be found." },
	IRIS_OPTIONS_END,
};

struct iris_metric pg_metrics[PG_METRIC_COUNT + 1] = {
	[PG_METRIC_COMMITS] = { .name = "iris_postgresql_commits_total",
				.kind = IRIS_COUNTER,
				.help = "Transactions committed" },
	[PG_METRIC_COMMIT_US] = { .name = "iris_postgresql_commit_microseconds_total",
				  .kind = IRIS_COUNTER,
				  .help = "Time from sending them to hearing of it" },
	[PG_METRIC_RETRIES] = { .name = "iris_postgresql_retries_total",
				.kind = IRIS_COUNTER,
				.help = "Commits that failed and were tried again" },
	[PG_METRIC_LOST] = { .name = "iris_postgresql_connections_lost_total",
			     .kind = IRIS_COUNTER,
			     .help = "Connections that were lost" },
	[PG_METRIC_CONNECTIONS] = { .name = "iris_postgresql_connections",
				    .kind = IRIS_GAUGE,
				    .help = "Connections that are ready" },
	[PG_METRIC_READ_RETRIES] = { .name = "iris_postgresql_read_retries_total",
				     .kind = IRIS_COUNTER,
				     .help = "Reads that were lost with their connection and asked "
					     "again" },
	[PG_METRIC_READ_TIMEOUTS] = { .name = "iris_postgresql_read_timeouts_total",
				      .kind = IRIS_COUNTER,
				      .help = "Reads whose time was over" },
	[PG_METRIC_RECOVERED] = { .name = "iris_postgresql_recovered_total",
				  .kind = IRIS_COUNTER,
				  .help = "Commits that were told by their mark, after their "
					  "connection was lost" },
	[PG_METRIC_PARTS_MADE] = { .name = "iris_postgresql_log_parts_made_total",
				   .kind = IRIS_COUNTER,
				   .help = "Parts of the log's tables, one each month, that were "
					   "made" },
	[PG_METRIC_PARTS_DROPPED] = { .name = "iris_postgresql_log_parts_dropped_total",
				      .kind = IRIS_COUNTER,
				      .help = "Parts that were dropped for their age" },
};

const struct iris_module iris_module_postgresql = {
	IRIS_MODULE_HEAD,
	.name = "postgresql",
	.summary = "Keeps the vault in a PostgreSQL database",
	.self = &self,
	.options = postgresql_option_table,
	.metrics = pg_metrics,
	.check = postgresql_check,
	.engine = &postgresql_engine,
	.not_unloadable = true,
};
