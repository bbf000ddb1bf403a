/* SPDX-License-Identifier: Apache-2.0 */
/* What was read of a pair, by ids of the other side's outbox: README.md, "Again". Any worker. */
#ifndef FEDERATION_READER_H
#define FEDERATION_READER_H

#include "iris/hash.h"
#include "modules/federation/federation_private.h"

#define NS_OUTBOX "urn:iris:outbox:0"

extern struct iris_query reader_load, reader_store; /* among outbox_queries */

struct reader; /* counted */

/* "theirs ours" (fiber; may wait). NULL: it cannot be known, or there are too many. */
struct reader *reader_open(struct iris_str pair);
struct reader *reader_ref(struct reader *reader);
void reader_unref(struct reader **reader_p); /* nulls, accepts NULL */
/* Main thread, when no worker runs. */
void readers_free(void);

enum reader_view {
	READER_NEW,   /* to be handled: reader_handled() or reader_failed() follows */
	READER_HAS,   /* it is handled, and committed */
	READER_WAITS, /* it is being handled: not to be acknowledged yet */
};

enum reader_view reader_receive(struct reader *reader, int64_t id);
/* Committed, and so are all of this pair before it: kept when the turn ends. Accepts NULL. */
void reader_handled(struct reader *reader, int64_t id);
/* Something was not committed: what is above the last one that was may come again. Accepts NULL. */
void reader_failed(struct reader *reader);

/* Does it have our element? Not to be believed of who has not proven to be a server. */
bool reader_is_marked(const struct iris_stanza *stanza);
/* Takes it out, of a stanza that is not frozen; the id, or 0. */
int64_t reader_take_mark(struct iris_stanza *stanza);

#endif
