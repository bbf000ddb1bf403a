/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An account is removed: what it is to rooms goes.  On a fiber at the account's home, one room
 * after the other at theirs.
 *
 * A plain room whose last owner goes is its oldest admin's, else its oldest member's; one without
 * either is destroyed: nobody could ever configure it again.  Rooms with a policy stay as they are:
 * the policy, which hears of the removal before, decides.
 */
#include "modules/rooms/rooms_private.h"

#define ROOMS_PAGE 50

struct leaving {
	struct iris_jid room, jid; /* bare; whose account it was */
	bool failed;
};

/* Who has been an admin, or a member, for longest. */
static const struct room_affiliate *
find_heir(const struct room *room, const struct iris_jid *but)
{
	const struct room_affiliate *heir = NULL;

	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		if (affiliate->affiliation < ROOM_MEMBER || jid_equal(&affiliate->jid, but))
			continue;
		if (!heir || affiliate->affiliation > heir->affiliation ||
		    (affiliate->affiliation == heir->affiliation &&
		     affiliate->version < heir->version))
			heir = affiliate;
	}
	return heir;
}

static bool
is_last_owner(const struct room *room, const struct iris_jid *jid)
{
	return room_affiliation(room, jid) == ROOM_OWNER &&
	       room_affiliation_count(room, ROOM_OWNER) == 1;
}

static enum iris_condition
leave_room(struct room *room, const struct iris_jid *jid)
{
	struct iris_arena *arena = arena_new();
	struct room_affiliate_change items[2] = { { .jid = *jid, .after = ROOM_NONE } };
	struct room_change change = { .room = room, .by = IRIS_JID_NONE, .items = items,
				      .count = 1, .arena = arena };
	bool needs_owner = !room_policy(room) && is_last_owner(room, jid);
	const struct room_affiliate *heir = needs_owner ? find_heir(room, jid) : NULL;
	enum iris_condition condition;
	const char *text;

	if (needs_owner && !heir) {
		condition = room_destroy(room, &IRIS_JID_NONE, IRIS_STR_NONE, NULL);
	} else {
		if (heir)
			items[change.count++] = (struct room_affiliate_change){
				.jid = jid_copy(arena, &heir->jid), .after = ROOM_OWNER };
		condition = room_change(&change, &text);
	}
	arena_unref(&arena);
	return condition;
}

static void
leave_run(void *arg)
{
	struct leaving *leaving = arg;
	struct room *room;

	switch (room_seek(&leaving->room, &room)) {
	case IRIS_PLACE_FOUND:
		leaving->failed = leave_room(room, &leaving->jid) != IRIS_NO_ERROR;
		room_release(&room);
		break;
	case IRIS_PLACE_FAILED:
		leaving->failed = true;
		break;
	case IRIS_PLACE_NOBODY:
		break;
	}
}

enum iris_verdict
rooms_account_removed(struct iris_account_removed *removed)
{
	struct room_listed rooms[ROOMS_PAGE];
	struct leaving leaving = { .jid = removed->jid };
	int64_t after = 0;
	size_t count;

	do {
		struct iris_arena *arena = arena_new();
		bool read = store_rooms_of(&removed->jid, after, arena, rooms, ROOMS_PAGE, &count);

		for (size_t i = 0; read && i < count && !leaving.failed; i++) {
			after = rooms[i].id;
			leaving.room = rooms[i].jid;
			if (!jid_is_none(&leaving.room))
				home_call(jid_bare(&leaving.room), "room: account removed",
					  leave_run, &leaving);
		}
		arena_unref(&arena);
		if (!read || leaving.failed)
			return IRIS_REFUSE;
	} while (count == ROOMS_PAGE);
	return IRIS_PASS;
}
