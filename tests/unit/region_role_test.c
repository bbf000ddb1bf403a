/* SPDX-License-Identifier: Apache-2.0 */
/* What a region's class forbids. What follows for a whole server: tests/federation/role_cases.py */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "iris/dial.h"
#include "iris/module.h"
#include "region_role.h"

extern const struct iris_module iris_module_federation, iris_module_xep0220, iris_module_xep0288,
	iris_module_resolver, iris_module_sqlite, iris_module_files, iris_module_accounts,
	iris_module_vault, iris_module_web, iris_module_listen, iris_module_regions;

static void
isolated_refuses_what_goes_out(void **state)
{
	const struct iris_module *const refused[] = { &iris_module_federation, &iris_module_xep0220,
						      &iris_module_xep0288, &iris_module_resolver };
	const struct iris_module *const taken[] = { &iris_module_sqlite, &iris_module_files,
						    &iris_module_web, &iris_module_regions };

	region_role_set(REGION_ISOLATED);
	assert_true(region_is_isolated());
	assert_false(region_is_edge());
	for (size_t i = 0; i < IRIS_COUNT(refused); i++)
		assert_non_null(region_role_refuses(refused[i]));
	for (size_t i = 0; i < IRIS_COUNT(taken); i++)
		assert_null(region_role_refuses(taken[i]));
}

static void
isolated_dials_nobody(void **state)
{
	const char *why = NULL;

	region_role_set(REGION_ISOLATED);
	assert_null(stream_dial(&(struct iris_dial){ .port = 5269 }, &why));
	assert_string_equal(why, "the region is isolated");
}

static void
edge_takes_what_keeps_nothing(void **state)
{
	const struct iris_module *const refused[] = { &iris_module_sqlite, &iris_module_files,
						      &iris_module_accounts, &iris_module_vault,
						      &iris_module_federation };
	const struct iris_module *const taken[] = { &iris_module_web, &iris_module_listen,
						    &iris_module_regions };

	region_role_set(REGION_EDGE);
	assert_true(region_is_edge());
	for (size_t i = 0; i < IRIS_COUNT(refused); i++)
		assert_non_null(region_role_refuses(refused[i]));
	for (size_t i = 0; i < IRIS_COUNT(taken); i++)
		assert_null(region_role_refuses(taken[i]));
}

/* A new map isolates a server at once; what it opens waits for a restart. */
static void
a_new_map_only_closes(void **state)
{
	region_role_set(REGION_FEDERATED);
	region_role_follow(REGION_EDGE);
	assert_false(region_is_edge());
	region_role_follow(REGION_ISOLATED);
	assert_true(region_is_isolated());
	region_role_follow(REGION_FEDERATED);
	assert_true(region_is_isolated());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(isolated_refuses_what_goes_out),
		cmocka_unit_test(isolated_dials_nobody),
		cmocka_unit_test(edge_takes_what_keeps_nothing),
		cmocka_unit_test(a_new_map_only_closes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
