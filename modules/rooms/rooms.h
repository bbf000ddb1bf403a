/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rooms (XEP-0045), for plug-ins that name "rooms" in their needs.  Everything at the home worker
 * of the room's address, where its place lives; nothing waits unless it says so.
 */
#ifndef IRIS_ROOMS_H
#define IRIS_ROOMS_H

#include "iris/service.h"

#define NS_MUC "http://jabber.org/protocol/muc"
#define NS_MUC_USER NS_MUC "#user"
#define NS_MUC_ADMIN NS_MUC "#admin"
#define NS_MUC_OWNER NS_MUC "#owner"
#define NS_MUC_UNIQUE NS_MUC "#unique" /* XEP-0307 */

enum room_affiliation { /* §5.2; the order is that of what they may */
	ROOM_OUTCAST,
	ROOM_NONE,
	ROOM_MEMBER,
	ROOM_ADMIN,
	ROOM_OWNER,
	ROOM_AFFILIATION_COUNT
};

enum room_role { ROOM_NO_ROLE, ROOM_VISITOR, ROOM_PARTICIPANT, ROOM_MODERATOR, ROOM_ROLE_COUNT };

struct room;
struct room_occupant;

/* What is asked of a policy; what the XEP forbids is refused before. */
enum room_action {
	ROOM_CREATE,        /* by entering or by command; may wait (fiber) */
	ROOM_ENTER,
	ROOM_SPEAK,         /* message to all */
	ROOM_SUBJECT,
	ROOM_INVITE,
	ROOM_MODERATE,      /* roles of others, kicks; taking back what others said */
	ROOM_CONFIGURE,
	ROOM_DESTROY,
	ROOM_REGISTER,
};

struct room_affiliate_change {
	struct iris_jid jid;          /* bare */
	enum room_affiliation before, after;
	struct iris_str nick, reason; /* or none */
};

/* Affiliations that become others together. */
struct room_change {
	struct room *room;
	struct iris_jid by;           /* bare; none: the server itself */
	bool is_operator;             /* the policy's: `by` counts as an owner */
	bool is_judged;               /* by the tables of the XEP, too, when it is made */
	struct room_affiliate_change *items;
	size_t count;
	struct iris_arena *arena;     /* a policy may replace items by more of them */
};

/*
 * What an organisation wants of its rooms beyond XEP-0045. Static; any member may be NULL: then as
 * the XEP says. Rooms of a service without policy never get here.
 */
struct room_policy {
	/* IRIS_NO_ERROR, or why not (text_r: for people). `jid` is bare. */
	enum iris_condition (*may)(struct room *room, enum room_action action,
				   const struct iris_jid *jid, const char **text_r);
	/* A change that the XEP allows: is it allowed here? It may be altered (transfer). */
	enum iris_condition (*judge_change)(struct room_change *change, const char **text_r);
	/*
	 * "name=value\n" lines: the configuration of a new room; fields that cannot be set
	 * otherwise. The field "policy" is the policy's own: kept with the others, and in no form.
	 */
	const char *new_config;
	const char *fixed_config;
	bool admins_promote; /* §10.6: not only owners make members admins */
	/* It was committed, and told to the occupants (fiber; may wait; the room is held). */
	void (*created)(struct room *room, const struct iris_jid *by);
	void (*changed)(const struct room_change *change);
	void (*configured)(struct room *room, const struct iris_jid *by);
	/*
	 * Before its rows go, however it ends, while nobody can change it (fiber; may wait, but for
	 * no other home): REFUSE keeps it.
	 */
	enum iris_verdict (*destroying)(struct room *room, const struct iris_jid *by);
	/* They are gone, and who was in has been told (fiber of its home; may wait, but for
	   no other home). */
	void (*destroyed)(const struct iris_jid *bare);
	/* Adds to an occupant's presence, as children of its <presence/> (hats). */
	void (*add_presence)(struct room *room, const struct iris_jid *bare,
			     struct iris_element *presence);
	/* Adds to the room's disco#info. */
	void (*add_info)(struct room *room, struct iris_element *query);
};
void rooms_policy_set(const struct room_policy *policy); /* main thread; .start, NULL in .stop */

/* --- finding --- */

/* A room that exists (fiber; waits); hold it: room_release(). NULL: none, or the vault failed. */
struct room *room_get(const struct iris_jid *bare);
/* The same, telling one from the other. FOUND: it exists, and is held. */
enum iris_place_found room_seek(const struct iris_jid *bare, struct room **room_r);
void room_release(struct room **room_p);
/* Of a request to a place: the room, which may be unborn; NULL: it is of another service. */
struct room *room_of(struct iris_place *place);
bool room_exists(const struct room *room);

const struct iris_jid *room_jid(const struct room *room);
int64_t room_id(const struct room *room);         /* reader of its log */
iris_owner room_owner(const struct room *room);
bool room_has_policy(const struct room *room);
struct iris_str room_name(const struct room *room); /* muc#roomconfig_roomname; none */
/* By var, less "muc#roomconfig_"; good until the next call. */
struct iris_str room_config_get(const struct room *room, const char *field);

enum room_affiliation room_affiliation(const struct room *room, const struct iris_jid *jid);
size_t room_affiliation_count(const struct room *room, enum room_affiliation affiliation);
void room_affiliates_each(struct room *room,
			  void (*fn)(const struct iris_jid *bare, enum room_affiliation affiliation,
				     struct iris_str nick, void *arg),
			  void *arg);
/* Each bare JID that is in, once for each nick. */
void room_occupants_each(const struct room *room,
			 void (*fn)(const struct iris_jid *bare, void *arg), void *arg);
const char *room_affiliation_name(enum room_affiliation affiliation);
const char *room_role_name(enum room_role role);
/* The role of this full JID's session in the room; NO_ROLE: it is not in. */
enum room_role room_role(const struct room *room, const struct iris_jid *full);
/* XEP-0421: the id of whoever has this bare JID, in this room. */
struct iris_str room_occupant_id(const struct room *room, const struct iris_jid *jid,
				 struct iris_arena *arena);

/* --- lists (any worker, fiber; they wait): in the order in which rooms were made --- */

struct room_found {
	struct iris_jid jid;
	enum room_affiliation affiliation; /* of the one that was asked for; else none */
	struct iris_str name, policy;      /* fields of the configuration, or none */
};

/*
 * Rooms of services with a policy, after this one (none: from the first on): of somebody who is a
 * member or more, or of a service, all that are not public. False: the vault failed.
 */
bool rooms_of(const struct iris_jid *bare, const struct iris_jid *after, size_t limit,
	      struct iris_arena *arena, struct room_found **found_r, size_t *count_r);
bool rooms_at(const struct iris_service *service, const struct iris_jid *after, size_t limit,
	      struct iris_arena *arena, struct room_found **found_r, size_t *count_r);
int64_t rooms_owned(const struct iris_jid *bare); /* how many; < 0: the vault failed */
/* The service of a host whose rooms have the policy, or NULL. */
struct iris_service *rooms_service(const struct iris_host *host);

/* --- doing (fiber; they wait for the commit) --- */

/*
 * A room as `by` would have made it with config ("name=value\n" lines over the defaults, or NULL),
 * open at once. conflict: there is one.
 */
enum iris_condition room_create(const struct iris_jid *bare, const struct iris_jid *by,
				const char *config, struct room **room_r);
/* Asks the policy unless `by` is none; tells the occupants; what follows for them is done. */
enum iris_condition room_change(struct room_change *change, const char **text_r);
enum iris_condition room_configure(struct room *room, const struct iris_jid *by,
				   const char *lines);
enum iris_condition room_destroy(struct room *room, const struct iris_jid *by,
				 struct iris_str reason, const struct iris_jid *alternate);
/* A mediated invitation (§7.8.2), as by `by`. */
void room_invite(struct room *room, const struct iris_jid *by, const struct iris_jid *invitee,
		 struct iris_str reason);

/*
 * XEP-0425: takes back what anybody said, by its stanza-id; `by` is who asks (full). Asks the
 * policy; tells all; tombstone, history and files are done.
 */
struct room_moderation {
	struct iris_jid by;
	struct iris_str id, reason; /* reason may be none */
	struct iris_ticket *ticket;
};
enum iris_condition room_moderate(struct room *room, const struct room_moderation *moderation,
				  const char **text_r);

/* --- telling --- */

/*
 * A message of the room itself to all who are in: `message` has its children and no addresses;
 * taken over. kept: in the archive, too, and sent when it is committed.
 */
void room_send_all(struct room *room, struct iris_stanza **message_p, bool kept,
		   struct iris_ticket *ticket);

#endif
