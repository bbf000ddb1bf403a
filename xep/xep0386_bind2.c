/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0386 1.1.0: Bind 2.  Binds a resource inside XEP-0388 and enables, in the same breath, what
 * the client asks for (hooks bind_features, bind_request).  At the user's home, on the stream's
 * fiber.  What the archive tells in <bound/>, and that offline messages are not sent, is those
 * plug-ins' part.
 *
 * The resource is stable for a client installation: made from a keyed hash of its id, so that it
 * does not show it.
 */
#include <stdlib.h>

#include "iris/module.h"
#include "xep0388_sasl2.h"

#define NS_BIND2 "urn:xmpp:bind:0"
#define TAG_MAX 256 /* bytes; longer ones are left out */

static struct iris_module_self bind2_self;

/* In the slot of a session: which client installation bound it. */
struct bind2_client {
	int64_t id;
};

/* §3.1 */
static enum iris_verdict
bind2_inline_features(struct iris_inline *offered)
{
	struct iris_element *bind = element_add(offered->response, "bind", NS_BIND2);
	struct iris_inline inside = { .stream = offered->stream,
				      .response = element_add(bind, "inline", NULL) };

	(void)hook_run_bind_features(&inside);
	if (!inside.response->first)
		element_remove(inside.response);
	return IRIS_PASS;
}

/* 63 bits, the same for the life of the region; 0: the client did not say who it is. */
static int64_t
client_id(struct iris_arena *arena, const struct iris_jid *jid,
	  const struct iris_element *authenticate)
{
	struct iris_str agent = sasl2_user_agent(arena, authenticate);

	if (str_is_none(agent))
		return 0;
	return vault_peer_id(arena_printf(arena, "bind2 %.*s %.*s", IRIS_STR_FMT(jid_bare(jid)),
					  IRIS_STR_FMT(agent)));
}

/* §3.2.1: tag, slash, what we add. None: the core makes one. */
static struct iris_str
choose_resource(struct iris_arena *arena, const struct iris_jid *jid, struct iris_str tag,
		int64_t client)
{
	struct iris_str own = client ? arena_printf(arena, "%016llx", (unsigned long long)client) :
				       random_id(arena, 96);
	struct iris_str resource;
	struct iris_jid full;

	if (tag.len == 0 || tag.len > TAG_MAX)
		return client ? own : IRIS_STR_NONE;
	resource = arena_printf(arena, "%.*s/%.*s", IRIS_STR_FMT(tag), IRIS_STR_FMT(own));
	return jid_make(arena, jid_node(jid), jid_domain(jid), resource, &full) ? resource : own;
}

/* §3.2: earlier sessions of the same client end, and first: they may have its resource. */
static void
end_earlier_sessions(const struct iris_jid *jid, int64_t client)
{
	struct iris_user *user = client ? user_find(jid_bare(jid)) : NULL;

	if (!user)
		return;
	user_hold(user);
	for (struct iris_session *session = TAILQ_FIRST(&user->sessions), *next; session;
	     session = next) {
		const struct bind2_client *earlier = *session_slot(session, &bind2_self);

		next = TAILQ_NEXT(session, link);
		if (earlier && earlier->id == client && !session->closing)
			session_close(session, "conflict",
				      "Replaced by a new connection of the same client");
	}
	user_release(&user);
}

static void
remember_client(struct iris_session *session, int64_t client)
{
	struct bind2_client *own;

	if (!client)
		return;
	own = iris_malloc(sizeof(*own));
	own->id = client;
	*session_slot(session, &bind2_self) = own;
}

/* §3.2 */
static enum iris_verdict
bind2_inline_request(struct iris_inline *answer)
{
	struct iris_element *bind = element_child(answer->request, "bind", NS_BIND2);
	struct iris_arena *arena = answer->response->arena;
	const struct iris_jid *jid = stream_jid(answer->stream);
	struct iris_refusal refusal = { .condition = IRIS_NO_ERROR };
	struct iris_inline inside = { .stream = answer->stream, .request = bind };
	int64_t client;

	if (!bind || answer->resumed || !jid)
		return IRIS_PASS;
	client = client_id(arena, jid, answer->request);
	end_earlier_sessions(jid, client);
	inside.session = stream_bind(
		answer->stream,
		choose_resource(arena, jid, element_child_text(bind, "tag", NS_BIND2), client),
		&refusal);
	if (!inside.session) {
		/* The client is signed in, sees no <bound/>, and may bind in the old way. */
		LOG(IRIS_LOG_INFO, "bind2", "refused",
		    LOG_CSTR("condition", condition_name(refusal.condition)));
		return IRIS_PASS;
	}
	remember_client(inside.session, client);
	inside.response = element_add(answer->response, "bound", NS_BIND2);
	(void)hook_run_bind_request(&inside);
	return IRIS_PASS;
}

static enum iris_verdict
bind2_session_close(struct iris_session *session)
{
	void **slot = session_slot(session, &bind2_self);

	free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

static const struct iris_hook_handler bind2_hooks[] = {
	HOOK(inline_features, IRIS_NEUTRAL, bind2_inline_features),
	HOOK(inline_request, IRIS_LATE, bind2_inline_request),
	HOOK(session_close, IRIS_LATE, bind2_session_close),
	HOOKS_END,
};

const struct iris_module iris_module_xep0386 = {
	IRIS_MODULE_HEAD,
	.name = "xep0386",
	.summary = "Resource binding while signing in (Bind 2)",
	.xep = "XEP-0386 1.1.0",
	.needs = IRIS_NAMES("xep0388"),
	.self = &bind2_self,
	.hooks = bind2_hooks,
	.not_unloadable = true,
};
