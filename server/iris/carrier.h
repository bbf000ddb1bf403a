/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries bytes: a TCP connection with TLS (server/connection.c), and for a stream also what
 * plug-ins build on one, such as WebSocket and BOSH.  A carrier belongs to one worker at a time;
 * all calls are made there, outside or inside a fiber, and none waits.  The stream above knows none
 * of its kinds: bytes in, units out, an end with a reason.
 */
#ifndef IRIS_CARRIER_H
#define IRIS_CARRIER_H

#include "iris/stream.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct ssl_st;
struct ssl_ctx_st;
struct iris_carrier;

/* What the owner of a carrier is told. */
struct iris_carrier_handler {
	/* The TLS handshake is over; never for a carrier that is secure from its beginning. */
	void (*secured)(void *owner);
	/*
	 * Bytes came, in the clear. The buffer is the worker's: take them, now. A framed carrier
	 * hands over one element at a time, the header as the opening tag of RFC 6120 §4.
	 */
	void (*input)(void *owner, const char *bytes, size_t len);
	/* All that was sent has been taken by the kernel; it may come for no reason. Or NULL. */
	void (*drained)(void *owner);
	/*
	 * It is over, by whomever; nothing is called afterwards. Never called from within a
	 * call of the owner's. The reason is a literal, for logs.
	 */
	void (*ended)(void *owner, const char *reason);
};

/* What is being sent, for carriers to whom it makes a difference. */
enum iris_unit {
	IRIS_UNIT_BYTES,   /* of no stream */
	IRIS_UNIT_OPEN,    /* our header */
	IRIS_UNIT_ELEMENT, /* a complete element */
	IRIS_UNIT_PATIENT, /* one that may wait a few milliseconds for others */
	IRIS_UNIT_ERROR,   /* <stream:error/> */
	IRIS_UNIT_CLOSE,   /* our closing tag; only `finish` and `free` follow */
	IRIS_UNIT_SPACE,   /* a sign of life */
};

struct iris_carrier_ops {
	const char *name; /* "tcp", "websocket", "bosh" */
	/*
	 * Units stand alone: every namespace is declared, the header is <open/> and the closing tag
	 * <close/> (RFC 7395). Else they are the text of one document.
	 */
	bool framed;
	/* Takes a copy. Over the limit of unsent bytes all is dropped, and the carrier ends. */
	void (*send)(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str text);
	size_t (*pending)(const struct iris_carrier *carrier); /* bytes not yet taken */
	/* No input is delivered while paused: the peer is made to wait. */
	void (*pause)(struct iris_carrier *carrier, bool paused);
	/*
	 * Nothing more will be sent, nothing more is wanted: sends what is queued, says goodbye,
	 * and waits for the peer's end. Then `ended`; the owner limits the time.
	 */
	void (*finish)(struct iris_carrier *carrier);
	/* Closes at once, without a farewell; from anywhere, also from within a handler. */
	void (*free)(struct iris_carrier *carrier);
	/* Who is behind it has proven who it is: counts no longer against strangers' limits. */
	void (*admit)(struct iris_carrier *carrier);
	/* NULL where it is none. False: not possible, free it. */
	bool (*start_tls)(struct iris_carrier *carrier, struct ssl_ctx_st *context);
	/* The TLS connection that this is on, alone: for channel binding. Or NULL. */
	struct ssl_st *(*ssl)(const struct iris_carrier *carrier);
	bool (*is_secure)(const struct iris_carrier *carrier); /* the handshake is over */
	/* Text of the peer's address, of the PROXY header when there is one. */
	const char *(*peer)(const struct iris_carrier *carrier);
	/*
	 * Moving to another worker: detach on the old one (never during a handshake, never from
	 * within a handler), attach on the new one. Between the two nothing may touch it.
	 */
	void (*detach)(struct iris_carrier *carrier);
	void (*attach)(struct iris_carrier *carrier);
};

/* Embedded in what carries. The owner may change on the way: handler and owner are set together. */
struct iris_carrier {
	const struct iris_carrier_ops *ops;
	const struct iris_carrier_handler *handler;
	void *owner;
};

static inline void
carrier_send(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str text)
{
	carrier->ops->send(carrier, unit, text);
}

static inline size_t
carrier_pending(const struct iris_carrier *carrier)
{
	return carrier->ops->pending(carrier);
}

static inline void
carrier_pause(struct iris_carrier *carrier, bool paused)
{
	carrier->ops->pause(carrier, paused);
}

static inline void
carrier_finish(struct iris_carrier *carrier)
{
	carrier->ops->finish(carrier);
}

static inline void
carrier_free(struct iris_carrier **carrier_p) /* nulls, accepts NULL */
{
	struct iris_carrier *carrier = *carrier_p;

	*carrier_p = NULL;
	if (carrier)
		carrier->ops->free(carrier);
}

static inline void
carrier_admit(struct iris_carrier *carrier)
{
	carrier->ops->admit(carrier);
}

static inline struct ssl_st *
carrier_ssl(const struct iris_carrier *carrier)
{
	return carrier->ops->ssl(carrier);
}

static inline bool
carrier_is_secure(const struct iris_carrier *carrier)
{
	return carrier->ops->is_secure(carrier);
}

static inline const char *
carrier_peer(const struct iris_carrier *carrier)
{
	return carrier->ops->peer(carrier);
}

/* --- streams on carriers of plug-ins --- */

/*
 * Begins a stream of clients on a framed carrier, which it becomes the owner of: its header is
 * expected next. Good until the stream calls `free`.
 */
struct iris_stream *stream_begin(struct iris_carrier *carrier);
/* A header is what comes next: at the beginning, and after authentication (RFC 6120 §6.4.6). */
bool stream_expects_header(const struct iris_stream *stream);

/* --- what else speaks on a listener's ports --- */

/* Found by name (`role` and `also` of a listener), then by ALPN or by the first bytes. */
struct iris_protocol {
	const char *name;
	const char *alpn;       /* "http/1.1", or NULL: it speaks only where nothing else does */
	bool plain;             /* without TLS, anywhere: it carries nothing of worth */
	bool plain_on_loopback; /* without TLS, on a loopback address (P1.2) */
	/* Without ALPN: is this how it begins? At least one byte is there. */
	bool (*begins)(const char *bytes, size_t len);
	/* A connection of its own, handshake done; sets handler and owner. May free it. */
	void (*take)(struct iris_carrier *carrier);
	/*
	 * The server stops: connections that are idle are ended, or, now, all of this worker.
	 * Returns how many are left.
	 */
	size_t (*close)(bool now);
};

#pragma GCC visibility pop
#endif
