/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepared statements by slot, and values to and from the wire, all in binary.  Slots are only ever
 * added to, on the main thread; everybody reads them.  Does not talk to the server.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "modules/postgresql/postgresql_private.h"

/* From the server's pg_type.dat: they never change. */
enum {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_NAME = 19,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_VARCHAR = 1043,
	OID_NUMERIC = 1700,
};

const struct vault_dialect pg_dialect = {
	.id = "BIGINT PRIMARY KEY",
	.bytes = "BYTEA",
	.integer = "BIGINT",
	.table = "",
	.narrow = "",
	.monthly = "PARTITION BY RANGE (id)",
};

static _Atomic(struct pg_slot *) slots[PG_SLOTS_MAX];
static unsigned slot_count; /* main thread */

/* --- slots --- */

const struct pg_slot *
pg_slot_of(const struct vault_statement *statement)
{
	return atomic_load_explicit(&slots[statement->slot], memory_order_acquire);
}

static bool
slot_is_for(const struct pg_slot *slot, const char *sql, const Oid *types, unsigned count)
{
	return strcmp(slot->sql, sql) == 0 && slot->count == count &&
	       memcmp(slot->types, types, count * sizeof(types[0])) == 0;
}

bool
pg_slot_take(struct vault_statement *statement, struct iris_error *error)
{
	const struct iris_query *query = statement->query;
	Oid types[VAULT_FIELDS_MAX] = { 0 };

	for (unsigned i = 0; i < statement->param_count; i++)
		types[i] = pg_type_oid(query->params[i].type);
	/* A module that is loaded again finds its statements where they were. */
	for (statement->slot = 0; statement->slot < slot_count; statement->slot++)
		if (slot_is_for(pg_slot_of(statement), query->sql, types, statement->param_count))
			return true;
	if (slot_count == PG_SLOTS_MAX)
		return error_set(error, "Too many different statements (%d)", PG_SLOTS_MAX);
	struct pg_slot *slot = iris_calloc(1, sizeof(*slot));
	slot->sql = str_dup(str_from(query->sql));
	slot->count = statement->param_count;
	memcpy(slot->types, types, sizeof(types));
	(void)snprintf(slot->name, sizeof(slot->name), "s%u", slot_count);
	atomic_store_explicit(&slots[slot_count++], slot, memory_order_release);
	return true;
}

void
pg_slots_free(void)
{
	while (slot_count > 0) {
		struct pg_slot *slot = atomic_exchange(&slots[--slot_count], NULL);
		free(slot->sql);
		free(slot);
	}
}

/* --- values --- */

Oid
pg_type_oid(enum iris_type type)
{
	return type == IRIS_INT ? OID_INT8 : type == IRIS_TEXT ? OID_TEXT : OID_BYTEA;
}

static bool
oid_is_number(Oid oid)
{
	return oid == OID_INT8 || oid == OID_INT4 || oid == OID_INT2 || oid == OID_BOOL ||
	       oid == OID_NUMERIC;
}

bool
pg_type_fits(enum iris_type type, Oid oid)
{
	if (type == IRIS_INT)
		return oid_is_number(oid);
	if (type == IRIS_TEXT)
		return oid == OID_TEXT || oid == OID_VARCHAR || oid == OID_NAME;
	return oid == OID_BYTEA;
}

void
pg_params_add(struct pg_params *params, unsigned i, const struct iris_value *value,
	      enum iris_type type)
{
	params->formats[i] = 1;
	if (value->type == IRIS_TYPE_NONE) {
		params->values[i] = NULL;
		params->lengths[i] = 0;
	} else if (type == IRIS_INT) {
		params->numbers[i] = htobe64((uint64_t)value->number);
		params->values[i] = (const char *)&params->numbers[i];
		params->lengths[i] = sizeof(params->numbers[i]);
	} else {
		IRIS_ASSERT(value->bytes.len <= INT32_MAX);
		params->values[i] = value->bytes.base ? value->bytes.base : "";
		params->lengths[i] = (int)value->bytes.len;
	}
}

static int64_t
read_integer(const char *at, int len)
{
	int64_t number = len > 0 && at[0] < 0 ? -1 : 0;

	for (int i = 0; i < len; i++)
		number = (int64_t)((uint64_t)number << 8 | (unsigned char)at[i]);
	return number;
}

/*
 * sum() of 64-bit integers is a NUMERIC: count of digits to base 10,000, weight of the first, sign,
 * scale, digits. False: not a number that fits. A fraction is cut off.
 */
static bool
read_numeric(const char *at, int len, int64_t *number_r)
{
	__int128 number = 0;

	if (len < 8)
		return false;
	int64_t digits = read_integer(at, 2), weight = read_integer(at + 2, 2),
		sign = read_integer(at + 4, 2) & 0xffff;
	if (digits * 2 + 8 > len || weight > 4 || (sign != 0 && sign != 0x4000))
		return false;
	for (int64_t i = 0; i <= weight; i++)
		number = number * 10000 + (i < digits ? read_integer(at + 8 + 2 * i, 2) : 0);
	if (sign)
		number = -number;
	*number_r = (int64_t)number;
	return number >= INT64_MIN && number <= INT64_MAX;
}

static bool
collect_value(const PGresult *result, int row, int column, struct vault_rows *rows)
{
	const char *at = PQgetvalue(result, row, column);
	int len = PQgetlength(result, row, column);
	Oid oid = PQftype(result, column);
	int64_t number;

	if (PQgetisnull(result, row, column)) {
		rows_add_null(rows);
	} else if (!oid_is_number(oid)) {
		rows_add_bytes(rows, at, (size_t)len);
	} else if (oid != OID_NUMERIC) {
		rows_add_int(rows, read_integer(at, len));
	} else {
		if (!read_numeric(at, len, &number))
			return false;
		rows_add_int(rows, number);
	}
	return true;
}

bool
pg_rows_collect(const PGresult *result, struct vault_rows *rows)
{
	int count = PQntuples(result), columns = PQnfields(result);

	for (int row = 0; row < count; row++) {
		for (int column = 0; column < columns; column++)
			if (!collect_value(result, row, column, rows))
				return false;
		rows->count++;
		if (rows_are_full(rows))
			return false;
	}
	return true;
}

/* --- errors --- */

enum pg_fault
pg_fault_of(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum pg_fault fault;
	} faults[] = {
		{ "57014", PG_FAULT_STORE }, /* cancelled, or its time was over */
		{ "57", PG_FAULT_CONNECTION }, /* the server stops, or is starting */
		{ "08", PG_FAULT_CONNECTION },
		{ "25", PG_FAULT_CONNECTION }, /* read-only: a standby now */
		{ "40", PG_FAULT_STORE }, /* deadlock */
		{ "53", PG_FAULT_STORE }, /* no room */
		{ "55", PG_FAULT_STORE }, /* locked */
		{ "58", PG_FAULT_STORE }, /* I/O */
		{ "42501", PG_FAULT_STORE }, /* no rights: the operator's trouble, not the writer's
					      */
		{ "XX", PG_FAULT_STORE },
	};

	if (!sqlstate)
		return PG_FAULT_CONNECTION; /* libpq's own errors have none */
	for (size_t i = 0; i < IRIS_COUNT(faults); i++)
		if (strncmp(sqlstate, faults[i].prefix, strlen(faults[i].prefix)) == 0)
			return faults[i].fault;
	return PG_FAULT_STATEMENT;
}
