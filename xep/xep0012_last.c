/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0012 2.0: Last Activity of the server (its uptime) and of an account's network (P5.5): seconds since
 * the last session went, with the status it left with.
 */
#include <stdlib.h>

#include "iris/module.h"

#define NS_LAST "jabber:iq:last"
#define LAST_STATUS_MAX 1024

/* Per user: the status of the last unavailable presence, until it is stored. */
struct last {
	char *status;
};

static struct iris_module_self last_self;
static int64_t last_started_ms;

static struct iris_query last_load = {
	.name = "last.load", .table = "last_activity", .key = "account",
	.sql = "SELECT time, status FROM last_activity WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "time", IRIS_INT }, { "status", IRIS_SEALED } },
};

static struct iris_query last_store = {
	.name = "last.store", .table = "last_activity", .key = "account", .write = true,
	.sql = "INSERT INTO last_activity (account, time, status) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account) DO UPDATE SET time = excluded.time, status = excluded.status",
	.params = { { "account", IRIS_INT }, { "time", IRIS_INT }, { "status", IRIS_SEALED } },
};

static struct iris_query last_erase = {
	.name = "last.erase", .table = "last_activity", .write = true,
	.sql = "DELETE FROM last_activity WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

static enum iris_verdict
last_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

static void
last_reply(struct iris_request *request, int64_t milliseconds, struct iris_str status)
{
	request->reply = element_new(request->arena, "query", NS_LAST);
	element_set_int(request->reply, "seconds", milliseconds < 0 ? 0 : milliseconds / 1000);
	if (!str_is_empty(status))
		element_text(request->reply, status);
}

static enum iris_verdict
last_of_host(struct iris_request *request)
{
	last_reply(request, worker_wall_ms() - last_started_ms, IRIS_STR_NONE);
	return IRIS_DONE;
}

static enum iris_verdict
last_of_account(struct iris_request *request)
{
	struct iris_user *user = request->user;
	struct iris_rows rows;

	if (user->available_count > 0) { /* §4: zero while a session is available */
		last_reply(request, 0, IRIS_STR_NONE);
		return IRIS_DONE;
	}
	if (vault_read(&last_load, user->account.owner, VALUES(value_int(user->account.id)), request->arena, &rows) !=
	    IRIS_VAULT_OK)
		return last_refuse(request, IRIS_INTERNAL_SERVER_ERROR);
	if (rows.count == 0)
		return last_refuse(request, IRIS_ITEM_NOT_FOUND);
	last_reply(request, worker_wall_ms() - row_value(&rows, 0, 0)->number, row_value(&rows, 0, 1)->bytes);
	return IRIS_DONE;
}

static struct last *
last_of(struct iris_user *user)
{
	void **slot = user_slot(user, &last_self);

	if (!*slot)
		*slot = iris_calloc(1, sizeof(struct last));
	return *slot;
}

/* A session says goodbye to everybody: keep what it says. */
static enum iris_verdict
last_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_str status;
	struct last *last;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_UNAVAILABLE || element_get(stanza->root, "to").base)
		return IRIS_PASS;
	status = element_child_text(stanza->root, "status", NULL);
	last = last_of(request->session->user);
	free(last->status);
	last->status = status.len > 0 && status.len <= LAST_STATUS_MAX ? str_dup(status) : NULL;
	return IRIS_PASS;
}

static enum iris_verdict
last_session_close(struct iris_session *session)
{
	struct iris_user *user = session->user;
	struct last *last = last_of(user);

	/* A lost time of logout is no reason to keep anybody from leaving; the vault has logged why. */
	if (user->session_count <= 1 &&
	    vault_post(&last_store, user->account.owner,
		       VALUES(value_int(user->account.id), value_int(worker_wall_ms()),
			      value_str(str_from(last->status))), NULL) == IRIS_VAULT_OK) {
		free(last->status);
		last->status = NULL;
	}
	return IRIS_PASS;
}

static enum iris_verdict
last_user_unload(struct iris_user *user)
{
	struct last *last = *user_slot(user, &last_self);

	if (last) {
		free(last->status);
		free(last);
		*user_slot(user, &last_self) = NULL;
	}
	return IRIS_PASS;
}

static enum iris_verdict
last_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&last_erase, removed->account.owner, VALUES(value_int(removed->account.id)), NULL) ==
			       IRIS_VAULT_OK ? IRIS_PASS : IRIS_REFUSE;
}

static bool
last_start(struct iris_error *error)
{
	last_started_ms = worker_wall_ms();
	return true;
}

static const struct iris_feature last_features[] = {
	{ IRIS_DISCO_HOST, NS_LAST },
	{ IRIS_DISCO_ACCOUNT, NS_LAST },
	{ .var = NULL },
};

static const struct iris_iq last_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "query", NS_LAST, IRIS_ANYONE, last_of_host },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_LAST, IRIS_NETWORK, last_of_account },
	{ .name = NULL },
};

static const struct iris_hook_handler last_hooks[] = {
	HOOK(stanza_out, IRIS_LATE, last_stanza_out),
	HOOK(session_close, IRIS_NEUTRAL, last_session_close),
	HOOK(user_unload, IRIS_NEUTRAL, last_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, last_account_removed),
	HOOKS_END,
};

const struct iris_module iris_module_xep0012 = {
	IRIS_MODULE_HEAD,
	.name = "xep0012",
	.summary = "Last Activity",
	.xep = "XEP-0012 2.0",
	.self = &last_self,
	.queries = (struct iris_query *const[]){ &last_load, &last_store, &last_erase, NULL },
	.features = last_features,
	.iq = last_iq,
	.hooks = last_hooks,
	.start = last_start,
};
