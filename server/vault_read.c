/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: a fiber hands statements to the engine and waits; the rows come back as bytes made on the
 * engine's thread, and are copied into the caller's arena and opened on the caller's.
 * Does not touch the caller's arena from another thread: other fibers may be building in it.
 */
#include <stdlib.h>

#include "iris/fiber.h"
#include "iris/log.h"
#include "vault_private.h"

static const struct iris_vault_engine *reads_engine;

/* Lies on the stack of the fiber that waits. */
struct read_wait {
	struct vault_read read;
	struct iris_mail mail;
	struct iris_wait wait;
};

/* --- rows, as the engine writes them: 'n', 'i' + int64, 'b' + int64 length + bytes --- */

static char *
rows_room(struct vault_rows *rows, size_t size)
{
	if (rows->cap - rows->len < size) {
		rows->cap = rows->cap ? rows->cap * 2 : 4096;
		while (rows->cap - rows->len < size)
			rows->cap *= 2;
		rows->base = iris_realloc(rows->base, rows->cap);
	}
	char *at = rows->base + rows->len;
	rows->len += size;
	return at;
}

void
rows_add_null(struct vault_rows *rows)
{
	*rows_room(rows, 1) = 'n';
}

void
rows_add_int(struct vault_rows *rows, int64_t number)
{
	char *at = rows_room(rows, 1 + sizeof(number));

	*at = 'i';
	memcpy(at + 1, &number, sizeof(number));
}

void
rows_add_bytes(struct vault_rows *rows, const void *base, size_t len)
{
	int64_t number = (int64_t)len;
	char *at = rows_room(rows, 1 + sizeof(number) + len);

	*at = 'b';
	memcpy(at + 1, &number, sizeof(number));
	if (len > 0)
		memcpy(at + 1 + sizeof(number), base, len);
}

bool
rows_are_full(const struct vault_rows *rows)
{
	return rows->len > VAULT_ROWS_BYTES_MAX;
}

void
rows_free(struct vault_rows *rows)
{
	free(rows->base);
	*rows = (struct vault_rows){ .base = NULL };
}

/* --- running --- */

static void
read_arrived(struct iris_mail *mail)
{
	wait_done(&IRIS_CONTAINER(mail, struct read_wait, mail)->wait);
}

static void
read_completed(struct vault_read *read) /* on the engine's thread */
{
	worker_post(read->home, &IRIS_CONTAINER(read, struct read_wait, read)->mail);
}

enum iris_vault_result
reads_run(struct vault_read_call *calls, unsigned count, const char *what)
{
	struct read_wait waiting = {
		.read = { .home = worker_self(),
			  .after = writes_flush(),
			  .calls = calls,
			  .call_count = count,
			  .result = IRIS_VAULT_FAILED,
			  .done = read_completed },
		.mail = { .fn = read_arrived },
	};

	wait_init(&waiting.wait);
	reads_engine->read(&waiting.read);
	wait_for(&waiting.wait, what);
	metric_add(&vault_metrics[VAULT_METRIC_READS], 1);
	if (waiting.read.result != IRIS_VAULT_OK)
		metric_add(&vault_metrics[VAULT_METRIC_READS_FAILED], 1);
	return waiting.read.result;
}

/* --- decoding --- */

static bool
open_value(const struct vault_read_call *call, unsigned column, iris_owner owner,
	   const struct iris_value *row, struct iris_arena *arena, struct iris_value *value_r)
{
	const struct vault_statement *statement = call->statement;
	const struct iris_value *key[VAULT_FIELDS_MAX];
	struct iris_str record = row[column].bytes;
	struct seal_binding binding = {
		.table = str_from(statement->query->table),
		.column = str_from(statement->query->columns[column].name),
		.row = key, .row_count = statement->key_count, .owner = owner,
	};

	IRIS_ASSERT(owner != VAULT_OWNER_REGION);
	if (record.len < SEAL_OVERHEAD)
		return false;
	for (unsigned k = 0; k < statement->key_count; k++) {
		const struct vault_key_source *source = &statement->keys[k];
		key[k] = source->column ? &row[source->index] : &call->values[source->index];
	}
	size_t len = record.len - SEAL_OVERHEAD;
	char *plain = arena_alloc(arena, len + 1);
	*value_r = (struct iris_value){ .type = IRIS_SEALED, .bytes = { plain, len } };
	return seal_open_record(&binding, record, plain);
}

static bool
decode_value(const struct vault_read_call *call, unsigned column, iris_owner owner,
	     const struct iris_value *row, struct iris_arena *arena, struct iris_value *value_r)
{
	enum iris_type type = call->statement->query->columns[column].type;

	*value_r = row[column];
	if (row[column].type == IRIS_TYPE_NONE)
		return true;
	if ((row[column].type == IRIS_INT) != (type == IRIS_INT))
		return false;
	if (type == IRIS_INT)
		return true;
	if (type == IRIS_SEALED)
		return open_value(call, column, owner, row, arena, value_r);
	*value_r = (struct iris_value){ .type = type,
					.bytes = arena_copy_str(arena, row[column].bytes) };
	return true;
}

enum iris_vault_result
reads_decode(const struct vault_read_call *call, iris_owner owner, struct iris_arena *arena,
	     struct iris_rows *rows_r)
{
	unsigned columns = call->statement->column_count;
	struct iris_value row[VAULT_FIELDS_MAX];
	struct rows_reader reader;

	rows_r->count = call->rows.count;
	rows_r->column_count = columns;
	rows_r->values = arena_alloc(arena, call->rows.count * columns * sizeof(rows_r->values[0]));
	rows_read_begin(&reader, &call->rows);
	for (size_t i = 0; i < call->rows.count; i++) {
		for (unsigned c = 0; c < columns; c++)
			row[c] = rows_read(&reader);
		for (unsigned c = 0; c < columns; c++) {
			if (decode_value(call, c, owner, row, arena,
					 &rows_r->values[i * columns + c]))
				continue;
			/* SECURITY: no content, no key fields in the log. */
			LOG(IRIS_LOG_ERROR, "vault", "value does not open",
			    LOG_CSTR("query", call->statement->query->name),
			    LOG_CSTR("column", call->statement->query->columns[c].name),
			    LOG_INT("owner", owner));
			metric_add(&vault_metrics[VAULT_METRIC_READS_FAILED], 1);
			return IRIS_VAULT_FAILED;
		}
	}
	return IRIS_VAULT_OK;
}

enum iris_vault_result
vault_ask(struct iris_question *questions, size_t count, iris_owner owner, struct iris_arena *arena)
{
	if (writes_are_refused())
		return IRIS_VAULT_REFUSED;
	if (owner != VAULT_OWNER_REGION && !keys_have_owner(owner))
		return keys_refusal(owner);
	if (count == 0)
		return IRIS_VAULT_OK;
	struct vault_read_call *calls = arena_alloc(arena, count * sizeof(*calls));
	for (size_t i = 0; i < count; i++)
		calls[i] = (struct vault_read_call){
			.statement = statement_of(questions[i].query),
			.values = questions[i].params,
		};
	enum iris_vault_result result = reads_run(calls, (unsigned)count, questions[0].query->name);
	for (size_t i = 0; i < count; i++) {
		if (result == IRIS_VAULT_OK)
			result = reads_decode(&calls[i], owner, arena, &questions[i].rows);
		rows_free(&calls[i].rows);
	}
	return result;
}

enum iris_vault_result
vault_read(const struct iris_query *query, iris_owner owner, const struct iris_value *params,
	   struct iris_arena *arena, struct iris_rows *rows_r)
{
	struct iris_question question = { query, params, { 0 } };
	enum iris_vault_result result = vault_ask(&question, 1, owner, arena);

	*rows_r = result == IRIS_VAULT_OK ? question.rows : (struct iris_rows){ .count = 0 };
	return result;
}

void
reads_start(const struct iris_vault_engine *engine)
{
	reads_engine = engine;
}
