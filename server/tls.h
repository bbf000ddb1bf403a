/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS as this server speaks it (P1.1), above OpenSSL: contexts of hosts, and what is asked of a
 * connection afterwards.  Handshakes happen on the worker that accepted.
 */
#ifndef IRIS_TLS_H
#define IRIS_TLS_H

#include <openssl/ssl.h>

#include "iris/route.h"

/*
 * A server's context from PEM files; the certificate's file holds the chain, NAME.ocsp next to it
 * an OCSP response to staple. NULL: the error says why. Any thread. Certificates that end soon are
 * logged.
 */
SSL_CTX *tls_context_new(struct iris_str certificate, struct iris_str key,
			 struct iris_error *error);

/*
 * A connection's TLS, server side, ready for SSL_accept. alpn: what is spoken here, the preferred
 * one first, ending with NULL, kept until the handshake is over; a client that offers any must
 * offer one of them (direct TLS). NULL: whatever it offers is ignored (STARTTLS).  from_server:
 * asked for a certificate that proves another server; so is who offers "xmpp-server".  Who names
 * one of our hosts is shown that one's certificate, for servers or for clients, as is who gets
 * "xmpp-server"; all others that of `context`.
 */
SSL *tls_accept_new(SSL_CTX *context, int fd, const char *const *alpn, bool from_server);

struct iris_dial;
/*
 * The same, client side, to the server of dial->to, without a descriptor yet: shows the certificate
 * of `identity`, a host's context. NULL: nobody is trusted (iris/dial.h), or the identity cannot be
 * used.
 */
SSL *tls_connect_new(SSL_CTX *identity, const struct iris_dial *dial);
/* Does the peer's certificate prove this domain? See stream_proves(). */
bool tls_proves_domain(SSL *ssl, struct iris_str domain);
/* See stream_is_pinned(). */
bool tls_is_pinned(SSL *ssl);
/* See stream_region(), stream_is_under(). */
bool tls_region(SSL *ssl, struct iris_arena *arena, struct iris_str *id_r);
bool tls_is_under(SSL *ssl, const char *fingerprint);

/*
 * The peer's, when its chain leads to an authority of client-ca, or of servers where it is asked as
 * one; else NULL. Borrowed.
 */
X509 *tls_peer_certificate(SSL *ssl);

/* --- for tls_peer.c --- */

/* Sets the verdict on the chain of another server; it is the client if it began. */
void tls_verify_server(X509_STORE_CTX *store, bool is_client);
/* Versions, suites, modes of a context for connections that we begin. */
IRIS_MUST_CHECK bool tls_context_set_client(SSL_CTX *context, struct iris_error *error);

/* RFC 9266, RFC 5929. False: this connection cannot give it. */
IRIS_MUST_CHECK bool tls_channel_binding(SSL *ssl, const char *type, struct iris_arena *arena,
					 struct iris_str *data_r);
const char *const *tls_channel_bindings(SSL *ssl);

/* --- hosts.c --- */

/*
 * The context of a host, or NULL when it has no certificate. to_server: with the certificate that
 * is for other servers, where it has one of its own.  Good for this turn of the loop (SSL_new
 * counts it).
 */
SSL_CTX *host_tls(const struct iris_host *host, bool to_server);
/* Why OpenSSL failed, in words; empties its queue. */
const char *tls_reason(void);

#endif
