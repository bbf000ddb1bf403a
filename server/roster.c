/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rosters in memory (RFC 6121 §2): contacts of a user, limits, and changes, which are kept first
 * and made afterwards.  At the home of the user.  What clients ask is in roster_iq.c, what is kept
 * in roster_store.c.
 */
#include <stdlib.h>

#include "im_private.h"

struct contact_block { /* one allocation: the contact, its groups, all its text */
	struct iris_contact contact;
	char *groups[];
};

struct iris_roster *
roster_new(void)
{
	return iris_calloc(1, sizeof(struct iris_roster));
}

/* Address, name and groups; what strangers wrote in their requests is bounded by itself. */
static size_t
item_size(struct iris_str jid, struct iris_str name, char *const *groups)
{
	size_t size = jid.len + name.len;

	for (; groups && *groups; groups++)
		size += strlen(*groups) + 1;
	return size;
}

static size_t
contact_size(const struct iris_contact *contact)
{
	return contact && contact->in_roster ?
		       item_size(jid_bare(&contact->jid), contact->name, contact->groups) :
		       0;
}

static void
contact_remove(struct iris_roster *roster, struct iris_contact *contact)
{
	hash_remove(&roster->contacts, &contact->node);
	roster->item_size -= contact_size(contact);
	roster->item_count -= contact->in_roster;
	roster->request_count -= !contact->in_roster;
	free(IRIS_CONTAINER(contact, struct contact_block, contact));
}

void
roster_free(struct iris_roster **roster_p)
{
	struct iris_roster *roster = *roster_p;

	*roster_p = NULL;
	if (!roster)
		return;
	HASH_FOREACH(node, &roster->contacts)
		contact_remove(roster, IRIS_CONTAINER(node, struct iris_contact, node));
	hash_free(&roster->contacts);
	free(roster);
}

static struct iris_contact *
contact_find(const struct iris_roster *roster, struct iris_str bare)
{
	struct iris_hash_node *node = hash_find(&roster->contacts, bare);

	return node ? IRIS_CONTAINER(node, struct iris_contact, node) : NULL;
}

struct iris_contact *
roster_find(const struct iris_user *user, struct iris_str bare)
{
	return user->roster ? contact_find(user->roster, bare) : NULL;
}

void
roster_each(const struct iris_user *user, void (*fn)(const struct iris_contact *contact, void *arg),
	    void *arg)
{
	HASH_FOREACH(node, &user->roster->contacts)
		fn(IRIS_CONTAINER(node, struct iris_contact, node), arg);
}

/* --- making a contact --- */

static size_t
groups_count(char *const *groups)
{
	size_t count = 0;

	while (groups && groups[count])
		count++;
	return count;
}

static size_t
change_text_size(const struct roster_change *change)
{
	size_t size = jid_bare(&change->jid).len + change->name.len + change->request.len + 3;

	for (char *const *group = change->groups; group && *group; group++)
		size += strlen(*group) + 1;
	return size;
}

static char *
text_put(char **text_p, struct iris_str s)
{
	char *at = *text_p;

	if (s.len > 0)
		memcpy(at, s.base, s.len);
	at[s.len] = '\0';
	*text_p += s.len + 1;
	return at;
}

static struct iris_contact *
contact_new(const struct roster_change *change)
{
	size_t groups = groups_count(change->groups);
	struct contact_block *block = iris_calloc(
		1, sizeof(*block) + (groups + 1) * sizeof(char *) + change_text_size(change));
	struct iris_contact *contact = &block->contact;
	char *text = (char *)&block->groups[groups + 1];

	contact->jid = change->jid;
	contact->jid.resource_len = 0;
	contact->jid.base = text_put(&text, jid_bare(&change->jid));
	contact->subscription = change->subscription;
	contact->ask = change->ask;
	contact->approved = change->approved;
	contact->pending_in = change->pending_in;
	contact->in_roster = change->in_roster;
	if (change->name.base)
		contact->name =
			(struct iris_str){ text_put(&text, change->name), change->name.len };
	if (change->request.base)
		contact->request =
			(struct iris_str){ text_put(&text, change->request), change->request.len };
	for (size_t i = 0; i < groups; i++)
		block->groups[i] = text_put(&text, str_from(change->groups[i]));
	contact->groups = groups ? block->groups : NULL;
	return contact;
}

void
roster_put(struct iris_roster *roster, const struct roster_change *change)
{
	struct iris_contact *before = contact_find(roster, jid_bare(&change->jid));
	struct iris_contact *after =
		change->in_roster || change->pending_in ? contact_new(change) : NULL;

	if (before) /* only now: the change may borrow from it */
		contact_remove(roster, before);
	if (!after)
		return;
	hash_insert(&roster->contacts, &after->node, jid_bare(&after->jid));
	roster->item_size += contact_size(after);
	roster->item_count += after->in_roster;
	roster->request_count += !after->in_roster;
}

/* --- changes --- */

struct roster_change
roster_change_of(const struct iris_contact *contact, const struct iris_jid *bare)
{
	struct roster_change change = { .jid = *bare };

	if (!contact)
		return change;
	change.subscription = contact->subscription;
	change.ask = contact->ask;
	change.approved = contact->approved;
	change.pending_in = contact->pending_in;
	change.in_roster = contact->in_roster;
	change.name = contact->name;
	change.groups = contact->groups;
	change.request = contact->request;
	return change;
}

static bool
groups_equal(char *const *a, char *const *b)
{
	size_t count = groups_count(a);

	if (groups_count(b) != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

bool
roster_is_visible_change(const struct roster_change *before, const struct roster_change *after)
{
	if (before->in_roster != after->in_roster)
		return true;
	return after->in_roster &&
	       (before->subscription != after->subscription || before->ask != after->ask ||
		before->approved != after->approved || !str_equal(before->name, after->name) ||
		!groups_equal(before->groups, after->groups));
}

static enum iris_condition
check_limits(const struct iris_roster *roster, const struct roster_change *before,
	     const struct roster_change *after)
{
	bool was_request = before->pending_in && !before->in_roster;
	bool is_request = after->pending_in && !after->in_roster;
	size_t size = after->in_roster ?
			      item_size(jid_bare(&after->jid), after->name, after->groups) : 0;
	size_t size_before = contact_size(contact_find(roster, jid_bare(&after->jid)));

	if (after->in_roster && !before->in_roster &&
	    roster->item_count >= (size_t)roster_option(ROSTER_MAX_CONTACTS))
		return IRIS_RESOURCE_CONSTRAINT;
	/*
	 * SECURITY: it is in memory, and sent as one stanza. What does not make it larger is never
	 * refused.
	 */
	if (size > size_before &&
	    roster->item_size - size_before + size > (size_t)roster_option(ROSTER_MAX_SIZE))
		return IRIS_RESOURCE_CONSTRAINT;
	if (is_request && !was_request &&
	    roster->request_count >= (size_t)roster_option(ROSTER_MAX_REQUESTS))
		return IRIS_RESOURCE_CONSTRAINT;
	return IRIS_NO_ERROR;
}

static enum iris_condition
condition_of(enum iris_vault_result result)
{
	switch (result) {
	case IRIS_VAULT_OK:
		return IRIS_NO_ERROR;
	case IRIS_VAULT_BUSY:
		return IRIS_RESOURCE_CONSTRAINT;
	case IRIS_VAULT_REFUSED:
		return IRIS_NOT_ALLOWED;
	case IRIS_VAULT_FAILED:
	case IRIS_VAULT_ERASED:
		break;
	}
	return IRIS_INTERNAL_SERVER_ERROR;
}

bool
roster_apply(struct iris_user *user, struct roster_change *change, struct iris_ticket *ticket,
	     enum iris_condition *condition_r)
{
	struct iris_roster *roster = user->roster;
	struct roster_change before =
		roster_change_of(roster_find(user, jid_bare(&change->jid)), &change->jid);

	*condition_r = user_is_ready(user) ? IRIS_NO_ERROR : IRIS_SERVICE_UNAVAILABLE;
	change->visible = roster_is_visible_change(&before, change);
	if (*condition_r == IRIS_NO_ERROR && !change->visible &&
	    before.pending_in == change->pending_in)
		return true;
	if (*condition_r == IRIS_NO_ERROR)
		*condition_r = check_limits(roster, &before, change);
	if (*condition_r == IRIS_NO_ERROR)
		*condition_r = condition_of(roster_post(&user->account, change,
							roster->version + change->visible, ticket));
	if (*condition_r != IRIS_NO_ERROR)
		return false;
	roster->version += change->visible;
	roster_put(roster, change);
	return true;
}
