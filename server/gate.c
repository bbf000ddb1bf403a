/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate: what a stanza is (P2.4), as one table of names, and the judgement by the region map.
 * "The gate" in server/README.md.  It reads no configuration: regions.c hands it the map.
 *
 * Answers pass as what they answer: the gate remembers the requests that passed, for a while, under
 * locks: with several domains on a stream, both directions need not come by the same worker.
 */
#include <pthread.h>
#include <stdlib.h>

#include "gate_private.h"
#include "iris/service.h"
#include "worker_private.h"

#define SHARDS 16u
#define PENDING_MAX 4096u /* requests that wait for their answer, in each shard */
#define PENDING_MS 300000
#define ID_MAX 1023u /* bytes: a request with a longer one gets no answer */
#define TELL_MS 10000 /* a line in the log about refusals in one category between two regions */

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

/* Of an iq to or from a room nothing but these, calls and searches passes; all are the bubble's. */
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

TAILQ_HEAD(gate_queue, gate_pending);

/* Those whose ids hash alike: so that workers seldom wait for each other. */
static struct gate_shard {
	_Alignas(64) pthread_mutex_t lock; /* of the two */
	struct iris_hash table;
	struct gate_queue queue; /* the oldest first */
} gate_shards[SHARDS];

struct gate_rule_entry {
	struct iris_hash_node node; /* by namespace: the first of each is in the table */
	struct gate_rule_entry *same;
	const struct gate_rule *rule;
};

static struct iris_hash gate_table;                 /* made in gate_open(), then constant */
static struct gate_rule_entry gate_entries[IRIS_COUNT(gate_rules)];
static struct region_map *_Atomic gate_map;
static atomic_uint gate_openly;                     /* categories: `refuse-openly` */
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

enum iris_gate_category
gate_category_find(struct iris_str name)
{
	unsigned i = 0;

	while (i < IRIS_GATE_CATEGORY_COUNT && !str_is(name, gate_category_name(i)))
		i++;
	return i;
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
		found = payload_categories(IRIS_IQ, child) & (BIT(CONFERENCE) | BIT(DIRECTORY));
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
pending_drop(struct gate_shard *shard, struct gate_pending *pending) /* with the lock */
{
	TAILQ_REMOVE(&shard->queue, pending, link);
	hash_remove(&shard->table, &pending->node);
	free(pending);
}

static struct gate_pending *
pending_find(struct gate_shard *shard, struct iris_str key)
{
	struct iris_hash_node *node = hash_find(&shard->table, key);

	return node ? IRIS_CONTAINER(node, struct gate_pending, node) : NULL;
}

static struct gate_shard *
shard_of(struct iris_str id)
{
	return &gate_shards[hash_bytes(id.base, id.len) % SHARDS];
}

static char *
key_put(char *at, struct iris_str text)
{
	if (text.len > 0)
		memcpy(at, text.base, text.len);
	at[text.len] = '\n';
	return at + text.len + 1;
}

/*
 * Who asked, who answers, and the id, which any of them may choose: none of the three is enough.
 * Good until this thread asks for another.
 */
static struct iris_str
pending_key(const struct iris_jid *asker, const struct iris_jid *asked, struct iris_str id)
{
	static _Thread_local char key[2 * (3 * JID_PART_MAX + 2) + ID_MAX + 3];
	char *end = key_put(key_put(key_put(key, jid_full(asker)), jid_full(asked)), id);

	return (struct iris_str){ key, (size_t)(end - key) };
}

/* SECURITY: bounded, the oldest goes first: who asks without end loses answers, not our memory. */
static void
pending_make_room(struct gate_shard *shard)
{
	struct gate_pending *oldest;

	while ((oldest = TAILQ_FIRST(&shard->queue)) != NULL &&
	       (shard->table.count >= PENDING_MAX || oldest->until_ms <= worker_now_ms()))
		pending_drop(shard, oldest);
}

static void
pending_add(const struct iris_stanza *request, const struct iris_jid *to, unsigned categories)
{
	struct gate_shard *shard = shard_of(request->id);
	struct gate_pending *pending, *same;
	struct iris_str key;

	if (request->id.len > ID_MAX)
		return;
	key = pending_key(&request->from, to, request->id);
	pending = iris_malloc(sizeof(*pending) + key.len);
	*pending = (struct gate_pending){ .categories = categories,
					  .until_ms = worker_now_ms() + PENDING_MS };
	memcpy(pending->key, key.base, key.len);
	pthread_mutex_lock(&shard->lock);
	same = pending_find(shard, key);
	if (same)
		pending_drop(shard, same);
	pending_make_room(shard);
	TAILQ_INSERT_TAIL(&shard->queue, pending, link);
	hash_insert(&shard->table, &pending->node, (struct iris_str){ pending->key, key.len });
	pthread_mutex_unlock(&shard->lock);
}

/* SECURITY: an answer that nobody asked for is UNKNOWN: it would carry anything across. */
static unsigned
pending_take(const struct iris_stanza *answer, const struct iris_jid *to)
{
	struct gate_shard *shard = shard_of(answer->id);
	struct gate_pending *pending;
	unsigned categories = BIT(UNKNOWN);
	struct iris_str key;

	if (answer->id.len > ID_MAX)
		return categories;
	key = pending_key(to, &answer->from, answer->id);
	pthread_mutex_lock(&shard->lock);
	pending = pending_find(shard, key);
	if (pending) {
		categories = pending->categories;
		pending_drop(shard, pending);
	}
	pthread_mutex_unlock(&shard->lock);
	return categories;
}

/* --- the judgement --- */

/* A stanza on its way, seen from the map. */
struct crossing {
	const struct iris_stanza *stanza;
	const struct iris_jid *to;
	bool leaving;
	struct iris_str near_domain, far_domain;
	unsigned near, far, from, to_region; /* indices of regions */
	bool near_room, far_room;
};

static size_t
map_cell(const struct region_map *map, const struct crossing *crossing, unsigned category)
{
	size_t pair = (size_t)crossing->from * (map->count + 1) + crossing->to_region;

	return pair * IRIS_GATE_CATEGORY_COUNT + category;
}

/* The strictest of all; what is denied of them in *denied_r. */
static enum iris_gate_verdict
map_judge(const struct region_map *map, unsigned from, unsigned to, unsigned categories,
	  unsigned *denied_r)
{
	enum iris_gate_verdict verdict = IRIS_GATE_DELIVER;

	*denied_r = 0;
	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (categories & (1u << i)) {
			enum iris_gate_verdict one = region_map_verdict(map, from, to, i);

			verdict = one < verdict ? one : verdict;
			if (one == IRIS_GATE_DENY)
				*denied_r |= 1u << i;
		}
	return verdict;
}

static void
map_count(struct region_map *map, const struct crossing *crossing, unsigned categories,
	  enum iris_gate_verdict verdict)
{
	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (categories & (1u << i)) {
			size_t cell = map_cell(map, crossing, i) * IRIS_GATE_VERDICT_COUNT;

			atomic_fetch_add_explicit(&map->counts[cell + verdict], 1,
						  memory_order_relaxed);
		}
}

static struct iris_str
categories_text(struct iris_arena *arena, unsigned categories)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (categories & (1u << i))
			strbuf_printf(&text, "%s%s", text.len ? " " : "", gate_category_name(i));
	return strbuf_str(&text);
}

/*
 * SECURITY: domains and regions only: neither who, nor what.  Bounded: a line of each kind now and
 * then, with the number of those that had none.
 */
static void
map_tell(struct region_map *map, const struct crossing *crossing, unsigned denied)
{
	struct region_told *told =
		&map->told[map_cell(map, crossing, (unsigned)__builtin_ctz(denied))];
	int64_t now = worker_now_ms(), until = atomic_load(&told->until_ms);
	struct iris_arena *arena;

	if (now < until ||
	    !atomic_compare_exchange_strong(&told->until_ms, &until, now + TELL_MS)) {
		atomic_fetch_add(&told->untold, 1);
		return;
	}
	arena = arena_new();
	LOG(IRIS_LOG_NOTICE, "gate", "refused",
	    LOG_STR("categories", categories_text(arena, denied)),
	    LOG_CSTR("from", region_map_id(map, crossing->from)),
	    LOG_CSTR("to", region_map_id(map, crossing->to_region)),
	    LOG_STR("ours", crossing->near_domain), LOG_STR("theirs", crossing->far_domain),
	    LOG_CSTR("direction", crossing->leaving ? "leaving" : "entering"),
	    LOG_CSTR("verdict", gate_verdict_name(IRIS_GATE_DENY)),
	    LOG_INT("untold", atomic_exchange(&told->untold, 0)));
	arena_unref(&arena);
}

static bool
is_answer(const struct iris_stanza *stanza)
{
	return stanza->kind == IRIS_IQ &&
	       (stanza->type == IRIS_RESULT || stanza->type == IRIS_ERROR);
}

static void
crossing_find(struct crossing *crossing, const struct region_map *map)
{
	const struct iris_jid *from = &crossing->stanza->from, *to = crossing->to;
	bool leaving = crossing->leaving;

	crossing->near_domain = jid_domain(leaving ? from : to);
	crossing->far_domain = jid_domain(leaving ? to : from);
	crossing->near = region_map_find(map, crossing->near_domain, &crossing->near_room);
	crossing->far = region_map_find(map, crossing->far_domain, &crossing->far_room);
	crossing->from = leaving ? map->own : crossing->far;
	crossing->to_region = leaving ? crossing->far : map->own;
}

/* SECURITY: a certificate of another region speaks for no domain of this one, nor of none. */
static bool
far_is_proven(const struct region_map *map, const struct crossing *crossing, struct iris_str proven)
{
	if (crossing->leaving)
		return true;
	if (crossing->far == map->count)
		return str_is_none(proven);
	return str_is(proven, map->regions[crossing->far].id);
}

/* SECURITY: what the map does not have in our region has no rights of it. */
static bool
near_is_ours(struct region_map *map, const struct crossing *crossing)
{
	if (crossing->near == map->own && map->own < map->count)
		return true;
	if (map->own < map->count && !atomic_exchange(&map->complained, true))
		LOG(IRIS_LOG_WARNING, "gate", "domain-not-in-region",
		    LOG_STR("domain", crossing->near_domain),
		    LOG_CSTR("region", region_map_id(map, map->own)));
	return false;
}

static void
opinion_name_regions(struct iris_gate_opinion *opinion, const struct region_map *map, unsigned from,
		     unsigned to)
{
	opinion->from = region_map_id(map, from);
	opinion->to = region_map_id(map, to);
	opinion->external = from == map->count || to == map->count;
}

struct iris_gate_opinion
gate_judge(enum iris_gate_direction direction, const struct iris_stanza *stanza,
	   const struct iris_jid *to, struct iris_str peer_region)
{
	struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	struct crossing crossing = { .stanza = stanza, .to = to,
				     .leaving = direction == IRIS_GATE_LEAVING };
	struct iris_gate_opinion opinion = { .categories = BIT(UNKNOWN), .from = REGION_EXTERNAL,
					     .to = REGION_EXTERNAL };
	unsigned denied;

	if (!map)
		return opinion;
	crossing_find(&crossing, map);
	opinion_name_regions(&opinion, map, crossing.from, crossing.to_region);
	opinion.categories =
		is_answer(stanza) ?
			pending_take(stanza, to) :
			gate_classify(stanza, crossing.near_room, crossing.far_room);
	opinion.verdict = map_judge(map, crossing.from, crossing.to_region, opinion.categories,
				    &denied);
	opinion.openly = denied && !(denied & ~atomic_load(&gate_openly));
	if (!near_is_ours(map, &crossing) || !far_is_proven(map, &crossing, peer_region)) {
		opinion.verdict = IRIS_GATE_DENY;
		opinion.openly = false;
		denied = opinion.categories;
	}
	map_count(map, &crossing, opinion.categories, opinion.verdict);
	metric_add(&gate_metrics[GATE_METRIC_DENIED + opinion.verdict], 1);
	if (opinion.verdict == IRIS_GATE_DENY)
		map_tell(map, &crossing, denied);
	else if (stanza->kind == IRIS_IQ && !is_answer(stanza))
		pending_add(stanza, to, opinion.categories);
	return opinion;
}

struct iris_gate_opinion
gate_explain(const struct iris_stanza *stanza, const struct iris_jid *to)
{
	struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	bool from_room = false, to_room = false;
	struct iris_gate_opinion opinion = { .from = REGION_EXTERNAL, .to = REGION_EXTERNAL };
	unsigned from, to_region, denied;

	opinion.categories = gate_classify(stanza, false, false);
	if (!map)
		return opinion;
	from = region_map_find(map, jid_domain(&stanza->from), &from_room);
	to_region = region_map_find(map, jid_domain(to), &to_room);
	opinion.categories = gate_classify(stanza, from_room, to_room);
	opinion_name_regions(&opinion, map, from, to_region);
	opinion.verdict = map_judge(map, from, to_region, opinion.categories, &denied);
	opinion.openly = denied && !(denied & ~atomic_load(&gate_openly));
	return opinion;
}

/* --- what the map says of a domain --- */

static bool
map_is_open(const struct region_map *map, unsigned from, unsigned to)
{
	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (region_map_verdict(map, from, to, i) != IRIS_GATE_DENY)
			return true;
	return false;
}

struct iris_gate_place
gate_place(struct iris_str domain)
{
	const struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	struct iris_gate_place place = { .region = IRIS_STR_NONE };
	unsigned index;

	if (!map)
		return place;
	index = region_map_find(map, domain, &place.is_rooms);
	place.is_own = index == map->own && index < map->count;
	place.is_open = map->own < map->count &&
			(map_is_open(map, index, map->own) || map_is_open(map, map->own, index));
	if (index < map->count) {
		place.region = str_from(map->regions[index].id);
		place.authority = map->regions[index].ca;
		place.endpoints = map->regions[index].endpoints;
		place.endpoint_count = map->regions[index].endpoint_count;
	}
	return place;
}

const char *
gate_authority(struct iris_str region)
{
	const struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	unsigned index = map ? region_map_index(map, region) : 0;

	return map && index < map->count ? map->regions[index].ca : NULL;
}

bool
gate_is_boundary(struct iris_str domain)
{
	const struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);
	bool is_rooms = false;
	unsigned index = map ? region_map_find(map, domain, &is_rooms) : 0;

	return map && !is_rooms && (index != map->own || index == map->count);
}

int64_t
gate_serial(void)
{
	const struct region_map *map = atomic_load_explicit(&gate_map, memory_order_acquire);

	return map ? map->serial : 0;
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

void
gate_set_map(struct region_map *map, unsigned own)
{
	if (map)
		map->own = own;
	atomic_store_explicit(&gate_map, map, memory_order_release);
}

void
gate_set_openly(unsigned categories)
{
	atomic_store(&gate_openly, categories);
}

/* --- start and stop --- */

void
gate_open(void)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		gate_shards[i].lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
		TAILQ_INIT(&gate_shards[i].queue);
	}
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
	for (unsigned i = 0; i < SHARDS; i++) {
		struct gate_shard *shard = &gate_shards[i];

		while (!TAILQ_EMPTY(&shard->queue))
			pending_drop(shard, TAILQ_FIRST(&shard->queue));
		hash_free(&shard->table);
	}
	HASH_FOREACH(node, &gate_table)
		hash_remove(&gate_table, node);
	hash_free(&gate_table);
}
