/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators' endpoint: /metrics for Prometheus, /healthz (the process turns), /readyz (it
 * serves).  Plain HTTP on a loopback address, read-only; in the main worker's loop.
 */
#ifndef IRIS_ADMIN_HTTP_H
#define IRIS_ADMIN_HTTP_H

#include "iris/base.h"

/* All on the main thread.  Port 0 takes a free one. */
IRIS_MUST_CHECK bool admin_http_start(const char *address, unsigned port, struct iris_error *error);
void admin_http_stop(void); /* also when not started */
unsigned admin_http_port(void); /* 0 when not started */

/* Says whether clients are served; false with a sentence for people in `why`. Without one: no. */
void admin_http_set_ready_check(bool (*fn)(char *why, size_t size));

#endif
