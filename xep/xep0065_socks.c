/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0065 1.8: the connections of the proxy: see xep0065_socks.h.  One worker at a time; nothing
 * waits.
 *
 * SECURITY: nothing is ever connected to from here, and nothing is relayed but between two
 * connections that asked for the same address, after an account activated it.  Each waits for a
 * while only, what is in between is a window of bytes, and the rate and the sum can be limited.
 */
#include <ctype.h>
#include <stdlib.h>

#include "xep/xep0065_socks.h"

#define SOCKS_VERSION 5
#define METHOD_NONE 0
#define METHOD_REFUSED 0xFF
#define COMMAND_CONNECT 1
#define TYPE_NAME 3
#define REQUEST_LEN (5 + SOCKS_ADDRESS_LEN + 2)
#define HANDSHAKE_MAX 257 /* 255 methods */
#define WINDOW 65536      /* bytes on their way to one side, before the other has to wait */
#define FINISH_MS 30000   /* for what is on its way when one side is through */

enum socks_answer {
	ANSWER_GRANTED = 0,
	ANSWER_FAILURE = 1,
	ANSWER_NOT_ALLOWED = 2,
	ANSWER_BAD_COMMAND = 7,
	ANSWER_BAD_TYPE = 8,
};

enum party_state {
	PARTY_GREETING,
	PARTY_REQUEST,
	PARTY_MOVING,    /* to the home of the address */
	PARTY_WAITING,   /* for the other, and for the activation */
	PARTY_RELAYING,
	PARTY_FINISHING, /* the other is gone, or it was refused: what is on its way is sent */
};

struct bytestream;

/* One connection. */
struct party {
	TAILQ_ENTRY(party) link; /* of this worker */
	struct iris_mail mail;
	struct iris_turn turn;
	struct iris_timer timer;
	struct iris_carrier *carrier;
	enum party_state state;
	struct bytestream *stream; /* from PARTY_WAITING on, until one of them goes */
	bool full;                 /* the other side does not take what this one sends */
	char address[SOCKS_ADDRESS_LEN];
	size_t len;
	unsigned char handshake[HANDSHAKE_MAX];
};

/* Two that asked for the same address, or the first of them. At its home. */
struct bytestream {
	struct iris_hash_node node;
	struct party *parties[2];
	bool active;
	bool throttled;
	int64_t sum, budget, budget_ms; /* of bytes */
	int64_t last_ms;
	struct iris_timer timer; /* waiting; then idleness */
	struct iris_timer rate_timer;
	char address[SOCKS_ADDRESS_LEN];
};

static struct socks_home {
	TAILQ_HEAD(parties, party) parties;
	struct iris_hash streams;
	unsigned party_count, relaying;
	bool closing;
} socks_homes[WORKER_LIMIT];

struct iris_metric socks_metrics[] = {
	[SOCKS_CONNECTED] = { .name = "iris_proxy65_connections_total",
			      .help = "Connections to the SOCKS5 proxy" },
	[SOCKS_REFUSED] = { .name = "iris_proxy65_refused_total",
			    .help = "Of them: that were refused, or came to nothing" },
	[SOCKS_ACTIVATED] = { .name = "iris_proxy65_activated_total",
			      .help = "Bytestreams that were activated" },
	[SOCKS_BYTES] = { .name = "iris_proxy65_bytes_total", .help = "Bytes relayed" },
	[SOCKS_RELAYING] = { .name = "iris_proxy65_streams",
			     .kind = IRIS_GAUGE,
			     .help = "Bytestreams that are active" },
	{ .name = NULL },
};

static struct socks_home *
socks_here(void)
{
	struct socks_home *home = &socks_homes[worker_index()];

	if (!home->parties.tqh_last)
		TAILQ_INIT(&home->parties);
	return home;
}

/* --- one connection --- */

static void
party_free(struct party *party)
{
	struct socks_home *home = socks_here();

	IRIS_ASSERT(!party->stream);
	timer_stop(&party->timer);
	worker_turn_cancel(&party->turn);
	carrier_free(&party->carrier);
	TAILQ_REMOVE(&home->parties, party, link);
	home->party_count--;
	free(party);
}

static void
party_give_up(void *arg)
{
	metric_add(&socks_metrics[SOCKS_REFUSED], 1);
	party_free(arg);
}

/* What is on its way is sent, for a while; nothing more is read. */
static void
party_finish(struct party *party)
{
	party->state = PARTY_FINISHING;
	timer_start(&party->timer, FINISH_MS, party_give_up, party);
	carrier_finish(party->carrier);
}

static void
party_send(struct party *party, const unsigned char *bytes, size_t len)
{
	carrier_send(party->carrier, IRIS_UNIT_BYTES,
		     (struct iris_str){ (const char *)bytes, len });
}

/* RFC 1928 §6: the address and port that were asked for. */
static void
party_answer(struct party *party, enum socks_answer answer)
{
	unsigned char bytes[REQUEST_LEN] = { SOCKS_VERSION, (unsigned char)answer, 0, TYPE_NAME,
					     SOCKS_ADDRESS_LEN };

	memcpy(bytes + 5, party->address, SOCKS_ADDRESS_LEN);
	party_send(party, bytes, sizeof(bytes));
	if (answer == ANSWER_GRANTED)
		return;
	metric_add(&socks_metrics[SOCKS_REFUSED], 1);
	party_finish(party);
}

/* --- two of them --- */

static struct party *
bytestream_other(const struct bytestream *stream, const struct party *party)
{
	return stream->parties[stream->parties[0] == party];
}

/* Reads on, or makes the sender wait. */
static void
party_steer(struct party *party)
{
	struct bytestream *stream = party->stream;
	bool reads = stream && stream->active && !stream->throttled && !party->full;

	carrier_pause(party->carrier, !reads);
}

/* The parties are on their own from here on. */
static void
bytestream_free(struct bytestream *stream)
{
	struct socks_home *home = socks_here();

	for (size_t i = 0; i < IRIS_COUNT(stream->parties); i++)
		if (stream->parties[i])
			stream->parties[i]->stream = NULL;
	if (stream->active) {
		home->relaying--;
		metric_add(&socks_metrics[SOCKS_RELAYING], -1);
	}
	timer_stop(&stream->timer);
	timer_stop(&stream->rate_timer);
	hash_remove(&home->streams, &stream->node);
	free(stream);
}

/* One goes, or all is too much: the other gets what is on its way to it, if it was activated. */
static void
bytestream_end(struct bytestream *stream)
{
	struct party *parties[2] = { stream->parties[0], stream->parties[1] };
	bool active = stream->active;

	bytestream_free(stream);
	for (size_t i = 0; i < IRIS_COUNT(parties); i++) {
		if (parties[i] && active)
			party_finish(parties[i]);
		else if (parties[i])
			party_give_up(parties[i]);
	}
}

static void
bytestream_waited(void *arg)
{
	bytestream_end(arg);
}

static void
bytestream_is_idle(void *arg)
{
	struct bytestream *stream = arg;
	int64_t left = stream->last_ms + option_int(&proxy_self, SOCKS_OPT_IDLE) - worker_now_ms();

	if (left > 0)
		timer_start(&stream->timer, left, bytestream_is_idle, stream);
	else
		bytestream_end(stream);
}

/* --- relaying --- */

static void
bytestream_go_on(void *arg)
{
	struct bytestream *stream = arg;

	stream->throttled = false;
	party_steer(stream->parties[0]);
	party_steer(stream->parties[1]);
}

/* SECURITY: a bucket of one second's bytes; who empties it waits until it is not empty any more. */
static void
bytestream_throttle(struct bytestream *stream, size_t len)
{
	int64_t rate = option_int(&proxy_self, SOCKS_OPT_RATE), now = worker_now_ms();

	if (rate == 0)
		return;
	stream->budget += (now - stream->budget_ms) * rate / 1000;
	if (stream->budget > rate)
		stream->budget = rate;
	stream->budget_ms = now;
	stream->budget -= (int64_t)len;
	if (stream->budget >= 0 || stream->throttled)
		return;
	stream->throttled = true;
	timer_start(&stream->rate_timer, -stream->budget * 1000 / rate + 1, bytestream_go_on,
		    stream);
}

static void
party_relay(struct party *party, const char *bytes, size_t len)
{
	struct bytestream *stream = party->stream;
	struct party *other = bytestream_other(stream, party);
	int64_t most = option_int(&proxy_self, SOCKS_OPT_TRANSFER_MAX);

	stream->last_ms = worker_now_ms();
	stream->sum += (int64_t)len;
	if (most > 0 && stream->sum > most) {
		bytestream_end(stream);
		return;
	}
	metric_add(&socks_metrics[SOCKS_BYTES], (int64_t)len);
	carrier_send(other->carrier, IRIS_UNIT_BYTES, (struct iris_str){ bytes, len });
	party->full = carrier_pending(other->carrier) > WINDOW;
	bytestream_throttle(stream, len);
	party_steer(party);
	if (stream->throttled)
		party_steer(other);
}

enum socks_activation
socks_activate(struct iris_str address)
{
	struct socks_home *home = socks_here();
	struct iris_hash_node *node = hash_find(&home->streams, address);
	struct bytestream *stream = node ? IRIS_CONTAINER(node, struct bytestream, node) : NULL;

	if (!stream || stream->active)
		return SOCKS_UNKNOWN;
	if (!stream->parties[0] || !stream->parties[1])
		return SOCKS_ONE_ONLY;
	stream->active = true;
	stream->last_ms = stream->budget_ms = worker_now_ms();
	stream->budget = option_int(&proxy_self, SOCKS_OPT_RATE);
	home->relaying++;
	metric_add(&socks_metrics[SOCKS_ACTIVATED], 1);
	metric_add(&socks_metrics[SOCKS_RELAYING], 1);
	timer_start(&stream->timer, option_int(&proxy_self, SOCKS_OPT_IDLE), bytestream_is_idle,
		    stream);
	for (size_t i = 0; i < IRIS_COUNT(stream->parties); i++) {
		stream->parties[i]->state = PARTY_RELAYING;
		carrier_admit(stream->parties[i]->carrier);
		party_steer(stream->parties[i]);
	}
	return SOCKS_ACTIVE;
}

/* --- at the home of the address --- */

static struct bytestream *
bytestream_get(const char *address)
{
	struct socks_home *home = socks_here();
	struct iris_str key = { address, SOCKS_ADDRESS_LEN };
	struct iris_hash_node *node = hash_find(&home->streams, key);
	struct bytestream *stream;

	if (node)
		return IRIS_CONTAINER(node, struct bytestream, node);
	if (home->streams.count >= (size_t)option_int(&proxy_self, SOCKS_OPT_STREAMS_MAX))
		return NULL;
	stream = iris_calloc(1, sizeof(*stream));
	memcpy(stream->address, address, SOCKS_ADDRESS_LEN);
	hash_insert(&home->streams, &stream->node,
		    (struct iris_str){ stream->address, SOCKS_ADDRESS_LEN });
	timer_start(&stream->timer, option_int(&proxy_self, SOCKS_OPT_WAITING), bytestream_waited,
		    stream);
	return stream;
}

static void
party_arrive(struct party *party)
{
	struct bytestream *stream = bytestream_get(party->address);
	size_t place = stream && stream->parties[0] ? 1 : 0;

	if (!stream || stream->parties[place]) {
		party_answer(party, stream ? ANSWER_NOT_ALLOWED : ANSWER_FAILURE);
		return;
	}
	stream->parties[place] = party;
	party->stream = stream;
	party->state = PARTY_WAITING;
	party_answer(party, ANSWER_GRANTED);
}

static void
party_mail(struct iris_mail *mail)
{
	struct party *party = IRIS_CONTAINER(mail, struct party, mail);
	struct socks_home *home = socks_here();

	TAILQ_INSERT_TAIL(&home->parties, party, link);
	home->party_count++;
	party->carrier->ops->attach(party->carrier);
	if (home->closing)
		party_free(party);
	else
		party_arrive(party);
}

/* At the end of the turn: nobody is inside the carrier then. */
static void
party_move(struct iris_turn *turn)
{
	struct party *party = IRIS_CONTAINER(turn, struct party, turn);
	struct iris_worker *to = home_of((struct iris_str){ party->address, SOCKS_ADDRESS_LEN });
	struct socks_home *home = socks_here();

	timer_stop(&party->timer);
	if (to == worker_self()) {
		party_arrive(party);
		return;
	}
	TAILQ_REMOVE(&home->parties, party, link);
	home->party_count--;
	party->carrier->ops->detach(party->carrier);
	party->mail.fn = party_mail;
	worker_post(to, &party->mail);
}

/* --- the handshake: RFC 1928 §3, §4 --- */

/* False: it was refused. */
static bool
party_read_greeting(struct party *party)
{
	size_t count = party->handshake[1];
	unsigned char answer[2] = { SOCKS_VERSION, METHOD_REFUSED };

	if (memchr(party->handshake + 2, METHOD_NONE, count))
		answer[1] = METHOD_NONE;
	party_send(party, answer, sizeof(answer));
	party->state = PARTY_REQUEST;
	if (answer[1] == METHOD_NONE)
		return true;
	party_finish(party);
	return false;
}

static bool
party_read_address(struct party *party)
{
	for (size_t i = 0; i < SOCKS_ADDRESS_LEN; i++) {
		unsigned char c = party->handshake[5 + i];

		if (!isxdigit(c))
			return false;
		party->address[i] = (char)tolower(c);
	}
	return true;
}

static void
party_read_request(struct party *party)
{
	const unsigned char *request = party->handshake;

	if (request[1] != COMMAND_CONNECT)
		party_answer(party, ANSWER_BAD_COMMAND);
	else if (request[3] != TYPE_NAME)
		party_answer(party, ANSWER_BAD_TYPE);
	else if (request[4] != SOCKS_ADDRESS_LEN || !party_read_address(party) ||
		 request[REQUEST_LEN - 2] != 0 || request[REQUEST_LEN - 1] != 0)
		party_answer(party, ANSWER_NOT_ALLOWED);
	if (party->state != PARTY_REQUEST)
		return;
	party->state = PARTY_MOVING;
	carrier_pause(party->carrier, true);
	worker_at_turn_end(&party->turn);
}

/* How many bytes there must be, as far as can be told by now. */
static size_t
party_needs(const struct party *party)
{
	if (party->state == PARTY_GREETING)
		return party->len < 2 ? 2 : 2u + party->handshake[1];
	/* A request of another kind is refused as soon as that is seen. */
	if (party->len >= 5 && (party->handshake[1] != COMMAND_CONNECT ||
				party->handshake[3] != TYPE_NAME ||
				party->handshake[4] != SOCKS_ADDRESS_LEN))
		return party->len;
	return REQUEST_LEN;
}

/* False: nothing more is to be read of this connection now. */
static bool
party_read_message(struct party *party)
{
	if (party->len > 0 && party->handshake[0] != SOCKS_VERSION) {
		party_give_up(party);
		return false;
	}
	if (party->len < party_needs(party))
		return true;
	if (party->state == PARTY_GREETING) {
		party->len = 0;
		return party_read_greeting(party);
	}
	party_read_request(party);
	return false;
}

/* Byte by byte: a client may send both messages at once, but nothing behind them. */
static void
party_shake_hands(struct party *party, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		party->handshake[party->len++] = (unsigned char)bytes[i];
		if (party_read_message(party))
			continue;
		return;
	}
}

static void
party_on_input(void *owner, const char *bytes, size_t len)
{
	struct party *party = owner;

	if (party->state == PARTY_RELAYING && party->stream)
		party_relay(party, bytes, len);
	else if (party->state == PARTY_GREETING || party->state == PARTY_REQUEST)
		party_shake_hands(party, bytes, len);
}

/* There is room again for what the other side sends. */
static void
party_on_drained(void *owner)
{
	struct party *party = owner, *other;

	if (party->state != PARTY_RELAYING || !party->stream)
		return;
	other = bytestream_other(party->stream, party);
	if (!other->full || carrier_pending(party->carrier) > WINDOW / 2)
		return;
	other->full = false;
	party_steer(other);
}

static void
party_on_ended(void *owner, const char *reason)
{
	struct party *party = owner;
	struct bytestream *stream = party->stream;
	size_t place;

	if (stream) {
		place = stream->parties[1] == party;
		stream->parties[place] = NULL;
		party->stream = NULL;
		bytestream_end(stream);
	}
	party_free(party);
}

static const struct iris_carrier_handler party_handler = {
	.input = party_on_input,
	.drained = party_on_drained,
	.ended = party_on_ended,
};

void
socks_take(struct iris_carrier *carrier)
{
	struct party *party = iris_calloc(1, sizeof(*party));
	struct socks_home *home = socks_here();

	party->carrier = carrier;
	party->turn.fn = party_move;
	carrier->handler = &party_handler;
	carrier->owner = party;
	TAILQ_INSERT_TAIL(&home->parties, party, link);
	home->party_count++;
	metric_add(&socks_metrics[SOCKS_CONNECTED], 1);
	timer_start(&party->timer, option_int(&proxy_self, SOCKS_OPT_WAITING), party_give_up,
		    party);
}

bool
socks_begins(const char *bytes, size_t len)
{
	return bytes[0] == SOCKS_VERSION;
}

/* Transfers may go on for the moment that is left; what waits has waited for nothing. */
size_t
socks_close(bool now)
{
	struct socks_home *home = socks_here();
	struct party *party, *next;

	home->closing = true;
	HASH_FOREACH(node, &home->streams) {
		struct bytestream *stream = IRIS_CONTAINER(node, struct bytestream, node);

		if (now || !stream->active)
			bytestream_free(stream);
	}
	for (party = TAILQ_FIRST(&home->parties); party; party = next) {
		next = TAILQ_NEXT(party, link);
		if (now || (!party->stream && party->state != PARTY_FINISHING))
			party_free(party);
	}
	if (home->streams.count == 0)
		hash_free(&home->streams);
	return home->party_count;
}
