/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BOSH (XEP-0124 1.11, XEP-0206) between its files.
 *
 *   bosh.c            the module; a request of HTTP, on its fiber, on whichever worker it came to
 *   bosh_session.c    a session: requests in order, answers, time; on the worker of its stream
 *   bosh_carrier.c    what the stream sees of a session
 *   bosh_body.c       <body/>: reading and writing
 *   bosh_directory.c  which worker a session lives on; how many there are
 */
#ifndef WEB_BOSH_PRIVATE_H
#define WEB_BOSH_PRIVATE_H

#include "iris/hash.h"
#include "web_private.h"

#define NS_BOSH "http://jabber.org/protocol/httpbind"
#define NS_XBOSH "urn:xmpp:xbosh"
#define BOSH_HOLD_MAX 4
#define BOSH_REQUESTS_MAX (BOSH_HOLD_MAX + 1)

/* --- bodies --- */

struct bosh_body {
	struct iris_element *element; /* its children are the payload */
	struct iris_str sid, to, from, lang;
	int64_t rid;
	int64_t wait_s, hold, pause_s; /* -1: not said */
	unsigned minor;                /* of the version of BOSH */
	bool terminate, restart;
};

/* NULL, or the terminal condition. The text is parsed into the arena. */
const char *bosh_body_parse(struct iris_arena *arena, struct iris_str text,
			    struct bosh_body *body_r);

/* An answer; kept for who asks for it again. Counted, from any thread. */
struct bosh_answer {
	atomic_uint refs;
	bool has_payload;
	size_t len;
	char text[];
};

struct bosh_answer *bosh_answer_new(struct iris_str attributes, struct iris_str payload);
struct bosh_answer *bosh_answer_end(const char *condition, struct iris_str payload);
struct bosh_answer *bosh_answer_ref(struct bosh_answer *answer);
void bosh_answer_unref(struct bosh_answer **answer_p);

/* --- requests --- */

/*
 * On the stack of its handler, which waits. It is the session's from bosh_session_take() to
 * bosh_request_answer(); its strings are the handler's.
 */
struct bosh_request {
	struct iris_mail mail;
	struct iris_worker *from;
	struct iris_wait wait;
	struct bosh_body body;
	struct iris_str peer;
	bool secure;
	bool moved;                 /* the session is not where it was looked for */
	bool known;                 /* its session's user has signed in */
	int64_t since_ms;
	struct bosh_answer *answer; /* one reference */
	TAILQ_ENTRY(bosh_request) link;
};

TAILQ_HEAD(bosh_requests, bosh_request);

/* Wakes the handler. Takes the reference. */
void bosh_request_answer(struct bosh_request *request, struct bosh_answer *answer);

/* --- sessions --- */

/* What the stream is still to be fed. */
struct bosh_unit {
	STAILQ_ENTRY(bosh_unit) link;
	bool is_header;
	size_t len;
	char text[];
};

/* Belongs to its stream, which frees it. */
struct bosh_session {
	struct iris_carrier carrier;
	struct iris_stream *stream;
	struct iris_hash_node node;      /* among those of its worker */
	struct iris_hash_node entry;     /* in the directory, under its lock */
	int worker;                      /* the same */
	struct bosh_address *address;    /* the same; NULL: signed in */
	char sid[24];
	char peer[48];
	bool secure;
	/* what was agreed */
	unsigned hold, requests, minor;
	int64_t wait_ms, inactivity_ms;
	/* requests, in order of their ids */
	int64_t next;                    /* the id that is to be handled next */
	struct bosh_requests held;       /* handled, not answered */
	struct bosh_requests early;      /* came before others that come first */
	unsigned held_count, early_count;
	bool begun;                      /* the first request was handled */
	bool greeted;                    /* the first answer is out */
	struct iris_str greeting;        /* its attributes; malloc'ed */
	struct {
		int64_t rid;
		struct bosh_answer *answer;
	} sent[BOSH_REQUESTS_MAX];       /* the last ones, in a ring */
	unsigned sent_at;
	int64_t quiet_ms;                /* since when no request is there */
	int64_t pause_ms;                /* instead of inactivity_ms; 0: no pause */
	int64_t empty_ms;                /* the last empty request that was answered empty */
	/* the stream */
	STAILQ_HEAD(, bosh_unit) input;
	struct evbuffer *output;         /* units for the client, or NULL */
	bool paused, known;
	bool feeding;                    /* on the stack */
	bool ending;                     /* the stream says nothing more */
	bool terminated;                 /* the client has said that it is over */
	bool freed;
	const char *condition;           /* of the end; NULL: none */
	const char *lost;                /* the stream is to be told that it is over, */
	bool told;                       /* and was */
	struct iris_timer timer;
	struct iris_turn turn;
};

/* A session for this first request, which it takes. False: too many. */
IRIS_MUST_CHECK bool bosh_session_new(struct bosh_request *request);
/* Of the calling worker, or NULL. */
struct bosh_session *bosh_session_find(struct iris_str sid);
void bosh_session_take(struct bosh_session *session, struct bosh_request *request);
/* Something is to be said, or done. */
void bosh_session_touch(struct bosh_session *session);
/* It came to this worker; it leaves it. */
void bosh_session_come(struct bosh_session *session);
void bosh_session_go(struct bosh_session *session);
/* All requests are answered, all is freed. */
void bosh_session_free(struct bosh_session *session);
/* Goes on feeding the stream. */
void bosh_session_feed(struct bosh_session *session);

extern const struct iris_carrier_ops bosh_carrier_ops;

/* --- the directory: any thread --- */

/* False: there are too many, in all or from this address. */
IRIS_MUST_CHECK bool bosh_directory_add(struct bosh_session *session);
void bosh_directory_move(struct bosh_session *session, int worker);
void bosh_directory_admit(struct bosh_session *session);
void bosh_directory_remove(struct bosh_session *session);
/* The worker where the session is, or was a moment ago; NULL: there is none. */
struct iris_worker *bosh_directory_find(struct iris_str sid);

/* --- bosh.c --- */

enum bosh_option {
	BOSH_OPT_BODY_SIZE,
	BOSH_OPT_WAIT,
	BOSH_OPT_HOLD,
	BOSH_OPT_INACTIVITY,
	BOSH_OPT_POLLING,
	BOSH_OPT_PAUSE,
	BOSH_OPT_OUTPUT,
	BOSH_OPT_STRANGERS,
	BOSH_OPT_STRANGERS_PER_ADDRESS,
};
int64_t bosh_option(enum bosh_option option);

#endif
