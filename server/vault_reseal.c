/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing anew what older keys of an owner have sealed, while the server runs: one pass over every
 * table that a declared write seals into, a page at a time with pauses.  On a fiber of the main
 * thread.  A record names its key, and the key its owner, so the pass needs to know nothing of what
 * a table is for.
 *
 * A value is replaced only where it still is what was read: who writes meanwhile wins.  The keys of
 * before are kept for what a module has that is not loaded now.  A pass that was cut short begins
 * anew at the next start; what it did is passed over quickly.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "iris/fiber.h"
#include "iris/log.h"
#include "vault_private.h"

#define RESEAL_PAGE 200
#define RESEAL_PAUSE_MS 20
#define RESEAL_START_MS 10000 /* after a start: when all modules have declared what they seal */

/* One sealed column, and the statements that walk it. */
struct reseal_column {
	struct reseal_column *next;
	char *table, *name, *key;
	unsigned key_count;
	enum iris_type key_types[VAULT_FIELDS_MAX];
	struct iris_query read, write;
};

static struct {
	struct reseal_column *columns;
	struct iris_timer timer;
	bool running, again;
} reseal; /* main thread */

static struct iris_query reseal_done = {
	.name = "vault.reseal_done",
	.table = "vault_reseal",
	.write = true,
	.sql = "UPDATE vault_reseal SET upto = $1 WHERE id = 1",
	.params = { { "upto", IRIS_INT } },
};

/* --- the statements of a column --- */

enum key_list { LIST_NAMES, LIST_NUMBERS, LIST_EQUATIONS };

static void
add_list(struct iris_strbuf *sql, const struct reseal_column *column, enum key_list what,
	 const char *between)
{
	for (unsigned i = 0; i < column->key_count; i++) {
		if (i > 0)
			strbuf_printf(sql, "%s", between);
		if (what != LIST_NUMBERS)
			strbuf_printf(sql, "%s", column->read.columns[i].name);
		if (what == LIST_EQUATIONS)
			strbuf_printf(sql, " = ");
		if (what != LIST_NAMES)
			strbuf_printf(sql, "$%u", i + 1);
	}
}

/* SELECT keys, column behind the last row that was read, in the order of the keys. */
static char *
make_read_sql(struct iris_arena *arena, const struct reseal_column *column)
{
	struct iris_strbuf sql = STRBUF_INIT(arena);

	strbuf_printf(&sql, "SELECT ");
	add_list(&sql, column, LIST_NAMES, ", ");
	strbuf_printf(&sql, ", %s FROM %s WHERE (", column->name, column->table);
	add_list(&sql, column, LIST_NAMES, ", ");
	strbuf_printf(&sql, ") > (");
	add_list(&sql, column, LIST_NUMBERS, ", ");
	strbuf_printf(&sql, ") ORDER BY ");
	add_list(&sql, column, LIST_NAMES, ", ");
	strbuf_printf(&sql, " LIMIT $%u", column->key_count + 1);
	return str_dup(strbuf_str(&sql));
}

static char *
make_write_sql(struct iris_arena *arena, const struct reseal_column *column)
{
	struct iris_strbuf sql = STRBUF_INIT(arena);

	strbuf_printf(&sql, "UPDATE %s SET %s = $%u WHERE ", column->table, column->name,
		      column->key_count + 1);
	add_list(&sql, column, LIST_EQUATIONS, " AND ");
	strbuf_printf(&sql, " AND %s = $%u", column->name, column->key_count + 2);
	return str_dup(strbuf_str(&sql));
}

static void
column_make_queries(struct reseal_column *column, const struct vault_statement *statement)
{
	struct iris_arena *arena = arena_new();
	unsigned n = column->key_count;
	struct iris_str place = arena_printf(arena, "vault.reseal %s.%s", column->table,
					     column->name);

	column->read.name = str_dup(place);
	column->write.name = str_dup(arena_printf(arena, "%.*s!", IRIS_STR_FMT(place)));
	for (unsigned i = 0; i < n; i++) {
		const struct iris_field *field =
			&statement->query->params[statement->keys[i].index];

		column->key_types[i] = field->type;
		column->read.columns[i].name = str_dup(str_from(field->name));
		column->read.columns[i].type = column->read.params[i].type =
			column->write.params[i].type = field->type;
		column->read.params[i].name = column->write.params[i].name =
			column->read.columns[i].name;
	}
	column->read.columns[n] = (struct iris_field){ column->name, IRIS_BLOB };
	column->read.params[n] = (struct iris_field){ "limit", IRIS_INT };
	column->write.params[n] = (struct iris_field){ "new", IRIS_BLOB };
	column->write.params[n + 1] = (struct iris_field){ "old", IRIS_BLOB };
	column->read.table = column->write.table = column->table;
	column->read.sql = make_read_sql(arena, column);
	column->write.sql = make_write_sql(arena, column);
	column->write.write = true;
	arena_unref(&arena);
}

static void
column_free(struct reseal_column *column)
{
	statement_unregister(&column->read);
	statement_unregister(&column->write);
	for (unsigned i = 0; i < column->key_count; i++)
		free((char *)column->read.columns[i].name);
	free((char *)column->read.name);
	free((char *)column->write.name);
	free((char *)column->read.sql);
	free((char *)column->write.sql);
	free(column->table);
	free(column->name);
	free(column->key);
	free(column);
}

/* Several writes seal into the same column; it is walked once. */
static void
column_add(const struct vault_statement *statement, unsigned param, void *arg)
{
	const struct iris_query *query = statement->query;
	struct reseal_column *column;

	for (column = reseal.columns; column; column = column->next)
		if (strcmp(column->table, query->table) == 0 &&
		    strcmp(column->name, query->params[param].name) == 0)
			return;
	column = iris_calloc(1, sizeof(*column));
	column->table = str_dup(str_from(query->table));
	column->name = str_dup(str_from(query->params[param].name));
	column->key = str_dup(str_from(query->key));
	column->key_count = statement->key_count;
	column_make_queries(column, statement);
	column->next = reseal.columns;
	reseal.columns = column;
}

/* --- one column --- */

static struct seal_binding
binding_of(const struct reseal_column *column, const struct iris_value **row, iris_owner owner)
{
	return (struct seal_binding){ .table = str_from(column->table),
				      .column = str_from(column->name),
				      .row = row,
				      .row_count = column->key_count,
				      .owner = owner };
}

/* The record under the key that seals now; none: it needs none, or does not open. */
static struct iris_str
record_renew(const struct reseal_column *column, const struct iris_value *values,
	     struct iris_arena *arena)
{
	struct iris_str record = values[column->key_count].bytes, out = IRIS_STR_NONE;
	const struct iris_value *row[VAULT_FIELDS_MAX];
	struct vault_key key, current;
	uint32_t id;

	if (str_is_none(record) || !seal_key_of(record, &id) || !keys_by_id(id, &key))
		return out;
	bool old = keys_current(key.owner, &current) && current.id != id;
	for (unsigned i = 0; i < column->key_count; i++)
		row[i] = &values[i];
	struct seal_binding binding = binding_of(column, row, key.owner);
	char *plain = arena_alloc(arena, record.len);
	if (old && seal_open_record(&binding, record, plain)) {
		size_t len = record.len - SEAL_OVERHEAD;
		char *fresh = arena_alloc(arena, record.len);

		if (seal_record(&binding, (struct iris_str){ plain, len }, fresh))
			out = (struct iris_str){ fresh, record.len };
		OPENSSL_cleanse(plain, len);
	}
	OPENSSL_cleanse(&key, sizeof(key));
	OPENSSL_cleanse(&current, sizeof(current));
	return out;
}

static enum iris_vault_result
page_renew(const struct reseal_column *column, const struct iris_rows *rows,
	   struct iris_arena *arena)
{
	struct iris_batch *batch = batch_new_own();
	unsigned n = column->key_count;
	int64_t count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct iris_value *values = row_value(rows, i, 0);
		struct iris_str fresh = record_renew(column, values, arena);
		struct iris_value params[VAULT_FIELDS_MAX];

		if (str_is_none(fresh))
			continue;
		memcpy(params, values, n * sizeof(*params));
		params[n] = value_str(fresh);
		params[n + 1] = values[n];
		batch_add(batch, &column->write, params);
		count++;
	}
	enum iris_vault_result result = batch_write(&batch);
	if (result == IRIS_VAULT_OK)
		metric_add(&vault_metrics[VAULT_METRIC_RESEALED], count);
	return result;
}

/* Copies the keys of the last row: its page goes. */
static void
cursor_move(const struct reseal_column *column, struct iris_value *cursor,
	    const struct iris_value *values, struct iris_arena *arena)
{
	for (unsigned i = 0; i < column->key_count; i++) {
		cursor[i] = values[i];
		if (column->key_types[i] != IRIS_INT)
			cursor[i].bytes = arena_copy_str(arena, values[i].bytes);
	}
}

static bool
column_renew(const struct reseal_column *column)
{
	struct iris_value cursor[VAULT_FIELDS_MAX];
	struct iris_arena *arena = NULL, *held = NULL;
	struct iris_rows rows;
	bool ok = true, more = true;

	for (unsigned i = 0; i < column->key_count; i++)
		cursor[i] = column->key_types[i] == IRIS_INT ? value_int(INT64_MIN) :
							       value_str(IRIS_STR(""));
	cursor[column->key_count] = value_int(RESEAL_PAGE);
	while (ok && more) {
		arena = arena_new();
		ok = vault_read(&column->read, VAULT_OWNER_REGION, cursor, arena, &rows) ==
			     IRIS_VAULT_OK &&
		     page_renew(column, &rows, arena) == IRIS_VAULT_OK;
		more = ok && rows.count == RESEAL_PAGE;
		if (more)
			cursor_move(column, cursor, row_value(&rows, rows.count - 1, 0), arena);
		arena_unref(&held);
		held = arena; /* the cursor lies in it */
		ok = ok && fiber_sleep(RESEAL_PAUSE_MS);
	}
	arena_unref(&held);
	return ok;
}

/* --- the pass --- */

static bool
column_register(struct reseal_column *column)
{
	struct iris_error error;

	if ((column->read.prepared || statement_register(&column->read, &error)) &&
	    (column->write.prepared || statement_register(&column->write, &error)))
		return true;
	LOG(IRIS_LOG_ERROR, "vault", "reseal-impossible",
	    LOG_CSTR("table", column->table), LOG_CSTR("column", column->name),
	    LOG_CSTR("reason", error.message), LOG_CSTR("detail", error.detail));
	return false;
}

static bool
reseal_pass(void)
{
	uint32_t upto = keys_newest();
	struct iris_batch *batch;
	bool ok = true;

	statements_each_sealed(column_add, NULL);
	for (struct reseal_column *column = reseal.columns; column && ok; column = column->next)
		ok = column_register(column) && column_renew(column);
	if (!ok)
		return false;
	batch = batch_new_own();
	batch_add(batch, &reseal_done, VALUES(value_int(upto)));
	return batch_write(&batch) == IRIS_VAULT_OK;
}

static void
reseal_run(void *arg)
{
	bool ok = true;

	LOG(IRIS_LOG_NOTICE, "vault", "reseal-begins");
	while (reseal.again && ok) {
		reseal.again = false;
		ok = reseal_pass();
	}
	reseal.running = false;
	if (ok)
		LOG(IRIS_LOG_NOTICE, "vault", "reseal-ended",
		    LOG_INT("values", metric_value(&vault_metrics[VAULT_METRIC_RESEALED])));
	else if (!worker_is_stopping())
		LOG(IRIS_LOG_WARNING, "vault", "reseal-cut-short",
		    LOG_CSTR("hint", "it goes on at the next start, or with the next rotation"));
}

static void
reseal_start(void *arg) /* main thread */
{
	reseal.again = true;
	if (!reseal.running)
		reseal.running = fiber_start("vault: reseal", reseal_run, NULL);
}

void
reseal_begin(void)
{
	worker_call(worker_at(WORKER_MAIN), "vault: reseal", reseal_start, NULL);
}

bool
reseal_is_running(void)
{
	return reseal.running;
}

bool
reseal_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	int64_t upto;

	if (!statement_register(&reseal_done, error) ||
	    !schema_read_int(engine, "SELECT upto FROM vault_reseal", &upto, error))
		return false;
	if (keys_need_reseal((uint32_t)upto))
		timer_start(&reseal.timer, RESEAL_START_MS, reseal_start, NULL);
	return true;
}

void
reseal_close(void)
{
	struct reseal_column *column;

	timer_stop(&reseal.timer);
	while ((column = reseal.columns) != NULL) {
		reseal.columns = column->next;
		column_free(column);
	}
}
