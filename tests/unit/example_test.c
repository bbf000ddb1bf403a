/* SPDX-License-Identifier: Apache-2.0 */
/* Builds modules/example as somebody else would, loads it, uses it, unloads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "module_private.h"
#include "scratch.h"
#include "worker_common.h"

static const struct iris_module *const linked[] = { &iris_module_modules, NULL };
static struct iris_report report;
static struct iris_error error;

static const char *
source_folder(void)
{
	const char *folder = getenv("IRIS_SRCDIR");
	return folder ? folder : IRIS_SRCDIR;
}

/* Runs make on the example's Makefile, with up to two more variables (NULL: none). */
static void
build(const char *variable1, const char *variable2)
{
	char makefile[600], include[600], out[600];
	const char *const arguments[] = { "make", "-s",	     "-f",	makefile, include,
					  out,	  variable1, variable2, NULL };
	int status;
	pid_t pid;

	snprintf(makefile, sizeof(makefile), "%s/modules/example/Makefile", source_folder());
	snprintf(include, sizeof(include), "INCLUDE=%s/server", source_folder());
	snprintf(out, sizeof(out), "OUT=%s", scratch_path("example.so"));
	(void)remove(scratch_path("example.so"));
	assert_int_equal(posix_spawnp(&pid, "make", NULL, NULL, (char *const *)arguments, environ),
			 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool
select_(const char *sections)
{
	char yaml[1024];
	struct iris_config *config;
	bool ok;

	report_clear(&report);
	snprintf(yaml, sizeof(yaml), "modules: {load: [example], path: [%s]}\n%s", scratch_folder,
		 sections);
	scratch_write("iris.yaml", yaml);
	config = config_load(scratch_path("iris.yaml"), &report);
	assert_non_null(config);
	ok = modules_select(linked, &config, &report);
	config_free(&config);
	return ok;
}

static void
greet(const char *expected)
{
	const struct iris_module *module;
	struct iris_arena *arena = arena_new();
	struct iris_request request = {
		.arena = arena,
		.payload = element_new(arena, "greet", "urn:example:greet"),
	};
	const struct iris_iq *iq = iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("greet"),
					   IRIS_STR("urn:example:greet"), &module);

	assert_non_null(iq);
	element_set(request.payload, "name", IRIS_STR("Juliet"));
	assert_int_equal(iq_run(iq, module, &request), IRIS_DONE);
	assert_true(str_is(element_get_text(request.reply), expected));
	arena_unref(&arena);
}

static void
built_loaded_used_unloaded(void **state)
{
	build(NULL, NULL);
	if (!select_("example: {greeting: Good morrow}\n"))
		fail_msg("%s", report.errors[0]);
	assert_true(modules_start(&error));
	greet("Good morrow, Juliet");
	assert_non_null(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("greeting"), IRIS_STR("show")));

	scratch_write("iris.yaml", "example: {greeting: Farewell}\n");
	assert_true(modules_reload(&report)); /* its `path` has changed, and waits for a restart */
	assert_int_equal(report.restart_count, 2);
	greet("Farewell, Juliet");

	assert_true(module_unload_begin(IRIS_STR("example"), &error));
	assert_true(module_unload_finish());
	assert_null(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("greeting"), IRIS_STR("show")));
	assert_true(module_load(IRIS_STR("example"), &error));
	greet("Farewell, Juliet");
	modules_stop();
}

static void
sections_are_checked(void **state)
{
	assert_false(select_("example: {greetin: Good morrow}\n"));
	assert_non_null(
		strstr(report.errors[0],
		       "example: there is no option \"greetin\", did you mean \"greeting\"?"));
}

static void
assert_refused(const char *reason)
{
	assert_false(select_(""));
	if (strstr(report.errors[0], reason) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", report.errors[0], reason);
}

static void
strangers_are_refused(void **state)
{
	char source[600], flags[600];

	build("CFLAGS=-Diris_module_example=iris_module_other", NULL);
	assert_refused("there is no symbol iris_module_example in it");
	/* As if the headers had been others. */
	scratch_write(
		"old.c",
		"#include <iris/module.h>\n#undef IRIS_MODULE_ABI\n#define IRIS_MODULE_ABI 77u\n"
		"#include \"example.c\"\n");
	snprintf(source, sizeof(source), "SOURCE=%s", scratch_path("old.c"));
	snprintf(flags, sizeof(flags), "CFLAGS=-I%s/modules/example", source_folder());
	build(source, flags);
	assert_refused("wrong ABI: the module has 77, this server 1");
	assert_int_equal(chmod(scratch_path("example.so"), 0666), 0);
	assert_refused("can be written by everybody");
	scratch_write("example.so", "no object\n");
	assert_int_equal(chmod(scratch_path("example.so"), 0600), 0);
	assert_refused("cannot be opened");
	assert_int_equal(remove(scratch_path("example.so")), 0);
	assert_refused("there is no module \"example\"");
	report_clear(&report);
}

static int
setup_group(void **state)
{
	return setup_workers(1) || scratch_setup(state);
}

static int
teardown_group(void **state)
{
	return scratch_teardown(state) || teardown_workers(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(built_loaded_used_unloaded),
		cmocka_unit_test(sections_are_checked),
		cmocka_unit_test(strangers_are_refused),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
