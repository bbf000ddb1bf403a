/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0198 1.6 on links: who has what.  README.md, "What is kept until it has arrived".  The worker
 * of the stream, which is the home of the remote; what is kept of a broken link stays there.
 *
 * Who begins the stream asks; from then on both sides count what they read, so with XEP-0288 one
 * agreement does for both directions.  What was handed lies with its route (route.c).
 */
#include <stdlib.h>

#include "modules/federation/link_private.h"
#include "xep/xep0198_ask.h"

#define ID_BITS 144
#define ID_MAX 256     /* bytes of an id that a peer gives us */
#define TELL_EVERY 100 /* stanzas that are handled without being asked about */
#define LOST_MAX 10000 /* broken links of a worker that can be resumed */

/* A stanza of the peer whose writes are not all committed. */
struct acks_inbound {
	TAILQ_ENTRY(acks_inbound) entry;
	struct acks *acks; /* counted */
	struct reader *reader; /* whose outbox it has an id of; or NULL */
	int64_t id;
	bool done;
};

/* Counted: by its link, its route, the table of ids, and each inbound ticket. */
struct acks {
	unsigned refs;
	struct acks_home *home;
	struct link *link;          /* NULL: lost */
	struct route *route;        /* whose window it acknowledges; NULL: none */
	char *id;                   /* what it is resumed by; NULL: it cannot be */
	bool is_ours;               /* the link was begun here, and so the id is the peer's */
	/* what they sent */
	TAILQ_HEAD(acks_inbound_list, acks_inbound) inbound;
	uint32_t handled, received; /* h; handled, or being handled */
	uint32_t told;              /* the h that the peer was told last */
	bool owed;                  /* an <a/> is due when h reaches owed_for */
	uint32_t owed_for;
	bool failed;                /* a write failed: h stands still */
	struct iris_wait *drained;  /* a resumption waits until all is committed */
	/* what we sent */
	uint32_t sent, acked;
	struct sm_ask ask;
	bool is_asked;
	TAILQ_ENTRY(acks) asked_entry;
	/* theirs */
	struct iris_hash_node node; /* by id */
	bool is_lost;
	TAILQ_ENTRY(acks) lost_entry;
	struct iris_hash_node lost_node; /* by pair */
	int64_t lost_ms;
	char *pair;                 /* "theirs ours" */
};

TAILQ_HEAD(acks_list, acks);

/* Of one worker. */
struct acks_home {
	struct iris_hash ids;   /* theirs that can be resumed */
	struct iris_hash pairs; /* of those, the lost ones: one for each pair */
	struct acks_list lost;  /* the same, the longest lost one first */
	struct acks_list asked; /* their peers owe an answer, the longest asked one first */
};

static struct acks_home homes[WORKER_LIMIT];

static struct acks_home *
home_at(int worker)
{
	struct acks_home *home = &homes[worker];

	if (!home->lost.tqh_last) {
		TAILQ_INIT(&home->lost);
		TAILQ_INIT(&home->asked);
	}
	return home;
}

static struct acks_home *
home_here(void)
{
	return home_at(worker_index());
}

/* --- elements --- */

static void
send_element(struct iris_stream *stream, const char *name, const char *attribute, int64_t value)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_new(arena, name, NS_SM);

	if (attribute)
		element_set_int(element, attribute, value);
	stream_send(stream, element);
	arena_unref(&arena);
}

static void
send_failed(struct iris_stream *stream, enum iris_condition condition)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *failed = element_new(arena, "failed", NS_SM);

	element_add(failed, condition_name(condition), NS_STANZAS);
	stream_send(stream, failed);
	arena_unref(&arena);
}

/* §6 */
static void
break_too_high(struct link *link, const struct acks *acks, uint32_t h)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *app = element_new(arena, "handled-count-too-high", NS_SM);

	element_set_int(app, "h", h);
	element_set_int(app, "send-count", acks->sent);
	stream_error_app(link->stream, "undefined-condition", "more was acknowledged than was sent",
			 app);
	arena_unref(&arena);
}

static bool
parse_h(const struct iris_element *element, uint32_t *h_r)
{
	int64_t value;

	if (!str_to_int(element_get(element, "h"), 0, UINT32_MAX, &value))
		return false;
	*h_r = (uint32_t)value;
	return true;
}

/* --- life --- */

static void acks_send_r(struct sm_ask *ask);

static struct acks *
acks_ref(struct acks *acks)
{
	acks->refs++;
	return acks;
}

static void
acks_unref(struct acks **acks_p)
{
	struct acks *acks = *acks_p;

	*acks_p = NULL;
	if (--acks->refs > 0)
		return;
	IRIS_ASSERT(TAILQ_EMPTY(&acks->inbound) && !acks->is_lost && !acks->is_asked);
	free(acks->id);
	free(acks->pair);
	free(acks);
}

/* Of a link that is, or is about to be, up. */
static struct acks *
acks_new(struct link *link)
{
	struct acks *acks = iris_calloc(1, sizeof(*acks));

	acks->refs = 1;
	acks->home = home_here();
	acks->link = link;
	acks->is_ours = link->is_ours;
	TAILQ_INIT(&acks->inbound);
	sm_ask_init(&acks->ask, acks_send_r);
	link->acks = acks;
	stream_set_counting(link->stream, true);
	return acks;
}

static void
acks_set_asked(struct acks *acks, bool is_asked)
{
	struct acks_list *asked = &acks->home->asked;

	if (acks->is_asked)
		TAILQ_REMOVE(asked, acks, asked_entry);
	acks->is_asked = is_asked;
	if (is_asked)
		TAILQ_INSERT_TAIL(asked, acks, asked_entry);
}

static void
acks_detach(struct acks *acks)
{
	struct link *link = acks->link;

	sm_ask_cancel(&acks->ask);
	acks_set_asked(acks, false);
	acks->owed = false;
	acks->link = NULL;
	acks_unref(&link->acks);
}

void
acks_bind(struct acks *acks, struct route *route)
{
	IRIS_ASSERT(!acks->route && !route->acks);
	acks->route = route;
	route->acks = acks_ref(acks);
}

static void
leave_lost(struct acks *acks)
{
	struct acks_home *home = acks->home;

	if (!acks->is_lost)
		return;
	acks->is_lost = false;
	TAILQ_REMOVE(&home->lost, acks, lost_entry);
	hash_remove(&home->pairs, &acks->lost_node);
}

void
acks_drop(struct acks *acks)
{
	struct route *route = acks->route;

	(void)acks_ref(acks);
	leave_lost(acks);
	if (acks->id && !acks->is_ours) {
		struct acks *listed = acks;

		hash_remove(&acks->home->ids, &acks->node);
		acks_unref(&listed);
	}
	free(acks->id);
	acks->id = NULL;
	acks->route = NULL;
	if (route) {
		acks_unref(&route->acks);
		route_take_back(route);
	}
	acks_unref(&acks);
}

/* --- what they sent: §4 --- */

static void
acks_tell(struct acks *acks)
{
	acks->told = acks->handled;
	if (acks->link)
		send_element(acks->link->stream, "a", "h", acks->handled);
}

/* h has moved. */
static void
acks_check(struct acks *acks)
{
	struct iris_wait *wait = acks->drained;
	bool is_due = acks->owed && (int32_t)(acks->handled - acks->owed_for) >= 0;

	if (is_due || acks->handled - acks->told >= TELL_EVERY) {
		acks->owed = acks->owed && !is_due;
		acks_tell(acks);
	}
	if (wait && TAILQ_EMPTY(&acks->inbound)) {
		acks->drained = NULL;
		wait_done(wait);
	}
}

static void
acks_advance(struct acks *acks)
{
	struct acks_inbound *first;

	while ((first = TAILQ_FIRST(&acks->inbound)) && first->done) {
		TAILQ_REMOVE(&acks->inbound, first, entry);
		if (acks->failed)
			reader_failed(first->reader);
		else
			reader_handled(first->reader, first->id);
		reader_unref(&first->reader);
		free(first);
		acks->refs--; /* never the last: the caller holds one */
		if (!acks->failed)
			acks->handled++;
	}
}

/*
 * P7.2: what could not be written is not acknowledged. The peer resumes the link, and sends it
 * again.
 */
static void
acks_write_failed(struct acks *acks)
{
	if (acks->failed)
		return;
	acks->failed = true;
	if (acks->link)
		link_break(acks->link, "internal-server-error", "storage failed");
}

static void
acks_inbound_done(void *arg, bool failed)
{
	struct acks_inbound *inbound = arg;
	struct acks *acks = acks_ref(inbound->acks);

	inbound->done = true;
	if (failed)
		acks_write_failed(acks);
	acks_advance(acks);
	acks_check(acks);
	acks_unref(&acks);
}

enum iris_verdict
acks_stanza_ticket(struct iris_stream_ticket *arg)
{
	struct link *link = stream_role(arg->stream) == &federation_role ? link_of(arg->stream) :
									   NULL;
	struct acks_inbound *inbound;

	if (!link || !link->acks || arg->ticket)
		return IRIS_PASS;
	inbound = iris_calloc(1, sizeof(*inbound));
	inbound->acks = acks_ref(link->acks);
	link->acks->received++;
	TAILQ_INSERT_TAIL(&link->acks->inbound, inbound, entry);
	arg->ticket = ticket_new(acks_inbound_done, inbound);
	return IRIS_PASS;
}

void
acks_expect(struct acks *acks, struct reader *reader, int64_t id)
{
	struct acks_inbound *last = TAILQ_LAST(&acks->inbound, acks_inbound_list);

	IRIS_ASSERT(last && !last->reader && !last->done);
	last->reader = reader_ref(reader);
	last->id = id;
}

void
acks_handle_r(struct iris_stream *stream, struct iris_element *element)
{
	struct acks *acks = link_of(stream)->acks;

	if (!acks) {
		stream_error(stream, "unsupported-stanza-type", "nothing is acknowledged here");
	} else if (acks->handled == acks->received) {
		acks_tell(acks);
	} else {
		acks->owed = true;
		acks->owed_for = acks->received;
	}
}

/* --- what we sent: §4 --- */

static void
acks_send_r(struct sm_ask *ask)
{
	struct acks *acks = IRIS_CONTAINER(ask, struct acks, ask);

	acks_set_asked(acks, true);
	send_element(acks->link->stream, "r", NULL, 0);
}

void
acks_sent(struct acks *acks)
{
	acks->sent++;
	sm_ask_sent(&acks->ask);
}

/* False: h is more than was sent. */
static bool
acks_acknowledge(struct acks *acks, uint32_t h)
{
	uint32_t count = h - acks->acked;

	if (count > acks->sent - acks->acked)
		return false;
	acks->acked = h;
	if (acks->route && count > 0)
		route_acknowledge(acks->route, count);
	return true;
}

void
acks_handle_a(struct iris_stream *stream, struct iris_element *element)
{
	struct link *link = link_of(stream);
	struct acks *acks = link->acks;
	uint32_t h;

	if (!acks || !parse_h(element, &h)) {
		stream_error(stream, acks ? "invalid-xml" : "unsupported-stanza-type", NULL);
	} else if (!acks_acknowledge(acks, h)) {
		break_too_high(link, acks, h);
	} else {
		acks_set_asked(acks, false);
		sm_ask_answered(&acks->ask);
	}
}

/* --- links of ours: asking --- */

static void
ask_to_enable(struct link *link)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *enable = element_new(arena, "enable", NS_SM);

	link->asked_acks = ACKS_ENABLE;
	element_set(enable, "resume", IRIS_STR("true"));
	if (link->tells_ids) /* so do we, of what comes the other way */
		element_add(enable, "outbox", NS_OUTBOX);
	stream_send(link->stream, enable);
	arena_unref(&arena);
}

static void
ask_to_resume(struct link *link, const struct acks *acks)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *resume = element_new(arena, "resume", NS_SM);

	link->asked_acks = ACKS_RESUME;
	element_set(resume, "previd", str_from(acks->id));
	element_set_int(resume, "h", acks->handled);
	if (link->tells_ids)
		element_add(resume, "outbox", NS_OUTBOX);
	stream_send(link->stream, resume);
	arena_unref(&arena);
}

void
acks_ask(struct link *link)
{
	struct acks *acks = link->route ? link->route->acks : NULL;
	/* SECURITY: an id is for who has proven to be the one that gave it. */
	bool may_resume = acks && acks->is_ours && acks->id && !acks->link &&
			  TAILQ_EMPTY(&acks->inbound) &&
			  link_proves(link, route_remote(link->route));

	if (may_resume)
		ask_to_resume(link, acks);
	else
		ask_to_enable(link);
}

/* Of the answer to what was asked; false: it was not. */
static bool
was_asked(struct iris_stream *stream, unsigned asked)
{
	const struct link *link = link_of(stream);

	if (stream_is_initiated(stream) && link->asked_acks & asked && !link->is_up)
		return true;
	stream_error(stream, "unsupported-stanza-type", NULL);
	return false;
}

void
acks_handle_enabled(struct iris_stream *stream, struct iris_element *enabled)
{
	struct link *link = link_of(stream);
	struct iris_str id = element_get(enabled, "id"), resume = element_get(enabled, "resume");
	struct acks *acks;

	if (!was_asked(stream, ACKS_ENABLE))
		return;
	acks = acks_new(link);
	if ((str_is(resume, "true") || str_is(resume, "1")) && id.len > 0 && id.len <= ID_MAX)
		acks->id = str_dup(id);
	link_go_up(link);
}

/* The agreement goes on with this link. */
static void
acks_attach(struct acks *acks, struct link *link)
{
	acks->link = link;
	acks->received = acks->told = acks->handled;
	acks->failed = false;
	acks->sent = acks->acked; /* what did not arrive is counted when it is sent again */
	link->acks = acks_ref(acks);
	stream_set_counting(link->stream, true);
	federation_count(METRIC_RESUMED, 1);
	LOG(IRIS_LOG_NOTICE, "federation", "resumed",
	    LOG_STR("domain", jid_domain(stream_jid(link->stream))),
	    LOG_INT("again", acks->route ? acks->route->window.count : 0));
}

void
acks_handle_resumed(struct iris_stream *stream, struct iris_element *resumed)
{
	struct link *link = link_of(stream);
	struct acks *acks = link->route ? link->route->acks : NULL;
	uint32_t h = 0;

	if (!was_asked(stream, ACKS_RESUME))
		return;
	if (!acks || acks->link || !acks->id || !str_is(element_get(resumed, "previd"), acks->id) ||
	    !parse_h(resumed, &h)) {
		stream_error(stream, "invalid-xml", NULL);
	} else if (!acks_acknowledge(acks, h)) {
		break_too_high(link, acks, h);
	} else {
		acks_attach(acks, link);
		link_go_up(link);
	}
}

/* §5: it may say how far it got nevertheless. */
void
acks_handle_failed(struct iris_stream *stream, struct iris_element *failed)
{
	struct link *link = link_of(stream);
	struct acks *acks = link->route ? link->route->acks : NULL;
	uint32_t h;

	if (!was_asked(stream, ACKS_ENABLE | ACKS_RESUME))
		return;
	if (link->asked_acks == ACKS_ENABLE) {
		link_go_up(link);
		return;
	}
	if (acks && !acks->link) {
		if (parse_h(failed, &h))
			(void)acks_acknowledge(acks, h);
		acks_drop(acks);
	}
	ask_to_enable(link);
}

/* --- links of theirs: enabling (§3) --- */

void
acks_offer(struct iris_element *features)
{
	element_add(features, "sm", NS_SM);
}

/* SECURITY: only what a certificate proves is known again by it. */
static bool
may_be_resumable(struct link *link, const struct iris_element *enable)
{
	struct iris_str resume = element_get(enable, "resume");

	return (str_is(resume, "true") || str_is(resume, "1")) &&
	       option_int(&federation_self, OPT_RESUME_TIMEOUT) > 0 &&
	       link_proves(link, jid_domain(stream_jid(link->stream)));
}

static struct iris_str
link_pair(struct iris_arena *arena, const struct link *link)
{
	return arena_printf(arena, "%.*s %s", IRIS_STR_FMT(jid_domain(stream_jid(link->stream))),
			    link->to);
}

static void
make_resumable(struct acks *acks)
{
	struct iris_arena *arena = arena_new();

	acks->pair = str_dup(link_pair(arena, acks->link));
	acks->id = str_dup(random_id(arena, ID_BITS)); /* SECURITY: it cannot be guessed */
	hash_insert(&acks->home->ids, &acks_ref(acks)->node, str_from(acks->id));
	arena_unref(&arena);
}

static void
send_enabled(const struct acks *acks)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *enabled = element_new(arena, "enabled", NS_SM);

	if (acks->id) {
		element_set(enabled, "resume", IRIS_STR("true"));
		element_set(enabled, "id", str_from(acks->id));
		element_set_int(enabled, "max",
				option_int(&federation_self, OPT_RESUME_TIMEOUT) / 1000);
	}
	stream_send(acks->link->stream, enabled);
	arena_unref(&arena);
}

void
acks_handle_enable(struct iris_stream *stream, struct iris_element *enable)
{
	struct link *link = link_of(stream);
	struct acks *acks;

	if (stream_is_initiated(stream) || link->acks) {
		stream_error(stream, "policy-violation", "it is enabled already");
		return;
	}
	link->tells_ids = element_child(enable, "outbox", NS_OUTBOX) != NULL;
	acks = acks_new(link);
	if (may_be_resumable(link, enable))
		make_resumable(acks);
	send_enabled(acks);
	link->has_spoken = true;
	if (link->route)
		acks_bind(acks, link->route);
	else
		bidi_adopt(link);
}

/* --- losing a link --- */

/* SECURITY: one for each pair, so many of a worker, so long: no peer makes us keep more. */
static void
acks_await(struct acks *acks)
{
	struct acks_home *home = acks->home;
	struct iris_hash_node *other = hash_find(&home->pairs, str_from(acks->pair));

	if (other)
		acks_drop(IRIS_CONTAINER(other, struct acks, lost_node));
	else if (home->pairs.count >= LOST_MAX)
		acks_drop(TAILQ_FIRST(&home->lost));
	acks->is_lost = true;
	acks->lost_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&home->lost, acks, lost_entry);
	hash_insert(&home->pairs, &acks->lost_node, str_from(acks->pair));
}

void
acks_lose(struct link *link, bool keep)
{
	struct acks *acks = link->acks;

	if (!acks)
		return;
	(void)acks_ref(acks);
	acks_detach(acks);
	if (!keep || !acks->id || (acks->is_ours && !acks->route))
		acks_drop(acks);
	else if (!acks->is_ours)
		acks_await(acks);
	acks_unref(&acks);
}

/* --- links of theirs: resuming (§5) --- */

static struct acks *
acks_find(struct link *link, struct iris_str id)
{
	struct iris_hash_node *node = hash_find(&home_here()->ids, id);
	struct acks *acks = node ? IRIS_CONTAINER(node, struct acks, node) : NULL;
	struct iris_arena *arena = arena_new();
	struct iris_str domain = jid_domain(stream_jid(link->stream));

	/* SECURITY: an id is good for the pair that it was given to, and for no other. */
	if (acks && (!str_is(link_pair(arena, link), acks->pair) ||
		     !link_proves(link, domain)))
		acks = NULL;
	arena_unref(&arena);
	return acks;
}

/*
 * What the old link brought must be committed before h is told, or the peer would send it again and
 * it would be there twice. Fiber.
 */
static void
acks_drain(struct acks *acks)
{
	struct iris_wait wait;

	if (TAILQ_EMPTY(&acks->inbound))
		return;
	wait_init(&wait);
	acks->drained = &wait;
	wait_for(&wait, "federation: commits of the lost link");
}

static void
send_resumed(const struct acks *acks)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *resumed = element_new(arena, "resumed", NS_SM);

	element_set(resumed, "previd", str_from(acks->id));
	element_set_int(resumed, "h", acks->handled);
	stream_send(acks->link->stream, resumed);
	arena_unref(&arena);
}

/* With XEP-0288 the other direction goes on, too, with what has not arrived. */
static void
acks_resume(struct acks *acks, struct link *link, uint32_t h)
{
	leave_lost(acks);
	if (!acks_acknowledge(acks, h)) {
		break_too_high(link, acks, h);
		acks_drop(acks);
		return;
	}
	acks_attach(acks, link);
	send_resumed(acks);
	link->has_spoken = true;
	link->route = acks->route;
	if (link->route)
		route_up(link->route, link);
	else
		bidi_adopt(link);
}

/* The id was right: takes it from the link that it still has, and waits. */
static void
acks_take_over(struct acks *acks, struct iris_stream *stream, uint32_t h)
{
	(void)acks_ref(acks);
	stream_ref(stream);
	if (acks->link) /* its connection may be dead without our knowing */
		link_break(acks->link, "conflict", "it was resumed on another stream");
	acks_drain(acks);
	if (stream_state(stream) == IRIS_STREAM_BOUND) {
		if (acks->id && !acks->link)
			acks_resume(acks, link_of(stream), h);
		else
			send_failed(stream, IRIS_ITEM_NOT_FOUND);
	}
	stream_unref(&stream);
	acks_unref(&acks);
}

void
acks_handle_resume(struct iris_stream *stream, struct iris_element *resume)
{
	struct link *link = link_of(stream);
	struct acks *acks;
	uint32_t h;

	if (stream_is_initiated(stream) || link->acks || link->has_spoken || !parse_h(resume, &h)) {
		send_failed(stream, IRIS_UNEXPECTED_REQUEST);
		return;
	}
	link->tells_ids = element_child(resume, "outbox", NS_OUTBOX) != NULL;
	acks = acks_find(link, element_get(resume, "previd"));
	if (!acks || acks->drained) /* another one is resuming it right now */
		send_failed(stream, acks ? IRIS_RESOURCE_CONSTRAINT : IRIS_ITEM_NOT_FOUND);
	else
		acks_take_over(acks, stream, h);
}

/* --- time --- */

bool
acks_are_any(void)
{
	return home_here()->pairs.count > 0;
}

void
acks_tick(void)
{
	struct acks_home *home = home_here();
	int64_t now = worker_now_ms(), patience = option_int(&federation_self, OPT_ACK_TIMEOUT),
		keep = option_int(&federation_self, OPT_RESUME_TIMEOUT);
	struct acks *acks;

	while ((acks = TAILQ_FIRST(&home->asked)) && acks->ask.asked_ms + patience <= now) {
		LOG(IRIS_LOG_NOTICE, "federation", "not-acknowledged",
		    LOG_STR("domain", jid_domain(stream_jid(acks->link->stream))),
		    LOG_INT("stanzas", acks->sent - acks->acked));
		link_break(acks->link, "connection-timeout", "nothing is acknowledged");
	}
	while ((acks = TAILQ_FIRST(&home->lost)) && acks->lost_ms + keep <= now)
		acks_drop(acks);
}

void
acks_clean(int worker)
{
	struct acks_home *home = home_at(worker);
	struct acks *acks;

	while ((acks = TAILQ_FIRST(&home->lost)) != NULL)
		acks_drop(acks);
	hash_free(&home->ids);
	hash_free(&home->pairs);
}
