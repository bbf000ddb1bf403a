/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that only one account of all federated regions has (P2.6): for a plug-in that names
 * "unique" in its needs, and keeps them.  README.md has the model.
 */
#ifndef UNIQUE_H
#define UNIQUE_H

#include "iris/region.h"
#include "iris/stanza.h"

#define UNIQUE_HASH 44 /* characters of base64 */
#define UNIQUE_ADDRESS_MAX 254 /* bytes, RFC 5321 §4.5.3.1 with its erratum */

/* How an address is known to all regions, and under which key: both NUL-terminated. */
struct unique_name {
	char hash[UNIQUE_HASH + 1];
	char key[REGION_SECRET_ID + 1];
};

struct unique_claim {
	struct unique_name name;
	int64_t id, stamp_ms;
};

enum unique_found {
	UNIQUE_NOT_FOUND,
	UNIQUE_FOUND,
	UNIQUE_NOT_READY, /* names of another key are still being renewed, or the vault failed */
};

/* Who keeps names. */
struct unique_registry {
	/* Fiber, at home_of(hash); waits. */
	enum unique_found (*find)(const struct unique_name *name);
	/* There is another key: names are to be made anew. Main thread, no wait. */
	void (*renew)(void);
};

/* Main thread, at start and stop; NULL: nobody keeps any. */
void unique_set_registry(const struct unique_registry *registry);

/*
 * An e-mail address (RFC 5322 dot-atom, RFC 6531), as it is compared: case folded, its domain as
 * those of JIDs. False: it is none.
 */
IRIS_MUST_CHECK bool unique_prepare_address(struct iris_arena *arena, struct iris_str text,
					    struct iris_str *address_r);
/* The name of a prepared address under the key of now. Otherwise: why there is none. */
IRIS_MUST_CHECK enum iris_condition unique_make_name(struct iris_str address,
						     struct unique_name *name_r,
						     const char **text_r);

/* The id of the key that names have now. Otherwise: why there is none. */
IRIS_MUST_CHECK enum iris_condition unique_key_id(char id_r[REGION_SECRET_ID + 1],
						  const char **text_r);

/*
 * Reserves the name here and asks everybody (fiber; waits up to the option `timeout`). NO_ERROR: it
 * is ours for the time of `reservation`; unique_settle() must follow. Otherwise: why not, with a
 * text for people, in the arena.
 */
IRIS_MUST_CHECK enum iris_condition unique_take(struct iris_arena *arena,
						const struct unique_name *name,
						struct unique_claim *claim_r, const char **text_r);
/* From now until it is settled nobody gets it. False: somebody did, or it ended. Fiber. */
IRIS_MUST_CHECK bool unique_hold(const struct unique_claim *claim);
/* The end: the name is kept, or it is not after all. Fiber. */
void unique_settle(const struct unique_claim *claim);

#endif
