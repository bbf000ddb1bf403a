/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0359 0.7: Unique and Stable Stanza IDs.  A message that is kept carries the id that it has
 * in its recipient's archive.  Home worker of the sender, then of the recipient.
 *
 * SECURITY: an id in the name of an account of ours is taken out of what a client or component
 * sends: with forged ones it could make other clients believe that they have a message already
 * (§6).  What the log calls an entry is not shown (log_id_seal()): it would tell the pace at which
 * others write.
 */
#include "xep/payloads.h"
#include "xep/xep0359_stanza_id.h"

static struct iris_module_self sid_self;

static bool
sid_is_ours(const struct iris_element *element)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid by;
	bool ours = jid_parse(arena, element_get(element, "by"), &by) &&
		    host_find(jid_domain(&by)) != NULL;

	arena_unref(&arena);
	return ours;
}

void
stanza_id_remove_ours(struct iris_stanza *stanza)
{
	struct iris_element *child, *next;

	if (stanza->kind != IRIS_MESSAGE)
		return;
	for (child = element_child(stanza->root, "stanza-id", NS_SID); child; child = next) {
		next = element_next(child, "stanza-id", NS_SID);
		if (sid_is_ours(child))
			element_remove(child);
	}
}

static enum iris_verdict
sid_stanza_out(struct iris_request *request)
{
	stanza_id_remove_ours(request->stanza);
	return IRIS_PASS;
}

static enum iris_verdict
sid_message_in(struct iris_incoming *incoming)
{
	struct iris_delivery *delivery = &incoming->delivery;
	struct iris_strbuf extra = STRBUF_INIT(incoming->request->arena);

	if (delivery->log_id == 0)
		return IRIS_PASS;
	strbuf_add(&extra, delivery->extra);
	strbuf_add(&extra, IRIS_STR("<stanza-id xmlns='" NS_SID "' id='"));
	strbuf_add(&extra, log_id_seal(incoming->request->arena, incoming->user->account.id,
				       delivery->log_id));
	strbuf_add(&extra, IRIS_STR("' by='"));
	xml_escape(&extra, jid_full(&incoming->user->jid));
	strbuf_add(&extra, IRIS_STR("'/>"));
	delivery->extra = strbuf_str(&extra);
	return IRIS_PASS;
}

void
stanza_id_add(struct iris_element *message, const struct iris_user *by, int64_t log_id)
{
	struct iris_element *id = element_add(message, "stanza-id", NS_SID);

	element_set(id, "id", log_id_seal(message->arena, by->account.id, log_id));
	element_set(id, "by", jid_full(&by->jid));
}

static const struct iris_feature sid_features[] = {
	{ IRIS_DISCO_HOST, NS_SID },
	{ IRIS_DISCO_ACCOUNT, NS_SID },
	{ .var = NULL },
};

static const struct iris_hook_handler sid_hooks[] = {
	HOOK(stanza_out, IRIS_EARLY, sid_stanza_out),
	HOOK(message_in, IRIS_LATE, sid_message_in),
	HOOKS_END,
};

const struct iris_module iris_module_xep0359 = {
	IRIS_MODULE_HEAD,
	.name = "xep0359",
	.summary = "Unique and Stable Stanza IDs",
	.xep = "XEP-0359 0.7.0",
	.needs = IRIS_NAMES("archive"),
	.self = &sid_self,
	.features = sid_features,
	.hooks = sid_hooks,
};
