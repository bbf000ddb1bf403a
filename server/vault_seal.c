/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing: AES-256-GCM records, bound to table, column, row and owner.  Any thread; what is
 * costly to make (contexts with their key set, random bytes) is kept per thread.
 * Does not know where keys come from (vault_keys.c) nor which columns are sealed
 * (vault_statement.c).
 *
 * Record:  0 'X' 'E'   2 version 1   3 suite 1   4 u32be key id   8 nonce of 12   20 ciphertext tag
 * of 16 AAD:     bytes 0..7, then table, column, row, owner, each as u16be length + bytes, so that
 * no two places can ever read the same.  A row is its key fields: 'i' + u64be, 's' + u32be length +
 *          bytes, or 'n'.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/hash.h"
#include "vault_private.h"

#define SEAL_HEADER 8
#define SEAL_NONCE 12
#define SEAL_TAG 16
#define SEAL_SLOTS 128  /* contexts a thread keeps, by key */
#define SEAL_USES 4096  /* told together: the count of a key is shared by all threads */
#define SEAL_NONCES 128 /* drawn at once: a call to the generator costs more than a seal */
#define PEER_SLOTS 1024

struct seal_slot {
	uint32_t key_id;
	unsigned uses; /* not told yet */
	iris_owner owner;
	EVP_CIPHER_CTX *ctx; /* the key is set */
};

struct seal_thread {
	unsigned generation; /* of the keys; another one empties the slots */
	struct seal_slot seal[SEAL_SLOTS], open[SEAL_SLOTS];
	unsigned nonces_left;
	unsigned char nonces[SEAL_NONCES * SEAL_NONCE];
	EVP_MAC_CTX *mac; /* keyed with the region's secret */
	EVP_CIPHER_CTX *id_seal, *id_open; /* with a key that is derived from it */
	struct {
		uint64_t hash;
		int64_t peer; /* 0: empty */
	} peers[PEER_SLOTS];
};

static EVP_CIPHER *seal_cipher, *seal_block_cipher;
static EVP_MAC *seal_mac;
static EVP_KDF *seal_kdf;
static pthread_key_t seal_thread_key;
static bool seal_started;

static _Thread_local struct seal_thread *seal_self;

/* --- what a thread keeps --- */

static void
slots_clear(struct seal_slot *slots)
{
	for (unsigned i = 0; i < SEAL_SLOTS; i++) {
		EVP_CIPHER_CTX_free(slots[i].ctx);
		slots[i] = (struct seal_slot){ .ctx = NULL };
	}
}

static void
seal_thread_clear(struct seal_thread *self)
{
	slots_clear(self->seal);
	slots_clear(self->open);
	EVP_MAC_CTX_free(self->mac);
	EVP_CIPHER_CTX_free(self->id_seal);
	EVP_CIPHER_CTX_free(self->id_open);
	self->mac = NULL;
	self->id_seal = self->id_open = NULL;
	memset(self->peers, 0, sizeof(self->peers));
}

static void
seal_thread_free(void *arg)
{
	struct seal_thread *self = arg;

	seal_thread_clear(self);
	OPENSSL_cleanse(self->nonces, sizeof(self->nonces));
	free(self);
	seal_self = NULL;
}

static struct seal_thread *
seal_thread(void)
{
	unsigned generation = keys_generation();

	if (!seal_self) {
		seal_self = iris_calloc(1, sizeof(*seal_self));
		seal_self->generation = generation;
		(void)pthread_setspecific(seal_thread_key, seal_self);
	}
	if (seal_self->generation != generation) {
		seal_thread_clear(seal_self);
		seal_self->generation = generation;
	}
	return seal_self;
}

/*
 * SECURITY: random nonces, never counters: a restored backup would count the same ones again.
 * A used one is wiped, so that two seals cannot take the same.
 */
static void
nonce_take(struct seal_thread *self, unsigned char *nonce_r)
{
	if (self->nonces_left == 0) {
		IRIS_ASSERT(RAND_bytes(self->nonces, sizeof(self->nonces)) == 1);
		self->nonces_left = SEAL_NONCES;
	}
	unsigned char *nonce = self->nonces + --self->nonces_left * SEAL_NONCE;
	memcpy(nonce_r, nonce, SEAL_NONCE);
	memset(nonce, 0, SEAL_NONCE);
}

EVP_CIPHER_CTX *
seal_cipher_new(const unsigned char key[VAULT_KEY_SIZE], bool encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx && EVP_CipherInit_ex2(ctx, seal_cipher, key, NULL, encrypt, NULL) == 1)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static void
slot_tell_uses(struct seal_slot *slot)
{
	if (slot->uses > 0)
		keys_count_uses(slot->key_id, slot->uses);
	slot->uses = 0;
}

static EVP_CIPHER_CTX *
slot_fill(struct seal_slot *slot, struct vault_key *key, bool encrypt)
{
	slot_tell_uses(slot);
	EVP_CIPHER_CTX_free(slot->ctx);
	*slot = (struct seal_slot){ .key_id = key->id, .owner = key->owner,
				    .ctx = seal_cipher_new(key->bytes, encrypt) };
	OPENSSL_cleanse(key, sizeof(*key));
	return slot->ctx;
}

/* The context that seals for this owner. */
static struct seal_slot *
seal_slot_for(struct seal_thread *self, iris_owner owner)
{
	struct seal_slot *slot = &self->seal[owner % SEAL_SLOTS];
	struct vault_key key;

	if (slot->ctx && slot->owner == owner)
		return slot;
	return keys_current(owner, &key) && slot_fill(slot, &key, true) ? slot : NULL;
}

static EVP_CIPHER_CTX *
open_ctx_for(struct seal_thread *self, uint32_t key_id, iris_owner owner)
{
	struct seal_slot *slot = &self->open[key_id % SEAL_SLOTS];
	struct vault_key key;

	if (!slot->ctx || slot->key_id != key_id) {
		if (!keys_by_id(key_id, &key) || !slot_fill(slot, &key, false))
			return NULL;
	}
	/*
	 * SECURITY: a row of another company, copied over, is not opened with that company's key.
	 */
	return slot->owner == owner ? slot->ctx : NULL;
}

/* --- what a record is bound to --- */

/* Collects the AAD, so that the cipher is called seldom. */
struct aad {
	EVP_CIPHER_CTX *ctx;
	bool ok;
	unsigned len;
	unsigned char buf[512];
};

static void
put_be(unsigned char *out, uint64_t number, unsigned bytes)
{
	while (bytes-- > 0) {
		out[bytes] = (unsigned char)number;
		number >>= 8;
	}
}

static void
aad_feed(struct aad *aad, const void *base, size_t len)
{
	int ignored;
	aad->ok = aad->ok && len <= INT32_MAX &&
		  EVP_CipherUpdate(aad->ctx, NULL, &ignored, base, (int)len) == 1;
}

static void
aad_flush(struct aad *aad)
{
	if (aad->len > 0)
		aad_feed(aad, aad->buf, aad->len);
	aad->len = 0;
}

static void
aad_add(struct aad *aad, const void *base, size_t len)
{
	if (len > sizeof(aad->buf) - aad->len)
		aad_flush(aad);
	if (len > sizeof(aad->buf)) {
		aad_feed(aad, base, len);
	} else if (len > 0) {
		memcpy(aad->buf + aad->len, base, len);
		aad->len += (unsigned)len;
	}
}

static void
aad_add_number(struct aad *aad, uint64_t number, unsigned bytes)
{
	unsigned char out[8];
	put_be(out, number, bytes);
	aad_add(aad, out, bytes);
}

static void
aad_add_part(struct aad *aad, struct iris_str part)
{
	aad->ok = aad->ok && part.len <= UINT16_MAX;
	aad_add_number(aad, part.len, 2);
	aad_add(aad, part.base, part.len);
}

static size_t
row_field_size(const struct iris_value *value)
{
	if (value->type == IRIS_TYPE_NONE)
		return 1;
	return value->type == IRIS_INT ? 1 + 8 : 1 + 4 + value->bytes.len;
}

static void
aad_add_row(struct aad *aad, const struct seal_binding *binding)
{
	size_t size = 0;

	for (unsigned i = 0; i < binding->row_count; i++)
		size += row_field_size(binding->row[i]);
	aad->ok = aad->ok && size <= UINT16_MAX;
	aad_add_number(aad, size, 2);
	for (unsigned i = 0; i < binding->row_count; i++) {
		const struct iris_value *value = binding->row[i];
		if (value->type == IRIS_TYPE_NONE) {
			aad_add(aad, "n", 1);
		} else if (value->type == IRIS_INT) {
			aad_add(aad, "i", 1);
			aad_add_number(aad, (uint64_t)value->number, 8);
		} else {
			aad_add(aad, "s", 1);
			aad_add_number(aad, value->bytes.len, 4);
			aad_add(aad, value->bytes.base, value->bytes.len);
		}
	}
}

static void
aad_add_binding(struct aad *aad, const struct seal_binding *binding)
{
	aad_add_part(aad, binding->table);
	aad_add_part(aad, binding->column);
	aad_add_row(aad, binding);
	aad_add_number(aad, 4, 2);
	aad_add_number(aad, binding->owner, 4);
}

/* --- records --- */

static void
header_put(char *record, uint32_t key_id)
{
	static const unsigned char magic[4] = { 'X', 'E', 1, 1 };
	memcpy(record, magic, sizeof(magic));
	put_be((unsigned char *)record + 4, key_id, 4);
}

static bool
header_get(struct iris_str record, uint32_t *key_id_r)
{
	if (record.len < SEAL_OVERHEAD || memcmp(record.base, "XE\1\1", 4) != 0)
		return false;
	const unsigned char *at = (const unsigned char *)record.base + 4;
	*key_id_r = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
	return true;
}

bool
seal_key_of(struct iris_str record, uint32_t *key_id_r)
{
	return header_get(record, key_id_r);
}

/* A context that knows its key, told the nonce and the header that already stand in the record. */
static void
aad_begin(struct aad *aad, EVP_CIPHER_CTX *ctx, const char *record)
{
	aad->ctx = ctx;
	aad->len = 0;
	aad->ok = EVP_CipherInit_ex2(ctx, NULL, NULL, (const unsigned char *)record + SEAL_HEADER,
				     -1, NULL) == 1;
	aad_add(aad, record, SEAL_HEADER);
}

static bool
record_encrypt(struct aad *aad, struct iris_str plain, char *record)
{
	unsigned char *out = (unsigned char *)record + SEAL_HEADER + SEAL_NONCE;
	int len = 0, rest;

	aad_flush(aad);
	return aad->ok && plain.len <= INT32_MAX &&
	       EVP_CipherUpdate(aad->ctx, out, &len, (const unsigned char *)plain.base,
				(int)plain.len) == 1 &&
	       EVP_CipherFinal_ex(aad->ctx, out + len, &rest) == 1 &&
	       EVP_CIPHER_CTX_ctrl(aad->ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, out + plain.len) == 1;
}

static bool
record_decrypt(struct aad *aad, struct iris_str record, char *plain)
{
	const unsigned char *in = (const unsigned char *)record.base + SEAL_HEADER + SEAL_NONCE;
	size_t plain_len = record.len - SEAL_OVERHEAD;
	unsigned char tag[SEAL_TAG];
	int len = 0, rest;

	memcpy(tag, in + plain_len, sizeof(tag));
	aad_flush(aad);
	return aad->ok && plain_len <= INT32_MAX &&
	       EVP_CipherUpdate(aad->ctx, (unsigned char *)plain, &len, in, (int)plain_len) == 1 &&
	       EVP_CIPHER_CTX_ctrl(aad->ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) == 1 &&
	       EVP_CipherFinal_ex(aad->ctx, (unsigned char *)plain + len, &rest) == 1;
}

bool
seal_record(const struct seal_binding *binding, struct iris_str plain, char *out)
{
	struct seal_thread *self = seal_thread();
	struct seal_slot *slot = seal_slot_for(self, binding->owner);
	struct aad aad;

	if (!slot)
		return false;
	if (++slot->uses == SEAL_USES)
		slot_tell_uses(slot);
	header_put(out, slot->key_id);
	nonce_take(self, (unsigned char *)out + SEAL_HEADER);
	aad_begin(&aad, slot->ctx, out);
	aad_add_binding(&aad, binding);
	return record_encrypt(&aad, plain, out);
}

bool
seal_open_record(const struct seal_binding *binding, struct iris_str record, char *out)
{
	uint32_t key_id;
	struct aad aad;

	if (!header_get(record, &key_id))
		return false;
	EVP_CIPHER_CTX *ctx = open_ctx_for(seal_thread(), key_id, binding->owner);
	if (!ctx)
		return false;
	aad_begin(&aad, ctx, record.base);
	aad_add_binding(&aad, binding);
	return record_decrypt(&aad, record, out);
}

/* --- keys under the master key --- */

static void
aad_add_key(struct aad *aad, const struct vault_key *key, struct iris_str purpose)
{
	aad_add_part(aad, IRIS_STR("dek"));
	aad_add_number(aad, key->id, 4);
	aad_add_number(aad, key->owner, 4);
	aad_add_part(aad, purpose);
}

bool
seal_wrap_key(const unsigned char kek[VAULT_KEY_SIZE], const struct vault_key *key,
	      struct iris_str purpose, unsigned char wrapped_r[VAULT_KEY_SIZE + SEAL_OVERHEAD])
{
	EVP_CIPHER_CTX *ctx = seal_cipher_new(kek, true);
	char *record = (char *)wrapped_r;
	struct aad aad;
	bool ok = false;

	if (ctx) {
		header_put(record, 0);
		nonce_take(seal_thread(), wrapped_r + SEAL_HEADER);
		aad_begin(&aad, ctx, record);
		aad_add_key(&aad, key, purpose);
		ok = record_encrypt(&aad,
				    (struct iris_str){ (const char *)key->bytes, VAULT_KEY_SIZE },
				    record);
	}
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

bool
seal_unwrap_key(const unsigned char kek[VAULT_KEY_SIZE], struct iris_str wrapped,
		struct iris_str purpose, struct vault_key *key)
{
	uint32_t root;
	struct aad aad;

	if (wrapped.len != VAULT_KEY_SIZE + SEAL_OVERHEAD || !header_get(wrapped, &root))
		return false;
	EVP_CIPHER_CTX *ctx = seal_cipher_new(kek, false);
	if (!ctx)
		return false;
	aad_begin(&aad, ctx, wrapped.base);
	aad_add_key(&aad, key, purpose);
	bool ok = record_decrypt(&aad, wrapped, (char *)key->bytes);
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

bool
seal_derive_key(const unsigned char root[VAULT_KEY_SIZE], const char *info,
		unsigned char key_r[VAULT_KEY_SIZE])
{
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(seal_kdf);
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)root, VAULT_KEY_SIZE),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, strlen(info)),
		OSSL_PARAM_construct_end(),
	};
	bool ok = ctx && EVP_KDF_derive(ctx, key_r, VAULT_KEY_SIZE, params) == 1;

	EVP_KDF_CTX_free(ctx);
	return ok;
}

/* --- addresses --- */

static EVP_MAC_CTX *
peer_mac(struct seal_thread *self)
{
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	unsigned char secret[VAULT_KEY_SIZE];

	if (!self->mac) {
		keys_peer_secret(secret);
		self->mac = EVP_MAC_CTX_new(seal_mac);
		IRIS_ASSERT(self->mac &&
			    EVP_MAC_init(self->mac, secret, sizeof(secret), params) == 1);
		OPENSSL_cleanse(secret, sizeof(secret));
	} else {
		IRIS_ASSERT(EVP_MAC_init(self->mac, NULL, 0, NULL) == 1);
	}
	return self->mac;
}

int64_t
seal_hash_peer(struct iris_str bare_jid)
{
	struct seal_thread *self = seal_thread();
	uint64_t hash = hash_bytes(bare_jid.base, bare_jid.len), number = 0;
	unsigned slot = (unsigned)(hash % PEER_SLOTS);
	unsigned char out[32];
	size_t len;

	if (self->peers[slot].peer != 0 && self->peers[slot].hash == hash)
		return self->peers[slot].peer;
	EVP_MAC_CTX *mac = peer_mac(self);
	IRIS_ASSERT(EVP_MAC_update(mac, (const unsigned char *)bare_jid.base, bare_jid.len) == 1 &&
		    EVP_MAC_final(mac, out, &len, sizeof(out)) == 1);
	for (unsigned i = 0; i < 8; i++)
		number = number << 8 | out[i];
	number &= INT64_MAX;
	self->peers[slot].hash = hash;
	self->peers[slot].peer = number ? (int64_t)number : 1;
	return self->peers[slot].peer;
}

/* --- secrets of others --- */

bool
vault_derive_secret(const char *purpose, unsigned char secret_r[VAULT_SECRET_SIZE])
{
	unsigned char root[VAULT_KEY_SIZE];
	bool ok;

	_Static_assert(VAULT_SECRET_SIZE == VAULT_KEY_SIZE, "one derivation gives all of it");
	if (writes_are_refused())
		return false;
	keys_peer_secret(root);
	ok = seal_derive_key(root, purpose, secret_r);
	OPENSSL_cleanse(root, sizeof(root));
	return ok;
}

/* --- ids of the log, as others see them --- */

#define ID_BLOCK 16
#define ID_TEXT 22   /* base64 of a block, … */
#define ID_PADDED 24 /* … and with its padding, as OpenSSL writes it */

static EVP_CIPHER_CTX *
id_cipher_new(const unsigned char key[VAULT_KEY_SIZE], bool encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	IRIS_ASSERT(ctx &&
		    EVP_CipherInit_ex2(ctx, seal_block_cipher, key, NULL, encrypt, NULL) == 1 &&
		    EVP_CIPHER_CTX_set_padding(ctx, 0) == 1);
	return ctx;
}

static struct seal_thread *
id_thread(void)
{
	struct seal_thread *self = seal_thread();
	unsigned char secret[VAULT_KEY_SIZE], key[VAULT_KEY_SIZE];

	if (!self->id_seal) {
		keys_peer_secret(secret);
		IRIS_ASSERT(seal_derive_key(secret, "iris log id", key));
		self->id_seal = id_cipher_new(key, true);
		self->id_open = id_cipher_new(key, false);
		OPENSSL_cleanse(secret, sizeof(secret));
		OPENSSL_cleanse(key, sizeof(key));
	}
	return self;
}

/*
 * SECURITY: one block of AES, and no two ids of one reader are the same: it shows nothing but that
 * two texts are different. A text that somebody made up has the right reader once in 2^64 times.
 */
struct iris_str
log_id_seal(struct iris_arena *arena, int64_t reader, int64_t id)
{
	unsigned char block[ID_BLOCK], sealed[ID_BLOCK];
	int len = 0;

	if (writes_are_refused())
		return IRIS_STR_NONE;
	put_be(block, (uint64_t)id, 8);
	put_be(block + 8, (uint64_t)reader, 8);
	IRIS_ASSERT(EVP_CipherUpdate(id_thread()->id_seal, sealed, &len, block, ID_BLOCK) == 1 &&
		    len == ID_BLOCK);
	char *text = arena_alloc(arena, ID_PADDED + 1);
	(void)EVP_EncodeBlock((unsigned char *)text, sealed, ID_BLOCK);
	return (struct iris_str){ text, ID_TEXT };
}

/* EVP_DecodeBlock() is lenient: only the text that would be written for this block is taken. */
static bool
id_decode(struct iris_str text, unsigned char block_r[ID_BLOCK])
{
	unsigned char padded[ID_PADDED], again[ID_PADDED + 1], out[18];

	if (text.len != ID_TEXT)
		return false;
	memset(padded, '=', sizeof(padded));
	memcpy(padded, text.base, ID_TEXT);
	if (EVP_DecodeBlock(out, padded, ID_PADDED) != sizeof(out))
		return false;
	(void)EVP_EncodeBlock(again, out, ID_BLOCK);
	memcpy(block_r, out, ID_BLOCK);
	return memcmp(again, text.base, ID_TEXT) == 0;
}

static uint64_t
get_be(const unsigned char *at)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < 8; i++)
		number = number << 8 | at[i];
	return number;
}

bool
log_id_open(struct iris_str sealed, int64_t reader, int64_t *id_r)
{
	unsigned char block[ID_BLOCK], plain[ID_BLOCK];
	int len = 0;

	if (writes_are_refused() || !id_decode(sealed, block))
		return false;
	IRIS_ASSERT(EVP_CipherUpdate(id_thread()->id_open, plain, &len, block, ID_BLOCK) == 1 &&
		    len == ID_BLOCK);
	*id_r = (int64_t)get_be(plain);
	return *id_r > 0 && get_be(plain + 8) == (uint64_t)reader;
}

/* --- start and stop --- */

bool
seal_start(struct iris_error *error)
{
	seal_cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	seal_block_cipher = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	seal_mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	seal_kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	if (pthread_key_create(&seal_thread_key, seal_thread_free) != 0)
		return error_set(error, "No thread-specific key is left");
	seal_started = true;
	if (seal_cipher && seal_block_cipher && seal_mac && seal_kdf)
		return true;
	seal_stop();
	return error_set(error, "The cryptographic library has no AES-256, HMAC or HKDF");
}

void
seal_stop(void)
{
	if (!seal_started)
		return;
	if (seal_self)
		seal_thread_free(seal_self);
	(void)pthread_key_delete(seal_thread_key);
	EVP_CIPHER_free(seal_cipher);
	EVP_CIPHER_free(seal_block_cipher);
	EVP_MAC_free(seal_mac);
	EVP_KDF_free(seal_kdf);
	seal_started = false;
}
