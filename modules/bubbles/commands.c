/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bubble create|list|show|invite|remove|promote|demote|transfer|archive|restore|delete`: for
 * people in their clients, and for operators, to whom every bubble is theirs.  On the fiber of the
 * request, wherever that is; what they do is done at the home of the bubble (acts.c).
 */
#include "modules/bubbles/acts_private.h"

#define PAGE_DEFAULT "100"
#define PAGE_MAX 1000

static const char *const parts[ROOM_AFFILIATION_COUNT] = {
	[ROOM_MEMBER] = "participant", [ROOM_ADMIN] = "co-organizer", [ROOM_OWNER] = "organizer",
};

static bool
refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return false;
}

/* Of checked fields: an address that is there is one. */
static struct iris_jid
bare_of(struct iris_command_call *call, struct iris_str text)
{
	struct iris_jid jid;

	if (str_is_empty(text) || !jid_parse(call->arena, text, &jid))
		return IRIS_JID_NONE;
	return jid_with_resource(call->arena, &jid, IRIS_STR_NONE);
}

static struct bubble_act
act_of(struct iris_command_call *call)
{
	return (struct bubble_act){
		.call = call,
		.by = bare_of(call, jid_full(&call->from)),
		.is_operator = call->role >= IRIS_ROLE_SUPER_ADMIN,
	};
}

/* Field 0 is the bubble, 1 whom it is about, 2 why; as far as the command has them. */
static bool
run_act(struct iris_command_call *call, struct bubble_act *act, void (*fn)(void *act))
{
	act->bubble = bare_of(call, call->values[0]);
	if (act->bubble.node_len == 0)
		return refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such bubble");
	home_call(jid_bare(&act->bubble), "bubbles: command", fn, act);
	return call->refusal.condition == IRIS_NO_ERROR;
}

static void
note(struct iris_command_call *call, const char *before, struct iris_str what, const char *after)
{
	call->note = arena_printf(call->arena, "%s%.*s%s", before, IRIS_STR_FMT(what), after);
}

/* --- create --- */

enum { CREATE_NAME, CREATE_ADDRESS, CREATE_DESCRIPTION, CREATE_ORGANIZER };

static bool
find_organizer(struct iris_command_call *call, struct bubble_act *act)
{
	struct iris_jid organizer = bare_of(call, call->values[CREATE_ORGANIZER]);
	struct iris_account account;

	if (jid_is_none(&organizer) && call->role < IRIS_ROLE_OPERATOR)
		return true;
	if (jid_is_none(&organizer))
		return refuse(call, IRIS_BAD_REQUEST, "Say who is to be the organizer");
	if (!act->is_operator && !jid_bare_equal(&organizer, &act->by))
		return refuse(call, IRIS_FORBIDDEN, "You can be the organizer, nobody else");
	if (!accounts()->find(&organizer, &account))
		return refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
	if (account.id == 0)
		return refuse(call, IRIS_ITEM_NOT_FOUND, "There is no such account");
	act->by = organizer;
	return true;
}

/* The address that was asked for, or one that nobody can guess. */
static bool
find_address(struct iris_command_call *call, struct bubble_act *act)
{
	struct iris_host *host = host_find(jid_domain(&act->by));
	struct iris_service *service = host ? rooms_service(host) : NULL;

	if (!service)
		return refuse(call, IRIS_SERVICE_UNAVAILABLE, "There are no bubbles here");
	act->bubble = bare_of(call, call->values[CREATE_ADDRESS]);
	if (jid_is_none(&act->bubble) &&
	    !jid_make(call->arena, random_id(call->arena, 120), jid_domain(&service->jid),
		      IRIS_STR_NONE, &act->bubble))
		return refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
	if (act->bubble.node_len == 0 ||
	    !str_equal(jid_domain(&act->bubble), jid_domain(&service->jid)))
		return refuse(call, IRIS_NOT_ACCEPTABLE, "Bubbles do not live at that address");
	return true;
}

static void
run_create(struct iris_command_call *call)
{
	static const char *const columns[] = { "bubble", "name", NULL };
	struct bubble_act act = act_of(call);
	struct iris_strbuf config = STRBUF_INIT(call->arena);

	if (!find_organizer(call, &act) || !find_address(call, &act))
		return;
	strbuf_printf(&config, "roomname=%.*s\n", IRIS_STR_FMT(call->values[CREATE_NAME]));
	if (!str_is_empty(call->values[CREATE_DESCRIPTION]))
		strbuf_printf(&config, "roomdesc=%.*s\n",
			      IRIS_STR_FMT(call->values[CREATE_DESCRIPTION]));
	act.config = strbuf_str(&config);
	home_call(jid_bare(&act.bubble), "bubbles: command", act_create, &act);
	if (call->refusal.condition != IRIS_NO_ERROR)
		return;
	command_table(call, columns);
	command_row(call, (const struct iris_str[]){ jid_bare(&act.bubble),
						     call->values[CREATE_NAME] });
	note(call, "The bubble \"", call->values[CREATE_NAME], "\" was created");
}

/* --- list, show --- */

static bool
read_limit(struct iris_command_call *call, struct iris_str text, int64_t *limit_r)
{
	return str_to_int(text, 1, PAGE_MAX, limit_r) ||
	       refuse(call, IRIS_NOT_ACCEPTABLE, "limit is a number from 1 to 1000");
}

static void
note_more(struct iris_command_call *call, const struct iris_jid *last)
{
	note(call, "There may be more: after ", jid_bare(last), "");
}

enum { LIST_AFTER, LIST_LIMIT, LIST_ACCOUNT };

/* People list their own, operators anybody's, or all. */
static bool
read_page(struct iris_command_call *call, int64_t limit, struct room_found **found_r,
	  size_t *count_r)
{
	struct bubble_act act = act_of(call);
	struct iris_jid after = bare_of(call, call->values[LIST_AFTER]);
	struct iris_jid account = bare_of(call, call->values[LIST_ACCOUNT]);
	struct iris_host *host = host_find(jid_domain(&act.by));
	struct iris_service *service = host ? rooms_service(host) : NULL;
	bool read;

	if (!jid_is_none(&account) && !act.is_operator && !jid_bare_equal(&account, &act.by))
		return refuse(call, IRIS_FORBIDDEN, "You can list your own bubbles");
	if (jid_is_none(&account) && !act.is_operator)
		account = act.by;
	if (jid_is_none(&account) && !service)
		return refuse(call, IRIS_SERVICE_UNAVAILABLE, "There are no bubbles here");
	read = jid_is_none(&account) ?
		       rooms_at(service, &after, (size_t)limit, call->arena, found_r, count_r) :
		       rooms_of(&account, &after, (size_t)limit, call->arena, found_r, count_r);
	return read || refuse(call, IRIS_INTERNAL_SERVER_ERROR, NULL);
}

static void
run_list(struct iris_command_call *call)
{
	static const char *const columns[] = { "bubble", "name", "state", "part", NULL };
	struct room_found *found;
	int64_t limit;
	size_t count;

	if (!read_limit(call, call->values[LIST_LIMIT], &limit) ||
	    !read_page(call, limit, &found, &count))
		return;
	command_table(call, columns);
	for (size_t i = 0; i < count; i++)
		command_row(call, (const struct iris_str[]){
					  jid_bare(&found[i].jid), found[i].name,
					  str_is_empty(found[i].policy) ? IRIS_STR("open") :
									  found[i].policy,
					  str_from(parts[found[i].affiliation]) });
	if (count == (size_t)limit)
		note_more(call, &found[count - 1].jid);
}

static struct iris_str
rights_text(struct iris_arena *arena, const struct bubble_act *act)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	for (unsigned i = 0; i < BUBBLE_ACTION_COUNT; i++)
		if (bubble_judge(act->as, (enum bubble_action)i, act->state) == IRIS_NO_ERROR)
			strbuf_printf(&text, "%s%s", text.len ? ", " : "",
				      bubble_action_name((enum bubble_action)i));
	return strbuf_str(&text);
}

static bool
is_behind(const struct iris_jid *jid, const struct iris_jid *after)
{
	struct iris_str x = jid_bare(jid), y = jid_is_none(after) ? IRIS_STR("") : jid_bare(after);
	int order = y.len ? memcmp(x.base, y.base, x.len < y.len ? x.len : y.len) : 1;

	return order ? order > 0 : x.len > y.len;
}

enum { SHOW_BUBBLE, SHOW_AFTER, SHOW_LIMIT };

static void
run_show(struct iris_command_call *call)
{
	static const char *const columns[] = { "member", "part", NULL };
	struct bubble_act act = act_of(call);
	struct iris_jid after = bare_of(call, call->values[SHOW_AFTER]);
	int64_t limit;
	size_t i = 0;

	if (!read_limit(call, call->values[SHOW_LIMIT], &limit) || !run_act(call, &act, act_show))
		return;
	command_table(call, columns);
	while (i < act.member_count && !is_behind(&act.members[i].jid, &after))
		i++;
	for (; i < act.member_count && call->row_count < (size_t)limit; i++)
		command_row(call, (const struct iris_str[]){
					  jid_bare(&act.members[i].jid),
					  str_from(parts[act.members[i].affiliation]) });
	call->note = arena_printf(
		call->arena, "\"%.*s\" is %s and has %zu members; you may: %.*s%s",
		IRIS_STR_FMT(act.name), act.state == BUBBLE_ARCHIVED ? "archived" : "open",
		act.member_count, IRIS_STR_FMT(rights_text(call->arena, &act)),
		i < act.member_count ? "; there are more behind the last one" : "");
}

/* --- people in it --- */

enum { MEMBER_BUBBLE, MEMBER_MEMBER, MEMBER_REASON };

/* `said` comes between the member and the bubble's name. */
static void
run_member(struct iris_command_call *call, void (*fn)(void *act), const char *said)
{
	struct bubble_act act = act_of(call);

	act.member = bare_of(call, call->values[MEMBER_MEMBER]);
	if (jid_is_none(&act.member))
		act.member = act.by;
	if (call->command->fields[MEMBER_REASON].name)
		act.reason = call->values[MEMBER_REASON];
	if (run_act(call, &act, fn))
		call->note = arena_printf(call->arena, "%.*s %s \"%.*s\"",
					  IRIS_STR_FMT(jid_bare(&act.member)), said,
					  IRIS_STR_FMT(act.name));
}

static void
run_invite(struct iris_command_call *call)
{
	run_member(call, act_invite, "was invited and belongs to");
}

static void
run_remove(struct iris_command_call *call)
{
	run_member(call, act_remove, "does not belong any more to");
}

static void
run_promote(struct iris_command_call *call)
{
	run_member(call, act_promote, "is a co-organizer of");
}

static void
run_demote(struct iris_command_call *call)
{
	run_member(call, act_demote, "is a participant of");
}

static void
run_transfer(struct iris_command_call *call)
{
	run_member(call, act_transfer, "is the organizer of");
}

/* --- the whole of it --- */

static void
run_bubble(struct iris_command_call *call, void (*fn)(void *act), const char *said)
{
	struct bubble_act act = act_of(call);

	if (call->command->fields[1].name)
		act.reason = call->values[1];
	if (run_act(call, &act, fn))
		note(call, "\"", act.name, said);
}

static void
run_archive(struct iris_command_call *call)
{
	run_bubble(call, act_archive, "\" is archived: it can be read, not changed");
}

static void
run_restore(struct iris_command_call *call)
{
	run_bubble(call, act_restore, "\" is open again");
}

static void
run_delete(struct iris_command_call *call)
{
	run_bubble(call, act_delete, "\" was deleted, with its history and files");
}

/* --- the table --- */

#define FIELD_BUBBLE                                                                     \
	{ .name = "bubble", .kind = IRIS_FIELD_JID, .required = true, .positional = true, \
	  .label = "The bubble's address" }
#define FIELD_AFTER(label_) { .name = "after", .kind = IRIS_FIELD_JID, .label = label_ }
#define FIELD_LIMIT                                                         \
	{ .name = "limit", .kind = IRIS_FIELD_INT, .fallback = PAGE_DEFAULT, \
	  .label = "How many at most" }
#define FIELD_REASON { .name = "reason", .kind = IRIS_FIELD_TEXT, .label = "Why" }
#define FIELD_MEMBER(required_, label_)                                          \
	{ .name = "member", .kind = IRIS_FIELD_JID, .required = required_,        \
	  .positional = required_, .label = label_ }
#define FIELD_END { .name = NULL }

static const struct iris_command_field create_fields[] = {
	[CREATE_NAME] = { "name", IRIS_FIELD_TEXT, .required = true, .positional = true,
			  .label = "Its name" },
	[CREATE_ADDRESS] = { "address", IRIS_FIELD_JID, .label = "Its address; empty: any" },
	[CREATE_DESCRIPTION] = { "description", IRIS_FIELD_TEXT, .label = "What it is for" },
	[CREATE_ORGANIZER] = { "organizer", IRIS_FIELD_JID,
			       .label = "Who is the organizer; empty: you" },
	FIELD_END,
};
static const struct iris_command_field list_fields[] = {
	[LIST_AFTER] = FIELD_AFTER("List those behind this bubble"),
	[LIST_LIMIT] = FIELD_LIMIT,
	[LIST_ACCOUNT] = { "account", IRIS_FIELD_JID,
			   .label = "Whose; empty: yours, to an operator all" },
	FIELD_END,
};
static const struct iris_command_field show_fields[] = {
	[SHOW_BUBBLE] = FIELD_BUBBLE,
	[SHOW_AFTER] = FIELD_AFTER("Show members behind this one"),
	[SHOW_LIMIT] = FIELD_LIMIT,
	FIELD_END,
};
static const struct iris_command_field invite_fields[] = {
	[MEMBER_BUBBLE] = FIELD_BUBBLE,
	[MEMBER_MEMBER] = FIELD_MEMBER(true, "Who is invited"),
	[MEMBER_REASON] = FIELD_REASON,
	FIELD_END,
};
static const struct iris_command_field remove_fields[] = {
	[MEMBER_BUBBLE] = FIELD_BUBBLE,
	[MEMBER_MEMBER] = FIELD_MEMBER(false, "Who leaves; empty: you"),
	[MEMBER_REASON] = FIELD_REASON,
	FIELD_END,
};
static const struct iris_command_field member_fields[] = {
	[MEMBER_BUBBLE] = FIELD_BUBBLE,
	[MEMBER_MEMBER] = FIELD_MEMBER(true, "Who"),
	FIELD_END,
};
static const struct iris_command_field bubble_fields[] = { FIELD_BUBBLE, FIELD_END };
static const struct iris_command_field delete_fields[] = { FIELD_BUBBLE, FIELD_REASON, FIELD_END };

#define COMMAND(verb_, summary_, fields_, ...)                                            \
	static const struct iris_command command_##verb_ = {                              \
		.noun = "bubble", .verb = #verb_, .summary = summary_,                    \
		.role = IRIS_ROLE_USER, .fields = fields_, .run = run_##verb_, __VA_ARGS__ \
	}

COMMAND(create, "Create a bubble", create_fields, );
COMMAND(list, "List bubbles", list_fields, );
COMMAND(show, "Show a bubble, who belongs to it, and what you may", show_fields, );
COMMAND(invite, "Invite somebody to a bubble", invite_fields, );
COMMAND(remove, "Remove somebody from a bubble, or leave it", remove_fields, );
COMMAND(promote, "Make a participant a co-organizer", member_fields, );
COMMAND(demote, "Make a co-organizer a participant", member_fields, );
COMMAND(transfer, "Make a co-organizer the organizer", member_fields, );
COMMAND(archive, "Archive a bubble: it can be read, not changed", bubble_fields, );
COMMAND(restore, "Open an archived bubble again", bubble_fields, );
COMMAND(delete, "Delete a bubble, its history and its files", delete_fields, .dangerous = true);

const struct iris_command *const bubbles_commands[] = {
	&command_create,  &command_list,   &command_show,     &command_invite,
	&command_remove,  &command_promote, &command_demote,  &command_transfer,
	&command_archive, &command_restore, &command_delete, NULL,
};
