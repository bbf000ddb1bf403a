/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes from the archives: entries that are older than `keep-for`, oldest first, where the
 * engine does not drop whole months, and all of an account that is removed.  Small transactions
 * with pauses between them, so that nobody who writes meanwhile waits for long.  The sweep runs on
 * a fiber of the main thread, the other on the caller's.  It gives no file back to the file system:
 * see README.md.
 */
#include "iris/fiber.h"
#include "modules/archive/archive_private.h"

#define SWEEP_BATCH 100  /* entries in a transaction: 300 rows */
#define SWEEP_PAUSE_MS 20
#define ERASE_BATCH 200

static struct iris_timer sweep_timer;

static void sweep_arm(void);

static void
sweep_run(void *arg)
{
	size_t removed = 0, total = 0;

	do {
		if (log_expire(SWEEP_BATCH, &removed) != IRIS_VAULT_OK)
			break; /* logged by the vault; the next sweep tries again */
		total += removed;
	} while (removed > 0 && fiber_sleep(SWEEP_PAUSE_MS));
	archive_count_expired(total);
	if (total > 0)
		LOG(IRIS_LOG_INFO, "archive", "expired", LOG_INT("entries", total));
	if (!worker_is_stopping())
		sweep_arm();
}

static void
sweep_due(void *arg)
{
	if (archive_keep_for_ms() == 0 || !fiber_start("archive: sweep", sweep_run, NULL))
		sweep_arm();
}

static void
sweep_arm(void)
{
	timer_start(&sweep_timer, archive_sweep_every_ms(), sweep_due, NULL);
}

void
retention_start(void)
{
	sweep_arm();
}

void
retention_stop(void)
{
	timer_stop(&sweep_timer);
}

bool
retention_erase_account(const struct iris_account *account)
{
	struct iris_log_query query = { .reader = account->id,
					.limit = ERASE_BATCH,
					.with_expired = true };
	enum iris_vault_result result;
	struct iris_log_page page;

	do {
		struct iris_arena *arena = arena_new();

		result = log_read(&query, account->owner, arena, &page);
		if (result == IRIS_VAULT_OK)
			result = log_remove(page.entries, page.count, NULL);
		arena_unref(&arena);
	} while (result == IRIS_VAULT_OK && page.more);
	return result == IRIS_VAULT_OK;
}
