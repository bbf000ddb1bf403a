/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BOSH (XEP-0124 1.11, XEP-0206 1.4): the module, and a request of HTTP on its way to its session
 * and back.  On the fiber of the request, on the worker that holds the connection; the session may
 * be on another one, and may move meanwhile.
 */
#include "bosh_private.h"

#define MOVED_TRIES 200 /* of MOVED_PAUSE_MS: a move takes a turn of two workers */
#define MOVED_PAUSE_MS 5

static struct iris_module_self bosh_self;

int64_t
bosh_option(enum bosh_option option)
{
	return option_int(&bosh_self, option);
}

/* --- to the session and back --- */

/* On the worker of the handler. */
static void
bosh_on_answer(struct iris_mail *mail)
{
	wait_done(&IRIS_CONTAINER(mail, struct bosh_request, mail)->wait);
}

void
bosh_request_answer(struct bosh_request *request, struct bosh_answer *answer)
{
	request->answer = answer;
	request->mail.fn = bosh_on_answer;
	worker_post(request->from, &request->mail);
}

/* On the worker where the session should be. */
static void
bosh_on_request(struct iris_mail *mail)
{
	struct bosh_request *request = IRIS_CONTAINER(mail, struct bosh_request, mail);
	struct bosh_session *session = bosh_session_find(request->body.sid);

	if (session && !session->lost) {
		bosh_session_take(session, request);
		return;
	}
	request->moved = true;
	bosh_request_answer(request, NULL);
}

/* Gives it to its session and waits for the answer; NULL: there is no such session. */
static struct bosh_answer *
bosh_ask_session(struct bosh_request *request)
{
	for (int tries = 0; tries < MOVED_TRIES; tries++) {
		struct iris_worker *worker = bosh_directory_find(request->body.sid);

		if (!worker)
			return NULL;
		request->moved = false;
		wait_init(&request->wait);
		request->mail.fn = bosh_on_request;
		worker_post(worker, &request->mail);
		wait_for(&request->wait, "bosh: answer");
		if (!request->moved)
			return request->answer;
		if (!fiber_sleep(MOVED_PAUSE_MS))
			return NULL;
	}
	return NULL;
}

static struct bosh_answer *
bosh_begin_session(struct bosh_request *request)
{
	wait_init(&request->wait);
	if (!bosh_session_new(request))
		return bosh_answer_end("policy-violation", IRIS_STR_NONE);
	wait_for(&request->wait, "bosh: answer");
	return request->answer;
}

/* --- HTTP --- */

/* The body, whole; false: answered, or the peer is gone. */
static bool
bosh_read_body(struct iris_web_request *web, struct iris_str *text_r)
{
	size_t limit = (size_t)bosh_option(BOSH_OPT_BODY_SIZE);
	int64_t length = web_body_length(web);
	size_t size = length < 0 ? limit : (size_t)length;
	char *buffer;
	ssize_t got;

	if (size > limit) {
		answer_status(web, 413);
		return false;
	}
	buffer = arena_alloc(web_arena(web), size + 1);
	got = web_read(web, buffer, length < 0 ? size + 1 : size);
	if (got < 0)
		return false;
	if ((size_t)got > limit) {
		answer_status(web, 413);
		return false;
	}
	*text_r = (struct iris_str){ buffer, (size_t)got };
	return true;
}

static void
bosh_reply(struct iris_web_request *web, struct bosh_answer *answer)
{
	web_set_header(web, "Cache-Control", IRIS_STR("no-store"));
	web_answer(web, 200, "text/xml; charset=utf-8",
		   (struct iris_str){ answer->text, answer->len });
	bosh_answer_unref(&answer);
}

static void
bosh_handle(struct iris_web_request *web)
{
	struct bosh_request request = { .from = worker_self(),
					.peer = web_peer_address(web),
					.secure = web_is_secure(web) };
	struct bosh_answer *answer;
	const char *condition;
	struct iris_str text;

	if (!request_may_come(web)) {
		answer_status(web, 403);
		return;
	}
	if (!bosh_read_body(web, &text))
		return;
	condition = bosh_body_parse(web_arena(web), text, &request.body);
	if (condition)
		answer = bosh_answer_end(condition, IRIS_STR_NONE);
	else if (str_is_none(request.body.sid))
		answer = bosh_begin_session(&request);
	else
		answer = bosh_ask_session(&request);
	if (!answer)
		answer = bosh_answer_end("item-not-found", IRIS_STR_NONE);
	if (request.known)
		request_admit(web);
	bosh_reply(web, answer);
}

static const struct iris_web_route bosh_routes[] = {
	{ IRIS_WEB_POST, "/http-bind", bosh_handle, 0 },
	{ .path = NULL },
};

static const struct iris_option bosh_options[] = {
	[BOSH_OPT_BODY_SIZE] = { "body-size", IRIS_OPT_SIZE, "256 KiB", .min = 16384,
				 .max = 16 << 20, .reloadable = true,
				 .help = "The largest body of a request." },
	[BOSH_OPT_WAIT] = { "wait", IRIS_OPT_DURATION, "60 seconds", .min = 1000, .max = 300000,
			    .reloadable = true,
			    .help = "How long a request may wait for something to say." },
	[BOSH_OPT_HOLD] = { "hold", IRIS_OPT_INT, "1", .min = 1, .max = BOSH_HOLD_MAX,
			    .reloadable = true,
			    .help = "How many requests of a session may wait at a time." },
	[BOSH_OPT_INACTIVITY] = { "inactivity", IRIS_OPT_DURATION, "60 seconds", .min = 1000,
				  .max = 3600000, .reloadable = true,
				  .help = "How long a session may be without a request." },
	[BOSH_OPT_POLLING] = { "polling", IRIS_OPT_DURATION, "2 seconds", .min = 0, .max = 60000,
			       .reloadable = true,
			       .help = "How often a client may ask that cannot wait." },
	[BOSH_OPT_PAUSE] = { "max-pause", IRIS_OPT_DURATION, "2 minutes", .min = 1000,
			     .max = 3600000, .reloadable = true,
			     .help = "For how long a client may ask to be left alone." },
	[BOSH_OPT_OUTPUT] = { "output-limit", IRIS_OPT_SIZE, "2 MiB", .min = 65536, .max = 1 << 28,
			      .reloadable = true,
			      .help = "How much may wait for a client that does not come for it "
				      "before its session is cut." },
	[BOSH_OPT_STRANGERS] = { "max-unauthenticated", IRIS_OPT_INT, "1000", .min = 1,
				 .max = 1000000, .reloadable = true,
				 .help = "How many sessions there may be that nobody has signed "
					 "in on." },
	[BOSH_OPT_STRANGERS_PER_ADDRESS] = { "max-unauthenticated-per-address", IRIS_OPT_INT, "50",
					     .min = 1, .max = 1000000, .reloadable = true,
					     .help = "The same from one address." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_bosh = {
	IRIS_MODULE_HEAD,
	.name = "bosh",
	.summary = "XMPP over BOSH (XEP-0206)",
	.xep = "XEP-0124 1.11, XEP-0206 1.4",
	.needs = IRIS_NAMES("web"),
	.self = &bosh_self,
	.options = bosh_options,
	.web = bosh_routes,
	.not_unloadable = true,
};
