/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids of the log, on any engine and under a clock of the test's own: they are times, in order, and
 * none is given twice, whatever the clock does and however the server ended; months get their
 * parts before an entry comes, and what is too old goes; what others see of an id.
 */
#include <stdatomic.h>
#include <sys/wait.h>

#include "vault_fixture.h"

#define NOVEMBER_24 INT64_C(1795514400000) /* 2026, 10:00 UTC */
#define DECEMBER INT64_C(1796083200000)    /* its first millisecond */
#define SECOND_MS INT64_C(1000)
#define DAY_MS (86400 * SECOND_MS)
#define WINDOW_MS (10 * SECOND_MS)
#define READER 5

static struct vault_fixture fixture;
static _Atomic int64_t clock_ms;

static int64_t
clock_read(void)
{
	return atomic_load(&clock_ms);
}

static void
clock_add(int64_t ms)
{
	atomic_fetch_add(&clock_ms, ms);
}

static int
setup(void **state)
{
	atomic_store(&clock_ms, NOVEMBER_24);
	ids_set_clock(clock_read);
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	fixture_make(&fixture);
	return 0;
}

static int
teardown(void **state)
{
	fixture_remove(&fixture);
	metrics_unregister(vault_metrics, VAULT_METRIC_COUNT);
	ids_set_clock(NULL);
	return 0;
}

static void
run(void (*fn)(void *arg), void *arg)
{
	worker_main_init();
	fixture_open(&fixture);
	fixture_run(fn, arg);
	fixture_close();
	worker_main_free();
	fixture_assert();
}

/* --- helpers on fibers --- */

static int64_t
take(void)
{
	return vault_next_id(IRIS_SEQ_LOG);
}

/* How many entries a query finds; all that was posted is committed then. */
static size_t
found(const struct iris_log_query *query)
{
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;

	CHECK(log_read(query, 1, arena, &page) == IRIS_VAULT_OK);
	arena_unref(&arena);
	return page.count;
}

static void
settle(void)
{
	(void)found(&(const struct iris_log_query){ .reader = READER, .limit = 1 });
}

/* Until what is asked for with one id is there for the next. */
static int64_t
take_settled(void)
{
	for (int i = 0; i < 2; i++) {
		(void)take();
		settle();
	}
	return take();
}

static int64_t
append_at(int64_t time_ms)
{
	atomic_store(&clock_ms, time_ms);
	const struct iris_log_entry entry = {
		.id = take_settled(), .owner = 1, .reader = READER, .peer = 1,
		.body = IRIS_STR("body"),
	};

	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	settle();
	return entry.id;
}

static int64_t
ask_store(const char *sql)
{
	struct iris_error error = { .message = "" };
	int64_t number = -1;

	CHECK(schema_read_int(fixture.options.engine, sql, &number, &error));
	return number;
}

/* --- time --- */

static void
run_follow(void *arg)
{
	int64_t first = take();

	CHECK(log_id_time_ms(first) == clock_read());
	CHECK(take() == first + 1);
	for (int i = 0; i < 100; i++) { /* nine windows */
		clock_add(900);
		CHECK(log_id_time_ms(take()) == clock_read());
		settle();
	}
}

static void
test_ids_are_times(void **state)
{
	run(run_follow, NULL);
}

static void
run_starve(void *arg)
{
	int64_t last = take();

	for (int i = 0; i < 100; i++) { /* and nothing can be committed meanwhile */
		clock_add(900);
		int64_t id = take();
		CHECK(id > last);
		last = id;
	}
	CHECK(log_id_time_ms(last) < NOVEMBER_24 + WINDOW_MS);
	CHECK(last < ask_store("SELECT next FROM vault_sequences WHERE name = 'log'"));
	CHECK(log_id_time_ms(take_settled()) == clock_read());
}

static void
test_nothing_is_given_that_is_not_reserved(void **state)
{
	run(run_starve, NULL);
}

static void
run_stop(void *arg)
{
	*(int64_t *)arg = take();
}

static void
await_ahead(int64_t seconds)
{
	const struct iris_metric *ahead = &vault_metrics[VAULT_METRIC_CLOCK_AHEAD];

	for (int i = 0; i < 1000 && metric_value(ahead) != seconds; i++)
		CHECK(fiber_sleep(5));
	CHECK(metric_value(ahead) == seconds);
}

static void
run_back(void *arg)
{
	int64_t last = take();

	clock_add(-3600 * SECOND_MS);
	for (int i = 0; i < 100; i++)
		CHECK(take() == ++last);
	await_ahead(3600);
	clock_add(3601 * SECOND_MS);
	CHECK(log_id_time_ms(take()) == clock_read());
	await_ahead(0);
}

static void
test_clock_steps_back(void **state)
{
	run(run_back, NULL);
}

static void
run_forward(void *arg)
{
	const struct iris_log_query all = { .reader = READER, .limit = 10 };

	clock_add(400 * DAY_MS); /* to where no month has a part */
	int64_t id = take();
	CHECK(log_id_time_ms(id) < clock_read());
	vault_log_index_now();
	CHECK(log_id_time_ms(append_at(clock_read())) == clock_read());
	CHECK(found(&all) == 1);
	vault_log_index_now();
	CHECK(found(&all) == 1);
}

static void
test_clock_steps_forward(void **state)
{
	int64_t next;

	run(run_forward, NULL);
	atomic_store(&clock_ms, NOVEMBER_24); /* it was a mistake: */
	run(run_stop, &next);
	assert_int_equal(log_id_time_ms(next), NOVEMBER_24 + 400 * DAY_MS);
}

/* --- ends and beginnings --- */

static void
test_stopped_in_order_leaves_no_gap_in_time(void **state)
{
	int64_t first, second;

	run(run_stop, &first);
	clock_add(1);
	run(run_stop, &second);
	assert_true(second > first);
	assert_int_equal(log_id_time_ms(second), clock_read());
}

/* Takes ids, tells the last one, and is gone. */
static int64_t
crash(void)
{
	int ends[2], status;
	int64_t last = 0;

	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		worker_main_init();
		fixture_open(&fixture);
		for (int i = 0; i < 1000; i++) {
			clock_add(50);
			last = take();
		}
		_exit(write(ends[1], &last, sizeof(last)) == sizeof(last) ? 0 : 1);
	}
	assert_int_equal(read(ends[0], &last, sizeof(last)), sizeof(last));
	close(ends[0]);
	close(ends[1]);
	(void)waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	return last;
}

static void
test_crash_gives_nothing_twice(void **state)
{
	int64_t last = crash(), next;

	run(run_stop, &next);
	assert_true(next > last);
	assert_true(log_id_time_ms(next) <= clock_read() + 2 * WINDOW_MS);
	last = crash();
	clock_add(-DAY_MS);
	run(run_stop, &next);
	assert_true(next > last);
}

/* --- months --- */

static void
run_borders(void *arg)
{
	struct iris_log_query query = { .reader = READER, .limit = 10 };

	for (int i = 0; i < 2; i++) {
		(void)append_at(DECEMBER - 1);
		(void)append_at(DECEMBER);
	}
	for (int round = 0; round < 8; round++) {
		if (round == 4)
			vault_log_index_now(); /* the same from the index */
		query.backwards = round % 2;
		query.peer = round / 2 % 2;
		query.from_ms = query.until_ms = 0;
		CHECK(found(&query) == 4);
		query.from_ms = DECEMBER;
		CHECK(found(&query) == 3); /* the clock had been there when it went back */
		query.from_ms = DECEMBER + 1;
		CHECK(found(&query) == 0);
		query.from_ms = query.until_ms = DECEMBER - 1;
		CHECK(found(&query) == 1);
		query.until_ms = DECEMBER;
		CHECK(found(&query) == 4);
		query.from_ms = query.until_ms = INT64_MAX;
		CHECK(found(&query) == 0);
		query.from_ms = query.until_ms = INT64_MIN;
		CHECK(found(&query) == 0);
	}
}

static void
test_borders_of_months(void **state)
{
	run(run_borders, NULL);
}

static void
run_age(void *arg)
{
	const struct iris_log_query all = { .reader = READER, .limit = 10 };
	struct iris_log_query old = all;
	size_t removed;

	(void)append_at(NOVEMBER_24);
	vault_log_index_now();
	(void)append_at(DECEMBER + 20 * DAY_MS);
	(void)append_at(DECEMBER + 70 * DAY_MS);
	CHECK(found(&all) == 3);
	log_keep_for(60 * DAY_MS); /* the first is too old, and so is all of its month */
	CHECK(found(&all) == 2);
	old.with_expired = true;
	/* The clock of this test leaps: nothing goes until it is believed. */
	CHECK(!age_is_trusted());
	CHECK(log_expire(1, &removed) == IRIS_VAULT_OK && removed == 0);
	vault_log_index_now();
	CHECK(ask_store("SELECT count(*) FROM log") == 3);
	age_trust();
	log_keep_for(0);
	log_keep_for(60 * DAY_MS);
	while (log_expire(1, &removed) == IRIS_VAULT_OK && removed > 0)
		continue;
	vault_log_index_now();
	CHECK(found(&old) == 2);
	CHECK(ask_store("SELECT count(*) FROM log") == 2);
	CHECK(ask_store("SELECT count(*) FROM log_reader") == 2);
	CHECK(ask_store("SELECT count(*) FROM log_peer") == 2);
	log_keep_for(0);
	CHECK(found(&all) == 2);
	/* What is so late that there is no room for it does not stand in the others' way. */
	log_keep_for(1);
	(void)append_at(DECEMBER + 71 * DAY_MS);
	clock_add(DAY_MS);
	age_trust();
	CHECK(found(&all) == 0);
	vault_log_index_now();
	CHECK(metric_value(&vault_metrics[VAULT_METRIC_TAIL]) == 0);
}

static void
test_what_is_too_old_goes(void **state)
{
	run(run_age, NULL);
}

/* --- as others see them --- */

static void
check_sealed(struct iris_str sealed, int64_t id)
{
	int64_t opened = 0;

	CHECK(sealed.len == 22);
	CHECK(log_id_open(sealed, READER, &opened) && opened == id);
	CHECK(!log_id_open(sealed, READER + 1, &opened));
}

/* Every text that is one character from it, the ones for the same bytes included. */
static void
check_forgeries(struct iris_str sealed)
{
	char text[32];
	int64_t id;

	memcpy(text, sealed.base, sealed.len);
	for (size_t i = 0; i < sealed.len; i++) {
		for (int c = 0; c < 256; c++) {
			text[i] = (char)c;
			CHECK(c == (unsigned char)sealed.base[i] ||
			      !log_id_open((struct iris_str){ text, sealed.len }, READER, &id));
		}
		text[i] = sealed.base[i];
	}
	text[22] = text[23] = '=';
	for (size_t len = 0; len < 25; len++)
		CHECK(len == 22 || !log_id_open((struct iris_str){ text, len }, READER, &id));
	CHECK(!log_id_open(IRIS_STR_NONE, READER, &id));
	CHECK(!log_id_open(IRIS_STR("3765425212424192"), READER, &id));
}

struct sealed {
	int64_t id;
	char text[32];
};

static void
run_seal(void *arg)
{
	struct sealed *kept = arg;
	struct iris_arena *arena = arena_new();
	int64_t id = take();
	struct iris_str sealed = log_id_seal(arena, READER, id);

	check_sealed(sealed, id);
	check_forgeries(sealed);
	CHECK(!str_equal(sealed, log_id_seal(arena, READER + 1, id)));
	CHECK(!str_equal(sealed, log_id_seal(arena, READER, id + 1)));
	CHECK(str_equal(sealed, log_id_seal(arena, READER, id)));
	kept->id = id;
	memcpy(kept->text, sealed.base, sealed.len);
	arena_unref(&arena);
}

static void
run_change_master(void *arg)
{
	struct iris_error error = { .message = "" };

	CHECK(vault_master_change(arg, &error) == IRIS_VAULT_OK);
}

static void
run_open_sealed(void *arg)
{
	const struct sealed *kept = arg;
	check_sealed((struct iris_str){ kept->text, 22 }, kept->id);
}

static void
test_sealed_ids(void **state)
{
	struct sealed kept = { .id = 0 };
	char key[sizeof(fixture.key) + 4];

	run(run_seal, &kept);
	run(run_open_sealed, &kept);
	(void)snprintf(key, sizeof(key), "%s.new", fixture.key);
	run(run_change_master, key);
	(void)rename(key, fixture.key);
	run(run_open_sealed, &kept);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ids_are_times, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_given_that_is_not_reserved, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_clock_steps_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_steps_forward, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_in_order_leaves_no_gap_in_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_crash_gives_nothing_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_borders_of_months, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_too_old_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealed_ids, setup, teardown),
	};

	return cmocka_run_group_tests_name("vault_ids", tests, NULL, NULL);
}
