/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is owed to members (README): who works on it, when, and again.  At the home of the bubble;
 * what is done for a member is done at the member's home.  Once a minute a fiber of the main thread
 * looks for bubbles with notices that are due and that nobody has in hand.
 *
 * It does not decide who is a member: it looks at the bubble as it is.
 */
#include <stdlib.h>

#include "modules/bubbles/notices_private.h"
#include "xep/xep0402_bookmarks.h"

#define INTENT_MS 60000         /* until then what was meant has been done, or never will be */
#define DELETION_MS 86400000    /* the same of a deletion, which may have a long history to erase */
#define SWEEP_MS 60000
#define AT_ONCE 8               /* members, of one bubble */
#define BATCH 200               /* rows in one transaction */
#define TRIES_MAX 12
#define PAUSE_MS 5000           /* before the second try; doubled with each */

struct waiting { /* a bubble with notices, in the queue of its home */
	struct iris_hash_node node;
	TAILQ_ENTRY(waiting) link;
	struct iris_jid address;
	char text[];
};
TAILQ_HEAD(waiting_queue, waiting);

static struct notices_home {
	struct iris_hash by_address;
	struct waiting_queue queue;
	bool running;
} notices_homes[WORKER_LIMIT];

static struct iris_timer sweep_timer; /* main thread */
static bool sweeping;

enum notice_end { NOTICE_IS_DONE, NOTICE_LATER };

/* --- at the member's home --- */

struct settling {
	const struct notice *notice;
	bool is_member;
	struct iris_str name; /* of the bubble, now */
	enum notice_end end;
};

static enum notice_end
end_of(enum iris_condition condition, const struct notice *notice)
{
	if (condition == IRIS_INTERNAL_SERVER_ERROR || condition == IRIS_RESOURCE_CONSTRAINT)
		return NOTICE_LATER;
	if (condition != IRIS_NO_ERROR && condition != IRIS_ITEM_NOT_FOUND)
		LOG(IRIS_LOG_INFO, "bubbles", "no-bookmark",
		    LOG_JID("jid", jid_bare(&notice->member)),
		    LOG_CSTR("reason", condition_name(condition)));
	return NOTICE_IS_DONE;
}

static void
settle_at_home(void *arg)
{
	struct settling *settling = arg;
	const struct notice *notice = settling->notice;
	struct iris_account account;
	struct iris_user *user;

	settling->end = NOTICE_LATER;
	if (!accounts()->find(&notice->member, &account))
		return;
	user = account.id != 0 ? user_get(&notice->member) : NULL;
	if (!user) {
		settling->end = account.id != 0 ? NOTICE_LATER : NOTICE_IS_DONE;
		return;
	}
	settling->end = end_of(settling->is_member ?
				       bookmark_put(user, &notice->address, settling->name,
						    notice->kind != NOTICE_NAME) :
				       bookmark_remove(user, &notice->address),
			       notice);
	user_release(&user);
}

/* --- the word that a bubble is gone --- */

struct telling {
	struct iris_wait wait;
	bool failed;
};

static void
told(void *arg, bool failed)
{
	struct telling *telling = arg;

	telling->failed = failed;
	wait_done(&telling->wait);
}

static struct iris_stanza *
farewell(const struct notice *notice)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_arena *arena = message->arena;
	struct iris_str name = str_is_empty(notice->former) ? jid_node(&notice->address) :
							      notice->former;

	stanza_set_from(message, &notice->address);
	stanza_set_to(message, &notice->member);
	stanza_set_id(message, random_id(arena, 72));
	element_add_text(message->root, "body", NULL,
			 arena_printf(arena, "The bubble \"%.*s\" was deleted.",
				      IRIS_STR_FMT(name)));
	element_add(element_add(message->root, "x", NS_MUC_USER), "destroy", NULL);
	return message;
}

/* It is said when it is kept where it is to be kept. */
static enum notice_end
say_farewell(const struct notice *notice)
{
	struct telling telling = { .failed = false };
	struct iris_stanza *message = farewell(notice);
	struct iris_ticket *ticket;

	wait_init(&telling.wait);
	ticket = ticket_new(told, &telling);
	route_stanza(&message, ticket);
	ticket_unref(&ticket);
	wait_for(&telling.wait, "bubbles: farewell");
	return telling.failed ? NOTICE_LATER : NOTICE_IS_DONE;
}

/* --- one notice, at the home of the bubble --- */

/* What the bubble says today of the one that the notice is about. gone_r: it is not that bubble. */
static bool
look(const struct notice *notice, struct iris_arena *arena, struct settling *settling,
     bool *gone_r)
{
	struct room *room;
	enum iris_place_found found = room_seek(&notice->address, &room);

	*gone_r = found == IRIS_PLACE_NOBODY;
	if (found != IRIS_PLACE_FOUND)
		return found == IRIS_PLACE_NOBODY;
	*gone_r = notice->room != 0 && notice->room != room_id(room);
	settling->is_member = room_affiliation(room, &notice->member) >= ROOM_MEMBER;
	settling->name = arena_copy_str(arena, room_name(room));
	room_release(&room);
	return true;
}

static enum notice_end
settle(const struct notice *notice)
{
	struct settling settling = { .notice = notice, .end = NOTICE_IS_DONE };
	struct iris_arena *arena = arena_new();
	bool gone;

	if (!look(notice, arena, &settling, &gone))
		settling.end = NOTICE_LATER;
	else if (bubbles_is_ours(&notice->member))
		home_call(jid_bare(&notice->member), "bubbles: bookmark", settle_at_home,
			  &settling);
	arena_unref(&arena);
	if (settling.end == NOTICE_IS_DONE && notice->kind == NOTICE_DELETED && gone &&
	    notice->is_outside)
		return say_farewell(notice);
	return settling.end;
}

/* --- a notice for all members becomes one for each --- */

struct listing {
	struct iris_arena *arena;
	struct iris_jid *members;
	size_t count;
	bool only_local;
};

static void
list_member(const struct iris_jid *bare, enum room_affiliation affiliation, struct iris_str nick,
	    void *arg)
{
	struct listing *listing = arg;

	if (affiliation >= ROOM_MEMBER && (bubbles_is_ours(bare) || !listing->only_local))
		listing->members[listing->count++] = jid_copy(listing->arena, bare);
}

static void
list_members(struct room *room, struct listing *listing)
{
	size_t most = 0;

	for (unsigned i = ROOM_MEMBER; i < ROOM_AFFILIATION_COUNT; i++)
		most += room_affiliation_count(room, (enum room_affiliation)i);
	listing->members = arena_alloc(listing->arena, most * sizeof(*listing->members));
	room_affiliates_each(room, list_member, listing);
}

/* One row for each, as `like` is, in several transactions: all of it can be done again. */
static bool
put_each(const struct notice *like, const struct listing *listing, int64_t due,
	 const struct iris_hash *inside)
{
	bool put = true;

	for (size_t first = 0; first < listing->count && put; first += BATCH) {
		struct iris_batch *batch = batch_new(like->owner);

		for (size_t i = first; i < listing->count && i < first + BATCH; i++) {
			struct notice notice = *like;
			struct notice_values values;

			notice.member = listing->members[i];
			notice.is_outside = inside && !hash_find(inside, jid_bare(&notice.member));
			notice_values_make(&notice, due, &values);
			batch_add(batch, &notice_query_put, values.values);
		}
		put = batch_write(&batch) == IRIS_VAULT_OK;
	}
	return put;
}

static bool
spread_to(const struct notice *notice, struct room *room)
{
	struct listing listing = { .arena = arena_new(), .only_local = true };
	struct notice like = { .address = notice->address, .room = room_id(room),
			       .owner = notice->owner, .kind = notice->kind };
	bool spread = notice_force(notice);

	list_members(room, &listing);
	spread = spread && put_each(&like, &listing, 0, NULL);
	arena_unref(&listing.arena);
	return spread;
}

/* The name is what it was: somebody has looked at the form, or has thought better of it. */
static enum notice_end
spread(const struct notice *notice)
{
	struct room *room;
	enum iris_place_found found = room_seek(&notice->address, &room);
	bool done;

	if (found != IRIS_PLACE_FOUND)
		return found == IRIS_PLACE_NOBODY ? NOTICE_IS_DONE : NOTICE_LATER;
	done = (!str_is_none(notice->former) && str_equal(notice->former, room_name(room))) ||
	       spread_to(notice, room);
	room_release(&room);
	return done ? NOTICE_IS_DONE : NOTICE_LATER;
}

/* --- a page of a bubble's notices --- */

struct page { /* lives with the fiber that waits for it */
	struct notice_list *list;
	size_t next;
	unsigned running;
	bool is_stuck; /* the vault takes nothing: the sweep goes on with it */
	struct iris_wait done;
};

static bool
end_notice(const struct notice *notice, enum notice_end end)
{
	if (end == NOTICE_LATER && notice->tries < TRIES_MAX) {
		bubbles_count(METRIC_NOTICES_PUT_OFF);
		return notice_put_off(notice, worker_wall_ms() +
						      ((int64_t)PAUSE_MS << notice->tries));
	}
	if (end == NOTICE_LATER)
		LOG(IRIS_LOG_WARNING, "bubbles", "notice-given-up",
		    LOG_JID("bubble", jid_bare(&notice->address)),
		    LOG_CSTR("hint", "a bookmark of a member is not what it should be"));
	bubbles_count(end == NOTICE_LATER ? METRIC_NOTICES_GIVEN_UP : METRIC_NOTICES_DONE);
	return notice_done(notice);
}

static void
work_on_page(void *arg)
{
	struct page *page = arg;

	while (page->next < page->list->count && !worker_is_stopping()) {
		const struct notice *notice = &page->list->notices[page->next++];
		bool for_all = jid_is_none(&notice->member);

		if (!end_notice(notice, for_all ? spread(notice) : settle(notice)))
			page->is_stuck = true;
		else if (for_all)
			page->list->is_full = true;
	}
	if (--page->running == 0)
		wait_done(&page->done);
}

/* True: there is more. */
static bool
work_on(const struct iris_jid *address)
{
	struct iris_arena *arena = arena_new();
	struct page page = { .list = ARENA_NEW(arena, struct notice_list), .running = 1 };
	bool more;

	page.list->arena = arena;
	if (!notice_rows_due(address, page.list)) {
		arena_unref(&arena);
		return false;
	}
	wait_init(&page.done);
	for (size_t i = 1; i < page.list->count && i < AT_ONCE; i++) {
		page.running++;
		if (!fiber_start_spare("bubbles: notice", work_on_page, &page))
			page.running--;
	}
	work_on_page(&page);
	wait_for(&page.done, "bubbles: notices");
	more = page.list->is_full && !page.is_stuck;
	arena_unref(&arena);
	return more;
}

/* --- the queue of a worker --- */

static void
enqueue(struct notices_home *home, const struct iris_jid *address)
{
	struct iris_str bare = jid_bare(address);
	struct waiting *waiting;

	if (hash_find(&home->by_address, bare))
		return;
	waiting = iris_malloc(sizeof(*waiting) + bare.len + 1);
	memcpy(waiting->text, bare.base, bare.len);
	waiting->text[bare.len] = '\0';
	waiting->address = jid_from_prepared((struct iris_str){ waiting->text, bare.len });
	hash_insert(&home->by_address, &waiting->node, jid_bare(&waiting->address));
	if (!home->queue.tqh_last)
		TAILQ_INIT(&home->queue);
	TAILQ_INSERT_TAIL(&home->queue, waiting, link);
}

/* Once it is out of the queue, whoever wakes the bubble puts it there again. */
static struct waiting *
dequeue(struct notices_home *home)
{
	struct waiting *first = home->queue.tqh_last ? TAILQ_FIRST(&home->queue) : NULL;

	if (first) {
		TAILQ_REMOVE(&home->queue, first, link);
		hash_remove(&home->by_address, &first->node);
	}
	return first;
}

static void
work(void *arg)
{
	struct notices_home *home = arg;
	struct waiting *waiting;

	transit_leave();
	while (!worker_is_stopping() && (waiting = dequeue(home)) != NULL) {
		if (work_on(&waiting->address))
			enqueue(home, &waiting->address);
		free(waiting);
	}
	home->running = false;
}

void
notices_wake(const struct iris_jid *address)
{
	struct notices_home *home = &notices_homes[worker_index()];

	enqueue(home, address);
	if (home->running)
		return;
	home->running = true;
	if (!fiber_start_spare("bubbles: notices", work, home))
		home->running = false; /* the next one who wakes, or the sweep */
}

/* --- what others owe --- */

static struct notice
notice_of(struct room *room, const struct iris_jid *member, enum notice_kind kind)
{
	struct notice notice = {
		.address = *room_jid(room), .room = room_id(room), .owner = room_owner(room),
		.kind = kind,
	};

	if (notice.owner == 0) /* it is being made */
		notice.owner = IRIS_OWNER_DEFAULT;
	if (member)
		notice.member = *member;
	if (kind != NOTICE_MEMBERSHIP)
		notice.former = str_is_none(room_name(room)) ? IRIS_STR("") : room_name(room);
	return notice;
}

bool
notice_intend(struct room *room, const struct iris_jid *member, enum notice_kind kind)
{
	struct notice notice = notice_of(room, member, kind);

	return (member && !bubbles_is_ours(member)) ||
	       notice_post(&notice, worker_wall_ms() + INTENT_MS);
}

/* What was intended is there, and due in a while, if this cannot be posted. */
void
notice_owe(struct room *room, const struct iris_jid *member, enum notice_kind kind)
{
	struct notice notice = notice_of(room, member, kind);

	if ((!member || bubbles_is_ours(member)) && !notice_post(&notice, 0))
		LOG(IRIS_LOG_INFO, "bubbles", "notice-late",
		    LOG_JID("bubble", jid_bare(room_jid(room))));
}

struct present { /* somebody who is in the room */
	struct iris_hash_node node;
};

struct presences {
	struct iris_arena *arena;
	struct iris_hash by_address;
};

static void
note_present(const struct iris_jid *bare, void *arg)
{
	struct presences *presences = arg;

	if (!hash_find(&presences->by_address, jid_bare(bare)))
		hash_insert(&presences->by_address,
			    &ARENA_NEW(presences->arena, struct present)->node,
			    arena_copy_str(presences->arena, jid_bare(bare)));
}

bool
notices_intend_deletion(struct room *room)
{
	struct listing listing = { .arena = arena_new() };
	struct presences presences = { .arena = listing.arena };
	struct notice like = notice_of(room, NULL, NOTICE_DELETED);
	bool written;

	like.former = arena_copy_str(listing.arena, like.former);
	list_members(room, &listing);
	room_occupants_each(room, note_present, &presences);
	written = put_each(&like, &listing, worker_wall_ms() + DELETION_MS,
			   &presences.by_address);
	HASH_FOREACH(node, &presences.by_address)
		hash_remove(&presences.by_address, node);
	hash_free(&presences.by_address);
	arena_unref(&listing.arena);
	return written;
}

void
notices_owe_deletion(const struct iris_jid *address)
{
	if (!notices_deleted(address))
		LOG(IRIS_LOG_WARNING, "bubbles", "notices-late",
		    LOG_JID("bubble", jid_bare(address)),
		    LOG_CSTR("hint", "members are told after the next start, or in a day"));
	notices_wake(address);
}

/* --- what nobody has in hand: main thread --- */

static void
wake_at_home(void *arg)
{
	notices_wake(arg);
}

static void
sweep(void *arg)
{
	int64_t key = INT64_MIN;
	struct iris_jid address;
	bool read;

	do {
		struct iris_arena *arena = arena_new();

		read = notice_rows_next(&key, arena, &address);
		if (read && !jid_is_none(&address))
			home_call(jid_bare(&address), "bubbles: sweep", wake_at_home, &address);
		read = read && !jid_is_none(&address);
		arena_unref(&arena);
	} while (read && !worker_is_stopping());
	sweeping = false;
}

static void
sweep_start(void *arg)
{
	timer_start(&sweep_timer, SWEEP_MS, sweep_start, NULL);
	if (sweeping)
		return;
	sweeping = true;
	if (!fiber_start("bubbles: sweep", sweep, NULL))
		sweeping = false;
}

/* What was meant before the stop was done, or never will be: all is due. */
void
notices_start(void)
{
	if (vault_post(&notice_query_wake, IRIS_OWNER_DEFAULT, NULL, NULL) != IRIS_VAULT_OK)
		LOG(IRIS_LOG_INFO, "bubbles", "notices-late", LOG_INT("due_ms", DELETION_MS));
	sweep_start(NULL);
}

void
notices_stop(void)
{
	timer_stop(&sweep_timer);
	for (unsigned i = 0; i < WORKER_LIMIT; i++) {
		struct waiting *waiting;

		while ((waiting = dequeue(&notices_homes[i])) != NULL)
			free(waiting);
		hash_free(&notices_homes[i].by_address);
	}
}
