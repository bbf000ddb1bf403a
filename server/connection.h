/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TCP connection below a stream: bytes in, bytes out, TLS in between.  It belongs to one
 * worker at a time; all calls are made there, outside or inside a fiber, and none waits.
 *
 * Output is collected and written at the end of the turn, up to a record of 16 KiB a time.
 */
#ifndef IRIS_CONNECTION_H
#define IRIS_CONNECTION_H

#include <sys/socket.h>

#include "tls.h"

struct connection;

struct connection_handler {
	/* The TLS handshake is over. */
	void (*secured)(void *owner);
	/* Bytes came, in the clear. The buffer is the worker's: take them, now. */
	void (*input)(void *owner, const char *bytes, size_t len);
	/*
	 * It is over, by whomever; nothing is called afterwards. Never called from within a
	 * call of the owner's. The reason is a literal, for logs.
	 */
	void (*ended)(void *owner, const char *reason);
};

struct connection_setup {
	int fd;                       /* non-blocking; taken over, on failure closed */
	const struct sockaddr *peer;
	bool proxy;                   /* a PROXY header comes first */
	bool direct_tls;
	const char *alpn;             /* with direct_tls; may be NULL */
	const struct connection_handler *handler;
	void *owner;
};

/* NULL: not let in (too many that prove nothing), or no certificate. */
struct connection *connection_open(const struct connection_setup *setup);
/* Closes at once, without a farewell; from anywhere, also from within a handler. */
void connection_free(struct connection **connection_p);

/* Text of the peer's address, of the PROXY header when there is one. */
const char *connection_peer(const struct connection *connection);
SSL *connection_ssl(const struct connection *connection); /* NULL in the clear */
bool connection_is_secure(const struct connection *connection); /* the handshake is over */
/* It has proven who it is: counts no longer against the limits of strangers. */
void connection_admit(struct connection *connection);

/* Writes what is queued in the clear, then shakes hands. False: not possible, free it. */
IRIS_MUST_CHECK bool connection_start_tls(struct connection *connection, SSL_CTX *context);

/* Queues a copy. Over the limit of unsent bytes all is dropped, and the connection ends. */
void connection_send(struct connection *connection, struct iris_str bytes);
size_t connection_pending(const struct connection *connection);
/* No input is delivered while paused; the kernel's buffer makes the peer wait. */
void connection_pause(struct connection *connection, bool paused);
/*
 * Nothing more will be sent, nothing more is wanted: writes what is queued, says goodbye, and
 * waits for the peer's end (so that he gets all of it). Then `ended`; the owner limits the time.
 */
void connection_finish(struct connection *connection);

/*
 * Moving to another worker: detach on the old one (never during a handshake, never from within a
 * handler), attach on the new one. Between the two nothing may touch it.
 */
void connection_detach(struct connection *connection);
void connection_attach(struct connection *connection);

/* Options of module stream that concern every connection; main thread, at start and reload. */
struct connection_options {
	size_t output_limit;
	unsigned dead_peer_ms;   /* unacknowledged by the peer's TCP for so long: gone */
	unsigned keepalive_s;    /* TCP probes after so long a silence */
};
void connection_set_options(const struct connection_options *options);

#endif
