/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A region that moves to or from PostgreSQL: the catalogue, a query whose rows are taken one by one
 * as they come, rows added by COPY in binary.  Main thread, blocking, on the control connection.
 * Which tables are moved, and in which order, server/vault_copy.c decides.
 */
#include <endian.h>
#include <stdlib.h>

#include "modules/postgresql/postgresql_private.h"

#define COPY_PIECE (256 * 1024)
#define SQL_SIZE 2048

static bool scan_is_over;

/* --- reading --- */

static bool
result_is_good(const PGresult *result)
{
	return PQresultStatus(result) == PGRES_SINGLE_TUPLE ||
	       PQresultStatus(result) == PGRES_TUPLES_OK;
}

static bool
transfer_scan(const char *sql, const struct iris_value *params, unsigned count,
	      struct iris_error *error)
{
	struct pg_params wire;
	Oid types[VAULT_FIELDS_MAX];

	IRIS_ASSERT(count <= VAULT_FIELDS_MAX);
	scan_is_over = false;
	/* Rows as they come, in the order of the key's index: a plan that sorts would first write a
	 * whole table into temporary files. */
	if (!pg_control_script("SET enable_sort = off; SET max_parallel_workers_per_gather = 0",
			       error))
		return false;
	for (unsigned i = 0; i < count; i++) {
		types[i] = params[i].type == IRIS_INT ? pg_type_oid(IRIS_INT) :
							0; /* bytes are what the column is */
		pg_params_add(&wire, i, &params[i], params[i].type);
	}
	return (PQsendQueryParams(pg_control(), sql, (int)count, types, wire.values, wire.lengths,
				  wire.formats, 1) &&
		PQsetSingleRowMode(pg_control())) ||
	       pg_control_problem(sql, error);
}

static bool
transfer_scan_next(struct vault_rows *rows, size_t bytes, struct iris_error *error)
{
	bool ok = true;

	while (ok && !scan_is_over && rows->len < bytes) {
		PGresult *result = PQgetResult(pg_control());

		if (!result) {
			scan_is_over = true;
		} else if (!result_is_good(result)) {
			ok = pg_control_problem("a table cannot be read", error);
		} else if (!pg_rows_collect(result, rows)) {
			ok = error_set(error, "The database: a row is too long");
		}
		PQclear(result);
	}
	return ok;
}

static void
transfer_scan_end(void)
{
	PGresult *result;
	PGcancel *cancel = scan_is_over ? NULL : PQgetCancel(pg_control());
	char ignored[256];

	if (cancel)
		(void)PQcancel(cancel, ignored, sizeof(ignored));
	PQfreeCancel(cancel);
	while ((result = PQgetResult(pg_control())))
		PQclear(result);
}

/* --- adding rows: COPY's binary format --- */

struct copy_buffer {
	char *base;
	size_t len, cap;
	bool failed;
};

static void
copy_flush(struct copy_buffer *buffer)
{
	if (buffer->len > 0 && !buffer->failed)
		buffer->failed = PQputCopyData(pg_control(), buffer->base, (int)buffer->len) != 1;
	buffer->len = 0;
}

static void
copy_add(struct copy_buffer *buffer, const void *base, size_t len)
{
	if (buffer->cap - buffer->len < len) {
		buffer->cap = buffer->len + len > COPY_PIECE ? buffer->len + len : COPY_PIECE;
		buffer->base = iris_realloc(buffer->base, buffer->cap);
	}
	memcpy(buffer->base + buffer->len, base, len);
	buffer->len += len;
}

static void
copy_add_16(struct copy_buffer *buffer, uint16_t number)
{
	number = htobe16(number);
	copy_add(buffer, &number, sizeof(number));
}

static void
copy_add_32(struct copy_buffer *buffer, uint32_t number)
{
	number = htobe32(number);
	copy_add(buffer, &number, sizeof(number));
}

static void
copy_add_value(struct copy_buffer *buffer, const struct iris_value *value)
{
	uint64_t number = htobe64((uint64_t)value->number);

	if (value->type == IRIS_TYPE_NONE) {
		copy_add_32(buffer, UINT32_MAX);
	} else if (value->type == IRIS_INT) {
		copy_add_32(buffer, sizeof(number));
		copy_add(buffer, &number, sizeof(number));
	} else {
		IRIS_ASSERT(value->bytes.len <= INT32_MAX);
		copy_add_32(buffer, (uint32_t)value->bytes.len);
		copy_add(buffer, value->bytes.base, value->bytes.len);
	}
}

static void
copy_rows(struct copy_buffer *buffer, const struct vault_table *table,
	  const struct vault_rows *rows)
{
	static const char signature[] = "PGCOPY\n\377\r\n";
	struct rows_reader reader;

	copy_add(buffer, signature, sizeof(signature)); /* its NUL belongs to it */
	copy_add_32(buffer, 0); /* flags */
	copy_add_32(buffer, 0); /* no extension of the header */
	rows_read_begin(&reader, rows);
	for (size_t row = 0; row < rows->count && !buffer->failed; row++) {
		copy_add_16(buffer, (uint16_t)table->column_count);
		for (unsigned i = 0; i < table->column_count; i++) {
			struct iris_value value = rows_read(&reader);
			copy_add_value(buffer, &value);
		}
		if (buffer->len >= COPY_PIECE)
			copy_flush(buffer);
	}
	copy_add_16(buffer, UINT16_MAX); /* the end */
	copy_flush(buffer);
}

/* What came of the COPY; also what stands behind it. */
static bool
copy_end(bool sent, struct iris_error *error)
{
	PGresult *result;
	bool ok = sent && PQputCopyEnd(pg_control(), NULL) == 1;

	while ((result = PQgetResult(pg_control()))) {
		ok = ok && PQresultStatus(result) == PGRES_COMMAND_OK;
		bool more = PQresultStatus(result) == PGRES_COPY_IN; /* the connection broke */
		PQclear(result);
		if (more)
			break;
	}
	return ok || pg_control_problem("rows cannot be added", error);
}

static bool
transfer_load(const struct vault_table *table, const struct vault_rows *rows,
	      struct iris_error *error)
{
	struct copy_buffer buffer = { .base = NULL };
	char sql[SQL_SIZE];

	IRIS_ASSERT(snprintf(sql, sizeof(sql), "COPY \"%.*s\" FROM STDIN (FORMAT binary)",
			     IRIS_STR_FMT(table->name)) < SQL_SIZE);
	PGresult *result = PQexec(pg_control(), sql);
	bool begun = PQresultStatus(result) == PGRES_COPY_IN;
	PQclear(result);
	if (!begun)
		return pg_control_problem(sql, error);
	copy_rows(&buffer, table, rows);
	bool ok = copy_end(!buffer.failed, error);
	free(buffer.base);
	return ok;
}

/* What the planner should know, before the first question comes, and that all rows are visible. */
static bool
transfer_settle(const struct vault_table *table, struct iris_error *error)
{
	char sql[SQL_SIZE];

	IRIS_ASSERT(snprintf(sql, sizeof(sql), "VACUUM (ANALYZE) \"%.*s\"",
			     IRIS_STR_FMT(table->name)) < SQL_SIZE);
	return pg_control_script(sql, error);
}

/* The marks of the writers belong to this database: each start makes them anew. */
static const char *const own_tables[] = { "vault_writers", NULL };

const struct vault_transfer pg_transfer = {
	/* Nor is a part a table that was detached and is not dropped yet. */
	.catalogue = "SELECT c.relname::text, a.attname::text, CASE a.atttypid WHEN "
		     "'bigint'::regtype THEN 1 "
		     "WHEN 'text'::regtype THEN 2 WHEN 'bytea'::regtype THEN 3 ELSE 0 END, "
		     "coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0), "
		     "(c.relkind = 'p')::int "
		     "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
		     "AND NOT a.attisdropped LEFT JOIN pg_index i ON i.indrelid = c.oid AND "
		     "i.indisprimary "
		     "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
		     "AND c.relnamespace = current_schema()::regnamespace "
		     "AND NOT EXISTS (SELECT FROM pg_class p WHERE p.relkind = 'p' "
		     "AND p.relnamespace = c.relnamespace "
		     "AND c.relname ~ ('^' || p.relname || '_[0-9]{4}_[0-9]{2}$')) "
		     "ORDER BY c.relname COLLATE \"C\", a.attnum",
	.byte_order = " COLLATE \"C\"",
	.freeze = "SET default_transaction_read_only = on",
	.own_tables = own_tables,
	.scan = transfer_scan,
	.scan_next = transfer_scan_next,
	.scan_end = transfer_scan_end,
	.load = transfer_load,
	.settle = transfer_settle,
};
