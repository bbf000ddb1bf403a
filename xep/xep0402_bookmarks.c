/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0402 1.2: PEP Native Bookmarks, in step with the older ways of keeping them: the list of
 * XEP-0048 at the node "storage:bookmarks" (§5.1 #compat-pep), which is also what private XML has
 * (XEP-0049, #compat).  Home worker of the account, on a fiber.
 *
 * A change of one is made in the other; what a list cannot hold (extensions) stays with the item,
 * what items cannot hold (bookmarks of web pages) stays in the list.
 */
#include "modules/pubsub/pubsub.h"
#include "xep/xep0049_private.h"
#include "xep/xep0402_bookmarks.h"

#define NS_BOOKMARKS "urn:xmpp:bookmarks:1"
#define NS_STORAGE "storage:bookmarks"
#define BOOKMARKS_MAX 1000

static struct iris_module_self bookmarks_self;

/* --- one bookmark, both ways --- */

static bool
is_true(struct iris_str value)
{
	return str_is(value, "true") || str_is(value, "1");
}

/* <nick/> and <password/>, in the namespace of their parent. */
static void
copy_texts(struct iris_element *to, const struct iris_element *from)
{
	static const char *const names[] = { "nick", "password" };

	for (size_t i = 0; i < IRIS_COUNT(names); i++) {
		struct iris_element *child = element_child(from, names[i], NULL);

		if (child)
			element_add_text(to, names[i], NULL, element_get_text(child));
	}
}

static void
copy_attributes(struct iris_element *to, const struct iris_element *from)
{
	element_set(to, "name", element_get(from, "name"));
	if (is_true(element_get(from, "autojoin")))
		element_set(to, "autojoin", IRIS_STR("true"));
}

static void
add_to_list(struct iris_element *list, const struct pubsub_found *item)
{
	struct iris_element *conference = element_add(list, "conference", NULL);

	element_set(conference, "jid", item->id);
	copy_attributes(conference, item->payload);
	copy_texts(conference, item->payload);
}

/* before: the item as it was, or NULL. */
static struct iris_element *
item_of(struct iris_arena *arena, const struct iris_element *conference,
	const struct iris_element *before)
{
	struct iris_element *item = element_new(arena, "conference", NS_BOOKMARKS);
	struct iris_element *extensions =
		before ? element_child(before, "extensions", NS_BOOKMARKS) : NULL;

	copy_attributes(item, conference);
	copy_texts(item, conference);
	if (extensions)
		element_append(item, element_copy(arena, extensions));
	return item;
}

static bool
same_text(const struct iris_element *a, const struct iris_element *b, const char *name)
{
	return str_equal(element_child_text(a, name, NULL), element_child_text(b, name, NULL));
}

static bool
is_same(const struct iris_element *conference, const struct iris_element *item)
{
	return str_equal(element_get(conference, "name"), element_get(item, "name")) &&
	       is_true(element_get(conference, "autojoin")) ==
		       is_true(element_get(item, "autojoin")) &&
	       same_text(conference, item, "nick") && same_text(conference, item, "password");
}

/* --- from items to the list --- */

static struct iris_element *
list_load(struct iris_user *user, struct iris_arena *arena)
{
	struct pubsub_found *items;
	size_t count;

	if (!pubsub_items(user, NS_STORAGE, 1, arena, &items, &count) || count == 0 ||
	    !items[0].payload || !element_is(items[0].payload, "storage", NS_STORAGE))
		return NULL;
	return items[0].payload;
}

static void
list_publish(struct iris_user *user, const struct iris_element *list)
{
	const struct pubsub_publication publication = {
		.user = user, .node = NS_STORAGE, .item = IRIS_STR("current"), .payload = list,
	};

	/* Too many for one list: clients that know nothing else see the list as it was. */
	if (pubsub_publish(&publication) != IRIS_NO_ERROR)
		LOG(IRIS_LOG_INFO, "xep0402", "list-not-published",
		    LOG_JID("jid", jid_bare(&user->jid)));
}

/* The list as it follows from the items; what is no room stays in it. */
static void
list_follow(struct iris_user *user, struct iris_arena *arena, const struct pubsub_found *items,
	    size_t count)
{
	struct iris_element *list = element_new(arena, "storage", NS_STORAGE);
	struct iris_element *before = list_load(user, arena);

	if (before)
		ELEMENT_FOREACH(child, before)
			if (!element_is(child, "conference", NS_STORAGE))
				element_append(list, element_copy(arena, child));
	for (size_t i = 0; i < count; i++)
		if (items[i].payload && element_is(items[i].payload, "conference", NS_BOOKMARKS))
			add_to_list(list, &items[i]);
	list_publish(user, list);
}

/* Items and list are read, and one of them is written: two at once would make a third one. */
static struct iris_str
bookmarks_lock(struct iris_user *user, struct iris_arena *arena)
{
	struct iris_str lock = arena_printf(arena, "bookmarks %.*s",
					    IRIS_STR_FMT(jid_bare(&user->jid)));

	fiber_lock(lock);
	return lock;
}

/* §5.2: somebody has changed an item. */
static void
bookmarks_changed(const struct pubsub_change *change)
{
	struct iris_str lock = bookmarks_lock(change->user, change->arena);
	struct pubsub_found *items;
	size_t count;

	if (pubsub_items(change->user, NS_BOOKMARKS, BOOKMARKS_MAX, change->arena, &items,
			 &count))
		list_follow(change->user, change->arena, items, count);
	fiber_unlock(lock);
}

/* --- from the list to items --- */

struct listed { /* a bookmark of the new list, by its room */
	struct iris_hash_node node;
	const struct iris_element *conference;
	const struct iris_element *before;
};

/* The last one counts where a room is there twice. */
static void
list_read(struct iris_arena *arena, const struct iris_element *list, struct iris_hash *rooms)
{
	struct iris_element *conference = element_child(list, "conference", NS_STORAGE);

	for (; conference && rooms->count < BOOKMARKS_MAX;
	     conference = element_next(conference, "conference", NS_STORAGE)) {
		struct iris_hash_node *known;
		struct listed *listed;
		struct iris_jid jid;

		if (!jid_parse(arena, element_get(conference, "jid"), &jid))
			continue;
		known = hash_find(rooms, jid_full(&jid));
		listed = known ? IRIS_CONTAINER(known, struct listed, node) :
				 ARENA_NEW(arena, struct listed);
		listed->conference = conference;
		if (!known)
			hash_insert(rooms, &listed->node, jid_full(&jid));
	}
}

/* Items that are not in the list go; those that are, are remembered there. */
static enum iris_condition
items_compare(struct iris_user *user, struct iris_arena *arena, struct iris_hash *rooms)
{
	enum iris_condition condition = IRIS_NO_ERROR;
	struct pubsub_found *items;
	size_t count;

	if (!pubsub_items(user, NS_BOOKMARKS, BOOKMARKS_MAX, arena, &items, &count))
		return IRIS_INTERNAL_SERVER_ERROR;
	for (size_t i = 0; i < count && condition == IRIS_NO_ERROR; i++) {
		struct iris_hash_node *found = hash_find(rooms, items[i].id);

		if (found)
			IRIS_CONTAINER(found, struct listed, node)->before = items[i].payload;
		else
			condition = pubsub_retract(user, NS_BOOKMARKS, items[i].id);
		if (condition == IRIS_ITEM_NOT_FOUND) /* somebody was faster */
			condition = IRIS_NO_ERROR;
	}
	return condition;
}

/* §5.2: nobody is told of what has not changed. */
static enum iris_condition
items_publish(struct iris_user *user, struct iris_arena *arena, struct iris_hash *rooms)
{
	enum iris_condition condition = IRIS_NO_ERROR;

	HASH_FOREACH(found, rooms) {
		const struct listed *listed = IRIS_CONTAINER(found, struct listed, node);
		const struct pubsub_publication publication = {
			.user = user, .node = NS_BOOKMARKS, .item = found->key,
			.payload = item_of(arena, listed->conference, listed->before),
		};

		if (condition == IRIS_NO_ERROR &&
		    !(listed->before && is_same(listed->conference, listed->before)))
			condition = pubsub_publish(&publication);
		hash_remove(rooms, found);
	}
	return condition;
}

static enum iris_condition
items_replace(struct iris_user *user, struct iris_arena *arena, const struct iris_element *list)
{
	struct iris_str lock = bookmarks_lock(user, arena);
	struct iris_hash rooms = { .count = 0 };
	enum iris_condition condition;

	list_read(arena, list, &rooms);
	condition = items_compare(user, arena, &rooms);
	if (condition == IRIS_NO_ERROR)
		condition = items_publish(user, arena, &rooms);
	fiber_unlock(lock);
	HASH_FOREACH(found, &rooms)
		hash_remove(&rooms, found);
	hash_free(&rooms);
	return condition;
}

static void
list_changed(const struct pubsub_change *change)
{
	/* Whoever deletes the node takes back a list, not the bookmarks. */
	if (change->payload && element_is(change->payload, "storage", NS_STORAGE) &&
	    items_replace(change->user, change->arena, change->payload) != IRIS_NO_ERROR)
		LOG(IRIS_LOG_WARNING, "xep0402", "list-not-taken-over",
		    LOG_JID("jid", jid_bare(&change->user->jid)));
}

/* --- for other plug-ins --- */

static struct pubsub_found *
item_find(struct pubsub_found *items, size_t count, struct iris_str room)
{
	for (size_t i = 0; i < count; i++)
		if (str_equal(items[i].id, room) && items[i].payload)
			return &items[i];
	return NULL;
}

static struct iris_element *
item_named(struct iris_arena *arena, const struct pubsub_found *before, struct iris_str name)
{
	struct iris_element *item =
		before ? element_copy(arena, before->payload) :
			 element_new(arena, "conference", NS_BOOKMARKS);

	element_set(item, "name", name);
	if (!before)
		element_set(item, "autojoin", IRIS_STR("true"));
	return item;
}

static enum iris_condition
put_locked(struct iris_user *user, struct iris_arena *arena, struct pubsub_found *bookmark,
	   bool make)
{
	struct pubsub_publication publication = {
		.user = user, .node = NS_BOOKMARKS, .item = bookmark->id,
	};
	struct pubsub_found *items, *all, *found;
	enum iris_condition condition;
	struct iris_str name = element_get(bookmark->payload, "name");
	size_t count;

	if (!pubsub_items(user, NS_BOOKMARKS, BOOKMARKS_MAX, arena, &items, &count))
		return IRIS_INTERNAL_SERVER_ERROR;
	found = item_find(items, count, bookmark->id);
	if (!found && !make)
		return IRIS_ITEM_NOT_FOUND;
	if (found && str_equal(element_get(found->payload, "name"), name))
		return IRIS_NO_ERROR;
	bookmark->payload = item_named(arena, found, name);
	publication.payload = bookmark->payload;
	condition = pubsub_publish(&publication);
	if (condition != IRIS_NO_ERROR)
		return condition;
	all = arena_alloc(arena, (count + 1) * sizeof(*all));
	for (size_t i = 0; i < count; i++)
		all[i] = &items[i] == found ? *bookmark : items[i];
	if (!found)
		all[count++] = *bookmark;
	list_follow(user, arena, all, count);
	return IRIS_NO_ERROR;
}

enum iris_condition
bookmark_put(struct iris_user *user, const struct iris_jid *room, struct iris_str name, bool make)
{
	struct iris_arena *arena = arena_new();
	struct pubsub_found bookmark = { jid_bare(room), item_named(arena, NULL, name) };
	struct iris_str lock = bookmarks_lock(user, arena);
	enum iris_condition condition = put_locked(user, arena, &bookmark, make);

	fiber_unlock(lock);
	arena_unref(&arena);
	return condition;
}

enum iris_condition
bookmark_remove(struct iris_user *user, const struct iris_jid *room)
{
	struct iris_arena *arena = arena_new();
	struct iris_str lock = bookmarks_lock(user, arena);
	enum iris_condition condition = pubsub_retract(user, NS_BOOKMARKS, jid_bare(room));
	struct pubsub_found *items;
	size_t count;

	if (condition == IRIS_NO_ERROR &&
	    pubsub_items(user, NS_BOOKMARKS, BOOKMARKS_MAX, arena, &items, &count))
		list_follow(user, arena, items, count);
	fiber_unlock(lock);
	arena_unref(&arena);
	return condition;
}

/* --- private XML (XEP-0049) --- */

static bool
private_get(struct iris_request *request, struct iris_element **element_r)
{
	*element_r = list_load(request->user, request->arena);
	return true;
}

static enum iris_condition
private_set(struct iris_request *request, struct iris_element *element)
{
	const struct pubsub_publication publication = {
		.user = request->user, .node = NS_STORAGE, .item = IRIS_STR("current"),
		.payload = element,
	};
	enum iris_condition condition = pubsub_publish(&publication);

	return condition == IRIS_NO_ERROR ?
		       items_replace(request->user, request->arena, element) :
		       condition;
}

static struct private_view bookmarks_view = {
	.name = "{" NS_STORAGE "}storage", .get = private_get, .set = private_set,
};

/* SECURITY: private also for a client that forgets to say so (XEP-0223). */
#define PRIVATE "access_model=whitelist\nsend_last_published_item=never\n"

static struct pubsub_preset bookmarks_preset = {
	.node = NS_BOOKMARKS, .config = PRIVATE "max_items=max\n", .changed = bookmarks_changed,
};

static struct pubsub_preset list_preset = {
	.node = NS_STORAGE, .config = PRIVATE, .changed = list_changed,
};

static bool
bookmarks_start(struct iris_error *error)
{
	pubsub_preset_add(&bookmarks_preset);
	pubsub_preset_add(&list_preset);
	private_view_add(&bookmarks_view);
	return true;
}

static void
bookmarks_stop(void)
{
	private_view_remove(&bookmarks_view);
	pubsub_preset_remove(&list_preset);
	pubsub_preset_remove(&bookmarks_preset);
}

static const struct iris_feature bookmarks_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_BOOKMARKS "#compat" },
	{ IRIS_DISCO_ACCOUNT, NS_BOOKMARKS "#compat-pep" },
	{ .var = NULL },
};

const struct iris_module iris_module_xep0402 = {
	IRIS_MODULE_HEAD,
	.name = "xep0402",
	.summary = "PEP Native Bookmarks",
	.xep = "XEP-0402 1.2.0, XEP-0048 1.2",
	.needs = IRIS_NAMES("pubsub", "xep0049", "xep0163"),
	.self = &bookmarks_self,
	.features = bookmarks_features,
	.not_unloadable = true, /* the bookmarks would be in step no longer */
	.start = bookmarks_start,
	.stop = bookmarks_stop,
};
