/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling apart what is spoken at one port (P1.3): by ALPN (RFC 7301), and of clients that offer
 * none by the first bytes.  The worker that accepts.  It understands nothing of what is said: XMPP
 * goes to stream.c, the rest to the protocols of plug-ins (iris/carrier.h).
 */
#include <stdlib.h>
#include <unistd.h>

#include "door.h"
#include "module_private.h"
#include "stream_private.h"
#include "worker_private.h"

#define CLOSE_POLL_MS 10

/* Owned by itself; gone as soon as it is known what comes. */
struct door {
	struct iris_carrier *carrier;
	const struct listener *listener;
	struct iris_timer timer; /* SECURITY: a handshake that never ends, a first byte that never
				    comes */
	TAILQ_ENTRY(door) link;
};

static _Thread_local TAILQ_HEAD(door_list, door) doors;

static struct door_list *
doors_here(void)
{
	if (!doors.tqh_last)
		TAILQ_INIT(&doors);
	return &doors;
}

static void
door_free(struct door *door)
{
	timer_stop(&door->timer);
	carrier_free(&door->carrier);
	TAILQ_REMOVE(doors_here(), door, link);
	free(door);
}

/* The connection goes on without the door. */
static void
door_pass(struct door *door, const struct listener_voice *voice)
{
	struct iris_carrier *carrier = door->carrier;

	door->carrier = NULL;
	door_free(door);
	if (voice->protocol)
		voice->protocol->take(carrier);
	else
		stream_take(voice->role, carrier);
}

/* --- what the connection tells --- */

static const struct listener_voice *
door_voice_of_alpn(const struct door *door, const unsigned char *name, unsigned len)
{
	for (size_t i = 0; i < door->listener->voice_count; i++) {
		const struct listener_voice *voice = &door->listener->voices[i];
		const char *alpn = voice->protocol ? voice->protocol->alpn : voice->role->alpn;

		if (alpn && strlen(alpn) == len && memcmp(alpn, name, len) == 0)
			return voice;
	}
	return NULL;
}

/* What no protocol knows is XMPP, whose parser says what is wrong with it. */
static const struct listener_voice *
door_voice_of_bytes(const struct door *door, const char *bytes, size_t len)
{
	const struct listener_voice *xmpp = NULL;

	for (size_t i = 0; i < door->listener->voice_count; i++) {
		const struct listener_voice *voice = &door->listener->voices[i];

		if (voice->protocol && voice->protocol->begins(bytes, len))
			return voice;
		if (voice->role && !xmpp)
			xmpp = voice;
	}
	return xmpp;
}

static void
door_on_secured(void *owner)
{
	struct door *door = owner;
	const struct listener_voice *voice = NULL;
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(carrier_ssl(door->carrier), &name, &len);
	if (len > 0)
		voice = door_voice_of_alpn(door, name, len);
	if (voice)
		door_pass(door, voice);
}

static void
door_on_input(void *owner, const char *bytes, size_t len)
{
	struct door *door = owner;
	const struct listener_voice *voice = door_voice_of_bytes(door, bytes, len);
	struct iris_carrier *carrier = door->carrier;

	if (!voice) {
		door_free(door);
		return;
	}
	door_pass(door, voice);
	carrier->handler->input(carrier->owner, bytes, len);
}

static void
door_on_ended(void *owner, const char *reason)
{
	door_free(owner);
}

static const struct iris_carrier_handler door_handler = {
	.secured = door_on_secured,
	.input = door_on_input,
	.ended = door_on_ended,
};

static void
door_on_timer(void *arg)
{
	door_free(arg);
}

bool
door_accept(const struct listener *listener, int fd, const struct sockaddr *peer)
{
	struct door *door = iris_calloc(1, sizeof(*door));
	bool direct = listener->tls == LISTENER_DIRECT;

	door->listener = listener;
	TAILQ_INSERT_TAIL(doors_here(), door, link);
	door->carrier = connection_open(&(struct connection_setup){
		.fd = fd,
		.peer = peer,
		.proxy = listener->proxy,
		.direct_tls = direct,
		.alpn = direct && listener->alpn[0] ? listener->alpn : NULL,
		.handler = &door_handler,
		.owner = door });
	if (!door->carrier) {
		door_free(door);
		return false;
	}
	timer_start(&door->timer, stream_option(STREAM_OPT_NEGOTIATION), door_on_timer, door);
	return true;
}

/* --- the end: main thread --- */

struct doors_close {
	bool now;
	atomic_size_t left;
};

static void
doors_close_here(void *arg)
{
	struct doors_close *close_ = arg;

	if (worker_index() == WORKER_MAIN)
		return;
	while (!TAILQ_EMPTY(doors_here()))
		door_free(TAILQ_FIRST(doors_here()));
	atomic_fetch_add(&close_->left, protocols_close(close_->now));
}

static size_t
doors_close_once(bool now)
{
	struct doors_close close_ = { .now = now };

	workers_each(doors_close_here, &close_);
	return atomic_load(&close_.left);
}

void
doors_close_all(unsigned timeout_ms)
{
	for (unsigned waited = 0; waited < timeout_ms; waited += CLOSE_POLL_MS) {
		if (doors_close_once(false) == 0)
			return;
		usleep(CLOSE_POLL_MS * 1000);
	}
	(void)doors_close_once(true);
}
