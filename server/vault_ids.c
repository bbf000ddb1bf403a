/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids: numbers taken in memory and reserved in the store ahead, so that taking one costs nothing
 * and none is given twice, not even one that was only shown to a client before a crash.  Any
 * worker; a timer of the main thread extends what an idle server has reserved.
 *
 * Ids of the log are times (iris/vault.h).  What is reserved of them is a window of time ahead of
 * the clock.  Time follows the clock, but
 *  - never goes back: where the clock does, or where it has not reached yet what a server that
 *    crashed had reserved, ids are counted until it is there;
 *  - never goes beyond what is reserved, nor to a month that the store has no room for yet: there
 *    ids are counted, too, until one more window, or month, is there.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "iris/log.h"
#include "vault_private.h"

#define ID_SECONDS(n) ((int64_t)(n) * 1000 << LOG_ID_COUNT_BITS)
/*
 * After a crash the log's time is ahead of the clock by up to this. On an idle server a commit
 * every half of it.
 */
#define LOG_WINDOW ID_SECONDS(10)
/* The end of a window is not for the clock but for counting: two thousand million ids. */
#define LOG_SPARE ID_SECONDS(1)
/* A block lasts far longer than its extension takes: a block of accounts is hours of PBKDF2. */
#define ACCOUNT_BLOCK (1 << 12)
#define WATCH_MS 1000
/* Ahead by more than any crash explains: somebody has set the clock back. */
#define AHEAD_MS_MAX 15000
#define CLOSE_SECONDS 2
/* A server that was off for longer, or a clock that is wrong: nobody can tell. */
#define ABSENCE ID_SECONDS(30 * 86400)

struct id_sequence {
	const char *name;
	_Atomic int64_t last;     /* that was given */
	_Atomic int64_t reserved; /* ids below it are ours to give */
	int64_t asked;            /* what `reserved` will be when the extension is committed */
	atomic_bool extending;
};

static struct id_sequence sequences[IRIS_SEQ_COUNT] = {
	[IRIS_SEQ_LOG] = { .name = "log" },
	[IRIS_SEQ_ACCOUNT] = { .name = "account" },
};

static struct iris_query sequence_extend = {
	.name = "vault.sequence_extend", .table = "vault_sequences", .write = true,
	.sql = "UPDATE vault_sequences SET next = $2 WHERE name = $1 AND next < $2",
	.params = { { "name", IRIS_TEXT }, { "next", IRIS_INT } },
};
static struct iris_query sequence_release = {
	.name = "vault.sequence_release", .table = "vault_sequences", .write = true,
	.sql = "UPDATE vault_sequences SET next = $2 WHERE name = $1 AND next > $2",
	.params = { { "name", IRIS_TEXT }, { "next", IRIS_INT } },
};

static _Atomic(int64_t (*)(void)) ids_clock = worker_wall_ms;

static struct iris_timer watch_timer; /* the main thread's */
static int64_t watch_ahead_s; /* what the metric shows */
static bool watch_warned;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool done;
} closing = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* --- the clock --- */

void
ids_set_clock(int64_t (*now_ms)(void))
{
	atomic_store(&ids_clock, now_ms ? now_ms : worker_wall_ms);
}

int64_t
ids_now(void)
{
	return log_id_first(atomic_load_explicit(&ids_clock, memory_order_relaxed)());
}

int64_t
ids_position(void)
{
	int64_t last = atomic_load(&sequences[IRIS_SEQ_LOG].last), now = ids_now();
	return last > now ? last : now;
}

/* --- reserving --- */

static void
sequence_extended(void *arg, bool failed)
{
	struct id_sequence *s = arg;

	if (!failed)
		atomic_store(&s->reserved, s->asked);
	atomic_store(&s->extending, false); /* failed: who asks next tries again */
}

static void
sequence_extend_to(struct id_sequence *s, int64_t next)
{
	if (writes_are_refused() || atomic_exchange(&s->extending, true))
		return;
	struct iris_ticket *ticket = ticket_new(sequence_extended, s);
	s->asked = next;
	writes_post_own(&sequence_extend, VALUES(value_str(str_from(s->name)), value_int(next)),
			ticket);
	ticket_unref(&ticket);
}

/* When half of the window is used; nobody waits for it. */
static void
log_extend(struct id_sequence *s, int64_t position)
{
	if (position >= atomic_load_explicit(&s->reserved, memory_order_relaxed) - LOG_WINDOW / 2 &&
	    position < INT64_MAX - LOG_WINDOW)
		sequence_extend_to(s, position + LOG_WINDOW);
}

/* --- taking --- */

static int64_t
log_take(struct id_sequence *s, int64_t now)
{
	int64_t reserved = atomic_load_explicit(&s->reserved, memory_order_relaxed);
	int64_t covered = parts_covered(), last, id;
	int64_t limit = (reserved < covered ? reserved : covered) - LOG_SPARE;

	now = now < limit ? now : limit;
	last = atomic_load_explicit(&s->last, memory_order_relaxed);
	do {
		id = last < now ? now : last + 1;
	} while (!atomic_compare_exchange_weak_explicit(&s->last, &last, id, memory_order_relaxed,
							memory_order_relaxed));
	return id;
}

static int64_t
log_next(struct id_sequence *s)
{
	int64_t now = ids_now(), id = log_take(s, now);

	log_extend(s, id > now ? id : now);
	return id;
}

static int64_t
account_next(struct id_sequence *s)
{
	int64_t id = atomic_fetch_add_explicit(&s->last, 1, memory_order_relaxed) + 1;
	int64_t reserved = atomic_load_explicit(&s->reserved, memory_order_relaxed);

	if (id >= reserved - ACCOUNT_BLOCK / 2)
		sequence_extend_to(s, reserved + ACCOUNT_BLOCK);
	return id;
}

int64_t
vault_next_id(enum iris_sequence sequence)
{
	struct id_sequence *s = &sequences[sequence];

	return sequence == IRIS_SEQ_LOG ? log_next(s) : account_next(s);
}

/* --- the main thread's watch --- */

static void
watch_show(int64_t ahead_s)
{
	metric_add(&vault_metrics[VAULT_METRIC_CLOCK_AHEAD], ahead_s - watch_ahead_s);
	watch_ahead_s = ahead_s;
}

static void
watch_clock(int64_t now, int64_t last)
{
	int64_t ahead_ms = last > now ? log_id_time_ms(last) - log_id_time_ms(now) : 0;

	watch_show(ahead_ms / 1000);
	if (ahead_ms > AHEAD_MS_MAX && !watch_warned)
		LOG(IRIS_LOG_WARNING, "vault", "clock-behind", LOG_INT("seconds", ahead_ms / 1000),
		    LOG_CSTR("reason", "the clock was set back, or was ahead before"),
		    LOG_CSTR("effect", "messages keep their order, and get the time of the last "
				       "one until the clock is there again"),
		    LOG_CSTR("hint", "check the clock and its synchronisation"));
	watch_warned = ahead_ms > AHEAD_MS_MAX || (watch_warned && ahead_ms > 0);
}

static void
watch_due(void *arg)
{
	struct id_sequence *s = &sequences[IRIS_SEQ_LOG];
	int64_t now = ids_now(), last = atomic_load(&s->last);

	watch_clock(now, last);
	log_extend(s, last > now ? last : now);
	parts_watch();
	timer_start(&watch_timer, WATCH_MS, watch_due, NULL);
}

/* --- open and close --- */

static bool
sequence_read(const struct iris_vault_engine *engine, const struct id_sequence *s, int64_t *next_r,
	      struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	const struct iris_value name = { .type = IRIS_TEXT, .bytes = str_from(s->name) };
	bool ok = engine->query("SELECT next FROM vault_sequences WHERE name = $1", &name, 1, &rows,
				error);

	if (ok && rows.count != 1) {
		ok = error_set(error, "The vault's own tables are damaged");
		error_detail(error, "vault_sequences has no row '%s'", s->name);
	}
	if (ok) {
		struct rows_reader reader;
		rows_read_begin(&reader, &rows);
		*next_r = rows_read(&reader).number;
	}
	rows_free(&rows);
	return ok;
}

/* The first one that is given is `next`, or a later one. */
static bool
sequence_begin(const struct iris_vault_engine *engine, struct id_sequence *s, int64_t next,
	       int64_t reserved, struct iris_error *error)
{
	const struct iris_value values[] = { { .type = IRIS_TEXT, .bytes = str_from(s->name) },
					     value_int(reserved) };

	atomic_store(&s->last, next - 1);
	atomic_store(&s->reserved, reserved);
	atomic_store(&s->extending, false);
	return engine->query(sequence_extend.sql, values, IRIS_COUNT(values), NULL, error);
}

static bool
log_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	struct id_sequence *s = &sequences[IRIS_SEQ_LOG];
	int64_t next, last_kept, now = ids_now();

	if (!sequence_read(engine, s, &next, error) ||
	    !schema_read_int(engine, "SELECT coalesce(max(id), 0) FROM log", &last_kept, error))
		return false;
	next = next > last_kept ? next : last_kept + 1;
	int64_t position = next > now ? next : now;
	if (position >= INT64_MAX - LOG_WINDOW) {
		error_set(error, "The clock, or the last message in the store, is behind the year "
				 "2109");
		return error_hint(error, "Set the clock");
	}
	if (!sequence_begin(engine, s, next, position + LOG_WINDOW, error) ||
	    !parts_open(engine, position, error))
		return false;
	if (last_kept > 0 && now - next > ABSENCE)
		age_distrust(log_id_time_ms(now) - log_id_time_ms(next));
	return true;
}

static bool
account_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	struct id_sequence *s = &sequences[IRIS_SEQ_ACCOUNT];
	int64_t next;

	return sequence_read(engine, s, &next, error) &&
	       sequence_begin(engine, s, next, next + ACCOUNT_BLOCK, error);
}

bool
ids_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	return log_open(engine, error) && account_open(engine, error) &&
	       statement_register(&sequence_extend, error) &&
	       statement_register(&sequence_release, error);
}

void
ids_start(void)
{
	watch_warned = false;
	watch_due(NULL);
}

static void
released(struct vault_group *group) /* on the engine's thread */
{
	group_free(&group);
	pthread_mutex_lock(&closing.lock);
	closing.done = true;
	pthread_cond_signal(&closing.wake);
	pthread_mutex_unlock(&closing.lock);
}

/* What is left of the log's window is given back: the next start finds its time at the clock. */
static void
log_release(const struct iris_vault_engine *engine)
{
	struct id_sequence *s = &sequences[IRIS_SEQ_LOG];
	struct vault_group *group = group_new();
	struct iris_value *values =
		unit_add_call(group, group_add_unit(group), statement_of(&sequence_release));
	struct timespec until;

	values[0] = value_str(str_from(s->name));
	values[1] = value_int(atomic_load(&s->last) + 1);
	group->background = true;
	group->done = released;
	closing.done = false;
	engine->submit(group);
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += CLOSE_SECONDS; /* a database that is away need not hear of it */
	pthread_mutex_lock(&closing.lock);
	while (!closing.done)
		if (pthread_cond_clockwait(&closing.wake, &closing.lock, CLOCK_MONOTONIC,
					   &until) != 0)
			break;
	pthread_mutex_unlock(&closing.lock);
}

void
ids_stop(const struct iris_vault_engine *engine)
{
	timer_stop(&watch_timer);
	watch_show(0);
	log_release(engine);
}
