/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §5.2, §5.6, §5.7 for hosts: what concerns an address at all nodes of a service, a page
 * at a time, from the store's indexes: no node is loaded for it.  Pages go by the keys of nodes, an
 * order that says nothing, but stays.  On a fiber, where the request arrived.
 */
#include "iris/service.h"
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0059_rsm.h"

#define PAGE_MAX 100
#define OWN_MAX 100 /* subscriptions of one bare JID at one node */

struct list_entry {
	int64_t node, key;
	iris_owner owner;
	enum pubsub_affiliation affiliation; /* of those affiliated */
	bool is_opened;
	struct iris_str name, config;   /* none: its company's keys are gone */
	struct iris_rows subscriptions; /* of those subscribed */
};

struct list {
	struct iris_arena *arena;
	const struct iris_query *query; /* two: forwards, backwards */
	int64_t service, address;       /* the keys of the service, and of the bare JID */
	int64_t after, before;          /* keys of nodes, exclusive */
	size_t max;
	bool backwards, asked;          /* by XEP-0059 */
	struct list_entry *entries;
	size_t count;
	bool more;
};

static struct list
list_begin(struct iris_arena *arena, const struct iris_query *query, int64_t service,
	   struct iris_str bare)
{
	return (struct list){ .arena = arena, .query = query, .service = service,
			      .address = vault_peer_id(bare), .after = -1, .before = INT64_MAX,
			      .max = PAGE_MAX };
}

/* --- reading --- */

static bool
list_read(struct list *list)
{
	struct iris_rows rows;

	if (vault_read(&list->query[list->backwards], 0,
		       VALUES(value_int(list->service), value_int(list->address),
			      value_int(list->after), value_int(list->before),
			      value_int((int64_t)list->max + 1)),
		       list->arena, &rows) != IRIS_VAULT_OK)
		return false;
	list->more = rows.count > list->max;
	list->count = list->more ? list->max : rows.count;
	list->entries = arena_alloc(list->arena, (list->count + 1) * sizeof(*list->entries));
	for (size_t i = 0; i < list->count; i++)
		list->entries[list->backwards ? list->count - 1 - i : i] = (struct list_entry){
			.node = row_value(&rows, i, 0)->number,
			.owner = (iris_owner)row_value(&rows, i, 1)->number,
			.key = row_value(&rows, i, 2)->number,
			.affiliation = (enum pubsub_affiliation)row_value(&rows, i, 3)->number,
		};
	return true;
}

static void
ask_of(const struct list *list, const struct list_entry *entry, struct iris_question *questions)
{
	struct iris_value *params = arena_alloc(list->arena, 3 * sizeof(*params));

	params[0] = value_int(entry->node);
	params[1] = value_int(list->address);
	params[2] = value_int(OWN_MAX);
	questions[0] = (struct iris_question){ .query = &store_host_head, .params = params };
	questions[1] = (struct iris_question){ .query = &store_host_subscriptions,
					       .params = params };
}

static void
take_answers(struct list_entry *entry, const struct iris_question *questions)
{
	const struct iris_rows *head = &questions[0].rows;

	if (head->count == 0) /* deleted meanwhile */
		return;
	entry->name = row_value(head, 0, 1)->bytes;
	entry->config = row_value(head, 0, 2)->bytes;
	entry->subscriptions = questions[1].rows;
}

/* What is sealed of this company's nodes, in one trip. */
static bool
open_owner(struct list *list, iris_owner owner)
{
	struct iris_question *questions =
		arena_alloc(list->arena, 2 * list->count * sizeof(*questions));
	enum iris_vault_result result;
	size_t asked = 0;

	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i].owner == owner) {
			ask_of(list, &list->entries[i], &questions[asked]);
			asked += 2;
		}
	result = vault_ask(questions, asked, owner, list->arena);
	asked = 0;
	for (size_t i = 0; i < list->count; i++) {
		if (list->entries[i].owner != owner)
			continue;
		list->entries[i].is_opened = true;
		if (result == IRIS_VAULT_OK)
			take_answers(&list->entries[i], &questions[asked]);
		asked += 2;
	}
	return result == IRIS_VAULT_OK || result == IRIS_VAULT_ERASED;
}

static bool
list_page(struct list *list)
{
	if (!list_read(list))
		return false;
	for (size_t i = 0; i < list->count; i++)
		if (!list->entries[i].is_opened && !open_owner(list, list->entries[i].owner))
			return false;
	return true;
}

/* --- pages: XEP-0059; the id of a node is its name --- */

static enum iris_condition
list_ask(struct list *list, const struct iris_element *payload)
{
	struct rsm_request rsm;
	enum iris_condition condition = rsm_read(payload, PAGE_MAX, &rsm);

	if (condition != IRIS_NO_ERROR)
		return condition;
	list->asked = rsm.asked;
	list->max = rsm.max;
	list->backwards = !str_is_none(rsm.before);
	if (!str_is_empty(rsm.after))
		list->after = vault_peer_id(rsm.after);
	if (!str_is_empty(rsm.before))
		list->before = vault_peer_id(rsm.before);
	return list_page(list) ? IRIS_NO_ERROR : IRIS_INTERNAL_SERVER_ERROR;
}

/* Also when nobody asked for pages, and there is more. */
static void
list_add_set(const struct list *list, struct iris_element *parent)
{
	struct iris_str first = IRIS_STR_NONE, last = IRIS_STR_NONE;

	if (!list->asked && !list->more)
		return;
	for (size_t i = 0; i < list->count; i++) {
		if (str_is_none(list->entries[i].name))
			continue;
		last = list->entries[i].name;
		if (str_is_none(first))
			first = last;
	}
	rsm_write(parent, first, last);
}

/* --- §5.2: the nodes of the service --- */

static void
add_node(struct iris_element *query, const struct iris_service *service,
	 const struct list_entry *entry)
{
	struct iris_element *item = element_add(query, "item", NULL);
	struct pubsub_config config;

	node_config_init(&config, false, entry->config);
	element_set(item, "jid", jid_domain(&service->jid));
	element_set(item, "node", entry->name);
	element_set(item, "name", str_from(config.texts[CONFIG_TITLE]));
	node_config_free(&config);
}

enum iris_verdict
host_list_nodes(struct iris_discovery *discovery)
{
	struct iris_request *request = discovery->request;
	const struct iris_service *service = request->service;
	struct list list = list_begin(request->arena, store_host_visible,
				      vault_peer_id(jid_domain(&service->jid)),
				      jid_bare(&request->stanza->from));

	request->refusal.condition = list_ask(&list, request->payload);
	if (request->refusal.condition != IRIS_NO_ERROR)
		return IRIS_REFUSE;
	for (size_t i = 0; i < list.count; i++)
		if (!str_is_none(list.entries[i].name))
			add_node(discovery->query, service, &list.entries[i]);
	list_add_set(&list, discovery->query);
	return IRIS_PASS;
}

/* --- §5.6, §5.7: the asker's own --- */

static enum pubsub_error
own_page(struct pubsub_call *call, const struct iris_query *query, struct list *list_r)
{
	*list_r = list_begin(call->arena, query, call->service->key, jid_full(&call->bare));
	switch (list_ask(list_r, call->payload)) {
	case IRIS_NO_ERROR:
		return PUBSUB_NONE;
	case IRIS_FEATURE_NOT_IMPLEMENTED:
		return call_unsupported(call, "rsm");
	case IRIS_BAD_REQUEST:
		return PUBSUB_BAD_REQUEST;
	default:
		return PUBSUB_INTERNAL;
	}
}

static enum pubsub_error
list_own(struct pubsub_call *call, const struct iris_query *query,
	 void (*add)(struct iris_element *reply, const struct list_entry *entry))
{
	struct list list;
	enum pubsub_error error = own_page(call, query, &list);
	struct iris_element *reply;

	if (error != PUBSUB_NONE)
		return error;
	reply = call_reply(call);
	for (size_t i = 0; i < list.count; i++)
		if (!str_is_none(list.entries[i].name))
			add(reply, &list.entries[i]);
	list_add_set(&list, call->request->reply);
	return PUBSUB_NONE;
}

static void
add_affiliation(struct iris_element *reply, const struct list_entry *entry)
{
	affiliation_add(reply, entry->name, IRIS_STR_NONE, entry->affiliation);
}

enum pubsub_error
host_list_affiliations(struct pubsub_call *call)
{
	return list_own(call, store_host_affiliated, add_affiliation);
}

static void
add_subscriptions(struct iris_element *reply, const struct list_entry *entry)
{
	for (size_t i = 0; i < entry->subscriptions.count; i++)
		subscription_add_as(
			reply, entry->name, row_value(&entry->subscriptions, i, 2)->bytes,
			(enum pubsub_subscription)row_value(&entry->subscriptions, i, 3)->number);
}

enum pubsub_error
host_list_subscriptions(struct pubsub_call *call)
{
	return list_own(call, store_host_subscribed, add_subscriptions);
}

/* --- all of them --- */

static bool
each_of(const struct list *asked, bool (*fn)(struct iris_str name, void *arg), void *arg)
{
	struct list list = *asked;
	bool good;

	do {
		list.arena = arena_new();
		good = list_page(&list);
		for (size_t i = 0; good && i < list.count; i++) {
			list.after = list.entries[i].key;
			if (!str_is_none(list.entries[i].name))
				good = fn(list.entries[i].name, arg);
		}
		arena_unref(&list.arena);
	} while (good && list.more);
	return good;
}

bool
host_list_each(int64_t service, struct iris_str bare, bool (*fn)(struct iris_str name, void *arg),
	       void *arg)
{
	struct list affiliated = list_begin(NULL, store_host_affiliated, service, bare);
	struct list subscribed = list_begin(NULL, store_host_subscribed, service, bare);

	return each_of(&affiliated, fn, arg) && each_of(&subscribed, fn, arg);
}
