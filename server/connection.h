/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The carrier that all others stand on: one TCP connection, with TLS in between.  See
 * iris/carrier.h.
 *
 * Output is collected and written at the end of the turn, up to a record of 16 KiB a time.  What is
 * patient (IRIS_UNIT_PATIENT) waits beyond it, for `gather_ms` at most, when something was written
 * less than that ago: in a burst several leave together, and the first of it leaves at once.
 */
#ifndef IRIS_CONNECTION_H
#define IRIS_CONNECTION_H

#include <sys/socket.h>

#include "iris/carrier.h"
#include "tls.h"

struct connection_setup {
	int fd;                       /* non-blocking; taken over, on failure closed */
	const struct sockaddr *peer;
	bool proxy;                   /* a PROXY header comes first */
	bool direct_tls;
	/* with direct_tls: what is spoken here, the preferred one first; ends with NULL; or NULL */
	const char *const *alpn;
	bool between_servers;         /* the peer is another server, and proves it */
	SSL *outgoing;                /* we began it: its TLS, for when that begins; taken over */
	const struct iris_carrier_handler *handler;
	void *owner;
};

/* NULL: not let in (too many that prove nothing), or no certificate. */
struct iris_carrier *connection_open(const struct connection_setup *setup);

/* Options of module stream that concern every connection; main thread, at start and reload. */
struct connection_options {
	size_t output_limit;
	unsigned dead_peer_ms;   /* unacknowledged by the peer's TCP for so long: gone */
	unsigned keepalive_s;    /* TCP probes after so long a silence */
	unsigned gather_ms;      /* 0: nothing waits */
};
void connection_set_options(const struct connection_options *options);

#endif
