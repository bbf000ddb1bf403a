/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which payloads of messages are content: see payloads.h.  One table decides what archives keep
 * (XEP-0313 §7.1) and what waits for who is away (XEP-0160 §3).  Any thread.
 */
#include "xep/payloads.h"
#include "xep/xep0203_delay.h"

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
	 * XEP-0334, 0203, 0359, 0280, 0380, 0428, 0393, 0172, 0153: they say how to take the rest
	 */
	{ "urn:xmpp:hints", NULL, false },
	{ NS_DELAY, NULL, false },
	{ NS_SID, NULL, false },
	{ NS_CARBONS, NULL, false },
	{ "urn:xmpp:eme:0", NULL, false },
	{ "urn:xmpp:fallback:0", NULL, false },
	{ "urn:xmpp:styling:0", NULL, false },
	{ "http://jabber.org/protocol/nick", NULL, false },
	{ "vcard-temp:x:update", NULL, false },
	{ "http://jabber.org/protocol/address", NULL, false },
	/* XEP-0060: what happens at a node is read there; XEP-0047: a stream has its own end */
	{ NS_PUBSUB_EVENT, NULL, false },
	{ "http://jabber.org/protocol/ibb", NULL, false },
};

bool
payload_is_content(const struct iris_element *payload)
{
	for (size_t i = 0; i < IRIS_COUNT(payload_rules); i++) {
		const struct payload_rule *rule = &payload_rules[i];

		if (str_is(payload->ns, rule->ns) &&
		    (!rule->name || str_is(payload->name, rule->name)) &&
		    (!rule->with || element_child(payload, rule->with, rule->ns)))
			return rule->content;
	}
	return true;
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
