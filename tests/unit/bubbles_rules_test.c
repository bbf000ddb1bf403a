/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules/bubbles/rules.c: every action by every affiliation in every state, against P6.2 as it is
 * written down in tests/bubbles/rights.txt; and every change of an affiliation, said in words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "modules/bubbles/bubbles_private.h"

static const enum room_affiliation columns[] = { ROOM_NONE, ROOM_MEMBER, ROOM_ADMIN, ROOM_OWNER };

static enum iris_condition
expected(const char *word)
{
	if (strcmp(word, "yes") == 0)
		return IRIS_NO_ERROR;
	if (strcmp(word, "forbidden") == 0)
		return IRIS_FORBIDDEN;
	assert_string_equal(word, "not-allowed");
	return IRIS_NOT_ALLOWED;
}

static enum bubble_action
action_of(const char *name)
{
	for (unsigned i = 0; i < BUBBLE_ACTION_COUNT; i++)
		if (strcmp(bubble_action_name((enum bubble_action)i), name) == 0)
			return (enum bubble_action)i;
	fail_msg("no action \"%s\"", name);
	return BUBBLE_ACTION_COUNT;
}

static void
check_line(char *line, bool *seen)
{
	char *rest = NULL, *word = strtok_r(line, " \n", &rest);
	enum bubble_action action = action_of(word);

	assert_false(seen[action]);
	seen[action] = true;
	for (unsigned state = 0; state < BUBBLE_STATE_COUNT; state++) {
		for (size_t i = 0; i < IRIS_COUNT(columns); i++) {
			word = strtok_r(NULL, " \n", &rest);
			assert_non_null(word);
			assert_int_equal(bubble_judge(columns[i], action, (enum bubble_state)state),
					 expected(word));
		}
		/* Who is banned may no more than who is unknown. */
		assert_int_equal(bubble_judge(ROOM_OUTCAST, action, (enum bubble_state)state),
				 bubble_judge(ROOM_NONE, action, (enum bubble_state)state));
	}
	assert_null(strtok_r(NULL, " \n", &rest));
}

static void
test_rights(void **context)
{
	bool seen[BUBBLE_ACTION_COUNT] = { false };
	char path[1024], line[512];
	const char *folder = getenv("IRIS_SRCDIR");
	FILE *file;

	(void)context;
	snprintf(path, sizeof(path), "%s/tests/bubbles/rights.txt", folder ? folder : ".");
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (line[0] != '#' && line[0] != '\n')
			check_line(line, seen);
	fclose(file);
	for (unsigned i = 0; i < BUBBLE_ACTION_COUNT; i++)
		assert_true(seen[i]);
}

#define ONE(action) (1u << BUBBLE_##action)

/* What a change takes, by its kind and not by its place in a table. */
static unsigned
needed(enum room_affiliation before, enum room_affiliation after, bool is_self)
{
	unsigned needs = 0;

	if (before == after)
		return before < ROOM_MEMBER ? 0 :
		       is_self		    ? ONE(ENTER) :
		       before == ROOM_OWNER ? ONE(CONFIGURE) :
		       before == ROOM_ADMIN ? ONE(DEMOTE) :
					      ONE(ADD);
	if (before == ROOM_OWNER || (after == ROOM_OWNER && before != ROOM_ADMIN))
		return BUBBLE_NEVER; /* exactly one organizer; only a co-organizer becomes it */
	if (after == ROOM_OWNER)
		return ONE(TRANSFER);
	if (is_self && before >= ROOM_MEMBER && after < before)
		return ONE(LEAVE);
	if (before < ROOM_MEMBER && after >= ROOM_MEMBER)
		needs |= ONE(ADD);
	if (after == ROOM_ADMIN)
		needs |= ONE(PROMOTE);
	if (before == ROOM_ADMIN)
		needs |= ONE(DEMOTE);
	if (after < ROOM_MEMBER)
		needs |= ONE(REMOVE);
	return needs;
}

static void
test_changes(void **context)
{
	(void)context;
	for (unsigned before = 0; before < ROOM_AFFILIATION_COUNT; before++)
		for (unsigned after = 0; after < ROOM_AFFILIATION_COUNT; after++)
			for (unsigned self = 0; self < 2; self++)
				assert_int_equal(
					bubble_change_needs((enum room_affiliation)before,
							    (enum room_affiliation)after, self),
					needed((enum room_affiliation)before,
					       (enum room_affiliation)after, self));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests_name("bubbles_rules", tests, NULL, NULL);
}
