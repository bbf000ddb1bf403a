/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the tree of the configuration to the values of one option table, and reading them.
 * Made on the main thread, then immutable: read from any worker.
 */
#include <stdlib.h>

#include "settings_private.h"

/* Where a check stands: what is said about values, and how messages name them. */
struct checker {
	struct iris_config *config;
	struct iris_report *report;
	struct iris_str path; /* "listen", "listen.listeners[2]" */
};

static struct iris_str
where_of(struct iris_config *config, const struct config_node *node)
{
	if (node == NULL || node->line == 0 || node->file->dir == NULL)
		return IRIS_STR("default");
	return arena_printf(config->arena, "%s:%u", node->file->name, node->line);
}

/*
 * `iris.yaml:12: listen.port: "70000" is out of range 1 … 65535`.
 * SECURITY: never the text of a secret; logs have more readers than keys.
 */
static void
report_value(const struct checker *checker, const struct config_node *node,
	     const struct iris_option *option, const char *why)
{
	struct iris_str where = where_of(checker->config, node);

	if (option->secret)
		report_error(checker->report, "%.*s: %.*s.%s: the value %s", IRIS_STR_FMT(where),
			     IRIS_STR_FMT(checker->path), option->name, why);
	else
		report_error(checker->report, "%.*s: %.*s.%s: \"%.*s\" %s", IRIS_STR_FMT(where),
			     IRIS_STR_FMT(checker->path), option->name, IRIS_STR_FMT(node->text),
			     why);
}

static void
report_shape(const struct checker *checker, const struct config_node *node,
	     const struct iris_option *option, const char *what)
{
	struct iris_str where = where_of(checker->config, node);

	report_error(checker->report, "%.*s: %.*s.%s: %s", IRIS_STR_FMT(where),
		     IRIS_STR_FMT(checker->path), option->name, what);
}

/* Relative paths start where the file is that names them; defaults, at the main file. */
static struct iris_str
absolute_path(struct iris_config *config, const struct config_node *node, struct iris_str text)
{
	const char *dir = node && node->file->dir ? node->file->dir : config->files[0]->dir;

	if (text.len > 0 && text.base[0] == '/')
		return arena_copy_str(config->arena, text);
	return arena_printf(config->arena, "%s/%.*s", str_is(str_from(dir), "/") ? "" : dir,
			    IRIS_STR_FMT(text));
}

static void
set_scalar(const struct checker *checker, const struct iris_option *option,
	   const struct config_node *node, struct iris_setting *setting)
{
	char why[300];

	if (node->kind != CONFIG_SCALAR) {
		report_shape(checker, node, option, "one value is expected here");
		return;
	}
	if (node->text.len == 0 && node->is_plain) {
		report_shape(checker, node, option, "has no value");
		return;
	}
	if (!option_parse(option, node->text, &setting->number, why, sizeof(why))) {
		report_value(checker, node, option, why);
		return;
	}
	if (option->type == IRIS_OPT_PATH)
		setting->text = absolute_path(checker->config, node, node->text);
	else if (option->type == IRIS_OPT_STRING)
		setting->text = node->text;
}

static void
set_fallback(const struct checker *checker, const struct iris_option *option,
	     struct iris_setting *setting)
{
	struct iris_str text, why_not;
	char why[300];

	/* A default that does not hold is a mistake of ours, unless it is the environment's. */
	if (!config_expand(checker->config->arena, str_from(option->fallback), &text, &why_not)) {
		report_error(checker->report, "default: %.*s.%s: %.*s", IRIS_STR_FMT(checker->path),
			     option->name, IRIS_STR_FMT(why_not));
		return;
	}
	if (!option_parse(option, text, &setting->number, why, sizeof(why))) {
		IRIS_ASSERT(strchr(option->fallback, '$') != NULL);
		report_error(checker->report, "default: %.*s.%s: \"%.*s\" %s",
			     IRIS_STR_FMT(checker->path), option->name, IRIS_STR_FMT(text), why);
		return;
	}
	if (option->type == IRIS_OPT_PATH)
		setting->text = absolute_path(checker->config, NULL, text);
	else if (option->type == IRIS_OPT_STRING)
		setting->text = arena_copy_str(checker->config->arena, text);
}

static void
set_strings(const struct checker *checker, const struct iris_option *option,
	    const struct config_node *list, struct iris_setting *setting)
{
	setting->items = arena_alloc(checker->config->arena, list->count * sizeof(*setting->items));
	for (const struct config_node *item = list->first; item; item = item->next) {
		if (item->kind != CONFIG_SCALAR || item->text.len == 0)
			report_shape(checker, item, option, "a string is expected in this list");
		setting->items[setting->count++] = item->text;
	}
}

static void settings_fill(const struct checker *checker, const struct iris_option *options,
			  const struct config_node *mapping, struct iris_settings *settings);

static void
set_records(const struct checker *checker, const struct iris_option *option,
	    const struct config_node *list, struct iris_setting *setting)
{
	setting->records =
		arena_alloc(checker->config->arena, list->count * sizeof(*setting->records));
	for (const struct config_node *item = list->first; item; item = item->next) {
		struct iris_settings *record = &setting->records[setting->count++];
		struct iris_report ignored = { .error_count = 0 };
		struct checker inner = { checker->config, checker->report, IRIS_STR_NONE };

		inner.path =
			arena_printf(checker->config->arena, "%.*s.%s[%zu]",
				     IRIS_STR_FMT(checker->path), option->name, setting->count);
		if (item->kind != CONFIG_MAPPING) {
			report_shape(checker, item, option,
				     "an entry with options is expected in this list");
			inner.report = &ignored;
		}
		settings_fill(&inner, option->fields, item->kind == CONFIG_MAPPING ? item : NULL,
			      record);
		report_clear(&ignored);
	}
}

static bool
is_list(const struct iris_option *option)
{
	return option->type == IRIS_OPT_STRINGS || option->type == IRIS_OPT_RECORDS;
}

static void
set_list(const struct checker *checker, const struct iris_option *option,
	 const struct config_node *node, struct iris_setting *setting)
{
	const bool is_null = node->kind == CONFIG_SCALAR && node->is_plain && node->text.len == 0;
	char bounds[200], text[240];

	if (node->kind != CONFIG_SEQUENCE && !is_null) {
		report_shape(checker, node, option, "a list is expected, such as [a, b]");
		return;
	}
	const bool bounded = option->min != 0 || option->max != 0;
	if (bounded && ((int64_t)node->count < option->min ||
			((int64_t)node->count > option->max && option->max != 0))) {
		option_describe(option, bounds, sizeof(bounds));
		snprintf(text, sizeof(text), "%zu entries, but this is %s", node->count, bounds);
		report_shape(checker, node, option, text);
	}
	if (option->type == IRIS_OPT_STRINGS)
		set_strings(checker, option, node, setting);
	else
		set_records(checker, option, node, setting);
}

/* Nothing is written for the option. */
static void
set_absent(const struct checker *checker, const struct iris_option *option,
	   const struct config_node *mapping, struct iris_setting *setting)
{
	struct iris_str where;

	if (option->fallback && is_list(option))
		set_list(checker, option, config_fallback(checker->config, option->fallback),
			 setting);
	else if (option->fallback)
		set_fallback(checker, option, setting);
	else if (!option->optional && (!is_list(option) || option->min > 0)) {
		where = mapping ? where_of(checker->config, mapping)
				: str_from(checker->config->files[0]->name);
		report_error(checker->report, "%.*s: %.*s.%s is required%s%s", IRIS_STR_FMT(where),
			     IRIS_STR_FMT(checker->path), option->name, option->help ? ": " : "",
			     option->help ? option->help : "");
	}
}

/* Options that nobody declared. */
static void
check_unknown(const struct checker *checker, const struct iris_option *options,
	      const struct config_node *mapping)
{
	for (const struct config_node *child = mapping->first; child; child = child->next) {
		struct option_guess guess = { .wanted = child->key };
		struct iris_str where = where_of(checker->config, child);
		bool known = false;
		char hint[100];

		for (const struct iris_option *option = options; option && option->name && !known;
		     option++) {
			known = str_is(child->key, option->name);
			guess_offer(&guess, option->name);
		}
		if (!known)
			report_error(checker->report, "%.*s: %.*s: there is no option \"%.*s\"%s",
				     IRIS_STR_FMT(where), IRIS_STR_FMT(checker->path),
				     IRIS_STR_FMT(child->key),
				     guess_text(&guess, hint, sizeof(hint)));
	}
}

static void
settings_fill(const struct checker *checker, const struct iris_option *options,
	      const struct config_node *mapping, struct iris_settings *settings)
{
	settings->options = options;
	settings->count = options_count(options);
	settings->values =
		arena_alloc(checker->config->arena, settings->count * sizeof(*settings->values));
	if (mapping)
		check_unknown(checker, options, mapping);
	for (unsigned i = 0; i < settings->count; i++) {
		const struct config_node *node =
			mapping ? config_child(mapping, str_from(options[i].name)) : NULL;

		settings->values[i].where = where_of(checker->config, node);
		if (node == NULL)
			set_absent(checker, &options[i], mapping, &settings->values[i]);
		else if (is_list(&options[i]))
			set_list(checker, &options[i], node, &settings->values[i]);
		else
			set_scalar(checker, &options[i], node, &settings->values[i]);
	}
}

struct iris_settings *
settings_make(struct iris_config *config, const char *section, const struct iris_option *options,
	      struct iris_report *report)
{
	struct checker checker = { config, report, str_from(section) };
	struct iris_settings *settings = ARENA_NEW(config->arena, struct iris_settings);

	settings_fill(&checker, options, config_section(config, str_from(section)), settings);
	settings->next = config->settings;
	config->settings = settings;
	return settings;
}

unsigned
options_count(const struct iris_option *options)
{
	unsigned count = 0;

	while (options && options[count].name)
		count++;
	return count;
}

static void
setting_wipe(const struct iris_option *option, struct iris_setting *setting)
{
	if (option->type == IRIS_OPT_RECORDS) {
		for (size_t i = 0; i < setting->count; i++)
			settings_wipe(&setting->records[i]);
		return;
	}
	if (!option->secret)
		return;
	if (setting->text.base)
		explicit_bzero((char *)setting->text.base, setting->text.len);
	for (size_t i = 0; i < setting->count; i++)
		explicit_bzero((char *)setting->items[i].base, setting->items[i].len);
}

void
settings_wipe(struct iris_settings *settings)
{
	for (unsigned i = 0; i < settings->count; i++)
		setting_wipe(&settings->options[i], &settings->values[i]);
}

void
settings_forget(struct iris_config *config, const struct iris_option *options)
{
	struct iris_settings **link = &config->settings;

	while (*link) {
		struct iris_settings *settings = *link;
		if (settings->options != options) {
			link = &settings->next;
			continue;
		}
		settings_wipe(settings);
		*link = settings->next;
	}
}

static bool
records_equal(const struct iris_settings *a, const struct iris_settings *b)
{
	for (unsigned i = 0; i < a->count; i++)
		if (!settings_equal(a, b, i))
			return false;
	return true;
}

bool
settings_equal(const struct iris_settings *a, const struct iris_settings *b, unsigned option)
{
	const struct iris_setting *x = &a->values[option], *y = &b->values[option];

	IRIS_ASSERT(a->options == b->options);
	if (x->number != y->number || x->count != y->count || !str_equal(x->text, y->text) ||
	    str_is_none(x->text) != str_is_none(y->text))
		return false;
	for (size_t i = 0; i < x->count; i++) {
		if (x->items && !str_equal(x->items[i], y->items[i]))
			return false;
		if (x->records && !records_equal(&x->records[i], &y->records[i]))
			return false;
	}
	return true;
}

void
settings_keep(struct iris_config *config, struct iris_settings *settings,
	      const struct iris_settings *from, unsigned option)
{
	const struct iris_setting *old = &from->values[option];
	struct iris_setting *copy = &settings->values[option];
	struct iris_arena *arena = config->arena;

	IRIS_ASSERT(settings->options == from->options);
	setting_wipe(&settings->options[option], copy);
	*copy = (struct iris_setting){
		.number = old->number,
		.count = old->count,
		.text = arena_copy_str(arena, old->text),
		.where = arena_copy_str(arena, old->where),
	};
	if (old->items)
		copy->items = arena_alloc(arena, old->count * sizeof(*copy->items));
	if (old->records)
		copy->records = arena_alloc(arena, old->count * sizeof(*copy->records));
	for (size_t i = 0; i < old->count; i++) {
		if (old->items)
			copy->items[i] = arena_copy_str(arena, old->items[i]);
		if (old->records == NULL)
			continue;
		struct iris_settings *record = &copy->records[i];
		record->options = old->records[i].options;
		record->count = old->records[i].count;
		record->values = arena_alloc(arena, record->count * sizeof(*record->values));
		for (unsigned j = 0; j < record->count; j++)
			settings_keep(config, record, &old->records[i], j);
	}
}

/* --- reading --- */

static const struct iris_setting *
setting_of(const struct iris_settings *settings, unsigned option, unsigned types)
{
	IRIS_ASSERT(settings != NULL && option < settings->count);
	IRIS_ASSERT(types & (1u << settings->options[option].type));
	return &settings->values[option];
}

bool
settings_bool(const struct iris_settings *settings, unsigned option)
{
	return setting_of(settings, option, 1u << IRIS_OPT_BOOL)->number != 0;
}

int64_t
settings_int(const struct iris_settings *settings, unsigned option)
{
	return setting_of(settings, option,
			  1u << IRIS_OPT_INT | 1u << IRIS_OPT_DURATION | 1u << IRIS_OPT_SIZE |
				  1u << IRIS_OPT_CHOICE)
		->number;
}

struct iris_str
settings_str(const struct iris_settings *settings, unsigned option)
{
	return setting_of(settings, option, 1u << IRIS_OPT_STRING | 1u << IRIS_OPT_PATH)->text;
}

size_t
settings_count(const struct iris_settings *settings, unsigned option)
{
	return setting_of(settings, option, 1u << IRIS_OPT_STRINGS | 1u << IRIS_OPT_RECORDS)->count;
}

struct iris_str
settings_item(const struct iris_settings *settings, unsigned option, size_t i)
{
	const struct iris_setting *setting = setting_of(settings, option, 1u << IRIS_OPT_STRINGS);

	IRIS_ASSERT(i < setting->count);
	return setting->items[i];
}

const struct iris_settings *
settings_record(const struct iris_settings *settings, unsigned option, size_t i)
{
	const struct iris_setting *setting = setting_of(settings, option, 1u << IRIS_OPT_RECORDS);

	IRIS_ASSERT(i < setting->count);
	return &setting->records[i];
}

struct iris_str
settings_where(const struct iris_settings *settings, unsigned option)
{
	IRIS_ASSERT(settings != NULL && option < settings->count);
	return settings->values[option].where;
}
