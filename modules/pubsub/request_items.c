/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0060 §6.5, §7: retrieving, publishing and taking back items. */
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0059_rsm.h"

/* --- §6.5: retrieving --- */

static void
add_items(struct iris_element *reply, const struct item_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		element_append(reply, page->items[i]);
}

static enum pubsub_error
get_by_id(struct pubsub_call *call, struct iris_element *reply)
{
	struct iris_element *wanted = element_child(call->command, "item", NS_PUBSUB), *item;
	size_t left = (size_t)option_int(&pubsub_self, OPT_ITEMS_MAX);
	int64_t row;

	for (; wanted && left > 0; wanted = element_next(wanted, "item", NS_PUBSUB), left--) {
		if (!item_read(call->arena, call->node, element_get(wanted, "id"), &item, &row))
			return PUBSUB_INTERNAL;
		if (item)
			element_append(reply, item);
	}
	return PUBSUB_NONE;
}

/* The row that an item's id stands for; 0: none was named. */
static enum pubsub_error
find_row(struct pubsub_call *call, struct iris_str id, int64_t *row_r)
{
	struct iris_element *item;

	*row_r = 0;
	if (str_is_empty(id))
		return PUBSUB_NONE;
	if (!item_read(call->arena, call->node, id, &item, row_r))
		return PUBSUB_INTERNAL;
	return *row_r ? PUBSUB_NONE : PUBSUB_NOT_FOUND; /* XEP-0059 §2.2 */
}

/* XEP-0059, or max_items of §6.5.7; without either, all that a result may hold. */
static enum pubsub_error
find_range(struct pubsub_call *call, struct item_range *range, bool *asked_r)
{
	struct iris_str most = element_get(call->command, "max_items");
	size_t limit = (size_t)option_int(&pubsub_self, OPT_ITEMS_MAX);
	struct rsm_request rsm;
	enum iris_condition condition = rsm_read(call->payload, limit, &rsm);
	enum pubsub_error error;
	int64_t count;

	if (condition == IRIS_FEATURE_NOT_IMPLEMENTED)
		return call_unsupported(call, "rsm");
	if (condition != IRIS_NO_ERROR)
		return PUBSUB_BAD_REQUEST;
	*asked_r = rsm.asked;
	*range = (struct item_range){ .node = call->node, .max = rsm.max,
				      .backwards = !str_is_none(rsm.before) };
	error = find_row(call, rsm.after, &range->after);
	if (error == PUBSUB_NONE)
		error = find_row(call, rsm.before, &range->before);
	if (error != PUBSUB_NONE || str_is_none(most))
		return error;
	if (!str_to_int(most, 1, INT32_MAX, &count))
		return PUBSUB_BAD_REQUEST;
	if ((size_t)count < range->max)
		range->max = (size_t)count;
	range->backwards = true; /* the most recent ones */
	return PUBSUB_NONE;
}

/* §6.5.4: also when nobody asked for pages, and there is more. */
static void
add_set(struct pubsub_call *call, const struct item_page *page, bool asked)
{
	if (!asked && (!page->more || element_get(call->command, "max_items").base))
		return;
	if (page->count == 0)
		rsm_write(call->request->reply, IRIS_STR_NONE, IRIS_STR_NONE);
	else
		rsm_write(call->request->reply, element_get(page->items[0], "id"),
			  element_get(page->items[page->count - 1], "id"));
}

static enum pubsub_error
items_get(struct pubsub_call *call)
{
	struct iris_element *reply;
	struct item_range range;
	struct item_page page;
	bool asked = false;
	enum pubsub_error error = access_read(call->node, &call->from);

	if (error != PUBSUB_NONE)
		return error;
	reply = call_reply(call);
	if (element_child(call->command, "item", NS_PUBSUB))
		return get_by_id(call, reply);
	error = find_range(call, &range, &asked);
	if (error != PUBSUB_NONE)
		return error;
	if (!item_read_range(call->arena, &range, &page))
		return PUBSUB_INTERNAL;
	add_items(reply, &page);
	add_set(call, &page, asked);
	return PUBSUB_NONE;
}

/* --- §7.1: publishing --- */

/* The form of <publish-options/>; NULL: there is none. */
static enum pubsub_error
find_options(struct pubsub_call *call, struct iris_element **form_r)
{
	struct iris_element *options = element_child(call->payload, "publish-options", NS_PUBSUB);

	*form_r = options ? form_find(options, "submit") : NULL;
	return options && !*form_r ? PUBSUB_BAD_REQUEST : PUBSUB_NONE;
}

/* §7.1.4: the account's own publication makes the node. */
static enum pubsub_error
auto_create(struct pubsub_call *call, const struct iris_element *form, struct iris_batch **batch_r)
{
	struct pubsub_config config;
	enum pubsub_error error;

	if (!access_is_owner(call->service, NULL, &call->from))
		return call->service->user ? PUBSUB_FORBIDDEN : PUBSUB_NOT_FOUND;
	error = call_new_config(call, form, &config);
	if (error != PUBSUB_NONE)
		return error;
	*batch_r = batch_new(call->service->owner);
	error = call_new_node(call, &config, *batch_r);
	node_config_free(&config);
	if (error != PUBSUB_NONE)
		batch_drop(batch_r);
	return error;
}

static enum pubsub_error
check_payload(struct pubsub_call *call, const struct iris_element *payload)
{
	if (element_next(payload, NULL, NULL) || str_is_empty(payload->ns))
		return PUBSUB_INVALID_PAYLOAD;
	return item_check_size(payload, call->arena);
}

/* §7.1.3.6: does the item fit what the node is for? */
static enum pubsub_error
check_item(struct pubsub_call *call, const struct pubsub_config *config,
	   struct item_publication *publication)
{
	struct iris_element *item = element_child(call->command, "item", NS_PUBSUB);
	bool persists = config->numbers[CONFIG_PERSIST_ITEMS];
	bool payloads = config->numbers[CONFIG_DELIVER_PAYLOADS];

	if (!item) {
		publication->no_item = true;
		return persists || payloads ? PUBSUB_ITEM_REQUIRED : PUBSUB_NONE;
	}
	if (element_next(item, "item", NS_PUBSUB))
		return PUBSUB_BAD_REQUEST;
	publication->id = element_get(item, "id");
	publication->payload = element_child(item, NULL, NULL);
	if (publication->id.len > ITEM_ID_MAX)
		return PUBSUB_BAD_REQUEST;
	if (!persists && !payloads)
		return PUBSUB_ITEM_FORBIDDEN;
	if (!publication->payload)
		return payloads ? PUBSUB_PAYLOAD_REQUIRED : PUBSUB_NONE;
	return check_payload(call, publication->payload);
}

static enum pubsub_error
check_publish(struct pubsub_call *call, const struct iris_element *form)
{
	struct config_problem problem;

	if (!access_publish(call->node, &call->from))
		return PUBSUB_FORBIDDEN;
	if (form && !node_config_meets(&call->node->config, form, &problem))
		return call_problem(call, &problem);
	return PUBSUB_NONE;
}

static enum pubsub_error
publish_to_node(struct pubsub_call *call, struct iris_batch *batch)
{
	struct item_publication publication = { .node = call->node, .batch = batch,
						.arena = call->arena };
	enum pubsub_error error = check_item(call, &call->node->config, &publication);
	bool is_new = batch != NULL;

	if (error != PUBSUB_NONE) {
		batch_drop(&publication.batch);
	} else {
		if (!call->service->user)
			publication.publisher = call->bare;
		if (call->request->is_self && !preset_is_told(call))
			publication.session = call->request->session;
		error = item_publish(&publication);
	}
	if (error != PUBSUB_NONE) {
		if (is_new)
			node_forget(call->node);
		return error;
	}
	if (!publication.no_item)
		element_set(element_add(call_reply(call), "item", NULL), "id", publication.id_r);
	preset_tell(call, publication.id_r, publication.payload);
	return PUBSUB_NONE;
}

static enum pubsub_error
items_publish(struct pubsub_call *call)
{
	struct iris_element *form;
	struct iris_batch *batch = NULL;
	enum pubsub_error error = find_options(call, &form);

	if (error != PUBSUB_NONE)
		return error;
	error = call->node ? check_publish(call, form) : auto_create(call, form, &batch);
	return error == PUBSUB_NONE ? publish_to_node(call, batch) : error;
}

/* --- §7.2: taking back --- */

/* §4.1: a publish-only affiliate could not know what it takes back. */
static bool
may_retract(const struct pubsub_call *call)
{
	return node_affiliation(call->node, jid_bare(&call->from)) >= AFFILIATION_PUBLISHER;
}

static bool
is_to_notify(const struct pubsub_call *call)
{
	struct iris_str notify = element_get(call->command, "notify");

	return str_is_none(notify) ? call->node->config.numbers[CONFIG_NOTIFY_RETRACT] :
				     form_value_is_true(notify);
}

static enum pubsub_error
items_retract(struct pubsub_call *call)
{
	struct iris_element *item = element_child(call->command, "item", NS_PUBSUB);
	struct iris_str id = item ? element_get(item, "id") : IRIS_STR_NONE;
	enum pubsub_error error;

	if (!may_retract(call))
		return PUBSUB_FORBIDDEN;
	if (str_is_empty(id))
		return PUBSUB_ITEM_REQUIRED;
	if (element_next(item, "item", NS_PUBSUB))
		return PUBSUB_BAD_REQUEST;
	if (!call->node->config.numbers[CONFIG_PERSIST_ITEMS])
		return call_unsupported(call, "persistent-items");
	error = item_retract(call->node, id, is_to_notify(call));
	if (error == PUBSUB_NONE)
		preset_tell(call, id, NULL);
	return error;
}

const struct pubsub_command items_commands[] = {
	{ "items", NS_PUBSUB, IRIS_GET, CALL_NAME | CALL_NODE, items_get },
	{ "publish", NS_PUBSUB, IRIS_SET, CALL_NAME | CALL_KEEPS, items_publish },
	{ "retract", NS_PUBSUB, IRIS_SET, CALL_NAME | CALL_NODE, items_retract },
	{ .name = NULL },
};
