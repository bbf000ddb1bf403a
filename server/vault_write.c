/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes: posts, batches.  What a worker posts in one turn of its loop is gathered in one
 * group, copied and sealed at once, and handed to the engine at the turn's end; one mail per
 * worker brings it back when it is committed.  Runs on the workers (and main); only
 * vault_groups_done() runs on the engine's thread.
 * Does not know how an engine commits, nor what a statement means.
 */
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/fiber.h"
#include "vault_private.h"

#define CHUNK_SIZE 16384
#define BATCH_SIZE 1024 /* of its first chunk: it may wait for long, and is mostly small */
#define CHUNKS_KEPT 64 /* by each worker, for the next groups */

/* --- memory of groups and batches --- */

struct vault_chunk {
	struct vault_chunk *next;
	size_t used, cap;
	alignas(16) char data[];
};

struct iris_batch {
	struct vault_chunk *chunks; /* this struct lies in the first one */
	struct vault_unit *unit;
	iris_owner owner;
	bool own;                   /* of the vault itself: no owner is asked for */
	size_t rows, bytes;
	enum iris_vault_result result;
};

struct vault_await {
	struct iris_wait wait;
	enum iris_vault_result result;
	int64_t changed;
};

/* What a worker has of the vault; touched on its thread only. */
struct vault_worker {
	struct iris_turn turn;
	struct vault_group *group; /* of this turn; NULL: nothing posted */
	/* Handed over and not back yet; they come back in this order. */
	struct vault_group *oldest, *newest;
	/*
	 * Where groups lie, the newest chunk first: one is filled by as many turns as it takes.  A
	 * group that is back takes the chunks behind its own last one with it.
	 */
	struct vault_chunk *chunks;
	struct vault_chunk *spare;
	unsigned spare_count;
	uint64_t last_sequence;
	/*
	 * A fiber that lasts as long as something is outstanding: stopping the workers awaits all
	 * fibers, and so the commits, too, before their mailboxes go.
	 */
	bool holding;
	struct iris_wait hold;
};

static const struct iris_vault_engine *writes_engine;
static bool writes_refused = true; /* closed, or none at an edge */
static struct vault_limits writes_limits;
static atomic_size_t writes_rows, writes_bytes; /* handed to the engine and not committed yet */
static struct vault_worker *writes_workers[WORKER_LIMIT + 1];
static _Atomic int64_t writes_since_ms[WORKER_LIMIT + 1]; /* of the oldest group; 0: none */

static struct vault_worker *
worker_slot(const struct iris_worker *worker)
{
	struct vault_worker *slot = writes_workers[worker_index_of(worker) + 1];
	IRIS_ASSERT(slot);
	return slot;
}

/* --- memory --- */

static struct vault_chunk *
chunk_make(size_t cap)
{
	struct vault_chunk *chunk = iris_malloc(sizeof(*chunk) + cap);

	chunk->next = NULL;
	chunk->used = 0;
	chunk->cap = cap;
	return chunk;
}

static struct vault_chunk *
chunk_new(struct vault_worker *self, size_t size)
{
	struct vault_chunk *chunk;

	if (self && self->spare && size <= CHUNK_SIZE) {
		chunk = self->spare;
		self->spare = chunk->next;
		self->spare_count--;
	} else {
		chunk = chunk_make(size > CHUNK_SIZE ? size : CHUNK_SIZE);
	}
	chunk->used = 0;
	chunk->next = NULL;
	return chunk;
}

static void
chunks_free(struct vault_worker *self, struct vault_chunk *chunk)
{
	while (chunk) {
		struct vault_chunk *next = chunk->next;
		if (self && chunk->cap == CHUNK_SIZE && self->spare_count < CHUNKS_KEPT) {
			chunk->next = self->spare;
			self->spare = chunk;
			self->spare_count++;
		} else {
			free(chunk);
		}
		chunk = next;
	}
}

static void *
chunks_alloc(struct vault_worker *self, struct vault_chunk **chunks, size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if (!*chunks || (*chunks)->cap - (*chunks)->used < size) {
		struct vault_chunk *chunk = chunk_new(self, size);
		chunk->next = *chunks;
		*chunks = chunk;
	}
	void *at = (*chunks)->data + (*chunks)->used;
	(*chunks)->used += size;
	return at;
}

/* --- groups --- */

static struct vault_unit *
unit_new(struct vault_worker *self, struct vault_chunk **chunks)
{
	struct vault_unit *unit = chunks_alloc(self, chunks, sizeof(*unit));

	*unit = (struct vault_unit){ .result = IRIS_VAULT_FAILED };
	return unit;
}

static struct vault_call *
call_new(struct vault_worker *self, struct vault_chunk **chunks,
	 const struct vault_statement *statement)
{
	struct vault_call *call = chunks_alloc(
		self, chunks, sizeof(*call) + statement->param_count * sizeof(call->values[0]));

	call->next = NULL;
	call->statement = statement;
	return call;
}

static void
unit_link_call(struct vault_unit *unit, struct vault_call *call)
{
	if (unit->last_call)
		unit->last_call->next = call;
	else
		unit->calls = call;
	unit->last_call = call;
}

static void
group_link_unit(struct vault_group *group, struct vault_unit *unit)
{
	if (group->last)
		group->last->next = unit;
	else
		group->first = unit;
	group->last = unit;
}

struct vault_group *
group_new(void)
{
	return iris_calloc(1, sizeof(struct vault_group));
}

struct vault_unit *
group_add_unit(struct vault_group *group)
{
	struct vault_unit *unit = unit_new(NULL, &group->chunks);
	group_link_unit(group, unit);
	return unit;
}

struct iris_value *
unit_add_call(struct vault_group *group, struct vault_unit *unit,
	      const struct vault_statement *statement)
{
	struct vault_call *call = call_new(NULL, &group->chunks, statement);

	unit_link_call(unit, call);
	group->rows++;
	return call->values;
}

void
group_clear(struct vault_group *group)
{
	chunks_free(NULL, group->chunks);
	group->chunks = NULL;
	group->first = group->last = NULL;
	group->rows = group->bytes = 0;
}

void
group_free(struct vault_group **group_p)
{
	if (*group_p)
		group_clear(*group_p);
	free(*group_p);
	*group_p = NULL;
}

/* --- handing over, and coming back --- */

static void
unit_finish(struct vault_unit *unit)
{
	if (unit->result != IRIS_VAULT_OK) {
		metric_add(&vault_metrics[VAULT_METRIC_FAILED], 1);
		ticket_fail(unit->ticket);
		if (unit->log_id)
			vault_index_forget(unit->log_reader, unit->log_id);
	}
	if (unit->await) {
		unit->await->result = unit->result;
		unit->await->changed = unit->changed;
		wait_done(&unit->await->wait);
	}
	ticket_unref(&unit->ticket);
}

static void
worker_set_oldest(struct vault_worker *self, struct vault_group *group)
{
	self->oldest = group;
	if (!group)
		self->newest = NULL;
	atomic_store_explicit(&writes_since_ms[worker_index() + 1], group ? group->since_ms : 0,
			      memory_order_relaxed);
}

/* What lies in its last chunk stays, for the next ones lie there, too. */
static void
worker_release(struct vault_worker *self, struct vault_group *group)
{
	struct vault_chunk *upto = group->upto;

	chunks_free(self, group->chunks); /* those of its batches */
	chunks_free(self, upto->next);
	upto->next = NULL;
	if (!self->oldest && !self->group) {
		IRIS_ASSERT(self->chunks == upto);
		upto->used = 0;
	}
}

/* The mail of a chain of groups, on their home: in order, as they were posted. */
static void
groups_arrive(struct iris_mail *mail)
{
	struct vault_group *group = IRIS_CONTAINER(mail, struct vault_group, mail);
	struct vault_worker *self = worker_slot(group->home);

	while (group) {
		struct vault_group *next = group->next;
		IRIS_ASSERT(group == self->oldest);
		worker_set_oldest(self, group->later);
		for (struct vault_unit *unit = group->first, *after; unit; unit = after) {
			after = unit->next;
			unit_finish(unit);
		}
		worker_release(self, group);
		group = next;
	}
	if (!self->oldest && self->holding) {
		self->holding = false;
		wait_done(&self->hold);
	}
}

void
vault_groups_done(struct vault_group *chain)
{
	struct { struct vault_group *first, *last; } homes[WORKER_LIMIT + 1] = { { NULL, NULL } };
	size_t rows = 0, bytes = 0;

	for (struct vault_group *next; chain; chain = next) {
		next = chain->next;
		chain->next = NULL;
		if (!chain->home) {
			chain->done(chain);
			continue;
		}
		int slot = worker_index_of(chain->home) + 1;
		rows += chain->rows;
		bytes += chain->bytes;
		if (homes[slot].last)
			homes[slot].last->next = chain;
		else
			homes[slot].first = chain;
		homes[slot].last = chain;
	}
	atomic_fetch_sub_explicit(&writes_rows, rows, memory_order_relaxed);
	atomic_fetch_sub_explicit(&writes_bytes, bytes, memory_order_relaxed);
	metric_add(&vault_metrics[VAULT_METRIC_QUEUED], -(int64_t)rows);
	for (unsigned i = 0; i < IRIS_COUNT(homes); i++)
		if (homes[i].first)
			worker_post(homes[i].first->home, &homes[i].first->mail);
}

static void
worker_submit(struct vault_worker *self)
{
	struct vault_group *group = self->group;

	if (!group)
		return;
	self->group = NULL;
	group->upto = self->chunks;
	group->since_ms = worker_now_ms();
	if (self->newest)
		self->newest->later = group;
	else
		worker_set_oldest(self, group);
	self->newest = group;
	atomic_fetch_add_explicit(&writes_rows, group->rows, memory_order_relaxed);
	atomic_fetch_add_explicit(&writes_bytes, group->bytes, memory_order_relaxed);
	metric_add(&vault_metrics[VAULT_METRIC_QUEUED], (int64_t)group->rows);
	metric_add(&vault_metrics[VAULT_METRIC_ROWS], (int64_t)group->rows);
	/*
	 * The engine may give it back before submit() returns, but this thread frees it: not before
	 * this turn's end.
	 */
	writes_engine->submit(group);
	self->last_sequence = group->sequence;
}

static void
worker_hold(void *arg)
{
	struct vault_worker *self = arg;
	wait_for(&self->hold, "commit");
}

static void
worker_turn(struct iris_turn *turn)
{
	struct vault_worker *self = IRIS_CONTAINER(turn, struct vault_worker, turn);

	worker_submit(self);
	if (!self->oldest || self->holding)
		return;
	self->holding = true;
	wait_init(&self->hold);
	if (!fiber_start("vault: commits", worker_hold, self))
		self->holding = false; /* enough other fibers to wait for */
}

/* The calling worker's; made at its first use. */
static struct vault_worker *
worker_mine(void)
{
	struct iris_worker *worker = worker_self();
	IRIS_ASSERT(worker);
	struct vault_worker **slot = &writes_workers[worker_index_of(worker) + 1];

	if (!*slot) {
		*slot = iris_calloc(1, sizeof(**slot));
		(*slot)->turn.fn = worker_turn;
	}
	return *slot;
}

static struct vault_group *
worker_group(struct vault_worker *self)
{
	if (!self->group) {
		struct vault_group *group = chunks_alloc(self, &self->chunks, sizeof(*group));
		*group = (struct vault_group){ .home = worker_self(), .bytes = sizeof(*group) };
		group->mail.fn = groups_arrive;
		self->group = group;
		worker_at_turn_end(&self->turn);
	}
	return self->group;
}

uint64_t
writes_flush(void)
{
	struct vault_worker *self = worker_mine();

	if (self->group)
		self->group->urgent = true; /* the read waits for it */
	worker_submit(self);
	return self->last_sequence;
}

/* --- copying and sealing --- */

static bool
value_fits(const struct iris_value *value, enum iris_type type)
{
	if (value->type == IRIS_TYPE_NONE)
		return true;
	return (value->type == IRIS_INT) == (type == IRIS_INT);
}

static bool
seal_value(struct vault_worker *self, struct vault_chunk **chunks, struct vault_call *call,
	   unsigned i, iris_owner owner, const struct iris_value *params)
{
	const struct vault_statement *statement = call->statement;
	const struct iris_value *row[VAULT_FIELDS_MAX];
	struct iris_value *value = &call->values[i];
	struct seal_binding binding = {
		.table = str_from(statement->query->table),
		.column = str_from(statement->query->params[i].name),
		.row = row,
		.row_count = statement->key_count,
		.owner = owner,
	};

	for (unsigned k = 0; k < statement->key_count; k++)
		row[k] = &params[statement->keys[k].index];
	size_t size = params[i].bytes.len + SEAL_OVERHEAD;
	char *record = chunks_alloc(self, chunks, size);
	*value = (struct iris_value){ .type = IRIS_BLOB, .bytes = { record, size } };
	return seal_record(&binding, params[i].bytes, record);
}

/* Copies the parameters into a new call; NULL when a sealed one has no key. */
static struct vault_call *
call_make(struct vault_worker *self, struct vault_chunk **chunks,
	  const struct vault_statement *statement, iris_owner owner,
	  const struct iris_value *params)
{
	struct vault_call *call = call_new(self, chunks, statement);

	for (unsigned i = 0; i < statement->param_count; i++) {
		enum iris_type type = statement->query->params[i].type;
		struct iris_value *value = &call->values[i];
		IRIS_ASSERT(value_fits(&params[i], type));
		*value = params[i];
		if (params[i].type == IRIS_TYPE_NONE || type == IRIS_INT)
			continue;
		if (type == IRIS_SEALED) {
			if (!seal_value(self, chunks, call, i, owner, params))
				return NULL;
			continue;
		}
		char *copy = chunks_alloc(self, chunks, params[i].bytes.len);
		if (params[i].bytes.len > 0)
			memcpy(copy, params[i].bytes.base, params[i].bytes.len);
		*value =
			(struct iris_value){ .type = type, .bytes = { copy, params[i].bytes.len } };
	}
	return call;
}

static size_t
call_bytes(const struct vault_call *call)
{
	size_t bytes = sizeof(*call) + call->statement->param_count * sizeof(call->values[0]);

	for (unsigned i = 0; i < call->statement->param_count; i++)
		bytes += call->values[i].bytes.len;
	return bytes;
}

/* The ticket is not failed: nothing was promised, and the caller answers who asked. */
static enum iris_vault_result
post_refused(enum iris_vault_result result)
{
	metric_add(&vault_metrics[result == IRIS_VAULT_BUSY ? VAULT_METRIC_BUSY
							    : VAULT_METRIC_REFUSED],
		   1);
	return result;
}

/* SECURITY: the limit is what a peer that sends faster than the disk writes comes up against. */
static bool
queue_is_full(const struct vault_worker *self)
{
	size_t rows = self->group ? self->group->rows : 0,
	       bytes = self->group ? self->group->bytes : 0;

	return atomic_load_explicit(&writes_rows, memory_order_relaxed) + rows >=
		       writes_limits.rows ||
	       atomic_load_explicit(&writes_bytes, memory_order_relaxed) + bytes >=
		       writes_limits.bytes;
}

static enum iris_vault_result
owner_allowed(iris_owner owner)
{
	if (writes_refused)
		return IRIS_VAULT_REFUSED;
	if (!keys_have_owner(owner))
		return keys_refusal(owner);
	return queue_is_full(worker_mine()) ? IRIS_VAULT_BUSY : IRIS_VAULT_OK;
}

static enum iris_vault_result
post_allowed(const struct vault_statement *statement, iris_owner owner)
{
	enum iris_vault_result result = owner_allowed(owner);

	return result == IRIS_VAULT_OK && transit_refuses(statement) ? IRIS_VAULT_REFUSED
									   : result;
}

/* The unit of one or two statements in this turn's group; NULL when it cannot be sealed. */
static struct vault_unit *
post_statement(const struct vault_statement *statement, iris_owner owner,
	       const struct iris_value *params)
{
	struct vault_worker *self = worker_mine();
	struct vault_group *group = worker_group(self);
	struct vault_unit *unit = unit_new(self, &self->chunks);
	struct vault_call *call = call_make(self, &self->chunks, statement, owner, params);

	if (!call)
		return NULL;
	unit_link_call(unit, call);
	group->rows++;
	group->bytes += sizeof(*unit) + call_bytes(call);
	group_link_unit(group, unit);
	return unit;
}

static enum iris_vault_result
unit_await(struct vault_group *group, struct vault_unit *unit, const char *what, int64_t *changed_r)
{
	struct vault_await await = { .result = IRIS_VAULT_FAILED };

	wait_init(&await.wait);
	unit->await = &await;
	group->urgent = true;
	wait_for(&await.wait, what);
	if (!changed_r)
		return await.result;
	*changed_r = await.changed;
	/*
	 * SECURITY: who decides by the count (a token's use, say) must not take an unknown one
	 * for a yes.
	 */
	return await.changed < 0 ? IRIS_VAULT_FAILED : await.result;
}

/* --- what plug-ins call --- */

enum iris_vault_result
vault_post(const struct iris_query *query, iris_owner owner, const struct iris_value *params,
	   struct iris_ticket *ticket)
{
	const struct vault_statement *statement = query->prepared;
	enum iris_vault_result result = post_allowed(statement, owner);

	if (result != IRIS_VAULT_OK)
		return post_refused(result);
	struct vault_unit *unit = post_statement(statement, owner, params);
	if (!unit)
		return post_refused(IRIS_VAULT_REFUSED);
	unit->ticket = ticket_ref(ticket);
	return IRIS_VAULT_OK;
}

enum iris_vault_result
vault_write(const struct iris_query *query, iris_owner owner, const struct iris_value *params,
	    int64_t *changed_r)
{
	const struct vault_statement *statement = query->prepared;
	enum iris_vault_result result = post_allowed(statement, owner);

	if (result != IRIS_VAULT_OK)
		return post_refused(result);
	struct vault_unit *unit = post_statement(statement, owner, params);
	if (!unit)
		return post_refused(IRIS_VAULT_REFUSED);
	return unit_await(worker_mine()->group, unit, query->name, changed_r);
}

struct iris_batch *
batch_new(iris_owner owner)
{
	struct vault_worker *self = worker_mine();
	struct vault_chunk *chunks = chunk_make(BATCH_SIZE);
	struct iris_batch *batch = chunks_alloc(self, &chunks, sizeof(*batch));

	*batch = (struct iris_batch){ .owner = owner,
				      .chunks = chunks,
				      .bytes = BATCH_SIZE,
				      .result = IRIS_VAULT_OK };
	batch->unit = unit_new(self, &batch->chunks);
	return batch;
}

struct iris_batch *
batch_new_own(void)
{
	struct iris_batch *batch = batch_new(VAULT_OWNER_REGION);
	batch->own = true;
	return batch;
}

void
batch_add(struct iris_batch *batch, const struct iris_query *query, const struct iris_value *params)
{
	if (batch->result == IRIS_VAULT_OK && writes_refused)
		batch->result = IRIS_VAULT_REFUSED;
	else if (batch->result == IRIS_VAULT_OK && !batch->own && !keys_have_owner(batch->owner))
		batch->result = keys_refusal(batch->owner);
	if (batch->result != IRIS_VAULT_OK)
		return;
	const struct vault_statement *statement = statement_of(query);
	struct vault_call *call = NULL;
	if (batch->own || !transit_refuses(statement))
		call = call_make(worker_mine(), &batch->chunks, statement, batch->owner, params);
	if (!call) {
		batch->result = IRIS_VAULT_REFUSED;
		return;
	}
	unit_link_call(batch->unit, call);
	batch->rows++;
	batch->bytes += call_bytes(call);
}

void
batch_drop(struct iris_batch **batch_p)
{
	if (*batch_p)
		chunks_free(worker_mine(), (*batch_p)->chunks);
	*batch_p = NULL;
}

/*
 * Moves the batch into this turn's group, memory and all; NULL when there is nothing in it, or that
 * is refused. The batch is gone then too.
 */
static struct vault_unit *
batch_hand_over(struct iris_batch **batch_p, enum iris_vault_result *result_r)
{
	struct iris_batch *batch = *batch_p;
	struct vault_unit *unit = batch->unit;

	*result_r = batch->result;
	if (*result_r == IRIS_VAULT_OK && batch->rows > 0 && !batch->own)
		*result_r = owner_allowed(batch->owner);
	if (*result_r != IRIS_VAULT_OK)
		(void)post_refused(*result_r);
	if (*result_r != IRIS_VAULT_OK || batch->rows == 0) {
		batch_drop(batch_p);
		return NULL;
	}
	struct vault_group *group = worker_group(worker_mine());
	struct vault_chunk *last = batch->chunks;
	while (last->next)
		last = last->next;
	group->rows += batch->rows;
	group->bytes += batch->bytes;
	last->next = group->chunks;
	group->chunks = batch->chunks;
	group_link_unit(group, unit);
	*batch_p = NULL;
	return unit;
}

enum iris_vault_result
batch_post(struct iris_batch **batch_p, struct iris_ticket *ticket)
{
	enum iris_vault_result result;
	struct vault_unit *unit = batch_hand_over(batch_p, &result);

	if (!unit)
		return result;
	unit->ticket = ticket_ref(ticket);
	return IRIS_VAULT_OK;
}

enum iris_vault_result
batch_write(struct iris_batch **batch_p)
{
	enum iris_vault_result result;
	struct vault_unit *unit = batch_hand_over(batch_p, &result);

	if (!unit)
		return result;
	return unit_await(worker_mine()->group, unit, "vault: batch", NULL);
}

/* --- what the vault's other files call --- */

enum iris_vault_result
writes_post_log(const struct vault_statement *statement, const struct iris_log_entry *entry,
		const struct iris_value *params, struct iris_ticket *ticket,
		struct vault_unit **unit_r)
{
	enum iris_vault_result result = post_allowed(statement, entry->owner);

	if (result != IRIS_VAULT_OK)
		return post_refused(result);
	struct vault_unit *unit = post_statement(statement, entry->owner, params);
	if (!unit)
		return post_refused(IRIS_VAULT_REFUSED);
	unit->ticket = ticket_ref(ticket);
	*unit_r = unit;
	return IRIS_VAULT_OK;
}

void
writes_extend(struct vault_unit *unit, const struct vault_statement *statement,
	      const struct iris_value *params)
{
	struct vault_worker *self = worker_mine();
	struct vault_group *group = worker_group(self);
	struct vault_call *call =
		call_make(self, &self->chunks, statement, VAULT_OWNER_REGION, params);

	IRIS_ASSERT(call && group->last == unit);
	unit_link_call(unit, call);
	group->rows++;
	group->bytes += call_bytes(call);
}

void
writes_post_own(const struct iris_query *query, const struct iris_value *params,
		struct iris_ticket *ticket)
{
	struct vault_unit *unit = post_statement(statement_of(query), VAULT_OWNER_REGION, params);
	IRIS_ASSERT(unit);
	unit->ticket = ticket_ref(ticket);
}

int64_t
writes_oldest_age_ms(void)
{
	int64_t oldest = INT64_MAX, now = worker_now_ms();

	for (unsigned i = 0; i < IRIS_COUNT(writes_since_ms); i++) {
		int64_t since = atomic_load_explicit(&writes_since_ms[i], memory_order_relaxed);
		if (since > 0 && since < oldest)
			oldest = since;
	}
	return oldest < now ? now - oldest : 0;
}

int64_t
writes_limit_rows(void)
{
	return (int64_t)writes_limits.rows;
}

bool
writes_are_refused(void)
{
	return writes_refused;
}

void
writes_start(const struct vault_options *options)
{
	IRIS_ASSERT(options->limits.rows > 0 && options->limits.bytes > 0);
	writes_engine = options->engine;
	writes_limits = options->limits;
	writes_refused = false;
}

void
writes_stop(void)
{
	writes_refused = true;
	for (unsigned i = 0; i < IRIS_COUNT(writes_workers); i++) {
		struct vault_worker *self = writes_workers[i];
		if (!self)
			continue;
		/* Its last turn has ended, all came back. */
		IRIS_ASSERT(!self->group && !self->oldest);
		chunks_free(NULL, self->chunks);
		chunks_free(NULL, self->spare);
		free(self);
		writes_workers[i] = NULL;
	}
	writes_engine = NULL;
}
