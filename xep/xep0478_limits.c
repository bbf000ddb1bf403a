/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0478 0.2: Stream Limits Advertisement.  The limits are those of the stream engine; this only
 * tells them.
 */
#include "iris/module.h"

#define NS_LIMITS "urn:xmpp:stream-limits:0"

static struct iris_module_self limits_self;

static enum iris_verdict
limits_stream_features(struct iris_stream_features *arg)
{
	struct iris_element *limits = element_add(arg->features, "limits", NS_LIMITS);
	int64_t idle_ms = stream_idle_limit_ms(arg->stream);
	struct iris_arena *arena = limits->arena;

	element_add_text(limits, "max-bytes", NULL,
			 arena_printf(arena, "%zu", stream_stanza_limit(arg->stream)));
	if (idle_ms > 0)
		element_add_text(limits, "idle-seconds", NULL,
				 arena_printf(arena, "%lld", (long long)(idle_ms / 1000)));
	return IRIS_PASS;
}

static const struct iris_hook_handler limits_hooks[] = {
	HOOK(stream_features, IRIS_LATE, limits_stream_features),
	HOOKS_END,
};

const struct iris_module iris_module_xep0478 = {
	IRIS_MODULE_HEAD,
	.name = "xep0478",
	.summary = "Stream Limits Advertisement",
	.xep = "XEP-0478 0.2.0",
	.self = &limits_self,
	.hooks = limits_hooks,
};
