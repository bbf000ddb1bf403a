/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0060 §4.1, §4.5, §6.5.9: who may read and publish at a node, decided anew each time from
 * roster, affiliations and subscriptions, so that nothing outlives what it rests on (XEP-0163 §5).
 * Never waits.
 */
#include "modules/pubsub/pubsub_private.h"

static const struct iris_contact *
contact_of(const struct pubsub_service *service, const struct iris_jid *jid)
{
	return service->user ? roster_find(service->user, jid_bare(jid)) : NULL;
}

static bool
is_self(const struct pubsub_service *service, const struct iris_jid *jid)
{
	return service->user && jid_bare_equal(&service->jid, jid);
}

bool
access_is_near(const struct pubsub_service *service, const struct iris_jid *jid)
{
	return is_self(service, jid) || contact_sees_us(contact_of(service, jid));
}

bool
access_is_owner(const struct pubsub_service *service, const struct pubsub_node *node,
		const struct iris_jid *jid)
{
	return is_self(service, jid) ||
	       (node && node_affiliation(node, jid_bare(jid)) == AFFILIATION_OWNER);
}

static bool
has_line(const char *lines, const char *line)
{
	size_t len = strlen(line);

	while (lines && *lines) {
		size_t here = strcspn(lines, "\n");

		if (here == len && memcmp(lines, line, len) == 0)
			return true;
		lines += here + (lines[here] == '\n');
	}
	return false;
}

static bool
is_in_group(const struct pubsub_node *node, const struct iris_contact *contact)
{
	const char *allowed = node->config.texts[CONFIG_GROUPS];

	for (char **group = contact ? contact->groups : NULL; group && *group; group++)
		if (has_line(allowed, *group))
			return true;
	return false;
}

/* Subscribed with its bare JID or with one of its resources. */
static enum pubsub_subscription
subscription_of(const struct pubsub_node *node, const struct iris_jid *jid)
{
	struct pubsub_subscriber *subscriber = node_subscriber(node, jid_bare(jid));

	if (!subscriber)
		subscriber = node_subscriber(node, jid_full(jid));
	return subscriber ? subscriber->state : SUBSCRIPTION_NONE;
}

/* `contact` is whom the address belongs to; NULL: it is no contact's. */
static enum pubsub_error
read_as(const struct pubsub_node *node, const struct iris_jid *jid,
	const struct iris_contact *contact)
{
	enum pubsub_affiliation affiliation = node_affiliation(node, jid_bare(jid));

	if (affiliation == AFFILIATION_OUTCAST || affiliation == AFFILIATION_PUBLISH_ONLY)
		return PUBSUB_FORBIDDEN;
	if (affiliation != AFFILIATION_NONE)
		return PUBSUB_NONE;
	switch (node->config.numbers[CONFIG_ACCESS_MODEL]) {
	case ACCESS_OPEN:
		return PUBSUB_NONE;
	case ACCESS_PRESENCE:
		return contact_sees_us(contact) || is_self(node->service, jid) ?
			       PUBSUB_NONE :
			       PUBSUB_PRESENCE_REQUIRED;
	case ACCESS_ROSTER:
		return is_in_group(node, contact) ? PUBSUB_NONE : PUBSUB_NOT_IN_GROUP;
	case ACCESS_AUTHORIZE:
		switch (subscription_of(node, jid)) {
		case SUBSCRIPTION_SUBSCRIBED:
			return PUBSUB_NONE;
		case SUBSCRIPTION_PENDING:
			return PUBSUB_PENDING;
		default:
			return PUBSUB_NOT_SUBSCRIBED_AUTH;
		}
	default:
		return PUBSUB_CLOSED_NODE;
	}
}

enum pubsub_error
access_read(const struct pubsub_node *node, const struct iris_jid *jid)
{
	return read_as(node, jid, contact_of(node->service, jid));
}

enum pubsub_error
access_read_contact(const struct pubsub_node *node, const struct iris_contact *contact)
{
	return read_as(node, &contact->jid, contact);
}

bool
access_see(const struct pubsub_node *node, const struct iris_jid *jid)
{
	enum pubsub_affiliation affiliation;
	int32_t model = node->config.numbers[CONFIG_ACCESS_MODEL];

	if (node->service->user)
		return access_read(node, jid) == PUBSUB_NONE;
	affiliation = node_affiliation(node, jid_bare(jid));
	return affiliation > AFFILIATION_OUTCAST ||
	       (affiliation == AFFILIATION_NONE && access_is_listed(model));
}

bool
access_publish(const struct pubsub_node *node, const struct iris_jid *jid)
{
	enum pubsub_affiliation affiliation = node_affiliation(node, jid_bare(jid));

	if (affiliation >= AFFILIATION_PUBLISH_ONLY)
		return true;
	if (affiliation == AFFILIATION_OUTCAST)
		return false;
	switch (node->config.numbers[CONFIG_PUBLISH_MODEL]) {
	case PUBLISH_OPEN:
		return access_read(node, jid) == PUBSUB_NONE;
	case PUBLISH_SUBSCRIBERS:
		return subscription_of(node, jid) == SUBSCRIPTION_SUBSCRIBED;
	default:
		return false;
	}
}
