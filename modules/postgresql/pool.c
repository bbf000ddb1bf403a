/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a worker: one that writes, some that read.  Made at the first use, on the
 * worker's own thread, and closed there by a fiber that lives as long as they do: the worker's loop
 * ends only when all fibers have, and so takes no connection with it.  Main has no such fiber:
 * pg_pools_close() runs on it.
 */
#include <stdlib.h>

#include "iris/worker.h"
#include "modules/postgresql/postgresql_private.h"

#define CHECK_MS 250
#define REST_MS 3600000
#define STOP_PATIENCE_MS 5000 /* of a worker that stops, for a database that does not answer */

struct pg_pool {
	struct iris_turn turn; /* what fibers ask for is sent at the turn's end: together, and on a
				  large stack */
	struct pg_writer writer;
	struct pg_readers readers;
	struct event *check;
	bool kept; /* the fiber is there */
	bool stopping;
	int64_t stop_by_ms;
	struct iris_wait idle; /* of the fiber while it stops */
	bool waits;
};

static struct pg_pool
	*pools[WORKER_LIMIT + 1]; /* each is touched by its thread; main's is the first */
static _Atomic uint64_t sequence;

static bool
pool_is_idle(const struct pg_pool *pool)
{
	return pg_writer_is_idle(&pool->writer) && pg_readers_are_idle(&pool->readers);
}

static void
pool_free(struct pg_pool **pool_p)
{
	struct pg_pool *pool = *pool_p;

	*pool_p = NULL;
	worker_turn_cancel(&pool->turn);
	event_free(pool->check);
	pg_readers_stop(&pool->readers);
	pg_writer_stop(&pool->writer);
	free(pool);
}

/* --- the fiber --- */

static void
pool_keep(void *arg)
{
	struct pg_pool **pool_p = arg, *pool = *pool_p;

	while (fiber_sleep(REST_MS))
		continue;
	pool->writer.stopping = pool->stopping = true;
	pool->stop_by_ms = worker_now_ms() + STOP_PATIENCE_MS;
	worker_at_turn_end(&pool->turn);
	if (!pool_is_idle(pool)) {
		wait_init(&pool->idle);
		pool->waits = true;
		wait_for(&pool->idle, "commit");
	}
	/* Should another fiber want something after this, there will be another pool. */
	pool_free(pool_p);
}

static void
pool_ensure_keeper(struct pg_pool *pool)
{
	if (pool->kept || worker_index() == WORKER_MAIN)
		return;
	pool->kept = true;
	if (!fiber_start("postgresql: connections", pool_keep, &pools[worker_index() + 1]))
		pool->kept = false; /* so many fibers that there will be another turn */
}

static void
on_check(evutil_socket_t fd, short what, void *arg)
{
	struct pg_pool *pool = arg;

	pg_writer_check(&pool->writer);
	pg_readers_check(&pool->readers);
	if (pool->waits && (pool_is_idle(pool) || worker_now_ms() >= pool->stop_by_ms)) {
		pool->waits = false;
		wait_done(&pool->idle); /* which frees the pool */
	}
}

/* --- what the engine calls --- */

static void
on_commit(struct pg_writer *writer)
{
	pg_readers_pump(&IRIS_CONTAINER(writer, struct pg_pool, writer)->readers);
}

static void
pool_turn(struct iris_turn *turn)
{
	struct pg_pool *pool = IRIS_CONTAINER(turn, struct pg_pool, turn);

	pg_writer_pump(&pool->writer);
	pg_readers_pump(&pool->readers);
	pool_ensure_keeper(pool); /* last: when the worker stops, it may free the pool at once */
}

static void
check_every(struct pg_pool *pool, int64_t ms)
{
	const struct timeval every = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	IRIS_ASSERT(event_add(pool->check, &every) == 0);
}

static struct pg_pool *
pool_mine(void)
{
	struct pg_pool **slot = &pools[worker_index() + 1];

	if (*slot)
		return *slot;
	struct pg_pool *pool = *slot = iris_calloc(1, sizeof(*pool));
	pool->turn.fn = pool_turn;
	pool->writer.on_commit = on_commit;
	pg_writer_init(&pool->writer, (unsigned)(worker_index() + 1), worker_base());
	pg_readers_init(&pool->readers, &pool->writer, worker_base());
	pool->check = event_new(worker_base(), -1, EV_PERSIST, on_check, pool);
	IRIS_ASSERT(pool->check);
	check_every(pool, CHECK_MS);
	return pool;
}

void
pg_pool_submit(struct vault_group *group)
{
	struct pg_pool *pool = pool_mine();

	group->sequence = atomic_fetch_add_explicit(&sequence, 1, memory_order_relaxed) + 1;
	pg_writer_submit(&pool->writer, group);
	worker_at_turn_end(&pool->turn);
}

void
pg_pool_read(struct vault_read *read)
{
	struct pg_pool *pool = pool_mine();

	pg_readers_take(&pool->readers, read);
	worker_at_turn_end(&pool->turn);
}

void
pg_pools_close(void)
{
	if (pools[0])
		pool_free(&pools[0]);
	for (size_t i = 0; i < IRIS_COUNT(pools); i++)
		IRIS_ASSERT(!pools[i]); /* the workers' fibers have seen to it */
	atomic_store(&sequence, 0);
}
