/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P6.2: who may what in a bubble, as one table, and what a change of affiliations takes, as
 * another.  Pure: knows no room, waits for nothing, any thread.
 */
#include "modules/bubbles/bubbles_private.h"

#define PARTICIPANT (1u << ROOM_MEMBER)
#define CO_ORGANIZER (1u << ROOM_ADMIN)
#define ORGANIZER (1u << ROOM_OWNER)
#define EVERYBODY (PARTICIPANT | CO_ORGANIZER | ORGANIZER)
#define ORGANIZERS (CO_ORGANIZER | ORGANIZER)

#define OPEN (1u << BUBBLE_OPEN)
#define ARCHIVED (1u << BUBBLE_ARCHIVED)
#define ALWAYS (OPEN | ARCHIVED)

static const struct bubble_right {
	const char *name;  /* for people: "you may ..." */
	unsigned who;      /* affiliations */
	unsigned when;     /* states */
} rights[BUBBLE_ACTION_COUNT] = {
	[BUBBLE_SHOW] = { "see", EVERYBODY, ALWAYS },
	[BUBBLE_ENTER] = { "enter", EVERYBODY, ALWAYS },
	[BUBBLE_SPEAK] = { "speak", EVERYBODY, OPEN },
	[BUBBLE_SUBJECT] = { "subject", EVERYBODY, OPEN },
	[BUBBLE_LEAVE] = { "leave", PARTICIPANT | CO_ORGANIZER, ALWAYS },
	[BUBBLE_ADD] = { "add", ORGANIZERS, OPEN },
	[BUBBLE_REMOVE] = { "remove", ORGANIZERS, OPEN },
	[BUBBLE_PROMOTE] = { "promote", ORGANIZERS, OPEN },
	[BUBBLE_DEMOTE] = { "demote", ORGANIZER, OPEN },
	[BUBBLE_MODERATE] = { "moderate", ORGANIZERS, OPEN },
	[BUBBLE_CONFIGURE] = { "configure", ORGANIZER, OPEN },
	[BUBBLE_CONFERENCE] = { "conference", ORGANIZERS, OPEN },
	[BUBBLE_LINK] = { "link", ORGANIZER, OPEN },
	[BUBBLE_TRANSFER] = { "transfer", ORGANIZER, ALWAYS },
	[BUBBLE_ARCHIVE] = { "archive", ORGANIZER, OPEN },
	[BUBBLE_RESTORE] = { "restore", ORGANIZER, ARCHIVED },
	[BUBBLE_DELETE] = { "delete", ORGANIZER, ALWAYS },
};

#define TO(action) (1u << BUBBLE_##action)
#define NEVER BUBBLE_NEVER

/* [before][after]: outcast, none, member, admin, owner. Transfer alone touches the organizer. */
static const unsigned needs_of_others[ROOM_AFFILIATION_COUNT][ROOM_AFFILIATION_COUNT] = {
	[ROOM_OUTCAST] = { 0, TO(REMOVE), TO(ADD), TO(ADD) | TO(PROMOTE), NEVER },
	[ROOM_NONE] = { TO(REMOVE), 0, TO(ADD), TO(ADD) | TO(PROMOTE), NEVER },
	[ROOM_MEMBER] = { TO(REMOVE), TO(REMOVE), TO(ADD), TO(PROMOTE), NEVER },
	[ROOM_ADMIN] = { TO(DEMOTE) | TO(REMOVE), TO(DEMOTE) | TO(REMOVE), TO(DEMOTE), TO(DEMOTE),
			 TO(TRANSFER) },
	[ROOM_OWNER] = { NEVER, NEVER, NEVER, NEVER, TO(CONFIGURE) },
};

/* The same of oneself; who stays what it is registers a nick (XEP-0045 §7.10). */
static const unsigned needs_of_oneself[ROOM_AFFILIATION_COUNT][ROOM_AFFILIATION_COUNT] = {
	[ROOM_OUTCAST] = { 0, TO(REMOVE), TO(ADD), TO(ADD) | TO(PROMOTE), NEVER },
	[ROOM_NONE] = { TO(REMOVE), 0, TO(ADD), TO(ADD) | TO(PROMOTE), NEVER },
	[ROOM_MEMBER] = { TO(LEAVE), TO(LEAVE), TO(ENTER), TO(PROMOTE), NEVER },
	[ROOM_ADMIN] = { TO(LEAVE), TO(LEAVE), TO(LEAVE), TO(ENTER), TO(TRANSFER) },
	[ROOM_OWNER] = { NEVER, NEVER, NEVER, NEVER, TO(ENTER) },
};

enum iris_condition
bubble_judge(enum room_affiliation affiliation, enum bubble_action action, enum bubble_state state)
{
	IRIS_ASSERT(action < BUBBLE_ACTION_COUNT && state < BUBBLE_STATE_COUNT);
	if (!(rights[action].who & (1u << affiliation)))
		return IRIS_FORBIDDEN;
	return rights[action].when & (1u << state) ? IRIS_NO_ERROR : IRIS_NOT_ALLOWED;
}

const char *
bubble_action_name(enum bubble_action action)
{
	return rights[action].name;
}

unsigned
bubble_change_needs(enum room_affiliation before, enum room_affiliation after, bool is_self)
{
	return is_self ? needs_of_oneself[before][after] : needs_of_others[before][after];
}

const char *
bubble_refusal_text(enum iris_condition condition, enum bubble_state state)
{
	if (condition == IRIS_FORBIDDEN)
		return "That is for the organizer of the bubble, or a co-organizer";
	return state == BUBBLE_ARCHIVED ? "The bubble is archived: it can be read, not changed" :
					  "The bubble is not archived";
}
