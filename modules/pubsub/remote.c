/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0163 §4.2: what the resources of contacts on other servers announce.  Known from their
 * presence at the home of the account that they see; asked about in its name; bounded.  Never
 * waits.
 */
#include <stdlib.h>

#include "modules/pubsub/pubsub_private.h"

struct remote_contact {
	struct iris_hash_node node; /* by bare JID */
	LIST_HEAD(, remote_resource) resources;
	char bare[];
};

struct remote_resource {
	LIST_ENTRY(remote_resource) link;
	struct remote_contact *contact;
	struct pubsub_service *service;
	struct caps_watch watch;
	struct iris_jid full;
	char text[];
};

static struct remote_contact *
contact_find(const struct pubsub_service *service, struct iris_str bare)
{
	struct iris_hash_node *node = hash_find(&service->remotes, bare);

	return node ? IRIS_CONTAINER(node, struct remote_contact, node) : NULL;
}

static struct remote_contact *
contact_new(struct pubsub_service *service, struct iris_str bare)
{
	struct remote_contact *contact = iris_calloc(1, sizeof(*contact) + bare.len);

	memcpy(contact->bare, bare.base, bare.len);
	hash_insert(&service->remotes, &contact->node,
		    (struct iris_str){ contact->bare, bare.len });
	return contact;
}

static struct remote_resource *
resource_find(struct remote_contact *contact, const struct iris_jid *full)
{
	struct remote_resource *resource;

	if (!contact)
		return NULL;
	LIST_FOREACH(resource, &contact->resources, link)
		if (jid_equal(&resource->full, full))
			return resource;
	return NULL;
}

static void
resource_known(struct caps_watch *watch)
{
	struct remote_resource *resource = IRIS_CONTAINER(watch, struct remote_resource, watch);

	last_send_to(resource->service, &resource->full, watch);
}

/* SECURITY: a server may show as many resources as it likes; only so many are kept. */
static struct remote_resource *
resource_new(struct pubsub_service *service, const struct iris_jid *full)
{
	struct iris_str text = jid_full(full);
	struct remote_contact *contact = contact_find(service, jid_bare(full));
	struct remote_resource *resource;

	if (service->remote_count >= (size_t)option_int(&pubsub_self, OPT_REMOTE_MAX))
		return NULL;
	if (!contact)
		contact = contact_new(service, jid_bare(full));
	resource = iris_calloc(1, sizeof(*resource) + text.len);
	memcpy(resource->text, text.base, text.len);
	resource->full = *full;
	resource->full.base = resource->text;
	resource->contact = contact;
	resource->service = service;
	resource->watch.asker = &service->jid;
	resource->watch.known = resource_known;
	LIST_INSERT_HEAD(&contact->resources, resource, link);
	service->remote_count++;
	pubsub_count(METRIC_REMOTE, 1);
	return resource;
}

static void
resource_free(struct remote_resource *resource)
{
	struct pubsub_service *service = resource->service;
	struct remote_contact *contact = resource->contact;

	caps_unfollow(&resource->watch);
	LIST_REMOVE(resource, link);
	free(resource);
	service->remote_count--;
	pubsub_count(METRIC_REMOTE, -1);
	if (!LIST_EMPTY(&contact->resources))
		return;
	hash_remove(&service->remotes, &contact->node);
	free(contact);
}

void
remote_presence(struct pubsub_service *service, const struct iris_stanza *presence)
{
	struct remote_resource *resource =
		resource_find(contact_find(service, jid_bare(&presence->from)), &presence->from);

	if (presence->type == IRIS_UNAVAILABLE && resource) {
		resource_free(resource);
	} else if (presence->type == IRIS_AVAILABLE && !jid_is_bare(&presence->from) &&
		   access_is_near(service, &presence->from)) {
		if (!resource)
			resource = resource_new(service, &presence->from);
		if (resource && caps_follow(&resource->watch, presence) &&
		    caps_known(&resource->watch))
			last_send_to(service, &resource->full, &resource->watch);
	}
}

void
remote_each(const struct pubsub_service *service, struct iris_str bare, struct iris_str feature,
	    void (*fn)(const struct iris_jid *full, void *arg), void *arg)
{
	struct remote_contact *contact = contact_find(service, bare);
	struct remote_resource *resource;

	if (!contact)
		return;
	LIST_FOREACH(resource, &contact->resources, link)
		if (caps_has(&resource->watch, feature))
			fn(&resource->full, arg);
}

void
remote_free(struct pubsub_service *service)
{
	HASH_FOREACH(node, &service->remotes) {
		struct remote_contact *contact = IRIS_CONTAINER(node, struct remote_contact, node);
		struct remote_resource *resource = LIST_FIRST(&contact->resources), *next;

		for (; resource; resource = next) {
			next = LIST_NEXT(resource, link);
			resource_free(resource);
		}
	}
}
