/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams (RFC 6120 §4), for the plug-ins that extend them.  A stream belongs to one worker at a
 * time: first to the one that accepted it, after authentication to the home of its user.
 */
#ifndef IRIS_STREAM_H
#define IRIS_STREAM_H

#include "iris/route.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_stream;
struct iris_stream_handler;

/* X(NAME, what is expected next) */
#define IRIS_STREAM_STATES(X)                                                   \
	X(HEADER, "the client's stream header")                                 \
	X(PLAIN, "STARTTLS, on a stream without TLS")                           \
	X(HANDSHAKE, "the TLS handshake")                                       \
	X(UNAUTHENTICATED, "authentication, on a stream with TLS")              \
	X(AUTHENTICATED, "resource binding or resumption")                      \
	X(BOUND, "stanzas")                                                     \
	X(CLOSING, "the peer's closing tag")                                    \
	X(CLOSED, "nothing")

enum iris_stream_state {
#define X(name, what) IRIS_STREAM_##name,
	IRIS_STREAM_STATES(X)
#undef X
};

/*
 * What a stream is for: clients (server/), external components, other servers.  A listener
 * names its role; the engine does TLS, XML, limits and errors, the role the rest.
 */
struct iris_stream_role {
	const char *name;            /* "c2s": the `role` of a listener */
	const char *ns;              /* default namespace of the stream */
	const char *alpn;            /* of direct TLS, or NULL */
	/* declared in our header beside the usual ones (" xmlns:x='…'"), or NULL */
	const char *prefixes;
	/* without TLS, on a loopback address only (P1.2), if the listener says so */
	bool plain_on_loopback;
	/*
	 * The peer is another server: it is asked for a certificate (stream_proves), may send
	 * larger stanzas, and each has two addresses. Elements are found in `elements` only.
	 */
	bool between_servers;
	/* the role's own; ends with a NULL name. NULL: those of all modules */
	const struct iris_stream_handler *elements;
	/*
	 * The header was read and answered, the host is ours: announce features, or nothing.
	 * Fiber.
	 */
	void (*opened)(struct iris_stream *stream, const struct iris_element *header);
	/* Features for the state it is in; NULL: the hook stream_features, and binding. No wait. */
	void (*offer)(struct iris_stream *stream, struct iris_element *features);
	/* The peer's features, on a stream that we began (iris/dial.h). Fiber. */
	void (*features)(struct iris_stream *stream, const struct iris_element *features);
	/* Is this domain served to this role? NULL: every host of ours. */
	bool (*serves)(struct iris_stream *stream, struct iris_str domain);
	/* A stanza in state BOUND, in order, on the stream's fiber. Takes the reference. */
	void (*stanza)(struct iris_stream *stream, struct iris_stanza **stanza_p,
		       struct iris_ticket *ticket);
	/*
	 * The stream has ended; orderly: by the peer's closing tag or ours. Not for streams never
	 * BOUND.
	 */
	void (*ended)(struct iris_stream *stream, bool orderly);
};

enum iris_stream_state stream_state(const struct iris_stream *stream);
const struct iris_stream_role *stream_role(const struct iris_stream *stream);
struct iris_host *stream_host(const struct iris_stream *stream);      /* NULL before the header */
struct iris_str stream_lang(const struct iris_stream *stream);
struct iris_str stream_id(const struct iris_stream *stream);
/* "192.0.2.1", the PROXY header's when there is one */
struct iris_str stream_peer_address(const struct iris_stream *stream);
bool stream_is_secure(const struct iris_stream *stream);
const char *stream_tls_version(const struct iris_stream *stream); /* "TLSv1.3"; "": it has none */
/* bare, from AUTHENTICATED on, else NULL */
const struct iris_jid *stream_jid(const struct iris_stream *stream);
const struct iris_account *stream_account(const struct iris_stream *stream);
struct iris_session *stream_session(const struct iris_stream *stream); /* when BOUND */
/*
 * Who the client says it is, from its stream header, prepared (RFC 6120 §4.7.1); never to be
 * trusted. None: it did not.
 */
struct iris_jid stream_claimed_jid(const struct iris_stream *stream);
/*
 * The client's certificate (an X509 *, borrowed) when one was given and its chain is trusted;
 * else NULL.
 */
void *stream_peer_certificate(const struct iris_stream *stream);
/* bytes of a stanza that it takes in its state */
size_t stream_stanza_limit(const struct iris_stream *stream);
/* silence after which it is closed; 0: none */
int64_t stream_idle_limit_ms(const struct iris_stream *stream);
/* freed in stream_close */
void **stream_slot(struct iris_stream *stream, const struct iris_module_self *self);

/* A counted reference: the struct stays (perhaps CLOSED) while it is held. Same worker only. */
void stream_ref(struct iris_stream *stream);
void stream_unref(struct iris_stream **stream_p);

/* An element that is no stanza. Output is collected and written at the end of the turn. */
void stream_send(struct iris_stream *stream, const struct iris_element *element);
void stream_send_delivery(struct iris_stream *stream, const struct iris_delivery *delivery);
/* bytes not yet taken by the kernel */
size_t stream_output_pending(const struct iris_stream *stream);
/* Ends it: <stream:error> with a condition of RFC 6120 §4.9.3, then the closing tag. */
void stream_error(struct iris_stream *stream, const char *condition, const char *text);
/* The same with an application-specific condition (§4.9.4), or NULL. */
void stream_error_app(struct iris_stream *stream, const char *condition, const char *text,
		      const struct iris_element *app);
void stream_close(struct iris_stream *stream); /* orderly, without an error */

/*
 * Channel binding data of the TLS connection: "tls-exporter", "tls-server-end-point",
 * "tls-unique".
 */
IRIS_MUST_CHECK bool stream_channel_binding(struct iris_stream *stream, const char *type,
					    struct iris_arena *arena, struct iris_str *data_r);
/* "tls-exporter" …, those that this connection can give; ends with NULL. */
const char *const *stream_channel_bindings(struct iris_stream *stream);

/*
 * Authentication is done: sets the identity, moves the stream to the user's home and calls
 * next(stream, arg) there, on a fiber, before anything else of this stream is handled (fiber
 * only; the caller must not touch the stream afterwards, and returns at once). The client's
 * account is checked again at home: locked or gone closes the stream.
 * restart: a new stream header is expected (RFC 6120 §6.4.6), else the stream goes on (XEP-0388).
 */
void stream_authenticated(struct iris_stream *stream, const struct iris_jid *jid, bool restart,
			  void (*next)(struct iris_stream *stream, void *arg), void *arg);
/* Sends <stream:features/> for the state it is in (hooks stream_features). */
void stream_send_features(struct iris_stream *stream);
/*
 * Binds a resource (fiber at home; may wait for the user to load). resource none: made here.
 * On failure NULL, *refusal_r says why; conflicts follow the option `resource-conflict`.
 */
struct iris_session *stream_bind(struct iris_stream *stream, struct iris_str resource,
				 struct iris_refusal *refusal_r);

/* For roles without resource binding: the stream is authenticated and takes stanzas from now on. */
void stream_set_bound(struct iris_stream *stream);
/* From now on each inbound stanza gets a ticket: hooks stanza_ticket, stanza_done. */
void stream_set_counting(struct iris_stream *stream, bool counting);

#pragma GCC visibility pop
#endif
