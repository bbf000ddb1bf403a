/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in OpenStack Swift (object storage API v1).  A file is cut into segments, objects of
 * their own: Swift takes none larger than 5 GiB.  Their names and lengths follow from the file's
 * row, so there is no manifest, and no listing, which Swift keeps up to date sooner or later only,
 * is relied on.
 *
 * A token that is not good any more (401) is told before the body is sent: we sign in again, once,
 * and go on.  Any worker asks, the main one works.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "modules/files/swift_private.h"

#define URL_SIZE 1400
#define TOKEN_LINE (sizeof(((struct swift_session *)NULL)->token) + 20)

struct swift_put {
	struct file_place place;
	struct swift_transfer *transfer; /* of the segment that is written; NULL: none */
	int64_t done;                    /* bytes that are with Swift, or on their way */
	unsigned generation;             /* of the session that the transfer uses */
};

struct swift_get {
	struct file_place place;
	struct swift_transfer *transfer; /* gives what follows `at` in its segment; NULL: none */
	int64_t at;
};

/* One operation, on the stack of the fiber that asks. */
struct swift_call {
	bool (*fn)(struct swift_call *call);
	const struct file_place *place;
	struct swift_put *put;
	struct swift_get *get;
	struct iris_str bytes;
	int64_t offset;
	char *buf;
	size_t len;
	bool ok;
};

static void
call_run(void *arg)
{
	struct swift_call *call = arg;

	call->ok = call->fn(call);
}

static bool
call_main(struct swift_call *call)
{
	/* Where a lock of a file may be held: that is no call to another worker. */
	if (worker_index() == WORKER_MAIN)
		call_run(call);
	else
		worker_call(worker_at(WORKER_MAIN), "files: swift", call_run, call);
	return call->ok;
}

static bool
swift_fail(const char *what, unsigned status, const char *problem)
{
	struct iris_error error = { .message = "" };

	error_set(&error, "Swift does not %s", what);
	if (status)
		error_detail(&error, "it answers %u", status);
	else
		error_detail(&error, "%s", problem);
	log_error(IRIS_LOG_ERROR, "files", "store", &error);
	metric_add(&file_metrics[METRIC_STORE_ERRORS], 1);
	return false;
}

/* --- objects --- */

static void
object_url(const struct swift_session *session, const struct file_place *place, int64_t segment,
	   char url_r[URL_SIZE])
{
	char container[128];

	if (!str_copy_to(container, sizeof(container),
			 option_str(&files_self, OPT_SWIFT_CONTAINER)))
		container[0] = '\0';
	if (place)
		snprintf(url_r, URL_SIZE, "%s/%s/%016" PRIx64 "/%06lld", session->storage,
			 container, (uint64_t)place->id, (long long)segment);
	else
		snprintf(url_r, URL_SIZE, "%s/%s", session->storage, container);
}

static void
token_line(const struct swift_session *session, char line_r[TOKEN_LINE])
{
	snprintf(line_r, TOKEN_LINE, "X-Auth-Token: %s", session->token);
}

struct object_request {
	const char *method;
	const struct file_place *place; /* NULL: the container */
	int64_t segment, first, upload; /* first -1: no range */
};

static struct swift_transfer *
object_begin(const struct swift_session *session, const struct object_request *object)
{
	char *url = iris_malloc(URL_SIZE + TOKEN_LINE), *token = url + URL_SIZE, range[64];
	const char *headers[4] = { token, "Content-Type: application/octet-stream" };
	struct swift_request request = {
		.method = object->method, .url = url, .headers = headers, .upload = object->upload
	};
	struct swift_transfer *transfer;

	object_url(session, object->place, object->segment, url);
	token_line(session, token);
	if (object->first >= 0) {
		snprintf(range, sizeof(range), "Range: bytes=%lld-", (long long)object->first);
		headers[2] = range;
	}
	transfer = swift_begin(&request);
	free(url);
	return transfer;
}

/* A request without bodies; its status, after signing in again when that is asked for. */
static unsigned
object_ask(const struct swift_session *session, const struct object_request *object, bool again)
{
	unsigned generation = session->generation;
	struct swift_transfer *transfer = object_begin(session, object);
	unsigned status = transfer ? swift_finish(transfer) : 0;

	swift_free(&transfer);
	if (status != 401 || !again)
		return status;
	session = swift_session(generation);
	return session ? object_ask(session, object, false) : 0;
}

bool
swift_make_container(const struct swift_session *session)
{
	const struct object_request object = { .method = "PUT", .first = -1, .upload = 0 };
	unsigned status = object_ask(session, &object, false);

	return (status >= 200 && status < 300) || swift_fail("make the container", status,
							     "there was no answer");
}

static int64_t
segment_of(const struct file_place *place, int64_t offset)
{
	return place->segment > 0 ? offset / place->segment : 0;
}

static int64_t
segment_begin(const struct file_place *place, int64_t segment)
{
	return segment * place->segment;
}

static int64_t
segment_length(const struct file_place *place, int64_t segment)
{
	int64_t left = place->size - segment_begin(place, segment);

	return place->segment > 0 && left > place->segment ? place->segment : left;
}

/* --- put --- */

static bool
put_open_segment(struct swift_put *put, unsigned refused)
{
	const struct swift_session *session = swift_session(refused);
	const struct object_request object = {
		.method = "PUT",
		.place = &put->place,
		.segment = segment_of(&put->place, put->done),
		.first = -1,
		.upload = segment_length(&put->place, segment_of(&put->place, put->done)),
	};

	if (!session)
		return false;
	put->generation = session->generation;
	put->transfer = object_begin(session, &object);
	return put->transfer != NULL;
}

static bool
put_finish_segment(struct swift_put *put)
{
	unsigned status = swift_finish(put->transfer);
	bool ok = status == 201 ||
		  swift_fail("take a segment", status, swift_problem(put->transfer));

	swift_free(&put->transfer);
	return ok;
}

/* Bytes of one segment. */
static bool
put_send(struct swift_put *put, struct iris_str bytes)
{
	for (unsigned tries = 0; tries < 2; tries++) {
		unsigned status;

		if (!put->transfer && !put_open_segment(put, tries ? put->generation : 0))
			return false;
		if (swift_send(put->transfer, bytes))
			return true;
		status = swift_finish(put->transfer);
		if (status != 401 || swift_is_consumed(put->transfer) || tries > 0)
			return swift_fail("take a segment", status, swift_problem(put->transfer));
		swift_free(&put->transfer);
	}
	return false;
}

static bool
call_put(struct swift_call *call)
{
	struct swift_put *put = call->put;
	struct iris_str bytes = call->bytes;

	while (bytes.len > 0) {
		int64_t segment = segment_of(&put->place, put->done);
		int64_t end = segment_begin(&put->place, segment) +
			      segment_length(&put->place, segment);
		struct iris_str part = bytes;

		if ((int64_t)part.len > end - put->done)
			part.len = (size_t)(end - put->done);
		if (!put_send(put, part))
			return false;
		put->done += (int64_t)part.len;
		bytes.base += part.len;
		bytes.len -= part.len;
		if (put->done == end && !put_finish_segment(put))
			return false;
	}
	return true;
}

static void *
swift_put_begin(const struct file_place *place)
{
	struct swift_put *put = iris_calloc(1, sizeof(*put));

	put->place = *place;
	return put;
}

static bool
swift_put(void *arg, struct iris_str bytes)
{
	struct swift_call call = { .fn = call_put, .put = arg, .bytes = bytes };

	return call_main(&call);
}

static bool
call_drop_put(struct swift_call *call)
{
	swift_free(&call->put->transfer);
	return true;
}

/* --- remove --- */

static bool
call_remove(struct swift_call *call)
{
	const struct swift_session *session = swift_session(0);
	int64_t last = segment_of(call->place, call->place->size > 0 ? call->place->size - 1 : 0);

	for (int64_t i = 0; session && i <= last; i++) {
		const struct object_request object = {
			.method = "DELETE", .place = call->place, .segment = i, .first = -1,
			.upload = -1,
		};
		unsigned status = object_ask(session, &object, true);

		if (status != 404 && (status < 200 || status >= 300))
			return swift_fail("delete a segment", status, "there was no answer");
		session = swift_session(0);
	}
	return session != NULL;
}

static bool
swift_remove(const struct file_place *place)
{
	struct swift_call call = { .fn = call_remove, .place = place };

	return call_main(&call);
}

static bool
swift_put_end(void **put_p, bool keep)
{
	struct swift_put *put = *put_p;
	struct swift_call call = { .fn = call_drop_put, .put = put };
	bool kept = keep && put->done == put->place.size;

	call_main(&call);
	if (!kept && put->done > 0)
		(void)swift_remove(&put->place);
	free(put);
	*put_p = NULL;
	return kept;
}

/* --- get --- */

static bool
get_open(struct swift_get *get, int64_t offset, unsigned refused)
{
	const struct swift_session *session = swift_session(refused);
	int64_t segment = segment_of(&get->place, offset);
	const struct object_request object = {
		.method = "GET", .place = &get->place, .segment = segment,
		.first = offset - segment_begin(&get->place, segment), .upload = -1,
	};

	if (!session)
		return false;
	get->at = offset;
	get->transfer = object_begin(session, &object);
	return get->transfer != NULL;
}

/* Of one segment, as much as it has. */
static bool
get_part(struct swift_get *get, int64_t offset, char *buf, size_t len)
{
	unsigned generation = 0;

	if (get->transfer && get->at != offset)
		swift_free(&get->transfer);
	for (unsigned tries = 0; tries < 2; tries++) {
		if (!get->transfer && !get_open(get, offset, generation))
			return false;
		size_t got = swift_receive(get->transfer, buf, len);
		unsigned status = swift_status(get->transfer);

		if (got == len && (status == 206 || status == 200)) {
			get->at += (int64_t)len;
			return true;
		}
		if (status != 401 || tries > 0)
			return swift_fail("give a segment", status, swift_problem(get->transfer));
		swift_free(&get->transfer);
		const struct swift_session *session = swift_session(0);
		generation = session ? session->generation : 0;
	}
	return false;
}

static bool
call_get(struct swift_call *call)
{
	while (call->len > 0) {
		const struct file_place *place = &call->get->place;
		int64_t segment = segment_of(place, call->offset);
		int64_t end = segment_begin(place, segment) + segment_length(place, segment);
		size_t part = call->len;

		if ((int64_t)part > end - call->offset)
			part = (size_t)(end - call->offset);
		if (!get_part(call->get, call->offset, call->buf, part))
			return false;
		call->buf += part;
		call->offset += (int64_t)part;
		call->len -= part;
		if (call->offset == end)
			swift_free(&call->get->transfer);
	}
	return true;
}

static void *
swift_get_begin(const struct file_place *place)
{
	struct swift_get *get = iris_calloc(1, sizeof(*get));

	get->place = *place;
	return get;
}

static bool
swift_get(void *arg, int64_t offset, char *buf, size_t len)
{
	struct swift_call call = {
		.fn = call_get, .get = arg, .offset = offset, .buf = buf, .len = len
	};

	return call_main(&call);
}

static bool
call_drop_get(struct swift_call *call)
{
	swift_free(&call->get->transfer);
	return true;
}

static void
swift_get_end(void **get_p)
{
	struct swift_call call = { .fn = call_drop_get, .get = *get_p };

	if (*get_p && call.get->transfer)
		call_main(&call);
	free(*get_p);
	*get_p = NULL;
}

/* --- the store --- */

static int64_t
swift_segment(void)
{
	return option_int(&files_self, OPT_SWIFT_SEGMENT);
}

static void
swift_first_look(void *arg)
{
	/* What is wrong is logged now, and not with the first upload. */
	(void)swift_session(0);
}

static bool
swift_start(struct iris_error *error)
{
	if (str_is_empty(option_str(&files_self, OPT_SWIFT_URL))) {
		error_set(error, "files.store is swift, and files.swift-url is not set");
		return error_hint(error, "name where tokens are given out");
	}
	if (!swift_http_start(error))
		return false;
	if (!fiber_start("files: swift", swift_first_look, NULL))
		return error_set(error, "no fiber is left");
	return true;
}

static void
swift_stop(void)
{
	swift_http_stop();
	swift_session_end();
}

const struct file_store file_store_swift = {
	.name = "swift",
	.start = swift_start,
	.stop = swift_stop,
	.segment = swift_segment,
	.put_begin = swift_put_begin,
	.put = swift_put,
	.put_end = swift_put_end,
	.get_begin = swift_get_begin,
	.get = swift_get,
	.get_end = swift_get_end,
	.remove = swift_remove,
};
