/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How streams end (RFC 6120 §4.4, §4.9).  The stream's worker.  Nothing is freed here: the end is
 * carried out when the turn ends, so callers may still look at the stream.
 */
#include "stream_private.h"

/* RFC 6120 §4.9.3; an unknown name is a bug. */
static const char *const stream_conditions[] = {
	"bad-format",
	"bad-namespace-prefix",
	"conflict",
	"connection-timeout",
	"host-gone",
	"host-unknown",
	"improper-addressing",
	"internal-server-error",
	"invalid-from",
	"invalid-namespace",
	"invalid-xml",
	"not-authorized",
	"not-well-formed",
	"policy-violation",
	"remote-connection-failed",
	"reset",
	"resource-constraint",
	"restricted-xml",
	"see-other-host",
	"system-shutdown",
	"undefined-condition",
	"unsupported-encoding",
	"unsupported-feature",
	"unsupported-stanza-type",
	"unsupported-version",
};

const char *
stream_condition_find(struct iris_str name)
{
	for (size_t i = 0; i < IRIS_COUNT(stream_conditions); i++)
		if (str_is(name, stream_conditions[i]))
			return stream_conditions[i];
	return "undefined-condition";
}

static bool
stream_is_condition(const char *condition)
{
	return strcmp(stream_condition_find(str_from(condition)), condition) == 0;
}

/* Is there a way to say anything? Not during a handshake, and not when it is over. */
static bool
stream_can_speak(const struct iris_stream *stream)
{
	return !stream->lost && stream->state != IRIS_STREAM_HANDSHAKE &&
	       stream->state < IRIS_STREAM_CLOSING;
}

static void
stream_write_error(struct iris_strbuf *buf, bool alone, const char *condition, const char *text,
		   const struct iris_element *app)
{
	strbuf_printf(buf, "<stream:error%s><%s xmlns='" NS_STREAMS "'/>",
		      alone ? " xmlns:stream='" NS_STREAM "'" : "", condition);
	if (text) {
		strbuf_add(buf, IRIS_STR("<text xmlns='" NS_STREAMS "' xml:lang='en'>"));
		xml_escape(buf, str_from(text));
		strbuf_add(buf, IRIS_STR("</text>"));
	}
	if (app)
		element_write(buf, app, IRIS_STR_NONE);
	strbuf_add(buf, IRIS_STR("</stream:error>"));
}

static void
stream_send_closing_tag(struct iris_stream *stream)
{
	struct iris_strbuf buf;

	if (!stream->header_sent)
		stream_send_header(stream, NULL);
	buf = stream_buffer();
	strbuf_add(&buf, stream_is_framed(stream) ? IRIS_STR("<close xmlns='" NS_FRAMING "'/>") :
						    IRIS_STR("</stream:stream>"));
	stream_send_text(stream, IRIS_UNIT_CLOSE, &buf);
	stream->orderly = true;
	stream_move_to_state(stream, IRIS_STREAM_CLOSING);
}

void
stream_error_app(struct iris_stream *stream, const char *condition, const char *text,
		 const struct iris_element *app)
{
	struct iris_strbuf buf;

	IRIS_ASSERT(stream->home == worker_index() && stream_is_condition(condition));
	if (!stream_can_speak(stream)) {
		if (stream->state == IRIS_STREAM_HANDSHAKE)
			stream_cut(stream, condition);
		return;
	}
	if (!stream->header_sent)
		stream_send_header(stream, NULL);
	buf = stream_buffer();
	stream_write_error(&buf, stream_is_framed(stream), condition, text, app);
	stream_send_text(stream, IRIS_UNIT_ERROR, &buf);
	stream_send_closing_tag(stream);
	stream_count_metric(STREAM_METRIC_ERRORS, 1);
	LOG(IRIS_LOG_INFO, "stream", "error", LOG_CSTR("condition", condition),
	    LOG_CSTR("text", text), LOG_STR("address", stream_peer_address(stream)),
	    LOG_JID("jid", jid_full(&stream->jid)));
	carrier_finish(stream->carrier);
}

void
stream_error(struct iris_stream *stream, const char *condition, const char *text)
{
	stream_error_app(stream, condition, text, NULL);
}

/* §4.4: our tag, then the peer's, within the time of STREAMS_CLOSING. */
void
stream_close(struct iris_stream *stream)
{
	IRIS_ASSERT(stream->home == worker_index());
	if (stream_can_speak(stream))
		stream_send_closing_tag(stream);
	else if (stream->state == IRIS_STREAM_HANDSHAKE)
		stream_cut(stream, "closed");
}

void
stream_handle_closing_tag(struct iris_stream *stream)
{
	if (stream_can_speak(stream))
		stream_send_closing_tag(stream);
	stream->orderly = true;
	carrier_finish(stream->carrier);
}

void
stream_cut(struct iris_stream *stream, const char *reason)
{
	if (stream->state == IRIS_STREAM_CLOSED)
		return;
	if (!stream->orderly)
		stream_count_metric(STREAM_METRIC_LOST, 1);
	LOG(IRIS_LOG_DEBUG, "stream", "ended", LOG_CSTR("reason", reason),
	    LOG_STR("id", stream_id(stream)));
	stream_move_to_state(stream, IRIS_STREAM_CLOSED);
}
