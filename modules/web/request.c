/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a handler asks of its request (iris/web.h), and which handler that is.  On the fiber of the
 * request.  Bodies are copied once, from the buffer that TLS wrote to into the handler's.
 */
#include "web_private.h"

/* --- the body --- */

static bool
request_body_is_over(const struct iris_web_request *request)
{
	return request->body.state >= HTTP_BODY_DONE;
}

bool
request_is_hungry(const struct iris_web_request *request)
{
	return request->into && request->got < request->want && !request_body_is_over(request);
}

size_t
request_feed(struct iris_web_request *request, struct iris_str bytes)
{
	size_t used = 0;

	while (used < bytes.len && request_is_hungry(request)) {
		struct iris_str rest = { bytes.base + used, bytes.len - used }, content;

		used += http_body_next(&request->body, rest, request->want - request->got,
				       &content);
		if (content.len == 0)
			continue;
		memcpy(request->into + request->got, content.base, content.len);
		request->got += content.len;
	}
	request->moved += (int64_t)used;
	return used;
}

/* RFC 9110 §10.1.1: whoever asked whether to send it is told when it is wanted. */
static void
request_say_continue(struct iris_web_request *request)
{
	if (!request->head.expects_continue || request->continued || request->begun)
		return;
	request->continued = true;
	carrier_send(request->http->carrier, IRIS_UNIT_BYTES,
		     IRIS_STR("HTTP/1.1 100 Continue\r\n\r\n"));
}

ssize_t
web_read(struct iris_web_request *request, void *buffer, size_t size)
{
	struct http *http = request->http;

	request->into = buffer;
	request->want = size;
	request->got = 0;
	http_feed(http);
	if (request_is_hungry(request) && http->carrier)
		request_say_continue(request);
	while (request_is_hungry(request) && http_wait(http, "web: body"))
		;
	request->into = NULL;
	if (request->body.state == HTTP_BODY_MALFORMED) {
		web_count(WEB_METRIC_MALFORMED, 1);
		http_cut(http);
		return -1;
	}
	return request->got == size || request_body_is_over(request) ? (ssize_t)request->got : -1;
}

bool
request_skip_body(struct iris_web_request *request)
{
	char scratch[1024];

	do {
		request->into = scratch;
		request->want = sizeof(scratch);
		request->got = 0;
		http_feed(request->http);
	} while (request->got > 0);
	request->into = NULL;
	return request->body.state == HTTP_BODY_DONE;
}

/* --- what it says --- */

enum iris_web_method
web_method(const struct iris_web_request *request)
{
	return request->method;
}

struct iris_str
web_path(const struct iris_web_request *request)
{
	return request->match.rest;
}

struct iris_str
web_query(struct iris_web_request *request, const char *name)
{
	return http_query(request->arena, request->head.target, name);
}

struct iris_str
web_header(struct iris_web_request *request, const char *name)
{
	struct iris_str first = http_head_field(&request->head, str_from(name), 0), next;
	struct iris_strbuf joined = STRBUF_INIT(request->arena);

	if (str_is_none(http_head_field(&request->head, str_from(name), 1)))
		return first;
	strbuf_add(&joined, first);
	for (size_t i = 1; !str_is_none(next = http_head_field(&request->head, str_from(name), i));
	     i++) {
		strbuf_add(&joined, IRIS_STR(", "));
		strbuf_add(&joined, next);
	}
	return strbuf_str(&joined);
}

struct iris_host *
web_host(const struct iris_web_request *request)
{
	struct iris_str name = request->head.authority;
	const char *colon = name.len > 0 ? memrchr(name.base, ':', name.len) : NULL;
	struct iris_jid jid;

	if (colon && name.base[0] != '[')
		name.len = (size_t)(colon - name.base);
	if (!jid_parse(request->arena, name, &jid) || jid.node_len > 0 || !jid_is_bare(&jid))
		return NULL;
	return host_find(jid_domain(&jid));
}

struct iris_str
web_authority(const struct iris_web_request *request)
{
	return request->head.authority;
}

bool
web_is_secure(const struct iris_web_request *request)
{
	return request->secure;
}

struct iris_str
web_peer_address(const struct iris_web_request *request)
{
	return request->peer;
}

struct iris_arena *
web_arena(struct iris_web_request *request)
{
	return request->arena;
}

int64_t
web_body_length(const struct iris_web_request *request)
{
	return request->head.chunked ? -1 : request->head.length;
}

/* --- origins --- */

/* The page comes from where we are. */
static bool
origin_is_own(const struct iris_web_request *request, struct iris_str origin)
{
	struct iris_str scheme = request->secure ? IRIS_STR("https://") : IRIS_STR("http://");
	struct iris_str rest;

	if (origin.len < scheme.len || memcmp(origin.base, scheme.base, scheme.len) != 0)
		return false;
	rest = (struct iris_str){ origin.base + scheme.len, origin.len - scheme.len };
	return http_equal(rest, request->head.authority);
}

bool
request_may_come(struct iris_web_request *request)
{
	struct iris_str origin = http_head_field(&request->head, IRIS_STR("Origin"), 0);
	const struct iris_settings *settings = web_settings();
	size_t count = settings_count(settings, WEB_OPT_ORIGINS);

	if (str_is_none(origin) || origin_is_own(request, origin))
		return true;
	for (size_t i = 0; i < count; i++) {
		struct iris_str allowed = settings_item(settings, WEB_OPT_ORIGINS, i);

		if (str_is(allowed, "*") || http_equal(allowed, origin))
			return true;
	}
	return false;
}

/* --- which handler --- */

static const struct {
	const char *name;
	enum iris_web_method method;
} web_methods[] = {
	{ "GET", IRIS_WEB_GET }, { "HEAD", IRIS_WEB_GET },	{ "POST", IRIS_WEB_POST },
	{ "PUT", IRIS_WEB_PUT }, { "DELETE", IRIS_WEB_DELETE },
};

static bool
request_find_method(struct iris_web_request *request)
{
	for (size_t i = 0; i < IRIS_COUNT(web_methods); i++)
		if (str_is(request->head.method, web_methods[i].name)) {
			request->method = web_methods[i].method;
			request->head_only = str_is(request->head.method, "HEAD");
			return true;
		}
	return false;
}

static void
request_serve(struct iris_web_request *request)
{
	const char *path = request->match.route->path;

	request->served = arena_copy_str(request->arena, str_from(path)); /* it may be unloaded */
	web_route_run(&request->match, request);
}

static void
request_route(struct iris_web_request *request)
{
	bool known = request_find_method(request);
	bool is_options = str_is(request->head.method, "OPTIONS");

	if (is_options && str_is(request->head.target, "*")) {
		answer_options(request);
		return;
	}
	if (!http_path_decode(request->arena, request->head.target, &request->path)) {
		answer_status(request, 400);
		return;
	}
	if (!web_route_find(request->path, request->method, &request->match))
		answer_status(request, 404);
	else if (is_options)
		answer_options(request);
	else if (!known && request->match.methods != 0)
		answer_status(request, 501);
	else if (!request->match.route)
		answer_status(request, 405);
	else
		request_serve(request);
}

void
request_run(struct iris_web_request *request)
{
	if (request->http->redirect)
		answer_redirect(request);
	else
		request_route(request);
	/* SECURITY: below the path of a route are tokens that open files, and names. */
	LOG(IRIS_LOG_DEBUG, "web", "request", LOG_STR("method", request->head.method),
	    LOG_STR("route", request->served), LOG_INT("status", request->status),
	    LOG_STR("address", request->peer));
}

void
request_admit(struct iris_web_request *request)
{
	if (request->http->carrier)
		carrier_admit(request->http->carrier);
}

/* --- upgrades --- */

struct iris_carrier *
request_upgrade(struct iris_web_request *request, struct iris_str *early_r)
{
	struct http *http = request->http;
	struct iris_carrier *carrier = http->carrier;

	*early_r = http_take_input(http, request->arena);
	http->carrier = NULL;
	http->close = true;
	return carrier;
}
