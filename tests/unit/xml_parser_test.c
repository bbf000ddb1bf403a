/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream parser.  What it reports is compared as a transcript: "H" and the header, "E" and an
 * element, "C" for the closing tag, "X" and the condition of an error, one line each.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "xml_parser.h"

#define HEADER "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' to='example.org'>"
#define SEEN_HEADER "H<stream:stream xmlns:stream='" NS_STREAM "' to='example.org'/>\n"

static struct iris_arena *arena;
static struct iris_strbuf transcript;

static int
setup(void **state)
{
	arena = arena_new();
	transcript = STRBUF_INIT(arena);
	return 0;
}

static int
teardown(void **state)
{
	arena_unref(&arena);
	return 0;
}

/* Fetches all events; false: the stream is over. */
static bool
drain(struct xml_parser *parser)
{
	struct iris_arena *mine;
	struct iris_element *element;

	for (;;) {
		switch (xml_parser_next(parser, &mine, &element)) {
		case XML_EVENT_NONE:
			return true;
		case XML_EVENT_HEADER:
		case XML_EVENT_ELEMENT:
			strbuf_add_char(&transcript, str_is(element->ns, NS_STREAM) ? 'H' : 'E');
			element_write(&transcript, element, IRIS_STR(NS_CLIENT));
			strbuf_add_char(&transcript, '\n');
			arena_unref(&mine);
			break;
		case XML_EVENT_CLOSED:
			strbuf_add(&transcript, IRIS_STR("C\n"));
			return false;
		case XML_EVENT_ERROR:
			strbuf_printf(&transcript, "X%s\n", xml_parser_error(parser).condition);
			return false;
		}
	}
}

static const char *
seen(void)
{
	struct iris_str text = strbuf_str(&transcript);

	transcript = STRBUF_INIT(arena);
	return text.base;
}

/* The transcript of a whole input, fed in pieces of `piece` bytes; 0: of random sizes. */
static const char *
transcript_of(struct iris_str input, const struct xml_limits *limits, size_t piece, bool resting)
{
	struct xml_parser *parser = xml_parser_new(limits);
	size_t at = 0;

	while (at < input.len) {
		size_t len = piece ? piece : 1 + (size_t)rand() % 40;

		if (len > input.len - at)
			len = input.len - at;
		xml_parser_feed(parser, (struct iris_str){ input.base + at, len });
		at += len;
		if (!drain(parser))
			break;
		if (resting)
			xml_parser_rest(parser);
	}
	xml_parser_free(&parser);
	assert_null(parser);
	return seen();
}

static void
expect(const char *input, const char *expected)
{
	struct iris_str text = str_from(input);

	for (size_t piece = 1; piece <= 3; piece++)
		assert_string_equal(
			transcript_of(text, &xml_limits_authenticated, piece, piece == 2),
			expected);
	assert_string_equal(transcript_of(text, &xml_limits_authenticated, text.len, false),
			    expected);
}

/* The condition that ends a stream in which `input` follows the header. */
static void
expect_error(const char *input, const char *condition)
{
	char whole[4096], expected[512];

	(void)snprintf(whole, sizeof(whole), "%s%s", HEADER, input);
	(void)snprintf(expected, sizeof(expected), "%sX%s\n", SEEN_HEADER, condition);
	expect(whole, expected);
}

static void
test_stream(void **state)
{
	expect("<?xml version='1.0'?>" HEADER
	       "<message to='a@b'><body>Hi</body></message> \n <presence/>"
	       "<iq xmlns='urn:x'/></stream:stream>",
	       SEEN_HEADER "E<message to='a@b'><body>Hi</body></message>\nE<presence/>\nE<iq "
			   "xmlns='urn:x'/>\nC\n");
	expect("\n\n <?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" HEADER
	       "<presence/>",
	       SEEN_HEADER "E<presence/>\n");
	expect(HEADER "</stream:stream>  garbage <", SEEN_HEADER "C\n");
	expect("<stream:stream xmlns:stream='" NS_STREAM "'/>",
	       "H<stream:stream xmlns:stream='" NS_STREAM "'/>\nC\n");
}

static void
test_content(void **state)
{
	expect(HEADER "<a>1&lt;2&#x41;&amp;<![CDATA[<b>&amp;</b>]]>\r\nx\xc3\xa5</a>",
		SEEN_HEADER "E<a>1&lt;2A&amp;&lt;b&gt;&amp;amp;&lt;/b&gt;\nx\xc3\xa5</a>\n");
	expect(HEADER "<a b='&quot;&apos;&#10;' c=\"'\"/>",
		SEEN_HEADER "E<a b='&quot;&apos;&#10;' c='&apos;'/>\n");
	expect(HEADER "<a>]]</a><a>></a>", SEEN_HEADER "E<a>]]</a>\nE<a>&gt;</a>\n");
}

/* Prefixes declared by the header hold in all stanzas, whichever engine parses them. */
static void
test_header_prefixes(void **state)
{
	expect("<s:stream xmlns:s='" NS_STREAM
	       "' xmlns:p='urn:&lt;p' xmlns='jabber:client'><p:x p:y='1'/>"
	       "<message><p:z/></message><s:features/></s:stream>",
	       "H<stream:stream xmlns:stream='" NS_STREAM "'/>\n"
	       "E<x xmlns='urn:&lt;p' xmlns:a1='urn:&lt;p' a1:y='1'/>\n"
	       "E<message><z xmlns='urn:&lt;p'/></message>\n"
	       "H<stream:features xmlns:stream='" NS_STREAM "'/>\nC\n");
	expect("<stream xmlns='" NS_STREAM "'><message xmlns='jabber:client'/></stream>",
		"H<stream:stream xmlns:stream='" NS_STREAM "'/>\nE<message/>\nC\n");
}

static void
test_content_namespace(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);

	assert_true(str_is_none(xml_parser_content_ns(parser)));
	xml_parser_feed(parser, IRIS_STR("<stream:stream xmlns='" NS_COMPONENT
					 "' xmlns:stream='" NS_STREAM "'>"));
	assert_true(str_is(xml_parser_content_ns(parser), NS_COMPONENT));
	assert_true(drain(parser));
	xml_parser_rest(parser);
	xml_parser_feed(parser, IRIS_STR("<message><body>x</body><a xmlns='urn:a'/></message>"));
	assert_true(drain(parser));
	assert_string_equal(seen(), "H<stream:stream xmlns:stream='" NS_STREAM "'/>\n"
		"E<message><body>x</body><a xmlns='urn:a'/></message>\n");
	assert_true(str_is(xml_parser_content_ns(parser), NS_COMPONENT));
	xml_parser_restart(parser);
	assert_true(str_is_none(xml_parser_content_ns(parser)));
	xml_parser_free(&parser);
}

static void
test_conditions(void **state)
{
	expect_error("<a></b>", "not-well-formed");
	expect_error("<a b='1' b='2'/>", "not-well-formed");
	expect_error("<a>\x01", "not-well-formed");
	expect_error("<a>\xff</a>", "not-well-formed");
	expect_error("<a>\xed\xa0\x80</a>", "not-well-formed");
	expect_error("<a>&#0;</a>", "not-well-formed");
	expect_error("<a b='<'/>", "not-well-formed");
	expect_error("<a>]]></a>", "not-well-formed");
	expect_error("<?xml version='1.0'?><a/>", "not-well-formed");
	expect_error("<!DOCTYPE a><a/>", "not-well-formed");
	expect_error("<p:a/>", "not-well-formed");
	expect_error("<a p:b='1'/>", "not-well-formed");
	expect_error("<a xmlns:xmlns='urn:x'/>", "not-well-formed");
	expect_error("<!-- x --><a/>", "restricted-xml");
	expect_error("<a><!-- x --></a>", "restricted-xml");
	expect_error("<?pi x?>", "restricted-xml");
	expect_error("<a>&foo;</a>", "restricted-xml");
	expect_error("<a b='&foo;'/>", "restricted-xml");
	expect_error("text", "invalid-xml");
	expect_error("&amp;<a/>", "invalid-xml");
	expect_error("<![CDATA[x]]>", "invalid-xml");
	expect_error("<![CDATA[<a/>]]>", "invalid-xml");
	expect_error("<![CDATA[]]>", "invalid-xml");
}

static void
test_conditions_of_the_header(void **state)
{
	expect("<!DOCTYPE a [<!ENTITY x 'y'>]>", "Xrestricted-xml\n");
	expect("<!-- x -->", "Xrestricted-xml\n");
	expect("<?pi x?>", "Xrestricted-xml\n");
	expect("<?xml version='1.0' encoding='ISO-8859-1'?>" HEADER, "Xunsupported-encoding\n");
	expect("<?xml version='1.0' encoding='UTF-16'?>" HEADER, "Xunsupported-encoding\n");
	expect("\xff\xfe<\0", "Xunsupported-encoding\n");
	expect("\xfe\xff", "Xunsupported-encoding\n");
	expect("\xef\xbb\xbf" HEADER, "Xnot-well-formed\n");
	expect("GET / HTTP/1.1\r\n", "Xnot-well-formed\n");
	expect("\x16\x03\x01", "Xnot-well-formed\n");
	expect("<stream xmlns='jabber:client'>", "Xinvalid-namespace\n");
	expect("<stream:stream xmlns:stream='http://etherx.jabber.org/stream'>",
	       "Xinvalid-namespace\n");
	expect("<stream:streams xmlns:stream='" NS_STREAM "'>", "Xbad-format\n");
	expect("<stream:stream>", "Xnot-well-formed\n");
	expect("</stream:stream>", "Xnot-well-formed\n");
}

/* What came before the fault is still handled. */
static void
test_elements_before_the_error(void **state)
{
	expect(HEADER "<a/><b/><!-- --><c/>", SEEN_HEADER "E<a/>\nE<b/>\nXrestricted-xml\n");
}

static void
fill(struct iris_strbuf *buf, const char *unit, size_t count)
{
	for (size_t i = 0; i < count; i++)
		strbuf_add(buf, str_from(unit));
}

/* HEADER + before + unit × count + after, with the limits given; the same whatever the pieces. */
static void
expect_limit(const struct xml_limits *limits, const char *before, const char *unit, size_t count,
	     const char *after, bool refused)
{
	static const size_t pieces[] = { 0, 1000, 1 << 20 };
	struct iris_strbuf buf = STRBUF_INIT(arena);

	strbuf_add(&buf, IRIS_STR(HEADER));
	strbuf_add(&buf, str_from(before));
	fill(&buf, unit, count);
	strbuf_add(&buf, str_from(after));
	for (size_t i = 0; i < IRIS_COUNT(pieces); i++) {
		const char *text = transcript_of(strbuf_str(&buf), limits, pieces[i], false);

		if ((strstr(text, "Xpolicy-violation\n") != NULL) != refused)
			fail_msg("%s%s x %zu%s: %.200s", before, unit, count, after, text);
		assert_true(refused == (strchr(text, 'E') == NULL));
	}
}

static void
test_limits(void **state)
{
	struct xml_limits limits = { .stanza_bytes = 20000,
				     .token_bytes = 10000,
				     .name_bytes = 40,
				     .depth = 5,
				     .attributes = 4,
				     .nodes = 50 };

	/* <a></a> is 7 bytes. */
	expect_limit(&limits, "<a>", "x", 19993, "</a>", false);
	expect_limit(&limits, "<a>", "x", 19994, "</a>", true);
	expect_limit(&limits, "<a>", "x", 100000, "", true);
	/* <a b=''/> is 9 bytes. */
	expect_limit(&limits, "<a b='", "x", 9991, "'/>", false);
	expect_limit(&limits, "<a b='", "x", 9992, "'/>", true);
	expect_limit(&limits, "<a b='", "x", 60000, "", true);
	expect_limit(&limits, "<a b='", ">", 60000, "", true);
	expect_limit(&limits, "<", "x", 40, "/>", false);
	expect_limit(&limits, "<", "x", 41, "/>", true);
	expect_limit(&limits, "<a xmlns='", "x", 41, "'/>", true);
	expect_limit(&limits, "<a xmlns:", "x", 41, "='y'/>", true);
	expect_limit(&limits, "<a ", "x", 41, "='y'/>", true);
	expect_limit(&limits, "<a><b><c><d>", "<e/>", 1, "</d></c></b></a>", false);
	expect_limit(&limits, "<a><b><c><d><e>", "<f/>", 1, "</e></d></c></b></a>", true);
	expect_limit(&limits, "<a xmlns:p='1' xmlns:q='2' p:b='1' q:c='2'", "", 0, "/>", false);
	expect_limit(&limits, "<a xmlns:p='1' xmlns:q='2' p:b='1' q:c='2'", " x='1'", 1, "/>",
		     true);
	expect_limit(&limits, "<a>", "<b/>", 49, "</a>", false);
	expect_limit(&limits, "<a>", "<b/>", 50, "</a>", true);
	expect_limit(&limits, "<a>", "x<b/>", 25, "</a>", true);
	expect_limit(&limits, "<a>", "<b c='d'/>", 25, "</a>", true);
	/* What makes no nodes counts as well. */
	expect_limit(&limits, "<a>", "<![CDATA[]]>", 1700, "</a>", true);
	expect_limit(&limits, "<!--", "x", 10001, "", true);
	expect_limit(&limits, "<?p ", "x", 10001, "", true);
	/* Keep-alive does not. */
	expect_limit(&limits, "", " ", 100000, "<a/>", false);
}

static void
test_header_limits(void **state)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	strbuf_add(&buf, IRIS_STR("<stream:stream xmlns:stream='" NS_STREAM "'"));
	for (unsigned i = 0; i < 20; i++) {
		strbuf_printf(&buf, " xmlns:p%u='", i);
		fill(&buf, "x", 200);
		strbuf_add(&buf, IRIS_STR("'"));
	}
	strbuf_add(&buf, IRIS_STR(">"));
	assert_string_equal(
		transcript_of(strbuf_str(&buf), &xml_limits_unauthenticated, 1000, false),
		"Xpolicy-violation\n");
	buf = STRBUF_INIT(arena);
	strbuf_add(&buf, IRIS_STR("<stream:stream to='"));
	fill(&buf, "x", 40000);
	assert_string_equal(
		transcript_of(strbuf_str(&buf), &xml_limits_unauthenticated, 1000, false),
		"Xpolicy-violation\n");
}

/* The end of a tag is seen when its last byte comes, however it is cut. */
static void
test_no_tag_is_late(void **state)
{
	static const char stanza[] =
		"<message to='a@b' type='chat'><body>Hello &amp; so</body></message>";
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);
	const char *expected =
		"E<message to='a@b' type='chat'><body>Hello &amp; so</body></message>\n";

	xml_parser_feed(parser, IRIS_STR(HEADER));
	assert_true(drain(parser));
	(void)seen();
	for (size_t cut = 1; cut < sizeof(stanza) - 1; cut++) {
		xml_parser_feed(parser, (struct iris_str){ stanza, cut });
		assert_true(drain(parser));
		assert_false(xml_parser_is_at_boundary(parser));
		xml_parser_rest(parser); /* must not do harm */
		xml_parser_feed(parser,
				(struct iris_str) { stanza + cut, sizeof(stanza) - 1 - cut });
		assert_true(drain(parser));
		assert_string_equal(seen(), expected);
		assert_true(xml_parser_is_at_boundary(parser));
		assert_false(xml_parser_wants_tick(parser));
	}
	for (size_t i = 0; i < sizeof(stanza) - 1; i++) {
		xml_parser_feed(parser, (struct iris_str){ stanza + i, 1 });
		assert_true(drain(parser));
	}
	assert_string_equal(seen(), expected);
	xml_parser_free(&parser);
}

/* SECURITY: an attribute of many '>', byte by byte, costs linear time, and still gets through. */
static void
test_ticks(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);
	unsigned ticks = 0;

	xml_parser_feed(parser, IRIS_STR(HEADER "<a b='"));
	assert_true(drain(parser));
	(void)seen();
	for (unsigned i = 0; i < 60000; i++) {
		xml_parser_feed(parser, IRIS_STR(">"));
		assert_true(drain(parser));
	}
	assert_true(xml_parser_wants_tick(parser));
	xml_parser_feed(parser, IRIS_STR("'/>"));
	while (xml_parser_wants_tick(parser)) {
		xml_parser_tick(parser);
		ticks++;
	}
	assert_int_equal(ticks, 1);
	assert_true(drain(parser));
	assert_int_equal(strlen(seen()), 60000 * 4 + strlen("E<a b=''/>\n"));
	assert_true(xml_parser_is_at_boundary(parser));
	xml_parser_free(&parser);
}

static void
test_large_attribute_in_pieces(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);

	xml_parser_feed(parser, IRIS_STR(HEADER "<a b='"));
	for (unsigned i = 0; i < 60000; i++)
		xml_parser_feed(parser, IRIS_STR("x"));
	xml_parser_feed(parser, IRIS_STR("'/>"));
	assert_true(drain(parser));
	assert_int_equal(strlen(seen()), strlen(SEEN_HEADER "E<a b=''/>\n") + 60000);
	/* Its buffers do not stay. */
	xml_parser_rest(parser);
	assert_int_equal(xml_parser_memory(parser), 0);
	xml_parser_free(&parser);
}

/* SECURITY: 100000 names that never come again; at no time does the parser keep many of them. */
static void
expect_bounded(bool never_at_boundary)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);
	size_t stanzas = 0, peak = 0;
	struct iris_arena *mine;
	struct iris_element *element;
	char text[64 * 50];

	xml_parser_feed(parser, IRIS_STR(HEADER));
	for (unsigned i = 0; i < 100000; i += 50) {
		int len = 0;

		if (never_at_boundary && i > 0)
			len += snprintf(text, sizeof(text), "/>");
		for (unsigned k = 0; k < 50; k++)
			len += snprintf(text + len, sizeof(text) - (size_t)len,
					"<n%u a%u='' xmlns='u%u'%s", i + k, i + k, i + k,
					never_at_boundary && k == 49 ? "" : "/>");
		xml_parser_feed(parser, (struct iris_str){ text, (size_t)len });
		if (xml_parser_memory(parser) > peak)
			peak = xml_parser_memory(parser);
		for (; xml_parser_next(parser, &mine, &element) <= XML_EVENT_ELEMENT && mine;
		     stanzas++)
			arena_unref(&mine);
	}
	assert_int_equal(stanzas, 1 + 100000 - never_at_boundary);
	assert_true(peak < 160 * 1024);
	xml_parser_free(&parser);
}

static void
test_distinct_names(void **state)
{
	expect_bounded(false);
	expect_bounded(true);
}

static void
test_distinct_names_in_one_stanza(void **state)
{
	struct xml_limits limits = xml_limits_authenticated;
	struct iris_strbuf buf = STRBUF_INIT(arena);

	limits.nodes = 1000000;
	strbuf_add(&buf, IRIS_STR(HEADER "<a>"));
	for (unsigned i = 0; i < 25000; i++)
		strbuf_printf(&buf, "<n%u/>", i);
	strbuf_add(&buf, IRIS_STR("</a>"));
	assert_string_equal(transcript_of(strbuf_str(&buf), &limits, 16384, false),
		SEEN_HEADER "Xpolicy-violation\n");
}

/* Of many tiny stanzas only a batch is made into trees, and nothing is lost or reordered. */
static void
test_batches(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);
	struct iris_strbuf buf = STRBUF_INIT(arena);
	struct iris_arena *mine;
	struct iris_element *element;
	unsigned count = 0;

	strbuf_add(&buf, IRIS_STR(HEADER));
	for (unsigned i = 0; i < 5000; i++)
		strbuf_printf(&buf, "<a n='%u'/>", i);
	strbuf_add(&buf, IRIS_STR("<b"));
	xml_parser_feed(parser, strbuf_str(&buf));
	assert_int_equal(xml_parser_next(parser, &mine, &element), XML_EVENT_HEADER);
	arena_unref(&mine);
	xml_parser_rest(parser);
	xml_parser_feed(parser, IRIS_STR("/><c/></stream:stream>"));
	while (xml_parser_next(parser, &mine, &element) == XML_EVENT_ELEMENT) {
		char number[16];

		assert_false(xml_parser_is_at_boundary(parser) && count < 5001);
		(void)snprintf(number, sizeof(number), "%u", count++);
		assert_true(count > 5000 || str_is(element_get(element, "n"), number));
		arena_unref(&mine);
	}
	assert_int_equal(count, 5002);
	assert_int_equal(xml_parser_next(parser, &mine, &element), XML_EVENT_CLOSED);
	xml_parser_free(&parser);
}

static void
test_boundary(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_unauthenticated);

	assert_true(xml_parser_is_at_boundary(parser));
	xml_parser_feed(parser, IRIS_STR(HEADER "<starttls xmlns='" NS_TLS "'/>"));
	assert_false(xml_parser_is_at_boundary(parser)); /* not fetched yet */
	assert_true(drain(parser));
	assert_true(xml_parser_is_at_boundary(parser));
	xml_parser_feed(parser, IRIS_STR(" \n"));
	assert_true(xml_parser_is_at_boundary(parser));
	xml_parser_feed(parser, IRIS_STR("<"));
	assert_false(xml_parser_is_at_boundary(parser));
	xml_parser_free(&parser);
	xml_parser_free(&parser);
}

static void
test_rest_and_restart(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_unauthenticated);

	xml_parser_feed(parser, IRIS_STR("<?xml version='1.0'?>" HEADER));
	assert_true(drain(parser));
	xml_parser_rest(parser);
	assert_int_equal(xml_parser_memory(parser), 0);
	for (unsigned i = 0; i < 3; i++) {
		xml_parser_feed(parser, IRIS_STR("<a/>"));
		assert_true(xml_parser_memory(parser) > 0);
		assert_true(drain(parser));
		xml_parser_rest(parser);
		assert_int_equal(xml_parser_memory(parser), 0);
	}
	assert_string_equal(seen(), SEEN_HEADER "E<a/>\nE<a/>\nE<a/>\n");
	xml_parser_feed(parser, IRIS_STR("<b/><unfinished>"));
	xml_parser_restart(parser);
	xml_parser_set_limits(parser, &xml_limits_authenticated);
	xml_parser_feed(parser, IRIS_STR("\n<?xml version='1.0'?>" HEADER "<c/></stream:stream>"));
	assert_false(drain(parser));
	assert_string_equal(seen(), SEEN_HEADER "E<c/>\nC\n");
	xml_parser_free(&parser);
}

static const char *const snippets[] = {
	"<message to='a@b' id='1'><body>Hello</body></message>", "<presence/>", " ", "\n",
	"<iq type='get' id='x'><query xmlns='urn:q'><item a='&lt;&#65;'/></query></iq>",
	"<x xmlns='urn:x' xmlns:p='urn:p' p:a='1'>t<p:y/>u&amp;v<![CDATA[<w>]]></x>",
	"<message><body>\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80\r\nline</body></message>",
	"<a b='>>>>' c='/>'>></a>", "<a\n\tb = 'c'\n></a >",
};

/* Whatever the pieces, and whenever the parser rests, the trees are the same. */
static void
test_random_pieces(void **state)
{
	srand(1);
	for (unsigned round = 0; round < 300; round++) {
		struct iris_strbuf buf = STRBUF_INIT(arena);
		const char *whole;

		strbuf_add(&buf, IRIS_STR(HEADER));
		for (unsigned i = 0; i < 30; i++)
			strbuf_add(&buf, str_from(snippets[(size_t)rand() % IRIS_COUNT(snippets)]));
		if (round % 3 == 0)
			strbuf_add(&buf, IRIS_STR("</stream:stream>"));
		if (round % 3 == 1)
			strbuf_add(&buf, IRIS_STR("<a></b>"));
		whole = transcript_of(strbuf_str(&buf), &xml_limits_authenticated, buf.len, false);
		for (unsigned i = 0; i < 4; i++)
			assert_string_equal(transcript_of(strbuf_str(&buf),
							  &xml_limits_authenticated, 0, i % 2),
					    whole);
	}
}

static void *
feed_elsewhere(void *arg)
{
	struct xml_parser *parser = arg;

	xml_parser_feed(parser, IRIS_STR("z</a><b/><c>"));
	return NULL;
}

/* A stream moves to another worker in the middle of an element, and its threads end. */
static void
test_other_thread(void **state)
{
	struct xml_parser *parser = xml_parser_new(&xml_limits_authenticated);
	pthread_t thread;

	xml_parser_feed(parser, IRIS_STR(HEADER "<a>xy"));
	assert_int_equal(pthread_create(&thread, NULL, feed_elsewhere, parser), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	xml_parser_feed(parser, IRIS_STR("</c>"));
	assert_true(drain(parser));
	assert_string_equal(seen(), SEEN_HEADER "E<a>xyz</a>\nE<b/>\nE<c/>\n");
	assert_int_equal(pthread_create(&thread, NULL, feed_elsewhere, parser), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(drain(parser));
	assert_string_equal(seen(), "Xinvalid-xml\n");
	xml_parser_free(&parser);
}

static void
test_document(void **state)
{
	struct xml_error error;
	struct iris_element *open = xml_parse_document(arena,
		IRIS_STR("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org'/>"),
		&xml_limits_unauthenticated, &error);

	assert_true(element_is(open, "open", "urn:ietf:params:xml:ns:xmpp-framing"));
	assert_null(error.condition);
	assert_null(xml_parse_document(arena, IRIS_STR("<a><b></a>"), &xml_limits_authenticated,
				       &error));
	assert_string_equal(error.condition, "not-well-formed");
	assert_null(
		xml_parse_document(arena, IRIS_STR("<a/>x"), &xml_limits_authenticated, &error));
	assert_string_equal(error.condition, "not-well-formed");
	assert_null(xml_parse_document(arena, IRIS_STR("<a"), &xml_limits_authenticated, &error));
	assert_string_equal(error.condition, "not-well-formed");
	assert_null(xml_parse_document(arena, IRIS_STR(""), &xml_limits_authenticated, &error));
	assert_string_equal(error.condition, "not-well-formed");
	assert_null(xml_parse_document(arena, IRIS_STR("<!-- --><a/>"), &xml_limits_authenticated,
				       &error));
	assert_string_equal(error.condition, "restricted-xml");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_header_prefixes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_content_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_conditions_of_the_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_elements_before_the_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_header_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_tag_is_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ticks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_attribute_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_distinct_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_distinct_names_in_one_stanza, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_boundary, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rest_and_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_document, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
