/* SPDX-License-Identifier: Apache-2.0 */
/* What is worth keeping of a message: the table of xep/payloads.c, row by row and in company. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "modules/archive/archive.h"
#include "xep/payloads.h"

static const struct {
	const char *children;
	bool content;
} storable[] = {
	/* RFC 6121 */
	{ "<body>words</body>", true },
	{ "<subject>matters</subject>", true },
	{ "<thread>t</thread>", false },
	{ "", false },
	/* chat states and other things of the moment */
	{ "<active xmlns='http://jabber.org/protocol/chatstates'/>", false },
	{ "<composing xmlns='http://jabber.org/protocol/chatstates'/><thread>t</thread>", false },
	{ "<x xmlns='jabber:x:event'><composing/></x>", false },
	{ "<attention xmlns='urn:xmpp:attention:0'/>", false },
	{ "<rtt xmlns='urn:xmpp:rtt:0' seq='1'/>", false },
	{ "<body>words</body><composing xmlns='http://jabber.org/protocol/chatstates'/>", true },
	/* receipts and markers */
	{ "<received xmlns='urn:xmpp:receipts' id='m'/>", false },
	{ "<request xmlns='urn:xmpp:receipts'/>", false },
	{ "<body>words</body><request xmlns='urn:xmpp:receipts'/>", true },
	{ "<displayed xmlns='urn:xmpp:chat-markers:0' id='m'/>", true },
	{ "<markable xmlns='urn:xmpp:chat-markers:0'/>", false },
	/* what changes another message */
	{ "<reactions xmlns='urn:xmpp:reactions:0' id='m'/>", true },
	{ "<retract xmlns='urn:xmpp:message-retract:1' id='m'/>", true },
	{ "<replace xmlns='urn:xmpp:message-correct:0' id='m'/><body>word</body>", true },
	/* encrypted, also without a body */
	{ "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'/></encrypted>", true },
	{ "<encrypted xmlns='urn:xmpp:omemo:2'/><store xmlns='urn:xmpp:hints'/>", true },
	{ "<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>", true },
	{ "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>", false },
	/* calls */
	{ "<propose xmlns='urn:xmpp:jingle-message:0' id='c'/>", true },
	{ "<reject xmlns='urn:xmpp:jingle-message:0' id='c'/>", true },
	{ "<finish xmlns='urn:xmpp:jingle-message:0' id='c'/>", true },
	{ "<ringing xmlns='urn:xmpp:jingle-message:0' id='c'/>", false },
	/* invitations, but not what a room adds to everything */
	{ "<x xmlns='jabber:x:conference' jid='r@muc.example.org'/>", true },
	{ "<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>", true },
	{ "<x xmlns='http://jabber.org/protocol/muc#user'/>", false },
	{ "<result xmlns='urn:xmpp:mam:2' id='1'/>", false },
	/* what only says how to take the rest */
	{ "<origin-id xmlns='urn:xmpp:sid:0' id='o'/>", false },
	{ "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>", false },
	{ "<private xmlns='urn:xmpp:carbons:2'/>", false },
	{ "<no-copy xmlns='urn:xmpp:hints'/>", false },
	{ "<fallback xmlns='urn:xmpp:fallback:0'/>", false },
	{ "<nick xmlns='http://jabber.org/protocol/nick'>n</nick>", false },
	{ "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", false },
	/* XEP-0334 §4.4 says otherwise, and what nobody knows is kept */
	{ "<gone xmlns='http://jabber.org/protocol/chatstates'/><store xmlns='urn:xmpp:hints'/>",
	  true },
	{ "<novel xmlns='urn:example:later'/>", true },
};

static struct iris_stanza *
message_of(const char *attributes, const char *children)
{
	struct iris_arena *arena = arena_new();
	struct iris_str xml = arena_printf(arena, "<message xmlns='jabber:client' %s>%s</message>",
					   attributes, children);
	struct iris_element *root = element_parse(arena, xml);
	const char *condition;

	assert_non_null(root);
	struct iris_stanza *stanza = stanza_from_element(arena, root, &condition);
	assert_non_null(stanza);
	return stanza;
}

static void
test_every_row(void **state)
{
	for (size_t i = 0; i < IRIS_COUNT(storable); i++) {
		struct iris_stanza *stanza = message_of("type='chat'", storable[i].children);

		if (message_has_content(stanza->root) != storable[i].content)
			fail_msg("%s", storable[i].children);
		assert_int_equal(archive_is_storable(stanza), storable[i].content);
		assert_int_equal(archive_is_for_offline(stanza), storable[i].content);
		stanza_unref(&stanza);
	}
}

static void
check_kept(const char *attributes, const char *hint, bool kept, bool offline)
{
	struct iris_arena *arena = arena_new();
	struct iris_str children = arena_printf(arena, "<body>words</body>%s", hint);
	struct iris_stanza *stanza = message_of(attributes, children.base);

	assert_int_equal(archive_is_storable(stanza), kept);
	assert_int_equal(archive_is_for_offline(stanza), offline);
	stanza_unref(&stanza);
	arena_unref(&arena);
}

static void
test_types_and_hints(void **state)
{
	check_kept("type='chat'", "", true, true);
	check_kept("", "", true, true);
	check_kept("type='groupchat'", "", false, false);
	check_kept("type='headline'", "", false, false);
	check_kept("type='error'", "", false, false);
	check_kept("type='chat'", "<no-store xmlns='urn:xmpp:hints'/>", false, false);
	check_kept("type='chat'", "<no-permanent-store xmlns='urn:xmpp:hints'/>", false, true);
	check_kept("type='groupchat'", "<store xmlns='urn:xmpp:hints'/>", false, false);
}

static void
test_from_afar(void **state)
{
	static const struct {
		const char *children;
		bool transit, kept, waits;
	} cases[] = {
		{ "<body>words</body>", false, true, true },
		{ "<body>words</body>", true, false, true },
		{ "<composing xmlns='http://jabber.org/protocol/chatstates'/>", true, false,
		  false },
		/* what is read in another region, whatever is beside it */
		{ "<result xmlns='urn:xmpp:mam:2'/><body>words</body>", false, false, false },
		{ "<event xmlns='http://jabber.org/protocol/pubsub#event'/>"
		  "<store xmlns='urn:xmpp:hints'/>",
		  false, false, false },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct iris_stanza *stanza = message_of("type='chat'", cases[i].children);

		stanza_set_afar(stanza, cases[i].transit);
		assert_int_equal(archive_is_storable(stanza), cases[i].kept);
		assert_int_equal(archive_is_for_offline(stanza), cases[i].kept);
		assert_int_equal(archive_may_wait(stanza), cases[i].waits);
		stanza_unref(&stanza);
	}
}

static void
test_origin_id(void **state)
{
	struct iris_stanza *stanza =
		message_of("id='m'", "<origin-id xmlns='urn:xmpp:sid:0' id='o'/>");

	assert_true(str_is(message_origin_id(stanza->root), "o"));
	stanza_unref(&stanza);
	stanza = message_of("id='m'", "<origin-id xmlns='urn:example:other' id='o'/>");
	assert_true(str_is_none(message_origin_id(stanza->root)));
	stanza_unref(&stanza);
}

static void
test_news(void **state)
{
	static const struct {
		const char *children;
		bool news;
	} cases[] = {
		{ "<body>words</body>", true },
		{ "<subject>words</subject>", false },
		{ "<encrypted xmlns='urn:xmpp:omemo:2'><header/><payload/></encrypted>", true },
		{ "<encrypted xmlns='urn:xmpp:omemo:2'><header/></encrypted>", false },
		{ "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", true },
		{ "<proceed xmlns='urn:xmpp:jingle-message:0' id='1'/>", false },
		{ "<x xmlns='jabber:x:conference' jid='hall@example.org'/>", true },
		{ "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", false },
		{ "<body>+1</body><reactions xmlns='urn:xmpp:reactions:0' id='1'/>", false },
		{ "<body>word</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>", false },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct iris_stanza *stanza = message_of("type='chat'", cases[i].children);

		if (message_is_news(stanza->root) != cases[i].news)
			fail_msg("%s", cases[i].children);
		stanza_unref(&stanza);
	}
}

static void
test_mentions(void **state)
{
	static const struct {
		const char *children;
		bool mentions;
	} cases[] = {
		{ "<body>Romeo, wherefore</body>", true },
		{ "<body>wherefore art thou, ROMEO</body>", true },
		{ "<body>Romeos are many, Alfaromeo</body>", false },
		{ "<body>r\xc3\xb6meo</body>", false },
		{ "<body>you</body><reference xmlns='urn:xmpp:reference:0' type='mention' "
		  "uri='xmpp:romeo@example.org'/>", true },
		{ "<body>you</body><reference xmlns='urn:xmpp:reference:0' type='data' "
		  "uri='xmpp:romeo@example.org'/>", false },
		{ "<body>you</body><reference xmlns='urn:xmpp:reference:0' type='mention' "
		  "uri='xmpp:romeo@example.orgy'/>", false },
	};
	struct iris_jid romeo = jid_from_prepared(IRIS_STR("romeo@example.org/orchard"));

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct iris_stanza *stanza = message_of("type='groupchat'", cases[i].children);

		if (message_mentions(stanza->root, &romeo) != cases[i].mentions)
			fail_msg("%s", cases[i].children);
		stanza_unref(&stanza);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_types_and_hints),
		cmocka_unit_test(test_from_afar),
		cmocka_unit_test(test_origin_id),
		cmocka_unit_test(test_news),
		cmocka_unit_test(test_mentions),
	};

	return cmocka_run_group_tests_name("payloads", tests, NULL, NULL);
}
