/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services: domains beside a host's own that a plug-in serves (rooms, publish-subscribe).  What is
 * addressed to the domain itself is handled where it arrives, as for a host; an address with a
 * localpart is a place (iris/place.h), at home_of(its bare JID).
 *
 * Requests (iq get and set) are found in tables: of the kind of service first, then those that
 * modules offer to every service (IRIS_TO_SERVICE) or place (IRIS_TO_PLACE) in their descriptors.
 * request->service is set, and request->place (held) for a place; access is IRIS_ANYONE.
 */
#ifndef IRIS_SERVICE_H
#define IRIS_SERVICE_H

#include "iris/module.h"
#include "iris/place.h"
#include "iris/route.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_service_kind {
	const struct iris_module *module;
	/* by bare JID; NULL: no address of the domain has a localpart. Their kind's receive()
	   gets everything, and calls service_answer() for requests that it does not take itself. */
	struct iris_places *places;
	const struct iris_iq *iq;  /* ends with a NULL name; NULL: none */
	/* Messages and presence to the domain itself, no wait; NULL: as to a host. */
	void (*receive)(struct iris_service *service, const struct iris_delivery *delivery,
			struct iris_ticket *ticket);
};

/* Constant, and never freed while the process serves. */
struct iris_service {
	struct iris_hash_node node;    /* by domain */
	const struct iris_service_kind *kind;
	struct iris_host *host;        /* whose it is */
	struct iris_jid jid;           /* its domain */
	void *arg;                     /* the plug-in's */
};

/*
 * Serves "label.HOST" from now on; a second time for the same kind gives the same one. Main thread
 * (.start, .reload). NULL: the domain is somebody else's, or none.
 */
struct iris_service *service_open(const struct iris_service_kind *kind, struct iris_host *host,
				  struct iris_str label, void *arg, struct iris_error *error);
/*
 * The same for every host but components'. False: for one of them it was not possible (error says
 * why), the others have theirs. Main thread.
 */
bool service_open_all(const struct iris_service_kind *kind, struct iris_str label, void *arg,
		      struct iris_error *error);
/* For .check of an option with a label: does it begin a domain? */
IRIS_MUST_CHECK bool service_check_label(struct iris_str label, struct iris_error *error);
/* Any worker. NULL: there is none, or its host is served no more. */
struct iris_service *service_find(struct iris_str domain);
/* Calls fn for every service of the host (NULL: of all hosts). Any worker. */
void service_each(const struct iris_host *host, void (*fn)(struct iris_service *service, void *arg),
		  void *arg);

/*
 * An iq that came for the service itself (place NULL) or a place of it: a request is answered on a
 * fiber, from the tables; an answer goes to the route_iq() that waits for it. Never waits.
 */
void service_answer(struct iris_service *service, struct iris_place *place,
		    const struct iris_delivery *delivery, struct iris_ticket *ticket);

#pragma GCC visibility pop
#endif
