/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who handles a payload: of an IQ (by target, type, name, namespace), or an element between stanzas
 * (by name, namespace).  Two immutable tables, made on the main thread, read from any worker.
 * Access to an IQ is not judged here but by who runs it.
 */
#include <stdlib.h>

#include "iris/hash.h"
#include "module_private.h"

#define TAG(target, type) ((unsigned)(target) << 8 | (unsigned)(type))

struct payload_entry {
	uint32_t next; /* in the bucket: index + 1, 0 ends */
	unsigned tag;  /* 0 for stream elements */
	struct iris_str name, ns;
	const void *handler; /* struct iris_iq or iris_stream_handler */
	const struct iris_module *module;
};

struct payload_table {
	uint32_t bucket_count; /* a power of two */
	uint32_t count;
	uint32_t *buckets; /* index + 1 of the first entry */
	struct payload_entry *entries;
};

static _Atomic(struct payload_table *) iq_published;
static _Atomic(struct payload_table *) element_published;

static uint64_t
payload_hash(unsigned tag, struct iris_str name, struct iris_str ns)
{
	return hash_bytes(name.base, name.len) ^ (hash_bytes(ns.base, ns.len) * 3 + tag);
}

static const struct payload_entry *
payload_find(const struct payload_table *table, unsigned tag, struct iris_str name,
	     struct iris_str ns)
{
	if (table == NULL)
		return NULL;
	uint32_t at = table->buckets[payload_hash(tag, name, ns) & (table->bucket_count - 1)];
	for (; at != 0; at = table->entries[at - 1].next) {
		const struct payload_entry *entry = &table->entries[at - 1];
		if (entry->tag == tag && str_equal(entry->name, name) && str_equal(entry->ns, ns))
			return entry;
	}
	return NULL;
}

static struct payload_table *
payload_new(size_t count)
{
	struct payload_table *table = iris_calloc(1, sizeof(*table));

	table->bucket_count = 16;
	while (table->bucket_count < count * 2)
		table->bucket_count *= 2;
	table->buckets = iris_calloc(table->bucket_count, sizeof(*table->buckets));
	table->entries = iris_calloc(count ? count : 1, sizeof(*table->entries));
	return table;
}

static void
payload_free(void *arg)
{
	struct payload_table *table = arg;

	if (table == NULL)
		return;
	free(table->buckets);
	free(table->entries);
	free(table);
}

/* False: somebody handles it already. */
static bool
payload_add(struct payload_table *table, const struct payload_entry *entry,
	    struct iris_error *error)
{
	const struct payload_entry *before =
		payload_find(table, entry->tag, entry->name, entry->ns);
	uint32_t *bucket = &table->buckets[payload_hash(entry->tag, entry->name, entry->ns) &
					   (table->bucket_count - 1)];

	if (before)
		return error_set(error, "the modules %s and %s both handle <%.*s xmlns='%.*s'/>",
				 before->module->name, entry->module->name,
				 IRIS_STR_FMT(entry->name), IRIS_STR_FMT(entry->ns));
	table->entries[table->count] = *entry;
	table->entries[table->count].next = *bucket;
	*bucket = ++table->count;
	return true;
}

static size_t
count_iq(const struct module_set *set)
{
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_iq *iq = set->modules[i]->iq; iq && iq->name; iq++)
			count += (size_t)__builtin_popcount(iq->targets);
	return count;
}

static bool
add_iq(struct payload_table *table, const struct iris_module *module, const struct iris_iq *iq,
       struct iris_error *error)
{
	static const enum iris_target targets[] = { IRIS_TO_HOST, IRIS_TO_ACCOUNT,
						    IRIS_TO_SERVICE, IRIS_TO_PLACE };

	for (size_t i = 0; i < IRIS_COUNT(targets); i++) {
		const struct payload_entry entry = {
			.tag = TAG(targets[i], iq->type),
			.name = str_from(iq->name),
			.ns = str_from(iq->ns),
			.handler = iq,
			.module = module,
		};
		if ((iq->targets & targets[i]) && !payload_add(table, &entry, error))
			return false;
	}
	return true;
}

static void *
iq_build(const struct module_set *set, struct iris_error *error)
{
	struct payload_table *table = payload_new(count_iq(set));

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_iq *iq = set->modules[i]->iq; iq && iq->name; iq++)
			if (!add_iq(table, set->modules[i], iq, error)) {
				payload_free(table);
				return NULL;
			}
	return table;
}

static void *
element_build(const struct module_set *set, struct iris_error *error)
{
	struct payload_table *table;
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_stream_handler *h = set->modules[i]->elements; h && h->name;
		     h++)
			count++;
	table = payload_new(count);
	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_stream_handler *h = set->modules[i]->elements; h && h->name;
		     h++) {
			const struct payload_entry entry = {
				.name = str_from(h->name),
				.ns = str_from(h->ns),
				.handler = h,
				.module = set->modules[i],
			};
			if (!payload_add(table, &entry, error)) {
				payload_free(table);
				return NULL;
			}
		}
	return table;
}

static void *
iq_swap(void *table)
{
	return atomic_exchange(&iq_published, table);
}

static void *
element_swap(void *table)
{
	return atomic_exchange(&element_published, table);
}

const struct iris_iq *
iq_find(enum iris_target target, enum iris_stanza_type type, struct iris_str name,
	struct iris_str ns, const struct iris_module **module_r)
{
	const struct payload_entry *entry =
		payload_find(atomic_load_explicit(&iq_published, memory_order_acquire),
			     TAG(target, type), name, ns);

	if (entry == NULL)
		return NULL;
	*module_r = entry->module;
	return entry->handler;
}

const struct iris_stream_handler *
stream_handler_find(struct iris_str name, struct iris_str ns, const struct iris_module **module_r)
{
	const struct payload_entry *entry = payload_find(
		atomic_load_explicit(&element_published, memory_order_acquire), 0, name, ns);

	if (entry == NULL)
		return NULL;
	*module_r = entry->module;
	return entry->handler;
}

enum iris_verdict
iq_run(const struct iris_iq *iq, const struct iris_module *module, struct iris_request *request)
{
	enum iris_verdict verdict;

	module_enter(module);
	verdict = iq->handle(request);
	module_leave(module);
	IRIS_ASSERT(verdict != IRIS_PASS);
	return verdict;
}

void
stream_handler_run(const struct iris_stream_handler *handler, const struct iris_module *module,
		   struct iris_stream *stream, struct iris_element *element)
{
	module_enter(module);
	handler->handle(stream, element);
	module_leave(module);
}

const struct module_table iq_table = { "iq", iq_build, iq_swap, payload_free };
const struct module_table element_table = { "elements", element_build, element_swap, payload_free };
