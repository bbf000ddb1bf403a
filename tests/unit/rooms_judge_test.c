/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules/rooms/judge.c: every change of an affiliation and of a role by everybody, against what
 * the text of XEP-0045 says in its use cases (§8, §9, §10), and not against the tables of §5.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "modules/rooms/rooms_private.h"

static const char *
name_of(enum iris_condition condition)
{
	return condition == IRIS_NO_ERROR ? "nothing" : condition_name(condition);
}

/*
 * What an actor gets for making of the one (row) the other (column), in the order outcast, none,
 * member, admin, owner: '.' is done, 'F' forbidden, 'X' not allowed.
 */
static const char *const nobody[] = { "FFFFF", "FFFFF", "FFFFF", "FFFFF", "FFFFF" };
static const char *const admin[] = { "...FF", "...FF", "...FF", "XFFFF", "XFFFF" };
static const char *const owner[] = { ".....", ".....", ".....", ".....", "....." };

static const char *const *const grids[ROOM_AFFILIATION_COUNT] = {
	[ROOM_OUTCAST] = nobody, [ROOM_NONE] = nobody, [ROOM_MEMBER] = nobody,
	[ROOM_ADMIN] = admin,	 [ROOM_OWNER] = owner,
};

static enum iris_condition
expected_affiliation(int actor, int before, int after, bool is_self)
{
	char letter = grids[actor][before][after];

	/* §9.1: "If an admin or owner attempts to ban himself" */
	if (is_self && after == ROOM_OUTCAST && actor >= ROOM_ADMIN)
		return IRIS_CONFLICT;
	return letter == '.' ? IRIS_NO_ERROR : letter == 'F' ? IRIS_FORBIDDEN : IRIS_NOT_ALLOWED;
}

static void
test_affiliations(void **state)
{
	for (int actor = 0; actor < ROOM_AFFILIATION_COUNT; actor++)
		for (int before = 0; before < ROOM_AFFILIATION_COUNT; before++)
			for (int after = 0; after < ROOM_AFFILIATION_COUNT; after++)
				for (int self = 0; self < 2; self++) {
					struct room_actor who = { .affiliation = actor };
					enum iris_condition is = judge_affiliation(&who, before,
										   after, self);
					enum iris_condition should =
						expected_affiliation(actor, before, after, self);

					if (is != should)
						fail_msg("%s makes of %s %s%s: %s, not %s",
							 room_affiliation_name(actor),
							 room_affiliation_name(before),
							 room_affiliation_name(after),
							 self ? " (itself)" : "", name_of(is),
							 name_of(should));
				}
}

/* §8.2: kicked by a moderator, but none above it; and a moderator by an admin or owner (§5.1.3). */
static enum iris_condition
expected_kick(const struct room_actor *actor, const struct room_actor *target)
{
	if (target->affiliation > actor->affiliation)
		return IRIS_NOT_ALLOWED;
	return target->role == ROOM_MODERATOR && actor->affiliation < ROOM_ADMIN ?
		       IRIS_NOT_ALLOWED :
		       IRIS_NO_ERROR;
}

/*
 * §8.4: "A moderator MUST NOT be able to revoke voice from a user whose affiliation is at or above
 * the moderator's level. In addition, a service MUST NOT allow the voice privileges of an admin or
 * owner to be removed by anyone." Who has no affiliation has no level. §9.7: the same of
 * moderators, by admins and owners.
 */
static enum iris_condition
expected_less(const struct room_actor *actor, const struct room_actor *target)
{
	if (target->affiliation >= ROOM_ADMIN)
		return IRIS_NOT_ALLOWED;
	if (target->affiliation != ROOM_NONE && target->affiliation >= actor->affiliation)
		return IRIS_NOT_ALLOWED;
	if (target->affiliation > actor->affiliation)
		return IRIS_NOT_ALLOWED;
	return target->role == ROOM_MODERATOR && actor->affiliation < ROOM_ADMIN ?
		       IRIS_NOT_ALLOWED :
		       IRIS_NO_ERROR;
}

static enum iris_condition
expected_role(const struct room_actor *actor, const struct room_actor *target, int after)
{
	if (actor->role != ROOM_MODERATOR && actor->affiliation < ROOM_ADMIN)
		return IRIS_FORBIDDEN;
	if (after == ROOM_NO_ROLE)
		return expected_kick(actor, target);
	if (after == (int)target->role)
		return IRIS_NO_ERROR;
	if (after < (int)target->role)
		return expected_less(actor, target);
	if (after == ROOM_MODERATOR && actor->affiliation < ROOM_ADMIN) /* §9.6 */
		return IRIS_FORBIDDEN;
	return IRIS_NO_ERROR; /* §8.3 */
}

static void
check_role(const struct room_actor *actor, const struct room_actor *target)
{
	for (int after = 0; after < ROOM_ROLE_COUNT; after++) {
		enum iris_condition is = judge_role(actor, target, after);
		enum iris_condition should = expected_role(actor, target, after);

		if (is != should)
			fail_msg("%s (%s) makes of %s (%s) %s: %s, not %s",
				 room_role_name(actor->role),
				 room_affiliation_name(actor->affiliation),
				 room_role_name(target->role),
				 room_affiliation_name(target->affiliation), room_role_name(after),
				 name_of(is), name_of(should));
	}
}

/* An outcast is in no room: it neither acts nor is acted upon. */
static void
test_roles(void **state)
{
	for (int a = ROOM_NONE; a < ROOM_AFFILIATION_COUNT; a++)
		for (int role = 0; role < ROOM_ROLE_COUNT; role++)
			for (int t = ROOM_NONE; t < ROOM_AFFILIATION_COUNT; t++)
				for (int of = ROOM_VISITOR; of < ROOM_ROLE_COUNT; of++)
					check_role(&(struct room_actor){ a, role },
						   &(struct room_actor){ t, of });
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_affiliations),
		cmocka_unit_test(test_roles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
