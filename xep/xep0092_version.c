/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0092 1.1: Software Version. Off by default: a version tells an attacker what to try (P1.4).
 */
#include "iris/module.h"

#define NS_VERSION "jabber:iq:version"

enum { OPT_NAME, OPT_SHOW_VERSION };

static struct iris_module_self version_self;

static enum iris_verdict
version_answer(struct iris_request *request)
{
	request->reply = element_new(request->arena, "query", NS_VERSION);
	element_add_text(request->reply, "name", NULL, option_str(&version_self, OPT_NAME));
	element_add_text(request->reply, "version", NULL,
			 option_bool(&version_self, OPT_SHOW_VERSION) ? IRIS_STR(PACKAGE_VERSION) :
									IRIS_STR(""));
	return IRIS_DONE;
}

static const struct iris_feature version_features[] = { { IRIS_DISCO_HOST, NS_VERSION },
							{ .var = NULL } };

static const struct iris_iq version_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "query", NS_VERSION, IRIS_ANYONE, version_answer },
	{ .name = NULL },
};

static const struct iris_option version_options[] = {
	[OPT_NAME] = { "name", IRIS_OPT_STRING, "Iris", .min = 1, .max = 255, .reloadable = true,
		.help = "The name that is told." },
	[OPT_SHOW_VERSION] = { "show-version", IRIS_OPT_BOOL, "false", .reloadable = true,
		.help = "Whether the version is told too." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0092 = {
	IRIS_MODULE_HEAD,
	.name = "xep0092",
	.summary = "Software Version",
	.xep = "XEP-0092 1.1",
	.self = &version_self,
	.options = version_options,
	.features = version_features,
	.iq = version_iq,
	.off_by_default = true,
};
