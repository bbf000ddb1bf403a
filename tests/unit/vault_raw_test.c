/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P7.3: nothing that is sealed is legible in the store.  Every write that any module declares is
 * run with a string planted in each sealed field, and all files of the store, write-ahead log
 * included, are searched for it while the vault is open, and once more when it is closed.
 */
#include "iris/module.h"
#include "module_private.h"
#include "vault_fixture.h"

#define PLANTED "Wherefore-art-thou"
#define LEGIBLE "legible-by-declaration"

static struct vault_fixture fixture;
static unsigned sealed_fields, written;

static bool
store_has(const char *text)
{
	return fixture_engine()->store_has(&fixture, str_from(text), false);
}

static void
plant_in(struct iris_query *query)
{
	struct iris_value params[VAULT_FIELDS_MAX];
	unsigned sealed = 0;
	int64_t changed = 0;

	for (unsigned i = 0; i < VAULT_FIELDS_MAX; i++) {
		switch (query->params[i].type) {
		case IRIS_INT: params[i] = value_int(7); break;
		case IRIS_TEXT: params[i] = value_str(IRIS_STR(LEGIBLE)); break;
		case IRIS_BLOB: params[i] = value_str(IRIS_STR("bytes")); break;
		case IRIS_SEALED:
			params[i] = value_str(IRIS_STR("<body>" PLANTED ", Romeo?</body>"));
			sealed++;
			break;
		case IRIS_TYPE_NONE: break;
		}
	}
	if (sealed == 0)
		return;
	CHECK(vault_write(query, 1, params, &changed) == IRIS_VAULT_OK);
	sealed_fields += sealed;
	written += changed > 0;
}

static void
run_plant(void *arg)
{
	struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
					.owner = 1,
					.reader = 7,
					.peer = vault_peer_id(IRIS_STR(PLANTED "@example.org")),
					.body = IRIS_STR("<body>" PLANTED ", Romeo?</body>") };

	for (const struct iris_module *const *module = modules_linked; *module; module++)
		for (struct iris_query *const *query = (*module)->queries; query && *query; query++)
			if ((*query)->write)
				plant_in(*query);
	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	CHECK(log_rewrite(&entry, NULL) == IRIS_VAULT_OK);
	CHECK(vault_owner_rotate(1) == IRIS_VAULT_OK);
	reseal_begin();
	while (reseal_is_running())
		CHECK(fiber_sleep(5));
}

static void
test_nothing_sealed_is_legible(void **state)
{
	struct iris_error error;

	fixture_make(&fixture);
	fixture_open(&fixture);
	for (const struct iris_module *const *module = modules_linked; *module; module++)
		assert_true(vault_queries_register(*module, &error));
	fixture_run(run_plant, NULL);
	assert_true(sealed_fields >= 10);
	assert_true(written >= 6);
	assert_false(store_has(PLANTED));
	assert_true(store_has(LEGIBLE)); /* we look in the right place */
	for (const struct iris_module *const *module = modules_linked; *module; module++)
		vault_queries_unregister(*module);
	fixture_close();
	assert_false(store_has(PLANTED));
	fixture_remove(&fixture);
	fixture_assert();
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_sealed_is_legible) };

	worker_main_init();
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	int failed = cmocka_run_group_tests_name("vault_raw", tests, NULL, NULL);
	metrics_unregister(vault_metrics, VAULT_METRIC_COUNT);
	worker_main_free();
	return failed;
}
