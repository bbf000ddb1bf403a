/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/subscription.c: RFC 6121 Appendix A, written down a second time from the RFC's own tables,
 * in its words.  "push": a client of the user sees a difference in the item.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "im_private.h"

struct line {
	const char *existing;
	bool passes; /* outbound: routed; inbound: delivered */
	const char *next; /* NULL: no state change */
	bool push;
};

struct table {
	const char *section;
	enum sub_direction direction;
	enum iris_stanza_type type;
	struct line lines[SUB_STATE_COUNT];
};

#define NO false
#define MUST true

static const struct table tables[] = {
	{ "A.2.1", SUB_OUTBOUND, IRIS_SUBSCRIBE, {
		{ "None", MUST, "None + Pending Out", true },
		{ "None + Pending Out", MUST, NULL, false },
		{ "None + Pending In", MUST, "None + Pending Out+In", true },
		{ "None + Pending Out+In", MUST, NULL, false },
		{ "To", MUST, NULL, false },
		{ "To + Pending In", MUST, NULL, false },
		{ "From", MUST, "From + Pending Out", true },
		{ "From + Pending Out", MUST, NULL, false },
		{ "Both", MUST, NULL, false } } },
	{ "A.2.2", SUB_OUTBOUND, IRIS_UNSUBSCRIBE, {
		{ "None", MUST, NULL, false },
		{ "None + Pending Out", MUST, "None", true },
		{ "None + Pending In", MUST, NULL, false },
		{ "None + Pending Out+In", MUST, "None + Pending In", true },
		{ "To", MUST, "None", true },
		{ "To + Pending In", MUST, "None + Pending In", true },
		{ "From", MUST, NULL, false },
		{ "From + Pending Out", MUST, "From", true },
		{ "Both", MUST, "From", true } } },
	{ "A.2.3", SUB_OUTBOUND, IRIS_SUBSCRIBED, {
		{ "None", NO, NULL, false },
		{ "None + Pending Out", NO, NULL, false },
		{ "None + Pending In", MUST, "From", true },
		{ "None + Pending Out+In", MUST, "From + Pending Out", true },
		{ "To", NO, NULL, false },
		{ "To + Pending In", MUST, "Both", true },
		{ "From", NO, NULL, false },
		{ "From + Pending Out", NO, NULL, false },
		{ "Both", NO, NULL, false } } },
	{ "A.2.4", SUB_OUTBOUND, IRIS_UNSUBSCRIBED, {
		{ "None", NO, NULL, false },
		{ "None + Pending Out", NO, NULL, false },
		{ "None + Pending In", MUST, "None", false },
		{ "None + Pending Out+In", MUST, "None + Pending Out", false },
		{ "To", NO, NULL, false },
		{ "To + Pending In", MUST, "To", false },
		{ "From", MUST, "None", true },
		{ "From + Pending Out", MUST, "None + Pending Out", true },
		{ "Both", MUST, "To", true } } },
	{ "A.3.1", SUB_INBOUND, IRIS_SUBSCRIBE, {
		{ "None", MUST, "None + Pending In", false },
		{ "None + Pending Out", MUST, "None + Pending Out+In", false },
		{ "None + Pending In", NO, NULL, false },
		{ "None + Pending Out+In", NO, NULL, false },
		{ "To", MUST, "To + Pending In", false },
		{ "To + Pending In", NO, NULL, false },
		{ "From", NO, NULL, false },
		{ "From + Pending Out", NO, NULL, false },
		{ "Both", NO, NULL, false } } },
	{ "A.3.2", SUB_INBOUND, IRIS_UNSUBSCRIBE, {
		{ "None", NO, NULL, false },
		{ "None + Pending Out", NO, NULL, false },
		{ "None + Pending In", MUST, "None", false },
		{ "None + Pending Out+In", MUST, "None + Pending Out", false },
		{ "To", NO, NULL, false },
		{ "To + Pending In", MUST, "To", false },
		{ "From", MUST, "None", true },
		{ "From + Pending Out", MUST, "None + Pending Out", true },
		{ "Both", MUST, "To", true } } },
	{ "A.3.3", SUB_INBOUND, IRIS_SUBSCRIBED, {
		{ "None", NO, NULL, false },
		{ "None + Pending Out", MUST, "To", true },
		{ "None + Pending In", NO, NULL, false },
		{ "None + Pending Out+In", MUST, "To + Pending In", true },
		{ "To", NO, NULL, false },
		{ "To + Pending In", NO, NULL, false },
		{ "From", NO, NULL, false },
		{ "From + Pending Out", MUST, "Both", true },
		{ "Both", NO, NULL, false } } },
	{ "A.3.4", SUB_INBOUND, IRIS_UNSUBSCRIBED, {
		{ "None", NO, NULL, false },
		{ "None + Pending Out", MUST, "None", true },
		{ "None + Pending In", NO, NULL, false },
		{ "None + Pending Out+In", MUST, "None + Pending In", true },
		{ "To", MUST, "None", true },
		{ "To + Pending In", MUST, "None + Pending In", true },
		{ "From", NO, NULL, false },
		{ "From + Pending Out", MUST, "From", true },
		{ "Both", MUST, "From", true } } },
};

/* A.1, by what a roster item shows. */
static struct roster_change
contact_in(const char *state)
{
	static const struct {
		const char *name;
		enum iris_subscription subscription;
		bool ask, pending_in;
	} states[] = {
		{ "None", IRIS_SUB_NONE, false, false },
		{ "None + Pending Out", IRIS_SUB_NONE, true, false },
		{ "None + Pending In", IRIS_SUB_NONE, false, true },
		{ "None + Pending Out+In", IRIS_SUB_NONE, true, true },
		{ "To", IRIS_SUB_TO, false, false },
		{ "To + Pending In", IRIS_SUB_TO, false, true },
		{ "From", IRIS_SUB_FROM, false, false },
		{ "From + Pending Out", IRIS_SUB_FROM, true, false },
		{ "Both", IRIS_SUB_BOTH, false, false },
	};
	size_t i = 0;

	while (strcmp(states[i].name, state) != 0)
		assert_true(++i < IRIS_COUNT(states));
	return (struct roster_change){ .subscription = states[i].subscription, .ask = states[i].ask,
		.pending_in = states[i].pending_in, .in_roster = true };
}

static void
check_line(const struct table *table, const struct line *line)
{
	struct roster_change before = contact_in(line->existing);
	struct roster_change after = contact_in(line->next ? line->next : line->existing);
	struct sub_outcome outcome;

	outcome = subscription_judge(table->direction, table->type, subscription_state(&before),
				     false);
	if (outcome.pass != line->passes || outcome.next != subscription_state(&after))
		fail_msg("%s, %s: pass %d, state %d", table->section, line->existing, outcome.pass,
			 outcome.next);
	assert_int_equal(roster_is_visible_change(&before, &after), line->push);
}

static void
test_appendix_a(void **state)
{
	for (size_t t = 0; t < IRIS_COUNT(tables); t++)
		for (size_t i = 0; i < SUB_STATE_COUNT; i++)
			check_line(&tables[t], &tables[t].lines[i]);
}

/* A.3.1, the note: who already sees the user is answered by the server, and nobody else is. */
static void
test_inbound_request_answered_by_itself(void **state)
{
	static const char *const answered[] = { "From", "From + Pending Out", "Both" };
	static const char *const asked[] = { "None", "None + Pending Out", "None + Pending In",
		"None + Pending Out+In", "To", "To + Pending In" };

	for (size_t i = 0; i < IRIS_COUNT(answered); i++) {
		struct roster_change contact = contact_in(answered[i]);
		assert_true(subscription_judge(SUB_INBOUND, IRIS_SUBSCRIBE,
					       subscription_state(&contact), false)
				    .answer);
	}
	for (size_t i = 0; i < IRIS_COUNT(asked); i++) {
		struct roster_change contact = contact_in(asked[i]);
		assert_false(subscription_judge(SUB_INBOUND, IRIS_SUBSCRIBE,
						subscription_state(&contact), false)
				     .answer);
	}
	for (int type = IRIS_SUBSCRIBED; type <= IRIS_UNSUBSCRIBED; type++)
		for (int s = 0; s < SUB_STATE_COUNT; s++)
			assert_false(subscription_judge(SUB_INBOUND, (enum iris_stanza_type)type,
							(enum sub_state)s, true).answer);
}

/* §3.4.2: only where nothing was asked and nothing is given yet. */
static void
test_preapproval_is_noted(void **state)
{
	static const struct {
		const char *existing;
		bool approved;
	} lines[] = {
		{ "None", true },
		{ "None + Pending Out", true },
		{ "To", true },
		{ "None + Pending In", false },
		{ "None + Pending Out+In", false },
		{ "To + Pending In", false },
		{ "From", false },
		{ "From + Pending Out", false },
		{ "Both", false },
	};

	for (size_t i = 0; i < IRIS_COUNT(lines); i++) {
		struct roster_change contact = contact_in(lines[i].existing);
		struct sub_outcome outcome = subscription_judge(
			SUB_OUTBOUND, IRIS_SUBSCRIBED, subscription_state(&contact), false);
		assert_int_equal(outcome.approved, lines[i].approved);
	}
}

/* §3.4.3: the request is answered, not shown, and the contact sees the user. */
static void
test_preapproval_answers_request(void **state)
{
	static const struct {
		const char *existing, *next;
	} lines[] = { { "None", "From" },
		      { "None + Pending Out", "From + Pending Out" },
		      { "To", "Both" } };

	for (size_t i = 0; i < IRIS_COUNT(lines); i++) {
		struct roster_change before = contact_in(lines[i].existing),
				     after = contact_in(lines[i].next);
		struct sub_outcome outcome = subscription_judge(SUB_INBOUND, IRIS_SUBSCRIBE,
								subscription_state(&before), true);
		assert_int_equal(outcome.next, subscription_state(&after));
		assert_true(outcome.answer);
		assert_false(outcome.pass);
	}
}

/* §3.4.2: `unsubscribed` takes the approval back, in every state; nothing else does. */
static void
test_preapproval_is_taken_back(void **state)
{
	for (int s = 0; s < SUB_STATE_COUNT; s++)
		for (int direction = SUB_OUTBOUND; direction <= SUB_INBOUND; direction++)
			for (int type = IRIS_SUBSCRIBE; type <= IRIS_UNSUBSCRIBED; type++) {
				bool takes_back =
					direction == SUB_OUTBOUND && type == IRIS_UNSUBSCRIBED;
				assert_int_equal(subscription_judge((enum sub_direction)direction,
								    (enum iris_stanza_type)type,
								    (enum sub_state)s, true)
							 .approved,
						 !takes_back);
			}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_appendix_a),
		cmocka_unit_test(test_inbound_request_answered_by_itself),
		cmocka_unit_test(test_preapproval_is_noted),
		cmocka_unit_test(test_preapproval_answers_request),
		cmocka_unit_test(test_preapproval_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
