/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's index: what is not in it yet (the tail, in memory), and the thread that fills it,
 * sorted, in slices between the commits.  After a crash the tail is read again from the log.  The
 * same thread makes and drops the log's parts (vault_parts.c).
 *
 * The tail is cut into shards with a lock each, held for a few instructions: an entry's reader is
 * a number, and where its home will be after a restart the number does not tell.
 *
 * Invariant: an entry is in the tail, or its index rows are in a transaction that was posted before
 * it left the tail.  So a read that looks into the tail first and at the index then misses nothing;
 * what it finds twice it drops.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "iris/hash.h"
#include "vault_private.h"

#define TAIL_SHARDS 64
#define INDEX_ENTRIES 131072 /* in the tail: then the index is filled … */
#define INDEX_SECONDS 60     /* … or after this time, whichever comes first */
/* Rows of one transaction: larger ones are felt by those who wait for a commit. */
#define INDEX_SLICE 500
/* Handed over together, so that the engine has the next ones when it has time. */
#define INDEX_SLICES 32
/* Of 24 bytes each: a store so slow that the index never catches up must not eat all memory. */
#define TAIL_MAX (1 << 22)
#define REBUILD_PAGE 50000

struct tail_reader {
	struct iris_hash_node node;
	int64_t reader;
	size_t count, cap;
	struct tail_entry *entries; /* ascending by id */
};

struct tail_shard {
	pthread_mutex_t lock;
	struct iris_hash readers;
};

/* What the index needs of an entry. */
struct index_row {
	int64_t reader, peer, id;
};

static struct tail_shard tail[TAIL_SHARDS];
static atomic_size_t tail_count;
static _Atomic int64_t tail_newest;  /* the highest id that ever was in it */
static _Atomic int64_t index_cutoff; /* ids up to here do not enter the tail any more */

static const struct iris_vault_engine *index_engine;
static struct {
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t wake, done;
	bool stopping, asked;
	bool failed; /* the last fill: the next one waits for its time */
	unsigned slices; /* handed over and not committed yet */
	uint64_t fills; /* finished */
} indexer = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER,
	      .done = PTHREAD_COND_INITIALIZER };

static struct iris_query log_index_reader = {
	.name = "log.index_reader", .table = "log_reader", .write = true,
	.sql = "INSERT INTO log_reader (reader, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	.params = { { "reader", IRIS_INT }, { "id", IRIS_INT } },
};
static struct iris_query log_index_peer = {
	.name = "log.index_peer", .table = "log_peer", .write = true,
	.sql = "INSERT INTO log_peer (reader, peer, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
	.params = { { "reader", IRIS_INT }, { "peer", IRIS_INT }, { "id", IRIS_INT } },
};
static struct iris_query log_indexed_upto = {
	.name = "log.indexed_upto", .table = "log_state", .write = true,
	.sql = "UPDATE log_state SET indexed_upto = $1 WHERE id = 1",
	.params = { { "indexed_upto", IRIS_INT } },
};
static struct iris_query *const index_queries[] = {
	&log_index_reader, &log_index_peer, &log_indexed_upto,
};

/* --- the tail --- */

static struct tail_shard *
shard_of(int64_t reader)
{
	return &tail[(uint64_t)reader * UINT64_C(0x9e3779b97f4a7c15) >> 58];
}

static struct iris_str
reader_key(const int64_t *reader)
{
	return (struct iris_str){ (const char *)reader, sizeof(*reader) };
}

static struct tail_reader *
tail_find(const struct tail_shard *shard, int64_t reader)
{
	struct iris_hash_node *node = hash_find(&shard->readers, reader_key(&reader));
	return node ? IRIS_CONTAINER(node, struct tail_reader, node) : NULL;
}

static struct tail_reader *
tail_find_or_make(struct tail_shard *shard, int64_t reader)
{
	struct tail_reader *found = tail_find(shard, reader);

	if (!found) {
		found = iris_calloc(1, sizeof(*found));
		found->reader = reader;
		hash_insert(&shard->readers, &found->node, reader_key(&found->reader));
	}
	return found;
}

static void
tail_reader_free(struct tail_shard *shard, struct tail_reader *reader)
{
	hash_remove(&shard->readers, &reader->node);
	free(reader->entries);
	free(reader);
}

static void
tail_insert(struct tail_reader *reader, const struct tail_entry *entry)
{
	if (reader->count == reader->cap) {
		reader->cap = reader->cap ? reader->cap * 2 : 4;
		reader->entries = iris_realloc(reader->entries, reader->cap * sizeof(*entry));
	}
	size_t at = reader->count++;
	/* Ids rise, but two workers may take them in one order and come here in the other. */
	for (; at > 0 && reader->entries[at - 1].id > entry->id; at--)
		reader->entries[at] = reader->entries[at - 1];
	reader->entries[at] = *entry;
}

static void
tail_raise_newest(int64_t id)
{
	int64_t newest = atomic_load_explicit(&tail_newest, memory_order_relaxed);
	while (id > newest && !atomic_compare_exchange_weak(&tail_newest, &newest, id))
		continue;
}

/* False: the index has passed this id, the entry must bring its index rows itself. */
bool
tail_add(int64_t reader, const struct tail_entry *entry)
{
	struct tail_shard *shard = shard_of(reader);

	pthread_mutex_lock(&shard->lock);
	bool taken = entry->id > atomic_load(&index_cutoff);
	if (taken) {
		tail_insert(tail_find_or_make(shard, reader), entry);
		tail_raise_newest(entry->id);
	}
	pthread_mutex_unlock(&shard->lock);
	if (!taken)
		return false;
	metric_add(&vault_metrics[VAULT_METRIC_TAIL], 1);
	if (atomic_fetch_add_explicit(&tail_count, 1, memory_order_relaxed) + 1 == INDEX_ENTRIES) {
		pthread_mutex_lock(&indexer.lock);
		pthread_cond_signal(&indexer.wake);
		pthread_mutex_unlock(&indexer.lock);
	}
	return true;
}

static void
tail_forget_counted(size_t count)
{
	atomic_fetch_sub_explicit(&tail_count, count, memory_order_relaxed);
	metric_add(&vault_metrics[VAULT_METRIC_TAIL], -(int64_t)count);
}

/* The first entry behind the id. */
static size_t
tail_lower_bound(const struct tail_reader *reader, int64_t after_id)
{
	size_t low = 0, high = reader->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (reader->entries[middle].id <= after_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
vault_index_forget(int64_t reader_id, int64_t id)
{
	struct tail_shard *shard = shard_of(reader_id);
	size_t forgotten = 0;

	pthread_mutex_lock(&shard->lock);
	struct tail_reader *reader = tail_find(shard, reader_id);
	size_t at = reader ? tail_lower_bound(reader, id - 1) : 0;
	if (reader && at < reader->count && reader->entries[at].id == id) {
		memmove(&reader->entries[at], &reader->entries[at + 1],
			(reader->count - at - 1) * sizeof(reader->entries[0]));
		forgotten = 1;
		if (--reader->count == 0)
			tail_reader_free(shard, reader);
	}
	pthread_mutex_unlock(&shard->lock);
	tail_forget_counted(forgotten);
}

bool
tail_is_full(void)
{
	return atomic_load_explicit(&tail_count, memory_order_relaxed) >= TAIL_MAX;
}

void
index_with(struct vault_unit *unit, int64_t reader, const struct tail_entry *entry)
{
	writes_extend(unit, statement_of(&log_index_reader),
		      VALUES(value_int(reader), value_int(entry->id)));
	writes_extend(unit, statement_of(&log_index_peer),
		      VALUES(value_int(reader), value_int(entry->peer), value_int(entry->id)));
}

static bool
tail_matches(const struct iris_log_query *query, const struct tail_entry *entry)
{
	return (query->peer == 0 || entry->peer == query->peer) &&
	       (entry->flags & query->flags_all) == query->flags_all;
}

static size_t
tail_collect(const struct tail_reader *reader, const struct iris_log_query *query, int64_t *ids,
	     size_t want)
{
	size_t first = tail_lower_bound(reader, query->after_id), count = 0;
	size_t end = tail_lower_bound(reader, query->before_id - 1);

	for (size_t i = first; i < end && count < want; i++) {
		const struct tail_entry *entry =
			&reader->entries[query->backwards ? end - 1 - (i - first) : i];
		if (tail_matches(query, entry))
			ids[count++] = entry->id;
	}
	return count;
}

int64_t *
tail_find_ids(const struct iris_log_query *query, size_t want, struct iris_arena *arena,
	      size_t *count_r)
{
	struct tail_shard *shard = shard_of(query->reader);
	int64_t *ids = NULL;

	*count_r = 0;
	pthread_mutex_lock(&shard->lock);
	const struct tail_reader *reader = tail_find(shard, query->reader);
	if (reader) {
		ids = arena_alloc(arena,
				  (reader->count < want ? reader->count : want) * sizeof(*ids));
		*count_r = tail_collect(reader, query, ids, want);
	}
	pthread_mutex_unlock(&shard->lock);
	return ids;
}

/* --- filling the index, on its own thread --- */

static int
compare_by_reader(const void *a, const void *b)
{
	const struct index_row *left = a, *right = b;
	if (left->reader != right->reader)
		return left->reader < right->reader ? -1 : 1;
	return (left->id > right->id) - (left->id < right->id);
}

static int
compare_by_peer(const void *a, const void *b)
{
	const struct index_row *left = a, *right = b;
	if (left->reader != right->reader)
		return left->reader < right->reader ? -1 : 1;
	if (left->peer != right->peer)
		return left->peer < right->peer ? -1 : 1;
	return (left->id > right->id) - (left->id < right->id);
}

/*
 * What lies in the tail up to the cutoff; malloc'ed. What is so old that its part is dropped goes
 * with it: there is no room for its rows.
 */
static struct index_row *
tail_copy(int64_t cutoff, size_t *count_r)
{
	int64_t first = parts_first();
	size_t cap = atomic_load(&tail_count) + 1024, count = 0;
	struct index_row *rows = iris_malloc(cap * sizeof(*rows));

	for (unsigned s = 0; s < TAIL_SHARDS; s++) {
		pthread_mutex_lock(&tail[s].lock);
		HASH_FOREACH(node, &tail[s].readers) {
			const struct tail_reader *reader =
				IRIS_CONTAINER(node, struct tail_reader, node);
			for (size_t i = tail_lower_bound(reader, first - 1);
			     i < reader->count && reader->entries[i].id <= cutoff; i++) {
				if (count == cap) {
					cap *= 2;
					rows = iris_realloc(rows, cap * sizeof(*rows));
				}
				rows[count++] =
					(struct index_row){ reader->reader, reader->entries[i].peer,
							    reader->entries[i].id };
			}
		}
		pthread_mutex_unlock(&tail[s].lock);
	}
	*count_r = count;
	return rows;
}

static size_t
tail_reader_trim(struct tail_shard *shard, struct tail_reader *reader, int64_t cutoff)
{
	size_t gone = tail_lower_bound(reader, cutoff);

	if (gone == reader->count) {
		tail_reader_free(shard, reader);
		return gone;
	}
	reader->count -= gone;
	memmove(reader->entries, reader->entries + gone,
		reader->count * sizeof(reader->entries[0]));
	return gone;
}

static void
tail_trim(int64_t cutoff)
{
	size_t gone = 0;

	for (unsigned s = 0; s < TAIL_SHARDS; s++) {
		pthread_mutex_lock(&tail[s].lock);
		HASH_FOREACH(node, &tail[s].readers)
		gone += tail_reader_trim(&tail[s], IRIS_CONTAINER(node, struct tail_reader, node),
					 cutoff);
		pthread_mutex_unlock(&tail[s].lock);
	}
	tail_forget_counted(gone);
}

static void
slice_done(struct vault_group *group) /* on the engine's thread */
{
	pthread_mutex_lock(&indexer.lock);
	if (--indexer.slices == 0)
		pthread_cond_signal(&indexer.wake);
	pthread_mutex_unlock(&indexer.lock);
}

/* Waits for the commit; false when one failed or the vault closes. */
static bool
slices_submit(struct vault_group **groups, unsigned count)
{
	bool ok = true;

	indexer.slices = count;
	for (unsigned i = 0; i < count; i++) {
		groups[i]->background = true;
		groups[i]->done = slice_done;
		index_engine->submit(groups[i]);
	}
	pthread_mutex_lock(&indexer.lock);
	while (indexer.slices > 0)
		pthread_cond_wait(&indexer.wake, &indexer.lock);
	ok = !indexer.stopping;
	pthread_mutex_unlock(&indexer.lock);
	for (unsigned i = 0; i < count; i++)
		ok = ok && groups[i]->first->result == IRIS_VAULT_OK;
	return ok;
}

static void
slice_make(struct vault_group *group, const struct index_row *rows, size_t count, bool by_peer)
{
	const struct vault_statement *statement =
		statement_of(by_peer ? &log_index_peer : &log_index_reader);

	group_clear(group);
	struct vault_unit *unit = group_add_unit(group);
	for (size_t i = 0; i < count; i++) {
		struct iris_value *values = unit_add_call(group, unit, statement);
		*values++ = value_int(rows[i].reader);
		if (by_peer)
			*values++ = value_int(rows[i].peer);
		*values = value_int(rows[i].id);
	}
}

static bool
index_write(struct vault_group **groups, const struct index_row *rows, size_t count, bool by_peer)
{
	size_t at = 0;

	while (at < count) {
		unsigned slices = 0;
		for (; slices < INDEX_SLICES && at < count; slices++) {
			size_t len = count - at < INDEX_SLICE ? count - at : INDEX_SLICE;
			slice_make(groups[slices], rows + at, len, by_peer);
			at += len;
		}
		if (!slices_submit(groups, slices))
			return false;
	}
	return true;
}

static bool
index_write_upto(struct vault_group **groups, int64_t cutoff)
{
	group_clear(groups[0]);
	*unit_add_call(groups[0], group_add_unit(groups[0]), statement_of(&log_indexed_upto)) =
		value_int(cutoff);
	return slices_submit(groups, 1);
}

static bool
index_fill(void)
{
	int64_t cutoff = atomic_load(&tail_newest);
	size_t count;

	/* From here on late ones bring their index rows themselves; see tail_add(). */
	atomic_store(&index_cutoff, cutoff);
	struct index_row *rows = tail_copy(cutoff, &count);
	struct vault_group *groups[INDEX_SLICES];
	bool ok = true;
	for (unsigned i = 0; i < INDEX_SLICES; i++)
		groups[i] = group_new();
	if (count > 0) {
		qsort(rows, count, sizeof(*rows), compare_by_reader);
		ok = index_write(groups, rows, count, false);
		qsort(rows, count, sizeof(*rows), compare_by_peer);
		ok = ok && index_write(groups, rows, count, true) &&
		     index_write_upto(groups, cutoff);
	}
	/* Failed or stopped: they stay in the tail, and are written once more: no harm in it. */
	if (ok)
		tail_trim(cutoff);
	for (unsigned i = 0; i < INDEX_SLICES; i++)
		group_free(&groups[i]);
	free(rows);
	return ok;
}

static bool
indexer_wait(void)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += INDEX_SECONDS;
	pthread_mutex_lock(&indexer.lock);
	while (!indexer.stopping && !indexer.asked &&
	       (indexer.failed || atomic_load(&tail_count) < INDEX_ENTRIES))
		if (pthread_cond_clockwait(&indexer.wake, &indexer.lock, CLOCK_MONOTONIC, &until))
			break;
	indexer.asked = false;
	bool go_on = !indexer.stopping;
	pthread_mutex_unlock(&indexer.lock);
	return go_on;
}

static void *
indexer_main(void *arg)
{
	(void)pthread_setname_np(pthread_self(), "vault-index");
	while (indexer_wait()) {
		parts_tick();
		indexer.failed = !index_fill();
		pthread_mutex_lock(&indexer.lock);
		indexer.fills++;
		pthread_cond_broadcast(&indexer.done);
		pthread_mutex_unlock(&indexer.lock);
	}
	return NULL;
}

void
vault_index_wake(void)
{
	pthread_mutex_lock(&indexer.lock);
	indexer.asked = true;
	pthread_cond_signal(&indexer.wake);
	pthread_mutex_unlock(&indexer.lock);
}

void
vault_log_index_now(void)
{
	pthread_mutex_lock(&indexer.lock);
	uint64_t after = indexer.fills;
	/* One that is under way may have begun before the caller's entries came. */
	while (indexer.running && indexer.fills < after + 2) {
		indexer.asked = true;
		pthread_cond_signal(&indexer.wake);
		pthread_cond_wait(&indexer.done, &indexer.lock);
	}
	pthread_mutex_unlock(&indexer.lock);
}

/* --- open and close --- */

/* One page of what the index lacks; *last_r moves on. */
static bool
rebuild_page(const struct iris_vault_engine *engine, int64_t *last_r, size_t *count_r,
	     struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;
	bool ok = engine->query(
		"SELECT id, reader, peer, flags FROM log WHERE id > $1 ORDER BY id LIMIT $2",
		VALUES(value_int(*last_r), value_int(REBUILD_PAGE)), 2, &rows, error);

	rows_read_begin(&reader, &rows);
	*count_r = ok ? rows.count : 0;
	for (size_t i = 0; i < *count_r; i++) {
		struct tail_entry entry = { .id = rows_read(&reader).number };
		int64_t reader_id = rows_read(&reader).number;
		entry.peer = rows_read(&reader).number;
		entry.flags = (uint32_t)rows_read(&reader).number;
		IRIS_ASSERT(tail_add(reader_id, &entry));
		*last_r = entry.id;
	}
	rows_free(&rows);
	return ok;
}

bool
vault_index_open(const struct iris_vault_engine *engine, struct iris_error *error)
{
	int64_t last;
	size_t count;

	for (unsigned s = 0; s < TAIL_SHARDS; s++)
		pthread_mutex_init(&tail[s].lock, NULL);
	for (size_t i = 0; i < IRIS_COUNT(index_queries); i++)
		if (!statement_register(index_queries[i], error))
			return false;
	if (!schema_read_int(engine, "SELECT indexed_upto FROM log_state", &last, error))
		return false;
	atomic_store(&index_cutoff, last);
	atomic_store(&tail_newest, last);
	do {
		if (!rebuild_page(engine, &last, &count, error))
			return false;
	} while (count == REBUILD_PAGE);
	index_engine = engine;
	return true;
}

bool
vault_index_start(struct iris_error *error)
{
	indexer.stopping = false;
	if (pthread_create(&indexer.thread, NULL, indexer_main, NULL) != 0)
		return error_set(error, "The thread of the log's index cannot be started");
	indexer.running = true;
	return true;
}

void
vault_index_stop(void)
{
	if (!indexer.running)
		return;
	pthread_mutex_lock(&indexer.lock);
	indexer.stopping = true;
	pthread_cond_signal(&indexer.wake);
	pthread_mutex_unlock(&indexer.lock);
	(void)pthread_join(indexer.thread, NULL);
	indexer.running = false;
}

void
vault_index_close(void)
{
	for (unsigned s = 0; s < TAIL_SHARDS; s++) {
		HASH_FOREACH(node, &tail[s].readers)
			tail_reader_free(&tail[s], IRIS_CONTAINER(node, struct tail_reader, node));
		hash_free(&tail[s].readers);
		tail[s].readers = (struct iris_hash){ .count = 0 };
	}
	tail_forget_counted(atomic_load(&tail_count));
}
