/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0115: what the client of a session can do; for plug-ins that name "xep0115" in their needs.
 */
#ifndef IRIS_XEP0115_CAPS_H
#define IRIS_XEP0115_CAPS_H

#include "iris/module.h"

/*
 * Does the session's client announce this feature? False too while it is not known yet. Home
 * worker.
 */
bool caps_session_has(struct iris_session *session, struct iris_str feature);

/*
 * The verification string (§5.1) of a <query/> of disco#info; none when the answer is not
 * well-formed (§5.4).
 */
struct iris_str caps_hash(struct iris_arena *arena, const struct iris_element *query);

#endif
