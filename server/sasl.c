/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SASL on streams (RFC 6120 §6): what is offered, one exchange at a time, how many tries; and RFC
 * 6120's own profile, the elements <auth/>, <response/>, <abort/>.  On the stream's fiber; the
 * mechanisms themselves are in sasl_exchange.c and in plug-ins.
 *
 * While an exchange waits (for the vault, for PBKDF2) its stream may end; the state is then
 * freed by the waiting fiber, not under it.
 */
#include <stdlib.h>

#include "iris/module.h"
#include "module_private.h"
#include "sasl_private.h"

enum { OPTION_TRIES, OPTION_SHA1, OPTION_PLAIN, OPTION_DOWNGRADE };

/* STATE: idle → (busy ⇄ waiting for the client) → idle. */
struct sasl_state {
	bool busy;     /* a fiber is inside; it frees the state when `orphaned` */
	bool orphaned; /* the stream has ended */
	bool running;  /* an exchange is under way */
	unsigned failures, round;
	struct sasl_exchange *exchange;                     /* of a mechanism of libsasl2 … */
	char mechanism[48]; /* … or of a plug-in, found anew each time */
	void *mechanism_state;
	struct iris_arena *arena;                           /* of the request */
	struct iris_element *request;
};

static struct iris_module_self sasl_self;

enum { METRIC_SUCCESS, METRIC_FAILURE };
static struct iris_metric sasl_metrics[] = {
	{ "iris_sasl_exchanges_total", "outcome=\"success\"", IRIS_COUNTER,
	  "Authentications, by outcome.", 0 },
	{ "iris_sasl_exchanges_total", "outcome=\"failure\"", IRIS_COUNTER,
	  "Authentications, by outcome.", 0 },
	{ NULL },
};

static void
state_reset(struct sasl_state *state)
{
	sasl_exchange_free(&state->exchange);
	free(state->mechanism_state);
	state->mechanism_state = NULL;
	state->running = false;
	state->round = 0;
	state->request = NULL;
	arena_unref(&state->arena);
}

static struct sasl_state *
state_of(struct iris_stream *stream)
{
	void **slot = stream_slot(stream, &sasl_self);

	if (!*slot)
		*slot = iris_calloc(1, sizeof(struct sasl_state));
	return *slot;
}

static void
refuse(struct iris_sasl_reply *reply, enum iris_sasl_condition condition)
{
	*reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_FAILURE, .condition = condition };
}

/* --- what is offered --- */

/* Components have a handshake of their own. */
static bool
is_for_clients(const struct iris_stream *stream)
{
	return strcmp(stream_role(stream)->ns, NS_CLIENT) == 0;
}

static bool
binds(struct iris_stream *stream)
{
	return stream_is_secure(stream) && stream_channel_bindings(stream)[0] != NULL;
}

/* What this stream may use; `refusal_r` says what to answer when a client tries it nevertheless. */
static bool
may_use(struct iris_stream *stream, const struct sasl_builtin *builtin,
	enum iris_sasl_condition *refusal_r)
{
	*refusal_r = IRIS_SASL_INVALID_MECHANISM;
	if (builtin->is_sha1 && !option_bool(&sasl_self, OPTION_SHA1)) {
		*refusal_r = IRIS_SASL_MECHANISM_TOO_WEAK;
		return false;
	}
	if (builtin->plus)
		return binds(stream);
	if (builtin->family == SASL_EXTERNAL)
		return stream_peer_certificate(stream) != NULL;
	if (builtin->family == SASL_PLAIN) {
		if (!option_bool(&sasl_self, OPTION_PLAIN))
			return false;
		*refusal_r = IRIS_SASL_ENCRYPTION_REQUIRED;
		return stream_is_secure(stream);
	}
	return true;
}

struct offer {
	struct iris_stream *stream;
	struct iris_element *parent;
	unsigned count;
};

static bool
offer_mechanisms_of(const struct iris_module *module, void *arg)
{
	struct offer *offer = arg;

	for (const struct iris_sasl_mechanism *m = module->mechanisms; m && m->name; m++) {
		if (m->unlisted || (m->is_offered && !m->is_offered(offer->stream, m)))
			continue;
		element_add_text(offer->parent, "mechanism", NULL, str_from(m->name));
		offer->count++;
	}
	return true;
}

unsigned
sasl_offer(struct iris_stream *stream, struct iris_element *parent)
{
	struct offer offer = { stream, parent, 0 };
	const struct sasl_builtin *builtin;
	enum iris_sasl_condition refusal;

	for (size_t i = 0; (builtin = sasl_builtin_at(i)) != NULL; i++) {
		if (!may_use(stream, builtin, &refusal))
			continue;
		element_add_text(parent, "mechanism", NULL, str_from(builtin->name));
		offer.count++;
	}
	module_each(offer_mechanisms_of, &offer);
	return offer.count;
}

static enum iris_verdict
sasl_stream_features(struct iris_stream_features *features)
{
	struct iris_element *mechanisms;

	if (stream_state(features->stream) != IRIS_STREAM_UNAUTHENTICATED ||
	    !is_for_clients(features->stream))
		return IRIS_PASS;
	mechanisms = element_add(features->features, "mechanisms", NS_SASL);
	if (sasl_offer(features->stream, mechanisms) == 0)
		element_remove(mechanisms);
	return IRIS_PASS;
}

/* --- mechanisms of plug-ins --- */

struct mechanism_search {
	struct iris_str name;
	const struct iris_sasl_mechanism *found;
	const struct iris_module *module;
};

static bool
search_mechanisms_of(const struct iris_module *module, void *arg)
{
	struct mechanism_search *search = arg;

	for (const struct iris_sasl_mechanism *m = module->mechanisms; m && m->name; m++)
		if (str_is(search->name, m->name)) {
			search->found = m;
			search->module = module;
		}
	return search->found == NULL;
}

static bool
may_use_plugin(struct iris_stream *stream, const struct iris_sasl_mechanism *mechanism,
	       bool has_request)
{
	return mechanism && (has_request || !mechanism->unlisted) &&
		(!mechanism->is_offered || mechanism->is_offered(stream, mechanism));
}

/* The module may be unloaded while the client thinks: then the mechanism is not there any more. */
static void
run_plugin(struct iris_stream *stream, struct sasl_state *state, struct iris_str message,
	   struct iris_arena *arena, struct iris_sasl_reply *reply)
{
	struct mechanism_search search = { str_from(state->mechanism), NULL, NULL };
	struct iris_sasl_call call = { .stream = stream,
				       .arena = arena,
				       .request = state->request,
				       .message = message,
				       .round = state->round++,
				       .state = &state->mechanism_state,
				       .reply = reply };
	const struct iris_accounts *keeper = accounts();
	struct iris_str address = arena_copy_str(arena, stream_peer_address(stream));
	const struct iris_jid nobody = IRIS_JID_NONE;
	enum iris_auth_result result = IRIS_AUTH_OK;

	refuse(reply, IRIS_SASL_NOT_AUTHORIZED);
	module_each(search_mechanisms_of, &search);
	if (!search.found)
		return;
	module_enter(search.module);
	if (call.round == 0)
		result = keeper->attempt(&nobody, address);
	if (result == IRIS_AUTH_OK) {
		call.mechanism = search.found;
		search.found->respond(&call);
		if (reply->outcome != IRIS_SASL_CONTINUE)
			keeper->attempt_result(&nobody, address,
					       reply->outcome == IRIS_SASL_SUCCESS);
	} else {
		refuse(reply, IRIS_SASL_TEMPORARY_AUTH_FAILURE);
	}
	module_leave(search.module);
}

/* --- exchanges --- */

static bool
give_binding(void *arg, const char *type, struct iris_arena *arena, struct iris_str *data_r)
{
	return stream_channel_binding(arg, type, arena, data_r);
}

static struct sasl_exchange *
new_exchange(struct iris_stream *stream, const struct sasl_builtin *builtin)
{
	struct sasl_peer peer = {
		.domain = stream_host(stream)->name,
		.address = stream_peer_address(stream),
		.claimed = stream_claimed_jid(stream),
		.is_secure = stream_is_secure(stream),
		.binds = binds(stream) && option_bool(&sasl_self, OPTION_DOWNGRADE),
		.host = stream_host(stream),
		.certificate = stream_peer_certificate(stream),
		.accounts = accounts(),
		.binding = give_binding,
		.binding_arg = stream,
	};

	return sasl_exchange_new(&peer, builtin);
}

/* RFC 6120 §6.4.2: "=" stands for no bytes at all. */
static bool
decode(struct iris_arena *arena, struct iris_str text, struct iris_str *bytes_r)
{
	if (text.len == 0 || str_is(text, "=")) {
		*bytes_r = IRIS_STR("");
		return true;
	}
	return base64_decode(arena, text, bytes_r);
}

static void
count_outcome(struct iris_stream *stream, const struct sasl_state *state,
	      const struct iris_sasl_reply *reply)
{
	if (reply->outcome == IRIS_SASL_SUCCESS) {
		metric_add(&sasl_metrics[METRIC_SUCCESS], 1);
		LOG(IRIS_LOG_INFO, "sasl", "signed-in", LOG_JID("jid", jid_bare(&reply->jid)),
		    LOG_CSTR("mechanism", state->mechanism),
		    LOG_STR("address", stream_peer_address(stream)));
	} else if (reply->outcome == IRIS_SASL_FAILURE) {
		metric_add(&sasl_metrics[METRIC_FAILURE], 1);
		LOG(IRIS_LOG_INFO, "sasl", "refused",
		    LOG_CSTR("condition", sasl_condition_name(reply->condition)),
		    LOG_CSTR("mechanism", state->mechanism),
		    LOG_STR("address", stream_peer_address(stream)));
	}
}

/* One message of the client. The stream is held: it may end while we wait. */
static bool
run_step(struct iris_stream *stream, struct sasl_state *state, struct iris_str text,
	 struct iris_arena *arena, struct iris_sasl_reply *reply)
{
	struct iris_stream *held = stream;
	struct iris_str message;

	if (!decode(arena, text, &message)) {
		refuse(reply, IRIS_SASL_INCORRECT_ENCODING);
	} else {
		state->busy = true;
		stream_ref(held);
		if (state->exchange)
			sasl_exchange_step(state->exchange, message, arena, reply);
		else
			run_plugin(stream, state, message, arena, reply);
		state->busy = false;
		if (state->orphaned) {
			state_reset(state);
			free(state);
			stream_unref(&held);
			return false;
		}
		stream_unref(&held);
	}
	count_outcome(stream, state, reply);
	if (reply->outcome == IRIS_SASL_FAILURE)
		state_reset(state);
	else if (reply->outcome == IRIS_SASL_SUCCESS)
		state->running = false;
	return true;
}

/* Finds the mechanism and prepares the state; false: the reply refuses it. */
static bool
choose_mechanism(struct iris_stream *stream, struct sasl_state *state, struct iris_str name,
		 bool has_request, struct iris_sasl_reply *reply)
{
	const struct sasl_builtin *builtin = sasl_builtin_find(name);
	struct mechanism_search search = { name, NULL, NULL };
	enum iris_sasl_condition refusal = IRIS_SASL_INVALID_MECHANISM;

	if (!str_copy_to(state->mechanism, sizeof(state->mechanism), name)) {
		refuse(reply, refusal);
		return false;
	}
	if (builtin && may_use(stream, builtin, &refusal)) {
		state->exchange = new_exchange(stream, builtin);
		return true;
	}
	if (!builtin)
		module_each(search_mechanisms_of, &search);
	if (may_use_plugin(stream, search.found, has_request))
		return true;
	refuse(reply, refusal);
	return false;
}

bool
sasl_begin(struct iris_stream *stream, const struct iris_element *request,
	   struct iris_str mechanism, struct iris_str initial, struct iris_arena *arena,
	   struct iris_sasl_reply *reply_r)
{
	struct sasl_state *state = state_of(stream);

	if (state->running) {
		/* XEP-0388 §2.4: anything else in the middle of an exchange ends the stream. */
		stream_error(stream, "policy-violation", "An authentication is under way");
		return false;
	}
	if (!is_for_clients(stream)) {
		stream_error(stream, "unsupported-stanza-type", NULL);
		return false;
	}
	state_reset(state);
	if (stream_state(stream) != IRIS_STREAM_UNAUTHENTICATED) {
		refuse(reply_r, IRIS_SASL_ENCRYPTION_REQUIRED);
		return true;
	}
	if (!choose_mechanism(stream, state, mechanism, request != NULL, reply_r)) {
		count_outcome(stream, state, reply_r);
		return true;
	}
	state->running = true;
	if (request) {
		state->arena = arena_new();
		state->request = element_copy(state->arena, request);
	}
	if (str_is_none(initial)) {
		/* All our mechanisms let the client speak first: ask it to. */
		*reply_r = (struct iris_sasl_reply){ .outcome = IRIS_SASL_CONTINUE,
						     .data = IRIS_STR("") };
		return true;
	}
	return run_step(stream, state, initial, arena, reply_r);
}

bool
sasl_step(struct iris_stream *stream, struct iris_str response, struct iris_arena *arena,
	  struct iris_sasl_reply *reply_r)
{
	struct sasl_state *state = state_of(stream);

	if (state->running)
		return run_step(stream, state, response, arena, reply_r);
	refuse(reply_r, IRIS_SASL_MALFORMED_REQUEST);
	return true;
}

void
sasl_abort(struct iris_stream *stream, struct iris_sasl_reply *reply_r)
{
	state_reset(state_of(stream));
	refuse(reply_r, IRIS_SASL_ABORTED);
}

void
sasl_send_failure(struct iris_stream *stream, const char *ns, const struct iris_sasl_reply *reply)
{
	struct sasl_state *state = state_of(stream);
	struct iris_arena *arena = arena_new();
	struct iris_element *failure = element_new(arena, "failure", ns);

	element_add(failure, sasl_condition_name(reply->condition), NS_SASL);
	if (reply->text)
		element_add_text(failure, "text", NULL, str_from(reply->text));
	stream_send(stream, failure);
	arena_unref(&arena);
	/* RFC 6120 §6.4.5: a few more tries, then the end. */
	if (++state->failures >= option_int(&sasl_self, OPTION_TRIES))
		stream_error(stream, "policy-violation", "Too many failed authentications");
}

const struct iris_element *
sasl_request(struct iris_stream *stream)
{
	const struct sasl_state *state = *stream_slot(stream, &sasl_self);

	return state ? state->request : NULL;
}

void
sasl_forget(struct iris_stream *stream)
{
	struct sasl_state *state = *stream_slot(stream, &sasl_self);

	if (state)
		state_reset(state);
}

bool
sasl_wants_sha1(void)
{
	const struct iris_settings *settings = atomic_load(&sasl_self.settings);

	return settings && settings_bool(settings, OPTION_SHA1); /* none: irisctl init */
}

/* --- RFC 6120's profile --- */

static void
send_data(struct iris_stream *stream, const char *name, struct iris_str data)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_new(arena, name, NS_SASL);

	if (data.len > 0)
		element_text(element, base64_encode(arena, data));
	stream_send(stream, element);
	arena_unref(&arena);
}

/* At home, before the new stream header: nothing is left to do. */
static void
signed_in(struct iris_stream *stream, void *arg)
{
}

static void
answer(struct iris_stream *stream, const struct iris_sasl_reply *reply)
{
	switch (reply->outcome) {
	case IRIS_SASL_CONTINUE:
		send_data(stream, "challenge", reply->data);
		return;
	case IRIS_SASL_FAILURE:
		sasl_send_failure(stream, NS_SASL, reply);
		return;
	case IRIS_SASL_SUCCESS:
		sasl_forget(stream);
		send_data(stream, "success", reply->data);
		stream_authenticated(stream, &reply->jid, true, signed_in, NULL);
		return;
	}
}

static void
handle_auth(struct iris_stream *stream, struct iris_element *element)
{
	struct iris_str mechanism = element_get(element, "mechanism"),
			initial = element_get_text(element);
	struct iris_sasl_reply reply;

	if (initial.len == 0)
		initial = IRIS_STR_NONE;
	if (sasl_begin(stream, NULL, mechanism, initial, element->arena, &reply))
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
sasl_stream_close(struct iris_stream *stream)
{
	void **slot = stream_slot(stream, &sasl_self);
	struct sasl_state *state = *slot;

	*slot = NULL;
	if (!state)
		return IRIS_PASS;
	if (state->busy) {
		state->orphaned = true;
		return IRIS_PASS;
	}
	state_reset(state);
	free(state);
	return IRIS_PASS;
}

static const struct iris_option sasl_options[] = {
	[OPTION_TRIES] = { .name = "tries",
			   .type = IRIS_OPT_INT,
			   .fallback = "4",
			   .min = 2,
			   .max = 10,
			   .reloadable = true,
			   .help = "Failed authentications on one connection before it is "
				   "closed." },
	[OPTION_SHA1] = { .name = "scram-sha-1",
			  .type = IRIS_OPT_BOOL,
			  .fallback = "false",
			  .reloadable = true,
			  .help = "Offer SCRAM-SHA-1 too, for old clients; accounts get a verifier "
				  "for "
				  "it with their next password." },
	[OPTION_PLAIN] = { .name = "plain",
			   .type = IRIS_OPT_BOOL,
			   .fallback = "true",
			   .reloadable = true,
			   .help = "Offer PLAIN on encrypted connections." },
	[OPTION_DOWNGRADE] = { .name = "refuse-downgrade",
			       .type = IRIS_OPT_BOOL,
			       .fallback = "true",
			       .reloadable = true,
			       .help = "Refuse a client that says it could bind the channel but "
				       "was not offered "
				       "to (RFC 5802 §6), though it was: somebody may have taken "
				       "the offer out. Some "
				       "libraries say so when told to use a mechanism without "
				       "binding." },
	IRIS_OPTIONS_END,
};

/* Before TLS they are known too: the answer is encryption-required then (RFC 6120 §6.5.4). */
#define SASL_STATES (1u << IRIS_STREAM_PLAIN | 1u << IRIS_STREAM_UNAUTHENTICATED)

static const struct iris_stream_handler sasl_elements[] = {
	{ "auth", NS_SASL, SASL_STATES, handle_auth },
	{ "response", NS_SASL, SASL_STATES, handle_response },
	{ "abort", NS_SASL, SASL_STATES, handle_abort },
	{ NULL },
};

static const struct iris_hook_handler sasl_hooks[] = {
	HOOK(stream_features, IRIS_EARLY, sasl_stream_features),
	HOOK(stream_close, IRIS_LATE, sasl_stream_close),
	HOOKS_END,
};

const struct iris_module iris_module_sasl = {
	IRIS_MODULE_HEAD,
	.name = "sasl",
	.summary = "Authentication (RFC 6120 §6) through libsasl2",
	.self = &sasl_self,
	.options = sasl_options,
	.elements = sasl_elements,
	.hooks = sasl_hooks,
	.metrics = sasl_metrics,
	.not_unloadable = true,
	.start = cyrus_open,
	.stop = cyrus_close,
};
