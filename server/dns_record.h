/* SPDX-License-Identifier: Apache-2.0 */
/* Data of DNS records, as others have written it.  Pure, any thread. */
#ifndef IRIS_DNS_RECORD_H
#define IRIS_DNS_RECORD_H

#include "iris/resolver.h"

/*
 * One record's data of type SRV. False: malformed, or its target is no name of a host. The target
 * "." gives an empty one.
 */
IRIS_MUST_CHECK bool dns_parse_service(struct iris_arena *arena, struct iris_str data,
				       struct iris_dns_service *service_r);
IRIS_MUST_CHECK bool dns_parse_tlsa(struct iris_arena *arena, struct iris_str data,
				    struct iris_dns_tlsa *tlsa_r);
/* RFC 2782: rising priority; among equals `dice(sum)` chooses from 0 … sum. */
void dns_order_services(struct iris_dns_service *services, size_t count,
			unsigned (*dice)(unsigned sum));

#endif
