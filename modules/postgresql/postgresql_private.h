/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the PostgreSQL engine share.
 */
#ifndef IRIS_POSTGRESQL_PRIVATE_H
#define IRIS_POSTGRESQL_PRIVATE_H

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdatomic.h>

#include "iris/fiber.h"
#include "iris/metrics.h"
#include "modules/postgresql/postgresql.h"

#define PG_SLOTS_MAX 4096
#define PG_READERS_MAX 4
#define PG_WRITERS (WORKER_LIMIT + 2) /* of the workers, of main, of the background */
#define PG_LOCK_KEY "5291576203816300908" /* of the advisory lock: "Iris" has this database */

extern struct postgresql_options pg_settings; /* of the open engine */
extern int64_t pg_instance; /* of this start; random */

enum pg_metric {
	PG_METRIC_COMMITS,
	PG_METRIC_COMMIT_US,
	PG_METRIC_RETRIES,
	PG_METRIC_LOST,
	PG_METRIC_CONNECTIONS,
	PG_METRIC_READ_RETRIES,
	PG_METRIC_READ_TIMEOUTS,
	PG_METRIC_RECOVERED,
	PG_METRIC_PARTS_MADE,
	PG_METRIC_PARTS_DROPPED,
	PG_METRIC_COUNT,
};
extern struct iris_metric pg_metrics[PG_METRIC_COUNT + 1];

int64_t pg_now_us(void); /* monotonic */
uint64_t pg_random(void);

/* --- address.c: where the servers are; any thread, but for those that block --- */

bool pg_address_open(const char *connect, struct iris_error *error); /* blocks: asks the DNS */
/* The check of the configuration, as far as it can be told there. */
bool pg_address_check(const char *connect, struct iris_error *error);
void pg_address_close(void);
void pg_address_refresh(void); /* blocks: asks the DNS again when there are names to ask for */
/* Begins to connect without blocking; the attempt says which of several servers is tried first. */
PGconn *pg_address_connect(unsigned attempt, const char *application);
unsigned pg_address_count(void);

/* --- value.c: prepared statements by slot, values to and from the wire --- */

struct pg_slot {
	char *sql;
	char name[12];
	unsigned count;
	Oid types[VAULT_FIELDS_MAX];
};

/* Parameters as libpq takes them; points into the values. */
struct pg_params {
	const char *values[VAULT_FIELDS_MAX];
	int lengths[VAULT_FIELDS_MAX], formats[VAULT_FIELDS_MAX];
	uint64_t numbers[VAULT_FIELDS_MAX]; /* big-endian */
};

extern const struct vault_dialect pg_dialect;

const struct pg_slot *pg_slot_of(const struct vault_statement *statement);
bool pg_slot_take(struct vault_statement *statement, struct iris_error *error); /* main thread */
void pg_slots_free(void);
Oid pg_type_oid(enum iris_type type);
bool pg_type_fits(enum iris_type type, Oid oid); /* of a column */
void pg_params_add(struct pg_params *params, unsigned i, const struct iris_value *value,
		   enum iris_type type);
/* False: more than VAULT_ROWS_BYTES_MAX, or a value that is no 64-bit integer. */
bool pg_rows_collect(const PGresult *result, struct vault_rows *rows);

/* Whose fault is an error? */
enum pg_fault {
	PG_FAULT_STATEMENT, /* this statement with these values: it would fail again */
	PG_FAULT_STORE, /* try again after a while */
	PG_FAULT_CONNECTION, /* try again, on another connection, perhaps with another server */
};
enum pg_fault pg_fault_of(const char *sqlstate);

/* --- control.c: the main thread's own connection, blocking --- */

bool pg_control_open(struct iris_error *error); /* alone: with the lock that keeps others out */
void pg_control_share(void); /* lets our own other connections in */
void pg_control_close(void);
bool pg_control_script(const char *sql, struct iris_error *error);
bool pg_control_query(const char *sql, const struct iris_value *params, unsigned count,
		      struct vault_rows *rows, struct iris_error *error);
/* With a connection of its own; any thread. */
bool pg_control_scrub(const char *table, struct iris_error *error);
bool pg_control_prepare(struct vault_statement *statement, struct iris_error *error);
/* Another connection, for the caller; blocks, any thread. NULL: none. */
PGconn *pg_control_connect_new(const char *application, struct iris_error *error);

/* --- parts.c: the log's parts by month; blocking, one thread at a time --- */

bool pg_parts_make(int64_t first_id, int64_t last_id, struct iris_error *error);
bool pg_parts_drop(int64_t horizon_id, struct iris_error *error);

PGconn *pg_control(void);
/* What the server said, as an operator's error. */
bool pg_control_problem(const char *what, struct iris_error *error);

/* --- transfer.c: a region that moves to or from another engine; main thread --- */

extern const struct vault_transfer pg_transfer;

/* --- connection.c: an asynchronous connection in pipeline mode; belongs to the thread of its loop
 * --- */

enum pg_state { PG_CLOSED, PG_CONNECTING, PG_SETUP, PG_READY };

/* What comes back, in the order of what was sent. */
enum pg_kind { PG_EXPECT_SETUP, PG_EXPECT_PREPARE, PG_EXPECT_CALL, PG_EXPECT_SYNC };
struct pg_expect {
	enum pg_kind kind;
	bool seen; /* its result was there, its end not yet */
	unsigned index; /* slot of a PREPARE or a write's CALL; number of a SETUP or of a read's
			   CALL */
	void *what; /* unit or read of a CALL, and of a PREPARE for it */
};

struct pg_connection;

/* What a connection is for. None of these drops the connection; they call pg_connection_doom(). */
struct pg_role {
	void (*setup)(struct pg_connection *connection); /* sends its own, without the Sync */
	void (*setup_result)(struct pg_connection *connection, unsigned index,
			     const PGresult *result);
	void (*ready)(struct pg_connection *connection);
	void (*result)(struct pg_connection *connection, const struct pg_expect *expect,
		       const PGresult *result);
	void (*synced)(struct pg_connection *connection);
	void (*lost)(struct pg_connection *connection,
		     const char *why); /* what was under way will not be answered */
};

struct pg_connection {
	const struct pg_role *role;
	struct event_base *base;
	char application[48];
	PGconn *pg;
	enum pg_state state;
	bool closing; /* it is not to be opened again */
	bool running; /* results are being handed out */
	unsigned attempts; /* that failed since it was last ready */
	struct event *io, *writable; /* io: what connecting waits for, then readable */
	struct event *timer; /* of the pause before an attempt, and of the attempt's length */
	int64_t heard_us; /* bytes came, or the first thing was sent into silence */
	struct pg_expect *expects; /* a ring */
	unsigned expect_first, expect_count, expect_cap;
	char doomed[256]; /* why it is dropped as soon as nobody works with it */
	unsigned char prepared[PG_SLOTS_MAX]; /* enum pg_prepared */
};

void pg_connection_init(struct pg_connection *connection, const struct pg_role *role,
			struct event_base *base);
void pg_connection_open(struct pg_connection *connection); /* unless it is open, or will be */
void pg_connection_close(struct pg_connection *connection); /* for good; role->lost() is called */
void pg_connection_doom(struct pg_connection *connection, const char *why);
void pg_connection_expire(struct pg_connection *connection); /* its answer took too long */
void pg_connection_check(
	struct pg_connection *connection); /* a few times a second: does it still answer? */

/* All may doom the connection; what was under way is told by role->lost() then. */
void pg_connection_send_setup(struct pg_connection *connection, unsigned index, const char *sql,
			      const struct iris_value *params, unsigned count);
void pg_connection_send_call(struct pg_connection *connection,
			     const struct vault_statement *statement,
			     const struct iris_value *values, void *what, unsigned index);
void pg_connection_send_sync(struct pg_connection *connection); /* and flushes */

/* --- writer.c --- */

struct pg_writer {
	struct pg_connection connection;
	unsigned number; /* its row in vault_writers */
	struct vault_group *first, *last; /* the queue: what is not given back */
	struct vault_unit *next; /* of the first group: the first one without a result */
	size_t rows; /* in the queue, less those of groups that were begun */
	bool urgent, stopping;
	bool background; /* what fails is given back, not tried again */
	unsigned limit; /* units of the next batch */
	uint64_t committed; /* the sequence of the last group given back */
	int64_t last_sent_us; /* of what was committed: the linger time begins there */
	struct event *linger; /* also the pause before a batch is tried again */
	unsigned failures; /* of the store, in a row */
	bool pausing;
	/* The batch under way: */
	unsigned flight; /* units; 0: none */
	bool uncertain; /* the connection was lost with it: the mark tells */
	int64_t batch, epoch, sent_us;
	bool broken; /* a statement failed, and so will the batch: */
	struct vault_unit *failed; /* NULL: none in particular */
	enum pg_fault fault;
	char reason[200], query[64];
	void (*on_commit)(struct pg_writer *writer); /* or NULL */
	/* For is_ready(), under its lock: */
	struct pg_writer *next_watched;
	int64_t trouble_us; /* since then; 0: none */
	char trouble[256];
};

bool pg_writers_open(struct iris_error *error); /* main thread: takes the marks for this instance */
void pg_writer_init(struct pg_writer *writer, unsigned number, struct event_base *base);
void pg_writer_submit(struct pg_writer *writer, struct vault_group *group); /* to be pumped */
void pg_writer_pump(struct pg_writer *writer); /* sends what is due; not on a fiber's stack */
void pg_writer_hurry(struct pg_writer *writer);
void pg_writer_check(struct pg_writer *writer); /* a few times a second */
bool pg_writer_is_idle(const struct pg_writer *writer);
void pg_writer_stop(struct pg_writer *writer); /* gives back what is left, as failed */
bool pg_writers_are_ready(int64_t delay_ms, char *why, size_t size); /* any thread */

/* --- reader.c --- */

struct pg_read;
struct pg_read_list {
	struct pg_read *first, *last;
};

struct pg_reader {
	struct pg_connection connection;
	struct pg_readers *pool;
	struct pg_read_list flight;
	unsigned count;
};

struct pg_readers {
	struct pg_writer *writer; /* whose commits they wait for */
	struct pg_read_list
		waiting; /* in the order of their coming, and so of what they wait for */
	unsigned open;
	struct pg_reader readers[PG_READERS_MAX];
};

void pg_readers_init(struct pg_readers *readers, struct pg_writer *writer, struct event_base *base);
void pg_readers_take(struct pg_readers *readers, struct vault_read *read); /* to be pumped */
void pg_readers_pump(struct pg_readers *readers); /* sends what may run; not on a fiber's stack */
void pg_readers_check(struct pg_readers *readers);
bool pg_readers_are_idle(const struct pg_readers *readers);
void pg_readers_stop(struct pg_readers *readers);

/* --- pool.c: the connections of a worker --- */

void pg_pool_submit(struct vault_group *group);
void pg_pool_read(struct vault_read *read);
void pg_pools_close(void); /* main thread; the workers are gone */

/* --- background.c: a thread for the log's index and for the DNS --- */

bool pg_background_start(struct iris_error *error);
void pg_background_stop(void);
void pg_background_submit(struct vault_group *group);
void
pg_background_look_up(void); /* any thread: an attempt failed, perhaps the addresses have changed */

#endif
