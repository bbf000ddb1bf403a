/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners: configuration, binding, and accepting within a budget for each turn.  The main thread
 * opens and closes; each worker accepts from a socket of its own.  What is accepted goes to
 * stream_accept(), or to door_accept() where more than XMPP is spoken.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

#include "admission.h"
#include "door.h"
#include "iris/gate.h"
#include "iris/module.h"
#include "listener.h"
#include "module_private.h"
#include "stream_private.h"
#include "worker_private.h"

enum { OPT_LISTENERS, OPT_STRANGERS, OPT_STRANGERS_PER_ADDRESS, OPT_ACCEPT_BUDGET };
enum listener_field {
	FIELD_ADDRESS,
	FIELD_PORT,
	FIELD_ROLE,
	FIELD_ALSO,
	FIELD_TLS,
	FIELD_PROXY,
	FIELD_TRUSTED,
	FIELD_BACKLOG
};

#define WARNING_PAUSE_MS 10000

struct listener_socket {
	const struct listener *listener;
	int fd;
	struct event *event; /* of the worker that accepts here */
};

static struct iris_module_self listen_self;
static struct listener *listeners;
static size_t listener_count;

/* SECURITY: with no descriptor left, waiting connections would keep the loop spinning; this one is
 * given for each. */
static _Thread_local int reserve_fd = -1;

enum { METRIC_ACCEPTED, METRIC_REFUSED, METRIC_NO_DESCRIPTOR };
static struct iris_metric listen_metrics[] = {
	[METRIC_ACCEPTED] = { .name = "iris_connections_accepted_total",
			      .help = "Connections accepted" },
	[METRIC_REFUSED] = { .name = "iris_connections_refused_total",
			     .help = "Connections closed at once: too many that are not signed in, "
				     "or not from a trusted proxy" },
	[METRIC_NO_DESCRIPTOR] = { .name = "iris_connections_no_descriptor_total",
				   .help = "Connections closed because no file descriptor was "
					   "left" },
	{ .name = NULL },
};

/* --- accepting: workers --- */

static bool
listener_trusts(const struct listener *listener, const struct sockaddr *peer)
{
	for (size_t i = 0; i < listener->trusted_count; i++)
		if (proxy_network_has(&listener->trusted[i], peer))
			return true;
	return false;
}

static void
listener_take(const struct listener *listener, int fd, const struct sockaddr *peer)
{
	bool taken;

	if (listener->proxy && !listener_trusts(listener, peer)) {
		close(fd);
		taken = false;
	} else if (listener->role && listener->voice_count <= 1) {
		taken = stream_accept(listener, fd, peer);
	} else {
		taken = door_accept(listener, fd, peer);
	}
	metric_add(&listen_metrics[taken ? METRIC_ACCEPTED : METRIC_REFUSED], 1);
}

static void
listener_warn_of_descriptors(void)
{
	static _Thread_local int64_t warned_ms = -WARNING_PAUSE_MS;
	struct iris_error error;

	metric_add(&listen_metrics[METRIC_NO_DESCRIPTOR], 1);
	if (worker_now_ms() - warned_ms < WARNING_PAUSE_MS)
		return;
	warned_ms = worker_now_ms();
	error_set(&error, "no file descriptor is left: connections are turned away");
	error_hint(&error, "raise LimitNOFILE of the service");
	log_error(IRIS_LOG_ERROR, "listen", "no-descriptor", &error);
}

/* False: nobody waits. (accept4() wants a descriptor before it looks, so it fails either way.) */
static bool
listener_turn_away(int fd)
{
	int victim;

	if (reserve_fd < 0)
		return false;
	close(reserve_fd);
	victim = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (victim >= 0) {
		close(victim);
		listener_warn_of_descriptors();
	}
	reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return victim >= 0;
}

static void
listener_on_event(int fd, short what, void *arg)
{
	const struct listener_socket *socket_ = arg;

	if (reserve_fd < 0)
		reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int64_t budget = option_int(&listen_self, OPT_ACCEPT_BUDGET); budget > 0; budget--) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		int accepted =
			accept4(fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (accepted >= 0)
			listener_take(socket_->listener, accepted, (struct sockaddr *)&peer);
		else if (errno == EAGAIN ||
			 ((errno == EMFILE || errno == ENFILE) && !listener_turn_away(fd)))
			return;
	}
}

static bool
listener_speaks(const struct listener *listener, const char *name)
{
	for (size_t i = 0; i < listener->voice_count; i++)
		if (listener->voices[i].role && strcmp(listener->voices[i].role->name, name) == 0)
			return true;
	return false;
}

static void
listener_start_here(void *arg)
{
	int worker = worker_index();

	if (worker == WORKER_MAIN)
		return;
	if (reserve_fd < 0)
		reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < listener_count; i++) {
		struct listener_socket *socket_ = &listeners[i].sockets[worker];

		if (socket_->fd < 0) /* closed by listen_stop_role() */
			continue;
		socket_->event = event_new(worker_base(), socket_->fd, EV_READ | EV_PERSIST,
					   listener_on_event, socket_);
		IRIS_ASSERT(socket_->event && event_add(socket_->event, NULL) == 0);
	}
}

static void
listener_stop_here(void *arg)
{
	int worker = worker_index();

	if (worker == WORKER_MAIN)
		return;
	if (reserve_fd >= 0)
		close(reserve_fd);
	reserve_fd = -1;
	for (size_t i = 0; i < listener_count; i++) {
		struct listener_socket *socket_ = &listeners[i].sockets[worker];

		if (socket_->event)
			event_free(socket_->event);
		socket_->event = NULL;
	}
}

/* What connections that are there hold of it stays. */
static void
listener_stop_voice_here(void *arg)
{
	const char *name = arg;
	int worker = worker_index();

	for (size_t i = 0; worker != WORKER_MAIN && i < listener_count; i++) {
		struct listener_socket *socket_ = &listeners[i].sockets[worker];

		if (!listener_speaks(&listeners[i], name) || !socket_->event)
			continue;
		event_free(socket_->event);
		socket_->event = NULL;
	}
}

/* --- opening: main thread --- */

static bool
listener_parse_address(const struct iris_settings *record, struct sockaddr_storage *address_r,
		       socklen_t *len_r)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	uint16_t port = htons((uint16_t)settings_int(record, FIELD_PORT));
	char text[INET6_ADDRSTRLEN];

	if (!str_copy_to(text, sizeof(text), settings_str(record, FIELD_ADDRESS)))
		return false;
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
		in.sin_port = port;
		memcpy(address_r, &in, *len_r = sizeof(in));
		return true;
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
		in6.sin6_port = port;
		memcpy(address_r, &in6, *len_r = sizeof(in6));
		return true;
	}
	return false;
}

static bool
listener_is_loopback(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)address)
				     ->sin_addr.s_addr) >>
			       24 ==
		       127;
	return IN6_IS_ADDR_LOOPBACK(
		&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static bool
listener_read_trusted(struct listener *listener, const struct iris_settings *record,
		      struct iris_error *error)
{
	listener->trusted_count = settings_count(record, FIELD_TRUSTED);
	listener->trusted = iris_calloc(listener->trusted_count + 1, sizeof(listener->trusted[0]));
	for (size_t i = 0; i < listener->trusted_count; i++) {
		struct iris_str text = settings_item(record, FIELD_TRUSTED, i);

		if (!proxy_network_parse(text, &listener->trusted[i]))
			return error_set(error, "trusted-proxies: \"%.*s\" is not a network",
					 IRIS_STR_FMT(text));
	}
	if (listener->proxy && listener->trusted_count == 0)
		return error_set(
			error,
			"proxy-protocol without trusted-proxies: anybody could claim any address");
	return true;
}

/* What a client would offer by ALPN; NULL: it is not chosen in that way. */
static const char *
listener_voice_alpn(const struct listener_voice *voice)
{
	return voice->protocol ? voice->protocol->alpn : voice->role->alpn;
}

static bool
listener_add_voice(struct listener *listener, struct iris_str name, struct iris_error *error)
{
	struct listener_voice voice = { stream_role_find(name), protocol_find(name) };
	const char *alpn;
	size_t names = 0;

	if (!voice.role && !voice.protocol)
		return error_set(error, "no module offers the role \"%.*s\"", IRIS_STR_FMT(name));
	if (listener->voice_count == LISTENER_VOICES_MAX)
		return error_set(error, "one listener speaks at most %d things",
				 LISTENER_VOICES_MAX);
	alpn = listener_voice_alpn(&voice);
	if (listener->voice_count > 0 && !alpn)
		return error_set(error, "the role \"%.*s\" cannot share a listener",
				 IRIS_STR_FMT(name));
	while (listener->alpn[names])
		names++;
	listener->alpn[names] = alpn;
	listener->voices[listener->voice_count++] = voice;
	return true;
}

static bool
listener_read_voices(struct listener *listener, const struct iris_settings *record,
		     struct iris_error *error)
{
	size_t others = settings_count(record, FIELD_ALSO);

	if (!listener_add_voice(listener, settings_str(record, FIELD_ROLE), error))
		return false;
	for (size_t i = 0; i < others; i++)
		if (!listener_add_voice(listener, settings_item(record, FIELD_ALSO, i), error))
			return false;
	listener->role = listener->voices[0].role;
	listener->speaks = listener->role ? listener->role->name :
					    listener->voices[0].protocol->name;
	if (others > 0 && listener->tls != LISTENER_DIRECT)
		return error_set(error, "`also` needs tls: direct: what is spoken is told apart "
					"inside of TLS");
	if (!listener->role && listener->tls == LISTENER_STARTTLS)
		return error_set(error, "the role \"%s\" has no STARTTLS", listener->speaks);
	return true;
}

/* P1.2: in the clear only what carries nothing, or what does not leave the machine. */
static bool
listener_may_be_plain(const struct listener *listener, const struct sockaddr_storage *address)
{
	const struct iris_protocol *protocol = listener->voices[0].protocol;
	bool on_loopback = listener_is_loopback(address);

	if (listener->role)
		return listener->role->plain_on_loopback && on_loopback;
	return protocol->plain || (protocol->plain_on_loopback && on_loopback);
}

static bool
listener_read(struct listener *listener, const struct iris_settings *record,
	      struct iris_error *error)
{
	struct sockaddr_storage address;
	socklen_t len;

	listener->tls = (enum listener_tls)settings_int(record, FIELD_TLS);
	listener->proxy = settings_bool(record, FIELD_PROXY);
	listener->backlog = (int)settings_int(record, FIELD_BACKLOG);
	if (!listener_read_voices(listener, record, error))
		return false;
	if (!listener_parse_address(record, &address, &len))
		return error_set(error, "\"%.*s\" is not an IPv4 or IPv6 address",
				 IRIS_STR_FMT(settings_str(record, FIELD_ADDRESS)));
	if (listener->tls == LISTENER_NONE && !listener_may_be_plain(listener, &address))
		return error_set(error, "tls: none is for components and the web, on a loopback "
					"address only");
	return listener_read_trusted(listener, record, error);
}

static bool
listener_failed(const struct listener *listener, const char *what, struct iris_error *error)
{
	int code = errno;

	error_set(error, "cannot %s: %s", what, strerror(code));
	error_detail(error, "%s", listener->name);
	if (code == EADDRINUSE)
		return error_hint(error,
				  "another server listens there; stop it or choose another port");
	if (code == EACCES)
		return error_hint(error, "ports below 1024 need CAP_NET_BIND_SERVICE");
	if (code == EADDRNOTAVAIL)
		return error_hint(error, "this machine does not have the address");
	return false;
}

static void
listener_set_name(struct listener *listener, const struct sockaddr_storage *address)
{
	const struct sockaddr_in *in = (const void *)address;
	const struct sockaddr_in6 *in6 = (const void *)address;
	bool is_ipv4 = address->ss_family == AF_INET;
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(address->ss_family,
		  is_ipv4 ? (const void *)&in->sin_addr : (const void *)&in6->sin6_addr, text,
		  sizeof(text));
	listener->port = ntohs(is_ipv4 ? in->sin_port : in6->sin6_port);
	snprintf(listener->name, sizeof(listener->name), is_ipv4 ? "%s:%u" : "[%s]:%u", text,
		 listener->port);
}

/* Sockets after the first share its port, also when the kernel chose it. */
static bool
listener_bind(struct listener *listener, struct listener_socket *socket_,
	      struct sockaddr_storage *address, socklen_t len, struct iris_error *error)
{
	static const int on = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	socket_->fd = fd;
	if (fd < 0)
		return listener_failed(listener, "make a socket", error);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
	    bind(fd, (struct sockaddr *)address, len) != 0)
		return listener_failed(listener, "bind", error);
	if (getsockname(fd, (struct sockaddr *)address, &len) != 0)
		return listener_failed(listener, "bind", error);
	listener_set_name(listener, address);
	return true;
}

/*
 * SO_REUSEPORT lets a second server of the same user bind too and take half of the connections in
 * silence. Another one that listens is found by binding once without it.
 */
static bool
listener_check_free(const struct listener *listener, const struct sockaddr_storage *address,
		    socklen_t len, struct iris_error *error)
{
	static const int on = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		return listener_failed(listener, "make a socket", error);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	ok = bind(fd, (const struct sockaddr *)address, len) == 0;
	if (!ok)
		listener_failed(listener, "bind", error);
	close(fd);
	return ok;
}

static bool
listener_open(struct listener *listener, const struct iris_settings *record,
	      struct iris_error *error)
{
	struct iris_str where = settings_where(record, FIELD_ADDRESS);
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t len = 0;

	listener->socket_count = worker_count();
	listener->sockets = iris_calloc(listener->socket_count, sizeof(listener->sockets[0]));
	for (size_t i = 0; i < listener->socket_count; i++)
		listener->sockets[i] = (struct listener_socket){ listener, -1, NULL };
	if (!listener_read(listener, record, error))
		return error_detail(error, "%.*s", IRIS_STR_FMT(where));
	IRIS_ASSERT(listener_parse_address(record, &address, &len));
	listener_set_name(listener, &address);
	if (listener->port != 0 && !listener_check_free(listener, &address, len, error))
		return false;
	for (size_t i = 0; i < listener->socket_count; i++)
		if (!listener_bind(listener, &listener->sockets[i], &address, len, error))
			return false;
	return true;
}

static void
listen_apply_limits(void)
{
	admission_set_limits((unsigned)option_int(&listen_self, OPT_STRANGERS),
			     (unsigned)option_int(&listen_self, OPT_STRANGERS_PER_ADDRESS));
}

bool
listen_open(struct iris_error *error)
{
	const struct iris_settings *settings = atomic_load(&listen_self.settings);
	size_t count = settings_count(settings, OPT_LISTENERS);

	IRIS_ASSERT(!listeners && worker_count() > 0);
	listen_apply_limits();
	listeners = iris_calloc(count + 1, sizeof(listeners[0]));
	for (; listener_count < count; listener_count++) {
		struct listener *listener = &listeners[listener_count];

		if (!listener_open(listener,
				   settings_record(settings, OPT_LISTENERS, listener_count),
				   error)) {
			listener_count++;
			listen_close();
			return false;
		}
	}
	return true;
}

void
listen_start(void)
{
	for (size_t i = 0; i < listener_count; i++) {
		struct listener *listener = &listeners[i];

		if (listener->sockets[0].fd < 0) /* listen_stop_role() */
			continue;
		for (size_t k = 0; k < listener->socket_count; k++)
			if (listen(listener->sockets[k].fd, listener->backlog) != 0) {
				struct iris_error error;

				listener_failed(listener, "listen", &error);
				log_error(IRIS_LOG_ERROR, "listen", "listen", &error);
			}
		LOG(IRIS_LOG_NOTICE, "listen", "listening", LOG_CSTR("address", listener->name),
		    LOG_CSTR("role", listener->speaks));
	}
	workers_each(listener_start_here, NULL);
}

static void
listener_free(struct listener *listener)
{
	free(listener->sockets);
	free(listener->trusted);
}

static void
listener_close_sockets(struct listener *listener)
{
	for (size_t i = 0; i < listener->socket_count; i++) {
		IRIS_ASSERT(!listener->sockets[i].event);
		if (listener->sockets[i].fd >= 0)
			close(listener->sockets[i].fd);
		listener->sockets[i].fd = -1;
	}
}

void
listen_stop(void)
{
	if (!listeners)
		return;
	workers_each(listener_stop_here, NULL);
	for (size_t i = 0; i < listener_count; i++)
		listener_close_sockets(&listeners[i]);
}

void
listen_stop_role(const char *name)
{
	if (!listeners)
		return;
	workers_each(listener_stop_voice_here, (void *)name);
	for (size_t i = 0; i < listener_count; i++) {
		if (!listener_speaks(&listeners[i], name))
			continue;
		listener_close_sockets(&listeners[i]);
		LOG(IRIS_LOG_WARNING, "listen", "closed", LOG_CSTR("address", listeners[i].name),
		    LOG_CSTR("role", name));
	}
}

void
listen_close(void)
{
	if (!listeners)
		return;
	listen_stop();
	for (size_t i = 0; i < listener_count; i++)
		listener_free(&listeners[i]);
	free(listeners);
	listeners = NULL;
	listener_count = 0;
}

const struct listener *
listen_at(size_t i)
{
	return i < listener_count ? &listeners[i] : NULL;
}

/* --- the check, with the rest of the configuration --- */

static bool
listener_check_voice(const struct iris_settings *record, enum listener_field field,
		     struct iris_str name, struct iris_error *error)
{
	if (module_offers(name))
		return true;
	error_set(error, "no module offers the role \"%.*s\"", IRIS_STR_FMT(name));
	error_detail(error, "%.*s", IRIS_STR_FMT(settings_where(record, field)));
	if (region_is_isolated() && str_is(name, "s2s"))
		error_hint(error, "the region map has this region isolated: remove the listener");
	else if (region_is_edge())
		error_hint(error, "the region map has this region as an edge, which serves the "
				  "web only: remove the listener");
	return false;
}

static bool
listener_check(const struct iris_settings *record, struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(record, FIELD_ALSO); i++)
		if (!listener_check_voice(record, FIELD_ALSO, settings_item(record, FIELD_ALSO, i),
					  error))
			return false;
	return listener_check_voice(record, FIELD_ROLE, settings_str(record, FIELD_ROLE), error);
}

static bool
listen_check(const struct iris_settings *settings, struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(settings, OPT_LISTENERS); i++)
		if (!listener_check(settings_record(settings, OPT_LISTENERS, i), error))
			return false;
	return true;
}

static const char *const tls_choices[] = { "starttls", "direct", "none", NULL };

static const struct iris_option listener_fields[] = {
	[FIELD_ADDRESS] = { "address", IRIS_OPT_STRING, NULL, .min = 2, .max = INET6_ADDRSTRLEN - 1,
			    .help = "An IPv4 or IPv6 address; \"::\" and \"0.0.0.0\" stand for all "
				    "of their kind." },
	[FIELD_PORT] = { "port", IRIS_OPT_INT, NULL, .min = 0, .max = 65535,
			 .help = "0: any that is free." },
	[FIELD_ROLE] = { "role", IRIS_OPT_STRING, "c2s", .min = 1, .max = 32,
			 .help = "For whom: c2s, component, web; web-redirect sends everybody to "
				 "https." },
	[FIELD_ALSO] = { "also", IRIS_OPT_STRINGS, .optional = true,
			 .help = "What else is spoken here, told apart by ALPN or by the first "
				 "bytes (web); with direct TLS only." },
	[FIELD_TLS] = { "tls", IRIS_OPT_CHOICE, "starttls", .choices = tls_choices,
			.help = "starttls: XMPP asks for it; direct: from the first byte; none: "
				"for components and the web on loopback, and for web-redirect." },
	[FIELD_PROXY] = { "proxy-protocol", IRIS_OPT_BOOL, "false",
			  .help = "Whether a load balancer sends a PROXY header, version 2, "
				  "first." },
	[FIELD_TRUSTED] = { "trusted-proxies", IRIS_OPT_STRINGS, .optional = true,
			    .help = "The networks load balancers connect from." },
	[FIELD_BACKLOG] = { "backlog", IRIS_OPT_INT, "1024", .min = 1, .max = 65535,
			    .help = "How many connections the kernel keeps waiting, for each "
				    "worker." },
	IRIS_OPTIONS_END,
};

static const struct iris_option listen_options[] = {
	[OPT_LISTENERS] = { "listeners", IRIS_OPT_RECORDS, .optional = true,
			    .fields = listener_fields, .help = "Where connections are accepted." },
	[OPT_STRANGERS] = { "max-unauthenticated", IRIS_OPT_INT, "10000", .min = 1, .max = 1000000,
			    .reloadable = true,
			    .help = "How many connections may be open that have not signed in." },
	[OPT_STRANGERS_PER_ADDRESS] = { "max-unauthenticated-per-address", IRIS_OPT_INT, "100",
					.min = 1, .max = 1000000, .reloadable = true,
					.help = "The same from one IPv4 address or one IPv6 "
						"network of 64 bits." },
	[OPT_ACCEPT_BUDGET] = { "accept-budget", IRIS_OPT_INT, "64", .min = 1, .max = 4096,
				.reloadable = true,
				.help = "How many connections a worker accepts before it looks "
					"after the others again." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_listen = {
	IRIS_MODULE_HEAD,
	.name = "listen",
	.summary = "Listening sockets",
	.needs = IRIS_NAMES("hosts", "stream"),
	.self = &listen_self,
	.options = listen_options,
	.metrics = listen_metrics,
	.not_unloadable = true,
	.at_edge = true,
	.check = listen_check,
	.reload = listen_apply_limits,
	.stop = listen_close, /* when start failed later on; else it was closed long before */
};
