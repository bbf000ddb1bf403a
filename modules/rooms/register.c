/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §7.10: who registers becomes a member and has a nick reserved; where only members may
 * enter, when an admin has said so (§9.9).  On a fiber, at the room's home.
 */
#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0077_register.h"

#define NS_MUC_REGISTER NS_MUC "#register"

static enum iris_verdict
refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal.condition = condition;
	request->refusal.text = text;
	return IRIS_REFUSE;
}

/* May this address register at all? A member may always give its nick back. */
static enum iris_condition
register_judge(struct room *room, const struct iris_jid *bare, const char **text_r)
{
	const struct room_policy *policy = room_policy(room);
	enum room_affiliation affiliation = room_affiliation(room, bare);

	if (affiliation == ROOM_OUTCAST)
		return IRIS_FORBIDDEN;
	if (affiliation == ROOM_NONE && !room->config.numbers[ROOM_CONFIG_REGISTER])
		return IRIS_NOT_ALLOWED;
	return policy && policy->may ? policy->may(room, ROOM_REGISTER, bare, text_r) :
				       IRIS_NO_ERROR;
}

static struct room *
register_room(struct iris_request *request, struct iris_jid *bare_r)
{
	struct room *room = room_of(request->place);
	const char *text = NULL;
	enum iris_condition condition = IRIS_NO_ERROR;

	*bare_r = jid_with_resource(request->arena, &request->stanza->from, IRIS_STR_NONE);
	if (!discovery_may_know(room, bare_r))
		condition = IRIS_ITEM_NOT_FOUND;
	else
		condition = register_judge(room, bare_r, &text);
	if (condition == IRIS_NO_ERROR)
		return room;
	refuse(request, condition, text);
	return NULL;
}

static void
add_form(struct iris_element *query)
{
	struct iris_element *form = form_add(query, "form", NS_MUC_REGISTER), *field;

	form_set_title(form, IRIS_STR("Registration with the room"),
		       IRIS_STR("Choose the nick that is to be yours in this room."));
	field = form_add_field(form, "text-single", "muc#register_roomnick", IRIS_STR_NONE);
	form_field_set_label(field, IRIS_STR("Nick"));
	form_field_set_required(field);
}

enum iris_verdict
register_get(struct iris_request *request)
{
	struct iris_jid bare;
	struct room *room = register_room(request, &bare);
	const struct room_affiliate *affiliate;
	struct iris_element *query;

	if (!room)
		return IRIS_REFUSE;
	affiliate = room_affiliate(room, jid_bare(&bare));
	query = element_new(request->arena, "query", NS_REGISTER);
	if (affiliate && affiliate->nick) {
		element_add(query, "registered", NULL);
		element_add_text(query, "username", NULL, str_from(affiliate->nick));
	} else {
		element_add_text(query, "instructions", NULL,
				 IRIS_STR("Choose the nick that is to be yours in this room."));
		add_form(query);
	}
	request->reply = query;
	return IRIS_DONE;
}

/* --- registering --- */

enum iris_condition
register_check_nick(const struct room *room, struct iris_str nick, const struct iris_jid *bare,
		    struct iris_arena *arena, struct iris_str *nick_r)
{
	const struct room_affiliate *holder;
	const struct room_occupant *occupant;
	struct iris_jid jid;

	if (!jid_make(arena, jid_node(&room->jid), jid_domain(&room->jid), nick, &jid) ||
	    jid_is_bare(&jid))
		return IRIS_JID_MALFORMED;
	*nick_r = jid_resource(&jid);
	holder = room_affiliate_by_nick(room, *nick_r);
	occupant = occupant_find(room, *nick_r);
	if ((holder && !jid_bare_equal(&holder->jid, bare)) ||
	    (occupant && !jid_bare_equal(&occupant->bare, bare)))
		return IRIS_CONFLICT;
	return IRIS_NO_ERROR;
}

static enum iris_condition
change_one(struct room *room, const struct iris_jid *by, struct room_affiliate_change *item,
	   const char **text_r)
{
	struct iris_arena *arena = arena_new();
	struct room_change change = { .room = room, .by = *by, .items = item, .count = 1,
				      .arena = arena };
	enum iris_condition condition = room_change(&change, text_r);

	arena_unref(&arena);
	return condition;
}

enum iris_condition
register_member(struct room *room, const struct iris_jid *by, const struct iris_jid *bare,
		struct iris_str nick, const char **text_r)
{
	enum room_affiliation affiliation = room_affiliation(room, bare);
	struct room_affiliate_change item = {
		.jid = *bare, .nick = nick,
		.after = affiliation == ROOM_NONE ? ROOM_MEMBER : affiliation,
	};

	return affiliation == ROOM_OUTCAST ? IRIS_FORBIDDEN :
					     change_one(room, by, &item, text_r);
}

/* XEP-0077 §3.2: the nick is given back, and with it a membership; who is more stays that. */
static enum iris_condition
unregister(struct room *room, const struct iris_jid *bare, const char **text_r)
{
	enum room_affiliation affiliation = room_affiliation(room, bare);
	struct room_affiliate_change item = {
		.jid = *bare, .nick = IRIS_STR(""),
		.after = affiliation == ROOM_MEMBER ? ROOM_NONE : affiliation,
	};

	if (!room_affiliate(room, jid_bare(bare)))
		return IRIS_REGISTRATION_REQUIRED;
	return change_one(room, bare, &item, text_r);
}

static enum iris_condition
register_submit(struct room *room, struct iris_request *request, const struct iris_jid *bare,
		const char **text_r)
{
	struct iris_element *form = form_find(request->payload, "submit");
	struct iris_str nick = form ? form_value(form, "muc#register_roomnick") : IRIS_STR_NONE;
	enum iris_condition condition;

	if (!form || !form_is_type(form, NS_MUC_REGISTER) || str_is_none(nick))
		return IRIS_BAD_REQUEST;
	condition = register_check_nick(room, nick, bare, request->arena, &nick);
	if (condition != IRIS_NO_ERROR)
		return condition;
	if (room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] &&
	    room_affiliation(room, bare) < ROOM_MEMBER) {
		invite_ask_admins(room, bare, nick);
		return IRIS_NO_ERROR;
	}
	return register_member(room, bare, bare, nick, text_r);
}

enum iris_verdict
register_set(struct iris_request *request)
{
	struct iris_jid bare;
	struct room *room = register_room(request, &bare);
	enum iris_condition condition;
	const char *text = NULL;

	if (!room)
		return IRIS_REFUSE;
	condition = element_child(request->payload, "remove", NS_REGISTER) ?
			    unregister(room, &bare, &text) :
			    register_submit(room, request, &bare, &text);
	return condition == IRIS_NO_ERROR ? IRIS_DONE : refuse(request, condition, text);
}
