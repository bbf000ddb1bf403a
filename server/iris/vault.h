/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault: every byte that is kept passes here.  A plug-in declares its statements in tables;
 * what is typed sealed is encrypted and authenticated (AES-256-GCM) under the key of the owning
 * company, bound to table, column and row, before it leaves the process.
 */
#ifndef IRIS_VAULT_H
#define IRIS_VAULT_H

#include "iris/arena.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_type {
	IRIS_TYPE_NONE, /* ends a list */
	IRIS_INT,
	IRIS_TEXT,
	IRIS_BLOB,
	IRIS_SEALED,    /* any bytes for the plug-in, a sealed record for the engine */
};

#define VAULT_FIELDS_MAX 16

struct iris_field {
	const char *name; /* for a sealed field: its column's name */
	enum iris_type type;
};

/*
 * One statement, in SQL that all engines accept ($1, $2 … in the order of params; INSERT …
 * ON CONFLICT; no RETURNING). For statements with sealed fields, `key` names the fields (in
 * params or columns, separated by spaces) that identify the row: they are authenticated with it.
 */
struct iris_query {
	const char *name;  /* "roster.load": for logs, metrics, traces */
	const char *table; /* sealed fields are bound to it */
	const char *sql;
	const char *key;
	bool write;
	/*
	 * Its text holds addresses, states, positions, or what the owner of the row said before:
	 * never a word of a stanza.  So it is written while a stanza in transit is handled
	 * (transit_is_on()), where all others are refused. Not to be said of DELETE, and of what
	 * has numbers only: those are taken in any case.
	 */
	bool bare;
	struct iris_field params[VAULT_FIELDS_MAX];
	struct iris_field columns[VAULT_FIELDS_MAX];
	void *prepared; /* the runtime's; NULL in the declaration */
};

struct iris_value {
	enum iris_type type; /* IRIS_TYPE_NONE: SQL NULL */
	int64_t number;
	struct iris_str bytes;
};

static inline struct iris_value
value_int(int64_t number)
{
	return (struct iris_value){ .type = IRIS_INT, .number = number };
}

static inline struct iris_value
value_str(struct iris_str bytes) /* TEXT, BLOB or SEALED, as the parameter says; none: NULL */
{
	return (struct iris_value){ .type = bytes.base ? IRIS_TEXT : IRIS_TYPE_NONE,
				    .bytes = bytes };
}

#define VALUES(...) (const struct iris_value[]){ __VA_ARGS__ }

/*
 * What became of a call; the caller has the detail in the log and metrics, the peer gets wait or
 * internal errors.
 */
enum iris_vault_result {
	IRIS_VAULT_OK,
	IRIS_VAULT_BUSY,    /* the queue of waiting writes is full: resource-constraint (wait) */
	IRIS_VAULT_FAILED,  /* the engine failed, or a sealed value did not open */
	/* owner not of this region, a role without a vault, or what is handled is in transit */
	IRIS_VAULT_REFUSED,
	IRIS_VAULT_ERASED,  /* the owner's keys were destroyed: nothing of it can be read */
};

struct iris_rows {
	size_t count;
	unsigned column_count;
	struct iris_value *values; /* count × column_count, row by row */
};

static inline const struct iris_value *
row_value(const struct iris_rows *rows, size_t row, unsigned column)
{
	return &rows->values[row * rows->column_count + column];
}

/*
 * Reads (fiber only; waits). Sees every write that this worker posted before. `owner` 0: the
 * statement has no sealed column, or finds no row (what belongs to nobody). Values are allocated
 * in the arena.
 */
IRIS_MUST_CHECK enum iris_vault_result vault_read(const struct iris_query *query, iris_owner owner,
						  const struct iris_value *params,
						  struct iris_arena *arena,
						  struct iris_rows *rows_r);
/* Several reads, each as vault_read() does it, in one trip; all of them or none. */
struct iris_question {
	const struct iris_query *query;
	const struct iris_value *params;
	struct iris_rows rows; /* the answer */
};
IRIS_MUST_CHECK enum iris_vault_result vault_ask(struct iris_question *questions, size_t count,
						 iris_owner owner, struct iris_arena *arena);
/* Writes and waits for the commit (fiber only). changed_r: rows changed, or NULL. */
IRIS_MUST_CHECK enum iris_vault_result vault_write(const struct iris_query *query, iris_owner owner,
						   const struct iris_value *params,
						   int64_t *changed_r);

/*
 * A ticket counts what a stanza caused to be written, at every home it reached: whoever posts a
 * write for it, or hands it to another worker, holds a reference; when the last goes, everything is
 * committed and done(ticket) runs on the worker that made it.  failed is set when a write
 * failed.  NULL is a valid ticket everywhere: nobody waits.
 */
struct iris_ticket;
struct iris_ticket *ticket_new(void (*done)(void *arg, bool failed), void *arg); /* one reference */
struct iris_ticket *ticket_ref(struct iris_ticket *ticket);
void ticket_unref(struct iris_ticket **ticket_p); /* any worker; nulls, accepts NULL */
void ticket_fail(struct iris_ticket *ticket);

/*
 * Posted writes: queued in order with all others of this worker, committed within
 * milliseconds, never waited for.  The parameters are copied (and sealed) at once.
 * The statements of one batch are one transaction. BUSY and REFUSED: nothing was queued, and the
 * ticket is as it was: the caller refuses what it was asked for, which is then handled, too.
 */
IRIS_MUST_CHECK enum iris_vault_result vault_post(const struct iris_query *query, iris_owner owner,
						  const struct iris_value *params,
						  struct iris_ticket *ticket);
struct iris_batch;
struct iris_batch *batch_new(iris_owner owner);
void batch_add(struct iris_batch *batch, const struct iris_query *query,
	       const struct iris_value *params);
IRIS_MUST_CHECK enum iris_vault_result batch_post(struct iris_batch **batch_p,
						  struct iris_ticket *ticket);
/* fiber only; waits */
IRIS_MUST_CHECK enum iris_vault_result batch_write(struct iris_batch **batch_p);
void batch_drop(struct iris_batch **batch_p);

/*
 * The next id of a named 64-bit sequence of this region; strictly rising, gaps are possible, none
 * is given twice. Those of the log tell the time, see below. Any worker, no wait.
 */
enum iris_sequence { IRIS_SEQ_LOG, IRIS_SEQ_ACCOUNT, IRIS_SEQ_COUNT };
int64_t vault_next_id(enum iris_sequence sequence);

/*
 * An id of the log is the time when it was taken, in Unix milliseconds, and a count behind it. Ids
 * are in order, and so is time: where a clock was set back, the log's time stands still until the
 * clock is there again.
 */
#define LOG_ID_COUNT_BITS 21
#define LOG_TIME_MAX ((INT64_C(1) << (63 - LOG_ID_COUNT_BITS)) - 1) /* in the year 2109 */

static inline int64_t
log_id_time_ms(int64_t id)
{
	return id >> LOG_ID_COUNT_BITS;
}

/* No id of this millisecond or a later one is below it. Any time will do. */
static inline int64_t
log_id_first(int64_t time_ms)
{
	if (time_ms > LOG_TIME_MAX)
		return INT64_MAX;
	return time_ms < 0 ? 0 : time_ms << LOG_ID_COUNT_BITS;
}

/*
 * The log (probes: layout X): entries in arrival order, found by reader, or by reader and peer.
 * reader is an account's (or bubble's) integer id; peer any 63-bit hash of an address, see
 * vault_peer_id(). The body is sealed under the owner's key.
 */
struct iris_log_entry {
	int64_t id; /* from vault_next_id(IRIS_SEQ_LOG); its time is the entry's */
	iris_owner owner;
	int64_t reader, peer;
	unsigned flags; /* the writer's; kept as they are */
	struct iris_str body;
};

/* keyed hash, the same for the life of the region */
int64_t vault_peer_id(struct iris_str bare_jid);

#define VAULT_SECRET_SIZE 32
/*
 * A secret for what `purpose` (a literal of the caller's own) names, drawn from the region's: the
 * same on all workers, after each start, for the life of the region. False: no vault is open (role
 * edge), or OpenSSL fails. Any thread.
 */
IRIS_MUST_CHECK bool vault_derive_secret(const char *purpose,
					 unsigned char secret_r[VAULT_SECRET_SIZE]);
IRIS_MUST_CHECK enum iris_vault_result log_append(const struct iris_log_entry *entry,
						  struct iris_ticket *ticket); /* posts */

struct iris_log_query {
	int64_t reader;
	int64_t peer;              /* 0: any */
	int64_t after_id, before_id; /* exclusive; before_id 0: no end */
	int64_t from_ms, until_ms; /* both inclusive; 0: no bound. Only ids are looked at. */
	unsigned flags_all;        /* entries that have all of these */
	size_t limit;
	bool backwards;            /* the last `limit` ones; still returned in ascending order */
	bool with_expired;         /* those of log_keep_for() too, as long as they are there */
};

struct iris_log_page {
	struct iris_log_entry *entries; /* ascending by id, in the arena */
	size_t count;
	bool more; /* beyond the limit, in the direction of reading */
};

IRIS_MUST_CHECK enum iris_vault_result log_read(const struct iris_log_query *query,
						iris_owner owner, struct iris_arena *arena,
						struct iris_log_page *page_r);

/* An entry as it was read, with another body: what was sealed before is overwritten. Posts. */
IRIS_MUST_CHECK enum iris_vault_result log_rewrite(const struct iris_log_entry *entry,
						   struct iris_ticket *ticket);
/* Entries of one owner (id, reader and peer are looked at), gone together, index and all. Posts. */
IRIS_MUST_CHECK enum iris_vault_result log_remove(const struct iris_log_entry *entries,
						  size_t count, struct iris_ticket *ticket);
/*
 * From now on no entry is read that is older than this (0: there is no such age), and what keeps
 * them goes: with an engine that keeps each month for itself, when a month is over that old; else
 * with log_expire(). Main thread.
 */
void log_keep_for(int64_t milliseconds);
/*
 * Removes up to `limit` of the oldest entries of the region that are too old to be read, of all
 * owners (fiber; waits for the commit). removed_r: how many; 0: there are none left.
 */
IRIS_MUST_CHECK enum iris_vault_result log_expire(size_t limit, size_t *removed_r);

/*
 * An id of the log as it is shown to others: encrypted, together with its reader, so that it tells
 * nothing of time and volume, cannot be guessed, and is good for that reader's log only. The same
 * for the life of the region. Any thread.
 */
struct iris_str log_id_seal(struct iris_arena *arena, int64_t reader, int64_t id);
/* False: it is no id of this reader's log. */
bool log_id_open(struct iris_str sealed, int64_t reader, int64_t *id_r);

/*
 * What is too big for a row (files) lies elsewhere, in chunks sealed under a key of its own, which
 * is kept in a sealed column of the object's row: so it is renewed and erased with its owner's.
 * A chunk is bound to object, owner, number and to being the last: none can be altered, swapped,
 * taken from another object, or cut off.
 */
#define BLOB_CHUNK_SIZE 65536 /* all but the last have it */
#define BLOB_TAG 16           /* longer when sealed */
#define BLOB_KEY 32

struct iris_blob;

void blob_key_make(unsigned char key_r[BLOB_KEY]);
/*
 * One thread at a time. SECURITY: a key seals one object once; whoever begins anew makes a new key,
 * since the number of a chunk is its nonce.
 */
struct iris_blob *blob_new(const unsigned char key[BLOB_KEY], iris_owner owner, int64_t object,
			   bool seal);
void blob_free(struct iris_blob **blob_p);
/* sealed_r has room for plain.len + BLOB_TAG. */
void blob_seal(struct iris_blob *blob, uint64_t number, bool last, struct iris_str plain,
	       char *sealed_r);
/* plain_r has room for sealed.len - BLOB_TAG. False: it is not that chunk. */
IRIS_MUST_CHECK bool blob_open(struct iris_blob *blob, uint64_t number, bool last,
			       struct iris_str sealed, char *plain_r);

#pragma GCC visibility pop
#endif
