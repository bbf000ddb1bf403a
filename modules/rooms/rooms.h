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
	/* A change that the XEP allows: is it allowed here? May alter it (transfer of
	   ownership). */
	enum iris_condition (*judge_change)(struct room_change *change, const char **text_r);
	/* "name=value\n" lines: the configuration of a new room; fields that cannot be set
	   otherwise */
	const char *new_config;
	const char *fixed_config;
	/* It was committed, and told to the occupants (fiber; may wait; the room is held). */
	void (*created)(struct room *room, const struct iris_jid *by);
	void (*changed)(const struct room_change *change);
	void (*configured)(struct room *room, const struct iris_jid *by);
	/* Before its rows go (fiber; may wait): REFUSE keeps it. */
	enum iris_verdict (*destroying)(struct room *room, const struct iris_jid *by);
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
void room_release(struct room **room_p);
struct room *room_of(struct iris_place *place); /* of a request to a room; may be unborn */
bool room_exists(const struct room *room);

const struct iris_jid *room_jid(const struct room *room);
int64_t room_id(const struct room *room);         /* reader of its log */
iris_owner room_owner(const struct room *room);
bool room_has_policy(const struct room *room);
struct iris_str room_name(const struct room *room); /* muc#roomconfig_roomname; none */
/* by var, less "muc#roomconfig_" */
struct iris_str room_config_get(const struct room *room, const char *field);

enum room_affiliation room_affiliation(const struct room *room, const struct iris_jid *jid);
size_t room_affiliation_count(const struct room *room, enum room_affiliation affiliation);
void room_affiliates_each(struct room *room,
			  void (*fn)(const struct iris_jid *bare, enum room_affiliation affiliation,
				     struct iris_str nick, void *arg),
			  void *arg);
const char *room_affiliation_name(enum room_affiliation affiliation);
const char *room_role_name(enum room_role role);
/* The role of this full JID's session in the room; NO_ROLE: it is not in. */
enum room_role room_role(const struct room *room, const struct iris_jid *full);
/* XEP-0421: the id of whoever has this bare JID, in this room. */
struct iris_str room_occupant_id(const struct room *room, const struct iris_jid *jid,
				 struct iris_arena *arena);

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
 * XEP-0425: takes back what anybody said, by its stanza-id; `by` is who asks (full). Asks the policy;
 * tells all; tombstone, history and files are done.
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
