/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0363 1.2: the service as an address of its own, upload.HOST for each host.  Requests come to
 * the home of that domain; slots are given at the home of the account that asks, where its quota is
 * counted.
 *
 * COMPAT(go-sendxmpp): of an entity it reads the first identity only; a host's is server/im.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/auth.h"
#include "xep/xep0030_disco.h"
#include "xep/xep0363_upload.h"

/* One for each host there ever was, as long as the process lasts. */
struct upload_service {
	struct iris_domain_route route;
	struct iris_mail mail; /* to the home of the domain, once */
	struct iris_host *host;
	char domain[JID_PART_MAX + 1];
	struct upload_service *next;
};

struct upload_job { /* to the home of an account */
	struct iris_mail mail;
	struct iris_stanza *iq;
	struct iris_host *host;
};

/* The main thread puts new ones in front; any worker reads. */
static struct upload_service *_Atomic upload_services;

static void
service_refuse(const struct iris_stanza *stanza, enum iris_condition condition)
{
	struct iris_stanza *error =
		stanza_error(stanza, &(struct iris_refusal){ .condition = condition });

	if (error)
		route_stanza(&error, NULL);
}

/* --- discovery --- */

static void
service_answer_info(const struct iris_stanza *iq)
{
	static const char *const features[] = { NS_INFO, NS_ITEMS, NS_UPLOAD };
	struct iris_stanza *result = stanza_result(iq);
	struct iris_element *query = element_add(result->root, "query", NS_INFO);

	upload_describe(query);
	for (size_t i = 0; i < IRIS_COUNT(features); i++)
		element_set(element_add(query, "feature", NULL), "var", str_from(features[i]));
	route_stanza(&result, NULL);
}

static void
service_answer_items(const struct iris_stanza *iq)
{
	struct iris_stanza *result = stanza_result(iq);

	element_add(result->root, "query", NS_ITEMS);
	route_stanza(&result, NULL);
}

/* --- slots --- */

static enum iris_verdict
job_run(struct iris_request *request)
{
	struct iris_account account;

	if (!accounts()->find(&request->stanza->from, &account)) {
		request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
		return IRIS_REFUSE;
	}
	if (account.id == 0) {
		request->refusal.condition = IRIS_FORBIDDEN;
		return IRIS_REFUSE;
	}
	return upload_answer(request, &account);
}

static void
job_fiber(void *arg)
{
	struct upload_job *job = arg;
	struct iris_request request = {
		.arena = arena_new(),
		.stanza = job->iq,
		.host = job->host,
		.payload = element_child(job->iq->root, NULL, NULL),
	};
	struct iris_stanza *answer;

	if (job_run(&request) == IRIS_DONE) {
		answer = stanza_result(job->iq);
		element_append(answer->root, element_copy(answer->arena, request.reply));
	} else {
		answer = stanza_error(job->iq, &request.refusal);
	}
	route_stanza(&answer, NULL);
	arena_unref(&request.arena);
	stanza_unref(&job->iq);
	free(job);
}

static void
job_arrives(struct iris_mail *mail)
{
	struct upload_job *job = IRIS_CONTAINER(mail, struct upload_job, mail);

	if (fiber_start_spare("xep0363: slot", job_fiber, job))
		return;
	service_refuse(job->iq, IRIS_RESOURCE_CONSTRAINT);
	stanza_unref(&job->iq);
	free(job);
}

/* SECURITY: `from` of an account of ours is proven; nobody else has a quota here. */
static void
service_take_request(struct iris_stanza *iq)
{
	struct iris_host *host = host_find(jid_domain(&iq->from));
	struct upload_job *job;

	if (!host || host->is_component || iq->from.node_len == 0) {
		service_refuse(iq, IRIS_FORBIDDEN);
		return;
	}
	job = iris_calloc(1, sizeof(*job));
	job->mail.fn = job_arrives;
	job->iq = stanza_ref(iq);
	job->host = host;
	worker_post(home_of(jid_bare(&iq->from)), &job->mail);
}

static void
service_deliver(struct iris_domain_route *route, struct iris_stanza *stanza,
		struct iris_ticket *ticket)
{
	struct iris_element *payload = element_child(stanza->root, NULL, NULL);

	if (stanza->kind == IRIS_PRESENCE)
		return;
	if (stanza->kind != IRIS_IQ || stanza->type != IRIS_GET || !payload ||
	    stanza->to.node_len > 0 || !jid_is_bare(&stanza->to))
		service_refuse(stanza, IRIS_SERVICE_UNAVAILABLE);
	else if (element_is(payload, "request", NS_UPLOAD))
		service_take_request(stanza);
	else if (!str_is_empty(element_get(payload, "node")))
		service_refuse(stanza, IRIS_ITEM_NOT_FOUND);
	else if (element_is(payload, "query", NS_INFO))
		service_answer_info(stanza);
	else if (element_is(payload, "query", NS_ITEMS))
		service_answer_items(stanza);
	else
		service_refuse(stanza, IRIS_SERVICE_UNAVAILABLE);
}

/* --- the domains --- */

struct iris_str
upload_service_domain(const struct iris_host *host)
{
	struct upload_service *service = atomic_load(&upload_services);

	for (; service; service = service->next)
		if (service->host == host)
			return str_from(service->domain);
	return IRIS_STR_NONE;
}

static void
service_begin(struct iris_mail *mail)
{
	struct upload_service *service = IRIS_CONTAINER(mail, struct upload_service, mail);
	struct iris_error error;

	if (domain_route_add(&service->route))
		return;
	error_set(&error, "the domain %s of file sharing is somebody else's", service->domain);
	error_hint(&error, "give it another one: xep0363: {label: …}");
	log_error(IRIS_LOG_ERROR, "xep0363", "domain-taken", &error);
}

/* A host whose name is too long to have one is still the service itself. */
static void
service_make(struct iris_host *host, void *arg)
{
	struct iris_arena *arena = arg;
	struct iris_str label = option_str(&upload_self, UPLOAD_OPT_LABEL);
	struct upload_service *service = iris_calloc(1, sizeof(*service));
	struct iris_jid jid;

	if (host->is_component || upload_service_domain(host).base ||
	    !jid_parse(arena,
		       arena_printf(arena, "%.*s.%.*s", IRIS_STR_FMT(label),
				    IRIS_STR_FMT(host->name)),
		       &jid) ||
	    jid.node_len > 0 || !jid_is_bare(&jid) ||
	    !str_copy_to(service->domain, sizeof(service->domain), jid_domain(&jid))) {
		free(service);
		return;
	}
	service->host = host;
	service->route.domain = service->domain;
	service->route.deliver = service_deliver;
	service->next = atomic_load(&upload_services);
	atomic_store(&upload_services, service);
	service->mail.fn = service_begin;
	worker_post(home_of(str_from(service->domain)), &service->mail);
}

void
upload_service_look(void)
{
	struct iris_arena *arena = arena_new();

	host_each(service_make, arena);
	arena_unref(&arena);
}
