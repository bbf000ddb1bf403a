/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP and TLS on libevent's raw events.  Any worker, one at a time for each connection.
 *
 * What is inside OpenSSL (read ahead, or decrypted) is not announced by the kernel: after each read
 * it is asked for, and whoever stops reading with something left inside comes back by a timer of
 * zero. It knows nothing of XML; the owner gets bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/err.h>

#include "admission.h"
#include "connection.h"
#include "iris/worker.h"
#include "output.h"
#include "proxy.h"

#define RECORD_MAX 16384u /* the most one TLS record holds */
#define READ_ROUNDS_MAX 16 /* then others have their turn */
#define WRITE_ROUNDS_MAX 4
#define GATHER_BYTES 8192u /* so much does not wait for more */

/* X(NAME, what is under way) */
#define CONNECTION_STATES(X)                      \
	X(PROXY, "the PROXY header")              \
	X(HANDSHAKE, "the TLS handshake")         \
	X(OPEN, "bytes both ways")                \
	X(FLUSHING, "the last bytes going out")   \
	X(DRAINING, "waiting for the peer's end") \
	X(ENDED, "nothing; the owner knows or will")

enum connection_state {
#define X(name, what) CONNECTION_##name,
	CONNECTION_STATES(X)
#undef X
};

struct proxy_input {
	size_t len;
	uint8_t bytes[PROXY_MAX];
};

/* Owned by its owner (a stream) until connection_free(). */
struct connection {
	struct iris_carrier carrier;
	enum connection_state state;
	int fd;
	SSL *ssl;
	struct event *reader, *writer; /* writer: only while the socket takes no more */
	struct output output;
	struct admission *admission; /* while it has proven nothing */
	struct proxy_input *proxy; /* while in PROXY */
	const char *const *alpn;
	SSL *outgoing; /* we have connected: what becomes `ssl` when TLS begins */
	const char *end_reason;
	struct iris_turn turn; /* writes, ends */
	struct iris_timer again; /* reads what no event announces */
	uint8_t busy; /* handlers under way */
	bool freed; /* by a handler: goes when it returns */
	bool paused, direct_tls, between_servers, overflow;
	bool hurry; /* what is queued does not wait for more */
	bool gathering; /* it does, in the worker's list */
	int64_t written_ms; /* when something was written last */
	TAILQ_ENTRY(connection) gathering_link;
	char peer[INET6_ADDRSTRLEN];
};

static struct {
	atomic_size_t output_limit;
	atomic_uint dead_peer_ms, keepalive_s, gather_ms;
} options = { 8u << 20, 90000, 240, 0 };

/* Those whose output waits for more: all of them are written when the timer fires. */
static _Thread_local struct {
	TAILQ_HEAD(, connection) waiting;
	struct iris_timer timer;
} gathering;

static void connection_on_event(int fd, short what, void *arg);
static const struct iris_carrier_ops connection_ops;

static struct connection *
connection_of(const struct iris_carrier *carrier)
{
	return IRIS_CONTAINER(carrier, struct connection, carrier);
}

/* --- what is queued --- */

static size_t
connection_pending(const struct connection *connection)
{
	return connection->output.len;
}

/* --- output that waits for more --- */

static void
gathering_leave(struct connection *connection)
{
	if (!connection->gathering)
		return;
	connection->gathering = false;
	TAILQ_REMOVE(&gathering.waiting, connection, gathering_link);
	if (TAILQ_EMPTY(&gathering.waiting))
		timer_stop(&gathering.timer);
}

static void
gathering_is_over(void *arg)
{
	struct connection *connection;

	while ((connection = TAILQ_FIRST(&gathering.waiting)) != NULL) {
		gathering_leave(connection);
		connection->hurry = true;
		worker_at_turn_end(&connection->turn);
	}
}

static void
gathering_join(struct connection *connection, unsigned most_ms)
{
	if (!gathering.waiting.tqh_last)
		TAILQ_INIT(&gathering.waiting);
	connection->gathering = true;
	TAILQ_INSERT_TAIL(&gathering.waiting, connection, gathering_link);
	if (!timer_is_running(&gathering.timer))
		timer_start(&gathering.timer, most_ms, gathering_is_over, NULL);
}

/* True: nothing is to be written now. */
static bool
connection_gathers(struct connection *connection)
{
	unsigned most_ms = atomic_load_explicit(&options.gather_ms, memory_order_relaxed);

	if (connection->state != CONNECTION_OPEN || connection->hurry ||
	    connection_pending(connection) == 0 ||
	    worker_now_ms() - connection->written_ms >= most_ms)
		return false;
	if (!connection->gathering)
		gathering_join(connection, most_ms);
	return true;
}

/* --- the end --- */

static void
connection_release(struct connection *connection)
{
	timer_stop(&connection->again);
	worker_turn_cancel(&connection->turn);
	gathering_leave(connection);
	if (connection->reader)
		event_free(connection->reader);
	if (connection->writer)
		event_free(connection->writer);
	output_free(&connection->output);
	SSL_free(connection->ssl);
	if (connection->fd >= 0)
		close(connection->fd);
	admission_leave(&connection->admission);
	free(connection->proxy);
	SSL_free(connection->outgoing);
	free(connection);
}

static void
connection_enter(struct connection *connection)
{
	connection->busy++;
}

/* False: it was freed meanwhile. */
static bool
connection_leave(struct connection *connection)
{
	if (--connection->busy > 0 || !connection->freed)
		return !connection->freed;
	connection_release(connection);
	return false;
}

/* The owner hears of it at the end of the turn, when no call of his is under way. */
static void
connection_end(struct connection *connection, const char *reason)
{
	if (connection->state == CONNECTION_ENDED)
		return;
	connection->state = CONNECTION_ENDED;
	connection->end_reason = reason;
	timer_stop(&connection->again);
	gathering_leave(connection);
	if (connection->reader)
		event_del(connection->reader);
	if (connection->writer)
		event_del(connection->writer);
	worker_at_turn_end(&connection->turn);
}

static void
connection_want_write(struct connection *connection, bool wanted)
{
	if (!wanted) {
		if (connection->writer)
			event_free(connection->writer);
		connection->writer = NULL;
		return;
	}
	if (!connection->writer)
		connection->writer = event_new(worker_base(), connection->fd, EV_WRITE | EV_PERSIST,
					       connection_on_event, connection);
	IRIS_ASSERT(connection->writer && event_add(connection->writer, NULL) == 0);
}

/* --- reading and writing, in the clear or not --- */

enum { IO_AGAIN = 0, IO_ENDED = -1 }; /* above zero: bytes */

static int
connection_ssl_result(struct connection *connection, int result)
{
	switch (SSL_get_error(connection->ssl, result)) {
	case SSL_ERROR_WANT_READ: return IO_AGAIN;
	case SSL_ERROR_WANT_WRITE: connection_want_write(connection, true); return IO_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		connection_end(connection, "closed by the peer");
		return IO_ENDED;
	default: /* also the peer's end without close_notify */
		connection_end(connection, connection->state == CONNECTION_HANDSHAKE ?
						   "TLS handshake failed" :
						   "connection lost");
		ERR_clear_error();
		return IO_ENDED;
	}
}

static int
connection_socket_result(struct connection *connection, ssize_t result, bool reading)
{
	if (result > 0)
		return (int)result;
	if (result < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (!reading)
			connection_want_write(connection, true);
		return IO_AGAIN;
	}
	connection_end(connection, result == 0 ? "closed by the peer" : "connection lost");
	return IO_ENDED;
}

static int
connection_receive(struct connection *connection, void *buffer, size_t size)
{
	int result;

	if (!connection->ssl)
		return connection_socket_result(connection, recv(connection->fd, buffer, size, 0),
						true);
	ERR_clear_error();
	result = SSL_read(connection->ssl, buffer, (int)size);
	return result > 0 ? result : connection_ssl_result(connection, result);
}

static int
connection_transmit(struct connection *connection, const void *bytes, size_t len)
{
	int result;

	if (!connection->ssl)
		return connection_socket_result(
			connection, send(connection->fd, bytes, len, MSG_NOSIGNAL), false);
	ERR_clear_error();
	result = SSL_write(connection->ssl, bytes, (int)len);
	return result > 0 ? result : connection_ssl_result(connection, result);
}

static bool
connection_has_more(const struct connection *connection, int received)
{
	return received == (int)RECORD_MAX || (connection->ssl && SSL_has_pending(connection->ssl));
}

/* Delivers what came; true: it stopped for the sake of others, and something may be left. */
static bool
connection_read_rounds(struct connection *connection)
{
	static _Thread_local char buffer[RECORD_MAX];
	const struct iris_carrier *carrier = &connection->carrier;

	for (int rounds = 0; rounds < READ_ROUNDS_MAX; rounds++) {
		int received = connection_receive(connection, buffer, sizeof(buffer));

		if (received <= 0)
			return false;
		if (connection->state == CONNECTION_OPEN)
			carrier->handler->input(carrier->owner, buffer, (size_t)received);
		if (connection->freed || connection->paused ||
		    (connection->state != CONNECTION_OPEN &&
		     connection->state != CONNECTION_DRAINING))
			return false;
		if (!connection_has_more(connection, received))
			return false;
	}
	return true;
}

static void
connection_again(void *arg)
{
	connection_on_event(-1, EV_READ, arg);
}

static void
connection_read(struct connection *connection)
{
	if (connection->paused) { /* not asked for before: mostly nothing comes meanwhile */
		event_del(connection->reader);
		return;
	}
	if (connection_read_rounds(connection) && !timer_is_running(&connection->again))
		timer_start(&connection->again, 0, connection_again, connection);
}

/* Some of what is queued; the rest when the socket takes more. */
static void
connection_write_rounds(struct connection *connection)
{
	for (int rounds = 0; rounds < WRITE_ROUNDS_MAX; rounds++) {
		size_t len = connection_pending(connection);
		int sent;

		if (len == 0)
			break;
		if (len > RECORD_MAX)
			len = RECORD_MAX;
		sent = connection_transmit(connection, output_bytes(&connection->output), len);
		if (sent <= 0)
			return;
		output_drain(&connection->output, (size_t)sent);
	}
	connection_want_write(connection, connection_pending(connection) > 0);
}

static void
connection_write(struct connection *connection)
{
	const struct iris_carrier *carrier = &connection->carrier;

	gathering_leave(connection);
	connection_write_rounds(connection);
	connection->hurry = false;
	connection->written_ms = worker_now_ms();
	if (carrier->handler->drained && connection->state == CONNECTION_OPEN &&
	    connection_pending(connection) == 0)
		carrier->handler->drained(carrier->owner);
}

/* --- states --- */

static void
connection_handshake(struct connection *connection)
{
	int result;

	ERR_clear_error();
	result = SSL_do_handshake(connection->ssl);
	if (result != 1) {
		connection_ssl_result(connection, result);
		return;
	}
	connection_want_write(connection, false);
	connection->state = CONNECTION_OPEN;
	connection->carrier.handler->secured(connection->carrier.owner);
	if (!connection->freed && connection->state == CONNECTION_OPEN)
		connection_read(connection); /* the first bytes may have come with the last of the
						handshake */
}

/* All is written: close_notify, FIN, and the peer's turn. */
static void
connection_say_goodbye(struct connection *connection)
{
	if (connection->ssl) {
		ERR_clear_error();
		(void)SSL_shutdown(connection->ssl);
		ERR_clear_error();
	}
	(void)shutdown(connection->fd, SHUT_WR);
	connection_want_write(connection, false);
	connection->state = CONNECTION_DRAINING;
	connection->paused = false;
	IRIS_ASSERT(event_add(connection->reader, NULL) == 0);
	if (connection->ssl && SSL_has_pending(connection->ssl) &&
	    !timer_is_running(&connection->again))
		timer_start(&connection->again, 0, connection_again, connection);
}

static void
connection_flush(struct connection *connection)
{
	connection_write(connection);
	if (connection->state == CONNECTION_FLUSHING && connection_pending(connection) == 0)
		connection_say_goodbye(connection);
}

/* The network's address as people write it: IPv4 on a dual-stack socket without its prefix. */
static void
connection_name_peer(struct connection *connection, const struct sockaddr *address)
{
	const void *bytes = NULL;
	int family = address->sa_family;

	if (family == AF_INET) {
		bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
	} else if (family == AF_INET6) {
		const struct in6_addr *in6 =
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
		bool mapped = IN6_IS_ADDR_V4MAPPED(in6);

		bytes = in6->s6_addr + (mapped ? 12 : 0);
		family = mapped ? AF_INET : AF_INET6;
	}
	if (!bytes || !inet_ntop(family, bytes, connection->peer, sizeof(connection->peer)))
		memcpy(connection->peer, "unknown", sizeof("unknown"));
}

static bool
connection_come_in(struct connection *connection, const struct sockaddr *peer)
{
	SSL_CTX *context;

	connection_name_peer(connection, peer);
	connection->admission = admission_enter(peer);
	if (!connection->admission)
		return false;
	if (!connection->direct_tls) {
		connection->state = CONNECTION_OPEN;
		return true;
	}
	context = host_default() ? host_tls(host_default(), connection->between_servers) : NULL;
	if (!context)
		return false;
	connection->ssl = tls_accept_new(context, connection->fd, connection->alpn,
					 connection->between_servers);
	connection->state = CONNECTION_HANDSHAKE;
	return connection->ssl != NULL;
}

/* Who has connected speaks first: no event announces that. */
static bool
connection_begin_tls(struct connection *connection)
{
	if (SSL_set_fd(connection->outgoing, connection->fd) != 1)
		return false;
	connection->ssl = connection->outgoing;
	connection->outgoing = NULL;
	connection->state = CONNECTION_HANDSHAKE;
	timer_start(&connection->again, 0, connection_again, connection);
	return true;
}

static bool
connection_go_out(struct connection *connection, const struct connection_setup *setup)
{
	connection_name_peer(connection, setup->peer);
	connection->state = CONNECTION_OPEN;
	return !setup->direct_tls || connection_begin_tls(connection);
}

static void
connection_take_proxy(struct connection *connection, const struct proxy_header *header)
{
	struct sockaddr_storage peer = header->peer;
	socklen_t len = sizeof(peer);
	bool ok = !header->is_local ||
		  getpeername(connection->fd, (struct sockaddr *)&peer, &len) == 0;

	free(connection->proxy);
	connection->proxy = NULL;
	if (!ok || !connection_come_in(connection, (struct sockaddr *)&peer))
		connection_end(connection, "not let in");
}

/* Exactly the header is read, so that TLS begins with its own first byte. */
static void
connection_read_proxy(struct connection *connection)
{
	struct proxy_input *proxy = connection->proxy;
	struct proxy_header header;
	enum proxy_result result;

	while ((result = proxy_parse(proxy->bytes, proxy->len, &header)) == PROXY_MORE) {
		int received = connection_receive(connection, proxy->bytes + proxy->len,
						  header.need - proxy->len);

		if (received <= 0)
			return;
		proxy->len += (size_t)received;
	}
	if (result == PROXY_OK)
		connection_take_proxy(connection, &header);
	else
		connection_end(connection, "no PROXY header");
}

static void
connection_on_event(int fd, short what, void *arg)
{
	struct connection *connection = arg;

	connection_enter(connection);
	if (connection->state == CONNECTION_PROXY)
		connection_read_proxy(connection);
	if (connection->state == CONNECTION_HANDSHAKE)
		connection_handshake(connection);
	else if (what & EV_WRITE)
		connection_flush(connection);
	/* Also when it became writable: SSL_read may have waited for that. */
	if (!connection->freed &&
	    (connection->state == CONNECTION_OPEN || connection->state == CONNECTION_DRAINING))
		connection_read(connection);
	(void)connection_leave(connection);
}

static void
connection_on_turn(struct iris_turn *turn)
{
	struct connection *connection = IRIS_CONTAINER(turn, struct connection, turn);

	connection_enter(connection);
	if (!connection->writer && !connection_gathers(connection) &&
	    (connection->state == CONNECTION_OPEN || connection->state == CONNECTION_FLUSHING))
		connection_flush(connection);
	/* SECURITY: a peer that does not read must not make us keep everything it is sent. */
	if (connection->overflow)
		connection_end(connection, "does not read");
	if (connection->state == CONNECTION_ENDED && connection->end_reason) {
		const char *reason = connection->end_reason;

		connection->end_reason = NULL;
		connection->carrier.handler->ended(connection->carrier.owner, reason);
	}
	(void)connection_leave(connection);
}

static void
connection_tune(int fd)
{
	static const int on = 1, probes = 4, probe_interval = 15;
	int idle = (int)atomic_load_explicit(&options.keepalive_s, memory_order_relaxed);
	unsigned timeout = atomic_load_explicit(&options.dead_peer_ms, memory_order_relaxed);

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_interval, sizeof(probe_interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

/* --- what a carrier does --- */

static void
connection_free(struct iris_carrier *carrier)
{
	struct connection *connection = connection_of(carrier);

	connection->freed = true;
	connection->state = CONNECTION_ENDED;
	connection->end_reason = NULL;
	if (connection->busy == 0)
		connection_release(connection);
}

static const char *
connection_peer(const struct iris_carrier *carrier)
{
	return connection_of(carrier)->peer;
}

static SSL *
connection_ssl(const struct iris_carrier *carrier)
{
	return connection_of(carrier)->ssl;
}

static bool
connection_is_secure(const struct iris_carrier *carrier)
{
	const struct connection *connection = connection_of(carrier);

	return connection->ssl && SSL_is_init_finished(connection->ssl);
}

static void
connection_admit(struct iris_carrier *carrier)
{
	admission_leave(&connection_of(carrier)->admission);
}

static void
connection_pause(struct iris_carrier *carrier, bool paused)
{
	struct connection *connection = connection_of(carrier);

	if (connection->paused == paused || connection->state != CONNECTION_OPEN)
		return;
	connection->paused = paused;
	if (paused) {
		timer_stop(&connection->again);
		return;
	}
	IRIS_ASSERT(event_add(connection->reader, NULL) == 0);
	if (connection->ssl && SSL_has_pending(connection->ssl) &&
	    !timer_is_running(&connection->again))
		timer_start(&connection->again, 0, connection_again, connection);
}

static bool
connection_start_tls(struct iris_carrier *carrier, SSL_CTX *context)
{
	struct connection *connection = connection_of(carrier);

	IRIS_ASSERT(!connection->ssl);
	if (connection->state != CONNECTION_OPEN)
		return false;
	connection_pause(carrier, false); /* the handshake cannot be made to wait */
	connection_write(connection);
	if (connection->state != CONNECTION_OPEN || connection_pending(connection) > 0)
		return false;
	if (connection->outgoing)
		return connection_begin_tls(connection);
	connection->ssl =
		tls_accept_new(context, connection->fd, NULL, connection->between_servers);
	if (!connection->ssl)
		return false;
	connection->state = CONNECTION_HANDSHAKE;
	return true;
}

static void
connection_send(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str bytes)
{
	struct connection *connection = connection_of(carrier);
	size_t limit = atomic_load_explicit(&options.output_limit, memory_order_relaxed);

	if (connection->state != CONNECTION_OPEN || connection->overflow || bytes.len == 0)
		return;
	output_add(&connection->output, bytes);
	if (unit != IRIS_UNIT_PATIENT || connection_pending(connection) >= GATHER_BYTES)
		connection->hurry = true;
	if (connection_pending(connection) > limit)
		connection->overflow = true;
	if (!connection->gathering || connection->hurry)
		worker_at_turn_end(&connection->turn);
}

static size_t
connection_count_pending(const struct iris_carrier *carrier)
{
	return connection_pending(connection_of(carrier));
}

static void
connection_finish(struct iris_carrier *carrier)
{
	struct connection *connection = connection_of(carrier);

	if (connection->state != CONNECTION_OPEN) {
		if (connection->state < CONNECTION_OPEN)
			connection_end(connection, "finished");
		return;
	}
	connection->state = CONNECTION_FLUSHING;
	event_del(connection->reader);
	timer_stop(&connection->again);
	worker_at_turn_end(&connection->turn);
}

static void
connection_detach(struct iris_carrier *carrier)
{
	struct connection *connection = connection_of(carrier);

	IRIS_ASSERT(connection->busy == 0 && connection->state != CONNECTION_HANDSHAKE);
	event_free(connection->reader);
	connection->reader = NULL;
	connection_want_write(connection, false);
	timer_stop(&connection->again);
	worker_turn_cancel(&connection->turn);
	gathering_leave(connection);
}

static void
connection_attach(struct iris_carrier *carrier)
{
	struct connection *connection = connection_of(carrier);

	connection->reader = event_new(worker_base(), connection->fd, EV_READ | EV_PERSIST,
				       connection_on_event, connection);
	IRIS_ASSERT(connection->reader);
	if (connection->state == CONNECTION_ENDED || connection_pending(connection) > 0 ||
	    connection->state == CONNECTION_FLUSHING)
		worker_at_turn_end(&connection->turn);
	if (connection->state == CONNECTION_ENDED || connection->paused)
		return;
	IRIS_ASSERT(event_add(connection->reader, NULL) == 0);
	if (connection->ssl && SSL_has_pending(connection->ssl))
		timer_start(&connection->again, 0, connection_again, connection);
}

static const struct iris_carrier_ops connection_ops = {
	.name = "tcp",
	.send = connection_send,
	.pending = connection_count_pending,
	.pause = connection_pause,
	.finish = connection_finish,
	.free = connection_free,
	.admit = connection_admit,
	.start_tls = connection_start_tls,
	.ssl = connection_ssl,
	.is_secure = connection_is_secure,
	.peer = connection_peer,
	.detach = connection_detach,
	.attach = connection_attach,
};

struct iris_carrier *
connection_open(const struct connection_setup *setup)
{
	struct connection *connection = iris_calloc(1, sizeof(*connection));

	*connection = (struct connection){
		.carrier = { &connection_ops, setup->handler, setup->owner },
		.fd = setup->fd,
		.direct_tls = setup->direct_tls,
		.between_servers = setup->between_servers,
		.alpn = setup->alpn,
		.outgoing = setup->outgoing,
		.turn = { .late = true, .fn = connection_on_turn },
	};
	connection_tune(setup->fd);
	if (setup->proxy) {
		connection_name_peer(connection, setup->peer);
		connection->proxy = iris_calloc(1, sizeof(*connection->proxy));
	} else if (setup->outgoing ? !connection_go_out(connection, setup) :
				   !connection_come_in(connection, setup->peer)) {
		connection_release(connection);
		return NULL;
	}
	connection_attach(&connection->carrier);
	return &connection->carrier;
}

void
connection_set_options(const struct connection_options *fresh)
{
	atomic_store(&options.output_limit, fresh->output_limit);
	atomic_store(&options.dead_peer_ms, fresh->dead_peer_ms);
	atomic_store(&options.keepalive_s, fresh->keepalive_s);
	atomic_store(&options.gather_ms, fresh->gather_ms);
}
