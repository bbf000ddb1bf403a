/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of files: who has one, where it is in its life, and how its bytes are sealed.  Fiber of
 * any worker; waits for the vault.  Moves between states are conditional updates, so that two who
 * want the same one are told apart.  Knows neither the store nor HTTP.
 *
 * The id is a keyed hash of the token: who reads the store cannot make a link of it.
 */
#include "modules/files/files_private.h"

#define COLUMNS_PLAIN \
	{ "id", IRIS_INT }, { "owner", IRIS_INT }, { "account", IRIS_INT }, { "state", IRIS_INT }, \
	{ "purpose", IRIS_INT }, { "size", IRIS_INT }, { "segment", IRIS_INT }, \
	{ "created", IRIS_INT }, { "expires", IRIS_INT }, { "scanned", IRIS_INT }, \
	{ "until", IRIS_INT }
#define SELECT_PLAIN \
	"SELECT id, owner, account, state, purpose, size, segment, created, expires, scanned, " \
	"until FROM files "

const char *const file_state_names[FILE_STATES] = {
	[FILE_SLOT] = "slot",
	[FILE_UPLOADING] = "uploading",
	[FILE_PENDING] = "pending",
	[FILE_CLEAN] = "clean",
	[FILE_INFECTED] = "infected",
	[FILE_UNSCANNABLE] = "unscannable",
	[FILE_QUARANTINED] = "quarantined",
};

static struct iris_query query_find = {
	.name = "files.find", .table = "files",
	.sql = SELECT_PLAIN "WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_open = {
	.name = "files.open", .table = "files", .key = "id",
	.sql = "SELECT id, token, name, type, file_key FROM files WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "token", IRIS_SEALED }, { "name", IRIS_SEALED },
		     { "type", IRIS_SEALED }, { "file_key", IRIS_SEALED } },
};
static struct iris_query query_insert = {
	.name = "files.insert", .table = "files", .key = "id", .write = true,
	.sql = "INSERT INTO files (id, owner, account, state, purpose, size, segment, created, "
	       "expires, scanned, until, token, name, type) "
	       "VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, 0, $9, $10, $11, $12)",
	.params = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "account", IRIS_INT },
		    { "state", IRIS_INT }, { "purpose", IRIS_INT }, { "size", IRIS_INT },
		    { "created", IRIS_INT }, { "expires", IRIS_INT }, { "until", IRIS_INT },
		    { "token", IRIS_SEALED }, { "name", IRIS_SEALED }, { "type", IRIS_SEALED } },
};
static struct iris_query query_claim = {
	.name = "files.claim", .table = "files", .key = "id", .write = true,
	.sql = "UPDATE files SET state = 1, file_key = $2, expires = $3 "
	       "WHERE id = $1 AND state = 0",
	.params = { { "id", IRIS_INT }, { "file_key", IRIS_SEALED }, { "expires", IRIS_INT } },
};
static struct iris_query query_stored = {
	.name = "files.stored", .table = "files", .write = true,
	.sql = "UPDATE files SET state = $2, segment = $3, expires = $4 "
	       "WHERE id = $1 AND state = 1",
	.params = { { "id", IRIS_INT }, { "state", IRIS_INT }, { "segment", IRIS_INT },
		    { "expires", IRIS_INT } },
};
static struct iris_query query_move = {
	.name = "files.move", .table = "files", .write = true,
	.sql = "UPDATE files SET state = $2, scanned = $3 WHERE id = $1 AND state = $4",
	.params = { { "id", IRIS_INT }, { "state", IRIS_INT }, { "scanned", IRIS_INT },
		    { "before", IRIS_INT } },
};
static struct iris_query query_empty = {
	.name = "files.empty", .table = "files", .write = true,
	.sql = "UPDATE files SET state = $2, size = 0, file_key = NULL WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "state", IRIS_INT } },
};
static struct iris_query query_erase = {
	.name = "files.erase", .table = "files", .write = true,
	.sql = "DELETE FROM files WHERE id = $1",
	.params = { { "id", IRIS_INT } },
};
static struct iris_query query_expire_account = {
	.name = "files.expire_account", .table = "files", .write = true,
	.sql = "UPDATE files SET expires = 1 WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};
static struct iris_query query_expire = {
	.name = "files.expire", .table = "files", .write = true,
	.sql = "UPDATE files SET expires = 1 WHERE id = $1 AND account = $2",
	.params = { { "id", IRIS_INT }, { "account", IRIS_INT } },
};
static struct iris_query query_expire_cut = {
	.name = "files.expire_cut", .table = "files", .write = true,
	.sql = "UPDATE files SET expires = 1 WHERE state = 1 AND created < $1",
	.params = { { "before", IRIS_INT } },
};
static struct iris_query query_usage = {
	.name = "files.usage", .table = "file_usage",
	.sql = "SELECT bytes, files FROM file_usage WHERE owner = $1 AND account = $2",
	.params = { { "owner", IRIS_INT }, { "account", IRIS_INT } },
	.columns = { { "bytes", IRIS_INT }, { "files", IRIS_INT } },
};
static struct iris_query query_usage_add = {
	.name = "files.usage_add", .table = "file_usage", .write = true,
	.sql = "INSERT INTO file_usage (owner, account, bytes, files) VALUES ($1, $2, $3, $4) "
	       "ON CONFLICT (owner, account) DO UPDATE SET "
	       "bytes = file_usage.bytes + excluded.bytes, "
	       "files = file_usage.files + excluded.files",
	.params = { { "owner", IRIS_INT }, { "account", IRIS_INT }, { "bytes", IRIS_INT },
		    { "files", IRIS_INT } },
};
static struct iris_query query_usage_tidy = {
	.name = "files.usage_tidy", .table = "file_usage", .write = true,
	.sql = "DELETE FROM file_usage WHERE owner = $1 AND account = $2 AND files <= 0",
	.params = { { "owner", IRIS_INT }, { "account", IRIS_INT } },
};
static struct iris_query query_expired = {
	.name = "files.expired", .table = "files",
	.sql = SELECT_PLAIN "WHERE expires > 0 AND expires <= $1 ORDER BY expires LIMIT $2",
	.params = { { "now", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_pending = {
	.name = "files.pending", .table = "files",
	.sql = SELECT_PLAIN "WHERE state = 2 AND scanned = 0 AND id > $1 ORDER BY id LIMIT $2",
	.params = { { "after", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_outdated = {
	.name = "files.outdated", .table = "files",
	.sql = SELECT_PLAIN "WHERE state = 3 AND scanned < $1 ORDER BY scanned, id LIMIT $2",
	.params = { { "number", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_account = {
	.name = "files.account", .table = "files",
	.sql = SELECT_PLAIN "WHERE account = $1 AND created < $2 ORDER BY created DESC LIMIT $3",
	.params = { { "account", IRIS_INT }, { "before", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_state = {
	.name = "files.state", .table = "files",
	.sql = SELECT_PLAIN "WHERE state = $1 ORDER BY scanned, id LIMIT $2",
	.params = { { "state", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { COLUMNS_PLAIN },
};
static struct iris_query query_signatures = {
	.name = "files.signatures", .table = "file_signatures",
	.sql = "SELECT number FROM file_signatures WHERE print = $1",
	.params = { { "print", IRIS_INT } },
	.columns = { { "number", IRIS_INT } },
};
static struct iris_query query_signatures_add = {
	.name = "files.signatures_add", .table = "file_signatures", .write = true,
	.sql = "INSERT INTO file_signatures (print, number) VALUES ($1, $2) "
	       "ON CONFLICT (print) DO NOTHING",
	.params = { { "print", IRIS_INT }, { "number", IRIS_INT } },
};

struct iris_query *const file_queries[] = {
	&query_find, &query_open, &query_insert, &query_claim, &query_stored, &query_move,
	&query_empty, &query_erase, &query_expire, &query_expire_account, &query_expire_cut,
	&query_usage,
	&query_usage_add, &query_usage_tidy, &query_expired, &query_pending, &query_outdated,
	&query_account,
	&query_state, &query_signatures, &query_signatures_add, NULL,
};

/* --- reading --- */

int64_t
file_id_of(struct iris_str token)
{
	return vault_peer_id(token);
}

static struct file
file_from_row(const struct iris_rows *rows, size_t row)
{
	int64_t value[11];

	for (unsigned i = 0; i < IRIS_COUNT(value); i++)
		value[i] = row_value(rows, row, i)->number;
	IRIS_ASSERT(value[3] >= 0 && value[3] < FILE_STATES);
	return (struct file){
		.id = value[0], .owner = (iris_owner)value[1], .account = value[2],
		.state = (enum file_state)value[3], .purpose = (enum file_purpose)value[4],
		.size = value[5], .segment = value[6], .created_ms = value[7],
		.expires_ms = value[8], .scanned = value[9], .until_ms = value[10],
	};
}

bool
file_find(int64_t id, struct file *file_r, bool *failed_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	enum iris_vault_result result =
		vault_read(&query_find, 0, VALUES(value_int(id)), arena, &rows);
	bool found = result == IRIS_VAULT_OK && rows.count > 0;

	if (found)
		*file_r = file_from_row(&rows, 0);
	if (failed_r)
		*failed_r = result != IRIS_VAULT_OK;
	arena_unref(&arena);
	return found;
}

bool
file_open(struct iris_arena *arena, struct file *file)
{
	struct iris_rows rows;

	if (vault_read(&query_open, file->owner, VALUES(value_int(file->id)), arena, &rows) !=
		    IRIS_VAULT_OK ||
	    rows.count == 0)
		return false;
	file->token = row_value(&rows, 0, 1)->bytes;
	file->name = row_value(&rows, 0, 2)->bytes;
	file->type = row_value(&rows, 0, 3)->bytes;
	struct iris_str key = row_value(&rows, 0, 4)->bytes;
	if (key.len == BLOB_KEY)
		memcpy(file->key, key.base, BLOB_KEY);
	return key.len == BLOB_KEY || file->state == FILE_SLOT || file->size == 0;
}

bool
file_usage_read(iris_owner owner, int64_t account, struct file_usage *usage_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	bool ok = vault_read(&query_usage, 0, VALUES(value_int(owner), value_int(account)), arena,
			     &rows) == IRIS_VAULT_OK;

	*usage_r = (struct file_usage){ 0, 0 };
	if (ok && rows.count > 0)
		*usage_r = (struct file_usage){ row_value(&rows, 0, 0)->number,
						row_value(&rows, 0, 1)->number };
	arena_unref(&arena);
	return ok;
}

static bool
file_list(const struct iris_query *query, const struct iris_value *params,
	  struct iris_arena *arena, struct file_list *list_r)
{
	struct iris_rows rows;

	*list_r = (struct file_list){ .count = 0 };
	if (vault_read(query, 0, params, arena, &rows) != IRIS_VAULT_OK)
		return false;
	list_r->files = arena_alloc(arena, rows.count * sizeof(struct file));
	for (; list_r->count < rows.count; list_r->count++)
		list_r->files[list_r->count] = file_from_row(&rows, list_r->count);
	return true;
}

bool
file_list_expired(struct iris_arena *arena, int64_t now_ms, struct file_list *list_r)
{
	return file_list(&query_expired, VALUES(value_int(now_ms), value_int(FILE_PAGE)), arena,
			 list_r);
}

bool
file_list_pending(struct iris_arena *arena, int64_t after_id, struct file_list *list_r)
{
	return file_list(&query_pending, VALUES(value_int(after_id), value_int(FILE_PAGE)), arena,
			 list_r);
}

bool
file_list_outdated(struct iris_arena *arena, int64_t number, struct file_list *list_r)
{
	return file_list(&query_outdated, VALUES(value_int(number), value_int(FILE_PAGE)), arena,
			 list_r);
}

bool
file_list_account(struct iris_arena *arena, int64_t account, int64_t before_ms,
		  struct file_list *list_r)
{
	return file_list(&query_account,
			 VALUES(value_int(account), value_int(before_ms), value_int(FILE_PAGE)),
			 arena, list_r);
}

bool
file_list_state(struct iris_arena *arena, enum file_state state, struct file_list *list_r)
{
	return file_list(&query_state, VALUES(value_int(state), value_int(FILE_PAGE)), arena,
			 list_r);
}

/* --- writing --- */

/* A batch of `by` that changes what the account, and its company, have. */
static struct iris_batch *
usage_batch(const struct file *file, iris_owner by, int64_t bytes, int64_t files)
{
	struct iris_batch *batch = batch_new(by);
	const int64_t accounts[] = { file->account, 0 };

	for (size_t i = 0; i < IRIS_COUNT(accounts); i++) {
		batch_add(batch, &query_usage_add,
			  VALUES(value_int(file->owner), value_int(accounts[i]), value_int(bytes),
				 value_int(files)));
		if (files < 0)
			batch_add(batch, &query_usage_tidy,
				  VALUES(value_int(file->owner), value_int(accounts[i])));
	}
	return batch;
}

enum iris_vault_result
file_insert(const struct file *file)
{
	struct iris_batch *batch = usage_batch(file, file->owner, file->size, 1);

	batch_add(batch, &query_insert,
		  VALUES(value_int(file->id), value_int(file->owner), value_int(file->account),
			 value_int(file->state), value_int(file->purpose), value_int(file->size),
			 value_int(file->created_ms), value_int(file->expires_ms),
			 value_int(file->until_ms), value_str(file->token),
			 value_str(file->name), value_str(file->type)));
	return batch_write(&batch);
}

static bool
changed_one(const struct iris_query *query, iris_owner owner, const struct iris_value *params)
{
	int64_t changed = 0;

	return vault_write(query, owner, params, &changed) == IRIS_VAULT_OK && changed == 1;
}

bool
file_claim(struct file *file, int64_t until_ms)
{
	blob_key_make(file->key);
	return changed_one(&query_claim, file->owner,
			   VALUES(value_int(file->id),
				  value_str((struct iris_str){ (const char *)file->key, BLOB_KEY }),
				  value_int(until_ms)));
}

bool
file_stored(const struct file *file)
{
	return changed_one(&query_stored, file->owner,
			   VALUES(value_int(file->id), value_int(file->state),
				  value_int(file->segment), value_int(file->expires_ms)));
}

bool
file_move(const struct file *file, enum file_state before)
{
	return changed_one(&query_move, file->owner,
			   VALUES(value_int(file->id), value_int(file->state),
				  value_int(file->scanned), value_int(before)));
}

/*
 * What remains of a company whose keys were destroyed must go, too: nothing that is sealed is
 * written, and the region's own company does it.
 */
static bool
remains_change(const struct file *file, int64_t files, const struct iris_query *query,
	       const struct iris_value *params)
{
	struct iris_batch *batch = usage_batch(file, IRIS_OWNER_DEFAULT, -file->size, files);

	batch_add(batch, query, params);
	return batch_write(&batch) == IRIS_VAULT_OK;
}

bool
file_empty(struct file *file, enum file_state state)
{
	bool ok = remains_change(file, 0, &query_empty,
				 VALUES(value_int(file->id), value_int(state)));

	if (ok) {
		file->size = 0;
		file->state = state;
	}
	return ok;
}

bool
file_erase(const struct file *file)
{
	return remains_change(file, -1, &query_erase, VALUES(value_int(file->id)));
}

void
file_expire(int64_t id, const struct iris_account *account, struct iris_ticket *ticket)
{
	if (vault_post(&query_expire, account->owner, VALUES(value_int(id), value_int(account->id)),
		       ticket) != IRIS_VAULT_OK)
		ticket_fail(ticket);
}

bool
file_expire_account(int64_t account)
{
	return vault_write(&query_expire_account, IRIS_OWNER_DEFAULT, VALUES(value_int(account)),
			   NULL) == IRIS_VAULT_OK;
}

bool
file_expire_cut(void)
{
	return vault_write(&query_expire_cut, IRIS_OWNER_DEFAULT,
			   VALUES(value_int(worker_wall_ms())), NULL) == IRIS_VAULT_OK;
}

int64_t
file_signatures_number(int64_t print)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	int64_t number = worker_wall_ms();
	enum iris_vault_result result =
		vault_read(&query_signatures, 0, VALUES(value_int(print)), arena, &rows);

	if (result == IRIS_VAULT_OK && rows.count > 0)
		number = row_value(&rows, 0, 0)->number;
	else if (result == IRIS_VAULT_OK)
		result = vault_write(&query_signatures_add, IRIS_OWNER_DEFAULT,
				     VALUES(value_int(print), value_int(number)), NULL);
	arena_unref(&arena);
	return result == IRIS_VAULT_OK ? number : 0;
}
