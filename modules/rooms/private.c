/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes from one occupant to another: private messages (XEP-0045 §7.5), requests and their
 * answers (§17.4), and the ping of oneself (XEP-0410).  Neither side learns the other's address.
 */
#include <stdlib.h>

#include "modules/rooms/live.h"
#include "xep/xep0054_vcard.h"
#include "xep/xep0199_ping.h"

#define RELAYS_MAX 2000        /* of a room: requests that wait for their answer */
#define RELAYS_OF_SESSION 50
#define RELAY_TIMEOUT_MS 60000

/* A request on its way; in room->relayed by the id that it has on its second half. */
struct room_relay {
	struct iris_hash_node node;
	TAILQ_ENTRY(room_relay) link;
	int64_t until_ms;
	struct iris_jid asker;      /* full */
	struct iris_jid occupant;   /* as it was asked */
	struct iris_jid target;     /* who may answer */
	struct iris_str id;         /* the asker's */
	struct iris_str own_id;
	char text[];
};

/* --- messages --- */

static enum iris_condition
private_judge(const struct room *room, const struct room_session *from,
	      const struct iris_stanza *stanza)
{
	static const enum room_role needed[] = {
		[ROOM_PM_ANYONE] = ROOM_VISITOR,
		[ROOM_PM_PARTICIPANTS] = ROOM_PARTICIPANT,
		[ROOM_PM_MODERATORS] = ROOM_MODERATOR,
		[ROOM_PM_NONE] = ROOM_ROLE_COUNT,
	};

	if (!from)
		return IRIS_NOT_ACCEPTABLE;
	if (stanza->type == IRIS_GROUPCHAT)
		return IRIS_BAD_REQUEST;
	if (from->occupant->role < needed[room->config.numbers[ROOM_CONFIG_ALLOW_PM]])
		return IRIS_FORBIDDEN;
	return IRIS_NO_ERROR;
}

/*
 * To each session of the occupant. Its account's archive has the message once: all but one carry a
 * hint.
 */
static void
private_send(struct room_occupant *to, struct iris_stanza *message, struct iris_ticket *ticket)
{
	struct iris_stanza *other = NULL;
	struct room_session *session;

	if (to->session_count > 1) {
		other = stanza_copy(message);
		element_add(other->root, "no-permanent-store", NS_HINTS);
		stanza_freeze(other);
	}
	stanza_freeze(message);
	TAILQ_FOREACH(session, &to->sessions, link) {
		bool first = session == TAILQ_FIRST(&to->sessions);
		struct iris_stanza *stanza = stanza_ref(first ? message : other);

		if (session->arrival)
			arrival_hold(session->arrival, stanza);
		else
			live_send(to->room, &stanza, &session->jid, 1, ticket);
		if (stanza)
			stanza_unref(&stanza);
	}
	stanza_unref(&message);
	if (other)
		stanza_unref(&other);
}

void
private_take(struct room *room, struct room_session *from, const struct iris_delivery *delivery,
	     struct iris_ticket *ticket)
{
	enum iris_condition condition = private_judge(room, from, delivery->stanza);
	struct room_occupant *to = occupant_find(room, jid_resource(delivery_to(delivery)));
	struct iris_stanza *message;

	if (condition == IRIS_NO_ERROR && !to)
		condition = IRIS_ITEM_NOT_FOUND;
	if (condition != IRIS_NO_ERROR) {
		room_refuse(delivery->stanza, condition, NULL);
		return;
	}
	message = message_copy(from->occupant, delivery->stanza);
	element_add(message->root, "x", NS_MUC_USER);
	private_send(to, message, ticket);
}

/* A client may refuse a private message; what is said to all, nobody can, and so to nobody else. */
void
private_pass_error(struct room_session *from, const struct iris_delivery *delivery)
{
	struct room *room = from->occupant->room;
	struct room_occupant *to = occupant_find(room, jid_resource(delivery_to(delivery)));

	if (!to || !message_room_mark(delivery->stanza->root))
		return;
	private_send(to, message_copy(from->occupant, delivery->stanza), NULL);
}

/* --- requests --- */

static void
relay_end(struct room *room, struct room_relay *relay)
{
	struct room_session *asker = room_session_find(room, &relay->asker);

	if (asker && asker->relayed > 0)
		asker->relayed--;
	hash_remove(&room->relayed, &relay->node);
	TAILQ_REMOVE(&room->live->relays, relay, link);
	free(relay);
}

void
relay_free(struct room *room)
{
	if (!room->live)
		return;
	while (!TAILQ_EMPTY(&room->live->relays))
		relay_end(room, TAILQ_FIRST(&room->live->relays));
	timer_stop(&room->live->relay_timer);
}

static char *
keep(char **at, struct iris_str s)
{
	char *kept = *at;

	if (s.len > 0)
		memcpy(kept, s.base, s.len);
	*at += s.len;
	return kept;
}

static struct room_relay *
relay_new(struct room *room, const struct iris_delivery *delivery, struct room_session *asker,
	  const struct iris_jid *target)
{
	const struct iris_jid *occupant = delivery_to(delivery);
	struct iris_arena *arena = arena_new();
	struct iris_str own_id = random_id(arena, 120), id = delivery->stanza->id;
	struct room_relay *relay =
		iris_calloc(1, sizeof(*relay) + jid_full(&asker->jid).len + jid_full(occupant).len +
				       jid_full(target).len + id.len + own_id.len);
	char *at = relay->text;

	relay->until_ms = worker_now_ms() + RELAY_TIMEOUT_MS;
	relay->asker = asker->jid;
	relay->asker.base = keep(&at, jid_full(&asker->jid));
	relay->occupant = *occupant;
	relay->occupant.base = keep(&at, jid_full(occupant));
	relay->target = *target;
	relay->target.base = keep(&at, jid_full(target));
	relay->id = (struct iris_str){ keep(&at, id), id.len };
	relay->own_id = (struct iris_str){ keep(&at, own_id), own_id.len };
	arena_unref(&arena);
	hash_insert(&room->relayed, &relay->node, relay->own_id);
	TAILQ_INSERT_TAIL(&room->live->relays, relay, link);
	asker->relayed++;
	return relay;
}

static void
relay_answer(struct room *room, const struct room_relay *relay, struct iris_stanza **answer_p)
{
	stanza_set_from(*answer_p, &relay->occupant);
	stanza_set_to(*answer_p, &relay->asker);
	stanza_set_id(*answer_p, relay->id);
	live_busy_begin(room);
	route_stanza(answer_p, NULL);
	live_busy_end(room);
}

static struct iris_stanza *
timeout_error(void)
{
	struct iris_stanza *stanza = stanza_new(IRIS_IQ, IRIS_ERROR);
	struct iris_element *error = element_add(stanza->root, "error", NULL);

	element_set(error, "type", IRIS_STR("wait"));
	element_add(error, "remote-server-timeout", NS_STANZAS);
	return stanza;
}

static void relays_arm(struct room *room);

static void
relays_expire(void *arg)
{
	struct room *room = arg;
	struct room_relay *relay;

	place_hold(&room->place);
	while ((relay = TAILQ_FIRST(&room->live->relays)) != NULL &&
	       relay->until_ms <= worker_now_ms()) {
		struct iris_stanza *error = timeout_error();

		relay_answer(room, relay, &error);
		relay_end(room, relay);
	}
	relays_arm(room);
	place_release(&room->place);
}

static void
relays_arm(struct room *room)
{
	struct room_live *live = room->live;
	struct room_relay *first = TAILQ_FIRST(&live->relays);

	if (first && !timer_is_running(&live->relay_timer))
		timer_start(&live->relay_timer, first->until_ms - worker_now_ms(), relays_expire,
			    room);
}

/* XEP-0054: the server of whoever it is has the card. */
static struct iris_jid
request_target(struct iris_arena *arena, const struct room_occupant *occupant,
	       const struct iris_element *payload)
{
	const struct room_session *main = TAILQ_FIRST(&occupant->sessions);

	return str_is(payload->ns, NS_VCARD) ?
		       jid_with_resource(arena, &main->jid, IRIS_STR_NONE) :
		       main->jid;
}

static void
request_relay(struct room *room, struct room_session *asker, const struct room_occupant *occupant,
	      const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct iris_stanza *request = stanza_copy(delivery->stanza);
	struct iris_jid target = request_target(request->arena, occupant,
						element_child(request->root, NULL, NULL));
	struct room_relay *relay = relay_new(room, delivery, asker, &target);

	stanza_set_from(request, &asker->occupant->jid);
	stanza_set_to(request, &target);
	stanza_set_id(request, relay->own_id);
	relays_arm(room);
	live_busy_begin(room);
	route_stanza(&request, ticket);
	live_busy_end(room);
}

static void
answer_self_ping(const struct iris_stanza *request)
{
	struct iris_stanza *result = stanza_result(request);

	route_stanza(&result, NULL);
}

static void
take_request(struct room *room, struct room_session *asker, const struct iris_delivery *delivery,
	     struct iris_ticket *ticket)
{
	const struct iris_stanza *stanza = delivery->stanza;
	const struct iris_element *payload = element_child(stanza->root, NULL, NULL);
	struct room_occupant *occupant = occupant_find(room, jid_resource(delivery_to(delivery)));

	if (!asker) /* XEP-0410 §3.3; SECURITY: the same whoever is in */
		room_refuse(stanza, IRIS_NOT_ACCEPTABLE, "You are not in the room");
	else if (str_is_empty(stanza->id) || !payload || element_next(payload, NULL, NULL))
		room_refuse(stanza, IRIS_BAD_REQUEST, NULL);
	else if (!occupant)
		room_refuse(stanza, IRIS_ITEM_NOT_FOUND, NULL);
	else if (occupant == asker->occupant && element_is(payload, "ping", NS_PING) &&
		 stanza->type == IRIS_GET)
		answer_self_ping(stanza);
	else if (room->relayed.count >= RELAYS_MAX || asker->relayed >= RELAYS_OF_SESSION)
		room_refuse(stanza, IRIS_RESOURCE_CONSTRAINT, NULL);
	else
		request_relay(room, asker, occupant, delivery, ticket);
}

/* SECURITY: only who was asked may answer, and the id cannot be guessed. */
static void
take_answer(struct room *room, const struct iris_stanza *stanza)
{
	struct iris_hash_node *node = hash_find(&room->relayed, stanza->id);
	struct room_relay *relay =
		node ? IRIS_CONTAINER(node, struct room_relay, node) : NULL;
	struct iris_stanza *answer;

	if (!relay || !jid_equal(&stanza->from, &relay->target))
		return;
	if (room_session_find(room, &relay->asker)) {
		answer = stanza_copy(stanza);
		relay_answer(room, relay, &answer);
	}
	relay_end(room, relay);
}

void
room_take_iq(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	const struct iris_stanza *stanza = delivery->stanza;
	struct room_session *session;

	if (live_park(room, delivery, ticket))
		return;
	session = room_session_hear(room, &stanza->from);
	if (stanza->type == IRIS_GET || stanza->type == IRIS_SET)
		take_request(room, session, delivery, ticket);
	else
		take_answer(room, stanza);
}
