/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which payloads of messages are content: see payloads.h.  One table decides what archives keep
 * (XEP-0313 §7.1) and what waits for who is away (XEP-0160 §3).  Any thread.
 */
#include <ctype.h>

#include "xep/payloads.h"
#include "xep/xep0203_delay.h"

#define NS_REFERENCE "urn:xmpp:reference:0" /* XEP-0372 */

struct payload_rule {
	const char *ns;
	const char *name; /* NULL: all others of the namespace */
	bool content;
	const char *with; /* a child that it must have */
};

/*
 * The first row that fits decides. What no row knows is content: an extension that is newer than
 * this table must not lose messages.
 */
static const struct payload_rule payload_rules[] = {
	/* RFC 6121 §5.2 */
	{ NS_CLIENT, "body", true },
	{ NS_CLIENT, "subject", true },
	{ NS_CLIENT, NULL, false },
	/* XEP-0085, XEP-0022: who is typing; XEP-0224: a nudge; XEP-0301: while it is typed */
	{ NS_CHAT_STATES, NULL, false },
	{ "jabber:x:event", NULL, false },
	{ "urn:xmpp:attention:0", NULL, false },
	{ NS_RTT, NULL, false },
	/* XEP-0184: the message that is confirmed is kept, a mark on it is XEP-0333's */
	{ "urn:xmpp:receipts", NULL, false },
	/* XEP-0333: what has been read is; that it may be asked for is not */
	{ "urn:xmpp:chat-markers:0", "markable", false },
	{ "urn:xmpp:chat-markers:0", NULL, true },
	/* XEP-0444, XEP-0424, XEP-0308: they change what is shown of another message */
	{ "urn:xmpp:reactions:0", NULL, true },
	{ NS_RETRACT, NULL, true },
	{ NS_CORRECT, NULL, true },
	/* XEP-0384, XEP-0373, XEP-0027: also without a body, for the keys that they carry */
	{ "eu.siacs.conversations.axolotl", NULL, true },
	{ "urn:xmpp:omemo:2", NULL, true },
	{ "urn:xmpp:openpgp:0", NULL, true },
	{ "jabber:x:encrypted", NULL, true },
	/* XEP-0353: a call was made, taken, refused, missed, over; that it rings is gone at once */
	{ "urn:xmpp:jingle-message:0", "ringing", false },
	{ "urn:xmpp:jingle-message:0", NULL, true },
	{ "urn:xmpp:call-log:0", NULL, true },
	/* XEP-0249 and XEP-0045: invitations */
	{ "jabber:x:conference", NULL, true },
	{ "http://jabber.org/protocol/muc#user", "x", true, "invite" },
	{ "http://jabber.org/protocol/muc#user", "x", true, "decline" },
	{ "http://jabber.org/protocol/muc#user", NULL, false },
	/*
	 * XEP-0334, 0203, 0359, 0421, 0280, 0380, 0428, 0393, 0172, 0153: they say how to take the
	 * rest
	 */
	{ NS_HINTS, NULL, false },
	{ NS_DELAY, NULL, false },
	{ NS_SID, NULL, false },
	{ NS_OCCUPANT_ID, NULL, false },
	{ NS_CARBONS, NULL, false },
	{ "urn:xmpp:eme:0", NULL, false },
	{ "urn:xmpp:fallback:0", NULL, false },
	{ "urn:xmpp:styling:0", NULL, false },
	{ "http://jabber.org/protocol/nick", NULL, false },
	{ NS_VCARD_UPDATE, NULL, false },
	{ NS_ADDRESS, NULL, false },
	/* XEP-0313: what comes out of an archive (a room's) is in it */
	{ NS_MAM, NULL, false },
	/* XEP-0060: what happens at a node is read there; XEP-0047: a stream has its own end */
	{ NS_PUBSUB_EVENT, NULL, false },
	{ "http://jabber.org/protocol/ibb", NULL, false },
};

/* What a person is told of at once, wherever the devices are (XEP-0357). */
static const struct payload_rule payload_news[] = {
	{ NS_CLIENT, "body", true },
	/* without a payload it only carries a key */
	{ "eu.siacs.conversations.axolotl", "encrypted", true, "payload" },
	{ "urn:xmpp:omemo:2", "encrypted", true, "payload" },
	{ "urn:xmpp:openpgp:0", NULL, true },
	{ "jabber:x:encrypted", NULL, true },
	{ "urn:xmpp:jingle-message:0", "propose", true },
	{ "jabber:x:conference", NULL, true },
	{ "http://jabber.org/protocol/muc#user", "x", true, "invite" },
	/* A change to what was told already, whatever its body says for older clients */
	{ NS_CORRECT, NULL, false },
	{ NS_RETRACT, NULL, false },
	{ "urn:xmpp:reactions:0", NULL, false },
};

static const struct payload_rule *
payload_find_rule(const struct iris_element *payload, const struct payload_rule *rules,
		  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct payload_rule *rule = &rules[i];

		if (str_is(payload->ns, rule->ns) &&
		    (!rule->name || str_is(payload->name, rule->name)) &&
		    (!rule->with || element_child(payload, rule->with, rule->ns)))
			return rule;
	}
	return NULL;
}

bool
payload_is_content(const struct iris_element *payload)
{
	const struct payload_rule *rule =
		payload_find_rule(payload, payload_rules, IRIS_COUNT(payload_rules));

	return !rule || rule->content;
}

bool
message_has_content(const struct iris_element *message)
{
	ELEMENT_FOREACH(child, message) {
		if (payload_is_content(child))
			return true;
	}
	return message_has_hint(message, "store"); /* XEP-0334 §4.4 */
}

bool
message_is_news(const struct iris_element *message)
{
	bool news = false;

	ELEMENT_FOREACH(child, message) {
		const struct payload_rule *rule =
			payload_find_rule(child, payload_news, IRIS_COUNT(payload_news));

		if (rule && !rule->content)
			return false;
		news = news || rule;
	}
	return news;
}

static bool
is_in_word(char c)
{
	return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Bytes beyond ASCII are compared as they are. */
static bool
text_has_word(struct iris_str text, struct iris_str word)
{
	size_t i, at;

	for (at = 0; word.len > 0 && at + word.len <= text.len; at++) {
		if ((at > 0 && is_in_word(text.base[at - 1])) ||
		    (at + word.len < text.len && is_in_word(text.base[at + word.len])))
			continue;
		for (i = 0; i < word.len; i++)
			if (tolower((unsigned char)text.base[at + i]) !=
			    tolower((unsigned char)word.base[i]))
				break;
		if (i == word.len)
			return true;
	}
	return false;
}

bool
message_mentions(const struct iris_element *message, const struct iris_jid *jid)
{
	struct iris_str bare = jid_bare(jid), uri;

	for (struct iris_element *reference = element_child(message, "reference", NS_REFERENCE);
	     reference; reference = element_next(reference, "reference", NS_REFERENCE)) {
		uri = element_get(reference, "uri");
		if (str_is(element_get(reference, "type"), "mention") && uri.len == bare.len + 5 &&
		    memcmp(uri.base, "xmpp:", 5) == 0 &&
		    memcmp(uri.base + 5, bare.base, bare.len) == 0)
			return true;
	}
	return text_has_word(element_child_text(message, "body", NULL), jid_node(jid));
}
