/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0455 0.4: Service Outage Status: where the status is told while the server is not there, in
 * the discovery of each host; and a command that writes what is to be put there.  On any worker.
 *
 * The file itself lies with somebody else, or it would be gone with the server.  Nothing is said
 * in-band: since version 0.3 there is no protocol for it; `server announce` speaks to people.
 */
#include "xep/xep0004_forms.h"

#define NS_OUTAGE "urn:xmpp:sos:0"

enum { OPT_ADDRESSES };
enum { FIELD_BEGINNING, FIELD_EXPECTED_END, FIELD_PLANNED, FIELD_MESSAGE };

static struct iris_module_self outage_self;

/* §4.1 */
static enum iris_verdict
outage_disco_info(struct iris_discovery *discovery)
{
	const struct iris_settings *settings = atomic_load(&outage_self.settings);
	size_t count = settings_count(settings, OPT_ADDRESSES);
	struct iris_element *form, *field;

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node) || count == 0)
		return IRIS_PASS;
	form = form_add(discovery->query, "result", NS_OUTAGE);
	field = form_add_field(form, "list-multi", "external-status-addresses", IRIS_STR_NONE);
	for (size_t i = 0; i < count; i++)
		form_field_add_value(field, settings_item(settings, OPT_ADDRESSES, i));
	return IRIS_PASS;
}

/* --- the file: §4.2 --- */

/* RFC 8259 §7 */
static void
json_add_string(struct iris_strbuf *json, struct iris_str text)
{
	strbuf_add_char(json, '"');
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.base[i];

		if (c == '"' || c == '\\')
			strbuf_printf(json, "\\%c", c);
		else if (c < 0x20)
			strbuf_printf(json, "\\u%04x", c);
		else
			strbuf_add_char(json, (char)c);
	}
	strbuf_add_char(json, '"');
}

/* A time as people write it becomes one in UTC. False: it is none. */
static bool
json_add_time(struct iris_strbuf *json, const char *name, struct iris_str text)
{
	int64_t time_ms;

	if (str_is_none(text))
		return true;
	if (!datetime_parse(text, &time_ms))
		return false;
	strbuf_printf(json, ",\"%s\":", name);
	json_add_string(json, datetime_format(json->arena, time_ms));
	return true;
}

static void
outage_run_describe(struct iris_command_call *call)
{
	struct iris_strbuf json = STRBUF_INIT(call->arena);
	struct iris_str planned = call->values[FIELD_PLANNED];

	strbuf_printf(&json, "{\"planned\":%s", form_value_is_true(planned) ? "true" : "false");
	if (!json_add_time(&json, "beginning", call->values[FIELD_BEGINNING]) ||
	    !json_add_time(&json, "expected_end", call->values[FIELD_EXPECTED_END])) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_NOT_ACCEPTABLE,
						       .text = "Write times like "
							       "2026-01-31T18:00:00Z" };
		return;
	}
	if (!str_is_none(call->values[FIELD_MESSAGE])) {
		strbuf_add(&json, IRIS_STR(",\"message\":{\"default\":"));
		json_add_string(&json, call->values[FIELD_MESSAGE]);
		strbuf_add_char(&json, '}');
	}
	strbuf_add_char(&json, '}');
	call->note = strbuf_str(&json);
}

static const struct iris_command_field describe_fields[] = {
	[FIELD_BEGINNING] = { "beginning", IRIS_FIELD_TEXT, .required = true, .positional = true,
			      .label = "When it begins (XEP-0082)" },
	[FIELD_EXPECTED_END] = { "expected-end", IRIS_FIELD_TEXT,
				 .label = "When it should be over" },
	[FIELD_PLANNED] = { "planned", IRIS_FIELD_BOOL, .fallback = "true",
			    .label = "Was it planned?" },
	[FIELD_MESSAGE] = { "message", IRIS_FIELD_TEXT, .label = "What people are told" },
	{ .name = NULL },
};

static const struct iris_command command_describe = {
	.noun = "outage",
	.verb = "describe",
	.summary = "Write the status file of an outage, to be put at the external address",
	.role = IRIS_ROLE_SUPER_ADMIN,
	.fields = describe_fields,
	.run = outage_run_describe,
};

static bool
outage_check(const struct iris_settings *settings, struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(settings, OPT_ADDRESSES); i++) {
		struct iris_str address = settings_item(settings, OPT_ADDRESSES, i);

		if (address.len < 9 || (memcmp(address.base, "https://", 8) != 0 &&
					memcmp(address.base, "http://", 7) != 0))
			return error_set(error, "“%.*s” is not an HTTP address",
					 IRIS_STR_FMT(address));
	}
	return true;
}

static const struct iris_hook_handler outage_hooks[] = {
	HOOK(disco_info, IRIS_LATE, outage_disco_info),
	HOOKS_END,
};

static const struct iris_option outage_options[] = {
	[OPT_ADDRESSES] = { "addresses", IRIS_OPT_STRINGS, .optional = true, .max = 1023,
			    .reloadable = true,
			    .help = "Where the status file of an outage is (HTTP), on another "
				    "machine than this one." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0455 = {
	IRIS_MODULE_HEAD,
	.name = "xep0455",
	.summary = "Service Outage Status",
	.xep = "XEP-0455 0.4.0",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &outage_self,
	.options = outage_options,
	.hooks = outage_hooks,
	.commands = (const struct iris_command *const[]){ &command_describe, NULL },
	.check = outage_check,
};
