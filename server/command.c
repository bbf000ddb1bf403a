/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands: the sorted table of all loaded modules' commands, the check of what people fill in, and
 * the record of who did what (P10.1).  The table is immutable, made on the main thread; the rest
 * runs on a fiber of any worker.  Does not know how a command came in (ad-hoc, irisctl).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "iris/log.h"
#include "module_private.h"

#define FIELDS_MAX 32	     /* of one command; more is a mistake in its declaration */
#define LINE_MAX_BYTES 4096  /* of a value of one line */
#define TEXT_MAX_BYTES 65536 /* of a value of many */
#define ROWS_MAX 10000	     /* of a result: what is more is left off */
#define LOG_FIELDS_MAX 12

struct command_entry {
	const struct iris_command *command;
	const struct iris_module *module;
};

struct command_list {
	size_t count;
	struct command_entry entries[]; /* by noun and verb */
};

static _Atomic(struct command_list *) published;

enum { METRIC_DONE, METRIC_REFUSED };
struct iris_metric command_metrics[] = {
	[METRIC_DONE] = { "iris_commands_total", "verdict=\"done\"", IRIS_COUNTER,
			  "Administrative commands run", 0 },
	[METRIC_REFUSED] = { "iris_commands_total", "verdict=\"refused\"", IRIS_COUNTER,
			     "Administrative commands run", 0 },
	{ .name = NULL },
};

/* --- the table --- */

static int
compare_names(struct iris_str a, struct iris_str b)
{
	const size_t len = a.len < b.len ? a.len : b.len;
	const int order = len ? memcmp(a.base, b.base, len) : 0;
	return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int
compare_command(const struct iris_command *command, struct iris_str noun, struct iris_str verb)
{
	const int order = compare_names(str_from(command->noun), noun);
	return order ? order : compare_names(str_from(command->verb), verb);
}

static int
compare_entries(const void *a, const void *b)
{
	const struct iris_command *y = ((const struct command_entry *)b)->command;
	return compare_command(((const struct command_entry *)a)->command, str_from(y->noun),
			       str_from(y->verb));
}

static unsigned
count_fields(const struct iris_command *command)
{
	unsigned count = 0;

	while (command->fields && command->fields[count].name)
		count++;
	return count;
}

/* Conflicts stand next to each other once sorted. */
static bool
check_list(const struct command_list *list, struct iris_error *error)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct command_entry *entry = &list->entries[i];
		if (count_fields(entry->command) > FIELDS_MAX)
			return error_set(
				error, "the command \"%s %s\" of the module %s has too many fields",
				entry->command->noun, entry->command->verb, entry->module->name);
		if (i > 0 && compare_entries(entry - 1, entry) == 0)
			return error_set(error,
					 "the modules %s and %s both have the command \"%s %s\"",
					 entry[-1].module->name, entry->module->name,
					 entry->command->noun, entry->command->verb);
	}
	return true;
}

static void *
command_build(const struct module_set *set, struct iris_error *error)
{
	struct command_list *list;
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_command *const *c = set->modules[i]->commands; c && *c; c++)
			count++;
	list = iris_calloc(1, sizeof(*list) + count * sizeof(list->entries[0]));
	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_command *const *c = set->modules[i]->commands; c && *c; c++)
			list->entries[list->count++] =
				(struct command_entry){ *c, set->modules[i] };
	qsort(list->entries, list->count, sizeof(list->entries[0]), compare_entries);
	if (check_list(list, error))
		return list;
	free(list);
	return NULL;
}

static void *
command_swap(void *table)
{
	return atomic_exchange(&published, table);
}

static const struct command_entry *
entry_find(enum iris_role role, struct iris_str noun, struct iris_str verb)
{
	const struct command_list *list = atomic_load_explicit(&published, memory_order_acquire);
	size_t low = 0, high = list ? list->count : 0;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		const int order = compare_command(list->entries[middle].command, noun, verb);
		if (order == 0)
			/* SECURITY: who may not run it learns nothing of its being there. */
			return role >= list->entries[middle].command->role ? &list->entries[middle]
									   : NULL;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void
command_each(enum iris_role role, bool (*fn)(const struct iris_command *command, void *arg),
	     void *arg)
{
	const struct command_list *list = atomic_load_explicit(&published, memory_order_acquire);

	for (size_t i = 0; list && i < list->count; i++)
		if (role >= list->entries[i].command->role && !fn(list->entries[i].command, arg))
			return;
}

const struct iris_command *
command_find(enum iris_role role, struct iris_str noun, struct iris_str verb)
{
	const struct command_entry *entry = entry_find(role, noun, verb);
	return entry ? entry->command : NULL;
}

/* --- what people fill in --- */

static bool
refuse(struct iris_command_call *call, enum iris_condition condition,
       const struct iris_command_field *field, const char *what)
{
	call->refusal.condition = condition;
	call->refusal.text = arena_printf(call->arena, "%s: %s", field->name, what).base;
	return false;
}

static bool
is_one_line(struct iris_str value)
{
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.base[i] < 0x20 && value.base[i] != '\t')
			return false;
	return true;
}

static bool
check_bool(struct iris_command_call *call, const struct iris_command_field *field,
	   struct iris_str *value)
{
	/* XEP-0004 §3.3: both lexical forms; handlers see one. */
	if (str_is(*value, "1") || str_is(*value, "true"))
		*value = IRIS_STR("true");
	else if (str_is(*value, "0") || str_is(*value, "false"))
		*value = IRIS_STR("false");
	else
		return refuse(call, IRIS_NOT_ACCEPTABLE, field, "must be true or false");
	return true;
}

static bool
check_jid(struct iris_command_call *call, const struct iris_command_field *field,
	  struct iris_str *value)
{
	struct iris_jid jid;

	if (!jid_parse(call->arena, *value, &jid))
		return refuse(call, IRIS_NOT_ACCEPTABLE, field, "is not an address");
	*value = jid_full(&jid);
	return true;
}

static bool
check_choice(struct iris_command_call *call, const struct iris_command_field *field,
	     struct iris_str *value)
{
	struct iris_strbuf buf = STRBUF_INIT(call->arena);

	strbuf_add(&buf, IRIS_STR("must be one of:"));
	for (const char *const *choice = field->choices; choice && *choice; choice++) {
		if (str_is(*value, *choice))
			return true;
		strbuf_printf(&buf, " %s", *choice);
	}
	return refuse(call, IRIS_NOT_ACCEPTABLE, field, strbuf_str(&buf).base);
}

static bool
check_kind(struct iris_command_call *call, const struct iris_command_field *field,
	   struct iris_str *value)
{
	int64_t number;

	switch (field->kind) {
	case IRIS_FIELD_BOOL:
		return check_bool(call, field, value);
	case IRIS_FIELD_JID:
		return check_jid(call, field, value);
	case IRIS_FIELD_CHOICE:
		return check_choice(call, field, value);
	case IRIS_FIELD_INT:
		return str_to_int(*value, INT64_MIN, INT64_MAX, &number) ||
		       refuse(call, IRIS_NOT_ACCEPTABLE, field, "must be an integer");
	case IRIS_FIELD_TEXT:
	case IRIS_FIELD_SECRET:
		return is_one_line(*value) ||
		       refuse(call, IRIS_NOT_ACCEPTABLE, field, "must be one line");
	case IRIS_FIELD_TEXTS:
		break;
	}
	return true;
}

static bool
check_value(struct iris_command_call *call, const struct iris_command_field *field,
	    struct iris_str *value)
{
	if (str_is_empty(*value)) /* an empty box of a form is an absent value */
		*value = str_from(field->fallback);
	if (str_is_empty(*value))
		return !field->required || refuse(call, IRIS_BAD_REQUEST, field, "is required");
	if (value->len > (field->kind == IRIS_FIELD_TEXTS ? TEXT_MAX_BYTES : LINE_MAX_BYTES))
		return refuse(call, IRIS_NOT_ACCEPTABLE, field, "is too long");
	return check_kind(call, field, value);
}

static bool
check_values(struct iris_command_call *call)
{
	const unsigned count = count_fields(call->command);

	for (unsigned i = 0; i < count; i++)
		if (!check_value(call, &call->command->fields[i], &call->values[i]))
			return false;
	return true;
}

/* --- the record --- */

static int64_t
now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* SECURITY: a stolen password is not enough for what a command declares to be worth more (P3.7). */
static bool
check_factor(struct iris_command_call *call)
{
	if (!call->command->second_factor || call->second_factor)
		return true;
	call->refusal = (struct iris_refusal){ .condition = IRIS_NOT_AUTHORIZED,
		.text = "a second factor is needed" };
	return false;
}

/* SECURITY: what people wrote freely is never logged (P10.1): no text; addresses as pseudonyms. */
static bool
log_value(const struct iris_command_field *field, struct iris_str value,
	  struct iris_log_field *log_r)
{
	if (str_is_empty(value))
		return false;
	if (field->kind == IRIS_FIELD_JID)
		*log_r = LOG_JID(field->name, value);
	else if (field->kind == IRIS_FIELD_CHOICE || field->kind == IRIS_FIELD_BOOL ||
		 field->kind == IRIS_FIELD_INT)
		*log_r = LOG_STR(field->name, value);
	else
		return false;
	return true;
}

/* `checked`: the values have passed, so that what is logged is of the declared kind. */
static void
log_call(const struct iris_command_call *call, bool checked, int64_t started_ms)
{
	struct iris_log_field fields[LOG_FIELDS_MAX + 1] = {
		LOG_CSTR("noun", call->command->noun),
		LOG_CSTR("verb", call->command->verb),
		LOG_JID("by", jid_bare(&call->from)),
		LOG_STR("address", call->address),
		LOG_CSTR("verdict", call->refusal.condition
					    ? condition_name(call->refusal.condition)
					    : "done"),
		LOG_INT("ms", now_ms() - started_ms),
	};
	size_t count = 6;

	for (unsigned i = 0; checked && i < count_fields(call->command) && count < LOG_FIELDS_MAX;
	     i++)
		if (log_value(&call->command->fields[i], call->values[i], &fields[count]))
			count++;
	if (log_is_enabled(IRIS_LOG_NOTICE))
		log_write(IRIS_LOG_NOTICE, "command", "run", fields, count);
}

void
command_run(struct iris_command_call *call)
{
	const int64_t started_ms = now_ms();
	const struct command_entry *entry = entry_find(call->role, str_from(call->command->noun),
						       str_from(call->command->verb));
	bool checked;

	if (entry == NULL || entry->command != call->command) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_ITEM_NOT_FOUND };
		metric_add(&command_metrics[METRIC_REFUSED], 1);
		return;
	}
	const struct iris_module *module = entry->module; /* the entry may be gone after a wait */
	module_enter(module);
	checked = check_factor(call) && check_values(call);
	if (checked)
		call->command->run(call);
	metric_add(&command_metrics[call->refusal.condition ? METRIC_REFUSED : METRIC_DONE], 1);
	log_call(call, checked, started_ms);
	module_leave(module);
}

/* --- results --- */

void
command_table(struct iris_command_call *call, const char *const *columns)
{
	IRIS_ASSERT(columns != NULL && columns[0] != NULL);
	call->columns = columns;
	call->cells = NULL;
	call->row_count = 0;
}

void
command_row(struct iris_command_call *call, const struct iris_str *cells)
{
	size_t width = 0;

	IRIS_ASSERT(call->columns != NULL);
	while (call->columns[width])
		width++;
	if (call->row_count == ROWS_MAX)
		return;
	/* Room for 8 rows, then doubled whenever a power of two is full. */
	if (call->row_count == 0 ||
	    (call->row_count >= 8 && (call->row_count & (call->row_count - 1)) == 0)) {
		const size_t rows = call->row_count ? call->row_count * 2 : 8;
		struct iris_str *more = arena_alloc(call->arena, rows * width * sizeof(*more));
		if (call->row_count)
			memcpy(more, call->cells, call->row_count * width * sizeof(*more));
		call->cells = more;
	}
	memcpy(&call->cells[call->row_count * width], cells, width * sizeof(*cells));
	call->row_count++;
}

const struct module_table command_set = { "commands", command_build, command_swap, free };
