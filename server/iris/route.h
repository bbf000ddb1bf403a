/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routing: a stanza with from and to goes to the home of its address (RFC 6120 §10).
 */
#ifndef IRIS_ROUTE_H
#define IRIS_ROUTE_H

#include "iris/user.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_host {
	struct iris_str name;   /* a domain this server serves, prepared */
	bool is_component;      /* an external component (a session of its own) serves it */
};

struct iris_host *host_find(struct iris_str domain); /* of ours, or NULL; any worker */
/* Calls fn for every host of the configuration. */
void host_each(void (*fn)(struct iris_host *host, void *arg), void *arg);
struct iris_host *host_default(void); /* the first one configured */

/*
 * Sends it on its way; takes the reference, freezes. from and to must be set. Any worker; never
 * waits. A failure comes back to `from` as an error stanza. The ticket may be NULL.
 */
void route_stanza(struct iris_stanza **stanza_p, struct iris_ticket *ticket);
/*
 * One stanza to many addresses: one mail per worker (fan-out of presence). The stanza's own `to`
 * is not used.
 */
void route_many(struct iris_stanza **stanza_p, const struct iris_jid *to, size_t count,
		struct iris_ticket *ticket);

/*
 * Asks somebody with an iq (roster push answers, disco of a client); the reply comes to fn on this
 * worker, or NULL after timeout_ms. `request` needs from (a host or bare JID of ours that lives
 * on this worker, or a host), to and type; id is set here. Takes the reference.
 */
void route_iq(struct iris_stanza **request_p, unsigned timeout_ms,
	      void (*fn)(const struct iris_stanza *reply, void *arg), void *arg);

/*
 * Who receives what is addressed to a whole domain that is not a host of ours (an external
 * component, a room service): `deliver` runs at home_of(domain), never waits.
 * False: the domain is taken.
 */
struct iris_domain_route {
	struct iris_hash_node node;
	char *domain; /* owned by the registrar, constant while registered */
	void (*deliver)(struct iris_domain_route *route, struct iris_stanza *stanza,
			struct iris_ticket *ticket);
	void *arg;
	struct iris_hash_node public_node; /* of all workers together; the router's */
	int home; /* set by domain_route_add: the worker it was added on */
};
/*
 * Who brings stanzas to domains that nobody here serves (modules/federation): `deliver` runs at
 * home_of(domain), never waits. NULL: nobody, they are not found. Main thread.
 */
void route_set_remote(void (*deliver)(const struct iris_delivery *delivery,
				      struct iris_ticket *ticket));
/* must be the domain's home worker; one that is never removed must outlive the workers */
IRIS_MUST_CHECK bool domain_route_add(struct iris_domain_route *route);
void domain_route_remove(struct iris_domain_route *route);
/* Does somebody serve this domain now? Any worker. */
bool domain_route_is_there(struct iris_str domain);

#pragma GCC visibility pop
#endif
