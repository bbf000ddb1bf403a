/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §16.4.4: the configuration of a node, as a table of fields; read from forms and from
 * what the store keeps, written as a form or as text, compared for preconditions (§7.1.5).  Any
 * thread.
 *
 * What the registry has and we do not do (collections, replies, temporary subscriptions …) is
 * ignored where it is submitted, and never shown.
 */
#include <stdio.h>
#include <stdlib.h>

#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

#define NS_NODE_CONFIG NS_PUBSUB "#node_config"
#define EXPIRE_MOST 315360000 /* ten years, in seconds */
#define GROUPS_MOST 4096

enum number_kind { NUMBER_CHOICE, NUMBER_BOOL, NUMBER_COUNT };

struct number_field {
	const char *var; /* behind "pubsub#" */
	enum number_kind kind;
	int32_t of_account, of_host; /* defaults */
	const char *const *choices;
	const char *label;
};

struct text_field {
	const char *var;
	const char *type;
	size_t max;
	const char *label;
};

#define CHOICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static const struct number_field number_fields[CONFIG_NUMBER_COUNT] = {
	[CONFIG_ACCESS_MODEL] = { "access_model", NUMBER_CHOICE, ACCESS_PRESENCE, ACCESS_OPEN,
		CHOICES("open", "presence", "roster", "authorize", "whitelist"),
		"Who may subscribe and retrieve items" },
	[CONFIG_PUBLISH_MODEL] = { "publish_model", NUMBER_CHOICE, PUBLISH_PUBLISHERS,
		PUBLISH_PUBLISHERS, CHOICES("publishers", "subscribers", "open"),
		"Who may publish" },
	[CONFIG_PERSIST_ITEMS] = { "persist_items", NUMBER_BOOL, true, true, NULL,
		"Whether items are kept" },
	[CONFIG_MAX_ITEMS] = { "max_items", NUMBER_COUNT, 1, CONFIG_MAX, NULL,
		"How many items are kept; \"max\" for as many as the service allows" },
	[CONFIG_ITEM_EXPIRE] = { "item_expire", NUMBER_COUNT, CONFIG_MAX, CONFIG_MAX, NULL,
		"Seconds after which an item is deleted; \"max\" for never" },
	[CONFIG_SEND_LAST] = { "send_last_published_item", NUMBER_CHOICE,
		SEND_ON_SUB_AND_PRESENCE, SEND_ON_SUB,
		CHOICES("never", "on_sub", "on_sub_and_presence"),
		"When the last item is sent" },
	[CONFIG_DELIVER_PAYLOADS] = { "deliver_payloads", NUMBER_BOOL, true, true, NULL,
		"Whether notifications carry the payload" },
	[CONFIG_DELIVER_NOTIFICATIONS] = { "deliver_notifications", NUMBER_BOOL, true, true, NULL,
		"Whether there are notifications" },
	[CONFIG_NOTIFY_CONFIG] = { "notify_config", NUMBER_BOOL, false, false, NULL,
		"Whether subscribers learn of changes of the configuration" },
	[CONFIG_NOTIFY_DELETE] = { "notify_delete", NUMBER_BOOL, true, true, NULL,
		"Whether subscribers learn that the node is deleted" },
	[CONFIG_NOTIFY_RETRACT] = { "notify_retract", NUMBER_BOOL, true, true, NULL,
		"Whether subscribers learn that items are retracted" },
	[CONFIG_NOTIFY_SUB] = { "notify_sub", NUMBER_BOOL, false, false, NULL,
		"Whether owners learn of new and ended subscriptions" },
	[CONFIG_PRESENCE_BASED] = { "presence_based_delivery", NUMBER_BOOL, false, false, NULL,
		"Whether only who is available is notified" },
	[CONFIG_NOTIFICATION_TYPE] = { "notification_type", NUMBER_CHOICE, NOTIFY_HEADLINE,
		NOTIFY_HEADLINE, CHOICES("normal", "headline"), "The type of notifications" },
	[CONFIG_NODE_FULL] = { "publish_node_full", NUMBER_CHOICE, FULL_DISCARD, FULL_DISCARD,
		CHOICES("discard-oldest", "reject"), "What a full node does with a new item" },
};

static const struct text_field text_fields[CONFIG_TEXT_COUNT] = {
	[CONFIG_TITLE] = { "title", "text-single", 255, "A short name" },
	[CONFIG_DESCRIPTION] = { "description", "text-single", 1023, "A description" },
	[CONFIG_TYPE] = { "type", "text-single", 255, "The namespace of the payloads" },
	[CONFIG_LANGUAGE] = { "language", "text-single", 35, "The language of its items" },
	[CONFIG_GROUPS] = { "roster_groups_allowed", "list-multi", GROUPS_MOST,
		"The groups that may subscribe and retrieve items" },
};

/* Of the registry, and not done here. */
static const char *const ignored_fields[] = {
	"body_xslt",	 "children",	  "children_association_policy",
	"children_association_whitelist", "children_max", "collection", "contact",
	"dataform_xslt", "itemreply",	  "max_payload_size",
	"node_type",	 "purge_offline", "replyroom", "replyto", "subscribe", "tempsub",
};

/* --- values --- */

static int
find_number(struct iris_str var)
{
	for (int i = 0; i < CONFIG_NUMBER_COUNT; i++)
		if (str_is(var, number_fields[i].var))
			return i;
	return -1;
}

static int
find_text(struct iris_str var)
{
	for (int i = 0; i < CONFIG_TEXT_COUNT; i++)
		if (str_is(var, text_fields[i].var))
			return i;
	return -1;
}

static bool
is_ignored(struct iris_str var)
{
	for (size_t i = 0; i < IRIS_COUNT(ignored_fields); i++)
		if (str_is(var, ignored_fields[i]))
			return true;
	return false;
}

static int32_t
count_most(int i)
{
	return i == CONFIG_ITEM_EXPIRE ? EXPIRE_MOST :
					 (int32_t)option_int(&pubsub_self, OPT_ITEMS_MAX);
}

static bool
read_number(int i, struct iris_str text, int32_t *value_r)
{
	const struct number_field *field = &number_fields[i];
	int64_t count;

	switch (field->kind) {
	case NUMBER_CHOICE:
		for (int32_t n = 0; field->choices[n]; n++)
			if (str_is(text, field->choices[n])) {
				*value_r = n;
				return true;
			}
		/* XEP-0060 1.20's name of what a full node does by default. */
		*value_r = FULL_DISCARD;
		return i == CONFIG_NODE_FULL && str_is(text, "retract-oldest");
	case NUMBER_BOOL:
		*value_r = form_value_is_true(text);
		return *value_r || str_is(text, "0") || str_is(text, "false");
	case NUMBER_COUNT:
		if (!str_is(text, "max") && !str_to_int(text, 0, INT32_MAX, &count))
			return false;
		*value_r = str_is(text, "max") ? CONFIG_MAX : (int32_t)count;
		return true;
	}
	return false;
}

static struct iris_str
write_number(struct iris_arena *arena, int i, int32_t value)
{
	const struct number_field *field = &number_fields[i];

	if (field->kind == NUMBER_CHOICE)
		return str_from(field->choices[value]);
	if (field->kind == NUMBER_BOOL)
		return value ? IRIS_STR("1") : IRIS_STR("0");
	return value == CONFIG_MAX ? IRIS_STR("max") : arena_printf(arena, "%d", (int)value);
}

/* Line ends in a single line would make another field of what follows. */
static void
set_text(struct pubsub_config *config, int i, struct iris_str text)
{
	free(config->texts[i]);
	config->texts[i] = str_is_empty(text) ? NULL : str_dup(text);
	if (i == CONFIG_GROUPS || !config->texts[i])
		return;
	for (char *c = config->texts[i]; *c; c++)
		if (*c == '\n' || *c == '\r')
			*c = ' ';
}

/* --- the text that is kept: "name=value" lines; of groups one line each --- */

static void
read_line(struct pubsub_config *config, struct iris_str line)
{
	const char *equals = line.len ? memchr(line.base, '=', line.len) : NULL;
	struct iris_str var, value;
	int32_t number;
	int i;

	if (!equals)
		return;
	var = (struct iris_str){ line.base, (size_t)(equals - line.base) };
	value = (struct iris_str){ equals + 1, line.len - var.len - 1 };
	if ((i = find_number(var)) >= 0 && read_number(i, value, &number)) {
		config->numbers[i] = number;
	} else if ((i = find_text(var)) == CONFIG_GROUPS && config->texts[i]) {
		size_t before = strlen(config->texts[i]);

		config->texts[i] = iris_realloc(config->texts[i], before + value.len + 2);
		config->texts[i][before] = '\n';
		memcpy(config->texts[i] + before + 1, value.base, value.len);
		config->texts[i][before + 1 + value.len] = '\0';
	} else if (i >= 0) {
		set_text(config, i, value);
	}
}

void
node_config_init(struct pubsub_config *config, bool of_account, struct iris_str lines)
{
	*config = (struct pubsub_config){ .texts = { NULL } };
	for (int i = 0; i < CONFIG_NUMBER_COUNT; i++)
		config->numbers[i] =
			of_account ? number_fields[i].of_account : number_fields[i].of_host;
	while (lines.len > 0) {
		const char *end = memchr(lines.base, '\n', lines.len);
		size_t len = end ? (size_t)(end - lines.base) : lines.len;

		read_line(config, (struct iris_str){ lines.base, len });
		len += end != NULL;
		lines = (struct iris_str){ lines.base + len, lines.len - len };
	}
}

void
node_config_free(struct pubsub_config *config)
{
	for (int i = 0; i < CONFIG_TEXT_COUNT; i++) {
		free(config->texts[i]);
		config->texts[i] = NULL;
	}
}

void
node_config_copy(struct pubsub_config *copy_r, const struct pubsub_config *config)
{
	*copy_r = *config;
	for (int i = 0; i < CONFIG_TEXT_COUNT; i++)
		if (config->texts[i])
			copy_r->texts[i] = str_dup(str_from(config->texts[i]));
}

static void
write_groups(struct iris_strbuf *out, const char *groups)
{
	strbuf_add(out, IRIS_STR("roster_groups_allowed="));
	for (; *groups; groups++)
		if (*groups == '\n')
			strbuf_add(out, IRIS_STR("\nroster_groups_allowed="));
		else
			strbuf_add_char(out, *groups);
	strbuf_add_char(out, '\n');
}

/* All of it: what a default is may change, a node that was made may not. */
struct iris_str
node_config_write(struct iris_arena *arena, const struct pubsub_config *config)
{
	struct iris_strbuf out = STRBUF_INIT(arena);

	for (int i = 0; i < CONFIG_NUMBER_COUNT; i++)
		strbuf_printf(&out, "%s=%.*s\n", number_fields[i].var,
			      IRIS_STR_FMT(write_number(arena, i, config->numbers[i])));
	for (int i = 0; i < CONFIG_TEXT_COUNT; i++)
		if (config->texts[i] && i == CONFIG_GROUPS)
			write_groups(&out, config->texts[i]);
		else if (config->texts[i])
			strbuf_printf(&out, "%s=%s\n", text_fields[i].var, config->texts[i]);
	return strbuf_str(&out);
}

/* --- forms --- */

static bool
problem(struct config_problem *problem_r, enum iris_condition condition, const char *app,
	struct iris_str text)
{
	*problem_r = (struct config_problem){ condition, app, text };
	return false;
}

/* The name of a field behind "pubsub#"; none: it is not one of ours (FORM_TYPE). */
static struct iris_str
field_var(const struct iris_element *field)
{
	static const struct iris_str prefix = { "pubsub#", 7 };
	struct iris_str var = element_get(field, "var");

	if (var.len <= prefix.len || memcmp(var.base, prefix.base, prefix.len) != 0)
		return IRIS_STR_NONE;
	return (struct iris_str){ var.base + prefix.len, var.len - prefix.len };
}

static struct iris_str
field_value(const struct iris_element *field)
{
	return element_child_text(field, "value", NS_DATA);
}

/* A host has no roster, and knows nobody's presence. */
static bool
is_offered(int i, int32_t value, bool of_account)
{
	if (of_account)
		return true;
	if (i == CONFIG_ACCESS_MODEL)
		return value != ACCESS_PRESENCE && value != ACCESS_ROSTER;
	return (i != CONFIG_PRESENCE_BASED || !value) &&
	       (i != CONFIG_SEND_LAST || value != SEND_ON_SUB_AND_PRESENCE);
}

static bool
submit_number(struct pubsub_config *config, bool of_account, int i, struct iris_str value)
{
	int32_t number;

	if (!read_number(i, value, &number))
		return false;
	if (number_fields[i].kind == NUMBER_COUNT && number > count_most(i))
		return false;
	/* Half of it can be done. */
	if (i == CONFIG_SEND_LAST && !is_offered(i, number, of_account))
		number = SEND_ON_SUB;
	if (!is_offered(i, number, of_account))
		return false;
	/* "No items are kept" is persist_items' to say. */
	if (i == CONFIG_MAX_ITEMS && number == 0 && !str_is(value, "max"))
		return false;
	config->numbers[i] = number;
	return true;
}

static bool
submit_field(struct pubsub_config *config, bool of_account, const struct iris_element *form,
	     const struct iris_element *field, struct config_problem *problem_r)
{
	struct iris_str var = field_var(field), full = element_get(field, "var");
	struct iris_str value = field_value(field);
	int i;

	if (str_is_none(var) || is_ignored(var))
		return true;
	if ((i = find_number(var)) >= 0) {
		/* A field without a value stays what it is. */
		if (str_is_empty(value) || submit_number(config, of_account, i, value))
			return true;
		return problem(problem_r, IRIS_NOT_ACCEPTABLE,
			       i == CONFIG_ACCESS_MODEL ? "unsupported-access-model" : NULL,
			       arena_printf(form->arena, "%.*s cannot be '%.*s'",
					    IRIS_STR_FMT(full), IRIS_STR_FMT(value)));
	}
	if ((i = find_text(var)) < 0 || (i == CONFIG_GROUPS && !of_account))
		return true;
	if (i == CONFIG_GROUPS)
		value = form_values(form, "pubsub#roster_groups_allowed");
	if (value.len > text_fields[i].max)
		return problem(problem_r, IRIS_NOT_ACCEPTABLE, NULL,
			       arena_printf(form->arena, "%.*s is too long", IRIS_STR_FMT(full)));
	set_text(config, i, value);
	return true;
}

bool
node_config_submit(struct pubsub_config *config, bool of_account, const struct iris_element *form,
	      struct config_problem *problem_r)
{
	struct iris_element *field = element_child(form, "field", NS_DATA);

	for (; field; field = element_next(field, "field", NS_DATA))
		if (!submit_field(config, of_account, form, field, problem_r))
			return false;
	return true;
}

static bool
differs(const struct iris_element *field, struct iris_str is, struct config_problem *problem_r)
{
	return problem(problem_r, IRIS_CONFLICT, "precondition-not-met",
		       arena_printf(field->arena, "%.*s is '%.*s'",
				    IRIS_STR_FMT(element_get(field, "var")), IRIS_STR_FMT(is)));
}

static bool
meets_field(const struct pubsub_config *config, const struct iris_element *form,
	    const struct iris_element *field, struct config_problem *problem_r)
{
	struct iris_str var = field_var(field), value = field_value(field), is;
	int32_t number;
	int i;

	if (str_is_none(var) || is_ignored(var))
		return true;
	if ((i = find_number(var)) >= 0) {
		if (read_number(i, value, &number) && number == config->numbers[i])
			return true;
		return differs(field, write_number(form->arena, i, config->numbers[i]), problem_r);
	}
	if ((i = find_text(var)) < 0)
		return problem(problem_r, IRIS_CONFLICT, "precondition-not-met",
			       arena_printf(form->arena, "%.*s is not known here",
					    IRIS_STR_FMT(element_get(field, "var"))));
	if (i == CONFIG_GROUPS)
		value = form_values(form, "pubsub#roster_groups_allowed");
	is = str_from(config->texts[i]);
	return str_equal(is, value) || differs(field, is, problem_r);
}

bool
node_config_meets(const struct pubsub_config *config, const struct iris_element *form,
	     struct config_problem *problem_r)
{
	struct iris_element *field = element_child(form, "field", NS_DATA);

	for (; field; field = element_next(field, "field", NS_DATA))
		if (!meets_field(config, form, field, problem_r))
			return false;
	return true;
}

/* --- as a form --- */

static struct iris_element *
add_field(struct iris_element *form, const char *type, const char *var, const char *label)
{
	struct iris_str name = arena_printf(form->arena, "pubsub#%s", var);
	struct iris_element *field = form_add_field(form, type, name.base, IRIS_STR_NONE);

	form_field_set_label(field, str_from(label));
	return field;
}

static void
add_number(struct iris_element *form, int i, int32_t value, bool of_account)
{
	static const char *const types[] = { "list-single", "boolean", "text-single" };
	const struct number_field *field = &number_fields[i];
	struct iris_element *element = add_field(form, types[field->kind], field->var,
						 field->label);

	form_field_add_value(element, write_number(form->arena, i, value));
	for (int n = 0; field->choices && field->choices[n]; n++)
		if (is_offered(i, n, of_account))
			form_field_add_option(element, str_from(field->choices[n]));
}

static void
add_lines(struct iris_element *field, const char *lines)
{
	while (lines && *lines) {
		size_t len = strcspn(lines, "\n");

		form_field_add_value(field, (struct iris_str){ lines, len });
		lines += len + (lines[len] == '\n');
	}
}

void
node_config_add_form(struct iris_element *parent, const struct pubsub_config *config,
		     bool of_account)
{
	struct iris_element *form = form_add(parent, "form", NS_NODE_CONFIG);

	for (int i = 0; i < CONFIG_TEXT_COUNT; i++)
		if (of_account || i != CONFIG_GROUPS)
			add_lines(add_field(form, text_fields[i].type, text_fields[i].var,
					    text_fields[i].label),
				  config->texts[i]);
	for (int i = 0; i < CONFIG_NUMBER_COUNT; i++)
		if (i != CONFIG_PRESENCE_BASED || of_account)
			add_number(form, i, config->numbers[i], of_account);
	form_field_add_value(add_field(form, "text-single", "max_payload_size",
				       "The most bytes of a payload"),
			     arena_printf(form->arena, "%lld",
					  (long long)option_int(&pubsub_self, OPT_PAYLOAD_MAX)));
}

void
node_config_add_result(struct iris_element *parent, const struct pubsub_config *config)
{
	struct iris_element *form = form_add(parent, "result", NS_NODE_CONFIG);

	for (int i = 0; i < CONFIG_NUMBER_COUNT; i++)
		form_field_add_value(add_field(form, NULL, number_fields[i].var,
					       number_fields[i].label),
				     write_number(form->arena, i, config->numbers[i]));
}

void
node_config_add_metadata(struct iris_element *form, const struct pubsub_config *config)
{
	static const int numbers[] = { CONFIG_ACCESS_MODEL, CONFIG_PUBLISH_MODEL,
				       CONFIG_MAX_ITEMS };

	for (int i = 0; i < CONFIG_GROUPS; i++)
		if (config->texts[i])
			add_lines(add_field(form, text_fields[i].type, text_fields[i].var,
					    text_fields[i].label),
				  config->texts[i]);
	for (size_t i = 0; i < IRIS_COUNT(numbers); i++) {
		const struct number_field *field = &number_fields[numbers[i]];
		const char *type = field->kind == NUMBER_CHOICE ? "list-single" : "text-single";

		form_field_add_value(add_field(form, type, field->var, field->label),
				     write_number(form->arena, numbers[i],
						  config->numbers[numbers[i]]));
	}
}

int32_t
node_config_items_max(const struct pubsub_config *config)
{
	int32_t most = count_most(CONFIG_MAX_ITEMS), own = config->numbers[CONFIG_MAX_ITEMS];

	return own == CONFIG_MAX || own > most ? most : own;
}
