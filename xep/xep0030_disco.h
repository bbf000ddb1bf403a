/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0030: what a host says of itself; for plug-ins that name "xep0030" in their needs. */
#ifndef IRIS_XEP0030_DISCO_H
#define IRIS_XEP0030_DISCO_H

#include "iris/module.h"

#define NS_INFO "http://jabber.org/protocol/disco#info"
#define NS_ITEMS "http://jabber.org/protocol/disco#items"

/* The <query/> of disco#info that anybody gets from this host. Any worker. */
struct iris_element *disco_host_info(struct iris_arena *arena, struct iris_host *host);

#endif
