/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0440 1.0: SASL Channel-Binding Type Capability.  Announces what this connection can bind
 * to, beside the mechanisms that bind; both come from the same list, so they always agree (§4).
 * On the stream's worker.
 */
#include "iris/module.h"

#define NS_SASL_CB "urn:xmpp:sasl-cb:0"

static struct iris_module_self sasl_cb_self;

static enum iris_verdict
sasl_cb_stream_features(struct iris_stream_features *features)
{
	const char *const *types;
	struct iris_element *element;

	if (stream_state(features->stream) != IRIS_STREAM_UNAUTHENTICATED ||
	    !stream_is_secure(features->stream) ||
	    strcmp(stream_role(features->stream)->ns, NS_CLIENT) != 0)
		return IRIS_PASS;
	types = stream_channel_bindings(features->stream);
	if (!types[0])
		return IRIS_PASS;
	element = element_add(features->features, "sasl-channel-binding", NS_SASL_CB);
	for (; *types; types++)
		element_set(element_add(element, "channel-binding", NULL), "type",
			    str_from(*types));
	return IRIS_PASS;
}

static const struct iris_hook_handler sasl_cb_hooks[] = {
	HOOK(stream_features, IRIS_EARLY, sasl_cb_stream_features),
	HOOKS_END,
};

const struct iris_module iris_module_xep0440 = {
	IRIS_MODULE_HEAD,
	.name = "xep0440",
	.summary = "Announces the channel binding types",
	.xep = "XEP-0440 1.0.0",
	.self = &sasl_cb_self,
	.hooks = sasl_cb_hooks,
};
