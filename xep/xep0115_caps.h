/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0115: what clients can do; for plug-ins that name "xep0115" in their needs.  Whoever sees the
 * presence of somebody follows it with a watch; sessions are followed already, and the hook
 * session_caps tells of changes.  All on one worker: that of the watch.
 */
#ifndef IRIS_XEP0115_CAPS_H
#define IRIS_XEP0115_CAPS_H

#include "iris/module.h"

struct caps;
struct caps_question;

/* Embedded in what it is about; zero but for what is set below. */
struct caps_watch {
	LIST_ENTRY(caps_watch) link;
	LIST_HEAD(, caps_question) questions;
	unsigned asking;
	struct caps *caps;
	/* Set by the owner: in whose name a question is asked (bare JID at home here) … */
	const struct iris_jid *asker;
	/* … and what to call when what was not known has become known; never waits. */
	void (*known)(struct caps_watch *watch);
};

/*
 * What an available presence says of its sender; asked about when it is not known. True: it says
 * something else than before.
 */
bool caps_follow(struct caps_watch *watch, const struct iris_stanza *presence);
void caps_unfollow(struct caps_watch *watch); /* before it is freed */
/* NULL while nothing is known; else the same for the same capabilities, for comparing only. */
const void *caps_known(const struct caps_watch *watch);
bool caps_has(const struct caps_watch *watch, struct iris_str feature);
/*
 * The nodes of its features "NODE+notify" (XEP-0060 §9.2), 256 at most; good until the turn ends.
 */
size_t caps_notify(const struct caps_watch *watch, const struct iris_str **nodes_r);
/* Of the client of a session; NULL: it has told nothing. Home worker. */
const struct caps_watch *caps_of_session(struct iris_session *session);

/* Another way of telling capabilities in presence; asked in reverse order of adding. */
struct caps_dialect {
	/* What names them, and the node of disco#info that lists them; none: it tells nothing. */
	struct iris_str (*told)(struct iris_arena *arena, const struct iris_element *presence,
				struct iris_str *node_r);
	/* SECURITY: is this the answer that is named so? */
	bool (*fits)(struct iris_arena *arena, struct iris_str key,
		     const struct iris_element *query);
};

void caps_add_dialect(const struct caps_dialect *dialect); /* in .start */

/*
 * The verification string (§5.1) of a <query/> of disco#info; none when the answer is not
 * well-formed (§5.4).
 */
struct iris_str caps_hash(struct iris_arena *arena, const struct iris_element *query);

#endif
