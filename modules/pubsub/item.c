/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §6.5, §7.1, §7.2, §8.5: items are stored, read, taken back.  On a fiber; what is
 * published is committed before anybody is told.  Whether it may be is asked before
 * (request_items.c).
 */
#include "modules/pubsub/pubsub_private.h"

#define CHUNK 32 /* rows that one read fetches */

static struct iris_element *
item_build(struct item_publication *publication)
{
	struct iris_arena *arena = publication->arena;
	struct iris_element *item = element_new(arena, "item", NS_PUBSUB);

	publication->id_r = str_is_empty(publication->id) ? random_id(arena, 120) :
							    publication->id;
	element_set(item, "id", publication->id_r);
	if (!jid_is_none(&publication->publisher))
		element_set(item, "publisher", jid_full(&publication->publisher));
	if (publication->payload)
		element_append(item, element_copy(arena, publication->payload));
	return item;
}

static int64_t
expired_before(const struct pubsub_node *node)
{
	int64_t seconds = node->config.numbers[CONFIG_ITEM_EXPIRE];

	return seconds == CONFIG_MAX ? 0 : worker_wall_ms() - seconds * 1000;
}

/* --- publishing --- */

enum pubsub_error
item_check_size(const struct iris_element *payload, struct iris_arena *arena)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	element_write(&text, payload, IRIS_STR_NONE);
	return text.len > (size_t)option_int(&pubsub_self, OPT_PAYLOAD_MAX) ?
		       PUBSUB_PAYLOAD_TOO_BIG :
		       PUBSUB_NONE;
}

static enum pubsub_error
check_room(const struct pubsub_node *node, int64_t key, struct iris_arena *arena)
{
	struct iris_rows rows;

	if (node->config.numbers[CONFIG_NODE_FULL] != FULL_REJECT)
		return PUBSUB_NONE;
	if (vault_read(&store_item_count, 0,
		       VALUES(value_int(node->id), value_int(key), value_int(expired_before(node))),
		       arena, &rows) != IRIS_VAULT_OK)
		return PUBSUB_INTERNAL;
	return row_value(&rows, 0, 0)->number >= node_config_items_max(&node->config) ?
		       PUBSUB_NODE_FULL :
		       PUBSUB_NONE;
}

static void
add_to_batch(struct item_publication *publication, const struct iris_element *item, int64_t row)
{
	const struct pubsub_node *node = publication->node;
	int64_t key = vault_peer_id(publication->id_r), before = expired_before(node);
	struct iris_strbuf text = STRBUF_INIT(publication->arena);

	element_write(&text, item, IRIS_STR_NONE);
	batch_add(publication->batch, &store_item_delete,
		  VALUES(value_int(node->id), value_int(key)));
	batch_add(publication->batch, &store_item_insert,
		  VALUES(value_int(row), value_int(node->id), value_int(node->service->account),
			 value_int(key), value_int(worker_wall_ms()),
			 value_str(strbuf_str(&text))));
	batch_add(publication->batch, &store_item_trim,
		  VALUES(value_int(node->id), value_int(node_config_items_max(&node->config))));
	if (before > 0)
		batch_add(publication->batch, &store_item_expire,
			  VALUES(value_int(node->id), value_int(before)));
}

static enum pubsub_error
item_store(struct item_publication *publication, const struct iris_element *item)
{
	struct pubsub_node *node = publication->node;
	bool persists = node->config.numbers[CONFIG_PERSIST_ITEMS] && !publication->no_item;
	int64_t row = persists ? vault_next_id(IRIS_SEQ_LOG) : 0;
	enum pubsub_error error;

	if (!persists && !publication->batch)
		return PUBSUB_NONE;
	error = persists ? check_room(node, vault_peer_id(publication->id_r), publication->arena) :
			   PUBSUB_NONE;
	if (error == PUBSUB_NONE && node->going) /* the row would be nobody's */
		error = PUBSUB_NOT_FOUND;
	if (error != PUBSUB_NONE) {
		batch_drop(&publication->batch);
		return error;
	}
	if (!publication->batch)
		publication->batch = batch_new(node->service->owner);
	if (persists)
		add_to_batch(publication, item, row);
	if (publication->session)
		session_go_on(publication->session);
	if (batch_write(&publication->batch) != IRIS_VAULT_OK)
		return PUBSUB_STORE;
	if (row > node->last_item)
		node->last_item = row;
	last_forget(node);
	return node->gone ? PUBSUB_NOT_FOUND : PUBSUB_NONE;
}

void
item_add_to_event(const struct pubsub_node *node, struct iris_element *items,
		  const struct iris_element *item)
{
	struct iris_element *copy = element_copy(items->arena, item);

	copy->ns = str_from(NS_PUBSUB_EVENT);
	if (!node->config.numbers[CONFIG_DELIVER_PAYLOADS])
		while (copy->first)
			element_remove(copy->first);
	element_append(items, copy);
}

enum pubsub_error
item_publish(struct item_publication *publication)
{
	struct pubsub_node *node = publication->node;
	struct iris_element *item = publication->no_item ? NULL : item_build(publication), *event;
	enum pubsub_error error = item_store(publication, item);
	struct iris_stanza *stanza;

	if (error != PUBSUB_NONE)
		return error;
	pubsub_count(METRIC_PUBLISHED, 1);
	stanza = notify_event(node, &event);
	if (item)
		item_add_to_event(node, notify_items(node, event), item);
	else
		notify_items(node, event);
	notify_all(node, &stanza);
	return PUBSUB_NONE;
}

/* --- taking back --- */

/* What is the last one now? Unless another was published meanwhile. */
static bool
find_last(struct pubsub_node *node)
{
	struct iris_arena *arena = arena_new();
	int64_t before = node->last_item;
	struct iris_rows rows;
	bool found = vault_read(&store_item_last, 0, VALUES(value_int(node->id)), arena, &rows) ==
		     IRIS_VAULT_OK;

	last_forget(node);
	if (found && node->last_item == before)
		node->last_item = rows.count ? row_value(&rows, 0, 0)->number : 0;
	arena_unref(&arena);
	return found;
}

enum pubsub_error
item_retract(struct pubsub_node *node, struct iris_str id, bool notify)
{
	struct iris_stanza *stanza;
	struct iris_element *event;
	int64_t changed = 0;

	if (vault_write(&store_item_delete, node->service->owner,
			VALUES(value_int(node->id), value_int(vault_peer_id(id))),
			&changed) != IRIS_VAULT_OK)
		return PUBSUB_STORE;
	if (changed == 0)
		return PUBSUB_NOT_FOUND;
	if (!find_last(node))
		return PUBSUB_INTERNAL;
	if (!notify || node->gone)
		return PUBSUB_NONE;
	stanza = notify_event(node, &event);
	element_set(element_add(notify_items(node, event), "retract", NULL), "id", id);
	notify_all(node, &stanza);
	return PUBSUB_NONE;
}

enum pubsub_error
item_purge(struct pubsub_node *node)
{
	struct iris_batch *batch = batch_new(node->service->owner);
	struct iris_stanza *stanza;
	struct iris_element *event;

	store_clear_node(batch, node->id, true);
	if (batch_write(&batch) != IRIS_VAULT_OK)
		return PUBSUB_STORE;
	if (!find_last(node))
		return PUBSUB_INTERNAL;
	if (!node->config.numbers[CONFIG_NOTIFY_RETRACT] || node->gone)
		return PUBSUB_NONE;
	stanza = notify_event(node, &event);
	element_set(element_add(event, "purge", NULL), "node", node_name(node));
	notify_all(node, &stanza);
	return PUBSUB_NONE;
}

/* --- reading --- */

/* Rows of one read; all are <item/>s that we have written. */
static size_t
take_rows(struct iris_arena *arena, const struct iris_rows *rows, struct item_page *page,
	  size_t most)
{
	size_t bytes = 0;

	for (size_t i = 0; i < rows->count && i < most; i++) {
		struct iris_str text = row_value(rows, i, 2)->bytes;
		struct iris_element *item = element_parse(arena, text);

		if (item)
			page->items[page->count++] = item;
		bytes += text.len;
	}
	return bytes;
}

static void
reverse(struct item_page *page)
{
	for (size_t i = 0; i < page->count / 2; i++) {
		struct iris_element *item = page->items[i];

		page->items[i] = page->items[page->count - 1 - i];
		page->items[page->count - 1 - i] = item;
	}
}

/*
 * SECURITY: however many items there are and however large, a result is bounded; RSM tells that
 * there are more.
 */
bool
item_read_range(struct iris_arena *arena, const struct item_range *range,
		struct item_page *page_r)
{
	const struct pubsub_node *node = range->node;
	size_t bytes = 0, most = (size_t)option_int(&pubsub_self, OPT_RESULT_MAX);
	int64_t after = range->after, before = range->before ? range->before : INT64_MAX;
	struct iris_rows rows;

	*page_r = (struct item_page){
		.items = arena_alloc(arena, (range->max + 1) * sizeof(struct iris_element *)) };
	while (page_r->count < range->max && bytes < most) {
		size_t take = range->max - page_r->count, want;

		take = take < CHUNK ? take : CHUNK;
		want = take + 1; /* one more tells whether there are more */
		if (vault_read(range->backwards ? &store_items_before : &store_items_after,
			       node->service->owner,
			       VALUES(value_int(node->id), value_int(after), value_int(before),
				      value_int(expired_before(node)), value_int((int64_t)want)),
			       arena, &rows) != IRIS_VAULT_OK)
			return false;
		bytes += take_rows(arena, &rows, page_r, take);
		page_r->more = rows.count == want;
		if (!page_r->more)
			break;
		*(range->backwards ? &before : &after) = row_value(&rows, take - 1, 0)->number;
	}
	if (range->max == 0)
		page_r->more = node->last_item != 0;
	if (range->backwards)
		reverse(page_r);
	return true;
}

static struct iris_element *
take_one(struct iris_arena *arena, const struct pubsub_node *node, const struct iris_rows *rows)
{
	if (rows->count == 0 || row_value(rows, 0, 1)->number < expired_before(node))
		return NULL;
	return element_parse(arena, row_value(rows, 0, 2)->bytes);
}

bool
item_read(struct iris_arena *arena, struct pubsub_node *node, struct iris_str id,
	  struct iris_element **item_r, int64_t *row_r)
{
	struct iris_rows rows;

	if (vault_read(&store_item_by_key, node->service->owner,
		       VALUES(value_int(node->id), value_int(vault_peer_id(id))), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	*item_r = take_one(arena, node, &rows);
	*row_r = *item_r ? row_value(&rows, 0, 0)->number : 0;
	return true;
}

struct iris_element *
item_read_row(struct iris_arena *arena, struct pubsub_node *node, int64_t row,
	      int64_t *published_ms_r)
{
	struct iris_rows rows;

	if (vault_read(&store_item_by_id, node->service->owner, VALUES(value_int(row)), arena,
		       &rows) != IRIS_VAULT_OK || rows.count == 0)
		return NULL;
	*published_ms_r = row_value(&rows, 0, 1)->number;
	return take_one(arena, node, &rows);
}
