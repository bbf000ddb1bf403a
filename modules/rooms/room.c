/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rooms in memory, at the home worker of their address: read, made, configured, left by the last
 * one, destroyed (XEP-0045 §10.1, §10.2, §10.9).  What changes is stored, then so in memory,
 * then told.  One fiber at a time changes a room: the lock is the room's address.
 *
 * Who enters and what is said: enter.c, message.c.  Affiliations: affiliation.c.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "iris/auth.h"
#include "modules/rooms/live.h"

#define HOUR_MS 3600000

enum { CREATE_ACCOUNTS, CREATE_ADMINS, CREATE_NOBODY, CREATE_ANYONE }; /* as in rooms.c */

/* --- looking --- */

struct room *
room_of(struct iris_place *place)
{
	return place->places == &rooms_places ? IRIS_CONTAINER(place, struct room, place) : NULL;
}

bool
room_exists(const struct room *room)
{
	return room->state != ROOM_UNBORN;
}

enum iris_place_found
room_seek(const struct iris_jid *bare, struct room **room_r)
{
	enum iris_place_found found;
	struct iris_place *place;

	*room_r = NULL;
	IRIS_ASSERT(home_of(jid_bare(bare)) == worker_self());
	place = place_get(&rooms_places, jid_bare(bare), &found);
	if (!place) /* a room is never NOBODY: there was no place for it */
		return IRIS_PLACE_FAILED;
	if (!room_exists(room_of(place))) {
		place_release(place);
		return IRIS_PLACE_NOBODY;
	}
	*room_r = room_of(place);
	return IRIS_PLACE_FOUND;
}

struct room *
room_get(const struct iris_jid *bare)
{
	struct room *room;

	room_seek(bare, &room);
	return room;
}

void
room_release(struct room **room_p)
{
	struct room *room = *room_p;

	*room_p = NULL;
	if (room)
		place_release(&room->place);
}

const struct iris_jid *
room_jid(const struct room *room)
{
	return &room->jid;
}

int64_t
room_id(const struct room *room)
{
	return room->id;
}

iris_owner
room_owner(const struct room *room)
{
	return room->owner;
}

struct iris_str
room_name(const struct room *room)
{
	return str_from(room->config.texts[ROOM_CONFIG_NAME]);
}

struct iris_str
room_occupant_id(const struct room *room, const struct iris_jid *jid, struct iris_arena *arena)
{
	struct iris_str bare = jid_bare(jid);
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	IRIS_ASSERT(HMAC(EVP_sha256(), room->occupant_key, sizeof(room->occupant_key),
			 (const unsigned char *)bare.base, bare.len, mac, &len));
	return base64_encode(arena, (struct iris_str){ (const char *)mac, 24 });
}

void
room_refuse(const struct iris_stanza *stanza, enum iris_condition condition, const char *text)
{
	struct iris_stanza *error = stanza_error(
		stanza, &(struct iris_refusal){ .condition = condition, .text = text });

	if (error)
		route_stanza(&error, NULL);
}

enum iris_condition
room_refuse_transit(const char **text_r)
{
	*text_r = "The room keeps nothing that comes from your region";
	return IRIS_POLICY_VIOLATION;
}

/* --- activity (XEP-0502) --- */

static void
activity_shift(struct room_activity *activity, int64_t hour)
{
	int64_t passed = hour - activity->hour;

	activity->hour = hour;
	if (passed <= 0)
		return;
	if (passed > ROOM_ACTIVITY_HOURS)
		passed = ROOM_ACTIVITY_HOURS;
	memmove(&activity->counts[passed], &activity->counts[0],
		(size_t)(ROOM_ACTIVITY_HOURS - passed) * sizeof(activity->counts[0]));
	memset(activity->counts, 0, (size_t)passed * sizeof(activity->counts[0]));
}

void
room_activity_count(struct room *room)
{
	int64_t hour = worker_wall_ms() / HOUR_MS;

	if (room->activity.first_hour == 0)
		room->activity.first_hour = hour;
	activity_shift(&room->activity, hour);
	room->activity.counts[0]++;
}

/*
 * Of the full hours of the last day that were seen, since the room was read; none before there is
 * one, and none where it takes more than a nick to enter.
 */
struct iris_str
room_activity_text(const struct room *room, struct iris_arena *arena)
{
	const int32_t *numbers = room->config.numbers;
	struct room_activity activity = room->activity;
	int64_t hour = worker_wall_ms() / HOUR_MS, hours = hour - activity.first_hour;
	uint64_t sum = 0;

	if (activity.first_hour == 0 || hours <= 0 || !numbers[ROOM_CONFIG_PUBLIC] ||
	    !numbers[ROOM_CONFIG_PERSISTENT] || numbers[ROOM_CONFIG_MEMBERS_ONLY] ||
	    numbers[ROOM_CONFIG_PASSWORD_PROTECTED])
		return IRIS_STR_NONE;
	if (hours > ROOM_ACTIVITY_HOURS - 1)
		hours = ROOM_ACTIVITY_HOURS - 1;
	activity_shift(&activity, hour);
	for (unsigned i = 1; i < ROOM_ACTIVITY_HOURS; i++)
		sum += activity.counts[i];
	return arena_printf(arena, "%.2f", (double)sum / (double)hours);
}

/* --- in memory --- */

/* XEP-0421: under a key of the room's own, which nobody has who does not have the region's. */
static void
derive_occupant_key(struct room *room)
{
	struct iris_arena *arena = arena_new();
	struct iris_str first = log_id_seal(arena, room->id, 0);
	struct iris_str second = log_id_seal(arena, room->id, INT64_MAX);
	struct iris_str seed = arena_printf(arena, "occupant-id %.*s %.*s", IRIS_STR_FMT(first),
					    IRIS_STR_FMT(second));

	IRIS_ASSERT(EVP_Digest(seed.base, seed.len, (unsigned char *)room->occupant_key, NULL,
			       EVP_sha256(), NULL));
	arena_unref(&arena);
}

/* What it was goes; the address is unborn again. */
static void
room_clear(struct room *room)
{
	HASH_FOREACH(node, &room->affiliates) {
		struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		room_affiliate_set(room, &affiliate->jid, ROOM_NONE, IRIS_STR_NONE, IRIS_STR_NONE,
				   0);
	}
	affiliation_forget(room);
	absent_changed(room);
	room_vcard_take(room, IRIS_STR_NONE);
	history_free(room);
	relay_free(room);
	invite_forget(room);
	stanza_unref(&room->subject.message);
	room_config_free(&room->config);
	room->subject.time_ms = room->created_ms = room->id = room->version = 0;
	room->activity = (struct room_activity){ .hour = 0 };
	room->owner = 0;
	room->state = ROOM_UNBORN;
}

static void
room_init(struct iris_place *place)
{
	struct room *room = room_of(place);

	room->jid = jid_from_prepared(place_key(place));
	room->service = service_find(jid_domain(&room->jid));
}

/* A temporary room that is read has lost its occupants with the server that had them. */
static enum iris_place_found
room_load(struct iris_place *place)
{
	struct room *room = room_of(place);
	bool exists;

	if (!room->service || !store_room_load(room, &exists))
		return IRIS_PLACE_FAILED;
	if (!exists)
		return IRIS_PLACE_FOUND;
	if (!room->config.numbers[ROOM_CONFIG_PERSISTENT]) {
		if (!store_room_erase(room))
			return IRIS_PLACE_FAILED;
		room_clear(room);
		return IRIS_PLACE_FOUND;
	}
	derive_occupant_key(room);
	room->state = ROOM_OPEN;
	return IRIS_PLACE_FOUND;
}

static void
room_unload(struct iris_place *place)
{
	struct room *room = room_of(place);

	IRIS_ASSERT(room->member_count == 0);
	room_clear(room);
	room_live_free(room);
	hash_free(&room->affiliates);
	hash_free(&room->nicks);
}

static int64_t
room_bound(enum iris_place_bound bound)
{
	static const enum rooms_option options[] = {
		[IRIS_PLACE_KEEP] = OPT_KEEP,
		[IRIS_PLACE_MAX] = OPT_MAX_ROOMS,
		[IRIS_PLACE_INBOX] = OPT_INBOX,
	};

	return option_int(&rooms_self, options[bound]);
}

/* What only an occupant could be sent for, and nobody needs an answer to, loads no room. */
static bool
room_is_worth_loading(const struct iris_stanza *stanza)
{
	return stanza->type != IRIS_ERROR && stanza->type != IRIS_RESULT &&
	       (stanza->kind != IRIS_PRESENCE || stanza->type == IRIS_AVAILABLE);
}

void
room_take(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	switch (delivery->stanza->kind) {
	case IRIS_PRESENCE:
		room_take_presence(room, delivery, ticket);
		break;
	case IRIS_MESSAGE:
		room_take_message(room, delivery, ticket);
		break;
	case IRIS_IQ:
		/* Who enters and configures at once means the room that is being made. */
		if (!jid_is_bare(delivery_to(delivery)))
			room_take_iq(room, delivery, ticket);
		else if (!live_park(room, delivery, ticket))
			service_answer(room->service, &room->place, delivery, ticket);
		break;
	}
}

static void
room_receive(struct iris_place *place, const struct iris_delivery *delivery,
	     struct iris_ticket *ticket)
{
	room_take(room_of(place), delivery, ticket);
}

/* Rooms are never absent, but a place may have been forgotten meanwhile. */
static void
room_absent(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	room_refuse(delivery->stanza, IRIS_ITEM_NOT_FOUND, NULL);
}

/* --- making --- */

struct founder { /* who makes a room */
	struct iris_jid jid;
	struct iris_account account; /* id 0: none of ours */
	bool found;
};

static void
founder_find(void *arg)
{
	struct founder *founder = arg;

	founder->found = accounts()->find(&founder->jid, &founder->account);
}

static enum iris_condition
refuse(enum iris_condition condition, const char *text, const char **text_r)
{
	*text_r = text;
	return condition;
}

static enum iris_condition
founder_judge(const struct founder *founder, const char **text_r)
{
	bool is_ours = founder->account.id != 0, may = false;
	int64_t owned;

	switch (option_int(&rooms_self, OPT_CREATE)) {
	case CREATE_ACCOUNTS:
		may = is_ours;
		break;
	case CREATE_ADMINS:
		may = is_ours && founder->account.role >= IRIS_ROLE_COMPANY_ADMIN;
		break;
	case CREATE_NOBODY:
		break;
	case CREATE_ANYONE:
		may = true;
		break;
	}
	if (!may)
		return refuse(IRIS_NOT_ALLOWED, "You may not create rooms here", text_r);
	owned = store_rooms_owned(&founder->jid);
	if (owned < 0)
		return IRIS_INTERNAL_SERVER_ERROR;
	if (owned >= option_int(&rooms_self, OPT_PER_ACCOUNT))
		return refuse(IRIS_NOT_ALLOWED, "You own as many rooms as you may", text_r);
	return IRIS_NO_ERROR;
}

/* Whose it will be, and may they make it? The server itself (none) may. Waits. */
static enum iris_condition
founder_ask(struct room *room, const struct iris_jid *by, struct founder *founder,
	    const char **text_r)
{
	const struct room_policy *policy = room_policy(room);
	struct iris_host *host = jid_is_none(by) ? NULL : host_find(jid_domain(by));
	enum iris_condition condition = IRIS_NO_ERROR;

	*founder = (struct founder){ .jid = *by, .found = true };
	if (host && !host->is_component)
		home_call(jid_bare(by), "room: founder", founder_find, founder);
	if (!founder->found)
		return IRIS_INTERNAL_SERVER_ERROR;
	if (jid_is_none(by))
		return IRIS_NO_ERROR;
	condition = founder_judge(founder, text_r);
	if (condition == IRIS_NO_ERROR && policy && policy->may)
		condition = policy->may(room, ROOM_CREATE, by, text_r);
	return condition;
}

static void
room_fill(struct room *room, const struct founder *founder, const char *config)
{
	const struct room_policy *policy = room_policy(room);

	room->id = vault_next_id(IRIS_SEQ_ACCOUNT);
	room->owner = founder->account.id ? founder->account.owner : IRIS_OWNER_DEFAULT;
	room->created_ms = worker_wall_ms();
	room->version = 1;
	room_config_init(&room->config, str_from(policy ? policy->new_config : NULL));
	room_config_set(&room->config, str_from(config));
	if (!room->config.texts[ROOM_CONFIG_NAME])
		room->config.texts[ROOM_CONFIG_NAME] = str_dup(jid_node(&room->jid));
	if (!jid_is_none(&founder->jid))
		room_affiliate_set(room, &founder->jid, ROOM_OWNER, IRIS_STR_NONE, IRIS_STR_NONE,
				   room->version);
	derive_occupant_key(room);
}

enum iris_condition
room_make(struct room *room, const struct iris_jid *by, const char *config, const char **text_r)
{
	const struct room_policy *policy = room_policy(room);
	enum iris_condition condition;
	struct founder founder;
	struct iris_arena *arena = arena_new();
	struct iris_jid bare =
		jid_is_none(by) ? IRIS_JID_NONE : jid_with_resource(arena, by, IRIS_STR_NONE);

	*text_r = NULL;
	condition = transit_is_on() ? room_refuse_transit(text_r)
				    : founder_ask(room, &bare, &founder, text_r);
	if (condition == IRIS_NO_ERROR) {
		fiber_lock(jid_bare(&room->jid));
		if (room_exists(room)) {
			condition = IRIS_CONFLICT;
		} else {
			room_fill(room, &founder, config);
			if (store_room_insert(room)) {
				room->state = ROOM_LOCKED;
			} else {
				room_clear(room);
				condition = IRIS_RESOURCE_CONSTRAINT;
			}
		}
		fiber_unlock(jid_bare(&room->jid));
	}
	if (condition == IRIS_NO_ERROR && policy && policy->created)
		policy->created(room, &bare);
	arena_unref(&arena);
	return condition;
}

void
room_open(struct room *room)
{
	IRIS_ASSERT(room_exists(room));
	room->state = ROOM_OPEN;
}

enum iris_condition
room_create(const struct iris_jid *bare, const struct iris_jid *by, const char *config,
	    struct room **room_r)
{
	enum iris_place_found found;
	struct iris_place *place;
	enum iris_condition condition;
	const char *text;

	*room_r = NULL;
	IRIS_ASSERT(home_of(jid_bare(bare)) == worker_self());
	place = place_get(&rooms_places, jid_bare(bare), &found);
	if (!place)
		return found == IRIS_PLACE_FAILED ? IRIS_INTERNAL_SERVER_ERROR :
						    IRIS_RESOURCE_CONSTRAINT;
	condition = room_exists(room_of(place)) ? IRIS_CONFLICT :
						  room_make(room_of(place), by, config, &text);
	if (condition != IRIS_NO_ERROR) {
		place_release(place);
		return condition;
	}
	*room_r = room_of(place);
	room_open(*room_r);
	return IRIS_NO_ERROR;
}

/* --- configuring --- */

enum iris_condition
room_reconfigure(struct room *room, const struct iris_jid *by, struct room_config *config)
{
	const struct room_policy *policy = room_policy(room);
	struct room_config before = { .texts = { NULL } };
	bool stored;

	if (transit_is_on()) {
		room_config_free(config);
		return IRIS_POLICY_VIOLATION;
	}
	fiber_lock(jid_bare(&room->jid));
	stored = room_exists(room) && store_room_configure(room, config);
	if (stored) {
		before = room->config;
		room->config = *config;
		*config = (struct room_config){ .texts = { NULL } };
		occupants_follow_config(room, &before);
	}
	fiber_unlock(jid_bare(&room->jid));
	room_config_free(config);
	room_config_free(&before);
	if (stored && policy && policy->configured)
		policy->configured(room, by);
	room_emptied(room); /* it may be a temporary one from now on */
	return stored ? IRIS_NO_ERROR : IRIS_RESOURCE_CONSTRAINT;
}

enum iris_condition
room_configure(struct room *room, const struct iris_jid *by, const char *lines)
{
	const struct room_policy *policy = room_policy(room);
	enum iris_condition condition = IRIS_NO_ERROR;
	struct room_config config;
	const char *text;

	if (!room_exists(room))
		return IRIS_ITEM_NOT_FOUND;
	if (policy && policy->may && !jid_is_none(by))
		condition = policy->may(room, ROOM_CONFIGURE, by, &text);
	if (condition != IRIS_NO_ERROR)
		return condition;
	room_config_copy(&config, &room->config);
	room_config_set(&config, str_from(lines));
	return room_reconfigure(room, by, &config);
}

/* --- going --- */

/*
 * Nobody finds it while its rows go: who enters meanwhile makes a new one, and waits for the lock.
 * The rows of one that could not be erased are still there, and so is it.
 */
static bool
room_erase_locked(struct room *room)
{
	enum room_state before = room->state;
	bool erased;

	room->state = ROOM_UNBORN;
	erased = store_room_erase(room);
	if (erased)
		room_clear(room);
	else
		room->state = before;
	return erased;
}

bool
room_erase(struct room *room)
{
	bool erased = true;

	fiber_lock(jid_bare(&room->jid));
	if (room_exists(room))
		erased = room_erase_locked(room);
	fiber_unlock(jid_bare(&room->jid));
	return erased;
}

static void
room_put_all_out(struct room *room, const struct iris_element *destroy)
{
	struct iris_arena *arena = arena_new();
	struct room_news news = { .destroy = element_copy(arena, destroy) };

	while (room->member_count > 0) {
		struct room_occupant *occupant = room->members[0]->occupant;

		occupant_put_out(&occupant, &news);
	}
	arena_unref(&arena);
}

/* With what its policy has to say about it, and to do. Locked. destroy NULL: nobody is in. */
static enum iris_condition
room_end(struct room *room, const struct iris_jid *by, const struct iris_element *destroy)
{
	const struct room_policy *policy = room_policy(room);

	if (!room_exists(room))
		return IRIS_NO_ERROR;
	if (policy && policy->destroying && policy->destroying(room, by) == IRIS_REFUSE)
		return IRIS_RESOURCE_CONSTRAINT;
	if (destroy)
		room_put_all_out(room, destroy);
	if (!room_erase_locked(room))
		return IRIS_RESOURCE_CONSTRAINT;
	if (policy && policy->destroyed)
		policy->destroyed(&room->jid);
	return IRIS_NO_ERROR;
}

static bool
room_is_left(const struct room *room)
{
	return room_exists(room) && room->member_count == 0 &&
	       (room->state == ROOM_LOCKED || !room->config.numbers[ROOM_CONFIG_PERSISTENT]);
}

static void
room_emptied_run(void *arg)
{
	static const struct iris_jid nobody = { NULL, 0, 0, 0 };
	struct room *room = arg;

	fiber_lock(jid_bare(&room->jid));
	if (room_is_left(room))
		(void)room_end(room, &nobody, NULL); /* fails: it goes when it is read again */
	fiber_unlock(jid_bare(&room->jid));
	place_release(&room->place);
}

void
room_emptied(struct room *room)
{
	if (!room_is_left(room))
		return;
	place_hold(&room->place);
	if (!fiber_start("room: emptied", room_emptied_run, room))
		place_release(&room->place);
}

enum iris_condition
room_destroy_as(struct room *room, const struct iris_jid *by, const struct iris_element *destroy)
{
	enum iris_condition condition;

	if (!room_exists(room))
		return IRIS_ITEM_NOT_FOUND;
	fiber_lock(jid_bare(&room->jid));
	condition = room_end(room, by, destroy);
	fiber_unlock(jid_bare(&room->jid));
	return condition;
}

enum iris_condition
room_destroy(struct room *room, const struct iris_jid *by, struct iris_str reason,
	     const struct iris_jid *alternate)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *destroy = element_new(arena, "destroy", NS_MUC_USER);
	enum iris_condition condition;

	if (alternate && !jid_is_none(alternate))
		element_set(destroy, "jid", jid_full(alternate));
	if (!str_is_empty(reason))
		element_add_text(destroy, "reason", NULL, reason);
	condition = room_destroy_as(room, by, destroy);
	arena_unref(&arena);
	return condition;
}

static const struct iris_place_kind room_kind = {
	.name = "room: load",
	.size = sizeof(struct room),
	.init = room_init,
	.load = room_load,
	.unload = room_unload,
	.receive = room_receive,
	.absent = room_absent,
	.is_worth_loading = room_is_worth_loading,
	.bound = room_bound,
	.metrics = rooms_metrics,
};

struct iris_places rooms_places = { .kind = &room_kind };
