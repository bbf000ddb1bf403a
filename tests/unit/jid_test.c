/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: splitting, preparing, comparing; passwords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena_common.h"
#include "iris/jid.h"

static void
expect_jid(const char *text, const char *node, const char *domain, const char *resource)
{
	struct iris_jid jid, again;

	if (!jid_parse(arena, str_from(text), &jid))
		fail_msg("refused: %s", text);
	assert_string_equal(arena_copy_str(arena, jid_domain(&jid)).base, domain);
	assert_true(str_equal(jid_node(&jid), str_from(node)));
	assert_true(str_equal(jid_resource(&jid), str_from(resource)));
	assert_int_equal(str_is_none(jid_node(&jid)), node == NULL);
	assert_int_equal(str_is_none(jid_resource(&jid)), resource == NULL);
	assert_true(jid_parse(arena, jid_full(&jid), &again));
	assert_true(jid_equal(&jid, &again));
	again = jid_from_prepared(jid_full(&jid));
	assert_true(jid_equal(&jid, &again));
}

static void
expect_refused(const char *text)
{
	struct iris_jid jid;

	if (jid_parse(arena, str_from(text), &jid))
		fail_msg("accepted: %s", text);
	assert_true(jid_is_none(&jid));
}

static void
test_ascii(void **state)
{
	expect_jid("juliet@example.org/balcony", "juliet", "example.org", "balcony");
	expect_jid("Juliet@Example.ORG/Balcony", "juliet", "example.org", "Balcony");
	expect_jid("example.org", NULL, "example.org", NULL);
	expect_jid("example.org/a@b/c", NULL, "example.org", "a@b/c");
	expect_jid("a@example.org/ x y ", "a", "example.org", " x y ");
	expect_jid("a@example.org.", "a", "example.org", NULL);
	expect_jid("a.b-c_d!#$%*+=?^`{|}~;(),@x_y.example", "a.b-c_d!#$%*+=?^`{|}~;(),",
		   "x_y.example", NULL);
}

static void
test_unicode(void **state)
{
	expect_jid("Stra\xc3\x9f" "e@example.org", "strasse", "example.org", NULL);
	expect_jid("\xc3\x85sa@example.org/\xc3\x85", "\xc3\xa5sa", "example.org", "\xc3\x85");
	expect_jid("a@fa\xc3\x9f.de", "a", "xn--fa-hia.de", NULL);
	expect_jid("a@B\xc3\xbc" "cher.Example", "a", "xn--bcher-kva.example", NULL);
	expect_jid("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example", NULL);
	expect_jid("a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example", NULL);
	expect_jid("a@b\xc3\xbc" "cher\xe3\x80\x82" "example", "a", "xn--bcher-kva.example", NULL);
	expect_jid("\xc2\xad" "ju\xc2\xadliet@example.org", "juliet", "example.org", NULL);
	expect_jid("a@example.org/\xf0\x9f\x98\x80", "a", "example.org", "\xf0\x9f\x98\x80");
}

static void
test_literals(void **state)
{
	expect_jid("a@127.0.0.1/x", "a", "127.0.0.1", "x");
	expect_jid("a@[::1]", "a", "[::1]", NULL);
	expect_jid("[2001:DB8:0:0:0:0:0:1]/r", NULL, "[2001:db8::1]", "r");
	expect_refused("a@[::1");
	expect_refused("a@[]");
	expect_refused("a@[::1%eth0]");
	expect_refused("a@[127.0.0.1]");
	expect_refused("a@::1");
}

static void
test_malformed(void **state)
{
	static const char *const texts[] = {
		"",
		"@",
		"/",
		"@example.org",
		"a@",
		"a@/r",
		"example.org/",
		"a@example.org/",
		"a@b@c",
		"a b@c",
		"a\"b@c",
		"a&b@c",
		"a'b@c",
		"a:b@c",
		"a<b@c",
		"a>b@c",
		"a\x01@c",
		"a\x7f@c",
		"a@b c",
		"a@.b",
		"a@b..c",
		"a@b..",
		".",
		"a@-b.c",
		"a@b-.c",
		"a@b/\x01",
		"a@b/x\ny",
		"a@b:5222",
		"a@b\\c",
		"\xff@c",
		"a\xc3@c",
		"a@\xff.c",
		"a@c/\xff",
		"a@\xe2\x99\xa5.example",
		"a@xn--\x2d.example",
		"\xc2\xad@example.org" /* nothing is left */,
		"g\xef\xb9\xabh@c" /* a small '@' */,
		"\xef\xbc\xa0@c" /* a wide one */,
		"a@c/\xee\x80\x80" /* private use */,
		"a\xe3\x80\x80@c",
	};

	for (size_t i = 0; i < IRIS_COUNT(texts); i++)
		expect_refused(texts[i]);
}

static void
test_not_stable(void **state)
{
	/* Not assigned in Unicode 3.2, so not lower-cased, but normalised to "A" perhaps. */
	struct iris_jid jid;

	if (jid_parse(arena, IRIS_STR("\xf0\x9f\x84\xb0@c"), &jid))
		assert_false(str_is(jid_node(&jid), "A"));
}

static void
test_nul_inside(void **state)
{
	struct iris_jid jid;

	assert_false(jid_parse(arena, IRIS_STR("a\0b@example.org"), &jid));
	assert_false(jid_parse(arena, IRIS_STR("a@exam\0ple.org"), &jid));
	assert_false(jid_parse(arena, IRIS_STR("a@example.org/x\0\xc3\xa5"), &jid));
}

/* "aaa…@b/…" with parts of the given lengths. */
static bool
parses_with_lengths(size_t node, size_t resource, const char *unit)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);
	struct iris_jid jid;

	for (size_t i = 0; i < node; i++)
		strbuf_add(&buf, str_from(unit));
	strbuf_add(&buf, IRIS_STR("@example.org/"));
	for (size_t i = 0; i < resource; i++)
		strbuf_add(&buf, str_from(unit));
	return jid_parse(arena, strbuf_str(&buf), &jid);
}

static void
test_lengths(void **state)
{
	assert_true(parses_with_lengths(1023, 1023, "a"));
	assert_false(parses_with_lengths(1024, 1, "a"));
	assert_false(parses_with_lengths(1, 1024, "a"));
	assert_true(parses_with_lengths(511, 511, "\xc3\xa5"));
	assert_false(parses_with_lengths(512, 1, "\xc3\xa5"));
	assert_false(parses_with_lengths(1, 512, "\xc3\xa5"));
	assert_false(parses_with_lengths(100000, 1, "\xc2\xad" "a"));
}

static void
test_domain_lengths(void **state)
{
	char label[66], text[400];

	memset(label, 'a', 64);
	label[63] = '\0';
	(void)snprintf(text, sizeof(text), "%s.%s.%s.%.61s", label, label, label, label);
	expect_jid(text, NULL, text, NULL); /* 253 bytes */
	(void)snprintf(text, sizeof(text), "%s.%s.%s.%.62s", label, label, label, label);
	expect_refused(text);
	label[63] = 'a';
	label[64] = '\0';
	expect_refused(label);
}

static void
test_make_and_copy(void **state)
{
	struct iris_jid jid, other, none = IRIS_JID_NONE;

	assert_true(
		jid_make(arena, IRIS_STR("Romeo"), IRIS_STR("Example.net"), IRIS_STR_NONE, &jid));
	assert_true(str_is(jid_full(&jid), "romeo@example.net"));
	assert_true(jid_is_bare(&jid));
	other = jid_with_resource(arena, &jid, IRIS_STR("orchard"));
	assert_true(str_is(jid_full(&other), "romeo@example.net/orchard"));
	assert_true(jid_bare_equal(&jid, &other));
	assert_false(jid_equal(&jid, &other));
	other = jid_with_resource(arena, &other, IRIS_STR_NONE);
	assert_true(jid_equal(&jid, &other));
	other = jid_copy(arena, &jid);
	assert_true(jid_equal(&jid, &other) && jid.base != other.base);
	assert_true(jid_is_none(&(struct iris_jid){ jid_copy(arena, &none).base, 0, 0, 0 }));
	assert_false(jid_make(arena, IRIS_STR(""), IRIS_STR("c"), IRIS_STR_NONE, &jid));
	assert_false(jid_make(arena, IRIS_STR_NONE, IRIS_STR_NONE, IRIS_STR_NONE, &jid));
	/* A part cannot smuggle in another. */
	assert_false(jid_make(arena, IRIS_STR("a@b"), IRIS_STR("c"), IRIS_STR_NONE, &jid));
	assert_false(jid_make(arena, IRIS_STR("a/b"), IRIS_STR("c"), IRIS_STR_NONE, &jid));
	assert_false(jid_make(arena, IRIS_STR_NONE, IRIS_STR("a@c"), IRIS_STR_NONE, &jid));
	assert_false(jid_make(arena, IRIS_STR_NONE, IRIS_STR("c/d"), IRIS_STR_NONE, &jid));
}

static void
test_new_node(void **state)
{
	struct iris_str node;

	assert_true(jid_prepare_new_node(arena, IRIS_STR("Juliet"), &node));
	assert_true(str_is(node, "juliet"));
	assert_false(jid_prepare_new_node(arena, IRIS_STR("\xf0\x9f\x98\x80"), &node));
	assert_false(jid_prepare_new_node(arena, IRIS_STR("a@b"), &node));
	assert_false(jid_prepare_new_node(arena, IRIS_STR(""), &node));
}

static void
test_password(void **state)
{
	struct iris_str password;

	assert_true(password_prepare(arena, IRIS_STR("pass word"), &password));
	assert_true(str_is(password, "pass word"));
	assert_true(password_prepare(arena, IRIS_STR("a\xc2\xa0" "b\xc2\xad"), &password));
	assert_true(str_is(password, "a b"));
	assert_true(password_prepare(arena, IRIS_STR("\xe2\x85\xa8"), &password)); /* roman nine */
	assert_true(str_is(password, "IX"));
	assert_false(password_prepare(arena, IRIS_STR("a\x07"), &password));
	assert_false(password_prepare(arena, IRIS_STR(""), &password));
	assert_false(password_prepare(arena, IRIS_STR_NONE, &password));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(test_ascii),
		ARENA_TEST(test_unicode),
		ARENA_TEST(test_literals),
		ARENA_TEST(test_malformed),
		ARENA_TEST(test_not_stable),
		ARENA_TEST(test_nul_inside),
		ARENA_TEST(test_lengths),
		ARENA_TEST(test_domain_lengths),
		ARENA_TEST(test_make_and_copy),
		ARENA_TEST(test_new_node),
		ARENA_TEST(test_password),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
