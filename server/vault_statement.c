/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declared queries: checked against their own tables when a module is loaded, so that a wrong one
 * stops the start and not the first user who needs it.  Main thread; what it makes is immutable.
 * Does not read the SQL beyond its placeholders: the engine does (prepare).
 */
#include <stdlib.h>

#include "iris/hash.h"
#include "iris/module.h"
#include "vault_private.h"

/*
 * The declaration is copied: what was posted may still lie in the queue when its module is
 * unloaded, declaration and all.  Entries are freed when the vault closes.
 */
struct statement_entry {
	struct iris_hash_node node;   /* by the query's name, while it is registered */
	struct statement_entry *next; /* of all */
	struct vault_statement statement;
	struct iris_query copy;
	struct iris_query *query;     /* the module's; NULL when it has gone */
};

static struct iris_hash statements;
static struct statement_entry *statement_entries;
static const struct iris_vault_engine *statements_engine;

void
statements_open(const struct iris_vault_engine *engine)
{
	statements_engine = engine;
}

static bool
statement_problem(struct iris_error *error, const struct iris_query *query, const char *what,
		  const char *word)
{
	error_set(error, "The query %s is declared wrongly: %s", query->name, what);
	return error_detail(error, "%s", word);
}

static unsigned
fields_count(const struct iris_field *fields)
{
	unsigned count = 0;
	while (count < VAULT_FIELDS_MAX && fields[count].type != IRIS_TYPE_NONE)
		count++;
	return count;
}

static bool
fields_have_sealed(const struct iris_field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fields[i].type == IRIS_SEALED)
			return true;
	return false;
}

static int
fields_find(const struct iris_field *fields, unsigned count, struct iris_str name)
{
	for (unsigned i = 0; i < count; i++)
		if (str_is(name, fields[i].name))
			return (int)i;
	return -1;
}

/* The highest $n outside of quotes. */
static unsigned
sql_highest_param(const char *sql)
{
	unsigned highest = 0;
	char quote = 0;

	for (; *sql; sql++) {
		if (quote) {
			quote = *sql == quote ? 0 : quote;
		} else if (*sql == '\'' || *sql == '"') {
			quote = *sql;
		} else if (*sql == '$') {
			unsigned number = 0;
			while (sql[1] >= '0' && sql[1] <= '9' && number < 1000)
				number = number * 10 + (unsigned)(*++sql - '0');
			highest = number > highest ? number : highest;
		}
	}
	return highest;
}

static bool
statement_add_key(struct vault_statement *statement, struct iris_str name, struct iris_error *error)
{
	const struct iris_query *query = statement->query;
	struct vault_key_source *source = &statement->keys[statement->key_count];
	int column = fields_find(query->columns, statement->column_count, name);
	int param = fields_find(query->params, statement->param_count, name);

	/*
	 * The row as it was read says which it is; the parameter does where it was not asked for.
	 */
	source->column = column >= 0;
	source->index = (unsigned)(column >= 0 ? column : param);
	if (column < 0 && param < 0)
		return statement_problem(error, query, "its key names no field", query->key);
	enum iris_type type = column >= 0 ? query->columns[column].type : query->params[param].type;
	if (type == IRIS_SEALED)
		return statement_problem(error, query, "its key names a sealed field", query->key);
	if (statement->seals && source->column)
		return statement_problem(error, query, "a write's key must be in its parameters",
					 query->key);
	statement->key_count++;
	return true;
}

static bool
statement_parse_key(struct vault_statement *statement, struct iris_error *error)
{
	const char *at = statement->query->key;

	while (at && *at) {
		size_t len = strcspn(at, " ");
		if (statement->key_count == VAULT_FIELDS_MAX)
			return statement_problem(error, statement->query, "its key is too long",
						 at);
		if (len > 0 && !statement_add_key(statement, (struct iris_str){ at, len }, error))
			return false;
		at += len + strspn(at + len, " ");
	}
	return true;
}

static bool
statement_check(struct vault_statement *statement, struct iris_error *error)
{
	const struct iris_query *query = statement->query;

	statement->param_count = fields_count(query->params);
	statement->column_count = fields_count(query->columns);
	statement->seals = fields_have_sealed(query->params, statement->param_count);
	statement->opens = fields_have_sealed(query->columns, statement->column_count);
	statement->keeps = query->write && transit_keeps(statement);
	if (sql_highest_param(query->sql) != statement->param_count)
		return statement_problem(error, query, "its parameters are not $1 to $n of the SQL",
					 query->sql);
	if (query->write == (statement->column_count > 0))
		return statement_problem(error, query, "a write has no columns, a read has some",
					 query->sql);
	if (!statement_parse_key(statement, error))
		return false;
	if (!statement->seals && !statement->opens)
		return true;
	if (!query->write && statement->seals)
		return statement_problem(error, query, "what is sealed cannot be searched for",
					 query->sql);
	if (statement->key_count == 0 || !query->table)
		return statement_problem(error, query, "sealed fields need a table and a key",
					 query->sql);
	return true;
}

static const char *
copy_text(const char *text)
{
	return text ? str_dup(str_from(text)) : NULL;
}

static struct statement_entry *
entry_new(struct iris_query *query)
{
	struct statement_entry *entry = iris_calloc(1, sizeof(*entry));

	entry->query = query;
	entry->copy = *query;
	entry->copy.name = copy_text(query->name);
	entry->copy.table = copy_text(query->table);
	entry->copy.sql = copy_text(query->sql);
	entry->copy.key = copy_text(query->key);
	for (unsigned i = 0; i < VAULT_FIELDS_MAX; i++) {
		entry->copy.params[i].name = copy_text(query->params[i].name);
		entry->copy.columns[i].name = copy_text(query->columns[i].name);
	}
	entry->statement.query = &entry->copy;
	return entry;
}

static void
entry_free(struct statement_entry *entry)
{
	free((char *)entry->copy.name);
	free((char *)entry->copy.table);
	free((char *)entry->copy.sql);
	free((char *)entry->copy.key);
	for (unsigned i = 0; i < VAULT_FIELDS_MAX; i++) {
		free((char *)entry->copy.params[i].name);
		free((char *)entry->copy.columns[i].name);
	}
	free(entry);
}

bool
statement_register(struct iris_query *query, struct iris_error *error)
{
	struct iris_str name = str_from(query->name);

	if (query->prepared)
		return statement_problem(error, query, "it is registered already", query->sql);
	if (hash_find(&statements, name))
		return statement_problem(error, query, "another query has its name", query->sql);
	struct statement_entry *entry = entry_new(query);
	if (!statement_check(&entry->statement, error) ||
	    !statements_engine->prepare(&entry->statement, error)) {
		entry_free(entry);
		return false;
	}
	hash_insert(&statements, &entry->node, str_from(entry->copy.name));
	entry->next = statement_entries;
	statement_entries = entry;
	query->prepared = &entry->statement;
	return true;
}

void
statement_unregister(struct iris_query *query)
{
	struct iris_hash_node *node =
		query->prepared ? hash_find(&statements, str_from(query->name)) : NULL;

	if (!node)
		return;
	hash_remove(&statements, node);
	IRIS_CONTAINER(node, struct statement_entry, node)->query = NULL;
	query->prepared = NULL;
}

void
statements_each_sealed(void (*fn)(const struct vault_statement *statement, unsigned param,
				  void *arg),
		       void *arg)
{
	for (struct statement_entry *entry = statement_entries; entry; entry = entry->next) {
		const struct vault_statement *statement = &entry->statement;

		for (unsigned i = 0; statement->seals && i < statement->param_count; i++)
			if (statement->query->params[i].type == IRIS_SEALED)
				fn(statement, i, arg);
	}
}

void
statements_close(void)
{
	struct statement_entry *entry;

	while ((entry = statement_entries) != NULL) {
		statement_entries = entry->next;
		if (entry->query)
			statement_unregister(entry->query);
		entry_free(entry);
	}
	hash_free(&statements);
	statements_engine = NULL;
}

bool
vault_queries_register(const struct iris_module *module, struct iris_error *error)
{
	struct iris_query *const *query = module->queries;

	if (!statements_engine)
		return true; /* an edge: what is posted is refused */
	for (; query && *query; query++) {
		if (statement_register(*query, error))
			continue;
		while (query-- != module->queries)
			statement_unregister(*query);
		return false;
	}
	return true;
}

void
vault_queries_unregister(const struct iris_module *module)
{
	for (struct iris_query *const *query = module->queries; query && *query; query++)
		statement_unregister(*query);
}
