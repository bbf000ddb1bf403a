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

static const struct iris_feature moderation_features[] = {
	{ IRIS_DISCO_PLACE, NS_MODERATE },
	{ .var = NULL },
};

static const struct iris_iq moderation_iq[] = {
	{ IRIS_TO_PLACE, IRIS_SET, "moderate", NS_MODERATE, IRIS_ANYONE, moderation_set },
	{ .name = NULL },
};

const struct iris_module iris_module_xep0425 = {
	IRIS_MODULE_HEAD,
	.name = "xep0425",
	.summary = "Moderated Message Retraction",
	.xep = "XEP-0425 0.3.0",
	.needs = IRIS_NAMES("rooms"),
	.self = &moderation_self,
	.features = moderation_features,
	.iq = moderation_iq,
};
