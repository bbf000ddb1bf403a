/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rosters as clients see them (RFC 6121 §2): get, set, remove, pushes and versions.  At the home
 * of the user.  Subscriptions that a removal ends are sent by subscription.c.
 */
#include "im_private.h"

#define NS_ROSTER_VERSIONS "urn:xmpp:features:rosterver"
#define NS_PREAPPROVAL "urn:xmpp:features:pre-approval"

static struct iris_module_self roster_self;

int64_t
roster_option(enum roster_option option)
{
	return option_int(&roster_self, option);
}

/* --- items --- */

static const char *
subscription_name(enum iris_subscription subscription)
{
	static const char *const names[] = { "none", "to", "from", "both" };

	return names[subscription];
}

static void
write_item(struct iris_element *query, const struct iris_contact *contact)
{
	struct iris_element *item = element_add(query, "item", NULL);

	element_set(item, "jid", jid_bare(&contact->jid));
	element_set(item, "name", contact->name);
	element_set(item, "subscription", str_from(subscription_name(contact->subscription)));
	if (contact->ask)
		element_set(item, "ask", IRIS_STR("subscribe"));
	if (contact->approved)
		element_set(item, "approved", IRIS_STR("true"));
	for (char *const *group = contact->groups; group && *group; group++)
		element_add_text(item, "group", NULL, str_from(*group));
}

struct iris_str
roster_version_text(struct iris_arena *arena, const struct iris_user *user)
{
	return arena_printf(arena, "%llx.%llx", (unsigned long long)user->account.id,
			    (unsigned long long)user->roster->version);
}

/* --- pushes (§2.1.6) --- */

static struct iris_stanza *
push_new(struct iris_user *user, const struct iris_jid *bare)
{
	struct iris_stanza *push = stanza_new(IRIS_IQ, IRIS_SET);
	struct iris_element *query = element_add(push->root, "query", NS_ROSTER);
	const struct iris_contact *contact = roster_find(user, jid_bare(bare));
	struct iris_element *item;

	stanza_set_id(push, arena_printf(push->arena, "push-%llx",
					 (unsigned long long)++im_home()->next_id));
	element_set(query, "ver", roster_version_text(push->arena, user));
	if (contact && contact->in_roster) {
		write_item(query, contact);
	} else {
		item = element_add(query, "item", NULL);
		element_set(item, "jid", jid_bare(bare));
		element_set(item, "subscription", IRIS_STR("remove"));
	}
	stanza_freeze(push);
	return push;
}

void
roster_push(struct iris_user *user, const struct iris_jid *bare)
{
	struct iris_delivery delivery = { .stanza = push_new(user, bare) };
	struct iris_session *session, *next;

	for (session = TAILQ_FIRST(&user->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		delivery.to = session->jid;
		if (session->interested)
			session_deliver(session, &delivery);
	}
	stanza_unref(&delivery.stanza);
}

/* --- get (§2.1.3, §2.6) --- */

static void
get_item(const struct iris_contact *contact, void *arg)
{
	if (contact->in_roster)
		write_item(arg, contact);
}

static enum iris_verdict
roster_get(struct iris_request *request)
{
	struct iris_str known = element_get(request->payload, "ver");
	struct iris_str version = roster_version_text(request->arena, request->user);

	if (element_child(request->payload, NULL, NULL)) {
		request->refusal.condition = IRIS_BAD_REQUEST;
		return IRIS_REFUSE;
	}
	if (request->session)
		request->session->interested = true;
	if (known.base && str_equal(known, version))
		return IRIS_DONE; /* §2.6.3: an empty result, nothing has changed */
	request->reply = element_new(request->arena, "query", NS_ROSTER);
	element_set(request->reply, "ver", version);
	roster_each(request->user, get_item, request->reply);
	return IRIS_DONE;
}

/* --- set (§2.3, §2.4, §2.5) --- */

static enum iris_condition
parse_groups(struct iris_arena *arena, const struct iris_element *item, size_t groups_max,
	     struct roster_request *request_r)
{
	size_t count = 0;

	request_r->groups = arena_alloc(arena, (groups_max + 1) * sizeof(char *));
	for (const struct iris_element *group = element_child(item, "group", NS_ROSTER); group;
	     group = element_next(group, "group", NS_ROSTER)) {
		struct iris_str text = element_get_text(group);

		if (count >= groups_max || str_is_empty(text) || text.len > ROSTER_NAME_MAX)
			return IRIS_NOT_ACCEPTABLE;
		for (size_t i = 0; i < count; i++)
			if (str_is(text, request_r->groups[i]))
				return IRIS_BAD_REQUEST;
		request_r->groups[count++] = (char *)arena_copy_str(arena, text).base;
	}
	if (count == 0)
		request_r->groups = NULL;
	return IRIS_NO_ERROR;
}

enum iris_condition
roster_parse_set(struct iris_arena *arena, const struct iris_element *query, size_t groups_max,
		 struct roster_request *request_r)
{
	const struct iris_element *item = element_child(query, NULL, NULL);
	struct iris_str jid;

	*request_r = (struct roster_request){ .remove = false };
	if (!item || element_next(item, NULL, NULL) || !element_is(item, "item", NS_ROSTER))
		return IRIS_BAD_REQUEST;
	jid = element_get(item, "jid");
	if (str_is_none(jid))
		return IRIS_BAD_REQUEST;
	if (!jid_parse(arena, jid, &request_r->jid))
		return IRIS_JID_MALFORMED;
	request_r->jid = jid_with_resource(arena, &request_r->jid, IRIS_STR_NONE);
	request_r->remove = str_is(element_get(item, "subscription"), "remove");
	if (request_r->remove)
		return IRIS_NO_ERROR;
	request_r->name = element_get(item, "name");
	if (request_r->name.len > ROSTER_NAME_MAX)
		return IRIS_NOT_ACCEPTABLE;
	return parse_groups(arena, item, groups_max, request_r);
}

/* §2.5.2: the subscriptions go with the item, and so does a request that waits. */
static enum iris_condition
remove_item(struct iris_request *request, const struct roster_request *asked)
{
	struct iris_user *user = request->user;
	struct roster_change before, change = { .jid = asked->jid };
	enum iris_condition condition;

	before = roster_change_of(roster_find(user, jid_bare(&asked->jid)), &asked->jid);
	if (!before.in_roster)
		return IRIS_ITEM_NOT_FOUND;
	if (!roster_apply(user, &change, request->ticket, &condition))
		return condition;
	roster_push(user, &asked->jid);
	subscription_cancel(user, &before, request->ticket);
	return IRIS_NO_ERROR;
}

static enum iris_condition
set_item(struct iris_request *request, const struct roster_request *asked)
{
	struct iris_user *user = request->user;
	struct roster_change change =
		roster_change_of(roster_find(user, jid_bare(&asked->jid)), &asked->jid);
	enum iris_condition condition;

	change.in_roster = true;
	change.name = asked->name;
	change.groups = asked->groups;
	if (!roster_apply(user, &change, request->ticket, &condition))
		return condition;
	if (change.visible)
		roster_push(user, &asked->jid);
	return IRIS_NO_ERROR;
}

static enum iris_verdict
roster_set(struct iris_request *request)
{
	struct roster_request asked;
	enum iris_condition condition = roster_parse_set(
		request->arena, request->payload, (size_t)roster_option(ROSTER_MAX_GROUPS), &asked);

	if (condition == IRIS_NO_ERROR && jid_equal(&asked.jid, &request->user->jid))
		condition = IRIS_NOT_ALLOWED; /* §2.3.3 */
	if (condition == IRIS_NO_ERROR)
		condition = asked.remove ? remove_item(request, &asked) : set_item(request, &asked);
	request->refusal.condition = condition;
	return condition == IRIS_NO_ERROR ? IRIS_DONE : IRIS_REFUSE;
}

/* --- what is announced, what goes with the account --- */

static enum iris_verdict
roster_stream_features(struct iris_stream_features *event)
{
	if (stream_state(event->stream) != IRIS_STREAM_AUTHENTICATED ||
	    stream_role(event->stream) != &stream_role_c2s)
		return IRIS_PASS;
	element_add(event->features, "ver", NS_ROSTER_VERSIONS);
	element_add(event->features, "sub", NS_PREAPPROVAL);
	return IRIS_PASS;
}

static enum iris_verdict
roster_account_removed(struct iris_account_removed *removed)
{
	return roster_erase(&removed->account) ? IRIS_PASS : IRIS_REFUSE;
}

static const struct iris_option roster_options[] = {
	[ROSTER_MAX_CONTACTS] = { .name = "max-contacts",
				  .type = IRIS_OPT_INT,
				  .fallback = "2000",
				  .min = 1,
				  .max = 100000,
				  .reloadable = true,
				  .help = "Contacts of one user." },
	[ROSTER_MAX_REQUESTS] = { .name = "max-requests",
				  .type = IRIS_OPT_INT,
				  .fallback = "200",
				  .min = 1,
				  .max = 10000,
				  .reloadable = true,
				  .help = "Subscription requests of people who are no contacts "
					  "that wait for a user's answer." },
	[ROSTER_MAX_GROUPS] = { .name = "max-groups",
				.type = IRIS_OPT_INT,
				.fallback = "64",
				.min = 0,
				.max = 1024,
				.reloadable = true,
				.help = "Groups of one contact." },
	[ROSTER_MAX_SIZE] = { .name = "max-size",
			      .type = IRIS_OPT_SIZE,
			      .fallback = "1 MiB",
			      .min = 4096,
			      .max = 64 << 20,
			      .reloadable = true,
			      .help = "Addresses, names and groups of all contacts of one user." },
	IRIS_OPTIONS_END,
};

static const struct iris_iq roster_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_ROSTER, IRIS_SELF, roster_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "query", NS_ROSTER, IRIS_SELF, roster_set },
	{ .name = NULL },
};

static const struct iris_hook_handler roster_hooks[] = {
	HOOK(stream_features, IRIS_LATE, roster_stream_features),
	HOOK(account_removed, IRIS_NEUTRAL, roster_account_removed),
	HOOKS_END,
};

const struct iris_module iris_module_roster = {
	IRIS_MODULE_HEAD,
	.name = "roster",
	.summary = "Rosters and presence subscriptions (RFC 6121 §2, §3)",
	.needs = IRIS_NAMES("user"),
	.self = &roster_self,
	.options = roster_options,
	.queries = roster_queries,
	.user_rows = roster_rows,
	.iq = roster_iq,
	.hooks = roster_hooks,
	.not_unloadable = true,
};
