/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine of rooms asks of bubbles, and what follows from what has happened in them.  At
 * the home of the bubble.  The rules are in rules.c; here they meet rooms, limits, what is owed.
 */
#include "modules/bubbles/bubbles_private.h"
#include "xep/payloads.h"
#include "xep/xep0004_forms.h"

#define NS_BUBBLE "urn:iris:bubble:0"
#define ARCHIVED "archived" /* the policy's field of the configuration; none: open */

enum bubble_state
bubble_state_of(const struct room *room)
{
	return str_is(room_config_get(room, "policy"), ARCHIVED) ? BUBBLE_ARCHIVED : BUBBLE_OPEN;
}

static void
find_organizer(const struct iris_jid *bare, enum room_affiliation affiliation,
	       struct iris_str nick, void *arg)
{
	struct iris_jid *organizer = arg;

	if (affiliation == ROOM_OWNER)
		*organizer = *bare;
}

struct iris_jid
bubble_organizer(struct room *room)
{
	struct iris_jid organizer = IRIS_JID_NONE;

	if (room_affiliation_count(room, ROOM_OWNER) > 0)
		room_affiliates_each(room, find_organizer, &organizer);
	return organizer;
}

static enum iris_condition
refuse(enum iris_condition condition, const char *text, const char **text_r)
{
	*text_r = text;
	return condition;
}

static enum iris_condition
judge(enum room_affiliation as, enum bubble_action action, struct room *room, const char **text_r)
{
	enum bubble_state state = bubble_state_of(room);
	enum iris_condition condition = bubble_judge(as, action, state);

	if (condition != IRIS_NO_ERROR)
		*text_r = bubble_refusal_text(condition, state);
	return condition;
}

/* --- changes of affiliations --- */

static bool
crosses(const struct room_affiliate_change *item) /* in or out */
{
	return (item->before >= ROOM_MEMBER) != (item->after >= ROOM_MEMBER);
}

/* Actions as bits. */
static enum iris_condition
judge_needs(unsigned needs, enum room_affiliation as, struct room *room, const char **text_r)
{
	for (unsigned i = 0; i < BUBBLE_ACTION_COUNT; i++) {
		enum iris_condition condition = IRIS_NO_ERROR;

		if (needs & (1u << i))
			condition = judge(as, (enum bubble_action)i, room, text_r);
		if (condition != IRIS_NO_ERROR)
			return condition;
	}
	return IRIS_NO_ERROR;
}

/* XEP-0045 §10.7: the last owner goes. P6.1: nobody puts an organizer down, or makes a second. */
static enum iris_condition
refuse_organizer(const struct room_affiliate_change *item, const char **text_r)
{
	if (item->before == ROOM_OWNER)
		return refuse(IRIS_CONFLICT,
			      "A bubble has an organizer: make a co-organizer the organizer first",
			      text_r);
	return refuse(IRIS_NOT_ALLOWED, "Only a co-organizer can become the organizer", text_r);
}

static enum iris_condition
judge_item(const struct room_change *change, const struct room_affiliate_change *item,
	   enum room_affiliation as, const char **text_r)
{
	bool is_self = !change->is_operator && jid_bare_equal(&change->by, &item->jid);
	unsigned needs = bubble_change_needs(item->before, item->after, is_self);

	if (needs == BUBBLE_NEVER)
		return as == ROOM_OWNER ? refuse_organizer(item, text_r) :
					  judge(as, BUBBLE_TRANSFER, change->room, text_r);
	if (crosses(item) && item->after >= ROOM_MEMBER &&
	    !bubbles_may_invite(room_jid(change->room), change->is_operator ? NULL : &change->by,
				&item->jid))
		return refuse(IRIS_NOT_ALLOWED, "That address cannot be invited", text_r);
	return judge_needs(needs, as, change->room, text_r);
}

static enum iris_condition
judge_size(const struct room_change *change, const char **text_r)
{
	struct iris_jid organizer = bubble_organizer(change->room);
	int64_t members = 0, more = 0;

	for (unsigned i = ROOM_MEMBER; i < ROOM_AFFILIATION_COUNT; i++)
		members += (int64_t)room_affiliation_count(change->room,
							   (enum room_affiliation)i);
	for (size_t i = 0; i < change->count; i++)
		if (crosses(&change->items[i]))
			more += change->items[i].after >= ROOM_MEMBER ? 1 : -1;
	if (more > 0 && members + more > bubble_limit(&organizer, BUBBLE_LIMIT_MEMBERS))
		return refuse(IRIS_NOT_ALLOWED, "The bubble has as many members as it may have",
			      text_r);
	return IRIS_NO_ERROR;
}

/*
 * P6.3. Beside the new organizer the former one may be named, as what it becomes, and nobody else.
 * An orphan is given to whoever is a member: it may have no co-organizer, and cannot get one.
 */
static enum iris_condition
judge_transfer(struct room_change *change, const struct room_affiliate_change *to,
	       enum room_affiliation as, const char **text_r)
{
	struct iris_jid former = bubble_organizer(change->room);
	bool is_orphan = jid_is_none(&former);
	enum iris_condition condition = judge(as, BUBBLE_TRANSFER, change->room, text_r);
	struct room_affiliate_change *items;

	if (condition != IRIS_NO_ERROR)
		return condition;
	if (to->before < (is_orphan ? ROOM_MEMBER : ROOM_ADMIN))
		return refuse_organizer(to, text_r);
	/* P2.5: the bubble is its region's, and so is who answers for it. */
	if (!bubbles_is_ours(&to->jid))
		return refuse(IRIS_NOT_ALLOWED, "The organizer is somebody of this region", text_r);
	for (size_t i = 0; i < change->count; i++)
		if (&change->items[i] != to &&
		    (is_orphan || !jid_bare_equal(&change->items[i].jid, &former) ||
		     change->items[i].after != ROOM_ADMIN))
			return refuse(IRIS_NOT_ALLOWED,
				      "Nothing else changes when a bubble is handed over", text_r);
	items = arena_alloc(change->arena, 2 * sizeof(*items));
	items[0] = *to;
	items[1] = (struct room_affiliate_change){ .jid = jid_copy(change->arena, &former),
						   .before = ROOM_OWNER, .after = ROOM_ADMIN };
	change->items = items;
	change->count = is_orphan ? 1 : 2;
	return IRIS_NO_ERROR;
}

static const struct room_affiliate_change *
find_transfer(const struct room_change *change)
{
	for (size_t i = 0; i < change->count; i++)
		if (change->items[i].after == ROOM_OWNER && change->items[i].before != ROOM_OWNER)
			return &change->items[i];
	return NULL;
}

static enum iris_condition
judge_items(struct room_change *change, enum room_affiliation as, const char **text_r)
{
	const struct room_affiliate_change *transfer = find_transfer(change);
	enum iris_condition condition = IRIS_NO_ERROR;

	if (transfer)
		return judge_transfer(change, transfer, as, text_r);
	for (size_t i = 0; i < change->count && condition == IRIS_NO_ERROR; i++)
		condition = judge_item(change, &change->items[i], as, text_r);
	return condition == IRIS_NO_ERROR ? judge_size(change, text_r) : condition;
}

/* What is owed for it is written before it is made. */
static enum iris_condition
policy_judge_change(struct room_change *change, const char **text_r)
{
	enum room_affiliation as = change->is_operator ?
					   ROOM_OWNER :
					   room_affiliation(change->room, &change->by);
	enum iris_condition condition = judge_items(change, as, text_r);

	for (size_t i = 0; i < change->count && condition == IRIS_NO_ERROR; i++)
		if (crosses(&change->items[i]) &&
		    !notice_intend(change->room, &change->items[i].jid, NOTICE_MEMBERSHIP))
			condition = IRIS_RESOURCE_CONSTRAINT;
	return condition;
}

/* --- everything else that is asked --- */

/* P3.9: guests take part, and organize nothing. Waits. */
static enum iris_condition
may_create(struct room *room, const struct iris_jid *by, const char **text_r)
{
	int64_t owned = rooms_owned(by);
	struct iris_account account;

	if (owned < 0 || !accounts()->find(by, &account))
		return IRIS_INTERNAL_SERVER_ERROR;
	if (account.role == IRIS_ROLE_GUEST)
		return refuse(IRIS_NOT_ALLOWED, "Guests create no bubbles", text_r);
	if (owned >= bubble_limit(by, BUBBLE_LIMIT_OWNED))
		return refuse(IRIS_NOT_ALLOWED, "You have as many bubbles as you may have", text_r);
	return notice_intend(room, by, NOTICE_MEMBERSHIP) ? IRIS_NO_ERROR :
							    IRIS_RESOURCE_CONSTRAINT;
}

static enum iris_condition
may_configure(struct room *room, enum room_affiliation as, const char **text_r)
{
	enum iris_condition condition = judge(as, BUBBLE_CONFIGURE, room, text_r);

	if (condition == IRIS_NO_ERROR && !notice_intend(room, NULL, NOTICE_NAME))
		condition = IRIS_RESOURCE_CONSTRAINT;
	return condition;
}

/* Who is not a member becomes one by being invited; who is one may have a nick kept for it. */
static enum iris_condition
may_register(enum room_affiliation as, const char **text_r)
{
	return as >= ROOM_MEMBER ? IRIS_NO_ERROR :
				   refuse(IRIS_NOT_ALLOWED,
					  "One becomes a member of a bubble by being invited",
					  text_r);
}

static enum iris_condition
policy_may(struct room *room, enum room_action action, const struct iris_jid *jid,
	   const char **text_r)
{
	enum room_affiliation as;

	*text_r = NULL;
	if (action == ROOM_CREATE)
		return may_create(room, jid, text_r);
	as = room_affiliation(room, jid);
	switch (action) {
	case ROOM_ENTER:
		return as >= ROOM_MEMBER ? judge(as, BUBBLE_ENTER, room, text_r) :
					   IRIS_REGISTRATION_REQUIRED;
	case ROOM_SPEAK: return judge(as, BUBBLE_SPEAK, room, text_r);
	case ROOM_SUBJECT: return judge(as, BUBBLE_SUBJECT, room, text_r);
	case ROOM_INVITE: return judge(as, BUBBLE_ADD, room, text_r);
	case ROOM_MODERATE: return judge(as, BUBBLE_MODERATE, room, text_r);
	case ROOM_CONFIGURE: return may_configure(room, as, text_r);
	case ROOM_DESTROY: return judge(as, BUBBLE_DELETE, room, text_r);
	case ROOM_REGISTER: return may_register(as, text_r);
	case ROOM_CREATE: break;
	}
	return IRIS_NOT_ALLOWED;
}

/* --- what has happened --- */

static void
policy_created(struct room *room, const struct iris_jid *by)
{
	struct iris_jid organizer = bubble_organizer(room);

	LOG(IRIS_LOG_NOTICE, "bubbles", "created", LOG_JID("bubble", jid_bare(room_jid(room))),
	    LOG_JID("organizer", jid_bare(&organizer)));
	notice_owe(room, &organizer, NOTICE_MEMBERSHIP);
	notices_wake(room_jid(room));
}

static void
policy_changed(const struct room_change *change)
{
	const struct iris_jid *bubble = room_jid(change->room);

	for (size_t i = 0; i < change->count; i++) {
		const struct room_affiliate_change *item = &change->items[i];

		if (item->after == ROOM_OWNER && item->before != ROOM_OWNER)
			LOG(IRIS_LOG_NOTICE, "bubbles", "transferred",
			    LOG_JID("bubble", jid_bare(bubble)),
			    LOG_JID("to", jid_bare(&item->jid)),
			    LOG_JID("by", jid_is_none(&change->by) ? IRIS_STR_NONE :
								     jid_bare(&change->by)));
		if (crosses(item))
			notice_owe(change->room, &item->jid, NOTICE_MEMBERSHIP);
	}
	notices_wake(bubble);
}

/* What was intended when it was asked has the name of before. */
static void
policy_configured(struct room *room, const struct iris_jid *by)
{
	notice_owe(room, NULL, NOTICE_NAME);
	notices_wake(room_jid(room));
}

static enum iris_verdict
policy_destroying(struct room *room, const struct iris_jid *by)
{
	if (!notices_intend_deletion(room))
		return IRIS_REFUSE;
	LOG(IRIS_LOG_NOTICE, "bubbles", "deleting", LOG_JID("bubble", jid_bare(room_jid(room))),
	    LOG_JID("by", by && !jid_is_none(by) ? jid_bare(by) : IRIS_STR_NONE));
	return IRIS_PASS;
}

static void
policy_destroyed(const struct iris_jid *bare)
{
	notices_owe_deletion(bare);
}

static void
policy_add_info(struct room *room, struct iris_element *query)
{
	struct iris_element *form;

	if (module_is_loaded("xep0317"))
		element_set(element_add(query, "feature", NULL), "var", IRIS_STR(NS_HATS));
	form = form_add(query, "result", NS_BUBBLE);
	form_add_field(form, "text-single", "state",
		       bubble_state_of(room) == BUBBLE_ARCHIVED ? IRIS_STR("archived") :
								  IRIS_STR("open"));
}

/* P6.1; who is in sees who is in: they are colleagues. Invitations are for organizers. */
#define ALWAYS_SO                                                                        \
	"persistentroom=1\nmembersonly=1\npublicroom=0\nenablelogging=1\nallowinvites=0\n" \
	"passwordprotectedroom=0\n"

const struct room_policy bubbles_policy = {
	.may = policy_may,
	.judge_change = policy_judge_change,
	.new_config = ALWAYS_SO "whois=anyone\nchangesubject=1\n",
	.fixed_config = ALWAYS_SO,
	.admins_promote = true,
	.created = policy_created,
	.changed = policy_changed,
	.configured = policy_configured,
	.destroying = policy_destroying,
	.destroyed = policy_destroyed,
	.add_info = policy_add_info,
};
