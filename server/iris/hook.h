/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: what a plug-in may listen to, one line each.  Bands give the order; within a band,
 * modules run in dependency order.  FILTER may refuse first (blocking, boundary, rate), LATE
 * comes after the ordinary ones (archive, offline, push), OBSERVE cannot refuse (its verdict is
 * ignored).
 */
#ifndef IRIS_HOOK_H
#define IRIS_HOOK_H

#include "iris/stream.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_verdict {
	IRIS_PASS,   /* not mine, or seen: go on */
	IRIS_DONE,   /* mine and done: nobody after me */
	IRIS_REFUSE, /* refused: request->refusal is filled in; the dispatcher answers */
};

enum iris_band { IRIS_FILTER, IRIS_EARLY, IRIS_NEUTRAL, IRIS_LATE, IRIS_OBSERVE };

/*
 * What is being asked: by whom, of whom, and where to put the answer. Lives on the handler's
 * stack.
 */
struct iris_request {
	struct iris_arena *arena;       /* of the stanza */
	struct iris_stanza *stanza;     /* from is proven; immutable once frozen */
	struct iris_element *payload;   /* of an iq: its child */
	/* the sender's, when it is a client of ours and this is its home; else NULL */
	struct iris_session *session;
	/* whose address is asked (held), when it is a user of ours; else NULL */
	struct iris_user *user;
	struct iris_host *host;         /* the domain asked, or the host of the service asked */
	struct iris_service *service;   /* when it is one that is asked, or its place; else NULL */
	struct iris_place *place;       /* of a service (held); else NULL */
	struct iris_ticket *ticket;     /* pass it to vault_post() */
	/* of an iq: DONE with this as the result's child, or NULL for an empty result */
	struct iris_element *reply;
	struct iris_refusal refusal;    /* for REFUSE */
	/* asked by the account itself, of itself (to absent or own bare JID) */
	bool is_self;
	/* of a message: sent once more, its sender's archive has it (message_out sets it) */
	bool is_resent;
};

/* A message on its way to a user, at the recipient's home. */
struct iris_incoming {
	struct iris_user *user;
	struct iris_delivery delivery;  /* hooks may set .extra (append!) */
	struct iris_request *request;   /* refusal goes here; its stanza is the message */
	struct iris_session *session;   /* addressed by full JID and there, else NULL */
	struct iris_ticket *ticket;
	unsigned delivered;             /* in message_delivered: to how many sessions it went */
};

enum iris_discovered { IRIS_DISCO_HOST, IRIS_DISCO_ACCOUNT, IRIS_DISCO_SERVICE, IRIS_DISCO_PLACE };

/*
 * X(name, type of the argument). What it means:
 * fired when · where · may refuse? · may wait? Nothing here owns its argument longer than the call.
 */
#define IRIS_HOOKS(X) \
	/* A client's stanza, before it is routed · sender's home, on its fiber · may refuse · \
	   may wait */ \
	X(stanza_out, struct iris_request) \
	/* A client's message has been accepted, before it is routed (archive, carbons of the \
	   sender) · sender's home · may refuse (resource-constraint) · no wait */ \
	X(message_out, struct iris_request) \
	/* Anything addressed to a user (bare or full), before delivery · recipient's home · \
	   may refuse, DONE swallows it · no wait */ \
	X(stanza_in, struct iris_incoming) \
	/* A message that passed stanza_in, before sessions get it (archive gives it its id) · \
	   recipient's home · may refuse · no wait */ \
	X(message_in, struct iris_incoming) \
	/* It has gone to `delivered` sessions (carbons, push) · recipient's home · no refusal \
	   · no wait */ \
	X(message_delivered, struct iris_incoming) \
	/* Nobody is there to take it: DONE stored it; PASS from all means service-unavailable \
	   · recipient's home · may refuse · no wait */ \
	X(message_offline, struct iris_incoming) \
	/* One delivery to one session: DONE holds or drops it (the hook keeps what it needs) · \
	   home · no wait */ \
	X(session_deliver, struct iris_session_delivery) \
	/* It was written to the stream, or would have been were it not detached · home · no \
	   wait */ \
	X(session_sent, struct iris_session_delivery) \
	/* The client has it: acknowledged, or written where nothing acknowledges (the core \
	   fires it unless session->acknowledges is set; who sets that fires it) · home · no \
	   wait */ \
	X(delivery_done, struct iris_session_delivery) \
	/* A session ends and its client may not have it (fired by who acknowledges, and by the \
	   core when a hook closed the session before): pass it on or keep it, once · home, \
	   while the session still exists · no wait */ \
	X(delivery_lost, struct iris_session_delivery) \
	/* A session is bound · home, on the fiber of the binding · may wait */ \
	X(session_bound, struct iris_session) \
	/* session_attach() gave it a new stream: send again what the client does not have · \
	   home · no wait */ \
	X(session_resumed, struct iris_session) \
	/* It became available (first presence; contacts and pending requests were sent), or \
	   its priority is below 0 no more · home, on the fiber of its stream · may wait \
	   (offline messages) */ \
	X(session_available, struct iris_session) \
	/* It becomes unavailable or changes presence: before the broadcast · home · no wait */ \
	X(session_presence, struct iris_session) \
	/* What its client can do has become known, or is known to be other than before \
	   (XEP-0115 fires it) · home · no wait */ \
	X(session_caps, struct iris_session) \
	/* It ends: free the slots, hand on what was not acknowledged · home · no wait */ \
	X(session_close, struct iris_session) \
	/* The connection under a bound session is gone without a closing tag: DONE keeps the \
	   session, the plug-in called session_detach() · home · no wait */ \
	X(stream_lost, struct iris_stream) \
	/* Features are being written for the state of the stream · its worker · no wait */ \
	X(stream_features, struct iris_stream_features) \
	/* A stream ends: free the slot · its worker · no wait */ \
	X(stream_close, struct iris_stream) \
	/* A stanza of a counting stream was read: set its ticket · home · no wait */ \
	X(stanza_ticket, struct iris_stream_ticket) \
	/* A stanza of a counting stream has been handed on · home · no wait */ \
	X(stanza_done, struct iris_stream_ticket) \
	/* XEP-0388: features to offer inline, requests to answer inline, at home, \
	   authenticated · may wait */ \
	X(inline_features, struct iris_inline) \
	X(inline_request, struct iris_inline) \
	/* XEP-0386: the same for what is enabled while binding; session is bound */ \
	X(bind_features, struct iris_inline) \
	X(bind_request, struct iris_inline) \
	/* A user is loaded, its user_rows were taken (fiber, may wait), is about to be \
	   unloaded (no wait) · home */ \
	X(user_load, struct iris_user) \
	X(user_unload, struct iris_user) \
	/* A message of an archive became a tombstone: what it named may go, too; \
	   pass the ticket on · home, fiber · no wait */ \
	X(message_retracted, struct iris_retracted) \
	/* Rows of this account must go: post deletions, REFUSE when the vault takes none (asked
	   again, all of them) · home, fiber · may wait */ \
	X(account_removed, struct iris_account_removed) \
	/* The password was changed or the account locked: forget what signs in without it \
	   (tokens) · home, fiber · may wait */ \
	X(account_secured, struct iris_account_removed) \
	/* May presence of user be shown to jid? REFUSE hides (blocking) · home · no wait */ \
	X(presence_visible, struct iris_visibility) \
	/* Discovery is answered: add identities, features, forms; items · where it is asked · \
	   may wait */ \
	X(disco_info, struct iris_discovery) \
	X(disco_items, struct iris_discovery)

struct iris_session_delivery {
	struct iris_session *session;
	const struct iris_delivery *delivery;
};

struct iris_stream_features {
	struct iris_stream *stream;
	struct iris_element *features; /* add children */
};

struct iris_stream_ticket {
	struct iris_stream *stream;
	struct iris_stanza *stanza;
	struct iris_ticket *ticket; /* stanza_ticket: set to a new one */
};

struct iris_inline {
	struct iris_stream *stream;
	struct iris_session *session;  /* of bind_request, or after one resumed; else NULL */
	struct iris_element *request;  /* <authenticate/>, or <bind/>; NULL for *_features */
	struct iris_element *response; /* add children: <inline/>, <success/>, <bound/> */
	/*
	 * inline_request sets it, and `session`, when a session is to continue here: nothing is
	 * bound, and who answers calls session_attach() after the response is written.
	 */
	bool resumed;
};

struct iris_account_removed {
	struct iris_jid jid;
	struct iris_account account;
};

struct iris_retracted {
	struct iris_user *user;         /* whose archive; NULL: a room's */
	const struct iris_stanza *original;
	/* an account of ours that sent it, and whose files may go with it: in its own archive, or
	   a room's; NULL in those of others */
	const struct iris_account *sender;
	struct iris_ticket *ticket;     /* of the retraction */
};

struct iris_visibility {
	struct iris_user *user;
	struct iris_jid jid;
};

struct iris_discovery {
	struct iris_request *request;
	enum iris_discovered of;
	struct iris_str node;          /* none: the entity itself */
	struct iris_element *query;    /* add children */
	bool known_node;               /* set when the node is yours */
};

struct iris_hooks_entry; /* see iris/module.h */

/* Runs the chain; X-macro gives one typed function per hook: hook_run_stanza_in(arg) … */
#define X(name, type) enum iris_verdict hook_run_##name(type *arg);
IRIS_HOOKS(X)
#undef X

/* Is anybody listening? For the hot path. */
enum iris_hook_id {
#define X(name, type) IRIS_HOOK_ID_##name,
	IRIS_HOOKS(X)
#undef X
	IRIS_HOOK_COUNT
};
bool hook_is_used(enum iris_hook_id id);

#pragma GCC visibility pop
#endif
