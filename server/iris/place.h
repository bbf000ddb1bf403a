/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places: what lives at an address (a user, a room, a node of a service), at the home worker of its
 * key.  A place is loaded when something comes for it, stays while somebody holds it, and a while
 * longer; what comes while it is loaded waits in its inbox and keeps its order.  Everything here
 * runs on that worker.
 */
#ifndef IRIS_PLACE_H
#define IRIS_PLACE_H

#include <sys/queue.h>

#include "iris/hash.h"
#include "iris/metrics.h"
#include "iris/stanza.h"
#include "iris/vault.h"
#include "iris/worker.h"

#pragma GCC visibility push(default) /* for plug-ins */

/*
 * STATE: loading → ready → gone; loading → absent (nothing lives there, or it could not be read).
 * Only those loading and ready are found.
 */
enum iris_place_state {
	IRIS_PLACE_LOADING,
	IRIS_PLACE_READY,
	IRIS_PLACE_ABSENT,
	IRIS_PLACE_GONE,
};

enum iris_place_found { IRIS_PLACE_FOUND, IRIS_PLACE_NOBODY, IRIS_PLACE_FAILED };

struct iris_places;
struct iris_place_waiter;
struct iris_place_parcel;

/* The first member of what its kind keeps of it. For reading; server/place.c writes. */
struct iris_place {
	struct iris_hash_node node; /* by key, which lies behind the place */
	struct iris_places *places;
	enum iris_place_state state;
	enum iris_place_found found; /* by the load */
	unsigned holds;
	bool is_idle;
	unsigned inbox_count;
	int64_t idle_since_ms;      /* monotonic */
	TAILQ_ENTRY(iris_place) link; /* in the list of idle ones */
	TAILQ_HEAD(, iris_place_waiter) waiters;
	STAILQ_HEAD(, iris_place_parcel) inbox;
};

TAILQ_HEAD(iris_place_list, iris_place);

/* How long one stays without a hold (ms), how many a worker keeps, what waits for one of them. */
enum iris_place_bound { IRIS_PLACE_KEEP, IRIS_PLACE_MAX, IRIS_PLACE_INBOX };

struct iris_place_kind {
	const char *name;  /* of its fibers */
	size_t size;       /* of the struct that begins with the place; it is zeroed */
	/* It has its key and nothing else. No wait. NULL: nothing to do. */
	void (*init)(struct iris_place *place);
	/* Reads it (fiber; may wait). */
	enum iris_place_found (*load)(struct iris_place *place);
	/* Frees what init and load have made, also when load failed; the place itself is freed
	   afterwards. No wait. */
	void (*unload)(struct iris_place *place);
	/* A stanza for a place that is ready; it is held meanwhile. No wait. NULL: none comes. */
	void (*receive)(struct iris_place *place, const struct iris_delivery *delivery,
			struct iris_ticket *ticket);
	/* A stanza for nobody. No wait. */
	void (*absent)(const struct iris_delivery *delivery, struct iris_ticket *ticket);
	/* Is a place loaded for this? NULL: for all. */
	bool (*is_worth_loading)(const struct iris_stanza *stanza);
	int64_t (*bound)(enum iris_place_bound bound);
	/* three: in memory (a gauge), loads, failed loads */
	struct iris_metric *metrics;
};

struct iris_places_home { /* of one worker */
	struct iris_hash table;    /* loading or ready, by key */
	struct iris_place_list idle; /* the longest idle first */
	struct iris_timer sweep;
	bool closing;              /* nothing is loaded any more */
};

/* All places of a kind: one static instance for each. */
struct iris_places {
	const struct iris_place_kind *kind;
	struct iris_places *next;  /* of those that are open */
	struct iris_places_home homes[WORKER_LIMIT + 1];
};

/* Main thread, in .start (workers may run or not), and in .stop, when nothing comes any more. */
void places_open(struct iris_places *places);
void places_close(struct iris_places *places);
size_t places_count(struct iris_places *places); /* of this worker */
/* Calls fn for each ready place of this worker; it may let go of that one. */
void places_each(struct iris_places *places, void (*fn)(struct iris_place *place, void *arg),
		 void *arg);

static inline struct iris_str
place_key(const struct iris_place *place)
{
	return place->node.key;
}

struct iris_place *place_find(struct iris_places *places, struct iris_str key); /* ready, or NULL */
/* loading or ready, or NULL */
struct iris_place *place_lookup(struct iris_places *places, struct iris_str key);
/*
 * Loads when needed (fiber, waits). A hold is taken: release it. NULL: nothing lives there, or it
 * could not be read: found_r, unless NULL, tells.
 */
struct iris_place *place_get(struct iris_places *places, struct iris_str key,
			     enum iris_place_found *found_r);
void place_hold(struct iris_place *place);
void place_release(struct iris_place *place);
/* Nobody finds it any more; what waits for it gets what nobody gets. Freed with its last hold. */
void place_forget(struct iris_place *place);
/* Something came for this key: now, or when it is loaded, and in order. Never waits. */
void place_receive(struct iris_places *places, struct iris_str key,
		   const struct iris_delivery *delivery, struct iris_ticket *ticket);

#pragma GCC visibility pop
#endif
