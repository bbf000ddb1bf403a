/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was read of a pair: up to which id of the other side's outbox everything is handled, so that
 * what comes once more is dropped (README.md, "Again").  Readers are of no worker: links of one
 * pair may live on several, one after the other; ids are moved without a lock, the table has one.
 *
 * It does not know links nor acknowledgements; what a stanza is worth is its sender's word, and can
 * harm nothing but what that sender sends to the same domain.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "modules/federation/reader.h"

#define READERS_MAX 65536 /* in memory; those that nobody holds make room */

struct reader {
	struct iris_hash_node node; /* by "theirs ours" */
	TAILQ_ENTRY(reader) idle_entry;
	unsigned holders;           /* 0: among the idle ones */
	_Atomic int64_t received;   /* handled, or being handled */
	_Atomic int64_t handled;    /* committed, with all before it */
	_Atomic int64_t kept;       /* in the vault, or on its way there */
	atomic_bool is_moved;       /* it is in the list of a worker */
	TAILQ_ENTRY(reader) moved_entry; /* of that worker */
	char pair[];
};

struct iris_query reader_load = {
	.name = "federation.reader", .table = "outbox_readers",
	.sql = "SELECT handled FROM outbox_readers WHERE pair = $1",
	.params = { { "pair", IRIS_TEXT } },
	.columns = { { "handled", IRIS_INT } },
};

struct iris_query reader_store = {
	.name = "federation.handled", .table = "outbox_readers", .write = true, .bare = true,
	.sql = "INSERT INTO outbox_readers (pair, handled) VALUES ($1, $2) "
	       "ON CONFLICT (pair) DO UPDATE SET handled = EXCLUDED.handled",
	.params = { { "pair", IRIS_TEXT }, { "handled", IRIS_INT } },
};

/* Of one worker: what has moved in this turn, held. */
static _Thread_local struct moved {
	struct iris_turn turn;
	TAILQ_HEAD(, reader) readers;
} moved;

static pthread_mutex_t readers_lock = PTHREAD_MUTEX_INITIALIZER; /* of the next two, and holders */
static struct iris_hash readers;
static TAILQ_HEAD(, reader) readers_idle =
	TAILQ_HEAD_INITIALIZER(readers_idle); /* the longest idle one first */

/* --- the table --- */

static struct reader *
reader_take(struct iris_str pair) /* with the lock */
{
	struct iris_hash_node *node = hash_find(&readers, pair);
	struct reader *reader = node ? IRIS_CONTAINER(node, struct reader, node) : NULL;

	if (reader && reader->holders++ == 0)
		TAILQ_REMOVE(&readers_idle, reader, idle_entry);
	return reader;
}

/* SECURITY: who proves ever more domains makes us forget those that nobody uses, no more. */
static bool
make_room(void) /* with the lock */
{
	struct reader *oldest = TAILQ_FIRST(&readers_idle);

	if (readers.count < READERS_MAX)
		return true;
	if (!oldest)
		return false;
	TAILQ_REMOVE(&readers_idle, oldest, idle_entry);
	hash_remove(&readers, &oldest->node);
	free(oldest);
	return true;
}

static struct reader *
reader_add(struct iris_str pair, int64_t handled) /* with the lock */
{
	struct reader *reader;

	if (!make_room())
		return NULL;
	reader = iris_calloc(1, sizeof(*reader) + pair.len + 1);
	memcpy(reader->pair, pair.base, pair.len);
	reader->holders = 1;
	atomic_init(&reader->received, handled);
	atomic_init(&reader->handled, handled);
	atomic_init(&reader->kept, handled);
	hash_insert(&readers, &reader->node, (struct iris_str){ reader->pair, pair.len });
	return reader;
}

static bool
load(struct iris_str pair, int64_t *handled_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };
	bool ok = vault_read(&reader_load, 0, VALUES(value_str(pair)), arena, &rows) ==
		  IRIS_VAULT_OK;

	*handled_r = ok && rows.count > 0 ? row_value(&rows, 0, 0)->number : 0;
	arena_unref(&arena);
	return ok;
}

struct reader *
reader_open(struct iris_str pair)
{
	struct reader *reader;
	int64_t handled;

	pthread_mutex_lock(&readers_lock);
	reader = reader_take(pair);
	pthread_mutex_unlock(&readers_lock);
	if (reader || !load(pair, &handled))
		return reader;
	pthread_mutex_lock(&readers_lock);
	reader = reader_take(pair); /* another link was faster */
	if (!reader)
		reader = reader_add(pair, handled);
	pthread_mutex_unlock(&readers_lock);
	return reader;
}

struct reader *
reader_ref(struct reader *reader)
{
	pthread_mutex_lock(&readers_lock);
	reader->holders++;
	pthread_mutex_unlock(&readers_lock);
	return reader;
}

void
reader_unref(struct reader **reader_p)
{
	struct reader *reader = *reader_p;

	*reader_p = NULL;
	if (!reader)
		return;
	pthread_mutex_lock(&readers_lock);
	if (--reader->holders == 0)
		TAILQ_INSERT_TAIL(&readers_idle, reader, idle_entry);
	pthread_mutex_unlock(&readers_lock);
}

void
readers_free(void)
{
	HASH_FOREACH(node, &readers) {
		hash_remove(&readers, node);
		free(IRIS_CONTAINER(node, struct reader, node));
	}
	hash_free(&readers);
	TAILQ_INIT(&readers_idle);
}

/* --- ids --- */

static void
rise(_Atomic int64_t *to, int64_t id)
{
	int64_t before = atomic_load(to);

	while (before < id && !atomic_compare_exchange_weak(to, &before, id)) {
	}
}

enum reader_view
reader_receive(struct reader *reader, int64_t id)
{
	int64_t before = atomic_load(&reader->received);

	if (id <= atomic_load(&reader->handled))
		return READER_HAS;
	do {
		if (id <= before)
			return READER_WAITS;
	} while (!atomic_compare_exchange_weak(&reader->received, &before, id));
	return READER_NEW;
}

static void
keep(struct reader *reader)
{
	int64_t handled = atomic_load(&reader->handled);

	if (handled <= atomic_load(&reader->kept))
		return;
	if (vault_post(&reader_store, IRIS_OWNER_DEFAULT,
		       VALUES(value_str(str_from(reader->pair)), value_int(handled)),
		       NULL) == IRIS_VAULT_OK)
		rise(&reader->kept, handled); /* else with the next one */
}

/* Once for all that one commit has moved. */
static void
keep_moved(struct iris_turn *turn)
{
	struct moved *here = IRIS_CONTAINER(turn, struct moved, turn);
	struct reader *reader;

	while ((reader = TAILQ_FIRST(&here->readers)) != NULL) {
		TAILQ_REMOVE(&here->readers, reader, moved_entry);
		atomic_store(&reader->is_moved, false);
		keep(reader);
		reader_unref(&reader);
	}
}

void
reader_handled(struct reader *reader, int64_t id)
{
	if (!reader)
		return;
	rise(&reader->handled, id);
	if (atomic_exchange(&reader->is_moved, true))
		return;
	if (!moved.readers.tqh_last) {
		TAILQ_INIT(&moved.readers);
		moved.turn.fn = keep_moved;
	}
	TAILQ_INSERT_TAIL(&moved.readers, reader_ref(reader), moved_entry);
	worker_at_turn_end(&moved.turn);
}

void
reader_failed(struct reader *reader)
{
	if (reader)
		atomic_store(&reader->received, atomic_load(&reader->handled));
}

/* --- on the wire --- */

bool
reader_is_marked(const struct iris_stanza *stanza)
{
	return element_child(stanza->root, "outbox", NS_OUTBOX) != NULL;
}

int64_t
reader_take_mark(struct iris_stanza *stanza)
{
	struct iris_element *mark;
	int64_t id = 0;

	while ((mark = element_child(stanza->root, "outbox", NS_OUTBOX)) != NULL) {
		if (!str_to_int(element_get(mark, "id"), 1, INT64_MAX, &id))
			id = 0;
		element_remove(mark);
	}
	return id;
}
