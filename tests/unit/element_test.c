/* SPDX-License-Identifier: Apache-2.0 */
/* Trees: building, reading, copying, writing, parsing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena_common.h"
#include "iris/stanza.h"

static const char *
written(const struct iris_element *element, const char *outer)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	element_write(&buf, element, str_from(outer));
	return strbuf_str(&buf).base;
}

static const char *
escaped(struct iris_str text)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	xml_escape(&buf, text);
	return strbuf_str(&buf).base;
}

static void
test_build_and_write(void **state)
{
	struct iris_element *message = element_new(arena, "message", NS_CLIENT), *x;

	element_set(message, "to", IRIS_STR("a@b"));
	element_set(message, "xml:lang", IRIS_STR("en"));
	element_set_int(message, "n", -5);
	element_add_text(message, "body", NULL, IRIS_STR("1 < 2 & 'x'\n"));
	x = element_add(message, "x", "urn:x");
	element_add(x, "y", NULL);
	element_add(x, "z", NS_CLIENT);
	assert_string_equal(written(message, NS_CLIENT),
		"<message to='a@b' xml:lang='en' n='-5'><body>1 &lt; 2 &amp; 'x'\n</body>"
		"<x xmlns='urn:x'><y/><z xmlns='jabber:client'/></x></message>");
	assert_string_equal(written(x, NULL),
			    "<x xmlns='urn:x'><y/><z xmlns='jabber:client'/></x>");
	element_set(message, "to", IRIS_STR("c@d"));
	element_set(message, "n", IRIS_STR_NONE);
	element_set(message, "xml:lang", IRIS_STR_NONE);
	element_remove(x);
	assert_string_equal(written(message, NS_CLIENT),
		"<message to='c@d'><body>1 &lt; 2 &amp; 'x'\n</body></message>");
	element_append(message, x);
	assert_ptr_equal(element_child(message, NULL, "urn:x"), x);
}

static void
test_remove(void **state)
{
	struct iris_element *root = element_new(arena, "r", "urn:r");
	struct iris_element *a = element_add(root, "a", NULL), *b = element_add(root, "b", NULL);
	struct iris_element *c = element_add(root, "c", NULL);

	element_remove(b);
	assert_string_equal(written(root, NULL), "<r xmlns='urn:r'><a/><c/></r>");
	element_remove(c);
	element_append(root, b);
	assert_string_equal(written(root, NULL), "<r xmlns='urn:r'><a/><b/></r>");
	element_remove(a);
	element_remove(b);
	assert_string_equal(written(root, NULL), "<r xmlns='urn:r'/>");
	element_append(root, a);
	assert_string_equal(written(root, NULL), "<r xmlns='urn:r'><a/></r>");
}

static void
test_stream_namespace(void **state)
{
	struct iris_element *features = element_new(arena, "features", NS_STREAM);

	element_add(features, "bind", NS_BIND);
	assert_string_equal(written(features, NS_CLIENT),
			    "<stream:features xmlns:stream='" NS_STREAM "'><bind xmlns='" NS_BIND
			    "'/></stream:features>");
}

/* SECURITY: declaring this namespace would end the recipient's stream. */
static void
test_xml_namespace(void **state)
{
	struct iris_element *a = element_parse(
		arena, IRIS_STR("<xml:a xmlns='urn:x'><b/><xml:c/></xml:a>"));

	assert_non_null(a);
	assert_string_equal(written(a, NULL), "<xml:a><b xmlns='urn:x'/><xml:c/></xml:a>");
}

static void
test_foreign_attributes(void **state)
{
	struct iris_str xml = IRIS_STR(
		"<a xmlns='urn:a' xmlns:p='urn:p' p:x='1' x='2' xml:lang='de' p:y='3'/>");
	struct iris_element *a = element_parse(arena, xml);
	const char *expected = "<a xmlns='urn:a' xmlns:a1='urn:p' a1:x='1' x='2' xml:lang='de' "
		"xmlns:a2='urn:p' a2:y='3'/>";

	assert_non_null(a);
	assert_true(str_is(element_get(a, "x"), "2"));
	assert_true(str_is(element_lang(a), "de"));
	assert_true(str_is_none(element_get(a, "y")));
	assert_string_equal(written(a, NULL), expected);
	a = element_parse(arena, str_from(expected));
	assert_non_null(a);
	assert_string_equal(written(a, NULL), expected);
}

static void
test_no_namespace(void **state)
{
	struct iris_element *a = element_parse(
		arena, IRIS_STR("<a xmlns='urn:a'><b xmlns=''><c/></b></a>"));

	assert_non_null(a);
	assert_true(str_is_empty(element_child(a, "b", NULL)->ns));
	assert_string_equal(written(a, NULL), "<a xmlns='urn:a'><b xmlns=''><c/></b></a>");
}

static void
test_read_missing(void **state)
{
	struct iris_element *a = element_new(arena, "a", "urn:a");

	assert_null(element_child(NULL, "x", NULL));
	assert_null(element_child(a, "x", NULL));
	assert_null(element_next(NULL, NULL, NULL));
	assert_true(str_is_none(element_get(NULL, "x")));
	assert_true(str_is_none(element_get_text(NULL)));
	assert_true(str_is_none(element_child_text(a, "b", NULL)));
	assert_false(element_is(NULL, "a", NULL));
	element_add(a, "b", NULL);
	assert_false(str_is_none(element_child_text(a, "b", NULL)));
	assert_true(str_is_empty(element_child_text(a, "b", NULL)));
	assert_true(element_is(a, "a", NULL) && element_is(a, NULL, "urn:a"));
	assert_false(element_is(a, "a", "urn:b"));
}

static void
test_foreach_and_texts(void **state)
{
	struct iris_element *a = element_parse(
		arena,
		IRIS_STR(
			"<a xmlns='u'>one<b/>two<c xmlns='v'/><b n='2'/>&amp;<![CDATA[<3>]]></a>"));
	unsigned count = 0;

	assert_non_null(a);
	ELEMENT_FOREACH(child, a)
		count++;
	assert_int_equal(count, 3);
	assert_true(str_is(element_get_text(a), "onetwo&<3>"));
	assert_true(str_is(element_get_text(a), "onetwo&<3>"));
	element_text(a, IRIS_STR("!"));
	assert_true(str_is(element_get_text(a), "onetwo&<3>!"));
	assert_true(
		str_is(element_get(element_next(element_child(a, "b", NULL), "b", "u"), "n"), "2"));
}

static void
test_copy(void **state)
{
	const char *xml =
		"<a xmlns='u' xmlns:a1='urn:p' a1:x='1' y='&lt;'>t<b xmlns='v'><c>d</c></b>u</a>";
	struct iris_element *a = element_parse(arena, str_from(xml)), *copy;
	struct iris_arena *other = arena_new();

	assert_non_null(a);
	copy = element_copy(other, a);
	assert_ptr_equal(copy->arena, other);
	assert_string_equal(written(copy, NULL), xml);
	element_set(copy, "y", IRIS_STR("2"));
	assert_string_equal(written(a, NULL), xml);
	arena_unref(&arena); /* nothing of the copy may lie in it */
	arena = arena_new();
	assert_non_null(strstr(written(copy, NULL), "y='2'"));
	arena_unref(&other);
}

static void
test_escape(void **state)
{
	assert_string_equal(escaped(IRIS_STR("a<b>&\"'\t\n\r")),
			    "a&lt;b&gt;&amp;&quot;&apos;&#9;&#10;&#13;");
	assert_string_equal(escaped(IRIS_STR("\x01\x0b" "a\0\x1f" "b\x7f")), "ab\x7f");
	assert_string_equal(escaped(IRIS_STR("\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80")),
		"\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80");
	/* Cut, overlong, surrogate, too large, U+FFFE, stray tails. */
	assert_string_equal(escaped(IRIS_STR("\xc3")), "");
	assert_string_equal(escaped(IRIS_STR("x\xe2\x82")), "x");
	assert_string_equal(escaped(IRIS_STR("\xc0\xafx\xe0\x80\xafy\xf0\x80\x80\x80z")), "xyz");
	assert_string_equal(escaped(IRIS_STR("\xed\xa0\x80x\xf4\x90\x80\x80y\xef\xbf\xbez")),
			    "xyz");
	assert_string_equal(escaped(IRIS_STR("\x80x\xffy")), "xy");
	assert_string_equal(escaped(IRIS_STR("\xc3<")), "&lt;");
	assert_string_equal(escaped(IRIS_STR_NONE), "");
}

static void
test_parse_refuses(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"x",
		"<a>",
		"<a></b>",
		"<a/><b/>",
		"<a/>x",
		"<a",
		"<!-- --><a/>",
		"<a><!-- --></a>",
		"<a>&foo;</a>",
		"<!DOCTYPE a><a/>",
		"<a><?pi?></a>",
		"<p:a/>",
		"\xef\xbb\xbf<a/>",
		"<a x='1' x='2'/>",
		"<a>\x01</a>",
		"<a>\xff</a>",
		"<a>&#0;</a>",
	};

	for (size_t i = 0; i < IRIS_COUNT(texts); i++)
		assert_null(element_parse(arena, str_from(texts[i])));
	assert_non_null(element_parse(arena, IRIS_STR(" <?xml version='1.0'?><a/>\n")));
}

static void
test_parse_depth(void **state)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	for (unsigned i = 0; i < STANZA_DEPTH_MAX; i++)
		strbuf_add(&buf, IRIS_STR("<a>"));
	for (unsigned i = 0; i < STANZA_DEPTH_MAX; i++)
		strbuf_add(&buf, IRIS_STR("</a>"));
	assert_non_null(element_parse(arena, strbuf_str(&buf)));
	buf = STRBUF_INIT(arena);
	for (unsigned i = 0; i <= STANZA_DEPTH_MAX; i++)
		strbuf_add(&buf, IRIS_STR("<a>"));
	for (unsigned i = 0; i <= STANZA_DEPTH_MAX; i++)
		strbuf_add(&buf, IRIS_STR("</a>"));
	assert_null(element_parse(arena, strbuf_str(&buf)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(test_build_and_write),
		ARENA_TEST(test_remove),
		ARENA_TEST(test_stream_namespace),
		ARENA_TEST(test_xml_namespace),
		ARENA_TEST(test_foreign_attributes),
		ARENA_TEST(test_no_namespace),
		ARENA_TEST(test_read_missing),
		ARENA_TEST(test_foreach_and_texts),
		ARENA_TEST(test_copy),
		ARENA_TEST(test_escape),
		ARENA_TEST(test_parse_refuses),
		ARENA_TEST(test_parse_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
