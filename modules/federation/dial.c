/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a domain to a link that is up: where its servers are (overrides, XEP-0368, RFC 6120 §3.2),
 * what the DNS says of their certificates (RFC 7673), one attempt after the other.  On the fiber
 * that dials: at the home of the remote, or, to verify a key, anywhere.
 */
#include <arpa/inet.h>

#include "modules/federation/federation_private.h"

#define PORT_DEFAULT 5269
#define ATTEMPTS_MAX 8u /* addresses that are tried for one dial */

/* Where a server of the domain listens. */
struct target {
	struct iris_str host; /* a name or an address */
	uint16_t port;
	bool direct_tls;
	bool secure; /* a signed record has named it, or signed ones say that there is none */
};

struct targets {
	struct target *items;
	size_t count;
};

struct dial {
	const struct dial_purpose *purpose;
	struct iris_arena *arena;
	struct targets targets;
	struct iris_dns_tlsas tlsas; /* of the target that is tried */
	unsigned attempts;
	enum dial_outcome outcome;
	const char *why;
};

/* --- targets --- */

static bool
parse_address(struct iris_str text, struct iris_dns_address *address_r)
{
	char buf[INET6_ADDRSTRLEN];

	if (!str_copy_to(buf, sizeof(buf), text))
		return false;
	address_r->is_ipv6 = inet_pton(AF_INET6, buf, address_r->bytes) == 1;
	return address_r->is_ipv6 || inet_pton(AF_INET, buf, address_r->bytes) == 1;
}

/* What the operator says goes before what the DNS says. */
static bool
find_overrides(struct dial *dial, struct iris_str domain)
{
	const struct iris_settings *settings = atomic_load(&federation_self.settings);
	size_t count = settings_count(settings, OPT_TARGETS);
	struct targets *targets = &dial->targets;

	targets->items = arena_alloc(dial->arena, count * sizeof(*targets->items));
	for (size_t i = 0; i < count; i++) {
		const struct iris_settings *record = settings_record(settings, OPT_TARGETS, i);

		if (!str_equal(settings_str(record, TARGET_DOMAIN), domain))
			continue;
		targets->items[targets->count++] = (struct target){
			.host = arena_copy_str(dial->arena, settings_str(record, TARGET_HOST)),
			.port = (uint16_t)settings_int(record, TARGET_PORT),
			.direct_tls = settings_int(record, TARGET_TLS) == 1,
		};
	}
	return targets->count > 0;
}

/* P2: of a region; the certificate will tell whether it is. */
static bool
find_endpoints(struct dial *dial, struct iris_str domain)
{
	struct targets *targets = &dial->targets;
	struct iris_gate_endpoint *endpoints;

	targets->count = region_endpoints(dial->arena, domain, &endpoints);
	targets->items = arena_alloc(dial->arena, targets->count * sizeof(*targets->items));
	for (size_t i = 0; i < targets->count; i++)
		targets->items[i] = (struct target){ endpoints[i].host, endpoints[i].port, true };
	return targets->count > 0;
}

/*
 * SECURITY: clients choose domains. A number or a name of this machine or network is no domain of
 * another server; asking for it would let them look around behind the firewall.
 */
static bool
is_public_name(struct iris_str domain)
{
	struct iris_dns_address address;
	const char *dot = domain.len ? memrchr(domain.base, '.', domain.len) : NULL;

	return dot && domain.base[0] != '[' && !parse_address(domain, &address) &&
	       !(dot[1] >= '0' && dot[1] <= '9');
}

static void
take_services(struct dial *dial, const struct iris_dns_services *services)
{
	struct targets *targets = &dial->targets;

	targets->items = arena_alloc(dial->arena, services->count * sizeof(*targets->items));
	for (size_t i = 0; i < services->count; i++)
		targets->items[targets->count++] = (struct target){
			.host = services->items[i].target,
			.port = services->items[i].port,
			.direct_tls = services->items[i].question == 0,
			.secure = services->items[i].secure,
		};
}

/* XEP-0368: both services are one set; RFC 6120 §3.2.2: without any, the domain itself. */
static void
ask_for_services(struct dial *dial, struct iris_str domain)
{
	const struct iris_str names[] = {
		arena_printf(dial->arena, "_xmpps-server._tcp.%.*s", IRIS_STR_FMT(domain)),
		arena_printf(dial->arena, "_xmpp-server._tcp.%.*s", IRIS_STR_FMT(domain)),
	};
	struct iris_dns_services services;

	switch (resolver_find_services(dial->arena, names, 2, &services)) {
	case IRIS_DNS_FOUND:
		take_services(dial, &services);
		return;
	case IRIS_DNS_FAILED:
		dial->why = "no answer from the DNS";
		return;
	case IRIS_DNS_NOTHING:
		break;
	}
	if (services.refused) {
		dial->outcome = DIAL_NOWHERE;
		dial->why = "the domain has no server";
		return;
	}
	dial->targets.items = ARENA_NEW(dial->arena, struct target);
	dial->targets.items[0] = (struct target){ .host = domain,
						  .port = PORT_DEFAULT,
						  .secure = services.secure };
	dial->targets.count = 1;
}

static void
find_targets(struct dial *dial)
{
	struct iris_str domain = dial->purpose->theirs;

	dial->outcome = DIAL_LATER;
	if (find_overrides(dial, domain) || find_endpoints(dial, domain))
		return;
	if (is_public_name(domain)) {
		ask_for_services(dial, domain);
	} else {
		dial->outcome = DIAL_NOWHERE;
		dial->why = "not a public domain";
	}
}

static enum iris_dns_outcome
find_addresses(struct iris_arena *arena, struct iris_str host, struct iris_dns_addresses *found_r)
{
	struct iris_dns_address *address = ARENA_NEW(arena, struct iris_dns_address);

	if (!parse_address(host, address))
		return resolver_find_addresses(arena, host, found_r);
	*found_r = (struct iris_dns_addresses){ .items = address, .count = 1 };
	return IRIS_DNS_FOUND;
}

/*
 * RFC 7673 §3: only where every step that led here is signed. False: nobody knows what there is.
 *
 * SECURITY: who can make this question fail must not make us do without the answer.
 */
static bool
find_tlsas(struct dial *dial, const struct target *target, bool is_address_secure)
{
	struct iris_dns_tlsas *tlsas = &dial->tlsas;

	*tlsas = (struct iris_dns_tlsas){ .count = 0 };
	/* A region's authority decides, and nobody else. */
	if (!target->secure || !is_address_secure || !option_bool(&federation_self, OPT_DANE) ||
	    !str_is_none(gate_place(dial->purpose->theirs).region))
		return true;
	if (resolver_find_tlsa(dial->arena, target->host, target->port, tlsas) == IRIS_DNS_FAILED)
		return false;
	if (!tlsas->secure)
		tlsas->count = 0;
	if (tlsas->count > 0)
		LOG(IRIS_LOG_INFO, "federation", "dane", LOG_STR("domain", dial->purpose->theirs),
		    LOG_STR("target", target->host), LOG_INT("records", (int64_t)tlsas->count));
	return true;
}

/* --- attempts --- */

static void
attempt_on_timer(void *arg)
{
	link_give_up(arg);
}

static struct iris_stream *
connect_to(const struct dial *dial, const struct target *target,
	   const struct iris_dns_address *address, const char **why_r)
{
	struct iris_host *host = federation_host(dial->purpose->ours);

	return stream_dial(
		&(struct iris_dial){
			.role = &federation_role,
			.host = host ? host : host_default(),
			.from = dial->purpose->ours,
			.to = dial->purpose->theirs,
			.address = *address,
			.port = target->port,
			.direct_tls = target->direct_tls,
			.target = target->host,
			.tlsas = dial->tlsas,
			.timeout_ms = (unsigned)option_int(&federation_self, OPT_CONNECT_TIMEOUT) },
		why_r);
}

/* One connection, until the link is up or gone. */
static void
attempt(struct dial *dial, const struct target *target, const struct iris_dns_address *address)
{
	struct attempt attempt = { .purpose = dial->purpose, .outcome = DIAL_LATER };
	struct iris_timer timer = { .event = NULL };
	struct iris_stream *stream = connect_to(dial, target, address, &attempt.why);
	struct link *link;

	dial->attempts++;
	if (stream) {
		wait_init(&attempt.wait);
		link = link_begin(stream, &attempt);
		timer_start(&timer, option_int(&federation_self, OPT_DIAL_TIMEOUT),
			    attempt_on_timer, link);
		wait_for(&attempt.wait, "another server");
		timer_stop(&timer);
	}
	/* What was refused by one of several is not made better by another that is down. */
	if (attempt.outcome != DIAL_LATER || dial->outcome != DIAL_REFUSED) {
		dial->outcome = attempt.outcome;
		dial->why = attempt.why;
	}
}

static void
try_target(struct dial *dial, const struct target *target)
{
	struct iris_dns_addresses addresses;
	enum iris_dns_outcome outcome = find_addresses(dial->arena, target->host, &addresses);

	if (outcome != IRIS_DNS_FOUND) {
		dial->why = outcome == IRIS_DNS_NOTHING ? "its server has no address" :
							  "no answer from the DNS";
		if (outcome == IRIS_DNS_NOTHING && dial->attempts == 0 && dial->targets.count == 1)
			dial->outcome = DIAL_NOWHERE;
		return;
	}
	if (!find_tlsas(dial, target, addresses.secure)) {
		dial->why = "no answer from the DNS about its certificates";
		return;
	}
	for (size_t i = 0; i < addresses.count && dial->outcome != DIAL_UP &&
			   dial->attempts < ATTEMPTS_MAX && !worker_is_stopping();
	     i++)
		attempt(dial, target, &addresses.items[i]);
}

enum dial_outcome
dial(const struct dial_purpose *purpose, const char **why_r)
{
	struct dial dial = { .purpose = purpose, .arena = arena_new() };

	find_targets(&dial);
	for (size_t i = 0; i < dial.targets.count && dial.outcome != DIAL_UP &&
			   dial.attempts < ATTEMPTS_MAX && !worker_is_stopping();
	     i++)
		try_target(&dial, &dial.targets.items[i]);
	*why_r = dial.why;
	arena_unref(&dial.arena);
	return dial.outcome;
}
