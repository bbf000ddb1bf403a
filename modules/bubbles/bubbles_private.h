/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of modules/bubbles share. At the home worker of the bubble's address. */
#ifndef IRIS_BUBBLES_PRIVATE_H
#define IRIS_BUBBLES_PRIVATE_H

#include "modules/rooms/rooms.h"

extern struct iris_module_self bubbles_self;

enum bubbles_option { OPT_MAX_MEMBERS, OPT_PER_ACCOUNT };
enum bubbles_metric { METRIC_NOTICES_DONE, METRIC_NOTICES_PUT_OFF, METRIC_NOTICES_GIVEN_UP };
void bubbles_count(enum bubbles_metric metric);

/* --- the rules (rules.c): pure --- */

enum bubble_state { BUBBLE_OPEN, BUBBLE_ARCHIVED, BUBBLE_STATE_COUNT };

enum bubble_action {
	BUBBLE_SHOW, BUBBLE_ENTER, BUBBLE_SPEAK, BUBBLE_SUBJECT, BUBBLE_LEAVE, BUBBLE_ADD,
	BUBBLE_REMOVE, BUBBLE_PROMOTE, BUBBLE_DEMOTE, BUBBLE_MODERATE, BUBBLE_CONFIGURE,
	BUBBLE_CONFERENCE, BUBBLE_LINK, BUBBLE_TRANSFER, BUBBLE_ARCHIVE, BUBBLE_RESTORE,
	BUBBLE_DELETE, BUBBLE_ACTION_COUNT
};

/* Forbidden: never that affiliation's. Not allowed: not in this state. */
enum iris_condition bubble_judge(enum room_affiliation affiliation, enum bubble_action action,
				 enum bubble_state state);
const char *bubble_action_name(enum bubble_action action);

#define BUBBLE_NEVER (1u << 31)
/* The actions, as bits, that somebody must be allowed who changes an affiliation; or NEVER. */
unsigned bubble_change_needs(enum room_affiliation before, enum room_affiliation after,
			     bool is_self);
const char *bubble_refusal_text(enum iris_condition condition, enum bubble_state state);

/* --- limits (limits.c) --- */

enum bubble_limit_kind { BUBBLE_LIMIT_MEMBERS, BUBBLE_LIMIT_OWNED };
/* What the licence of this account allows (P4.2). */
int64_t bubble_limit(const struct iris_jid *account, enum bubble_limit_kind kind);
/* P5: may `by` (NULL: an operator) invite this address? */
bool bubbles_may_invite(const struct iris_jid *bubble, const struct iris_jid *by,
			const struct iris_jid *invitee);
/* Is it an account's address, of a host of this region? Whether there is one is not looked at. */
bool bubbles_is_ours(const struct iris_jid *jid);

/* --- what is owed (notices.c, notice_rows.c) --- */

enum notice_kind { NOTICE_DELETED = 1, NOTICE_MEMBERSHIP, NOTICE_NAME }; /* kept: never renumber */

extern struct iris_query notice_query_put, notice_query_due, notice_query_rooms,
	notice_query_open, notice_query_done, notice_query_put_off, notice_query_force,
	notice_query_wake, notice_query_deleted, notice_query_forget;

/* Something may change: written before it does. member NULL: all. False: the vault is busy. */
IRIS_MUST_CHECK bool notice_intend(struct room *room, const struct iris_jid *member,
				   enum notice_kind kind);
/* It has changed: due now. Both post. */
void notice_owe(struct room *room, const struct iris_jid *member, enum notice_kind kind);
/* Before a bubble is deleted: all members' notices are written (fiber; waits). */
IRIS_MUST_CHECK bool notices_intend_deletion(struct room *room);
/* It is. Any fiber of its home. */
void notices_owe_deletion(const struct iris_jid *address);
/* Works on what is due of this bubble, soon. */
void notices_wake(const struct iris_jid *address);
void notices_start(void); /* main thread */
void notices_stop(void);

/* --- the policy (policy.c) --- */

extern const struct room_policy bubbles_policy;
enum bubble_state bubble_state_of(const struct room *room);
/* The organizer's address, or none: an orphan. Walks. */
struct iris_jid bubble_organizer(struct room *room);

/* --- commands (acts.c, commands.c) --- */

extern const struct iris_command *const bubbles_commands[];

#endif
