/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0297: a stanza inside another; for plug-ins that name "xep0297" in their needs. */
#ifndef IRIS_XEP0297_FORWARDING_H
#define IRIS_XEP0297_FORWARDING_H

#include "iris/module.h"

/*
 * <forwarded/> as a child of parent, with a copy of the stanza. delay_ms: when it was sent, or 0.
 * Returns the copy, to be added to.
 */
struct iris_element *forwarded_add(struct iris_element *parent, const struct iris_element *stanza,
				   int64_t delay_ms);

#endif
