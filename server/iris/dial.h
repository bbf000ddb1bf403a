/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams to other servers that this one begins (RFC 6120 §4, as the initiating entity), and who is
 * believed to be another server.
 */
#ifndef IRIS_DIAL_H
#define IRIS_DIAL_H

#include "iris/resolver.h"
#include "iris/stream.h"

#pragma GCC visibility push(default) /* for plug-ins */

/* Whose certificates are believed. */
struct iris_server_trust {
	struct iris_str authorities; /* a PEM file; none: those of the system */
	struct iris_str revoked;     /* a PEM file of revocation lists, or none */
	/*
	 * A certificate without the purpose "client authentication" proves a server that connects
	 * to us, too: public authorities give no others any more.
	 */
	bool purpose_of_servers;
};

/*
 * Main thread, at start and reload; before it and after it was cleared no server is believed, and
 * none is dialled.  False: all stays as it was.
 */
IRIS_MUST_CHECK bool server_trust_set(const struct iris_server_trust *trust,
				      struct iris_error *error);
void server_trust_clear(void);

struct iris_dial {
	const struct iris_stream_role *role;
	struct iris_host *host;      /* whose certificate is shown */
	struct iris_str from, to;    /* domains, for the stream header; `to` also for SNI */
	struct iris_dns_address address;
	uint16_t port;
	bool direct_tls;             /* XEP-0368; else STARTTLS, which the peer has to offer */
	/*
	 * DANE: what signed records of the DNS say of the certificates of `target`, the machine
	 * that a signed record has named for `to`; or none.
	 */
	struct iris_str target;
	struct iris_dns_tlsas tlsas;
	unsigned timeout_ms;         /* for the connection */
};

/*
 * Connects and begins a stream: role->features is called when the peer's features come, first with
 * those for UNAUTHENTICATED (never before TLS).  Fiber; the stream is this worker's, and nothing of
 * it happens before the caller waits.  NULL: *why_r says why, a literal.
 */
struct iris_stream *stream_dial(const struct iris_dial *dial, const char **why_r);
/* A stream that we began sends its header once more: in stream_authenticated()'s next. */
void stream_restart(struct iris_stream *stream);
/* Did we begin it? */
bool stream_is_initiated(const struct iris_stream *stream);
/* The condition of the stream error that the peer has sent (RFC 6120 §4.9.3), or NULL. */
const char *stream_peer_error(const struct iris_stream *stream);
/*
 * Does the peer's certificate prove that it may speak for this domain?  Its chain leads to an
 * authority, nothing in it has expired or is revoked, and one of its names is the domain's (RFC
 * 6120 §13.7.2): DNS, with a wildcard for the leftmost label, SRV of xmpp-server, or XmppAddr.
 *
 * Of a pinned stream the DNS decides (RFC 7671, RFC 7673): what it vouches for proves the domain
 * that was dialled and no other, whatever it says of itself.
 */
bool stream_proves(const struct iris_stream *stream, struct iris_str domain);
/*
 * We began it with records of DANE that can be used: nothing but stream_proves() may prove its
 * peer, not even where it does not.
 */
bool stream_is_pinned(const struct iris_stream *stream);
/*
 * The region that the peer's certificate is for: ID of the one URI `urn:iris:region:ID` among its
 * names, copied; none when there is no such URI.  False: there are several, or it is malformed:
 * then it is to be believed nothing.
 */
bool stream_region(const struct iris_stream *stream, struct iris_arena *arena,
		   struct iris_str *id_r);
/* Is this the fingerprint (SHA-256, hexadecimal in lower case) of one of its authorities? */
bool stream_is_under(const struct iris_stream *stream, const char *fingerprint);

#pragma GCC visibility pop
#endif
