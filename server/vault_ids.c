/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids: counters in memory over blocks reserved in the store, so that taking one costs nothing and
 * none is given twice, not even one that was only shown to a client before a crash.  Any worker.
 */
#include <stdatomic.h>

#include "vault_private.h"

struct id_sequence {
	const char *name;
	int64_t block;
	_Atomic int64_t next, reserved; /* ids below `reserved` are ours to give */
	atomic_bool extending;
};

/* A block lasts far longer than its extension takes: a block of accounts is hours of PBKDF2. */
static struct id_sequence sequences[IRIS_SEQ_COUNT] = {
	[IRIS_SEQ_LOG] = { .name = "log", .block = 1 << 20 },
	[IRIS_SEQ_ACCOUNT] = { .name = "account", .block = 1 << 12 },
};

static struct iris_query sequence_extend = {
	.name = "vault.sequence_extend", .table = "vault_sequences", .write = true,
	.sql = "UPDATE vault_sequences SET next = $2 WHERE name = $1 AND next < $2",
	.params = { { "name", IRIS_TEXT }, { "next", IRIS_INT } },
};

static void
sequence_extended(void *arg, bool failed)
{
	struct id_sequence *sequence = arg;

	if (!failed)
		atomic_fetch_add(&sequence->reserved, sequence->block);
	atomic_store(&sequence->extending, false); /* failed: the next id asks again */
}

int64_t
vault_next_id(enum iris_sequence sequence)
{
	struct id_sequence *s = &sequences[sequence];
	int64_t id = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
	int64_t reserved = atomic_load_explicit(&s->reserved, memory_order_relaxed);

	if (id < reserved - s->block / 2 || writes_are_refused() ||
	    atomic_exchange(&s->extending, true))
		return id;
	struct iris_ticket *ticket = ticket_new(sequence_extended, s);
	writes_post_own(&sequence_extend,
			VALUES(value_str(str_from(s->name)), value_int(reserved + s->block)),
			ticket);
	ticket_unref(&ticket);
	return id;
}

static bool
sequence_open(const struct iris_vault_engine *engine, struct id_sequence *s, int64_t floor,
	      struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	const struct iris_value name = { .type = IRIS_TEXT, .bytes = str_from(s->name) };
	bool ok = engine->query("SELECT next FROM vault_sequences WHERE name = $1", &name, 1, &rows,
				error);

	if (ok && rows.count != 1) {
		ok = error_set(error, "The vault's own tables are damaged");
		error_detail(error, "vault_sequences has no row '%s'", s->name);
	}
	if (ok) {
		struct rows_reader reader;
		rows_read_begin(&reader, &rows);
		int64_t next = rows_read(&reader).number;
		next = next > floor ? next : floor;
		atomic_store(&s->next, next);
		atomic_store(&s->reserved, next + s->block);
		atomic_store(&s->extending, false);
		ok = engine->query(sequence_extend.sql, VALUES(name, value_int(next + s->block)), 2,
				   NULL, error);
	}
	rows_free(&rows);
	return ok;
}

bool
ids_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	int64_t last_log;

	return schema_read_int(engine, "SELECT coalesce(max(id), 0) FROM log", &last_log, error) &&
	       sequence_open(engine, &sequences[IRIS_SEQ_LOG], last_log + 1, error) &&
	       sequence_open(engine, &sequences[IRIS_SEQ_ACCOUNT], 1, error) &&
	       statement_register(&sequence_extend, error);
}
