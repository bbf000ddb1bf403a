/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams between servers, between the files of this folder; README.md has the words.  A remote and
 * all that belongs to it live at home_of(its domain); a link on the worker of its stream.
 */
#ifndef FEDERATION_PRIVATE_H
#define FEDERATION_PRIVATE_H

#include "iris/dial.h"
#include "iris/gate.h"
#include "iris/module.h"

enum federation_option {
	OPT_OPEN,
	OPT_ALLOW,
	OPT_DENY,
	OPT_TARGETS,
	OPT_AUTHORITIES,
	OPT_REVOKED,
	OPT_PURPOSE,
	OPT_DANE,
	OPT_QUEUE_STANZAS,
	OPT_QUEUE_SIZE,
	OPT_EXPIRY,
	OPT_CONNECT_TIMEOUT,
	OPT_DIAL_TIMEOUT,
	OPT_BACK_OFF,
	OPT_BACK_OFF_MOST,
	OPT_IDLE,
	OPT_MAX_REMOTES,
	OPT_MAX_PAIRS,
	OPT_WINDOW,
	OPT_ACK_TIMEOUT,
	OPT_RESUME_TIMEOUT,
	OPT_OUTBOX_EXPIRY,
	OPT_OUTBOX_STANZAS,
};
enum { TARGET_DOMAIN, TARGET_HOST, TARGET_PORT, TARGET_TLS };

extern struct iris_module_self federation_self;

enum federation_metric {
	METRIC_LINKS_OURS,
	METRIC_LINKS_THEIRS,
	METRIC_STANZAS_OUT,
	METRIC_STANZAS_IN,
	METRIC_WAITING,
	METRIC_DIALS,
	METRIC_DIALS_FAILED,
	METRIC_UNREACHABLE,
	METRIC_RETURNED,
	METRIC_REFUSED,
	METRIC_RESUMED,
	METRIC_UNACKNOWLEDGED,
	METRIC_AGAIN,
	METRIC_KEPT,
};
void federation_count(enum federation_metric metric, int64_t amount);

/*
 * Is the domain ours: a host's, a service's, a component's? Whose certificate stands for it; or
 * NULL.
 */
struct iris_host *federation_host(struct iris_str domain);

/* --- policy.c: the gate --- */

/* Is there anything to be said to this domain, or to be heard from it? Any worker. */
bool policy_knows(struct iris_str domain);
/*
 * A stanza of ours, before it is queued (home of the remote). False: what its sender is to hear,
 * if an answer may be sent at all.
 */
bool policy_may_leave(const struct iris_stanza *stanza, const struct iris_jid *to,
		      enum iris_condition *condition_r);
/* The same by another map than the one that it was judged by when it came; it is not counted. */
bool policy_may_still_leave(const struct iris_stanza *stanza, const struct iris_jid *to,
			    enum iris_condition *condition_r);
/*
 * A stanza of theirs, whose pair is proven, before it is routed (worker of the link): marked as the
 * gate says.  region: that the certificate proves, or "".  False: it was answered.
 */
bool policy_may_enter(struct iris_stanza *stanza, const char *region);
/* Is it in this list of the settings, or below one of it? */
bool policy_is_listed(const struct iris_settings *settings, unsigned option,
		      struct iris_str domain);
bool policy_check_domains(const struct iris_settings *settings, unsigned option,
			  struct iris_error *error);
bool policy_check(const struct iris_settings *settings, struct iris_error *error);

/* --- remote.c --- */

struct link; /* link_private.h */

/* What a dial came to; README.md says what follows. */
enum dial_outcome { DIAL_UP, DIAL_NOWHERE, DIAL_REFUSED, DIAL_LATER };

TAILQ_HEAD(parcel_list, parcel);
struct parcels {
	struct parcel_list list;
	unsigned count;
	size_t size; /* bytes */
};

/* One of our domains to one of theirs. Owned by its remote; stays while that is dialled. */
struct route {
	TAILQ_ENTRY(route) link_of_remote;
	struct remote *remote;
	struct link *link;     /* what is handed goes there; or NULL */
	struct acks *acks;     /* what acknowledges the window; NULL: nothing, it is empty */
	int64_t map_serial;    /* of the region map that these were judged by */
	struct parcels window; /* handed, and not acknowledged */
	struct parcels queue;  /* to be handed, in order */
	struct parcel_list rows, perishables; /* of both, those that end at the same age */
	unsigned rows_queued;
	/* The gap: rows that are in the vault only. */
	bool has_tail, is_reading;
	struct parcel *gap;    /* the first one in the queue that waits for them; or NULL */
	int64_t read_id;       /* the last row that is, or was, in memory */
	int64_t tail_id;       /* the last one that is not */
	int64_t tail_count, tail_until_ms;
	/* The last row that arrived; and that was removed. */
	int64_t arrived_id, removed_id;
	bool owes;             /* it is to be removed when the vault takes it */
	TAILQ_ENTRY(route) debtor;
	char local[];          /* our domain */
};

/* What is for a domain that nobody here serves; for route_set_remote(). */
void remote_deliver(const struct iris_delivery *delivery, struct iris_ticket *ticket);
struct iris_str route_remote(const struct route *route); /* their domain */
/*
 * The pair is proven, both ways: what waits is handed on. Where another link is up meanwhile, this
 * one has no route any more.
 */
void route_up(struct route *route, struct link *link);
/* The link goes; what comes is not for it any more. */
void route_down(struct route *route, struct link *link);
/*
 * A link of theirs whose other direction is ours to write to, at the remote's home: the route for
 * it, or NULL.
 */
struct route *remote_adopt(struct link *link, struct iris_str theirs, struct iris_str ours);
/* Rows wait for this route (at home, when it starts): so many, the first one until then. */
void remote_recover(struct iris_str domain, struct iris_str local, int64_t count,
		    int64_t until_ms);
/* A fiber of this worker; the last thing that it does is to call route_read_ended(). */
IRIS_MUST_CHECK bool remote_start_fiber(const char *name, void (*fn)(void *arg), void *arg);
void route_read_ended(struct route *route);
/* route_settle_debts() is called for it with the next tick. */
void route_owes(struct route *route);
/* For operators: what is to be brought and has no link, of this worker's remotes. */
void remotes_each_waiting(void (*fn)(const struct route *route, void *arg), void *arg);

struct remote_view {
	const char *why;     /* it could not be reached the last time, a literal; or NULL */
	unsigned failures;   /* in a row */
	int64_t pause_ms;    /* until it may be dialled; not above 0: at once */
	bool is_dialled;     /* now */
};

/* At its home; fn: of each of its routes. False: nothing is known of it. */
bool remote_look(struct iris_str domain, struct remote_view *view_r,
		 void (*fn)(const struct route *route, void *arg), void *arg);
/* At its home: no pause any more; what waits makes it be dialled now. False: as above. */
bool remote_retry(struct iris_str domain);
/* A fiber looks after idle links and what waits, while there are any. */
void federation_need_time(void);
/* Another map is in force: what waits on this worker is judged by it, and dialled at once. */
void remotes_judge_again(void);
/* Main thread, when no worker runs. */
void remotes_stop(void);

/* --- parcel.c --- */

/* From the loop. Nobody hears of presence to all contacts, nor of what must not be answered. */
void return_to_sender(const struct iris_delivery *delivery, enum iris_condition condition);

/* --- route.c --- */

struct route *route_new(struct remote *remote, struct iris_str local);
void route_free(struct route **route_p); /* has no link */
struct iris_str route_local(const struct route *route);
/* Has it something to bring, and nothing to bring it with? */
bool route_is_waiting(const struct route *route);
/* What the sender is told, or NO_ERROR. The ticket is held until what must not be lost is not. */
IRIS_MUST_CHECK enum iris_condition route_receive(struct route *route,
						  const struct iris_delivery *delivery,
						  struct iris_ticket *ticket);
/* Found at the start: so many rows wait for it, the first one until then (Unix time). */
void route_recover(struct route *route, int64_t count, int64_t until_ms);
void route_settle_debts(struct route *route);
/* From now on it is handed to this link, under the link's agreement; for remote.c. */
void route_begin(struct route *route, struct link *link);
/* The next `count` stanzas of the window have arrived; for acks.c. */
void route_acknowledge(struct route *route, size_t count);
/* Nobody will say what arrived of the window: it is handed once more; for acks.c. */
void route_take_back(struct route *route);
void route_return_all(struct route *route, enum iris_condition condition);
/* By the region map in force, if it is another one. */
void route_judge_again(struct route *route);
void route_return_expired(struct route *route);

/* --- recover.c --- */

void recover_start(void); /* main thread */
/* Until then rows of any route may be in the vault, and nobody knows. */
bool recover_is_done(void);

/* --- acks.c (XEP-0198), for who looks after time --- */

void acks_tick(void);
bool acks_are_any(void); /* of links that are lost, on this worker */
/* Frees what is left of a worker: on it, or when it does not run. */
void acks_clean(int worker);
enum iris_verdict acks_stanza_ticket(struct iris_stream_ticket *arg);

/* --- dial.c --- */

/* Who dials whom, and what for; it lies on the stack of the fiber that dials. */
struct dial_purpose {
	struct iris_str ours, theirs; /* domains */
	struct route *route;          /* to bring a link up for it; or NULL: */
	struct iris_str key, id;      /* to have a key verified, for that stream (XEP-0220) */
};

/* Fiber; *why_r is a literal. Of a key: UP: theirs; REFUSED: not theirs; else: nobody knows. */
enum dial_outcome dial(const struct dial_purpose *purpose, const char **why_r);

/* --- region.c --- */

/* Where the map says that the domain's region listens, with direct TLS, in the arena; how many. */
size_t region_endpoints(struct iris_arena *arena, struct iris_str domain,
			struct iris_gate_endpoint **endpoints_r);

/* --- link.c --- */

/* What a dial waits for; it lies on the stack of its fiber. */
struct attempt {
	const struct dial_purpose *purpose;
	struct iris_wait wait;
	enum dial_outcome outcome;
	const char *why;
};

extern const struct iris_stream_role federation_role;
/* A stream that was dialled; the attempt is over when its purpose is served, or the link gone. */
struct link *link_begin(struct iris_stream *stream, struct attempt *attempt);
/* It took too long: nobody waits for it any more. */
void link_give_up(struct link *link);
void link_send(struct link *link, const struct iris_delivery *delivery);
/* Another link is up for its route. */
void link_forget_route(struct link *link);
/* May something be written to it now? */
bool link_is_up(struct link *link);
/* Ends those of this worker that have been silent since; oldest first. */
void links_end_idle(int64_t since_ms);
/* Ends those of this worker that the map in force does not allow. */
void links_end_forbidden(void);
bool links_are_any(void); /* of this worker */
enum iris_verdict link_stream_close(struct iris_stream *stream);

/* --- commands.c; ends with NULL --- */

extern const struct iris_command *const federation_commands[];

#endif
