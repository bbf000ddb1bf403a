/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a start: the routes that rows of the outbox wait for are looked up, one after the other,
 * and each is told to its home, which dials.  A fiber of the main worker.
 */
#include <stdatomic.h>

#include "iris/log.h"
#include "modules/federation/federation_private.h"
#include "modules/federation/outbox.h"

#define RETRY_MS 5000 /* after the vault could not be read */

static atomic_bool done;

bool
recover_is_done(void)
{
	return atomic_load_explicit(&done, memory_order_acquire);
}

static void
tell_home(void *arg)
{
	const struct outbox_found *found = arg;

	remote_recover(found->route.remote, found->route.local, found->count, found->until_ms);
}

/* The route behind `route`, which it becomes. */
static enum iris_vault_result
find_next(struct iris_arena **arena_p, struct outbox_route *route)
{
	struct iris_arena *arena = arena_new();
	struct outbox_found found;
	enum iris_vault_result result = outbox_find(arena, route, &found);

	if (result != IRIS_VAULT_OK) {
		arena_unref(&arena);
		return result;
	}
	arena_unref(arena_p);
	*arena_p = arena;
	*route = found.route;
	if (!str_is_none(route->remote))
		home_call(route->remote, "outbox: found", tell_home, &found);
	return IRIS_VAULT_OK;
}

static void
recover_run(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct outbox_route route = { IRIS_STR(""), IRIS_STR("") };

	while (!str_is_none(route.remote) && !worker_is_stopping()) {
		enum iris_vault_result result = find_next(&arena, &route);

		if (result == IRIS_VAULT_REFUSED)
			break; /* a role without a vault */
		if (result != IRIS_VAULT_OK && !fiber_sleep(RETRY_MS))
			break;
	}
	arena_unref(&arena);
	atomic_store_explicit(&done, true, memory_order_release);
}

void
recover_start(void)
{
	atomic_store(&done, false);
	if (!fiber_start("outbox: after the start", recover_run, NULL))
		atomic_store(&done, true);
}
