/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault as a whole: making a region, bringing its schema up to date, opening, closing.  Main
 * thread. Each part has a file of its own: vault_write.c, vault_ticket.c, vault_read.c,
 * vault_log.c, vault_index.c, vault_parts.c, vault_ids.c, vault_statement.c, vault_transit.c,
 * vault_seal.c, vault_keys.c, vault_schema.c; options are in vault_module.c.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "iris/gate.h"
#include "iris/log.h"
#include "vault_private.h"

static const struct iris_vault_engine *vault_engine; /* open */
static atomic_bool vault_running;
static int64_t vault_ready_delay_ms; /* set before it runs */

struct iris_metric vault_metrics[VAULT_METRIC_COUNT + 1] = {
	[VAULT_METRIC_QUEUED] = { .name = "iris_vault_queue_rows",
				  .kind = IRIS_GAUGE,
				  .help = "Rows handed over and not committed yet" },
	[VAULT_METRIC_AGE] = { .name = "iris_vault_queue_age_milliseconds",
			       .kind = IRIS_GAUGE,
			       .help = "How long the oldest of those rows has waited",
			       .value = writes_oldest_age_ms },
	[VAULT_METRIC_LIMIT] = { .name = "iris_vault_queue_limit_rows",
				 .kind = IRIS_GAUGE,
				 .help = "Rows that may wait; beyond it writes are turned away",
				 .value = writes_limit_rows },
	[VAULT_METRIC_ROWS] = { .name = "iris_vault_rows_total",
				.kind = IRIS_COUNTER,
				.help = "Statements handed over to be written" },
	[VAULT_METRIC_FAILED] = { .name = "iris_vault_failed_total",
				  .kind = IRIS_COUNTER,
				  .help = "Transactions that were not committed" },
	[VAULT_METRIC_BUSY] = { .name = "iris_vault_busy_total",
				.kind = IRIS_COUNTER,
				.help = "Writes turned away because the queue was full" },
	[VAULT_METRIC_REFUSED] = { .name = "iris_vault_refused_total",
				   .kind = IRIS_COUNTER,
				   .help = "Writes refused: no such owner, no key, or the region "
					   "is an edge" },
	[VAULT_METRIC_TRANSIT] = { .name = "iris_vault_transit_refused_total",
				   .kind = IRIS_COUNTER,
				   .help = "Writes refused because what was handled is in transit, "
					   "and nobody had seen to it before" },
	[VAULT_METRIC_READS] = { .name = "iris_vault_reads_total",
				 .kind = IRIS_COUNTER,
				 .help = "Reads" },
	[VAULT_METRIC_READS_FAILED] = { .name = "iris_vault_reads_failed_total",
					.kind = IRIS_COUNTER,
					.help = "Reads that failed, or found a value that did not "
						"open" },
	[VAULT_METRIC_TAIL] = { .name = "iris_vault_tail_entries",
				.kind = IRIS_GAUGE,
				.help = "Entries of the log that are not in its index yet" },
	[VAULT_METRIC_RESEALED] = { .name = "iris_vault_resealed_total",
				    .kind = IRIS_COUNTER,
				    .help = "Values sealed anew after their key was rotated" },
	[VAULT_METRIC_CLOCK_AHEAD] = { .name = "iris_vault_clock_ahead_seconds",
				       .kind = IRIS_GAUGE,
				       .help = "By how much the log's time is ahead of the clock, "
					       "which was set back" },
};

static bool
vault_load(const struct vault_options *options, struct iris_error *error)
{
	const struct iris_vault_engine *engine = options->engine;

	return schema_check(engine, error) && keys_open(options, error) &&
	       ids_open(engine, error) && vault_log_open(error) &&
	       vault_index_open(engine, error) && reseal_open(engine, error) && usage_open(error) &&
	       key_commands_open(error) && engine->start(error);
}

bool
vault_open_with(const struct vault_options *options, struct iris_error *error)
{
	IRIS_ASSERT(!vault_engine);
	if (!seal_start(error))
		return false;
	if (!options->engine->open(false, error)) {
		seal_stop();
		return false;
	}
	vault_engine = options->engine;
	vault_ready_delay_ms = options->ready_delay_ms;
	statements_open(vault_engine);
	if (!vault_load(options, error)) {
		vault_close();
		return false;
	}
	writes_start(options);
	reads_start(vault_engine);
	atomic_store(&vault_running, true);
	if (vault_index_start(error)) {
		usage_start();
		ids_start();
		return true;
	}
	vault_close();
	return false;
}

void
vault_close(void)
{
	if (!vault_engine)
		return;
	if (atomic_exchange(&vault_running, false))
		ids_stop(vault_engine);
	vault_index_stop();
	vault_engine->stop();
	writes_stop();
	reads_start(NULL);
	vault_index_close();
	reseal_close();
	usage_close();
	statements_close();
	keys_close();
	seal_stop();
	vault_engine->close();
	vault_engine = NULL;
}

static bool
vault_commits_in_time(char *why, size_t size)
{
	int64_t age_ms = writes_oldest_age_ms();

	if (vault_ready_delay_ms == 0 || age_ms <= vault_ready_delay_ms)
		return true;
	(void)snprintf(why, size, "writes wait for their commit since %lld s",
		       (long long)(age_ms / 1000));
	return false;
}

bool
vault_is_ready(char *why, size_t size)
{
	if (region_is_edge())
		return true;
	if (atomic_load(&vault_running))
		return vault_engine->is_ready(vault_ready_delay_ms, why, size) &&
		       vault_commits_in_time(why, size);
	(void)snprintf(why, size, "the vault is closed");
	return false;
}

bool
vault_scrub(const char *table, struct iris_error *error)
{
	return vault_engine->scrub(table, error);
}

bool
vault_upgrade_with(const struct vault_options *options, unsigned *applied_r,
		   struct iris_error *error)
{
	if (!options->engine->open(false, error))
		return false;
	bool ok = schema_upgrade(options->engine, applied_r, error);
	options->engine->close();
	return ok;
}

static bool
vault_make_region(const struct vault_options *options, const char *company,
		  struct iris_error *error)
{
	const struct iris_vault_engine *engine = options->engine;
	struct iris_error ignored;
	unsigned applied;
	int64_t regions;

	if (!schema_upgrade(engine, &applied, error) ||
	    !schema_read_int(engine, "SELECT count(*) FROM vault_region", &regions, error))
		return false;
	if (regions > 0) {
		error_set(error, "The store belongs to a region already");
		return error_hint(error,
				  "Nothing was changed; name another store to make a new region");
	}
	if (!keys_master_create(options->key_path, error) || !engine->script("BEGIN", error))
		return false;
	if (keys_init(options, company, error) && engine->script("COMMIT", error))
		return true;
	(void)engine->script("ROLLBACK", &ignored);
	return false;
}

bool
vault_init_with(const struct vault_options *options, const char *company, struct iris_error *error)
{
	bool ok = false;

	if (!seal_start(error))
		return false;
	if (options->engine->open(true, error)) {
		ok = vault_make_region(options, company, error);
		options->engine->close();
	}
	seal_stop();
	return ok;
}
