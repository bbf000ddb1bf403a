/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0060 §5.2–§5.5: discovery of nodes and their items.  At the home of the service; a fiber. */
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

static void
disco_add_owner(struct iris_element *form, const struct pubsub_node *node)
{
	struct iris_element *owners =
		form_add_field(form, "jid-multi", "pubsub#owner", IRIS_STR_NONE);

	if (node->service->user)
		form_field_add_value(owners, jid_bare(&node->service->jid));
	HASH_FOREACH(found, &node->affiliates)
		if (IRIS_CONTAINER(found, struct pubsub_affiliate, node)->affiliation ==
		    AFFILIATION_OWNER)
			form_field_add_value(owners, found->key);
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
disco_node(struct iris_discovery *discovery, const struct pubsub_service *service, bool items)
{
	struct iris_request *request = discovery->request;
	const struct iris_jid *asker = &request->stanza->from;
	struct pubsub_node *node = service_node(service, discovery->node);
	bool read = true;

	if (!node || !access_see(node, asker))
		return IRIS_PASS;
	discovery->known_node = true;
	node_ref(node);
	if (items && access_read(node, asker) == PUBSUB_NONE)
		read = disco_node_items(discovery->query, node);
	else if (!items)
		disco_node_info(discovery->query, node);
	node_unref(&node);
	if (!read)
		request->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
	return read ? IRIS_PASS : IRIS_REFUSE;
}

enum iris_verdict
pubsub_disco_account(struct iris_discovery *discovery, bool items)
{
	const struct pubsub_service *service = service_of(discovery->request->user);

	if (!str_is_none(discovery->node))
		return disco_node(discovery, service, items);
	if (items)
		disco_nodes(discovery->query, service, &discovery->request->stanza->from);
	return IRIS_PASS;
}
