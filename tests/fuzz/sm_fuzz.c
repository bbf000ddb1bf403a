/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0198 on a whole server: three clients of two accounts open, bind, enable, resume each
 * other's and their own sessions, acknowledge what they like, send, cut and close.  Each byte is
 * a step, those behind it its choices.  Oracle, besides the harness's: h is never more than was
 * sent.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NS_SM "urn:xmpp:sm:3"
#define CLIENTS 3
#define STEPS_MAX 64

static const char *const users[CLIENTS] = { "romeo", "romeo", "juliet" };

static struct {
	struct harness_client *clients[CLIENTS];
	char ids[CLIENTS][64]; /* of the sessions that they enabled */
	unsigned stanzas;      /* sent by all of them together */
} stage;

static void
on_element(const char *name, const char **attributes)
{
	if (strcmp(name, NS_SM " a") != 0 && strcmp(name, NS_SM " resumed") != 0)
		return;
	for (; attributes[0]; attributes += 2)
		if (strcmp(attributes[0], "h") == 0)
			IRIS_ASSERT(strtoul(attributes[1], NULL, 10) <= stage.stanzas);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	harness_on_element = on_element;
	return 0;
}

/* --- attributes --- */

static void
add_h(struct bytes *bytes, struct iris_strbuf *out)
{
	uint8_t h = bytes_take(bytes);

	if (h == 255)
		return; /* none */
	strbuf_add(out, IRIS_STR(" h='"));
	if (h == 254)
		bytes_add_text(bytes, out);
	else if (h == 253)
		strbuf_add(out, IRIS_STR("4294967295"));
	else
		strbuf_printf(out, "%u", h);
	strbuf_add(out, IRIS_STR("'"));
}

static void
add_address(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const addresses[] = { "juliet@" HARNESS_HOST, "romeo@" HARNESS_HOST,
						 "romeo@" HARNESS_HOST "/r0",
						 "juliet@" HARNESS_HOST "/r1", HARNESS_HOST };

	strbuf_printf(out, " to='%s'", addresses[bytes_choose(bytes, IRIS_COUNT(addresses))]);
}

/* --- steps --- */

static void
learn_id(size_t who)
{
	const char *enabled = strstr(harness_output(stage.clients[who]), "<enabled ");
	const char *id = enabled ? strstr(enabled, " id='") : NULL;

	if (id)
		snprintf(stage.ids[who], sizeof(stage.ids[who]), "%.*s",
			 (int)strcspn(id + 5, "'"), id + 5);
}

static void
step_enable(struct bytes *bytes, size_t who)
{
	static const char *const choices[] = { " resume='true'", "", " resume='1' max='1'",
					       " resume='true' max='99999999999'" };

	harness_printf(stage.clients[who], "<enable xmlns='" NS_SM "'%s/>",
		       choices[bytes_choose(bytes, IRIS_COUNT(choices))]);
	if (harness_await(stage.clients[who], "<enabled", "<failed"))
		learn_id(who);
}

static void
step_resume(struct bytes *bytes, struct iris_strbuf *out, size_t who)
{
	size_t whose = bytes_choose(bytes, CLIENTS + 1);

	strbuf_add(out, IRIS_STR("<resume xmlns='" NS_SM "' previd='"));
	if (whose == CLIENTS)
		bytes_add_text(bytes, out);
	else
		strbuf_add(out, str_from(stage.ids[whose]));
	strbuf_add(out, IRIS_STR("'"));
	add_h(bytes, out);
	strbuf_add(out, IRIS_STR("/>"));
	harness_send(stage.clients[who], strbuf_str(out));
	(void)harness_await(stage.clients[who], "<resumed", "<failed");
}

static void
step_stanza(struct bytes *bytes, struct iris_strbuf *out, uint8_t kind)
{
	static const char *const wholes[] = {
		"<presence/>", "<presence><priority>-1</priority></presence>",
		"<presence type='unavailable'/>",
		"<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
		"<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>",
		"<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>",
		"<presence to='romeo@" HARNESS_HOST "/r0'/>",
		"<message to='romeo@" HARNESS_HOST "/r0'><received xmlns='urn:xmpp:receipts'/>"
		"</message>",
		"<message to='juliet@" HARNESS_HOST "/r1' type='headline'><event "
		"xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'><item id='i'/>"
		"</items></event></message>" };

	stage.stanzas++;
	if (kind == 0) {
		strbuf_add(out, str_from(wholes[bytes_choose(bytes, IRIS_COUNT(wholes))]));
		return;
	}
	strbuf_add(out, IRIS_STR("<message type='chat'"));
	add_address(bytes, out);
	strbuf_add(out, IRIS_STR("><body>"));
	bytes_add_text(bytes, out);
	strbuf_add(out, IRIS_STR("</body></message>"));
}

static void
step_write(struct bytes *bytes, struct iris_strbuf *out, uint8_t kind)
{
	static const char *const others[] = {
		"<inactive xmlns='urn:xmpp:csi:0'/>", "<active xmlns='urn:xmpp:csi:0'/>",
		"<enabled xmlns='" NS_SM "'/>", "<a xmlns='" NS_SM "'><r/></a>",
		"<failed xmlns='" NS_SM "'/>" };

	switch (kind) {
	case 0:
		stage.stanzas++;
		strbuf_printf(out,
			      "<iq type='set' id='b'><bind xmlns='" NS_BIND "'>"
			      "<resource>r%zu</resource></bind></iq>",
			      bytes_choose(bytes, 2));
		break;
	case 1: strbuf_add(out, IRIS_STR("<r xmlns='" NS_SM "'/>")); break;
	case 2:
		strbuf_add(out, IRIS_STR("<a xmlns='" NS_SM "'"));
		add_h(bytes, out);
		strbuf_add(out, IRIS_STR("/>"));
		break;
	case 3: strbuf_add(out, str_from(others[bytes_choose(bytes, IRIS_COUNT(others))])); break;
	default: step_stanza(bytes, out, kind - 4); break;
	}
}

static void
step(struct bytes *bytes, struct iris_arena *arena)
{
	uint8_t byte = bytes_take(bytes), kind = byte & 15;
	size_t who = (byte >> 4) % CLIENTS;
	struct iris_strbuf out = STRBUF_INIT(arena);

	if (!stage.clients[who])
		stage.clients[who] = harness_open(users[who]);
	if (!stage.clients[who])
		return;
	if (kind < 2)
		harness_close(&stage.clients[who], kind == 0);
	else if (kind == 2)
		step_enable(bytes, who);
	else if (kind == 3)
		step_resume(bytes, &out, who);
	else {
		step_write(bytes, &out, (kind - 4) % 6);
		harness_send(stage.clients[who], strbuf_str(&out));
	}
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
	for (size_t i = 0; i < CLIENTS; i++)
		harness_close(&stage.clients[i], (size + i) % 3 != 0);
	return 0;
}
