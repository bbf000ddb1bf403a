/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a handler answers (iris/web.h), and what is answered without one.  On the fiber of the
 * request, if not said otherwise.  Nothing tells the product or its version (P1.4).
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "web_private.h"

/*
 * What is written at a time, and how much may be under way: less than the smallest output-limit of
 * module stream, more than a round of writing takes.
 */
#define PIECE_MAX 32768u
#define PIECES_PER_TURN 32 /* then others have their turn */
#define PREFLIGHT_SECONDS "86400"

static const struct {
	unsigned status;
	const char *text;
} statuses[] = {
	{ 101, "Switching Protocols" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 204, "No Content" },
	{ 206, "Partial Content" },
	{ 301, "Moved Permanently" },
	{ 302, "Found" },
	{ 303, "See Other" },
	{ 304, "Not Modified" },
	{ 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 412, "Precondition Failed" },
	{ 413, "Content Too Large" },
	{ 415, "Unsupported Media Type" },
	{ 416, "Range Not Satisfiable" },
	{ 417, "Expectation Failed" },
	{ 421, "Misdirected Request" },
	{ 422, "Unprocessable Content" },
	{ 426, "Upgrade Required" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 451, "Unavailable For Legal Reasons" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 503, "Service Unavailable" },
	{ 505, "HTTP Version Not Supported" },
	{ 507, "Insufficient Storage" },
};

static const char *
status_text(unsigned status)
{
	for (size_t i = 0; i < IRIS_COUNT(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].text;
	return "Status";
}

/* RFC 9110 §5.6.7, of this second. */
static const char *
date_text(void)
{
	static _Thread_local char text[40];
	static _Thread_local time_t made;
	time_t now = (time_t)(worker_wall_ms() / 1000);
	struct tm tm;

	if (now != made && gmtime_r(&now, &tm)) {
		(void)strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		made = now;
	}
	return text;
}

/* --- the head --- */

static bool
is_field_value(struct iris_str value)
{
	for (size_t i = 0; i < value.len; i++)
		if (((unsigned char)value.base[i] < 0x20 && value.base[i] != '\t') ||
		    value.base[i] == 0x7f)
			return false;
	return true;
}

void
web_set_header(struct iris_web_request *request, const char *name, struct iris_str value)
{
	IRIS_ASSERT(!request->begun);
	if (!is_field_value(value))
		return;
	strbuf_add(&request->fields, str_from(name));
	strbuf_add(&request->fields, IRIS_STR(": "));
	strbuf_add(&request->fields, value);
	strbuf_add(&request->fields, IRIS_STR("\r\n"));
}

/* Which pages may read the answer (Fetch §3.2). */
static void
answer_add_origin(struct iris_web_request *request)
{
	struct iris_str origin = http_head_field(&request->head, IRIS_STR("Origin"), 0);
	const struct iris_web_route *route = request->match.route;

	if (route && route->flags & IRIS_WEB_ANY_ORIGIN) {
		web_set_header(request, "Access-Control-Allow-Origin", IRIS_STR("*"));
		return;
	}
	if (settings_count(web_settings(), WEB_OPT_ORIGINS) > 0)
		web_set_header(request, "Vary", IRIS_STR("Origin"));
	if (!str_is_none(origin) && request_may_come(request))
		web_set_header(request, "Access-Control-Allow-Origin", origin);
}

static void
answer_add_security(struct iris_web_request *request)
{
	int64_t hsts = web_option(WEB_OPT_HSTS) / 1000;

	web_set_header(request, "X-Content-Type-Options", IRIS_STR("nosniff"));
	if (request->secure && hsts > 0) /* RFC 6797 §7.2: over TLS only */
		web_set_header(request, "Strict-Transport-Security",
			       arena_printf(request->arena, "max-age=%lld", (long long)hsts));
}

/* Is nothing of the request left unread that would be taken for the next one? */
static bool
answer_may_keep(struct iris_web_request *request)
{
	return !request->http->close && request_skip_body(request);
}

/* The head, as text; the body's length is told, or that it is not known. */
static struct iris_strbuf
answer_head(struct iris_web_request *request, unsigned status, int64_t length)
{
	struct iris_strbuf head = STRBUF_INIT(request->arena);

	answer_add_origin(request);
	answer_add_security(request);
	request->begun = true;
	request->status = status;
	request->bodiless = request->head_only || status == 204 || status == 304;
	request->chunked = length < 0 && !request->head.is_1_0 && !request->bodiless;
	request->left = request->bodiless ? 0 : length;
	if (!answer_may_keep(request) || (length < 0 && !request->chunked))
		request->http->close = true;
	strbuf_printf(&head, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, status_text(status),
		      date_text());
	if (request->http->close)
		strbuf_add(&head, IRIS_STR("Connection: close\r\n"));
	if (request->chunked)
		strbuf_add(&head, IRIS_STR("Transfer-Encoding: chunked\r\n"));
	else if (length >= 0 && status != 204 && status != 304)
		strbuf_printf(&head, "Content-Length: %lld\r\n", (long long)length);
	strbuf_add(&head, strbuf_str(&request->fields));
	strbuf_add(&head, IRIS_STR("\r\n"));
	return head;
}

static void
answer_send(struct iris_web_request *request, struct iris_str bytes)
{
	carrier_send(request->http->carrier, IRIS_UNIT_BYTES, bytes);
	web_count(WEB_METRIC_BYTES_OUT, (int64_t)bytes.len);
}

bool
web_begin(struct iris_web_request *request, unsigned status, int64_t length)
{
	struct iris_strbuf head;

	IRIS_ASSERT(!request->begun);
	head = answer_head(request, status, length);
	if (!request->http->carrier)
		return false;
	answer_send(request, strbuf_str(&head));
	return !request->bodiless;
}

/* --- the body --- */

/*
 * Waits until what was written has gone, and after a good deal of it for the next turn: a peer that
 * takes all at once must not have the worker for itself.
 */
static bool
answer_wait(struct iris_web_request *request)
{
	struct http *http = request->http;

	while (http->carrier && carrier_pending(http->carrier) >= PIECE_MAX)
		if (!http_wait(http, "web: answer"))
			return false;
	if (++request->pieces % PIECES_PER_TURN == 0 && !fiber_sleep(0))
		return false;
	return http->carrier != NULL;
}

static bool
answer_write_piece(struct iris_web_request *request, struct iris_str piece)
{
	char line[24];

	if (!request->http->carrier)
		return false;
	if (request->chunked) {
		int len = snprintf(line, sizeof(line), "%zx\r\n", piece.len);

		answer_send(request, (struct iris_str){ line, (size_t)len });
	}
	answer_send(request, piece);
	if (request->chunked)
		answer_send(request, IRIS_STR("\r\n"));
	request->moved += (int64_t)piece.len;
	return answer_wait(request);
}

bool
web_write(struct iris_web_request *request, const void *bytes, size_t len)
{
	const char *at = bytes;

	IRIS_ASSERT(request->begun && !request->bodiless);
	IRIS_ASSERT(request->left < 0 || (uint64_t)request->left >= len);
	if (request->left > 0)
		request->left -= (int64_t)len;
	while (len > 0) {
		size_t piece = len < PIECE_MAX ? len : PIECE_MAX;

		if (!answer_write_piece(request, (struct iris_str){ at, piece }))
			return false;
		at += piece;
		len -= piece;
	}
	return request->http->carrier != NULL;
}

void
web_answer(struct iris_web_request *request, unsigned status, const char *type,
	   struct iris_str body)
{
	struct iris_strbuf head;

	if (type)
		web_set_header(request, "Content-Type", str_from(type));
	if (body.len > PIECE_MAX) {
		bool whole = web_begin(request, status, (int64_t)body.len) &&
			     web_write(request, body.base, body.len);

		if (!whole) /* HEAD, or who has gone; neither needs the rest */
			request->left = request->bodiless ? 0 : request->left;
		return;
	}
	head = answer_head(request, status, (int64_t)body.len);
	if (!request->bodiless)
		strbuf_add(&head, body);
	request->left = 0;
	if (request->http->carrier)
		if (request->http->carrier)
			answer_send(request, strbuf_str(&head));
}

bool
answer_end(struct iris_web_request *request)
{
	struct http *http = request->http;

	if (!request->begun)
		answer_status(request, 500);
	if (request->chunked)
		answer_send(request, IRIS_STR("0\r\n\r\n"));
	/* SECURITY: an answer cut short must not look like a whole one, or swallow the next. */
	if (request->left > 0)
		http_cut(http);
	return request->left <= 0 && !http->close;
}

/* --- answers without a handler --- */

void
answer_refusal(struct iris_carrier *carrier, unsigned status)
{
	char text[256];
	int len =
		snprintf(text, sizeof(text),
			 "HTTP/1.1 %u %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: 0\r\n"
			 "\r\n",
			 status, status_text(status), date_text());

	carrier_send(carrier, IRIS_UNIT_BYTES, (struct iris_str){ text, (size_t)len });
}

static struct iris_str
answer_methods(struct iris_web_request *request)
{
	static const char *const names[] = { "GET, HEAD", "POST", "PUT", "DELETE" };
	struct iris_strbuf list = STRBUF_INIT(request->arena);

	for (size_t i = 0; i < IRIS_COUNT(names); i++)
		if (request->match.methods & 1u << i)
			strbuf_printf(&list, "%s, ", names[i]);
	strbuf_add(&list, IRIS_STR("OPTIONS"));
	return strbuf_str(&list);
}

void
answer_status(struct iris_web_request *request, unsigned status)
{
	if (status == 405)
		web_set_header(request, "Allow", answer_methods(request));
	web_answer(request, status, "text/plain; charset=utf-8",
		   arena_printf(request->arena, "%s\n", status_text(status)));
}

/* Fetch §4.8: who asks for another page what it may do; what it may read, the answer itself says.
 */
void
answer_options(struct iris_web_request *request)
{
	struct iris_str asked =
		http_head_field(&request->head, IRIS_STR("Access-Control-Request-Headers"), 0);

	web_set_header(request, "Allow", answer_methods(request));
	if (!str_is_none(http_head_field(&request->head, IRIS_STR("Access-Control-Request-Method"),
					 0))) {
		web_set_header(request, "Access-Control-Allow-Methods", answer_methods(request));
		if (!str_is_none(asked))
			web_set_header(request, "Access-Control-Allow-Headers", asked);
		web_set_header(request, "Access-Control-Max-Age", IRIS_STR(PREFLIGHT_SECONDS));
	}
	web_answer(request, 204, NULL, IRIS_STR_NONE);
}

/* The same place, by TLS. */
void
answer_redirect(struct iris_web_request *request)
{
	struct iris_str host = request->head.authority;
	const char *colon = host.len > 0 ? memrchr(host.base, ':', host.len) : NULL;
	int64_t port = web_option(WEB_OPT_HTTPS_PORT);
	struct iris_strbuf url = STRBUF_INIT(request->arena);

	if (colon && !memchr(colon, ']', host.len - (size_t)(colon - host.base)))
		host.len = (size_t)(colon - host.base);
	if (host.len == 0 || str_is(request->head.target, "*")) {
		answer_status(request, 400);
		return;
	}
	strbuf_printf(&url, "https://%.*s", IRIS_STR_FMT(host));
	if (port != 443)
		strbuf_printf(&url, ":%lld", (long long)port);
	strbuf_add(&url, request->head.target);
	web_set_header(request, "Location", strbuf_str(&url));
	request->http->close = true;
	web_answer(request, 308, NULL, IRIS_STR_NONE);
}

void
answer_switch(struct iris_web_request *request)
{
	struct iris_strbuf head = STRBUF_INIT(request->arena);

	answer_add_security(request);
	request->begun = true;
	request->status = 101;
	strbuf_printf(&head, "HTTP/1.1 101 %s\r\nDate: %s\r\n", status_text(101), date_text());
	strbuf_add(&head, strbuf_str(&request->fields));
	strbuf_add(&head, IRIS_STR("\r\n"));
	if (request->http->carrier)
		answer_send(request, strbuf_str(&head));
}
