/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of modules/pubsub share.  Everything belongs to one worker: of an account its
 * home, of a host's node the home of "host/node".
 */
#ifndef IRIS_PUBSUB_PRIVATE_H
#define IRIS_PUBSUB_PRIVATE_H

#include "modules/pubsub/pubsub.h"
#include "xep/xep0115_caps.h"

#define NODE_NAME_MAX 1023
#define ITEM_ID_MAX 1023

extern struct iris_module_self pubsub_self;
extern const struct iris_module iris_module_pubsub;

enum pubsub_option {
	OPT_NODES_MAX,
	OPT_ITEMS_MAX,
	OPT_PAYLOAD_MAX,
	OPT_ENTITIES_MAX,
	OPT_RESULT_MAX,
	OPT_REMOTE_MAX,
	OPT_LAST_CACHE,
	OPT_ABSENT,
	OPT_HOST,
	OPT_LABEL,
	OPT_CREATE,
	OPT_KEEP,
	OPT_LOADED_MAX,
};

enum pubsub_metric {
	METRIC_PUBLISHED,
	METRIC_NOTIFIED,
	METRIC_REFUSED,
	METRIC_LAST_ITEMS,
	METRIC_REMOTE,
	METRIC_PLACES, METRIC_LOADS, METRIC_FAILURES, /* as iris/place.h wants them */
};
extern struct iris_metric pubsub_metrics[];
void pubsub_count(enum pubsub_metric metric, int64_t amount);

/* --- configuration of nodes (config.c) --- */

/* X(NAME): the fields whose values the engine looks at; the table in config.c has the rest. */
#define CONFIG_NUMBERS(X)                                                                \
	X(ACCESS_MODEL) X(PUBLISH_MODEL) X(PERSIST_ITEMS) X(MAX_ITEMS) X(ITEM_EXPIRE)    \
	X(SEND_LAST) X(DELIVER_PAYLOADS) X(DELIVER_NOTIFICATIONS) X(NOTIFY_CONFIG)       \
	X(NOTIFY_DELETE) X(NOTIFY_RETRACT) X(NOTIFY_SUB) X(PRESENCE_BASED)               \
	X(NOTIFICATION_TYPE) X(NODE_FULL)
#define CONFIG_TEXTS(X) X(TITLE) X(DESCRIPTION) X(TYPE) X(LANGUAGE) X(GROUPS)

enum config_number {
#define X(name) CONFIG_##name,
	CONFIG_NUMBERS(X)
#undef X
	CONFIG_NUMBER_COUNT
};

enum config_text {
#define X(name) CONFIG_##name,
	CONFIG_TEXTS(X)
#undef X
	CONFIG_TEXT_COUNT
};

enum { ACCESS_OPEN, ACCESS_PRESENCE, ACCESS_ROSTER, ACCESS_AUTHORIZE, ACCESS_WHITELIST };
enum { PUBLISH_PUBLISHERS, PUBLISH_SUBSCRIBERS, PUBLISH_OPEN };
enum { SEND_NEVER, SEND_ON_SUB, SEND_ON_SUB_AND_PRESENCE };
enum { NOTIFY_NORMAL, NOTIFY_HEADLINE };
enum { FULL_DISCARD, FULL_REJECT };

/* Of a host's node: does everybody know of it? */
static inline bool
access_is_listed(int32_t model)
{
	return model == ACCESS_OPEN || model == ACCESS_AUTHORIZE;
}

#define CONFIG_MAX 0 /* the value "max" of max_items and item_expire */

struct pubsub_config {
	int32_t numbers[CONFIG_NUMBER_COUNT];
	char *texts[CONFIG_TEXT_COUNT]; /* NULL: none; GROUPS: one a line */
};

/* What is wrong with a form, or differs: for the error's text. */
struct config_problem {
	enum iris_condition condition;
	const char *app;      /* application condition, or NULL */
	struct iris_str text; /* in the form's arena */
};

/* Defaults of an account's nodes, or of a host's; then these lines, trusted. config is new. */
void node_config_init(struct pubsub_config *config, bool of_account, struct iris_str lines);
void node_config_free(struct pubsub_config *config);
void node_config_copy(struct pubsub_config *copy_r, const struct pubsub_config *config);
struct iris_str node_config_write(struct iris_arena *arena, const struct pubsub_config *config);
/* A submitted form over what is there (§8.2.4); fields that are not there stay. */
bool node_config_submit(struct pubsub_config *config, bool of_account,
			const struct iris_element *form, struct config_problem *problem_r);
/* Preconditions (§7.1.5): are they what the node is? */
bool node_config_meets(const struct pubsub_config *config, const struct iris_element *form,
		  struct config_problem *problem_r);
/* As a form to fill in (§8.2.2). */
void node_config_add_form(struct iris_element *parent, const struct pubsub_config *config,
		     bool of_account);
/* The same to be read (§8.2.5.3). */
void node_config_add_result(struct iris_element *parent, const struct pubsub_config *config);
/* What anybody who may read the node may know of it (§5.4). */
void node_config_add_metadata(struct iris_element *form, const struct pubsub_config *config);
int32_t node_config_items_max(const struct pubsub_config *config); /* never 0 */

/* --- services and nodes in memory (node.c) --- */

enum pubsub_affiliation { /* the order is that of what they may */
	AFFILIATION_NONE,
	AFFILIATION_OUTCAST,
	AFFILIATION_MEMBER,
	AFFILIATION_PUBLISH_ONLY,
	AFFILIATION_PUBLISHER,
	AFFILIATION_OWNER,
	AFFILIATION_COUNT
};

enum pubsub_subscription { SUBSCRIPTION_NONE, SUBSCRIPTION_PENDING, SUBSCRIPTION_SUBSCRIBED };

#define SUBSCRIPTION_MUTED 1 /* pubsub#deliver is false */

struct pubsub_affiliate { /* somebody with an affiliation, by bare JID */
	struct iris_hash_node node;
	enum pubsub_affiliation affiliation;
	char jid[];
};

struct pubsub_subscriber { /* by the JID that is subscribed */
	struct iris_hash_node node;
	enum pubsub_subscription state;
	unsigned options;
	struct iris_jid jid;
	char text[];
};

struct pubsub_node {
	struct iris_hash_node by_name;
	struct pubsub_service *service;
	unsigned refs;       /* node_ref(); the service has one */
	bool gone;           /* deleted: whoever waited meanwhile looks here */
	bool going;          /* its deletion is under way: nothing is written any more */
	bool unread_affiliations, unread_subscriptions; /* while it is loaded */
	int64_t id, created_ms;
	int64_t last_item;   /* id of the row; 0: none */
	struct pubsub_config config;
	struct iris_hash affiliates, subscribers;
	/* The notification of the last item, kept while there is room (last.c). */
	struct iris_stanza *last;
	TAILQ_ENTRY(pubsub_node) last_link;
	char name[];
};

/* An account with all of its nodes, or a host with one of its, if that exists (host.c). */
struct pubsub_service {
	struct iris_user *user;    /* whose account it is; NULL: a host */
	struct iris_jid jid;       /* its address */
	iris_owner owner;          /* of the account; of a host's node, once there is one */
	int64_t account, key;      /* 0 for a host; the keyed hash of the address */
	struct iris_hash nodes;
	struct iris_hash remotes;  /* contacts on other servers by bare JID (remote.c) */
	size_t remote_count;       /* their resources */
};

static inline struct iris_str
node_name(const struct pubsub_node *node)
{
	return node->by_name.key;
}

struct pubsub_service *service_of(const struct iris_user *user); /* of a loaded user */
/* The node of this name that is in memory with the service, or NULL. */
struct pubsub_node *service_node(const struct pubsub_service *service, struct iris_str name);
/*
 * The nodes of the service among these rows of store_node_load; then what else there is of them
 * (fiber; may wait). False: the vault failed.
 */
void service_take(struct pubsub_service *service, const struct iris_rows *rows);
bool service_complete(struct pubsub_service *service);
void service_free(struct pubsub_service *service);

struct pubsub_node *node_ref(struct pubsub_node *node);
void node_unref(struct pubsub_node **node_p);
/* A new node, in memory; node_store_new() puts it into a batch. The config is copied. */
struct pubsub_node *node_new(struct pubsub_service *service, struct iris_str name,
			     const struct pubsub_config *config);
void node_add_to_batch(const struct pubsub_node *node, struct iris_batch *batch);
/* In memory, and into the batch that makes the node. */
void node_add_owner(struct pubsub_node *node, const struct iris_jid *bare,
		    struct iris_batch *batch);
/* Takes it out of memory, and its rows out of the store (fiber; waits). */
bool node_delete(struct pubsub_node *node);
void node_forget(struct pubsub_node *node); /* out of memory only */
/* Stores what it has become (fiber; waits), then it is so. config: taken over when true. */
bool node_configure(struct pubsub_node *node, struct pubsub_config *config);

enum pubsub_affiliation node_affiliation(const struct pubsub_node *node, struct iris_str bare);
/* Is it an owner, and there is no other? */
bool node_is_last_owner(const struct pubsub_node *node, struct iris_str bare);
struct pubsub_subscriber *node_subscriber(const struct pubsub_node *node, struct iris_str jid);
/* Set in memory and posted; NONE removes. */
bool node_set_affiliation(struct pubsub_node *node, const struct iris_jid *bare,
			  enum pubsub_affiliation affiliation, struct iris_ticket *ticket);
bool node_set_subscription(struct pubsub_node *node, const struct iris_jid *jid,
			   enum pubsub_subscription state, unsigned options,
			   struct iris_ticket *ticket);

/* --- statements (store.c) --- */

extern struct iris_query store_node_load, store_node_insert, store_node_configure,
	store_node_delete, store_node_any, store_affiliations, store_affiliation_set,
	store_affiliation_delete, store_subscriptions, store_subscription_set,
	store_subscription_delete, store_item_insert, store_item_delete, store_item_trim,
	store_item_expire, store_items_after, store_items_before, store_item_by_key,
	store_item_by_id, store_item_last, store_item_count;
/* Of hosts: one node; pages of nodes that concern an address, by [backwards] (host_list.c). */
extern struct iris_query store_host_find, store_host_node, store_host_head,
	store_host_subscriptions, store_host_owned, store_host_visible[2],
	store_host_affiliated[2], store_host_subscribed[2];
extern struct iris_query *const store_queries[];
/* Deletes the items of a node, or all that is its own, into a batch. */
void store_clear_node(struct iris_batch *batch, int64_t node, bool items_only);
bool store_erase_account(const struct iris_account *account);

/* Waiting for what is posted between the two (with the ticket). False: it was not all kept. */
struct settling {
	struct iris_wait wait;
	struct iris_ticket *ticket;
	bool failed;
};
struct iris_ticket *settling_begin(struct settling *settling);
bool settling_end(struct settling *settling);

/* --- who may what (access.c) --- */

/* X(NAME, condition, error type or NULL for the default, application condition or NULL) */
#define PUBSUB_ERRORS(X)                                                                       \
	X(NONE, NO_ERROR, NULL, NULL)                                                          \
	X(BAD_REQUEST, BAD_REQUEST, NULL, NULL)                                                \
	X(JID_MALFORMED, JID_MALFORMED, NULL, NULL)                                            \
	X(NOT_FOUND, ITEM_NOT_FOUND, NULL, NULL)                                               \
	X(FORBIDDEN, FORBIDDEN, NULL, NULL)                                                    \
	X(CONFLICT, CONFLICT, NULL, NULL)                                                      \
	X(NODEID_REQUIRED, BAD_REQUEST, NULL, "nodeid-required")                               \
	X(INSTANT_NODE, NOT_ACCEPTABLE, NULL, "nodeid-required")                               \
	X(PRESENCE_REQUIRED, NOT_AUTHORIZED, NULL, "presence-subscription-required")           \
	X(NOT_IN_GROUP, NOT_AUTHORIZED, NULL, "not-in-roster-group")                           \
	X(CLOSED_NODE, NOT_ALLOWED, NULL, "closed-node")                                       \
	X(NOT_SUBSCRIBED_AUTH, NOT_AUTHORIZED, NULL, "not-subscribed")                         \
	X(PENDING, NOT_AUTHORIZED, NULL, "pending-subscription")                               \
	X(ITEM_REQUIRED, BAD_REQUEST, NULL, "item-required")                                   \
	X(PAYLOAD_REQUIRED, BAD_REQUEST, NULL, "payload-required")                             \
	X(ITEM_FORBIDDEN, BAD_REQUEST, NULL, "item-forbidden")                                 \
	X(INVALID_PAYLOAD, BAD_REQUEST, NULL, "invalid-payload")                               \
	X(PAYLOAD_TOO_BIG, NOT_ACCEPTABLE, NULL, "payload-too-big")                            \
	X(NODE_FULL, CONFLICT, NULL, "node-full")                                              \
	X(INVALID_JID, BAD_REQUEST, NULL, "invalid-jid")                                       \
	X(JID_REQUIRED, BAD_REQUEST, NULL, "jid-required")                                     \
	X(INVALID_OPTIONS, BAD_REQUEST, NULL, "invalid-options")                               \
	X(INVALID_SUBID, NOT_ACCEPTABLE, NULL, "invalid-subid")                                \
	X(NOT_SUBSCRIBED, UNEXPECTED_REQUEST, "cancel", "not-subscribed")                      \
	X(OPTIONS_NOT_SUBSCRIBED, UNEXPECTED_REQUEST, "modify", "not-subscribed")              \
	X(TOO_MANY_SUBSCRIPTIONS, POLICY_VIOLATION, "wait", "too-many-subscriptions")          \
	X(TOO_MANY_NODES, CONFLICT, NULL, "max-nodes-exceeded")                                \
	X(PRECONDITION, CONFLICT, NULL, "precondition-not-met")                                \
	X(IN_TRANSIT, POLICY_VIOLATION, NULL, NULL)                                            \
	X(NOT_ACCEPTABLE, NOT_ACCEPTABLE, NULL, NULL)                                          \
	X(REFUSED, UNDEFINED_CONDITION, NULL, NULL) /* the refusal is filled in */             \
	X(STORE, RESOURCE_CONSTRAINT, NULL, NULL)                                              \
	X(INTERNAL, INTERNAL_SERVER_ERROR, NULL, NULL)                                         \
	X(UNAVAILABLE, SERVICE_UNAVAILABLE, NULL, NULL)

enum pubsub_error {
#define X(name, condition, type, app) PUBSUB_##name,
	PUBSUB_ERRORS(X)
#undef X
};

/* May this address (its bare form counts) read the node, or what keeps it from it? */
enum pubsub_error access_read(const struct pubsub_node *node, const struct iris_jid *jid);
enum pubsub_error access_read_contact(const struct pubsub_node *node,
				      const struct iris_contact *contact);
bool access_publish(const struct pubsub_node *node, const struct iris_jid *jid);
/*
 * May it know that the node is there? Of an account's, who may read; of a host's also who may ask
 * to, or has any affiliation but that of an outcast.
 */
bool access_see(const struct pubsub_node *node, const struct iris_jid *jid);
/* Does it see the presence of the account (or is it the account itself)? Never of a host's. */
bool access_is_near(const struct pubsub_service *service, const struct iris_jid *jid);
bool access_is_owner(const struct pubsub_service *service, const struct pubsub_node *node,
		     const struct iris_jid *jid);

/* --- requests (request.c, request_items.c, request_owner.c, request_subscribe.c) --- */

/* A request, while it is answered; on the handler's stack. */
struct pubsub_call {
	struct iris_request *request;
	struct iris_arena *arena;
	struct pubsub_service *service;
	struct iris_element *payload; /* <pubsub/>, in the arena */
	struct iris_element *command; /* its child: <publish/> … */
	struct iris_str name;         /* of the node; none: it names none */
	struct iris_str made;         /* the name that an instant node would get; none: make one */
	iris_owner owner;             /* of the node that is made */
	struct iris_ticket *ticket;   /* of what is posted: the answer waits for it */
	struct pubsub_node *node;     /* held; NULL: it does not exist */
	struct iris_jid from, bare;   /* who asks */
};

enum { CALL_NAME = 1, CALL_NODE = 2, CALL_OWNER = 4, CALL_NEAR = 8, CALL_KEEPS = 16 };

struct pubsub_command {
	const char *name; /* NULL ends the list */
	const char *ns;
	enum iris_stanza_type type;
	/*
	 * NAME: the node's name; NODE: that it exists; OWNER: its owner asks; NEAR: no stranger;
	 * KEEPS: that something of it may be kept
	 */
	unsigned needs;
	enum pubsub_error (*run)(struct pubsub_call *call);
};

extern const struct pubsub_command items_commands[], owner_commands[], subscribe_commands[];

/* A child of the reply's <pubsub/> (made when there is none), named like the command. */
struct iris_element *call_reply(struct pubsub_call *call);
/* Refuses with a text for people. */
enum pubsub_error call_refuse(struct pubsub_call *call, enum pubsub_error error,
			      struct iris_str text);
/* A feature that is not there (§5.6 and others). */
enum pubsub_error call_unsupported(struct pubsub_call *call, const char *feature);
enum pubsub_error call_problem(struct pubsub_call *call, const struct config_problem *problem);
/* made: see struct pubsub_call. */
enum iris_verdict request_answer(struct iris_request *request, struct pubsub_service *service,
				 struct iris_str made);
/* The configuration of a node that is not there yet: its preset, then what is asked for. */
enum pubsub_error call_new_config(struct pubsub_call *call, const struct iris_element *form,
				  struct pubsub_config *config_r);
/* Changes a subscription, and tells whom it concerns. */
enum pubsub_error subscription_change(struct pubsub_node *node, const struct iris_jid *by,
				      const struct iris_jid *jid,
				      enum pubsub_subscription state, unsigned options,
				      struct iris_ticket *ticket);
/* §8.6: the form that an owner's answer carries; NULL: it is no such message. */
struct iris_element *subscription_answer_form(const struct iris_stanza *message);
/* Does what it says, if it is an owner's to say. */
void subscription_answered(struct pubsub_service *service, const struct iris_jid *by,
			   const struct iris_element *form, struct iris_arena *arena);
/* <subscription/>; node: named in it, or NULL. */
void subscription_add(struct iris_element *reply, const struct pubsub_subscriber *subscriber,
		      const struct pubsub_node *node);
void subscription_add_as(struct iris_element *reply, struct iris_str node, struct iris_str jid,
			 enum pubsub_subscription state);
void affiliation_add(struct iris_element *reply, struct iris_str node, struct iris_str jid,
		     enum pubsub_affiliation affiliation);
/* Deletes the node and tells; redirect: where its subscribers find it now, or none. */
enum pubsub_error node_end(struct pubsub_node *node, struct iris_str redirect);
/* Makes the node in memory; its row joins the batch. */
enum pubsub_error call_new_node(struct pubsub_call *call, const struct pubsub_config *config,
				struct iris_batch *batch);

/* --- discovery (disco.c) --- */

/* Of a node of this service, when the asker may know of it. */
enum iris_verdict disco_node(struct iris_discovery *discovery,
			     const struct pubsub_service *service, bool items);

/* --- services of hosts (host.c, host_list.c) --- */

bool host_start(struct iris_error *error);
void host_reload(void);
void host_stop(void);
/* May who asks make a node? Its company is to own it. Fiber; waits. */
enum pubsub_error host_check_creator(struct pubsub_call *call);
enum iris_verdict host_disco_info(struct iris_discovery *discovery);
enum iris_verdict host_disco_items(struct iris_discovery *discovery);
enum iris_verdict host_account_removed(struct iris_account_removed *removed);
/* §5.2: the nodes of the service that the asker may know of. */
enum iris_verdict host_list_nodes(struct iris_discovery *discovery);
/* §5.6, §5.7: what the asker has at any of them. */
enum pubsub_error host_list_subscriptions(struct pubsub_call *call);
enum pubsub_error host_list_affiliations(struct pubsub_call *call);
/*
 * Calls fn (may wait) for the name of each node of the service (its key) at which the bare JID has
 * an affiliation or a subscription. False: the vault failed, or fn.
 */
bool host_list_each(int64_t service, struct iris_str bare,
		    bool (*fn)(struct iris_str name, void *arg), void *arg);

/* --- items (item.c) --- */

struct item_publication {
	struct pubsub_node *node;
	struct iris_str id;           /* none: made */
	struct iris_jid publisher;    /* none: not told */
	const struct iris_element *payload; /* NULL: none */
	bool no_item;                 /* there is not even an <item/>: a mere event */
	struct iris_batch *batch;     /* with the node's own row, or NULL; taken over */
	struct iris_session *session; /* whose client need not wait for the commit, or NULL */
	struct iris_arena *arena;
	struct iris_str id_r;
};

enum pubsub_error item_check_size(const struct iris_element *payload, struct iris_arena *arena);
/* Stores (fiber; waits for the commit) and notifies. */
enum pubsub_error item_publish(struct item_publication *publication);
enum pubsub_error item_retract(struct pubsub_node *node, struct iris_str id, bool notify);
enum pubsub_error item_purge(struct pubsub_node *node);

struct item_page {
	struct iris_element **items; /* <item/>s in NS_PUBSUB, oldest first */
	size_t count;
	bool more; /* in the direction of reading */
};

struct item_range {
	struct pubsub_node *node;
	int64_t after, before; /* row ids, exclusive; before 0: no end */
	size_t max;
	bool backwards;        /* the last `max` of them */
};

/* False: the vault failed. Bounded by result-max, too. */
bool item_read_range(struct iris_arena *arena, const struct item_range *range,
		     struct item_page *page_r);
/*
 * One item and the id of its row; *item_r NULL, *row_r 0: there is none. False: the vault failed.
 */
bool item_read(struct iris_arena *arena, struct pubsub_node *node, struct iris_str id,
	       struct iris_element **item_r, int64_t *row_r);
/* The item of a row, and when it was published. */
struct iris_element *item_read_row(struct iris_arena *arena, struct pubsub_node *node, int64_t row,
				   int64_t *published_ms_r);
/* Adds a copy for an event, without the payload where the node says so. */
void item_add_to_event(const struct pubsub_node *node, struct iris_element *items,
		       const struct iris_element *item);

/* --- notifications (notify.c) --- */

/* An event of the node, to be filled in: *event_r is <event/>. */
struct iris_stanza *notify_event(const struct pubsub_node *node, struct iris_element **event_r);
/* <items node='…'/> below it. */
struct iris_element *notify_items(const struct pubsub_node *node, struct iris_element *event);
/* To all who are to know; takes the reference. */
void notify_all(const struct pubsub_node *node, struct iris_stanza **stanza_p);
/* To one address, whatever it announces; takes the reference. */
void notify_one(const struct pubsub_node *node, const struct iris_jid *to,
		struct iris_stanza **stanza_p);

/* --- last items (last.c) --- */

/* What to say to a new reader: the notification of the last item, or NULL. Fiber; may wait. */
struct iris_stanza *last_notification(struct pubsub_node *node);
void last_remember(struct pubsub_node *node, struct iris_stanza *stanza);
void last_forget(struct pubsub_node *node);
/* Hooks of sessions: presence, capabilities, the end. */
enum iris_verdict last_session_presence(struct iris_session *session);
enum iris_verdict last_session_caps(struct iris_session *session);
enum iris_verdict last_session_close(struct iris_session *session);
/* The account sees this contact from now on: its nodes are asked for their last items. */
void last_contact_seen(struct iris_user *user, const struct iris_jid *contact);
/* Of all nodes of the account that this client, known now, wants. */
void last_send_to(const struct pubsub_service *service, const struct iris_jid *full,
		  const struct caps_watch *watch);

/* --- contacts on other servers (remote.c) --- */

/* Presence of somebody who is not of ours. */
void remote_presence(struct pubsub_service *service, const struct iris_stanza *presence);
/* Calls fn for each of its resources that announces the feature. */
void remote_each(const struct pubsub_service *service, struct iris_str bare,
		 struct iris_str feature, void (*fn)(const struct iris_jid *full, void *arg),
		 void *arg);
void remote_free(struct pubsub_service *service);

/* --- presets (preset.c) --- */

/* How a node of this name is made; NULL: as any. */
const char *preset_config(struct iris_str node);
/* Does preset_tell() tell anybody? */
bool preset_is_told(const struct pubsub_call *call);
/* Something was published (payload), or taken back; item none: all of it. Fiber; may wait. */
void preset_tell(const struct pubsub_call *call, struct iris_str item,
		 const struct iris_element *payload);

#endif
