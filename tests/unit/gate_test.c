/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/gate.c and region_map.c: what each kind of stanza is (P2.4), and what a map makes of it.
 * The tables here are written down from the product's words, not from the gate's table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "config_private.h"
#include "gate_private.h"
#include "worker_private.h"

#define BIT(category) (1u << IRIS_GATE_##category)

/* --- what it is --- */

struct sample {
	const char *xml;
	unsigned plain, room; /* between accounts; one side a room's */
};

#define C "<message xmlns='jabber:client' "
#define P "<presence xmlns='jabber:client' "
#define Q "<iq xmlns='jabber:client' id='1' "
#define BODY "<body>x</body>"

static const struct sample samples[] = {
	{ C "type='chat'>" BODY "</message>", BIT(MESSAGE), BIT(BUBBLE) },
	{ C ">" BODY "</message>", BIT(MESSAGE), BIT(BUBBLE) },
	{ C "type='chat'/>", BIT(MESSAGE), BIT(BUBBLE) },
	{ C "type='headline'>" BODY "</message>", BIT(MESSAGE), BIT(BUBBLE) },
	{ C "type='groupchat'>" BODY "</message>", BIT(BUBBLE), BIT(BUBBLE) },
	{ C "type='chat'>" BODY "<x xmlns='jabber:x:oob'><url>u</url></x></message>",
	  BIT(MESSAGE) | BIT(FILE_LINK), BIT(BUBBLE) | BIT(FILE_LINK) },
	{ C "type='groupchat'>" BODY "<file-sharing xmlns='urn:xmpp:sfs:0'/></message>",
	  BIT(BUBBLE) | BIT(FILE_LINK), BIT(BUBBLE) | BIT(FILE_LINK) },
	{ C "><reference xmlns='urn:xmpp:reference:0'/></message>", BIT(MESSAGE) | BIT(FILE_LINK),
	  BIT(BUBBLE) | BIT(FILE_LINK) },
	{ C "><propose xmlns='urn:xmpp:jingle-message:0' id='a'/></message>", BIT(CONFERENCE),
	  BIT(CONFERENCE) | BIT(BUBBLE) },
	{ C ">" BODY "<propose xmlns='urn:xmpp:jingle-message:0' id='a'/></message>",
	  BIT(CONFERENCE) | BIT(MESSAGE), BIT(CONFERENCE) | BIT(BUBBLE) },
	{ C "type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'/></message>",
	  BIT(PROFILE), BIT(PROFILE) | BIT(BUBBLE) },
	{ C ">" BODY "<event xmlns='http://jabber.org/protocol/pubsub#event'/></message>",
	  BIT(PROFILE) | BIT(MESSAGE), BIT(PROFILE) | BIT(BUBBLE) },
	{ C "><x xmlns='jabber:x:conference' jid='r@x'/></message>", BIT(BUBBLE), BIT(BUBBLE) },
	{ C "><x xmlns='http://jabber.org/protocol/muc#user'><invite/></x></message>", BIT(BUBBLE),
	  BIT(BUBBLE) },
	{ C "type='error'>" BODY "<error/></message>", BIT(MESSAGE), BIT(BUBBLE) },
	{ C "><foo xmlns='urn:example'/></message>", BIT(MESSAGE), BIT(BUBBLE) },

	{ P "/>", BIT(PRESENCE), BIT(BUBBLE) },
	{ P "type='unavailable'/>", BIT(PRESENCE), BIT(BUBBLE) },
	{ P "type='subscribe'><status>let me in</status></presence>", BIT(PRESENCE), BIT(BUBBLE) },
	{ P "type='probe'/>", BIT(PRESENCE), BIT(BUBBLE) },
	{ P "type='error'><error/></presence>", BIT(PRESENCE), BIT(BUBBLE) },
	{ P "><x xmlns='http://jabber.org/protocol/muc'/></presence>", BIT(BUBBLE), BIT(BUBBLE) },
	{ P "type='bogus'/>", BIT(UNKNOWN), BIT(UNKNOWN) },

	{ Q "type='set'><jingle xmlns='urn:xmpp:jingle:1'/></iq>", BIT(CONFERENCE),
	  BIT(CONFERENCE) | BIT(BUBBLE) },
	{ Q "type='get'><services xmlns='urn:xmpp:extdisco:2'/></iq>", BIT(CONFERENCE),
	  BIT(CONFERENCE) | BIT(BUBBLE) },
	{ Q "type='get'><vCard xmlns='vcard-temp'/></iq>", BIT(PROFILE), BIT(BUBBLE) },
	{ Q "type='get'><pubsub xmlns='http://jabber.org/protocol/pubsub'/></iq>", BIT(PROFILE),
	  BIT(UNKNOWN) },
	{ Q "type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'/></iq>", BIT(PROFILE),
	  BIT(UNKNOWN) },
	{ Q "type='get'><query xmlns='jabber:iq:last'/></iq>", BIT(PROFILE), BIT(UNKNOWN) },
	/* who searches for bubbles asks a directory, and of bubbles */
	{ Q "type='get'><query xmlns='jabber:iq:search'/></iq>", BIT(DIRECTORY),
	  BIT(DIRECTORY) | BIT(BUBBLE) },
	{ Q "type='set'><query xmlns='jabber:iq:search'/></iq>", BIT(DIRECTORY),
	  BIT(DIRECTORY) | BIT(BUBBLE) },
	{ Q "type='get'><search xmlns='urn:xmpp:channel-search:0:search'/></iq>", BIT(DIRECTORY),
	  BIT(DIRECTORY) | BIT(BUBBLE) },
	{ Q "type='get'><request xmlns='urn:xmpp:http:upload:0'/></iq>", BIT(FILE_LINK),
	  BIT(UNKNOWN) },
	{ Q "type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", BIT(SERVICE),
	  BIT(BUBBLE) },
	{ Q "type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>", BIT(SERVICE),
	  BIT(BUBBLE) },
	{ Q "type='get'><ping xmlns='urn:xmpp:ping'/></iq>", BIT(SERVICE), BIT(BUBBLE) },
	{ Q "type='get'><query xmlns='http://jabber.org/protocol/muc#admin'/></iq>", BIT(BUBBLE),
	  BIT(BUBBLE) },
	{ Q "type='set'><query xmlns='urn:xmpp:mam:2'/></iq>", BIT(UNKNOWN), BIT(BUBBLE) },
	{ Q "type='set'><query xmlns='jabber:iq:register'/></iq>", BIT(UNKNOWN), BIT(BUBBLE) },
	/* files themselves, and what nobody thought of */
	{ Q "type='set'><data xmlns='http://jabber.org/protocol/ibb'/></iq>", BIT(UNKNOWN),
	  BIT(UNKNOWN) },
	{ Q "type='set'><query xmlns='http://jabber.org/protocol/bytestreams'/></iq>", BIT(UNKNOWN),
	  BIT(UNKNOWN) },
	{ Q "type='set'><query xmlns='jabber:iq:private'/></iq>", BIT(UNKNOWN), BIT(UNKNOWN) },
	{ Q "type='set'><command xmlns='http://jabber.org/protocol/commands'/></iq>", BIT(UNKNOWN),
	  BIT(UNKNOWN) },
	{ Q "type='get'><foo xmlns='urn:example'/></iq>", BIT(UNKNOWN), BIT(UNKNOWN) },
	/* a name of ours in another namespace */
	{ Q "type='get'><vCard xmlns='urn:example'/></iq>", BIT(UNKNOWN), BIT(UNKNOWN) },
	/* an answer: what it answers decides */
	{ Q "type='result'><vCard xmlns='vcard-temp'/></iq>", BIT(UNKNOWN), BIT(UNKNOWN) },
	{ Q "type='error'><error/></iq>", BIT(UNKNOWN), BIT(UNKNOWN) },
};

static struct iris_stanza *
stanza_of(const char *xml, const char *from, const char *to)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, str_from(xml));
	struct iris_stanza *stanza;
	const char *condition;

	assert_non_null(root);
	element_set(root, "from", str_from(from));
	element_set(root, "to", str_from(to));
	stanza = stanza_from_element(arena, root, &condition);
	assert_non_null(stanza);
	return stanza;
}

static void
each_stanza_is_what_the_product_says(void **state)
{
	for (size_t i = 0; i < IRIS_COUNT(samples); i++) {
		struct iris_stanza *stanza = stanza_of(samples[i].xml, "a@near", "b@far");

		if (gate_classify(stanza, false, false) != samples[i].plain ||
		    gate_classify(stanza, true, false) != samples[i].room ||
		    gate_classify(stanza, false, true) != samples[i].room)
			fail_msg("%s: %x and %x", samples[i].xml,
				 gate_classify(stanza, false, false),
				 gate_classify(stanza, false, true));
		stanza_unref(&stanza);
	}
}

/* --- what a map makes of it --- */

#define CA "ca: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD "map: { name: test, serial: 7, issued: 2026-01-01T00:00:00Z }\n"
#define REGIONS                                                                                 \
	"regions:\n  list:\n"                                                                   \
	"    - { id: emea, domains: [emea.test], rooms: [rooms.emea.test],\n"                     \
	"        external: true, " CA " }\n"                                                   \
	"    - { id: na, domains: [na.test], rooms: [rooms.na.test], " CA " }\n"                \
	"    - { id: hds, class: isolated, domains: [hds.test], " CA " }\n"
#define POLICY                                                                                  \
	"policy:\n  rules:\n"                                                                   \
	"    - { from: emea, to: na, categories: [message], verdict: transit }\n"               \
	"    - { from: '*', to: '*', categories: [message, profile, service],\n"               \
	"        verdict: deliver }\n"                                                         \
	"    - { from: na, to: emea, categories: [bubble], verdict: deliver }\n"

static struct region_map *
map_of(const char *text)
{
	struct iris_report report = { .error_count = 0 };
	struct region_map *map = region_map_parse("map.yaml", str_from(text), &report);

	if (!map)
		report_write(&report, stdout);
	report_clear(&report);
	return map;
}

static enum iris_gate_verdict
leave(const char *xml, const char *to, const char *proven)
{
	struct iris_stanza *stanza = stanza_of(xml, "a@emea.test/x", to);
	struct iris_gate_opinion opinion =
		gate_judge(IRIS_GATE_LEAVING, stanza, &stanza->to, str_from(proven));

	stanza_unref(&stanza);
	return opinion.verdict;
}

static enum iris_gate_verdict
enter(const char *xml, const char *from, const char *proven)
{
	struct iris_stanza *stanza = stanza_of(xml, from, "a@emea.test/x");
	struct iris_gate_opinion opinion =
		gate_judge(IRIS_GATE_ENTERING, stanza, &stanza->to, str_from(proven));

	stanza_unref(&stanza);
	return opinion.verdict;
}

#define CHAT C "type='chat'>" BODY "</message>"
#define LINK C "type='chat'>" BODY "<x xmlns='jabber:x:oob'/></message>"

static void
the_map_decides(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS POLICY);

	assert_non_null(map);
	gate_set_map(map, 0);
	/* the first rule that matches, in its direction only */
	assert_int_equal(leave(CHAT, "b@na.test", "na"), IRIS_GATE_TRANSIT);
	assert_int_equal(enter(CHAT, "b@na.test/y", "na"), IRIS_GATE_DELIVER);
	/* of several categories the strictest; file-link is named nowhere */
	assert_int_equal(leave(LINK, "b@na.test", "na"), IRIS_GATE_DENY);
	/* presence is named nowhere */
	assert_int_equal(leave(P "/>", "b@na.test", "na"), IRIS_GATE_DENY);
	/* bubbles one way only, by type and by domain */
	assert_int_equal(enter(C "type='groupchat'>" BODY "</message>", "r@rooms.na.test/n", "na"),
			 IRIS_GATE_DELIVER);
	assert_int_equal(leave(CHAT, "r@rooms.na.test/n", "na"), IRIS_GATE_DENY);
	/* no rule opens an isolated region */
	assert_int_equal(leave(CHAT, "b@hds.test", "hds"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@hds.test", "hds"), IRIS_GATE_DENY);
	/* outside: emea may, by the rule for everybody */
	assert_int_equal(leave(CHAT, "b@elsewhere.test", NULL), IRIS_GATE_DELIVER);
	gate_set_map(map, 1);
	assert_int_equal(leave(CHAT, "b@elsewhere.test", NULL), IRIS_GATE_DENY);
	gate_set_map(NULL, 0);
	assert_int_equal(leave(CHAT, "b@na.test", "na"), IRIS_GATE_DENY);
	region_map_free(&map);
}

/* SECURITY: the certificate of one region for the domain of another, or of none. */
static void
a_region_is_what_its_certificate_proves(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS POLICY);

	gate_set_map(map, 0);
	assert_int_equal(enter(CHAT, "b@na.test", "na"), IRIS_GATE_DELIVER);
	assert_int_equal(enter(CHAT, "b@na.test", NULL), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@na.test", "emea"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@na.test", "nobody"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@elsewhere.test", "na"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@elsewhere.test", NULL), IRIS_GATE_DELIVER);
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

#define ASK Q "type='get'><vCard xmlns='vcard-temp'/></iq>"
#define ANSWER Q "type='result'><vCard xmlns='vcard-temp'/></iq>"

static void
an_answer_passes_once_and_only_when_asked(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS POLICY);

	gate_set_map(map, 0);
	assert_int_equal(enter(ANSWER, "b@na.test", "na"), IRIS_GATE_DENY);
	assert_int_equal(leave(ASK, "b@na.test", "na"), IRIS_GATE_DELIVER);
	assert_int_equal(enter(ANSWER, "c@na.test", "na"), IRIS_GATE_DENY);
	assert_int_equal(enter(ANSWER, "b@na.test", "na"), IRIS_GATE_DELIVER);
	assert_int_equal(enter(ANSWER, "b@na.test", "na"), IRIS_GATE_DENY);
	/* what was not let out has no answer */
	assert_int_equal(leave(Q "type='get'><query xmlns='jabber:iq:search'/></iq>", "b@na.test",
			       "na"),
			 IRIS_GATE_DENY);
	assert_int_equal(enter(ANSWER, "b@na.test", "na"), IRIS_GATE_DENY);
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

/* SECURITY: what the map does not have in our region speaks for nobody of it. */
static void
only_domains_of_our_region_are_ours(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS POLICY);
	struct iris_stanza *stanza;

	gate_set_map(map, 0);
	stanza = stanza_of(CHAT, "a@forgotten.test/x", "b@na.test");
	assert_int_equal(gate_judge(IRIS_GATE_LEAVING, stanza, &stanza->to, IRIS_STR("na")).verdict,
			 IRIS_GATE_DENY);
	stanza_unref(&stanza);
	stanza = stanza_of(CHAT, "b@na.test", "a@forgotten.test/x");
	assert_int_equal(
		gate_judge(IRIS_GATE_ENTERING, stanza, &stanza->to, IRIS_STR("na")).verdict,
		IRIS_GATE_DENY);
	stanza_unref(&stanza);
	/* a map that leaves us out */
	gate_set_map(map, map->count);
	assert_int_equal(leave(CHAT, "b@na.test", "na"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@na.test", "na"), IRIS_GATE_DENY);
	assert_int_equal(enter(CHAT, "b@elsewhere.test", NULL), IRIS_GATE_DENY);
	assert_false(gate_place(IRIS_STR("na.test")).is_open);
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

#define TRANSIT "policy: { rules: [ { from: na, to: emea, categories: [message], " \
		"verdict: transit } ] }\n"

static void
transit_is_a_verdict_of_its_direction(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS TRANSIT);

	gate_set_map(map, 0);
	assert_int_equal(enter(CHAT, "b@na.test", "na"), IRIS_GATE_TRANSIT);
	assert_int_equal(leave(CHAT, "b@na.test", "na"), IRIS_GATE_DENY);
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

static bool
is_refused_openly(const char *xml, const char *from, const char *proven)
{
	struct iris_stanza *stanza = stanza_of(xml, from, "a@emea.test/x");
	struct iris_gate_opinion opinion =
		gate_judge(IRIS_GATE_ENTERING, stanza, &stanza->to, str_from(proven));

	stanza_unref(&stanza);
	return opinion.openly;
}

static void
a_refusal_is_open_if_all_that_is_refused_is(void **state)
{
	struct region_map *map = map_of(HEAD REGIONS POLICY);

	gate_set_map(map, 0);
	assert_false(is_refused_openly(LINK, "b@na.test", "na"));
	gate_set_openly(BIT(FILE_LINK));
	assert_true(is_refused_openly(LINK, "b@na.test", "na"));
	assert_false(is_refused_openly(P "/>", "b@na.test", "na"));
	assert_false(is_refused_openly(CHAT, "b@na.test", "na")); /* it passes */
	/* SECURITY: who lies is told nothing */
	assert_false(is_refused_openly(LINK, "b@na.test", "emea"));
	assert_false(is_refused_openly(
		C "><x xmlns='jabber:x:oob'/><propose xmlns='urn:xmpp:jingle-message:0'/>"
		  "</message>",
		"b@na.test", "na"));
	gate_set_openly(0);
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

static void
a_domain_has_a_place(void **state)
{
	struct region_map *map =
		map_of(HEAD "regions:\n  list:\n    - { id: emea, domains: [emea.test], " CA " }\n"
			    "    - { id: na, domains: [na.test], rooms: [rooms.na.test], " CA ",\n"
			    "        endpoints: ['xmpp.na.test:5270', '[2001:db8::1]:5271'] }\n"
			    "    - { id: apac, domains: [apac.test], " CA " }\n"
			    "policy: { rules: [ { from: na, to: emea, categories: [service], "
			    "verdict: deliver } ] }\n");
	struct iris_gate_place place;

	assert_non_null(map);
	assert_int_equal(gate_serial(), 0);
	assert_false(gate_is_boundary(IRIS_STR("na.test")));
	gate_set_map(map, 0);
	assert_int_equal(gate_serial(), 7);
	place = gate_place(IRIS_STR("na.test"));
	assert_true(str_is(place.region, "na") && place.is_open && !place.is_own);
	assert_int_equal(place.endpoint_count, 2);
	assert_true(str_is(place.endpoints[0].host, "xmpp.na.test"));
	assert_int_equal(place.endpoints[0].port, 5270);
	assert_true(str_is(place.endpoints[1].host, "2001:db8::1"));
	assert_false(gate_place(IRIS_STR("apac.test")).is_open);
	assert_true(gate_place(IRIS_STR("emea.test")).is_own);
	assert_true(str_is_none(gate_place(IRIS_STR("elsewhere.test")).region));
	assert_non_null(gate_authority(IRIS_STR("na")));
	assert_null(gate_authority(IRIS_STR("mars")));
	assert_true(gate_is_boundary(IRIS_STR("na.test")));
	assert_true(gate_is_boundary(IRIS_STR("elsewhere.test")));
	assert_false(gate_is_boundary(IRIS_STR("rooms.na.test")));
	assert_false(gate_is_boundary(IRIS_STR("emea.test")));
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

static void
what_is_wrong_with_a_map_is_told(void **state)
{
	static const char *const wrong[] = {
		REGIONS POLICY,
		HEAD POLICY,
		"map: { name: test, serial: 0, issued: 2026-01-01T00:00:00Z }\n" REGIONS,
		"map: { name: test, serial: 1, issued: yesterday }\n" REGIONS,
		HEAD "regions: { list: [ { id: EMEA, " CA " } ] }\n",
		HEAD "regions: { list: [ { id: external, " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, " CA " }, { id: a, " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, ca: abc } ] }\n",
		HEAD "regions: { list: [ { id: a, endpoints: ['x.test'], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, endpoints: ['x.test:0'], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, endpoints: [':5270'], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, endpoints: ['2001:db8::1:5270'], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, domains: [x.test], " CA
		     " }, { id: b, rooms: [x.test], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, domains: ['a@b'], " CA " } ] }\n",
		HEAD "regions: { list: [ { id: a, class: isolated, external: true, " CA " } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: emea, to: hds, categories: [message], "
			     "verdict: deliver } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: na, to: external, categories: [message], "
			     "verdict: deliver } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: emea, to: mars, categories: [message], "
			     "verdict: deliver } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: emea, to: na, categories: [gossip], "
			     "verdict: deliver } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: emea, to: na, categories: [unknown], "
			     "verdict: deliver } ] }\n",
		HEAD REGIONS "policy: { rules: [ { from: emea, to: na, categories: [message], "
			     "verdict: maybe } ] }\n",
	};

	for (size_t i = 0; i < IRIS_COUNT(wrong); i++) {
		struct region_map *map = map_of(wrong[i]);

		if (map)
			fail_msg("taken: %s", wrong[i]);
	}
}

static void
a_map_is_signed_as_a_whole(void **state)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char *file = region_map_sign(str_from(HEAD REGIONS POLICY), key);
	struct iris_str text;

	assert_non_null(file);
	assert_int_equal(region_map_verify(str_from(file), key, &text), REGION_SIGNED);
	assert_true(str_is(text, HEAD REGIONS POLICY));
	assert_int_equal(region_map_verify(str_from(file), other, &text), REGION_FORGED);
	assert_int_equal(region_map_verify(str_from(HEAD), key, &text), REGION_UNSIGNED);
	for (size_t i = 0; i < strlen(HEAD REGIONS POLICY); i++) {
		file[i] ^= 1;
		assert_int_not_equal(region_map_verify(str_from(file), key, &text), REGION_SIGNED);
		file[i] ^= 1;
	}
	assert_int_equal(region_map_verify(str_from(file), key, &text), REGION_SIGNED);
	free(file);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

static void
a_difference_reads_like_a_sentence(void **state)
{
	struct region_map *before = map_of(HEAD REGIONS POLICY);
	struct region_map *after =
		map_of("map: { name: test, serial: 8, issued: 2026-02-01T00:00:00Z }\n" REGIONS
		       "    - { id: apac, domains: [apac.test], " CA " }\n"
		       "policy: { rules: [ { from: emea, to: na, categories: [message], "
		       "verdict: deny } ] }\n");
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = { .arena = arena };

	assert_non_null(before);
	assert_non_null(after);
	region_map_diff(&out, before, after);
	assert_non_null(strstr(strbuf_str(&out).base, "region apac comes (federated)\n"));
	assert_non_null(strstr(strbuf_str(&out).base, "domain apac.test comes to apac\n"));
	assert_non_null(strstr(strbuf_str(&out).base, "emea → na, message: deny (was transit)\n"));
	assert_null(strstr(strbuf_str(&out).base, "serial"));
	region_map_free(&before);
	region_map_free(&after);
	arena_unref(&arena);
}

static int
set_up(void **state)
{
	worker_main_init();
	gate_open();
	return 0;
}

static int
tear_down(void **state)
{
	gate_close();
	worker_main_free();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_stanza_is_what_the_product_says),
		cmocka_unit_test(the_map_decides),
		cmocka_unit_test(a_region_is_what_its_certificate_proves),
		cmocka_unit_test(an_answer_passes_once_and_only_when_asked),
		cmocka_unit_test(only_domains_of_our_region_are_ours),
		cmocka_unit_test(transit_is_a_verdict_of_its_direction),
		cmocka_unit_test(a_refusal_is_open_if_all_that_is_refused_is),
		cmocka_unit_test(a_domain_has_a_place),
		cmocka_unit_test(what_is_wrong_with_a_map_is_told),
		cmocka_unit_test(a_map_is_signed_as_a_whole),
		cmocka_unit_test(a_difference_reads_like_a_sentence),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("gate", tests, set_up, tear_down);
}
