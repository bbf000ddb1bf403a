/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0191 1.3: Blocking Command.  Home worker of the account.
 *
 * The list is loaded with its user and is a hash by address; an address is matched as §3.1 says:
 * full JID, bare JID, domain with resource, domain.  It is stored sealed, under a keyed hash of
 * the address.
 */
#include <stdlib.h>

#include "xep/xep0377_reporting.h"

#define NS_BLOCKING "urn:xmpp:blocking"
#define NS_BLOCKING_ERRORS "urn:xmpp:blocking:errors"

enum { OPT_COUNT };

struct block_entry {
	struct iris_hash_node node;
	char jid[]; /* prepared */
};

/* Of a loaded user; NULL while nobody is blocked. */
struct block_list {
	struct iris_hash jids;
};

static struct iris_module_self blocking_self;

static struct iris_query block_load = {
	.name = "blocking.load", .table = "blocklist", .key = "account jid_key",
	.sql = "SELECT jid_key, jid FROM blocklist WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "jid_key", IRIS_INT }, { "jid", IRIS_SEALED } },
};

static struct iris_query block_add = {
	.name = "blocking.add", .table = "blocklist", .key = "account jid_key", .write = true,
	.sql = "INSERT INTO blocklist (account, jid_key, jid) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account, jid_key) DO NOTHING",
	.params = { { "account", IRIS_INT }, { "jid_key", IRIS_INT }, { "jid", IRIS_SEALED } },
};

static struct iris_query block_remove = {
	.name = "blocking.remove", .table = "blocklist", .write = true,
	.sql = "DELETE FROM blocklist WHERE account = $1 AND jid_key = $2",
	.params = { { "account", IRIS_INT }, { "jid_key", IRIS_INT } },
};

static struct iris_query block_erase = {
	.name = "blocking.erase", .table = "blocklist", .write = true,
	.sql = "DELETE FROM blocklist WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

/* --- the list in memory --- */

static struct block_list *
block_list_of(struct iris_user *user)
{
	return *user_slot(user, &blocking_self);
}

static bool
block_list_has(const struct block_list *list, struct iris_str jid)
{
	return hash_find(&list->jids, jid) != NULL;
}

static void
block_list_add(struct iris_user *user, struct iris_str jid)
{
	void **slot = user_slot(user, &blocking_self);
	struct block_list *list = *slot;
	struct block_entry *entry;

	if (!list)
		*slot = list = iris_calloc(1, sizeof(*list));
	if (block_list_has(list, jid))
		return;
	entry = iris_calloc(1, sizeof(*entry) + jid.len);
	memcpy(entry->jid, jid.base, jid.len);
	hash_insert(&list->jids, &entry->node, (struct iris_str){ entry->jid, jid.len });
}

static void
block_list_drop(struct block_list *list, struct iris_hash_node *node)
{
	hash_remove(&list->jids, node);
	free(IRIS_CONTAINER(node, struct block_entry, node));
}

/* §3.1: node@domain/resource, node@domain, domain/resource, domain. */
static bool
block_is_blocked(struct iris_user *user, const struct iris_jid *jid)
{
	struct block_list *list = block_list_of(user);
	struct iris_str domain;
	struct iris_str full = jid_full(jid);

	if (!list || list->jids.count == 0 || jid_is_none(jid))
		return false;
	if (block_list_has(list, full) || block_list_has(list, jid_bare(jid)))
		return true;
	domain = jid_domain(jid);
	if (block_list_has(list, domain))
		return true;
	return jid->resource_len && block_list_has(list, (struct iris_str){ domain.base,
				(size_t)(full.base + full.len - domain.base) });
}

static bool
blocking_take(struct iris_user *user, const struct iris_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		block_list_add(user, row_value(rows, i, 1)->bytes);
	return true;
}

static enum iris_verdict
blocking_user_unload(struct iris_user *user)
{
	struct block_list *list = block_list_of(user);

	if (!list)
		return IRIS_PASS;
	HASH_FOREACH(node, &list->jids)
		block_list_drop(list, node);
	hash_free(&list->jids);
	free(list);
	*user_slot(user, &blocking_self) = NULL;
	return IRIS_PASS;
}

/* --- §3.2: the effect --- */

static enum iris_verdict
blocking_stanza_in(struct iris_incoming *incoming)
{
	struct iris_stanza *stanza = incoming->delivery.stanza;

	if (!block_is_blocked(incoming->user, &stanza->from) ||
	    jid_bare_equal(&stanza->from, &incoming->user->jid))
		return IRIS_PASS;
	if (stanza->kind == IRIS_PRESENCE || stanza->type == IRIS_ERROR ||
	    stanza->type == IRIS_RESULT)
		return IRIS_DONE; /* neither delivered nor answered */
	incoming->request->refusal.condition = IRIS_SERVICE_UNAVAILABLE;
	return IRIS_REFUSE;
}

/* A request to the blocked user's bare JID that the server would answer. */
static enum iris_verdict
blocking_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_user *user = request->session->user;

	if (jid_is_none(&stanza->to) || jid_bare_equal(&stanza->to, &user->jid) ||
	    !block_is_blocked(user, &stanza->to))
		return IRIS_PASS;
	if (stanza->type == IRIS_ERROR || stanza->type == IRIS_RESULT ||
	    stanza->type == IRIS_UNAVAILABLE)
		return IRIS_PASS;
	request->refusal.condition = IRIS_NOT_ACCEPTABLE;
	request->refusal.type = "cancel"; /* sending it once more does not help */
	request->refusal.app = element_new(request->arena, "blocked", NS_BLOCKING_ERRORS);
	return IRIS_REFUSE;
}

static enum iris_verdict
blocking_presence_visible(struct iris_visibility *arg)
{
	return block_is_blocked(arg->user, &arg->jid) ? IRIS_REFUSE : IRIS_PASS;
}

/* --- §3.3, §3.4: telling contacts --- */

struct block_notice {
	struct iris_user *user;
	struct iris_str domain; /* that was blocked or unblocked; none: whoever is blocked now */
	bool available;
};

static void
block_send_presence(struct iris_session *session, const struct iris_jid *to, bool available)
{
	struct iris_stanza *presence = available ? stanza_copy(session->presence) :
						   stanza_new(IRIS_PRESENCE, IRIS_UNAVAILABLE);

	stanza_set_from(presence, &session->jid);
	stanza_set_to(presence, to);
	route_stanza(&presence, NULL);
}

static void
block_notify_one(struct iris_user *user, const struct iris_jid *to, bool available)
{
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (session->presence)
			block_send_presence(session, to, available);
	}
}

static void
block_notify_contact(const struct iris_contact *contact, void *arg)
{
	struct block_notice *notice = arg;
	bool blocked = block_is_blocked(notice->user, &contact->jid);

	if (!contact_sees_us(contact))
		return;
	if (str_is_none(notice->domain) ? !blocked :
					  !str_equal(notice->domain, jid_domain(&contact->jid)))
		return;
	block_notify_one(notice->user, &contact->jid, notice->available);
}

/* Who is still blocked by another entry is none of those that are told when one goes. */
static void
block_notify_unblocked(const struct iris_contact *contact, void *arg)
{
	struct block_notice *notice = arg;

	if (!block_is_blocked(notice->user, &contact->jid))
		block_notify_contact(contact, arg);
}

static void
block_notify(struct iris_user *user, struct iris_str jid, bool available)
{
	struct iris_jid address = jid_from_prepared(jid);
	struct block_notice notice = { user, jid_domain(&address), available };

	if (address.node_len == 0 && address.resource_len > 0)
		return; /* no contact is one of those */
	if (address.node_len == 0)
		roster_each(user, available ? block_notify_unblocked : block_notify_contact,
			    &notice);
	else if (contact_sees_us(roster_find(user, jid_bare(&address))) &&
		 !(available && block_is_blocked(user, &address)))
		block_notify_one(user, &address, available);
}

/* All that are blocked now, before none is any more. */
static void
block_notify_all(struct iris_user *user)
{
	struct block_notice notice = { .user = user, .available = true };

	roster_each(user, block_notify_contact, &notice);
}

/* --- requests --- */

static enum iris_verdict
block_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

/* Every session that asked for the list learns of the change. */
static void
block_push(struct iris_request *request)
{
	struct iris_session *session, *next;
	struct iris_stanza *push;

	for (session = TAILQ_FIRST(&request->user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!session->blocklist_interested)
			continue;
		push = stanza_new(IRIS_IQ, IRIS_SET);
		stanza_set_id(push, random_id(push->arena, 72));
		stanza_set_from(push, &request->user->jid);
		stanza_set_to(push, &session->jid);
		element_append(push->root, element_copy(push->arena, request->payload));
		session_send(session, &push);
	}
}

static enum iris_verdict
block_get(struct iris_request *request)
{
	struct block_list *list = block_list_of(request->user);

	if (request->session)
		request->session->blocklist_interested = true;
	request->reply = element_new(request->arena, "blocklist", NS_BLOCKING);
	if (!list)
		return IRIS_DONE;
	HASH_FOREACH(node, &list->jids)
		element_set(element_add(request->reply, "item", NULL), "jid", node->key);
	return IRIS_DONE;
}

/*
 * Checks all items before anything changes, counts them, and goes on with a copy that has
 * prepared addresses.
 */
static enum iris_condition
block_check_items(struct iris_request *request, size_t *count_r)
{
	struct iris_jid jid;

	*count_r = 0;
	request->payload = element_copy(request->arena, request->payload);
	ELEMENT_FOREACH(item, request->payload) {
		if (!element_is(item, "item", NS_BLOCKING))
			return IRIS_BAD_REQUEST;
		if (!jid_parse(request->arena, element_get(item, "jid"), &jid))
			return IRIS_JID_MALFORMED;
		element_set(item, "jid", jid_full(&jid));
		++*count_r;
	}
	return IRIS_NO_ERROR;
}

static bool
block_store(struct iris_request *request, const struct iris_query *query)
{
	struct iris_account *account = &request->user->account;
	struct iris_batch *batch = batch_new(account->owner);

	ELEMENT_FOREACH(item, request->payload) {
		struct iris_str jid = element_get(item, "jid");

		batch_add(batch, query,
			  VALUES(value_int(account->id), value_int(vault_peer_id(jid)),
				 value_str(jid)));
	}
	return batch_write(&batch) == IRIS_VAULT_OK;
}

static enum iris_verdict
block_set(struct iris_request *request)
{
	struct block_list *list = block_list_of(request->user);
	size_t count;
	enum iris_condition condition = block_check_items(request, &count);

	if (condition != IRIS_NO_ERROR || count == 0)
		return block_refuse(request, count ? condition : IRIS_BAD_REQUEST);
	if ((list ? list->jids.count : 0) + count > (size_t)option_int(&blocking_self, OPT_COUNT))
		return block_refuse(request, IRIS_RESOURCE_CONSTRAINT);
	if (!block_store(request, &block_add))
		return block_refuse(request, IRIS_RESOURCE_CONSTRAINT);
	ELEMENT_FOREACH(item, request->payload) {
		struct iris_str jid = element_get(item, "jid");

		list = block_list_of(request->user);
		if (!list || !block_list_has(list, jid))
			block_notify(request->user, jid, false);
		block_list_add(request->user, jid);
	}
	ELEMENT_FOREACH(item, request->payload)
		report_take(request->user, item);
	block_push(request);
	return IRIS_DONE;
}

static bool
block_unblock_all(struct iris_request *request)
{
	struct iris_user *user = request->user;
	struct iris_account *account = &user->account;

	if (vault_write(&block_erase, account->owner, VALUES(value_int(account->id)), NULL) !=
	    IRIS_VAULT_OK)
		return false;
	block_notify_all(user);
	blocking_user_unload(user);
	return true;
}

static bool
block_unblock(struct iris_request *request)
{
	if (!block_store(request, &block_remove))
		return false;
	ELEMENT_FOREACH(item, request->payload) {
		struct iris_str jid = element_get(item, "jid");
		struct block_list *list = block_list_of(request->user);
		struct iris_hash_node *node = list ? hash_find(&list->jids, jid) : NULL;

		if (!node)
			continue;
		block_list_drop(list, node);
		block_notify(request->user, jid, true);
	}
	return true;
}

static enum iris_verdict
unblock_set(struct iris_request *request)
{
	size_t count;
	enum iris_condition condition = block_check_items(request, &count);

	if (condition != IRIS_NO_ERROR)
		return block_refuse(request, condition);
	if (!(count > 0 ? block_unblock(request) : block_unblock_all(request)))
		return block_refuse(request, IRIS_RESOURCE_CONSTRAINT);
	block_push(request);
	return IRIS_DONE;
}

static enum iris_verdict
blocking_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&block_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static const struct iris_feature blocking_features[] = {
	{ IRIS_DISCO_HOST, NS_BLOCKING },
	{ IRIS_DISCO_ACCOUNT, NS_BLOCKING },
	{ .var = NULL },
};

static const struct iris_iq blocking_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "blocklist", NS_BLOCKING, IRIS_SELF, block_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "block", NS_BLOCKING, IRIS_SELF, block_set },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "unblock", NS_BLOCKING, IRIS_SELF, unblock_set },
	{ .name = NULL },
};

static const struct iris_hook_handler blocking_hooks[] = {
	HOOK(stanza_in, IRIS_FILTER, blocking_stanza_in),
	HOOK(stanza_out, IRIS_FILTER, blocking_stanza_out),
	HOOK(presence_visible, IRIS_FILTER, blocking_presence_visible),
	HOOK(user_unload, IRIS_NEUTRAL, blocking_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, blocking_account_removed),
	HOOKS_END,
};

static const struct iris_option blocking_options[] = {
	[OPT_COUNT] = { "count-max", IRIS_OPT_INT, "1000", .min = 1, .max = 100000,
			.reloadable = true, .help = "How many addresses an account may block." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0191 = {
	IRIS_MODULE_HEAD,
	.name = "xep0191",
	.summary = "Blocking Command",
	.xep = "XEP-0191 1.3",
	.needs = IRIS_NAMES("xep0377"),
	.self = &blocking_self,
	.options = blocking_options,
	.user_rows = (const struct iris_user_rows[]){ { &block_load, blocking_take }, { NULL } },
	.queries = (struct iris_query *const[]){ &block_load, &block_add, &block_remove,
						 &block_erase, NULL },
	.features = blocking_features,
	.iq = blocking_iq,
	.hooks = blocking_hooks,
	.not_unloadable = true,
};
