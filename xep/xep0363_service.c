/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0363 1.2: the service as an address of its own, upload.HOST for each host.  Slots are given
 * at the home of the account that asks, where its quota is counted.
 *
 * COMPAT(go-sendxmpp): of an entity it reads the first identity only; a host's is server/im.
 */
#include "iris/auth.h"
#include "xep/xep0363_upload.h"

struct slot_call {
	struct iris_request *request;
	enum iris_verdict verdict;
};

static void
slot_at_home(void *arg)
{
	struct slot_call *call = arg;
	struct iris_request *request = call->request;
	struct iris_account account;

	call->verdict = IRIS_REFUSE;
	if (!accounts()->find(&request->stanza->from, &account))
		request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
	else if (account.id == 0)
		request->refusal.condition = IRIS_FORBIDDEN;
	else
		call->verdict = upload_answer(request, &account);
}

/* SECURITY: `from` of an account of ours is proven; nobody else has a quota here. */
static enum iris_verdict
service_slot(struct iris_request *request)
{
	const struct iris_jid *from = &request->stanza->from;
	struct iris_host *host = host_find(jid_domain(from));
	struct slot_call call = { .request = request };

	if (!host || host->is_component || from->node_len == 0) {
		request->refusal.condition = IRIS_FORBIDDEN;
		return IRIS_REFUSE;
	}
	request->host = host; /* the links are those of the account's */
	home_call(jid_bare(from), "xep0363: slot", slot_at_home, &call);
	return call.verdict;
}

static const struct iris_iq service_iq[] = {
	{ IRIS_TO_SERVICE, IRIS_GET, "request", NS_UPLOAD, IRIS_ANYONE, service_slot },
	{ .name = NULL },
};

const struct iris_service_kind upload_service_kind = {
	.module = &iris_module_xep0363,
	.iq = service_iq,
};
