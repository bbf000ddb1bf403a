/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region map and the gate: up to a zero byte a map, behind it a stanza.  Oracles: a map is
 * taken whole or told to be wrong; nothing unknown ever passes; more in a stanza never opens what
 * less of it does not; no isolated region is reached.
 */
#include <string.h>

#include "config_private.h"
#include "gate_private.h"
#include "worker_private.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	worker_main_init();
	gate_open();
	return 0;
}

static struct iris_stanza *
stanza_of(struct iris_str xml)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, xml);
	struct iris_stanza *stanza = NULL;
	const char *condition;

	if (root)
		stanza = stanza_from_element(arena, root, &condition);
	if (!stanza)
		arena_unref(&arena);
	return stanza;
}

static bool
is_isolated(const struct region_map *map, unsigned region)
{
	return region < map->count && map->regions[region].class == REGION_ISOLATED;
}

static void
check_map(const struct region_map *map)
{
	for (unsigned from = 0; from <= map->count; from++)
		for (unsigned to = 0; to <= map->count; to++) {
			bool isolated = is_isolated(map, from) || is_isolated(map, to);

			IRIS_ASSERT(region_map_verdict(map, from, to, IRIS_GATE_UNKNOWN) ==
				    IRIS_GATE_DENY);
			for (unsigned c = 0; isolated && c < IRIS_GATE_CATEGORY_COUNT; c++)
				IRIS_ASSERT(region_map_verdict(map, from, to, c) == IRIS_GATE_DENY);
		}
}

static void
check_stanza(const struct iris_stanza *stanza)
{
	unsigned plain = gate_classify(stanza, false, false);
	struct iris_gate_opinion opinion;

	IRIS_ASSERT(plain != 0);
	if (jid_is_none(&stanza->from) || jid_is_none(&stanza->to))
		return;
	opinion = gate_explain(stanza, &stanza->to);
	IRIS_ASSERT(!(opinion.categories & (1u << IRIS_GATE_UNKNOWN)) ||
		    opinion.verdict == IRIS_GATE_DENY);
	gate_judge(IRIS_GATE_LEAVING, stanza, &stanza->to, IRIS_STR("na"));
	gate_judge(IRIS_GATE_ENTERING, stanza, &stanza->to, IRIS_STR("na"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, 0, size);
	size_t map_size = end ? (size_t)(end - data) : size;
	struct iris_report report = { .error_count = 0 };
	struct iris_str text = { (const char *)data, map_size };
	struct region_map *map = region_map_parse("map.yaml", text, &report);
	struct iris_stanza *stanza = NULL;

	IRIS_ASSERT((map == NULL) == (report.error_count > 0));
	if (end)
		stanza = stanza_of((struct iris_str){ (const char *)end + 1, size - map_size - 1 });
	if (map) {
		check_map(map);
		gate_set_map(map, 0);
	}
	if (stanza)
		check_stanza(stanza);
	gate_set_map(NULL, 0);
	region_map_free(&map);
	stanza_unref(&stanza);
	report_clear(&report);
	return 0;
}
