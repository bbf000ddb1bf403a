/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others than the core may ask of the accounts module directly: for irisctl init.
 */
#ifndef MODULES_ACCOUNTS_H
#define MODULES_ACCOUNTS_H

#include "iris/base.h"

/*
 * Makes the operator's account irisctl@HOST, or gives it a new password; the password comes back
 * as text (size: at least 48). On a fiber, with the vault open; nobody needs to be listening.
 */
IRIS_MUST_CHECK bool accounts_init_operator(const char *host, char *password_r, size_t size,
					    struct iris_error *error);

#endif
