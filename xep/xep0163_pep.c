/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0163 1.2: Personal Eventing Protocol: every account is a publish-subscribe service.  What it
 * answers and announces; the service itself is modules/pubsub.
 */
#include "modules/pubsub/pubsub.h"

static struct iris_module_self pep_self;

static enum iris_verdict
pep_disco_info(struct iris_discovery *discovery)
{
	struct iris_element *identity;

	if (discovery->of != IRIS_DISCO_ACCOUNT)
		return IRIS_PASS;
	if (str_is_none(discovery->node)) { /* §6 */
		identity = element_add(discovery->query, "identity", NULL);
		element_set(identity, "category", IRIS_STR("pubsub"));
		element_set(identity, "type", IRIS_STR("pep"));
	}
	return pubsub_disco_account(discovery, false);
}

static enum iris_verdict
pep_disco_items(struct iris_discovery *discovery)
{
	return discovery->of == IRIS_DISCO_ACCOUNT ? pubsub_disco_account(discovery, true) :
						     IRIS_PASS;
}

#define FEATURE(name) { IRIS_DISCO_ACCOUNT, NS_PUBSUB "#" name }

static const struct iris_feature pep_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_PUBSUB },
	FEATURE("access-authorize"),
	FEATURE("access-open"),
	FEATURE("access-presence"),
	FEATURE("access-roster"),
	FEATURE("access-whitelist"),
	FEATURE("auto-create"),
	FEATURE("auto-subscribe"),
	FEATURE("config-node"),
	FEATURE("config-node-max"),
	FEATURE("create-and-configure"),
	FEATURE("create-nodes"),
	FEATURE("delete-items"),
	FEATURE("delete-nodes"),
	FEATURE("filtered-notifications"),
	FEATURE("instant-nodes"),
	FEATURE("item-ids"),
	FEATURE("last-published"),
	FEATURE("manage-subscriptions"),
	FEATURE("member-affiliation"),
	FEATURE("meta-data"),
	FEATURE("modify-affiliations"),
	FEATURE("multi-items"),
	FEATURE("outcast-affiliation"),
	FEATURE("persistent-items"),
	FEATURE("presence-notifications"),
	FEATURE("presence-subscribe"),
	FEATURE("publish"),
	FEATURE("publish-node-full"),
	FEATURE("publish-only-affiliation"),
	FEATURE("publish-options"),
	FEATURE("publisher-affiliation"),
	FEATURE("purge-nodes"),
	FEATURE("retract-items"),
	FEATURE("retrieve-affiliations"),
	FEATURE("retrieve-default"),
	FEATURE("retrieve-default-sub"),
	FEATURE("retrieve-items"),
	FEATURE("retrieve-subscriptions"),
	FEATURE("rsm"),
	FEATURE("subscribe"),
	FEATURE("subscription-notifications"),
	FEATURE("subscription-options"),
	{ .var = NULL },
};

/* Anyone may ask: what may be read is each node's to say, and a stranger learns no more (P5.7). */
static const struct iris_iq pep_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "pubsub", NS_PUBSUB, IRIS_ANYONE, pubsub_answer_account },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "pubsub", NS_PUBSUB, IRIS_ANYONE, pubsub_answer_account },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "pubsub", NS_PUBSUB_OWNER, IRIS_ANYONE,
	  pubsub_answer_account },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "pubsub", NS_PUBSUB_OWNER, IRIS_ANYONE,
	  pubsub_answer_account },
	{ .name = NULL },
};

static const struct iris_hook_handler pep_hooks[] = {
	HOOK(disco_info, IRIS_NEUTRAL, pep_disco_info),
	HOOK(disco_items, IRIS_NEUTRAL, pep_disco_items),
	HOOKS_END,
};

const struct iris_module iris_module_xep0163 = {
	IRIS_MODULE_HEAD,
	.name = "xep0163",
	.summary = "Personal Eventing Protocol",
	.xep = "XEP-0163 1.2.2",
	.needs = IRIS_NAMES("pubsub", "xep0030", "xep0115"),
	.self = &pep_self,
	.features = pep_features,
	.iq = pep_iq,
	.hooks = pep_hooks,
};
