/* SPDX-License-Identifier: Apache-2.0 */
/* Stanzas: types, addresses, freezing, deliveries, errors and results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "iris/stanza.h"

static struct iris_stanza *
from_xml(const char *xml, const char **condition_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, str_from(xml));
	struct iris_stanza *stanza;

	assert_non_null(root);
	stanza = stanza_from_element(arena, root, condition_r);
	if (!stanza)
		arena_unref(&arena);
	return stanza;
}

static struct iris_stanza *
stanza_of(const char *xml)
{
	const char *condition;
	struct iris_stanza *stanza = from_xml(xml, &condition);

	assert_non_null(stanza);
	assert_null(condition);
	return stanza;
}

static void
expect_type(const char *xml, enum iris_stanza_kind kind, enum iris_stanza_type type)
{
	struct iris_stanza *stanza = stanza_of(xml);

	assert_int_equal(stanza->kind, kind);
	assert_int_equal(stanza->type, type);
	stanza_unref(&stanza);
	assert_null(stanza);
}

static void
expect_delivered(struct iris_stanza *stanza, const char *xml)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf buf = STRBUF_INIT(arena);
	struct iris_delivery delivery = { .stanza = stanza };

	stanza_freeze(stanza);
	delivery_write(&buf, &delivery);
	assert_string_equal(strbuf_str(&buf).base, xml);
	arena_unref(&arena);
}

static void
test_types(void **state)
{
	expect_type("<message xmlns='jabber:client'/>", IRIS_MESSAGE, IRIS_NORMAL);
	expect_type("<message xmlns='jabber:client' type='chat'/>", IRIS_MESSAGE, IRIS_CHAT);
	expect_type("<message xmlns='jabber:client' type='subscribe'/>", IRIS_MESSAGE, IRIS_NORMAL);
	expect_type("<message xmlns='jabber:client' type='error'/>", IRIS_MESSAGE, IRIS_ERROR);
	expect_type("<presence xmlns='jabber:client'/>", IRIS_PRESENCE, IRIS_AVAILABLE);
	expect_type("<presence xmlns='jabber:client' type='probe'/>", IRIS_PRESENCE, IRIS_PROBE);
	expect_type("<presence xmlns='jabber:client' type='available'/>", IRIS_PRESENCE,
		    IRIS_TYPE_UNKNOWN);
	expect_type("<iq xmlns='jabber:client' type='set'/>", IRIS_IQ, IRIS_SET);
	expect_type("<iq xmlns='jabber:client'/>", IRIS_IQ, IRIS_TYPE_UNKNOWN);
	expect_type("<iq xmlns='jabber:client' type='chat'/>", IRIS_IQ, IRIS_TYPE_UNKNOWN);
	assert_string_equal(stanza_type_name(IRIS_HEADLINE), "headline");
	assert_string_equal(stanza_type_name(IRIS_ERROR), "error");
	assert_string_equal(stanza_type_name(IRIS_AVAILABLE), "available");
}

static void
test_no_stanza(void **state)
{
	const char *condition;

	assert_null(from_xml("<message xmlns='urn:x'/>", &condition));
	assert_string_equal(condition, "unsupported-stanza-type");
	assert_null(from_xml("<foo xmlns='jabber:client'/>", &condition));
	assert_string_equal(condition, "unsupported-stanza-type");
	assert_null(from_xml("<iq xmlns='jabber:client' to=''/>", &condition));
	assert_string_equal(condition, "jid-malformed");
	assert_null(from_xml("<iq xmlns='jabber:client' from='@x'/>", &condition));
	assert_string_equal(condition, "jid-malformed");
}

static void
test_addresses(void **state)
{
	struct iris_stanza *stanza = stanza_of("<message xmlns='jabber:client' to='A@B.example/R' "
					       "from='c@d' id='1' xml:lang='de'/>");
	struct iris_jid to;

	assert_true(str_is(jid_full(&stanza->to), "a@b.example/R"));
	assert_true(str_is(element_get(stanza->root, "to"), "a@b.example/R"));
	assert_true(str_is(stanza->id, "1") && str_is(stanza->lang, "de"));
	to = jid_from_prepared(IRIS_STR("e@f"));
	stanza_set_to(stanza, &to);
	stanza_set_from(stanza, NULL);
	stanza_set_id(stanza, IRIS_STR("2"));
	assert_true(jid_is_none(&stanza->from));
	expect_delivered(stanza, "<message to='e@f' id='2' xml:lang='de'/>");
	stanza_unref(&stanza);
}

static void
test_delivery(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<p:message xmlns:p='jabber:client' type='chat' to='a@b' "
		"from='c@d/e'><p:body>Hi &amp; bye</p:body><x "
		"xmlns='urn:x'><p:y/></x></p:message>");
	struct iris_arena *arena = arena_new();
	struct iris_strbuf buf = STRBUF_INIT(arena);
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = jid_from_prepared(IRIS_STR("a@b/r")),
					  .extra = IRIS_STR("<s xmlns='urn:s'/>") };

	stanza_freeze(stanza);
	stanza_freeze(stanza);
	delivery_write(&buf, &delivery);
	assert_string_equal(strbuf_str(&buf).base,
		"<message to='a@b/r' type='chat' from='c@d/e'><body>Hi &amp; bye</body>"
		"<x xmlns='urn:x'><y xmlns='jabber:client'/></x><s xmlns='urn:s'/></message>");
	arena_unref(&arena);
	expect_delivered(stanza,
			 "<message to='a@b' type='chat' from='c@d/e'><body>Hi &amp; bye</body>"
			 "<x xmlns='urn:x'><y xmlns='jabber:client'/></x></message>");
	stanza_unref(&stanza);
}

static void
test_freeze_joins_texts(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<message xmlns='jabber:client'><body>a<x xmlns='urn:x'/>b</body></message>");
	size_t size;

	stanza_freeze(stanza);
	size = arena_size(stanza->arena);
	for (unsigned i = 0; i < 10000; i++)
		assert_true(str_is(element_child_text(stanza->root, "body", NS_CLIENT), "ab"));
	assert_int_equal(arena_size(stanza->arena), size);
	stanza_unref(&stanza);
}

static void
test_copy(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<iq xmlns='jabber:client' type='get' to='a@b/c' id='7'><q xmlns='urn:q'/></iq>");
	struct iris_stanza *copy;

	stanza_freeze(stanza);
	copy = stanza_copy(stanza);
	stanza_unref(&stanza);
	assert_false(copy->frozen);
	assert_true(str_is(jid_resource(&copy->to), "c"));
	assert_true(jid_is_none(&copy->from));
	stanza_set_id(copy, IRIS_STR("8"));
	expect_delivered(copy, "<iq to='a@b/c' type='get' id='8'><q xmlns='urn:q'/></iq>");
	stanza_unref(&copy);
}

static void
test_compact(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<presence xmlns='jabber:client' from='a@b/c'><show>away</show></presence>");
	struct iris_stanza *compact;

	stanza_freeze(stanza);
	compact = stanza_compact(stanza);
	assert_true(compact->frozen && str_is(jid_resource(&compact->from), "c"));
	assert_true(arena_size(compact->arena) < arena_size(stanza->arena));
	stanza_unref(&stanza);
	expect_delivered(compact, "<presence from='a@b/c'><show>away</show></presence>");
	stanza_unref(&compact);
}

static void
test_new(void **state)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_stanza *presence = stanza_new(IRIS_PRESENCE, IRIS_UNAVAILABLE);
	struct iris_stanza *second = stanza_ref(presence);

	assert_true(message->received_ms > 0);
	expect_delivered(message, "<message/>");
	stanza_unref(&message);
	stanza_unref(&presence);
	expect_delivered(second, "<presence type='unavailable'/>");
	stanza_unref(&second);
}

static void
test_error(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<iq xmlns='jabber:client' type='get' to='a@b' from='c@d/e' "
		"id='&lt;1'><q xmlns='urn:q'/></iq>");
	struct iris_refusal refusal = { .condition = IRIS_FORBIDDEN, .text = "Not you" };
	struct iris_stanza *error = stanza_error(stanza, &refusal), *again;

	expect_delivered(error,
			 "<iq to='c@d/e' type='error' from='a@b' id='&lt;1'><error type='auth'>"
			 "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
			 "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Not "
			 "you</text></error></iq>");
	again = stanza_error(error, &refusal);
	assert_null(again);
	stanza_unref(&error);
	stanza_unref(&stanza);
}

static void
test_error_with_application_condition(void **state)
{
	struct iris_stanza *stanza = stanza_of(
		"<message xmlns='jabber:client' type='chat' from='c@d'/>");
	struct iris_refusal refusal = { .condition = IRIS_CONFLICT, .type = "wait",
		.app = element_new(stanza->arena, "odd", "urn:odd") };
	struct iris_stanza *error = stanza_error(stanza, &refusal);

	stanza_unref(&stanza); /* the error has a copy */
	expect_delivered(error, "<message to='c@d' type='error'><error type='wait'><conflict "
				"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><odd "
				"xmlns='urn:odd'/></error></message>");
	stanza_unref(&error);
}

static void
test_result(void **state)
{
	struct iris_stanza *stanza =
		stanza_of("<iq xmlns='jabber:client' type='set' to='a@b' from='c@d/e' id='1'/>");
	struct iris_stanza *result = stanza_result(stanza);
	struct iris_refusal refusal = { .condition = IRIS_BAD_REQUEST };

	assert_null(stanza_error(result, &refusal));
	expect_delivered(result, "<iq to='c@d/e' type='result' from='a@b' id='1'/>");
	stanza_unref(&result);
	stanza_unref(&stanza);
}

static void
test_afar(void **state)
{
	static const struct {
		const char *text;
		bool transit, kept_from;
	} cases[] = {
		{ "<message xmlns='jabber:client' to='a@b' from='c@d'/>", false, false },
		{ "<message xmlns='jabber:client' to='a@b' from='c@d'/>", true, true },
		{ "<iq xmlns='jabber:client' type='get' to='a@b' from='c@d'/>", false, false },
		/* P2.5: an answer from elsewhere is never kept */
		{ "<iq xmlns='jabber:client' type='result' to='a@b' from='c@d' id='1'/>", false,
		  true },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct iris_stanza *stanza = stanza_of(cases[i].text), *copy, *compact, *error;

		assert_false(stanza->transit || stanza->from_afar);
		stanza_set_afar(stanza, cases[i].transit);
		assert_true(stanza->from_afar);
		assert_int_equal(stanza->transit, cases[i].kept_from);
		copy = stanza_copy(stanza);
		compact = stanza_compact(copy);
		assert_int_equal(compact->transit, cases[i].kept_from);
		assert_true(compact->from_afar);
		error = stanza_error(stanza, &(struct iris_refusal){ .condition = IRIS_GONE });
		if (error) {
			assert_int_equal(error->transit, cases[i].kept_from);
			assert_false(error->from_afar); /* it is our own */
		}
		stanza_unref(&error);
		stanza_unref(&compact);
		stanza_unref(&copy);
		stanza_unref(&stanza);
	}
}

static void
test_conditions(void **state)
{
	assert_string_equal(condition_name(IRIS_UNEXPECTED_REQUEST), "unexpected-request");
	assert_string_equal(condition_default_type(IRIS_UNEXPECTED_REQUEST), "wait");
	assert_string_equal(condition_name(IRIS_BAD_REQUEST), "bad-request");
	assert_string_equal(condition_default_type(IRIS_BAD_REQUEST), "modify");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_no_stanza),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_delivery),
		cmocka_unit_test(test_freeze_joins_texts),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_compact),
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_error_with_application_condition),
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_afar),
		cmocka_unit_test(test_conditions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
