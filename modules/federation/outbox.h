/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of what waits for other servers: README.md, "The outbox". */
#ifndef FEDERATION_OUTBOX_H
#define FEDERATION_OUTBOX_H

#include "iris/stanza.h"
#include "iris/vault.h"

#define OUTBOX_PAGE 50

extern struct iris_query *const outbox_queries[];

struct outbox_route {
	struct iris_str remote, local; /* domains */
};

/* Must it not be lost? Any worker. */
bool outbox_takes(const struct iris_stanza *stanza);
/* These post. */
IRIS_MUST_CHECK enum iris_vault_result outbox_add(const struct outbox_route *route, int64_t id,
						  int64_t until_ms,
						  const struct iris_delivery *delivery,
						  struct iris_ticket *ticket);
IRIS_MUST_CHECK enum iris_vault_result outbox_remove(int64_t id, struct iris_ticket *ticket);
/* All rows of the route up to this id. */
IRIS_MUST_CHECK enum iris_vault_result outbox_remove_until(const struct outbox_route *route,
							   int64_t id);

struct outbox_row {
	int64_t id, until_ms;
	struct iris_stanza *stanza; /* a reference, frozen; NULL: cannot be read, and is removed */
};
struct outbox_page {
	struct outbox_row rows[OUTBOX_PAGE]; /* in order of their ids */
	size_t count;
};
/* Those that follow (fiber; waits). False: the vault has failed. */
IRIS_MUST_CHECK bool outbox_read(const struct outbox_route *route, int64_t after_id,
				 struct outbox_page *page_r);

struct outbox_found {
	struct outbox_route route; /* in the arena */
	int64_t count;
	int64_t until_ms; /* of its first row */
};
/* The route that follows this one, of those that have rows; no remote: none (fiber; waits). */
IRIS_MUST_CHECK enum iris_vault_result outbox_find(struct iris_arena *arena,
						   const struct outbox_route *after,
						   struct outbox_found *found_r);

#endif
