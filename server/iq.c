/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests (RFC 6120 §8.2.3, RFC 6121 §8.5): who handles one, whether the asker may, and the one
 * place from which it is answered.  Runs at the home of what is asked, handlers on a fiber.
 */
#include <stdlib.h>

#include "im_private.h"
#include "iris/service.h"
#include "module_private.h"

struct iq_job { /* a request on its way to a fiber */
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
	struct iris_user *user; /* held, or NULL */
	struct iris_host *host;
	struct iris_service *service; /* or NULL */
	struct iris_place *place;     /* of it, held, or NULL */
};

static struct iris_metric iq_metrics[] = {
	{ .name = "iris_iq_requests_total",
	  .labels = "of=\"account\"",
	  .kind = IRIS_COUNTER,
	  .help = "Requests that were answered" },
	{ .name = "iris_iq_requests_total",
	  .labels = "of=\"host\"",
	  .kind = IRIS_COUNTER,
	  .help = "Requests that were answered" },
	{ .name = "iris_iq_requests_total",
	  .labels = "of=\"service\"",
	  .kind = IRIS_COUNTER,
	  .help = "Requests that were answered" },
	{ .name = "iris_iq_requests_total",
	  .labels = "of=\"place\"",
	  .kind = IRIS_COUNTER,
	  .help = "Requests that were answered" },
	{ .name = "iris_iq_refusals_total",
	  .kind = IRIS_COUNTER,
	  .help = "Requests that were answered with an error" },
	{ .name = NULL },
};
enum { METRIC_ACCOUNT, METRIC_HOST, METRIC_SERVICE, METRIC_PLACE, METRIC_REFUSALS };

static bool
iq_asks(const struct iris_stanza *iq)
{
	return iq->type == IRIS_GET || iq->type == IRIS_SET;
}

bool
iq_is_legal(const struct iris_stanza *iq)
{
	struct iris_element *child = element_child(iq->root, NULL, NULL);

	if (str_is_empty(iq->id) || iq->type == IRIS_TYPE_UNKNOWN)
		return false;
	if (iq_asks(iq))
		return child && !element_next(child, NULL, NULL);
	return iq->type == IRIS_ERROR || !child || !element_next(child, NULL, NULL);
}

/* SECURITY: who may not ask gets what an address that does not exist would give (P5.7). */
static bool
may_ask(const struct iris_request *request, enum iris_iq_access access)
{
	if (access == IRIS_ANYONE || request->is_self)
		return true;
	if (!request->user) /* of a host: a client of ours, on its own stream */
		return request->session != NULL;
	return access == IRIS_NETWORK &&
	       contact_sees_us(roster_find(request->user, jid_bare(&request->stanza->from)));
}

/* What this kind of service answers itself: a short table. */
static const struct iris_iq *
iq_of_kind(const struct iris_service_kind *kind, const struct iris_request *request,
	   enum iris_target target)
{
	for (const struct iris_iq *iq = kind->iq; iq && iq->name; iq++)
		if ((iq->targets & target) && iq->type == request->stanza->type &&
		    element_is(request->payload, iq->name, iq->ns))
			return iq;
	return NULL;
}

static enum iris_verdict
iq_handle(struct iris_request *request, enum iris_target target)
{
	const struct iris_module *module = NULL;
	const struct iris_iq *iq = NULL;

	if (request->service) {
		module = request->service->kind->module;
		iq = iq_of_kind(request->service->kind, request, target);
	}
	if (!iq)
		iq = iq_find(target, request->stanza->type, request->payload->name,
			     request->payload->ns, &module);
	if (!iq || !may_ask(request, iq->access)) {
		request->refusal.condition = IRIS_SERVICE_UNAVAILABLE;
		return IRIS_REFUSE;
	}
	return iq_run(iq, module, request);
}

static struct iris_stanza *
iq_result(const struct iris_request *request)
{
	struct iris_stanza *result = stanza_result(request->stanza);

	if (request->reply)
		element_append(result->root, element_copy(result->arena, request->reply));
	return result;
}

static unsigned
iq_metric(enum iris_target target)
{
	switch (target) {
	case IRIS_TO_HOST:
		return METRIC_HOST;
	case IRIS_TO_ACCOUNT:
		return METRIC_ACCOUNT;
	case IRIS_TO_SERVICE:
		return METRIC_SERVICE;
	case IRIS_TO_PLACE:
		return METRIC_PLACE;
	}
	return METRIC_HOST;
}

void
iq_answer(struct iris_request *request, enum iris_target target)
{
	enum iris_verdict verdict = iq_handle(request, target);
	struct iris_stanza *answer;

	IRIS_ASSERT(verdict == IRIS_DONE || verdict == IRIS_REFUSE);
	metric_add(&iq_metrics[iq_metric(target)], 1);
	if (verdict == IRIS_DONE) {
		answer = iq_result(request);
	} else {
		metric_add(&iq_metrics[METRIC_REFUSALS], 1);
		answer = stanza_error(request->stanza, &request->refusal);
	}
	if (request->session)
		session_send(request->session, &answer);
	else
		route_stanza(&answer, NULL);
}

/* --- requests that were routed here --- */

static void
job_free(struct iq_job *job)
{
	stanza_unref(&job->stanza);
	ticket_unref(&job->ticket);
	user_release(&job->user);
	if (job->place)
		place_release(job->place);
	free(job);
}

static enum iris_target
job_target(const struct iq_job *job)
{
	if (job->service)
		return job->place ? IRIS_TO_PLACE : IRIS_TO_SERVICE;
	return job->user ? IRIS_TO_ACCOUNT : IRIS_TO_HOST;
}

static void
job_fiber(void *arg)
{
	struct iq_job *job = arg;
	struct iris_request request = {
		.arena = arena_new(),
		.stanza = job->stanza,
		.ticket = job->ticket,
		.user = job->user,
		.host = job->host,
		.service = job->service,
		.place = job->place,
		.payload = element_child(job->stanza->root, NULL, NULL),
		.is_self = job->user && jid_bare_equal(&job->stanza->from, &job->user->jid),
	};

	iq_answer(&request, job_target(job));
	arena_unref(&request.arena);
	job_free(job);
}

/* asked: who is asked; what the rest needs is added */
static void
job_start(const struct iq_job *asked, const struct iris_delivery *delivery,
	  struct iris_ticket *ticket)
{
	struct iq_job *job;

	if (!iq_is_legal(delivery->stanza)) {
		/* SECURITY: for an account, what an address that does not exist gives (P5.7). */
		route_error(delivery, asked->user ? IRIS_SERVICE_UNAVAILABLE : IRIS_BAD_REQUEST);
		return;
	}
	job = iris_malloc(sizeof(*job));
	*job = *asked;
	job->stanza = stanza_ref(delivery->stanza);
	job->ticket = ticket_ref(ticket);
	if (job->user)
		user_hold(job->user);
	if (job->place)
		place_hold(job->place);
	if (fiber_start_spare("iq: answer", job_fiber, job))
		return;
	route_error(delivery, IRIS_RESOURCE_CONSTRAINT);
	job_free(job);
}

static const struct iris_jid *
delivery_to(const struct iris_delivery *delivery)
{
	return jid_is_none(&delivery->to) ? &delivery->stanza->to : &delivery->to;
}

void
iq_receive(struct iris_user *user, const struct iris_delivery *delivery,
	   struct iris_session *session, struct iris_ticket *ticket)
{
	bool bare = jid_is_bare(delivery_to(delivery));

	if (session)
		session_deliver(session, delivery);
	else if (!bare)
		/* §8.5.3.2.3; nothing for results and errors */
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
	else if (iq_asks(delivery->stanza))
		job_start(&(struct iq_job){ .user = user,
					    .host = host_find(jid_domain(&user->jid)) },
			  delivery, ticket);
	else
		route_take_reply(delivery->stanza);
}

void
iq_receive_host(struct iris_host *host, const struct iris_delivery *delivery,
		struct iris_ticket *ticket)
{
	if (!iq_asks(delivery->stanza))
		route_take_reply(delivery->stanza);
	else if (jid_is_bare(delivery_to(delivery)))
		job_start(&(struct iq_job){ .host = host }, delivery, ticket);
	else
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE); /* nobody is there */
}

void
service_answer(struct iris_service *service, struct iris_place *place,
	       const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	const struct iq_job asked = { .host = service->host, .service = service, .place = place };

	if (!iq_asks(delivery->stanza))
		route_take_reply(delivery->stanza);
	else if (jid_is_bare(delivery_to(delivery)))
		job_start(&asked, delivery, ticket);
	else
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE); /* nobody is there */
}

static struct iris_module_self iq_self;

const struct iris_module iris_module_iq = {
	IRIS_MODULE_HEAD,
	.name = "iq",
	.summary = "Requests and their answers (RFC 6120 §8.2.3)",
	.self = &iq_self,
	.metrics = iq_metrics,
	.not_unloadable = true,
};
