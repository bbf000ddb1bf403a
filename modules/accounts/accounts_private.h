/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files of the accounts module: passwords and verifiers (pure), throttling (pure),
 * the store (vault), commands.
 */
#ifndef ACCOUNTS_PRIVATE_H
#define ACCOUNTS_PRIVATE_H

#include "iris/auth.h"
#include "iris/module.h"
#include "modules/unique/unique.h"

enum accounts_option {
	OPTION_LENGTH_MIN, OPTION_CLASSES, OPTION_ITERATIONS, OPTION_ADMINISTRATORS,
	OPTION_ACCOUNT_TRIES, OPTION_ADDRESS_TRIES, OPTION_DELAY, OPTION_LOCK, OPTION_MEMORY,
};

extern struct iris_module_self accounts_self;
unsigned accounts_iterations(void); /* of new verifiers */

#define OPERATOR_NODE "irisctl" /* of the account that irisctl init makes */

/* --- passwords: password.c --- */

#define PASSWORD_LENGTH_MAX 64 /* characters, P3.2 */

struct password_rules {
	unsigned length_min; /* characters */
	unsigned classes;    /* of lower case, upper case, digits, others */
};
/* A prepared password (password_prepare). NULL: it will do; else why not, for people. */
const char *password_refusal(struct iris_str password, const struct password_rules *rules);

/* --- verifiers: credentials.c --- */

#define CREDENTIAL_SALT_SIZE 16
#define CREDENTIAL_KEY_MAX 64
#define CREDENTIAL_HASHES 3

/* In this order: SCRAM-SHA-512, SCRAM-SHA-256, SCRAM-SHA-1. */
struct credential_hash {
	const char *mechanism;
	unsigned key_size;
};
const struct credential_hash *credential_hash_at(size_t i);

/* RFC 5802 §3 from a prepared password; CPU-heavy (pool_call). False: OpenSSL failed. */
IRIS_MUST_CHECK bool credential_derive(struct iris_arena *arena, const struct credential_hash *hash,
				       struct iris_str password, struct iris_str salt,
				       unsigned iterations, struct iris_scram *scram_r);
/* Does the password give this verifier? CPU-heavy; compares in constant time. */
bool credential_matches(const struct credential_hash *hash, const struct iris_scram *scram,
			struct iris_str password);
/* As it is kept (before sealing), and back; false: not a verifier we would ever have made. */
struct iris_str credential_encode(struct iris_arena *arena, const struct iris_scram *scram);
IRIS_MUST_CHECK bool credential_decode(struct iris_str bytes, const struct credential_hash *hash,
				       struct iris_scram *scram_r);
/* RFC 5803: "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", in base64; false: it is not. */
IRIS_MUST_CHECK bool credential_parse(struct iris_arena *arena, struct iris_str text,
				      struct iris_scram *scram_r);
/*
 * The verifier of an account that is not there, or has none for this hash: always the same for the
 * same seed, not to be told from a real one by its look, and matched by no password.
 */
void credential_make_up(struct iris_arena *arena, const struct credential_hash *hash,
			struct iris_str seed, unsigned iterations, struct iris_scram *scram_r);

/* --- throttling: throttle.c --- */

struct throttle; /* one table, of one worker */

struct throttle_policy {
	unsigned tries;    /* before the lock; 0: no throttling */
	int64_t delay_ms;  /* the first delay, doubled with every failure; 0: none */
	int64_t lock_ms, memory_ms;
};

#define THROTTLE_FREE_TRIES 3 /* failures before it gets slow */
#define THROTTLE_DELAY_MAX_MS 8000
#define THROTTLE_LOCKED (-1)

struct throttle *throttle_new(size_t entries_max);
void throttle_free(struct throttle **throttle_p);
/*
 * May an attempt be made? Milliseconds to wait before it, or THROTTLE_LOCKED. It counts as failed
 * until throttle_forgive() says otherwise, so that many attempts at once are no way around.
 */
int64_t throttle_begin(struct throttle *throttle, struct iris_str key,
		       const struct throttle_policy *policy, int64_t now_ms);
/* It was no guess after all: takes back this one attempt, or all. */
void throttle_forgive(struct throttle *throttle, struct iris_str key, bool all);
size_t throttle_count(const struct throttle *throttle);
/* The key of a source address: an IPv6 address counts by its /64, which one customer has. */
struct iris_str throttle_address_key(struct iris_arena *arena, struct iris_str address);

/* The same on the fiber, at the homes of account and address, with the options' policies. */
enum iris_auth_result accounts_attempt(const struct iris_jid *jid, struct iris_str address);
void accounts_attempt_result(const struct iris_jid *jid, struct iris_str address, bool success);
void accounts_throttle_free(void);

/* --- the store: accounts_store.c (fiber) --- */

extern struct iris_query *const accounts_queries[];

enum iris_condition accounts_condition(enum iris_vault_result result);
bool accounts_find(const struct iris_jid *jid, struct iris_account *account_r);
/* outdated_r: with today's options other verifiers would be made. */
bool accounts_load(struct iris_arena *arena, const struct iris_jid *jid,
		   struct iris_credentials *credentials_r, bool *outdated_r);
bool accounts_credentials(struct iris_arena *arena, const struct iris_jid *jid,
			  struct iris_credentials *credentials_r);
/* New verifiers for the hashes wanted, or none of the account's rows. */
struct accounts_verifiers {
	struct iris_scram scram[CREDENTIAL_HASHES];
	size_t count;
};
/* An e-mail address that is held for this account (unique_hold()). */
struct accounts_email {
	struct iris_str address; /* prepared */
	struct unique_claim claim;
};
/* email: NULL, or kept with it. */
enum iris_condition accounts_insert(const struct iris_jid *jid, enum iris_role role,
				    const struct accounts_verifiers *verifiers,
				    const struct accounts_email *email);
enum iris_condition accounts_update(const struct iris_jid *jid,
				    const struct accounts_verifiers *verifiers);
enum iris_condition accounts_update_locked(const struct iris_jid *jid, bool locked);
/*
 * An account that goes: it is locked and written down in one transaction, its rows are removed, it
 * is deleted with its verifiers, and crossed out. next: the one behind this id; its id is 0 when
 * there is none; false: the vault failed.
 */
enum iris_condition accounts_erasure_begin(const struct iris_jid *jid,
					   struct iris_account *account_r);
enum iris_condition accounts_delete(const struct iris_jid *jid, const struct iris_account *account);
enum iris_condition accounts_erasure_end(const struct iris_jid *jid,
					 const struct iris_account *account);
IRIS_MUST_CHECK bool accounts_erasure_next(struct iris_arena *arena, int64_t after,
					   struct iris_str *jid_r, struct iris_account *account_r);
void accounts_logged_out(const struct iris_user *user, struct iris_str status);
bool accounts_last_status(struct iris_arena *arena, const struct iris_account *account,
			  struct iris_str *status_r);

struct accounts_entry {
	struct iris_str jid;
	struct iris_account account;
};
#define ACCOUNTS_PAGE_MAX 1000
/* In order of the JIDs, behind `after` (may be empty); owner 0: of all companies. */
bool accounts_page(struct iris_arena *arena, struct iris_str after, iris_owner owner, size_t limit,
		   struct accounts_entry **entries_r, size_t *count_r);

/* --- management: accounts_manage.c (fiber) --- */

enum iris_auth_result accounts_check_password(const struct iris_jid *jid, struct iris_str password,
					      struct iris_account *account_r);
struct accounts_new {
	struct iris_jid jid;
	struct iris_str password;
	enum iris_role role;
	struct iris_str email; /* none: it has no address */
};
/* The text is a constant, or in the arena. */
enum iris_condition accounts_create_as(struct iris_arena *arena, const struct accounts_new *new,
				       const char **text_r);
/* The same with verifiers (RFC 5803, spaces between): SHA-512 and SHA-256, SHA-1 if there is one.
 */
enum iris_condition accounts_adopt(const struct iris_jid *jid, struct iris_str verifiers,
				   enum iris_role role, const char **text_r);
enum iris_condition accounts_create(const struct iris_jid *jid, struct iris_str password,
				    const char **text_r);
enum iris_condition accounts_set_password(const struct iris_jid *jid, struct iris_str password,
					  const char **text_r);
enum iris_condition accounts_set_locked(const struct iris_jid *jid, bool locked);
void accounts_close_sessions(const struct iris_jid *jid);
/* Forgets what signs in without a password. */
void accounts_secure(const struct iris_jid *jid);

/* --- e-mail addresses: email.c (fiber); texts are constants, or in the arena --- */

extern struct iris_query email_query_find, email_query_get, email_query_hash, email_query_whose,
	email_query_stale, email_query_page, email_query_put, email_query_rename, email_query_drop;

/* Takes and holds it for somebody, in all regions; unique_settle() must follow. */
enum iris_condition email_take(struct iris_arena *arena, struct iris_str text,
			       struct accounts_email *email_r, const char **text_r);
/* The row of an account that is being made, or deleted, in this batch. */
void email_batch_put(struct iris_batch *batch, int64_t account, iris_owner owner,
		     const struct accounts_email *email);
void email_batch_drop(struct iris_batch *batch, int64_t account);
enum iris_condition email_set(struct iris_arena *arena, const struct iris_jid *jid,
			      struct iris_str text, const char **text_r);
enum iris_condition email_remove(const struct iris_jid *jid, const char **text_r);
/* None: it has none. False: the vault failed. */
IRIS_MUST_CHECK bool email_of(struct iris_arena *arena, const struct iris_account *account,
			      struct iris_str *address_r);
/* Whose it is, in this region. */
enum iris_condition email_find(struct iris_arena *arena, struct iris_str text,
			       struct iris_str *jid_r, const char **text_r);
IRIS_MUST_CHECK bool email_start(struct iris_error *error); /* main thread */
void email_stop(void);

/* --- accounts that go: erasure.c (fiber) --- */

enum iris_condition accounts_remove(const struct iris_jid *jid);
bool accounts_erasures_resume(struct iris_error *error); /* main thread: on a fiber of its own */

/* --- certificates: certificate.c --- */

bool accounts_certificate_jid(struct iris_arena *arena, void *x509, struct iris_host *host,
			      struct iris_jid *jid_r);

/* --- commands: accounts_commands.c --- */

extern const struct iris_command *const accounts_commands[];

#endif
