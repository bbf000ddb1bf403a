/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys that change while data is there: rotation and sealing anew, another master key, keys that
 * are destroyed.
 */
#include "vault_fixture.h"

#define ENTRIES 500

static struct vault_fixture fixture;

static struct iris_query row_write = {
	.name = "test.row_write",
	.table = "test_rows",
	.key = "who id",
	.write = true,
	.sql = "INSERT INTO test_rows (id, who, body, other) VALUES ($1, $2, $3, $4)",
	.params = { { "id", IRIS_INT },
		    { "who", IRIS_TEXT },
		    { "body", IRIS_SEALED },
		    { "other", IRIS_SEALED } },
};
static struct iris_query row_read = {
	.name = "test.row_read",
	.table = "test_rows",
	.key = "who id",
	.sql = "SELECT id, who, body, other FROM test_rows ORDER BY id",
	.params = { { NULL } },
	.columns = { { "id", IRIS_INT },
		     { "who", IRIS_TEXT },
		     { "body", IRIS_SEALED },
		     { "other", IRIS_SEALED } },
};

static void
open_again(void)
{
	struct iris_error error;

	fixture_open(&fixture);
	assert_true(statement_register(&row_write, &error) &&
		    statement_register(&row_read, &error));
}

static int
setup(void **state)
{
	fixture_make(&fixture);
	open_again();
	return 0;
}

static int
teardown(void **state)
{
	fixture_close();
	fixture_remove(&fixture);
	return 0;
}

/* Numbers of the raw store; the vault is closed. */
static int64_t
raw_int(const char *sql)
{
	const struct iris_vault_engine *engine = fixture_engine()->engine;
	struct iris_error error;
	int64_t number = -1;

	assert_true(engine->open(false, &error));
	assert_true(schema_read_int(engine, sql, &number, &error));
	engine->close();
	return number;
}

static struct iris_str
body_of(int64_t number, char *buf, size_t size)
{
	return (struct iris_str){ buf, (size_t)snprintf(buf, size, "body of %lld",
							(long long)number) };
}

static void
write_rows(iris_owner owner)
{
	char buf[64];

	for (int64_t i = 1; i <= ENTRIES; i++) {
		const struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
						      .owner = owner,
						      .reader = owner,
						      .peer = 1,
						      .body = body_of(i, buf, sizeof(buf)) };
		CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
		CHECK(vault_post(&row_write, owner,
				 VALUES(value_int(owner * 10000 + i),
					value_str(i % 2 ? IRIS_STR("odd") : IRIS_STR("even")),
					value_str(entry.body),
					i % 3 ? value_str(entry.body) : value_str(IRIS_STR_NONE)),
				 NULL) == IRIS_VAULT_OK);
	}
}

static void
check_log(iris_owner owner)
{
	const struct iris_log_query query = { .reader = owner, .limit = 2 * ENTRIES };
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;
	char buf[64];

	CHECK(log_read(&query, owner, arena, &page) == IRIS_VAULT_OK && page.count == ENTRIES);
	for (size_t i = 0; i < page.count; i++)
		CHECK(str_equal(page.entries[i].body,
				body_of((int64_t)i + 1, buf, sizeof(buf))));
	arena_unref(&arena);
}

static void
check_rows(iris_owner owner)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	char buf[64];

	CHECK(vault_read(&row_read, owner, NULL, arena, &rows) == IRIS_VAULT_OK &&
	      rows.count == ENTRIES);
	for (size_t i = 0; i < rows.count; i++) {
		const struct iris_value *row = row_value(&rows, i, 0);
		struct iris_str expected = body_of((int64_t)i + 1, buf, sizeof(buf));

		CHECK(str_equal(row[2].bytes, expected));
		CHECK((i + 1) % 3 ? str_equal(row[3].bytes, expected) :
				    row[3].type == IRIS_TYPE_NONE);
	}
	arena_unref(&arena);
}

static void
run_write(void *arg)
{
	write_rows(1);
}

static void
run_check(void *arg)
{
	check_log(1);
	check_rows(1);
}

static void
reseal_wait(void)
{
	while (reseal_is_running())
		CHECK(fiber_sleep(5));
}

static void
run_rotate(void *arg)
{
	write_rows(1);
	CHECK(vault_owner_rotate(1) == IRIS_VAULT_OK);
	reseal_begin();
	run_check(NULL); /* meanwhile */
	reseal_wait();
	run_check(NULL);
	CHECK(vault_owner_rotate(77) == IRIS_VAULT_REFUSED);
}

/* How many records of a column are sealed with this key: its id is in their bytes 4 to 7. */
static int64_t
raw_under(const char *table, const char *column, unsigned char key)
{
	const char header[] = { 'X', 'E', 1, 1, 0, 0, 0, (char)key };
	const struct iris_vault_engine *engine = fixture_engine()->engine;
	const struct iris_value wanted = { .type = IRIS_BLOB, .bytes = { header, sizeof(header) } };
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;
	struct iris_error error;
	char sql[128];

	(void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE substr(%s, 1, 8) = $1",
		       table, column);
	assert_true(engine->open(false, &error));
	assert_true(engine->query(sql, &wanted, 1, &rows, &error));
	rows_read_begin(&reader, &rows);
	int64_t count = rows_read(&reader).number;
	rows_free(&rows);
	engine->close();
	return count;
}

static void
test_rotation_seals_anew(void **state)
{
	fixture_run(run_rotate, NULL);
	fixture_close();
	assert_int_equal(raw_under("log", "body", 3), ENTRIES);
	assert_int_equal(raw_under("test_rows", "body", 3), ENTRIES);
	assert_int_equal(raw_under("test_rows", "other", 3), ENTRIES - ENTRIES / 3);
	assert_int_equal(raw_int("SELECT upto FROM vault_reseal"), 3);
	open_again();
	fixture_run(run_check, NULL);
	fixture_assert();
}

static void
run_rotate_only(void *arg)
{
	CHECK(vault_owner_rotate(1) == IRIS_VAULT_OK);
}

static void
test_pass_that_was_cut_short_is_noticed(void **state)
{
	assert_false(keys_need_reseal(0));
	fixture_run(run_write, NULL);
	fixture_run(run_rotate_only, NULL); /* and the process ends */
	assert_true(keys_need_reseal(0));
	assert_false(keys_need_reseal(keys_newest()));
	fixture_close();
	open_again();
	assert_true(keys_need_reseal(0));
	fixture_run(run_check, NULL);
	fixture_assert();
}

/* --- another master key --- */

static void
run_change_master(void *arg)
{
	struct iris_error error;

	CHECK(vault_master_change(arg, &error) == IRIS_VAULT_OK);
	CHECK(vault_owner_rotate(1) == IRIS_VAULT_OK); /* a key that is made after it */
	run_check(NULL);
}

static void
run_change_master_badly(void *arg)
{
	struct iris_error error;

	CHECK(vault_master_change("/nowhere/master.key", &error) == IRIS_VAULT_FAILED);
	CHECK(strstr(error.message, "master key") != NULL);
	run_check(NULL);
}

static void
test_another_master_key(void **state)
{
	struct iris_error error;
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/next.key", fixture.dir);
	fixture_run(run_write, NULL);
	fixture_run(run_change_master_badly, NULL);
	fixture_run(run_change_master, path);
	fixture_close();
	assert_false(vault_open_with(&fixture.options, &error)); /* the former one */
	assert_non_null(strstr(error.message, "not the master key"));
	fixture.options.key_path = path;
	open_again();
	fixture_run(run_check, NULL);
	fixture_close();
	assert_int_equal(rename(path, fixture.key), 0);
	fixture.options.key_path = fixture.key;
	open_again();
	fixture_assert();
}

/* --- keys that are destroyed --- */

static void
run_destroy(void *arg)
{
	iris_owner *owner = arg;

	CHECK(vault_owner_create(IRIS_STR("Montague"), owner) == IRIS_VAULT_OK);
	write_rows(*owner);
	write_rows(1);
	check_log(*owner);
	CHECK(vault_owner_erase(*owner) == IRIS_VAULT_OK);
	CHECK(vault_owner_erase(*owner) == IRIS_VAULT_ERASED);
	CHECK(vault_owner_rotate(*owner) == IRIS_VAULT_ERASED);
	CHECK(vault_owner_erase(99) == IRIS_VAULT_REFUSED);
}

static void
run_read_destroyed(void *arg)
{
	iris_owner owner = *(iris_owner *)arg;
	const struct iris_log_query query = { .reader = owner, .limit = 10 };
	const struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
					      .owner = owner,
					      .reader = owner,
					      .peer = 1,
					      .body = IRIS_STR("too late") };
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;
	struct iris_rows rows;

	CHECK(log_read(&query, owner, arena, &page) == IRIS_VAULT_ERASED && page.count == 0);
	CHECK(vault_read(&row_read, owner, NULL, arena, &rows) == IRIS_VAULT_ERASED);
	CHECK(log_append(&entry, NULL) == IRIS_VAULT_ERASED);
	check_log(1); /* the others' is as it was */
	arena_unref(&arena);
}

static void
test_destroyed_keys(void **state)
{
	iris_owner owner = 0;

	fixture_run(run_destroy, &owner);
	fixture_run(run_read_destroyed, &owner);
	fixture_close();
	assert_int_equal(raw_int("SELECT count(*) FROM vault_keys WHERE owner = 2 AND "
				 "(state <> 3 OR length(wrapped) > 0)"), 0);
	open_again();
	fixture_run(run_read_destroyed, &owner);
	fixture_assert();
}

/* The wrapped key of owner 2 as it lies in the store; malloc'ed. */
static void
run_take_wrapped(void *arg)
{
	static struct iris_query wrapped = {
		.name = "test.wrapped",
		.table = "vault_keys",
		.sql = "SELECT wrapped FROM vault_keys WHERE owner = 2",
		.columns = { { "wrapped", IRIS_BLOB } },
	};
	struct iris_str *bytes = arg;
	struct iris_arena *arena = arena_new();
	struct iris_error error;
	struct iris_rows rows;

	CHECK(wrapped.prepared || statement_register(&wrapped, &error));
	CHECK(vault_read(&wrapped, VAULT_OWNER_REGION, NULL, arena, &rows) == IRIS_VAULT_OK &&
	      rows.count == 1);
	struct iris_str found = row_value(&rows, 0, 0)->bytes;
	*bytes = (struct iris_str){ memcpy(iris_malloc(found.len), found.base, found.len),
				    found.len };
	arena_unref(&arena);
}

static void
run_create_owner(void *arg)
{
	CHECK(vault_owner_create(IRIS_STR("Montague"), arg) == IRIS_VAULT_OK);
}

static void
run_scrub(void *arg)
{
	struct iris_error error;

	CHECK(vault_owner_erase(2) == IRIS_VAULT_OK);
	CHECK(keys_scrub(&error));
}

/* SECURITY: who steals the disk later, and has the master key, finds no wrapped key any more. */
static void
test_destroyed_keys_are_in_no_file(void **state)
{
	const struct fixture_engine *engine = fixture_engine();
	struct iris_str wrapped;
	iris_owner owner;

	fixture_run(run_create_owner, &owner);
	fixture_run(run_take_wrapped, &wrapped);
	assert_true(engine->store_has(&fixture, wrapped, true));
	fixture_run(run_scrub, NULL);
	assert_false(engine->store_has(&fixture, wrapped, true));
	free((char *)wrapped.base);
	fixture_assert();
}

/* --- keys are used up --- */

static void
run_use(void *arg)
{
	struct vault_key key;

	for (unsigned i = 0; i < 5000; i++) { /* more than are told together */
		const struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
						      .owner = 1, .reader = 1, .peer = 1,
						      .body = IRIS_STR("once more") };
		CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	}
	usage_look();
	CHECK(keys_current(1, &key) && key.id == 2 && key.uses >= 4096 && key.uses < 20000);
}

static void
run_use_up(void *arg)
{
	const struct iris_log_query query = { .reader = 1, .limit = 10 };
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;
	struct vault_key key;

	CHECK(keys_current(1, &key) && key.uses > 4096); /* as written down, and what is unknown */
	keys_count_uses(key.id, 1u << 31);
	usage_look();
	CHECK(keys_current(1, &key) && key.id == 3 && key.uses == 0);
	CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK && page.count == 10);
	arena_unref(&arena);
}

static void
test_key_that_was_used_often_is_replaced(void **state)
{
	fixture_run(run_use, NULL);
	fixture_close();
	assert_true(raw_int("SELECT uses FROM vault_keys WHERE id = 2") >= 4096);
	open_again();
	fixture_run(run_use_up, NULL);
	fixture_assert();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_rotation_seals_anew),
		TEST(test_pass_that_was_cut_short_is_noticed),
		TEST(test_another_master_key),
		TEST(test_destroyed_keys),
		TEST(test_destroyed_keys_are_in_no_file),
		TEST(test_key_that_was_used_often_is_replaced),
	};

	struct iris_error error;

	worker_main_init();
	if (!pool_start(1, &error))
		return 1;
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	int failed = cmocka_run_group_tests_name("vault_keys", tests, NULL, NULL);
	metrics_unregister(vault_metrics, VAULT_METRIC_COUNT);
	pool_stop();
	worker_main_free();
	return failed;
}
