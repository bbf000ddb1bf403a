/* SPDX-License-Identifier: Apache-2.0 */
/* The HT messages (draft-schmaus-kitten-sasl-ht) of XEP-0484: pure, any thread. */
#ifndef XEP0484_TOKEN_H
#define XEP0484_TOKEN_H

#include "iris/arena.h"

#define HT_HASH_SIZE 32 /* HMAC-SHA-256 */

struct ht_message {
	struct iris_str username, hash;
};
/* "authcid NUL hashed-token"; false: malformed. */
IRIS_MUST_CHECK bool ht_parse(struct iris_str message, struct ht_message *message_r);
/* HMAC(token, "Initiator" or "Responder" || binding data), HT_HASH_SIZE bytes in the arena. */
struct iris_str ht_hash(struct iris_arena *arena, struct iris_str token, const char *who,
			struct iris_str binding);

#endif
