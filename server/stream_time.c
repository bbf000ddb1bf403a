/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to streams because nothing happened: negotiation that takes too long, silence, ends
 * that do not come, parsers that rest.  One timer for each worker looks at the heads of its lists,
 * which are in order of time.
 */
#include "stream_private.h"

#define SWEEP_MS 1000

static void
streams_sweep_young(struct streams *here, int64_t now)
{
	struct iris_stream *stream;

	while ((stream = TAILQ_FIRST(&here->lists[STREAMS_YOUNG])) != NULL &&
	       now - stream->since_ms > stream_option(STREAM_OPT_NEGOTIATION)) {
		stream_error(stream, "connection-timeout", NULL);
		if (stream->list == STREAMS_YOUNG)
			stream_cut(stream, "negotiation timeout");
	}
}

static void
streams_sweep_closing(struct streams *here, int64_t now)
{
	struct iris_stream *stream, *next;

	stream = TAILQ_FIRST(&here->lists[STREAMS_CLOSING]);
	while (stream && now - stream->since_ms > stream_option(STREAM_OPT_CLOSE)) {
		next = TAILQ_NEXT(stream, link);
		stream_cut(stream, "close timeout"); /* goes to the end of this list */
		stream = next;
	}
}

static void
stream_stir(struct iris_stream *stream, int64_t now)
{
	int64_t idle = stream_option(STREAM_OPT_IDLE);

	stream_set_list(stream, STREAMS_LIVE);
	if (idle > 0 && now - stream->input_ms > idle) /* §4.6 */
		stream_error(stream, "connection-timeout", NULL);
	else if (stream_option(STREAM_OPT_WHITESPACE) > 0)
		carrier_send(stream->carrier, IRIS_UNIT_SPACE, IRIS_STR(" "));
}

static void
streams_sweep_live(struct streams *here, int64_t now)
{
	int64_t period = stream_option(STREAM_OPT_WHITESPACE);
	struct iris_stream *stream;

	if (period == 0)
		period = stream_option(STREAM_OPT_IDLE);
	while (period > 0 && (stream = TAILQ_FIRST(&here->lists[STREAMS_LIVE])) != NULL &&
	       now - stream->since_ms > period)
		stream_stir(stream, now);
}

static void
streams_sweep_warm(struct streams *here, int64_t now)
{
	struct iris_stream *stream;

	while ((stream = TAILQ_FIRST(&here->warm)) != NULL && now - stream->input_ms > WARM_MS) {
		stream_set_warm(stream, false);
		xml_parser_rest(stream->parser);
	}
}

static void
stream_on_sweep(void *arg)
{
	struct streams *here = streams_here();
	int64_t now = worker_now_ms();

	timer_start(&here->sweep, SWEEP_MS, stream_on_sweep, NULL);
	streams_sweep_young(here, now);
	streams_sweep_live(here, now);
	streams_sweep_closing(here, now);
	streams_sweep_warm(here, now);
}

void
streams_sweep_start(struct streams *here)
{
	timer_start(&here->sweep, SWEEP_MS, stream_on_sweep, NULL);
}
