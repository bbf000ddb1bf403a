/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0077 2.4: In-Band Registration, off by default: registration before signing in (option
 * `open`), change of password and removal of the account afterwards.
 *
 * Before authentication the stream's fiber handles the iq, afterwards the account's home.
 */
#include "xep/xep0077_register.h"

#define NS_FEATURE "http://jabber.org/features/iq-register"

enum { OPT_OPEN, OPT_INSTRUCTIONS };

static struct iris_module_self register_self;
static _Atomic(const struct register_admission *) register_admission;

static struct iris_metric register_metrics[] = {
	{ .name = "iris_registrations_total",
	  .labels = "verdict=\"done\"",
	  .help = "In-band registrations" },
	{ .name = "iris_registrations_total",
	  .labels = "verdict=\"refused\"",
	  .help = "In-band registrations" },
	{ .name = NULL },
};

/* --- before signing in: §3.1 --- */

static bool
register_is_client(const struct iris_stream *stream)
{
	return stream_state(stream) == IRIS_STREAM_UNAUTHENTICATED &&
	       str_is(str_from(stream_role(stream)->name), "c2s");
}

static bool
register_is_offered(struct iris_stream *stream)
{
	const struct register_admission *admission = atomic_load(&register_admission);

	return register_is_client(stream) && (option_bool(&register_self, OPT_OPEN) ||
					      (admission && admission->admits(stream)));
}

/* XEP-0445 §4: who may be admitted sees that there is something to be admitted to. */
static enum iris_verdict
register_stream_features(struct iris_stream_features *arg)
{
	const struct register_admission *admission = atomic_load(&register_admission);

	if (!register_is_client(arg->stream))
		return IRIS_PASS;
	if (admission)
		admission->features(arg->stream, arg->features);
	if (admission || option_bool(&register_self, OPT_OPEN))
		element_add(arg->features, "register", NS_FEATURE);
	return IRIS_PASS;
}

static struct iris_element *
register_reply(struct iris_stream *stream, const struct iris_element *iq, const char *type)
{
	struct iris_element *reply = element_new(iq->arena, "iq", NS_CLIENT);

	element_set(reply, "type", str_from(type));
	element_set(reply, "id", element_get(iq, "id"));
	element_set(reply, "from", stream_host(stream)->name);
	return reply;
}

static void
register_send_error(struct iris_stream *stream, const struct iris_element *iq,
		    enum iris_condition condition, const char *text)
{
	struct iris_element *reply = register_reply(stream, iq, "error");
	struct iris_element *error = element_add(reply, "error", NULL);

	element_set(error, "type", str_from(condition_default_type(condition)));
	element_add(error, condition_name(condition), NS_STANZAS);
	if (text)
		element_add_text(error, "text", NS_STANZAS, str_from(text));
	stream_send(stream, reply);
	metric_add(&register_metrics[1], 1);
}

static void
register_send_form(struct iris_stream *stream, const struct iris_element *iq)
{
	struct iris_element *reply = register_reply(stream, iq, "result");
	struct iris_element *query = element_add(reply, "query", NS_REGISTER);

	element_add_text(query, "instructions", NULL, option_str(&register_self, OPT_INSTRUCTIONS));
	element_add(query, "username", NULL);
	element_add(query, "password", NULL);
	stream_send(stream, reply);
}

/*
 * P3.8: registering is an attempt like signing in, so that names cannot be tried out quickly; it
 * counts also when it succeeds, so that one address cannot fill the server with accounts.
 */
static enum iris_condition
register_create(struct iris_stream *stream, const struct iris_element *query, const char **text_r)
{
	struct iris_arena *arena = query->arena;
	struct iris_str password = element_child_text(query, "password", NULL), node;
	struct iris_str peer = arena_copy_str(arena, stream_peer_address(stream));
	const struct register_admission *admission = atomic_load(&register_admission);
	enum iris_condition condition;
	struct iris_jid jid;

	if (!jid_prepare_new_node(arena, element_child_text(query, "username", NULL), &node) ||
	    !jid_make(arena, node, stream_host(stream)->name, IRIS_STR_NONE, &jid))
		return IRIS_NOT_ACCEPTABLE;
	if (accounts()->attempt(&jid, peer) != IRIS_AUTH_OK)
		return IRIS_RESOURCE_CONSTRAINT;
	condition = admission ? admission->claim(stream, &jid, text_r) : IRIS_NO_ERROR;
	if (condition != IRIS_NO_ERROR)
		return condition;
	condition = accounts()->create(&jid, password, text_r);
	if (admission)
		admission->settle(stream, &jid, condition == IRIS_NO_ERROR);
	return condition;
}

static void
register_set(struct iris_stream *stream, const struct iris_element *iq,
	     const struct iris_element *query)
{
	const char *text = NULL;
	enum iris_condition condition;

	stream_ref(stream);
	condition = register_create(stream, query, &text);
	if (stream_state(stream) == IRIS_STREAM_UNAUTHENTICATED) {
		if (condition == IRIS_NO_ERROR) {
			stream_send(stream, register_reply(stream, iq, "result"));
			metric_add(&register_metrics[0], 1);
		} else
			register_send_error(stream, iq, condition, text);
	}
	stream_unref(&stream);
}

/* The iqs of who may be admitted. False: it is none of them. */
static bool
register_admit(struct iris_stream *stream, struct iris_element *iq)
{
	const struct register_admission *admission = atomic_load(&register_admission);
	struct iris_refusal refusal = { .condition = IRIS_NO_ERROR };
	bool mine;

	if (!admission || !register_is_client(stream))
		return false;
	stream_ref(stream);
	mine = admission->handle_iq(stream, iq, &refusal);
	if (mine && stream_state(stream) == IRIS_STREAM_UNAUTHENTICATED) {
		if (refusal.condition == IRIS_NO_ERROR)
			stream_send(stream, register_reply(stream, iq, "result"));
		else
			register_send_error(stream, iq, refusal.condition, refusal.text);
	}
	stream_unref(&stream);
	return mine;
}

static void
register_handle_iq(struct iris_stream *stream, struct iris_element *iq)
{
	struct iris_element *query = element_child(iq, "query", NS_REGISTER);
	struct iris_str type = element_get(iq, "type");
	bool has_id = !str_is_empty(element_get(iq, "id"));

	if (has_id && !query && register_admit(stream, iq))
		return;
	if (!register_is_offered(stream) || !query || !has_id) {
		stream_error(stream, "not-authorized", "sign in first"); /* RFC 6120 §7.1 */
		return;
	}
	if (str_is(type, "get"))
		register_send_form(stream, iq);
	else if (str_is(type, "set"))
		register_set(stream, iq, query);
	else
		register_send_error(stream, iq, IRIS_BAD_REQUEST, NULL);
}

void
register_set_admission(const struct register_admission *admission)
{
	atomic_store(&register_admission, admission);
}

/* --- afterwards: §3.2, §3.3 --- */

static enum iris_verdict
register_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/* The host is asked, but it is about the account of whoever asks. */
static enum iris_verdict
register_get(struct iris_request *request)
{
	if (!request->session)
		return register_refuse(request, IRIS_NOT_ALLOWED, NULL);
	request->reply = element_new(request->arena, "query", NS_REGISTER);
	element_add(request->reply, "registered", NULL);
	element_add_text(request->reply, "username", NULL, jid_node(&request->session->jid));
	element_add(request->reply, "password", NULL);
	return IRIS_DONE;
}

/*
 * §3.2: the result, then the end of all sessions.  Removing closes them before it is known
 * whether it succeeds, so the asker's stream is taken off its session first, and told what came
 * of it.
 */
static enum iris_verdict
register_remove(struct iris_request *request, const struct iris_jid *self)
{
	struct iris_session *session = request->session;
	struct iris_stream *stream = session->stream;
	enum iris_condition condition;

	if (element_next(element_child(request->payload, NULL, NULL), NULL, NULL))
		return register_refuse(request, IRIS_BAD_REQUEST, NULL);
	if (!stream)
		return register_refuse(request, IRIS_UNEXPECTED_REQUEST, NULL);
	stream_ref(stream);
	session_detach(session);
	condition = accounts()->remove(self);
	session_close(session, NULL, NULL); /* when it failed early */
	if (condition == IRIS_NO_ERROR) {
		stream_send(stream, register_reply(stream, request->stanza->root, "result"));
		stream_error(stream, "not-authorized", "the account was removed");
	} else {
		stream_error(stream, "internal-server-error", "the account was not removed");
	}
	stream_unref(&stream);
	return IRIS_DONE; /* the session has ended: nothing more is sent to it */
}

static enum iris_verdict
register_change(struct iris_request *request)
{
	struct iris_jid self =
		jid_with_resource(request->arena, &request->stanza->from, IRIS_STR_NONE);
	struct iris_str username = element_child_text(request->payload, "username", NULL), node;
	enum iris_condition condition;
	const char *text = NULL;

	if (!request->session)
		return register_refuse(request, IRIS_NOT_ALLOWED, NULL);
	if (element_child(request->payload, "remove", NULL))
		return register_remove(request, &self);
	if (!str_is_empty(username) && (!jid_prepare_new_node(request->arena, username, &node) ||
					!str_equal(node, jid_node(&self))))
		return register_refuse(request, IRIS_NOT_ALLOWED,
				       "only the own password can be changed");
	condition = accounts()->set_password(
		&self, element_child_text(request->payload, "password", NULL), &text);
	return condition == IRIS_NO_ERROR ? IRIS_DONE : register_refuse(request, condition, text);
}

static const struct iris_feature register_features[] = { { IRIS_DISCO_HOST, NS_REGISTER },
							 { .var = NULL } };

static const struct iris_stream_handler register_elements[] = {
	{ "iq", NS_CLIENT, 1u << IRIS_STREAM_UNAUTHENTICATED, register_handle_iq },
	{ .name = NULL },
};

static const struct iris_iq register_iq[] = {
	{ IRIS_TO_HOST | IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_REGISTER, IRIS_SELF, register_get },
	{ IRIS_TO_HOST | IRIS_TO_ACCOUNT, IRIS_SET, "query", NS_REGISTER, IRIS_SELF,
	  register_change },
	{ .name = NULL },
};

static const struct iris_hook_handler register_hooks[] = {
	HOOK(stream_features, IRIS_NEUTRAL, register_stream_features),
	HOOKS_END,
};

static const struct iris_option register_options[] = {
	[OPT_OPEN] = { "open", IRIS_OPT_BOOL, "false", .reloadable = true,
		       .help = "Whether anybody may register; else only passwords are changed and "
			       "accounts removed." },
	[OPT_INSTRUCTIONS] = { "instructions", IRIS_OPT_STRING, "Choose a name and a password.",
			       .max = 1023, .reloadable = true,
			       .help = "What a person who registers is told." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0077 = {
	IRIS_MODULE_HEAD,
	.name = "xep0077",
	.summary = "In-Band Registration",
	.xep = "XEP-0077 2.4",
	.self = &register_self,
	.options = register_options,
	.features = register_features,
	.iq = register_iq,
	.elements = register_elements,
	.hooks = register_hooks,
	.metrics = register_metrics,
	.off_by_default = true,
};
