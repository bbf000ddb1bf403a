/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publish-subscribe of hosts: pubsub.HOST.  A node is a place (iris/place.h) with the key
 * "pubsub.HOST/node": a service without an account, and with that node if it exists.  A request
 * that arrives anywhere is answered at that key's home, by the commands that accounts have, too;
 * what names no node where it arrived (host_list.c).
 */
#include <stdlib.h>

#include "iris/auth.h"
#include "iris/service.h"
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

struct host_node {
	struct iris_place place; /* first */
	struct pubsub_service *service;
};

static struct iris_places host_places;
static const struct iris_service_kind host_kind;

/* --- places --- */

static struct pubsub_service
service_of_domain(struct iris_str domain)
{
	return (struct pubsub_service){ .jid = jid_from_prepared(domain),
					.key = vault_peer_id(domain) };
}

/* SECURITY: the keys under which it was sealed were destroyed: what is left of it goes, too. */
static bool
node_erase(int64_t id)
{
	struct iris_batch *batch = batch_new(IRIS_OWNER_DEFAULT);

	store_clear_node(batch, id, false);
	return batch_write(&batch) == IRIS_VAULT_OK;
}

static bool
host_read_node(struct pubsub_service *service, struct iris_str name, struct iris_arena *arena)
{
	struct iris_rows rows;
	int64_t id;

	if (vault_read(&store_host_find, 0,
		       VALUES(value_int(service->key), value_int(vault_peer_id(name))), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	if (rows.count == 0)
		return true;
	id = row_value(&rows, 0, 0)->number;
	service->owner = (iris_owner)row_value(&rows, 0, 1)->number;
	switch (vault_read(&store_host_node, service->owner, VALUES(value_int(id)), arena, &rows)) {
	case IRIS_VAULT_OK:
		service_take(service, &rows);
		return service_complete(service);
	case IRIS_VAULT_ERASED:
		return node_erase(id);
	default:
		return false;
	}
}

/* An address without a node is FOUND: somebody may make one. */
static enum iris_place_found
host_load(struct iris_place *place)
{
	struct host_node *host = IRIS_CONTAINER(place, struct host_node, place);
	struct iris_str key = place_key(place);
	size_t domain = (size_t)((const char *)memchr(key.base, '/', key.len) - key.base);
	struct iris_str name = { key.base + domain + 1, key.len - domain - 1 };
	struct iris_arena *arena = arena_new();
	bool read;

	host->service = iris_malloc(sizeof(*host->service));
	*host->service = service_of_domain((struct iris_str){ key.base, domain });
	read = host_read_node(host->service, name, arena);
	arena_unref(&arena);
	return read ? IRIS_PLACE_FOUND : IRIS_PLACE_FAILED;
}

static void
host_unload(struct iris_place *place)
{
	struct host_node *host = IRIS_CONTAINER(place, struct host_node, place);

	if (host->service)
		service_free(host->service);
	host->service = NULL;
}

static int64_t
host_bound(enum iris_place_bound bound)
{
	switch (bound) {
	case IRIS_PLACE_KEEP:
		return option_int(&pubsub_self, OPT_KEEP);
	case IRIS_PLACE_MAX:
		return option_int(&pubsub_self, OPT_LOADED_MAX);
	case IRIS_PLACE_INBOX:
		return 0; /* nothing is addressed to a node */
	}
	return 0;
}

static const struct iris_place_kind host_place_kind = {
	.name = "pubsub: load",
	.size = sizeof(struct host_node),
	.load = host_load,
	.unload = host_unload,
	.bound = host_bound,
	.metrics = &pubsub_metrics[METRIC_PLACES],
};

static struct iris_places host_places = { .kind = &host_place_kind };

static struct host_node *
host_node_get(struct iris_str key) /* held; NULL: it could not be read, or there is no room */
{
	struct iris_place *place = place_get(&host_places, key, NULL);

	return place ? IRIS_CONTAINER(place, struct host_node, place) : NULL;
}

/* SECURITY: names that somebody makes up push no node out of memory. */
static void
host_node_release(struct host_node *host)
{
	if (host->service->nodes.count == 0 && host->place.holds == 1)
		place_forget(&host->place);
	place_release(&host->place);
}

static struct iris_str
host_key(struct iris_arena *arena, const struct iris_service *service, struct iris_str name)
{
	return arena_printf(arena, "%.*s/%.*s", IRIS_STR_FMT(jid_domain(&service->jid)),
			    IRIS_STR_FMT(name));
}

/* --- who may make a node --- */

enum { CREATE_ACCOUNTS, CREATE_ADMINS, CREATE_ANYONE, CREATE_NOBODY };

static bool
is_admitted(const struct pubsub_call *call, const struct iris_host *host,
	    const struct iris_account *account)
{
	bool is_own = account->id != 0 && host == call->request->service->host;

	switch (option_int(&pubsub_self, OPT_CREATE)) {
	case CREATE_ACCOUNTS:
		return is_own;
	case CREATE_ADMINS:
		return is_own && account->role >= IRIS_ROLE_COMPANY_ADMIN;
	case CREATE_ANYONE:
		return true;
	default:
		return false;
	}
}

enum pubsub_error
host_check_creator(struct pubsub_call *call)
{
	struct iris_host *host = host_find(jid_domain(&call->from));
	bool is_ours = host && !host->is_component && call->from.node_len > 0;
	struct iris_account account = { .owner = IRIS_OWNER_DEFAULT };
	struct iris_rows rows;

	if (is_ours && !accounts()->find(&call->bare, &account))
		return PUBSUB_STORE;
	if (!is_admitted(call, host, &account))
		return PUBSUB_FORBIDDEN;
	call->owner = account.id ? account.owner : IRIS_OWNER_DEFAULT;
	if (vault_read(&store_host_owned, 0,
		       VALUES(value_int(call->service->key),
			      value_int(vault_peer_id(jid_full(&call->bare)))),
		       call->arena, &rows) != IRIS_VAULT_OK)
		return PUBSUB_INTERNAL;
	return row_value(&rows, 0, 0)->number < option_int(&pubsub_self, OPT_NODES_MAX) ?
		       PUBSUB_NONE :
		       PUBSUB_TOO_MANY_NODES;
}

/* --- requests --- */

struct host_call { /* to the home of a node */
	struct iris_request *request;
	struct iris_str key, made;
	enum iris_verdict verdict;
};

static void
answer_at_home(void *arg)
{
	struct host_call *call = arg;
	struct host_node *host = host_node_get(call->key);

	if (!host) {
		call->request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
		call->verdict = IRIS_REFUSE;
		return;
	}
	call->verdict = request_answer(call->request, host->service, call->made);
	host_node_release(host);
}

static enum iris_verdict
host_answer(struct iris_request *request)
{
	struct pubsub_service none = service_of_domain(jid_domain(&request->service->jid));
	struct iris_element *command = element_child(request->payload, NULL, NULL);
	struct iris_str name = command ? element_get(command, "node") : IRIS_STR_NONE;
	struct host_call call = { .request = request };

	if (str_is_empty(name) && command && request->stanza->type == IRIS_SET &&
	    element_is(command, "create", NS_PUBSUB))
		name = call.made = random_id(request->arena, 120);
	/* No node has such a name. */
	if (str_is_empty(name) || name.len > NODE_NAME_MAX)
		return request_answer(request, &none, IRIS_STR_NONE);
	call.key = host_key(request->arena, request->service, name);
	home_call(call.key, "pubsub: answer", answer_at_home, &call);
	return call.verdict;
}

static const struct iris_iq host_iq[] = {
	{ IRIS_TO_SERVICE, IRIS_GET, "pubsub", NS_PUBSUB, IRIS_ANYONE, host_answer },
	{ IRIS_TO_SERVICE, IRIS_SET, "pubsub", NS_PUBSUB, IRIS_ANYONE, host_answer },
	{ IRIS_TO_SERVICE, IRIS_GET, "pubsub", NS_PUBSUB_OWNER, IRIS_ANYONE, host_answer },
	{ IRIS_TO_SERVICE, IRIS_SET, "pubsub", NS_PUBSUB_OWNER, IRIS_ANYONE, host_answer },
	{ .name = NULL },
};

/* --- messages: §8.6, an owner answers who asked for a subscription --- */

struct host_message {
	const struct iris_service *service;
	struct iris_stanza *stanza;
	struct iris_arena *arena;
	struct iris_element *form;
	struct iris_str key;
};

static void
message_at_home(void *arg)
{
	struct host_message *message = arg;
	struct host_node *host = host_node_get(message->key);

	if (!host)
		return;
	subscription_answered(host->service, &message->stanza->from, message->form,
			      message->arena);
	host_node_release(host);
}

static void
message_fiber(void *arg)
{
	struct host_message *message = arg;
	struct iris_str name;

	message->arena = arena_new();
	message->form = element_copy(message->arena, subscription_answer_form(message->stanza));
	name = form_value(message->form, "pubsub#node");
	if (!str_is_empty(name) && name.len <= NODE_NAME_MAX) {
		message->key = host_key(message->arena, message->service, name);
		home_call(message->key, "pubsub: authorization", message_at_home, message);
	}
	arena_unref(&message->arena);
	stanza_unref(&message->stanza);
	free(message);
}

static void
message_refuse(const struct iris_stanza *stanza, enum iris_condition condition)
{
	struct iris_stanza *error =
		stanza_error(stanza, &(struct iris_refusal){ .condition = condition });

	if (error)
		route_stanza(&error, NULL);
}

static void
host_receive(struct iris_service *service, const struct iris_delivery *delivery,
	     struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = delivery->stanza;
	struct host_message *message;

	if (stanza->kind != IRIS_MESSAGE || stanza->type == IRIS_ERROR)
		return;
	if (!subscription_answer_form(stanza)) {
		if (stanza->type != IRIS_HEADLINE)
			message_refuse(stanza, IRIS_SERVICE_UNAVAILABLE);
		return;
	}
	if (stanza->transit) {
		message_refuse(stanza, IRIS_POLICY_VIOLATION);
		return;
	}
	message = iris_calloc(1, sizeof(*message));
	message->service = service;
	message->stanza = stanza_ref(stanza);
	if (fiber_start_spare("pubsub: authorization", message_fiber, message))
		return;
	message_refuse(stanza, IRIS_RESOURCE_CONSTRAINT);
	stanza_unref(&message->stanza);
	free(message);
}

/* --- discovery --- */

static void
add_features(struct iris_element *query)
{
	static const char *const features[] = {
		"access-authorize", "access-open", "access-whitelist", "config-node",
		"config-node-max", "create-and-configure", "create-nodes", "delete-items",
		"delete-nodes", "instant-nodes", "item-ids", "last-published",
		"manage-subscriptions", "member-affiliation", "meta-data", "modify-affiliations",
		"multi-items", "outcast-affiliation", "persistent-items", "publish",
		"publish-node-full", "publish-only-affiliation", "publish-options",
		"publisher-affiliation", "purge-nodes", "retract-items", "retrieve-affiliations",
		"retrieve-default", "retrieve-default-sub", "retrieve-items",
		"retrieve-subscriptions", "rsm", "subscribe", "subscription-notifications",
		"subscription-options",
	};

	element_set(element_add(query, "feature", NULL), "var", IRIS_STR(NS_PUBSUB));
	for (size_t i = 0; i < IRIS_COUNT(features); i++)
		element_set(element_add(query, "feature", NULL), "var",
			    arena_printf(query->arena, NS_PUBSUB "#%s", features[i]));
}

struct host_discovery { /* to the home of a node */
	struct iris_discovery *discovery;
	struct iris_str key;
	bool items;
	enum iris_verdict verdict;
};

static void
discover_at_home(void *arg)
{
	struct host_discovery *call = arg;
	struct host_node *host = host_node_get(call->key);

	if (!host) {
		call->discovery->request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
		call->verdict = IRIS_REFUSE;
		return;
	}
	call->verdict = disco_node(call->discovery, host->service, call->items);
	host_node_release(host);
}

static enum iris_verdict
discover_node(struct iris_discovery *discovery, bool items)
{
	struct iris_request *request = discovery->request;
	struct host_discovery call = { .discovery = discovery, .items = items };

	if (discovery->node.len > NODE_NAME_MAX)
		return IRIS_PASS;
	call.key = host_key(request->arena, request->service, discovery->node);
	home_call(call.key, "pubsub: discovery", discover_at_home, &call);
	return call.verdict;
}

static bool
is_of_host(const struct iris_discovery *discovery)
{
	return discovery->of == IRIS_DISCO_SERVICE &&
	       discovery->request->service->kind == &host_kind;
}

enum iris_verdict
host_disco_info(struct iris_discovery *discovery)
{
	struct iris_element *identity;

	if (!is_of_host(discovery))
		return IRIS_PASS;
	if (!str_is_none(discovery->node))
		return discover_node(discovery, false);
	identity = element_add(discovery->query, "identity", NULL);
	element_set(identity, "category", IRIS_STR("pubsub"));
	element_set(identity, "type", IRIS_STR("service"));
	add_features(discovery->query);
	return IRIS_PASS;
}

enum iris_verdict
host_disco_items(struct iris_discovery *discovery)
{
	if (!is_of_host(discovery))
		return IRIS_PASS;
	return str_is_none(discovery->node) ? host_list_nodes(discovery) :
					      discover_node(discovery, true);
}

/* --- accounts that go --- */

struct leaving {
	const struct iris_jid *jid;
	struct iris_service *service;
	struct iris_str key; /* of the node */
	bool done;
};

static bool
leave_node(struct pubsub_node *node, const struct iris_jid *jid, struct iris_ticket *ticket)
{
	HASH_FOREACH(found, &node->subscribers) {
		struct iris_jid subscribed =
			IRIS_CONTAINER(found, struct pubsub_subscriber, node)->jid;

		if (jid_bare_equal(&subscribed, jid) &&
		    !node_set_subscription(node, &subscribed, SUBSCRIPTION_NONE, 0, ticket))
			return false;
	}
	/* Nobody's node would be there for good. */
	if (node_is_last_owner(node, jid_bare(jid)))
		return node_end(node, IRIS_STR_NONE) == PUBSUB_NONE;
	/* Whatever memory says: it may be the second time. */
	return node_set_affiliation(node, jid, AFFILIATION_NONE, ticket);
}

static void
leave_at_home(void *arg)
{
	struct leaving *leaving = arg;
	struct host_node *host = host_node_get(leaving->key);

	leaving->done = host != NULL;
	if (!host)
		return;
	HASH_FOREACH(found, &host->service->nodes) { /* one, or none */
		struct pubsub_node *node =
			node_ref(IRIS_CONTAINER(found, struct pubsub_node, by_name));
		struct settling settling;
		bool left = leave_node(node, leaving->jid, settling_begin(&settling));

		leaving->done = settling_end(&settling) && left;
		node_unref(&node);
	}
	host_node_release(host);
}

static bool
leave(struct iris_str name, void *arg)
{
	struct leaving *leaving = arg;
	struct iris_arena *arena = arena_new();

	leaving->key = host_key(arena, leaving->service, name);
	home_call(leaving->key, "pubsub: leave", leave_at_home, leaving);
	arena_unref(&arena);
	return leaving->done;
}

static void
leave_service(struct iris_service *service, void *arg)
{
	struct leaving *leaving = arg;

	if (service->kind != &host_kind || !leaving->done)
		return;
	leaving->service = service;
	leaving->done = host_list_each(vault_peer_id(jid_domain(&service->jid)),
				       jid_bare(leaving->jid), leave, leaving);
}

enum iris_verdict
host_account_removed(struct iris_account_removed *removed)
{
	struct leaving leaving = { .jid = &removed->jid, .done = true };

	service_each(NULL, leave_service, &leaving);
	return leaving.done ? IRIS_PASS : IRIS_REFUSE;
}

/* --- the domains --- */

static const struct iris_service_kind host_kind = {
	.module = &iris_module_pubsub,
	.iq = host_iq,
	.receive = host_receive,
};

void
host_reload(void)
{
	struct iris_error error;

	if (option_bool(&pubsub_self, OPT_HOST) &&
	    !service_open_all(&host_kind, option_str(&pubsub_self, OPT_LABEL), NULL, &error))
		log_error(IRIS_LOG_ERROR, "pubsub", "domain-taken", &error);
}

bool
host_start(struct iris_error *error)
{
	places_open(&host_places);
	host_reload();
	return true;
}

void
host_stop(void)
{
	places_close(&host_places);
}
