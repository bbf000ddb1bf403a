/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and owners (P7.3).  The master key comes from a file; a key under it (KEK) wraps one data
 * key per owner, which are kept in the table vault_keys, and unwrapped here while the vault is
 * open, in locked memory.  Owners without a key that seals do not exist for the vault. Tables are
 * changed by one thread at a time under the write lock; reads come from any thread, and seldom:
 * sealing keeps contexts per thread (vault_seal.c), invalidated by the generation.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "iris/log.h"
#include "vault_private.h"

#define KEY_ROOT_ID 1
/* What was sealed between the last look at the counts and the end, at most. */
#define USES_UNKNOWN (INT64_C(1) << 20)

enum key_state { KEY_SEALS = 1, KEY_OPENS = 2, KEY_ERASED = 3 };

/* What must never reach a disk lies together, in pages that are locked and not dumped. */
struct key_store {
	unsigned char kek[VAULT_KEY_SIZE];
	unsigned char peer_secret[VAULT_KEY_SIZE];
	struct vault_key keys[]; /* ascending by id */
};

static pthread_rwlock_t keys_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct key_store *keys_store;
static size_t keys_store_size;
static size_t keys_count, keys_cap;
/* Open addressing by owner: 1 + position of the key that seals; 0: empty. */
static uint32_t *keys_index;
static size_t keys_index_size;
static iris_owner *keys_erased; /* owners whose keys were destroyed */
static size_t keys_erased_count;
static uint32_t keys_peer_id; /* of the row with the region's secret */
static uint32_t keys_last_id;
static iris_owner keys_last_owner;
static atomic_uint keys_generation_now = 1;
static atomic_flag keys_changing = ATOMIC_FLAG_INIT; /* one change at a time */

static const struct iris_str purpose_data = { "data", 4 }, purpose_peer = { "peer", 4 };

static struct iris_query owner_insert = {
	.name = "vault.owner_insert", .table = "vault_owners", .write = true,
	.sql = "INSERT INTO vault_owners (owner, name, created) VALUES ($1, $2, $3)",
	.params = { { "owner", IRIS_INT }, { "name", IRIS_TEXT }, { "created", IRIS_INT } },
};
static struct iris_query key_insert = {
	.name = "vault.key_insert",
	.table = "vault_keys",
	.write = true,
	.sql = "INSERT INTO vault_keys (id, owner, purpose, root, state, wrapped, created) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7)",
	.params = { { "id", IRIS_INT },
		    { "owner", IRIS_INT },
		    { "purpose", IRIS_TEXT },
		    { "root", IRIS_INT },
		    { "state", IRIS_INT },
		    { "wrapped", IRIS_BLOB },
		    { "created", IRIS_INT } },
};
static struct iris_query key_retire = {
	.name = "vault.key_retire", .table = "vault_keys", .write = true,
	.sql = "UPDATE vault_keys SET state = 2 WHERE owner = $1 AND state = 1 AND id < $2",
	.params = { { "owner", IRIS_INT }, { "id", IRIS_INT } },
};
static struct iris_query key_erase = {
	.name = "vault.key_erase", .table = "vault_keys", .write = true,
	.sql = "UPDATE vault_keys SET state = 3, wrapped = $2 WHERE owner = $1",
	.params = { { "owner", IRIS_INT }, { "wrapped", IRIS_BLOB } },
};
static struct iris_query key_rewrap = {
	.name = "vault.key_rewrap",
	.table = "vault_keys",
	.write = true,
	.sql = "UPDATE vault_keys SET wrapped = $2 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "wrapped", IRIS_BLOB } },
};
static struct iris_query region_recheck = {
	.name = "vault.region_recheck",
	.table = "vault_region",
	.write = true,
	.sql = "UPDATE vault_region SET key_check = $1",
	.params = { { "key_check", IRIS_BLOB } },
};
static struct iris_query *const keys_queries[] = {
	&owner_insert, &key_insert, &key_retire, &key_erase, &key_rewrap, &region_recheck,
};

static struct iris_value
value_bytes(const void *base, size_t len)
{
	return (struct iris_value){ .type = IRIS_BLOB, .bytes = { base, len } };
}

static int64_t
now_ms(void)
{
	return (int64_t)time(NULL) * 1000;
}

/* --- the table of keys in memory --- */

static void
store_free(void)
{
	if (!keys_store)
		return;
	OPENSSL_cleanse(keys_store, keys_store_size);
	(void)munlock(keys_store, keys_store_size);
	(void)munmap(keys_store, keys_store_size);
	keys_store = NULL;
}

/* Room for `cap` keys; what was there is moved and wiped. */
static void
store_reserve(size_t cap)
{
	size_t size =
		(sizeof(struct key_store) + cap * sizeof(struct vault_key) + 4095) & ~(size_t)4095;
	struct key_store *store =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	IRIS_ASSERT(store != MAP_FAILED);
	(void)madvise(store, size, MADV_DONTDUMP);
	if (mlock(store, size) != 0)
		LOG(IRIS_LOG_WARNING, "vault", "keys not locked in memory",
		    LOG_CSTR("reason", strerror(errno)));
	if (keys_store)
		memcpy(store, keys_store, sizeof(*store) + keys_count * sizeof(struct vault_key));
	store_free();
	keys_store = store;
	keys_store_size = size;
	keys_cap = (size - sizeof(*store)) / sizeof(struct vault_key);
}

static size_t
index_start(iris_owner owner)
{
	return (owner * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (keys_index_size - 1);
}

static void
index_put(uint32_t position)
{
	iris_owner owner = keys_store->keys[position].owner;
	size_t i = index_start(owner);

	while (keys_index[i] && keys_store->keys[keys_index[i] - 1].owner != owner)
		i = (i + 1) & (keys_index_size - 1);
	keys_index[i] = position + 1; /* the youngest key of an owner wins */
}

static void
index_rebuild(void)
{
	for (keys_index_size = 16; keys_index_size < keys_count * 2;)
		keys_index_size *= 2;
	free(keys_index);
	keys_index = iris_calloc(keys_index_size, sizeof(*keys_index));
	for (size_t i = 0; i < keys_count; i++)
		index_put((uint32_t)i);
}

/* Under the write lock, or before there are other threads; then the index is rebuilt. */
static void
store_add(const struct vault_key *key)
{
	if (keys_count == keys_cap)
		store_reserve(keys_cap * 2);
	keys_store->keys[keys_count++] = *key;
}

static void
keys_publish(const struct vault_key *key)
{
	pthread_rwlock_wrlock(&keys_lock);
	store_add(key);
	index_rebuild();
	pthread_rwlock_unlock(&keys_lock);
	atomic_fetch_add(&keys_generation_now, 1);
}

static void
erased_add(iris_owner owner)
{
	keys_erased = iris_realloc(keys_erased, (keys_erased_count + 1) * sizeof(*keys_erased));
	keys_erased[keys_erased_count++] = owner;
}

static void
keys_withdraw(iris_owner owner)
{
	size_t kept = 0;

	pthread_rwlock_wrlock(&keys_lock);
	for (size_t i = 0; i < keys_count; i++)
		if (keys_store->keys[i].owner != owner)
			keys_store->keys[kept++] = keys_store->keys[i];
	OPENSSL_cleanse(&keys_store->keys[kept], (keys_count - kept) * sizeof(struct vault_key));
	keys_count = kept;
	erased_add(owner);
	index_rebuild();
	pthread_rwlock_unlock(&keys_lock);
	atomic_fetch_add(&keys_generation_now, 1);
}

/* The key, or the next one; under the lock, in either way. */
static struct vault_key *
store_find(uint32_t id)
{
	size_t low = 0, high = keys_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (keys_store->keys[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < keys_count ? &keys_store->keys[low] : NULL;
}

/* --- what others ask --- */

unsigned
keys_generation(void)
{
	return atomic_load_explicit(&keys_generation_now, memory_order_acquire);
}

bool
keys_current(iris_owner owner, struct vault_key *key_r)
{
	bool found = false;

	pthread_rwlock_rdlock(&keys_lock);
	for (size_t i = index_start(owner); keys_index && keys_index[i] && !found;
	     i = (i + 1) & (keys_index_size - 1)) {
		const struct vault_key *key = &keys_store->keys[keys_index[i] - 1];
		found = key->owner == owner;
		if (found)
			*key_r = *key;
	}
	pthread_rwlock_unlock(&keys_lock);
	return found;
}

bool
keys_by_id(uint32_t id, struct vault_key *key_r)
{
	pthread_rwlock_rdlock(&keys_lock);
	const struct vault_key *key = store_find(id);
	bool found = key && key->id == id;
	if (found)
		*key_r = *key;
	pthread_rwlock_unlock(&keys_lock);
	return found;
}

bool
keys_have_owner(iris_owner owner)
{
	static _Thread_local struct {
		unsigned generation;
		iris_owner owner[64];
	} seen; /* asked for every write: the lock would be shared by all workers */
	unsigned generation = keys_generation();
	struct vault_key key;

	if (seen.generation != generation) {
		memset(&seen, 0, sizeof(seen));
		seen.generation = generation;
	}
	if (owner == VAULT_OWNER_REGION)
		return false;
	if (seen.owner[owner % IRIS_COUNT(seen.owner)] == owner)
		return true;
	bool found = keys_current(owner, &key);
	OPENSSL_cleanse(&key, sizeof(key));
	if (found)
		seen.owner[owner % IRIS_COUNT(seen.owner)] = owner;
	return found;
}

enum iris_vault_result
keys_refusal(iris_owner owner)
{
	bool erased = false;

	pthread_rwlock_rdlock(&keys_lock);
	for (size_t i = 0; i < keys_erased_count && !erased; i++)
		erased = keys_erased[i] == owner;
	pthread_rwlock_unlock(&keys_lock);
	return erased ? IRIS_VAULT_ERASED : IRIS_VAULT_REFUSED;
}

bool
keys_need_reseal(uint32_t upto)
{
	bool need = false;

	pthread_rwlock_rdlock(&keys_lock);
	for (size_t i = 0; i < keys_count && !need; i++) {
		const struct vault_key *key = &keys_store->keys[i], *current = key;
		size_t at = index_start(key->owner);

		for (; keys_index[at]; at = (at + 1) & (keys_index_size - 1)) {
			current = &keys_store->keys[keys_index[at] - 1];
			if (current->owner == key->owner)
				break;
		}
		need = current->id != key->id && current->id > upto;
	}
	pthread_rwlock_unlock(&keys_lock);
	return need;
}

uint32_t
keys_newest(void)
{
	pthread_rwlock_rdlock(&keys_lock);
	uint32_t id = keys_count ? keys_store->keys[keys_count - 1].id : 0;
	pthread_rwlock_unlock(&keys_lock);
	return id;
}

void
keys_count_uses(uint32_t id, unsigned uses)
{
	pthread_rwlock_rdlock(&keys_lock);
	struct vault_key *key = store_find(id);
	if (key && key->id == id)
		atomic_fetch_add_explicit(&key->uses, uses, memory_order_relaxed);
	pthread_rwlock_unlock(&keys_lock);
}

static bool
key_seals(const struct vault_key *key)
{
	size_t at = index_start(key->owner);

	while (keys_store->keys[keys_index[at] - 1].owner != key->owner)
		at = (at + 1) & (keys_index_size - 1);
	return keys_store->keys[keys_index[at] - 1].id == key->id;
}

uint32_t
keys_next_used(uint32_t after, iris_owner *owner_r, int64_t *uses_r)
{
	uint32_t id = 0;

	pthread_rwlock_wrlock(&keys_lock);
	struct vault_key *key = store_find(after + 1), *end = keys_store->keys + keys_count;
	for (; key && key < end && id == 0; key++) {
		int64_t uses = atomic_load_explicit(&key->uses, memory_order_relaxed);

		if (uses == key->uses_told || !key_seals(key))
			continue;
		id = key->id;
		*owner_r = key->owner;
		*uses_r = key->uses_told = uses;
	}
	pthread_rwlock_unlock(&keys_lock);
	return id;
}

void
keys_peer_secret(unsigned char secret_r[VAULT_KEY_SIZE])
{
	pthread_rwlock_rdlock(&keys_lock);
	IRIS_ASSERT(keys_store);
	memcpy(secret_r, keys_store->peer_secret, VAULT_KEY_SIZE);
	pthread_rwlock_unlock(&keys_lock);
}

/* --- making keys --- */

struct key_row {
	struct vault_key key;
	unsigned char wrapped[VAULT_KEY_SIZE + SEAL_OVERHEAD];
	struct iris_value values[7];
};

static bool
key_row_make(struct key_row *row, uint32_t id, iris_owner owner, struct iris_str purpose)
{
	row->key.id = id;
	row->key.owner = owner;
	row->key.uses_told = 0;
	atomic_init(&row->key.uses, 0);
	IRIS_ASSERT(RAND_priv_bytes(row->key.bytes, VAULT_KEY_SIZE) == 1);
	pthread_rwlock_rdlock(&keys_lock);
	bool ok = seal_wrap_key(keys_store->kek, &row->key, purpose, row->wrapped);
	pthread_rwlock_unlock(&keys_lock);
	row->values[0] = value_int(id);
	row->values[1] = value_int(owner);
	row->values[2] = value_str(purpose);
	row->values[3] = value_int(KEY_ROOT_ID);
	row->values[4] = value_int(KEY_SEALS);
	row->values[5] = value_bytes(row->wrapped, sizeof(row->wrapped));
	row->values[6] = value_int(now_ms());
	return ok;
}

static uint32_t
next_key_id(void)
{
	pthread_rwlock_wrlock(&keys_lock);
	uint32_t id = ++keys_last_id;
	pthread_rwlock_unlock(&keys_lock);
	return id;
}

static enum iris_vault_result
owner_create(struct iris_str name, iris_owner *owner_r)
{
	struct key_row row;

	pthread_rwlock_wrlock(&keys_lock);
	iris_owner owner = ++keys_last_owner;
	pthread_rwlock_unlock(&keys_lock);
	if (!key_row_make(&row, next_key_id(), owner, purpose_data))
		return IRIS_VAULT_FAILED;

	struct iris_batch *batch = batch_new_own();
	batch_add(batch, &owner_insert,
		  VALUES(value_int(owner), value_str(name), value_int(now_ms())));
	batch_add(batch, &key_insert, row.values);
	enum iris_vault_result result = batch_write(&batch);
	if (result == IRIS_VAULT_OK) {
		keys_publish(&row.key);
		*owner_r = owner;
	}
	OPENSSL_cleanse(&row.key, sizeof(row.key));
	return result;
}

static enum iris_vault_result
owner_rotate(iris_owner owner)
{
	struct key_row row;

	if (!keys_have_owner(owner))
		return keys_refusal(owner);
	if (!key_row_make(&row, next_key_id(), owner, purpose_data))
		return IRIS_VAULT_FAILED;
	struct iris_batch *batch = batch_new_own();
	batch_add(batch, &key_insert, row.values);
	batch_add(batch, &key_retire, VALUES(value_int(owner), value_int(row.key.id)));
	enum iris_vault_result result = batch_write(&batch);
	if (result == IRIS_VAULT_OK)
		keys_publish(&row.key);
	OPENSSL_cleanse(&row.key, sizeof(row.key));
	return result;
}

static enum iris_vault_result
owner_erase(iris_owner owner)
{
	if (!keys_have_owner(owner))
		return keys_refusal(owner);
	struct iris_batch *batch = batch_new_own();
	batch_add(batch, &key_erase, VALUES(value_int(owner), value_str(IRIS_STR(""))));
	enum iris_vault_result result = batch_write(&batch);
	if (result == IRIS_VAULT_OK)
		keys_withdraw(owner);
	return result;
}

struct scrub {
	bool ok;
	struct iris_error *error;
};

static void
scrub_run(void *arg) /* pool */
{
	struct scrub *scrub = arg;

	scrub->ok = vault_scrub("vault_keys", scrub->error);
}

bool
keys_scrub(struct iris_error *error)
{
	struct scrub scrub = { .error = error };

	pool_call("vault: scrub", scrub_run, &scrub);
	return scrub.ok;
}

/*
 * One change at a time: a key that is made while all are wrapped anew would be wrapped for the
 * master key of before.
 */
static bool
change_begin(void)
{
	return !atomic_flag_test_and_set(&keys_changing);
}

static enum iris_vault_result
change_end(enum iris_vault_result result)
{
	atomic_flag_clear(&keys_changing);
	return result;
}

enum iris_vault_result
vault_owner_create(struct iris_str name, iris_owner *owner_r)
{
	return change_begin() ? change_end(owner_create(name, owner_r)) : IRIS_VAULT_BUSY;
}

enum iris_vault_result
vault_owner_rotate(iris_owner owner)
{
	return change_begin() ? change_end(owner_rotate(owner)) : IRIS_VAULT_BUSY;
}

enum iris_vault_result
vault_owner_erase(iris_owner owner)
{
	return change_begin() ? change_end(owner_erase(owner)) : IRIS_VAULT_BUSY;
}

/* --- opening --- */

/* Derives what is needed from the master key and forgets it. */
static bool
master_derive(const char *path, unsigned char kek_r[VAULT_KEY_SIZE],
	      unsigned char check_r[VAULT_KEY_SIZE], struct iris_error *error)
{
	unsigned char root[VAULT_KEY_SIZE];
	bool ok = master_load(path, root, error);

	if (ok)
		ok = (seal_derive_key(root, "iris/v1/kek/vault/1", kek_r) &&
		      seal_derive_key(root, "iris/v1/check/1", check_r)) ||
		     error_set(error, "The master key cannot be used: derivation failed");
	OPENSSL_cleanse(root, sizeof(root));
	return ok;
}

static bool
master_unlock(const char *path, unsigned char check_r[VAULT_KEY_SIZE], struct iris_error *error)
{
	store_reserve(16);
	return master_derive(path, keys_store->kek, check_r, error);
}

static bool
region_check(const struct vault_options *options, const unsigned char check[VAULT_KEY_SIZE],
	     struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	bool ok = options->engine->query("SELECT name, key_check FROM vault_region", NULL, 0, &rows,
					 error);

	if (ok && rows.count != 1) {
		ok = error_set(error, "The store belongs to no region yet");
		error_hint(error, "irisctl init");
	} else if (ok) {
		struct rows_reader reader;
		rows_read_begin(&reader, &rows);
		struct iris_str name = rows_read(&reader).bytes, stored = rows_read(&reader).bytes;
		if (!str_is(name, options->region)) {
			ok = error_set(error, "The store belongs to another region");
			error_detail(error, "it is of region '%.*s', the configuration says '%s'",
				     IRIS_STR_FMT(name), options->region);
		} else if (!str_equal_secret(stored, (struct iris_str){ (const char *)check,
									VAULT_KEY_SIZE })) {
			ok = error_set(error,
				       "This is not the master key that the store was made with");
			error_detail(error, "%s", options->key_path);
			error_hint(
				error,
				"Restore the key of this region; nothing can be read without it");
		}
	}
	rows_free(&rows);
	return ok;
}

static bool
key_take_row(struct rows_reader *reader, struct iris_error *error)
{
	struct vault_key key = { .id = (uint32_t)rows_read(reader).number };
	key.owner = (iris_owner)rows_read(reader).number;
	key.uses_told = rows_read(reader).number;
	atomic_init(&key.uses, key.uses_told ? key.uses_told + USES_UNKNOWN : 0);
	struct iris_str purpose = rows_read(reader).bytes;
	int64_t state = rows_read(reader).number;
	struct iris_value wrapped = rows_read(reader);

	keys_last_id = key.id > keys_last_id ? key.id : keys_last_id;
	if (state == KEY_ERASED) {
		if (keys_refusal(key.owner) != IRIS_VAULT_ERASED)
			erased_add(key.owner);
		return true;
	}
	if (!seal_unwrap_key(keys_store->kek, wrapped.bytes, purpose, &key)) {
		error_set(error, "A key in the store does not open");
		error_detail(error, "vault_keys, id %u of owner %u", key.id, key.owner);
		return error_hint(error, "The table was damaged or altered; restore a backup");
	}
	if (str_equal(purpose, purpose_peer)) {
		memcpy(keys_store->peer_secret, key.bytes, VAULT_KEY_SIZE);
		keys_peer_id = key.id;
	} else {
		store_add(&key);
	}
	OPENSSL_cleanse(&key, sizeof(key));
	return true;
}

static bool
keys_load(const struct iris_vault_engine *engine, struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;
	int64_t last_owner = 0;
	bool ok = schema_read_int(engine, "SELECT coalesce(max(owner), 0) FROM vault_owners",
				  &last_owner, error) &&
		  engine->query(
			  "SELECT id, owner, uses, purpose, state, wrapped FROM vault_keys "
			  "ORDER BY id",
			  NULL, 0, &rows, error);

	keys_last_owner = (iris_owner)last_owner;
	rows_read_begin(&reader, &rows);
	for (size_t i = 0; ok && i < rows.count; i++)
		ok = key_take_row(&reader, error);
	rows_free(&rows);
	if (ok)
		index_rebuild();
	atomic_fetch_add(&keys_generation_now, 1);
	return ok;
}

bool
keys_open(const struct vault_options *options, struct iris_error *error)
{
	unsigned char check[VAULT_KEY_SIZE];
	bool ok = master_unlock(options->key_path, check, error) &&
		  region_check(options, check, error) && keys_load(options->engine, error);

	for (size_t i = 0; ok && i < IRIS_COUNT(keys_queries); i++)
		ok = statement_register(keys_queries[i], error);
	if (!ok)
		keys_close();
	return ok;
}

static bool
init_key(const struct vault_options *options, iris_owner owner, struct iris_str purpose,
	 struct iris_error *error)
{
	struct key_row row;
	bool ok = key_row_make(&row, ++keys_last_id, owner, purpose) &&
		  options->engine->query(key_insert.sql, row.values, IRIS_COUNT(row.values), NULL,
					 error);

	OPENSSL_cleanse(&row.key, sizeof(row.key));
	return ok;
}

/* Inside the transaction of vault_init_with(). */
bool
keys_init(const struct vault_options *options, const char *company, struct iris_error *error)
{
	const struct iris_vault_engine *engine = options->engine;
	unsigned char check[VAULT_KEY_SIZE];

	if (!master_unlock(options->key_path, check, error)) {
		keys_close();
		return false;
	}
	const struct iris_value region[] = {
		value_int(1), value_str(str_from(options->region)),
		value_bytes(check, sizeof(check)), value_int(now_ms()),
	};
	const struct iris_value owner[] = { value_int(1), value_str(str_from(company)),
					    value_int(now_ms()) };
	bool ok = engine->query("INSERT INTO vault_region (id, name, key_check, created) VALUES "
				"($1, $2, $3, $4)",
				region, IRIS_COUNT(region), NULL, error) &&
		  engine->query(owner_insert.sql, owner, IRIS_COUNT(owner), NULL, error) &&
		  init_key(options, VAULT_OWNER_REGION, purpose_peer, error) &&
		  init_key(options, 1, purpose_data, error);
	keys_close();
	return ok;
}

void
keys_close(void)
{
	pthread_rwlock_wrlock(&keys_lock);
	store_free();
	free(keys_index);
	keys_index = NULL;
	free(keys_erased);
	keys_erased = NULL;
	keys_erased_count = 0;
	keys_count = keys_cap = keys_index_size = 0;
	keys_last_id = 0;
	keys_last_owner = 0;
	pthread_rwlock_unlock(&keys_lock);
	atomic_fetch_add(&keys_generation_now, 1);
}

/* --- another master key --- */

struct master_change {
	unsigned char kek[VAULT_KEY_SIZE], check[VAULT_KEY_SIZE];
};

static bool
batch_add_rewrap(struct iris_batch *batch, const unsigned char kek[VAULT_KEY_SIZE],
		 const struct vault_key *key, struct iris_str purpose)
{
	unsigned char wrapped[VAULT_KEY_SIZE + SEAL_OVERHEAD];

	if (!seal_wrap_key(kek, key, purpose, wrapped))
		return false;
	batch_add(batch, &key_rewrap,
		  VALUES(value_int(key->id), value_bytes(wrapped, sizeof(wrapped))));
	return true;
}

/* All of it is one transaction: never are some keys under the one and some under the other. */
static enum iris_vault_result
master_rewrap(struct master_change *change)
{
	struct iris_batch *batch = batch_new_own();
	struct vault_key peer = { .id = keys_peer_id, .owner = VAULT_OWNER_REGION };

	pthread_rwlock_rdlock(&keys_lock);
	memcpy(peer.bytes, keys_store->peer_secret, VAULT_KEY_SIZE);
	bool ok = batch_add_rewrap(batch, change->kek, &peer, purpose_peer);
	for (size_t i = 0; i < keys_count && ok; i++)
		ok = batch_add_rewrap(batch, change->kek, &keys_store->keys[i], purpose_data);
	pthread_rwlock_unlock(&keys_lock);
	OPENSSL_cleanse(&peer, sizeof(peer));
	batch_add(batch, &region_recheck,
		  VALUES(value_bytes(change->check, sizeof(change->check))));
	if (!ok) {
		batch_drop(&batch);
		return IRIS_VAULT_FAILED;
	}
	return batch_write(&batch);
}

/* Blocks for as long as a small file takes to be written; it happens once in years. */
enum iris_vault_result
vault_master_change(const char *path, struct iris_error *error)
{
	struct master_change change;
	enum iris_vault_result result = IRIS_VAULT_FAILED;

	*error = (struct iris_error){ .message = "" };
	if (!change_begin())
		return IRIS_VAULT_BUSY;
	if (keys_master_create(path, error) &&
	    master_derive(path, change.kek, change.check, error)) {
		result = master_rewrap(&change);
		if (result != IRIS_VAULT_OK)
			error_set(error, "The keys could not be written");
	}
	if (result == IRIS_VAULT_OK) {
		pthread_rwlock_wrlock(&keys_lock);
		memcpy(keys_store->kek, change.kek, VAULT_KEY_SIZE);
		pthread_rwlock_unlock(&keys_lock);
	}
	OPENSSL_cleanse(&change, sizeof(change));
	return change_end(result);
}
