/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of other servers on a whole server: one whose domain is proven, one that still has to
 * prove its own; stanzas, dialback, SASL and what does not belong there, from and to addresses of
 * all kinds, to a client of ours who answers.  Each byte is a step, those behind it its choices.
 * Oracle, besides the harness's: nobody hears anything from a domain that is not proven.
 */
#include <stdio.h>

#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NS_DIALBACK "jabber:server:dialback"
#define SERVERS 2
#define STEPS_MAX 48

static const char *const domains[SERVERS] = { "peer.example", "other.example" };

static struct {
	struct harness_client *servers[SERVERS]; /* the first is proven */
	struct harness_client *romeo;
} stage;

static void
on_element(const char *name, const char **attributes)
{
	if (strncmp(name, NS_CLIENT " ", sizeof(NS_CLIENT)) != 0)
		return;
	for (; attributes[0]; attributes += 2)
		if (strcmp(attributes[0], "from") == 0)
			IRIS_ASSERT(!strstr(attributes[1], "forged"));
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	harness_on_element = on_element;
	return 0;
}

/* --- parts --- */

static void
add_attribute(struct bytes *bytes, struct iris_strbuf *out, const char *name,
	      const char *const *values, size_t count)
{
	uint8_t byte = bytes_take(bytes);

	if (byte == 255)
		return; /* none */
	strbuf_printf(out, " %s='", name);
	if (byte == 254)
		bytes_add_text(bytes, out);
	else
		strbuf_add(out, str_from(values[byte % count]));
	strbuf_add(out, IRIS_STR("'"));
}

static void
add_addresses(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const from[] = { "x@peer.example/r", "peer.example", "x@peer.example",
					    "forged@forged.example", "forged.example",
					    "other.example", "@", "peer.example/" };
	static const char *const to[] = { "romeo@" HARNESS_HOST "/r0", "romeo@" HARNESS_HOST,
					  HARNESS_HOST, "nobody@" HARNESS_HOST,
					  "x@peer.example", "forged.example", "",
					  HARNESS_HOST "/r" };

	add_attribute(bytes, out, "from", from, IRIS_COUNT(from));
	add_attribute(bytes, out, "to", to, IRIS_COUNT(to));
}

static void
add_type(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const types[] = { "chat", "get", "set", "result", "error", "subscribe",
					     "subscribed", "unsubscribe", "unsubscribed", "probe",
					     "unavailable", "headline", "groupchat", "valid",
					     "invalid" };
	static const char *const ids[] = { "i", "iris.1.1", "iris.2.1", "" };

	add_attribute(bytes, out, "type", types, IRIS_COUNT(types));
	add_attribute(bytes, out, "id", ids, IRIS_COUNT(ids));
}

static void
add_payload(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const payloads[] = {
		"", "<body>b</body>", "<ping xmlns='urn:xmpp:ping'/>",
		"<query xmlns='jabber:iq:roster'/>", "<query xmlns='jabber:iq:last'/>",
		"<query xmlns='http://jabber.org/protocol/disco#info'/>",
		"<vCard xmlns='vcard-temp'/>", "<query xmlns='urn:xmpp:mam:2'/>",
		"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'/></pubsub>",
		"<error type='cancel'><gone xmlns='" NS_STANZAS "'/></error>",
		"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'/>"
		"</received>",
		"<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@" HARNESS_HOST "' id='1'/>" };

	strbuf_add(out, str_from(payloads[bytes_choose(bytes, IRIS_COUNT(payloads))]));
}

/* --- steps --- */

static void
add_stanza(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const kinds[] = { "message", "presence", "iq" };
	const char *kind = kinds[bytes_choose(bytes, IRIS_COUNT(kinds))];

	strbuf_printf(out, "<%s", kind);
	add_addresses(bytes, out);
	add_type(bytes, out);
	strbuf_add(out, IRIS_STR(">"));
	add_payload(bytes, out);
	strbuf_printf(out, "</%s>", kind);
}

static void
add_dialback(struct bytes *bytes, struct iris_strbuf *out)
{
	const char *kind = bytes_choose(bytes, 2) ? "result" : "verify";

	strbuf_printf(out, "<db:%s xmlns:db='" NS_DIALBACK "'", kind);
	add_addresses(bytes, out);
	add_type(bytes, out);
	strbuf_add(out, IRIS_STR(">"));
	bytes_add_text(bytes, out);
	strbuf_printf(out, "</db:%s>", kind);
}

static void
add_other(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const others[] = {
		"<auth xmlns='" NS_SASL "' mechanism='EXTERNAL'>=</auth>",
		"<auth xmlns='" NS_SASL "' mechanism='EXTERNAL'>cGVlci5leGFtcGxl</auth>",
		"<auth xmlns='" NS_SASL "' mechanism='PLAIN'>AGEAYg==</auth>",
		"<success xmlns='" NS_SASL "'/>", "<failure xmlns='" NS_SASL "'/>",
		"<starttls xmlns='" NS_TLS "'/>", "<proceed xmlns='" NS_TLS "'/>",
		"<stream:features/>",
		"<stream:error><reset xmlns='" NS_STREAMS "'/></stream:error>",
		"<enable xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>", " ",
		"<response xmlns='" NS_SASL "'/>",
		"<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
		"<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
		"<resume xmlns='urn:xmpp:sm:3' h='4294967296'/>",
		"<a xmlns='urn:xmpp:sm:3' h='0'/>", "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>",
		"<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true'/>",
		"<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
		"<failed xmlns='urn:xmpp:sm:3' h='1'/>" };

	strbuf_add(out, str_from(others[bytes_choose(bytes, IRIS_COUNT(others))]));
}

static void
step(struct bytes *bytes, struct iris_arena *arena)
{
	uint8_t byte = bytes_take(bytes), kind = byte & 15;
	size_t who = (byte >> 4) % SERVERS;
	struct iris_strbuf out = STRBUF_INIT(arena);

	if (!stage.servers[who])
		stage.servers[who] = harness_open_server(domains[who], who == 0);
	if (!stage.romeo)
		stage.romeo = harness_open_bound("romeo");
	if (!stage.servers[who] || !stage.romeo)
		return;
	if (kind == 0) {
		harness_close(&stage.servers[who], bytes_choose(bytes, 2));
		return;
	}
	if (kind < 10)
		add_stanza(bytes, &out);
	else if (kind < 13)
		add_dialback(bytes, &out);
	else if (kind < 15)
		add_other(bytes, &out);
	else
		strbuf_add(&out, IRIS_STR("<presence to='x@peer.example'/>"));
	harness_send(kind == 15 ? stage.romeo : stage.servers[who], strbuf_str(&out));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };

	memset(&stage, 0, sizeof(stage));
	for (unsigned i = 0; i < STEPS_MAX && bytes.at < bytes.end; i++) {
		struct iris_arena *arena = arena_new();

		step(&bytes, arena);
		arena_unref(&arena);
	}
	for (size_t i = 0; i < SERVERS; i++)
		harness_close(&stage.servers[i], (size + i) % 3 != 0);
	harness_close(&stage.romeo, true);
	return 0;
}
