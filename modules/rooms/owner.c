/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §10.1.2, §10.1.3, §10.2, §10.9: an owner gets and sets the configuration, or destroys
 * the room, in muc#owner.  On a fiber, at the room's home.  Affiliations are admin.c's: what the
 * form may say of them (roomadmins, roomowners) is not read.
 */
#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"

static enum iris_verdict
refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal.condition = condition;
	request->refusal.text = text;
	return IRIS_REFUSE;
}

static enum iris_verdict
finish(struct iris_request *request, enum iris_condition condition, const char *text)
{
	return condition == IRIS_NO_ERROR ? IRIS_DONE : refuse(request, condition, text);
}

/* The room, if it is the asker's to configure; else the refusal. */
static struct room *
owned_room(struct iris_request *request)
{
	struct room *room = room_of(request->place);

	if (!discovery_may_know(room, &request->stanza->from)) {
		refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
		return NULL;
	}
	if (room_affiliation(room, &request->stanza->from) != ROOM_OWNER) {
		refuse(request, IRIS_FORBIDDEN, NULL);
		return NULL;
	}
	return room;
}

static enum iris_condition
ask_policy(struct room *room, enum room_action action, const struct iris_jid *bare,
	   const char **text_r)
{
	const struct room_policy *policy = room_policy(room);

	return policy && policy->may ? policy->may(room, action, bare, text_r) : IRIS_NO_ERROR;
}

enum iris_verdict
owner_get(struct iris_request *request)
{
	struct room *room = owned_room(request);

	if (!room)
		return IRIS_REFUSE;
	request->reply = element_new(request->arena, "query", NS_MUC_OWNER);
	room_config_add_form(request->reply, &room->config);
	return IRIS_DONE;
}

/* --- destroying (§10.9) --- */

static enum iris_condition
read_destroy(struct iris_arena *arena, const struct iris_element *asked,
	     struct iris_element **destroy_r)
{
	struct iris_str alternate = element_get(asked, "jid");
	struct iris_str reason = element_child_text(asked, "reason", NULL);
	struct iris_str password = element_child_text(asked, "password", NULL);
	struct iris_element *destroy = element_new(arena, "destroy", NS_MUC_USER);
	struct iris_jid jid;

	*destroy_r = destroy;
	if (reason.len > ROOM_REASON_MAX || password.len > ROOM_REASON_MAX)
		return IRIS_NOT_ACCEPTABLE;
	if (!str_is_none(alternate)) {
		if (!jid_parse(arena, alternate, &jid))
			return IRIS_JID_MALFORMED;
		element_set(destroy, "jid", jid_full(&jid));
	}
	if (!str_is_empty(password))
		element_add_text(destroy, "password", NULL, password);
	if (!str_is_empty(reason))
		element_add_text(destroy, "reason", NULL, reason);
	return IRIS_NO_ERROR;
}

static enum iris_verdict
owner_destroy(struct iris_request *request, struct room *room, const struct iris_element *asked)
{
	struct iris_jid bare = jid_with_resource(request->arena, &request->stanza->from,
						 IRIS_STR_NONE);
	struct iris_element *destroy;
	const char *text = NULL;
	enum iris_condition condition = read_destroy(request->arena, asked, &destroy);

	if (condition == IRIS_NO_ERROR)
		condition = ask_policy(room, ROOM_DESTROY, &bare, &text);
	if (condition == IRIS_NO_ERROR)
		condition = room_destroy_as(room, &bare, destroy);
	return finish(request, condition, text);
}

/* --- configuring --- */

/* Of a room that was never configured: it goes. Else nothing was begun. */
static enum iris_verdict
owner_cancel(struct iris_request *request, struct room *room)
{
	struct iris_jid bare;

	if (room->state != ROOM_LOCKED)
		return IRIS_DONE;
	bare = jid_with_resource(request->arena, &request->stanza->from, IRIS_STR_NONE);
	return finish(request,
		      room_destroy_as(room, &bare,
				      element_new(request->arena, "destroy", NS_MUC_USER)),
		      NULL);
}

static bool
is_config_form(const struct iris_element *form)
{
	struct iris_str type = form_value(form, "FORM_TYPE");

	return str_is_none(type) || str_is(type, NS_MUC "#roomconfig");
}

static enum iris_verdict
owner_submit(struct iris_request *request, struct room *room, const struct iris_element *form)
{
	const struct room_policy *policy = room_policy(room);
	struct iris_jid bare = jid_with_resource(request->arena, &request->stanza->from,
						 IRIS_STR_NONE);
	struct room_config config;
	enum iris_condition condition;
	const char *text = NULL;
	bool locked = room->state == ROOM_LOCKED;

	if (locked && !element_child(form, "field", NS_DATA)) { /* §10.1.2: an instant room */
		room_open(room);
		return IRIS_DONE;
	}
	if (!is_config_form(form))
		return refuse(request, IRIS_BAD_REQUEST, NULL);
	condition = ask_policy(room, ROOM_CONFIGURE, &bare, &text);
	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition, text);
	room_config_copy(&config, &room->config);
	condition = room_config_submit(&config, form, policy ? policy->fixed_config : NULL, &text);
	if (condition != IRIS_NO_ERROR)
		room_config_free(&config);
	else
		condition = room_reconfigure(room, &bare, &config);
	if (condition == IRIS_NO_ERROR && locked && room_exists(room))
		room_open(room);
	if (text)
		text = arena_copy_str(request->arena, str_from(text)).base;
	return finish(request, condition, text);
}

enum iris_verdict
owner_set(struct iris_request *request)
{
	struct room *room = owned_room(request);
	struct iris_element *asked = element_child(request->payload, NULL, NULL);
	struct iris_str type;

	if (!room)
		return IRIS_REFUSE;
	if (asked && element_is(asked, "destroy", NS_MUC_OWNER))
		return owner_destroy(request, room, asked);
	if (!asked || !element_is(asked, "x", NS_DATA))
		return refuse(request, IRIS_BAD_REQUEST, NULL);
	type = element_get(asked, "type");
	if (str_is(type, "cancel"))
		return owner_cancel(request, room);
	return str_is(type, "submit") ? owner_submit(request, room, asked) :
					refuse(request, IRIS_BAD_REQUEST, NULL);
}
