/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of modules/rooms share.  Everything belongs to the home worker of the room's
 * address, and never waits unless it says so.
 */
#ifndef IRIS_ROOMS_PRIVATE_H
#define IRIS_ROOMS_PRIVATE_H

#include "modules/rooms/rooms.h"

#define ROOM_NICK_MAX 1023
#define ROOM_REASON_MAX 1024
#define ROOM_SESSIONS_MAX 16 /* of one occupant */

extern struct iris_module_self rooms_self;
extern struct iris_places rooms_places;
extern const struct iris_service_kind rooms_kind;

enum rooms_option {
	OPT_LABEL,          /* of the domain whose rooms have a policy: "rooms" */
	OPT_PLAIN_LABEL,    /* of the domain whose rooms have none; empty: there is none */
	OPT_KEEP,           /* a room without occupants stays in memory */
	OPT_MAX_ROOMS,      /* in memory, for each worker */
	OPT_INBOX,
	OPT_PER_ACCOUNT,    /* rooms that one account owns */
	OPT_MAX_OCCUPANTS,
	OPT_MAX_AFFILIATES,
	OPT_HISTORY,        /* messages sent to newcomers at most */
	OPT_PRESENCE_MAX,   /* above it only moderators are shown */
	OPT_PING_AFTER,     /* of other servers' sessions that were silent */
	OPT_CREATE,         /* who may create rooms: accounts | admins | nobody */
};

extern struct iris_metric rooms_metrics[];
enum rooms_metric {
	METRIC_ROOMS, METRIC_LOADS, METRIC_FAILURES, /* as iris/place.h wants them */
	METRIC_OCCUPANTS, METRIC_MESSAGES, METRIC_DELIVERIES, METRIC_ENTERED, METRIC_REFUSED,
	METRIC_GHOSTS,
};
void rooms_count(enum rooms_metric metric, int64_t amount);
const struct room_policy *room_policy(const struct room *room); /* NULL: none */
bool rooms_service_has_policy(const struct iris_service *service);

/* --- who may change what of whom (judge.c): §5.1.3, §5.2.2, §8, §9, §10; pure --- */

struct room_actor {
	enum room_affiliation affiliation;
	enum room_role role; /* NO_ROLE: not in the room */
};

enum iris_condition judge_affiliation(const struct room_actor *actor, enum room_affiliation before,
				      enum room_affiliation after, bool is_self);
enum iris_condition judge_role(const struct room_actor *actor, const struct room_actor *target,
			       enum room_role after);

/* --- configuration (config.c): §15.5.3 --- */

/* X(NAME): the fields the engine looks at; the table in config.c has names, labels, defaults. */
#define ROOM_CONFIG_NUMBERS(X)                                                              \
	X(PERSISTENT) X(PUBLIC) X(MEMBERS_ONLY) X(MODERATED) X(PASSWORD_PROTECTED) X(WHOIS) \
	X(CHANGE_SUBJECT) X(ALLOW_INVITES) X(ALLOW_PM) X(MAX_USERS) X(HISTORY) X(ARCHIVE)   \
	X(PRESENCE_VISITOR) X(PRESENCE_PARTICIPANT) X(PRESENCE_MODERATOR) X(GET_MEMBER_LIST) \
	X(REGISTER) X(VOICE_REQUESTS) X(CHANGE_NICK)
#define ROOM_CONFIG_TEXTS(X) X(NAME) X(DESCRIPTION) X(SECRET) X(LANGUAGE) X(POLICY)

enum room_config_number {
#define X(name) ROOM_CONFIG_##name,
	ROOM_CONFIG_NUMBERS(X)
#undef X
	ROOM_CONFIG_NUMBER_COUNT
};
enum room_config_text {
#define X(name) ROOM_CONFIG_##name,
	ROOM_CONFIG_TEXTS(X)
#undef X
	ROOM_CONFIG_TEXT_COUNT
};
enum { ROOM_WHOIS_MODERATORS, ROOM_WHOIS_ANYONE };
enum { ROOM_PM_ANYONE, ROOM_PM_PARTICIPANTS, ROOM_PM_MODERATORS, ROOM_PM_NONE };

struct room_config {
	int32_t numbers[ROOM_CONFIG_NUMBER_COUNT];
	char *texts[ROOM_CONFIG_TEXT_COUNT]; /* NULL: none */
};

/* The defaults, then these lines ("name=value\n", trusted; names less "muc#roomconfig_"). */
void room_config_init(struct room_config *config, struct iris_str lines);
void room_config_set(struct room_config *config, struct iris_str lines); /* over what is there */
void room_config_free(struct room_config *config);
void room_config_copy(struct room_config *copy_r, const struct room_config *config);
struct iris_str room_config_write(struct iris_arena *arena, const struct room_config *config);
/*
 * A submitted form over what is there; what it lacks stays, unknown fields are passed over, those
 * of `fixed` must be what they are. Otherwise why not, for people in text_r (in the form's arena).
 */
enum iris_condition room_config_submit(struct room_config *config, const struct iris_element *form,
				       const char *fixed, const char **text_r);
void room_config_add_form(struct iris_element *parent, const struct room_config *config);
/* Features and the muc#roominfo form of disco#info (§6.4). */
void room_config_add_info(struct iris_element *query, const struct room *room);

/* --- rooms (room.c, store.c) --- */

struct room_affiliate { /* by bare JID */
	struct iris_hash_node node;
	struct iris_hash_node by_nick; /* in room->nicks, when it has one */
	enum room_affiliation affiliation;
	int64_t version;         /* of the change that made it so */
	char *nick, *reason;     /* registered nick (§7.10); NULL: none */
	struct iris_jid jid;
	char text[];
};

struct room_subject {
	struct iris_stanza *message; /* as it was sent to all; NULL: none was ever set */
	int64_t time_ms;
};

/* XEP-0502: messages that count, by the hour. */
#define ROOM_ACTIVITY_HOURS 25
struct room_activity {
	int64_t first_hour, hour; /* since 1970: of the first message; of counts[0] */
	uint32_t counts[ROOM_ACTIVITY_HOURS];
};

enum room_state { ROOM_UNBORN, ROOM_LOCKED, ROOM_OPEN };

struct room {
	struct iris_place place; /* first */
	enum room_state state;
	struct iris_jid jid;     /* bare */
	struct iris_service *service;
	int64_t id, created_ms;
	iris_owner owner;
	int64_t version;         /* of affiliations; rises with each change */
	struct room_removals *removals; /* XEP-0463: who was taken out lately (affiliation.c) */
	struct room_activity activity;
	struct room_config config;
	struct room_subject subject;
	struct iris_hash affiliates, nicks;
	struct room_asked *asked; /* who asked moderators or admins lately (invite.c) */
	unsigned affiliation_counts[ROOM_AFFILIATION_COUNT];
	char occupant_key[32];   /* XEP-0421; derived when loaded */
	char *avatar;            /* hashes of its pictures, a line for each; NULL: none (vcard.c) */
	struct push_audience *absent; /* members of ours that are not in (absent.c) */
	bool absent_is_known;

	struct iris_hash occupants; /* struct room_occupant by nick */
	struct iris_hash bares;     /* the same by bare JID, of several the first */
	struct iris_hash sessions;  /* struct room_session by full JID */
	struct room_session **members; /* the same in one array, for fan-out */
	struct iris_jid *addresses;    /* theirs, in the same order */
	size_t member_count, member_cap;
	struct room_history *history;  /* history.c; NULL until somebody needs it */
	struct iris_hash relayed;      /* requests between occupants that wait (private.c) */
	struct room_live *live;        /* live.h: what waits to come in, to go out */
};

/* What comes for it, in order. */
void room_take(struct room *room, const struct iris_delivery *delivery,
	       struct iris_ticket *ticket);
struct room_affiliate *room_affiliate(const struct room *room, struct iris_str bare); /* or NULL */
/* Whose registered nick it is, or NULL; of several the first. */
struct room_affiliate *room_affiliate_by_nick(const struct room *room, struct iris_str nick);
/* In memory only; NONE without nick removes. */
void room_affiliate_set(struct room *room, const struct iris_jid *bare,
			enum room_affiliation affiliation, struct iris_str nick,
			struct iris_str reason, int64_t version);
/*
 * XEP-0463. What has changed since the version that <mav/> of a join names, in messages to this
 * session, before any presence; may it not know: an error. mav NULL: it did not ask.
 */
void affiliation_send_changes(struct room *room, const struct iris_jid *full,
			      const struct iris_element *mav);
/* <mav/> with what a version is called outside; since < 0: none. */
void affiliation_add_version(struct iris_element *x, const struct room *room, int64_t since);
void affiliation_forget(struct room *room); /* what is kept for that */
/* May this address see who has an affiliation (§9.5; member, admin, owner)? */
bool affiliation_may_list(const struct room *room, const struct iris_jid *jid);
/* XEP-0502: a message with a body was said to all (no correction). */
void room_activity_count(struct room *room);
struct iris_str room_activity_text(const struct room *room, struct iris_arena *arena); /* or none */
/*
 * A new room in memory (LOCKED) and in the vault, `by` its owner (fiber; waits). Asks policy and
 * limits. The first to enter makes it; room_open() ends its being locked.
 */
enum iris_condition room_make(struct room *room, const struct iris_jid *by, const char *config,
			      const char **text_r);
void room_open(struct room *room);
/* Stores it, then it is so, and all are told (fiber; waits). config: taken over. */
enum iris_condition room_reconfigure(struct room *room, const struct iris_jid *by,
				     struct room_config *config);
/* As room_destroy(), which asks no one; `destroy` is what occupants are sent. */
enum iris_condition room_destroy_as(struct room *room, const struct iris_jid *by,
				    const struct iris_element *destroy);
/* Its rows go (fiber; waits), the place is unborn again. Occupants are out already. */
bool room_erase(struct room *room);
/* The last one left: a room that is not persistent goes (a fiber of its own). */
void room_emptied(struct room *room);

/* --- statements (store.c) --- */

extern struct iris_query *const rooms_queries[];
bool store_room_load(struct room *room, bool *exists_r);  /* fiber; row, affiliates, subject */
bool store_room_insert(struct room *room);                /* fiber; with its affiliates */
bool store_room_configure(struct room *room, const struct room_config *config); /* fiber */
bool store_room_erase(const struct room *room);           /* fiber; log, rows, all */
/* Posts. */
bool store_room_subject(const struct room *room, struct iris_str xml, int64_t time_ms,
			struct iris_ticket *ticket);
/* The rows of a change and the room's new version, in one transaction (fiber; waits). */
bool store_room_change(const struct room_change *change, int64_t version);
int64_t store_rooms_owned(const struct iris_jid *bare); /* fiber; how many; < 0: the vault failed */

struct room_listed { /* a row, whether the room is in memory or not */
	int64_t id;
	iris_owner owner;
	struct iris_jid jid;    /* none: it went meanwhile */
	struct iris_str config; /* lines */
	enum room_affiliation affiliation; /* of the address that was asked for, if any */
	size_t users;           /* list_count_users() */
};
struct room_list_query {
	const struct iris_service *service;
	struct iris_jid asker;  /* sees public rooms, and those it belongs to */
	bool hidden;            /* those that are not public instead; nobody asks; forwards only */
	int64_t from;           /* exclusive: above it, or below it */
	bool backwards;         /* the last `limit` ones; returned in ascending order, too */
	size_t limit;
};
/* Fiber; waits. In the arena. False: the vault failed. */
bool store_rooms_list(const struct room_list_query *query, struct iris_arena *arena,
		      struct room_listed **rooms_r, size_t *count_r);
/* How many are in (fiber; asks every worker). */
void list_count_users(struct room_listed *rooms, size_t count);
/*
 * Is it there? A temporary room that nobody is in has lost its occupants with a server that
 * crashed; it goes when it is read.
 */
bool list_is_there(const struct room_listed *room, const struct room_config *config);
/* 0: there is none. False: the vault failed. */
bool store_room_find(const struct iris_jid *bare, int64_t *id_r);
/* Rooms where this address has any affiliation, by id, above `after`. */
bool store_rooms_of(const struct iris_jid *bare, int64_t after, struct iris_arena *arena,
		    struct room_listed *rooms_r, size_t limit, size_t *count_r);

/* --- occupants and who is told (occupant.c) --- */

struct room_session { /* by full JID */
	struct iris_hash_node node;
	struct room_occupant *occupant;
	TAILQ_ENTRY(room_session) link; /* of the occupant's, in order of entering */
	size_t index;                   /* in room->members */
	struct iris_stanza *presence;   /* the last available one, as it came (compact) */
	struct room_arrival *arrival;   /* it is being told what was before it (enter.c), or NULL */
	int64_t entered;                /* counts the room's sessions as they come */
	int64_t heard_ms;               /* monotonic */
	unsigned relayed;               /* its requests to occupants that wait */
	bool is_pinged;                 /* and has not answered yet */
	struct iris_jid jid;            /* full */
	char text[];
};

#define ROOM_SHOWN_TO_ALL INT64_MAX

struct room_occupant { /* by nick */
	struct iris_hash_node node;
	struct iris_hash_node by_bare;  /* of the first one with this bare JID, */
	struct room_occupant *twin;     /* and the others behind it, by other nicks; or NULL */
	struct room *room;
	enum room_role role;
	struct iris_jid jid;            /* room@service/nick */
	struct iris_jid bare;           /* whose it is */
	TAILQ_HEAD(, room_session) sessions; /* the first one is the main one */
	unsigned session_count;
	TAILQ_ENTRY(room_occupant) link; /* of the room's, by order */
	int64_t order;                  /* of entering or of the last change of the nick */
	int64_t shown_to;               /* up to this session they were sent it; 0: none was */
	TAILQ_ENTRY(room_occupant) shown_link; /* when it is shown to all */
	struct iris_str id;             /* XEP-0421 */
	char text[];
};

struct room_occupant *occupant_find(const struct room *room, struct iris_str nick);
struct room_session *room_session_find(const struct room *room, const struct iris_jid *full);
/* The session that something came from, which shows that it is still there. */
struct room_session *room_session_hear(const struct room *room, const struct iris_jid *from);
/* Its live half, members too, when it is unloaded, not before: something may still be sent. */
void room_live_free(struct room *room);
/* The first of a bare JID's; the others are its twins. */
struct room_occupant *occupant_of(const struct room *room, const struct iris_jid *bare);
struct room_occupant *occupant_new(struct room *room, struct iris_str nick,
				   const struct iris_jid *bare, enum room_role role);
struct room_session *room_session_new(struct room_occupant *occupant, const struct iris_jid *full,
				      struct iris_stanza *presence);
/* The last session takes the occupant with it: true. Tells nobody. */
bool room_session_free(struct room_session *session);
void occupant_rename(struct room_occupant **occupant_p, struct iris_str nick);
/* Who was sent its presence, and whether newcomers are to be: see shown_to. */
void occupant_set_shown(struct room_occupant *occupant, int64_t shown_to);
/* Those who come later are not to be told of it. */
void occupant_show_no_further(struct room_occupant *occupant);
enum room_role role_by_default(const struct room *room, enum room_affiliation affiliation);
bool sees_addresses(const struct room *room, enum room_role role);

/* Who is told of something. */
enum room_audience {
	ROOM_ALL,
	ROOM_SEEING,     /* who sees real addresses */
	ROOM_UNSEEING,
	ROOM_MODERATORS,
};
/*
 * One stanza without `to` to all of them, taken over. about: whose presence it is; it is for those
 * others only to whom it was shown. NULL: of nobody.
 */
void fan_out(struct room *room, struct iris_stanza **stanza_p, enum room_audience audience,
	     const struct room_occupant *about, struct iris_ticket *ticket);
/* The same to every session of one occupant. */
void fan_out_one(struct room_occupant *occupant, struct iris_stanza **stanza_p,
		 struct iris_ticket *ticket);

/* --- entering, presence, leaving (enter.c, presence.c, leave.c) --- */

/* Presence to the room or an occupant: §7.1, §7.6, §7.7, §7.14, §17.3. */
void room_take_presence(struct room *room, const struct iris_delivery *delivery,
			struct iris_ticket *ticket);

/* Status codes of one broadcast (§15.6.2), ended by 0. */
#define ROOM_STATUS_MAX 6
struct room_news {
	const struct iris_jid *actor; /* whose nick is told (§8.2), or NULL */
	struct iris_str reason;
	struct iris_str new_nick;     /* 303 */
	unsigned status[ROOM_STATUS_MAX];      /* for everybody */
	unsigned own_status[ROOM_STATUS_MAX];  /* for the occupant itself, beside 110 */
	struct iris_element *destroy; /* copied, or NULL */
	bool is_versioned;            /* XEP-0463: affiliations have changed, */
	int64_t since;                /* and this was the version before */
};
/* The occupant as it is now, to everybody who is to see it (§7.1.3 …). */
void presence_show_occupant(struct room_occupant *occupant, const struct room_news *news);
/* Out: unavailable to everybody, itself included, and gone. news: 301, 307, 321, 322, 332, 333. */
void occupant_put_out(struct room_occupant **occupant_p, const struct room_news *news);
/* One of its sessions ends; unavailable comes as `from` said it, or as the server says it. */
void room_session_leave(struct room_session *session, const struct iris_stanza *unavailable);
/* A role becomes another (fiber not needed); tells. */
void occupant_set_role(struct room_occupant *occupant, enum room_role role,
		       const struct room_news *news);
/* After affiliations became others: roles, who must go (members-only, outcasts), who is told. */
void occupants_follow_change(const struct room_change *change);
/* After a new configuration: who must go (322), roles, 104 and 170 … 174. */
void occupants_follow_config(struct room *room, const struct room_config *before);

/* --- what is said (message.c, history.c, private.c) --- */

void room_take_message(struct room *room, const struct iris_delivery *delivery,
		       struct iris_ticket *ticket);
/* iq to an occupant: relayed, or a self-ping (XEP-0410). To the room itself: service_answer(). */
void room_take_iq(struct room *room, const struct iris_delivery *delivery,
		  struct iris_ticket *ticket);
void relay_free(struct room *room);
/*
 * A kept message's entry is the message as it went to all, addressed to whoever said it (bare; the
 * room itself, when it did), which is for those only who may see it. Its peer is the same address.
 */
const struct iris_jid *message_archived_sender(const struct iris_stanza *entry);
void history_add(struct room *room, struct iris_stanza *message, int64_t log_id);
/* A tombstone takes the place of a message (fiber; may wait). */
void history_change(struct room *room, int64_t log_id, struct iris_stanza *message);
void history_free(struct room *room);

/* --- requests to the room (admin.c, owner.c, register.c): on a fiber --- */

enum iris_verdict admin_get(struct iris_request *request);
enum iris_verdict admin_set(struct iris_request *request);
enum iris_verdict owner_get(struct iris_request *request);
enum iris_verdict owner_set(struct iris_request *request);
enum iris_verdict register_get(struct iris_request *request);
enum iris_verdict register_set(struct iris_request *request);
/* <x xmlns='muc#user'/> or a form to the room: invitations, declines, voice (§7.8, §7.13, §8.6). */
bool invite_take(struct room *room, const struct iris_delivery *delivery,
		 struct iris_ticket *ticket);
void invite_forget(struct room *room); /* frees room->asked */
/* A registration waits for an admin: they are asked (§9.9). */
void invite_ask_admins(struct room *room, const struct iris_jid *bare, struct iris_str nick);
/*
 * Registers with this nick: a member at once, or when an admin has said so (fiber; waits). `by` is
 * who says so.
 */
enum iris_condition register_member(struct room *room, const struct iris_jid *by,
				    const struct iris_jid *bare, struct iris_str nick,
				    const char **text_r);
/* The nick as the room has it (prepared, in the arena); or why not: conflict, jid-malformed. */
enum iris_condition register_check_nick(const struct room *room, struct iris_str nick,
					const struct iris_jid *bare, struct iris_arena *arena,
					struct iris_str *nick_r);
/*
 * SECURITY (P5.7): a room that is hidden and for members only is not there for others, nor is one
 * that was not configured yet.
 */
bool discovery_may_know(const struct room *room, const struct iris_jid *asker);
enum iris_verdict rooms_account_removed(struct iris_account_removed *removed);
enum iris_verdict rooms_disco_info(struct iris_discovery *discovery);
enum iris_verdict rooms_disco_items(struct iris_discovery *discovery);
enum iris_verdict unique_get(struct iris_request *request);
enum iris_verdict search_get(struct iris_request *request);
enum iris_verdict search_set(struct iris_request *request);

/* --- the archive (archive.c), taking back (retract.c): on a fiber, unless it says otherwise --- */

enum iris_verdict room_archive_query(struct iris_request *request);
enum iris_verdict room_archive_form(struct iris_request *request);
enum iris_verdict room_archive_metadata(struct iris_request *request);
void room_archive_add_info(struct iris_element *query, const struct room *room); /* no wait */
/*
 * A message to all was posted: should it take back what its sender said before (XEP-0424), that is
 * done on a fiber, and the ticket held until then. No wait.
 */
void retract_take(struct room *room, const struct iris_stanza *message, const struct iris_jid *bare,
		  struct iris_ticket *ticket);
/* Before the archive is read: what is being taken back is (waits). */
void retract_settle(const struct room *room);
/*
 * What a message that goes, or becomes a tombstone, named goes, too (waits). senders: who they
 * were, remembered from one to the next; an empty one at first, freed with its arena.
 */
struct retract_senders {
	struct iris_arena *arena;
	struct iris_hash accounts;
};
void retract_senders_free(struct retract_senders *senders);
void retract_tell(struct retract_senders *senders, const struct iris_stanza *original,
		  struct iris_ticket *ticket);

/* --- members who are not in (absent.c): no wait --- */

/* Somebody came, left, or has another affiliation; also: the room goes. */
void absent_changed(struct room *room);
/* They are told by push of what was said and kept. */
void absent_tell(struct room *room, struct iris_stanza *message);

/* --- the room's picture (vcard.c): on a fiber --- */

enum iris_verdict room_vcard_get(struct iris_request *request);
enum iris_verdict room_vcard_set(struct iris_request *request);
/* Of the form muc#roominfo (§4.3); no wait. */
void room_vcard_add_field(struct iris_element *form, const struct room *room);
void room_vcard_take(struct room *room, struct iris_str hashes); /* as stored; no wait */
extern struct iris_query room_vcard_load_query, room_vcard_hashes_query, room_vcard_store_query,
	room_vcard_drop_query;

/* --- what remains of rooms that are gone (erasure.c) --- */

/* With the rows of a room, in their transaction; then, when that is committed, wake (no wait). */
void erasure_add(struct iris_batch *batch, const struct room *room);
void erasures_wake(void);
void erasures_start(void); /* main thread: .start, .stop */
void erasures_stop(void);
extern struct iris_query erasure_insert_query, erasure_next_query, erasure_end_query;

/* --- small things (room.c) --- */

/* Answers a stanza with an error from the address that it was sent to. */
void room_refuse(const struct iris_stanza *stanza, enum iris_condition condition,
		 const char *text);
/* What would have to be kept, and comes in transit (P2.4): the condition, and a text for people. */
enum iris_condition room_refuse_transit(const char **text_r);

#endif
