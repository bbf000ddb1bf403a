/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0198: its namespace, for what speaks it to clients (xep0198_sm.c) and to other servers. */
#ifndef IRIS_XEP0198_SM_H
#define IRIS_XEP0198_SM_H

#define NS_SM "urn:xmpp:sm:3"

#endif
