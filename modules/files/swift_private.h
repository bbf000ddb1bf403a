/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to Swift (swift_http.c), for store_swift.c.  All on fibers of the main worker, which has
 * the one multi handle: what a transfer has in memory is its own buffers.
 */
#ifndef IRIS_FILES_SWIFT_PRIVATE_H
#define IRIS_FILES_SWIFT_PRIVATE_H

#include "modules/files/files_private.h"

struct swift_request {
	const char *method;
	const char *url;
	const char *const *headers; /* NULL-terminated */
	struct iris_str body;       /* of a short request */
	int64_t upload;             /* or so many bytes, by swift_send(); -1: none */
};

/* Fields of an answer that somebody asks for; empty when they are not there. */
struct swift_fields {
	char auth_token[4096], subject_token[4096], storage_url[1024];
};

struct swift_transfer;

bool swift_http_start(struct iris_error *error);
void swift_http_stop(void);

/* May this region connect there? An isolated one reaches its store by address only. */
bool swift_may_ask(const char *url);
/* Begins; NULL: curl refuses it, or it may not be asked. */
struct swift_transfer *swift_begin(const struct swift_request *request);
/* Waits until all is taken. False: the transfer is over; its status says why. */
bool swift_send(struct swift_transfer *transfer, struct iris_str bytes);
/* Has any byte of the body gone? Else it can be sent once more. */
bool swift_is_consumed(const struct swift_transfer *transfer);
/* Waits for so many bytes of an answer's body, or its end; how many came. */
size_t swift_receive(struct swift_transfer *transfer, char *buf, size_t len);
/* Waits for the end. The status of HTTP; 0: there was none (the reason is logged by name). */
unsigned swift_finish(struct swift_transfer *transfer);
unsigned swift_status(const struct swift_transfer *transfer); /* as far as it is known; else 0 */
const struct swift_fields *swift_fields(const struct swift_transfer *transfer);
const char *swift_problem(const struct swift_transfer *transfer);
void swift_free(struct swift_transfer **transfer_p); /* also when it is under way */

/* --- signing in (swift_auth.c) --- */

enum { SWIFT_TEMPAUTH, SWIFT_KEYSTONE };

struct swift_session {
	unsigned generation, last; /* 0: not signed in; the last one given out */
	char token[4096], storage[1024];
};

/*
 * Signed in, waiting for it when it must be; `refused` is the generation that Swift takes no more
 * (0: none).  NULL: it does not let us in, which is logged.
 */
const struct swift_session *swift_session(unsigned refused);
void swift_session_end(void);

/* --- the store (store_swift.c) --- */

bool swift_make_container(const struct swift_session *session);

#endif
