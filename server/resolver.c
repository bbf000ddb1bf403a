/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunbound behind iris/resolver.h: one context, its descriptor in the main worker's loop, its
 * work on a thread of its own.  Questions go there and come back as mail.  Of what is asked nothing
 * is kept here: the library has the cache.
 *
 * A context takes no options once it has been asked something, so it is made with the first
 * question; and that needs more stack than a fiber has.
 */
#include <pthread.h>
#include <signal.h>

#include <event2/event.h>
#include <openssl/rand.h>
#include <unbound.h>

#include "dns_record.h"
#include "iris/gate.h"
#include "iris/module.h"

enum { OPT_SERVERS, OPT_TRUST_ANCHORS, OPT_TIMEOUT, OPT_MAX_QUESTIONS, OPT_CACHE };
enum { TYPE_A = 1, TYPE_AAAA = 28, TYPE_SRV = 33, TYPE_TLSA = 52, CLASS_IN = 1 };
enum { METRIC_QUESTIONS, METRIC_FAILURES, METRIC_FORGED };

#define SWEEP_MS 100
#define SERVER_MAX 64 /* bytes of an address and its port */

/* One question. It lies on the stack of who asks, who waits until all of its batch is over. */
struct question {
	TAILQ_ENTRY(question) link;
	struct iris_str name;
	int type, id;
	int64_t until_ms;
	struct batch *batch;
	struct ub_result *result; /* NULL: failed */
};

/* What one fiber asks at once. */
struct batch {
	struct iris_mail mail; /* there and back */
	struct iris_worker *home;
	struct question *questions;
	unsigned count, open;
	struct iris_wait wait;
};

static struct iris_module_self resolver_self;

static struct iris_metric resolver_metrics[] = {
	[METRIC_QUESTIONS] = { .name = "iris_dns_questions_total", .help = "Questions to the DNS" },
	[METRIC_FAILURES] = { .name = "iris_dns_failures_total",
			      .help = "Questions to the DNS that nobody could answer in time" },
	[METRIC_FORGED] = { .name = "iris_dns_forged_total",
			    .help = "Answers of the DNS whose signatures do not hold" },
	{ .name = NULL },
};

/* The main worker's. */
static struct {
	struct ub_ctx *context;
	struct event *event;
	struct iris_timer sweep;
	TAILQ_HEAD(, question) open; /* those that will be over first, first */
	unsigned count;
} resolver;

/* --- answers --- */

/* At home. */
static void
batch_returns(struct iris_mail *mail)
{
	wait_done(&IRIS_CONTAINER(mail, struct batch, mail)->wait);
}

static void
batch_end(struct batch *batch)
{
	batch->mail.fn = batch_returns;
	worker_post(batch->home, &batch->mail);
}

static void
question_end(struct question *question, struct ub_result *result)
{
	struct batch *batch = question->batch;

	TAILQ_REMOVE(&resolver.open, question, link);
	resolver.count--;
	question->result = result;
	if (!result)
		metric_add(&resolver_metrics[METRIC_FAILURES], 1);
	if (--batch->open == 0)
		batch_end(batch);
	if (resolver.count == 0)
		timer_stop(&resolver.sweep);
}

static void
resolver_on_answer(void *arg, int error, struct ub_result *result)
{
	question_end(arg, error == 0 ? result : NULL);
	if (error != 0 && result)
		ub_resolve_free(result);
}

static void
resolver_on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)ub_process(resolver.context);
}

/* The library gives up on dead servers after 17 s only; and who stops does not wait at all. */
static void
resolver_on_sweep(void *arg)
{
	struct question *question;

	timer_start(&resolver.sweep, SWEEP_MS, resolver_on_sweep, NULL);
	while ((question = TAILQ_FIRST(&resolver.open)) != NULL &&
	       (worker_is_stopping() || question->until_ms <= worker_now_ms())) {
		(void)ub_cancel(resolver.context, question->id);
		question_end(question, NULL);
	}
}

/* --- the context --- */

/* "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:5353" as the library writes them: ADDRESS@PORT. */
static bool
server_text(struct iris_str server, char *text, size_t size)
{
	const char *colon = memrchr(server.base, ':', server.len);
	bool bracketed = server.len > 1 && server.base[0] == '[';
	size_t host = server.len;
	int written;

	if (colon && (bracketed ? colon > server.base && colon[-1] == ']' :
				  memchr(server.base, ':', server.len) == colon))
		host = (size_t)(colon - server.base);
	written = snprintf(text, size, "%.*s%s%.*s",
			   (int)(host - (bracketed ? 2u : 0u)), server.base + bracketed,
			   host < server.len ? "@" : "",
			   host < server.len ? (int)(server.len - host - 1) : 0,
			   server.base + (host < server.len ? host + 1 : host));
	return written > 0 && (size_t)written < size;
}

static bool
context_failed(const char *what, int code, struct iris_error *error)
{
	error_set(error, "the resolver cannot be set up: %s", what);
	return error_detail(error, "%s", ub_strerror(code));
}

static bool
context_set_servers(struct ub_ctx *context, struct iris_error *error)
{
	const struct iris_settings *settings = atomic_load(&resolver_self.settings);
	size_t count = settings_count(settings, OPT_SERVERS);
	char text[SERVER_MAX];
	int code = 0;

	if (count == 0)
		code = ub_ctx_resolvconf(context, NULL);
	for (size_t i = 0; i < count && code == 0; i++) {
		IRIS_ASSERT(server_text(settings_item(settings, OPT_SERVERS, i), text,
					sizeof(text)));
		code = ub_ctx_set_fwd(context, text);
	}
	return code == 0 || context_failed("servers", code, error);
}

static bool
context_set_options(struct ub_ctx *context, struct iris_error *error)
{
	static const char *const options[][2] = {
		/* A resolver on this machine is the usual one. */
		{ "do-not-query-localhost:", "no" },
		{ "qname-minimisation:", "yes" },
		{ "hide-identity:", "yes" },
	};
	struct iris_str anchors = option_str(&resolver_self, OPT_TRUST_ANCHORS);
	char size[24], *file = NULL;
	int code = 0;

	for (size_t i = 0; i < IRIS_COUNT(options) && code == 0; i++)
		code = ub_ctx_set_option(context, options[i][0], options[i][1]);
	/* SECURITY: who makes us ask for ever new names must not fill our memory. */
	snprintf(size, sizeof(size), "%lld", (long long)option_int(&resolver_self, OPT_CACHE));
	if (code == 0)
		code = ub_ctx_set_option(context, "msg-cache-size:", size);
	if (code == 0)
		code = ub_ctx_set_option(context, "rrset-cache-size:", size);
	if (code == 0 && !str_is_empty(anchors))
		code = ub_ctx_add_ta_file(context, file = str_dup(anchors));
	free(file);
	if (code == 0)
		code = ub_ctx_async(context, 1);
	return code == 0 || context_failed("options", code, error);
}

static bool
resolver_open(void)
{
	struct iris_error error = { .message = "" };

	/* SECURITY: in depth: who would ask is not loaded in an isolated region (region_role.h). */
	if (region_is_isolated()) {
		LOG(IRIS_LOG_ERROR, "resolver", "refused",
		    LOG_CSTR("why", "the region is isolated"));
		return false;
	}
	if (resolver.context)
		return true;
	resolver.context = ub_ctx_create();
	IRIS_ASSERT(resolver.context);
	if (!context_set_servers(resolver.context, &error) ||
	    !context_set_options(resolver.context, &error)) {
		log_error(IRIS_LOG_ERROR, "resolver", "set-up", &error);
		ub_ctx_delete(resolver.context);
		resolver.context = NULL;
		return false;
	}
	resolver.event = event_new(worker_base(), ub_fd(resolver.context), EV_READ | EV_PERSIST,
				   resolver_on_event, NULL);
	IRIS_ASSERT(resolver.event && event_add(resolver.event, NULL) == 0);
	return true;
}

/* --- asking --- */

static bool
question_start(struct question *question)
{
	char name[256];

	if (resolver.count >= (unsigned)option_int(&resolver_self, OPT_MAX_QUESTIONS) ||
	    !str_copy_to(name, sizeof(name), question->name))
		return false;
	return ub_resolve_async(resolver.context, name, question->type, CLASS_IN, question,
				resolver_on_answer, &question->id) == 0;
}

/* The library's thread is made with the first question: it must not be given our signals. */
static void
batch_start(struct batch *batch)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	for (unsigned i = 0; i < batch->count; i++) {
		struct question *question = &batch->questions[i];

		metric_add(&resolver_metrics[METRIC_QUESTIONS], 1);
		question->batch = batch;
		question->until_ms = worker_now_ms() + option_int(&resolver_self, OPT_TIMEOUT);
		if (!question_start(question)) {
			metric_add(&resolver_metrics[METRIC_FAILURES], 1);
			continue;
		}
		TAILQ_INSERT_TAIL(&resolver.open, question, link);
		resolver.count++;
		batch->open++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* On the main worker, outside of a fiber. */
static void
batch_arrives(struct iris_mail *mail)
{
	struct batch *batch = IRIS_CONTAINER(mail, struct batch, mail);

	if (!worker_is_stopping() && resolver_open())
		batch_start(batch);
	if (batch->open == 0)
		batch_end(batch);
	else if (!timer_is_running(&resolver.sweep))
		timer_start(&resolver.sweep, SWEEP_MS, resolver_on_sweep, NULL);
}

static void
ask(struct question *questions, unsigned count)
{
	struct batch batch = { .questions = questions, .count = count, .home = worker_self(),
			       .mail.fn = batch_arrives };

	wait_init(&batch.wait);
	worker_post(worker_at(WORKER_MAIN), &batch.mail);
	wait_for(&batch.wait, "the DNS");
}

/* What it came to; bogus is what signatures disprove. */
static enum iris_dns_outcome
question_outcome(const struct question *question)
{
	const struct ub_result *result = question->result;

	if (!result)
		return IRIS_DNS_FAILED;
	if (result->bogus) {
		metric_add(&resolver_metrics[METRIC_FORGED], 1);
		LOG(IRIS_LOG_WARNING, "resolver", "forged", LOG_STR("name", question->name),
		    LOG_CSTR("why", result->why_bogus));
		return IRIS_DNS_FAILED;
	}
	if (result->havedata)
		return IRIS_DNS_FOUND;
	return result->nxdomain || result->rcode == 0 ? IRIS_DNS_NOTHING : IRIS_DNS_FAILED;
}

/* The records of an answer, at most DNS_RECORDS_MAX. */
static unsigned
question_records(const struct question *question)
{
	unsigned count = 0;

	while (count < DNS_RECORDS_MAX && question->result->data[count])
		count++;
	return count;
}

static struct iris_str
question_record(const struct question *question, unsigned i)
{
	return (struct iris_str){ question->result->data[i], (size_t)question->result->len[i] };
}

static void
questions_free(struct question *questions, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (questions[i].result)
			ub_resolve_free(questions[i].result);
}

/* FOUND by one is enough; else what is not known of one is not known of all. */
static enum iris_dns_outcome
outcome_of_both(enum iris_dns_outcome a, enum iris_dns_outcome b)
{
	if (a == IRIS_DNS_FOUND || b == IRIS_DNS_FOUND)
		return IRIS_DNS_FOUND;
	return a == IRIS_DNS_FAILED || b == IRIS_DNS_FAILED ? IRIS_DNS_FAILED : IRIS_DNS_NOTHING;
}

/* --- services --- */

static unsigned
throw_dice(unsigned sum)
{
	uint32_t random = 0;

	IRIS_ASSERT(RAND_bytes((unsigned char *)&random, sizeof(random)) == 1);
	return random % (sum + 1);
}

static void
take_services(struct iris_arena *arena, const struct question *question, unsigned index,
	      struct iris_dns_services *found)
{
	unsigned count = question_records(question);

	for (unsigned i = 0; i < count; i++) {
		struct iris_dns_service *service = &found->items[found->count];

		if (!dns_parse_service(arena, question_record(question, i), service))
			continue;
		service->question = index;
		service->secure = question->result->secure;
		if (service->target.len > 0)
			found->count++;
		else
			found->refused |= 1u << index;
	}
	found->secure = found->secure && question->result->secure;
}

enum iris_dns_outcome
resolver_find_services(struct iris_arena *arena, const struct iris_str *names, unsigned count,
		       struct iris_dns_services *found_r)
{
	struct question questions[DNS_QUESTIONS_MAX] = { { .type = TYPE_SRV } };
	enum iris_dns_outcome outcome = IRIS_DNS_NOTHING;

	IRIS_ASSERT(count > 0 && count <= DNS_QUESTIONS_MAX);
	for (unsigned i = 0; i < count; i++)
		questions[i] = (struct question){ .name = names[i], .type = TYPE_SRV };
	ask(questions, count);
	*found_r = (struct iris_dns_services){ .secure = true };
	found_r->items =
		arena_alloc(arena, (count * DNS_RECORDS_MAX + 1) * sizeof(*found_r->items));
	for (unsigned i = 0; i < count; i++) {
		enum iris_dns_outcome one = question_outcome(&questions[i]);

		if (one == IRIS_DNS_FOUND)
			take_services(arena, &questions[i], i, found_r);
		else if (one == IRIS_DNS_FAILED || !questions[i].result->secure)
			found_r->secure = false;
		if (one != IRIS_DNS_FOUND)
			outcome = outcome_of_both(outcome, one);
	}
	if (found_r->count > 0)
		outcome = IRIS_DNS_FOUND;
	dns_order_services(found_r->items, found_r->count, throw_dice);
	questions_free(questions, count);
	return outcome;
}

/* --- addresses --- */

static void
take_addresses(const struct question *question, struct iris_dns_addresses *found)
{
	bool is_ipv6 = question->type == TYPE_AAAA;
	size_t size = is_ipv6 ? 16 : 4;
	unsigned count = question_records(question);

	for (unsigned i = 0; i < count; i++) {
		struct iris_str data = question_record(question, i);
		struct iris_dns_address *address = &found->items[found->count];

		if (data.len != size)
			continue;
		address->is_ipv6 = is_ipv6;
		memcpy(address->bytes, data.base, size);
		found->count++;
	}
	found->secure = found->secure && question->result->secure;
}

enum iris_dns_outcome
resolver_find_addresses(struct iris_arena *arena, struct iris_str name,
			struct iris_dns_addresses *found_r)
{
	struct question questions[2] = { { .name = name, .type = TYPE_AAAA },
					 { .name = name, .type = TYPE_A } };
	enum iris_dns_outcome outcomes[2];

	ask(questions, 2);
	*found_r = (struct iris_dns_addresses){ .secure = true };
	found_r->items = arena_alloc(arena, 2 * DNS_RECORDS_MAX * sizeof(*found_r->items));
	for (unsigned i = 0; i < 2; i++) {
		outcomes[i] = question_outcome(&questions[i]);
		if (outcomes[i] == IRIS_DNS_FOUND)
			take_addresses(&questions[i], found_r);
	}
	questions_free(questions, 2);
	if (found_r->count > 0)
		return IRIS_DNS_FOUND;
	return outcome_of_both(outcomes[0], outcomes[1]) == IRIS_DNS_NOTHING ? IRIS_DNS_NOTHING :
									       IRIS_DNS_FAILED;
}

/* --- TLSA --- */

enum iris_dns_outcome
resolver_find_tlsa(struct iris_arena *arena, struct iris_str name, uint16_t port,
		   struct iris_dns_tlsas *found_r)
{
	struct question question = { .type = TYPE_TLSA };
	enum iris_dns_outcome outcome;
	unsigned count;

	question.name = arena_printf(arena, "_%u._tcp.%.*s", port, IRIS_STR_FMT(name));
	ask(&question, 1);
	*found_r = (struct iris_dns_tlsas){ .count = 0 };
	outcome = question_outcome(&question);
	if (outcome == IRIS_DNS_FOUND) {
		count = question_records(&question);
		found_r->items = arena_alloc(arena, count * sizeof(*found_r->items));
		for (unsigned i = 0; i < count; i++)
			if (dns_parse_tlsa(arena, question_record(&question, i),
					   &found_r->items[found_r->count]))
				found_r->count++;
		if (found_r->count == 0)
			outcome = IRIS_DNS_NOTHING;
	}
	found_r->secure = question.result && question.result->secure;
	questions_free(&question, 1);
	return outcome;
}

/* --- the module --- */

static bool
resolver_check(const struct iris_settings *settings, struct iris_error *error)
{
	char text[SERVER_MAX];

	for (size_t i = 0; i < settings_count(settings, OPT_SERVERS); i++) {
		struct iris_str server = settings_item(settings, OPT_SERVERS, i);

		if (server.len < 2 || !server_text(server, text, sizeof(text)))
			return error_set(error, "servers: \"%.*s\" is not an address",
					 IRIS_STR_FMT(server));
	}
	return true;
}

static bool
resolver_start(struct iris_error *error)
{
	TAILQ_INIT(&resolver.open);
	return true;
}

static void
resolver_stop(void)
{
	IRIS_ASSERT(!resolver.open.tqh_last || TAILQ_EMPTY(&resolver.open));
	timer_stop(&resolver.sweep);
	if (resolver.event)
		event_free(resolver.event);
	resolver.event = NULL;
	if (resolver.context)
		ub_ctx_delete(resolver.context);
	resolver.context = NULL;
}

static const struct iris_option resolver_options[] = {
	[OPT_SERVERS] = { "servers", IRIS_OPT_STRINGS, .optional = true,
			  .help = "Addresses of the resolvers that are asked, with or without a "
				  "port; none: those of /etc/resolv.conf." },
	[OPT_TRUST_ANCHORS] = { "trust-anchors", IRIS_OPT_PATH, .optional = true,
				.help = "A file of trust anchors, as /usr/share/dns/root.key of "
					"Debian's dns-root-data; none: nothing is validated." },
	[OPT_TIMEOUT] = { "timeout", IRIS_OPT_DURATION, "5 seconds", .min = 500, .max = 8000,
			  .reloadable = true,
			  .help = "How long an answer is waited for." },
	[OPT_MAX_QUESTIONS] = { "max-questions", IRIS_OPT_INT, "512", .min = 8, .max = 100000,
				.reloadable = true,
				.help = "How many questions may wait for an answer at once." },
	[OPT_CACHE] = { "cache-size", IRIS_OPT_SIZE, "4 MiB", .min = 65536, .max = 1 << 30,
			.help = "How much each of the two caches of answers may take." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_resolver = {
	IRIS_MODULE_HEAD,
	.name = "resolver",
	.summary = "Names of the DNS, with DNSSEC",
	.self = &resolver_self,
	.options = resolver_options,
	.metrics = resolver_metrics,
	.not_unloadable = true,
	.outward = true,
	.check = resolver_check,
	.start = resolver_start,
	.stop = resolver_stop,
};
