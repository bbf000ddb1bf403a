/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0377 0.4.1: Blocking Command Reasons.  Reports are taken by XEP-0191 at the home of the
 * account, on a fiber; administrators read them by a command.
 *
 * A report never changes what becomes of the block (§4): one that is malformed, or cannot be
 * kept, is let go.  One is kept for each pair of reporter and reported, for a while, sealed, in
 * the reporter's company; the log has pseudonyms only.  Nothing is forwarded to other servers or
 * services, whatever the reporter would allow (§3.2).
 */
#include "xep/payloads.h"
#include "xep/xep0377_reporting.h"

#define NS_REPORTING "urn:xmpp:reporting:1"
#define REASON_MAX 128
#define COMMENT_MAX 4096
#define MESSAGES_MAX 20 /* ids of reported messages */
#define MESSAGE_ID_MAX 256
#define LIST_MAX 500
#define SWEEP_MS 3600000 /* an hour */

enum { OPT_KEEP, OPT_ACCOUNT_MAX };

static struct iris_module_self report_self;
static struct iris_timer report_timer;

enum { METRIC_KEPT, METRIC_REFUSED };
static struct iris_metric report_metrics[] = {
	[METRIC_KEPT] = { .name = "iris_reports_total",
			  .labels = "verdict=\"kept\"",
			  .help = "Reports of spam and abuse" },
	[METRIC_REFUSED] = { .name = "iris_reports_total",
			     .labels = "verdict=\"refused\"",
			     .help = "Reports of spam and abuse" },
	{ .name = NULL },
};

static struct iris_query report_store = {
	.name = "report.store", .table = "reports", .key = "report", .write = true,
	.sql = "INSERT INTO reports (report, owner, account, time_ms, reason, reporter, reported, "
	       "comment, messages) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
	       "ON CONFLICT (report) DO UPDATE SET time_ms = excluded.time_ms, "
	       "reason = excluded.reason, comment = excluded.comment, messages = excluded.messages",
	.params = { { "report", IRIS_INT }, { "owner", IRIS_INT }, { "account", IRIS_INT },
		    { "time_ms", IRIS_INT }, { "reason", IRIS_TEXT }, { "reporter", IRIS_SEALED },
		    { "reported", IRIS_SEALED }, { "comment", IRIS_SEALED },
		    { "messages", IRIS_SEALED } },
};

static struct iris_query report_count = {
	.name = "report.count", .table = "reports",
	.sql = "SELECT COUNT(*) FROM reports WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "count", IRIS_INT } },
};

static struct iris_query report_list = {
	.name = "report.list", .table = "reports", .key = "report",
	.sql = "SELECT report, time_ms, reason, reporter, reported, comment, messages FROM reports "
	       "WHERE owner = $1 AND time_ms < $2 ORDER BY time_ms DESC LIMIT $3",
	.params = { { "owner", IRIS_INT }, { "before", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "report", IRIS_INT }, { "time_ms", IRIS_INT }, { "reason", IRIS_TEXT },
		     { "reporter", IRIS_SEALED }, { "reported", IRIS_SEALED },
		     { "comment", IRIS_SEALED }, { "messages", IRIS_SEALED } },
};

static struct iris_query report_drop = {
	.name = "report.drop", .table = "reports", .write = true,
	.sql = "DELETE FROM reports WHERE report = $1 AND owner = $2",
	.params = { { "report", IRIS_INT }, { "owner", IRIS_INT } },
};

static struct iris_query report_expire = {
	.name = "report.expire", .table = "reports", .write = true,
	.sql = "DELETE FROM reports WHERE time_ms < $1",
	.params = { { "before", IRIS_INT } },
};

static struct iris_query report_erase = {
	.name = "report.erase", .table = "reports", .write = true,
	.sql = "DELETE FROM reports WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

/* --- taking one: §3.3 --- */

static int64_t
report_key(struct iris_arena *arena, const struct iris_user *user, struct iris_str reported)
{
	return vault_peer_id(arena_printf(arena, "%lld %.*s", (long long)user->account.id,
					  IRIS_STR_FMT(reported)));
}

/* "by id", one line each, of messages in an archive (XEP-0313). */
static struct iris_str
report_messages(const struct iris_element *report)
{
	struct iris_strbuf text = STRBUF_INIT(report->arena);
	unsigned count = 0;

	for (struct iris_element *id = element_child(report, "stanza-id", NS_SID);
	     id && count < MESSAGES_MAX; id = element_next(id, "stanza-id", NS_SID)) {
		struct iris_str by = element_get(id, "by"), value = element_get(id, "id");

		if (by.len > MESSAGE_ID_MAX || value.len > MESSAGE_ID_MAX || str_is_empty(value))
			continue;
		strbuf_printf(&text, "%s%.*s %.*s", count++ ? "\n" : "", IRIS_STR_FMT(by),
			      IRIS_STR_FMT(value));
	}
	return count ? strbuf_str(&text) : IRIS_STR_NONE;
}

/* SECURITY: whoever reports whatever comes along fills nothing but their own share. */
static bool
report_has_room(struct iris_arena *arena, const struct iris_user *user)
{
	struct iris_rows rows;

	return vault_read(&report_count, user->account.owner, VALUES(value_int(user->account.id)),
			  arena, &rows) == IRIS_VAULT_OK &&
	       row_value(&rows, 0, 0)->number < option_int(&report_self, OPT_ACCOUNT_MAX);
}

static bool
report_keep(const struct iris_user *user, const struct iris_element *report,
	    struct iris_str reported)
{
	struct iris_str comment = element_child_text(report, "text", NULL);
	struct iris_str reason = element_get(report, "reason");
	const struct iris_account *account = &user->account;

	if (str_is_empty(reason) || reason.len > REASON_MAX || comment.len > COMMENT_MAX ||
	    !report_has_room(report->arena, user))
		return false;
	return vault_write(&report_store, account->owner,
			   VALUES(value_int(report_key(report->arena, user, reported)),
				  value_int(account->owner), value_int(account->id),
				  value_int(worker_wall_ms()), value_str(reason),
				  value_str(jid_bare(&user->jid)), value_str(reported),
				  value_str(comment), value_str(report_messages(report))),
			   NULL) == IRIS_VAULT_OK;
}

void
report_take(struct iris_user *user, struct iris_element *item)
{
	struct iris_element *report = element_child(item, "report", NS_REPORTING);
	struct iris_str reported = element_get(item, "jid");
	bool kept;

	if (!report)
		return;
	kept = report_keep(user, report, reported);
	LOG(IRIS_LOG_NOTICE, "report", kept ? "kept" : "refused",
	    LOG_JID("reporter", jid_bare(&user->jid)), LOG_JID("reported", reported),
	    LOG_CSTR("reason", str_is(element_get(report, "reason"), "urn:xmpp:reporting:spam") ?
				       "spam" : "abuse"));
	metric_add(&report_metrics[kept ? METRIC_KEPT : METRIC_REFUSED], 1);
	element_remove(report); /* it is for us, not for the account's other clients */
}

static enum iris_verdict
report_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&report_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

/* --- forgetting them: main thread --- */

/* Not posted now, the next sweep does it. */
static void
report_sweep(void *arg)
{
	int64_t before = worker_wall_ms() - option_int(&report_self, OPT_KEEP);

	if (vault_post(&report_expire, IRIS_OWNER_DEFAULT, VALUES(value_int(before)), NULL) !=
	    IRIS_VAULT_OK)
		LOG(IRIS_LOG_INFO, "report", "sweep-put-off", LOG_INT("before_ms", before));
	timer_start(&report_timer, SWEEP_MS, report_sweep, NULL);
}

static bool
report_start(struct iris_error *error)
{
	timer_start(&report_timer, SWEEP_MS, report_sweep, NULL);
	return true;
}

static void
report_stop(void)
{
	timer_stop(&report_timer);
}

/* --- reading them --- */

/* The company of who asks. False: refused. */
static bool
report_owner(struct iris_command_call *call, iris_owner *owner_r)
{
	struct iris_account account;

	if (!accounts()->find(&call->from, &account) || account.id == 0) {
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
		return false;
	}
	*owner_r = account.owner;
	return true;
}

static void
report_run_list(struct iris_command_call *call)
{
	static const char *const columns[] = { "report", "time", "reason", "reported", "reporter",
					       "comment", "messages", NULL };
	int64_t before = worker_wall_ms() + 1, limit = 0;
	iris_owner owner;
	struct iris_rows rows;

	if (!report_owner(call, &owner))
		return;
	if ((!str_is_none(call->values[0]) && !datetime_parse(call->values[0], &before)) ||
	    !str_to_int(call->values[1], 1, LIST_MAX, &limit)) {
		call->refusal.condition = IRIS_NOT_ACCEPTABLE;
		return;
	}
	if (vault_read(&report_list, owner,
		       VALUES(value_int(owner), value_int(before), value_int(limit)), call->arena,
		       &rows) != IRIS_VAULT_OK) {
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
		return;
	}
	command_table(call, columns);
	for (size_t i = 0; i < rows.count; i++) {
		struct iris_str cells[] = {
			arena_printf(call->arena, "%lld",
				     (long long)row_value(&rows, i, 0)->number),
			datetime_format(call->arena, row_value(&rows, i, 1)->number),
			row_value(&rows, i, 2)->bytes, row_value(&rows, i, 4)->bytes,
			row_value(&rows, i, 3)->bytes, row_value(&rows, i, 5)->bytes,
			row_value(&rows, i, 6)->bytes,
		};

		command_row(call, cells);
	}
}

static void
report_run_delete(struct iris_command_call *call)
{
	int64_t report, changed = 0;
	iris_owner owner;

	if (!report_owner(call, &owner))
		return;
	if (!str_to_int(call->values[0], 0, INT64_MAX, &report) ||
	    vault_write(&report_drop, owner, VALUES(value_int(report), value_int(owner)),
			&changed) != IRIS_VAULT_OK ||
	    changed == 0) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_ITEM_NOT_FOUND,
						       .text = "There is no such report" };
		return;
	}
	call->note = IRIS_STR("The report was deleted");
}

static const struct iris_command_field list_fields[] = {
	{ "before", IRIS_FIELD_TEXT, .label = "Reports older than this time (XEP-0082)" },
	{ "limit", IRIS_FIELD_INT, .fallback = "100", .label = "How many at most" },
	{ .name = NULL },
};

static const struct iris_command_field delete_fields[] = {
	{ "report", IRIS_FIELD_TEXT, .required = true, .positional = true,
	  .label = "The number of the report" },
	{ .name = NULL },
};

static const struct iris_command command_list = {
	.noun = "report",
	.verb = "list",
	.summary = "Show what people reported, the newest first",
	.role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = list_fields,
	.run = report_run_list,
};

static const struct iris_command command_delete = {
	.noun = "report",
	.verb = "delete",
	.summary = "Forget a report that was dealt with",
	.role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = delete_fields,
	.run = report_run_delete,
};

static const struct iris_feature report_features[] = {
	{ IRIS_DISCO_HOST, NS_REPORTING },
	{ .var = NULL },
};

static const struct iris_hook_handler report_hooks[] = {
	HOOK(account_removed, IRIS_NEUTRAL, report_account_removed),
	HOOKS_END,
};

static const struct iris_option report_options[] = {
	[OPT_KEEP] = { "keep", IRIS_OPT_DURATION, "90 days", .min = 3600000,
		       .max = 315360000000, .reloadable = true,
		       .help = "How long a report is kept." },
	[OPT_ACCOUNT_MAX] = { "account-max", IRIS_OPT_INT, "100", .min = 1, .max = 100000,
			      .reloadable = true,
			      .help = "How many reports of one account are kept at a time." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0377 = {
	IRIS_MODULE_HEAD,
	.name = "xep0377",
	.summary = "Blocking Command Reasons",
	.xep = "XEP-0377 0.4.1",
	.self = &report_self,
	.options = report_options,
	.queries = (struct iris_query *const[]){ &report_store, &report_count, &report_list,
						 &report_drop, &report_expire, &report_erase,
						 NULL },
	.features = report_features,
	.hooks = report_hooks,
	.commands = (const struct iris_command *const[]){ &command_list, &command_delete, NULL },
	.metrics = report_metrics,
	.start = report_start,
	.stop = report_stop,
};
