/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions of BOSH (XEP-0124 §7–§14): requests are handled in the order of their ids, and answered
 * in that order, when there is something to say, when another request takes the place, or when the
 * time is over.  The worker of the stream; nothing here waits.
 *
 * What happens in a turn is collected, and said at its end.
 */
#include <event2/buffer.h>
#include <stdlib.h>

#include "bosh_private.h"

static _Thread_local struct iris_hash sessions; /* of this worker, by sid */

void
bosh_session_touch(struct bosh_session *session)
{
	worker_at_turn_end(&session->turn);
}

struct bosh_session *
bosh_session_find(struct iris_str sid)
{
	struct iris_hash_node *node = hash_find(&sessions, sid);

	return node ? IRIS_CONTAINER(node, struct bosh_session, node) : NULL;
}

static bool
bosh_session_is_polling(const struct bosh_session *session)
{
	return session->hold == 0 || session->wait_ms == 0;
}

/* --- answers --- */

/* Of the ring of the last answers; NULL: it is not there any more. */
static struct bosh_answer *
bosh_session_sent(const struct bosh_session *session, int64_t rid)
{
	for (unsigned i = 0; i < BOSH_REQUESTS_MAX; i++)
		if (session->sent[i].answer && session->sent[i].rid == rid)
			return session->sent[i].answer;
	return NULL;
}

/* Answers the first request that is held, with what there is to say. Takes the reference. */
static void
bosh_session_answer(struct bosh_session *session, struct bosh_answer *answer)
{
	struct bosh_request *request = TAILQ_FIRST(&session->held);

	TAILQ_REMOVE(&session->held, request, link);
	session->held_count--;
	bosh_answer_unref(&session->sent[session->sent_at].answer);
	session->sent[session->sent_at].rid = request->body.rid;
	session->sent[session->sent_at].answer = bosh_answer_ref(answer);
	session->sent_at = (session->sent_at + 1) % BOSH_REQUESTS_MAX;
	session->quiet_ms = worker_now_ms();
	if (answer->has_payload) /* §12: who got something may come again at once */
		session->empty_ms = 0;
	request->known = session->known;
	bosh_request_answer(request, answer);
}

static struct iris_str
bosh_session_attributes(struct bosh_session *session)
{
	if (session->greeted)
		return IRIS_STR_NONE;
	session->greeted = true;
	return session->greeting;
}

/* With the output, if there is any. */
static void
bosh_session_answer_output(struct bosh_session *session)
{
	struct evbuffer *output = session->output;
	struct iris_str payload = IRIS_STR_NONE;

	session->output = NULL;
	if (output) {
		payload.len = evbuffer_get_length(output);
		payload.base = (const char *)evbuffer_pullup(output, -1);
	}
	bosh_session_answer(session, bosh_answer_new(bosh_session_attributes(session), payload));
	if (output)
		evbuffer_free(output);
}

/* §13: the first one hears of the end, the others get an empty body. */
static void
bosh_session_answer_end(struct bosh_session *session)
{
	struct iris_str payload = IRIS_STR_NONE;

	while ((TAILQ_FIRST(&session->early)) != NULL) {
		struct bosh_request *request = TAILQ_FIRST(&session->early);

		TAILQ_REMOVE(&session->early, request, link);
		TAILQ_INSERT_TAIL(&session->held, request, link);
		session->held_count++;
	}
	session->early_count = 0;
	if (TAILQ_EMPTY(&session->held))
		return;
	if (session->output) {
		payload.len = evbuffer_get_length(session->output);
		payload.base = (const char *)evbuffer_pullup(session->output, -1);
	}
	bosh_session_answer(session, bosh_answer_end(session->condition, payload));
	while (!TAILQ_EMPTY(&session->held))
		bosh_session_answer(session, bosh_answer_new(IRIS_STR_NONE, IRIS_STR_NONE));
}

/* The client's fault: the session is over (§17.2). */
static void
bosh_session_fail(struct bosh_session *session, const char *condition)
{
	if (!session->condition)
		session->condition = condition;
	session->lost = condition;
	bosh_session_touch(session);
}

/* --- input --- */

static void
bosh_session_add_unit(struct bosh_session *session, struct iris_str text, bool is_header)
{
	struct bosh_unit *unit = iris_malloc(sizeof(*unit) + text.len);

	unit->is_header = is_header;
	unit->len = text.len;
	memcpy(unit->text, text.base, text.len);
	STAILQ_INSERT_TAIL(&session->input, unit, link);
}

/* XEP-0206 §3, §5: a new stream begins. */
static void
bosh_session_add_header(struct bosh_session *session, const struct bosh_body *body)
{
	struct iris_strbuf header = STRBUF_INIT(body->element->arena);

	strbuf_add(&header, IRIS_STR("<stream:stream xmlns='" NS_CLIENT "' xmlns:stream='" NS_STREAM
				     "' version='1.0'"));
	xml_add_attribute(&header, "to", body->to);
	xml_add_attribute(&header, "from", body->from);
	xml_add_attribute(&header, "xml:lang", body->lang);
	strbuf_add_char(&header, '>');
	bosh_session_add_unit(session, strbuf_str(&header), true);
}

static void
bosh_session_add_payload(struct bosh_session *session, const struct bosh_body *body)
{
	ELEMENT_FOREACH (child, body->element) {
		struct iris_strbuf text = STRBUF_INIT(child->arena);

		/* COMPAT: stanzas without a namespace of their own mean ours. */
		if (str_is(child->ns, NS_BOSH))
			child->ns = IRIS_STR(NS_CLIENT);
		element_write(&text, child, IRIS_STR_NONE);
		bosh_session_add_unit(session, strbuf_str(&text), false);
	}
}

void
bosh_session_feed(struct bosh_session *session)
{
	struct bosh_unit *unit;

	session->feeding = true;
	while (!session->paused && !session->freed &&
	       (unit = STAILQ_FIRST(&session->input)) != NULL) {
		STAILQ_REMOVE_HEAD(&session->input, link);
		if (!unit->is_header || stream_expects_header(session->stream))
			session->carrier.handler->input(session->carrier.owner, unit->text,
							unit->len);
		free(unit);
	}
	session->feeding = false;
	if (session->freed)
		bosh_session_free(session);
}

/* --- requests --- */

/* §12: a polling client that comes too often. */
static bool
bosh_session_is_hurried(struct bosh_session *session, const struct bosh_body *body)
{
	int64_t now = worker_now_ms(), before = session->empty_ms;
	bool is_empty =
		!body->element->first && !body->terminate && body->pause_s < 0 && !body->restart;

	session->empty_ms = is_empty ? now : 0;
	return is_empty && before != 0 && bosh_session_is_polling(session) &&
	       now - before < bosh_option(BOSH_OPT_POLLING);
}

/* §10: the client will not be there for a while; all that is held is given back. */
static void
bosh_session_pause(struct bosh_session *session, int64_t seconds)
{
	int64_t most = bosh_option(BOSH_OPT_PAUSE);

	session->pause_ms = seconds * 1000 < most ? seconds * 1000 : most;
	while (!TAILQ_EMPTY(&session->held))
		bosh_session_answer(
			session, bosh_answer_new(bosh_session_attributes(session), IRIS_STR_NONE));
}

/* The one whose turn it is. */
static void
bosh_session_handle(struct bosh_session *session, struct bosh_request *request)
{
	const struct bosh_body *body = &request->body;
	bool hurried = bosh_session_is_hurried(session, body);

	session->next++;
	session->pause_ms = 0;
	request->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&session->held, request, link);
	session->held_count++;
	if (hurried) {
		bosh_session_fail(session, "policy-violation");
		return;
	}
	if (body->restart || !session->begun)
		bosh_session_add_header(session, body);
	session->begun = true;
	bosh_session_add_payload(session, body);
	if (body->terminate && !session->terminated) {
		session->terminated = true;
		bosh_session_add_unit(session, IRIS_STR("</stream:stream>"), false);
	}
	if (body->pause_s >= 0 && !body->terminate)
		bosh_session_pause(session, body->pause_s);
}

/* §14.3: the same id again: the answer got lost, or the connection that it was to take. */
static void
bosh_session_repeat(struct bosh_session *session, struct bosh_request *request)
{
	struct bosh_answer *answer = bosh_session_sent(session, request->body.rid);
	struct bosh_request *before;

	if (answer) {
		request->known = session->known;
		bosh_request_answer(request, bosh_answer_ref(answer));
		return;
	}
	TAILQ_FOREACH (before, &session->held, link)
		if (before->body.rid == request->body.rid) {
			request->since_ms = before->since_ms;
			TAILQ_INSERT_BEFORE(before, request, link);
			TAILQ_REMOVE(&session->held, before, link);
			bosh_request_answer(
				before, bosh_answer_new(IRIS_STR(" type='error'"), IRIS_STR_NONE));
			return;
		}
	bosh_request_answer(request, bosh_answer_end("item-not-found", IRIS_STR_NONE));
	bosh_session_fail(session, "item-not-found");
}

/* It came before one that comes first; kept in order. */
static void
bosh_session_keep(struct bosh_session *session, struct bosh_request *request)
{
	struct bosh_request *other;

	TAILQ_FOREACH (other, &session->early, link)
		if (other->body.rid >= request->body.rid)
			break;
	if (other && other->body.rid == request->body.rid) {
		bosh_request_answer(request,
				    bosh_answer_new(IRIS_STR(" type='error'"), IRIS_STR_NONE));
		return;
	}
	if (other)
		TAILQ_INSERT_BEFORE(other, request, link);
	else
		TAILQ_INSERT_TAIL(&session->early, request, link);
	session->early_count++;
}

static void
bosh_session_handle_early(struct bosh_session *session)
{
	struct bosh_request *request;

	while ((request = TAILQ_FIRST(&session->early)) != NULL &&
	       request->body.rid == session->next) {
		TAILQ_REMOVE(&session->early, request, link);
		session->early_count--;
		bosh_session_handle(session, request);
	}
}

void
bosh_session_take(struct bosh_session *session, struct bosh_request *request)
{
	int64_t ahead = request->body.rid - session->next;
	bool last = request->body.terminate || request->body.pause_s >= 0;

	bosh_session_touch(session);
	if (ahead < 0) {
		bosh_session_repeat(session, request);
	} else if (ahead >= session->requests + last) {
		/* §14.2: the same error as for one that is too small. */
		bosh_request_answer(request, bosh_answer_end("item-not-found", IRIS_STR_NONE));
		bosh_session_fail(session, "item-not-found");
	} else if (session->held_count + session->early_count >= session->requests + last) {
		bosh_request_answer(request, bosh_answer_end("policy-violation", IRIS_STR_NONE));
		bosh_session_fail(session, "policy-violation");
	} else if (ahead > 0) {
		bosh_session_keep(session, request);
	} else {
		bosh_session_handle(session, request);
		bosh_session_handle_early(session);
	}
}

/* --- the end of a turn, and time --- */

static void bosh_session_on_timer(void *arg);

/* When is something to be done next, if nothing happens? */
static void
bosh_session_set_timer(struct bosh_session *session)
{
	struct bosh_request *oldest = TAILQ_FIRST(&session->held);
	int64_t limit = session->pause_ms > 0 ? session->pause_ms : session->inactivity_ms;
	int64_t due = oldest ? oldest->since_ms + session->wait_ms : session->quiet_ms + limit;
	int64_t left = due - worker_now_ms();

	timer_start(&session->timer, left > 0 ? left : 0, bosh_session_on_timer, session);
}

static void
bosh_session_on_timer(void *arg)
{
	struct bosh_session *session = arg;
	struct bosh_request *oldest = TAILQ_FIRST(&session->held);

	if (!oldest && TAILQ_EMPTY(&session->early))
		session->lost = "BOSH: inactivity";
	else if (oldest)
		bosh_session_answer_output(session);
	else /* what comes first does not come */
		bosh_session_fail(session, "item-not-found");
	bosh_session_touch(session);
}

/* Says what there is to say. */
static void
bosh_session_flush(struct bosh_session *session)
{
	if (session->output && session->held_count > 0)
		bosh_session_answer_output(session);
	while (session->held_count > session->hold ||
	       (session->held_count > 0 && bosh_session_is_polling(session)))
		bosh_session_answer_output(session);
	bosh_session_set_timer(session);
}

static void
bosh_session_on_turn(struct iris_turn *turn)
{
	struct bosh_session *session = IRIS_CONTAINER(turn, struct bosh_session, turn);

	if (session->told)
		return;
	if (session->lost) {
		session->told = true;
		bosh_session_answer_end(session);
		session->carrier.handler->ended(session->carrier.owner, session->lost);
		return;
	}
	if (!STAILQ_EMPTY(&session->input) && !session->paused) {
		bosh_session_touch(session); /* what it leads to is said in this turn, too */
		bosh_session_feed(session);
		return;
	}
	if (session->ending && session->held_count > 0) {
		bosh_session_answer_end(session);
		session->lost = "closed";
		bosh_session_touch(session);
		return;
	}
	bosh_session_flush(session);
}

/* --- coming and going --- */

void
bosh_session_come(struct bosh_session *session)
{
	hash_insert(&sessions, &session->node, str_from(session->sid));
	bosh_directory_move(session, worker_index());
	bosh_session_touch(session);
}

void
bosh_session_go(struct bosh_session *session)
{
	timer_stop(&session->timer);
	worker_turn_cancel(&session->turn);
	hash_remove(&sessions, &session->node);
	if (sessions.count == 0)
		hash_free(&sessions);
}

void
bosh_session_free(struct bosh_session *session)
{
	struct bosh_unit *unit;

	session->freed = true;
	if (session->feeding)
		return;
	bosh_session_answer_end(session);
	bosh_session_go(session);
	bosh_directory_remove(session);
	while ((unit = STAILQ_FIRST(&session->input)) != NULL) {
		STAILQ_REMOVE_HEAD(&session->input, link);
		free(unit);
	}
	for (unsigned i = 0; i < BOSH_REQUESTS_MAX; i++)
		bosh_answer_unref(&session->sent[i].answer);
	if (session->output)
		evbuffer_free(session->output);
	free((char *)(uintptr_t)session->greeting.base);
	free(session);
}

/* --- the beginning: §7 --- */

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void
bosh_session_agree(struct bosh_session *session, const struct bosh_body *body)
{
	int64_t wait = bosh_option(BOSH_OPT_WAIT), hold = bosh_option(BOSH_OPT_HOLD);

	session->hold = (unsigned)least(body->hold < 0 ? hold : body->hold, hold);
	session->requests = session->hold + 1;
	session->wait_ms = body->wait_s < 0 ? wait : least(body->wait_s * 1000, wait);
	session->inactivity_ms = bosh_option(BOSH_OPT_INACTIVITY);
	if (bosh_session_is_polling(session))
		session->inactivity_ms += 2 * bosh_option(BOSH_OPT_POLLING);
	session->minor = (unsigned)least(body->minor, 11);
}

static void
bosh_session_write_greeting(struct bosh_session *session, const struct bosh_body *body)
{
	struct iris_strbuf text = STRBUF_INIT(body->element->arena);

	strbuf_printf(&text,
		      " xmlns:xmpp='" NS_XBOSH "' xmlns:stream='" NS_STREAM
		      "' sid='%s' ver='1.%u' wait='%lld' hold='%u' requests='%u'",
		      session->sid, session->minor, (long long)(session->wait_ms / 1000),
		      session->hold, session->requests);
	strbuf_printf(&text, " inactivity='%lld' polling='%lld' maxpause='%lld'",
		      (long long)(session->inactivity_ms / 1000),
		      (long long)(bosh_option(BOSH_OPT_POLLING) / 1000),
		      (long long)(bosh_option(BOSH_OPT_PAUSE) / 1000));
	xml_add_attribute(&text, "from", body->to);
	strbuf_add(&text, IRIS_STR(" xmpp:version='1.0' xmpp:restartlogic='true'"));
	session->greeting = strbuf_str(&text);
	session->greeting.base = str_dup(session->greeting);
}

bool
bosh_session_new(struct bosh_request *request)
{
	struct bosh_session *session = iris_calloc(1, sizeof(*session));
	struct iris_arena *arena = request->body.element->arena;

	session->carrier.ops = &bosh_carrier_ops;
	session->turn.fn = bosh_session_on_turn;
	TAILQ_INIT(&session->held);
	TAILQ_INIT(&session->early);
	STAILQ_INIT(&session->input);
	session->secure = request->secure;
	/* SECURITY: who knows the id of a session has the session. */
	IRIS_ASSERT(str_copy_to(session->sid, sizeof(session->sid), random_id(arena, 128)) &&
		    str_copy_to(session->peer, sizeof(session->peer), request->peer));
	session->next = request->body.rid;
	bosh_session_agree(session, &request->body);
	if (!bosh_directory_add(session)) {
		free(session);
		return false;
	}
	bosh_session_write_greeting(session, &request->body);
	hash_insert(&sessions, &session->node, str_from(session->sid));
	session->quiet_ms = worker_now_ms();
	session->stream = stream_begin(&session->carrier);
	bosh_session_take(session, request);
	return true;
}
