/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions at the home of their user: making one, delivering to it, taking its stream away and
 * giving it another (XEP-0198 does), and session_close(), the only way out.  What a client sends
 * is handled in c2s.c.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/auth.h"
#include "module_private.h"
#include "stream_private.h"

struct session_block { /* one allocation */
	struct iris_session session;
	struct iris_session_private private_;
};

#define SLOT_CHUNK 16
#define SLOT_CHUNKS ((MODULES_MAX + SLOT_CHUNK - 1) / SLOT_CHUNK)

static struct iris_metric session_metrics[] = {
	{ .name = "iris_sessions",
	  .kind = IRIS_GAUGE,
	  .help = "Sessions of users, detached ones included" },
	{ .name = "iris_sessions_detached",
	  .kind = IRIS_GAUGE,
	  .help = "Sessions that wait to be resumed" },
	{ .name = "iris_deliveries_total",
	  .kind = IRIS_COUNTER,
	  .help = "Stanzas handed to a session" },
	{ .name = NULL },
};
enum { METRIC_SESSIONS, METRIC_DETACHED, METRIC_DELIVERIES };

/* --- memory of modules --- */

void **
slots_get(void ***slots_p, unsigned index)
{
	void **chunks = *slots_p;
	void **chunk;

	IRIS_ASSERT(index < MODULES_MAX);
	if (!chunks)
		chunks = *slots_p = iris_calloc(SLOT_CHUNKS, sizeof(void *));
	chunk = chunks[index / SLOT_CHUNK];
	if (!chunk)
		chunk = chunks[index / SLOT_CHUNK] = iris_calloc(SLOT_CHUNK, sizeof(void *));
	return &chunk[index % SLOT_CHUNK];
}

void
slots_free(void ***slots_p)
{
	void **chunks = *slots_p;

	*slots_p = NULL;
	if (!chunks)
		return;
	for (size_t i = 0; i < SLOT_CHUNKS; i++)
		free(chunks[i]);
	free(chunks);
}

void **
session_slot(struct iris_session *session, const struct iris_module_self *self)
{
	return slots_get(&session->slots, self->index);
}

/* --- life --- */

struct iris_session *
session_find(struct iris_str full)
{
	struct iris_hash_node *node = hash_find(&im_home()->sessions, full);

	return node ? IRIS_CONTAINER(node, struct iris_session, node) : NULL;
}

static void
session_free(struct iris_turn *turn)
{
	struct iris_session_private *private_ =
		IRIS_CONTAINER(turn, struct iris_session_private, free_turn);
	struct iris_session *session = private_->session;

	slots_free(&session->slots);
	user_release(&session->user);
	hash_free(&private_->directed);
	free(private_->last_status);
	free(IRIS_CONTAINER(session, struct session_block, session));
}

struct iris_session *
session_ref(struct iris_session *session)
{
	session->private_->refs++;
	return session;
}

/* Freed at the end of the turn: callers up the stack may still look at it. */
void
session_unref(struct iris_session **session_p)
{
	struct iris_session *session = *session_p;

	*session_p = NULL;
	IRIS_ASSERT(session->private_->refs > 0);
	if (--session->private_->refs == 0)
		worker_at_turn_end(&session->private_->free_turn);
}

static struct iris_session *
session_new(struct iris_user *user, const struct iris_jid *full)
{
	struct iris_str text = jid_full(full);
	struct session_block *block = iris_calloc(1, sizeof(*block) + text.len + 1);
	struct iris_session *session = &block->session;

	session->private_ = &block->private_;
	session->private_->session = session;
	session->private_->refs = 1; /* of the tables; session_close() drops it */
	session->private_->free_turn.fn = session_free;
	memcpy(session->private_->text, text.base, text.len);
	session->jid = *full;
	session->jid.base = session->private_->text;
	session->since_ms = session->active_ms = worker_wall_ms();
	session->user = user;
	user_hold(user);
	hash_insert(&im_home()->sessions, &session->node, jid_full(&session->jid));
	TAILQ_INSERT_TAIL(&user->sessions, session, link);
	user->session_count++;
	metric_add(&session_metrics[METRIC_SESSIONS], 1);
	return session;
}

struct iris_session *
session_create(struct iris_user *user, const struct iris_jid *full, struct iris_stream *stream,
	       struct iris_refusal *refusal_r)
{
	struct iris_session *session, *held;

	IRIS_ASSERT(!session_find(jid_full(full)));
	if (!user_is_ready(user) || im_home()->closing) {
		*refusal_r = (struct iris_refusal){ .condition = IRIS_NOT_ALLOWED };
		return NULL;
	}
	if (user->session_count >= (unsigned)user_option(USER_MAX_SESSIONS)) {
		*refusal_r = (struct iris_refusal){ .condition = IRIS_RESOURCE_CONSTRAINT,
			.text = "Too many sessions" };
		return NULL;
	}
	session = session_new(user, full);
	session->stream = stream;
	stream_set_session(stream, session);
	held = session_ref(session);
	hook_run_session_bound(session);
	if (session->closing) {
		*refusal_r = (struct iris_refusal){ .condition = IRIS_CONFLICT };
		session = NULL;
	}
	session_unref(&held);
	return session;
}

void
session_detach(struct iris_session *session)
{
	struct iris_stream *stream = session->stream;

	if (!stream)
		return;
	session->stream = NULL;
	stream_set_session(stream, NULL);
	metric_add(&session_metrics[METRIC_DETACHED], 1);
}

void
session_attach(struct iris_session *session, struct iris_stream *stream)
{
	IRIS_ASSERT(!session->stream && !session->closing);
	session->stream = stream;
	metric_add(&session_metrics[METRIC_DETACHED], -1);
	stream_set_session(stream, session);
	hook_run_session_resumed(session);
}

void
session_go_on(struct iris_session *session)
{
	if (session->stream)
		stream_go_on(session->stream);
}

/* --- delivery --- */

/*
 * Its client has said goodbye, or is gone, and the turn in which the session follows is not over.
 * One that acknowledges is treated as if it were there: what it gets now is handed on.
 */
static bool
session_is_leaving(const struct iris_session *session)
{
	return session->stream && !session->acknowledges && !stream_takes_output(session->stream);
}

void
session_deliver(struct iris_session *session, const struct iris_delivery *delivery)
{
	struct iris_session_delivery event = { session, delivery };

	if (session->closing)
		return;
	metric_add(&session_metrics[METRIC_DELIVERIES], 1);
	if (hook_is_used(IRIS_HOOK_ID_session_deliver) &&
	    hook_run_session_deliver(&event) != IRIS_PASS)
		return;
	if (session->closing || session_is_leaving(session)) { /* by what a hook let go before */
		if (delivery->stanza->kind == IRIS_MESSAGE)
			hook_run_delivery_lost(&event);
		return;
	}
	if (session->stream)
		stream_send_delivery(session->stream, delivery);
	if (hook_is_used(IRIS_HOOK_ID_session_sent))
		hook_run_session_sent(&event);
	if (!session->acknowledges && hook_is_used(IRIS_HOOK_ID_delivery_done))
		hook_run_delivery_done(&event);
}

void
session_send(struct iris_session *session, struct iris_stanza **stanza_p)
{
	struct iris_delivery delivery = { .stanza = *stanza_p };

	stanza_freeze(*stanza_p);
	session_deliver(session, &delivery);
	stanza_unref(stanza_p);
}

bool
session_takes_messages(const struct iris_session *session)
{
	return session->presence && session->priority >= 0 && !session->closing &&
	       !session_is_leaving(session);
}

/* --- the way out --- */

static void
session_end_stream(struct iris_session *session, const char *condition, const char *text)
{
	struct iris_stream *stream = session->stream;

	if (!stream) {
		metric_add(&session_metrics[METRIC_DETACHED], -1);
		return;
	}
	session->stream = NULL;
	stream_set_session(stream, NULL);
	if (stream_state(stream) >= IRIS_STREAM_CLOSING)
		return;
	if (condition)
		stream_error(stream, condition, text);
	else
		stream_close(stream);
}

void
session_close(struct iris_session *session, const char *condition, const char *text)
{
	struct iris_user *user = session->user;

	if (session->closing)
		return;
	bool before = transit_begin(false); /* it may end by what is in transit, and is not */
	session->closing = true; /* from here on nothing is delivered to it */
	presence_end(session);
	hash_remove(&im_home()->sessions, &session->node);
	TAILQ_REMOVE(&user->sessions, session, link);
	user->session_count--;
	/* It is found no more: what the hook hands on goes to the other sessions, or offline. */
	hook_run_session_close(session);
	session_end_stream(session, condition, text);
	if (user->session_count == 0 && user_is_ready(user))
		accounts()->logged_out(user, str_from(session->private_->last_status));
	metric_add(&session_metrics[METRIC_SESSIONS], -1);
	session_unref(&session);
	transit_end(before);
}

void
session_stream_ended(struct iris_stream *stream, bool orderly)
{
	struct iris_session *session = stream_session(stream);

	if (!session || session->closing)
		return;
	if (!orderly && hook_run_stream_lost(stream) == IRIS_DONE && !session->stream)
		return;
	session_close(session, NULL, NULL);
}

static struct iris_module_self session_self;

const struct iris_module iris_module_session = {
	IRIS_MODULE_HEAD,
	.name = "session",
	.summary = "Sessions of clients: delivery, hand-over to another stream, the way out",
	.needs = IRIS_NAMES("user"),
	.self = &session_self,
	.metrics = session_metrics,
	.not_unloadable = true,
};
