/* SPDX-License-Identifier: Apache-2.0 */
/* The statements of modules/pubsub.  Names, addresses, configurations and items are sealed. */
#include "modules/pubsub/pubsub_private.h"

#define NODE_COLUMNS                                                                         \
	"n.id, n.service, n.name, n.config, n.created, "                                     \
	"(SELECT MAX(i.id) FROM pubsub_item i WHERE i.node = n.id), "                        \
	"(SELECT COUNT(*) FROM pubsub_affiliation a WHERE a.node = n.id), "                  \
	"(SELECT COUNT(*) FROM pubsub_subscription s WHERE s.node = n.id) "

#define NODE_COLUMN_TYPES                                                                    \
	{ { "id", IRIS_INT }, { "service", IRIS_INT }, { "name", IRIS_SEALED },              \
	  { "config", IRIS_SEALED }, { "created", IRIS_INT }, { "last", IRIS_INT },          \
	  { "affiliations", IRIS_INT }, { "subscriptions", IRIS_INT } }

struct iris_query store_node_load = {
	.name = "pubsub.nodes", .table = "pubsub_node", .key = "id",
	.sql = "SELECT " NODE_COLUMNS "FROM pubsub_node n WHERE n.account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = NODE_COLUMN_TYPES,
};

struct iris_query store_node_any = {
	.name = "pubsub.any", .table = "pubsub_node",
	.sql = "SELECT id FROM pubsub_node WHERE service = $1 LIMIT 1",
	.params = { { "service", IRIS_INT } },
	.columns = { { "id", IRIS_INT } },
};

struct iris_query store_node_insert = {
	.name = "pubsub.node_insert", .table = "pubsub_node", .key = "id", .write = true,
	.sql = "INSERT INTO pubsub_node (id, service, account, node_key, name, config, created, "
	       "owner, listed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	.params = { { "id", IRIS_INT }, { "service", IRIS_INT }, { "account", IRIS_INT },
		    { "node_key", IRIS_INT }, { "name", IRIS_SEALED }, { "config", IRIS_SEALED },
		    { "created", IRIS_INT }, { "owner", IRIS_INT }, { "listed", IRIS_INT } },
};

struct iris_query store_node_configure = {
	.name = "pubsub.node_configure", .table = "pubsub_node", .key = "id", .write = true,
	.sql = "UPDATE pubsub_node SET config = $2, listed = $3 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "config", IRIS_SEALED }, { "listed", IRIS_INT } },
};

struct iris_query store_node_delete = {
	.name = "pubsub.node_delete", .table = "pubsub_node", .write = true,
	.sql = "DELETE FROM pubsub_node WHERE id = $1",
	.params = { { "id", IRIS_INT } },
};

/* --- who may what, who is subscribed --- */

struct iris_query store_affiliations = {
	.name = "pubsub.affiliations", .table = "pubsub_affiliation", .key = "node jid_key",
	.sql = "SELECT node, jid_key, jid, affiliation FROM pubsub_affiliation WHERE node = $1",
	.params = { { "node", IRIS_INT } },
	.columns = { { "node", IRIS_INT }, { "jid_key", IRIS_INT }, { "jid", IRIS_SEALED },
		     { "affiliation", IRIS_INT } },
};

struct iris_query store_affiliation_set = {
	.name = "pubsub.affiliation_set", .table = "pubsub_affiliation", .key = "node jid_key",
	.write = true,
	.sql = "INSERT INTO pubsub_affiliation (node, account, jid_key, jid, affiliation) "
	       "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node, jid_key) DO UPDATE "
	       "SET jid = excluded.jid, affiliation = excluded.affiliation",
	.params = { { "node", IRIS_INT }, { "account", IRIS_INT }, { "jid_key", IRIS_INT },
		    { "jid", IRIS_SEALED }, { "affiliation", IRIS_INT } },
};

struct iris_query store_affiliation_delete = {
	.name = "pubsub.affiliation_delete", .table = "pubsub_affiliation", .write = true,
	.sql = "DELETE FROM pubsub_affiliation WHERE node = $1 AND jid_key = $2",
	.params = { { "node", IRIS_INT }, { "jid_key", IRIS_INT } },
};

struct iris_query store_subscriptions = {
	.name = "pubsub.subscriptions", .table = "pubsub_subscription", .key = "node jid_key",
	.sql = "SELECT node, jid_key, jid, state, options FROM pubsub_subscription "
	       "WHERE node = $1",
	.params = { { "node", IRIS_INT } },
	.columns = { { "node", IRIS_INT }, { "jid_key", IRIS_INT }, { "jid", IRIS_SEALED },
		     { "state", IRIS_INT }, { "options", IRIS_INT } },
};

struct iris_query store_subscription_set = {
	.name = "pubsub.subscription_set", .table = "pubsub_subscription", .key = "node jid_key",
	.write = true,
	.sql = "INSERT INTO pubsub_subscription "
	       "(node, account, jid_key, jid, state, options, bare_key) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node, jid_key) DO UPDATE "
	       "SET jid = excluded.jid, state = excluded.state, options = excluded.options, "
	       "bare_key = excluded.bare_key",
	.params = { { "node", IRIS_INT }, { "account", IRIS_INT }, { "jid_key", IRIS_INT },
		    { "jid", IRIS_SEALED }, { "state", IRIS_INT }, { "options", IRIS_INT },
		    { "bare_key", IRIS_INT } },
};

struct iris_query store_subscription_delete = {
	.name = "pubsub.subscription_delete", .table = "pubsub_subscription", .write = true,
	.sql = "DELETE FROM pubsub_subscription WHERE node = $1 AND jid_key = $2",
	.params = { { "node", IRIS_INT }, { "jid_key", IRIS_INT } },
};

/* --- items --- */

struct iris_query store_item_insert = {
	.name = "pubsub.item_insert", .table = "pubsub_item", .key = "id", .write = true,
	.sql = "INSERT INTO pubsub_item (id, node, account, item_key, published, value) "
	       "VALUES ($1, $2, $3, $4, $5, $6)",
	.params = { { "id", IRIS_INT }, { "node", IRIS_INT }, { "account", IRIS_INT },
		    { "item_key", IRIS_INT }, { "published", IRIS_INT },
		    { "value", IRIS_SEALED } },
};

struct iris_query store_item_delete = {
	.name = "pubsub.item_delete", .table = "pubsub_item", .write = true,
	.sql = "DELETE FROM pubsub_item WHERE node = $1 AND item_key = $2",
	.params = { { "node", IRIS_INT }, { "item_key", IRIS_INT } },
};

struct iris_query store_item_trim = {
	.name = "pubsub.item_trim", .table = "pubsub_item", .write = true,
	.sql = "DELETE FROM pubsub_item WHERE node = $1 AND id <= (SELECT id FROM pubsub_item "
	       "WHERE node = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
	.params = { { "node", IRIS_INT }, { "keep", IRIS_INT } },
};

struct iris_query store_item_expire = {
	.name = "pubsub.item_expire", .table = "pubsub_item", .write = true,
	.sql = "DELETE FROM pubsub_item WHERE node = $1 AND published < $2",
	.params = { { "node", IRIS_INT }, { "before", IRIS_INT } },
};

#define ITEM_COLUMNS "SELECT id, published, value FROM pubsub_item "
#define ITEM_COLUMN_TYPES                                                                    \
	{ { "id", IRIS_INT }, { "published", IRIS_INT }, { "value", IRIS_SEALED } }
#define ITEM_RANGE "WHERE node = $1 AND id > $2 AND id < $3 AND published >= $4 ORDER BY id "
#define ITEM_RANGE_PARAMS                                                                    \
	{ { "node", IRIS_INT }, { "after", IRIS_INT }, { "before", IRIS_INT },               \
	  { "since", IRIS_INT }, { "limit", IRIS_INT } }

struct iris_query store_items_after = {
	.name = "pubsub.items_after", .table = "pubsub_item", .key = "id",
	.sql = ITEM_COLUMNS ITEM_RANGE "LIMIT $5",
	.params = ITEM_RANGE_PARAMS,
	.columns = ITEM_COLUMN_TYPES,
};

struct iris_query store_items_before = {
	.name = "pubsub.items_before", .table = "pubsub_item", .key = "id",
	.sql = ITEM_COLUMNS ITEM_RANGE "DESC LIMIT $5",
	.params = ITEM_RANGE_PARAMS,
	.columns = ITEM_COLUMN_TYPES,
};

struct iris_query store_item_by_key = {
	.name = "pubsub.item_by_key", .table = "pubsub_item", .key = "id",
	.sql = ITEM_COLUMNS "WHERE node = $1 AND item_key = $2",
	.params = { { "node", IRIS_INT }, { "item_key", IRIS_INT } },
	.columns = ITEM_COLUMN_TYPES,
};

struct iris_query store_item_by_id = {
	.name = "pubsub.item_by_id", .table = "pubsub_item", .key = "id",
	.sql = ITEM_COLUMNS "WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = ITEM_COLUMN_TYPES,
};

struct iris_query store_item_last = {
	.name = "pubsub.item_last", .table = "pubsub_item",
	.sql = "SELECT MAX(id) FROM pubsub_item WHERE node = $1",
	.params = { { "node", IRIS_INT } },
	.columns = { { "id", IRIS_INT } },
};

struct iris_query store_item_count = {
	.name = "pubsub.item_count", .table = "pubsub_item",
	.sql = "SELECT COUNT(*) FROM pubsub_item WHERE node = $1 AND item_key <> $2 "
	       "AND published >= $3",
	.params = { { "node", IRIS_INT }, { "but", IRIS_INT }, { "since", IRIS_INT } },
	.columns = { { "count", IRIS_INT } },
};

/* --- of hosts: one node, by the service and its name --- */

struct iris_query store_host_find = {
	.name = "pubsub.host_find", .table = "pubsub_node",
	.sql = "SELECT id, owner FROM pubsub_node WHERE service = $1 AND node_key = $2",
	.params = { { "service", IRIS_INT }, { "node_key", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT } },
};

struct iris_query store_host_node = {
	.name = "pubsub.host_node", .table = "pubsub_node", .key = "id",
	.sql = "SELECT " NODE_COLUMNS "FROM pubsub_node n WHERE n.id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = NODE_COLUMN_TYPES,
};

struct iris_query store_host_head = {
	.name = "pubsub.host_head", .table = "pubsub_node", .key = "id",
	.sql = "SELECT id, name, config FROM pubsub_node WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "name", IRIS_SEALED }, { "config", IRIS_SEALED } },
};

struct iris_query store_host_subscriptions = {
	.name = "pubsub.host_subscriptions", .table = "pubsub_subscription",
	.key = "node jid_key",
	.sql = "SELECT node, jid_key, jid, state FROM pubsub_subscription "
	       "WHERE bare_key = $2 AND node = $1 LIMIT $3",
	.params = { { "node", IRIS_INT }, { "bare_key", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "node", IRIS_INT }, { "jid_key", IRIS_INT }, { "jid", IRIS_SEALED },
		     { "state", IRIS_INT } },
};

/* How many nodes of a service belong to an address. */
struct iris_query store_host_owned = {
	.name = "pubsub.host_owned", .table = "pubsub_node",
	.sql = "SELECT COUNT(*) FROM pubsub_affiliation a JOIN pubsub_node n ON n.id = a.node "
	       "WHERE a.jid_key = $2 AND a.affiliation = 5 AND n.service = $1",
	.params = { { "service", IRIS_INT }, { "jid_key", IRIS_INT } },
	.columns = { { "count", IRIS_INT } },
};

/* --- of hosts: pages of nodes, in the order of their keys --- */

#define PAGE_COLUMNS "n.id AS id, n.owner AS owner, n.node_key AS node_key"
/* + 0: not found by the service, which has many, but by what they are joined with. */
#define PAGE_OF_SERVICE "AND n.service = $1 "
#define PAGE_OF_ADDRESS "AND n.service + 0 = $1 "
#define PAGE_RANGE(order)                                                                    \
	"AND n.node_key > $3 AND n.node_key < $4 ORDER BY n.node_key" order " LIMIT $5"
#define PAGE_PARAMS                                                                          \
	{ { "service", IRIS_INT }, { "jid_key", IRIS_INT }, { "after", IRIS_INT },           \
	  { "before", IRIS_INT }, { "limit", IRIS_INT } }
#define PAGE_QUERY(name_, sql_)                                                              \
	{ .name = name_, .table = "pubsub_node", .sql = sql_, .params = PAGE_PARAMS,         \
	  .columns = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "node_key", IRIS_INT },  \
		       { "value", IRIS_INT } } }

/* Those listed but for outcasts, and those where the address is something. */
#define VISIBLE(order)                                                                       \
	"SELECT id, owner, node_key, 0 FROM (SELECT " PAGE_COLUMNS " FROM pubsub_node n "    \
	"WHERE n.listed = 1 AND NOT EXISTS (SELECT 1 FROM pubsub_affiliation o "             \
	"WHERE o.node = n.id AND o.jid_key = $2 AND o.affiliation = 1) " PAGE_OF_SERVICE     \
	PAGE_RANGE(order)                                                                    \
	") listed UNION SELECT id, owner, node_key, 0 FROM (SELECT " PAGE_COLUMNS " "        \
	"FROM pubsub_affiliation a JOIN pubsub_node n ON n.id = a.node "                     \
	"WHERE a.jid_key = $2 AND a.affiliation > 1 " PAGE_OF_ADDRESS PAGE_RANGE(order)      \
	") known ORDER BY node_key" order " LIMIT $5"
#define AFFILIATED(order)                                                                    \
	"SELECT " PAGE_COLUMNS ", a.affiliation FROM pubsub_affiliation a "                  \
	"JOIN pubsub_node n ON n.id = a.node WHERE a.jid_key = $2 " PAGE_OF_ADDRESS          \
	PAGE_RANGE(order)
/* Once, however many of its resources are subscribed. */
#define SUBSCRIBED(order)                                                                    \
	"SELECT " PAGE_COLUMNS ", 0 FROM (SELECT DISTINCT node FROM pubsub_subscription "    \
	"WHERE bare_key = $2) s JOIN pubsub_node n ON n.id = s.node WHERE 0 = 0 "            \
	PAGE_OF_ADDRESS PAGE_RANGE(order)

struct iris_query store_host_visible[2] = {
	PAGE_QUERY("pubsub.host_visible", VISIBLE("")),
	PAGE_QUERY("pubsub.host_visible_before", VISIBLE(" DESC")),
};
struct iris_query store_host_affiliated[2] = {
	PAGE_QUERY("pubsub.host_affiliated", AFFILIATED("")),
	PAGE_QUERY("pubsub.host_affiliated_before", AFFILIATED(" DESC")),
};
struct iris_query store_host_subscribed[2] = {
	PAGE_QUERY("pubsub.host_subscribed", SUBSCRIBED("")),
	PAGE_QUERY("pubsub.host_subscribed_before", SUBSCRIBED(" DESC")),
};

/* --- what was posted --- */

static void
settled(void *arg, bool failed)
{
	struct settling *settling = arg;

	settling->failed = failed;
	wait_done(&settling->wait);
}

struct iris_ticket *
settling_begin(struct settling *settling)
{
	wait_init(&settling->wait);
	settling->failed = false;
	settling->ticket = ticket_new(settled, settling);
	return settling->ticket;
}

bool
settling_end(struct settling *settling)
{
	ticket_unref(&settling->ticket);
	wait_for(&settling->wait, "pubsub: commit");
	return !settling->failed;
}

/* --- what goes with a node, and with an account --- */

#define DELETE_OF_NODE(table_)                                                               \
	{ .name = "pubsub.clear_" #table_, .table = "pubsub_" #table_, .write = true,        \
	  .sql = "DELETE FROM pubsub_" #table_ " WHERE node = $1",                           \
	  .params = { { "node", IRIS_INT } } }
#define DELETE_OF_ACCOUNT(table_)                                                            \
	{ .name = "pubsub.erase_" #table_, .table = "pubsub_" #table_, .write = true,        \
	  .sql = "DELETE FROM pubsub_" #table_                                               \
		 " WHERE node IN (SELECT id FROM pubsub_node WHERE account = $1)",           \
	  .params = { { "account", IRIS_INT } } }

static struct iris_query clear_items = DELETE_OF_NODE(item);
static struct iris_query clear_affiliations = DELETE_OF_NODE(affiliation);
static struct iris_query clear_subscriptions = DELETE_OF_NODE(subscription);
static struct iris_query erase_items = DELETE_OF_ACCOUNT(item);
static struct iris_query erase_affiliations = DELETE_OF_ACCOUNT(affiliation);
static struct iris_query erase_subscriptions = DELETE_OF_ACCOUNT(subscription);
static struct iris_query erase_nodes = {
	.name = "pubsub.erase_node", .table = "pubsub_node", .write = true,
	.sql = "DELETE FROM pubsub_node WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

void
store_clear_node(struct iris_batch *batch, int64_t node, bool items_only)
{
	batch_add(batch, &clear_items, VALUES(value_int(node)));
	if (items_only)
		return;
	batch_add(batch, &clear_affiliations, VALUES(value_int(node)));
	batch_add(batch, &clear_subscriptions, VALUES(value_int(node)));
	batch_add(batch, &store_node_delete, VALUES(value_int(node)));
}

bool
store_erase_account(const struct iris_account *account)
{
	struct iris_batch *batch = batch_new(account->owner);
	const struct iris_value *id = VALUES(value_int(account->id));

	batch_add(batch, &erase_items, id);
	batch_add(batch, &erase_affiliations, id);
	batch_add(batch, &erase_subscriptions, id);
	batch_add(batch, &erase_nodes, id);
	return batch_write(&batch) == IRIS_VAULT_OK;
}

struct iris_query *const store_queries[] = {
	&store_node_load, &store_node_any, &store_node_insert, &store_node_configure,
	&store_node_delete, &store_affiliations, &store_affiliation_set,
	&store_affiliation_delete, &store_subscriptions, &store_subscription_set,
	&store_subscription_delete, &store_item_insert, &store_item_delete, &store_item_trim,
	&store_item_expire, &store_items_after, &store_items_before, &store_item_by_key,
	&store_item_by_id, &store_item_last, &store_item_count, &clear_items,
	&clear_affiliations, &clear_subscriptions, &erase_items, &erase_affiliations,
	&erase_subscriptions, &erase_nodes, &store_host_find, &store_host_node,
	&store_host_head, &store_host_subscriptions, &store_host_owned, &store_host_visible[0],
	&store_host_visible[1], &store_host_affiliated[0], &store_host_affiliated[1],
	&store_host_subscribed[0], &store_host_subscribed[1], NULL,
};
