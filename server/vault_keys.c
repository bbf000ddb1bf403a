/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and owners (P7.3).  The master key comes from a file; a key under it (KEK) wraps one data
 * key per owner, which are kept in the table vault_keys, and unwrapped here while the vault is
 * open, in locked memory.  Owners without a key that seals do not exist for the vault. Tables are
 * changed by one thread at a time under the write lock; reads come from any thread, and seldom:
 * sealing keeps contexts per thread (vault_seal.c), invalidated by the generation.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "iris/fiber.h"
#include "iris/log.h"
#include "vault_private.h"

#define KEY_ROOT_ID 1
#define MASTER_TEXT (2 * VAULT_KEY_SIZE) /* hexadecimal digits */

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
static uint32_t keys_last_id;
static iris_owner keys_last_owner;
static atomic_uint keys_generation_now = 1;

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
static struct iris_query *const keys_queries[] = { &owner_insert, &key_insert, &key_retire,
						   &key_erase };

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

/* --- the master key file --- */

static bool
master_problem(struct iris_error *error, const char *path, const char *what)
{
	error_set(error, "The region's master key cannot be used: %s", what);
	return error_detail(error, "%s", path);
}

/* SECURITY: a key that others may read is no key. */
static bool
master_check(int fd, const char *path, struct iris_error *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return master_problem(error, path, "it is not a regular file");
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return master_problem(error, path, "it belongs to another user");
	if (st.st_mode & 0177) {
		master_problem(error, path, "others than its owner may read or change it");
		return error_hint(error,
				  "chmod 0400 the file; if others could read it, make new keys");
	}
	if (st.st_size < MASTER_TEXT || st.st_size > MASTER_TEXT + 1) {
		master_problem(error, path, "it is not of the right size");
		return error_hint(error,
				  "It holds %d hexadecimal digits; restore it from the backup",
				  MASTER_TEXT);
	}
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
master_decode(const char text[MASTER_TEXT], unsigned char root[VAULT_KEY_SIZE])
{
	bool ok = true;

	for (unsigned i = 0; i < VAULT_KEY_SIZE; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		ok = ok && high >= 0 && low >= 0;
		root[i] = (unsigned char)(high << 4 | low);
	}
	return ok;
}

static bool
master_load(const char *path, unsigned char root[VAULT_KEY_SIZE], struct iris_error *error)
{
	char text[MASTER_TEXT];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool ok = true;

	if (fd < 0) {
		master_problem(error, path, strerror(errno));
		return error_hint(error, "irisctl init makes one for a new region; for an old one "
					 "restore the backup");
	}
	ok = master_check(fd, path, error);
	if (ok && read(fd, text, sizeof(text)) != (ssize_t)sizeof(text))
		ok = master_problem(error, path, "it cannot be read");
	if (ok && !master_decode(text, root))
		ok = master_problem(error, path, "it holds something else than hexadecimal digits");
	OPENSSL_cleanse(text, sizeof(text));
	(void)close(fd);
	return ok;
}

static bool
master_write(int fd, struct iris_error *error)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char root[VAULT_KEY_SIZE];
	char text[MASTER_TEXT + 1];

	IRIS_ASSERT(RAND_priv_bytes(root, sizeof(root)) == 1);
	for (unsigned i = 0; i < VAULT_KEY_SIZE; i++) {
		text[2 * i] = digits[root[i] >> 4];
		text[2 * i + 1] = digits[root[i] & 15];
	}
	text[MASTER_TEXT] = '\n';
	bool ok = write(fd, text, sizeof(text)) == (ssize_t)sizeof(text) && fsync(fd) == 0;
	OPENSSL_cleanse(root, sizeof(root));
	OPENSSL_cleanse(text, sizeof(text));
	return ok || error_set(error, "The master key cannot be written: %s", strerror(errno));
}

bool
keys_master_create(const char *path, struct iris_error *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);

	if (fd < 0 && errno == EEXIST)
		return true; /* checked when it is loaded */
	if (fd < 0)
		return master_problem(error, path, strerror(errno));
	bool ok = master_write(fd, error);
	(void)close(fd);
	if (!ok)
		(void)unlink(path);
	return ok;
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
keys_withdraw(iris_owner owner)
{
	size_t kept = 0;

	pthread_rwlock_wrlock(&keys_lock);
	for (size_t i = 0; i < keys_count; i++)
		if (keys_store->keys[i].owner != owner)
			keys_store->keys[kept++] = keys_store->keys[i];
	OPENSSL_cleanse(&keys_store->keys[kept], (keys_count - kept) * sizeof(struct vault_key));
	keys_count = kept;
	index_rebuild();
	pthread_rwlock_unlock(&keys_lock);
	atomic_fetch_add(&keys_generation_now, 1);
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
	bool found = false;

	pthread_rwlock_rdlock(&keys_lock);
	size_t low = 0, high = keys_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (keys_store->keys[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	found = low < keys_count && keys_store->keys[low].id == id;
	if (found)
		*key_r = keys_store->keys[low];
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

enum iris_vault_result
vault_owner_create(struct iris_str name, iris_owner *owner_r)
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

enum iris_vault_result
vault_owner_rotate(iris_owner owner)
{
	struct key_row row;

	if (!keys_have_owner(owner))
		return IRIS_VAULT_REFUSED;
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

enum iris_vault_result
vault_owner_erase(iris_owner owner)
{
	if (!keys_have_owner(owner))
		return IRIS_VAULT_REFUSED;
	struct iris_batch *batch = batch_new_own();
	batch_add(batch, &key_erase, VALUES(value_int(owner), value_str(IRIS_STR(""))));
	enum iris_vault_result result = batch_write(&batch);
	if (result == IRIS_VAULT_OK)
		keys_withdraw(owner);
	return result;
}

/* --- opening --- */

/* Derives what is needed from the master key and forgets it. */
static bool
master_unlock(const char *path, unsigned char check_r[VAULT_KEY_SIZE], struct iris_error *error)
{
	unsigned char root[VAULT_KEY_SIZE];
	bool ok = master_load(path, root, error);

	if (ok) {
		store_reserve(16);
		ok = (seal_derive_key(root, "iris/v1/kek/vault/1", keys_store->kek) &&
		      seal_derive_key(root, "iris/v1/check/1", check_r)) ||
		     error_set(error, "The master key cannot be used: derivation failed");
	}
	OPENSSL_cleanse(root, sizeof(root));
	return ok;
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
	struct iris_str purpose = rows_read(reader).bytes;
	int64_t state = rows_read(reader).number;
	struct iris_value wrapped = rows_read(reader);

	keys_last_id = key.id > keys_last_id ? key.id : keys_last_id;
	if (state == KEY_ERASED)
		return true;
	if (!seal_unwrap_key(keys_store->kek, wrapped.bytes, purpose, &key)) {
		error_set(error, "A key in the store does not open");
		error_detail(error, "vault_keys, id %u of owner %u", key.id, key.owner);
		return error_hint(error, "The table was damaged or altered; restore a backup");
	}
	if (str_equal(purpose, purpose_peer))
		memcpy(keys_store->peer_secret, key.bytes, VAULT_KEY_SIZE);
	else
		store_add(&key);
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
			  "SELECT id, owner, purpose, state, wrapped FROM vault_keys ORDER BY id",
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

	if (!master_unlock(options->key_path, check, error))
		return false;
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
	keys_count = keys_cap = keys_index_size = 0;
	keys_last_id = 0;
	keys_last_owner = 0;
	pthread_rwlock_unlock(&keys_lock);
	atomic_fetch_add(&keys_generation_now, 1);
}
