/* SPDX-License-Identifier: Apache-2.0 */
/* What link.c and dialback.c share of a link.  The worker of its stream. */
#ifndef FEDERATION_LINK_PRIVATE_H
#define FEDERATION_LINK_PRIVATE_H

#include "modules/federation/federation_private.h"
#include "modules/federation/reader.h"
#include "xep/xep0198_sm.h"

/* In the slot of its stream. */
struct link {
	struct iris_stream *stream;
	bool is_ours, is_up;
	bool asks;                /* ours: it was asked to take us, after what it has proven */
	bool is_both_ways;        /* XEP-0288: stanzas flow in both directions */
	struct route *route;      /* what is written to it; NULL: nothing (any more) */
	struct attempt *attempt;  /* who waits for it to be up, or gone */
	struct acks *acks;        /* XEP-0198 was agreed on; or NULL */
	bool offers_acks;         /* ours: among the peer's features */
	bool tells_ids;           /* the peer remembers ids of our outbox */
	uint8_t asked_acks;       /* ours: enum acks_asked */
	bool has_spoken;          /* theirs: something came after the features */
	struct iris_hash pairs;   /* proven, of what comes in: "theirs ours" */
	int64_t map_serial;       /* of the region map that the next two are of */
	bool is_forbidden;        /* nothing is to be believed it; it is to end */
	char region[IRIS_REGION_ID_MAX + 1]; /* that its certificate proves; "": none */
	unsigned verifying;       /* theirs: keys that are being verified */
	int64_t used_ms;
	int64_t since_ms;         /* wall: it went up */
	uint64_t sent, taken;     /* stanzas */
	TAILQ_ENTRY(link) entry;  /* once it is up */
	char to[JID_PART_MAX + 1]; /* theirs: our domain, as in the header */
};

struct link *link_of(struct iris_stream *stream);
/* Those of this worker that are up, one after the other; NULL: from the first one. */
struct link *links_next(struct link *before);
/* Ends it in order: what waits brings up another. */
void link_close(struct link *link);
/* The pair is proven on this link of theirs; the text is copied. */
void link_prove(struct link *link, struct iris_str theirs, struct iris_str ours);
/* The pair of one of ours is proven: acknowledgements are agreed on where offered, it goes up. */
void link_agree(struct link *link);
/* Ends it, with a stream error. */
void link_break(struct link *link, const char *condition, const char *text);
bool link_has_room_for_pair(const struct link *link);
/* It takes stanzas from now on, in its direction; of ours, what waits is handed on. */
void link_go_up(struct link *link);
void link_end_attempt(struct link *link, enum dial_outcome outcome, const char *why);
/* Nothing that this peer offers will do: stream error, and the attempt is over. */
void link_refuse(struct link *link, const char *condition, const char *why);

/* --- acks.c (XEP-0198) --- */

enum acks_asked { ACKS_NOTHING, ACKS_ENABLE, ACKS_RESUME };

/* An agreement on acknowledgements; it may outlive its link. Whoever has a pointer counts. */
struct acks;

void acks_offer(struct iris_element *features);
/* Ours, before it goes up: asks to resume what its route has, or for a new agreement. */
void acks_ask(struct link *link);
/* A stanza was written to it. */
void acks_sent(struct acks *acks);
/* The stanza that came last has this id in the peer's outbox; it is to be handled. */
void acks_expect(struct acks *acks, struct reader *reader, int64_t id);
/* What is handed on this route is acknowledged under it, from now on. */
void acks_bind(struct acks *acks, struct route *route);
/* The link is lost; keep: it may be resumed. */
void acks_lose(struct link *link, bool keep);
/* Nothing can be resumed: the window of its route is taken back. */
void acks_drop(struct acks *acks);
void acks_handle_enable(struct iris_stream *stream, struct iris_element *enable);
void acks_handle_resume(struct iris_stream *stream, struct iris_element *resume);
void acks_handle_enabled(struct iris_stream *stream, struct iris_element *enabled);
void acks_handle_resumed(struct iris_stream *stream, struct iris_element *resumed);
void acks_handle_failed(struct iris_stream *stream, struct iris_element *failed);
void acks_handle_r(struct iris_stream *stream, struct iris_element *element);
void acks_handle_a(struct iris_stream *stream, struct iris_element *element);

/* --- region.c --- */

/* Does its certificate prove the domain, by its name and, where there is a map, by its region? */
bool link_proves(struct link *link, struct iris_str domain);
/* Is all that was proven on it so by the map in force, too? Else it is to end. */
bool link_is_allowed(struct link *link);
/* May dialback prove the domain on this link? Not where regions are at play. */
bool region_leaves_to_dns(struct link *link, struct iris_str domain);

/* --- dialback.c (XEP-0220) --- */

/* May this domain be believed on this link what the DNS says of it? */
bool dialback_may_prove(struct link *link, struct iris_str domain);
void dialback_offer(struct iris_element *features);
/* Asks the peer to take the pair of a link of ours. */
void dialback_ask(struct link *link);
/* Asks the peer whether the key of a purpose is its own. */
void dialback_ask_for_key(struct link *link);
void dialback_handle_result(struct iris_stream *stream, struct iris_element *result);
void dialback_handle_verify(struct iris_stream *stream, struct iris_element *verify);

/* --- bidi.c (XEP-0288) --- */

void bidi_offer(struct iris_element *features);
/* Of ours, before it is asked to take us: asks for it if it is offered and may be. */
void bidi_ask(struct link *link, const struct iris_element *features);
void bidi_handle(struct iris_stream *stream, struct iris_element *bidi);
/* The link is up: what comes back on one of ours is taken. */
void bidi_go_up(struct link *link, struct iris_str theirs, struct iris_str ours);
/* The peer has begun to speak: what is for it is written to its link. */
void bidi_adopt(struct link *link);

#define NS_BIDI "urn:xmpp:bidi"
#define NS_DIALBACK "jabber:server:dialback"

#endif
