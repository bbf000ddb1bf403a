/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0352 1.0: Client State Indication.  Home worker of the session.
 *
 * What an inactive client is spared, by the table below (xep/README.md has it for people): presence
 * and events of nodes are held, of each sender or item only the newest; what is of the moment
 * (who is typing) is dropped; receipts are held.  Anything else goes out at once, and what
 * was held goes before it, so that order is kept (RFC 6120 §10.1).  Becoming active, and too much
 * of it, lets all go.  A session that waits for its client to come back (XEP-0198) is treated as
 * inactive, too: it is spared the same, and gets what was held after what it did not acknowledge.
 */
#include <stdlib.h>

#include "iris/module.h"
#include "xep/payloads.h"
#include "xep/xep0203_delay.h"
#include "xep/xep0352_csi.h"

#define NS_CSI "urn:xmpp:csi:0"
/* Nodes of which each account has one item, whatever its id: tune, mood, activity, geoloc, nick */
#define NODES_OF_ONE "http://jabber.org/protocol/"
#define KEY_MAX 3200 /* a JID and a node of 1000 bytes; what is longer is not merged */

enum {
	OPT_HELD_MAX,
	OPT_HELD_SIZE,
	OPT_HOLD_PRESENCE,
	OPT_HOLD_EVENTS,
	OPT_DROP_CHAT_STATES,
};

enum csi_fate { CSI_NOW, CSI_HOLD, CSI_DROP };

/* The text of `to` and `extra`, and then the key, lie behind it. */
struct csi_held {
	TAILQ_ENTRY(csi_held) link;
	struct iris_hash_node node; /* by what a newer one replaces it, if key is not none */
	struct iris_str key;
	size_t size;
	struct iris_delivery delivery;
};

/* Made when a session first says that it is inactive, or loses its stream. */
struct csi {
	bool inactive; /* said so by the client */
	bool away;     /* without a stream */
	bool flushing;
	int64_t active_since; /* 0: it was never inactive before */
	size_t count, size;
	TAILQ_HEAD(, csi_held) held;
	struct iris_hash keys;
};

static struct iris_module_self csi_self;

enum { METRIC_HELD, METRIC_REPLACED, METRIC_DROPPED, METRIC_SENT };
static struct iris_metric csi_metrics[] = {
	[METRIC_HELD] = { .name = "iris_csi_held_total",
			  .help = "Stanzas held for inactive clients" },
	[METRIC_REPLACED] = { .name = "iris_csi_replaced_total",
			      .help = "Held stanzas replaced by newer ones, never sent" },
	[METRIC_DROPPED] = { .name = "iris_csi_dropped_total",
			     .help = "Stanzas of the moment that inactive clients were spared" },
	[METRIC_SENT] = { .name = "iris_csi_sent_total",
			  .help = "Held stanzas that were sent at last" },
	{ .name = NULL },
};

static struct csi *
csi_of(struct iris_session *session)
{
	return *session_slot(session, &csi_self);
}

static struct csi *
csi_make(struct iris_session *session)
{
	struct csi *csi = csi_of(session);

	if (csi)
		return csi;
	csi = iris_calloc(1, sizeof(*csi));
	TAILQ_INIT(&csi->held);
	*session_slot(session, &csi_self) = csi;
	return csi;
}

bool
csi_is_inactive(struct iris_session *session)
{
	struct csi *csi = csi_of(session);

	return csi && csi->inactive;
}

int64_t
csi_active_since(struct iris_session *session)
{
	struct csi *csi = csi_of(session);

	return csi ? csi->active_since : 0;
}

/* --- what may wait --- */

static enum csi_fate
csi_judge_presence(const struct iris_stanza *stanza)
{
	struct iris_element *x = message_room_mark(stanza->root);

	if (stanza->type != IRIS_AVAILABLE && stanza->type != IRIS_UNAVAILABLE)
		return CSI_NOW;
	/* XEP-0045: of oneself (110): a room is entered now, or left, and not by one's own will */
	for (struct iris_element *status = x ? element_child(x, "status", NULL) : NULL; status;
	     status = element_next(status, "status", NULL)) {
		if (str_is(element_get(status, "code"), "110"))
			return CSI_NOW;
	}
	return option_bool(&csi_self, OPT_HOLD_PRESENCE) ? CSI_HOLD : CSI_NOW;
}

static bool
csi_is_of_one(struct iris_str node)
{
	size_t len = strlen(NODES_OF_ONE);

	return node.len >= len && memcmp(node.base, NODES_OF_ONE, len) == 0;
}

/*
 * What the person does with another device (what was read, bookmarks) is rare, and what was read
 * there must not go on ringing here.
 */
static enum csi_fate
csi_judge_event(const struct iris_session *session, const struct iris_stanza *stanza,
		const struct iris_element *event)
{
	struct iris_element *what = event->first;

	if (!option_bool(&csi_self, OPT_HOLD_EVENTS))
		return CSI_NOW;
	if (jid_bare_equal(&stanza->from, &session->user->jid) &&
	    !(what && csi_is_of_one(element_get(what, "node"))))
		return CSI_NOW;
	return CSI_HOLD;
}

/* A payload of a message that says nothing by itself */
static bool
csi_is_silent(const struct iris_element *payload)
{
	return payload_is_hint(payload) || element_is(payload, "thread", NULL) ||
	       str_is(payload->ns, NS_DELAY) || str_is(payload->ns, NS_SID);
}

static enum csi_fate
csi_judge_payload(const struct iris_session *session, const struct iris_stanza *stanza,
		  const struct iris_element *payload)
{
	if (csi_is_silent(payload) || payload_is_receipt(payload))
		return CSI_HOLD;
	if (payload_is_of_the_moment(payload))
		return option_bool(&csi_self, OPT_DROP_CHAT_STATES) ? CSI_DROP : CSI_HOLD;
	if (payload_is_node_event(payload))
		return csi_judge_event(session, stanza, payload);
	return CSI_NOW;
}

/* XEP-0280: the copied message; or the one given */
static const struct iris_element *
csi_message_inside(const struct iris_element *message)
{
	struct iris_element *copied = element_child(message, NULL, NS_CARBONS);
	struct iris_element *forwarded = copied ? element_child(copied, "forwarded", NULL) : NULL;
	struct iris_element *inside = forwarded ? element_child(forwarded, "message", NULL) : NULL;

	return inside ? inside : message;
}

/* Dropped is what has something of the moment, and else only what says nothing by itself. */
static enum csi_fate
csi_judge_message(const struct iris_session *session, const struct iris_stanza *stanza)
{
	bool drop = false, hold = false;

	ELEMENT_FOREACH(child, csi_message_inside(stanza->root)) {
		enum csi_fate fate = csi_judge_payload(session, stanza, child);

		if (fate == CSI_NOW)
			return CSI_NOW;
		drop = drop || fate == CSI_DROP;
		hold = hold || (fate == CSI_HOLD && !csi_is_silent(child));
	}
	return drop && !hold ? CSI_DROP : CSI_HOLD;
}

static enum csi_fate
csi_judge(const struct iris_session *session, const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;

	if (stanza->kind == IRIS_PRESENCE)
		return csi_judge_presence(stanza);
	/* What is kept is owed to the client; what is held goes with its session. */
	if (stanza->kind == IRIS_IQ || stanza->type == IRIS_ERROR || delivery->log_id)
		return CSI_NOW;
	return csi_judge_message(session, stanza);
}

/* --- what replaces what --- */

/* Of an event about one item: its sender, node and (unless there can be one only) its id. */
static bool
csi_write_event_key(struct iris_strbuf *key, const struct iris_element *event)
{
	struct iris_element *what = event->first, *item = what ? what->first : NULL;
	struct iris_str node = what ? element_get(what, "node") : IRIS_STR_NONE;

	if (!what || what->next || str_is_none(node))
		return false;
	strbuf_printf(key, "\n%.*s", IRIS_STR_FMT(node));
	if (!element_is(what, "items", NULL)) { /* purge, delete, configuration */
		strbuf_printf(key, "\n\n%.*s", IRIS_STR_FMT(what->name));
		return true;
	}
	if (!item || item->next)
		return false;
	if (!csi_is_of_one(node))
		strbuf_printf(key, "\n%.*s", IRIS_STR_FMT(element_get(item, "id")));
	return true;
}

/* None: it is held beside all others. Newlines are in no JID. */
static struct iris_str
csi_key(struct iris_arena *arena, const struct iris_stanza *stanza)
{
	struct iris_strbuf key = STRBUF_INIT(arena);
	struct iris_element *event = NULL;

	if (jid_is_none(&stanza->from))
		return IRIS_STR_NONE;
	strbuf_add(&key, jid_full(&stanza->from));
	if (stanza->kind == IRIS_PRESENCE)
		return strbuf_str(&key);
	ELEMENT_FOREACH(child, stanza->root) {
		if (payload_is_receipt(child))
			return IRIS_STR_NONE;
		if (payload_is_node_event(child))
			event = child;
	}
	if (event && csi_write_event_key(&key, event) && key.len <= KEY_MAX)
		return strbuf_str(&key);
	return IRIS_STR_NONE;
}

/* --- holding --- */

static struct csi_held *
csi_held_take(struct csi *csi, struct csi_held *held)
{
	if (!held)
		return NULL;
	TAILQ_REMOVE(&csi->held, held, link);
	if (held->key.base)
		hash_remove(&csi->keys, &held->node);
	csi->count--;
	csi->size -= held->size;
	return held;
}

static void
csi_held_free(struct csi_held *held)
{
	delivery_let_go(&held->delivery);
	free(held);
}

/* It may wait for hours: as little memory as it needs, apart from others' stanzas. */
static struct csi_held *
csi_held_new(const struct iris_delivery *delivery, struct iris_str key)
{
	size_t text = delivery_text(delivery);
	struct csi_held *held = iris_calloc(1, sizeof(*held) + text + key.len);
	struct iris_delivery compact = *delivery;

	compact.stanza = stanza_compact(delivery->stanza);
	delivery_keep(&held->delivery, &compact, (char *)(held + 1));
	held->size = sizeof(*held) + text + key.len + arena_size(compact.stanza->arena);
	stanza_unref(&compact.stanza);
	if (key.base) {
		memcpy((char *)(held + 1) + text, key.base, key.len);
		held->key = (struct iris_str){ (char *)(held + 1) + text, key.len };
	}
	return held;
}

static void
csi_hold(struct csi *csi, const struct iris_delivery *delivery)
{
	struct iris_arena *arena = arena_new();
	struct csi_held *held = csi_held_new(delivery, csi_key(arena, delivery->stanza));
	struct iris_hash_node *older;

	arena_unref(&arena);
	if (held->key.base && (older = hash_find(&csi->keys, held->key)) != NULL) {
		csi_held_free(csi_held_take(csi, IRIS_CONTAINER(older, struct csi_held, node)));
		metric_add(&csi_metrics[METRIC_REPLACED], 1);
	}
	if (held->key.base)
		hash_insert(&csi->keys, &held->node, held->key);
	TAILQ_INSERT_TAIL(&csi->held, held, link);
	csi->count++;
	csi->size += held->size;
	metric_add(&csi_metrics[METRIC_HELD], 1);
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
		metric_add(&csi_metrics[METRIC_SENT], 1);
	}
	if (csi)
		csi->flushing = false;
}

/* SECURITY: whoever sends much to somebody who sleeps must not fill our memory. */
static bool
csi_has_room(const struct csi *csi)
{
	return csi->count < (size_t)option_int(&csi_self, OPT_HELD_MAX) &&
	       csi->size < (size_t)option_int(&csi_self, OPT_HELD_SIZE);
}

static enum iris_verdict
csi_session_deliver(struct iris_session_delivery *arg)
{
	struct csi *csi = csi_of(arg->session);
	enum csi_fate fate;

	if (!csi || !(csi->inactive || csi->away) || csi->flushing)
		return IRIS_PASS;
	fate = csi_judge(arg->session, arg->delivery);
	if (fate == CSI_DROP) {
		metric_add(&csi_metrics[METRIC_DROPPED], 1);
		return IRIS_DONE;
	}
	if (fate == CSI_HOLD && option_int(&csi_self, OPT_HELD_MAX) > 0) {
		if (!csi_has_room(csi))
			csi_flush(arg->session);
		csi = csi_of(arg->session);
		if (csi) {
			csi_hold(csi, arg->delivery);
			return IRIS_DONE;
		}
	}
	csi_flush(arg->session);
	return IRIS_PASS;
}

static void
csi_handle_inactive(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_session *session = stream_session(stream);

	if (!session) { /* of a component */
		stream_error(stream, "unsupported-stanza-type", NULL);
		return;
	}
	csi_make(session)->inactive = true;
}

static void
csi_activate(struct iris_session *session)
{
	struct csi *csi = csi_of(session);

	if (!csi)
		return;
	csi->inactive = csi->away = false;
	csi->active_since = worker_wall_ms();
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

/* Should nobody keep the session, it closes right now, and what is held goes with it. */
static enum iris_verdict
csi_stream_lost(struct iris_stream *stream)
{
	if (stream_session(stream))
		csi_make(stream_session(stream))->away = true;
	return IRIS_PASS;
}

/* §5: a new stream, resumed or not, starts active. What was held follows what was sent again. */
static enum iris_verdict
csi_session_resumed(struct iris_session *session)
{
	csi_activate(session);
	return IRIS_PASS;
}

/* After XEP-0198, since what was held is younger than what was sent and is not acknowledged. */
static enum iris_verdict
csi_session_close(struct iris_session *session)
{
	struct csi *csi = csi_of(session);
	struct csi_held *held;

	if (!csi)
		return IRIS_PASS;
	*session_slot(session, &csi_self) = NULL;
	while ((held = csi_held_take(csi, TAILQ_FIRST(&csi->held))) != NULL) {
		if (held->delivery.stanza->kind == IRIS_MESSAGE)
			hook_run_delivery_lost(
				&(struct iris_session_delivery){ session, &held->delivery });
		csi_held_free(held);
	}
	hash_free(&csi->keys);
	free(csi);
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
	HOOK(session_close, IRIS_OBSERVE, csi_session_close),
	HOOK(session_resumed, IRIS_LATE, csi_session_resumed),
	HOOK(stream_lost, IRIS_EARLY, csi_stream_lost),
	HOOK(stream_features, IRIS_NEUTRAL, csi_stream_features),
	HOOK(bind_features, IRIS_NEUTRAL, csi_bind_features),
	HOOK(bind_request, IRIS_LATE, csi_bind_request),
	HOOKS_END,
};

static const struct iris_option csi_options[] = {
	[OPT_HELD_MAX] = { "held-max", IRIS_OPT_INT, "1000", .max = 10000, .reloadable = true,
			   .help = "How many stanzas are held for an inactive client before all "
				   "are sent; 0 holds none." },
	[OPT_HELD_SIZE] = { "held-size", IRIS_OPT_SIZE, "512 KiB", .min = 16384,
			    .max = 67108864, .reloadable = true,
			    .help = "How much memory they may take." },
	[OPT_HOLD_PRESENCE] = { "hold-presence", IRIS_OPT_BOOL, "true", .reloadable = true,
				.help = "Hold presence: of each sender only the newest." },
	[OPT_HOLD_EVENTS] = { "hold-events", IRIS_OPT_BOOL, "true", .reloadable = true,
			      .help = "Hold what nodes publish: of each item only the newest." },
	[OPT_DROP_CHAT_STATES] = { "drop-chat-states", IRIS_OPT_BOOL, "true", .reloadable = true,
				   .help = "Drop who is typing; else it is held." },
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
