/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the queue and the window of a route: for parcel.c and route.c. */
#ifndef FEDERATION_PARCEL_H
#define FEDERATION_PARCEL_H

#include "modules/federation/link_private.h"

/* A stanza that waits, or was handed. Home worker of the remote. */
struct parcel {
	TAILQ_ENTRY(parcel) link; /* in the queue or the window */
	TAILQ_ENTRY(parcel) kind; /* among the rows, or what is perishable, of its route */
	struct route *route;      /* NULL: in no list, only the vault still has to do with it */
	struct iris_delivery delivery; /* stanza NULL: a husk, which is counted and no more */
	int64_t until_ms;         /* Unix time for a row, else monotonic */
	int64_t row;              /* its id in the outbox; 0: in memory only */
	int64_t behind;           /* rows up to this one go before it */
	struct iris_ticket *sender;  /* held until the row is committed */
	enum iris_condition refusal; /* for the sender, when the row is gone */
	bool is_committed, is_handed;
	size_t size;
	char text[];
};

/* To be kept in memory, as long as `expiry` says. */
struct parcel *parcel_new(const struct iris_delivery *delivery);
/* A row of the outbox as it was read. */
struct parcel *parcel_new_from_row(struct iris_stanza *stanza, int64_t id, int64_t until_ms);
/* One that only holds a place in the window. */
struct parcel *parcel_new_husk(void);
void parcel_free(struct parcel **parcel_p);
bool parcel_may_be_handed(const struct parcel *parcel);
bool parcel_is_expired(const struct parcel *parcel);
/*
 * Becomes a row of the outbox, and holds the sender's ticket until that is committed; then
 * route_committed() is called, or, without a route, the parcel freed. Else it is as it was.
 */
IRIS_MUST_CHECK enum iris_vault_result parcel_keep(struct parcel *parcel, const struct route *route,
						   struct iris_ticket *ticket);
/*
 * Its row goes; then its sender hears of it, and the parcel is freed: it must be in no list. False:
 * not now.
 */
IRIS_MUST_CHECK bool parcel_remove_row(struct parcel *parcel, enum iris_condition condition);

/* --- route.c --- */

void route_committed(struct parcel *parcel, bool failed);

#endif
