/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0065: the connections of the proxy: SOCKS5 (RFC 1928) as far as the XEP uses it, and relaying
 * between two of them.  Who may activate is decided in xep0065_proxy.c.
 *
 * A connection is accepted by any worker, and goes on at the home of the address that it asks for,
 * where the other one comes, too.
 */
#ifndef IRIS_XEP0065_SOCKS_H
#define IRIS_XEP0065_SOCKS_H

#include "iris/carrier.h"
#include "iris/module.h"

#define SOCKS_ADDRESS_LEN 40 /* a SHA-1 in hexadecimal digits */

/* Options that the connections look at: the plug-in's first ones. */
enum {
	SOCKS_OPT_WAITING,
	SOCKS_OPT_IDLE,
	SOCKS_OPT_STREAMS_MAX,
	SOCKS_OPT_RATE,
	SOCKS_OPT_TRANSFER_MAX,
	SOCKS_OPT_COUNT,
};

enum { SOCKS_CONNECTED, SOCKS_REFUSED, SOCKS_ACTIVATED, SOCKS_BYTES, SOCKS_RELAYING };
extern struct iris_metric socks_metrics[];
extern struct iris_module_self proxy_self;

enum socks_activation {
	SOCKS_ACTIVE,
	SOCKS_UNKNOWN,  /* nobody asked for this address */
	SOCKS_ONE_ONLY, /* one of the two has not */
};

/* What the protocol of the listener is made of: see iris/carrier.h. */
void socks_take(struct iris_carrier *carrier);
bool socks_begins(const char *bytes, size_t len);
size_t socks_close(bool now);

/* At the home of the address: from now on bytes are relayed. */
enum socks_activation socks_activate(struct iris_str address);

#endif
