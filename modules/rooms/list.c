/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of rooms for other plug-ins, from their rows: whether one is in memory makes no difference.
 * Any worker, on a fiber.
 */
#include "modules/rooms/rooms_private.h"

#define LIST_PAGE 50

struct counting {
	struct room_listed *rooms;
	size_t count;
};

/* On each worker: of the rooms that live there. */
static void
count_users_here(void *arg)
{
	const struct counting *counting = arg;

	for (size_t i = 0; i < counting->count; i++) {
		struct room_listed *room = &counting->rooms[i];
		struct iris_place *place;

		if (jid_is_none(&room->jid) || home_of(jid_bare(&room->jid)) != worker_self())
			continue;
		place = place_find(&rooms_places, jid_bare(&room->jid));
		room->users = place ? room_of(place)->occupants.count : 0;
	}
}

void
list_count_users(struct room_listed *rooms, size_t count)
{
	struct counting counting = { rooms, count };

	for (unsigned i = 0; count > 0 && i < worker_count(); i++)
		worker_call(worker_at((int)i), "rooms: count", count_users_here, &counting);
}

bool
list_is_there(const struct room_listed *room, const struct room_config *config)
{
	return !jid_is_none(&room->jid) &&
	       (config->numbers[ROOM_CONFIG_PERSISTENT] || room->users > 0);
}

static bool
has_policy(const struct iris_jid *jid)
{
	const struct iris_service *service = service_find(jid_domain(jid));

	return service && service->kind == &rooms_kind && rooms_service_has_policy(service);
}

static void
found_fill(struct room_found *found, const struct room_listed *listed, struct iris_arena *arena)
{
	struct room_config config;

	room_config_init(&config, listed->config);
	*found = (struct room_found){
		.jid = listed->jid,
		.affiliation = listed->affiliation,
		.name = arena_copy_str(arena, str_from(config.texts[ROOM_CONFIG_NAME])),
		.policy = arena_copy_str(arena, str_from(config.texts[ROOM_CONFIG_POLICY])),
	};
	room_config_free(&config);
}

bool
rooms_of(const struct iris_jid *bare, const struct iris_jid *after, size_t limit,
	 struct iris_arena *arena, struct room_found **found_r, size_t *count_r)
{
	struct room_listed *rooms = arena_alloc(arena, LIST_PAGE * sizeof(*rooms));
	int64_t from = 0;
	size_t count;

	*found_r = arena_alloc(arena, limit * sizeof(**found_r));
	*count_r = 0;
	if (!jid_is_none(after) && !store_room_find(after, &from))
		return false;
	do {
		if (!store_rooms_of(bare, from, arena, rooms, LIST_PAGE, &count))
			return false;
		for (size_t i = 0; i < count && *count_r < limit; i++) {
			from = rooms[i].id;
			if (!jid_is_none(&rooms[i].jid) && has_policy(&rooms[i].jid) &&
			    rooms[i].affiliation >= ROOM_MEMBER)
				found_fill(&(*found_r)[(*count_r)++], &rooms[i], arena);
		}
	} while (count == LIST_PAGE && *count_r < limit);
	return true;
}

bool
rooms_at(const struct iris_service *service, const struct iris_jid *after, size_t limit,
	 struct iris_arena *arena, struct room_found **found_r, size_t *count_r)
{
	struct room_list_query query = { .service = service, .hidden = true, .limit = limit };
	struct room_listed *rooms;
	size_t count;

	*count_r = 0;
	if (!jid_is_none(after) && !store_room_find(after, &query.from))
		return false;
	if (!store_rooms_list(&query, arena, &rooms, &count))
		return false;
	*found_r = arena_alloc(arena, count * sizeof(**found_r));
	for (size_t i = 0; i < count; i++)
		if (!jid_is_none(&rooms[i].jid))
			found_fill(&(*found_r)[(*count_r)++], &rooms[i], arena);
	return true;
}

int64_t
rooms_owned(const struct iris_jid *bare)
{
	return store_rooms_owned(bare);
}
