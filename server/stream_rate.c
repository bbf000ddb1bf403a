/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many stanzas a client may send: a bucket for each stream of one, kept as the time until
 * which what it sent is paid for.  Who is ahead of it by more than the burst is not read from for
 * a while: nothing is dropped, TCP makes it wait.  The stream's worker.
 *
 * SECURITY: without it one client that sends as fast as it can fills the vault's queue, and others
 * are told that there is no room.
 */
#include "iris/log.h"
#include "stream_private.h"

#define HOLD_MIN_MS 20 /* what may be sent then goes on together, and not on a timer each */

int64_t
rate_count(int64_t paid_us, int64_t now_us, int64_t per_second)
{
	return (paid_us > now_us ? paid_us : now_us) + INT64_C(1000000) / per_second;
}

int64_t
rate_wait_us(int64_t paid_us, int64_t now_us, int64_t per_second, int64_t burst)
{
	int64_t ahead_us = rate_count(paid_us, now_us, per_second) - now_us;
	int64_t most_us = burst * (INT64_C(1000000) / per_second);

	return ahead_us > most_us ? ahead_us - most_us : 0;
}

void
stream_count_stanza(struct iris_stream *stream)
{
	int64_t rate = stream_option(STREAM_OPT_STANZA_RATE);

	if (rate > 0)
		stream->paid_us = rate_count(stream->paid_us, worker_now_ms() * 1000, rate);
}

static void
stream_tell_held(struct iris_stream *stream)
{
	stream_count_metric(STREAM_METRIC_HELD, 1);
	if (stream->held_told)
		return;
	stream->held_told = true;
	LOG(IRIS_LOG_NOTICE, "stream", "sends-too-fast", LOG_JID("jid", jid_bare(&stream->jid)),
	    LOG_CSTR("hint", "it is read from more slowly; see stream.stanza-rate"));
}

int64_t
stream_hold_ms(struct iris_stream *stream)
{
	int64_t rate = stream_option(STREAM_OPT_STANZA_RATE), wait_us;

	/* Other servers and components speak for many; what a lost one had sent is handled. */
	if (rate == 0 || !stream->session || stream->state != IRIS_STREAM_BOUND || stream->lost)
		return 0;
	wait_us = rate_wait_us(stream->paid_us, worker_now_ms() * 1000, rate,
			       stream_option(STREAM_OPT_STANZA_BURST));
	if (wait_us == 0)
		return 0;
	stream_tell_held(stream);
	return wait_us > HOLD_MIN_MS * 1000 ? (wait_us + 999) / 1000 : HOLD_MIN_MS;
}
