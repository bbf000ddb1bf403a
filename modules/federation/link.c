/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: the role of streams between servers, on both sides: features, SASL EXTERNAL (RFC 6120
 * §6.3, §13.7.2; XEP-0178), pairs, and what is checked of each stanza.  The worker of the stream.
 */
#include <stdlib.h>

#include "iris/sasl.h"
#include "modules/federation/link_private.h"
#include "xep/xep0359_stanza_id.h"

/* "theirs ours" is proven. */
struct pair {
	struct iris_hash_node node;
	struct reader *reader; /* when something came with an id of their outbox; or NULL */
	char text[];
};

TAILQ_HEAD(link_list, link);

static _Thread_local struct link_list links; /* that are up; the longest idle one first */

static struct link_list *
links_here(void)
{
	if (!links.tqh_last)
		TAILQ_INIT(&links);
	return &links;
}

bool
links_are_any(void)
{
	return !TAILQ_EMPTY(links_here());
}

struct link *
link_of(struct iris_stream *stream)
{
	return *stream_slot(stream, &federation_self);
}

static struct link *
link_new(struct iris_stream *stream, bool is_ours)
{
	struct link *link = iris_calloc(1, sizeof(*link));

	link->stream = stream;
	link->is_ours = is_ours;
	*stream_slot(stream, &federation_self) = link;
	return link;
}

/* --- pairs --- */

static struct iris_str
pair_text(struct iris_arena *arena, struct iris_str theirs, struct iris_str ours)
{
	return arena_printf(arena, "%.*s %.*s", IRIS_STR_FMT(theirs), IRIS_STR_FMT(ours));
}

static struct pair *
pair_find(const struct link *link, const struct iris_stanza *stanza)
{
	struct iris_hash_node *node =
		hash_find(&link->pairs, pair_text(stanza->arena, jid_domain(&stanza->from),
						  jid_domain(&stanza->to)));

	return node ? IRIS_CONTAINER(node, struct pair, node) : NULL;
}

void
link_prove(struct link *link, struct iris_str theirs, struct iris_str ours)
{
	struct iris_arena *arena = arena_new();
	struct iris_str text = pair_text(arena, theirs, ours);
	struct pair *pair;

	if (!hash_find(&link->pairs, text)) {
		pair = iris_calloc(1, sizeof(*pair) + text.len);
		memcpy(pair->text, text.base, text.len);
		hash_insert(&link->pairs, &pair->node, (struct iris_str){ pair->text, text.len });
		LOG(IRIS_LOG_NOTICE, "federation", "proven", LOG_STR("theirs", theirs),
		    LOG_STR("ours", ours),
		    LOG_STR("address", stream_peer_address(link->stream)));
	}
	arena_unref(&arena);
}

bool
link_has_room_for_pair(const struct link *link)
{
	return link->pairs.count + link->verifying <
	       (size_t)option_int(&federation_self, OPT_MAX_PAIRS);
}

static void
pairs_free(struct link *link)
{
	HASH_FOREACH(node, &link->pairs) {
		struct pair *pair = IRIS_CONTAINER(node, struct pair, node);

		hash_remove(&link->pairs, node);
		reader_unref(&pair->reader);
		free(pair);
	}
	hash_free(&link->pairs);
}

/* --- being up --- */

static void
link_use(struct link *link)
{
	link->used_ms = worker_now_ms();
	TAILQ_REMOVE(links_here(), link, entry);
	TAILQ_INSERT_TAIL(links_here(), link, entry);
}

void
link_end_attempt(struct link *link, enum dial_outcome outcome, const char *why)
{
	struct attempt *attempt = link->attempt;

	if (!attempt)
		return;
	link->attempt = NULL;
	attempt->outcome = outcome;
	attempt->why = why;
	wait_done(&attempt->wait);
}

void
link_go_up(struct link *link)
{
	if (!link_is_allowed(link)) { /* another map, since it was proven */
		link_refuse(link, "policy-violation", "the region map does not allow it");
		return;
	}
	stream_set_bound(link->stream);
	link->is_up = true;
	link->used_ms = worker_now_ms();
	link->since_ms = worker_wall_ms();
	TAILQ_INSERT_TAIL(links_here(), link, entry);
	federation_count(link->is_ours ? METRIC_LINKS_OURS : METRIC_LINKS_THEIRS, 1);
	federation_need_time();
	if (link->is_ours && link->route)
		bidi_go_up(link, route_remote(link->route), route_local(link->route));
	if (link->route)
		route_up(link->route, link);
	if (link->is_ours && !link->route && !link->is_both_ways)
		stream_close(link->stream); /* another one is up for its route already */
	link_end_attempt(link, DIAL_UP, NULL);
}

void
link_agree(struct link *link)
{
	if (link->offers_acks)
		acks_ask(link);
	else
		link_go_up(link);
}

/* is_lost: without a word. */
static void
link_go_down(struct link *link, bool is_lost)
{
	struct route *route = link->route;

	link->route = NULL;
	if (!link->is_up)
		return;
	link->is_up = false;
	TAILQ_REMOVE(links_here(), link, entry);
	federation_count(link->is_ours ? METRIC_LINKS_OURS : METRIC_LINKS_THEIRS, -1);
	acks_lose(link, is_lost);
	if (route)
		route_down(route, link);
}

void
link_break(struct link *link, const char *condition, const char *text)
{
	link_go_down(link, true);
	stream_error(link->stream, condition, text);
}

void
link_forget_route(struct link *link)
{
	link->route = NULL;
}

bool
link_is_up(struct link *link)
{
	return link->is_up && stream_state(link->stream) == IRIS_STREAM_BOUND &&
	       link_is_allowed(link);
}

void
link_send(struct link *link, const struct iris_delivery *delivery)
{
	link_use(link);
	link->sent++;
	stream_send_delivery(link->stream, delivery);
	if (link->acks)
		acks_sent(link->acks);
}

struct link *
links_next(struct link *before)
{
	return before ? TAILQ_NEXT(before, entry) : TAILQ_FIRST(links_here());
}

void
link_close(struct link *link)
{
	stream_close(link->stream);
	link_go_down(link, false);
}

void
links_end_idle(int64_t since_ms)
{
	struct link *link;

	while ((link = TAILQ_FIRST(links_here())) != NULL && link->used_ms < since_ms)
		link_close(link);
}

void
links_end_forbidden(void)
{
	struct link *link, *next;

	for (link = TAILQ_FIRST(links_here()); link; link = next) {
		next = TAILQ_NEXT(link, entry);
		if (link_is_allowed(link))
			continue;
		LOG(IRIS_LOG_NOTICE, "federation", "forbidden",
		    LOG_STR("domain", jid_domain(stream_jid(link->stream))),
		    LOG_CSTR("region", link->region),
		    LOG_STR("address", stream_peer_address(link->stream)));
		link_go_down(link, false);
		stream_error(link->stream, "policy-violation", NULL);
	}
}

struct link *
link_begin(struct iris_stream *stream, struct attempt *attempt)
{
	struct link *link = link_new(stream, true);

	link->route = attempt->purpose->route;
	link->attempt = attempt;
	return link;
}

void
link_give_up(struct link *link)
{
	link->route = NULL;
	stream_error(link->stream, "connection-timeout", NULL);
	link_end_attempt(link, DIAL_LATER, "it took too long");
}

/* --- ours: the peer's features --- */

void
link_refuse(struct link *link, const char *condition, const char *why)
{
	link->route = NULL;
	stream_error(link->stream, condition, why);
	link_end_attempt(link, DIAL_REFUSED, why);
}

static bool
offers_external(const struct iris_element *features)
{
	struct iris_element *mechanisms = element_child(features, "mechanisms", NS_SASL);
	struct iris_element *mechanism =
		mechanisms ? element_child(mechanisms, "mechanism", NS_SASL) : NULL;

	for (; mechanism; mechanism = element_next(mechanism, "mechanism", NS_SASL))
		if (str_is(element_get_text(mechanism), "EXTERNAL"))
			return true;
	return false;
}

/* XEP-0178 §3 9: the authorization identity is the domain that speaks. */
static void
send_auth(struct link *link)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *auth = element_new(arena, "auth", NS_SASL);

	link->asks = true;
	element_set(auth, "mechanism", IRIS_STR("EXTERNAL"));
	element_text(auth, base64_encode(arena, str_from(link->route->local)));
	stream_send(link->stream, auth);
	arena_unref(&arena);
}

/* SECURITY: the DNS led us here; only the certificate says where "here" is. */
static void
ask_to_be_taken(struct link *link, const struct iris_element *features)
{
	struct iris_str theirs = route_remote(link->route);
	bool proven = link_proves(link, theirs);

	if (proven)
		bidi_ask(link, features);
	if (proven && offers_external(features))
		send_auth(link);
	/* SECURITY: where the DNS names the certificate, another one is not made good by it. */
	else if ((proven || !stream_is_pinned(link->stream)) && dialback_may_prove(link, theirs))
		dialback_ask(link);
	else
		link_refuse(link, "not-authorized",
			    proven ? "it does not take our certificate" :
				     "its certificate does not prove the domain");
}

static void
link_features(struct iris_stream *stream, const struct iris_element *features)
{
	struct link *link = link_of(stream);

	link->offers_acks = element_child(features, "sm", NS_SM) != NULL;
	link->tells_ids = element_child(features, "outbox", NS_OUTBOX) != NULL;
	if (link->asks && !link->asked_acks && stream_state(stream) == IRIS_STREAM_AUTHENTICATED)
		link_agree(link);
	else if (link->asks)
		stream_error(stream, "unsupported-stanza-type", NULL);
	else if (link->route)
		ask_to_be_taken(link, features);
	else if (link->attempt)
		dialback_ask_for_key(link);
}

/* After the restart that follows success: our header once more. */
static void
link_restart(struct iris_stream *stream, void *arg)
{
	stream_restart(stream);
}

static void
handle_success(struct iris_stream *stream, struct iris_element *element)
{
	struct link *link = link_of(stream);
	struct iris_jid jid;

	/* SECURITY: who says so unasked has not proven that it is whom we mean to talk to. */
	if (!link->asks || !link->route ||
	    !jid_make(element->arena, IRIS_STR_NONE, route_remote(link->route), IRIS_STR_NONE,
		      &jid)) {
		stream_error(stream, "unsupported-stanza-type", NULL);
		return;
	}
	stream_authenticated(stream, &jid, true, link_restart, NULL);
}

static void
handle_failure(struct iris_stream *stream, struct iris_element *element)
{
	struct link *link = link_of(stream);

	if (!link->asks || !link->route) {
		stream_error(stream, "unsupported-stanza-type", NULL);
	} else if (dialback_may_prove(link, route_remote(link->route))) {
		dialback_ask(link);
	} else {
		link->route = NULL;
		stream_close(stream);
		link_end_attempt(link, DIAL_REFUSED, "it does not take our certificate");
	}
}

/* --- theirs: what we offer --- */

static bool
link_serves(struct iris_stream *stream, struct iris_str domain)
{
	return federation_host(domain) != NULL;
}

/* What its certificate proves of what it claims. */
static bool
is_proven_by_certificate(struct iris_stream *stream, const struct iris_jid *claimed)
{
	return !jid_is_none(claimed) && claimed->node_len == 0 && jid_is_bare(claimed) &&
	       policy_knows(jid_domain(claimed)) &&
	       link_proves(link_of(stream), jid_domain(claimed));
}

static void
link_offer(struct iris_stream *stream, struct iris_element *features)
{
	struct iris_jid claimed = stream_claimed_jid(stream);
	bool is_signed_in = stream_state(stream) == IRIS_STREAM_AUTHENTICATED;
	bool is_proven = !is_signed_in && is_proven_by_certificate(stream, &claimed);

	if (is_proven) {
		element_add_text(element_add(features, "mechanisms", NS_SASL), "mechanism", NULL,
				 IRIS_STR("EXTERNAL"));
		bidi_offer(features);
	}
	dialback_offer(features);
	/* After dialback no features follow: it is told before. */
	if (is_signed_in)
		element_add(features, "outbox", NS_OUTBOX);
	if (is_signed_in || (!is_proven && !jid_is_none(&claimed) &&
			     dialback_may_prove(link_of(stream), jid_domain(&claimed))))
		acks_offer(features);
}

static void
link_take_address(struct link *link, const struct iris_element *header)
{
	struct iris_jid jid;

	IRIS_ASSERT(jid_parse(header->arena, element_get(header, "to"), &jid));
	IRIS_ASSERT(str_copy_to(link->to, sizeof(link->to), jid_domain(&jid)));
}

static void
link_opened(struct iris_stream *stream, const struct iris_element *header)
{
	struct link *link = link_of(stream);
	struct iris_jid claimed = stream_claimed_jid(stream);

	if (!link)
		link = link_new(stream, false);
	link_take_address(link, header);
	if (stream_state(stream) == IRIS_STREAM_AUTHENTICATED) {
		link_prove(link, jid_domain(stream_jid(stream)), str_from(link->to));
		stream_send_features(stream);
		bidi_go_up(link, jid_domain(stream_jid(stream)), str_from(link->to));
		link_go_up(link);
		if (!link->is_both_ways) /* it is there again: the pause after failures ends */
			(void)remote_retry(jid_domain(stream_jid(stream)));
		return;
	}
	if (!jid_is_none(&claimed) && !policy_knows(jid_domain(&claimed))) {
		stream_error(stream, "policy-violation", NULL);
		return;
	}
	stream_send_features(stream);
	if (stream_state(stream) == IRIS_STREAM_UNAUTHENTICATED &&
	    !is_proven_by_certificate(stream, &claimed) &&
	    (jid_is_none(&claimed) || !dialback_may_prove(link, jid_domain(&claimed))))
		stream_error(stream, "not-authorized",
			     "the certificate does not prove the domain of from");
}

/* --- theirs: EXTERNAL --- */

static void
send_outcome(struct iris_stream *stream, const char *name, const char *condition)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *outcome = element_new(arena, name, NS_SASL);

	if (condition)
		element_add(outcome, condition, NULL);
	stream_send(stream, outcome);
	arena_unref(&arena);
}

static void
nothing_more(struct iris_stream *stream, void *arg)
{
}

/*
 * The domain that it wants to be: `from` of its header, or the authorization identity, which must
 * be the same. False: the message is malformed.
 */
static bool
read_identity(struct iris_stream *stream, const struct iris_element *auth, struct iris_jid *jid_r)
{
	struct iris_str text = element_get_text(auth), identity;
	struct iris_jid claimed = stream_claimed_jid(stream);

	*jid_r = claimed;
	if (text.len == 0 || str_is(text, "="))
		return true;
	if (!base64_decode(auth->arena, text, &identity) ||
	    !jid_parse(auth->arena, identity, jid_r))
		return false;
	if (!jid_is_none(&claimed) && !jid_equal(&claimed, jid_r))
		*jid_r = IRIS_JID_NONE;
	return true;
}

static void
handle_auth(struct iris_stream *stream, struct iris_element *auth)
{
	const char *condition = NULL;
	struct iris_jid jid = IRIS_JID_NONE;

	if (stream_is_initiated(stream)) {
		stream_error(stream, "unsupported-stanza-type", NULL);
		return;
	}
	if (!str_is(element_get(auth, "mechanism"), "EXTERNAL"))
		condition = sasl_condition_name(IRIS_SASL_INVALID_MECHANISM);
	else if (!read_identity(stream, auth, &jid))
		condition = sasl_condition_name(IRIS_SASL_INCORRECT_ENCODING);
	else if (jid_is_none(&jid))
		condition = sasl_condition_name(IRIS_SASL_INVALID_AUTHZID);
	else if (!is_proven_by_certificate(stream, &jid)) /* SECURITY: never what it says */
		condition = sasl_condition_name(IRIS_SASL_NOT_AUTHORIZED);
	LOG(IRIS_LOG_INFO, "federation", condition ? "refused" : "signed-in",
	    LOG_STR("domain", jid_is_none(&jid) ? IRIS_STR_NONE : jid_domain(&jid)),
	    LOG_CSTR("condition", condition), LOG_STR("address", stream_peer_address(stream)));
	send_outcome(stream, condition ? "failure" : "success", condition);
	if (condition)
		stream_error(stream, "policy-violation", "no domain is proven");
	else
		stream_authenticated(stream, &jid, true, nothing_more, NULL);
}

/* --- theirs: stanzas --- */

/* Why the stream ends; NULL: it is as it should be (RFC 6120 §8.1.1.2, §8.1.2.2). */
static const char *
find_fault(struct link *link, const struct iris_stanza *stanza)
{
	if (jid_is_none(&stanza->from) || jid_is_none(&stanza->to))
		return "improper-addressing";
	/* SECURITY: relaying for others. */
	if (!federation_host(jid_domain(&stanza->to)))
		return "host-unknown";
	if (!link_is_allowed(link))
		return "policy-violation";
	/* SECURITY: forged senders. */
	if (!pair_find(link, stanza))
		return "invalid-from";
	return NULL;
}

/* The reader of the stanza's pair; it may wait, and the link may be gone then. */
static struct reader *
pair_reader(struct iris_stream *stream, const struct iris_stanza *stanza)
{
	struct pair *pair = pair_find(link_of(stream), stanza);
	struct reader *reader;

	if (pair->reader)
		return pair->reader;
	reader = reader_open((struct iris_str){ pair->node.key.base, pair->node.key.len });
	if (stream_state(stream) == IRIS_STREAM_BOUND && link_of(stream)) {
		pair = pair_find(link_of(stream), stanza);
		if (pair && !pair->reader) {
			pair->reader = reader;
			return reader;
		}
	}
	reader_unref(&reader);
	return NULL;
}

/* False: it is here already, or it is not taken now, and its ticket says so: it comes again. */
static bool
is_new(struct iris_stream *stream, struct iris_stanza *stanza, struct iris_ticket *ticket)
{
	int64_t id = reader_is_marked(stanza) ? reader_take_mark(stanza) : 0;
	struct reader *reader = NULL;
	struct link *link = link_of(stream);

	if (id > 0 && link->acks)
		reader = pair_reader(stream, stanza);
	link = link_of(stream); /* it may have waited */
	if (!link || stream_state(stream) != IRIS_STREAM_BOUND) {
		ticket_fail(ticket);
		return false;
	}
	if (!reader)
		return true;
	switch (reader_receive(reader, id)) {
	case READER_NEW:
		acks_expect(link->acks, reader, id);
		return true;
	case READER_WAITS:
		ticket_fail(ticket);
		link_break(link, "resource-constraint", "it is being handled from another stream");
		return false;
	case READER_HAS:
		break;
	}
	federation_count(METRIC_AGAIN, 1);
	return false;
}

static void
link_stanza(struct iris_stream *stream, struct iris_stanza **stanza_p, struct iris_ticket *ticket)
{
	struct link *link = link_of(stream);
	struct iris_stanza *stanza = *stanza_p;
	const char *fault;

	/* SECURITY: what flows back on a link of ours has not proven itself to us as a sender. */
	fault = link->is_ours && !link->is_both_ways ? "not-authorized" :
						       find_fault(link, stanza);
	if (fault) {
		LOG(IRIS_LOG_WARNING, "federation", "stanza-refused", LOG_CSTR("condition", fault),
		    LOG_STR("domain", jid_domain(stream_jid(stream))),
		    LOG_STR("address", stream_peer_address(stream)));
		federation_count(METRIC_REFUSED, 1);
		stream_error(stream, fault, NULL);
		stanza_unref(stanza_p);
		return;
	}
	link_use(link);
	link->taken++;
	federation_count(METRIC_STANZAS_IN, 1);
	if (!link->has_spoken) {
		link->has_spoken = true;
		bidi_adopt(link);
	}
	if (!is_new(stream, stanza, ticket)) {
		stanza_unref(stanza_p);
		return;
	}
	if (!policy_may_enter(stanza, link->region)) {
		federation_count(METRIC_REFUSED, 1);
		stanza_unref(stanza_p);
		return;
	}
	stanza_id_remove_ours(stanza);
	route_stanza(stanza_p, ticket);
}

/* --- the end --- */

static void
link_ended(struct iris_stream *stream, bool orderly)
{
	struct link *link = link_of(stream);

	if (!orderly)
		LOG(IRIS_LOG_NOTICE, "federation", "lost",
		    LOG_STR("domain", jid_domain(stream_jid(stream))),
		    LOG_CSTR("begun", link->is_ours ? "here" : "there"));
	link_go_down(link, !orderly || stream_peer_error(stream));
}

enum iris_verdict
link_stream_close(struct iris_stream *stream)
{
	void **slot = stream_slot(stream, &federation_self);
	struct link *link = *slot;
	const char *error = stream_peer_error(stream);

	if (!link)
		return IRIS_PASS;
	*slot = NULL;
	link_go_down(link, false);
	link_end_attempt(link, DIAL_LATER, error ? error : "it hung up");
	pairs_free(link);
	free(link);
	return IRIS_PASS;
}

#define UNAUTHENTICATED (1u << IRIS_STREAM_UNAUTHENTICATED)
#define AUTHENTICATED (1u << IRIS_STREAM_AUTHENTICATED)
#define BOUND (1u << IRIS_STREAM_BOUND)
#define EVER (UNAUTHENTICATED | BOUND)

static const struct iris_stream_handler link_elements[] = {
	{ "auth", NS_SASL, UNAUTHENTICATED, handle_auth },
	{ "success", NS_SASL, UNAUTHENTICATED, handle_success },
	{ "failure", NS_SASL, UNAUTHENTICATED, handle_failure },
	{ "bidi", NS_BIDI, UNAUTHENTICATED, bidi_handle },
	{ "result", NS_DIALBACK, EVER, dialback_handle_result },
	{ "verify", NS_DIALBACK, EVER, dialback_handle_verify },
	{ "enable", NS_SM, BOUND, acks_handle_enable },
	{ "resume", NS_SM, BOUND, acks_handle_resume },
	{ "enabled", NS_SM, AUTHENTICATED, acks_handle_enabled },
	{ "resumed", NS_SM, AUTHENTICATED, acks_handle_resumed },
	{ "failed", NS_SM, AUTHENTICATED, acks_handle_failed },
	{ "r", NS_SM, BOUND, acks_handle_r },
	{ "a", NS_SM, BOUND, acks_handle_a },
	{ .name = NULL },
};

const struct iris_stream_role federation_role = {
	.name = "s2s",
	.ns = NS_SERVER,
	.alpn = "xmpp-server",
	.prefixes = " xmlns:db='" NS_DIALBACK "'",
	.between_servers = true,
	.elements = link_elements,
	.opened = link_opened,
	.offer = link_offer,
	.features = link_features,
	.serves = link_serves,
	.stanza = link_stanza,
	.ended = link_ended,
};
