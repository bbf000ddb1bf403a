/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0199: for plug-ins that ping, or answer pings in another's name. */
#ifndef IRIS_XEP0199_PING_H
#define IRIS_XEP0199_PING_H

#include "iris/module.h"

#define NS_PING "urn:xmpp:ping"

#endif
