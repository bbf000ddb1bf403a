/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the DNS, through a resolver that validates (libunbound).  Any worker, on a fiber: the
 * caller waits for the answer, at most for the option `timeout` of the section `resolver`.  Nothing
 * of it exists (no thread, no socket) before somebody asks.
 *
 * Names are in ASCII, without a trailing dot, as domains of addresses are (iris/jid.h).
 */
#ifndef IRIS_RESOLVER_H
#define IRIS_RESOLVER_H

#include "iris/arena.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_dns_outcome {
	IRIS_DNS_FOUND,
	IRIS_DNS_NOTHING, /* the name, or this of it, does not exist: somebody said so */
	IRIS_DNS_FAILED,  /* nobody knows: no answer in time, a broken one, a forged one */
};

#define DNS_RECORDS_MAX 16u /* what is beyond is left out */
#define DNS_QUESTIONS_MAX 4u

/* A record of RFC 2782. */
struct iris_dns_service {
	unsigned question;   /* index of the name that it is an answer to */
	uint16_t priority, weight, port;
	bool secure;         /* this answer was validated (DNSSEC) */
	struct iris_str target;
};

struct iris_dns_services {
	struct iris_dns_service *items; /* in the order in which they are to be tried */
	size_t count;
	unsigned refused; /* 1 << question: "." is the target: decidedly not offered */
	bool secure;      /* all answers were validated, also that there is nothing */
};

struct iris_dns_address {
	bool is_ipv6;
	uint8_t bytes[16]; /* network order; IPv4: the first four */
};

struct iris_dns_addresses {
	struct iris_dns_address *items; /* IPv6 first */
	size_t count;
	bool secure;
};

/* RFC 6698. */
struct iris_dns_tlsa {
	uint8_t usage, selector, matching;
	struct iris_str data; /* bytes */
};

struct iris_dns_tlsas {
	struct iris_dns_tlsa *items;
	size_t count;
	bool secure; /* what is not must not be believed */
};

/*
 * The services of several names ("_xmpp-server._tcp.example.org"), asked at once and ordered as one
 * set (RFC 2782: by priority, then by dice with their weights). FOUND: count is above zero;
 * NOTHING: `refused` may be set.
 */
enum iris_dns_outcome resolver_find_services(struct iris_arena *arena, const struct iris_str *names,
					     unsigned count, struct iris_dns_services *found_r);
enum iris_dns_outcome resolver_find_addresses(struct iris_arena *arena, struct iris_str name,
					      struct iris_dns_addresses *found_r);
/* Of "_PORT._tcp.NAME". */
enum iris_dns_outcome resolver_find_tlsa(struct iris_arena *arena, struct iris_str name,
					 uint16_t port, struct iris_dns_tlsas *found_r);

#pragma GCC visibility pop
#endif
