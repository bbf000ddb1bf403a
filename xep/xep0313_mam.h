/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0313: the namespace, for the extension that once was its §7 (XEP-0441). */
#ifndef IRIS_XEP0313_MAM_H
#define IRIS_XEP0313_MAM_H

#define NS_MAM "urn:xmpp:mam:2"

#endif
