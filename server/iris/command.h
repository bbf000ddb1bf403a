/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of commands: administrators see them as ad-hoc commands in their client, operators
 * as `irisctl NOUN VERB`.  The form, the flags and the help are made from the declaration.
 */
#ifndef IRIS_COMMAND_H
#define IRIS_COMMAND_H

#include "iris/auth.h"

#pragma GCC visibility push(default) /* for plug-ins */

/* XEP-0004's types that commands use */
enum iris_field_kind {
	IRIS_FIELD_TEXT,
	IRIS_FIELD_SECRET,
	IRIS_FIELD_BOOL,
	IRIS_FIELD_JID,
	IRIS_FIELD_CHOICE,
	IRIS_FIELD_TEXTS,
	IRIS_FIELD_INT,
};

struct iris_command_field {
	const char *name;  /* also irisctl's --name */
	enum iris_field_kind kind;
	bool required;
	bool positional;   /* irisctl takes it as an argument */
	const char *const *choices;
	const char *fallback;
	const char *label; /* for people */
};

struct iris_command_call {
	struct iris_arena *arena;
	struct iris_jid from;
	/* where the request came from, for the record (P10.1); or none */
	struct iris_str address;
	enum iris_role role;
	bool second_factor;          /* it was shown on this session (P3.7) */
	const struct iris_command *command;
	/* by index of the field, none when absent; TEXTS: one line each */
	struct iris_str *values;
	/* The result: */
	struct iris_refusal refusal; /* set .condition to refuse */
	struct iris_str note;        /* one sentence for people */
	const char *const *columns;  /* a table: NULL-terminated names … */
	struct iris_str *cells;      /* … and row_count × columns */
	size_t row_count;
};

struct iris_command {
	const char *noun, *verb;   /* "user", "add" */
	const char *summary;
	enum iris_role role;       /* the least that may; others cannot even see it */
	bool second_factor;        /* P3.7: without it, not-authorized */
	bool dangerous;            /* clients and irisctl ask again */
	/* a XEP's own names, for clients: of the ad-hoc node, and of the form that a result of one
	   row is (its columns are fields); NULL: noun/verb, and a table */
	const char *node, *form_type;
	const struct iris_command_field *fields; /* ends with a NULL name; NULL: none */
	/* On a fiber of the worker where the request came in. */
	void (*run)(struct iris_command_call *call);
};

/* All commands of the loaded modules that this role may see; fn returns false to stop. */
void command_each(enum iris_role role, bool (*fn)(const struct iris_command *command, void *arg),
		  void *arg);
const struct iris_command *command_find(enum iris_role role, struct iris_str noun,
					struct iris_str verb);
/*
 * Checks the values against the fields (required, choices, JIDs), runs it, logs and counts it
 * (P10.1).
 */
void command_run(struct iris_command_call *call);
/* Helpers for results: starts a table, adds a row of `columns` cells. */
void command_table(struct iris_command_call *call, const char *const *columns);
void command_row(struct iris_command_call *call, const struct iris_str *cells);

#pragma GCC visibility pop
#endif
