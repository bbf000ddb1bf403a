/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an engine of the vault offers (modules/sqlite, modules/postgresql), and what it is given.
 * A third engine needs this header and a folder of its own, nothing else.
 *
 * The engine sees sealed columns as bytes; it knows no key, no owner and no ticket.  It is
 * asynchronous: submit() and read() take something over and give it back, completed, through
 * vault_groups_done() and read->done(), from any thread.  Nothing is given back as committed
 * that would not survive the loss of power.
 */
#ifndef IRIS_VAULT_ENGINE_H
#define IRIS_VAULT_ENGINE_H

#include "iris/vault.h"
#include "iris/worker.h"

struct iris_settings;
struct vault_await;

/* A declared query, checked. Lives as long as the vault is open. */
struct vault_statement {
	const struct iris_query *query;
	unsigned param_count, column_count;
	bool seals, opens;     /* has sealed parameters, sealed columns */
	bool keeps;            /* content, as far as is known: not while that is in transit */
	unsigned key_count; /* what identifies the row, for the authentication of sealed fields */
	struct vault_key_source {
		bool column;       /* else a parameter */
		unsigned index;
	} keys[VAULT_FIELDS_MAX];
	unsigned slot;         /* the engine's, set by prepare() */
};

/* --- writes --- */

struct vault_call {
	struct vault_call *next;
	const struct vault_statement *statement;
	struct iris_value values[]; /* param_count of them; SEALED ones are records already */
};

/* One transaction as its poster sees it: all of it or nothing. */
struct vault_unit {
	struct vault_unit *next;
	struct vault_call *calls, *last_call;
	enum iris_vault_result result; /* set by the engine: OK or FAILED */
	/* set by the engine: rows changed by the last call; -1: committed, but nobody knows */
	int64_t changed;
	/* The vault's: */
	struct iris_ticket *ticket;
	struct vault_await *await;
	int64_t log_reader, log_id;    /* of a log_append: to be forgotten again if it fails */
};

/*
 * What one worker posted in one turn, in order.  An engine may commit any number of groups
 * together, but those of one home in the order of their submission.  A unit that fails (a
 * constraint, say) fails alone.
 */
struct vault_group {
	struct iris_mail mail;
	struct vault_group *next;      /* the engine's while it has it */
	struct iris_worker *home;      /* NULL: the engine's thread calls done(group) instead */
	void (*done)(struct vault_group *group);
	struct vault_unit *first, *last;
	size_t rows, bytes;
	bool urgent;                   /* somebody awaits it: do not linger */
	bool background; /* the log's index: a transaction of its own, when there is room */
	uint64_t sequence;             /* set by submit(): rises with every group of the engine */
	struct vault_chunk *chunks;    /* where units, calls and values lie */
	/* The vault's: */
	struct vault_chunk *upto;      /* of its worker's memory */
	struct vault_group *later;     /* the one that its worker handed over after it */
	int64_t since_ms;              /* when this one was */
};

/* By the engine, for a chain of groups (by ->next) that it has finished, in order. Any thread. */
void vault_groups_done(struct vault_group *chain);

/* --- reads --- */

/*
 * Rows on their way from the engine: made by rows_add_… on the engine's thread, read on the asking
 * worker.
 */
struct vault_rows {
	char *base;
	size_t len, cap;
	size_t count;
};

#define VAULT_ROWS_BYTES_MAX ((size_t)256 << 20)

void rows_add_null(struct vault_rows *rows);
void rows_add_int(struct vault_rows *rows, int64_t number);
void rows_add_bytes(struct vault_rows *rows, const void *base, size_t len);
bool rows_are_full(const struct vault_rows *rows); /* past VAULT_ROWS_BYTES_MAX: the read fails */
void rows_free(struct vault_rows *rows);

struct vault_read_call {
	const struct vault_statement *statement;
	const struct iris_value *values;
	struct vault_rows rows;
};

/* One or several statements, run in order; valid until done() has been called. */
struct vault_read {
	struct vault_read *next;       /* the engine's while it has it */
	struct iris_worker *home;
	uint64_t after;                /* groups up to this sequence are committed before it runs */
	struct vault_read_call *calls;
	unsigned call_count;
	enum iris_vault_result result; /* set by the engine: OK or FAILED */
	void (*done)(struct vault_read *read); /* any thread */
};

/* --- moving a region to another engine (vault_copy.c); main thread, open, not started --- */

/* A table, as the catalogue has it. */
struct vault_table {
	struct iris_str name;
	unsigned column_count, key_count;
	struct iris_field columns[VAULT_FIELDS_MAX]; /* INT, TEXT or BLOB */
	unsigned keys[VAULT_FIELDS_MAX]; /* the columns of the primary key, in its order */
	bool in_parts; /* {monthly}, see make_parts() */
};

struct vault_transfer {
	/*
	 * A query for the columns of all tables, in order of table and column: table, column, type
	 * (enum iris_type; 0: one that the vault does not use), place in the primary key (from 1;
	 * 0: none), whether its rows lie in parts. Parts are no tables.
	 */
	const char *catalogue;
	const char *byte_order;        /* behind a text column: sorts it by its bytes */
	const char *freeze;            /* a script: from now on this connection only reads */
	const char *const *own_tables; /* bookkeeping of the engine alone; ends with NULL */
	/*
	 * One query whose rows are fetched in pieces: scan_next() adds rows until they are so many
	 * bytes, or until there is no more. Nothing else is asked of the engine before scan_end().
	 */
	bool (*scan)(const char *sql, const struct iris_value *params, unsigned param_count,
		     struct iris_error *error);
	bool (*scan_next)(struct vault_rows *rows, size_t bytes, struct iris_error *error);
	void (*scan_end)(void);
	/* Adds rows, all columns of each, to a table: all of them or none, and durably. */
	bool (*load)(const struct vault_table *table, const struct vault_rows *rows,
		     struct iris_error *error);
	bool (*settle)(const struct vault_table *table, struct iris_error *error); /* is loaded */
};

/* Walks rows: the next value, in the order of the columns; bytes are borrowed from the rows. */
struct rows_reader {
	const char *at, *end;
};
void rows_read_begin(struct rows_reader *reader, const struct vault_rows *rows);
struct iris_value rows_read(struct rows_reader *reader);

/* --- the engine --- */

/*
 * Words of the engine's dialect that the migrations need and the standard lacks: written in braces
 * there.  {id}: the type of an integer primary key that rises; {bytes}; {int}: 64 bits; {table}
 * behind a table's closing parenthesis; {narrow} there, for a table that is only its primary key;
 * {monthly} behind either, for a table whose rows lie in parts by the month of their `id`, an id of
 * the log.
 */
struct vault_dialect {
	const char *id, *bytes, *integer, *table, *narrow, *monthly;
};

struct iris_vault_engine {
	const char *name;
	const struct vault_dialect *dialect;
	const struct vault_transfer *transfer;

	/*
	 * Main thread, blocking, before start(): connects (create: and makes the store when there
	 * is none). The options are those of the engine's own module.
	 */
	bool (*open)(bool create, struct iris_error *error);
	void (*close)(void);
	bool (*script)(const char *sql, struct iris_error *error); /* statements without result */
	/* One statement with parameters; its rows go to rows, or are dropped when NULL. */
	bool (*query)(const char *sql, const struct iris_value *params, unsigned param_count,
		      struct vault_rows *rows, struct iris_error *error);

	bool (*start)(struct iris_error *error); /* its threads, or its connections */
	void (*stop)(void); /* finishes what was submitted; then nothing is outstanding */

	/* Main thread; checks the SQL against the declaration. */
	bool (*prepare)(struct vault_statement *statement, struct iris_error *error);
	void (*submit)(struct vault_group *group); /* the home's thread, never blocks */
	void (*read)(struct vault_read *read);     /* the home's thread, never blocks */

	/*
	 * On any thread where it may block, while the engine runs: what was overwritten or deleted
	 * in this table, and is committed, lies in none of the files that the engine can reach any
	 * more, its write-ahead log included.
	 */
	bool (*scrub)(const char *table, struct iris_error *error);

	/*
	 * Both NULL, or: makes the parts that the tables which are {monthly} lack to take rows with
	 * ids from first_id to last_id; drops those that have only ids below horizon_id. Blocking;
	 * main thread before start(), then one thread at a time, until stop(). False: not all of it
	 * was done, and the call may be repeated.
	 */
	bool (*make_parts)(int64_t first_id, int64_t last_id, struct iris_error *error);
	bool (*drop_parts)(int64_t horizon_id, struct iris_error *error);

	/* Has it been out of order for longer than this? Then false, and why. Any thread. */
	bool (*is_ready)(int64_t delay_ms, char *why, size_t size);
};

#endif
