/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0060 §5.2–§5.5: discovery of nodes and their items.  At the home of the service, on a fiber. */
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

static void
disco_add_owner(struct iris_element *form, const struct pubsub_node *node)
{
	if (node->service->user)
		form_add_field(form, "jid-multi", "pubsub#owner",
			       jid_bare(&node->service->jid));
	form_add_field(form, "text-single", "pubsub#creation_date",
		       datetime_format(form->arena, node->created_ms));
}

static void
disco_node_info(struct iris_element *query, const struct pubsub_node *node)
{
	struct iris_element *identity = element_add(query, "identity", NULL), *form;

	element_set(identity, "category", IRIS_STR("pubsub"));
	element_set(identity, "type", IRIS_STR("leaf"));
	element_set(element_add(query, "feature", NULL), "var", IRIS_STR(NS_PUBSUB));
	form = form_add(query, "result", NS_PUBSUB "#meta-data");
	node_config_add_metadata(form, &node->config);
	disco_add_owner(form, node);
}

/* §5.5: the ids of its items. */
static bool
disco_node_items(struct iris_element *query, struct pubsub_node *node)
{
	struct item_range range = { .node = node, .backwards = true,
				    .max = (size_t)option_int(&pubsub_self, OPT_ITEMS_MAX) };
	struct item_page page;

	if (!item_read_range(query->arena, &range, &page))
		return false;
	for (size_t i = 0; i < page.count; i++) {
		struct iris_element *item = element_add(query, "item", NULL);

		element_set(item, "jid", jid_bare(&node->service->jid));
		element_set(item, "name", element_get(page.items[i], "id"));
	}
	return true;
}

/* XEP-0163 §6: only what the asker may read. */
static void
disco_nodes(struct iris_element *query, const struct pubsub_service *service,
	    const struct iris_jid *asker)
{
	HASH_FOREACH(found, &service->nodes) {
		struct pubsub_node *node = IRIS_CONTAINER(found, struct pubsub_node, by_name);
		struct iris_element *item;

		if (access_read(node, asker) != PUBSUB_NONE)
			continue;
		item = element_add(query, "item", NULL);
		element_set(item, "jid", jid_bare(&service->jid));
		element_set(item, "node", node_name(node));
		element_set(item, "name", str_from(node->config.texts[CONFIG_TITLE]));
	}
}

enum iris_verdict
pubsub_disco_account(struct iris_discovery *discovery, bool items)
{
	struct iris_request *request = discovery->request;
	struct pubsub_service *service = service_of(request->user);
	const struct iris_jid *asker = &request->stanza->from;
	struct pubsub_node *node;
	bool read = true;

	if (str_is_none(discovery->node)) {
		if (items)
			disco_nodes(discovery->query, service, asker);
		return IRIS_PASS;
	}
	node = service_node(service, discovery->node);
	if (!node || access_read(node, asker) != PUBSUB_NONE)
		return IRIS_PASS;
	discovery->known_node = true;
	node_ref(node);
	if (items)
		read = disco_node_items(discovery->query, node);
	else
		disco_node_info(discovery->query, node);
	node_unref(&node);
	if (!read)
		request->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
	return read ? IRIS_PASS : IRIS_REFUSE;
}
