/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0203 2.0: Delayed Delivery, written: see xep0203_delay.h. What clients stamp is passed on
 * as it is.
 */
#include "xep/xep0203_delay.h"

static struct iris_module_self delay_self;

void
delay_add(struct iris_element *parent, struct iris_str from, int64_t unix_ms)
{
	struct iris_element *delay = element_add(parent, "delay", NS_DELAY);

	element_set(delay, "from", from);
	element_set(delay, "stamp", datetime_format(parent->arena, unix_ms));
}

static const struct iris_feature delay_features[] = {
	{ IRIS_DISCO_HOST, NS_DELAY },
	{ .var = NULL },
};

const struct iris_module iris_module_xep0203 = {
	IRIS_MODULE_HEAD,
	.name = "xep0203",
	.summary = "Delayed Delivery",
	.xep = "XEP-0203 2.0",
	.self = &delay_self,
	.features = delay_features,
	.not_unloadable = true,
};
