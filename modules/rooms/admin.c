/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §8, §9, §10.3–§10.8: lists of affiliations and roles, and changes of them, in
 * muc#admin.  On a fiber, at the room's home.  A request of several items is done whole or not at
 * all.
 */
#include "modules/rooms/rooms_private.h"

#define ITEMS_MAX 256 /* of one request */

struct role_change {
	struct iris_str nick; /* of the occupant; it may have gone while we waited */
	enum room_role after;
	struct iris_str reason;
};

/* A request, while it is read; in the request's arena. */
struct admin_call {
	struct iris_request *request;
	struct room *room;
	struct iris_jid from, bare;
	struct room_actor actor;
	struct room_affiliate_change *affiliations;
	size_t affiliation_count;
	struct role_change *roles;
	size_t role_count;
};

static enum iris_verdict
refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal.condition = condition;
	request->refusal.text = text;
	return IRIS_REFUSE;
}

static bool
find_name(const char *(*name)(int), int count, struct iris_str text, int *index_r)
{
	for (int i = 0; i < count; i++)
		if (str_is(text, name(i))) {
			*index_r = i;
			return true;
		}
	return false;
}

static const char *
affiliation_name(int i)
{
	return room_affiliation_name((enum room_affiliation)i);
}

static const char *
role_name(int i)
{
	return room_role_name((enum room_role)i);
}

/* §8, §9: what a room that is not there, or that one may not know of, gives. */
static struct room *
request_room(struct iris_request *request)
{
	struct room *room = room_of(request->place);

	return discovery_may_know(room, &request->stanza->from) ? room : NULL;
}

static void
call_begin(struct admin_call *call, struct iris_request *request, struct room *room)
{
	const struct iris_jid *from = &request->stanza->from;

	*call = (struct admin_call){ .request = request, .room = room, .from = *from };
	call->bare = jid_with_resource(request->arena, from, IRIS_STR_NONE);
	call->actor.affiliation = room_affiliation(room, from);
	call->actor.role = room_role(room, from);
}

/* --- lists --- */

static enum iris_condition
may_list_affiliation(const struct admin_call *call, enum room_affiliation affiliation)
{
	enum room_affiliation own = call->actor.affiliation;
	bool may;

	if (affiliation == ROOM_NONE)
		return IRIS_BAD_REQUEST;
	if (affiliation == ROOM_OUTCAST) /* §9.2 */
		may = own >= ROOM_ADMIN;
	else if (affiliation == ROOM_MEMBER) /* §9.5 */
		may = affiliation_may_list(call->room, &call->from);
	else /* §10.5, §10.8: owners; others where addresses are shown */
		may = own == ROOM_OWNER ||
		      (call->room->config.numbers[ROOM_CONFIG_WHOIS] == ROOM_WHOIS_ANYONE &&
		       affiliation_may_list(call->room, &call->from));
	return may ? IRIS_NO_ERROR : IRIS_FORBIDDEN;
}

static enum iris_condition
may_list_role(const struct admin_call *call, enum room_role role)
{
	if (role == ROOM_NO_ROLE)
		return IRIS_BAD_REQUEST;
	if (call->actor.affiliation >= ROOM_ADMIN) /* §9.8 */
		return IRIS_NO_ERROR;
	return role != ROOM_MODERATOR && call->actor.role == ROOM_MODERATOR ? /* §8.5 */
		       IRIS_NO_ERROR :
		       IRIS_FORBIDDEN;
}

static void
list_affiliation(const struct admin_call *call, enum room_affiliation affiliation,
		 struct iris_element *query)
{
	HASH_FOREACH(node, &call->room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);
		struct iris_element *item;

		if (affiliate->affiliation != affiliation)
			continue;
		item = element_add(query, "item", NULL);
		element_set(item, "affiliation", str_from(room_affiliation_name(affiliation)));
		element_set(item, "jid", jid_full(&affiliate->jid));
		element_set(item, "nick", str_from(affiliate->nick));
		if (affiliate->reason && call->actor.affiliation >= ROOM_ADMIN)
			element_add_text(item, "reason", NULL, str_from(affiliate->reason));
	}
}

static void
list_role(const struct admin_call *call, enum room_role role, struct iris_element *query)
{
	HASH_FOREACH(node, &call->room->occupants) {
		const struct room_occupant *occupant =
			IRIS_CONTAINER(node, struct room_occupant, node);
		struct iris_element *item;

		if (occupant->role != role)
			continue;
		item = element_add(query, "item", NULL);
		element_set(item, "affiliation",
			    str_from(room_affiliation_name(
				    room_affiliation(call->room, &occupant->bare))));
		if (call->actor.affiliation >= ROOM_ADMIN ||
		    sees_addresses(call->room, call->actor.role))
			element_set(item, "jid",
				    jid_full(&TAILQ_FIRST(&occupant->sessions)->jid));
		element_set(item, "nick", jid_resource(&occupant->jid));
		element_set(item, "role", str_from(room_role_name(role)));
	}
}

enum iris_verdict
admin_get(struct iris_request *request)
{
	struct room *room = request_room(request);
	struct iris_element *item = element_child(request->payload, "item", NULL), *query;
	enum iris_condition condition = IRIS_BAD_REQUEST;
	struct admin_call call;
	int asked;

	if (!room)
		return refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
	if (!item)
		return refuse(request, IRIS_BAD_REQUEST, NULL);
	call_begin(&call, request, room);
	query = element_new(request->arena, "query", NS_MUC_ADMIN);
	if (find_name(affiliation_name, ROOM_AFFILIATION_COUNT, element_get(item, "affiliation"),
		      &asked)) {
		condition = may_list_affiliation(&call, (enum room_affiliation)asked);
		if (condition == IRIS_NO_ERROR)
			list_affiliation(&call, (enum room_affiliation)asked, query);
	} else if (find_name(role_name, ROOM_ROLE_COUNT, element_get(item, "role"), &asked)) {
		condition = may_list_role(&call, (enum room_role)asked);
		if (condition == IRIS_NO_ERROR)
			list_role(&call, (enum room_role)asked, query);
	}
	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition, NULL);
	request->reply = query;
	return IRIS_DONE;
}

/* --- what is asked --- */

static enum iris_condition
read_reason(const struct iris_element *item, struct iris_str *reason_r)
{
	*reason_r = element_child_text(item, "reason", NULL);
	return reason_r->len <= ROOM_REASON_MAX ? IRIS_NO_ERROR : IRIS_NOT_ACCEPTABLE;
}

/* Whom an item means: its address, or the occupant of its nick. */
static enum iris_condition
read_jid(const struct admin_call *call, const struct iris_element *item, struct iris_jid *bare_r)
{
	struct iris_str text = element_get(item, "jid"), nick = element_get(item, "nick");
	const struct room_occupant *occupant;
	struct iris_jid jid;

	if (!str_is_none(text)) {
		if (!jid_parse(call->request->arena, text, &jid))
			return IRIS_JID_MALFORMED;
		*bare_r = jid_with_resource(call->request->arena, &jid, IRIS_STR_NONE);
		return IRIS_NO_ERROR;
	}
	if (str_is_empty(nick))
		return IRIS_BAD_REQUEST;
	occupant = occupant_find(call->room, nick);
	if (!occupant)
		return IRIS_ITEM_NOT_FOUND;
	*bare_r = jid_copy(call->request->arena, &occupant->bare);
	return IRIS_NO_ERROR;
}

/* The nick that is reserved with a membership (§9.3); empty: none any more (§9.5). */
static enum iris_condition
read_nick(const struct admin_call *call, const struct iris_element *item,
	  const struct iris_jid *bare, struct iris_str *nick_r)
{
	struct iris_str nick = element_get(item, "nick");

	*nick_r = IRIS_STR_NONE;
	if (str_is_none(nick) || str_is_none(element_get(item, "jid")))
		return IRIS_NO_ERROR;
	if (nick.len > 0)
		return register_check_nick(call->room, nick, bare, call->request->arena, nick_r);
	*nick_r = nick;
	return IRIS_NO_ERROR;
}

static enum iris_condition
read_affiliation(struct admin_call *call, const struct iris_element *item,
		 enum room_affiliation after)
{
	struct room_affiliate_change *change = &call->affiliations[call->affiliation_count];
	enum iris_condition condition;

	/* SECURITY: who may change no affiliation learns nothing of nicks and addresses. */
	if (call->actor.affiliation < ROOM_ADMIN)
		return IRIS_FORBIDDEN;
	condition = read_jid(call, item, &change->jid);
	if (condition == IRIS_NO_ERROR)
		condition = read_nick(call, item, &change->jid, &change->nick);
	if (condition == IRIS_NO_ERROR)
		condition = read_reason(item, &change->reason);
	if (condition != IRIS_NO_ERROR)
		return condition;
	change->after = after;
	call->affiliation_count++;
	return IRIS_NO_ERROR;
}

static enum iris_condition
read_role(struct admin_call *call, const struct iris_element *item, enum room_role after)
{
	struct role_change *change = &call->roles[call->role_count];
	struct iris_str nick = element_get(item, "nick");
	const struct room_occupant *occupant;
	struct room_actor target;
	enum iris_condition condition;
	struct iris_jid bare;

	/* SECURITY: who may change no role learns nothing of nicks. */
	if (call->actor.role != ROOM_MODERATOR && call->actor.affiliation < ROOM_ADMIN)
		return IRIS_FORBIDDEN;
	if (str_is_empty(nick)) {
		condition = read_jid(call, item, &bare);
		if (condition != IRIS_NO_ERROR)
			return condition;
		occupant = occupant_of(call->room, &bare);
	} else {
		occupant = occupant_find(call->room, nick);
	}
	if (!occupant)
		return IRIS_ITEM_NOT_FOUND;
	condition = read_reason(item, &change->reason);
	if (condition != IRIS_NO_ERROR)
		return condition;
	change->nick = arena_copy_str(call->request->arena, jid_resource(&occupant->jid));
	change->after = after;
	call->role_count++;
	target.role = occupant->role;
	target.affiliation = room_affiliation(call->room, &occupant->bare);
	return judge_role(&call->actor, &target, after);
}

/* An item changes an affiliation or a role, never both. */
static enum iris_condition
read_item(struct admin_call *call, const struct iris_element *item)
{
	struct iris_str affiliation = element_get(item, "affiliation");
	struct iris_str role = element_get(item, "role");
	int after;

	if (str_is_none(affiliation) == str_is_none(role))
		return IRIS_BAD_REQUEST;
	if (!str_is_none(role))
		return find_name(role_name, ROOM_ROLE_COUNT, role, &after) ?
			       read_role(call, item, (enum room_role)after) :
			       IRIS_BAD_REQUEST;
	return find_name(affiliation_name, ROOM_AFFILIATION_COUNT, affiliation, &after) ?
		       read_affiliation(call, item, (enum room_affiliation)after) :
		       IRIS_BAD_REQUEST;
}

static enum iris_condition
read_items(struct admin_call *call)
{
	struct iris_element *item = element_child(call->request->payload, "item", NULL);
	struct iris_arena *arena = call->request->arena;
	enum iris_condition condition = IRIS_NO_ERROR;
	size_t count = 0;

	for (struct iris_element *each = item; each; each = element_next(each, "item", NULL))
		count++;
	if (count == 0 || count > ITEMS_MAX)
		return count == 0 ? IRIS_BAD_REQUEST : IRIS_NOT_ACCEPTABLE;
	call->affiliations = arena_alloc(arena, count * sizeof(*call->affiliations));
	call->roles = arena_alloc(arena, count * sizeof(*call->roles));
	for (; item && condition == IRIS_NO_ERROR; item = element_next(item, "item", NULL))
		condition = read_item(call, item);
	return condition;
}

/* --- what is done --- */

static void
change_role(const struct admin_call *call, const struct role_change *change)
{
	struct room_occupant *occupant = occupant_find(call->room, change->nick);
	struct room_news news = { .actor = &call->from, .reason = change->reason };

	if (!occupant || occupant->role == change->after)
		return;
	if (change->after == ROOM_NO_ROLE) { /* §8.2 */
		news.status[0] = 307;
		occupant_put_out(&occupant, &news);
	} else {
		occupant_set_role(occupant, change->after, &news);
	}
}

static enum iris_condition
ask_policy(const struct admin_call *call, const char **text_r)
{
	const struct room_policy *policy = room_policy(call->room);

	if (call->role_count == 0 || !policy || !policy->may)
		return IRIS_NO_ERROR;
	return policy->may(call->room, ROOM_MODERATE, &call->bare, text_r);
}

enum iris_verdict
admin_set(struct iris_request *request)
{
	struct room *room = request_room(request);
	enum iris_condition condition;
	const char *text = NULL;
	struct admin_call call;

	if (!room)
		return refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
	call_begin(&call, request, room);
	condition = read_items(&call);
	if (condition == IRIS_NO_ERROR)
		condition = ask_policy(&call, &text);
	if (condition == IRIS_NO_ERROR && call.affiliation_count > 0)
		condition = room_change(&(struct room_change){ .room = room,
							       .by = call.bare,
							       .is_judged = true,
							       .items = call.affiliations,
							       .count = call.affiliation_count,
							       .arena = request->arena },
					&text);
	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition, text);
	for (size_t i = 0; i < call.role_count; i++)
		change_role(&call, &call.roles[i]);
	return IRIS_DONE;
}
