/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams that we begin, to other servers: connecting, our header, the peer's, STARTTLS (RFC 6120
 * §4.2, §5 as the initiating entity).  The worker that dials.  Who is dialled and what follows TLS
 * is the role's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

#include "iris/dial.h"
#include "iris/gate.h"
#include "stream_private.h"

#define SLICE_MS 200 /* who stops is not kept waiting for a connection */
#define ID_MAX 1023

/* --- connecting --- */

struct connecting { /* on the stack of the fiber that waits */
	struct iris_wait wait;
	struct event *event;
	int64_t until_ms;
};

static void
connecting_go_on(struct connecting *connecting)
{
	const struct timeval slice = { .tv_usec = SLICE_MS * 1000 };

	IRIS_ASSERT(event_add(connecting->event, &slice) == 0);
}

static void
connecting_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct connecting *connecting = arg;

	if (what & EV_TIMEOUT && worker_now_ms() < connecting->until_ms && !worker_is_stopping()) {
		connecting_go_on(connecting);
		return;
	}
	wait_done(&connecting->wait);
}

/* Waits until the socket is connected, or is not going to be. */
static const char *
connecting_wait(int fd, unsigned timeout_ms)
{
	struct connecting connecting = { .until_ms = worker_now_ms() + timeout_ms };
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int), peer_len = sizeof(peer);
	int error = 0;

	connecting.event = event_new(worker_base(), fd, EV_WRITE, connecting_on_event, &connecting);
	IRIS_ASSERT(connecting.event);
	wait_init(&connecting.wait);
	connecting_go_on(&connecting);
	wait_for(&connecting.wait, "a connection");
	event_free(connecting.event);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
		return error == ECONNREFUSED ? "connection refused" : "host unreachable";
	return getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 ? NULL :
									   "connection timeout";
}

static socklen_t
dial_address(const struct iris_dial *dial, struct sockaddr_storage *address_r)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(dial->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(dial->port) };

	memcpy(&in.sin_addr, dial->address.bytes, sizeof(in.sin_addr));
	memcpy(&in6.sin6_addr, dial->address.bytes, sizeof(in6.sin6_addr));
	if (dial->address.is_ipv6)
		memcpy(address_r, &in6, sizeof(in6));
	else
		memcpy(address_r, &in, sizeof(in));
	return dial->address.is_ipv6 ? sizeof(in6) : sizeof(in);
}

static int
dial_connect(const struct iris_dial *dial, const struct sockaddr_storage *address, socklen_t len,
	     const char **why_r)
{
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*why_r = NULL;
	if (fd < 0)
		*why_r = errno == EAFNOSUPPORT ? "no such network" : "no file descriptor";
	else if (connect(fd, (const struct sockaddr *)address, len) != 0)
		*why_r = errno == EINPROGRESS ? connecting_wait(fd, dial->timeout_ms) :
						"host unreachable";
	if (!*why_r)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* --- the stream --- */

static struct stream_initiator *
stream_initiator_new(const struct iris_dial *dial)
{
	struct stream_initiator *initiator = iris_calloc(1, sizeof(*initiator));

	initiator->from = str_dup(dial->from);
	initiator->to = str_dup(dial->to);
	return initiator;
}

void
stream_initiator_free(struct stream_initiator **initiator_p)
{
	struct stream_initiator *initiator = *initiator_p;

	*initiator_p = NULL;
	if (!initiator)
		return;
	free(initiator->from);
	free(initiator->to);
	free(initiator->id);
	free(initiator);
}

static SSL *
dial_tls(const struct iris_dial *dial, const char **why_r)
{
	SSL_CTX *identity = host_tls(dial->host, true);
	SSL *tls = identity && !streams_here()->closing ? tls_connect_new(identity, dial) : NULL;

	if (!identity)
		*why_r = "no certificate of ours";
	else if (!tls)
		*why_r = streams_here()->closing ? "shutting down" : "TLS could not be set up";
	return tls;
}

/* SECURITY: in depth: who dials is not loaded in an isolated region (region_role.h). */
static bool
dial_may(const char **why_r)
{
	if (!region_is_isolated())
		return true;
	*why_r = "the region is isolated";
	LOG(IRIS_LOG_ERROR, "stream", "dial-refused", LOG_CSTR("why", *why_r));
	return false;
}

struct iris_stream *
stream_dial(const struct iris_dial *dial, const char **why_r)
{
	struct sockaddr_storage address;
	struct iris_stream *stream;
	SSL *tls;
	int fd = dial_may(why_r) ?
			 dial_connect(dial, &address, dial_address(dial, &address), why_r) :
			 -1;

	if (fd < 0)
		return NULL;
	tls = dial_tls(dial, why_r);
	if (!tls) {
		close(fd);
		return NULL;
	}
	stream = stream_new(dial->role, dial->direct_tls ? LISTENER_DIRECT : LISTENER_STARTTLS);
	stream->initiator = stream_initiator_new(dial);
	stream->host = dial->host;
	stream->carrier = connection_open(
		&(struct connection_setup){ .fd = fd,
					    .peer = (const struct sockaddr *)&address,
					    .direct_tls = dial->direct_tls,
					    .between_servers = true,
					    .outgoing = tls,
					    .handler = &stream_carrier_handler,
					    .owner = stream });
	if (!stream->carrier) {
		stream_discard(&stream);
		*why_r = "TLS could not be started";
		return NULL;
	}
	stream_enter(stream, dial->direct_tls ? IRIS_STREAM_HANDSHAKE : IRIS_STREAM_HEADER);
	if (!dial->direct_tls)
		stream_send_header(stream, NULL);
	return stream;
}

/* --- headers --- */

void
stream_send_first_header(struct iris_stream *stream)
{
	struct iris_strbuf buf = stream_buffer();

	strbuf_printf(&buf,
		      "<?xml version='1.0'?><stream:stream xmlns='%s' "
		      "xmlns:stream='" NS_STREAM "'",
		      stream->role->ns);
	strbuf_add(&buf, str_from(stream->role->prefixes));
	xml_add_attribute(&buf, "from", str_from(stream->initiator->from));
	xml_add_attribute(&buf, "to", str_from(stream->initiator->to));
	strbuf_add(&buf, IRIS_STR(" version='1.0' xml:lang='en'>"));
	stream->header_sent = true;
	stream_send_text(stream, IRIS_UNIT_OPEN, &buf);
}

void
stream_restart(struct iris_stream *stream)
{
	IRIS_ASSERT(stream->initiator);
	if (stream->state == IRIS_STREAM_HEADER)
		stream_send_header(stream, NULL);
}

/* §4.7.1: who answers says who it is; it must be whom we asked for. */
static bool
stream_is_answered_by(const struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_str from = element_get(header, "from");
	struct iris_jid jid;

	return str_is_none(from) ||
	       (jid_parse(header->arena, from, &jid) &&
		str_equal(jid_full(&jid), str_from(stream->initiator->to)));
}

void
stream_handle_answer(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_str id = element_get(header, "id");
	struct stream_fault fault;

	if (stream->state != IRIS_STREAM_HEADER)
		return;
	fault = stream_check_frame_of_header(stream, header);
	if (!fault.condition && (str_is_empty(id) || id.len > ID_MAX)) /* §4.7.3 */
		fault = STREAM_FAULT("undefined-condition", "the stream header has no proper id");
	if (!fault.condition && !stream_is_answered_by(stream, header))
		fault = STREAM_FAULT("invalid-from", "another domain was asked for");
	if (fault.condition) {
		stream_error(stream, fault.condition, fault.text);
		return;
	}
	free(stream->initiator->id);
	stream->initiator->id = str_dup(id);
	stream_move_to_state(stream, stream_state_after_header(stream));
}

/* --- what comes then --- */

/* SECURITY: who takes STARTTLS out of the features (RFC 7590 §3.1) gets nothing in the clear. */
static void
stream_handle_features(struct iris_stream *stream, struct iris_element *features)
{
	struct iris_arena *arena;

	if (stream->state != IRIS_STREAM_PLAIN) {
		stream->role->features(stream, features);
		return;
	}
	if (!element_child(features, "starttls", NS_TLS)) {
		stream_error(stream, "policy-violation", "TLS is needed");
		return;
	}
	arena = arena_new();
	stream_send(stream, element_new(arena, "starttls", NS_TLS));
	arena_unref(&arena);
}

static void
stream_handle_proceed(struct iris_stream *stream, struct iris_element *element)
{
	/* SECURITY: what somebody wrote behind <proceed/> in the clear is forgotten. */
	xml_parser_restart(stream->parser);
	stream->header_sent = false;
	stream_move_to_state(stream, IRIS_STREAM_HANDSHAKE);
	if (!stream->carrier->ops->start_tls(stream->carrier, host_tls(stream->host, true)))
		stream_cut(stream, "TLS could not be started");
}

/* §5.4.2.2 */
static void
stream_handle_tls_failure(struct iris_stream *stream, struct iris_element *element)
{
	stream_close(stream);
	carrier_finish(stream->carrier);
}

/* §4.9.1.1: it is the end; our tag is all that is left to be said. */
static void
stream_handle_peer_error(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_element *child = element_child(element, NULL, NS_STREAMS);
	const char *condition = stream_condition_find(child ? child->name : IRIS_STR_NONE);

	LOG(IRIS_LOG_INFO, "stream", "peer-error", LOG_CSTR("condition", condition),
	    LOG_STR("address", stream_peer_address(stream)),
	    LOG_JID("jid", jid_full(&stream->jid)));
	stream->peer_error = condition;
	stream_close(stream);
	carrier_finish(stream->carrier);
}

#define AFTER_HEADER                                                    \
	(1u << IRIS_STREAM_PLAIN | 1u << IRIS_STREAM_UNAUTHENTICATED |  \
	 1u << IRIS_STREAM_AUTHENTICATED)

static const struct iris_stream_handler initiator_handlers[] = {
	{ "features", NS_STREAM, AFTER_HEADER, stream_handle_features },
	{ "proceed", NS_TLS, 1u << IRIS_STREAM_PLAIN, stream_handle_proceed },
	{ "failure", NS_TLS, 1u << IRIS_STREAM_PLAIN, stream_handle_tls_failure },
	{ .name = NULL },
};

static const struct iris_stream_handler acceptor_handlers[] = {
	{ "starttls", NS_TLS, 1u << IRIS_STREAM_PLAIN, stream_handle_starttls },
	{ .name = NULL },
};

static const struct iris_stream_handler both_handlers[] = {
	{ "error", NS_STREAM, AFTER_HEADER | 1u << IRIS_STREAM_BOUND, stream_handle_peer_error },
	{ .name = NULL },
};

static const struct iris_stream_handler *
handler_find(const struct iris_stream_handler *handler, const struct iris_element *element)
{
	while (handler->name && !element_is(element, handler->name, handler->ns))
		handler++;
	return handler->name ? handler : NULL;
}

const struct iris_stream_handler *
stream_server_handler(const struct iris_stream *stream, const struct iris_element *element)
{
	const struct iris_stream_handler *handler = handler_find(
		stream->initiator ? initiator_handlers : acceptor_handlers, element);

	return handler ? handler : handler_find(both_handlers, element);
}
