/* SPDX-License-Identifier: Apache-2.0 */
/* The guard of the web: heads, bodies in pieces, targets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena_common.h"
#include "modules/web/http_head.h"

static struct http_head head;

static void
expect_status(const char *text, unsigned status)
{
	assert_int_equal(http_head_length(str_from(text)), strlen(text));
	assert_int_equal(http_head_parse(str_from(text), &head), status);
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static void
test_a_head_is_read(void **state)
{
	expect_status("PUT /a/b?c=d HTTP/1.1\r\nhost: chat.example.com:443\r\nX-A:  b c \r\n"
		      "Content-Length: 12\r\nConnection: Keep-Alive, UPGRADE\r\nX-a: d\r\n\r\n",
		      0);
	assert_true(str_is(head.method, "PUT"));
	assert_true(str_is(head.target, "/a/b?c=d"));
	assert_true(str_is(head.authority, "chat.example.com:443"));
	assert_true(str_is(http_head_field(&head, IRIS_STR("x-a"), 0), "b c"));
	assert_true(str_is(http_head_field(&head, IRIS_STR("x-a"), 1), "d"));
	assert_true(str_is_none(http_head_field(&head, IRIS_STR("x-a"), 2)));
	assert_int_equal(head.length, 12);
	assert_true(head.upgrades && !head.close && !head.chunked && !head.expects_continue);
}

static void
test_other_forms(void **state)
{
	expect_status("GET https://a.example:1/b HTTP/1.1\r\nHost: b.example\r\n\r\n", 0);
	assert_true(str_is(head.authority, "a.example:1"));
	assert_true(str_is(head.target, "/b"));
	expect_status("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0);
	expect_status("GET / HTTP/1.0\r\n\r\n", 0);
	assert_true(head.close && head.is_1_0);
	expect_status(POST "Transfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n", 0);
	assert_true(head.chunked && head.expects_continue);
	expect_status(GET "Connection: close\r\n\r\n", 0);
	assert_true(head.close);
	expect_status(GET "Empty:\r\n\r\n", 0);
}

/* SECURITY: whatever two programs might read differently. */
static void
test_what_is_refused(void **state)
{
	static const struct {
		const char *text;
		unsigned status;
	} cases[] = {
		{ POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400 },
		{ POST "Content-Length: 1, 1\r\n\r\n", 400 },
		{ POST "Content-Length: +1\r\n\r\n", 400 },
		{ POST "Content-Length: 0x1\r\n\r\n", 400 },
		{ POST "Content-Length: -1\r\n\r\n", 400 },
		{ POST "Content-Length:\r\n\r\n", 400 },
		{ POST "Content-Length: 99999999999999999999\r\n\r\n", 400 },
		{ POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501 },
		{ POST "Transfer-Encoding: identity\r\n\r\n", 501 },
		{ POST "Transfer-Encoding: chunked, identity\r\n\r\n", 501 },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ GET "A : b\r\n\r\n", 400 },
		{ GET "A: b\r\n c\r\n\r\n", 400 },
		{ GET " A: b\r\n\r\n", 400 },
		{ GET "A\r\n\r\n", 400 },
		{ GET ": b\r\n\r\n", 400 },
		{ GET "A: b\nC: d\r\n\r\n", 400 },
		{ GET "A: b\rC: d\r\n\r\n", 400 },
		{ GET "A: \x01\r\n\r\n", 400 },
		{ GET "Host: b\r\n\r\n", 400 },
		{ GET "Expect: the worst\r\n\r\n", 417 },
		{ "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400 },
		{ "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET / http/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505 },
		{ "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505 },
		{ "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET https:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ " / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "\r\n\r\n", 400 },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++)
		expect_status(cases[i].text, cases[i].status);
}

static void
test_fields_are_bounded(void **state)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	strbuf_add(&text, IRIS_STR(GET));
	for (int i = 1; i < HTTP_FIELDS_MAX; i++)
		strbuf_printf(&text, "A%d: b\r\n", i);
	strbuf_add(&text, IRIS_STR("\r\n"));
	expect_status(strbuf_str(&text).base, 0);
	text.len -= 2;
	strbuf_add(&text, IRIS_STR("One: more\r\n\r\n"));
	expect_status(strbuf_str(&text).base, 431);
}

/* The content of a chunked body, fed in pieces of this size. */
static struct iris_str
decode(const char *text, size_t piece, struct http_body *body)
{
	struct iris_strbuf out = STRBUF_INIT(arena);
	size_t len = strlen(text), at = 0, used;
	struct iris_str content;

	http_body_begin(body, &(struct http_head){ .chunked = true });
	while (at < len) {
		size_t most = len - at < piece ? len - at : piece;

		used = http_body_next(body, (struct iris_str){ text + at, most }, piece, &content);
		strbuf_add(&out, content);
		if (used == 0)
			break;
		at += used;
	}
	return strbuf_str(&out);
}

static void
test_chunks(void **state)
{
	static const char text[] =
		"4\r\nWiki\r\n06;a=\"b\"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n"
		"0\r\n\r\n";
	struct http_body body;

	for (size_t piece = 1; piece < sizeof(text); piece++) {
		assert_string_equal(decode(text, piece, &body).base,
				    "Wikipedia in \r\n\r\nchunks.");
		assert_int_equal(body.state, HTTP_BODY_DONE);
	}
}

static void
test_chunks_refused(void **state)
{
	static const char *const cases[] = {
		"3\r\nabcXY0\r\n\r\n",
		"3\nabc\r\n0\r\n\r\n",
		"3\r\nabc\n0\r\n\r\n",
		"3 \r\nabc\r\n0\r\n\r\n",
		"\r\nabc\r\n0\r\n\r\n",
		"0\r\nTrailer: a\r\n\r\n",
		"0x3\r\nabc\r\n",
		"-3\r\nabc\r\n",
		"1000000000000\r\n",
		"3;\x01\r\nabc\r\n",
		";\r\n",
		"0\r\nX\r\n",
	};
	struct http_body body;

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		(void)decode(cases[i], 100, &body);
		assert_int_equal(body.state, HTTP_BODY_MALFORMED);
	}
}

static void
test_lengths(void **state)
{
	struct http_body body;
	struct iris_str content;

	http_body_begin(&body, &(struct http_head){ .length = 5 });
	assert_int_equal(http_body_next(&body, IRIS_STR("abcdefgh"), 3, &content), 3);
	assert_true(str_is(content, "abc"));
	assert_int_equal(http_body_next(&body, IRIS_STR("defgh"), 10, &content), 2);
	assert_true(str_is(content, "de"));
	assert_int_equal(body.state, HTTP_BODY_DONE);
	assert_int_equal(http_body_next(&body, IRIS_STR("fgh"), 10, &content), 0);
}

static void
test_paths(void **state)
{
	static const struct {
		const char *target, *path; /* NULL: refused */
	} cases[] = {
		{ "/", "/" },
		{ "/a/b", "/a/b" },
		{ "/a/?b=/../c", "/a/" },
		{ "/%41%20%c3%bc", "/A \xc3\xbc" },
		{ "/a%252e", "/a%2e" },
		{ "/..", NULL },
		{ "/a/../b", NULL },
		{ "/a/%2e%2E/b", NULL },
		{ "/./a", NULL },
		{ "//a", NULL },
		{ "/a//b", NULL },
		{ "/a%2fb", NULL },
		{ "/a%5cb", NULL },
		{ "/a\\b", NULL },
		{ "/a%00", NULL },
		{ "/a%0a", NULL },
		{ "/a%", NULL },
		{ "/a%4", NULL },
		{ "/a%zz", NULL },
		{ "*", NULL },
	};
	struct iris_str path;

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		bool ok = http_path_decode(arena, str_from(cases[i].target), &path);

		assert_int_equal(ok, cases[i].path != NULL);
		if (ok)
			assert_true(str_is(path, cases[i].path));
	}
}

static void
test_queries(void **state)
{
	struct iris_str target = IRIS_STR("/a?v=1%2F2&vv=3&flag&v=4&bad=%g");

	assert_true(str_is(http_query(arena, target, "v"), "1/2"));
	assert_true(str_is(http_query(arena, target, "vv"), "3"));
	assert_true(str_is(http_query(arena, target, "flag"), ""));
	assert_true(str_is_none(http_query(arena, target, "bad")));
	assert_true(str_is_none(http_query(arena, target, "none")));
	assert_true(str_is_none(http_query(arena, IRIS_STR("/a"), "v")));
}

static void
test_lists(void **state)
{
	assert_true(http_list_has(IRIS_STR("a, Upgrade ,b"), "upgrade"));
	assert_true(http_list_has(IRIS_STR("xmpp"), "xmpp"));
	assert_false(http_list_has(IRIS_STR("xmpp2, xmp"), "xmpp"));
	assert_false(http_list_has(IRIS_STR_NONE, "xmpp"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_head_is_read),	cmocka_unit_test(test_other_forms),
		cmocka_unit_test(test_what_is_refused), cmocka_unit_test(test_fields_are_bounded),
		cmocka_unit_test(test_chunks),		cmocka_unit_test(test_chunks_refused),
		cmocka_unit_test(test_lengths),		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_queries),		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests_name("web: the guard", tests, arena_setup, arena_teardown);
}
