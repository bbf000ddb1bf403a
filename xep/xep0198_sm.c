/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0198 1.6: Stream Management.  Home worker of the session.
 *
 * What a client sent counts as handled when everything it caused to be written is committed: each
 * stanza has a ticket, and h moves over the tickets in order.  What was sent to a client is
 * kept until it acknowledges; a stream that is lost leaves the session detached for a
 * while, and what is then still unacknowledged is handed on by the hook delivery_lost, once.
 *
 * It does not do: streams between servers (modules/federation/acks.c).
 */
#include <stdlib.h>

#include "iris/module.h"
#include "xep/xep0198_ask.h"
#include "xep/xep0198_sm.h"

enum { OPT_RESUME_TIMEOUT, OPT_QUEUE_STANZAS, OPT_QUEUE_SIZE, OPT_ANSWER_DELAY };

/* A stanza of the client whose writes are not all committed. */
struct sm_inbound {
	TAILQ_ENTRY(sm_inbound) link;
	struct sm *sm; /* counted */
	bool done;
};

/* A stanza that the client has not acknowledged. The text of `to` and `extra` lies behind it. */
struct sm_outbound {
	TAILQ_ENTRY(sm_outbound) link;
	struct iris_delivery delivery;
	size_t size;
};

/*
 * One enabled session. Counted: by the session's slot, and by each ticket under way. Home worker
 * only.
 */
struct sm {
	unsigned refs;
	struct iris_session *session; /* NULL once closed */
	struct iris_hash_node node;   /* by id, while resumable */
	char *id;                     /* NULL: cannot be resumed */
	int64_t resume_ms;
	TAILQ_HEAD(, sm_inbound) inbound;
	uint32_t handled;             /* h: committed stanzas of the client */
	uint32_t received;            /* handled, or being handled */
	bool failed;                  /* a write failed: h stands still, the stream is ended */
	TAILQ_HEAD(, sm_outbound) outbound;
	uint32_t acked;               /* what the client last said */
	size_t out_count, out_size;
	struct sm_ask ask;
	bool answer_owed;             /* an <a/> is due when h reaches answer_for */
	uint32_t answer_for;
	struct iris_wait *drained;    /* a resumption waits until all is committed */
	struct iris_timer answer_timer, resume_timer;
};

static struct iris_module_self sm_self;
static struct iris_hash sm_ids[WORKER_LIMIT]; /* by worker: sessions that can be resumed */

enum {
	METRIC_ENABLED,
	METRIC_RESUMED,
	METRIC_REFUSED,
	METRIC_DETACHED,
	METRIC_EXPIRED,
	METRIC_LOST
};
static struct iris_metric sm_metrics[] = {
	[METRIC_ENABLED] = { .name = "iris_sm_enabled_total",
			     .help = "Sessions that enabled stream management" },
	[METRIC_RESUMED] = { .name = "iris_sm_resumed_total", .help = "Sessions resumed" },
	[METRIC_REFUSED] = { .name = "iris_sm_refused_total",
			     .help = "Requests to enable or resume refused" },
	[METRIC_DETACHED] = { .name = "iris_sm_detached",
			      .kind = IRIS_GAUGE,
			      .help = "Sessions waiting for resumption" },
	[METRIC_EXPIRED] = { .name = "iris_sm_expired_total",
			     .help = "Sessions that were not resumed in time" },
	[METRIC_LOST] = { .name = "iris_sm_lost_total",
			  .help = "Unacknowledged messages of ended sessions, handed on" },
	{ .name = NULL },
};

static struct sm *
sm_of(struct iris_session *session)
{
	return session ? *session_slot(session, &sm_self) : NULL;
}

static void
sm_unref(struct sm *sm)
{
	if (--sm->refs > 0)
		return;
	IRIS_ASSERT(TAILQ_EMPTY(&sm->inbound) && TAILQ_EMPTY(&sm->outbound));
	free(sm->id);
	free(sm);
}

/* --- elements --- */

static void
sm_send(struct iris_stream *stream, const char *name, const char *attribute, int64_t value)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_new(arena, name, NS_SM);

	if (attribute)
		element_set_int(element, attribute, value);
	stream_send(stream, element);
	arena_unref(&arena);
}

static void
sm_fill_failed(struct iris_element *failed, enum iris_condition condition)
{
	element_add(failed, condition_name(condition), NS_STANZAS);
	metric_add(&sm_metrics[METRIC_REFUSED], 1);
}

static void
sm_send_failed(struct iris_stream *stream, enum iris_condition condition)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *failed = element_new(arena, "failed", NS_SM);

	sm_fill_failed(failed, condition);
	stream_send(stream, failed);
	arena_unref(&arena);
}

/* --- what the client sent: §4 --- */

static void
sm_answer(struct sm *sm)
{
	timer_stop(&sm->answer_timer);
	if (sm->session && sm->session->stream)
		sm_send(sm->session->stream, "a", "h", sm->handled);
}

/* The answer has waited long enough; another <a/> follows when the rest is committed. */
static void
sm_answer_late(void *arg)
{
	sm_answer(arg);
}

/* h has moved: say so when all that was asked about is committed. */
static void
sm_check_answer(struct sm *sm)
{
	struct iris_wait *wait = sm->drained;

	if (sm->answer_owed && (int32_t)(sm->handled - sm->answer_for) >= 0) {
		sm->answer_owed = false;
		sm_answer(sm);
	}
	if (wait && TAILQ_EMPTY(&sm->inbound)) {
		sm->drained = NULL;
		wait_done(wait);
	}
}

static void sm_write_failed(struct sm *sm);

static void
sm_advance(struct sm *sm)
{
	struct sm_inbound *first;

	while ((first = TAILQ_FIRST(&sm->inbound)) && first->done) {
		TAILQ_REMOVE(&sm->inbound, first, link);
		free(first);
		sm->refs--; /* never the last: the caller holds one */
		if (!sm->failed)
			sm->handled++;
	}
}

static void
sm_inbound_done(void *arg, bool failed)
{
	struct sm_inbound *inbound = arg;
	struct sm *sm = inbound->sm;

	sm->refs++;
	inbound->done = true;
	if (failed)
		sm_write_failed(sm);
	sm_advance(sm);
	sm_check_answer(sm);
	sm_unref(sm);
}

static enum iris_verdict
sm_stanza_ticket(struct iris_stream_ticket *arg)
{
	struct sm *sm = sm_of(stream_session(arg->stream));
	struct sm_inbound *inbound;

	if (!sm || arg->ticket)
		return IRIS_PASS;
	inbound = iris_calloc(1, sizeof(*inbound));
	inbound->sm = sm;
	sm->refs++;
	sm->received++;
	TAILQ_INSERT_TAIL(&sm->inbound, inbound, link);
	arg->ticket = ticket_new(sm_inbound_done, inbound);
	return IRIS_PASS;
}

/* <r/>: answered at once when all is committed, else after a short while with what is by then. */
static void
sm_handle_r(struct iris_stream *stream, struct iris_element *element)
{
	struct sm *sm = sm_of(stream_session(stream));

	if (!sm) {
		stream_error(stream, "unsupported-stanza-type", "stream management is not enabled");
		return;
	}
	if (sm->handled == sm->received) {
		sm_answer(sm);
		return;
	}
	sm->answer_owed = true;
	sm->answer_for = sm->received;
	if (!timer_is_running(&sm->answer_timer))
		timer_start(&sm->answer_timer, option_int(&sm_self, OPT_ANSWER_DELAY),
			    sm_answer_late, sm);
}

/* --- what the client gets: §4 --- */

static void
sm_outbound_free(struct sm *sm, struct sm_outbound *item)
{
	TAILQ_REMOVE(&sm->outbound, item, link);
	sm->out_count--;
	sm->out_size -= item->size;
	delivery_let_go(&item->delivery);
	free(item);
}

/* SECURITY: a client that never acknowledges must not make us keep everything it is sent. */
static bool
sm_is_over(const struct sm *sm, size_t stanzas, size_t size)
{
	return sm->out_count > stanzas || sm->out_size > size;
}

/* Tells the others how full the queue is. True: too full. */
static bool
sm_check_limit(struct sm *sm)
{
	size_t stanzas = (size_t)option_int(&sm_self, OPT_QUEUE_STANZAS);
	size_t size = (size_t)option_int(&sm_self, OPT_QUEUE_SIZE);

	sm->session->congested = sm_is_over(sm, stanzas / 2, size / 2);
	return sm_is_over(sm, stanzas, size);
}

/* Everything up to h is the client's. False: h is more than was sent. */
static bool
sm_acknowledge(struct sm *sm, uint32_t h)
{
	uint32_t count = h - sm->acked;
	struct sm_outbound *item;

	if (count > sm->out_count)
		return false;
	sm->acked = h;
	while (count-- > 0) {
		item = TAILQ_FIRST(&sm->outbound);
		hook_run_delivery_done(
			&(struct iris_session_delivery){ sm->session, &item->delivery });
		sm_outbound_free(sm, item);
	}
	(void)sm_check_limit(sm); /* there is more room now */
	return true;
}

/* §6: undefined-condition with <handled-count-too-high/>. */
static void
sm_error_too_high(struct iris_stream *stream, struct sm *sm, uint32_t h)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *app = element_new(arena, "handled-count-too-high", NS_SM);

	element_set_int(app, "h", h);
	element_set_int(app, "send-count", (uint32_t)(sm->acked + sm->out_count));
	stream_error_app(stream, "undefined-condition", "more was acknowledged than was sent", app);
	arena_unref(&arena);
}

static bool
sm_parse_h(const struct iris_element *element, uint32_t *h_r)
{
	int64_t value;

	if (!str_to_int(element_get(element, "h"), 0, UINT32_MAX, &value))
		return false;
	*h_r = (uint32_t)value;
	return true;
}

static void
sm_handle_a(struct iris_stream *stream, struct iris_element *element)
{
	struct sm *sm = sm_of(stream_session(stream));
	uint32_t h;

	if (!sm || !sm_parse_h(element, &h)) {
		stream_error(stream, sm ? "invalid-xml" : "unsupported-stanza-type", NULL);
		return;
	}
	if (sm_acknowledge(sm, h))
		sm_ask_answered(&sm->ask);
	else
		sm_error_too_high(stream, sm, h);
}

static void
sm_send_r(struct sm_ask *ask)
{
	struct sm *sm = IRIS_CONTAINER(ask, struct sm, ask);

	if (sm->session && sm->session->stream)
		sm_send(sm->session->stream, "r", NULL, 0);
}

static void
sm_enqueue(struct sm *sm, const struct iris_delivery *delivery)
{
	size_t text = delivery_text(delivery);
	struct sm_outbound *item = iris_malloc(sizeof(*item) + text);

	delivery_keep(&item->delivery, delivery, (char *)(item + 1));
	item->size = sizeof(*item) + text + arena_size(delivery->stanza->arena);
	TAILQ_INSERT_TAIL(&sm->outbound, item, link);
	sm->out_count++;
	sm->out_size += item->size;
}

static enum iris_verdict
sm_session_sent(struct iris_session_delivery *arg)
{
	struct sm *sm = sm_of(arg->session);

	if (!sm || arg->session->closing)
		return IRIS_PASS;
	sm_enqueue(sm, arg->delivery);
	if (sm_check_limit(sm))
		session_close(arg->session, "policy-violation", "too many unacknowledged stanzas");
	else if (arg->session->stream)
		sm_ask_sent(&sm->ask);
	return IRIS_PASS;
}

/* --- enabling: §3 --- */

static bool
sm_wants_resumption(const struct iris_element *enable)
{
	struct iris_str value = element_get(enable, "resume");

	return str_is(value, "true") || str_is(value, "1");
}

static void
sm_make_resumable(struct sm *sm, const struct iris_element *enable)
{
	struct iris_arena *arena = arena_new();
	int64_t max;

	sm->resume_ms = option_int(&sm_self, OPT_RESUME_TIMEOUT);
	if (str_to_int(element_get(enable, "max"), 1, INT32_MAX, &max) &&
	    max * 1000 < sm->resume_ms)
		sm->resume_ms = max * 1000;
	sm->id = str_dup(random_id(arena, 144)); /* SECURITY: the id cannot be guessed */
	hash_insert(&sm_ids[worker_index()], &sm->node, str_from(sm->id));
	arena_unref(&arena);
}

static void
sm_enable(struct iris_session *session, const struct iris_element *enable,
	  struct iris_element *enabled)
{
	struct sm *sm = iris_calloc(1, sizeof(*sm));

	sm->refs = 1;
	sm->session = session;
	sm_ask_init(&sm->ask, sm_send_r);
	TAILQ_INIT(&sm->inbound);
	TAILQ_INIT(&sm->outbound);
	*session_slot(session, &sm_self) = sm;
	session->acknowledges = true;
	stream_set_counting(session->stream, true);
	if (sm_wants_resumption(enable) && option_int(&sm_self, OPT_RESUME_TIMEOUT) > 0) {
		sm_make_resumable(sm, enable);
		element_set(enabled, "resume", IRIS_STR("true"));
		element_set(enabled, "id", str_from(sm->id));
		element_set_int(enabled, "max", sm->resume_ms / 1000);
	}
	metric_add(&sm_metrics[METRIC_ENABLED], 1);
}

static void
sm_handle_enable(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_session *session = stream_session(stream);
	struct iris_arena *arena;
	struct iris_element *enabled;

	if (!session) { /* §3: not before binding */
		sm_send_failed(stream, IRIS_UNEXPECTED_REQUEST);
		return;
	}
	if (sm_of(session)) { /* §3: and a second attempt ends the stream */
		sm_send_failed(stream, IRIS_UNEXPECTED_REQUEST);
		stream_error(stream, "policy-violation", "stream management is enabled already");
		return;
	}
	arena = arena_new();
	enabled = element_new(arena, "enabled", NS_SM);
	sm_enable(session, element, enabled);
	stream_send(stream, enabled);
	arena_unref(&arena);
}

/* --- losing a stream, and the end: §5 --- */

static void
sm_expired(void *arg)
{
	struct sm *sm = arg;

	metric_add(&sm_metrics[METRIC_EXPIRED], 1);
	session_close(sm->session, NULL, NULL);
}

static void
sm_await_resumption(struct sm *sm)
{
	timer_start(&sm->resume_timer, sm->resume_ms, sm_expired, sm);
	metric_add(&sm_metrics[METRIC_DETACHED], 1);
}

static void
sm_end_waiting(struct sm *sm)
{
	if (!timer_is_running(&sm->resume_timer))
		return;
	timer_stop(&sm->resume_timer);
	metric_add(&sm_metrics[METRIC_DETACHED], -1);
}

/* The session goes on without its stream, for a while. */
static void
sm_let_wait(struct sm *sm)
{
	sm->answer_owed = false;
	timer_stop(&sm->answer_timer);
	sm_ask_cancel(&sm->ask);
	session_detach(sm->session);
	sm_await_resumption(sm);
}

static enum iris_verdict
sm_stream_lost(struct iris_stream *stream)
{
	struct iris_session *session = stream_session(stream);
	struct sm *sm = sm_of(session);

	if (!sm || !sm->id || worker_is_stopping())
		return IRIS_PASS;
	sm_let_wait(sm);
	return IRIS_DONE;
}

/*
 * P7.2: what could not be written is not acknowledged. The session outlives the stream, so that
 * the client can resume it and send that again.
 */
static void
sm_write_failed(struct sm *sm)
{
	struct iris_stream *stream = sm->session ? sm->session->stream : NULL;

	if (sm->failed)
		return;
	sm->failed = true;
	if (!stream)
		return;
	if (sm->id && !sm->session->closing)
		sm_let_wait(sm);
	stream_error(stream, "internal-server-error", "storage failed");
}

/*
 * A request that nobody will answer gets an error; a message is passed on or kept by whoever does
 * that.
 */
static void
sm_hand_on(struct sm *sm, struct sm_outbound *item)
{
	struct iris_stanza *stanza = item->delivery.stanza, *error;

	if (stanza->kind == IRIS_MESSAGE) {
		hook_run_delivery_lost(
			&(struct iris_session_delivery){ sm->session, &item->delivery });
		metric_add(&sm_metrics[METRIC_LOST], 1);
	} else if (stanza->kind == IRIS_IQ && !jid_is_none(&stanza->from)) {
		/* A push of the server's own has no sender: nobody waits for an answer. */
		error = stanza_error(
			stanza, &(struct iris_refusal){ .condition = IRIS_RECIPIENT_UNAVAILABLE });
		if (error)
			route_stanza(&error, NULL);
	}
}

static enum iris_verdict
sm_session_close(struct iris_session *session)
{
	struct sm *sm = sm_of(session);
	struct sm_outbound *item;

	if (!sm)
		return IRIS_PASS;
	sm_end_waiting(sm);
	timer_stop(&sm->answer_timer);
	sm_ask_cancel(&sm->ask);
	while ((item = TAILQ_FIRST(&sm->outbound)) != NULL) {
		sm_hand_on(sm, item);
		sm_outbound_free(sm, item);
	}
	if (sm->id)
		hash_remove(&sm_ids[worker_index()], &sm->node);
	sm->session = NULL;
	*session_slot(session, &sm_self) = NULL;
	sm_unref(sm);
	return IRIS_PASS;
}

/* --- resuming: §5 --- */

static struct sm *
sm_find(struct iris_stream *stream, struct iris_str id)
{
	struct iris_hash_node *node = hash_find(&sm_ids[worker_index()], id);
	struct sm *sm = node ? IRIS_CONTAINER(node, struct sm, node) : NULL;

	/* SECURITY: an id is worth something only to the account it was given to. */
	if (!sm || !jid_bare_equal(&sm->session->jid, stream_jid(stream)))
		return NULL;
	return sm;
}

/* Ends the stream that the session still has (its connection may be dead without our knowing). */
static void
sm_cut_old_stream(struct sm *sm)
{
	struct iris_stream *old = sm->session->stream;

	if (!old)
		return;
	session_detach(sm->session);
	stream_error(old, "conflict", "the session was resumed on another stream");
}

/*
 * What the old stream brought must be committed before h is told, or the client would send it
 * again and it would be there twice.
 */
static void
sm_drain(struct sm *sm)
{
	struct iris_wait wait;

	if (TAILQ_EMPTY(&sm->inbound))
		return;
	wait_init(&wait);
	sm->drained = &wait;
	wait_for(&wait, "xep0198: commits of the lost stream");
}

/* May the session continue on this stream, its client having h? Moves the counters. */
static bool
sm_try_resume(struct sm *sm, struct iris_stream *stream, const struct iris_element *resume,
	      enum iris_condition *condition_r)
{
	uint32_t h;

	*condition_r = IRIS_BAD_REQUEST;
	if (!sm_parse_h(resume, &h))
		return false;
	sm_drain(sm);
	*condition_r = IRIS_ITEM_NOT_FOUND;
	if (!sm->session || sm->session->stream ||
	    stream_state(stream) != IRIS_STREAM_AUTHENTICATED)
		return false;
	*condition_r = IRIS_UNEXPECTED_REQUEST;
	if (!sm_acknowledge(sm, h))
		return false;
	sm->received = sm->handled;
	sm->failed = false;
	return true;
}

/* The session to continue on this stream, ready for session_attach(), or NULL and why. Waits. */
static struct iris_session *
sm_resume(struct iris_stream *stream, const struct iris_element *resume,
	  enum iris_condition *condition_r)
{
	struct sm *sm = sm_find(stream, element_get(resume, "previd"));
	struct iris_session *session = NULL;

	*condition_r = IRIS_ITEM_NOT_FOUND;
	if (!sm)
		return NULL;
	*condition_r = IRIS_RESOURCE_CONSTRAINT;
	if (sm->drained)
		return NULL; /* another stream is resuming it right now */
	sm->refs++;
	stream_ref(stream);
	sm_cut_old_stream(sm);
	sm_end_waiting(sm);
	if (sm_try_resume(sm, stream, resume, condition_r))
		session = sm->session;
	else if (sm->session && !sm->session->stream)
		sm_await_resumption(sm);
	stream_unref(&stream);
	sm_unref(sm);
	return session;
}

static void
sm_fill_resumed(struct iris_element *resumed, const struct sm *sm)
{
	element_set(resumed, "previd", str_from(sm->id));
	element_set_int(resumed, "h", sm->handled);
	metric_add(&sm_metrics[METRIC_RESUMED], 1);
}

static void
sm_handle_resume(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_arena *arena;
	struct iris_element *resumed;
	struct iris_session *session = NULL;
	enum iris_condition condition = IRIS_UNEXPECTED_REQUEST;

	if (stream_state(stream) == IRIS_STREAM_AUTHENTICATED)
		session = sm_resume(stream, element, &condition);
	if (!session) {
		sm_send_failed(stream, condition);
		return;
	}
	arena = arena_new();
	resumed = element_new(arena, "resumed", NS_SM);
	sm_fill_resumed(resumed, sm_of(session));
	stream_send(stream, resumed);
	arena_unref(&arena);
	session_attach(session, stream);
}

/* The session has a stream again: what the client has not acknowledged is sent once more. */
static enum iris_verdict
sm_session_resumed(struct iris_session *session)
{
	struct sm *sm = sm_of(session);
	struct sm_outbound *item;

	if (!sm)
		return IRIS_PASS;
	stream_set_counting(session->stream, true);
	TAILQ_FOREACH(item, &sm->outbound, link)
		stream_send_delivery(session->stream, &item->delivery);
	sm_ask_cancel(&sm->ask); /* what the old stream was asked is not answered any more */
	if (sm->out_count > 0)
		sm_ask_sent(&sm->ask);
	return IRIS_PASS;
}

/* --- announcing, alone and inside SASL2 and Bind 2: §9 --- */

static enum iris_verdict
sm_stream_features(struct iris_stream_features *arg)
{
	if (stream_state(arg->stream) == IRIS_STREAM_AUTHENTICATED)
		element_add(arg->features, "sm", NS_SM);
	return IRIS_PASS;
}

static enum iris_verdict
sm_inline_features(struct iris_inline *arg)
{
	element_add(arg->response, "sm", NS_SM);
	return IRIS_PASS;
}

static enum iris_verdict
sm_inline_request(struct iris_inline *arg)
{
	struct iris_element *resume = element_child(arg->request, "resume", NS_SM);
	struct iris_session *session;
	enum iris_condition condition;

	if (!resume || arg->resumed)
		return IRIS_PASS;
	session = sm_resume(arg->stream, resume, &condition);
	if (!session) {
		sm_fill_failed(element_add(arg->response, "failed", NS_SM), condition);
		return IRIS_PASS;
	}
	sm_fill_resumed(element_add(arg->response, "resumed", NS_SM), sm_of(session));
	arg->session = session;
	arg->resumed = true;
	return IRIS_PASS;
}

static enum iris_verdict
sm_bind_features(struct iris_inline *arg)
{
	element_set(element_add(arg->response, "feature", NULL), "var", IRIS_STR(NS_SM));
	return IRIS_PASS;
}

static enum iris_verdict
sm_bind_request(struct iris_inline *arg)
{
	struct iris_element *enable = element_child(arg->request, "enable", NS_SM);

	if (enable && !sm_of(arg->session))
		sm_enable(arg->session, enable, element_add(arg->response, "enabled", NS_SM));
	return IRIS_PASS;
}

/* --- the plug-in --- */

#define STATE(name) (1u << IRIS_STREAM_##name)

static const struct iris_stream_handler sm_elements[] = {
	{ "enable", NS_SM, STATE(AUTHENTICATED) | STATE(BOUND), sm_handle_enable },
	{ "resume", NS_SM, STATE(AUTHENTICATED) | STATE(BOUND), sm_handle_resume },
	{ "r", NS_SM, STATE(BOUND), sm_handle_r },
	{ "a", NS_SM, STATE(BOUND), sm_handle_a },
	{ .name = NULL },
};

static const struct iris_hook_handler sm_hooks[] = {
	HOOK(stanza_ticket, IRIS_NEUTRAL, sm_stanza_ticket),
	HOOK(session_sent, IRIS_NEUTRAL, sm_session_sent),
	HOOK(session_resumed, IRIS_EARLY, sm_session_resumed),
	HOOK(session_close, IRIS_LATE, sm_session_close),
	HOOK(stream_lost, IRIS_NEUTRAL, sm_stream_lost),
	HOOK(stream_features, IRIS_NEUTRAL, sm_stream_features),
	HOOK(inline_features, IRIS_NEUTRAL, sm_inline_features),
	HOOK(inline_request, IRIS_NEUTRAL, sm_inline_request),
	HOOK(bind_features, IRIS_NEUTRAL, sm_bind_features),
	HOOK(bind_request, IRIS_NEUTRAL, sm_bind_request),
	HOOKS_END,
};

static const struct iris_option sm_options[] = {
	[OPT_RESUME_TIMEOUT] = { "resume-timeout", IRIS_OPT_DURATION, "10 minutes", .max = 86400000,
				 .reloadable = true,
				 .help = "How long a session without a connection waits to be "
					 "resumed; 0 turns resumption off." },
	[OPT_QUEUE_STANZAS] = { "queue-stanzas", IRIS_OPT_INT, "2000", .min = 10, .max = 1000000,
				.reloadable = true,
				.help = "How many unacknowledged stanzas a session may have before "
					"it is closed." },
	[OPT_QUEUE_SIZE] = { "queue-size", IRIS_OPT_SIZE, "4 MiB", .min = 65536, .max = 1073741824,
			     .reloadable = true,
			     .help = "How much memory unacknowledged stanzas of a session may take "
				     "before it is closed." },
	[OPT_ANSWER_DELAY] = { "answer-delay", IRIS_OPT_DURATION, "100 ms", .min = 1, .max = 10000,
			       .reloadable = true,
			       .help = "How long a request for acknowledgement waits for writes "
				       "under way to be committed." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0198 = {
	IRIS_MODULE_HEAD,
	.name = "xep0198",
	.summary = "Stream Management",
	.xep = "XEP-0198 1.6",
	.self = &sm_self,
	.options = sm_options,
	.elements = sm_elements,
	.hooks = sm_hooks,
	.metrics = sm_metrics,
	.not_unloadable = true,
};
