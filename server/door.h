/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a connection waits until it has shown what it speaks, at listeners that speak more than
 * XMPP (P1.3).
 */
#ifndef IRIS_DOOR_H
#define IRIS_DOOR_H

#include "listener.h"

/* A connection was accepted; takes over fd. False: not let in, closed. The worker that accepts. */
IRIS_MUST_CHECK bool door_accept(const struct listener *listener, int fd,
				 const struct sockaddr *peer);
/*
 * The server stops: who is at a door is sent away, then every protocol ends its connections; what
 * is left after timeout_ms is cut. Main thread, while the workers run; nothing is accepted any
 * more.
 */
void doors_close_all(unsigned timeout_ms);

#endif
