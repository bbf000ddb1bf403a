/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl's multi interface in the main worker's loop, as fibers use it: bodies flow both ways, and
 * a transfer is held (paused) while the fiber has nothing for it, or no room.  A fiber is never run
 * inside one of curl's callbacks: those only note what happened, and the fiber is woken behind
 * them.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <stdlib.h>

#include "iris/gate.h"
#include "modules/files/swift_private.h"

#define CARRY CURL_MAX_WRITE_SIZE
#define CONNECT_MS 10000L
#define SLOW_BYTES 1000L /* a second; below it for so long, the transfer ends */
#define SLOW_SECONDS 60L

struct swift_transfer {
	TAILQ_ENTRY(swift_transfer) link; /* of those to wake */
	TAILQ_ENTRY(swift_transfer) all;
	CURL *easy;
	struct curl_slist *headers;
	struct swift_fields *fields;
	char problem[CURL_ERROR_SIZE];
	bool in_multi, done, paused_send, paused_receive, consumed;
	CURLcode result;

	struct iris_str out; /* what the fiber gives */
	char *in;            /* where it wants something */
	size_t in_len, in_got;
	size_t carry_len, carry_at; /* what came and was not wanted yet */
	char carry[CARRY];

	struct iris_wait *wait; /* NULL: nobody waits */
	bool to_wake;
};

static CURLM *multi;
static struct iris_timer multi_timer; /* curl's: it tells when it changes, and only then */
static struct iris_timer kick_timer;  /* ours */
static TAILQ_HEAD(, swift_transfer) to_wake = TAILQ_HEAD_INITIALIZER(to_wake);
static TAILQ_HEAD(, swift_transfer) transfers = TAILQ_HEAD_INITIALIZER(transfers);
static bool ending; /* the server stops */

/* --- waking --- */

static void
transfer_note(struct swift_transfer *transfer)
{
	if (transfer->to_wake || !transfer->wait)
		return;
	transfer->to_wake = true;
	TAILQ_INSERT_TAIL(&to_wake, transfer, link);
}

static void
multi_collect(void)
{
	struct swift_transfer *transfer;
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer->done = true;
		transfer->result = message->data.result;
		transfer_note(transfer);
	}
	while ((transfer = TAILQ_FIRST(&to_wake))) {
		struct iris_wait *wait = transfer->wait;

		TAILQ_REMOVE(&to_wake, transfer, link);
		transfer->to_wake = false;
		transfer->wait = NULL;
		wait_done(wait);
	}
}

static void
transfer_wait(struct swift_transfer *transfer, const char *what)
{
	struct iris_wait wait;

	wait_init(&wait);
	transfer->wait = &wait;
	wait_for(&wait, what);
}

/* --- curl in the loop --- */

static void
multi_act(curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(multi, fd, events, &running);
	multi_collect();
}

static void
multi_on_event(evutil_socket_t fd, short what, void *arg)
{
	multi_act(fd, (what & EV_READ ? CURL_CSELECT_IN : 0) |
			      (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void
multi_on_timer(void *arg)
{
	multi_act(CURL_SOCKET_TIMEOUT, 0);
}

static int
multi_set_socket(CURL *easy, curl_socket_t fd, int action, void *arg, void *socket_arg)
{
	struct event *event = socket_arg;
	short what = (short)(EV_PERSIST | (action & CURL_POLL_IN ? EV_READ : 0) |
			     (action & CURL_POLL_OUT ? EV_WRITE : 0));

	if (event)
		event_free(event);
	event = NULL;
	if (action != CURL_POLL_REMOVE)
		event = event_new(worker_base(), fd, what, multi_on_event, NULL);
	if (event)
		event_add(event, NULL);
	curl_multi_assign(multi, fd, event);
	return 0;
}

static int
multi_set_timer(CURLM *handle, long milliseconds, void *arg)
{
	if (milliseconds < 0)
		timer_stop(&multi_timer);
	else
		timer_start(&multi_timer, milliseconds, multi_on_timer, NULL);
	return 0;
}

/* --- bodies --- */

static size_t
transfer_on_send(char *buf, size_t size, size_t count, void *arg)
{
	struct swift_transfer *transfer = arg;
	size_t len = size * count;

	if (transfer->out.len == 0) {
		transfer->paused_send = true;
		transfer_note(transfer);
		return CURL_READFUNC_PAUSE;
	}
	if (len > transfer->out.len)
		len = transfer->out.len;
	transfer->consumed = true;
	memcpy(buf, transfer->out.base, len);
	transfer->out.base += len;
	transfer->out.len -= len;
	return len;
}

static size_t
transfer_on_receive(char *bytes, size_t size, size_t count, void *arg)
{
	struct swift_transfer *transfer = arg;
	size_t len = size * count, room = transfer->in_len - transfer->in_got;

	/* All or nothing: what does not fit is carried, and then nothing more is taken. */
	if (transfer->carry_len > 0 || room == 0 || len > room + sizeof(transfer->carry)) {
		transfer->paused_receive = true;
		transfer_note(transfer);
		return CURL_WRITEFUNC_PAUSE;
	}
	if (room > len)
		room = len;
	memcpy(transfer->in + transfer->in_got, bytes, room);
	transfer->in_got += room;
	memcpy(transfer->carry, bytes + room, len - room);
	transfer->carry_at = 0;
	transfer->carry_len = len - room;
	if (transfer->in_got == transfer->in_len)
		transfer_note(transfer);
	return len;
}

/* Names are compared whole: X-Auth-Token-Expires begins like X-Auth-Token. */
static void
field_take(struct iris_str line, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);
	struct iris_str value;

	if (line.len <= len || strncasecmp(line.base, name, len) != 0 || line.base[len] != ':')
		return;
	value = (struct iris_str){ line.base + len + 1, line.len - len - 1 };
	while (value.len > 0 && *value.base == ' ') {
		value.base++;
		value.len--;
	}
	while (value.len > 0 && strchr("\r\n ", value.base[value.len - 1]))
		value.len--;
	if (!str_copy_to(out, size, value))
		*out = '\0';
}

static size_t
transfer_on_header(char *bytes, size_t size, size_t count, void *arg)
{
	struct swift_transfer *transfer = arg;
	struct iris_str line = { bytes, size * count };
	struct swift_fields *fields = transfer->fields;

	field_take(line, "X-Auth-Token", fields->auth_token, sizeof(fields->auth_token));
	field_take(line, "X-Subject-Token", fields->subject_token, sizeof(fields->subject_token));
	field_take(line, "X-Storage-Url", fields->storage_url, sizeof(fields->storage_url));
	return line.len;
}

/* --- transfers --- */

static void
transfer_set_body(struct swift_transfer *transfer, const struct swift_request *request)
{
	CURL *easy = transfer->easy;

	if (request->upload >= 0) {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->upload);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, transfer_on_send);
		curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	} else if (request->body.len > 0) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)request->body.len);
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body.base);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
}

static void
transfer_set_options(struct swift_transfer *transfer, const struct swift_request *request)
{
	CURL *easy = transfer->easy;
	struct iris_str authorities = option_str(&files_self, OPT_SWIFT_CA);

	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->problem);
	/* SECURITY: nobody leads us elsewhere. */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_on_receive);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, transfer_on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	if (!str_is_empty(authorities))
		curl_easy_setopt(easy, CURLOPT_CAINFO, authorities.base);
	transfer_set_body(transfer, request);
}

/* As curl reads it, so that nobody is asked for another name than was looked at. */
static bool
url_has_number(const char *text)
{
	struct in6_addr ignored;
	CURLU *url = curl_url();
	char *host = NULL;
	bool is_number = false;

	if (url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		size_t len = strlen(host);

		is_number = inet_pton(AF_INET, host, &ignored) == 1;
		if (!is_number && len > 2 && host[0] == '[' && host[len - 1] == ']') {
			host[len - 1] = '\0';
			is_number = inet_pton(AF_INET6, host + 1, &ignored) == 1;
		}
	}
	curl_free(host);
	curl_url_cleanup(url);
	return is_number;
}

/* SECURITY: an isolated region asks no DNS (P2.1): who answers there could lead its data away. */
bool
swift_may_ask(const char *url)
{
	return !region_is_isolated() || url_has_number(url);
}

struct swift_transfer *
swift_begin(const struct swift_request *request)
{
	struct swift_transfer *transfer;

	IRIS_ASSERT(worker_index() == WORKER_MAIN);
	transfer = iris_calloc(1, sizeof(*transfer));
	TAILQ_INSERT_TAIL(&transfers, transfer, all);
	transfer->fields = iris_calloc(1, sizeof(*transfer->fields));
	for (const char *const *header = request->headers; header && *header; header++)
		transfer->headers = curl_slist_append(transfer->headers, *header);
	/* Asked before the body: what is refused (401) was not consumed. */
	if (request->upload >= 0)
		transfer->headers = curl_slist_append(transfer->headers, "Expect: 100-continue");
	transfer->easy = curl_easy_init();
	if (transfer->easy)
		transfer_set_options(transfer, request);
	transfer->in_multi = transfer->easy && !ending && swift_may_ask(request->url) &&
			     curl_multi_add_handle(multi, transfer->easy) == CURLM_OK;
	if (!transfer->in_multi)
		swift_free(&transfer);
	return transfer;
}

/* What was held goes on. */
static void
transfer_go_on(struct swift_transfer *transfer)
{
	if (transfer->done || (!transfer->paused_send && !transfer->paused_receive))
		return;
	transfer->paused_send = transfer->paused_receive = false;
	curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
	timer_start(&kick_timer, 0, multi_on_timer, NULL);
}

bool
swift_send(struct swift_transfer *transfer, struct iris_str bytes)
{
	bool sent;

	transfer->out = bytes;
	/*
	 * Consumed is what the callback took; the last part ends with the transfer. An answer
	 * with a body, before everything was sent, is a refusal.
	 */
	while (transfer->out.len > 0 && !transfer->done && !transfer->paused_receive) {
		transfer_go_on(transfer);
		transfer_wait(transfer, "swift: send");
	}
	sent = transfer->out.len == 0;
	transfer->out = IRIS_STR_NONE;
	return sent;
}

bool
swift_is_consumed(const struct swift_transfer *transfer)
{
	return transfer->consumed;
}

size_t
swift_receive(struct swift_transfer *transfer, char *buf, size_t len)
{
	size_t carried = transfer->carry_len < len ? transfer->carry_len : len;

	memcpy(buf, transfer->carry + transfer->carry_at, carried);
	transfer->carry_at += carried;
	transfer->carry_len -= carried;
	transfer->in = buf;
	transfer->in_len = len;
	transfer->in_got = carried;
	while (transfer->in_got < len && !transfer->done) {
		transfer_go_on(transfer);
		transfer_wait(transfer, "swift: receive");
	}
	carried = transfer->in_got;
	transfer->in = NULL;
	transfer->in_len = transfer->in_got = 0;
	return carried;
}

unsigned
swift_status(const struct swift_transfer *transfer)
{
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	return (unsigned)status;
}

unsigned
swift_finish(struct swift_transfer *transfer)
{
	char dropped[2048];

	while (!transfer->done || transfer->carry_len > 0)
		if (swift_receive(transfer, dropped, sizeof(dropped)) == 0 && transfer->done)
			break;
	return transfer->result == CURLE_OK ? swift_status(transfer) : 0;
}

const struct swift_fields *
swift_fields(const struct swift_transfer *transfer)
{
	return transfer->fields;
}

const char *
swift_problem(const struct swift_transfer *transfer)
{
	return transfer->problem[0] ? transfer->problem : curl_easy_strerror(transfer->result);
}

void
swift_free(struct swift_transfer **transfer_p)
{
	struct swift_transfer *transfer = *transfer_p;

	if (!transfer)
		return;
	*transfer_p = NULL;
	IRIS_ASSERT(!transfer->wait);
	TAILQ_REMOVE(&transfers, transfer, all);
	if (transfer->in_multi)
		curl_multi_remove_handle(multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	curl_slist_free_all(transfer->headers);
	memset(transfer->fields, 0, sizeof(*transfer->fields));
	free(transfer->fields);
	free(transfer);
}

/*
 * Fibers are awaited when the server stops, for a while only: a Swift that does not answer must not
 * hold it up.  What is cut off is as a Swift that is gone.
 */
static void
swift_watch_stop(void *arg)
{
	struct swift_transfer *transfer;

	while (fiber_sleep(3600 * 1000))
		;
	ending = true;
	TAILQ_FOREACH(transfer, &transfers, all) {
		curl_multi_remove_handle(multi, transfer->easy);
		transfer->in_multi = false;
		transfer->done = true;
		transfer->result = CURLE_ABORTED_BY_CALLBACK;
		transfer_note(transfer);
	}
	multi_collect();
}

bool
swift_http_start(struct iris_error *error)
{
	ending = false;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(multi = curl_multi_init()))
		return error_set(error, "libcurl does not start");
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, multi_set_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, multi_set_timer);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, 64L);
	if (!fiber_start("files: until the end", swift_watch_stop, NULL))
		return error_set(error, "no fiber is left");
	return true;
}

void
swift_http_stop(void)
{
	timer_stop(&multi_timer);
	timer_stop(&kick_timer);
	if (multi)
		curl_multi_cleanup(multi);
	multi = NULL;
	curl_global_cleanup();
}
