/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which modules are loaded, from where, and in which order; and whether all that the
 * configuration says is said to somebody.  Main thread.  Starts nothing.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "module_private.h"
#include "region_role.h"

#define NAME_MAX_BYTES 40

/* --- descriptors --- */

static bool
is_module_name(struct iris_str name)
{
	for (size_t i = 0; i < name.len; i++) {
		const char c = name.base[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i > 0)))
			return false;
	}
	return name.len > 0 && name.len <= NAME_MAX_BYTES;
}

bool
module_check(const struct iris_module *module, struct iris_error *error)
{
	/* Nothing behind `abi` may be looked at before these hold. */
	if (module->magic != IRIS_MODULE_MAGIC)
		return error_set(error, "wrong magic 0x%08x: this is no module of Iris",
				 module->magic);
	if (module->abi != IRIS_MODULE_ABI) {
		error_set(error, "wrong ABI: the module has %u, this server %u", module->abi,
			  IRIS_MODULE_ABI);
		return error_hint(error, "build it again against the headers of this server");
	}
	if (module->size != sizeof(*module)) {
		error_set(error, "wrong size: the descriptor has %zu bytes, this server's %zu",
			  module->size, sizeof(*module));
		return error_hint(error, "build it again against the headers of this server");
	}
	if (!module->name || !is_module_name(str_from(module->name)) || !module->summary)
		return error_set(error, "the descriptor has no proper name and summary");
	if (module->options && !module->self)
		return error_set(error, "the descriptor has options, but no self to keep them");
	return true;
}

const struct iris_module *
module_set_find(const struct module_set *set, struct iris_str name)
{
	for (size_t i = 0; i < set->count; i++)
		if (str_is(name, set->modules[i]->name))
			return set->modules[i];
	return NULL;
}

const struct iris_module *
module_linked_find(const struct iris_module *const *linked, struct iris_str name)
{
	for (; *linked; linked++)
		if (str_is(name, (*linked)->name))
			return *linked;
	return NULL;
}

/* --- shared objects --- */

/* SECURITY: whoever can write the file runs code in the server. */
static bool
check_file(const char *path, struct iris_error *error)
{
	struct stat status;

	if (stat(path, &status) != 0 || !S_ISREG(status.st_mode))
		return error_set(error, "%s is not a regular file", path);
	if (status.st_mode & S_IWOTH)
		return error_set(error, "%s can be written by everybody", path);
	return true;
}

static const struct iris_module *
open_file(const char *path, struct iris_str name, void **handle_r, struct iris_error *error)
{
	char symbol[NAME_MAX_BYTES + 16];
	const struct iris_module *module = NULL;
	void *handle;

	if (!check_file(path, error))
		return NULL;
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		error_set(error, "%s cannot be opened", path);
		error_detail(error, "%s", dlerror());
		return NULL;
	}
	snprintf(symbol, sizeof(symbol), "iris_module_%.*s", IRIS_STR_FMT(name));
	for (char *c = symbol; *c; c++)
		*c = *c == '-' ? '_' : *c;
	module = dlsym(handle, symbol);
	if (module == NULL)
		error_set(error, "%s: there is no symbol %s in it", path, symbol);
	else if (!module_check(module, error))
		error_detail(error, "%s", path);
	else if (!str_is(name, module->name))
		error_set(error, "%s: the module in it is called \"%s\"", path, module->name);
	else {
		*handle_r = handle;
		return module;
	}
	dlclose(handle);
	return NULL;
}

/* The path of NAME.so when a folder of the section has it. */
static bool
find_file(struct iris_str name, const struct iris_settings *section, char *path, size_t size)
{
	struct stat status;

	if (!is_module_name(name)) /* SECURITY: no "../" */
		return false;
	for (size_t i = 0; i < settings_count(section, MODULES_PATH); i++) {
		struct iris_str folder = settings_item(section, MODULES_PATH, i);
		const int len = snprintf(path, size, "%.*s/%.*s.so", IRIS_STR_FMT(folder),
					 IRIS_STR_FMT(name));
		if (len > 0 && (size_t)len < size && stat(path, &status) == 0)
			return true;
	}
	return false;
}

const struct iris_module *
module_open(struct iris_str name, const struct iris_settings *section, void **handle_r,
	    struct iris_error *error)
{
	char path[1024];

	*handle_r = NULL;
	if (find_file(name, section, path, sizeof(path)))
		return open_file(path, name, handle_r, error);
	error_set(error, "there is no module \"%.*s\"", IRIS_STR_FMT(name));
	return NULL;
}

/* --- order --- */

/* Core modules keep no list of who uses the vault: a module with statements needs it. */
static bool
needs(const struct iris_module *module, const char *name)
{
	for (const char *const *need = module->needs; need && *need; need++)
		if (strcmp(*need, name) == 0)
			return true;
	return module->queries && strcmp(name, "vault") == 0 && strcmp(module->name, "vault") != 0;
}

static void
check_needs(const struct module_set *set, const struct iris_module *const *linked,
	    struct iris_report *report)
{
	for (size_t i = 0; i < set->count; i++)
		for (const char *const *need = set->modules[i]->needs; need && *need; need++)
			if (!module_set_find(set, str_from(*need)))
				report_error(report, "modules: %s needs %s, which is not %s",
					     set->modules[i]->name, *need,
					     module_linked_find(linked, str_from(*need)) ? "loaded"
											 : "there");
}

/* Follows the needs inside what could not be ordered: after `count` steps one is in a cycle. */
static void
report_cycle(const struct module_set *rest, struct iris_report *report)
{
	const struct iris_module *at = rest->modules[0], *first;
	char text[512];
	size_t len = 0, steps = 0;

	for (size_t step = 0; step < rest->count; step++)
		for (size_t i = 0; i < rest->count; i++)
			if (needs(at, rest->modules[i]->name)) {
				at = rest->modules[i];
				break;
			}
	first = at;
	do {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s → ", at->name);
		for (size_t i = 0; i < rest->count; i++)
			if (needs(at, rest->modules[i]->name)) {
				at = rest->modules[i];
				break;
			}
	} while (at != first && ++steps < rest->count && len < sizeof(text) - 2 * NAME_MAX_BYTES);
	report_error(report, "modules: they need each other in a circle: %s%s", text, first->name);
}

static bool
is_ready(const struct module_set *rest, const struct iris_module *module)
{
	for (size_t i = 0; i < rest->count; i++)
		if (needs(module, rest->modules[i]->name))
			return false;
	return true;
}

/* Each after those that it needs; otherwise the order stays. */
static bool
sort_set(struct module_set *set, struct iris_report *report)
{
	struct module_set rest = *set;

	set->count = 0;
	while (rest.count > 0) {
		size_t i = 0;
		while (i < rest.count && !is_ready(&rest, rest.modules[i]))
			i++;
		if (i == rest.count) {
			report_cycle(&rest, report);
			return false;
		}
		set->modules[set->count++] = rest.modules[i];
		rest.count--;
		memmove(&rest.modules[i], &rest.modules[i + 1],
			(rest.count - i) * sizeof(rest.modules[0]));
	}
	return true;
}

/* --- the choice --- */

static bool
is_listed(const struct iris_settings *section, unsigned option, struct iris_str name)
{
	for (size_t i = 0; i < settings_count(section, option); i++)
		if (str_equal(settings_item(section, option, i), name))
			return true;
	return false;
}

static void
report_unknown(const struct iris_module *const *linked, const char *where, struct iris_str name,
	       struct iris_report *report)
{
	struct option_guess guess = { .wanted = name };
	char hint[100];

	guess_offer(&guess, "modules");
	guess_offer(&guess, "include");
	for (; *linked; linked++)
		guess_offer(&guess, (*linked)->name);
	report_error(report, "%s: there is no module \"%.*s\"%s", where, IRIS_STR_FMT(name),
		     guess_text(&guess, hint, sizeof(hint)));
}

/* Is it one that may not run in a region of this class? Who asks for it by name is told. */
static bool
is_refused(const struct iris_module *module, const struct iris_settings *section,
	   struct iris_report *report)
{
	const char *why = region_role_refuses(module);

	if (why && is_listed(section, MODULES_LOAD, str_from(module->name)))
		report_error(report, "%s: modules.load: %s: %s",
			     settings_where(section, MODULES_LOAD).base, module->name, why);
	return why != NULL;
}

static void
choose_linked(const struct iris_module *const *linked, const struct iris_settings *section,
	      struct module_set *set, struct iris_report *report)
{
	for (; *linked; linked++) {
		struct iris_error error = { .message = "" };
		struct iris_str name = str_from((*linked)->name);

		if (!module_check(*linked, &error))
			report_error(report, "%s: %s", (*linked)->name, error.message);
		else if (set->count < MODULES_MAX && !is_listed(section, MODULES_SKIP, name) &&
			 (!(*linked)->off_by_default || is_listed(section, MODULES_LOAD, name)) &&
			 !is_refused(*linked, section, report))
			set->modules[set->count++] = *linked;
	}
}

/* What is asked for by name and not linked in. */
static void
choose_opened(const struct iris_module *const *linked, const struct iris_settings *section,
	      struct module_choice *choice, struct iris_report *report)
{
	const char *where = settings_where(section, MODULES_LOAD).base;

	for (size_t i = 0; i < settings_count(section, MODULES_LOAD); i++) {
		struct iris_str name = settings_item(section, MODULES_LOAD, i);
		struct iris_error error = { .message = "" };
		char path[1024];
		void *handle;

		if (is_listed(section, MODULES_SKIP, name))
			report_error(report, "%s: modules: \"%.*s\" is both in load and in skip",
				     where, IRIS_STR_FMT(name));
		if (module_linked_find(linked, name) || module_set_find(&choice->set, name))
			continue;
		if (!find_file(name, section, path, sizeof(path))) {
			report_unknown(linked, where, name, report);
			continue;
		}
		if (choice->set.count == MODULES_MAX)
			return;
		const struct iris_module *module = open_file(path, name, &handle, &error);
		if (module == NULL) {
			report_error(report, "%s: modules.load: %s%s%s", where, error.message,
				     *error.detail ? ": " : "", error.detail);
			continue;
		}
		(void)is_refused(module, section, report);
		choice->handles[choice->set.count] = handle;
		choice->set.modules[choice->set.count++] = module;
	}
}

static void
check_skipped(const struct iris_module *const *linked, const struct iris_settings *section,
	      struct iris_report *report)
{
	const char *where = settings_where(section, MODULES_SKIP).base;

	for (size_t i = 0; i < settings_count(section, MODULES_SKIP); i++) {
		struct iris_str name = settings_item(section, MODULES_SKIP, i);
		if (!module_linked_find(linked, name))
			report_unknown(linked, where, name, report);
		else if (str_is(name, "modules") || str_is(name, "regions"))
			report_error(report, "%s: modules.skip: \"%.*s\" cannot be skipped", where,
				     IRIS_STR_FMT(name));
	}
}

void
module_check_settings(const struct iris_module *module, const struct iris_settings *settings,
		      struct iris_report *report)
{
	struct iris_error error = { .message = "" };

	if (module->check && !module->check(settings, &error))
		report_error(report, "%s: %s%s%s%s%s", module->name, error.message,
			     *error.detail ? ": " : "", error.detail, *error.hint ? " – " : "",
			     error.hint);
}

struct iris_settings *
module_settings(struct iris_config *config, const struct iris_module *module,
		struct iris_report *report)
{
	const size_t before = report->error_count;
	struct iris_settings *settings =
		settings_make(config, module->name, module->options, report);

	if (report->error_count == before)
		module_check_settings(module, settings, report);
	return settings;
}

/* The section `modules`; what is wrong in it is reported when its module's turn comes. */
static const struct iris_settings *
section_of(struct iris_config *config)
{
	struct iris_report ignored = { .error_count = 0 };
	const struct iris_settings *section =
		settings_make(config, "modules", modules_options, &ignored);

	report_clear(&ignored);
	return section;
}

/* A shared object that is not loaded: looked at for its options only. */
static bool
check_closed(struct iris_config *config, struct iris_str name, struct iris_report *report)
{
	const struct iris_settings *section = section_of(config);
	struct iris_error error = { .message = "" };
	const struct iris_module *module;
	char path[1024];
	void *handle;

	if (!find_file(name, section, path, sizeof(path)))
		return false;
	module = open_file(path, name, &handle, &error);
	if (module == NULL) {
		report_error(report, "%s%s%s", error.message, *error.detail ? ": " : "",
			     error.detail);
		return true;
	}
	settings_make(config, module->name, module->options, report);
	settings_forget(config, module->options);
	dlclose(handle);
	return true;
}

void
module_check_others(const struct iris_module *const *linked, const struct module_set *set,
		    struct iris_config *config, struct iris_report *report)
{
	for (const struct config_node *section = config->root->first; section;
	     section = section->next) {
		const struct iris_module *module = module_linked_find(linked, section->key);
		char where[400];

		if (module_set_find(set, section->key) || str_is(section->key, "modules"))
			continue;
		snprintf(where, sizeof(where), "%s:%u", section->file->name, section->line);
		if (module && region_role_refuses(module))
			report_error(report, "%s: %s: %s", where, module->name,
				     region_role_refuses(module));
		else if (module)
			settings_make(config, module->name, module->options, report);
		else if (!check_closed(config, section->key, report))
			report_unknown(linked, where, section->key, report);
	}
}

/* The handles lie beside the set: they move with its order. */
static void
sort_handles(struct module_choice *choice, const struct module_choice *before)
{
	for (size_t i = 0; i < choice->set.count; i++)
		for (size_t j = 0; j < before->set.count; j++)
			if (choice->set.modules[i] == before->set.modules[j])
				choice->handles[i] = before->handles[j];
}

static bool
sort_choice(struct module_choice *choice, struct iris_report *report)
{
	struct module_choice *before = iris_malloc(sizeof(*before)); /* too large for a frame */
	bool sorted;

	memcpy(before, choice, sizeof(*before));
	sorted = sort_set(&choice->set, report);
	if (sorted)
		sort_handles(choice, before);
	else
		memcpy(choice, before, sizeof(*before)); /* complete, for closing */
	free(before);
	return sorted;
}

bool
module_choose(const struct iris_module *const *linked, struct iris_config *config,
	      struct module_choice *choice, struct iris_report *report)
{
	const struct iris_settings *section = section_of(config);

	memset(choice, 0, sizeof(*choice));
	regions_decide_role(config);
	choose_linked(linked, section, &choice->set, report);
	choose_opened(linked, section, choice, report);
	if (choice->set.count == MODULES_MAX)
		report_error(report, "modules: more than %d", MODULES_MAX - 1);
	check_skipped(linked, section, report);
	check_needs(&choice->set, linked, report);
	if (sort_choice(choice, report)) {
		module_consider(&choice->set);
		for (size_t i = 0; i < choice->set.count; i++)
			choice->settings[i] =
				module_settings(config, choice->set.modules[i], report);
		module_check_others(linked, &choice->set, config, report);
		module_consider(NULL);
	}
	if (report->error_count == 0)
		return true;
	for (size_t i = 0; i < choice->set.count; i++) {
		if (choice->handles[i] == NULL)
			continue;
		settings_forget(config, choice->set.modules[i]->options);
		dlclose(choice->handles[i]);
	}
	return false;
}
