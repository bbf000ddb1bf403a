/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of BOSH on a whole server: sessions begin, requests come in and out of order, twice, too
 * early, with payloads right and wrong, on two connections.  Each byte is a step, those behind it
 * its choices.  Oracle, besides the harness's: every answer is one, and its body is well-formed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 24
#define OUTPUT_MAX (1 << 17)

static struct {
	int fds[2];
	char sid[32];
	int64_t rid;
} stage;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	return 0;
}

static void
post(int fd, struct iris_str body)
{
	char head[128];
	int len = snprintf(head, sizeof(head),
			   "POST /http-bind HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
			   body.len);

	(void)!send(fd, head, (size_t)len, MSG_NOSIGNAL);
	(void)!send(fd, body.base, body.len, MSG_NOSIGNAL);
}

/* The first answer names the session; it comes at once. */
static void
begin(struct bytes *bytes, struct iris_arena *arena)
{
	static const char *const choices[] = { "wait='0' hold='0'", "wait='1' hold='1'",
					       "wait='99999999999' hold='0'", "hold='-1'",
					       "hold='0' ver='9.x'" };
	const char *host = bytes_take(bytes) < 250 ? HARNESS_HOST : "elsewhere.example";
	char output[8192], *sid;
	ssize_t got;

	stage.rid = 1000;
	stage.sid[0] = '\0';
	post(stage.fds[0],
	     arena_printf(arena,
			  "<body xmlns='http://jabber.org/protocol/httpbind' rid='1000' to='%s' "
			  "%s/>",
			  host, choices[bytes_choose(bytes, IRIS_COUNT(choices))]));
	got = recv(stage.fds[0], output, sizeof(output) - 1, 0);
	output[got > 0 ? got : 0] = '\0';
	sid = strstr(output, " sid='");
	if (sid)
		snprintf(stage.sid, sizeof(stage.sid), "%.*s", (int)strcspn(sid + 6, "'"), sid + 6);
}

static void
add_payload(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const payloads[] = {
		"",
		"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
		"AHJvbWVvAGEgbG9uZyBwYXNzd29yZA==</auth>",
		"<iq type='set' id='b' xmlns='jabber:client'><bind "
		"xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
		"<message to='juliet@" HARNESS_HOST "'><body>b</body></message>",
		"<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>",
		"<a:b xmlns:a='urn:a'><c/></a:b>",
		"text",
		"<unclosed>",
	};

	strbuf_add(out, str_from(payloads[bytes_choose(bytes, IRIS_COUNT(payloads))]));
	if (bytes_take(bytes) > 230)
		bytes_add_text(bytes, out);
}

static int64_t
choose_rid(struct bytes *bytes)
{
	uint8_t choice = bytes_take(bytes);

	if (choice < 200)
		return ++stage.rid;
	if (choice < 230)
		return stage.rid;
	if (choice < 245)
		return stage.rid + 2;
	return choice - 250;
}

static void
step(struct bytes *bytes, struct iris_arena *arena)
{
	static const char *const attributes[] = {
		"",
		"",
		"",
		" xmpp:restart='true' to='" HARNESS_HOST "'",
		" type='terminate'",
		" pause='1'",
		" pause='99999'",
		" type='error'",
	};
	struct iris_strbuf body = STRBUF_INIT(arena);
	size_t which = bytes_choose(bytes, 2);

	strbuf_printf(
		&body,
		"<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' "
		"rid='%lld' sid='%s'%s>",
		(long long)choose_rid(bytes), stage.sid,
		attributes[bytes_choose(bytes, IRIS_COUNT(attributes))]);
	add_payload(bytes, &body);
	strbuf_add(&body, IRIS_STR("</body>"));
	post(stage.fds[which], strbuf_str(&body));
}

/* Answers that are whole; what was cut by our end is not looked at. */
static void
check_answers(char *at, size_t len)
{
	char *end = at + len;

	while (end - at > 12) {
		char *length = memmem(at, (size_t)(end - at), "Content-Length: ", 16);
		char *body = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
		struct iris_arena *arena;
		size_t size;

		IRIS_ASSERT(memcmp(at, "HTTP/1.1 ", 9) == 0);
		if (!body || !length || length > body)
			return;
		size = strtoul(length + 16, NULL, 10);
		body += 4;
		if ((size_t)(end - body) < size)
			return;
		arena = arena_new();
		if (memcmp(at + 9, "200", 3) == 0)
			IRIS_ASSERT(element_parse(arena, (struct iris_str){ body, size }));
		arena_unref(&arena);
		at = body + size;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char output[OUTPUT_MAX];
	struct bytes bytes = { data, data + size };
	struct iris_arena *arena = arena_new();

	for (int i = 0; i < 2; i++)
		stage.fds[i] = harness_dial_web();
	begin(&bytes, arena);
	for (int i = 0; i < STEPS_MAX && bytes.at < bytes.end; i++)
		step(&bytes, arena);
	for (int i = 0; i < 2; i++) {
		size_t len = harness_hang_up(stage.fds[i], output, sizeof(output) - 1);

		output[len] = '\0';
		check_answers(output, len);
	}
	arena_unref(&arena);
	return 0;
}
