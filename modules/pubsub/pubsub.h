/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publish-subscribe (XEP-0060), for plug-ins that name "pubsub" in their needs: what an account
 * keeps and publishes at its nodes.  Everything at the home worker of the account, on a fiber; what
 * changes is committed when a call returns.
 */
#ifndef IRIS_PUBSUB_H
#define IRIS_PUBSUB_H

#include "iris/module.h"
#include "xep/payloads.h" /* NS_PUBSUB */

#define NS_PUBSUB_OWNER NS_PUBSUB "#owner"

struct pubsub_publication {
	struct iris_user *user; /* held by the caller */
	const char *node;
	struct iris_str item;   /* its id; none: one is made */
	const struct iris_element *payload;
	/* for the node, when it does not exist: "name=value\n" lines; NULL: its preset */
	const char *config;
};

/* Publishes in the name of the account. Listeners are not called. */
IRIS_MUST_CHECK enum iris_condition pubsub_publish(const struct pubsub_publication *publication);
/* Takes an item back, and tells. No such item or node: IRIS_ITEM_NOT_FOUND. */
IRIS_MUST_CHECK enum iris_condition pubsub_retract(struct iris_user *user, const char *node,
						   struct iris_str item);

struct pubsub_found {
	struct iris_str id;
	struct iris_element *payload;
};

/*
 * The latest items of a node, oldest first, in the arena: at most `limit`. False: the vault
 * failed. A node that does not exist has none.
 */
IRIS_MUST_CHECK bool pubsub_items(struct iris_user *user, const char *node, size_t limit,
				  struct iris_arena *arena, struct pubsub_found **items_r,
				  size_t *count_r);
/* The item of this id, or NULL (also when the vault failed). */
struct iris_element *pubsub_item(struct iris_user *user, const char *node, struct iris_str item,
				 struct iris_arena *arena);
/* Do all contacts that see its presence read what is at the node? */
bool pubsub_is_shared(struct iris_user *user, const char *node);

/*
 * What happened at a node of an account because somebody asked for it over XMPP; after the commit
 * and the notifications. item none: all of them (purged, or the node is gone).
 */
struct pubsub_change {
	struct iris_user *user;
	struct iris_arena *arena;
	struct iris_str item;
	const struct iris_element *payload; /* NULL: it was taken back */
};

/* Of one node: how it is made when nobody says how, and who listens. Static; from .start on. */
struct pubsub_preset {
	const char *node;
	const char *config; /* "name=value\n" lines without "pubsub#", or NULL */
	void (*changed)(const struct pubsub_change *change); /* or NULL; may wait */
	struct pubsub_preset *next;
};

void pubsub_preset_add(struct pubsub_preset *preset);    /* main thread, in .start */
void pubsub_preset_remove(struct pubsub_preset *preset); /* main thread, in .stop */

/* Requests to an account (xep0163 declares them). */
enum iris_verdict pubsub_answer_account(struct iris_request *request);
/* disco#info and disco#items of an account's nodes. */
enum iris_verdict pubsub_disco_account(struct iris_discovery *discovery, bool items);

#endif
