/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services and their nodes in memory, at their home: loaded, made, configured, deleted, with who
 * may what and who is subscribed.  Items stay in the store.  What changes is stored first, then so
 * in memory; whoever waits holds a reference and looks at `gone` afterwards.
 */
#include <stdlib.h>

#include "modules/pubsub/pubsub_private.h"

struct pubsub_service *
service_of(const struct iris_user *user)
{
	return *user_slot((struct iris_user *)user, &pubsub_self);
}

struct pubsub_node *
service_node(const struct pubsub_service *service, struct iris_str name)
{
	struct iris_hash_node *node = hash_find(&service->nodes, name);

	return node ? IRIS_CONTAINER(node, struct pubsub_node, by_name) : NULL;
}

/* --- a node's life --- */

struct pubsub_node *
node_ref(struct pubsub_node *node)
{
	node->refs++;
	return node;
}

static void
node_free(struct pubsub_node *node)
{
	last_forget(node);
	HASH_FOREACH(affiliate, &node->affiliates) {
		hash_remove(&node->affiliates, affiliate);
		free(IRIS_CONTAINER(affiliate, struct pubsub_affiliate, node));
	}
	HASH_FOREACH(subscriber, &node->subscribers) {
		hash_remove(&node->subscribers, subscriber);
		free(IRIS_CONTAINER(subscriber, struct pubsub_subscriber, node));
	}
	hash_free(&node->affiliates);
	hash_free(&node->subscribers);
	node_config_free(&node->config);
	free(node);
}

void
node_unref(struct pubsub_node **node_p)
{
	struct pubsub_node *node = *node_p;

	*node_p = NULL;
	if (node && --node->refs == 0)
		node_free(node);
}

static struct pubsub_node *
node_make(struct pubsub_service *service, struct iris_str name, int64_t id)
{
	struct pubsub_node *node = iris_calloc(1, sizeof(*node) + name.len + 1);

	node->service = service;
	node->refs = 1;
	node->id = id;
	memcpy(node->name, name.base, name.len);
	hash_insert(&service->nodes, &node->by_name, (struct iris_str){ node->name, name.len });
	return node;
}

struct pubsub_node *
node_new(struct pubsub_service *service, struct iris_str name, const struct pubsub_config *config)
{
	struct pubsub_node *node = node_make(service, name, vault_next_id(IRIS_SEQ_LOG));

	node->created_ms = worker_wall_ms();
	node_config_copy(&node->config, config);
	return node;
}

void
node_forget(struct pubsub_node *node)
{
	if (node->gone)
		return;
	node->gone = true;
	hash_remove(&node->service->nodes, &node->by_name);
	node_unref(&node);
}

static bool
is_listed(const struct pubsub_node *node, const struct pubsub_config *config)
{
	return !node->service->user && access_is_listed(config->numbers[CONFIG_ACCESS_MODEL]);
}

void
node_add_to_batch(const struct pubsub_node *node, struct iris_batch *batch)
{
	const struct pubsub_service *service = node->service;
	struct iris_arena *arena = arena_new();

	batch_add(batch, &store_node_insert,
		  VALUES(value_int(node->id), value_int(service->key), value_int(service->account),
			 value_int(vault_peer_id(node_name(node))), value_str(node_name(node)),
			 value_str(node_config_write(arena, &node->config)),
			 value_int(node->created_ms), value_int(service->user ? 0 : service->owner),
			 value_int(is_listed(node, &node->config))));
	arena_unref(&arena);
}

bool
node_delete(struct pubsub_node *node)
{
	struct iris_batch *batch = batch_new(node->service->owner);

	node->going = true;
	store_clear_node(batch, node->id, false);
	if (batch_write(&batch) == IRIS_VAULT_OK)
		node_forget(node);
	else
		node->going = false;
	return node->gone;
}

bool
node_configure(struct pubsub_node *node, struct pubsub_config *config)
{
	struct iris_arena *arena = arena_new();
	bool stored = vault_write(&store_node_configure, node->service->owner,
				  VALUES(value_int(node->id),
					 value_str(node_config_write(arena, config)),
					 value_int(is_listed(node, config))),
				  NULL) == IRIS_VAULT_OK;

	arena_unref(&arena);
	if (stored) {
		node_config_free(&node->config);
		node->config = *config;
		*config = (struct pubsub_config){ .texts = { NULL } };
		last_forget(node);
	}
	return stored;
}

/* --- who may what, who is subscribed --- */

static struct pubsub_affiliate *
affiliate_find(const struct pubsub_node *node, struct iris_str bare)
{
	struct iris_hash_node *found = hash_find(&node->affiliates, bare);

	return found ? IRIS_CONTAINER(found, struct pubsub_affiliate, node) : NULL;
}

enum pubsub_affiliation
node_affiliation(const struct pubsub_node *node, struct iris_str bare)
{
	const struct pubsub_affiliate *affiliate;

	if (node->service->user && str_equal(bare, jid_bare(&node->service->jid)))
		return AFFILIATION_OWNER;
	affiliate = affiliate_find(node, bare);
	return affiliate ? affiliate->affiliation : AFFILIATION_NONE;
}

static void
affiliate_put(struct pubsub_node *node, struct iris_str bare, enum pubsub_affiliation affiliation)
{
	struct pubsub_affiliate *affiliate = affiliate_find(node, bare);

	if (affiliate && affiliation == AFFILIATION_NONE) {
		hash_remove(&node->affiliates, &affiliate->node);
		free(affiliate);
	} else if (affiliate) {
		affiliate->affiliation = affiliation;
	} else if (affiliation != AFFILIATION_NONE) {
		affiliate = iris_calloc(1, sizeof(*affiliate) + bare.len);
		affiliate->affiliation = affiliation;
		memcpy(affiliate->jid, bare.base, bare.len);
		hash_insert(&node->affiliates, &affiliate->node,
			    (struct iris_str){ affiliate->jid, bare.len });
	}
}

void
node_add_owner(struct pubsub_node *node, const struct iris_jid *bare, struct iris_batch *batch)
{
	batch_add(batch, &store_affiliation_set,
		  VALUES(value_int(node->id), value_int(node->service->account),
			 value_int(vault_peer_id(jid_full(bare))), value_str(jid_full(bare)),
			 value_int(AFFILIATION_OWNER)));
	affiliate_put(node, jid_full(bare), AFFILIATION_OWNER);
}

bool
node_is_last_owner(const struct pubsub_node *node, struct iris_str bare)
{
	unsigned owners = 0;

	if (node->service->user || node_affiliation(node, bare) != AFFILIATION_OWNER)
		return false;
	HASH_FOREACH(found, &node->affiliates)
		owners += IRIS_CONTAINER(found, struct pubsub_affiliate, node)->affiliation ==
			  AFFILIATION_OWNER;
	return owners == 1;
}

bool
node_set_affiliation(struct pubsub_node *node, const struct iris_jid *bare,
		     enum pubsub_affiliation affiliation, struct iris_ticket *ticket)
{
	const struct pubsub_service *service = node->service;
	int64_t key = vault_peer_id(jid_full(bare));
	enum iris_vault_result result;

	if (affiliation == AFFILIATION_NONE)
		result = vault_post(&store_affiliation_delete, service->owner,
				    VALUES(value_int(node->id), value_int(key)), ticket);
	else
		result = vault_post(&store_affiliation_set, service->owner,
				    VALUES(value_int(node->id), value_int(service->account),
					   value_int(key), value_str(jid_full(bare)),
					   value_int(affiliation)),
				    ticket);
	if (result == IRIS_VAULT_OK)
		affiliate_put(node, jid_full(bare), affiliation);
	return result == IRIS_VAULT_OK;
}

struct pubsub_subscriber *
node_subscriber(const struct pubsub_node *node, struct iris_str jid)
{
	struct iris_hash_node *found = hash_find(&node->subscribers, jid);

	return found ? IRIS_CONTAINER(found, struct pubsub_subscriber, node) : NULL;
}

static void
subscriber_put(struct pubsub_node *node, struct iris_str jid, enum pubsub_subscription state,
	       unsigned options)
{
	struct pubsub_subscriber *subscriber = node_subscriber(node, jid);

	if (subscriber && state == SUBSCRIPTION_NONE) {
		hash_remove(&node->subscribers, &subscriber->node);
		free(subscriber);
		return;
	}
	if (state == SUBSCRIPTION_NONE)
		return;
	if (!subscriber) {
		subscriber = iris_calloc(1, sizeof(*subscriber) + jid.len);
		memcpy(subscriber->text, jid.base, jid.len);
		subscriber->jid = jid_from_prepared((struct iris_str){ subscriber->text, jid.len });
		hash_insert(&node->subscribers, &subscriber->node, jid_full(&subscriber->jid));
	}
	subscriber->state = state;
	subscriber->options = options;
}

bool
node_set_subscription(struct pubsub_node *node, const struct iris_jid *jid,
		      enum pubsub_subscription state, unsigned options, struct iris_ticket *ticket)
{
	const struct pubsub_service *service = node->service;
	int64_t key = vault_peer_id(jid_full(jid));
	enum iris_vault_result result;

	if (state == SUBSCRIPTION_NONE)
		result = vault_post(&store_subscription_delete, service->owner,
				    VALUES(value_int(node->id), value_int(key)), ticket);
	else
		result = vault_post(&store_subscription_set, service->owner,
				    VALUES(value_int(node->id), value_int(service->account),
					   value_int(key), value_str(jid_full(jid)),
					   value_int(state), value_int(options),
					   value_int(vault_peer_id(jid_bare(jid)))),
				    ticket);
	if (result == IRIS_VAULT_OK)
		subscriber_put(node, jid_full(jid), state, options);
	return result == IRIS_VAULT_OK;
}

/* --- loading --- */

static bool
load_affiliations(struct pubsub_node *node, struct iris_arena *arena)
{
	struct iris_rows rows;

	if (vault_read(&store_affiliations, node->service->owner, VALUES(value_int(node->id)),
		       arena, &rows) != IRIS_VAULT_OK)
		return false;
	for (size_t i = 0; i < rows.count; i++) {
		int64_t affiliation = row_value(&rows, i, 3)->number;

		if (affiliation > AFFILIATION_NONE && affiliation < AFFILIATION_COUNT)
			affiliate_put(node, row_value(&rows, i, 2)->bytes,
				      (enum pubsub_affiliation)affiliation);
	}
	return true;
}

static bool
load_subscriptions(struct pubsub_node *node, struct iris_arena *arena)
{
	struct iris_rows rows;

	if (vault_read(&store_subscriptions, node->service->owner, VALUES(value_int(node->id)),
		       arena, &rows) != IRIS_VAULT_OK)
		return false;
	for (size_t i = 0; i < rows.count; i++) {
		int64_t state = row_value(&rows, i, 3)->number;

		if (state == SUBSCRIPTION_PENDING || state == SUBSCRIPTION_SUBSCRIBED)
			subscriber_put(node, row_value(&rows, i, 2)->bytes,
				       (enum pubsub_subscription)state,
				       (unsigned)row_value(&rows, i, 4)->number);
	}
	return true;
}

void
service_take(struct pubsub_service *service, const struct iris_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		struct iris_str name = row_value(rows, i, 2)->bytes;
		struct pubsub_node *node;

		/* Nodes that the account has made at a host are its own, too. */
		if (row_value(rows, i, 1)->number != service->key || service_node(service, name))
			continue;
		node = node_make(service, name, row_value(rows, i, 0)->number);
		node_config_init(&node->config, service->user != NULL,
				 row_value(rows, i, 3)->bytes);
		node->created_ms = row_value(rows, i, 4)->number;
		node->last_item = row_value(rows, i, 5)->number;
		node->unread_affiliations = row_value(rows, i, 6)->number > 0;
		node->unread_subscriptions = row_value(rows, i, 7)->number > 0;
	}
}

bool
service_complete(struct pubsub_service *service)
{
	struct iris_arena *arena = arena_new();
	bool loaded = true;

	HASH_FOREACH(found, &service->nodes) {
		struct pubsub_node *node = IRIS_CONTAINER(found, struct pubsub_node, by_name);

		if (loaded && node->unread_affiliations)
			loaded = load_affiliations(node, arena);
		if (loaded && node->unread_subscriptions)
			loaded = load_subscriptions(node, arena);
		node->unread_affiliations = node->unread_subscriptions = false;
	}
	arena_unref(&arena);
	return loaded;
}

void
service_free(struct pubsub_service *service)
{
	remote_free(service);
	HASH_FOREACH(node, &service->nodes)
		node_forget(IRIS_CONTAINER(node, struct pubsub_node, by_name));
	hash_free(&service->nodes);
	hash_free(&service->remotes);
	free(service);
}
