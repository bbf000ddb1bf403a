/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users, sessions and routing between the files of the core (RFC 6121).  Everything here belongs
 * to the home worker of the address it is about, unless something else is said.
 * "Users and sessions" in server/README.md draws the states.
 */
#ifndef IRIS_IM_PRIVATE_H
#define IRIS_IM_PRIVATE_H

#include "iris/module.h"

/* --- for the stream (server/stream*.c, server/bind.c) --- */

/* Of listeners with the role "c2s". */
extern const struct iris_stream_role stream_role_c2s;

/*
 * A resource is bound (fiber; may wait in the hook session_bound).  `user` is ready and held by the
 * caller (user_get), who releases it afterwards; `full` is not in use (session_find says so, the
 * caller has dealt with the conflict).  Links both ways (stream_set_session) before the hook runs.
 * NULL: refused, *refusal_r says why (too many sessions), or the session ended while it waited.
 */
struct iris_session *session_create(struct iris_user *user, const struct iris_jid *full,
				    struct iris_stream *stream, struct iris_refusal *refusal_r);
/*
 * The stream of a session has ended. Not orderly: the hook stream_lost may keep the session for
 * resumption; else it is closed. Nothing happens when the stream has no session.
 */
void session_stream_ended(struct iris_stream *stream, bool orderly);

/* --- for start and stop (server/boot.c), main thread, while the workers run --- */

/*
 * Closes every session with this stream error and lets all users go, on all workers.  Called after
 * the listeners are gone and before workers_stop().
 */
void im_close_all(const char *condition);

/* --- homes: what a worker keeps (user.c) --- */

struct iq_pending;

struct im_home {
	struct iris_hash sessions;  /* struct iris_session by full JID */
	struct iris_hash pending;   /* struct iq_pending by id (router.c) */
	struct iris_hash domains;   /* struct iris_domain_route by domain */
	uint64_t next_id;           /* of pushes and requests made here */
	bool closing;               /* no user is loaded any more */
};

struct im_home *im_home(void); /* of the calling worker */

/* Of the module `user`, by index. */
enum user_option { USER_KEEP, USER_MAX_USERS, USER_INBOX, USER_MAX_SESSIONS, USER_MAX_DIRECTED };
int64_t user_option(enum user_option option);
size_t user_count(void); /* of this worker, in memory */
/* How place.c ends: every place that nobody holds goes, on all workers. Main thread. */
void places_shut(void);
void services_stop(void); /* main thread, when no worker runs */

extern const struct iris_command *const im_commands[]; /* im_commands.c */

struct iris_user_private {
	bool hooked;                /* user_load has run: user_unload must */
};

/*
 * Something addressed to this (local) user arrived at its home; `to` is the recipient's address
 * (bare or full). Never waits: what comes while the user is loaded keeps its order.
 */
void user_receive(struct iris_stanza *stanza, const struct iris_jid *to,
		  struct iris_ticket *ticket);

/* --- sessions (session.c) --- */

struct directed; /* somebody who was sent directed presence */

struct iris_session_private {
	struct iris_session *session;
	unsigned refs;           /* of fibers that handle its stanzas; the struct stays meanwhile */

	struct iris_hash directed; /* struct directed by full JID (presence.c) */
	char *last_status;       /* of the last unavailable presence, or NULL */
	struct iris_turn free_turn;
	char text[];             /* of session->jid */
};

struct iris_session *session_ref(struct iris_session *session);
void session_unref(struct iris_session **session_p);

/* One pointer for each module, at an address that does not change (user_slot, session_slot). */
void **slots_get(void ***slots_p, unsigned index);
void slots_free(void ***slots_p);

/* The client's own stanza comes back to it as an error (c2s.c). */
void session_refuse(struct iris_session *session, const struct iris_stanza *stanza,
		    const struct iris_refusal *refusal);

/* --- routing (router.c) --- */

/* The refusal of a stanza goes back to where it came from; nothing for errors and results. */
void route_refusal(const struct iris_delivery *delivery, const struct iris_refusal *refusal);
void route_error(const struct iris_delivery *delivery, enum iris_condition condition);
/* A result or error to an account or a host: for the route_iq() that waits for it, or swallowed. */
void route_take_reply(struct iris_stanza *reply);
void router_close_home(void); /* forgets what is pending: every fn gets NULL */

/* --- IQ (iq.c) --- */

/*
 * Answers a get or set on this fiber, at the home of what is asked: request->stanza, user or host,
 * session (the asker's, when the answer goes straight to it) and ticket are set by the caller.
 */
void iq_answer(struct iris_request *request, enum iris_target target);
/* Is it a legal iq (RFC 6120 §8.2.3)? */
bool iq_is_legal(const struct iris_stanza *iq);
/* An iq routed here: to a user of ours (session: the one addressed, or NULL), or to a host. */
void iq_receive(struct iris_user *user, const struct iris_delivery *delivery,
		struct iris_session *session, struct iris_ticket *ticket);
void iq_receive_host(struct iris_host *host, const struct iris_delivery *delivery,
		     struct iris_ticket *ticket);

/* --- messages (message.c; RFC 6121 §8.5) --- */

enum message_verdict {
	MESSAGE_IGNORE,  /* silently */
	MESSAGE_ERROR,   /* service-unavailable */
	MESSAGE_TO_ONE,  /* to the session addressed */
	MESSAGE_TO_ALL,  /* to all with a priority of at least 0 */
	MESSAGE_OFFLINE, /* kept, if somebody keeps it, else service-unavailable */
};

enum message_resources { MESSAGE_NO_RESOURCE, MESSAGE_ONLY_NEGATIVE, MESSAGE_SOME };

/* The table of §8.5.4. `full`: addressed by full JID; `matches`: and such a session is there. */
enum message_verdict message_judge(enum iris_stanza_type type, bool full, bool matches,
				   enum message_resources resources);
void message_receive(struct iris_incoming *incoming);
/* What an address without an account gives. */
void message_receive_absent(const struct iris_delivery *delivery);

/* --- presence (presence.c; RFC 6121 §4) --- */

/* The priority of an available presence; false: it has none that is legal (bad-request). */
bool presence_priority(const struct iris_stanza *presence, int8_t *priority_r);
/* From a client: to absent (broadcast), or directed. Subscription types do not come here. */
void presence_send(struct iris_session *session, struct iris_stanza **stanza_p,
		   struct iris_ticket *ticket);
/* Addressed to a user who is loaded. Subscription types do not come here. */
void presence_receive(struct iris_user *user, const struct iris_delivery *delivery,
		      struct iris_session *session);
/* The presence of all available sessions, or their unavailability, to one contact. */
void presence_show(struct iris_user *user, const struct iris_jid *to, struct iris_ticket *ticket);
void presence_hide(struct iris_user *user, const struct iris_jid *to, struct iris_ticket *ticket);
/* The session goes: unavailable to all who saw it. */
void presence_end(struct iris_session *session);

struct roster_change;

/* --- subscriptions (subscription.c; RFC 6121 §3, Appendix A) --- */

/* X(NAME, subscription, ask, pending in): the nine states of Appendix A.1. */
#define SUB_STATES(X)                                   \
	X(NONE, IRIS_SUB_NONE, false, false)            \
	X(NONE_OUT, IRIS_SUB_NONE, true, false)         \
	X(NONE_IN, IRIS_SUB_NONE, false, true)          \
	X(NONE_OUT_IN, IRIS_SUB_NONE, true, true)       \
	X(TO, IRIS_SUB_TO, false, false)                \
	X(TO_IN, IRIS_SUB_TO, false, true)              \
	X(FROM, IRIS_SUB_FROM, false, false)            \
	X(FROM_OUT, IRIS_SUB_FROM, true, false)         \
	X(BOTH, IRIS_SUB_BOTH, false, false)

enum sub_state {
#define X(name, subscription, ask, pending) SUB_##name,
	SUB_STATES(X)
#undef X
	SUB_STATE_COUNT
};

enum sub_direction { SUB_OUTBOUND, SUB_INBOUND };

struct sub_outcome {
	enum sub_state next;
	bool approved;    /* pre-approval (§3.4) afterwards */
	bool pass;        /* outbound: route it; inbound: deliver it */
	bool answer;      /* inbound subscribe: `subscribed` goes back by itself */
};

/* Pure: what the tables say. type is one of IRIS_SUBSCRIBE … IRIS_UNSUBSCRIBED. */
struct sub_outcome subscription_judge(enum sub_direction direction, enum iris_stanza_type type,
				      enum sub_state state, bool approved);
enum sub_state subscription_state(const struct roster_change *contact);

static inline bool
subscription_is_type(enum iris_stanza_type type)
{
	return type >= IRIS_SUBSCRIBE && type <= IRIS_UNSUBSCRIBED;
}

/* From a client. */
void subscription_send(struct iris_session *session, struct iris_stanza **stanza_p,
		       struct iris_ticket *ticket);
/* Addressed to a user who is ready. */
void subscription_receive(struct iris_user *user, struct iris_stanza *stanza,
			  struct iris_ticket *ticket);
/* The contact is taken out of the roster: what §2.5.2 asks to be sent. `before`: what it was. */
void subscription_cancel(struct iris_user *user, const struct roster_change *before,
			 struct iris_ticket *ticket);
/* The requests that wait for an answer, shown to a session that became available (§3.1.3). */
void subscription_show_requests(struct iris_session *session);

/* --- rosters (roster.c, roster_iq.c, roster_store.c) --- */

#define ROSTER_NAME_MAX 1023

/* Of the module `roster`, by index. */
enum roster_option { ROSTER_MAX_CONTACTS, ROSTER_MAX_REQUESTS, ROSTER_MAX_GROUPS, ROSTER_MAX_SIZE };
int64_t roster_option(enum roster_option option);

struct iris_roster {
	struct iris_hash contacts; /* struct iris_contact by bare JID */
	int64_t version;           /* rises with every change that clients see */
	size_t item_count;         /* in_roster */
	size_t item_size;          /* bytes of what clients see of them */
	size_t request_count;      /* pending_in and not in_roster */
};

/* What a contact is to become. Text is borrowed until the call returns. */
struct roster_change {
	struct iris_jid jid; /* bare */
	enum iris_subscription subscription;
	bool ask, approved, pending_in, in_roster;
	struct iris_str name;
	char *const *groups;
	struct iris_str request;
	bool visible; /* set by roster_apply(): clients see a difference, roster_push() is due */
};

struct iris_roster *roster_new(void);
void roster_free(struct iris_roster **roster_p);
/* What it is now: the start of every change. A contact that is not there gives one of nothing. */
struct roster_change roster_change_of(const struct iris_contact *contact,
				      const struct iris_jid *bare);
/*
 * Keeps the change and makes it: posted first, then done in memory. Contacts found before are gone
 * afterwards. false: nothing was done; *condition_r is what the limits or the vault say.
 */
IRIS_MUST_CHECK bool roster_apply(struct iris_user *user, struct roster_change *change,
				  struct iris_ticket *ticket, enum iris_condition *condition_r);
/* Tells the interested sessions what the contact is now (§2.1.6), or that it is none any more. */
void roster_push(struct iris_user *user, const struct iris_jid *bare);
/* Memory only: for loading, and for roster_apply(). Nothing of it left: the contact goes. */
void roster_put(struct iris_roster *roster, const struct roster_change *change);
/* Does a client see a difference? */
bool roster_is_visible_change(const struct roster_change *before,
			      const struct roster_change *after);
/* What the modules keep of a user who is loading (fiber, waits). False: the vault failed. */
IRIS_MUST_CHECK bool user_rows_load(struct iris_user *user);
/* Posts that a removed account's rows go. False: the vault takes no more just now. */
bool roster_erase(const struct iris_account *account);
/* Posts the change with its version; BUSY and REFUSED as vault_post(). */
enum iris_vault_result roster_post(const struct iris_account *account,
				   const struct roster_change *change, int64_t version,
				   struct iris_ticket *ticket);

/* The item of a roster set (§2.3, §2.5); `remove` for subscription='remove'. */
struct roster_request {
	struct iris_jid jid; /* bare */
	struct iris_str name;
	char **groups;       /* in the arena, or NULL */
	bool remove;
};

/*
 * Checks and reads the payload of a roster set: IRIS_NO_ERROR, or the condition RFC 6121 §2.3.3
 * names.
 */
enum iris_condition roster_parse_set(struct iris_arena *arena, const struct iris_element *query,
				     size_t groups_max, struct roster_request *request_r);
/* "ID.VERSION": an account that is made anew under the same address does not know the old one's. */
struct iris_str roster_version_text(struct iris_arena *arena, const struct iris_user *user);

extern struct iris_query *const roster_queries[];
extern const struct iris_user_rows roster_rows[];

#endif
