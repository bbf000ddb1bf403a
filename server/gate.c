/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate: what a stanza is (P2.4), as one table of names, and the judgement by the region map.
 * "The gate" in server/README.md.  It reads no configuration: regions.c hands it the map.
 *
 * Answers pass as what they answer: the gate remembers the requests that passed, for a while, under
 * a lock: with several domains on a stream, both directions need not come by the same worker.
 */
#include <pthread.h>
#include <stdlib.h>

#include "gate_private.h"
#include "iris/service.h"
#include "worker_private.h"

#define PENDING_MAX 65536 /* requests that wait for their answer */
#define PENDING_MS 300000

#define BIT(category) (1u << IRIS_GATE_##category)

enum {
	OF_MESSAGE = 1u << IRIS_MESSAGE,
	OF_PRESENCE = 1u << IRIS_PRESENCE,
	OF_IQ = 1u << IRIS_IQ,
};

/*
 * What a payload makes of its stanza, beside what it is anyway. NULL name: any element of the
 * namespace. In no order: no two match the same element of the same kind.
 */
static const struct gate_rule {
	unsigned kinds;
	const char *name, *ns;
	unsigned categories;
} gate_rules[] = {
	/* calls: XEP-0166, 0353, 0215, 0482, 0272 */
	{ OF_IQ, "jingle", "urn:xmpp:jingle:1", BIT(CONFERENCE) },
	{ OF_IQ, NULL, "urn:xmpp:extdisco:2", BIT(CONFERENCE) },
	{ OF_MESSAGE, NULL, "urn:xmpp:jingle-message:0", BIT(CONFERENCE) },
	{ OF_MESSAGE, NULL, "urn:xmpp:call-invites:0", BIT(CONFERENCE) },
	{ OF_PRESENCE, NULL, "urn:xmpp:jingle:muji:0", BIT(CONFERENCE) },
	/* profiles: XEP-0054, 0292, 0060 and all that is published with it, 0012, 0231 */
	{ OF_IQ, NULL, "vcard-temp", BIT(PROFILE) },
	{ OF_IQ, NULL, "urn:ietf:params:xml:ns:vcard-4.0", BIT(PROFILE) },
	{ OF_IQ, NULL, "http://jabber.org/protocol/pubsub", BIT(PROFILE) },
	{ OF_IQ, NULL, "jabber:iq:last", BIT(PROFILE) },
	{ OF_IQ, NULL, "urn:xmpp:bob", BIT(PROFILE) },
	{ OF_MESSAGE, NULL, "http://jabber.org/protocol/pubsub#event", BIT(PROFILE) },
	/* the directory: XEP-0055, 0433 */
	{ OF_IQ, NULL, "jabber:iq:search", BIT(DIRECTORY) },
	{ OF_IQ, NULL, "urn:xmpp:channel-search:0:search", BIT(DIRECTORY) },
	{ OF_IQ, NULL, "urn:xmpp:channel-search:0:search-params", BIT(DIRECTORY) },
	/* links to files: XEP-0066, 0447, 0385, 0363 */
	{ OF_MESSAGE, NULL, "jabber:x:oob", BIT(FILE_LINK) },
	{ OF_MESSAGE, NULL, "urn:xmpp:sfs:0", BIT(FILE_LINK) },
	{ OF_MESSAGE, NULL, "urn:xmpp:reference:0", BIT(FILE_LINK) },
	{ OF_IQ, NULL, "jabber:iq:oob", BIT(FILE_LINK) },
	{ OF_IQ, NULL, "urn:xmpp:http:upload:0", BIT(FILE_LINK) },
	/* bubbles: XEP-0045, 0249, 0425 */
	{ OF_MESSAGE, NULL, "jabber:x:conference", BIT(BUBBLE) },
	{ OF_MESSAGE, NULL, "http://jabber.org/protocol/muc#user", BIT(BUBBLE) },
	{ OF_PRESENCE, NULL, "http://jabber.org/protocol/muc", BIT(BUBBLE) },
	{ OF_PRESENCE, NULL, "http://jabber.org/protocol/muc#user", BIT(BUBBLE) },
	{ OF_IQ, NULL, "http://jabber.org/protocol/muc#admin", BIT(BUBBLE) },
	{ OF_IQ, NULL, "http://jabber.org/protocol/muc#owner", BIT(BUBBLE) },
	/* servers: XEP-0030, 0199, 0202 */
	{ OF_IQ, NULL, "http://jabber.org/protocol/disco#info", BIT(SERVICE) },
	{ OF_IQ, NULL, "http://jabber.org/protocol/disco#items", BIT(SERVICE) },
	{ OF_IQ, NULL, "urn:xmpp:ping", BIT(SERVICE) },
	{ OF_IQ, NULL, "urn:xmpp:time", BIT(SERVICE) },
	/* e-mail addresses, by a keyed hash: modules/unique */
	{ OF_IQ, NULL, "urn:iris:unique:0", BIT(SERVICE) },
};

/* Of an iq to or from a room nothing but these passes; all of them are the bubble's. */
static const char *const room_requests[] = {
	"http://jabber.org/protocol/disco#info",
	"http://jabber.org/protocol/disco#items",
	"http://jabber.org/protocol/muc#admin",
	"http://jabber.org/protocol/muc#owner",
	"jabber:iq:register",
	"urn:xmpp:mam:2",
	"urn:xmpp:message-moderate:1",
	"urn:xmpp:ping",
	"vcard-temp",
};

struct gate_pending { /* a request that passed, by "from to id" */
	struct iris_hash_node node;
	TAILQ_ENTRY(gate_pending) link;
	unsigned categories;
	int64_t until_ms; /* monotonic */
	char key[];
};

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER; /* of these two */
static struct iris_hash gate_pending;
static TAILQ_HEAD(gate_queue, gate_pending) gate_queue =
	TAILQ_HEAD_INITIALIZER(gate_queue); /* the oldest first */

struct gate_rule_entry {
	struct iris_hash_node node; /* by namespace: the first of each is in the table */
	struct gate_rule_entry *same;
	const struct gate_rule *rule;
};

static struct iris_hash gate_table;                 /* made in gate_open(), then constant */
static struct gate_rule_entry gate_entries[IRIS_COUNT(gate_rules)];
static struct region_map *_Atomic gate_map;
static unsigned _Atomic gate_own;                   /* our region in it */
static atomic_bool gate_expected;                   /* there is to be one: closed until then */
static void (*gate_listener)(void);                 /* main thread */

const char *
gate_category_name(enum iris_gate_category category)
{
	static const char *const names[] = {
#define X(name, text, help) text,
		IRIS_GATE_CATEGORIES(X)
#undef X
	};

	return names[category];
}

const char *
gate_verdict_name(enum iris_gate_verdict verdict)
{
	static const char *const names[] = { "deny", "transit", "deliver" };

	return names[verdict];
}

/* --- what it is --- */

static unsigned
payload_categories(enum iris_stanza_kind kind, const struct iris_element *child)
{
	struct iris_hash_node *node = hash_find(&gate_table, child->ns);
	const struct gate_rule_entry *entry =
		node ? IRIS_CONTAINER(node, struct gate_rule_entry, node) : NULL;

	for (; entry; entry = entry->same)
		if ((entry->rule->kinds & (1u << kind)) &&
		    element_is(child, entry->rule->name, entry->rule->ns))
			return entry->rule->categories;
	return 0;
}

static unsigned
classify_request(const struct iris_stanza *iq, bool of_room)
{
	const struct iris_element *child = element_child(iq->root, NULL, NULL);
	unsigned found;

	if (!child)
		return BIT(UNKNOWN);
	if (of_room) {
		for (size_t i = 0; i < IRIS_COUNT(room_requests); i++)
			if (str_is(child->ns, room_requests[i]))
				return BIT(BUBBLE);
		found = payload_categories(IRIS_IQ, child) & BIT(CONFERENCE);
		return found ? found | BIT(BUBBLE) : BIT(UNKNOWN);
	}
	found = payload_categories(IRIS_IQ, child);
	return found ? found : BIT(UNKNOWN);
}

/*
 * What is beside the body makes it more, never less. An event of publish-subscribe alone is no
 * message of anybody.
 */
static unsigned
classify_message(const struct iris_stanza *message, bool of_room)
{
	unsigned found = 0;
	bool has_body = element_child(message->root, "body", NULL) != NULL;

	ELEMENT_FOREACH(child, message->root)
		found |= payload_categories(IRIS_MESSAGE, child);
	if (message->type == IRIS_GROUPCHAT || of_room)
		found |= BIT(BUBBLE);
	if (!(found & BIT(BUBBLE)) && (has_body || !(found & (BIT(PROFILE) | BIT(CONFERENCE)))))
		found |= BIT(MESSAGE);
	return found;
}

static unsigned
classify_presence(const struct iris_stanza *presence, bool of_room)
{
	unsigned found = 0;

	ELEMENT_FOREACH(child, presence->root)
		found |= payload_categories(IRIS_PRESENCE, child);
	if (of_room)
		found |= BIT(BUBBLE);
	return found & BIT(BUBBLE) ? found : found | BIT(PRESENCE);
}

unsigned
gate_classify(const struct iris_stanza *stanza, bool near_room, bool far_room)
{
	bool of_room = near_room || far_room;

	switch (stanza->kind) {
	case IRIS_MESSAGE:
		return classify_message(stanza, of_room);
	case IRIS_PRESENCE:
		return stanza->type == IRIS_TYPE_UNKNOWN ? BIT(UNKNOWN) :
							   classify_presence(stanza, of_room);
	case IRIS_IQ:
		return stanza->type == IRIS_GET || stanza->type == IRIS_SET ?
			       classify_request(stanza, of_room) :
			       BIT(UNKNOWN);
	}
	return BIT(UNKNOWN);
}

/* --- answers --- */

static void
pending_drop(struct gate_pending *pending) /* with the lock */
{
	TAILQ_REMOVE(&gate_queue, pending, link);
	hash_remove(&gate_pending, &pending->node);
	free(pending);
}

/* Who asked, who answers, and the id, which any of them may choose: none of the three is enough. */
static struct iris_str
pending_key(struct iris_arena *arena, const struct iris_jid *asker, const struct iris_jid *asked,
	    struct iris_str id)
{
	return arena_printf(arena, "%.*s\n%.*s\n%.*s", IRIS_STR_FMT(jid_full(asker)),
			    IRIS_STR_FMT(jid_full(asked)), IRIS_STR_FMT(id));
}

/* SECURITY: bounded, the oldest goes first: who asks without end loses answers, not our memory. */
static void
pending_add(const struct iris_stanza *request, unsigned categories)
{
	struct iris_arena *arena = arena_new();
	struct iris_str key = pending_key(arena, &request->from, &request->to, request->id);
	struct gate_pending *pending = iris_calloc(1, sizeof(*pending) + key.len), *oldest;
	struct iris_hash_node *node;

	memcpy(pending->key, key.base, key.len);
	pending->categories = categories;
	pending->until_ms = worker_now_ms() + PENDING_MS;
	pthread_mutex_lock(&gate_lock);
	node = hash_find(&gate_pending, key);
	if (node)
		pending_drop(IRIS_CONTAINER(node, struct gate_pending, node));
	while ((oldest = TAILQ_FIRST(&gate_queue)) != NULL &&
	       (gate_pending.count >= PENDING_MAX || oldest->until_ms <= worker_now_ms()))
		pending_drop(oldest);
	TAILQ_INSERT_TAIL(&gate_queue, pending, link);
	hash_insert(&gate_pending, &pending->node, (struct iris_str){ pending->key, key.len });
	pthread_mutex_unlock(&gate_lock);
	arena_unref(&arena);
}

/* SECURITY: an answer that nobody asked for is UNKNOWN: it would carry anything across. */
static unsigned
pending_take(const struct iris_stanza *answer)
{
	struct iris_arena *arena = arena_new();
	struct iris_str key = pending_key(arena, &answer->to, &answer->from, answer->id);
	unsigned categories = BIT(UNKNOWN);
	struct iris_hash_node *node;

	pthread_mutex_lock(&gate_lock);
	node = hash_find(&gate_pending, key);
	if (node) {
		struct gate_pending *pending = IRIS_CONTAINER(node, struct gate_pending, node);

		categories = pending->categories;
		pending_drop(pending);
	}
	pthread_mutex_unlock(&gate_lock);
	arena_unref(&arena);
	return categories;
}

/* --- the judgement --- */

static enum iris_gate_verdict
map_judge(const struct region_map *map, unsigned from, unsigned to, unsigned categories)
{
	enum iris_gate_verdict verdict = IRIS_GATE_DELIVER;

	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (categories & (1u << i)) {
			enum iris_gate_verdict one = region_map_verdict(map, from, to, i);

			verdict = one < verdict ? one : verdict;
		}
	return verdict;
}

static void
map_count(struct region_map *map, unsigned from, unsigned to, unsigned categories,
	  enum iris_gate_verdict verdict)
{
	size_t pair = (size_t)from * (map->count + 1) + to;

	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (categories & (1u << i)) {
			size_t cell = (pair * IRIS_GATE_CATEGORY_COUNT + i) *
					      IRIS_GATE_VERDICT_COUNT +
				      verdict;

			atomic_fetch_add_explicit(&map->counts[cell], 1, memory_order_relaxed);
		}
}

static bool
is_answer(const struct iris_stanza *stanza)
{
	return stanza->kind == IRIS_IQ &&
	       (stanza->type == IRIS_RESULT || stanza->type == IRIS_ERROR);
}

/* The region the other side is in; `proven` by its certificate, or none. False: it lies. */
static bool
far_region(const struct region_map *map, struct iris_str domain, struct iris_str proven,
	   unsigned *region_r, bool *is_rooms_r)
{
	*region_r = region_map_find(map, domain, is_rooms_r);
	if (*region_r == map->count)
		return str_is_none(proven) || region_map_index(map, proven) == map->count;
	return str_is(proven, map->regions[*region_r].id);
}

struct iris_gate_opinion
gate_judge(enum iris_gate_direction direction, const struct iris_stanza *stanza,
	   const struct iris_jid *to_jid, struct iris_str peer_region)
{
	struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	bool leaving = direction == IRIS_GATE_LEAVING, near_room = false, far_room = false, honest;
	const struct iris_jid *far_jid = leaving ? to_jid : &stanza->from;
	const struct iris_jid *near_jid = leaving ? &stanza->from : to_jid;
	struct iris_gate_opinion opinion = { .categories = BIT(UNKNOWN) };
	unsigned own = atomic_load(&gate_own), far, from, to;

	if (!map) {
		opinion.from = opinion.to = REGION_EXTERNAL;
		return opinion;
	}
	region_map_find(map, jid_domain(near_jid), &near_room);
	honest = far_region(map, jid_domain(far_jid), peer_region, &far, &far_room);
	from = leaving ? own : far;
	to = leaving ? far : own;
	opinion.categories = is_answer(stanza) ? pending_take(stanza) :
						 gate_classify(stanza, near_room, far_room);
	/* SECURITY: a certificate of another region speaks for no domain of this one. */
	opinion.verdict = honest ? map_judge(map, from, to, opinion.categories) : IRIS_GATE_DENY;
	opinion.from = region_map_id(map, from);
	opinion.to = region_map_id(map, to);
	opinion.external = far == map->count;
	map_count(map, from, to, opinion.categories, opinion.verdict);
	if (stanza->kind == IRIS_IQ && !is_answer(stanza) && opinion.verdict != IRIS_GATE_DENY)
		pending_add(stanza, opinion.categories);
	return opinion;
}

struct iris_gate_opinion
gate_explain(const struct iris_stanza *stanza)
{
	struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	bool from_room = false, to_room = false;
	struct iris_gate_opinion opinion = { .from = REGION_EXTERNAL, .to = REGION_EXTERNAL };
	unsigned from, to;

	opinion.categories = gate_classify(stanza, false, false);
	if (!map)
		return opinion;
	from = region_map_find(map, jid_domain(&stanza->from), &from_room);
	to = region_map_find(map, jid_domain(&stanza->to), &to_room);
	opinion.categories = gate_classify(stanza, from_room, to_room);
	opinion.from = region_map_id(map, from);
	opinion.to = region_map_id(map, to);
	opinion.external = from == map->count || to == map->count;
	opinion.verdict = map_judge(map, from, to, opinion.categories);
	return opinion;
}

bool
gate_has_map(void)
{
	return atomic_load(&gate_expected);
}

void
gate_expect_map(void)
{
	atomic_store(&gate_expected, true);
}

void
gate_listen(void (*fn)(void))
{
	gate_listener = fn;
}

void
gate_changed(void)
{
	if (gate_listener)
		gate_listener();
}

struct region_map *
gate_current_map(void)
{
	return atomic_load(&gate_map);
}

unsigned
gate_own_region(void)
{
	return atomic_load(&gate_own);
}

void
gate_set_map(struct region_map *map, unsigned own)
{
	atomic_store(&gate_own, own);
	atomic_store_explicit(&gate_map, map, memory_order_release);
}

/* --- start and stop --- */

void
gate_open(void)
{
	for (size_t i = 0; i < IRIS_COUNT(gate_rules); i++) {
		struct iris_str ns = str_from(gate_rules[i].ns);
		struct iris_hash_node *node = hash_find(&gate_table, ns);
		struct gate_rule_entry *entry = &gate_entries[i];

		*entry = (struct gate_rule_entry){ .rule = &gate_rules[i] };
		if (node) {
			struct gate_rule_entry *first =
				IRIS_CONTAINER(node, struct gate_rule_entry, node);

			entry->same = first->same;
			first->same = entry;
		} else {
			hash_insert(&gate_table, &entry->node, ns);
		}
	}
}

void
gate_close(void)
{
	while (!TAILQ_EMPTY(&gate_queue))
		pending_drop(TAILQ_FIRST(&gate_queue));
	hash_free(&gate_pending);
	HASH_FOREACH(node, &gate_table)
		hash_remove(&gate_table, node);
	hash_free(&gate_table);
}
