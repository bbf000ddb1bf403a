/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routing (RFC 6120 §10): from any worker to the home of the address; the answers that the server
 * itself waits for; domains that somebody else serves.  What happens at a user's home is in user.c;
 * streams to other servers are a plug-in's: without it their domains are not found.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "im_private.h"
#include "iris/service.h"

struct route_mail { /* one stanza to its own address */
	struct iris_mail mail;
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
};

struct fanout_mail { /* one stanza to many addresses of one worker; their text follows the addresses
		      */
	struct iris_mail mail;
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
	size_t count;
	char *text;
	struct iris_jid to[];
};

struct iq_pending {
	struct iris_hash_node node; /* by id */
	struct iris_timer timer;
	struct iris_jid to;         /* whose answer it is; its text is `address` */
	void (*fn)(const struct iris_stanza *reply, void *arg);
	void *arg;
	char *address;
	char id[40];
};

static struct iris_module_self router_self;

enum { ROUTER_MAX_REQUESTS };

static struct iris_metric router_metrics[] = {
	{ .name = "iris_routed_total",
	  .labels = "to=\"here\"",
	  .kind = IRIS_COUNTER,
	  .help = "Stanzas routed" },
	{ .name = "iris_routed_total",
	  .labels = "to=\"other worker\"",
	  .kind = IRIS_COUNTER,
	  .help = "Stanzas routed" },
	{ .name = "iris_unroutable_total",
	  .kind = IRIS_COUNTER,
	  .help = "Stanzas for domains that are not known" },
	{ .name = "iris_requests_timed_out_total",
	  .kind = IRIS_COUNTER,
	  .help = "Requests of the server itself that nobody answered" },
	{ .name = NULL },
};
enum { METRIC_HERE, METRIC_ELSEWHERE, METRIC_UNROUTABLE, METRIC_TIMEOUTS };

/* --- errors --- */

void
route_refusal(const struct iris_delivery *delivery, const struct iris_refusal *refusal)
{
	struct iris_stanza *error = stanza_error(delivery->stanza, refusal);

	if (!error)
		return;
	if (!jid_is_none(
		    &delivery->to)) /* one of many: the stanza's own `to` is another's, or none */
		stanza_set_from(error, &delivery->to);
	route_stanza(&error, NULL);
}

void
route_error(const struct iris_delivery *delivery, enum iris_condition condition)
{
	route_refusal(delivery, &(struct iris_refusal){ .condition = condition });
}

/* --- domains --- */

/* Those that are routed on any worker: asked for by who lets in what comes from elsewhere. */
static struct {
	pthread_mutex_t lock;
	struct iris_hash domains; /* of public_node */
} routed = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct iris_domain_route *
domain_route_find(struct iris_str domain)
{
	struct iris_hash_node *node = hash_find(&im_home()->domains, domain);

	return node ? IRIS_CONTAINER(node, struct iris_domain_route, node) : NULL;
}

bool
domain_route_add(struct iris_domain_route *route)
{
	struct iris_str domain = str_from(route->domain);
	struct iris_host *host = host_find(domain);

	IRIS_ASSERT(home_of(domain) == worker_self());
	if (domain_route_find(domain) || service_find(domain) || (host && !host->is_component))
		return false;
	route->home = worker_index();
	hash_insert(&im_home()->domains, &route->node, domain);
	pthread_mutex_lock(&routed.lock);
	hash_insert(&routed.domains, &route->public_node, domain);
	pthread_mutex_unlock(&routed.lock);
	return true;
}

void
domain_route_remove(struct iris_domain_route *route)
{
	IRIS_ASSERT(route->home == worker_index());
	hash_remove(&im_home()->domains, &route->node);
	pthread_mutex_lock(&routed.lock);
	hash_remove(&routed.domains, &route->public_node);
	if (routed.domains.count == 0)
		hash_free(&routed.domains);
	pthread_mutex_unlock(&routed.lock);
}

bool
domain_route_is_there(struct iris_str domain)
{
	bool found;

	pthread_mutex_lock(&routed.lock);
	found = hash_find(&routed.domains, domain) != NULL;
	pthread_mutex_unlock(&routed.lock);
	return found;
}

static void (*_Atomic remote_deliverer)(const struct iris_delivery *delivery,
					struct iris_ticket *ticket);

void
route_set_remote(void (*deliver)(const struct iris_delivery *delivery, struct iris_ticket *ticket))
{
	atomic_store(&remote_deliverer, deliver);
}

static void
deliver_to_remote(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	void (*deliver)(const struct iris_delivery *, struct iris_ticket *) =
		atomic_load_explicit(&remote_deliverer, memory_order_relaxed);

	if (deliver) {
		deliver(delivery, ticket);
		return;
	}
	metric_add(&router_metrics[METRIC_UNROUTABLE], 1);
	/* Presence to all contacts: their servers' absence is no news to the client. */
	if (delivery->stanza->kind != IRIS_PRESENCE || jid_is_none(&delivery->to))
		route_error(delivery, IRIS_REMOTE_SERVER_NOT_FOUND);
}

static void
deliver_to_domain(struct iris_host *host, const struct iris_delivery *delivery,
		  struct iris_ticket *ticket)
{
	bool is_one_of_many = !jid_is_none(&delivery->to);
	const struct iris_jid *to = is_one_of_many ? &delivery->to : &delivery->stanza->to;
	struct iris_domain_route *route = domain_route_find(jid_domain(to));
	struct iris_stanza *own;

	if (route && is_one_of_many) {
		own = stanza_copy(delivery->stanza);
		stanza_set_to(own, to);
		stanza_freeze(own);
		route->deliver(route, own, ticket);
		stanza_unref(&own);
	} else if (route) {
		route->deliver(route, delivery->stanza, ticket);
	} else if (!host) {
		deliver_to_remote(delivery, ticket);
	} else if (delivery->stanza->kind != IRIS_PRESENCE || !is_one_of_many) {
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
	}
}

static void
deliver_to_host(struct iris_host *host, const struct iris_delivery *delivery,
		struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = delivery->stanza;

	if (stanza->kind == IRIS_IQ)
		iq_receive_host(host, delivery, ticket);
	else if (stanza->kind == IRIS_MESSAGE && stanza->type != IRIS_HEADLINE)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
}

static void
deliver_to_service(struct iris_service *service, const struct iris_delivery *delivery,
		   const struct iris_jid *to, struct iris_ticket *ticket)
{
	const struct iris_service_kind *kind = service->kind;

	if (to->node_len > 0 && kind->places)
		place_receive(kind->places, jid_bare(to), delivery, ticket);
	else if (to->node_len > 0)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
	else if (delivery->stanza->kind == IRIS_IQ)
		service_answer(service, NULL, delivery, ticket);
	else if (kind->receive)
		kind->receive(service, delivery, ticket);
	else if (delivery->stanza->kind == IRIS_MESSAGE)
		route_error(delivery, IRIS_SERVICE_UNAVAILABLE);
}

/* `to` is the stanza's own, or one of many. */
static void
route_to(struct iris_stanza *stanza, const struct iris_jid *to, struct iris_ticket *ticket)
{
	struct iris_host *host = host_find(jid_domain(to));
	struct iris_delivery delivery = { .stanza = stanza };
	struct iris_service *service;

	if (host && !host->is_component && to->node_len) {
		user_receive(stanza, to, ticket);
		return;
	}
	if (to != &stanza->to)
		delivery.to = *to;
	service = host ? NULL : service_find(jid_domain(to));
	if (host && !host->is_component)
		deliver_to_host(host, &delivery, ticket);
	else if (service)
		deliver_to_service(service, &delivery, to, ticket);
	else
		deliver_to_domain(host, &delivery, ticket);
}

/* At the home of the address. What comes of it is in transit if the stanza is, and only then. */
static void
route_here(struct iris_stanza *stanza, const struct iris_jid *to, struct iris_ticket *ticket)
{
	bool before = transit_begin(stanza->transit);

	route_to(stanza, to, ticket);
	transit_end(before);
}

/* What is addressed to a host or service of ours is handled where it arrives. */
static struct iris_worker *
route_target(const struct iris_jid *to)
{
	struct iris_host *host = host_find(jid_domain(to));

	if ((!host && !service_find(jid_domain(to))) || (host && host->is_component))
		return home_of(jid_domain(to));
	return to->node_len ? home_of(jid_bare(to)) : worker_self();
}

/* --- one --- */

static void
route_mail_arrives(struct iris_mail *mail)
{
	struct route_mail *letter = IRIS_CONTAINER(mail, struct route_mail, mail);

	route_here(letter->stanza, &letter->stanza->to, letter->ticket);
	stanza_unref(&letter->stanza);
	ticket_unref(&letter->ticket);
	free(letter);
}

void
route_stanza(struct iris_stanza **stanza_p, struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;
	struct iris_worker *target;
	struct route_mail *letter;

	IRIS_ASSERT(!jid_is_none(&stanza->from) && !jid_is_none(&stanza->to));
	*stanza_p = NULL;
	stanza_freeze(stanza);
	target = route_target(&stanza->to);
	if (target == worker_self()) {
		metric_add(&router_metrics[METRIC_HERE], 1);
		route_here(stanza, &stanza->to, ticket);
		stanza_unref(&stanza);
		return;
	}
	metric_add(&router_metrics[METRIC_ELSEWHERE], 1);
	letter = iris_malloc(sizeof(*letter));
	letter->mail.fn = route_mail_arrives;
	letter->stanza = stanza;
	letter->ticket = ticket_ref(ticket);
	worker_post(target, &letter->mail);
}

/* --- many --- */

static void
fanout_arrives(struct iris_mail *mail)
{
	struct fanout_mail *letter = IRIS_CONTAINER(mail, struct fanout_mail, mail);

	for (size_t i = 0; i < letter->count; i++)
		route_here(letter->stanza, &letter->to[i], letter->ticket);
	stanza_unref(&letter->stanza);
	ticket_unref(&letter->ticket);
	free(letter);
}

static struct fanout_mail *
fanout_new(struct iris_stanza *stanza, struct iris_ticket *ticket, size_t count, size_t text)
{
	struct fanout_mail *letter =
		iris_malloc(sizeof(*letter) + count * sizeof(letter->to[0]) + text);

	letter->mail.fn = fanout_arrives;
	letter->stanza = stanza_ref(stanza);
	letter->ticket = ticket_ref(ticket);
	letter->count = 0;
	letter->text = (char *)&letter->to[count];
	return letter;
}

static void
fanout_add(struct fanout_mail *letter, const struct iris_jid *to)
{
	struct iris_jid *copy = &letter->to[letter->count++];
	struct iris_str text = jid_full(to);

	*copy = *to;
	copy->base = letter->text;
	memcpy(letter->text, text.base, text.len);
	letter->text += text.len;
}

struct fanout_share { /* of one worker */
	size_t count, text;
	struct fanout_mail *letter;
};

/* One letter for each other worker; what is at home here goes straight. */
static void
fanout(struct iris_stanza *stanza, const struct iris_jid *to, size_t count,
       struct iris_ticket *ticket)
{
	struct fanout_share shares[WORKER_LIMIT] = { { .count = 0 } };
	int8_t *homes = iris_malloc(count);
	int here = worker_index();

	for (size_t i = 0; i < count; i++) {
		homes[i] = (int8_t)worker_index_of(route_target(&to[i]));
		if (homes[i] != here) {
			shares[homes[i]].count++;
			shares[homes[i]].text += jid_full(&to[i]).len;
		}
	}
	for (size_t i = 0; i < count; i++) {
		struct fanout_share *share = homes[i] == here ? NULL : &shares[homes[i]];

		if (share && !share->letter)
			share->letter = fanout_new(stanza, ticket, share->count, share->text);
		if (share)
			fanout_add(share->letter, &to[i]);
		else
			route_here(stanza, &to[i], ticket);
		if (share && share->letter->count == share->count)
			worker_post(worker_at(homes[i]), &share->letter->mail);
	}
	free(homes);
}

void
route_many(struct iris_stanza **stanza_p, const struct iris_jid *to, size_t count,
	   struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;

	IRIS_ASSERT(!jid_is_none(&stanza->from));
	*stanza_p = NULL;
	stanza_freeze(stanza);
	metric_add(&router_metrics[METRIC_HERE], (int64_t)count);
	if (worker_count() > 1 || worker_index() == WORKER_MAIN) {
		if (count > 0)
			fanout(stanza, to, count, ticket);
	} else {
		for (size_t i = 0; i < count; i++)
			route_here(stanza, &to[i], ticket);
	}
	stanza_unref(&stanza);
}

/* --- requests of the server itself --- */

static void
pending_end(struct iq_pending *pending, const struct iris_stanza *reply)
{
	bool before = transit_begin(reply && reply->transit);

	hash_remove(&im_home()->pending, &pending->node);
	timer_stop(&pending->timer);
	pending->fn(reply, pending->arg);
	transit_end(before);
	free(pending->address);
	free(pending);
}

static void
pending_timeout(void *arg)
{
	metric_add(&router_metrics[METRIC_TIMEOUTS], 1);
	pending_end(arg, NULL);
}

/* The id tells the worker that waits: answers to a host arrive anywhere. */
static struct iq_pending *
pending_new(const struct iris_stanza *request,
	    void (*fn)(const struct iris_stanza *reply, void *arg), void *arg)
{
	struct iq_pending *pending = iris_calloc(1, sizeof(*pending));

	pending->address = str_dup(jid_full(&request->to));
	pending->to = request->to;
	pending->to.base = pending->address;
	pending->fn = fn;
	pending->arg = arg;
	snprintf(pending->id, sizeof(pending->id), "iris.%d.%llx", worker_index() + 1,
		 (unsigned long long)++im_home()->next_id);
	hash_insert(&im_home()->pending, &pending->node, str_from(pending->id));
	return pending;
}

void
route_iq(struct iris_stanza **request_p, unsigned timeout_ms,
	 void (*fn)(const struct iris_stanza *reply, void *arg), void *arg)
{
	struct im_home *home = im_home();
	struct iq_pending *pending;

	IRIS_ASSERT((*request_p)->kind == IRIS_IQ && !jid_is_none(&(*request_p)->to));
	if (home->closing ||
	    home->pending.count >= (size_t)option_int(&router_self, ROUTER_MAX_REQUESTS)) {
		stanza_unref(request_p);
		fn(NULL, arg);
		return;
	}
	pending = pending_new(*request_p, fn, arg);
	timer_start(&pending->timer, timeout_ms, pending_timeout, pending);
	stanza_set_id(*request_p, str_from(pending->id));
	route_stanza(request_p, NULL);
}

static void
reply_arrives(struct iris_mail *mail)
{
	struct route_mail *letter = IRIS_CONTAINER(mail, struct route_mail, mail);

	route_take_reply(letter->stanza);
	stanza_unref(&letter->stanza);
	free(letter);
}

/* The worker that waits for a reply with this id; NULL: it is none of ours. */
static struct iris_worker *
reply_worker(struct iris_str id)
{
	static const struct iris_str prefix = { "iris.", 5 };
	const char *dot;
	int64_t index;

	if (id.len <= prefix.len || memcmp(id.base, prefix.base, prefix.len) != 0)
		return NULL;
	id.base += prefix.len;
	id.len -= prefix.len;
	dot = memchr(id.base, '.', id.len);
	if (!dot || !str_to_int((struct iris_str){ id.base, (size_t)(dot - id.base) }, 0,
				worker_count(), &index))
		return NULL;
	return worker_at((int)index - 1);
}

void
route_take_reply(struct iris_stanza *reply)
{
	struct iris_worker *worker = reply_worker(reply->id);
	struct iris_hash_node *node;
	struct iq_pending *pending;
	struct route_mail *letter;

	if (!worker)
		return;
	if (worker != worker_self()) {
		stanza_freeze(reply);
		letter = iris_malloc(sizeof(*letter));
		*letter = (struct route_mail){ .mail.fn = reply_arrives,
					       .stanza = stanza_ref(reply) };
		worker_post(worker, &letter->mail);
		return;
	}
	node = hash_find(&im_home()->pending, reply->id);
	if (!node)
		return;
	pending = IRIS_CONTAINER(node, struct iq_pending, node);
	/* SECURITY: only who was asked may answer; ids can be guessed. */
	if (jid_equal(&reply->from, &pending->to))
		pending_end(pending, reply);
}

void
router_close_home(void)
{
	HASH_FOREACH(node, &im_home()->pending)
		pending_end(IRIS_CONTAINER(node, struct iq_pending, node), NULL);
}

static const struct iris_option router_options[] = {
	[ROUTER_MAX_REQUESTS] = { .name = "max-requests",
				  .type = IRIS_OPT_INT,
				  .fallback = "10000",
				  .min = 16,
				  .max = 1000000,
				  .reloadable = true,
				  .help = "Requests of the server itself that wait for an answer, "
					  "for each worker." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_router = {
	IRIS_MODULE_HEAD,
	.name = "router",
	.summary = "Routing between addresses, workers and domains (RFC 6120 §10)",
	.self = &router_self,
	.options = router_options,
	.metrics = router_metrics,
	.not_unloadable = true,
};
