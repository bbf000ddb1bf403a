/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands `file …`: what somebody shared, taking it back (P6.7), and what operators decide
 * about files that nobody could scan.  On the fiber of the request.
 */
#include <stdlib.h>

#include "modules/files/files_private.h"

static const struct iris_command_field list_fields[] = {
	{ .name = "account", .kind = IRIS_FIELD_JID, .label = "Whose; your own without" },
	{ .name = "before", .kind = IRIS_FIELD_TEXT,
	  .label = "Only older ones than this time, for the next page" },
	{ .name = NULL },
};

static const struct iris_command_field file_fields[] = {
	{ .name = "file", .kind = IRIS_FIELD_TEXT, .required = true, .positional = true,
	  .label = "Its link, or its number" },
	{ .name = NULL },
};

static const char *const list_columns[] = { "file",  "name",  "size", "state",
					    "since", "path",  NULL };

static bool
is_operator(const struct iris_command_call *call)
{
	return call->role >= IRIS_ROLE_SUPER_ADMIN;
}

static bool
account_of(struct iris_command_call *call, struct iris_str address, struct iris_account *account_r)
{
	struct iris_jid jid = call->from;

	if (!str_is_empty(address) && !jid_parse(call->arena, address, &jid)) {
		call->refusal.condition = IRIS_JID_MALFORMED;
		return false;
	}
	jid = jid_with_resource(call->arena, &jid, IRIS_STR_NONE);
	if (!accounts()->find(&jid, account_r))
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
	else if (account_r->id == 0)
		call->refusal.condition = IRIS_ITEM_NOT_FOUND;
	return call->refusal.condition == IRIS_NO_ERROR;
}

static void
list_add(struct iris_command_call *call, struct file *file)
{
	bool opened = file_open(call->arena, file);
	const struct iris_str cells[] = {
		arena_printf(call->arena, "%lld", (long long)file->id),
		opened ? file->name : IRIS_STR("?"),
		arena_printf(call->arena, "%lld", (long long)file->size),
		str_from(file_state_names[file->state]),
		datetime_format(call->arena, file->created_ms),
		opened ? file_path(call->arena, file) : IRIS_STR("?"),
	};

	command_row(call, cells);
}

static void
run_list(struct iris_command_call *call)
{
	int64_t before = INT64_MAX;
	struct iris_account account;
	struct file_list list;

	if (!str_is_empty(call->values[0]) && !is_operator(call)) {
		call->refusal.condition = IRIS_FORBIDDEN;
		return;
	}
	if (!str_is_empty(call->values[1]) && !datetime_parse(call->values[1], &before)) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_BAD_REQUEST,
						       .text = "Write the time as the list does." };
		return;
	}
	if (!account_of(call, call->values[0], &account))
		return;
	if (!file_list_account(call->arena, account.id, before, &list)) {
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
		return;
	}
	command_table(call, list_columns);
	for (size_t i = 0; i < list.count; i++)
		list_add(call, &list.files[i]);
}

/* By number, or by a link, whatever stands before its token. */
static int64_t
id_of(struct iris_str text)
{
	const char *path = memmem(text.base, text.len, FILES_PATH, sizeof(FILES_PATH) - 1);
	struct iris_str token;
	int64_t id = 0;

	if (!path)
		return str_to_int(text, 1, INT64_MAX, &id) ? id : 0;
	token.base = path + sizeof(FILES_PATH) - 1;
	token.len = (size_t)(text.base + text.len - token.base);
	const char *slash = memchr(token.base, '/', token.len);
	if (slash)
		token.len = (size_t)(slash - token.base);
	return token.len > 0 ? file_id_of(token) : 0;
}

/* SECURITY: of others' files nobody learns that they are there. */
static bool
find_mine(struct iris_command_call *call, struct file *file_r)
{
	int64_t id = id_of(call->values[0]);
	struct iris_account account = { .id = 0 };

	if (id != 0 && file_find(id, file_r, NULL) &&
	    (is_operator(call) || (account_of(call, IRIS_STR_NONE, &account) &&
				   account.id == file_r->account)))
		return true;
	call->refusal.condition = IRIS_ITEM_NOT_FOUND;
	return false;
}

static void
run_delete(struct iris_command_call *call)
{
	struct file file;

	if (!find_mine(call, &file))
		return;
	if (file.state == FILE_UPLOADING)
		call->refusal = (struct iris_refusal){ .condition = IRIS_CONFLICT,
						       .text = "It is being uploaded." };
	else if (!file_remove(file.id))
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
	else
		call->note = IRIS_STR("Nobody can fetch it any more.");
}

static void
run_quarantine(struct iris_command_call *call)
{
	struct file_list list;

	if (!file_list_state(call->arena, FILE_QUARANTINED, &list)) {
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
		return;
	}
	command_table(call, list_columns);
	for (size_t i = 0; i < list.count; i++)
		list_add(call, &list.files[i]);
}

static void
run_release(struct iris_command_call *call)
{
	struct file file;

	if (!find_mine(call, &file))
		return;
	if (file.state != FILE_QUARANTINED) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_CONFLICT,
						       .text = "It is not in quarantine." };
		return;
	}
	/* Not looked at again: that would bring it back here. */
	file.state = FILE_CLEAN;
	file.scanned = INT64_MAX;
	if (!file_move(&file, FILE_QUARANTINED))
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
	LOG(IRIS_LOG_NOTICE, "files", "released", LOG_INT("file", file.id),
	    LOG_JID("by", jid_bare(&call->from)));
}

static void
status_run(void *arg)
{
	scanner_status(arg);
}

static void
run_scanner(struct iris_command_call *call)
{
	static const char *const columns[] = { "state",	     "pid",	 "signatures",
					       "loaded-set", "scanning", "waiting", NULL };
	struct scanner_status status;

	worker_call(worker_at(WORKER_MAIN), "files: status", status_run, &status);
	const struct iris_str cells[] = {
		status.ready ? arena_printf(call->arena, "ready (%s)", status.confined) :
			       IRIS_STR("not running"),
		arena_printf(call->arena, "%d", (int)status.pid),
		arena_printf(call->arena, "%u", status.signatures),
		status.number ? datetime_format(call->arena, status.number) : IRIS_STR("-"),
		arena_printf(call->arena, "%u", status.jobs),
		arena_printf(call->arena, "%lld",
			     (long long)metric_value(&file_metrics[METRIC_PENDING])),
	};

	command_table(call, columns);
	command_row(call, cells);
}

static const struct iris_command command_list = {
	.noun = "file", .verb = "list",
	.summary = "Lists shared files, newest first, a hundred at a time",
	.role = IRIS_ROLE_USER, .fields = list_fields, .run = run_list,
};
static const struct iris_command command_delete = {
	.noun = "file", .verb = "delete",
	.summary = "Deletes a shared file: its link is dead",
	.role = IRIS_ROLE_USER, .dangerous = true, .fields = file_fields, .run = run_delete,
};
static const struct iris_command command_quarantine = {
	.noun = "file", .verb = "quarantine",
	.summary = "Lists files that could not be scanned and are kept, a hundred at a time",
	.role = IRIS_ROLE_SUPER_ADMIN, .run = run_quarantine,
};
static const struct iris_command command_release = {
	.noun = "file", .verb = "release",
	.summary = "Lets a file out of quarantine: whoever has its link may fetch it",
	.role = IRIS_ROLE_SUPER_ADMIN, .dangerous = true, .fields = file_fields,
	.run = run_release,
};
static const struct iris_command command_scanner = {
	.noun = "file", .verb = "scanner",
	.summary = "Shows whether the virus scanner runs, and with which signatures",
	.role = IRIS_ROLE_OPERATOR, .run = run_scanner,
};

const struct iris_command *const file_commands[] = {
	&command_list, &command_delete, &command_quarantine, &command_release, &command_scanner,
	NULL,
};
