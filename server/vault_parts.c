/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's age: from when on an entry is too old to be read, and the parts by month in which an
 * engine may keep entries, made ahead of the time and dropped behind the horizon.  Asked on any
 * thread; parts are made and dropped on the thread of the log's index, so that neither is done
 * while the other is written.  Whether there are parts, and what they are, the engine knows.
 */
#include <stdatomic.h>

#include "iris/log.h"
#include "vault_private.h"

#define ID_DAYS(n) ((int64_t)(n) * 86400000 << LOG_ID_COUNT_BITS)
#define PARTS_AHEAD ID_DAYS(62)
#define MAKE_AGAIN ID_DAYS(1)  /* this much of what is ahead is used: more is made */
#define DROP_EVERY_MS 3600000
#define RETRY_MS 60000
#define DISTRUST_MS 86400000
/* No clock that is kept by others makes such a step. */
#define LEAP_MS 3600000

static const struct iris_vault_engine *parts_engine;
static _Atomic int64_t parts_end; /* ids below it have a part; INT64_MAX: there are none */
static _Atomic int64_t parts_begin; /* ids below it may have none any more */
static _Atomic int64_t keep_ms; /* 0: for good */
static _Atomic int64_t make_after_ms, drop_after_ms; /* monotonic: not again before that */
static _Atomic int64_t trust_after_ms; /* monotonic: the clock is not believed before that */
static _Atomic int64_t trusted_ms; /* what the clock and the monotonic one differed by */
static bool parts_failed; /* and it was logged */

/* --- the horizon --- */

int64_t
log_horizon(void)
{
	int64_t keep = atomic_load_explicit(&keep_ms, memory_order_relaxed);
	return keep ? log_id_first(log_id_time_ms(ids_now()) - keep) : 0;
}

void
log_keep_for(int64_t milliseconds)
{
	if (atomic_exchange(&keep_ms, milliseconds) == milliseconds)
		return;
	atomic_store(&drop_after_ms, 0);
	if (milliseconds)
		vault_index_wake();
}

/*
 * A clock that is set years ahead by mistake makes everything too old. What is hidden is there
 * again when the clock is mended; what was removed is not.
 */
void
age_distrust(int64_t leap_ms)
{
	atomic_store(&trust_after_ms, worker_now_ms() + DISTRUST_MS);
	LOG(IRIS_LOG_WARNING, "vault", "clock-leapt", LOG_INT("seconds", leap_ms / 1000),
	    LOG_CSTR("effect", "what is too old is hidden, but not removed for a day"),
	    LOG_CSTR("hint", "check the clock; when it is wrong, stop the server, set it right and "
			     "start again"));
}

static int64_t
clocks_differ(void)
{
	return log_id_time_ms(ids_now()) - worker_now_ms();
}

void
age_trust(void)
{
	atomic_store(&trust_after_ms, 0);
	atomic_store(&trusted_ms, clocks_differ());
}

bool
age_is_trusted(void)
{
	int64_t differ = clocks_differ(), leap = differ - atomic_exchange(&trusted_ms, differ);

	if (leap > LEAP_MS)
		age_distrust(leap);
	return worker_now_ms() >= atomic_load(&trust_after_ms);
}

/* --- parts --- */

int64_t
parts_covered(void)
{
	return atomic_load_explicit(&parts_end, memory_order_relaxed);
}

int64_t
parts_first(void)
{
	return atomic_load_explicit(&parts_begin, memory_order_relaxed);
}

bool
parts_are_dropped(void)
{
	return parts_engine->drop_parts != NULL;
}

/* Nothing is needed behind the log's position: what was given there had a part when it was. */
static bool
parts_make(int64_t position, struct iris_error *error)
{
	int64_t last = position < INT64_MAX - PARTS_AHEAD ? position + PARTS_AHEAD : INT64_MAX - 1;

	if (!parts_engine->make_parts(position, last, error))
		return false;
	if (last > parts_covered())
		atomic_store(&parts_end, last);
	return true;
}

static bool
parts_make_is_due(void)
{
	return parts_engine->make_parts && worker_now_ms() >= atomic_load(&make_after_ms) &&
	       parts_covered() - PARTS_AHEAD + MAKE_AGAIN <= ids_position();
}

/*
 * The horizon was taken before the clock is looked at: had it leapt, what is on its way to the
 * store now would be behind it.
 */
static bool
parts_drop_is_due(int64_t horizon)
{
	return parts_engine->drop_parts && worker_now_ms() >= atomic_load(&drop_after_ms) &&
	       horizon > 0 && age_is_trusted();
}

/* Logged once until it is well again: it is tried every minute. */
static bool
parts_outcome(bool ok, const char *what, const struct iris_error *error)
{
	if (ok && parts_failed)
		LOG(IRIS_LOG_NOTICE, "vault", "log-parts-again");
	if (!ok && !parts_failed)
		LOG(IRIS_LOG_WARNING, "vault", what, LOG_CSTR("reason", error->message),
		    LOG_CSTR("detail", error->detail), LOG_CSTR("hint", error->hint));
	parts_failed = !ok;
	return ok;
}

void
parts_tick(void)
{
	struct iris_error error = { .message = "" };
	int64_t horizon = log_horizon();
	bool ok;

	if (parts_make_is_due()) {
		ok = parts_make(ids_position(), &error);
		if (!parts_outcome(ok, "log-parts-not-made", &error))
			atomic_store(&make_after_ms, worker_now_ms() + RETRY_MS);
	}
	if (parts_drop_is_due(horizon)) {
		if (horizon > parts_first())
			atomic_store(&parts_begin, horizon);
		ok = parts_engine->drop_parts(horizon, &error);
		ok = parts_outcome(ok, "log-parts-not-dropped", &error);
		atomic_store(&drop_after_ms, worker_now_ms() + (ok ? DROP_EVERY_MS : RETRY_MS));
	}
}

void
parts_watch(void)
{
	if (parts_make_is_due() || parts_drop_is_due(log_horizon()))
		vault_index_wake();
}

bool
parts_open(const struct iris_vault_engine *engine, int64_t position, struct iris_error *error)
{
	parts_engine = engine;
	parts_failed = false;
	atomic_store(&keep_ms, 0);
	atomic_store(&parts_begin, 0);
	atomic_store(&parts_end, engine->make_parts ? 0 : INT64_MAX);
	atomic_store(&make_after_ms, 0);
	atomic_store(&drop_after_ms, 0);
	age_trust();
	return !engine->make_parts || parts_make(position, error);
}
