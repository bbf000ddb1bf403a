/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every statement that any module declares is taken by the engine, on the schema that the
 * migrations make.
 */
#include "iris/module.h"
#include "module_private.h"
#include "vault_fixture.h"

static void
test_every_declared_query(void **state)
{
	struct vault_fixture fixture;
	struct iris_error error;

	fixture_make(&fixture);
	fixture_open(&fixture);
	for (const struct iris_module *const *module = modules_linked; *module; module++) {
		if (vault_queries_register(*module, &error))
			continue;
		fprintf(stderr, "%s: %s\n%s\n", (*module)->name, error.message, error.detail);
		CHECK(false);
	}
	for (const struct iris_module *const *module = modules_linked; *module; module++)
		vault_queries_unregister(*module);
	fixture_close();
	fixture_remove(&fixture);
	fixture_assert();
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_declared_query) };

	worker_main_init();
	int failed = cmocka_run_group_tests_name("vault_queries", tests, NULL, NULL);
	worker_main_free();
	return failed;
}
