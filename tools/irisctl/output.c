/* SPDX-License-Identifier: Apache-2.0 */
/* What the server said, for people or as JSON (jansson). */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "irisctl.h"

#define NS_DATA "jabber:x:data"
#define COLUMNS_MAX 32
#define CELL_WIDTH_MAX 60

static xmpp_stanza_t *
next_named(xmpp_stanza_t *stanza, const char *name)
{
	while (stanza &&
	       (!xmpp_stanza_get_name(stanza) || strcmp(xmpp_stanza_get_name(stanza), name) != 0))
		stanza = xmpp_stanza_get_next(stanza);
	return stanza;
}

static xmpp_stanza_t *
first_named(xmpp_stanza_t *parent, const char *name)
{
	return parent ? next_named(xmpp_stanza_get_children(parent), name) : NULL;
}

static xmpp_stanza_t *
following_named(xmpp_stanza_t *stanza, const char *name)
{
	return next_named(xmpp_stanza_get_next(stanza), name);
}

const char *
stanza_child_text(xmpp_stanza_t *parent, const char *name, char **owned_r)
{
	xmpp_stanza_t *child = first_named(parent, name);

	*owned_r = child ? xmpp_stanza_get_text(child) : NULL;
	return *owned_r ? *owned_r : "";
}

/* --- tables --- */

struct table {
	const char *columns[COLUMNS_MAX];
	size_t width[COLUMNS_MAX];
	size_t count;
};

/* Bytes that start a character: columns line up with UTF-8 too. */
static size_t
text_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void
table_read_columns(struct table *table, xmpp_stanza_t *form)
{
	xmpp_stanza_t *field = first_named(first_named(form, "reported"), "field");

	for (; field && table->count < COLUMNS_MAX; field = following_named(field, "field")) {
		const char *var = xmpp_stanza_get_attribute(field, "var");

		table->columns[table->count] = var ? var : "";
		table->width[table->count] = text_width(table->columns[table->count]);
		table->count++;
	}
}

/* Calls fn for each cell of a row, in the order of the columns. */
static void
table_each_cell(struct table *table, xmpp_stanza_t *item,
		void (*fn)(struct table *, size_t, const char *, void *), void *arg)
{
	for (size_t i = 0; i < table->count; i++) {
		xmpp_stanza_t *field = first_named(item, "field");
		char *owned;

		while (field && strcmp(xmpp_stanza_get_attribute(field, "var") ?
					       xmpp_stanza_get_attribute(field, "var") :
					       "",
				       table->columns[i]) != 0)
			field = following_named(field, "field");
		fn(table, i, field ? stanza_child_text(field, "value", &owned) : (owned = NULL, ""),
		   arg);
		free(owned);
	}
}

static void
measure_cell(struct table *table, size_t column, const char *text, void *arg)
{
	size_t width = text_width(text);

	if (width > CELL_WIDTH_MAX)
		width = CELL_WIDTH_MAX;
	if (width > table->width[column])
		table->width[column] = width;
}

/* SECURITY: what users chose may hold terminal controls; they are shown as '?', not obeyed. */
static void
print_safely(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void
print_cell(struct table *table, size_t column, const char *text, void *arg)
{
	size_t width = text_width(text);

	print_safely(text);
	if (column + 1 == table->count) {
		putchar('\n');
		return;
	}
	for (; width < table->width[column]; width++)
		putchar(' ');
	fputs("  ", stdout);
}

static void
json_cell(struct table *table, size_t column, const char *text, void *row)
{
	json_object_set_new(row, table->columns[column], json_string(text));
}

static void
print_table(xmpp_stanza_t *form)
{
	struct table table = { .count = 0 };
	xmpp_stanza_t *item;

	table_read_columns(&table, form);
	for (item = first_named(form, "item"); item; item = following_named(item, "item"))
		table_each_cell(&table, item, measure_cell, NULL);
	for (size_t i = 0; i < table.count; i++)
		print_cell(&table, i, table.columns[i], NULL);
	for (item = first_named(form, "item"); item; item = following_named(item, "item"))
		table_each_cell(&table, item, print_cell, NULL);
}

static json_t *
json_table(xmpp_stanza_t *form)
{
	struct table table = { .count = 0 };
	json_t *rows = json_array();
	xmpp_stanza_t *item;

	table_read_columns(&table, form);
	for (item = first_named(form, "item"); item; item = following_named(item, "item")) {
		json_t *row = json_object();

		table_each_cell(&table, item, json_cell, row);
		json_array_append_new(rows, row);
	}
	return rows;
}

static void
print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(value);
}

void
output_command(xmpp_ctx_t *context, xmpp_stanza_t *command, const struct options *options)
{
	xmpp_stanza_t *form = xmpp_stanza_get_child_by_ns(command, NS_DATA);
	char *owned;
	const char *note = stanza_child_text(command, "note", &owned);

	if (options->json) {
		json_t *result = json_object();

		json_object_set_new(result, "note", json_string(note));
		if (form)
			json_object_set_new(result, "rows", json_table(form));
		print_json(result);
	} else {
		if (form)
			print_table(form);
		if (*note) {
			print_safely(note);
			putchar('\n');
		}
	}
	if (owned)
		xmpp_free(context, owned);
}

void
output_list(xmpp_stanza_t *items, const struct options *options)
{
	json_t *rows = json_array();
	xmpp_stanza_t *item;

	for (item = first_named(items, "item"); item; item = following_named(item, "item")) {
		const char *node = xmpp_stanza_get_attribute(item, "node"),
			   *name = xmpp_stanza_get_attribute(item, "name");
		const char *slash = node ? strchr(node, '/') : NULL;

		if (!slash)
			continue;
		if (options->json)
			json_array_append_new(rows,
					      json_pack("{s:s%, s:s, s:s}", "noun", node,
							(size_t)(slash - node), "verb", slash + 1,
							"summary", name ? name : ""));
		else
			printf("%-10.*s %-12s %s\n", (int)(slash - node), node, slash + 1,
			       name ? name : "");
	}
	if (options->json)
		print_json(json_incref(rows));
	json_decref(rows);
}
