/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators see of other servers, and do about them: `federation list|show|retry|close`.  On
 * the fiber of whoever asks; each worker is visited, none for long.  Changes no policy: that is the
 * configuration's and the map's.
 */
#include <stdlib.h>

#include "iris/gate.h"
#include "modules/federation/link_private.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

static bool
refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return false;
}

static struct iris_str
number(struct iris_arena *arena, uint64_t value)
{
	return arena_printf(arena, "%llu", (unsigned long long)value);
}

static bool
read_domain(struct iris_command_call *call, unsigned field, struct iris_str *domain_r)
{
	struct iris_jid jid;

	if (!jid_parse(call->arena, call->values[field], &jid) || jid.node_len > 0 ||
	    !jid_is_bare(&jid))
		return refuse(call, IRIS_JID_MALFORMED, "This is not a domain");
	*domain_r = jid_domain(&jid);
	return true;
}

/* --- federation list --- */

/* A pair of a link, or what waits for one; it lives as long as the visit of its worker. */
struct pair_entry {
	const char *key; /* "THEIRS OURS ID": what the pages go by */
	size_t theirs_len, ours_len;
	struct link *link;        /* NULL: none */
	const struct route *route; /* what is written to it, or waits; NULL: nothing of this pair */
};

struct pair_line {
	struct iris_str key, cells[12];
};

static const char *const list_columns[] = {
	"domain", "ours", "link", "region",	    "tls",     "address", "since",
	"in",	  "out",  "unacknowledged", "waiting", "worker",  NULL,
};

struct pair_listing {
	struct iris_arena *arena; /* of the call */
	struct iris_str domain;   /* none: of all */
	const char *after;        /* a key; NULL: from the first */
	size_t limit, total, count;
	struct pair_line *lines;
	/* of the worker that is visited: the first `limit` entries, in order */
	struct iris_arena *scratch;
	struct pair_entry *page;
	size_t page_count;
};

static void
page_insert(struct pair_listing *listing, const struct pair_entry *entry)
{
	struct pair_entry *page = listing->page;
	size_t low = 0, high = listing->page_count;

	if (high == listing->limit && strcmp(entry->key, page[high - 1].key) > 0)
		return;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strcmp(page[middle].key, entry->key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (listing->page_count < listing->limit)
		listing->page_count++;
	memmove(&page[low + 1], &page[low],
		(listing->page_count - low - 1) * sizeof(*page));
	page[low] = *entry;
}

static void
list_pair(struct pair_listing *listing, struct iris_str theirs, struct iris_str ours,
	  struct pair_entry entry)
{
	struct iris_str id = entry.link ? stream_id(entry.link->stream) : IRIS_STR("-");

	if (!str_is_none(listing->domain) && !str_equal(listing->domain, theirs))
		return;
	listing->total++;
	entry.key = arena_printf(listing->scratch, "%.*s %.*s %.*s", IRIS_STR_FMT(theirs),
				 IRIS_STR_FMT(ours), IRIS_STR_FMT(id))
			    .base;
	entry.theirs_len = theirs.len;
	entry.ours_len = ours.len;
	if (!listing->after || strcmp(entry.key, listing->after) > 0)
		page_insert(listing, &entry);
}

/* Its pair is among the proven ones where both directions are (XEP-0288): once is enough. */
static void
list_link(struct pair_listing *listing, struct link *link)
{
	const struct route *route = link->route;

	if (route)
		list_pair(listing, route_remote(route), route_local(route),
			  (struct pair_entry){ .link = link, .route = route });
	HASH_FOREACH(node, &link->pairs) {
		struct iris_str pair = node->key, theirs = pair, ours = pair;

		theirs.len = (size_t)((const char *)memchr(pair.base, ' ', pair.len) - pair.base);
		ours.base += theirs.len + 1;
		ours.len -= theirs.len + 1;
		if (!route || !str_equal(theirs, route_remote(route)) ||
		    !str_equal(ours, route_local(route)))
			list_pair(listing, theirs, ours, (struct pair_entry){ .link = link });
	}
}

static void
list_waiting(const struct route *route, void *arg)
{
	list_pair(arg, route_remote(route), route_local(route),
		  (struct pair_entry){ .route = route });
}

static const char *
link_kind(const struct link *link)
{
	if (!link)
		return "none";
	return link->is_both_ways ? "both ways" : link->is_ours ? "out" : "in";
}

static struct pair_line
line_of(struct iris_arena *arena, const struct pair_entry *entry)
{
	const struct link *link = entry->link;
	const struct route *route = entry->route;
	struct iris_str key = arena_copy_str(arena, str_from(entry->key)), none = IRIS_STR("");

	return (struct pair_line){
		.key = key,
		.cells = {
			{ key.base, entry->theirs_len },
			{ key.base + entry->theirs_len + 1, entry->ours_len },
			str_from(link_kind(link)),
			link ? arena_copy_str(arena, str_from(link->region)) : none,
			link ? str_from(stream_tls_version(link->stream)) : none,
			link ? arena_copy_str(arena, stream_peer_address(link->stream)) : none,
			link ? datetime_format(arena, link->since_ms) : none,
			number(arena, link ? link->taken : 0),
			number(arena, link ? link->sent : 0),
			number(arena, route ? route->window.count : 0),
			number(arena, route ? route->queue.count : 0),
			number(arena, (uint64_t)worker_index()),
		},
	};
}

static void
list_here(void *arg)
{
	struct pair_listing *listing = arg;
	struct link *link = NULL;

	listing->scratch = arena_new();
	listing->page = iris_malloc((listing->limit + 1) * sizeof(*listing->page));
	listing->page_count = 0;
	while ((link = links_next(link)) != NULL)
		list_link(listing, link);
	remotes_each_waiting(list_waiting, listing);
	for (size_t i = 0; i < listing->page_count; i++)
		listing->lines[listing->count++] = line_of(listing->arena, &listing->page[i]);
	free(listing->page);
	arena_unref(&listing->scratch);
}

static int
line_compare(const void *a, const void *b)
{
	return strcmp(((const struct pair_line *)a)->key.base,
		      ((const struct pair_line *)b)->key.base);
}

static void
list_write(struct iris_command_call *call, struct pair_listing *listing)
{
	size_t shown = listing->count < listing->limit ? listing->count : listing->limit;

	qsort(listing->lines, listing->count, sizeof(*listing->lines), line_compare);
	command_table(call, list_columns);
	for (size_t i = 0; i < shown; i++)
		command_row(call, listing->lines[i].cells);
	call->note = listing->count > shown || (shown > 0 && shown == listing->limit) ?
			     arena_printf(call->arena,
					  "%zu of %zu; go on with --after \"%.*s\"", shown,
					  listing->total,
					  IRIS_STR_FMT(listing->lines[shown - 1].key)) :
			     arena_printf(call->arena, "%zu of %zu", shown, listing->total);
}

enum { LIST_DOMAIN, LIST_AFTER, LIST_LIMIT };

static const struct iris_command_field list_fields[] = {
	{ "domain", IRIS_FIELD_JID, .label = "Only links with this domain of theirs" },
	{ "after", IRIS_FIELD_TEXT, .label = "Go on behind this, which the page before has named" },
	{ "limit", IRIS_FIELD_TEXT, .label = "How many at most (100; up to 1000)" },
	{ .name = NULL },
};

static void
run_list(struct iris_command_call *call)
{
	struct pair_listing listing = { .arena = call->arena };
	int64_t limit = PAGE_DEFAULT;

	if (!str_is_empty(call->values[LIST_LIMIT]) &&
	    !str_to_int(call->values[LIST_LIMIT], 1, PAGE_MAX, &limit)) {
		refuse(call, IRIS_BAD_REQUEST, "The limit is not a number from 1 to 1000");
		return;
	}
	if (!str_is_empty(call->values[LIST_DOMAIN]) &&
	    !read_domain(call, LIST_DOMAIN, &listing.domain))
		return;
	if (!str_is_empty(call->values[LIST_AFTER]))
		listing.after = arena_copy_str(call->arena, call->values[LIST_AFTER]).base;
	listing.limit = (size_t)limit;
	listing.lines =
		arena_alloc(call->arena, listing.limit * worker_count() * sizeof(*listing.lines));
	for (int i = 0; i < (int)worker_count(); i++)
		worker_call(worker_at(i), "federation: list", list_here, &listing);
	list_write(call, &listing);
}

/* --- federation show --- */

struct domain_look {
	struct iris_command_call *call;
	struct iris_str domain;
	struct remote_view view;
	bool found;
};

static void
show_route(const struct route *route, void *arg)
{
	struct iris_command_call *call = ((struct domain_look *)arg)->call;

	command_row(call, (struct iris_str[]){ arena_copy_str(call->arena, route_local(route)),
					       str_from(link_kind(route->link)),
					       number(call->arena, route->queue.count),
					       number(call->arena, route->window.count) });
}

static void
show_here(void *arg)
{
	struct domain_look *look = arg;

	look->found = remote_look(look->domain, &look->view, show_route, look);
}

static struct iris_str
describe(struct iris_arena *arena, const struct domain_look *look)
{
	const struct remote_view *view = &look->view;
	struct iris_str region = gate_place(look->domain).region;
	struct iris_strbuf text = { .arena = arena };

	if (!str_is_none(region))
		strbuf_printf(&text, "Region %.*s. ", IRIS_STR_FMT(region));
	if (!policy_knows(look->domain))
		strbuf_printf(&text, "Not talked to: the map, or federation: open, allow, deny. ");
	if (!look->found)
		strbuf_printf(&text, "Nothing was for it lately.");
	else if (view->is_dialled)
		strbuf_printf(&text, "It is being dialled. ");
	else if (view->why && view->pause_ms > 0)
		strbuf_printf(&text, "Not dialled for %lld s. ",
			      (long long)(view->pause_ms + 999) / 1000);
	if (view->why)
		strbuf_printf(&text, "Failures in a row: %u, the last one: %s.", view->failures,
			      view->why);
	else if (look->found)
		strbuf_printf(&text, "No failure since it was reached, or was first asked for.");
	return strbuf_str(&text);
}

static const struct iris_command_field domain_fields[] = {
	{ "domain", IRIS_FIELD_JID, .required = true, .positional = true,
	  .label = "The other server's domain" },
	{ .name = NULL },
};

static void
run_show(struct iris_command_call *call)
{
	static const char *const columns[] = { "ours", "link", "waiting", "unacknowledged", NULL };
	struct domain_look look = { .call = call };

	if (!read_domain(call, 0, &look.domain))
		return;
	command_table(call, columns);
	home_call(look.domain, "federation: show", show_here, &look);
	call->note = describe(call->arena, &look);
}

/* --- federation retry --- */

static void
retry_here(void *arg)
{
	struct domain_look *look = arg;

	look->found = remote_retry(look->domain);
}

static void
run_retry(struct iris_command_call *call)
{
	struct domain_look look = { .call = call };

	if (!read_domain(call, 0, &look.domain))
		return;
	home_call(look.domain, "federation: retry", retry_here, &look);
	if (look.found)
		call->note = IRIS_STR("What waits for it makes it be dialled now; without that, "
				      "what comes next does.");
	else
		refuse(call, IRIS_ITEM_NOT_FOUND, "Nothing was for that domain lately");
}

/* --- federation close --- */

struct closing {
	struct iris_str domain;
	size_t count;
};

static bool
link_is_with(const struct link *link, struct iris_str domain)
{
	if (link->route && str_equal(route_remote(link->route), domain))
		return true;
	HASH_FOREACH(node, &link->pairs)
		if (node->key.len > domain.len && node->key.base[domain.len] == ' ' &&
		    memcmp(node->key.base, domain.base, domain.len) == 0)
			return true;
	return false;
}

static void
close_here(void *arg)
{
	struct closing *closing = arg;
	struct link *link, *next;

	for (link = links_next(NULL); link; link = next) {
		next = links_next(link);
		if (!link_is_with(link, closing->domain))
			continue;
		link_close(link);
		closing->count++;
	}
}

static void
run_close(struct iris_command_call *call)
{
	struct closing closing = { .count = 0 };

	if (!read_domain(call, 0, &closing.domain))
		return;
	for (int i = 0; i < (int)worker_count(); i++)
		worker_call(worker_at(i), "federation: close", close_here, &closing);
	if (closing.count == 0)
		refuse(call, IRIS_ITEM_NOT_FOUND, "There is no link with that domain");
	else
		call->note = arena_printf(call->arena,
					  "%zu closed; what comes next brings up others",
					  closing.count);
}

/* --- the table --- */

static const struct iris_command command_list = {
	.noun = "federation", .verb = "list",
	.summary = "List the streams to and from other servers, and what waits for one",
	.role = IRIS_ROLE_OPERATOR, .fields = list_fields, .run = run_list,
};

static const struct iris_command command_show = {
	.noun = "federation", .verb = "show",
	.summary = "Show what waits for another server, and why it could not be reached",
	.role = IRIS_ROLE_OPERATOR, .fields = domain_fields, .run = run_show,
};

static const struct iris_command command_retry = {
	.noun = "federation", .verb = "retry",
	.summary = "Dial another server now, without the pause after its failures",
	.role = IRIS_ROLE_OPERATOR, .fields = domain_fields, .run = run_retry,
};

static const struct iris_command command_close = {
	.noun = "federation", .verb = "close", .summary = "Close the streams with another server",
	.role = IRIS_ROLE_OPERATOR, .fields = domain_fields, .run = run_close,
};

const struct iris_command *const federation_commands[] = {
	&command_list, &command_show, &command_retry, &command_close, NULL,
};
