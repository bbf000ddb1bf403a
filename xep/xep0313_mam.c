/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0313 1.1: Message Archive Management, of accounts.  Home worker of the account, on a fiber.
 *
 * A query becomes one read of the account's log; its results are messages to the session that
 * asked, before the <fin/>.  An account reads its own archive only.
 *
 * It does not do: preferences (§7 is XEP-0441's), archives of rooms.
 */
#include "modules/archive/archive.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0059_rsm.h"
#include "xep/xep0297_forwarding.h"

#define NS_MAM "urn:xmpp:mam:2"

enum { OPT_PAGE };

/* What is asked for, once read. */
struct mam_query {
	struct iris_log_query log;
	struct iris_str ids;   /* one a line; none: not asked by id */
	struct iris_jid with;  /* none: everybody */
	bool flip;
	bool is_empty;         /* RSM max 0: only whether it is complete */
};

static struct iris_module_self mam_self;

static struct iris_metric mam_metrics[] = {
	{ .name = "iris_mam_queries_total", .help = "Queries of archives" },
	{ .name = "iris_mam_results_total", .help = "Messages given out by queries of archives" },
	{ .name = NULL },
};

static enum iris_verdict
mam_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/* --- reading the query: §4 --- */

/* An id of ours; false: it cannot be one. */
static bool
mam_parse_id(struct iris_str text, int64_t *id_r)
{
	return str_to_int(text, 1, INT64_MAX, id_r);
}

/* COMPAT(clients that leave the zone out): the server's own, UTC, is meant. */
static bool
mam_parse_time(struct iris_arena *arena, struct iris_str text, int64_t *time_r)
{
	return datetime_parse(text, time_r) ||
	       datetime_parse(arena_printf(arena, "%.*sZ", IRIS_STR_FMT(text)), time_r);
}

static enum iris_condition
mam_read_times(struct mam_query *query, const struct iris_element *form)
{
	struct iris_str start = form_value(form, "start"), end = form_value(form, "end");

	if (!str_is_none(start) && !mam_parse_time(form->arena, start, &query->log.from_ms))
		return IRIS_BAD_REQUEST;
	if (!str_is_none(end) && !mam_parse_time(form->arena, end, &query->log.until_ms))
		return IRIS_BAD_REQUEST;
	return IRIS_NO_ERROR;
}

/* §4.1.4: the range that pages are pages of. Ids that are none of ours are not in the archive. */
static enum iris_condition
mam_read_range(struct mam_query *query, const struct iris_element *form)
{
	struct iris_str after = form_value(form, "after-id"), before = form_value(form, "before-id");

	if (!str_is_none(after) && !mam_parse_id(after, &query->log.after_id))
		return IRIS_ITEM_NOT_FOUND;
	if (!str_is_none(before) && !mam_parse_id(before, &query->log.before_id))
		return IRIS_ITEM_NOT_FOUND;
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_form(struct mam_query *query, const struct iris_element *form)
{
	struct iris_str with = form_value(form, "with");
	enum iris_condition condition;

	if (!form_is_type(form, NS_MAM))
		return IRIS_BAD_REQUEST;
	if (!str_is_none(with)) {
		if (!jid_parse(form->arena, with, &query->with))
			return IRIS_JID_MALFORMED;
		query->log.peer = vault_peer_id(jid_bare(&query->with));
	}
	query->ids = form_values(form, "ids");
	condition = mam_read_times(query, form);
	return condition == IRIS_NO_ERROR ? mam_read_range(query, form) : condition;
}

static enum iris_condition
mam_read_page(struct mam_query *query, const struct iris_element *payload)
{
	struct rsm_request rsm;
	int64_t id;

	if (!rsm_read(payload, (size_t)option_int(&mam_self, OPT_PAGE), &rsm))
		return IRIS_BAD_REQUEST;
	query->is_empty = rsm.max == 0;
	query->log.limit = rsm.max ? rsm.max : 1;
	query->log.backwards = !str_is_none(rsm.before);
	if (!str_is_empty(rsm.before)) {
		if (!mam_parse_id(rsm.before, &id))
			return IRIS_ITEM_NOT_FOUND;
		if (query->log.before_id == 0 || id < query->log.before_id)
			query->log.before_id = id;
	}
	if (!str_is_empty(rsm.after)) {
		if (!mam_parse_id(rsm.after, &id))
			return IRIS_ITEM_NOT_FOUND;
		if (id > query->log.after_id)
			query->log.after_id = id;
	}
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_query(struct iris_request *request, struct mam_query *query)
{
	const struct iris_element *payload = request->payload, *form = form_find(payload, "submit");
	enum iris_condition condition = IRIS_NO_ERROR;

	*query = (struct mam_query){ .log.reader = request->user->account.id };
	query->flip = element_child(payload, "flip-page", NS_MAM) != NULL;
	if (form)
		condition = mam_read_form(query, form);
	return condition == IRIS_NO_ERROR ? mam_read_page(query, payload) : condition;
}

/* --- reading the archive --- */

static enum iris_condition
mam_log_read(struct iris_request *request, const struct iris_log_query *query, struct iris_log_page *page_r)
{
	return log_read(query, request->user->account.owner, request->arena, page_r) == IRIS_VAULT_OK ?
		       IRIS_NO_ERROR : IRIS_INTERNAL_SERVER_ERROR;
}

/* §4.3.2: an id that is not in the archive is an error, not an empty page. */
static enum iris_condition
mam_check_id(struct iris_request *request, int64_t id)
{
	struct iris_log_query one = { .reader = request->user->account.id, .after_id = id - 1, .before_id = id + 1,
		.limit = 1 };
	struct iris_log_page page = { .count = 0 };
	enum iris_condition condition;

	if (id == 0)
		return IRIS_NO_ERROR;
	condition = mam_log_read(request, &one, &page);
	return condition == IRIS_NO_ERROR && page.count == 0 ? IRIS_ITEM_NOT_FOUND : condition;
}

/* §4.1.5: single messages; all of them must be there. */
static enum iris_condition
mam_read_ids(struct iris_request *request, struct mam_query *query, struct iris_log_page *page_r)
{
	size_t limit = (size_t)option_int(&mam_self, OPT_PAGE);
	struct iris_str rest = query->ids;

	page_r->entries = arena_alloc(request->arena, limit * sizeof(*page_r->entries));
	while (rest.len > 0) {
		const char *end = memchr(rest.base, '\n', rest.len);
		struct iris_str line = { rest.base, end ? (size_t)(end - rest.base) : rest.len };
		struct iris_log_query one = { .reader = query->log.reader, .limit = 1 };
		struct iris_log_page found = { .count = 0 };
		int64_t id;

		rest.base += line.len + (end ? 1 : 0);
		rest.len -= line.len + (end ? 1 : 0);
		if (page_r->count == limit)
			return IRIS_POLICY_VIOLATION;
		if (!mam_parse_id(line, &id))
			return IRIS_ITEM_NOT_FOUND;
		one.after_id = id - 1;
		one.before_id = id + 1;
		if (mam_log_read(request, &one, &found) != IRIS_NO_ERROR)
			return IRIS_INTERNAL_SERVER_ERROR;
		if (found.count == 0)
			return IRIS_ITEM_NOT_FOUND;
		page_r->entries[page_r->count++] = found.entries[0];
	}
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_archive(struct iris_request *request, struct mam_query *query, struct iris_log_page *page_r)
{
	enum iris_condition condition;

	*page_r = (struct iris_log_page){ .count = 0 };
	if (!str_is_empty(query->ids))
		return mam_read_ids(request, query, page_r);
	condition = mam_check_id(request, query->log.after_id);
	if (condition == IRIS_NO_ERROR)
		condition = mam_check_id(request, query->log.before_id);
	return condition == IRIS_NO_ERROR ? mam_log_read(request, &query->log, page_r) : condition;
}

/* --- results: §4.2, §5 --- */

/* The peer of an entry is a hash of the bare address; what was asked for may be a full one. */
static bool
mam_is_with(const struct mam_query *query, const struct iris_stanza *stanza)
{
	const struct iris_jid *with = &query->with;

	if (jid_is_none(with))
		return true;
	if (!jid_is_bare(with))
		return jid_equal(with, &stanza->from) || jid_equal(with, &stanza->to);
	return jid_bare_equal(with, &stanza->from) || jid_bare_equal(with, &stanza->to);
}

static struct iris_str
mam_id(struct iris_arena *arena, const struct iris_log_entry *entry)
{
	return arena_printf(arena, "%lld", (long long)entry->id);
}

static void
mam_send_result(struct iris_request *request, const struct iris_log_entry *entry, const struct iris_stanza *stanza)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_element *result = element_add(message->root, "result", NS_MAM);

	stanza_set_from(message, &request->user->jid);
	stanza_set_to(message, &request->session->jid);
	element_set(result, "queryid", element_get(request->payload, "queryid"));
	element_set(result, "id", mam_id(message->arena, entry));
	forwarded_add(result, stanza->root, entry->time_ms);
	session_send(request->session, &message);
	metric_add(&mam_metrics[1], 1);
}

static void
mam_send_entry(struct iris_request *request, const struct mam_query *query, const struct iris_log_entry *entry)
{
	struct iris_stanza *stanza = archive_entry_stanza(entry);

	if (stanza && mam_is_with(query, stanza))
		mam_send_result(request, entry, stanza);
	stanza_unref(&stanza);
}

static void
mam_reply_fin(struct iris_request *request, const struct mam_query *query, const struct iris_log_page *page)
{
	struct iris_str first = IRIS_STR_NONE, last = IRIS_STR_NONE;

	request->reply = element_new(request->arena, "fin", NS_MAM);
	if (query->is_empty ? page->count == 0 : !page->more)
		element_set(request->reply, "complete", IRIS_STR("true"));
	if (page->count > 0 && !query->is_empty) {
		first = mam_id(request->arena, &page->entries[0]);
		last = mam_id(request->arena, &page->entries[page->count - 1]);
	}
	rsm_write(request->reply, first, last);
}

static enum iris_verdict
mam_query_set(struct iris_request *request)
{
	struct mam_query query;
	struct iris_log_page page;
	enum iris_condition condition = mam_read_query(request, &query);

	metric_add(&mam_metrics[0], 1);
	if (condition == IRIS_NO_ERROR)
		condition = mam_read_archive(request, &query, &page);
	if (condition != IRIS_NO_ERROR)
		return mam_refuse(request, condition, NULL);
	if (!request->session || request->session->closing)
		return mam_refuse(request, IRIS_RECIPIENT_UNAVAILABLE, NULL);
	for (size_t i = 0; i < page.count && !query.is_empty; i++)
		mam_send_entry(request, &query, &page.entries[query.flip ? page.count - 1 - i : i]);
	mam_reply_fin(request, &query, &page);
	return IRIS_DONE;
}

/* §4.1.6: which fields are understood. */
static enum iris_verdict
mam_query_get(struct iris_request *request)
{
	struct iris_element *form;

	request->reply = element_new(request->arena, "query", NS_MAM);
	form = form_add(request->reply, "form", NS_MAM);
	form_add_field(form, "jid-single", "with", IRIS_STR_NONE);
	form_add_field(form, "text-single", "start", IRIS_STR_NONE);
	form_add_field(form, "text-single", "end", IRIS_STR_NONE);
	form_add_field(form, "text-single", "before-id", IRIS_STR_NONE);
	form_add_field(form, "text-single", "after-id", IRIS_STR_NONE);
	form_add_field(form, "list-multi", "ids", IRIS_STR_NONE);
	return IRIS_DONE;
}

/* §6: the first and the last message. */
static enum iris_verdict
mam_metadata(struct iris_request *request)
{
	struct iris_log_query query = { .reader = request->user->account.id, .limit = 1 };

	request->reply = element_new(request->arena, "metadata", NS_MAM);
	for (int end = 0; end < 2; end++) {
		struct iris_log_page page = { .count = 0 };
		struct iris_element *element;

		query.backwards = end == 1;
		if (mam_log_read(request, &query, &page) != IRIS_NO_ERROR)
			return mam_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
		if (page.count == 0)
			break;
		element = element_add(request->reply, end ? "end" : "start", NULL);
		element_set(element, "id", mam_id(request->arena, &page.entries[0]));
		element_set(element, "timestamp", datetime_format(request->arena, page.entries[0].time_ms));
	}
	return IRIS_DONE;
}

static const struct iris_feature mam_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_MAM },
	{ IRIS_DISCO_ACCOUNT, NS_MAM "#extended" },
	{ IRIS_DISCO_HOST, NS_MAM },
	{ .var = NULL },
};

static const struct iris_iq mam_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_SET, "query", NS_MAM, IRIS_SELF, mam_query_set },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_MAM, IRIS_SELF, mam_query_get },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "metadata", NS_MAM, IRIS_SELF, mam_metadata },
	{ .name = NULL },
};

static const struct iris_option mam_options[] = {
	[OPT_PAGE] = { "page-max", IRIS_OPT_INT, "100", .min = 1, .max = 1000, .reloadable = true,
		.help = "The largest page of results; also what a client gets that asks for none." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0313 = {
	IRIS_MODULE_HEAD,
	.name = "xep0313",
	.summary = "Message Archive Management",
	.xep = "XEP-0313 1.1.3",
	.needs = IRIS_NAMES("archive", "xep0004", "xep0059", "xep0297", "xep0359"),
	.self = &mam_self,
	.options = mam_options,
	.features = mam_features,
	.iq = mam_iq,
	.metrics = mam_metrics,
};
