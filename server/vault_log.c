/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: entries in arrival order, found by reader, or by reader and peer.  An insert touches the
 * end of one table and nothing else; its index is filled later (vault_index.c).  A read asks the
 * tail in memory first and the index then.  Runs on workers. Does not know what the flags mean, nor
 * whose the readers are.
 */
#include <stdlib.h>

#include "vault_private.h"

#define FETCH_IDS 16

#define LOG_SELECT "SELECT l.id, l.owner, l.reader, l.peer, l.flags, l.body FROM "
#define LOG_RANGE "AND x.id > $2 AND x.id < $3 AND (l.flags & $4) = $4 ORDER BY x.id"
/* CROSS JOIN: first the index, then the log by its key, whatever an optimiser thinks. */
#define LOG_JOIN " x CROSS JOIN log l WHERE l.id = x.id AND "

static struct iris_query log_insert = {
	.name = "log.insert", .table = "log", .key = VAULT_LOG_KEY, .write = true,
	.sql = "INSERT INTO log (id, owner, reader, peer, flags, body) "
	       "VALUES ($1, $2, $3, $4, $5, $6)",
	.params = VAULT_LOG_COLUMNS,
};
static struct iris_query log_fetch = {
	.name = "log.fetch",
	.table = "log",
	.key = VAULT_LOG_KEY,
	.sql = LOG_SELECT "log l WHERE l.id IN ($1, $2, $3, $4, $5, $6, $7, $8, "
			  "$9, $10, $11, $12, $13, $14, $15, $16)",
	.params = { { "1", IRIS_INT },
		    { "2", IRIS_INT },
		    { "3", IRIS_INT },
		    { "4", IRIS_INT },
		    { "5", IRIS_INT },
		    { "6", IRIS_INT },
		    { "7", IRIS_INT },
		    { "8", IRIS_INT },
		    { "9", IRIS_INT },
		    { "10", IRIS_INT },
		    { "11", IRIS_INT },
		    { "12", IRIS_INT },
		    { "13", IRIS_INT },
		    { "14", IRIS_INT },
		    { "15", IRIS_INT },
		    { "16", IRIS_INT } },
	.columns = VAULT_LOG_COLUMNS,
};

#define LOG_QUERY(variable, name_, index, where, order, ...)                        \
	static struct iris_query variable = {                                       \
		.name = name_,                                                      \
		.table = "log",                                                     \
		.key = VAULT_LOG_KEY,                                               \
		.sql = LOG_SELECT index LOG_JOIN where LOG_RANGE order " LIMIT $5", \
		.params = { { "asked", IRIS_INT },                                  \
			    { "after", IRIS_INT },                                  \
			    { "before", IRIS_INT },                                 \
			    { "all", IRIS_INT },                                    \
			    { "limit", IRIS_INT },                                  \
			    __VA_ARGS__ },                                          \
		.columns = VAULT_LOG_COLUMNS,                                       \
	}
#define BY_READER "log_reader", "x.reader = $1 "
#define BY_PEER "log_peer", "x.reader = $1 AND x.peer = $6 "
#define LOG_QUERY_(...) LOG_QUERY(__VA_ARGS__)
LOG_QUERY_(log_reader_up, "log.reader_up", BY_READER, "");
LOG_QUERY_(log_reader_down, "log.reader_down", BY_READER, " DESC");
LOG_QUERY_(log_peer_up, "log.peer_up", BY_PEER, "", { "with", IRIS_INT });
LOG_QUERY_(log_peer_down, "log.peer_down", BY_PEER, " DESC", { "with", IRIS_INT });

static struct iris_query *const log_queries[] = {
	&log_insert,      &log_fetch,   &log_reader_up,
	&log_reader_down, &log_peer_up, &log_peer_down,
};

/* --- appending --- */

enum iris_vault_result
log_append(const struct iris_log_entry *entry, struct iris_ticket *ticket)
{
	struct vault_unit *unit;

	if (tail_is_full()) {
		metric_add(&vault_metrics[VAULT_METRIC_BUSY], 1);
		return IRIS_VAULT_BUSY;
	}
	enum iris_vault_result result = writes_post_log(
		writes_are_refused() ? NULL : statement_of(&log_insert), entry,
		VALUES(value_int(entry->id), value_int(entry->owner), value_int(entry->reader),
		       value_int(entry->peer), value_int(entry->flags), value_str(entry->body)),
		ticket, &unit);
	if (result != IRIS_VAULT_OK)
		return result;
	const struct tail_entry in_tail = { entry->id, entry->peer, entry->flags };
	if (tail_add(entry->reader, &in_tail)) {
		unit->log_reader = entry->reader;
		unit->log_id = entry->id;
	} else {
		index_with(unit, entry->reader, &in_tail); /* late: the index has passed its id */
	}
	return IRIS_VAULT_OK;
}

int64_t
vault_peer_id(struct iris_str bare_jid)
{
	return writes_are_refused() ? 1 : seal_hash_peer(bare_jid);
}

/* --- reading --- */

/* A query with its bounds made plain, and the calls that answer it. */
struct log_reading {
	struct iris_log_query query; /* times have become ids, before_id is never 0 */
	size_t want; /* one more than the limit tells whether there is more */
	int64_t *tail_ids;
	size_t tail_count;
	struct vault_read_call *calls;
	unsigned call_count;
};

static const struct vault_statement *
index_statement(const struct iris_log_query *query)
{
	if (query->peer)
		return statement_of(query->backwards ? &log_peer_down : &log_peer_up);
	return statement_of(query->backwards ? &log_reader_down : &log_reader_up);
}

static void
reading_add_index_call(struct log_reading *reading, struct iris_arena *arena)
{
	const struct iris_log_query *query = &reading->query;
	struct iris_value *values = arena_alloc(arena, 6 * sizeof(*values));

	values[0] = value_int(query->reader);
	values[1] = value_int(query->after_id);
	values[2] = value_int(query->before_id);
	values[3] = value_int(query->flags_all);
	values[4] = value_int((int64_t)reading->want);
	values[5] = value_int(query->peer);
	reading->calls[reading->call_count++] =
		(struct vault_read_call){ .statement = index_statement(query), .values = values };
}

static void
reading_add_fetch_call(struct log_reading *reading, size_t at, struct iris_arena *arena)
{
	struct iris_value *values = arena_alloc(arena, FETCH_IDS * sizeof(*values));

	for (size_t i = 0; i < FETCH_IDS; i++) {
		/* The last call is filled up with its last id. */
		size_t last = reading->tail_count - 1;
		values[i] = value_int(reading->tail_ids[at + i < last ? at + i : last]);
	}
	reading->calls[reading->call_count++] =
		(struct vault_read_call){ .statement = statement_of(&log_fetch), .values = values };
}

static int
compare_entries(const void *a, const void *b)
{
	const struct iris_log_entry *left = a, *right = b;
	return (left->id > right->id) - (left->id < right->id);
}

static void
entry_from_row(struct iris_log_entry *entry, const struct iris_value *row)
{
	entry->id = row[0].number;
	entry->owner = (iris_owner)row[1].number;
	entry->reader = row[2].number;
	entry->peer = row[3].number;
	entry->flags = (unsigned)row[4].number;
	entry->body = row[5].bytes;
}

static enum iris_vault_result
reading_decode(const struct log_reading *reading, iris_owner owner, struct iris_arena *arena,
	       struct iris_log_page *page)
{
	size_t most = 0;

	for (unsigned i = 0; i < reading->call_count; i++)
		most += reading->calls[i].rows.count;
	page->entries = arena_alloc(arena, most * sizeof(page->entries[0]));
	for (unsigned i = 0; i < reading->call_count; i++) {
		struct iris_rows rows;
		enum iris_vault_result result =
			reads_decode(&reading->calls[i], owner, arena, &rows);
		if (result != IRIS_VAULT_OK)
			return result;
		for (size_t r = 0; r < rows.count; r++)
			entry_from_row(&page->entries[page->count++], row_value(&rows, r, 0));
	}
	return IRIS_VAULT_OK;
}

/* In order, each once, and no more than was asked for. */
static void
page_finish(struct iris_log_page *page, const struct iris_log_query *query)
{
	size_t kept = 0;

	if (page->count > 0)
		qsort(page->entries, page->count, sizeof(page->entries[0]), compare_entries);
	for (size_t i = 0; i < page->count; i++)
		if (kept == 0 || page->entries[kept - 1].id != page->entries[i].id)
			page->entries[kept++] = page->entries[i];
	page->more = kept > query->limit;
	page->count = page->more ? query->limit : kept;
	if (page->more && query->backwards)
		page->entries += kept - query->limit;
}

/* Times are ranges of ids: nothing is walked that is outside of them. */
static struct iris_log_query
query_with_bounds(const struct iris_log_query *query)
{
	struct iris_log_query bounds = *query;
	int64_t from = log_id_first(query->from_ms);
	int64_t oldest = query->with_expired ? 0 : log_horizon();
	bool ends = query->until_ms != 0 && query->until_ms < LOG_TIME_MAX;
	int64_t end = ends ? log_id_first(query->until_ms + 1) : INT64_MAX;

	from = from > oldest ? from : oldest;
	if (bounds.after_id < from - 1)
		bounds.after_id = from - 1;
	if (bounds.before_id == 0 || bounds.before_id > end)
		bounds.before_id = end;
	return bounds;
}

enum iris_vault_result
log_read(const struct iris_log_query *query, iris_owner owner, struct iris_arena *arena,
	 struct iris_log_page *page_r)
{
	struct log_reading reading = { .query = query_with_bounds(query),
				       .want = query->limit + 1 };

	*page_r = (struct iris_log_page){ .count = 0 };
	if (writes_are_refused())
		return IRIS_VAULT_REFUSED;
	if (!keys_have_owner(owner))
		return keys_refusal(owner);
	reading.tail_ids = tail_find_ids(&reading.query, reading.want, arena, &reading.tail_count);
	size_t calls = 1 + (reading.tail_count + FETCH_IDS - 1) / FETCH_IDS;
	reading.calls = arena_alloc(arena, calls * sizeof(reading.calls[0]));
	reading_add_index_call(&reading, arena);
	for (size_t at = 0; at < reading.tail_count; at += FETCH_IDS)
		reading_add_fetch_call(&reading, at, arena);
	enum iris_vault_result result = reads_run(reading.calls, reading.call_count, "log.read");
	if (result == IRIS_VAULT_OK)
		result = reading_decode(&reading, owner, arena, page_r);
	for (unsigned i = 0; i < reading.call_count; i++)
		rows_free(&reading.calls[i].rows);
	if (result == IRIS_VAULT_OK)
		page_finish(page_r, query);
	else
		page_r->count = 0;
	return result;
}

bool
vault_log_open(struct iris_error *error)
{
	for (size_t i = 0; i < IRIS_COUNT(log_queries); i++)
		if (!statement_register(log_queries[i], error))
			return false;
	return log_changes_open(error);
}
