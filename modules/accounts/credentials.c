/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCRAM verifiers (RFC 5802 §3, RFC 7677): derived, compared, kept, made up.  Over OpenSSL, pure,
 * any thread.  Fetches nothing and stores nothing.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "accounts_private.h"

#define RECORD_VERSION 1
#define RECORD_HEAD 6 /* version, iterations (32 bits, big endian), length of the salt */

static const struct credential_hash hashes[CREDENTIAL_HASHES] = {
	{ "SCRAM-SHA-512", 64 },
	{ "SCRAM-SHA-256", 32 },
	{ "SCRAM-SHA-1", 20 },
};

const struct credential_hash *
credential_hash_at(size_t i)
{
	return i < CREDENTIAL_HASHES ? &hashes[i] : NULL;
}

static const EVP_MD *
digest_of(const struct credential_hash *hash)
{
	switch (hash->key_size) {
	case 64:
		return EVP_sha512();
	case 32:
		return EVP_sha256();
	default:
		return EVP_sha1();
	}
}

static bool
hmac_text(const struct credential_hash *hash, const unsigned char *key, const char *text,
	  unsigned char *out)
{
	unsigned len;

	return HMAC(digest_of(hash), key, (int)hash->key_size, (const unsigned char *)text,
		    strlen(text), out, &len) != NULL;
}

/* SaltedPassword → StoredKey, ServerKey. */
static bool
derive_keys(const struct credential_hash *hash, struct iris_str password, struct iris_str salt,
	    unsigned iterations, unsigned char *stored_key, unsigned char *server_key)
{
	unsigned char salted[CREDENTIAL_KEY_MAX], client_key[CREDENTIAL_KEY_MAX];
	bool ok = PKCS5_PBKDF2_HMAC(password.base, (int)password.len,
				    (const unsigned char *)salt.base, (int)salt.len,
				    (int)iterations, digest_of(hash), (int)hash->key_size,
				    salted) == 1 &&
		  hmac_text(hash, salted, "Client Key", client_key) &&
		  EVP_Digest(client_key, hash->key_size, stored_key, NULL, digest_of(hash), NULL) ==
			  1 &&
		  hmac_text(hash, salted, "Server Key", server_key);

	OPENSSL_cleanse(salted, sizeof(salted));
	OPENSSL_cleanse(client_key, sizeof(client_key));
	return ok;
}

static struct iris_str
copy_bytes(struct iris_arena *arena, const unsigned char *bytes, size_t len)
{
	return arena_copy_str(arena, (struct iris_str){ (const char *)bytes, len });
}

bool
credential_derive(struct iris_arena *arena, const struct credential_hash *hash,
		  struct iris_str password, struct iris_str salt, unsigned iterations,
		  struct iris_scram *scram_r)
{
	unsigned char stored_key[CREDENTIAL_KEY_MAX], server_key[CREDENTIAL_KEY_MAX];

	IRIS_ASSERT(iterations >= SCRAM_ITERATIONS_MIN && iterations <= SCRAM_ITERATIONS_MAX);
	if (!derive_keys(hash, password, salt, iterations, stored_key, server_key))
		return false;
	*scram_r = (struct iris_scram){
		.mechanism = str_from(hash->mechanism),
		.iterations = iterations,
		.salt = arena_copy_str(arena, salt),
		.stored_key = copy_bytes(arena, stored_key, hash->key_size),
		.server_key = copy_bytes(arena, server_key, hash->key_size),
	};
	return true;
}

bool
credential_matches(const struct credential_hash *hash, const struct iris_scram *scram,
		   struct iris_str password)
{
	unsigned char stored_key[CREDENTIAL_KEY_MAX], server_key[CREDENTIAL_KEY_MAX];
	struct iris_str derived = { (const char *)stored_key, hash->key_size };

	return derive_keys(hash, password, scram->salt, scram->iterations, stored_key,
			   server_key) &&
	       str_equal_secret(derived, scram->stored_key);
}

struct iris_str
credential_encode(struct iris_arena *arena, const struct iris_scram *scram)
{
	size_t len = RECORD_HEAD + scram->salt.len + scram->stored_key.len + scram->server_key.len;
	unsigned char *record = arena_alloc(arena, len), *at = record + RECORD_HEAD;

	IRIS_ASSERT(scram->salt.len <= UINT8_MAX);
	record[0] = RECORD_VERSION;
	for (unsigned i = 0; i < 4; i++)
		record[1 + i] = (unsigned char)(scram->iterations >> (24 - 8 * i));
	record[5] = (unsigned char)scram->salt.len;
	memcpy(at, scram->salt.base, scram->salt.len);
	at += scram->salt.len;
	memcpy(at, scram->stored_key.base, scram->stored_key.len);
	at += scram->stored_key.len;
	memcpy(at, scram->server_key.base, scram->server_key.len);
	return (struct iris_str){ (const char *)record, len };
}

bool
credential_decode(struct iris_str bytes, const struct credential_hash *hash,
		  struct iris_scram *scram_r)
{
	const unsigned char *record = (const unsigned char *)bytes.base;
	unsigned iterations = 0;
	size_t salt_len;

	if (bytes.len < RECORD_HEAD || record[0] != RECORD_VERSION)
		return false;
	for (unsigned i = 0; i < 4; i++)
		iterations = iterations << 8 | record[1 + i];
	salt_len = record[5];
	if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX ||
	    salt_len == 0 || bytes.len != RECORD_HEAD + salt_len + 2 * (size_t)hash->key_size)
		return false;
	*scram_r = (struct iris_scram){
		.mechanism = str_from(hash->mechanism),
		.iterations = iterations,
		.salt = { bytes.base + RECORD_HEAD, salt_len },
		.stored_key = { bytes.base + RECORD_HEAD + salt_len, hash->key_size },
		.server_key = { bytes.base + RECORD_HEAD + salt_len + hash->key_size,
				hash->key_size },
	};
	return true;
}

/* Takes what stands before the separator off the front of *rest; false: it does not occur. */
static bool
take_field(struct iris_str *rest, char separator, struct iris_str *field_r)
{
	const char *end = rest->len > 0 ? memchr(rest->base, separator, rest->len) : NULL;

	if (!end)
		return false;
	*field_r = (struct iris_str){ rest->base, (size_t)(end - rest->base) };
	*rest = (struct iris_str){ end + 1, rest->len - field_r->len - 1 };
	return true;
}

static const struct credential_hash *
hash_named(struct iris_str mechanism)
{
	for (size_t i = 0; i < CREDENTIAL_HASHES; i++)
		if (str_is(mechanism, hashes[i].mechanism))
			return &hashes[i];
	return NULL;
}

bool
credential_parse(struct iris_arena *arena, struct iris_str text, struct iris_scram *scram_r)
{
	struct iris_str scheme, iterations, salt, stored_key;
	const struct credential_hash *hash;
	int64_t count;

	if (!take_field(&text, '$', &scheme) || !take_field(&text, ':', &iterations) ||
	    !take_field(&text, '$', &salt) || !take_field(&text, ':', &stored_key))
		return false;
	hash = hash_named(scheme);
	if (!hash ||
	    !str_to_int(iterations, SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX, &count) ||
	    !base64_decode(arena, salt, &scram_r->salt) ||
	    !base64_decode(arena, stored_key, &scram_r->stored_key) ||
	    !base64_decode(arena, text, &scram_r->server_key))
		return false;
	scram_r->mechanism = str_from(hash->mechanism);
	scram_r->iterations = (unsigned)count;
	return scram_r->salt.len > 0 && scram_r->salt.len <= UINT8_MAX &&
		scram_r->stored_key.len == hash->key_size &&
		scram_r->server_key.len == hash->key_size;
}

/* The digest of a stretch of the seed's space, named by `what`. */
static struct iris_str
stretch(struct iris_arena *arena, const struct credential_hash *hash, struct iris_str seed,
	const char *what, size_t len)
{
	unsigned char out[EVP_MAX_MD_SIZE];
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_str input;

	IRIS_ASSERT(len <= 64);
	strbuf_printf(&text, "%s %s ", hash->mechanism, what);
	strbuf_add(&text, seed);
	input = strbuf_str(&text);
	IRIS_ASSERT(EVP_Digest(input.base, input.len, out, NULL, EVP_sha512(), NULL) == 1);
	return copy_bytes(arena, out, len);
}

void
credential_make_up(struct iris_arena *arena, const struct credential_hash *hash,
		   struct iris_str seed, unsigned iterations, struct iris_scram *scram_r)
{
	*scram_r = (struct iris_scram){
		.mechanism = str_from(hash->mechanism),
		.iterations = iterations,
		.salt = stretch(arena, hash, seed, "salt", CREDENTIAL_SALT_SIZE),
		/* No ClientKey is known to hash to it: finding one is finding a preimage. */
		.stored_key = stretch(arena, hash, seed, "stored", hash->key_size),
		.server_key = stretch(arena, hash, seed, "server", hash->key_size),
	};
}
