/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a room for members who are not in it: what is said is in the archive for them, and a
 * push (XEP-0357) tells them that something is there.  Home worker of the room; never waits.
 *
 * Who they are is found out when a message needs it and somebody has come, gone, or become or
 * ceased to be a member since; it is kept as an audience by homes.
 */
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"
#include "xep/payloads.h"
#include "xep/xep0357_push.h"

static void
absent_find(struct room *room)
{
	struct iris_jid *absent = iris_calloc(room->affiliates.count + 1, sizeof(*absent));
	size_t count = 0;

	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		if (affiliate->affiliation >= ROOM_MEMBER &&
		    host_find(jid_domain(&affiliate->jid)) &&
		    !occupant_of(room, &affiliate->jid))
			absent[count++] = affiliate->jid;
	}
	room->absent = count > 0 ? push_audience_new(absent, count) : NULL;
	room->absent_is_known = true;
	free(absent);
}

void
absent_tell(struct room *room, struct iris_stanza *message)
{
	if (!room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] || !message_is_news(message->root))
		return;
	if (!room->absent_is_known)
		absent_find(room);
	if (room->absent)
		push_audience_tell(room->absent, message);
}

void
absent_changed(struct room *room)
{
	push_audience_unref(&room->absent);
	room->absent_is_known = false;
}
