/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0012 2.0: Last Activity of the server (its uptime) and of an account's network (P5.5):
 * seconds since the last session went, with the status it left with.  How long a client is idle it
 * says itself, and only its network reaches it with the question.
 */
#include "iris/module.h"

#define NS_LAST "jabber:iq:last"

static struct iris_module_self last_self;
static int64_t last_started_ms;

static enum iris_verdict
last_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

static void
last_reply(struct iris_request *request, int64_t milliseconds, struct iris_str status)
{
	request->reply = element_new(request->arena, "query", NS_LAST);
	element_set_int(request->reply, "seconds", milliseconds < 0 ? 0 : milliseconds / 1000);
	if (!str_is_empty(status))
		element_text(request->reply, status);
}

static enum iris_verdict
last_of_host(struct iris_request *request)
{
	last_reply(request, worker_wall_ms() - last_started_ms, IRIS_STR_NONE);
	return IRIS_DONE;
}

static enum iris_verdict
last_of_account(struct iris_request *request)
{
	struct iris_account account;
	struct iris_str status;

	if (request->user->available_count > 0) { /* §4: zero while a session is available */
		last_reply(request, 0, IRIS_STR_NONE);
		return IRIS_DONE;
	}
	if (!accounts()->find(&request->user->jid, &account) ||
	    !accounts()->last_status(request->arena, &account, &status))
		return last_refuse(request, IRIS_INTERNAL_SERVER_ERROR);
	if (account.last_logout_ms == 0)
		return last_refuse(request, IRIS_ITEM_NOT_FOUND);
	last_reply(request, worker_wall_ms() - account.last_logout_ms, status);
	return IRIS_DONE;
}

/*
 * §4: a client tells how long nobody touched it, so only who may see its presence reaches it.
 * SECURITY: others get what a client that is not there gives (P5.7).
 */
static enum iris_verdict
last_stanza_in(struct iris_incoming *incoming)
{
	struct iris_stanza *iq = incoming->delivery.stanza;

	if (iq->kind != IRIS_IQ || iq->type != IRIS_GET || !incoming->session ||
	    !element_child(iq->root, "query", NS_LAST) ||
	    jid_bare_equal(&iq->from, &incoming->user->jid) ||
	    contact_sees_us(roster_find(incoming->user, jid_bare(&iq->from))))
		return IRIS_PASS;
	incoming->request->refusal.condition = IRIS_SERVICE_UNAVAILABLE;
	return IRIS_REFUSE;
}

static bool
last_start(struct iris_error *error)
{
	last_started_ms = worker_wall_ms();
	return true;
}

static const struct iris_feature last_features[] = {
	{ IRIS_DISCO_HOST, NS_LAST },
	{ IRIS_DISCO_ACCOUNT, NS_LAST },
	{ .var = NULL },
};

static const struct iris_iq last_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "query", NS_LAST, IRIS_ANYONE, last_of_host },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_LAST, IRIS_NETWORK, last_of_account },
	{ .name = NULL },
};

static const struct iris_hook_handler last_hooks[] = {
	HOOK(stanza_in, IRIS_FILTER, last_stanza_in),
	HOOKS_END,
};

const struct iris_module iris_module_xep0012 = {
	IRIS_MODULE_HEAD,
	.name = "xep0012",
	.summary = "Last Activity",
	.xep = "XEP-0012 2.0",
	.self = &last_self,
	.features = last_features,
	.iq = last_iq,
	.hooks = last_hooks,
	.start = last_start,
};
