/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module runtime: starts what was chosen, in order, publishes the tables that workers read,
 * loads, unloads and reloads while the server runs.  Main thread; what workers call is at the end.
 *
 * Registering is making all tables anew from the set of modules, and swapping pointers; so a
 * module is unregistered by making them without it.  What workers hold beyond a turn of their loop
 * are calls into a module only: those are counted per worker and module, and unloading waits.
 */
#include <dlfcn.h>
#include <libgen.h>
#include <stdlib.h>

#include "iris/log.h"
#include "module_private.h"
#include "region_role.h"
#include "vault_private.h"
#include "worker_private.h"

/* One loaded module; main thread. */
struct loaded {
	const struct iris_module *module;
	void *handle;			/* of a shared object */
	struct iris_settings *settings; /* in runtime.config */
	uint32_t order;
	bool started;
};

static const struct module_table *const tables[] = {
	&hook_table, &iq_table, &element_table, &command_set, &feature_table, &web_table,
	&user_rows_table,
};

/* Tables that are made, but not yet published. */
struct edition {
	struct module_set *set;
	void *tables[IRIS_COUNT(tables)];
};

static struct {
	const struct iris_module *const *linked;
	struct iris_config *config;
	struct iris_config
		*retired; /* the one before: who waits on a fiber may still hold a string of it */
	char *path;	  /* of the main file, absolute */
	struct loaded loaded[MODULES_MAX];
	size_t count;
	struct loaded leaving; /* unregistered, and fibers may still be inside; module NULL: none */
	unsigned next_index;
	uint32_t next_order;
	bool published;
} runtime;

static _Atomic(struct module_set *) published;
static _Atomic unsigned slot_count;
/* Fibers inside a module, by worker (the main one first); each is written by its worker only. */
static _Atomic uint32_t inside[WORKER_LIMIT + 1][MODULES_MAX];

/* --- publishing --- */

static void
nothing(void *arg)
{
}

void
module_grace(void)
{
	if (worker_self() != NULL) /* before the workers are there, nobody reads */
		workers_each(nothing, NULL);
}

static const struct iris_stream_role *
role_find(const struct iris_module *module, struct iris_str name)
{
	for (const struct iris_stream_role *const *role = module->roles; role && *role; role++)
		if (str_is(name, (*role)->name))
			return *role;
	return NULL;
}

static const struct iris_protocol *
module_protocol(const struct iris_module *module, struct iris_str name)
{
	const struct iris_protocol *const *protocol = module->protocols;

	for (; protocol && *protocol; protocol++)
		if (str_is(name, (*protocol)->name))
			return *protocol;
	return NULL;
}

/* The same thing from two modules: which one would be asked? */
static bool
check_pair(const struct iris_module *a, const struct iris_module *b, struct iris_error *error)
{
	if (a->accounts && b->accounts)
		return error_set(error, "the modules %s and %s both keep accounts", a->name,
				 b->name);
	for (const struct iris_stream_role *const *role = b->roles; role && *role; role++)
		if (role_find(a, str_from((*role)->name)))
			return error_set(error,
					 "the modules %s and %s both have the stream role \"%s\"",
					 a->name, b->name, (*role)->name);
	return true;
}

static bool
check_providers(const struct module_set *set, struct iris_error *error)
{
	for (size_t i = 0; i < set->count; i++)
		for (size_t j = 0; j < i; j++)
			if (!check_pair(set->modules[j], set->modules[i], error))
				return false;
	return true;
}

static void
edition_drop(struct edition *edition)
{
	for (size_t i = 0; i < IRIS_COUNT(tables); i++)
		tables[i]->free(edition->tables[i]);
	free(edition->set);
	*edition = (struct edition){ .set = NULL };
}

/* Tables of all that are loaded, and one more or NULL; false: a conflict. */
static bool
edition_make(struct edition *edition, const struct loaded *more, struct iris_error *error)
{
	struct module_set *set = iris_calloc(1, sizeof(*set));

	*edition = (struct edition){ .set = set };
	for (size_t i = 0; i < runtime.count + (more ? 1 : 0); i++) {
		const struct loaded *loaded = i < runtime.count ? &runtime.loaded[i] : more;
		set->modules[i] = loaded->module;
		set->orders[i] = loaded->order;
		set->count++;
	}
	bool ok = check_providers(set, error);
	for (size_t i = 0; ok && i < IRIS_COUNT(tables); i++) {
		edition->tables[i] = tables[i]->build(set, error);
		ok = edition->tables[i] != NULL;
	}
	if (!ok)
		edition_drop(edition);
	return ok;
}

/* Publishes it, and frees the one before when no worker can see it any more. */
static void
edition_publish(struct edition *edition)
{
	struct edition before;

	for (size_t i = 0; i < IRIS_COUNT(tables); i++)
		before.tables[i] = tables[i]->swap(edition->tables[i]);
	before.set = atomic_exchange(&published, edition->set);
	module_grace();
	edition_drop(&before);
}

static void
publish_rest(void) /* after something was taken away: that makes no conflicts */
{
	struct edition edition = { .set = NULL };
	struct iris_error error;

	if (runtime.count > 0)
		IRIS_ASSERT(edition_make(&edition, NULL, &error));
	edition_publish(&edition);
}

/* --- one module --- */

static size_t
metrics_count(const struct iris_module *module)
{
	size_t count = 0;

	while (module->metrics && module->metrics[count].name)
		count++;
	return count;
}

static struct loaded
loaded_make(const struct iris_module *module, void *handle, struct iris_settings *settings)
{
	const struct loaded loaded = {
		.module = module,
		.handle = handle,
		.settings = settings,
		.order = runtime.next_order++,
	};

	if (module->self) {
		IRIS_ASSERT(runtime.next_index < MODULES_MAX);
		module->self->index = runtime.next_index++;
		atomic_store(&slot_count, runtime.next_index);
		atomic_store(&module->self->settings, settings);
	}
	return loaded;
}

static bool
loaded_start(struct loaded *loaded, struct iris_error *error)
{
	const struct iris_module *module = loaded->module;
	struct iris_error reason = { .message = "" };

	metrics_register(module->metrics, metrics_count(module));
	if ((module->queries == NULL || vault_queries_register(module, &reason)) &&
	    (module->start == NULL || module->start(&reason))) {
		loaded->started = true;
		return true;
	}
	if (module->queries)
		vault_queries_unregister(module);
	metrics_unregister(module->metrics, metrics_count(module));
	error_set(error, "the module %s did not start: %s", module->name, reason.message);
	error_detail(error, "%s", reason.detail);
	return error_hint(error, "%s", reason.hint);
}

/* It is in no table any more. Afterwards the memory of a shared object is gone. */
static void
loaded_stop(struct loaded *loaded)
{
	const struct iris_module *module = loaded->module;

	if (loaded->started) {
		if (module->stop)
			module->stop();
		if (module->queries)
			vault_queries_unregister(module);
		metrics_unregister(module->metrics, metrics_count(module));
	}
	if (module->self)
		atomic_store(&module->self->settings, NULL);
	if (loaded->handle) {
		settings_forget(runtime.config, module->options);
		if (runtime.retired)
			settings_forget(runtime.retired, module->options);
		dlclose(loaded->handle);
	}
	*loaded = (struct loaded){ .module = NULL };
}

static struct loaded *
loaded_find(struct iris_str name)
{
	for (size_t i = 0; i < runtime.count; i++)
		if (str_is(name, runtime.loaded[i].module->name))
			return &runtime.loaded[i];
	return NULL;
}

static uint32_t
count_inside(const struct iris_module *module)
{
	uint32_t count = 0;

	for (size_t i = 0; module->self && i < IRIS_COUNT(inside); i++)
		count +=
			atomic_load_explicit(&inside[i][module->self->index], memory_order_acquire);
	return count;
}

/* --- start and stop --- */

/* Where the file is, whatever becomes of the working directory. */
static char *
absolute_name(const struct config_file *file)
{
	char *copy = str_dup(str_from(file->name)), *name = basename(copy);
	const size_t size = strlen(file->dir) + strlen(name) + 2;
	char *path = iris_malloc(size);

	snprintf(path, size, "%s/%s", file->dir, name);
	free(copy);
	return path;
}

bool
modules_select(const struct iris_module *const *linked, struct iris_config **config_p,
	       struct iris_report *report)
{
	struct module_choice *choice = iris_malloc(sizeof(*choice));
	const bool ok = module_choose(linked, *config_p, choice, report);

	IRIS_ASSERT(runtime.count == 0 && runtime.config == NULL);
	if (ok) {
		runtime.linked = linked;
		runtime.config = *config_p;
		runtime.path = absolute_name(runtime.config->files[0]);
		*config_p = NULL;
		for (size_t i = 0; i < choice->set.count; i++)
			runtime.loaded[runtime.count++] = loaded_make(
				choice->set.modules[i], choice->handles[i], choice->settings[i]);
	}
	free(choice);
	return ok;
}

bool
modules_publish(struct iris_error *error)
{
	struct edition edition;

	if (!runtime.published) {
		if (!edition_make(&edition, NULL, error))
			return false;
		edition_publish(&edition);
		runtime.published = true;
	}
	return true;
}

bool
modules_start(struct iris_error *error)
{
	if (!modules_publish(error))
		return false;
	for (size_t i = 0; i < runtime.count; i++) {
		if (!loaded_start(&runtime.loaded[i], error))
			return false;
		LOG(IRIS_LOG_DEBUG, "module", "started",
		    LOG_CSTR("name", runtime.loaded[i].module->name));
	}
	return true;
}

void
modules_stop(void)
{
	if (runtime.leaving.module)
		loaded_stop(&runtime.leaving);
	while (runtime.count > 0) {
		struct loaded last = runtime.loaded[--runtime.count];
		if (runtime.published)
			publish_rest();
		loaded_stop(&last);
	}
	runtime.published = false;
	config_free(&runtime.retired);
	config_free(&runtime.config);
	free(runtime.path);
	runtime.path = NULL;
	runtime.linked = NULL;
	hook_trace_set(IRIS_STR_NONE);
}

/* --- reload --- */

/* What cannot change while the server runs keeps its value. */
static void
keep_fixed(struct iris_config *config, const struct loaded *loaded, struct iris_settings *settings,
	   struct iris_report *report)
{
	const struct iris_option *options = loaded->module->options;

	for (unsigned i = 0; options && options[i].name; i++) {
		if (options[i].reloadable || settings_equal(settings, loaded->settings, i))
			continue;
		report_restart(report,
			       "%.*s: %s.%s has changed: it needs a restart, until then "
			       "it keeps its value",
			       IRIS_STR_FMT(settings_where(settings, i)), loaded->module->name,
			       options[i].name);
		settings_keep(config, settings, loaded->settings, i);
	}
}

/* The settings of all loaded modules from a new configuration; changes nothing. */
static void
reload_check(struct iris_config *config, struct iris_settings **settings,
	     struct iris_report *report)
{
	struct module_set *set = iris_calloc(1, sizeof(*set));

	for (size_t i = 0; i < runtime.count; i++) {
		const struct iris_module *module = runtime.loaded[i].module;
		const size_t before = report->error_count;

		set->modules[set->count++] = module;
		settings[i] = settings_make(config, module->name, module->options, report);
		if (report->error_count > before)
			continue;
		keep_fixed(config, &runtime.loaded[i], settings[i], report);
		module_check_settings(module, settings[i], report);
	}
	module_check_others(runtime.linked, set, config, report);
	free(set);
}

static void
reload_swap(struct iris_config *config, struct iris_settings *const *settings)
{
	for (size_t i = 0; i < runtime.count; i++) {
		struct loaded *loaded = &runtime.loaded[i];
		loaded->settings = settings[i];
		if (loaded->module->self)
			atomic_store(&loaded->module->self->settings, settings[i]);
	}
	module_grace();
	for (size_t i = 0; i < runtime.count; i++)
		if (runtime.loaded[i].module->reload)
			runtime.loaded[i].module->reload();
	config_free(&runtime.retired);
	runtime.retired = runtime.config;
	runtime.config = config;
}

bool
modules_reload(struct iris_report *report)
{
	struct iris_settings **settings;
	struct iris_config *config;

	IRIS_ASSERT(runtime.config != NULL);
	config = config_load(runtime.path, report);
	if (config == NULL)
		return false;
	settings = iris_calloc(runtime.count, sizeof(struct iris_settings *));
	reload_check(config, settings, report);
	if (report->error_count == 0)
		reload_swap(config, settings);
	else
		config_free(&config);
	free(settings);
	return report->error_count == 0;
}

/* --- load and unload while the server runs --- */

static bool
check_loadable(const struct iris_module *module, struct iris_error *error)
{
	if (runtime.count == MODULES_MAX || runtime.next_index == MODULES_MAX) {
		error_set(error, "%d modules have been loaded since the start", MODULES_MAX);
		return error_hint(error, "restart the server");
	}
	if (module->not_unloadable) {
		error_set(error, "the module %s cannot be loaded while the server runs",
			  module->name);
		return error_hint(error, "name it in modules.load and restart the server");
	}
	if (region_role_refuses(module)) {
		error_set(error, "the module %s cannot be loaded", module->name);
		return error_detail(error, "%s", region_role_refuses(module));
	}
	for (const char *const *need = module->needs; need && *need; need++)
		if (!loaded_find(str_from(*need)))
			return error_set(error, "the module %s needs %s, which is not loaded",
					 module->name, *need);
	return true;
}

static bool
load(const struct iris_module *module, void *handle, struct iris_error *error)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_settings *settings;
	struct edition edition;
	bool ok;

	if (!check_loadable(module, error))
		return false;
	settings = module_settings(runtime.config, module, &report);
	ok = report.error_count == 0 || report_to_error(&report, error);
	report_clear(&report);
	if (!ok)
		return false;
	struct loaded loaded = loaded_make(module, handle, settings);
	ok = edition_make(&edition, &loaded, error);
	if (ok && !loaded_start(&loaded, error)) { /* started before anybody can find it */
		edition_drop(&edition);
		ok = false;
	}
	if (ok) {
		runtime.loaded[runtime.count++] = loaded;
		edition_publish(&edition);
	} else if (module->self)
		atomic_store(&module->self->settings, NULL);
	return ok;
}

bool
module_load(struct iris_str name, struct iris_error *error)
{
	const struct iris_module *module;
	const struct loaded *modules = loaded_find(IRIS_STR("modules"));
	void *handle = NULL;

	if (loaded_find(name))
		return error_set(error, "the module %.*s is loaded already", IRIS_STR_FMT(name));
	if (!module_unload_finish())
		return error_set(error, "the module %s is still being unloaded",
				 runtime.leaving.module->name);
	module = module_linked_find(runtime.linked, name);
	if (module == NULL && modules)
		module = module_open(name, modules->settings, &handle, error);
	else if (module == NULL)
		return error_set(error, "there is no module \"%.*s\"", IRIS_STR_FMT(name));
	if (module == NULL || !(handle || module_check(module, error)))
		return false;
	if (load(module, handle, error))
		return true;
	if (handle) {
		settings_forget(runtime.config, module->options);
		dlclose(handle);
	}
	return false;
}

bool
module_unload_begin(struct iris_str name, struct iris_error *error)
{
	struct loaded *loaded = loaded_find(name);

	if (loaded == NULL)
		return error_set(error, "the module %.*s is not loaded", IRIS_STR_FMT(name));
	if (loaded->module->not_unloadable || loaded->module->self == NULL)
		return error_set(error, "the module %s cannot be unloaded while the server runs",
				 loaded->module->name);
	if (!module_unload_finish()) /* of the one before, which took its time */
		return error_set(error, "the module %s is still being unloaded",
				 runtime.leaving.module->name);
	for (size_t i = 0; i < runtime.count; i++)
		for (const char *const *need = runtime.loaded[i].module->needs; need && *need;
		     need++)
			if (str_is(name, *need))
				return error_set(error, "the module %s needs %s",
						 runtime.loaded[i].module->name, *need);
	runtime.leaving = *loaded;
	runtime.count--;
	memmove(loaded, loaded + 1,
		(size_t)(&runtime.loaded[runtime.count] - loaded) * sizeof(*loaded));
	publish_rest();
	return true;
}

bool
module_unload_finish(void)
{
	if (runtime.leaving.module == NULL)
		return true;
	module_grace(); /* so that the counts of all workers are seen */
	if (count_inside(runtime.leaving.module) > 0)
		return false;
	loaded_stop(&runtime.leaving);
	return true;
}

/* --- any worker --- */

_Atomic uint32_t *
module_inside(void)
{
	return inside[(worker_self() ? worker_index() : WORKER_MAIN) + 1];
}

void
module_enter(const struct iris_module *module)
{
	module_enter_from(module_inside(), module);
}

void
module_leave(const struct iris_module *module)
{
	module_leave_from(module_inside(), module);
}

static const struct module_set *
loaded_set(void)
{
	static const struct module_set empty;
	const struct module_set *set = atomic_load_explicit(&published, memory_order_acquire);
	return set ? set : &empty;
}

void
module_each(bool (*fn)(const struct iris_module *module, void *arg), void *arg)
{
	const struct module_set *set = loaded_set();

	for (size_t i = 0; i < set->count; i++)
		if (!fn(set->modules[i], arg))
			return;
}

const struct iris_module *
module_find(struct iris_str name)
{
	return module_set_find(loaded_set(), name);
}

bool
module_is_loaded(const char *name)
{
	return module_find(str_from(name)) != NULL;
}

unsigned
module_slot_count(void)
{
	return atomic_load(&slot_count);
}

const struct iris_stream_role *
stream_role_find(struct iris_str name)
{
	const struct module_set *set = loaded_set();
	const struct iris_stream_role *role = NULL;

	for (size_t i = 0; i < set->count && role == NULL; i++)
		role = role_find(set->modules[i], name);
	return role;
}

const struct iris_protocol *
protocol_find(struct iris_str name)
{
	const struct module_set *set = loaded_set();
	const struct iris_protocol *protocol = NULL;

	for (size_t i = 0; i < set->count && protocol == NULL; i++)
		protocol = module_protocol(set->modules[i], name);
	return protocol;
}

static const struct module_set *considered;

void
module_consider(const struct module_set *set)
{
	considered = set;
}

bool
module_offers(struct iris_str name)
{
	const struct module_set *set = considered ? considered : loaded_set();

	for (size_t i = 0; i < set->count; i++)
		if (role_find(set->modules[i], name) || module_protocol(set->modules[i], name))
			return true;
	return false;
}

size_t
protocols_close(bool now)
{
	const struct module_set *set = loaded_set();
	size_t left = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct iris_protocol *const *protocol = set->modules[i]->protocols;

		for (; protocol && *protocol; protocol++)
			left += (*protocol)->close ? (*protocol)->close(now) : 0;
	}
	return left;
}

const struct iris_vault_engine *
module_engine(struct iris_str name)
{
	const struct iris_module *module = module_find(name);
	return module ? module->engine : NULL;
}

const struct iris_accounts *
accounts(void)
{
	const struct module_set *set = loaded_set();
	size_t i = 0;

	while (i < set->count && set->modules[i]->accounts == NULL)
		i++;
	IRIS_ASSERT(i < set->count); /* a module that keeps accounts is loaded */
	return set->modules[i]->accounts;
}
