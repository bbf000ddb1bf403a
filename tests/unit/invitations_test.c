/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0401: what the sweep takes out of the vault, on any engine (IRIS_TEST_ENGINE). */
#include "vault_fixture.h"

#include "module_private.h"
#include "xep/xep0401_invitations.h"

#define HOUR_MS INT64_C(3600000)

extern const struct iris_module iris_module_xep0401;

static struct vault_fixture fixture;

static struct iris_query list = {
	.name = "test.list", .table = "invitations",
	.sql = "SELECT token FROM invitations ORDER BY token",
	.params = { { NULL } },
	.columns = { { "token", IRIS_TEXT } },
};

static void
store_one(const char *token, int64_t expires_ms)
{
	const struct iris_value zero = value_int(0), owner = value_int(IRIS_OWNER_DEFAULT);

	CHECK(vault_write(&invite_query_store, IRIS_OWNER_DEFAULT,
			  VALUES(value_str(str_from(token)), owner, zero, zero, zero,
				 value_int(expires_ms), zero, value_str(IRIS_STR("romeo@a")),
				 value_str(IRIS_STR_NONE)),
			  NULL) == IRIS_VAULT_OK);
}

static void
check_list(const char *const *tokens, size_t count)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows = { .count = 0 };

	CHECK(vault_read(&list, 0, NULL, arena, &rows) == IRIS_VAULT_OK);
	CHECK(rows.count == count);
	for (size_t i = 0; i < rows.count && i < count; i++)
		CHECK(str_is(row_value(&rows, i, 0)->bytes, tokens[i]));
	arena_unref(&arena);
}

/* XEP-0445 §4: an hour of grace. */
static void
run_sweep(void *arg)
{
	static const char *const kept[] = { "b: in its hour of grace", "c: it can be used" };
	struct iris_error error;

	store_one("a: an hour and a bit ago", worker_wall_ms() - HOUR_MS - 1000);
	store_one(kept[0], worker_wall_ms() - HOUR_MS / 2);
	store_one(kept[1], worker_wall_ms() + HOUR_MS);
	CHECK(iris_module_xep0401.start(&error));
	check_list(kept, IRIS_COUNT(kept));
	iris_module_xep0401.stop();
}

static void
test_sweep(void **state)
{
	fixture_run(run_sweep, NULL);
	fixture_assert();
}

static int
setup(void **state)
{
	struct iris_error error = { .message = "" };

	fixture_make(&fixture);
	fixture_open(&fixture);
	if (vault_queries_register(&iris_module_xep0401, &error) &&
	    statement_register(&list, &error))
		return 0;
	fprintf(stderr, "%s (%s)\n", error.message, error.detail);
	return -1;
}

static int
teardown(void **state)
{
	fixture_close();
	fixture_remove(&fixture);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sweep) };

	worker_main_init();
	int failed = cmocka_run_group_tests(tests, setup, teardown);
	worker_main_free();
	return failed;
}
