/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Affiliations (XEP-0045 §5.2): in memory, changed together in one transaction with one new
 * version, told; and XEP-0463, what has changed since a version.  Home worker of the room.
 *
 * Whether the XEP allows a change is judge.c's; what follows for who is in the room, presence.c's.
 */
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"

#define NS_MAV "urn:xmpp:muc:affiliations:1"
#define REMOVALS_MAX 256 /* remembered; who knows an older version gets all of it */
#define CHANGES_PER_MESSAGE 100

struct removal {
	int64_t version;
	char *jid; /* bare */
};

/* Who lost any affiliation, since the room was read: the rows are gone. */
struct room_removals {
	int64_t floor; /* all removals after this version are here */
	size_t first, count;
	struct removal entries[REMOVALS_MAX];
};

/* --- names --- */

static const char *const affiliation_names[ROOM_AFFILIATION_COUNT] = {
	[ROOM_OUTCAST] = "outcast", [ROOM_NONE] = "none",   [ROOM_MEMBER] = "member",
	[ROOM_ADMIN] = "admin",	    [ROOM_OWNER] = "owner",
};

static const char *const role_names[ROOM_ROLE_COUNT] = {
	[ROOM_NO_ROLE] = "none",
	[ROOM_VISITOR] = "visitor",
	[ROOM_PARTICIPANT] = "participant",
	[ROOM_MODERATOR] = "moderator",
};

const char *
room_affiliation_name(enum room_affiliation affiliation)
{
	return affiliation_names[affiliation];
}

const char *
room_role_name(enum room_role role)
{
	return role_names[role];
}

/* --- who --- */

struct room_affiliate *
room_affiliate(const struct room *room, struct iris_str bare)
{
	struct iris_hash_node *node = hash_find(&room->affiliates, bare);

	return node ? IRIS_CONTAINER(node, struct room_affiliate, node) : NULL;
}

enum room_affiliation
room_affiliation(const struct room *room, const struct iris_jid *jid)
{
	const struct room_affiliate *affiliate = room_affiliate(room, jid_bare(jid));

	if (affiliate && affiliate->affiliation != ROOM_NONE)
		return affiliate->affiliation;
	/* §9.2: a whole domain may be banned */
	affiliate = room_affiliate(room, jid_domain(jid));
	return affiliate && affiliate->affiliation == ROOM_OUTCAST ? ROOM_OUTCAST : ROOM_NONE;
}

size_t
room_affiliation_count(const struct room *room, enum room_affiliation affiliation)
{
	return room->affiliation_counts[affiliation];
}

void
room_affiliates_each(struct room *room,
		     void (*fn)(const struct iris_jid *bare, enum room_affiliation affiliation,
				struct iris_str nick, void *arg),
		     void *arg)
{
	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		fn(&affiliate->jid, affiliate->affiliation, str_from(affiliate->nick), arg);
	}
}

void
room_occupants_each(const struct room *room, void (*fn)(const struct iris_jid *bare, void *arg),
		    void *arg)
{
	HASH_FOREACH(node, &room->occupants)
		fn(&IRIS_CONTAINER(node, struct room_occupant, node)->bare, arg);
}

bool
affiliation_may_list(const struct room *room, const struct iris_jid *jid)
{
	int32_t roles = room->config.numbers[ROOM_CONFIG_GET_MEMBER_LIST];
	enum room_affiliation affiliation = room_affiliation(room, jid);

	if (affiliation >= ROOM_ADMIN)
		return true;
	/* SECURITY: where addresses are hidden, lists would show them. */
	if (room->config.numbers[ROOM_CONFIG_WHOIS] != ROOM_WHOIS_ANYONE)
		return false;
	if (affiliation == ROOM_MEMBER && room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY])
		return true;
	return (roles & (1 << room_role(room, jid)) & ~(1 << ROOM_NO_ROLE)) != 0;
}

/* --- in memory --- */

static char *
dup_or_null(struct iris_str text)
{
	return str_is_empty(text) ? NULL : str_dup(text);
}

static struct room_affiliate *
affiliate_new(struct room *room, struct iris_str bare)
{
	struct room_affiliate *affiliate = iris_calloc(1, sizeof(*affiliate) + bare.len + 1);

	memcpy(affiliate->text, bare.base, bare.len);
	affiliate->jid = jid_from_prepared((struct iris_str){ affiliate->text, bare.len });
	affiliate->affiliation = ROOM_NONE;
	room->affiliation_counts[ROOM_NONE]++;
	hash_insert(&room->affiliates, &affiliate->node, jid_full(&affiliate->jid));
	return affiliate;
}

struct room_affiliate *
room_affiliate_by_nick(const struct room *room, struct iris_str nick)
{
	struct iris_hash_node *node = hash_find(&room->nicks, nick);

	return node ? IRIS_CONTAINER(node, struct room_affiliate, by_nick) : NULL;
}

static void
affiliate_set_nick(struct room *room, struct room_affiliate *affiliate, char *nick)
{
	if (affiliate->nick)
		hash_remove(&room->nicks, &affiliate->by_nick);
	free(affiliate->nick);
	affiliate->nick = nick;
	if (nick)
		hash_insert(&room->nicks, &affiliate->by_nick, str_from(nick));
}

/* A nick is one affiliate's: who had it first keeps it. Changes see to that before. */
void
room_affiliate_set(struct room *room, const struct iris_jid *bare,
		   enum room_affiliation affiliation, struct iris_str nick,
		   struct iris_str reason, int64_t version)
{
	struct room_affiliate *affiliate = room_affiliate(room, jid_bare(bare)), *holder;
	bool removes = affiliation == ROOM_NONE && str_is_empty(nick);
	char *new_nick, *new_reason;

	if (!affiliate && removes)
		return;
	absent_changed(room);
	if (!affiliate)
		affiliate = affiliate_new(room, jid_bare(bare));
	holder = str_is_empty(nick) ? NULL : room_affiliate_by_nick(room, nick);
	new_nick = holder && holder != affiliate ? NULL : dup_or_null(nick);
	new_reason = dup_or_null(reason); /* both may be its own */
	affiliate_set_nick(room, affiliate, new_nick);
	free(affiliate->reason);
	affiliate->reason = new_reason;
	affiliate->version = version;
	room->affiliation_counts[affiliate->affiliation]--;
	affiliate->affiliation = affiliation;
	room->affiliation_counts[affiliation]++;
	if (!removes)
		return;
	room->affiliation_counts[ROOM_NONE]--;
	hash_remove(&room->affiliates, &affiliate->node);
	free(affiliate->reason);
	free(affiliate);
}

/* --- what was removed (XEP-0463) --- */

void
affiliation_forget(struct room *room)
{
	for (size_t i = 0; room->removals && i < REMOVALS_MAX; i++)
		free(room->removals->entries[i].jid);
	free(room->removals);
	room->removals = NULL;
}

static void
removal_add(struct room_removals *removals, struct iris_str bare, int64_t version)
{
	size_t at = (removals->first + removals->count) % REMOVALS_MAX;
	struct removal *removal = &removals->entries[at];

	if (removals->count == REMOVALS_MAX) {
		removals->floor = removal->version;
		removals->first = (removals->first + 1) % REMOVALS_MAX;
	} else {
		removals->count++;
	}
	free(removal->jid);
	*removal = (struct removal){ version, str_dup(bare) };
}

static void
remember_removals(const struct room_change *change, int64_t version)
{
	struct room *room = change->room;

	if (!room->removals) {
		room->removals = iris_calloc(1, sizeof(*room->removals));
		room->removals->floor = room->version;
	}
	for (size_t i = 0; i < change->count; i++)
		if (change->items[i].after == ROOM_NONE)
			removal_add(room->removals, jid_bare(&change->items[i].jid), version);
}

/* --- a change --- */

/* What they are now; items that change nothing are left out. False: somebody is in it twice. */
static bool
change_prepare(struct room_change *change)
{
	size_t kept = 0;

	for (size_t i = 0; i < change->count; i++) {
		struct room_affiliate_change item = change->items[i];
		const struct room_affiliate *affiliate =
			room_affiliate(change->room, jid_bare(&item.jid));

		for (size_t j = 0; j < kept; j++)
			if (jid_bare_equal(&change->items[j].jid, &item.jid))
				return false;
		item.before = affiliate ? affiliate->affiliation : ROOM_NONE;
		/* §9.1: the nick of an outcast is free; else who names none leaves it as it is */
		if (item.after == ROOM_OUTCAST)
			item.nick = IRIS_STR_NONE;
		else if (str_is_none(item.nick) && affiliate && item.after != ROOM_NONE)
			item.nick = str_from(affiliate->nick);
		if (item.before != item.after || !str_is_empty(item.reason) ||
		    !str_equal(item.nick, str_from(affiliate ? affiliate->nick : NULL)))
			change->items[kept++] = item;
	}
	change->count = kept;
	return true;
}

/* SECURITY: here, where nothing changes any more, and not only when it was asked for. */
static enum iris_condition
change_judge_items(const struct room_change *change)
{
	const struct room_policy *policy = room_policy(change->room);
	struct room_actor actor = { .affiliation = room_affiliation(change->room, &change->by) };
	enum iris_condition condition = IRIS_NO_ERROR;

	for (size_t i = 0; i < change->count && condition == IRIS_NO_ERROR; i++) {
		const struct room_affiliate_change *item = &change->items[i];

		if (policy && policy->admins_promote && actor.affiliation >= ROOM_ADMIN &&
		    item->before == ROOM_MEMBER && item->after == ROOM_ADMIN)
			continue;
		condition = judge_affiliation(&actor, item->before, item->after,
					      jid_bare_equal(&item->jid, &change->by));
	}
	return condition;
}

/* §7.10: a nick is reserved once; what another of the items gives up is not free yet. */
static bool
change_nicks_are_free(const struct room_change *change)
{
	for (size_t i = 0; i < change->count; i++) {
		const struct room_affiliate_change *item = &change->items[i];
		const struct room_affiliate *holder =
			str_is_empty(item->nick) ? NULL :
						   room_affiliate_by_nick(change->room, item->nick);

		if (holder && !jid_bare_equal(&holder->jid, &item->jid))
			return false;
		for (size_t j = 0; j < i; j++)
			if (item->nick.len > 0 &&
			    str_equal(change->items[j].nick, item->nick))
				return false;
	}
	return true;
}

static enum iris_condition
change_check_counts(const struct room_change *change, const char **text_r)
{
	const struct room *room = change->room;
	size_t owners = room->affiliation_counts[ROOM_OWNER], all = room->affiliates.count;

	for (size_t i = 0; i < change->count; i++) {
		const struct room_affiliate_change *item = &change->items[i];

		owners += (item->after == ROOM_OWNER);
		owners -= (item->before == ROOM_OWNER);
		all += !room_affiliate(room, jid_bare(&item->jid)) && item->after != ROOM_NONE;
	}
	if (jid_is_none(&change->by)) /* the server knows what it does */
		return IRIS_NO_ERROR;
	if (owners == 0 && room->affiliation_counts[ROOM_OWNER] > 0) {
		*text_r = "A room must have an owner"; /* §10.4 */
		return IRIS_CONFLICT;
	}
	if (all > room->affiliates.count &&
	    all > (size_t)option_int(&rooms_self, OPT_MAX_AFFILIATES)) {
		*text_r = "The room has as many members as it may have";
		return IRIS_RESOURCE_CONSTRAINT;
	}
	return IRIS_NO_ERROR;
}

static enum iris_condition
change_judge(struct room_change *change, const char **text_r)
{
	const struct room_policy *policy = room_policy(change->room);
	enum iris_condition condition = IRIS_NO_ERROR;

	if (!room_exists(change->room))
		return IRIS_ITEM_NOT_FOUND;
	if (transit_is_on())
		return room_refuse_transit(text_r);
	if (!change_prepare(change))
		return IRIS_BAD_REQUEST;
	if (change->is_judged)
		condition = change_judge_items(change);
	if (condition != IRIS_NO_ERROR)
		return condition;
	if (change->count > 0 && policy && policy->judge_change && !jid_is_none(&change->by)) {
		condition = policy->judge_change(change, text_r);
		if (condition == IRIS_NO_ERROR && !change_prepare(change))
			condition = IRIS_BAD_REQUEST;
	}
	if (condition == IRIS_NO_ERROR && !change_nicks_are_free(change))
		condition = IRIS_CONFLICT;
	return condition == IRIS_NO_ERROR ? change_check_counts(change, text_r) : condition;
}

/* A message of the room with <x/> in it. */
static struct iris_stanza *
notice_new(const struct room *room, struct iris_element **x_r)
{
	struct iris_stanza *notice = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);

	stanza_set_from(notice, &room->jid);
	*x_r = element_add(notice->root, "x", NS_MUC_USER);
	return notice;
}

static void
add_item(struct iris_element *x, const struct iris_jid *jid, enum room_affiliation affiliation)
{
	struct iris_element *item = element_add(x, "item", NULL);

	element_set(item, "jid", jid_bare(jid));
	element_set(item, "affiliation", str_from(room_affiliation_name(affiliation)));
}

/*
 * What is told of those who are not in, to who may see addresses (§9, §10; 0463): NULL: nothing. Of
 * the others their presence tells, also when they are put out now.
 */
static struct iris_stanza *
notice_of_absent(const struct room_change *change, int64_t before)
{
	struct room *room = change->room;
	struct iris_element *x;
	struct iris_stanza *notice;

	if (room->member_count == 0)
		return NULL;
	notice = notice_new(room, &x);
	affiliation_add_version(x, room, before);
	for (size_t i = 0; i < change->count; i++)
		if (!occupant_of(room, &change->items[i].jid))
			add_item(x, &change->items[i].jid, change->items[i].after);
	if (!element_child(x, "item", NULL))
		stanza_unref(&notice);
	return notice;
}

/* Who may enter from now on, and is not in, is told: nobody else would. */
static void
tell_new_members(const struct room_change *change)
{
	struct room *room = change->room;

	for (size_t i = 0; i < change->count; i++) {
		const struct room_affiliate_change *item = &change->items[i];
		struct iris_stanza *notice;
		struct iris_element *x;

		if (item->after < ROOM_MEMBER || item->before >= ROOM_MEMBER ||
		    !room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] || !item->jid.node_len ||
		    jid_bare_equal(&item->jid, &change->by) || occupant_of(room, &item->jid))
			continue;
		notice = notice_new(room, &x);
		stanza_set_to(notice, &item->jid);
		add_item(x, &item->jid, item->after);
		if (!str_is_empty(item->reason))
			element_add_text(element_child(x, "item", NULL), "reason", NULL,
					 item->reason);
		route_stanza(&notice, NULL);
	}
}

static enum iris_condition
change_make(struct room_change *change)
{
	struct room *room = change->room;
	int64_t before = room->version, version = before + 1;
	struct iris_stanza *notice;

	if (change->count == 0)
		return IRIS_NO_ERROR;
	if (!store_room_change(change, version))
		return IRIS_RESOURCE_CONSTRAINT;
	remember_removals(change, version);
	room->version = version;
	for (size_t i = 0; i < change->count; i++) {
		const struct room_affiliate_change *item = &change->items[i];

		room_affiliate_set(room, &item->jid, item->after, item->nick, item->reason,
				   version);
	}
	notice = notice_of_absent(change, before);
	occupants_follow_change(change);
	if (notice)
		fan_out(room, &notice, ROOM_SEEING, NULL, NULL);
	tell_new_members(change);
	return IRIS_NO_ERROR;
}

enum iris_condition
room_change(struct room_change *change, const char **text_r)
{
	struct room *room = change->room;
	const struct room_policy *policy = room_policy(room);
	enum iris_condition condition;

	*text_r = NULL;
	fiber_lock(jid_bare(&room->jid));
	condition = change_judge(change, text_r);
	if (condition == IRIS_NO_ERROR)
		condition = change_make(change);
	fiber_unlock(jid_bare(&room->jid));
	if (condition == IRIS_NO_ERROR && change->count > 0 && policy && policy->changed)
		policy->changed(change);
	return condition;
}

/* --- XEP-0463: versions --- */

static struct iris_str
version_text(struct iris_arena *arena, const struct room *room, int64_t version)
{
	return log_id_seal(arena, room->id, version);
}

void
affiliation_add_version(struct iris_element *x, const struct room *room, int64_t since)
{
	struct iris_element *mav = element_add(x, "mav", NS_MAV);

	if (since >= 0)
		element_set(mav, "since", version_text(x->arena, room, since));
	element_set(mav, "until", version_text(x->arena, room, room->version));
}

struct version_item {
	struct iris_jid jid;
	enum room_affiliation affiliation;
	int64_t version;
};

struct version_list {
	struct version_item *items;
	size_t count;
};

static int
by_version(const void *a, const void *b)
{
	const struct version_item *left = a, *right = b;

	return (left->version > right->version) - (left->version < right->version);
}

static void
list_removed(const struct room *room, int64_t since, struct version_list *list)
{
	const struct room_removals *removals = room->removals;

	for (size_t i = 0; removals && i < removals->count; i++) {
		const struct removal *removal =
			&removals->entries[(removals->first + i) % REMOVALS_MAX];
		struct version_item *item = &list->items[list->count];

		if (removal->version <= since || room_affiliate(room, str_from(removal->jid)))
			continue;
		item->jid = jid_from_prepared(str_from(removal->jid));
		item->affiliation = ROOM_NONE;
		item->version = removal->version;
		list->count++;
	}
}

/* In order of versions. since < 0: all, without who has none. */
static struct version_list
list_changes(const struct room *room, int64_t since, bool with_outcasts, struct iris_arena *arena)
{
	size_t most = room->affiliates.count + REMOVALS_MAX;
	struct version_list list = { arena_alloc(arena, most * sizeof(*list.items)), 0 };

	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);
		struct version_item *item = &list.items[list.count];
		enum room_affiliation affiliation = affiliate->affiliation;

		if (affiliation == ROOM_OUTCAST && !with_outcasts)
			affiliation = ROOM_NONE;
		if (affiliate->version <= since || (since < 0 && affiliation == ROOM_NONE))
			continue;
		item->jid = affiliate->jid;
		item->affiliation = affiliation;
		item->version = affiliate->version;
		list.count++;
	}
	if (since >= 0)
		list_removed(room, since, &list);
	qsort(list.items, list.count, sizeof(*list.items), by_version);
	return list;
}

/* The version that is known with these: of the last, unless there is more of it. */
static int64_t
list_known(const struct room *room, const struct version_list *list, size_t end)
{
	int64_t last;

	if (end == list->count)
		return room->version;
	last = list->items[end - 1].version;
	return list->items[end].version == last ? last - 1 : last;
}

static void
send_list(struct room *room, const struct iris_jid *full, int64_t since,
	  const struct version_list *list)
{
	size_t sent = 0;

	do {
		size_t end = list->count - sent > CHANGES_PER_MESSAGE ? sent + CHANGES_PER_MESSAGE :
									list->count;
		int64_t until = list_known(room, list, end);
		struct iris_element *x, *mav;
		struct iris_stanza *message = notice_new(room, &x);

		mav = element_add(x, "mav", NS_MAV);
		if (since >= 0)
			element_set(mav, "since", version_text(x->arena, room, since));
		element_set(mav, "until", version_text(x->arena, room, until));
		for (; sent < end; sent++)
			add_item(x, &list->items[sent].jid, list->items[sent].affiliation);
		since = until;
		stanza_set_to(message, full);
		route_stanza(&message, NULL);
	} while (sent < list->count);
}

static void
refuse_changes(const struct room *room, const struct iris_jid *full)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_ERROR);
	struct iris_element *error = element_add(message->root, "error", NULL);

	element_set(error, "type", IRIS_STR("auth"));
	element_add(error, "forbidden", NS_STANZAS);
	stanza_set_from(message, &room->jid);
	stanza_set_to(message, full);
	route_stanza(&message, NULL);
}

void
affiliation_send_changes(struct room *room, const struct iris_jid *full,
			 const struct iris_element *mav)
{
	int64_t floor = room->removals ? room->removals->floor : room->version, since;
	struct version_list list;
	struct iris_arena *arena;

	if (!mav)
		return;
	if (!affiliation_may_list(room, full)) {
		refuse_changes(room, full);
		return;
	}
	if (!log_id_open(element_get(mav, "since"), room->id, &since) || since < floor ||
	    since > room->version)
		since = -1;
	if (since == room->version)
		return;
	arena = arena_new();
	list = list_changes(room, since, room_affiliation(room, full) >= ROOM_ADMIN, arena);
	send_list(room, full, since, &list);
	arena_unref(&arena);
}
