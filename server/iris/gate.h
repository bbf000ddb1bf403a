/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate: every stanza that leaves or enters the region is classified (P2.4) and judged by the
 * policy of the region map, once each way.  What nobody named does not pass.
 */
#ifndef IRIS_GATE_H
#define IRIS_GATE_H

#include "iris/stanza.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define IRIS_REGION_ID_MAX 32 /* bytes */

/* X(NAME, name in maps and reports, what it is) */
#define IRIS_GATE_CATEGORIES(X)                                                            \
	X(PRESENCE, "presence", "presence and subscriptions")                              \
	X(MESSAGE, "message", "one-to-one messages")                                       \
	X(BUBBLE, "bubble", "what is said in bubbles, and asked of them")                  \
	X(CONFERENCE, "conference", "signalling of calls and conferences")                 \
	X(DIRECTORY, "directory", "searches and their answers")                            \
	X(PROFILE, "profile", "profiles, avatars, what people publish")                    \
	X(FILE_LINK, "file-link", "links to files")                                        \
	X(SERVICE, "service", "discovery of servers, pings")                               \
	X(UNKNOWN, "unknown", "what is none of these, and never passes")

enum iris_gate_category {
#define X(name, text, help) IRIS_GATE_##name,
	IRIS_GATE_CATEGORIES(X)
#undef X
	IRIS_GATE_CATEGORY_COUNT
};

/* In this order: of several the first holds. */
enum iris_gate_verdict {
	IRIS_GATE_DENY,
	IRIS_GATE_TRANSIT, /* delivered live, never kept on the far side */
	IRIS_GATE_DELIVER,
	IRIS_GATE_VERDICT_COUNT
};

enum iris_gate_direction { IRIS_GATE_LEAVING, IRIS_GATE_ENTERING };

const char *gate_category_name(enum iris_gate_category category);
const char *gate_verdict_name(enum iris_gate_verdict verdict);

/*
 * The categories a stanza belongs to, as a set of bits (1u << category), never empty: a message
 * with a link to a file is both.  near_room, far_room: the address of our side, of theirs, is a
 * room's. An answer (iq result or error) is UNKNOWN: what it answers decides. Pure; any thread.
 */
unsigned gate_classify(const struct iris_stanza *stanza, bool near_room, bool far_room);

struct iris_gate_opinion {
	unsigned categories;
	enum iris_gate_verdict verdict;
	const char *from, *to; /* ids of the regions, or "external"; for this turn */
	bool external;
	bool openly;           /* a refusal is told by its name (`refuse-openly`) */
};

/*
 * Judges, counts, and logs refusals; any worker.  to: the recipient, the stanza's own or one of
 * many.  peer_region: the id that the other side's certificate proves; none for one that proves no
 * region (then its domain must be in none).  Not looked at on leaving: the domain's is the map's,
 * and who hands it over sees to it that nobody else gets it.
 */
struct iris_gate_opinion gate_judge(enum iris_gate_direction direction,
				    const struct iris_stanza *stanza, const struct iris_jid *to,
				    struct iris_str peer_region);
/*
 * The same from the map alone, and without counting: `irisctl boundary explain`, and what was
 * judged by the map before. No answer is one to anything.
 */
struct iris_gate_opinion gate_explain(const struct iris_stanza *stanza, const struct iris_jid *to);

struct iris_gate_endpoint { /* with direct TLS */
	struct iris_str host;
	uint16_t port;
};

/* What the map in force says of a domain. Borrowed, for this turn. */
struct iris_gate_place {
	struct iris_str region;        /* its id; none: in none */
	const char *authority;         /* SHA-256 of its authority's certificate, or NULL */
	const struct iris_gate_endpoint *endpoints;
	size_t endpoint_count;
	bool is_own, is_rooms;
	bool is_open;                  /* something may cross between it and us, in or out */
};

struct iris_gate_place gate_place(struct iris_str domain);
/* SHA-256 of the authority of a region; NULL: there is no such region in the map. */
const char *gate_authority(struct iris_str region);
/* Of the map in force: rises with every other one; 0: none is. */
int64_t gate_serial(void);
/*
 * Is the domain beyond the boundary of the region, and not one of rooms? Presence of people crosses
 * it between contacts only (P2.4). Not for domains of ours; false where there is no map.
 */
bool gate_is_boundary(struct iris_str domain);
/* The category of this name, or IRIS_GATE_CATEGORY_COUNT. */
enum iris_gate_category gate_category_find(struct iris_str name);

/* fn runs on a fiber of the main thread whenever another map is in force; one listener: the
 * federation. NULL: nobody. */
void gate_listen(void (*fn)(void));
/* Is there to be a map? Without one the gate is open to whom the federation's own lists let in. */
bool gate_has_map(void);

/*
 * What the map makes of this server (P2.1, P2.7); any thread.  Isolated: nothing here may connect
 * to anybody but the store that is configured, by its address, and nothing may ask the DNS.  Edge:
 * there is no vault.
 */
bool region_is_isolated(void);
bool region_is_edge(void);

#pragma GCC visibility pop
#endif
