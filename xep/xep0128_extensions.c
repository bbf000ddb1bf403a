/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0128 1.0: Service Discovery Extensions.  Forms that the operator wants a host to show in
 * its discovery; forms of other plug-ins (XEP-0157) come beside them.
 */
#include "xep/xep0004_forms.h"

enum { OPT_FORMS };
enum { FORM_TYPE, FORM_FIELDS };
enum { FIELD_VAR, FIELD_VALUES };

static struct iris_module_self extensions_self;

static void
extensions_add_field(struct iris_element *form, const struct iris_settings *settings)
{
	struct iris_str var = arena_copy_str(form->arena, settings_str(settings, FIELD_VAR));
	size_t count = settings_count(settings, FIELD_VALUES);
	struct iris_element *field = form_add_field(form, count > 1 ? "text-multi" : "text-single",
						    var.base, IRIS_STR_NONE);

	for (size_t i = 0; i < count; i++)
		form_field_add_value(field, settings_item(settings, FIELD_VALUES, i));
}

static void
extensions_add_form(struct iris_element *query, const struct iris_settings *settings)
{
	struct iris_str type = arena_copy_str(query->arena, settings_str(settings, FORM_TYPE));
	struct iris_element *form = form_add(query, "result", type.base);

	for (size_t i = 0; i < settings_count(settings, FORM_FIELDS); i++)
		extensions_add_field(form, settings_record(settings, FORM_FIELDS, i));
}

static enum iris_verdict
extensions_disco_info(struct iris_discovery *discovery)
{
	const struct iris_settings *settings = atomic_load(&extensions_self.settings);

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	for (size_t i = 0; i < settings_count(settings, OPT_FORMS); i++)
		extensions_add_form(discovery->query, settings_record(settings, OPT_FORMS, i));
	return IRIS_PASS;
}

static const struct iris_hook_handler extensions_hooks[] = {
	HOOK(disco_info, IRIS_LATE, extensions_disco_info),
	HOOKS_END,
};

static const struct iris_option extensions_field[] = {
	[FIELD_VAR] = { "var", IRIS_OPT_STRING, .min = 1, .max = 255,
			.help = "The name of the field." },
	[FIELD_VALUES] = { "values", IRIS_OPT_STRINGS, .optional = true, .help = "Its values." },
	IRIS_OPTIONS_END,
};

static const struct iris_option extensions_form[] = {
	[FORM_TYPE] = { "form-type", IRIS_OPT_STRING, .min = 1, .max = 1023,
			.help = "The FORM_TYPE of the form." },
	[FORM_FIELDS] = { "fields", IRIS_OPT_RECORDS, .fields = extensions_field,
			  .help = "Its fields." },
	IRIS_OPTIONS_END,
};

static const struct iris_option extensions_options[] = {
	[OPT_FORMS] = { "forms", IRIS_OPT_RECORDS, .optional = true, .fields = extensions_form,
			.reloadable = true,
			.help = "Forms that the discovery of every host shows." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0128 = {
	IRIS_MODULE_HEAD,
	.name = "xep0128",
	.summary = "Service Discovery Extensions",
	.xep = "XEP-0128 1.0.1",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &extensions_self,
	.options = extensions_options,
	.hooks = extensions_hooks,
};
