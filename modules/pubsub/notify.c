/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §7.1.2, XEP-0163 §4: who is told of what happens at a node.  One publication is one
 * frozen stanza, and one letter to each worker with all who live there.  Whether a contact wants it
 * (§9.2: "NODE+notify") is decided at the contact's home, from what its sessions announce; for
 * contacts on other servers here, from their presence (remote.c).  Never waits; loads nobody.
 */
#include <stdlib.h>

#include "modules/pubsub/pubsub_private.h"

/* How an address is told: X(NAME, what) */
#define TARGET_KINDS(X)                                                               \
	X(INTERESTED, "its sessions that announce interest in the node")              \
	X(SUBSCRIBED, "all its sessions: it has subscribed and is no contact")        \
	X(BOTH, "both; whoever announces interest gets it once")

enum target_kind {
#define X(name, what) TARGET_##name,
	TARGET_KINDS(X)
#undef X
};

struct target {
	struct iris_jid to;
	enum target_kind kind;
};

/* The text of the addresses and of the feature lies behind the targets. */
struct letter {
	struct iris_mail mail;
	struct iris_stanza *stanza;
	struct iris_str feature;
	size_t count;
	struct target targets[];
};

/* Who is to know, while it is found out; in an arena of its own. */
struct audience {
	struct iris_arena *arena;
	const struct pubsub_node *node;
	struct iris_str feature;
	struct target *local;       /* of ours */
	struct iris_jid *elsewhere; /* to be routed as they are */
	size_t local_count, local_cap, elsewhere_count, elsewhere_cap;
};

/* --- the stanza --- */

struct iris_stanza *
notify_event(const struct pubsub_node *node, struct iris_element **event_r)
{
	bool headline = node->config.numbers[CONFIG_NOTIFICATION_TYPE] == NOTIFY_HEADLINE;
	struct iris_stanza *stanza =
		stanza_new(IRIS_MESSAGE, headline ? IRIS_HEADLINE : IRIS_NORMAL);

	stanza_set_from(stanza, &node->service->jid);
	stanza_set_id(stanza, random_id(stanza->arena, 72));
	*event_r = element_add(stanza->root, "event", NS_PUBSUB_EVENT);
	return stanza;
}

struct iris_element *
notify_items(const struct pubsub_node *node, struct iris_element *event)
{
	struct iris_element *items = element_add(event, "items", NULL);

	element_set(items, "node", node_name(node));
	return items;
}

/* --- at the home of who is told --- */

static bool
is_interested(struct iris_session *session, struct iris_str feature)
{
	const struct caps_watch *watch = caps_of_session(session);

	return watch && caps_has(watch, feature);
}

/* SECURITY: whom the recipient blocks does not reach it this way either (XEP-0191). */
static bool
is_let_in(struct iris_user *user, struct iris_stanza *stanza, struct iris_arena *arena)
{
	struct iris_request request = { .stanza = stanza, .user = user, .arena = arena };
	struct iris_incoming incoming = { .user = user, .request = &request };

	if (!hook_is_used(IRIS_HOOK_ID_stanza_in))
		return true;
	request.host = host_find(jid_domain(&user->jid));
	incoming.delivery = (struct iris_delivery){ .stanza = stanza, .to = user->jid };
	return hook_run_stanza_in(&incoming) == IRIS_PASS;
}

static bool
takes(struct iris_session *session, const struct target *target, bool interested)
{
	if (!session->presence)
		return false;
	switch (target->kind) {
	case TARGET_INTERESTED:
		return interested;
	case TARGET_SUBSCRIBED:
		return session_takes_messages(session);
	default:
		return !interested && session_takes_messages(session);
	}
}

/* XEP-0163 §4.3.1: to the full JID of each resource. */
static void
deliver_here(const struct letter *letter, const struct target *target, struct iris_arena *arena)
{
	struct iris_user *user = user_find(jid_bare(&target->to));
	struct iris_session *session, *next;
	int64_t count = 0;

	if (!user || user->available_count == 0 || !is_let_in(user, letter->stanza, arena))
		return;
	user_hold(user);
	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		struct iris_delivery delivery = { .stanza = letter->stanza, .to = session->jid };

		next = TAILQ_NEXT(session, link);
		if (!jid_is_bare(&target->to) && !jid_equal(&target->to, &session->jid))
			continue;
		if (!takes(session, target, is_interested(session, letter->feature)))
			continue;
		session_deliver(session, &delivery);
		count++;
	}
	pubsub_count(METRIC_NOTIFIED, count);
	user_release(&user);
}

static void
letter_arrives(struct iris_mail *mail)
{
	struct letter *letter = IRIS_CONTAINER(mail, struct letter, mail);
	struct iris_arena *arena = arena_new(); /* for the hooks of all */

	for (size_t i = 0; i < letter->count; i++)
		deliver_here(letter, &letter->targets[i], arena);
	arena_unref(&arena);
	stanza_unref(&letter->stanza);
	free(letter);
}

/* --- letters --- */

static struct letter *
letter_new(const struct audience *audience, struct iris_stanza *stanza, size_t count, size_t text)
{
	struct letter *letter = iris_malloc(sizeof(*letter) + count * sizeof(letter->targets[0]) +
					    text + audience->feature.len);
	char *at = (char *)&letter->targets[count] + text;

	letter->mail.fn = letter_arrives;
	letter->stanza = stanza_ref(stanza);
	letter->count = 0;
	memcpy(at, audience->feature.base, audience->feature.len);
	letter->feature = (struct iris_str){ at, audience->feature.len };
	return letter;
}

struct share { /* of one worker */
	size_t count, text;
	struct letter *letter;
	char *at;
};

static void
share_add(struct share *share, const struct target *target)
{
	struct target *copy = &share->letter->targets[share->letter->count++];
	struct iris_str text = jid_full(&target->to);

	*copy = *target;
	copy->to.base = share->at;
	memcpy(share->at, text.base, text.len);
	share->at += text.len;
}

static void
send_letters(const struct audience *audience, struct iris_stanza *stanza)
{
	struct share shares[WORKER_LIMIT] = { { .count = 0 } };
	int *homes = arena_alloc(audience->arena, audience->local_count * sizeof(*homes));

	for (size_t i = 0; i < audience->local_count; i++) {
		const struct iris_jid *to = &audience->local[i].to;

		homes[i] = worker_index_of(home_of(jid_bare(to)));
		shares[homes[i]].count++;
		shares[homes[i]].text += jid_full(to).len;
	}
	for (size_t i = 0; i < audience->local_count; i++) {
		struct share *share = &shares[homes[i]];

		if (!share->letter) {
			share->letter = letter_new(audience, stanza, share->count, share->text);
			share->at = (char *)&share->letter->targets[share->count];
		}
		share_add(share, &audience->local[i]);
	}
	for (unsigned i = 0; i < worker_count(); i++) {
		if (shares[i].letter && (int)i == worker_index())
			letter_arrives(&shares[i].letter->mail);
		else if (shares[i].letter)
			worker_post(worker_at((int)i), &shares[i].letter->mail);
	}
}

/* --- the audience --- */

static void *
grown(struct iris_arena *arena, void *old, size_t count, size_t *cap, size_t size)
{
	void *larger;

	if (count < *cap)
		return old;
	*cap = *cap ? *cap * 2 : 32;
	larger = arena_alloc(arena, *cap * size);
	if (count)
		memcpy(larger, old, count * size);
	return larger;
}

static bool
is_ours(const struct iris_jid *jid)
{
	struct iris_host *host = jid->node_len ? host_find(jid_domain(jid)) : NULL;

	return host && !host->is_component;
}

static void
add_elsewhere(const struct iris_jid *to, void *arg)
{
	struct audience *audience = arg;

	audience->elsewhere = grown(audience->arena, audience->elsewhere,
				    audience->elsewhere_count, &audience->elsewhere_cap,
				    sizeof(*audience->elsewhere));
	audience->elsewhere[audience->elsewhere_count++] = jid_copy(audience->arena, to);
}

/* The text of the address stays where it is: nobody waits before the letters are written. */
static void
add_local(struct audience *audience, const struct iris_jid *to, enum target_kind kind)
{
	audience->local = grown(audience->arena, audience->local, audience->local_count,
				&audience->local_cap, sizeof(*audience->local));
	audience->local[audience->local_count++] = (struct target){ *to, kind };
}

/* SECURITY: who is blocked by the account is shown nothing. */
static bool
is_visible_to(const struct pubsub_node *node, const struct iris_jid *jid)
{
	struct iris_visibility visibility = { node->service->user, *jid };

	return !node->service->user || !hook_is_used(IRIS_HOOK_ID_presence_visible) ||
	       hook_run_presence_visible(&visibility) != IRIS_REFUSE;
}

static bool
is_shown(const struct pubsub_node *node, const struct iris_jid *jid)
{
	return access_read(node, jid) == PUBSUB_NONE && is_visible_to(node, jid);
}

/* XEP-0163 §4.1: contacts are subscribed by their subscription to presence. */
static void
add_contact(const struct iris_contact *contact, void *arg)
{
	struct audience *audience = arg;

	if (!contact_sees_us(contact) ||
	    access_read_contact(audience->node, contact) != PUBSUB_NONE ||
	    !is_visible_to(audience->node, &contact->jid))
		return;
	if (is_ours(&contact->jid))
		add_local(audience, &contact->jid, TARGET_INTERESTED);
	else
		remote_each(audience->node->service, jid_bare(&contact->jid), audience->feature,
			    add_elsewhere, audience);
}

/*
 * Who may not read any more has lost the subscription (§4.5): it is passed over now, and goes when
 * it is next looked at.
 */
static void
add_subscriber(struct audience *audience, const struct pubsub_subscriber *subscriber)
{
	const struct pubsub_node *node = audience->node;
	const struct iris_jid *jid = &subscriber->jid;
	bool headline = node->config.numbers[CONFIG_NOTIFICATION_TYPE] == NOTIFY_HEADLINE ||
			node->config.numbers[CONFIG_PRESENCE_BASED];

	if (subscriber->state != SUBSCRIPTION_SUBSCRIBED ||
	    (subscriber->options & SUBSCRIPTION_MUTED) || !is_shown(node, jid))
		return;
	if (is_ours(jid) && access_is_near(node->service, jid))
		add_local(audience, jid, TARGET_BOTH);
	else if (is_ours(jid) && headline) /* it interests nobody who is away: nobody is loaded */
		add_local(audience, jid, TARGET_SUBSCRIBED);
	else
		add_elsewhere(jid, audience);
}

void
notify_all(const struct pubsub_node *node, struct iris_stanza **stanza_p)
{
	struct audience audience = { .arena = arena_new(), .node = node };

	stanza_freeze(*stanza_p);
	if (node->config.numbers[CONFIG_DELIVER_NOTIFICATIONS]) {
		audience.feature = arena_printf(audience.arena, "%.*s+notify",
						IRIS_STR_FMT(node_name(node)));
		if (node->service->user) {
			add_local(&audience, &node->service->jid, TARGET_INTERESTED);
			roster_each(node->service->user, add_contact, &audience);
		}
		HASH_FOREACH(found, &node->subscribers)
			add_subscriber(&audience,
				       IRIS_CONTAINER(found, struct pubsub_subscriber, node));
		send_letters(&audience, *stanza_p);
		pubsub_count(METRIC_NOTIFIED, (int64_t)audience.elsewhere_count);
		route_many(stanza_p, audience.elsewhere, audience.elsewhere_count, NULL);
	} else {
		stanza_unref(stanza_p);
	}
	arena_unref(&audience.arena);
}

void
notify_one(const struct pubsub_node *node, const struct iris_jid *to, struct iris_stanza **stanza_p)
{
	pubsub_count(METRIC_NOTIFIED, 1);
	route_many(stanza_p, to, 1, NULL);
}
