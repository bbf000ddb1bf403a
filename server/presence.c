/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presence (RFC 6121 §4): broadcast, own resources, directed presence and its clean-up, probes.
 * At the home of the user; never waits, except in the hook session_available.  Subscriptions are
 * in subscription.c.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/gate.h"
#include "iris/service.h"

struct directed {
	struct iris_hash_node node; /* by full JID */
	struct iris_jid jid;
	char text[];
};

#define LAST_STATUS_MAX 1023 /* bytes of a status that is kept for the time after (XEP-0012) */

bool
presence_priority(const struct iris_stanza *presence, int8_t *priority_r)
{
	struct iris_element *priority = element_child(presence->root, "priority", NS_CLIENT);
	int64_t value = 0;

	if (priority && !str_to_int(element_get_text(priority), INT8_MIN, INT8_MAX, &value))
		return false;
	*priority_r = (int8_t)value;
	return true;
}

/* --- who is told --- */

/* Addresses, copied: what is sent to one of them may change the roster. */
struct audience {
	struct iris_arena *arena;
	struct iris_user *user;
	struct iris_jid *to;
	size_t count;
};

static bool
is_visible(struct iris_user *user, const struct iris_jid *to)
{
	struct iris_visibility visibility = { user, *to };

	return !hook_is_used(IRIS_HOOK_ID_presence_visible) ||
	       hook_run_presence_visible(&visibility) != IRIS_REFUSE;
}

static void
audience_open(struct audience *audience, struct iris_user *user, size_t most)
{
	audience->arena = arena_new();
	audience->user = user;
	audience->to = arena_alloc(audience->arena, most * sizeof(*audience->to));
	audience->count = 0;
}

static void
audience_add(struct audience *audience, const struct iris_jid *to)
{
	if (is_visible(audience->user, to))
		audience->to[audience->count++] = jid_copy(audience->arena, to);
}

static void
audience_send(struct audience *audience, struct iris_stanza *stanza, struct iris_ticket *ticket)
{
	struct iris_stanza *shared = stanza_ref(stanza);

	route_many(&shared, audience->to, audience->count, ticket);
	arena_unref(&audience->arena);
}

static void
add_watcher(const struct iris_contact *contact, void *arg)
{
	if (contact_sees_us(contact))
		audience_add(arg, &contact->jid);
}

static void
add_watched(const struct iris_contact *contact, void *arg)
{
	if (contact_is_seen(contact))
		audience_add(arg, &contact->jid);
}

static void
send_to_contacts(struct iris_user *user, struct iris_stanza *stanza,
		 void (*add)(const struct iris_contact *contact, void *arg),
		 struct iris_ticket *ticket)
{
	struct audience audience;

	audience_open(&audience, user, user->roster->contacts.count);
	roster_each(user, add, &audience);
	audience_send(&audience, stanza, ticket);
}

/* §4.2.2, §4.5.2: to all available resources of the user. */
static void
send_to_own(struct iris_user *user, struct iris_stanza *stanza)
{
	struct iris_delivery delivery = { .stanza = stanza };
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		delivery.to = session->jid;
		if (session->presence)
			session_deliver(session, &delivery);
	}
}

/* --- directed presence (§4.6) --- */

static struct directed *
directed_find(const struct iris_session *session, const struct iris_jid *jid)
{
	struct iris_hash_node *node = hash_find(&session->private_->directed, jid_full(jid));

	return node ? IRIS_CONTAINER(node, struct directed, node) : NULL;
}

static void
directed_remove(struct iris_session *session, struct directed *directed)
{
	if (!directed)
		return;
	hash_remove(&session->private_->directed, &directed->node);
	free(directed);
}

static bool
directed_add(struct iris_session *session, const struct iris_jid *jid)
{
	struct iris_str text = jid_full(jid);
	struct directed *directed;

	if (directed_find(session, jid))
		return true;
	if (session->private_->directed.count >= (size_t)user_option(USER_MAX_DIRECTED))
		return false;
	directed = iris_malloc(sizeof(*directed) + text.len);
	memcpy(directed->text, text.base, text.len);
	directed->jid = *jid;
	directed->jid.base = directed->text;
	hash_insert(&session->private_->directed, &directed->node, jid_full(&directed->jid));
	return true;
}

/* Does the broadcast reach this address anyway? */
static bool
is_watcher(const struct iris_user *user, const struct iris_jid *jid)
{
	return contact_sees_us(roster_find(user, jid_bare(jid)));
}

/* §4.6.3: unavailable for all who were shown it; the list is empty afterwards. */
static void
directed_end(struct iris_session *session, struct iris_stanza *unavailable, bool was_broadcast)
{
	struct iris_hash *list = &session->private_->directed;
	struct audience audience;

	if (list->count == 0)
		return;
	audience_open(&audience, session->user, list->count);
	HASH_FOREACH(node, list) {
		struct directed *directed = IRIS_CONTAINER(node, struct directed, node);

		if (!was_broadcast || !is_watcher(session->user, &directed->jid))
			audience_add(&audience, &directed->jid);
		directed_remove(session, directed);
	}
	audience_send(&audience, unavailable, NULL);
}

/*
 * P2.4: over the boundary of the region, people show themselves to contacts only, and to who has
 * asked for it.  To others it is as if nobody were there: nothing comes of it.
 */
static bool
may_show_over_boundary(const struct iris_user *user, const struct iris_jid *to)
{
	struct iris_str domain = jid_domain(to);
	const struct iris_contact *contact;

	if (host_find(domain) || service_find(domain) || !gate_is_boundary(domain))
		return true;
	contact = roster_find(user, jid_bare(to));
	return contact_sees_us(contact) || (contact && contact->pending_in);
}

/* The same on the way in: of strangers nothing is shown. */
static bool
may_be_shown(const struct iris_user *user, const struct iris_stanza *presence)
{
	return !presence->from_afar || !gate_is_boundary(jid_domain(&presence->from)) ||
	       contact_is_seen(roster_find(user, jid_bare(&presence->from)));
}

static void
send_directed(struct iris_session *session, struct iris_stanza **stanza_p,
	      struct iris_ticket *ticket)
{
	const struct iris_stanza *stanza = *stanza_p;
	bool known = session->presence && is_watcher(session->user, &stanza->to);
	bool is_shown = stanza->type == IRIS_AVAILABLE ||
			(stanza->type == IRIS_UNAVAILABLE && !directed_find(session, &stanza->to));

	if (is_shown && !may_show_over_boundary(session->user, &stanza->to))
		return;
	if (stanza->type == IRIS_AVAILABLE && !known && !directed_add(session, &stanza->to)) {
		session_refuse(session, stanza,
			       &(struct iris_refusal){
				       .condition = IRIS_RESOURCE_CONSTRAINT,
				       .text = "Too many addresses were shown this presence" });
		return;
	}
	if (stanza->type == IRIS_UNAVAILABLE)
		directed_remove(session, directed_find(session, &stanza->to));
	route_stanza(stanza_p, ticket);
}

/* --- broadcast (§4.2, §4.4, §4.5) --- */

static void
presence_set(struct iris_session *session, struct iris_stanza *presence, int8_t priority)
{
	session->user->available_count += (presence != NULL) - (session->presence != NULL);
	if (session->presence)
		stanza_unref(&session->presence);
	session->presence = presence ? stanza_compact(presence) : NULL;
	session->priority = priority;
	hook_run_session_presence(session);
}

/* §4.2.2: what the new resource is to know of the others of its user. */
static void
show_others(struct iris_session *session)
{
	struct iris_delivery delivery = { .to = session->jid };
	struct iris_session *other;

	TAILQ_FOREACH(other, &session->user->sessions, link) {
		if (other == session || !other->presence)
			continue;
		delivery.stanza = other->presence;
		session_deliver(session, &delivery);
	}
}

static void
send_probes(struct iris_session *session)
{
	struct iris_stanza *probe = stanza_new(IRIS_PRESENCE, IRIS_PROBE);

	stanza_set_from(probe, &session->jid);
	stanza_freeze(probe);
	send_to_contacts(session->user, probe, add_watched, NULL);
	stanza_unref(&probe);
}

static void
send_available(struct iris_session *session, struct iris_stanza *stanza, struct iris_ticket *ticket)
{
	bool is_first = !session->presence, took_messages = session_takes_messages(session);
	int8_t priority;

	if (!presence_priority(stanza, &priority)) {
		session_refuse(session, stanza,
			       &(struct iris_refusal){
				       .condition = IRIS_BAD_REQUEST,
				       .text = "The priority is not an integer from -128 to 127" });
		return;
	}
	stanza_freeze(stanza);
	presence_set(session, stanza, priority);
	send_to_own(session->user, stanza);
	if (session->closing) /* its own copy was one too many: the last word is said */
		return;
	send_to_contacts(session->user, stanza, add_watcher, ticket);
	if (is_first && !session->closing) {
		show_others(session);
		send_probes(session);
		subscription_show_requests(session);
	}
	if (!session->closing && (is_first || (!took_messages && session_takes_messages(session))))
		hook_run_session_available(session);
}

/* Also the end of a session that never was available: directed presence is cleaned up. */
static void
send_unavailable(struct iris_session *session, struct iris_stanza *stanza,
		 struct iris_ticket *ticket)
{
	struct iris_delivery reflection = { .stanza = stanza, .to = session->jid };
	bool was_available = session->presence != NULL;

	stanza_freeze(stanza);
	if (was_available) {
		presence_set(session, NULL, 0);
		session_deliver(session, &reflection);
		send_to_own(session->user, stanza);
		send_to_contacts(session->user, stanza, add_watcher, ticket);
	}
	directed_end(session, stanza, was_available);
}

static void
keep_status(struct iris_session *session, const struct iris_stanza *stanza)
{
	struct iris_str status = element_child_text(stanza->root, "status", NS_CLIENT);

	free(session->private_->last_status);
	session->private_->last_status =
		status.base && status.len <= LAST_STATUS_MAX ? str_dup(status) : NULL;
}

void
presence_send(struct iris_session *session, struct iris_stanza **stanza_p,
	      struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;

	if (!jid_is_none(&stanza->to)) {
		send_directed(session, stanza_p, ticket);
	} else if (stanza->type == IRIS_AVAILABLE) {
		send_available(session, stanza, ticket);
	} else if (stanza->type == IRIS_UNAVAILABLE) {
		keep_status(session, stanza);
		send_unavailable(session, stanza, ticket);
	} else { /* a probe or an error, to nobody */
		session_refuse(session, stanza,
			       &(struct iris_refusal){ .condition = IRIS_BAD_REQUEST });
	}
}

static struct iris_stanza *
unavailable_of(const struct iris_session *session)
{
	struct iris_stanza *unavailable = stanza_new(IRIS_PRESENCE, IRIS_UNAVAILABLE);

	stanza_set_from(unavailable, &session->jid);
	stanza_freeze(unavailable);
	return unavailable;
}

void
presence_end(struct iris_session *session)
{
	struct iris_stanza *unavailable;

	if (!session->presence && session->private_->directed.count == 0)
		return;
	unavailable = unavailable_of(session);
	send_unavailable(session, unavailable, NULL);
	stanza_unref(&unavailable);
}

/* --- for one contact, as subscriptions come and go --- */

void
presence_show(struct iris_user *user, const struct iris_jid *to, struct iris_ticket *ticket)
{
	struct iris_session *session, *next;
	struct iris_stanza *presence;

	if (!is_visible(user, to))
		return;
	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!session->presence)
			continue;
		presence = stanza_ref(session->presence);
		route_many(&presence, to, 1, ticket);
	}
}

void
presence_hide(struct iris_user *user, const struct iris_jid *to, struct iris_ticket *ticket)
{
	struct iris_session *session, *next;
	struct iris_stanza *unavailable;

	if (!is_visible(user, to))
		return;
	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!session->presence)
			continue;
		unavailable = unavailable_of(session);
		route_many(&unavailable, to, 1, ticket);
	}
}

/* --- what arrives --- */

/*
 * §4.3.2. SECURITY: a stranger gets no answer, as from an address that does not exist or is not
 * there (P5.7); RFC 6121 would allow `unsubscribed`, which the three could not give alike.
 */
static void
answer_probe(struct iris_user *user, const struct iris_stanza *probe,
	     struct iris_session *addressed, bool full)
{
	const struct iris_jid *asker = &probe->from;
	bool own = jid_bare_equal(asker, &user->jid);
	struct iris_session *session, *next;
	struct iris_stanza *presence;

	if ((!own && !is_watcher(user, asker)) || !is_visible(user, asker))
		return;
	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!session->presence || (full && session != addressed))
			continue;
		presence = stanza_ref(session->presence);
		route_many(&presence, asker, 1, NULL);
	}
}

static void
deliver_to_available(struct iris_user *user, const struct iris_delivery *delivery)
{
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (session->presence)
			session_deliver(session, delivery);
	}
}

void
presence_receive(struct iris_user *user, const struct iris_delivery *delivery,
		 struct iris_session *session)
{
	const struct iris_stanza *stanza = delivery->stanza;
	bool full = !jid_is_bare(jid_is_none(&delivery->to) ? &stanza->to : &delivery->to);

	if (stanza->type == IRIS_AVAILABLE && !may_be_shown(user, stanza))
		return;
	switch (stanza->type) {
	case IRIS_AVAILABLE:
	case IRIS_UNAVAILABLE:
		if (session)
			session_deliver(session, delivery);
		else if (!full)
			deliver_to_available(user, delivery);
		break;
	case IRIS_ERROR:
		if (!session)
			break;
		/* It is not there (§4.6.3). */
		directed_remove(session, directed_find(session, &stanza->from));
		session_deliver(session, delivery);
		break;
	case IRIS_PROBE:
		answer_probe(user, stanza, session, full);
		break;
	default:
		break;
	}
}
