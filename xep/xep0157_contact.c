/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0157 1.1: Contact Addresses for XMPP Services, as a form in the host's discovery (XEP-0128).
 */
#include "xep/xep0004_forms.h"

static struct iris_module_self contact_self;

#define CONTACT_KINDS(X)                                                                     \
	X(ABUSE, "abuse") X(ADMIN, "admin") X(FEEDBACK, "feedback") X(SALES, "sales")        \
	X(SECURITY, "security") X(STATUS, "status") X(SUPPORT, "support")

enum {
#define X(name, text) OPT_##name,
	CONTACT_KINDS(X)
#undef X
	CONTACT_COUNT
};

static const struct iris_option contact_options[] = {
#define X(name, text)                        \
	[OPT_##name] = { text,               \
			 IRIS_OPT_STRINGS,   \
			 NULL,               \
			 .optional = true,   \
			 .max = 1023,        \
			 .reloadable = true, \
			 .help = "Addresses (URIs) for " text "." },
	CONTACT_KINDS(X)
#undef X
	IRIS_OPTIONS_END,
};

static void
contact_add_field(struct iris_element *form, const struct iris_settings *settings, unsigned kind)
{
	size_t count = settings_count(settings, kind);
	struct iris_str var = arena_printf(form->arena, "%s-addresses", contact_options[kind].name);
	struct iris_element *field;

	if (count == 0)
		return;
	field = form_add_field(form, "list-multi", var.base, IRIS_STR_NONE);
	for (size_t i = 0; i < count; i++)
		form_field_add_value(field, settings_item(settings, kind, i));
}

static enum iris_verdict
contact_disco_info(struct iris_discovery *discovery)
{
	const struct iris_settings *settings = atomic_load(&contact_self.settings);
	struct iris_element *form = NULL;

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	for (unsigned kind = 0; kind < CONTACT_COUNT; kind++) {
		if (!form && settings_count(settings, kind) > 0)
			form = form_add(discovery->query, "result",
					"http://jabber.org/network/serverinfo");
		if (form)
			contact_add_field(form, settings, kind);
	}
	return IRIS_PASS;
}

static const struct iris_hook_handler contact_hooks[] = {
	HOOK(disco_info, IRIS_LATE, contact_disco_info),
	HOOKS_END,
};

const struct iris_module iris_module_xep0157 = {
	IRIS_MODULE_HEAD,
	.name = "xep0157",
	.summary = "Contact Addresses for XMPP Services",
	.xep = "XEP-0157 1.1.1",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &contact_self,
	.options = contact_options,
	.hooks = contact_hooks,
};
