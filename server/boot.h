/* SPDX-License-Identifier: Apache-2.0 */
/* Start and stop of irisd, as a table of stages. Main thread. */
#ifndef IRIS_BOOT_H
#define IRIS_BOOT_H

#include "config_private.h"

/* Reads and checks the configuration, chooses the modules. False: the report says why. */
IRIS_MUST_CHECK bool boot_configure(const char *path, struct iris_report *report);
/* All stages, in order; when one fails those before it are undone. False: the error says why. */
IRIS_MUST_CHECK bool boot_start(struct iris_error *error);
/* Serves until SIGTERM or boot_quit(); then everything backwards. */
void boot_run(void);
void boot_stop(void);
/* Any thread: leave boot_run(). */
void boot_quit(void);
/* Reads the configuration, the certificates and the log file anew. False: all stays as it was. */
IRIS_MUST_CHECK bool boot_reload(struct iris_report *report);
/* Milliseconds since the server is ready. Any thread. */
int64_t boot_uptime_ms(void);
/* The stages in order, one line each. */
void boot_print_stages(FILE *out);

#endif
