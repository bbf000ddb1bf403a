/* SPDX-License-Identifier: Apache-2.0 */
/* Notices and their rows: between notices.c and notice_rows.c. At the bubble's home. */
#ifndef IRIS_BUBBLES_NOTICES_PRIVATE_H
#define IRIS_BUBBLES_NOTICES_PRIVATE_H

#include "modules/bubbles/bubbles_private.h"

struct notice {
	struct iris_jid address, member; /* bare; member none: all of them */
	int64_t room;                    /* id; 0: it was not made yet */
	iris_owner owner;
	enum notice_kind kind;
	bool is_outside;                 /* of a deleted one: was not in it */
	unsigned tries;
	int64_t generation;
	struct iris_str former;          /* its name before; of a deleted one: its name */
};

struct notice_values { /* the parameters of notice_query_put */
	struct iris_value values[10];
};
void notice_values_make(const struct notice *notice, int64_t due, struct notice_values *values_r);
IRIS_MUST_CHECK bool notice_post(const struct notice *notice, int64_t due); /* Unix time */

#define NOTICE_PAGE 32
struct notice_list {
	struct iris_arena *arena;
	struct notice notices[NOTICE_PAGE];
	size_t count;
	bool is_full; /* there may be more */
};

/* Those of a bubble that are due. False: the vault failed. Waits. */
IRIS_MUST_CHECK bool notice_rows_due(const struct iris_jid *address, struct notice_list *list);
/* It was done as it was read: gone, unless it is owed anew. Posts. */
IRIS_MUST_CHECK bool notice_done(const struct notice *notice);
IRIS_MUST_CHECK bool notice_put_off(const struct notice *notice, int64_t due); /* posts */
/* The bubble is gone: those of its deletion are due. Posts. */
IRIS_MUST_CHECK bool notices_deleted(const struct iris_jid *address);
/* A new name: from now on it is told, whatever the name is by then. Waits. */
IRIS_MUST_CHECK bool notice_force(const struct notice *notice);
/* The next bubble by key that has notices due; none: no more. False: the vault failed. Waits. */
IRIS_MUST_CHECK bool notice_rows_next(int64_t *after_key, struct iris_arena *arena,
				      struct iris_jid *address_r);

#endif
