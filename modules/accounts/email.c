/* SPDX-License-Identifier: Apache-2.0 */
/*
 * E-mail addresses of accounts (P3.1): one each, which no other account of all federated regions
 * has (P2.6, modules/unique).  On a fiber; rows change at the account's home, under its lock.
 *
 * Administrators set them.  People do not, while nobody finds out by mail whose an address is:
 * whoever came first would have everybody else's.
 */
#include "accounts_private.h"

#define RENEW_PAGE 200
#define RENEW_PAUSE_MS 5000

struct iris_query email_query_find = {
	.name = "emails.find", .table = "emails",
	.sql = "SELECT account FROM emails WHERE hash = $1 AND key_id = $2",
	.params = { { "hash", IRIS_TEXT }, { "key_id", IRIS_TEXT } },
	.columns = { { "account", IRIS_INT } },
};

struct iris_query email_query_get = {
	.name = "emails.get", .table = "emails",
	.sql = "SELECT address FROM emails WHERE account = $1",
	.key = "account",
	.params = { { "account", IRIS_INT } },
	.columns = { { "address", IRIS_SEALED } },
};

struct iris_query email_query_hash = {
	.name = "emails.hash", .table = "emails",
	.sql = "SELECT hash FROM emails WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "hash", IRIS_TEXT } },
};

struct iris_query email_query_whose = {
	.name = "emails.whose", .table = "emails",
	.sql = "SELECT accounts.jid FROM emails JOIN accounts ON accounts.id = emails.account "
	       "WHERE emails.hash = $1 AND emails.key_id = $2",
	.params = { { "hash", IRIS_TEXT }, { "key_id", IRIS_TEXT } },
	.columns = { { "jid", IRIS_TEXT } },
};

struct iris_query email_query_stale = {
	.name = "emails.stale", .table = "emails",
	.sql = "SELECT account FROM emails WHERE key_id < $1 OR key_id > $1 LIMIT 1",
	.params = { { "key_id", IRIS_TEXT } },
	.columns = { { "account", IRIS_INT } },
};

struct iris_query email_query_page = {
	.name = "emails.page", .table = "emails",
	.sql = "SELECT account, owner, hash FROM emails WHERE account > $1 AND key_id <> $2 "
	       "ORDER BY account LIMIT $3",
	.params = { { "after", IRIS_INT }, { "key_id", IRIS_TEXT }, { "limit", IRIS_INT } },
	.columns = { { "account", IRIS_INT }, { "owner", IRIS_INT }, { "hash", IRIS_TEXT } },
};

struct iris_query email_query_put = {
	.name = "emails.put", .table = "emails",
	.sql = "INSERT INTO emails (account, owner, hash, key_id, address) "
	       "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account) DO UPDATE SET "
	       "hash = excluded.hash, key_id = excluded.key_id, address = excluded.address",
	.key = "account",
	.write = true,
	.params = { { "account", IRIS_INT }, { "owner", IRIS_INT }, { "hash", IRIS_TEXT },
		{ "key_id", IRIS_TEXT }, { "address", IRIS_SEALED } },
};

struct iris_query email_query_rename = {
	.name = "emails.rename", .table = "emails",
	.sql = "UPDATE emails SET hash = $3, key_id = $4 WHERE account = $1 AND hash = $2",
	.write = true,
	.params = { { "account", IRIS_INT }, { "before", IRIS_TEXT }, { "hash", IRIS_TEXT },
		{ "key_id", IRIS_TEXT } },
};

struct iris_query email_query_drop = {
	.name = "emails.drop", .table = "emails",
	.sql = "DELETE FROM emails WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

/* --- rows --- */

void
email_batch_put(struct iris_batch *batch, int64_t account, iris_owner owner,
		const struct accounts_email *email)
{
	batch_add(batch, &email_query_put,
		  VALUES(value_int(account), value_int(owner),
			 value_str(str_from(email->claim.name.hash)),
			 value_str(str_from(email->claim.name.key)), value_str(email->address)));
}

void
email_batch_drop(struct iris_batch *batch, int64_t account)
{
	batch_add(batch, &email_query_drop, VALUES(value_int(account)));
}

bool
email_of(struct iris_arena *arena, const struct iris_account *account, struct iris_str *address_r)
{
	struct iris_rows rows;

	*address_r = IRIS_STR_NONE;
	if (vault_read(&email_query_get, account->owner, VALUES(value_int(account->id)), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	if (rows.count > 0)
		*address_r = row_value(&rows, 0, 0)->bytes;
	return true;
}

/* Names under another key tell nothing: not before all are renewed is one that is missing free. */
static enum unique_found
email_registry_find(const struct unique_name *name)
{
	struct iris_arena *arena = arena_new();
	struct iris_question questions[] = {
		{ &email_query_find,
		  VALUES(value_str(str_from(name->hash)), value_str(str_from(name->key))) },
		{ &email_query_stale, VALUES(value_str(str_from(name->key))) },
	};
	enum unique_found found = UNIQUE_NOT_READY;

	if (vault_ask(questions, IRIS_COUNT(questions), 0, arena) == IRIS_VAULT_OK) {
		if (questions[0].rows.count > 0)
			found = UNIQUE_FOUND;
		else if (questions[1].rows.count == 0)
			found = UNIQUE_NOT_FOUND;
	}
	arena_unref(&arena);
	return found;
}

/* --- changes --- */

static enum iris_condition
email_name(struct iris_arena *arena, struct iris_str text, struct iris_str *address_r,
	   struct unique_name *name_r, const char **text_r)
{
	if (unique_prepare_address(arena, text, address_r))
		return unique_make_name(*address_r, name_r, text_r);
	*text_r = "That is no e-mail address";
	return IRIS_NOT_ACCEPTABLE;
}

static enum iris_condition
take_and_hold(struct iris_arena *arena, const struct unique_name *name,
	      struct unique_claim *claim_r, const char **text_r)
{
	enum iris_condition condition = unique_take(arena, name, claim_r, text_r);

	if (condition != IRIS_NO_ERROR || unique_hold(claim_r))
		return condition;
	unique_settle(claim_r);
	*text_r = "Somebody else got the address in this moment";
	return IRIS_CONFLICT;
}

enum iris_condition
email_take(struct iris_arena *arena, struct iris_str text, struct accounts_email *email_r,
	   const char **text_r)
{
	struct unique_name name;
	enum iris_condition condition = email_name(arena, text, &email_r->address, &name, text_r);

	if (condition == IRIS_NO_ERROR)
		condition = take_and_hold(arena, &name, &email_r->claim, text_r);
	return condition;
}

struct email_change {
	const struct iris_jid *jid;
	const struct accounts_email *email; /* NULL: it is removed */
	enum iris_condition condition;
};

/* Under the account's lock: it may be gone since it was looked at, and leaves no row behind. */
static void
change_at_home(void *arg)
{
	struct email_change *change = arg;
	struct iris_account account;
	struct iris_batch *batch;

	fiber_lock(jid_bare(change->jid));
	change->condition = IRIS_INTERNAL_SERVER_ERROR;
	if (accounts_find(change->jid, &account))
		change->condition = account.id ? IRIS_NO_ERROR : IRIS_ITEM_NOT_FOUND;
	if (change->condition == IRIS_NO_ERROR) {
		batch = batch_new(account.owner);
		if (change->email)
			email_batch_put(batch, account.id, account.owner, change->email);
		else
			email_batch_drop(batch, account.id);
		change->condition = accounts_condition(batch_write(&batch));
	}
	fiber_unlock(jid_bare(change->jid));
}

static enum iris_condition
change_run(const struct iris_jid *jid, const struct accounts_email *email)
{
	struct email_change change = { .jid = jid, .email = email };

	home_call(jid_bare(jid), "accounts: e-mail", change_at_home, &change);
	return change.condition;
}

/* Has the account this name already, or none at all? */
static enum iris_condition
email_compare(struct iris_arena *arena, const struct iris_jid *jid, const struct unique_name *name,
	      bool *same_r, bool *any_r)
{
	struct iris_account account;
	struct iris_rows rows;

	if (!accounts_find(jid, &account))
		return IRIS_INTERNAL_SERVER_ERROR;
	if (account.id == 0)
		return IRIS_ITEM_NOT_FOUND;
	if (vault_read(&email_query_hash, 0, VALUES(value_int(account.id)), arena, &rows) !=
	    IRIS_VAULT_OK)
		return IRIS_INTERNAL_SERVER_ERROR;
	*any_r = rows.count > 0;
	*same_r = *any_r && name && str_is(row_value(&rows, 0, 0)->bytes, name->hash);
	return IRIS_NO_ERROR;
}

static void email_renew_again(void *arg);

/* Another key came while it was written: the row is made anew like all others. */
static void
email_check_key(const struct accounts_email *email)
{
	char key[REGION_SECRET_ID + 1];
	const char *text;

	if (unique_key_id(key, &text) == IRIS_NO_ERROR && strcmp(key, email->claim.name.key) != 0)
		worker_call(worker_at(WORKER_MAIN), "accounts: renew", email_renew_again, NULL);
}

enum iris_condition
email_set(struct iris_arena *arena, const struct iris_jid *jid, struct iris_str text,
	  const char **text_r)
{
	struct accounts_email email;
	struct unique_name name;
	bool same = false, any;
	enum iris_condition condition;

	*text_r = NULL;
	condition = email_name(arena, text, &email.address, &name, text_r);
	if (condition == IRIS_NO_ERROR)
		condition = email_compare(arena, jid, &name, &same, &any);
	if (condition != IRIS_NO_ERROR || same)
		return condition;
	condition = take_and_hold(arena, &name, &email.claim, text_r);
	if (condition != IRIS_NO_ERROR)
		return condition;
	condition = change_run(jid, &email);
	unique_settle(&email.claim);
	email_check_key(&email);
	return condition;
}

enum iris_condition
email_remove(const struct iris_jid *jid, const char **text_r)
{
	struct iris_arena *arena = arena_new();
	bool same, any = false;
	enum iris_condition condition = email_compare(arena, jid, NULL, &same, &any);

	*text_r = NULL;
	if (condition == IRIS_NO_ERROR && !any) {
		*text_r = "The account has no e-mail address";
		condition = IRIS_ITEM_NOT_FOUND;
	}
	if (condition == IRIS_NO_ERROR)
		condition = change_run(jid, NULL);
	arena_unref(&arena);
	return condition;
}

enum iris_condition
email_find(struct iris_arena *arena, struct iris_str text, struct iris_str *jid_r,
	   const char **text_r)
{
	struct unique_name name;
	struct iris_str address;
	struct iris_rows rows;
	enum iris_condition condition;

	*text_r = NULL;
	condition = email_name(arena, text, &address, &name, text_r);
	if (condition != IRIS_NO_ERROR)
		return condition;
	if (vault_read(&email_query_whose, 0,
		       VALUES(value_str(str_from(name.hash)), value_str(str_from(name.key))), arena,
		       &rows) != IRIS_VAULT_OK)
		return IRIS_INTERNAL_SERVER_ERROR;
	if (rows.count == 0) {
		*text_r = "No account of this region has the address";
		return IRIS_ITEM_NOT_FOUND;
	}
	*jid_r = row_value(&rows, 0, 0)->bytes;
	return IRIS_NO_ERROR;
}

/* --- another key: all names anew; main thread --- */

static bool renew_runs, renew_again;

/* The name of before is compared, so that an address that is set meanwhile keeps its own. */
static enum iris_vault_result
renew_row(struct iris_arena *arena, int64_t account, iris_owner owner, struct iris_str before)
{
	const struct iris_value id = value_int(account);
	struct iris_rows rows;
	struct unique_name name;
	const char *text;
	enum iris_vault_result result =
		vault_read(&email_query_get, owner, VALUES(id), arena, &rows);

	if (result == IRIS_VAULT_ERASED) /* nobody can read it ever again */
		return vault_write(&email_query_drop, owner, VALUES(id), NULL);
	if (result != IRIS_VAULT_OK || rows.count == 0)
		return result;
	if (unique_make_name(row_value(&rows, 0, 0)->bytes, &name, &text) != IRIS_NO_ERROR)
		return IRIS_VAULT_OK; /* no key any more: it ends by itself */
	return vault_write(&email_query_rename, owner,
			   VALUES(id, value_str(before), value_str(str_from(name.hash)),
				  value_str(str_from(name.key))),
			   NULL);
}

/* Behind *after; false: that was all. failed_r: how many could not be renewed. */
static bool
renew_page(const char *key, int64_t *after, size_t *failed_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	bool ok = vault_read(&email_query_page, 0,
			     VALUES(value_int(*after), value_str(str_from(key)),
				    value_int(RENEW_PAGE)),
			     arena, &rows) == IRIS_VAULT_OK;

	*failed_r += !ok;
	for (size_t i = 0; ok && i < rows.count && !worker_is_stopping(); i++) {
		*after = row_value(&rows, i, 0)->number;
		if (renew_row(arena, *after, (iris_owner)row_value(&rows, i, 1)->number,
			      row_value(&rows, i, 2)->bytes) == IRIS_VAULT_OK)
			continue;
		++*failed_r;
		LOG(IRIS_LOG_ERROR, "accounts", "email-not-renewed", LOG_INT("account", *after),
		    LOG_CSTR("hint", "no address can be set before; user email-remove forgets "
				     "it"));
	}
	arena_unref(&arena);
	return ok && rows.count == RENEW_PAGE && !worker_is_stopping();
}

static size_t
renew_all(void)
{
	char key[REGION_SECRET_ID + 1];
	int64_t after = 0;
	size_t failed = 0;
	const char *text;

	if (unique_key_id(key, &text) != IRIS_NO_ERROR)
		return 0; /* told again when there is one */
	while (renew_page(key, &after, &failed))
		;
	return failed;
}

static void
renew_run(void *arg)
{
	bool once_more;

	do {
		renew_again = false;
		once_more = renew_all() > 0 && fiber_sleep(RENEW_PAUSE_MS);
	} while ((once_more || renew_again) && !worker_is_stopping());
	renew_runs = false;
}

static void
email_renew(void)
{
	renew_again = true;
	if (!renew_runs) {
		renew_runs = true;
		if (!fiber_start("accounts: renew e-mail names", renew_run, NULL)) {
			renew_runs = false;
			LOG(IRIS_LOG_ERROR, "accounts", "emails-not-renewed",
			    LOG_CSTR("hint", "too many fibers; reload the configuration"));
		}
	}
}

static void
email_renew_again(void *arg)
{
	email_renew();
}

static const struct unique_registry email_registry = {
	.find = email_registry_find,
	.renew = email_renew,
};

bool
email_start(struct iris_error *error)
{
	unique_set_registry(&email_registry);
	email_renew();
	return true;
}

void
email_stop(void)
{
	unique_set_registry(NULL);
}
