/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XMPP over WebSocket (RFC 7395): a carrier of streams on a connection that was upgraded (RFC
 * 6455). libwslay reads and writes frames. The worker of the stream; the handshake is on the fiber
 * of its request.
 *
 * It makes the stream's header of <open/> and its closing tag of <close/>; what a frame holds is
 * the stream's to judge.  A context of libwslay keeps 4 KiB: it is there only while a frame is half
 * read.
 */
#include <stdlib.h>

#include <event2/buffer.h>
#include <openssl/evp.h>
#include <wslay/wslay.h>

#include "web_private.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 §1.3 */
#define SPARES_MAX 32u
#define CONTROL_MAX 125u

enum { CODE_NONE = 0 };

/* Belongs to its stream, which frees it. */
struct websocket {
	struct iris_carrier carrier;
	struct iris_carrier *below; /* the connection */
	struct iris_stream *stream;
	wslay_frame_context_ptr context; /* NULL: between frames */
	struct evbuffer *rest; /* input that waits because the stream is paused, or NULL */
	const char *bytes; /* input that is being read, */
	size_t len; /* so much of it is left */
	uint64_t unread; /* of what was given to libwslay: not yet a frame */
	uint64_t frame_left; /* of the frame that is being read */
	uint8_t opcode; /* of that frame */
	bool fin; /* that frame ends its message */
	bool in_message; /* a message has begun and not ended */
	bool paused, closed, freed; /* closed: no more is read, our close frame is out */
	uint8_t busy;
	struct evbuffer *message; /* the frames and parts of a frame so far, or NULL */
	uint8_t control[CONTROL_MAX]; /* the payload of a control frame so far */
	uint8_t control_len;
	const char *end_reason; /* the stream is to be told, */
	bool told; /* and was */
	struct iris_turn again; /* goes on reading */
	struct iris_turn end; /* tells the end, after the last frames are written */
};

static struct iris_module_self websocket_self;

enum { METRIC_OPENED, METRIC_REFUSED, METRIC_FAILED };
static struct iris_metric websocket_metrics[] = {
	[METRIC_OPENED] = { .name = "iris_websockets_total", .help = "WebSockets opened" },
	[METRIC_REFUSED] = { .name = "iris_websockets_refused_total",
			     .help = "Handshakes of WebSockets refused" },
	[METRIC_FAILED] = { .name = "iris_websockets_failed_total",
			    .help = "WebSockets ended because of what their client sent" },
	{ .name = NULL },
};

static struct websocket *
websocket_of(const struct iris_carrier *carrier)
{
	return IRIS_CONTAINER(carrier, struct websocket, carrier);
}

/* --- libwslay: contexts and callbacks --- */

static _Thread_local struct {
	wslay_frame_context_ptr spares[SPARES_MAX];
	unsigned count;
	struct websocket *reading;
	struct websocket *writing;
	bool patient; /* what is written may wait (IRIS_UNIT_PATIENT) */
} here;

static ssize_t
websocket_on_receive(uint8_t *buffer, size_t size, int flags, void *arg)
{
	struct websocket *websocket = here.reading;
	size_t len = websocket->len < size ? websocket->len : size;

	if (len == 0)
		return -1; /* libwslay takes it for "later" */
	memcpy(buffer, websocket->bytes, len);
	websocket->bytes += len;
	websocket->len -= len;
	websocket->unread += len;
	return (ssize_t)len;
}

static ssize_t
websocket_on_send(const uint8_t *bytes, size_t len, int flags, void *arg)
{
	carrier_send(here.writing->below, here.patient ? IRIS_UNIT_PATIENT : IRIS_UNIT_BYTES,
		     (struct iris_str){ (const char *)bytes, len });
	return (ssize_t)len;
}

static wslay_frame_context_ptr
context_take(void)
{
	static const struct wslay_frame_callbacks callbacks = { websocket_on_send,
								websocket_on_receive, NULL };
	wslay_frame_context_ptr context;

	if (here.count > 0)
		return here.spares[--here.count];
	IRIS_ASSERT(wslay_frame_context_init(&context, &callbacks, NULL) == 0);
	return context;
}

/* Only between two frames: it keeps nothing of the one before then. */
static void
context_give(wslay_frame_context_ptr *context_p)
{
	if (here.count < SPARES_MAX)
		here.spares[here.count++] = *context_p;
	else
		wslay_frame_context_free(*context_p);
	*context_p = NULL;
}

void
websocket_forget_spares(void)
{
	while (here.count > 0)
		wslay_frame_context_free(here.spares[--here.count]);
}

/* --- output --- */

static void
websocket_send_frame(struct websocket *websocket, uint8_t opcode, struct iris_str payload)
{
	struct wslay_frame_iocb frame = { .fin = 1,
					  .opcode = opcode,
					  .payload_length = payload.len,
					  .data = (const uint8_t *)payload.base,
					  .data_length = payload.len };
	wslay_frame_context_ptr context;

	if (websocket->closed)
		return;
	context = context_take();
	here.writing = websocket;
	IRIS_ASSERT(wslay_frame_send(context, &frame) == (ssize_t)payload.len);
	here.writing = NULL;
	context_give(&context);
}

/* RFC 6455 §5.5.1: the last frame, with its code; nothing is read after it. */
static void
websocket_close(struct websocket *websocket, uint16_t code)
{
	char payload[2] = { (char)(code >> 8), (char)(code & 0xff) };

	if (websocket->closed)
		return;
	websocket_send_frame(websocket, WSLAY_CONNECTION_CLOSE,
			     (struct iris_str){ payload, code == CODE_NONE ? 0 : sizeof(payload) });
	websocket->closed = true;
}

/* The stream hears of it once, when the last frames are written. */
static void
websocket_tell_end(struct websocket *websocket, const char *reason)
{
	if (websocket->told || websocket->end_reason)
		return;
	websocket->end_reason = reason;
	worker_at_turn_end(&websocket->end);
}

/* It is over at once, and the stream lost; the peer hears why. */
static void
websocket_end(struct websocket *websocket, uint16_t code, const char *reason)
{
	websocket_close(websocket, code);
	websocket_tell_end(websocket, reason);
}

static void
websocket_fail(struct websocket *websocket, uint16_t code, const char *reason)
{
	metric_add(&websocket_metrics[METRIC_FAILED], 1);
	websocket_end(websocket, code, reason);
}

/* --- messages --- */

static void
websocket_feed(struct websocket *websocket, struct iris_str text)
{
	websocket->carrier.handler->input(websocket->carrier.owner, text.base, text.len);
}

/* RFC 7395 §3.4: <open/> is the header. */
static void
websocket_feed_header(struct websocket *websocket, const struct iris_element *open)
{
	struct iris_strbuf header = STRBUF_INIT(open->arena);

	strbuf_add(&header,
		   IRIS_STR("<stream:stream xmlns='" NS_CLIENT "' xmlns:stream='" NS_STREAM "'"));
	xml_add_attribute(&header, "to", element_get(open, "to"));
	xml_add_attribute(&header, "from", element_get(open, "from"));
	xml_add_attribute(&header, "version", element_get(open, "version"));
	xml_add_attribute(&header, "xml:lang", element_lang(open));
	strbuf_add_char(&header, '>');
	websocket_feed(websocket, strbuf_str(&header));
}

/* Takes <open/> where a header is expected, and <close/>; false: it is neither. */
static bool
websocket_take_framing(struct websocket *websocket, struct iris_str text)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_parse(arena, text);
	bool is_open = element && element_is(element, "open", NS_FRAMING) &&
		       stream_expects_header(websocket->stream);
	bool is_close = element && element_is(element, "close", NS_FRAMING);

	if (is_open)
		websocket_feed_header(websocket, element);
	else if (is_close)
		websocket_feed(websocket, IRIS_STR("</stream:stream>"));
	arena_unref(&arena);
	return is_open || is_close;
}

static bool
begins_with(struct iris_str text, const char *word)
{
	size_t len = strlen(word);

	return text.len >= len && memcmp(text.base, word, len) == 0;
}

static void
websocket_take_message(struct websocket *websocket, struct iris_str text)
{
	while (text.len > 0 && strchr(" \t\r\n", text.base[0]) && text.base[0]) {
		text.base++;
		text.len--;
	}
	if (text.len == 0) /* COMPAT: a sign of life, as on TCP */
		return;
	if (stream_expects_header(websocket->stream) || begins_with(text, "<open") ||
	    begins_with(text, "<close")) {
		if (websocket_take_framing(websocket, text))
			return;
	}
	websocket_feed(websocket, text);
}

/* --- frames --- */

static void
websocket_keep(struct evbuffer **buffer_p, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	if (!*buffer_p)
		*buffer_p = evbuffer_new();
	IRIS_ASSERT(*buffer_p && evbuffer_add(*buffer_p, bytes, len) == 0);
}

static void
websocket_forget(struct evbuffer **buffer_p)
{
	if (*buffer_p)
		evbuffer_free(*buffer_p);
	*buffer_p = NULL;
}

static size_t
websocket_message_length(const struct websocket *websocket)
{
	return websocket->message ? evbuffer_get_length(websocket->message) : 0;
}

/* The last piece of a message. What came in one piece is not copied. */
static void
websocket_end_message(struct websocket *websocket, struct iris_str piece)
{
	struct evbuffer *message = websocket->message;
	struct iris_str whole = piece;

	websocket->in_message = false;
	if (message) {
		websocket_keep(&message, piece.base, piece.len);
		whole.base = (const char *)evbuffer_pullup(message, -1);
		whole.len = evbuffer_get_length(message);
		websocket->message = NULL;
	}
	websocket_take_message(websocket, whole);
	websocket_forget(&message);
}

static void
websocket_take_control(struct websocket *websocket)
{
	struct iris_str payload = { (const char *)websocket->control, websocket->control_len };
	uint16_t code;

	if (websocket->opcode == WSLAY_PING) {
		websocket_send_frame(websocket, WSLAY_PONG, payload);
	} else if (websocket->opcode == WSLAY_CONNECTION_CLOSE) {
		code = (uint16_t)(websocket->control[0] << 8 | websocket->control[1]);
		if (payload.len == 0)
			code = CODE_NONE;
		if (payload.len == 1 || (payload.len >= 2 && (code < 1000 || code >= 5000)))
			websocket_fail(websocket, WSLAY_CODE_PROTOCOL_ERROR, "bad close frame");
		else
			websocket_end(websocket, code, "closed by the peer");
	}
	websocket->control_len = 0;
}

/* A new frame: may it come now? False: it failed. */
static bool
websocket_begin_frame(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
	bool is_control = wslay_is_ctrl_frame(frame->opcode);
	size_t limit = stream_stanza_limit(websocket->stream);

	websocket->opcode = frame->opcode;
	websocket->fin = frame->fin;
	websocket->frame_left = frame->payload_length;
	if (!frame->mask || frame->rsv ||
	    (is_control && (!frame->fin || frame->payload_length > CONTROL_MAX)) ||
	    (frame->opcode == WSLAY_CONTINUATION_FRAME && !websocket->in_message) ||
	    (frame->opcode == WSLAY_TEXT_FRAME && websocket->in_message)) {
		websocket_fail(websocket, WSLAY_CODE_PROTOCOL_ERROR, "bad frame");
		return false;
	}
	if (is_control)
		return true;
	if (frame->opcode > WSLAY_TEXT_FRAME) {
		websocket_fail(websocket, WSLAY_CODE_UNSUPPORTED_DATA, "binary frame");
		return false;
	}
	websocket->in_message = true;
	/* SECURITY: judged by what is announced, before anything is kept. */
	if (frame->payload_length > limit ||
	    websocket_message_length(websocket) + frame->payload_length > limit) {
		websocket_fail(websocket, WSLAY_CODE_MESSAGE_TOO_BIG, "message too big");
		return false;
	}
	return true;
}

/* A piece of the frame that is being read. */
static void
websocket_take_piece(struct websocket *websocket, struct iris_str piece)
{
	bool is_control = wslay_is_ctrl_frame(websocket->opcode);

	websocket->frame_left -= piece.len;
	if (is_control) {
		memcpy(websocket->control + websocket->control_len, piece.base, piece.len);
		websocket->control_len = (uint8_t)(websocket->control_len + piece.len);
		if (websocket->frame_left == 0)
			websocket_take_control(websocket);
	} else if (websocket->frame_left == 0 && websocket->fin) {
		websocket_end_message(websocket, piece);
	} else {
		websocket_keep(&websocket->message, piece.base, piece.len);
	}
}

/* How long the header of a client's frame is at least (RFC 6455 §5.2). */
static uint64_t
frame_header_length(uint64_t payload)
{
	return payload < 126 ? 6 : payload < 65536 ? 8 : 14;
}

/* False: nothing more can be read now. */
static bool
websocket_read_piece(struct websocket *websocket)
{
	struct wslay_frame_iocb frame;
	bool begins = websocket->frame_left == 0;
	ssize_t len;

	here.reading = websocket;
	len = wslay_frame_recv(websocket->context, &frame);
	here.reading = NULL;
	if (len == WSLAY_ERR_WANT_READ)
		return false;
	if (len < 0) {
		websocket_fail(websocket, WSLAY_CODE_PROTOCOL_ERROR, "bad frame");
		return false;
	}
	if (begins) {
		websocket->unread -= frame_header_length(frame.payload_length);
		if (!websocket_begin_frame(websocket, &frame))
			return false;
	}
	websocket->unread -= (uint64_t)len;
	websocket_take_piece(websocket, (struct iris_str){ (const char *)frame.data, (size_t)len });
	return true;
}

/* --- reading --- */

static void
websocket_release(struct websocket *websocket)
{
	worker_turn_cancel(&websocket->again);
	worker_turn_cancel(&websocket->end);
	carrier_free(&websocket->below);
	if (websocket->context)
		wslay_frame_context_free(websocket->context);
	websocket_forget(&websocket->rest);
	websocket_forget(&websocket->message);
	free(websocket);
}

/* Frames, as long as the stream takes them. False: it was freed. */
static bool
websocket_read(struct websocket *websocket)
{
	bool more = true;

	websocket->busy++;
	if (!websocket->context)
		websocket->context = context_take();
	while (more && !websocket->paused && !websocket->closed && !websocket->freed)
		more = websocket_read_piece(websocket);
	if (websocket->context && !more && !websocket->closed && websocket->unread == 0 &&
	    websocket->frame_left == 0)
		context_give(&websocket->context);
	if (--websocket->busy > 0 || !websocket->freed)
		return !websocket->freed;
	websocket_release(websocket);
	return false;
}

static void
websocket_on_input(void *owner, const char *bytes, size_t len)
{
	struct websocket *websocket = owner;

	if (websocket->closed)
		return;
	if (websocket->rest || websocket->paused) {
		websocket_keep(&websocket->rest, bytes, len);
		return;
	}
	websocket->bytes = bytes;
	websocket->len = len;
	if (websocket_read(websocket))
		websocket_keep(&websocket->rest, websocket->bytes, websocket->len);
}

/* The stream takes input again. */
static void
websocket_on_again(struct iris_turn *turn)
{
	struct websocket *websocket = IRIS_CONTAINER(turn, struct websocket, again);
	struct evbuffer *rest = websocket->rest;

	if (websocket->paused || websocket->closed)
		return;
	websocket->rest = NULL;
	websocket->bytes = rest ? (const char *)evbuffer_pullup(rest, -1) : NULL;
	websocket->len = rest ? evbuffer_get_length(rest) : 0;
	if (websocket_read(websocket)) {
		websocket_keep(&websocket->rest, websocket->bytes, websocket->len);
		if (!websocket->paused)
			carrier_pause(websocket->below, false);
	}
	websocket_forget(&rest);
}

static void
websocket_on_end(struct iris_turn *turn)
{
	struct websocket *websocket = IRIS_CONTAINER(turn, struct websocket, end);
	const char *reason = websocket->end_reason;

	websocket->end_reason = NULL;
	websocket->told = true;
	websocket->carrier.handler->ended(websocket->carrier.owner, reason);
}

static void
websocket_on_drained(void *owner)
{
	struct websocket *websocket = owner;

	if (websocket->carrier.handler->drained)
		websocket->carrier.handler->drained(websocket->carrier.owner);
}

static void
websocket_on_ended(void *owner, const char *reason)
{
	struct websocket *websocket = owner;

	websocket->closed = true;
	websocket_tell_end(websocket, reason);
}

static const struct iris_carrier_handler websocket_handler = {
	.input = websocket_on_input,
	.drained = websocket_on_drained,
	.ended = websocket_on_ended,
};

/* --- the carrier --- */

static void
websocket_send(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str text)
{
	struct websocket *websocket = websocket_of(carrier);

	if (unit == IRIS_UNIT_SPACE) { /* RFC 7395 §3.8 */
		websocket_send_frame(websocket, WSLAY_PING, IRIS_STR_NONE);
	} else {
		here.patient = unit == IRIS_UNIT_PATIENT;
		websocket_send_frame(websocket, WSLAY_TEXT_FRAME, text);
		here.patient = false;
	}
}

static size_t
websocket_pending(const struct iris_carrier *carrier)
{
	return carrier_pending(websocket_of(carrier)->below);
}

static void
websocket_pause(struct iris_carrier *carrier, bool paused)
{
	struct websocket *websocket = websocket_of(carrier);

	if (websocket->paused == paused)
		return;
	websocket->paused = paused;
	if (paused)
		carrier_pause(websocket->below, true);
	else
		worker_at_turn_end(&websocket->again);
}

static void
websocket_finish(struct iris_carrier *carrier)
{
	struct websocket *websocket = websocket_of(carrier);

	websocket_close(websocket, WSLAY_CODE_NORMAL_CLOSURE);
	carrier_finish(websocket->below);
}

static void
websocket_free(struct iris_carrier *carrier)
{
	struct websocket *websocket = websocket_of(carrier);

	websocket->freed = true;
	if (websocket->busy == 0)
		websocket_release(websocket);
}

static void
websocket_admit(struct iris_carrier *carrier)
{
	carrier_admit(websocket_of(carrier)->below);
}

static struct ssl_st *
websocket_ssl(const struct iris_carrier *carrier)
{
	return carrier_ssl(websocket_of(carrier)->below);
}

static bool
websocket_is_secure(const struct iris_carrier *carrier)
{
	return web_carrier_is_secure(websocket_of(carrier)->below);
}

static const char *
websocket_peer(const struct iris_carrier *carrier)
{
	return carrier_peer(websocket_of(carrier)->below);
}

static void
websocket_detach(struct iris_carrier *carrier)
{
	struct websocket *websocket = websocket_of(carrier);

	IRIS_ASSERT(websocket->busy == 0);
	worker_turn_cancel(&websocket->again);
	worker_turn_cancel(&websocket->end);
	websocket->below->ops->detach(websocket->below);
}

static void
websocket_attach(struct iris_carrier *carrier)
{
	struct websocket *websocket = websocket_of(carrier);

	websocket->below->ops->attach(websocket->below);
	if (websocket->end_reason)
		worker_at_turn_end(&websocket->end);
	worker_at_turn_end(&websocket->again);
}

static const struct iris_carrier_ops websocket_ops = {
	.name = "websocket",
	.framed = true,
	.send = websocket_send,
	.pending = websocket_pending,
	.pause = websocket_pause,
	.finish = websocket_finish,
	.free = websocket_free,
	.admit = websocket_admit,
	.ssl = websocket_ssl,
	.is_secure = websocket_is_secure,
	.peer = websocket_peer,
	.detach = websocket_detach,
	.attach = websocket_attach,
};

/* --- the handshake: RFC 6455 §4.2, RFC 7395 §3.1 --- */

static void
websocket_begin(struct iris_carrier *below, struct iris_str early)
{
	struct websocket *websocket = iris_calloc(1, sizeof(*websocket));

	websocket->carrier.ops = &websocket_ops;
	websocket->below = below;
	websocket->again.fn = websocket_on_again;
	websocket->end.fn = websocket_on_end;
	websocket->end.late = true;
	below->handler = &websocket_handler;
	below->owner = websocket;
	websocket_keep(&websocket->rest, early.base, early.len);
	websocket->stream = stream_begin(&websocket->carrier);
	worker_at_turn_end(&websocket->again); /* not on the fiber of the request */
	metric_add(&websocket_metrics[METRIC_OPENED], 1);
}

static bool
websocket_accept_key(struct iris_arena *arena, struct iris_str key, struct iris_str *accept_r)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	struct iris_str nonce, text;
	unsigned len = 0;

	if (!base64_decode(arena, key, &nonce) || nonce.len != 16)
		return false;
	text = arena_printf(arena, "%.*s" GUID, IRIS_STR_FMT(key));
	if (EVP_Digest(text.base, text.len, digest, &len, EVP_sha1(), NULL) != 1)
		return false;
	*accept_r = base64_encode(arena, (struct iris_str){ (const char *)digest, len });
	return true;
}

/* What is wrong with it as a handshake; 0: nothing. */
static unsigned
websocket_check(struct iris_web_request *request)
{
	if (!http_list_has(web_header(request, "Upgrade"), "websocket") ||
	    !request->head.upgrades || request->head.is_1_0 || request->head_only)
		return 426;
	if (!str_is(web_header(request, "Sec-WebSocket-Version"), "13"))
		return 426;
	if (!http_list_has(web_header(request, "Sec-WebSocket-Protocol"), "xmpp") ||
	    web_body_length(request) != 0)
		return 400;
	/* Nothing is known by a cookie here; still, who may come is the operator's to say. */
	return request_may_come(request) ? 0 : 403;
}

static void
websocket_refuse(struct iris_web_request *request, unsigned status)
{
	metric_add(&websocket_metrics[METRIC_REFUSED], 1);
	if (status == 426) {
		web_set_header(request, "Upgrade", IRIS_STR("websocket"));
		web_set_header(request, "Sec-WebSocket-Version", IRIS_STR("13"));
	}
	answer_status(request, status);
}

static void
websocket_handle(struct iris_web_request *request)
{
	struct iris_carrier *carrier;
	struct iris_str accept, early;
	unsigned status = websocket_check(request);

	if (status == 0 && !websocket_accept_key(web_arena(request),
						 web_header(request, "Sec-WebSocket-Key"), &accept))
		status = 400;
	if (status != 0) {
		websocket_refuse(request, status);
		return;
	}
	web_set_header(request, "Upgrade", IRIS_STR("websocket"));
	web_set_header(request, "Connection", IRIS_STR("Upgrade"));
	web_set_header(request, "Sec-WebSocket-Accept", accept);
	web_set_header(request, "Sec-WebSocket-Protocol", IRIS_STR("xmpp"));
	answer_switch(request);
	carrier = request_upgrade(request, &early);
	if (carrier)
		websocket_begin(carrier, early);
}

static const struct iris_web_route websocket_routes[] = {
	{ IRIS_WEB_GET, "/xmpp-websocket", websocket_handle, 0 },
	{ .path = NULL },
};

const struct iris_module iris_module_websocket = {
	IRIS_MODULE_HEAD,
	.name = "websocket",
	.summary = "XMPP over WebSocket (RFC 7395)",
	.needs = IRIS_NAMES("web"),
	.self = &websocket_self,
	.metrics = websocket_metrics,
	.web = websocket_routes,
	.not_unloadable = true,
};
