/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection in pipeline mode on the loop of its thread: connecting without blocking, coming back
 * after a loss with growing pauses, sending, and handing out results in the order of what was sent.
 * Does not know what the results mean: see the roles in writer.c and reader.c.
 *
 *            pause over                socket connected            Sync of the setup
 *   CLOSED ─────────────▶ CONNECTING ───────────────────▶ SETUP ───────────────────▶ READY
 *     ▲                        │                            │                          │
 *     └────────────────────────┴──── connection_drop() ─────┴──────────────────────────┘
 *
 * Whoever works on the connection only dooms it; it is dropped when the outermost of them is
 * through.
 */
#include <stdio.h>
#include <stdlib.h>

#include "iris/log.h"
#include "iris/worker.h"
#include "modules/postgresql/postgresql_private.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000

enum pg_prepared { PREPARED_NOT, PREPARED_SENT, PREPARED_YES };

static void on_timer(evutil_socket_t fd, short what, void *arg);

/* --- doom and drop --- */

void
pg_connection_doom(struct pg_connection *connection, const char *why)
{
	if (!connection->doomed[0])
		(void)snprintf(connection->doomed, sizeof(connection->doomed), "%.*s",
			       (int)strcspn(why, "\n"), why[0] ? why : "unknown");
}

static void
timer_set(struct pg_connection *connection, int64_t ms)
{
	const struct timeval after = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	IRIS_ASSERT(event_add(connection->timer, &after) == 0);
}

/* A server that comes back is not met by everybody at once. */
static int64_t
backoff_ms(unsigned attempts)
{
	int64_t ms = attempts > 7 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_MIN_MS << attempts;

	ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
	return ms / 2 + (int64_t)(pg_random() % (uint64_t)ms);
}

static void
events_free(struct pg_connection *connection)
{
	if (connection->io)
		event_free(connection->io);
	if (connection->writable)
		event_free(connection->writable);
	connection->io = connection->writable = NULL;
}

static void
log_lost(struct pg_connection *connection, bool was_ready)
{
	bool first = was_ready || connection->attempts == 1;

	LOG(first ? IRIS_LOG_WARNING : IRIS_LOG_DEBUG, "postgresql",
	    was_ready ? "connection-lost" : "no-connection",
	    LOG_CSTR("connection", connection->application), LOG_CSTR("reason", connection->doomed),
	    LOG_INT("attempts", connection->attempts));
}

static void
connection_drop(struct pg_connection *connection)
{
	bool was_ready = connection->state == PG_READY;
	char why[sizeof(connection->doomed)];

	events_free(connection);
	(void)event_del(connection->timer);
	PQfinish(connection->pg);
	connection->pg = NULL;
	connection->state = PG_CLOSED;
	connection->expect_first = connection->expect_count = 0;
	memset(connection->prepared, PREPARED_NOT, sizeof(connection->prepared));
	connection->attempts++;
	if (!connection->closing)
		log_lost(connection, was_ready);
	metric_add(&pg_metrics[PG_METRIC_LOST], was_ready && !connection->closing);
	metric_add(&pg_metrics[PG_METRIC_CONNECTIONS], -(int64_t)was_ready);
	memcpy(why, connection->doomed, sizeof(why));
	connection->doomed[0] = '\0';
	if (!connection->closing) {
		timer_set(connection, backoff_ms(connection->attempts));
		pg_background_look_up();
	}
	connection->role->lost(connection, why);
}

static void
connection_settle(struct pg_connection *connection)
{
	if (connection->doomed[0] && !connection->running && connection->state != PG_CLOSED)
		connection_drop(connection);
}

/* --- what is expected --- */

static struct pg_expect *
expect_head(struct pg_connection *connection)
{
	return connection->expect_count ? &connection->expects[connection->expect_first] : NULL;
}

static void
expect_pop(struct pg_connection *connection)
{
	connection->expect_first = (connection->expect_first + 1) % connection->expect_cap;
	connection->expect_count--;
}

static void
expects_grow(struct pg_connection *connection)
{
	unsigned cap = connection->expect_cap ? connection->expect_cap * 2 : 64;
	struct pg_expect *expects = iris_malloc(cap * sizeof(*expects));

	for (unsigned i = 0; i < connection->expect_count; i++)
		expects[i] =
			connection
				->expects[(connection->expect_first + i) % connection->expect_cap];
	free(connection->expects);
	connection->expects = expects;
	connection->expect_first = 0;
	connection->expect_cap = cap;
}

static void
expect_add(struct pg_connection *connection, enum pg_kind kind, void *what, unsigned index)
{
	if (connection->expect_count == connection->expect_cap)
		expects_grow(connection);
	if (connection->expect_count == 0)
		connection->heard_us = pg_now_us(); /* the silence begins here */
	unsigned at =
		(connection->expect_first + connection->expect_count++) % connection->expect_cap;
	connection->expects[at] = (struct pg_expect){ .kind = kind, .index = index, .what = what };
}

/* --- sending --- */

static void
sent(struct pg_connection *connection, int ok, enum pg_kind kind, void *what, unsigned index)
{
	if (ok)
		expect_add(connection, kind, what, index);
	else
		pg_connection_doom(connection, PQerrorMessage(connection->pg));
}

static void
connection_flush(struct pg_connection *connection)
{
	int left = PQflush(connection->pg);

	if (left < 0)
		pg_connection_doom(connection, PQerrorMessage(connection->pg));
	else if (left > 0)
		IRIS_ASSERT(event_add(connection->writable, NULL) == 0);
}

void
pg_connection_send_setup(struct pg_connection *connection, unsigned index, const char *sql,
			 const struct iris_value *params, unsigned count)
{
	struct pg_params wire;
	Oid types[VAULT_FIELDS_MAX];

	for (unsigned i = 0; i < count; i++) {
		types[i] = pg_type_oid(params[i].type);
		pg_params_add(&wire, i, &params[i], params[i].type);
	}
	sent(connection,
	     PQsendQueryParams(connection->pg, sql, (int)count, types, wire.values, wire.lengths,
			       wire.formats, 1),
	     PG_EXPECT_SETUP, NULL, index);
}

static void
connection_prepare(struct pg_connection *connection, const struct vault_statement *statement,
		   void *what)
{
	const struct pg_slot *slot = pg_slot_of(statement);

	connection->prepared[statement->slot] = PREPARED_SENT;
	sent(connection,
	     PQsendPrepare(connection->pg, slot->name, slot->sql, (int)slot->count, slot->types),
	     PG_EXPECT_PREPARE, what, statement->slot);
}

void
pg_connection_send_call(struct pg_connection *connection, const struct vault_statement *statement,
			const struct iris_value *values, void *what, unsigned index)
{
	struct pg_params wire;

	if (connection->prepared[statement->slot] == PREPARED_NOT)
		connection_prepare(connection, statement, what);
	for (unsigned i = 0; i < statement->param_count; i++)
		pg_params_add(&wire, i, &values[i], statement->query->params[i].type);
	sent(connection,
	     PQsendQueryPrepared(connection->pg, pg_slot_of(statement)->name,
				 (int)statement->param_count, wire.values, wire.lengths,
				 wire.formats, 1),
	     PG_EXPECT_CALL, what, index);
}

void
pg_connection_send_sync(struct pg_connection *connection)
{
	sent(connection, PQpipelineSync(connection->pg), PG_EXPECT_SYNC, NULL, 0);
	if (!connection->doomed[0])
		connection_flush(connection);
	connection_settle(connection);
}

/* --- results --- */

static void
became_ready(struct pg_connection *connection)
{
	(void)event_del(connection->timer);
	connection->state = PG_READY;
	if (connection->attempts > 0)
		LOG(IRIS_LOG_NOTICE, "postgresql", "connected-again",
		    LOG_CSTR("connection", connection->application),
		    LOG_INT("attempts", connection->attempts));
	connection->attempts = 0;
	metric_add(&pg_metrics[PG_METRIC_CONNECTIONS], 1);
	connection->role->ready(connection);
}

static void
take_prepared(struct pg_connection *connection, const struct pg_expect *expect,
	      const PGresult *result)
{
	bool there = PQresultStatus(result) == PGRES_COMMAND_OK;

	connection->prepared[expect->index] = there ? PREPARED_YES : PREPARED_NOT;
	/* Why, the call behind it does not say: it is only told that its statement is not there. */
	if (PQresultStatus(result) == PGRES_FATAL_ERROR)
		connection->role->result(connection, expect, result);
}

static void
take_setup(struct pg_connection *connection, const struct pg_expect *expect, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		pg_connection_doom(connection, status == PGRES_PIPELINE_ABORTED ?
						       "setup" :
						       PQresultErrorMessage(result));
	else
		connection->role->setup_result(connection, expect->index, result);
}

static void
take_sync(struct pg_connection *connection, const PGresult *result)
{
	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) { /* the commit itself failed */
		const struct pg_expect expect = { .kind = PG_EXPECT_SYNC };
		if (connection->state == PG_SETUP)
			pg_connection_doom(connection, PQresultErrorMessage(result));
		else
			connection->role->result(connection, &expect, result);
		return;
	}
	expect_pop(connection);
	if (connection->state == PG_SETUP)
		became_ready(connection);
	else
		connection->role->synced(connection);
}

static void
take_result(struct pg_connection *connection, const PGresult *result)
{
	struct pg_expect *head = expect_head(connection);

	if (head->kind == PG_EXPECT_SYNC) {
		take_sync(connection, result);
		return;
	}
	/* Results are parted by one NULL; the one behind this pops it. */
	head->seen = true;
	if (head->kind == PG_EXPECT_PREPARE)
		take_prepared(connection, head, result);
	else if (head->kind == PG_EXPECT_SETUP)
		take_setup(connection, head, result);
	else
		connection->role->result(connection, head, result);
}

static void
connection_consume(struct pg_connection *connection)
{
	bool null_before = false;

	connection->running = true;
	while (!connection->doomed[0] && connection->expect_count > 0 &&
	       !PQisBusy(connection->pg)) {
		PGresult *result = PQgetResult(connection->pg);
		if (PQstatus(connection->pg) == CONNECTION_BAD) {
			pg_connection_doom(connection, PQerrorMessage(connection->pg));
		} else if (result) {
			take_result(connection, result);
		} else if (expect_head(connection)->seen) {
			expect_pop(connection);
		} else if (null_before) {
			break;
		}
		null_before = !result;
		PQclear(result);
	}
	connection->running = false;
	connection_settle(connection);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pg_connection *connection = arg;

	connection->heard_us = pg_now_us();
	if (!PQconsumeInput(connection->pg)) {
		pg_connection_doom(connection, PQerrorMessage(connection->pg));
		connection_settle(connection);
		return;
	}
	connection_consume(connection);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct pg_connection *connection = arg;

	connection_flush(connection);
	connection_settle(connection);
}

/* --- connecting --- */

/*
 * The plan is the same for all values: along an index, in its order, as far as the LIMIT goes, and
 * in the months that the values allow, which is found out when the statement runs. The planner
 * knows a statement's values and a table's size of a moment only: for a month that is still empty
 * it would read all of it, for a short range it would start processes and sort. With parts of two
 * years it needs ten times as long for a plan as the plan needs to run.
 */
#define PLAN_SETTINGS                                              \
	"SELECT set_config('plan_cache_mode', 'force_generic_plan', false), " \
	"set_config('enable_seqscan', 'off', false), "               \
	"set_config('enable_bitmapscan', 'off', false), "            \
	"set_config('enable_hashjoin', 'off', false), "              \
	"set_config('enable_mergejoin', 'off', false), "             \
	"set_config('enable_sort', 'off', false), "                  \
	"set_config('max_parallel_workers_per_gather', '0', false), " \
	"set_config('jit', 'off', false)"

static void
connection_made(struct pg_connection *connection)
{
	evutil_socket_t fd = PQsocket(connection->pg);

	events_free(connection);
	connection->state = PG_SETUP;
	connection->io =
		event_new(connection->base, fd, EV_READ | EV_PERSIST, on_readable, connection);
	connection->writable = event_new(connection->base, fd, EV_WRITE, on_writable, connection);
	IRIS_ASSERT(connection->io && connection->writable && event_add(connection->io, NULL) == 0);
	if (PQsetnonblocking(connection->pg, 1) != 0 || !PQenterPipelineMode(connection->pg)) {
		pg_connection_doom(connection, PQerrorMessage(connection->pg));
		return;
	}
	/* What the operator wants stronger is left alone; weaker than the loss of power allows it
	 * may not be (P7.2). */
	pg_connection_send_setup(connection, UINT32_MAX,
				 "SELECT set_config('synchronous_commit', 'on', false) "
				 "WHERE current_setting('synchronous_commit') = 'off'",
				 NULL, 0);
	pg_connection_send_setup(connection, UINT32_MAX, PLAN_SETTINGS, NULL, 0);
	connection->role->setup(connection);
	pg_connection_send_sync(connection);
}

/* They would go to stderr. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

static void
on_progress(evutil_socket_t fd, short what, void *arg)
{
	struct pg_connection *connection = arg;
	PostgresPollingStatusType status =
		what == 0 ? PGRES_POLLING_WRITING :
			    PQconnectPoll(connection->pg); /* first: to be polled when writable */

	if (status == PGRES_POLLING_OK) {
		connection_made(connection);
	} else if (status == PGRES_POLLING_FAILED) {
		pg_connection_doom(connection, PQerrorMessage(connection->pg));
	} else {
		/* The descriptor changes when libpq tries the next server. */
		events_free(connection);
		connection->io = event_new(connection->base, PQsocket(connection->pg),
					   status == PGRES_POLLING_READING ? EV_READ : EV_WRITE,
					   on_progress, connection);
		IRIS_ASSERT(connection->io && event_add(connection->io, NULL) == 0);
	}
	connection_settle(connection);
}

static void
connection_attempt(struct pg_connection *connection)
{
	connection->state = PG_CONNECTING;
	timer_set(connection, pg_settings.connect_timeout_ms);
	connection->pg = pg_address_connect(connection->attempts, connection->application);
	if (!connection->pg || PQstatus(connection->pg) == CONNECTION_BAD) {
		pg_connection_doom(connection, connection->pg ? PQerrorMessage(connection->pg) :
								"out of memory");
		connection_settle(connection);
		return;
	}
	(void)PQsetNoticeReceiver(connection->pg, ignore_notice, NULL);
	on_progress(PQsocket(connection->pg), 0, connection);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pg_connection *connection = arg;

	if (connection->state == PG_CLOSED) {
		connection_attempt(connection);
		return;
	}
	pg_connection_doom(connection, "no connection in time");
	connection_settle(connection);
}

void
pg_connection_init(struct pg_connection *connection, const struct pg_role *role,
		   struct event_base *base)
{
	connection->role = role;
	connection->base = base;
	connection->timer = evtimer_new(base, on_timer, connection);
	IRIS_ASSERT(connection->timer);
}

void
pg_connection_open(struct pg_connection *connection)
{
	if (connection->state == PG_CLOSED && !connection->closing &&
	    !evtimer_pending(connection->timer, NULL))
		timer_set(connection, 0); /* from the loop: a fiber's stack is too small for it */
}

void
pg_connection_close(struct pg_connection *connection)
{
	connection->closing = true;
	if (connection->state != PG_CLOSED) {
		pg_connection_doom(connection, "closed");
		connection_settle(connection);
	}
	event_free(connection->timer);
	connection->timer = NULL;
	free(connection->expects);
	connection->expects = NULL;
	connection->expect_cap = 0;
}

void
pg_connection_expire(struct pg_connection *connection)
{
	pg_connection_doom(connection, "no answer in time");
	connection_settle(connection);
}

void
pg_connection_check(struct pg_connection *connection)
{
	if (connection->state == PG_READY && connection->expect_count > 0 &&
	    pg_now_us() - connection->heard_us >= pg_settings.stall_timeout_ms * 1000)
		pg_connection_expire(connection);
}
