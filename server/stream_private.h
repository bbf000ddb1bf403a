/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams (RFC 6120 §4) between the files of the core.  See iris/stream.h for what a stream is, and
 * "Streams" in server/README.md for its life.
 *
 *   stream.c              its life: accepting, input, the fiber, moving, the end
 *   stream_time.c         timeouts, idle streams
 *   stream_negotiation.c  headers, features, STARTTLS
 *   stream_initiate.c     the same from the other side: streams to other servers
 *   stream_error.c        errors, closing
 *   stream_settings.c     options and metrics of the module `stream`
 *   bind.c                resource binding
 */
#ifndef IRIS_STREAM_PRIVATE_H
#define IRIS_STREAM_PRIVATE_H

#include "connection.h"
#include "iris/module.h"
#include "listener.h"
#include "xml_parser.h"

/* --- for others in the core --- */

/* A connection was accepted; takes over fd. False: not let in, closed. The worker that accepts. */
IRIS_MUST_CHECK bool stream_accept(const struct listener *listener, int fd,
				   const struct sockaddr *peer);
/* The same for a connection that is there already: its handshake, if any, is over. */
struct iris_stream *stream_take(const struct iris_stream_role *role, struct iris_carrier *carrier);
/* Links a session (session_create, session_attach): the stream is BOUND; NULL: detached. */
void stream_set_session(struct iris_stream *stream, struct iris_session *session);
/*
 * Ends all streams of all workers with this stream error, waits until what is pending is
 * written, at most timeout_ms, then cuts what is left. Main thread, while the workers run;
 * nothing is accepted any more.
 */
void streams_close_all(const char *condition, unsigned timeout_ms);
/* After a reload: ends those whose domain is served no more. Main thread. */
void streams_check_hosts(void);
/* Streams of the calling worker. */
size_t stream_count(void);

/* --- the stream --- */

/* The fiber of a stream. It lives on that fiber's stack. */
struct stream_runner {
	struct iris_stream *stream; /* NULL: it moved away, or goes on without the fiber */
	struct iris_fiber *fiber;
	bool left; /* it goes on: stream_go_on(); the fiber still counts on it */
};

/* What waits for a stream at the home of its user: set by stream_authenticated(). */
struct stream_arrival {
	struct iris_mail mail;
	struct iris_stream *stream;
	void (*next)(struct iris_stream *stream, void *arg);
	void *arg;
	bool restart;
	bool is_home; /* it has arrived, next() is to be called */
};

/* Of a stream that we began. */
struct stream_initiator {
	char *from, *to;       /* domains of our header */
	char *id;              /* what the peer's header called the stream; NULL before it */
};

enum stream_list_id { STREAMS_YOUNG, STREAMS_LIVE, STREAMS_CLOSING, STREAM_LISTS };

struct iris_stream {
	struct iris_carrier *carrier;    /* NULL once finished */
	const char *lost;                /* why the connection has ended; NULL: it has not */
	const char *peer_error;          /* condition of the peer's stream error; NULL: none */
	const struct iris_stream_role *role;
	struct xml_parser *parser;
	enum iris_stream_state state;
	uint8_t tls;                     /* enum listener_tls */
	uint8_t list;                    /* enum stream_list_id */
	bool header_sent;
	uint8_t elements;                /* of the frame that is being handled */
	bool has_version;                /* the peer's header told one */
	bool was_bound, end_told;        /* role->ended is owed, has been called */
	bool orderly;                    /* it ends by a closing tag */
	bool counting;
	bool finished;                   /* nothing is left but the struct, for who counts on it */
	bool deferred;                   /* waits for `again`, reads nothing meanwhile */
	bool goes_on;                    /* in this turn, with another fiber */
	uint8_t ahead;                   /* fibers that it went on without, and that still wait */
	uint8_t bustle;                  /* inputs in a row that came shortly one after the other */
	bool warm;                       /* keeps its parser for a moment */
	unsigned refs;
	int home;                        /* worker */
	struct stream_runner *runner;    /* a fiber works for it */
	struct stream_arrival *arrival;
	struct iris_host *host;
	struct iris_session *session;
	struct iris_jid jid;             /* bare; owns its text; none before authentication */
	struct iris_account account;
	struct stream_initiator *initiator; /* NULL: the peer began it */
	char *claimed;                   /* `from` of the header, prepared; NULL once signed in */
	void **slots;
	struct iris_turn turn;
	struct iris_timer again;         /* goes on later: budget, no fiber, a parser's tick */
	TAILQ_ENTRY(iris_stream) link;   /* in streams_here()->lists[list] */
	TAILQ_ENTRY(iris_stream) warm_link;
	int64_t since_ms;                /* in its list; lists are in this order */
	int64_t input_ms;                /* the last bytes */
	int64_t stanza_ms;               /* the last stanza */
	int64_t paid_us;                 /* until when its stanzas are paid for: stream_rate.c */
	bool held_told;                  /* that it sends too fast is in the log */
	char id[17];                     /* 96 random bits */
	char lang[20];                   /* "" none */
};

TAILQ_HEAD(stream_list, iris_stream);

/* All streams of a worker. */
struct streams {
	struct stream_list lists[STREAM_LISTS];
	struct stream_list warm;         /* those that keep a parser, the longest idle first */
	unsigned warm_count;
	size_t count;
	struct iris_timer sweep;
	struct iris_arena *scratch;      /* for what is serialised in this turn, */
	struct iris_strbuf spare;        /* and a buffer in it that is not in use, or none */
	struct iris_turn scratch_turn;
	const char *closing;             /* who still arrives is sent away with this condition */
};

struct streams *streams_here(void);

/* --- stream.c --- */

/* The only place where the state changes; asserts that the step is legal. */
void stream_move_to_state(struct iris_stream *stream, enum iris_stream_state state);
/* Goes to the end of a list, with the time of now. */
void stream_set_list(struct iris_stream *stream, enum stream_list_id list);
/* Something is to be done at the end of this turn (the end, a move, the parser's memory). */
void stream_touch(struct iris_stream *stream);
/* Another fiber handles what comes next, while this one waits: see session_go_on(). */
void stream_go_on(struct iris_stream *stream);
/* A buffer for output, good until the end of the turn. */
struct iris_strbuf stream_buffer(void);
void stream_send_text(struct iris_stream *stream, enum iris_unit unit, struct iris_strbuf *buf);
/* The namespace in force around what is sent: the header's, none where units stand alone. */
struct iris_str stream_outer_ns(const struct iris_stream *stream);
bool stream_is_framed(const struct iris_stream *stream);

/* Keeps its parser for a moment, or not. */
void stream_set_warm(struct iris_stream *stream, bool warm);
#define WARM_MS 1000 /* a parser is kept for so long a silence */

struct iris_stream *stream_new(const struct iris_stream_role *role, enum listener_tls tls);
void stream_enter(struct iris_stream *stream, enum iris_stream_state state);
/* Instead of entering: its carrier was refused. */
void stream_discard(struct iris_stream **stream_p);
extern const struct iris_carrier_handler stream_carrier_handler;

/* --- stream_rate.c --- */

/* Pure: until when it is paid after one more; how long the next one has to wait. */
int64_t rate_count(int64_t paid_us, int64_t now_us, int64_t per_second);
int64_t rate_wait_us(int64_t paid_us, int64_t now_us, int64_t per_second, int64_t burst);
void stream_count_stanza(struct iris_stream *stream);
/* How long nothing more of it is to be handled, and nothing read; 0: go on. */
int64_t stream_hold_ms(struct iris_stream *stream);

/* --- stream_time.c --- */

void streams_sweep_start(struct streams *here);

/* --- stream_negotiation.c --- */

void stream_handle_header(struct iris_stream *stream, const struct iris_element *header);
/* Our own header; header NULL: the peer's was not read, an error follows (RFC 6120 §4.9.1.2). */
void stream_send_header(struct iris_stream *stream, const struct iris_element *header);
void stream_handle_starttls(struct iris_stream *stream, struct iris_element *element);
void stream_set_limits(struct iris_stream *stream);

/* Is it secure, is it signed in? The state that follows from it. */
enum iris_stream_state stream_state_after_header(const struct iris_stream *stream);

struct stream_fault {
	const char *condition, *text; /* NULL: none */
};

#define STREAM_NO_FAULT ((struct stream_fault){ NULL, NULL })
#define STREAM_FAULT(condition_, text_) ((struct stream_fault){ (condition_), (text_) })

/* What is the same for both sides: root, namespaces, version, language. */
struct stream_fault stream_check_frame_of_header(struct iris_stream *stream,
						 const struct iris_element *header);

/* --- stream_initiate.c --- */

/* What the engine itself understands between servers, on its side; NULL: it does not. */
const struct iris_stream_handler *stream_server_handler(const struct iris_stream *stream,
							const struct iris_element *element);
void stream_send_first_header(struct iris_stream *stream);
void stream_handle_answer(struct iris_stream *stream, const struct iris_element *header);
void stream_initiator_free(struct stream_initiator **initiator_p);

/* --- stream_error.c --- */

/* The literal of a condition of RFC 6120 §4.9.3; "undefined-condition" for what is none. */
const char *stream_condition_find(struct iris_str name);
/* The peer's closing tag. */
void stream_handle_closing_tag(struct iris_stream *stream);
/* Ends without a word: the connection is of no use any more. */
void stream_cut(struct iris_stream *stream, const char *reason);

/* --- bind.c --- */

/* An iq in state AUTHENTICATED. False: it is not one of those that may come there. */
IRIS_MUST_CHECK bool bind_handle_iq(struct iris_stream *stream, struct iris_stanza *iq);
extern const struct iris_iq bind_iq[];

/* --- stream_settings.c --- */

enum stream_option {
	STREAM_OPT_STANZA_SIZE_BEFORE,
	STREAM_OPT_STANZA_SIZE,
	STREAM_OPT_SERVER_STANZA_SIZE,
	STREAM_OPT_TOKEN_SIZE,
	STREAM_OPT_DEPTH,
	STREAM_OPT_ATTRIBUTES,
	STREAM_OPT_NODES,
	STREAM_OPT_BUDGET,
	STREAM_OPT_STANZA_RATE,
	STREAM_OPT_STANZA_BURST,
	STREAM_OPT_OUTPUT_LIMIT,
	STREAM_OPT_GATHER,
	STREAM_OPT_NEGOTIATION,
	STREAM_OPT_CLOSE,
	STREAM_OPT_KEEPALIVE,
	STREAM_OPT_WHITESPACE,
	STREAM_OPT_DEAD_PEER,
	STREAM_OPT_IDLE,
	STREAM_OPT_CONFLICT,
	STREAM_OPT_PARSERS,
};
enum { STREAM_CONFLICT_REPLACE, STREAM_CONFLICT_REFUSE, STREAM_CONFLICT_RENAME };

int64_t stream_option(enum stream_option option);

enum stream_metric {
	STREAM_METRIC_OPEN,
	STREAM_METRIC_BOUND,
	STREAM_METRIC_STANZAS_IN,
	STREAM_METRIC_STANZAS_OUT,
	STREAM_METRIC_BYTES_IN,
	STREAM_METRIC_BYTES_OUT,
	STREAM_METRIC_MOVES,
	STREAM_METRIC_ERRORS,
	STREAM_METRIC_LOST,
	STREAM_METRIC_HELD,
};
void stream_count_metric(enum stream_metric metric, int64_t amount);
/* False: it is ending, or its connection is gone; what is sent goes nowhere. */
bool stream_takes_output(const struct iris_stream *stream);

#endif
