/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0288 1.0.1: Bidirectional Server-to-Server Connections: one link for both directions, where
 * certificates prove both sides.  The worker of the stream.
 */
#include "modules/federation/link_private.h"

#define NS_BIDI_FEATURE "urn:xmpp:features:bidi"

static bool
bidi_is_on(void)
{
	return module_is_loaded("xep0288");
}

void
bidi_offer(struct iris_element *features)
{
	if (bidi_is_on())
		element_add(features, "bidi", NS_BIDI_FEATURE);
}

void
bidi_ask(struct link *link, const struct iris_element *features)
{
	struct iris_arena *arena;

	if (!bidi_is_on() || !element_child(features, "bidi", NS_BIDI_FEATURE))
		return;
	link->is_both_ways = true;
	arena = arena_new();
	stream_send(link->stream, element_new(arena, "bidi", NS_BIDI));
	arena_unref(&arena);
}

/* §2.1: asked for before it authenticates; there is no answer. */
void
bidi_handle(struct iris_stream *stream, struct iris_element *bidi)
{
	if (stream_is_initiated(stream) || !bidi_is_on())
		stream_error(stream, "unsupported-stanza-type", NULL);
	else
		link_of(stream)->is_both_ways = true;
}

/*
 * SECURITY: what is for a domain is written only to who has proven to be it by a certificate; and
 * what comes in only taken from such a one.
 */
void
bidi_go_up(struct link *link, struct iris_str theirs, struct iris_str ours)
{
	link->is_both_ways = link->is_both_ways && link_proves(link, theirs);
	if (link->is_both_ways && link->is_ours)
		link_prove(link, theirs, ours);
}

/* Not before: what is written first shall be acknowledged, too, if the peer asks for that. */
void
bidi_adopt(struct link *link)
{
	if (!link->is_both_ways || link->is_ours || link->route || !link_is_up(link))
		return;
	link->route = remote_adopt(link, jid_domain(stream_jid(link->stream)), str_from(link->to));
	if (link->route)
		route_up(link->route, link);
}

static struct iris_module_self bidi_self;

const struct iris_module iris_module_xep0288 = {
	IRIS_MODULE_HEAD,
	.name = "xep0288",
	.summary = "Bidirectional Server-to-Server Connections",
	.xep = "XEP-0288 1.0.1",
	.needs = IRIS_NAMES("federation"),
	.self = &bidi_self,
	.off_by_default = true,
	.outward = true,
	.not_unloadable = true,
};
