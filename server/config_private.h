/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file as a tree, and what is made of it.  One arena holds a whole configuration,
 * its settings included: reload makes a new one and lets the old one go in one piece.
 * Main thread, except the settings_…() accessors of iris/config.h.
 */
#ifndef IRIS_CONFIG_PRIVATE_H
#define IRIS_CONFIG_PRIVATE_H

#include <stdio.h>

#include "iris/arena.h"
#include "iris/config.h"

#define CONFIG_FILE_MAX (1u << 20) /* bytes of one file */
#define CONFIG_FILES_MAX 64
#define CONFIG_INCLUDE_DEPTH 8
#define CONFIG_DEPTH_MAX 16        /* of mappings and sequences */
#define CONFIG_KEYS_MAX 256        /* of one mapping */
#define CONFIG_ITEMS_MAX 4096      /* of one sequence */
#define CONFIG_NODES_MAX 65536     /* of all files together */
#define REPORT_MAX 20

/* What is wrong with a configuration, line by line; more than REPORT_MAX are counted only. */
struct iris_report {
	char *errors[REPORT_MAX];
	size_t error_count, error_more;
	char *restarts[REPORT_MAX]; /* options whose change needs a restart (reload) */
	size_t restart_count, restart_more;
};

void report_error(struct iris_report *report, const char *fmt, ...) IRIS_PRINTF(2, 3);
void report_restart(struct iris_report *report, const char *fmt, ...) IRIS_PRINTF(2, 3);
void report_write(const struct iris_report *report, FILE *out);         /* one line each */
void report_log(const struct iris_report *report, const char *area);
/* The first error and how many follow it, as one value. Always false. */
bool report_to_error(const struct iris_report *report, struct iris_error *error);
void report_clear(struct iris_report *report); /* frees the lines; ready for use again */

struct config_file {
	const char *name; /* as messages name it */
	const char *dir;  /* absolute: paths in the file are relative to it */
	uint64_t device, inode;
};

enum config_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING };

struct config_node {
	struct config_node *next, *first, *last;
	enum config_kind kind;
	bool is_plain;          /* a scalar without quotes */
	struct iris_str key;    /* in a mapping */
	struct iris_str text;   /* of a scalar, after expansion; NUL-terminated */
	const struct config_file *file;
	unsigned line, column;  /* of the key in a mapping, else of the value */
	size_t count;           /* of children */
};

struct iris_config {
	struct iris_arena *arena;
	struct config_file *files[CONFIG_FILES_MAX]; /* the first one is the main file */
	size_t file_count;
	size_t node_count;
	struct config_node *root; /* mapping: section → mapping */
	struct iris_settings *settings; /* all that were made from it, to wipe secrets */
};

/* Reads the file and all it includes. NULL: the report says why (it may be not empty before). */
struct iris_config *config_load(const char *path, struct iris_report *report);
/* The same from memory; includes are refused, relative paths start at `/`. */
struct iris_config *config_parse(const char *name, struct iris_str text,
				 struct iris_report *report);
void config_free(struct iris_config **config_p); /* wipes secrets */
const struct config_node *config_section(const struct iris_config *config, struct iris_str name);
const struct config_node *config_child(const struct config_node *mapping, struct iris_str key);
/* A default "as it would be written", of a list; asserted to be well-formed. */
const struct config_node *config_fallback(struct iris_config *config, const char *text);
/* ${NAME} and ${NAME:-default}; false with the reason in *why_r (in the arena). */
IRIS_MUST_CHECK bool config_expand(struct iris_arena *arena, struct iris_str text,
				   struct iris_str *text_r, struct iris_str *why_r);

/*
 * The settings of a section: every option of the table, from the file or by default. What is wrong
 * goes into the report; the result is complete only when nothing was added to it. Lives as long as
 * the config.
 */
struct iris_settings *settings_make(struct iris_config *config, const char *section,
				    const struct iris_option *options, struct iris_report *report);
/* Wipes and forgets all settings made from a table: it goes, with the shared object it lies in. */
void settings_forget(struct iris_config *config, const struct iris_option *options);
unsigned options_count(const struct iris_option *options);
bool settings_equal(const struct iris_settings *a, const struct iris_settings *b, unsigned option);
/* The value of `from` (same table), copied: for options that a reload cannot change. */
void settings_keep(struct iris_config *config, struct iris_settings *settings,
		   const struct iris_settings *from, unsigned option);

/* Parses a scalar of any type but the lists; false: `why` says what is wrong with it. */
IRIS_MUST_CHECK bool option_parse(const struct iris_option *option, struct iris_str text,
				  int64_t *number_r, char *why, size_t why_size);
/* "512 KiB", "10 minutes": the shortest way to write a value of this type. */
void option_format(enum iris_option_type type, int64_t number, char *buf, size_t size);
/* "an integer from 1 to 65535": for manuals and messages. */
void option_describe(const struct iris_option *option, char *buf, size_t size);

/* Which of the names offered is nearest to what was written? */
struct option_guess {
	struct iris_str wanted;
	const char *best;
	unsigned distance;
};
void guess_offer(struct option_guess *guess, const char *name);
/* `, did you mean "port"?`, or nothing when none is near. */
const char *guess_text(const struct option_guess *guess, char *buf, size_t size);

#endif
