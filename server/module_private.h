/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module runtime, for the core.  What workers read (hooks, IQ handlers, stream elements,
 * commands, features, roles, routes) are immutable tables made from the ordered set of loaded
 * modules; loading and unloading makes them anew and swaps pointers, so undoing needs no code.
 * Main thread, outside a fiber, unless something else is said.
 */
#ifndef IRIS_MODULE_PRIVATE_H
#define IRIS_MODULE_PRIVATE_H

#include "config_private.h"
#include "iris/module.h"

#define MODULES_MAX 128 /* indices ever given out by one process; slots have this size at most */

/* Made by tools/module-table; ends with NULL. */
extern const struct iris_module *const modules_linked[];

/* --- start and stop --- */

/*
 * Decides which of `linked` (and of shared objects) are loaded, in which order, and checks
 * all sections of the configuration against all known modules. Takes over the config when true.
 */
IRIS_MUST_CHECK bool modules_select(const struct iris_module *const *linked,
				    struct iris_config **config_p, struct iris_report *report);
/*
 * Makes the tables that workers read: roles, engines, handlers.  For what comes before
 * modules_start(), which does it else.
 */
IRIS_MUST_CHECK bool modules_publish(struct iris_error *error);
/*
 * Publishes all, then starts them in order. When one fails, those before it are still there, and
 * fibers of theirs may run: workers_stop(), then modules_stop().
 */
IRIS_MUST_CHECK bool modules_start(struct iris_error *error);
void modules_stop(void); /* backwards; forgets the selection and the configuration too */
/* Reads the file anew; false: all stays as it was and the report has the reasons. */
IRIS_MUST_CHECK bool modules_reload(struct iris_report *report);

/* While the server runs: a module by name, linked in or a shared object. */
IRIS_MUST_CHECK bool module_load(struct iris_str name, struct iris_error *error);
/*
 * Unloading: first nobody finds it any more, then, when no fiber is inside it, it is stopped. So
 * call the second until it says true.
 */
IRIS_MUST_CHECK bool module_unload_begin(struct iris_str name, struct iris_error *error);
IRIS_MUST_CHECK bool module_unload_finish(void);

/* --- what is loaded; any worker, but the pointers are good for this turn of the loop only --- */

/* In order; fn returns false to stop. It must not wait. */
void module_each(bool (*fn)(const struct iris_module *module, void *arg), void *arg);
const struct iris_module *module_find(struct iris_str name);
unsigned module_slot_count(void); /* indices given out so far: how long an array of slots must be */
const struct iris_stream_role *stream_role_find(struct iris_str name);
const struct iris_protocol *protocol_find(struct iris_str name);
/*
 * Does anybody offer a stream role or a protocol of this name? Also while a configuration is
 * checked, before those that were chosen are published. Main thread.
 */
bool module_offers(struct iris_str name);
struct module_set;
void module_consider(const struct module_set *set); /* those that are checked; NULL: over */
/* Calls `close` of every protocol; the sum of what they return. */
size_t protocols_close(bool now);
const struct iris_vault_engine *module_engine(struct iris_str name); /* of the module so named */

/* Who handles this? NULL: nobody. Any worker; call it by iq_run(), stream_handler_run(). */
const struct iris_iq *iq_find(enum iris_target target, enum iris_stanza_type type,
			      struct iris_str name, struct iris_str ns,
			      const struct iris_module **module_r);
const struct iris_stream_handler *stream_handler_find(struct iris_str name, struct iris_str ns,
						      const struct iris_module **module_r);
/* Calls the handler, so that its module is not unloaded under a fiber that waits in it. */
enum iris_verdict iq_run(const struct iris_iq *iq, const struct iris_module *module,
			 struct iris_request *request);
void stream_handler_run(const struct iris_stream_handler *handler, const struct iris_module *module,
			struct iris_stream *stream, struct iris_element *element);
/* The same for other calls: mechanisms, roles. They nest; same worker, in pairs. */
void module_enter(const struct iris_module *module);
void module_leave(const struct iris_module *module);
/* The same for who calls into several: the counts of the calling worker are asked for once. */
_Atomic uint32_t *module_inside(void);

static inline void
module_enter_from(_Atomic uint32_t *inside, const struct iris_module *module)
{
	_Atomic uint32_t *count = module->self ? &inside[module->self->index] : NULL;

	if (count)
		atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
				      memory_order_relaxed);
}

static inline void
module_leave_from(_Atomic uint32_t *inside, const struct iris_module *module)
{
	_Atomic uint32_t *count = module->self ? &inside[module->self->index] : NULL;

	if (count) {
		const uint32_t before = atomic_load_explicit(count, memory_order_relaxed);
		IRIS_ASSERT(before > 0);
		/* Releases: who sees zero and stops the module, sees all that was done in it. */
		atomic_store_explicit(count, before - 1, memory_order_release);
	}
}

/*
 * Logs the chain and the verdicts of every hook about this bare JID, at level debug; none: off.
 */
void hook_trace_set(struct iris_str bare);

/* --- documents made from the tables of all known modules --- */
void config_write_manual(FILE *out, const struct iris_module *const *modules); /* iris.conf(5) */
void config_write_sample(FILE *out, const struct iris_module *const *modules); /* YAML, commented */
void modules_write_doap(FILE *out, const struct iris_module *const *modules);  /* RDF/XML */

/* --- between the files of the runtime --- */

/* The section `modules`. */
enum { MODULES_LOAD, MODULES_SKIP, MODULES_PATH };
extern const struct iris_option modules_options[];
extern struct iris_metric command_metrics[];
extern const struct iris_module iris_module_modules;

/* An ordered set: each module after those that it needs. Immutable once published. */
struct module_set {
	size_t count;
	const struct iris_module *modules[MODULES_MAX];
	uint32_t orders[MODULES_MAX]; /* rising; kept as long as the module is loaded */
};

/* What was decided: the modules in order, where they came from, what is configured for them. */
struct module_choice {
	struct module_set set;
	void *handles[MODULES_MAX];                 /* of shared objects, else NULL */
	struct iris_settings *settings[MODULES_MAX];
};

/* A table that is made from the set: hooks, IQ handlers, stream elements, commands, features. */
struct module_table {
	const char *what;
	/* NULL: a conflict */
	void *(*build)(const struct module_set *set, struct iris_error *error);
	void *(*swap)(void *table); /* publishes; returns the one before, or NULL */
	void (*free)(void *table);  /* accepts NULL */
};
extern const struct module_table hook_table, iq_table, element_table, command_set, feature_table,
	web_table, user_rows_table;

/* Returns when every worker has finished the turn it was in: what was swapped out can be freed. */
void module_grace(void);
/* Is the descriptor one that this server understands? */
IRIS_MUST_CHECK bool module_check(const struct iris_module *module, struct iris_error *error);
/* Chooses from `linked` and the section `modules`, checks all that is written; false: reported. */
IRIS_MUST_CHECK bool module_choose(const struct iris_module *const *linked,
				   struct iris_config *config, struct module_choice *choice,
				   struct iris_report *report);
/* Beyond the table: the module's own check. */
void module_check_settings(const struct iris_module *module, const struct iris_settings *settings,
			   struct iris_report *report);
/* The settings of one module, with its own check. */
struct iris_settings *module_settings(struct iris_config *config, const struct iris_module *module,
				      struct iris_report *report);
/* Sections of modules that are not in the set are checked too; those of nobody are errors. */
void module_check_others(const struct iris_module *const *linked, const struct module_set *set,
			 struct iris_config *config, struct iris_report *report);
const struct iris_module *module_set_find(const struct module_set *set, struct iris_str name);
const struct iris_module *module_linked_find(const struct iris_module *const *linked,
					     struct iris_str name);
/* Opens NAME.so in the folders of the section `modules`; NULL: the error says why. */
const struct iris_module *module_open(struct iris_str name, const struct iris_settings *section,
				      void **handle_r, struct iris_error *error);

#endif
