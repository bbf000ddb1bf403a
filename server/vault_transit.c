/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault's default deny for what is in transit (P2.4, iris/fiber.h): no statement that may
 * hold a word of it is written while it is handled.  Any worker.  Does not know what is written,
 * only how it was declared; those who keep look at the stanza's mark before they come here.
 */
#include <stdatomic.h>
#include <string.h>

#include "iris/fiber.h"
#include "iris/log.h"
#include "vault_private.h"

#define TRANSIT_TOLD_MS 60000

/* Default deny (P2.4): what may hold text keeps something, unless its declaration says no. */
bool
transit_keeps(const struct vault_statement *statement)
{
	const struct iris_query *query = statement->query;
	static const char delete[] = "DELETE ";

	if (query->bare || strncmp(query->sql, delete, sizeof(delete) - 1) == 0)
		return false;
	for (unsigned i = 0; i < statement->param_count; i++)
		if (query->params[i].type != IRIS_INT)
			return true;
	return false;
}

/* A peer decides how often it happens: told once in a while. */
static void
warn_of(const struct vault_statement *statement)
{
	static _Atomic int64_t told_ms;
	int64_t now = worker_now_ms(), told = atomic_load_explicit(&told_ms, memory_order_relaxed);

	if (told != 0 && now - told < TRANSIT_TOLD_MS)
		return;
	if (atomic_compare_exchange_strong(&told_ms, &told, now))
		LOG(IRIS_LOG_WARNING, "vault", "refused to keep what is in transit",
		    LOG_CSTR("query", statement->query->name), LOG_CSTR("fiber", fiber_name()));
}

bool
transit_refuses(const struct vault_statement *statement)
{
	if (!transit_is_on() || !statement->keeps)
		return false;
	metric_add(&vault_metrics[VAULT_METRIC_TRANSIT], 1);
	warn_of(statement);
	return true;
}
