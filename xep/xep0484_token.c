/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the mechanisms HT-SHA-256-* (draft-schmaus-kitten-sasl-ht), which XEP-0484
 * signs in with.  Pure functions over OpenSSL, any thread, fuzzed.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "iris/jid.h"
#include "xep0484_token.h"

bool
ht_parse(struct iris_str message, struct ht_message *message_r)
{
	const char *end = message.len > 0 ? memchr(message.base, '\0', message.len) : NULL;

	if (!end)
		return false;
	message_r->username = (struct iris_str){ message.base, (size_t)(end - message.base) };
	message_r->hash = (struct iris_str){ end + 1, message.len - message_r->username.len - 1 };
	return message_r->username.len > 0 && message_r->username.len <= 2 * JID_PART_MAX + 1 &&
		message_r->hash.len == HT_HASH_SIZE;
}

struct iris_str
ht_hash(struct iris_arena *arena, struct iris_str token, const char *who, struct iris_str binding)
{
	struct iris_strbuf text = STRBUF_INIT(arena);
	unsigned char out[EVP_MAX_MD_SIZE];
	struct iris_str input;
	unsigned len;

	strbuf_add(&text, str_from(who));
	strbuf_add(&text, binding);
	input = strbuf_str(&text);
	IRIS_ASSERT(HMAC(EVP_sha256(), token.base, (int)token.len,
			 (const unsigned char *)input.base, input.len, out, &len) != NULL);
	return arena_copy_str(arena, (struct iris_str){ (const char *)out, len });
}
