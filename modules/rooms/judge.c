/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §5.1.3, §5.2.2, §8, §9, §10: who may change whose affiliation or role, as tables.  Pure;
 * any thread.  It knows no room: that an owner must be left is affiliation.c's to see to.
 */
#include "modules/rooms/rooms_private.h"

/* §5.2.2: the least affiliation that makes of the one (row) the other (column). */
static const enum room_affiliation affiliation_needs[ROOM_AFFILIATION_COUNT]
						    [ROOM_AFFILIATION_COUNT] = {
	[ROOM_OUTCAST] = { ROOM_ADMIN, ROOM_ADMIN, ROOM_ADMIN, ROOM_OWNER, ROOM_OWNER },
	[ROOM_NONE] = { ROOM_ADMIN, ROOM_ADMIN, ROOM_ADMIN, ROOM_OWNER, ROOM_OWNER },
	[ROOM_MEMBER] = { ROOM_ADMIN, ROOM_ADMIN, ROOM_ADMIN, ROOM_OWNER, ROOM_OWNER },
	[ROOM_ADMIN] = { ROOM_OWNER, ROOM_OWNER, ROOM_OWNER, ROOM_OWNER, ROOM_OWNER },
	[ROOM_OWNER] = { ROOM_OWNER, ROOM_OWNER, ROOM_OWNER, ROOM_OWNER, ROOM_OWNER },
};

enum iris_condition
judge_affiliation(const struct room_actor *actor, enum room_affiliation before,
		  enum room_affiliation after, bool is_self)
{
	if (actor->affiliation < ROOM_ADMIN) /* §9, §10: no admin, no owner */
		return IRIS_FORBIDDEN;
	if (is_self && after == ROOM_OUTCAST) /* §9.1 */
		return IRIS_CONFLICT;
	if (actor->affiliation >= affiliation_needs[before][after])
		return IRIS_NO_ERROR;
	/* §9.1: who is not below is not banned; §10.3, §10.4, §10.6, §10.7: that is for owners */
	return after == ROOM_OUTCAST ? IRIS_NOT_ALLOWED : IRIS_FORBIDDEN;
}

/* Against whom it may not be done. */
enum role_guard {
	GUARD_NONE,
	GUARD_HIGHER, /* somebody with a higher affiliation */
	GUARD_EQUAL,  /* or with the same one, if any; and no admin, no owner */
};

struct role_rule {
	enum room_affiliation needs; /* NONE: any moderator */
	enum role_guard guard;
};

/* §5.1.3, §8.2–§8.4, §9.6, §9.7: from (row) to (column: out, visitor, participant, moderator). */
static const struct role_rule role_rules[ROOM_ROLE_COUNT][ROOM_ROLE_COUNT] = {
	[ROOM_VISITOR] = { { ROOM_NONE, GUARD_HIGHER }, { ROOM_NONE, GUARD_NONE },
			   { ROOM_NONE, GUARD_NONE }, { ROOM_ADMIN, GUARD_NONE } },
	[ROOM_PARTICIPANT] = { { ROOM_NONE, GUARD_HIGHER }, { ROOM_NONE, GUARD_EQUAL },
			       { ROOM_NONE, GUARD_NONE }, { ROOM_ADMIN, GUARD_NONE } },
	[ROOM_MODERATOR] = { { ROOM_ADMIN, GUARD_HIGHER }, { ROOM_ADMIN, GUARD_EQUAL },
			     { ROOM_ADMIN, GUARD_EQUAL }, { ROOM_NONE, GUARD_NONE } },
};

static bool
is_guarded(enum role_guard guard, enum room_affiliation actor, enum room_affiliation target)
{
	switch (guard) {
	case GUARD_NONE:
		return false;
	case GUARD_HIGHER:
		return target > actor;
	case GUARD_EQUAL:
		return target >= ROOM_ADMIN || target > actor ||
		       (target == actor && target > ROOM_NONE);
	}
	return true;
}

enum iris_condition
judge_role(const struct room_actor *actor, const struct room_actor *target, enum room_role after)
{
	const struct role_rule *rule = &role_rules[target->role][after];

	IRIS_ASSERT(target->role != ROOM_NO_ROLE);
	/* An admin or owner need not be in the room. */
	if (actor->role != ROOM_MODERATOR && actor->affiliation < ROOM_ADMIN)
		return IRIS_FORBIDDEN;
	if (is_guarded(rule->guard, actor->affiliation, target->affiliation))
		return IRIS_NOT_ALLOWED;
	if (rule->needs == ROOM_NONE || actor->affiliation >= rule->needs)
		return IRIS_NO_ERROR;
	/* §9.6: who may make moderators; §8.2: a moderator puts out no other moderator */
	return after == ROOM_MODERATOR ? IRIS_FORBIDDEN : IRIS_NOT_ALLOWED;
}
