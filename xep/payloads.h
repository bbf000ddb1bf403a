/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in messages: the payloads of extensions that need nothing of a server but to be told
 * apart (XEP-0085, 0184, 0249, 0333, 0334, and XEP-0045's marks on what comes from rooms).  For
 * plug-ins that decide what is kept, copied or held.
 */
#ifndef IRIS_XEP_PAYLOADS_H
#define IRIS_XEP_PAYLOADS_H

#include "iris/stanza.h"

static inline bool
payload_is_chat_state(const struct iris_element *payload) /* XEP-0085 */
{
	return str_is(payload->ns, "http://jabber.org/protocol/chatstates");
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
payload_is_hint(const struct iris_element *payload) /* XEP-0334 */
{
	return str_is(payload->ns, "urn:xmpp:hints");
}

static inline bool
message_has_hint(const struct iris_element *message, const char *hint) /* XEP-0334 §4 */
{
	return element_child(message, hint, "urn:xmpp:hints") != NULL;
}

/* What a room adds to what it sends to its occupants; NULL: not from, or about, a room. */
static inline struct iris_element *
message_room_mark(const struct iris_element *message) /* XEP-0045 */
{
	return element_child(message, "x", "http://jabber.org/protocol/muc#user");
}

#endif
