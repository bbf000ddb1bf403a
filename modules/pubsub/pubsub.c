/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 for accounts: the descriptor, the life of a service with its user, and what other
 * plug-ins call.  See README.md.  It answers no request by itself: xep0163 declares them.
 */
#include <stdlib.h>

#include "iris/service.h"
#include "modules/pubsub/pubsub_private.h"

struct iris_module_self pubsub_self;

struct iris_metric pubsub_metrics[] = {
	[METRIC_PUBLISHED] = { .name = "iris_pubsub_published_total", .kind = IRIS_COUNTER,
			       .help = "Items published" },
	[METRIC_NOTIFIED] = { .name = "iris_pubsub_notifications_total", .kind = IRIS_COUNTER,
			      .help = "Notifications sent" },
	[METRIC_REFUSED] = { .name = "iris_pubsub_refusals_total", .kind = IRIS_COUNTER,
			     .help = "Requests refused" },
	[METRIC_LAST_ITEMS] = { .name = "iris_pubsub_last_items_total", .kind = IRIS_COUNTER,
				.help = "Last items sent to who became available" },
	[METRIC_REMOTE] = { .name = "iris_pubsub_remote_resources", .kind = IRIS_GAUGE,
			    .help = "Resources of contacts on other servers that are followed" },
	[METRIC_PLACES] = { .name = "iris_pubsub_host_nodes", .kind = IRIS_GAUGE,
			    .help = "Nodes of hosts that are in memory" },
	[METRIC_LOADS] = { .name = "iris_pubsub_host_loads_total", .kind = IRIS_COUNTER,
			   .help = "Nodes of hosts that were read" },
	[METRIC_FAILURES] = { .name = "iris_pubsub_host_load_failures_total",
			      .kind = IRIS_COUNTER,
			      .help = "Nodes of hosts that could not be read, or had no room" },
	{ .name = NULL },
};

void
pubsub_count(enum pubsub_metric metric, int64_t amount)
{
	metric_add(&pubsub_metrics[metric], amount);
}

/* --- a service comes and goes with its user --- */

static bool
pubsub_take_nodes(struct iris_user *user, const struct iris_rows *rows)
{
	struct pubsub_service *service = iris_calloc(1, sizeof(*service));

	service->user = user;
	service->jid = user->jid;
	service->owner = user->account.owner;
	service->account = user->account.id;
	service->key = vault_peer_id(jid_bare(&user->jid));
	*user_slot(user, &pubsub_self) = service;
	service_take(service, rows);
	return true;
}

static enum iris_verdict
pubsub_user_load(struct iris_user *user)
{
	/* SECURITY: who may read a node must be known before anybody asks. */
	return service_complete(service_of(user)) ? IRIS_PASS : IRIS_REFUSE;
}

static enum iris_verdict
pubsub_user_unload(struct iris_user *user)
{
	void **slot = user_slot(user, &pubsub_self);

	if (*slot)
		service_free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
pubsub_account_removed(struct iris_account_removed *removed)
{
	return store_erase_account(&removed->account) ? host_account_removed(removed) :
							IRIS_REFUSE;
}

/* Presence that arrives at an account tells who is there, and who may be asked from now on. */
static enum iris_verdict
pubsub_stanza_in(struct iris_incoming *incoming)
{
	const struct iris_stanza *stanza = incoming->delivery.stanza;
	struct iris_host *host;

	if (stanza->kind != IRIS_PRESENCE || !service_of(incoming->user))
		return IRIS_PASS;
	host = stanza->from.node_len ? host_find(jid_domain(&stanza->from)) : NULL;
	if (!host || host->is_component)
		remote_presence(service_of(incoming->user), stanza);
	else if (stanza->type == IRIS_SUBSCRIBED)
		last_contact_seen(incoming->user, &stanza->from);
	return IRIS_PASS;
}

/* A message of a client to its own account, where it is a service. */
static enum iris_verdict
pubsub_stanza_out(struct iris_request *request)
{
	const struct iris_stanza *stanza = request->stanza;
	struct iris_user *user = request->session->user;
	const struct iris_element *form;

	if (stanza->kind != IRIS_MESSAGE || stanza->type == IRIS_ERROR ||
	    !jid_equal(&stanza->to, &user->jid))
		return IRIS_PASS;
	form = subscription_answer_form(stanza);
	if (!form)
		return IRIS_PASS;
	subscription_answered(service_of(user), &user->jid, form, request->arena);
	return IRIS_DONE; /* nobody else's business */
}

enum iris_verdict
pubsub_answer_account(struct iris_request *request)
{
	struct pubsub_service *service = service_of(request->user);

	IRIS_ASSERT(service);
	return request_answer(request, service, IRIS_STR_NONE);
}

/* --- for other plug-ins --- */

/* Held; made when it is not there, with its row in *batch_r. NULL: there are too many. */
static struct pubsub_node *
publication_node(const struct pubsub_publication *publication, struct iris_batch **batch_r)
{
	struct pubsub_service *service = service_of(publication->user);
	struct iris_str name = str_from(publication->node);
	struct pubsub_node *node = service_node(service, name);
	const char *lines = publication->config ? publication->config : preset_config(name);
	struct pubsub_config config;

	*batch_r = NULL;
	if (node)
		return node_ref(node);
	if (service->nodes.count >= (size_t)option_int(&pubsub_self, OPT_NODES_MAX))
		return NULL;
	node_config_init(&config, true, str_from(lines));
	node = node_ref(node_new(service, name, &config));
	node_config_free(&config);
	*batch_r = batch_new(service->owner);
	node_add_to_batch(node, *batch_r);
	return node;
}

enum iris_condition
pubsub_publish(const struct pubsub_publication *publication)
{
	struct iris_batch *batch;
	struct pubsub_node *node = publication_node(publication, &batch);
	struct item_publication item = { .node = node, .id = publication->item, .batch = batch,
					 .payload = publication->payload };
	bool is_new = batch != NULL;
	enum pubsub_error error;

	if (!node)
		return IRIS_CONFLICT;
	item.arena = arena_new();
	error = item_check_size(publication->payload, item.arena);
	if (error == PUBSUB_NONE)
		error = item_publish(&item);
	else
		batch_drop(&item.batch);
	arena_unref(&item.arena);
	if (error != PUBSUB_NONE && is_new)
		node_forget(node);
	node_unref(&node);
	return error == PUBSUB_NONE ? IRIS_NO_ERROR : IRIS_RESOURCE_CONSTRAINT;
}

enum iris_condition
pubsub_retract(struct iris_user *user, const char *name, struct iris_str item)
{
	struct pubsub_node *node = service_node(service_of(user), str_from(name));
	enum pubsub_error error;

	if (!node)
		return IRIS_ITEM_NOT_FOUND;
	node_ref(node);
	error = item_retract(node, item, node->config.numbers[CONFIG_NOTIFY_RETRACT]);
	node_unref(&node);
	if (error == PUBSUB_NOT_FOUND)
		return IRIS_ITEM_NOT_FOUND;
	return error == PUBSUB_NONE ? IRIS_NO_ERROR : IRIS_RESOURCE_CONSTRAINT;
}

bool
pubsub_items(struct iris_user *user, const char *name, size_t limit, struct iris_arena *arena,
	     struct pubsub_found **items_r, size_t *count_r)
{
	struct pubsub_node *node = service_node(service_of(user), str_from(name));
	struct item_range range = { .node = node, .max = limit, .backwards = true };
	struct item_page page;
	bool read;

	*items_r = NULL;
	*count_r = 0;
	if (!node)
		return true;
	node_ref(node);
	read = item_read_range(arena, &range, &page);
	node_unref(&node);
	if (!read)
		return false;
	*items_r = arena_alloc(arena, page.count * sizeof(**items_r));
	for (size_t i = 0; i < page.count; i++)
		(*items_r)[i] = (struct pubsub_found){ element_get(page.items[i], "id"),
			element_child(page.items[i], NULL, NULL) };
	*count_r = page.count;
	return true;
}

struct iris_element *
pubsub_item(struct iris_user *user, const char *name, struct iris_str id, struct iris_arena *arena)
{
	struct pubsub_node *node = service_node(service_of(user), str_from(name));
	struct iris_element *item;
	int64_t row;
	bool read;

	if (!node)
		return NULL;
	node_ref(node);
	read = item_read(arena, node, id, &item, &row);
	node_unref(&node);
	return read && item ? element_child(item, NULL, NULL) : NULL;
}

bool
pubsub_is_shared(struct iris_user *user, const char *name)
{
	const struct pubsub_node *node = service_node(service_of(user), str_from(name));
	int32_t access = node ? node->config.numbers[CONFIG_ACCESS_MODEL] : ACCESS_WHITELIST;

	return access == ACCESS_OPEN || access == ACCESS_PRESENCE;
}

static bool
pubsub_check(const struct iris_settings *settings, struct iris_error *error)
{
	return service_check_label(settings_str(settings, OPT_LABEL), error);
}

static const struct iris_user_rows pubsub_user_rows[] = {
	{ &store_node_load, pubsub_take_nodes },
	{ .query = NULL },
};

static const struct iris_hook_handler pubsub_hooks[] = {
	HOOK(user_load, IRIS_NEUTRAL, pubsub_user_load),
	HOOK(user_unload, IRIS_NEUTRAL, pubsub_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, pubsub_account_removed),
	HOOK(stanza_in, IRIS_LATE, pubsub_stanza_in),
	HOOK(stanza_out, IRIS_NEUTRAL, pubsub_stanza_out),
	HOOK(session_presence, IRIS_LATE, last_session_presence),
	HOOK(session_caps, IRIS_NEUTRAL, last_session_caps),
	HOOK(session_close, IRIS_NEUTRAL, last_session_close),
	HOOK(disco_info, IRIS_NEUTRAL, host_disco_info),
	HOOK(disco_items, IRIS_NEUTRAL, host_disco_items),
	HOOKS_END,
};

static const struct iris_option pubsub_options[] = {
	[OPT_NODES_MAX] = { "nodes-max", IRIS_OPT_INT, "256", .min = 8, .max = 100000,
			    .reloadable = true,
			    .help = "How many nodes an account may have, and how many more it may "
				    "own at a host's service." },
	[OPT_ITEMS_MAX] = { "items-max", IRIS_OPT_INT, "1000", .min = 1, .max = 100000,
			    .reloadable = true,
			    .help = "How many items a node may keep, whatever its configuration "
				    "says (\"max\" is this)." },
	[OPT_PAYLOAD_MAX] = { "payload-max", IRIS_OPT_SIZE, "128 KiB", .min = 1024,
			      .max = 262144, .reloadable = true,
			      .help = "The largest payload of an item." },
	[OPT_ENTITIES_MAX] = { "entities-max", IRIS_OPT_INT, "1000", .min = 1, .max = 100000,
			       .reloadable = true,
			       .help = "How many affiliations, and how many subscriptions, a node "
				       "may have." },
	[OPT_RESULT_MAX] = { "result-max", IRIS_OPT_SIZE, "512 KiB", .min = 65536,
			     .max = 16777216, .reloadable = true,
			     .help = "A result with more items than this has no more; the rest "
				     "comes with the next page." },
	[OPT_REMOTE_MAX] = { "remote-max", IRIS_OPT_INT, "500", .max = 100000,
			     .reloadable = true,
			     .help = "How many resources of contacts on other servers are followed "
				     "for an account." },
	[OPT_LAST_CACHE] = { "last-cache", IRIS_OPT_SIZE, "8 MiB", .min = 65536,
			     .max = 1073741824, .reloadable = true,
			     .help = "Memory of each worker for the last items of nodes." },
	[OPT_ABSENT] = { "last-of-absent", IRIS_OPT_BOOL, "true", .reloadable = true,
			 .help = "Whether who signs in gets the last items of contacts that are "
				 "away, too: they are loaded for it." },
	[OPT_HOST] = { "host", IRIS_OPT_BOOL, "true",
		       .help = "Whether each host has a publish-subscribe service." },
	[OPT_LABEL] = { "label", IRIS_OPT_STRING, "pubsub", .min = 1, .max = 63,
			.help = "What the address of each host's service begins with, as in "
				"pubsub.example.org." },
	[OPT_CREATE] = { "create", IRIS_OPT_CHOICE, "accounts", .reloadable = true,
			 .choices = IRIS_NAMES("accounts", "admins", "anyone", "nobody"),
			 .help = "Who may create nodes at a host: its accounts, those that "
				 "administer a company, anyone who reaches it, or nobody." },
	[OPT_KEEP] = { "keep", IRIS_OPT_DURATION, "10 minutes", .min = 1000, .max = 86400000,
		       .reloadable = true,
		       .help = "How long a host's node stays in memory when nothing happens." },
	[OPT_LOADED_MAX] = { "loaded-max", IRIS_OPT_INT, "10000", .min = 16, .max = 10000000,
			     .reloadable = true,
			     .help = "How many nodes of hosts each worker keeps in memory." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_pubsub = {
	IRIS_MODULE_HEAD,
	.name = "pubsub",
	.summary = "Publish-Subscribe",
	.xep = "XEP-0060 1.30.0, XEP-0222 1.0, XEP-0223 1.1.1",
	.needs = IRIS_NAMES("accounts", "hosts", "router", "xep0004", "xep0059", "xep0115",
			    "xep0203"),
	.self = &pubsub_self,
	.options = pubsub_options,
	.queries = store_queries,
	.user_rows = pubsub_user_rows,
	.hooks = pubsub_hooks,
	.metrics = pubsub_metrics,
	.not_unloadable = true,
	.check = pubsub_check,
	.start = host_start,
	.reload = host_reload,
	.stop = host_stop,
};
