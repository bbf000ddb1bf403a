/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0313 1.1: Message Archive Management.  Home worker of the archive's address, on a fiber.
 *
 * A query becomes one read of the archive's log, or a few when it asks for what the index does not
 * know (a full address); its results are messages to the session that asked, before the <fin/>.
 * No <count/> (XEP-0059 §2.7): it would have to look at every entry that matches, however large
 * the archive.  An account reads its own archive only; other archives are answered by the plug-ins
 * whose they are, through xep0313_mam.h.
 *
 * It does not do: preferences (XEP-0441).
 */
#include <stdlib.h>

#include "modules/archive/archive.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0059_rsm.h"
#include "xep/xep0297_forwarding.h"
#include "xep/xep0313_mam.h"

#define MAM_ROUNDS 10 /* reads for one page of a full address: what does not match is passed over */

enum { OPT_PAGE };
enum { NAMED_AFTER, NAMED_BEFORE, NAMED_PAGE_AFTER, NAMED_PAGE_BEFORE, MAM_NAMED };

/* What is asked for, once read. */
struct mam_query {
	const struct mam_archive *archive;
	struct iris_log_query log;
	struct iris_str ids;      /* one a line; none: not asked by id */
	struct iris_jid with;     /* none: everybody */
	enum mam_match match;     /* how the archive finds what is with it */
	int64_t named[MAM_NAMED]; /* ids that must be in the archive; 0: none */
	/* of a page that was left unfinished: where the next one begins */
	int64_t edge;
	bool flip;
	bool is_empty;            /* RSM max 0: only whether it is complete */
};

static struct iris_module_self mam_self;

static struct iris_metric mam_metrics[] = {
	{ .name = "iris_mam_queries_total", .help = "Queries of archives" },
	{ .name = "iris_mam_results_total", .help = "Messages given out by queries of archives" },
	{ .name = NULL },
};

static enum iris_verdict
mam_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal = (struct iris_refusal){ .condition = condition };
	if (condition == IRIS_GONE)
		request->refusal.text = "The keys of this company's data were destroyed";
	return IRIS_REFUSE;
}

/* --- reading the query: §4 --- */

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

/*
 * The narrower of what the form and the page say. False: no id of this archive.
 * SECURITY: one of another archive is answered as one that was made up.
 */
static bool
mam_name_after(struct mam_query *query, struct iris_str text, int64_t *named)
{
	if (str_is_empty(text))
		return true;
	if (!log_id_open(text, query->log.reader, named))
		return false;
	if (*named > query->log.after_id)
		query->log.after_id = *named;
	return true;
}

static bool
mam_name_before(struct mam_query *query, struct iris_str text, int64_t *named)
{
	if (str_is_empty(text))
		return true;
	if (!log_id_open(text, query->log.reader, named))
		return false;
	if (query->log.before_id == 0 || *named < query->log.before_id)
		query->log.before_id = *named;
	return true;
}

/* §4.1.6: what is not understood must not be passed over: the results would be others. */
static bool
mam_knows_fields(const struct iris_element *form)
{
	static const char *const known[] = {
		"FORM_TYPE", "with", "start", "end", "before-id", "after-id", "ids",
	};

	for (struct iris_element *field = element_child(form, "field", NS_DATA); field;
	     field = element_next(field, "field", NS_DATA)) {
		bool found = false;

		for (size_t i = 0; i < IRIS_COUNT(known); i++)
			found |= str_is(element_get(field, "var"), known[i]);
		if (!found)
			return false;
	}
	return true;
}

static enum iris_condition
mam_read_form(struct mam_query *query, const struct iris_element *form)
{
	struct iris_str with = form_value(form, "with");
	enum iris_condition condition;

	if (!form_is_type(form, NS_MAM))
		return IRIS_BAD_REQUEST;
	if (!mam_knows_fields(form))
		return IRIS_FEATURE_NOT_IMPLEMENTED;
	if (!str_is_none(with)) {
		if (!jid_parse(form->arena, with, &query->with))
			return IRIS_JID_MALFORMED;
		query->match = query->archive->kind->match(query->archive, &query->with,
							   &query->log.peer);
	}
	query->ids = form_values(form, "ids");
	condition = mam_read_times(query, form);
	if (condition != IRIS_NO_ERROR)
		return condition;
	/* §4.1.4: the range that pages are pages of. */
	if (!mam_name_after(query, form_value(form, "after-id"), &query->named[NAMED_AFTER]) ||
	    !mam_name_before(query, form_value(form, "before-id"), &query->named[NAMED_BEFORE]))
		return IRIS_ITEM_NOT_FOUND;
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_page(struct mam_query *query, const struct iris_element *payload)
{
	struct rsm_request rsm;
	enum iris_condition condition =
		rsm_read(payload, (size_t)option_int(&mam_self, OPT_PAGE), &rsm);

	if (condition != IRIS_NO_ERROR)
		return condition;
	query->is_empty = rsm.max == 0;
	query->log.limit = rsm.max ? rsm.max : 1;
	query->log.backwards = !str_is_none(rsm.before);
	if (!mam_name_before(query, rsm.before, &query->named[NAMED_PAGE_BEFORE]) ||
	    !mam_name_after(query, rsm.after, &query->named[NAMED_PAGE_AFTER]))
		return IRIS_ITEM_NOT_FOUND;
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_query(struct iris_request *request, const struct mam_archive *archive,
	       struct mam_query *query)
{
	const struct iris_element *payload = request->payload, *form = form_find(payload, "submit");
	enum iris_condition condition = IRIS_NO_ERROR;

	*query = (struct mam_query){ .archive = archive,
				     .match = MAM_BY_INDEX,
				     .log.reader = archive->reader,
				     .log.flags_all = ARCHIVE_HISTORY };
	query->flip = element_child(payload, "flip-page", NS_MAM) != NULL;
	if (form)
		condition = mam_read_form(query, form);
	return condition == IRIS_NO_ERROR ? mam_read_page(query, payload) : condition;
}

/* --- reading the archive --- */

static enum iris_condition
mam_log_read(struct iris_request *request, const struct mam_archive *archive,
	     const struct iris_log_query *query, struct iris_log_page *page_r)
{
	switch (log_read(query, archive->owner, request->arena, page_r)) {
	case IRIS_VAULT_OK: return IRIS_NO_ERROR;
	case IRIS_VAULT_ERASED: return IRIS_GONE;
	default: return IRIS_INTERNAL_SERVER_ERROR;
	}
}

/* §4.3.2: an id that is not in the archive is an error, not an empty page. */
static enum iris_condition
mam_read_one(struct iris_request *request, const struct mam_archive *archive, int64_t id,
	     struct iris_log_page *page_r)
{
	struct iris_log_query one = { .reader = archive->reader,
				      .after_id = id - 1,
				      .before_id = id + 1,
				      .flags_all = ARCHIVE_HISTORY,
				      .limit = 1 };
	enum iris_condition condition = mam_log_read(request, archive, &one, page_r);

	return condition == IRIS_NO_ERROR && page_r->count == 0 ? IRIS_ITEM_NOT_FOUND : condition;
}

static enum iris_condition
mam_check_named(struct iris_request *request, const struct mam_query *query)
{
	enum iris_condition condition = IRIS_NO_ERROR;
	struct iris_log_page page;

	for (size_t i = 0; i < MAM_NAMED && condition == IRIS_NO_ERROR; i++)
		if (query->named[i])
			condition = mam_read_one(request, query->archive, query->named[i], &page);
	return condition;
}

/* --- single messages: §4.1.5 --- */

static int
mam_id_order(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

/* In the order of the archive, whatever they were asked in; the same one may stand twice. */
static enum iris_condition
mam_parse_ids(const struct mam_query *query, int64_t *ids, size_t limit, size_t *count_r)
{
	struct iris_str rest = query->ids;

	*count_r = 0;
	while (rest.len > 0) {
		const char *end = memchr(rest.base, '\n', rest.len);
		struct iris_str line = { rest.base, end ? (size_t)(end - rest.base) : rest.len };

		rest.base += line.len + (end ? 1 : 0);
		rest.len -= line.len + (end ? 1 : 0);
		if (*count_r == limit)
			return IRIS_POLICY_VIOLATION;
		if (!log_id_open(line, query->log.reader, &ids[(*count_r)++]))
			return IRIS_ITEM_NOT_FOUND;
	}
	qsort(ids, *count_r, sizeof(*ids), mam_id_order);
	return IRIS_NO_ERROR;
}

/* What RSM asks for of them. */
static void
mam_cut_page(const struct iris_log_query *log, struct iris_log_page *page)
{
	size_t from = 0, upto = page->count;

	while (from < upto && page->entries[from].id <= log->after_id)
		from++;
	while (from < upto && log->before_id && page->entries[upto - 1].id >= log->before_id)
		upto--;
	page->more = upto - from > log->limit;
	if (page->more && log->backwards)
		from = upto - log->limit;
	else if (page->more)
		upto = from + log->limit;
	page->entries += from;
	page->count = upto - from;
}

/* All of them must be there. */
static enum iris_condition
mam_read_ids(struct iris_request *request, const struct mam_query *query,
	     struct iris_log_page *page_r)
{
	size_t limit = (size_t)option_int(&mam_self, OPT_PAGE), count;
	int64_t *ids = arena_alloc(request->arena, limit * sizeof(*ids));
	enum iris_condition condition = mam_parse_ids(query, ids, limit, &count);

	page_r->entries = arena_alloc(request->arena, limit * sizeof(*page_r->entries));
	for (size_t i = 0; i < count && condition == IRIS_NO_ERROR; i++) {
		struct iris_log_page found = { .count = 0 };

		if (i > 0 && ids[i] == ids[i - 1])
			continue;
		condition = mam_read_one(request, query->archive, ids[i], &found);
		if (condition == IRIS_NO_ERROR)
			page_r->entries[page_r->count++] = found.entries[0];
	}
	if (condition == IRIS_NO_ERROR)
		mam_cut_page(&query->log, page_r);
	return condition;
}

/* --- pages of what the index does not know: §4.1.1 --- */

static bool
mam_is_with(const struct mam_query *query, const struct iris_log_entry *entry)
{
	struct iris_stanza *stanza = query->archive->kind->show(query->archive, entry);
	bool with = stanza && (jid_equal(&query->with, &stanza->from) ||
			       jid_equal(&query->with, &stanza->to));

	stanza_unref(&stanza);
	return with;
}

/* Takes over what matches, in the direction of reading; true when there is no more to take. */
static bool
mam_take_page(const struct mam_query *query, const struct iris_log_page *page,
	      struct iris_log_page *page_r)
{
	for (size_t i = 0; i < page->count; i++) {
		const struct iris_log_entry *entry =
			&page->entries[query->log.backwards ? page->count - 1 - i : i];

		if (!mam_is_with(query, entry))
			continue;
		if (page_r->count == query->log.limit) {
			page_r->more = true;
			return true;
		}
		page_r->entries[page_r->count++] = *entry;
	}
	return !page->more;
}

static void
mam_reverse(struct iris_log_entry *entries, size_t count)
{
	for (size_t i = 0; i < count / 2; i++) {
		struct iris_log_entry entry = entries[i];

		entries[i] = entries[count - 1 - i];
		entries[count - 1 - i] = entry;
	}
}

/*
 * Reads on until the page is full. SECURITY: not for ever; a page that is not full after so many
 * reads is given out as it is, incomplete, and `edge` says where the next one begins.
 */
static enum iris_condition
mam_read_by_looking(struct iris_request *request, struct mam_query *query,
		    struct iris_log_page *page_r)
{
	struct iris_log_query log = query->log;
	struct iris_log_page page;
	bool over = false;

	page_r->entries = arena_alloc(request->arena, log.limit * sizeof(*page_r->entries));
	for (unsigned round = 0; round < MAM_ROUNDS && !over; round++) {
		enum iris_condition condition = mam_log_read(request, query->archive, &log, &page);

		if (condition != IRIS_NO_ERROR)
			return condition;
		over = mam_take_page(query, &page, page_r);
		if (page.count > 0 && log.backwards)
			log.before_id = query->edge = page.entries[0].id;
		else if (page.count > 0)
			log.after_id = query->edge = page.entries[page.count - 1].id;
	}
	if (over)
		query->edge = 0;
	else
		page_r->more = true;
	if (log.backwards)
		mam_reverse(page_r->entries, page_r->count);
	return IRIS_NO_ERROR;
}

static enum iris_condition
mam_read_archive(struct iris_request *request, struct mam_query *query,
		 struct iris_log_page *page_r)
{
	enum iris_condition condition;

	if (query->archive->kind->settle)
		query->archive->kind->settle(query->archive);
	condition = mam_check_named(request, query);
	*page_r = (struct iris_log_page){ .count = 0 };
	if (condition != IRIS_NO_ERROR)
		return condition;
	if (!str_is_empty(query->ids))
		return mam_read_ids(request, query, page_r);
	switch (query->match) {
	case MAM_NOTHING: return IRIS_NO_ERROR;
	case MAM_BY_LOOKING: return mam_read_by_looking(request, query, page_r);
	default: return mam_log_read(request, query->archive, &query->log, page_r);
	}
}

/* --- results: §4.2, §5 --- */

static void
mam_send_entry(struct iris_request *request, const struct mam_archive *archive,
	       const struct iris_log_entry *entry)
{
	struct iris_stanza *stanza = archive->kind->show(archive, entry), *message;
	struct iris_element *result;

	if (!stanza)
		return;
	message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	stanza_set_from(message, &archive->jid);
	stanza_set_to(message, &request->stanza->from);
	result = element_add(message->root, "result", NS_MAM);
	element_set(result, "queryid", element_get(request->payload, "queryid"));
	element_set(result, "id", log_id_seal(message->arena, archive->reader, entry->id));
	forwarded_add(result, stanza->root, log_id_time_ms(entry->id));
	stanza_unref(&stanza);
	archive->kind->give(request, &message, entry->id);
	metric_add(&mam_metrics[1], 1);
}

/* The ids of a page's ends. At the edge of an unfinished one the next goes on, matching or not. */
static void
mam_write_set(struct iris_request *request, const struct mam_query *query,
	      const struct iris_log_page *page)
{
	int64_t reader = query->archive->reader;
	int64_t first = page->count ? page->entries[0].id : query->edge;
	int64_t last = page->count ? page->entries[page->count - 1].id : query->edge;

	if (query->edge && query->log.backwards)
		first = query->edge;
	else if (query->edge)
		last = query->edge;
	if (query->is_empty || first == 0)
		rsm_write(request->reply, IRIS_STR_NONE, IRIS_STR_NONE);
	else
		rsm_write(request->reply, log_id_seal(request->arena, reader, first),
			  log_id_seal(request->arena, reader, last));
}

static void
mam_reply_fin(struct iris_request *request, const struct mam_query *query,
	      const struct iris_log_page *page)
{
	request->reply = element_new(request->arena, "fin", NS_MAM);
	if (query->is_empty ? page->count == 0 && !page->more : !page->more)
		element_set(request->reply, "complete", IRIS_STR("true"));
	mam_write_set(request, query, page);
}

/* --- what plug-ins with archives call --- */

enum iris_verdict
mam_answer_query(struct iris_request *request, const struct mam_archive *archive)
{
	struct mam_query query;
	struct iris_log_page page;
	enum iris_condition condition = mam_read_query(request, archive, &query);

	metric_add(&mam_metrics[0], 1);
	if (condition == IRIS_NO_ERROR)
		condition = mam_read_archive(request, &query, &page);
	if (condition != IRIS_NO_ERROR)
		return mam_refuse(request, condition);
	for (size_t i = 0; i < page.count && !query.is_empty; i++)
		mam_send_entry(request, archive,
			       &page.entries[query.flip ? page.count - 1 - i : i]);
	mam_reply_fin(request, &query, &page);
	return IRIS_DONE;
}

/* §4.1.6: which fields are understood. */
enum iris_verdict
mam_answer_form(struct iris_request *request)
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
enum iris_verdict
mam_answer_metadata(struct iris_request *request, const struct mam_archive *archive)
{
	struct iris_log_query query = { .reader = archive->reader,
					.flags_all = ARCHIVE_HISTORY,
					.limit = 1 };

	request->reply = element_new(request->arena, "metadata", NS_MAM);
	for (int end = 0; end < 2; end++) {
		struct iris_log_page page = { .count = 0 };
		struct iris_element *element;
		enum iris_condition condition;

		query.backwards = end == 1;
		condition = mam_log_read(request, archive, &query, &page);
		if (condition != IRIS_NO_ERROR)
			return mam_refuse(request, condition);
		if (page.count == 0)
			break;
		element = element_add(request->reply, end ? "end" : "start", NULL);
		element_set(element, "id",
			    log_id_seal(request->arena, archive->reader, page.entries[0].id));
		element_set(element, "timestamp",
			    datetime_format(request->arena,
					    log_id_time_ms(page.entries[0].id)));
	}
	return IRIS_DONE;
}

/* --- accounts --- */

struct mam_account {
	struct mam_archive archive; /* first */
	const struct iris_user *user;
};

static void
account_settle(const struct mam_archive *archive)
{
	archive_settle(IRIS_CONTAINER(archive, struct mam_account, archive)->user);
}

/* The index knows bare addresses. */
static enum mam_match
account_match(const struct mam_archive *archive, const struct iris_jid *with, int64_t *peer_r)
{
	*peer_r = vault_peer_id(jid_bare(with));
	return jid_is_bare(with) ? MAM_BY_INDEX : MAM_BY_LOOKING;
}

static struct iris_stanza *
account_show(const struct mam_archive *archive, const struct iris_log_entry *entry)
{
	return archive_entry_stanza(entry);
}

/* With its id: who has been given it here needs no second copy (§7.1, XEP-0160). */
static void
account_give(struct iris_request *request, struct iris_stanza **message_p, int64_t log_id)
{
	struct iris_delivery delivery = { .stanza = *message_p, .log_id = log_id };

	stanza_freeze(*message_p);
	if (request->session && !request->session->closing)
		session_deliver(request->session, &delivery);
	stanza_unref(message_p);
}

static struct mam_account
account_archive(const struct iris_user *user)
{
	static const struct mam_archive_kind kind = {
		.settle = account_settle,
		.match = account_match,
		.show = account_show,
		.give = account_give,
	};

	return (struct mam_account){
		.archive = { .kind = &kind, .reader = user->account.id,
			     .owner = user->account.owner, .jid = user->jid },
		.user = user,
	};
}

static enum iris_verdict
mam_query_set(struct iris_request *request)
{
	struct mam_account account = account_archive(request->user);

	return mam_answer_query(request, &account.archive);
}

static enum iris_verdict
mam_metadata(struct iris_request *request)
{
	struct mam_account account = account_archive(request->user);

	return mam_answer_metadata(request, &account.archive);
}

static const struct iris_feature mam_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_MAM },
	{ IRIS_DISCO_ACCOUNT, NS_MAM "#extended" },
	{ IRIS_DISCO_HOST, NS_MAM },
	{ .var = NULL },
};

static const struct iris_iq mam_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_SET, "query", NS_MAM, IRIS_SELF, mam_query_set },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_MAM, IRIS_SELF, mam_answer_form },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "metadata", NS_MAM, IRIS_SELF, mam_metadata },
	{ .name = NULL },
};

static const struct iris_option mam_options[] = {
	[OPT_PAGE] = { "page-max", IRIS_OPT_INT, "100", .min = 1, .max = 1000, .reloadable = true,
		       .help = "The largest page of results; also what a client gets that asks for "
			       "none." },
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
