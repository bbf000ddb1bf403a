/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0199 2.0: XMPP Ping, of the server and of an account (§4.2, §4.3). Full JIDs answer for
 * themselves.
 */
#include "xep/xep0199_ping.h"

static struct iris_module_self ping_self;

static enum iris_verdict
ping_answer(struct iris_request *request)
{
	return IRIS_DONE;
}

static const struct iris_feature ping_features[] = {
	{ IRIS_DISCO_HOST, NS_PING },
	{ IRIS_DISCO_ACCOUNT, NS_PING },
	{ IRIS_DISCO_SERVICE, NS_PING },
	{ IRIS_DISCO_PLACE, NS_PING },
	{ .var = NULL },
};

/* An account answers its network only: a stranger must not learn that it exists (P5.7). */
static const struct iris_iq ping_iq[] = {
	{ IRIS_TO_HOST | IRIS_TO_SERVICE | IRIS_TO_PLACE, IRIS_GET, "ping", NS_PING, IRIS_ANYONE,
	  ping_answer },
	{ IRIS_TO_ACCOUNT, IRIS_GET, "ping", NS_PING, IRIS_NETWORK, ping_answer },
	{ .name = NULL },
};

const struct iris_module iris_module_xep0199 = {
	IRIS_MODULE_HEAD,
	.name = "xep0199",
	.summary = "XMPP Ping",
	.xep = "XEP-0199 2.0.1",
	.self = &ping_self,
	.features = ping_features,
	.iq = ping_iq,
};
