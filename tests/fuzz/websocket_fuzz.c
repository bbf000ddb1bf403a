/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a WebSocket on a whole server: whole and in fragments, with right and wrong headers,
 * what they hold right and wrong, and bytes as they are.  Each byte is a step, those behind it its
 * choices.  Oracle, besides the harness's: what comes are frames of a server, each text a document.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 48
#define FRAMING "urn:ietf:params:xml:ns:xmpp-framing"

static const char handshake[] = "GET /xmpp-websocket HTTP/1.1\r\n"
				"Host: " HARNESS_HOST "\r\n"
				"Upgrade: websocket\r\n"
				"Connection: Upgrade\r\n"
				"Sec-WebSocket-Version: 13\r\n"
				"Sec-WebSocket-Protocol: xmpp\r\n"
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static const char *const payloads[] = {
	"<open xmlns='" FRAMING "' to='" HARNESS_HOST "' version='1.0'/>",
	"<close xmlns='" FRAMING "'/>",
	"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
	"AHJvbWVvAGEgbG9uZyBwYXNzd29yZA==</auth>",
	"<iq xmlns='jabber:client' type='set' id='b'><bind "
	"xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
	"<presence xmlns='jabber:client'/>",
	"<message xmlns='jabber:client' to='juliet@" HARNESS_HOST "'><body>b</body></message>",
	"<message xmlns='jabber:client'/><presence xmlns='jabber:client'/>",
	"<message xmlns='jabber:client'>",
	"</stream:stream>",
	" ",
	"",
};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	return 0;
}

static void
send_bytes(int fd, const void *bytes, size_t len)
{
	(void)!send(fd, bytes, len, MSG_NOSIGNAL);
}

static void
send_frame(int fd, uint8_t first, const void *payload, size_t len)
{
	uint8_t head[8] = { first, (uint8_t)(0x80 | (len < 126 ? len : 126)) };
	size_t at = 2;

	if (len >= 126) {
		head[at++] = (uint8_t)(len >> 8);
		head[at++] = (uint8_t)len;
	}
	send_bytes(fd, head, at + 4); /* the mask is zero */
	send_bytes(fd, payload, len);
}

static void
step_fragments(struct bytes *bytes, int fd)
{
	const char *payload = payloads[bytes_choose(bytes, IRIS_COUNT(payloads))];
	size_t len = strlen(payload), cut = len > 0 ? bytes_take(bytes) % len : 0;

	send_frame(fd, 0x01, payload, cut);
	if (bytes_take(bytes) & 1)
		send_frame(fd, 0x89, "ping", 4);
	send_frame(fd, 0x80, payload + cut, len - cut);
}

static void
step(struct bytes *bytes, int fd)
{
	uint8_t raw[32];
	size_t len;

	switch (bytes_choose(bytes, 6)) {
	case 0: step_fragments(bytes, fd); return;
	case 1:
		send_frame(fd, bytes_take(bytes), "\x03\xe8 reason", 2 + bytes_choose(bytes, 8));
		return;
	case 2:
		len = bytes_choose(bytes, sizeof(raw));
		for (size_t i = 0; i < len; i++)
			raw[i] = bytes_take(bytes);
		if (bytes_take(bytes) & 1)
			send_bytes(fd, raw, len);
		else
			send_frame(fd, 0x81, raw, len);
		return;
	default: {
		const char *payload = payloads[bytes_choose(bytes, IRIS_COUNT(payloads))];

		send_frame(fd, 0x81, payload, strlen(payload));
	}
	}
}

static void
check_text(const uint8_t *text, size_t len)
{
	struct iris_arena *arena = arena_new();

	IRIS_ASSERT(element_parse(arena, (struct iris_str){ (const char *)text, len }));
	arena_unref(&arena);
}

static void
check_frames(const uint8_t *at, const uint8_t *end)
{
	while (end - at >= 2) {
		size_t len = at[1], skip = 2;

		IRIS_ASSERT(at[0] == 0x81 || at[0] == 0x88 || at[0] == 0x89 || at[0] == 0x8a);
		IRIS_ASSERT(len < 127);
		if (len == 126) {
			len = (size_t)at[2] << 8 | at[3];
			skip = 4;
		}
		if ((size_t)(end - at) < skip + len)
			return;
		if (at[0] == 0x81)
			check_text(at + skip, len);
		at += skip + len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char output[1 << 18];
	struct bytes bytes = { data, data + size };
	int fd = harness_dial_web();
	size_t len;
	char *frames;

	send_bytes(fd, handshake, sizeof(handshake) - 1);
	for (int i = 0; i < STEPS_MAX && bytes.at < bytes.end; i++)
		step(&bytes, fd);
	len = harness_hang_up(fd, output, sizeof(output));
	frames = memmem(output, len, "\r\n\r\n", 4);
	if (frames && memcmp(output, "HTTP/1.1 101", 12) == 0)
		check_frames((const uint8_t *)frames + 4, (const uint8_t *)output + len);
	return 0;
}
