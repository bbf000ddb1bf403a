/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive of a room (XEP-0313, "MUC Archives"): who may read it, and what of an entry who asks
 * may see.  Queries themselves are xep0313's.  Home worker of the room, on the fiber of a request.
 *
 * An entry is the message as it went to all, addressed to whoever said it: that address is taken
 * out before anybody sees it, and stands in <item jid=…/> for those who may know it.
 */
#include "modules/archive/archive.h"
#include "modules/rooms/rooms_private.h"
#include "xep/payloads.h"
#include "xep/xep0313_mam.h"

struct room_archive {
	struct mam_archive archive; /* first */
	struct room *room;
	bool sees_addresses;        /* who asks */
};

static const struct room_archive *
archive_of(const struct mam_archive *archive)
{
	return IRIS_CONTAINER(archive, const struct room_archive, archive);
}

/* --- what is seen --- */

static void
archive_settle_room(const struct mam_archive *archive)
{
	retract_settle(archive_of(archive)->room);
}

/*
 * §4.1.1. Of an occupant (its nick), or of the address of whoever said it.
 * SECURITY: the latter would tell who is behind a nick: it finds nothing for who may not know.
 */
static enum mam_match
archive_match(const struct mam_archive *archive, const struct iris_jid *with, int64_t *peer_r)
{
	if (jid_bare_equal(with, &archive->jid))
		return jid_is_bare(with) ? MAM_BY_INDEX : MAM_BY_LOOKING;
	if (!archive_of(archive)->sees_addresses || !jid_is_bare(with))
		return MAM_NOTHING;
	*peer_r = vault_peer_id(jid_bare(with));
	return MAM_BY_INDEX;
}

static void
archive_add_address(struct iris_stanza *message, const struct room *room,
		    const struct iris_jid *sender)
{
	struct iris_element *item =
		element_add(element_add(message->root, "x", NS_MUC_USER), "item", NULL);

	element_set(item, "affiliation",
		    str_from(room_affiliation_name(room_affiliation(room, sender))));
	element_set(item, "jid", jid_bare(sender));
}

static struct iris_stanza *
archive_show(const struct mam_archive *archive, const struct iris_log_entry *entry)
{
	struct iris_stanza *message = archive_entry_stanza(entry);
	const struct iris_jid *sender = message ? message_archived_sender(message) : NULL;

	if (!message)
		return NULL;
	if (sender && archive_of(archive)->sees_addresses && !jid_equal(sender, &archive->jid))
		archive_add_address(message, archive_of(archive)->room, sender);
	stanza_set_to(message, &IRIS_JID_NONE);
	return message;
}

static void
archive_give(struct iris_request *request, struct iris_stanza **message_p, int64_t log_id)
{
	route_stanza(message_p, NULL);
}

/* --- who may read --- */

/* Of who asks; who is not in has the role that entering would give. */
static enum room_role
archive_role(const struct room *room, const struct iris_jid *from)
{
	enum room_role role = room_role(room, from);

	return role != ROOM_NO_ROLE ? role : role_by_default(room, room_affiliation(room, from));
}

/* Members, also when they are not in; in rooms for everybody those who are. */
static enum iris_condition
archive_may_read(const struct room *room, const struct iris_jid *from)
{
	if (!room_exists(room) || !discovery_may_know(room, from))
		return IRIS_ITEM_NOT_FOUND;
	if (room_affiliation(room, from) < ROOM_MEMBER && room_role(room, from) == ROOM_NO_ROLE)
		return IRIS_FORBIDDEN;
	return room->config.numbers[ROOM_CONFIG_ARCHIVE] ? IRIS_NO_ERROR :
							   IRIS_FEATURE_NOT_IMPLEMENTED;
}

static bool
archive_open(struct iris_request *request, struct room_archive *archive_r)
{
	static const struct mam_archive_kind kind = {
		.settle = archive_settle_room,
		.match = archive_match,
		.show = archive_show,
		.give = archive_give,
	};
	struct room *room = room_of(request->place);
	const struct iris_jid *from = &request->stanza->from;

	request->refusal.condition = archive_may_read(room, from);
	if (request->refusal.condition != IRIS_NO_ERROR)
		return false;
	*archive_r = (struct room_archive){
		.archive = { .kind = &kind, .reader = room->id, .owner = room->owner,
			     .jid = room->jid },
		.room = room,
		.sees_addresses = sees_addresses(room, archive_role(room, from)),
	};
	return true;
}

/* --- requests --- */

enum iris_verdict
room_archive_query(struct iris_request *request)
{
	struct room_archive archive;

	if (!archive_open(request, &archive))
		return IRIS_REFUSE;
	return mam_answer_query(request, &archive.archive);
}

enum iris_verdict
room_archive_form(struct iris_request *request)
{
	struct room_archive archive;

	return archive_open(request, &archive) ? mam_answer_form(request) : IRIS_REFUSE;
}

enum iris_verdict
room_archive_metadata(struct iris_request *request)
{
	struct room_archive archive;

	if (!archive_open(request, &archive))
		return IRIS_REFUSE;
	return mam_answer_metadata(request, &archive.archive);
}

void
room_archive_add_info(struct iris_element *query, const struct room *room)
{
	static const char *const features[] = { NS_MAM, NS_MAM "#extended", NS_RETRACT,
						NS_RETRACT "#tombstone" };

	if (!room->config.numbers[ROOM_CONFIG_ARCHIVE])
		return;
	for (size_t i = 0; i < IRIS_COUNT(features); i++)
		element_set(element_add(query, "feature", NULL), "var", str_from(features[i]));
}
