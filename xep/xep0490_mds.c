/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0490 1.0: Message Displayed Synchronization.  What has been read is items of a private node
 * (XEP-0223), which is made private for a client that forgets to say so; and a client may send the
 * mark along with a message (§5.2), for the server to publish.  Home worker of the account.
 */
#include "modules/pubsub/pubsub.h"

#define NS_DISPLAYED "urn:xmpp:mds:displayed:0"

static struct iris_module_self mds_self;

/* §5.2.2: the mark is for the account alone; the message goes on without it. */
static enum iris_verdict
mds_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct pubsub_publication publication = { .user = request->session->user,
						  .node = NS_DISPLAYED,
						  .item = jid_full(&stanza->to) };
	struct iris_element *displayed;
	enum iris_condition condition;

	if (stanza->kind != IRIS_MESSAGE || stanza->type == IRIS_ERROR)
		return IRIS_PASS;
	displayed = element_child(stanza->root, "displayed", NS_DISPLAYED);
	if (!displayed)
		return IRIS_PASS;
	element_remove(displayed);
	if (jid_is_none(&stanza->to) || !element_child(displayed, "stanza-id", NS_SID)) {
		request->refusal.condition = IRIS_BAD_REQUEST;
		return IRIS_REFUSE;
	}
	publication.payload = displayed;
	condition = pubsub_publish(&publication);
	request->refusal.condition = condition;
	return condition == IRIS_NO_ERROR ? IRIS_PASS : IRIS_REFUSE;
}

static struct pubsub_preset mds_preset = {
	.node = NS_DISPLAYED,
	.config = "access_model=whitelist\nsend_last_published_item=never\nmax_items=max\n",
};

static bool
mds_start(struct iris_error *error)
{
	pubsub_preset_add(&mds_preset);
	return true;
}

static void
mds_stop(void)
{
	pubsub_preset_remove(&mds_preset);
}

static const struct iris_feature mds_features[] = {
	{ IRIS_DISCO_ACCOUNT, "urn:xmpp:mds:server-assist:0" },
	{ .var = NULL },
};

static const struct iris_hook_handler mds_hooks[] = {
	HOOK(stanza_out, IRIS_NEUTRAL, mds_stanza_out),
	HOOKS_END,
};

const struct iris_module iris_module_xep0490 = {
	IRIS_MODULE_HEAD,
	.name = "xep0490",
	.summary = "Message Displayed Synchronization",
	.xep = "XEP-0490 1.0.1",
	.needs = IRIS_NAMES("pubsub", "xep0163"),
	.self = &mds_self,
	.features = mds_features,
	.hooks = mds_hooks,
	.not_unloadable = true,
	.start = mds_start,
	.stop = mds_stop,
};
