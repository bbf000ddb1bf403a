/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rooms: two accounts enter and leave the same few rooms, talk, administer, configure,
 * register, invite, search and destroy.  The requests are nearly right: the bytes choose what is in
 * them.  The oracles are the harness's.
 */
#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_MAX 32
#define NS "http://jabber.org/protocol/muc"
#define FORM_TYPE(type) "<field var='FORM_TYPE'><value>" type "</value></field>"

static const char *const rooms[] = {
	"a@rooms." HARNESS_HOST, "b@rooms." HARNESS_HOST, "rooms." HARNESS_HOST,
	"a@rooms." HARNESS_HOST "/n1", "a@rooms." HARNESS_HOST "/n2",
};
static const char *const nicks[] = { "n1", "n2", "n 3", "" };
static const char *const jids[] = {
	"romeo@" HARNESS_HOST, "juliet@" HARNESS_HOST, "juliet@" HARNESS_HOST "/r0",
	"nobody@" HARNESS_HOST, HARNESS_HOST, "mercutio@elsewhere.example", "@", "",
};
static const char *const affiliations[] = { "owner", "admin", "member", "none", "outcast", "duke",
					    "" };
static const char *const roles[] = { "moderator", "participant", "visitor", "none", "king", "" };
static const char *const fields[] = {
	"roomname", "roomdesc", "persistentroom", "publicroom", "membersonly", "moderatedroom",
	"passwordprotectedroom", "roomsecret", "whois", "changesubject", "allowinvites", "allowpm",
	"maxusers", "maxhistoryfetch", "enablelogging", "enablearchiving", "presencebroadcast",
	"getmemberlist", "lang", "roomadmins", "roomowners", "unheard_of",
};
static const char *const values[] = {
	"1", "0", "true", "false", "anyone", "moderators", "participants", "none", "10", "-1",
	"99999999999", "5000", "",
};

#define CHOOSE(bytes, list) ((list)[bytes_choose((bytes), IRIS_COUNT(list))])

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	return 0;
}

static void
add_value(struct bytes *bytes, struct iris_strbuf *out)
{
	if (bytes_take(bytes) < 208)
		strbuf_printf(out, "%s", CHOOSE(bytes, values));
	else
		bytes_add_text(bytes, out);
}

static void
add_enter(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const wanted[] = {
		"", "<history maxstanzas='0'/>", "<history maxchars='-1' seconds='x'/>",
		"<history since='1970-01-01T00:00:00Z'/>", "<password>1</password>",
	};

	strbuf_printf(out, "<presence to='%s/%s'><x xmlns='" NS "'>%s</x></presence>",
		      rooms[bytes_choose(bytes, 2)], CHOOSE(bytes, nicks), CHOOSE(bytes, wanted));
}

static void
add_presence(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const types[] = { "", " type='unavailable'", " type='subscribe'",
					     " type='probe'", " type='error'" };

	strbuf_printf(out, "<presence to='%s'%s><status>", CHOOSE(bytes, rooms),
		      CHOOSE(bytes, types));
	bytes_add_text(bytes, out);
	strbuf_add(out, IRIS_STR("</status></presence>"));
}

static void
add_said(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const types[] = { "groupchat", "groupchat", "chat", "normal", "error" };
	static const char *const payloads[] = {
		"<body>b</body>",
		"<subject>s</subject>",
		"<subject/>",
		"<body>b</body><subject>s</subject>",
		"<composing xmlns='http://jabber.org/protocol/chatstates'/>",
		"<x xmlns='" NS "#user'><invite to='juliet@" HARNESS_HOST "'/></x>",
		"<x xmlns='" NS "#user'><decline to='romeo@" HARNESS_HOST "'/></x>",
		"<x xmlns='jabber:x:data' type='submit'>" FORM_TYPE(NS "#request")
		"<field var='muc#role'><value>participant</value></field></x>",
		"<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='a@rooms." HARNESS_HOST "'/>"
		"<occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/><body>b</body>",
		"",
	};

	strbuf_printf(out, "<message id='%u' type='%s' to='%s'>%s</message>", bytes_take(bytes),
		      CHOOSE(bytes, types), CHOOSE(bytes, rooms), CHOOSE(bytes, payloads));
}

static void
add_item(struct bytes *bytes, struct iris_strbuf *out)
{
	uint8_t which = bytes_take(bytes);

	strbuf_add(out, IRIS_STR("<item"));
	if (which & 1)
		strbuf_printf(out, " jid='%s'", CHOOSE(bytes, jids));
	if (which & 2)
		strbuf_printf(out, " nick='%s'", CHOOSE(bytes, nicks));
	if (which & 4)
		strbuf_printf(out, " affiliation='%s'", CHOOSE(bytes, affiliations));
	if (which & 8)
		strbuf_printf(out, " role='%s'", CHOOSE(bytes, roles));
	strbuf_add(out, IRIS_STR("><reason>"));
	if (which & 16)
		bytes_add_text(bytes, out);
	strbuf_add(out, IRIS_STR("</reason></item>"));
}

static void
add_admin(struct bytes *bytes, struct iris_strbuf *out)
{
	size_t count = bytes_choose(bytes, 4);

	strbuf_add(out, IRIS_STR("<query xmlns='" NS "#admin'>"));
	for (size_t i = 0; i < count; i++)
		add_item(bytes, out);
	strbuf_add(out, IRIS_STR("</query>"));
}

static void
add_owner(struct bytes *bytes, struct iris_strbuf *out)
{
	size_t count = bytes_choose(bytes, 5);
	uint8_t kind = bytes_take(bytes);

	strbuf_add(out, IRIS_STR("<query xmlns='" NS "#owner'>"));
	if (kind < 16) {
		strbuf_printf(out, "<destroy jid='%s'><reason>r</reason></destroy>",
			      CHOOSE(bytes, rooms));
	} else if (kind < 240) {
		strbuf_printf(out, "<x xmlns='jabber:x:data' type='%s'>",
			      kind < 224 ? "submit" : "cancel");
		strbuf_add(out, IRIS_STR(FORM_TYPE(NS "#roomconfig")));
		for (size_t i = 0; i < count; i++) {
			strbuf_printf(out, "<field var='muc#roomconfig_%s'><value>",
				      CHOOSE(bytes, fields));
			add_value(bytes, out);
			strbuf_add(out, IRIS_STR("</value></field>"));
		}
		strbuf_add(out, IRIS_STR("</x>"));
	}
	strbuf_add(out, IRIS_STR("</query>"));
}

static void
add_register(struct bytes *bytes, struct iris_strbuf *out)
{
	strbuf_add(out, IRIS_STR("<query xmlns='jabber:iq:register'>"));
	if (bytes_take(bytes) < 32) {
		strbuf_add(out, IRIS_STR("<remove/>"));
	} else {
		strbuf_printf(out,
			      "<x xmlns='jabber:x:data' type='submit'>" FORM_TYPE(NS "#register")
			      "<field var='muc#register_roomnick'><value>%s</value></field></x>",
			      CHOOSE(bytes, nicks));
	}
	strbuf_add(out, IRIS_STR("</query>"));
}

static void
add_other(struct bytes *bytes, struct iris_strbuf *out)
{
	static const char *const payloads[] = {
		"<query xmlns='http://jabber.org/protocol/disco#info'/>",
		"<query xmlns='http://jabber.org/protocol/disco#items'/>",
		"<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
		"<ping xmlns='urn:xmpp:ping'/>",
		"<vCard xmlns='vcard-temp'/>",
		"<query xmlns='urn:xmpp:mam:2'/>",
		"<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>"
		"<max>2</max><before/></set></query>",
		"<moderate xmlns='urn:xmpp:message-moderate:1' id='1'>"
		"<retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
		"<query xmlns='jabber:iq:search'/>",
		"<search xmlns='urn:xmpp:channel-search:0:search'/>",
		"<unique xmlns='" NS "#unique'/>",
	};

	strbuf_printf(out, "%s", CHOOSE(bytes, payloads));
}

static void
add_request(struct bytes *bytes, struct iris_strbuf *out)
{
	static void (*const adds[])(struct bytes *bytes, struct iris_strbuf *out) = {
		add_admin, add_admin, add_owner, add_owner, add_register, add_other,
	};
	static const char *const types[] = { "set", "set", "get", "result" };

	strbuf_printf(out, "<iq type='%s' id='%u' to='%s'>", CHOOSE(bytes, types),
		      bytes_take(bytes), CHOOSE(bytes, rooms));
	CHOOSE(bytes, adds)(bytes, out);
	strbuf_add(out, IRIS_STR("</iq>"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const steps[])(struct bytes *bytes, struct iris_strbuf *out) = {
		add_enter, add_enter, add_presence, add_said, add_said, add_request, add_request,
		add_request,
	};
	struct bytes bytes = { data, data + size };
	struct harness_client *romeo = harness_open_bound("romeo");
	struct harness_client *juliet = harness_open_bound("juliet");

	for (unsigned i = 0; romeo && juliet && i < REQUESTS_MAX && bytes.at < bytes.end; i++) {
		struct iris_arena *arena = arena_new();
		struct iris_strbuf out = STRBUF_INIT(arena);
		uint8_t choice = bytes_take(&bytes);

		steps[(choice >> 1) % IRIS_COUNT(steps)](&bytes, &out);
		harness_send(choice & 1 ? juliet : romeo, strbuf_str(&out));
		arena_unref(&arena);
	}
	harness_close(&romeo, true);
	harness_close(&juliet, size % 2 == 0);
	return 0;
}
