/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators do with sessions: list them a page at a time, close them, tell everybody
 * something.  Each command visits the workers one after the other; none holds up a loop for long.
 */
#include <stdlib.h>

#include "im_private.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define SLICE 256 /* deliveries without a pause */

static bool
refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return false;
}

/* --- session list --- */

struct session_line {
	struct iris_str jid, state, show, address;
	int64_t priority, since_ms;
	int worker;
};

struct session_listing {
	struct iris_arena *arena; /* of the call: who fills it waits for nobody meanwhile */
	struct iris_str bare;     /* none: of all users */
	struct iris_str after;
	size_t limit;
	struct session_line *lines;
	size_t count, total;
};

static int
str_compare(struct iris_str a, struct iris_str b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len ? memcmp(a.base, b.base, len) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

/*
 * Keeps the `limit` smallest addresses, in order. Most of many sessions are turned away at the last
 * one.
 */
static void
page_insert(struct iris_session **page, size_t *count, size_t limit, struct iris_session *session)
{
	struct iris_str jid = jid_full(&session->jid);
	size_t low = 0, high = *count;

	if (*count == limit && str_compare(jid, jid_full(&page[limit - 1]->jid)) > 0)
		return;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (str_compare(jid_full(&page[middle]->jid), jid) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (*count < limit)
		(*count)++;
	memmove(&page[low + 1], &page[low], (*count - low - 1) * sizeof(*page));
	page[low] = session;
}

static struct session_line
session_line_of(struct iris_arena *arena, const struct iris_session *session)
{
	struct session_line line = {
		.jid = arena_copy_str(arena, jid_full(&session->jid)),
		.state = str_from(session->stream ? (session->presence ? "available" : "connected")
						  : "detached"),
		.priority = session->priority,
		.since_ms = session->since_ms,
		.worker = worker_index(),
	};

	if (session->presence)
		line.show = arena_copy_str(
			arena, element_child_text(session->presence->root, "show", NS_CLIENT));
	if (session->stream)
		line.address = arena_copy_str(arena, stream_peer_address(session->stream));
	return line;
}

static void
list_here(void *arg)
{
	struct session_listing *listing = arg;
	struct iris_session **page =
		iris_malloc((listing->limit + 1) * sizeof(struct iris_session *));
	size_t count = 0;

	HASH_FOREACH(node, &im_home()->sessions) {
		struct iris_session *session = IRIS_CONTAINER(node, struct iris_session, node);

		if (listing->bare.base && !str_equal(listing->bare, jid_bare(&session->jid)))
			continue;
		listing->total++;
		if (!listing->after.base ||
		    str_compare(jid_full(&session->jid), listing->after) > 0)
			page_insert(page, &count, listing->limit, session);
	}
	for (size_t i = 0; i < count; i++)
		listing->lines[listing->count++] = session_line_of(listing->arena, page[i]);
	free(page);
}

static int
line_compare(const void *a, const void *b)
{
	return str_compare(((const struct session_line *)a)->jid,
			   ((const struct session_line *)b)->jid);
}

static void
list_write(struct iris_command_call *call, struct session_listing *listing)
{
	static const char *const columns[] = { "session", "state", "show",   "priority",
					       "address", "since", "worker", NULL };
	size_t shown = listing->count < listing->limit ? listing->count : listing->limit;

	qsort(listing->lines, listing->count, sizeof(*listing->lines), line_compare);
	command_table(call, columns);
	for (size_t i = 0; i < shown; i++) {
		const struct session_line *line = &listing->lines[i];

		command_row(call,
			    (struct iris_str[]){
				    line->jid, line->state, line->show,
				    arena_printf(call->arena, "%lld", (long long)line->priority),
				    line->address, datetime_format(call->arena, line->since_ms),
				    arena_printf(call->arena, "%d", line->worker) });
	}
	call->note = arena_printf(
		call->arena, "%zu of %zu sessions%s", shown, listing->total,
		listing->count > shown || shown == listing->limit ? "; go on with --after" : "");
}

enum { LIST_USER, LIST_AFTER, LIST_LIMIT };

static bool
list_read(struct iris_command_call *call, struct session_listing *listing)
{
	int64_t limit = PAGE_DEFAULT;
	struct iris_jid user;

	if (!str_is_empty(call->values[LIST_LIMIT]) &&
	    !str_to_int(call->values[LIST_LIMIT], 1, PAGE_MAX, &limit))
		return refuse(call, IRIS_BAD_REQUEST, "The limit is not a number from 1 to 1000");
	listing->limit = (size_t)limit;
	if (!str_is_empty(call->values[LIST_AFTER]))
		listing->after = call->values[LIST_AFTER];
	if (str_is_empty(call->values[LIST_USER]))
		return true;
	if (!jid_parse(call->arena, call->values[LIST_USER], &user))
		return refuse(call, IRIS_JID_MALFORMED, "The user is not an address");
	listing->bare = jid_bare(&user);
	return true;
}

static void
run_session_list(struct iris_command_call *call)
{
	struct session_listing listing = { .arena = call->arena };

	if (!list_read(call, &listing))
		return;
	listing.lines =
		arena_alloc(call->arena, listing.limit * worker_count() * sizeof(*listing.lines));
	for (int i = 0; i < (int)worker_count(); i++)
		worker_call(worker_at(i), "session: list", list_here, &listing);
	list_write(call, &listing);
}

/* --- session close --- */

struct session_closing {
	struct iris_jid jid;
	size_t closed;
};

static void
close_here(void *arg)
{
	static const char *const text = "Closed by an administrator";
	struct session_closing *closing = arg;
	struct iris_user *user = user_find(jid_bare(&closing->jid));
	struct iris_session *session, *next;

	if (!user)
		return;
	user_hold(user);
	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (!jid_is_bare(&closing->jid) && !jid_equal(&closing->jid, &session->jid))
			continue;
		session_close(session, "policy-violation", text);
		closing->closed++;
	}
	user_release(&user);
}

static void
run_session_close(struct iris_command_call *call)
{
	struct session_closing closing = { .closed = 0 };

	if (!jid_parse(call->arena, call->values[0], &closing.jid)) {
		refuse(call, IRIS_JID_MALFORMED, "This is not an address");
		return;
	}
	home_call(jid_bare(&closing.jid), "session: close", close_here, &closing);
	if (closing.closed == 0)
		refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such session");
	else
		call->note = arena_printf(call->arena, "%zu closed", closing.closed);
}

/* --- message announce --- */

struct announcement {
	struct iris_str subject, body;
	size_t sent;
};

static struct iris_stanza *
announcement_new(const struct announcement *what, struct iris_str domain)
{
	struct iris_stanza *stanza = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_jid from = jid_from_prepared(domain);

	stanza_set_from(stanza, &from);
	stanza_set_id(stanza, random_id(stanza->arena, 96));
	if (!str_is_empty(what->subject))
		element_add_text(stanza->root, "subject", NULL, what->subject);
	element_add_text(stanza->root, "body", NULL, what->body);
	stanza_freeze(stanza);
	return stanza;
}

static void
announce_to(struct iris_session *session, struct announcement *what, struct iris_stanza **stanza_p)
{
	struct iris_delivery delivery;

	if (!session_takes_messages(session))
		return;
	/* From the host of each user; most have the same as the one before. */
	if (*stanza_p && !str_equal(jid_domain(&(*stanza_p)->from), jid_domain(&session->jid)))
		stanza_unref(stanza_p);
	if (!*stanza_p)
		*stanza_p = announcement_new(what, jid_domain(&session->jid));
	delivery = (struct iris_delivery){ .stanza = *stanza_p, .to = session->jid };
	session_deliver(session, &delivery);
	what->sent++;
}

static void
announce_here(void *arg)
{
	struct announcement *what = arg;
	struct iris_hash *sessions = &im_home()->sessions;
	struct iris_session **all =
		iris_malloc((sessions->count + 1) * sizeof(struct iris_session *));
	struct iris_stanza *stanza = NULL;
	size_t count = 0;
	bool going = true;

	HASH_FOREACH(node, sessions)
		all[count++] = session_ref(IRIS_CONTAINER(node, struct iris_session, node));
	for (size_t i = 0; i < count; i++) {
		if (going)
			announce_to(all[i], what, &stanza);
		session_unref(&all[i]);
		if (going && i % SLICE == SLICE - 1)
			going = fiber_sleep(1);
	}
	stanza_unref(&stanza);
	free(all);
}

enum { ANNOUNCE_TEXT, ANNOUNCE_SUBJECT };

static void
run_message_announce(struct iris_command_call *call)
{
	struct announcement what = { .body = call->values[ANNOUNCE_TEXT],
				     .subject = call->values[ANNOUNCE_SUBJECT] };

	if (str_is_empty(what.body)) {
		refuse(call, IRIS_BAD_REQUEST, "There is nothing to say");
		return;
	}
	for (int i = 0; i < (int)worker_count(); i++)
		worker_call(worker_at(i), "message: announce", announce_here, &what);
	call->note = arena_printf(call->arena, "Sent to %zu sessions", what.sent);
}

static const struct iris_command session_list = {
	.noun = "session",
	.verb = "list",
	.summary = "List the sessions, in order of their addresses",
	.role = IRIS_ROLE_SUPER_ADMIN,
	.fields =
		(const struct iris_command_field[]){
			[LIST_USER] = { .name = "user",
					.kind = IRIS_FIELD_JID,
					.label = "Only of this user" },
			[LIST_AFTER] = { .name = "after",
					 .kind = IRIS_FIELD_TEXT,
					 .label = "Start behind this session" },
			[LIST_LIMIT] = { .name = "limit",
					 .kind = IRIS_FIELD_INT,
					 .fallback = "100",
					 .label = "At most so many" },
			{ .name = NULL },
		},
	.run = run_session_list,
};

static const struct iris_command session_close_command = {
	.noun = "session", .verb = "close", .summary = "Close a session, or all sessions of a user",
	.role = IRIS_ROLE_SUPER_ADMIN,
	.fields = (const struct iris_command_field[]){
		{ .name = "jid", .kind = IRIS_FIELD_JID, .required = true, .positional = true,
		  .label = "Full address of the session, or address of the user" },
		{ .name = NULL },
	},
	.run = run_session_close,
};

static const struct iris_command message_announce = {
	.noun = "message",
	.verb = "announce",
	.summary = "Send a message to everybody who is online",
	.role = IRIS_ROLE_SUPER_ADMIN,
	.dangerous = true,
	.fields =
		(const struct iris_command_field[]){
			[ANNOUNCE_TEXT] = { .name = "text",
					    .kind = IRIS_FIELD_TEXTS,
					    .required = true,
					    .label = "What to say" },
			[ANNOUNCE_SUBJECT] = { .name = "subject",
					       .kind = IRIS_FIELD_TEXT,
					       .label = "Subject" },
			{ .name = NULL },
		},
	.run = run_message_announce,
};

const struct iris_command *const im_commands[] = {
	&session_list, &session_close_command, &message_announce, NULL,
};
