/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in transit is not kept (P2.4): the mark of what is handled, on fibers, over waits and
 * between workers, and the vault that refuses while it is there.  Runs on any engine, like
 * vault_test.
 */
#include "iris/stanza.h"
#include "vault_fixture.h"

static struct vault_fixture fixture;

static struct iris_query insert = {
	.name = "test.insert", .table = "test_rows", .key = "id who", .write = true,
	.sql = "INSERT INTO test_rows (id, who, n, body) VALUES ($1, $2, $3, $4)",
	.params = { { "id", IRIS_INT }, { "who", IRIS_TEXT }, { "n", IRIS_INT },
		    { "body", IRIS_SEALED } },
};
static struct iris_query insert_bare = {
	.name = "test.insert_bare", .table = "test_rows", .write = true, .bare = true,
	.sql = "INSERT INTO test_rows (id, who, n) VALUES ($1, $2, $3)",
	.params = { { "id", IRIS_INT }, { "who", IRIS_TEXT }, { "n", IRIS_INT } },
};
static struct iris_query number = {
	.name = "test.number", .table = "test_rows", .write = true,
	.sql = "UPDATE test_rows SET n = $2 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "n", IRIS_INT } },
};
static struct iris_query drop = {
	.name = "test.drop", .table = "test_rows", .write = true,
	.sql = "DELETE FROM test_rows WHERE who = $1",
	.params = { { "who", IRIS_TEXT } },
};
static struct iris_query count = {
	.name = "test.count",
	.sql = "SELECT count(*), coalesce(max(n), 0) FROM test_rows",
	.params = { { NULL, IRIS_TYPE_NONE } },
	.columns = { { "count", IRIS_INT }, { "n", IRIS_INT } },
};

static struct iris_query *const queries[] = { &insert, &insert_bare, &number, &drop, &count };

static int
setup(void **state)
{
	struct iris_error error;

	fixture_make(&fixture);
	fixture_open(&fixture);
	for (size_t i = 0; i < IRIS_COUNT(queries); i++)
		assert_true(statement_register(queries[i], &error));
	return 0;
}

static int
teardown(void **state)
{
	fixture_close();
	fixture_remove(&fixture);
	return 0;
}

/* --- the vault --- */

static int64_t
count_rows(int64_t *n_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	int64_t found = -1;

	if (vault_read(&count, 0, NULL, arena, &rows) == IRIS_VAULT_OK) {
		found = row_value(&rows, 0, 0)->number;
		*n_r = row_value(&rows, 0, 1)->number;
	}
	arena_unref(&arena);
	return found;
}

static enum iris_vault_result
post_content(int64_t id)
{
	return vault_post(&insert, 1,
			  VALUES(value_int(id), value_str(IRIS_STR("romeo")), value_int(0),
				 value_str(IRIS_STR("words"))),
			  NULL);
}

static enum iris_vault_result
write_both(int64_t id)
{
	struct iris_batch *batch = batch_new(1);
	const struct iris_value who = value_str(IRIS_STR("romeo"));

	batch_add(batch, &insert_bare, VALUES(value_int(id), who, value_int(0)));
	batch_add(batch, &insert,
		  VALUES(value_int(id + 1), who, value_int(0), value_str(IRIS_STR("words"))));
	return batch_write(&batch);
}

static void
run_refusals(void *arg)
{
	int64_t n;
	const struct iris_value who = value_str(IRIS_STR("romeo"));
	bool before = transit_begin(true);

	CHECK(!before);
	CHECK(post_content(1) == IRIS_VAULT_REFUSED);
	CHECK(vault_write(&insert, 1,
			  VALUES(value_int(2), who, value_int(0), value_str(IRIS_STR("words"))),
			  NULL) == IRIS_VAULT_REFUSED);
	CHECK(write_both(3) == IRIS_VAULT_REFUSED); /* all of it or nothing */
	CHECK(count_rows(&n) == 0);
	/* Addresses, states, and what goes. */
	CHECK(vault_write(&insert_bare, 1, VALUES(value_int(5), who, value_int(1)), NULL) ==
	      IRIS_VAULT_OK);
	CHECK(vault_post(&number, 1, VALUES(value_int(5), value_int(7)), NULL) == IRIS_VAULT_OK);
	CHECK(count_rows(&n) == 1 && n == 7);
	CHECK(vault_write(&drop, 1, VALUES(who), NULL) == IRIS_VAULT_OK);
	CHECK(count_rows(&n) == 0);
	transit_end(before);
	CHECK(post_content(6) == IRIS_VAULT_OK);
	CHECK(count_rows(&n) == 1);
}

static void
test_vault_refuses(void **state)
{
	fixture_run(run_refusals, NULL);
	fixture_assert();
}

static struct iris_log_page
read_log(struct iris_arena *arena)
{
	const struct iris_log_query query = { .reader = 7, .limit = 10 };
	struct iris_log_page page;

	CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK);
	return page;
}

static void
run_log(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG), .owner = 1, .reader = 7,
					.peer = 8, .body = IRIS_STR("kept") };
	struct iris_log_page page;

	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	bool before = transit_begin(true);
	entry.body = IRIS_STR("words");
	CHECK(log_rewrite(&entry, NULL) == IRIS_VAULT_REFUSED);
	entry.id = vault_next_id(IRIS_SEQ_LOG);
	CHECK(log_append(&entry, NULL) == IRIS_VAULT_REFUSED);
	page = read_log(arena); /* what is kept may be read */
	CHECK(page.count == 1 && str_is(page.entries[0].body, "kept"));
	CHECK(log_remove(page.entries, page.count, NULL) == IRIS_VAULT_OK);
	transit_end(before);
	CHECK(read_log(arena).count == 0);
	arena_unref(&arena);
}

static void
test_log_refuses(void **state)
{
	fixture_run(run_log, NULL);
	fixture_assert();
}

/* --- the mark --- */

struct steps {
	struct iris_wait first, second;
	bool ended;
};

static void
wait_in_transit(void *arg)
{
	struct steps *steps = arg;

	CHECK(transit_is_on());
	wait_for(&steps->first, "first");
	CHECK(transit_is_on());
	CHECK(post_content(1) == IRIS_VAULT_REFUSED);
	wait_for(&steps->second, "second");
	CHECK(transit_is_on());
	transit_leave();
	CHECK(post_content(1) == IRIS_VAULT_OK);
	steps->ended = true;
}

/* Two that wait by turns, one in transit and one not. */
static void
run_fibers(void *arg)
{
	struct steps steps = { .ended = false };
	bool before = transit_begin(true);

	wait_init(&steps.first);
	wait_init(&steps.second);
	CHECK(fiber_start("in transit", wait_in_transit, &steps));
	transit_end(before);
	CHECK(!transit_is_on());
	wait_done(&steps.first);
	CHECK(fiber_sleep(1) && !transit_is_on());
	CHECK(post_content(2) == IRIS_VAULT_OK);
	wait_done(&steps.second);
	CHECK(fiber_sleep(1) && !transit_is_on());
	CHECK(steps.ended);
}

static void
test_fibers_inherit(void **state)
{
	fixture_run(run_fibers, NULL);
	fixture_assert();
}

struct later {
	struct iris_timer timer;
	struct iris_turn turn;
	struct iris_wait timer_done, turn_done;
};

static void
on_timer(void *arg)
{
	CHECK(!transit_is_on());
	wait_done(&((struct later *)arg)->timer_done);
}

static void
on_turn(struct iris_turn *turn)
{
	CHECK(!transit_is_on());
	wait_done(&IRIS_CONTAINER(turn, struct later, turn)->turn_done);
}

static void
run_later(void *arg)
{
	struct later later = { .turn.fn = on_turn };
	bool before = transit_begin(true);

	wait_init(&later.timer_done);
	wait_init(&later.turn_done);
	timer_start(&later.timer, 1, on_timer, &later);
	worker_at_turn_end(&later.turn);
	wait_for(&later.timer_done, "timer");
	wait_for(&later.turn_done, "turn");
	timer_stop(&later.timer);
	CHECK(transit_is_on());
	transit_end(before);
}

static void
test_later_begins_anew(void **state)
{
	fixture_run(run_later, NULL);
	fixture_assert();
}

static void
on_ticket(void *arg, bool failed)
{
	CHECK(!failed && !transit_is_on());
	CHECK(post_content(1) == IRIS_VAULT_OK);
	wait_done(arg);
}

static void
run_ticket(void *arg)
{
	bool before = transit_begin(true);
	struct iris_ticket *ticket;
	struct iris_wait wait;

	wait_init(&wait);
	ticket = ticket_new(on_ticket, &wait);
	ticket_unref(&ticket);
	wait_for(&wait, "ticket");
	CHECK(transit_is_on());
	transit_end(before);
}

static void
test_tickets_end_outside(void **state)
{
	fixture_run(run_ticket, NULL);
	fixture_assert();
}

static void
test_stanzas_are_made_in_transit(void **state)
{
	struct iris_stanza *before = stanza_new(IRIS_MESSAGE, IRIS_CHAT), *made, *copy, *error;
	bool outside = transit_begin(true);

	made = stanza_new(IRIS_MESSAGE, IRIS_CHAT);
	copy = stanza_copy(before);
	transit_end(outside);
	error = stanza_error(made, &(struct iris_refusal){ .condition = IRIS_GONE });
	assert_false(before->transit);
	assert_true(made->transit && copy->transit && error->transit);
	stanza_unref(&before);
	stanza_unref(&made);
	stanza_unref(&copy);
	stanza_unref(&error);
}

/* --- between workers --- */

static void
called(void *arg)
{
	CHECK(transit_is_on() == *(bool *)arg);
	CHECK(fiber_sleep(1) && transit_is_on() == *(bool *)arg);
	CHECK(post_content(worker_index() + (*(bool *)arg ? 10 : 20)) ==
	      (*(bool *)arg ? IRIS_VAULT_REFUSED : IRIS_VAULT_OK));
}

struct letter {
	struct iris_mail mail;
	struct iris_wait *wait; /* of the main worker; NULL: there is a way to go yet */
	bool expected;
};

static void
letter_arrives(struct iris_mail *mail)
{
	struct letter *letter = IRIS_CONTAINER(mail, struct letter, mail);

	CHECK(transit_is_on() == letter->expected);
	if (worker_index() == WORKER_MAIN)
		wait_done(letter->wait);
	else
		worker_post(worker_at(WORKER_MAIN), mail);
}

static void
run_between(void *arg)
{
	for (int i = 0; i < 2; i++) {
		bool expected = i == 0, before = transit_begin(expected);
		struct iris_wait wait;
		struct letter letter = { .mail.fn = letter_arrives, .wait = &wait,
					 .expected = expected };

		worker_call(worker_at(0), "test", called, &expected);
		worker_call(worker_at(1), "test", called, &expected);
		CHECK(transit_is_on() == expected);
		wait_init(&wait);
		worker_post(worker_at(1), &letter.mail);
		wait_for(&wait, "letter");
		CHECK(transit_is_on() == expected);
		transit_end(before);
	}
}

static void
test_other_workers_inherit(void **state)
{
	struct iris_error error;

	assert_true(workers_start(2, &error));
	fixture_run(run_between, NULL);
	workers_stop();
	fixture_assert();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_vault_refuses),
		TEST(test_log_refuses),
		TEST(test_fibers_inherit),
		TEST(test_later_begins_anew),
		TEST(test_tickets_end_outside),
		TEST(test_stanzas_are_made_in_transit),
		TEST(test_other_workers_inherit), /* last: workers are stopped once in a process */
	};

	worker_main_init();
	int failed = cmocka_run_group_tests_name("transit", tests, NULL, NULL);
	worker_main_free();
	return failed;
}
