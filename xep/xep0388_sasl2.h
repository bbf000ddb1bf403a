/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0388, for plug-ins that answer inside it (they name xep0388 in their needs).
 *
 * Order of the hook inline_request: EARLY what needs to know only who it is (tokens), NEUTRAL
 * resumption, LATE what follows when nothing was resumed (resource binding).
 */
#ifndef XEP0388_SASL2_H
#define XEP0388_SASL2_H

#include "iris/stanza.h"

#define NS_SASL2 "urn:xmpp:sasl:2"

/*
 * The id of the client installation in an <authenticate/> (§2.3), a UUID in lower case, or none.
 * What the client claims: it tells the installations of one account apart and proves nothing.
 */
struct iris_str sasl2_user_agent(struct iris_arena *arena, const struct iris_element *authenticate);

#endif
