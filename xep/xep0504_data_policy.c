/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0504 0.1: Data Policy, as a form in the discovery of every host (XEP-0128; P2.9): what is
 * true of this server by its making, and what the operator says.
 */
#include "xep/xep0004_forms.h"

enum {
	OPT_AUTH,
	OPT_RETENTION,
	OPT_DELETION,
	OPT_EXPORT,
	OPT_ERASURE,
	OPT_TERMS,
	OPT_ACCESS,
	OPT_BACKUP_FREQUENCY,
	OPT_BACKUP_RETENTION,
	OPT_EXTRA,
	OPT_COUNT
};

static struct iris_module_self policy_self;

static const char *const auth_choices[] = { "no_auth", "plain", "hidden", "restricted", NULL };

/* Where each option goes; in the order of the options. */
static const struct {
	const char *var, *type;
} policy_fields[OPT_COUNT] = {
	[OPT_AUTH] = { "auth_data", "list-single" },
	[OPT_RETENTION] = { "data_retention", "text-single" },
	[OPT_DELETION] = { "data_deletion", "boolean" },
	[OPT_EXPORT] = { "data_export", "boolean" },
	[OPT_ERASURE] = { "full_erasure", "boolean" },
	[OPT_TERMS] = { "tos", "text-single" },
	[OPT_ACCESS] = { "access_policy", "list-multi" },
	[OPT_BACKUP_FREQUENCY] = { "backup_frequency", "text-single" },
	[OPT_BACKUP_RETENTION] = { "backup_retention", "text-single" },
	[OPT_EXTRA] = { "extra_info", "text-multi" },
};

static const struct iris_option policy_options[] = {
	[OPT_AUTH] = { "auth-data", IRIS_OPT_CHOICE, "hidden", .choices = auth_choices,
		       .reloadable = true,
		       .help = "What the server sees of what people sign in with." },
	[OPT_RETENTION] = { "data-retention", IRIS_OPT_STRING, "infinite", .min = 1, .max = 20,
			    .reloadable = true,
			    .help = "How many hours data is kept at most, or infinite, or unknown; "
				    "archive.keep-for is what makes it so." },
	[OPT_DELETION] = { "data-deletion", IRIS_OPT_BOOL, "true", .reloadable = true,
			   .help = "Whether people can delete their data themselves." },
	[OPT_EXPORT] = { "data-export", IRIS_OPT_BOOL, "false", .reloadable = true,
			 .help = "Whether people can export all their data." },
	[OPT_ERASURE] = { "full-erasure", IRIS_OPT_BOOL, "true", .reloadable = true,
			  .help = "Whether people can erase their account with all its data." },
	[OPT_TERMS] = { "terms", IRIS_OPT_STRING, NULL, .optional = true, .max = 1023,
			.reloadable = true, .help = "The address (URI) of the terms of service." },
	[OPT_ACCESS] = { "access", IRIS_OPT_STRINGS, NULL, .optional = true, .max = 64,
			 .reloadable = true,
			 .help = "Who else can see accounts or data: admins, moderators, "
				 "organization_member, government, advertisers, partners; or "
				 "none." },
	[OPT_BACKUP_FREQUENCY] = { "backup-frequency", IRIS_OPT_STRING, NULL, .optional = true,
				   .max = 20, .reloadable = true,
				   .help = "The hours between two backups; 0: there are none." },
	[OPT_BACKUP_RETENTION] = { "backup-retention", IRIS_OPT_STRING, NULL, .optional = true,
				   .max = 20, .reloadable = true,
				   .help = "How many hours a backup is kept, or infinite, or "
					   "unknown." },
	[OPT_EXTRA] = { "extra", IRIS_OPT_STRINGS, NULL, .optional = true, .max = 1023,
			.reloadable = true, .help = "What else people should know, in sentences." },
	IRIS_OPTIONS_END,
};

static void
add_strings(struct iris_element *form, const struct iris_settings *settings, unsigned option)
{
	size_t count = settings_count(settings, option);
	struct iris_element *field;

	if (count == 0)
		return;
	field = form_add_field(form, policy_fields[option].type, policy_fields[option].var,
			       IRIS_STR_NONE);
	for (size_t i = 0; i < count; i++)
		form_field_add_value(field, settings_item(settings, option, i));
}

static struct iris_str
value_of(const struct iris_settings *settings, unsigned option)
{
	switch (policy_options[option].type) {
	case IRIS_OPT_CHOICE:
		return str_from(auth_choices[settings_int(settings, option)]);
	case IRIS_OPT_BOOL:
		return settings_bool(settings, option) ? IRIS_STR("true") : IRIS_STR("false");
	default:
		return settings_str(settings, option);
	}
}

static enum iris_verdict
policy_disco_info(struct iris_discovery *discovery)
{
	const struct iris_settings *settings = atomic_load(&policy_self.settings);
	struct iris_element *form;

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	form = form_add(discovery->query, "result", "urn:xmpp:data-policy:0");
	/* Not an option: the vault seals everything. */
	form_add_field(form, "boolean", "encryption_at_rest", IRIS_STR("true"));
	for (unsigned option = 0; option < OPT_COUNT; option++) {
		if (policy_options[option].type == IRIS_OPT_STRINGS)
			add_strings(form, settings, option);
		else if (!str_is_empty(value_of(settings, option)))
			form_add_field(form, policy_fields[option].type, policy_fields[option].var,
				       value_of(settings, option));
	}
	return IRIS_PASS;
}

static const struct iris_hook_handler policy_hooks[] = {
	HOOK(disco_info, IRIS_LATE, policy_disco_info),
	HOOKS_END,
};

const struct iris_module iris_module_xep0504 = {
	IRIS_MODULE_HEAD,
	.name = "xep0504",
	.summary = "Data Policy",
	.xep = "XEP-0504 0.1.0",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &policy_self,
	.options = policy_options,
	.hooks = policy_hooks,
};
