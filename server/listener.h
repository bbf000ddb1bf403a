/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets: one for each worker and address (SO_REUSEPORT), all opened by the main thread
 * before it gives up its privileges.  Main thread, outside a fiber.
 */
#ifndef IRIS_LISTENER_H
#define IRIS_LISTENER_H

#include "iris/stream.h"
#include "proxy.h"

enum listener_tls { LISTENER_STARTTLS, LISTENER_DIRECT, LISTENER_NONE };

/* What a connection needs to know of where it came in; it lives until listen_close(). */
struct listener {
	char name[80]; /* "[::1]:5222" */
	const struct iris_stream_role *role;
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
/* No more are; then, or instead, the sockets are closed. */
void listen_close(void);
/* The i-th one configured, or NULL. */
const struct listener *listen_at(size_t i);

#endif
