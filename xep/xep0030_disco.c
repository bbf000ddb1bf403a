/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0030 2.5: Service Discovery of hosts and accounts, and of services and their places, whose
 * identity their own hooks add.
 *
 * Features come from the descriptors of the loaded modules, the rest from the hooks disco_info and
 * disco_items.  An account answers itself and its network only (P5.7).
 */
#include "iris/service.h"
#include "xep/xep0030_disco.h"

enum { OPT_NAME };

static struct iris_module_self disco_self;

static void
disco_add_feature(const char *var, void *query)
{
	element_set(element_add(query, "feature", NULL), "var", str_from(var));
}

static void
disco_add_identity(struct iris_element *query, const char *category, const char *type,
		   struct iris_str name)
{
	struct iris_element *identity = element_add(query, "identity", NULL);

	element_set(identity, "category", str_from(category));
	element_set(identity, "type", str_from(type));
	if (!str_is_empty(name))
		element_set(identity, "name", name);
}

static enum iris_verdict
disco_answer(struct iris_request *request, struct iris_discovery *discovery)
{
	if (!str_is_none(discovery->node) && !discovery->known_node) {
		request->refusal.condition = IRIS_ITEM_NOT_FOUND;
		return IRIS_REFUSE;
	}
	request->reply = discovery->query;
	return IRIS_DONE;
}

static enum iris_discovered
disco_of(const struct iris_request *request)
{
	if (request->service)
		return request->place ? IRIS_DISCO_PLACE : IRIS_DISCO_SERVICE;
	return request->user ? IRIS_DISCO_ACCOUNT : IRIS_DISCO_HOST;
}

static struct iris_discovery
disco_begin(struct iris_request *request, const char *ns)
{
	struct iris_discovery discovery = {
		.request = request,
		.of = disco_of(request),
		.node = element_get(request->payload, "node"),
		.query = element_new(request->arena, "query", ns),
	};

	if (str_is_empty(discovery.node))
		discovery.node = IRIS_STR_NONE;
	if (!str_is_none(discovery.node))
		element_set(discovery.query, "node", discovery.node);
	return discovery;
}

/* What an entity without a node says of itself. */
static void
disco_fill_info(struct iris_discovery *discovery)
{
	if (discovery->of == IRIS_DISCO_HOST)
		disco_add_identity(discovery->query, "server", "im",
				   option_str(&disco_self, OPT_NAME));
	else if (discovery->of == IRIS_DISCO_ACCOUNT)
		disco_add_identity(discovery->query, "account", "registered", IRIS_STR_NONE);
	feature_each(discovery->of, disco_add_feature, discovery->query);
}

static enum iris_verdict
disco_info(struct iris_request *request)
{
	struct iris_discovery discovery = disco_begin(request, NS_INFO);

	if (str_is_none(discovery.node))
		disco_fill_info(&discovery);
	if (hook_run_disco_info(&discovery) == IRIS_REFUSE)
		return IRIS_REFUSE;
	return disco_answer(request, &discovery);
}

struct iris_element *
disco_host_info(struct iris_arena *arena, struct iris_host *host)
{
	struct iris_request request = { .arena = arena, .host = host };
	struct iris_discovery discovery = {
		.request = &request,
		.of = IRIS_DISCO_HOST,
		.query = element_new(arena, "query", NS_INFO),
	};

	disco_fill_info(&discovery);
	hook_run_disco_info(&discovery);
	return discovery.query;
}

static void
disco_add_service(struct iris_service *service, void *query)
{
	element_set(element_add(query, "item", NULL), "jid", jid_domain(&service->jid));
}

static enum iris_verdict
disco_items(struct iris_request *request)
{
	struct iris_discovery discovery = disco_begin(request, NS_ITEMS);

	if (discovery.of == IRIS_DISCO_HOST && str_is_none(discovery.node))
		service_each(request->host, disco_add_service, discovery.query);
	if (hook_run_disco_items(&discovery) == IRIS_REFUSE)
		return IRIS_REFUSE;
	return disco_answer(request, &discovery);
}

static const struct iris_feature disco_features[] = {
	{ IRIS_DISCO_HOST, NS_INFO },
	{ IRIS_DISCO_HOST, NS_ITEMS },
	{ IRIS_DISCO_ACCOUNT, NS_INFO },
	{ IRIS_DISCO_ACCOUNT, NS_ITEMS },
	{ IRIS_DISCO_SERVICE, NS_INFO },
	{ IRIS_DISCO_SERVICE, NS_ITEMS },
	{ IRIS_DISCO_PLACE, NS_INFO },
	{ IRIS_DISCO_PLACE, NS_ITEMS },
	{ .var = NULL },
};

static const struct iris_iq disco_iq[] = {
	{ IRIS_TO_HOST | IRIS_TO_SERVICE | IRIS_TO_PLACE, IRIS_GET, "query", NS_INFO, IRIS_ANYONE,
	  disco_info },
	{ IRIS_TO_HOST | IRIS_TO_SERVICE | IRIS_TO_PLACE, IRIS_GET, "query", NS_ITEMS, IRIS_ANYONE,
	  disco_items },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_INFO, IRIS_NETWORK, disco_info },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_ITEMS, IRIS_NETWORK, disco_items },
	{ .name = NULL },
};

static const struct iris_option disco_options[] = {
	[OPT_NAME] = { "name", IRIS_OPT_STRING, NULL, .optional = true, .max = 255,
		       .reloadable = true,
		       .help = "A name for people in the identity of a host; none says nothing of "
			       "the software (P1.4)." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0030 = {
	IRIS_MODULE_HEAD,
	.name = "xep0030",
	.summary = "Service Discovery",
	.xep = "XEP-0030 2.5.0",
	.self = &disco_self,
	.options = disco_options,
	.features = disco_features,
	.iq = disco_iq,
};
