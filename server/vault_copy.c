/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A region moves to another engine: table by table in the order of their keys, each batch one
 * transaction, rows as they are kept.  Nothing is opened or sealed: what a record is bound to does
 * not depend on the engine, and the master key stays the same.  Main thread, blocking; the server
 * is down, and the engines' own locks see to it.
 *
 * There is no list of tables here that could be forgotten: the catalogues tell, and must be the
 * same on both sides.  How far it has come is told by the last key in each table of the target, so
 * that progress and rows cannot part.  At the end both sides are read in the same order and
 * compared byte for byte; only then goes the row of vault_copy, without which nobody may serve.
 * The source is only read.
 */
#include <stdio.h>
#include <time.h>

#include "vault_private.h"

#define TABLES_MAX 512
#define CATALOGUE_COLUMNS 5
#define BATCH_BYTES ((size_t)4 << 20)
#define KEY_TEXT_MAX 200 /* of a row's key, in messages */

struct table_list {
	struct vault_table *tables; /* by name */
	size_t count;
	bool has_migrations, has_copy;
};

struct id_range {
	int64_t first, last; /* both are in it */
	bool any;
};

struct copy {
	const struct iris_vault_engine *from, *to;
	const struct vault_copy_watch *watch;
	struct iris_arena *arena;
	struct table_list source, target;
	struct vault_rows region; /* name, key_check and created of the source */
};

/* --- what tables there are --- */

/* What each store has for itself. */
static bool
table_is_own(const struct iris_vault_engine *engine, struct iris_str name, struct table_list *list)
{
	bool migrations = str_is(name, "schema_migrations"), copy = str_is(name, "vault_copy");
	bool own = migrations || copy;

	list->has_migrations |= migrations;
	list->has_copy |= copy;
	for (const char *const *at = engine->transfer->own_tables; *at && !own; at++)
		own = str_is(name, *at);
	return own;
}

static bool
table_problem(struct iris_str table, const char *what, struct iris_error *error)
{
	error_set(error, "The table %.*s cannot be copied", IRIS_STR_FMT(table));
	return error_detail(error, "%s", what);
}

/* Whether it can be copied is asked later: in a target it may be somebody else's. */
static void
table_add_column(struct vault_table *table, const struct iris_field *column, int64_t key_place)
{
	unsigned i = table->column_count++;

	if (i >= VAULT_FIELDS_MAX)
		return;
	IRIS_ASSERT(key_place <= VAULT_FIELDS_MAX);
	if (key_place > 0) {
		table->keys[key_place - 1] = i;
		table->key_count++;
	}
	table->columns[i] = *column;
}

/* One row of the catalogue. */
static bool
list_add(const struct copy *copy, struct table_list *list,
	 const struct iris_value row[CATALOGUE_COLUMNS], struct iris_error *error)
{
	struct vault_table *last = list->count ? &list->tables[list->count - 1] : NULL;
	const struct iris_field column = {
		.name = arena_copy_str(copy->arena, row[1].bytes).base,
		.type = (enum iris_type)row[2].number,
	};

	if (!last || !str_equal(last->name, row[0].bytes)) {
		if (list->count == TABLES_MAX)
			return error_set(error, "The store has too many tables");
		last = &list->tables[list->count++];
		last->name = arena_copy_str(copy->arena, row[0].bytes);
		last->in_parts = row[4].number != 0;
	}
	table_add_column(last, &column, row[3].number);
	return true;
}

static bool
list_load(const struct copy *copy, const struct iris_vault_engine *engine,
	  struct table_list *list_r, struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	bool ok = engine->query(engine->transfer->catalogue, NULL, 0, &rows, error);
	struct rows_reader reader;

	*list_r = (struct table_list){
		.tables = arena_alloc(copy->arena, TABLES_MAX * sizeof(struct vault_table)),
	};
	rows_read_begin(&reader, &rows);
	for (size_t i = 0; ok && i < rows.count; i++) {
		struct iris_value row[CATALOGUE_COLUMNS];
		for (size_t column = 0; column < IRIS_COUNT(row); column++)
			row[column] = rows_read(&reader);
		if (!table_is_own(engine, row[0].bytes, list_r))
			ok = list_add(copy, list_r, row, error);
	}
	rows_free(&rows);
	return ok;
}

static bool
list_check(const struct table_list *list, struct iris_error *error)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct vault_table *table = &list->tables[i];
		if (table->key_count == 0)
			return table_problem(table->name, "it has no primary key", error);
		if (table->column_count > VAULT_FIELDS_MAX)
			return table_problem(table->name, "it has too many columns", error);
		for (unsigned column = 0; column < table->column_count; column++)
			if (table->columns[column].type == IRIS_TYPE_NONE)
				return table_problem(table->name, "it has a column of another type",
						     error);
	}
	return true;
}

static bool
tables_match(const struct vault_table *a, const struct vault_table *b)
{
	if (!str_equal(a->name, b->name) || a->column_count != b->column_count ||
	    a->key_count != b->key_count ||
	    memcmp(a->keys, b->keys, a->key_count * sizeof(a->keys[0])) != 0)
		return false;
	for (unsigned i = 0; i < a->column_count; i++) /* of the source, which was checked */
		if (a->columns[i].type != b->columns[i].type ||
		    strcmp(a->columns[i].name, b->columns[i].name) != 0)
			return false;
	return true;
}

/* Both have the same migrations; a table beside them belongs to somebody who should be asked. */
static bool
lists_match(const struct copy *copy, struct iris_error *error)
{
	const struct table_list *a = &copy->source, *b = &copy->target;

	for (size_t i = 0; i < a->count || i < b->count; i++) {
		if (i < a->count && i < b->count && tables_match(&a->tables[i], &b->tables[i]))
			continue;
		struct iris_str odd = i < a->count ? a->tables[i].name : b->tables[i].name;
		error_set(error, "The two stores do not have the same tables");
		error_detail(error, "the first that differs is %.*s%s%.*s", IRIS_STR_FMT(odd),
			     i < a->count && i < b->count ? ", the other store has " : "",
			     i < a->count && i < b->count ? (int)b->tables[i].name.len : 0,
			     i < a->count && i < b->count ? b->tables[i].name.base : "");
		return error_hint(error, "Move a table that no migration made out of the way");
	}
	return true;
}

/* --- statements --- */

static void
sql_add_keys(struct iris_strbuf *sql, const struct iris_vault_engine *engine,
	     const struct vault_table *table, const char *behind)
{
	for (unsigned i = 0; i < table->key_count; i++) {
		const struct iris_field *column = &table->columns[table->keys[i]];
		strbuf_printf(sql, "%s\"%s\"%s%s", i ? ", " : "", column->name,
			      column->type == IRIS_TEXT ? engine->transfer->byte_order : "",
			      behind);
	}
}

/* All rows in the order of their keys, or those behind the key that is given in $1 … */
static const char *
sql_scan(struct iris_arena *arena, const struct iris_vault_engine *engine,
	 const struct vault_table *table, bool behind)
{
	struct iris_strbuf sql = STRBUF_INIT(arena);

	strbuf_printf(&sql, "SELECT ");
	for (unsigned i = 0; i < table->column_count; i++)
		strbuf_printf(&sql, "%s\"%s\"", i ? ", " : "", table->columns[i].name);
	strbuf_printf(&sql, " FROM \"%s\"", table->name.base);
	if (behind) {
		strbuf_printf(&sql, " WHERE (");
		sql_add_keys(&sql, engine, table, "");
		strbuf_printf(&sql, ") > (");
		for (unsigned i = 0; i < table->key_count; i++)
			strbuf_printf(&sql, "%s$%u", i ? ", " : "", i + 1);
		strbuf_printf(&sql, ")");
	}
	strbuf_printf(&sql, " ORDER BY ");
	sql_add_keys(&sql, engine, table, "");
	return strbuf_str(&sql).base;
}

static const char *
sql_last_key(struct iris_arena *arena, const struct iris_vault_engine *engine,
	     const struct vault_table *table)
{
	struct iris_strbuf sql = STRBUF_INIT(arena);

	strbuf_printf(&sql, "SELECT ");
	for (unsigned i = 0; i < table->key_count; i++)
		strbuf_printf(&sql, "%s\"%s\"", i ? ", " : "", table->columns[table->keys[i]].name);
	strbuf_printf(&sql, " FROM \"%s\" ORDER BY ", table->name.base);
	sql_add_keys(&sql, engine, table, " DESC");
	strbuf_printf(&sql, " LIMIT 1");
	return strbuf_str(&sql).base;
}

/* The key of the last row that was copied; *found_r false: none was. Bytes lie in the arena. */
static bool
last_key(const struct copy *copy, const struct vault_table *table,
	 struct iris_value key_r[VAULT_FIELDS_MAX], bool *found_r, struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	bool ok =
		copy->to->query(sql_last_key(copy->arena, copy->to, table), NULL, 0, &rows, error);
	struct rows_reader reader;

	*found_r = ok && rows.count > 0;
	rows_read_begin(&reader, &rows);
	for (unsigned i = 0; *found_r && i < table->key_count; i++) {
		key_r[i] = rows_read(&reader);
		key_r[i].type = table->columns[table->keys[i]].type;
		key_r[i].bytes = arena_copy_str(copy->arena, key_r[i].bytes);
	}
	rows_free(&rows);
	return ok;
}

/* --- copying --- */

static void
tell(const struct copy *copy, const struct vault_copy_progress *progress)
{
	if (copy->watch)
		copy->watch->fn(progress, copy->watch->arg);
}

static void
rows_empty(struct vault_rows *rows)
{
	rows->len = rows->count = 0;
}

static bool
table_copy_rows(const struct copy *copy, const struct vault_table *table, struct iris_error *error)
{
	struct vault_copy_progress progress = { .step = VAULT_COPY_ROWS, .table = table->name };
	struct vault_rows rows = { .base = NULL };
	bool ok = true;

	while (ok && !progress.done) {
		rows_empty(&rows);
		ok = copy->from->transfer->scan_next(&rows, BATCH_BYTES, error);
		progress.done = rows.count == 0;
		if (ok && !progress.done)
			ok = copy->to->transfer->load(table, &rows, error);
		progress.rows += (int64_t)rows.count;
		progress.bytes += (int64_t)rows.len;
		if (ok)
			tell(copy, &progress);
	}
	rows_free(&rows);
	return ok;
}

static bool
table_copy(const struct copy *copy, const struct vault_table *table, struct iris_error *error)
{
	struct iris_value key[VAULT_FIELDS_MAX];
	bool behind;

	if (!last_key(copy, table, key, &behind, error))
		return false;
	const char *sql = sql_scan(copy->arena, copy->from, table, behind);
	bool ok = copy->from->transfer->scan(sql, key, behind ? table->key_count : 0, error) &&
		  table_copy_rows(copy, table, error);
	copy->from->transfer->scan_end();
	return ok && copy->to->transfer->settle(table, error);
}

/* --- comparing --- */

static void
key_describe(const struct vault_table *table, const struct iris_value *row, char *out, size_t size)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);

	for (unsigned i = 0; i < table->key_count; i++) {
		const struct iris_field *column = &table->columns[table->keys[i]];
		const struct iris_value *value = &row[table->keys[i]];
		strbuf_printf(&text, "%s%s ", i ? ", " : "", column->name);
		if (column->type == IRIS_INT)
			strbuf_printf(&text, "%lld", (long long)value->number);
		else if (column->type == IRIS_TEXT)
			strbuf_printf(&text, "'%.*s'", IRIS_STR_FMT(value->bytes));
		else
			strbuf_printf(&text, "of %zu bytes", value->bytes.len);
	}
	(void)snprintf(out, size, "%s", strbuf_str(&text).base);
	arena_unref(&arena);
}

static bool
values_equal(const struct iris_value *a, const struct iris_value *b)
{
	return a->type == b->type && a->number == b->number && str_equal(a->bytes, b->bytes);
}

static void
row_read(struct rows_reader *reader, const struct vault_table *table, struct iris_value *row_r)
{
	for (unsigned i = 0; i < table->column_count; i++)
		row_r[i] = rows_read(reader);
}

/* The first column that differs, those of the key first; column_count: none. */
static unsigned
rows_differ_in(const struct vault_table *table, const struct iris_value *a,
	       const struct iris_value *b, bool *key_r)
{
	*key_r = true;
	for (unsigned i = 0; i < table->key_count; i++)
		if (!values_equal(&a[table->keys[i]], &b[table->keys[i]]))
			return table->keys[i];
	*key_r = false;
	for (unsigned i = 0; i < table->column_count; i++)
		if (!values_equal(&a[i], &b[i]))
			return i;
	return table->column_count;
}

static bool
difference_tell(const struct vault_table *table, const struct iris_value *source,
		const struct iris_value *target, struct iris_error *error)
{
	char a[KEY_TEXT_MAX] = "its end", b[KEY_TEXT_MAX] = "its end";
	unsigned column = table->column_count;
	bool key = true;

	if (source)
		key_describe(table, source, a, sizeof(a));
	if (target)
		key_describe(table, target, b, sizeof(b));
	if (source && target)
		column = rows_differ_in(table, source, target, &key);
	error_set(error, "The copy is not what the source is: table %.*s",
		  IRIS_STR_FMT(table->name));
	if (key)
		error_detail(error, "where the source has %s, the copy has %s", a, b);
	else
		error_detail(error, "at %s the column %s differs", a, table->columns[column].name);
	return error_hint(error, "Somebody wrote to one of them since the copy began: make the "
				 "target empty, and copy again");
}

/* Two pieces that are not the same: the first row that is not. */
static bool
difference_find(const struct vault_table *table, const struct vault_rows *source,
		const struct vault_rows *target, struct iris_error *error)
{
	struct iris_value a[VAULT_FIELDS_MAX], b[VAULT_FIELDS_MAX];
	struct rows_reader in_source, in_target;
	bool key;

	rows_read_begin(&in_source, source);
	rows_read_begin(&in_target, target);
	for (size_t i = 0; i < source->count || i < target->count; i++) {
		if (i < source->count)
			row_read(&in_source, table, a);
		if (i < target->count)
			row_read(&in_target, table, b);
		if (i >= source->count || i >= target->count ||
		    rows_differ_in(table, a, b, &key) < table->column_count)
			return difference_tell(table, i < source->count ? a : NULL,
					       i < target->count ? b : NULL, error);
	}
	return true; /* not reached: equal rows are equal bytes */
}

/* As one engine writes its rows, so does the other: the same rows are the same bytes. */
static bool
table_compare_rows(const struct copy *copy, const struct vault_table *table,
		   struct iris_error *error)
{
	struct vault_copy_progress progress = { .step = VAULT_COPY_COMPARES, .table = table->name };
	struct vault_rows source = { .base = NULL }, target = { .base = NULL };
	bool ok = true;

	while (ok && !progress.done) {
		rows_empty(&source);
		rows_empty(&target);
		ok = copy->from->transfer->scan_next(&source, BATCH_BYTES, error) &&
		     copy->to->transfer->scan_next(&target, BATCH_BYTES, error);
		progress.done = source.count == 0 && target.count == 0;
		progress.rows += (int64_t)source.count;
		progress.bytes += (int64_t)source.len;
		if (ok && (source.count != target.count || source.len != target.len ||
			   (source.len && memcmp(source.base, target.base, source.len) != 0)))
			ok = difference_find(table, &source, &target, error);
		if (ok)
			tell(copy, &progress);
	}
	rows_free(&source);
	rows_free(&target);
	return ok;
}

static bool
table_compare(const struct copy *copy, const struct vault_table *table, struct iris_error *error)
{
	const struct iris_vault_engine *from = copy->from, *to = copy->to;

	const char *all = sql_scan(copy->arena, from, table, false);
	bool ok = from->transfer->scan(all, NULL, 0, error) &&
		  to->transfer->scan(sql_scan(copy->arena, to, table, false), NULL, 0, error) &&
		  table_compare_rows(copy, table, error);
	to->transfer->scan_end();
	from->transfer->scan_end();
	return ok;
}

/* --- the row of vault_copy --- */

static bool
region_load(struct copy *copy, struct iris_error *error)
{
	if (!copy->from->query("SELECT name, key_check, created FROM vault_region", NULL, 0,
			       &copy->region, error))
		return false;
	return copy->region.count == 1 || error_set(error, "The source belongs to no region");
}

bool
copy_check_finished(const struct iris_vault_engine *engine, struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;

	if (!engine->query("SELECT name, source, begun FROM vault_copy", NULL, 0, &rows, error)) {
		rows_free(&rows);
		return false;
	}
	bool finished = rows.count == 0;
	rows_read_begin(&reader, &rows);
	if (!finished) {
		struct iris_str name = rows_read(&reader).bytes, source = rows_read(&reader).bytes;
		time_t begun = (time_t)(rows_read(&reader).number / 1000);
		struct tm tm;
		char when[32] = "";
		if (gmtime_r(&begun, &tm))
			(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
		error_set(error, "The store is an unfinished copy");
		error_detail(error, "of the region '%.*s' from %.*s, begun %s", IRIS_STR_FMT(name),
			     IRIS_STR_FMT(source), when);
		error_hint(error, "irisctl db copy goes on where it stopped, with a configuration "
				  "whose vault: engine: is still that of the source");
	}
	rows_free(&rows);
	return finished;
}

/* Is what the target says to be a copy of what the source is? *found_r false: it says nothing. */
static bool
mark_read(const struct copy *copy, bool *found_r, struct iris_error *error)
{
	struct vault_rows mark = { .base = NULL };
	bool ok = copy->to->query("SELECT name, key_check, created FROM vault_copy", NULL, 0, &mark,
				  error);

	*found_r = ok && mark.count > 0;
	if (*found_r &&
	    (mark.len != copy->region.len || memcmp(mark.base, copy->region.base, mark.len) != 0)) {
		error_set(error, "The target is an unfinished copy of another region");
		ok = error_hint(error, "Or the master key was changed since: make the target "
				       "empty, and copy again");
	}
	rows_free(&mark);
	return ok;
}

/* With what the migrations put there out of the way: the source has it, too. */
static bool
mark_write(const struct copy *copy, struct iris_error *error)
{
	struct rows_reader reader;
	struct iris_value values[5] = { value_str(str_from(copy->from->name)),
					value_int((int64_t)time(NULL) * 1000) };
	bool ok = true;

	rows_read_begin(&reader, &copy->region);
	for (size_t i = 2; i < IRIS_COUNT(values); i++)
		values[i] = rows_read(&reader);
	values[2].type = IRIS_TEXT;
	for (size_t i = 0; ok && i < copy->target.count; i++) {
		struct iris_strbuf sql = STRBUF_INIT(copy->arena);
		strbuf_printf(&sql, "DELETE FROM \"%s\"", copy->target.tables[i].name.base);
		ok = copy->to->script(strbuf_str(&sql).base, error);
	}
	return ok && copy->to->query("INSERT INTO vault_copy (id, source, begun, name, key_check, "
				     "created) VALUES (1, $1, $2, $3, $4, $5)",
				     values, IRIS_COUNT(values), NULL, error);
}

static bool
mark_set(const struct copy *copy, struct iris_error *error)
{
	struct iris_error ignored;

	if (!copy->to->script("BEGIN", error))
		return false;
	if (mark_write(copy, error) && copy->to->script("COMMIT", error))
		return true;
	(void)copy->to->script("ROLLBACK", &ignored);
	return false;
}

/* --- the target --- */

static bool
target_refuse_used(const struct copy *copy, struct iris_error *error)
{
	static const char *const owned[] = { "SELECT count(*) FROM vault_region",
					     "SELECT count(*) FROM vault_owners",
					     "SELECT count(*) FROM vault_keys" };
	int64_t count = 0;

	for (size_t i = 0; i < IRIS_COUNT(owned) && count == 0; i++)
		if (!schema_read_int(copy->to, owned[i], &count, error))
			return false;
	if (count == 0)
		return true;
	error_set(error, "The target has a region already");
	return error_hint(error, "Nothing was changed; name another store, or make this one empty");
}

/* Nobody's yet: it gets the schema and the mark. */
static bool
target_begin(struct copy *copy, struct iris_error *error)
{
	unsigned applied;

	if (!copy->target.has_migrations && copy->target.count > 0) {
		error_set(error, "The target is not empty");
		error_detail(error, "it has a table %.*s",
			     IRIS_STR_FMT(copy->target.tables[0].name));
		return error_hint(error, "Nothing was changed; make a new database");
	}
	return schema_upgrade(copy->to, &applied, error) && target_refuse_used(copy, error) &&
	       list_load(copy, copy->to, &copy->target, error) && lists_match(copy, error) &&
	       mark_set(copy, error);
}

static bool
target_prepare(struct copy *copy, struct iris_error *error)
{
	bool found = false;

	if (!list_load(copy, copy->to, &copy->target, error) ||
	    (copy->target.has_copy && !mark_read(copy, &found, error)))
		return false;
	bool ok = found ? schema_check_version(copy->to, error) && lists_match(copy, error) :
			  target_begin(copy, error);
	if (ok)
		tell(copy, &(struct vault_copy_progress){ .step = found ? VAULT_COPY_GOES_ON :
									  VAULT_COPY_BEGINS });
	return ok;
}

/* --- parts by month, for what is older than this month --- */

/* Widens the range by the least or greatest id of a table. */
static bool
range_widen(const struct copy *copy, struct iris_str table, const char *function,
	    struct id_range *range, struct iris_error *error)
{
	struct iris_strbuf sql = STRBUF_INIT(copy->arena);
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;

	strbuf_printf(&sql, "SELECT %s(id) FROM \"%s\"", function, table.base);
	bool ok = copy->from->query(strbuf_str(&sql).base, NULL, 0, &rows, error);
	rows_read_begin(&reader, &rows);
	struct iris_value id =
		ok ? rows_read(&reader) : (struct iris_value){ .type = IRIS_TYPE_NONE };
	if (id.type != IRIS_TYPE_NONE) {
		range->first = range->any && range->first < id.number ? range->first : id.number;
		range->last = range->any && range->last > id.number ? range->last : id.number;
		range->any = true;
	}
	rows_free(&rows);
	return ok;
}

static bool
parts_for_all(const struct copy *copy, struct iris_error *error)
{
	struct id_range range = { .any = false };

	for (size_t i = 0; i < copy->target.count; i++) {
		const struct vault_table *table = &copy->target.tables[i];
		if (table->in_parts && (!range_widen(copy, table->name, "min", &range, error) ||
					!range_widen(copy, table->name, "max", &range, error)))
			return false;
	}
	return !range.any || copy->to->make_parts(range.first, range.last, error);
}

/* --- all of it --- */

static bool
copy_run(struct copy *copy, struct iris_error *error)
{
	if (!schema_check(copy->from, error) ||
	    !copy->from->script(copy->from->transfer->freeze, error) ||
	    !list_load(copy, copy->from, &copy->source, error) ||
	    !list_check(&copy->source, error) || !region_load(copy, error) ||
	    !target_prepare(copy, error) || !parts_for_all(copy, error))
		return false;
	for (size_t i = 0; i < copy->source.count; i++)
		if (!table_copy(copy, &copy->source.tables[i], error))
			return false;
	for (size_t i = 0; i < copy->source.count; i++)
		if (!table_compare(copy, &copy->source.tables[i], error))
			return false;
	if (!copy->to->script("DELETE FROM vault_copy", error))
		return false;
	tell(copy, &(struct vault_copy_progress){ .step = VAULT_COPY_ENDS });
	return true;
}

bool
vault_copy_with(const struct iris_vault_engine *from, const struct iris_vault_engine *to,
		const struct vault_copy_watch *watch, struct iris_error *error)
{
	struct copy copy = { .from = from, .to = to, .watch = watch };

	if (from == to) {
		error_set(error, "The data is kept by %s already", from->name);
		return error_hint(error, "vault: engine: names the source");
	}
	if (!from->open(false, error))
		return false;
	bool ok = to->open(true, error);
	if (ok) {
		copy.arena = arena_new();
		ok = copy_run(&copy, error);
		rows_free(&copy.region);
		arena_unref(&copy.arena);
		to->close();
	}
	from->close();
	return ok;
}
