/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PROXY protocol, version 2: how a load balancer in front tells whose connection it is.  Any
 * thread; pure functions.
 */
#ifndef IRIS_PROXY_H
#define IRIS_PROXY_H

#include <sys/socket.h>

#include "iris/base.h"

#define PROXY_PREFIX 16 /* bytes that tell how long a header is */
#define PROXY_MAX 536 /* longest header taken: addresses and some TLVs */

enum proxy_result { PROXY_BAD, PROXY_MORE, PROXY_OK };

struct proxy_header {
	size_t need; /* PROXY_MORE: bytes the header has at least */
	bool is_local; /* the balancer's own connection (a health check): no address */
	struct sockaddr_storage peer;
};

/* Looks at the first bytes of a connection. PROXY_OK only when len is the header's length exactly.
 */
enum proxy_result proxy_parse(const uint8_t *data, size_t len, struct proxy_header *header_r);

/* A network, for deciding whose headers are believed. */
struct proxy_network {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t bits;
	uint8_t address[16];
};

/* "192.0.2.0/24", "2001:db8::/32", or an address alone. */
IRIS_MUST_CHECK bool proxy_network_parse(struct iris_str text, struct proxy_network *network_r);
bool proxy_network_has(const struct proxy_network *network, const struct sockaddr *address);

#endif
