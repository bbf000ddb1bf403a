/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, at the home of its user, on the fiber of its stream: the sender is stamped
 * and checked (RFC 6120 §8.1.2.1), an absent recipient means the client's own account (§10.3), and
 * each kind goes its way.  It runs the hooks stanza_out and message_out.
 */
#include "im_private.h"

static struct iris_metric c2s_metrics[] = {
	{ .name = "iris_client_stanzas_total", .labels = "kind=\"message\"", .kind = IRIS_COUNTER,
	  .help = "Stanzas that clients sent" },
	{ .name = "iris_client_stanzas_total", .labels = "kind=\"presence\"", .kind = IRIS_COUNTER,
	  .help = "Stanzas that clients sent" },
	{ .name = "iris_client_stanzas_total", .labels = "kind=\"iq\"", .kind = IRIS_COUNTER,
	  .help = "Stanzas that clients sent" },
	{ .name = "iris_client_refusals_total", .kind = IRIS_COUNTER,
	  .help = "Stanzas of clients that were answered with an error before they were routed" },
	{ .name = NULL },
};
enum { METRIC_REFUSALS = IRIS_IQ + 1 }; /* the kinds come first */

void
session_refuse(struct iris_session *session, const struct iris_stanza *stanza,
	       const struct iris_refusal *refusal)
{
	struct iris_stanza *error = stanza_error(stanza, refusal);

	metric_add(&c2s_metrics[METRIC_REFUSALS], 1);
	if (error)
		session_send(session, &error);
}

static void
session_refuse_with(struct iris_session *session, const struct iris_stanza *stanza,
		    enum iris_condition condition)
{
	session_refuse(session, stanza, &(struct iris_refusal){ .condition = condition });
}

/*
 * RFC 6120 §8.1.2.1: `from` is the client's full or bare address, or absent. RFC 6121 §3: what
 * manages a subscription leaves with the bare one.
 */
static bool
stamp_from(const struct iris_session *session, struct iris_stanza *stanza)
{
	const struct iris_jid *own = &session->jid;

	if (!jid_is_none(&stanza->from) && !jid_equal(&stanza->from, own) &&
	    !jid_equal(&stanza->from, &session->user->jid))
		return false;
	if (stanza->kind == IRIS_PRESENCE && subscription_is_type(stanza->type))
		own = &session->user->jid;
	if (!jid_equal(&stanza->from, own))
		stanza_set_from(stanza, own);
	return true;
}

/* RFC 6120 §8.1.5: a stanza without a language has that of its stream. */
static void
stamp_lang(const struct iris_session *session, struct iris_stanza *stanza)
{
	struct iris_str lang = session->stream ? stream_lang(session->stream) : IRIS_STR_NONE;

	if (str_is_none(lang) || !str_is_none(stanza->lang))
		return;
	element_set(stanza->root, "xml:lang", lang);
	stanza->lang = element_lang(stanza->root);
}

static bool
is_legal(const struct iris_stanza *stanza)
{
	if (stanza->kind == IRIS_IQ)
		return iq_is_legal(stanza);
	return stanza->kind == IRIS_MESSAGE || stanza->type != IRIS_TYPE_UNKNOWN;
}

/* May this go on? When not, it has been answered. */
static bool
pass_hook(enum iris_verdict verdict, struct iris_request *request)
{
	if (verdict == IRIS_REFUSE)
		session_refuse(request->session, request->stanza, &request->refusal);
	return verdict == IRIS_PASS;
}

static void
receive_message(struct iris_session *session, struct iris_request *request,
		struct iris_stanza **stanza_p)
{
	if (jid_is_none(&(*stanza_p)->to)) /* RFC 6120 §10.3.1 */
		stanza_set_to(*stanza_p, &session->user->jid);
	stanza_freeze(*stanza_p); /* it is kept and copied as it is from here on */
	if (hook_is_used(IRIS_HOOK_ID_message_out) &&
	    !pass_hook(hook_run_message_out(request), request))
		return;
	route_stanza(stanza_p, request->ticket);
}

/*
 * RFC 6120 §10.3.3: for the account itself. Nobody asked for a result that nobody waits for:
 * swallowed.
 */
static void
receive_iq(struct iris_session *session, struct iris_request *request,
	   struct iris_stanza **stanza_p)
{
	struct iris_stanza *iq = *stanza_p;
	bool own = jid_is_none(&iq->to) || jid_equal(&iq->to, &session->user->jid);
	bool asks = iq->type == IRIS_GET || iq->type == IRIS_SET;
	struct iris_host *host = NULL;

	if (!own && iq->to.node_len == 0 && jid_is_bare(&iq->to))
		host = host_find(jid_domain(&iq->to));
	if (asks && own) {
		request->user = session->user;
		request->is_self = true;
		iq_answer(request, IRIS_TO_ACCOUNT);
	} else if (asks && host && !host->is_component) {
		request->host = host;
		iq_answer(request, IRIS_TO_HOST);
	} else if (own) {
		route_take_reply(iq);
	} else {
		route_stanza(stanza_p, request->ticket);
	}
}

static void
receive_presence(struct iris_session *session, struct iris_stanza **stanza_p,
		 struct iris_ticket *ticket)
{
	if (session->closing)
		return;
	if (subscription_is_type((*stanza_p)->type))
		subscription_send(session, stanza_p, ticket);
	else
		presence_send(session, stanza_p, ticket);
}

static void
receive_checked(struct iris_session *session, struct iris_stanza **stanza_p,
		struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = *stanza_p;
	struct iris_request request = {
		.arena = stanza->arena, .stanza = stanza, .session = session, .ticket = ticket,
		.payload = stanza->kind == IRIS_IQ ? element_child(stanza->root, NULL, NULL) : NULL,
		.host = host_find(jid_domain(&session->jid)),
	};

	metric_add(&c2s_metrics[stanza->kind], 1);
	stamp_lang(session, stanza);
	if (!is_legal(stanza)) {
		session_refuse_with(session, stanza, IRIS_BAD_REQUEST);
		return;
	}
	if (hook_is_used(IRIS_HOOK_ID_stanza_out) &&
	    !pass_hook(hook_run_stanza_out(&request), &request))
		return;
	switch (stanza->kind) {
	case IRIS_MESSAGE:
		receive_message(session, &request, stanza_p);
		break;
	case IRIS_PRESENCE:
		receive_presence(session, stanza_p, ticket);
		break;
	case IRIS_IQ:
		receive_iq(session, &request, stanza_p);
		break;
	}
}

void
session_receive(struct iris_session *session, struct iris_stanza **stanza_p,
		struct iris_ticket *ticket)
{
	struct iris_session *held = session_ref(session);

	session->active_ms = worker_wall_ms();
	(*stanza_p)->owner = session->user->account.owner;
	if (stamp_from(session, *stanza_p))
		receive_checked(session, stanza_p, ticket);
	else
		session_close(session, "invalid-from", NULL);
	stanza_unref(stanza_p);
	session_unref(&held);
}

/* --- the role --- */

static void
c2s_opened(struct iris_stream *stream, const struct iris_element *header)
{
	stream_send_features(stream);
}

static void
c2s_stanza(struct iris_stream *stream, struct iris_stanza **stanza_p, struct iris_ticket *ticket)
{
	struct iris_session *session = stream_session(stream);

	if (session && !session->closing)
		session_receive(session, stanza_p, ticket);
	else
		stanza_unref(stanza_p);
}

const struct iris_stream_role stream_role_c2s = {
	.name = "c2s",
	.ns = NS_CLIENT,
	.alpn = "xmpp-client",
	.opened = c2s_opened,
	.stanza = c2s_stanza,
	.ended = session_stream_ended,
};

static const struct iris_stream_role *const c2s_roles[] = { &stream_role_c2s, NULL };

static struct iris_module_self c2s_self;

const struct iris_module iris_module_c2s = {
	IRIS_MODULE_HEAD,
	.name = "c2s",
	.summary = "Streams of clients (RFC 6120, RFC 6121)",
	.needs = IRIS_NAMES("user", "router"),
	.self = &c2s_self,
	.roles = c2s_roles,
	.metrics = c2s_metrics,
	.not_unloadable = true,
};
