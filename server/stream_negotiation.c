/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negotiating a stream: headers (RFC 6120 §4.7), features (§4.3.2), STARTTLS (§5).  The stream's
 * worker; handlers run on its fiber.  It does not authenticate (sasl.c) and does not bind (bind.c).
 */
#include <stdlib.h>

#include "iris/service.h"
#include "stream_private.h"

#define DIRECT_HEADER_MS 3

/* --- our header --- */

/* The domain that speaks: the host asked for when it is served here, else the first one. */
static struct iris_str
stream_own_name(const struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_host *host = stream->host ? stream->host : host_default();
	struct iris_str to;

	if (header && stream->role->serves) { /* a component's is its own, a service's too */
		to = element_get(header, "to");
		return str_is_empty(to) ? IRIS_STR_NONE : to;
	}
	return host ? host->name : IRIS_STR_NONE;
}

static struct iris_str
stream_make_id(struct iris_stream *stream)
{
	struct iris_arena *arena = arena_new();

	/* SECURITY: some protocols sign the id (XEP-0114, XEP-0220); it must not be guessed. */
	IRIS_ASSERT(str_copy_to(stream->id, sizeof(stream->id), random_id(arena, 96)));
	arena_unref(&arena);
	return stream_id(stream);
}

void
stream_send_header(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_strbuf buf = stream_buffer();

	if (stream->initiator) {
		stream_send_first_header(stream);
		return;
	}
	if (stream_is_framed(stream)) /* RFC 7395 §3.4 */
		strbuf_add(&buf, IRIS_STR("<open xmlns='" NS_FRAMING "'"));
	else
		strbuf_printf(&buf,
			      "<?xml version='1.0'?><stream:stream xmlns='%s' "
			      "xmlns:stream='" NS_STREAM "'",
			      stream->role->ns);
	strbuf_add(&buf, str_from(stream->role->prefixes));
	xml_add_attribute(&buf, "id", stream_make_id(stream));
	xml_add_attribute(&buf, "from", stream_own_name(stream, header));
	xml_add_attribute(&buf, "to", str_from(stream->claimed));
	if (!header || stream->has_version) /* §4.7.5: none is answered by none */
		strbuf_add(&buf, IRIS_STR(" version='1.0'"));
	xml_add_attribute(&buf, "xml:lang",
			  stream->lang[0] ? stream_lang(stream) : IRIS_STR("en"));
	strbuf_add(&buf, stream_is_framed(stream) ? IRIS_STR("/>") : IRIS_STR(">"));
	stream->header_sent = true;
	stream_send_text(stream, IRIS_UNIT_OPEN, &buf);
}

/* --- the peer's header --- */

/* §4.7.5: "1.0" or later; the minor number does not matter. A component's stream has none
 * (XEP-0114). */
static struct stream_fault
stream_check_version(struct iris_stream *stream, struct iris_str version)
{
	const char *dot = version.base ? memchr(version.base, '.', version.len) : NULL;
	struct iris_str major = { version.base, dot ? (size_t)(dot - version.base) : version.len };
	int64_t number;

	stream->has_version = !str_is_none(version);
	if (!stream->has_version && strcmp(stream->role->ns, NS_COMPONENT) == 0)
		return STREAM_NO_FAULT;
	if (!str_to_int(major, 1, INT32_MAX, &number))
		return STREAM_FAULT("unsupported-version", "this server speaks XMPP 1.0");
	return STREAM_NO_FAULT;
}

/* RFC 5646 as far as it matters: what is no language tag is as good as none. */
static void
stream_take_lang(struct iris_stream *stream, struct iris_str lang)
{
	stream->lang[0] = '\0';
	for (size_t i = 0; i < lang.len; i++) {
		char c = lang.base[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-'))
			return;
	}
	if (!str_copy_to(stream->lang, sizeof(stream->lang), lang))
		stream->lang[0] = '\0';
}

/* §4.7.1: who it says it is. After authentication it must be who it is (§4.9.3.9). */
static struct stream_fault
stream_check_from(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_str from = element_get(header, "from");
	struct iris_jid jid;

	free(stream->claimed);
	stream->claimed = NULL;
	if (str_is_none(from))
		return STREAM_NO_FAULT;
	if (!jid_parse(header->arena, from, &jid))
		return STREAM_FAULT("invalid-from", "the stream header's from is not an address");
	if (!jid_is_none(&stream->jid) && !jid_bare_equal(&jid, &stream->jid))
		return STREAM_FAULT("invalid-from",
				    "the stream header's from is not who signed in");
	stream->claimed = str_dup(jid_bare(&jid));
	return STREAM_NO_FAULT;
}

static struct stream_fault
stream_check_to(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_str to = element_get(header, "to");
	struct iris_service *service;
	struct iris_jid jid;

	stream->host = NULL;
	if (str_is_none(to))
		return STREAM_FAULT("improper-addressing", "the stream header has no to");
	if (!jid_parse(header->arena, to, &jid) || jid.node_len > 0 || !jid_is_bare(&jid))
		return STREAM_FAULT("improper-addressing",
				    "the stream header's to is not a domain");
	stream->host = host_find(jid_domain(&jid));
	if (!stream->host && (service = service_find(jid_domain(&jid))) != NULL)
		stream->host = service->host;
	if (stream->role->serves ? !stream->role->serves(stream, jid_domain(&jid)) :
				   !host_find(jid_domain(&jid))) {
		stream->host = NULL;
		return STREAM_FAULT("host-unknown", NULL);
	}
	if (!stream->host && stream->role->between_servers) /* a component's: no certificate */
		stream->host = host_default();
	if (!stream->role->between_servers && !jid_is_none(&stream->jid) &&
	    !str_equal(jid_domain(&jid), jid_domain(&stream->jid)))
		return STREAM_FAULT("not-authorized", "signed in at another domain");
	return STREAM_NO_FAULT;
}

struct stream_fault
stream_check_frame_of_header(struct iris_stream *stream, const struct iris_element *header)
{
	if (!str_is(header->ns, NS_STREAM))
		return STREAM_FAULT("invalid-namespace", "the root is not in " NS_STREAM);
	if (!str_is(header->name, "stream"))
		return STREAM_FAULT("bad-format", "the root is not <stream/>");
	if (!str_is(xml_parser_content_ns(stream->parser), stream->role->ns))
		return STREAM_FAULT("invalid-namespace",
				    "another default namespace is expected here");
	stream_take_lang(stream, element_lang(header));
	return stream_check_version(stream, element_get(header, "version"));
}

static struct stream_fault
stream_check_header(struct iris_stream *stream, const struct iris_element *header)
{
	struct stream_fault fault = stream_check_frame_of_header(stream, header), addressing;

	if (fault.condition && strcmp(fault.condition, "unsupported-version") != 0)
		return fault;
	addressing = stream_check_to(stream, header);
	if (!addressing.condition)
		addressing = stream_check_from(stream, header);
	return addressing.condition ? addressing : fault;
}

enum iris_stream_state
stream_state_after_header(const struct iris_stream *stream)
{
	if (!jid_is_none(&stream->jid))
		return IRIS_STREAM_AUTHENTICATED;
	if (carrier_is_secure(stream->carrier) || stream->tls == LISTENER_NONE)
		return IRIS_STREAM_UNAUTHENTICATED;
	return IRIS_STREAM_PLAIN;
}

/*
 * COMPAT(@xmpp/client 0.14, direct TLS): it listens for our header only an event after it has
 * written its own, and waits in vain for one that came sooner, as on a near network. False: the
 * worker is stopping.
 */
static bool
stream_let_listen(const struct iris_stream *stream)
{
	return stream->tls != LISTENER_DIRECT || stream_is_framed(stream) ||
	       stream->role->between_servers || fiber_sleep(DIRECT_HEADER_MS);
}

void
stream_handle_header(struct iris_stream *stream, const struct iris_element *header)
{
	struct stream_fault fault;

	if (stream->initiator) {
		stream_handle_answer(stream, header);
		return;
	}
	if (!stream_let_listen(stream) || stream->state != IRIS_STREAM_HEADER)
		return; /* we have closed meanwhile */
	fault = stream_check_header(stream, header);
	stream_send_header(stream, header);
	if (fault.condition) {
		stream_error(stream, fault.condition, fault.text);
		return;
	}
	stream_move_to_state(stream, stream_state_after_header(stream));
	stream->role->opened(stream, header);
}

/* --- features --- */

static void
stream_add_features(struct iris_stream *stream, struct iris_element *features)
{
	if (stream->state ==
	    IRIS_STREAM_PLAIN) { /* §5.3.1: mandatory-to-negotiate, so nothing else matters */
		element_add(element_add(features, "starttls", NS_TLS), "required", NULL);
		return;
	}
	if (stream->role->offer) {
		stream->role->offer(stream, features);
		return;
	}
	hook_run_stream_features(&(struct iris_stream_features){ stream, features });
	if (stream->state == IRIS_STREAM_AUTHENTICATED) {
		element_add(features, "bind", NS_BIND);
		/* COMPAT(RFC 3921 clients): the session that is there anyway. */
		element_add(element_add(features, "session", NS_SESSION), "optional", NULL);
	}
}

/* COMPAT(libstrophe): <features/> must be written with the prefix `stream:`. */
void
stream_send_features(struct iris_stream *stream)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *features = element_new(arena, "features", NS_STREAM);
	struct iris_strbuf buf;

	stream_add_features(stream, features);
	buf = stream_buffer();
	if (stream_is_framed(stream))
		strbuf_add(&buf, IRIS_STR("<stream:features xmlns:stream='" NS_STREAM "'>"));
	else
		strbuf_add(&buf, IRIS_STR("<stream:features>"));
	ELEMENT_FOREACH (feature, features)
		element_write(&buf, feature, stream_outer_ns(stream));
	strbuf_add(&buf, IRIS_STR("</stream:features>"));
	stream_send_text(stream, IRIS_UNIT_ELEMENT, &buf);
	arena_unref(&arena);
}

/* --- limits --- */

void
stream_set_limits(struct iris_stream *stream)
{
	bool known = !jid_is_none(&stream->jid) || stream->state == IRIS_STREAM_BOUND;
	struct xml_limits limits = known ? xml_limits_authenticated : xml_limits_unauthenticated;

	if (known) {
		limits.stanza_bytes = stream_stanza_limit(stream);
		limits.token_bytes = (size_t)stream_option(STREAM_OPT_TOKEN_SIZE);
		limits.depth = (unsigned)stream_option(STREAM_OPT_DEPTH);
		limits.attributes = (unsigned)stream_option(STREAM_OPT_ATTRIBUTES);
		limits.nodes = (unsigned)stream_option(STREAM_OPT_NODES);
	} else {
		limits.stanza_bytes = (size_t)stream_option(STREAM_OPT_STANZA_SIZE_BEFORE);
	}
	if (stream->parser)
		xml_parser_set_limits(stream->parser, &limits);
	else
		stream->parser = xml_parser_new(&limits);
}

/* --- STARTTLS --- */

void
stream_handle_starttls(struct iris_stream *stream, struct iris_element *element)
{
	SSL_CTX *context =
		stream->host ? host_tls(stream->host, stream->role->between_servers) : NULL;
	struct iris_arena *arena = arena_new();

	stream_send(stream, element_new(arena, context ? "proceed" : "failure", NS_TLS));
	arena_unref(&arena);
	if (!context) { /* §5.4.2.2 */
		stream_close(stream);
		carrier_finish(stream->carrier);
		return;
	}
	/*
	 * SECURITY: what came in the clear behind <starttls/> would be taken for what the client
	 * says under TLS (command injection): it is forgotten with the parser, and so is all that
	 * was negotiated.
	 */
	xml_parser_restart(stream->parser);
	stream->header_sent = false;
	stream_move_to_state(stream, IRIS_STREAM_HANDSHAKE);
	if (!stream->carrier->ops->start_tls(stream->carrier, context))
		stream_cut(stream, "TLS could not be started");
}
