/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole server in the process of a fuzzer, and clients of it: all modules, a vault on SQLite in a
 * temporary folder, two workers; no ports, no TLS and no SASL: a stream is who its header says.
 * Oracles: whatever the server sends is well-formed, and it answers or closes in time.
 */
#ifndef TESTS_FUZZ_HARNESS_H
#define TESTS_FUZZ_HARNESS_H

#include "iris/base.h"

#define HARNESS_HOST "example.org"

struct harness_client;

/* Starts the server with accounts romeo and juliet, once; stopped when the process exits. */
void harness_start(void);
/* Runs fn(arg) on a fiber of the first worker, and waits for its end. */
void harness_do(void (*fn)(void *arg), void *arg);

/* A stream of this account, signed in and not bound. NULL: refused. */
struct harness_client *harness_open(const char *user);
/* The same, bound to the resource r0. */
struct harness_client *harness_open_bound(const char *user);
/*
 * A stream of another server, whose domain is proven, or still has to be. NULL: refused.
 */
struct harness_client *harness_open_server(const char *domain, bool proven);
void harness_send(struct harness_client *client, struct iris_str text);
void harness_printf(struct harness_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Reads until one of these (or NULL) has come since the last call. False: the stream has ended. */
bool harness_await(struct harness_client *client, const char *one, const char *other);
/* What came since the last harness_await() began; NUL-terminated. */
const char *harness_output(const struct harness_client *client);
/* orderly: the closing tag, then all that still comes; else cut. */
void harness_close(struct harness_client **client_p, bool orderly);

/* A connection to the web, in the clear. */
int harness_dial_web(void);
/* Says that nothing more will be sent, and reads all that still comes; how much that is. */
size_t harness_hang_up(int fd, char *buffer, size_t size);

/* Called with each element of a stream that the server sends, at depth 1. */
extern void (*harness_on_element)(const char *name, const char **attributes);

#endif
