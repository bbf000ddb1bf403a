/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0203: when a stanza was first sent; for plug-ins that name "xep0203" in their needs. */
#ifndef IRIS_XEP0203_DELAY_H
#define IRIS_XEP0203_DELAY_H

#include "iris/module.h"

#define NS_DELAY "urn:xmpp:delay"

/* <delay/> as a child of parent; from none: who delayed it is not told. */
void delay_add(struct iris_element *parent, struct iris_str from, int64_t unix_ms);

#endif
