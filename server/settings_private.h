/* SPDX-License-Identifier: Apache-2.0 */
/* How settings lie in memory; for config.c and settings.c. */
#ifndef IRIS_SETTINGS_PRIVATE_H
#define IRIS_SETTINGS_PRIVATE_H

#include "config_private.h"

struct iris_setting {
	int64_t number;             /* BOOL INT DURATION SIZE CHOICE */
	struct iris_str text;       /* STRING PATH */
	struct iris_str where;
	size_t count;               /* STRINGS RECORDS */
	struct iris_str *items;
	struct iris_settings *records;
};

/* In the arena of a configuration, as all it points to. Immutable once made. */
struct iris_settings {
	struct iris_settings *next;        /* of the configuration's list; not of records */
	const struct iris_option *options;
	unsigned count;                    /* of options */
	struct iris_setting *values;       /* by index of the option */
};

void settings_wipe(struct iris_settings *settings); /* overwrites secrets */

#endif
