/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing what is kept outside the engine, chunk by chunk: AES-256-GCM, as the construction STREAM
 * has it (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce is the chunk's number and whether it
 * is the last.  Any thread, one at a time for each struct.  Does not keep keys nor bytes.
 *
 * Nonce: 11 bytes number, big-endian; 1 byte: 1 for the last.   AAD: 'X' 'F' 1 1, owner, object.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "vault_private.h"

#define CHUNK_NONCE 12
#define CHUNK_AAD 16

struct iris_blob {
	EVP_CIPHER_CTX *ctx;
	unsigned char aad[CHUNK_AAD];
};

static void
put_be(unsigned char *out, uint64_t number, unsigned bytes)
{
	while (bytes-- > 0) {
		out[bytes] = (unsigned char)number;
		number >>= 8;
	}
}

void
blob_key_make(unsigned char key_r[BLOB_KEY])
{
	IRIS_ASSERT(RAND_priv_bytes(key_r, BLOB_KEY) == 1);
}

struct iris_blob *
blob_new(const unsigned char key[BLOB_KEY], iris_owner owner, int64_t object, bool seal)
{
	struct iris_blob *blob = iris_calloc(1, sizeof(*blob));

	_Static_assert(BLOB_KEY == VAULT_KEY_SIZE, "one cipher");
	blob->ctx = seal_cipher_new(key, seal);
	IRIS_ASSERT(blob->ctx);
	memcpy(blob->aad, "XF\1\1", 4);
	put_be(blob->aad + 4, owner, 4);
	put_be(blob->aad + 8, (uint64_t)object, 8);
	return blob;
}

void
blob_free(struct iris_blob **blob_p)
{
	if (!*blob_p)
		return;
	EVP_CIPHER_CTX_free((*blob_p)->ctx); /* wipes the key */
	free(*blob_p);
	*blob_p = NULL;
}

static bool
chunk_begin(struct iris_blob *blob, uint64_t number, bool last)
{
	unsigned char nonce[CHUNK_NONCE];
	int ignored;

	put_be(nonce, number, CHUNK_NONCE - 1);
	nonce[CHUNK_NONCE - 1] = last;
	return EVP_CipherInit_ex2(blob->ctx, NULL, NULL, nonce, -1, NULL) == 1 &&
	       EVP_CipherUpdate(blob->ctx, NULL, &ignored, blob->aad, CHUNK_AAD) == 1;
}

void
blob_seal(struct iris_blob *blob, uint64_t number, bool last, struct iris_str plain,
	   char *sealed_r)
{
	unsigned char *out = (unsigned char *)sealed_r;
	int len = 0, rest;

	IRIS_ASSERT(plain.len <= BLOB_CHUNK_SIZE && (last || plain.len == BLOB_CHUNK_SIZE));
	IRIS_ASSERT(chunk_begin(blob, number, last) &&
		    EVP_CipherUpdate(blob->ctx, out, &len, (const unsigned char *)plain.base,
				     (int)plain.len) == 1 &&
		    EVP_CipherFinal_ex(blob->ctx, out + len, &rest) == 1 &&
		    EVP_CIPHER_CTX_ctrl(blob->ctx, EVP_CTRL_AEAD_GET_TAG, BLOB_TAG,
					out + plain.len) == 1);
}

bool
blob_open(struct iris_blob *blob, uint64_t number, bool last, struct iris_str sealed,
	   char *plain_r)
{
	const unsigned char *in = (const unsigned char *)sealed.base;
	unsigned char *out = (unsigned char *)plain_r, tag[BLOB_TAG];
	int len = 0, rest;

	if (sealed.len < BLOB_TAG || sealed.len > BLOB_CHUNK_SIZE + BLOB_TAG)
		return false;
	size_t plain_len = sealed.len - BLOB_TAG;
	memcpy(tag, in + plain_len, sizeof(tag));
	return chunk_begin(blob, number, last) &&
	       EVP_CipherUpdate(blob->ctx, out, &len, in, (int)plain_len) == 1 &&
	       EVP_CIPHER_CTX_ctrl(blob->ctx, EVP_CTRL_AEAD_SET_TAG, BLOB_TAG, tag) == 1 &&
	       EVP_CipherFinal_ex(blob->ctx, out + len, &rest) == 1;
}
