/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of HTTP/1.1 (RFC 9112): bytes come in, the guard cuts heads out of them, each request
 * gets a fiber, one after the other.  The worker that accepted.  It does not know what is asked:
 * request.c does, and answer.c writes.
 *
 * While a handler works, what comes is its body, as fast as it reads; what nobody takes stays in
 * `input` and the peer is made to wait. SECURITY: every state but BUSY has a limit of time.
 */
#include <event2/buffer.h>
#include <stdlib.h>

#include "web_private.h"

#define SWEEP_MS 1000
#define CLOSING_MS 5000

TAILQ_HEAD(http_queue, http);

/* All connections of a worker. */
struct https {
	struct http_queue lists[HTTP_LISTS];
	size_t count;
	struct iris_timer sweep;
};

static _Thread_local struct https https;

static struct https *
https_here(void)
{
	if (!https.lists[0].tqh_last)
		for (int i = 0; i < HTTP_LISTS; i++)
			TAILQ_INIT(&https.lists[i]);
	return &https;
}

static void
http_set_list(struct http *http, enum http_list list)
{
	struct https *here = https_here();

	TAILQ_REMOVE(&here->lists[http->list], http, link);
	http->list = (uint8_t)list;
	http->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&here->lists[list], http, link);
}

/* --- input that nobody took --- */

static size_t
http_input_length(const struct http *http)
{
	return http->input ? evbuffer_get_length(http->input) : 0;
}

static void
http_keep(struct http *http, const char *bytes, size_t len)
{
	if (len == 0)
		return;
	if (!http->input)
		http->input = evbuffer_new();
	IRIS_ASSERT(http->input && evbuffer_add(http->input, bytes, len) == 0);
}

static void
http_drop(struct http *http, size_t len)
{
	evbuffer_drain(http->input, len);
	http->scanned = 0;
	if (evbuffer_get_length(http->input) > 0)
		return;
	evbuffer_free(http->input);
	http->input = NULL;
}

void
http_feed(struct http *http)
{
	while (http->input && request_is_hungry(http->request)) {
		size_t len = evbuffer_get_contiguous_space(http->input);
		const char *base = (const char *)evbuffer_pullup(http->input, (ssize_t)len);
		size_t used = request_feed(http->request, (struct iris_str){ base, len });

		if (used == 0)
			return;
		http_drop(http, used);
	}
}

struct iris_str
http_take_input(struct http *http, struct iris_arena *arena)
{
	size_t len = http_input_length(http);
	struct iris_str taken = IRIS_STR_NONE;

	if (len == 0)
		return taken;
	taken.base = (const char *)evbuffer_pullup(http->input, -1);
	taken.len = len;
	taken = arena_copy_str(arena, taken);
	http_drop(http, len);
	return taken;
}

/* --- waiting --- */

/* SECURITY: bytes that come, or are taken, one by one hold a fiber for as long as the peer likes.
 */
static bool
http_is_too_slow(struct http *http)
{
	struct iris_web_request *request = http->request;
	int64_t waited = request->waited_ms + worker_now_ms() - http->since_ms;

	return waited >= web_option(WEB_OPT_TRANSFER_TIMEOUT) &&
	       request->moved * 1000 < web_option(WEB_OPT_TRANSFER_RATE) * waited;
}

bool
http_wait(struct http *http, const char *what)
{
	if (!http->carrier)
		return false;
	carrier_pause(http->carrier, !request_is_hungry(http->request));
	wait_init(&http->wait);
	http->waiting = true;
	http->heard = false;
	http_set_list(http, HTTP_WAITING);
	wait_for(&http->wait, what);
	http->request->waited_ms += worker_now_ms() - http->since_ms;
	http_set_list(http, HTTP_BUSY);
	return http->carrier != NULL;
}

void
http_wake(struct http *http)
{
	if (!http->waiting)
		return;
	http->waiting = false;
	wait_done(&http->wait);
}

/* --- the end --- */

static void
http_free(struct http *http)
{
	struct https *here = https_here();

	worker_turn_cancel(&http->turn);
	carrier_free(&http->carrier);
	if (http->input)
		evbuffer_free(http->input);
	TAILQ_REMOVE(&here->lists[http->list], http, link);
	if (--here->count == 0)
		timer_stop(&here->sweep);
	web_count(WEB_METRIC_CONNECTIONS, -1);
	free(http);
}

void
http_cut(struct http *http)
{
	carrier_free(&http->carrier);
	if (!http->request)
		http_set_list(http, HTTP_CLOSING);
	worker_at_turn_end(&http->turn);
	http_wake(http);
}

/* What was said goes out, then the connection ends. */
static void
http_finish(struct http *http)
{
	if (http->list == HTTP_CLOSING || !http->carrier)
		return;
	http_set_list(http, HTTP_CLOSING);
	carrier_finish(http->carrier);
}

static void
http_refuse(struct http *http, unsigned status)
{
	web_count(WEB_METRIC_MALFORMED, 1);
	answer_refusal(http->carrier, status);
	http_finish(http);
}

/* --- requests --- */

static void
http_run(void *arg)
{
	struct http *http = arg;
	struct iris_arena *arena = http->request->arena;

	request_run(http->request);
	if (http->carrier && !answer_end(http->request))
		http->close = true;
	http->request = NULL;
	arena_unref(&arena);
	worker_at_turn_end(&http->turn);
}

static void
http_start(struct http *http, struct iris_web_request *request)
{
	http->request = request;
	http_set_list(http, HTTP_BUSY);
	web_count(WEB_METRIC_REQUESTS, 1);
	if (fiber_start_spare("web", http_run, http)) {
		if (http->request && http->carrier)
			carrier_pause(http->carrier, !request_is_hungry(http->request));
		return;
	}
	http->request = NULL;
	arena_unref(&request->arena);
	http_refuse(http, 503);
}

/* The head that begins the input, of this length. */
static void
http_begin_request(struct http *http, size_t len)
{
	struct iris_arena *arena = arena_new();
	struct iris_web_request *request = ARENA_NEW(arena, struct iris_web_request);
	struct iris_str text = { (const char *)evbuffer_pullup(http->input, (ssize_t)len), len };
	unsigned status;

	text = arena_copy_str(arena, text);
	http_drop(http, len);
	status = http_head_parse(text, &request->head);
	if (status != 0) {
		arena_unref(&arena);
		http_refuse(http, status);
		return;
	}
	request->http = http;
	request->arena = arena;
	request->fields = STRBUF_INIT(arena);
	request->peer = arena_copy_str(arena, str_from(carrier_peer(http->carrier)));
	request->secure = web_carrier_is_secure(http->carrier);
	http_body_begin(&request->body, &request->head);
	http->close |= request->head.close;
	http_start(http, request);
}

/* RFC 9112 §2.2: an empty line before a request is not looked at. */
static void
http_skip_empty_line(struct http *http)
{
	const char *base =
		http_input_length(http) >= 2 ? (const char *)evbuffer_pullup(http->input, 2) : NULL;

	if (base && memcmp(base, "\r\n", 2) == 0)
		http_drop(http, 2);
}

/* The length of the head that begins the input; 0: it is not complete. */
static size_t
http_find_head(struct http *http)
{
	size_t len = http_input_length(http), end;
	size_t from = http->scanned > 3 ? http->scanned - 3 : 0;
	const char *base;

	if (len == 0)
		return 0;
	base = (const char *)evbuffer_pullup(http->input, -1);
	end = http_head_length((struct iris_str){ base + from, len - from });
	http->scanned = len;
	return end > 0 ? from + end : 0;
}

/*
 * SECURITY: a head of bare LFs would never seem complete; it is judged at its first line that ends
 * so.
 */
static bool
http_has_bare_lf(struct http *http)
{
	size_t len = http_input_length(http);
	const char *base, *lf;

	if (len == 0)
		return false;
	base = (const char *)evbuffer_pullup(http->input, -1);
	lf = memchr(base, '\n', len);
	return lf && (lf == base || lf[-1] != '\r');
}

/* Looks whether a request is there, and begins it. */
static void
http_pump(struct http *http)
{
	size_t limit = (size_t)web_option(WEB_OPT_HEADER_SIZE), len;

	if (http->list == HTTP_IDLE)
		http_skip_empty_line(http);
	len = http_find_head(http);
	if (len > limit || (len == 0 && http_input_length(http) > limit)) {
		http_refuse(http, 431);
	} else if (len > 0) {
		http_begin_request(http, len);
	} else if (http_has_bare_lf(http)) {
		http_refuse(http, 400);
	} else {
		if (http_input_length(http) > 0 && http->list != HTTP_HEAD)
			http_set_list(http, HTTP_HEAD);
		carrier_pause(http->carrier, false);
	}
}

/* A request is over, or the connection is: what is next? */
static void
http_on_turn(struct iris_turn *turn)
{
	struct http *http = IRIS_CONTAINER(turn, struct http, turn);

	if (http->request)
		return;
	if (!http->carrier) {
		http_free(http);
		return;
	}
	if (http->list == HTTP_CLOSING)
		return;
	if (http->close) {
		http_finish(http);
		return;
	}
	http_set_list(http, HTTP_IDLE);
	http_pump(http);
}

/* --- what the connection tells --- */

static void
http_on_input(void *owner, const char *bytes, size_t len)
{
	struct http *http = owner;
	size_t used = 0;

	web_count(WEB_METRIC_BYTES_IN, (int64_t)len);
	http->heard = true;
	if (http->list == HTTP_CLOSING)
		return;
	if (http->request && !http->input && request_is_hungry(http->request))
		used = request_feed(http->request, (struct iris_str){ bytes, len });
	http_keep(http, bytes + used, len - used);
	if (!http->request) {
		http_pump(http);
		return;
	}
	http_feed(http);
	if (request_is_hungry(http->request))
		return;
	carrier_pause(http->carrier, true);
	http_wake(http);
}

static void
http_on_drained(void *owner)
{
	struct http *http = owner;

	http->heard = true;
	if (http->request && !http->request->into)
		http_wake(http);
}

static void
http_on_ended(void *owner, const char *reason)
{
	http_cut(owner);
}

static const struct iris_carrier_handler http_handler = {
	.input = http_on_input,
	.drained = http_on_drained,
	.ended = http_on_ended,
};

/* --- time --- */

static int64_t
http_list_limit_ms(enum http_list list)
{
	switch (list) {
	case HTTP_IDLE: return web_option(WEB_OPT_IDLE_TIMEOUT);
	case HTTP_HEAD: return web_option(WEB_OPT_HEADER_TIMEOUT);
	case HTTP_WAITING: return web_option(WEB_OPT_TRANSFER_TIMEOUT);
	case HTTP_CLOSING: return CLOSING_MS;
	default: return INT64_MAX;
	}
}

/* It has been in its list for as long as may be. */
static void
http_on_time(struct http *http)
{
	switch ((enum http_list)http->list) {
	case HTTP_IDLE: http_finish(http); return;
	case HTTP_HEAD:
		web_count(WEB_METRIC_SLOW, 1);
		if (http->input)
			http_refuse(http, 408);
		else
			http_finish(http);
		return;
	case HTTP_WAITING:
		if (http->heard && !http_is_too_slow(http)) {
			http->request->waited_ms += worker_now_ms() - http->since_ms;
			http->heard = false;
			http_set_list(http, HTTP_WAITING);
			return;
		}
		web_count(WEB_METRIC_SLOW, 1);
		http_cut(http);
		return;
	default: http_cut(http); return;
	}
}

static void
http_on_sweep(void *arg)
{
	struct https *here = https_here();
	int64_t now = worker_now_ms();
	struct http *http;

	timer_start(&here->sweep, SWEEP_MS, http_on_sweep, NULL);
	for (int i = 0; i < HTTP_LISTS; i++) {
		int64_t limit = http_list_limit_ms((enum http_list)i);

		while ((http = TAILQ_FIRST(&here->lists[i])) != NULL &&
		       now - http->since_ms > limit)
			http_on_time(http);
	}
}

/* --- coming and going --- */

static struct http *
http_take(struct iris_carrier *carrier)
{
	struct https *here = https_here();
	struct http *http = iris_calloc(1, sizeof(*http));

	http->carrier = carrier;
	http->turn.fn = http_on_turn;
	http->list = HTTP_HEAD; /* SECURITY: who connects must say something, and soon */
	http->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&here->lists[HTTP_HEAD], http, link);
	carrier->handler = &http_handler;
	carrier->owner = http;
	if (here->count++ == 0)
		timer_start(&here->sweep, SWEEP_MS, http_on_sweep, NULL);
	web_count(WEB_METRIC_CONNECTIONS, 1);
	return http;
}

static void
http_take_web(struct iris_carrier *carrier)
{
	(void)http_take(carrier);
}

static void
http_take_redirect(struct iris_carrier *carrier)
{
	http_take(carrier)->redirect = true;
}

/* A request line begins with a method, XMPP with a bracket or a blank. */
static bool
http_begins(const char *bytes, size_t len)
{
	return (bytes[0] >= 'A' && bytes[0] <= 'Z') || (bytes[0] >= 'a' && bytes[0] <= 'z');
}

static bool
http_begins_anyhow(const char *bytes, size_t len)
{
	return true;
}

static void
http_close_list(enum http_list list, bool now)
{
	struct http *http = TAILQ_FIRST(&https_here()->lists[list]), *next;

	for (; http; http = next) {
		next = TAILQ_NEXT(http, link);
		http->close = true;
		if (now)
			http_cut(http);
		else if (!http->request)
			http_finish(http);
	}
}

static size_t
http_close_all(bool now)
{
	for (int i = 0; i < HTTP_LISTS; i++)
		http_close_list((enum http_list)i, now);
	websocket_forget_spares();
	return https_here()->count;
}

const struct iris_protocol web_protocol = {
	.name = "web",
	.alpn = "http/1.1",
	.plain_on_loopback = true,
	.begins = http_begins,
	.take = http_take_web,
	.close = http_close_all,
};

const struct iris_protocol web_redirect_protocol = {
	.name = "web-redirect",
	.plain = true,
	.begins = http_begins_anyhow,
	.take = http_take_redirect,
};
