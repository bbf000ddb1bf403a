/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0401 0.6: Ad-hoc Account Invitation Generation, off by default.  The commands that make, list
 * and take back invitations; on a fiber at the home of who asks.
 *
 * People invite contacts (who may register here, if the operator says so), administrators invite
 * new accounts, with a name or without.  What a token does when it is shown is in xep0379 and
 * xep0445; links and the landing page are in xep0401_links.c.
 */
#include "xep/xep0401_invitations.h"
#include "xep/xep0401_tokens.h"

#define NODE_INVITE "urn:xmpp:invite#invite"
#define NODE_CREATE "urn:xmpp:invite#create-account"
#define FORM_INVITATION "urn:xmpp:invite#invitation"
#define SWEEP_MS 3600000 /* an hour */
#define TOKEN_SHOWN 12 /* digits of a hash that tell an invitation from others of the account */

struct iris_module_self invitations_self;
static struct iris_timer invitations_timer;

static void
invite_refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
}

/* Who asks; they are at home here. NULL: refused. */
static struct iris_user *
invite_caller(struct iris_command_call *call)
{
	struct iris_user *user = user_find(jid_bare(&call->from));

	if (!user)
		invite_refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
	return user;
}

static void
invite_answer(struct iris_command_call *call, const struct invite_record *record,
	      struct iris_str secret)
{
	static const char *const columns[] = { "uri", "landing-url", "expire", NULL };
	struct iris_str uri = invite_uri(call->arena, record, secret);
	struct iris_str cells[] = { uri, invite_landing_url(call->arena, secret, uri),
				    datetime_format(call->arena, record->expires_ms) };

	command_table(call, columns);
	command_row(call, cells);
}

static bool
invite_may_register(void)
{
	return option_bool(&invitations_self, INVITE_OPT_REGISTER) && module_is_loaded("xep0445");
}

/* --- §3: people invite people --- */

static void
invite_run_contact(struct iris_command_call *call)
{
	struct iris_user *user = invite_caller(call);
	struct invite_record record = { .rights = INVITE_CONTACT | INVITE_ROSTER };
	struct iris_str secret;
	enum iris_condition condition;

	if (!user)
		return;
	if (call->role == IRIS_ROLE_OPERATOR) {
		invite_refuse(call, IRIS_NOT_ALLOWED, "irisctl is nobody's contact");
		return;
	}
	if (!option_bool(&invitations_self, INVITE_OPT_USERS) &&
	    call->role < IRIS_ROLE_COMPANY_ADMIN) {
		invite_refuse(call, IRIS_FORBIDDEN, "Only administrators invite here");
		return;
	}
	if (invite_may_register())
		record.rights |= INVITE_REGISTER;
	record.inviter = user->jid;
	condition = invite_make(user, &record, call->arena, &secret);
	if (condition != IRIS_NO_ERROR) {
		invite_refuse(call, condition, "Too many invitations wait to be used");
		return;
	}
	invite_answer(call, &record, secret);
}

/* --- §4: administrators invite accounts --- */

enum { FIELD_USERNAME, FIELD_ROSTER, FIELD_HOST };

/* The address that will be made; of the node is none when the person may choose it. */
static bool
invite_read_account(struct iris_command_call *call, struct iris_jid *jid_r)
{
	struct iris_str domain = call->values[FIELD_HOST], node = IRIS_STR_NONE;
	struct iris_account account;

	if (str_is_none(domain))
		domain = jid_domain(&call->from);
	if (!str_is_none(call->values[FIELD_USERNAME]) &&
	    !jid_prepare_new_node(call->arena, call->values[FIELD_USERNAME], &node)) {
		invite_refuse(call, IRIS_NOT_ACCEPTABLE, "That is not a name of an account");
		return false;
	}
	if (!jid_make(call->arena, node, domain, IRIS_STR_NONE, jid_r) ||
	    !host_find(jid_domain(jid_r))) {
		invite_refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such host");
		return false;
	}
	if (str_is_none(node))
		return true;
	if (!accounts()->find(jid_r, &account) || account.id != 0 ||
	    invite_is_reserved(jid_r, NULL)) {
		invite_refuse(call, IRIS_CONFLICT, "The name is taken, or reserved");
		return false;
	}
	return true;
}

static void
invite_run_account(struct iris_command_call *call)
{
	struct iris_user *user = invite_caller(call);
	struct invite_record record = { .rights = INVITE_REGISTER };
	struct iris_str secret;
	struct iris_jid jid;
	enum iris_condition condition;

	if (!user || !invite_read_account(call, &jid))
		return;
	if (!module_is_loaded("xep0445")) {
		invite_refuse(call, IRIS_NOT_ALLOWED, "Load xep0445: nobody can register here");
		return;
	}
	user = invite_caller(call); /* after the waits */
	if (!user)
		return;
	if (str_is(call->values[FIELD_ROSTER], "true") || str_is(call->values[FIELD_ROSTER], "1"))
		record.rights |= INVITE_ROSTER;
	record.inviter = user->jid;
	record.name = jid_bare(&jid);
	condition = invite_make(user, &record, call->arena, &secret);
	if (condition != IRIS_NO_ERROR) {
		invite_refuse(call, condition, "Too many invitations wait to be used");
		return;
	}
	invite_answer(call, &record, secret);
}

/* --- what was given out --- */

static void
invite_list_one(const struct invite *invite, void *arg)
{
	struct iris_command_call *call = arg;
	struct iris_str cells[] = {
		{ invite->token, TOKEN_SHOWN },
		invite->rights & INVITE_CONTACT ? IRIS_STR("contact") : IRIS_STR("account"),
		invite->name,
		datetime_format(call->arena, invite->created_ms),
		datetime_format(call->arena, invite->expires_ms),
	};

	command_row(call, cells);
}

static void
invite_run_list(struct iris_command_call *call)
{
	static const char *const columns[] = { "invitation", "kind", "name", "made", "expire",
					       NULL };
	struct iris_user *user = invite_caller(call);

	if (!user)
		return;
	command_table(call, columns);
	invite_each(user, invite_list_one, call);
}

struct invite_search {
	struct iris_str prefix;
	char token[INVITE_TOKEN_SIZE];
	unsigned found;
};

static void
invite_match_prefix(const struct invite *invite, void *arg)
{
	struct invite_search *search = arg;

	if (memcmp(invite->token, search->prefix.base, search->prefix.len) != 0)
		return;
	memcpy(search->token, invite->token, sizeof(search->token));
	search->found++;
}

static void
invite_run_revoke(struct iris_command_call *call)
{
	struct iris_user *user = invite_caller(call);
	struct invite_search search = { .prefix = call->values[0] };
	struct invite *invite;

	if (!user)
		return;
	if (search.prefix.len >= TOKEN_SHOWN && search.prefix.len < INVITE_TOKEN_SIZE)
		invite_each(user, invite_match_prefix, &search);
	invite = search.found == 1 ? invite_find(user, search.token) : NULL;
	if (!invite || invite->claimed) {
		invite_refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such invitation");
		return;
	}
	if (invite_revoke(user, invite))
		call->note = IRIS_STR("The invitation was taken back");
	else
		invite_refuse(call, IRIS_RESOURCE_CONSTRAINT, NULL);
}

static enum iris_verdict
invitations_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&invite_query_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

/* --- what nobody used: main thread --- */

/* Not posted now, the next sweep does it. In memory they go when the next one is made. */
static void
invitations_sweep(void *arg)
{
	int64_t before = worker_wall_ms() - INVITE_GRACE_MS;

	if (vault_post(&invite_query_expire, IRIS_OWNER_DEFAULT, VALUES(value_int(before)),
		       NULL) != IRIS_VAULT_OK)
		LOG(IRIS_LOG_INFO, "xep0401", "sweep-put-off", LOG_INT("before_ms", before));
	timer_start(&invitations_timer, SWEEP_MS, invitations_sweep, NULL);
}

static bool
invitations_start(struct iris_error *error)
{
	invitations_sweep(NULL);
	return true;
}

static void
invitations_stop(void)
{
	timer_stop(&invitations_timer);
}

static const struct iris_command_field account_fields[] = {
	[FIELD_USERNAME] = { "username", IRIS_FIELD_TEXT, .positional = true,
			     .label = "Username; empty: the person chooses" },
	[FIELD_ROSTER] = { "roster-subscription", IRIS_FIELD_BOOL, .fallback = "false",
			   .label = "Be in each other's contact list" },
	[FIELD_HOST] = { "host", IRIS_FIELD_TEXT, .label = "Host; empty: yours" },
	{ .name = NULL },
};

static const struct iris_command_field revoke_fields[] = {
	{ "invitation", IRIS_FIELD_TEXT, .required = true, .positional = true,
	  .label = "Which one, as the list shows it" },
	{ .name = NULL },
};

static const struct iris_command command_contact = {
	.noun = "invite",
	.verb = "contact",
	.summary = "Invite user",
	.node = NODE_INVITE,
	.form_type = FORM_INVITATION,
	.role = IRIS_ROLE_USER,
	.run = invite_run_contact,
};

static const struct iris_command command_account = {
	.noun = "invite",
	.verb = "account",
	.summary = "Create account",
	.node = NODE_CREATE,
	.form_type = FORM_INVITATION,
	.role = IRIS_ROLE_COMPANY_ADMIN,
	.fields = account_fields,
	.run = invite_run_account,
};

static const struct iris_command command_list = {
	.noun = "invite",
	.verb = "list",
	.summary = "Show the invitations that wait to be used",
	.role = IRIS_ROLE_USER,
	.run = invite_run_list,
};

static const struct iris_command command_revoke = {
	.noun = "invite",
	.verb = "revoke",
	.summary = "Take an invitation back",
	.role = IRIS_ROLE_USER,
	.fields = revoke_fields,
	.run = invite_run_revoke,
};

static const struct iris_hook_handler invitations_hooks[] = {
	HOOK(user_unload, IRIS_NEUTRAL, invites_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, invitations_account_removed),
	HOOKS_END,
};

static const struct iris_option invitations_options[] = {
	[INVITE_OPT_USERS] = { "users", IRIS_OPT_BOOL, "true", .reloadable = true,
			       .help = "Whether everybody may invite contacts; else only "
				       "administrators invite." },
	[INVITE_OPT_REGISTER] = { "register", IRIS_OPT_BOOL, "false", .reloadable = true,
				  .help = "Whether who is invited as a contact may register an "
					  "account here." },
	[INVITE_OPT_EXPIRY] = { "expiry", IRIS_OPT_DURATION, "7 days", .min = 60000,
				.max = 31536000000, .reloadable = true,
				.help = "How long an invitation can be used." },
	[INVITE_OPT_ACCOUNT_MAX] = { "account-max", IRIS_OPT_INT, "20", .min = 1, .max = 10000,
				     .reloadable = true,
				     .help = "How many invitations of one account may wait to be "
					     "used." },
	[INVITE_OPT_LANDING_URL] = { "landing-url", IRIS_OPT_STRING, NULL, .optional = true,
				     .max = 1023, .reloadable = true,
				     .help = "The page for people without a client; $token or "
					     "$uri in it are replaced." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0401 = {
	IRIS_MODULE_HEAD,
	.name = "xep0401",
	.summary = "Ad-hoc Account Invitation Generation",
	.xep = "XEP-0401 0.6.0",
	.needs = IRIS_NAMES("xep0050"),
	.self = &invitations_self,
	.options = invitations_options,
	.queries = (struct iris_query *const[]){ &invite_query_load, &invite_query_store,
						 &invite_query_drop, &invite_query_erase,
						 &invite_query_expire, &invite_query_owner,
						 &invite_query_record, &invite_query_reserved,
						 NULL },
	.user_rows = (const struct iris_user_rows[]){ { &invite_query_load, invites_user_take },
						      { NULL } },
	.web = invite_routes,
	.hooks = invitations_hooks,
	.commands = (const struct iris_command *const[]){ &command_contact, &command_account,
							  &command_list, &command_revoke, NULL },
	.off_by_default = true,
	.not_unloadable = true,
	.start = invitations_start,
	.stop = invitations_stop,
};
