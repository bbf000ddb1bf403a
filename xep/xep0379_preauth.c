/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0379 0.3: Pre-Authenticated Roster Subscription, by the server; off by default.  At the home
 * of who invited.
 *
 * A subscription request that shows the token of an invitation (xep0401) is granted, and answered
 * by one in the other direction, which the guest's client has approved before.  A token that is
 * unknown, used or expired makes it an ordinary request, for a person to decide.
 */
#include "xep/xep0401_tokens.h"

static struct iris_module_self preauth_self;

static struct iris_metric preauth_metrics[] = {
	{ .name = "iris_preauth_subscriptions_total",
	  .help = "Subscriptions granted to who showed an invitation" },
	{ .name = NULL },
};

static struct invite *
preauth_find(struct iris_user *user, const struct iris_stanza *request)
{
	struct iris_element *preauth = element_child(request->root, "preauth", NS_PREAUTH);
	char token[INVITE_TOKEN_SIZE];
	struct invite *invite;

	if (!preauth)
		return NULL;
	invite_hash(element_get(preauth, "token"), token);
	invite = invite_find(user, token);
	if (!invite || !(invite->rights & INVITE_CONTACT) || invite->claimed ||
	    invite->expires_ms <= worker_wall_ms())
		return NULL;
	return invite;
}

/* §3.5: approved now, the request that follows this hook is granted by the rules of RFC 6121. */
static enum iris_verdict
preauth_stanza_in(struct iris_incoming *incoming)
{
	struct iris_stanza *stanza = incoming->delivery.stanza;
	struct iris_user *user = incoming->user;
	struct iris_contact *contact;
	struct invite *invite;
	struct iris_jid guest;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_SUBSCRIBE)
		return IRIS_PASS;
	invite = preauth_find(user, stanza);
	contact = invite ? roster_find(user, jid_bare(&stanza->from)) : NULL;
	if (!invite || (contact && contact->subscription == IRIS_SUB_BOTH))
		return IRIS_PASS;
	if (!invite_use(user, &invite))
		return IRIS_PASS; /* the vault takes nothing now: a person decides */
	guest = jid_from_prepared(jid_bare(&stanza->from));
	if (user_subscribe(user, &guest, IRIS_SUBSCRIBED, incoming->ticket) == IRIS_NO_ERROR) {
		if (!contact_is_seen(contact) &&
		    user_subscribe(user, &guest, IRIS_SUBSCRIBE, incoming->ticket) !=
			    IRIS_NO_ERROR)
			LOG(IRIS_LOG_INFO, "xep0379", "not-asked-back",
			    LOG_JID("inviter", jid_bare(&user->jid)));
		metric_add(&preauth_metrics[0], 1);
	}
	return IRIS_PASS;
}

static const struct iris_hook_handler preauth_hooks[] = {
	HOOK(stanza_in, IRIS_EARLY, preauth_stanza_in),
	HOOKS_END,
};

static const struct iris_feature preauth_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_PREAUTH },
	{ .var = NULL },
};

const struct iris_module iris_module_xep0379 = {
	IRIS_MODULE_HEAD,
	.name = "xep0379",
	.summary = "Pre-Authenticated Roster Subscription",
	.xep = "XEP-0379 0.3.3",
	.needs = IRIS_NAMES("xep0401"),
	.self = &preauth_self,
	.features = preauth_features,
	.hooks = preauth_hooks,
	.metrics = preauth_metrics,
	.off_by_default = true,
};
