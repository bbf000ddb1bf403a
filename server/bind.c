/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource binding (RFC 6120 §7), and the session request that RFC 3921 had after it.  On the
 * stream's fiber, at the home of its user.  XEP-0386 binds through stream_bind() as well.
 */
#include "im_private.h"
#include "stream_private.h"

/* A resource of ours: of random bits, as §7.6 wants it to be unpredictable. */
static bool
bind_make_jid(struct iris_arena *arena, const struct iris_jid *bare, struct iris_str resource,
	      bool add_random, struct iris_jid *full_r)
{
	if (str_is_empty(resource))
		resource = random_id(arena, 96);
	else if (add_random)
		resource = arena_printf(arena, "%.*s-%.*s", IRIS_STR_FMT(resource),
					IRIS_STR_FMT(random_id(arena, 48)));
	return jid_make(arena, jid_node(bare), jid_domain(bare), resource, full_r);
}

/* §7.7.2.2: what to do about a session that has the resource. False: refused. */
static bool
bind_settle_conflict(struct iris_arena *arena, struct iris_stream *stream, struct iris_str resource,
		     struct iris_jid *full, struct iris_refusal *refusal_r)
{
	struct iris_session *session = session_find(jid_full(full));

	if (!session)
		return true;
	switch (stream_option(STREAM_OPT_CONFLICT)) {
	case STREAM_CONFLICT_REFUSE:
		*refusal_r = (struct iris_refusal){ .condition = IRIS_CONFLICT,
						    .text = "the resource is in use" };
		return false;
	case STREAM_CONFLICT_RENAME:
		if (bind_make_jid(arena, &stream->jid, resource, true, full) &&
		    !session_find(jid_full(full)))
			return true;
		*refusal_r = (struct iris_refusal){ .condition = IRIS_CONFLICT };
		return false;
	default:
		session_close(session, "conflict", "another session took the resource");
		return true;
	}
}

static struct iris_session *
bind_session(struct iris_arena *arena, struct iris_stream *stream, struct iris_str resource,
	     struct iris_user *user, struct iris_refusal *refusal_r)
{
	struct iris_jid full;

	if (!bind_make_jid(arena, &stream->jid, resource, false, &full)) {
		*refusal_r = (struct iris_refusal){ .condition = IRIS_BAD_REQUEST,
						    .text = "not a resource" };
		return NULL;
	}
	if (!bind_settle_conflict(arena, stream, resource, &full, refusal_r))
		return NULL;
	return session_create(user, &full, stream, refusal_r);
}

struct iris_session *
stream_bind(struct iris_stream *stream, struct iris_str resource, struct iris_refusal *refusal_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_session *session = NULL;
	struct iris_user *user;

	IRIS_ASSERT(stream->home == worker_index());
	*refusal_r =
		(struct iris_refusal){ .condition = IRIS_INTERNAL_SERVER_ERROR, .type = "wait" };
	stream_ref(stream);
	user = user_get(&stream->jid);
	/* While the user was loaded, the stream may have ended, or got a session. */
	if (user && stream->state == IRIS_STREAM_AUTHENTICATED)
		session = bind_session(arena, stream, resource, user, refusal_r);
	if (user)
		user_release(&user);
	stream_unref(&stream);
	arena_unref(&arena);
	return session;
}

static void
bind_send_refusal(struct iris_stream *stream, const struct iris_stanza *iq,
		  const struct iris_refusal *refusal)
{
	struct iris_stanza *error = stanza_error(iq, refusal);

	if (!error)
		return;
	stanza_freeze(error);
	stream_send_delivery(stream, &(struct iris_delivery){ .stanza = error });
	stanza_unref(&error);
}

static void
bind_send_result(struct iris_stream *stream, const struct iris_stanza *iq,
		 const struct iris_jid *full)
{
	struct iris_stanza *result = stanza_result(iq);

	if (full)
		element_add_text(element_add(result->root, "bind", NS_BIND), "jid", NULL,
				 jid_full(full));
	stanza_freeze(result);
	stream_send_delivery(stream, &(struct iris_delivery){ .stanza = result });
	stanza_unref(&result);
}

static void
bind_handle_bind(struct iris_stream *stream, const struct iris_stanza *iq,
		 const struct iris_element *bind)
{
	struct iris_refusal refusal;
	struct iris_session *session;
	struct iris_jid full;

	stream_ref(stream);
	session = stream_bind(stream, element_child_text(bind, "resource", NS_BIND), &refusal);
	if (session) {
		full = session->jid;
		bind_send_result(stream, iq, &full);
	} else if (stream->state == IRIS_STREAM_AUTHENTICATED) {
		bind_send_refusal(stream, iq, &refusal);
	}
	stream_unref(&stream);
}

/* §7.1: until a resource is bound nothing but this may come. */
bool
bind_handle_iq(struct iris_stream *stream, struct iris_stanza *iq)
{
	struct iris_element *bind = element_child(iq->root, "bind", NS_BIND);

	if (iq->kind != IRIS_IQ || iq->type != IRIS_SET)
		return false;
	if (bind)
		bind_handle_bind(stream, iq, bind);
	else if (element_child(iq->root, "session", NS_SESSION))
		bind_send_result(stream, iq, NULL);
	else
		return false;
	return true;
}

/* --- the same on a stream that has its resource --- */

static enum iris_verdict
bind_refuse_another(struct iris_request *request)
{
	request->refusal = (struct iris_refusal){ .condition = IRIS_NOT_ALLOWED,
						  .text = "one resource is bound already" };
	return IRIS_REFUSE;
}

static enum iris_verdict
bind_answer_session(struct iris_request *request)
{
	return IRIS_DONE;
}

const struct iris_iq bind_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_SET, "bind", NS_BIND, IRIS_SELF, bind_refuse_another },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "session", NS_SESSION, IRIS_SELF, bind_answer_session },
	{ IRIS_TO_HOST, IRIS_SET, "session", NS_SESSION, IRIS_ANYONE, bind_answer_session },
	{ .name = NULL },
};
