/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options are tables: the check of the configuration, the defaults, the manual page and the
 * sample are made from them.  A configuration is immutable once loaded; reload swaps it whole.
 */
#ifndef IRIS_CONFIG_H
#define IRIS_CONFIG_H

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_option_type {
	IRIS_OPT_BOOL,     /* true, false */
	IRIS_OPT_INT,
	IRIS_OPT_DURATION, /* "10 minutes", "500 ms"; kept in milliseconds */
	IRIS_OPT_SIZE,     /* "512 KiB"; kept in bytes */
	IRIS_OPT_STRING,
	IRIS_OPT_PATH,     /* made absolute, relative to the file that names it */
	IRIS_OPT_CHOICE,   /* one of `choices`; kept as its index */
	IRIS_OPT_STRINGS,  /* a sequence of strings */
	IRIS_OPT_RECORDS,  /* a sequence of mappings, each with `fields` */
};

struct iris_option {
	const char *name;            /* lower case, words joined by '-' */
	enum iris_option_type type;
	/* the default as it would be written; NULL: required, or empty for lists */
	const char *fallback;
	/* with fallback NULL: may be absent (string none, list empty) */
	bool optional;
	/* ms for durations, bytes for sizes, length for strings; 0,0: no bounds */
	int64_t min, max;
	const char *const *choices;  /* NULL-terminated */
	bool reloadable;             /* applied by SIGHUP; else a change asks for a restart */
	bool secret;                 /* never printed */
	const struct iris_option *fields; /* of RECORDS; ends with a NULL name */
	const char *help;            /* one sentence, for manual and sample */
};

#define IRIS_OPTIONS_END { .name = NULL }

/* The values of one section (a core section, a module, or one record of a list). */
struct iris_settings;

/*
 * By index into the option table; the type must fit (asserted). Valid until the next reload's
 * grace ends.
 */
bool settings_bool(const struct iris_settings *settings, unsigned option);
/* INT DURATION SIZE CHOICE */
int64_t settings_int(const struct iris_settings *settings, unsigned option);
/* STRING PATH */
struct iris_str settings_str(const struct iris_settings *settings, unsigned option);
size_t settings_count(const struct iris_settings *settings, unsigned option); /* STRINGS RECORDS */
struct iris_str settings_item(const struct iris_settings *settings, unsigned option, size_t i);
const struct iris_settings *settings_record(const struct iris_settings *settings, unsigned option,
					    size_t i);
/* "file:line" of where the value was written, or "default". */
struct iris_str settings_where(const struct iris_settings *settings, unsigned option);

#pragma GCC visibility pop
#endif
