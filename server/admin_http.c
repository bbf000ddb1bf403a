/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators' endpoint, by libmicrohttpd with its epoll descriptor in the main worker's loop.
 * Only GET, no bodies, no TLS, no cookies; nothing here changes anything.
 * SECURITY: bound to loopback only (checked twice: in the configuration and here), with few
 * connections of short life, so that it is no way in and no way to hold the server up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <microhttpd.h>
#include <stdlib.h>

#include "admin_http.h"
#include "iris/module.h"

#define CONNECTIONS_MAX 16u
#define TIMEOUT_SECONDS 10u
#define MEMORY_PER_CONNECTION (16u * 1024u)

struct admin {
	struct MHD_Daemon *daemon;
	struct event *event;
	struct iris_timer timer;
};

static struct admin admin;
static bool (*ready_check)(char *why, size_t size);

/* --- answers --- */

/* Takes over a malloc'ed text when `mode` says so. */
static enum MHD_Result
answer(struct MHD_Connection *connection, unsigned status, const char *type, struct iris_str text,
       enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	response = MHD_create_response_from_buffer(text.len, (void *)text.base, mode);
	IRIS_ASSERT(response != NULL);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	(void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET");
	if (status == MHD_HTTP_BAD_REQUEST)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", str_from(text),
		      MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result
answer_metrics(struct MHD_Connection *connection)
{
	struct iris_str text;

	text.base = metrics_render(&text.len);
	return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text,
		      MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result
answer_health(struct MHD_Connection *connection)
{
	return answer_text(connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result
answer_ready(struct MHD_Connection *connection)
{
	char why[256] = "starting", text[260];
	bool ready = ready_check && !worker_is_stopping() && ready_check(why, sizeof(why));

	if (ready)
		return answer_text(connection, MHD_HTTP_OK, "ready\n");
	(void)snprintf(text, sizeof(text), "%s\n", worker_is_stopping() ? "stopping" : why);
	return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static const struct {
	const char *path;
	enum MHD_Result (*answer)(struct MHD_Connection *connection);
} pages[] = {
	{ "/metrics", answer_metrics },
	{ "/healthz", answer_health },
	{ "/readyz", answer_ready },
};

/*
 * SECURITY: libmicrohttpd takes messages whose length is said twice; whoever stands between would
 * see other requests than we do.  No request here has a body, so any length is refused.
 */
static bool
has_body(struct MHD_Connection *connection)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
					   MHD_HTTP_HEADER_CONTENT_LENGTH) ||
	       MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
					   MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

/* lint: parameters, libmicrohttpd's. */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
	   const char *version, const char *upload, size_t *upload_size, void **state)
{
	if (has_body(connection))
		return answer_text(connection, MHD_HTTP_BAD_REQUEST, "no body, please\n");
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	for (size_t i = 0; i < IRIS_COUNT(pages); i++)
		if (strcmp(url, pages[i].path) == 0)
			return pages[i].answer(connection);
	return answer_text(connection, MHD_HTTP_NOT_FOUND, "not here\n");
}

/* --- in the loop --- */

static void
run_daemon(void *arg)
{
	MHD_UNSIGNED_LONG_LONG milliseconds;

	(void)MHD_run(admin.daemon);
	timer_stop(&admin.timer);
	if (MHD_get_timeout(admin.daemon, &milliseconds) == MHD_YES)
		timer_start(&admin.timer, (int64_t)milliseconds, run_daemon, NULL);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	run_daemon(NULL);
}

/* --- start and stop --- */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static bool
address_parse(const char *text, unsigned port, union address *address_r)
{
	*address_r = (union address){ .any.sa_family = AF_UNSPEC };
	if (inet_pton(AF_INET, text, &address_r->v4.sin_addr) == 1) {
		address_r->v4.sin_family = AF_INET;
		address_r->v4.sin_port = htons((uint16_t)port);
		return ntohl(address_r->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	if (inet_pton(AF_INET6, text, &address_r->v6.sin6_addr) == 1) {
		address_r->v6.sin6_family = AF_INET6;
		address_r->v6.sin6_port = htons((uint16_t)port);
		return IN6_IS_ADDR_LOOPBACK(&address_r->v6.sin6_addr);
	}
	return false;
}

static bool
refuse_address(const char *text, struct iris_error *error)
{
	(void)error_set(error, "admin.address \"%s\" is no loopback address", text);
	return error_hint(error,
			  "use 127.0.0.1 or ::1; let a proxy on this host add TLS and access "
			  "control where others must reach it");
}

static struct MHD_Daemon *
daemon_start(const union address *address)
{
	unsigned flags = MHD_USE_EPOLL | (address->any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0u);

	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, NULL,
				MHD_OPTION_SOCK_ADDR, &address->any,
				MHD_OPTION_STRICT_FOR_CLIENT, 1,
				MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
				MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_SECONDS,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
				MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
				MHD_OPTION_END);
}

bool
admin_http_start(const char *text, unsigned port, struct iris_error *error)
{
	const union MHD_DaemonInfo *info;
	union address address;

	IRIS_ASSERT(worker_index() == WORKER_MAIN && !admin.daemon);
	if (!address_parse(text, port, &address))
		return refuse_address(text, error);
	admin.daemon = daemon_start(&address);
	if (!admin.daemon) {
		(void)error_set(error, "cannot listen for operators");
		(void)error_detail(error, "%s port %u: %s", text, port, strerror(errno));
		return error_hint(error,
				  "is another irisd running? choose another admin.port, or 0 "
				  "for none");
	}
	info = MHD_get_daemon_info(admin.daemon, MHD_DAEMON_INFO_EPOLL_FD);
	IRIS_ASSERT(info != NULL);
	admin.event =
		event_new(worker_base(), info->epoll_fd, EV_READ | EV_PERSIST, on_event, NULL);
	IRIS_ASSERT(admin.event != NULL && event_add(admin.event, NULL) == 0);
	return true;
}

void
admin_http_stop(void)
{
	if (!admin.daemon)
		return;
	timer_stop(&admin.timer);
	event_free(admin.event);
	MHD_stop_daemon(admin.daemon);
	admin = (struct admin){ .daemon = NULL };
}

unsigned
admin_http_port(void)
{
	const union MHD_DaemonInfo *info;

	if (!admin.daemon)
		return 0;
	info = MHD_get_daemon_info(admin.daemon, MHD_DAEMON_INFO_BIND_PORT);
	IRIS_ASSERT(info != NULL);
	return info->port;
}

void
admin_http_set_ready_check(bool (*fn)(char *why, size_t size))
{
	ready_check = fn;
}

/* --- the section `admin` --- */

enum { OPTION_ADDRESS, OPTION_PORT };

static const struct iris_option options[] = {
	[OPTION_ADDRESS] = { .name = "address",
			     .type = IRIS_OPT_STRING,
			     .fallback = "127.0.0.1",
			     .max = 45,
			     .help = "Loopback address of the operators' HTTP endpoint." },
	[OPTION_PORT] = { .name = "port",
			  .type = IRIS_OPT_INT,
			  .fallback = "0",
			  .max = 65535,
			  .help = "Its port, with /metrics, /healthz and /readyz; 0 is none." },
	IRIS_OPTIONS_END,
};

static struct iris_module_self admin_self;

static bool
admin_check(const struct iris_settings *settings, struct iris_error *error)
{
	char text[64];
	union address address;

	return (str_copy_to(text, sizeof(text), settings_str(settings, OPTION_ADDRESS)) &&
		address_parse(text, 0, &address)) || refuse_address(text, error);
}

static bool
admin_start(struct iris_error *error)
{
	unsigned port = (unsigned)option_int(&admin_self, OPTION_PORT);
	char text[64];

	return port == 0 ||
	       (str_copy_to(text, sizeof(text), option_str(&admin_self, OPTION_ADDRESS)) &&
		admin_http_start(text, port, error));
}

const struct iris_module iris_module_admin = {
	IRIS_MODULE_HEAD,
	.name = "admin",
	.summary = "The operators' HTTP endpoint: metrics, health and readiness",
	.self = &admin_self,
	.options = options,
	.not_unloadable = true,
	.at_edge = true,
	.check = admin_check,
	.start = admin_start,
	.stop = admin_http_stop,
};
