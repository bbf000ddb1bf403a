/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a stream (RFC 6120 §4): accepting, input, the fiber that handles it in order, moving
 * to the home of its user, the end.  A stream belongs to one worker; only stream_depart() takes it
 * to another.
 *
 * What ends a stream only marks it; the end is carried out by stream_on_turn(), when no call of it
 * is under way. What is said when a stream is opened and closed is in stream_negotiation.c and
 * stream_error.c.
 */
#include <stdlib.h>

#include "im_private.h"
#include "module_private.h"
#include "stream_private.h"
#include "worker_private.h"

#define BUSTLE_WARM \
	20 /* inputs in a row, none of them that long after the one before: not just a sign-in */
#define FIBER_RETRY_MS 20
#define AHEAD_MAX 32
#define PARSER_TICK_MS 50

static _Thread_local struct streams streams;

struct streams *
streams_here(void)
{
	if (!streams.lists[0].tqh_last) {
		for (int i = 0; i < STREAM_LISTS; i++)
			TAILQ_INIT(&streams.lists[i]);
		TAILQ_INIT(&streams.warm);
	}
	return &streams;
}

static void
stream_assert_home(const struct iris_stream *stream)
{
	IRIS_ASSERT(stream->home == worker_index());
}

/* --- states and lists --- */

#define TO(name) (1u << IRIS_STREAM_##name)

static const unsigned stream_steps[] = {
	[IRIS_STREAM_HEADER] =
		TO(PLAIN) | TO(UNAUTHENTICATED) | TO(AUTHENTICATED) | TO(CLOSING) | TO(CLOSED),
	[IRIS_STREAM_PLAIN] = TO(HANDSHAKE) | TO(CLOSING) | TO(CLOSED),
	[IRIS_STREAM_HANDSHAKE] = TO(HEADER) | TO(CLOSED),
	[IRIS_STREAM_UNAUTHENTICATED] =
		TO(HEADER) | TO(AUTHENTICATED) | TO(BOUND) | TO(CLOSING) | TO(CLOSED),
	[IRIS_STREAM_AUTHENTICATED] = TO(BOUND) | TO(CLOSING) | TO(CLOSED),
	[IRIS_STREAM_BOUND] = TO(CLOSING) | TO(CLOSED),
	[IRIS_STREAM_CLOSING] = TO(CLOSED),
	[IRIS_STREAM_CLOSED] = 0,
};

void
stream_set_list(struct iris_stream *stream, enum stream_list_id list)
{
	struct streams *here = streams_here();

	TAILQ_REMOVE(&here->lists[stream->list], stream, link);
	stream->list = (uint8_t)list;
	stream->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&here->lists[list], stream, link);
}

void
stream_move_to_state(struct iris_stream *stream, enum iris_stream_state state)
{
	stream_assert_home(stream);
	IRIS_ASSERT(stream_steps[stream->state] & 1u << state);
	if (stream->state == IRIS_STREAM_BOUND)
		stream_count_metric(STREAM_METRIC_BOUND, -1);
	stream->state = state;
	if (state == IRIS_STREAM_BOUND) {
		stream->was_bound = true;
		stream_count_metric(STREAM_METRIC_BOUND, 1);
		stream_set_list(stream, STREAMS_LIVE);
	} else if (state >= IRIS_STREAM_CLOSING) {
		stream_set_list(stream, STREAMS_CLOSING);
		stream_touch(stream);
	}
}

void
stream_touch(struct iris_stream *stream)
{
	worker_at_turn_end(&stream->turn);
}

void
stream_set_warm(struct iris_stream *stream, bool warm)
{
	struct streams *here = streams_here();

	if (stream->warm) {
		TAILQ_REMOVE(&here->warm, stream, warm_link);
		here->warm_count--;
	}
	stream->warm = warm;
	if (warm) {
		TAILQ_INSERT_TAIL(&here->warm, stream, warm_link);
		here->warm_count++;
	}
}

/* --- stanzas --- */

static bool
stream_is_stanza(const struct iris_element *element)
{
	return str_is(element->ns, NS_CLIENT) &&
	       (str_is(element->name, "message") || str_is(element->name, "presence") ||
		str_is(element->name, "iq"));
}

static void
stream_pass_stanza(struct iris_stream *stream, struct iris_stanza **stanza_p)
{
	struct iris_stream_ticket ticket = { .stream = stream };

	stream_count_metric(STREAM_METRIC_STANZAS_IN, 1);
	stream->stanza_ms = stream->input_ms;
	stream_count_stanza(stream);
	if (!stream->counting) {
		stream->role->stanza(stream, stanza_p, NULL);
		return;
	}
	ticket.stanza = stanza_ref(*stanza_p);
	hook_run_stanza_ticket(&ticket);
	stream->role->stanza(stream, stanza_p, ticket.ticket);
	hook_run_stanza_done(&ticket);
	ticket_unref(&ticket.ticket);
	stanza_unref(&ticket.stanza);
}

static void
stream_answer_malformed(struct iris_stream *stream, struct iris_stanza *stanza)
{
	struct iris_stanza *error =
		stanza_error(stanza, &(struct iris_refusal){ .condition = IRIS_JID_MALFORMED });

	if (!error)
		return;
	stanza_freeze(error);
	stream_send_delivery(stream, &(struct iris_delivery){ .stanza = error });
	stanza_unref(&error);
}

/*
 * §8.3.3.8: an address that is none goes back to the client. The stanza without addresses stands
 * for it, also where stanzas are counted: the client counts it as sent.
 * COMPAT(servers with RFC 7564): addresses of newer Unicode are none here, and go nowhere.
 */
static void
stream_handle_malformed(struct iris_stream *stream, struct iris_arena **arena_p,
			struct iris_element *root)
{
	struct iris_stream_ticket ticket = { .stream = stream };
	const char *condition;

	element_set(root, "from", IRIS_STR_NONE);
	element_set(root, "to", IRIS_STR_NONE);
	ticket.stanza = stanza_from_element(*arena_p, root, &condition);
	IRIS_ASSERT(ticket.stanza);
	*arena_p = NULL;
	if (stream->counting)
		hook_run_stanza_ticket(&ticket);
	if (!stream->role->between_servers)
		stream_answer_malformed(stream, ticket.stanza);
	if (stream->counting)
		hook_run_stanza_done(&ticket);
	ticket_unref(&ticket.ticket);
	stanza_unref(&ticket.stanza);
}

static void
stream_handle_stanza(struct iris_stream *stream, struct iris_arena **arena_p,
		     struct iris_element *root)
{
	const char *condition;
	struct iris_stanza *stanza = stanza_from_element(*arena_p, root, &condition);

	if (!stanza) {
		stream_handle_malformed(stream, arena_p, root);
		return;
	}
	*arena_p = NULL;
	if (stream->state == IRIS_STREAM_AUTHENTICATED) {
		if (stream->role->between_servers || !bind_handle_iq(stream, stanza))
			stream_error(stream, "not-authorized", "bind a resource first");
	} else {
		stream_pass_stanza(stream, &stanza);
	}
	stanza_unref(&stanza);
}

/* Between servers nothing that is for clients is understood. module NULL: it is the role's own. */
static const struct iris_stream_handler *
stream_find_handler(const struct iris_stream *stream, const struct iris_element *element,
		    const struct iris_module **module_r)
{
	const struct iris_stream_handler *own = stream->role->elements;

	*module_r = NULL;
	if (!stream->role->between_servers)
		return stream_handler_find(element->name, element->ns, module_r);
	for (; own && own->name; own++)
		if (element_is(element, own->name, own->ns))
			return own;
	return stream_server_handler(stream, element);
}

static void
stream_handle_element(struct iris_stream *stream, struct iris_arena **arena_p,
		      struct iris_element *element)
{
	const struct iris_stream_handler *handler;
	const struct iris_module *module;
	bool is_stanza;

	if (stream->state >= IRIS_STREAM_CLOSING)
		return; /* §4.4: what comes after our closing tag is not handled */
	is_stanza = stream_is_stanza(element);
	if (is_stanza && stream->state >= IRIS_STREAM_AUTHENTICATED) {
		stream_handle_stanza(stream, arena_p, element);
		return;
	}
	/* Before that a stanza may have a handler, too: in-band registration has. */
	handler = stream_find_handler(stream, element, &module);
	if (handler && handler->states & 1u << stream->state)
		module ? stream_handler_run(handler, module, stream, element) :
			 handler->handle(stream, element);
	else if (is_stanza)
		stream_error(stream, "not-authorized", "sign in first");
	else
		stream_error(stream, "unsupported-stanza-type", NULL);
}

/* RFC 7395 §3.3.3: one element in each frame, no part of one and not two. */
static void
stream_check_frame(struct iris_stream *stream, enum xml_event event)
{
	bool whole = event != XML_EVENT_NONE || xml_parser_wants_tick(stream->parser) ||
		     xml_parser_is_at_boundary(stream->parser);

	if (event == XML_EVENT_ELEMENT)
		stream->elements++;
	if (!whole || stream->elements > 1)
		stream_error(stream, "bad-format", "a frame holds one element");
}

/* False: nothing is there to be handled. */
static bool
stream_handle_next(struct iris_stream *stream)
{
	struct iris_element *element;
	struct iris_arena *arena;
	struct xml_error error;
	enum xml_event event = xml_parser_next(stream->parser, &arena, &element);

	if (stream_is_framed(stream))
		stream_check_frame(stream, event);
	switch (event) {
	case XML_EVENT_NONE: return false;
	case XML_EVENT_HEADER: stream_handle_header(stream, element); break;
	case XML_EVENT_ELEMENT: stream_handle_element(stream, &arena, element); break;
	case XML_EVENT_CLOSED: stream_handle_closing_tag(stream); return false;
	case XML_EVENT_ERROR:
		error = xml_parser_error(stream->parser);
		stream_error(stream, error.condition, error.text);
		carrier_finish(stream->carrier); /* also when our closing tag was out already */
		return false;
	}
	arena_unref(&arena);
	return true;
}

/* --- the fiber --- */

static void stream_pump(struct iris_stream *stream);

static void
stream_on_again(void *arg)
{
	struct iris_stream *stream = arg;

	stream->deferred = false;
	if (xml_parser_wants_tick(stream->parser))
		xml_parser_tick(stream->parser);
	stream_pump(stream);
	stream_touch(stream);
}

static void
stream_go_on_later(struct iris_stream *stream, int64_t milliseconds)
{
	stream->deferred = true;
	timer_start(&stream->again, milliseconds, stream_on_again, stream);
}

/*
 * The user in memory, who is needed soon anyway, knows the account: whoever locks or removes it
 * lets the user go.  Who unlocks it does not, so "locked" is no answer.
 */
static bool
stream_take_account_of_user(struct iris_stream *stream)
{
	struct iris_user *user = user_get(&stream->jid);
	bool usable = user && !user->account.locked;

	if (usable)
		stream->account = user->account;
	user_release(&user);
	return usable;
}

/* The account as it is now, at home: SECURITY: it may have been locked while the client signed in
 * elsewhere. */
static void
stream_check_account(struct iris_stream *stream)
{
	if (stream->jid.node_len == 0)
		return; /* no account: another server, a component */
	if (stream_take_account_of_user(stream))
		return;
	if (!accounts()->find(&stream->jid, &stream->account))
		stream_error(stream, "internal-server-error", "the account could not be read");
	else if (stream->account.id == 0 || stream->account.locked)
		stream_error(stream, "not-authorized", "the account cannot be used");
}

static void
stream_run_arrival(struct iris_stream *stream)
{
	struct stream_arrival *arrival = stream->arrival;

	if (stream->state < IRIS_STREAM_CLOSING)
		stream_check_account(stream);
	stream->arrival = NULL;
	arrival->next(stream, arrival->arg);
	free(arrival);
}

/* hold_ms: for how long, when it is deferred. */
static void
stream_run_end(struct iris_stream *stream, bool deferred, int64_t hold_ms)
{
	stream->runner = NULL;
	if (stream->lost && !deferred && !stream->arrival)
		stream_cut(stream, stream->lost);
	if (deferred)
		stream_go_on_later(stream, hold_ms);
	else if (xml_parser_wants_tick(stream->parser) && !timer_is_running(&stream->again))
		timer_start(&stream->again, PARSER_TICK_MS, stream_on_again, stream);
	if (!stream->arrival)
		carrier_pause(stream->carrier, deferred);
	stream_touch(stream);
}

/* Handles what the parser has, in order. Mostly it never waits, and ends before stream_pump(). */
static void
stream_run(void *arg)
{
	struct stream_runner runner = { .stream = arg, .fiber = fiber_self() };
	struct iris_stream *stream = arg;
	int64_t budget = stream_option(STREAM_OPT_BUDGET), hold_ms = 0;
	bool more = true;

	stream->runner = &runner;
	if (stream->arrival)
		stream_run_arrival(stream);
	while (runner.stream && !stream->arrival && stream->state != IRIS_STREAM_CLOSED && more &&
	       budget-- > 0 && (hold_ms = stream_hold_ms(stream)) == 0)
		more = stream_handle_next(stream);
	if (runner.left) {
		stream->ahead--;
		stream_unref(&stream);
	}
	if (!runner.stream)
		return;
	stream_run_end(stream, more && !stream->arrival && stream->state != IRIS_STREAM_CLOSED,
		       hold_ms);
	stream_unref(&stream);
}

/*
 * Sees to it that a fiber handles what is there. While one is under way, or none can be had,
 * nothing is read: what is not handled waits in the kernel, and with the peer.
 */
static void
stream_pump(struct iris_stream *stream)
{
	bool leaving = stream->arrival && !stream->arrival->is_home;

	if (stream->finished || stream->runner || stream->deferred || leaving)
		return;
	stream_ref(stream);
	if (!fiber_start("stream", stream_run, stream)) {
		struct iris_stream *ref = stream;

		stream_unref(&ref);
		carrier_pause(stream->carrier, true);
		stream_go_on_later(stream, FIBER_RETRY_MS);
	} else if (stream->runner) {
		carrier_pause(stream->carrier, true);
	}
}

/*
 * The fiber leaves the stream, and another one handles what comes next.  SECURITY: a client must
 * not have as many fibers as it likes; with the most of them, its stanzas wait for each other.
 */
void
stream_go_on(struct iris_stream *stream)
{
	struct stream_runner *runner = stream->runner;

	if (!runner || runner->fiber != fiber_self() || stream->arrival ||
	    stream->state != IRIS_STREAM_BOUND || stream->ahead >= AHEAD_MAX)
		return;
	runner->left = true;
	runner->stream = NULL;
	stream->runner = NULL;
	stream->ahead++;
	stream->goes_on = true;
	stream_touch(stream);
}

/* --- what the connection tells --- */

static void
stream_on_input(void *owner, const char *bytes, size_t len)
{
	struct iris_stream *stream = owner;
	int64_t now = worker_now_ms();

	if (now - stream->input_ms >= WARM_MS)
		stream->bustle = 0;
	else if (stream->bustle < BUSTLE_WARM)
		stream->bustle++;
	stream->input_ms = now;
	stream->elements = 0;
	if (stream->list == STREAMS_LIVE && stream->since_ms != now)
		stream_set_list(stream, STREAMS_LIVE);
	stream_count_metric(STREAM_METRIC_BYTES_IN, (int64_t)len);
	xml_parser_feed(stream->parser, (struct iris_str){ bytes, len });
	stream_pump(stream);
	stream_touch(stream);
}

static void
stream_on_secured(void *owner)
{
	struct iris_stream *stream = owner;

	stream_move_to_state(stream, IRIS_STREAM_HEADER);
	if (stream->initiator)
		stream_send_header(stream, NULL);
}

/* What was read before is still handled; then it ends. */
static void
stream_on_ended(void *owner, const char *reason)
{
	struct iris_stream *stream = owner;

	stream->lost = reason;
	stream_pump(stream);
}

const struct iris_carrier_handler stream_carrier_handler = {
	.secured = stream_on_secured,
	.input = stream_on_input,
	.ended = stream_on_ended,
};

/* --- coming and going --- */

static void
stream_come_in(struct iris_stream *stream)
{
	struct streams *here = streams_here();

	stream->home = worker_index();
	stream->list = stream->state >= IRIS_STREAM_CLOSING ? STREAMS_CLOSING : STREAMS_YOUNG;
	stream->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&here->lists[stream->list], stream, link);
	if (here->count++ == 0)
		streams_sweep_start(here);
}

static void
stream_go_out(struct iris_stream *stream)
{
	struct streams *here = streams_here();

	timer_stop(&stream->again);
	worker_turn_cancel(&stream->turn);
	stream_set_warm(stream, false);
	TAILQ_REMOVE(&here->lists[stream->list], stream, link);
	if (--here->count == 0)
		timer_stop(&here->sweep);
}

static void
stream_be_home(struct iris_stream *stream)
{
	const char *closing = streams_here()->closing;

	stream->arrival->is_home = true;
	if (closing && stream->state < IRIS_STREAM_CLOSING)
		stream_error(stream, closing, NULL);
	stream_pump(stream);
	stream_touch(stream);
}

static void
stream_arrive(struct iris_mail *mail)
{
	struct stream_arrival *arrival = IRIS_CONTAINER(mail, struct stream_arrival, mail);
	struct iris_stream *stream = arrival->stream;

	stream_come_in(stream);
	stream->carrier->ops->attach(stream->carrier);
	stream_be_home(stream);
}

/*
 * The only way between workers, at the end of a turn: no event of it is left here, and after
 * worker_post() it is not touched any more.
 */
static void
stream_depart(struct iris_stream *stream)
{
	struct iris_worker *home = home_of(jid_bare(&stream->jid));

	if (stream->runner) { /* whoever called stream_authenticated() waits, against its rule */
		stream->runner->stream = NULL;
		stream->runner = NULL;
		stream->refs--;
	}
	if (home == worker_self()) {
		stream_be_home(stream);
		return;
	}
	IRIS_ASSERT(stream->refs == 1);
	stream_count_metric(STREAM_METRIC_MOVES, 1);
	stream_go_out(stream);
	stream->carrier->ops->detach(stream->carrier);
	stream->home = worker_index_of(home);
	stream->arrival->stream = stream;
	stream->arrival->mail.fn = stream_arrive;
	worker_post(home, &stream->arrival->mail);
}

/* Everything goes but the struct, which goes with the last reference. */
static void
stream_finish(struct iris_stream *stream)
{
	hook_run_stream_close(stream);
	slots_free(&stream->slots);
	stream_go_out(stream);
	carrier_free(&stream->carrier);
	stream->finished = true;
	stream_count_metric(STREAM_METRIC_OPEN, -1);
	stream_unref(&stream);
}

/* Parsers are not kept for later: between other memory they would leave holes that never close. */
static void
stream_rest_parser(struct iris_stream *stream)
{
	struct streams *here = streams_here();
	struct iris_stream *coldest;

	if (stream->state != IRIS_STREAM_BOUND || stream->bustle < BUSTLE_WARM) {
		stream_set_warm(stream, false);
		xml_parser_rest(stream->parser);
		return;
	}
	stream_set_warm(stream, true);
	while (here->warm_count > (size_t)stream_option(STREAM_OPT_PARSERS)) {
		coldest = TAILQ_FIRST(&here->warm);
		stream_set_warm(coldest, false);
		xml_parser_rest(coldest->parser);
	}
}

static void
stream_on_turn(struct iris_turn *turn)
{
	struct iris_stream *stream = IRIS_CONTAINER(turn, struct iris_stream, turn);

	if (stream->arrival && !stream->arrival->is_home) {
		stream_depart(stream);
		return;
	}
	if (stream->goes_on) {
		stream->goes_on = false;
		stream_pump(stream);
	}
	if (stream->runner || stream->arrival || stream->finished)
		return;
	if (stream->state >= IRIS_STREAM_CLOSING && stream->was_bound && !stream->end_told) {
		stream->end_told = true;
		stream->role->ended(stream, stream->orderly);
	}
	if (stream->state == IRIS_STREAM_CLOSED)
		stream_finish(stream);
	else
		stream_rest_parser(stream);
}

struct iris_stream *
stream_new(const struct iris_stream_role *role, enum listener_tls tls)
{
	struct iris_stream *stream = iris_calloc(1, sizeof(*stream));

	stream->role = role;
	stream->tls = (uint8_t)tls;
	stream->refs = 1;
	stream->turn.fn = stream_on_turn;
	stream_set_limits(stream);
	return stream;
}

void
stream_discard(struct iris_stream **stream_p)
{
	struct iris_stream *stream = *stream_p;

	*stream_p = NULL;
	xml_parser_free(&stream->parser);
	stream_initiator_free(&stream->initiator);
	free(stream);
}

void
stream_enter(struct iris_stream *stream, enum iris_stream_state state)
{
	stream->state = state;
	stream_come_in(stream);
	stream_count_metric(STREAM_METRIC_OPEN, 1);
}

bool
stream_accept(const struct listener *listener, int fd, const struct sockaddr *peer)
{
	struct iris_stream *stream = stream_new(listener->role, listener->tls);
	bool direct = listener->tls == LISTENER_DIRECT;

	stream->carrier = connection_open(&(struct connection_setup){
		.fd = fd,
		.peer = peer,
		.proxy = listener->proxy,
		.direct_tls = direct,
		.between_servers = listener->role->between_servers,
		.alpn = listener->alpn[0] ? listener->alpn : NULL,
		.handler = &stream_carrier_handler,
		.owner = stream });
	if (!stream->carrier) {
		stream_discard(&stream);
		return false;
	}
	stream_enter(stream, direct ? IRIS_STREAM_HANDSHAKE : IRIS_STREAM_HEADER);
	return true;
}

struct iris_stream *
stream_take(const struct iris_stream_role *role, struct iris_carrier *carrier)
{
	bool secure = carrier_is_secure(carrier);
	struct iris_stream *stream = stream_new(role, secure ? LISTENER_DIRECT : LISTENER_NONE);

	stream->carrier = carrier;
	carrier->handler = &stream_carrier_handler;
	carrier->owner = stream;
	stream_enter(stream, IRIS_STREAM_HEADER);
	if (streams_here()->closing)
		stream_error(stream, streams_here()->closing, NULL);
	return stream;
}

struct iris_stream *
stream_begin(struct iris_carrier *carrier)
{
	return stream_take(&stream_role_c2s, carrier);
}

bool
stream_expects_header(const struct iris_stream *stream)
{
	return stream->state == IRIS_STREAM_HEADER && !stream->arrival && !stream->runner;
}
