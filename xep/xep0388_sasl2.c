/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0388 1.0.4: Extensible SASL Profile.  The second profile of the core's SASL engine: other
 * elements, no stream restart, and what the client wants next is answered with the success (hooks
 * inline_features, inline_request).  On the stream's fiber, after success at the user's home.
 * Offers no tasks: no <continue/> is ever sent.
 */
#include <stdlib.h>

#include "iris/module.h"
#include "iris/sasl.h"
#include "xep0388_sasl2.h"

#define UUID_LENGTH 36

static struct iris_module_self sasl2_self;

/* The additional data of a success, on its way to the user's home. */
struct sasl2_success {
	struct iris_str data; /* bytes; none: none */
	char bytes[];
};

/* --- §2.1: announcing --- */

static enum iris_verdict
sasl2_stream_features(struct iris_stream_features *features)
{
	struct iris_stream *stream = features->stream;
	struct iris_element *authentication;
	struct iris_inline offered = { .stream = stream };

	/* §4: after TLS only. */
	if (stream_state(stream) != IRIS_STREAM_UNAUTHENTICATED || !stream_is_secure(stream) ||
	    strcmp(stream_role(stream)->ns, NS_CLIENT) != 0)
		return IRIS_PASS;
	authentication = element_add(features->features, "authentication", NS_SASL2);
	if (sasl_offer(stream, authentication) == 0) {
		element_remove(authentication);
		return IRIS_PASS;
	}
	offered.response = element_add(authentication, "inline", NULL);
	(void)hook_run_inline_features(&offered);
	if (!offered.response->first)
		element_remove(offered.response);
	return IRIS_PASS;
}

/* --- §2.6: completing --- */

static void
send_text(struct iris_stream *stream, const char *name, struct iris_str data)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_new(arena, name, NS_SASL2);

	element_text(element, base64_encode(arena, data));
	stream_send(stream, element);
	arena_unref(&arena);
}

/* Takes what was left in the slot by answer(). */
static struct iris_str
take_data(struct iris_stream *stream, struct iris_arena *arena)
{
	void **slot = stream_slot(stream, &sasl2_self);
	struct sasl2_success *success = *slot;
	struct iris_str data = success ? arena_copy_str(arena, success->data) : IRIS_STR_NONE;

	*slot = NULL;
	free(success);
	return data;
}

static bool
is_alive(const struct iris_stream *stream)
{
	return stream_state(stream) == IRIS_STREAM_AUTHENTICATED ||
	       stream_state(stream) == IRIS_STREAM_BOUND;
}

/* The success was told; now the resumed session goes on, with what it had not yet acknowledged. */
static void
attach(struct iris_stream *stream, struct iris_session *session, const struct iris_jid *full)
{
	/* Another handler may have waited meanwhile. */
	if (session_find(jid_full(full)) != session || session->stream)
		stream_error(stream, "reset", "The session has ended meanwhile");
	else
		session_attach(session, stream);
}

static void
complete(struct iris_stream *stream, struct iris_arena *arena, const struct iris_element *request)
{
	struct iris_element *success = element_new(arena, "success", NS_SASL2), *identifier;
	struct iris_str data = take_data(stream, arena);
	struct iris_session *session;
	struct iris_jid full;
	struct iris_inline answer = { .stream = stream, .request = element_copy(arena, request),
				      .response = success };

	sasl_forget(stream);
	if (!str_is_none(data))
		element_add_text(success, "additional-data", NULL, base64_encode(arena, data));
	identifier = element_add(success, "authorization-identifier", NULL);
	(void)hook_run_inline_request(&answer);
	if (!is_alive(stream))
		return;
	session = answer.resumed ? answer.session : stream_session(stream);
	full = jid_copy(arena, session ? &session->jid : stream_jid(stream));
	element_text(identifier, jid_full(&full));
	stream_send(stream, success);
	/* so that only what a bound stream can use is announced, not resumption again */
	if (answer.resumed)
		stream_set_bound(stream);
	stream_send_features(stream);
	if (answer.resumed)
		attach(stream, session, &full);
}

/* At home, authenticated. The stream may end while the hooks wait. */
static void
signed_in(struct iris_stream *stream, void *arg)
{
	const struct iris_element *request = sasl_request(stream);
	struct iris_arena *arena = arena_new();

	stream_ref(stream);
	/* SECURITY: a stream that ended before it came here has no address and no account. */
	if (request && is_alive(stream))
		complete(stream, arena, request);
	stream_unref(&stream);
	arena_unref(&arena);
}

static void
succeed(struct iris_stream *stream, const struct iris_sasl_reply *reply)
{
	void **slot = stream_slot(stream, &sasl2_self);
	struct sasl2_success *success = iris_malloc(sizeof(*success) + reply->data.len);

	success->data = IRIS_STR_NONE;
	if (!str_is_none(reply->data)) {
		memcpy(success->bytes, reply->data.base, reply->data.len);
		success->data = (struct iris_str){ success->bytes, reply->data.len };
	}
	free(*slot);
	*slot = success;
	stream_authenticated(stream, &reply->jid, false, signed_in, NULL);
}

static void
answer(struct iris_stream *stream, const struct iris_sasl_reply *reply)
{
	switch (reply->outcome) {
	case IRIS_SASL_CONTINUE:
		send_text(stream, "challenge", reply->data);
		return;
	case IRIS_SASL_FAILURE:
		sasl_send_failure(stream, NS_SASL2, reply);
		return;
	case IRIS_SASL_SUCCESS:
		succeed(stream, reply);
		return;
	}
}

/* --- the elements: §2.3 to §2.5 --- */

static void
handle_authenticate(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_element *initial = element_child(element, "initial-response", NS_SASL2);
	struct iris_sasl_reply reply = { .outcome = IRIS_SASL_FAILURE,
					 .condition = IRIS_SASL_ENCRYPTION_REQUIRED };

	if (!stream_is_secure(stream) ||
	    sasl_begin(stream, element, element_get(element, "mechanism"),
		       initial ? element_get_text(initial) : IRIS_STR_NONE, element->arena, &reply))
		answer(stream, &reply);
}

static void
handle_response(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_sasl_reply reply;

	if (sasl_step(stream, element_get_text(element), element->arena, &reply))
		answer(stream, &reply);
}

static void
handle_abort(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_sasl_reply reply;

	sasl_abort(stream, &reply);
	answer(stream, &reply);
}

static enum iris_verdict
sasl2_stream_close(struct iris_stream *stream)
{
	void **slot = stream_slot(stream, &sasl2_self);

	free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_uuid(struct iris_str text)
{
	if (text.len != UUID_LENGTH)
		return false;
	for (size_t i = 0; i < UUID_LENGTH; i++) {
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_dash ? text.base[i] != '-' : !is_hex(text.base[i]))
			return false;
	}
	return true;
}

struct iris_str
sasl2_user_agent(struct iris_arena *arena, const struct iris_element *authenticate)
{
	struct iris_element *agent = element_child(authenticate, "user-agent", NS_SASL2);
	struct iris_str id = agent ? element_get(agent, "id") : IRIS_STR_NONE;
	char *lower;

	if (!is_uuid(id))
		return IRIS_STR_NONE;
	lower = arena_alloc(arena, id.len + 1);
	for (size_t i = 0; i < id.len; i++)
		lower[i] = (char)(id.base[i] >= 'A' && id.base[i] <= 'F' ?
					  id.base[i] + ('a' - 'A') :
					  id.base[i]);
	return (struct iris_str){ lower, id.len };
}

#define SASL2_STATES (1u << IRIS_STREAM_PLAIN | 1u << IRIS_STREAM_UNAUTHENTICATED)

static const struct iris_stream_handler sasl2_elements[] = {
	{ "authenticate", NS_SASL2, SASL2_STATES, handle_authenticate },
	{ "response", NS_SASL2, SASL2_STATES, handle_response },
	{ "abort", NS_SASL2, SASL2_STATES, handle_abort },
	{ .name = NULL },
};

static const struct iris_hook_handler sasl2_hooks[] = {
	HOOK(stream_features, IRIS_EARLY, sasl2_stream_features),
	HOOK(stream_close, IRIS_NEUTRAL, sasl2_stream_close),
	HOOKS_END,
};

const struct iris_module iris_module_xep0388 = {
	IRIS_MODULE_HEAD,
	.name = "xep0388",
	.summary = "Extensible SASL profile: fewer round trips to sign in",
	.xep = "XEP-0388 1.0.4",
	.self = &sasl2_self,
	.elements = sasl2_elements,
	.hooks = sasl2_hooks,
};
