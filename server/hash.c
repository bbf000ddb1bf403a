/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chained hash tables under SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF"; one round per word, three at the end).  A table belongs to whoever embeds it: no locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "iris/hash.h"

#define BUCKETS_MIN 8u

static uint64_t key[2]; /* written once, before there are threads */

/* SECURITY: a key that peers could guess would let them choose names that collide. */
__attribute__((constructor)) static void
draw_key(void)
{
	ssize_t n;

	do
		n = getrandom(key, sizeof(key), 0);
	while (n < 0 && errno == EINTR);
	IRIS_ASSERT(n == (ssize_t)sizeof(key));
}

static inline uint64_t
rotate(uint64_t x, unsigned bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static inline void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

uint64_t
hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t last = (uint64_t)len << 56, word;
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
		key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u,
	};

	for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline size_t
bucket_of(const struct iris_hash *hash, uint64_t value)
{
	return (size_t)value & (hash->bucket_count - 1);
}

static void
resize(struct iris_hash *hash, size_t bucket_count)
{
	struct iris_hash old = *hash;

	hash->buckets = iris_calloc(bucket_count, sizeof(*hash->buckets));
	hash->bucket_count = bucket_count;
	for (size_t i = 0; i < old.bucket_count; i++) {
		struct iris_hash_node *node = old.buckets[i];

		while (node) {
			struct iris_hash_node *next = node->next;
			size_t bucket = bucket_of(hash, node->hash);

			node->next = hash->buckets[bucket];
			hash->buckets[bucket] = node;
			node = next;
		}
	}
	free(old.buckets);
}

/* Shrinks here and never at a removal: a walk may remove. */
static void
fit(struct iris_hash *hash)
{
	if (hash->count >= hash->bucket_count)
		resize(hash, hash->bucket_count > 0 ? 2 * hash->bucket_count : BUCKETS_MIN);
	else if (hash->bucket_count > 8 * BUCKETS_MIN && hash->count < hash->bucket_count / 8)
		resize(hash, hash->bucket_count / 2);
}

static struct iris_hash_node *
find(const struct iris_hash *hash, struct iris_str name, uint64_t value)
{
	struct iris_hash_node *node = hash->buckets[bucket_of(hash, value)];

	while (node && !(node->hash == value && str_equal(node->key, name)))
		node = node->next;
	return node;
}

struct iris_hash_node *
hash_find(const struct iris_hash *hash, struct iris_str name)
{
	return hash->count > 0 ? find(hash, name, hash_bytes(name.base, name.len)) : NULL;
}

void
hash_insert(struct iris_hash *hash, struct iris_hash_node *node, struct iris_str name)
{
	size_t bucket;

	fit(hash);
	node->key = name;
	node->hash = hash_bytes(name.base, name.len);
	IRIS_ASSERT(!find(hash, name, node->hash));
	bucket = bucket_of(hash, node->hash);
	node->next = hash->buckets[bucket];
	hash->buckets[bucket] = node;
	hash->count++;
}

void
hash_remove(struct iris_hash *hash, struct iris_hash_node *node)
{
	struct iris_hash_node **link;

	IRIS_ASSERT(hash->count > 0);
	link = &hash->buckets[bucket_of(hash, node->hash)];
	while (*link && *link != node)
		link = &(*link)->next;
	IRIS_ASSERT(*link == node);
	*link = node->next;
	node->next = NULL;
	hash->count--;
}

static struct iris_hash_node *
first_from(const struct iris_hash *hash, size_t bucket)
{
	while (bucket < hash->bucket_count && !hash->buckets[bucket])
		bucket++;
	return bucket < hash->bucket_count ? hash->buckets[bucket] : NULL;
}

struct iris_hash_node *
hash_first(const struct iris_hash *hash)
{
	return hash->count > 0 ? first_from(hash, 0) : NULL;
}

struct iris_hash_node *
hash_next(const struct iris_hash *hash, const struct iris_hash_node *node)
{
	return node->next ? node->next : first_from(hash, bucket_of(hash, node->hash) + 1);
}

void
hash_free(struct iris_hash *hash)
{
	IRIS_ASSERT(hash->count == 0);
	free(hash->buckets);
	*hash = (struct iris_hash){ .buckets = NULL };
}
