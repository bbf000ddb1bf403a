/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every engine of the vault must do: the conformance suite.  It speaks to the vault's own
 * interface only; see vault_fixture.h for how another engine is run through it.
 */
#include <stdatomic.h>

#include "region_role.h"
#include "vault_fixture.h"

static struct vault_fixture fixture;

static struct iris_query insert = {
	.name = "test.insert",
	.table = "test_rows",
	.key = "id who",
	.write = true,
	.sql = "INSERT INTO test_rows (id, who, n, body, other) VALUES ($1, $2, $3, $4, $5)",
	.params = { { "id", IRIS_INT },
		    { "who", IRIS_TEXT },
		    { "n", IRIS_INT },
		    { "body", IRIS_SEALED },
		    { "other", IRIS_SEALED } },
};
static struct iris_query update = {
	.name = "test.update",
	.table = "test_rows",
	.write = true,
	.sql = "UPDATE test_rows SET n = $2 WHERE id >= $1", /* and not in the order of the numbers:
							      */
	.params = { { "id", IRIS_INT }, { "n", IRIS_INT } },
};
static struct iris_query load = {
	.name = "test.load",
	.table = "test_rows",
	.key = "id who",
	.sql = "SELECT who, n, body, other FROM test_rows WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "who", IRIS_TEXT },
		     { "n", IRIS_INT },
		     { "body", IRIS_SEALED },
		     { "other", IRIS_SEALED } },
};
static struct iris_query count = {
	.name = "test.count",
	.sql = "SELECT count(*), coalesce(max(n), 0) FROM test_rows WHERE who = $1",
	.params = { { "who", IRIS_TEXT } },
	.columns = { { "count", IRIS_INT }, { "n", IRIS_INT } },
};

static struct iris_query *const queries[] = { &insert, &update, &load, &count };

static void
queries_register(void)
{
	struct iris_error error;

	for (size_t i = 0; i < IRIS_COUNT(queries); i++)
		if (!statement_register(queries[i], &error)) {
			fprintf(stderr, "%s: %s\n", error.message, error.detail);
			abort();
		}
}

static int
setup(void **state)
{
	fixture_make(&fixture);
	fixture_open(&fixture);
	queries_register();
	return 0;
}

static int
teardown(void **state)
{
	fixture_close();
	fixture_remove(&fixture);
	return 0;
}

static void
reopen(const char *script)
{
	fixture_close();
	if (script)
		fixture_script(script);
	fixture_open(&fixture);
	queries_register();
}

/* --- helpers on fibers --- */

static enum iris_vault_result
post_row(int64_t id, const char *who, int64_t n, const char *body, struct iris_ticket *ticket)
{
	return vault_post(&insert, 1,
			  VALUES(value_int(id), value_str(str_from(who)), value_int(n),
				 value_str(str_from(body)), value_str(IRIS_STR_NONE)),
			  ticket);
}

static enum iris_vault_result
load_row(int64_t id, iris_owner owner, struct iris_arena *arena, struct iris_rows *rows)
{
	return vault_read(&load, owner, VALUES(value_int(id)), arena, rows);
}

static int64_t
count_rows(const char *who)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	int64_t number = -1;

	if (vault_read(&count, 0, VALUES(value_str(str_from(who))), arena, &rows) == IRIS_VAULT_OK)
		number = row_value(&rows, 0, 0)->number;
	arena_unref(&arena);
	return number;
}

/* --- values --- */

static void
run_round_trip(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	static const char blob[] = "with \0 inside";

	CHECK(vault_write(&insert, 1,
			  VALUES(value_int(INT64_MIN), value_str(IRIS_STR("tybalt")),
				 value_int(INT64_MAX),
				 value_str((struct iris_str){ blob, sizeof(blob) }),
				 value_str(IRIS_STR(""))),
			  NULL) == IRIS_VAULT_OK);
	CHECK(load_row(INT64_MIN, 1, arena, &rows) == IRIS_VAULT_OK && rows.count == 1);
	CHECK(str_is(row_value(&rows, 0, 0)->bytes, "tybalt"));
	CHECK(row_value(&rows, 0, 1)->number == INT64_MAX);
	CHECK(str_equal(row_value(&rows, 0, 2)->bytes, (struct iris_str){ blob, sizeof(blob) }));
	CHECK(row_value(&rows, 0, 3)->type == IRIS_SEALED &&
	      row_value(&rows, 0, 3)->bytes.len == 0);

	CHECK(post_row(2, "", 0, NULL, NULL) == IRIS_VAULT_OK);
	CHECK(load_row(2, 1, arena, &rows) == IRIS_VAULT_OK && rows.count == 1);
	CHECK(row_value(&rows, 0, 0)->type == IRIS_TEXT && row_value(&rows, 0, 0)->bytes.len == 0);
	CHECK(row_value(&rows, 0, 2)->type == IRIS_TYPE_NONE);
	CHECK(load_row(3, 1, arena, &rows) == IRIS_VAULT_OK && rows.count == 0);
	arena_unref(&arena);
}

static void
test_round_trip(void **state)
{
	fixture_run(run_round_trip, NULL);
	fixture_assert();
}

static void
run_insert_two(void *arg)
{
	CHECK(vault_write(&insert, 1,
			  VALUES(value_int(1), value_str(IRIS_STR("a")), value_int(1),
				 value_str(IRIS_STR("first")), value_str(IRIS_STR("second"))),
			  NULL) == IRIS_VAULT_OK);
	CHECK(vault_write(&insert, 1,
			  VALUES(value_int(2), value_str(IRIS_STR("a")), value_int(1),
				 value_str(IRIS_STR("third")), value_str(IRIS_STR("fourth"))),
			  NULL) == IRIS_VAULT_OK);
}

static void
run_expect_open(void *arg)
{
	const enum iris_vault_result *expected = arg; /* of rows 1 and 2 */
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;

	CHECK(load_row(1, 1, arena, &rows) == expected[0]);
	CHECK(load_row(2, 1, arena, &rows) == expected[1]);
	arena_unref(&arena);
}

static void
expect_open(const char *script, enum iris_vault_result one, enum iris_vault_result two)
{
	enum iris_vault_result expected[] = { one, two };

	reopen(script);
	fixture_run(run_expect_open, expected);
}

static void
test_swapped_values_do_not_open(void **state)
{
	fixture_run(run_insert_two, NULL);
	expect_open(NULL, IRIS_VAULT_OK, IRIS_VAULT_OK);
	expect_open("UPDATE test_rows SET body = other WHERE id = 1", IRIS_VAULT_FAILED,
		    IRIS_VAULT_OK);
	expect_open("UPDATE test_rows SET body = NULL WHERE id = 1", IRIS_VAULT_OK, IRIS_VAULT_OK);
	expect_open("UPDATE test_rows SET body = (SELECT body FROM test_rows WHERE id = 2) WHERE "
		    "id = 1",
		    IRIS_VAULT_FAILED, IRIS_VAULT_OK);
	expect_open("UPDATE test_rows SET body = NULL, who = 'b'", IRIS_VAULT_FAILED,
		    IRIS_VAULT_FAILED);
	fixture_assert();
}

static void
run_owners(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	iris_owner other;

	CHECK(vault_owner_create(IRIS_STR("Capulet"), &other) == IRIS_VAULT_OK);
	CHECK(post_row(1, "a", 1, "ours", NULL) == IRIS_VAULT_OK);
	CHECK(load_row(1, other, arena, &rows) == IRIS_VAULT_FAILED);
	CHECK(load_row(1, 99, arena, &rows) == IRIS_VAULT_REFUSED);
	CHECK(vault_post(&update, 99, VALUES(value_int(1), value_int(5)), NULL) ==
	      IRIS_VAULT_REFUSED);
	CHECK(vault_post(&update, 0, VALUES(value_int(1), value_int(5)), NULL) ==
	      IRIS_VAULT_REFUSED);
	CHECK(vault_owner_erase(other) == IRIS_VAULT_OK);
	CHECK(vault_post(&update, other, VALUES(value_int(1), value_int(5)), NULL) ==
	      IRIS_VAULT_ERASED);
	CHECK(load_row(1, 1, arena, &rows) == IRIS_VAULT_OK && row_value(&rows, 0, 1)->number == 1);
	arena_unref(&arena);
}

static void
test_owners(void **state)
{
	fixture_run(run_owners, NULL);
	fixture_assert();
}

/* --- transactions --- */

static void
run_atomic(void *arg)
{
	struct iris_batch *batch = batch_new(1);

	CHECK(post_row(1, "a", 1, "x", NULL) == IRIS_VAULT_OK);
	for (int i = 0; i < 3; i++) /* the last one is there already */
		batch_add(batch, &insert,
			  VALUES(value_int(3 - i), value_str(IRIS_STR("a")), value_int(2),
				 value_str(IRIS_STR("y")), value_str(IRIS_STR_NONE)));
	CHECK(batch_write(&batch) == IRIS_VAULT_FAILED && !batch);
	CHECK(count_rows("a") == 1);
	batch = batch_new(1);
	batch_add(batch, &update, VALUES(value_int(0), value_int(7)));
	batch_add(batch, &insert,
		  VALUES(value_int(4), value_str(IRIS_STR("a")), value_int(2),
			 value_str(IRIS_STR("y")), value_str(IRIS_STR_NONE)));
	CHECK(batch_write(&batch) == IRIS_VAULT_OK);
	CHECK(count_rows("a") == 2);
	batch = batch_new(1);
	batch_add(batch, &update, VALUES(value_int(0), value_int(8)));
	batch_drop(&batch);
	batch = batch_new(1);
	CHECK(batch_post(&batch, NULL) == IRIS_VAULT_OK); /* an empty one is nothing */
	batch = batch_new(42);
	batch_add(batch, &update, VALUES(value_int(0), value_int(8)));
	CHECK(batch_write(&batch) == IRIS_VAULT_REFUSED);
}

static void
test_batches_are_atomic(void **state)
{
	fixture_run(run_atomic, NULL);
	fixture_assert();
}

struct outcome {
	int done, failed, order;
};
static int outcomes;

static void
take_outcome(void *arg, bool failed)
{
	struct outcome *outcome = arg;

	outcome->done++;
	outcome->failed += failed;
	outcome->order = outcomes++;
}

static void
run_isolated(void *arg)
{
	struct outcome outcome[10] = { { 0 } };

	for (int i = 0; i < 10; i++) {
		struct iris_ticket *ticket = ticket_new(take_outcome, &outcome[i]);
		/* Rows 0..9; the third and the eighth of them are row 0 once more. */
		CHECK(post_row(i == 3 || i == 8 ? 0 : i, "iso", i, "x", ticket) == IRIS_VAULT_OK);
		ticket_unref(&ticket);
	}
	CHECK(count_rows("iso") == 8);
	for (int i = 0; i < 10; i++) {
		CHECK(outcome[i].done == 1 && outcome[i].order == i);
		CHECK(outcome[i].failed == (i == 3 || i == 8));
	}
}

static void
test_failure_is_isolated(void **state)
{
	outcomes = 0;
	fixture_run(run_isolated, NULL);
	fixture_assert();
}

static void
run_changed(void *arg)
{
	int64_t changed = -1;

	for (int i = 0; i < 5; i++)
		CHECK(post_row(i, "a", 0, "x", NULL) == IRIS_VAULT_OK);
	CHECK(vault_write(&update, 1, VALUES(value_int(2), value_int(1)), &changed) ==
	      IRIS_VAULT_OK);
	CHECK(changed == 3);
	CHECK(vault_write(&update, 1, VALUES(value_int(9), value_int(1)), &changed) ==
	      IRIS_VAULT_OK);
	CHECK(changed == 0);
}

static void
test_changed_rows(void **state)
{
	fixture_run(run_changed, NULL);
	fixture_assert();
}

static void
run_read_your_writes(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;

	CHECK(post_row(1, "a", 0, "x", NULL) == IRIS_VAULT_OK);
	for (int i = 1; i <= 200; i++) {
		CHECK(vault_post(&update, 1, VALUES(value_int(1), value_int(i)), NULL) ==
		      IRIS_VAULT_OK);
		if (i % 3 == 0 && !fiber_sleep(0)) /* handed over already, perhaps lingering */
			break;
		CHECK(load_row(1, 1, arena, &rows) == IRIS_VAULT_OK &&
		      row_value(&rows, 0, 1)->number == i);
	}
	arena_unref(&arena);
}

static void
test_reads_see_what_was_posted(void **state)
{
	fixture_run(run_read_your_writes, NULL);
	fixture_assert();
}

/* --- tickets over workers --- */

#define SHARED_WRITES 500

struct shared_ticket {
	struct iris_ticket *ticket;
	struct iris_worker *home;
	struct iris_wait wait;
	int64_t first;
	bool failed;
};

static void
shared_done(void *arg, bool failed)
{
	struct shared_ticket *shared = arg;

	CHECK(worker_self() == shared->home);
	shared->failed = failed;
	wait_done(&shared->wait);
}

static void
run_other_worker(void *arg)
{
	struct shared_ticket *shared = arg;

	for (int64_t i = 0; i < SHARED_WRITES; i++)
		CHECK(post_row(shared->first + i, "shared", i, "x", shared->ticket) ==
		      IRIS_VAULT_OK);
}

static void
run_shared_ticket(void *arg)
{
	struct shared_ticket shared = { .home = worker_self() };

	shared.ticket = ticket_new(shared_done, &shared);
	wait_init(&shared.wait);
	for (int i = 0; i < 2; i++) {
		shared.first = i * 1000;
		worker_call(worker_at(i), "test: other", run_other_worker, &shared);
	}
	ticket_unref(&shared.ticket);
	wait_for(&shared.wait, "ticket");
	CHECK(!shared.failed);
	CHECK(count_rows("shared") == 2 * SHARED_WRITES);
}

static void
test_ticket_over_workers(void **state)
{
	struct iris_error error;

	assert_true(workers_start(2, &error));
	fixture_run(run_shared_ticket, NULL);
	workers_stop();
	fixture_assert();
}

static void
run_ticket_rules(void *arg)
{
	struct outcome outcome = { 0 };
	struct iris_ticket *none = NULL, *ticket = ticket_new(take_outcome, &outcome);

	ticket_unref(&none);
	ticket_fail(none);
	CHECK(ticket_ref(none) == NULL);
	struct iris_ticket *second = ticket_ref(ticket);
	ticket_unref(&ticket);
	CHECK(!ticket && outcome.done == 0);
	CHECK(vault_post(&update, 99, VALUES(value_int(1), value_int(5)), second) ==
	      IRIS_VAULT_REFUSED);
	ticket_unref(&second);
	CHECK(outcome.done == 1 && outcome.failed == 0); /* nothing was promised */
	ticket = ticket_new(take_outcome, &outcome);
	ticket_fail(ticket);
	ticket_unref(&ticket);
	CHECK(outcome.done == 2 && outcome.failed == 1);
}

static void
test_ticket_rules(void **state)
{
	fixture_run(run_ticket_rules, NULL);
	fixture_assert();
}

/* --- limits and trouble --- */

static void
run_queue_bound(void *arg)
{
	struct outcome outcome = { 0 };
	int64_t id = 0;

	while (post_row(id, "q", id, "x", NULL) == IRIS_VAULT_OK && id < 1000)
		id++;
	CHECK(id == 200);
	struct iris_ticket *ticket = ticket_new(take_outcome, &outcome);
	CHECK(post_row(id, "q", id, "x", ticket) == IRIS_VAULT_BUSY);
	ticket_unref(&ticket);
	CHECK(outcome.done == 1 && outcome.failed == 0);
	struct iris_batch *batch = batch_new(1);
	batch_add(batch, &update, VALUES(value_int(0), value_int(8)));
	CHECK(batch_post(&batch, NULL) == IRIS_VAULT_BUSY);
	CHECK(count_rows("q") == 200); /* and by now they are committed */
	CHECK(post_row(id, "q", id, "x", NULL) == IRIS_VAULT_OK);
	CHECK(count_rows("q") == 201);
}

static void
test_queue_bound(void **state)
{
	fixture_close();
	fixture.options.limits.rows = 200;
	fixture_open(&fixture);
	queries_register();
	fixture_run(run_queue_bound, NULL);
	fixture_assert();
}

static void
run_trouble(void *arg)
{
	static const char big[100000];
	struct outcome outcome = { 0 };
	char why[128] = "";

	CHECK(vault_is_ready(why, sizeof(why)));
	fixture_engine()->break_store(&fixture, true);
	struct iris_ticket *ticket = ticket_new(take_outcome, &outcome);
	for (int i = 0; i < 10; i++)
		CHECK(vault_post(&insert, 1,
				 VALUES(value_int(i), value_str(IRIS_STR("full")), value_int(i),
					value_str((struct iris_str){ big, sizeof(big) }),
					value_str(IRIS_STR_NONE)),
				 ticket) == IRIS_VAULT_OK);
	ticket_unref(&ticket);
	while (vault_is_ready(why, sizeof(why)))
		if (!fiber_sleep(1))
			break;
	CHECK(strstr(why, "cannot be written") != NULL);
	CHECK(outcome.done == 0); /* nothing is acknowledged … */
	fixture_engine()->break_store(&fixture, false);
	CHECK(count_rows("full") ==
	      10); /* … until there is room again, and then nothing was lost */
	CHECK(outcome.done == 1 && outcome.failed == 0);
	CHECK(vault_is_ready(why, sizeof(why)));
}

static void
test_store_in_trouble(void **state)
{
	fixture_run(run_trouble, NULL);
	fixture_assert();
}

/* --- declarations --- */

static void
test_declarations_are_checked(void **state)
{
	static const struct iris_query wrong[] = {
		{ .name = "w.gap",
		  .sql = "SELECT n FROM test_rows WHERE id = $1 AND n = $3",
		  .params = { { "a", IRIS_INT }, { "b", IRIS_INT }, { "c", IRIS_INT } },
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.count",
		  .sql = "SELECT n FROM test_rows WHERE id = $1",
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.quoted",
		  .sql = "SELECT n FROM test_rows WHERE who = '$1'",
		  .params = { { "a", IRIS_INT } },
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.columns",
		  .sql = "SELECT n, id FROM test_rows",
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.key",
		  .table = "test_rows",
		  .sql = "SELECT body FROM test_rows",
		  .columns = { { "body", IRIS_SEALED } } },
		{ .name = "w.key_field",
		  .table = "test_rows",
		  .key = "id",
		  .sql = "SELECT body FROM test_rows",
		  .columns = { { "body", IRIS_SEALED } } },
		{ .name = "w.search",
		  .table = "test_rows",
		  .key = "n",
		  .sql = "SELECT n FROM test_rows WHERE body = $1",
		  .params = { { "body", IRIS_SEALED } },
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.syntax",
		  .sql = "SELEKT n FROM test_rows",
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.table",
		  .sql = "SELECT n FROM nothing",
		  .columns = { { "n", IRIS_INT } } },
		{ .name = "w.two", .sql = "DELETE FROM test_rows; DELETE FROM log", .write = true },
		{ .name = "w.kind", .sql = "SELECT n FROM test_rows", .write = true },
		{ .name = "test.load",
		  .sql = "SELECT n FROM test_rows",
		  .columns = { { "n", IRIS_INT } } },
	};
	struct iris_error error;

	for (size_t i = 0; i < IRIS_COUNT(wrong); i++) {
		struct iris_query query = wrong[i];
		error.message[0] = '\0';
		assert_false(statement_register(&query, &error));
		assert_non_null(strstr(error.message, query.name));
		assert_null(query.prepared);
	}
	statement_unregister(&load);
	assert_null(load.prepared);
	assert_true(statement_register(&load, &error));
}

/* --- ids --- */

static void
test_ids_never_go_back(void **state)
{
	int64_t log = vault_next_id(IRIS_SEQ_LOG), account = vault_next_id(IRIS_SEQ_ACCOUNT);

	assert_true(log > 0 && account > 0);
	assert_true(vault_next_id(IRIS_SEQ_LOG) > log);
	reopen(NULL);
	assert_true(vault_next_id(IRIS_SEQ_LOG) > log + 1);
	assert_true(vault_next_id(IRIS_SEQ_ACCOUNT) > account);
}

static void
run_many_ids(void *arg)
{
	int64_t last = vault_next_id(IRIS_SEQ_ACCOUNT);

	for (int i = 0; i < 10000; i++) {
		int64_t id = vault_next_id(IRIS_SEQ_ACCOUNT);
		CHECK(id > last);
		last = id;
		if (i % 1000 == 0)
			(void)count_rows("nobody"); /* the blocks that it took are reserved */
	}
	(void)count_rows("nobody");
	*(int64_t *)arg = last;
}

static void
test_blocks_of_ids(void **state)
{
	int64_t last = 0;

	fixture_run(run_many_ids, &last);
	reopen(NULL);
	assert_true(vault_next_id(IRIS_SEQ_ACCOUNT) > last);
	fixture_assert();
}

/* --- nothing in plain text --- */

static const char planted[] = "PLANTED-violent-delights";

static void
run_plant(void *arg)
{
	const struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
					      .owner = 1,
					      .reader = 1,
					      .peer = 2,
					      .body = str_from(planted) };

	for (int i = 0; i < 50; i++)
		CHECK(post_row(i, "visible-name", i, planted, NULL) == IRIS_VAULT_OK);
	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	CHECK(count_rows("visible-name") == 50);
}

static void
test_nothing_in_plain_text(void **state)
{
	bool visible = false;

	fixture_run(run_plant, NULL);
	for (int round = 0; round < 2; round++) {
		visible = visible || fixture_engine()->store_has(
					     &fixture, IRIS_STR("visible-name"), false);
		assert_false(fixture_engine()->store_has(&fixture, str_from(planted), false));
		reopen(NULL); /* the second time: checkpointed */
	}
	assert_true(visible); /* the test can see what is not sealed */
	fixture_assert();
}

/* --- smoke --- */

static void
run_smoke(void *arg)
{
	for (int64_t i = 0; i < 100000; i++) {
		while (post_row(i, "smoke", i, "a message of an ordinary length, to be sealed",
				NULL) == IRIS_VAULT_BUSY)
			if (!fiber_sleep(1))
				return;
		if (i % 64 == 0 && !fiber_sleep(0))
			return;
	}
	CHECK(count_rows("smoke") == 100000);
}

static void
test_hundred_thousand_rows(void **state)
{
	fixture_run(run_smoke, NULL);
	fixture_assert();
}

static void
test_edge_keeps_nothing(void **state)
{
	char why[64];

	fixture_close();
	assert_false(vault_is_ready(why, sizeof(why)));
	region_role_set(REGION_EDGE);
	assert_true(vault_is_ready(why, sizeof(why)));
	assert_int_equal(vault_post(&update, 1, VALUES(value_int(1), value_int(5)), NULL),
			 IRIS_VAULT_REFUSED);
	const struct iris_log_entry entry = {
		.id = 1, .owner = 1, .reader = 1, .body = IRIS_STR("x")
	};
	assert_int_equal(log_append(&entry, NULL), IRIS_VAULT_REFUSED);
	region_role_set(REGION_FEDERATED);
	fixture_open(&fixture);
	queries_register();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_round_trip),
		TEST(test_swapped_values_do_not_open),
		TEST(test_owners),
		TEST(test_batches_are_atomic),
		TEST(test_failure_is_isolated),
		TEST(test_changed_rows),
		TEST(test_reads_see_what_was_posted),
		TEST(test_ticket_rules),
		TEST(test_queue_bound),
		TEST(test_store_in_trouble),
		TEST(test_declarations_are_checked),
		TEST(test_ids_never_go_back),
		TEST(test_blocks_of_ids),
		TEST(test_nothing_in_plain_text),
		TEST(test_hundred_thousand_rows),
		TEST(test_edge_keeps_nothing),
		TEST(test_ticket_over_workers), /* last: workers are stopped once in a process */
	};

	worker_main_init();
	int failed = cmocka_run_group_tests_name("vault", tests, NULL, NULL);
	worker_main_free();
	return failed;
}
