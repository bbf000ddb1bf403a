/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0425 0.3: Moderated Message Retraction: what moderators ask of a room.  Home worker of the
 * room, on the fiber of the request.  What follows (who may, the tombstone, who is told) is the
 * room's: modules/rooms/retract.c.
 *
 * It does not do: other actions on messages than taking them back; the XEP has none yet.
 */
#include "modules/rooms/rooms.h"
#include "xep/payloads.h"
#include "xep/xep0004_forms.h"

static struct iris_module_self moderation_self;

/* §3: a request names one message, and what is to be done to it. */
static enum iris_verdict
moderation_set(struct iris_request *request)
{
	struct room *room = room_of(request->place);
	const struct iris_element *moderate = request->payload;
	struct room_moderation moderation = {
		.by = request->stanza->from,
		.id = element_get(moderate, "id"),
		.reason = element_child_text(moderate, "reason", NS_MODERATE),
		.ticket = request->ticket,
	};

	if (!room)
		request->refusal.condition = IRIS_SERVICE_UNAVAILABLE;
	else if (str_is_empty(moderation.id))
		request->refusal.condition = IRIS_BAD_REQUEST;
	else if (!element_child(moderate, "retract", NS_RETRACT))
		request->refusal.condition = IRIS_FEATURE_NOT_IMPLEMENTED;
	else
		request->refusal.condition =
			room_moderate(room, &moderation, &request->refusal.text);
	return request->refusal.condition == IRIS_NO_ERROR ? IRIS_DONE : IRIS_REFUSE;
}

/* §2: of rooms that keep what is said; whether the room may be known of was asked before. */
static enum iris_verdict
moderation_disco_info(struct iris_discovery *discovery)
{
	struct iris_place *place = discovery->request->place;
	const struct room *room = place ? room_of(place) : NULL;

	if (room && room_exists(room) && str_is_none(discovery->node) &&
	    form_value_is_true(room_config_get(room, "enablelogging")))
		element_set(element_add(discovery->query, "feature", NULL), "var",
			    IRIS_STR(NS_MODERATE));
	return IRIS_PASS;
}

static const struct iris_iq moderation_iq[] = {
	{ IRIS_TO_PLACE, IRIS_SET, "moderate", NS_MODERATE, IRIS_ANYONE, moderation_set },
	{ .name = NULL },
};

static const struct iris_hook_handler moderation_hooks[] = {
	HOOK(disco_info, IRIS_NEUTRAL, moderation_disco_info),
	HOOKS_END,
};

const struct iris_module iris_module_xep0425 = {
	IRIS_MODULE_HEAD,
	.name = "xep0425",
	.summary = "Moderated Message Retraction",
	.xep = "XEP-0425 0.3.0",
	.needs = IRIS_NAMES("rooms", "xep0004"),
	.self = &moderation_self,
	.iq = moderation_iq,
	.hooks = moderation_hooks,
};
