/* SPDX-License-Identifier: Apache-2.0 */
/*
 * E-mail addresses as they are compared (RFC 5321, 5322 dot-atom, 6531), and the keyed hash that
 * stands for one between regions (P2.6).  Any thread.  Does not find out whether mail arrives.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stringprep.h>

#include "iris/jid.h"
#include "modules/unique/unique_private.h"

#define LOCAL_MAX 64 /* bytes, RFC 5321 §4.5.3.1.1 */
#define LOCAL_ROOM (LOCAL_MAX * 4) /* folding may make it longer before it is judged */
#define KEY_SIZE 32
#define KEY_PURPOSE "iris unique e-mail 0"
#define KEY_OF_REGION "region" /* the id of a key that no other region has */

/* --- addresses --- */

/* RFC 5322 §3.2.3 atext, and what is not ASCII (RFC 6531 §3.3); dots only between them. */
static bool
local_is_dot_atom(const char *text, size_t len)
{
	static const char specials[] = "!#$%&'*+-/=?^_`{|}~";

	if (len == 0 || len > LOCAL_MAX || text[0] == '.' || text[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		bool is_atext = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
				(c >= 'a' && c <= 'z') || c >= 0x80 || (c && strchr(specials, c));

		if (!is_atext && (c != '.' || text[i + 1] == '.'))
			return false;
	}
	return true;
}

/*
 * Case folding and NFKC (nameprep), twice the same: what a later preparation would change again
 * would be two addresses that are one.
 */
static bool
local_fold(const char local[LOCAL_ROOM + 1], char folded_r[LOCAL_ROOM + 1])
{
	char again[LOCAL_ROOM + 1];

	memcpy(folded_r, local, LOCAL_ROOM + 1);
	if (stringprep(folded_r, LOCAL_ROOM + 1, 0, stringprep_nameprep) != STRINGPREP_OK)
		return false;
	memcpy(again, folded_r, sizeof(again));
	return stringprep(again, sizeof(again), 0, stringprep_nameprep) == STRINGPREP_OK &&
	       strcmp(again, folded_r) == 0;
}

/*
 * RFC 5321 §2.4: by the book only the receiver knows whether case matters in the local part. No
 * receiver that anybody uses minds it, and two people told apart by it would be a trap.
 */
bool
unique_prepare_address(struct iris_arena *arena, struct iris_str text, struct iris_str *address_r)
{
	const char *at = text.len > 0 && text.len <= UNIQUE_ADDRESS_MAX ?
				 memchr(text.base, '@', text.len) :
				 NULL;
	size_t local_len = at ? (size_t)(at - text.base) : 0;
	char local[LOCAL_ROOM + 1] = "", folded[LOCAL_ROOM + 1];
	struct iris_str domain;
	struct iris_jid jid;

	if (!at || !local_is_dot_atom(text.base, local_len))
		return false;
	memcpy(local, text.base, local_len);
	domain = (struct iris_str){ at + 1, text.len - local_len - 1 };
	/* Folding can bring forth what has a meaning, a full-width commercial at: judged again. */
	if (!local_fold(local, folded) || !local_is_dot_atom(folded, strlen(folded)) ||
	    domain.len == 0 || domain.base[0] == '[' ||
	    !jid_make(arena, IRIS_STR_NONE, domain, IRIS_STR_NONE, &jid))
		return false;
	*address_r = arena_printf(arena, "%s@%.*s", folded, IRIS_STR_FMT(jid_domain(&jid)));
	return address_r->len <= UNIQUE_ADDRESS_MAX;
}

/* --- the key --- */

static void
derive(const unsigned char secret[REGION_SECRET_SIZE], unsigned char key_r[KEY_SIZE])
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret,
						  REGION_SECRET_SIZE),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (char *)KEY_PURPOSE,
						  strlen(KEY_PURPOSE)),
		OSSL_PARAM_construct_end(),
	};

	IRIS_ASSERT(context && EVP_KDF_derive(context, key_r, KEY_SIZE, params) == 1);
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
}

/* Where nobody is asked: from what lives as long as the region, and is unknown outside. */
static void
own_secret(unsigned char secret_r[REGION_SECRET_SIZE])
{
	for (unsigned i = 0; i < REGION_SECRET_SIZE / sizeof(int64_t); i++) {
		char label[] = "unique: secret 0";
		int64_t part;

		label[sizeof(label) - 2] = (char)('0' + i);
		part = vault_peer_id(str_from(label));
		memcpy(secret_r + i * sizeof(part), &part, sizeof(part));
	}
}

static enum iris_condition
current_secret(unsigned char secret_r[REGION_SECRET_SIZE], char id_r[REGION_SECRET_ID + 1],
	       const char **text_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_region_federation federation;
	bool is_known = region_federation(arena, &federation);
	size_t others = federation.count;

	arena_unref(&arena);
	*text_r = NULL;
	if (!is_known) {
		*text_r = "The region map is not in force yet";
		return IRIS_RESOURCE_CONSTRAINT;
	}
	if (region_secret(secret_r, id_r))
		return IRIS_NO_ERROR;
	if (others > 0) {
		*text_r = "The federated regions share no secret: regions: {secret: FILE}";
		return IRIS_NOT_ALLOWED;
	}
	own_secret(secret_r);
	snprintf(id_r, REGION_SECRET_ID + 1, "%s", KEY_OF_REGION);
	return IRIS_NO_ERROR;
}

enum iris_condition
unique_key_id(char id_r[REGION_SECRET_ID + 1], const char **text_r)
{
	unsigned char secret[REGION_SECRET_SIZE];
	enum iris_condition condition = current_secret(secret, id_r, text_r);

	OPENSSL_cleanse(secret, sizeof(secret));
	return condition;
}

/* --- names --- */

enum iris_condition
unique_make_name(struct iris_str address, struct unique_name *name_r, const char **text_r)
{
	unsigned char secret[REGION_SECRET_SIZE], key[KEY_SIZE], hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	enum iris_condition condition = current_secret(secret, name_r->key, text_r);

	if (condition != IRIS_NO_ERROR)
		return condition;
	derive(secret, key);
	IRIS_ASSERT(HMAC(EVP_sha256(), key, sizeof(key), (const unsigned char *)address.base,
			 address.len, hash, &len) &&
		    (size_t)EVP_EncodeBlock((unsigned char *)name_r->hash, hash, (int)len) ==
			    UNIQUE_HASH);
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(key, sizeof(key));
	return IRIS_NO_ERROR;
}
