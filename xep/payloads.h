/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in messages: the payloads of extensions that need nothing of a server but to be told
 * apart (XEP-0085, 0184, 0249, 0333, 0334, 0359's ids of senders, XEP-0045's marks on what comes
 * from rooms, and the table of what is worth keeping).  For plug-ins that decide what is kept,
 * copied or held.
 */
#ifndef IRIS_XEP_PAYLOADS_H
#define IRIS_XEP_PAYLOADS_H

#include "iris/stanza.h"

#define NS_CHAT_STATES "http://jabber.org/protocol/chatstates"    /* XEP-0085 */
#define NS_RTT "urn:xmpp:rtt:0"                                   /* XEP-0301 */
#define NS_PUBSUB "http://jabber.org/protocol/pubsub"             /* XEP-0060 */
#define NS_PUBSUB_EVENT "http://jabber.org/protocol/pubsub#event"
#define NS_PUBLISH_OPTIONS "http://jabber.org/protocol/pubsub#publish-options"
#define NS_ADDRESS "http://jabber.org/protocol/address"           /* XEP-0033 */
#define NS_JINGLE "urn:xmpp:jingle:1"                             /* XEP-0166 */

static inline bool
payload_is_chat_state(const struct iris_element *payload) /* XEP-0085 */
{
	return str_is(payload->ns, NS_CHAT_STATES);
}

static inline bool
payload_is_of_the_moment(const struct iris_element *payload) /* who types, and what: gone at once */
{
	return payload_is_chat_state(payload) || str_is(payload->ns, NS_RTT);
}

static inline bool
payload_is_receipt(const struct iris_element *payload) /* XEP-0184, the request and the receipt */
{
	return str_is(payload->ns, "urn:xmpp:receipts");
}

static inline bool
payload_is_marker(const struct iris_element *payload) /* XEP-0333 */
{
	return str_is(payload->ns, "urn:xmpp:chat-markers:0");
}

static inline bool
payload_is_invitation(const struct iris_element *payload) /* XEP-0249 */
{
	return element_is(payload, "x", "jabber:x:conference");
}

static inline bool
payload_is_node_event(const struct iris_element *payload) /* XEP-0060 */
{
	return element_is(payload, "event", NS_PUBSUB_EVENT);
}

#define NS_HINTS "urn:xmpp:hints" /* XEP-0334 */
#define NS_OCCUPANT_ID "urn:xmpp:occupant-id:0" /* XEP-0421 */
#define NS_HATS "urn:xmpp:hats:0" /* XEP-0317 */

static inline bool
payload_is_hint(const struct iris_element *payload) /* XEP-0334 */
{
	return str_is(payload->ns, NS_HINTS);
}

static inline bool
message_has_hint(const struct iris_element *message, const char *hint) /* XEP-0334 §4 */
{
	return element_child(message, hint, NS_HINTS) != NULL;
}

#define NS_SID "urn:xmpp:sid:0"         /* XEP-0359 */
#define NS_CARBONS "urn:xmpp:carbons:2" /* XEP-0280 */

static inline bool
message_is_private(const struct iris_element *message) /* XEP-0280 §10, XEP-0334 §4.3 */
{
	return element_child(message, "private", NS_CARBONS) ||
	       message_has_hint(message, "no-copy");
}

static inline struct iris_str
message_origin_id(const struct iris_element *message) /* XEP-0359 §3.2; none: it has none */
{
	struct iris_element *origin = element_child(message, "origin-id", NS_SID);

	return origin ? element_get(origin, "id") : IRIS_STR_NONE;
}

#define NS_MAM "urn:xmpp:mam:2" /* XEP-0313 */

static inline bool
message_is_result(const struct iris_element *message) /* XEP-0313 §4.2: of a query */
{
	return element_child(message, "result", NS_MAM) != NULL;
}

#define NS_VCARD_UPDATE "vcard-temp:x:update" /* XEP-0153 */

#define NS_RETRACT "urn:xmpp:message-retract:1" /* XEP-0424 */
#define NS_CORRECT "urn:xmpp:message-correct:0" /* XEP-0308 */
#define NS_MODERATE "urn:xmpp:message-moderate:1" /* XEP-0425 */

static inline bool
message_is_tombstone(const struct iris_element *message) /* XEP-0424 §5 */
{
	return element_child(message, "retracted", NS_RETRACT) != NULL;
}

/* Is it something to read later, or only of the moment? By the table in payloads.c. */
bool payload_is_content(const struct iris_element *payload);
/* Has the message anything to keep (XEP-0313 §7.1), whoever keeps it? Hints against it aside. */
bool message_has_content(const struct iris_element *message);

/*
 * Is a person to be told of it now: something to read (perhaps encrypted), a call, an invitation?
 */
bool message_is_news(const struct iris_element *message);
/* XEP-0372, or the name in the text: is this (bare) address spoken of? */
bool message_mentions(const struct iris_element *message, const struct iris_jid *jid);

/* What a room adds to what it sends to its occupants; NULL: not from, or about, a room. */
static inline struct iris_element *
message_room_mark(const struct iris_element *message) /* XEP-0045 */
{
	return element_child(message, "x", "http://jabber.org/protocol/muc#user");
}

#endif
