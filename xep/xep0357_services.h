/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0357: the services that an account has enabled, and publishing to them; what is worth it is
 * decided in xep0357_push.c.  Home worker of the account.
 */
#ifndef IRIS_XEP0357_SERVICES_H
#define IRIS_XEP0357_SERVICES_H

#include "iris/module.h"

#define NS_PUSH "urn:xmpp:push:0"

/* Options that the services look at: the plug-in's first ones. */
enum { PUSH_OPT_SERVICES_MAX, PUSH_OPT_FAILURES_MAX, PUSH_OPT_COUNT };

enum {
	PUSH_PUBLISHED,
	PUSH_FAILED,
	PUSH_DROPPED,
	PUSH_UNSTORED,
	PUSH_MERGED,
	PUSH_UNTOLD,
};
extern struct iris_metric push_metrics[];
extern struct iris_module_self push_self;
extern struct iris_query push_query_load, push_query_store, push_query_failed, push_query_drop,
	push_query_erase, push_query_who, push_query_address;

struct push_service {
	TAILQ_ENTRY(push_service) link;
	int64_t key;
	struct iris_jid jid; /* its text, and those of the others, lie behind the struct */
	struct iris_str node, options;
	unsigned failures; /* in a row */
};

struct push_services {
	TAILQ_HEAD(, push_service) list;
	unsigned count;
};

void push_services_init(struct push_services *services);
void push_services_free(struct push_services *services);
/* The rows of push_query_load. False: some of them cannot be found by address yet. */
bool push_services_take(struct push_services *services, const struct iris_rows *rows);
/*
 * §5: enables one, or gives it other options (fiber; waits for the commit). options: the form,
 * serialised, or none.
 */
enum iris_condition push_services_enable(struct push_services *services, struct iris_user *user,
					 const struct iris_jid *jid, struct iris_str node,
					 struct iris_str options);
/* §6: node none: all of this address. Posts; false: the vault takes nothing now. */
IRIS_MUST_CHECK bool push_services_disable(struct push_services *services, struct iris_user *user,
					   const struct iris_jid *jid, struct iris_str node);
/* §7: to each, from the account's host; `summary` is copied into each notification. */
void push_services_publish(struct push_services *services, struct iris_user *user,
			   const struct iris_element *summary);
/* The services of a user in memory; NULL: it is not, or has none. The plug-in's. */
struct push_services *push_services_of(struct iris_user *user);

/* --- who has no session where something was said (xep0357_audience.c) --- */

/* As if the account had got it; a room that it has blocked tells it nothing. The plug-in's. */
void push_message_absent(struct iris_user *user, struct iris_stanza *message);
/* An account of this worker enables a service. */
void push_audience_enabled(struct iris_str bare);
void push_audience_stop(void);

#endif
