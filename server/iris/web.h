/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answering HTTP (RFC 9110, RFC 9112), for plug-ins that offer something there: a table of routes
 * in the descriptor, and handlers that read straight down.  The module `web` speaks HTTP, refuses
 * what is malformed, slow or too big before a handler sees it, and calls the handler on a fiber of
 * the worker that holds the connection.  All functions here are for that fiber, until the handler
 * returns; what they return lives as long.
 *
 *   static void
 *   hello_handle(struct iris_web_request *request)
 *   {
 *           web_answer(request, 200, "text/plain; charset=utf-8", IRIS_STR("hello\n"));
 *   }
 *   static const struct iris_web_route hello_routes[] = {
 *           { IRIS_WEB_GET, "/hello", hello_handle, 0 },
 *           { .path = NULL },
 *   };
 */
#ifndef IRIS_WEB_H
#define IRIS_WEB_H

#include <sys/types.h>

#include "iris/route.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_web_request;

enum iris_web_method {
	IRIS_WEB_GET = 1,   /* HEAD as well: what is written as body is left out then */
	IRIS_WEB_POST = 2,
	IRIS_WEB_PUT = 4,
	IRIS_WEB_DELETE = 8,
};

enum iris_web_flags {
	/* Pages of any origin may read it (a public document); else those of option `origins`. */
	IRIS_WEB_ANY_ORIGIN = 1,
};

struct iris_web_route {
	unsigned methods; /* IRIS_WEB_…; others are answered with 405, OPTIONS by the module web */
	/* exactly this one, or with '/' at its end all below it; the longest wins */
	const char *path;
	void (*handle)(struct iris_web_request *request);
	unsigned flags; /* IRIS_WEB_ANY_ORIGIN … */
};

/* --- the request --- */

enum iris_web_method web_method(const struct iris_web_request *request);
/*
 * What follows the route's path: decoded once, normalised, without "." and ".." segments, control
 * characters and NUL (such requests never come here).  Empty for a route that is no folder.
 */
struct iris_str web_path(const struct iris_web_request *request);
/* The first value of this name in the query, decoded; none: it is not there. */
struct iris_str web_query(struct iris_web_request *request, const char *name);
/* The value of a field, several of one name joined with ", "; none: it is not there. */
struct iris_str web_header(struct iris_web_request *request, const char *name);
struct iris_host *web_host(const struct iris_web_request *request); /* NULL: none of ours */
/* Host and port as the client names them, fit for a URL; none: it does not (HTTP/1.0). */
struct iris_str web_authority(const struct iris_web_request *request);
/* over TLS, or behind a proxy that speaks it */
bool web_is_secure(const struct iris_web_request *request);
struct iris_str web_peer_address(const struct iris_web_request *request);
/* For what the answer needs until it is written. */
struct iris_arena *web_arena(struct iris_web_request *request);
/* Bytes; 0: none; -1: not told (chunked). */
int64_t web_body_length(const struct iris_web_request *request);
/*
 * Waits until `size` bytes of the body are there, or its end: then fewer, or 0. Below zero: the
 * peer is gone, too slow, or malformed; return, nothing can be answered. Who asked for it gets
 * "100 Continue" when the first byte is waited for. What nobody reads is not taken in.
 */
ssize_t web_read(struct iris_web_request *request, void *buffer, size_t size);

/* --- the answer: one of web_answer() or web_begin() … web_write(), once --- */

/*
 * A field of the answer that is about to begin; the name is a literal, the value is copied. Those
 * of one name do not replace each other. SECURITY: what no field may hold (CR, LF) is left out.
 */
void web_set_header(struct iris_web_request *request, const char *name, struct iris_str value);
/* A whole answer; type NULL and an empty body: none. */
void web_answer(struct iris_web_request *request, unsigned status, const char *type,
		struct iris_str body);
/*
 * An answer of `length` bytes (-1: not known, chunked), to be written bit by bit. False: no body is
 * wanted (HEAD) or the peer is gone; return.
 */
IRIS_MUST_CHECK bool web_begin(struct iris_web_request *request, unsigned status, int64_t length);
/*
 * Waits while the peer is slow. False: it is gone or too slow; return. Writing less than was
 * announced cuts the connection, so that the peer knows.
 */
IRIS_MUST_CHECK bool web_write(struct iris_web_request *request, const void *bytes, size_t len);

/* --- for the module that serves them --- */

struct iris_module;

struct iris_web_match {
	const struct iris_web_route *route;
	const struct iris_module *module;
	struct iris_str rest; /* of the path, below the route's */
	unsigned methods;     /* what is offered at this path, by whomever */
};

/*
 * The route for a decoded path, method 0: any of its routes; false: nobody's. With route NULL: not
 * for this method. The pointers are good for this turn.
 */
IRIS_MUST_CHECK bool web_route_find(struct iris_str path, enum iris_web_method method,
				    struct iris_web_match *match_r);
/* Calls the handler, so that its module is not unloaded under a fiber that waits in it. */
void web_route_run(const struct iris_web_match *match, struct iris_web_request *request);

#pragma GCC visibility pop
#endif
