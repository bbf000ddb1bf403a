/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `user add|import|list|show|find|email|email-remove|passwd|lock|unlock|delete`, for clients of
 * administrators and irisctl.  On a fiber.  Nobody acts on an account above their own role, and the
 * administrator of a company on those of that company only.
 */
#include "accounts_private.h"

#define IMPORT_MAX 500   /* accounts in one call */
#define IMPORT_FIBERS 8  /* at once: deriving keeps the CPU pool busy, commits are shared */
#define PAGE_DEFAULT "100"

static const char *const role_names[] = {
	"guest", "user", "company-admin", "super-admin", "operator", NULL,
};
static const char *const role_choices[] = { "guest", "user", "company-admin", "super-admin", NULL };

static struct iris_str
role_name(enum iris_role role)
{
	return role == IRIS_ROLE_NONE ? IRIS_STR("none") :
					str_from(role_names[role - IRIS_ROLE_GUEST]);
}

static void
refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
}

/* The company whose accounts the caller may touch; 0: all. */
static bool
scope_of(struct iris_command_call *call, iris_owner *owner_r)
{
	struct iris_account account;

	*owner_r = 0;
	if (call->role != IRIS_ROLE_COMPANY_ADMIN)
		return true;
	if (!accounts_find(&call->from, &account) || account.id == 0) {
		refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
		return false;
	}
	*owner_r = account.owner;
	return true;
}

/* Field 0 is the account's address. False: refused. */
static bool
find_target(struct iris_command_call *call, struct iris_jid *jid_r, struct iris_account *account_r)
{
	iris_owner owner;

	if (!scope_of(call, &owner))
		return false;
	if (!jid_parse(call->arena, call->values[0], jid_r) || !jid_is_bare(jid_r)) {
		refuse(call, IRIS_JID_MALFORMED, NULL);
	} else if (!accounts_find(jid_r, account_r)) {
		refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
	} else if (account_r->id == 0 || (owner != 0 && account_r->owner != owner)) {
		refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such account");
	} else if (account_r->role > call->role) {
		refuse(call, IRIS_FORBIDDEN, "The account has a higher role than yours");
	} else {
		return true;
	}
	return false;
}

static void
finish(struct iris_command_call *call, enum iris_condition condition, const char *text,
       const struct iris_jid *jid, const char *what)
{
	if (condition == IRIS_CONFLICT && !text)
		text = "The account exists already";
	if (condition != IRIS_NO_ERROR)
		refuse(call, condition, text);
	else
		call->note = arena_printf(call->arena, "%.*s %s", IRIS_STR_FMT(jid_bare(jid)),
					  what);
}

/* --- user add, user import --- */

static bool
parse_role(struct iris_command_call *call, struct iris_str text, enum iris_role *role_r)
{
	*role_r = IRIS_ROLE_USER;
	for (size_t i = 0; !str_is_none(text) && role_choices[i]; i++)
		if (str_is(text, role_choices[i]))
			*role_r = IRIS_ROLE_GUEST + (enum iris_role)i;
	if (*role_r <= call->role)
		return true;
	refuse(call, IRIS_FORBIDDEN, "The role is higher than yours");
	return false;
}

static void
user_add(struct iris_command_call *call)
{
	struct accounts_new new = { .password = call->values[1], .email = call->values[3] };
	enum iris_condition condition;
	const char *text;

	if (!parse_role(call, call->values[2], &new.role))
		return;
	if (!jid_parse(call->arena, call->values[0], &new.jid) || !jid_is_bare(&new.jid)) {
		refuse(call, IRIS_JID_MALFORMED, NULL);
		return;
	}
	condition = accounts_create_as(call->arena, &new, &text);
	finish(call, condition, text, &new.jid, "was added");
}

struct import_line {
	struct iris_str jid, password;
	enum iris_condition condition;
	const char *text;
};

/* Shared by the fibers of one worker; lives on the stack of the one that waits for them. */
struct import {
	struct import_line *lines;
	size_t count, next;
	unsigned running;
	struct iris_wait done;
};

/* Anything else in its place is a password. */
static bool
is_verifier(struct iris_str secret)
{
	return secret.len > 10 && memcmp(secret.base, "SCRAM-SHA-", 10) == 0 &&
		memchr(secret.base, '$', secret.len) != NULL;
}

static enum iris_condition
import_account(const struct iris_jid *jid, struct iris_str secret, const char **text_r)
{
	return is_verifier(secret) ? accounts_adopt(jid, secret, IRIS_ROLE_USER, text_r)
				   : accounts_create(jid, secret, text_r);
}

static void
import_line(struct import_line *line)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid jid;

	line->condition = IRIS_JID_MALFORMED;
	line->text = "Not a line of the form \"address password\"";
	if (line->password.len > 0 && jid_parse(arena, line->jid, &jid) && jid_is_bare(&jid))
		line->condition = import_account(&jid, line->password, &line->text);
	arena_unref(&arena);
}

static void
import_fiber(void *arg)
{
	struct import *import = arg;

	while (import->next < import->count)
		import_line(&import->lines[import->next++]);
	if (--import->running == 0)
		wait_done(&import->done);
}

/* Splits "address password" lines; false: too many. */
static bool
split_lines(struct iris_arena *arena, struct iris_str text, struct import *import)
{
	import->lines = arena_alloc(arena, IMPORT_MAX * sizeof(*import->lines));
	while (text.len > 0) {
		const char *end = memchr(text.base, '\n', text.len), *space;
		struct iris_str line = { text.base, end ? (size_t)(end - text.base) : text.len };
		struct import_line *entry;

		text.base += line.len + (end ? 1 : 0);
		text.len -= line.len + (end ? 1 : 0);
		if (line.len == 0)
			continue;
		if (import->count == IMPORT_MAX)
			return false;
		entry = &import->lines[import->count++];
		space = memchr(line.base, ' ', line.len);
		entry->jid = (struct iris_str){ line.base,
						space ? (size_t)(space - line.base) : line.len };
		if (space)
			entry->password = (struct iris_str){
				space + 1, line.len - (size_t)(space + 1 - line.base)
			};
	}
	return true;
}

static void
run_import(struct import *import)
{
	wait_init(&import->done);
	import->running = 1; /* this fiber */
	for (unsigned i = 1; i < IMPORT_FIBERS && i < import->count; i++) {
		import->running++;
		if (!fiber_start("accounts: import", import_fiber, import))
			import->running--;
	}
	import_fiber(import);
	wait_for(&import->done, "accounts: import");
}

static void
user_import(struct iris_command_call *call)
{
	static const char *const columns[] = { "jid", "error", "text", NULL };
	struct import import = { .count = 0 };
	size_t failed = 0;

	if (!split_lines(call->arena, call->values[0], &import)) {
		refuse(call, IRIS_NOT_ACCEPTABLE, "Too many accounts in one call");
		return;
	}
	run_import(&import);
	command_table(call, columns);
	for (size_t i = 0; i < import.count; i++) {
		const struct import_line *line = &import.lines[i];

		if (line->condition == IRIS_NO_ERROR)
			continue;
		failed++;
		command_row(call, (const struct iris_str[]){
					  line->jid, str_from(condition_name(line->condition)),
					  line->text ? str_from(line->text) : IRIS_STR("") });
	}
	call->note = arena_printf(call->arena, "%zu of %zu accounts were added",
				  import.count - failed, import.count);
}

/* --- user list, user show --- */

#define ACCOUNT_COLUMNS "jid", "role", "locked", "created", "last-logout"
#define ACCOUNT_CELLS 5

static void
account_cells(struct iris_command_call *call, struct iris_str bare,
	      const struct iris_account *account, struct iris_str *cells_r)
{
	cells_r[0] = bare;
	cells_r[1] = role_name(account->role);
	cells_r[2] = account->locked ? IRIS_STR("true") : IRIS_STR("false");
	cells_r[3] = datetime_format(call->arena, account->created_ms);
	cells_r[4] = account->last_logout_ms ?
			     datetime_format(call->arena, account->last_logout_ms) :
			     IRIS_STR("");
}

static void
user_list(struct iris_command_call *call)
{
	static const char *const columns[] = { ACCOUNT_COLUMNS, NULL };
	struct iris_str cells[ACCOUNT_CELLS];
	struct accounts_entry *entries;
	size_t count;
	int64_t limit;
	iris_owner owner;

	if (!str_to_int(call->values[1], 1, ACCOUNTS_PAGE_MAX, &limit)) {
		refuse(call, IRIS_NOT_ACCEPTABLE, "limit is a number from 1 to 1000");
		return;
	}
	if (!scope_of(call, &owner))
		return;
	if (!accounts_page(call->arena, call->values[0], owner, (size_t)limit, &entries, &count)) {
		refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
		return;
	}
	command_table(call, columns);
	for (size_t i = 0; i < count; i++) {
		account_cells(call, entries[i].jid, &entries[i].account, cells);
		command_row(call, cells);
	}
	if (count == (size_t)limit)
		call->note = arena_printf(call->arena, "There may be more: after %.*s",
					  IRIS_STR_FMT(entries[count - 1].jid));
}

static void
user_show(struct iris_command_call *call)
{
	static const char *const columns[] = { ACCOUNT_COLUMNS, "email", NULL };
	struct iris_str cells[IRIS_COUNT(columns) - 1], email;
	struct iris_account account;
	struct iris_jid jid;

	if (!find_target(call, &jid, &account))
		return;
	if (!email_of(call->arena, &account, &email)) {
		refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
		return;
	}
	account_cells(call, jid_bare(&jid), &account, cells);
	cells[ACCOUNT_CELLS] = str_is_none(email) ? IRIS_STR("") : email;
	command_table(call, columns);
	command_row(call, cells);
}

/* --- user email, email-remove, find --- */

static void
user_email(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;
	enum iris_condition condition;
	const char *text;

	if (!find_target(call, &jid, &account))
		return;
	condition = email_set(call->arena, &jid, call->values[1], &text);
	finish(call, condition, text, &jid, "has this e-mail address");
}

static void
user_email_remove(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;
	enum iris_condition condition;
	const char *text;

	if (!find_target(call, &jid, &account))
		return;
	condition = email_remove(&jid, &text);
	finish(call, condition, text, &jid, "has no e-mail address any more");
}

static void
user_find_email(struct iris_command_call *call)
{
	struct iris_str found;
	const char *text;
	enum iris_condition condition = email_find(call->arena, call->values[0], &found, &text);

	if (condition != IRIS_NO_ERROR) {
		refuse(call, condition, text);
		return;
	}
	call->values[0] = found; /* shown as if it had been asked for by its own address */
	user_show(call);
}

/* --- user passwd, lock, unlock, delete --- */

static void
user_passwd(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;
	enum iris_condition condition;
	const char *text;

	if (!find_target(call, &jid, &account))
		return;
	condition = accounts_set_password(&jid, call->values[1], &text);
	/*
	 * Somebody else's doing: whoever is in with the old password has to prove to know the new
	 * one.
	 */
	if (condition == IRIS_NO_ERROR && !jid_bare_equal(&jid, &call->from))
		accounts_close_sessions(&jid);
	finish(call, condition, text, &jid, "has a new password");
}

static void
user_lock(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;

	if (!find_target(call, &jid, &account))
		return;
	if (jid_bare_equal(&jid, &call->from))
		refuse(call, IRIS_NOT_ALLOWED, "You would lock yourself out");
	else
		finish(call, accounts_set_locked(&jid, true), NULL, &jid, "is locked");
}

static void
user_unlock(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;

	if (find_target(call, &jid, &account))
		finish(call, accounts_set_locked(&jid, false), NULL, &jid, "is unlocked");
}

static void
user_delete(struct iris_command_call *call)
{
	struct iris_account account;
	struct iris_jid jid;

	if (!find_target(call, &jid, &account))
		return;
	if (jid_bare_equal(&jid, &call->from))
		refuse(call, IRIS_NOT_ALLOWED, "You would delete yourself");
	else
		finish(call, accounts_remove(&jid), NULL, &jid, "was deleted");
}

/* --- the table --- */

static const struct iris_command_field jid_field[] = {
	{ .name = "jid", .kind = IRIS_FIELD_JID, .required = true, .positional = true,
		.label = "Account" },
	{ .name = NULL },
};

static const struct iris_command_field add_fields[] = {
	{ .name = "jid", .kind = IRIS_FIELD_JID, .required = true, .positional = true,
		.label = "Account" },
	{ .name = "password", .kind = IRIS_FIELD_SECRET, .required = true, .label = "Password" },
	{ .name = "role", .kind = IRIS_FIELD_CHOICE, .choices = role_choices, .fallback = "user",
		.label = "Role" },
	{ .name = "email", .kind = IRIS_FIELD_TEXT, .label = "E-mail address" },
	{ .name = NULL },
};

static const struct iris_command_field email_fields[] = {
	{ .name = "jid", .kind = IRIS_FIELD_JID, .required = true, .positional = true,
		.label = "Account" },
	{ .name = "email", .kind = IRIS_FIELD_TEXT, .required = true, .positional = true,
		.label = "E-mail address" },
	{ .name = NULL },
};

static const struct iris_command_field find_fields[] = {
	{ .name = "email", .kind = IRIS_FIELD_TEXT, .required = true, .positional = true,
		.label = "E-mail address" },
	{ .name = NULL },
};

static const struct iris_command_field import_fields[] = {
	{ .name = "accounts", .kind = IRIS_FIELD_TEXTS, .required = true,
		.label = "Accounts, one a line: address, space, password or SCRAM verifiers" },
	{ .name = NULL },
};

static const struct iris_command_field list_fields[] = {
	{ .name = "after", .kind = IRIS_FIELD_TEXT, .label = "List those behind this address" },
	{ .name = "limit", .kind = IRIS_FIELD_INT, .fallback = PAGE_DEFAULT,
		.label = "How many at most" },
	{ .name = NULL },
};

static const struct iris_command_field passwd_fields[] = {
	{ .name = "jid", .kind = IRIS_FIELD_JID, .required = true, .positional = true,
		.label = "Account" },
	{ .name = "password", .kind = IRIS_FIELD_SECRET, .required = true,
		.label = "New password" },
	{ .name = NULL },
};

static const struct iris_command command_add = {
	.noun = "user", .verb = "add", .summary = "Add an account", .role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = add_fields, .run = user_add,
};
static const struct iris_command command_import = {
	.noun = "user", .verb = "import", .summary = "Add many accounts at once",
	.role = IRIS_ROLE_SUPER_ADMIN, .fields = import_fields, .run = user_import,
};
static const struct iris_command command_list = {
	.noun = "user", .verb = "list", .summary = "List accounts", .role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = list_fields, .run = user_list,
};
static const struct iris_command command_show = {
	.noun = "user", .verb = "show", .summary = "Show an account",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = jid_field, .run = user_show,
};
static const struct iris_command command_passwd = {
	.noun = "user", .verb = "passwd", .summary = "Set an account's password",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = passwd_fields, .run = user_passwd,
};
static const struct iris_command command_lock = {
	.noun = "user", .verb = "lock", .summary = "Lock an account and close its sessions",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = jid_field, .run = user_lock,
};
static const struct iris_command command_unlock = {
	.noun = "user", .verb = "unlock", .summary = "Unlock an account",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = jid_field, .run = user_unlock,
};
static const struct iris_command command_delete = {
	.noun = "user", .verb = "delete",
	.summary = "Delete an account and all that is kept for it", .role = IRIS_ROLE_COMPANY_ADMIN,
	.dangerous = true, .fields = jid_field, .run = user_delete,
};

static const struct iris_command command_email = {
	.noun = "user", .verb = "email",
	.summary = "Give an account an e-mail address that no other has in any federated region",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = email_fields, .run = user_email,
};
static const struct iris_command command_email_remove = {
	.noun = "user", .verb = "email-remove", .summary = "Take an account's e-mail address away",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = jid_field, .run = user_email_remove,
};
static const struct iris_command command_find_email = {
	.noun = "user", .verb = "find", .summary = "Show the account of an e-mail address",
	.role = IRIS_ROLE_COMPANY_ADMIN, .fields = find_fields, .run = user_find_email,
};

const struct iris_command *const accounts_commands[] = {
	&command_add, &command_import, &command_list, &command_show,
	&command_email, &command_email_remove, &command_find_email,
	&command_passwd, &command_lock, &command_unlock, &command_delete, NULL,
};
