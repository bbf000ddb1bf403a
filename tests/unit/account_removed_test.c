/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hook account_removed, of every module that there is: with a vault that takes no more rows just
 * now it must be refused, so that modules/accounts asks again, and no row of somebody who went
 * is left.  Who reads first finds nothing, and may pass: meanwhile the vault has room again.
 */
#include "vault_fixture.h"

#include "module_private.h"

#define ROWS 100

static struct vault_fixture fixture;

static struct iris_query insert = {
	.name = "test.insert", .table = "test_rows", .write = true,
	.sql = "INSERT INTO test_rows (id, who, n) VALUES ($1, 'x', 1)",
	.params = { { "id", IRIS_INT } },
};

/* True: there was room. */
static bool
fill_queue(void)
{
	static int64_t id;
	unsigned posted = 0;

	while (vault_post(&insert, IRIS_OWNER_DEFAULT, VALUES(value_int(id++)), NULL) ==
	       IRIS_VAULT_OK)
		IRIS_ASSERT(++posted <= ROWS);
	return posted > 0;
}

static void
run_removed(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_account_removed removed = { .account = { .id = 1,
							     .owner = IRIS_OWNER_DEFAULT } };
	unsigned asked = 0;

	CHECK(jid_parse(arena, IRIS_STR("romeo@example.org"), &removed.jid));
	for (size_t i = 0; modules_linked[i]; i++)
		for (const struct iris_hook_handler *hook = modules_linked[i]->hooks;
		     hook && hook->fn; hook++) {
			if (hook->id != IRIS_HOOK_ID_account_removed)
				continue;
			(void)fill_queue();
			asked++;
			if (((iris_hook_fn_account_removed)hook->fn)(&removed) == IRIS_REFUSE ||
			    fill_queue())
				continue;
			fprintf(stderr, "%s does not refuse\n", modules_linked[i]->name);
			check_failures++;
		}
	CHECK(asked >= 10);
	arena_unref(&arena);
}

static void
test_busy_is_refused(void **state)
{
	fixture_run(run_removed, NULL);
	fixture_assert();
}

static int
setup(void **state)
{
	struct iris_error error = { .message = "" };

	fixture_make(&fixture);
	fixture.options.limits.rows = ROWS;
	fixture_open(&fixture);
	for (size_t i = 0; modules_linked[i]; i++)
		if (!vault_queries_register(modules_linked[i], &error)) {
			fprintf(stderr, "%s (%s)\n", error.message, error.detail);
			return -1;
		}
	return statement_register(&insert, &error) ? 0 : -1;
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
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_busy_is_refused) };

	worker_main_init();
	int failed = cmocka_run_group_tests(tests, setup, teardown);
	worker_main_free();
	return failed;
}
