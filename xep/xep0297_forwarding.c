/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0297 1.0: Stanza Forwarding, written: see xep0297_forwarding.h. */
#include "xep/xep0203_delay.h"
#include "xep/xep0297_forwarding.h"

#define NS_FORWARD "urn:xmpp:forward:0"

static struct iris_module_self forwarding_self;

struct iris_element *
forwarded_add(struct iris_element *parent, const struct iris_element *stanza, int64_t delay_ms)
{
	struct iris_element *forwarded = element_add(parent, "forwarded", NS_FORWARD);
	struct iris_element *copy = element_copy(parent->arena, stanza);

	if (delay_ms)
		delay_add(forwarded, IRIS_STR_NONE, delay_ms);
	element_append(forwarded, copy);
	return copy;
}

const struct iris_module iris_module_xep0297 = {
	IRIS_MODULE_HEAD,
	.name = "xep0297",
	.summary = "Stanza Forwarding",
	.xep = "XEP-0297 1.0",
	.needs = IRIS_NAMES("xep0203"),
	.self = &forwarding_self,
	.not_unloadable = true,
};
