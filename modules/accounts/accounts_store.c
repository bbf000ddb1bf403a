/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts and verifiers in the vault.  On a fiber.  What changes an account runs at its home under
 * the fiber lock of its address: read, decide, write, without anybody between.
 */
#include <openssl/crypto.h>

#include "accounts_private.h"
#include "iris/sasl.h"

/* The company that vault_init() makes; modules/company gives it meaning later. */
#define OWNER_OF_REGION 1

static struct iris_query query_find = {
	.name = "accounts.find",
	.table = "accounts",
	.sql = "SELECT id, owner, role, locked, created_ms, last_logout_ms FROM accounts WHERE jid "
	       "= $1",
	.params = { { "jid", IRIS_TEXT } },
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "role", IRIS_INT },
		{ "locked", IRIS_INT }, { "created_ms", IRIS_INT },
		{ "last_logout_ms", IRIS_INT } },
};

static struct iris_query query_insert = {
	.name = "accounts.insert",
	.table = "accounts",
	.sql = "INSERT INTO accounts (id, jid, owner, role, locked, created_ms, last_logout_ms) "
	       "VALUES ($1, $2, $3, $4, 0, $5, 0)",
	.write = true,
	.params = { { "id", IRIS_INT }, { "jid", IRIS_TEXT }, { "owner", IRIS_INT },
		{ "role", IRIS_INT }, { "created_ms", IRIS_INT } },
};

static struct iris_query query_lock = {
	.name = "accounts.lock",
	.table = "accounts",
	.sql = "UPDATE accounts SET locked = $2 WHERE id = $1",
	.write = true,
	.params = { { "id", IRIS_INT }, { "locked", IRIS_INT } },
};

static struct iris_query query_logout = {
	.name = "accounts.logout",
	.table = "accounts",
	.sql = "UPDATE accounts SET last_logout_ms = $2, last_status = $3 WHERE id = $1",
	.key = "id",
	.write = true,
	.params = { { "id", IRIS_INT }, { "last_logout_ms", IRIS_INT },
		{ "last_status", IRIS_SEALED } },
};

static struct iris_query query_status = {
	.name = "accounts.status",
	.table = "accounts",
	.sql = "SELECT last_status FROM accounts WHERE id = $1",
	.key = "id",
	.params = { { "id", IRIS_INT } },
	.columns = { { "last_status", IRIS_SEALED } },
};

static struct iris_query query_delete = {
	.name = "accounts.delete",
	.table = "accounts",
	.sql = "DELETE FROM accounts WHERE id = $1",
	.write = true,
	.params = { { "id", IRIS_INT } },
};

static struct iris_query query_page = {
	.name = "accounts.page",
	.table = "accounts",
	.sql = "SELECT jid, id, owner, role, locked, created_ms, last_logout_ms FROM accounts "
	       "WHERE jid > $1 AND ($2 = 0 OR owner = $2) ORDER BY jid LIMIT $3",
	.params = { { "after", IRIS_TEXT }, { "owner", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "jid", IRIS_TEXT }, { "id", IRIS_INT }, { "owner", IRIS_INT },
		{ "role", IRIS_INT }, { "locked", IRIS_INT }, { "created_ms", IRIS_INT },
		{ "last_logout_ms", IRIS_INT } },
};

static struct iris_query query_verifiers = {
	.name = "credentials.load",
	.table = "credentials",
	.sql = "SELECT mechanism, verifier FROM credentials WHERE account = $1",
	.key = "account mechanism",
	.params = { { "account", IRIS_INT } },
	.columns = { { "mechanism", IRIS_TEXT }, { "verifier", IRIS_SEALED } },
};

static struct iris_query query_put_verifier = {
	.name = "credentials.put",
	.table = "credentials",
	.sql = "INSERT INTO credentials (account, mechanism, verifier) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account, mechanism) DO UPDATE SET verifier = excluded.verifier",
	.key = "account mechanism",
	.write = true,
	.params = { { "account", IRIS_INT }, { "mechanism", IRIS_TEXT },
		{ "verifier", IRIS_SEALED } },
};

static struct iris_query query_drop_verifiers = {
	.name = "credentials.drop",
	.table = "credentials",
	.sql = "DELETE FROM credentials WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

static struct iris_query query_erasure_begin = {
	.name = "erasures.begin",
	.table = "erasures",
	.sql = "INSERT INTO erasures (account, jid, owner, begun) VALUES ($1, $2, $3, $4) "
	       "ON CONFLICT (account) DO NOTHING",
	.write = true,
	.params = { { "account", IRIS_INT }, { "jid", IRIS_TEXT }, { "owner", IRIS_INT },
		{ "begun", IRIS_INT } },
};

static struct iris_query query_erasure_end = {
	.name = "erasures.end",
	.table = "erasures",
	.sql = "DELETE FROM erasures WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

static struct iris_query query_erasure_next = {
	.name = "erasures.next",
	.table = "erasures",
	.sql = "SELECT account, jid, owner FROM erasures WHERE account > $1 ORDER BY account "
	       "LIMIT 1",
	.params = { { "after", IRIS_INT } },
	.columns = { { "account", IRIS_INT }, { "jid", IRIS_TEXT }, { "owner", IRIS_INT } },
};

struct iris_query *const accounts_queries[] = {
	&query_find, &query_insert, &query_lock, &query_logout, &query_status, &query_delete,
	&query_page, &query_verifiers, &query_put_verifier, &query_drop_verifiers,
	&query_erasure_begin, &query_erasure_end, &query_erasure_next,
	/* of email.c */
	&email_query_find, &email_query_get, &email_query_hash, &email_query_whose,
	&email_query_stale, &email_query_page, &email_query_put, &email_query_rename,
	&email_query_drop, NULL,
};

/* Administrators are named in the configuration (checked there to be prepared bare JIDs). */
static bool
is_administrator(struct iris_str bare)
{
	const struct iris_settings *settings = atomic_load(&accounts_self.settings);
	size_t count = settings ? settings_count(settings, OPTION_ADMINISTRATORS) : 0;

	for (size_t i = 0; i < count; i++)
		if (str_equal(settings_item(settings, OPTION_ADMINISTRATORS, i), bare))
			return true;
	return false;
}

/* From six columns, beginning at `first`. */
static struct iris_account
account_from_row(const struct iris_rows *rows, size_t row, unsigned first, struct iris_str bare)
{
	struct iris_account account = {
		.id = row_value(rows, row, first)->number,
		.owner = (iris_owner)row_value(rows, row, first + 1)->number,
		.role = (enum iris_role)row_value(rows, row, first + 2)->number,
		.locked = row_value(rows, row, first + 3)->number != 0,
		.created_ms = row_value(rows, row, first + 4)->number,
		.last_logout_ms = row_value(rows, row, first + 5)->number,
	};

	if (account.role < IRIS_ROLE_SUPER_ADMIN && is_administrator(bare))
		account.role = IRIS_ROLE_SUPER_ADMIN;
	return account;
}

enum iris_condition
accounts_condition(enum iris_vault_result result)
{
	switch (result) {
	case IRIS_VAULT_OK:
		return IRIS_NO_ERROR;
	case IRIS_VAULT_BUSY:
		return IRIS_RESOURCE_CONSTRAINT;
	default:
		return IRIS_INTERNAL_SERVER_ERROR;
	}
}

bool
accounts_find(const struct iris_jid *jid, struct iris_account *account_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_str bare = jid_bare(jid);
	struct iris_rows rows;
	bool ok = vault_read(&query_find, 0, VALUES(value_str(bare)), arena, &rows) ==
		  IRIS_VAULT_OK;

	*account_r = (struct iris_account){ .id = 0 };
	if (ok && rows.count > 0)
		*account_r = account_from_row(&rows, 0, 0, bare);
	arena_unref(&arena);
	return ok;
}

/* Different for every address, the same for the life of the region, unknown outside. */
static struct iris_str
seed_of(struct iris_arena *arena, struct iris_str bare)
{
	struct iris_str seed = IRIS_STR("");

	for (int i = 0; i < 4; i++)
		seed = arena_printf(arena, "%.*s%016llx", IRIS_STR_FMT(seed),
				    (unsigned long long)vault_peer_id(arena_printf(
					    arena, "verifier %d %.*s", i, IRIS_STR_FMT(bare))));
	return seed;
}

static bool
stored_verifier(const struct iris_rows *rows, const struct credential_hash *hash,
		struct iris_scram *scram_r)
{
	for (size_t row = 0; row < rows->count; row++)
		if (str_is(row_value(rows, row, 0)->bytes, hash->mechanism))
			return credential_decode(row_value(rows, row, 1)->bytes, hash, scram_r);
	return false;
}

/* Would a verifier for this hash be made today, and is there none like it? */
static bool
is_outdated(const struct credential_hash *hash, bool is_stored, const struct iris_scram *scram)
{
	if (!is_stored)
		return strcmp(hash->mechanism, "SCRAM-SHA-1") != 0 || sasl_wants_sha1();
	return scram->iterations != accounts_iterations();
}

bool
accounts_load(struct iris_arena *arena, const struct iris_jid *jid,
	      struct iris_credentials *credentials_r, bool *outdated_r)
{
	struct iris_str seed = seed_of(arena, jid_bare(jid));
	struct iris_rows rows;
	iris_owner owner;

	*outdated_r = false;
	*credentials_r = (struct iris_credentials){ .scram_count = CREDENTIAL_HASHES };
	if (!accounts_find(jid, &credentials_r->account))
		return false;
	/* Asked for unknown accounts too: an account is not to be told by the time it takes. */
	owner = credentials_r->account.id != 0 ? credentials_r->account.owner : OWNER_OF_REGION;
	if (vault_read(&query_verifiers, owner, VALUES(value_int(credentials_r->account.id)), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	for (size_t i = 0; i < CREDENTIAL_HASHES; i++) {
		const struct credential_hash *hash = credential_hash_at(i);
		struct iris_scram *scram = &credentials_r->scram[i], made_up;
		bool is_stored = stored_verifier(&rows, hash, scram);

		/* Made whether needed or not, for the same reason. */
		credential_make_up(arena, hash, seed, accounts_iterations(), &made_up);
		*outdated_r = *outdated_r || is_outdated(hash, is_stored, scram);
		if (!is_stored)
			*scram = made_up;
	}
	return true;
}

bool
accounts_credentials(struct iris_arena *arena, const struct iris_jid *jid,
		     struct iris_credentials *credentials_r)
{
	bool outdated;

	return accounts_load(arena, jid, credentials_r, &outdated);
}

/* --- changes, at home --- */

struct change {
	const struct iris_jid *jid;
	enum iris_role role;
	const struct accounts_verifiers *verifiers;
	const struct accounts_email *email; /* of a new one; or NULL */
	bool locked;
	struct iris_account account; /* of an erasure */
	enum iris_condition condition; /* the answer */
};

static void
batch_add_verifiers(struct iris_batch *batch, int64_t account,
		    const struct accounts_verifiers *verifiers)
{
	struct iris_arena *arena = arena_new();

	for (size_t i = 0; i < verifiers->count; i++) {
		struct iris_str record = credential_encode(arena, &verifiers->scram[i]);

		batch_add(batch, &query_put_verifier,
			  VALUES(value_int(account), value_str(verifiers->scram[i].mechanism),
				 value_str(record)));
		OPENSSL_cleanse((void *)(uintptr_t)record.base, record.len);
	}
	arena_unref(&arena);
}

/* Takes the lock and looks: is there such an account? */
static bool
change_begin(struct change *change, struct iris_account *account_r)
{
	fiber_lock(jid_bare(change->jid));
	change->condition = IRIS_NO_ERROR;
	if (!accounts_find(change->jid, account_r))
		change->condition = IRIS_INTERNAL_SERVER_ERROR;
	else if (account_r->id == 0)
		change->condition = IRIS_ITEM_NOT_FOUND;
	return change->condition == IRIS_NO_ERROR;
}

static void
change_end(struct change *change)
{
	fiber_unlock(jid_bare(change->jid));
}

static void
insert_at_home(void *arg)
{
	struct change *change = arg;
	struct iris_account account;

	if (change_begin(change, &account)) {
		change->condition = IRIS_CONFLICT;
	} else if (change->condition == IRIS_ITEM_NOT_FOUND) {
		int64_t id = vault_next_id(IRIS_SEQ_ACCOUNT);
		struct iris_batch *batch = batch_new(OWNER_OF_REGION);

		batch_add(batch, &query_insert,
			  VALUES(value_int(id), value_str(jid_bare(change->jid)),
				 value_int(OWNER_OF_REGION), value_int(change->role),
				 value_int(worker_wall_ms())));
		batch_add_verifiers(batch, id, change->verifiers);
		if (change->email)
			email_batch_put(batch, id, OWNER_OF_REGION, change->email);
		change->condition = accounts_condition(batch_write(&batch));
	}
	change_end(change);
}

static void
update_at_home(void *arg)
{
	struct change *change = arg;
	struct iris_account account;

	if (change_begin(change, &account)) {
		struct iris_batch *batch = batch_new(account.owner);

		/* Verifiers of the old password for a hash that is off now must not stay. */
		batch_add(batch, &query_drop_verifiers, VALUES(value_int(account.id)));
		batch_add_verifiers(batch, account.id, change->verifiers);
		change->condition = accounts_condition(batch_write(&batch));
	}
	change_end(change);
}

/* Who is unlocked is wanted again: nothing more of it is erased. */
static void
lock_at_home(void *arg)
{
	struct change *change = arg;
	struct iris_account account;

	if (change_begin(change, &account)) {
		struct iris_batch *batch = batch_new(account.owner);

		batch_add(batch, &query_lock,
			  VALUES(value_int(account.id), value_int(change->locked)));
		if (!change->locked)
			batch_add(batch, &query_erasure_end, VALUES(value_int(account.id)));
		change->condition = accounts_condition(batch_write(&batch));
	}
	change_end(change);
}

/* --- erasures, at home --- */

static void
erasure_begin_at_home(void *arg)
{
	struct change *change = arg;

	if (change_begin(change, &change->account)) {
		const struct iris_value id = value_int(change->account.id);
		struct iris_batch *batch = batch_new(change->account.owner);

		batch_add(batch, &query_lock, VALUES(id, value_int(true)));
		batch_add(batch, &query_erasure_begin,
			  VALUES(id, value_str(jid_bare(change->jid)),
				 value_int(change->account.owner), value_int(worker_wall_ms())));
		change->condition = accounts_condition(batch_write(&batch));
	}
	change_end(change);
}

/* By id: the address may be another account's already. */
static void
delete_at_home(void *arg)
{
	struct change *change = arg;
	const struct iris_value id = value_int(change->account.id);
	struct iris_batch *batch = batch_new(change->account.owner);

	fiber_lock(jid_bare(change->jid));
	batch_add(batch, &query_drop_verifiers, VALUES(id));
	email_batch_drop(batch, change->account.id);
	batch_add(batch, &query_delete, VALUES(id));
	change->condition = accounts_condition(batch_write(&batch));
	change_end(change);
}

/* Behind all that was posted for it: that was at this home, too. */
static void
erasure_end_at_home(void *arg)
{
	struct change *change = arg;

	change->condition = accounts_condition(
		vault_write(&query_erasure_end, change->account.owner,
			    VALUES(value_int(change->account.id)), NULL));
}

enum iris_condition
accounts_insert(const struct iris_jid *jid, enum iris_role role,
		const struct accounts_verifiers *verifiers, const struct accounts_email *email)
{
	struct change change = {
		.jid = jid, .role = role, .verifiers = verifiers, .email = email
	};

	home_call(jid_bare(jid), "accounts: create", insert_at_home, &change);
	return change.condition;
}

enum iris_condition
accounts_update(const struct iris_jid *jid, const struct accounts_verifiers *verifiers)
{
	struct change change = { .jid = jid, .verifiers = verifiers };

	home_call(jid_bare(jid), "accounts: set password", update_at_home, &change);
	return change.condition;
}

enum iris_condition
accounts_update_locked(const struct iris_jid *jid, bool locked)
{
	struct change change = { .jid = jid, .locked = locked };

	home_call(jid_bare(jid), "accounts: lock", lock_at_home, &change);
	return change.condition;
}

enum iris_condition
accounts_erasure_begin(const struct iris_jid *jid, struct iris_account *account_r)
{
	struct change change = { .jid = jid };

	home_call(jid_bare(jid), "accounts: begin to erase", erasure_begin_at_home, &change);
	*account_r = change.account;
	return change.condition;
}

enum iris_condition
accounts_delete(const struct iris_jid *jid, const struct iris_account *account)
{
	struct change change = { .jid = jid, .account = *account };

	home_call(jid_bare(jid), "accounts: delete", delete_at_home, &change);
	return change.condition;
}

enum iris_condition
accounts_erasure_end(const struct iris_jid *jid, const struct iris_account *account)
{
	struct change change = { .jid = jid, .account = *account };

	home_call(jid_bare(jid), "accounts: erased", erasure_end_at_home, &change);
	return change.condition;
}

bool
accounts_erasure_next(struct iris_arena *arena, int64_t after, struct iris_str *jid_r,
		      struct iris_account *account_r)
{
	struct iris_rows rows;

	*account_r = (struct iris_account){ .id = 0 };
	if (vault_read(&query_erasure_next, 0, VALUES(value_int(after)), arena, &rows) !=
	    IRIS_VAULT_OK)
		return false;
	if (rows.count > 0) {
		account_r->id = row_value(&rows, 0, 0)->number;
		*jid_r = row_value(&rows, 0, 1)->bytes;
		account_r->owner = (iris_owner)row_value(&rows, 0, 2)->number;
	}
	return true;
}

void
accounts_logged_out(const struct iris_user *user, struct iris_str status)
{
	const struct iris_account *account = &user->account;

	if (vault_post(
		    &query_logout, account->owner,
		    VALUES(value_int(account->id), value_int(worker_wall_ms()), value_str(status)),
		    NULL) != IRIS_VAULT_OK)
		LOG(IRIS_LOG_WARNING, "accounts", "last-logout-lost",
		    LOG_JID("jid", jid_bare(&user->jid)));
}

bool
accounts_last_status(struct iris_arena *arena, const struct iris_account *account,
		     struct iris_str *status_r)
{
	struct iris_rows rows;

	*status_r = IRIS_STR_NONE;
	if (vault_read(&query_status, account->owner, VALUES(value_int(account->id)), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	if (rows.count > 0)
		*status_r = row_value(&rows, 0, 0)->bytes;
	return true;
}

bool
accounts_page(struct iris_arena *arena, struct iris_str after, iris_owner owner, size_t limit,
	      struct accounts_entry **entries_r, size_t *count_r)
{
	struct iris_rows rows;

	IRIS_ASSERT(limit <= ACCOUNTS_PAGE_MAX);
	if (vault_read(&query_page, 0,
		       VALUES(value_str(str_is_none(after) ? IRIS_STR("") : after),
			      value_int(owner), value_int((int64_t)limit)),
		       arena, &rows) != IRIS_VAULT_OK)
		return false;
	*count_r = rows.count;
	*entries_r = arena_alloc(arena, rows.count * sizeof(**entries_r));
	for (size_t i = 0; i < rows.count; i++) {
		struct iris_str bare = row_value(&rows, i, 0)->bytes;

		(*entries_r)[i] = (struct accounts_entry){ bare,
							   account_from_row(&rows, i, 1, bare) };
	}
	return true;
}
