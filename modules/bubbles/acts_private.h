/* SPDX-License-Identifier: Apache-2.0 */
/* What commands do: between commands.c and acts.c. */
#ifndef IRIS_BUBBLES_ACTS_PRIVATE_H
#define IRIS_BUBBLES_ACTS_PRIVATE_H

#include "modules/bubbles/bubbles_private.h"

/* On the stack of the command, which waits while the bubble's home has it. */
struct bubble_act {
	struct iris_command_call *call; /* its arena, and where a refusal goes */
	struct iris_jid bubble, by;     /* bare */
	bool is_operator;               /* counts as the organizer */
	struct iris_jid member;         /* bare; whom it is about, or none */
	struct iris_str reason;         /* or none */
	struct iris_str config;         /* of a new one: lines */
	/* what it has found */
	struct iris_str name;           /* the bubble's, or its address */
	enum room_affiliation as;       /* what the caller counts as */
	enum bubble_state state;
	struct bubble_member {
		struct iris_jid jid;
		enum room_affiliation affiliation;
	} *members;                     /* sorted by address */
	size_t member_count;
};

/* Each at the home of the bubble, on a fiber, by home_call(); refuses in act->call. */
void act_create(void *act);
void act_show(void *act);
void act_invite(void *act);
void act_remove(void *act);
void act_promote(void *act);
void act_demote(void *act);
void act_transfer(void *act);
void act_archive(void *act);
void act_restore(void *act);
void act_delete(void *act);

/* An account ends: its bubbles are archived. At the bubble's home. */
struct bubble_orphaning {
	struct iris_jid bubble;
	bool done;
};
void act_orphan(void *orphaning);

#endif
