/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0160: what its three files share.  xep0160_cursor.c knows what has reached a client,
 * xep0160_backlog.c hands out what waits, xep0160_offline.c is the plug-in.  Home worker of the
 * account.
 */
#ifndef XEP0160_OFFLINE_H
#define XEP0160_OFFLINE_H

#include "iris/module.h"

/*
 * A message behind the cursor that is done, or under way: `holders` sessions have it, or a copy
 * of it, and none has acknowledged it.  What is not here, waits.
 */
struct offline_entry {
	TAILQ_ENTRY(offline_entry) link;
	int64_t id;
	uint32_t flush; /* number of the flush that sent it, 0: none */
	uint32_t size;  /* then: of its body */
	int64_t removed_peer; /* not 0: it is in the log only to wait, and goes with the delivery */
	unsigned holders;
	bool done;
};

/* A live message that came while older ones are being delivered to the session. */
struct offline_held {
	TAILQ_ENTRY(offline_held) link;
	struct iris_delivery delivery;
};

/* A session gets its backlog. Runs on a fiber until it is through or the session has no room. */
struct offline_flush {
	/* NULL: none does; else alive, session_close() sees to that */
	struct iris_session *session;
	uint32_t number;
	int64_t after;                /* read and sent up to here */
	size_t stanzas, bytes;        /* sent and not acknowledged */
	bool running;                 /* a fiber is at it */
	bool passing;                 /* what is delivered now is the backlog itself */
	struct iris_timer more;
};

/* Of a loaded user. */
struct offline {
	struct iris_user *user;
	int64_t cursor;
	int64_t newest;        /* the highest id seen in this process */
	int64_t first_waiting; /* the lowest id that waits, 0: none known */
	bool backlog;          /* what lies behind the cursor has not been read since loading */
	bool changed;          /* since it was last written */
	TAILQ_HEAD(offline_entries, offline_entry) tracked; /* ascending */
	size_t tracked_count;
	struct offline_flush flush; /* one session at a time; others' turn comes after */
	TAILQ_HEAD(, offline_held) held;
	size_t held_count;
	struct iris_timer persist;
};

/* What a session got out of the archive by its own query, and when. */
enum offline_read_state {
	OFFLINE_READ_NOT,
	OFFLINE_READ_SENT,  /* it has not acknowledged it */
	OFFLINE_READ_ACKED,
};

struct offline *offline_of(struct iris_user *user);
enum offline_metric { OFFLINE_STORED, OFFLINE_DELIVERED, OFFLINE_RETURNED };
void offline_count(enum offline_metric metric);
int64_t offline_persist_after_ms(void);
size_t offline_hold_max(void);

/* --- the cursor --- */

extern struct iris_query cursor_load_query; /* of a user's rows */
extern struct iris_query *const offline_queries[];
void cursor_take(struct offline *offline, const struct iris_rows *rows);
void cursor_persist(struct offline *offline);
/* Lets go of it; what is to be written is. */
void cursor_free(struct offline **offline_p);
bool cursor_erase(const struct iris_account *account);
struct offline_entry *cursor_find(struct offline *offline, int64_t id);
struct offline_entry *cursor_track(struct offline *offline, int64_t id);
/* It waits: nobody has it, and nobody ever had it for sure. */
void cursor_wait(struct offline *offline, int64_t id);
/* Something from there on may wait: what is not tracked. */
void cursor_wait_from(struct offline *offline, int64_t id);
/* A client has it. */
void cursor_settle(struct offline *offline, struct offline_entry *entry);
void cursor_move(struct offline *offline);

/* --- the backlog --- */

/* Is there anything for a session that begins to take messages? It gets it (fiber; waits). */
void backlog_give(struct offline *offline, struct iris_session *session);
/* Something waits: a session that is there gets it soon. */
void backlog_wake(struct offline *offline);
/* A message for a session that gets its backlog waits behind it. True: it is taken care of. */
bool backlog_hold(struct offline *offline, const struct iris_session *session,
		  const struct iris_delivery *delivery);
/* One of what was sent is done, or came back. */
void backlog_uncount(struct offline *offline, struct offline_entry *entry);
void backlog_session_close(struct offline *offline, struct iris_session *session);

/* --- the plug-in, for the backlog --- */

/* What a session left, or never got: to whom it goes now. */
void offline_hand_on(struct iris_session *lost, const struct iris_delivery *delivery);
/* Does the session have it already, by its own query? */
enum offline_read_state offline_session_read(struct iris_session *session, int64_t id);
/* Is it the archive's, for a client that binds with Bind 2? */
bool offline_session_skips(struct iris_session *session, int64_t id);
/* From now on it counts as under way to the session. */
void offline_session_owes(struct iris_session *session, int64_t id);

#endif
