/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream sees of a session of BOSH (iris/carrier.h): units go into its output, the end into
 * its answers.  The worker of the stream.
 */
#include <event2/buffer.h>

#include "bosh_private.h"

static struct bosh_session *
session_of(const struct iris_carrier *carrier)
{
	return IRIS_CONTAINER(carrier, struct bosh_session, carrier);
}

/* XEP-0124 §17.2: some stream errors have a condition of their own. */
static const char *
bosh_condition(struct iris_str error)
{
	static const char *const own[] = { "host-gone",		  "host-unknown",
					   "improper-addressing", "internal-server-error",
					   "policy-violation",	  "see-other-host",
					   "system-shutdown" };

	for (size_t i = 0; i < IRIS_COUNT(own); i++)
		if (memmem(error.base, error.len, own[i], strlen(own[i])))
			return own[i];
	return "remote-stream-error";
}

static void
bosh_send(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str text)
{
	struct bosh_session *session = session_of(carrier);

	if (session->ending || session->lost || unit == IRIS_UNIT_OPEN || unit == IRIS_UNIT_CLOSE ||
	    unit == IRIS_UNIT_SPACE)
		return;
	if (unit == IRIS_UNIT_ERROR)
		session->condition = bosh_condition(text);
	if (!session->output)
		session->output = evbuffer_new();
	IRIS_ASSERT(session->output && evbuffer_add(session->output, text.base, text.len) == 0);
	/* SECURITY: a client that does not come for what it is sent. */
	if (evbuffer_get_length(session->output) > (size_t)bosh_option(BOSH_OPT_OUTPUT))
		session->lost = "does not read";
	bosh_session_touch(session);
}

static size_t
bosh_pending(const struct iris_carrier *carrier)
{
	const struct bosh_session *session = session_of(carrier);

	return session->output ? evbuffer_get_length(session->output) : 0;
}

static void
bosh_pause(struct iris_carrier *carrier, bool paused)
{
	struct bosh_session *session = session_of(carrier);

	session->paused = paused;
	if (!paused)
		bosh_session_touch(session);
}

static void
bosh_finish(struct iris_carrier *carrier)
{
	struct bosh_session *session = session_of(carrier);

	session->ending = true;
	bosh_session_touch(session);
}

static void
bosh_free(struct iris_carrier *carrier)
{
	bosh_session_free(session_of(carrier));
}

static void
bosh_admit(struct iris_carrier *carrier)
{
	struct bosh_session *session = session_of(carrier);

	session->known = true;
	bosh_directory_admit(session);
}

static struct ssl_st *
bosh_ssl(const struct iris_carrier *carrier)
{
	return NULL; /* its requests come over many connections */
}

static bool
bosh_is_secure(const struct iris_carrier *carrier)
{
	return session_of(carrier)->secure;
}

static const char *
bosh_peer(const struct iris_carrier *carrier)
{
	return session_of(carrier)->peer;
}

static void
bosh_detach(struct iris_carrier *carrier)
{
	bosh_session_go(session_of(carrier));
}

static void
bosh_attach(struct iris_carrier *carrier)
{
	bosh_session_come(session_of(carrier));
}

const struct iris_carrier_ops bosh_carrier_ops = {
	.name = "bosh",
	.framed = true,
	.send = bosh_send,
	.pending = bosh_pending,
	.pause = bosh_pause,
	.finish = bosh_finish,
	.free = bosh_free,
	.admit = bosh_admit,
	.ssl = bosh_ssl,
	.is_secure = bosh_is_secure,
	.peer = bosh_peer,
	.detach = bosh_detach,
	.attach = bosh_attach,
};
