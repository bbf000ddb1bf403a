/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plug-in may know of the region map: which regions federate with ours, and the secret that
 * they share (P2.6).  Any thread; everything is copied, since another map may come at any time.
 */
#ifndef IRIS_REGION_H
#define IRIS_REGION_H

#include "iris/arena.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define REGION_SECRET_SIZE 32
#define REGION_SECRET_ID 16 /* hexadecimal digits that tell one secret from another; no secret */

struct iris_region_peer { /* another region of class federated */
	struct iris_str id;
	struct iris_str domain; /* the first that the map has for it: its server's */
	unsigned index;         /* of the region in the map, below REGION_PEERS_MAX */
};

#define REGION_PEERS_MAX 64

struct iris_region_federation {
	struct iris_str id, domain; /* ours */
	struct iris_region_peer *peers;
	size_t count; /* 0 without a map, and in a region that is not federated */
};

/* False: there is to be a map, and none is in force yet. */
IRIS_MUST_CHECK bool region_federation(struct iris_arena *arena,
				       struct iris_region_federation *federation_r);
/* The federated region whose server this domain is. False: there is none. */
IRIS_MUST_CHECK bool region_peer_find(struct iris_arena *arena, struct iris_str domain,
				      struct iris_region_peer *peer_r);
/* The secret that the map in force names, and its id. False: we do not have it; nothing is set. */
IRIS_MUST_CHECK bool region_secret(unsigned char secret_r[REGION_SECRET_SIZE],
				   char id_r[REGION_SECRET_ID + 1]);
/* fn runs on the main thread whenever another map is in force; one listener: modules/unique. */
void region_listen(void (*fn)(void));

#pragma GCC visibility pop
#endif
