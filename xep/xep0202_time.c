/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0202 2.0: Entity Time of the server. The offset is always that of UTC: where a server
 * stands is nobody's business.
 */
#include "iris/module.h"

#define NS_TIME "urn:xmpp:time"

static struct iris_module_self time_self;

static enum iris_verdict
time_answer(struct iris_request *request)
{
	request->reply = element_new(request->arena, "time", NS_TIME);
	element_add_text(request->reply, "tzo", NULL, IRIS_STR("+00:00"));
	element_add_text(request->reply, "utc", NULL,
			 datetime_format(request->arena, worker_wall_ms()));
	return IRIS_DONE;
}

static const struct iris_feature time_features[] = { { IRIS_DISCO_HOST, NS_TIME },
						     { .var = NULL } };

static const struct iris_iq time_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "time", NS_TIME, IRIS_ANYONE, time_answer },
	{ .name = NULL },
};

const struct iris_module iris_module_xep0202 = {
	IRIS_MODULE_HEAD,
	.name = "xep0202",
	.summary = "Entity Time",
	.xep = "XEP-0202 2.0",
	.self = &time_self,
	.features = time_features,
	.iq = time_iq,
};
