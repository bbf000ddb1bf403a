/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0486 0.1: the picture of a room, in a vCard (XEP-0054) that owners set.  Home worker of the
 * room, on the fiber of a request.  The hashes of its pictures stand in the room's disco#info; that
 * they are others is told like a change of configuration (104), not in presence (§6.2).
 */
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0054_vcard.h"

#define VCARD_MAX 131072 /* bytes, serialised */
#define PHOTOS_MAX 8     /* the same picture in several formats (§6.1) */

struct iris_query room_vcard_load_query = {
	.name = "rooms.vcard", .table = "room_vcards", .key = "room",
	.sql = "SELECT room, value FROM room_vcards WHERE room = $1",
	.params = { { "room", IRIS_INT } },
	.columns = { { "room", IRIS_INT }, { "value", IRIS_SEALED } },
};

struct iris_query room_vcard_hashes_query = {
	.name = "rooms.vcard_hashes", .table = "room_vcards", .key = "room",
	.sql = "SELECT room, hashes FROM room_vcards WHERE room = $1",
	.params = { { "room", IRIS_INT } },
	.columns = { { "room", IRIS_INT }, { "hashes", IRIS_SEALED } },
};

struct iris_query room_vcard_store_query = {
	.name = "rooms.vcard_store", .table = "room_vcards", .key = "room", .write = true,
	.sql = "INSERT INTO room_vcards (room, owner, value, hashes) VALUES ($1, $2, $3, $4) "
	       "ON CONFLICT (room) DO UPDATE SET value = excluded.value, hashes = excluded.hashes",
	.params = { { "room", IRIS_INT }, { "owner", IRIS_INT }, { "value", IRIS_SEALED },
		    { "hashes", IRIS_SEALED } },
};

struct iris_query room_vcard_drop_query = {
	.name = "rooms.vcard_drop", .table = "room_vcards", .write = true,
	.sql = "DELETE FROM room_vcards WHERE room = $1",
	.params = { { "room", IRIS_INT } },
};

static enum iris_verdict
vcard_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/* --- hashes --- */

/* Of one <PHOTO/>; none: it has no picture that can be read. */
static struct iris_str
photo_hash(struct iris_arena *arena, const struct iris_element *photo)
{
	struct iris_element *vcard = element_new(arena, "vCard", NS_VCARD);
	struct iris_str bytes, type;

	element_append(vcard, element_copy(arena, photo));
	return vcard_photo(arena, vcard, &bytes, &type) ? vcard_photo_hash(arena, bytes) :
							  IRIS_STR_NONE;
}

static struct iris_str
vcard_hashes(struct iris_arena *arena, const struct iris_element *vcard)
{
	struct iris_strbuf hashes = STRBUF_INIT(arena);
	unsigned count = 0;

	for (struct iris_element *photo = element_child(vcard, "PHOTO", NS_VCARD);
	     photo && count < PHOTOS_MAX; photo = element_next(photo, "PHOTO", NS_VCARD)) {
		struct iris_str hash = photo_hash(arena, photo);

		if (str_is_none(hash))
			continue;
		if (count++ > 0)
			strbuf_add_char(&hashes, '\n');
		strbuf_add(&hashes, hash);
	}
	return count > 0 ? strbuf_str(&hashes) : IRIS_STR_NONE;
}

void
room_vcard_take(struct room *room, struct iris_str hashes)
{
	free(room->avatar);
	room->avatar = str_is_empty(hashes) ? NULL : str_dup(hashes);
}

void
room_vcard_add_field(struct iris_element *form, const struct room *room)
{
	const char *line = room->avatar, *end;
	struct iris_element *field;

	if (!line)
		return;
	field = form_add_field(form, "text-multi", "muc#roominfo_avatarhash", IRIS_STR_NONE);
	for (; line; line = end ? end + 1 : NULL) {
		end = strchr(line, '\n');
		form_field_add_value(field,
				     (struct iris_str){ line, end ? (size_t)(end - line) :
								    strlen(line) });
	}
}

/* --- requests --- */

enum iris_verdict
room_vcard_get(struct iris_request *request)
{
	struct room *room = room_of(request->place);
	struct iris_rows rows;

	if (!room_exists(room) || !discovery_may_know(room, &request->stanza->from))
		return vcard_refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
	if (vault_read(&room_vcard_load_query, room->owner, VALUES(value_int(room->id)),
		       request->arena, &rows) != IRIS_VAULT_OK)
		return vcard_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
	if (rows.count > 0)
		request->reply = element_parse(request->arena, row_value(&rows, 0, 1)->bytes);
	return request->reply ? IRIS_DONE : vcard_refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
}

static bool
vcard_store(const struct room *room, const struct iris_element *vcard, struct iris_str text,
	    struct iris_str hashes)
{
	struct iris_value id = value_int(room->id);

	if (!element_child(vcard, NULL, NULL)) /* an empty one takes it away (§4.2) */
		return vault_write(&room_vcard_drop_query, room->owner, &id, NULL) ==
		       IRIS_VAULT_OK;
	return vault_write(&room_vcard_store_query, room->owner,
			   VALUES(id, value_int(room->owner), value_str(text), value_str(hashes)),
			   NULL) == IRIS_VAULT_OK;
}

/* §4.2: others than who set it see it in discovery. */
static void
vcard_announce(struct room *room)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);
	struct iris_element *x = element_add(message->root, "x", NS_MUC_USER);

	element_set(element_add(x, "status", NULL), "code", IRIS_STR("104"));
	room_send_all(room, &message, false, NULL);
}

static enum iris_condition
vcard_may_set(struct room *room, const struct iris_jid *bare, const char **text_r)
{
	const struct room_policy *policy = room_policy(room);

	if (!room_exists(room) || !discovery_may_know(room, bare))
		return IRIS_ITEM_NOT_FOUND;
	if (room_affiliation(room, bare) != ROOM_OWNER) {
		*text_r = "Only owners set the picture of a room";
		return IRIS_FORBIDDEN;
	}
	if (transit_is_on())
		return room_refuse_transit(text_r);
	return policy && policy->may ? policy->may(room, ROOM_CONFIGURE, bare, text_r) :
				       IRIS_NO_ERROR;
}

/* One after the other, so that what is stored last is shown. */
enum iris_verdict
room_vcard_set(struct iris_request *request)
{
	struct room *room = room_of(request->place);
	struct iris_jid bare = jid_from_prepared(jid_bare(&request->stanza->from));
	struct iris_strbuf text = STRBUF_INIT(request->arena);
	const char *why = NULL;
	enum iris_condition condition = vcard_may_set(room, &bare, &why);
	struct iris_str hashes;
	int64_t id = room->id;

	if (condition != IRIS_NO_ERROR)
		return vcard_refuse(request, condition, why);
	element_write(&text, request->payload, IRIS_STR_NONE);
	if (text.len > VCARD_MAX)
		return vcard_refuse(request, IRIS_NOT_ACCEPTABLE, "It is too large");
	hashes = vcard_hashes(request->arena, request->payload);
	fiber_lock(jid_bare(&room->jid));
	if (room->id != id) /* it was destroyed meanwhile */
		condition = IRIS_ITEM_NOT_FOUND;
	else if (!vcard_store(room, request->payload, strbuf_str(&text), hashes))
		condition = IRIS_RESOURCE_CONSTRAINT;
	else
		room_vcard_take(room, hashes);
	fiber_unlock(jid_bare(&room->jid));
	if (condition != IRIS_NO_ERROR)
		return vcard_refuse(request, condition, NULL);
	vcard_announce(room);
	return IRIS_DONE;
}
