/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failed attempts by key, with growing delays and a lock for a while (P3.8).  A pure table: who
 * owns it, calls it; it sleeps not and knows no clock.
 *
 * SECURITY: memory is bounded whatever names are tried.  When the table is full, the least guilty
 * of the oldest entries goes, so that a flood of fresh names does not wash out those that are
 * locked.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "accounts_private.h"

#define EVICTION_WINDOW 8 /* of the oldest entries */

struct throttle_entry {
	TAILQ_ENTRY(throttle_entry) link; /* the longest unused first */
	struct iris_hash_node node;
	uint64_t key; /* a keyed hash of the name: entries are small, and the names are not kept */
	unsigned failures;
	int64_t last_ms, locked_until_ms;
};

struct throttle {
	struct iris_hash entries;
	TAILQ_HEAD(, throttle_entry) order;
	size_t entries_max;
};

static struct throttle_entry *
entry_find(struct throttle *throttle, struct iris_str name)
{
	uint64_t key = hash_bytes(name.base, name.len);
	struct iris_hash_node *node =
		hash_find(&throttle->entries, (struct iris_str){ (const char *)&key, sizeof(key) });

	return node ? IRIS_CONTAINER(node, struct throttle_entry, node) : NULL;
}

static void
entry_drop(struct throttle *throttle, struct throttle_entry *entry)
{
	hash_remove(&throttle->entries, &entry->node);
	TAILQ_REMOVE(&throttle->order, entry, link);
	free(entry);
}

static void
make_room(struct throttle *throttle)
{
	struct throttle_entry *entry = TAILQ_FIRST(&throttle->order), *victim = entry;

	if (throttle->entries.count < throttle->entries_max)
		return;
	for (unsigned i = 0; entry && i < EVICTION_WINDOW; i++, entry = TAILQ_NEXT(entry, link))
		if (entry->failures < victim->failures)
			victim = entry;
	entry_drop(throttle, victim);
}

static struct throttle_entry *
entry_add(struct throttle *throttle, struct iris_str name)
{
	struct throttle_entry *entry;

	make_room(throttle);
	entry = iris_calloc(1, sizeof(*entry));
	entry->key = hash_bytes(name.base, name.len);
	hash_insert(&throttle->entries, &entry->node,
		    (struct iris_str){ (const char *)&entry->key, sizeof(entry->key) });
	TAILQ_INSERT_TAIL(&throttle->order, entry, link);
	return entry;
}

static int64_t
delay_after(unsigned failures, const struct throttle_policy *policy)
{
	int64_t delay = policy->delay_ms;

	if (failures < THROTTLE_FREE_TRIES)
		return 0;
	for (unsigned i = THROTTLE_FREE_TRIES; i < failures && delay < THROTTLE_DELAY_MAX_MS; i++)
		delay *= 2;
	return delay < THROTTLE_DELAY_MAX_MS ? delay : THROTTLE_DELAY_MAX_MS;
}

struct throttle *
throttle_new(size_t entries_max)
{
	struct throttle *throttle = iris_calloc(1, sizeof(*throttle));

	IRIS_ASSERT(entries_max > 0);
	TAILQ_INIT(&throttle->order);
	throttle->entries_max = entries_max;
	return throttle;
}

void
throttle_free(struct throttle **throttle_p)
{
	struct throttle *throttle = *throttle_p;
	struct throttle_entry *entry;

	if (!throttle)
		return;
	*throttle_p = NULL;
	while ((entry = TAILQ_FIRST(&throttle->order)) != NULL)
		entry_drop(throttle, entry);
	hash_free(&throttle->entries);
	free(throttle);
}

int64_t
throttle_begin(struct throttle *throttle, struct iris_str key, const struct throttle_policy *policy,
	       int64_t now_ms)
{
	struct throttle_entry *entry;
	int64_t delay;

	if (policy->tries == 0)
		return 0;
	entry = entry_find(throttle, key);
	if (!entry)
		entry = entry_add(throttle, key);
	TAILQ_REMOVE(&throttle->order, entry, link);
	TAILQ_INSERT_TAIL(&throttle->order, entry, link);
	if (entry->locked_until_ms > now_ms)
		return THROTTLE_LOCKED; /* not counted: else whoever keeps trying is locked out for
					   ever */
	if (entry->last_ms + policy->memory_ms < now_ms)
		entry->failures = 0;
	entry->last_ms = now_ms;
	if (entry->failures >= policy->tries) {
		entry->locked_until_ms = now_ms + policy->lock_ms;
		entry->failures = policy->tries / 2; /* fewer tries the next time */
		return THROTTLE_LOCKED;
	}
	delay = delay_after(entry->failures, policy);
	entry->failures++;
	return delay;
}

void
throttle_forgive(struct throttle *throttle, struct iris_str key, bool all)
{
	struct throttle_entry *entry = entry_find(throttle, key);

	if (!entry)
		return;
	entry->failures = all || entry->failures == 0 ? 0 : entry->failures - 1;
	if (all)
		entry->locked_until_ms = 0;
	if (entry->failures == 0 && entry->locked_until_ms == 0)
		entry_drop(throttle, entry);
}

size_t
throttle_count(const struct throttle *throttle)
{
	return throttle->entries.count;
}

struct iris_str
throttle_address_key(struct iris_arena *arena, struct iris_str address)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];

	if (!str_copy_to(text, sizeof(text), address) || inet_pton(AF_INET6, text, bytes) != 1)
		return address;
	return arena_printf(arena, "%02x%02x:%02x%02x:%02x%02x:%02x%02x/64", bytes[0], bytes[1],
			    bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]);
}
