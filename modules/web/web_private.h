/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web between its files.  README.md explains the model.
 *
 *   web.c        the module: options, metrics, routes of its own, protocols
 *   http.c       a connection: input, requests one after the other, time
 *   request.c    what a handler asks of its request; routing
 *   answer.c     what a handler answers
 *   http_head.c  the guard: heads    http_body.c  the guard: bodies, targets
 *   static.c     files of a folder
 */
#ifndef WEB_PRIVATE_H
#define WEB_PRIVATE_H

#include <sys/queue.h>

#include "http_head.h"
#include "iris/module.h"

struct evbuffer;

/* --- a connection --- */

/* X(NAME, what it waits for) */
#define HTTP_LIST_NAMES(X)                        \
	X(IDLE, "another request")                \
	X(HEAD, "the rest of a head")             \
	X(WAITING, "the peer, for a handler")     \
	X(BUSY, "a handler")                      \
	X(CLOSING, "the peer's end")

enum http_list {
#define X(name, what) HTTP_##name,
	HTTP_LIST_NAMES(X)
#undef X
	HTTP_LISTS
};

/* Owned by itself; gone when the connection is, and no handler works for it any more. */
struct http {
	struct iris_carrier *carrier; /* NULL: gone, or given to a WebSocket */
	struct iris_web_request *request; /* the one that is under way, on its fiber */
	struct evbuffer *input;       /* what came and nobody took; NULL: nothing */
	size_t scanned;               /* of it: no head ends there */
	struct iris_wait wait;
	bool waiting;                 /* a handler, in `wait` */
	bool heard;                   /* bytes moved since it began to wait */
	bool close;                   /* no further request */
	bool redirect;                /* all it answers is where https is */
	uint8_t list;                 /* enum http_list */
	int64_t since_ms;             /* in its list; lists are in this order */
	struct iris_turn turn;
	TAILQ_ENTRY(http) link;
};

/* Suspends the handler until http_wake(). False: the peer is gone or too slow. */
IRIS_MUST_CHECK bool http_wait(struct http *http, const char *what);
void http_wake(struct http *http);
/* What was kept of the input goes to who reads, piece by piece. */
void http_feed(struct http *http);
/* All that was kept, in the arena. */
struct iris_str http_take_input(struct http *http, struct iris_arena *arena);
/* Nothing can be said to this peer any more. */
void http_cut(struct http *http);

/* --- a request: on its handler's fiber --- */

struct iris_web_request {
	struct http *http;
	struct iris_arena *arena; /* holds this too */
	struct http_head head;
	struct iris_web_match match;
	enum iris_web_method method;
	struct iris_str path;     /* decoded, whole */
	struct iris_str served;   /* the path of the route that did, for the log */
	struct iris_str peer;
	bool secure;              /* TLS, here or at the proxy in front */
	/* the body */
	struct http_body body;
	char *into;               /* of who waits for it */
	size_t want, got;
	bool continued;           /* "100 Continue" was said */
	int64_t waited_ms, moved; /* for the peer, in all; bytes both ways */
	/* the answer */
	struct iris_strbuf fields;
	bool begun, head_only, bodiless, chunked;
	unsigned status;
	unsigned pieces;          /* written */
	int64_t left;             /* of what was announced; -1: until the end */
};

/* Takes what it can of these bytes for who reads; returns how many. */
size_t request_feed(struct iris_web_request *request, struct iris_str bytes);
/* Throws away what has come of the body, without waiting. True: that was all of it. */
bool request_skip_body(struct iris_web_request *request);
/* Wants bytes of the body: somebody reads, and his buffer is not full. */
bool request_is_hungry(const struct iris_web_request *request);
/* The fiber of a request: finds the route, runs its handler, ends the answer. */
void request_run(struct iris_web_request *request);
/*
 * For a WebSocket: the connection is the caller's, and the request is over. What came behind the
 * head is in *early_r, in the request's arena.
 */
struct iris_carrier *request_upgrade(struct iris_web_request *request, struct iris_str *early_r);
/* Whoever asks has proven who he is, in a session of its own: his connection is no stranger's. */
void request_admit(struct iris_web_request *request);
/* May a page of the origin that this request names talk to us? True when it names none. */
bool request_may_come(struct iris_web_request *request);

/* --- answers --- */

/* The answer to what is no request, or to one that no fiber can be had for. Outside a fiber. */
void answer_refusal(struct iris_carrier *carrier, unsigned status);
/* What is owed when the handler has returned. False: the connection must end. */
IRIS_MUST_CHECK bool answer_end(struct iris_web_request *request);
void answer_status(struct iris_web_request *request, unsigned status); /* with its name as text */
void answer_redirect(struct iris_web_request *request);
void answer_options(struct iris_web_request *request); /* to OPTIONS, preflights included */
/* The head of "101 Switching Protocols" with the fields set so far. */
void answer_switch(struct iris_web_request *request);

/* --- websocket.c --- */

/* The worker stops: what it kept for later goes. */
void websocket_forget_spares(void);

/* --- static.c --- */

void static_handle(struct iris_web_request *request);
/* Answers with a file below the folder, or 404. */
void static_send(struct iris_web_request *request, struct iris_str folder, struct iris_str path);

/* --- web.c --- */

enum web_option {
	WEB_OPT_HEADER_SIZE,
	WEB_OPT_HEADER_TIMEOUT,
	WEB_OPT_IDLE_TIMEOUT,
	WEB_OPT_TRANSFER_TIMEOUT,
	WEB_OPT_TRANSFER_RATE,
	WEB_OPT_HSTS,
	WEB_OPT_BEHIND_TLS,
	WEB_OPT_HTTPS_PORT,
	WEB_OPT_ORIGINS,
	WEB_OPT_HEALTH,
	WEB_OPT_FOLDERS,
};
enum { WEB_FOLDER_PATH, WEB_FOLDER_FOLDER };

int64_t web_option(enum web_option option);
/* Nobody can listen to what comes on this connection. */
bool web_carrier_is_secure(const struct iris_carrier *carrier);
const struct iris_settings *web_settings(void);

enum web_metric {
	WEB_METRIC_CONNECTIONS,
	WEB_METRIC_REQUESTS,
	WEB_METRIC_MALFORMED,
	WEB_METRIC_SLOW,
	WEB_METRIC_BYTES_IN,
	WEB_METRIC_BYTES_OUT,
};
void web_count(enum web_metric metric, int64_t amount);

extern const struct iris_protocol web_protocol, web_redirect_protocol;

#endif
