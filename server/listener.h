/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets: one for each worker and address (SO_REUSEPORT), all opened by the main thread
 * before it gives up its privileges.  Main thread, outside a fiber.
 */
#ifndef IRIS_LISTENER_H
#define IRIS_LISTENER_H

#include "iris/carrier.h"
#include "proxy.h"

enum listener_tls { LISTENER_STARTTLS, LISTENER_DIRECT, LISTENER_NONE };

#define LISTENER_VOICES_MAX 8

/* One of the things spoken at a listener: XMPP in a role, or another protocol. */
struct listener_voice {
	const struct iris_stream_role *role;   /* or NULL */
	const struct iris_protocol *protocol; /* or NULL */
};

/* What a connection needs to know of where it came in; it lives until listen_close(). */
struct listener {
	char name[80]; /* "[::1]:5222" */
	const struct iris_stream_role *role; /* of the first voice; NULL: a protocol */
	struct listener_voice voices[LISTENER_VOICES_MAX];
	size_t voice_count; /* 0 or 1 with a role: no door is needed */
	const char *alpn[LISTENER_VOICES_MAX + 1]; /* of the voices that have one */
	const char *speaks; /* the first voice's name, for logs */
	enum listener_tls tls;
	bool proxy; /* PROXY headers are expected, from trusted networks only */
	struct proxy_network *trusted;
	size_t trusted_count;
	uint16_t port; /* the real one, when 0 was asked for */
	int backlog;
	struct listener_socket *sockets; /* one for each worker */
	size_t socket_count;
};

/* Binds what is configured; the workers must have been started. */
IRIS_MUST_CHECK bool listen_open(struct iris_error *error);
/* From now on connections are accepted. */
void listen_start(void);
/* Those that speak this role are closed for good; on a fiber, too. */
void listen_stop_role(const char *name);
/* No more are: the sockets are closed. What connections may still look at stays. */
void listen_stop(void);
/* All goes; when no connection is left. */
void listen_close(void);
/* The i-th one configured, or NULL. */
const struct listener *listen_at(size_t i);

#endif
