/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0352 1.0: Client State Indication.  Home worker of the session.
 *
 * While a client is inactive, what can wait is held: presence (of each sender only the newest)
 * and messages that carry nothing to read.  Anything else goes out at once, and what was held
 * goes before it, so that order is kept.  Becoming active, losing the stream or reaching the
 * limit lets all go.
 */
#include <stdlib.h>

#include "iris/module.h"
#include "xep/payloads.h"

#define NS_CSI "urn:xmpp:csi:0"

enum { OPT_HELD_MAX };

/* The text of `to` and `extra` lies behind it. */
struct csi_held {
	TAILQ_ENTRY(csi_held) link;
	struct iris_hash_node node; /* of presence: by the sender's full JID */
	bool is_presence;
	struct iris_delivery delivery;
};

/* Made when a session first says that it is inactive. */
struct csi {
	bool inactive, flushing;
	size_t count;
	TAILQ_HEAD(, csi_held) held;
	struct iris_hash presences;
};

static struct iris_module_self csi_self;

static struct iris_metric csi_metrics[] = {
	{ .name = "iris_csi_held_total", .help = "Stanzas held for inactive clients" },
	{ .name = "iris_csi_replaced_total",
	  .help = "Held presences replaced by newer ones, never sent" },
	{ .name = NULL },
};

static struct csi *
csi_of(struct iris_session *session)
{
	return *session_slot(session, &csi_self);
}

/* Takes the first one out, or any; NULL: none is left. */
static struct csi_held *
csi_held_take(struct csi *csi, struct csi_held *held)
{
	if (!held)
		return NULL;
	TAILQ_REMOVE(&csi->held, held, link);
	if (held->is_presence)
		hash_remove(&csi->presences, &held->node);
	csi->count--;
	return held;
}

static void
csi_held_free(struct csi_held *held)
{
	delivery_let_go(&held->delivery);
	free(held);
}

/*
 * What goes out may be what closes the session (XEP-0198's limit): its slot is looked at each
 * time.
 */
static void
csi_flush(struct iris_session *session)
{
	struct csi_held *held;
	struct csi *csi;

	while ((csi = csi_of(session)) != NULL &&
	       (held = csi_held_take(csi, TAILQ_FIRST(&csi->held))) != NULL) {
		csi->flushing = true;
		session_deliver(session, &held->delivery);
		csi_held_free(held);
	}
	if (csi)
		csi->flushing = false;
}

/* Is there anything in it that a person would want to see now? */
static bool
csi_can_wait(const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;

	if (stanza->kind == IRIS_PRESENCE)
		return stanza->type == IRIS_AVAILABLE || stanza->type == IRIS_UNAVAILABLE;
	/* What is kept is owed to the client; what is held goes with its session. */
	if (stanza->kind == IRIS_IQ || stanza->type == IRIS_ERROR || delivery->log_id)
		return false;
	ELEMENT_FOREACH(child, stanza->root) {
		if (!payload_is_chat_state(child) && !payload_is_hint(child) &&
		    !element_is(child, "thread", NULL))
			return false;
	}
	return true;
}

static void
csi_hold(struct csi *csi, const struct iris_delivery *delivery)
{
	struct iris_str from = jid_full(&delivery->stanza->from);
	struct csi_held *held = iris_calloc(1, sizeof(*held) + delivery_text(delivery));
	struct iris_hash_node *older;

	delivery_keep(&held->delivery, delivery, (char *)(held + 1));
	held->is_presence = delivery->stanza->kind == IRIS_PRESENCE && from.base;
	if (held->is_presence && (older = hash_find(&csi->presences, from)) != NULL) {
		csi_held_free(csi_held_take(csi, IRIS_CONTAINER(older, struct csi_held, node)));
		metric_add(&csi_metrics[1], 1);
	}
	if (held->is_presence)
		hash_insert(&csi->presences, &held->node, from);
	TAILQ_INSERT_TAIL(&csi->held, held, link);
	csi->count++;
	metric_add(&csi_metrics[0], 1);
}

static enum iris_verdict
csi_session_deliver(struct iris_session_delivery *arg)
{
	struct csi *csi = csi_of(arg->session);

	if (!csi || !csi->inactive || csi->flushing)
		return IRIS_PASS;
	if (csi_can_wait(arg->delivery) &&
	    csi->count < (size_t)option_int(&csi_self, OPT_HELD_MAX)) {
		csi_hold(csi, arg->delivery);
		return IRIS_DONE;
	}
	csi_flush(arg->session);
	return IRIS_PASS;
}

static void
csi_handle_inactive(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_session *session = stream_session(stream);
	struct csi *csi;

	if (!session) { /* of a component */
		stream_error(stream, "unsupported-stanza-type", NULL);
		return;
	}
	csi = csi_of(session);
	if (!csi) {
		csi = iris_calloc(1, sizeof(*csi));
		TAILQ_INIT(&csi->held);
		*session_slot(session, &csi_self) = csi;
	}
	csi->inactive = true;
}

static void
csi_activate(struct iris_session *session)
{
	struct csi *csi = csi_of(session);

	if (!csi)
		return;
	csi->inactive = false;
	csi_flush(session);
}

static void
csi_handle_active(struct iris_stream *stream, struct iris_element *element)
{
	if (stream_session(stream))
		csi_activate(stream_session(stream));
	else
		stream_error(stream, "unsupported-stanza-type", NULL);
}

/* §5: a new stream, resumed or not, starts active. What was held joins what is to be sent again. */
static enum iris_verdict
csi_stream_lost(struct iris_stream *stream)
{
	if (stream_session(stream))
		csi_activate(stream_session(stream));
	return IRIS_PASS;
}

static enum iris_verdict
csi_session_close(struct iris_session *session)
{
	struct csi *csi = csi_of(session);
	struct csi_held *held;

	if (!csi)
		return IRIS_PASS;
	while ((held = csi_held_take(csi, TAILQ_FIRST(&csi->held))) != NULL)
		csi_held_free(held);
	hash_free(&csi->presences);
	free(csi);
	*session_slot(session, &csi_self) = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
csi_stream_features(struct iris_stream_features *arg)
{
	if (stream_state(arg->stream) == IRIS_STREAM_AUTHENTICATED)
		element_add(arg->features, "csi", NS_CSI);
	return IRIS_PASS;
}

static enum iris_verdict
csi_bind_features(struct iris_inline *arg)
{
	element_set(element_add(arg->response, "feature", NULL), "var", IRIS_STR(NS_CSI));
	return IRIS_PASS;
}

/* Inside Bind 2 a client may say at once that it is inactive. */
static enum iris_verdict
csi_bind_request(struct iris_inline *arg)
{
	if (element_child(arg->request, "inactive", NS_CSI))
		csi_handle_inactive(arg->stream, NULL);
	return IRIS_PASS;
}

static const struct iris_stream_handler csi_elements[] = {
	{ "active", NS_CSI, 1u << IRIS_STREAM_BOUND, csi_handle_active },
	{ "inactive", NS_CSI, 1u << IRIS_STREAM_BOUND, csi_handle_inactive },
	{ .name = NULL },
};

static const struct iris_hook_handler csi_hooks[] = {
	HOOK(session_deliver, IRIS_LATE, csi_session_deliver),
	HOOK(session_close, IRIS_EARLY, csi_session_close),
	HOOK(stream_lost, IRIS_EARLY, csi_stream_lost),
	HOOK(stream_features, IRIS_NEUTRAL, csi_stream_features),
	HOOK(bind_features, IRIS_NEUTRAL, csi_bind_features),
	HOOK(bind_request, IRIS_LATE, csi_bind_request),
	HOOKS_END,
};

static const struct iris_option csi_options[] = {
	[OPT_HELD_MAX] = { "held-max", IRIS_OPT_INT, "200", .min = 0, .max = 10000,
			   .reloadable = true,
			   .help = "How many stanzas are held for an inactive client before all "
				   "are sent." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0352 = {
	IRIS_MODULE_HEAD,
	.name = "xep0352",
	.summary = "Client State Indication",
	.xep = "XEP-0352 1.0.0",
	.self = &csi_self,
	.options = csi_options,
	.elements = csi_elements,
	.hooks = csi_hooks,
	.metrics = csi_metrics,
	.not_unloadable = true,
};
