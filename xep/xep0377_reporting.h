/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0377: reports that come with a block; for XEP-0191, which takes the block itself. */
#ifndef IRIS_XEP0377_REPORTING_H
#define IRIS_XEP0377_REPORTING_H

#include "iris/module.h"

/*
 * `item` of a <block/>, its address prepared and blocked by now: takes the report out of it, if
 * there is one, and keeps it.  Home worker of the account, on a fiber; waits for the vault.
 */
void report_take(struct iris_user *user, struct iris_element *item);

#endif
