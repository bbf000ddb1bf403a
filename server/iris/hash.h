/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An intrusive hash table with string keys.  The node is embedded in what is kept, the key is
 * borrowed from it.  Hashed with SipHash-1-3 under a key drawn at start.
 * SECURITY: peers choose JIDs and resources; an unkeyed hash could be flooded with collisions.
 */
#ifndef IRIS_HASH_H
#define IRIS_HASH_H

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_hash_node {
	struct iris_hash_node *next;
	struct iris_str key; /* borrowed from the embedding object, constant while it is in */
	uint64_t hash;
};

struct iris_hash {
	struct iris_hash_node **buckets;
	size_t bucket_count; /* 0 before the first insert, then a power of two */
	size_t count;
};

uint64_t hash_bytes(const void *data, size_t len); /* the keyed hash itself, same in all threads */

struct iris_hash_node *hash_find(const struct iris_hash *hash, struct iris_str key);
/* The key must not be in the table yet. */
void hash_insert(struct iris_hash *hash, struct iris_hash_node *node, struct iris_str key);
void hash_remove(struct iris_hash *hash, struct iris_hash_node *node);
/* Walks all nodes; the table must not change meanwhile, except by removing the current node. */
struct iris_hash_node *hash_first(const struct iris_hash *hash);
struct iris_hash_node *hash_next(const struct iris_hash *hash, const struct iris_hash_node *node);
void hash_free(struct iris_hash *hash); /* the buckets; the table must be empty */

#define HASH_FOREACH(node, hash)                                             \
	for (struct iris_hash_node *node = hash_first(hash), *node##_next;   \
	     node && ((node##_next = hash_next((hash), node)), 1); node = node##_next)

#pragma GCC visibility pop
#endif
