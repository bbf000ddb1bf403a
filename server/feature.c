/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What discovery announces, of all loaded modules: sorted, each once (XEP-0115 §3.1 forbids
 * duplicates).  Made on the main thread, read from any worker.  Does not answer discovery.
 */
#include <stdlib.h>

#include "module_private.h"

struct feature_list {
	size_t count;
	struct iris_feature features[];
};

static _Atomic(struct feature_list *) published;

static int
compare_features(const void *a, const void *b)
{
	const struct iris_feature *x = a, *y = b;
	return x->of != y->of ? (x->of < y->of ? -1 : 1) : strcmp(x->var, y->var);
}

static void *
feature_build(const struct module_set *set, struct iris_error *error)
{
	struct feature_list *list;
	size_t count = 0, kept = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_feature *f = set->modules[i]->features; f && f->var; f++)
			count++;
	list = iris_calloc(1, sizeof(*list) + count * sizeof(list->features[0]));
	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_feature *f = set->modules[i]->features; f && f->var; f++)
			list->features[list->count++] = *f;
	qsort(list->features, list->count, sizeof(list->features[0]), compare_features);
	for (size_t i = 0; i < list->count; i++)
		if (kept == 0 ||
		    compare_features(&list->features[kept - 1], &list->features[i]) != 0)
			list->features[kept++] = list->features[i];
	list->count = kept;
	return list;
}

static void *
feature_swap(void *table)
{
	return atomic_exchange(&published, table);
}

void
feature_each(enum iris_discovered of, void (*fn)(const char *var, void *arg), void *arg)
{
	const struct feature_list *list = atomic_load_explicit(&published, memory_order_acquire);

	for (size_t i = 0; list && i < list->count; i++)
		if (list->features[i].of == of)
			fn(list->features[i].var, arg);
}

const struct module_table feature_table = { "features", feature_build, feature_swap, free };
