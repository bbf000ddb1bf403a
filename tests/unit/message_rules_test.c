/* SPDX-License-Identifier: Apache-2.0 */
/* server/message.c: table 1 of RFC 6121 §8.5.4, written down a second time, and its choices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "im_private.h"

/*
 * As in the RFC: S silently ignored or an error, E an error, D delivered to the one, A to all, O
 * kept or an error. Where the RFC leaves a choice ("M" one or all, "S"), the letter is what Iris
 * chose: all, i ignored, E.  Columns: normal, chat, groupchat, headline, error.
 */
static const struct {
	const char *condition;
	bool full, matches;
	enum message_resources resources;
	const char *letters;
} lines[] = {
	{ "no active resources, bare", false, false, MESSAGE_NO_RESOURCE, "OOEii" },
	{ "no active resources, full", true, false, MESSAGE_NO_RESOURCE, "EOEii" },
	{ "only negative, bare", false, false, MESSAGE_ONLY_NEGATIVE, "OOEii" },
	{ "only negative, full match", true, true, MESSAGE_ONLY_NEGATIVE, "DDDDD" },
	{ "only negative, full no match", true, false, MESSAGE_ONLY_NEGATIVE, "EOEii" },
	{ "some non-negative, bare", false, false, MESSAGE_SOME, "AAEAi" },
	{ "some non-negative, full match", true, true, MESSAGE_SOME, "DDDDD" },
	{ "some non-negative, full no match", true, false, MESSAGE_SOME, "EAEii" },
	{ "connected only, full match", true, true, MESSAGE_NO_RESOURCE, "DDDDD" },
};

static enum message_verdict
verdict_of(char letter)
{
	switch (letter) {
	case 'E':
		return MESSAGE_ERROR;
	case 'D':
		return MESSAGE_TO_ONE;
	case 'A':
		return MESSAGE_TO_ALL;
	case 'O':
		return MESSAGE_OFFLINE;
	default:
		return MESSAGE_IGNORE;
	}
}

static void
test_table_1(void **state)
{
	static const enum iris_stanza_type types[] = { IRIS_NORMAL, IRIS_CHAT, IRIS_GROUPCHAT,
						       IRIS_HEADLINE, IRIS_ERROR };

	for (size_t i = 0; i < IRIS_COUNT(lines); i++)
		for (size_t t = 0; t < IRIS_COUNT(types); t++) {
			enum message_verdict verdict = message_judge(
				types[t], lines[i].full, lines[i].matches, lines[i].resources);
			if (verdict != verdict_of(lines[i].letters[t]))
				fail_msg("%s, type %zu: %d", lines[i].condition, t, verdict);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_table_1) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
