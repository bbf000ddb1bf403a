/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers at a path of the web: an immutable table, made on the main thread from the routes of
 * the loaded modules, read from any worker.  It knows no HTTP; modules/web speaks it.
 */
#include <stdlib.h>

#include "iris/hash.h"
#include "iris/web.h"
#include "module_private.h"

#define PATH_MOST 64 /* of a route's own path: a longer request is looked up that far only */

/* All routes of one path, one for each method that is offered. */
struct web_place {
	struct iris_hash_node node;
	size_t count;
	struct {
		const struct iris_web_route *route;
		const struct iris_module *module;
	} entries[4]; /* one for each method */
};

struct web_places {
	struct iris_hash by_path;
	struct web_place places[];
};

static _Atomic(struct web_places *) published;

static struct web_place *
web_place_find(const struct web_places *places, struct iris_str path)
{
	struct iris_hash_node *node = hash_find(&places->by_path, path);

	return node ? IRIS_CONTAINER(node, struct web_place, node) : NULL;
}

static unsigned
web_place_methods(const struct web_place *place)
{
	unsigned methods = 0;

	for (size_t i = 0; i < place->count; i++)
		methods |= place->entries[i].route->methods;
	return methods;
}

static bool
web_place_add(struct web_places *places, const struct iris_module *module,
	      const struct iris_web_route *route, struct iris_error *error)
{
	struct iris_str path = str_from(route->path);
	struct web_place *place = web_place_find(places, path);

	if (path.len == 0 || path.base[0] != '/' || path.len > PATH_MOST || route->methods == 0)
		return error_set(error, "the module %s has a route \"%s\" that is none",
				 module->name, route->path);
	if (!place) {
		place = &places->places[places->by_path.count];
		hash_insert(&places->by_path, &place->node, path);
	}
	if (web_place_methods(place) & route->methods)
		return error_set(error, "two modules answer at \"%s\", one of them is %s",
				 route->path, module->name);
	place->entries[place->count].route = route;
	place->entries[place->count++].module = module;
	return true;
}

static void
web_places_free(void *arg)
{
	struct web_places *places = arg;

	if (!places)
		return;
	HASH_FOREACH (node, &places->by_path)
		hash_remove(&places->by_path, node);
	hash_free(&places->by_path);
	free(places);
}

static void *
web_places_build(const struct module_set *set, struct iris_error *error)
{
	struct web_places *places;
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_web_route *r = set->modules[i]->web; r && r->path; r++)
			count++;
	places = iris_calloc(1, sizeof(*places) + count * sizeof(places->places[0]));
	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_web_route *r = set->modules[i]->web; r && r->path; r++)
			if (!web_place_add(places, set->modules[i], r, error)) {
				web_places_free(places);
				return NULL;
			}
	return places;
}

static void *
web_places_swap(void *table)
{
	return atomic_exchange(&published, table);
}

/* The place with the longest path: the whole one, else a folder above it. */
static const struct web_place *
web_place_for(const struct web_places *places, struct iris_str path, struct iris_str *rest_r)
{
	size_t len = path.len < PATH_MOST ? path.len : PATH_MOST;
	const struct web_place *place = NULL;

	if (path.len <= PATH_MOST)
		place = web_place_find(places, path);
	for (; !place && len > 0; len--)
		if (path.base[len - 1] == '/') {
			place = web_place_find(places, (struct iris_str){ path.base, len });
			if (place)
				break;
		}
	if (place)
		*rest_r = (struct iris_str){ path.base + place->node.key.len,
					     path.len - place->node.key.len };
	return place;
}

bool
web_route_find(struct iris_str path, enum iris_web_method method, struct iris_web_match *match_r)
{
	const struct web_places *places = atomic_load_explicit(&published, memory_order_acquire);
	const struct web_place *place;

	*match_r = (struct iris_web_match){ .route = NULL };
	place = places ? web_place_for(places, path, &match_r->rest) : NULL;
	if (!place)
		return false;
	match_r->methods = web_place_methods(place);
	for (size_t i = 0; i < place->count; i++)
		if (method == 0 || place->entries[i].route->methods & method) {
			match_r->route = place->entries[i].route;
			match_r->module = place->entries[i].module;
		}
	return true;
}

void
web_route_run(const struct iris_web_match *match, struct iris_web_request *request)
{
	module_enter(match->module);
	match->route->handle(request);
	module_leave(match->module);
}

const struct module_table web_table = { "web", web_places_build, web_places_swap, web_places_free };
