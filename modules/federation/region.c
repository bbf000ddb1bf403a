/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which region a link leads to, and what follows for its pairs (P2; README.md, "Regions and the
 * gate"): what the peer's certificate says, as the map in force sees it.  Looked at once for each
 * map.  The worker of the link; where there is no map, nothing of it matters.
 */
#include "modules/federation/link_private.h"

/*
 * SECURITY: a certificate whose region the map does not confirm, by the authority that the region
 * has in it, proves nothing at all: it claims to be more than it is.
 */
static void
region_learn(struct link *link)
{
	struct iris_arena *arena = arena_new();
	struct iris_str id;
	const char *authority;
	bool is_sound = stream_region(link->stream, arena, &id);

	link->region[0] = '\0';
	if (is_sound && !str_is_none(id)) {
		authority = gate_authority(id);
		is_sound = authority && stream_is_under(link->stream, authority) &&
			   str_copy_to(link->region, sizeof(link->region), id);
	}
	link->is_forbidden = !is_sound;
	arena_unref(&arena);
}

/* SECURITY: the certificate of region A, used for a domain of region B or of none. */
static bool
region_allows(const struct link *link, struct iris_str domain)
{
	struct iris_gate_place place = gate_place(domain);

	return !link->is_forbidden && place.is_open &&
	       str_equal(place.region, str_from(link->region));
}

/* Of all that was proven by the map before, and of whom it is for. */
static bool
pairs_are_allowed(const struct link *link)
{
	HASH_FOREACH(node, &link->pairs) {
		struct iris_str pair = node->key; /* "theirs ours" */
		const char *space = memchr(pair.base, ' ', pair.len);

		if (!region_allows(link, (struct iris_str){ pair.base,
							    (size_t)(space - pair.base) }))
			return false;
	}
	return !link->route || region_allows(link, route_remote(link->route));
}

static void
region_look(struct link *link)
{
	int64_t serial = gate_serial();

	if (link->map_serial == serial)
		return;
	link->map_serial = serial;
	region_learn(link);
	if (!pairs_are_allowed(link))
		link->is_forbidden = true;
}

bool
link_is_allowed(struct link *link)
{
	if (!gate_has_map())
		return true;
	region_look(link);
	return !link->is_forbidden;
}

bool
link_proves(struct link *link, struct iris_str domain)
{
	return stream_proves(link->stream, domain) &&
	       (!gate_has_map() || (link_is_allowed(link) && region_allows(link, domain)));
}

bool
region_leaves_to_dns(struct link *link, struct iris_str domain)
{
	return !gate_has_map() || (str_is_none(gate_place(domain).region) &&
				   link_is_allowed(link) && link->region[0] == '\0');
}

size_t
region_endpoints(struct iris_arena *arena, struct iris_str domain,
		 struct iris_gate_endpoint **endpoints_r)
{
	struct iris_gate_place place = gate_place(domain);

	*endpoints_r = arena_alloc(arena, place.endpoint_count * sizeof(**endpoints_r));
	for (size_t i = 0; i < place.endpoint_count; i++)
		(*endpoints_r)[i] = (struct iris_gate_endpoint){
			.host = arena_copy_str(arena, place.endpoints[i].host),
			.port = place.endpoints[i].port,
		};
	return place.endpoint_count;
}
