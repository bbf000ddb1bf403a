/* SPDX-License-Identifier: Apache-2.0 */
/* server/roster.c, server/roster_iq.c, server/iq.c, server/presence.c: what needs no worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "im_private.h"

#define GROUPS_MAX 3

static struct iris_element *
parse(struct iris_arena *arena, const char *xml)
{
	struct iris_element *element = element_parse(arena, str_from(xml));

	assert_non_null(element);
	return element;
}

static enum iris_condition
parse_set(struct iris_arena *arena, const char *items, struct roster_request *request_r)
{
	struct iris_str xml =
		arena_printf(arena, "<query xmlns='jabber:iq:roster'>%s</query>", items);

	return roster_parse_set(arena, parse(arena, xml.base), GROUPS_MAX, request_r);
}

static void
test_set_is_read(void **state)
{
	struct iris_arena *arena = arena_new();
	struct roster_request request;

	assert_int_equal(parse_set(arena,
				   "<item jid='Nurse@example.com/x' name='Nurse' "
				   "subscription='both' ask='subscribe'>"
				   "<group>Servants</group><group>House</group></item>",
				   &request),
			 IRIS_NO_ERROR);
	assert_true(str_is(jid_full(&request.jid), "nurse@example.com"));
	assert_true(str_is(request.name, "Nurse"));
	assert_false(request.remove);
	assert_string_equal(request.groups[0], "Servants");
	assert_string_equal(request.groups[1], "House");
	assert_null(request.groups[2]);
	assert_int_equal(
		parse_set(arena, "<item jid='nurse@example.com' subscription='remove'/>", &request),
		IRIS_NO_ERROR);
	assert_true(request.remove);
	assert_int_equal(parse_set(arena, "<item jid='example.com'/>", &request), IRIS_NO_ERROR);
	assert_null(request.groups);
	arena_unref(&arena);
}

/* RFC 6121 §2.3.3 */
static void
test_set_is_refused(void **state)
{
	static const struct {
		const char *items;
		enum iris_condition condition;
	} cases[] = {
		{ "", IRIS_BAD_REQUEST },
		{ "<item/>", IRIS_BAD_REQUEST },
		{ "<thing jid='a@b.example'/>", IRIS_BAD_REQUEST },
		{ "<item xmlns='other' jid='a@b.example'/>", IRIS_BAD_REQUEST },
		{ "<item jid='a@b.example'/><item jid='c@b.example'/>", IRIS_BAD_REQUEST },
		{ "<item jid='@b.example'/>", IRIS_JID_MALFORMED },
		{ "<item jid=''/>", IRIS_JID_MALFORMED },
		{ "<item jid='a@b.example'><group/></item>", IRIS_NOT_ACCEPTABLE },
		{ "<item jid='a@b.example'><group>x</group><group>x</group></item>",
		  IRIS_BAD_REQUEST },
		{ "<item "
		  "jid='a@b.example'><group>1</group><group>2</group><group>3</group><group>4</"
		  "group></item>",
		  IRIS_NOT_ACCEPTABLE },
	};
	struct iris_arena *arena = arena_new();
	struct roster_request request;

	for (size_t i = 0; i < IRIS_COUNT(cases); i++)
		if (parse_set(arena, cases[i].items, &request) != cases[i].condition)
			fail_msg("%s", cases[i].items);
	arena_unref(&arena);
}

static void
test_long_names_are_refused(void **state)
{
	struct iris_arena *arena = arena_new();
	char name[ROSTER_NAME_MAX + 2];
	struct roster_request request;

	memset(name, 'x', sizeof(name));
	name[ROSTER_NAME_MAX] = '\0';
	assert_int_equal(
		parse_set(arena,
			  arena_printf(arena,
				       "<item jid='a@b.example' name='%s'><group>%s</group></item>",
				       name, name)
				  .base,
			  &request),
		IRIS_NO_ERROR);
	name[ROSTER_NAME_MAX] = 'x';
	name[ROSTER_NAME_MAX + 1] = '\0';
	assert_int_equal(
		parse_set(arena,
			  arena_printf(arena, "<item jid='a@b.example' name='%s'/>", name).base,
			  &request),
		IRIS_NOT_ACCEPTABLE);
	assert_int_equal(
		parse_set(arena,
			  arena_printf(arena, "<item jid='a@b.example'><group>%s</group></item>",
				       name)
				  .base,
			  &request),
		IRIS_NOT_ACCEPTABLE);
	arena_unref(&arena);
}

static void
test_put_replaces_and_removes(void **state)
{
	char *groups[] = { "Friends", "Lovers", NULL };
	struct iris_user user = { .roster = roster_new() };
	struct roster_change change = { .jid = jid_from_prepared(IRIS_STR("romeo@example.net")),
					.in_roster = true,
					.subscription = IRIS_SUB_TO,
					.name = IRIS_STR("Romeo"),
					.groups = groups };
	struct iris_contact *contact;

	roster_put(user.roster, &change);
	contact = roster_find(&user, IRIS_STR("romeo@example.net"));
	assert_non_null(contact);
	assert_true(str_is(contact->name, "Romeo"));
	assert_string_equal(contact->groups[1], "Lovers");
	assert_null(contact->groups[2]);
	/* A change that borrows from the contact that it replaces. */
	change = roster_change_of(contact, &change.jid);
	change.subscription = IRIS_SUB_BOTH;
	change.request = IRIS_STR_NONE;
	roster_put(user.roster, &change);
	contact = roster_find(&user, IRIS_STR("romeo@example.net"));
	assert_int_equal(contact->subscription, IRIS_SUB_BOTH);
	assert_string_equal(contact->groups[0], "Friends");
	assert_int_equal(user.roster->item_count, 1);
	change = (struct roster_change){ .jid = contact->jid,
					 .pending_in = true,
					 .request = IRIS_STR("<x/>") };
	roster_put(user.roster, &change);
	assert_int_equal(user.roster->item_count, 0);
	assert_int_equal(user.roster->request_count, 1);
	change = (struct roster_change){ .jid = jid_from_prepared(IRIS_STR("romeo@example.net")) };
	roster_put(user.roster, &change);
	assert_null(roster_find(&user, IRIS_STR("romeo@example.net")));
	assert_int_equal(user.roster->request_count, 0);
	roster_free(&user.roster);
	assert_null(user.roster);
}

static void
test_visible_changes(void **state)
{
	char *one[] = { "A", NULL }, *other[] = { "B", NULL };
	struct roster_change before = { .in_roster = true, .name = IRIS_STR("x"), .groups = one },
			     after = before;

	assert_false(roster_is_visible_change(&before, &after));
	after.pending_in = true; /* RFC 6121 Appendix A.1: never shown */
	assert_false(roster_is_visible_change(&before, &after));
	after.approved = true;
	assert_true(roster_is_visible_change(&before, &after));
	after = before;
	after.groups = other;
	assert_true(roster_is_visible_change(&before, &after));
	after = before;
	after.name = IRIS_STR("y");
	assert_true(roster_is_visible_change(&before, &after));
	after = (struct roster_change){ .pending_in = true };
	before = (struct roster_change){ .in_roster = false };
	assert_false(roster_is_visible_change(&before, &after));
}

static struct iris_stanza *
stanza_from(const char *xml)
{
	struct iris_arena *arena = arena_new();
	const char *condition;
	struct iris_stanza *stanza = stanza_from_element(arena, parse(arena, xml), &condition);

	assert_non_null(stanza);
	return stanza;
}

static void
test_priorities(void **state)
{
	static const struct {
		const char *text;
		int priority; /* 1000: refused */
	} cases[] = {
		{ "<priority>1</priority>", 1 },
		{ "<priority>-128</priority>", -128 },
		{ "<priority>127</priority>", 127 },
		{ "", 0 },
		{ "<priority>128</priority>", 1000 },
		{ "<priority>-129</priority>", 1000 },
		{ "<priority/>", 1000 },
		{ "<priority>1.5</priority>", 1000 },
		{ "<priority>high</priority>", 1000 },
		{ "<priority xmlns='other'>high</priority>", 0 },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		char xml[128];
		struct iris_stanza *presence;
		int8_t priority = 0;

		(void)snprintf(xml, sizeof(xml), "<presence xmlns='jabber:client'>%s</presence>",
			       cases[i].text);
		presence = stanza_from(xml);
		if (presence_priority(presence, &priority))
			assert_int_equal(priority, cases[i].priority);
		else
			assert_int_equal(1000, cases[i].priority);
		stanza_unref(&presence);
	}
}

/* RFC 6120 §8.2.3 */
static void
test_legal_iqs(void **state)
{
	static const struct {
		const char *xml;
		bool legal;
	} cases[] = {
		{ "<iq xmlns='jabber:client' id='1' type='get'><q xmlns='x'/></iq>", true },
		{ "<iq xmlns='jabber:client' id='1' type='set'><q xmlns='x'/></iq>", true },
		{ "<iq xmlns='jabber:client' id='1' type='result'/>", true },
		{ "<iq xmlns='jabber:client' id='1' type='result'><q xmlns='x'/></iq>", true },
		{ "<iq xmlns='jabber:client' id='1' type='error'><q xmlns='x'/><error "
		  "type='cancel'/></iq>",
		  true },
		{ "<iq xmlns='jabber:client' type='get'><q xmlns='x'/></iq>", false },
		{ "<iq xmlns='jabber:client' id='' type='get'><q xmlns='x'/></iq>", false },
		{ "<iq xmlns='jabber:client' id='1'><q xmlns='x'/></iq>", false },
		{ "<iq xmlns='jabber:client' id='1' type='ask'><q xmlns='x'/></iq>", false },
		{ "<iq xmlns='jabber:client' id='1' type='get'/>", false },
		{ "<iq xmlns='jabber:client' id='1' type='set'><q xmlns='x'/><q xmlns='x'/></iq>",
		  false },
		{ "<iq xmlns='jabber:client' id='1' type='result'><q xmlns='x'/><q "
		  "xmlns='x'/></iq>",
		  false },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct iris_stanza *iq = stanza_from(cases[i].xml);

		if (iq_is_legal(iq) != cases[i].legal)
			fail_msg("%s", cases[i].xml);
		stanza_unref(&iq);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_is_read),
		cmocka_unit_test(test_set_is_refused),
		cmocka_unit_test(test_long_names_are_refused),
		cmocka_unit_test(test_put_replaces_and_removes),
		cmocka_unit_test(test_visible_changes),
		cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_legal_iqs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
