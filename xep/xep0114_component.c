/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0114 1.6: Jabber Component Protocol.  An external component signs in with the secret of its
 * domain and gets what is addressed there; it lives on the home worker of the domain.
 *
 * A listener with the role "component" serves it: over TLS, or in the clear on a loopback address.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "iris/module.h"
#include "xep/xep0359_stanza_id.h"

enum { OPT_COMPONENTS };
enum { FIELD_DOMAIN, FIELD_SECRET, FIELD_ANNOUNCE };

/* Of a component stream, from its header to its end. */
struct component {
	struct iris_domain_route route; /* added once it has signed in */
	bool is_routed;
	struct iris_stream *stream;
	char domain[JID_PART_MAX + 1];
};

static struct iris_module_self component_self;

static struct iris_metric component_metrics[] = {
	{ .name = "iris_components", .kind = IRIS_GAUGE, .help = "External components connected" },
	{ .name = NULL },
};

static const struct iris_settings *
component_settings(struct iris_str domain)
{
	const struct iris_settings *settings = atomic_load(&component_self.settings);

	for (size_t i = 0; i < settings_count(settings, OPT_COMPONENTS); i++) {
		const struct iris_settings *record = settings_record(settings, OPT_COMPONENTS, i);

		if (str_equal(settings_str(record, FIELD_DOMAIN), domain))
			return record;
	}
	return NULL;
}

static bool
component_serves(struct iris_stream *stream, struct iris_str domain)
{
	return component_settings(domain) != NULL;
}

static struct component *
component_of(struct iris_stream *stream)
{
	return *stream_slot(stream, &component_self);
}

/* §3 1, 2: the header tells the domain; the id in ours is what the secret is hashed with. */
static void
component_opened(struct iris_stream *stream, const struct iris_element *header)
{
	struct component *component = iris_calloc(1, sizeof(*component));
	struct iris_jid jid;

	component->stream = stream;
	IRIS_ASSERT(jid_parse(header->arena, element_get(header, "to"), &jid));
	IRIS_ASSERT(str_copy_to(component->domain, sizeof(component->domain), jid_domain(&jid)));
	*stream_slot(stream, &component_self) = component;
}

/* --- §3 3: the handshake --- */

static struct iris_str
component_digest(struct iris_arena *arena, struct iris_str id, struct iris_str secret)
{
	struct iris_str text =
		arena_printf(arena, "%.*s%.*s", IRIS_STR_FMT(id), IRIS_STR_FMT(secret));
	struct iris_strbuf hex = STRBUF_INIT(arena);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	IRIS_ASSERT(EVP_Digest(text.base, text.len, digest, &length, EVP_sha1(), NULL) == 1);
	for (unsigned i = 0; i < length; i++)
		strbuf_printf(&hex, "%02x", digest[i]);
	return strbuf_str(&hex);
}

static bool
component_secret_is_right(struct iris_stream *stream, const struct component *component,
			  const struct iris_element *handshake)
{
	const struct iris_settings *settings = component_settings(str_from(component->domain));
	struct iris_str given = element_get_text(handshake);

	/* SECURITY: compared in constant time, or the digest could be guessed byte by byte. */
	return settings &&
	       str_equal_secret(given, component_digest(handshake->arena, stream_id(stream),
							settings_str(settings, FIELD_SECRET)));
}

static void
component_deliver(struct iris_domain_route *route, struct iris_stanza *stanza,
		  struct iris_ticket *ticket)
{
	struct component *component = route->arg;

	stream_send_delivery(component->stream, &(struct iris_delivery){ .stanza = stanza });
}

/* At the domain's home. */
static void
component_signed_in(struct iris_stream *stream, void *arg)
{
	struct component *component = arg;
	struct iris_arena *arena;

	if (stream_state(stream) != IRIS_STREAM_AUTHENTICATED)
		return;
	component->route = (struct iris_domain_route){
		.domain = component->domain, .deliver = component_deliver, .arg = component,
	};
	component->is_routed = domain_route_add(&component->route);
	if (!component->is_routed) {
		stream_error(stream, "conflict", "the domain is connected already");
		return;
	}
	arena = arena_new();
	stream_send(stream, element_new(arena, "handshake", NS_COMPONENT));
	arena_unref(&arena);
	stream_set_bound(stream);
	metric_add(&component_metrics[0], 1);
	LOG(IRIS_LOG_NOTICE, "xep0114", "connected", LOG_CSTR("domain", component->domain));
}

static void
component_handshake(struct iris_stream *stream, struct iris_element *handshake)
{
	struct component *component = component_of(stream);
	struct iris_str peer = arena_copy_str(handshake->arena, stream_peer_address(stream));
	struct iris_jid jid;
	bool right;

	if (!component || !jid_make(handshake->arena, IRIS_STR_NONE, str_from(component->domain),
				    IRIS_STR_NONE, &jid)) {
		stream_error(stream, "unsupported-stanza-type", NULL);
		return;
	}
	stream_ref(stream);
	/* SECURITY: guesses at secrets are slowed down like guesses at passwords. */
	right = accounts()->attempt(&jid, peer) == IRIS_AUTH_OK;
	if (right) {
		right = component_secret_is_right(stream, component, handshake);
		accounts()->attempt_result(&jid, peer, right);
	}
	if (stream_state(stream) != IRIS_STREAM_UNAUTHENTICATED) {
		stream_unref(&stream);
		return;
	}
	if (!right)
		stream_error(stream, "not-authorized", NULL);
	else
		stream_authenticated(stream, &jid, false, component_signed_in, component);
	stream_unref(&stream);
}

/* --- stanzas --- */

/* §3 4: it speaks for any address of its domain, and for no other. */
static void
component_stanza(struct iris_stream *stream, struct iris_stanza **stanza_p,
		 struct iris_ticket *ticket)
{
	struct component *component = component_of(stream);
	struct iris_stanza *stanza = *stanza_p;

	if (jid_is_none(&stanza->from) || jid_is_none(&stanza->to)) {
		stream_error(stream, "improper-addressing", "a component's stanza has from and to");
		stanza_unref(stanza_p);
	} else if (!str_is(jid_domain(&stanza->from), component->domain)) {
		stream_error(stream, "invalid-from", NULL);
		stanza_unref(stanza_p);
	} else {
		/* What it says may come from anybody: rooms pass on what they get. */
		stanza_id_remove_ours(stanza);
		route_stanza(stanza_p, ticket);
	}
}

static void
component_ended(struct iris_stream *stream, bool orderly)
{
	struct component *component = component_of(stream);

	if (!component || !component->is_routed)
		return;
	domain_route_remove(&component->route);
	component->is_routed = false;
	metric_add(&component_metrics[0], -1);
	LOG(IRIS_LOG_NOTICE, "xep0114", "disconnected", LOG_CSTR("domain", component->domain));
}

static enum iris_verdict
component_stream_close(struct iris_stream *stream)
{
	struct component *component = component_of(stream);

	if (!component)
		return IRIS_PASS;
	component_ended(stream, false);
	free(component);
	*stream_slot(stream, &component_self) = NULL;
	return IRIS_PASS;
}

/* The host lists the components that are configured to be found. */
static enum iris_verdict
component_disco_items(struct iris_discovery *discovery)
{
	const struct iris_settings *settings = atomic_load(&component_self.settings);

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	for (size_t i = 0; i < settings_count(settings, OPT_COMPONENTS); i++) {
		const struct iris_settings *record = settings_record(settings, OPT_COMPONENTS, i);

		if (settings_bool(record, FIELD_ANNOUNCE))
			element_set(element_add(discovery->query, "item", NULL), "jid",
				    settings_str(record, FIELD_DOMAIN));
	}
	return IRIS_PASS;
}

static bool
component_check(const struct iris_settings *settings, struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(settings, OPT_COMPONENTS); i++) {
		struct iris_arena *arena = arena_new();
		struct iris_str domain =
			settings_str(settings_record(settings, OPT_COMPONENTS, i), FIELD_DOMAIN);
		struct iris_jid jid;
		bool right = jid_parse(arena, domain, &jid) && str_equal(jid_full(&jid), domain) &&
			     jid.node_len == 0;

		arena_unref(&arena);
		if (!right)
			return error_set(
				error,
				"component domain “%.*s” is not a prepared (lower-case) domain",
				IRIS_STR_FMT(domain));
	}
	return true;
}

static const struct iris_stream_role component_role = {
	.name = "component",
	.ns = NS_COMPONENT,
	.plain_on_loopback = true,
	.opened = component_opened,
	.serves = component_serves,
	.stanza = component_stanza,
	.ended = component_ended,
};

/* The engine shows a component's elements in the clients' namespace. */
static const struct iris_stream_handler component_elements[] = {
	{ "handshake", NS_CLIENT, 1u << IRIS_STREAM_UNAUTHENTICATED, component_handshake },
	{ .name = NULL },
};

static const struct iris_hook_handler component_hooks[] = {
	HOOK(stream_close, IRIS_NEUTRAL, component_stream_close),
	HOOK(disco_items, IRIS_NEUTRAL, component_disco_items),
	HOOKS_END,
};

static const struct iris_option component_fields[] = {
	[FIELD_DOMAIN] = { "domain", IRIS_OPT_STRING, .min = 1, .max = JID_PART_MAX,
		.help = "The domain that the component serves." },
	[FIELD_SECRET] = { "secret", IRIS_OPT_STRING, .min = 16, .max = 1023, .secret = true,
		.help = "What the component signs in with." },
	[FIELD_ANNOUNCE] = { "announce", IRIS_OPT_BOOL, "true",
		.help = "Whether service discovery of the hosts lists it." },
	IRIS_OPTIONS_END,
};

static const struct iris_option component_options[] = {
	[OPT_COMPONENTS] = { "components", IRIS_OPT_RECORDS, NULL, .optional = true,
			     .fields = component_fields, .reloadable = true,
			     .help = "External components that may connect." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0114 = {
	IRIS_MODULE_HEAD,
	.name = "xep0114",
	.summary = "Jabber Component Protocol",
	.xep = "XEP-0114 1.6",
	.self = &component_self,
	.options = component_options,
	.elements = component_elements,
	.hooks = component_hooks,
	.metrics = component_metrics,
	.roles = (const struct iris_stream_role *const[]){ &component_role, NULL },
	.not_unloadable = true,
	.check = component_check,
};
