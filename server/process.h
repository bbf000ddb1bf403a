/* SPDX-License-Identifier: Apache-2.0 */
/* What the process may do, and what it says to whoever started it. Main thread. */
#ifndef IRIS_PROCESS_H
#define IRIS_PROCESS_H

#include "iris/base.h"

/* Raises the limit of descriptors, forbids core dumps with secrets, new privileges, SIGPIPE. */
IRIS_MUST_CHECK bool process_prepare(struct iris_error *error);
/*
 * Becomes the configured user, for good. Nothing happens when we are not root, or when there is
 * none.
 */
IRIS_MUST_CHECK bool process_drop_privileges(struct iris_error *error);
/* READY=1, RELOADING=1, STOPPING=1 to systemd, when it is there. */
void process_notify(const char *state);

#endif
