/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 §6, §7.12: what the service and its rooms say of themselves, which rooms and occupants
 * there are.  Hooks of xep0030; on a fiber, where it is asked.
 */
#include <stdio.h>

#include <openssl/rand.h>

#include "modules/rooms/rooms_private.h"
#include "xep/payloads.h"
#include "xep/xep0054_vcard.h"
#include "xep/xep0059_rsm.h"
#include "xep/xep0077_register.h"

#define ROOMS_MAX 100     /* of one page */
#define OCCUPANTS_MAX 500 /* listed */
#define NODE_NICK "x-roomuser-item"

/* What every room does, whatever its configuration. */
static const char *const room_features[] = {
	NS_MUC, NS_MUC "#stable_id", NS_MUC "#self-ping-optimization", NS_MUC "#request",
	NS_REGISTER, NS_OCCUPANT_ID, NS_SID,
	"urn:xmpp:muc:affiliations:1", NS_VCARD,
};

static const char *const service_features[] = {
	NS_MUC, NS_MUC_UNIQUE, "urn:xmpp:channel-search:0:search", "jabber:iq:search",
	NS_RSM, NS_VCARD,
};

/* XEP-0307: nobody else ever gets this one, so nothing has to be reserved. */
enum iris_verdict
unique_get(struct iris_request *request)
{
	unsigned char random[20];
	char name[2 * sizeof(random) + 1];

	IRIS_ASSERT(RAND_bytes(random, sizeof(random)) == 1);
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(name + 2 * i, 3, "%02x", random[i]);
	request->reply = element_new(request->arena, "unique", NS_MUC_UNIQUE);
	element_text(request->reply, str_from(name));
	return IRIS_DONE;
}

bool
discovery_may_know(const struct room *room, const struct iris_jid *asker)
{
	const int32_t *numbers = room->config.numbers;
	enum room_affiliation affiliation;

	if (!room_exists(room))
		return false;
	affiliation = room_affiliation(room, asker);
	if (affiliation >= ROOM_MEMBER || room_role(room, asker) != ROOM_NO_ROLE)
		return true;
	return room->state == ROOM_OPEN &&
	       (numbers[ROOM_CONFIG_PUBLIC] || !numbers[ROOM_CONFIG_MEMBERS_ONLY]);
}

static void
add_features(struct iris_element *query, const char *const *features, size_t count)
{
	for (size_t i = 0; i < count; i++)
		element_set(element_add(query, "feature", NULL), "var", str_from(features[i]));
}

static void
add_identity(struct iris_element *query, struct iris_str name)
{
	struct iris_element *identity = element_add(query, "identity", NULL);

	element_set(identity, "category", IRIS_STR("conference"));
	element_set(identity, "type", IRIS_STR("text"));
	element_set(identity, "name", name);
}

static enum iris_verdict
refuse(struct iris_discovery *discovery, enum iris_condition condition)
{
	discovery->request->refusal.condition = condition;
	return IRIS_REFUSE;
}

/* The room that is asked, if the asker may know of it. */
static struct room *
asked_room(const struct iris_discovery *discovery)
{
	struct iris_request *request = discovery->request;
	struct room *room = room_of(request->place);

	return discovery_may_know(room, &request->stanza->from) ? room : NULL;
}

static bool
is_ours(const struct iris_discovery *discovery)
{
	const struct iris_service *service = discovery->request->service;

	return service && service->kind == &rooms_kind;
}

/* --- what it is --- */

/* §7.12: the nick that the asker has registered; an empty answer: none. */
static void
add_own_nick(const struct iris_discovery *discovery, const struct room *room)
{
	const struct room_affiliate *affiliate =
		room_affiliate(room, jid_bare(&discovery->request->stanza->from));

	if (affiliate && affiliate->nick)
		add_identity(discovery->query, str_from(affiliate->nick));
}

static void
add_room(const struct iris_discovery *discovery, const struct room *room)
{
	const struct room_policy *policy = room_policy(room);

	add_identity(discovery->query, room_name(room));
	add_features(discovery->query, room_features, IRIS_COUNT(room_features));
	room_config_add_info(discovery->query, room);
	room_archive_add_info(discovery->query, room);
	if (policy && policy->add_info)
		policy->add_info((struct room *)room, discovery->query);
}

enum iris_verdict
rooms_disco_info(struct iris_discovery *discovery)
{
	const struct room *room;

	if (!is_ours(discovery))
		return IRIS_PASS;
	if (!discovery->request->place) {
		if (str_is_none(discovery->node)) {
			add_identity(discovery->query, IRIS_STR("Rooms"));
			add_features(discovery->query, service_features,
				     IRIS_COUNT(service_features));
		}
		return IRIS_PASS;
	}
	room = asked_room(discovery);
	if (!room)
		return refuse(discovery, IRIS_ITEM_NOT_FOUND);
	if (str_is_none(discovery->node)) {
		add_room(discovery, room);
	} else if (str_is(discovery->node, NODE_NICK)) {
		discovery->known_node = true;
		add_own_nick(discovery, room);
	}
	return IRIS_PASS;
}

/* --- rooms of the service (§6.3) --- */

static bool
read_id(struct iris_str text, int64_t service, int64_t *id_r)
{
	return str_is_empty(text) || log_id_open(text, service, id_r);
}

static enum iris_condition
read_page(const struct iris_request *request, struct room_list_query *query, bool *asked_r)
{
	int64_t service = vault_peer_id(jid_domain(&query->service->jid));
	struct rsm_request page;
	enum iris_condition condition = rsm_read(request->payload, ROOMS_MAX, &page);

	if (condition != IRIS_NO_ERROR)
		return condition;
	*asked_r = page.asked;
	query->limit = page.max;
	query->backwards = !str_is_none(page.before);
	query->from = query->backwards ? INT64_MAX : 0;
	return read_id(query->backwards ? page.before : page.after, service, &query->from) ?
		       IRIS_NO_ERROR :
		       IRIS_ITEM_NOT_FOUND;
}

static struct iris_str
page_id(const struct iris_discovery *discovery, const struct room_listed *room)
{
	struct iris_service *service = discovery->request->service;

	return log_id_seal(discovery->query->arena, vault_peer_id(jid_domain(&service->jid)),
			   room->id);
}

static void
add_listed(struct iris_element *query, const struct room_listed *room)
{
	struct room_config config;
	struct iris_element *item;

	room_config_init(&config, room->config);
	if (list_is_there(room, &config)) {
		item = element_add(query, "item", NULL);
		element_set(item, "jid", jid_full(&room->jid));
		element_set(item, "name", str_from(config.texts[ROOM_CONFIG_NAME]));
	}
	room_config_free(&config);
}

static enum iris_verdict
list_rooms(struct iris_discovery *discovery)
{
	struct iris_request *request = discovery->request;
	struct room_list_query query = { .service = request->service,
					 .asker = request->stanza->from };
	struct iris_element *list = discovery->query;
	struct room_listed *rooms = NULL;
	size_t count = 0;
	bool asked = false, more;
	enum iris_condition condition = read_page(request, &query, &asked);

	if (condition != IRIS_NO_ERROR)
		return refuse(discovery, condition);
	query.limit++; /* is there more? */
	if (!store_rooms_list(&query, list->arena, &rooms, &count))
		return refuse(discovery, IRIS_INTERNAL_SERVER_ERROR);
	more = count == query.limit;
	if (more) {
		rooms += query.backwards;
		count--;
	}
	list_count_users(rooms, count);
	for (size_t i = 0; i < count; i++)
		add_listed(list, &rooms[i]);
	if (count > 0 && (asked || more))
		rsm_write(list, page_id(discovery, &rooms[0]),
			  page_id(discovery, &rooms[count - 1]));
	else if (asked)
		rsm_write(list, IRIS_STR_NONE, IRIS_STR_NONE);
	return IRIS_PASS;
}

/* --- occupants of a room (§6.5): for who is in, or belongs to it --- */

static void
list_occupants(const struct iris_discovery *discovery, const struct room *room)
{
	const struct iris_jid *asker = &discovery->request->stanza->from;
	size_t left = OCCUPANTS_MAX;

	if (room_role(room, asker) == ROOM_NO_ROLE && room_affiliation(room, asker) < ROOM_MEMBER)
		return;
	HASH_FOREACH(node, &room->occupants) {
		const struct room_occupant *occupant =
			IRIS_CONTAINER(node, struct room_occupant, node);

		if (left-- == 0)
			return;
		element_set(element_add(discovery->query, "item", NULL), "jid",
			    jid_full(&occupant->jid));
	}
}

enum iris_verdict
rooms_disco_items(struct iris_discovery *discovery)
{
	const struct room *room;

	if (!is_ours(discovery))
		return IRIS_PASS;
	if (!discovery->request->place)
		return str_is_none(discovery->node) ? list_rooms(discovery) : IRIS_PASS;
	room = asked_room(discovery);
	if (!room)
		return refuse(discovery, IRIS_ITEM_NOT_FOUND);
	if (str_is_none(discovery->node))
		list_occupants(discovery, room);
	return IRIS_PASS;
}
