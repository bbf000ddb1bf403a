/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §10.2, §15.5.3: the configuration of a room, as a table of fields; read from forms and
 * from what is kept, written as a form, as text, and as disco#info (§6.4).  Any thread.
 *
 * What the registry has and we do not do (roomadmins, roomowners: affiliations have requests of
 * their own; pubsub) is ignored where it is submitted, and never shown.
 */
#include <stdio.h>
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"

#define NS_ROOM_CONFIG NS_MUC "#roomconfig"
#define FIELD_PREFIX "muc#roomconfig_"
#define SECRET_VAR "roomsecret"

/* A set of roles is a number: 1 << role. */
#define ROLE_BIT(role) (1 << (role))
#define ROLES_ALL (ROLE_BIT(ROOM_VISITOR) | ROLE_BIT(ROOM_PARTICIPANT) | ROLE_BIT(ROOM_MODERATOR))

enum number_kind {
	NUMBER_BOOL,
	NUMBER_CHOICE,
	NUMBER_USERS,    /* a count, or none */
	NUMBER_MESSAGES, /* a count */
	NUMBER_ROLES,    /* a set of roles */
	NUMBER_BROADCAST /* a set of roles, kept as a bool for each; the first is the field */
};

struct number_field {
	const char *var; /* less the prefix; NULL: a part of another */
	enum number_kind kind;
	int32_t fallback;
	const char *const *choices;
	const char *label;
};

struct text_field {
	const char *var;
	const char *type; /* NULL: no form has it */
	size_t max;
	const char *label;
};

#define CHOICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static const struct number_field number_fields[ROOM_CONFIG_NUMBER_COUNT] = {
	[ROOM_CONFIG_PERSISTENT] = { "persistentroom", NUMBER_BOOL, false, NULL,
		"The room stays when the last one has left" },
	[ROOM_CONFIG_PUBLIC] = { "publicroom", NUMBER_BOOL, true, NULL,
		"The room is listed and can be searched for" },
	[ROOM_CONFIG_MEMBERS_ONLY] = { "membersonly", NUMBER_BOOL, false, NULL,
		"Only members may enter" },
	[ROOM_CONFIG_MODERATED] = { "moderatedroom", NUMBER_BOOL, false, NULL,
		"Only those with voice may speak" },
	[ROOM_CONFIG_PASSWORD_PROTECTED] = { "passwordprotectedroom", NUMBER_BOOL, false, NULL,
		"Who enters needs a password" },
	[ROOM_CONFIG_WHOIS] = { "whois", NUMBER_CHOICE, ROOM_WHOIS_MODERATORS,
		CHOICES("moderators", "anyone"), "Who may see the addresses of occupants" },
	[ROOM_CONFIG_CHANGE_SUBJECT] = { "changesubject", NUMBER_BOOL, false, NULL,
		"Participants may change the subject" },
	[ROOM_CONFIG_ALLOW_INVITES] = { "allowinvites", NUMBER_BOOL, true, NULL,
		"Members may invite others" },
	[ROOM_CONFIG_ALLOW_PM] = { "allowpm", NUMBER_CHOICE, ROOM_PM_ANYONE,
		CHOICES("anyone", "participants", "moderators", "none"),
		"Who may send private messages" },
	[ROOM_CONFIG_MAX_USERS] = { "maxusers", NUMBER_USERS, 0,
		CHOICES("10", "20", "50", "100", "none"), "How many may be in the room" },
	[ROOM_CONFIG_HISTORY] = { "maxhistoryfetch", NUMBER_MESSAGES, 20, NULL,
		"How many messages who enters is sent at most" },
	[ROOM_CONFIG_ARCHIVE] = { "enablelogging", NUMBER_BOOL, true, NULL,
		"What is said is kept in the archive of the room" },
	[ROOM_CONFIG_PRESENCE_VISITOR] = { "presencebroadcast", NUMBER_BROADCAST, true, NULL,
		"The roles whose presence is shown to all" },
	[ROOM_CONFIG_PRESENCE_PARTICIPANT] = { NULL, NUMBER_BROADCAST, true, NULL, NULL },
	[ROOM_CONFIG_PRESENCE_MODERATOR] = { NULL, NUMBER_BROADCAST, true, NULL, NULL },
	[ROOM_CONFIG_GET_MEMBER_LIST] = { "getmemberlist", NUMBER_ROLES,
		ROLE_BIT(ROOM_PARTICIPANT) | ROLE_BIT(ROOM_MODERATOR), NULL,
		"The roles that may retrieve the list of members" },
	[ROOM_CONFIG_REGISTER] = { "allowregister", NUMBER_BOOL, true, NULL,
		"Who asks for it may become a member, or reserve a nick" },
	[ROOM_CONFIG_VOICE_REQUESTS] = { "allowvoicerequests", NUMBER_BOOL, true, NULL,
		"Visitors may ask moderators for voice" },
	[ROOM_CONFIG_CHANGE_NICK] = { "allownickchange", NUMBER_BOOL, true, NULL,
		"Occupants may change their nick" },
};

static const struct text_field text_fields[ROOM_CONFIG_TEXT_COUNT] = {
	[ROOM_CONFIG_NAME] = { "roomname", "text-single", 255, "The name of the room" },
	[ROOM_CONFIG_DESCRIPTION] = { "roomdesc", "text-single", 1023, "A short description" },
	[ROOM_CONFIG_SECRET] = { SECRET_VAR, "text-private", 255, "The password" },
	[ROOM_CONFIG_LANGUAGE] = { "lang", "text-single", 35,
		"The language that is spoken in the room" },
	[ROOM_CONFIG_POLICY] = { "policy", NULL, 255, NULL },
};

/* --- values --- */

static int
find_number(struct iris_str var)
{
	for (int i = 0; i < ROOM_CONFIG_NUMBER_COUNT; i++)
		if (number_fields[i].var && str_is(var, number_fields[i].var))
			return i;
	return -1;
}

static int
find_text(struct iris_str var)
{
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++)
		if (str_is(var, text_fields[i].var))
			return i;
	return -1;
}

/* The three bools of one field as the set of roles that it is. */
static int32_t
get_number(const struct room_config *config, int i)
{
	int32_t roles = 0;

	if (number_fields[i].kind != NUMBER_BROADCAST)
		return config->numbers[i];
	for (int role = ROOM_VISITOR; role <= ROOM_MODERATOR; role++)
		if (config->numbers[i + role - ROOM_VISITOR])
			roles |= ROLE_BIT(role);
	return roles;
}

static void
set_number(struct room_config *config, int i, int32_t value)
{
	if (number_fields[i].kind != NUMBER_BROADCAST) {
		config->numbers[i] = value;
		return;
	}
	for (int role = ROOM_VISITOR; role <= ROOM_MODERATOR; role++)
		config->numbers[i + role - ROOM_VISITOR] = (value & ROLE_BIT(role)) != 0;
}

/* Words, parted by spaces or line ends. */
static bool
read_roles(struct iris_str text, int32_t *roles_r)
{
	*roles_r = 0;
	while (text.len > 0) {
		size_t len = 0;
		int role = ROOM_VISITOR;

		while (len < text.len && text.base[len] != ' ' && text.base[len] != '\n')
			len++;
		while (len > 0 && role < ROOM_ROLE_COUNT &&
		       !str_is((struct iris_str){ text.base, len },
			       room_role_name((enum room_role)role)))
			role++;
		if (role == ROOM_ROLE_COUNT)
			return false;
		if (len > 0)
			*roles_r |= ROLE_BIT(role);
		len += len < text.len;
		text = (struct iris_str){ text.base + len, text.len - len };
	}
	return true;
}

static bool
read_choice(const char *const *choices, struct iris_str text, int32_t *value_r)
{
	for (int32_t n = 0; choices[n]; n++)
		if (str_is(text, choices[n])) {
			*value_r = n;
			return true;
		}
	return false;
}

static bool
read_number(int i, struct iris_str text, int32_t *value_r)
{
	int64_t count = 0;

	switch (number_fields[i].kind) {
	case NUMBER_BOOL:
		*value_r = form_value_is_true(text);
		return *value_r || str_is(text, "0") || str_is(text, "false");
	case NUMBER_CHOICE:
		return read_choice(number_fields[i].choices, text, value_r);
	case NUMBER_USERS:
	case NUMBER_MESSAGES:
		if (!(number_fields[i].kind == NUMBER_USERS && str_is(text, "none")) &&
		    !str_to_int(text, 0, INT32_MAX, &count))
			return false;
		*value_r = (int32_t)count;
		return true;
	case NUMBER_ROLES:
	case NUMBER_BROADCAST:
		return read_roles(text, value_r);
	}
	return false;
}

static void
write_roles(struct iris_strbuf *out, int32_t roles)
{
	size_t before = out->len;

	for (int role = ROOM_MODERATOR; role >= ROOM_VISITOR; role--) {
		if (!(roles & ROLE_BIT(role)))
			continue;
		if (out->len > before)
			strbuf_add_char(out, ' ');
		strbuf_add(out, str_from(room_role_name((enum room_role)role)));
	}
}

static void
write_number(struct iris_strbuf *out, int i, int32_t value)
{
	const struct number_field *field = &number_fields[i];

	if (field->kind == NUMBER_CHOICE)
		strbuf_add(out, str_from(field->choices[value]));
	else if (field->kind == NUMBER_ROLES || field->kind == NUMBER_BROADCAST)
		write_roles(out, value);
	else if (field->kind == NUMBER_USERS && value == 0)
		strbuf_add(out, IRIS_STR("none"));
	else
		strbuf_printf(out, "%d", (int)value);
}

static struct iris_str
number_text(struct iris_arena *arena, const struct room_config *config, int i)
{
	struct iris_strbuf out = STRBUF_INIT(arena);

	write_number(&out, i, get_number(config, i));
	return strbuf_str(&out);
}

/* SECURITY: a line end in a value would make another field of what follows. */
static void
set_text(struct room_config *config, int i, struct iris_str text)
{
	free(config->texts[i]);
	config->texts[i] = str_is_empty(text) ? NULL : str_dup(text);
	for (char *c = config->texts[i]; c && *c; c++)
		if (*c == '\n' || *c == '\r')
			*c = ' ';
}

/* --- the text that is kept: "name=value" lines --- */

static bool
next_line(struct iris_str *lines, struct iris_str *var_r, struct iris_str *value_r)
{
	while (lines->len > 0) {
		const char *end = memchr(lines->base, '\n', lines->len);
		size_t len = end ? (size_t)(end - lines->base) : lines->len;
		const char *equals = len > 0 ? memchr(lines->base, '=', len) : NULL;
		const char *line = lines->base;

		lines->base += len + (end != NULL);
		lines->len -= len + (end != NULL);
		if (!equals)
			continue;
		*var_r = (struct iris_str){ line, (size_t)(equals - line) };
		*value_r = (struct iris_str){ equals + 1, len - var_r->len - 1 };
		return true;
	}
	return false;
}

static void
read_lines(struct room_config *config, struct iris_str lines)
{
	struct iris_str var, value;
	int32_t number;
	int i;

	while (next_line(&lines, &var, &value))
		if ((i = find_number(var)) >= 0 && read_number(i, value, &number))
			set_number(config, i, number);
		else if ((i = find_text(var)) >= 0)
			set_text(config, i, value);
}

void
room_config_init(struct room_config *config, struct iris_str lines)
{
	*config = (struct room_config){ .texts = { NULL } };
	for (int i = 0; i < ROOM_CONFIG_NUMBER_COUNT; i++)
		config->numbers[i] = number_fields[i].fallback;
	read_lines(config, lines);
}

void
room_config_set(struct room_config *config, struct iris_str lines)
{
	read_lines(config, lines);
}

void
room_config_free(struct room_config *config)
{
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++) {
		free(config->texts[i]);
		config->texts[i] = NULL;
	}
}

void
room_config_copy(struct room_config *copy_r, const struct room_config *config)
{
	*copy_r = *config;
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++)
		if (config->texts[i])
			copy_r->texts[i] = str_dup(str_from(config->texts[i]));
}

/* All of it: what a default is may change, a room that was made may not. */
struct iris_str
room_config_write(struct iris_arena *arena, const struct room_config *config)
{
	struct iris_strbuf out = STRBUF_INIT(arena);

	for (int i = 0; i < ROOM_CONFIG_NUMBER_COUNT; i++) {
		if (!number_fields[i].var)
			continue;
		strbuf_printf(&out, "%s=", number_fields[i].var);
		write_number(&out, i, get_number(config, i));
		strbuf_add_char(&out, '\n');
	}
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++)
		if (config->texts[i])
			strbuf_printf(&out, "%s=%s\n", text_fields[i].var, config->texts[i]);
	return strbuf_str(&out);
}

struct iris_str
room_config_get(const struct room *room, const char *field)
{
	/* A count as text has to lie somewhere: good until the thread asks for the next one. */
	static _Thread_local char text[64];
	struct iris_str var = str_from(field), value;
	struct iris_arena *arena;
	int i = find_text(var);

	if (i >= 0)
		return str_from(room->config.texts[i]);
	if ((i = find_number(var)) < 0)
		return IRIS_STR_NONE;
	arena = arena_new();
	value = number_text(arena, &room->config, i);
	IRIS_ASSERT(str_copy_to(text, sizeof(text), value));
	arena_unref(&arena);
	return str_from(text);
}

/* --- submission --- */

static enum iris_condition
refuse(const struct iris_element *form, struct iris_str var, const char *why, const char **text_r)
{
	*text_r = arena_printf(form->arena, "%.*s %s", IRIS_STR_FMT(var), why).base;
	return IRIS_NOT_ACCEPTABLE;
}

/* The name of a field less its prefix; none: it is not one of ours (FORM_TYPE). */
static struct iris_str
field_var(const struct iris_element *field)
{
	static const struct iris_str prefix = { FIELD_PREFIX, sizeof(FIELD_PREFIX) - 1 };
	static const struct iris_str history = { "muc#maxhistoryfetch", 19 };
	struct iris_str var = element_get(field, "var");

	if (str_equal(var, history))
		return (struct iris_str){ var.base + 4, var.len - 4 };
	if (var.len <= prefix.len || memcmp(var.base, prefix.base, prefix.len) != 0)
		return IRIS_STR_NONE;
	return (struct iris_str){ var.base + prefix.len, var.len - prefix.len };
}

static bool
number_is_within(int i, int32_t number)
{
	if (number_fields[i].kind == NUMBER_USERS)
		return number <= option_int(&rooms_self, OPT_MAX_OCCUPANTS);
	return number_fields[i].kind != NUMBER_MESSAGES ||
	       number <= option_int(&rooms_self, OPT_HISTORY);
}

static bool
submit_number(struct room_config *config, int i, struct iris_str value)
{
	int32_t number;

	if (!read_number(i, value, &number) || !number_is_within(i, number))
		return false;
	set_number(config, i, number);
	return true;
}

static enum iris_condition
submit_field(struct room_config *config, const struct iris_element *form,
	     const struct iris_element *field, const char **text_r)
{
	struct iris_str full = element_get(field, "var"), var = field_var(field), value;
	int i;

	if (str_is_none(var))
		return IRIS_NO_ERROR;
	value = form_values(form, arena_copy_str(form->arena, full).base);
	if ((i = find_number(var)) >= 0) {
		/* A field without a value stays what it is; an empty set is a value. */
		if (str_is_empty(value) && number_fields[i].kind != NUMBER_ROLES &&
		    number_fields[i].kind != NUMBER_BROADCAST)
			return IRIS_NO_ERROR;
		return submit_number(config, i, value) ?
			       IRIS_NO_ERROR :
			       refuse(form, full, "cannot have this value", text_r);
	}
	if ((i = find_text(var)) < 0 || !text_fields[i].type)
		return IRIS_NO_ERROR;
	if (value.len > text_fields[i].max)
		return refuse(form, full, "is too long", text_r);
	set_text(config, i, value);
	return IRIS_NO_ERROR;
}

/* What a policy has fixed is as it was fixed. */
static enum iris_condition
check_fixed(struct room_config *config, const struct iris_element *form, const char *fixed,
	    const char **text_r)
{
	struct iris_str lines = str_from(fixed), var, value;
	int32_t number;
	int i;

	while (next_line(&lines, &var, &value)) {
		bool same = true;

		if ((i = find_number(var)) >= 0 && read_number(i, value, &number))
			same = get_number(config, i) == number;
		else if ((i = find_text(var)) >= 0)
			same = str_equal(str_from(config->texts[i]), value);
		if (!same)
			return refuse(form, var, "cannot be changed in this room", text_r);
	}
	return IRIS_NO_ERROR;
}

enum iris_condition
room_config_submit(struct room_config *config, const struct iris_element *form, const char *fixed,
		   const char **text_r)
{
	struct iris_element *field = element_child(form, "field", NS_DATA);
	enum iris_condition condition = IRIS_NO_ERROR;

	for (; field && condition == IRIS_NO_ERROR; field = element_next(field, "field", NS_DATA))
		condition = submit_field(config, form, field, text_r);
	if (condition == IRIS_NO_ERROR)
		condition = check_fixed(config, form, fixed, text_r);
	/* §10.1.3: options that do not go together */
	if (condition == IRIS_NO_ERROR && config->numbers[ROOM_CONFIG_PASSWORD_PROTECTED] &&
	    !config->texts[ROOM_CONFIG_SECRET])
		condition = refuse(form, IRIS_STR(FIELD_PREFIX SECRET_VAR), "is needed", text_r);
	return condition;
}

/* --- as a form --- */

static struct iris_element *
add_field(struct iris_element *form, const char *type, const char *var, const char *label)
{
	struct iris_str name = str_is(str_from(var), "maxhistoryfetch") ?
				       IRIS_STR("muc#maxhistoryfetch") :
				       arena_printf(form->arena, FIELD_PREFIX "%s", var);
	struct iris_element *field = form_add_field(form, type, name.base, IRIS_STR_NONE);

	form_field_set_label(field, str_from(label));
	return field;
}

static void
add_roles(struct iris_element *field, int32_t roles)
{
	for (int role = ROOM_MODERATOR; role >= ROOM_VISITOR; role--)
		if (roles & ROLE_BIT(role))
			form_field_add_value(field,
					     str_from(room_role_name((enum room_role)role)));
	for (int role = ROOM_MODERATOR; role >= ROOM_VISITOR; role--)
		form_field_add_option(field, str_from(room_role_name((enum room_role)role)));
}

/* The number of users may be none of those that are offered. */
static bool
is_offered(const struct number_field *field, struct iris_str value)
{
	for (int n = 0; field->choices[n]; n++)
		if (str_is(value, field->choices[n]))
			return true;
	return false;
}

static void
add_number(struct iris_element *form, const struct room_config *config, int i)
{
	static const char *const types[] = {
		[NUMBER_BOOL] = "boolean",	    [NUMBER_CHOICE] = "list-single",
		[NUMBER_USERS] = "list-single",	    [NUMBER_MESSAGES] = "text-single",
		[NUMBER_ROLES] = "list-multi", [NUMBER_BROADCAST] = "list-multi",
	};
	const struct number_field *field = &number_fields[i];
	struct iris_element *element;
	struct iris_str value;

	if (!field->var)
		return;
	element = add_field(form, types[field->kind], field->var, field->label);
	if (field->kind == NUMBER_ROLES || field->kind == NUMBER_BROADCAST) {
		add_roles(element, get_number(config, i));
		return;
	}
	value = number_text(form->arena, config, i);
	form_field_add_value(element, value);
	if (field->kind == NUMBER_USERS && !is_offered(field, value))
		form_field_add_option(element, value);
	for (int n = 0; field->choices && field->choices[n]; n++)
		form_field_add_option(element, str_from(field->choices[n]));
}

void
room_config_add_form(struct iris_element *parent, const struct room_config *config)
{
	struct iris_element *form = form_add(parent, "form", NS_ROOM_CONFIG);

	form_set_title(form, IRIS_STR("Configuration of the room"), IRIS_STR_NONE);
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++) {
		struct iris_element *field;

		if (!text_fields[i].type)
			continue;
		field = add_field(form, text_fields[i].type, text_fields[i].var,
				  text_fields[i].label);
		if (config->texts[i])
			form_field_add_value(field, str_from(config->texts[i]));
	}
	for (int i = 0; i < ROOM_CONFIG_NUMBER_COUNT; i++)
		add_number(form, config, i);
}

/* --- discovery (§6.4, §15.3) --- */

static const struct {
	enum room_config_number number;
	const char *set, *unset; /* WHOIS: anyone, moderators */
} config_features[] = {
	{ ROOM_CONFIG_PUBLIC, "muc_public", "muc_hidden" },
	{ ROOM_CONFIG_PERSISTENT, "muc_persistent", "muc_temporary" },
	{ ROOM_CONFIG_MEMBERS_ONLY, "muc_membersonly", "muc_open" },
	{ ROOM_CONFIG_MODERATED, "muc_moderated", "muc_unmoderated" },
	{ ROOM_CONFIG_WHOIS, "muc_nonanonymous", "muc_semianonymous" },
	{ ROOM_CONFIG_PASSWORD_PROTECTED, "muc_passwordprotected", "muc_unsecured" },
};

static void
add_info_text(struct iris_element *form, const char *var, const char *text)
{
	if (text)
		form_add_field(form, "text-single", var, str_from(text));
}

static void
add_info_form(struct iris_element *query, const struct room *room)
{
	const struct room_config *config = &room->config;
	struct iris_element *form = form_add(query, "result", NS_MUC "#roominfo");
	struct iris_stanza *subject = room->subject.message;
	struct iris_str rate = room_activity_text(room, query->arena);

	add_info_text(form, "muc#roomconfig_roomname", config->texts[ROOM_CONFIG_NAME]);
	add_info_text(form, "muc#roominfo_description", config->texts[ROOM_CONFIG_DESCRIPTION]);
	add_info_text(form, "muc#roominfo_lang", config->texts[ROOM_CONFIG_LANGUAGE]);
	form_add_field(form, "text-single", "muc#roominfo_occupants",
		       arena_printf(query->arena, "%zu", room->occupants.count));
	form_add_field(form, "text-single", "muc#maxhistoryfetch",
		       number_text(query->arena, config, ROOM_CONFIG_HISTORY));
	if (subject && !config->numbers[ROOM_CONFIG_MEMBERS_ONLY] &&
	    !config->numbers[ROOM_CONFIG_PASSWORD_PROTECTED])
		form_add_field(form, "text-single", "muc#roominfo_subject",
			       element_child_text(subject->root, "subject", NULL));
	form_add_field(form, "boolean", "muc#roominfo_subjectmod",
		       number_text(query->arena, config, ROOM_CONFIG_CHANGE_SUBJECT));
	room_vcard_add_field(form, room);
	if (!str_is_none(rate)) /* XEP-0502 */
		form_add_field(form, "text-single", "{urn:xmpp:muc-activity}message-activity",
			       rate);
}

void
room_config_add_info(struct iris_element *query, const struct room *room)
{
	for (size_t i = 0; i < IRIS_COUNT(config_features); i++) {
		bool is_set = room->config.numbers[config_features[i].number] != 0;

		element_set(element_add(query, "feature", NULL), "var",
			    str_from(is_set ? config_features[i].set : config_features[i].unset));
	}
	add_info_form(query, room);
}
