/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a client to its own account, to the host, to others: whatever a loaded module
 * answers is found in the descriptors, and gets a payload made of the bytes.  All of it is
 * well-formed; what is not, is xml_stream_fuzz's.  The oracles are the harness's.
 */
#include "bytes.h"
#include "harness.h"
#include "module_private.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAYLOADS_MAX 512
#define DEPTH_MAX 6
#define STANZAS_MAX 16
#define NODES_MAX 48

static const struct iris_iq *payloads[PAYLOADS_MAX];
static size_t payload_count;

static const char *const names[] = {
	"item",	    "query",	"x",	   "field",	"value",	"set",	      "max",
	"after",    "before",	"index",   "group",	"reported",	"option",     "required",
	"username", "password", "remove",  "vCard",	"FN",		"PHOTO",      "BINVAL",
	"TYPE",	    "block",	"unblock", "blocklist", "command",	"note",	      "actions",
	"enable",   "disable",	"prefs",   "flip-page", "storage",	"conference", "nick",
	"resource", "body",	"error",   "text",	"instructions", "enabled",    "c",
	"report",   "stanza-id", "preauth", "activate", "streamhost",	"addresses",  "address",
};
static const char *const namespaces[] = {
	"jabber:x:data",     "http://jabber.org/protocol/rsm",
	"storage:bookmarks", "vcard-temp",
	"jabber:client",     "urn:xmpp:mam:2",
	"urn:iris:unknown",  "http://jabber.org/protocol/caps",
	"urn:xmpp:sid:0",    "urn:xmpp:reporting:1",
};
static const char *const keys[] = {
	"jid",	   "name",	"subscription", "node",	    "type", "var",
	"action",  "sessionid", "ver",		"ask",	    "id",   "label",
	"queryid", "status",	"xml:lang",	"approved", "hash", "reason",
	"by",	   "sid",	"token",
};
static const char *const values[] = {
	"romeo@" HARNESS_HOST,
	"juliet@" HARNESS_HOST,
	HARNESS_HOST,
	"juliet@" HARNESS_HOST "/r0",
	"nobody@" HARNESS_HOST,
	"a@b@c/",
	"submit",
	"form",
	"cancel",
	"execute",
	"next",
	"complete",
	"remove",
	"both",
	"none",
	"0",
	"1",
	"-1",
	"9223372036854775807",
	"urn:xmpp:mam:2",
	"FORM_TYPE",
	"with",
	"start",
	"end",
	"ids",
	"after-id",
	"before-id",
	"2026-01-01T00:00:00Z",
	"true",
	"http://jabber.org/protocol/admin#add-user",
	"",
	"http://jabber.org/protocol/commands",
	"jabber:iq:register",
	"urn:xmpp:reporting:spam",
	"urn:xmpp:invite#invite",
	"http://jabber.org/protocol/pubsub#publish-options",
	"en",
	"sha-1",
};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (size_t i = 0; modules_linked[i]; i++)
		for (const struct iris_iq *iq = modules_linked[i]->iq; iq && iq->name; iq++)
			if (payload_count < PAYLOADS_MAX)
				payloads[payload_count++] = iq;
	IRIS_ASSERT(payload_count > 0);
	harness_start();
	return 0;
}

static void
add_value(struct bytes *bytes, struct iris_strbuf *out)
{
	uint8_t choice = bytes_take(bytes);

	if (choice < 2 * IRIS_COUNT(values))
		xml_escape(out, str_from(values[choice % IRIS_COUNT(values)]));
	else
		bytes_add_text(bytes, out);
}

static void
add_attributes(struct bytes *bytes, struct iris_strbuf *out)
{
	uint8_t which = bytes_take(bytes);

	for (unsigned bit = 0; bit < 3; bit++) { /* no key twice */
		if (!(which & (1u << bit)))
			continue;
		strbuf_printf(out, " %s='", keys[(which >> 3) % 5 + 5 * bit]);
		add_value(bytes, out);
		strbuf_add(out, IRIS_STR("'"));
	}
}

/* Children, until the bytes say that it is enough. */
static void
add_children(struct bytes *bytes, struct iris_strbuf *out, unsigned depth, unsigned *nodes)
{
	const char *name;
	uint8_t choice;

	while (bytes->at < bytes->end && (*nodes)++ < NODES_MAX) {
		choice = bytes_take(bytes);
		if (choice < 64)
			return;
		if (choice < 112 || depth == DEPTH_MAX) {
			add_value(bytes, out);
			continue;
		}
		name = names[choice % IRIS_COUNT(names)];
		strbuf_printf(out, "<%s", name);
		if (choice >= 208)
			strbuf_printf(out, " xmlns='%s'",
				      namespaces[bytes_choose(bytes, IRIS_COUNT(namespaces))]);
		add_attributes(bytes, out);
		strbuf_add(out, IRIS_STR(">"));
		add_children(bytes, out, depth + 1, nodes);
		strbuf_printf(out, "</%s>", name);
	}
}

static void
add_iq(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const types[] = { "get", "set", "set", "get", "result", "error", "odd" };
	static const char *const to[] = { "", "", " to='" HARNESS_HOST "'",
					  " to='romeo@" HARNESS_HOST "'",
					  " to='juliet@" HARNESS_HOST "'",
					  " to='juliet@" HARNESS_HOST "/r0'",
					  " to='romeo@" HARNESS_HOST "/r0'",
					  " to='elsewhere.example'" };
	const struct iris_iq *iq =
		payloads[(bytes_take(bytes) << 8 | bytes_take(bytes)) % payload_count];
	unsigned nodes = 0;

	strbuf_printf(out, "<iq type='%s' id='%u'%s><%s xmlns='%s'",
		      types[bytes_choose(bytes, IRIS_COUNT(types))], bytes_take(bytes),
		      to[bytes_choose(bytes, IRIS_COUNT(to))], iq->name, iq->ns);
	add_attributes(bytes, out);
	strbuf_add(out, IRIS_STR(">"));
	add_children(bytes, out, 2, &nodes);
	strbuf_printf(out, "</%s></iq>", iq->name);
}

static void
add_presence(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const types[] = { "",
					     " type='subscribe'",
					     " type='subscribed'",
					     " type='unavailable'",
					     " type='unsubscribe'",
					     " type='unsubscribed'",
					     " type='probe'" };
	static const char *const to[] = { "", " to='juliet@" HARNESS_HOST "'",
					  " to='romeo@" HARNESS_HOST "'" };
	unsigned nodes = 0;

	strbuf_printf(out, "<presence%s%s>", types[bytes_choose(bytes, IRIS_COUNT(types))],
		      to[bytes_choose(bytes, IRIS_COUNT(to))]);
	add_children(bytes, out, 2, &nodes);
	strbuf_add(out, IRIS_STR("</presence>"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };
	struct harness_client *romeo = harness_open_bound("romeo"), *juliet = NULL;

	if (bytes_take(&bytes) & 1)
		juliet = harness_open_bound("juliet");
	for (unsigned i = 0; romeo && i < STANZAS_MAX && bytes.at < bytes.end; i++) {
		struct iris_arena *arena = arena_new();
		struct iris_strbuf out = STRBUF_INIT(arena);
		uint8_t choice = bytes_take(&bytes);

		if (choice < 32)
			add_presence(&bytes, &out);
		else
			add_iq(&bytes, &out);
		harness_send(choice & 1 && juliet ? juliet : romeo, strbuf_str(&out));
		arena_unref(&arena);
	}
	harness_close(&romeo, true);
	harness_close(&juliet, true);
	return 0;
}
