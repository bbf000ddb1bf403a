/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault inside: what its files share, and what boot, irisctl and the module runtime call.
 */
#ifndef IRIS_VAULT_PRIVATE_H
#define IRIS_VAULT_PRIVATE_H

#include <openssl/types.h>

#include "iris/command.h"
#include "iris/metrics.h"
#include "vault_engine.h"

struct iris_module;

/* --- open and close (vault.c); main thread --- */

struct vault_limits {
	size_t rows, bytes; /* posted and not yet committed: beyond it the vault answers BUSY */
};

struct vault_options {
	const struct iris_vault_engine *engine;
	struct vault_limits limits;
	int64_t ready_delay_ms; /* of a write, before vault_is_ready() says no; 0: any */
	const char *key_path; /* of the region's master key */
	const char *region;
};

bool vault_open_with(const struct vault_options *options, struct iris_error *error);
/* Waits until everything posted is committed. The workers' mail must have been drained after it. */
void vault_close(void);
/* Brings the schema up to date; the server must be down. applied_r: how many migrations ran. */
bool vault_upgrade_with(const struct vault_options *options, unsigned *applied_r,
			struct iris_error *error);
/* Makes a region: master key (unless the file is there), schema, keys, owner 1 named `company`. */
bool vault_init_with(const struct vault_options *options, const char *company,
		     struct iris_error *error);

/* The same with the options of the loaded configuration (vault_module.c). */
bool vault_open(struct iris_error *error);
bool vault_upgrade(unsigned *applied_r, struct iris_error *error);
bool vault_init(const char *company, struct iris_error *error);

/* May it be written? For /readyz. Any thread. */
bool vault_is_ready(char *why, size_t size);

/* By the module runtime, main thread, with the vault open; the error names module and query. */
bool vault_queries_register(const struct iris_module *module, struct iris_error *error);
void vault_queries_unregister(const struct iris_module *module);

/* --- statements (vault_statement.c) --- */

bool statement_register(struct iris_query *query, struct iris_error *error);
void statement_unregister(struct iris_query *query);
void statements_open(const struct iris_vault_engine *engine);
void statements_close(void);

/*
 * Calls fn for each parameter that is sealed, of all declared writes, those of modules that have
 * gone too. Main thread.
 */
void statements_each_sealed(void (*fn)(const struct vault_statement *statement, unsigned param,
				       void *arg),
			    void *arg);

static inline const struct vault_statement *
statement_of(const struct iris_query *query)
{
	IRIS_ASSERT(query->prepared);
	return query->prepared;
}

/* --- what is in transit (vault_transit.c) --- */

/* May it keep something, as far as its declaration tells? */
bool transit_keeps(const struct vault_statement *statement);
/* Is it not to be written now? Counts, and warns. */
bool transit_refuses(const struct vault_statement *statement);

/* --- schema (vault_schema.c); main thread, engine open, not started --- */

/* One migration, embedded at build time (tools/migrations makes the table). */
struct vault_migration {
	unsigned number;
	const char *name, *sql;
};
extern const struct vault_migration vault_migrations[]; /* ends with number 0; ascending */

/* May it be served? Fails for a store that is empty, of another version, or an unfinished copy. */
bool schema_check(const struct iris_vault_engine *engine, struct iris_error *error);
bool schema_check_version(const struct iris_vault_engine *engine, struct iris_error *error);
bool schema_upgrade(const struct iris_vault_engine *engine, unsigned *applied_r,
		    struct iris_error *error);
bool schema_is_absent(const struct iris_vault_engine *engine, bool *absent_r,
		      struct iris_error *error);
/*
 * Reads one row's integer or bytes of a blocking query; false with *found_r false when there is no
 * row.
 */
bool schema_read_int(const struct iris_vault_engine *engine, const char *sql, int64_t *value_r,
		     struct iris_error *error);

/* --- moving to another engine (vault_copy.c); main thread, the server is down --- */

enum vault_copy_step {
	VAULT_COPY_BEGINS,
	VAULT_COPY_GOES_ON, /* an unfinished copy was found */
	VAULT_COPY_ROWS,
	VAULT_COPY_COMPARES,
	VAULT_COPY_ENDS,
};

struct vault_copy_progress {
	enum vault_copy_step step;
	/* Of ROWS and COMPARES: */
	struct iris_str table;
	int64_t rows, bytes; /* of this table, until now and in this run */
	bool done;           /* with this table */
};

struct vault_copy_watch {
	void (*fn)(const struct vault_copy_progress *progress, void *arg);
	void *arg;
};

/*
 * Copies a region, row by row as it is kept (sealed stays sealed), and compares. Ended by whatever
 * it was, it goes on when it is called again.
 */
bool vault_copy_with(const struct iris_vault_engine *from, const struct iris_vault_engine *to,
		     const struct vault_copy_watch *watch, struct iris_error *error);
/* From the engine of the loaded configuration to the one with this name (vault_module.c). */
bool vault_copy(const char *to, const struct vault_copy_watch *watch, struct iris_error *error);
/* Fails for a store that is a copy and not complete. The table must be there. */
bool copy_check_finished(const struct iris_vault_engine *engine, struct iris_error *error);

/* See the engine's scrub(); blocks. */
bool vault_scrub(const char *table, struct iris_error *error);

/* --- keys (vault_keys.c) --- */

#define VAULT_KEY_SIZE 32
#define VAULT_OWNER_REGION 0 /* owns the region's own keys, no rows */

struct vault_key {
	uint32_t id;
	iris_owner owner;
	_Atomic int64_t uses; /* records sealed with it; of copies, as it was */
	int64_t uses_told;    /* by keys_next_used() */
	unsigned char bytes[VAULT_KEY_SIZE];
};

/* The master key file (vault_master.c): 64 hexadecimal digits, mode 0400 or 0600. */
/* Is it in the folder of systemd's credentials, which nobody else can enter? */
bool path_is_credential(const char *path);
bool keys_master_create(const char *path, struct iris_error *error);
bool master_load(const char *path, unsigned char root_r[VAULT_KEY_SIZE],
		 struct iris_error *error);
bool keys_open(const struct vault_options *options, struct iris_error *error); /* engine open */
bool keys_init(const struct vault_options *options, const char *company, struct iris_error *error);
void keys_close(void); /* wipes */
bool keys_have_owner(iris_owner owner); /* any thread */
/* Why there is no key: ERASED when it was destroyed, else REFUSED. Any thread. */
enum iris_vault_result keys_refusal(iris_owner owner);
/* Has an owner older keys that rows may be sealed with, replaced by one younger than `upto`? */
bool keys_need_reseal(uint32_t upto);
uint32_t keys_newest(void); /* the highest id of a key */
/* Copies the key that seals for this owner, or the key of a record; wipe the copy. Any thread. */
bool keys_current(iris_owner owner, struct vault_key *key_r);
bool keys_by_id(uint32_t id, struct vault_key *key_r);
/* Changes whenever a key is added or erased: copies older than that are stale. */
unsigned keys_generation(void);
/* The region's secret for hashing addresses: the same for the life of the region. */
void keys_peer_secret(unsigned char secret_r[VAULT_KEY_SIZE]);

/* A company's coming, the renewal of its key, its end (P7.3). Fiber; they wait for the commit. */
enum iris_vault_result vault_owner_create(struct iris_str name, iris_owner *owner_r);
enum iris_vault_result vault_owner_rotate(iris_owner owner);
enum iris_vault_result vault_owner_erase(iris_owner owner);
/*
 * Wraps every key with the master key in this file, which is made when it is not there. From the
 * next start on it is the one that opens the store. BUSY from any of these four: another of them
 * is under way.
 */
enum iris_vault_result vault_master_change(const char *path, struct iris_error *error);

/* After vault_owner_erase(): the wrapped keys lie in no file of the store any more. Fiber. */
bool keys_scrub(struct iris_error *error);
/* By the threads that seal, now and then: so many records more under this key. Any thread. */
void keys_count_uses(uint32_t id, unsigned uses);
/* The next key behind `after` that seals and was used since it was told last; 0: none. */
uint32_t keys_next_used(uint32_t after, iris_owner *owner_r, int64_t *uses_r);

/* --- how often a key was used (vault_usage.c) --- */

bool usage_open(struct iris_error *error);
void usage_start(void); /* main thread; watches from then on */
void usage_close(void);
/* Writes down what was counted, and replaces keys that were used too often. Fiber. */
void usage_look(void);

/* --- what was sealed with older keys (vault_reseal.c) --- */

bool reseal_open(const struct iris_vault_engine *engine, struct iris_error *error);
void reseal_close(void);
void reseal_begin(void);     /* fiber; it goes on in the background, on the main thread */
bool reseal_is_running(void); /* main thread */

/* The commands `key …` (vault_commands.c); the list ends with NULL. */
extern const struct iris_command *const vault_key_commands[];
bool key_commands_open(struct iris_error *error);

/* --- sealing (vault_seal.c); any thread --- */

#define SEAL_OVERHEAD 36

/* What a record is bound to. */
struct seal_binding {
	struct iris_str table, column;
	const struct iris_value *const *row; /* the row's key fields */
	unsigned row_count;
	iris_owner owner;
};

bool seal_start(struct iris_error *error); /* fetches the algorithms */
/* AES-256-GCM with this key set; NULL: no memory. */
EVP_CIPHER_CTX *seal_cipher_new(const unsigned char key[VAULT_KEY_SIZE], bool encrypt);
void seal_stop(void);
/* out has room for len + SEAL_OVERHEAD. False: no key of this owner. */
bool seal_record(const struct seal_binding *binding, struct iris_str plain, char *out);
/*
 * out has room for len - SEAL_OVERHEAD. False: not of this place, not of this owner, no key, or
 * altered.
 */
bool seal_open_record(const struct seal_binding *binding, struct iris_str record, char *out);
/* The id of the key that a record is sealed with; false: it is no record. */
bool seal_key_of(struct iris_str record, uint32_t *key_id_r);
/* A key under the master: its wrapped form is a record, too, bound to id, owner and purpose. */
bool seal_wrap_key(const unsigned char kek[VAULT_KEY_SIZE], const struct vault_key *key,
		   struct iris_str purpose,
		   unsigned char wrapped_r[VAULT_KEY_SIZE + SEAL_OVERHEAD]);
bool seal_unwrap_key(const unsigned char kek[VAULT_KEY_SIZE], struct iris_str wrapped,
		     struct iris_str purpose, struct vault_key *key);
bool seal_derive_key(const unsigned char root[VAULT_KEY_SIZE], const char *info,
		     unsigned char key_r[VAULT_KEY_SIZE]);
/* HMAC-SHA256 under the region's secret, shortened to 63 bits and never 0. */
int64_t seal_hash_peer(struct iris_str bare_jid);

/* --- metrics (vault_module.c) --- */

enum vault_metric {
	VAULT_METRIC_QUEUED,
	VAULT_METRIC_AGE,
	VAULT_METRIC_LIMIT,
	VAULT_METRIC_ROWS,
	VAULT_METRIC_FAILED,
	VAULT_METRIC_BUSY,
	VAULT_METRIC_REFUSED,
	VAULT_METRIC_TRANSIT,
	VAULT_METRIC_READS,
	VAULT_METRIC_READS_FAILED,
	VAULT_METRIC_TAIL,
	VAULT_METRIC_RESEALED,
	VAULT_METRIC_CLOCK_AHEAD,
	VAULT_METRIC_COUNT,
};
extern struct iris_metric vault_metrics[VAULT_METRIC_COUNT + 1];

/* --- writes (vault_write.c) --- */

void writes_start(const struct vault_options *options);
void writes_stop(void);          /* the workers have stopped */
/* Metrics; any thread. */
int64_t writes_oldest_age_ms(void);
int64_t writes_limit_rows(void);
bool writes_are_refused(void);   /* closed, or none at an edge (P2.7) */
/* Hands over what this worker has posted in this turn; the sequence that a read must wait for. */
uint64_t writes_flush(void);
/* A batch of the vault's own statements, which no owner has. */
struct iris_batch *batch_new_own(void);
/* Posts as vault_post() does, and gives the unit, so that it can be marked and extended at once. */
enum iris_vault_result writes_post_log(const struct vault_statement *statement,
				       const struct iris_log_entry *entry,
				       const struct iris_value *params, struct iris_ticket *ticket,
				       struct vault_unit **unit_r);
void writes_extend(struct vault_unit *unit, const struct vault_statement *statement,
		   const struct iris_value *params);
/* Posts a statement of the vault's own, without regard to owner and limits. */
void writes_post_own(const struct iris_query *query, const struct iris_value *params,
		     struct iris_ticket *ticket);

/* Groups built outside a worker's turn (the log's index). */
struct vault_group *group_new(void);
struct vault_unit *group_add_unit(struct vault_group *group);
struct iris_value *unit_add_call(struct vault_group *group, struct vault_unit *unit,
				 const struct vault_statement *statement); /* values to fill */
void group_clear(struct vault_group *group); /* to be filled again */
void group_free(struct vault_group **group_p);

/* --- reads (vault_read.c) --- */

void reads_start(const struct iris_vault_engine *engine); /* NULL: no more */
/* Runs the calls and waits (fiber). The rows are the caller's to free, also on failure. */
enum iris_vault_result reads_run(struct vault_read_call *calls, unsigned count, const char *what);
/* Decodes and opens one call's rows into the arena. */
enum iris_vault_result reads_decode(const struct vault_read_call *call, iris_owner owner,
				    struct iris_arena *arena, struct iris_rows *rows_r);

/* --- ids (vault_ids.c) --- */

/* What is there already is read, and a window reserved; makes the log's parts, too. */
bool ids_open(const struct iris_vault_engine *engine, struct iris_error *error);
void ids_start(void); /* main thread: watches the clock from now on */
void ids_stop(const struct iris_vault_engine *engine); /* main thread; before the engine stops */
/* For tests: what Unix time in milliseconds is taken from; NULL: from the worker. */
void ids_set_clock(int64_t (*now_ms)(void));
int64_t ids_now(void);      /* the first id of this millisecond. Any thread */
int64_t ids_position(void); /* the log's time: that, or the last id that was given */

/* --- the log's age and its parts (vault_parts.c) --- */

bool parts_open(const struct iris_vault_engine *engine, int64_t position, struct iris_error *error);
int64_t parts_covered(void); /* ids below it may be given. Any thread */
int64_t parts_first(void);   /* of ids below it nothing must be written. Any thread */
bool parts_are_dropped(void); /* no entry need be removed for its age */
/* False: the clock has leapt: nothing is removed for its age for a day. Index's thread, main. */
bool age_is_trusted(void);
void age_trust(void); /* the clock is right as it is now (at the start; in tests) */
void age_distrust(int64_t leap_ms);
void parts_tick(void);  /* on the index's thread: makes and drops what is due */
void parts_watch(void); /* main thread: wakes that one when something is */
int64_t log_horizon(void); /* entries with ids below it are not to be read; 0: none. Any thread */

/* --- the log (vault_log.c, vault_log_change.c) --- */

/* The columns of the table, and what an entry's body is bound to. */
#define VAULT_LOG_KEY "id reader peer flags"
#define VAULT_LOG_COLUMNS                                                                     \
	{ { "id", IRIS_INT },   { "owner", IRIS_INT }, { "reader", IRIS_INT },                \
	  { "peer", IRIS_INT }, { "flags", IRIS_INT }, { "body", IRIS_SEALED } }

bool vault_log_open(struct iris_error *error);
bool log_changes_open(struct iris_error *error);

/* --- its index (vault_index.c) --- */

struct tail_entry {
	int64_t id, peer;
	uint32_t flags;
};

bool vault_index_open(const struct iris_vault_engine *engine, struct iris_error *error);
bool vault_index_start(struct iris_error *error); /* the thread that fills it */
void vault_index_stop(void);                      /* before the engine stops */
void vault_index_close(void);
/* Its write failed, or it is removed. */
void vault_index_forget(int64_t reader, int64_t id);
void vault_log_index_now(void); /* fills the index and waits for it: for tests and tools */
void vault_index_wake(void);    /* its thread looks at what is due. Any thread */
/* False: the index has passed this id, its rows must be written along: index_with(). */
bool tail_add(int64_t reader, const struct tail_entry *entry);
void index_with(struct vault_unit *unit, int64_t reader, const struct tail_entry *entry);
bool tail_is_full(void);
/*
 * The first `want` ids in the tail that match, in the direction of the query, whose ids are its
 * only bounds.
 */
int64_t *tail_find_ids(const struct iris_log_query *query, size_t want, struct iris_arena *arena,
		       size_t *count_r);

#endif
