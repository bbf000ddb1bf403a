/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics.  Each thread counts in a block of its own, so that counting is a load and a store; a
 * scrape sums the blocks.  A thread that ends leaves its sums behind.  Knows no histograms.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "iris/metrics.h"

#define SLOTS 1024u /* slot 0 is "not registered" */

struct block {
	struct block *next;
	_Atomic int64_t values[SLOTS]; /* written by its thread only */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of all below but the values */
static struct block *blocks;
static int64_t left_behind[SLOTS];
static const struct iris_metric *registered[SLOTS];
static pthread_key_t key;
static _Thread_local struct block *mine;

static void
lock(void)
{
	IRIS_ASSERT(pthread_mutex_lock(&mutex) == 0);
}

static void
unlock(void)
{
	IRIS_ASSERT(pthread_mutex_unlock(&mutex) == 0);
}

static int64_t
load(const struct block *block, unsigned slot)
{
	return atomic_load_explicit(&block->values[slot], memory_order_relaxed);
}

static void
block_retire(void *arg)
{
	struct block *block = arg, **link = &blocks;

	lock();
	while (*link != block)
		link = &(*link)->next;
	*link = block->next;
	for (unsigned slot = 0; slot < SLOTS; slot++)
		left_behind[slot] += load(block, slot);
	unlock();
	free(block);
	mine = NULL; /* another destructor may still count, and gets a new one */
}

static void
main_block_retire(void)
{
	if (mine)
		block_retire(mine);
}

__attribute__((constructor)) static void
prepare(void)
{
	IRIS_ASSERT(pthread_key_create(&key, block_retire) == 0);
	IRIS_ASSERT(atexit(main_block_retire) == 0);
}

static struct block *
block_new(void)
{
	struct block *block = iris_calloc(1, sizeof(*block));

	lock();
	block->next = blocks;
	blocks = block;
	unlock();
	IRIS_ASSERT(pthread_setspecific(key, block) == 0);
	return block;
}

void
metric_add(const struct iris_metric *metric, int64_t amount)
{
	unsigned slot = metric->slot;

	if (slot == 0)
		return;
	if (!mine)
		mine = block_new();
	atomic_store_explicit(&mine->values[slot], load(mine, slot) + amount, memory_order_relaxed);
}

/* The mutex is held. */
static int64_t
sum(unsigned slot)
{
	int64_t value = left_behind[slot];

	for (const struct block *block = blocks; block; block = block->next)
		value += load(block, slot);
	return value;
}

/* The mutex is held. */
static int64_t
current(const struct iris_metric *metric)
{
	return metric->value ? metric->value() : sum(metric->slot);
}

int64_t
metric_value(const struct iris_metric *metric)
{
	int64_t value;

	if (metric->slot == 0)
		return 0;
	lock();
	value = current(metric);
	unlock();
	return value;
}

void
metrics_register(struct iris_metric *metrics, size_t count)
{
	unsigned slot = 1;

	lock();
	for (size_t i = 0; i < count; i++) {
		IRIS_ASSERT(metrics[i].slot == 0);
		while (slot < SLOTS && registered[slot])
			slot++;
		IRIS_ASSERT(slot < SLOTS);
		/* What its last user left; the opposite of it is right whoever counts now. */
		left_behind[slot] -= sum(slot);
		registered[slot] = &metrics[i];
		metrics[i].slot = slot;
	}
	unlock();
}

void
metrics_unregister(struct iris_metric *metrics, size_t count)
{
	lock();
	for (size_t i = 0; i < count; i++) {
		if (metrics[i].slot == 0)
			continue;
		registered[metrics[i].slot] = NULL;
		metrics[i].slot = 0;
	}
	unlock();
}

/* --- Prometheus' text format, version 0.0.4 --- */

static int
by_name(const void *a, const void *b)
{
	const struct iris_metric *const *left = a, *const *right = b;
	int order = strcmp((*left)->name, (*right)->name);

	if (order != 0)
		return order;
	return (*left)->slot < (*right)->slot ? -1 : (*left)->slot > (*right)->slot;
}

static size_t
sorted(const struct iris_metric *list[SLOTS])
{
	size_t count = 0;

	for (unsigned slot = 1; slot < SLOTS; slot++)
		if (registered[slot])
			list[count++] = registered[slot];
	qsort(list, count, sizeof(*list), by_name);
	return count;
}

static void
print_head(FILE *out, const struct iris_metric *metric)
{
	(void)fprintf(out, "# HELP %s ", metric->name);
	for (const char *c = metric->help; *c; c++) {
		if (*c == '\\' || *c == '\n')
			(void)fprintf(out, "\\%c", *c == '\n' ? 'n' : '\\');
		else
			(void)fputc(*c, out);
	}
	(void)fprintf(out, "\n# TYPE %s %s\n", metric->name,
		      metric->kind == IRIS_COUNTER ? "counter" : "gauge");
}

static void
print_value(FILE *out, const struct iris_metric *metric)
{
	bool labelled = metric->labels && *metric->labels;

	(void)fprintf(out, "%s%s%s%s %lld\n", metric->name, labelled ? "{" : "",
		      labelled ? metric->labels : "", labelled ? "}" : "",
		      (long long)current(metric));
}

char *
metrics_render(size_t *len_r)
{
	const struct iris_metric **list = iris_calloc(SLOTS, sizeof(*list));
	char *text = NULL;
	FILE *out = open_memstream(&text, len_r);
	size_t count;

	IRIS_ASSERT(out != NULL);
	lock();
	count = sorted(list);
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || strcmp(list[i]->name, list[i - 1]->name) != 0)
			print_head(out, list[i]);
		print_value(out, list[i]);
	}
	unlock();
	free(list);
	IRIS_ASSERT(fclose(out) == 0);
	return text;
}
