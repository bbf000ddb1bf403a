/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream writes: elements and deliveries as text, for its carrier.  The worker of the
 * stream; never waits.  Headers and errors are written in stream_negotiation.c and stream_error.c.
 */
#include "stream_private.h"

#define SCRATCH_MAX (256u * 1024u)
#define TALK_MS 50 /* who sent a stanza so lately may wait for an answer */

static void
streams_drop_scratch(struct iris_turn *turn)
{
	struct streams *here = IRIS_CONTAINER(turn, struct streams, scratch_turn);

	arena_unref(&here->scratch);
	here->spare = (struct iris_strbuf){ .base = NULL };
}

struct iris_strbuf
stream_buffer(void)
{
	struct streams *here = streams_here();
	struct iris_strbuf spare = here->spare;

	if (here->scratch && arena_size(here->scratch) > SCRATCH_MAX) {
		spare = (struct iris_strbuf){ .base = NULL };
		arena_unref(&here->scratch);
	}
	if (!here->scratch) {
		here->scratch = arena_new();
		here->scratch_turn.fn = streams_drop_scratch;
		worker_at_turn_end(&here->scratch_turn);
	}
	here->spare = (struct iris_strbuf){ .base = NULL };
	return spare.base ? spare : STRBUF_INIT(here->scratch);
}

bool
stream_is_framed(const struct iris_stream *stream)
{
	return stream->carrier->ops->framed;
}

struct iris_str
stream_outer_ns(const struct iris_stream *stream)
{
	return stream_is_framed(stream) ? IRIS_STR_NONE : str_from(stream->role->ns);
}

void
stream_send_text(struct iris_stream *stream, enum iris_unit unit, struct iris_strbuf *buf)
{
	struct iris_str text = strbuf_str(buf);

	carrier_send(stream->carrier, unit, text);
	stream_count_metric(STREAM_METRIC_BYTES_OUT, (int64_t)text.len);
	buf->len = 0; /* the carrier has a copy */
	if (buf->arena == streams_here()->scratch)
		streams_here()->spare = *buf;
}

bool
stream_takes_output(const struct iris_stream *stream)
{
	IRIS_ASSERT(stream->home == worker_index());
	return stream->state < IRIS_STREAM_CLOSING && !stream->lost;
}

void
stream_send(struct iris_stream *stream, const struct iris_element *element)
{
	struct iris_strbuf buf;

	if (!stream_takes_output(stream))
		return;
	buf = stream_buffer();
	element_write(&buf, element, stream_outer_ns(stream));
	stream_send_text(stream, IRIS_UNIT_ELEMENT, &buf);
}

/* A burst costs less in one record; whoever talks is not made to wait for it. */
static enum iris_unit
unit_of(const struct iris_stream *stream, const struct iris_delivery *delivery)
{
	return delivery->stanza->kind == IRIS_IQ || worker_now_ms() - stream->stanza_ms < TALK_MS ?
		       IRIS_UNIT_ELEMENT :
		       IRIS_UNIT_PATIENT;
}

void
stream_send_delivery(struct iris_stream *stream, const struct iris_delivery *delivery)
{
	struct iris_strbuf buf;

	if (!stream_takes_output(stream))
		return;
	buf = stream_buffer();
	if (stream_is_framed(stream))
		delivery_write_alone(&buf, delivery);
	else
		delivery_write(&buf, delivery);
	stream_send_text(stream, unit_of(stream, delivery), &buf);
	stream_count_metric(STREAM_METRIC_STANZAS_OUT, 1);
}

size_t
stream_output_pending(const struct iris_stream *stream)
{
	return stream->carrier ? carrier_pending(stream->carrier) : 0;
}
