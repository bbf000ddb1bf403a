/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration: refused with reasons, or settings that can be read. */
#include <stdlib.h>

#include "config_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const choices[] = { "one", "two", NULL };
static const struct iris_option fields[] = {
	{ .name = "port", .type = IRIS_OPT_INT, .min = 1, .max = 65535 },
	{ .name = "path", .type = IRIS_OPT_PATH, .fallback = "x" },
	{ .name = "names", .type = IRIS_OPT_STRINGS },
	IRIS_OPTIONS_END,
};
static const struct iris_option options[] = {
	{ .name = "bool", .type = IRIS_OPT_BOOL, .fallback = "true" },
	{ .name = "int", .type = IRIS_OPT_INT, .fallback = "3" },
	{
		.name = "wait",
		.type = IRIS_OPT_DURATION,
		.fallback = "10 minutes",
		.min = 1000,
		.max = 3600000,
	},
	{ .name = "size", .type = IRIS_OPT_SIZE, .fallback = "512 KiB" },
	{
		.name = "text",
		.type = IRIS_OPT_STRING,
		.optional = true,
		.secret = true,
		.min = 1,
		.max = 20,
	},
	{ .name = "path", .type = IRIS_OPT_PATH, .optional = true },
	{ .name = "choice", .type = IRIS_OPT_CHOICE, .choices = choices, .fallback = "two" },
	{ .name = "names", .type = IRIS_OPT_STRINGS, .fallback = "[a, b]" },
	{ .name = "records", .type = IRIS_OPT_RECORDS, .fields = fields, .max = 20 },
	IRIS_OPTIONS_END,
};

static void
read_all(const struct iris_settings *settings)
{
	for (unsigned i = 0; i < options_count(options); i++)
		IRIS_ASSERT(!str_is_none(settings_where(settings, i)));
	IRIS_ASSERT(settings_int(settings, 2) >= 1000 && settings_int(settings, 2) <= 3600000);
	IRIS_ASSERT(settings_int(settings, 6) <= 1);
	for (size_t i = 0; i < settings_count(settings, 8); i++) {
		const struct iris_settings *record = settings_record(settings, 8, i);
		IRIS_ASSERT(settings_int(record, 0) >= 1 && settings_str(record, 1).base[0] == '/');
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config =
		config_parse("iris.yaml", (struct iris_str){ (const char *)data, size }, &report);

	IRIS_ASSERT((config == NULL) == (report.error_count > 0));
	if (config) {
		struct iris_settings *settings = settings_make(config, "test", options, &report);
		if (report.error_count == 0) {
			struct iris_settings *again =
				settings_make(config, "test", options, &report);
			read_all(settings);
			for (unsigned i = 0; i < options_count(options); i++) {
				settings_keep(config, again, settings, i);
				IRIS_ASSERT(settings_equal(settings, again, i));
			}
		}
	}
	report_clear(&report);
	config_free(&config);
	return 0;
}
