/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and their sessions, at their home worker (RFC 6121).  A user is loaded (account and
 * roster) when somebody signs in or something arrives that needs it, and stays a while after
 * the last session.  Fields are for reading; only server/ writes them.
 */
#ifndef IRIS_USER_H
#define IRIS_USER_H

#include <sys/queue.h>

#include "iris/hash.h"
#include "iris/stanza.h"
#include "iris/vault.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_module_self;
struct iris_stream;

enum iris_role { /* P4.1; a command names the least it needs */
	IRIS_ROLE_NONE,
	IRIS_ROLE_GUEST,
	IRIS_ROLE_USER,
	IRIS_ROLE_COMPANY_ADMIN,
	IRIS_ROLE_SUPER_ADMIN,
	IRIS_ROLE_OPERATOR, /* irisctl */
};

struct iris_account {
	int64_t id;         /* > 0 */
	iris_owner owner;   /* its company */
	enum iris_role role;
	bool locked;
	int64_t created_ms;
	int64_t last_logout_ms; /* 0: never */
};

struct iris_roster;

/* A place (iris/place.h), by its bare JID. */
struct iris_user {
	struct iris_jid jid;        /* bare */
	struct iris_account account;
	struct iris_roster *roster;
	TAILQ_HEAD(iris_sessions, iris_session) sessions; /* in order of binding */
	unsigned session_count, available_count;
	void **slots;               /* by module, see user_slot() */
	struct iris_user_private *private_;
};

struct iris_session {
	TAILQ_ENTRY(iris_session) link;
	struct iris_hash_node node; /* in the worker's table of full JIDs */
	struct iris_user *user;     /* held */
	struct iris_jid jid;        /* full */
	struct iris_stream *stream; /* NULL while detached (a plug-in keeps it for resumption) */
	struct iris_stanza *presence; /* the last available one; NULL when not available */
	int8_t priority;
	bool interested;            /* has asked for the roster */
	bool blocklist_interested;  /* has asked for the block list: gets its pushes */
	/* gets a copy of what the account's other sessions get (set by a plug-in) */
	bool copies;
	/* a plug-in tells what the client has: hooks delivery_done, delivery_lost */
	bool acknowledges;
	/* so much is not acknowledged that what can wait should (set by the same plug-in) */
	bool congested;
	bool closing;
	int64_t since_ms, active_ms; /* Unix time of binding, of the last stanza */
	void **slots;
	struct iris_session_private *private_;
};

/* The account was not removed since it was loaded. */
bool user_is_ready(const struct iris_user *user);
/* Loaded and ready, or NULL. Home worker. */
struct iris_user *user_find(struct iris_str bare);
/*
 * Loads when needed (fiber, waits); NULL: no such account, or the vault failed. A hold is taken:
 * release it.
 */
struct iris_user *user_get(const struct iris_jid *jid);
void user_hold(struct iris_user *user);
void user_release(struct iris_user **user_p);
/*
 * The account is gone or has changed (home worker): closes its sessions with this stream error
 * (NULL: plainly) and lets the user go; whatever comes next loads it anew.
 */
void user_forget(struct iris_str bare, const char *condition);
struct iris_session *session_find(struct iris_str full); /* home worker */

/*
 * Per-user and per-session memory of a module: one pointer each, NULL at first; free it
 * in the hooks user_unload and session_close.
 */
void **user_slot(struct iris_user *user, const struct iris_module_self *self);
void **session_slot(struct iris_session *session, const struct iris_module_self *self);

/*
 * From a handler on the fiber of its stream (a client's request to its own account), just before it
 * posts and waits for the commit: what its client sent next is handled meanwhile, posted later and
 * answered later. Nothing of that may depend on what the handler still does. At the limit, or on
 * another fiber: does nothing.
 */
void session_go_on(struct iris_session *session);

/* Sends to this session: hooks session_deliver, then the stream. Never waits. */
void session_deliver(struct iris_session *session, const struct iris_delivery *delivery);
/* A stanza of the server's own to one session, e.g. a roster push. Takes the reference. */
void session_send(struct iris_session *session, struct iris_stanza **stanza_p);
/*
 * What the client sends, through all that is checked and done with it (from is stamped), in order,
 * on the stream's fiber; may wait. For a plug-in that makes several stanzas of one. Takes the
 * reference.
 */
void session_receive(struct iris_session *session, struct iris_stanza **stanza_p,
		     struct iris_ticket *ticket);
/*
 * The only way out: presence unavailable goes out, hooks run, the stream (when there is one)
 * gets the stream error `condition` (NULL: a plain close).
 */
void session_close(struct iris_session *session, const char *condition, const char *text);
/*
 * For a plug-in that resumes: the session, detached, continues on this stream (same worker), which
 * becomes BOUND; then the hook session_resumed runs.
 */
void session_attach(struct iris_session *session, struct iris_stream *stream);
/* The session goes on without a stream (from the hook stream_lost). */
void session_detach(struct iris_session *session);
/* Is it available with a priority of at least 0? */
bool session_takes_messages(const struct iris_session *session);

/* --- rosters (RFC 6121 §2, §3; Appendix A) --- */

enum iris_subscription { IRIS_SUB_NONE = 0, IRIS_SUB_TO = 1, IRIS_SUB_FROM = 2, IRIS_SUB_BOTH = 3 };

struct iris_contact {
	struct iris_hash_node node; /* by bare JID */
	struct iris_jid jid;
	enum iris_subscription subscription;
	bool ask;          /* pending out */
	bool approved;     /* pre-approved, §3.4 */
	bool pending_in;
	bool in_roster;    /* false: only a pending-in request, never shown */
	struct iris_str name;
	char **groups;     /* NULL-terminated, or NULL */
	/* the pending-in presence's children, serialised, to show it again */
	struct iris_str request;
};

struct iris_contact *roster_find(const struct iris_user *user, struct iris_str bare); /* or NULL */
/* Walks the contacts of a ready user. */
void roster_each(const struct iris_user *user,
		 void (*fn)(const struct iris_contact *contact, void *arg), void *arg);
/*
 * As if a client of the user had sent this presence (§3: subscribe, subscribed, unsubscribe,
 * unsubscribed) to a bare address: what a plug-in does for it. Home worker, a ready user; never
 * waits. Otherwise: why not, and nothing has happened.
 */
enum iris_condition user_subscribe(struct iris_user *user, const struct iris_jid *to,
				   enum iris_stanza_type type, struct iris_ticket *ticket);
static inline bool
contact_sees_us(const struct iris_contact *contact)
{
	return contact && (contact->subscription & IRIS_SUB_FROM);
}
static inline bool
contact_is_seen(const struct iris_contact *contact)
{
	return contact && (contact->subscription & IRIS_SUB_TO);
}

#pragma GCC visibility pop
#endif
