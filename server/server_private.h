/* SPDX-License-Identifier: Apache-2.0 */
/* The module `server`: what irisctl must know of it. */
#ifndef IRIS_SERVER_PRIVATE_H
#define IRIS_SERVER_PRIVATE_H

#include "iris/base.h"

/*
 * Where the operator's credential lies: "JID password", one line, for its owner only.
 * NUL-terminated.
 */
struct iris_str server_credential_path(void);

#endif
