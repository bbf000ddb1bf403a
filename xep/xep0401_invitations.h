/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of XEP-0401. */
#ifndef IRIS_XEP0401_INVITATIONS_H
#define IRIS_XEP0401_INVITATIONS_H

#include "iris/module.h"

enum {
	INVITE_OPT_USERS,
	INVITE_OPT_REGISTER,
	INVITE_OPT_EXPIRY,
	INVITE_OPT_ACCOUNT_MAX,
	INVITE_OPT_LANDING_URL,
};

extern struct iris_module_self invitations_self;
extern struct iris_query invite_query_load, invite_query_store, invite_query_drop,
	invite_query_erase, invite_query_expire, invite_query_owner, invite_query_record,
	invite_query_reserved;

bool invites_user_take(struct iris_user *user, const struct iris_rows *rows);
struct invite_record;
struct iris_web_route;

/* The link, and the page that the option names, with the token in its place, or none. */
struct iris_str invite_uri(struct iris_arena *arena, const struct invite_record *record,
			   struct iris_str secret);
struct iris_str invite_landing_url(struct iris_arena *arena, struct iris_str secret,
				   struct iris_str uri);
extern const struct iris_web_route invite_routes[];

enum iris_verdict invites_user_unload(struct iris_user *user);

#endif
