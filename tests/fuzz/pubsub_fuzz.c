/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publish-subscribe: two accounts that see each other's presence and are interested in the nodes
 * publish, retract, configure, subscribe, and ask, at their own nodes, at each other's and at the
 * host's.  The requests are nearly right: the bytes choose what is in them.  The oracles are the
 * harness's.
 */
#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_MAX 24
#define NS "http://jabber.org/protocol/pubsub"
#define TO_HOST " to='pubsub." HARNESS_HOST "'"

static const char *const nodes[] = {
	"a",
	"b",
	"urn:xmpp:bookmarks:1",
	"storage:bookmarks",
	"urn:xmpp:avatar:metadata",
	"urn:xmpp:avatar:data",
	"urn:xmpp:mds:displayed:0",
};
static const char *const items[] = { "1", "2", "current", "room@rooms.example", "" };
static const char *const jids[] = {
	"romeo@" HARNESS_HOST, "juliet@" HARNESS_HOST, "juliet@" HARNESS_HOST "/r0", "@", "",
};
static const char *const payloads[] = {
	"<x xmlns='urn:example:x'/>",
	"<conference xmlns='urn:xmpp:bookmarks:1' autojoin='1'><nick>n</nick></conference>",
	"<storage xmlns='storage:bookmarks'><conference jid='room@rooms.example' name='n'/>"
	"<conference jid='@'/><url name='u'/></storage>",
	"<metadata xmlns='urn:xmpp:avatar:metadata'><info "
	"id='da39a3ee5e6b4b0d3255bfef95601890afd80709' type='image/png'/></metadata>",
	"<metadata xmlns='urn:xmpp:avatar:metadata'/>",
	"<data xmlns='urn:xmpp:avatar:data'>AAAA</data>",
	"<x/>",
	"",
};
static const char *const fields[] = {
	"access_model",	      "publish_model",	  "max_items",	   "item_expire",
	"persist_items",      "deliver_payloads", "notify_retract", "send_last_published_item",
	"publish_node_full",  "notify_config",	  "title",	   "roster_groups_allowed",
	"notification_type",  "unheard_of",	  "itemreply",	   "presence_based_delivery",
	"deliver_notifications", "notify_sub",
};
static const char *const values[] = {
	"open", "presence", "roster", "authorize", "whitelist", "publishers", "subscribers",
	"1",	"0",	    "max",    "true",	   "false",	"never",      "on_sub",
	"on_sub_and_presence", "reject", "normal", "headline", "-1", "99999999999", "",
};
static const char *const affiliations[] = {
	"owner", "publisher", "publish-only", "member", "none", "outcast", "duke",
};

#define CHOOSE(bytes, list) ((list)[bytes_choose((bytes), IRIS_COUNT(list))])

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	return 0;
}

static void
add_form(struct bytes *bytes, struct iris_strbuf *out)
{
	size_t count = bytes_choose(bytes, 4);

	strbuf_printf(out, "<x xmlns='jabber:x:data' type='%s'>",
		      bytes_take(bytes) < 240 ? "submit" : "cancel");
	for (size_t i = 0; i < count; i++) {
		strbuf_printf(out, "<field var='pubsub#%s'><value>", CHOOSE(bytes, fields));
		if (bytes_take(bytes) < 224)
			strbuf_printf(out, "%s", CHOOSE(bytes, values));
		else
			bytes_add_text(bytes, out);
		strbuf_add(out, IRIS_STR("</value></field>"));
	}
	strbuf_add(out, IRIS_STR("</x>"));
}

static void
add_item(struct bytes *bytes, struct iris_strbuf *out)
{
	if (bytes_take(bytes) > 248)
		return;
	strbuf_printf(out, "<item id='%s'>%s</item>", CHOOSE(bytes, items),
		      CHOOSE(bytes, payloads));
}

static void
add_rsm(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const sets[] = {
		"", "<max>1</max>", "<max>0</max>", "<max>2</max><after>1</after>",
		"<before/>", "<before>2</before>", "<max>x</max>", "<index>1</index>",
	};

	if (bytes_take(bytes) & 1)
		strbuf_printf(out, "<set xmlns='http://jabber.org/protocol/rsm'>%s</set>",
			      CHOOSE(bytes, sets));
}

static void
add_publish(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<publish node='%s'>", CHOOSE(bytes, nodes));
	add_item(bytes, out);
	strbuf_add(out, IRIS_STR("</publish>"));
	if (bytes_take(bytes) & 1) {
		strbuf_add(out, IRIS_STR("<publish-options>"));
		add_form(bytes, out);
		strbuf_add(out, IRIS_STR("</publish-options>"));
	}
}

static void
add_items(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<items node='%s'", CHOOSE(bytes, nodes));
	if (bytes_take(bytes) < 64)
		strbuf_printf(out, " max_items='%s'", CHOOSE(bytes, values));
	strbuf_add(out, IRIS_STR(">"));
	if (bytes_take(bytes) < 64)
		strbuf_printf(out, "<item id='%s'/>", CHOOSE(bytes, items));
	strbuf_add(out, IRIS_STR("</items>"));
	add_rsm(bytes, out);
}

static void
add_retract(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<retract node='%s' notify='%s'><item id='%s'/></retract>",
		      CHOOSE(bytes, nodes), CHOOSE(bytes, values), CHOOSE(bytes, items));
}

static void
add_create(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<create node='%s'/><configure>", CHOOSE(bytes, nodes));
	add_form(bytes, out);
	strbuf_add(out, IRIS_STR("</configure>"));
}

static void
add_configure(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<configure node='%s'>", CHOOSE(bytes, nodes));
	add_form(bytes, out);
	strbuf_add(out, IRIS_STR("</configure>"));
}

static void
add_subscribe(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const commands[] = { "subscribe", "unsubscribe", "options" };
	const char *command = CHOOSE(bytes, commands);

	strbuf_printf(out, "<%s node='%s' jid='%s'>", command, CHOOSE(bytes, nodes),
		      CHOOSE(bytes, jids));
	if (bytes_take(bytes) & 1)
		add_form(bytes, out);
	strbuf_printf(out, "</%s>", command);
}

static void
add_lists(struct bytes *bytes, struct iris_strbuf *out)
{
	if (bytes_take(bytes) & 1)
		strbuf_printf(out, "<affiliations node='%s'><affiliation jid='%s' "
				   "affiliation='%s'/></affiliations>",
			      CHOOSE(bytes, nodes), CHOOSE(bytes, jids),
			      CHOOSE(bytes, affiliations));
	else
		strbuf_printf(out, "<subscriptions node='%s'><subscription jid='%s' "
				   "subscription='%s'/></subscriptions>",
			      CHOOSE(bytes, nodes), CHOOSE(bytes, jids),
			      bytes_take(bytes) & 1 ? "subscribed" : "none");
}

static void
add_end(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<%s node='%s'/>", bytes_take(bytes) & 1 ? "purge" : "delete",
		      CHOOSE(bytes, nodes));
}

/* What a host answers without a node. */
static void
add_own(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const own[] = {
		"<subscriptions/>", "<affiliations/>", "<create/>", "<default/>",
	};

	strbuf_printf(out, "%s", CHOOSE(bytes, own));
	add_rsm(bytes, out);
}

static const struct {
	void (*add)(struct bytes *bytes, struct iris_strbuf *out);
	const char *ns;
} commands[] = {
	{ add_publish, NS },	       { add_publish, NS },   { add_items, NS },
	{ add_retract, NS },	       { add_create, NS },    { add_configure, NS "#owner" },
	{ add_subscribe, NS },	       { add_lists, NS "#owner" }, { add_end, NS "#owner" },
	{ add_lists, NS },	       { add_own, NS },
};

static void
add_request(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const to[] = { "", "", " to='juliet@" HARNESS_HOST "'",
					  " to='romeo@" HARNESS_HOST "'",
					  " to='nobody@" HARNESS_HOST "'", TO_HOST, TO_HOST,
					  TO_HOST };
	size_t i = bytes_choose(bytes, IRIS_COUNT(commands));

	strbuf_printf(out, "<iq type='%s' id='%u'%s><pubsub xmlns='%s'>",
		      commands[i].add == add_items || bytes_take(bytes) < 32 ? "get" : "set",
		      bytes_take(bytes), CHOOSE(bytes, to), commands[i].ns);
	commands[i].add(bytes, out);
	strbuf_add(out, IRIS_STR("</pubsub></iq>"));
}

static void
add_discovery(struct bytes *bytes, struct iris_strbuf *out)
{
	bool items = bytes_take(bytes) & 1;

	strbuf_printf(out, "<iq type='get' id='%u'" TO_HOST "><query "
			   "xmlns='http://jabber.org/protocol/disco#%s'",
		      bytes_take(bytes), items ? "items" : "info");
	if (bytes_take(bytes) & 1)
		strbuf_printf(out, " node='%s'", CHOOSE(bytes, nodes));
	strbuf_add(out, IRIS_STR(">"));
	add_rsm(bytes, out);
	strbuf_add(out, IRIS_STR("</query></iq>"));
}

/* An owner answers who asked for a subscription. */
static void
add_authorization(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_printf(out, "<message" TO_HOST "><x xmlns='jabber:x:data' type='submit'>"
			   "<field var='FORM_TYPE'><value>" NS "#subscribe_authorization</value>"
			   "</field><field var='pubsub#node'><value>%s</value></field>",
		      CHOOSE(bytes, nodes));
	strbuf_printf(out, "<field var='pubsub#subscriber_jid'><value>%s</value></field>"
			   "<field var='pubsub#allow'><value>%s</value></field></x></message>",
		      CHOOSE(bytes, jids), CHOOSE(bytes, values));
}

/* Capabilities that are asked about in vain. */
#define PRESENCE                                                                             \
	"<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' "        \
	"ver='AAAA'/></presence>"

static struct harness_client *
open_and_befriend(const char *user, const char *other)
{
	struct harness_client *client = harness_open_bound(user);

	if (client)
		harness_printf(client,
			       PRESENCE "<presence type='subscribed' to='%s@" HARNESS_HOST "'/>"
					"<presence type='subscribe' to='%s@" HARNESS_HOST "'/>",
			       other, other);
	return client;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };
	struct harness_client *romeo = open_and_befriend("romeo", "juliet");
	struct harness_client *juliet = open_and_befriend("juliet", "romeo");

	for (unsigned i = 0; romeo && juliet && i < REQUESTS_MAX && bytes.at < bytes.end; i++) {
		struct iris_arena *arena = arena_new();
		struct iris_strbuf out = STRBUF_INIT(arena);
		uint8_t choice = bytes_take(&bytes);

		if (choice < 8)
			strbuf_add(&out, IRIS_STR(PRESENCE));
		else if (choice < 12)
			strbuf_add(&out, IRIS_STR("<presence type='unavailable'/>"));
		else if (choice < 24)
			add_authorization(&bytes, &out);
		else if (choice < 40)
			add_discovery(&bytes, &out);
		else
			add_request(&bytes, &out);
		harness_send(choice & 1 ? juliet : romeo, strbuf_str(&out));
		arena_unref(&arena);
	}
	harness_close(&romeo, true);
	harness_close(&juliet, true);
	return 0;
}
