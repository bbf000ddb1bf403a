/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many connections that have not proven anything yet are let in, in all and from one address.
 * Any thread.
 */
#ifndef IRIS_ADMISSION_H
#define IRIS_ADMISSION_H

#include <sys/socket.h>

#include "iris/base.h"

struct admission; /* one address, while anybody is in from it */

/* Limits; 0: none may come in. */
void admission_set_limits(unsigned total, unsigned per_address);

/* NULL: too many. An IPv6 network of 64 bits counts as one address. */
IRIS_MUST_CHECK struct admission *admission_enter(const struct sockaddr *address);
/* Authenticated, or gone; nulls, accepts NULL. */
void admission_leave(struct admission **admission_p);
unsigned admission_count(void);

#endif
